use metrics::{Counter, Gauge};

/// Ends in exactly one counter: the one it is told, or the one it was made with.
pub(crate) struct Once {
    otherwise: Option<Counter>,
}

impl Once {
    pub(crate) fn new(otherwise: Counter) -> Once {
        Once {
            otherwise: Some(otherwise),
        }
    }

    pub(crate) fn end(mut self, counter: Counter) {
        self.otherwise = Some(counter);
    }
}

impl Drop for Once {
    fn drop(&mut self) {
        if let Some(counter) = self.otherwise.take() {
            counter.increment(1);
        }
    }
}

/// One task in flight, until dropped.
pub(crate) struct InFlight(Gauge);

impl InFlight {
    pub(crate) fn new(gauge: &Gauge) -> InFlight {
        gauge.increment(1.0);
        InFlight(gauge.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
