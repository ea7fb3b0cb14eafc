//! What a server sends, from the greeting to the last row: any bytes, over a Unix socket or TCP.
//!
//! The driver may panic, which a check turns into a verdict; so the target catches that as a check does. A panic of our own
//! code is found all the same.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Arc, Mutex, Once};
use std::thread;

use check::down;
use check::fuzzing::REASON_MAX;
use client::command_line::{Asked, Configured, Program, parse};
use client::{Limits, Session};
use rustix::net::{SendFlags, Shutdown, send, shutdown};
use tempfile::TempDir;

const PASSWORD: &str = "Hunter2Zq9";
const STATEMENTS: [&str; 2] = ["SELECT 1", "SELECT 2"];
/// Those of a check.
const LIMITS: Limits = Limits { connect: None, silence: None, packet: 16 * 1024 * 1024, rows: 1024 };

/// A digit, 0 to 3: plus 1 with a password, plus 2 over TCP. Then all that the server sends.
pub fn run(input: &[u8]) {
    let Some((b'0'..=b'3', sent)) = input.split_first().filter(|(_, sent)| is_within_reason(sent)) else { return };
    let (has_password, over_tcp) = (input[0] & 1 != 0, input[0] & 2 != 0);
    LAB.with(|lab| lab.ask(&lab.plans[usize::from(over_tcp)][usize::from(has_password)], sent));
}

/// Whether the driver gets by with the time and the memory of a test, and the server does not know the password itself.
fn is_within_reason(sent: &[u8]) -> bool {
    let knows_the_password = sent.windows(PASSWORD.len()).any(|part| part == PASSWORD.as_bytes());
    !asks_for_patience(sent) && !asks_for_memory(sent) && !knows_the_password
}

/// Whether a login with `parsec` would take long: a server may ask for 2^30 rounds of PBKDF2, which the driver works off.
/// In a check the timer ends that.
fn asks_for_patience(sent: &[u8]) -> bool {
    sent.windows(2).any(|pair| matches!(pair, [b'P', 2..=20]))
}

/// Whether a packet may announce columns that no memory holds. The driver makes room for as many as it is told, and to fail
/// in that ends the process, which a check answers from the handler of a signal. From 2^57 columns on it is a panic.
fn asks_for_memory(mut sent: &[u8]) -> bool {
    while let Some(([low, middle, high, _], rest)) = sent.split_first_chunk() {
        let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        if matches!(payload, [0xfe, _, _, _, _, _, _, _, 0..=1, ..]) {
            return true;
        }
        sent = rest;
    }
    false
}

thread_local! {
    static LAB: Lab = Lab::start();
    static IN_DRIVER: Cell<bool> = const { Cell::new(false) };
    /// Whether it was our code that panicked, and not the driver.
    static OURS: Cell<bool> = const { Cell::new(false) };
    /// Every place where the driver did.
    static PANICS: RefCell<BTreeSet<String>> = const { RefCell::new(BTreeSet::new()) };
}

/// A check of its own needs none.
#[derive(Debug, clap::Args)]
struct Options {}

/// The server, and how to reach it.
struct Lab {
    /// What the next connection gets.
    script: Arc<Mutex<Vec<u8>>>,
    /// Over the socket and over TCP, each without and with a password.
    plans: [[Configured<Options>; 2]; 2],
    _folder: TempDir,
}

impl Lab {
    fn start() -> Lab {
        leave_panics_of_the_driver_to_us();
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("socket");
        let script = Arc::new(Mutex::new(Vec::new()));
        let unix = UnixListener::bind(&socket).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        serve(&script, move || Ok(unix.accept()?.0.into()));
        serve(&script, move || Ok(tcp.accept()?.0.into()));

        let [without, with] = [("without.cnf", ""), ("with.cnf", PASSWORD)].map(|(name, password)| {
            let file = folder.path().join(name);
            fs::write(&file, format!("[client]\npassword={password}\n")).unwrap();
            fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
            format!("--defaults-file={}", file.display())
        });
        let endpoints = [format!("--socket={}", socket.display()), format!("--port={port}")];
        let plans = endpoints.map(|endpoint| [&without, &with].map(|file| plan(&[file, &endpoint])));
        Lab { script, plans, _folder: folder }
    }

    fn ask(&self, plan: &Configured<Options>, sent: &[u8]) {
        *self.script.lock().unwrap() = sent.to_vec();
        let ask = || {
            Session::open(&plan.target, &plan.account, &LIMITS, &())
                .map(|mut session| (session.family(), session.query_each(&STATEMENTS)))
        };
        IN_DRIVER.set(true);
        let asked = panic::catch_unwind(AssertUnwindSafe(ask));
        IN_DRIVER.set(false);
        let sets = match asked {
            Ok(Ok((_, sets))) => sets,
            Ok(Err(error)) => vec![Err(error)],
            Err(panic) if OURS.get() => panic::resume_unwind(panic),
            Err(_) => return,
        };
        assert!(sets.len() <= STATEMENTS.len());
        for set in sets {
            match set {
                Ok(rows) => assert!(rows.len() <= LIMITS.rows),
                Err(error) => is_presentable(&error.to_string()),
            }
        }
    }
}

fn plan(words: &[&str]) -> Configured<Options> {
    let line: Vec<_> = ["program"].iter().chain(words).map(OsString::from).collect();
    let program = Program { name: "program", groups: &["mysqlchk"], about: "", version: "1" };
    match parse(program, &line, &(), |_, _| ()) {
        Ok(Asked::Run(configured)) => configured,
        refused => panic!("{refused:?}"),
    }
}

/// What went wrong is told without the password, in a line that a load balancer can show.
fn is_presentable(words: &str) {
    let verdict = down(words);
    assert!(!words.is_empty() && !words.contains(PASSWORD), "{words}");
    assert!(verdict.short_reason().len() <= REASON_MAX);
    assert!(verdict.reason().bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
}

/// Accepts one connection after the other, sends the script and the end of the stream. It reads nothing; a connection is
/// closed when the next one comes, so that the end of none is a reset.
fn serve(script: &Arc<Mutex<Vec<u8>>>, mut accept: impl FnMut() -> io::Result<OwnedFd> + Send + 'static) {
    let script = Arc::clone(script);
    thread::spawn(move || {
        let mut last = None;
        loop {
            let stream = accept().unwrap();
            let script = std::mem::take(&mut *script.lock().unwrap());
            let mut rest = script.as_slice();
            // A client that had enough is not a failure.
            while let Ok(count @ 1..) = send(stream.as_fd(), rest, SendFlags::NOSIGNAL) {
                rest = &rest[count..];
            }
            let _ = shutdown(stream.as_fd(), Shutdown::Write);
            drop(last.replace(stream));
        }
    });
}

/// libFuzzer ends the process where a panic begins, and so it would end with the first one of the driver.
fn leave_panics_of_the_driver_to_us() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            if !IN_DRIVER.get() || place.contains("crates/") {
                OURS.set(true);
                return usual(panic);
            }
            if PANICS.with_borrow_mut(|panics| panics.insert(place)) {
                eprintln!("the driver panics, which a check turns into a verdict: {panic}");
            }
        }));
    });
}
