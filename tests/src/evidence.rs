//! `docs/servers.md`: what each check said on which server, written by the tests that saw it.
//!
//! A test owns a section of the page. It fails when the page says something else than what was seen just now, after
//! writing the section anew: so the page on record is always one that a run has confirmed.

use std::fs;
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::program::{Check, local};
use crate::server::Server;
use crate::{shipped, user, wait};

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// A real server, in this run.
    Server,
    /// Rows on record, served to the check by the lab.
    Record,
}

/// A section of the page, while its test fills it.
#[derive(Debug)]
pub struct Section {
    title: String,
    rows: Vec<String>,
}

/// What a check said of a server.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `up: ...` or `down: ...`.
    pub verdict: String,
    /// What it asked, statement by statement; empty when it did not get so far.
    pub statements: Vec<String>,
}

/// Asks a server over its socket with the text form and time enough for a busy machine, and notes the statements.
#[track_caller]
pub fn ask(server: &Server, program: &str, options: &[&str]) -> Answer {
    let log = server.watch_queries();
    let outcome = Check::new(program).args(local(server)).args(["--timeout=10s", "--format=text"]).args(options).run();
    let verdict = verdict_of(program, &outcome.stdout);
    let account = format!("{}@localhost", user::unprivileged().name);
    let mut statements = Vec::new();
    // The log is written as the server gets to it; a server that was not reached says nothing.
    if !verdict.starts_with("down: cannot connect")
        && !verdict.starts_with("down: cannot log in")
        && !server.is_frozen()
    {
        wait::until("the statement is in the server's log", Duration::from_secs(5), || {
            let sessions = log.sessions_of(&account);
            let queries = sessions.into_iter().flatten().filter_map(|line| {
                // `MySQL` keeps the semicolon that ends one of several.
                line.strip_prefix("Query ").map(|statement| statement.trim_end_matches(';').to_owned())
            });
            statements = queries.collect();
            !statements.is_empty() || verdict.contains("needs MySQL")
        });
    }
    Answer { verdict, statements }
}

/// The verdict in the text form.
#[track_caller]
pub fn verdict_of(program: &str, stdout: &str) -> String {
    let line = stdout.strip_prefix(&format!("{program}: ")).unwrap_or_else(|| panic!("{program} said {stdout:?}"));
    line.trim_end().to_owned()
}

/// What `check_mysql -S` of the monitoring-plugins says of the same server: `OK`, `WARNING`, `CRITICAL` or `UNKNOWN`, and why.
#[must_use]
pub fn check_mysql(server: &Server) -> String {
    let plugin = "/usr/lib/nagios/plugins/check_mysql";
    assert!(fs::metadata(plugin).is_ok(), "{plugin} is not installed: run make deps");
    let mut command = Command::new("timeout");
    command.args(["5", plugin, "-S", "-w", "30", "-c", "30", "-u"]).arg(&user::unprivileged().name);
    command.arg("-s").arg(server.socket());
    let done = user::drop_to_unprivileged(&mut command).output().unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    let word = match done.status.code() {
        Some(0) => "OK",
        Some(1) => "WARNING",
        Some(2) => "CRITICAL",
        Some(124) => return "hangs".into(),
        _ => "UNKNOWN",
    };
    // Counters and times of the server stand before what it says of replication, and the lag is another one each time.
    let why = said.split(['|', '\n']).next().unwrap_or_default();
    let why = match (why.split_once("Slave IO"), why.contains("SQL syntax")) {
        (Some((_, threads)), _) => format!("Slave IO{}", threads.split(" Seconds").next().unwrap_or_default()),
        (None, true) => "error in the SQL syntax".into(),
        (None, false) if why.contains("Can't connect") => "cannot connect".into(),
        (None, false) => why.trim().to_owned(),
    };
    format!("{word}: {why}")
}

impl Section {
    /// The section of this title.
    #[must_use]
    pub fn new(title: &str) -> Self {
        Self { title: title.to_owned(), rows: Vec::new() }
    }

    /// One row: the server, what it was in, the check with its options, what it asked and said, and what `check_mysql -S`
    /// says where that applies.
    pub fn row(&mut self, server: &str, situation: &str, check: &str, answer: &Answer, peer: Option<&str>, from: From) {
        let statements: Vec<String> = answer.statements.iter().map(|statement| short(statement)).collect();
        let statements = if statements.is_empty() { "none".into() } else { statements.join("; ") };
        let from = match from {
            From::Server => "server",
            From::Record => "record",
        };
        let code = |text: &str| if text.contains('`') { format!("`` {text} ``") } else { format!("`{text}`") };
        self.rows.push(format!(
            "| {server} | {situation} | `{check}` | {} | {} | {} | {from} |",
            code(&statements),
            code(&stable(&answer.verdict)),
            peer.unwrap_or(""),
        ));
    }

    /// Holds the section against the page.
    ///
    /// # Panics
    /// When the page says something else; it is brought up to date.
    #[track_caller]
    pub fn close(self) {
        static PAGE: Mutex<()> = Mutex::new(());
        let _one_at_a_time = PAGE.lock().unwrap_or_else(PoisonError::into_inner);
        let path = shipped::file("docs/servers.md");
        let page = fs::read_to_string(&path).unwrap_or_default();
        let heading = format!("## {}\n", self.title);
        let head = "| server | situation | check | statement | verdict | check_mysql -S | from |\n| --- | --- | --- | --- | --- | --- | --- |\n";
        let section = format!("{heading}\n{head}{}\n", self.rows.join("\n"));
        let (before, rest) = page.split_once(&heading).unwrap_or((page.as_str(), ""));
        let after = rest.find("\n## ").map_or("", |at| &rest[at + 1..]);
        let parts = [before.trim_end(), section.trim_end(), after.trim_end()];
        let fresh = parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n") + "\n";
        if fresh != page {
            fs::write(&path, fresh).unwrap();
            panic!(
                "docs/servers.md said something else under `{}`: look at it with git diff, and commit it",
                self.title
            );
        }
    }
}

/// Statements short enough for a table: what they read from. `MariaDB` logs several that came together as one.
fn short(statements: &str) -> String {
    statements.split("; ").map(short_one).collect::<Vec<_>>().join("; ")
}

fn short_one(statement: &str) -> String {
    let statement = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    match statement.split_once(" FROM ") {
        Some((_, from)) if statement.len() > 60 => {
            format!("SELECT ... FROM {}", from.split([' ', ')']).next().unwrap_or_default())
        }
        _ if statement.len() > 60 => format!("{}...", &statement[..40]),
        _ => statement,
    }
}

/// Without what differs from run to run: addresses, paths, and times other than zero and limits.
#[must_use]
pub fn stable(text: &str) -> String {
    let mut words: Vec<String> = Vec::new();
    for word in text.split(' ') {
        let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        let digits = core.trim_end_matches("ms").trim_end_matches('s');
        let is_time =
            digits.len() < core.len() && digits.bytes().all(|byte| byte.is_ascii_digit()) && !digits.is_empty();
        let is_limit =
            words.len() >= 2 && words[words.len() - 2] == "limit" || words.last().is_some_and(|last| last == "within");
        words.push(if is_time && !is_limit && digits != "0" {
            word.replace(core, "Ns")
        } else if word.starts_with("/tmp/") {
            format!("SOCKET{}", if word.ends_with(':') { ":" } else { "" })
        } else if (word.starts_with("127.") || word.starts_with("[::1]")) && word.ends_with(':') {
            "ADDRESS:".into()
        } else {
            word.to_owned()
        });
    }
    words.join(" ")
}
