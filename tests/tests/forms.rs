//! The forms of the answer: each verdict in each of them, the numbers of real servers, and the file of `--output`. What reads
//! them is Debian's own: `promtool`, and `negate` of the Nagios plugins.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use lab::galera::Cluster;
use lab::notes::Notes;
use lab::program::{Check, Outcome, binary, local};
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::{fake, roots, shipped, user, wait};
use rustix::process::{Pid, Signal, kill_process};

const REPLICATION: &str = "mysqlchk-replication";
const STATUS: &str = "mysqlchk-status";
/// For a busy machine.
const PATIENT: &str = "--timeout=20s";
/// A server that is not there.
const NOWHERE: &str = "--socket=/nowhere";
const FORMS: [&str; 6] = ["http", "text", "json", "nagios", "prometheus", "agent"];

/// A page of metrics as `promtool` reads it: without a complaint, also about style.
#[track_caller]
fn assert_metrics(page: &str) {
    let mut promtool = roots::bookworm().command("promtool");
    promtool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = promtool.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{}: {said}\n{page}", output.status);
}

/// The value of one series of a page; `None` when it is absent.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|_| panic!("{series} {line}")))
}

/// Up, drain and down of a page, by `mysqlchk_up` and `mysqlchk_state`.
fn states(program: &str, page: &str) -> [Option<f64>; 4] {
    let state = |state| value(page, &format!("mysqlchk_state{{program=\"{program}\",state=\"{state}\"}}"));
    [value(page, &format!("mysqlchk_up{{program=\"{program}\"}}")), state("up"), state("drain"), state("down")]
}

/// A directory with a file for an answer in it.
struct Place(Scratch);

impl Place {
    fn new() -> Self {
        Self(Scratch::new("output"))
    }

    fn file(&self) -> PathBuf {
        self.0.join("mysqlchk.prom")
    }

    fn option(&self) -> String {
        format!("--output={}", self.file().display())
    }

    fn text(&self) -> String {
        fs::read_to_string(self.file()).unwrap_or_default()
    }

    /// The names in the directory.
    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.path()).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

/// The table of the manual page: each verdict in each form, with its exit status.
#[test]
fn each_verdict_has_its_answer_in_each_form() {
    let (server, notes) = (Server::start(), Notes::new());
    notes.write("[maintenance]\nmode=drain\nreason=kernel upgrade\nby=alice\n");
    let noted = notes.option();
    let [socket, account] = local(&server);
    let up = [&socket, &account, PATIENT, "--maintenance-file=none"];
    let drained = [NOWHERE, PATIENT, &noted];
    let down = [NOWHERE, PATIENT, "--maintenance-file=none"];
    let wrong = [NOWHERE, "--max-log=30s"];
    let up_reason = "the server answers, read_only is OFF";
    let down_reason = "cannot connect to /nowhere: no such socket";
    let wrong_reason = "unknown option `--max-log`, see --help";
    let ask = |words: &[&str], form: &str| Check::new(STATUS).args(words).arg(format!("--format={form}")).run();
    for (words, word, reason, code, http, [level, level_code], agent) in [
        (&up[..], "up", up_reason, 0, "200", ["OK", "0"], "up 100% # "),
        (&drained, "drain", "kernel upgrade (alice)", 1, "404", ["WARNING", "1"], "up 0% # drain: "),
        (&down, "down", down_reason, 1, "503", ["CRITICAL", "2"], "down # "),
        (&wrong, "down", wrong_reason, 2, "503", ["UNKNOWN", "3"], "down # "),
    ] {
        let seen = |form| {
            let Outcome { stdout, stderr, code, .. } = ask(words, form);
            assert_eq!(stderr, "", "{words:?} in {form}");
            (stdout, code)
        };
        let (answer, status) = seen("http");
        assert!(answer.starts_with(&format!("HTTP/1.1 {http} ")) && answer.contains(reason), "{answer}");
        assert_eq!(status, Some(code), "{answer}");
        let (answer, status) = seen("text");
        assert!(answer.starts_with(&format!("{STATUS}: {word}: {reason}")), "{answer}");
        assert_eq!((answer.lines().count(), status), (1, Some(code)), "{answer}");
        let (answer, status) = seen("json");
        assert!(answer.contains(&format!("\"verdict\":\"{word}\"")) && status == Some(code), "{answer} {status:?}");
        let (answer, status) = seen("nagios");
        let drain = if word == "drain" { "drain: " } else { "" };
        assert!(answer.starts_with(&format!("MYSQLCHK-STATUS {level} - {drain}{reason}")), "{answer}");
        assert!(answer.contains(" | time=0.") && answer.lines().count() == 1, "{answer}");
        assert_eq!(status.map(|status| status.to_string()).as_deref(), Some(level_code), "{answer}");
        let (answer, status) = seen("agent");
        assert!(answer.starts_with(&format!("{agent}{reason}")) && answer.lines().count() == 1, "{answer}");
        assert_eq!(status, Some(code), "{answer}");
        let (answer, status) = seen("prometheus");
        assert_metrics(&answer);
        assert!(answer.starts_with(&format!("# {STATUS}: {word}: {reason}")), "{answer}");
        let is = |state| Some(f64::from(state == word));
        assert_eq!(states(STATUS, &answer), [is("up"), is("up"), is("drain"), is("down")], "{answer}");
        assert_eq!(status, Some(code), "{answer}");
    }
}

