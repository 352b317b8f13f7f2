//! The two roles a database plays for the worker, as traits: [`Authority`] and [`Follower`].
//!
//! Everything that moves data ([`copy`](crate::copy), [`drain`](crate::drain),
//! [`backfill`](crate::backfill), [`verify`](crate::verify), [`repair`](crate::repair)) is written
//! against these two and nothing else. [`dialect`](crate::dialect) implements them with SQL; the
//! simulation in `tests/` implements them in memory, with faults.

use changeover_flags::{Key, Version};
use changeover_shadow::Value;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use std::collections::BTreeMap;

use crate::image::Image;
use crate::sum::{Span, Sum, Unsummed};

mod cursor;
mod error;
mod page;

pub use cursor::Cursor;
pub use error::{BoxError, StoreError};
pub use page::{Page, RawPage, RawRows};

/// The answer of a store, later.
pub type Answer<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// A key's image and version as the authority had them at one instant.
#[derive(Debug, Clone, PartialEq)]
pub struct Stamped {
    /// The key.
    pub key: Key,
    /// Its version: at least the base.
    pub version: Version,
    /// Its image, or why it can have none.
    pub image: Result<Image, String>,
}

/// A key whose newest version is not known to be on the follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dirty {
    /// The key.
    pub key: Key,
    /// The authority's version when it was listed.
    pub version: Version,
    /// Whether and why it is held back.
    pub hold: Option<Hold>,
}

/// Why a key stays dirty although it was tried.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// For good, or until something else arrives.
    pub kind: HoldKind,
    /// What the follower said, without values.
    pub reason: String,
}

/// For how long a key is held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HoldKind {
    /// Until a parent, or a lookup's answer, is there.
    Waiting,
    /// The follower refuses this image for good.
    Blocked,
}

impl HoldKind {
    /// The word in tables, labels and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            HoldKind::Waiting => "waiting",
            HoldKind::Blocked => "blocked",
        }
    }
}

/// How a dirty key is known to be dirty.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dirt {
    /// Its version is above what the follower was seen at.
    Stamped,
    /// It depends on a row whose change is on record, and gets its version next: until then its
    /// image may have changed under a version that the follower holds.
    Noted,
}

/// How many keys the authority counts, and how they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lag {
    /// Dirty keys, those held included.
    pub dirty: u64,
    /// Dirty keys that wait.
    pub waiting: u64,
    /// Dirty keys that are blocked.
    pub blocked: u64,
}

/// The side that takes writes: it knows images, versions, and what is dirty.
///
/// Calls may run at the same time and be dropped at any await: a dropped call may still have taken
/// effect.
pub trait Authority: Send + Sync {
    /// The one text of a key that the database itself writes: `7` for `007`, lower case for a
    /// uuid. Every other method takes keys in this form. Asks nobody.
    fn canonical(&self, key: &Key) -> Key {
        key.clone()
    }

    /// Whether a text is of the form and of the types of a key. Asks nobody.
    fn names(&self, key: &Key) -> bool {
        let _ = key;
        true
    }

    /// Images and versions of `keys`, all read at one instant, in the order asked. A key without
    /// rows has an empty image; one on whose rows the mapping fails has the reason for one.
    fn read<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Stamped>>;

    /// The first `limit` keys of the root table in `span`, with images and versions, all read at one
    /// instant. Fewer than `limit` means that there were no more at that instant.
    fn page<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Page>;

    /// What [`sum`](Authority::sum) cannot stand for, and why; `None` where it stands for all rows.
    /// Asks nobody. The follower is summed as far as the authority is.
    fn unsummed(&self) -> Option<Vec<Unsummed>>;

    /// The most keys whose rows are worth summing at once, however many are asked for.
    fn most_summed(&self) -> u32 {
        u32::MAX
    }

    /// The first `limit` keys of the root table in `span`, in the order of pages.
    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>>;

