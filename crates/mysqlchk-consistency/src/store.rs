//! What a run leaves on the source, in the database `mysqlchk`, which replicates: the verdict on each replica, for the
//! checks; what differed, for `--recheck`; and how far an unfinished run got, for the next one.
//!
//! Nothing else is written anywhere. Without the database nothing is.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use client::error::{ER_BAD_FIELD_ERROR, ER_NO_SUCH_TABLE, ER_OPTION_PREVENTS_STATEMENT};
use client::{Error, Row, Session};

use crate::expression::{KeyValues, string};
use crate::peer::Identity;
use crate::report::State;
use crate::schema::Name;
use crate::tally::{Difference, RowsDiffer, Tally};

/// How often it is written how far the run got.
const PAUSE: Duration = Duration::from_secs(5);
/// For how long an unfinished run can be gone on with, in hours.
const RESUME_MAX_H: u32 = 24;
/// How many rows a statement writes.
const ROWS: usize = 500;

/// The tables, as they are made when they are missing and the account may make them.
const TABLES: [(&str, &str); 3] = [
    (
        "consistency",
        "server_id INT UNSIGNED NOT NULL, host VARCHAR(255) NOT NULL, port SMALLINT UNSIGNED NOT NULL, \
         server_uuid CHAR(36) NULL, state ENUM('consistent','inconsistent','incomplete') NOT NULL, since DATETIME NULL, \
         finished DATETIME NOT NULL, tables_checked INT UNSIGNED NOT NULL, tables_differ INT UNSIGNED NOT NULL, \
         first_differ VARCHAR(129) NULL, PRIMARY KEY (server_id, host, port)",
    ),
    (
        "difference",
        "server_id INT UNSIGNED NOT NULL, host VARCHAR(255) NOT NULL, port SMALLINT UNSIGNED NOT NULL, db VARCHAR(64) NOT NULL, \
         tbl VARCHAR(64) NOT NULL, kind ENUM('missing','extra','definition','rows','bag') NOT NULL, n BIGINT UNSIGNED NOT NULL, \
         what TEXT NULL, PRIMARY KEY (server_id, host, port, db, tbl)",
    ),
    (
        "progress",
        "db VARCHAR(64) NOT NULL, tbl VARCHAR(64) NOT NULL, run CHAR(16) NOT NULL, started DATETIME NOT NULL, bound TEXT NULL, \
         n BIGINT UNSIGNED NOT NULL, PRIMARY KEY (db, tbl)",
    ),
];

/// What a run writes, and what went wrong with that.
pub(crate) struct Store {
    pub(crate) progress: Mutex<Progress>,
    trouble: Mutex<Option<Error>>,
}

/// How far a run got.
pub(crate) struct Progress {
    /// What is compared with what: another run goes on only with the same.
    run: String,
    /// When this pass began, UTC; that of the run that it goes on with.
    started: String,
    /// Tables that are done, and their rows, still to be written.
    done: Vec<(Name, u64)>,
    /// Tables that are done up to this key.
    bounds: BTreeMap<Name, (KeyValues, u64)>,
    written: Instant,
    /// Whether the table has rows, of this run or of one before.
    has_written: bool,
}

/// What a check is told of an inconsistent replica.
#[derive(Debug)]
pub(crate) struct Summary {
    tables: u64,
    differ: usize,
    first: Option<String>,
}

impl Summary {
    pub(crate) fn of(tally: &Tally) -> Summary {
        let first = tally.differences.keys().next().map(ToString::to_string);
        Summary { tables: tally.tables, differ: tally.differences.len(), first }
    }
}

/// How far an unfinished run got.
#[derive(Debug, Default)]
pub(crate) struct Resumed {
    /// Its tables that are done, and their rows.
    pub(crate) done: BTreeMap<Name, u64>,
    /// Its tables that are done up to this key, and the rows up to there.
    pub(crate) bounds: BTreeMap<Name, (KeyValues, u64)>,
}

/// Takes the one lock that keeps two runs apart; the server frees it when the session ends, however it does.
///
/// # Errors
/// When another run has it.
pub(crate) fn lock(session: &mut Session<'_>) -> Result<()> {
    let rows =
        session.query("SELECT GET_LOCK('mysqlchk-consistency', 0) AS l, IS_USED_LOCK('mysqlchk-consistency') AS u")?;
    let row = rows.first();
    if row.and_then(|row| row.get(&["l"])) == Some("1") {
        return Ok(());
    }
    let other = row.and_then(|row| row.get(&["u"])).unwrap_or("unknown");
    bail!("another run is in progress on this source (connection {other})")
}

