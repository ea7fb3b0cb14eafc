//! The answer of a check: up or down, and the sentence that says why.

use std::fmt;

/// The longest reason, in bytes. `HAProxy` cuts what it shows at 127 (measured, 1.4 to 3.4).
pub const REASON_MAX: usize = 120;

/// Up or down, with the fact found and the limit it was held against.
///
/// The reason is always fit to be shown: one line of printable ASCII without `<` and `>`, at most
/// [`REASON_MAX`] bytes, whatever it was made from.
#[must_use]
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    up: bool,
    reason: String,
}

/// The server may take the traffic.
pub fn up(reason: impl Into<String>) -> Verdict {
    Verdict { up: true, reason: presentable(&reason.into()) }
}

/// The server may not take the traffic, or nobody knows whether it may.
pub fn down(reason: impl Into<String>) -> Verdict {
    Verdict { up: false, reason: presentable(&reason.into()) }
}

impl Verdict {
    /// Whether the verdict is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.up
    }

    /// What was found, in one presentable line.
    #[must_use]
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The same verdict, with something said before its reason.
    pub fn after(self, what: &str) -> Verdict {
        Verdict { up: self.up, reason: presentable(&format!("{what}: {}", self.reason)) }
    }

    /// `up` or `down`, `HAProxy`'s own words.
    #[must_use]
    pub fn word(&self) -> &'static str {
        if self.up { "up" } else { "down" }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.word(), self.reason)
    }
}

/// Replaces what may not be shown by `?` and takes the middle out of what is too long: the
/// beginning names the thing, the end says what is wrong with it.
fn presentable(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|c| if (c == ' ' || c.is_ascii_graphic()) && c != '<' && c != '>' { c } else { '?' })
        .collect();
    if clean.len() <= REASON_MAX {
        return clean;
    }
    let tail = REASON_MAX / 2;
    let head = REASON_MAX - tail - "...".len();
    // All ASCII here, so every byte offset is a character boundary.
    let (start, end) = (clean.split_at(head).0, clean.split_at(clean.len() - tail).1);
    format!("{start}...{end}")
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
    fn what_could_forge_a_header_or_markup_is_replaced() {
        assert_eq!(down("a\r\nb<c>\u{e9}\0").reason(), "a??b?c???");
    }

    #[test]
    fn a_long_reason_keeps_both_ends() {
        let verdict = down(format!("cannot read {}: permission denied", "x".repeat(300)));
        assert_eq!(verdict.reason().len(), REASON_MAX);
        assert!(verdict.reason().starts_with("cannot read xxx"), "{verdict}");
        assert!(verdict.reason().ends_with("xxx: permission denied"), "{verdict}");
        assert_eq!(down("x".repeat(REASON_MAX)).reason().len(), REASON_MAX);
    }
}
