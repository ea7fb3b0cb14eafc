//! `make bench-consistency`: what `mysqlchk-consistency` costs, held against Debian's `pt-table-checksum`.
//!
//! Both compare the same tables on the same two servers, one after the other, `ROUNDS` times (5); what counts is the ratio of the
//! medians. The tables go to stdout and, between its two markers, to `docs/consistency.md`.

use std::fs;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use lab::program::binary;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::shipped;
use mysql::prelude::Queryable;

const DOCUMENT: &str = "docs/consistency.md";
const BEGIN: &str = "<!-- make bench-consistency: from here -->\n";
const END: &str = "<!-- make bench-consistency: to here -->\n";

/// How often the lag is measured.
const BEAT: Duration = Duration::from_millis(10);

/// What one run of a program cost.
#[derive(Clone, Debug, Default)]
struct Cost {
    wall: Duration,
    /// Of both servers.
    cpu: Duration,
    /// The most memory of the program, in kB.
    rss: u64,
    /// Lags of the replica meanwhile, sorted.
    lags: Vec<Duration>,
    /// Latencies of the writers meanwhile, sorted.
    writes: Vec<Duration>,
    /// Bytes of binary log; of a program its own, without what measures and writes meanwhile.
    binlog: u64,
}

impl Cost {
    /// How many statements measured and wrote meanwhile.
    fn statements(&self) -> u64 {
        (self.lags.len() + self.writes.len()) as u64
    }
}

struct Lab<'a> {
    source: &'a Server,
    replica: &'a Server,
    scratch: Scratch,
}

/// A program and its words, for a database.
type Program<'a> = (&'static str, Box<dyn Fn(&str) -> Command + 'a>);

fn main() {
    let rounds: usize = std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(5);
    let only = std::env::var("SETS").unwrap_or_default();
    let skip = std::env::var("SKIP").unwrap_or_default();
    let lines = ["general_log=OFF", "innodb_buffer_pool_size=2G", "innodb_log_file_size=256M", "table_open_cache=8000"];
    let source = Server::start_with(&lines);
    let replica = Server::start_with(&lines);
    let link = replica.follow(&source);
    source.sql(&format!(
        "CREATE USER checker@'%' IDENTIFIED BY '{PASSWORD}'; \
         GRANT SELECT, SLAVE MONITOR, REPLICATION MASTER ADMIN ON *.* TO checker@'%'; \
         CREATE DATABASE mysqlchk; GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON mysqlchk.* TO checker@'%'"
    ));
    let lab = Lab { source: &source, replica: &replica, scratch: Scratch::new("bench") };
    let mut text = String::new();
    for (set, title, tables) in sets() {
        if !only.is_empty() && !only.split(',').any(|name| name == set) {
            continue;
        }
        eprintln!("filling {set}");
        lab.source.sql(&format!("CREATE DATABASE {set}"));
        for statement in tables(set) {
            lab.source.sql(&format!("USE {set}; {statement}"));
        }
        link.until_caught_up();
        let (tables, rows) = size(lab.source, set);
        text += &format!("\n**{title}**: {tables} tables, {rows} rows\n\n");
        text += "| program | wall | of pt | CPU of both servers | of pt | memory | lag p99 | lag max | write p99 | binary log |\n";
        text += "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n";
        let programs = lab.programs();
        let mut costs: Vec<Vec<Cost>> = vec![Vec::new(); programs.len()];
        let idle = lab.measure(None, set == "busy");
        for round in 0..rounds {
            for ((name, command), costs) in
                programs.iter().zip(&mut costs).filter(|((name, _), _)| skip.is_empty() || *name != skip)
            {
                eprintln!("{set}, round {}, {name}", round + 1);
                let mut cost = lab.measure(Some(command(set)), set == "busy");
                cost.binlog = cost.binlog.saturating_sub(idle.binlog * cost.statements() / idle.statements().max(1));
                costs.push(cost);
                link.until_caught_up();
            }
        }
        let pt = programs
            .iter()
            .zip(&costs)
            .find(|((name, _), costs)| *name == "pt-table-checksum" && !costs.is_empty())
            .map(|(_, costs)| middle(costs));
        text += &row("idle", &idle, None);
        for ((name, _), costs) in programs.iter().zip(&costs).filter(|(_, costs)| !costs.is_empty()) {
            text += &row(name, &middle(costs), pt.as_ref());
        }
        lab.source.sql(&format!("DROP DATABASE {set}"));
        link.until_caught_up();
    }
    println!("{text}");
    let path = shipped::file(DOCUMENT);
    if only.is_empty()
        && let Ok(document) = fs::read_to_string(&path)
    {
        let (before, rest) = document.split_once(BEGIN).expect("the first marker");
        let (_, after) = rest.split_once(END).expect("the second marker");
        fs::write(path, format!("{before}{BEGIN}{text}\n{END}{after}")).unwrap();
    }
}

