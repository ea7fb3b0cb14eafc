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
mod option_file;
mod report;
mod request;
mod server;
mod variable;
mod verdict;

use std::env;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use serde_json::Value;

pub use args::switch;
pub use server::{Family, Row, ServerError, Session};
pub use variable::Variable;
pub use verdict::{Verdict, down, up};

use args::{Asked, Plan};
use deadline::{Deadline, Step};
use report::{Format, Outlet, Report, Style};
use request::Request;

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
    fn probe(session: &mut Session, options: &Self::Options) -> anyhow::Result<Self::Facts>;

    /// Judges the answer. Pure: no I/O, no clock.
    fn judge(facts: &Self::Facts, options: &Self::Options) -> Verdict;
}

/// Makes the check and answers once, whatever happens. The status is 0 up, 1 down, 2 the check could not be made as configured.
#[must_use]
pub fn run<C: Check>() -> ExitCode {
    let started = Instant::now();
    // The driver can panic on what a server sends, and the default hook would write to the client's socket.
    panic::set_hook(Box::new(|_| {}));

    let (plan, style, budget) = match args::parse(C::NAME, C::ABOUT, C::validate, env::args_os()) {
        Ok(Asked::Print(text)) if report::print_for_a_person(&text) => return ExitCode::SUCCESS,
        Ok(Asked::Print(_)) => misconfigured(C::NAME, anyhow::anyhow!("asked to print help or the like to a socket")),
        Ok(Asked::Check(plan)) => {
            let (style, budget) = (plan.style.clone(), plan.budget);
            (Ok(plan), style, budget)
        }
        Err(error) => misconfigured(C::NAME, error),
    };
    let deadline = Deadline::new(started, budget);
    let outlet = Outlet::default();
    let answer_late = late_answer(&deadline, &outlet, &style);
    if let Err(error) = deadline.watch(answer_late) {
        return finish(
            &outlet,
            &style,
            &Report::down(format!("cannot start a thread: {error}"), &deadline),
            None,
            &deadline,
        );
    }

    deadline.enter(Step::Request);
    let request = if style.form() == Format::Http { request::receive(budget / 4) } else { Request::Silence };
    // Whatever panics in here is dropped half-way, and nothing of it is used afterwards.
    let checked = panic::catch_unwind(AssertUnwindSafe(|| check::<C>(plan, &request, &deadline)));
    let (report, session) = checked
        .unwrap_or_else(|_| (Report::down("the driver gave up on what the server sent".into(), &deadline), None));
    let head = matches!(request, Request::Http { head: true, .. });
    finish(&outlet, &style, &Report { head, ..report }, session, &deadline)
}

type Configured<O> = (anyhow::Result<Box<Plan<O>>>, Style, Duration);

fn misconfigured<O>(name: &'static str, error: anyhow::Error) -> Configured<O> {
    (Err(error), args::style_of_last_resort(name, env::args_os()), args::DEFAULT_BUDGET)
}

/// From the request to the verdict. The session is handed back, so that its goodbye can wait until the answer is out.
fn check<C: Check>(
    plan: anyhow::Result<Box<Plan<C::Options>>>,
    request: &Request,
    deadline: &Deadline,
) -> (Report, Option<Session>) {
    let plan = match plan {
        Ok(plan) => plan,
        Err(error) => return (Report { misconfigured: true, ..Report::down(format!("{error:#}"), deadline) }, None),
    };
    let chosen = match request {
        Request::Garbage(what) => return (Report::down((*what).to_owned(), deadline), None),
        Request::Http { port: Some(port), .. } => plan.instance(port),
        Request::Http { port: None, .. } | Request::Silence => Ok(plan.endpoint.clone()),
    };
    let opened = chosen.and_then(|endpoint| Ok(Session::open(&endpoint, &plan.account, deadline)?));
    let mut session = match opened {
        Ok(session) => session,
        Err(error) => return (Report::down(format!("{error:#}"), deadline), None),
    };
    let report = match C::probe(&mut session, &plan.own) {
        Ok(facts) => {
            Report::of(C::judge(&facts, &plan.own), serde_json::to_value(&facts).unwrap_or_default(), deadline)
        }
        Err(error) => Report::down(format!("{error:#}"), deadline),
    };
    (report, Some(session))
}

/// The answer of a run whose budget is spent; the process ends after it.
fn late_answer(deadline: &Deadline, outlet: &Outlet, style: &Style) -> impl FnOnce(Step) -> u8 + Send + 'static {
    let (deadline, outlet, style) = (deadline.clone(), outlet.clone(), style.clone());
    move |step| {
        let reason = format!("no verdict within {} (while {step})", duration::show(deadline.budget()));
        let report = Report::down(reason, &deadline);
        // When the first thread was faster, it is still on its way out, and its status stands.
        let _ = outlet.answer(&style.render(&report), report.exit_status());
        outlet.status()
    }
}

/// Answers, then leaves the client and the server in order: nothing unread that would turn our close into a reset, and a
/// goodbye that keeps `Aborted_clients` where it is.
fn finish(outlet: &Outlet, style: &Style, report: &Report, session: Option<Session>, deadline: &Deadline) -> ExitCode {
    deadline.enter(Step::Answer);
    if outlet.answer(&style.render(report), report.exit_status()) {
        let is_socket = report::half_close();
        drop(session);
        if is_socket && let Some(left) = deadline.left() {
            request::drain(left);
        }
    }
    ExitCode::from(outlet.status())
}

impl Report {
    fn of(verdict: Verdict, facts: Value, deadline: &Deadline) -> Report {
        Report { verdict, misconfigured: false, head: false, facts, times: deadline.times() }
    }

    fn down(reason: String, deadline: &Deadline) -> Report {
        Report::of(down(reason), Value::Null, deadline)
    }
}
