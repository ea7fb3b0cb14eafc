//! What every check keeps, whatever it is asked, and whoever answers: one well-formed response, one verdict, in time.

use std::fs;
use std::io::{PipeReader, PipeWriter, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lab::fake::{self, Fake, OK, greeting, packet};
use lab::http::Reply;
use lab::program::{Check, Outcome, binary, local};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, PORT, Server};
use lab::{machine, shipped, user, wait};
use rustix::fs::OFlags;
use rustix::net::AddressFamily;
use rustix::process::{Pid, Signal, kill_process};

/// How much later than its budget an answer may be when other tests run beside it, beside what the machine adds.
/// `xinetd.rs` holds a hundred answers to 50 ms.
const LATE: Duration = Duration::from_millis(200);

fn option_file(scratch: &Scratch, text: &str) -> String {
    format!("--defaults-file={}", scratch.file("my.cnf", text).display())
}

fn check(arguments: &[String]) -> Outcome {
    Check::new("mysqlchk-status").args(arguments).run()
}

fn with<S: ToString>(arguments: &[String], more: &[S]) -> Vec<String> {
    arguments.iter().cloned().chain(more.iter().map(ToString::to_string)).collect()
}

/// Asserts a whole 503 that gives this reason, and nothing else anywhere.
#[track_caller]
fn assert_down(outcome: &Outcome, code: i32, reason: &str) {
    let reply = outcome.reply();
    assert_eq!(reply.status(), 503, "{outcome:?}");
    assert_eq!(reply.body(), format!("down: {reason}\n"), "{outcome:?}");
    assert_eq!(reply.header("Content-Length"), Some(reply.body().len().to_string()), "{outcome:?}");
    assert_eq!((outcome.code, outcome.stderr.as_str()), (Some(code), ""), "{outcome:?}");
}

#[test]
fn the_response_is_the_one_of_the_manual_to_the_byte() {
    let server = Server::start();
    let outcome = check(&local(&server));
    let expected = "HTTP/1.1 200 OK\r\n\
        Content-Type: text/plain; charset=utf-8\r\n\
        Content-Length: 41\r\n\
        Connection: close\r\n\
        Cache-Control: no-store\r\n\
        \r\n\
        up: the server answers, read_only is OFF\n";
    assert_eq!((outcome.stdout.as_str(), outcome.stderr.as_str(), outcome.code), (expected, "", Some(0)));
    let outcome = check(&with(&local(&server), &["--reason-phrase"]));
    assert!(outcome.stdout.starts_with("HTTP/1.1 200 the server answers, read_only is OFF\r\n"), "{outcome:?}");
}

#[test]
fn any_well_formed_request_gets_the_verdict_and_head_gets_no_body() {
    let server = Server::start();
    let run = |request: &str| Check::new("mysqlchk-status").args(local(&server)).stdin(request).run();
    for request in [
        "",
        "OPTIONS / HTTP/1.0\r\n\r\n",
        "GET /any/path?x=1 HTTP/1.1\r\nHost: db01\r\nConnection: close\r\n\r\n",
        "BREW /pot HTTP/1.1\n\n",
        "GET / HTTP/1.0\r\nno blank line, then the end\r\n",
    ] {
        let outcome = run(request);
        assert_eq!((outcome.reply().status(), outcome.code), (200, Some(0)), "{request:?}: {outcome:?}");
    }
    let outcome = run("HEAD / HTTP/1.1\r\n\r\n");
    assert_eq!((outcome.reply().status(), outcome.reply().body()), (200, String::new()), "{outcome:?}");
    assert_eq!(outcome.reply().header("Content-Length").as_deref(), Some("41"));
}

#[test]
fn bytes_that_are_no_request_get_a_503_that_says_so() {
    let server = Server::start();
    let run = |request: &[u8]| Check::new("mysqlchk-status").args(local(&server)).stdin(request).run();
    assert_down(&run(b"\x16\x03\x01\x02\n"), 1, "the request is not HTTP");
    assert_down(&run(b"GET / HT"), 1, "the request line is incomplete");
    assert_down(&run(&[b'A'; 65536]), 1, "the request line is too long");
}

