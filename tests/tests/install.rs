//! `make install`: what lands where, and what an operator has changed stays as it is. Never outside of a `DESTDIR`.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use lab::daemon::{Daemon, program};
use lab::program::binary;
use lab::scratch::Scratch;
use lab::xinetd::Services;
use lab::{address, shipped, user, wait};

/// The files of services.
const SERVICES: [&str; 4] = ["mysqlchk", "galera-chk", "mysqlchk-agent", "mysqlchk-metrics"];

/// The text of a file of the project.
fn text_of(path: &str) -> String {
    let path = shipped::file(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The names of the project's files in `directory` with this extension.
fn names(directory: &str, extension: &str) -> Vec<String> {
    let entries = fs::read_dir(shipped::file(directory)).unwrap().map(|entry| entry.unwrap().path());
    let wanted = entries.filter(|path| path.extension().is_some_and(|have| have == extension));
    wanted.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}

/// The root of a host that does not exist, and what `make install` puts there.
struct Root(Scratch);

impl Root {
    fn new() -> Self {
        Self(Scratch::new("root"))
    }

    /// Runs `make install` with these variables; the binaries are there, and to build them again is an error.
    #[track_caller]
    fn install(&self, variables: &[&str]) -> String {
        let built = env::var("MYSQLCHK_BIN").expect("set MYSQLCHK_BIN or run make test");
        let mut make = Command::new("sh");
        // A umask that shows which modes are left to chance.
        make.args(["-c", "umask 077 && exec make \"$@\"", "make", "install", "CARGO=false"]);
        make.arg(format!("DESTDIR={}", self.0.path().display())).arg(format!("MYSQLCHK_BIN={built}")).args(variables);
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL"] {
            make.env_remove(name);
        }
        let Output { status, stdout, stderr } = make.current_dir(shipped::file("")).output().unwrap();
        let stdout = String::from_utf8(stdout).unwrap();
        assert!(status.success(), "{status}\n{stdout}\n{}", String::from_utf8_lossy(&stderr));
        stdout
    }

    fn path(&self, absolute: &str) -> PathBuf {
        self.0.join(absolute.trim_start_matches('/'))
    }

    fn read(&self, absolute: &str) -> String {
        fs::read_to_string(self.path(absolute)).unwrap_or_else(|error| panic!("{absolute}: {error}"))
    }

    fn write(&self, absolute: &str, text: &str) {
        fs::write(self.path(absolute), text).unwrap();
    }

    /// Every file by its path, with its mode and content.
    fn files(&self) -> BTreeMap<String, (u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        let mut directories = vec![self.0.path().to_owned()];
        while let Some(directory) = directories.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                let mode = fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777;
                if path.is_dir() {
                    assert_eq!(mode, 0o755, "{}", path.display());
                    directories.push(path);
                } else {
                    let name = format!("/{}", path.strip_prefix(self.0.path()).unwrap().display());
                    files.insert(name, (mode, fs::read(&path).unwrap()));
                }
            }
        }
        files
    }
}

/// Runs a program to its end as the caller: unlike `nobody`, who may not read an installed `my.cnf`.
fn run(program: &Path, arguments: &[&str]) -> (String, String, Option<i32>) {
    let Output { status, stdout, stderr } = Command::new(program).args(arguments).env_clear().output().unwrap();
    (String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap(), status.code())
}

