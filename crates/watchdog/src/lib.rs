//! The start and the end of a process that lives for a millisecond.
//!
//! The only crate of this project with `unsafe`. Two things are here because std does them at a price that a one-shot
//! process feels (measured on a check of 1.0 ms, static build, `MariaDB` 10.11 on the socket):
//!
//! - [`entry!`]: the start of a Rust program reads `/proc/self/maps` to guard its stack, and installs handlers to report
//!   an overflow: 13 system calls and a tenth of all instructions of a check.
//! - [`alarm`]: a deadline that holds while the program hangs in a call that nothing else can end. A thread costs 0.10 ms
//!   of wall time and 0.15 ms of CPU; a timer signal costs three system calls.

pub mod alarm;
pub mod clock;
pub mod output;

use std::ffi::{CStr, OsStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;

/// The entry point of a program: calls a function that takes the arguments and returns the exit status. The program's
/// first line is `#![cfg_attr(not(test), no_main)]`.
///
/// What std's own start-up does and a check needs is done here: descriptors 0 to 2 are open, so that no connection
/// becomes one of them, and SIGPIPE is ignored, so that a client that went away is an error code and not the end.
/// And stderr is silenced where it is a socket.
#[macro_export]
macro_rules! entry {
    ($run:expr) => {
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn main(count: std::ffi::c_int, arguments: *const *const std::ffi::c_char) -> std::ffi::c_int {
            $crate::prepare();
            let run: fn(&[std::ffi::OsString]) -> u8 = $run;
            // SAFETY: the C library calls this function once, with what it must give to `main`.
            std::ffi::c_int::from(run(&unsafe { $crate::arguments(count, arguments) }))
        }
        // A test program has a start of its own; this only keeps the compiler from calling the rest unused.
        #[cfg(test)]
        const _: fn(&[std::ffi::OsString]) -> u8 = $run;
    };
}

/// The arguments of `main`, the name of the program first; not for others than [`entry!`].
///
/// Not those that std knows: only glibc hands the arguments to std without std's own start, and on another C
/// library the whole command line would be gone without a word.
///
/// # Safety
/// `arguments` points to `count` C strings that stay as they are.
#[doc(hidden)]
#[must_use]
#[expect(unsafe_code, reason = "what main is given are C strings")]
pub unsafe fn arguments(count: c_int, arguments: *const *const c_char) -> Vec<OsString> {
    let at = |index| {
        // SAFETY: below `count`, so this is one of the strings that the caller promises.
        let text = unsafe { CStr::from_ptr(*arguments.add(index)) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    (0..usize::try_from(count).unwrap_or(0)).map(at).collect()
}

/// What [`entry!`] does before the program; not for others.
#[doc(hidden)]
pub fn prepare() {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use rustix::stdio::{stderr, stdin, stdout};

    let mut standard = [stdin(), stdout(), stderr()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::empty()));
    let closed = match poll(&mut standard, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => standard.iter().any(|fd| fd.revents().contains(PollFlags::NVAL)),
        Err(_) => true,
    };
    if closed {
        open_standard_descriptors();
    }
    silence_a_socket();
    alarm::ignore_broken_pipes();
}

/// Under xinetd stderr is the client's connection, and std writes there when it aborts the process.
fn silence_a_socket() {
    use rustix::fs::{FileType, Mode, OFlags, fstat, open};

    let is_socket =
        fstat(rustix::stdio::stderr()).is_ok_and(|about| FileType::from_raw_mode(about.st_mode) == FileType::Socket);
    if is_socket && let Ok(null) = open("/dev/null", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        let _ = rustix::stdio::dup2_stderr(null);
    }
}

/// Opens `/dev/null` until the lowest free descriptor is above 2.
fn open_standard_descriptors() {
    use rustix::fd::{AsRawFd, IntoRawFd};
    use rustix::fs::{Mode, OFlags, open};

    while let Ok(fd) = open("/dev/null", OFlags::RDWR, Mode::empty()) {
        if fd.as_raw_fd() > 2 {
            break;
        }
        let _ = fd.into_raw_fd();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ptr;

    #[test]
    #[expect(unsafe_code, reason = "it is what is tested")]
    fn the_arguments_are_those_that_main_is_given() {
        let given = [c"program", c"--option=value", c"", c"\xff"];
        let pointers: Vec<*const c_char> = given.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect();
        // SAFETY: four strings that live until the end of the test.
        let taken = unsafe { arguments(4, pointers.as_ptr()) };
        let wanted: [&[u8]; 4] = [b"program", b"--option=value", b"", b"\xff"];
        assert_eq!(taken.iter().map(|argument| argument.as_bytes()).collect::<Vec<_>>(), wanted);
        // SAFETY: nothing is read.
        assert!(unsafe { arguments(0, ptr::null()) }.is_empty());
    }
}
