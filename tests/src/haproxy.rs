//! The shipped configurations in the real `HAProxy`, and what it concludes from the checks.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use rustix::process::Signal;

use crate::daemon::{Daemon, program};
use crate::roots;
use crate::scratch::Scratch;
use crate::{user, wait};

/// How long it may take to start.
const START: Duration = Duration::from_secs(60);
/// How long it may take to answer a command.
const ANSWER: Duration = Duration::from_secs(20);

/// Which `HAProxy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// The host's own: 2.6 on Debian 12.
    Host,
    /// 3.2, from [`roots::sid`].
    Sid,
}

impl Release {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Host, Self::Sid];

    /// The program, ready for its arguments.
    #[must_use]
    pub fn command(self) -> Command {
        match self {
            Self::Host => Command::new(program("haproxy")),
            Self::Sid => {
                static SCRIPT: LazyLock<Scratch> = LazyLock::new(|| roots::sid().script("haproxy"));
                Command::new(SCRIPT.join("haproxy"))
            }
        }
    }

    /// `2.6.12`, as the program says.
    #[must_use]
    pub fn version(self) -> String {
        let said = self.command().arg("-v").output().unwrap().stdout;
        let said = String::from_utf8_lossy(&said);
        said.split([' ', '-'])
            .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))
            .expect("a version")
            .to_owned()
    }
}

/// One line of `show stat`: a server, or a proxy's own `FRONTEND` or `BACKEND`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// The proxy, `pxname`.
    pub proxy: String,
    /// The server, `svname`.
    pub server: String,
    /// How many sessions it has now.
    pub sessions: String,
    /// How many it has had, `stot`.
    pub total_sessions: String,
    /// `UP`, `DOWN`, `UP 1/3`, `no check`, `OPEN` ...
    pub status: String,
    /// What the last check was: `L7OK`, `L7STS`, `L4CON` ...
    pub check_status: String,
    /// The last check's HTTP status; empty where there is none.
    pub check_code: String,
    /// What the check found, in words: the reason phrase of an HTTP check.
    pub last_chk: String,
    /// How many checks have failed while the server was up, `chkfail`; empty for what is not checked.
    pub failed_checks: String,
    /// The weight in force, after what an agent made of it.
    pub weight: String,
    /// What the agent reported last, in words; empty without one.
    pub last_agent: String,
}

/// How long a reload may take.
const RELOAD: Duration = Duration::from_secs(20);

/// A process of `HAProxy` that has, or had, sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Worker(u32);

impl Worker {
    /// Whether it has ended, and all its sessions with it.
    #[must_use]
    pub fn has_ended(self) -> bool {
        !Path::new(&format!("/proc/{}", self.0)).exists()
    }
}

/// A running `HAProxy`.
#[derive(Debug)]
pub struct Haproxy {
    daemon: Daemon,
    scratch: Scratch,
}

/// Whether `haproxy -c` accepts a configuration.
///
/// # Errors
/// What it complained about. A warning is a complaint too.
pub fn check_config(path: &Path, env: &[(&str, &str)]) -> Result<(), String> {
    check_config_by(Release::Host, path, env)
}

/// Whether `haproxy -c` of a release accepts a configuration.
///
/// # Errors
/// What it complained about. A warning is a complaint too.
pub fn check_config_by(release: Release, path: &Path, env: &[(&str, &str)]) -> Result<(), String> {
    let mut command = release.command();
    let done = command.arg("-c").arg("-f").arg(path).envs(env.iter().copied()).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout) + String::from_utf8_lossy(&done.stderr);
    let warned = said.contains("[WARNING]");
    if done.status.success() && !warned { Ok(()) } else { Err(said.into_owned()) }
}

impl Haproxy {
    /// Starts it with a configuration file as it is and these environment variables, and waits until it serves: a master
    /// and its worker, as the service of a distribution does.
    ///
    /// The lab adds a second file with nothing but a stats socket of its own.
    #[must_use]
    #[track_caller]
    pub fn start(configuration: &Path, env: &[(&str, &str)]) -> Self {
        let mut command = Release::Host.command();
        user::drop_to_unprivileged(&mut command);
        Self::start_by(command, configuration, env)
    }

    /// The same with a command of the caller's, as whoever this runs it.
    #[must_use]
    #[track_caller]
    pub fn start_by(command: Command, configuration: &Path, env: &[(&str, &str)]) -> Self {
        Self::launch(command, &[], configuration, env)
    }

    /// Starts a process that takes over from this one (`haproxy -sf`), where there is no master to reload.
    #[must_use]
    #[track_caller]
    pub fn succeed_by(&self, command: Command, configuration: &Path, env: &[(&str, &str)]) -> Self {
        Self::launch(command, &["-sf", &self.daemon.pid().to_string()], configuration, env)
    }

    #[track_caller]
    fn launch(mut command: Command, arguments: &[&str], configuration: &Path, env: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("haproxy");
        // A copy: the account without privileges may not read the original.
        let text = fs::read(configuration).unwrap_or_else(|error| panic!("{}: {error}", configuration.display()));
        let copy = scratch.file("haproxy.cfg", text);
        let socket = scratch.join("lab.sock");
        let stats = scratch.file("lab.cfg", format!("global\n    stats socket {} level admin\n", socket.display()));
        command
            .args(["-W", "-db"])
            .arg("-f")
            .arg(copy)
            .arg("-f")
            .arg(stats)
            .args(arguments)
            .envs(env.iter().copied())
            .current_dir(scratch.path());
        let mut daemon = Daemon::start(&mut command, &scratch.join("log"));
        daemon.until_ready(START, || UnixStream::connect(&socket).is_ok());
        Self { daemon, scratch }
    }