    /// How many keys of the root table the first part of `span` has, at most `limit`; and the ends of about as
    /// many spans as `parts`, as far as those are known without a look, which make up this part: the last of
    /// them is its own end, a key, if it has as many as `limit`, or else there is none.
    fn cut<'a>(&'a self, span: &'a Span, limit: u32, parts: u32) -> Answer<'a, (u64, Vec<Key>)> {
        let _ = parts;
        Box::pin(async move {
            let keys = self.keys(span, limit).await?;
            let full = keys.len() >= limit as usize;
            let last = keys.last().filter(|_| full).cloned();
            Ok((keys.len() as u64, last.into_iter().collect()))
        })
    }

    /// The first `limit` keys in `span`, in the same order, that have rows of which no page tells: the root
    /// table has none of theirs.
    fn orphans<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>>;

    /// The sum of the rows that copies of the keys in `span` would write, with the keys' versions, all
    /// read at one instant. `None` if a row cannot be summed. Two sums of one salt are equal only if
    /// those rows and versions are.
    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>>;

    /// The sum of each of these spans, of which each begins where the one before ends; at one instant, where
    /// they can be read so.
    fn sums<'a>(&'a self, spans: &'a [Span], salt: u64) -> Answer<'a, Vec<Option<Sum>>> {
        Box::pin(async move {
            let mut sums = Vec::with_capacity(spans.len());
            for span in spans {
                sums.push(self.sum(span, salt).await?);
            }
            Ok(sums)
        })
    }

    /// The form of [`raw_page`](Authority::raw_page)s; `None` where there are none, since the mapping
    /// does more than move rows, or this store cannot.
    fn raw_format(&self) -> Option<&'static str> {
        None
    }

    /// The first `limit` keys as [`page`](Authority::page) takes them, as rows for the follower. `None`
    /// where some row makes that fail, the base is not `base`, or it would be too large: then page
    /// by page, or with fewer keys, tells more.
    fn raw_page<'a>(
        &'a self,
        span: &'a Span,
        limit: u32,
        base: Version,
    ) -> Answer<'a, Option<RawPage>> {
        let _ = (span, limit, base);
        async { Ok(None) }.boxed()
    }

    /// Those of `keys` that no page would show, since the root table has no row of theirs.
    fn rootless<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Key>>;

    /// The next `limit` dirty keys after `after`, in key order, held ones included.
    fn dirty<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Dirty>>;

    /// Those of `keys` that are dirty.
    fn dirty_among<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, BTreeMap<Key, Dirt>>;

    /// The next `limit` keys after `after`, in key order, that were ever stamped: deleted keys
    /// are found here alone.
    fn stamped_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>>;

    /// Records that the follower was seen at or above these versions. A mark older than what is
    /// recorded, or newer than the key's version, changes nothing. Must only be called after the
    /// follower's commit was confirmed.
    fn mark_synced<'a>(&'a self, marks: &'a [(Key, Version)]) -> Answer<'a, ()>;

    /// Keeps `key` dirty and says why, unless it was written after `version`. Idempotent.
    fn hold<'a>(&'a self, key: &'a Key, version: Version, hold: &'a Hold) -> Answer<'a, ()>;

    /// Raises the versions of `keys` without changing a row, so that they are copied again.
    fn touch<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, ()>;

    /// Current versions of `keys`, in the order asked.
    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Version>>;

    /// Counts of dirty and held keys. Where it is not known yet which keys depend on a changed
    /// lookup, each such change counts as one dirty key.
    fn lag(&self) -> Answer<'_, Lag>;

    /// A number of keys in the root table for progress displays: exact or an estimate.
    fn estimate(&self) -> Answer<'_, u64>;
}

/// What became of one key's copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// The follower now holds this image at this version.
    Applied,
    /// The follower already held this version or a newer one: nothing was changed.
    Stale,
    /// The version is below the follower's base: nothing was changed, and the key is not known
    /// to be on the follower.
    BehindBase,
    /// History is being loaded, beside which nothing is copied: nothing was changed, and the key is
    /// not known to be on the follower.
    Loading,
    /// A unique value of the image belongs to these other keys at the moment: copy them together.
    Conflict(Vec<Key>),
    /// Nothing was changed; the key is held for this reason.
    Held(Hold),
}

