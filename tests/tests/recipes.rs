//! The recipes of `docs/recipes`, as they stand there.

use std::fs::{self, File};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lab::daemon::{Daemon, program};
use lab::haproxy::{Haproxy, Release};
use lab::network::{Host, Network, inside};
use lab::notes::{Notes, words};
use lab::program::{binary, local};
use lab::replica::Fault;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::xinetd::{Services, Xinetd};
use lab::{http, janitor, shipped, user, wait};
use serde_json::Value;

const BOUND: Duration = Duration::from_secs(60);

/// A recipe.
fn read(name: &str) -> String {
    fs::read_to_string(shipped::file(&format!("docs/recipes/{name}"))).unwrap()
}

/// The blocks of a text whose fence has this word, in their order.
fn blocks<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    // Every other part is a block; it begins with the word of its fence.
    let all = text.split("\n```").skip(1).step_by(2);
    let found: Vec<_> = all.filter_map(|block| block.split_once('\n')).filter(|block| block.0 == word).collect();
    assert!(!found.is_empty(), "no block of {word:?}");
    found.into_iter().map(|block| block.1).collect()
}

/// The part of a recipe below a heading.
fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let (_, rest) = text.split_once(&format!("\n## {heading}")).unwrap_or_else(|| panic!("no section {heading}"));
    rest.split("\n## ").next().unwrap()
}

/// Two databases with all that a dump can hold, and what would show a wrong order: foreign keys in both directions, triggers that
/// write, a view of a view.
const SCHEMA: &str = r"
CREATE DATABASE shop; CREATE DATABASE `we ird`;
USE shop;
CREATE TABLE a (id INT PRIMARY KEY, b INT, note TEXT, bin BLOB);
CREATE TABLE b (id INT PRIMARY KEY, a INT, FOREIGN KEY (a) REFERENCES a (id)) ;
ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b (id);
CREATE TABLE log (id INT AUTO_INCREMENT PRIMARY KEY, what VARCHAR(20));
CREATE TRIGGER written AFTER INSERT ON b FOR EACH ROW INSERT INTO log (what) VALUES (NEW.id);
CREATE VIEW v1 AS SELECT id, note FROM a;
CREATE VIEW v2 AS SELECT v1.id FROM v1 JOIN b ON b.a = v1.id;
CREATE FUNCTION twice(n INT) RETURNS INT DETERMINISTIC RETURN
-- Dumping data for table `a`
2 * n;
CREATE EVENT later ON SCHEDULE EVERY 1 YEAR DO DELETE FROM log;
INSERT INTO a (id, note, bin) SELECT seq, CONCAT('line\n-- Dumping data for table `b`\n', seq, ' ''ä'), UNHEX(MD5(seq)) FROM seq_1_to_5000;
INSERT INTO b SELECT seq, seq FROM seq_1_to_3000;
UPDATE a SET b = id WHERE id <= 3000;
CREATE TABLE empty (id INT PRIMARY KEY);
USE `we ird`;
CREATE TABLE `a b` (id INT PRIMARY KEY, other INT, FOREIGN KEY (other) REFERENCES shop.a (id));
INSERT INTO `a b` SELECT seq, seq FROM seq_1_to_100;
";

/// One of MariaDB's programs, with what leads it to this server.
fn of_mariadb(name: &str, server: &Server, scratch: &Scratch) -> Command {
    let file = scratch.file("admin.cnf", format!("[client]\nuser=admin\npassword={PASSWORD}\n"));
    let mut command = Command::new(program(name));
    command.arg(format!("--defaults-file={}", file.display())).arg("--default-character-set=utf8mb4");
    command.arg("-S").arg(server.socket());
    command
}

fn dump(server: &Server, scratch: &Scratch, options: &[&str]) -> Vec<u8> {
    let mut dump = of_mariadb("mariadb-dump", server, scratch);
    dump.args(["--routines", "--events", "--skip-dump-date"]).args(options);
    let Output { status, stdout, stderr } = dump.args(["--databases", "shop", "we ird"]).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    stdout
}

