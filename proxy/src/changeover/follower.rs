//! A read that waits for something: a question before the follower may answer, or its authority.

use changeover_flags::Role;
use tokio::time::Instant;
use tower_service::Service;

use super::following::{Following, Reading};
use crate::call::{Kind, Operation};
use crate::desk::Desk;
use crate::metrics::End;
use crate::plan::Routed;
use crate::ready::Taken;
use crate::route::{Circumstances, route};
use crate::served::Because;

/// Whether something has to be asked before the follower may answer.
pub(super) fn is_asked(strict: bool, operation: &Operation) -> bool {
    let versions = match operation.kind {
        Kind::List => !operation.lag_tolerant,
        _ => strict,
    };
    versions || operation.token.is_some()
}

/// `copy` is for the follower; without it the authority is asked at once.
pub(super) async fn answer<A, F, Req, Res, E>(
    mut reading: Box<Reading<A, Req, Res, E>>,
    follower: Taken<F>,
    copy: Option<Req>,
) -> Result<Res, E>
where
    A: Service<Req, Response = Res, Error = E> + Send + 'static,
    A::Future: Send,
    F: Service<Req, Response = Res, Error = E>,
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    if let Some(copy) = copy {
        reading.routed.call.on_drop(End::FollowerCancelled);
        let strict = reading.plan.strict;
        if may_follow(&reading.plan.desk, strict, &mut reading.routed).await {
            reading.asked = Some(Instant::now());
            let answer = follower.call(copy);
            return Following::new(Some(answer), reading).await;
        }
    }
    let because = Because::Routed(reading.routed.decided.route.because);
    reading.by_authority(because).await
}

/// Asks what must be asked before the follower is, then the table again.
async fn may_follow(desk: &Desk, strict: bool, routed: &mut Routed) -> bool {
    let dirty = dirty(desk, strict, &routed.operation).await;
    let behind_token = !dirty && behind_token(desk, &routed.operation).await;
    let decided = &mut routed.decided;
    decided.circumstances = Circumstances {
        dirty,
        behind_token,
        // A write may have begun while the questions were asked.
        pinned: desk.pinned(&routed.operation),
        ..decided.circumstances
    };
    let kind = routed.operation.kind;
    if let Ok(again) = route(&decided.snapshot, kind, decided.circumstances) {
        decided.route = again;
        routed.call.sent(&decided.route);
    }
    decided.route.by_follower()
}

async fn dirty(desk: &Desk, strict: bool, operation: &Operation) -> bool {
    match operation.kind {
        Kind::List if operation.lag_tolerant => false,
        Kind::List => desk
            .ask(|versions| versions.any_dirty())
            .await
            .unwrap_or(true),
        _ if strict => {
            let keys = operation.touched.as_keys().to_vec();
            let dirty = desk.ask(|versions| versions.dirty(keys)).await;
            dirty.map_or(true, |dirty| !dirty.is_empty())
        }
        _ => false,
    }
}

/// Whether the caller has seen more than the follower holds, or nobody can tell.
async fn behind_token(desk: &Desk, operation: &Operation) -> bool {
    let Some(token) = &operation.token else {
        return false;
    };
    if token.entity() != desk.flags.entity() {
        return false;
    }
    let Some(needs) = token.needs(operation.touched.as_keys()) else {
        return true;
    };
    if needs.is_empty() {
        return false;
    }
    let keys = needs.iter().map(|(key, _)| key.clone()).collect();
    match desk
        .ask(|versions| versions.held(Role::Follower, keys))
        .await
    {
        Ok(held) if held.len() == needs.len() => {
            let behind = |seen, held: Option<_>| held.is_none_or(|held| held < seen);
            let mut both = needs.iter().zip(held);
            both.any(|((_, seen), held)| behind(*seen, held))
        }
        _ => true,
    }
}
