//! What is compared: the three checks, the C programs below them and the shell checks above them.
//!
//! Every program that asks logs in over the same Unix socket with the same account, which has no password. A floor gets the
//! statement of the check it is compared with, as the server saw it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lab::daemon::program;
use lab::program::{self, Check};
use lab::scratch::Scratch;
use lab::server::Server;
use lab::{shipped, user};

/// The program that answers without asking, and without a C library either.
pub(crate) const NOLIBC: &str = "nolibc";
/// The program that answers without asking.
pub(crate) const NOASK: &str = "noask";
/// The floors, by the statement they run.
pub(crate) const FLOOR_STATUS: &str = "floor, status";
pub(crate) const FLOOR_REPLICATION: &str = "floor, replication";
pub(crate) const FLOOR_GALERA: &str = "floor, galera";
/// What every Galera check runs: the statement that the status check is meant to undercut.
pub(crate) const FLOOR_SHOW: &str = "floor, SHOW STATUS";
/// The checks.
pub(crate) const STATUS: &str = "mysqlchk-status";
pub(crate) const REPLICATION: &str = "mysqlchk-replication";
pub(crate) const GALERA: &str = "galera-chk";
/// A check that finds the answer of another one.
pub(crate) const SHARED: &str = "mysqlchk-status --share";
/// The peers.
pub(crate) const SHORTEST: &str = "shortest.sh";
pub(crate) const OF_2009: &str = "mysqlchk_status_2009.sh";
pub(crate) const CLUSTERCHECK: &str = "clustercheck_like.sh";

/// The checks and the floor each is held against.
pub(crate) const CHECKS: [(&str, &str); 3] =
    [(STATUS, FLOOR_STATUS), (REPLICATION, FLOOR_REPLICATION), (GALERA, FLOOR_GALERA)];

const SHOW: &str = "SHOW STATUS LIKE 'wsrep_local_state'";

/// One program with its arguments.
#[derive(Debug)]
pub(crate) struct Program {
    pub(crate) name: &'static str,
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    /// It runs in every so manieth round: slow ones less often.
    pub(crate) every: usize,
    /// What it exits with here, in every single run.
    pub(crate) code: i32,
    /// The size of the files that are executed.
    pub(crate) bytes: u64,
}

impl Program {
    /// Runs it once more, through another program that watches it; `clear` removes what that one left before.
    #[track_caller]
    pub(crate) fn run_under(&self, watcher: &Path, args: &[&str], clear: impl Fn()) {
        // A watched program is slow, and its deadline is not: on a busy machine it may not get to its verdict.
        let ends_as_ever = || {
            clear();
            let outcome = Check::program(watcher).args(args).args([&self.path]).args(&self.args).run();
            outcome.code == Some(self.code)
        };
        let watcher = watcher.display();
        assert!((0..3).any(|_| ends_as_ever()), "{} does not exit {} under {watcher}", self.name, self.code);
    }
}

/// The programs, and the tool that runs them.
#[derive(Debug)]
pub(crate) struct Programs {
    pub(crate) list: Vec<Program>,
    pub(crate) measure: PathBuf,
    // Last: the files go when nobody runs them any more.
    pub(crate) scratch: Scratch,
}