#[test]
fn every_file_gets_its_place_and_its_mode() {
    for (variables, prefix) in [(&[][..], "/usr/local"), (&["PREFIX=/usr"][..], "/usr")] {
        let root = Root::new();
        root.install(variables);
        let mut wanted = BTreeMap::new();
        for name in shipped::installed_programs() {
            wanted.insert(format!("{prefix}/bin/{name}"), 0o755);
        }
        for part in ["7", "8"] {
            for name in names("man", part) {
                wanted.insert(format!("{prefix}/share/man/man{part}/{name}"), 0o644);
            }
        }
        let doc = format!("{prefix}/share/doc/mysqlchk");
        for name in ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "LICENSE-MIT", "LICENSE-APACHE"] {
            wanted.insert(format!("{doc}/{name}"), 0o644);
        }
        for name in
            [names("docs", "md"), names("docs", "svg"), names("docs", "png"), vec!["my.cnf".to_owned()]].concat()
        {
            wanted.insert(format!("{doc}/docs/{name}"), 0o644);
        }
        for name in names("docs/recipes", "md") {
            wanted.insert(format!("{doc}/docs/recipes/{name}"), 0o644);
        }
        for name in names("haproxy", "cfg").into_iter().chain(names("haproxy", "conf")) {
            wanted.insert(format!("{doc}/haproxy/{name}"), 0o644);
        }
        for name in SERVICES.map(|file| format!("xinetd.d/{file}")).iter().chain([&"mysqlchk/busy.http".to_owned()]) {
            wanted.insert(format!("/etc/{name}"), 0o644);
        }
        wanted.insert("/etc/mysqlchk/my.cnf".to_owned(), 0o640);
        for name in names("systemd", "conf").into_iter().chain(["tmpfiles.conf".to_owned()]) {
            wanted.insert(format!("{doc}/{name}"), 0o644);
        }
        for name in names("systemd", "socket").into_iter().chain(names("systemd", "service")) {
            wanted.insert(format!("{prefix}/lib/systemd/system/{name}"), 0o644);
            let unit = root.read(&format!("{prefix}/lib/systemd/system/{name}"));
            assert!(prefix == "/usr/local" || !unit.contains("/usr/local/"), "{name}");
        }
        let found: BTreeMap<String, u32> = root.files().into_iter().map(|(name, (mode, _))| (name, mode)).collect();
        assert_eq!(found, wanted);

        for name in shipped::installed_programs() {
            assert!(root.files()[&format!("{prefix}/bin/{name}")].1 == fs::read(binary(name)).unwrap(), "{name}");
            assert!(wanted.contains_key(&format!("{prefix}/share/man/man8/{name}.8")), "{name} has no manual page");
        }
        let notes = fs::metadata(root.path("/var/lib/mysqlchk")).unwrap();
        assert!(notes.is_dir() && notes.permissions().mode() & 0o7777 == 0o755, "{notes:?}");
        assert_eq!(root.read("/etc/mysqlchk/my.cnf"), text_of("docs/my.cnf"));
        assert_eq!(root.read("/etc/mysqlchk/busy.http"), text_of("xinetd.d/busy.http"));
    }
}

/// What `ssl-ca` names is all that is trusted: the list that the driver would bring is not in the programs.
#[test]
fn no_program_carries_a_public_authority() {
    for name in shipped::programs() {
        let bytes = fs::read(binary(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        for authority in ["DigiCert", "ISRG Root"] {
            assert!(!text.contains(authority), "{name} contains {authority}");
        }
    }
}

#[test]
fn systemd_takes_the_drop_in_for_a_server() {
    let root = Root::new();
    root.install(&["PREFIX=/usr"]);
    let drop_in = root.read("/usr/share/doc/mysqlchk/drain.conf");
    for command in ["ExecStop=-+/usr/bin/mysqlchk-ctl drain ", "ExecStartPost=-+/usr/bin/mysqlchk-ctl up "] {
        assert_eq!(drop_in.lines().filter(|line| line.starts_with(command)).count(), 1, "{command}");
    }
    for unit in ["mariadb.service", "mysql.service"] {
        let units = Scratch::new("units");
        // systemd looks for the program.
        let here = drop_in.replace("/usr/bin/mysqlchk-ctl", &binary("mysqlchk-ctl").display().to_string());
        units.file(unit, "[Service]\nExecStart=/bin/true\n");
        units.dir(&format!("{unit}.d"));
        let verify = |text: &str| {
            units.file(&format!("{unit}.d/mysqlchk.conf"), text);
            let mut command = Command::new(program("systemd-analyze"));
            command
                .env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()))
                .args(["--man=no", "verify"])
                .arg(units.join(unit));
            let done = command.output().unwrap();
            (done.status.success(), String::from_utf8(done.stderr).unwrap())
        };
        assert_eq!(verify(&here), (true, String::new()), "{unit}");
        assert!(!verify(&here.replace("ExecStop=", "ExecStopp=")).1.is_empty(), "{unit}");
    }
}

#[test]
fn the_paths_in_the_service_files_are_those_of_the_installation() {
    for prefix in ["/usr/local", "/usr", "/opt/checks"] {
        let root = Root::new();
        root.install(&[&format!("PREFIX={prefix}")]);
        for file in SERVICES {
            let installed = root.read(&format!("/etc/xinetd.d/{file}"));
            let moved = text_of(&format!("xinetd.d/{file}")).replace("/usr/local/bin", &format!("{prefix}/bin"));
            assert_eq!(installed, moved);
            let services = Services::new(installed);
            for name in services.names() {
                let server = services.value(&name, "server").unwrap();
                let program = name.trim_end_matches("-agent").trim_end_matches("-metrics");
                assert_eq!(server, format!("{prefix}/bin/{program}"));
                for path in [Some(server), services.value(&name, "banner_fail")].into_iter().flatten() {
                    assert!(root.path(&path).is_file(), "{name} names {path}, which is not installed");
                }
            }
        }
    }
}

