//! What a program with a deadline has to know while the client works.

use std::any::Any;

/// What a session does, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Looking up the address of a host name.
    Resolve,
    /// Connecting and logging in, which the driver does in one call.
    Connect,
    /// Running a query.
    Query,
}

/// Is called while the client works. `()` is a program without a deadline.
pub trait Watch {
    /// A stage begins.
    fn begin(&self, _stage: Stage) {}

    /// The next call may sleep in a way that only SIGKILL ends, such as opening a file on a network file system that hangs.
    /// What is returned is kept until no such call follows.
    fn may_hang(&self) -> Option<Box<dyn Any>> {
        None
    }
}

impl Watch for () {}