#[test]
fn silence_gets_the_verdict_after_a_quarter_of_the_budget() {
    let server = Server::start();
    let arguments = with(&local(&server), &["--timeout=8s"]);
    let outcome = Check::new("mysqlchk-status").args(arguments).stdin("").stdin_stays_open().run();
    assert_eq!(outcome.reply().status(), 200, "{outcome:?}");
    assert!(outcome.elapsed >= Duration::from_secs(2), "{outcome:?}");
    assert!(outcome.elapsed < Duration::from_secs(4), "{outcome:?}");
}

#[test]
fn every_form_has_its_bytes() {
    let server = Server::start();
    let text = check(&with(&local(&server), &["--format=text"]));
    assert_eq!(text.stdout, "mysqlchk-status: up: the server answers, read_only is OFF\n");
    let quiet = check(&with(&local(&server), &["--format=text", "--quiet"]));
    assert_eq!((quiet.stdout.as_str(), quiet.code), ("", Some(0)));
    let quiet = check(&with(&local(&server), &["--format=text", "--quiet", "--require-read-only"]));
    assert_eq!((quiet.stdout.as_str(), quiet.code), ("mysqlchk-status: down: read_only is OFF, not ON\n", Some(1)));
    let json = check(&with(&local(&server), &["--format=json"]));
    for part in [r#""verdict":"up""#, r#""facts":{"#, r#""read_only":"0""#, r#""login_us":"#, r#""query_us":"#] {
        assert!(json.stdout.contains(part), "{part} in {json:?}");
    }
    assert_eq!((json.stdout.lines().count(), json.code), (1, Some(0)));
}

#[test]
fn text_and_json_do_not_wait_for_stdin() {
    let server = Server::start();
    for form in ["--format=text", "--format=json"] {
        let arguments = with(&local(&server), &[form, "--timeout=1m"]);
        let outcome = Check::new("mysqlchk-status").args(arguments).stdin("").stdin_stays_open().run();
        assert!(outcome.elapsed < Duration::from_secs(10), "{outcome:?}");
        assert_eq!(outcome.code, Some(0), "{outcome:?}");
    }
}

#[test]
fn what_is_configured_wrong_is_a_503_with_the_cure_and_status_2() {
    let scratch = Scratch::new("wrong");
    let in_file = |name: &str, text: &str| vec![format!("--defaults-file={}", scratch.file(name, text).display())];
    let place = |name: &str| scratch.join(name).display().to_string();
    let typed = |text: &str| vec![text.to_owned()];
    for (arguments, reason) in [
        (typed("--no-such-option=secret"), "unknown option `--no-such-option`, see --help".to_owned()),
        (typed("stray"), "unexpected argument: there are only options, see --help".to_owned()),
        (
            typed("--password=secret"),
            "a password option would show in ps: write `password=` in an option file".to_owned(),
        ),
        (typed("--timeout=0ms"), "`--timeout 0ms`: must be longer than 0".to_owned()),
        (typed("--timeout=900"), "`--timeout 900`: a duration needs a unit: write `900s` or `900ms`".to_owned()),
        (typed("--port"), "`--port` needs a value".to_owned()),
        (
            typed("--format=xml"),
            "`--format xml`: must be one of auto, http, text, json, nagios, prometheus, agent".to_owned(),
        ),
        (
            vec!["--require-writable".into(), "--require-read-only".into()],
            "`--require-writable` and `--require-read-only` exclude each other".to_owned(),
        ),
        (typed("--defaults-file=/nowhere/my.cnf"), "cannot read option file /nowhere/my.cnf: no such file".to_owned()),
        (
            vec!["--host=localhost".into(), "--port=3307".into()],
            "`--host localhost` means the socket, so port 3307 would not be used: write `--host 127.0.0.1`".to_owned(),
        ),
        (
            in_file("blank.cnf", "[client]\n\nport 3306\n"),
            format!("{}:3: a space in an option name: write `option=value`", place("blank.cnf")),
        ),
        (
            in_file("unit.cnf", "[mysqlchk]\ntimeout=1\n"),
            format!("{}:2: `--timeout 1`: a duration needs a unit: write `1s` or `1ms`", place("unit.cnf")),
        ),
        (
            in_file("other.cnf", "[mysqlchk]\nmax-lag=1s\n"),
            format!("{}:2: this is not an option of mysqlchk-status for an option file", place("other.cnf")),
        ),
        (
            in_file("stray.cnf", "[mysqlchk]\npassword=\nsecret\n"),
            format!("{}:3: this is not an option of mysqlchk-status for an option file", place("stray.cnf")),
        ),
        (
            in_file("group.cnf", "[mysqlchk-satus]\nrequire-writable\n"),
            format!(
                "{}:1: [mysqlchk-satus] is neither [mysqlchk] nor the group of one of our programs",
                place("group.cnf")
            ),
        ),
        (
            in_file("client.cnf", "[client]\nrequire-writable\n"),
            format!("{}:2: `require-writable` does not belong in [client]: move it to [mysqlchk]", place("client.cnf")),
        ),
        (
            in_file("capath.cnf", "[client]\nssl-capath=/etc/ssl/certs\n"),
            format!("{}:2: `ssl-capath` is not supported: write `loose-ssl-capath` to ignore it", place("capath.cnf")),
        ),
    ] {
        let outcome = check(&arguments);
        let reply = outcome.reply();
        assert!(!outcome.stdout.contains("secret"), "{outcome:?}");
        assert_eq!((reply.status(), outcome.code, outcome.stderr.as_str()), (503, Some(2), ""), "{outcome:?}");
        // A long path is shortened in the middle; beginning and end are what an operator needs.
        let shown = reply.body();
        let shown = shown.trim_start_matches("down: ").trim_end();
        let (head, tail) = shown.split_once("...").unwrap_or((shown, ""));
        assert!(reason.starts_with(head) && reason.ends_with(tail), "{shown:?} is not {reason:?}");
        assert_eq!(reply.reason_phrase(), shown, "the operator of a broken check sees only this");
    }
}

