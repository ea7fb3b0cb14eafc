//! Checks that ask the same at the same time share one answer.
//!
//! Several load balancers ask within milliseconds of each other, and a server that hangs collects a connection for each.
//! With `--share` the first check asks, and the others wait for its answer, each within its own deadline. The state is one
//! small file per question in a directory of the checks' user. The check that holds its lock asks; a check that gets the
//! lock finds a fresh answer, or asks itself. The kernel frees the lock when its holder dies. A holder that was stopped
//! keeps it, so it notes until when it will have answered, and after that time the others ask for themselves.
//!
//! Whatever is wrong with directory or file, the check is made as if the option were absent.

use std::borrow::Cow;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use watchdog::alarm;

use crate::deadline::Deadline;
use crate::outcome::Outcome;
use crate::record::{self, Stamp};
use crate::step::Step;
use crate::verdict::{Verdict, down, drain, up};

/// Where and for how long answers are shared.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// How old an answer may be.
    pub limit: Duration,
    /// The directory of the state.
    pub directory: PathBuf,
}

/// What identifies an answer, and the file that it is shared in.
#[derive(Debug, Clone)]
pub struct Key {
    /// Everything that makes an answer another one: program, server, account, options. Never a password.
    text: String,
    path: PathBuf,
    limit: Duration,
    directory: PathBuf,
}

/// How long an answer is good for the checks that waited for it, where it took longer than the limit. They have no time
/// left to ask such a server again, and it would take as long again.
const GRACE: Duration = Duration::from_millis(100);

/// The word of a record in which a check gave up. It saw nothing of the server: only the checks that waited can use it.
const GAVE_UP: &str = "gave up";

/// Takes the answer of another check, or calls `ask` and publishes what it returns.
pub fn once(key: Option<&Key>, deadline: &Deadline, ask: impl FnOnce() -> Result<Outcome, Verdict>) -> Outcome {
    let ask = || ask().unwrap_or_else(Outcome::from);
    let Some(key) = key else { return ask() };
    deadline.enter(Step::Share);
    match key.wait(deadline) {
        Ok(Waited::Answer(outcome)) => outcome,
        Ok(Waited::Lock(lock)) => {
            let outcome = ask();
            let share = lock.publish(&outcome).map_or_else(Cow::Owned, |()| Cow::Borrowed("asked"));
            Outcome { share, ..outcome }
        }
        Err(why) => Outcome { share: why.into(), ..ask() },
    }
}

/// What a check gets that waits for its turn.
enum Waited<'k> {
    /// The answer of a check that asked in the meantime, or just before.
    Answer(Outcome),
    /// There is no answer: this check asks, and publishes what it finds.
    Lock(Lock<'k>),
}

/// The right to ask. It ends with the value.
struct Lock<'k> {
    key: &'k Key,
    file: BorrowedFd<'static>,
    asked: Stamp,
}

impl Key {
    /// The key of this text.
    #[must_use]
    pub fn new(sharing: &Sharing, program: &str, text: String) -> Key {
        let mut hasher = DefaultHasher::new();
        text.hash(&mut hasher);
        let path = sharing.directory.join(format!("{program}-{:016x}", hasher.finish()));
        Key { text, path, limit: sharing.limit, directory: sharing.directory.clone() }
    }

    /// What to write into the file when the check ends after `time` without an answer: bytes and their offsets.
    #[must_use]
    pub fn late_record(&self, outcome: &Outcome, time: Duration) -> Vec<(u64, Vec<u8>)> {
        let record = self.as_record(GAVE_UP, outcome);
        record::pieces(Stamp::now().later(time), record.as_bytes())
    }

    /// The key, the verdict, the facts and the numbers, whatever the form of this check: the others have forms of their own.
    fn as_record(&self, word: &str, outcome: &Outcome) -> String {
        let gauges = serde_json::to_string(&outcome.gauges).unwrap_or_default();
        format!("{}\n{word}: {}\n{}\n{gauges}", self.text, outcome.verdict.reason(), outcome.facts)
    }

