//! Looks again at what differed when both ends were read at the same moment, until each row is settled.
//!
//! Most of it is what was written in between: it is gone when the replica has applied what the source had committed. What is
//! left is halved until few rows are left, then told row by row, in rounds ([`crate::settle`]). A row that the rounds call
//! different, or that never stands still, is proved under a shared lock on that one row: while it is held no transaction
//! can change the row, and the position that is read after it covers every commit that the locking read saw.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use client::{Error, Family, Rows};

use crate::expression::{self, KeyValues, Range, WARNINGS};
use crate::lanes::{Lane, Trouble, key_of, key_of_row, sum_of};
use crate::position::{self, APPLIED, Means, Position};
use crate::schema::ChunkKey;
use crate::settle::{Seen, Step, Suspect};
use crate::tables::{OVER, Table};
use crate::tally::{Difference, KEYS_MAX, RowDiffers, RowKind, RowsDiffer};

/// A range with fewer rows is told row by row.
const LEAF: u64 = 500;
/// More rows than this in a range that had fewer: it is halved again.
const LEAF_MAX: usize = 4000;
/// How many ranges are looked at after one wait.
const TOGETHER: usize = 8;
/// How many rows of a table are proved under a lock; the rest are told by rounds alone.
const PROOFS: u64 = 100;
/// The pause after a round in which a row moved; it doubles.
const PAUSE: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// How long the replica is waited for before it is looked whether it applies at all.
const WAIT: Duration = Duration::from_secs(1);
/// A commit of `MySQL` can be seen a moment before its GTID is in `gtid_executed`: the second look at a row under the lock
/// comes this much later.
const SECOND_LOOK: Duration = Duration::from_millis(10);

/// What is left of the suspects of one table on one replica.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) differ: RowsDiffer,
    pub(crate) unsettled: u64,
    /// Why they are not settled.
    pub(crate) why: String,
    proofs: u64,
}

/// The hashes of rows, by key.
type Hashes = BTreeMap<KeyValues, String>;

