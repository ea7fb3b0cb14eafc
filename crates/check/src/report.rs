//! Verdict -> bytes, one function per form, and the one place that writes to stdout.

use std::sync::OnceLock;
use std::time::Duration;

use clap::ValueEnum;
use rustix::io::{Errno, write};
use serde_json::{Map, Value, json};
use watchdog::alarm;

use crate::deadline::Step;
use crate::verdict::Verdict;

/// The exit status of a check that found the server down, or nothing.
pub const DOWN: u8 = 1;
/// The exit status of a check that could not be made as configured.
pub const MISCONFIGURED: u8 = 2;

/// The form a verdict is given in, as the operator asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// `text` when stdout is a terminal, `http` otherwise.
    #[default]
    Auto,
    /// A raw HTTP response.
    Http,
    /// One line.
    Text,
    /// One JSON object.
    Json,
}

impl Format {
    /// The form this run answers in.
    #[must_use]
    pub fn resolve(self) -> Form {
        match self {
            Format::Auto if is_terminal() => Form::Text,
            Format::Auto | Format::Http => Form::Http,
            Format::Text => Form::Text,
            Format::Json => Form::Json,
        }
    }
}

/// Whether stdout is a terminal; looked at once, since it is wanted before and after the options are read.
fn is_terminal() -> bool {
    static IS_TERMINAL: OnceLock<bool> = OnceLock::new();
    *IS_TERMINAL.get_or_init(|| rustix::termios::isatty(rustix::stdio::stdout()))
}

/// The form a verdict is given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// A raw HTTP response.
    Http,
    /// One line.
    Text,
    /// One JSON object.
    Json,
}

/// How this run shows its verdict.
#[derive(Debug, Clone)]
pub struct Style {
    /// The name of the program.
    pub program: &'static str,
    /// The form.
    pub form: Form,
    /// Whether the text form says nothing when up.
    pub quiet: bool,
    /// Whether the reason replaces `OK` and `Service Unavailable` in the HTTP status line.
    pub reason_phrase: bool,
}

/// Everything a run has to say.
#[derive(Debug)]
pub struct Report {
    /// Up or down, and why.
    pub verdict: Verdict,
    /// Whether the check could not be made as configured.
    pub misconfigured: bool,
    /// Whether the client wants no body (`HEAD`).
    pub head: bool,
    /// What the rules saw; `Null` where no facts were had.
    pub facts: Value,
    /// How long each step took.
    pub times: Vec<(Step, Duration)>,
    /// Where the answer is from: `off`, `asked`, `shared`, or why sharing was not possible.
    pub share: String,
}

impl Report {
    /// 0 up, 1 down, 2 the check could not be made as configured.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match (self.misconfigured, self.verdict.is_up()) {
            (true, _) => MISCONFIGURED,
            (false, true) => 0,
            (false, false) => DOWN,
        }
    }
}

impl Style {
    /// The bytes that go out, all of them.
    #[must_use]
    pub fn render(&self, report: &Report) -> String {
        match self.form {
            Form::Text if self.quiet && report.verdict.is_up() => String::new(),
            Form::Text => format!("{}: {}\n", self.program, report.verdict),
            Form::Json => as_json(self.program, report),
            Form::Http => as_http(self.reason_phrase, report),
        }
    }
}

fn as_http(reason_phrase: bool, report: &Report) -> String {
    let verdict = &report.verdict;
    let (code, standard) = if verdict.is_up() { (200, "OK") } else { (503, "Service Unavailable") };
    let phrase = if reason_phrase { verdict.short_reason() } else { standard.into() };
    let body = format!("{verdict}\n");
    let length = body.len();
    let body = if report.head { "" } else { &body };
    format!(
        "HTTP/1.1 {code} {phrase}\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: {length}\r\n\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         \r\n\
         {body}"
    )
}

