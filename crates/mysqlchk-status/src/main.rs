//! Does this server answer queries, and may it take the traffic it is meant for?

#![cfg_attr(not(test), no_main)]

mod probe;
mod rules;

use check::{Check, Session, Verdict, switch};
use probe::Facts;

/// The options of this check alone.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Up only when the server takes writes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    require_writable: bool,
    /// Up only when the server refuses writes
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    require_read_only: bool,
    /// Up only when a source hands out values of its own: `2/1` and `2/2` on two that replicate from each other
    #[arg(long, value_name = "INCREMENT/OFFSET", value_parser = auto_increment)]
    require_auto_increment: Option<AutoIncrement>,
    /// Up although the server takes no connections over TCP
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    allow_skip_networking: bool,
}

/// What keeps the values of several sources apart: each steps by at least their number, from an offset of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AutoIncrement {
    pub(crate) increment: u32,
    pub(crate) offset: u32,
}

/// Reads `2/1`.
fn auto_increment(text: &str) -> Result<AutoIncrement, String> {
    let numbers = text.split_once('/').map(|(increment, offset)| (increment.parse(), offset.parse()));
    match numbers {
        // The servers ignore an offset that is larger than the increment ("auto_increment_offset", MySQL 8.4 manual).
        Some((Ok(increment), Ok(offset))) if (1..=increment).contains(&offset) => {
            Ok(AutoIncrement { increment, offset })
        }
        _ => Err("must be INCREMENT/OFFSET, like `2/1`, with an offset from 1 to the increment".into()),
    }
}

struct Status;

impl Check for Status {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const ABOUT: &'static str = "Tells whether the local MySQL or MariaDB server may take the traffic it is meant for.";
    type Options = Options;
    type Facts = Facts;

    fn validate(options: &Options) -> Result<(), String> {
        match options {
            Options { require_writable: true, require_read_only: true, .. } => {
                Err("`--require-writable` and `--require-read-only` exclude each other".into())
            }
            _ => Ok(()),
        }
    }

    fn probe(session: &mut Session<'_>, options: &Options) -> anyhow::Result<Facts> {
        probe::ask(session, options)
    }

    fn judge(facts: &Facts, options: &Options) -> Verdict {
        rules::judge(facts, options)
    }
}

check::main!(Status);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_increment_has_its_offset() {
        assert_eq!(auto_increment("2/1"), Ok(AutoIncrement { increment: 2, offset: 1 }));
        assert_eq!(auto_increment("65535/65535"), Ok(AutoIncrement { increment: 65535, offset: 65535 }));
        for wrong in ["", "2", "2/", "/1", "2/0", "2/3", "0/0", "2/1/1", "-2/1", "a/b"] {
            assert!(auto_increment(wrong).is_err(), "{wrong}");
        }
    }
}
