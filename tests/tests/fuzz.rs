//! What must hold whatever comes from outside, on all that the fuzz targets were given and all that `make fuzz` found: a
//! seed or an input of the corpus that breaks it says so here, without nightly.

use std::fs;
use std::panic;
use std::path::Path;
use std::process::Command;

#[path = "../../fuzz/src/lib.rs"]
#[allow(unreachable_pub, reason = "a crate of its own in fuzz/")]
mod targets;

#[test]
fn requests() {
    replay("request", 250);
}

#[test]
fn option_files() {
    replay("option_file", 1000);
}

#[test]
fn servers() {
    replay("server", 400);
}

#[test]
fn records() {
    replay("record", 150);
}

#[test]
fn lags() {
    replay("lag", 600);
}

/// Each input by its name, so that a failure says which one it was. Fewer than `least` are a corpus that was not packed.
fn replay(name: &str, least: usize) {
    let (_, run) = targets::TARGETS.into_iter().find(|(target, _)| *target == name).unwrap();
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    let corpus = tempfile::tempdir().unwrap();
    let packed = fuzz.join("corpus").join(format!("{name}.tar.gz"));
    let unpacked = Command::new("tar").arg("-xzf").arg(packed).arg("-C").arg(corpus.path()).status();
    assert!(unpacked.unwrap().success());

    let inputs = |directory: &Path| fs::read_dir(directory).unwrap().map(|input| input.unwrap().path());
    let inputs: Vec<_> = inputs(&fuzz.join("seeds").join(name)).chain(inputs(corpus.path())).collect();
    assert!(inputs.len() >= least, "{} inputs of {least}", inputs.len());
    for input in inputs {
        let bytes = fs::read(&input).unwrap();
        assert!(panic::catch_unwind(|| run(&bytes)).is_ok(), "{}", input.display());
    }
}

#[test]
fn the_driver_that_is_fuzzed_is_the_one_that_is_shipped() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let [shipped, fuzzed] = ["Cargo.lock", "fuzz/Cargo.lock"].map(|lock| packages(&root.join(lock)));
    for package @ (name, _) in &shipped {
        let known: Vec<_> = fuzzed.iter().filter(|(known, _)| known == name).collect();
        assert!(known.is_empty() || known.contains(&package), "{package:?} is shipped, {known:?} are fuzzed");
    }
    assert!(fuzzed.iter().any(|(name, _)| name == "mysql_common"));
}

/// Name and version of each.
fn packages(lock: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(lock).unwrap();
    let value = |line: Option<&str>| line.unwrap().split('"').nth(1).unwrap().to_owned();
    let package = |block: &str| (value(block.lines().nth(1)), value(block.lines().nth(2)));
    text.split("\n\n").filter(|block| block.trim_start().starts_with("[[package]]")).map(package).collect()
}