#[test]
fn what_is_no_value_of_an_option_is_refused_in_our_words() {
    let words_of_others = ["digit", "found in string", "in target type", "is not in", "parse", "literal"];
    for program in shipped::programs() {
        let help = Check::new(program).args(["--help"]).run().stdout;
        let lines = help.lines().map(str::trim_start).filter(|line| line.starts_with('-'));
        let options = lines.filter_map(|line| line.split(['[', ' ']).find(|word| word.starts_with("--")));
        let options: Vec<&str> = options.collect();
        assert!(options.len() > 20, "{options:?}");
        for option in options {
            for value in ["x", "", "-1", "+1", "1.5", "99999999999999999999"] {
                let outcome = Check::new(program).args(["--socket=/nowhere", &format!("{option}={value}")]).run();
                let foreign = words_of_others.into_iter().find(|words| outcome.stdout.contains(words));
                assert_eq!(foreign, None, "{option}={value}: {outcome:?}");
            }
        }
    }
    for (program, option, most) in [
        ("mysqlchk-replication", "--heartbeat-source-id", "4294967295"),
        ("mysqlchk-replication", "--max-applier-queue", "18446744073709551615"),
        ("galera-chk", "--min-cluster-size", "18446744073709551615"),
        ("galera-chk", "--max-recv-queue", "18446744073709551615"),
    ] {
        let outcome = Check::new(program).args([format!("{option}=x")]).run();
        let reply = outcome.reply();
        assert_eq!(reply.body(), format!("down: `{option} x`: must be a number from 0 to {most}\n"), "{outcome:?}");
    }
}

#[test]
fn an_address_that_cannot_be_connected_to_is_not_a_long_socket_path() {
    // A link-local address is of an interface, and none is named: EINVAL, where the machine has IPv6.
    let outcome = check(&["--host=fe80::1".into(), "--port=3306".into()]);
    let reply = outcome.reply();
    assert_eq!((reply.status(), outcome.code), (503, Some(1)), "{outcome:?}");
    assert!(reply.body().starts_with("down: cannot connect to [fe80::1]:3306: "), "{outcome:?}");
    assert!(!reply.body().contains("socket"), "{outcome:?}");
}

