//! An operator's note, and the program that writes it: what each check makes of it, with pipes, and what is left of it when
//! the writer is killed.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};

use lab::address;
use lab::notes::{Notes, words};
use lab::program::{Check, Outcome, local};
use lab::scratch::Scratch;
use lab::server::Server;
use lab::{machine, shipped, user, wait};
use rustix::process::{Pid, Signal, kill_process};

const BOUND: Duration = Duration::from_secs(60);
/// What every check says of a server that is not there.
const NO_SERVER: &str = "down: cannot connect to /nowhere: no such socket";

/// Asks a check of a server that is not there.
fn ask(notes: &Notes, program: &str, more: &[&str]) -> Outcome {
    Check::new(program).args(["--socket=/nowhere", &notes.option(), "--timeout=20s"]).args(more).run()
}

#[track_caller]
fn assert_verdict(case: &str, outcome: &Outcome, verdict: &str) {
    let status = match verdict.split(':').next().unwrap() {
        "up" => 200,
        "drain" => 404,
        _ => 503,
    };
    let seen = (outcome.reply().status(), outcome.reply().body(), outcome.code, outcome.stderr.as_str());
    assert_eq!(seen, (status, format!("{verdict}\n"), Some(i32::from(status != 200)), ""), "{case}");
}

fn in_words(time: SystemTime) -> String {
    let seconds = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let date = Command::new("date").args(["-u", "-d", &format!("@{seconds}"), "+%Y-%m-%dT%H:%M:%SZ"]).output().unwrap();
    String::from_utf8(date.stdout).unwrap().trim().to_owned()
}

#[test]
fn a_note_decides_before_the_server_is_asked() {
    let notes = Notes::new();
    let (past, soon) = (SystemTime::now() - Duration::from_secs(2), SystemTime::now() + Duration::from_secs(3600));
    let until = |time| format!("until={}\n", in_words(time));
    let clock = &in_words(soon)[11..16];
    for program in shipped::programs() {
        assert_verdict("no note", &ask(&notes, program, &[]), NO_SERVER);
    }
    for (text, verdict) in [
        (String::new(), "down: maintenance".to_owned()),
        ("# touched by a person\n".into(), "down: maintenance".into()),
        ("[maintenance]\nmode=drain\nreason=kernel upgrade\nby=alice\n".into(), "drain: kernel upgrade (alice)".into()),
        ("[maintenance]\nmode=down\nreason=\"new disk\"\n".into(), "down: new disk".into()),
        (
            format!("[maintenance]\nmode=drain\nreason=kernel upgrade\nby=alice\n{}", until(soon)),
            format!("drain: kernel upgrade, until {clock}Z (alice)"),
        ),
        // The end does not make the server up: it lets the facts decide again.
        (format!("[maintenance]\nmode=drain\n{}", until(past)), NO_SERVER.into()),
        ("[maintenance]\nmode=drain\nuntil=2000-01-01T00:00:00Z\n".into(), NO_SERVER.into()),
        ("[maintenance]\nmode=drain\nuntil=2999-01-01T00:00:00Z\n".into(), "drain: maintenance, until 2999-01-01 00:00Z".into()),
        // The stricter one counts.
        (
            "[maintenance]\nmode=drain\nreason=a\n[mysqlchk-status]\nmode=down\nreason=b\n[galera-chk]\nmode=down\nreason=c\n".into(),
            "down: b".into(),
        ),
        ("[galera-chk]\nmode=down\n".into(), NO_SERVER.into()),
        ("[mysqlchk_status]\nmode=drain\n".into(), "drain: maintenance".into()),
        // Over a socket the instance is that of the port in the options.
        ("[maintenance]\nmode=drain\ninstance=3306\n".into(), "drain: maintenance".into()),
        ("[maintenance]\nmode=drain\ninstance=3307\n".into(), NO_SERVER.into()),
    ] {
        notes.write(&text);
        assert_verdict(&text, &ask(&notes, "mysqlchk-status", &[]), &verdict);
    }
    let cannot = format!("down: cannot use maintenance note {}: ", notes.path().display());
    for (text, why) in [
        ("[maintenance]\n", ""),
        ("mode=drain\n", ":1: an option before the first [group]"),
        ("[maintenance]\nmode=up\n", ":2: `mode`: must be drain or down"),
        ("[maintenance]\nreason=x\n", "[maintenance] has no `mode`"),
        ("[maintenance]\nmode=drain\nuntil=21:30\n", ":3: `until`: must be a time like 2026-11-24T21:30:00Z"),
        ("[maintenance]\nmode=drain\nuser=x\n", ":3: a maintenance note has no `user`"),
        ("[maintenance\nmode=drain\n", ":1: a group is `[name]` and nothing else"),
        ("\u{1}\u{2}garbled\u{0}", ":1: an option before the first [group]"),
    ] {
        notes.write(text);
        // In JSON, where a long path does not shorten the reason.
        let json = ask(&notes, "mysqlchk-status", &["--format=json"]).stdout;
        let reason: serde_json::Value = serde_json::from_str(&json).unwrap();
        let expected = match why {
            "" => "down: maintenance".to_owned(),
            why if why.starts_with(':') => format!("{cannot}{}{why}", notes.path().display()),
            why => format!("{cannot}{why}"),
        };
        let seen = format!("{}: {}", reason["verdict"].as_str().unwrap(), reason["reason"].as_str().unwrap());
        assert_eq!(seen, expected, "{text:?}");
    }
}

