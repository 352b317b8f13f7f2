//! As much of MariaDB's wire protocol as the fault proxy needs: where packets begin and end, which
//! commands run a COMMIT, and how many of them the server has answered.
//!
//! How an answer ends depends on what was asked, and the server numbers prepared statements, so both
//! directions share what they know.

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::wire::{Answers, Requests, says_commit};

/// Both directions of one connection.
pub fn conversation() -> (ClientFrames, ServerFrames) {
    let shared = Arc::<Mutex<Shared>>::default();
    let client = ClientFrames {
        rest: Vec::new(),
        due: 1,
        shared: Arc::clone(&shared),
    };
    let server = ServerFrames {
        rest: Vec::new(),
        answered: 0,
        at: At::Login,
        shared,
    };
    (client, server)
}

#[derive(Default)]
struct Shared {
    /// What was asked and not answered yet.
    asked: VecDeque<Asked>,
    /// The server's numbers of prepared statements that are a COMMIT.
    commits: HashSet<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// To prepare a statement, which is a COMMIT or is none.
    Prepare { commit: bool },
    /// Anything else.
    Other,
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes the next whole packet out of `rest`: its number in the command or answer, and its body.
fn packet(rest: &mut Vec<u8>) -> Option<(u8, Vec<u8>)> {
    let &[a, b, c, number] = rest.get(..4)? else {
        return None;
    };
    let end = 4 + u32::from_le_bytes([a, b, c, 0]) as usize;
    let body = rest.get(4..end)?.to_vec();
    rest.drain(..end);
    Some((number, body))
}

/// Splits what a client sends. Packets may arrive in any pieces.
pub struct ClientFrames {
    rest: Vec<u8>,
    /// How many answers the server owes for what was sent so far, the one to the login first.
    due: u64,
    shared: Arc<Mutex<Shared>>,
}

impl Requests for ClientFrames {
    fn feed(&mut self, piece: &[u8]) -> Option<u64> {
        self.rest.extend_from_slice(piece);
        let mut commit = None;
        while let Some((number, body)) = packet(&mut self.rest) {
            // The login and long commands go on at higher numbers.
            if number == 0 {
                commit = commit.or(self.take(&body));
            }
        }
        commit
    }

    fn due(&self) -> u64 {
        self.due
    }
}

impl ClientFrames {
    fn take(&mut self, command: &[u8]) -> Option<u64> {
        let (kind, body) = command.split_first()?;
        let mut shared = lock(&self.shared);
        let (asked, commit) = match kind {
            // COM_QUIT, COM_STMT_SEND_LONG_DATA and COM_STMT_CLOSE have no answer.
            0x01 | 0x18 | 0x19 => return None,
            // COM_QUERY
            0x03 => (Asked::Other, says_commit(body)),
            // COM_STMT_PREPARE
            0x16 => {
                let commit = says_commit(body);
                (Asked::Prepare { commit }, false)
            }
            // COM_STMT_EXECUTE: the statement's number leads.
            0x17 => (Asked::Other, shared.commits.contains(&number_at(body, 0)?)),
            _ => (Asked::Other, false),
        };
        shared.asked.push_back(asked);
        self.due += 1;
        commit.then_some(self.due)
    }
}

/// Splits what a server sends.
pub struct ServerFrames {
    rest: Vec<u8>,
    answered: u64,
    at: At,
    shared: Arc<Mutex<Shared>>,
}

/// Which packet comes next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// One of those before the login is answered.
    Login,
    /// The first of an answer.
    Answer,
    /// So many columns of a result, then its rows.
    Columns(u64),
    /// The first after the columns: their end, where the client wants it said, or a row.
    FirstRow,
    Rows,
    /// So many packets that say what a prepared statement takes and answers.
    Prepared(u64),
}

/// In a status: another result follows.
const MORE: u16 = 0x0008;

impl Answers for ServerFrames {
    fn feed(&mut self, piece: &[u8]) -> u64 {
        self.rest.extend_from_slice(piece);
        while let Some((number, body)) = packet(&mut self.rest) {
            self.at = self.take(number, &body);
        }
        self.answered
    }
}