/// Without a request these answer at once, also to a client that sends none and keeps the connection.
#[test]
fn only_the_http_form_waits_for_a_request() {
    for form in ["nagios", "prometheus", "agent"] {
        let patient = ["--timeout=50s", NOWHERE];
        let outcome =
            Check::new(STATUS).args(patient).arg(format!("--format={form}")).stdin("").stdin_stays_open().run();
        assert!(outcome.elapsed < Duration::from_secs(10), "{form}: {outcome:?}");
    }
}

#[test]
fn the_end_of_a_note_is_a_metric() {
    let notes = Notes::new();
    let until = |text: &str| {
        notes.write(&format!("[maintenance]\nmode=down\n{text}"));
        let noted = notes.option();
        let page = Check::new("galera-chk").args([NOWHERE, PATIENT, &noted, "--format=prometheus"]).run().stdout;
        assert_metrics(&page);
        value(&page, "mysqlchk_maintenance_until_timestamp_seconds{program=\"galera-chk\"}")
    };
    assert_eq!(until("until=2999-01-01T00:00:00Z\n"), Some(32_472_144_000.0));
    assert_eq!(until(""), None);
    // It is over: as if there were none.
    assert_eq!(until("until=2000-01-01T00:00:00Z\n"), None);
}

#[test]
fn the_lag_of_a_replica_has_its_limits_in_each_form() {
    let (source, replica) = (Server::start(), Server::start());
    let link = replica.follow(&source);
    let [socket, account] = local(&replica);
    let ask = |form: &str, more: &[&str]| {
        let patient = [&socket, &account, PATIENT];
        Check::new(REPLICATION).args(patient).arg(format!("--format={form}")).args(more).run()
    };
    let nagios = |more: &[&str]| ask("nagios", more).stdout.split(" time=").next().unwrap().to_owned();
    let page = |more: &[&str]| {
        let page = ask("prometheus", more).stdout;
        assert_metrics(&page);
        page
    };
    let lag = format!("mysqlchk_replication_lag_seconds{{program=\"{REPLICATION}\",channel=\"\"}}");
    let limit = format!("mysqlchk_replication_lag_limit_seconds{{program=\"{REPLICATION}\"}}");
    assert_eq!(nagios(&["--drain-lag=10s"]), "MYSQLCHK-REPLICATION OK - lag is 0s, limit is 30s | lag=0s;10;30;0");
    assert_eq!(ask("agent", &[]).stdout, "up 100% # lag is 0s, limit is 30s\n");
    let seen = page(&["--max-lag=1500ms"]);
    assert_eq!((value(&seen, &lag), value(&seen, &limit)), (Some(0.0), Some(1.5)), "{seen}");

    link.break_by(Fault::Lag(Duration::from_secs(40)));
    let seen = page(&[]);
    let measured = value(&seen, &lag).unwrap();
    assert!((40.0..300.0).contains(&measured) && value(&seen, &limit) == Some(30.0), "{seen}");
    assert_eq!(states(REPLICATION, &seen), [0.0, 0.0, 0.0, 1.0].map(Some), "{seen}");
    let soft = ["--drain-lag=30s", "--max-lag=1h"];
    let (answer, code) = (nagios(&soft), ask("nagios", &soft).code);
    assert!(answer.starts_with("MYSQLCHK-REPLICATION WARNING - drain: lag is ") && code == Some(1), "{answer}");
    assert!(answer.contains(" | lag=") && answer.ends_with("s;30;3600;0"), "{answer}");
    assert!(ask("agent", &soft).stdout.starts_with("up 0% # drain: lag is "), "{:?}", ask("agent", &soft));
    assert!(ask("agent", &[]).stdout.starts_with("down # lag is "));
    // 40 to 400 s of 4000 are left out.
    let agent = ask("agent", &["--max-lag=4000s"]).stdout;
    let weight: u32 = agent.strip_prefix("up ").unwrap().split('%').next().unwrap().parse().unwrap();
    assert!((90..100).contains(&weight), "{agent}");

    // A lag that is unknown is absent, and never 0.
    link.heal();
    link.break_by(Fault::StopApplier);
    let seen = page(&[]);
    assert_eq!((value(&seen, &lag), value(&seen, &limit)), (None, Some(30.0)), "{seen}");
    assert!(nagios(&[]).ends_with("applier is `No`, not `Yes` | lag=U;;30;0"), "{}", nagios(&[]));
}

