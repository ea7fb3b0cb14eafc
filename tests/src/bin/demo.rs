//! `make demo`: a source, two replicas, xinetd and `HAProxy` on loopback; a fault, and what the checks make of it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use lab::front::{READ, WRITE, connect};
use lab::haproxy::Haproxy;
use lab::notes::Notes;
use lab::program::binary;
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::xinetd::Xinetd;
use lab::{address, http, shipped, user, wait};
use mysql::Conn;
use mysql::prelude::Queryable;

/// How long `HAProxy` may take to notice: far more than its two checks a second.
const BOUND: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    headline("mysqlchk: HAProxy takes a broken replica out of rotation, and says why");
    say("Everything runs on loopback addresses of its own and is gone at the end. Ctrl-C ends it at any time.");

    step("starting a source and two replicas (MariaDB)");
    let source = Server::start();
    let replicas = [Server::start(), Server::start()];
    let links = [replicas[0].follow(&source), replicas[1].follow(&source)];
    say(&format!("source {}, replica1 {}, replica2 {}", source.ip(), replicas[0].ip(), replicas[1].ip()));

    step(
        "comparing the data for the first time (mysqlchk-consistency); the verdicts replicate, and the checks read them",
    );
    let data = Data::prepare(&source, &replicas);
    data.compare(&[]);

    step("starting xinetd with xinetd.d/mysqlchk for each of them, and HAProxy with haproxy/replicas.cfg");
    // In the place of /var/lib/mysqlchk, one for each server.
    let notes = [(); 3].map(|()| Notes::new());
    let files: Vec<_> = [&source, &replicas[0], &replicas[1]]
        .into_iter()
        .zip(&notes)
        .map(|(server, notes)| notes.services(shipped::services("mysqlchk", server)))
        .map(|services| services.append("mysqlchk-replication", "server_args", "--require-consistent"))
        .collect();
    let _xinetd = Xinetd::start(&files);
    let front = address::fresh();
    let haproxy = start_haproxy(front, &source, &replicas);
    say("every check logs in as the system user it runs as (unix_socket): there is no password anywhere");

    step("what a check answers: port 9200, does the server answer?");
    show_bytes((replicas[0].ip(), 9200));
    step("what a check answers: port 9201, does it replicate?");
    show_bytes((replicas[0].ip(), 9201));

    step("what HAProxy makes of it");
    wait_for(&haproxy, "replica1", "UP");
    wait_for(&haproxy, "replica2", "UP");
    show_servers(&haproxy);
    show_routes(front, &names(&source, &replicas));

    step("the fault: replica1 stops applying (STOP SLAVE SQL_THREAD). A login there still works");
    let begin = Instant::now();
    links[0].break_by(Fault::StopApplier);
    show_bytes((replicas[0].ip(), 9201));
    wait_for(&haproxy, "replica1", "DOWN");
    say(&format!("HAProxy took it out {:.1} s after the fault:", begin.elapsed().as_secs_f64()));
    show_servers(&haproxy);
    show_routes(front, &names(&source, &replicas));

    step("the cure: replica1 applies again (START SLAVE)");
    let begin = Instant::now();
    links[0].heal();
    wait_for(&haproxy, "replica1", "UP");
    say(&format!("HAProxy took it back {:.1} s after the cure:", begin.elapsed().as_secs_f64()));
    show_servers(&haproxy);
    show_routes(front, &names(&source, &replicas));

    step("a restart is planned: replica2 is drained. Its sessions go on, new ones go elsewhere");
    let mut session = session_on(front, READ, replicas[1].ip());
    show_command(&notes[2], &["drain", "--reason=kernel upgrade", "--for=30m"]);
    show_bytes((replicas[1].ip(), 9201));
    wait_for(&haproxy, "replica2", "NOLB");
    show_servers(&haproxy);
    show_routes(front, &names(&source, &replicas));
    let answer: mysql::Result<Option<String>> = session.query_first("SELECT 'still here'");
    say(&format!("the session that was open on replica2: {}", answer.ok().flatten().unwrap_or("is cut".into())));
    show_command(&notes[2], &["up"]);
    wait_for(&haproxy, "replica2", "UP");
    show_routes(front, &names(&source, &replicas));
    drop(session);

    step("the data: two rows of replica1 exchange their values, behind everybody's back");
    replicas[0].sql("SET sql_log_bin=0; UPDATE shop.orders SET paid = 1 - paid WHERE id IN (1, 2)");
    data.checksum_of_percona();
    data.compare(&["--rows"]);
    wait_for(&haproxy, "replica1", "DOWN");
    show_bytes((replicas[0].ip(), 9201));
    show_servers(&haproxy);
    show_routes(front, &names(&source, &replicas));

    step("the cure: replica1 gets the right rows, and is compared again");
    replicas[0].sql("SET sql_log_bin=0; UPDATE shop.orders SET paid = 1 - paid WHERE id IN (1, 2)");
    data.compare(&["--recheck"]);
    wait_for(&haproxy, "replica1", "UP");
    show_servers(&haproxy);
    show_routes(front, &names(&source, &replicas));

    step("cleaning up");
    drop((haproxy, _xinetd, links));
    drop((source, replicas));
    say("nothing is left. The README says how to install what you have seen.");
    ExitCode::SUCCESS
}