    /// Starts it with this text for a configuration.
    #[must_use]
    #[track_caller]
    pub fn start_with(text: &str, env: &[(&str, &str)]) -> Self {
        let scratch = Scratch::new("haproxy-text");
        Self::start(&scratch.file("haproxy.cfg", text), env)
    }

    /// The lab's stats socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("lab.sock")
    }

    /// The answer to one command on the stats socket.
    #[must_use]
    #[track_caller]
    pub fn ask(&self, command: &str) -> String {
        self.try_ask(command).unwrap()
    }

    fn try_ask(&self, command: &str) -> io::Result<String> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER))?;
        writeln!(stream, "{command}")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    /// All of `show stat`, as `HAProxy` orders it.
    #[must_use]
    #[track_caller]
    pub fn lines(&self) -> Vec<Line> {
        self.try_lines().unwrap()
    }

    fn try_lines(&self) -> io::Result<Vec<Line>> {
        let answer = self.try_ask("show stat")?;
        let mut lines = answer.trim_start_matches("# ").lines().filter(|line| !line.is_empty()).map(fields);
        let names = lines.next().unwrap_or_default();
        let lines = lines
            .map(|values| {
                let mut row: BTreeMap<_, _> = names.iter().cloned().zip(values).collect();
                let mut take = |name| row.remove(name).unwrap_or_default();
                Line {
                    proxy: take("pxname"),
                    server: take("svname"),
                    sessions: take("scur"),
                    total_sessions: take("stot"),
                    status: take("status"),
                    check_status: take("check_status"),
                    check_code: take("check_code"),
                    last_chk: take("last_chk"),
                    failed_checks: take("chkfail"),
                    weight: take("weight"),
                    last_agent: take("last_agt"),
                }
            })
            .collect();
        Ok(lines)
    }

    /// The servers alone.
    #[must_use]
    #[track_caller]
    pub fn servers(&self) -> Vec<Line> {
        self.lines().into_iter().filter(|line| !["FRONTEND", "BACKEND"].contains(&&*line.server)).collect()
    }

    /// One line, by proxy and server (or `FRONTEND`, `BACKEND`).
    #[must_use]
    #[track_caller]
    pub fn server(&self, proxy: &str, server: &str) -> Line {
        let lines = self.lines();
        let found = lines.iter().find(|line| line.proxy == proxy && line.server == server).cloned();
        found.unwrap_or_else(|| panic!("no {proxy}/{server} in {lines:#?}"))
    }

    /// Waits until a server has this status, and returns its line.
    #[track_caller]
    pub fn until(&self, proxy: &str, server: &str, status: &str, bound: Duration) -> Line {
        wait::until_ok(&format!("{proxy}/{server} is {status}"), bound, || {
            let line = self.server(proxy, server);
            if line.status == status { Ok(line) } else { Err(Box::new(line)) }
        })
    }

    /// Reloads it, as `systemctl reload haproxy` does, and waits until a new worker serves. Returns the old one, which still
    /// has its sessions.
    #[track_caller]
    pub fn reload(&self) -> Worker {
        let worker = || {
            let info = self.try_ask("show info").ok()?;
            info.lines().find_map(|line| line.strip_prefix("Pid: ")?.parse().ok()).map(Worker)
        };
        let old = wait::until_some("the worker of HAProxy", RELOAD, worker);
        self.daemon.signal(Signal::USR2);
        wait::until("a new worker of HAProxy", RELOAD, || worker().is_some_and(|new| new != old));
        old
    }

    /// Waits until a reload would hand its tables to the new process. `HAProxy` 2.6 hands over none while it still looks for
    /// the tables of a process before it: for 5 s after a start.
    #[track_caller]
    pub fn until_it_hands_over(&self) {
        wait::until("HAProxy has looked for tables", RELOAD, || {
            self.ask("show peers").contains("resync_timeout=<PAST>")
        });
    }

    /// The master process: to freeze it with its workers, or to end it.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// What it wrote.
    #[must_use]
    pub fn log(&self) -> String {
        self.daemon.log()
    }
}

impl Drop for Haproxy {
    /// Shows a failing test what it concluded last.
    fn drop(&mut self) {
        if std::thread::panicking() {
            match self.try_lines() {
                Ok(lines) => lines.iter().for_each(|line| eprintln!("--- haproxy: {line:?}")),
                Err(error) => eprintln!("--- haproxy does not show its state: {error}"),
            }
        }
    }
}

/// The fields of one CSV line; quotes are doubled inside quotes.
fn fields(line: &str) -> Vec<String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    for part in line.split_inclusive([',', '"']) {
        let (text, end) = part.split_at(part.len() - usize::from(part.ends_with([',', '"'])));
        let field = fields.last_mut().unwrap();
        *field += text;
        match end {
            "\"" => quoted = !quoted,
            "," if quoted => field.push(','),
            "," => fields.push(String::new()),
            _ => {}
        }
    }
    fields
}
