//! A [`Snapshot`] in one word: written and read at once, without a lock.
//!
//! | bits | |
//! | --- | --- |
//! | 0–1 | stage |
//! | 2, 3, 4 | kill, ready, known |
//! | 5–18 | read percentage, in 1/10,000 |
//! | 19–32 | sampling, in 1/10,000 |
//! | 33 | excepted |
//! | 34–63 | epoch |

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Percent, Snapshot, Stage};

/// What readers see.
pub(super) struct Word(AtomicU64);

/// The epoch does not fit. There is one for each decision, so no changeover gets there.
const WIDE: u64 = u64::MAX;

/// Epochs from here on do not fit.
const EPOCHS: i64 = (1 << 30) - 1;

impl Word {
    pub(super) fn new(snapshot: &Snapshot) -> Word {
        Word(AtomicU64::new(pack(snapshot)))
    }

    pub(super) fn store(&self, snapshot: &Snapshot) {
        self.0.store(pack(snapshot), Ordering::Release);
    }

    /// `None` if the snapshot does not fit.
    #[inline]
    pub(super) fn load(&self) -> Option<Snapshot> {
        unpack(self.0.load(Ordering::Acquire))
    }
}

fn pack(snapshot: &Snapshot) -> u64 {
    let Snapshot {
        stage,
        epoch,
        kill,
        read_new,
        sample,
        excepted,
        ready,
        known,
    } = *snapshot;
    let Some(epoch) = u64::try_from(epoch).ok().filter(|_| epoch < EPOCHS) else {
        return WIDE;
    };
    let percent = |percent: Percent| u64::from(percent.ten_thousandths());
    stage as u64
        | u64::from(kill) << 2
        | u64::from(ready) << 3
        | u64::from(known) << 4
        | percent(read_new) << 5
        | percent(sample) << 19
        | u64::from(excepted) << 33
        | epoch << 34
}

#[inline]
fn unpack(word: u64) -> Option<Snapshot> {
    if word == WIDE {
        return None;
    }
    let percent = |from: u32| Percent::from_ten_thousandths((word >> from & 0x3fff) as u16).ok();
    Some(Snapshot {
        stage: *Stage::ALL.get((word & 3) as usize)?,
        epoch: (word >> 34) as i64,
        kill: word >> 2 & 1 > 0,
        read_new: percent(5)?,
        sample: percent(19)?,
        excepted: word >> 33 & 1 > 0,
        ready: word >> 3 & 1 > 0,
        known: word >> 4 & 1 > 0,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_is_unpacked(
            (stage, epoch) in (0..4_usize, prop_oneof![0..EPOCHS, Just(EPOCHS - 1)]),
            (kill, excepted, ready, known) in any::<(bool, bool, bool, bool)>(),
            (read_new, sample) in (0..=10_000_u16, 0..=10_000_u16),
        ) {
            let percent = |steps| Percent::from_ten_thousandths(steps).expect("in range");
            let snapshot = Snapshot {
                stage: Stage::ALL[stage],
                epoch,
                kill,
                read_new: percent(read_new),
                sample: percent(sample),
                excepted,
                ready,
                known,
            };
            prop_assert_eq!(unpack(pack(&snapshot)), Some(snapshot));
        }
    }

    #[test]
    fn an_epoch_that_does_not_fit_is_not_shortened() {
        for epoch in [EPOCHS, i64::MAX, -1] {
            let snapshot = Snapshot {
                epoch,
                ..Snapshot::UNKNOWN
            };
            assert_eq!(unpack(pack(&snapshot)), None, "{epoch}");
        }
    }
}