    /// The answer in a record of this key; the answer of a check that gave up only for one that waited.
    #[must_use]
    pub fn read_record(&self, record: &[u8], waited: bool) -> Option<Outcome> {
        let rest = std::str::from_utf8(record).ok()?.strip_prefix(self.text.as_str())?.strip_prefix('\n')?;
        let (verdict, rest) = rest.split_once('\n')?;
        let (facts, gauges) = rest.split_once('\n')?;
        let verdict = match verdict.split_once(": ")? {
            ("up", reason) => up(reason),
            ("drain", reason) => drain(reason),
            ("down", reason) => down(reason),
            (GAVE_UP, reason) if waited => down(reason),
            _ => return None,
        };
        let (facts, gauges) = (serde_json::from_str(facts).ok()?, serde_json::from_str(gauges).ok()?);
        Some(Outcome { facts, gauges, share: Cow::Borrowed("shared"), ..verdict.into() })
    }

    /// Waits for the lock, which the check has that asks now. The deadline ends the wait.
    ///
    /// # Errors
    /// When the state cannot be used, or the check that asks does not answer in its time. The text is the reason.
    fn wait(&self, deadline: &Deadline) -> Result<Waited<'_>, String> {
        let began = Stamp::now();
        ensure_trusted(&self.directory)?;
        let file = open(&self.path)?;
        self.lock(file.as_fd(), deadline)?;
        let now = Stamp::now();
        let fresh = record::read(file.as_fd()).filter(|(stamp, _)| stamp.is_fresh(now, self.limit));
        if let Some(outcome) = fresh.and_then(|(stamp, text)| self.read_record(&text, began.is_before(stamp))) {
            return Ok(Waited::Answer(outcome));
        }
        // Before others wait for an answer that could not be written.
        alarm::ignore_limits_of_files();
        let cannot_write = |error: Errno| cannot("write", &self.path, &error.into());
        record::make_room(file.as_fd()).map_err(cannot_write)?;
        // On a busy machine the record of a check that gives up comes a moment after its time.
        let left = deadline.left().unwrap_or_default();
        record::busy_for(file.as_fd(), left + left / 8).map_err(cannot_write)?;
        Ok(Waited::Lock(Lock { key: self, file: alarm::attach_file(file.into()), asked: now }))
    }

    /// Waits for the lock, and for its holder no longer than that one can need. The note of the holder is read after a
    /// part of our time: a check that took the lock just now has had no time to write one.
    fn lock(&self, file: BorrowedFd<'_>, deadline: &Deadline) -> Result<(), String> {
        let mut locked = flock(file, FlockOperation::NonBlockingLockExclusive);
        let mut patience = deadline.left().unwrap_or_default() / 4;
        while let Err(Errno::WOULDBLOCK | Errno::INTR) = locked {
            if patience.is_zero() {
                return Err("the check that asks does not answer".to_owned());
            }
            locked = deadline.interrupting(patience, || flock(file, FlockOperation::LockExclusive));
            patience = record::still_busy_for(file);
        }
        locked.map_err(|error| cannot("lock", &self.path, &error.into()))
    }
}

impl Lock<'_> {
    /// Writes the answer for the checks that wait and those that come within the limit. It is as old as the question, but
    /// never so old that those that wait cannot use it.
    ///
    /// # Errors
    /// When it is too long. The text is the reason.
    fn publish(self, outcome: &Outcome) -> Result<(), String> {
        let Key { limit, path, .. } = self.key;
        let asked = self.asked.max(Stamp::now().earlier(limit.saturating_sub(GRACE)));
        let record = self.key.as_record(outcome.verdict.word(), outcome);
        let is_written = record::write(self.file, asked, record.as_bytes());
        if is_written { Ok(()) } else { Err(format!("the answer does not fit into {}", path.display())) }
    }
}

impl Drop for Lock<'_> {
    /// Also when the driver panics: the checks that wait must not wait for our client to leave.
    fn drop(&mut self) {
        // From here on another check may hold the lock, so the handler must not write.
        alarm::detach_file();
        let _ = flock(self.file, FlockOperation::Unlock);
    }
}

