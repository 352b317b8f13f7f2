//! What a run of schedules came by.

/// States that a run of all schedules must have been in, or it tests too little.
#[derive(Debug, Clone, Copy, Default)]
pub struct Reach {
    pub late_copy_refused: u64,
    pub unknown_write_drained: u64,
    pub delete_outranked_late_page: u64,
    pub backfill_resumed: u64,
    pub cancelled_write_completed: u64,
    pub group_copied: u64,
    pub key_held: u64,
    pub old_revision_refused: u64,
    pub below_base_refused: u64,
    pub follower_answered: u64,
    pub page_loaded: u64,
    pub late_page_refused: u64,
    pub copy_beside_a_load_refused: u64,
    pub load_divided: u64,
    pub part_ended: u64,
    pub load_ended: u64,
    pub load_given_up: u64,
    pub copies_divided: u64,
    pub part_copied: u64,
    pub part_moved_by_others: u64,
    pub crashed: u64,
    pub calls: u64,
}

impl Reach {
    pub fn all(&self) -> [(&'static str, u64); 21] {
        [
            ("late copy refused", self.late_copy_refused),
            (
                "unknown write copied by the drain",
                self.unknown_write_drained,
            ),
            (
                "delete outranking a late page",
                self.delete_outranked_late_page,
            ),
            ("backfill resumed", self.backfill_resumed),
            ("cancelled write completed", self.cancelled_write_completed),
            ("unique values copied as a group", self.group_copied),
            ("key held", self.key_held),
            ("old revision refused", self.old_revision_refused),
            ("copy below the base refused", self.below_base_refused),
            ("read answered by the follower", self.follower_answered),
            ("page loaded", self.page_loaded),
            ("late page refused", self.late_page_refused),
            (
                "copy beside a load refused",
                self.copy_beside_a_load_refused,
            ),
            ("load divided", self.load_divided),
            ("part of a load ended", self.part_ended),
            ("load ended", self.load_ended),
            ("load given up", self.load_given_up),
            ("copies divided", self.copies_divided),
            ("part of copies ended", self.part_copied),
            ("part moved by somebody else", self.part_moved_by_others),
            ("process crashed", self.crashed),
        ]
    }

    pub fn add(&mut self, other: &Reach) {
        self.late_copy_refused += other.late_copy_refused;
        self.unknown_write_drained += other.unknown_write_drained;
        self.delete_outranked_late_page += other.delete_outranked_late_page;
        self.backfill_resumed += other.backfill_resumed;
        self.cancelled_write_completed += other.cancelled_write_completed;
        self.group_copied += other.group_copied;
        self.key_held += other.key_held;
        self.old_revision_refused += other.old_revision_refused;
        self.below_base_refused += other.below_base_refused;
        self.follower_answered += other.follower_answered;
        self.page_loaded += other.page_loaded;
        self.late_page_refused += other.late_page_refused;
        self.copy_beside_a_load_refused += other.copy_beside_a_load_refused;
        self.load_divided += other.load_divided;
        self.part_ended += other.part_ended;
        self.load_ended += other.load_ended;
        self.load_given_up += other.load_given_up;
        self.copies_divided += other.copies_divided;
        self.part_copied += other.part_copied;
        self.part_moved_by_others += other.part_moved_by_others;
        self.crashed += other.crashed;
        self.calls += other.calls;
    }
}
