//! A TCP proxy between a client and PostgreSQL or MariaDB whose faults are values with names.
//!
//! It reads the wire protocol's frames, so that it knows a COMMIT from a row that says
//! "commit", and the answer to it from the answers before it.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};

use super::{
    mysql_wire,
    wire::{Answers, ClientFrames, Requests, ServerFrames},
};

/// What goes wrong between client and server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nothing: bytes pass.
    None,
    /// New connections are closed at once; open ones go on.
    Refuse,
    /// Open connections are cut, new ones too.
    Cut,
    /// Bytes are taken from both sides and thrown away, and nothing is answered. A connection that
    /// lost bytes this way is cut when the fault ends.
    Blackhole,
    /// The same for connections that are open when it begins, as where a firewall has forgotten them;
    /// new ones pass. Counted as a blackhole.
    Forget,
    /// No byte passes either way until the fault ends; then all of them do.
    Hold,
    /// Each piece of the server's answers comes this much later.
    Delay(Duration),
    /// So many more bytes of the server pass on each connection, then it is cut.
    CutAfterServerBytes(u64),
    /// A COMMIT is kept from the server, and the connection is cut: nothing was committed.
    LoseCommit,
    /// A COMMIT reaches the server, the server's answer is awaited and kept from the client, and
    /// the connection is cut: it was committed, and the client cannot know.
    LoseCommitAnswer,
    /// The request of this number is kept from the server, and its connection cut. Numbers begin with 0
    /// at the switch to this fault, and run on over all connections, logins left out.
    LoseRequest(u64),
    /// The same, but the request reaches the server, and its answer is awaited and kept from the client.
    LoseAnswer(u64),
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Refuse => "refuse",
            Self::Cut => "cut",
            Self::Blackhole | Self::Forget => "blackhole",
            Self::Hold => "hold",
            Self::Delay(_) => "delay",
            Self::CutAfterServerBytes(_) => "cut after server bytes",
            Self::LoseCommit => "lose commit",
            Self::LoseCommitAnswer => "lose commit answer",
            Self::LoseRequest(_) => "lose request",
            Self::LoseAnswer(_) => "lose answer",
        }
    }
}

/// The proxy. It lives on the runtime that started it; dropping it cuts all connections.
pub struct FaultProxy {
    control: Arc<Control>,
    address: SocketAddr,
    target: SocketAddr,
    accepting: JoinHandle<()>,
}

/// Whose protocol is spoken.
#[derive(Clone, Copy)]
enum Spoken {
    Postgres,
    Mariadb,
}

impl Spoken {
    fn frames(self) -> (Box<dyn Requests>, Box<dyn Answers>) {
        match self {
            Self::Postgres => (
                Box::new(ClientFrames::default()),
                Box::new(ServerFrames::default()),
            ),
            Self::Mariadb => {
                let (client, server) = mysql_wire::conversation();
                (Box::new(client), Box::new(server))
            }
        }
    }
}

impl FaultProxy {
    /// Listens on a free port of 127.0.0.1 and forwards to the PostgreSQL at `127.0.0.1:port`, without a
    /// fault.
    pub async fn to(port: u16) -> Self {
        Self::speaking(Spoken::Postgres, port).await
    }

    /// The same before the server of a database's address, and the address [`through`](Self::through) it.
    pub async fn before(url: &str) -> (Self, String) {
        let spoken = match url.starts_with("mysql:") {
            true => Spoken::Mariadb,
            false => Spoken::Postgres,
        };
        let port = url.split_once("@127.0.0.1:").unwrap().1;
        let port = port.split_once('/').unwrap().0.parse().unwrap();
        let proxy = Self::speaking(spoken, port).await;
        let through = proxy.through(url);
        (proxy, through)
    }

    async fn speaking(spoken: Spoken, port: u16) -> Self {
        let target = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let control = Arc::new(Control {
            armed: watch::Sender::new(Armed {
                fault: Fault::None,
                once: false,
                generation: 0,
            }),
            asked: AtomicU64::new(0),
            fired: Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, (spoken, target), control.clone()));
        Self {
            control,
            address,
            target,
            accepting,
        }
    }

