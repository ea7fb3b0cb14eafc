//! An operator's note: this server is out of rotation, why, until when, and who says so.
//!
//! The note is a small file in the syntax of option files, so that it survives a reboot and needs no server:
//!
//! ```text
//! [maintenance]                       # or the name of one program
//! mode   = drain                      # or down
//! until  = 2026-11-24T21:30:00Z       # absent: no end
//! reason = kernel upgrade
//! by     = alice
//! since  = 2026-11-24T21:00:00Z
//! instance = 3307                     # only the instance on this port
//! ```
//!
//! An empty file means down, without an end. A check never deletes it. The end never forces anything up: it lets the facts
//! decide again. What cannot be read, or is not to be trusted, is down, with the cause.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use client::option_file::{self, Setting};
use client::{Watch, options, trusted};

use crate::outcome::Outcome;
use crate::verdict::{Verdict, down, drain};

/// Where the note is, unless an option names another place: it survives a reboot.
pub const DEFAULT_FILE: &str = "/var/lib/mysqlchk/maintenance";
/// The group of a note for all programs.
pub const ALL_PROGRAMS: &str = "maintenance";
/// The largest note, in bytes.
const FILE_MAX: u64 = 16 * 1024;
/// What an empty note means, and one without a reason.
const NO_REASON: &str = "maintenance";

/// How a server is taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Sessions may go on, new ones go elsewhere.
    Drain,
    /// No sessions at all.
    Down,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// [`ALL_PROGRAMS`] or the name of one program.
    pub group: String,
    /// How the server is taken out.
    pub mode: Mode,
    /// The end, after which the note is as if it were not there; `None` for no end.
    pub until: Option<SystemTime>,
    /// Why.
    pub reason: Option<String>,
    /// Who wrote it.
    pub by: Option<String>,
    /// When it was written.
    pub since: Option<SystemTime>,
    /// The port of the only instance that is out; `None` for all.
    pub instance: Option<u16>,
}

/// Looks for a note that takes out the instance on `port` for `program`: its verdict and its end; down for a note that
/// cannot be read or is not to be trusted. `None` when no note is in force.
#[must_use]
pub fn look(file: &Path, program: &str, port: u16, watch: &dyn Watch) -> Option<Outcome> {
    let notes = match read(file, watch) {
        Ok(notes) => notes?,
        Err(error) => return Some(down(format!("cannot use maintenance note {}: {error:#}", file.display())).into()),
    };
    let now = SystemTime::now();
    let applies = |note: &&Note| {
        [ALL_PROGRAMS, program].contains(&note.group.as_str())
            && note.instance.is_none_or(|instance| instance == port)
            && note.is_in_force(now)
    };
    // Of two the stricter one counts.
    let note = notes.iter().filter(applies).max_by_key(|note| note.mode == Mode::Down)?;
    Some(Outcome { until: note.until, ..note.verdict(now).into() })
}

/// The notes of a file; `None` when there is no file.
///
/// # Errors
/// A file that cannot be read, is not to be trusted, or breaks the syntax. The message gives the cause and the line.
pub fn read(file: &Path, watch: &dyn Watch) -> Result<Option<Vec<Note>>> {
    let Some(bytes) = trusted::read_ours_if_there(file, FILE_MAX, watch)? else { return Ok(None) };
    let text = String::from_utf8(bytes).ok().context("it is not UTF-8 text")?;
    Note::parse(file, &text).map(Some)
}

