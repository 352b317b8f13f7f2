//! What a call is, and which keys it touches: [`Classify`], [`Operation`], [`Touched`].
//!
//! The layers never look inside a request. The application answers one question per request,
//! "which operation is this?", and a second one where the database generates the key, "which keys
//! did the answer show?". A closure is enough for the first, [`with_written`] adds the second.
//!
//! ```
//! use changeover_proxy::{Classify, Kind, Operation, Touched, with_written};
//!
//! enum Call { Get(i64), Create(String), CloseAll { tenant: String } }
//! struct Row { id: i64 }
//!
//! let classify = with_written(
//!     |call: &Call| match call {
//!         Call::Get(id) => Operation::read("get", *id),
//!         Call::Create(_) => Operation::insert("create"),
//!         Call::CloseAll { tenant } => Operation::bulk("close_all", tenant.clone()),
//!     },
//!     |operation: &Operation, row: &Row| {
//!         (operation.kind == Kind::Insert).then(|| Touched::keys([row.id]))
//!     },
//! );
//!
//! let create = Classify::<Call, Row>::operation(&classify, &Call::Create("lamp".into()));
//! assert_eq!(create.kind, Kind::Insert);
//! assert_eq!(classify.written(&create, &Row { id: 7 }), Some(Touched::keys([7])));
//! # let close: Operation = Classify::<Call, Row>::operation(&classify, &Call::CloseAll { tenant: "t".into() });
//! # assert_eq!(close.touched, Touched::Scope("t".into()));
//! # assert_eq!(Classify::<Call, Row>::operation(&classify, &Call::Get(1)).kind, Kind::Read);
//! ```

use std::time::Duration;

use changeover_flags::Key;

use crate::token::Token;

/// Says what a request is. Implemented by closures `Fn(&Req) -> Operation`.
///
/// Called once per call, on the caller's task, before anything else happens; it must be quick and
/// must not block. A panic here is the caller's: nothing has been started yet.
pub trait Classify<Req, Res>: Send + Sync + 'static {
    /// The operation that `request` asks for.
    fn operation(&self, request: &Req) -> Operation;

    /// The keys that a successful write turned out to touch, where `operation` could not know
    /// them: ids that the database generates. Asked once, after the authority's answer and before
    /// the caller sees it. They are pinned *in addition* to what the operation named.
    ///
    /// A panic here is contained: the write has happened, its keys are dirty by its own commit.
    fn written(&self, operation: &Operation, response: &Res) -> Option<Touched> {
        let _ = (operation, response);
        None
    }
}

impl<F, Req, Res> Classify<Req, Res> for F
where
    F: Fn(&Req) -> Operation + Send + Sync + 'static,
{
    fn operation(&self, request: &Req) -> Operation {
        self(request)
    }
}

/// A [`Classify`] that also answers the second question; made by [`with_written`].
#[derive(Debug, Clone, Copy)]
pub struct WithWritten<C, W> {
    classify: C,
    written: W,
}

/// Adds the second question, "which keys did the answer show?", to a [`Classify`].
pub fn with_written<C, W>(classify: C, written: W) -> WithWritten<C, W> {
    WithWritten { classify, written }
}

impl<C, W, Req, Res> Classify<Req, Res> for WithWritten<C, W>
where
    C: Classify<Req, Res>,
    W: Fn(&Operation, &Res) -> Option<Touched> + Send + Sync + 'static,
{
    fn operation(&self, request: &Req) -> Operation {
        self.classify.operation(request)
    }

    fn written(&self, operation: &Operation, response: &Res) -> Option<Touched> {
        (self.written)(operation, response)
    }
}

/// The five shapes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A read of one aggregate by its key.
    Read,
    /// A list, a count, or a look-up by anything but the key.
    List,
    /// A write whose keys are known before it.
    Write,
    /// A write whose key the database generates.
    Insert,
    /// A write by predicate: its keys are known to the database alone.
    Bulk,
}

impl Kind {
    /// All five.
    pub const ALL: [Kind; 5] = [
        Kind::Read,
        Kind::List,
        Kind::Write,
        Kind::Insert,
        Kind::Bulk,
    ];

    /// Whether the call changes nothing.
    #[must_use]
    #[inline]
    pub const fn is_read(self) -> bool {
        matches!(self, Kind::Read | Kind::List)
    }
}

/// What a call reads or writes. One key is the same, said as `Key` or as `Keys`.
#[derive(Debug, Clone, Default)]
pub enum Touched {
    /// No key that could be named.
    #[default]
    None,
    /// This aggregate.
    Key(Key),
    /// These aggregates.
    Keys(Vec<Key>),
    /// Some aggregates of this scope: the routing key (say, the tenant) of the reads they show in.
    Scope(String),
    /// Any aggregate of the entity.
    All,
}

impl Touched {
    /// These aggregates.
    pub fn keys<K: Into<Key>>(keys: impl IntoIterator<Item = K>) -> Touched {
        let mut keys = keys.into_iter().map(Into::into);
        match (keys.next(), keys.next()) {
            (Some(key), None) => Touched::Key(key),
            (first, second) => Touched::Keys(first.into_iter().chain(second).chain(keys).collect()),
        }
    }

