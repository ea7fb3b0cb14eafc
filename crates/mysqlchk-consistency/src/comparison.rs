//! One comparison from its beginning to its report: what is compared with what, by how many lanes, and what is published.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use client::{Family, Session};

use crate::catalog::{self, Catalog, Lexicon};
use crate::discover;
use crate::expression::{Hash, Words};
use crate::filters::Filters;
use crate::jobs;
use crate::lanes::{Lane, Reader, Run};
use crate::monitor::{self, Monitor};
use crate::options::Options;
use crate::peer::{Identity, Peer};
use crate::position::Means;
use crate::progress;
use crate::report::{self, Report, State};
use crate::schema::{self, Definition, Name};
use crate::status;
use crate::store::{self, Progress, Resumed, Store};
use crate::tables::OVER;
use crate::tally::{Difference, Tally};

/// What the words of a run are made of.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// A source, what to compare with it, and where the verdicts go.
pub(crate) struct Comparison<'a> {
    pub(crate) source: &'a Peer,
    /// Holds the lock on the source.
    pub(crate) session: &'a mut Session<'static>,
    pub(crate) options: &'a Options,
    /// Whether the tables for the verdicts are there.
    pub(crate) has_store: bool,
}

/// What comes out of it.
pub(crate) enum Made {
    Report(Report),
    /// Nothing was compared; this says why, or how it would be.
    Text(String),
}

/// A replica that can be read, with its place in the report and the server it replicates from.
struct Candidate {
    place: usize,
    from: Option<u64>,
    reader: Reader,
    known: BTreeMap<Name, Difference>,
}

