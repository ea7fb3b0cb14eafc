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
}

struct Status;

impl Check for Status {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const ABOUT: &'static str = "Tells whether the local MySQL or MariaDB server may take the traffic it is meant for.";
    type Options = Options;
    type Facts = Facts;

    fn validate(options: &Options) -> Result<(), String> {
        match options {
            Options { require_writable: true, require_read_only: true } => {
                Err("`--require-writable` and `--require-read-only` exclude each other".into())
            }
            _ => Ok(()),
        }
    }

    fn probe(session: &mut Session<'_>, _: &Options) -> anyhow::Result<Facts> {
        probe::ask(session)
    }

    fn judge(facts: &Facts, options: &Options) -> Verdict {
        rules::judge(facts, options)
    }
}

check::main!(Status);
