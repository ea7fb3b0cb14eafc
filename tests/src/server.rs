//! One server, `MariaDB` or `MySQL`: started from a template, asked and changed by its admin, ended with its files.
//!
//! The template is made once per process and [`Software`] (one second, `MySQL` three) and copied for each server.
//! It holds these accounts:
//!
//! | account | logs in with | may |
//! | --- | --- | --- |
//! | `admin`@localhost, `admin`@% | [`PASSWORD`] | everything |
//! | `nobody`@localhost, or the caller's name without root | no password: `unix_socket`, as [`crate::user::unprivileged`] | monitor |
//! | `mysqlchk`@localhost | `unix_socket`, as the system user of this name alone: the others get 1698 | monitor |
//! | `mysqlchk_tcp`@localhost, @% | [`PASSWORD`] | monitor |
//! | `nopriv`@localhost, @% | [`PASSWORD`] | nothing |
//! | `repl`@% | [`PASSWORD`] | `REPLICATION SLAVE` |
//!
//! where `unix_socket` is `auth_socket` in `MySQL`, and to monitor is `SLAVE MONITOR`, in `MySQL` `REPLICATION CLIENT`
//! and to read `performance_schema`; and the schema `lab`: the table `t (id, v)`, and `gate (id)`, whose trigger holds every insert, the
//! applier's too, while [`Server::hold_gate`] says so.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mysql::prelude::Queryable;
use mysql::{Conn, OptsBuilder, Value};

use crate::daemon::Daemon;
use crate::scratch::{Scratch, install};
use crate::software::Software;
use crate::{address, user, wait};

/// The password of every account that has one.
pub const PASSWORD: &str = "lab-secret";

/// The port of every server, on an address of its own; but not of the members of a [`crate::group`].
pub const PORT: u16 = 3306;

/// How long a server may take to answer on a loaded machine.
pub(crate) const START: Duration = Duration::from_secs(60);

/// One row, by column name; NULL reads `NULL`, as in the client program.
pub type Row = BTreeMap<String, String>;

/// A running server with its own address and directory.
#[derive(Debug)]
pub struct Server {
    // Before the directory: the process ends first.
    daemon: Mutex<Option<Daemon>>,
    software: Software,
    address: SocketAddrV4,
    scratch: Scratch,
}

impl Server {
    /// Starts the host's `MariaDB` with the lab's settings.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts the host's `MariaDB` with more lines in its option file; a later line wins over the lab's own.
    #[must_use]
    pub fn start_with(lines: &[&str]) -> Self {
        Self::start_of(Software::MariaDb, lines)
    }

    /// Starts a server of any kind, with more lines in its option file.
    #[must_use]
    pub fn start_of(software: Software, lines: &[&str]) -> Self {
        let server = Self::prepare(software, SocketAddrV4::new(address::fresh(), PORT), software.template(), lines);
        server.restart();
        server
    }

    /// Makes directory, data and option file, and starts nothing.
    pub(crate) fn prepare(software: Software, address: SocketAddrV4, data: &Path, lines: &[&str]) -> Self {
        let scratch = Scratch::new("db");
        let server = Self { daemon: Mutex::new(None), software, address, scratch };
        server.scratch.dir("tmp");
        server.take_data(data);
        let (ip, port) = (*address.ip(), address.port());
        // The port tells apart those that share an address.
        let [.., a, b, c] = ip.octets();
        let id = u32::from_be_bytes([0, a, b, c]) + u32::from(port - PORT);
        let dir = server.scratch.path().display();
        let option_file = format!(
            "{}datadir={dir}/data\ntmpdir={dir}/tmp\nsocket={dir}/mysql.sock\npid_file={dir}/pid\n\
             bind_address={ip}\nport={port}\nreport_host={ip}\nreport_port={port}\nlog_bin={dir}/data/bin\n\
             general_log=ON\ngeneral_log_file={dir}/general.log\n{}\n",
            software.running(id),
            lines.join("\n"),
        );
        server.scratch.file("my.cnf", option_file);
        server
    }

    /// What runs there.
    #[must_use]
    pub fn software(&self) -> Software {
        self.software
    }

    /// The server's address; nothing else listens on it unless a test puts it there.
    #[must_use]
    pub fn ip(&self) -> Ipv4Addr {
        *self.address.ip()
    }

