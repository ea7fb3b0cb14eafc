//! The answer of a check: up, drain or down, and the sentence that says why. The only error type of this crate.

use std::borrow::Cow;
use std::fmt;

/// The longest reason that is shown in one line, in bytes. `HAProxy` cuts what it shows at 127 (measured, 1.4 to 3.4).
pub const REASON_MAX: usize = 120;

/// Up, drain or down, with what was found and the limit it was compared with.
///
/// The reason can always be shown: it is one line of printable ASCII without `<` and `>`, whatever it was made from.
/// [`Verdict::short_reason`] is at most [`REASON_MAX`] bytes of it, and so is the verdict when it is displayed.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    state: State,
    reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Up,
    Drain,
    Down,
    Misconfigured,
}

/// The server may take the traffic.
pub fn up(reason: impl Into<String>) -> Verdict {
    Verdict { state: State::Up, reason: presentable(reason.into()) }
}

/// The server may keep the sessions that it has and gets no new ones: an operator takes it out, or it is about to be out.
pub fn drain(reason: impl Into<String>) -> Verdict {
    Verdict { state: State::Drain, reason: presentable(reason.into()) }
}

/// The server may not take the traffic, or it is unknown whether it may.
pub fn down(reason: impl Into<String>) -> Verdict {
    Verdict { state: State::Down, reason: presentable(reason.into()) }
}

/// The check cannot be made as configured: down for a load balancer, an error of its own for a person.
pub fn misconfigured(reason: impl Into<String>) -> Verdict {
    Verdict { state: State::Misconfigured, reason: presentable(reason.into()) }
}

impl From<client::Error> for Verdict {
    fn from(error: client::Error) -> Verdict {
        down(error.to_string())
    }
}

impl Verdict {
    /// Whether the verdict is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.state == State::Up
    }

    /// Whether the verdict is down.
    #[must_use]
    pub fn is_down(&self) -> bool {
        matches!(self.state, State::Down | State::Misconfigured)
    }

    /// Whether the check could not be made as configured.
    #[must_use]
    pub fn is_misconfigured(&self) -> bool {
        self.state == State::Misconfigured
    }

    /// The HTTP status code and its standard phrase. 404 is what `HAProxy` can be told to drain on; otherwise it is down.
    #[must_use]
    pub fn http(&self) -> (&'static str, &'static str) {
        match self.state {
            State::Up => ("200", "OK"),
            State::Drain => ("404", "Not Found"),
            State::Down | State::Misconfigured => ("503", "Service Unavailable"),
        }
    }

    /// 0 up, 1 drain or down, 2 the check could not be made as configured.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        match self.state {
            State::Up => 0,
            State::Drain | State::Down => 1,
            State::Misconfigured => 2,
        }
    }

    /// The exit status and the word of a Nagios plugin.
    #[must_use]
    pub fn nagios(&self) -> (u8, &'static str) {
        match self.state {
            State::Up => (0, "OK"),
            State::Drain => (1, "WARNING"),
            State::Down => (2, "CRITICAL"),
            State::Misconfigured => (3, "UNKNOWN"),
        }
    }

    /// What was found, in one presentable line, however long.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The reason in at most [`REASON_MAX`] bytes.
    #[must_use]
    pub fn short_reason(&self) -> Cow<'_, str> {
        if self.reason.len() <= REASON_MAX { Cow::Borrowed(&self.reason) } else { Cow::Owned(shorten(&self.reason)) }
    }

    /// The same verdict with `what` before its reason.
    pub fn after(self, what: &str) -> Verdict {
        Verdict { state: self.state, reason: presentable(format!("{what}: {}", self.reason)) }
    }

    /// `up`, `drain` or `down`, `HAProxy`'s own words.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self.state {
            State::Up => "up",
            State::Drain => "drain",
            State::Down | State::Misconfigured => "down",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word(), self.short_reason())
    }
}

/// Replaces what may not be shown by `?`.
fn presentable(text: String) -> String {
    let may_be_shown = |byte: u8| (byte == b' ' || byte.is_ascii_graphic()) && byte != b'<' && byte != b'>';
    if text.bytes().all(may_be_shown) {
        return text;
    }
    text.chars().map(|c| if u8::try_from(c).is_ok_and(may_be_shown) { c } else { '?' }).collect()
}

