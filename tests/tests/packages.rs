//! The packages: built, checked by lintian and rpmlint, and installed, upgraded and removed by the real dpkg and rpm, in a copy of
//! this host that is thrown away.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use lab::daemon::program;
use lab::program::binary;
use lab::scratch::Scratch;
use lab::{copy, shipped, user};

/// Builds a package of this `kind` from the programs of this build, as `make deb` and `make rpm` do.
#[track_caller]
fn package(kind: &str, source: &Path, to: &Path, version: &str, environment: &[(&str, &str)]) -> PathBuf {
    let built = env::var("MYSQLCHK_BIN").expect("set MYSQLCHK_BIN or run make test");
    let completions = to.join("completions");
    run(Command::new(env!("CARGO_BIN_EXE_completions")).arg(&completions));
    let mut command = Command::new(source.join("packaging").join(kind));
    command.env("COMPLETIONS", &completions);
    command.arg(to).current_dir(source).env("MYSQLCHK_BIN", built);
    command.env("PACKAGE_VERSION", version).env("SOURCE_DATE_EPOCH", "1790000000");
    let done = run(command.envs(environment.iter().copied()));
    PathBuf::from(done.lines().last().unwrap())
}

/// The package of this kind that is shipped, in this directory: made once, and put there.
#[track_caller]
fn shipped_package(kind: &str, to: &Path) -> PathBuf {
    static DEB: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    static RPM: OnceLock<(Scratch, PathBuf)> = OnceLock::new();
    let (_, made) = if kind == "deb" { &DEB } else { &RPM }.get_or_init(|| {
        let scratch = Scratch::new(kind);
        let made = package(kind, &shipped::file(""), scratch.path(), "0.1.0", &[]);
        (scratch, made)
    });
    fs::create_dir_all(to).unwrap();
    let there = to.join(made.file_name().unwrap());
    fs::copy(made, &there).unwrap();
    there
}

#[track_caller]
fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    let stdout = String::from_utf8(stdout).unwrap();
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
    stdout
}

#[test]
fn the_packages_have_no_fault_and_the_same_source_makes_the_same_packages() {
    let scratch = Scratch::new("packages");
    let (one, two, clone) = (scratch.dir("one"), scratch.dir("two"), scratch.dir("clone"));
    // Another place, umask, time zone and language.
    let copy = "umask 077; cp -R Makefile PROGRAMS Cargo.toml *.md LICENSE-* docs haproxy man systemd xinetd.d packaging \"$1\"";
    run(Command::new("sh").args(["-c", copy, "sh"]).arg(&clone).current_dir(shipped::file("")));
    for kind in ["deb", "rpm"] {
        let first = shipped_package(kind, &one);
        let second = package(kind, &clone, &two, "0.1.0", &[("TZ", "Asia/Tokyo"), ("LC_ALL", "C")]);
        assert!(
            fs::read(&first).unwrap() == fs::read(&second).unwrap(),
            "{} and {}",
            first.display(),
            second.display()
        );
        if kind == "deb" {
            let mut lintian = Command::new(program("lintian"));
            // It leaves files behind.
            lintian.env("TMPDIR", scratch.path());
            run(lintian.args(["--allow-root", "--fail-on=error,warning"]).arg(&first));
        } else {
            let mut rpmlint = Command::new(program("rpmlint"));
            let found = run(rpmlint.arg("--config").arg(shipped::file("packaging/rpmlint.toml")).arg(&first));
            assert!(found.contains("0 errors, 0 warnings"), "{found}");
        }
    }
}