    /// Address and port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address.into()
    }

    /// The Unix socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.scratch.join("mysql.sock")
    }

    /// The server's directory: `data`, `tmp`, `my.cnf`, `error.log`, `general.log`.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.scratch.path()
    }

    /// Opens a session as admin, over the Unix socket: for what must stay open, such as a lock.
    ///
    /// # Errors
    /// What the server or the socket said.
    pub fn try_session(&self) -> mysql::Result<Conn> {
        let bound = Some(Duration::from_secs(30));
        Conn::new(
            OptsBuilder::new()
                .socket(Some(self.socket().to_str().unwrap()))
                .prefer_socket(false)
                .user(Some("admin"))
                .pass(Some(PASSWORD))
                .read_timeout(bound)
                .write_timeout(bound),
        )
    }

    /// Opens a session as admin.
    #[track_caller]
    pub fn session(&self) -> Conn {
        self.try_session().unwrap()
    }

    /// Runs statements, separated by semicolons, as admin in a session of their own.
    ///
    /// # Errors
    /// The first one that fails.
    pub fn try_sql(&self, statements: &str) -> mysql::Result<()> {
        query(&mut self.try_session()?, statements).map(drop)
    }

    /// Runs statements as admin.
    #[track_caller]
    pub fn sql(&self, statements: &str) {
        self.try_sql(statements).unwrap_or_else(|error| panic!("{statements}: {error}"));
    }

    /// The rows of a statement.
    #[track_caller]
    pub fn rows(&self, statement: &str) -> Vec<Row> {
        self.try_rows(statement).unwrap_or_else(|error| panic!("{statement}: {error}"))
    }

    /// The rows of a statement.
    ///
    /// # Errors
    /// What the server said.
    pub fn try_rows(&self, statement: &str) -> mysql::Result<Vec<Row>> {
        query(&mut self.try_session()?, statement)
    }

    /// The single value of a statement.
    #[track_caller]
    pub fn value(&self, statement: &str) -> String {
        let rows = self.rows(statement);
        let mut values = rows.into_iter().flat_map(BTreeMap::into_values);
        values.next().unwrap_or_else(|| panic!("{statement}: no row"))
    }

    /// A status variable; `None` where the server has none of this name, or does not answer.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<String> {
        self.try_rows(&format!("SHOW GLOBAL STATUS LIKE '{name}'")).ok()?.pop()?.remove("Value")
    }

    /// A status counter.
    #[track_caller]
    pub fn counter(&self, name: &str) -> u64 {
        self.status(name).unwrap_or_else(|| panic!("no status {name}")).parse().unwrap()
    }

    /// Starts it again with the same data, and waits until it answers.
    pub fn restart(&self) {
        self.launch(&[]);
        self.until_answers();
    }

    /// Starts it again with this in its environment.
    pub fn restart_in(&self, environment: &[(&str, &str)]) {
        self.launch_in(&[], environment);
        self.until_answers();
    }

    /// Ends it in good order.
    pub fn stop(&self) {
        if let Some(mut daemon) = self.daemon().take() {
            daemon.stop();
        }
    }

    /// Ends it with SIGKILL.
    pub fn kill9(&self) {
        self.daemon().take();
    }

    /// Stops its clock: it accepts connections and says nothing.
    pub fn freeze(&self) {
        self.daemon().as_ref().expect("a running server").freeze();
    }

    /// Lets it run again.
    pub fn thaw(&self) {
        self.daemon().as_ref().expect("a running server").thaw();
    }

    /// Whether its clock is stopped.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.daemon().as_ref().is_some_and(Daemon::is_frozen)
    }

    /// Whether the process runs.
    pub fn is_running(&self) -> bool {
        self.daemon().as_mut().is_some_and(Daemon::is_running)
    }

    /// What the server wrote to its error log.
    #[must_use]
    pub fn error_log(&self) -> String {
        fs::read_to_string(self.dir().join("error.log")).unwrap_or_default()
    }

    /// Begins to watch what clients ask from now on.
    #[must_use]
    pub fn watch_queries(&self) -> QueryLog<'_> {
        let file = self.dir().join("general.log");
        let from = fs::metadata(&file).map_or(0, |data| data.len());
        QueryLog { file, from: usize::try_from(from).unwrap(), server: self }
    }

    /// Holds every insert into `lab.gate` until [`Server::open_gate`]; also works while the server is stopped.
    ///
    /// An applier runs the trigger only with `slave_run_triggers_for_rbr=ENFORCE`, which [`crate::galera`] sets.
    pub fn hold_gate(&self) {
        self.scratch.file("tmp/gate", "held");
    }

    /// Lets inserts into `lab.gate` go on.
    pub fn open_gate(&self) {
        let _ = fs::remove_file(self.scratch.join("tmp/gate"));
    }

    /// Starts the process with more arguments, and does not wait.
    pub fn launch(&self, arguments: &[&str]) {
        self.launch_in(arguments, &[]);
    }

    fn launch_in(&self, arguments: &[&str], environment: &[(&str, &str)]) {
        let mut command = self.software.server();
        let bin = self.dir().join("bin");
        let path = std::env::var("PATH").unwrap_or_default();
        command
            .arg(format!("--defaults-file={}", self.scratch.join("my.cnf").display()))
            .args(arguments)
            .current_dir(self.dir())
            .env("PATH", format!("{}:{path}:/usr/sbin:/sbin:/usr/bin:/bin", bin.display()))
            .envs(environment.iter().copied());
        user::drop_to_unprivileged(&mut command);
        let log = self.dir().join("error.log");
        let mut daemon = self.daemon();
        drop(daemon.take());
        *daemon = Some(Daemon::start(&mut command, &log));
    }

    /// Waits until the admin gets in.
    #[track_caller]
    pub fn until_answers(&self) {
        let mut daemon = self.daemon();
        daemon.as_mut().expect("a launched server").until_ready(START, || {
            // Not by a bare connection: the server counts it as aborted, at a time of its own (seen on a busy machine in the
            // middle of a test that counts those of the checks).
            self.socket().exists() && self.try_session().is_ok()
        });
    }

    /// Replaces its data by a copy of another directory.
    pub(crate) fn take_data(&self, from: &Path) {
        let data = self.scratch.join("data");
        let _ = fs::remove_dir_all(&data);
        let done = Command::new("cp").arg("-a").args([from, &data]).status().unwrap();
        assert!(done.success(), "cannot copy {}", from.display());
    }

    /// Puts a program where the server finds it first.
    pub(crate) fn provide(&self, name: &str, text: &str) {
        let bin = self.scratch.dir("bin");
        let source = self.scratch.file(&format!("{name}.text"), text);
        install(&source, &bin.join(name));
    }

    fn daemon(&self) -> MutexGuard<'_, Option<Daemon>> {
        self.daemon.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs statements and returns the rows of all of them.
