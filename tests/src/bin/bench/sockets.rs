//! One check behind xinetd and behind systemd's sockets, in a copy of this host that systemd has booted: what starts it costs
//! more than the check.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use lab::program::binary;
use lab::scratch::Scratch;
use lab::server::Server;
use lab::{copy, shipped, user};

use crate::figures::{Figures, Series};
use crate::programs::STATUS;
use crate::table::Table;

/// What starts the check, its port, and how many checks a turn has.
const STARTED_BY: [(&str, u16, usize); 4] = [
    ("xinetd", 9200, 50),
    ("mysqlchk-status-busy.service", 9201, 50),
    ("mysqlchk-status.socket", 9202, 50),
    ("mysqlchk-status.socket with hardening.conf", 9203, 10),
];
/// Each of them gets so many turns, at 300 runs.
const TURNS: usize = 10;

/// The units of each of them; the processor time is that of the whole copy, systemd included, without the client.
const TURN: &str = r#"
cgroups=$(awk '$3 == "cgroup2" { print $2 }' /proc/mounts)
usage() { awk '$1 == "usage_usec" { print $2 }' "$cgroups/$1/cpu.stat"; }
spent() { echo $(($(usage .) - $(usage system.slice/script.service))); }
turn() {
	before=$(spent)
	curl --silent --output /dev/null --write-out '%{http_code} %{time_total}\n' "http://127.0.0.1:$2/?[1-$3]" >/shared/times
	# An instance that has ended is collected a little later, and that is part of its price.
	sleep 0.2
	echo "turn $1 $(($(spent) - before))"
	cat /shared/times
}
systemctl start xinetd-bench.service busy.service plain.socket hardened.socket
for port in 9200 9201 9202 9203; do
	until curl --silent --output /dev/null "http://127.0.0.1:$port/"; do :; done
done
"#;

/// What the checks of one of them took.
#[derive(Debug, Default)]
struct Seen {
    /// Of a check, by turn.
    cpu_ms: Series,
    /// The median of each turn.
    wall_ms: Series,
    times_ms: Vec<f64>,
}

/// Measures them in turn, and writes the table. Only root can boot a systemd.
pub(crate) fn measure(server: &Server, runs: usize) -> Option<Table> {
    if !user::is_root() {
        return None;
    }
    let scratch = Scratch::new("sockets");
    prepare(&scratch, server);
    let turns = (TURNS * runs).div_ceil(300).max(3);
    let mut script = TURN.to_owned();
    // The first of each is a warm-up.
    for turn in 0..=turns {
        for place in 0..STARTED_BY.len() {
            let number = (place + turn) % STARTED_BY.len();
            let (_, port, checks) = STARTED_BY[number];
            script += &format!("turn {number} {port} {checks}\n");
        }
    }
    Some(table(&read(&copy::boot(&scratch, &script))))
}

/// The shipped files, each on a port of its own, with the account and the socket of this server.
fn prepare(scratch: &Scratch, server: &Server) {
    let account = &user::unprivileged().name;
    let shared = scratch.dir("shared");
    // The same socket by another name, since a copy sees no socket of the host.
    fs::hard_link(server.socket(), shared.join("mysql.sock")).unwrap();
    let upper = scratch.dir("upper");
    let put = |path: &str, text: &[u8], mode: u32| {
        let file = upper.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
    };
    put(&format!("usr/local/bin/{STATUS}"), &fs::read(binary(STATUS)).unwrap(), 0o755);
    put("etc/mysqlchk/busy.http", &read_file("xinetd.d/busy.http"), 0o644);
    let here = format!("--reason-phrase --user={account} --socket=/shared/mysql.sock");
    let text = |file: &str, port: u16| {
        let text = String::from_utf8(read_file(file)).unwrap().replace("=9200", &format!("={port}"));
        let text = text.replace("--reason-phrase", &here).replace("User=mysqlchk", &format!("User={account}"));
        text.lines().filter(|line| !line.starts_with("Conflicts=")).collect::<Vec<_>>().join("\n") + "\n"
    };
    let unit = |name: &str, text: String| put(&format!("etc/systemd/system/{name}"), text.as_bytes(), 0o644);
    unit("busy.service", text("systemd/mysqlchk-status-busy.service", 9201));
    for (name, port) in [("plain", 9202), ("hardened", 9203)] {
        unit(&format!("{name}.socket"), text("systemd/mysqlchk-status.socket", port));
        unit(&format!("{name}@.service"), text("systemd/mysqlchk-status@.service", port));
    }
    unit("hardened@.service.d/hardening.conf", text("systemd/hardening.conf", 9203));
    let services = lab::xinetd::Services::read(shipped::file("xinetd.d/mysqlchk"));
    let services = services.set(STATUS, "user", account).set(STATUS, "server_args", here);
    let services = services.set("mysqlchk-replication", "disable", "yes");
    put("etc/xinetd-bench.conf", services.text().as_bytes(), 0o644);
    unit(
        "xinetd-bench.service",
        "[Service]\nExecStart=/usr/sbin/xinetd -dontfork -f /etc/xinetd-bench.conf\n".to_owned(),
    );
}

fn read_file(name: &str) -> Vec<u8> {
    fs::read(shipped::file(name)).unwrap()
}

/// Reads `turn NUMBER MICROSECONDS`, and after each a line `CODE SECONDS` for each check.
fn read(report: &str) -> [Seen; STARTED_BY.len()] {
    let mut all: [Seen; STARTED_BY.len()] = Default::default();
    let turns: Vec<&str> = report.split("turn ").skip(1 + STARTED_BY.len()).collect();
    assert!(!turns.is_empty(), "nothing was measured:\n{report}");
    for (turn, text) in turns.into_iter().enumerate() {
        let mut lines = text.lines();
        let head: Vec<f64> = lines.next().unwrap().split(' ').map(|word| word.parse().unwrap()).collect();
        let number = head[0] as usize;
        let times_ms: Vec<f64> = lines
            .map(|line| {
                let seconds = line.strip_prefix("200 ").unwrap_or_else(|| panic!("{}: {line}", STARTED_BY[number].0));
                seconds.parse::<f64>().unwrap() * 1e3
            })
            .collect();
        assert_eq!(times_ms.len(), STARTED_BY[number].2, "{}", STARTED_BY[number].0);
        let (seen, round) = (&mut all[number], turn / STARTED_BY.len());
        seen.cpu_ms.insert(round, head[1] / 1e3 / times_ms.len() as f64);
        seen.wall_ms.insert(round, Figures::of(times_ms.iter().copied()).median());
        seen.times_ms.extend(times_ms);
    }
    all
}

fn table(all: &[Seen; STARTED_BY.len()]) -> Table {
    let columns = ["started by", "wall ms", "p99 ms", "CPU ms", "wall, of xinetd's", "CPU, of xinetd's"];
    let mut table = Table::new(
        "Sockets against xinetd, one mysqlchk-status at a time: median of the turns (quartiles)",
        1,
        &columns,
    );
    for ((name, ..), seen) in STARTED_BY.iter().zip(all) {
        let figures = |series: &Series| Figures::of(series.values().copied()).with_quartiles();
        let ratio = |of: &Series, to: &Series| format!("{:.2}", Figures::ratio(of, to).median());
        table.row([
            (*name).to_owned(),
            figures(&seen.wall_ms),
            format!("{:.2}", Figures::of(seen.times_ms.iter().copied()).quantile(0.99)),
            figures(&seen.cpu_ms),
            ratio(&seen.wall_ms, &all[0].wall_ms),
            ratio(&seen.cpu_ms, &all[0].cpu_ms),
        ]);
    }
    table
}
