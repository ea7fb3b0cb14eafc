//! Compares a table, from its definition to its rows. What differs where all are asked at the same moment is looked at again
//! by [`crate::chase`].

use std::collections::BTreeSet;
use std::time::Instant;

use crate::bounds::{FIRST, Walk};
use crate::catalog;
use crate::chase::Found;
use crate::expression::{self, Range, WARNINGS};
use crate::lanes::{Lane, Trouble, key_of, sum_of};
use crate::peer::STATEMENT_MAX_S;
use crate::schema::{self, ChunkKey, Definition, Name, Plan};
use crate::tally::Difference;

/// A table without a unique key is read in one statement; above this estimate that would not end in time.
const BAG_ROWS_MAX: u64 = 20_000_000;
/// Why a table was not read.
pub(crate) const OVER: &str = "the time was over (--budget)";
/// How often a table whose definition changes meanwhile is begun again.
const ATTEMPTS: usize = 3;

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

impl Lane<'_> {
    /// Compares one table, from its definition to its rows.
    pub(crate) fn table(&mut self, name: &Name) -> Result<(), Trouble> {
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

    /// A table as the catalogs have it, where they leave no doubt.
    pub(crate) fn known(&self, name: &Name) -> Option<Table> {
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

    /// Compares the rows of a table; returns how many the source has.
    fn compare(&mut self, table: &Table) -> Result<u64, Trouble> {
        let Some(key) = &table.plan.key else { return self.bag(table) };
        let (name, run) = (&table.name, self.run);
        let (mut walk, mut total) = self.walk(table, key)?;
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
    fn walk(&mut self, table: &Table, key: &ChunkKey) -> Result<(Walk, u64), Trouble> {
        let name = &table.name;
        let (lower, total) = self.run.resumed.bounds.get(name).cloned().unzip();
        let rest = Range { lower, upper: None };
        let mut questions = vec![expression::bound(name, key, &rest, FIRST)];
        if key.is_integer {
            questions.push(expression::last(name, key));
        }
        let mut answers = self.ask_source(&questions)?.into_iter();
        let first = answers.next().and_then(|rows| key_of(key, &rows));
        let last = answers.next().and_then(|rows| key_of(key, &rows)?.first()?.parse().ok());
        let (row_bytes, target) = (table.plan.row_bytes, self.run.chunk_time);
        let walk = Walk::new(rest.lower, first, last, row_bytes, target, self.trip(&table.on));
        Ok((walk, total.unwrap_or(0)))
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
}