/// The sets of tables: a name, what it is, and the statements that fill it.
type Set = (&'static str, &'static str, fn(&str) -> Vec<String>);

fn sets() -> [Set; 4] {
    [
        ("mixed", "Mixed", |set| {
            let mut statements: Vec<String> = (0..3).map(|at| sysbench(set, &format!("big{at}"), 1_000_000)).collect();
            statements.extend((0..2).map(|at| orders(set, &format!("orders{at}"), 750_000)));
            statements.extend((0..51).map(|at| sysbench(set, &format!("middle{at}"), 10_000)));
            statements.extend((0..400).map(|at| sysbench(set, &format!("small{at}"), 1000)));
            statements
        }),
        ("large", "Three tables of a million rows", |set| {
            (0..3).map(|at| sysbench(set, &format!("t{at}"), 1_000_000)).collect()
        }),
        ("busy", "Under writes (300 transactions a second)", |set| {
            let mut statements: Vec<String> = (0..4).map(|at| sysbench(set, &format!("big{at}"), 1_000_000)).collect();
            statements.extend((0..15).map(|at| sysbench(set, &format!("middle{at}"), 60_000)));
            statements
        }),
        ("many", "Many small tables", |set| (0..5000).map(|at| sysbench(set, &format!("t{at}"), 100)).collect()),
    ]
}

fn sysbench(set: &str, table: &str, rows: usize) -> String {
    format!(
        "CREATE TABLE {set}.{table} (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, k INT NOT NULL DEFAULT 0, \
         c CHAR(120) NOT NULL, pad CHAR(60) NOT NULL, KEY k (k)); \
         INSERT INTO {set}.{table} SELECT seq, seq * 7 % 1000, REPEAT(MD5(seq), 3), MD5(seq + 1) FROM seq_1_to_{rows}"
    )
}

fn orders(set: &str, table: &str, rows: usize) -> String {
    format!(
        "CREATE TABLE {set}.{table} (id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, customer INT NOT NULL, \
         state ENUM('new','paid','sent') NOT NULL, total DECIMAL(12,2) NOT NULL, weight DOUBLE, rate DOUBLE, note VARCHAR(200), \
         paid TINYINT NOT NULL, created DATETIME NOT NULL, changed TIMESTAMP NULL, day DATE); \
         INSERT INTO {set}.{table} SELECT seq, seq % 10000, 1 + seq % 3, seq / 7, seq / 3, seq / 11, \
         IF(seq % 5, CONCAT('note ', MD5(seq)), NULL), seq % 2, '2026-01-01' + INTERVAL seq SECOND, \
         '2026-01-01' + INTERVAL seq MINUTE, '2026-01-01' FROM seq_1_to_{rows}"
    )
}

fn size(server: &Server, set: &str) -> (u64, u64) {
    let row = &server.rows(&format!(
        "SELECT COUNT(*) AS t, SUM(TABLE_ROWS) AS r FROM information_schema.TABLES WHERE TABLE_SCHEMA='{set}'"
    ))[0];
    (row["t"].parse().unwrap(), row["r"].parse().unwrap())
}