#[test]
fn a_note_that_others_could_have_written_is_down() {
    let notes = Notes::new();
    let text = "[maintenance]\nmode=drain\nuntil=2000-01-01T00:00:00Z\n";
    let reason = || {
        let json = ask(&notes, "galera-chk", &["--format=json"]).stdout;
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        value["reason"].as_str().unwrap().replace(&notes.path().display().to_string(), "NOTE")
    };
    let chmod = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    notes.write(text);
    assert_eq!(format!("down: {}", reason()), NO_SERVER);
    chmod(&notes.path(), 0o646);
    assert_eq!(reason(), "cannot use maintenance note NOTE: others may write it (mode 0646): run `chmod go-w` on it");
    chmod(&notes.path(), 0o644);
    chmod(notes.directory(), 0o777);
    assert!(reason().contains(": others may write it (mode 0777)"), "{}", reason());
    chmod(notes.directory(), 0o755);
    fs::rename(notes.path(), notes.directory().join("real")).unwrap();
    symlink(notes.directory().join("real"), notes.path()).unwrap();
    assert_eq!(reason(), "cannot use maintenance note NOTE: it is a symbolic link");
    fs::remove_file(notes.path()).unwrap();
    fs::create_dir(notes.path()).unwrap();
    assert_eq!(reason(), "cannot use maintenance note NOTE: it is not a regular file");
    fs::remove_dir(notes.path()).unwrap();
    notes.write(&"# x\n".repeat(5000));
    assert_eq!(reason(), "cannot use maintenance note NOTE: it is larger than 16 KiB");
    if user::is_root() {
        notes.write(text);
        chown(notes.path(), Some(1), Some(1)).unwrap();
        assert!(reason().contains("it belongs to uid 1, not to root or uid"), "{}", reason());
        chown(notes.path(), Some(0), Some(0)).unwrap();
        assert_eq!(format!("down: {}", reason()), NO_SERVER);
        chmod(&notes.path(), 0o600);
        assert!(reason().contains("permission denied (uid "), "{}", reason());
        chmod(&notes.path(), 0o644);
        chown(notes.directory(), Some(1), Some(1)).unwrap();
        assert!(reason().contains("it belongs to uid 1"), "{}", reason());
    }
}

/// Each form of the answer, as the table of the manual page has it.
#[test]
fn a_drain_has_a_form_of_its_own() {
    let notes = Notes::new();
    notes.write("[maintenance]\nmode=drain\nreason=kernel upgrade\nby=alice\n");
    let http = ask(&notes, "mysqlchk-status", &["--format=http"]);
    assert!(http.stdout.starts_with("HTTP/1.1 404 Not Found\r\n"), "{http:?}");
    let reason = ask(&notes, "mysqlchk-status", &["--reason-phrase"]);
    assert!(reason.stdout.starts_with("HTTP/1.1 404 kernel upgrade (alice)\r\n"), "{reason:?}");
    let text = ask(&notes, "mysqlchk-status", &["--format=text", "--quiet"]);
    assert_eq!((text.stdout.as_str(), text.code), ("mysqlchk-status: drain: kernel upgrade (alice)\n", Some(1)));
    let json: serde_json::Value =
        serde_json::from_str(&ask(&notes, "mysqlchk-status", &["--format=json"]).stdout).unwrap();
    assert_eq!((&json["verdict"], &json["misconfigured"]), (&"drain".into(), &false.into()));
    assert_verdict("asked for", &ask(&notes, "mysqlchk-status", &["--ignore-maintenance"]), NO_SERVER);
    let none = Check::new("mysqlchk-status").args(["--socket=/nowhere", "--maintenance-file=none"]).run();
    assert_verdict("none", &none, NO_SERVER);
}

