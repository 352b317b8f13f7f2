//! The one routing table: [`route`]. Every call is decided here and nowhere else.
//!
//! | stage | call | circumstances, first that holds | answered by | reason |
//! | --- | --- | --- | --- | --- |
//! | any | write, insert, bulk | – | authority | `write` |
//! | legacy | read, list | – | legacy | `stage` |
//! | complete | read, list | – | new | `stage` |
//! | dual-write, cutover | read, list | kill switch | authority | `kill` |
//! | cutover | read, list | – | new (authority) | `stage` |
//! | dual-write | read, list | not ready | legacy (authority) | `not_ready` |
//! | dual-write | read, list | cannot be asked twice | legacy (authority) | `plain` |
//! | dual-write | read, list | pinned | legacy (authority) | `pinned` |
//! | dual-write | read, list | listed in `never_new` | legacy (authority) | `listed` |
//! | dual-write | read, list | not listed in `always_new`, not covered by the percentage | legacy (authority) | `percentage` |
//! | dual-write | read, list | dirty, or nobody could tell | legacy (authority) | `dirty` |
//! | dual-write | read, list | token newer than the follower | legacy (authority) | `token` |
//! | dual-write | read, list | listed in `always_new` | new (follower) | `listed` |
//! | dual-write | read, list | – | new (follower) | `percentage` |
//!
//! Copies run in dual-write and cutover, from the authority to the follower, kill switch or not.
//! A read is shadowed by the other side when it was sampled, in dual-write and cutover, unless the
//! kill switch is thrown. A list that tolerates lag is never `pinned` or `dirty`. The percentage is
//! the operation's own, or else the entity's; lists of keys never concern writes.

use changeover_flags::{Listed, Place, Snapshot, Stage, UnknownStage};

use crate::call::Kind;

/// What the table needs to know beside the flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Circumstances {
    /// This process knows that what is read is ahead of the follower.
    pub pinned: bool,
    /// The authority said so, or was asked and could not say.
    pub dirty: bool,
    /// The caller has seen more than the follower holds, or nobody could tell.
    pub behind_token: bool,
    /// What the lists of keys say.
    pub listed: Option<Listed>,
    /// The percentage covers the call's bucket, or its draw.
    pub covered: bool,
    /// The call was chosen for comparing.
    pub sampled: bool,
    /// The request cannot be asked twice, so a failing follower could not be made good; or there is no runtime
    /// to keep time, so a slow one could not.
    pub plain: bool,
}

/// Where a call goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Whose answer the caller gets.
    pub answered_by: Place,
    /// Why.
    pub because: Reason,
    /// Who is asked as well, out of the caller's sight.
    pub shadowed: Option<Place>,
    /// From where to where a copy runs after a write.
    pub copies: Option<(Place, Place)>,
    /// Who decides at the moment.
    pub authority: Place,
}

impl Route {
    /// Whether the side that answers is not the authority.
    #[must_use]
    #[inline]
    pub fn by_follower(&self) -> bool {
        self.answered_by != self.authority
    }
}

/// Why a call goes where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It is a write.
    Write,
    /// The stage leaves no choice.
    Stage,
    /// The kill switch is thrown.
    Kill,
    /// No backfill and clean verify are recorded.
    NotReady,
    /// The request cannot be asked twice, or the call is made outside of any runtime.
    Plain,
    /// The key, the scope or the entity is pinned.
    Pinned,
    /// A list of keys said so.
    Listed,
    /// The percentage said so.
    Percentage,
    /// The key is dirty or blocked.
    Dirty,
    /// The caller's token is newer than the follower.
    Token,
}

impl Reason {
    /// The word of the table.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Reason::Write => "write",
            Reason::Stage => "stage",
            Reason::Kill => "kill",
            Reason::NotReady => "not_ready",
            Reason::Plain => "plain",
            Reason::Pinned => "pinned",
            Reason::Listed => "listed",
            Reason::Percentage => "percentage",
            Reason::Dirty => "dirty",
            Reason::Token => "token",
        }
    }
}

