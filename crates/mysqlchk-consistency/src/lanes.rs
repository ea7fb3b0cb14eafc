//! Reads the source and the replicas at the same moment: a lane is a session to each of them, and goes through tables on its
//! own.
//!
//! In lockstep, because a replica that is 5 ms behind then differs only in what was written in these 5 ms. What differs all
//! the same is looked at again by [`crate::chase`].

use std::cmp::Reverse;
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;
use std::time::{Duration, Instant};

use client::error::{ER_QUERY_INTERRUPTED, ER_SERVER_SHUTDOWN};
use client::{Error, Row, Rows, Session};

use crate::bounds::{FIRST, Walk};
use crate::catalog::{self, Catalog};
use crate::chase::Found;
use crate::expression::{self, KeyValues, Range, WARNINGS, Words};
use crate::filters::Filters;
use crate::monitor::Monitor;
use crate::peer::{Identity, Peer, STATEMENT_MAX_S};
use crate::position::Means;
use crate::progress::Progress;
use crate::schema::{self, ChunkKey, Definition, Name, Plan};
use crate::store::{self, Resumed, Store, Summary};
use crate::tally::{Difference, Tally};

/// A table with fewer rows and bytes than this, by the server's estimate, is read together with others.
const SMALL_ROWS: u64 = FIRST;
const SMALL_BYTES: u64 = 256 * 1024;
/// How many small tables are read together.
const BATCH: usize = 32;
/// How many rows and tables are in one statement of the server's own checksum, and how large a table may be for it: it
/// is read as a whole, for at most about 3 s.
const QUICK_ROWS: u64 = 200_000;
const QUICK_TABLES: usize = 100;
const QUICK_ROWS_MAX: u64 = 5_000_000;
/// A table without a unique key is read in one statement; above this estimate that would not end in time.
const BAG_ROWS_MAX: u64 = 20_000_000;
/// Why a table was not read.
pub(crate) const OVER: &str = "the time was over (--budget)";
/// How often a table whose definition changes meanwhile is begun again.
const ATTEMPTS: usize = 3;

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
    pub(crate) tables: Catalog,
    pub(crate) filters: Filters,
    /// The tables that are known to differ from an older run.
    pub(crate) known: BTreeSet<Name>,
    /// It has other sources, too, whose tables ours does not have.
    pub(crate) has_other_sources: bool,
}

/// What a lane takes at a time.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    One(Name),
    Small(Vec<Name>),
    /// To be compared by the server's own checksum, and where that differs in the ordinary way.
    Quick(Vec<Name>),
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

/// A table and what is done with it.
pub(crate) struct Table {
    pub(crate) name: Name,
    pub(crate) plan: Plan,
    /// The replicas to compare it with.
    pub(crate) on: Vec<usize>,
}

impl Table {
    /// The key, for what is only done to tables with one.
    pub(crate) fn key(&self) -> Result<&ChunkKey, Trouble> {
        self.plan.key.as_ref().ok_or_else(|| Trouble::Refused("it has no unique key".to_owned()))
    }
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

impl<'run> Lane<'run> {
    /// Goes through the jobs until there is none left.
    ///
    /// # Errors
    /// When the source cannot be asked any more.
    pub(crate) fn work<'scope>(scope: &'scope Scope<'scope, '_>, run: &'scope Run) -> Result<(), String> {
        let source = run.source.open().map_err(|error| error.to_string())?;
        let workers = run.replicas.iter().map(|replica| Worker::spawn(scope, &replica.peer)).collect();
        let mut lane = Lane { run, source, workers };
        loop {
            run.monitor.pause();
            if run.monitor.is_over() || run.monitor.alive().is_empty() {
                return Ok(());
            }
            let job = run.jobs.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
            let done = match job {
                None => return Ok(()),
                Some(Job::One(name)) => lane.table(&name),
                Some(Job::Small(names)) => lane.small(&names),
                Some(Job::Quick(names)) => lane.quick(&names),
            };
            // Any other trouble was written down where it happened.
            if let Err(Trouble::Source(why)) = done {
                return Err(why);
            }
        }
    }

    pub(crate) fn tally(&self, replica: usize, change: impl FnOnce(&mut Tally)) {
        let mut tallies = self.run.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = tallies.get_mut(replica) {
            change(tally);
        }
    }

