//! Is this server replicating from its source, and how far behind is it?

#![cfg_attr(not(test), no_main)]

mod lag;
mod probe;
mod rules;

use std::time::Duration;

use check::{Check, Session, Verdict, duration, number, switch};
use lag::{LagFrom, Table};
use probe::Facts;

/// The options of this check alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Down when the lag is above this
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    max_lag: Duration,
    /// What the lag is taken from
    #[arg(long, value_name = "WHAT", value_enum, default_value = "status")]
    lag_from: LagFrom,
    /// The table of pt-heartbeat, for --lag-from=heartbeat
    #[arg(long, value_name = "DB.TABLE", value_parser = lag::table)]
    heartbeat_table: Option<Table>,
    /// Whose row of it counts [default: that of the channel's source]
    #[arg(long, value_name = "SERVER_ID", value_parser = number::<u32>(0..=u32::MAX.into()))]
    heartbeat_source_id: Option<u32>,
    /// The table is in UTC (pt-heartbeat --utc), not in the server's time zone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    heartbeat_utc: bool,
    /// Down when the receiver has heard nothing of its source for longer than this [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    max_heartbeat_age: Option<Duration>,
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
    /// Do not mind that the server listens on its Unix socket alone
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true)]
    allow_skip_networking: bool,
    /// Judge the server as a member of a replication group instead, in this role
    #[arg(long, value_name = "ROLE", value_enum)]
    group_replication: Option<Role>,
    /// Down when more transactions of the group wait to be applied [default: no limit]
    #[arg(long, value_name = "TRANSACTIONS", value_parser = number::<u64>(0..=u64::MAX))]
    max_applier_queue: Option<u64>,
}

/// The verdict on a server that has no replication configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum IfNotReplica {
    Up,
    Down,
}

/// What a member of a group must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Role {
    /// Primary or secondary.
    Any,
    Primary,
    Secondary,
}

struct Replication;

impl Check for Replication {
    const NAME: &'static str = env!("CARGO_PKG_NAME");
    const ABOUT: &'static str =
        "Tells whether the local server is replicating from its source, and how far behind it is.";
    type Options = Options;
    type Facts = Facts;

    fn validate(options: &Options) -> Result<(), String> {
        let Options { lag_from, heartbeat_table, group_replication, .. } = options;
        let from_table = *lag_from == LagFrom::Heartbeat;
        if from_table && heartbeat_table.is_none() {
            return Err("`--lag-from=heartbeat` needs its table: write `heartbeat-table=DB.TABLE`".into());
        }
        for (option, given) in [
            ("--heartbeat-table", heartbeat_table.is_some()),
            ("--heartbeat-source-id", options.heartbeat_source_id.is_some()),
            ("--heartbeat-utc", options.heartbeat_utc),
        ] {
            if given && !from_table {
                return Err(format!("`{option}` is for `--lag-from=heartbeat`, which is not set"));
            }
        }
        // A group has members and no channels: what is said of one does not count for the other.
        for (option, given) in [
            ("--channel", !options.channel.is_empty()),
            ("--lag-from", *lag_from != LagFrom::Status),
            ("--max-heartbeat-age", options.max_heartbeat_age.is_some()),
            ("--allow-connecting", options.allow_connecting),
        ] {
            if given && group_replication.is_some() {
                return Err(format!("`--group-replication` and `{option}` exclude each other"));
            }
        }
        match (group_replication, options.max_applier_queue) {
            (None, Some(_)) => Err("`--max-applier-queue` is for `--group-replication`, which is not set".into()),
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

check::main!(Replication);

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn refused(words: &[&str]) -> Option<String> {
        let command = Options::augment_args(clap::Command::new("test").no_binary_name(true));
        let options = Options::from_arg_matches(&command.get_matches_from(words)).unwrap();
        Replication::validate(&options).err()
    }

    #[test]
    fn options_that_do_not_go_together_are_refused() {
        for (words, why) in [
            (&[][..], None),
            (&["--lag-from=heartbeat", "--heartbeat-table=a.b", "--heartbeat-utc", "--heartbeat-source-id=1"], None),
            (&["--group-replication=any", "--max-applier-queue=1"], None),
            (
                &["--lag-from=heartbeat"],
                Some("`--lag-from=heartbeat` needs its table: write `heartbeat-table=DB.TABLE`"),
            ),
            (&["--heartbeat-table=a.b"], Some("`--heartbeat-table` is for `--lag-from=heartbeat`, which is not set")),
            (
                &["--heartbeat-utc", "--lag-from=commit"],
                Some("`--heartbeat-utc` is for `--lag-from=heartbeat`, which is not set"),
            ),
            (
                &["--group-replication=any", "--channel=a"],
                Some("`--group-replication` and `--channel` exclude each other"),
            ),
            (&["--max-applier-queue=1"], Some("`--max-applier-queue` is for `--group-replication`, which is not set")),
        ] {
            assert_eq!(refused(words).as_deref(), why, "{words:?}");
        }
    }
}
