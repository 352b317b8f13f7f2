//! A real shop: Chinook, 59 customers, 412 invoices, 3,503 tracks and 8,715 playlist entries, from
//! `../shared/data` beside this tree. The data are not part of the tree; without them these tests
//! say that they were skipped, and `scripts/test` counts them as skipped.

mod life;
mod shop;