#[test]
fn a_note_for_one_instance_leaves_the_others_alone() {
    let (notes, server) = (Notes::new(), Server::start());
    notes.write("[maintenance]\nmode=drain\ninstance=3307\nreason=one\n");
    let ask = |more: &[&str]| {
        Check::new("mysqlchk-status").args(local(&server)).args(["--timeout=20s", &notes.option()]).args(more).run()
    };
    assert_verdict("over the socket", &ask(&[]), "up: the server answers, read_only is OFF");
    let host = format!("--host={}", server.ip());
    assert_verdict("over TCP", &ask(&[&host, "--port=3307"]), "drain: one");
    let scratch = Scratch::new("instance");
    // The option file of an instance names both, and asks over the socket.
    let text = format!("[client]\nsocket={}\nport=3307\n", server.socket().display());
    let (file, arguments) = (scratch.file("my.cnf", &text), local(&server));
    let of_instance = [format!("--defaults-file={}", file.display()), arguments[1].clone(), notes.option()];
    assert_verdict("named in the file", &Check::new("mysqlchk-status").args(of_instance).run(), "drain: one");
}

#[test]
fn a_note_is_written_shown_and_removed() {
    let notes = Notes::new();
    let said = |output: &Output| String::from_utf8(output.stdout.clone()).unwrap();
    let status = notes.ctl(&["status"]);
    assert_eq!((said(&status).as_str(), status.status.code()), ("no maintenance note\n", Some(0)));
    let drained = notes.ctl(&["drain", "--reason=kernel upgrade", "--for=30m"]);
    assert!(said(&drained).starts_with("maintenance: drain: kernel upgrade, until "), "{drained:?}");
    assert_eq!(fs::metadata(notes.path()).unwrap().permissions().mode() & 0o777, 0o644);
    for program in shipped::programs() {
        let outcome = ask(&notes, program, &[]);
        assert!(outcome.reply().body().starts_with("drain: kernel upgrade, until "), "{outcome:?}");
        assert!(outcome.reply().body().ends_with("Z (alice)\n"), "{outcome:?}");
    }
    let status = notes.ctl(&["status"]);
    assert!(said(&status).starts_with("maintenance: drain: kernel upgrade, until ") && status.status.code() == Some(1));
    let down = notes.ctl(&["down", "--reason=it's \"broken\" # 2", "--no-end", "--only=galera-chk"]);
    assert_eq!(said(&down), "galera-chk: down: it's \"broken\" # 2 (alice)\n");
    assert_verdict("the stricter one", &ask(&notes, "galera-chk", &[]), "down: it's \"broken\" # 2 (alice)");
    assert!(ask(&notes, "mysqlchk-status", &[]).reply().body().starts_with("drain: kernel"));
    assert_eq!(said(&notes.ctl(&["up", "--only=galera-chk"])), "galera-chk: the note is gone\n");
    assert!(ask(&notes, "galera-chk", &[]).reply().body().starts_with("drain: kernel"));
    notes.ctl_ok(&["down", "--reason=x", "--no-end", "--only=galera-chk"]);
    // Without more it is everything: after it nothing of ours keeps the server out.
    assert_eq!(said(&notes.ctl(&["up"])), "maintenance: the note is gone\ngalera-chk: the note is gone\n");
    assert_verdict("all are gone", &ask(&notes, "galera-chk", &[]), NO_SERVER);
    assert!(!notes.path().exists());
    assert_eq!(said(&notes.ctl(&["up"])), "maintenance: there was no note\n");
    for (words, why) in [
        (&["drain", "--reason=x"][..], "write `--for=30m`, or `--no-end`"),
        (&["drain", "--reason= ", "--no-end"], "`--reason` needs a reason"),
        (&["drain", "--no-end"], "--reason"),
        (&["drain", "--reason=x", "--for=30"], "a duration needs a unit"),
        (&["drain", "--reason=x", "--for=500000000000h"], "`--for` is at most a year"),
        (&["drain", &format!("--reason={}", "x".repeat(501)), "--no-end"], "are at most 500 bytes"),
        (&["drain", "--reason=x", "--no-end", "--only=mysqld"], "must be one of mysqlchk-status"),
        (&["drain", "--reason=x", "--no-end", "--wait=500000000000h"], "`--wait` is at most a year"),
        (&["drain", "--reason=x", "--no-end", "--settle=500000000000h"], "`--settle` is at most a year"),
        (&["drain", "--reason=x", "--no-end", "--owner= "], "`--owner` needs a name"),
        (&["drain", "--reason=a\u{1b}[2J", "--no-end"], "without control characters"),
        (&["drain", "--reason=x", "--no-end", "--maintenance-file=none"], "name the file that the checks read"),
    ] {
        let refused = notes.ctl(words);
        let error = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(
            refused.status.code() == Some(2) && error.contains(why) && !notes.path().exists(),
            "{words:?}: {error}"
        );
    }
}

