//! One budget for the whole run: whatever hangs, the answer leaves in time.
//!
//! The driver's own timeouts bound single calls. They do not bound a server that sends a byte now and then, and nothing
//! bounds `connect()` on a Unix socket whose accept queue is full. So a timer answers in place of the program when the
//! budget has run out; what it says is made ready whenever a step begins. It is set before anything is read.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use watchdog::alarm::{self, Answer};

use crate::duration;

/// The reason when the driver panics on what a server sends, or wants more memory than there is.
pub const GAVE_UP: &str = "the driver gave up on what the server sent";
/// The reason when the program panics or crashes on an option.
pub const OPTIONS_CRASHED: &str = "crashed while reading the options";

/// What a run does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Reading the option files and the command line.
    Options,
    /// Reading the request from stdin, which has a bound of its own.
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
    const ALL: [Step; 8] = [
        Step::Options,
        Step::Request,
        Step::Share,
        Step::Resolve,
        Step::Connect,
        Step::Login,
        Step::Query,
        Step::Answer,
    ];

    /// The key under which the JSON form gives the time of this step.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Step::Options => "options",
            Step::Request => "request",
            Step::Share => "share",
            Step::Resolve => "resolve",
            Step::Connect | Step::Login => "login",
            Step::Query => "query",
            Step::Answer => "answer",
        }
    }

    /// The reason when the program crashes in this step; `None` where it is that of the step before.
    fn crashed(self) -> Option<&'static str> {
        match self {
            Step::Options => Some(OPTIONS_CRASHED),
            Step::Request => Some("crashed before the server was asked"),
            // The modules that nsswitch.conf names are loaded into the program, and not all of them survive that.
            Step::Resolve => Some("looking up the host name crashed: write an address, not a name"),
            Step::Connect => Some(GAVE_UP),
            Step::Share | Step::Login | Step::Query | Step::Answer => None,
        }
    }
}

/// What is going on, to stand after `while`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Options => "reading the options",
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

/// How long each step took that was entered.
pub type Times = Vec<(Step, Duration)>;

/// Makes what is said in place of the program, from a reason, the times of the steps, and in how long it may be said.
type InOurPlace = dyn Fn(String, Times, Duration) -> Answer;

/// The budget of a run, and how far it has come.
pub struct Deadline {
    started: Instant,
    budget: Duration,
    /// What is being done, and since when after the start.
    doing: Cell<Option<(Step, Duration)>>,
    /// How long each step took before; a step can be entered more than once.
    done: [Cell<Option<Duration>>; Step::ALL.len()],
    in_our_place: Box<InOurPlace>,
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Deadline { started, budget, doing, .. } = self;
        f.debug_struct("Deadline")
            .field("started", started)
            .field("budget", budget)
            .field("doing", doing)
            .finish_non_exhaustive()
    }
}

impl Deadline {
    /// A budget that began to run at `started`; `in_our_place` makes what is said when it has run out.
    #[must_use]
    pub fn new(
        started: Instant,
        budget: Duration,
        in_our_place: impl Fn(String, Times, Duration) -> Answer + 'static,
    ) -> Deadline {
        let in_our_place = Box::new(in_our_place);
        Deadline { started, budget, doing: Cell::default(), done: Default::default(), in_our_place }
    }

    /// Enters the first step and sets the timer: when the budget has run out, or the process crashes, it answers in place
    /// of the program, leaves word for those who wait, and ends.
    ///
    /// # Errors
    /// When the budget has run out already, or the system refuses the timer. The words are a reason.
    pub fn arm(&self) -> Result<(), String> {
        self.enter(Step::Options);
        self.set_timer(alarm::arm)
    }

    /// Sets the budget, which still began to run at the start.
    ///
    /// # Errors
    /// As for [`Deadline::arm`].
    pub fn set_budget(&mut self, budget: Duration) -> Result<(), String> {
        if budget == self.budget {
            return Ok(());
        }
        self.budget = budget;
        self.set_timer(alarm::end_in)
    }

    /// From the next step on this makes what is said in place of the program.
    pub fn answer_with(&mut self, in_our_place: impl Fn(String, Times, Duration) -> Answer + 'static) {
        self.in_our_place = Box::new(in_our_place);
    }

