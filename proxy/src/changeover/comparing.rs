//! What the builder is told of shadow reads.

use changeover_flags::Percent;
use changeover_shadow::{Redaction, Report, Rules};
use tower_service::Service;

use super::Builder;
use crate::port::Versions;
use crate::shadow_read::probe;

impl<N, Req, Res, E> Builder<N, Req, Res, E>
where
    Req: Send + 'static,
    Res: Send + 'static,
    E: Send + 'static,
{
    /// What counts as equal.
    #[must_use]
    pub fn rules(mut self, rules: Rules) -> Self {
        self.rules = rules;
        self
    }

    /// What the examples may show.
    #[must_use]
    pub fn redaction(mut self, redaction: Redaction) -> Self {
        self.redaction = redaction;
        self
    }

    /// Names the class of an error that the data calls for (`sold_out`), so that errors are compared,
    /// too: alike they are no difference, and no match either; an error on one side alone, or two of
    /// different classes, is a difference. `None`, the default for every error, for a side in
    /// trouble, which says nothing of the data. The name is shown and must not hold data.
    #[must_use]
    pub fn error_class(
        mut self,
        class: impl Fn(&E) -> Option<&'static str> + Send + Sync + 'static,
    ) -> Self {
        self.error_class = Box::new(class);
        self
    }

    /// Observes a clone of the caller's answer when the caller has gone, instead of the answer while
    /// it waits: for answers that are cheaper to clone than to look at (an `Arc`, plain values).
    #[must_use]
    pub fn observe_copies(mut self) -> Self
    where
        Res: Clone,
    {
        self.copy = Some(Res::clone);
        self
    }

    /// Of the shadow reads by key, the share that is followed by a control read: the authority
    /// asked twice, within the budget of shadow reads, where both sides had answered. Fields in which it differs from itself are
    /// noise; see [`NoiseFloor`](changeover_shadow::NoiseFloor). Default 1 %.
    #[must_use]
    pub fn control(mut self, share: Percent) -> Self {
        self.control = share;
        self
    }

    /// Who is told of each shadow read for which the other side was asked, when it is over.
    #[must_use]
    pub fn report(mut self, report: impl Report + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }

    /// Asks `legacy` and `new` in shadow reads, and in all their looks, instead of the services that
    /// answer callers: the same queries over connections of their own. A caller then never waits for
    /// a connection that a shadow read holds, and an application's cache in front of its service is
    /// neither filled nor evicted by reads that nobody made, nor believed at the second look.
    ///
    /// The first look at the side that answered is the caller's own answer. What the layer asks for
    /// versions goes where [`probe_versions`](Builder::probe_versions) says, or else
    /// [`versions`](Builder::versions).
    ///
    /// ```
    /// # use changeover_flags::{Entity, Flags};
    /// # use changeover_proxy::{Changeover, Operation, Refused};
    /// # use changeover_shadow::Json;
    /// # use std::future::{Ready, ready};
    /// # fn repository(pool: &str) -> impl tower::Service<i64, Response = Option<String>, Error = Refused,
    /// #     Future = Ready<Result<Option<String>, Refused>>> + Clone + Send + 'static + use<> {
    /// #     let pool = pool.to_owned();
    /// #     tower::service_fn(move |id| ready(Ok(Some(format!("{id} from {pool}")))))
    /// # }
    /// # let flags = Flags::memory(Entity::new("listings")?);
    /// # let (pools, small_pools) = (["legacy", "new"], ["legacy", "new"]);
    /// // `pools` serve the callers; `small_pools` have two connections each, and no cache in front.
    /// let [legacy, new] = pools.map(|pool| repository(pool));
    /// let [probe_legacy, probe_new] = small_pools.map(|pool| repository(pool));
    /// let layer = Changeover::builder(flags)
    ///     .classify(|id: &i64| Operation::read("title", *id))
    ///     .observe(Json)
    ///     .new_service(new)
    ///     .probe(probe_legacy, probe_new)
    ///     .build()?;
    /// let titles = tower::Layer::layer(&layer, legacy);
    /// # assert_eq!(titles.handle().sample_share(), 1.0);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn probe<L, P>(mut self, legacy: L, new: P) -> Self
    where
        L: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        L::Future: Send + 'static,
        P: Service<Req, Response = Res, Error = E> + Clone + Send + 'static,
        P::Future: Send + 'static,
    {
        self.probe = Some(probe(legacy, new));
        self
    }

    /// Who tells shadow reads the versions, instead of [`versions`](Builder::versions), which answers callers:
    /// the same over connections of its own, so that no caller waits for one that a shadow read holds.
    #[must_use]
    pub fn probe_versions(mut self, versions: impl Versions) -> Self {
        self.probe_versions = Some(Box::new(versions));
        self
    }

    /// Whether callers wait for a connection, or the next one will: shadow reads, and their second
    /// looks, are then shed and counted (`pool`). Asked on the caller's task once its answer is
    /// there, so it must be quick and not block; a panic is taken for *yes*. For sqlx,
    /// `changeover::worker::guard::waiting(&pool)`; for several pools, `move || one() || other()`.
    #[must_use]
    pub fn pool_waiting(mut self, waiting: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.pool_waiting = Some(Box::new(waiting));
        self
    }
}