/// A directory that only its owner may write, and that belongs to this user or to root.
fn ensure_trusted(directory: &Path) -> Result<(), String> {
    let about = fs::symlink_metadata(directory).map_err(|error| cannot("use", directory, &error))?;
    let own = rustix::process::geteuid().as_raw();
    if !about.is_dir() {
        return Err(format!("{} is not a directory", directory.display()));
    }
    if about.uid() != own && about.uid() != 0 {
        return Err(format!("{} belongs to uid {}, not {own}", directory.display(), about.uid()));
    }
    if about.mode() & 0o022 != 0 {
        return Err(format!("others may write {}", directory.display()));
    }
    Ok(())
}

/// The file, created if it is missing; a file that another user put there is refused.
fn open(path: &Path) -> Result<File, String> {
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let opened =
        File::options().read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path);
    let file = opened.map_err(|error| cannot("open", path, &error))?;
    let about = file.metadata().map_err(|error| cannot("open", path, &error))?;
    let own = rustix::process::geteuid().as_raw();
    if !about.is_file() || about.uid() != own || about.nlink() != 1 || about.mode() & 0o077 != 0 {
        return Err(format!("{} is not a file of our own", path.display()));
    }
    Ok(file)
}

fn cannot(verb: &str, path: &Path, error: &io::Error) -> String {
    format!("cannot {verb} {}: {}", path.display(), error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gauge::{Gauge, Quantity};

    fn key(text: &str) -> Key {
        let sharing = Sharing { limit: Duration::from_millis(500), directory: "/nowhere".into() };
        Key::new(&sharing, "mysqlchk-status", text.to_owned())
    }

    #[test]
    fn an_answer_is_found_by_its_own_question_only() {
        let asked = key("a");
        let facts = serde_json::json!({"read_only": "0"});
        let seconds = |seconds| Some(Quantity::Time(Duration::from_secs(seconds)));
        let lag = Gauge::new("lag", "replication_lag", "The lag.", seconds(4)).within(None, seconds(30));
        let gauges = vec![lag.of("channel", "a \"b\"\nc"), Gauge::new("n", "n", "", Some(Quantity::Count(u64::MAX)))];
        let outcome = Outcome { facts, gauges, share: "asked".into(), ..down("read_only is ON, not OFF").into() };
        let text = asked.as_record("down", &outcome);
        let found = asked.read_record(text.as_bytes(), false).unwrap();
        assert_eq!(found, Outcome { share: "shared".into(), ..outcome });
        assert!(key("b").read_record(text.as_bytes(), true).is_none());
        assert!(key("a2").read_record(text.as_bytes(), true).is_none());
        assert_ne!(key("a").path, key("b").path);
    }

    #[test]
    fn an_answer_that_gave_up_is_for_those_who_waited() {
        let (asked, verdict) = (key("a"), down("no verdict within 900ms (while logging in)"));
        let [(_, text), _] = asked.late_record(&verdict.clone().into(), Duration::ZERO).try_into().unwrap();
        assert_eq!(asked.read_record(&text, true).unwrap().verdict, verdict);
        assert!(asked.read_record(&text, false).is_none());
    }

    #[test]
    fn what_is_no_record_is_no_answer() {
        assert!(key("a").read_record(b"a\nup: x\nnull\n[]", true).is_some());
        let none = ["", "a", "a\n", "a\nup: x", "a\nup: x\nnull", "a\nmaybe: x\nnull\n[]", "a\nup: x\n{\n[]"];
        for text in none.into_iter().chain(["a\nup\nnull\n[]", "a\nup: x\nnull\n", "a\nup: x\nnull\n[{}]"]) {
            assert!(key("a").read_record(text.as_bytes(), true).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_not_trusted() {
        assert_eq!(ensure_trusted(Path::new("/tmp")).unwrap_err(), "others may write /tmp");
        assert!(ensure_trusted(Path::new("/nowhere")).unwrap_err().starts_with("cannot use /nowhere: "));
        assert_eq!(ensure_trusted(Path::new("/dev/null")).unwrap_err(), "/dev/null is not a directory");
    }
}