    /// The keys that are named, none for the other shapes.
    #[must_use]
    pub fn as_keys(&self) -> &[Key] {
        match self {
            Touched::Key(key) => std::slice::from_ref(key),
            Touched::Keys(keys) => keys,
            Touched::None | Touched::Scope(_) | Touched::All => &[],
        }
    }

    /// The keys that are named, none for the other shapes.
    #[must_use]
    pub fn into_keys(self) -> Vec<Key> {
        match self {
            Touched::Key(key) => vec![key],
            Touched::Keys(keys) => keys,
            Touched::None | Touched::Scope(_) | Touched::All => Vec::new(),
        }
    }

    /// Whether the keys are named, be they none.
    fn names_keys(&self) -> bool {
        matches!(self, Touched::Key(_) | Touched::Keys(_))
    }

    /// Both, or everything where no shape holds both.
    #[must_use]
    pub fn and(self, more: Touched) -> Touched {
        match (self, more) {
            (touched, Touched::None) | (Touched::None, touched) => touched,
            (touched, more) if touched == more => touched,
            (touched, more) if touched.names_keys() && more.names_keys() => {
                let mut keys = touched.into_keys();
                for key in more.into_keys() {
                    if !keys.contains(&key) {
                        keys.push(key);
                    }
                }
                Touched::keys(keys)
            }
            _ => Touched::All,
        }
    }
}

impl PartialEq for Touched {
    fn eq(&self, other: &Touched) -> bool {
        match (self, other) {
            (Touched::None, Touched::None) | (Touched::All, Touched::All) => true,
            (Touched::Scope(one), Touched::Scope(other)) => one == other,
            (one, other) if one.names_keys() && other.names_keys() => {
                one.as_keys() == other.as_keys()
            }
            _ => false,
        }
    }
}

impl Eq for Touched {}

/// One call, as far as routing and pinning need to know it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Operation {
    /// The method's name; a metric label when it was declared in the builder, else `other`.
    pub name: &'static str,
    /// Its shape.
    pub kind: Kind,
    /// What it reads or writes, as far as is known before it.
    pub touched: Touched,
    /// What the percentage is taken of, when it is not the key: the tenant, say. A read by key
    /// that names it shares its tenant's side.
    pub routing: Option<String>,
    /// What the caller has already seen: the answer is not older.
    pub token: Option<Token>,
    /// Lists alone: an answer at most the reported lag old will do.
    pub lag_tolerant: bool,
    /// Lists alone: the fields of an observed element that are its aggregate's key, in the key's
    /// order. Empty: the list is compared as a whole.
    pub keyed_by: Vec<&'static str>,
    /// Lists alone: whether the order of the elements is compared.
    pub ordered: bool,
    /// The caller's own deadline, counted from the call. A follower gets at most half of it, so
    /// that the authority can still be asked within it.
    pub timeout: Option<Duration>,
}

impl Operation {
    #[inline]
    fn new(name: &'static str, kind: Kind, touched: Touched) -> Operation {
        Operation {
            name,
            kind,
            touched,
            routing: None,
            token: None,
            lag_tolerant: false,
            keyed_by: Vec::new(),
            ordered: false,
            timeout: None,
        }
    }

    /// A read of one aggregate.
    pub fn read(name: &'static str, key: impl Into<Key>) -> Operation {
        Operation::new(name, Kind::Read, Touched::Key(key.into()))
    }

    /// A list, a count, or a look-up by another column. Without [`Operation::routed_by`] it has
    /// nothing to take a percentage of; see [`KeylessReads`].
    #[must_use]
    pub fn list(name: &'static str) -> Operation {
        Operation::new(name, Kind::List, Touched::None)
    }

    /// A write of aggregates that are known before it. A write that moves a row from one key to
    /// another names both.
    pub fn write<K: Into<Key>>(name: &'static str, keys: impl IntoIterator<Item = K>) -> Operation {
        Operation::new(name, Kind::Write, Touched::keys(keys))
    }

    /// A write whose key the database generates; [`Classify::written`] names it afterwards.
    #[must_use]
    pub fn insert(name: &'static str) -> Operation {
        Operation::new(name, Kind::Insert, Touched::None)
    }

    /// A write by predicate within one scope; the scope is pinned until drained.
    ///
    /// Until then every read of the entity that does not say its scope goes to the authority, a
    /// read by key too: nobody here knows whether its key is one of the scope's. So where an entity
    /// has bulk writes, its reads should carry [`Operation::routed_by`].
    pub fn bulk(name: &'static str, scope: impl Into<String>) -> Operation {
        Operation::new(name, Kind::Bulk, Touched::Scope(scope.into()))
    }

    /// A write by predicate over the whole entity; the entity is pinned until drained, and all of
    /// its reads go to the authority.
    #[must_use]
    pub fn bulk_all(name: &'static str) -> Operation {
        Operation::new(name, Kind::Bulk, Touched::All)
    }