#[test]
fn a_person_is_rid_of_any_note() {
    let notes = Notes::new();
    for (text, shown) in [
        ("", "maintenance: down: maintenance\n".to_owned()),
        (
            "mode=drain\n",
            format!(
                "all programs: down: cannot use maintenance note {0}: {0}:1: an option before the first [group]\n",
                notes.path().display()
            ),
        ),
    ] {
        notes.write(text);
        let status = notes.ctl(&["status"]);
        assert_eq!((String::from_utf8(status.stdout).unwrap(), status.status.code()), (shown, Some(1)));
        // A hook leaves alone what it did not write.
        for words in [&["up", "--owner=hook"][..], &["drain", "--owner=hook", "--reason=x", "--no-end"]] {
            let refused = notes.ctl(words);
            assert_eq!(refused.status.code(), Some(if text.is_empty() { 0 } else { 2 }), "{words:?}: {refused:?}");
            assert!(ask(&notes, "mysqlchk-status", &[]).reply().body().starts_with("down: "), "{words:?}");
        }
        assert_eq!(notes.ctl_ok(&["up"]), "maintenance: the note is gone\n", "{text:?}");
        assert!(!notes.path().exists());
    }
}

#[test]
fn a_hook_does_not_touch_what_a_person_wrote() {
    let notes = Notes::new();
    let hook = ["--owner=mariadb.service"];
    let drain = ["drain", "--reason=restart", "--for=5m"];
    assert!(notes.ctl(&["drain", "--reason=by hand", "--no-end"]).status.success());
    assert!(notes.ctl(&[&drain[..], &hook].concat()).status.success());
    assert_verdict("the person's", &ask(&notes, "mysqlchk-status", &[]), "drain: by hand (alice)");
    assert!(notes.ctl(&[&["up"][..], &hook].concat()).status.success());
    assert_verdict("still the person's", &ask(&notes, "mysqlchk-status", &[]), "drain: by hand (alice)");
    assert!(notes.ctl(&["up"]).status.success());
    assert!(notes.ctl(&[&drain[..], &hook].concat()).status.success());
    assert!(ask(&notes, "mysqlchk-status", &[]).reply().body().ends_with("Z (mariadb.service)\n"));
    assert!(notes.ctl(&[&["up"][..], &hook].concat()).status.success());
    assert_verdict("gone", &ask(&notes, "mysqlchk-status", &[]), NO_SERVER);
}

/// It writes another note again and again, and is killed at any moment.
#[test]
fn a_writer_that_is_killed_leaves_a_whole_note() {
    let notes = Notes::new();
    assert!(notes.ctl(&["drain", "--reason=0", "--no-end", "--force"]).status.success());
    // How long a run takes that is not killed.
    let begin = Instant::now();
    assert!(notes.ctl(&["drain", "--reason=0", "--no-end", "--force"]).status.success());
    let length = begin.elapsed();
    let mut kept = 0;
    for round in 1..=100_u32 {
        let mut child = notes.command(&["drain", &format!("--reason={round}"), "--no-end", "--force"]);
        let mut child = child.stdout(Stdio::null()).spawn().unwrap();
        wait::dawdle(length * (round % 50) / 20);
        let _ = kill_process(Pid::from_child(&child), Signal::KILL);
        child.wait().unwrap();
        let body = ask(&notes, "mysqlchk-status", &[]).reply().body();
        let reason = body.strip_prefix("drain: ").and_then(|rest| rest.strip_suffix(" (alice)\n"));
        let reason: u32 = reason.and_then(|reason| reason.parse().ok()).unwrap_or_else(|| panic!("{round}: {body}"));
        assert!(reason <= round, "{round}: {body}");
        kept += u32::from(reason != round);
    }
    assert!(kept > 0 && kept < 100, "{kept} of 100 writers were killed before they had written");
}