#[test]
fn option_files_work_as_in_every_mysql_program() {
    let server = Server::start();
    let scratch = Scratch::new("options");
    let socket = server.socket().display().to_string();
    let included = scratch.file("more.cnf", "[client]\nsocket=/nowhere\n");
    let file = option_file(
        &scratch,
        &format!(
            "# read in the order client, mysqlchk, program\n\
             [mysqlchk-status]\nsocket = \"{socket}\" # the later group wins\nloose-from-the-future=1\nskip_require_writable\n\
             [mysqld]\nport=1\nwhatever\n\
             [client]\nsome-other-programs-word=1\nuser=mysqlchk_tcp\npassword='{PASSWORD}'\n!include {}\n",
            included.display()
        ),
    );
    let outcome = check(std::slice::from_ref(&file));
    assert_eq!((outcome.reply().status(), outcome.code), (200, Some(0)), "{outcome:?}");
    // The command line is the last word.
    let outcome = check(&[file.clone(), "--user=nobody_here".into()]);
    assert_down(&outcome, 1, "cannot log in: access denied (1045)");
    let outcome = check(&[file, "--print-defaults".into()]);
    assert!(outcome.stdout.contains("--user=mysqlchk_tcp\n--socket=/nowhere\n"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("--password=*****\n") && !outcome.stdout.contains(PASSWORD), "{outcome:?}");
}

#[test]
fn the_rules_of_a_group_hold_however_its_name_is_written() {
    let server = Server::start();
    let scratch = Scratch::new("groups");
    for group in ["mysqlchk-status", "Mysqlchk-Status", "mysqlchk_status", "MYSQLCHK"] {
        let file = option_file(&scratch, &format!("[{group}]\nrequire-read-only\n"));
        assert_down(&check(&with(&local(&server), &[file])), 1, "read_only is OFF, not ON");
    }
    for (group, program) in [("Galera_Chk", "galera-chk"), ("mysqlchk_replication", "mysqlchk-replication")] {
        let file = option_file(&scratch, &format!("[{group}]\nuser=taken\n"));
        let outcome = Check::new(program).args([file.as_str(), "--print-defaults"]).run();
        assert!(outcome.stdout.ends_with("--user=taken\n"), "{outcome:?}");
    }
}

#[test]
fn the_client_group_leads_to_the_server_that_the_client_programs_ask() {
    let server = Server::start();
    let scratch = Scratch::new("client");
    let socket = server.socket().display().to_string();
    let account = format!("user={}\nsocket={socket}\n", user::unprivileged().name);
    for group in ["client", "CLIENT", "client-server", "client-mariadb"] {
        // Of the client library `timeout` is seconds, and ours would have a unit.
        let file = option_file(&scratch, &format!("[{group}]\n{account}timeout=5\nprotocol=socket\nport=1\n"));
        let outcome = check(std::slice::from_ref(&file));
        assert_eq!((outcome.reply().status(), outcome.code), (200, Some(0)), "{outcome:?}");
    }
    let file = option_file(&scratch, &format!("[client]\n{account}protocol=tcp\nport=1\n"));
    assert_down(&check(&[file]), 1, "cannot connect to 127.0.0.1:1: connection refused");
}

#[test]
fn a_default_file_that_cannot_be_seen_is_not_taken_for_none() {
    let server = Server::start();
    let scratch = Scratch::new("default");
    // The one rule that this server breaks: without the file it is up.
    let rules = scratch.file("rules.cnf", "[mysqlchk-status]\nrequire-read-only\n");
    let elsewhere = scratch.dir("elsewhere");
    std::fs::copy(&rules, elsewhere.join("my.cnf")).unwrap();
    // The check sees an /etc of its own, which this script has filled.
    let with_etc = |name: &str, script: &str| {
        let etc = scratch.dir(name);
        let mut shell = Command::new("sh");
        shell.args(["-ec", script]).current_dir(&etc).env("rules", &rules).env("elsewhere", &elsewhere);
        assert!(shell.status().unwrap().success(), "{script}");
        Check::with_mounted("mysqlchk-status", &etc, "/etc").args(local(&server)).run()
    };
    for (name, script) in [("empty", ""), ("none", "mkdir mysqlchk"), ("link", "mkdir a; ln -s a mysqlchk")] {
        let outcome = with_etc(name, script);
        assert_eq!((outcome.reply().status(), outcome.code), (200, Some(0)), "{script}: {outcome:?}");
    }
    for (name, script) in [("file", "mkdir mysqlchk; cp $rules mysqlchk/my.cnf"), ("far", "ln -s $elsewhere mysqlchk")]
    {
        assert_down(&with_etc(name, script), 1, "read_only is OFF, not ON");
    }
    let own = user::unprivileged().uid;
    let denied = format!("permission denied (uid {own})");
    for (name, script, why) in [
        ("dangling", "mkdir mysqlchk; ln -s nowhere mysqlchk/my.cnf", "a symbolic link leads nowhere"),
        ("above", "ln -s nowhere mysqlchk", "a symbolic link leads nowhere"),
        (
            "loop",
            "mkdir mysqlchk; ln -s my.cnf mysqlchk/my.cnf",
            "filesystem loop or indirection limit (e.g. symlink loop)",
        ),
        ("flat", "cp $rules mysqlchk", "not a directory"),
        ("directory", "mkdir -p mysqlchk/my.cnf", "it is not a regular file"),
        ("closed", "mkdir -m 0700 mysqlchk; cp $rules mysqlchk/my.cnf", &denied),
        ("private", "mkdir mysqlchk; install -m 0600 $rules mysqlchk/my.cnf", &denied),
    ] {
        if why == denied && !user::is_root() {
            continue; // In its user namespace the check is root.
        }
        assert_down(&with_etc(name, script), 2, &format!("cannot read option file /etc/mysqlchk/my.cnf: {why}"));
    }
}

#[test]
fn an_option_file_that_others_may_write_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new("writable");
    let file = scratch.file("my.cnf", "[client]\n");
    for mode in [0o666, 0o664, 0o602] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let outcome = check(&[format!("--defaults-file={}", file.display())]);
        assert!(outcome.stdout.contains("others may write it"), "{outcome:?}");
        assert_eq!((outcome.reply().status(), outcome.code), (503, Some(2)), "{outcome:?}");
    }
}

