//! What there is to do: tables, the small ones together. Each lane takes one job after the other.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::thread::Scope;

use crate::bounds::FIRST;
use crate::catalog::Catalog;
use crate::expression::{self, Range, WARNINGS};
use crate::lanes::{Lane, Run, Trouble, sum_at};
use crate::schema::{Definition, Name};

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

/// What a lane takes at a time.
#[derive(Debug, Clone)]
pub(crate) enum Job {
    One(Name),
    Small(Vec<Name>),
    /// To be compared by the server's own checksum, and where that differs in the ordinary way.
    Quick(Vec<Name>),
}

impl Lane<'_> {
    /// Goes through the jobs until there is none left.
    ///
    /// # Errors
    /// When the source cannot be asked any more.
    pub(crate) fn work<'scope>(scope: &'scope Scope<'scope, '_>, run: &'scope Run) -> Result<(), String> {
        let mut lane = Lane::open(scope, run).map_err(|error| error.to_string())?;
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
