//! A read that waits for something: the follower's answer, or a question before it.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use changeover_flags::{Place, Role};
use futures_util::FutureExt as _;
use tokio::time::{Instant, timeout};
use tower_service::Service;

use crate::call::{Kind, Operation};
use crate::desk::Desk;
use crate::metrics::{End, Fallback, StoreEnd, StoreKind};
use crate::plan::{Plan, Routed};
use crate::ready::Taken;
use crate::route::{Circumstances, route};
use crate::shadow_read::Shadow;

/// A read under way.
pub(super) struct Asked<Req> {
    pub(super) routed: Routed,
    pub(super) request: Req,
    /// For the follower; without it the authority is asked at once.
    pub(super) copy: Option<Req>,
    pub(super) shadow: Option<Shadow<Req>>,
}

impl<Req: Send + 'static> Asked<Req> {
    pub(super) async fn answer<A, F, Res: 'static, E: 'static>(
        self,
        plan: Arc<Plan<Req, Res, E>>,
        authority: Taken<A>,
        follower: Taken<F>,
    ) -> Result<Res, E>
    where
        A: Service<Req, Response = Res, Error = E>,
        F: Service<Req, Response = Res, Error = E>,
    {
        let Asked {
            mut routed,
            request,
            copy,
            shadow,
        } = self;
        let place = routed.route.authority;
        routed.call.on_drop(End::FollowerCancelled);
        let began = Instant::now();
        let mut end = End::Ok;
        if let Some(copy) = copy
            && may_follow(&plan.desk, plan.strict, &mut routed).await
        {
            let budget = budget(&plan.desk, &routed.operation, began);
            match by_follower(&plan, &routed, follower, copy, budget).await {
                Ok(answer) => {
                    if let Some(shadow) = shadow {
                        shadow.start(place.other(), plan.observed(&answer), began.elapsed());
                    }
                    routed.call.end(End::FollowerOk);
                    return answer;
                }
                Err(reason) => {
                    plan.desk.metrics.fallback(reason);
                    end = End::Fallback;
                }
            }
        }
        routed.call.on_drop(End::Cancelled);
        let asked = Instant::now();
        let answer = authority.call(request).await;
        let took = asked.elapsed();
        plan.desk
            .metrics
            .store(place, StoreKind::Read, StoreEnd::of(&answer), took);
        if let Some(shadow) = shadow {
            shadow.start(place, plan.observed(&answer), took);
        }
        routed
            .call
            .end(if answer.is_ok() { end } else { End::Error });
        answer
    }
}

/// Asks what must be asked before the follower is, then the table again.
async fn may_follow(desk: &Desk, strict: bool, routed: &mut Routed) -> bool {
    let dirty = dirty(desk, strict, &routed.operation).await;
    let behind_token = !dirty && behind_token(desk, &routed.operation).await;
    routed.circumstances = Circumstances {
        dirty,
        behind_token,
        // A write may have begun while the questions were asked.
        pinned: desk.pinned(&routed.operation),
        ..routed.circumstances
    };
    if let Ok(again) = route(
        &routed.snapshot,
        routed.operation.kind,
        routed.circumstances,
    ) {
        routed.route = again;
    }
    routed.route.by_follower()
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

/// The follower's time: never more than half of what the caller has left.
fn budget(desk: &Desk, operation: &Operation, began: Instant) -> Duration {
    let own = desk.limits.follower_time;
    match operation.timeout {
        Some(deadline) => own.min(deadline.saturating_sub(began.elapsed()) / 2),
        None => own,
    }
}

/// The follower's answer, if it is one that the caller may have.
async fn by_follower<F, Req, Res: 'static, E: 'static>(
    plan: &Plan<Req, Res, E>,
    routed: &Routed,
    follower: Taken<F>,
    copy: Req,
    budget: Duration,
) -> Result<Result<Res, E>, Fallback>
where
    F: Service<Req, Response = Res, Error = E>,
{
    let place: Place = routed.route.answered_by;
    let one_row = routed.operation.kind == Kind::Read;
    let began = Instant::now();
    // What the application's own hook says of the answer is contained like the answer itself.
    let asked = async {
        let answer = follower.call(copy).await;
        let found = answer
            .as_ref()
            .is_ok_and(|answer| !one_row || (plan.found)(answer));
        (answer, found)
    };
    let answer = timeout(budget, AssertUnwindSafe(asked).catch_unwind()).await;
    let (end, result) = match answer {
        Ok(Ok((answer, true))) => (StoreEnd::Ok, Ok(answer)),
        Ok(Ok((Ok(_), false))) => (StoreEnd::Ok, Err(Fallback::NotFound)),
        Ok(Ok((Err(_), false))) => (StoreEnd::Error, Err(Fallback::Error)),
        Ok(Err(_panic)) => (StoreEnd::Error, Err(Fallback::Panic)),
        Err(_elapsed) => (StoreEnd::Timeout, Err(Fallback::Timeout)),
    };
    plan.desk
        .metrics
        .store(place, StoreKind::Read, end, began.elapsed());
    result
}