/// A file cannot grow, as on a disk that is full.
#[test]
fn a_note_that_cannot_be_written_leaves_the_old_one() {
    let notes = Notes::new();
    notes.ctl_ok(&["drain", "--reason=old", "--no-end"]);
    let ctl = notes.command(&["drain", "--reason=new", "--no-end"]);
    let mut full = Command::new("/bin/sh");
    full.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$@\"", "sh"]).arg(ctl.get_program()).args(ctl.get_args());
    full.stdin(Stdio::null());
    user::drop_to_unprivileged(&mut full);
    let refused = full.output().unwrap();
    let error = String::from_utf8(refused.stderr).unwrap();
    let expected = format!("mysqlchk-ctl: cannot write {}: File too large", notes.path().display());
    assert!(refused.status.code() == Some(2) && error.contains(&expected), "{error}");
    assert_verdict("the old one", &ask(&notes, "mysqlchk-status", &[]), "drain: old (alice)");
    notes.ctl_ok(&["drain", "--reason=new", "--no-end"]);
    assert_verdict("the next one", &ask(&notes, "mysqlchk-status", &[]), "drain: new (alice)");
    // The note and its lock.
    assert_eq!(fs::read_dir(notes.directory()).unwrap().count(), 2);
}

#[test]
fn notes_for_a_program_or_an_instance_stand_side_by_side() {
    let notes = Notes::new();
    let drain = |more: &[&str]| notes.ctl_ok(&[&["drain", "--reason=x", "--no-end", "--owner=me"][..], more].concat());
    drain(&["--instance=3307"]);
    drain(&["--instance=3308"]);
    drain(&["--only=galera-chk"]);
    let port = |port: &str| ask(&notes, "mysqlchk-status", &["--host=127.0.0.1", &format!("--port={port}")]);
    for number in ["3307", "3308"] {
        assert_verdict(number, &port(number), "drain: x (me)");
    }
    assert_verdict("galera-chk", &ask(&notes, "galera-chk", &[]), "drain: x (me)");
    assert_verdict("another program", &ask(&notes, "mysqlchk-status", &[]), NO_SERVER);
    let shown = String::from_utf8(notes.ctl(&["status"]).stdout).unwrap();
    let lines: Vec<&str> = shown.lines().map(|line| line.split(", for ").next().unwrap()).collect();
    assert_eq!(
        lines,
        [
            "maintenance, instance 3307: drain: x (me)",
            "maintenance, instance 3308: drain: x (me)",
            "galera-chk: drain: x (me)"
        ]
    );
    notes.ctl_ok(&["up", "--instance=3307"]);
    assert_verdict("3308", &port("3308"), "drain: x (me)");
    assert_eq!(notes.ctl_ok(&["up"]), "maintenance, instance 3308: the note is gone\ngalera-chk: the note is gone\n");
    assert!(!notes.path().exists());
}

#[test]
fn what_a_note_replaces_is_shown() {
    let notes = Notes::new();
    notes.ctl_ok(&["down", "--reason=disk", "--no-end", "--owner=bob"]);
    let shown = "maintenance: replaces: down: disk (bob)\nmaintenance: drain: upgrade (alice)\n";
    assert_eq!(notes.ctl_ok(&["drain", "--reason=upgrade", "--no-end"]), shown);
    assert_eq!(notes.ctl_ok(&["drain", "--reason=mine", "--no-end"]), "maintenance: drain: mine (alice)\n");
}