fn as_json(program: &str, report: &Report) -> String {
    let times: Map<String, Value> =
        report.times.iter().map(|(step, time)| (format!("{}_us", step.key()), json!(micros(*time)))).collect();
    let object = json!({
        "program": program,
        "verdict": report.verdict.word(),
        "reason": report.verdict.reason(),
        "misconfigured": report.misconfigured,
        "facts": report.facts,
        "times": times,
        "share": report.share,
    });
    format!("{object}\n")
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Writes `bytes` to stdout in one write, unless the timer answered before; says whether it did not.
///
/// A client that went away is no error: the check was made, and nobody is left to tell.
#[must_use]
pub fn answer(bytes: &str, status: u8) -> bool {
    if !alarm::claim(status) {
        return false;
    }
    let mut rest = bytes.as_bytes();
    while !rest.is_empty() {
        match write(rustix::stdio::stdout(), rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    alarm::answered();
    true
}

/// Tells the client that nothing more comes; `false` when stdout is no socket.
#[must_use]
pub fn half_close() -> bool {
    rustix::net::shutdown(rustix::stdio::stdout(), rustix::net::Shutdown::Write).is_ok()
}

/// Prints help and the like for a person. Not to a socket: the client of a service expects a response, so that is refused.
#[must_use]
pub fn print_for_a_person(text: &str) -> bool {
    let is_socket = rustix::fs::fstat(rustix::stdio::stdout())
        .is_ok_and(|about| rustix::fs::FileType::from_raw_mode(about.st_mode) == rustix::fs::FileType::Socket);
    !is_socket && answer(text, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{down, up};

    fn report(verdict: Verdict) -> Report {
        Report {
            verdict,
            misconfigured: false,
            head: false,
            facts: Value::Null,
            times: Vec::new(),
            share: "off".into(),
        }
    }

    fn style(form: Form) -> Style {
        Style { program: "mysqlchk-replication", form, quiet: false, reason_phrase: false }
    }

    #[test]
    fn the_http_form_is_the_one_of_the_manual() {
        assert_eq!(
            style(Form::Http).render(&report(down("lag is 42s, limit is 30s"))),
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 31\r\n\
             Connection: close\r\n\
             Cache-Control: no-store\r\n\
             \r\n\
             down: lag is 42s, limit is 30s\n"
        );
        assert!(style(Form::Http).render(&report(up("x"))).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn the_reason_can_stand_in_the_status_line() {
        let style = Style { reason_phrase: true, ..style(Form::Http) };
        assert!(style.render(&report(down("lag is NULL"))).starts_with("HTTP/1.1 503 lag is NULL\r\n"));
        assert!(style.render(&report(up("lag is 0s"))).starts_with("HTTP/1.1 200 lag is 0s\r\n"));
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let response = style(Form::Http).render(&Report { head: true, ..report(up("writable")) });
        assert!(response.contains("Content-Length: 13\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    }

    #[test]
    fn the_text_form_is_one_line_and_quiet_only_when_up() {
        let loud = style(Form::Text);
        assert_eq!(loud.render(&report(down("lag is NULL"))), "mysqlchk-replication: down: lag is NULL\n");
        let quiet = Style { quiet: true, ..loud };
        assert_eq!(quiet.render(&report(up("lag is 0s"))), "");
        assert_eq!(quiet.render(&report(down("lag is NULL"))), "mysqlchk-replication: down: lag is NULL\n");
        assert_ne!(Style { form: Form::Http, ..quiet }.render(&report(up("lag is 0s"))), "");
    }

    #[test]
    fn the_json_form_carries_facts_and_times() {
        let times = vec![(Step::Login, Duration::from_millis(2))];
        let text = style(Form::Json).render(&Report { facts: json!({"read_only": null}), times, ..report(down("x")) });
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["verdict"], "down");
        assert_eq!(value["facts"]["read_only"], Value::Null);
        assert_eq!(value["times"]["login_us"], 2000);
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn only_the_json_form_has_the_whole_of_a_long_reason() {
        let whole = format!("cannot read {}: permission denied", "x".repeat(300));
        let show = |form| Style { reason_phrase: true, ..style(form) }.render(&report(down(whole.as_str())));
        assert!(show(Form::Json).contains(&whole));
        let short = down(whole.as_str()).short_reason().into_owned();
        assert!(show(Form::Http).starts_with(&format!("HTTP/1.1 503 {short}\r\n")));
        assert_eq!(show(Form::Text), format!("mysqlchk-replication: down: {short}\n"));
    }

    #[test]
    fn the_exit_status_tells_down_from_misconfigured() {
        assert_eq!(report(up("x")).exit_status(), 0);
        assert_eq!(report(down("x")).exit_status(), 1);
        assert_eq!(Report { misconfigured: true, ..report(down("x")) }.exit_status(), MISCONFIGURED);
    }
}
