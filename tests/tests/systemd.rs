//! The checks behind systemd and inetd: the units as they are shipped, and who may ask.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use lab::daemon::{Daemon, program};
use lab::http;
use lab::program::{binary, local};
use lab::scratch::Scratch;
use lab::server::Server;
use lab::{address, copy, roots, shipped, user};

const BOUND: Duration = Duration::from_secs(60);

/// A check behind `systemd-socket-activate`, as `mysqlchk-status-busy.service` runs it.
struct Activated {
    daemon: Daemon,
    address: SocketAddr,
    _scratch: Scratch,
}

impl Activated {
    fn start(address: SocketAddr, arguments: &[String]) -> Self {
        let scratch = Scratch::new("activate");
        let mut command = Command::new(program("systemd-socket-activate"));
        command.args(["--accept", "--inetd", &format!("--listen={address}")]).arg(binary("mysqlchk-status"));
        command.args(arguments).stdin(Stdio::null());
        user::drop_to_unprivileged(&mut command);
        let mut daemon = Daemon::start(&mut command, &scratch.join("log"));
        daemon.until_ready(BOUND, || address::listens(address));
        Self { daemon, address, _scratch: scratch }
    }
}

/// The lines of a unit that begin with this name.
fn values(unit: &str, name: &str) -> Vec<String> {
    let text = fs::read_to_string(shipped::file("systemd").join(unit)).unwrap();
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=').map(str::to_owned)).collect()
}

fn units() -> Vec<String> {
    let files = fs::read_dir(shipped::file("systemd")).unwrap().map(|entry| entry.unwrap().file_name());
    let names = files.map(|name| name.into_string().unwrap());
    let mut units: Vec<_> = names.filter(|name| name.ends_with(".socket") || name.ends_with(".service")).collect();
    units.sort();
    units
}

/// The units in a directory, with the programs of this build.
fn with_our_programs(directory: &Scratch) {
    for unit in units() {
        let mut text = fs::read_to_string(shipped::file("systemd").join(&unit)).unwrap();
        for name in shipped::programs() {
            text = text.replace(&format!("/usr/local/bin/{name} "), &format!("{} ", binary(name).display()));
        }
        directory.file(&unit, text);
    }
}

#[test]
fn systemd_takes_each_unit_without_a_word() {
    let directory = Scratch::new("units");
    with_our_programs(&directory);
    let verify = |more: &[&str]| {
        let mut command = Command::new(program("systemd-analyze"));
        command.env("SYSTEMD_UNIT_PATH", format!("{}:", directory.path().display())).args(["--man=no", "verify"]);
        // An instance of a template, as the socket makes one.
        command.args(units().iter().map(|unit| directory.join(&unit.replace('@', "@1"))));
        let done = command.args(more).output().unwrap();
        String::from_utf8(done.stderr).unwrap()
    };
    for unit in units().into_iter().filter(|unit| unit.contains('@')) {
        fs::copy(directory.join(&unit), directory.join(&unit.replace('@', "@1"))).unwrap();
    }
    assert_eq!(verify(&[]), "");
    let hardening = fs::read_to_string(shipped::file("systemd/hardening.conf")).unwrap();
    directory.dir("mysqlchk-status@1.service.d");
    directory.file("mysqlchk-status@1.service.d/hardening.conf", &hardening);
    assert_eq!(verify(&[]), "");
    directory.file("mysqlchk-status@1.service.d/hardening.conf", hardening.replace("ProtectHome", "ProtectHom"));
    assert!(verify(&[]).contains("ProtectHom"));
}

#[test]
fn each_check_has_a_socket_on_the_port_of_its_service() {
    for name in shipped::programs() {
        let file = if name == "galera-chk" { "galera-chk" } else { "mysqlchk" };
        let services = fs::read_to_string(shipped::file("xinetd.d").join(file)).unwrap();
        let of_xinetd = services.split_once(&format!("service {name}\n")).unwrap().1;
        let attribute = |attribute: &str| {
            let line = of_xinetd.lines().find(|line| line.trim_start().starts_with(attribute)).unwrap();
            line.split_once('=').unwrap().1.trim().to_owned()
        };
        let (socket, service) = (format!("{name}.socket"), format!("{name}@.service"));
        assert_eq!(values(&socket, "ListenStream"), [attribute("port")], "{name}");
        assert_eq!(values(&socket, "MaxConnections"), [attribute("instances")], "{name}");
        assert_eq!(values(&socket, "MaxConnectionsPerSource"), [attribute("per_source")], "{name}");
        assert_eq!(values(&service, "User"), [attribute("user")], "{name}");
        let only_from = attribute("only_from").replace(' ', ",");
        let line = format!("{} {} --only-from={only_from}", attribute("server "), attribute("server_args"));
        assert_eq!(values(&service, "ExecStart"), [line], "{name}");
    }
}

