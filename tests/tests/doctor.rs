//! `mysqlchk-ctl doctor`: each cause is made on a host that is thrown away, the doctor names it, its cure is run as it was
//! printed, and the doctor has nothing more to say.

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::Command;

use lab::haproxy::check_config;
use lab::network::inside;
use lab::program::binary;
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::software::Software;
use lab::{copy, shipped};
use serde_json::Value;

const WARN: &str = "warn";
const FAIL: &str = "FAIL";

/// Something that makes a check fail.
struct Cause {
    name: &'static str,
    /// The commands that make it.
    make: &'static str,
    /// What the doctor is asked.
    arguments: &'static str,
    /// How its line begins and, after the thing, what it has to say.
    level: &'static str,
    words: &'static str,
}

const fn cause(
    name: &'static str,
    arguments: &'static str,
    level: &'static str,
    words: &'static str,
    make: &'static str,
) -> Cause {
    Cause { name, make, arguments, level, words }
}

/// For a script: what a cause is, and what becomes of it.
const CAUSE: &str = r#"
quiet() { # whether the doctor has nothing to say
	mysqlchk-ctl doctor "$@" >/tmp/after 2>&1 || return 1
	! grep -q -e '^warn' -e '^FAIL' /tmp/after
}
cause() { # words, level, arguments ...
	words=$1 level=$2; shift 2
	status=0
	mysqlchk-ctl doctor "$@" >/tmp/found 2>&1 || status=$?
	sed 's/^/found: /' /tmp/found
	echo "status: $status"
	# The cure stands below the line that names the cause.
	grep -F -A 1 -- "$words" /tmp/found | sed -n "/^$level /{n;p;q}" >/tmp/cure || :
	# A person has thought about it.
	sed -i 's/^ *//; s/^# //' /tmp/cure
	sed 's/^/cure: /' /tmp/cure
	sh -eu /tmp/cure || echo "the cure failed"
	# A reload takes a moment; a hundred looks of it are a minute.
	looks=0
	until quiet "$@" || test $looks = 100; do looks=$((looks + 1)); done
	sed 's/^/after: /' /tmp/after
}
"#;

/// A copy of this host where our files are installed.
fn installed(name: &str) -> Scratch {
    let scratch = Scratch::new(name);
    let built = std::env::var("MYSQLCHK_BIN").expect("set MYSQLCHK_BIN or run make test");
    let mut make = Command::new("make");
    make.args(["install", "CARGO=false"]).arg(format!("DESTDIR={}", scratch.dir("upper").display()));
    for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
        make.env_remove(name);
    }
    let done = make.arg(format!("MYSQLCHK_BIN={built}")).current_dir(shipped::file("")).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    scratch
}

/// The users of the system.
const USERS: &str = r#"
for name in mysql mysqlchk; do id $name >/tmp/id 2>&1 || useradd --system --user-group --no-create-home $name; done
chgrp mysqlchk /etc/mysqlchk/my.cnf
"#;

/// A server on the default socket, and the account of the checks.
const MARIADB: &str = r#"
mkdir -p /run/mysqld /var/lib/doctor
chown mysql:mysql /run/mysqld /var/lib/doctor
mariadb-install-db --no-defaults --user=mysql --datadir=/var/lib/doctor --auth-root-authentication-method=socket >/tmp/made 2>&1
mariadbd --no-defaults --user=mysql --datadir=/var/lib/doctor --socket=/run/mysqld/mysqld.sock --bind-address=127.0.0.1 >/tmp/mariadbd 2>&1 &
until mariadb -e 'SELECT 1' >/tmp/asked 2>&1; do :; done
mariadb -e "DELETE FROM mysql.global_priv WHERE User = ''; FLUSH PRIVILEGES"
mariadb -e 'CREATE USER mysqlchk@localhost IDENTIFIED VIA unix_socket; GRANT SLAVE MONITOR ON *.* TO mysqlchk@localhost'
"#;