impl Lab<'_> {
    fn programs(&self) -> Vec<Program<'_>> {
        let ip = self.source.ip();
        let ours = self.scratch.file("ours.cnf", format!("[client]\nhost={ip}\nuser=checker\npassword={PASSWORD}\n"));
        let theirs = self.scratch.file("pt.cnf", format!("[client]\nuser=admin\npassword={PASSWORD}\n"));
        let of_ours = move |set: &str, words: &[&str]| {
            let mut command = Command::new(binary("mysqlchk-consistency"));
            command.arg(format!("--defaults-file={}", ours.display())).arg(format!("--database={set}")).args(words);
            command
        };
        let quick = of_ours.clone();
        let pt = move |set: &str| {
            let mut command = Command::new("pt-table-checksum");
            command.args([
                "-F",
                theirs.to_str().unwrap(),
                "--no-check-binlog-format",
                "--no-check-replication-filters",
            ]);
            command.args(["--recursion-method=hosts", "--quiet", &format!("--databases={set}"), &format!("h={ip}")]);
            command
        };
        vec![
            ("mysqlchk-consistency", Box::new(move |set: &str| of_ours(set, &[]))),
            ("the same, --quick", Box::new(move |set: &str| quick(set, &["--quick"]))),
            ("pt-table-checksum", Box::new(pt)),
        ]
    }

    /// Runs a program, or nothing for two seconds, and measures.
    fn measure(&self, command: Option<Command>, has_writers: bool) -> Cost {
        let ended = AtomicBool::new(false);
        let (lags, writes) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()));
        let mut cost = Cost::default();
        thread::scope(|scope| {
            scope.spawn(|| self.beat(&ended, &lags));
            if has_writers {
                for writer in 0..3 {
                    let (ended, writes) = (&ended, &writes);
                    scope.spawn(move || self.write(writer, ended, writes));
                }
            }
            thread::sleep(Duration::from_millis(300));
            let (cpu, log) = (self.cpu(), self.binlog());
            lags.lock().unwrap().clear();
            writes.lock().unwrap().clear();
            let begin = Instant::now();
            match command {
                None => thread::sleep(Duration::from_secs(2)),
                Some(mut command) => {
                    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
                    let peak = watch_memory(child.id());
                    let output = child.wait_with_output().unwrap();
                    cost.wall = begin.elapsed();
                    cost.rss = peak.join().unwrap();
                    let said = String::from_utf8_lossy(&output.stdout);
                    assert!(output.status.success(), "{command:?}: {said} {}", String::from_utf8_lossy(&output.stderr));
                }
            }
            cost.cpu = self.cpu() - cpu;
            cost.binlog = self.binlog().saturating_sub(log);
            ended.store(true, Ordering::Relaxed);
        });
        cost.lags = lags.into_inner().unwrap();
        cost.writes = writes.into_inner().unwrap();
        cost.lags.sort();
        cost.writes.sort();
        cost
    }

    /// Writes the time on the source and reads it on the replica.
    fn beat(&self, ended: &AtomicBool, lags: &Mutex<Vec<Duration>>) {
        let (mut source, mut replica) = (self.source.session(), self.replica.session());
        source.query_drop("CREATE TABLE IF NOT EXISTS lab.beat (id INT PRIMARY KEY, t DOUBLE)").unwrap();
        source.query_drop("REPLACE INTO lab.beat VALUES (1, UNIX_TIMESTAMP(NOW(6)))").unwrap();
        while !ended.load(Ordering::Relaxed) {
            source.query_drop("UPDATE lab.beat SET t = UNIX_TIMESTAMP(NOW(6))").unwrap();
            thread::sleep(BEAT);
            let lag = replica.query_first::<f64, _>("SELECT UNIX_TIMESTAMP(NOW(6)) - t FROM lab.beat");
            if let Ok(Some(lag)) = lag {
                lags.lock().unwrap().push(Duration::from_secs_f64(lag.max(0.0)));
            }
        }
    }

    /// A hundred transactions a second, on random rows.
    fn write(&self, writer: usize, ended: &AtomicBool, writes: &Mutex<Vec<Duration>>) {
        let mut session = self.source.session();
        let mut number = writer;
        while !ended.load(Ordering::Relaxed) {
            number = (number * 1_103_515_245 + 12_345) % 1_000_000;
            let begin = Instant::now();
            let statement = format!("UPDATE busy.big{} SET k = k + 1 WHERE id = {}", number % 4, number + 1);
            session.query_drop(statement).unwrap();
            let took = begin.elapsed();
            writes.lock().unwrap().push(took);
            thread::sleep(Duration::from_millis(10).saturating_sub(took));
        }
    }

    /// The CPU time of both servers.
    fn cpu(&self) -> Duration {
        [self.source, self.replica].into_iter().map(cpu_of).sum()
    }

    fn binlog(&self) -> u64 {
        let rows = self.source.rows("SHOW BINARY LOGS");
        rows.iter().map(|row| row["File_size"].parse::<u64>().unwrap()).sum()
    }
}

