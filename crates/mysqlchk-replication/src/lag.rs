//! How far behind a channel is: three ways to tell, each with the statement it takes and what its rows mean.
//!
//! `Seconds_Behind_Source` is 0 whenever there is nothing to apply, also when the source has long gone. The heartbeat table
//! sees that; commit timestamps do not, but they are exact where `Seconds_Behind_Source` jumps.

use std::time::Duration;

use client::Row;
use serde::{Serialize, Serializer};

/// Where the lag is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LagFrom {
    /// `Seconds_Behind_Source`.
    Status,
    /// The age of a row that pt-heartbeat writes on the source.
    Heartbeat,
    /// When the source committed what is not applied yet.
    Commit,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lag {
    /// Never counts as zero.
    Unknown(Unknown),
    /// Behind by this.
    Behind(Duration),
    /// A time to come, by this: the clocks or time zones differ. Counts as zero within the limit; beyond it, it is unknown
    /// which of the two is right.
    Ahead(Duration),
}

/// Why a lag is unknown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The server has none, or was not asked.
    Null,
    /// There is no row of this server in this table; where no server is named, the source's id is unknown.
    NoHeartbeat(Option<String>, String),
    /// One row was named for several channels.
    OneHeartbeatForSeveral,
    /// The receiver has received nothing from its source since it was started.
    NeverHeard,
    /// The server does not have the times of commits now.
    Commit,
    /// And what was received is not all applied.
    CommitAndNotAllApplied,
    /// This server never has the times of commits.
    NoCommits,
}

impl Default for Lag {
    fn default() -> Lag {
        Lag::Unknown(Unknown::Null)
    }
}

/// In seconds; `null` is unknown, and a clock that is ahead a negative number.
impl Serialize for Lag {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Lag::Unknown(_) => serializer.serialize_none(),
            Lag::Behind(lag) => serialize_seconds(*lag, serializer),
            Lag::Ahead(lag) => serializer.serialize_f64(-lag.as_secs_f64()),
        }
    }
}

/// Whole seconds as a whole number.
pub(crate) fn serialize_seconds<S: Serializer>(time: Duration, serializer: S) -> Result<S::Ok, S::Error> {
    match time.subsec_nanos() {
        0 => serializer.serialize_u64(time.as_secs()),
        _ => serializer.serialize_f64(time.as_secs_f64()),
    }
}

impl Lag {
    /// From a difference of two clocks in microseconds, negative where the source's is ahead.
    fn of_micros(micros: i64) -> Lag {
        let lag = Duration::from_micros(micros.unsigned_abs());
        if micros < 0 { Lag::Ahead(lag) } else { Lag::Behind(lag) }
    }

    /// The larger of what is known: any lag is larger than a time to come.
    fn or_larger(self, other: Lag) -> Lag {
        match (self, other) {
            (Lag::Behind(one), Lag::Behind(other)) => Lag::Behind(one.max(other)),
            (Lag::Ahead(_), Lag::Behind(lag)) if !lag.is_zero() => Lag::Behind(lag),
            (lag, _) => lag,
        }
    }
}

/// `Seconds_Behind_Source` of a row of replication status.
pub(crate) fn of_status(row: &Row) -> Lag {
    seconds(row, &["Seconds_Behind_Source", "Seconds_Behind_Master"]).map_or_else(Lag::default, Lag::Behind)
}

/// The whole seconds under the first of `names` that the row has; `None` for NULL and for a text that is not a number.
pub(crate) fn seconds(row: &Row, names: &[&str]) -> Option<Duration> {
    row.get(names).and_then(|text| text.parse().ok()).map(Duration::from_secs)
}

/// Whether all that was received is applied, by the positions in the source's binary log; `None` where the server does not show them.
///
/// When the source dies in the middle of a transaction, they stay apart until it is back: the half that came cannot be
/// applied. GTIDs count whole transactions (`Gtid_IO_Pos`, empty without them); those of own events, which come back from
/// a source that replicates from this server, are not needed, as the positions pass over them (measured on `MariaDB`
/// 10.11.19 and 11.8.9).
pub(crate) fn is_all_applied(status: &Row) -> Option<bool> {
    let received = status.get(&["Gtid_IO_Pos"]).unwrap_or_default();
    let applied = status.get(&["Gtid_Slave_Pos"]).unwrap_or_default();
    Some(received_position(status)? == applied_position(status)? || includes(applied, received))
}

