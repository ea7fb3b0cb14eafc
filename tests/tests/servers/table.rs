//! A section whose checks are asked with every option written out: over TCP, with passwords, certificates and names.

use std::path::PathBuf;
use std::time::Duration;

use lab::evidence::{Answer, From, Section, stable, verdict_of};
use lab::program::{Check, Outcome};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::{user, wait};
use mysql::{Conn, OptsBuilder};

use crate::name_of;

const CHECK: &str = "mysqlchk-status";

/// The verdict of a server that answers.
pub(crate) const UP: &str = "up: the server answers, read_only is OFF";
/// What a refused login looks like.
pub(crate) const DENIED: &str = "down: cannot log in: access denied (1045)";

/// The account of the system user that runs the checks.
pub(crate) const OWN: &str = "OWN";

/// How a check got there, in the words of the server's log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Transport {
    Socket,
    Plain,
    Encrypted,
    /// It did not get there.
    None,
}

/// A section, while its test fills it.
///
/// The options of a row are those of the page: `ADDRESS` and `SOCKET` are the server's, `DIR` is a directory with what
/// the test put there, and beside it `right.cnf` and `wrong.cnf`, each with a password.
pub(crate) struct Table<'a> {
    section: Section,
    server: &'a Server,
    names: Vec<(&'static str, String)>,
    scratch: &'a Scratch,
    wrong: Vec<String>,
}

impl<'a> Table<'a> {
    pub(crate) fn new(topic: &str, server: &'a Server, scratch: &'a Scratch) -> Self {
        for (name, password) in [("right.cnf", PASSWORD), ("wrong.cnf", "not-the-password")] {
            let _ = lab::program::password(scratch, name, password);
        }
        let names = vec![
            ("DIR", scratch.path().display().to_string()),
            ("SOCKET", server.socket().display().to_string()),
            ("ADDRESS", server.ip().to_string()),
            (OWN, user::unprivileged().name.clone()),
        ];
        let section = Section::new(&format!("{topic} on {}", name_of(server)));
        Self { section, server, names, scratch, wrong: Vec::new() }
    }

    /// Another word of the page, and what it stands for.
    pub(crate) fn name(&mut self, name: &'static str, value: impl ToString) {
        self.names.push((name, value.to_string()));
    }

    pub(crate) fn forget_name(&mut self) {
        self.names.pop();
    }

    pub(crate) fn server(&self) -> &Server {
        self.server
    }

    /// A file of `DIR`.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Asks, notes what is said, and remembers a verdict that is not the expected one.
    pub(crate) fn row(&mut self, situation: &str, options: &str, verdict: &str) -> Outcome {
        self.row_of(Check::new(CHECK), situation, options, verdict).1
    }

    /// A row that is up, over this transport.
    pub(crate) fn up(&mut self, situation: &str, options: &str, transport: &Transport) {
        let (got, _) = self.row_of(Check::new(CHECK), situation, options, UP);
        self.expect(situation, options, transport, &got);
    }

    /// A row with another `/etc/hosts`.
    pub(crate) fn named(&mut self, situation: &str, hosts: &str, options: &str, verdict: &str, transport: &Transport) {
        let hosts = self.scratch.file("hosts", hosts);
        let (got, _) = self.row_of(Check::with_mounted(CHECK, &hosts, "/etc/hosts"), situation, options, verdict);
        self.expect(situation, options, transport, &got);
    }

    /// A row that is refused as not configured.
    pub(crate) fn misconfigured(&mut self, situation: &str, options: &str, verdict: &str) {
        let outcome = self.row(situation, options, verdict);
        if outcome.code != Some(2) {
            self.wrong.push(format!("{situation}: {options}\n  not exit status 2: {outcome:?}"));
        }
    }

    fn expect(&mut self, situation: &str, options: &str, wanted: &Transport, got: &Transport) {
        if wanted != got {
            self.wrong.push(format!("{situation}: {options}\n  wanted over {wanted:?}, got {got:?}"));
        }
    }

    fn row_of(&mut self, check: Check, situation: &str, options: &str, verdict: &str) -> (Transport, Outcome) {
        let real = |word: &str| {
            self.names
                .iter()
                .fold(word.to_owned(), |word, (name, value)| word.replace(&format!("={name}"), &format!("={value}")))
        };
        let log = self.server.watch_queries();
        let outcome = check.args(["--timeout=10s", "--format=text"]).args(options.split_whitespace().map(real)).run();
        let said = verdict_of(CHECK, &outcome.stdout);
        let said = self.names.iter().fold(said, |said, (name, value)| said.replace(value, name));
        let user = options.split_once("--user=").map_or("mysqlchk", |(_, rest)| rest.split(' ').next().unwrap());
        let user = if user == OWN { &user::unprivileged().name } else { user };
        let mut lines = Vec::new();
        if said.starts_with("up") {
            wait::until("the statement is in the server's log", Duration::from_secs(60), || {
                lines = log.sessions_of(user).concat();
                lines.iter().any(|line| line.starts_with("Query"))
            });
        }
        let transport = match lines.iter().find_map(|line| line.strip_prefix("Connect ")?.split_once(" using ")) {
            None => Transport::None,
            Some((_, "Socket")) => Transport::Socket,
            Some((_, "TCP/IP")) => Transport::Plain,
            Some((_, "SSL/TLS")) => Transport::Encrypted,
            Some((_, other)) => panic!("{other}"),
        };
        let statements = lines.iter().filter_map(|line| line.strip_prefix("Query ").map(str::to_owned)).collect();
        let answer = Answer { verdict: said, statements };
        self.section.row(&name_of(self.server), situation, &format!("{CHECK} {options}"), &answer, None, From::Server);
        let is_up = answer.verdict.starts_with("up");
        let is_exit = if is_up { outcome.code == Some(0) } else { matches!(outcome.code, Some(1 | 2)) };
        if stable(&answer.verdict) != verdict || !is_exit || !outcome.stderr.is_empty() {
            self.wrong
                .push(format!("{situation}: {options}\n  wanted {verdict}\n  got    {} ({outcome:?})", answer.verdict));
        }
        (transport, outcome)
    }

    /// Holds the rows against what was expected, and then against the page.
    #[track_caller]
    pub(crate) fn close(self) {
        assert!(self.wrong.is_empty(), "{}", self.wrong.join("\n"));
        self.section.close();
    }
}

/// Opens a session of any account with the lab's password, over the socket.
pub(crate) fn session(server: &Server, user: &str) -> mysql::Result<Conn> {
    let socket = server.socket();
    let options = OptsBuilder::new().socket(socket.to_str()).prefer_socket(false).user(Some(user)).pass(Some(PASSWORD));
    Conn::new(options)
}
