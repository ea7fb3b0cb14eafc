//! Each program by itself: time, processor, memory, and what the server spends on it; then what can be counted exactly.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lab::daemon::{Daemon, program};
use lab::http::REQUEST;
use lab::server::Server;
use lab::user;

use crate::figures::Series;
use crate::programs::{Program, Programs};

/// How long one series may take: far more than it does.
const BOUND: Duration = Duration::from_secs(600);
/// How often the peak of memory is taken; it hardly varies.
const PEAK_ROUNDS: usize = 5;
/// How often the processor time of the server is taken, each time over a batch of checks.
const SERVER_ROUNDS: usize = 20;
/// The checks of a batch: so many that the first, which wake an idle server, do not weigh. Of a slow program, which never
/// lets the server get warm, fewer.
const SERVER_BATCH: usize = 40;

/// What one program costs.
#[derive(Debug, Default)]
pub(crate) struct Cost {
    /// From before the start of the process to its end, in milliseconds.
    pub(crate) wall_ms: Series,
    /// User and system time of the program and its children, in milliseconds.
    pub(crate) cpu_ms: Series,
    /// Minor page faults of the program and its children.
    pub(crate) page_faults: Series,
    /// The server's processor time for one check, in milliseconds.
    pub(crate) server_ms: Series,
    /// Of the largest of its processes, in kilobytes.
    pub(crate) peak_kb: Series,
    /// By name, over all its processes.
    pub(crate) syscalls: BTreeMap<String, u64>,
    /// In user mode, over all its processes; `None` without valgrind.
    pub(crate) instructions: Option<u64>,
}

impl Cost {
    pub(crate) fn all_syscalls(&self) -> u64 {
        self.syscalls.values().sum()
    }
}

/// The costs by the name of the program.
pub(crate) type Costs = BTreeMap<&'static str, Cost>;

/// Measures everything, `runs` times where a run is short.
pub(crate) fn measure(programs: &Programs, server: &Server, runs: usize) -> Costs {
    let mut costs: Costs = programs.list.iter().map(|program| (program.name, Cost::default())).collect();
    let seldom = |program: &Program| program.every.min(runs.div_ceil(5));
    let request = programs.scratch.file("request", REQUEST);
    let tool = |mode: &str, rounds: usize, process: Option<&str>, n: &dyn Fn(&Program) -> usize| {
        run_tool(programs, &request, mode, rounds, process, n)
    };

    for (round, name, figures) in tool("alone", runs, None, &seldom) {
        let cost = costs.get_mut(name).unwrap();
        cost.wall_ms.insert(round, figures[0] / 1e6);
        cost.cpu_ms.insert(round, figures[1] / 1e3);
        cost.page_faults.insert(round, figures[2]);
    }
    for (round, name, figures) in tool("peak", PEAK_ROUNDS.min(runs), None, &|_| 1) {
        costs.get_mut(name).unwrap().peak_kb.insert(round, figures[0]);
    }
    let process = fs::read_to_string(server.dir().join("pid")).unwrap();
    let batch = |program: &Program| (SERVER_BATCH / program.every.pow(2)).max(1);
    for (round, name, figures) in tool("server", SERVER_ROUNDS.min(runs), Some(process.trim()), &batch) {
        let checks = batch(programs.get(name)) as f64;
        costs.get_mut(name).unwrap().server_ms.insert(round, figures[0] / 1e6 / checks);
    }
    costs
}

/// Counts system calls and instructions, which do not depend on the machine's mood.
pub(crate) fn count(programs: &Programs, costs: &mut Costs) {
    let valgrind = Command::new("valgrind").arg("--version").output().is_ok().then(|| program("valgrind"));
    for program in &programs.list {
        let cost = costs.get_mut(program.name).unwrap();
        cost.syscalls = syscalls(programs, program);
        cost.instructions = valgrind.as_ref().map(|valgrind| instructions(programs, program, valgrind));
    }
}

/// Runs `measure.c` and reads its lines: round, program, figures. A run with another exit status is no run of the check.
fn run_tool<'a>(
    programs: &'a Programs,
    request: &Path,
    mode: &str,
    rounds: usize,
    process: Option<&str>,
    n: &dyn Fn(&Program) -> usize,
) -> Vec<(usize, &'static str, Vec<f64>)> {
    let mut command = Command::new(&programs.measure);
    command.env_clear().current_dir("/").arg(mode).arg(request).arg(rounds.to_string()).args(process);
    for program in &programs.list {
        command.arg("--").arg(n(program).to_string()).arg(&program.path).args(&program.args);
    }
    let log = programs.scratch.join(mode);
    Daemon::start(user::drop_to_unprivileged(&mut command), &log).until_success(BOUND);
    let said = fs::read_to_string(&log).unwrap();
    said.lines()
        .map(|line| {
            let field: Vec<f64> = line.split(' ').map(|field| field.parse().unwrap()).collect();
            let program = &programs.list[field[1] as usize];
            assert_eq!(field[2] as i32, program.code, "{} ended otherwise than before", program.name);
            (field[0] as usize, program.name, field[3..].to_vec())
        })
        .collect()
}

fn syscalls(programs: &Programs, watched: &Program) -> BTreeMap<String, u64> {
    let trace = programs.scratch.join("strace");
    watched.run_under(&program("strace"), &["-f", "-qq", "-o", trace.to_str().unwrap()], || ());
    let mut calls = BTreeMap::new();
    for line in fs::read_to_string(&trace).unwrap().lines() {
        // `PID name(...) = result`; signals, exits and the second half of a call that was interrupted have no such name.
        let call = line.split_once(' ').map_or("", |(_, call)| call.trim_start());
        let name = call.split_once('(').map_or("", |(name, _)| name);
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            *calls.entry(name.to_owned()).or_default() += 1;
        }
    }
    calls
}

fn instructions(programs: &Programs, watched: &Program, valgrind: &Path) -> u64 {
    // A file for each process, since each shell check is several.
    let directory = programs.scratch.join("callgrind");
    let out = format!("--callgrind-out-file={}/%p", directory.display());
    watched.run_under(valgrind, &["--tool=callgrind", "--trace-children=yes", &out], || {
        let _ = fs::remove_dir_all(&directory);
        programs.scratch.dir("callgrind");
    });
    let files = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path());
    let of_file = |path: PathBuf| -> u64 {
        let text = fs::read_to_string(path).unwrap();
        let totals = text.lines().rev().find_map(|line| line.strip_prefix("totals: "));
        totals.and_then(|totals| totals.trim().parse().ok()).expect("a sum of callgrind")
    };
    files.map(of_file).sum()
}