/// Makes sure that the tables are there and can be written; `false` without the database.
///
/// # Errors
/// When they cannot be used; the message gives the cure.
pub(crate) fn is_ready(session: &mut Session<'_>) -> Result<bool> {
    let database = "SELECT 1 FROM information_schema.SCHEMATA WHERE SCHEMA_NAME = 'mysqlchk'";
    if session.query(database)?.is_empty() {
        return Ok(false);
    }
    for (table, columns) in TABLES {
        // Changes nothing and writes no binary log, and yet needs the privilege and the columns.
        let names = columns.split(", ").filter_map(|column| column.split(' ').next());
        let names = names.filter(|word| word.chars().all(|c| c.is_ascii_lowercase() || c == '_'));
        let names = names.collect::<Vec<_>>().join(", ");
        let probe = format!("DELETE FROM mysqlchk.{table} WHERE FALSE AND CONCAT({names}) = ''");
        let create = format!(
            "CREATE TABLE IF NOT EXISTS mysqlchk.{table} ({columns}) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
        );
        let cure = match session.execute(&probe) {
            Ok(_) => continue,
            Err(error) if error.is(&[ER_NO_SUCH_TABLE]) => match session.execute(&create) {
                Ok(_) => continue,
                Err(error) => format!("{error}: GRANT CREATE ON mysqlchk.*"),
            },
            Err(error) if error.is(&[ER_BAD_FIELD_ERROR]) => {
                format!("{error}: it has another layout, drop it and it will be made again")
            }
            Err(error) if error.is(&[ER_OPTION_PREVENTS_STATEMENT]) => {
                format!("{error}: ask a server that takes writes")
            }
            Err(error) => format!("{error}: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON mysqlchk.*"),
        };
        bail!("cannot use table mysqlchk.{table}: {cure}; or use --no-publish");
    }
    Ok(true)
}

impl Store {
    pub(crate) fn new(progress: Progress) -> Store {
        Store { progress: Mutex::new(progress), trouble: Mutex::new(None) }
    }