fn cpu_of(server: &Server) -> Duration {
    let id = fs::read_to_string(server.dir().join("pid")).unwrap();
    let stat = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// The most memory that a process has, until it ends.
fn watch_memory(id: u32) -> thread::JoinHandle<u64> {
    thread::spawn(move || {
        let mut peak = 0;
        while let Ok(status) = fs::read_to_string(format!("/proc/{id}/status")) {
            let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
            match line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()) {
                Some(now) => peak = now,
                // It has ended, and was not waited for.
                None => break,
            }
            thread::sleep(Duration::from_millis(5));
        }
        peak
    })
}

/// The median of each figure.
fn middle(costs: &[Cost]) -> Cost {
    fn median<T: Ord + Clone>(mut values: Vec<T>) -> T {
        values.sort();
        values[values.len() / 2].clone()
    }
    let of = |figure: fn(&Cost) -> Duration| median(costs.iter().map(figure).collect());
    Cost {
        wall: of(|cost| cost.wall),
        cpu: of(|cost| cost.cpu),
        rss: median(costs.iter().map(|cost| cost.rss).collect()),
        lags: {
            let mut lags: Vec<Duration> = costs.iter().flat_map(|cost| cost.lags.clone()).collect();
            lags.sort();
            lags
        },
        writes: {
            let mut writes: Vec<Duration> = costs.iter().flat_map(|cost| cost.writes.clone()).collect();
            writes.sort();
            writes
        },
        binlog: median(costs.iter().map(|cost| cost.binlog).collect()),
    }
}

fn row(name: &str, cost: &Cost, pt: Option<&Cost>) -> String {
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let of = |figure: fn(&Cost) -> Duration| {
        pt.map_or_else(String::new, |pt| format!("{:.2}", figure(cost).as_secs_f64() / figure(pt).as_secs_f64()))
    };
    let ms = |times: &[Duration], part: f64| {
        let at = ((times.len() as f64 - 1.0).max(0.0) * part) as usize;
        times.get(at).map_or_else(String::new, |time| format!("{:.0} ms", time.as_secs_f64() * 1000.0))
    };
    let memory = if cost.rss == 0 { String::new() } else { format!("{:.1} MB", cost.rss as f64 / 1024.0) };
    format!(
        "| {name} | {} | {} | {} | {} | {memory} | {} | {} | {} | {:.0} kB |\n",
        if cost.wall.is_zero() { String::new() } else { seconds(cost.wall) },
        of(|cost| cost.wall),
        seconds(cost.cpu),
        of(|cost| cost.cpu),
        ms(&cost.lags, 0.99),
        ms(&cost.lags, 1.0),
        ms(&cost.writes, 0.99),
        cost.binlog as f64 / 1024.0,
    )
}