/// The file and the position in it up to which the receiver has read the source's binary log. No file: nothing so far.
fn received_position(status: &Row) -> Option<(&str, &str)> {
    let file = status.get(&["Source_Log_File", "Master_Log_File"])?;
    Some((file, status.get(&["Read_Source_Log_Pos", "Read_Master_Log_Pos"])?))
}

/// The same of the applier.
fn applied_position(status: &Row) -> Option<(&str, &str)> {
    let file = status.get(&["Relay_Source_Log_File", "Relay_Master_Log_File"])?;
    Some((file, status.get(&["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"])?))
}

/// Whether one GTID position of `MariaDB` (`DOMAIN-SERVER-SEQUENCE`, with commas between) has each of another one's, or a
/// later one of the same domain and server. For different servers in one domain the order is unknown.
fn includes(position: &str, other: &str) -> bool {
    let read = |gtid: &str| {
        let (origin, number) = gtid.rsplit_once('-')?;
        Some((origin.to_owned(), number.parse::<u64>().ok()?))
    };
    let have: Vec<_> = position.split(',').filter_map(read).collect();
    let is_there = |(origin, number): (String, u64)| have.iter().any(|(same, have)| *same == origin && *have >= number);
    other.split(',').all(|gtid| read(gtid).is_some_and(is_there))
}

/// A table, as given: both names without quotes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    database: String,
    name: String,
}

/// Reads `percona.heartbeat`.
pub(crate) fn table(text: &str) -> Result<Table, String> {
    // 64 characters are the limit of a name ("Identifier Length Limits", MySQL 8.4 manual).
    let fits = |name: &str| !name.is_empty() && name.chars().count() <= 64 && !name.contains(['.', '`', '\0']);
    match text.split_once('.') {
        Some((database, name)) if fits(database) && fits(name) => {
            Ok(Table { database: database.to_owned(), name: name.to_owned() })
        }
        _ => Err("must be DB.TABLE, like `percona.heartbeat`, without quotes".into()),
    }
}

impl Table {
    /// The rows, with their age in microseconds. Both layouts of pt-heartbeat have `ts`; the time is written by the host
    /// of pt-heartbeat, in its time zone or in UTC (`--utc`). In the hour after summer time ends a local time stands for two
    /// moments, and which one the row does not tell: one of an hour ago looks like now.
    pub(crate) fn statement(&self, utc: bool) -> String {
        let now = if utc { "UTC_TIMESTAMP(6)" } else { "NOW(6)" };
        let Table { database, name } = self;
        format!("SELECT h.*, TIMESTAMPDIFF(MICROSECOND, h.ts, {now}) AS heartbeat_age FROM `{database}`.`{name}` AS h")
    }

    /// `DB.TABLE`.
    pub(crate) fn shown(&self) -> String {
        format!("{}.{}", self.database, self.name)
    }
}

/// The age of the heartbeat of one source: the row of `server_id`; in the old layout, which has `id` instead and counts
/// on one writer, the row of this id, or the only one. One row that is named for all, or the only one there is, tells
/// nothing about several channels: `is_alone` means that one channel is judged.
pub(crate) fn of_heartbeat(
    rows: &[Row],
    table: &Table,
    wanted: Option<u32>,
    source: Option<&str>,
    is_alone: bool,
) -> Lag {
    if wanted.is_some() && !is_alone {
        return Lag::Unknown(Unknown::OneHeartbeatForSeveral);
    }
    let is_new = rows.iter().any(|row| row.get(&["server_id"]).is_some());
    let id = wanted.map(|id| id.to_string()).or_else(|| source.map(str::to_owned));
    let row = match (rows, is_new, &id) {
        ([alone], false, _) if wanted.is_none() && is_alone => Some(alone),
        (_, _, Some(id)) => rows.iter().find(|row| row.get(&["server_id", "id"]) == Some(id)),
        _ => None,
    };
    let age = row.and_then(|row| row.get(&["heartbeat_age"])?.parse().ok());
    age.map_or_else(|| Lag::Unknown(Unknown::NoHeartbeat(id, table.shown())), Lag::of_micros)
}

