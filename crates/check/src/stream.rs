//! Talking to the client: one request from stdin, one answer to stdout, and an end that is not a reset.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::{Errno, read, write};
use watchdog::alarm;

use crate::render::{Form, Format};
use crate::request::{self, REQUEST_MAX, Request, is_whole};

/// The form that this run answers in.
#[must_use]
pub fn form(format: Format) -> Form {
    match format {
        Format::Auto if is_terminal() => Form::Text,
        Format::Auto | Format::Http => Form::Http,
        Format::Text => Form::Text,
        Format::Json => Form::Json,
    }
}

/// Whether stdout is a terminal; looked at once, since it is wanted before and after the options are read.
fn is_terminal() -> bool {
    static IS_TERMINAL: OnceLock<bool> = OnceLock::new();
    *IS_TERMINAL.get_or_init(|| rustix::termios::isatty(rustix::stdio::stdout()))
}

/// Reads stdin up to the blank line that ends a request, [`REQUEST_MAX`] bytes or `patience`, whichever comes first.
#[must_use]
pub fn receive(patience: Duration) -> Request {
    let end = Instant::now() + patience;
    let mut buffer = vec![0; REQUEST_MAX];
    let mut filled = 0;
    while let Some(space) = buffer.get_mut(filled..).filter(|space| !space.is_empty()) {
        match read_until(end, space) {
            Some(count) => filled += count,
            None => break,
        }
        if buffer.get(..filled).is_some_and(is_whole) {
            break;
        }
    }
    buffer.truncate(filled);
    request::parse(&buffer)
}

/// Reads what is there; `None` at the end of the stream, on an error and when nothing has come by `end`.
fn read_until(end: Instant, buffer: &mut [u8]) -> Option<usize> {
    let stdin = rustix::stdio::stdin();
    loop {
        let left = Timespec::try_from(end.checked_duration_since(Instant::now())?).ok()?;
        match poll(&mut [PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN)], Some(&left)) {
            Ok(0) => return None,
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(_) => return None,
        }
        return match read(stdin, &mut *buffer) {
            Ok(0) => None,
            Ok(count) => Some(count),
            Err(Errno::INTR | Errno::AGAIN) => continue,
            Err(_) => None,
        };
    }
}

/// Writes `bytes` to stdout in one write, unless the timer answered before; returns whether the bytes are out.
///
/// A client that went away is not an error: the check was made.
#[must_use]
pub fn answer(bytes: &str, status: u8) -> bool {
    if !alarm::claim(status) {
        return false;
    }
    let mut rest = bytes.as_bytes();
    while !rest.is_empty() {
        match write(rustix::stdio::stdout(), rest) {
            Ok(count) => rest = rest.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(_) => break,
        }
    }
    alarm::answered();
    true
}

/// Leaves the client in order: nothing unread that would turn our close into a reset. `closing` runs when the client has
/// its answer and need not wait any more; the rest ends when the client closes or `patience` is over.
// Its buffer is not to be on the stack of its caller, which has to get as far as the deadline with little of it.
#[inline(never)]
pub fn leave(closing: impl FnOnce(), patience: impl FnOnce() -> Option<Duration>) {
    let is_socket = rustix::net::shutdown(rustix::stdio::stdout(), rustix::net::Shutdown::Write).is_ok();
    closing();
    if is_socket && let Some(patience) = patience() {
        let end = Instant::now() + patience;
        let mut buffer = [0; 4096];
        while read_until(end, &mut buffer).is_some() {}
    }
}

/// Prints help and the like for a person. Not to a socket: the client of a service expects a response, so that is refused.
#[must_use]
pub fn print_for_a_person(text: &str) -> bool {
    let is_socket = rustix::fs::fstat(rustix::stdio::stdout())
        .is_ok_and(|about| rustix::fs::FileType::from_raw_mode(about.st_mode) == rustix::fs::FileType::Socket);
    !is_socket && answer(text, 0)
}
