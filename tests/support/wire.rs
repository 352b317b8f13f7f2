//! As much of PostgreSQL's wire protocol as the fault proxy needs: where messages begin and end,
//! which of them run a COMMIT, and how often the server said that it is ready.

use std::collections::HashSet;

/// What a client sends, split into requests: what the server answers as one.
pub trait Requests: Send {
    /// Takes the next piece. If it completes a request that runs a COMMIT: the number of the answer to
    /// it, counted from the connection's first.
    fn feed(&mut self, piece: &[u8]) -> Option<u64>;

    /// How many answers are due for what was fed so far.
    fn due(&self) -> u64;
}

/// What a server sends.
pub trait Answers: Send {
    /// Takes the next piece; returns how many answers have come to their end so far.
    fn feed(&mut self, piece: &[u8]) -> u64;
}

/// Splits what a client sends. Messages may arrive in any pieces.
#[derive(Default)]
pub struct ClientFrames {
    rest: Vec<u8>,
    started: bool,
    /// How often the server owes a ReadyForQuery for what was sent so far.
    ready_due: u64,
    /// The names of prepared statements that are a COMMIT.
    commits: HashSet<Vec<u8>>,
}

impl Requests for ClientFrames {
    fn feed(&mut self, piece: &[u8]) -> Option<u64> {
        self.rest.extend_from_slice(piece);
        let mut commit = None;
        loop {
            let header = usize::from(self.started);
            let Some(length) = length_at(&self.rest, header) else {
                break;
            };
            if self.rest.len() < header + length {
                break;
            }
            let message: Vec<u8> = self.rest.drain(..header + length).collect();
            commit = commit.or(self.take(&message));
        }
        commit
    }

    fn due(&self) -> u64 {
        self.ready_due
    }
}

impl ClientFrames {
    fn take(&mut self, message: &[u8]) -> Option<u64> {
        if !self.started {
            // Protocol 3; the other codes ask for encryption or cancel, and are no start.
            self.started = message.get(4..6) == Some(&[0, 3]);
            self.ready_due += u64::from(self.started);
            return None;
        }
        let body = message.get(5..).unwrap_or_default();
        let mut texts = body.split(|byte| *byte == 0);
        match message.first()? {
            b'Q' => {
                self.ready_due += 1;
                says_commit(texts.next()?).then_some(self.ready_due)
            }
            b'S' | b'F' => {
                self.ready_due += 1;
                None
            }
            // Parse: a statement's name, its text.
            b'P' => {
                let (name, text) = (texts.next()?, texts.next()?);
                if says_commit(text) {
                    self.commits.insert(name.to_vec());
                } else {
                    self.commits.remove(name);
                }
                None
            }
            // Bind: a portal's name, a statement's name. The answer ends with that to the Sync
            // which follows.
            b'B' => self
                .commits
                .contains(texts.nth(1)?)
                .then_some(self.ready_due + 1),
            _ => None,
        }
    }
}

/// Splits what a server sends.
#[derive(Default)]
pub struct ServerFrames {
    rest: Vec<u8>,
    started: bool,
    ready: u64,
}

/// Each answer ends with a ReadyForQuery.
impl Answers for ServerFrames {
    fn feed(&mut self, piece: &[u8]) -> u64 {
        self.rest.extend_from_slice(piece);
        // "N" alone refuses encryption. A session's first message is never a notice, whose letter
        // is the same.
        while !self.started && self.rest.first() == Some(&b'N') {
            self.rest.remove(0);
        }
        while let Some(length) = length_at(&self.rest, 1) {
            if self.rest.len() < 1 + length {
                break;
            }
            self.started = true;
            self.ready += u64::from(self.rest.first() == Some(&b'Z'));
            self.rest.drain(..1 + length);
        }
        self.ready
    }
}

/// The length of a message, itself included, at this place.
fn length_at(bytes: &[u8], at: usize) -> Option<usize> {
    let length = u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?);
    // A length is at least its own four bytes; less would never end.
    Some(usize::try_from(length).ok()?.max(4))
}

/// Whether one of the statements in this text is a COMMIT.
pub fn says_commit(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_ascii_uppercase();
    text.trim_end_matches('\0').split(';').any(|statement| {
        let word = statement.split_whitespace().next();
        // `COMMIT PREPARED` and the savepoint's `RELEASE` end no transaction of this session.
        word == Some("COMMIT") && statement.split_whitespace().nth(1) != Some("PREPARED")
    })
}

mod tests {
    use super::*;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
        [&[kind], length.as_slice(), body].concat()
    }

    fn started() -> (ClientFrames, Vec<u8>) {
        let start = message(b'?', b"\0\x03\0\0user\0postgres\0\0");
        (ClientFrames::default(), start.get(1..).unwrap().to_vec())
    }

    #[test]
    fn a_commit_is_found_however_it_is_cut_into_pieces() {
        let parse = message(b'P', b"s1\0 commit\0\0\0");
        let bind = message(b'B', b"\0s1\0\0\0\0\0\0\0");
        let simple: &[Vec<u8>] = &[message(b'Q', b"BEGIN\0"), message(b'Q', b"Commit\0")];
        let prepared: &[Vec<u8>] = &[parse, message(b'S', b""), bind, message(b'S', b"")];
        for (messages, ready) in [(simple, 3), (prepared, 3)] {
            let (_, start) = started();
            let stream = [start, messages.concat()].concat();
            for size in [1, 2, 5, 7, stream.len()] {
                let mut frames = ClientFrames::default();
                let found: Vec<u64> = stream.chunks(size).filter_map(|p| frames.feed(p)).collect();
                assert_eq!(found, [ready], "in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_only_looks_like_a_commit_is_none() {
        let (mut frames, start) = started();
        frames.feed(&start);
        for text in [
            "INSERT INTO t VALUES ('COMMIT')",
            "COMMIT PREPARED 'x'",
            "committed",
            "",
        ] {
            assert_eq!(
                frames.feed(&message(b'Q', format!("{text}\0").as_bytes())),
                None,
                "{text}"
            );
        }
        assert_eq!(
            frames.feed(&message(b'Q', b"BEGIN; INSERT INTO t VALUES (1); COMMIT\0")),
            Some(6)
        );
    }

    #[test]
    fn the_server_is_ready_as_often_as_it_says() {
        let idle = message(b'Z', b"I");
        let stream = [
            b"N".to_vec(),
            message(b'R', b"\0\0\0\0"),
            idle.clone(),
            message(b'N', b"ZZZ"),
            idle,
        ]
        .concat();
        for size in [1, 3, stream.len()] {
            let mut frames = ServerFrames::default();
            let ready = stream.chunks(size).map(|piece| frames.feed(piece)).last();
            assert_eq!(ready, Some(2), "in pieces of {size}");
        }
    }
}