impl ServerFrames {
    fn take(&mut self, number: u8, body: &[u8]) -> At {
        let first = body.first().copied().unwrap_or_default();
        match self.at {
            // The greeting is number 0; what asks for more proof begins with other bytes.
            At::Login if number > 0 && matches!(first, 0x00 | 0xff) => self.end(),
            At::Login => At::Login,
            At::Answer => self.answer(first, body),
            At::Columns(0 | 1) => At::FirstRow,
            At::Columns(left) => At::Columns(left - 1),
            // Five bytes end the columns, more are the OK that ends the rows.
            At::FirstRow if first == 0xfe && body.len() == 5 => At::Rows,
            At::FirstRow | At::Rows => match first {
                0xff => self.end(),
                0xfe if body.len() == 5 => self.result(number_at_16(body, 3)),
                0xfe if body.len() < 0xff_ffff => self.result(status_of(body)),
                _ => At::Rows,
            },
            At::Prepared(0 | 1) => self.end(),
            At::Prepared(left) => At::Prepared(left - 1),
        }
    }

    fn answer(&mut self, first: u8, body: &[u8]) -> At {
        let asked = lock(&self.shared).asked.front().copied();
        match (first, asked) {
            (0xff, _) => self.end(),
            (0x00, Some(Asked::Prepare { commit })) => {
                if let (true, Some(statement)) = (commit, number_at(body, 1)) {
                    lock(&self.shared).commits.insert(statement);
                }
                // Columns, then parameters. Whether each list has an end of its own is the client's
                // choice; sqlx wants none.
                let said = u64::from(number_at_16(body, 5)) + u64::from(number_at_16(body, 7));
                match said {
                    0 => self.end(),
                    said => At::Prepared(said),
                }
            }
            (0x00, _) => self.result(status_of(body)),
            (0xfe, _) => self.end(),
            _ => At::Columns(count_at(body, 0).0),
        }
    }

    /// The end of one result, whose status says whether it is the answer's last.
    fn result(&mut self, status: u16) -> At {
        match status & MORE {
            0 => self.end(),
            _ => At::Answer,
        }
    }

    fn end(&mut self) -> At {
        if self.at != At::Login {
            lock(&self.shared).asked.pop_front();
        }
        self.answered += 1;
        At::Answer
    }
}

/// The status of an OK packet: a letter, rows changed, the last id, then it.
fn status_of(body: &[u8]) -> u16 {
    let (_, next) = count_at(body, 1);
    let (_, next) = count_at(body, next);
    number_at_16(body, next)
}

/// A number of one, three, four or nine bytes, and where the next thing is.
fn count_at(body: &[u8], at: usize) -> (u64, usize) {
    let long = |bytes: usize| {
        let digits = body.get(at + 1..at + 1 + bytes).unwrap_or_default();
        let number = digits.iter().rev();
        let number = number.fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        (number, at + 1 + bytes)
    };
    match body.get(at).copied().unwrap_or_default() {
        0xfc => long(2),
        0xfd => long(3),
        0xfe => long(8),
        short => (short.into(), at + 1),
    }
}

fn number_at(body: &[u8], at: usize) -> Option<u32> {
    let bytes = body.get(at..at + 4)?.try_into().ok()?;
    Some(u32::from_le_bytes(bytes))
}

fn number_at_16(body: &[u8], at: usize) -> u16 {
    match body.get(at..at + 2) {
        Some(&[low, high]) => u16::from_le_bytes([low, high]),
        _ => 0,
    }
}

mod tests {
    use super::*;

    fn packet(number: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        [&length[..3], &[number], body].concat()
    }

    fn command(kind: u8, body: &[u8]) -> Vec<u8> {
        packet(0, &[&[kind], body].concat())
    }

    fn ok(number: u8, status: u16) -> Vec<u8> {
        let [low, high] = status.to_le_bytes();
        packet(number, &[0, 0, 0, low, high, 0, 0])
    }

    /// What comes before the first command, either way.
    fn login() -> (Vec<u8>, Vec<u8>) {
        let greeting = packet(0, b"\x0a10.11.0-MariaDB\0...");
        let more = packet(2, b"\xfemysql_native_password\0");
        (packet(1, b"root"), [greeting, more, ok(4, 2)].concat())
    }

