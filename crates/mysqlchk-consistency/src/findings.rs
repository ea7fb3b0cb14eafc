//! What was found is counted, and written down on the source while the run goes on.

use std::sync::{Arc, PoisonError};

use client::Error;

use crate::chase::Found;
use crate::expression::KeyValues;
use crate::lanes::Lane;
use crate::peer::Identity;
use crate::schema::{self, Name};
use crate::store::{self, Summary};
use crate::tally::{Difference, Tally};

impl<'run> Lane<'run> {
    pub(crate) fn tally(&self, replica: usize, change: impl FnOnce(&mut Tally)) {
        let mut tallies = self.run.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(tally) = tallies.get_mut(replica) {
            change(tally);
        }
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

    /// Adds what was found in a table to what is known of the replica.
    pub(crate) fn differ(&self, replica: usize, name: &Name, found: Found) {
        let before = self.known_before(replica, name);
        self.tally(replica, |tally| {
            if found.unsettled > 0 {
                let why = format!("{} rows did not stand still: {}", found.unsettled, found.why);
                tally.skipped.insert(name.clone(), why);
                // It counts as compared or as skipped, not as both.
                tally.tables -= u64::from(found.differ.count == 0);
            }
            if found.differ.count > 0 {
                let mut differ = found.differ;
                differ.count += before;
                tally.differences.insert(name.clone(), Difference::Rows(differ));
            }
        });
    }

    /// How many rows of a table differ that the run found which this one goes on with.
    pub(crate) fn known_before(&self, replica: usize, name: &Name) -> u64 {
        let tallies = self.run.tallies.lock().unwrap_or_else(PoisonError::into_inner);
        match tallies.get(replica).and_then(|tally| tally.differences.get(name)) {
            Some(Difference::Rows(before)) => before.count,
            _ => 0,
        }
    }

    /// Writes down that a table is done: what differs in it for the checks and for `--recheck`, and how far the run got. A
    /// difference is published at once, but not one that all replicas have alike: then it may be the source that is wrong.
    pub(crate) fn conclude(&mut self, name: &Name, rows: u64) {
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

    pub(crate) fn is_due(&self) -> bool {
        let store = self.run.store.as_ref();
        store.is_some_and(|store| store.progress.lock().unwrap_or_else(PoisonError::into_inner).is_due())
    }

    /// Writes down how far a table is read, and what was found in it so far.
    pub(crate) fn write_down(&mut self, name: &Name, end: &KeyValues, total: u64, found: &[Found]) {
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
}
