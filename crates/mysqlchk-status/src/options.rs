//! The options of mysqlchk-status(8) alone.

use check::Validate;

/// The options of this check alone.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Up only when the server accepts writes
    #[arg(long)]
    pub(crate) require_writable: bool,
    /// Up only when the server refuses writes
    #[arg(long)]
    pub(crate) require_read_only: bool,
    /// Up only with these auto-increment settings: `2/1` and `2/2` on two sources that replicate from each other
    #[arg(long, value_name = "INCREMENT/OFFSET", value_parser = auto_increment)]
    pub(crate) require_auto_increment: Option<AutoIncrement>,
    /// Up even if the server does not accept TCP connections
    #[arg(long)]
    pub(crate) allow_skip_networking: bool,
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

impl Validate for Options {
    fn validate(&self) -> Result<(), String> {
        if self.require_writable && self.require_read_only {
            return Err("`--require-writable` and `--require-read-only` exclude each other".into());
        }
        Ok(())
    }
}

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