    /// Several tables that are small, in one round trip; what is not equal at once is looked at one by one.
    fn small(&mut self, names: &[Name]) -> Result<(), Trouble> {
        let alive = self.run.monitor.alive();
        let mut tables = Vec::new();
        let mut others = Vec::new();
        for name in names {
            match self.known(name) {
                Some(table) if table.on == alive => tables.push(table),
                _ => others.push(name.clone()),
            }
        }
        let whole = Range::default();
        let statements: Vec<String> = tables
            .iter()
            .flat_map(|table| [expression::chunk(&table.name, &table.plan, &self.run.words, &whole), WARNINGS.into()])
            .collect();
        if !statements.is_empty() {
            let (own, theirs) = self.ask(&alive, &statements, &statements)?;
            for (at, table) in tables.iter().enumerate() {
                let sum = |answers: &client::Answers| sum_at(answers, at);
                match sum(&own) {
                    Some(source) if theirs.iter().all(|(_, answers)| sum(answers).as_ref() == Some(&source)) => {
                        for (replica, _) in &theirs {
                            self.equal(*replica, &table.name, source.rows);
                        }
                        self.run.progress.add(source.rows);
                        self.conclude(&table.name, source.rows);
                    }
                    _ => others.push(table.name.clone()),
                }
            }
        }
        for name in others {
            self.table(&name)?;
        }
        Ok(())
    }

    /// Several tables by the server's own checksum.
    fn quick(&mut self, names: &[Name]) -> Result<(), Trouble> {
        let alive = self.run.monitor.alive();
        let statement = [expression::checksum(names)];
        let (own, theirs) = self.ask(&alive, &statement, &statement)?;
        let sum = |answers: &client::Answers, at: usize| {
            let row = answers.first()?.as_ref().ok()?.get(at)?;
            row.get(&["Checksum"]).map(str::to_owned)
        };
        let mut others = Vec::new();
        for (at, name) in names.iter().enumerate() {
            let rows = self.run.tables.get(name).map_or(0, |definition| definition.rows);
            let own = sum(&own, at);
            if own.is_some() && theirs.iter().all(|(_, answers)| sum(answers, at) == own) {
                for (replica, _) in &theirs {
                    self.equal(*replica, name, rows);
                }
                self.run.progress.add(rows);
                self.conclude(name, rows);
            } else {
                others.push(name.clone());
            }
        }
        let (small, large): (Vec<Name>, Vec<Name>) =
            others.into_iter().partition(|name| self.run.tables.get(name).is_some_and(|table| is_small(table)));
        for names in small.chunks(BATCH) {
            self.small(names)?;
        }
        for name in large {
            self.table(&name)?;
        }
        Ok(())
    }

    pub(crate) fn equal(&self, replica: usize, name: &Name, rows: u64) {
        let notes = self.notes(replica, name);
        self.tally(replica, |tally| {
            tally.tables += 1;
            tally.rows += rows;
            if !notes.is_empty() {
                tally.notes.insert(name.clone(), notes);
            }
        });
    }

    /// What is worth knowing about a table as it was defined at the beginning.
    fn notes(&self, replica: usize, name: &Name) -> Vec<String> {
        let theirs = self.run.replicas.get(replica).and_then(|replica| replica.tables.get(name));
        match (self.run.tables.get(name), theirs) {
            (Some(source), Some(theirs)) if !Arc::ptr_eq(source, theirs) => schema::against(source, theirs).notes,
            _ => Vec::new(),
        }
    }

    /// A table as the catalogs have it, where they leave no doubt.
    fn known(&self, name: &Name) -> Option<Table> {
        let source = self.run.tables.get(name)?;
        let on = self.run.monitor.alive();
        let mut theirs = Vec::new();
        for replica in &on {
            let replica = self.run.replicas.get(*replica)?;
            let definition = replica.tables.get(name)?;
            if replica.filters.hides(name).is_some() || !schema::against(source, definition).differences.is_empty() {
                return None;
            }
            theirs.push(&**definition);
        }
        if schema::refusal(source).is_some() {
            return None;
        }
        let plan = schema::plan(source, &theirs, &self.ignored(name));
        Some(Table { name: name.clone(), plan, on })
    }

