//! One budget for the whole run: whatever hangs, the answer leaves in time.
//!
//! The driver's own timeouts bound single calls. They do not bound a server that sends a byte now and then, and nothing
//! bounds `connect()` on a Unix socket whose accept queue is full. So a timer answers in place of the program when the
//! budget has run out; what it says is made ready when the timer is set.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use oneshot::alarm::{self, Answer, Answers};

use crate::duration;

/// The reason when the driver panics on what a server sends, or wants more memory than there is.
pub const GAVE_UP: &str = "the driver gave up on what the server sent";

/// What a run does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the request from stdin. Bounded by itself, before the timer is set.
    Request,
    /// Waiting for the answer of another check that asks the same question.
    Share,
    /// Looking up the address of a host name.
    Resolve,
    /// Connecting and logging in, which the driver does in one call.
    Connect,
    /// That the connection stands, and the login does not: never entered, only what is said when the time is over.
    Login,
    /// Running the query.
    Query,
    /// Handing over the answer.
    Answer,
}

impl Step {
    const ALL: [Step; 7] =
        [Step::Request, Step::Share, Step::Resolve, Step::Connect, Step::Login, Step::Query, Step::Answer];

    /// The key under which the JSON form gives the time of this step.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Step::Request => "request",
            Step::Share => "share",
            Step::Resolve => "resolve",
            Step::Connect | Step::Login => "login",
            Step::Query => "query",
            Step::Answer => "answer",
        }
    }
}

/// What is going on, to stand after `while`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Request => "reading the request",
            Step::Share => "waiting for a shared answer",
            Step::Resolve => "looking up the host name",
            Step::Connect => "connecting",
            Step::Login => "logging in",
            Step::Query => "querying",
            Step::Answer => "answering",
        })
    }
}

/// The budget of a run, and how far it has come.
#[derive(Debug)]
pub struct Deadline {
    started: Instant,
    budget: Duration,
    /// When each step was entered, after the start.
    entered: [Cell<Option<Duration>>; Step::ALL.len()],
}

impl Deadline {
    /// A budget that began to run at `started`.
    #[must_use]
    pub fn new(started: Instant, budget: Duration) -> Deadline {
        Deadline { started, budget, entered: Default::default() }
    }

    /// Sets the timer: when the budget has run out, or the process is aborted, it answers with what `answer` made of the
    /// reason, leaves word for those who wait, and ends with `status`.
    ///
    /// # Errors
    /// When the budget has run out already, or the system refuses the timer. The words are a reason.
    pub fn arm(&self, status: u8, answer: impl Fn(&str) -> Answer) -> Result<(), String> {
        let reason = |step| format!("no verdict within {} (while {step})", duration::show(self.budget));
        let Some(left) = self.left() else {
            return Err(reason(Step::Request));
        };
        let late = Step::ALL.into_iter().map(|step| answer(&reason(step))).collect();
        let answers = Answers { late, aborted: answer(GAVE_UP) };
        alarm::arm(left, answers, status).map_err(|error: io::Error| format!("cannot set a timer: {}", error.kind()))
    }

    /// What is left of the budget; `None` when it has run out.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.budget.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
    }

    /// Notes that `step` begins.
    pub fn enter(&self, step: Step) {
        if let Some(entered) = self.entered.get(step as usize) {
            entered.set(Some(self.started.elapsed()));
        }
        match step {
            Step::Connect => alarm::doing_until_connected(Step::Connect as usize, Step::Login as usize),
            step => alarm::doing(step as usize),
        }
    }

    /// How long each step took that was entered, up to now.
    #[must_use]
    pub fn times(&self) -> Vec<(Step, Duration)> {
        let entered: Vec<(Step, Duration)> = Step::ALL
            .into_iter()
            .zip(&self.entered)
            .filter_map(|(step, entered)| Some((step, entered.get()?)))
            .collect();
        let ends = entered.iter().skip(1).map(|(_, begin)| *begin).chain([self.started.elapsed()]);
        entered.iter().zip(ends).map(|((step, begin), end)| (*step, end.saturating_sub(*begin))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_has_nothing_left() {
        let now = Instant::now();
        assert!(Deadline::new(now, Duration::from_secs(60)).left().is_some());
        assert_eq!(Deadline::new(now, Duration::ZERO).left(), None);
        let late = |_: &str| Answer { response: String::new(), record: String::new() };
        let refused = Deadline::new(now, Duration::ZERO).arm(1, late).unwrap_err();
        assert_eq!(refused, "no verdict within 0s (while reading the request)");
    }

    #[test]
    fn steps_are_timed_one_after_the_other() {
        let deadline = Deadline::new(Instant::now(), Duration::from_secs(60));
        deadline.enter(Step::Request);
        deadline.enter(Step::Query);
        let times = deadline.times();
        assert_eq!(times.iter().map(|(step, _)| step.key()).collect::<Vec<_>>(), ["request", "query"]);
        assert!(times.iter().map(|(_, time)| *time).sum::<Duration>() <= deadline.started.elapsed());
    }
}
