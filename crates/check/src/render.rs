//! Outcome -> bytes, one function for each form. Pure, and the only file with CRLF in it.

use clap::ValueEnum;
use serde_json::{Map, Value, json};

use crate::step::Times;
use crate::verdict::Verdict;

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

/// How a run shows its outcome.
#[derive(Debug, Clone)]
pub struct Reply {
    /// The name of the program.
    pub program: &'static str,
    /// The form.
    pub form: Form,
    /// Whether the text form is empty when up.
    pub quiet: bool,
    /// Whether the reason replaces `OK` and `Service Unavailable` in the HTTP status line.
    pub reason_phrase: bool,
    /// Whether the client wants no body (`HEAD`).
    pub head: bool,
}

/// What a run found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Up or down, and why.
    pub verdict: Verdict,
    /// What the rules saw; `Null` where there are no facts, or where they are not wanted.
    pub facts: Value,
    /// Where the answer is from: `off`, `asked`, `shared`, or why sharing was not possible.
    pub share: String,
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Outcome {
        Outcome { verdict, facts: Value::Null, share: "off".to_owned() }
    }
}

impl Reply {
    /// The whole answer.
    #[must_use]
    pub fn render(&self, outcome: &Outcome, times: impl FnOnce() -> Times) -> String {
        match self.form {
            Form::Text if self.quiet && outcome.verdict.is_up() => String::new(),
            Form::Text => format!("{}: {}\n", self.program, outcome.verdict),
            Form::Json => as_json(self.program, outcome, &times()),
            Form::Http => as_http(self, &outcome.verdict),
        }
    }
}

/// Made for each step of a run, in case that it hangs: so without the machinery of `format!`.
fn as_http(reply: &Reply, verdict: &Verdict) -> String {
    let (code, standard) = verdict.http();
    let reason = verdict.short_reason();
    let phrase = if reply.reason_phrase { &*reason } else { standard };
    let body = [verdict.word(), ": ", &*reason, "\n"].concat();
    let length = body.len().to_string();
    [
        "HTTP/1.1 ",
        code,
        " ",
        phrase,
        "\r\n\
         Content-Type: text/plain; charset=utf-8\r\n\
         Content-Length: ",
        &length,
        "\r\n\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         \r\n",
        if reply.head { "" } else { &body },
    ]
    .concat()
}

fn as_json(program: &str, outcome: &Outcome, times: &Times) -> String {
    let micros = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let times: Map<String, Value> =
        times.iter().map(|(step, time)| (format!("{}_us", step.key()), json!(micros(*time)))).collect();
    let object = json!({
        "program": program,
        "verdict": outcome.verdict.word(),
        "reason": outcome.verdict.reason(),
        "misconfigured": outcome.verdict.is_misconfigured(),
        "facts": outcome.facts,
        "times": times,
        "share": outcome.share,
    });
    format!("{object}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::Step;
    use crate::verdict::{down, up};
    use std::time::Duration;

    fn reply(form: Form) -> Reply {
        Reply { program: "mysqlchk-replication", form, quiet: false, reason_phrase: false, head: false }
    }

    fn render(reply: &Reply, verdict: Verdict) -> String {
        reply.render(&verdict.into(), Times::new)
    }

    #[test]
    fn the_http_form_is_the_one_of_the_manual() {
        assert_eq!(
            render(&reply(Form::Http), down("lag is 42s, limit is 30s")),
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 31\r\n\
             Connection: close\r\n\
             Cache-Control: no-store\r\n\
             \r\n\
             down: lag is 42s, limit is 30s\n"
        );
        assert!(render(&reply(Form::Http), up("x")).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn the_reason_can_stand_in_the_status_line() {
        let reply = Reply { reason_phrase: true, ..reply(Form::Http) };
        assert!(render(&reply, down("lag is NULL")).starts_with("HTTP/1.1 503 lag is NULL\r\n"));
        assert!(render(&reply, up("lag is 0s")).starts_with("HTTP/1.1 200 lag is 0s\r\n"));
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let response = render(&Reply { head: true, ..reply(Form::Http) }, up("writable"));
        assert!(response.contains("Content-Length: 13\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    }

    #[test]
    fn the_text_form_is_one_line_and_quiet_only_when_up() {
        let loud = reply(Form::Text);
        assert_eq!(render(&loud, down("lag is NULL")), "mysqlchk-replication: down: lag is NULL\n");
        let quiet = Reply { quiet: true, ..loud };
        assert_eq!(render(&quiet, up("lag is 0s")), "");
        assert_eq!(render(&quiet, down("lag is NULL")), "mysqlchk-replication: down: lag is NULL\n");
        assert_ne!(render(&Reply { form: Form::Http, ..quiet }, up("lag is 0s")), "");
    }

    #[test]
    fn the_json_form_carries_facts_and_times() {
        let times = vec![(Step::Login, Duration::from_millis(2))];
        let outcome = Outcome { facts: json!({"read_only": null}), ..down("x").into() };
        let text = reply(Form::Json).render(&outcome, || times);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["verdict"], "down");
        assert_eq!(value["facts"]["read_only"], Value::Null);
        assert_eq!(value["times"]["login_us"], 2000);
        assert_eq!(text.lines().count(), 1);
    }

    #[test]
    fn only_the_json_form_has_the_whole_of_a_long_reason() {
        let whole = format!("cannot read {}: permission denied", "x".repeat(300));
        let show = |form| render(&Reply { reason_phrase: true, ..reply(form) }, down(whole.as_str()));
        assert!(show(Form::Json).contains(&whole));
        let short = down(whole.as_str()).short_reason().into_owned();
        assert!(show(Form::Http).starts_with(&format!("HTTP/1.1 503 {short}\r\n")));
        assert_eq!(show(Form::Text), format!("mysqlchk-replication: down: {short}\n"));
    }
}
