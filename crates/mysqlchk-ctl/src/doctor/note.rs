//! The maintenance note: whether it keeps the checks down, and whether somebody has forgotten it.

use std::time::{Duration, SystemTime};

use check::maintenance::ALL_PROGRAMS;
use client::duration;

use super::{Finding, Report};
use crate::store::Store;

/// A note without an end is older than this when somebody has forgotten it.
const FORGOTTEN: Duration = Duration::from_secs(4 * 60 * 60);

/// Whether one is in force.
pub(super) fn examine(store: &Store, report: &mut Report) -> bool {
    let now = SystemTime::now();
    let notes = match store.read() {
        Ok(notes) => notes.unwrap_or_default(),
        Err(error) => {
            report.add(Finding::fail("note", format!("{error:#}")).cured_by(store.command("up")));
            return true;
        }
    };
    let in_force: Vec<_> = notes.iter().filter(|note| note.is_in_force(now)).collect();
    for note in &in_force {
        let age = note.since.and_then(|since| now.duration_since(since).ok()).map(|age| age.as_secs());
        let age = age.map_or_else(String::new, |age| format!(", for {} now", duration::show(Duration::from_secs(age))));
        let end = if note.until.is_none() { "; it has no end" } else { "" };
        let only = Some(&note.group).filter(|group| *group != ALL_PROGRAMS).map(|group| format!(" --only={group}"));
        let instance = note.instance.map(|port| format!(" --instance={port}"));
        let up = store.command("up") + &only.unwrap_or_default() + &instance.unwrap_or_default();
        let finding = Finding::fail("note", format!("{}{age}{end}", note.verdict(now)));
        // Somebody is at work, or a hook of a restart.
        let is_forgotten = note.until.is_none() && note.since.is_none_or(|since| since + FORGOTTEN < now);
        report.add(finding.cured_by(if is_forgotten { up } else { format!("# {up}") }));
    }
    if in_force.is_empty() {
        report.add(Finding::ok("note", "none is in force"));
    }
    !in_force.is_empty()
}
