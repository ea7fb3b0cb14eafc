//! Answers in place of a program that hangs or is aborted, and makes sure that there is one answer.
//!
//! What will be said is rendered beforehand; the signal handlers only write it and end the process. It uses nothing but
//! atomics and system calls that signal-safety(7) lists.

#![expect(
    unsafe_code,
    reason = "a signal handler, its installation and its timer; measured against a thread in lib.rs"
)]

use std::io;
use std::os::fd::{BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU8, AtomicUsize, Ordering};
use std::time::Duration;

use libc::{c_int, c_void};

use crate::record;

/// How long an answer that is being written when the time is over may still take, in microseconds.
const GRACE_US: libc::suseconds_t = 20_000;

/// What is said in place of the program.
#[derive(Debug)]
pub struct Answer {
    /// Written to stdout.
    pub response: String,
    /// Put into the file of [`also_record`], if there is one.
    pub record: String,
}

/// All that can have to be said in place of the program.
#[derive(Debug)]
pub struct Answers {
    /// When the time is over: one for each thing the program can be doing, see [`doing`].
    pub late: Vec<Answer>,
    /// When the program is aborted, which is what std does when there is no memory left.
    pub aborted: Answer,
}

/// No answer yet; any other value is the exit status that went with it, plus one.
const UNANSWERED: u8 = 0;

static ANSWERED: AtomicU8 = AtomicU8::new(UNANSWERED);
/// Whether the answer that was claimed is out.
static WRITTEN: AtomicBool = AtomicBool::new(false);
/// Whether the time was over before.
static OVERDUE: AtomicBool = AtomicBool::new(false);
static ANSWERS: AtomicPtr<Answers> = AtomicPtr::new(ptr::null_mut());
static DOING: AtomicUsize = AtomicUsize::new(0);
static DOING_ONCE_CONNECTED: AtomicUsize = AtomicUsize::new(0);
static RECORD: AtomicI32 = AtomicI32::new(-1);
static LATE_STATUS: AtomicU8 = AtomicU8::new(1);

/// After `left`, or when the program is aborted, writes one of `answers` to stdout and ends the process with `status`,
/// unless it was answered before.
///
/// # Errors
/// When the system refuses the handlers or the timer.
pub fn arm(left: Duration, answers: Answers, status: u8) -> io::Result<()> {
    LATE_STATUS.store(status, Ordering::Relaxed);
    // Never freed: the handler may read it until the process ends.
    ANSWERS.store(Box::into_raw(Box::new(answers)), Ordering::Release);
    install(libc::SIGALRM, end as *const () as libc::sighandler_t)?;
    install(libc::SIGABRT, end as *const () as libc::sighandler_t)?;
    unblock_alarm()?;
    let microseconds = left.subsec_micros().max(u32::from(left.as_secs() == 0)).into();
    let seconds = left.as_secs().try_into().unwrap_or(libc::time_t::MAX);
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: GRACE_US },
        it_value: libc::timeval { tv_sec: seconds, tv_usec: microseconds },
    };
    // SAFETY: the new value is a live itimerval, and the old one is not asked for.
    succeeded(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) })
}

/// From now on answer number `answer` is the one that says what the program is doing.
pub fn doing(answer: usize) {
    doing_until_connected(answer, answer);
}

/// From now on it is `before` while no socket of ours is connected, and `after` as soon as one is.
pub fn doing_until_connected(before: usize, after: usize) {
    DOING.store(before, Ordering::Relaxed);
    DOING_ONCE_CONNECTED.store(after, Ordering::Relaxed);
}

/// Also puts the record of the late answer into this file, see [`record`]. The file stays open until the process ends.
pub fn also_record(file: OwnedFd) -> BorrowedFd<'static> {
    let file = file.into_raw_fd();
    RECORD.store(file, Ordering::Release);
    // SAFETY: nobody owns the descriptor any more, so nobody closes it.
    unsafe { BorrowedFd::borrow_raw(file) }
}

/// Ends what [`also_record`] began.
pub fn record_no_more() {
    RECORD.store(-1, Ordering::Release);
}

/// Takes the right to answer, with the exit status that goes with it; `false` when somebody was faster.
#[must_use]
pub fn claim(status: u8) -> bool {
    ANSWERED.compare_exchange(UNANSWERED, status + 1, Ordering::SeqCst, Ordering::SeqCst).is_ok()
}