/// What `performance_schema` knows of each channel, all times in seconds since 1970 on this server's clock or, for commits,
/// the source's; 0 is never. `MySQL` 8.0 and later. Privilege: `SELECT` on `performance_schema`.
///
/// Nothing in it goes through local time, which stands still for an hour when summer time ends: `UNIX_TIMESTAMP` takes the
/// columns as they are stored, and of `NOW(6)` only the fraction of the second counts, which is that of the statement, as
/// `UNIX_TIMESTAMP()` is. The product has six digits, whatever `div_precision_increment` is.
///
/// Source: "Performance Schema Replication Tables", `MySQL` 8.4 Reference Manual.
pub(crate) const TIMESTAMPS: &str = "SELECT c.CHANNEL_NAME, UNIX_TIMESTAMP() + MICROSECOND(NOW(6)) * 0.000001 AS now, \
    MAX(UNIX_TIMESTAMP(c.LAST_HEARTBEAT_TIMESTAMP)) AS heartbeat, \
    MAX(UNIX_TIMESTAMP(c.LAST_QUEUED_TRANSACTION_END_QUEUE_TIMESTAMP)) AS queued, \
    MAX(UNIX_TIMESTAMP(c.QUEUEING_TRANSACTION_START_QUEUE_TIMESTAMP)) AS queueing, \
    MAX(UNIX_TIMESTAMP(c.LAST_QUEUED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP)) AS received, \
    MAX(UNIX_TIMESTAMP(w.LAST_APPLIED_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP)) AS applied, \
    MIN(NULLIF(UNIX_TIMESTAMP(w.APPLYING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP), 0)) AS applying, \
    MIN(NULLIF(UNIX_TIMESTAMP(p.PROCESSING_TRANSACTION_ORIGINAL_COMMIT_TIMESTAMP), 0)) AS processing \
    FROM performance_schema.replication_connection_status AS c \
    LEFT JOIN performance_schema.replication_applier_status_by_worker AS w USING (CHANNEL_NAME) \
    LEFT JOIN performance_schema.replication_applier_status_by_coordinator AS p USING (CHANNEL_NAME) \
    GROUP BY c.CHANNEL_NAME";

/// The time under `name`, in microseconds since 1970; `None` for 0, NULL and a column that is not there.
fn time(row: &Row, name: &str) -> Option<i64> {
    let (seconds, fraction) = row.get(&[name])?.split_once('.')?;
    let seconds: i64 = seconds.parse().ok()?;
    let micros: i64 = format!("{fraction:0<6.6}").parse().ok()?;
    seconds.checked_mul(1_000_000)?.checked_add(micros).filter(|time| *time != 0)
}

/// How long ago the receiver last received something from its source: a heartbeat, or a transaction, since a busy source
/// sends no heartbeats. Unknown when it has received nothing since it was started; a time to come when this server's clock, which both
/// times are by, was set back since.
pub(crate) fn since_heard(times: &Row) -> Lag {
    let heard = ["heartbeat", "queued", "queueing"].into_iter().filter_map(|name| time(times, name)).max();
    let age = heard.zip(time(times, "now")).and_then(|(heard, now)| now.checked_sub(heard));
    age.map_or_else(|| Lag::Unknown(Unknown::NeverHeard), Lag::of_micros)
}

/// The age of the oldest commit of the source that has been received and is not applied, on `MySQL`. `status` is the
/// channel's row of replication status.
///
/// What is in work tells its age. Between two transactions nothing is, and an applier that was restarted has forgotten what
/// it applied (measured on 9.7.4): then all is applied where the positions are equal; they are only brought up to date now and
/// then (`replica_checkpoint_period`). It is never less than `Seconds_Behind_Source`, which knows how far the two clocks are
/// apart: by the source's clock, where that is ahead, a commit is younger than it is.
pub(crate) fn of_commits(times: &Row, status: &Row) -> Lag {
    let unknown = || Lag::Unknown(Unknown::Commit);
    let Some(now) = time(times, "now") else { return unknown() };
    let age = |since: i64| now.checked_sub(since).map(Lag::of_micros);
    if let Some(oldest) = ["applying", "processing"].into_iter().filter_map(|name| time(times, name)).min() {
        return age(oldest).map_or_else(unknown, |age| age.or_larger(of_status(status)));
    }
    let received = received_position(status).filter(|(file, _)| !file.is_empty());
    if received.is_some() && received == applied_position(status) {
        return Lag::Behind(Duration::ZERO);
    }
    let (received, applied) = (time(times, "received"), time(times, "applied"));
    let newest = received.and_then(|received| {
        if applied.is_some_and(|applied| applied >= received) {
            Some(Lag::Behind(Duration::ZERO))
        } else {
            age(received)
        }
    });
    match (newest, of_status(status)) {
        (Some(newest), behind @ Lag::Behind(_)) => newest.or_larger(behind),
        _ => unknown(),
    }
}

