//! `make order`: writes `crates/watchdog/start.ld`, the list of the functions that a check runs. The linker puts them next to
//! each other.
//!
//! A process that lives for a millisecond pays for each part of its file that it touches: the kernel maps 16 pages at the
//! first touch of one. Spread over the whole file, the code of a check is in 32 such windows; side by side it is in 9.
//!
//! The programs come from `MYSQLCHK_BIN` and have their symbols. Names are written without what changes with the compiler and
//! the versions of crates; a name that matches nothing does no harm, and a function that is not listed is only not moved.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::process::Command;

use lab::daemon::program;
use lab::program::{Check, binary};
use lab::scratch::Scratch;
use lab::server::{PASSWORD, Server};
use lab::shipped;

const FILE: &str = "crates/watchdog/start.ld";

fn main() {
    let (source, server) = (Server::start(), Server::start());
    // A replica, so that there is a row to read.
    let _link = server.follow(&source);
    let scratch = Scratch::new("order");
    let (socket, tcp) = (server.socket(), server.address());
    let option_file = |name: &str, endpoint: String| {
        let text = format!("[client]\n{endpoint}\nuser=mysqlchk_tcp\npassword={PASSWORD}\n");
        format!("--defaults-file={}", scratch.file(name, text).display())
    };
    let local = option_file("socket.cnf", format!("socket={}", socket.display()));
    let remote = option_file("tcp.cnf", format!("host={}\nport={}", tcp.ip(), tcp.port()));
    let shared = scratch.dir("share");
    let share = format!("--share-dir={}", shared.display());
    let closed = option_file("closed.cnf", "socket=/nowhere".to_owned());
    let situations = [
        vec![&*local],
        vec![&*remote],
        vec![&*local, "--share=10s", &*share],
        vec![&*closed],
        vec![&*local, "--reason-phrase"],
    ];

    let mut functions = BTreeSet::new();
    for name in shipped::programs() {
        for arguments in &situations {
            functions.extend(executed(&scratch, name, arguments));
        }
    }
    let text = script(&functions);
    fs::write(shipped::file(FILE), &text).unwrap();
    println!("{FILE}: {} functions", functions.len());
}

/// The symbols of the functions that a check runs, as callgrind names them.
fn executed(scratch: &Scratch, name: &str, arguments: &[&str]) -> Vec<String> {
    let output = scratch.join("callgrind.out");
    let _ = fs::remove_file(&output);
    let outcome = Check::program(&program("valgrind"))
        .args(["--tool=callgrind", "--demangle=no"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(binary(name))
        .args(arguments)
        .arg("--timeout=60s")
        .run();
    assert_eq!(outcome.stdout.matches("HTTP/1.1 ").count(), 1, "{outcome:?}");
    let profile = fs::read_to_string(&output).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    // `fn=(12) name'2`: a number, the name where it stands for the first time, the depth of a recursion.
    let lines = profile.lines().filter_map(|line| line.strip_prefix("fn=").or(line.strip_prefix("cfn=")));
    let names = lines.filter_map(|line| Some(line.split_once(") ")?.1.split('\'').next()?.to_owned()));
    names.filter(|name| !name.starts_with("0x")).collect()
}

/// The linker script: the functions of Rust by name, those of the C library by the members of its archive.
fn script(functions: &BTreeSet<String>) -> String {
    let members = members_of_libc();
    let is_rust = |name: &&String| name.starts_with("_ZN") || name.starts_with("_R") || *name == "main";
    let mut text = String::from(
        "/* The code that a check runs, side by side: see tests/src/bin/order.rs. Written by `make order`. */\n\
         SECTIONS\n{\n  .text.start :\n  {\n",
    );
    let rust: BTreeSet<String> = functions.iter().filter(is_rust).map(|name| pattern(name)).collect();
    for name in rust {
        // Functions that the compiler takes for cold have a prefix of their own.
        writeln!(text, "    *(.text.{name} .text.unlikely.{name})").unwrap();
    }
    let libc: BTreeSet<&String> = functions.iter().filter_map(|name| members.get(name)).collect();
    for member in libc {
        writeln!(text, "    *libc.a:{member}(.text .text.*)").unwrap();
    }
    text + "  }\n}\nINSERT BEFORE .text;\n"
}

/// A symbol without the hashes in it, as a pattern.
fn pattern(symbol: &str) -> String {
    // `_ZN...17h0123456789abcdefE`.
    let symbol = match symbol.rfind("17h") {
        Some(at) if symbol.starts_with("_ZN") && symbol.ends_with('E') && symbol.len() == at + 20 => {
            format!("{}*", &symbol[..at + 3])
        }
        _ => symbol.to_owned(),
    };
    // `_RNvCs0123456789a_5crate4name`: the name of a crate follows its hash.
    let mut parts = symbol.split("Cs");
    let mut pattern = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let rest = part.split_once('_').filter(|(hash, _)| hash.bytes().all(|byte| byte.is_ascii_alphanumeric()));
        match rest.filter(|_| symbol.starts_with("_R")) {
            Some((_, rest)) => pattern.extend(["Cs*_", rest]),
            None => pattern.extend(["Cs", part]),
        }
    }
    pattern.replace('$', "?")
}

/// The member of the static C library that defines a function.
fn members_of_libc() -> BTreeMap<String, String> {
    let run = |command: &mut Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
    let libc = run(Command::new("cc").arg("-print-file-name=libc.a"));
    let symbols = run(Command::new("nm").args(["-A", "--defined-only", libc.trim()]));
    let line = |line: &str| {
        // `/usr/lib/libc.a:malloc.o:0000000000000000 T malloc`.
        let mut fields = line.split_whitespace();
        let (place, kind, name) = (fields.next()?, fields.next()?, fields.next()?);
        let member = place.split(':').nth(1)?;
        ["T", "t", "i", "W"].contains(&kind).then(|| (name.to_owned(), member.to_owned()))
    };
    symbols.lines().filter_map(line).collect()
}
