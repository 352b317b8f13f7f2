//! Sums of what the follower holds.

use changeover_flags::Key;
use changeover_shadow::Value;

use super::SqlFollower;
use crate::dialect::held_mapping::HeldMapping;
use crate::dialect::session::{DbError, ErrorClass, Session, on_session};
use crate::dialect::span::{first_keys, keys_of};
use crate::dialect::statement::Statement;
use crate::dialect::sums::{SumTarget, SummedRows, add};
use crate::dialect::tables;
use crate::dialect::versions::{Versions, base_of, few};
use crate::store::{Answer, StoreError};
use crate::sum::{Span, Sum};

impl SqlFollower {
    pub(super) async fn sum_spans(
        &self,
        spans: &[Span],
        salt: u64,
    ) -> Result<Vec<Option<Sum>>, StoreError> {
        let (held, sums) = self.summing_spans(spans, salt).await?;
        self.admit(held, "summing rows of")?;
        Ok(sums)
    }

    fn summing_spans<'a>(
        &'a self,
        spans: &'a [Span],
        salt: u64,
    ) -> Answer<'a, (Option<HeldMapping>, Vec<Option<Sum>>)> {
        on_session!(self, "summing rows of", |session| self
            .sums_in(session, spans, salt))
    }

    /// All targets of each span at one instant, and the mapping that is held. `None` where nothing can be
    /// summed.
    async fn sums_in(
        &self,
        session: &mut dyn Session,
        spans: &[Span],
        salt: u64,
    ) -> Result<(Option<HeldMapping>, Vec<Option<Sum>>), DbError> {
        session.script(&self.snapshot()).await?;
        let held = self.held_mapping(session).await?;
        let few = match self.dialect().sums().lists_versions() {
            true => self.few(session).await?,
            false => None,
        };
        let versions = Versions::of(few.as_ref());
        let sums = match self.sum_in(session, spans, (salt, &versions)).await {
            // A row that cannot be said: looking at the keys one by one tells which.
            Err(error) if error.class == ErrorClass::Data => {
                session.script("ROLLBACK").await?;
                return Ok((held, vec![None; spans.len()]));
            }
            sums => sums?,
        };
        session.script("COMMIT").await?;
        Ok((held, sums))
    }

    async fn sum_in(
        &self,
        session: &mut dyn Session,
        spans: &[Span],
        (salt, versions): (u64, &Versions<'_>),
    ) -> Result<Vec<Option<Sum>>, DbError> {
        let none = || Ok(vec![None; spans.len()]);
        let Some(targets) = self.sums.targets() else {
            return none();
        };
        let mut sums = vec![Sum::default(); spans.len()];
        for target in targets {
            let Some(rows) = self.rows_of(target, spans, versions) else {
                return none();
            };
            let rows = SummedRows {
                salt,
                target: &target.name,
                rows,
                places: spans.len(),
                columns: &target.columns,
                copied: false,
                forms: target.forms.as_deref(),
            };
            add(&mut sums, self.dialect().sums().sum(session, rows).await?);
        }
        Ok(sums.into_iter().map(Some).collect())
    }

    /// Place, key, version and values of a target's rows in spans: the version is the one that
    /// [`versions_in`](SqlFollower::versions_in) answers for the key.
    fn rows_of(
        &self,
        target: &SumTarget,
        spans: &[Span],
        versions: &Versions<'_>,
    ) -> Option<Statement<'_>> {
        let statement = Statement::of(self.dialect(), "SELECT s.g, s.k, coalesce(");
        let statement = versions.version(statement, |statement| self.here(statement, "c."));
        let names = target.held.names();
        // Of loaded keys it is the base's at which they were.
        let statement = statement
            .sql(&format!(", (SELECT {} FROM ", base_of("e.loaded")))
            .table(tables::EPOCH)
            .sql(" e WHERE ");
        let statement = self.here(statement, "e.").sql(&format!(")){names} FROM "));
        let rows = target
            .held
            .select(self.dialect(), statement, spans, self.sums.held_key())?;
        Some(versions.beside(rows))
    }

    async fn few(&self, session: &mut dyn Session) -> Result<Option<Vec<Vec<Value>>>, DbError> {
        let kept = Statement::of(self.dialect(), "SELECT c.key, c.version FROM ");
        let kept = self.here(kept.table(tables::KEY).sql(" c WHERE "), "c.");
        few(session, kept).await
    }

    /// Keys of which a summed target has rows.
    pub(super) async fn keys_in(
        &self,
        session: &mut dyn Session,
        span: &Span,
        limit: u32,
    ) -> Result<Vec<Key>, DbError> {
        let held = self.sums.targets().unwrap_or_default().iter();
        let held = held.map(|target| &target.held);
        let within = (span, self.sums.held_key());
        match first_keys(
            self.dialect(),
            held,
            |rows| rows.sql("1 = 1"),
            within,
            limit,
        ) {
            Some(statement) => keys_of(session, statement, 0).await,
            None => Ok(Vec::new()),
        }
    }
}