    /// The same database address, through this proxy.
    ///
    /// # Panics
    /// When `url` does not lead to this proxy's target.
    pub fn through(&self, url: &str) -> String {
        let (target, here) = (format!("@{}/", self.target), format!("@{}/", self.address));
        assert!(
            url.contains(&target),
            "{url} does not lead to {}",
            self.target
        );
        url.replace(&target, &here)
    }

    /// Switches to a fault until the next switch.
    pub fn set(&self, fault: Fault) {
        self.control.arm(fault, false);
    }

    /// Switches to a fault that ends itself when it has fired once, on one connection.
    ///
    /// # Panics
    /// For a fault that lasts: [`Fault::Hold`] and [`Fault::Blackhole`] end by a switch alone.
    pub fn once(&self, fault: Fault) {
        assert!(
            !matches!(fault, Fault::Hold | Fault::Blackhole | Fault::Forget),
            "{fault:?} lasts"
        );
        self.control.arm(fault, true);
    }

    /// How often faults of this kind fired, whatever their argument: connections for most, pieces
    /// for [`Fault::Delay`].
    pub fn fired(&self, fault: Fault) -> u64 {
        self.control.fired().get(fault.name()).copied().unwrap_or(0)
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        // The task owns the set of all connections, which end with it.
        self.accepting.abort();
    }
}

#[derive(Clone, Copy)]
struct Armed {
    fault: Fault,
    once: bool,
    /// Tells two uses of one fault apart.
    generation: u64,
}

struct Control {
    armed: watch::Sender<Armed>,
    /// How many requests were made since the switch.
    asked: AtomicU64,
    fired: Mutex<HashMap<&'static str, u64>>,
}

impl Control {
    fn arm(&self, fault: Fault, once: bool) {
        self.armed.send_modify(|armed| {
            self.asked.store(0, Ordering::Relaxed);
            *armed = Armed {
                fault,
                once,
                generation: armed.generation + 1,
            };
        });
    }

    /// Counts a fault that strikes, and ends it if it was to strike once. False if it has ended
    /// meanwhile: of two connections that race for one fault, one gets it.
    fn fire(&self, seen: Armed) -> bool {
        let mut live = false;
        self.armed.send_if_modified(|armed| {
            live = armed.generation == seen.generation;
            let ends = live && armed.once;
            if ends {
                *armed = Armed {
                    fault: Fault::None,
                    once: false,
                    generation: armed.generation + 1,
                };
            }
            ends
        });
        if live {
            *self.fired().entry(seen.fault.name()).or_default() += 1;
        }
        live
    }

    fn fired(&self) -> MutexGuard<'_, HashMap<&'static str, u64>> {
        self.fired.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(listener: TcpListener, target: (Spoken, SocketAddr), control: Arc<Control>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((client, _)) = accepted else { continue };
                let armed = *control.armed.borrow();
                let refused = matches!(armed.fault, Fault::Refuse | Fault::Cut);
                if !(refused && control.fire(armed)) {
                    connections.spawn(connect(client, target, control.clone()));
                }
            }
            // Ended connections leave the set, or a long run would gather them all.
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Both directions until one of them ends; then both sides are cut.
async fn connect(client: TcpStream, (spoken, target): (Spoken, SocketAddr), control: Arc<Control>) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_in, client_out) = client.into_split();
    let (server_in, server_out) = server.into_split();
    // Subscribed before anything is awaited, so that no switch is missed.
    let faults = control.armed.subscribe();
    let (asked, answered) = spoken.frames();
    let born = control.armed.borrow().generation;
    let link = Link {
        born,
        control,
        lose: watch::Sender::new(None),
    };
    // A write that waits for one side must not keep bytes of the other from passing.
    tokio::select! {
        _ = link.requests(faults.clone(), asked, client_in, server_out) => {}
        _ = link.answers(faults, answered, server_in, client_out) => {}
    }
}

/// One connection.
struct Link {
    control: Arc<Control>,
    /// The switch that it was opened after.
    born: u64,
    /// The answer to be lost: answers are kept back until so many have come to their end.
    lose: watch::Sender<Option<u64>>,
}

impl Link {
    /// What strikes this connection.
    fn armed(&self, faults: &mut watch::Receiver<Armed>) -> Armed {
        let armed = *faults.borrow_and_update();
        let fault = match armed.fault {
            Fault::Forget if self.born < armed.generation => Fault::Blackhole,
            Fault::Forget => Fault::None,
            fault => fault,
        };
        Armed { fault, ..armed }
    }

