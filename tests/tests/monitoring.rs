//! docs/monitoring.md: each command is typed, each line for cron and NRPE is run, and what is meant for Prometheus and Consul is
//! read by them, or as they read it. A block of the page that no test takes is an error.

use std::fs;
use std::process::{Command, Output};
use std::time::Duration;

use lab::daemon::Daemon;
use lab::program::{binary, local};
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::xinetd::{Services, Xinetd};
use lab::{address, http, roots, shipped, user, wait};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(60);
/// Where the page has the textfile collector look.
const COLLECTOR: &str = "/var/lib/prometheus/node-exporter";

/// The blocks of the page: the word after the fence, and the lines.
fn blocks() -> Vec<(String, Vec<String>)> {
    let page = fs::read_to_string(shipped::file("docs/monitoring.md")).unwrap();
    let mut blocks: Vec<(String, Vec<String>)> = Vec::new();
    let mut is_inside = false;
    for line in page.lines() {
        match line.strip_prefix("```") {
            Some(word) if !is_inside => {
                blocks.push((word.to_owned(), Vec::new()));
                is_inside = true;
            }
            Some(_) => is_inside = false,
            None if is_inside => blocks.last_mut().unwrap().1.push(line.to_owned()),
            None => {}
        }
    }
    blocks
}

/// The blocks with this word.
fn blocks_of(word: &str) -> Vec<Vec<String>> {
    blocks().into_iter().filter(|(have, _)| have == word).map(|(_, lines)| lines).collect()
}

/// A replica, the services of the page, and a shell whose programs ask that replica.
struct Host {
    source: Server,
    replica: Server,
    scratch: Scratch,
    _xinetd: Xinetd,
}

impl Host {
    fn start() -> Self {
        let (source, replica) = (Server::start(), Server::start());
        let scratch = Scratch::new("monitoring");
        scratch.dir("collector");
        let words = local(&replica).join(" ");
        for program in shipped::programs() {
            let text = format!("#!/bin/sh\nexec {} \"$@\" --timeout=20s {words}\n", binary(program).display());
            scratch.program(program, text);
        }
        let services = [
            shipped::services("mysqlchk", &replica),
            shipped::service("mysqlchk-agent", "mysqlchk-replication-agent", &replica),
            shipped::service("mysqlchk-metrics", "mysqlchk-replication-metrics", &replica),
        ];
        let xinetd = Xinetd::start(&services);
        wait::until("xinetd has told what it started", BOUND, || xinetd.log().contains("Started working: 4 available"));
        let complaints = ["WARN", "ERROR", "CRIT", "bad", "fail"].map(|word| xinetd.log().contains(word));
        assert_eq!(complaints, [false; 5], "{}", xinetd.log());
        Self { source, replica, scratch, _xinetd: xinetd }
    }

    /// A line of the page, with the names of this machine.
    fn local(&self, line: &str) -> String {
        let group = Command::new("id").args(["-gn", &user::unprivileged().name]).output().unwrap().stdout;
        line.replace("db01:", &format!("{}:", self.replica.ip()))
            .replace(COLLECTOR, &self.scratch.join("collector").display().to_string())
            .replace("-g mysqlchk", &format!("-g {}", String::from_utf8(group).unwrap().trim()))
            .replace("sudo -u mysqlchk ", "")
            .replace("/usr/local/bin", &self.scratch.path().display().to_string())
    }

    /// Runs it as root runs it, or as the account without privileges.
    fn run(&self, line: &str, as_root: bool) -> Output {
        let mut shell = Command::new("sh");
        shell.args(["-c", &self.local(line)]).env("PATH", format!("{}:/usr/bin:/bin", self.scratch.path().display()));
        shell.current_dir("/");
        if as_root { &mut shell } else { user::drop_to_unprivileged(&mut shell) }.output().unwrap()
    }
}

/// A text without what varies: numbers, and what stands behind `...`.
fn shape(text: &str) -> String {
    let text = text.split("...").next().unwrap_or_default().trim_end();
    let mut shape = String::new();
    for c in text.chars() {
        let digit = c.is_ascii_digit() || c == '.';
        if !(digit && shape.ends_with('0')) {
            shape.push(if digit { '0' } else { c });
        }
    }
    shape
}

