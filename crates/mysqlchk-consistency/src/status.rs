//! What a replica reports of its replication, and what that means for a comparison. Pure.

use std::time::Duration;

use client::{Family, Row};

/// The state of a replica's applier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Applier {
    /// It runs. The lag is that beyond a configured delay; `None` is unknown.
    Running { lag: Option<Duration>, delay: Duration, applied: String },
    /// It does not, or cannot be asked.
    Stopped(String),
    /// There is no replication of this kind: a member of a group, a Galera node.
    Absent,
}

/// Asks for the channels. Privilege: `SLAVE MONITOR` on `MariaDB` 10.5 and later, `REPLICATION CLIENT` elsewhere.
pub(crate) fn question(family: Family) -> &'static str {
    match family {
        Family::MariaDb => "SHOW ALL SLAVES STATUS",
        Family::MySql(8, 0, 22..) | Family::MySql(8, 1.., _) | Family::MySql(9.., ..) => "SHOW REPLICA STATUS",
        Family::MySql(..) => "SHOW SLAVE STATUS",
    }
}

/// Reads the channels: the one from the source with this `server_id`, or where there is none of it all of them; the
/// worst one decides.
pub(crate) fn read(rows: &[Row], source: Option<u64>) -> Applier {
    let is_from = |row: &&Row| {
        source.is_some_and(|id| row.get(&["Source_Server_Id", "Master_Server_Id"]) == Some(&*id.to_string()))
    };
    let mut channels: Vec<&Row> = rows.iter().filter(is_from).collect();
    if channels.is_empty() {
        channels = rows.iter().collect();
    }
    let mut worst: Option<Applier> = None;
    for row in channels {
        let channel = channel(row);
        worst = match (worst, channel) {
            (Some(Applier::Stopped(why)), _) | (_, Applier::Stopped(why)) => Some(Applier::Stopped(why)),
            (Some(Applier::Running { lag: a, delay: d, applied: p }), Applier::Running { lag, delay, applied }) => {
                let lag = a.and_then(|a| lag.map(|lag| lag.max(a)));
                Some(Applier::Running { lag, delay: delay.max(d), applied: p + "," + &applied })
            }
            (_, channel) => Some(channel),
        };
    }
    worst.unwrap_or(Applier::Absent)
}

/// The servers that a replica has been connected to, by `server_id`.
pub(crate) fn sources(rows: &[Row]) -> Vec<u64> {
    let id = |row: &Row| row.get(&["Source_Server_Id", "Master_Server_Id"])?.parse().ok().filter(|id| *id != 0);
    rows.iter().filter_map(id).collect()
}

fn channel(row: &Row) -> Applier {
    let text = |names: &[&str]| row.get(names).unwrap_or("NULL").to_owned();
    let number = |names: &[&str]| row.get(names).and_then(|text| text.parse().ok());
    for (thread, names, errno) in [
        ("applier", ["Replica_SQL_Running", "Slave_SQL_Running"], "Last_SQL_Errno"),
        ("receiver", ["Replica_IO_Running", "Slave_IO_Running"], "Last_IO_Errno"),
    ] {
        let state = text(&names);
        if state != "Yes" {
            let error = number(&[errno]).filter(|errno| *errno != 0);
            let error = error.map(|errno: u64| format!(" (error {errno})")).unwrap_or_default();
            return Applier::Stopped(format!("{thread} is `{state}`, not `Yes`{error}"));
        }
    }
    let delay = Duration::from_secs(number(&["SQL_Delay"]).unwrap_or(0));
    let lag = number(&["Seconds_Behind_Source", "Seconds_Behind_Master"]).map(Duration::from_secs);
    let file = text(&["Relay_Source_Log_File", "Relay_Master_Log_File"]);
    let offset = text(&["Exec_Source_Log_Pos", "Exec_Master_Log_Pos"]);
    Applier::Running { lag: lag.map(|lag| lag.saturating_sub(delay)), delay, applied: format!("{file}:{offset}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(source: &str, io: &str, sql: &str, errno: &str, lag: Option<&str>, delay: &str) -> Row {
        Row::of(&[
            ("Master_Server_Id", Some(source)),
            ("Slave_IO_Running", Some(io)),
            ("Slave_SQL_Running", Some(sql)),
            ("Last_IO_Errno", Some("0")),
            ("Last_SQL_Errno", Some(errno)),
            ("Seconds_Behind_Master", lag),
            ("SQL_Delay", Some(delay)),
            ("Relay_Master_Log_File", Some("bin.1")),
            ("Exec_Master_Log_Pos", Some("7")),
        ])
    }

    fn running(lag: Option<u64>, delay: u64) -> Applier {
        let (lag, delay) = (lag.map(Duration::from_secs), Duration::from_secs(delay));
        Applier::Running { lag, delay, applied: "bin.1:7".into() }
    }

    #[test]
    fn a_channel_that_was_never_connected_has_no_source() {
        let rows = ["7", "0", "9"].map(|source| row(source, "Yes", "Yes", "0", None, "0"));
        assert_eq!(sources(&rows), [7, 9]);
    }

    #[test]
    fn the_channel_from_the_source_decides() {
        let good = || row("1", "Yes", "Yes", "0", Some("5"), "0");
        let stopped = || row("2", "Yes", "No", "1032", None, "0");
        let why = || Applier::Stopped("applier is `No`, not `Yes` (error 1032)".into());
        for (rows, source, expected) in [
            (vec![], Some(1), Applier::Absent),
            (vec![good()], Some(1), running(Some(5), 0)),
            (vec![good(), stopped()], Some(1), running(Some(5), 0)),
            (vec![good(), stopped()], Some(2), why()),
            (vec![good(), stopped()], Some(3), why()),
            (vec![stopped(), good()], None, why()),
            (vec![row("1", "No", "Yes", "0", None, "0")], None, Applier::Stopped("receiver is `No`, not `Yes`".into())),
            (vec![row("1", "Yes", "Yes", "0", Some("3605"), "3600")], None, running(Some(5), 3600)),
            (vec![row("1", "Yes", "Yes", "0", Some("5"), "3600")], None, running(Some(0), 3600)),
            (vec![row("1", "Yes", "Yes", "0", None, "0")], None, running(None, 0)),
        ] {
            assert_eq!(read(&rows, source), expected, "{source:?}");
        }
    }
}
