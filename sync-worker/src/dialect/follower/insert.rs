//! Images of keys of which the follower has no row, as a load brings them: rows are added, and nothing else.

use futures_util::future::join;

use super::SqlFollower;
use super::resolve::{Copy, Resolved};
use super::write::owned_rows;
use crate::dialect::catalog::Column;
use crate::dialect::session::{DbError, Session};
use crate::dialect::statement::Statement;

impl SqlFollower {
    /// Inserts the images' rows; while those of one target are on their way, the next one's statements are written.
    pub(super) async fn insert_images<'c>(
        &self,
        session: &mut dyn Session,
        images: &[Copy<'c>],
        resolved: &mut Resolved<'c>,
    ) -> Result<(), DbError> {
        // A load brings a key once, and nothing else brings one before: the id map has none of them.
        let mut ids = self
            .allocate_ids(session, images, resolved)
            .await?
            .into_iter();
        self.add_all_shared(session, images, resolved).await?;
        if let Some(bulk) = self.dialect().bulk() {
            session.script(bulk.many_rows()).await?;
        }
        let mut targets = self.targets.iter().enumerate();
        let mut next = || -> Option<Vec<Statement<'_>>> {
            if let Some(ids) = ids.next() {
                return Some(self.map_ids(&ids));
            }
            let (index, target) = targets.find(|(_, target)| target.target.is_owned())?;
            let rows = owned_rows(images, index, target, resolved);
            let columns: Vec<Column> = target.written().into_iter().cloned().collect();
            Some(self.insertions(target, &columns, &rows))
        };
        let mut statements = next();
        while let Some(these) = statements {
            let run = async {
                for statement in these {
                    session.execute(statement).await?;
                }
                Ok(())
            };
            // Polled in this order: the server has something to do first.
            let (done, following) = join(run, async { next() }).await;
            done?;
            statements = following;
        }
        Ok(())
    }
}