    fn ignored(&self, name: &Name) -> BTreeSet<String> {
        schema::columns_of(name, &self.run.ignored_columns)
    }

    /// A table as it is defined now: on the source, and on each replica after it has applied what the source had committed.
    /// What differs for good is written down. `None` when nothing is left to compare.
    fn defined(&mut self, name: &Name) -> Result<Option<Table>, Trouble> {
        let family = self.run.source.family;
        let Some(source) = catalog::read_one(&mut self.source, family, name).map_err(Self::of_source)? else {
            return self.gone(name);
        };
        if let Some(why) = schema::refusal(&source) {
            return Err(Trouble::Refused(why));
        }
        let mut on = Vec::new();
        let mut theirs = Vec::new();
        for replica in self.run.monitor.alive() {
            let Some(reader) = self.run.replicas.get(replica) else { continue };
            if let Some(filter) = reader.filters.hides(name) {
                let why = format!("it is not replicated ({filter}): add it to --ignore-table");
                self.tally(replica, |tally| _ = tally.skipped.insert(name.clone(), why));
                continue;
            }
            let found = match self.catch_up(replica).and_then(|()| self.define(replica, name)) {
                Err(Trouble::Replica) => continue,
                found => found?,
            };
            let Some(definition) = found else {
                self.tally(replica, |tally| {
                    tally.tables += 1;
                    tally.differences.insert(name.clone(), Difference::Missing);
                });
                continue;
            };
            let against = schema::against(&source, &definition);
            if against.differences.is_empty() {
                on.push(replica);
                theirs.push(definition);
            } else {
                let difference = Difference::Definition(against.differences);
                self.tally(replica, |tally| {
                    tally.tables += 1;
                    tally.differences.insert(name.clone(), difference);
                });
            }
        }
        let theirs: Vec<&Definition> = theirs.iter().collect();
        let plan = schema::plan(&source, &theirs, &self.ignored(name));
        Ok((!on.is_empty()).then(|| Table { name: name.clone(), plan, on }))
    }

    /// The source has no such table: neither may a replica, once it has applied that.
    fn gone(&mut self, name: &Name) -> Result<Option<Table>, Trouble> {
        for replica in self.run.monitor.alive() {
            let Some(reader) = self.run.replicas.get(replica) else { continue };
            let found = match self.catch_up(replica).and_then(|()| self.define(replica, name)) {
                Err(Trouble::Replica) => continue,
                found => found?,
            };
            if found.is_some() {
                let is_other = reader.has_other_sources;
                self.tally(replica, |tally| {
                    if is_other {
                        let note = "it is not on this source; the replica has others".to_owned();
                        tally.notes.insert(name.clone(), vec![note]);
                    } else {
                        tally.differences.insert(name.clone(), Difference::Extra);
                    }
                });
            }
        }
        Ok(None)
    }

    /// Compares one table, from its definition to its rows.
    fn table(&mut self, name: &Name) -> Result<(), Trouble> {
        let mut why = String::new();
        for attempt in 0..ATTEMPTS {
            let table = match self.known(name).filter(|_| attempt == 0) {
                Some(table) => Ok(Some(table)),
                None => self.defined(name),
            };
            let compared = match table {
                Ok(None) => {
                    self.conclude(name, 0);
                    return Ok(());
                }
                Ok(Some(table)) => self.compare(&table),
                Err(trouble) => Err(trouble),
            };
            match compared {
                Ok(rows) => {
                    self.conclude(name, rows);
                    return Ok(());
                }
                Err(Trouble::Replica) => return Ok(()),
                Err(Trouble::Source(why)) => return Err(Trouble::Source(why)),
                Err(Trouble::Refused(refused)) => {
                    why = refused;
                    break;
                }
                Err(Trouble::Table(error)) => why = error.to_string(),
            }
        }
        for replica in self.run.monitor.alive() {
            self.tally(replica, |tally| {
                tally.skipped.entry(name.clone()).or_insert_with(|| why.clone());
            });
        }
        Ok(())
    }