#[test]
fn bash_completes_options_values_and_subcommands() {
    let scratch = Scratch::new("completions");
    run(Command::new(env!("CARGO_BIN_EXE_completions")).arg(scratch.path()));
    let script = r#"
        source "$1"; shift
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        $(complete -p "$1" | sed 's/.* -F \([^ ]*\) .*/\1/') "$1" "${!#}" "${COMP_WORDS[COMP_CWORD - 1]}"
        echo "${COMPREPLY[*]}""#;
    for (words, completed) in [
        (&["galera-chk", "--available-when-d"][..], "--available-when-donor --available-when-desynced"),
        (&["galera-chk", "--available-when-donor", ""], "never nonblocking last always"),
        (&["mysqlchk-replication", "--max-l"], "--max-lag"),
        (&["mysqlchk-status", "--require-w"], "--require-writable"),
        (&["mysqlchk-ctl", "d"], "drain down doctor"),
        (&["mysqlchk-ctl", "drain", "--re"], "--reason"),
        (&["mysqlchk-ctl", "drain", "--only", "mysqlchk-s"], "mysqlchk-status"),
    ] {
        let mut bash = Command::new(program("bash"));
        bash.args(["-c", script, "bash"]).arg(scratch.join("bash").join(words[0])).args(words);
        assert_eq!(run(&mut bash).trim_end(), completed, "{words:?}");
    }
    // Every option of the help, in every shell.
    for name in shipped::installed_programs() {
        let help = run(Command::new(binary(name)).arg("--help"));
        let options = help.split_whitespace().filter_map(|word| word.strip_prefix("--"));
        for option in options.map(|option| option.split(['[', '=', '`', ',', ';', ')']).next().unwrap()) {
            for file in [format!("bash/{name}"), format!("zsh/_{name}"), format!("fish/{name}.fish")] {
                let text = fs::read_to_string(scratch.join(&file)).unwrap();
                assert!(text.contains(option), "{file}: --{option}");
            }
        }
    }
}

