//! The pipeline every check goes through, and all it shares. It knows no particular check.
//!
//! ```text
//! stdin -> request -> [deadline: server -> probe -> Facts -> rules] -> Verdict -> report -> stdout
//! ```
//!
//! A check is three files: `main.rs` names its options and implements [`Check`], `probe.rs` turns rows into facts,
//! `rules.rs` turns facts into a [`Verdict`]. Everything that can go wrong on the way is a [`Verdict`], too: down,
//! with the reason. Nothing is ever written to stderr, which under xinetd is the client's socket.

mod args;
mod deadline;
pub mod duration;
pub mod group;
mod option_file;
mod record;
mod report;
mod request;
mod rows;
mod server;
mod share;
mod tls;
mod variable;
mod verdict;

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use anyhow::anyhow;
use serde_json::Value;
use watchdog::alarm::{self, Answer};

/// The entry point of a check: `check::main!(MyCheck);`
#[macro_export]
macro_rules! main {
    ($check:ty) => {
        $crate::watchdog::entry!($crate::run::<$check>);
    };
}

#[doc(hidden)]
pub use watchdog;

pub use args::{number, switch};
pub use rows::{Row, Rows};
pub use server::{Family, ServerError, Session};
pub use variable::Variable;
pub use verdict::{Verdict, down, up};

use args::{Asked, Plan};
use deadline::{Deadline, GAVE_UP, OPTIONS_CRASHED, Step, Times};
use report::{Form, Report, Style};
use request::Request;
use server::{FULL_HOUSE, Target};
use share::{Question, Turn};

/// What reads bytes from outside, for the targets below `fuzz/`.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::args::{Asked, Plan, parse as parse_arguments};
    pub use crate::deadline::Deadline;
    pub use crate::option_file::{Setting, Settings, read as read_option_file};
    pub use crate::record::{Stamp, TEXT_MAX, read as read_record, still_busy_for, write as write_record};
    pub use crate::request::{Instance, REQUEST_MAX, Request, is_whole, parse as parse_request, receive};
    pub use crate::share::{Question, Sharing};
    pub use crate::verdict::REASON_MAX;
    pub use watchdog::alarm::Answer;
}

/// One check: a name, options, a question to the server, and the rules that judge its answer.
pub trait Check {
    /// The name of the program, which is also its group in option files.
    const NAME: &'static str;
    /// The question it answers, for `--help`.
    const ABOUT: &'static str;
    /// The options that only this check has.
    type Options: clap::Args;
    /// What the server said, in typed values. The JSON form shows all of it.
    type Facts: serde::Serialize;

    /// Refuses options that contradict each other; by default none do.
    ///
    /// # Errors
    /// The words name both options.
    fn validate(_options: &Self::Options) -> Result<(), String> {
        Ok(())
    }

    /// Asks the server.
    ///
    /// # Errors
    /// When the server gives no answer that can be read. The words are the reason of the verdict.
    fn probe(session: &mut Session<'_>, options: &Self::Options) -> anyhow::Result<Self::Facts>;

    /// Judges the answer. Pure: no I/O, no clock.
    fn judge(facts: &Self::Facts, options: &Self::Options) -> Verdict;
}

/// Makes the check and answers once, whatever happens. Returns the exit status: 0 up, 1 down, 2 the check could not be
/// made as configured.
#[must_use]
pub fn run<C: Check>(arguments: &[OsString]) -> u8 {
    let started = Instant::now();
    // The driver can panic on what a server sends, and the default hook would write to the client's socket.
    panic::set_hook(Box::new(|_| {}));

    // Before anything is read, so that nothing hangs without a bound.
    let style = args::style_of_last_resort(C::NAME, arguments.iter().cloned());
    let mut deadline = Deadline::new(started, args::DEFAULT_BUDGET, in_our_place(&style, true, false, None));
    if let Err(reason) = deadline.arm() {
        return finish(&style, &Report::down(reason, &deadline), None, &deadline);
    }
    let plan = match options::<C>(arguments) {
        Ok(Asked::Print(text)) if report::print_for_a_person(&text) => return 0,
        Ok(Asked::Print(_)) => Err(anyhow!("asked to print help or the like to a socket")),
        Ok(Asked::Check(plan)) => Ok(plan),
        Err(error) => Err(error),
    };
    let (style, budget) = plan.as_ref().map_or((style, args::DEFAULT_BUDGET), |plan| (plan.style.clone(), plan.budget));
    if let Err(reason) = deadline.set_budget(budget) {
        return finish(&style, &Report::down(reason, &deadline), None, &deadline);
    }

    deadline.answer_with(in_our_place(&style, false, false, None));
    deadline.enter(Step::Request);
    let request = if style.form == Form::Http { request::receive(budget / 4) } else { Request::Silence };
    let head = matches!(request, Request::Http { head: true, .. });
    let aim = aim(plan, &request);
    deadline.answer_with(in_our_place(&style, false, head, aim.as_ref().ok().and_then(|aim| aim.question.as_ref())));
    // Whatever panics in here is dropped half-way, and nothing of it is used afterwards.
    let checked = panic::catch_unwind(AssertUnwindSafe(|| check::<C>(&aim, &deadline)));
    let (report, session) = checked.unwrap_or_else(|_| (Report::down(GAVE_UP.to_owned(), &deadline), None));
    finish(&style, &Report { head, ..report }, session, &deadline)
}

/// Reads the options; a panic on the way is an error like any other.
fn options<C: Check>(arguments: &[OsString]) -> anyhow::Result<Asked<C::Options>> {
    let parse = || args::parse(C::NAME, C::ABOUT, C::validate, arguments.iter().cloned());
    panic::catch_unwind(parse).unwrap_or_else(|_| Err(anyhow!(OPTIONS_CRASHED)))
}

/// Makes what is said in place of the program, for the client and for those who wait for the answer to `question`.
fn in_our_place(
    style: &Style,
    misconfigured: bool,
    head: bool,
    question: Option<&Question>,
) -> impl Fn(String, Times, Duration) -> Answer + 'static {
    let (style, question) = (style.clone(), question.cloned());
    move |reason, times, left| {
        let (facts, share) = (Value::Null, "off".to_owned());
        let report = Report { verdict: down(reason), misconfigured, head, facts, times, share };
        let pieces = question.as_ref().map(|question| question.late_record(&report.verdict, left));
        Answer { response: style.render(&report), pieces: pieces.unwrap_or_default(), status: report.exit_status() }
    }
}