/// The data that is compared, and by what account.
struct Data {
    scratch: Scratch,
    ip: Ipv4Addr,
}

impl Data {
    /// Makes a table, an account that may compare it, and the database for the verdicts.
    fn prepare(source: &Server, replicas: &[Server; 2]) -> Self {
        let scratch = Scratch::new("data");
        let ip = source.ip();
        let account = format!("user=checker\npassword={PASSWORD}\n");
        scratch.file("consistency.cnf", format!("[mysqlchk-consistency]\nhost={ip}\n{account}"));
        scratch.file("percona.cnf", format!("[client]\nuser=admin\npassword={PASSWORD}\n"));
        let check = &user::unprivileged().name;
        source.sql(&format!(
            "CREATE USER checker@'%' IDENTIFIED BY '{PASSWORD}'; CREATE DATABASE mysqlchk;
             GRANT SELECT, SLAVE MONITOR, REPLICATION MASTER ADMIN ON *.* TO checker@'%';
             GRANT INSERT, UPDATE, DELETE, CREATE ON mysqlchk.* TO checker@'%';
             GRANT SELECT ON mysqlchk.* TO `{check}`@localhost;
             CREATE DATABASE shop; USE shop;
             CREATE TABLE orders (id INT PRIMARY KEY, customer VARCHAR(20) NOT NULL, paid TINYINT NOT NULL, day DATE NOT NULL);
             INSERT INTO orders SELECT seq, CONCAT('customer ', seq % 7), seq % 2, '2026-11-01' FROM seq_1_to_1000"
        ));
        for replica in replicas {
            wait::until("the rows are there", BOUND, || {
                replica.try_rows("SELECT * FROM shop.orders").is_ok_and(|rows| rows.len() == 1000)
            });
        }
        Self { scratch, ip }
    }

    /// What `mysqlchk-consistency` says, as it would be typed.
    fn compare(&self, words: &[&str]) {
        println!("    # mysqlchk-consistency {}", words.join(" "));
        let mut command = Command::new(binary("mysqlchk-consistency"));
        command.arg(format!("--defaults-file={}", self.scratch.join("consistency.cnf").display())).args(words);
        show_output(&mut command);
    }

    /// What the field's tool says: it adds up CRC32 with XOR, in which this exchange cancels out.
    fn checksum_of_percona(&self) {
        println!("    # pt-table-checksum --databases=shop");
        let mut command = Command::new("pt-table-checksum");
        command.arg("-F").arg(self.scratch.join("percona.cnf"));
        command.args(["--no-check-binlog-format", "--recursion-method=hosts", "--databases=shop"]);
        command.arg(format!("h={}", self.ip));
        show_output(&mut command);
    }
}

fn show_output(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    for line in String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.is_empty()) {
        println!("    {line}");
    }
}

