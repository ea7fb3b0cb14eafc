//! How much the machine itself adds to a time: what a bound may be stretched by, so that it also holds on a machine that
//! others use.
//!
//! A program is late because it is slow, or because it was not let run. The second happens to every program at that time,
//! so a control tells the two apart: `sleep`, started in the same way at the same time and as often.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::program;

static MACHINE: RwLock<()> = RwLock::new(());

/// For a test that may run at the same time as others of its suite.
pub fn share() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

/// For a test that measures time, and has to be alone.
pub fn have() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// The load of the machine and how long its processes waited for a processor, for a message.
#[must_use]
pub fn load() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (load, pressure) = (read("/proc/loadavg"), read("/proc/pressure/cpu"));
    format!("load {}, {}", load.trim_end(), pressure.lines().next().unwrap_or_default())
}

/// Runs `act`, and beside it `sleep` again and again, `at_once` of them at a time; returns what `act` gave, and how much
/// longer than `time` the longest sleep took from before its start to after its end.
pub fn beside_sleeps<T>(time: Duration, at_once: usize, act: impl FnOnce() -> T) -> (T, Duration) {
    beside(time, at_once, || sleep(time), act)
}

/// The same with another `control` that is due after `time`, for a program that is not started directly.
pub fn beside<T>(time: Duration, at_once: usize, control: impl Fn() + Sync, act: impl FnOnce() -> T) -> (T, Duration) {
    let over = AtomicBool::new(false);
    let control = || {
        let mut longest = Duration::ZERO;
        // One at least, however short `act` is.
        loop {
            let begin = Instant::now();
            control();
            longest = longest.max(begin.elapsed());
            if over.load(Ordering::Relaxed) {
                return longest;
            }
        }
    };
    thread::scope(|scope| {
        let controls: Vec<_> = (0..at_once).map(|_| scope.spawn(control)).collect();
        let end = EndOnDrop(&over);
        let result = act();
        drop(end);
        let longest = controls.into_iter().map(|control| control.join().unwrap()).max();
        (result, longest.unwrap_or_default().saturating_sub(time))
    })
}

/// Ends the controls also where `act` panics.
struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn sleep(time: Duration) {
    let mut command = Command::new(program("sleep"));
    command.arg(time.as_secs_f64().to_string()).stdin(Stdio::null());
    assert!(command.status().unwrap().success(), "sleep failed");
}

/// Tries `act` up to three times, and returns once it found nothing that is late. What a machine does to one try it need
/// not do to the next; a program that is late is late in all of them.
#[track_caller]
pub fn in_time(what: &str, mut act: impl FnMut() -> Result<(), String>) {
    let late: Vec<String> = (0..3).map_while(|_| act().err()).collect();
    assert!(late.len() < 3, "{what}: late in every try: {late:#?}, {}", load());
}