/// Makes each cause on a host made by `before`, and judges what the doctor said. It goes on to the end, and then names all that went
/// wrong.
#[track_caller]
fn examine(scratch: &Scratch, causes: &[Cause], before: &str, run: impl Fn(&Scratch, &str) -> String) {
    let mut script = format!("{USERS}{before}{CAUSE}");
    script += "echo '== at first'\nlooks=0\nuntil quiet || test $looks = 100; do looks=$((looks + 1)); done\nsed 's/^/after: /' /tmp/after\n";
    for Cause { name, make, arguments, level, words } in causes {
        writeln!(script, "echo '== {name}'\n{make}\ncause '{words}' {level} {arguments}").unwrap();
    }
    let report = run(scratch, &script);
    let parts: Vec<&str> = report.split("== ").skip(1).collect();
    let ended = parts.last().copied().unwrap_or(&report);
    assert_eq!(parts.len(), causes.len() + 1, "the script ended early: {ended}");
    let of = |part: &str, label: &str| -> Vec<String> {
        part.lines().filter_map(|line| line.strip_prefix(label)).map(str::to_owned).collect()
    };
    assert!(!scratch.join("shared/owned").exists(), "a program of somebody else was run as root");
    let mut wrong = String::new();
    for (part, cause) in parts.iter().skip(1).zip(causes) {
        let found = of(part, "found: ");
        let is_named = found.iter().any(|line| line.starts_with(cause.level) && line.contains(cause.words));
        let is_status_right = of(part, "status: ") == [if cause.level == FAIL { "1" } else { "0" }];
        let is_cured =
            of(part, "cure: ").iter().any(|cure| !cure.starts_with('#')) && !part.contains("the cure failed");
        let after = of(part, "after: ");
        let is_quiet = !after.is_empty() && after.iter().all(|line| line.starts_with("ok "));
        if !(is_named && is_status_right && is_cured && is_quiet) {
            writeln!(wrong, "named {is_named}, status {is_status_right}, cured {is_cured}, quiet {is_quiet}: {part}")
                .unwrap();
        }
        assert!(!part.contains("s3cret"), "a password is shown: {part}");
    }
    let first = of(parts[0], "after: ");
    assert!(!first.is_empty() && first.iter().all(|line| line.starts_with("ok ")), "{}", parts[0]);
    assert!(wrong.is_empty(), "{wrong}");
}

const XINETD: &str = r#"
ip link set lo up
# A process that only calls itself so: what it names would be run as root.
printf 'service evil\n{\n\tport = 9200\n\ttype = UNLISTED\n\tuser = root\n\tserver = /tmp/evil/mysqlchk-status\n}\n' >/tmp/evil.conf
mkdir /tmp/evil
printf '#!/bin/sh\necho OWNED >/shared/owned\n' >/tmp/evil/mysqlchk-status
chmod 755 /tmp/evil/mysqlchk-status
cp /usr/bin/perl /tmp/xinetd
setpriv --reuid=nobody --regid=nogroup --clear-groups /tmp/xinetd -e 'sleep 1000' -- -f /tmp/evil.conf &
until test xinetd = "$(cat /proc/$!/comm)"; do :; done
sed -i 's|^XINETD_OPTS="|&-filelog /var/log/xinetd.log |' /etc/default/xinetd
/etc/init.d/xinetd start >/tmp/started
until test -s /run/xinetd.pid && grep -q 'Started working' /var/log/xinetd.log; do :; done
edit() { # service, command of sed: changes a service as it is shipped, and lets xinetd see it
	sed -i "/^service $1\$/,/^}/$2" /etc/xinetd.d/mysqlchk
	reload
}
attribute() { edit "$1" "s|^\([[:blank:]]*$2[[:blank:]]*=\).*|\1 $3|"; } # service, attribute, value
reload() { # and waits for the record of it
	grep -c Reconfigured: /var/log/xinetd.log >/tmp/before || :
	kill -HUP "$(cat /run/xinetd.pid)"
	until test "$(grep -c Reconfigured: /var/log/xinetd.log)" -gt "$(cat /tmp/before)"; do :; done
}
listen() { # a program that is none of ours, on a port
	perl -MIO::Socket::INET -e '$s = IO::Socket::INET->new(LocalAddr => "127.0.0.1", LocalPort => shift, Listen => 5, ReuseAddr => 1) or die; sleep 1000' "$1" &
	until ss -Hltn "sport = :$1" | grep -q .; do :; done
}
printf '[mysqlchk-replication]\nif-not-replica=up\n' >>/etc/mysqlchk/my.cnf
"#;

