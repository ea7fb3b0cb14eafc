//! Outcome -> bytes, one file for each form. Pure; only the file of the HTTP form has CRLF in it.

mod agent;
mod http;
mod json;
mod nagios;
mod prometheus;

use std::time::Duration;

use clap::ValueEnum;

use crate::outcome::Outcome;
use crate::step::Times;
use crate::verdict::Verdict;

/// The form a verdict is given in, as the operator asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// `text` when stdout is a terminal or the answer goes to a file, `http` otherwise.
    #[default]
    Auto,
    /// A raw HTTP response.
    Http,
    /// One line.
    Text,
    /// One JSON object.
    Json,
    /// The line and the exit status of a Nagios plugin.
    Nagios,
    /// Metrics; as an HTTP response when stdout is a socket.
    Prometheus,
    /// The line that `HAProxy`'s agent-check reads.
    Agent,
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
    /// The line of a Nagios plugin.
    Nagios,
    /// Metrics as they stand in a file.
    Prometheus,
    /// Metrics in an HTTP response, which is a 200 whatever the verdict.
    Scrape,
    /// The line of an agent.
    Agent,
}

/// How a run shows its outcome.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The name of the program.
    pub program: &'static str,
    /// The form.
    pub form: Form,
    /// What the whole run may take.
    pub budget: Duration,
    /// Whether the text form is empty when up.
    pub quiet: bool,
    /// Whether the reason replaces `OK` and `Service Unavailable` in the HTTP status line.
    pub reason_phrase: bool,
    /// Whether the client wants no body (`HEAD`).
    pub head: bool,
}

impl Form {
    /// Whether the client sends a request first.
    #[must_use]
    pub fn reads_a_request(self) -> bool {
        matches!(self, Form::Http | Form::Scrape)
    }

    /// Whether the form shows [`Outcome::gauges`].
    #[must_use]
    pub fn shows_gauges(self) -> bool {
        matches!(self, Form::Nagios | Form::Prometheus | Form::Scrape | Form::Agent)
    }
}

impl Reply {
    /// The whole answer.
    #[must_use]
    pub fn render(&self, outcome: &Outcome, times: impl FnOnce() -> Times) -> String {
        match self.form {
            Form::Http => http::verdict(self, &outcome.verdict),
            Form::Text if self.quiet && outcome.verdict.is_up() => String::new(),
            Form::Text => format!("{}: {}\n", self.program, outcome.verdict),
            Form::Json => json::object(self.program, outcome, &times()),
            Form::Nagios => nagios::line(self, outcome, &times()),
            Form::Prometheus => prometheus::page(self.program, outcome, &times()),
            Form::Scrape => http::metrics(&prometheus::page(self.program, outcome, &times()), self.head),
            Form::Agent => agent::line(outcome),
        }
    }

    /// The exit status that goes with this verdict: that of a plugin has four values.
    #[must_use]
    pub fn exit_status(&self, verdict: &Verdict) -> u8 {
        if self.form == Form::Nagios { verdict.nagios().0 } else { verdict.exit_status() }
    }
}

/// How long a run took; `None` where that is unknown, as after a crash.
fn total(times: &Times) -> Option<Duration> {
    times.iter().map(|(_, time)| *time).reduce(|one, other| one + other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verdict::{down, drain, misconfigured, up};

    pub(super) fn reply(form: Form) -> Reply {
        Reply {
            program: "mysqlchk-replication",
            form,
            budget: Duration::from_millis(900),
            quiet: false,
            reason_phrase: false,
            head: false,
        }
    }

    pub(super) fn render(reply: &Reply, verdict: Verdict) -> String {
        reply.render(&verdict.into(), Times::new)
    }

    #[test]
    fn the_text_form_is_one_line_and_quiet_only_when_up() {
        let loud = reply(Form::Text);
        assert_eq!(render(&loud, down("lag is NULL")), "mysqlchk-replication: down: lag is NULL\n");
        let quiet = Reply { quiet: true, ..loud };
        assert_eq!(render(&quiet, up("lag is 0s")), "");
        assert_eq!(render(&quiet, down("lag is NULL")), "mysqlchk-replication: down: lag is NULL\n");
        for form in [Form::Http, Form::Json, Form::Nagios, Form::Prometheus, Form::Scrape, Form::Agent] {
            assert_ne!(render(&Reply { form, ..quiet.clone() }, up("lag is 0s")), "");
        }
    }

    #[test]
    fn only_the_json_form_has_the_whole_of_a_long_reason() {
        let whole = format!("cannot read {}: permission denied", "x".repeat(300));
        let show = |form| render(&Reply { reason_phrase: true, ..reply(form) }, down(whole.as_str()));
        assert!(show(Form::Json).contains(&whole));
        let short = down(whole.as_str()).short_reason().into_owned();
        assert!(show(Form::Http).starts_with(&format!("HTTP/1.1 503 {short}\r\n")));
        assert_eq!(show(Form::Text), format!("mysqlchk-replication: down: {short}\n"));
        assert_eq!(show(Form::Agent), format!("down # {short}\n"));
    }

    #[test]
    fn only_a_plugin_has_a_fourth_exit_status() {
        let verdicts = [up("x"), drain("x"), down("x"), misconfigured("x")];
        for form in [Form::Http, Form::Text, Form::Json, Form::Prometheus, Form::Scrape, Form::Agent] {
            assert_eq!(verdicts.each_ref().map(|verdict| reply(form).exit_status(verdict)), [0, 1, 1, 2]);
        }
        assert_eq!(verdicts.each_ref().map(|verdict| reply(Form::Nagios).exit_status(verdict)), [0, 1, 2, 3]);
    }
}