    #[test]
    fn a_commit_is_found_however_it_is_cut_into_pieces() {
        let (login, _) = login();
        let simple = [command(3, b"BEGIN"), command(3, b"Commit")].concat();
        let several = command(3, b"BEGIN; INSERT INTO t VALUES (1); COMMIT");
        for (commands, answer) in [(simple, 3), (several, 2)] {
            let stream = [login.clone(), commands].concat();
            for size in [1, 2, 5, 7, stream.len()] {
                let (mut client, _) = conversation();
                let found: Vec<u64> = stream.chunks(size).filter_map(|p| client.feed(p)).collect();
                assert_eq!(found, [answer], "in pieces of {size}");
                assert_eq!(client.due(), answer);
            }
        }
    }

    #[test]
    fn a_prepared_commit_is_found_by_the_number_that_the_server_gave_it() {
        let (mut client, mut server) = conversation();
        let (from_client, from_server) = login();
        client.feed(&from_client);
        server.feed(&from_server);
        for (text, number) in [("SELECT ?", 7_u32), ("commit", 8)] {
            assert_eq!(client.feed(&command(0x16, text.as_bytes())), None);
            let columns = u8::from(number == 7);
            let said = [
                [0].as_slice(),
                &number.to_le_bytes(),
                &[columns, 0, columns, 0, 0, 0, 0],
            ];
            let mut answer = packet(1, &said.concat());
            for more in 0..2 * columns {
                answer.extend(packet(2 + more, b"\x03def"));
            }
            server.feed(&answer);
        }
        // Login, two preparations.
        assert_eq!(server.feed(b""), 3);
        let run = |number: u32| {
            command(
                0x17,
                &[&number.to_le_bytes()[..], &[0, 1, 0, 0, 0]].concat(),
            )
        };
        assert_eq!(client.feed(&command(0x19, &[9, 0, 0, 0])), None);
        assert_eq!(client.feed(&run(7)), None);
        assert_eq!(client.feed(&run(8)), Some(5));
    }

    #[test]
    fn what_only_looks_like_a_commit_is_none() {
        let (mut client, _) = conversation();
        // A login that ends like a command, and the second packet of a long one.
        assert_eq!(client.feed(&packet(1, b"\x03COMMIT")), None);
        for text in ["INSERT INTO t VALUES ('COMMIT')", "committed", ""] {
            assert_eq!(client.feed(&command(3, text.as_bytes())), None, "{text}");
        }
        assert_eq!(client.feed(&command(0x16, b"COMMIT")), None);
    }

    #[test]
    fn an_answer_ends_where_its_last_result_does() {
        let column = |number| packet(number, b"\x03def");
        let row = |number| packet(number, b"\x011");
        let old_end = |number, status: u8| packet(number, &[0xfe, 0, 0, status, 0]);
        let new_end = |number| packet(number, &[0xfe, 0, 0, 2, 0, 0, 0]);
        let error = packet(1, b"\xff\x48\x04#HY000no");
        for (answer, what) in [
            ([ok(1, 2 | MORE), ok(2, 2)].concat(), "two statements"),
            (
                [
                    packet(1, &[1]),
                    column(2),
                    old_end(3, 2),
                    row(4),
                    old_end(5, 2),
                ]
                .concat(),
                "rows between two ends",
            ),
            (
                [packet(1, &[2]), column(2), column(3), row(4), new_end(5)].concat(),
                "rows and one end",
            ),
            ([packet(1, &[1]), column(2), new_end(3)].concat(), "no rows"),
            (
                [
                    packet(1, &[1]),
                    column(2),
                    old_end(3, 2),
                    old_end(4, 10),
                    ok(5, 2),
                ]
                .concat(),
                "no rows, and another statement",
            ),
            (error.clone(), "an error"),
            (
                [packet(1, &[1]), column(2), row(3), error].concat(),
                "rows, then an error",
            ),
        ] {
            let stream = [login().1, answer].concat();
            for size in [1, 3, stream.len()] {
                let (mut client, mut server) = conversation();
                client.feed(&command(3, b"SELECT"));
                let mut seen: Vec<u64> = stream.chunks(size).map(|p| server.feed(p)).collect();
                assert_eq!(seen.pop(), Some(2), "{what}, in pieces of {size}");
                if size == 1 {
                    assert_eq!(seen.pop(), Some(1), "{what} ended early");
                }
            }
        }
    }
}
