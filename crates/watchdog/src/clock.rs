//! The clocks of the kernel as numbers that mean the same to every process, which std does not give.
//!
//! `rustix` has them without `unsafe`, but finds the vDSO by itself: a prctl(2), some thousand instructions to read its
//! symbols, and a crash under valgrind, which unmaps it. The C library has done that already.

#![expect(unsafe_code, reason = "clock_gettime(2) of the C library")]

/// The monotonic clock, in nanoseconds since the machine was started.
#[must_use]
pub fn monotonic_ns() -> u64 {
    nanos(libc::CLOCK_MONOTONIC)
}

/// The wall clock, in nanoseconds since 1970.
#[must_use]
pub fn wall_ns() -> u64 {
    nanos(libc::CLOCK_REALTIME)
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
}