/// What became of a page that was to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loaded {
    /// All of it is on the follower, and the cursor with it.
    Yes,
    /// The cursor stands elsewhere, or the load is over: nothing was changed.
    Elsewhere,
    /// Nothing was changed: these keys cannot be loaded, for these reasons. None where it is not
    /// known which of them.
    Refused(Vec<(Key, Hold)>),
}

/// What the follower holds for one key beside what it should hold, both in the follower's types.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The key.
    pub key: Key,
    /// The follower's version, if a copy ever arrived.
    pub version: Option<Version>,
    /// What should be there: a record by target, row and column. Or why the follower's columns
    /// cannot hold the image, without values; `actual` then says nothing.
    pub expected: Result<Value, String>,
    /// What is there, in the same form.
    pub actual: Value,
}

/// The side that takes copies and nothing else.
///
/// Calls may run at the same time and be dropped at any await: a dropped call may still have taken
/// effect, then or later; the fence makes a late one harmless.
pub trait Follower: Send + Sync {
    /// Writes images, each fenced by its version, and answers per copy in the order given. The
    /// images of one call commit together or are tried apart; either way an answer of
    /// [`Applied::Applied`] or [`Applied::Stale`] speaks of a commit that was confirmed.
    /// `cursor` is committed with the last of them, after every other.
    fn apply<'a>(
        &'a self,
        copies: &'a [Stamped],
        cursor: Option<&'a Cursor>,
    ) -> Answer<'a, Vec<Applied>>;

    /// Writes images whose unique values change hands: all in one transaction, first deleted,
    /// then inserted. Answers as [`apply`](Follower::apply).
    fn apply_group<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Applied>>;

    /// What is held beside what should be held, in the order given.
    fn observe<'a>(&'a self, copies: &'a [Stamped]) -> Answer<'a, Vec<Observed>>;

    /// The next `limit` keys after `after`, in key order, that the follower has a version of; it may
    /// list others that it holds rows of.
    fn held_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>>;

    /// The same, without those whose version is the base: most of history.
    fn moved_keys<'a>(&'a self, after: Option<&'a Key>, limit: u32) -> Answer<'a, Vec<Key>>;

    /// The first `limit` keys in `span` of which rows are held, in key-column order, as far as rows are
    /// summed.
    fn keys<'a>(&'a self, span: &'a Span, limit: u32) -> Answer<'a, Vec<Key>>;

    /// The sum of the rows that are held for the keys in `span`, with the versions held for them, all
    /// read at one instant: as [`Authority::sum`].
    fn sum<'a>(&'a self, span: &'a Span, salt: u64) -> Answer<'a, Option<Sum>>;

    /// The sum of each of these spans, of which each begins where the one before ends; at one instant, where
    /// they can be read so.
    fn sums<'a>(&'a self, spans: &'a [Span], salt: u64) -> Answer<'a, Vec<Option<Sum>>> {
        Box::pin(async move {
            let mut sums = Vec::with_capacity(spans.len());
            for span in spans {
                sums.push(self.sum(span, salt).await?);
            }
            Ok(sums)
        })
    }

    /// The next `limit` keys after `after` of rows of the mapping's `target`th target that
    /// [`held_keys`](Follower::held_keys) does not list, in an order of their own; fewer than `limit`
    /// where there are no more. `None` past the last target.
    fn unfenced<'a>(
        &'a self,
        target: usize,
        after: Option<&'a Key>,
        limit: u32,
    ) -> Answer<'a, Option<Vec<Key>>> {
        let _ = (target, after, limit);
        async { Ok(None) }.boxed()
    }

    /// The next `limit` keys after `after`, in key order, that have rows of the mapping's `target`th target which
    /// no sum has and no list of keys, since the row that they belong to is gone. `None` past the last target.
    fn stranded<'a>(
        &'a self,
        target: usize,
        after: Option<&'a Key>,
        limit: u32,
    ) -> Answer<'a, Option<Vec<Key>>> {
        let _ = (target, after, limit);
        async { Ok(None) }.boxed()
    }

    /// The versions held for `keys`, in the order asked.
    fn versions<'a>(&'a self, keys: &'a [Key]) -> Answer<'a, Vec<Option<Version>>>;

    /// How far the backfill of this mapping revision has come, [in all](Cursor::together).
    fn cursor(&self) -> Answer<'_, Cursor>;

    /// The same, by parts, at least one.
    fn cursors(&self) -> Answer<'_, Vec<Cursor>> {
        async { Ok(vec![self.cursor().await?]) }.boxed()
    }

    /// Records how far the backfill has come, without data, and answers whether it was this call that brought
    /// it there. A cursor that has passed something is kept only where the beginning of its sweep was
    /// recorded, and nobody has come as far; one of a lower base is not kept, and none beside a load or of
    /// a sweep that was divided.
    fn save_cursor<'a>(&'a self, cursor: &'a Cursor) -> Answer<'a, bool>;

    /// Moves a part of a sweep by copies from `from` to `to`, after what lies between was copied, and answers
    /// whether it was this call that did: not where the part stands elsewhere.
    fn advance<'a>(&'a self, from: &'a Cursor, to: &'a Cursor) -> Answer<'a, bool> {
        let _ = (from, to);
        async { Ok(false) }.boxed()
    }

    /// Divides what is left of a sweep that was not divided before: a part ends with each key of `at`, in the
    /// order of pages, and the last one never. Each goes on by pages of its own; the sweep is over when
    /// all are. A load is divided only where it stands at `from`, and then by keys beyond it; copies,
    /// wherever they stand, since they may come twice. Answers whether it was this call that did.
    fn divide<'a>(&'a self, from: &'a Cursor, at: &'a [Key]) -> Answer<'a, bool> {
        let _ = (from, at);
        async { Ok(false) }.boxed()
    }

    /// Begins to load, or finds that a load is under way; answers whether so. It waits for copies
    /// in flight, and from here to the load's end every copy answers [`Applied::Loading`]. There is
    /// one load at most in the life of an installation, and none where the follower holds a key of
    /// history already.
    ///
    /// A follower that answers no need implement no more of this.
    fn start_loading(&self) -> Answer<'_, bool> {
        async { Ok(false) }.boxed()
    }

    /// Inserts images of keys that were not stamped when they were read, which was after the load
    /// had begun, without a fence of their own, and moves the cursor from `from` to `to`: both or
    /// neither.
    fn load<'a>(
        &'a self,
        images: &'a [Stamped],
        from: &'a Cursor,
        to: &'a Cursor,
    ) -> Answer<'a, Loaded> {
        let _ = (images, from, to);
        async { Ok(Loaded::Elsewhere) }.boxed()
    }

    /// The form of raw pages that [`load_raw`](Follower::load_raw) takes, if any.
    fn raw_format(&self) -> Option<&'static str> {
        None
    }

    /// As [`load`](Follower::load), but a refusal names no key.
    fn load_raw<'a>(
        &'a self,
        page: &'a RawPage,
        from: &'a Cursor,
        to: &'a Cursor,
    ) -> Answer<'a, Loaded> {
        let _ = (page, from, to);
        async { Ok(Loaded::Elsewhere) }.boxed()
    }

    /// Ends a part of the load where the cursor stands at `from`, and the load with its last open part: a
    /// key without a version of its own has the base's from there on. The last one is ended only with
    /// `ready`: the caller has done, since every other part ended, what comes before a load is over. Answers
    /// whether it was this call that ended the part.
    fn end_loading<'a>(&'a self, from: &'a Cursor, ready: bool) -> Answer<'a, bool> {
        let _ = (from, ready);
        async { Ok(false) }.boxed()
    }

    /// Gives a load up: the sweep starts again, as copies.
    fn give_up_loading(&self) -> Answer<'_, ()> {
        async { Ok(()) }.boxed()
    }
}