/// Runs the script of the document with three clients.
fn import(script: &Path, dump: &Path, client: &Command) -> Output {
    let mut import = Command::new("sh");
    import.arg(script).arg(dump).arg("3").arg(client.get_program()).args(client.get_args());
    import.output().unwrap()
}

#[test]
fn a_dump_loaded_by_several_clients_is_the_dump_loaded_by_one() {
    let (source, plain, parallel) = (Server::start(), Server::start(), Server::start());
    source.sql(SCHEMA);
    let scratch = Scratch::new("import");
    let file = scratch.file("dump.sql", dump(&source, &scratch, &[]));
    let script = scratch.program("import", blocks(&read("import.md"), "sh")[0]);

    assert!(of_mariadb("mariadb", &plain, &scratch).stdin(File::open(&file).unwrap()).status().unwrap().success());
    let client = of_mariadb("mariadb", &parallel, &scratch);
    let done = import(&script, &file, &client);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let (plain, loaded) = (dump(&plain, &scratch, &[]), dump(&parallel, &scratch, &[]));
    assert!(plain.len() > 400_000, "{}", plain.len());
    assert!(loaded == plain, "the parallel import differs from the plain one");

    let bare = scratch.file("bare.sql", dump(&source, &scratch, &["--skip-comments"]));
    let done = import(&script, &bare, &client);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("--skip-comments"), "{done:?}");
    let text = String::from_utf8_lossy(&fs::read(&file).unwrap()).into_owned();
    let purged = text.replacen("/*!40101 SET NAMES", "SET @@GLOBAL.GTID_PURGED='x:1';\n/*!40101 SET NAMES", 1);
    let done = import(&script, &scratch.file("purged.sql", purged), &client);
    assert!(!done.status.success() && String::from_utf8_lossy(&done.stderr).contains("GTID_PURGED"), "{done:?}");
    // A client that fails is an error of the whole.
    let broken = text.replacen("INSERT INTO `b`", "INSERT INTO `nowhere`", 1);
    assert!(!import(&script, &scratch.file("broken.sql", broken), &client).status.success());
}

/// A host with programs of its own in `/usr/local/bin`, and with the account `mysqlchk`: what it runs finds both where a document
/// has them.
struct Equipped {
    host: Host,
    programs: PathBuf,
}

impl Equipped {
    /// A host where each check asks this server, with these arguments before its own.
    fn new(host: Host, arguments: &[String]) -> Self {
        let programs = janitor::base().join(format!("programs-of-{}", host.address()));
        fs::create_dir(&programs).unwrap();
        let equipped = Self { host, programs };
        for name in ["mysqlchk-status", "mysqlchk-replication"] {
            equipped.has(name, &format!("exec {} {} \"$@\"", binary(name).display(), arguments.join(" ")));
        }
        // Of what the checks send to the system log.
        equipped.has("logger", &format!("exec cat >>{}", equipped.told().display()));
        fs::write(equipped.told(), "").unwrap();
        user::give(&equipped.told());
        equipped
    }

    /// Puts a program there; keepalived runs only what is root's.
    fn has(&self, name: &str, script: &str) {
        let text = self.host.scratch().file(&format!("{name}.text"), format!("#!/bin/sh\n{script}\n"));
        let done = Command::new("install").args(["-m", "755"]).args([&text, &self.programs.join(name)]).status();
        assert!(done.unwrap().success());
    }

    fn told(&self) -> PathBuf {
        self.programs.join("told")
    }