/// Notes that the answer that was claimed is out: from now on the time may end the program at any point.
pub fn answered() {
    WRITTEN.store(true, Ordering::SeqCst);
}

/// The exit status of the answer that was given; 1 before there is one.
#[must_use]
pub fn status() -> u8 {
    match ANSWERED.load(Ordering::SeqCst) {
        UNANSWERED => 1,
        given => given - 1,
    }
}

/// SIGPIPE is ignored: writing to a client that went away is an error, not the end.
pub(crate) fn ignore_broken_pipes() {
    let _ = install(libc::SIGPIPE, libc::SIG_IGN);
}

/// SIGXFSZ is ignored: a file that may not grow (`RLIMIT_FSIZE`) is an error, not the end.
pub fn ignore_limits_of_files() {
    let _ = install(libc::SIGXFSZ, libc::SIG_IGN);
}

/// The handler. The process ends in it, unless the program is just writing its own answer: then it may finish that.
extern "C" fn end(signal: c_int) {
    let late = LATE_STATUS.load(Ordering::Relaxed);
    // When the program was faster, its own answer and status stand.
    if claim(late) {
        let doing = if is_connected() { &DOING_ONCE_CONNECTED } else { &DOING };
        // SAFETY: null, or the box that `arm` leaked before it installed this handler; nobody writes to it.
        let answers = unsafe { ANSWERS.load(Ordering::Acquire).as_ref() };
        let answer = answers.and_then(|answers| match signal {
            libc::SIGABRT => Some(&answers.aborted),
            _ => answers.late.get(doing.load(Ordering::Relaxed)),
        });
        if let Some(answer) = answer {
            write_all(libc::STDOUT_FILENO, answer.response.as_bytes());
            let file = RECORD.load(Ordering::Acquire);
            if file >= 0 {
                // SAFETY: `also_record` took the descriptor for good.
                let file = unsafe { BorrowedFd::borrow_raw(file) };
                let _ = record::write(file, record::Stamp::now(), answer.record.as_bytes());
            }
        }
        leave_in_order();
    } else if signal == libc::SIGALRM && !WRITTEN.load(Ordering::SeqCst) && !OVERDUE.swap(true, Ordering::SeqCst) {
        return;
    }
    // SAFETY: ends the process without running anything of ours; the kernel closes what is open.
    unsafe { libc::_exit(status().into()) };
}

/// Whether one of the first descriptors after the standard ones is a connected socket. The driver connects and logs in
/// in one call, so only the kernel knows where it is.
fn is_connected() -> bool {
    (3..10).any(|fd| {
        let mut address = [0_u8; 128];
        let mut length: libc::socklen_t = 128;
        // SAFETY: buffer and length are ours, and the length is the buffer's; any number is a valid question.
        unsafe { libc::getpeername(fd, address.as_mut_ptr().cast(), &raw mut length) == 0 }
    })
}

fn write_all(fd: RawFd, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        // SAFETY: pointer and length are those of a live slice.
        let written = unsafe { libc::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) };
        match usize::try_from(written) {
            Ok(count) if count > 0 => bytes = bytes.get(count..).unwrap_or_default(),
            _ => return,
        }
    }
}

/// Half-closes and reads what the client has sent, so that our end is no reset. Waits for nothing.
fn leave_in_order() {
    // SAFETY: fails without harm when stdout is no socket.
    if unsafe { libc::shutdown(libc::STDOUT_FILENO, libc::SHUT_WR) } != 0 {
        return;
    }
    let mut buffer = [0_u8; 4096];
    for _ in 0..64 {
        // SAFETY: buffer and length are ours.
        let read =
            unsafe { libc::recv(libc::STDIN_FILENO, buffer.as_mut_ptr().cast(), buffer.len(), libc::MSG_DONTWAIT) };
        if read <= 0 {
            return;
        }
    }
}

fn install(signal: c_int, action: libc::sighandler_t) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction: no flags, an empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    // SAFETY: a live sigaction; the handler is one of ours or SIG_IGN.
    succeeded(unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) })
}

/// A parent may have left the signal blocked, and then the deadline would never come.
fn unblock_alarm() -> io::Result<()> {
    // SAFETY: sigemptyset makes the set valid before it is used.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGALRM);
        libc::sigprocmask(libc::SIG_UNBLOCK, &raw const set, ptr::null_mut())
    };
    succeeded(result)
}

fn succeeded(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