    /// Client to server. `Hold` and `Cut` are counted and carried out by [`answers`](Self::answers);
    /// here nothing passes meanwhile.
    async fn requests(
        &self,
        mut faults: watch::Receiver<Armed>,
        mut frames: Box<dyn Requests>,
        mut client: OwnedReadHalf,
        mut server: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut bytes_lost = false;
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let armed = self.armed(&mut faults);
            let paused = matches!(armed.fault, Fault::Hold | Fault::Cut);
            if bytes_lost && armed.fault != Fault::Blackhole {
                return Ok(());
            }
            let count = tokio::select! {
                biased;
                _ = faults.changed() => continue,
                count = client.read(&mut buffer), if !paused => count?,
            };
            let piece = buffer.get(..count).unwrap_or_default();
            if piece.is_empty() {
                return Ok(());
            }
            // The login is the first request of all.
            let before = frames.due().max(1);
            let commit = frames.feed(piece);
            let more = frames.due().saturating_sub(before);
            let first = self.control.asked.fetch_add(more, Ordering::Relaxed);
            let asked = first..first + more;
            match (armed.fault, commit) {
                (Fault::LoseRequest(n), _) if asked.contains(&n) && self.control.fire(armed) => {
                    return Ok(());
                }
                (Fault::LoseAnswer(n), _) if asked.contains(&n) && self.control.fire(armed) => {
                    self.lose.send_replace(Some(frames.due()));
                }
                (Fault::Blackhole, _) => {
                    bytes_lost = true;
                    continue;
                }
                (Fault::LoseCommit, Some(_)) if self.control.fire(armed) => return Ok(()),
                // Before the COMMIT leaves: its answer can be here before the next line runs.
                (Fault::LoseCommitAnswer, Some(ready)) if self.control.fire(armed) => {
                    self.lose.send_replace(Some(ready));
                }
                _ => {}
            }
            server.write_all(piece).await?;
        }
    }

    /// Server to client.
    async fn answers(
        &self,
        mut faults: watch::Receiver<Armed>,
        mut frames: Box<dyn Answers>,
        mut server: OwnedReadHalf,
        mut client: OwnedWriteHalf,
    ) -> io::Result<()> {
        let mut bytes_lost = false;
        let (mut counted, mut passed) = (None, 0);
        let mut buffer = vec![0; 16 * 1024];
        loop {
            let armed = self.armed(&mut faults);
            if counted != Some(armed.generation) {
                (counted, passed) = (Some(armed.generation), 0);
                let strikes = matches!(armed.fault, Fault::Cut | Fault::Hold | Fault::Blackhole);
                if strikes && self.control.fire(armed) && armed.fault == Fault::Cut {
                    return Ok(());
                }
            }
            if bytes_lost && armed.fault != Fault::Blackhole {
                return Ok(());
            }
            let count = tokio::select! {
                biased;
                _ = faults.changed() => continue,
                count = server.read(&mut buffer), if armed.fault != Fault::Hold => count?,
            };
            let mut piece = buffer.get(..count).unwrap_or_default();
            if piece.is_empty() {
                return Ok(());
            }
            let ready = frames.feed(piece);
            let lose = *self.lose.borrow();
            if let Some(last) = lose {
                if ready >= last {
                    return Ok(());
                }
                continue;
            }
            let mut cut = false;
            match armed.fault {
                Fault::Blackhole => {
                    bytes_lost = true;
                    continue;
                }
                Fault::Delay(delay) if self.control.fire(armed) => tokio::time::sleep(delay).await,
                Fault::CutAfterServerBytes(limit) => {
                    let left = usize::try_from(limit - passed).unwrap_or(usize::MAX);
                    if piece.len() >= left && self.control.fire(armed) {
                        (piece, cut) = (piece.get(..left).unwrap_or_default(), true);
                    }
                    passed = limit.min(passed + piece.len() as u64);
                }
                _ => {}
            }
            client.write_all(piece).await?;
            if cut {
                return Ok(());
            }
        }
    }
}

#[path = "tcp_proxy_tests.rs"]
mod tests;
