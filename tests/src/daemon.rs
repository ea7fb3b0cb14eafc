//! A real daemon: started in a process group of its own, logged to a file, frozen, thawed and always ended.
//!
//! A test that fails shows the end of the log of every daemon it holds: see [`Daemon::watch_log`].

use std::env;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, kill_process_group, waitid};

use crate::{janitor, wait};

/// How long a daemon may take to end after SIGTERM.
const STOP: Duration = Duration::from_secs(20);

/// A running process and whatever it starts.
#[derive(Debug)]
pub struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
    /// The logs that it writes itself.
    more_logs: Vec<PathBuf>,
    ended: Option<ExitStatus>,
}

/// The path of an installed program; the system directories count even when `PATH` lacks them.
///
/// # Panics
/// When it is not installed: a suite that skips is a suite that lies.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    let path = env::var("PATH").unwrap_or_default() + ":/usr/sbin:/sbin:/usr/bin:/bin";
    let found = env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: run make deps"))
}

impl Daemon {
    /// Starts `command`, with both outputs added to the file `log`.
    #[must_use]
    pub fn start(command: &mut Command, log: &Path) -> Self {
        let name = Path::new(command.get_program()).file_name().unwrap().to_string_lossy().into_owned();
        let output = File::options().create(true).append(true).open(log).unwrap();
        let child = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {name}: {error}"));
        janitor::watch(child.id());
        Self { name, child, log: log.to_owned(), more_logs: Vec::new(), ended: None }
    }

    /// Has a failing test show the end of a log that the daemon writes itself, beside that of its output.
    pub fn watch_log(&mut self, log: &Path) {
        self.more_logs.push(log.to_owned());
    }

    /// Prints whether it runs, and the end of its logs: for the test that fails.
    pub fn show(&mut self) {
        let state = match (self.is_running(), self.ended) {
            (true, _) if self.is_frozen() => "frozen".to_owned(),
            (true, _) => "running".to_owned(),
            (false, status) => status.map_or_else(|| "gone".to_owned(), |status| status.to_string()),
        };
        eprintln!("--- {}, process {}, {state}", self.name, self.child.id());
        for log in std::iter::once(&self.log).chain(&self.more_logs) {
            eprintln!("--- the end of {}:\n{}", log.display(), tail(log));
        }
    }

    /// Waits until it is of use; when it ends instead, the panic shows the end of its log.
    #[track_caller]
    pub fn until_ready(&mut self, bound: Duration, mut ready: impl FnMut() -> bool) {
        wait::until(&format!("{} gets ready", self.name), bound, || {
            assert!(self.is_running(), "{} ended while starting:\n{}", self.name, tail(&self.log));
            ready()
        });
    }

    /// Waits until it ends by itself: for a program that is no daemon and must not outlive us either.
    #[track_caller]
    pub fn until_success(mut self, bound: Duration) {
        wait::until(&format!("{} ends", self.name), bound, || !self.is_running());
        assert!(self.ended.unwrap().success(), "{} failed:\n{}", self.name, tail(&self.log));
    }

    /// The process id, which is also its group's.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether the process still runs (a frozen one does).
    pub fn is_running(&mut self) -> bool {
        if self.ended.is_none() {
            let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            if waitid(WaitId::Pid(self.process()), look).unwrap().is_some() {
                self.reap();
            }
        }
        self.ended.is_none()
    }

    /// Ends it with SIGTERM, and with SIGKILL when that takes too long.
    pub fn stop(&mut self) {
        if self.is_running() {
            self.signal(Signal::TERM);
            self.thaw();
            let end = std::time::Instant::now() + STOP;
            wait::until("the daemon ends", STOP * 2, || !self.is_running() || std::time::Instant::now() > end);
        }
        self.kill9();
    }

    /// Ends it and its helpers with SIGKILL, frozen or not.
    pub fn kill9(&mut self) {
        if self.is_running() {
            self.reap();
        }
    }

    /// Stops its clock (SIGSTOP): connections are still accepted by the kernel, and nothing answers.
    pub fn freeze(&self) {
        let _ = kill_process_group(self.process(), Signal::STOP);
    }

    /// Lets it run again (SIGCONT).
    pub fn thaw(&self) {
        let _ = kill_process_group(self.process(), Signal::CONT);
    }

    /// Whether it is frozen.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        // `PID (NAME) STATE ...`, and a name may hold anything.
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('T'))
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).unwrap();
    }

    /// Everything it wrote so far.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap()).into_owned()
    }

    fn process(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Kills the group before the leader is reaped: until then its number cannot belong to anybody else.
    fn reap(&mut self) {
        let _ = kill_process_group(self.process(), Signal::KILL);
        self.ended = Some(self.child.wait().unwrap());
        janitor::forget(self.child.id());
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show();
        }
        self.kill9();
    }
}

/// The last lines of a log; nothing where there is none.
fn tail(log: &Path) -> String {
    const LINES: usize = 30;
    let log = fs::read(log).unwrap_or_default();
    let log = String::from_utf8_lossy(&log);
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