    /// Keeps the first thing that went wrong: the comparison goes on without.
    pub(crate) fn take(&self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.trouble.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        }
    }

    /// What went wrong.
    pub(crate) fn trouble(&self) -> Option<Error> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Progress {
    /// Begins a pass, or goes on with one; `same` is all that must be the same for that.
    ///
    /// # Errors
    /// When the source does not answer.
    pub(crate) fn begin(
        session: &mut Session<'_>,
        same: &[String],
        is_fresh: bool,
    ) -> Result<(Progress, Resumed), Error> {
        let mut hasher = DefaultHasher::new();
        same.hash(&mut hasher);
        let run = format!("{:016x}", hasher.finish());
        let now = session.query("SELECT UTC_TIMESTAMP() AS now")?;
        let now = now.first().and_then(|row| row.get(&["now"])).unwrap_or_default().to_owned();
        let mut resumed = Resumed::default();
        let mut started = None;
        let mut has_written = false;
        // A beginning in the future is of a clock that was set back: how old it is cannot be told.
        let left = format!(
            "SELECT db, tbl, started, bound, n, run = {} AND started BETWEEN UTC_TIMESTAMP() - INTERVAL {RESUME_MAX_H} HOUR \
             AND UTC_TIMESTAMP() AS good FROM mysqlchk.progress ORDER BY started",
            string(&run)
        );
        session.query_rows(&left, |row| {
            // What is of no use is removed, too: else it would be taken for recent when its time has come.
            has_written = true;
            if is_fresh || row.get(&["good"]) != Some("1") {
                return;
            }
            let text = |name| row.get(&[name]).unwrap_or_default().to_owned();
            if started.as_deref() != Some(&*text("started")) {
                resumed = Resumed::default();
                started = Some(text("started"));
            }
            let name = Name { database: text("db").into(), table: text("tbl").into() };
            let rows = text("n").parse().unwrap_or(0);
            match row.get(&["bound"]) {
                None => _ = resumed.done.insert(name, rows),
                Some(bound) => {
                    if let Ok(key) = serde_json::from_str(bound) {
                        resumed.bounds.insert(name, (key, rows));
                    }
                }
            }
        })?;
        let progress = Progress {
            run,
            started: started.unwrap_or(now),
            done: Vec::new(),
            bounds: BTreeMap::new(),
            written: Instant::now(),
            has_written,
        };
        Ok((progress, resumed))
    }

    /// A table is done.
    pub(crate) fn done(&mut self, name: &Name, rows: u64) {
        self.bounds.remove(name);
        self.done.push((name.clone(), rows));
    }

    /// A table is done up to this key.
    pub(crate) fn up_to(&mut self, name: &Name, key: &KeyValues, rows: u64) {
        self.bounds.insert(name.clone(), (key.clone(), rows));
    }

    /// Whether it is time to write how far the run got.
    pub(crate) fn is_due(&self) -> bool {
        self.written.elapsed() >= PAUSE
    }

    /// Writes how far the run got.
    ///
    /// # Errors
    /// When the source does not take it.
    pub(crate) fn save(&mut self, session: &mut Session<'_>) -> Result<(), Error> {
        self.written = Instant::now();
        let values = |name: &Name, bound: Option<&KeyValues>, rows: u64| {
            let bound = bound.and_then(|key| serde_json::to_string(key).ok());
            let bound = bound.map_or_else(|| "NULL".to_owned(), |bound| string(&bound));
            let [database, table, run, started] =
                [&*name.database, &*name.table, &*self.run, &*self.started].map(string);
            format!("({database},{table},{run},{started},{bound},{rows})")
        };
        let mut all: Vec<String> = self.done.iter().map(|(name, rows)| values(name, None, *rows)).collect();
        all.extend(self.bounds.iter().map(|(name, (key, rows))| values(name, Some(key), *rows)));
        for some in all.chunks(ROWS) {
            session.execute(&format!(
                "REPLACE INTO mysqlchk.progress (db, tbl, run, started, bound, n) VALUES {}",
                some.join(",")
            ))?;
            self.has_written = true;
        }
        self.done.clear();
        Ok(())
    }

    /// The pass is complete: there is nothing to go on with.
    ///
    /// # Errors
    /// When the source does not take it.
    pub(crate) fn end(&mut self, session: &mut Session<'_>) -> Result<(), Error> {
        if self.has_written {
            session.execute("DELETE FROM mysqlchk.progress")?;
        }
        Ok(())
    }

    /// When this pass began.
    pub(crate) fn started(&self) -> &str {
        &self.started
    }
}

/// The values that name a server: `server_id`, `host`, `port`.
fn key(identity: &Identity) -> String {
    format!("{}, {}, {}", identity.server_id, string(&identity.host), identity.port)
}

fn is_server(identity: &Identity) -> String {
    format!("server_id = {} AND host = {} AND port = {}", identity.server_id, string(&identity.host), identity.port)
}

/// Publishes that a replica is inconsistent: as soon as that is proved.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn publish_inconsistent(
    session: &mut Session<'_>,
    identity: &Identity,
    summary: &Summary,
) -> Result<(), Error> {
    publish(session, identity, State::Inconsistent, None, summary)
}

/// Publishes that a replica is consistent as of the beginning of this pass.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn publish_consistent(
    session: &mut Session<'_>,
    identity: &Identity,
    tally: &Tally,
    since: &str,
) -> Result<(), Error> {
    publish(session, identity, State::Consistent, Some(since), &Summary::of(tally))?;
    session.execute(&format!("DELETE FROM mysqlchk.difference WHERE {}", is_server(identity))).map(drop)
}

fn publish(
    session: &mut Session<'_>,
    identity: &Identity,
    state: State,
    since: Option<&str>,
    Summary { tables, differ, first }: &Summary,
) -> Result<(), Error> {
    let [uuid, since, first] = [identity.uuid.as_deref(), since, first.as_deref()].map(or_null);
    session
        .execute(&format!(
            "REPLACE INTO mysqlchk.consistency (server_id, host, port, server_uuid, state, since, finished, tables_checked, \
             tables_differ, first_differ) \
             VALUES ({}, {uuid}, '{}', {since}, UTC_TIMESTAMP(), {tables}, {differ}, LEFT({first}, 129))",
            key(identity),
            state.word()
        ))
        .map(drop)
}

/// A string or NULL, as it is written in a statement.
fn or_null(text: Option<&str>) -> String {
    text.map_or_else(|| "NULL".to_owned(), string)
}

