//! The pipeline every check goes through, and all it shares. It knows no particular check.
//!
//! ```text
//! arguments -> plan;  stdin -> request
//! plan, request -> target -> [note?] -> share::once(session -> probe -> Facts -> rules) -> Verdict -> render -> stdout
//! ```
//!
//! A check is four files: `options.rs` names its options, `probe.rs` turns rows into facts, `rules.rs` turns facts into a
//! [`Verdict`], and `main.rs` hands the three to [`run`]. Everything that can go wrong on the way is a [`Verdict`], too:
//! down, with the reason. Nothing is ever written to stderr, which under xinetd is the client's socket.

mod deadline;
mod gauge;
pub mod maintenance;
pub mod only_from;
mod options;
mod outcome;
mod program;
mod record;
mod render;
mod request;
mod share;
mod step;
mod stream;
mod verdict;

use std::ffi::OsString;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use client::{Limits, Session, VIA_EXTRA_PORT};
use serde_json::Value;
use watchdog::alarm::{self, Answer};

use deadline::Deadline;
use options::{Plan, Task};
use outcome::Outcome;
use render::Reply;
use request::Request;
use share::Key;
use step::{Step, Times};

pub use gauge::{Gauge, Quantity};
pub use options::DEFAULT_BUDGET;
pub use program::{Check, Validate};
pub use request::PROBES;
pub use verdict::{Verdict, down, drain, misconfigured, up};
#[doc(hidden)]
pub use watchdog;

/// What reads bytes from outside, for the targets below `fuzz/`.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::outcome::Outcome;
    pub use crate::record::{Stamp, TEXT_MAX, read as read_record, still_busy_for, write as write_record};
    pub use crate::request::{Instance, REQUEST_MAX, Request, is_whole, parse as parse_request};
    pub use crate::share::{Key, Sharing};
    pub use crate::stream::receive;
    pub use crate::verdict::REASON_MAX;
}

/// What a session may cost a check. The deadline ends it, so it needs no limits in time. Replication status carries GTID
/// sets, which can be long; `MySQL` allows 256 channels.
const LIMITS: Limits = Limits { connect: None, silence: None, packet: 16 * 1024 * 1024, rows: 1024 };

/// Makes the check and answers once, whatever happens. Returns the exit status: 0 up, 1 drain or down, 2 the check could
/// not be made as configured; for a Nagios plugin 0 to 3.
#[must_use]
pub fn run<C: Check>(arguments: &[OsString]) -> u8 {
    let started = Instant::now();
    // The driver can panic on what a server sends, and the default hook would write to the client's socket.
    panic::set_hook(Box::new(|_| {}));
    let mut reply = options::reply_without_options(C::NAME, arguments);
    let deadline = Deadline::new(started, DEFAULT_BUDGET, in_place(&reply, None));
    // Before anything is read, so that nothing hangs without a bound.
    let armed = deadline.arm();
    let placed = armed
        .and_then(|()| options::admit(arguments))
        .and_then(|()| stream::answer_into(options::typed_output(arguments).as_deref(), C::NAME));
    let plan = match placed.and_then(|()| caught(&deadline, || options::read::<C>(arguments, &deadline))) {
        Ok(Task::Print(text)) if stream::print_for_a_person(&text) => return alarm::status(),
        Ok(Task::Print(_)) => {
            Err(misconfigured("`--help`, `--version` and `--print-defaults` cannot be used in a service"))
        }
        Ok(Task::Check(plan)) => Ok(plan),
        Err(verdict) => Err(verdict),
    };
    let mut session = None;
    let found = caught(&deadline, || outcome::<C>(plan, &deadline, &mut reply, &mut session));
    let outcome = found.unwrap_or_else(Outcome::from);
    let times = deadline.times();
    deadline.enter(Step::Answer);
    if stream::answer(&reply.render(&outcome, || times), reply.exit_status(&outcome.verdict)) {
        // The goodbye keeps the server's `Aborted_clients` where it is, and can wait until the client has its answer.
        stream::leave(|| drop(session), || deadline.left());
    }
    alarm::status()
}

/// From the options to the outcome. The session is left open for the caller.
fn outcome<'d, C: Check>(
    plan: Result<Box<Plan<C::Options>>, Verdict>,
    deadline: &'d Deadline,
    reply: &mut Reply,
    session: &mut Option<Session<'d>>,
) -> Result<Outcome, Verdict> {
    if let Ok(plan) = &plan {
        *reply = plan.reply.clone();
        deadline.set_budget(reply.budget)?;
        stream::answer_into(plan.output.as_deref(), C::NAME)?;
    }
    deadline.answer_with(in_place(reply, None));
    deadline.enter(Step::Request);
    let request = if reply.form.reads_a_request() { stream::receive(reply.budget / 4) } else { Request::Silence };
    reply.head = matches!(request, Request::Http { head: true, .. });
    let plan = plan?;
    plan.admit()?;
    let target = plan.target(&request)?;
    deadline.enter(Step::Maintenance);
    if let Some(outcome) = plan.note(&target, deadline) {
        return Ok(outcome);
    }
    let key = plan.key(&target);
    deadline.answer_with(in_place(reply, key.as_ref()));
    Ok(share::once(key.as_ref(), deadline, || {
        let session = session.insert(Session::open(&target, &plan.account, &LIMITS, deadline)?);
        let facts = C::probe(session, &plan.rules)?;
        let verdict = C::judge(&facts, &plan.rules);
        let verdict = if session.is_via_extra_port() { verdict.after(VIA_EXTRA_PORT) } else { verdict };
        let gauges = if plan.wants_gauges() { C::gauges(&facts, &plan.rules) } else { Vec::new() };
        let facts = if plan.wants_facts() { serde_json::to_value(&facts).unwrap_or_default() } else { Value::Null };
        Ok(Outcome { facts, gauges, ..verdict.into() })
    }))
}

/// Runs a stage; a panic is a verdict, too. What panics is dropped half-way, and nothing of it is used afterwards.
fn caught<T>(deadline: &Deadline, stage: impl FnOnce() -> Result<T, Verdict>) -> Result<T, Verdict> {
    panic::catch_unwind(AssertUnwindSafe(stage)).unwrap_or_else(|_| Err(deadline.panicked()))
}

/// Makes the answer in place of the program, for the client and for the checks that wait for the answer of `key`.
fn in_place(reply: &Reply, key: Option<&Key>) -> impl Fn(Verdict, &dyn Fn() -> Times, Duration) -> Answer + 'static {
    let (reply, key) = (reply.clone(), key.cloned());
    move |verdict, times, left| {
        let outcome = Outcome::from(verdict);
        Answer {
            response: reply.render(&outcome, times),
            pieces: key.as_ref().map(|key| key.late_record(&outcome, left)).unwrap_or_default(),
            status: reply.exit_status(&outcome.verdict),
        }
    }
}
