//! One budget for the whole run: whatever hangs, the answer leaves in time.
//!
//! The driver's own timeouts bound single calls. They do not bound a server that sends a byte now and then, and nothing
//! bounds `connect()` on a Unix socket whose accept queue is full. So a timer answers in place of the program when the
//! budget has run out; its answer is prepared whenever a step begins. It is set before anything is read.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use client::{Stage, Watch, duration};
use watchdog::alarm::{self, Answer};

use crate::step::{GAVE_UP, OPTIONS_CRASHED, Step, Times};
use crate::verdict::{Verdict, down, misconfigured};

/// Makes the answer in place of the program, from a verdict, the times of the steps where they are wanted, and in how long
/// it may be sent.
type InPlace = dyn Fn(Verdict, &dyn Fn() -> Times, Duration) -> Answer;

/// The budget of a run, and how far the run has come.
pub struct Deadline {
    started: Instant,
    budget: Cell<Duration>,
    /// What is being done, and since when after the start.
    doing: Cell<Option<(Step, Duration)>>,
    /// How long each step took before; a step can be entered more than once.
    done: [Cell<Option<Duration>>; Step::ALL.len()],
    in_place: RefCell<Box<InPlace>>,
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
    /// A budget that began to run at `started`; `in_place` makes the answer when it has run out.
    #[must_use]
    pub fn new(
        started: Instant,
        budget: Duration,
        in_place: impl Fn(Verdict, &dyn Fn() -> Times, Duration) -> Answer + 'static,
    ) -> Deadline {
        Deadline {
            started,
            budget: Cell::new(budget),
            doing: Cell::default(),
            done: Default::default(),
            in_place: RefCell::new(Box::new(in_place)),
        }
    }

    /// Enters the first step and sets the timer: when the budget has run out, or the process crashes, it answers in place
    /// of the program, leaves that answer to the checks that wait for it, and ends the process.
    ///
    /// # Errors
    /// When the budget has run out already, or the system refuses the timer.
    pub fn arm(&self) -> Result<(), Verdict> {
        self.enter(Step::Options);
        self.set_timer(alarm::arm)
    }

    /// Sets the budget, which still began to run at the start.
    ///
    /// # Errors
    /// As for [`Deadline::arm`].
    pub fn set_budget(&self, budget: Duration) -> Result<(), Verdict> {
        if self.budget.replace(budget) == budget { Ok(()) } else { self.set_timer(alarm::end_in) }
    }

    /// From the next step on this makes the answer in place of the program.
    pub fn answer_with(&self, in_place: impl Fn(Verdict, &dyn Fn() -> Times, Duration) -> Answer + 'static) {
        *self.in_place.borrow_mut() = Box::new(in_place);
    }

    /// What is left of the budget; `None` when it has run out.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.budget.get().checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
    }

    /// Notes that `step` begins.
    pub fn enter(&self, step: Step) {
        let now = self.started.elapsed();
        if let Some((before, since)) = self.doing.replace(Some((step, now)))
            && let Some(done) = self.done.get(before as usize)
        {
            done.set(Some(done.get().unwrap_or_default() + now.saturating_sub(since)));
        }
        let in_place = self.in_place.borrow();
        // When the time is over this step has taken all that is left of it.
        let (budget, left) = (self.budget.get(), self.budget.get().saturating_sub(now));
        let late = |step| in_place(blame(step, self.late(step)), &|| self.times_until(budget), left);
        alarm::if_late(late(step), (step == Step::Connect).then(|| late(Step::Login)));
        if let Some(reason) = step.crashed() {
            alarm::if_crashed(in_place(blame(step, reason.to_owned()), &Times::new, Duration::ZERO));
        }
    }

    /// The verdict when the program panics in the step it is in.
    pub fn panicked(&self) -> Verdict {
        match self.doing.get() {
            Some((Step::Options, _)) | None => misconfigured(OPTIONS_CRASHED),
            _ => down(GAVE_UP),
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

    fn set_timer(&self, set: impl Fn(Duration) -> io::Result<()>) -> Result<(), Verdict> {
        let late = || down(self.late(self.doing.get().map_or(Step::Options, |(step, _)| step)));
        set(self.left().ok_or_else(late)?).map_err(|error| down(format!("cannot set a timer: {}", error.kind())))
    }

    /// Made whenever a step begins: so without the machinery of `format!`.
    fn late(&self, step: Step) -> String {
        ["no verdict within ", &duration::show(self.budget.get()), " (while ", step.words(), ")"].concat()
    }
}

/// Before the options are read, what fails is the configuration.
fn blame(step: Step, reason: String) -> Verdict {
    if step == Step::Options { misconfigured(reason) } else { down(reason) }
}

impl Watch for Deadline {
    fn begin(&self, stage: Stage) {
        self.enter(stage.into());
    }

    fn may_hang(&self) -> Option<Box<dyn Any>> {
        alarm::answer_from_another_thread().ok().map(|thread| Box::new(thread) as Box<dyn Any>)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deadline(budget: Duration) -> Deadline {
        let answer = |verdict: Verdict, _: &dyn Fn() -> Times, _: Duration| Answer {
            response: verdict.to_string(),
            pieces: Vec::new(),
            status: 1,
        };
        Deadline::new(Instant::now(), budget, answer)
    }

    #[test]
    fn a_spent_budget_has_nothing_left() {
        assert!(deadline(Duration::from_secs(60)).left().is_some());
        let spent = deadline(Duration::ZERO);
        assert_eq!(spent.left(), None);
        assert_eq!(spent.arm().unwrap_err().reason(), "no verdict within 0s (while reading the options)");
        let shorter = deadline(Duration::from_secs(60));
        let refused = shorter.set_budget(Duration::ZERO).unwrap_err();
        assert_eq!(refused.reason(), "no verdict within 0s (while reading the options)");
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
        let (all, budget) = (times.iter().map(|(_, time)| *time).sum::<Duration>(), deadline.budget.get());
        assert!(all <= budget && all + begun >= budget, "{times:?}");
    }
}
