//! A file that holds one text and the time it was written, for others to find it fresh or not at all.
//!
//! The writer holds the file's lock, but may die at any point, and the disk may be full. So the text is written first
//! and the header last: a header whose text is not whole does not exist. Layout: monotonic and wall clock in nanoseconds
//! (8 bytes each), length of the text (8 bytes), text; native byte order, since it never leaves the machine.

#![expect(unsafe_code, reason = "clock_gettime(2), which a signal handler may call; std's clocks have no numbers")]

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::{pread, pwrite};

const HEADER: usize = 24;
/// The longest text, in bytes.
pub const TEXT_MAX: usize = 8 * 1024;

/// A point in time that means the same to every process of this machine until it is switched off.
///
/// Two clocks, because one is not enough: the wall clock can be set, the other begins anew when the machine starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    monotonic_ns: u64,
    wall_ns: u64,
}

impl Stamp {
    /// Now.
    #[must_use]
    pub fn now() -> Stamp {
        Stamp { monotonic_ns: clock(libc::CLOCK_MONOTONIC), wall_ns: clock(libc::CLOCK_REALTIME) }
    }

    /// Whether less than `limit` has passed since, by either clock; a time to come is not fresh.
    #[must_use]
    pub fn is_fresh(&self, now: Stamp, limit: Duration) -> bool {
        let within = |then: u64, now: u64| now.checked_sub(then).is_some_and(|age| u128::from(age) < limit.as_nanos());
        within(self.monotonic_ns, now.monotonic_ns) && within(self.wall_ns, now.wall_ns)
    }
}

/// Puts `text` into the file in place of what was there; what cannot be written whole is not there at all.
///
/// Signal-safe: no memory is allocated, nothing is locked.
pub fn write(file: BorrowedFd<'_>, stamp: Stamp, text: &[u8]) {
    if text.len() > TEXT_MAX || pwrite(file, text, HEADER as u64) != Ok(text.len()) {
        return;
    }
    let mut header = [0; HEADER];
    let fields = [stamp.monotonic_ns, stamp.wall_ns, text.len() as u64];
    for (place, field) in header.chunks_exact_mut(8).zip(fields) {
        place.copy_from_slice(&field.to_ne_bytes());
    }
    let _ = pwrite(file, &header, 0);
}

/// The text of the file and when it was written; `None` when there is none.
#[must_use]
pub fn read(file: BorrowedFd<'_>) -> Option<(Stamp, Vec<u8>)> {
    let mut bytes = vec![0; HEADER + TEXT_MAX];
    let filled = pread(file, &mut bytes, 0).ok()?;
    let (header, rest) = bytes.get(..filled)?.split_at_checked(HEADER)?;
    let mut fields = header.chunks_exact(8).map(|field| field.try_into().map(u64::from_ne_bytes));
    let mut field = || fields.next()?.ok();
    let stamp = Stamp { monotonic_ns: field()?, wall_ns: field()? };
    let text = rest.get(..usize::try_from(field()?).ok()?)?;
    Some((stamp, text.to_vec()))
}

fn clock(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec; both clocks exist on every Linux.
    unsafe { libc::clock_gettime(id, &raw mut time) };
    u64::try_from(time.tv_sec).unwrap_or(0).saturating_mul(1_000_000_000) + u64::try_from(time.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    fn at(monotonic_ns: u64, wall_ns: u64) -> Stamp {
        Stamp { monotonic_ns, wall_ns }
    }

    #[test]
    fn fresh_is_younger_than_the_limit_by_both_clocks() {
        let limit = Duration::from_nanos(500);
        let then = at(1000, 9000);
        assert!(then.is_fresh(at(1000, 9000), limit));
        assert!(then.is_fresh(at(1499, 9499), limit));
        for (now, why) in [
            (at(1500, 9499), "too old"),
            (at(1499, 9500), "another boot"),
            (at(999, 9000), "from the future"),
            (at(1000, 8999), "the wall clock was set back"),
        ] {
            assert!(!then.is_fresh(now, limit), "{why}");
        }
    }

    #[test]
    fn what_was_written_is_read_and_what_was_cut_is_not() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(file.as_fd()), None);
        let stamp = Stamp::now();
        write(file.as_fd(), stamp, b"first, the longer one");
        write(file.as_fd(), stamp, b"second");
        assert_eq!(read(file.as_fd()), Some((stamp, b"second".to_vec())));
        for length in [23, 24, 29] {
            file.set_len(length).unwrap();
            assert_eq!(read(file.as_fd()), None, "{length}");
        }
        write(file.as_fd(), stamp, &[b'x'; TEXT_MAX + 1]);
        assert_eq!(read(file.as_fd()), None);
    }
}