/// Decides where a call goes.
///
/// # Errors
///
/// [`UnknownStage`]: neither side may be asked, since either could be retired.
#[inline]
pub fn route(
    snapshot: &Snapshot,
    kind: Kind,
    circumstances: Circumstances,
) -> Result<Route, UnknownStage> {
    let stage = snapshot.serving()?;
    let Circumstances {
        pinned,
        dirty,
        behind_token,
        listed,
        covered,
        sampled,
        plain,
    } = circumstances;
    let (authority, follower) = (stage.authority(), stage.follower());
    let (answered_by, because) = match (stage, kind) {
        (_, Kind::Write | Kind::Insert | Kind::Bulk) => (authority, Reason::Write),
        (Stage::Legacy | Stage::Complete, Kind::Read | Kind::List) => (authority, Reason::Stage),
        (Stage::DualWrite | Stage::Cutover, _) if snapshot.kill => (authority, Reason::Kill),
        (Stage::Cutover, Kind::Read | Kind::List) => (authority, Reason::Stage),
        (Stage::DualWrite, _) if !snapshot.ready => (authority, Reason::NotReady),
        (Stage::DualWrite, _) if plain => (authority, Reason::Plain),
        (Stage::DualWrite, _) if pinned => (authority, Reason::Pinned),
        (Stage::DualWrite, _) if listed == Some(Listed::NeverNew) => (authority, Reason::Listed),
        (Stage::DualWrite, _) if !covered && listed.is_none() => (authority, Reason::Percentage),
        (Stage::DualWrite, _) if dirty => (authority, Reason::Dirty),
        (Stage::DualWrite, _) if behind_token => (authority, Reason::Token),
        (Stage::DualWrite, _) if listed.is_some() => (follower, Reason::Listed),
        (Stage::DualWrite, Kind::Read | Kind::List) => (follower, Reason::Percentage),
    };
    let compared = kind.is_read() && sampled && stage.copies() && !snapshot.kill;
    Ok(Route {
        answered_by,
        because,
        shadowed: compared.then(|| answered_by.other()),
        copies: stage.copies().then_some((authority, follower)),
        authority,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every() -> impl Iterator<Item = (Snapshot, Kind, Circumstances)> {
        let stages = [
            Stage::Legacy,
            Stage::DualWrite,
            Stage::Cutover,
            Stage::Complete,
        ];
        let flags = stages.into_iter().flat_map(|stage| {
            (0..4_u8).map(move |bits| Snapshot {
                stage,
                kill: bits & 1 > 0,
                ready: bits & 2 > 0,
                known: true,
                ..Snapshot::UNKNOWN
            })
        });
        flags.flat_map(|flags| {
            Kind::ALL.into_iter().flat_map(move |kind| {
                (0..256_u16).filter(|bits| bits >> 6 < 3).map(move |bits| {
                    let circumstances = Circumstances {
                        pinned: bits & 1 > 0,
                        dirty: bits & 2 > 0,
                        behind_token: bits & 4 > 0,
                        covered: bits & 8 > 0,
                        sampled: bits & 16 > 0,
                        plain: bits & 32 > 0,
                        listed: [None, Some(Listed::AlwaysNew), Some(Listed::NeverNew)]
                            [usize::from(bits >> 6)],
                    };
                    (flags, kind, circumstances)
                })
            })
        })
    }

    /// The table of design.md, written the other way round: by what must hold, row by row.
    #[test]
    fn every_cell_is_as_the_design_says() {
        let mut cells = 0;
        for (flags, kind, now) in every() {
            cells += 1;
            let route = route(&flags, kind, now).expect("known");
            let say = format!("{flags:?} {kind:?} {now:?} {route:?}");
            let authority = match flags.stage {
                Stage::Legacy | Stage::DualWrite => Place::Legacy,
                Stage::Cutover | Stage::Complete => Place::New,
            };
            let both = matches!(flags.stage, Stage::DualWrite | Stage::Cutover);
            let held = flags.kill || now.pinned || now.dirty || now.behind_token || now.plain;
            let may_follow = flags.stage == Stage::DualWrite
                && kind.is_read()
                && flags.ready
                && (now.covered || now.listed == Some(Listed::AlwaysNew))
                && now.listed != Some(Listed::NeverNew)
                && !held;
            assert_eq!(route.by_follower(), may_follow, "{say}");
            assert_eq!(route.authority, authority, "{say}");
            assert_eq!(
                route.copies,
                both.then_some((authority, authority.other())),
                "{say}"
            );
            let compared = both && kind.is_read() && now.sampled && !flags.kill;
            assert_eq!(
                route.shadowed,
                compared.then(|| route.answered_by.other()),
                "{say}"
            );
            assert_eq!(route.because == Reason::Write, !kind.is_read(), "{say}");
            if route.because == Reason::Listed {
                assert!(now.listed.is_some() && kind.is_read(), "{say}");
            }
        }
        assert_eq!(cells, 4 * 4 * 5 * 64 * 3);
    }

    #[test]
    fn an_unknown_stage_chooses_no_side() {
        let unknown = Snapshot {
            known: false,
            stage: Stage::Legacy,
            ..Snapshot::UNKNOWN
        };
        for kind in Kind::ALL {
            assert!(route(&unknown, kind, Circumstances::default()).is_err());
        }
    }
}
