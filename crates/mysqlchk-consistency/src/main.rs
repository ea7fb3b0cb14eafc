//! Do the replicas hold the same data as their source? For hand and cron.
//!
//! ```text
//! discover -> catalog -> lanes( schema -> expression -> chunks in lockstep -> chase( settle ) ) -> tally -> report
//! ```
//!
//! Only SELECTs, on the source and on the replicas. [`lanes`] says how equal data is told, [`chase`] how a difference is
//! proved.

mod bounds;
mod catalog;
mod chase;
mod discover;
mod expression;
mod filters;
mod lanes;
mod monitor;
mod options;
mod peer;
mod position;
mod report;
mod schema;
mod settle;
mod status;
mod tally;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use client::command_line::{self, Asked, Configured, Program};
use client::{Family, Session};

use catalog::{Catalog, Lexicon};
use discover::Access;
use expression::Words;
use filters::Filters;
use lanes::{Lane, Reader, Run};
use monitor::Monitor;
use options::Options;
use peer::Peer;
use position::Means;
use report::Report;
use schema::{Definition, Name};
use tally::Tally;

const NAME: &str = env!("CARGO_PKG_NAME");
const GROUP_OF_REPLICAS: &str = "mysqlchk-consistency-replica";
const ABOUT: &str = "Compares the data of replicas with that of their source";
/// Not made as configured.
const MISCONFIGURED: u8 = 2;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    match run(&arguments) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            let _ = writeln!(io::stderr(), "{NAME}: {error:#}");
            ExitCode::from(MISCONFIGURED)
        }
    }
}

fn say(text: impl Display) {
    // A reader that went away is not an error: the exit status has the verdict.
    let _ = write!(io::stdout(), "{text}");
}

/// The options, for the source or with those of the replicas' group on top.
fn read(arguments: &[OsString], groups: &[&str]) -> Result<Asked<Options>> {
    let program = Program { name: NAME, groups, about: ABOUT, version: env!("CARGO_PKG_VERSION") };
    command_line::parse::<Options>(program, arguments, &(), |_, _| ())
}

fn run(arguments: &[OsString]) -> Result<u8> {
    let begin = Instant::now();
    let Configured { target, account, own: options } = match read(arguments, &[NAME])? {
        Asked::Print(text) => {
            say(text);
            return Ok(0);
        }
        Asked::Run(configured) => configured,
    };
    let Asked::Run(replica) = read(arguments, &[NAME, GROUP_OF_REPLICAS])? else { bail!("the options changed") };
    let (source, mut session) =
        Peer::find(&target, &account).with_context(|| format!("cannot ask the source at {}", target.endpoint))?;
    let access = Access { target: &replica.target, account: &replica.account };
    let found = if options.replica.is_empty() {
        discover::all(&source, &mut session, &access)?
    } else {
        discover::named(&options.replica, &access)
    };
    ensure!(
        !found.is_empty(),
        "no replica is registered at {}: name them with --replica (or set `report_host` on them)",
        target.endpoint
    );
    let report = compare(&source, &mut session, found, &options, begin)?;
    say(report.render(options.format, options.quiet));
    Ok(report.exit_status(options.format))
}

