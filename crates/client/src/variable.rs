//! A variable or status value as the server gives it.

use std::fmt;

use serde::Serialize;

/// The text of a server variable; unknown when it is NULL or the server has no such variable. An unknown value is neither
/// on nor off, and equals no word.
#[derive(Debug, Default, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Variable(Option<String>);

impl Variable {
    /// Whether it is known at all.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.0.is_some()
    }

    /// Whether it is this word, in any case.
    #[must_use]
    pub fn is(&self, word: &str) -> bool {
        self.0.as_ref().is_some_and(|value| value.eq_ignore_ascii_case(word))
    }

    /// Whether it is `ON`, or `1` as `SELECT @@global.x` gives it.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.is("ON") || self.is("1")
    }

    /// Whether it is `OFF`, or `0` as `SELECT @@global.x` gives it.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.is("OFF") || self.is("0")
    }

    /// Whether it is known and not off: a switch that this server has, and that is not in its usual place.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.is_known() && !self.is_off()
    }

    /// The value of a switch in the words of the manual, `ON` for `1` and `OFF` for `0`.
    #[must_use]
    pub fn switch(&self) -> &str {
        match self.text() {
            "1" => "ON",
            "0" => "OFF",
            word => word,
        }
    }

    /// The value as it is; `NULL` when unknown.
    #[must_use]
    pub fn text(&self) -> &str {
        self.0.as_deref().unwrap_or(NULL)
    }
}

/// How a value that is unknown is shown.
pub const NULL: &str = "NULL";

/// A value as it is shown; `NULL` when it is unknown.
pub fn or_null(value: Option<impl ToString>) -> String {
    value.map_or_else(|| NULL.to_owned(), |value| value.to_string())
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl From<Option<&str>> for Variable {
    fn from(value: Option<&str>) -> Variable {
        Variable(value.map(str::to_owned))
    }
}

impl From<&str> for Variable {
    fn from(value: &str) -> Variable {
        Variable(Some(value.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_is_on_or_off_or_neither() {
        for (value, on, off, set, shown) in [
            (Variable::from("1"), true, false, true, "ON"),
            (Variable::from("on"), true, false, true, "on"),
            (Variable::from("0"), false, true, false, "OFF"),
            (Variable::from("OFF"), false, true, false, "OFF"),
            (Variable::from("NO_LOCK"), false, false, true, "NO_LOCK"),
            (Variable::default(), false, false, false, "NULL"),
        ] {
            let seen = (value.is_on(), value.is_off(), value.is_set(), value.switch());
            assert_eq!(seen, (on, off, set, shown), "{value:?}");
        }
    }
}
