//! Talking to the client: one request from stdin, one answer to stdout, and an end that is not a reset.

use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::io::{Errno, read};
use watchdog::alarm;
use watchdog::output::Output;

use crate::render::{Form, Format};
use crate::request::{self, REQUEST_MAX, Request, is_whole};
use crate::verdict::{Verdict, misconfigured};

/// The form that this run answers in, `into_a_file` or to stdout.
#[must_use]
pub fn form(format: Format, into_a_file: bool) -> Form {
    match format {
        Format::Auto if into_a_file || is_terminal() => Form::Text,
        Format::Auto | Format::Http => Form::Http,
        Format::Text => Form::Text,
        Format::Json => Form::Json,
        Format::Nagios => Form::Nagios,
        Format::Prometheus if !into_a_file && is_socket(rustix::stdio::stdout()) => Form::Scrape,
        Format::Prometheus => Form::Prometheus,
        Format::Agent => Form::Agent,
    }
}

/// Whether stdout is a terminal; looked at once, since it is wanted before and after the options are read.
fn is_terminal() -> bool {
    static IS_TERMINAL: OnceLock<bool> = OnceLock::new();
    *IS_TERMINAL.get_or_init(|| rustix::termios::isatty(rustix::stdio::stdout()))
}

fn is_socket(descriptor: BorrowedFd<'_>) -> bool {
    rustix::fs::fstat(descriptor)
        .is_ok_and(|about| rustix::fs::FileType::from_raw_mode(about.st_mode) == rustix::fs::FileType::Socket)
}

/// From now on the answer goes into `file`, where there is one. The first file that is named stays.
///
/// # Errors
/// A path that cannot be that of a file. A client that waits: it would get nothing.
pub fn answer_into(file: Option<&Path>, program: &str) -> Result<(), Verdict> {
    let Some(file) = file else { return Ok(()) };
    if is_socket(rustix::stdio::stdin()) {
        return Err(misconfigured("`--output` cannot be used in a service"));
    }
    let output = Output::new(file, program);
    alarm::answer_into(output.ok_or_else(|| misconfigured("`--output` needs the path of a file"))?);
    Ok(())
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

/// Writes `bytes` to stdout in one write, or puts them into the file of [`answer_into`], unless the timer answered before;
/// returns whether the bytes are out.
///
/// A client that went away is not an error: the check was made.
#[must_use]
pub fn answer(bytes: &str, status: u8) -> bool {
    if !alarm::claim(status) {
        return false;
    }
    alarm::deliver(bytes.as_bytes());
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
    if is_socket(rustix::stdio::stdout()) || !alarm::claim(0) {
        return false;
    }
    alarm::print(text.as_bytes());
    alarm::answered();
    true
}