fn causes_below_xinetd() -> Vec<Cause> {
    vec![
        cause(
            "off",
            "--only=mysqlchk-status",
            FAIL,
            "mysqlchk-status: is off",
            "attribute mysqlchk-status disable yes",
        ),
        cause(
            "all off",
            "",
            FAIL,
            "services: no check is on",
            "attribute mysqlchk-status disable yes; attribute mysqlchk-replication disable yes",
        ),
        cause(
            "a name without a port",
            "",
            FAIL,
            "mysqlchk-status is not in /etc/services, so xinetd does not start it",
            // The agent and the metrics are looked at from here on.
            "sed -i '/^service mysqlchk-replication/,/^}/s/disable .*/disable = no/' /etc/xinetd.d/*; \
             sed -i 's/only_from .*=.*/& 192.0.2.10/' /etc/xinetd.d/mysqlchk-agent; \
             edit mysqlchk-status '{/type/d}'",
        ),
        cause(
            "no program",
            "",
            FAIL,
            "cannot find its program /opt/mysqlchk-status: no such file",
            "attribute mysqlchk-status server /opt/mysqlchk-status",
        ),
        cause(
            "a program that cannot be run",
            "",
            FAIL,
            "mysqlchk may not run /usr/local/bin/mysqlchk-status",
            "chmod 644 /usr/local/bin/mysqlchk-status",
        ),
        cause(
            "a user that is not there",
            "",
            FAIL,
            "its user nosuch does not exist",
            "attribute mysqlchk-status user nosuch; chmod 644 /etc/mysqlchk/my.cnf; \
             mariadb -e 'CREATE USER nosuch@localhost IDENTIFIED VIA unix_socket'; \
             printf '[mysqlchk-status]\nuser=nosuch\n' >>/etc/mysqlchk/my.cnf",
        ),
        cause(
            "an option file that its user cannot read",
            "",
            FAIL,
            "cannot read option file /etc/mysqlchk/my.cnf: permission denied",
            "attribute mysqlchk-status user mysqlchk; sed -i '/nosuch/d' /etc/mysqlchk/my.cnf; \
             chown root:root /etc/mysqlchk/my.cnf; chmod 600 /etc/mysqlchk/my.cnf",
        ),
        cause(
            "a directory that its user cannot enter",
            "",
            FAIL,
            "cannot read option file /etc/mysqlchk/my.cnf: permission denied",
            "chmod 700 /etc/mysqlchk",
        ),
        cause(
            "an option file that others may write",
            "",
            FAIL,
            "others may write it (mode 0666)",
            "chmod 666 /etc/mysqlchk/my.cnf",
        ),
        cause(
            "a forgotten note",
            "",
            FAIL,
            "note: down: kernel upgrade (alice)",
            "printf '[maintenance]\nmode = down\nreason = kernel upgrade\nby = alice\nsince = 2026-01-01T00:00:00Z\n' \
             >/var/lib/mysqlchk/maintenance",
        ),
        cause(
            "a note that cannot be used",
            "",
            FAIL,
            "note: cannot use maintenance note /var/lib/mysqlchk/maintenance",
            "echo nonsense >/var/lib/mysqlchk/maintenance",
        ),
        cause(
            "a file that was changed and not loaded",
            "",
            FAIL,
            "xinetd: /etc/xinetd.d/mysqlchk was changed after xinetd read it",
            "echo '# a comment' >>/etc/xinetd.d/mysqlchk",
        ),
        cause(
            "a port that another program has",
            "",
            FAIL,
            "listens, not xinetd",
            "attribute mysqlchk-status disable yes; listen 9200; attribute mysqlchk-status disable no",
        ),
        cause(
            "two checks on a port",
            "",
            FAIL,
            "both are for port 9200",
            "sed -i 's/^\\([[:blank:]]*disable[[:blank:]]*\\)=.*/\\1= no/' /etc/xinetd.d/galera-chk; reload",
        ),
        cause(
            "an old checker on the port",
            "",
            FAIL,
            "mysqlchk: /usr/bin/clustercheck answers on port 9200",
            "printf 'service mysqlchk\n{\n\tdisable = no\n\ttype = UNLISTED\n\tport = 9200\n\tsocket_type = stream\n\
             \twait = no\n\tuser = nobody\n\tserver = /usr/bin/clustercheck\n}\n' >/etc/xinetd.d/old; \
             cp /bin/true /usr/bin/clustercheck; reload",
        ),
        cause(
            "a load balancer that may not ask",
            "--from=192.0.2.10",
            FAIL,
            "mysqlchk-status for 192.0.2.10: only_from does not have it",
            "attribute mysqlchk-replication only_from '127.0.0.1 192.0.2.0'",
        ),
        cause(
            "a load balancer that --only-from refuses",
            "--from=192.0.2.10",
            FAIL,
            "mysqlchk-replication for 192.0.2.10: --only-from does not have it",
            "attribute mysqlchk-replication server_args '--if-not-replica=up --only-from=::1,127.0.0.1'",
        ),
        cause(
            "a port that only this host can reach",
            "--from=192.0.2.10",
            FAIL,
            "mysqlchk-status for 192.0.2.10: it listens on 127.0.0.1",
            "edit mysqlchk-status 's/^}/\\tbind = 127.0.0.1\\n}/'",
        ),
        cause("a low cps", "", WARN, "after 50 checks in a second (cps)", "attribute mysqlchk-status cps '50 10'"),
        cause(
            "a cps that the load balancers reach",
            "--load-balancers=100",
            FAIL,
            "after 60 checks in a second (cps)",
            "attribute mysqlchk-status cps '60 10'",
        ),
        cause(
            "few instances",
            "--load-balancers=12 --inter=300ms",
            FAIL,
            "instances is 30: when the server hangs, 36 checks are on at once",
            "attribute mysqlchk-status instances 30",
        ),
        cause(
            "few of a source",
            "--load-balancers=2 --inter=300ms",
            FAIL,
            "per_source is 2: when the server hangs, 3 checks are on at once",
            "attribute mysqlchk-status per_source 2",
        ),
        cause(
            "a short timeout",
            "",
            FAIL,
            "no verdict within 50ms",
            "mariadb -e \"SET GLOBAL init_connect = 'SELECT SLEEP(0.1)'\"; \
             attribute mysqlchk-status server_args '--reason-phrase --timeout=50ms'",
        ),
        cause(
            "no account",
            "--only=mysqlchk-status",
            FAIL,
            "cannot log in: access denied (1698)",
            "mariadb -e \"SET GLOBAL init_connect = ''; DROP USER mysqlchk@localhost\"",
        ),
        cause(
            "an account without a privilege",
            "",
            FAIL,
            "missing privilege (1227): GRANT SLAVE MONITOR ON *.*",
            // The account is a new one.
            "",
        ),
        cause(
            "an account with a password",
            "",
            FAIL,
            "cannot log in: access denied (1045)",
            "mariadb -e \"ALTER USER mysqlchk@localhost IDENTIFIED BY 's3cret'\"",
        ),
        cause(
            "a locked account",
            "",
            FAIL,
            "the account is locked",
            "mariadb -e 'ALTER USER mysqlchk@localhost ACCOUNT LOCK'",
        ),
        cause(
            "a socket that its user cannot reach",
            "",
            FAIL,
            "cannot connect to /run/mysqld/mysqld.sock: permission denied",
            "chmod 700 /run/mysqld",
        ),
        cause(
            "no xinetd",
            "",
            FAIL,
            "xinetd: it does not run, and has services that are on",
            "kill \"$(cat /run/xinetd.pid)\"; while kill -0 \"$(cat /run/xinetd.pid 2>/tmp/none)\" 2>/tmp/none; do :; done",
        ),
    ]
}