#[test]
fn each_channel_has_its_lag() {
    let (one, other, replica) = (Server::start(), Server::start(), Server::start());
    let (_a, _b) = (replica.follow_as("a", &one), replica.follow_as("b", &other));
    let [socket, account] = local(&replica);
    let ask = |more: &[&str]| Check::new(REPLICATION).args([&*socket, &account, PATIENT]).args(more).run().stdout;
    let labels = |answer: &str| {
        let data = answer.split_once(" | ").unwrap().1;
        data.split(' ').map(|field| field.split('=').next().unwrap().trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(labels(&ask(&["--format=nagios"])), ["lag_a", "lag_b", "time"]);
    assert_eq!(labels(&ask(&["--format=nagios", "--channel=B"])), ["lag_b", "time"]);
    let page = ask(&["--format=prometheus"]);
    assert_metrics(&page);
    for channel in ["a", "b"] {
        let lag = format!("mysqlchk_replication_lag_seconds{{program=\"{REPLICATION}\",channel=\"{channel}\"}}");
        assert_eq!(value(&page, &lag), Some(0.0), "{page}");
    }
}

#[test]
fn the_receive_queue_of_a_node_has_its_limit_in_each_form() {
    let cluster = Cluster::start();
    let [socket, account] = local(cluster.node(1));
    let ask = |form: &str, more: &[&str]| {
        let words = [&*socket, &account, PATIENT];
        Check::new("galera-chk").args(words).arg(format!("--format={form}")).args(more).run().stdout
    };
    cluster.hold_applier(1, 6);
    assert!(ask("agent", &["--max-recv-queue=10"]).starts_with("up 50% # local state is 4 (Synced)"));
    assert!(ask("agent", &["--max-recv-queue=5"]).starts_with("up 1% # local state is 4 (Synced)"));
    assert_eq!(ask("agent", &["--max-recv-queue=4"]), "down # receive queue is 5, limit is 4\n");
    assert!(ask("agent", &[]).starts_with("up 100% # local state is 4 (Synced)"));
    assert!(ask("nagios", &["--max-recv-queue=10"]).contains(" | recv_queue=5;;10;0 time="));
    let page = ask("prometheus", &["--max-recv-queue=10"]);
    assert_metrics(&page);
    let queue = |name: &str| value(&page, &format!("mysqlchk_galera_{name}{{program=\"galera-chk\"}}"));
    assert_eq!((queue("recv_queue"), queue("recv_queue_limit")), (Some(5.0), Some(10.0)), "{page}");
    cluster.node(1).open_gate();
}

/// The answer that is prepared for a server that hangs.
#[test]
fn an_answer_that_comes_late_has_each_form() {
    let server = Server::start();
    let [socket, account] = local(&server);
    server.freeze();
    let late = "no verdict within 300ms (while logging in)";
    let ask = |form: &str, more: &[&str]| {
        let words = [&*socket, &account, "--timeout=300ms"];
        Check::new(STATUS).args(words).arg(format!("--format={form}")).args(more).run()
    };
    let nagios = ask("nagios", &[]);
    // The timer and the clock that shows the time need not agree to a tenth of a millisecond.
    let wanted = ["0.2999", "0.3000"]
        .map(|time| (format!("MYSQLCHK-STATUS CRITICAL - {late} | time={time}s;;0.3;0\n"), Some(2)));
    assert!(wanted.contains(&(nagios.stdout.clone(), nagios.code)), "{nagios:?}");
    let agent = ask("agent", &[]);
    assert_eq!((agent.stdout, agent.code), (format!("down # {late}\n"), Some(1)));
    let page = ask("prometheus", &[]);
    assert_metrics(&page.stdout);
    assert_eq!(states(STATUS, &page.stdout), [0.0, 0.0, 0.0, 1.0].map(Some), "{page:?}");
    let duration = value(&page.stdout, "mysqlchk_check_duration_seconds{program=\"mysqlchk-status\"}");
    // Without the moment before its first step.
    assert!(duration.is_some_and(|time| (0.29..=0.3).contains(&time)) && page.code == Some(1), "{page:?}");
    // And goes into the file: what stood there before was a verdict of its own time.
    let place = Place::new();
    for form in FORMS {
        fs::write(place.file(), "up\n").unwrap();
        user::give(&place.file());
        let outcome = ask(form, &[&place.option()]);
        assert_eq!(outcome.stdout, "", "{form}: {outcome:?}");
        assert!(place.text().contains(late), "{form}: {}", place.text());
        assert_eq!(place.names(), ["mysqlchk.prom"], "{form}");
    }
    server.thaw();
}

/// Checks of all forms ask once, and each shows the numbers that another one measured.
#[test]
fn a_shared_answer_has_its_numbers_in_each_form() {
    let (source, replica) = (Server::start(), Server::start());
    let _link = replica.follow(&source);
    let state = Scratch::new("state");
    fs::set_permissions(state.path(), Permissions::from_mode(0o700)).unwrap();
    let [socket, account] = local(&replica);
    let shared =
        [socket, account, PATIENT.into(), "--share=20s".into(), format!("--share-dir={}", state.path().display())];
    let before = replica.counter("Connections");
    let ask = |form: &str| Check::new(REPLICATION).args(&shared).arg(format!("--format={form}")).run().stdout;
    assert!(ask("http").starts_with("HTTP/1.1 200 "));
    assert!(ask("nagios").contains("lag is 0s, limit is 30s | lag=0s;;30;0 time="));
    assert_eq!(ask("agent"), "up 100% # lag is 0s, limit is 30s\n");
    let page = ask("prometheus");
    assert_metrics(&page);
    let limit = format!("mysqlchk_replication_lag_limit_seconds{{program=\"{REPLICATION}\"}}");
    assert_eq!(value(&page, &limit), Some(30.0), "{page}");
    assert!(ask("json").contains("\"share\":\"shared\""));
    // The check's, and those of the two counts themselves.
    assert!(replica.counter("Connections") - before <= 2, "{before}");
}

#[test]
fn the_runner_of_nagios_plugins_reads_the_line_and_the_status() {
    let negate = PathBuf::from("/usr/lib/nagios/plugins/negate");
    let notes = Notes::new();
    notes.write("[maintenance]\nmode=drain\nreason=kernel upgrade\n");
    let (noted, program) = (notes.option(), binary(STATUS).display().to_string());
    // It turns each status into another one, and its word in the line as well.
    let states = ["--ok=CRITICAL", "--warning=OK", "--critical=WARNING", "--unknown=CRITICAL", "--substitute", "--"];
    let run = |more: &[&str]| {
        Check::program(&negate).args(states).args([&*program, "--format=nagios", PATIENT, NOWHERE]).args(more).run()
    };
    for (more, line, code) in [
        (&[&*noted][..], "MYSQLCHK-STATUS OK - drain: kernel upgrade | time=", 0),
        (&[], "MYSQLCHK-STATUS WARNING - cannot connect to /nowhere: no such socket | time=", 1),
        (&["--no-such-option"], "MYSQLCHK-STATUS CRITICAL - ", 2),
    ] {
        let outcome = run(more);
        assert!(outcome.stdout.starts_with(line) && outcome.code == Some(code), "{more:?}: {outcome:?}");
    }
    let server = Server::start();
    let [socket, account] = local(&server);
    let up = run(&[&socket, &account]);
    assert!(up.stdout.starts_with("MYSQLCHK-STATUS CRITICAL - the server answers") && up.code == Some(2), "{up:?}");
}

#[test]
fn every_form_goes_into_a_file_that_all_may_read() {
    let place = Place::new();
    for form in FORMS {
        let plain = Check::new(STATUS).args([NOWHERE, PATIENT]).arg(format!("--format={form}")).run();
        let filed = Check::program(std::path::Path::new("/bin/sh"))
            .args(["-c", "umask 077; exec \"$@\"", "sh"])
            .arg(binary(STATUS))
            .args([NOWHERE, PATIENT, &format!("--format={form}"), &place.option()])
            .run();
        assert_eq!((filed.stdout.as_str(), filed.stderr.as_str(), filed.code), ("", "", plain.code), "{form}");
        // But for the times.
        let words = |text: &str| {
            text.split(|c: char| c.is_ascii_digit() || c == '.').map(str::to_owned).collect::<Vec<_>>().concat()
        };
        assert_eq!(words(&place.text()), words(&plain.stdout), "{form}");
        assert_eq!(fs::metadata(place.file()).unwrap().permissions().mode() & 0o7777, 0o644, "{form}");
        assert_eq!(place.names(), ["mysqlchk.prom"]);
    }
    // Where no form is named it is text: a response is for a client.
    let by_default = Check::new(STATUS).args([NOWHERE, PATIENT, &place.option()]).run();
    assert_eq!((by_default.stdout.as_str(), by_default.code), ("", Some(1)));
    assert_eq!(place.text(), "mysqlchk-status: down: cannot connect to /nowhere: no such socket\n");
    // From an option file as well, and what cannot be configured goes there when the option is typed.
    let file = place.0.file("my.cnf", format!("[mysqlchk]\noutput={}\nformat=agent\n", place.file().display()));
    let defaults = format!("--defaults-file={}", file.display());
    assert_eq!(Check::new(STATUS).args([&defaults, NOWHERE, PATIENT]).run().stdout, "");
    assert_eq!(place.text(), "down # cannot connect to /nowhere: no such socket\n");
    let wrong = Check::new(STATUS).args([&place.option(), "--format=prometheus", "--defaults-file=/nowhere"]).run();
    assert_eq!((wrong.stdout.as_str(), wrong.code), ("", Some(2)));
    assert!(
        place.text().starts_with("# mysqlchk-status: down: cannot read option file /nowhere: "),
        "{}",
        place.text()
    );
}

/// A collector that reads at any moment, and takes what ends in `.prom` (`node_exporter`, "Textfile Collector").
#[test]
fn a_reader_finds_the_last_answer_and_always_whole() {
    let place = Place::new();
    let option = place.option();
    let ask = move || Check::new(STATUS).args([NOWHERE, PATIENT, "--format=prometheus", &option]).run();
    assert_eq!(ask().stdout, "");
    let writer = thread::spawn(move || (0..50).for_each(|_| assert_eq!(ask().stdout, "")));
    let mut reads = 0;
    while !writer.is_finished() {
        for name in place.names().iter().filter(|name| name.ends_with(".prom")) {
            let page = fs::read_to_string(place.0.join(name)).unwrap();
            assert!(
                page.starts_with("# mysqlchk-status: down: ") && page.contains("mysqlchk_build_info{"),
                "{name}: {page}"
            );
            reads += 1;
        }
    }
    writer.join().unwrap();
    assert!(reads > 50, "{reads}");
    assert_metrics(&place.text());
    // No timestamps: the collector refuses a file that has one.
    let series = place.text().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect::<Vec<_>>();
    assert!(
        series.iter().all(|line| line.rsplit_once("} ").is_some_and(|(_, rest)| !rest.contains(' '))),
        "{series:?}"
    );
    assert_eq!(place.names(), ["mysqlchk.prom"]);
}

#[test]
fn a_file_that_is_not_ours_is_left_alone_and_the_cause_is_told() {
    let place = Place::new();
    let victim = place.0.file("victim", "as it was\n");
    let told = |option: &str| {
        let outcome = Check::new(STATUS).args([NOWHERE, PATIENT, "--format=prometheus", option]).run();
        assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(2), ""), "{outcome:?}");
        outcome.stdout.replace(&place.0.path().display().to_string(), "DIR")
    };
    let cannot = |what: &str, why: &str| format!("{STATUS}: down: cannot write {what}: {why}\n");
    symlink(&victim, place.file()).unwrap();
    assert_eq!(told(&place.option()), cannot("DIR/mysqlchk.prom", "it is not a regular file"));
    assert!(fs::symlink_metadata(place.file()).unwrap().is_symlink());
    assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was\n");
    fs::remove_file(place.file()).unwrap();
    place.0.dir("mysqlchk.prom");
    assert_eq!(told(&place.option()), cannot("DIR/mysqlchk.prom", "it is not a regular file"));
    fs::remove_dir(place.file()).unwrap();
    assert_eq!(told("--output=/nowhere/a.prom"), cannot("/nowhere/a.prom", "no such directory"));
    assert_eq!(told("--output=/proc/a.prom"), cannot("/proc/a.prom", "no such directory"));
    assert_eq!(told("--output=/etc/a.prom"), cannot("/etc/a.prom", "permission denied"));
    assert_eq!(told("--output=/dev/null"), cannot("/dev/null", "it is not a regular file"));
    let limited = Check::program(std::path::Path::new("/bin/sh"))
        .args(["-c", "ulimit -f 0; exec \"$@\"", "sh"])
        .arg(binary(STATUS))
        .args([NOWHERE, PATIENT, "--format=prometheus", &place.option()])
        .run();
    assert!(limited.stdout.ends_with("the file would be too large\n") && limited.code == Some(2), "{limited:?}");
    if user::is_root() {
        fs::write(place.file(), "as it was\n").unwrap();
        chown(place.file(), Some(0), Some(0)).unwrap();
        assert_eq!(told(&place.option()), cannot("DIR/mysqlchk.prom", "it belongs to another user"));
        assert_eq!(place.text(), "as it was\n");
        assert_eq!(place.names(), ["mysqlchk.prom", "victim"]);
    }
    // A name that is none is an option that cannot be used.
    let none = Check::new(STATUS).args([NOWHERE, "--format=nagios", "--output=/"]).run();
    assert!(none.stdout.starts_with("MYSQLCHK-STATUS UNKNOWN - `--output` needs the path of a file"), "{none:?}");
    assert_eq!(none.code, Some(3));
}

