//! `--share` and a real server: one check asks and the others get its answer, no answer is older than the limit or of
//! another question, and whatever is wrong with the shared state costs nobody a verdict.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirEntryExt, FileExt, PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use lab::program::{Check, Outcome, binary};
use lab::scratch::Scratch;
use lab::server::{PORT, Server};
use lab::{machine, user, wait};
use mysql::prelude::Queryable;
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, fcntl_getfl, fcntl_setfl, flock, mknodat};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = "mysqlchk-status";
const UP: &str = "up: the server answers, read_only is OFF";
const READ_ONLY: &str = "down: read_only is ON, not OFF";

/// For what takes a moment.
const BOUND: Duration = Duration::from_secs(60);
/// The default of `--timeout`.
const BUDGET: Duration = Duration::from_millis(900);
/// How much later than its budget an answer may be when other tests run beside it. `xinetd.rs` has the machine to itself
/// and holds a hundred answers to 50 ms.
const LATE: Duration = Duration::from_millis(200);

// ---------------------------------------------------------------------------------------------------------------------
// The stage

/// A server, and a directory for `--share-dir` as it is installed: mode 0700, owned by the account of the checks.
struct Stage {
    server: Server,
    scratch: Scratch,
    dir: PathBuf,
}

impl Stage {
    fn start() -> Self {
        Self::start_with(&[])
    }

    /// A server that takes this long for whatever a check asks.
    fn start_slow(seconds: f32) -> Self {
        Self::start_with(&[&format!("init_connect='DO SLEEP({seconds})'")])
    }

    fn start_with(lines: &[&str]) -> Self {
        let (server, scratch) = (Server::start_with(lines), Scratch::new("share"));
        let dir = private(&scratch, "dir");
        Self { server, scratch, dir }
    }

    /// A check in the JSON form, with time enough for a busy machine. A later argument wins over an earlier one.
    fn check(&self, limit: &str, more: &[&str]) -> Check {
        Check::new(PROGRAM).args(self.arguments(limit)).args(more)
    }

    fn arguments(&self, limit: &str) -> Vec<String> {
        vec![
            format!("--socket={}", self.server.socket().display()),
            format!("--user={}", user::unprivileged().name),
            format!("--share={limit}"),
            format!("--share-dir={}", self.dir.display()),
            "--timeout=10s".into(),
            "--format=json".into(),
        ]
    }

    #[track_caller]
    fn ask(&self, limit: &str, more: &[&str]) -> Answer {
        Answer::of(&self.check(limit, more).run())
    }

    /// `count` checks that start together.
    fn ask_together(&self, count: usize, limit: &str, more: &[&str]) -> Vec<Answer> {
        together(count, || self.check(limit, more)).iter().map(Answer::of).collect()
    }

    /// A check that runs on while the test does something to it.
    fn begin(&self, limit: &str, more: &[&str]) -> Child {
        let mut command = Command::new(binary(PROGRAM));
        command.args(self.arguments(limit)).args(more).env_clear().current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        user::drop_to_unprivileged(&mut command).spawn().unwrap()
    }

    /// How many connections the server got meanwhile.
    fn connections_during(&self, act: impl FnOnce()) -> u64 {
        let before = self.server.counter("Connections");
        act();
        // The second question is a connection, too.
        self.server.counter("Connections") - before - 1
    }

    /// The one file of the directory.
    #[track_caller]
    fn state(&self) -> PathBuf {
        only_file_of(&self.dir)
    }

    /// Who asks now, and how many wait for that. Source: proc_locks(5).
    fn holder_and_waiters(&self) -> (Option<Pid>, usize) {
        let Some(file) = fs::read_dir(&self.dir).unwrap().next() else { return (None, 0) };
        let inode = format!(":{}", file.unwrap().ino());
        let locks = fs::read_to_string("/proc/locks").unwrap();
        let of_file = locks.lines().filter(|line| line.split(' ').any(|word| word.ends_with(&inode)));
        let (waiting, holding): (Vec<_>, Vec<_>) = of_file.partition(|line| line.contains("->"));
        let holder = holding.first().and_then(|line| line.split_ascii_whitespace().nth(4));
        (holder.and_then(|pid| Pid::from_raw(pid.parse().ok()?)), waiting.len())
    }

    /// Looks every few milliseconds until a check asks for itself; that one and when the last shared answer was wanted.
    #[track_caller]
    fn until_asked(&self, limit: &str, more: &[&str], shared: &str) -> (Answer, Option<Instant>) {
        let mut wanted = None;
        let asked = wait::until_some("an answer of its own", BOUND, || {
            let begin = Instant::now();
            let answer = self.ask(limit, more);
            if answer.share == "shared" {
                assert_eq!(answer.verdict, shared);
                wanted = Some(begin);
            }
            (answer.share != "shared").then_some(answer)
        });
        (asked, wanted)
    }
}

/// What the JSON form says.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    /// `up: ...`, `down: ...`
    verdict: String,
    share: String,
    facts: String,
    elapsed: Duration,
}