/// What is left of a package that was there.
const LIFE: &str = r#"
everything() {
	# Where a package puts files. Not what dpkg and userdel keep of every package and account, nor what the host itself changes.
	find /etc /usr /lib /bin /sbin /opt /srv /var/lib -xdev \( -path /usr/local -o -path /var/lib/dpkg -o -path /var/lib/apt \
		-o -path /var/lib/systemd \) -prune -o -print |
		grep -v -e '^/etc/\(passwd\|group\|shadow\|gshadow\)-$' -e '^/etc/.pwd.lock$' | sort
	cat /etc/passwd /etc/group
}
modes() { stat -c '%A %U:%G %n' "$@"; }
everything >/shared/before
dpkg -i /shared/one/*.deb >/shared/log 2>&1
echo "enabled: $(find /etc/systemd -name '*mysqlchk*' -o -name '*galera-chk*' | tr '\n' ' ')"
echo "on: $(grep -l '^[[:space:]]*disable *= no' /etc/xinetd.d/mysqlchk* /etc/xinetd.d/galera-chk | tr '\n' ' ')"
modes /etc/mysqlchk/my.cnf /var/lib/mysqlchk /usr/bin/mysqlchk-status
getent passwd mysqlchk | cut -d: -f1,6-
mysqlchk-status --socket=/nowhere --format=text --defaults-file=/etc/mysqlchk/my.cnf || true
echo '# mine' >>/etc/mysqlchk/my.cnf
chmod 0600 /etc/mysqlchk/my.cnf
rm /etc/xinetd.d/mysqlchk-agent
mysqlchk-ctl drain --reason=upgrade --no-end --owner=me >>/shared/log 2>&1
echo "--- upgraded"
dpkg -i /shared/two/*.deb >>/shared/log 2>&1
dpkg-query -W mysqlchk
tail -n 1 /etc/mysqlchk/my.cnf
modes /etc/mysqlchk/my.cnf
ls /etc/xinetd.d/mysqlchk*
mysqlchk-ctl status | sed 's/, for [0-9]*s now//'
echo "--- removed"
dpkg -r mysqlchk >>/shared/log 2>&1
ls /usr/bin/mysqlchk* 2>/dev/null || true
tail -n 1 /etc/mysqlchk/my.cnf
ls /var/lib/mysqlchk
echo "--- purged"
dpkg -P mysqlchk >>/shared/log 2>&1
everything >/shared/after
diff /shared/before /shared/after
"#;

#[test]
fn dpkg_installs_upgrades_removes_and_purges_it() {
    if !user::is_root() {
        eprintln!("not tried: to install a package needs root");
        return;
    }
    let scratch = Scratch::new("dpkg");
    let shared = scratch.dir("shared");
    shipped_package("deb", &shared.join("one"));
    package("deb", &shipped::file(""), &shared.join("two"), "0.2.0", &[]);
    let report = copy::chroot(&scratch, LIFE);
    assert_eq!(
        report,
        "enabled: \non: \n\
         -rw-r----- root:mysqlchk /etc/mysqlchk/my.cnf\n\
         drwxr-xr-x root:root /var/lib/mysqlchk\n\
         -rwxr-xr-x root:root /usr/bin/mysqlchk-status\n\
         mysqlchk:/nonexistent:/usr/sbin/nologin\n\
         mysqlchk-status: down: cannot connect to /nowhere: no such socket\n\
         --- upgraded\n\
         mysqlchk\t0.2.0\n\
         # mine\n\
         -rw------- root:mysqlchk /etc/mysqlchk/my.cnf\n\
         /etc/xinetd.d/mysqlchk\n/etc/xinetd.d/mysqlchk-metrics\n\
         maintenance: drain: upgrade (me)\n\
         --- removed\n\
         # mine\n\
         maintenance\nmaintenance.lock\n\
         --- purged\n"
    );
}

const LIFE_OF_AN_RPM: &str = r#"
rpm() { command rpm --force-debian --nodeps "$@" >>/shared/log 2>&1; }
mkdir -p /var/lib/rpm
command rpm --initdb
rpm -i /shared/one/*.rpm
echo "enabled: $(find /etc/systemd -name '*mysqlchk*' -o -name '*galera-chk*' | tr '\n' ' ')"
echo "on: $(grep -l '^[[:space:]]*disable *= no' /etc/xinetd.d/mysqlchk* /etc/xinetd.d/galera-chk | tr '\n' ' ')"
stat -c '%A %U:%G %n' /etc/mysqlchk/my.cnf /var/lib/mysqlchk /usr/bin/mysqlchk-status
mysqlchk-status --socket=/nowhere --format=text --defaults-file=/etc/mysqlchk/my.cnf || true
echo '# mine' >>/etc/mysqlchk/my.cnf
mysqlchk-ctl drain --reason=upgrade --no-end --owner=me >>/shared/log 2>&1
echo "--- upgraded"
rpm -U /shared/two/*.rpm
command rpm -q mysqlchk
tail -n 1 /etc/mysqlchk/my.cnf
mysqlchk-ctl status | sed 's/, for [0-9]*s now//'
echo "--- removed"
rpm -e mysqlchk
find /usr /etc /var/lib -xdev -name '*mysqlchk*' -o -xdev -name galera-chk
ls /etc/mysqlchk
"#;

#[test]
fn rpm_installs_upgrades_and_removes_it() {
    if !user::is_root() {
        eprintln!("not tried: to install a package needs root");
        return;
    }
    let scratch = Scratch::new("rpm");
    let shared = scratch.dir("shared");
    shipped_package("rpm", &shared.join("one"));
    package("rpm", &shipped::file(""), &shared.join("two"), "0.2.0", &[]);
    let report = copy::chroot(&scratch, LIFE_OF_AN_RPM);
    let log = fs::read_to_string(shared.join("log")).unwrap_or_default();
    assert_eq!(
        report.replace(env::consts::ARCH, "ARCH"),
        "enabled: \non: \n\
         -rw-r----- root:mysqlchk /etc/mysqlchk/my.cnf\n\
         drwxr-xr-x root:root /var/lib/mysqlchk\n\
         -rwxr-xr-x root:root /usr/bin/mysqlchk-status\n\
         mysqlchk-status: down: cannot connect to /nowhere: no such socket\n\
         --- upgraded\n\
         mysqlchk-0.2.0-1.ARCH\n\
         # mine\n\
         maintenance: drain: upgrade (me)\n\
         --- removed\n\
         /etc/mysqlchk\n\
         my.cnf.rpmsave\n",
        "{log}"
    );
}

/// A server as a package would have set it up, and then what the document says.
const SERVER: &str = r#"
mariadb-install-db --no-defaults --user=root --datadir=/var/lib/mysql --auth-root-authentication-method=socket >/shared/log 2>&1
install -d /run/mysqld
mariadbd --no-defaults --user=root --datadir=/var/lib/mysql --socket=/run/mysqld/mysqld.sock --bind-address=127.0.0.1 >>/shared/log 2>&1 &
until mariadb -e 'DO 1' 2>/dev/null; do kill -0 $!; done
cd /shared
"#;

#[test]
fn the_commands_of_the_document_lead_from_the_package_to_an_answer() {
    if !user::is_root() {
        eprintln!("not tried: to boot a systemd needs root");
        return;
    }
    let scratch = Scratch::new("document");
    shipped_package("deb", &scratch.dir("shared"));
    let text = fs::read_to_string(shipped::file("docs/install.md")).unwrap();
    let commands = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    assert!(commands.lines().count() <= 5 && commands.starts_with("dpkg -i"), "{commands}");
    // Not what the programs of the system say, but what ours answers.
    let commands = commands.replace("0.1.0_amd64", "0.1.0_*").replace("curl -i", "curl --silent -i");
    let quiet =
        commands.lines().map(|line| if line.starts_with("curl") { line.into() } else { format!("{line} >>log 2>&1") });
    // And the load balancer of the document, before and after it may ask. The file is the one that `systemctl edit` writes.
    let drop_in = text.split("```ini\n").nth(1).unwrap().split("```").next().unwrap();
    scratch.file("shared/override.conf", drop_in);
    let balancer = "curl --silent --interface 192.0.2.10 http://127.0.0.1:9200/";
    let script = format!(
        "{SERVER}{}\nip address add 192.0.2.10/32 dev lo\n{balancer}\n\
        install -D -m 0644 override.conf /etc/systemd/system/mysqlchk-status@.service.d/override.conf
        systemctl daemon-reload\n{balancer}",
        quiet.collect::<Vec<String>>().join("\n")
    );
    let report = copy::boot(&scratch, &script);
    let log = fs::read_to_string(scratch.join("shared/log")).unwrap_or_default();
    assert!(report.starts_with("HTTP/1.1 200 "), "{report}\n{log}");
    let up = "up: the server answers, read_only is OFF\n";
    assert!(report.ends_with(&format!("\r\n{up}down: not for 192.0.2.10\n{up}")), "{report}\n{log}");
}

#[test]
fn a_host_that_reboots_in_the_middle_of_a_drain_stays_out() {
    if !user::is_root() {
        eprintln!("not tried: to boot a systemd needs root");
        return;
    }
    let scratch = Scratch::new("reboot");
    shipped_package("deb", &scratch.dir("shared"));
    let answer = "curl --silent --write-out '%{http_code}\\n' http://127.0.0.1:9200/";
    let begin = format!(
        "dpkg -i /shared/*.deb >/shared/log 2>&1
        systemctl enable --now mysqlchk-status.socket >>/shared/log 2>&1
        {answer}
        mysqlchk-ctl drain --reason='kernel upgrade' --for=1h --owner=alice >>/shared/log 2>&1
        {answer} | sed 's/until [0-9:]*Z/until TIME/'"
    );
    let no_server = "down: cannot connect to /run/mysqld/mysqld.sock: no such socket\n503\n";
    let drained = "drain: kernel upgrade, until TIME (alice)\n404\n";
    assert_eq!(copy::boot(&scratch, &begin), format!("{no_server}{drained}"));
    // The same host once more: what was in memory is gone.
    let after = format!("{answer} | sed 's/until [0-9:]*Z/until TIME/'\nmysqlchk-ctl up >>/shared/log 2>&1\n{answer}");
    assert_eq!(copy::boot(&scratch, &after), format!("{drained}{no_server}"));
}