    /// Compares the rows of a table; returns how many the source has.
    fn compare(&mut self, table: &Table) -> Result<u64, Trouble> {
        let Some(key) = &table.plan.key else { return self.bag(table) };
        let (name, run) = (&table.name, self.run);
        let (mut walk, mut total) = self.walk(name, key)?;
        let mut suspects: Vec<Vec<Range>> = vec![Vec::new(); run.replicas.len()];
        let mut found: Vec<Found> = run.replicas.iter().map(|_| Found::default()).collect();
        while let Some(range) = walk.range() {
            run.monitor.pause();
            if run.monitor.is_over() {
                // Without suspects there is nothing before this key that the next run has to know of.
                if let Some(reached) = range.lower.filter(|_| suspects.iter().all(Vec::is_empty)) {
                    self.write_down(name, &reached, total, &found);
                }
                return Err(Trouble::Refused(OVER.to_owned()));
            }
            let chunk = vec![expression::chunk(name, &table.plan, &run.words, &range), WARNINGS.to_owned()];
            let mut own = chunk.clone();
            own.extend(walk.question().map(|(range, offset)| expression::bound(name, key, &range, offset)));
            let begin = Instant::now();
            let (own, theirs) = self.ask(&table.on, &own, &chunk)?;
            let elapsed = begin.elapsed();
            let source = sum_of(&own)?;
            for (replica, answers) in theirs {
                if sum_of(&answers)? != source
                    && let Some(suspects) = suspects.get_mut(replica)
                {
                    suspects.push(range.clone());
                }
            }
            total += source.rows;
            run.progress.add(source.rows);
            let next = match own.into_iter().nth(2) {
                Some(rows) => key_of(key, &rows.map_err(Trouble::Table)?),
                None => None,
            };
            if let Some((range, offset)) = walk.read(source.rows, elapsed, next) {
                let answers = self.ask_source(&[expression::bound(name, key, &range, offset)])?;
                walk.answer(answers.first().and_then(|rows| key_of(key, rows)));
            }
            if let Some(end) = range.upper.filter(|_| self.is_due()) {
                // What is behind this key is settled: a run that goes on here need not know of it.
                self.settle(table, &mut suspects, &mut found)?;
                self.write_down(name, &end, total, &found);
            }
        }
        self.settle(table, &mut suspects, &mut found)?;
        for (replica, found) in found.into_iter().enumerate() {
            if table.on.contains(&replica) && run.monitor.failure(replica).is_none() {
                self.equal(replica, name, total);
                self.differ(replica, name, found);
            }
        }
        Ok(total)
    }

    /// The way through a table: from its beginning, or from where an unfinished run got to.
    fn walk(&mut self, name: &Name, key: &ChunkKey) -> Result<(Walk, u64), Trouble> {
        let (lower, total) = self.run.resumed.bounds.get(name).cloned().unzip();
        let rest = Range { lower, upper: None };
        let mut questions = vec![expression::bound(name, key, &rest, FIRST)];
        if key.is_integer {
            questions.push(expression::last(name, key));
        }
        let mut answers = self.ask_source(&questions)?.into_iter();
        let first = answers.next().and_then(|rows| key_of(key, &rows));
        let last = answers.next().and_then(|rows| key_of(key, &rows)?.first()?.parse().ok());
        Ok((Walk::new(rest.lower, first, last, self.run.chunk_time), total.unwrap_or(0)))
    }

    /// Settles what differed so far.
    fn settle(&mut self, table: &Table, suspects: &mut [Vec<Range>], found: &mut [Found]) -> Result<(), Trouble> {
        for (replica, (ranges, found)) in suspects.iter_mut().zip(found).enumerate() {
            let ranges = std::mem::take(ranges);
            if ranges.is_empty() || self.run.monitor.failure(replica).is_some() {
                continue;
            }
            match self.chase(table, replica, ranges, found) {
                Err(Trouble::Replica) => {}
                settled => settled?,
            }
        }
        Ok(())
    }

    /// Adds what was found in a table to what is known of the replica.
    fn differ(&self, replica: usize, name: &Name, found: Found) {
        let before = self.known_before(replica, name);
        self.tally(replica, |tally| {
            if found.unsettled > 0 {
                let why = format!("{} rows did not stand still: {}", found.unsettled, found.why);
                tally.skipped.insert(name.clone(), why);
            }
            if found.differ.count > 0 {
                let mut differ = found.differ;
                differ.count += before;
                tally.differences.insert(name.clone(), Difference::Rows(differ));
            }
        });
    }

