//! [`Limits`]: how much of everything, and for how long.

use std::time::Duration;

/// Bounds of one layer, per entity and process. Nothing waits or grows without one.
///
/// ```
/// use changeover_proxy::Limits;
/// let limits = Limits { copies: 16, ..Limits::default() };
/// assert_eq!(limits.pins, 65_536);
/// # assert_eq!(limits.copies, 16);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Keys pinned at once, and scopes; what does not fit pins the entity. Default 65,536.
    pub pins: usize,
    /// Writes at once, those without a caller among them. Beyond it a write waits before it
    /// begins. Default 10,000.
    pub writes: usize,
    /// How long a write goes on without its caller, whoever waits for its room; after that, as long as there is
    /// room for another one, which is asked as often. Default 60 s.
    pub write_time: Duration,
    /// Background copies at once. Beyond it the copy is skipped and the worker drains.
    /// Default 256.
    pub copies: usize,
    /// How long one copy may take, and a question of the sweeper. Default 10 s.
    pub copy_time: Duration,
    /// How long the follower has for a read, before the authority is asked instead; never more
    /// than half of the caller's own deadline. Default 250 ms.
    pub follower_time: Duration,
    /// How long the freshness port has for a question that a caller waits for. Default 100 ms.
    pub ask_time: Duration,
    /// Shadow reads at once. Beyond it they are shed. Default 64.
    pub shadows: usize,
    /// How long each call of a shadow read, and each of its questions, may take. Default 1 s.
    pub shadow_time: Duration,
    /// The most shadow reads a second, on the average: of the reads that the flags' percentage draws, a
    /// share is compared that follows the load, the same for all reads of one operation in about a second. Each
    /// [declared](crate::Builder::operations) operation has at least an equal part of the rate, as far as it is
    /// read so often: a busy one starves no rare one. All that were not declared are one. A
    /// sudden rise costs twice as many, or ten; of many operations at once a few times that. What is left out
    /// counts as shed (`rate`), but not in the tally: it was not sampled. 0 compares nothing. Default: no bound but
    /// the percentage and [`shadows`](Limits::shadows).
    pub shadows_per_second: Option<u32>,
    /// How long a difference has to heal before the second look. Default 500 ms.
    pub second_look_after: Duration,
    /// A shadow read is shed when the caller's own answer took longer, whichever side gave it, as far as that is
    /// known: an answer at once is timed by [`time_one_in`](Limits::time_one_in). Where the follower answered, and
    /// the authority is to be asked in the shadow: while the authority is slow. A shadow call of it that took longer,
    /// or not even answered within [`shadow_time`](Limits::shadow_time), makes it so, and eight in a row that took no longer end it;
    /// meanwhile one such read at a time is compared, the others are shed. Those under way go on.
    /// What the follower takes for a call of a shadow read sheds nothing. Default 1 s.
    pub shed_over: Duration,
    /// The most elements of a list that is compared; a longer one is shed. Default 1,000.
    pub list_elements: usize,
    /// How often a difference is put before the comparison, which must see it. Default 60 s.
    pub canary_every: Duration,
    /// Of the reads that are answered at once, without having waited for anything, one in so many is
    /// timed, and stands for as many: two readings of the clock cost as much as all the rest of such
    /// a read. Reads that wait or that have a deadline are all timed, and all are counted. Default 16; 1 times all.
    pub time_one_in: u32,
    /// How often pins without a copy are asked after. Default 1 s.
    pub sweep_every: Duration,
    /// How many keys one such question names. Default 1,000.
    pub sweep_keys: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            pins: 65_536,
            writes: 10_000,
            write_time: Duration::from_secs(60),
            copies: 256,
            copy_time: Duration::from_secs(10),
            follower_time: Duration::from_millis(250),
            ask_time: Duration::from_millis(100),
            shadows: 64,
            shadow_time: Duration::from_secs(1),
            shadows_per_second: None,
            second_look_after: Duration::from_millis(500),
            shed_over: Duration::from_secs(1),
            list_elements: 1_000,
            canary_every: Duration::from_secs(60),
            time_one_in: 16,
            sweep_every: Duration::from_secs(1),
            sweep_keys: 1_000,
        }
    }
}