#[test]
fn a_check_behind_a_socket_gives_its_whole_answer_to_those_who_may_ask() {
    let server = Server::start();
    let here = SocketAddr::from((address::fresh(), 9200));
    let start = |more: &[&str]| {
        let arguments = local(&server).into_iter().chain(["--timeout=20s".to_owned()]);
        Activated::start(here, &arguments.chain(more.iter().map(|&more| more.into())).collect::<Vec<_>>())
    };
    let client = "127.0.0.1";
    for (more, status, body) in [
        (&[][..], 200, "up: the server answers, read_only is OFF\n".to_owned()),
        (&["--only-from=127.0.0.0/8"], 200, "up: the server answers, read_only is OFF\n".into()),
        (&["--only-from=::1,192.0.2.0/24"], 503, format!("down: not for {client}\n")),
        // Before any file is read, and before the server is asked.
        (&["--only-from=192.0.2.1", "--defaults-file=/nowhere"], 503, format!("down: not for {client}\n")),
        (&["--only-from=192.0.2.1", "--socket=/nowhere"], 503, format!("down: not for {client}\n")),
        (&["--only-from=localhost"], 503, "down: `--only-from localhost`: must be addresses like 192.0.2.10 or 192.0.2.0/24, with commas between them\n".into()),
    ] {
        let mut activated = start(more);
        for _ in 0..3 {
            let reply = http::get(activated.address);
            assert_eq!((reply.status(), reply.body(), reply.reset), (status, body.clone(), false), "{more:?}");
        }
        activated.daemon.stop();
    }
    // In an option file it counts as well.
    let scratch = Scratch::new("only-from");
    let file = scratch.file("my.cnf", "[mysqlchk]\nonly-from=192.0.2.1\n");
    let activated = start(&[&format!("--defaults-file={}", file.display())]);
    assert_eq!(http::get(activated.address).body(), format!("down: not for {client}\n"));
}

#[test]
fn an_ipv4_address_in_ipv6_clothes_is_an_ipv4_address() {
    // A socket for both families listens on all addresses, so on a port that nobody has.
    let port = address::fresh_port().port();
    let everywhere = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let only_from = "--only-from=127.0.0.0/8".to_owned();
    let _activated = Activated::start(everywhere, &["--socket=/nowhere".into(), only_from]);
    let by = |ip: IpAddr| http::get(SocketAddr::from((ip, port))).body();
    assert_eq!(by(Ipv4Addr::LOCALHOST.into()), "down: cannot connect to /nowhere: no such socket\n");
    assert_eq!(by(Ipv6Addr::LOCALHOST.into()), "down: not for ::1\n");
}

/// The line of docs/install.md, in the inetd of OpenBSD.
#[test]
fn inetd_runs_a_check_by_the_line_of_the_document() {
    let text = fs::read_to_string(shipped::file("docs/haproxy.md")).unwrap();
    let line = text.lines().find(|line| line.starts_with("9200 stream tcp nowait")).expect("a line for inetd");
    let scratch = Scratch::new("inetd");
    let ip = address::fresh();
    let here = line.replace("9200 stream", &format!("{ip}:9200 stream")).replace(
        " mysqlchk /usr/local/bin/mysqlchk-status ",
        &format!(" {} {} ", user::unprivileged().name, binary("mysqlchk-status").display()),
    ) + " --socket=/nowhere";
    let file = scratch.file("inetd.conf", format!("{here}\n"));
    let mut command = roots::bookworm().command("inetd");
    command.args(["-i"]).arg(&file);
    let mut daemon = Daemon::start(&mut command, &scratch.join("log"));
    let address = SocketAddr::from((ip, 9200));
    daemon.until_ready(BOUND, || address::listens(address));
    // More than its own limit of 256 a minute: the line raises it.
    for _ in 0..300 {
        let reply = http::get(address);
        assert_eq!(
            (reply.status(), reply.body().as_str()),
            (503, "down: cannot connect to /nowhere: no such socket\n")
        );
    }
}

/// What a systemd of its own says after 1,500 checks of a server that is down.
const PROBE: &str = r#"
systemctl start mysqlchk-status.socket || exit 1
until systemctl is-active -q mysqlchk-status.socket; do :; done
curl --silent --parallel --parallel-max 40 --max-time 60 --output /dev/null \
	--write-out '%{http_code} %{exitcode}\n' 'http://127.0.0.1:9200/?[1-1500]' 2>/dev/null | sort | uniq -c
curl --silent http://127.0.0.1:9200/
echo "socket $(systemctl is-active mysqlchk-status.socket)"
# An instance that has ended is collected when systemd gets to it.
until test -z "$(systemctl list-units --no-legend --state=running 'mysqlchk-status@*')"; do :; done
echo "failed $(systemctl list-units --all --no-legend --state=failed 'mysqlchk*' | wc -l)"
journalctl --sync
echo "lines of the socket $(journalctl --quiet --no-pager | grep -c 'mysqlchk-status.socket')"
echo "lines of the checks $(journalctl --quiet --no-pager | grep -c 'mysqlchk-status@')"
"#;

#[test]
fn a_real_systemd_serves_1500_checks_of_a_dead_server_without_a_trace() {
    if !user::is_root() {
        eprintln!("not tried: to boot a systemd needs root");
        return;
    }
    let scratch = Scratch::new("boot");
    let upper = scratch.dir("upper");
    let put = |path: &str, text: &[u8]| {
        let file = upper.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    };
    for unit in units() {
        put(&format!("etc/systemd/system/{unit}"), &fs::read(shipped::file("systemd").join(&unit)).unwrap());
    }
    for name in shipped::programs() {
        let file = put(&format!("usr/local/bin/{name}"), &fs::read(binary(name)).unwrap());
        executable(&file);
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    put("etc/passwd", format!("{accounts}mysqlchk:x:64999:64999::/nonexistent:/usr/sbin/nologin\n").as_bytes());
    let groups = fs::read_to_string("/etc/group").unwrap();
    put("etc/group", format!("{groups}mysqlchk:x:64999:\n").as_bytes());
    let report = copy::boot(&scratch, PROBE);
    assert_eq!(
        report.trim_start(),
        "1500 503 0\ndown: cannot connect to /run/mysqld/mysqld.sock: no such socket\nsocket active\nfailed 0\n\
         lines of the socket 1\nlines of the checks 0\n"
    );
}

fn executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}
