//! Everything that asks such ports, by the bytes on record in `tests/requests`: each gets the whole answer through the real
//! xinetd. And the records are true: the programs that are installed send these bytes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use lab::daemon::program;
use lab::haproxy::{Haproxy, Release};
use lab::http::{self, Client};
use lab::program::Check;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::xinetd::Xinetd;
use lab::{address, shipped, wait};

const STATUS: &str = "mysqlchk-status";
const BOUND: Duration = Duration::from_secs(60);
/// The host of the records.
const HOST: &str = "192.0.2.1:9200";

/// A file of `tests/requests`.
fn record(name: &str) -> Vec<u8> {
    let path = shipped::file("tests/requests").join(name);
    fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The clients on record.
fn clients() -> BTreeSet<String> {
    let files = fs::read_dir(shipped::file("tests/requests")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".request").map(str::to_owned)).collect()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_client_on_record_gets_its_whole_answer() {
    let server = Server::start();
    let before = server.counter("Aborted_clients") + server.counter("Aborted_connects");
    // As shipped, with time for a busy machine, and once more on a port of its own, where the server is down.
    let patient = shipped::services("mysqlchk", &server).append(STATUS, "server_args", "--timeout=8s");
    let down = patient
        .clone()
        .set(STATUS, "id", "down")
        .set(STATUS, "port", 9202)
        .append(STATUS, "server_args", "--require-read-only")
        .set("mysqlchk-replication", "disable", "yes");
    let _xinetd = Xinetd::start(&[patient.clone(), down.clone()]);
    for name in clients() {
        for (services, verdict) in [(&patient, "up"), (&down, "down")] {
            let reply = http::exchange(services.address(STATUS), &record(&format!("{name}.request")));
            let answer = record(&format!("{name}.{verdict}"));
            assert_eq!((reply.text(), reply.reset), (text(&answer), false), "{name}, {verdict}");
        }
    }
    // What most TCP checks do: they are gone before there is an answer.
    for _ in 0..20 {
        Client::connect(patient.address(STATUS)).leave();
        Client::connect(patient.address(STATUS)).reset();
    }
    let reply = http::get(patient.address(STATUS));
    assert_eq!(reply.text(), text(&record("haproxy-2.6.up")));
    assert_eq!(server.counter("Aborted_clients") + server.counter("Aborted_connects"), before);
}

#[test]
fn the_page_of_the_records_names_each_client_and_no_other() {
    let page = text(&record("README.md"));
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let named: BTreeSet<String> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split_whitespace().map(|name| name.trim_matches('`').to_owned()))
        .collect();
    assert_eq!(named, clients());
}

/// What a client sends to the address it is given, with that address written as the records have it.
#[track_caller]
fn capture<T>(start: impl FnOnce(SocketAddr) -> T) -> String {
    let listener = TcpListener::bind((address::fresh(), 9200)).unwrap();
    let here = listener.local_addr().unwrap();
    listener.set_nonblocking(true).unwrap();
    let client = start(here);
    let (mut stream, _) = wait::until_ok("a client", BOUND, || listener.accept());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    let (mut bytes, mut byte) = (Vec::new(), [0]);
    while !bytes.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
        bytes.push(byte[0]);
    }
    stream.write_all(&record("haproxy-2.6.up")).unwrap();
    drop(client);
    text(&bytes).replace(&here.to_string(), HOST)
}

#[test]
fn the_haproxy_that_is_installed_sends_what_is_on_record() {
    for (release, number) in [(Release::Host, "2.6"), (Release::Sid, "3.2")] {
        assert!(release.version().starts_with(number), "{}", release.version());
        for (form, check) in [
            ("", "option httpchk"),
            ("-get", "option httpchk GET /"),
            ("-head", "option httpchk HEAD / HTTP/1.1\n    http-check expect status 200"),
        ] {
            let configuration = format!(
                "defaults\n    mode tcp\n    timeout connect 5s\n    timeout client 5s\n    timeout server 5s\n\
                 frontend f\n    bind \"$FRONT\":3306\n    default_backend b\n\
                 backend b\n    {check}\n    server s \"$BACK\":3306 check port 9200\n"
            );
            let scratch = Scratch::new("capture");
            let file = scratch.file("haproxy.cfg", configuration);
            let seen = capture(|here| {
                let (front, back) = (address::fresh().to_string(), here.ip().to_string());
                Haproxy::start_by(release.command(), &file, &[("FRONT", &front), ("BACK", &back)])
            });
            let name = format!("haproxy-{number}{form}.request");
            assert_eq!(seen, text(&record(&name)), "{name}");
        }
    }
}

#[test]
fn the_curl_that_is_installed_sends_what_is_on_record() {
    let told = Check::program(&program("curl")).arg("--version").run().stdout;
    let version = told.split(' ').nth(1).expect("a version");
    let seen = capture(|here| {
        let mut command = Command::new(program("curl"));
        command.args(["--silent", "--max-time", "60", "--output", "/dev/null"]).arg(format!("http://{here}/"));
        Reaped(command.spawn().unwrap())
    });
    assert_eq!(seen.replace(&format!("curl/{version}"), "curl/7.88.1"), text(&record("curl.request")));
}

/// A program that ends by itself, and is waited for.
struct Reaped(std::process::Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.wait();
    }
}

/// Its checks need IPVS, which not every kernel has; what it sends stands in the program.
#[test]
fn the_keepalived_that_is_installed_has_what_is_on_record() {
    let has = fs::read(program("keepalived")).unwrap();
    let template = "GET %s HTTP/1.%d\r\nUser-Agent: KeepAliveClient\r\n%sHost: %s%s\r\n\r\n";
    assert!(has.windows(template.len()).any(|part| part == template.as_bytes()), "no {template:?}");
    // Without a word of `http_protocol` there is no header between the two.
    let filled = template.replacen("%s", "/", 1).replace("%d", "0").replacen("%s", "", 1);
    let filled = filled.replacen("%s", "192.0.2.1", 1).replacen("%s", ":9200", 1);
    assert_eq!(filled, text(&record("keepalived.request")));
}