impl Answer {
    #[track_caller]
    fn of(outcome: &Outcome) -> Self {
        let between = |from: &str, to: &str| {
            let rest = outcome.stdout.split_once(from).unwrap_or_else(|| panic!("no {from} in {outcome:?}")).1;
            rest.split_once(to).unwrap().0.to_owned()
        };
        let text = |name: &str| between(&format!("\"{name}\":\""), "\"");
        let code = if text("verdict") == "up" { 0 } else { 1 };
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{outcome:?}");
        Self {
            verdict: format!("{}: {}", text("verdict"), text("reason")),
            share: text("share"),
            facts: between("\"facts\":", ",\"misconfigured\""),
            elapsed: outcome.elapsed,
        }
    }

    fn words(&self) -> (&str, &str) {
        (&self.verdict, &self.share)
    }
}

/// How many of the answers came from where.
fn count(answers: &[Answer], share: &str) -> usize {
    answers.iter().filter(|answer| answer.share == share).count()
}

/// Runs as many checks at the same time.
fn together(count: usize, check: impl Fn() -> Check + Sync) -> Vec<Outcome> {
    let start = Barrier::new(count);
    let one = || {
        let check = check();
        start.wait();
        check.run()
    };
    thread::scope(|scope| {
        let runs: Vec<_> = (0..count).map(|_| scope.spawn(one)).collect();
        runs.into_iter().map(|run| run.join().unwrap()).collect()
    })
}