/// The same on `MariaDB` 11.6 and later, from the difference of `Master_last_event_time` and `Slave_last_event_time`: two
/// times of the source, so that no clock of this server is in it. It is NULL until the first event after a restart. It
/// stands still while an applier hangs and nothing new comes, so it is never below `Seconds_Behind_Master`; without a
/// receiver nothing new comes, `Seconds_Behind_Master` is NULL, and only the positions tell (measured on 11.8).
pub(crate) fn of_events(status: &Row) -> Lag {
    if !status.has("Master_Slave_time_diff") {
        return Lag::Unknown(Unknown::NoCommits);
    }
    match (seconds(status, &["Seconds_Behind_Master"]), is_all_applied(status)) {
        (Some(behind), _) => Lag::Behind(seconds(status, &["Master_Slave_time_diff"]).unwrap_or_default().max(behind)),
        (None, Some(true)) => Lag::Behind(Duration::ZERO),
        (None, _) => Lag::Unknown(Unknown::CommitAndNotAllApplied),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEVER: &str = "0.000000";

    fn secs(lag: u64) -> Lag {
        Lag::Behind(Duration::from_secs(lag))
    }

    #[test]
    fn a_table_has_two_names() {
        let table = table("percona.heartbeat").unwrap();
        assert_eq!(
            table.statement(false),
            "SELECT h.*, TIMESTAMPDIFF(MICROSECOND, h.ts, NOW(6)) AS heartbeat_age FROM `percona`.`heartbeat` AS h"
        );
        assert!(table.statement(true).contains("UTC_TIMESTAMP(6)"));
        assert_eq!(table.shown(), "percona.heartbeat");
        for wrong in ["", "heartbeat", ".heartbeat", "percona.", "a.b.c", "a.`b", &format!("a.{}", "x".repeat(65))] {
            assert!(super::table(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_heartbeat_is_that_of_the_source() {
        let row = |column, id, age| Row::of(&[(column, Some(id)), ("ts", Some("t")), ("heartbeat_age", age)]);
        let new = [row("server_id", "1", Some("1000000")), row("server_id", "2", Some("2000000"))];
        let old = [row("id", "1", Some("3000000"))];
        let two = [row("id", "1", Some("3000000")), row("id", "2", Some("4000000"))];
        let broken = [row("server_id", "1", None)];
        let table = table("p.h").unwrap();
        let none = |id: &str| {
            Lag::Unknown(Unknown::NoHeartbeat(Some(id).filter(|id| !id.is_empty()).map(str::to_owned), "p.h".into()))
        };
        for (rows, wanted, source, lag) in [
            (&new[..], None, Some("2"), secs(2)),
            (&new, Some(1), Some("2"), secs(1)),
            (&new, None, Some("3"), none("3")),
            (&new, None, None, none("")),
            (&new[..1], None, Some("3"), none("3")),
            (&old, None, Some("17"), secs(3)),
            (&old, Some(1), Some("17"), secs(3)),
            (&old, Some(2), Some("17"), none("2")),
            (&two, None, Some("17"), none("17")),
            (&two, Some(2), None, secs(4)),
            (&broken, None, Some("1"), none("1")),
            (&[], None, Some("1"), none("1")),
        ] {
            assert_eq!(of_heartbeat(rows, &table, wanted, source, true), lag, "{rows:?} {wanted:?} {source:?}");
        }
        let ahead = [row("server_id", "1", Some("-1500000"))];
        assert_eq!(of_heartbeat(&ahead, &table, None, Some("1"), true), Lag::Ahead(Duration::from_millis(1500)));
        // Of two channels each has a row of its own.
        assert_eq!(of_heartbeat(&new, &table, None, Some("2"), false), secs(2));
        assert_eq!(of_heartbeat(&old, &table, None, Some("17"), false), none("17"));
        let several = Lag::Unknown(Unknown::OneHeartbeatForSeveral);
        assert_eq!(of_heartbeat(&new, &table, Some(1), Some("2"), false), several);
    }

    /// The rows were recorded on `MySQL` 9.7.4, but for the round numbers.
    #[test]
    fn commits_of_mysql() {
        let behind = |behind, read, executed| {
            Row::of(&[
                ("Source_Log_File", Some("binlog.000001")),
                ("Read_Source_Log_Pos", Some(read)),
                ("Relay_Source_Log_File", Some("binlog.000001")),
                ("Exec_Source_Log_Pos", Some(executed)),
                ("Seconds_Behind_Source", behind),
            ])
        };
        let status = |read, executed| behind(Some("0"), read, executed);
        let unknown = || Lag::Unknown(Unknown::Commit);
        let times = |received, applied, applying, processing| {
            Row::of(&[
                ("now", Some("1000.000000")),
                ("received", Some(received)),
                ("applied", Some(applied)),
                ("applying", applying),
                ("processing", processing),
            ])
        };
        for (times, status, lag) in [
            // Everything that came is applied.
            (times("990.000000", "990.000000", None, None), status("9", "9"), secs(0)),
            // So it is, and the position is not brought up to date.
            (times("990.000000", "990.000000", None, None), status("9", "4"), secs(0)),
            // The applier was restarted: it forgot.
            (times("990.000000", NEVER, None, None), status("9", "9"), secs(0)),
            // Nothing came since the server was started.
            (times(NEVER, NEVER, None, None), status("9", "9"), secs(0)),
            // A worker waits for a lock, the coordinator has read on.
            (times("999.000000", NEVER, Some("960.000000"), Some("970.000000")), status("9", "4"), secs(40)),
            // The position is at the end, and yet a worker works.
            (times("999.000000", "1.000000", Some("960.000000"), None), status("9", "9"), secs(40)),
            // A delayed replica: the coordinator waits, and shows no transaction.
            (times("990.000000", NEVER, None, None), status("9", "4"), secs(10)),
            (times("990.000000", "980.000000", None, None), status("9", "4"), secs(10)),
            // What is in work is younger by the source's clock, which is ahead: the server knows better.
            (times("999.000000", NEVER, Some("995.000000"), None), behind(Some("3600"), "9", "4"), secs(3600)),
            (times("1002.000000", NEVER, Some("1001.000000"), None), behind(Some("3600"), "9", "4"), secs(3600)),
            (
                times("1002.000000", NEVER, Some("1001.000000"), None),
                status("9", "4"),
                Lag::Ahead(Duration::from_secs(1)),
            ),
            // The receiver is connecting, a worker works.
            (times("999.000000", NEVER, Some("960.000000"), None), behind(None, "9", "9"), secs(40)),
            // The source's clock is ahead.
            (times("1002.000000", NEVER, None, None), status("9", "4"), Lag::Ahead(Duration::from_secs(2))),
            (times("1002.000000", NEVER, None, None), behind(Some("40"), "9", "4"), secs(40)),
            // Between two transactions of a backlog the newest one received tells nothing about the oldest.
            (times("999.000000", "1.000000", None, None), behind(Some("3600"), "9", "4"), secs(3600)),
            // Nor is what was committed later by another clock the end.
            (times("980.000000", "990.000000", None, None), behind(Some("3600"), "9", "4"), secs(3600)),
            (times("999.000000", "1.000000", None, None), behind(None, "9", "4"), unknown()),
            // Nothing came since the server was started, and there is more to apply.
            (times(NEVER, NEVER, None, None), status("9", "4"), unknown()),
            (Row::of(&[]), status("9", "9"), unknown()),
            (times(NEVER, NEVER, None, None), Row::of(&[]), unknown()),
            (
                times(NEVER, NEVER, None, None),
                Row::of(&[
                    ("Source_Log_File", Some("")),
                    ("Read_Source_Log_Pos", Some("4")),
                    ("Relay_Source_Log_File", Some("")),
                    ("Exec_Source_Log_Pos", Some("4")),
                ]),
                unknown(),
            ),
        ] {
            assert_eq!(of_commits(&times, &status), lag, "{times:?} {status:?}");
        }
    }

    #[test]
    fn the_source_is_heard_by_heartbeats_or_by_transactions() {
        let times = |heartbeat, queued| {
            Row::of(&[
                ("now", Some("1000.250000")),
                ("heartbeat", Some(heartbeat)),
                ("queued", Some(queued)),
                ("queueing", Some("0.000000")),
            ])
        };
        let never = Lag::Unknown(Unknown::NeverHeard);
        let millis = Duration::from_millis;
        assert_eq!(since_heard(&times("998.000000", "0.000000")), Lag::Behind(millis(2250)));
        assert_eq!(since_heard(&times("900.000000", "999.250000")), secs(1));
        assert_eq!(since_heard(&times("0.000000", "0.000000")), never);
        assert_eq!(since_heard(&times("1000.500000", "0.000000")), Lag::Ahead(millis(250)));
        assert_eq!(since_heard(&times("4600.250000", "0.000000")), Lag::Ahead(millis(3_600_000)));
        assert_eq!(since_heard(&Row::of(&[])), never);
    }

    /// The rows were recorded on `MariaDB` 10.11.19 and 11.8.9, but for the last four.
    #[test]
    fn what_was_received_is_applied_or_not() {
        let row = |received: (_, _), applied: (_, _), gtids: (_, _)| {
            Row::of(&[
                ("Master_Log_File", received.0),
                ("Read_Master_Log_Pos", received.1),
                ("Relay_Master_Log_File", applied.0),
                ("Exec_Master_Log_Pos", applied.1),
                ("Gtid_IO_Pos", gtids.0),
                ("Gtid_Slave_Pos", gtids.1),
            ])
        };
        let at = |file, position| (Some(file), Some(position));
        for (received, applied, gtids, all) in [
            (at("bin.000001", "522"), at("bin.000001", "522"), at("0-1-1", "0-1-1"), Some(true)),
            // An applier that waits for a lock.
            (at("bin.000001", "1122"), at("bin.000001", "522"), at("0-1-4", "0-1-1"), Some(false)),
            (at("bin.000003", "336"), at("bin.000002", "336"), at("0-1-8", "0-1-7"), Some(false)),
            // Without GTID.
            (at("bin.000001", "1122"), at("bin.000001", "522"), at("", "0-1-1"), Some(false)),
            // The source died in the middle of a transaction.
            (at("bin.000002", "52203567"), at("bin.000002", "15301663"), at("0-1-7", "0-1-7"), Some(true)),
            // It replicates from this server, which goes on.
            (at("bin.000002", "54013120"), at("bin.000002", "54013120"), at("0-1-52", "0-1-217"), Some(true)),
            // Started while the source was away; never connected.
            (at("bin.000001", "4"), at("bin.000001", "4"), at("0-1-1", "0-1-1"), Some(true)),
            (at("", "4"), at("", "4"), at("", ""), Some(true)),
            // Another connection has gone on.
            (at("b", "9"), at("b", "4"), at("1-1-5,2-2-50", "2-2-60,1-1-5"), Some(true)),
            (at("b", "9"), at("b", "4"), at("1-1-6,2-2-50", "2-2-60,1-1-5"), Some(false)),
            // Own writes in the domain of the source.
            (at("b", "9"), at("b", "4"), at("0-2-100", "0-1-101"), Some(false)),
            ((None, Some("4")), at("b", "4"), at("0-1-1", "0-1-1"), None),
        ] {
            let row = row(received, applied, gtids);
            assert_eq!(is_all_applied(&row), all, "{row:?}");
        }
    }

    /// `MariaDB` 11.8.6.
    #[test]
    fn events_of_mariadb() {
        let row = |difference, behind, executed| {
            Row::of(&[
                ("Master_Slave_time_diff", difference),
                ("Seconds_Behind_Master", behind),
                ("Master_Log_File", Some("bin.000001")),
                ("Read_Master_Log_Pos", Some("9")),
                ("Relay_Master_Log_File", Some("bin.000001")),
                ("Exec_Master_Log_Pos", Some(executed)),
            ])
        };
        let not_all = || Lag::Unknown(Unknown::CommitAndNotAllApplied);
        for (difference, behind, executed, lag) in [
            (Some("0"), Some("0"), "9", secs(0)),
            (Some("5"), Some("2"), "4", secs(5)),
            // An applier that hangs while nothing new comes.
            (Some("1"), Some("100"), "4", secs(100)),
            // Just started.
            (None, Some("0"), "9", secs(0)),
            // The receiver is connecting: the difference stands still.
            (Some("7"), None, "4", not_all()),
            (Some("0"), None, "4", not_all()),
            (Some("7"), None, "9", secs(0)),
            (None, None, "9", secs(0)),
            (None, None, "4", not_all()),
        ] {
            assert_eq!(of_events(&row(difference, behind, executed)), lag, "{difference:?} {behind:?} {executed:?}");
        }
        let old = Row::of(&[("Seconds_Behind_Master", Some("0"))]);
        assert_eq!(of_events(&old), Lag::Unknown(Unknown::NoCommits));
    }

    #[test]
    fn the_json_form_shows_seconds() {
        for (lag, json) in [
            (secs(3), "3"),
            (Lag::Behind(Duration::from_millis(3250)), "3.25"),
            (Lag::Ahead(Duration::from_millis(1500)), "-1.5"),
            (Lag::default(), "null"),
        ] {
            assert_eq!(serde_json::to_string(&lag).unwrap(), json);
        }
    }
}
