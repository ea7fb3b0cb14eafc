//! A server that follows another, the ways this breaks, and one cure for all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::server::{PASSWORD, PORT, Row, Server};
use crate::wait;

/// How long replication may take to get where it should be.
const BOUND: Duration = Duration::from_secs(30);

/// The row that exists on the replica only, so that the source's next insert of it cannot be applied.
const CONFLICT: u32 = 4_000_000_000;

/// One way to break replication. `IO` and `SQL` are what `SHOW SLAVE STATUS` then says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `STOP SLAVE IO_THREAD`: `No` / `Yes`, lag NULL.
    StopReceiver,
    /// `STOP SLAVE SQL_THREAD`: `Yes` / `No`, lag NULL.
    StopApplier,
    /// `STOP SLAVE`: `No` / `No`, lag NULL.
    Stop,
    /// A duplicate key: `Yes` / `No`, lag NULL, `Last_SQL_Errno` 1062.
    BreakApplier,
    /// A wrong replication password: `Connecting` / `Yes`, lag NULL, `Last_IO_Errno` 1045.
    WrongPassword,
    /// A port where nobody listens: `Connecting` / `Yes`, lag NULL, `Last_IO_Errno` 2003.
    Unreachable,
    /// `MASTER_DELAY`, and a write that waits for it: `Yes` / `Yes`, lag grows from 0, `SQL_Delay` set.
    Delay(Duration),
    /// A locked table, and a write that waits for it: `Yes` / `Yes`, lag grows from this, at once.
    Lag(Duration),
    /// `RESET SLAVE ALL`: no row at all.
    Forget,
}

/// One channel from a source to a replica.
#[derive(Debug)]
pub struct Link<'a> {
    replica: &'a Server,
    source: &'a Server,
    channel: String,
    lock: Mutex<Option<Conn>>,
}

impl Server {
    /// Follows `source` on the default channel, and waits until it has caught up.
    #[track_caller]
    pub fn follow<'a>(&'a self, source: &'a Server) -> Link<'a> {
        self.follow_as("", source)
    }

    /// Follows `source` on the channel (connection name) `channel`, and waits until it has caught up.
    #[track_caller]
    pub fn follow_as<'a>(&'a self, channel: &str, source: &'a Server) -> Link<'a> {
        let link = Link { replica: self, source, channel: channel.to_owned(), lock: Mutex::new(None) };
        link.heal();
        link
    }
}

impl Link<'_> {
    /// The row of `SHOW SLAVE STATUS`; `None` when the channel does not exist.
    #[must_use]
    pub fn status(&self) -> Option<Row> {
        let rows = self.replica.rows("SHOW ALL SLAVES STATUS");
        rows.into_iter().find(|row| row["Connection_name"] == self.channel)
    }

    /// Breaks the channel, and returns once the replica says so. One fault at a time.
    #[track_caller]
    pub fn break_by(&self, fault: Fault) {
        let Self { replica, source, channel, .. } = self;
        match fault {
            Fault::StopReceiver => replica.sql(&format!("STOP SLAVE '{channel}' IO_THREAD")),
            Fault::StopApplier => replica.sql(&format!("STOP SLAVE '{channel}' SQL_THREAD")),
            Fault::Stop => replica.sql(&format!("STOP SLAVE '{channel}'")),
            Fault::BreakApplier => {
                replica.sql(&format!("SET sql_log_bin=OFF; INSERT INTO lab.t VALUES ({CONFLICT}, 0)"));
                source.sql(&format!("INSERT INTO lab.t VALUES ({CONFLICT}, 1)"));
                self.until("Last_SQL_Errno", "1062");
                self.until("Slave_SQL_Running", "No");
            }
            Fault::WrongPassword => {
                self.change("MASTER_PASSWORD='wrong'");
                self.until("Last_IO_Errno", "1045");
            }
            Fault::Unreachable => {
                self.change("MASTER_PORT=1");
                self.until("Last_IO_Errno", "2003");
            }
            Fault::Delay(delay) => {
                self.change(&format!("MASTER_DELAY={}", delay.as_secs()));
                source.sql("INSERT INTO lab.t (v) VALUES (1)");
                wait::until("the applier delays an event", BOUND, || {
                    self.status().is_some_and(|row| row["SQL_Remaining_Delay"] != "NULL")
                });
            }
            Fault::Lag(lag) => {
                // The lag is counted from the time of an event, less the difference between the two clocks, which
                // the receiver finds by asking for the time when it connects: it is told a time in the future.
                // (An event with an old timestamp would not do: the applier never lets its time go back.)
                let lag = lag.as_secs();
                source.sql(&format!(
                    "SET GLOBAL init_connect='SET timestamp=IF(USER() LIKE \"repl@%\", UNIX_TIMESTAMP()+{lag}, 0)'"
                ));
                replica.sql(&format!("STOP SLAVE '{channel}' IO_THREAD; START SLAVE '{channel}' IO_THREAD"));
                self.until("Slave_IO_Running", "Yes");
                source.sql("SET GLOBAL init_connect=''");
                let mut session = replica.session();
                session.query_drop("LOCK TABLES lab.t WRITE").unwrap();
                *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                source.sql("INSERT INTO lab.t (v) VALUES (1)");
                wait::until("the replica lags", BOUND, || self.lag().is_some_and(|seen| seen.as_secs() >= lag));
            }
            Fault::Forget => replica.sql(&format!("STOP SLAVE '{channel}'; RESET SLAVE '{channel}' ALL")),
        }
    }

    /// Wires the channel as it was at first, whatever broke it, and waits for `Yes`, `Yes` and 0.
    #[track_caller]
    pub fn heal(&self) {
        let Self { replica, source, channel, .. } = self;
        // Ends the session and with it the lock.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        if self.status().is_some() {
            replica.sql(&format!("STOP SLAVE '{channel}'"));
        }
        replica.sql(&format!(
            "SET sql_log_bin=OFF; DELETE FROM lab.t WHERE id={CONFLICT};
             CHANGE MASTER '{channel}' TO MASTER_HOST='{}', MASTER_PORT={PORT}, MASTER_USER='repl', MASTER_PASSWORD='{PASSWORD}',
             MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1, MASTER_HEARTBEAT_PERIOD=1, MASTER_DELAY=0;
             START SLAVE '{channel}'",
            source.ip(),
        ));
        self.until_caught_up();
    }

    /// Waits for `Yes`, `Yes` and 0.
    #[track_caller]
    pub fn until_caught_up(&self) {
        let wanted = ["Yes", "Yes", "0"].map(str::to_owned);
        wait::until_equal("receiver, applier and lag", BOUND, Some(wanted), || {
            let row = self.status()?;
            Some(["Slave_IO_Running", "Slave_SQL_Running", "Seconds_Behind_Master"].map(|name| row[name].clone()))
        });
    }

    /// `Seconds_Behind_Master`; `None` when it is NULL.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.status()?["Seconds_Behind_Master"].parse().ok().map(Duration::from_secs)
    }

    #[track_caller]
    fn until(&self, column: &str, wanted: &str) {
        wait::until_equal(column, BOUND, Some(wanted.to_owned()), || self.status()?.remove(column));
    }

    fn change(&self, options: &str) {
        let channel = &self.channel;
        self.replica
            .sql(&format!("STOP SLAVE '{channel}'; CHANGE MASTER '{channel}' TO {options}; START SLAVE '{channel}'"));
    }
}
