//! Waits for a condition, with a bound. The only place that sleeps.
//!
//! Each function panics at the caller's line with what was waited for, the bound and the last thing seen.

use std::fmt::Debug;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How often a condition is looked at.
const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until `condition` holds.
#[track_caller]
pub fn until(what: &str, bound: Duration, mut condition: impl FnMut() -> bool) {
    until_ok(what, bound, || condition().then_some(()).ok_or("not yet"));
}

/// Waits until `look` finds something, and returns it.
#[track_caller]
pub fn until_some<T>(what: &str, bound: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    until_ok(what, bound, || look().ok_or("nothing yet"))
}

/// Waits until `look` gives `wanted`.
#[track_caller]
pub fn until_equal<T: Debug + PartialEq<W>, W: Debug>(
    what: &str,
    bound: Duration,
    wanted: W,
    mut look: impl FnMut() -> T,
) {
    until_ok(what, bound, || {
        let seen = look();
        if seen == wanted { Ok(()) } else { Err(format!("{seen:?}, not {wanted:?}")) }
    });
}

/// Waits until `attempt` succeeds; the last error is part of the panic.
#[track_caller]
pub fn until_ok<T, E: Debug>(what: &str, bound: Duration, mut attempt: impl FnMut() -> Result<T, E>) -> T {
    let end = Instant::now() + bound;
    loop {
        match attempt() {
            Ok(found) => return found,
            Err(last) if Instant::now() >= end => panic!("{what}: not within {bound:?} (last: {last:?})"),
            Err(_) => sleep(INTERVAL),
        }
    }
}

/// Lets `time` pass: for a client that is slow on purpose, never to give a server time.
pub fn dawdle(time: Duration) {
    sleep(time);
}