/// Another user can lock the directory, which everybody may read, and not the lock.
#[test]
fn nobody_who_only_looks_holds_up_a_change() {
    let notes = Notes::new();
    notes.ctl_ok(&["drain", "--reason=x", "--no-end"]);
    let directory = fs::File::open(notes.directory()).unwrap();
    rustix::fs::flock(&directory, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert_eq!(notes.ctl_ok(&["up"]), "maintenance: the note is gone\n");
    let lock = notes.directory().join(format!("{}.lock", notes.path().file_name().unwrap().to_str().unwrap()));
    assert_eq!(fs::metadata(&lock).unwrap().permissions().mode() & 0o777, 0o600);
    let held = fs::File::open(&lock).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let refused = notes.ctl(&["drain", "--reason=y", "--no-end"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("another program holds "), "{error}");
    assert!(!notes.path().exists());
}

#[test]
fn a_note_that_the_checks_would_not_trust_is_not_written() {
    let notes = Notes::new();
    fs::set_permissions(notes.directory(), Permissions::from_mode(0o777)).unwrap();
    let refused = notes.ctl(&["drain", "--reason=x", "--no-end"]);
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.status.code() == Some(2) && error.contains("others may write it (mode 0777)"), "{error}");
    assert_eq!(fs::read_dir(notes.directory()).unwrap().count(), 0);
}

#[test]
fn the_end_of_a_note_comes_by_itself() {
    let notes = Notes::new();
    notes.ctl_ok(&["drain", "--reason=x", "--for=1500ms"]);
    assert!(ask(&notes, "mysqlchk-status", &[]).reply().body().starts_with("drain: x, until "));
    wait::until("the end", BOUND, || ask(&notes, "mysqlchk-status", &[]).reply().body() == format!("{NO_SERVER}\n"));
    let shown = notes.ctl(&["status"]);
    assert!(String::from_utf8_lossy(&shown.stdout).contains(" [its end has passed]"), "{shown:?}");
    assert_eq!(shown.status.code(), Some(0));
    // A hook that comes later writes its own.
    notes.ctl_ok(&["drain", "--reason=y", "--no-end", "--owner=hook"]);
    assert_verdict("the hook's", &ask(&notes, "mysqlchk-status", &[]), "drain: y (hook)");
}

#[test]
fn sessions_are_waited_for() {
    let notes = Notes::new();
    let listener = std::net::TcpListener::bind((address::fresh(), 0)).unwrap();
    let there = listener.local_addr().unwrap();
    let _client = std::net::TcpStream::connect(there).unwrap();
    let session = listener.accept().unwrap();
    let port = format!("--port={}", there.port());
    let words = ["drain", "--reason=x", "--no-end", &port];
    let waited = notes.ctl(&[&words[..], &["--wait=300ms"]].concat());
    assert_eq!(waited.status.code(), Some(1), "{waited:?}");
    assert!(String::from_utf8_lossy(&waited.stdout).contains("1 session is still on port"), "{waited:?}");
    let waiting = notes.command(&[&words[..], &["--wait=60s"]].concat()).stdout(Stdio::piped()).spawn().unwrap();
    drop((session, _client));
    let (output, _) = machine::beside_sleeps(Duration::ZERO, 1, || waiting.wait_with_output().unwrap());
    assert!(output.status.success(), "{output:?}");
    let begin = Instant::now();
    assert!(notes.ctl(&[&words[..], &["--settle=400ms"]].concat()).status.success());
    assert!(begin.elapsed() >= Duration::from_millis(400) && begin.elapsed() < BOUND);
}

/// The same text whatever the time is.
fn timeless(text: &str) -> String {
    let mut words: Vec<String> = text.split(' ').map(str::to_owned).collect();
    for word in &mut words {
        if word.len() == 6 && word.ends_with('Z') {
            *word = "TIME".into();
        }
    }
    words.join(" ")
}

#[test]
fn the_commands_of_the_documents_say_what_stands_there() {
    let mut typed = 0;
    for document in ["README.md", "docs/maintenance.md", "man/mysqlchk-ctl.8"] {
        let text = fs::read_to_string(shipped::file(document)).unwrap();
        let notes = Notes::new();
        let lines: Vec<&str> = text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(command) = line.strip_prefix("# mysqlchk-ctl ") else { continue };
            let shown = lines[at + 1..].iter().take_while(|line| !line.starts_with(['#', '`', '.']));
            let shown: String = shown.map(|line| format!("{line}\n")).collect();
            // A port where nobody is.
            let more = ["--port=1".to_owned(), "--settle=0s".to_owned()];
            let (mut words, takes_out) = (words(command), command.starts_with('d'));
            words.retain(|word| !word.starts_with("--settle"));
            words.extend(more.into_iter().filter(|_| takes_out));
            let said = notes.ctl_ok(&words.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(timeless(&said).replace("port 1", "port 3306"), timeless(&shown), "{document}: {command}");
            typed += 1;
        }
    }
    assert!(typed >= 7, "{typed}");
}
