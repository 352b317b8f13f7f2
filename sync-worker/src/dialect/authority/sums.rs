//! Sums of what a copy of now would write.

use changeover_shadow::Value;

use super::SqlAuthority;
use crate::dialect::session::{DbError, ErrorClass, Session};
use crate::dialect::statement::Statement;
use crate::dialect::sums::{SumTarget, SummedRows, add};
use crate::dialect::tables;
use crate::dialect::versions::{Versions, few};
use crate::sum::{Span, Sum};

impl SqlAuthority {
    /// All targets of each span, at one instant if no row fails. `None` where a row cannot be summed, or
    /// nothing can be.
    pub(super) async fn sums_in(
        &self,
        session: &mut dyn Session,
        spans: &[Span],
        salt: u64,
    ) -> Result<Vec<Option<Sum>>, DbError> {
        let Some(targets) = self.sums.targets() else {
            return Ok(vec![None; spans.len()]);
        };
        match self.sums_at_once(session, targets, (spans, salt)).await? {
            Some(sums) => return Ok(sums),
            None if spans.len() < 2 => return Ok(vec![None; spans.len()]),
            None => {}
        }
        let mut sums = Vec::with_capacity(spans.len());
        for span in spans {
            let alone = (std::slice::from_ref(span), salt);
            let sum = self.sums_at_once(session, targets, alone).await?;
            sums.push(sum.and_then(|mut sum| sum.pop().flatten()));
        }
        Ok(sums)
    }

    /// `None` where an expression fails on a row, or a column cannot hold its value: looking at the keys one
    /// by one tells which.
    async fn sums_at_once(
        &self,
        session: &mut dyn Session,
        targets: &[SumTarget],
        (spans, salt): (&[Span], u64),
    ) -> Result<Option<Vec<Option<Sum>>>, DbError> {
        session.script(&self.snapshot()).await?;
        let few = match self.dialect().sums().lists_versions() {
            true => self.few(session).await?,
            false => None,
        };
        let versions = Versions::of(few.as_ref());
        match self
            .sum_in(session, targets, spans, (salt, &versions))
            .await
        {
            Ok(sums) => {
                session.script("COMMIT").await?;
                Ok(Some(sums))
            }
            Err(error) if error.class == ErrorClass::Data => {
                session.script("ROLLBACK").await?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    async fn sum_in(
        &self,
        session: &mut dyn Session,
        targets: &[SumTarget],
        spans: &[Span],
        (salt, versions): (u64, &Versions<'_>),
    ) -> Result<Vec<Option<Sum>>, DbError> {
        let mut sums = vec![Sum::default(); spans.len()];
        for target in targets {
            let Some(rows) = self.rows_of(target, spans, versions) else {
                return Ok(vec![None; spans.len()]);
            };
            let rows = SummedRows {
                salt,
                target: &target.name,
                rows,
                places: spans.len(),
                columns: &target.columns,
                copied: true,
                forms: target.forms.as_deref(),
            };
            add(&mut sums, self.dialect().sums().sum(session, rows).await?);
        }
        Ok(sums.into_iter().map(Some).collect())
    }

    /// Place, key, version and values of a target's rows in spans. The version is asked for outside of the
    /// mapping's own names, among which a column of ours would be another one.
    fn rows_of(
        &self,
        target: &SumTarget,
        spans: &[Span],
        versions: &Versions<'_>,
    ) -> Option<Statement<'_>> {
        let dialect = self.dialect();
        let greatest = dialect.greatest_name();
        let statement = Statement::of(dialect, &format!("SELECT s.g, s.k, {greatest}(coalesce("));
        let statement = versions
            .version(statement, |statement| self.here(statement, "c."))
            .sql(", 0), ");
        let names = target.source.names();
        let statement = self.base(statement).sql(&format!("){names} FROM "));
        let rows = target
            .source
            .select(dialect, statement, spans, self.sums.key())?;
        Some(versions.beside(rows))
    }

    /// Keys and versions of all that was stamped, while that is little.
    pub(super) async fn few(
        &self,
        session: &mut dyn Session,
    ) -> Result<Option<Vec<Vec<Value>>>, DbError> {
        let kept = Statement::of(self.dialect(), "SELECT c.key, c.version FROM ");
        let kept = self.here(kept.table(tables::KEY).sql(" c WHERE "), "c.");
        few(session, kept).await
    }
}
