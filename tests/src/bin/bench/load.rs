//! The programs behind the real xinetd, asked by 1, 8 and 32 clients that never rest.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use lab::http::REQUEST;
use lab::server::Server;
use lab::shipped;
use lab::xinetd::{Services, Xinetd};

use crate::figures::{Figures, Series};
use crate::programs::{
    FLOOR_REPLICATION, FLOOR_STATUS, NOASK, Program, Programs, REPLICATION, SHARED, SHORTEST, STATUS,
};

/// How many clients ask at the same time.
pub(crate) const CLIENTS: [usize; 3] = [1, 8, 32];
/// For each of them how many turns a program gets, at 300 runs, and how long a turn is: as short as makes sense, since
/// only what runs close together runs on the same machine. Who has asked by the end of a turn is still waited for.
const TURNS: [(usize, Duration); 3] =
    [(27, Duration::from_millis(100)), (18, Duration::from_millis(150)), (9, Duration::from_millis(300))];
/// The programs that are asked, the slow one in every third round.
const ASKED: [(&str, usize); 7] =
    [(NOASK, 1), (FLOOR_STATUS, 1), (STATUS, 1), (SHARED, 1), (FLOOR_REPLICATION, 1), (REPLICATION, 1), (SHORTEST, 3)];
/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the clients of one program saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// The median of each round, in milliseconds.
    pub(crate) p50_ms: Series,
    /// Answers in a second.
    pub(crate) rate: Series,
    /// The times of all rounds: in one there are not enough of them for a hundredth.
    pub(crate) times_ms: Vec<f64>,
    /// All that was no whole answer.
    pub(crate) failures: usize,
}

/// By number of clients and program.
pub(crate) type Load = BTreeMap<(usize, &'static str), Seen>;

/// Asks all of them in turn.
pub(crate) fn measure(programs: &Programs, server: &Server, runs: usize) -> Load {
    let known = |name: &str| programs.list.iter().find(|program| program.name == name);
    let asked: Vec<(&Program, usize, Services)> = ASKED
        .into_iter()
        .filter_map(|(name, every)| known(name).map(|program| (program, every)))
        .zip(9300..)
        .map(|((program, every), port)| (program, every, service(program, server, port)))
        .collect();
    let _xinetd = Xinetd::start(&asked.iter().map(|(_, _, service)| service.clone()).collect::<Vec<_>>());
    let mut load = Load::new();
    for (clients, (rounds, turn)) in CLIENTS.into_iter().zip(TURNS) {
        // Round 0 is a warm-up.
        for round in 0..=(rounds * runs).div_ceil(300).max(3) {
            // Another one begins in each round.
            for place in 0..asked.len() {
                let (program, every, service) = &asked[(place + round) % asked.len()];
                if !round.is_multiple_of(*every) {
                    continue;
                }
                let begin = Instant::now();
                let (times, failures) = ask(service.address(&service_name(program)), clients, turn);
                let elapsed = begin.elapsed();
                if round > 0 {
                    let seen = load.entry((clients, program.name)).or_default();
                    seen.failures += failures;
                    seen.rate.insert(round, times.len() as f64 / elapsed.as_secs_f64());
                    let times_ms: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e3).collect();
                    seen.times_ms.extend(&times_ms);
                    if !times_ms.is_empty() {
                        seen.p50_ms.insert(round, Figures::of(times_ms).median());
                    }
                }
            }
        }
    }
    load
}

impl Seen {
    /// The slowest hundredth of all.
    pub(crate) fn p99_ms(&self) -> f64 {
        Figures::of(self.times_ms.iter().copied()).quantile(0.99)
    }
}

/// A service like the shipped one, without its limits: clients that never rest are what the limits are there against.
fn service(program: &Program, server: &Server, port: u16) -> Services {
    let name = &service_name(program);
    let shipped = shipped::services("mysqlchk", server);
    let (first, _) = shipped.text().split_once("\n}\n").unwrap();
    Services::new(first.replace("service mysqlchk-status", &format!("service {name}")) + "\n}\n")
        .set(name, "port", port)
        .set(name, "server", program.path.display())
        .set(name, "server_args", program.args.join(" "))
        .set(name, "cps", "100000 1")
        .set(name, "instances", "UNLIMITED")
        .set(name, "per_source", "UNLIMITED")
}

fn service_name(program: &Program) -> String {
    let letters = |letter: char| if letter.is_ascii_alphanumeric() { letter } else { '-' };
    program.name.chars().map(letters).collect()
}

/// How long each answer took of all that `clients` got in one turn, and how many asked in vain.
fn ask(address: SocketAddr, clients: usize, turn: Duration) -> (Vec<Duration>, usize) {
    let end = Instant::now() + turn;
    let client = move || {
        let mut times = Vec::new();
        let mut failures = 0;
        while Instant::now() < end {
            let begin = Instant::now();
            match ask_once(address) {
                Ok(true) => times.push(begin.elapsed()),
                Ok(false) | Err(_) => failures += 1,
            }
        }
        (times, failures)
    };
    let clients: Vec<_> = (0..clients).map(|_| thread::spawn(client)).collect();
    let seen = clients.into_iter().map(|client| client.join().unwrap());
    seen.fold((Vec::new(), 0), |(mut times, failures), (more, failed)| {
        times.extend(more);
        (times, failures + failed)
    })
}

/// Whether a whole answer came, up or down. That of a limit, which nobody made a check for, is none.
fn ask_once(address: SocketAddr) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    stream.write_all(REQUEST)?;
    let mut answer = Vec::with_capacity(1024);
    match stream.read_to_end(&mut answer) {
        // A shell check does not read the request, and its answer ends in a reset.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        other => drop(other?),
    }
    let busy = b"HTTP/1.1 503 too many";
    Ok(answer.starts_with(b"HTTP/1.1 ") && answer.ends_with(b"\n") && !answer.starts_with(busy))
}
