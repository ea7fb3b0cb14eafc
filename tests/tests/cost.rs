//! What a check costs, in exact counts that no busy machine changes: system calls, instructions, page faults, connections,
//! waits.
//!
//! The bounds are what was counted when they were last set, with a tenth of slack. A change that needs more says why and
//! raises them; `make bench` tells what it means in time.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lab::daemon::program;
use lab::program::{Check, binary};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::wait;

/// Per check, counted with a static build on `MariaDB` 10.11 over its socket. Valgrind 3.19 does not know openat2, so of the
/// instructions 13 000 are for the thread that stands in for it.
struct Recorded {
    program: &'static str,
    system_calls: usize,
    instructions: u64,
    /// Minor ones, from its start to its end. A static program that does nothing has 27; what a kernel maps at once differs a
    /// little from version to version (counted on 6.18).
    page_faults: u64,
    /// How many results the server sends; the statements for them go in one packet.
    results: usize,
}

const RECORDED: [Recorded; 3] = [
    Recorded { program: "mysqlchk-status", system_calls: 55, page_faults: 63, instructions: 327_000, results: 1 },
    Recorded { program: "mysqlchk-replication", system_calls: 55, page_faults: 69, instructions: 550_000, results: 2 },
    Recorded { program: "galera-chk", system_calls: 55, page_faults: 67, instructions: 417_000, results: 1 },
];

/// The bound for every check: one that needs more does too much.
const SYSTEM_CALLS_MAX: usize = 60;

/// For a check that a tool slows down, on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

struct Lab {
    server: Server,
    scratch: Scratch,
    option_file: PathBuf,
}

impl Lab {
    fn start() -> Lab {
        let (source, server) = (Server::start(), Server::start());
        // A replica, so that there is a row to read. The source may go: the row stays.
        let _link = server.follow(&source);
        let scratch = Scratch::new("cost");
        let socket = server.socket().display().to_string();
        let text = format!("[client]\nsocket={socket}\nuser=mysqlchk_tcp\npassword={PASSWORD}\n");
        let option_file = scratch.file("my.cnf", text);
        Lab { server, scratch, option_file }
    }

    /// Runs a check under a tool; the tool's own output goes to a file.
    fn under(&self, tool: &str, arguments: &[String], check: &str, output: &Path) -> String {
        // Before the options are read the budget is the default, which a tool that makes everything fifty times slower
        // may exceed on a busy machine.
        let outcome = wait::until_some("the check comes to its verdict in time", BOUND, || {
            let _ = fs::remove_file(output);
            let outcome = Check::program(&program(tool))
                .args(arguments)
                .arg(binary(check))
                .args([format!("--defaults-file={}", self.option_file.display()), "--timeout=20s".into()])
                .run();
            (!outcome.stdout.contains("no verdict within")).then_some(outcome)
        });
        assert_eq!(outcome.stdout.matches("HTTP/1.1 ").count(), 1, "{outcome:?}");
        fs::read_to_string(output).unwrap_or_else(|_| outcome.stderr.clone())
    }

    /// The system calls of a check, one a line.
    fn system_calls(&self, check: &str) -> Vec<String> {
        let output = self.scratch.join("strace");
        let arguments = ["-f", "-qq", "-o"].map(str::to_owned).into_iter().chain([output.display().to_string()]);
        let trace = self.under("strace", &arguments.collect::<Vec<_>>(), check, &output);
        let lines =
            trace.lines().map(|line| line.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' ').to_owned());
        lines.filter(|line| line.contains('(')).collect()
    }
}

#[test]
fn a_check_makes_no_more_system_calls_than_recorded() {
    let lab = Lab::start();
    for Recorded { program, system_calls, .. } in RECORDED {
        let calls = lab.system_calls(program);
        println!("{program}: {} system calls", calls.len());
        assert!(calls.len() <= (system_calls * 11 / 10).min(SYSTEM_CALLS_MAX), "{program}: {calls:#?}");
    }
}

#[test]
fn a_check_executes_no_more_instructions_than_recorded() {
    let lab = Lab::start();
    for Recorded { program, instructions, .. } in RECORDED {
        let nowhere = lab.scratch.join("no-such-file");
        let arguments = ["--tool=callgrind", "--callgrind-out-file=/dev/null"].map(str::to_owned);
        let said = lab.under("valgrind", &arguments, program, &nowhere);
        let collected = said.lines().find_map(|line| line.split_once("Collected :")).expect("callgrind's count").1;
        let count: u64 = collected.trim().parse().unwrap();
        println!("{program}: {count} instructions");
        assert!(count <= instructions + instructions / 10, "{program}: {count}");
    }
}