/// As for an answer that comes late.
#[test]
fn a_crash_is_told_in_the_form_and_goes_into_the_file() {
    for to_file in [false, true] {
        let (silent, address) = fake::silent();
        let place = Place::new();
        let mut command = Command::new(binary(STATUS));
        command.args([format!("--host={}", address.ip()), format!("--port={}", address.port())]);
        command.args([PATIENT, "--format=nagios"]).args(to_file.then(|| place.option()));
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let check = user::drop_to_unprivileged(&mut command).spawn().unwrap();
        let _client = silent.accept().unwrap();
        kill_process(Pid::from_child(&check), Signal::SEGV).unwrap();
        let output = check.wait_with_output().unwrap();
        let told = String::from_utf8(output.stdout).unwrap();
        let wanted = "MYSQLCHK-STATUS CRITICAL - the reply could not be parsed\n";
        let seen = if to_file { [told, place.text()] } else { [place.text(), told] };
        assert_eq!((seen, output.status.code()), (["".to_owned(), wanted.to_owned()], Some(2)));
    }
}

/// An answer that comes late is told on stdout when the file cannot take it.
#[test]
fn a_late_answer_that_cannot_be_written_is_told() {
    let server = Server::start();
    let [socket, account] = local(&server);
    server.freeze();
    let words = [&*socket, &account, "--timeout=300ms", "--format=prometheus", "--output=/nowhere/a.prom"];
    let outcome = Check::new(STATUS).args(words).run();
    let told = format!("{STATUS}: down: cannot write /nowhere/a.prom: no such directory\n");
    assert_eq!((outcome.stdout, outcome.code), (told, Some(2)));
    server.thaw();
}

