//! A lane is a session to the source and one to each replica, which are asked at the same moment.
//!
//! In lockstep, because a replica that is 5 ms behind then differs only in what was written in these 5 ms.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Scope;
use std::time::Duration;

use client::error::{ER_QUERY_INTERRUPTED, ER_SERVER_SHUTDOWN};
use client::{Error, Row, Rows, Session};

use crate::catalog::{self, Catalog};
use crate::expression::{self, KeyValues, Words};
use crate::filters::Filters;
use crate::jobs::Job;
use crate::monitor::Monitor;
use crate::peer::Peer;
use crate::position::Means;
use crate::progress::Progress;
use crate::schema::{self, ChunkKey, Definition, Name};
use crate::store::{Resumed, Store};
use crate::tally::Tally;

/// What a lane has to know.
pub(crate) struct Run {
    pub(crate) source: Peer,
    pub(crate) replicas: Vec<Reader>,
    pub(crate) monitor: Monitor,
    pub(crate) words: Words,
    pub(crate) chunk_time: Duration,
    pub(crate) max_lock: Duration,
    /// For how many rows of a table the differing columns are named.
    pub(crate) rows_shown: usize,
    /// `DB.TABLE.COLUMN`, not to be compared.
    pub(crate) ignored_columns: BTreeSet<String>,
    /// The source's tables, and each replica's.
    pub(crate) tables: Catalog,
    pub(crate) jobs: Mutex<VecDeque<Job>>,
    pub(crate) tallies: Mutex<Vec<Tally>>,
    /// Where the verdicts go; `None` for nowhere.
    pub(crate) store: Option<Store>,
    /// What an unfinished run has done.
    pub(crate) resumed: Resumed,
    pub(crate) progress: Progress,
}

/// A replica that is read.
pub(crate) struct Reader {
    pub(crate) peer: Peer,
    pub(crate) means: Means,
    /// The servers that it replicates from, by `server_id`.
    pub(crate) sources: Vec<u64>,
    /// For [`Means::File`]: the replica that it replicates from, where that is not the source.
    pub(crate) above: Option<usize>,
    pub(crate) tables: Catalog,
    pub(crate) filters: Filters,
    /// The tables that are known to differ from an older run.
    pub(crate) known: BTreeSet<Name>,
    /// It has other sources, too, whose tables ours does not have.
    pub(crate) has_other_sources: bool,
}

/// Why a table was not compared to the end.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The source cannot be asked any more: the end of the run.
    Source(String),
    /// The replica cannot; the monitor has the reason.
    Replica,
    /// A statement on this table failed.
    Table(Error),
    /// The table cannot be compared.
    Refused(String),
}

/// Count and hash of some rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) rows: u64,
    xor: String,
    total: String,
}

impl fmt::Display for Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.rows, self.xor, self.total)
    }
}

/// What is asked of a replica's session.
enum Ask {
    Query(Vec<String>),
    Define(Name),
}

enum Answer {
    Query(client::Answers),
    Define(Result<Option<Definition>, Error>),
}

/// A session to a replica, in a thread of its own.
struct Worker {
    asks: Sender<Ask>,
    answers: Receiver<Answer>,
}

impl Worker {
    fn spawn<'scope>(scope: &'scope Scope<'scope, '_>, peer: &'scope Peer) -> Worker {
        let (asks, todo) = channel::<Ask>();
        let (done, answers) = channel();
        scope.spawn(move || {
            let mut session = peer.open();
            for ask in todo {
                let answer = match (&mut session, ask) {
                    (Ok(session), Ask::Query(statements)) => Answer::Query(session.query_each(&statements)),
                    (Ok(session), Ask::Define(name)) => Answer::Define(catalog::read_one(session, peer.family, &name)),
                    (Err(error), Ask::Query(_)) => Answer::Query(vec![Err(error.clone())]),
                    (Err(error), Ask::Define(_)) => Answer::Define(Err(error.clone())),
                };
                if done.send(answer).is_err() {
                    return;
                }
            }
        });
        Worker { asks, answers }
    }
}

/// A session to each server.
pub(crate) struct Lane<'run> {
    pub(crate) run: &'run Run,
    pub(crate) source: Session<'static>,
    workers: Vec<Worker>,
}

