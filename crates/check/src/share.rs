//! Single flight: checks that ask the same question at the same time share one answer.
//!
//! Several load balancers ask the same thing within milliseconds, and a server that hangs collects a connection for each.
//! With `--share` the first asks and the others wait for its answer, each within its own deadline. The state is one small
//! file per question in a directory of the checks' user; its lock is the flight. Whoever holds the lock asks; whoever
//! gets it finds a fresh answer, or asks itself. The kernel frees the lock when its holder dies, however it dies; one that
//! was stopped keeps it, so it notes until when it will have answered, and then the others ask for themselves.
//!
//! Whatever is wrong with directory or file, the check is made as if the option were absent.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use serde_json::Value;
use watchdog::alarm;

use crate::deadline::Deadline;
use crate::record::{self, Stamp};
use crate::verdict::{Verdict, down, up};

/// Where and for how long answers are shared.
#[derive(Debug, Clone)]
pub struct Sharing {
    /// How old an answer may be.
    pub limit: Duration,
    /// The directory of the state.
    pub directory: PathBuf,
}

/// One question and the file its answers are shared in.
#[derive(Debug, Clone)]
pub struct Question {
    /// Everything that makes an answer another one: program, server, account, options. Never a password.
    key: String,
    path: PathBuf,
    limit: Duration,
    directory: PathBuf,
}

/// How long an answer is good for those who waited for it, where it took longer than the limit. They have no time left to
/// ask such a server again, and it would take as long again.
const GRACE: Duration = Duration::from_millis(100);

/// The word of a record in which a check gave up. That is no observation: only those who waited for it can use it.
const GAVE_UP: &str = "gave up";

/// What came of waiting for one's turn.
#[derive(Debug)]
pub enum Turn {
    /// Another check asked while we waited, or a moment ago.
    Shared(Verdict, Value),
    /// Nobody knows: we ask, and tell the others.
    Ours(Flight),
}

/// The right to ask, and the duty to tell.
#[derive(Debug)]
pub struct Flight {
    key: String,
    limit: Duration,
    path: PathBuf,
    file: BorrowedFd<'static>,
    asked: Stamp,
}

impl Question {
    /// The question that `key` describes.
    #[must_use]
    pub fn new(sharing: &Sharing, program: &str, key: String) -> Question {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let path = sharing.directory.join(format!("{program}-{:016x}", hasher.finish()));
        Question { key, path, limit: sharing.limit, directory: sharing.directory.clone() }
    }

    /// What to write into the file when the check ends after `time` without an answer: bytes and their offsets.
    #[must_use]
    pub fn late_record(&self, verdict: &Verdict, time: Duration) -> Vec<(u64, Vec<u8>)> {
        record::pieces(Stamp::now().later(time), as_record(&self.key, GAVE_UP, verdict, &Value::Null).as_bytes())
    }

    /// Waits until it is our turn: whoever asks this question now has the file locked. The deadline ends the wait.
    ///
    /// # Errors
    /// When the state cannot be used, or whoever asks does not answer in its time. The words say why.
    pub fn wait(&self, deadline: &Deadline) -> Result<Turn, String> {
        let began = Stamp::now();
        ensure_trusted(&self.directory)?;
        let file = open(&self.path)?;
        self.lock(file.as_fd(), deadline)?;
        let now = Stamp::now();
        let fresh = record::read(file.as_fd()).filter(|(stamp, _)| stamp.is_fresh(now, self.limit));
        if let Some((verdict, facts)) = fresh.and_then(|(stamp, text)| self.read_record(&text, began.is_before(stamp)))
        {
            return Ok(Turn::Shared(verdict, facts));
        }
        // Before anybody waits for an answer that could not be told.
        alarm::ignore_limits_of_files();
        let cannot_write = |error: Errno| cannot("write", &self.path, &error.into());
        record::make_room(file.as_fd()).map_err(cannot_write)?;
        // On a busy machine the word that it gave up comes a moment after its time.
        let left = deadline.left().unwrap_or_default();
        let busy = left + left / 8;
        record::busy_for(file.as_fd(), busy).map_err(cannot_write)?;
        let (key, path) = (self.key.clone(), self.path.clone());
        Ok(Turn::Ours(Flight { key, limit: self.limit, path, file: alarm::also_write_to(file.into()), asked: now }))
    }

    /// Waits for the lock, and for its holder no longer than that one can need. What the holder notes is looked at after a
    /// part of our time: one that took the lock just now has had no time to note anything.
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