fn private(scratch: &Scratch, name: &str) -> PathBuf {
    let dir = scratch.dir(name);
    chmod(&dir, 0o700);
    dir
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn only_file_of(dir: &Path) -> PathBuf {
    let files: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// The content of a file, taken apart: two clocks, and what was said.
#[derive(Debug, Clone)]
struct Record {
    monotonic_ns: u64,
    wall_ns: u64,
    text: String,
}

impl Record {
    #[track_caller]
    fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let field = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
        let text = &bytes[24..24 + usize::try_from(field(16)).unwrap()];
        Self { monotonic_ns: field(0), wall_ns: field(8), text: String::from_utf8(text.to_vec()).unwrap() }
    }

    fn bytes(&self) -> Vec<u8> {
        let fields = [self.monotonic_ns, self.wall_ns, self.text.len() as u64];
        fields.iter().flat_map(|field| field.to_ne_bytes()).chain(self.text.bytes()).collect()
    }

    /// The same question, asked at the same time, with an answer that no server gave.
    fn lie(&self) -> Self {
        let (key, rest) = self.text.split_once('\n').unwrap();
        let (_, facts) = rest.split_once('\n').unwrap();
        Self { text: format!("{key}\ndown: a lie\n{facts}"), ..self.clone() }
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// One flight

/// The server takes half a second, so that all come while the first one asks.
#[test]
fn checks_that_come_together_make_one_connection_and_give_one_answer() {
    let _machine = machine::share();
    let stage = Stage::start_slow(0.5);
    let mut answers = Vec::new();
    assert_eq!(stage.connections_during(|| answers = stage.ask_together(20, "10s", &[])), 1);
    assert_eq!((count(&answers, "asked"), count(&answers, "shared")), (1, 19), "{answers:?}");
    for answer in &answers {
        assert_eq!((&*answer.verdict, &answer.facts), (UP, &answers[0].facts));
    }
    assert!(answers[0].facts.contains(r#""read_only":"0""#), "{answers:?}");
}

#[test]
fn without_the_option_each_check_asks() {
    let _machine = machine::share();
    let stage = Stage::start();
    let socket = format!("--socket={}", stage.server.socket().display());
    let account = format!("--user={}", user::unprivileged().name);
    let check = || Check::new(PROGRAM).args([&*socket, &account, "--timeout=10s", "--format=json"]);
    let made = stage.connections_during(|| {
        for outcome in together(5, check) {
            assert_eq!(Answer::of(&outcome).words(), (UP, "off"));
        }
    });
    assert_eq!(made, 5);
}

#[test]
fn within_the_limit_the_answer_is_the_old_one_and_after_it_the_new_one() {
    let _machine = machine::share();
    let (stage, limit) = (Stage::start(), Duration::from_secs(2));
    let rule = ["--require-writable"];
    let begin = Instant::now();
    let first = stage.ask("2s", &rule);
    let end = Instant::now();
    assert_eq!(first.words(), (UP, "asked"));
    stage.server.sql("SET GLOBAL read_only=ON");
    assert_eq!(stage.ask("2s", &rule).words(), (UP, "shared"));
    let (next, last_shared) = stage.until_asked("2s", &rule, UP);
    assert_eq!(next.words(), (READ_ONLY, "asked"));
    assert!(next.facts.contains(r#""read_only":"1""#), "{next:?}");
    assert!(begin.elapsed() >= limit, "asked again after {:?}", begin.elapsed());
    let wanted = last_shared.unwrap().duration_since(end);
    assert!(wanted < limit, "shared {wanted:?} after the answer");
    // What is shared now is the new answer, with its facts.
    let shared = stage.ask("2s", &rule);
    assert_eq!((shared.words(), &shared.facts), ((READ_ONLY, "shared"), &next.facts));
}

/// An answer that took long is old when it comes: the server's state is that of the question.
#[test]
fn the_age_of_an_answer_counts_from_its_question() {
    let _machine = machine::share();
    let stage = Stage::start_slow(0.8);
    let first = stage.ask("1200ms", &[]);
    let asked_at_the_latest = Instant::now().checked_sub(Duration::from_millis(800)).unwrap();
    assert_eq!(first.words(), (UP, "asked"));
    let (next, last_shared) = stage.until_asked("1200ms", &[], UP);
    assert_eq!(next.words(), (UP, "asked"));
    let age = last_shared.map(|wanted| wanted.duration_since(asked_at_the_latest));
    assert!(age.is_some_and(|age| age < Duration::from_millis(1200)), "shared at an age of {age:?}");
}

/// Whoever waited has no time left to ask such a server itself: what it waited for is its answer, however long it took.
#[test]
fn a_server_that_takes_longer_than_the_limit_is_up_for_all_who_wait() {
    let _machine = machine::share();
    let stage = Stage::start_slow(0.6);
    let mut answers = Vec::new();
    let made = stage.connections_during(|| answers = stage.ask_together(8, "100ms", &["--timeout=1500ms"]));
    assert!(answers.iter().all(|answer| answer.verdict == UP), "{answers:?}");
    assert_eq!((made, count(&answers, "asked"), count(&answers, "shared")), (1, 1, 7), "{answers:?}");
    // Whoever comes later did not wait, and the answer is too old.
    assert_eq!(stage.until_asked("100ms", &["--timeout=1500ms"], UP).0.words(), (UP, "asked"));
}

/// What one look gave up on says nothing of the server a moment later: one that comes later asks for itself.
#[test]
fn that_there_was_no_answer_is_not_the_answer_of_a_later_look() {
    let _machine = machine::share();
    let stage = Stage::start();
    let more = ["--timeout=700ms"];
    stage.server.freeze();
    let late = "down: no verdict within 700ms (while logging in)";
    assert_eq!(stage.ask("60s", &more).verdict, late);
    assert_eq!(stage.ask("60s", &more).verdict, late);
    stage.server.thaw();
    assert_eq!(stage.ask("60s", &more).words(), (UP, "asked"));
    assert_eq!(stage.ask("60s", &more).words(), (UP, "shared"));
}

/// Those who waited for it have no time left to ask for themselves, and learn why.
#[test]
fn that_there_was_no_answer_is_shared_with_those_who_waited() {
    let _machine = machine::share();
    let stage = Stage::start();
    let more = ["--timeout=8s"];
    let made = stage.connections_during(|| {
        stage.server.freeze();
        thread::scope(|scope| {
            let first = scope.spawn(|| stage.ask("60s", &more));
            wait::until("a check asks", BOUND, || stage.holder_and_waiters().0.is_some());
            // Not at the same moment: they need a moment to read what it left.
            wait::dawdle(Duration::from_millis(500));
            let others = stage.ask_together(5, "60s", &more);
            let late = "down: no verdict within 8s (while logging in)";
            assert_eq!(first.join().unwrap().words(), (late, "off"));
            for other in &others {
                assert_eq!(other.words(), (late, "shared"), "{others:?}");
            }
        });
        stage.server.thaw();
    });
    assert_eq!(made, 1);
}

#[test]
fn an_answer_is_never_shared_across_questions() {
    let _machine = machine::share();
    let stage = Stage::start();
    let link = stage.scratch.join("other.sock");
    symlink(stage.server.socket(), &link).unwrap();
    let (empty, also_empty) = (stage.scratch.file("a.cnf", ""), stage.scratch.file("b.cnf", ""));
    let option = |name: &str, value: &dyn AsRef<Path>| format!("--{name}={}", value.as_ref().display());
    let host = format!("--host={}", stage.server.ip());
    let other_socket = option("socket", &link);
    let (empty, also_empty) = (option("defaults-file", &empty), option("defaults-file", &also_empty));
    let denied = "down: cannot log in: access denied (1045)";
    let questions: &[(&str, &[&str], &str)] = &[
        (PROGRAM, &[], UP),
        (PROGRAM, &["--require-writable"], UP),
        (PROGRAM, &["--require-read-only"], "down: read_only is OFF, not ON"),
        (PROGRAM, &["--user=nopriv"], denied),
        (PROGRAM, &["--user=mysqlchk"], "down: cannot log in: access denied (1698)"),
        (PROGRAM, &[&other_socket], UP),
        (PROGRAM, &["--socket=", &host], denied),
        (PROGRAM, &["--socket=", &host, "--user=nopriv"], denied),
        (PROGRAM, &["--timeout=11s"], UP),
        (PROGRAM, &["--share=61s"], UP),
        (PROGRAM, &[&empty], UP),
        (PROGRAM, &[&also_empty], UP),
        ("mysqlchk-replication", &[], "down: no replication is configured"),
        ("mysqlchk-replication", &["--if-not-replica=up"], "up: no replication is configured"),
        ("mysqlchk-replication", &["--if-not-replica=up", "--max-lag=1s"], "up: no replication is configured"),
        ("galera-chk", &[], "down: wsrep_on is OFF: not a Galera node"),
        ("galera-chk", &["--available-when-readonly"], "down: wsrep_on is OFF: not a Galera node"),
    ];
    let ask_all = |share: &str| {
        for (program, more, verdict) in questions {
            let answer = Answer::of(&Check::new(program).args(stage.arguments("60s")).args(*more).run());
            assert_eq!(answer.words(), (*verdict, share), "{program} {more:?}");
        }
    };
    let questions_asked = questions.len() as u64;
    assert_eq!(stage.connections_during(|| ask_all("asked")), questions_asked);
    assert_eq!(stage.connections_during(|| ask_all("shared")), 0);
}

/// The holder stays until its client closes, which may take as long as its budget: its turn ends with its answer.
#[test]
fn a_client_that_lingers_does_not_hold_the_next_check() {
    let _machine = machine::share();
    let stage = Stage::start();
    let (mut client, socket) = UnixStream::pair().unwrap();
    let mut command = Command::new(binary(PROGRAM));
    command.args(stage.arguments("60s")).arg("--format=http").env_clear().current_dir("/");
    command.stdin(OwnedFd::from(socket.try_clone().unwrap())).stdout(OwnedFd::from(socket)).stderr(Stdio::null());
    let mut holder = user::drop_to_unprivileged(&mut command).spawn().unwrap();
    // It has our descriptors, too.
    drop(command);
    client.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let mut response = String::new();
    client.read_to_string(&mut response).unwrap();
    assert!(response.ends_with(&format!("\r\n\r\n{UP}\n")), "{response:?}");
    let next = stage.ask("60s", &[]);
    assert_eq!(next.words(), (UP, "shared"));
    assert!(holder.try_wait().unwrap().is_none(), "the holder did not wait for its client");
    assert!(next.elapsed < Duration::from_secs(5), "{next:?}");
    drop(client);
    holder.wait().unwrap();
}

/// `?port=` is part of the question; the form of the answer, a quiet one and HEAD are not.
#[test]
fn an_answer_serves_every_form_and_no_other_instance() {
    let _machine = machine::share();
    let stage = Stage::start();
    let form = |more: &[&str], request: &str| stage.check("60s", more).stdin(request).run();
    let made = stage.connections_during(|| {
        assert_eq!(stage.ask("60s", &[]).words(), (UP, "asked"));
        let http = form(&["--format=http"], "GET / HTTP/1.1\r\n\r\n");
        assert_eq!((http.reply().status(), http.reply().body()), (200, format!("{UP}\n")));
        let head = form(&["--format=http"], "HEAD / HTTP/1.1\r\n\r\n");
        assert_eq!((head.reply().status(), head.reply().body()), (200, String::new()));
        assert_eq!(form(&["--format=text"], "").stdout, format!("{PROGRAM}: {UP}\n"));
        assert_eq!(form(&["--format=text", "--quiet"], "").stdout, "");
    });
    assert_eq!(made, 1);
    let other = form(&["--format=http", "--allow-port=1"], "GET /?port=1 HTTP/1.1\r\n\r\n");
    assert_eq!(other.reply().body(), "down: cannot connect to 127.0.0.1:1: connection refused\n");
    let port = PORT.to_string();
    let refused = form(&["--format=http", "--allow-port=1"], &format!("GET /?port={port} HTTP/1.1\r\n\r\n"));
    let reason = format!("down: port {port} is not allowed: start with `--allow-port {port}`\n");
    assert_eq!(refused.reply().body(), reason);
}

/// The longest facts that a check can have: a replica with as many channels as `MySQL` allows, with long names.
#[test]
fn an_answer_with_many_facts_is_shared_whole() {
    let _machine = machine::share();
    let stage = Stage::start();
    let mut admin = stage.server.session();
    for number in 0..256 {
        let name = format!("{number:x<60}");
        let change = format!("CHANGE MASTER '{name}' TO MASTER_HOST='127.0.0.1', MASTER_USER='repl'");
        admin.query_drop(change).unwrap();
    }
    let ask = || Answer::of(&Check::new("mysqlchk-replication").args(stage.arguments("60s")).run());
    let (asked, shared) = (ask(), ask());
    assert_eq!((&*asked.share, &*shared.share), ("asked", "shared"));
    assert_eq!((shared.verdict, &shared.facts), (asked.verdict, &asked.facts));
    assert_eq!(asked.facts.matches("\"lag_s\"").count(), 256);
}

// ---------------------------------------------------------------------------------------------------------------------
// A server that hangs, a holder that dies

#[test]
fn on_a_frozen_server_one_connection_hangs_at_a_time_and_everybody_is_told_in_time() {
    let _machine = machine::have();
    let stage = Stage::start();
    let (more, request) = (["--timeout=900ms", "--format=http"], "OPTIONS / HTTP/1.0\r\n\r\n");
    let check = || stage.check("2s", &more).stdin(request);
    let mut outcomes = Vec::new();
    let hung = stage.connections_during(|| {
        stage.server.freeze();
        outcomes = together(20, check);
        outcomes.extend(together(20, check));
        stage.server.thaw();
    });
    // One flight for each twenty.
    assert_eq!(hung, 2);
    for outcome in &outcomes {
        assert_eq!((outcome.reply().status(), outcome.code), (503, Some(1)), "{outcome:?}");
        assert!(outcome.elapsed <= BUDGET + LATE, "{:?}", outcome.elapsed);
    }
    assert_eq!(stage.ask("2s", &["--timeout=900ms"]).words(), (UP, "asked"));
}

/// Writes into a record until when the holder of the lock is busy, by the monotonic clock.
fn note_busy(state: &Path, until_ns: u64) {
    File::options().write(true).open(state).unwrap().write_all_at(&until_ns.to_ne_bytes(), 24 + 160 * 1024).unwrap();
}

#[test]
fn a_check_waits_for_a_shared_answer_no_longer_than_for_the_server() {
    let _machine = machine::have();
    let stage = Stage::start();
    let more = ["--timeout=300ms"];
    assert_eq!(stage.ask("1ms", &more).words(), (UP, "asked"));
    let state = File::open(stage.state()).unwrap();
    flock(&state, FlockOperation::LockExclusive).unwrap();
    note_busy(&stage.state(), u64::MAX);
    let made = stage.connections_during(|| {
        for answer in stage.ask_together(5, "1ms", &more) {
            let wanted = "down: no verdict within 300ms (while waiting for a shared answer)";
            assert_eq!(answer.verdict, wanted);
            let budget = Duration::from_millis(300);
            assert!((budget..=budget + LATE).contains(&answer.elapsed), "{answer:?}");
        }
    });
    assert_eq!(made, 0);
    flock(&state, FlockOperation::Unlock).unwrap();
    // Who did not get its turn has nothing to tell.
    assert_eq!(stage.ask("1ms", &more).words(), (UP, "asked"));
}

/// As one does that is stopped by a signal, a debugger or a frozen cgroup: it keeps the lock and never answers.
#[test]
fn a_holder_that_has_not_answered_in_its_time_holds_nobody() {
    let _machine = machine::share();
    let stage = Stage::start();
    let more = ["--timeout=4s"];
    assert_eq!(stage.ask("1ms", &more).words(), (UP, "asked"));
    let state = File::open(stage.state()).unwrap();
    flock(&state, FlockOperation::LockExclusive).unwrap();
    note_busy(&stage.state(), 1);
    for answer in stage.ask_together(5, "1ms", &more) {
        assert_eq!(answer.words(), (UP, "the check that asks does not answer"));
        // A quarter of the budget, for one that has only just begun has noted nothing yet.
        assert!((Duration::from_secs(1)..Duration::from_secs(3)).contains(&answer.elapsed), "{answer:?}");
    }
    flock(&state, FlockOperation::Unlock).unwrap();
    assert_eq!(stage.ask("60s", &more).words(), (UP, "asked"));
}

#[test]
fn a_holder_that_is_stopped_costs_one_bad_answer_at_most() {
    let _machine = machine::share();
    let stage = Stage::start();
    let more = ["--timeout=2s"];
    stage.server.freeze();
    let mut holder = stage.begin("30s", &more);
    let process = Pid::from_child(&holder);
    wait::until("the holder has the lock", BOUND, || stage.holder_and_waiters() == (Some(process), 0));
    kill_process(process, Signal::STOP).unwrap();
    stage.server.thaw();
    let answers: Vec<Answer> = (0..4).map(|_| stage.ask("30s", &more)).collect();
    // The first one comes so soon after the holder that it may have no time left when that one's is over.
    let waiting = "down: no verdict within 2s (while waiting for a shared answer)";
    assert!([UP, waiting].contains(&&*answers[0].verdict), "{answers:?}");
    for answer in &answers[1..] {
        assert_eq!(answer.words(), (UP, "the check that asks does not answer"), "{answers:?}");
    }
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert_eq!(stage.ask("30s", &more).words(), (UP, "asked"));
}

/// Its client reads nothing, so that not even its last word gets out.
#[test]
fn a_holder_whose_client_takes_nothing_lets_the_lock_go() {
    let _machine = machine::share();
    let stage = Stage::start();
    let (_reader, mut writer) = io::pipe().unwrap();
    let flags = fcntl_getfl(&writer).unwrap();
    fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(b"x").is_ok() {}
    fcntl_setfl(&writer, flags).unwrap();
    stage.server.freeze();
    let mut command = Command::new(binary(PROGRAM));
    command.args(stage.arguments("30s")).arg("--timeout=500ms").env_clear().current_dir("/");
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::null());
    let mut holder = user::drop_to_unprivileged(&mut command).spawn().unwrap();
    let ended = wait::until_some("the end of the holder", BOUND, || holder.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
    stage.server.thaw();
    let next = stage.ask("30s", &["--timeout=500ms"]);
    assert_eq!(next.words(), (UP, "asked"));
}

#[test]
fn a_holder_that_is_killed_while_it_asks_leaves_its_turn_to_the_next() {
    let _machine = machine::share();
    let stage = Stage::start();
    stage.server.freeze();
    let mut holder = stage.begin("30s", &[]);
    let process = Pid::from_child(&holder);
    wait::until("the holder has the lock", BOUND, || stage.holder_and_waiters() == (Some(process), 0));
    holder.kill().unwrap();
    holder.wait().unwrap();
    stage.server.thaw();
    let next = stage.ask("30s", &[]);
    assert_eq!(next.words(), (UP, "asked"));
    assert!(next.elapsed < Duration::from_secs(5), "{next:?}");
    assert_eq!(stage.ask("30s", &[]).words(), (UP, "shared"));
}

#[test]
fn those_who_wait_behind_killed_holders_get_the_right_answer_in_their_own_time() {
    let _machine = machine::share();
    let stage = Stage::start();
    stage.server.freeze();
    let outcomes = thread::scope(|scope| {
        let checks: Vec<_> = (0..10).map(|_| scope.spawn(|| stage.check("30s", &[]).run())).collect();
        let mut killed = Vec::new();
        for left in [9, 8, 7] {
            let what = format!("a new holder with {left} behind it");
            let holder = wait::until_some(&what, BOUND, || match stage.holder_and_waiters() {
                (Some(holder), waiting) if waiting == left && !killed.contains(&holder) => Some(holder),
                _ => None,
            });
            kill_process(holder, Signal::KILL).unwrap();
            killed.push(holder);
        }
        wait::until("the next holder", BOUND, || stage.holder_and_waiters().1 == 6);
        stage.server.thaw();
        checks.into_iter().map(|check| check.join().unwrap()).collect::<Vec<_>>()
    });
    let (dead, alive): (Vec<_>, Vec<_>) = outcomes.iter().partition(|outcome| outcome.code.is_none());
    let answers: Vec<_> = alive.into_iter().map(Answer::of).collect();
    assert_eq!((dead.len(), count(&answers, "asked"), count(&answers, "shared")), (3, 1, 6), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.verdict == UP), "{answers:?}");
    assert!(answers.iter().all(|answer| answer.elapsed < Duration::from_secs(10)), "{answers:?}");
}

/// The server changes sides every time, so that an answer left over from before would be the wrong one.
#[test]
fn a_check_may_be_killed_at_any_point_of_its_life() {
    const ROUNDS: u32 = 200;
    let _machine = machine::share();
    let stage = Stage::start();
    let mut admin = stage.server.session();
    let mut killed = 0;
    for round in 0..ROUNDS {
        let read_only = round % 2 == 1;
        admin.query_drop(format!("SET GLOBAL read_only={read_only}")).unwrap();
        let verdict = if read_only { "up: the server answers, read_only is ON" } else { UP };
        let mut victim = stage.begin("1ms", &[]);
        // From the exec to after the answer: a check lives for one or two milliseconds.
        wait::dawdle(Duration::from_micros(15) * round);
        victim.kill().unwrap();
        killed += u32::from(victim.wait().unwrap().code().is_none());
        let next = stage.ask("1ms", &[]);
        assert!(next.verdict == verdict && next.elapsed < BUDGET, "round {round}: {next:?}, not {verdict}");
    }
    assert!((ROUNDS / 10..ROUNDS).contains(&killed), "{killed} of {ROUNDS} were killed: the delays are wrong");
}

// ---------------------------------------------------------------------------------------------------------------------
// State that cannot be used

/// Asks twice: both times the verdict is right, and the JSON form says why nothing was shared.
#[track_caller]
fn assert_not_shared(stage: &Stage, case: &str, dir: &Path, why: &str) {
    let more = format!("--share-dir={}", dir.display());
    for verdict in [UP, "up: the server answers, read_only is ON"] {
        stage.server.sql(&format!("SET GLOBAL read_only={}", verdict != UP));
        let answer = stage.ask("60s", &[&more]);
        assert_eq!(answer.words(), (verdict, why), "{case}");
        assert!(answer.facts.contains("\"read_only\""), "{case}: {answer:?}");
    }
    stage.server.sql("SET GLOBAL read_only=OFF");
}

#[test]
fn a_directory_that_cannot_be_trusted_is_not_used() {
    let _machine = machine::share();
    let stage = Stage::start();
    let own = user::unprivileged().uid;
    let good = private(&stage.scratch, "good");
    let name = {
        let more = format!("--share-dir={}", good.display());
        assert_eq!(stage.ask("60s", &[&more]).words(), (UP, "asked"));
        assert_eq!(stage.ask("60s", &[&more]).words(), (UP, "shared"));
        only_file_of(&good).file_name().unwrap().to_str().unwrap().to_owned()
    };
    let case = |case: &str, prepare: &dyn Fn(&Path), why: &str| {
        let dir = private(&stage.scratch, case);
        prepare(&dir);
        let why = why.replace("DIR", dir.to_str().unwrap()).replace("FILE", &name);
        assert_not_shared(&stage, case, &dir, &why);
    };
    case("missing", &|dir| fs::remove_dir(dir).unwrap(), "cannot use DIR: entity not found");
    case("below-a-file", &|dir| replace_by_file(dir), "DIR is not a directory");
    case("symlink", &|dir| replace_by_symlink(dir, &good), "DIR is not a directory");
    case("all-may-write", &|dir| chmod(dir, 0o777), "others may write DIR");
    case("the-group-may-write", &|dir| chmod(dir, 0o770), "others may write DIR");
    case("sticky", &|dir| chmod(dir, 0o1777), "others may write DIR");
    case("read-only", &|dir| chmod(dir, 0o500), "cannot open DIR/FILE: permission denied");
    case("no-access", &|dir| chmod(dir, 0o600), "cannot open DIR/FILE: permission denied");
    // Only root may give things away.
    if user::is_root() {
        let to = |uid| move |dir: &Path| chown(dir, Some(uid), None).unwrap();
        case("another-user", &to(1), &format!("DIR belongs to uid 1, not {own}"));
        let and_open = |dir: &Path| {
            to(0)(dir);
            chmod(dir, 0o755);
        };
        case("of-root", &and_open, "cannot open DIR/FILE: permission denied");
    }
}

fn replace_by_file(dir: &Path) {
    fs::remove_dir(dir).unwrap();
    File::create(dir).unwrap();
}

fn replace_by_symlink(dir: &Path, target: &Path) {
    fs::remove_dir(dir).unwrap();
    symlink(target, dir).unwrap();
}

/// What is planted holds a lie that is fresh and well-formed, so that only who planted it makes the difference.
#[test]
fn a_planted_file_is_not_believed_and_not_written() {
    let _machine = machine::share();
    let stage = Stage::start();
    assert_eq!(stage.ask("60s", &[]).words(), (UP, "asked"));
    let genuine = stage.state();
    let lie = Record::read(&genuine).lie().bytes();
    // It would be believed.
    fs::write(&genuine, &lie).unwrap();
    assert_eq!(stage.ask("60s", &[]).words(), ("down: a lie", "shared"));

    let name = genuine.file_name().unwrap();
    let elsewhere = stage.scratch.file("elsewhere", &lie);
    chmod(&elsewhere, 0o600);
    let case = |case: &str, plant: &dyn Fn(&Path), why: &str| {
        let dir = private(&stage.scratch, case);
        let file = dir.join(name);
        plant(&file);
        assert_not_shared(&stage, case, &dir, &why.replace("FILE", file.to_str().unwrap()));
        assert_eq!(fs::read(&elsewhere).unwrap(), lie, "{case}");
        assert!(!stage.scratch.join("nowhere").exists(), "{case}");
    };
    let file = |mode| {
        let lie = &lie;
        move |file: &Path| {
            fs::write(file, lie).unwrap();
            user::give(file);
            chmod(file, mode);
        }
    };
    let not_ours = "FILE is not a file of our own";
    let loops = "cannot open FILE: filesystem loop or indirection limit (e.g. symlink loop)";
    let denied = "cannot open FILE: permission denied";
    case("symlink", &|file| symlink(&elsewhere, file).unwrap(), loops);
    case("dangling", &|file| symlink(stage.scratch.join("nowhere"), file).unwrap(), loops);
    case("hard-link", &|file| fs::hard_link(&elsewhere, file).unwrap(), not_ours);
    case("all-may-write", &file(0o666), not_ours);
    case("the-group-may-read", &file(0o640), not_ours);
    case("read-only", &file(0o400), denied);
    case("directory", &|file| fs::create_dir(file).unwrap(), "cannot open FILE: is a directory");
    let fifo = |file: &Path| {
        mknodat(CWD, file, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        user::give(file);
    };
    case("fifo", &fifo, not_ours);
    // Only root may give things away.
    if user::is_root() {
        let of = |uid, mode| {
            let file = &file;
            move |path: &Path| {
                file(mode)(path);
                chown(path, Some(uid), None).unwrap();
            }
        };
        case("of-another-user", &of(1, 0o600), denied);
        case("of-another-user-for-all", &of(1, 0o666), not_ours);
        case("of-root", &of(0, 0o600), denied);
    }
}

#[test]
fn a_record_that_is_not_whole_or_not_of_this_time_or_question_is_no_answer() {
    let _machine = machine::share();
    let stage = Stage::start();
    assert_eq!(stage.ask("60s", &[]).words(), (UP, "asked"));
    let state = stage.state();
    let genuine = Record::read(&state);
    let lie = genuine.lie();
    let whole = lie.bytes();
    let (hour, minute) = (3_600_000_000_000, 60_000_000_000);
    // The record of another question, also a longer one that begins with ours.
    assert_eq!(stage.ask("60s", &["--require-writable"]).words(), (UP, "asked"));
    let is_other = |entry: &PathBuf| *entry != state;
    let other = fs::read_dir(&stage.dir).unwrap().map(|entry| entry.unwrap().path()).find(is_other).unwrap();
    let other = Record::read(&other).lie().bytes();
    let longer = Record { text: lie.text.replacen('\n', " --more\n", 1), ..lie.clone() };
    let no_reason = Record { text: lie.text.replace("down: a lie", "down"), ..lie.clone() };
    let no_facts = Record { text: lie.text.rsplit_once('\n').unwrap().0.to_owned(), ..lie.clone() };
    let half_facts = Record { text: lie.text[..lie.text.len() - 1].to_owned(), ..lie.clone() };
    let mut too_long = whole.clone();
    too_long[16..24].copy_from_slice(&u64::MAX.to_ne_bytes());
    let garbage = |seed: usize, length: usize| (0..length).map(|at| (at * 7 + seed) as u8).collect::<Vec<_>>();

    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("one byte", vec![b'x']),
        ("zeroes", vec![0; 4096]),
        ("garbage", garbage(3, 4096)),
        ("more garbage", garbage(251, 20_000)),
        ("a text without a header", lie.text.clone().into_bytes()),
        ("cut in the header", whole[..23].to_vec()),
        ("cut after the header", whole[..24].to_vec()),
        ("cut in the question", whole[..60].to_vec()),
        ("cut before its last byte", whole[..whole.len() - 1].to_vec()),
        ("longer than the file", too_long),
        (
            "from the future",
            Record { monotonic_ns: lie.monotonic_ns + hour, wall_ns: lie.wall_ns + hour, ..lie.clone() }.bytes(),
        ),
        ("from the future by one clock", Record { monotonic_ns: lie.monotonic_ns + hour, ..lie.clone() }.bytes()),
        ("from the future by the other clock", Record { wall_ns: lie.wall_ns + hour, ..lie.clone() }.bytes()),
        (
            "too old by one clock",
            Record { monotonic_ns: lie.monotonic_ns.saturating_sub(minute), ..lie.clone() }.bytes(),
        ),
        ("too old by the other clock", Record { wall_ns: lie.wall_ns - minute, ..lie.clone() }.bytes()),
        ("of another question", other),
        ("of a question that begins like this one", longer.bytes()),
        ("without a reason", no_reason.bytes()),
        ("without facts", no_facts.bytes()),
        ("with half of the facts", half_facts.bytes()),
    ];
    for (case, bytes) in cases {
        fs::write(&state, &bytes).unwrap();
        assert_eq!(stage.ask("60s", &[]).words(), (UP, "asked"), "{case}");
        // And the file is of use again.
        assert_eq!(stage.ask("60s", &[]).words(), (UP, "shared"), "{case}");
    }
    fs::write(&state, &whole).unwrap();
    assert_eq!(stage.ask("60s", &[]).words(), ("down: a lie", "shared"), "the lie itself is well-formed");
}

// ---------------------------------------------------------------------------------------------------------------------
// A disk that takes nothing

/// A check that may not make any file longer, which every file system can be made to refuse.
fn confined(stage: &Stage, limit: &str, more: &[&str]) -> Check {
    let script = "ulimit -f 0; exec \"$@\"";
    Check::program(Path::new("/bin/sh"))
        .args(["-c", script, "sh"])
        .arg(binary(PROGRAM))
        .args(stage.arguments(limit))
        .args(more)
}

#[test]
fn where_no_file_may_grow_each_check_asks_for_itself_and_says_why() {
    let _machine = machine::share();
    let stage = Stage::start_slow(0.3);
    let outcomes = together(6, || confined(&stage, "60s", &["--timeout=1500ms"]));
    let why = format!("cannot write {}: file too large", stage.state().display());
    for outcome in &outcomes {
        let answer = Answer::of(outcome);
        assert_eq!(answer.words(), (UP, &*why));
    }
    // It was the limit: without it the same file is of use.
    assert_eq!(stage.ask("60s", &["--timeout=1500ms"]).words(), (UP, "asked"));
    assert_eq!(stage.ask("60s", &["--timeout=1500ms"]).words(), (UP, "shared"));
}

/// In a mount namespace of its own, which ends with the check: `$1` is the directory, `$2` what to do with it, `$3` and
/// `$4` the account.
const MOUNTED: &str = r#"
dir=$1 uid=$3 gid=$4
mount -t tmpfs -o "size=1m,mode=0700,uid=$uid,gid=$gid" tmpfs "$dir" || exit 99
case $2 in
    full) head -c 1m /dev/zero >"$dir/filler" ;;
    read-only) mount -o remount,ro "$dir" || exit 99 ;;
esac
shift 4
exec setpriv --reuid="$uid" --regid="$gid" --clear-groups "$@"
"#;

#[test]
fn on_a_full_or_read_only_disk_the_check_is_made_and_says_why() {
    let _machine = machine::share();
    // Only root may mount.
    if !user::is_root() {
        return;
    }
    let stage = Stage::start();
    let own = user::unprivileged();
    assert_eq!(stage.ask("60s", &[]).words(), (UP, "asked"));
    let name = stage.state().file_name().unwrap().to_owned();
    let mounted = |what: &str| {
        let dir = private(&stage.scratch, what);
        let mut command = Command::new("unshare");
        command.args(["-m", "sh", "-c", MOUNTED, "sh"]).arg(&dir).arg(what);
        command.args([own.uid.to_string(), own.gid.to_string()]).arg(binary(PROGRAM)).args(stage.arguments("60s"));
        command.arg(format!("--share-dir={}", dir.display()));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        assert!(fs::read_dir(&dir).unwrap().next().is_none(), "the mount is still there");
        let outcome = Outcome {
            stdout: text(output.stdout),
            stderr: text(output.stderr),
            code: output.status.code(),
            elapsed: Duration::ZERO,
        };
        (Answer::of(&outcome), dir.join(&name))
    };
    let (answer, file) = mounted("read-only");
    let why = format!("cannot open {}: read-only filesystem or storage medium", file.display());
    assert_eq!(answer.words(), (UP, &*why));
    let (answer, file) = mounted("full");
    let why = format!("cannot write {}: no storage space", file.display());
    assert_eq!(answer.words(), (UP, &*why));
    // Neither is wrong with the mount itself.
    assert_eq!(mounted("empty").0.words(), (UP, "asked"));
}