#[test]
fn a_request_chooses_only_among_the_allowed_instances() {
    let here = Server::start();
    let scratch = Scratch::new("port");
    let account = format!("[client]\nuser=mysqlchk_tcp\npassword={PASSWORD}\nhost={}\n", here.ip());
    // Nobody listens on the configured port: only the request leads to the server.
    let arguments = vec![option_file(&scratch, &account), "--port=1".into(), format!("--allow-port={PORT}")];
    let ask = |port: &str| {
        let request = format!("OPTIONS /mysqlchk/?port={port} HTTP/1.0\r\n\r\n");
        Check::new("mysqlchk-status").args(&arguments).stdin(request).run()
    };
    assert_eq!(ask(&PORT.to_string()).reply().status(), 200);
    assert_down(&ask("3307"), 1, "port 3307 is not allowed: start with `--allow-port 3307`");
    assert_down(&ask("1"), 1, "port 1 is not allowed: start with `--allow-port 1`");
    for no_port in ["", "0", "x", "-1", "70000", "+3306", "3306x"] {
        assert_down(&ask(no_port), 1, &format!("`port={no_port}` in the request is not a port"));
    }
    assert_down(&ask("3306&port=3307"), 1, "the request names more than one port");
    assert_down(&check(&arguments), 1, &format!("cannot connect to {}:1: connection refused", here.ip()));
}

#[test]
fn a_request_that_leaves_its_instance_open_is_refused_where_there_are_several() {
    let server = Server::start();
    let ask = |target: &str, more: &[&str]| {
        let request = format!("OPTIONS {target} HTTP/1.0\r\n\r\n");
        Check::new("mysqlchk-status").args(local(&server)).args(more).stdin(request).run()
    };
    for target in ["/?PORT=3307", "/?p%6frt=3307", "/;port=3307", "/?a;port=3307", "/?", "/#port=3307", "/%3Fport=3307"]
    {
        let unclear = "the request does not name its port plainly: write `?port=PORT`";
        assert_down(&ask(target, &["--allow-port=3307"]), 1, unclear);
        assert_eq!(ask(target, &[]).reply().status(), 200, "{target}");
    }
    for target in ["/", "/mysqlchk/", "*", "http://db01:9200/"] {
        assert_eq!(ask(target, &["--allow-port=3307"]).reply().status(), 200, "{target}");
    }
}

