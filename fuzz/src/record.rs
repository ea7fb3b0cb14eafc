//! The file of a shared answer: any bytes in it, any two times, and a writer that dies at any point.

use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use check::fuzzing::{Key, Outcome, Sharing, Stamp, TEXT_MAX, read_record, still_busy_for, write_record};
use check::{Gauge, Quantity, down, up};
use serde_json::{Value, json};

use super::is_one_in;

/// Two times and the length of the text.
const HEADER: usize = 24;
/// How old an answer may be.
const LIMIT: Duration = Duration::from_secs(60);
/// What answers are made of, in bytes: so little that their text always fits.
const ANSWER_MAX: usize = 4096;

thread_local! {
    /// The same for all inputs: a file costs more than what is done with it.
    static FILE: File = tempfile::tempfile().unwrap();
}

/// Three numbers of 8 bytes (a limit in nanoseconds, and now by both clocks), then the bytes of the file.
pub fn run(input: &[u8]) {
    let Some((numbers, bytes)) = input.split_first_chunk::<24>() else { return };
    let [limit, monotonic, wall] = numbers_of(numbers);
    FILE.with(|file| {
        if let Some((then, _)) = read_back(file, bytes) {
            let times = [number(bytes, 0), number(bytes, 8)];
            is_fresh_by_both_clocks(file, then, times, [monotonic, wall], limit);
        }
        if is_one_in(8, input) {
            a_writer_may_die(file, bytes, limit);
        }
    });
}

fn numbers_of(bytes: &[u8; 24]) -> [u64; 3] {
    [0, 8, 16].map(|at| number(bytes, at))
}

fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// A text is there whole, as its header has it, or there is none.
fn read_back(file: &File, bytes: &[u8]) -> Option<(Stamp, Vec<u8>)> {
    fill(file, bytes);
    let found = read_record(file.as_fd());
    let text = bytes.get(HEADER..).and_then(|rest| {
        let length = usize::try_from(number(bytes, 16)).ok().filter(|length| *length <= TEXT_MAX)?;
        rest.get(..length)
    });
    assert_eq!(found.as_ref().map(|(_, text)| text.as_slice()), text);
    let _ = still_busy_for(file.as_fd());
    found
}

fn fill(file: &File, bytes: &[u8]) {
    file.write_all_at(bytes, 0).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
}

/// The stamp of these two times.
fn stamp(file: &File, times: [u64; 2]) -> Stamp {
    fill(file, &[times[0], times[1], 0].map(u64::to_ne_bytes).concat());
    read_record(file.as_fd()).unwrap().0
}

fn is_fresh_by_both_clocks(file: &File, then: Stamp, times: [u64; 2], now: [u64; 2], limit: u64) {
    assert_eq!(then, stamp(file, times));
    let is_fresh = times.iter().zip(now).all(|(then, now)| {
        let age = i128::from(now) - i128::from(*then);
        0 <= age && age < i128::from(limit)
    });
    let (now_stamp, limit) = (stamp(file, now), Duration::from_nanos(limit));
    assert_eq!(then.is_fresh(now_stamp, limit), is_fresh, "{times:?} at {now:?} within {limit:?}");
    assert_eq!(then.max(now_stamp), stamp(file, [times[0].max(now[0]), times[1].max(now[1])]));
    let before = times.map(|time| time.saturating_sub(u64::try_from(limit.as_nanos()).unwrap()));
    assert_eq!(then.earlier(limit), stamp(file, before));
}

/// A writer that is killed leaves the answer that was there, or its own, or none that is fresh: its text may be half there
/// under the old header, but it is only written because the old answer was too old.
fn a_writer_may_die(file: &File, bytes: &[u8], at: u64) {
    let (old, new) = bytes.split_at(bytes.len() / 2);
    let [old, new] = [old, new].map(|bytes| answer(bytes.get(..ANSWER_MAX).unwrap_or(bytes)));
    let sharing = Sharing { limit: LIMIT, directory: "/nowhere".into() };
    let key = Key::new(&sharing, "program", "key".into());
    let text = |Outcome { verdict, facts, gauges, .. }: &Outcome| {
        format!("key\n{}: {}\n{facts}\n{}", verdict.word(), verdict.reason(), json!(gauges))
    };
    let [old_text, new_text] = [&old, &new].map(text);
    let read = || read_record(file.as_fd());
    let fresh = || read().filter(|(stamp, _)| stamp.is_fresh(Stamp::now(), LIMIT));

    fill(file, &[]);
    assert!(write_record(file.as_fd(), Stamp::now().earlier(LIMIT), old_text.as_bytes()));
    assert_eq!(read().and_then(|(_, text)| key.read_record(&text, false)), Some(old));
    let written = usize::try_from(at).unwrap_or(usize::MAX) % (new_text.len() + 1);
    file.write_all_at(&new_text.as_bytes()[..written], HEADER as u64).unwrap();
    assert_eq!(fresh(), None);
    assert!(write_record(file.as_fd(), Stamp::now(), new_text.as_bytes()));
    assert_eq!(fresh().and_then(|(_, text)| key.read_record(&text, false)), Some(new));
}

/// An answer whose words, facts and numbers are made of these bytes.
fn answer(bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let (reason, fact) = text.split_once('|').unwrap_or((&text, ""));
    let verdict = if bytes.len().is_multiple_of(2) { up(reason) } else { down(reason) };
    let facts = if fact.is_empty() { Value::Null } else { json!({ "fact": fact }) };
    let gauge = || Gauge::new("n", "n", "", Some(Quantity::Count(bytes.len() as u64))).of("of", fact);
    let gauges = if fact.is_empty() { Vec::new() } else { vec![gauge()] };
    Outcome { facts, gauges, share: "shared".into(), ..verdict.into() }
}