/// What is to be asked, and of whom.
struct Aim<O> {
    plan: Box<Plan<O>>,
    target: Target,
    question: Option<Question>,
}

/// Why nobody is asked.
struct Refusal {
    why: anyhow::Error,
    misconfigured: bool,
}

/// The options and the request together: which instance is asked, and whether the answer is shared.
fn aim<O>(plan: anyhow::Result<Box<Plan<O>>>, request: &Request) -> Result<Aim<O>, Refusal> {
    let plan = plan.map_err(|why| Refusal { why, misconfigured: true })?;
    let target = plan.chosen(request).map_err(|why| Refusal { why, misconfigured: false })?;
    let question = plan.question(&target);
    Ok(Aim { plan, target, question })
}

/// From the aim to the verdict. The session is handed back, so that its goodbye can wait until the answer is out.
fn check<'d, C: Check>(
    aim: &Result<Aim<C::Options>, Refusal>,
    deadline: &'d Deadline,
) -> (Report, Option<Session<'d>>) {
    let aim = match aim {
        Ok(aim) => aim,
        Err(Refusal { why, misconfigured }) => {
            return (Report { misconfigured: *misconfigured, ..Report::down(format!("{why:#}"), deadline) }, None);
        }
    };
    let Some(question) = &aim.question else {
        return ask::<C>(aim, deadline);
    };
    deadline.enter(Step::Share);
    match question.wait(deadline) {
        Ok(Turn::Shared(verdict, facts)) => (Report::of(verdict, facts, deadline).from("shared"), None),
        Ok(Turn::Ours(flight)) => {
            let (report, session) = ask::<C>(aim, deadline);
            let told = flight.land(&report.verdict, &report.facts);
            (report.from(told.as_ref().map_or_else(String::as_str, |()| "asked")), session)
        }
        Err(why) => {
            let (report, session) = ask::<C>(aim, deadline);
            (report.from(&why), session)
        }
    }
}

/// Asks the server and judges what it says.
fn ask<'d, C: Check>(aim: &Aim<C::Options>, deadline: &'d Deadline) -> (Report, Option<Session<'d>>) {
    let Aim { plan, target, .. } = aim;
    let mut session = match Session::open(target, &plan.account, deadline) {
        Ok(session) => session,
        Err(error) => return (Report::down(error.to_string(), deadline), None),
    };
    let report = match C::probe(&mut session, &plan.own) {
        Ok(facts) => {
            let verdict = C::judge(&facts, &plan.own);
            let verdict = if session.is_beside_a_full_house() { verdict.after(FULL_HOUSE) } else { verdict };
            let wanted = plan.style.form == Form::Json || plan.sharing.is_some();
            let facts = if wanted { serde_json::to_value(&facts).unwrap_or_default() } else { Value::Null };
            Report::of(verdict, facts, deadline)
        }
        Err(error) => Report::down(format!("{error:#}"), deadline),
    };
    (report, Some(session))
}

/// Answers, then leaves the client and the server in order: nothing unread that would turn our close into a reset, and a
/// goodbye that keeps `Aborted_clients` where it is.
fn finish(style: &Style, report: &Report, session: Option<Session<'_>>, deadline: &Deadline) -> u8 {
    deadline.enter(Step::Answer);
    if report::answer(&style.render(report), report.exit_status()) {
        let is_socket = report::half_close();
        drop(session);
        if is_socket && let Some(left) = deadline.left() {
            request::drain(left);
        }
    }
    alarm::status()
}

impl Report {
    fn of(verdict: Verdict, facts: Value, deadline: &Deadline) -> Report {
        let (times, share) = (deadline.times(), "off".to_owned());
        Report { verdict, misconfigured: false, head: false, facts, times, share }
    }

    fn down(reason: String, deadline: &Deadline) -> Report {
        Report::of(down(reason), Value::Null, deadline)
    }

    fn from(self, share: &str) -> Report {
        Report { share: share.to_owned(), ..self }
    }
}
