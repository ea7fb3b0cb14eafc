//! A server that follows another, the ways this breaks, and one cure for all of them.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mysql::Conn;
use mysql::prelude::Queryable;

use crate::server::{PASSWORD, Row, Server};
use crate::wait;

/// How long replication may take to get where it should be.
const BOUND: Duration = Duration::from_secs(60);

/// The row that exists on the replica only, so that the source's next insert of it cannot be applied.
const CONFLICT: u32 = 4_000_000_000;

/// One way to break replication, with what the replica then says of its receiver and applier (`SHOW SLAVE STATUS`,
/// `MySQL`: `SHOW REPLICA STATUS`).
///
/// `MySQL` 9.7 differs in one thing: the lag is 0, not NULL, of a receiver that is not running while the applier is
/// elsewhere than it, such as after it was told another source and has not reached that so far.
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

/// What a server calls the parts of replication.
struct Words {
    status: &'static str,
    channel: &'static str,
    receiver: &'static str,
    applier: &'static str,
    lag: &'static str,
    /// Where the receiver is in the source's binary log.
    received: [&'static str; 2],
    /// Where the applier is there.
    applied: [&'static str; 2],
}

const MARIADB: Words = Words {
    status: "SHOW ALL SLAVES STATUS",
    channel: "Connection_name",
    receiver: "Slave_IO_Running",
    applier: "Slave_SQL_Running",
    lag: "Seconds_Behind_Master",
    received: ["Master_Log_File", "Read_Master_Log_Pos"],
    applied: ["Relay_Master_Log_File", "Exec_Master_Log_Pos"],
};

const MYSQL: Words = Words {
    status: "SHOW REPLICA STATUS",
    channel: "Channel_Name",
    receiver: "Replica_IO_Running",
    applier: "Replica_SQL_Running",
    lag: "Seconds_Behind_Source",
    received: ["Source_Log_File", "Read_Source_Log_Pos"],
    applied: ["Relay_Source_Log_File", "Exec_Source_Log_Pos"],
};

impl Link<'_> {
    /// The channel's row of `SHOW SLAVE STATUS` or `SHOW REPLICA STATUS`; `None` when the channel does not exist.
    #[must_use]
    pub fn status(&self) -> Option<Row> {
        let rows = self.replica.rows(self.words().status);
        rows.into_iter().find(|row| row[self.words().channel] == self.channel)
    }

    /// What the row says of the receiver and the applier, whatever the server calls them.
    #[must_use]
    pub fn threads(&self) -> Option<[String; 2]> {
        let mut row = self.status()?;
        Some([self.words().receiver, self.words().applier].map(|name| row.remove(name).unwrap()))
    }

    /// Breaks the channel, and returns once the replica says so. One fault at a time.
    #[track_caller]
    pub fn break_by(&self, fault: Fault) {
        let Self { replica, source, .. } = self;
        match fault {
            Fault::StopReceiver => replica.sql(&self.stop("IO_THREAD")),
            Fault::StopApplier => replica.sql(&self.stop("SQL_THREAD")),
            Fault::Stop => replica.sql(&self.stop("")),
            Fault::BreakApplier => {
                replica.sql(&format!("SET sql_log_bin=OFF; INSERT INTO lab.t VALUES ({CONFLICT}, 0)"));
                source.sql(&format!("INSERT INTO lab.t VALUES ({CONFLICT}, 1)"));
                self.until("Last_SQL_Errno", "1062");
                self.until(self.words().applier, "No");
            }
            Fault::WrongPassword => {
                self.change("SOURCE_PASSWORD='wrong'");
                self.until("Last_IO_Errno", "1045");
            }
            Fault::Unreachable => {
                self.change("SOURCE_PORT=1");
                self.until("Last_IO_Errno", "2003");
            }
            Fault::Delay(delay) => {
                self.change(&format!("SOURCE_DELAY={}", delay.as_secs()));
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
                replica.sql(&format!("{}; {}", self.stop("IO_THREAD"), self.start("IO_THREAD")));
                self.until(self.words().receiver, "Yes");
                source.sql("SET GLOBAL init_connect=''");
                let mut session = replica.session();
                session.query_drop("LOCK TABLES lab.t WRITE").unwrap();
                *self.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
                source.sql("INSERT INTO lab.t (v) VALUES (1)");
                wait::until("the replica lags", BOUND, || self.lag().is_some_and(|seen| seen.as_secs() >= lag));
            }
            Fault::Forget => replica.sql(&format!("{}; {}", self.stop(""), self.say("RESET", "ALL"))),
        }
    }

    /// Wires the channel as it was at first, whatever broke it, and waits for `Yes`, `Yes` and 0.
    #[track_caller]
    pub fn heal(&self) {
        let Self { replica, source, .. } = self;
        // Ends the session and with it the lock.
        self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        replica.sql(&format!("SET sql_log_bin=OFF; DELETE FROM lab.t WHERE id={CONFLICT}"));
        let own = if self.is_mysql() {
            // The password needs a connection with TLS. By default a replica gives up after ten attempts.
            "SOURCE_AUTO_POSITION=1, SOURCE_SSL=1, SOURCE_RETRY_COUNT=86400"
        } else {
            "MASTER_USE_GTID=slave_pos"
        };
        self.change(&format!(
            "SOURCE_HOST='{}', SOURCE_PORT={}, SOURCE_USER='repl', SOURCE_PASSWORD='{PASSWORD}', {own}, \
             SOURCE_CONNECT_RETRY=1, SOURCE_HEARTBEAT_PERIOD=1, SOURCE_DELAY=0",
            source.ip(),
            source.address().port(),
        ));
        self.until_caught_up();
    }

    /// Waits for `Yes`, `Yes` and 0, and for an applier that is where the receiver is: to `MySQL` a lag of 0 can also
    /// mean that nothing has been applied so far.
    #[track_caller]
    pub fn until_caught_up(&self) {
        let wanted = ["Yes", "Yes", "0"].map(str::to_owned);
        let Words { receiver, applier, lag, received, applied, .. } = self.words();
        wait::until_equal("receiver, applier and lag", BOUND, Some((wanted, true)), || {
            let row = self.status()?;
            let arrived = received.iter().zip(applied).all(|(received, applied)| row[*received] == row[*applied]);
            Some(([receiver, applier, lag].map(|name| row[*name].clone()), arrived))
        });
    }

    /// `Seconds_Behind_Master` or `Seconds_Behind_Source`; `None` when it is NULL.
    #[must_use]
    pub fn lag(&self) -> Option<Duration> {
        self.status()?[self.words().lag].parse().ok().map(Duration::from_secs)
    }

    #[track_caller]
    fn until(&self, column: &str, wanted: &str) {
        wait::until_equal(column, BOUND, Some(wanted.to_owned()), || self.status()?.remove(column));
    }

    /// Stops the channel if there is one, gives it other options, in `MySQL`'s words, and starts it.
    #[track_caller]
    fn change(&self, options: &str) {
        if self.status().is_some() {
            self.replica.sql(&self.stop(""));
        }
        let channel = &self.channel;
        let change = if self.is_mysql() {
            format!("CHANGE REPLICATION SOURCE TO {options} FOR CHANNEL '{channel}'")
        } else {
            format!("CHANGE MASTER '{channel}' TO {}", options.replace("SOURCE_", "MASTER_"))
        };
        self.replica.sql(&format!("{change}; {}", self.start("")));
    }

    fn stop(&self, thread: &str) -> String {
        self.say("STOP", thread)
    }

    fn start(&self, thread: &str) -> String {
        self.say("START", thread)
    }

    /// `STOP SLAVE 'channel' IO_THREAD`, `RESET SLAVE 'channel' ALL`, or what `MySQL` says instead.
    fn say(&self, verb: &str, what: &str) -> String {
        let channel = &self.channel;
        if self.is_mysql() {
            format!("{verb} REPLICA {what} FOR CHANNEL '{channel}'")
        } else {
            format!("{verb} SLAVE '{channel}' {what}")
        }
    }

    fn words(&self) -> &'static Words {
        if self.is_mysql() { &MYSQL } else { &MARIADB }
    }

    fn is_mysql(&self) -> bool {
        self.replica.software().is_mysql()
    }
}