    /// How many rows of a table differ that the run found which this one goes on with.
    fn known_before(&self, replica: usize, name: &Name) -> u64 {
        let tallies = self.run.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        match tallies.get(replica).and_then(|tally| tally.differences.get(name)) {
            Some(Difference::Rows(before)) => before.count,
            _ => 0,
        }
    }

    /// Writes down that a table is done: what differs in it for the checks and for `--recheck`, and how far the run got. A
    /// difference is published at once, but not one that all replicas have alike: then it may be the source that is wrong.
    fn conclude(&mut self, name: &Name, rows: u64) {
        let Some(store) = &self.run.store else { return };
        let mut differing = Vec::new();
        {
            let tallies = self.run.tallies.lock().unwrap_or_else(PoisonError::into_inner);
            for (replica, tally) in tallies.iter().enumerate() {
                if let Some(difference) = tally.differences.get(name) {
                    differing.push((replica, difference.clone(), Summary::of(tally)));
                }
            }
        }
        let all = self.run.replicas.len();
        let alike =
            differing.iter().all(|(_, difference, _)| Some(difference) == differing.first().map(|(_, first, _)| first));
        let is_held_back = all > 1 && differing.len() == all && alike;
        let mut done = Ok(());
        for (replica, difference, summary) in &differing {
            done = done.and_then(|()| self.record(*replica, name, Some(difference)));
            if let Some(identity) = self.identity(*replica).filter(|_| !is_held_back) {
                done = done.and_then(|()| store::publish_inconsistent(&mut self.source, identity, summary));
            }
        }
        for replica in (0..all).filter(|replica| !differing.iter().any(|(other, ..)| other == replica)) {
            done = done.and_then(|()| self.record(replica, name, None));
        }
        let mut progress = store.progress.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_done_everywhere(name) {
            progress.done(name, rows);
        }
        if progress.is_due() {
            done = done.and_then(|()| progress.save(&mut self.source));
        }
        drop(progress);
        store.take(done);
    }

    /// Whether a table was compared to its end with every replica. Otherwise a run that goes on must begin it again: it would
    /// take for equal what nobody looked at.
    fn is_done_everywhere(&self, name: &Name) -> bool {
        let tallies = self.run.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        let is_skipped = tallies.iter().any(|tally| tally.skipped.contains_key(name));
        !is_skipped && self.run.monitor.alive().len() == self.run.replicas.len()
    }

