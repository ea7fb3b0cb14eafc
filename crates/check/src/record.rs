//! A file that holds one text and the time it was written, for others to find it fresh or not at all.
//!
//! The writer holds the file's lock, but may die at any point, and the disk may be full. So the text is written first
//! and the header last: a header whose text is not whole does not exist. Layout: monotonic and wall clock in nanoseconds
//! (8 bytes each), length of the text (8 bytes), text; at a place behind the longest text the monotonic clock's time until
//! which the holder of the lock is busy (8 bytes). Native byte order, since it never leaves the machine.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::io::{pread, pwrite};
use watchdog::clock::{monotonic_ns, wall_ns};

const HEADER: usize = 24;
/// The longest text, in bytes: 256 channels of replication status, with long names and the numbers of each.
pub const TEXT_MAX: usize = 160 * 1024;
/// Where the holder of the lock notes until when it is busy.
const BUSY_UNTIL: usize = HEADER + TEXT_MAX;
/// What is read at once, in bytes: nearly every text is shorter.
const PAGE: usize = 4 * 1024;

/// A point in time that means the same to every process of this machine until it is switched off.
///
/// Two clocks, because one is not enough: the wall clock can be set, and the other starts from zero when the machine does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    monotonic_ns: u64,
    wall_ns: u64,
}

impl Stamp {
    /// Now.
    #[must_use]
    pub fn now() -> Stamp {
        Stamp { monotonic_ns: monotonic_ns(), wall_ns: wall_ns() }
    }

    /// This time after.
    #[must_use]
    pub fn later(self, time: Duration) -> Stamp {
        let ns = nanos(time);
        Stamp { monotonic_ns: self.monotonic_ns.saturating_add(ns), wall_ns: self.wall_ns.saturating_add(ns) }
    }

    /// This time before.
    #[must_use]
    pub fn earlier(self, time: Duration) -> Stamp {
        let ns = nanos(time);
        Stamp { monotonic_ns: self.monotonic_ns.saturating_sub(ns), wall_ns: self.wall_ns.saturating_sub(ns) }
    }

    /// The later of both, by either clock.
    #[must_use]
    pub fn max(self, other: Stamp) -> Stamp {
        Stamp { monotonic_ns: self.monotonic_ns.max(other.monotonic_ns), wall_ns: self.wall_ns.max(other.wall_ns) }
    }

    /// Whether this comes before the other.
    #[must_use]
    pub fn is_before(self, other: Stamp) -> bool {
        self.monotonic_ns < other.monotonic_ns
    }

    /// Whether less than `limit` has passed since, by either clock; a time to come is not fresh.
    #[must_use]
    pub fn is_fresh(&self, now: Stamp, limit: Duration) -> bool {
        let within = |then: u64, now: u64| now.checked_sub(then).is_some_and(|age| u128::from(age) < limit.as_nanos());
        within(self.monotonic_ns, now.monotonic_ns) && within(self.wall_ns, now.wall_ns)
    }
}

/// Takes the room of the longest text, so that a full disk is noticed before other checks rely on the file. The writer holds
/// the lock.
///
/// # Errors
/// When the file cannot be made as long as that.
pub fn make_room(file: BorrowedFd<'_>) -> rustix::io::Result<()> {
    let room = vec![0; BUSY_UNTIL + 8];
    let length = u64::try_from(rustix::fs::fstat(file)?.st_size).unwrap_or(0);
    let missing = usize::try_from(length).ok().and_then(|length| room.get(length..)).unwrap_or_default();
    if !missing.is_empty() && pwrite(file, missing, length)? < missing.len() {
        return Err(rustix::io::Errno::NOSPC);
    }
    Ok(())
}

/// What to write where for the file to hold `text`, in this order: see the top of this page. Nothing for a text that is
/// too long.
#[must_use]
pub fn pieces(stamp: Stamp, text: &[u8]) -> Vec<(u64, Vec<u8>)> {
    if text.len() > TEXT_MAX {
        return Vec::new();
    }
    let header = [stamp.monotonic_ns, stamp.wall_ns, text.len() as u64].map(u64::to_ne_bytes).concat();
    vec![(HEADER as u64, text.to_owned()), (0, header)]
}

