//! What comes from outside, and what must hold whatever it is. Each module is a target: `run` takes any bytes, and panics
//! when something does not hold. libFuzzer runs them (`make fuzz`), and `tests/tests/fuzz.rs` replays what it found.

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
