//! `changeover preview`.

use std::fmt;

use changeover_sync_worker::preview::{PreviewOptions, PreviewReport};
use clap::Args;
use serde::Serialize;

use super::failure::{Failure, HOLDS_NOT};
use super::which::{Which, unless_interrupted};
use crate::screen::Screen;

/// Try what a backfill would copy, roll it back, and say what cannot be carried
///
/// Before the first copy: `changeover install --stamps-only`, then this. Every key is copied in pages by the
/// shipped code, and each page is rolled back; only ids that sequences give are used up. Ends with exit
/// code 1 when something cannot be carried.
#[derive(Debug, Args)]
pub(super) struct Preview {
    #[command(flatten)]
    which: Which,
    /// Try so many keys, from the first on, rather than all
    #[arg(long, value_name = "KEYS")]
    keys: Option<u64>,
    /// The most keys shown of each reason
    #[arg(long, value_name = "KEYS", default_value_t = PreviewOptions::default().samples)]
    samples: usize,
}

#[derive(Debug, Serialize)]
struct Previewed {
    entity: String,
    clear: bool,
    #[serde(flatten)]
    report: PreviewReport,
}

impl fmt::Display for Previewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PreviewReport { tried, carried, .. } = self.report;
        writeln!(
            f,
            "{}: {carried} of {tried} keys can be carried; nothing was written",
            self.entity
        )?;
        for obstacle in &self.report.obstacles {
            writeln!(f, "  {} keys: {}", obstacle.keys, obstacle.reason)?;
            writeln!(f, "    such as {}", obstacle.samples.join(", "))?;
            writeln!(f, "    {}", obstacle.remedy)?;
        }
        if self.report.other > 0 {
            writeln!(f, "  {} keys: other reasons", self.report.other)?;
        }
        Ok(())
    }
}

impl Preview {
    pub(super) async fn run(self) -> Result<(), Failure> {
        let opened = self.which.open().await?;
        let migration = &opened.migration;
        let options = PreviewOptions {
            page: opened.options().page,
            keys: self.keys,
            samples: self.samples,
        };
        migration.epoch().await?;
        let estimate = migration.copier().authority().estimate().await?;
        let bar = Screen::new().bar("preview", estimate.min(self.keys.unwrap_or(u64::MAX)));
        let report = unless_interrupted("nothing was written", async {
            Ok(migration.preview(options, |tried| bar.at(tried)).await?)
        });
        let report = report.await?;
        drop(bar);
        let previewed = Previewed {
            entity: opened.name,
            clear: report.is_clear(),
            report,
        };
        self.which.file.answer(&previewed)?;
        match previewed.clear {
            true => Ok(()),
            false => Err(
                Failure::new(HOLDS_NOT, "not every key can be carried").with_hint(
                    "a key that cannot is held by the copy, with its reason; the others are copied",
                ),
            ),
        }
    }
}