#[test]
fn blank_lines_that_come_first_do_not_hide_the_request() {
    let server = Server::start();
    let arguments = with(&local(&server), &["--allow-port=1", "--timeout=20s"]);
    for blank in ["\r\n", "\r\n\r\n", "\n\n\n"] {
        // The request names a port where nobody listens; the server of the options would be up.
        let request = "GET /?port=1 HTTP/1.0\r\n\r\n";
        let outcome = Check::new("mysqlchk-status").args(&arguments).stdin(blank).then(request).run();
        assert_down(&outcome, 1, "cannot connect to 127.0.0.1:1: connection refused");
    }
}

#[test]
fn whatever_hangs_the_answer_leaves_in_time() {
    let scratch = Scratch::new("hang");

    let (silent, silent_address) = fake::silent();
    let (dripping, dripping_address) = fake::silent();
    fake::drip(dripping);
    let (full, full_address) = fake::silent();
    let _waiting = fake::fill(&full, AddressFamily::INET, &full_address);
    let socket = scratch.join("full.sock");
    let full_socket = UnixListener::bind(&socket).unwrap();
    user::give(&socket);
    rustix::net::listen(&full_socket, 0).unwrap();
    let _in_the_queue = std::os::unix::net::UnixStream::connect(&socket).unwrap();

    for (arguments, step) in [
        (fake::arguments(silent_address), "logging in"),
        (fake::arguments(dripping_address), "logging in"),
        (fake::arguments(full_address), "connecting"),
        (vec![format!("--socket={}", socket.display())], "connecting"),
    ] {
        for program in shipped::programs() {
            let budget = Duration::from_millis(600);
            if step == "logging in" && program != "mysqlchk-status" && arguments == fake::arguments(dripping_address) {
                continue; // It drips once.
            }
            let check = Check::new(program).args(with(&arguments, &["--timeout=600ms"]));
            let (outcome, machine) = machine::beside_sleeps(budget, 1, || check.run());
            assert_down(&outcome, 1, &format!("no verdict within 600ms (while {step})"));
            let in_time = budget..budget + LATE + machine;
            assert!(in_time.contains(&outcome.elapsed), "{arguments:?}, not {in_time:?}: {outcome:?}");
        }
    }
    drop((silent, full, full_socket));
}

/// Starts a check with this stdout, and waits until it hangs in its login; with the server's end of its connection.
fn hang(arguments: &[&str], stdout: Stdio) -> (Child, TcpStream) {
    let (silent, address) = fake::silent();
    let mut command = Command::new(binary("mysqlchk-status"));
    command.args([format!("--host={}", address.ip()), format!("--port={}", address.port())]).args(arguments);
    command.env_clear().current_dir("/").stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
    let child = user::drop_to_unprivileged(&mut command).spawn().unwrap();
    let client = silent.accept().unwrap().0;
    (child, client)
}

#[test]
fn a_crash_is_a_whole_503() {
    for signal in [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE, Signal::ABORT] {
        let (check, _silent) = hang(&["--timeout=20s"], Stdio::piped());
        kill_process(Pid::from_child(&check), signal).unwrap();
        let output = check.wait_with_output().unwrap();
        let reply = Reply { bytes: output.stdout, reset: false, elapsed: Duration::ZERO };
        assert_eq!(reply.body(), "down: the reply could not be parsed\n", "{signal:?}: {reply:?}");
        assert_eq!((reply.status(), output.status.code()), (503, Some(1)), "{signal:?}: {reply:?}");
    }
}

/// The smallest stack that the kernel starts the program with is used up while the options are read.
#[test]
fn a_stack_that_is_used_up_is_a_whole_503() {
    let outcome = Check::program(Path::new("/bin/sh"))
        .args(["-c", "ulimit -s 24; exec \"$@\"", "sh"])
        .arg(binary("mysqlchk-status"))
        .run();
    assert_down(&outcome, 2, "crashed while reading the options");
}

