//! Takes a server out of rotation with a reason and an end, and puts it back; and finds out why a check is down.

mod account;
mod doctor;
mod galera;
mod options;
mod processes;
mod shell;
mod sockets;
mod store;

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use anyhow::Result;
use check::maintenance::{Mode, Note};
use clap::Parser;
use client::duration;

use options::{Command, Options, Out, Scope, Up};
use sockets::Place;
use store::Store;

/// How often the sessions are counted.
const PAUSE: Duration = Duration::from_millis(200);

fn main() -> ExitCode {
    let Options { maintenance_file, command } = Options::parse();
    let store = Store::new(maintenance_file);
    let done = match command {
        Command::Drain(out) => take_out(&store, Mode::Drain, &out),
        Command::Down(out) => take_out(&store, Mode::Down, &out),
        Command::Up(up) => put_back(&store, &up),
        Command::Status => Ok(status(&store)),
        Command::Doctor(doctor) => doctor::examine(&doctor, &store),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let _ = writeln!(io::stderr(), "mysqlchk-ctl: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn say(text: impl Display) {
    // A reader that went away is not an error: the work is done all the same.
    let _ = writeln!(io::stdout(), "{text}");
}

/// Writes the note, and waits as asked; whether all sessions have ended, where that was asked for.
fn take_out(store: &Store, mode: Mode, out: &Out) -> Result<bool> {
    out.validate()?;
    if !out.force {
        galera::ensure_not_needed(out.defaults_file.as_deref(), out.scope.instance)?;
    }
    let now = SystemTime::now();
    let Scope { instance, .. } = out.scope;
    let group = out.scope.group();
    let note = Note {
        group: group.clone(),
        mode,
        until: out.time.map(|time| now + time),
        reason: Some(out.reason.clone()),
        by: Some(out.owner.clone().unwrap_or_else(options::user)),
        since: Some(now),
        instance,
    };
    let shown = note.verdict(now);
    let replaced = store.change(|notes| {
        let old = notes.iter().position(|old| old.group == group && old.instance == note.instance);
        match old.and_then(|at| notes.get(at)) {
            // A hook does not replace what a person wrote.
            Some(old) if out.owner.is_some() && old.by != note.by && old.is_in_force(now) => Err(old.clone()),
            old => {
                let replaced = old.filter(|old| old.by != note.by && old.is_in_force(now)).cloned();
                notes.retain(|old| old.is_in_force(now) && !(old.group == group && old.instance == note.instance));
                notes.push(note);
                Ok(replaced)
            }
        }
    })?;
    match replaced {
        Err(other) => say(format!("{group}: left as it is: {}", other.verdict(now))),
        Ok(replaced) => {
            if let Some(old) = replaced {
                say(format!("{group}: replaces: {}", old.verdict(now)));
            }
            say(format!("{group}: {shown}"));
        }
    }
    thread::sleep(out.settle);
    match out.wait {
        Some(wait) => wait_for_sessions(out.place(), wait),
        None => Ok(true),
    }
}

/// Waits until no session is left.
fn wait_for_sessions(place: Place, wait: Duration) -> Result<bool> {
    let end = Instant::now() + wait;
    let is_terminal = io::stdout().is_terminal();
    loop {
        let count = place.sessions()?;
        if is_terminal {
            let _ = write!(io::stdout(), "\r{count} sessions on {place}   ");
            let _ = io::stdout().flush();
        }
        if count == 0 || Instant::now() >= end {
            if is_terminal {
                say("");
            }
            let left = match count {
                0 => "no sessions are".to_owned(),
                1 => "1 session is still".to_owned(),
                _ => format!("{count} sessions are still"),
            };
            say(format!("{left} on {place}"));
            return Ok(count == 0);
        }
        thread::sleep(PAUSE);
    }
}

/// The group of a note, and its instance.
fn name(note: &Note) -> String {
    note.instance.map_or_else(|| note.group.clone(), |port| format!("{}, instance {port}", note.group))
}

/// Removes the notes that are meant; a hook removes only its own.
fn put_back(store: &Store, up: &Up) -> Result<bool> {
    let now = SystemTime::now();
    let Scope { instance, .. } = up.scope;
    let group = up.scope.group();
    if up.scope.is_everything() && up.owner.is_none() {
        // Also a file that nobody can use.
        let gone = store.clear()?;
        for note in &gone {
            say(format!("{}: the note is gone", name(note)));
        }
        if gone.is_empty() {
            say(format!("{group}: there was no note"));
        }
        return Ok(true);
    }
    let is_meant = |note: &Note| {
        up.scope.is_everything() || (note.group == group && instance.is_none_or(|port| note.instance == Some(port)))
    };
    let may_go = |note: &Note| up.owner.is_none() || note.by == up.owner;
    let (gone, left) = store.change(|notes| {
        let (meant, others): (Vec<_>, Vec<_>) = notes.drain(..).partition(is_meant);
        let (gone, left): (Vec<_>, Vec<_>) = meant.into_iter().partition(may_go);
        notes.extend(others);
        notes.extend(left.clone());
        notes.retain(|note| note.is_in_force(now));
        (gone, left)
    })?;
    for note in &left {
        say(format!("{}: left as it is: {}", name(note), note.verdict(now)));
    }
    for note in &gone {
        say(format!("{}: the note is gone", name(note)));
    }
    if gone.is_empty() && left.is_empty() {
        say(format!("{group}: there was no note"));
    }
    Ok(true)
}

/// Shows the notes; whether none is in force.
fn status(store: &Store) -> bool {
    let now = SystemTime::now();
    let notes = match store.read() {
        Ok(None) => {
            say("no maintenance note");
            return true;
        }
        Ok(Some(notes)) => notes,
        Err(error) => {
            say(format!("all programs: down: {error:#}"));
            return false;
        }
    };
    for note in &notes {
        let since = note.since.map_or_else(String::new, |since| {
            let age = now.duration_since(since).unwrap_or_default();
            format!(", for {} now", duration::show(Duration::from_secs(age.as_secs())))
        });
        let expired = if note.is_in_force(now) { "" } else { " [its end has passed]" };
        say(format!("{}: {}{since}{expired}", name(note), note.verdict(now)));
    }
    !notes.iter().any(|note| note.is_in_force(now))
}
