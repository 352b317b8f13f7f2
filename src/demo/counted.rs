//! The metrics of this process: recorded for the summary, and served when asked for.
//!
//! The summary is read from the same series that a dashboard would show.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};

/// Seconds; from a look-up in memory to a caller's patience.
const BUCKETS: [f64; 13] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// What was recorded so far.
#[derive(Debug, Clone)]
pub(super) struct Counted(PrometheusHandle);

impl Counted {
    /// Installs the recorder of this process, once, and serves it at `listen`.
    pub(super) fn install(listen: Option<SocketAddr>) -> Result<Counted, BuildError> {
        static INSTALLED: Mutex<Option<PrometheusHandle>> = Mutex::new(None);
        // Held to the end: of two that install at the same time one would read what nobody records.
        let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = &*installed {
            return Ok(Counted(handle.clone()));
        }
        let builder = PrometheusBuilder::new().set_buckets(&BUCKETS)?;
        let recorder = match listen {
            Some(address) => {
                let (recorder, server) = builder.with_http_listener(address).build()?;
                tokio::spawn(async move {
                    if server.await.is_err() {
                        tracing::error!("the metrics are no longer served");
                    }
                });
                recorder
            }
            None => builder.build_recorder(),
        };
        let handle = recorder.handle();
        // A recorder that is there already belongs to the program around us, and keeps counting.
        if metrics::set_global_recorder(recorder).is_ok() {
            *installed = Some(handle.clone());
        }
        Ok(Counted(handle))
    }

    /// All series at this moment.
    pub(super) fn now(&self) -> Series {
        self.0.run_upkeep();
        Series(self.0.render())
    }
}

/// All series at one moment, in the text form of Prometheus.
#[derive(Debug)]
pub(super) struct Series(String);

impl Series {
    /// The sum of the series of this name that carry all these labels.
    pub(super) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let numbers = self.of(name).filter(|(own, _)| {
            labels
                .iter()
                .all(|(label, value)| own.contains(&format!("{label}=\"{value}\"")))
        });
        numbers.map(|(_, number)| number).sum()
    }

    /// The series of this name that are not 0, named by these labels.
    pub(super) fn by(&self, name: &str, labels: &[&str]) -> Vec<(String, u64)> {
        let value = |own: &str, label: &str| {
            let (_, rest) = own.split_once(&format!("{label}=\""))?;
            rest.split('"').next().map(str::to_owned)
        };
        let mut named: Vec<(String, u64)> = self
            .of(name)
            .filter(|(_, number)| *number > 0)
            .map(|(own, number)| {
                let names: Vec<String> = labels
                    .iter()
                    .filter_map(|label| value(own, label))
                    .collect();
                (names.join(" "), number)
            })
            .collect();
        named.sort();
        named
    }

    fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a str, u64)> + 'a {
        self.0.lines().filter_map(move |line| {
            let rest = line.strip_prefix(name)?.strip_prefix('{')?;
            let (labels, number) = rest.rsplit_once("} ")?;
            number
                .parse::<f64>()
                .ok()
                .map(|number| (labels, number as u64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever loses would read zeros for ever.
    #[test]
    fn all_that_install_at_once_read_one_recorder() {
        let barrier = std::sync::Barrier::new(8);
        let installed = std::thread::scope(|scope| {
            let all: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        barrier.wait();
                        Counted::install(None)
                    })
                })
                .collect();
            let all = all.into_iter().map(|one| one.join().expect("no panic"));
            all.collect::<Result<Vec<_>, _>>().expect("good buckets")
        });
        metrics::counter!("installed_at_once", "by" => "all").increment(3);
        for counted in installed {
            assert_eq!(counted.now().sum("installed_at_once", &[("by", "all")]), 3);
        }
    }

    #[test]
    fn series_are_summed_by_label_and_not_by_prefix() {
        let series = Series(
            "# TYPE a counter\na{op=\"get\",route=\"x\"} 3\na{op=\"put\",route=\"x\"} 4\na_b{op=\"get\"} 9\n".into(),
        );
        assert_eq!(series.sum("a", &[("op", "get")]), 3);
        assert_eq!(series.sum("a", &[("route", "x")]), 7);
        assert_eq!(
            series.by("a", &["route", "op"]),
            [("x get".into(), 3), ("x put".into(), 4)]
        );
    }
}
