//! What comes from outside, and what must hold whatever it is. Each module is a target: `run` takes any bytes, and panics
//! when something does not hold. libFuzzer runs them (`make fuzz`), and `tests/tests/fuzz.rs` replays what it found.

use std::hash::{DefaultHasher, Hash, Hasher};

pub mod lag;
pub mod option_file;
pub mod record;
pub mod request;
pub mod server;

/// What is fed with an input.
pub type Run = fn(&[u8]);

/// The targets by name: that of the binary, of its seeds and of its corpus.
pub const TARGETS: [(&str, Run); 5] = [
    ("request", request::run),
    ("option_file", option_file::run),
    ("server", server::run),
    ("record", record::run),
    ("lag", lag::run),
];

/// A number that follows from the input, as if it had been drawn.
fn dice(input: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    usize::try_from(hasher.finish() >> 1).unwrap_or_default()
}

/// Whether the input takes the slow way too, which one in `many` does under libFuzzer, and each in a replay.
#[allow(unexpected_cfgs, reason = "cargo-fuzz sets it")]
fn is_one_in(many: usize, input: &[u8]) -> bool {
    !cfg!(fuzzing) || dice(input).is_multiple_of(many)
}
