//! `make bench`: what a check costs, held against a hand-written C program below it and the shell checks above it.
//!
//! Everything runs interleaved on a server of its own, and what counts is ratios of what ran side by side and exact
//! counts: no absolute time decides anything. `BENCH_RUNS` sets how often a fast program runs (300). The tables go to
//! stdout and, between its two markers, to `docs/cost.md`. The argument `sockets` prints the last of them alone.
//!
//! | module | is for |
//! | --- | --- |
//! | [`programs`] | what is compared |
//! | [`alone`] | each program by itself |
//! | [`load`] | some of them under xinetd |
//! | [`sockets`] | one of them under xinetd and under systemd |
//! | [`figures`] | medians and spreads |
//! | [`table`] | a table |
//! | [`report`] | what the figures say |

mod alone;
mod figures;
mod load;
mod programs;
mod report;
mod sockets;
mod table;

use std::fs;
use std::process::ExitCode;
use std::thread::available_parallelism;
use std::time::Instant;

use lab::server::Server;
use lab::shipped;

use programs::Programs;
use report::Measured;

/// Where the tables go, between these two lines.
const DOCUMENT: &str = "docs/cost.md";
const BEGIN: &str = "<!-- make bench: from here -->\n";
const END: &str = "<!-- make bench: to here -->\n";

fn main() -> ExitCode {
    let begin = Instant::now();
    let runs: usize = match std::env::var("BENCH_RUNS").map(|runs| runs.parse()) {
        Err(_) => 300,
        Ok(Ok(runs)) if runs > 0 => runs,
        Ok(_) => panic!("BENCH_RUNS is how often a fast program runs, such as 300"),
    };
    let step = |what: &str| eprintln!("{:>4} s  {what}", begin.elapsed().as_secs());

    step("starting a server, compiling the floor, making every program answer once");
    // The log of statements would be a good part of what is measured.
    let server = Server::start_with(&["general_log=OFF"]);
    // The answer of a replica, which has a row; it stays stopped, so that the server does nothing else.
    server.sql("CHANGE MASTER TO MASTER_HOST = '127.0.0.1', MASTER_USER = 'nobody'");
    let programs = Programs::build(&server);
    let machine = machine(&server, runs);

    // For who works on that table; the document stays as it is.
    if std::env::args().nth(1).as_deref() == Some("sockets") {
        println!("{}", sockets::measure(&server, runs).expect("root").render());
        return ExitCode::SUCCESS;
    }

    step("each program by itself");
    let mut costs = alone::measure(&programs, &server, runs);
    step("counting system calls and instructions");
    alone::count(&programs, &mut costs);
    step("under xinetd, with 1, 8 and 32 clients");
    let load = load::measure(&programs, &server, runs);
    step("under xinetd and under systemd, in a copy of this host");
    let sockets = sockets::measure(&server, runs);
    step("done");

    let mut tables = Measured { programs: &programs, costs: &costs, load: &load }.tables();
    if sockets.is_none() {
        eprintln!("no table of sockets: only root can boot a systemd");
    }
    tables.extend(sockets);
    let text: String =
        [machine].into_iter().chain(tables.iter().map(table::Table::render)).collect::<Vec<_>>().join("\n");
    println!("{text}");
    write(&text);
    ExitCode::SUCCESS
}

/// What one must know to read the figures.
fn machine(server: &Server, runs: usize) -> String {
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or_default();
    let processors = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "{}, {} cores, load of {load} at the start; {} over its Unix socket; {runs} runs of a fast program, fewer of a slow one.\n",
        model.map_or("an unknown processor", |(_, model)| model),
        available_parallelism().map_or(0, usize::from),
        server.value("SELECT VERSION()"),
    )
}

/// Puts the tables where the README sends its reader.
fn write(text: &str) {
    let file = shipped::file(DOCUMENT);
    let old = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{DOCUMENT}: {error}"));
    let (head, rest) = old.split_once(BEGIN).unwrap_or_else(|| panic!("{DOCUMENT} has no line {BEGIN}"));
    let (_, tail) = rest.split_once(END).unwrap_or_else(|| panic!("{DOCUMENT} has no line {END}"));
    fs::write(&file, format!("{head}{BEGIN}\n{text}\n{END}{tail}")).unwrap();
    eprintln!("the same is in {DOCUMENT}");
}