/// Compares the tables of the source with those of the replicas.
fn compare(
    source: &Peer,
    session: &mut Session<'_>,
    found: Vec<discover::Replica>,
    options: &Options,
    begin: Instant,
) -> Result<Report> {
    let wanted = |name: &Name| options.wants(name);
    let mut lexicon = Lexicon::default();
    let tables = catalog::read(session, source.family, None, &mut lexicon, &wanted)
        .context("cannot list the tables of the source")?;
    let has_sets = has_sets(source, session);
    let monitor_limits = monitor::Limits { lag: options.max_lag, running: options.max_running };
    let mut replicas = Vec::new();
    let mut watched = Vec::new();
    let mut readers = Vec::new();
    for replica in found {
        let reader = replica.peer.and_then(|peer| reader(source, peer, has_sets, &tables, &mut lexicon, &wanted));
        let failed = match reader {
            Ok(reader) => {
                watched.push((reader.peer.clone(), replica.from));
                readers.push((replicas.len(), reader));
                None
            }
            Err(why) => Some(why),
        };
        let (server_id, place) = (replica.server_id, replica.place);
        replicas.push(report::Replica { server_id, place, failed, tally: Tally::default() });
    }
    let (places, readers): (Vec<usize>, Vec<Reader>) = readers.into_iter().unzip();
    let extra: std::collections::BTreeSet<Name> = readers
        .iter()
        .flat_map(|reader| reader.tables.keys())
        .filter(|name| !tables.contains_key(*name))
        .cloned()
        .collect();
    let is_same = |name: &Name, definition: &Arc<Definition>| {
        let same = |reader: &Reader| {
            reader.filters.hides(name).is_none()
                && reader.tables.get(name).is_some_and(|theirs| Arc::ptr_eq(definition, theirs))
        };
        readers.iter().all(same)
    };
    let ignored = options.ignored_columns();
    let is_quick = |name: &Name, definition: &Arc<Definition>| {
        let prefix = format!("{name}.");
        let is_whole = !ignored.iter().any(|column| column.starts_with(&prefix));
        options.quick && is_whole && schema::suits_checksum(definition) && is_same(name, definition)
    };
    let jobs = lanes::jobs(&tables, extra.into_iter(), is_quick);
    let run = Run {
        source: source.clone(),
        monitor: Monitor::new(readers.len(), monitor_limits),
        tallies: Mutex::new(vec![Tally::default(); readers.len()]),
        replicas: readers,
        words: words(options.hash)?,
        chunk_time: options.chunk_time,
        max_lock: options.max_lock,
        rows_shown: options.rows.unwrap_or(0),
        ignored_columns: options.ignored_columns(),
        tables,
        jobs: Mutex::new(jobs),
        progress: Box::new(|_| ()),
    };
    let lost = read_all(&run, &watched, options, begin);
    let mut tallies = run.tallies.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter();
    for (at, place) in places.into_iter().enumerate() {
        if let Some(replica) = replicas.get_mut(place) {
            replica.tally = tallies.next().unwrap_or_default();
            let over = run.monitor.is_over().then(|| "the time was over before the last table (--budget)".to_owned());
            replica.failed = run.monitor.failure(at).or_else(|| lost.clone()).or(over);
        }
    }
    Ok(Report { replicas, elapsed: begin.elapsed(), rows_shown: options.rows.unwrap_or(0) })
}

/// Goes through all jobs; returns why the source could not be read to the end.
fn read_all(run: &Run, watched: &[(Peer, Option<u64>)], options: &Options, begin: Instant) -> Option<String> {
    let deadline = options.budget.map(|budget| begin + budget);
    thread::scope(|scope| {
        scope.spawn(|| run.monitor.watch(&run.source, watched, deadline));
        let lanes: Vec<_> =
            (0..options.lanes).map(|_| scope.spawn(|| thread::scope(|own| Lane::work(own, run)))).collect();
        let ended: Vec<Result<(), String>> = lanes
            .into_iter()
            .map(|lane| lane.join().unwrap_or_else(|_| Err("a reply of a server could not be parsed".to_owned())))
            .collect();
        run.monitor.end();
        ended.into_iter().find_map(Result::err).map(|why| format!("the source cannot be read: {why}"))
    })
}

/// A replica made ready to be read.
fn reader(
    source: &Peer,
    peer: Peer,
    has_sets: bool,
    tables: &Catalog,
    lexicon: &mut Lexicon,
    wanted: &dyn Fn(&Name) -> bool,
) -> Result<Reader, String> {
    let mut session = peer.open().map_err(|error| error.to_string())?;
    // What is missing is said by the monitor.
    let status = session.query(status::question(peer.family)).unwrap_or_default();
    let theirs =
        catalog::read(&mut session, peer.family, Some(tables), lexicon, wanted).map_err(|error| error.to_string())?;
    Ok(Reader {
        means: Means::of(source, &peer, has_sets),
        filters: Filters::read(&status),
        has_other_sources: status.len() > 1,
        tables: theirs,
        peer,
    })
}

/// Whether the source is a `MySQL` that numbers its transactions.
fn has_sets(source: &Peer, session: &mut Session<'_>) -> bool {
    let mode = || Some(session.query("SELECT @@GLOBAL.gtid_mode AS mode").ok()?.first()?.variable("mode").is_on());
    source.family != Family::MariaDb && { mode }().unwrap_or(false)
}

/// What the words of a run are made of.
const LETTERS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Words that no value has, new in each run.
fn words(hash: expression::Hash) -> Result<Words> {
    let mut bytes = [0; 16];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    ensure!(filled.is_ok_and(|filled| filled == bytes.len()), "the kernel gives no random bytes");
    let letter = |byte: &u8| LETTERS.get(usize::from(byte % 32)).map_or('A', |letter| char::from(*letter));
    let (separator, null) = bytes.split_at(8);
    Ok(Words { separator: separator.iter().map(letter).collect(), null: null.iter().map(letter).collect(), hash })
}