fn start_haproxy(front: Ipv4Addr, source: &Server, replicas: &[Server; 2]) -> Haproxy {
    let account = user::unprivileged();
    let values = [
        ("SOURCE", source.ip().to_string()),
        ("REPLICA_1", replicas[0].ip().to_string()),
        ("REPLICA_2", replicas[1].ip().to_string()),
        ("WRITE_BIND", format!("{front}:3306")),
        ("READ_BIND", format!("{front}:3307")),
        ("STATS_BIND", format!("{front}:8404")),
        ("STATS_SOCKET", source.dir().join("haproxy.sock").display().to_string()),
        ("RUN_AS_USER", account.name.clone()),
        ("RUN_AS_GROUP", account.group.clone()),
    ];
    let values: Vec<_> = values.iter().map(|(name, value)| (*name, value.as_str())).collect();
    Haproxy::start(&shipped::file("haproxy/replicas.cfg"), &values)
}

fn names(source: &Server, replicas: &[Server; 2]) -> BTreeMap<String, &'static str> {
    [(source, "source"), (&replicas[0], "replica1"), (&replicas[1], "replica2")]
        .map(|(server, name)| (server.ip().to_string(), name))
        .into()
}

/// The whole conversation: what was sent, what came.
fn show_bytes(address: (Ipv4Addr, u16)) {
    for line in String::from_utf8_lossy(http::REQUEST).lines().filter(|line| !line.is_empty()) {
        println!("    > {line}");
    }
    for line in http::get(SocketAddr::from(address)).text().lines() {
        println!("    < {}", colour(line));
    }
}

fn wait_for(haproxy: &Haproxy, server: &str, status: &str) {
    haproxy.until("read", server, status, BOUND);
}

/// What an operator types, and what it says.
fn show_command(notes: &Notes, words: &[&str]) {
    let quoted = |word: &&str| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() };
    println!("    # mysqlchk-ctl {}", words.iter().map(quoted).collect::<Vec<_>>().join(" "));
    print!("    {}", notes.ctl_ok(words));
}

/// A session through `HAProxy` that ended up on this server.
fn session_on(front: Ipv4Addr, port: u16, server: Ipv4Addr) -> Conn {
    wait::until_some("a session on the server", BOUND, || {
        let mut session = connect(front, port).ok()?;
        let answer: Option<String> = session.query_first("SELECT @@report_host").ok()?;
        (answer? == server.to_string()).then_some(session)
    })
}

fn show_servers(haproxy: &Haproxy) {
    println!("    {:<11} {:<9} {:<5} {:<6} last check", "proxy", "server", "state", "check");
    for line in haproxy.servers() {
        let text = format!(
            "{:<11} {:<9} {:<5} {:<6} {}",
            line.proxy, line.server, line.status, line.check_status, line.last_chk
        );
        println!("    {}", colour(text.trim_end()));
    }
}

/// Connects ten times to each port, as an application would, and counts who answered.
fn show_routes(front: Ipv4Addr, names: &BTreeMap<String, &'static str>) {
    for (what, port) in [("writes", WRITE), ("reads", READ)] {
        let mut answered: BTreeMap<&str, u32> = BTreeMap::new();
        for _ in 0..10 {
            let server = who_answers(front, port);
            let name = server.as_ref().and_then(|ip| names.get(ip)).copied().unwrap_or("nobody");
            *answered.entry(name).or_default() += 1;
        }
        let shares: Vec<String> = answered.iter().map(|(name, count)| format!("{name} {count}x")).collect();
        println!("    ten connections for {what:<7} {front}:{port} -> {}", shares.join(", "));
    }
}

fn who_answers(front: Ipv4Addr, port: u16) -> Option<String> {
    connect(front, port).ok()?.query_first("SELECT @@report_host").ok()?
}

fn headline(text: &str) {
    println!("{}", bold(text));
}

fn step(text: &str) {
    println!("\n{}", bold(&format!("== {text}")));
}

fn say(text: &str) {
    println!("    {text}");
}

fn bold(text: &str) -> String {
    paint("1", text)
}

/// Red for what is down, yellow for what is drained, green for what is up.
fn colour(line: &str) -> String {
    let is = |code: &str, word: &str, state: &str| {
        line.contains(code) || line.starts_with(&format!("{word}:")) || line.contains(state)
    };
    match (is(" 503 ", "down", " DOWN "), is(" 404 ", "drain", " NOLB "), is(" 200 ", "up", " UP ")) {
        (true, ..) => paint("31", line),
        (_, true, _) => paint("33", line),
        (.., true) => paint("32", line),
        _ => line.to_owned(),
    }
}

fn paint(code: &str, text: &str) -> String {
    if std::io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