fn query(session: &mut Conn, statements: &str) -> mysql::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut result = session.query_iter(statements)?;
    while let Some(set) = result.iter() {
        for row in set {
            let row = row?;
            let names: Vec<String> = row.columns_ref().iter().map(|column| column.name_str().into_owned()).collect();
            rows.push(names.into_iter().zip(row.unwrap().into_iter().map(text)).collect());
        }
    }
    Ok(rows)
}

fn text(value: Value) -> String {
    match value {
        Value::NULL => "NULL".to_owned(),
        Value::Bytes(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        other => format!("{other:?}"),
    }
}

/// What clients asked since the watch began, from the server's general log.
#[derive(Debug)]
pub struct QueryLog<'a> {
    file: PathBuf,
    from: usize,
    server: &'a Server,
}

impl QueryLog<'_> {
    /// The finished sessions of `account` (`mysqlchk@localhost`, or `mysqlchk` from any host), in order of connection:
    /// each a list of `Connect ...`, `Query ...`, `Quit`.
    #[must_use]
    pub fn sessions_of(&self, account: &str) -> Vec<Vec<String>> {
        let log = fs::read(&self.file).unwrap_or_default();
        let mut sessions: BTreeMap<u64, Vec<String>> = BTreeMap::new();
        let mut wanted = BTreeSet::new();
        let mut last = None;
        for line in String::from_utf8_lossy(&log[self.from..]).lines() {
            // `TIME\t   ID Command\tArgument`, the time left out when it is the same second: `\t\t   ID ...`.
            let mut field =
                line.splitn(if line.starts_with('\t') { 4 } else { 3 }, '\t').skip(usize::from(line.starts_with('\t')));
            let entry = field.nth(1).and_then(|entry| entry.trim_start().split_once(' '));
            let argument = field.next().unwrap_or_default();
            if let Some((Ok(id), command)) = entry.map(|(id, command)| (id.parse::<u64>(), command)) {
                let who = argument.split(' ').next().unwrap_or_default();
                if command == "Connect" && (who == account || who.split('@').next() == Some(account)) {
                    wanted.insert(id);
                }
                sessions.entry(id).or_default().push(format!("{command} {argument}").trim_end().to_owned());
                last = Some(id);
            } else if let Some(entry) = last.and_then(|id| sessions.get_mut(&id)).and_then(|lines| lines.last_mut()) {
                // A statement of several lines goes on.
                *entry += &format!("\n{line}");
            }
        }
        sessions.retain(|id, _| wanted.contains(id));
        sessions.into_values().collect()
    }

    /// Waits until `count` sessions of `account` said goodbye, and returns them.
    #[track_caller]
    pub fn until_sessions(&self, account: &str, count: usize) -> Vec<Vec<String>> {
        let what = format!("{count} finished sessions of {account} on {}", self.server.ip());
        wait::until_ok(&what, START, || {
            let sessions = self.sessions_of(account);
            let finished = sessions.iter().filter(|session| session.last().is_some_and(|line| line == "Quit")).count();
            if sessions.len() == count && finished == count { Ok(sessions) } else { Err(sessions) }
        })
    }
}