impl Comparison<'_> {
    /// Compares, or tells what it would do.
    ///
    /// # Errors
    /// When it cannot even begin.
    pub(crate) fn make(&mut self, found: Vec<discover::Replica>) -> Result<Made> {
        let begin = Instant::now();
        let options = self.options;
        let known = self.known(&found)?;
        let names: BTreeSet<&Name> = known.values().flat_map(BTreeMap::keys).collect();
        if options.recheck && names.is_empty() {
            return Ok(Made::Text("no replica is known to differ\n".to_owned()));
        }
        let wanted = |name: &Name| options.wants(name) && (!options.recheck || names.contains(name));
        let mut lexicon = Lexicon::default();
        let tables = self.tables(&mut lexicon, &wanted).context("cannot list the tables of the source")?;
        let (mut replicas, candidates) = self.candidates(found, &known, &tables, &mut lexicon, &wanted);
        // Only needed to read definitions.
        drop(lexicon);
        if options.explain {
            return Ok(Made::Text(explanation(&replicas, &candidates, &tables, &options.ignored_columns())));
        }
        let places: Vec<usize> = candidates.iter().map(|candidate| candidate.place).collect();
        let watched: Vec<(Peer, Option<u64>)> =
            candidates.iter().map(|candidate| (candidate.reader.peer.clone(), candidate.from)).collect();
        let (progress, resumed) = self.progress(&candidates)?;
        let run = self.run(tables, candidates, progress, resumed)?;
        let lost = self.read(&run, &watched, begin);
        let tallies = std::mem::take(&mut *run.tallies.lock().unwrap_or_else(PoisonError::into_inner));
        for (at, (place, tally)) in places.iter().zip(tallies).enumerate() {
            if let Some(replica) = replicas.get_mut(*place) {
                replica.tally = tally;
                let over = run.monitor.is_over().then(|| OVER.to_owned());
                replica.failed = run.monitor.failure(at).or_else(|| lost.clone()).or(over);
            }
        }
        let mut report =
            Report { replicas, elapsed: begin.elapsed(), rows_shown: options.rows.unwrap_or(0), unpublished: None };
        if self.has_store {
            let identities: Vec<(usize, &Identity)> =
                places.iter().copied().zip(watched.iter().map(|(peer, _)| &peer.identity)).collect();
            let published = self.publish(&report, &identities, run.store.as_ref());
            let trouble = run.store.as_ref().and_then(Store::trouble);
            report.unpublished = published.err().or(trouble).map(|error| error.to_string());
        }
        Ok(Made::Report(report))
    }

    /// The tables of the source. In a session of its own: the driver has a buffer of 4 MB in each, and what is read fills it.
    fn tables(&self, lexicon: &mut Lexicon, wanted: &dyn Fn(&Name) -> bool) -> Result<Catalog, client::Error> {
        let mut session = self.source.open()?;
        catalog::read(&mut session, self.source.family, None, lexicon, wanted)
    }

    /// What is known to differ, by the place of the replica.
    fn known(&mut self, found: &[discover::Replica]) -> Result<BTreeMap<usize, BTreeMap<Name, Difference>>> {
        let mut all = BTreeMap::new();
        for (place, replica) in found.iter().enumerate().filter(|_| self.has_store) {
            if let Ok(peer) = &replica.peer {
                let known = store::known(self.session, &peer.identity).context("cannot read what is known")?;
                if !known.is_empty() {
                    all.insert(place, known);
                }
            }
        }
        Ok(all)
    }

    /// The replicas of the report, and those that can be read.
    fn candidates(
        &self,
        found: Vec<discover::Replica>,
        known: &BTreeMap<usize, BTreeMap<Name, Difference>>,
        tables: &Catalog,
        lexicon: &mut Lexicon,
        wanted: &dyn Fn(&Name) -> bool,
    ) -> (Vec<report::Replica>, Vec<Candidate>) {
        let mut replicas = Vec::new();
        let mut candidates = Vec::new();
        let all = found.into_iter().enumerate();
        for (at, replica) in all.filter(|(at, _)| !self.options.recheck || known.contains_key(at)) {
            let failed = match replica.peer.and_then(|peer| Self::reader(peer, tables, lexicon, wanted)) {
                Ok(reader) => {
                    let known = known.get(&at).cloned().unwrap_or_default();
                    candidates.push(Candidate { place: replicas.len(), from: replica.from, reader, known });
                    None
                }
                Err(why) => Some(why),
            };
            let (server_id, place) = (replica.server_id, replica.place);
            replicas.push(report::Replica { server_id, place, failed, tally: Tally::default() });
        }
        (replicas, candidates)
    }

    /// A replica made ready to be read.
    fn reader(
        peer: Peer,
        tables: &Catalog,
        lexicon: &mut Lexicon,
        wanted: &dyn Fn(&Name) -> bool,
    ) -> Result<Reader, String> {
        let mut session = peer.open().map_err(|error| error.to_string())?;
        // What is missing is said by the monitor.
        let status = session.query(status::question(peer.family)).unwrap_or_default();
        let theirs = catalog::read(&mut session, peer.family, Some(tables), lexicon, wanted);
        Ok(Reader {
            means: Means::File,
            sources: status::sources(&status),
            above: None,
            known: BTreeSet::new(),
            filters: Filters::read(&status),
            has_other_sources: status.len() > 1,
            tables: theirs.map_err(|error| error.to_string())?,
            peer,
        })
    }

    /// How far an unfinished run got that compared the same.
    fn progress(&mut self, candidates: &[Candidate]) -> Result<(Option<Progress>, Resumed)> {
        if !self.has_store || self.options.recheck {
            return Ok((None, Resumed::default()));
        }
        let mut same = vec![self.options.scope()];
        let identity = |candidate: &Candidate| format!("{:?}", candidate.reader.peer.identity);
        let mut identities: Vec<String> = candidates.iter().map(identity).collect();
        // A replica that was away is listed last.
        identities.sort();
        same.extend(identities);
        let (progress, resumed) =
            Progress::begin(self.session, &same, self.options.fresh).context("cannot read how far the last run got")?;
        Ok((Some(progress), resumed))
    }

    fn run(
        &mut self,
        tables: Catalog,
        candidates: Vec<Candidate>,
        progress: Option<Progress>,
        resumed: Resumed,
    ) -> Result<Run> {
        let options = self.options;
        let has_sets = has_sets(self.source, self.session);
        let (mut readers, known): (Vec<Reader>, Vec<BTreeMap<Name, Difference>>) = candidates
            .into_iter()
            .map(|Candidate { mut reader, known, .. }| {
                reader.means = Means::of(self.source, &reader.peer, has_sets);
                reader.known = known.keys().cloned().collect();
                (reader, known)
            })
            .unzip();
        let lost = chain(self.source, &mut readers);
        let ignored_columns = options.ignored_columns();
        let is_quick = |name: &Name, definition: &Arc<Definition>| {
            let same = |reader: &Reader| {
                reader.filters.hides(name).is_none()
                    && reader.tables.get(name).is_some_and(|theirs| Arc::ptr_eq(definition, theirs))
            };
            let is_whole = schema::columns_of(name, &ignored_columns).is_empty();
            options.quick && is_whole && schema::suits_checksum(definition) && readers.iter().all(same)
        };
        let extra: BTreeSet<Name> = readers
            .iter()
            .flat_map(|reader| reader.tables.keys())
            .filter(|name| !tables.contains_key(*name))
            .cloned()
            .collect();
        let is_left = |name: &Name| !resumed.done.contains_key(name);
        let jobs = jobs::jobs(&tables, extra.into_iter(), is_left, is_quick);
        let done = |known: BTreeMap<Name, Difference>| {
            let mut tally = Tally::default();
            if !resumed.done.is_empty() || !resumed.bounds.is_empty() {
                tally.tables = resumed.done.len() as u64;
                tally.rows = resumed.done.values().sum();
                let is_from_then = |name: &Name| !is_left(name) || resumed.bounds.contains_key(name);
                tally.differences = known;
                tally.differences.retain(|name, _| is_from_then(name));
            }
            tally
        };
        let tallies = known.into_iter().map(done).collect();
        let limits = monitor::Limits { lag: options.max_lag, running: options.max_running };
        let monitor = Monitor::new(readers.len(), limits);
        for (replica, above) in lost {
            let why = format!(
                "it cannot be waited for without GTIDs: server {above}, which it replicates from, is not compared"
            );
            monitor.fail(replica, why);
        }
        Ok(Run {
            source: self.source.clone(),
            monitor,
            words: words(options.hash)?,
            chunk_time: options.chunk_time,
            max_lock: options.max_lock,
            rows_shown: options.rows.unwrap_or(0),
            tallies: Mutex::new(tallies),
            jobs: Mutex::new(jobs),
            store: progress.map(Store::new),
            progress: progress::Progress::new(tables.values().map(|table| table.rows).sum()),
            replicas: readers,
            ignored_columns,
            tables,
            resumed,
        })
    }

    /// Goes through all jobs; returns why the source could not be read to the end.
    fn read(&self, run: &Run, watched: &[(Peer, Option<u64>)], begin: Instant) -> Option<String> {
        let deadline = self.options.budget.map(|budget| begin + budget);
        thread::scope(|scope| {
            scope.spawn(|| run.monitor.watch(&run.source, watched, deadline));
            let lane = |_| scope.spawn(|| thread::scope(|own| Lane::work(own, run)));
            let lanes: Vec<_> = (0..self.options.lanes).map(lane).collect();
            let panicked = |_| Err("a reply could not be parsed".to_owned());
            let ended: Vec<Result<(), String>> =
                lanes.into_iter().map(|lane| lane.join().unwrap_or_else(panicked)).collect();
            run.monitor.end();
            run.progress.end();
            ended.into_iter().find_map(Result::err).map(|why| format!("the source cannot be read: {why}"))
        })
    }

    /// Publishes what is known in the end. Not where all replicas differ from the source in the same way: it would take all
    /// of them out at once, and it may be the source that is wrong.
    fn publish(
        &mut self,
        report: &Report,
        identities: &[(usize, &Identity)],
        store: Option<&Store>,
    ) -> Result<(), client::Error> {
        let session = &mut *self.session;
        let is_whole = !self.options.is_partial();
        let mut progress = store.map(|store| store.progress.lock().unwrap_or_else(PoisonError::into_inner));
        for (place, identity) in identities {
            let Some(replica) = report.replicas.get(*place) else { continue };
            match (replica.state(), &progress) {
                (State::Inconsistent, _) if report.is_against_the_source() => {}
                (State::Inconsistent, _) => {
                    store::keep_all(session, identity, &replica.tally)?;
                    store::publish_inconsistent(session, identity, &store::Summary::of(&replica.tally))?;
                }
                (State::Consistent, Some(progress)) if is_whole => {
                    store::publish_consistent(session, identity, &replica.tally, progress.started())?;
                }
                (State::Consistent, None) if is_whole => store::publish_incomplete(session, identity, true)?,
                (State::Consistent, _) => {}
                (State::Incomplete, _) => store::publish_incomplete(session, identity, false)?,
            }
        }
        if let Some(progress) = &mut progress {
            // A run that came to its end, whatever it found, is not to be gone on with.
            if report.is_at_its_end() {
                progress.end(session)?;
            } else {
                progress.save(session)?;
            }
        }
        Ok(())
    }
}