#[test]
fn each_cause_below_xinetd_is_named_and_cured() {
    if inside("each_cause_below_xinetd_is_named_and_cured") {
        examine(&installed("doctor"), &causes_below_xinetd(), &format!("{MARIADB}{XINETD}"), copy::chroot);
    }
}

/// Words of the same cures for `MySQL`: its plugin, its privileges.
#[test]
fn accounts_of_mysql_are_cured_in_its_own_words() {
    if !inside("accounts_of_mysql_are_cured_in_its_own_words") {
        return;
    }
    let server = Server::start_of(Software::MySql9, &[]);
    let socket = server.socket();
    // This server is not in the copy of the host, and knows the users of the host alone: games is one of each Debian.
    server.sql(
        "CREATE USER games@localhost IDENTIFIED WITH auth_socket; GRANT REPLICATION CLIENT ON *.* TO games@localhost",
    );
    // The admin of the lab, for the clients in the cures.
    let before = format!(
        "printf '[client]\\nuser=admin\\npassword={PASSWORD}\\n' >/root/.my.cnf\n\
         printf '[client]\\nuser=games\\nsocket={0}\\n' >>/etc/mysqlchk/my.cnf\nchgrp games /etc/mysqlchk/my.cnf\n\
         sql() {{ mysql --socket={0} -e \"$1\"; }}\n{XINETD}\
         attribute mysqlchk-status user games\nattribute mysqlchk-replication user games\n",
        socket.display()
    );
    let causes = [
        cause("no account", "--only=mysqlchk-status", FAIL, "cannot log in: ", "sql 'DROP USER games@localhost'"),
        cause("a missing privilege", "", FAIL, "missing privilege (1227): GRANT REPLICATION CLIENT ON *.*", ""),
        cause(
            "a locked account",
            "",
            FAIL,
            "the account is locked (3118)",
            "sql 'ALTER USER games@localhost ACCOUNT LOCK'",
        ),
    ];
    examine(&installed("mysql"), &causes, &before, copy::chroot);
}

