//! Do the replicas hold the same data as their source? For hand and cron.
//!
//! ```text
//! discover -> catalog -> jobs( tables( schema -> expression -> lanes -> chase( settle ) ) ) -> tally -> report
//! ```
//!
//! Only SELECTs, on the source and on the replicas. [`tables`] says how equal data is told, [`chase`] how a difference is
//! proved.

mod bounds;
mod catalog;
mod chase;
mod comparison;
mod discover;
mod expression;
mod filters;
mod findings;
mod jobs;
mod lanes;
mod monitor;
mod options;
mod peer;
mod position;
mod progress;
mod report;
mod schema;
mod settle;
mod status;
mod store;
mod tables;
mod tally;

use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, Result, bail, ensure};
use client::command_line::{self, Asked, Configured, Program};

use comparison::{Comparison, Made};
use discover::Access;
use options::Options;
use peer::Peer;

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
    store::lock(&mut session)?;
    let has_store = !options.no_publish && store::is_ready(&mut session)?;
    if options.recheck || options.forget.is_some() {
        ensure!(has_store, "there is no database `mysqlchk` that holds what is known, see mysqlchk-consistency(8)");
    }
    if let Some(server_id) = options.forget {
        let is_gone = store::forget(&mut session, server_id)?;
        say(format!("server {server_id}: {}\n", if is_gone { "forgotten" } else { "nothing was known" }));
        return Ok(0);
    }
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
    let mut comparison = Comparison { source: &source, session: &mut session, options: &options, has_store };
    match comparison.make(found)? {
        Made::Text(text) => {
            say(text);
            Ok(0)
        }
        Made::Report(report) => {
            say(report.render(options.format, options.quiet));
            Ok(report.exit_status(options.format))
        }
    }
}