/// Publishes that not everything was compared. What is known to be inconsistent stays so, and what was consistent at a time
/// keeps that time; `forget` is for what was checked again and is well.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn publish_incomplete(session: &mut Session<'_>, identity: &Identity, forget: bool) -> Result<(), Error> {
    if forget {
        session.execute(&format!("DELETE FROM mysqlchk.difference WHERE {}", is_server(identity)))?;
        return publish(session, identity, State::Incomplete, None, &Summary { tables: 0, differ: 0, first: None });
    }
    let uuid = or_null(identity.uuid.as_deref());
    session
        .execute(&format!(
            "INSERT INTO mysqlchk.consistency (server_id, host, port, server_uuid, state, since, finished, tables_checked, \
             tables_differ, first_differ) VALUES ({}, {uuid}, 'incomplete', NULL, UTC_TIMESTAMP(), 0, 0, NULL) \
             ON DUPLICATE KEY UPDATE state = IF(state = 'inconsistent', state, 'incomplete'), finished = UTC_TIMESTAMP()",
            key(identity)
        ))
        .map(drop)
}

/// Writes down all that differs on a replica, and nothing else of it.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn keep_all(session: &mut Session<'_>, identity: &Identity, tally: &Tally) -> Result<(), Error> {
    session.execute(&format!("DELETE FROM mysqlchk.difference WHERE {}", is_server(identity)))?;
    tally.differences.iter().try_for_each(|(name, difference)| keep(session, identity, name, difference))
}

/// Writes down what differs in a table on a replica.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn keep(
    session: &mut Session<'_>,
    identity: &Identity,
    name: &Name,
    difference: &Difference,
) -> Result<(), Error> {
    let (kind, count, what) = match difference {
        Difference::Missing => ("missing", 0, None),
        Difference::Extra => ("extra", 0, None),
        Difference::Definition(what) => ("definition", 0, Some(what.join(", "))),
        Difference::Rows(rows) => ("rows", rows.count, None),
        Difference::Bag(..) => ("bag", 0, None),
    };
    let what = or_null(what.as_deref());
    let mut statement =
        String::from("REPLACE INTO mysqlchk.difference (server_id, host, port, db, tbl, kind, n, what) VALUES ");
    let _ = write!(
        statement,
        "({}, {}, {}, '{kind}', {count}, {what})",
        key(identity),
        string(&name.database),
        string(&name.table)
    );
    session.execute(&statement).map(drop)
}

/// Removes what is known of one table on a replica.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn drop_one(session: &mut Session<'_>, identity: &Identity, name: &Name) -> Result<(), Error> {
    let (database, table) = (string(&name.database), string(&name.table));
    let which = format!("{} AND db = {database} AND tbl = {table}", is_server(identity));
    session.execute(&format!("DELETE FROM mysqlchk.difference WHERE {which}")).map(drop)
}

/// What is known to differ on a replica.
///
/// # Errors
/// When the source does not answer.
pub(crate) fn known(session: &mut Session<'_>, identity: &Identity) -> Result<BTreeMap<Name, Difference>, Error> {
    let mut known = BTreeMap::new();
    let statement = format!("SELECT db, tbl, kind, n, what FROM mysqlchk.difference WHERE {}", is_server(identity));
    session.query_rows(&statement, |row: &Row| {
        let text = |name| row.get(&[name]).unwrap_or_default().to_owned();
        let name = Name { database: text("db").into(), table: text("tbl").into() };
        let difference = match &*text("kind") {
            "missing" => Difference::Missing,
            "extra" => Difference::Extra,
            "definition" => Difference::Definition(vec![text("what")]),
            "bag" => Difference::Bag(0, 0),
            _ => Difference::Rows(RowsDiffer { count: text("n").parse().unwrap_or(1), rows: Vec::new() }),
        };
        known.insert(name, difference);
    })?;
    Ok(known)
}

/// Removes all that is known of a server; whether there was something.
///
/// # Errors
/// When the source does not take it.
pub(crate) fn forget(session: &mut Session<'_>, server_id: u64) -> Result<bool, Error> {
    let mut gone = 0;
    for table in ["consistency", "difference"] {
        gone += session.execute(&format!("DELETE FROM mysqlchk.{table} WHERE server_id = {server_id}"))?;
    }
    Ok(gone > 0)
}