    /// keepalived, ready for its arguments.
    fn keepalived(&self, configuration: &str) -> Command {
        let account = user::unprivileged();
        let accounts = fs::read_to_string("/etc/passwd").unwrap();
        let accounts = format!("mysqlchk:x:{}:{}::/:/bin/false\n{accounts}", account.uid, account.gid);
        let accounts = self.host.scratch().file("passwd", accounts);
        let configuration = self.host.scratch().file("keepalived.conf", configuration);
        let mut command = self.host.command("unshare");
        command.args(["--mount", "sh", "-ec"]);
        command.arg(
            "mount --bind \"$0\" /usr/local/bin; mount --bind \"$1\" /etc/passwd; shift; \
             export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; exec keepalived \"$@\"",
        );
        command.arg(&self.programs).arg(accounts).arg("--use-file").arg(configuration);
        command
    }

    fn start(&self, configuration: &str) -> Daemon {
        let path = |name: &str| self.host.scratch().join(name);
        let mut command = self.keepalived(configuration);
        command.args(["--vrrp", "--dont-fork", "--log-console", "--log-detail"]);
        command.arg("--pid").arg(path("pid")).arg("--vrrp_pid").arg(path("vrrp.pid"));
        Daemon::start(&mut command, &path("keepalived.log"))
    }
}

/// Waits until exactly this host has the address, or none.
#[track_caller]
fn until_held(what: &str, hosts: &[Equipped; 2], daemons: &[Daemon; 2], address: Ipv4Addr, by: Option<usize>) {
    let holders = || (0..2).filter(|&number| hosts[number].host.holds(address)).collect::<Vec<_>>();
    wait::until_ok(what, BOUND, || {
        let seen = holders();
        if seen == by.into_iter().collect::<Vec<_>>() {
            Ok(())
        } else {
            Err(format!("{address} is held by {seen:?}\n{}\n{}", daemons[0].log(), daemons[1].log()))
        }
    });
}

/// Waits until one host has the address, and returns which.
#[track_caller]
fn until_one_holds(hosts: &[Equipped; 2], daemons: &[Daemon; 2], address: Ipv4Addr) -> usize {
    wait::until_ok("one host has the address", BOUND, || {
        let states = [0, 1].map(|number: usize| {
            let log = daemons[number].log();
            let last = log.lines().filter_map(|line| line.split_once(" Entering ")?.1.split(' ').next()).next_back();
            last.unwrap_or_default().to_owned()
        });
        match [0, 1].map(|number: usize| hosts[number].host.holds(address)) {
            [true, false] if states == ["MASTER", "BACKUP"] => Ok(0),
            [false, true] if states == ["BACKUP", "MASTER"] => Ok(1),
            held => Err(format!("{held:?} {states:?}\n{}\n{}", daemons[0].log(), daemons[1].log())),
        }
    })
}