/// Static glibc loads the modules that nsswitch.conf names. The ones of sssd and systemd, and others, crash in it.
#[test]
fn a_module_that_crashes_while_it_looks_up_a_name_is_told_with_the_cure() {
    let scratch = Scratch::new("nss");
    let source = "int _nss_crash_gethostbyname4_r(void) { return *(volatile int *)0; }\n\
                  int _nss_crash_gethostbyname3_r(void) { return *(volatile int *)0; }\n\
                  int _nss_crash_gethostbyname2_r(void) { return *(volatile int *)0; }\n";
    let source = scratch.file("crash.c", source);
    let module = scratch.join("libnss_crash.so.2");
    let built = Command::new("cc").args(["-shared", "-nostdlib", "-fPIC", "-o"]).args([&module, &source]).status();
    assert!(built.unwrap().success());
    let nsswitch = scratch.file("nsswitch.conf", "hosts: crash files\n");
    let outcome = Check::with_mounted("mysqlchk-status", &nsswitch, "/etc/nsswitch.conf")
        .env("LD_LIBRARY_PATH", scratch.path())
        .arg("--host=db01.example")
        .run();
    assert_down(&outcome, 1, "looking up the host name crashed: write an address, not a name");
}

/// To open a file there is a sleep that only SIGKILL ends, and no handler of a signal runs in it.
#[test]
fn a_file_system_that_hangs_while_the_options_are_read_is_told_in_time() {
    let scratch = Scratch::new("hung");
    let hung = scratch.dir("hung");
    let at = hung.display();
    let inside = |name: &str, line: String| {
        let path = scratch.file(name, line);
        format!("--defaults-file={}", path.display())
    };
    std::os::unix::fs::symlink(hung.join("my.cnf"), scratch.join("link.cnf")).unwrap();
    for argument in [
        format!("--defaults-file={at}/my.cnf"),
        format!("--defaults-file={at}"),
        format!("--defaults-file={}", scratch.join("link.cnf").display()),
        inside("include.cnf", format!("!include {at}/more.cnf\n")),
        inside("includedir.cnf", format!("!includedir {at}\n")),
        inside("below.cnf", format!("!includedir {at}/conf.d\n")),
    ] {
        let outcome = Check::with_hung_file_system("mysqlchk-status", &hung).arg(&argument).run();
        assert_eq!(outcome.stderr, "", "this needs a kernel with FUSE, and /dev/fuse");
        assert_down(&outcome, 2, "no verdict within 900ms (while reading the options)");
    }
}

/// After the options were read on another file system the deadline is as it always is.
#[test]
fn an_option_file_on_another_file_system_is_read() {
    let scratch = Scratch::new("other");
    let (directory, (silent, address)) = (scratch.dir("conf.d"), fake::silent());
    fs::write(
        directory.join("my.cnf"),
        format!("[client]\nhost={}\nport={}\n[mysqlchk]\ntimeout=300ms\n", address.ip(), address.port()),
    )
    .unwrap();
    let to = scratch.dir("mounted");
    for text in ["!include", "!includedir"] {
        let path = if text == "!include" { to.join("my.cnf") } else { to.clone() };
        let file = option_file(&scratch, &format!("{text} {}\n", path.display()));
        let outcome = Check::with_mounted("mysqlchk-status", &directory, &to.display().to_string()).arg(file).run();
        assert_down(&outcome, 1, "no verdict within 300ms (while logging in)");
    }
    drop(silent);
}

/// The answer says where the time went, and it adds up to the budget.
#[test]
fn an_answer_that_comes_late_has_the_times_up_to_the_moment_it_is_given() {
    let (silent, address) = fake::silent();
    let arguments = [format!("--host={}", address.ip()), format!("--port={}", address.port())];
    let outcome = check(&with(&arguments, &["--timeout=300ms", "--format=json"]));
    assert!(outcome.stdout.contains("no verdict within 300ms (while logging in)"), "{outcome:?}");
    let times = outcome.stdout.split_once("\"times\":{").unwrap().1.split_once('}').unwrap().0;
    let time = |entry: &str| entry.split_once("_us\":").unwrap().1.parse::<u64>().unwrap();
    let sum: u64 = times.split(',').map(time).sum();
    let login = times.split(',').find(|entry| entry.contains("login")).map(time);
    assert!((290_000..=300_000).contains(&sum) && login.is_some_and(|login| login > 150_000), "{times}");
    drop(silent);
}