#[test]
fn each_command_of_the_page_prints_what_the_page_shows() {
    let host = Host::start();
    let link = host.replica.follow(&host.source);
    let commands = blocks_of("console");
    assert!(commands.len() >= 5, "{commands:?}");
    for lines in commands {
        let (prompt, command) = lines[0].split_at(2);
        assert!(["$ ", "# "].contains(&prompt), "{lines:?}");
        // The page shows an agent whose replica lags.
        let lags = lines.iter().any(|line| line.starts_with("up 87%"));
        if lags {
            link.break_by(Fault::Lag(Duration::from_secs(4)));
        }
        let output = host.run(command, prompt == "# ");
        assert!(output.status.success(), "{command}: {output:?}");
        let seen = String::from_utf8(output.stdout).unwrap();
        let (seen, wanted) = (shape(&seen), shape(&lines[1..].join("\n")));
        let is_shown =
            if lines.last().is_some_and(|line| line == "...") { seen.starts_with(&wanted) } else { seen == wanted };
        assert!(is_shown, "{command}\n{seen}\n{wanted}");
        if lags {
            link.heal();
        }
    }
}

/// NRPE and cron run these as they stand, but for the names of this machine.
#[test]
fn each_line_for_another_program_does_what_the_page_says() {
    let host = Host::start();
    let _link = host.replica.follow(&host.source);
    let lines: Vec<String> = blocks_of("").into_iter().flatten().collect();
    let [nrpe, cron, haproxy] = lines.as_slice() else { panic!("{lines:#?}") };
    let (name, command) = nrpe.strip_prefix("command[").unwrap().split_once("]=").unwrap();
    assert_eq!(name, "mysqlchk-replication");
    let output = host.run(command, false);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("MYSQLCHK-REPLICATION OK - lag is 0s, limit is 30s | lag=0s;10;30;0 "), "{output:?}");

    let mut fields = cron.split_whitespace();
    assert!(fields.by_ref().take(5).eq(["*"; 5]), "{cron}");
    assert_eq!(fields.next(), Some("mysqlchk"));
    let output = host.run(&fields.collect::<Vec<_>>().join(" "), false);
    assert!(output.status.success() && output.stdout.is_empty() && output.stderr.is_empty(), "{output:?}");
    let page = fs::read_to_string(host.scratch.join("collector/mysqlchk-replication.prom")).unwrap();
    assert!(page.contains("mysqlchk_up{program=\"mysqlchk-replication\"} 1\n"), "{page}");
    // The suite `agent` gives this one to HAProxy.
    assert!(haproxy.trim_start().starts_with("default-server "), "{haproxy}");
}

/// The configuration of the page in Debian's Prometheus, and its rules.
#[test]
fn prometheus_scrapes_the_service_by_the_configuration_of_the_page() {
    let host = Host::start();
    let link = host.replica.follow(&host.source);
    let yaml = blocks_of("yaml");
    let [configuration, rules] = yaml.as_slice() else { panic!("{yaml:#?}") };
    let (configuration, rules) = (configuration.join("\n") + "\n", rules.join("\n") + "\n");
    let promtool = |words: [&str; 2], name: &str, text: &str| {
        let file = host.scratch.file(name, text);
        let output = roots::bookworm().command("promtool").args(words).arg(file).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    promtool(["check", "config"], "page.yml", &configuration);
    promtool(["check", "rules"], "rules.yml", &rules);

    // One target is this machine's, and the other one is not there; it looks more often.
    let configuration = host.local(&configuration).replace("\"db02:9203\"", "\"127.0.0.1:1\"");
    let configuration = format!(
        "global:\n  scrape_interval: 1s\n  scrape_timeout: 1s\n  evaluation_interval: 1s\nrule_files: [{}]\n{}",
        host.scratch.join("rules.yml").display(),
        configuration.replace("    scrape_timeout: 5s\n", "")
    );
    let file = host.scratch.file("prometheus.yml", configuration);
    let here = address::fresh_port();
    let mut command = roots::bookworm().command("prometheus");
    command
        .arg(format!("--config.file={}", file.display()))
        .arg(format!("--storage.tsdb.path={}", host.scratch.dir("data").display()))
        .arg(format!("--web.listen-address={here}"))
        .current_dir(host.scratch.path());
    let mut daemon = Daemon::start(user::drop_to_unprivileged(&mut command), &host.scratch.join("prometheus.log"));
    daemon.until_ready(BOUND, || address::listens(here.into()));
    let ask = |query: &str| -> Option<String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
        let answer: Value = serde_json::from_str(&http::exchange(here.into(), request.as_bytes()).body()).ok()?;
        Some(answer["data"]["result"][0]["value"][1].as_str()?.to_owned())
    };
    let until = |query: &str, wanted: Option<&str>| {
        wait::until_equal(query, BOUND, wanted.map(str::to_owned), || ask(query));
    };
    until("mysqlchk_up{program=\"mysqlchk-replication\"}", Some("1"));
    until("mysqlchk_replication_lag_seconds", Some("0"));
    until("mysqlchk_replication_lag_limit_seconds", Some("30"));
    // Down is a scrape that was successful; a lag that is unknown is gone, and its graph ends.
    link.break_by(Fault::StopApplier);
    until("mysqlchk_up", Some("0"));
    until(&format!("up{{instance=\"{}:9203\"}}", host.replica.ip()), Some("1"));
    until("mysqlchk_replication_lag_seconds", None);
    until("up{instance=\"127.0.0.1:1\"}", Some("0"));
    until("count(ALERTS{alertname=\"MysqlDown\"})", Some("2"));
    link.heal();
    // Behind by more than half of its limit, and not down.
    link.break_by(Fault::Lag(Duration::from_secs(16)));
    until("count(ALERTS{alertname=\"MysqlReplicaFallsBehind\"})", Some("1"));
}

