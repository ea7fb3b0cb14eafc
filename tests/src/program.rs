//! One of the project's binaries with pipes, as the account without privileges and with a bare environment.
//!
//! `MYSQLCHK_BIN` names the directory that holds them; they are copied to where that account can run them.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsStr;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};

use crate::http::{REQUEST, Reply};
use crate::scratch::Scratch;
use crate::server::Server;
use crate::{janitor, scratch, user, wait};

/// No check may take this long.
const BOUND: Duration = Duration::from_secs(180);

/// What a check did.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What it printed.
    pub stdout: String,
    /// What it printed to stderr.
    pub stderr: String,
    /// The exit status; `None` after a signal.
    pub code: Option<i32>,
    /// From before its start to its end.
    pub elapsed: Duration,
}

impl Outcome {
    /// The output read as an HTTP response.
    #[must_use]
    pub fn reply(&self) -> Reply {
        Reply { bytes: self.stdout.clone().into_bytes(), reset: false, elapsed: self.elapsed }
    }
}

/// A check about to be run.
#[derive(Debug)]
pub struct Check {
    command: Command,
    /// Each is sent when the one before it has been read.
    stdin: Vec<Vec<u8>>,
    open: bool,
}

/// The arguments to ask a server over its Unix socket, as the account that needs no password.
#[must_use]
pub fn local(server: &Server) -> [String; 2] {
    [format!("--socket={}", server.socket().display()), format!("--user={}", user::unprivileged().name)]
}

/// The argument that names an option file with this password, which is the one way to give it.
#[must_use]
pub fn password(scratch: &Scratch, name: &str, password: &str) -> String {
    let file = scratch.file(name, format!("[client]\npassword={password}\n"));
    format!("--defaults-file={}", file.display())
}

/// Where the account without privileges finds a binary: a copy, one per process.
///
/// # Panics
/// When `MYSQLCHK_BIN` is not set, or holds no such binary.
#[must_use]
pub fn binary(name: &str) -> PathBuf {
    static COPIES: Mutex<BTreeMap<String, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut copies = COPIES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(copy) = copies.get(name) {
        return copy.clone();
    }
    let built = env::var_os("MYSQLCHK_BIN").map(|dir| Path::new(&dir).join(name));
    let Some(built) = built.filter(|file| file.is_file()) else {
        panic!("{name}: set MYSQLCHK_BIN or run make test");
    };
    let copy = janitor::base().join(name);
    scratch::install(&built, &copy);
    copies.insert(name.to_owned(), copy.clone());
    copy
}

impl Check {
    /// The binary `name`, which gets `HAProxy`'s request unless told otherwise.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self::program(&binary(name))
    }

    /// Any program, in the same way.
    #[must_use]
    pub fn program(path: &Path) -> Self {
        Self::of(Command::new(path))
    }

    /// A program that takes a few words to start, such as one of [`crate::roots`].
    #[must_use]
    pub fn of(mut command: Command) -> Self {
        command.env_clear().current_dir("/");
        user::drop_to_unprivileged(&mut command);
        Self { command, stdin: vec![REQUEST.to_vec()], open: false }
    }

    /// The binary `name` with `from` in the place of `to` (`/etc/hosts`), in a mount namespace: root's own, or that of a
    /// user namespace. A machine that allows neither says so on stderr.
    #[must_use]
    pub fn with_mounted(name: &str, from: &Path, to: &str) -> Self {
        Self::after_mount(name, "mount --bind \"$FROM\" \"$TO\"").env("FROM", from).env("TO", to)
    }

    /// The binary `name` with a file system at `directory` that never answers. Needs `/dev/fuse`, and says so on stderr.
    #[must_use]
    pub fn with_hung_file_system(name: &str, directory: &Path) -> Self {
        // The shell takes the place of the file system's daemon, and reads none of the kernel's requests.
        let mount =
            "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0,allow_other hung \"$TO\"";
        Self::after_mount(name, mount).env("TO", directory)
    }

    /// The binary `name` after a command that mounts something, with the privileges for it.
    fn after_mount(name: &str, mount: &str) -> Self {
        let mut command = Command::new("unshare");
        let user = user::unprivileged();
        let drop = if user::is_root() {
            format!("setpriv --reuid={} --regid={} --clear-groups", user.uid, user.gid)
        } else {
            command.arg("--map-root-user");
            String::new()
        };
        // The shell stays: with its descriptor the file system goes, too.
        let script = format!("{mount} && {drop} \"$@\" 9<&-; exit");
        command.args(["--mount", "sh", "-c", &script, "check"]).arg(binary(name));
        // As root: it is the script that gives the privileges up.
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        Self { command, stdin: vec![REQUEST.to_vec()], open: false }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    /// Sets an environment variable; there are no others.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Sends these bytes, then the end.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = vec![bytes.into()];
        self
    }

    /// Sends these bytes as well, once those before them have been read.
    #[must_use]
    pub fn then(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin.push(bytes.into());
        self
    }

    /// Sends no end: stdin stays open until the check is gone.
    #[must_use]
    pub fn stdin_stays_open(mut self) -> Self {
        self.open = true;
        self
    }

    /// Runs it to its end; a check that hangs is killed and the test with it.
    #[track_caller]
    pub fn run(mut self) -> Outcome {
        let begin = Instant::now();
        let mut child =
            self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let process = Pid::from_child(&child);
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut stdin = child.stdin.take();
            for (number, segment) in self.stdin.iter().enumerate() {
                let pipe = stdin.as_mut().unwrap();
                if number > 0 {
                    wait::until("the check reads what came first", BOUND, || ioctl_fionread(&*pipe).unwrap() == 0);
                }
                // A check that does not read is no error here.
                let _ = pipe.write_all(segment);
            }
            let held = stdin.filter(|_| self.open);
            let mut stderr = child.stderr.take().unwrap();
            let stderr = thread::spawn(move || read(&mut stderr));
            let stdout = read(&mut child.stdout.take().unwrap());
            let code = child.wait().unwrap().code();
            drop(held);
            let _ = tell.send(Outcome { stdout, stderr: stderr.join().unwrap(), code, elapsed: begin.elapsed() });
        });
        told.recv_timeout(BOUND).unwrap_or_else(|_| {
            let _ = kill_process(process, Signal::KILL);
            panic!("the check did not end within {BOUND:?}");
        })
    }
}

fn read(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes).into_owned()
}