/// A pipe that takes no more.
fn full_pipe() -> (PipeReader, PipeWriter) {
    let (reader, mut writer) = std::io::pipe().unwrap();
    let flags = rustix::fs::fcntl_getfl(&writer).unwrap();
    rustix::fs::fcntl_setfl(&writer, flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    rustix::fs::fcntl_setfl(&writer, flags).unwrap();
    (reader, writer)
}

#[test]
fn a_check_whose_answer_nobody_takes_ends_all_the_same() {
    let (_reader, writer) = full_pipe();
    let (mut check, _silent) = hang(&["--timeout=300ms"], writer.into());
    let ended = wait::until_some("the end of the check", Duration::from_secs(10), || check.try_wait().unwrap());
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn whatever_a_server_sends_the_response_is_well_formed() {
    let protocol = "cannot log in: the reply is not the MySQL protocol";
    let closed = "cannot log in: the server closed the connection";
    let panicked = "the reply could not be parsed";
    let scratch = Scratch::new("account");
    let account = option_file(&scratch, "[client]\nuser=u\npassword=p\n");
    let after_greeting = |payload: &[u8]| [greeting(), packet(2, payload)].concat();
    for (bytes, reason) in [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), protocol),
        (b"\xff\xff\xff\x01".to_vec(), protocol),
        (packet(0, b"\x09"), protocol),
        (packet(0, b"\xff\x10\x04Too many connections"), "cannot log in: too many connections (1040)"),
        (packet(0, b"\xff\x6a\x04Host 'x' is not allowed"), "cannot log in: this host is not allowed (1130)"),
        (Vec::new(), closed),
        (greeting(), closed),
        (
            after_greeting(b"\xfesome_plugin\0scramble"),
            "cannot log in: authentication plugin `some_plugin` is not supported",
        ),
        (after_greeting(b"\xfeclient_ed25519\0abcdefghijklmnopqrstuvwxyzabcdef"), closed),
        // A bare OK to a statement that has columns is no answer: somebody in between swallowed it.
        ([greeting(), packet(2, OK), packet(1, OK)].concat(), "cannot query: the answer has no columns"),
        // The driver indexes into an empty packet.
        (after_greeting(b""), panicked),
    ] {
        let fake = Fake::sending(vec![bytes]);
        let outcome = check(&with(&fake::arguments(fake.address), &[&account]));
        assert_down(&outcome, 1, reason);
    }
}

/// The driver takes a zero at the end of a challenge for a terminator, and one challenge in 256 has one.
#[test]
fn a_challenge_that_ends_in_a_zero_is_no_reason_to_be_down() {
    let scratch = Scratch::new("challenge");
    let account = option_file(&scratch, "[client]\nuser=u\npassword=p\n");
    let said = |clients| {
        let fake = Fake::sending_each(clients);
        check(&with(&fake::arguments(fake.address), &[&account]))
    };
    let challenge = |plugin: &[u8], last| packet(2, &[b"\xfe", plugin, b"\0", &[b'n'; 31], &[last]].concat());
    let denied = || packet(4, b"\xff\x15\x04#28000Access denied");
    let salt = || packet(4, &[b"P\0", &[b's'; 18][..]].concat());
    // No real server can be made to draw such a challenge. That the login is through shows in what comes after it.
    let logged_in = "cannot query: the answer has no columns";
    let ed25519 = |last, answer| vec![greeting(), challenge(b"client_ed25519", last), answer, packet(1, OK)];
    let refused = || ed25519(0, denied());
    assert_down(&said(vec![refused(), ed25519(b'n', packet(4, OK))]), 1, logged_in);
    let parsec = |last| vec![greeting(), challenge(b"parsec", last), salt(), packet(6, OK), packet(1, OK)];
    assert_down(&said(vec![parsec(0), parsec(b'n')]), 1, logged_in);
    // A wrong password stays wrong, and is not tried a third time.
    let third = ed25519(b'n', packet(4, OK));
    assert_down(&said(vec![refused(), refused(), third]), 1, "cannot log in: access denied (1045)");
}

#[test]
fn help_and_version_are_for_a_person() {
    for program in shipped::programs() {
        let help = Check::new(program).args(["--help"]).run();
        assert!(
            help.code == Some(0) && help.stdout.contains("--max-lag") == (program == "mysqlchk-replication"),
            "{help:?}"
        );
        let version = Check::new(program).args(["-V"]).run();
        assert_eq!(version.stdout, format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
    }
}
