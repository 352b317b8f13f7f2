//! Whether what a write left behind comes to rest.

use std::time::Duration;

use changeover_flags::Key;
use changeover_sync_worker::contract::Contract;
use changeover_sync_worker::store::StoreError;
use tokio::time::{Instant, sleep};

/// How long what a write left behind has to come to rest.
const SETTLE: Duration = Duration::from_secs(10);

/// Between two looks at what a write left behind.
const LOOK: Duration = Duration::from_millis(25);

/// What a write left behind.
pub(super) enum Rest {
    /// Nothing is open or dirty, and both sides hold the same of the key.
    Sound,
    /// The sides differ on the key, and no copy is due.
    Apart(String),
    /// A transaction stays open, or keys stay dirty.
    Unrest(String),
}

/// Waits until nothing is open and no more than `held` keys are dirty, and compares the key.
pub(super) async fn rest(contract: &Contract, key: &Key, held: u64) -> Result<Rest, StoreError> {
    let until = Instant::now() + SETTLE;
    let mut quiet = 0;
    // Twice: a write that goes on without its caller may not have begun at the first look.
    while quiet < 2 {
        sleep(LOOK).await;
        let (open, dirty) = match look(contract, held).await {
            Ok(seen) => seen,
            // What is in the way may be the write itself, which goes on without its caller.
            Err(error) if error.is_transient() && Instant::now() < until => {
                quiet = 0;
                continue;
            }
            Err(error) => return Err(error),
        };
        let rests = open.is_empty() && dirty <= held;
        quiet = if rests { quiet + 1 } else { 0 };
        if rests || Instant::now() < until {
            continue;
        }
        return Ok(Rest::Unrest(match open.first() {
            Some(open) => format!("leaves a transaction open: {open}"),
            None => format!("leaves {dirty} keys dirty that no copy makes clean"),
        }));
    }
    let compared = contract.verify(std::slice::from_ref(key)).await?;
    if compared.clean() {
        return Ok(Rest::Sound);
    }
    let sample = compared.samples.first();
    let found = sample.map_or_else(String::new, |sample| {
        let fields: Vec<&str> = sample.fields.iter().map(|one| one.path.as_str()).collect();
        let class = sample.class.as_str();
        format!("leaves the new side {class}: {}", fields.join(", "))
    });
    Ok(Rest::Apart(found))
}

/// Transactions that are open, and how many keys are dirty after a pass over them.
async fn look(contract: &Contract, held: u64) -> Result<(Vec<String>, u64), StoreError> {
    let open = contract.open_transactions().await?;
    if open.is_empty() {
        return Ok((open, contract.drain().await?.dirty));
    }
    Ok((open, held))
}