/// Finds for each replica that is waited for by file and position the one above it, whose binary log has these. Returns those
/// that no way leads to from the source, with the `server_id` where the way ends.
fn chain(source: &Peer, readers: &mut [Reader]) -> Vec<(usize, u64)> {
    let ids: Vec<u64> = readers.iter().map(|reader| reader.peer.identity.server_id).collect();
    // One that was never connected to a source is found by the monitor.
    let is_direct = |reader: &Reader| {
        reader.means != Means::File || reader.sources.is_empty() || reader.sources.contains(&source.identity.server_id)
    };
    for reader in readers.iter_mut().filter(|reader| !is_direct(reader)) {
        reader.above = ids.iter().position(|id| reader.sources.contains(id));
    }
    let readers = &*readers;
    let lost = |at: usize| {
        let mut reader = readers.get(at)?;
        // More steps than replicas are a ring.
        for _ in readers {
            match reader.above.and_then(|above| readers.get(above)) {
                Some(above) => reader = above,
                None if is_direct(reader) => return None,
                None => break,
            }
        }
        Some((at, *reader.sources.first()?))
    };
    (0..readers.len()).filter_map(lost).collect()
}

/// What would be compared, and how.
fn explanation(
    replicas: &[report::Replica],
    candidates: &[Candidate],
    tables: &Catalog,
    ignored: &BTreeSet<String>,
) -> String {
    let mut text = String::new();
    for replica in replicas {
        let id = replica.server_id.map_or_else(String::new, |id| format!(" {id}"));
        let cannot = replica.failed.as_ref().map_or_else(String::new, |why| format!(": {why}"));
        let _ = writeln!(text, "replica{id} at {}{cannot}", replica.place);
    }
    for (name, source) in tables {
        let theirs: Vec<&Definition> =
            candidates.iter().filter_map(|candidate| candidate.reader.tables.get(name).map(|table| &**table)).collect();
        let plan = schema::plan(source, &theirs, &schema::columns_of(name, ignored));
        let missing = if theirs.len() < candidates.len() { ", missing on a replica" } else { "" };
        let how = match (schema::refusal(source), &plan.key) {
            (Some(why), _) => format!("not compared: {why}"),
            (None, Some(key)) => {
                let columns: Vec<&str> = key.columns.iter().map(|column| &*column.name).collect();
                format!("in chunks by {} ({})", key.index, columns.join(", "))
            }
            (None, None) => "as a whole, since no unique key is the same everywhere".to_owned(),
        };
        let _ = writeln!(text, "{name}: {how}, about {} rows, {} columns{missing}", plan.rows, plan.columns.len());
    }
    text
}

/// Whether the source is a `MySQL` that numbers its transactions.
fn has_sets(source: &Peer, session: &mut Session<'_>) -> bool {
    if source.family == Family::MariaDb {
        return false;
    }
    let mode = session.query("SELECT @@GLOBAL.gtid_mode AS mode");
    mode.is_ok_and(|rows| rows.first().is_some_and(|row| row.variable("mode").is_on()))
}

/// Words that no value has, new in each run.
fn words(hash: Hash) -> Result<Words> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    ensure!(filled.is_ok_and(|filled| filled == bytes.len()), "the kernel gives no random bytes");
    let letter = |byte: &u8| LETTERS.get(usize::from(byte % 32)).map_or('A', |letter| char::from(*letter));
    let (separator, null) = bytes.split_at(8);
    Ok(Words { separator: separator.iter().map(letter).collect(), null: null.iter().map(letter).collect(), hash })
}
