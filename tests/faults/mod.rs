//! Lost answers, cancelled calls and broken connections, on real servers.

mod cancelled_begin;
mod cancelled_copy;
mod lost_commit;