    fn identity(&self, replica: usize) -> Option<&'run Identity> {
        self.run.replicas.get(replica).map(|replica| &replica.peer.identity)
    }

    /// Writes down what differs in a table, or that nothing does where an older run had found something.
    fn record(&mut self, replica: usize, name: &Name, difference: Option<&Difference>) -> Result<(), Error> {
        let Some(identity) = self.identity(replica) else { return Ok(()) };
        let was_known = self.run.replicas.get(replica).is_some_and(|replica| replica.known.contains(name));
        match difference {
            Some(difference) => store::keep(&mut self.source, identity, name, difference),
            None if was_known => store::drop_one(&mut self.source, identity, name),
            None => Ok(()),
        }
    }

    fn is_due(&self) -> bool {
        let store = self.run.store.as_ref();
        store.is_some_and(|store| store.progress.lock().unwrap_or_else(PoisonError::into_inner).is_due())
    }

    /// Writes down how far a table is read, and what was found in it so far.
    fn write_down(&mut self, name: &Name, end: &KeyValues, total: u64, found: &[Found]) {
        let Some(store) = &self.run.store else { return };
        if !self.is_done_everywhere(name) {
            return;
        }
        let mut done = Ok(());
        for (replica, found) in found.iter().enumerate() {
            let mut differ = found.differ.clone();
            differ.count += self.known_before(replica, name);
            let difference = (differ.count > 0).then_some(Difference::Rows(differ));
            done = done.and_then(|()| self.record(replica, name, difference.as_ref()));
        }
        let mut progress = store.progress.lock().unwrap_or_else(PoisonError::into_inner);
        progress.up_to(name, end, total);
        done = done.and_then(|()| progress.save(&mut self.source));
        drop(progress);
        store.take(done);
    }

    /// A table without a unique key, as a bag of rows: in one statement, and again after a wait where it differs.
    fn bag(&mut self, table: &Table) -> Result<u64, Trouble> {
        if table.plan.rows > BAG_ROWS_MAX {
            let rows = table.plan.rows;
            return Err(Trouble::Refused(format!("it has about {rows} rows and no unique key: give it one")));
        }
        let whole = Range::default();
        let statements = vec![expression::chunk(&table.name, &table.plan, &self.run.words, &whole), WARNINGS.into()];
        let too_long = |error: Trouble| match error {
            Trouble::Table(error) if crate::chase::is_too_long(&error) => Trouble::Refused(format!(
                "it has no unique key and cannot be read in one statement of {STATEMENT_MAX_S}s: give it one"
            )),
            other => other,
        };
        let (own, theirs) = self.ask(&table.on, &statements, &statements)?;
        let source = sum_of(&own).map_err(too_long)?;
        let mut others = Vec::new();
        for (replica, answers) in theirs {
            if sum_of(&answers).map_err(too_long)? == source {
                self.equal(replica, &table.name, source.rows);
            } else {
                others.push(replica);
            }
        }
        self.run.progress.add(source.rows);
        for replica in others {
            match self.chase_bag(table, replica, &statements) {
                Err(Trouble::Replica) => {}
                settled => settled.map_err(too_long)?,
            }
        }
        Ok(source.rows)
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

    fn define(&mut self, replica: usize, name: &Name) -> Result<Option<Definition>, Trouble> {
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
fn sum_at(answers: &client::Answers, at: usize) -> Option<Sum> {
    let warnings = answers.get(2 * at + 1)?.as_ref().ok()?;
    let row = answers.get(2 * at)?.as_ref().ok()?.first()?;
    let text = |name| row.get(&[name]).unwrap_or_default().to_owned();
    let sum = Sum { rows: text("n").parse().ok()?, xor: text("x"), total: text("s") };
    (warnings.first()?.get(&["w"]) == Some("0")).then_some(sum)
}

fn is_small(definition: &Definition) -> bool {
    definition.rows < SMALL_ROWS && definition.bytes < SMALL_BYTES
}

/// The jobs for all tables: the large ones first, so that the lanes end at the same time. `is_left` tells
/// those that no unfinished run has done, `is_quick` those that the server's own checksum is good enough for.
pub(crate) fn jobs(
    tables: &Catalog,
    others: impl Iterator<Item = Name>,
    is_left: impl Fn(&Name) -> bool,
    is_quick: impl Fn(&Name, &Arc<Definition>) -> bool,
) -> VecDeque<Job> {
    let left = tables.iter().filter(|(name, _)| is_left(name));
    let (quick, ordinary): (Vec<_>, Vec<_>) =
        left.partition(|(name, definition)| definition.rows < QUICK_ROWS_MAX && is_quick(name, definition));
    let mut jobs = VecDeque::new();
    let (small, mut large): (Vec<_>, Vec<_>) = ordinary.into_iter().partition(|(_, definition)| is_small(definition));
    large.sort_by_key(|(_, definition)| Reverse(definition.bytes));
    jobs.extend(large.into_iter().map(|(name, _)| Job::One(name.clone())));
    jobs.extend(together(quick).map(Job::Quick));
    let small: Vec<Name> = small.into_iter().map(|(name, _)| name.clone()).collect();
    jobs.extend(small.chunks(BATCH).map(|names| Job::Small(names.to_vec())));
    jobs.extend(others.filter(|name| is_left(name)).map(Job::One));
    jobs
}

/// Tables for one statement each: the large ones alone and first, the others together.
fn together(mut tables: Vec<(&Name, &Arc<Definition>)>) -> impl Iterator<Item = Vec<Name>> {
    tables.sort_by_key(|(_, definition)| Reverse(definition.rows));
    let mut groups: Vec<(u64, Vec<Name>)> = Vec::new();
    for (name, definition) in tables {
        match groups.last_mut() {
            Some((rows, names)) if *rows + definition.rows <= QUICK_ROWS && names.len() < QUICK_TABLES => {
                *rows += definition.rows;
                names.push(name.clone());
            }
            _ => groups.push((definition.rows, vec![name.clone()])),
        }
    }
    groups.into_iter().map(|(_, names)| names)
}