#[test]
fn the_read_address_of_keepalived_leaves_a_replica_that_is_not_up() {
    if !inside("the_read_address_of_keepalived_leaves_a_replica_that_is_not_up") {
        return;
    }
    const READS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);
    let addresses = [13, 14].map(|last| Ipv4Addr::new(192, 0, 2, last));
    let network = Network::new(&[Ipv4Addr::new(192, 0, 2, 1)]);
    let source = Server::start();
    let servers = [Server::start(), Server::start()];
    let links = [servers[0].follow(&source), servers[1].follow(&source)];
    let scratch = Scratch::new("keepalived");
    let note = |number: usize| scratch.join(&format!("note{number}"));
    let hosts = [0, 1].map(|number: usize| {
        let host = network.host(&format!("replica{number}"), addresses[number]);
        let note = format!("--maintenance-file={}", note(number).display());
        Equipped::new(host, &[&local(&servers[number])[..], &[note]].concat())
    });
    let text = read("keepalived.md");
    let first = blocks(section(&text, "Replicas"), "")[0].to_owned();
    let [own, peer] = addresses.map(|address| address.to_string());
    let second = first.replace(&own, "OWN").replace(&peer, &own).replace("OWN", &peer);
    let texts = [first, second];
    let mut daemons = [0, 1].map(|number| hosts[number].start(&texts[number]));

    let mut has = until_one_holds(&hosts, &daemons, READS);
    // Each of the statuses that is not 0: down, drain, and a check that cannot be made.
    links[has].break_by(Fault::StopApplier);
    until_held("the address left a replica that is down", &hosts, &daemons, READS, Some(1 - has));
    wait::until_equal("the reason is in the system log, once", BOUND, "applier is `No`, not `Yes`".to_owned(), || {
        let told = fs::read_to_string(hosts[has].told()).unwrap();
        told.strip_prefix("mysqlchk-replication: down: ").unwrap_or(&told).trim_end().to_owned()
    });
    links[has].heal();
    has = 1 - has;
    assert_eq!(until_one_holds(&hosts, &daemons, READS), has, "the cure moved the address");

    fs::write(note(has), "[maintenance]\nmode = drain\n").unwrap();
    until_held("the address left a replica that is drained", &hosts, &daemons, READS, Some(1 - has));
    fs::remove_file(note(has)).unwrap();
    has = 1 - has;
    assert_eq!(until_one_holds(&hosts, &daemons, READS), has, "the end of the drain moved the address");

    hosts[has]
        .has("mysqlchk-replication", &format!("exec {} --no-such-option", binary("mysqlchk-replication").display()));
    until_held("the address left a check with a wrong option", &hosts, &daemons, READS, Some(1 - has));
    assert!(daemons[has].log().contains("exited with status 2"), "{}", daemons[has].log());
    // Neither is fit.
    links[1 - has].break_by(Fault::StopReceiver);
    until_held("no host has the address", &hosts, &daemons, READS, None);
    daemons.iter_mut().for_each(Daemon::stop);

    // The same two hosts, with a weight.
    let weighted = texts.map(|text| text.replace("    rise     5\n", "    rise     5\n    weight   50\n"));
    let weighted = weighted.map(|text| text.replace("    nopreempt\n", ""));
    daemons = [0, 1].map(|number| hosts[number].start(&weighted[number]));
    until_one_holds(&hosts, &daemons, READS);
    links[1 - has].heal();
    until_held("the address is where the check passes", &hosts, &daemons, READS, Some(1 - has));
}

#[test]
fn keepalived_gives_the_address_to_a_host_whose_check_is_missing_and_logs_it() {
    if !inside("keepalived_gives_the_address_to_a_host_whose_check_is_missing_and_logs_it") {
        return;
    }
    let network = Network::new(&[Ipv4Addr::new(192, 0, 2, 1)]);
    let host = Equipped::new(network.host("alone", Ipv4Addr::new(192, 0, 2, 13)), &["--no-such-option".to_owned()]);
    fs::remove_file(host.programs.join("mysqlchk-replication")).unwrap();
    let text = read("keepalived.md");
    let daemon = host.start(blocks(section(&text, "Replicas"), "")[0]);
    wait::until("it has the address", BOUND, || host.host.holds(Ipv4Addr::new(192, 0, 2, 20)));
    assert!(daemon.log().contains("Disabling track script"), "{}", daemon.log());
}

/// A shipped file with the lines at its top that a recipe gives one of its two hosts.
fn with_lines(file: &str, lines: &str) -> String {
    let mut text = fs::read_to_string(shipped::file(file)).unwrap();
    for line in lines.lines() {
        let name = line.split_once('=').unwrap().0;
        let old = text.lines().find(|old| old.starts_with(&format!("{name}="))).unwrap_or_else(|| panic!("{name}"));
        text = text.replace(&format!("\n{old}\n"), &format!("\n{line}\n"));
    }
    text
}