/// Our units, with a server that is up.
const SYSTEMD: &str = r#"
systemctl start mysqlchk-status.socket
unit() { # unit, section, line: a drop-in, as an operator makes one
	mkdir -p "/etc/systemd/system/$1.d"
	printf '[%s]\n%b\n' "$2" "$3" >"/etc/systemd/system/$1.d/operator.conf"
	systemctl daemon-reload
}
systemctl enable mysqlchk-status.socket 2>/tmp/enabled
# Rules in a file that only another group reads, and options in one of variables: as the check has it, so has the doctor.
chgrp games /etc/mysqlchk/my.cnf
printf '# of an operator\nOPTIONS="--reason-phrase --only-from=127.0.0.0/8,::1"\n' >/etc/default/mysqlchk
for program in mysqlchk-status mysqlchk-replication; do
	mkdir -p /etc/systemd/system/$program@.service.d
	printf '[Service]\nSupplementaryGroups=games\n' >/etc/systemd/system/$program@.service.d/groups.conf
done
printf '[Service]\nEnvironmentFile=/etc/default/mysqlchk\nExecStart=\nExecStart=/usr/local/bin/mysqlchk-status $OPTIONS\n' >/etc/systemd/system/mysqlchk-status@.service.d/first.conf
systemctl daemon-reload
"#;