    /// Takes the percentage of `routing` (say, the tenant), and tells which bulk writes show here:
    /// those of `routing` alone, where a read without it waits for the bulk writes of all scopes.
    #[must_use]
    pub fn routed_by(mut self, routing: impl Into<String>) -> Operation {
        self.routing = Some(routing.into());
        self
    }

    /// Declares that an answer at most the reported lag old will do. Lists alone.
    #[must_use]
    pub fn tolerates_lag(mut self) -> Operation {
        self.lag_tolerant = true;
        self
    }

    /// Names the fields of an observed element that are the key of its aggregate, in the key's
    /// order: the list is compared element by element, as a set, by compare rules whose paths are
    /// those of one element (`price`, as for a read by key). Elements of one key, such as the
    /// photos of a listing, are compared as one. Lists alone.
    ///
    /// A list that cannot be read so (it observes as anything but a list of records that have all
    /// these fields) is compared as a whole.
    ///
    /// ```
    /// # use changeover_proxy::Operation;
    /// let list = Operation::list("of_seller").routed_by("7").keyed_by(["id"]);
    /// assert!(!list.ordered);
    /// ```
    #[must_use]
    pub fn keyed_by(mut self, fields: impl IntoIterator<Item = &'static str>) -> Operation {
        self.keyed_by = fields.into_iter().collect();
        self
    }

    /// The order of the elements matters: another one is a difference. Lists with
    /// [`keyed_by`](Operation::keyed_by) alone; any other list is compared in its order anyway.
    #[must_use]
    pub fn in_order(mut self) -> Operation {
        self.ordered = true;
        self
    }

    /// The answer must not be older than `token`.
    #[must_use]
    pub fn not_older_than(mut self, token: Token) -> Operation {
        self.token = Some(token);
        self
    }

    /// The caller gives up after `timeout`.
    #[must_use]
    pub fn within(mut self, timeout: Duration) -> Operation {
        self.timeout = Some(timeout);
        self
    }

    /// The text that the percentage is taken of, if there is one.
    #[must_use]
    pub fn bucket_text(&self) -> Option<&str> {
        match (&self.routing, self.touched.as_keys()) {
            (Some(routing), _) => Some(routing),
            (None, [key]) => Some(key.as_str()),
            (None, _) => None,
        }
    }
}

/// What becomes of a read that has nothing to take the percentage of, in the one stage where a
/// percentage decides. Never a silent bucket: all such reads would move at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeylessReads {
    /// Asks the authority: safe, and shown by the metrics as never ramped.
    #[default]
    Authority,
    /// Draws at random for every call; two reads of one caller may come from two sides.
    Draw,
    /// Refuses with [`Refused::NoKey`](crate::Refused::NoKey), so that a test finds it.
    Refuse,
}

/// When a write is acknowledged to the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Ack {
    /// When the authority has answered. The copy follows in the background.
    #[default]
    Authority,
}

/// Copies a request, for the follower's read, the shadow read, or a replay. Implemented by
/// closures `Fn(&Req) -> Option<Req>`; the builder's default clones.
///
/// Asked only when a copy is needed. `None` says that this request cannot be copied: the call
/// takes the plain path, the authority alone.
pub trait Duplicate<Req>: Send + Sync + 'static {
    /// A second request that asks for the same, if there can be one.
    fn duplicate(&self, request: &Req) -> Option<Req>;
}

impl<F, Req> Duplicate<Req> for F
where
    F: Fn(&Req) -> Option<Req> + Send + Sync + 'static,
{
    fn duplicate(&self, request: &Req) -> Option<Req> {
        self(request)
    }
}

/// What an error of a write means. Implemented by closures `Fn(&E) -> Failure`.
pub trait Outcome<E>: Send + Sync + 'static {
    /// Whether the write behind `error` is known not to have happened.
    fn failure(&self, error: &E) -> Failure;
}

impl<F, E> Outcome<E> for F
where
    F: Fn(&E) -> Failure + Send + Sync + 'static,
{
    fn failure(&self, error: &E) -> Failure {
        self(error)
    }
}

/// The two meanings of an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// The store refused: nothing was changed.
    Definite,
    /// The answer was lost: the write may have happened, or may yet. Never retried.
    Unknown,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_named_and_what_was_shown_are_joined() {
        let keys = |ids: &[i64]| Touched::keys(ids.iter().copied());
        assert_eq!(keys(&[1]).and(keys(&[1, 2])), keys(&[1, 2]));
        assert_eq!(Touched::None.and(keys(&[2])), keys(&[2]));
        assert_eq!(keys(&[1]).and(Touched::None), keys(&[1]));
        assert_eq!(keys(&[1]).and(Touched::Scope("a".into())), Touched::All);
        assert_eq!(keys(&[1]), Touched::Keys(vec![Key::from(1)]));
        assert_ne!(keys(&[]), Touched::None);
    }

    #[test]
    fn a_bucket_is_taken_of_the_routing_key_before_the_key_and_never_of_nothing() {
        assert_eq!(Operation::read("get", "7").bucket_text(), Some("7"));
        let routed = Operation::read("get", "7").routed_by("tenant");
        assert_eq!(routed.bucket_text(), Some("tenant"));
        assert_eq!(Operation::list("all").bucket_text(), None);
    }
}
