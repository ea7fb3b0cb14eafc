//! One budget for the whole run: whatever hangs, the answer leaves in time.
//!
//! The driver's own timeouts bound single calls. They do not bound a server that sends a byte now and then, and nothing
//! bounds `connect()` on a Unix socket whose accept queue is full. So a second thread waits for the end of the budget and
//! then answers in place of the first.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What a run does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Step {
    /// Reading the request from stdin.
    Request,
    /// Looking up the address of a host name.
    Resolve,
    /// Connecting and logging in; the driver does both in one call.
    Login,
    /// Running the query.
    Query,
    /// Handing over the answer.
    Answer,
}

impl Step {
    const ALL: [Step; 5] = [Step::Request, Step::Resolve, Step::Login, Step::Query, Step::Answer];

    /// The key under which the JSON form gives the time of this step.
    #[must_use]
    pub fn key(self) -> &'static str {
        match self {
            Step::Request => "request",
            Step::Resolve => "resolve",
            Step::Login => "login",
            Step::Query => "query",
            Step::Answer => "answer",
        }
    }
}

/// What was going on when the budget ran out, to stand after `while`.
impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Request => "reading the request",
            Step::Resolve => "looking up the host name",
            Step::Login if main_thread_is_connecting() => "connecting",
            Step::Login => "logging in",
            Step::Query => "querying",
            Step::Answer => "answering",
        })
    }
}

/// The budget of a run, and how far it has come. Clones are the same deadline.
#[derive(Debug, Clone)]
pub struct Deadline {
    started: Instant,
    budget: Duration,
    progress: Arc<Progress>,
}

#[derive(Debug, Default)]
struct Progress {
    step: AtomicU8,
    /// When each step was entered, in microseconds after the start, plus one; 0 is never.
    entered: [AtomicU32; Step::ALL.len()],
}

impl Deadline {
    /// A budget that began to run at `started`.
    #[must_use]
    pub fn new(started: Instant, budget: Duration) -> Deadline {
        Deadline { started, budget, progress: Arc::default() }
    }

    /// Calls `expired` in a thread of its own when the budget has run out, then ends the process with the status it returns.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn watch(&self, expired: impl FnOnce(Step) -> u8 + Send + 'static) -> std::io::Result<()> {
        let deadline = self.clone();
        let wait_and_exit = move || {
            while let Some(left) = deadline.left() {
                thread::sleep(left);
            }
            let status = expired(deadline.step());
            // The only way out: the first thread hangs in a call that nothing else can end.
            std::process::exit(status.into());
        };
        // The thread formats one line and writes it. 64 KiB are address space, not memory.
        thread::Builder::new().stack_size(64 * 1024).spawn(wait_and_exit)?;
        Ok(())
    }

    /// The whole budget.
    #[must_use]
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// What is left of the budget; `None` when it has run out.
    #[must_use]
    pub fn left(&self) -> Option<Duration> {
        self.budget.checked_sub(self.started.elapsed()).filter(|left| !left.is_zero())
    }

    /// Notes that `step` begins.
    pub fn enter(&self, step: Step) {
        let micros = u32::try_from(self.started.elapsed().as_micros()).unwrap_or(u32::MAX - 1);
        if let Some(entered) = self.progress.entered.get(step as usize) {
            entered.store(micros + 1, Ordering::Relaxed);
        }
        self.progress.step.store(step as u8, Ordering::Relaxed);
    }

    fn step(&self) -> Step {
        let index = self.progress.step.load(Ordering::Relaxed);
        Step::ALL.get(usize::from(index)).copied().unwrap_or(Step::Answer)
    }

    /// How long each step took that was entered, up to now.
    #[must_use]
    pub fn times(&self) -> Vec<(Step, Duration)> {
        let entered: Vec<(Step, Duration)> = Step::ALL
            .into_iter()
            .zip(&self.progress.entered)
            .filter_map(|(step, entered)| match entered.load(Ordering::Relaxed) {
                0 => None,
                micros => Some((step, Duration::from_micros(u64::from(micros) - 1))),
            })
            .collect();
        let ends = entered.iter().skip(1).map(|(_, begin)| *begin).chain([self.started.elapsed()]);
        entered.iter().zip(ends).map(|((step, begin), end)| (*step, end.saturating_sub(*begin))).collect()
    }

    /// The time since the start of the process.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }
}

/// Whether the first thread of this process is inside `connect(2)`: its accept queue is full or its packets vanish.
///
/// The driver connects and logs in in one call, so only the kernel knows. Asked once, when the budget has run out.
/// Source: proc(5), `/proc/pid/syscall`; `false` where that cannot be read.
fn main_thread_is_connecting() -> bool {
    const CONNECT: &str = if cfg!(target_arch = "x86_64") { "42" } else { "203" };
    let path = format!("/proc/self/task/{}/syscall", std::process::id());
    std::fs::read_to_string(path).is_ok_and(|call| call.split(' ').next() == Some(CONNECT))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spent_budget_has_nothing_left() {
        let now = Instant::now();
        assert!(Deadline::new(now, Duration::from_secs(60)).left().is_some());
        assert_eq!(Deadline::new(now, Duration::ZERO).left(), None);
    }

    #[test]
    fn steps_are_timed_one_after_the_other() {
        let deadline = Deadline::new(Instant::now(), Duration::from_secs(60));
        deadline.enter(Step::Request);
        deadline.enter(Step::Query);
        let times = deadline.times();
        assert_eq!(times.iter().map(|(step, _)| step.key()).collect::<Vec<_>>(), ["request", "query"]);
        assert!(times.iter().map(|(_, time)| *time).sum::<Duration>() <= deadline.elapsed());
        assert_eq!(deadline.step(), Step::Query);
    }
}