    /// What is left of the budget; `None` when it has run out.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.budget.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
    }

    /// Notes that `step` begins.
    pub fn enter(&self, step: Step) {
        let now = self.started.elapsed();
        if let Some((before, since)) = self.doing.replace(Some((step, now)))
            && let Some(done) = self.done.get(before as usize)
        {
            done.set(Some(done.get().unwrap_or_default() + now.saturating_sub(since)));
        }
        // When the time is over this step has taken all that is left of it.
        let left = self.budget.saturating_sub(now);
        let late = |step| (self.in_our_place)(self.late(step), self.times_until(self.budget), left);
        alarm::if_late(late(step), (step == Step::Connect).then(|| late(Step::Login)));
        if let Some(reason) = step.crashed() {
            alarm::if_crashed((self.in_our_place)(reason.to_owned(), Times::new(), Duration::ZERO));
        }
    }

    /// Lets `wait` be interrupted after `patience`, unless the deadline comes first.
    pub fn interrupting<T>(&self, patience: Duration, wait: impl FnOnce() -> T) -> T {
        let first = self.left().filter(|left| *left > patience).and_then(|_| alarm::interrupt_in(patience).ok());
        let waited = wait();
        if first.is_some() {
            // Without the timer there is no deadline, but the wait is over.
            let _ = self.set_timer(alarm::end_in);
        }
        waited
    }

    /// How long each step took that was entered, up to now.
    #[must_use]
    pub fn times(&self) -> Times {
        self.times_until(self.started.elapsed())
    }

    fn times_until(&self, end: Duration) -> Times {
        let doing = self.doing.get();
        let time = |(step, done): (Step, &Cell<Option<Duration>>)| {
            let now = doing.filter(|(doing, _)| *doing == step).map(|(_, since)| end.saturating_sub(since));
            let time = done.get().into_iter().chain(now).reduce(|done, now| done + now)?;
            Some((step, time))
        };
        Step::ALL.into_iter().zip(&self.done).filter_map(time).collect()
    }

    fn set_timer(&self, set: impl Fn(Duration) -> io::Result<()>) -> Result<(), String> {
        let left = self.left().ok_or_else(|| self.late(self.doing.get().map_or(Step::Options, |(step, _)| step)))?;
        set(left).map_err(|error| format!("cannot set a timer: {}", error.kind()))
    }

    fn late(&self, step: Step) -> String {
        format!("no verdict within {} (while {step})", duration::show(self.budget))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(budget: Duration) -> Deadline {
        let answer = |response, _: Times, _: Duration| Answer { response, pieces: Vec::new(), status: 1 };
        Deadline::new(Instant::now(), budget, answer)
    }

    #[test]
    fn a_spent_budget_has_nothing_left() {
        assert!(deadline(Duration::from_secs(60)).left().is_some());
        let spent = deadline(Duration::ZERO);
        assert_eq!(spent.left(), None);
        assert_eq!(spent.arm().unwrap_err(), "no verdict within 0s (while reading the options)");
        let mut shorter = deadline(Duration::from_secs(60));
        let refused = shorter.set_budget(Duration::ZERO).unwrap_err();
        assert_eq!(refused, "no verdict within 0s (while reading the options)");
    }

    #[test]
    fn steps_are_timed_one_after_the_other() {
        let deadline = deadline(Duration::from_secs(60));
        deadline.enter(Step::Request);
        deadline.enter(Step::Query);
        let times = deadline.times();
        assert_eq!(times.iter().map(|(step, _)| step.key()).collect::<Vec<_>>(), ["request", "query"]);
        assert!(times.iter().map(|(_, time)| *time).sum::<Duration>() <= deadline.started.elapsed());
    }

    /// A second connection, to the extra port, is a second look-up and a second login.
    #[test]
    fn a_step_that_is_entered_again_goes_on() {
        let deadline = deadline(Duration::from_secs(60));
        for step in [Step::Resolve, Step::Connect, Step::Resolve, Step::Connect] {
            deadline.enter(step);
        }
        let begun = deadline.started.elapsed();
        let times = deadline.times_until(Duration::from_secs(60));
        assert_eq!(times.iter().map(|(step, _)| step.key()).collect::<Vec<_>>(), ["resolve", "login"]);
        let (all, budget) = (times.iter().map(|(_, time)| *time).sum::<Duration>(), deadline.budget);
        assert!(all <= budget && all + begun >= budget, "{times:?}");
    }
}
