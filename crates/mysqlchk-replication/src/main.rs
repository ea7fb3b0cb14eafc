//! Is this server replicating from its source, and how far behind is it?

#![cfg_attr(not(test), no_main)]

mod probe;
mod rules;

use std::time::Duration;

use check::{Check, Session, Verdict, duration, switch};
use probe::Facts;

/// The options of this check alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Down when the lag is above this
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    max_lag: Duration,
    /// Judge this channel (MariaDB: connection) only; repeat for more [default: all]
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append)]
    channel: Vec<String>,
    /// The verdict on a server that is no replica
    #[arg(long, value_name = "VERDICT", value_enum, default_value = "down")]
    if_not_replica: IfNotReplica,
    /// Up while the receiver is trying to reach its source
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    allow_connecting: bool,
}

/// The verdict on a server that has no replication configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IfNotReplica {
    Up,
    Down,
}

struct Replication;

impl Check for Replication {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const ABOUT: &'static str =
        "Tells whether the local server is replicating from its source, and how far behind it is.";
    type Options = Options;
    type Facts = Facts;

    fn probe(session: &mut Session<'_>, _: &Options) -> anyhow::Result<Facts> {
        probe::ask(session)
    }

    fn judge(facts: &Facts, options: &Options) -> Verdict {
        rules::judge(facts, options)
    }
}

check::main!(Replication);
