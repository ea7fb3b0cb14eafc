//! The lab itself works: what it starts runs, what it breaks is broken, what it heals is well.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::{Duration, Instant};

use lab::daemon::Daemon;
use lab::haproxy::{Haproxy, check_config};
use lab::http::{self, Client, REQUEST};
use lab::program::Check;
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::user;
use lab::xinetd::{Services, Xinetd};
use lab::{address, machine, wait};

const BOUND: Duration = Duration::from_secs(60);

#[test]
fn a_server_starts_answers_and_stops() {
    let begin = Instant::now();
    let server = Server::start();
    eprintln!("first start {:?}", begin.elapsed());
    assert_eq!(server.value("SELECT 1+1"), "2");
    let begin = Instant::now();
    server.stop();
    eprintln!("stop {:?}", begin.elapsed());
    assert!(server.try_sql("SELECT 1").is_err());
    let begin = Instant::now();
    server.restart();
    eprintln!("restart {:?}", begin.elapsed());
    assert_eq!(server.status("Aborted_clients").as_deref(), Some("0"));
    assert_eq!(server.value("SELECT NULL"), "NULL");
}

#[test]
fn a_frozen_server_accepts_and_says_nothing_until_thawed() {
    let server = Server::start();
    server.freeze();
    let silent = TcpStream::connect(server.address()).unwrap();
    silent.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!((&silent).read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    server.thaw();
    silent.set_read_timeout(Some(BOUND)).unwrap();
    assert_eq!((&silent).read(&mut [0]).unwrap(), 1);
    server.freeze();
    server.kill9();
    assert!(!server.is_running());
}

#[test]
fn the_accounts_of_the_template_log_in() {
    let server = Server::start();
    let log = server.watch_queries();
    let client = |args: &[&str]| {
        let socket = format!("--socket={}", server.socket().display());
        Check::program(&lab::daemon::program("mariadb")).args([&["--no-defaults", "-N", &socket], args].concat()).run()
    };
    let own = &*user::unprivileged().name;
    let outcome = client(&["-u", own, "-eSELECT CURRENT_USER();SHOW SLAVE STATUS"]);
    assert_eq!((outcome.stdout, &*outcome.stderr), (format!("{own}@localhost\n"), ""));
    let outcome = client(&["-umysqlchk_tcp", "-plab-secret", "-eSHOW SLAVE STATUS"]);
    assert_eq!((&*outcome.stderr, outcome.code), ("", Some(0)));
    let outcome = client(&["-unopriv", "-plab-secret", "-eSHOW SLAVE STATUS"]);
    assert!(outcome.stderr.contains("1227"), "{outcome:?}");
    let sessions = log.until_sessions(&format!("{own}@localhost"), 1);
    assert_eq!(sessions[0][1..], ["Query SELECT CURRENT_USER()", "Query SHOW SLAVE STATUS", "Quit"]);
}

#[test]
fn two_channels_are_told_apart() {
    let (first, second, replica) = (Server::start(), Server::start(), Server::start());
    let (one, two) = (replica.follow_as("one", &first), replica.follow_as("two", &second));
    one.break_by(Fault::StopApplier);
    assert_eq!(one.status().unwrap()["Slave_SQL_Running"], "No");
    two.until_caught_up();
    one.heal();
}

#[test]
fn a_program_that_is_late_is_late_beside_a_sleep() {
    let time = Duration::from_millis(200);
    let late = |seconds: &str| {
        let program = Check::program(&lab::daemon::program("sleep")).arg(seconds);
        let (outcome, machine) = machine::beside_sleeps(time, 1, || program.run());
        outcome.elapsed.saturating_sub(time + machine)
    };
    assert!(late("2.2") > Duration::from_secs(1));
    machine::in_time("a sleep", || match late("0.2") {
        late if late < Duration::from_secs(1) => Ok(()),
        late => Err(format!("{late:?}")),
    });
    let mut tries = 0;
    let always = || {
        tries += 1;
        Err("late".to_owned())
    };
    assert!(catch_unwind(AssertUnwindSafe(|| machine::in_time("late on purpose", always))).is_err());
    assert_eq!(tries, 3);
}

#[test]
#[ignore = "fails on purpose, for the next test"]
fn a_test_that_fails() {
    let scratch = Scratch::new("fails");
    let mut command = Command::new("/bin/sh");
    command.args(["-c", "echo its last words; exec sleep 1000"]);
    let daemon = Daemon::start(&mut command, &scratch.join("log"));
    wait::until("its last words", BOUND, || !daemon.log().is_empty());
    daemon.freeze();
    wait::until("it is frozen", BOUND, || daemon.is_frozen());
    wait::until_equal("a thing", Duration::ZERO, "right", || "wrong");
}

#[test]
fn a_test_that_fails_shows_the_state_last_seen_and_the_logs_of_its_daemons() {
    let mut command = Command::new(std::env::current_exe().unwrap());
    let output = command.args(["--exact", "a_test_that_fails", "--ignored"]).output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    for part in
        [r#"a thing: not within 0ns (last: "\"wrong\", not \"right\""#, "frozen\n--- the end of ", "its last words"]
    {
        assert!(!output.status.success() && told.contains(part), "{part} in {told}");
    }
}

const SERVICES: &str = "\
# a service like the shipped ones
service echo-head
{
\ttype        = UNLISTED
\tport        = 9200
\tsocket_type = stream
\tprotocol    = tcp
\twait        = no
\tuser        = root
\tserver      = /bin/false
\tdisable     = no
}
";

/// Reads a request to its blank line, and answers what its first argument says.
const ANSWER: &str = "#!/bin/sh\n\
    while read -r line; do [ \"$line\" = \"$(printf '\\r')\" ] && break; done\n\
    printf 'HTTP/1.0 %s by %s\\r\\nX-User: %s\\r\\n\\r\\nhello' \"$1\" \"$2\" \"$(id -un)\"\n";

#[test]
fn xinetd_runs_a_service_and_haproxy_sees_it() {
    let scratch = Scratch::new("lab");
    let program = scratch.program("answer", ANSWER);
    let ip = address::fresh();
    let services = |status: &str, port: u16| {
        Services::new(SERVICES)
            .set("echo-head", "bind", ip)
            .set("echo-head", "port", port)
            .set("echo-head", "id", port)
            .set("echo-head", "user", &user::unprivileged().name)
            .set("echo-head", "server", program.display())
            .set("echo-head", "server_args", status)
            .append("echo-head", "server_args", "xinetd")
    };
    let files = [services("200", 9200), services("503", 9201)];
    let begin = Instant::now();
    let xinetd = Xinetd::start(&files);
    eprintln!("xinetd {:?}", begin.elapsed());

    let reply = http::get(files[0].address("echo-head"));
    assert_eq!((reply.status(), &*reply.reason_phrase(), reply.reset), (200, "by xinetd", false));
    assert_eq!(reply.header("x-user").as_deref(), Some(&*user::unprivileged().name));
    assert_eq!(reply.body(), "hello");
    let slow = Client::connect(files[0].address("echo-head")).send_slowly(REQUEST, Duration::from_millis(2));
    assert_eq!(slow.reply_slowly(Duration::from_millis(2)).body(), "hello");
    Client::connect(files[0].address("echo-head")).send(b"GET").reset();
    let half = Client::connect(files[0].address("echo-head")).send(b"GET").finish().reply();
    assert_eq!(half.status(), 200);
    assert!(xinetd.log().contains("START: 9200"), "{}", xinetd.log());

    let configuration = scratch.file("haproxy.cfg", HAPROXY);
    let ip = ip.to_string();
    check_config(&configuration, &[("IP", &ip)]).unwrap();
    let begin = Instant::now();
    let haproxy = Haproxy::start(&configuration, &[("IP", &ip)]);
    eprintln!("haproxy {:?}", begin.elapsed());
    wait::until("a check was made", BOUND, || !haproxy.server("db", "good").check_code.is_empty());
    let up = haproxy.until("db", "good", "UP", BOUND);
    let down = haproxy.until("db", "bad", "DOWN", BOUND);
    assert_eq!((&*up.proxy, &*up.server), ("db", "good"));
    assert_eq!((&*down.check_status, &*down.check_code, &*down.last_chk), ("L7STS", "503", "by xinetd"));
    assert_eq!(haproxy.servers().len(), 2);
    assert!(check_config(&scratch.file("wrong.cfg", "frontend x\n    nonsense\n"), &[]).is_err());
}

const HAPROXY: &str = "
defaults
    mode tcp
    timeout connect 1s
    timeout client 1s
    timeout server 1s
frontend write
    bind \"$IP\":3306
    default_backend db
backend db
    option httpchk
    timeout check 30s
    server good \"$IP\":3306 check port 9200 inter 50ms fall 1 rise 1
    server bad \"$IP\":3306 check port 9201 inter 50ms fall 1 rise 1
";