fn causes_below_systemd() -> Vec<Cause> {
    vec![
        cause(
            "off",
            "--only=mysqlchk-replication",
            FAIL,
            "mysqlchk-replication: is off",
            "unit mysqlchk-replication@.service Service \
             'ExecStart=\nExecStart=/usr/local/bin/mysqlchk-replication --if-not-replica=up'",
        ),
        cause(
            "gone after a reboot",
            "",
            WARN,
            "mysqlchk-status.socket: it is started and not enabled",
            "systemctl disable mysqlchk-status.socket",
        ),
        cause(
            "not started",
            "",
            FAIL,
            "mysqlchk-status.socket: it is enabled and not started",
            "systemctl stop mysqlchk-status.socket",
        ),
        cause(
            "a trigger limit",
            "",
            WARN,
            "after 200 checks in 2s systemd ends the socket until somebody comes",
            "unit mysqlchk-status.socket Socket 'TriggerLimitIntervalSec=2s'; systemctl restart mysqlchk-status.socket",
        ),
        cause(
            "a trigger limit that was hit",
            "",
            FAIL,
            "mysqlchk-status.socket: it has failed (trigger-limit-hit)",
            "unit mysqlchk-status.socket Socket 'TriggerLimitIntervalSec=1h\nTriggerLimitBurst=3'; rm -f /etc/systemd/system/mysqlchk-status.socket.d/zz-doctor-*; \
             systemctl daemon-reload; systemctl restart mysqlchk-status.socket; \
             until test failed = \"$(systemctl is-active mysqlchk-status.socket)\"; do curl --silent --output /tmp/page http://127.0.0.1:9200/ || :; done; \
             unit mysqlchk-status.socket Socket 'TriggerLimitIntervalSec=0'",
        ),
        cause(
            "few at once",
            "--load-balancers=20",
            FAIL,
            "MaxConnections is 10: when the server hangs, 20 checks are on at once",
            "unit mysqlchk-status.socket Socket 'MaxConnections=10'; systemctl restart mysqlchk-status.socket",
        ),
        cause(
            "a load balancer that may not ask",
            "--from=192.0.2.10",
            FAIL,
            "mysqlchk-status.socket for 192.0.2.10: --only-from does not have it",
            "",
        ),
        cause(
            "a unit that was changed and not loaded",
            "",
            FAIL,
            "a unit was changed after systemd read it",
            "unit mysqlchk-status.socket Socket 'MaxConnections=100'; systemctl restart mysqlchk-status.socket; \
             echo '# a comment' >>/etc/systemd/system/mysqlchk-status.socket.d/operator.conf; \
             touch --date='1 minute' /etc/systemd/system/mysqlchk-status.socket.d/operator.conf",
        ),
        cause(
            "no program",
            "--only=mysqlchk-status",
            FAIL,
            "cannot find its program /opt/mysqlchk-status",
            "rm -f /etc/systemd/system/mysqlchk-status@.service.d/zz-doctor-*; \
             unit mysqlchk-status@.service Service 'ExecStart=\nExecStart=/opt/mysqlchk-status'",
        ),
        cause(
            "a file of variables that is missing",
            "--only=mysqlchk-status",
            FAIL,
            "its EnvironmentFile /etc/default/nosuch is missing",
            "rm -f /etc/systemd/system/mysqlchk-status@.service.d/zz-doctor-*; \
             unit mysqlchk-status@.service Service 'EnvironmentFile=/etc/default/nosuch'",
        ),
        cause(
            "a user that systemd makes",
            "--only=mysqlchk-status",
            WARN,
            "DynamicUser=yes: the doctor cannot be a user that is made for each connection",
            "unit mysqlchk-status@.service Service 'DynamicUser=yes\nUser=checks'",
        ),
        cause(
            "failed instances",
            "--only=mysqlchk-status",
            WARN,
            "failed instances are kept",
            "rm -f /etc/systemd/system/mysqlchk-status@.service.d/zz-doctor-*; \
             unit mysqlchk-status@.service Unit 'CollectMode=inactive\n[Service]\nSuccessExitStatus=\nExecStart=\nExecStart=/usr/local/bin/mysqlchk-status --no-such-option'; \
             curl --silent --output /tmp/page http://127.0.0.1:9200/; \
             until systemctl list-units --all --no-legend --state=failed 'mysqlchk-status@*' | grep -q .; do :; done; \
             unit mysqlchk-status@.service Unit 'CollectMode=inactive'",
        ),
    ]
}

#[test]
fn each_cause_below_systemd_is_named_and_cured() {
    examine(&installed("boot"), &causes_below_systemd(), &format!("{MARIADB}{SYSTEMD}"), copy::boot);
}

/// A configuration whose lines about the checks are right.
const HAPROXY: &str = "\
global
    maxconn 100
defaults
    mode tcp
    timeout connect 1s
    timeout client 1m
    timeout server 1m
    timeout check 1s
backend reads
    option httpchk GET /
    default-server inter 1s
    server db01 192.0.2.11:3306 check port 9201
backend usable
    server db01 192.0.2.11:3306 track reads/db01
frontend clients
    bind 127.0.0.1:13307
    default_backend reads
";

/// What is replaced in it by what, the level, the line and the words of what is found, and whether it stops HAProxy.
const OF_HAPROXY: [(&str, &str, &str, u8, &str, bool); 14] = [
    ("    option httpchk GET /\n", "", FAIL, 11, "reads/db01 is checked on port 9201 without `option httpchk`", false),
    (" check port 9201", " check", FAIL, 12, "reads/db01 is asked on 3306, which is the server itself", false),
    ("    timeout check 1s", "    timeout check 300ms", WARN, 12, "reads/db01 waits 300ms, --timeout is 900ms", false),
    (
        "inter 1s\n",
        "inter 1s\n    http-check disable-on-404\n",
        FAIL,
        15,
        "usable has no `http-check disable-on-404`",
        true,
    ),
    (
        "backend usable\n",
        "backend usable\n    http-check disable-on-404\n",
        FAIL,
        15,
        "reads has no `http-check disable-on-404`",
        true,
    ),
    (
        "backend usable\n    server db01 192.0.2.11:3306 track reads/db01\n",
        "backend sticky\n    option httpchk\n    http-check disable-on-404\n    stick-table type ip size 1k\n    stick on src\n    server db01 192.0.2.11:3306 check port 9201\n",
        FAIL,
        15,
        "sticky has a stick table and `disable-on-404`",
        false,
    ),
    (
        " check port 9201",
        " check port 9201 agent-check agent-port 9202",
        WARN,
        12,
        "reads/db01 has `agent-check` and no weight",
        false,
    ),
    ("    timeout connect 1s", "    contimeout 1000", FAIL, 5, "`contimeout` stops HAProxy", true),
    ("    timeout client 1m", "    clitimeout 60000", FAIL, 6, "`clitimeout` stops HAProxy", true),
    ("    timeout server 1m", "    srvtimeout 60000", FAIL, 7, "`srvtimeout` stops HAProxy", true),
    ("    mode tcp\n", "    mode tcp\n    redispatch\n", FAIL, 5, "`redispatch` stops HAProxy", true),
    ("    maxconn 100\n", "    maxconn 100\n    nbproc 2\n", FAIL, 3, "`nbproc` stops HAProxy", true),
    ("    maxconn 100\n", "    maxconn 100\n    debug\n", FAIL, 3, "`debug` stops HAProxy", true),
    (
        "backend reads\n",
        "listen reads 127.0.0.1:13306\n",
        FAIL,
        9,
        "the address behind `listen reads` stops HAProxy",
        true,
    ),
];

