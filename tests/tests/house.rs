//! The rules of the house: `tests/house` passes as things are, and finds each breach in a copy of the sources.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use lab::scratch::Scratch;
use lab::shipped;

/// A copy of what `tests/house` reads.
struct Copy(Scratch);

impl Copy {
    fn new() -> Self {
        let scratch = Scratch::new("house");
        fs::create_dir(scratch.join("tests")).unwrap();
        for name in ["crates", "tests/house", "Cargo.toml", "Cargo.lock"] {
            let to = scratch.join(name);
            let copied = Command::new("cp").arg("-r").args([&shipped::file(name), &to]).status().unwrap();
            assert!(copied.success(), "cannot copy {name}");
        }
        Self(scratch)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Replaces `old` wherever it stands in a file, which it must.
    #[track_caller]
    fn replace(&self, name: &str, old: &str, new: &str) {
        let text = fs::read_to_string(self.path(name)).unwrap();
        assert!(text.contains(old), "{name} does not contain {old:?}");
        fs::write(self.path(name), text.replace(old, new)).unwrap();
    }

    /// What `tests/house` prints, and whether it passes.
    fn judge(&self) -> (String, bool) {
        let output = Command::new(self.path("tests/house")).output().unwrap();
        (String::from_utf8(output.stdout).unwrap(), output.status.success())
    }
}

#[test]
fn the_sources_break_no_rule() {
    assert_eq!(Copy::new().judge(), (String::new(), true));
}

/// Each change is one that a person could make, or that cargo makes when a version moves.
#[test]
fn each_breach_is_found() {
    let registry = "source = \"registry+elsewhere\"\n";
    let from_registry = |name: &str| {
        let entry = format!("name = \"{name}\"\nversion = \"1.99.0\"\n");
        (entry.clone(), format!("{entry}{registry}"))
    };
    let (regex, real_regex) = from_registry("regex");
    let (roots, real_roots) = from_registry("webpki-roots");
    // The driver asks for another major version: ours stays in the list for `crates/check`, the real one comes to it.
    let second_roots = format!("[[package]]\nname = \"webpki-roots\"\nversion = \"2.0.0\"\n{registry}\n");
    let unused = "[[patch.unused]]\nname = \"webpki-roots\"\nversion = \"1.99.0\"\n";
    let lints = "crates/watchdog/Cargo.toml: other lints than in Cargo.toml\n";
    let (gauges, agent) = ("crates/galera-chk/src/gauges.rs", "crates/check/src/render/agent.rs");
    let (lib, error) = ("crates/check/src/lib.rs", "crates/client/src/error.rs");
    for (file, old, new, breach) in [
        ("Cargo.lock", &*regex, &*real_regex, "Cargo.lock: \"regex\" is not the one of patches/\n"),
        ("Cargo.lock", &*roots, &*real_roots, "Cargo.lock: \"webpki-roots\" is not the one of patches/\n"),
        (
            "Cargo.lock",
            "[[package]]\nname = \"anyhow\"\n",
            &*format!("{second_roots}[[package]]\nname = \"anyhow\"\n"),
            "Cargo.lock: \"webpki-roots\" is not the one of patches/\n",
        ),
        (
            "Cargo.lock",
            "[[package]]\nname = \"anyhow\"\n",
            &*format!("{unused}\n[[package]]\nname = \"anyhow\"\n"),
            "Cargo.lock: a patch is not used\n",
        ),
        ("crates/watchdog/Cargo.toml", "print_stdout = \"deny\"\n", "", lints),
        ("crates/watchdog/Cargo.toml", "todo = \"deny\"\n", "todo = \"warn\"\n", lints),
        ("Cargo.toml", "exit = \"deny\"\n", "exit = \"deny\"\nmem_forget = \"deny\"\n", lints),
        (lib, "use std::ffi::OsString;\n", "use std::ffi::OsString;\nuse std::env::args_os;\n", "lib.rs:"),
        (error, "use std::fmt;\n", "use std::fmt;\nuse mysql::Conn;\n", error),
        (gauges, "use crate::options::Options;\n", "use crate::options::Options;\nuse std::time::Instant;\n", gauges),
        (agent, "up 0% #", "up 0%\\r\\n#", agent),
        (agent, "\"drain\" =>", "\"wsrep\" =>", agent),
        ("crates/check/Cargo.toml", "clap.workspace = true\n", "mysql.workspace = true\n", "crates/check/Cargo.toml"),
    ] {
        let copy = Copy::new();
        copy.replace(file, old, new);
        let (printed, passes) = copy.judge();
        assert!(!passes && printed.contains(breach), "{file} with {new:?}: {printed:?}");
    }
}