/// A client would get nothing, so it gets the reason.
#[test]
fn a_service_cannot_answer_into_a_file() {
    let place = Place::new();
    let (client, server) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut command = Command::new(binary(STATUS));
    command.args([NOWHERE, "--timeout=20s", &place.option()]).env_clear();
    user::drop_to_unprivileged(&mut command);
    command.stdin(std::os::fd::OwnedFd::from(server.try_clone().unwrap())).stdout(std::os::fd::OwnedFd::from(server));
    let mut child = command.spawn().unwrap();
    drop(command);
    let answer = std::io::read_to_string(client).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(answer.contains("`--output` cannot be used in a service") && place.names().is_empty(), "{answer}");
}

/// A person who asks for help gets it, and not the file.
#[test]
fn help_does_not_go_into_the_file() {
    let place = Place::new();
    let help = Check::new(STATUS).args(["--help", &place.option()]).run();
    assert!(help.stdout.contains("--output <FILE>") && help.code == Some(0), "{help:?}");
    assert!(place.names().is_empty());
}

/// Killed at any moment, it leaves the old answer or the new one.
#[test]
fn a_check_that_is_killed_leaves_a_whole_file() {
    let place = Place::new();
    let words = [NOWHERE, PATIENT, "--format=agent", &place.option()].map(str::to_owned);
    assert_eq!(Check::new(STATUS).args(&words).run().stdout, "");
    let whole = place.text();
    for round in 0..100_u32 {
        let mut command = Command::new(binary(STATUS));
        command.args(&words).env_clear().stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = user::drop_to_unprivileged(&mut command).spawn().unwrap();
        wait::dawdle(Duration::from_micros(u64::from(round) * 20));
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(place.text(), whole, "{round}");
    }
    // What such a process left is no file of a collector.
    assert!(place.names().iter().filter(|name| *name != "mysqlchk.prom").all(|name| !name.ends_with(".prom")));
}

#[test]
fn each_program_has_every_form() {
    for program in shipped::programs() {
        for form in FORMS {
            let outcome = Check::new(program).args([NOWHERE, PATIENT]).arg(format!("--format={form}")).run();
            assert!(
                outcome.stdout.contains("cannot connect to /nowhere: no such socket"),
                "{program} {form}: {outcome:?}"
            );
        }
    }
}