impl Lane<'_> {
    /// Opens the sessions: that to the source here, those to the replicas in threads of their own.
    ///
    /// # Errors
    /// When the source cannot be asked.
    pub(crate) fn open<'scope>(scope: &'scope Scope<'scope, '_>, run: &'scope Run) -> Result<Lane<'scope>, Error> {
        let source = run.source.open()?;
        let workers = run.replicas.iter().map(|replica| Worker::spawn(scope, &replica.peer)).collect();
        Ok(Lane { run, source, workers })
    }

    pub(crate) fn of_source(error: Error) -> Trouble {
        if is_gone(&error) { Trouble::Source(error.to_string()) } else { Trouble::Table(error) }
    }

    /// Asks the source alone.
    pub(crate) fn ask_source(&mut self, statements: &[String]) -> Result<Vec<Rows>, Trouble> {
        self.source.query_each(statements).into_iter().map(|answer| answer.map_err(Self::of_source)).collect()
    }

    /// Asks one replica alone.
    pub(crate) fn ask_replica(&mut self, replica: usize, statements: Vec<String>) -> Result<Vec<Rows>, Trouble> {
        self.send(replica, Ask::Query(statements))?;
        let answers = self.receive(replica)?;
        answers.into_iter().map(|answer| answer.map_err(Trouble::Table)).collect()
    }

    /// Asks the source and some replicas at the same moment. A replica that is gone is not among the answers.
    pub(crate) fn ask(
        &mut self,
        replicas: &[usize],
        own: &[String],
        theirs: &[String],
    ) -> Result<(client::Answers, Vec<(usize, client::Answers)>), Trouble> {
        let alive: Vec<usize> =
            replicas.iter().copied().filter(|replica| self.run.monitor.failure(*replica).is_none()).collect();
        let asked: Vec<usize> =
            alive.into_iter().filter(|replica| self.send(*replica, Ask::Query(theirs.to_vec())).is_ok()).collect();
        let own = self.source.query_each(own);
        // Also when the source is gone: or the next answer would be to this question.
        let theirs: Vec<_> =
            asked.into_iter().filter_map(|replica| Some((replica, self.receive(replica).ok()?))).collect();
        match own.last() {
            Some(Err(error)) if is_gone(error) => Err(Trouble::Source(error.to_string())),
            _ => Ok((own, theirs)),
        }
    }

    /// How long an answer takes that reads nothing, of the slowest of the source and these replicas.
    pub(crate) fn trip(&self, replicas: &[usize]) -> Duration {
        let replicas = replicas.iter().filter_map(|replica| self.run.replicas.get(*replica));
        replicas.map(|replica| replica.peer.trip).fold(self.run.source.trip, Duration::max)
    }

    fn send(&self, replica: usize, ask: Ask) -> Result<(), Trouble> {
        let worker = self.workers.get(replica).ok_or(Trouble::Replica)?;
        worker.asks.send(ask).map_err(|_| Trouble::Replica)
    }

    fn receive(&self, replica: usize) -> Result<client::Answers, Trouble> {
        match self.workers.get(replica).and_then(|worker| worker.answers.recv().ok()) {
            Some(Answer::Query(answers)) => match answers.last() {
                Some(Err(error)) if is_gone(error) => Err(self.lost(replica, error)),
                _ => Ok(answers),
            },
            _ => Err(Trouble::Replica),
        }
    }

    pub(crate) fn define(&mut self, replica: usize, name: &Name) -> Result<Option<Definition>, Trouble> {
        self.send(replica, Ask::Define(name.clone()))?;
        match self.workers.get(replica).and_then(|worker| worker.answers.recv().ok()) {
            Some(Answer::Define(Ok(found))) => Ok(found),
            Some(Answer::Define(Err(error))) if is_gone(&error) => Err(self.lost(replica, &error)),
            Some(Answer::Define(Err(error))) => Err(Trouble::Table(error)),
            _ => Err(Trouble::Replica),
        }
    }

    fn lost(&self, replica: usize, error: &Error) -> Trouble {
        self.run.monitor.fail(replica, error.to_string());
        Trouble::Replica
    }
}

/// Whether a server cannot be asked any more: every error that is not its own, and its end.
fn is_gone(error: &Error) -> bool {
    error.code().is_none() || error.is(&[ER_SERVER_SHUTDOWN, ER_QUERY_INTERRUPTED])
}

/// The key that a statement for a bound returned.
pub(crate) fn key_of(key: &ChunkKey, rows: &Rows) -> Option<KeyValues> {
    key_of_row(key, rows.first()?)
}

/// The key of a row.
pub(crate) fn key_of_row(key: &ChunkKey, row: &Row) -> Option<KeyValues> {
    let value = |(at, column): (usize, &schema::KeyColumn)| {
        Some(expression::key_value(&column.literal, row.get(&[&format!("k{at}")])?))
    };
    key.columns.iter().enumerate().map(value).collect()
}

/// The sum of the first pair of answers: to a chunk, and to [`WARNINGS`].
pub(crate) fn sum_of(answers: &client::Answers) -> Result<Sum, Trouble> {
    if let Some(Err(error)) = answers.iter().take(2).find(|answer| answer.is_err()) {
        return Err(Trouble::Table(error.clone()));
    }
    let warnings = answers.get(1).and_then(|answer| answer.as_ref().ok()?.first()?.get(&["w"])?.parse::<u64>().ok());
    if warnings.is_none_or(|warnings| warnings > 0) {
        return Err(Trouble::Refused(
            "a row is larger than `max_allowed_packet`, or a value is not valid in its character set".to_owned(),
        ));
    }
    sum_at(answers, 0).ok_or_else(|| Trouble::Refused("the answer has no sum".to_owned()))
}

/// The sum of a pair of answers among others; `None` where something is wrong with it.
pub(crate) fn sum_at(answers: &client::Answers, at: usize) -> Option<Sum> {
    let warnings = answers.get(2 * at + 1)?.as_ref().ok()?;
    let row = answers.get(2 * at)?.as_ref().ok()?.first()?;
    let text = |name| row.get(&[name]).unwrap_or_default().to_owned();
    let sum = Sum { rows: text("n").parse().ok()?, xor: text("x"), total: text("s") };
    (warnings.first()?.get(&["w"]) == Some("0")).then_some(sum)
}