/// Puts `text` into the file in place of what was there; a text that cannot be written whole
/// is not there at all, and the result is `false`.
#[must_use]
pub fn write(file: BorrowedFd<'_>, stamp: Stamp, text: &[u8]) -> bool {
    let pieces = pieces(stamp, text);
    !pieces.is_empty() && pieces.iter().all(|(at, bytes)| pwrite(file, bytes, *at) == Ok(bytes.len()))
}

/// Notes that the holder of the lock is busy for this time from now.
///
/// # Errors
/// When the file cannot be written.
pub fn busy_for(file: BorrowedFd<'_>, time: Duration) -> rustix::io::Result<()> {
    let until = monotonic_ns().saturating_add(nanos(time));
    pwrite(file, &until.to_ne_bytes(), BUSY_UNTIL as u64).map(drop)
}

/// How much is left of the time that the holder of the lock noted; zero when nothing is, or when it noted none.
#[must_use]
pub fn still_busy_for(file: BorrowedFd<'_>) -> Duration {
    let mut until = [0; 8];
    match pread(file, &mut until, BUSY_UNTIL as u64) {
        Ok(8) => Duration::from_nanos(u64::from_ne_bytes(until).saturating_sub(monotonic_ns())),
        _ => Duration::ZERO,
    }
}

/// The text of the file and when it was written; `None` when there is none.
#[must_use]
pub fn read(file: BorrowedFd<'_>) -> Option<(Stamp, Vec<u8>)> {
    let mut bytes = vec![0; PAGE];
    let filled = pread(file, &mut bytes, 0).ok()?;
    let header = bytes.get(..filled)?.get(..HEADER)?;
    let mut fields = header.chunks_exact(8).map(|field| field.try_into().map(u64::from_ne_bytes));
    let mut field = || fields.next()?.ok();
    let stamp = Stamp { monotonic_ns: field()?, wall_ns: field()? };
    let length = HEADER + usize::try_from(field()?).ok().filter(|length| *length <= TEXT_MAX)?;
    bytes.resize(length, 0);
    if let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        let wanted = rest.len();
        (pread(file, rest, filled as u64).ok()? == wanted).then_some(())?;
    }
    Some((stamp, bytes.split_off(HEADER)))
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
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
    fn the_time_that_a_holder_notes_runs_out() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(still_busy_for(file.as_fd()), Duration::ZERO);
        make_room(file.as_fd()).unwrap();
        assert_eq!(still_busy_for(file.as_fd()), Duration::ZERO);
        busy_for(file.as_fd(), Duration::from_secs(60)).unwrap();
        let left = still_busy_for(file.as_fd());
        assert!(left > Duration::from_secs(30) && left <= Duration::from_secs(60), "{left:?}");
        busy_for(file.as_fd(), Duration::ZERO).unwrap();
        assert_eq!(still_busy_for(file.as_fd()), Duration::ZERO);
        // It does not touch the longest text.
        let text = vec![b'x'; TEXT_MAX];
        assert!(write(file.as_fd(), Stamp::now(), &text));
        busy_for(file.as_fd(), Duration::MAX).unwrap();
        assert_eq!(read(file.as_fd()).unwrap().1, text);
    }

    #[test]
    fn what_was_written_is_read_and_what_was_cut_is_not() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(read(file.as_fd()), None);
        let stamp = Stamp::now();
        let _ = write(file.as_fd(), stamp, b"first, the longer one");
        let _ = write(file.as_fd(), stamp, b"second");
        assert_eq!(read(file.as_fd()), Some((stamp, b"second".to_vec())));
        for length in [23, 24, 29] {
            file.set_len(length).unwrap();
            assert_eq!(read(file.as_fd()), None, "{length}");
        }
        let _ = write(file.as_fd(), stamp, &vec![b'x'; TEXT_MAX + 1]);
        assert_eq!(read(file.as_fd()), None);
    }
}
