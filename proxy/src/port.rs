//! The ports through which a copy leaves this crate: [`Follow`], [`CopyKeys`], [`Versions`].
//!
//! The layers know no database. What happens on the follower after a write is a [`Follow`]:
//! [`FencedCopy`] where the follower takes copies by key (the guarantee), or
//! [`Replay`](crate::Replay) where it does not (best effort). What the databases know about
//! versions is asked through [`Versions`], or through [`NoVersions`] where nobody keeps any.

use std::error::Error;

use changeover_flags::{Key, Role, Version};
use futures_util::future::BoxFuture;
use thiserror::Error;

use crate::call::Touched;

/// An error of a port: logged and counted, never shown to the caller of a call.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Brings the follower after a write. This is the whole of the follower's write.
///
/// `follow` is called once per write, at its end, on the task of the call, in the order in which
/// the writes of this process ended; it must be quick and must not block. The future it returns
/// is run in the background, within a time limit, and may be dropped at any await. It may also be
/// called again for the same keys, with [`Ended::Unknown`] and without a request, to let go of
/// pins: it must be idempotent then.
pub trait Follow<Req>: Send + Sync + 'static {
    /// Brings the follower after `write`.
    fn follow(&self, write: Written<Req>) -> BoxFuture<'static, Followed>;

    /// Whether [`Written::request`] is wanted; if not, no write is ever copied.
    fn wants_request(&self) -> bool {
        false
    }
}

/// A write that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written<Req> {
    /// What it touched, as far as anybody here knows.
    pub touched: Touched,
    /// How it ended.
    pub ended: Ended,
    /// The request, where [`Follow::wants_request`] asked for it and it could be copied.
    pub request: Option<Req>,
}

impl<Req> Written<Req> {
    /// A write that has ended.
    pub fn new(touched: Touched, ended: Ended, request: Option<Req>) -> Written<Req> {
        Written {
            touched,
            ended,
            request,
        }
    }
}

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The authority acknowledged it.
    Acknowledged,
    /// The authority refused it: nothing was changed.
    Refused,
    /// Nobody here knows: a lost answer, a panic, a caller whose runtime went away.
    Unknown,
}

/// What became of the follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// The follower holds, for everything touched, a state not older than the moment at which
    /// [`Follow::follow`] was called. Pins are released on this word.
    Applied,
    /// The follower was told this write too, which says nothing of the writes before it. A key's
    /// pin is released when that was said of every write since it was pinned, unless two of them
    /// were under way at once: nobody knows then in which order the authority took them.
    Replayed,
    /// Something is left to the worker, and why: in words that hold nothing of the data, such as an error's text
    /// may quote, since they are logged. Pins stay until the keys are told to be clean.
    Left(&'static str),
}

/// Copies keys from the authority to the follower, fenced by version.
///
/// The contract: for each key read (image, version) from the authority *after* the call began, and
/// write it in one transaction of the follower only if the version is higher than the one held.
/// Idempotent, reorderable, safe arbitrarily late, and safe to drop at any await.
pub trait CopyKeys: Send + Sync + 'static {
    /// Copies `keys`.
    fn copy(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Copied, BoxError>>;
}

/// What a copy did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Copied {
    /// How many keys the follower now holds at the version read or a later one.
    pub applied: usize,
    /// The keys that it does not, and why: blocked, or waiting for a parent.
    pub left: Vec<(Key, String)>,
}

/// The follower write that carries the guarantee: after the write, copy its keys.
///
/// Writes that name no keys (bulk) are left to the worker, which knows them from their commit.
#[derive(Debug, Clone)]
pub struct FencedCopy<C>(C);

impl<C: CopyKeys> FencedCopy<C> {
    /// Copies through `copier`.
    pub fn new(copier: C) -> FencedCopy<C> {
        FencedCopy(copier)
    }
}

impl<C: CopyKeys, Req> Follow<Req> for FencedCopy<C> {
    fn follow(&self, write: Written<Req>) -> BoxFuture<'static, Followed> {
        let keys = match write.touched {
            Touched::None | Touched::Scope(_) | Touched::All => {
                let why = "the write names no keys; the worker drains them";
                return Box::pin(async { Followed::Left(why) });
            }
            touched => touched.into_keys(),
        };
        if keys.is_empty() {
            return Box::pin(async { Followed::Applied });
        }
        let copy = self.0.copy(keys);
        Box::pin(async move {
            match copy.await {
                Ok(copied) if copied.left.is_empty() => Followed::Applied,
                Ok(_) => Followed::Left(
                    "a key is blocked, waits for another, or history is being loaded",
                ),
                Err(_) => Followed::Left("the copy failed"),
            }
        })
    }
}

/// What the databases know about versions. Asked with a time limit; an error, or no answer in
/// time, sends the read to the authority and keeps the pin.
///
/// Keys are named, and answered, as [`canonical`](Versions::canonical) spells them.
pub trait Versions: Send + Sync + 'static {
    /// The one spelling of `key`, the one that the databases themselves write: `7` for `007`,
    /// lower case for a uuid. Asked once for every key that enters the layer, on the caller's
    /// task, so that a key pinned under one spelling is found under any other. It must be quick
    /// and ask nobody; a panic here leaves the key as it is.
    fn canonical(&self, key: &Key) -> Key {
        key.clone()
    }

    /// Those of `keys` that are dirty, waiting or blocked at the authority: one indexed look-up.
    fn dirty(&self, keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>>;

    /// Whether any key of the entity is, or history is still on its way.
    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>>;

    /// The version of each of `keys`, in their order, as the authority or the follower holds it;
    /// `None` for a key that never came there and may still come. One that should have come is told
    /// at the authority's version: nothing explains its absence.
    fn held(
        &self,
        role: Role,
        keys: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<Version>>, BoxError>>;

    /// All dirty keys, or `None` when there are more than `limit` of them. With it a bulk write's
    /// pin is released even while other keys are written all the time; without it (the default)
    /// only when nothing at all is dirty.
    fn dirty_keys(&self, limit: usize) -> BoxFuture<'static, Result<Option<Vec<Key>>, BoxError>> {
        let _ = limit;
        let any = self.any_dirty();
        Box::pin(async move { Ok((!any.await?).then(Vec::new)) })
    }
}

/// For stores that keep no versions: every question is an error, so strict reads and reads with a
/// token go to the authority, and pins are released by the follower's own word alone.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoVersions;

/// No versions are kept here.
#[derive(Debug, Clone, Copy, Error)]
#[error("this store keeps no versions")]
pub(crate) struct NotKept;

impl Versions for NoVersions {
    fn dirty(&self, _keys: Vec<Key>) -> BoxFuture<'static, Result<Vec<Key>, BoxError>> {
        Box::pin(async { Err(NotKept.into()) })
    }

    fn any_dirty(&self) -> BoxFuture<'static, Result<bool, BoxError>> {
        Box::pin(async { Err(NotKept.into()) })
    }

    fn held(
        &self,
        _: Role,
        _: Vec<Key>,
    ) -> BoxFuture<'static, Result<Vec<Option<Version>>, BoxError>> {
        Box::pin(async { Err(NotKept.into()) })
    }
}

/// For a layer without a follower: leaves every write to the worker.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoFollow;

impl<Req> Follow<Req> for NoFollow {
    fn follow(&self, _write: Written<Req>) -> BoxFuture<'static, Followed> {
        Box::pin(async { Followed::Left("nothing follows here; the worker drains") })
    }
}