#[test]
fn the_example_for_the_directory_of_shared_answers_is_for_the_user_of_the_services_alone() {
    let root = Root::new();
    root.install(&[]);
    let text = root.read("/usr/local/share/doc/mysqlchk/tmpfiles.conf");
    let lines: Vec<Vec<&str>> =
        text.lines().filter(|line| !line.starts_with('#')).map(|line| line.split(' ').collect()).collect();
    let [line] = lines.as_slice() else { panic!("{text}") };
    let ["d", directory, "0700", user, group, "-"] = line.as_slice() else { panic!("{line:?}") };
    for (file, name) in
        [("mysqlchk", "mysqlchk-status"), ("mysqlchk", "mysqlchk-replication"), ("galera-chk", "galera-chk")]
    {
        let services = Services::new(root.read(&format!("/etc/xinetd.d/{file}")));
        assert_eq!(services.value(name, "user").as_deref(), Some(*user));
        assert_eq!(services.value(name, "group"), None);
        // Nothing that is installed needs the directory.
        assert_eq!(services.value(name, "server_args").as_deref(), Some("--reason-phrase"));
        assert_eq!(user, group);
        let (help, ..) = run(&root.path(&format!("/usr/local/bin/{name}")), &["--help"]);
        assert!(help.contains(&format!("[default: {directory}]")), "{help}");
    }
}

#[test]
fn installing_again_changes_nothing_that_nobody_changed() {
    let root = Root::new();
    root.install(&[]);
    let before = root.files();
    let said = root.install(&[]);
    assert_eq!(root.files(), before);
    assert!(!said.contains("kept"), "{said}");
}

#[test]
fn installing_again_keeps_what_an_operator_edited_and_renews_the_rest() {
    let root = Root::new();
    root.install(&[]);
    let first = root.files();
    let edited = Services::new(root.read("/etc/xinetd.d/mysqlchk"))
        .append("mysqlchk-status", "server_args", "--require-writable")
        .set("mysqlchk-replication", "disable", "yes");
    root.write("/etc/xinetd.d/mysqlchk", edited.text());
    root.write("/etc/mysqlchk/my.cnf", "[client]\nuser = monitor\n");
    fs::set_permissions(root.path("/etc/mysqlchk/my.cnf"), Permissions::from_mode(0o600)).unwrap();
    for ours in ["/usr/local/bin/mysqlchk-status", "/etc/mysqlchk/busy.http"] {
        root.write(ours, "an older version");
    }

    let said = root.install(&[]);
    let mut wanted = first.clone();
    wanted.insert("/etc/xinetd.d/mysqlchk.new".to_owned(), first["/etc/xinetd.d/mysqlchk"].clone());
    wanted.insert("/etc/xinetd.d/mysqlchk".to_owned(), (0o644, edited.text().into()));
    wanted.insert("/etc/mysqlchk/my.cnf".to_owned(), (0o600, b"[client]\nuser = monitor\n".to_vec()));
    let found = root.files();
    assert_eq!(found.keys().collect::<Vec<_>>(), wanted.keys().collect::<Vec<_>>());
    for (name, file) in &wanted {
        assert!(&found[name] == file, "{name}");
    }
    let kept = root.path("/etc/xinetd.d/mysqlchk").display().to_string();
    assert!(said.contains(&format!("kept {kept}, see {kept}.new")), "{said}");
}

