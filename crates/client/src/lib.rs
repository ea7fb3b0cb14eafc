//! Asks a server: option files, the options every program has, one session of the driver, and errors in our words.
//!
//! It knows no HTTP, no xinetd, no deadline of the process and no particular check. A program that has a deadline passes
//! a [`Watch`] and learns from it what is being done.

pub mod command_line;
pub mod consistency;
pub mod duration;
mod endpoint;
pub mod error;
mod family;
pub mod group;
pub mod option_file;
pub mod options;
mod rows;
mod session;
pub mod tls;
pub mod trusted;
mod variable;
mod watch;

pub use endpoint::{Account, Endpoint, Target};
pub use error::Error;
pub use family::Family;
pub use options::number;
pub use rows::{Row, Rows};
pub use session::{Answers, Limits, Session, VIA_EXTRA_PORT};
pub use variable::{NULL, Variable, or_null};
pub use watch::{Stage, Watch};