/// A scrape is HTTP: what the other ports know of requests holds here, too.
#[test]
fn a_scrape_gets_a_200_and_a_client_without_a_request_as_well() {
    let host = Host::start();
    let metrics = shipped::service("mysqlchk-metrics", "mysqlchk-replication-metrics", &host.replica);
    let here = metrics.address("mysqlchk-replication-metrics");
    for request in ["GET / HTTP/1.0\r\n\r\n", "GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n", ""] {
        let reply = http::exchange(here, request.as_bytes());
        assert_eq!((reply.status(), reply.reset), (200, false), "{reply:?}");
        assert_eq!(reply.header("Content-Type").as_deref(), Some("text/plain; version=0.0.4"), "{reply:?}");
        assert!(reply.body().starts_with("# mysqlchk-replication: down: no replication is configured\n"), "{reply:?}");
    }
    let head = http::exchange(here, b"HEAD / HTTP/1.0\r\n\r\n");
    assert!(head.status() == 200 && head.body().is_empty() && head.header("Content-Length").is_some(), "{head:?}");
    let garbage = http::exchange(here, b"\x16\x03\x01\x02\x00\x01\r\n\r\n");
    assert!(garbage.status() == 200 && garbage.text().contains("mysqlchk_up{program=\"mysqlchk-replication\"} 0"));
}

/// `agent-send` of `HAProxy`, or nothing: the answer comes at once, whole, and without a reset.
#[test]
fn an_agent_answers_whatever_its_client_sends() {
    let host = Host::start();
    let agent = shipped::service("mysqlchk-agent", "mysqlchk-replication-agent", &host.replica);
    for request in ["", "db01\n", "GET / HTTP/1.0\r\n\r\n"] {
        let reply = http::exchange(agent.address("mysqlchk-replication-agent"), request.as_bytes());
        let seen = (reply.text(), reply.reset);
        assert_eq!(seen, ("down # no replication is configured\n".to_owned(), false), "{request:?}");
    }
}

#[test]
fn consul_is_not_told_that_a_server_that_is_down_only_warns() {
    let host = Host::start();
    let json: Vec<Value> =
        blocks_of("json").iter().map(|lines| serde_json::from_str(&lines.join("\n")).unwrap()).collect();
    let [http_check, script] = json.as_slice() else { panic!("{json:#?}") };
    // An HTTP check: anything but a 2xx and 429 is critical.
    let url = http_check["check"]["http"].as_str().unwrap();
    let services = Services::read(shipped::file("xinetd.d/mysqlchk"));
    let port = services.value("mysqlchk-replication", "port").unwrap();
    assert_eq!(url, format!("http://127.0.0.1:{port}/"));
    let reply = http::get((host.replica.ip(), port.parse().unwrap()).into());
    assert_eq!(reply.status(), 503, "{reply:?}");
    // A script: 1 is a warning, which keeps its traffic, so down must be another one.
    let words: Vec<&str> =
        script["check"]["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let run = |words: &[&str]| host.run(&words.join(" "), false).status.code();
    assert_eq!(run(&words), Some(2));
    assert_eq!(run(&[words[0], "--format=text"]), Some(1), "what the page warns of");
    let page = fs::read_to_string(shipped::file("docs/monitoring.md")).unwrap();
    assert!(page.contains("> **A script check of Consul must not run our `text` or `json` form.**"));
}

#[test]
fn every_block_of_the_page_is_taken_by_a_test() {
    let words: Vec<String> = blocks().into_iter().map(|(word, _)| word).collect();
    assert!(words.iter().all(|word| ["console", "", "yaml", "json"].contains(&word.as_str())), "{words:?}");
}