#[test]
fn the_write_address_of_keepalived_leaves_a_master_with_the_values_of_the_other_one() {
    if !inside("the_write_address_of_keepalived_leaves_a_master_with_the_values_of_the_other_one") {
        return;
    }
    const WRITES: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    let network = Network::new(&[Ipv4Addr::new(192, 0, 2, 1)]);
    let text = read("keepalived.md");
    let recipe = section(&text, "Two masters");
    let ini = blocks(recipe, "ini");
    let of_server = |number: usize| ini[number].lines().filter(|line| line.starts_with("auto_")).collect::<Vec<_>>();
    let servers = [Server::start_with(&of_server(0)), Server::start_with(&of_server(1))];
    let _links = [servers[0].follow(&servers[1]), servers[1].follow(&servers[0])];
    let hosts = [0, 1].map(|number: usize| {
        let host =
            network.host(&format!("master{number}"), Ipv4Addr::new(192, 0, 2, 11 + u8::try_from(number).unwrap()));
        let file = host.scratch().file("my.cnf", ini[2 + number]);
        let file = format!("--defaults-file={}", file.display());
        Equipped::new(host, &[&[file], &local(&servers[number])[..]].concat())
    });
    let lines = blocks(recipe, "");
    let daemons =
        [0, 1].map(|number| hosts[number].start(&with_lines("haproxy/keepalived-masters.conf", lines[number])));
    assert_eq!(until_one_holds(&hosts, &daemons, WRITES), 0);
    servers[0].sql("SET GLOBAL auto_increment_offset=2");
    until_held("the address left the master with the wrong offset", &hosts, &daemons, WRITES, Some(1));
    servers[0].sql("SET GLOBAL auto_increment_offset=1");
    assert_eq!(until_one_holds(&hosts, &daemons, WRITES), 1, "the cure moved the address");
    servers[1].kill9();
    until_held("the address left a dead master", &hosts, &daemons, WRITES, Some(0));
}

#[test]
fn the_address_of_two_haproxy_hosts_leaves_the_one_whose_haproxy_ends() {
    if !inside("the_address_of_two_haproxy_hosts_leaves_the_one_whose_haproxy_ends") {
        return;
    }
    const CLIENTS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 30);
    let network = Network::new(&[Ipv4Addr::new(192, 0, 2, 1)]);
    let text = read("keepalived.md");
    let lines = blocks(section(&text, "Two HAProxy"), "");
    let account = user::unprivileged();
    let hosts = [31, 32]
        .map(|last| Equipped::new(network.host(&format!("haproxy{last}"), Ipv4Addr::new(192, 0, 2, last)), &[]));
    let mut fronts = hosts.each_ref().map(|Equipped { host, .. }| {
        let socket = host.scratch().join("stats.sock").display().to_string();
        let own = [("RUN_AS_USER", &*account.name), ("RUN_AS_GROUP", &account.group), ("STATS_SOCKET", &socket)];
        // The databases need not be there.
        let file = shipped::file("haproxy/replicas.cfg");
        Some(Haproxy::start_by(host.wrap(&Release::Host.command()), &file, &own))
    });
    let daemons = [0, 1].map(|number| hosts[number].start(&with_lines("haproxy/keepalived.conf", lines[number])));
    assert_eq!(until_one_holds(&hosts, &daemons, CLIENTS), 0);
    fronts[0].take();
    until_held("the address left the host without HAProxy", &hosts, &daemons, CLIENTS, Some(1));
}

const STATUS: &str = "mysqlchk-status";
const DRAIN: &str = "[maintenance]\nmode = drain\nreason = index build\n";

/// A file in `xinetd.d` has this service on this port.
fn port(name: &str) -> u64 {
    Services::read(shipped::file("xinetd.d/mysqlchk")).value(name, "port").unwrap().parse().unwrap()
}

fn status_of(command: &mut Command) -> i32 {
    let done = command.output().unwrap();
    done.status.code().unwrap_or_else(|| panic!("{done:?}"))
}