impl Lane<'_> {
    /// Waits until a replica has applied what the source has committed by now.
    pub(crate) fn catch_up(&mut self, replica: usize) -> Result<(), Trouble> {
        let position = self.position(replica)?;
        self.reach(replica, position, None).map(drop)
    }

    /// Waits until a replica has applied a position of the source; `false` when it has not at this time.
    fn reach(&mut self, replica: usize, mut position: Position, end: Option<Instant>) -> Result<bool, Trouble> {
        if let Some(above) = self.run.replicas.get(replica).and_then(|replica| replica.above) {
            // A file of the source says nothing to it. All that the one above has applied is in the log of that one.
            match self.passed_on(above, position, end) {
                Ok(Some(logged)) => position = logged,
                Ok(None) => return Ok(false),
                Err(Trouble::Replica) => {
                    let why = self.run.monitor.failure(above);
                    let why = why.unwrap_or_else(|| "it does not show its binary log".to_owned());
                    self.run.monitor.fail(replica, format!("its source cannot be waited for: {why}"));
                    return Err(Trouble::Replica);
                }
                Err(trouble) => return Err(trouble),
            }
        }
        let since = Instant::now();
        loop {
            let wait = end.map_or(WAIT, |end| end.saturating_duration_since(Instant::now()).min(WAIT));
            // To a server 0 is without end.
            if wait < Duration::from_millis(1) {
                return Ok(false);
            }
            if self.has_applied(replica, &position, wait)? {
                return Ok(true);
            }
            if let Some(why) = self.run.monitor.stall(replica, since) {
                self.run.monitor.fail(replica, why);
                return Err(Trouble::Replica);
            }
        }
    }

    /// Where the binary log of a replica is once it has applied a position, for the replica that reads it; `None` when it has
    /// not applied it at this time.
    fn passed_on(
        &mut self,
        replica: usize,
        position: Position,
        end: Option<Instant>,
    ) -> Result<Option<Position>, Trouble> {
        if self.run.monitor.failure(replica).is_some() {
            return Err(Trouble::Replica);
        }
        if !self.reach(replica, position, end)? {
            return Ok(None);
        }
        let question = Means::File.question(self.family(replica)).to_owned();
        let rows = match self.ask_replica(replica, vec![question]) {
            Err(Trouble::Table(_)) => Vec::new(),
            rows => rows?,
        };
        let position = Means::File.read(rows.first().and_then(|rows| rows.first()));
        position.map(Some).ok_or(Trouble::Replica)
    }

    fn means(&self, replica: usize) -> Means {
        self.run.replicas.get(replica).map_or(Means::Cluster, |replica| replica.means)
    }

    /// Where the source is, as this replica can be asked for it.
    fn position(&mut self, replica: usize) -> Result<Position, Trouble> {
        let means = self.means(replica);
        let question = means.question(self.run.source.family).to_owned();
        let answers = self.ask_source(&[question])?;
        means.read(answers.first().and_then(|rows| rows.first())).ok_or_else(|| {
            self.run.monitor.fail(replica, "the source has no binary log, so it cannot be waited for");
            Trouble::Replica
        })
    }

    fn family(&self, replica: usize) -> Family {
        self.run.replicas.get(replica).map_or(Family::MariaDb, |replica| replica.peer.family)
    }

    /// Whether a replica has applied a position, at the latest after this time.
    fn has_applied(&mut self, replica: usize, position: &Position, wait: Duration) -> Result<bool, Trouble> {
        let family = self.family(replica);
        let mut position = position.clone();
        if let Position::Domains(gtids) = &position {
            let rows = self.ask_replica(replica, vec![APPLIED.to_owned()])?;
            let text = |name| rows.first().and_then(|rows| rows.first()?.get(&[name])).unwrap_or_default();
            let left = position::outstanding(gtids, text("applied"), text("logged"));
            if left.is_empty() {
                return Ok(true);
            }
            position = Position::Domains(left);
        }
        let statement = position::wait(&position, family, wait);
        let rows = self.ask_replica(replica, vec![statement])?;
        match rows.first().and_then(|rows| rows.first()?.get(&["w"])) {
            Some("0") => Ok(true),
            Some(_) => Ok(false),
            None => {
                self.run.monitor.fail(replica, "it cannot be waited for: it does not replicate from this source");
                Err(Trouble::Replica)
            }
        }
    }

    /// Settles ranges of a table that differed.
    pub(crate) fn chase(
        &mut self,
        table: &Table,
        replica: usize,
        mut ranges: Vec<Range>,
        found: &mut Found,
    ) -> Result<(), Trouble> {
        // A stack, so that few are there at a time; the first range is on top.
        ranges.reverse();
        while !ranges.is_empty() {
            self.run.monitor.pause();
            if self.run.monitor.is_over() {
                return Err(Trouble::Refused(OVER.to_owned()));
            }
            let some = ranges.split_off(ranges.len().saturating_sub(TOGETHER));
            self.catch_up(replica)?;
            for range in some.into_iter().rev() {
                ranges.extend(self.look_again(table, replica, range, found)?);
            }
        }
        found.differ.sort();
        if self.run.rows_shown > 0 {
            self.name_columns(table, replica, found)?;
        }
        Ok(())
    }

    /// Reads a range again; returns its halves when it still differs and has many rows.
    fn look_again(
        &mut self,
        table: &Table,
        replica: usize,
        range: Range,
        found: &mut Found,
    ) -> Result<Vec<Range>, Trouble> {
        let key = table.key()?;
        let statements = [expression::chunk(&table.name, &table.plan, &self.run.words, &range), WARNINGS.to_owned()];
        let (own, theirs) = self.ask(&[replica], &statements, &statements)?;
        let (_, theirs) = theirs.first().ok_or(Trouble::Replica)?;
        let (source, theirs) = (sum_of(&own)?, sum_of(theirs)?);
        if source == theirs {
            return Ok(Vec::new());
        }
        let rows = source.rows.max(theirs.rows);
        if rows <= LEAF && self.rows(table, replica, key, &range, found)? {
            return Ok(Vec::new());
        }
        // By the end that has more rows: the other one may have next to none of them.
        let bound = vec![expression::bound(&table.name, key, &range, rows / 2)];
        let answers =
            if source.rows >= theirs.rows { self.ask_source(&bound)? } else { self.ask_replica(replica, bound)? };
        Ok(match answers.first().and_then(|rows| key_of(key, rows)) {
            Some(middle) if Some(&middle) != range.upper.as_ref() => vec![
                Range { lower: Some(middle.clone()), upper: range.upper },
                Range { lower: range.lower, upper: Some(middle) },
            ],
            _ => vec![range],
        })
    }

    /// Tells the rows of a range one by one; `false` when there are too many by now.
    fn rows(
        &mut self,
        table: &Table,
        replica: usize,
        key: &ChunkKey,
        range: &Range,
        found: &mut Found,
    ) -> Result<bool, Trouble> {
        let words = &self.run.words;
        let by_range = expression::rows(&table.name, &table.plan, key, words, range, LEAF_MAX);
        let mut suspects: BTreeMap<KeyValues, Suspect> = BTreeMap::new();
        let mut pause = PAUSE;
        let mut is_first = true;
        loop {
            let keys: Vec<&KeyValues> = suspects.keys().collect();
            let statement = if is_first {
                by_range.clone()
            } else {
                expression::rows_of(&table.name, &table.plan, key, &self.run.words, &keys)
            };
            let before = hashes(key, &self.ask_source(std::slice::from_ref(&statement))?);
            self.catch_up(replica)?;
            let theirs = hashes(key, &self.ask_replica(replica, vec![statement.clone()])?);
            let after = hashes(key, &self.ask_source(&[statement])?);
            if is_first {
                if [&before, &theirs, &after].iter().any(|rows| rows.len() >= LEAF_MAX) {
                    return Ok(false);
                }
                let keys = before.keys().chain(theirs.keys()).chain(after.keys());
                suspects = keys.map(|key| (key.clone(), Suspect::default())).collect();
                is_first = false;
            }
            let mut settled: BTreeSet<KeyValues> = BTreeSet::new();
            let mut is_moving = false;
            for (values, suspect) in &mut suspects {
                let seen = |hashes: &Hashes| hashes.get(values).cloned();
                match suspect.round(&seen(&before), &seen(&theirs), &seen(&after)) {
                    Step::Again => continue,
                    Step::Moving => {
                        is_moving = true;
                        continue;
                    }
                    Step::Equal => {}
                    Step::Different(source, theirs) => {
                        self.prove(table, replica, key, values, Some((source, theirs)), found)?;
                    }
                    Step::Unsettled => self.prove(table, replica, key, values, None, found)?,
                }
                settled.insert(values.clone());
            }
            suspects.retain(|values, _| !settled.contains(values));
            if suspects.is_empty() {
                return Ok(true);
            }
            if is_moving {
                thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }

    /// Settles a row for good; `told` is what the rounds made of it, `None` when it never stood still.
    fn prove(
        &mut self,
        table: &Table,
        replica: usize,
        key: &ChunkKey,
        values: &KeyValues,
        told: Option<(Seen, Seen)>,
        found: &mut Found,
    ) -> Result<(), Trouble> {
        // On Galera a writer of another node does not wait for our lock.
        let can_lock = table.plan.has_row_locks && self.means(replica) != Means::Cluster;
        let proved = if can_lock && found.proofs < PROOFS {
            found.proofs += 1;
            self.under_lock(table, replica, key, values)?
        } else {
            Proof::None("it cannot be locked")
        };
        let different = match (proved, told) {
            (Proof::Equal, _) => return Ok(()),
            (Proof::Different(source, theirs), _) => (source, theirs),
            // Seen twice with the same values, and beyond the rows that are proved.
            (Proof::None(_), Some(told)) if !can_lock || found.proofs >= PROOFS => told,
            (Proof::None(why), _) => {
                found.unsettled += 1;
                why.clone_into(&mut found.why);
                return Ok(());
            }
        };
        found.differ.count += 1;
        if found.differ.rows.len() < KEYS_MAX {
            let (source, replica) = different;
            found.differ.rows.push(RowDiffers { key: values.clone(), source, replica, columns: Vec::new() });
        }
        Ok(())
    }

    /// Reads a row on the source under a shared lock, and on the replica once it has applied what the source had committed.
    /// The lock is held at most `--max-lock`, and no other one is waited for.
    fn under_lock(
        &mut self,
        table: &Table,
        replica: usize,
        key: &ChunkKey,
        values: &KeyValues,
    ) -> Result<Proof, Trouble> {
        let plain = expression::rows_of(&table.name, &table.plan, key, &self.run.words, &[values]);
        let lock = match self.run.source.family {
            Family::MySql(8.., ..) => "FOR SHARE",
            _ => "LOCK IN SHARE MODE",
        };
        self.source.execute("START TRANSACTION").map_err(Self::of_source)?;
        let end = Instant::now() + self.run.max_lock;
        let proof = match self.ask_source(&[format!("{plain} {lock}")]) {
            Ok(rows) => {
                let source = hashes(key, &rows).remove(values);
                self.compare_with(replica, key, values, &plain, source, end)
            }
            // Another transaction holds the row.
            Err(Trouble::Table(_)) => Ok(Proof::None("the lock on the row was not granted")),
            Err(trouble) => Err(trouble),
        };
        self.source.execute("ROLLBACK").map_err(Self::of_source)?;
        proof
    }

    fn compare_with(
        &mut self,
        replica: usize,
        key: &ChunkKey,
        values: &KeyValues,
        plain: &str,
        source: Seen,
        end: Instant,
    ) -> Result<Proof, Trouble> {
        let mut theirs = None;
        for is_second in [false, true] {
            if is_second {
                thread::sleep(SECOND_LOOK);
            }
            let position = self.position(replica)?;
            if !self.reach(replica, position, Some(end))? {
                return Ok(Proof::None("the replica did not apply in time, see --max-lock"));
            }
            theirs = hashes(key, &self.ask_replica(replica, vec![plain.to_owned()])?).remove(values);
            if theirs == source {
                return Ok(Proof::Equal);
            }
        }
        Ok(Proof::Different(source, theirs))
    }

    /// Settles a table without a unique key, which can only be read as a whole.
    pub(crate) fn chase_bag(&mut self, table: &Table, replica: usize, statements: &[String]) -> Result<(), Trouble> {
        let mut suspect = Suspect::default();
        let mut pause = PAUSE;
        loop {
            let before = sum_of(&self.source.query_each(statements))?;
            self.catch_up(replica)?;
            let answers = self.ask_replica(replica, statements.to_vec())?.into_iter().map(Ok).collect();
            let theirs = sum_of(&answers)?;
            let after = sum_of(&self.source.query_each(statements))?;
            let [seen_before, seen_theirs, seen_after] = [&before, &theirs, &after].map(|sum| Some(sum.to_string()));
            match suspect.round(&seen_before, &seen_theirs, &seen_after) {
                Step::Again => continue,
                Step::Moving => {
                    thread::sleep(pause);
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
                Step::Equal => {}
                Step::Different(..) => self.tally(replica, |tally| {
                    tally.differences.insert(table.name.clone(), Difference::Bag(before.rows, theirs.rows));
                }),
                Step::Unsettled => {
                    let why = "it has no unique key and did not stand still".to_owned();
                    self.tally(replica, |tally| _ = tally.skipped.insert(table.name.clone(), why));
                    return Ok(());
                }
            }
            self.equal(replica, &table.name, before.rows);
            return Ok(());
        }
    }

    /// Finds out which columns differ of the rows that are shown.
    fn name_columns(&mut self, table: &Table, replica: usize, found: &mut Found) -> Result<(), Trouble> {
        let key = table.key()?;
        let shown = self.run.rows_shown;
        for row in found
            .differ
            .rows
            .iter_mut()
            .take(shown)
            .filter(|row| row.columns.is_empty() && row.kind() == RowKind::Differs)
        {
            let statement = [expression::columns_of(&table.name, &table.plan, key, &self.run.words, &row.key)];
            let (own, theirs) = self.ask(&[replica], &statement, &statement)?;
            let (_, theirs) = theirs.first().ok_or(Trouble::Replica)?;
            let [own, theirs] =
                [&own, theirs].map(|answers| answers.first().and_then(|answer| answer.as_ref().ok()?.first()));
            let (Some(own), Some(theirs)) = (own, theirs) else { continue };
            let differs = |at: &usize| {
                let column = format!("c{at}");
                own.get(&[&column]) != theirs.get(&[&column])
            };
            let columns = table.plan.columns.iter().enumerate().filter(|(at, _)| differs(at));
            row.columns = columns.map(|(_, column)| column.name.clone()).collect();
        }
        Ok(())
    }
}

/// What the look under the lock says.
enum Proof {
    Equal,
    Different(Seen, Seen),
    /// Nothing, because of this.
    None(&'static str),
}

fn hashes(key: &ChunkKey, rows: &[Rows]) -> Hashes {
    let rows = rows.first().map(|rows| &**rows).unwrap_or_default();
    rows.iter().filter_map(|row| Some((key_of_row(key, row)?, row.get(&["h"])?.to_owned()))).collect()
}

/// The numbers of a statement that took too long.
pub(crate) fn is_too_long(error: &Error) -> bool {
    error.is(&[client::error::ER_STATEMENT_TIMEOUT_MARIADB, client::error::ER_QUERY_TIMEOUT])
}
