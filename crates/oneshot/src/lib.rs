//! The start and the end of a process that lives for a millisecond.
//!
//! The only crate of this project with `unsafe`. Two things are here because std does them at a price that a one-shot
//! process feels (measured on a check of 1.0 ms, static build, `MariaDB` 10.11 on the socket):
//!
//! - [`entry!`]: the start of a Rust program reads `/proc/self/maps` to guard its stack, and installs handlers to report
//!   an overflow: 13 system calls and a tenth of all instructions of a check.
//! - [`alarm`]: a deadline that holds while the program hangs in a call that nothing else can end. A thread costs 0.10 ms
//!   of wall time and 0.15 ms of CPU; a timer signal costs three system calls. When the time is over the handler also
//!   leaves word in a [`record`] for those who wait for the same answer.

pub mod alarm;
pub mod record;

/// The entry point of a program: calls a function that returns the exit status. The program's first line is
/// `#![cfg_attr(not(test), no_main)]`.
///
/// What std's own start-up does and a check needs is done here: descriptors 0 to 2 are open, so that no connection
/// becomes one of them, and SIGPIPE is ignored, so that a client that went away is an error code and not the end.
/// And stderr is silenced where it is a socket.
#[macro_export]
macro_rules! entry {
    ($run:expr) => {
        // glibc hands the arguments to std before `main`, so `std::env::args_os()` has them.
        #[cfg(not(test))]
        #[unsafe(no_mangle)]
        extern "C" fn main() -> std::ffi::c_int {
            $crate::prepare();
            let run: fn() -> u8 = $run;
            std::ffi::c_int::from(run())
        }
        // A test program has a start of its own; this only keeps the compiler from calling the rest unused.
        #[cfg(test)]
        const _: fn() -> u8 = $run;
    };
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
