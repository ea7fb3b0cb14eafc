//! The options of mysqlchk-replication(8) alone.

use std::time::Duration;

use check::Validate;
use client::consistency::{self, Demand};
use client::{duration, number};

use crate::lag::{self, LagFrom, Table};

/// The options of this check alone.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Down when the lag is above this
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration::parse)]
    pub(crate) max_lag: Duration,
    /// Drain when the lag is above this: existing sessions stay, new ones go elsewhere [default: do not drain]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) drain_lag: Option<Duration>,
    /// How the lag is measured
    #[arg(long, value_name = "WHAT", value_enum, default_value = "status")]
    pub(crate) lag_from: LagFrom,
    /// The table of pt-heartbeat, for --lag-from=heartbeat
    #[arg(long, value_name = "DB.TABLE", value_parser = lag::table)]
    pub(crate) heartbeat_table: Option<Table>,
    /// Use the heartbeat row with this `server_id` [default: the channel's source]
    #[arg(long, value_name = "SERVER_ID", value_parser = number::<u32>(0..=u32::MAX.into()))]
    pub(crate) heartbeat_source_id: Option<u32>,
    /// The table is in UTC (pt-heartbeat --utc), not in the server's time zone
    #[arg(long)]
    pub(crate) heartbeat_utc: bool,
    /// Down when nothing was received from the source for longer than this [default: no limit]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive)]
    pub(crate) max_heartbeat_age: Option<Duration>,
    /// Judge this channel (MariaDB: connection) only; repeat for more [default: all]
    #[arg(long, value_name = "NAME", action = clap::ArgAction::Append)]
    pub(crate) channel: Vec<String>,
    /// Down when the data is known to differ from that of the source, or with a time when it was not found consistent within
    /// it (see mysqlchk-consistency)
    #[arg(long, value_name = "AGE", num_args = 0..=1, require_equals = true, default_missing_value = consistency::ANY_AGE,
        value_parser = consistency::demand)]
    pub(crate) require_consistent: Option<Demand>,
    /// The verdict on a server that is not a replica
    #[arg(long, value_name = "VERDICT", value_enum, default_value = "down")]
    pub(crate) if_not_replica: IfNotReplica,
    /// Up while the receiver is connecting to its source
    #[arg(long)]
    pub(crate) allow_connecting: bool,
    /// Up even if the server does not accept TCP connections
    #[arg(long)]
    pub(crate) allow_skip_networking: bool,
    /// Judge the server as a member of a replication group instead, in this role
    #[arg(long, value_name = "ROLE", value_enum)]
    pub(crate) group_replication: Option<Role>,
    /// Down when more transactions of the group wait to be applied [default: no limit]
    #[arg(long, value_name = "TRANSACTIONS", value_parser = number::<u64>(0..=u64::MAX))]
    pub(crate) max_applier_queue: Option<u64>,
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

impl Validate for Options {
    fn validate(&self) -> Result<(), String> {
        let Options { lag_from, heartbeat_table, group_replication, .. } = self;
        let from_table = *lag_from == LagFrom::Heartbeat;
        if from_table && heartbeat_table.is_none() {
            return Err("`--lag-from=heartbeat` needs its table: write `heartbeat-table=DB.TABLE`".into());
        }
        for (option, given) in [
            ("--heartbeat-table", heartbeat_table.is_some()),
            ("--heartbeat-source-id", self.heartbeat_source_id.is_some()),
            ("--heartbeat-utc", self.heartbeat_utc),
        ] {
            if given && !from_table {
                return Err(format!("`{option}` is for `--lag-from=heartbeat`, which is not set"));
            }
        }
        if self.drain_lag.is_some_and(|limit| limit >= self.max_lag) {
            return Err("`--drain-lag` must be below `--max-lag`".into());
        }
        // A group has members and no channels: the options of one do not apply to the other.
        for (option, given) in [
            ("--channel", !self.channel.is_empty()),
            ("--lag-from", *lag_from != LagFrom::Status),
            ("--max-heartbeat-age", self.max_heartbeat_age.is_some()),
            ("--drain-lag", self.drain_lag.is_some()),
            ("--allow-connecting", self.allow_connecting),
        ] {
            if given && group_replication.is_some() {
                return Err(format!("`--group-replication` and `{option}` exclude each other"));
            }
        }
        match (group_replication, self.max_applier_queue) {
            (None, Some(_)) => Err("`--max-applier-queue` is for `--group-replication`, which is not set".into()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{Args, FromArgMatches};

    fn refused(words: &[&str]) -> Option<String> {
        let command = Options::augment_args(clap::Command::new("test").no_binary_name(true));
        let options = Options::from_arg_matches(&command.get_matches_from(words)).unwrap();
        options.validate().err()
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
