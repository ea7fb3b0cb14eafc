//! How a replica is made to have applied what the source had committed: the position of the source, and the wait for it.
//! Pure; the I/O is outside.

use std::collections::BTreeMap;
use std::time::Duration;

use client::{Family, Row};

use crate::expression::string;
use crate::peer::Peer;

/// How a replica is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Means {
    /// `MariaDB`'s GTID, a number for each domain.
    Domains,
    /// `MySQL`'s GTID sets.
    Sets,
    /// File and position of the binary log of the source; for a replica that reads it itself.
    File,
    /// A node of the same Galera cluster waits by itself (`wsrep_sync_wait`).
    Cluster,
}

/// Where the source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Position {
    Domains(String),
    Sets(String),
    File(String, u64),
    Cluster,
}

impl Means {
    /// The means for a replica; `has_sets` is whether the source is a `MySQL` with `gtid_mode=ON`.
    pub(crate) fn of(source: &Peer, replica: &Peer, has_sets: bool) -> Means {
        match (source.family, replica.family) {
            _ if source.is_galera && replica.is_galera => Means::Cluster,
            (Family::MariaDb, Family::MariaDb) => Means::Domains,
            (Family::MySql(..), Family::MySql(..)) if has_sets => Means::Sets,
            _ => Means::File,
        }
    }

    /// Asks the source where it is.
    pub(crate) fn question(self, family: Family) -> &'static str {
        match (self, family) {
            (Means::Domains, _) => "SELECT IF(@@GLOBAL.log_bin, @@GLOBAL.gtid_binlog_pos, NULL) AS position",
            (Means::Sets, _) => "SELECT @@GLOBAL.gtid_executed AS position",
            // `SHOW MASTER STATUS` is gone since MySQL 8.4, the other one came with 8.2.
            (Means::File, Family::MySql(8, 2.., _) | Family::MySql(9.., ..)) => "SHOW BINARY LOG STATUS",
            (Means::File, _) => "SHOW MASTER STATUS",
            (Means::Cluster, _) => "SELECT 1 AS position",
        }
    }

    /// Reads the answer; `None` on a server without a binary log.
    pub(crate) fn read(self, row: Option<&Row>) -> Option<Position> {
        let position = || row?.get(&["position"]).map(|text| text.replace('\n', ""));
        match self {
            // Empty before the first write.
            Means::Domains => position().map(Position::Domains),
            Means::Sets => position().map(Position::Sets),
            Means::File => {
                let row = row?;
                Some(Position::File(row.get(&["File"])?.to_owned(), row.get(&["Position"])?.parse().ok()?))
            }
            Means::Cluster => Some(Position::Cluster),
        }
    }
}

/// Asks a replica of [`Means::Domains`] how far it is.
pub(crate) const APPLIED: &str = "SELECT @@GLOBAL.gtid_slave_pos AS applied, @@GLOBAL.gtid_binlog_pos AS logged";

/// What a replica has not applied of a position: for [`Position::Domains`], where what a server wrote itself counts as applied.
pub(crate) fn outstanding(position: &str, applied: &str, logged: &str) -> String {
    let [applied, logged] = [applied, logged].map(domains);
    let is_ahead = |of: &BTreeMap<u32, u64>, domain, number| of.get(&domain).is_some_and(|has| *has >= number);
    let left = position.split(',').map(str::trim).filter(|gtid| {
        domain_of(gtid)
            .is_some_and(|(domain, number)| !is_ahead(&applied, domain, number) && !is_ahead(&logged, domain, number))
    });
    left.collect::<Vec<_>>().join(",")
}

fn domains(position: &str) -> BTreeMap<u32, u64> {
    position.split(',').filter_map(|gtid| domain_of(gtid.trim())).collect()
}

/// `0-1-42`: domain, server, number.
fn domain_of(gtid: &str) -> Option<(u32, u64)> {
    let mut parts = gtid.split('-');
    let domain = parts.next()?.parse().ok()?;
    Some((domain, parts.nth(1)?.parse().ok()?))
}

/// Waits on the replica, at most this long; `w` of the answer is 1 or -1 when it was in vain, NULL where it cannot be waited
/// for. Source of the functions: `MariaDB` 10.0.2, `MySQL` 5.7.5; `SOURCE_POS_WAIT` is `MySQL` 8.0.26.
pub(crate) fn wait(position: &Position, family: Family, wait: Duration) -> String {
    let seconds = format!("{:.3}", wait.as_secs_f64());
    match position {
        Position::Domains(gtids) => format!("SELECT MASTER_GTID_WAIT({}, {seconds}) AS w", string(gtids)),
        Position::Sets(sets) => format!("SELECT WAIT_FOR_EXECUTED_GTID_SET({}, {seconds}) AS w", string(sets)),
        Position::File(file, offset) => {
            let function = match family {
                Family::MySql(8, 0, 26..) | Family::MySql(8, 1.., _) | Family::MySql(9.., ..) => "SOURCE_POS_WAIT",
                _ => "MASTER_POS_WAIT",
            };
            // It returns how many events it waited for.
            format!("SELECT IF({function}({}, {offset}, {seconds}) >= 0, 0, -1) AS w", string(file))
        }
        Position::Cluster => "SELECT 0 AS w".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_replica_has_applied_or_written_itself_is_not_waited_for() {
        for (position, applied, logged, left) in [
            ("0-1-42", "0-1-42", "", ""),
            ("0-1-42", "0-1-41", "", "0-1-42"),
            ("0-1-42", "", "", "0-1-42"),
            ("", "", "", ""),
            ("0-1-42,5-7-9", "0-1-50", "5-7-9", ""),
            ("0-2-42", "0-1-40", "0-2-42", ""),
            ("0-1-42,5-7-9", "0-1-50, 5-7-8", "", "5-7-9"),
        ] {
            assert_eq!(outstanding(position, applied, logged), left, "{position} {applied} {logged}");
        }
    }

    #[test]
    fn a_server_is_waited_for_in_its_own_words() {
        let file = Position::File("bin.000001".into(), 4);
        for (position, family, words) in [
            (Position::Domains("0-1-2".into()), Family::MariaDb, "MASTER_GTID_WAIT('0-1-2', 1.000)"),
            (Position::Sets("a:1-5".into()), Family::MySql(9, 7, 4), "WAIT_FOR_EXECUTED_GTID_SET('a:1-5', 1.000)"),
            (file.clone(), Family::MariaDb, "MASTER_POS_WAIT('bin.000001', 4, 1.000)"),
            (file.clone(), Family::MySql(8, 0, 25), "MASTER_POS_WAIT('bin.000001', 4, 1.000)"),
            (file, Family::MySql(8, 0, 26), "SOURCE_POS_WAIT('bin.000001', 4, 1.000)"),
        ] {
            assert!(wait(&position, family, Duration::from_secs(1)).contains(words), "{position:?} {family:?}");
        }
    }

    #[test]
    fn a_position_is_read_by_name() {
        let row = Row::of(&[("File", Some("bin.7")), ("Position", Some("120")), ("Executed_Gtid_Set", Some(""))]);
        assert_eq!(Means::File.read(Some(&row)), Some(Position::File("bin.7".into(), 120)));
        let row = Row::of(&[("position", Some("a:1,\nb:2"))]);
        assert_eq!(Means::Sets.read(Some(&row)), Some(Position::Sets("a:1,b:2".into())));
        assert_eq!(Means::Domains.read(Some(&Row::of(&[("position", None)]))), None);
        assert_eq!(Means::File.read(None), None);
    }
}