/// Shortens what stands around the file at fault, which is the last path, then the directories of that file; what is still
/// too long loses its middle. So the name and the cure at the end stay.
fn shorten(reason: &str) -> String {
    let mut words: Vec<String> = reason.split(' ').map(str::to_owned).collect();
    let last = words.iter().rposition(|word| without_a_directory(word).is_some());
    if let Some(mut last) = last {
        for around in 0..last {
            cut_directories(&mut words, around);
        }
        while length(&words) > REASON_MAX
            && let Some(end) = words.iter().take(last).position(|word| word.ends_with(':'))
        {
            words.drain(..=end);
            last -= end + 1;
            words.iter_mut().take(1).for_each(|first| first.insert_str(0, "..."));
        }
        cut_directories(&mut words, last);
    }
    let text = words.join(" ");
    if text.len() <= REASON_MAX {
        return text;
    }
    let tail = REASON_MAX / 2;
    let head = REASON_MAX - tail - "...".len();
    // All ASCII here, so every byte offset is a character boundary.
    let (start, end) = (text.split_at(head).0, text.split_at(text.len() - tail).1);
    format!("{start}...{end}")
}

/// The length of these words with the blanks between them.
fn length(words: &[String]) -> usize {
    words.iter().map(|word| word.len() + 1).sum::<usize>() - 1
}

/// Takes as many leading directories from a path as it needs for all of the words to fit.
fn cut_directories(words: &mut [String], at: usize) {
    while length(words) > REASON_MAX
        && let Some(word) = words.get_mut(at)
        && let Some(shorter) = without_a_directory(word)
    {
        *word = shorter;
    }
}

/// `.../conf.d/a.cnf:3:` for `/etc/conf.d/a.cnf:3:`, then `.../a.cnf:3:`, then `None`.
fn without_a_directory(word: &str) -> Option<String> {
    let (before, path) = word.split_once('/')?;
    let (_, rest) = path.split_once('/')?;
    Some(format!("{}.../{rest}", before.trim_end_matches("...")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_shown_as_it_is() {
        assert_eq!(down("lag is 42s, limit is 30s").to_string(), "down: lag is 42s, limit is 30s");
        assert_eq!(up("writable").to_string(), "up: writable");
    }

    #[test]
    fn the_exit_status_tells_down_from_misconfigured() {
        assert_eq!([up("x"), down("x"), misconfigured("x")].map(|verdict| verdict.exit_status()), [0, 1, 2]);
        assert_eq!(misconfigured("x").word(), "down");
        assert_eq!(
            (drain("x").exit_status(), drain("x").http().0, drain("x").to_string()),
            (1, "404", "drain: x".into())
        );
    }

    #[test]
    fn what_could_forge_a_header_or_markup_is_replaced() {
        assert_eq!(down("a\r\nb<c>\u{e9}\0").reason(), "a??b?c???");
    }

    #[test]
    fn a_long_reason_keeps_both_ends() {
        let whole = format!("cannot read {}: permission denied", "x".repeat(300));
        let verdict = down(whole.as_str());
        assert_eq!(verdict.reason(), whole);
        let short = verdict.short_reason();
        assert_eq!(short.len(), REASON_MAX);
        assert!(short.starts_with("cannot read xxx") && short.ends_with("xxx: permission denied"), "{verdict}");
        assert_eq!(down("x".repeat(REASON_MAX)).short_reason().len(), REASON_MAX);
    }

    /// Each is as short as it has to be, and no shorter.
    #[test]
    fn a_long_reason_keeps_the_file_at_fault_and_the_cure() {
        let cure = "others may write it (mode 0664): run `chmod go-w` on it";
        for (whole, short) in [
            (
                format!("cannot read option file /etc/mysqlchk/conf.d/replication-of-db01.cnf: {cure}"),
                format!("cannot read option file .../conf.d/replication-of-db01.cnf: {cure}"),
            ),
            (
                format!("/etc/mysqlchk/my.cnf:3: cannot read option file /etc/mysqlchk/db01.cnf: {cure}"),
                format!(".../my.cnf:3: cannot read option file /etc/mysqlchk/db01.cnf: {cure}"),
            ),
            (
                format!("/etc/mysqlchk/my.cnf:3: cannot read option file /etc/mysqlchk/conf.d/replication.cnf: {cure}"),
                format!("...cannot read option file /etc/mysqlchk/conf.d/replication.cnf: {cure}"),
            ),
            (
                format!(
                    "/a/b.cnf:3: /etc/mysqlchk/c.cnf:9: cannot read option file /srv/{}/d.cnf: {cure}",
                    "x".repeat(99)
                ),
                format!("...cannot read option file .../d.cnf: {cure}"),
            ),
        ] {
            let verdict = down(whole.as_str());
            assert_eq!((verdict.reason(), &*verdict.short_reason()), (&*whole, &*short));
            assert!(short.len() <= REASON_MAX, "{}", short.len());
        }
    }
}