impl Note {
    /// The notes of a text, one for each `[group]` line with keys. An empty text is a note, too: down for all programs, without an end.
    ///
    /// # Errors
    /// A group, key or value that a note does not have, or has already. The message names the line.
    pub fn parse(file: &Path, text: &str) -> Result<Vec<Note>> {
        // With the line of its header and the keys seen so far.
        let mut notes: Vec<(Note, usize, Vec<String>)> = Vec::new();
        for setting in option_file::parse(file, text)? {
            let Setting { group, key, value, place, header } = setting;
            ensure!(
                group == ALL_PROGRAMS || option_file::programs().any(|program| program == group),
                "{place}: [{group}] is neither [{ALL_PROGRAMS}] nor the name of a program"
            );
            if notes.last().is_none_or(|(_, line, _)| *line != header) {
                notes.push((Note::down(group), header, Vec::new()));
            }
            let Some((note, _, keys)) = notes.last_mut() else { continue };
            ensure!(
                !keys.contains(&key),
                "{place}: `{key}` stands twice in one note: begin each note with its [group]"
            );
            let value = value.with_context(|| format!("{place}: `{key}` needs a value"))?;
            let time = || humantime::parse_rfc3339(&value).ok().context("must be a time like 2026-11-24T21:30:00Z");
            let text = || Some(value.clone()).filter(|text| !text.is_empty());
            let taken = match key.as_str() {
                "mode" => mode(&value).map(|mode| note.mode = mode),
                "until" => time().map(|until| note.until = Some(until)),
                "since" => time().map(|since| note.since = Some(since)),
                "instance" => options::port(&value).map(|port| note.instance = Some(port)).map_err(anyhow::Error::msg),
                "reason" => {
                    note.reason = text();
                    Ok(())
                }
                "by" => {
                    note.by = text();
                    Ok(())
                }
                _ => bail!("{place}: a maintenance note has no `{key}`"),
            };
            taken.with_context(|| format!("{place}: `{key}`"))?;
            keys.push(key);
        }
        if notes.is_empty() {
            return Ok(vec![Note::down(ALL_PROGRAMS.to_owned())]);
        }
        let without = notes.iter().find(|(.., keys)| !keys.iter().any(|key| key == "mode"));
        ensure!(without.is_none(), "[{}] has no `mode`", without.map_or("", |(note, ..)| &note.group));
        Ok(notes.into_iter().map(|(note, ..)| note).collect())
    }

    /// Down, with nothing else said.
    #[must_use]
    pub fn down(group: String) -> Note {
        Note { group, mode: Mode::Down, until: None, reason: None, by: None, since: None, instance: None }
    }

    /// Whether the end has not come.
    #[must_use]
    pub fn is_in_force(&self, now: SystemTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }

    /// The note as it stands in a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text =
            format!("[{}]\nmode = {}\n", self.group, if self.mode == Mode::Drain { "drain" } else { "down" });
        let quoted = |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let time = |time| humantime::format_rfc3339_seconds(time).to_string();
        for (key, value) in [
            ("until", self.until.map(time)),
            ("reason", self.reason.as_deref().map(quoted)),
            ("by", self.by.as_deref().map(quoted)),
            ("since", self.since.map(time)),
            ("instance", self.instance.map(|port| port.to_string())),
        ] {
            if let Some(value) = value {
                let _ = writeln!(text, "{key} = {}", value.replace(['\n', '\r'], " "));
            }
        }
        text
    }

    /// The verdict while the note is in force: the reason, the end, and who wrote it.
    pub fn verdict(&self, now: SystemTime) -> Verdict {
        let mut text = self.reason.clone().unwrap_or_else(|| NO_REASON.to_owned());
        if let Some(until) = self.until {
            let _ = write!(text, ", until {}", short(until, now));
        }
        if let Some(by) = &self.by {
            let _ = write!(text, " ({by})");
        }
        match self.mode {
            Mode::Drain => drain(text),
            Mode::Down => down(text),
        }
    }
}

fn mode(word: &str) -> Result<Mode> {
    match word {
        "drain" => Ok(Mode::Drain),
        "down" => Ok(Mode::Down),
        _ => bail!("must be drain or down"),
    }
}