#[test]
fn each_line_of_haproxy_that_is_wrong_is_named_and_cured() {
    let scratch = Scratch::new("haproxy");
    let doctor = |file: &Path| {
        let mut command = Command::new(binary("mysqlchk-ctl"));
        let done = command.arg("doctor").arg(format!("--haproxy={}", file.display())).output().unwrap();
        let shown = String::from_utf8(done.stdout).unwrap();
        let about = format!("{}:", file.display());
        let mut lines = shown.lines().skip_while(|line| !line.contains(&about)).map(str::to_owned);
        (lines.next().unwrap_or_else(|| panic!("{shown}")), lines.next())
    };
    let right = scratch.file("right.cfg", HAPROXY);
    assert_eq!(check_config(&right, &[]), Ok(()));
    assert!(doctor(&right).0.starts_with("ok "), "{:?}", doctor(&right));
    for (number, (from, to, level, line, words, stops)) in OF_HAPROXY.into_iter().enumerate() {
        let file = scratch.file(&format!("{number}.cfg"), HAPROXY.replacen(from, to, 1));
        // HAProxy agrees about what stops it.
        assert_eq!(check_config(&file, &[]).is_err(), stops, "{to}");
        let (found, cure) = doctor(&file);
        let begin = format!("{level:4}  {}:{line}: ", file.display());
        assert!(found.starts_with(&begin) && found.contains(words), "{to}: {found}");
        let cure = cure.unwrap();
        assert!(Command::new("sh").args(["-euc", &cure]).status().unwrap().success(), "{cure}");
        assert!(doctor(&file).0.starts_with("ok "), "{to}: {cure}: {:?}", doctor(&file));
        assert_eq!(check_config(&file, &[]), Ok(()), "{to}: {cure}");
    }
}

#[test]
fn the_shipped_configurations_of_haproxy_are_right() {
    for name in ["replicas.cfg", "galera.cfg", "failover.cfg"] {
        let mut command = Command::new(binary("mysqlchk-ctl"));
        let file = shipped::file("haproxy").join(name);
        let done =
            command.args(["doctor", "--format=json"]).arg(format!("--haproxy={}", file.display())).output().unwrap();
        let shown: Value = serde_json::from_slice(&done.stdout).unwrap();
        let ours: Vec<_> = shown["findings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|finding| finding["about"].to_string().contains(name))
            .collect();
        assert!(!ours.is_empty(), "{shown}");
        for finding in ours {
            // That file does not wait for the answer of a master that hangs, and says so.
            let is_meant = name == "failover.cfg" && finding["found"].to_string().contains("status/db0");
            assert!(finding["level"] == "ok" || is_meant, "{finding}");
        }
    }
}

#[test]
fn each_cause_stands_in_the_document() {
    let text = fs::read_to_string(shipped::file("docs/doctor.md")).unwrap();
    let causes = causes_below_xinetd().into_iter().chain(causes_below_systemd());
    let words = causes.map(|cause| cause.words).chain(OF_HAPROXY.map(|(.., words, _)| words));
    let missing: Vec<&str> = words.filter(|words| !text.replace('`', "").contains(&words.replace('`', ""))).collect();
    assert!(missing.is_empty(), "{missing:#?}");
}