#[test]
fn xinetd_does_not_read_the_file_beside_an_edited_one() {
    let root = Root::new();
    root.install(&[]);
    let ip = address::fresh();
    let mut edited = Services::new(root.read("/etc/xinetd.d/mysqlchk"));
    for name in edited.names() {
        let installed = edited.value(&name, "server").unwrap();
        edited = edited
            .set(&name, "bind", ip)
            .set(&name, "user", &user::unprivileged().name)
            .set(&name, "server", root.path(&installed).display())
            .set(&name, "banner_fail", root.path("/etc/mysqlchk/busy.http").display());
    }
    root.write("/etc/xinetd.d/mysqlchk", edited.text());
    root.install(&[]);
    assert!(root.path("/etc/xinetd.d/mysqlchk.new").is_file());

    let scratch = Scratch::new("xinetd");
    let includes = format!("defaults\n{{\n}}\nincludedir {}\n", root.path("/etc/xinetd.d").display());
    let (configuration, log) = (scratch.file("xinetd.conf", includes), scratch.join("log"));
    let mut xinetd = Command::new(program("xinetd"));
    xinetd
        .arg("-f")
        .arg(configuration)
        .arg("-pidfile")
        .arg(scratch.join("pid"))
        .arg("-filelog")
        .arg(&log)
        .arg("-dontfork");
    let mut daemon = Daemon::start(&mut xinetd, &scratch.join("output"));
    let told = || fs::read_to_string(&log).unwrap_or_default();
    daemon.until_ready(Duration::from_secs(20), || told().contains("Started working"));
    wait::until("both ports listen", Duration::from_secs(20), || {
        [9200, 9201].iter().all(|&port| address::listens((ip, port).into()))
    });
    // The service galera-chk is off, as it is shipped.
    assert!(told().contains("Started working: 2 available services"), "{}", told());
    assert!(!told().contains("mysqlchk.new"), "{}", told());
}

/// The lines of the example option file that only wait for their `#` to go: `#key = value`, not `# words`.
fn examples(text: &str) -> Vec<&str> {
    text.lines()
        .filter(|line| line.strip_prefix('#').is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase())))
        .collect()
}

/// What a program makes of an option file.
#[track_caller]
fn print_defaults(program: &Path, file: &Path) -> String {
    let (stdout, stderr, code) = run(program, &[&format!("--defaults-file={}", file.display()), "--print-defaults"]);
    assert_eq!((stderr.as_str(), code), ("", Some(0)), "{}: {stdout}", program.display());
    stdout
}

#[test]
fn every_program_takes_the_installed_option_file_and_each_of_its_examples() {
    let root = Root::new();
    root.install(&[]);
    let scratch = Scratch::new("cnf");
    let text = root.read("/etc/mysqlchk/my.cnf");
    assert_eq!(text, root.read("/usr/local/share/doc/mysqlchk/docs/my.cnf"));
    let examples = examples(&text);
    assert!(examples.len() >= 9, "{examples:?}");
    let all = examples.iter().fold(text.clone(), |text, line| text.replace(line, &line[1..]));
    let everything = scratch.file("all.cnf", &all);

    for name in shipped::programs() {
        let program = root.path(&format!("/usr/local/bin/{name}"));
        let header = format!("{name} would have been started with the following arguments:\n");
        assert_eq!(print_defaults(&program, &root.path("/etc/mysqlchk/my.cnf")), header);
        for (number, line) in examples.iter().enumerate() {
            let one = scratch.file(&format!("{number}.cnf"), text.replace(line, &line[1..]));
            print_defaults(&program, &one);
        }
        // Each example of the groups this program reads, and none of another's.
        let mut group = "";
        let mut wanted = header;
        let mut masked = "";
        for line in all.lines() {
            group = line.strip_prefix('[').map_or(group, |rest| rest.trim_end_matches(']'));
            let (key, value) =
                line.split_once('=').map_or((line.trim(), None), |(key, value)| (key.trim(), Some(value.trim())));
            let ours =
                ["client", "mysqlchk", name].contains(&group) && !line.starts_with(['#', '[']) && !line.is_empty();
            match (key, value) {
                _ if !ours => {}
                ("password", _) => masked = "--password=*****\n",
                (key, Some(value)) => wanted += &format!("--{key}={value}\n"),
                (key, None) => wanted += &format!("--{key}\n"),
            }
        }
        assert_eq!(print_defaults(&program, &everything), wanted + masked);
    }

    // And what would be wrong is not taken.
    let wrong = scratch.file("wrong.cnf", all.replace("max-lag = 30s", "max-lag = 30"));
    let program = root.path("/usr/local/bin/mysqlchk-replication");
    let (stdout, _, code) = run(&program, &[&format!("--defaults-file={}", wrong.display()), "--print-defaults"]);
    assert!(code == Some(2) && stdout.contains("a duration needs a unit"), "{stdout}");
}

#[test]
fn the_installed_programs_tell_their_version() {
    let root = Root::new();
    root.install(&["PREFIX=/usr"]);
    for name in shipped::programs() {
        let told = run(&root.path(&format!("/usr/bin/{name}")), &["--version"]);
        assert_eq!(told, (format!("{name} {}\n", env!("CARGO_PKG_VERSION")), String::new(), Some(0)));
    }
}