/// The documents of a YAML text, as PyYAML reads them: a key that stands twice or a wrong indent changes what it finds.
fn yaml(text: &str, scratch: &Scratch) -> Value {
    let script = "import json, sys, yaml\njson.dump(yaml.safe_load(open(sys.argv[1])), sys.stdout)";
    let mut python = Command::new("/usr/bin/python3");
    let done = python.args(["-c", script]).arg(scratch.file("block.yaml", text)).output().unwrap();
    assert!(done.status.success(), "{text}{}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// The requests on record, through the real xinetd: what each client makes of the code is in the recipes.
#[test]
fn consul_kubernetes_and_aws_get_the_code_of_each_verdict() {
    let server = Server::start();
    let notes = Notes::new();
    notes.write(DRAIN);
    let up = shipped::services("mysqlchk", &server).set("mysqlchk-replication", "disable", "yes").append(
        STATUS,
        "server_args",
        "--timeout=8s",
    );
    let on = |port: u16, more: &str| {
        up.clone().set(STATUS, "id", port).set(STATUS, "port", port).append(STATUS, "server_args", more)
    };
    let (down, drained) = (on(9202, "--require-read-only"), on(9203, &notes.option()));
    let _xinetd = Xinetd::start(&[up.clone(), down.clone(), drained.clone()]);
    for client in ["consul", "kubelet", "aws-alb", "aws-nlb"] {
        let request = fs::read(shipped::file(&format!("tests/requests/{client}.request"))).unwrap();
        for (services, code, body) in [
            (&up, 200, "up: the server answers, read_only is OFF\n"),
            (&down, 503, "down: read_only is OFF, not ON\n"),
            (&drained, 404, "drain: index build\n"),
        ] {
            let reply = http::exchange(services.address(STATUS), &request);
            assert_eq!((reply.status(), &*reply.body(), reply.reset), (code, body, false), "{client}");
        }
    }
    // What the recipe for Kubernetes says of the request.
    let request = fs::read_to_string(shipped::file("tests/requests/kubelet.request")).unwrap();
    let recipe = read("kubernetes.md");
    for line in request.lines().filter(|line| !line.is_empty() && !line.starts_with("Host")) {
        assert!(recipe.contains(&format!("`{line}`")), "{line}");
    }
    let agent = |client: &str| {
        let request = fs::read_to_string(shipped::file(&format!("tests/requests/{client}.request"))).unwrap();
        request.lines().find(|line| line.starts_with("User-Agent")).unwrap().to_owned()
    };
    assert!(read("cloud.md").contains(&format!("`{}`", agent("aws-nlb"))));
}

#[test]
fn the_services_of_consul_ask_the_ports_of_the_checks_and_a_script_that_is_down_is_no_warning() {
    let server = Server::start();
    let notes = Notes::new();
    let text = read("consul.md");
    let json: Vec<Value> =
        blocks(&text, "json").into_iter().map(|block| serde_json::from_str(block).unwrap()).collect();
    let [services, script] = json.as_slice() else { panic!("{json:#?}") };
    let asked: Vec<_> = services["services"].as_array().unwrap().iter().map(|service| &service["checks"][0]).collect();
    for (check, name) in asked.iter().zip([STATUS, "mysqlchk-replication"]) {
        assert_eq!(check["http"], format!("http://127.0.0.1:{}/", port(name)));
    }
    assert_eq!(asked.len(), 2);
    let words: Vec<&str> =
        script["service"]["checks"][0]["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    let run = |more: &str, format: &str| {
        let mut command = Command::new(binary(words[0].rsplit('/').next().unwrap()));
        command.arg(format).args(local(&server)).arg(notes.option()).arg(more);
        status_of(user::drop_to_unprivileged(&mut command))
    };
    let (up, text_form) = ("--if-not-replica=up", "--format=text");
    assert_eq!(run(up, words[1]), 0);
    assert_eq!((run("--timeout=2s", words[1]), run("--timeout=2s", text_form)), (2, 1));
    assert_eq!((run("--nowhere", words[1]), run("--nowhere", text_form)), (3, 2));
    notes.write(DRAIN);
    assert_eq!((run(up, words[1]), run(up, text_form)), (1, 1));
}

#[test]
fn the_probes_of_kubernetes_are_for_readiness_and_a_drained_pod_is_not_ready() {
    let scratch = Scratch::new("kubernetes");
    let source = Server::start();
    let replica = Server::start();
    let link = replica.follow(&source);
    let text = read("kubernetes.md");
    let yaml: Vec<Value> = blocks(&text, "yaml").into_iter().map(|block| yaml(block, &scratch)).collect();
    let [pod, http] = yaml.as_slice() else { panic!("{yaml:#?}") };
    assert_eq!(http["readinessProbe"]["httpGet"]["port"], port("mysqlchk-replication"));
    let container = &pod["spec"]["containers"][0];
    assert!(container["livenessProbe"]["exec"].is_null() && container["livenessProbe"]["httpGet"].is_null());
    let volumes: Vec<&Value> =
        pod["spec"]["volumes"].as_array().unwrap().iter().map(|volume| &volume["name"]).collect();
    let mounts = container["volumeMounts"].as_array().unwrap();
    assert_eq!(mounts.iter().map(|mount| &mount["name"]).collect::<Vec<_>>(), volumes);
    let command = container["readinessProbe"]["exec"]["command"].as_array().unwrap();
    let command: Vec<&str> = command.iter().map(|word| word.as_str().unwrap()).collect();
    let (program, option) = (command[0].strip_prefix("/mysqlchk/").unwrap(), command.last().unwrap());
    assert_eq!(*option, "--defaults-file=/etc/mysqlchk/my.cnf");

    // The account of the pod has a password; the note is in a volume of it.
    let account = format!("[client]\nuser=nobody\npassword={PASSWORD}\nsocket={}\n", replica.socket().display());
    let account =
        format!("--defaults-file={}", scratch.file("my.cnf", account.replace("nobody", "mysqlchk_tcp")).display());
    let notes = Notes::new();
    let run = |more: &str| {
        let mut probe = Command::new(binary(program));
        probe.arg(&account).args(&command[1..command.len() - 1]).arg("--user=mysqlchk_tcp").arg(notes.option());
        status_of(user::drop_to_unprivileged(probe.arg(more)))
    };
    assert_eq!(run("--timeout=2s"), 0);
    assert_eq!(run("--no-such-option"), 2);
    let line = blocks(&text, "console")[0];
    let drain = words(line.trim().split_once("mysqlchk-ctl ").unwrap().1);
    notes.ctl_ok(&drain.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(run("--timeout=2s"), 1);
    notes.ctl_ok(&["up"]);
    assert_eq!(run("--timeout=2s"), 0);
    link.break_by(Fault::StopApplier);
    assert_eq!(run("--timeout=2s"), 1);
}

#[test]
fn the_load_balancers_of_the_clouds_ask_our_ports_and_their_networks_are_taken() {
    let server = Server::start();
    let text = read("cloud.md");
    let commands = blocks(&text, "sh");
    assert_eq!(commands.len(), 3);
    for command in commands {
        let asks = format!("port {}", port("mysqlchk-replication"));
        assert!(command.replace('=', " ").contains(&asks), "{command}");
    }
    let lists = blocks(&text, "");
    let [of_xinetd, of_systemd] = lists.as_slice() else { panic!("{lists:?}") };
    for (line, option) in of_xinetd.lines().zip(of_systemd.lines()) {
        let list = line.strip_prefix("only_from = ").unwrap();
        assert_eq!(option, format!("--only-from={}", list.replace(' ', ",")));
        let services = shipped::services("mysqlchk", &server).append(STATUS, "server_args", "--timeout=8s");
        // The client of the test is loopback, which the shipped list has; without it there is the answer for strangers.
        for (list, code) in [(list, 200), (list.strip_prefix("127.0.0.1 ").unwrap(), 503)] {
            let services = services.clone().set(STATUS, "only_from", list);
            let _xinetd = Xinetd::start(std::slice::from_ref(&services));
            assert_eq!(http::get(services.address(STATUS)).status(), code, "{list}");
        }
        let mut check = Command::new(binary(STATUS));
        check.args(["--format=text", option]).args(local(&server));
        assert_eq!(status_of(user::drop_to_unprivileged(&mut check)), 0, "{option}");
    }
}