/// The code that a check runs is in one place of the file, so that the kernel maps it at few faults.
#[test]
fn a_check_touches_no_more_pages_than_recorded() {
    let lab = Lab::start();
    // The shell's count of the faults of its children, before and after.
    let script = "read -r before </proc/$$/stat; \"$@\" >/dev/null; read -r after </proc/$$/stat; \
                  set -- $before; before=${11}; set -- $after; echo $((${11} - before))";
    let option_file = format!("--defaults-file={}", lab.option_file.display());
    for Recorded { program, page_faults, .. } in RECORDED {
        let outcome = Check::program(Path::new("/bin/sh"))
            .args(["-c", script, "sh"])
            .arg(binary(program))
            .args([&option_file, "--timeout=20s"])
            .run();
        let count: u64 = outcome.stdout.trim().parse().unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
        println!("{program}: {count} page faults");
        assert!(count <= page_faults + page_faults / 10, "{program}: {count}, is crates/watchdog/start.ld up to date?");
    }
}

#[test]
fn a_check_connects_once_asks_once_and_waits_for_three_answers() {
    let lab = Lab::start();
    for Recorded { program, results, .. } in RECORDED {
        let before = lab.server.watch_queries();
        let calls = lab.system_calls(program);
        let count = |name: &str| calls.iter().filter(|call| call.starts_with(&format!("{name}("))).count();
        // Login, query, goodbye.
        assert_eq!((count("connect"), count("sendto")), (1, 3), "{program}: {calls:#?}");
        // The greeting, the login's answer and the query's: the server sends each result as soon as it has it.
        assert!((3..3 + results).contains(&count("recvfrom")), "{program}: {calls:#?}");
        let sessions = before.until_sessions("mysqlchk_tcp@localhost", 1);
        let commands: Vec<&str> = sessions[0].iter().map(|line| line.split(' ').next().unwrap()).collect();
        assert_eq!(commands, ["Connect", "Query", "Quit"], "{sessions:?}");
    }
}

#[test]
fn a_check_opens_the_option_file_and_looks_for_a_note_and_starts_no_thread() {
    let lab = Lab::start();
    let option_file = lab.option_file.display().to_string();
    for Recorded { program, .. } in RECORDED {
        let calls = lab.system_calls(program);
        let opened: Vec<_> = calls.iter().filter(|call| call.starts_with("open")).collect();
        let [first, note] = &opened[..] else { panic!("{program}: {opened:#?}") };
        assert!(first.contains(&option_file), "{program}: {opened:#?}");
        assert!(note.contains("/var/lib/mysqlchk/maintenance\"") && note.contains("ENOENT"), "{program}: {opened:#?}");
        // The deadline stands before anything is read.
        let first = |name: &str| calls.iter().position(|call| call.starts_with(name));
        assert!(first("setitimer").is_some_and(|timer| Some(timer) < first("open")), "{program}: {calls:#?}");
        // Glibc asks for the path of a static program, and reads nothing there.
        let proc =
            calls.iter().filter(|call| call.contains("/proc") && !call.starts_with("readlink(\"/proc/self/exe\""));
        assert_eq!(proc.collect::<Vec<_>>(), Vec::<&String>::new(), "{program}");
        let not_ours =
            |call: &&String| ["clone", "fork", "vfork", "sched_getaffinity"].iter().any(|name| call.starts_with(name));
        assert_eq!(calls.iter().filter(not_ours).collect::<Vec<_>>(), Vec::<&String>::new(), "{program}");
        // A second arena of the allocator begins with 64 MiB or more of address space.
        let arena = |call: &&String| {
            let size = call.strip_prefix("mmap(NULL, ").and_then(|rest| rest.split(',').next()?.parse::<u64>().ok());
            size.is_some_and(|size| size >= 64 * 1024 * 1024)
        };
        assert_eq!(calls.iter().filter(arena).collect::<Vec<_>>(), Vec::<&String>::new(), "{program}");
    }
}

#[test]
fn a_thousand_checks_leave_the_counters_of_aborted_connections_alone() {
    let lab = Lab::start();
    let counters = || ["Aborted_clients", "Aborted_connects"].map(|name| lab.server.counter(name));
    let before = counters();
    let option_file = format!("--defaults-file={}", lab.option_file.display());
    let batch = |program: &str| {
        for _ in 0..84 {
            assert_ne!(Check::new(program).args([&option_file]).run().code, Some(2));
        }
    };
    std::thread::scope(|scope| {
        for Recorded { program, .. } in RECORDED.iter().cycle().take(12) {
            scope.spawn(|| batch(program));
        }
    });
    assert_eq!(counters(), before);
}