impl Programs {
    /// Compiles and installs everything, and makes each of them answer once.
    pub(crate) fn build(server: &Server) -> Self {
        let scratch = Scratch::new("bench");
        let socket = server.socket().display().to_string();
        let account = user::unprivileged().name.clone();
        let [noask, floor, measure] = ["noask", "floor", "measure"].map(|name| compile(&scratch, name, &[]));
        let nolibc = compile(&scratch, "nolibc", &["-nostdlib"]);
        let on_this_server =
            vec!["--reason-phrase".to_owned(), format!("--user={account}"), format!("--socket={socket}")];

        // An argument that it ignores: for xinetd an empty list is a mistake.
        let mut list = vec![new(NOLIBC, &nolibc, vec![]), new(NOASK, &noask, vec!["nothing".to_owned()])];
        for (name, floor_name) in CHECKS {
            let check = new(name, &program::binary(name), on_this_server.clone());
            let statement = statement_of(&check, server, &account);
            list.push(new(floor_name, &floor, vec![socket.clone(), account.clone(), statement]));
            list.push(check);
        }
        list.push(new(FLOOR_SHOW, &floor, vec![socket.clone(), account.clone(), SHOW.to_owned()]));
        if knows_share() {
            let directory = scratch.dir("share").display().to_string();
            let mut args = on_this_server;
            args.extend(["--share=500ms".to_owned(), format!("--share-dir={directory}")]);
            list.push(new(SHARED, &program::binary(STATUS), args));
        }
        // The file stands for /tmp, where the check of 2009 left its output.
        let file = scratch.join("output").display().to_string();
        for (name, shell, every, more) in
            [(SHORTEST, "sh", 3, None), (OF_2009, "bash", 10, Some(file)), (CLUSTERCHECK, "bash", 10, None)]
        {
            let script = scratch.program(name, fs::read(source(name)).unwrap());
            let args = [socket.clone(), account.clone()].into_iter().chain(more).collect();
            let files = [script.clone(), program(shell), program("mariadb")];
            list.push(Program { every, bytes: files.iter().map(size).sum(), ..new(name, &script, args) });
        }
        for program in &mut list {
            program.code = answer_once(program);
        }
        Self { list, measure, scratch }
    }

    /// The program of this name.
    #[track_caller]
    pub(crate) fn get(&self, name: &str) -> &Program {
        self.list.iter().find(|program| program.name == name).unwrap_or_else(|| panic!("no program {name}"))
    }
}

fn new(name: &'static str, path: &Path, args: Vec<String>) -> Program {
    Program { name, path: path.to_owned(), args, every: 1, code: 0, bytes: size(path) }
}

fn size(path: impl AsRef<Path>) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn source(name: &str) -> PathBuf {
    shipped::file("tests/bench").join(name)
}

/// Compiles a C source, static: it is to be the smallest process there can be.
fn compile(scratch: &Scratch, name: &str, options: &[&str]) -> PathBuf {
    let path = scratch.join(name);
    let done = Command::new(program("cc"))
        .args(["-O2", "-static", "-Wall", "-Wextra"])
        .args(options)
        .arg("-o")
        .arg(&path)
        .arg(source(&format!("{name}.c")))
        .output()
        .unwrap();
    assert!(done.status.success(), "cannot compile {name}.c:\n{}", String::from_utf8_lossy(&done.stderr));
    path
}

/// The one statement that a check sends, taken from the server's log.
#[track_caller]
fn statement_of(check: &Program, server: &Server, account: &str) -> String {
    server.sql("SET GLOBAL general_log = ON");
    let log = server.watch_queries();
    let _ = answer_once(check);
    let sessions = log.until_sessions(&format!("{account}@localhost"), 1);
    server.sql("SET GLOBAL general_log = OFF");
    let statements: Vec<_> = sessions[0].iter().filter_map(|line| line.strip_prefix("Query ")).collect();
    match statements[..] {
        [one] => one.to_owned(),
        _ => panic!("{}: {statements:?} is not one statement", check.name),
    }
}

/// Whether this build of the checks can share an answer.
fn knows_share() -> bool {
    let help = Check::new(STATUS).args(["--format=text", "--help"]).run();
    help.stdout.contains("--share")
}

/// Runs a program by itself: it must give a whole answer, whatever the verdict.
#[track_caller]
fn answer_once(program: &Program) -> i32 {
    let outcome = Check::program(&program.path).args(&program.args).run();
    let status = outcome.reply().status();
    assert!(matches!(status, 200 | 503), "{} answers {outcome:?}", program.name);
    // A plain server is no Galera node, and its replication is configured and stopped.
    let down = [REPLICATION, GALERA, CLUSTERCHECK].contains(&program.name);
    assert_eq!(status == 503, down, "{} answers {outcome:?}", program.name);
    outcome.code.unwrap()
}
