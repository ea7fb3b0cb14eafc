//! A server that is read: how it is reached, who it is, and a session that is set up to read.

use std::time::{Duration, Instant};

use client::{Account, Error, Family, Limits, Session, Target};

/// What a session may cost. Keys travel as text, at most 1,000 at a time; a GTID set can be long.
const LIMITS: Limits = Limits {
    connect: Some(Duration::from_secs(10)),
    silence: Some(Duration::from_secs(60)),
    packet: 16 * 1024 * 1024,
    rows: 4096,
};

/// How long a statement may take, in seconds: a table without a key is read in one.
pub(crate) const STATEMENT_MAX_S: u32 = 30;

/// The longest way to a server and back that is believed: around the world and some more. A server that was slow to answer when
/// it was found must not get longer chunks for it.
const TRIP_MAX: Duration = Duration::from_millis(400);

/// Who a server is, in its own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) server_id: u64,
    /// `@@hostname`.
    pub(crate) host: String,
    /// `@@port`.
    pub(crate) port: u16,
    /// `MySQL` only.
    pub(crate) uuid: Option<String>,
}

/// A server and the account that reads it.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) target: Target,
    pub(crate) account: Account,
    pub(crate) family: Family,
    pub(crate) identity: Identity,
    /// A node of a Galera cluster, which waits by itself until it has applied what the cluster has committed.
    pub(crate) is_galera: bool,
    /// How long a statement takes that reads nothing: the way there and back. At most [`TRIP_MAX`].
    pub(crate) trip: Duration,
}

impl Peer {
    /// Connects and asks who it is.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub(crate) fn find(target: &Target, account: &Account) -> Result<(Peer, Session<'static>), Error> {
        let mut session = Session::open(target, account, &LIMITS, &())?;
        let family = session.family();
        let uuid = if family == Family::MariaDb { "NULL" } else { "@@server_uuid" };
        let who = format!("SELECT @@server_id AS id, @@hostname AS host, @@port AS port, {uuid} AS uuid");
        let answers = session.query_each(&[&*who, "SHOW GLOBAL VARIABLES LIKE 'wsrep_on'"]);
        let mut answers = answers.into_iter();
        let rows = answers.next().transpose()?.unwrap_or_default();
        let galera = answers.next().transpose()?.unwrap_or_default();
        let value = |name| rows.first().and_then(|row| row.get(&[name])).unwrap_or_default().to_owned();
        let identity = Identity {
            server_id: value("id").parse().unwrap_or_default(),
            host: value("host"),
            port: value("port").parse().unwrap_or_default(),
            uuid: Some(value("uuid")).filter(|uuid| !uuid.is_empty()),
        };
        let is_galera = galera.first().is_some_and(|row| row.variable("Value").is_on());
        let (target, account) = (target.clone(), account.clone());
        let mut peer = Peer { target, account, family, identity, is_galera, trip: Duration::ZERO };
        peer.trip = peer.set_up(&mut session)?.min(TRIP_MAX);
        Ok((peer, session))
    }

    /// Opens a session to read.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(crate) fn open(&self) -> Result<Session<'static>, Error> {
        let mut session = Session::open(&self.target, &self.account, &LIMITS, &())?;
        self.set_up(&mut session)?;
        Ok(session)
    }

    /// The same text on both ends, whatever their settings; and no statement that goes on for ever or waits for a lock. Returns
    /// how long the fastest of these statements took.
    fn set_up(&self, session: &mut Session<'_>) -> Result<Duration, Error> {
        let bound = match self.family {
            Family::MariaDb => format!("max_statement_time={STATEMENT_MAX_S}"),
            Family::MySql(8.., ..) => {
                format!("max_execution_time={STATEMENT_MAX_S}000, information_schema_stats_expiry=0")
            }
            Family::MySql(..) => format!("max_execution_time={STATEMENT_MAX_S}000"),
        };
        let galera = if self.is_galera { ", wsrep_sync_wait=1" } else { "" };
        let settings = format!(
            "SET SESSION wait_timeout=604800, autocommit=1, sql_mode='', time_zone='+00:00', lock_wait_timeout=5, \
             innodb_lock_wait_timeout=1, {bound}{galera}"
        );
        let mut fastest = Duration::MAX;
        for statement in ["SET NAMES utf8mb4", "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", &settings] {
            let begin = Instant::now();
            session.execute(statement)?;
            fastest = fastest.min(begin.elapsed());
        }
        Ok(fastest)
    }
}