    /// The answer in a record of this question; one that gave up only for those who waited.
    #[must_use]
    pub fn read_record(&self, text: &[u8], waited: bool) -> Option<(Verdict, Value)> {
        let rest = std::str::from_utf8(text).ok()?.strip_prefix(self.key.as_str())?.strip_prefix('\n')?;
        let (verdict, facts) = rest.split_once('\n')?;
        let verdict = match verdict.split_once(": ")? {
            ("up", reason) => up(reason),
            ("down", reason) => down(reason),
            (GAVE_UP, reason) if waited => down(reason),
            _ => return None,
        };
        Some((verdict, serde_json::from_str(facts).ok()?))
    }
}

impl Flight {
    /// Tells the answer to those who wait and to those who come within the limit. It is as old as the question, but never
    /// so old that those who wait cannot use it.
    ///
    /// # Errors
    /// When it is too long to be told. The words say so.
    pub fn land(self, verdict: &Verdict, facts: &Value) -> Result<(), String> {
        let asked = self.asked.max(Stamp::now().earlier(self.limit.saturating_sub(GRACE)));
        let told = record::write(self.file, asked, as_record(&self.key, verdict.word(), verdict, facts).as_bytes());
        if told { Ok(()) } else { Err(format!("the answer does not fit into {}", self.path.display())) }
    }
}

impl Drop for Flight {
    /// Also when the driver panics: whoever waits must not wait for our client to leave.
    fn drop(&mut self) {
        // From here on somebody else may hold the lock, so the timer must not write.
        alarm::leave_the_file_alone();
        let _ = flock(self.file, FlockOperation::Unlock);
    }
}

fn as_record(key: &str, word: &str, verdict: &Verdict, facts: &Value) -> String {
    format!("{key}\n{word}: {}\n{facts}", verdict.reason())
}

/// A directory that nobody but its owner may write, and that is ours or root's.
fn ensure_trusted(directory: &Path) -> Result<(), String> {
    let about = fs::symlink_metadata(directory).map_err(|error| cannot("use", directory, &error))?;
    let own = rustix::process::geteuid().as_raw();
    if !about.is_dir() {
        return Err(format!("{} is no directory", directory.display()));
    }
    if about.uid() != own && about.uid() != 0 {
        return Err(format!("{} belongs to uid {}, not {own}", directory.display(), about.uid()));
    }
    if about.mode() & 0o022 != 0 {
        return Err(format!("others may write {}", directory.display()));
    }
    Ok(())
}

/// The file, made where it is missing; nothing that somebody else put there.
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

    fn question(key: &str) -> Question {
        let sharing = Sharing { limit: Duration::from_millis(500), directory: "/nowhere".into() };
        Question::new(&sharing, "mysqlchk-status", key.to_owned())
    }

    #[test]
    fn an_answer_is_found_by_its_own_question_only() {
        let asked = question("a");
        let facts = serde_json::json!({"read_only": "0"});
        let verdict = down("read_only is ON, not OFF");
        let text = as_record("a", "down", &verdict, &facts);
        let found = asked.read_record(text.as_bytes(), false).unwrap();
        assert_eq!(found, (verdict, facts));
        assert!(question("b").read_record(text.as_bytes(), true).is_none());
        assert!(question("a2").read_record(text.as_bytes(), true).is_none());
        assert_ne!(question("a").path, question("b").path);
    }

    #[test]
    fn an_answer_that_gave_up_is_for_those_who_waited() {
        let (asked, verdict) = (question("a"), down("no verdict within 900ms (while logging in)"));
        let [(_, text), _] = asked.late_record(&verdict, Duration::ZERO).try_into().unwrap();
        assert_eq!(asked.read_record(&text, true).unwrap(), (verdict, Value::Null));
        assert!(asked.read_record(&text, false).is_none());
    }

    #[test]
    fn what_is_no_record_is_no_answer() {
        for text in ["", "a", "a\n", "a\nup: x", "a\nmaybe: x\nnull", "a\nup: x\n{", "a\nup\nnull"] {
            assert!(question("a").read_record(text.as_bytes(), true).is_none(), "{text:?}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_is_not_trusted() {
        assert_eq!(ensure_trusted(Path::new("/tmp")).unwrap_err(), "others may write /tmp");
        assert!(ensure_trusted(Path::new("/nowhere")).unwrap_err().starts_with("cannot use /nowhere: "));
        assert_eq!(ensure_trusted(Path::new("/dev/null")).unwrap_err(), "/dev/null is no directory");
    }
}