/// `21:30Z`, with the date when it is a day away or more.
fn short(time: SystemTime, now: SystemTime) -> String {
    let whole = humantime::format_rfc3339_seconds(time).to_string();
    // 2026-11-24T21:30:00Z
    let (date, clock) = whole.split_once('T').unwrap_or(("", &whole));
    let minutes = clock.get(..5).unwrap_or(clock);
    let is_near = time.duration_since(now).is_ok_and(|left| left < Duration::from_secs(24 * 60 * 60));
    if is_near { format!("{minutes}Z") } else { format!("{date} {minutes}Z") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    fn parse(text: &str) -> Result<Vec<Note>, String> {
        Note::parse(Path::new("/note"), text).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_note_is_shown_with_its_end_and_its_author() {
        let now = at("2026-11-24T21:00:00Z");
        for (text, shown) in [
            (
                "mode=drain\nreason=kernel upgrade\nuntil=2026-11-24T21:30:00Z\nby=alice",
                "drain: kernel upgrade, until 21:30Z (alice)",
            ),
            ("mode = down\nreason = new disk", "down: new disk"),
            ("mode=down\nuntil=2026-11-26T08:00:00Z", "down: maintenance, until 2026-11-26 08:00Z"),
            ("mode=drain\nby=bob\nreason=", "drain: maintenance (bob)"),
        ] {
            let notes = parse(&format!("[maintenance]\n{text}\n")).unwrap();
            assert_eq!(notes[0].verdict(now).to_string(), shown);
        }
    }

    #[test]
    fn what_is_not_a_note_is_refused_with_its_line() {
        assert_eq!(parse("# nothing\n\n"), Ok(vec![Note::down("maintenance".into())]));
        for (text, why) in [
            ("mode=drain\n", "/note:1: an option before the first [group]"),
            ("[maintenance]\nreason=x\n", "[maintenance] has no `mode`"),
            ("[maintenance]\nmode=up\n", "/note:2: `mode`: must be drain or down"),
            ("[maintenance]\nmode\n", "/note:2: `mode` needs a value"),
            (
                "[maintenance]\nmode=down\nuntil=tomorrow\n",
                "/note:3: `until`: must be a time like 2026-11-24T21:30:00Z",
            ),
            ("[maintenance]\nmode=down\nuntil=21:30\n", "/note:3: `until`: must be a time like 2026-11-24T21:30:00Z"),
            ("[maintenance]\nmode=down\ninstance=0\n", "/note:3: `instance`: must be a number from 1 to 65535"),
            ("[maintenance]\nmode=down\nhost=db01\n", "/note:3: a maintenance note has no `host`"),
            ("[client]\nmode=down\n", "/note:2: [client] is neither [maintenance] nor the name of a program"),
            ("!include /etc/my.cnf\n", "/note:1: this file cannot include others"),
        ] {
            assert_eq!(parse(text), Err(why.to_owned()), "{text:?}");
        }
    }

    #[test]
    fn a_note_is_read_as_it_was_written() {
        let note = Note {
            group: "mysqlchk-status".into(),
            mode: Mode::Drain,
            until: Some(at("2026-11-24T21:30:00Z")),
            reason: Some(r#"a "new" disk \ #2; it's slow"#.into()),
            by: Some("alice".into()),
            since: Some(at("2026-11-24T21:00:00Z")),
            instance: Some(3307),
        };
        assert_eq!(parse(&note.to_text()), Ok(vec![note.clone()]));
        let plain =
            Note { until: None, reason: Some("two\nlines".into()), by: None, since: None, instance: None, ..note };
        let read = parse(&plain.to_text()).unwrap();
        assert_eq!(read[0].reason.as_deref(), Some("two lines"));
    }

    #[test]
    fn a_key_belongs_to_the_header_above_it() {
        // The second header's end is not the first note's, wherever its `mode` stands.
        let two = "[maintenance]\nmode=drain\n[maintenance]\nuntil=2000-01-01T00:00:00Z\nmode=down\ninstance=3307\n";
        let seen: Vec<_> = parse(two).unwrap().iter().map(|note| (note.mode, note.until.is_some())).collect();
        assert_eq!(seen, [(Mode::Drain, false), (Mode::Down, true)]);
        for key in ["mode=down", "until=2000-01-01T00:00:00Z"] {
            let twice = format!("[maintenance]\nmode=drain\nuntil=2999-01-01T00:00:00Z\n{key}\n");
            assert!(parse(&twice).unwrap_err().contains("stands twice in one note"), "{key}");
        }
        let without = "[maintenance]\nmode=drain\n[maintenance]\nuntil=2000-01-01T00:00:00Z\n";
        assert_eq!(parse(without), Err("[maintenance] has no `mode`".to_owned()));
    }

    #[test]
    fn each_group_is_a_note_of_its_own() {
        let notes = parse("[mysqlchk-status]\nmode=drain\ninstance=3307\n[galera_chk]\nmode=down\n").unwrap();
        let seen: Vec<_> = notes.iter().map(|note| (note.group.as_str(), note.mode, note.instance)).collect();
        assert_eq!(seen, [("mysqlchk-status", Mode::Drain, Some(3307)), ("galera-chk", Mode::Down, None)]);
        let two = "[maintenance]\nmode=drain\ninstance=3306\n[maintenance]\nmode=down\ninstance=3307\n";
        let seen: Vec<_> = parse(two).unwrap().iter().map(|note| (note.mode, note.instance)).collect();
        assert_eq!(seen, [(Mode::Drain, Some(3306)), (Mode::Down, Some(3307))]);
    }
}
