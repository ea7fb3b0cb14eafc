//! Answers in place of a program that hangs or crashes, and makes sure that there is one answer.
//!
//! The answer is prepared beforehand; the signal handler only writes it and ends the process. It uses nothing but
//! atomics and system calls that signal-safety(7) lists.

#![expect(
    unsafe_code,
    reason = "a signal handler, its installation and its timer; measured against a thread in lib.rs"
)]

use std::cell::UnsafeCell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use libc::c_int;
use rustix::io::{Errno, pwrite, write};
use rustix::net::{RecvFlags, Shutdown, recv, shutdown};
use rustix::stdio::{stdin, stdout};

use crate::output::Output;

/// How long an answer that is being written when the time is over may still take, in microseconds.
const GRACE_US: libc::suseconds_t = 20_000;

/// The signals of a crash. SIGABRT is how std ends a program when there is no memory left.
const CRASHES: [c_int; 5] = [libc::SIGABRT, libc::SIGSEGV, libc::SIGBUS, libc::SIGILL, libc::SIGFPE];

/// The stack of the handler when the program crashes, in bytes: its own may be what has run out. Above `MINSIGSTKSZ` of
/// every processor.
const STACK: usize = 32 * 1024;

/// An answer in place of the program.
#[derive(Debug)]
pub struct Answer {
    /// Written to stdout, or to the file of [`answer_into`].
    pub response: String,
    /// Written to the file of [`attach_file`], where there is one: bytes and their offsets, in this order. What comes
    /// after a write that fails is left out.
    pub pieces: Vec<(u64, Vec<u8>)>,
    /// The exit status.
    pub status: u8,
}

/// The answer when the time is over.
#[derive(Debug)]
struct Late {
    answer: Answer,
    once_connected: Option<Answer>,
}

/// No answer yet; any other value is the exit status that went with it, plus one.
const UNANSWERED: u8 = 0;

static ANSWERED: AtomicU8 = AtomicU8::new(UNANSWERED);
/// Whether the answer that was claimed is out.
static WRITTEN: AtomicBool = AtomicBool::new(false);
/// Whether the time was over before.
static OVERDUE: AtomicBool = AtomicBool::new(false);
/// Whether the timer only interrupts what waits.
static INTERRUPTS: AtomicBool = AtomicBool::new(false);
static LATE: AtomicPtr<Late> = AtomicPtr::new(ptr::null_mut());
static CRASHED: AtomicPtr<Answer> = AtomicPtr::new(ptr::null_mut());
static FILE: OnceLock<OwnedFd> = OnceLock::new();
static OUTPUT: OnceLock<Output> = OnceLock::new();
/// Whether the file is still to be written to.
static ATTACHED: AtomicBool = AtomicBool::new(false);

/// After `left`, or when the program crashes, the answer of [`if_late`] or [`if_crashed`] is delivered and the process ends,
/// unless it has answered before.
///
/// # Errors
/// When the system refuses the handlers or the timer.
pub fn arm(left: Duration) -> io::Result<()> {
    give_the_handler_a_stack()?;
    for signal in CRASHES {
        install(signal, end as *const () as libc::sighandler_t, libc::SA_ONSTACK)?;
    }
    // It may interrupt itself, so that it ends even if the client does not read what it writes.
    install(libc::SIGALRM, end as *const () as libc::sighandler_t, libc::SA_NODEFER)?;
    // A parent may have left a signal blocked, and then the deadline would never come.
    mask(libc::SIG_UNBLOCK, [libc::SIGALRM].into_iter().chain(CRASHES))?;
    end_in(left)
}

/// The process ends after `left` from now: for a budget that becomes known late, and after [`interrupt_in`].
///
/// # Errors
/// When the system refuses the timer.
pub fn end_in(left: Duration) -> io::Result<()> {
    set_timer(left)?;
    INTERRUPTS.store(false, Ordering::Relaxed);
    Ok(())
}

/// After `time`, and again and again from then on, what waits in a system call is interrupted, until [`end_in`] is called.
///
/// # Errors
/// When the system refuses the timer.
pub fn interrupt_in(time: Duration) -> io::Result<()> {
    INTERRUPTS.store(true, Ordering::Relaxed);
    set_timer(time).inspect_err(|_| INTERRUPTS.store(false, Ordering::Relaxed))
}

/// A thread that only takes the signal of the timer, see [`answer_from_another_thread`]. Ends when dropped.
#[derive(Debug)]
pub struct OtherThread {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Until the guard is dropped the handler of the timer runs in a thread of its own. A call that only SIGKILL ends, such as
/// opening a file on a network file system that hangs, keeps the handler from running in the thread that made the call.
///
/// # Errors
/// When the system refuses the thread; the timer works as before.
pub fn answer_from_another_thread() -> io::Result<OtherThread> {
    let done = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&done);
    let wait = move || {
        while !told.load(Ordering::Acquire) {
            thread::park();
        }
    };
    let thread = thread::Builder::new().stack_size(STACK).spawn(wait)?;
    let other = OtherThread { done, thread: Some(thread) };
    mask(libc::SIG_BLOCK, [libc::SIGALRM])?;
    Ok(other)
}

impl Drop for OtherThread {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // When it is in the handler this waits for the end of the process: the answer is that thread's.
            let _ = thread.join();
        }
        let _ = mask(libc::SIG_UNBLOCK, [libc::SIGALRM]);
    }
}

fn set_timer(time: Duration) -> io::Result<()> {
    let microseconds = time.subsec_micros().max(u32::from(time.as_secs() == 0)).into();
    let seconds = time.as_secs().try_into().unwrap_or(libc::time_t::MAX);
    let timer = libc::itimerval {
        it_interval: libc::timeval { tv_sec: 0, tv_usec: GRACE_US },
        it_value: libc::timeval { tv_sec: seconds, tv_usec: microseconds },
    };
    // SAFETY: the new value is a live itimerval, and the old one is not asked for.
    succeeded(unsafe { libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut()) })
}

/// From now on this is the answer when the time is over; `once_connected` as soon as a socket of ours is connected, where that
/// is another answer.
pub fn if_late(answer: Answer, once_connected: Option<Answer>) {
    // Never freed: the handler may read it until the process ends.
    LATE.store(Box::into_raw(Box::new(Late { answer, once_connected })), Ordering::Release);
}

/// From now on this is the answer when the program crashes.
pub fn if_crashed(answer: Answer) {
    // Never freed, as above.
    CRASHED.store(Box::into_raw(Box::new(answer)), Ordering::Release);
}

/// From now on [`Answer::pieces`] go to this file; once in a process. The file stays open until the process ends.
pub fn attach_file(file: OwnedFd) -> BorrowedFd<'static> {
    let file = FILE.get_or_init(|| file).as_fd();
    ATTACHED.store(true, Ordering::Release);
    file
}

/// Ends what [`attach_file`] began.
pub fn detach_file() {
    ATTACHED.store(false, Ordering::Release);
}

/// From now on answers go into this file instead of stdout; the first of two counts.
pub fn answer_into(output: Output) {
    ignore_limits_of_files();
    let _ = OUTPUT.set(output);
}

/// Hands an answer over that was claimed: to stdout, or into the file of [`answer_into`]. When the file cannot be written,
/// the cause goes to stdout, and the exit status is 2: what stands in the file is not this answer.
pub fn deliver(bytes: &[u8]) {
    let Some(output) = OUTPUT.get() else { return print(bytes) };
    if let Err(cause) = output.put(bytes) {
        for part in [output.complaint(), cause.words(), "\n"] {
            print(part.as_bytes());
        }
        ANSWERED.store(2 + 1, Ordering::SeqCst);
    }
}

/// Takes the right to answer, with the exit status that goes with it; `false` when there is an answer already.
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
    let _ = install(libc::SIGPIPE, libc::SIG_IGN, 0);
}

/// SIGXFSZ is ignored: a file that may not grow (`RLIMIT_FSIZE`) is an error, not the end.
pub fn ignore_limits_of_files() {
    let _ = install(libc::SIGXFSZ, libc::SIG_IGN, 0);
}

/// The handler. The process ends in it, unless the program is just writing its own answer: then it may finish that. The
/// same goes for an answer that the handler writes: the second signal ends the wait for a client that does not read.
extern "C" fn end(signal: c_int) {
    if signal == libc::SIGALRM && INTERRUPTS.load(Ordering::Relaxed) {
        return;
    }
    let answer = if signal == libc::SIGALRM { late() } else { crashed() };
    // When the program was faster, its own answer and status stand.
    if claim(answer.map_or(1, |answer| answer.status)) {
        if let Some(answer) = answer {
            deliver(answer.response.as_bytes());
            if let Some(file) = FILE.get().filter(|_| ATTACHED.load(Ordering::Acquire)) {
                let _ = answer.pieces.iter().all(|(at, bytes)| pwrite(file, bytes, *at) == Ok(bytes.len()));
            }
        }
        leave_in_order();
    } else if signal == libc::SIGALRM && !WRITTEN.load(Ordering::SeqCst) && !OVERDUE.swap(true, Ordering::SeqCst) {
        return;
    }
    // SAFETY: ends the process without running anything of ours; the kernel closes what is open.
    unsafe { libc::_exit(status().into()) };
}

fn late() -> Option<&'static Answer> {
    // SAFETY: null, or a box that `if_late` leaked; nothing writes to it.
    let late = unsafe { LATE.load(Ordering::Acquire).as_ref() }?;
    Some(late.once_connected.as_ref().filter(|_| is_connected()).unwrap_or(&late.answer))
}

fn crashed() -> Option<&'static Answer> {
    // SAFETY: null, or a box that `if_crashed` leaked; nothing writes to it.
    unsafe { CRASHED.load(Ordering::Acquire).as_ref() }
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

/// Writes to stdout. A client that went away is not an error.
pub fn print(bytes: &[u8]) {
    let _ = write_all(stdout(), bytes);
}

/// Writes all of it.
///
/// # Errors
/// What the system reports.
pub(crate) fn write_all(file: BorrowedFd<'_>, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        match write(file, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Half-closes and reads what the client has sent, so that the client sees an end and not a reset. Waits for nothing.
fn leave_in_order() {
    // Fails without harm when stdout is not a socket.
    if shutdown(stdout(), Shutdown::Write).is_err() {
        return;
    }
    let mut buffer = [0_u8; 4096];
    for _ in 0..64 {
        if !matches!(recv(stdin(), &mut buffer, RecvFlags::DONTWAIT), Ok((1.., _))) {
            return;
        }
    }
}

fn install(signal: c_int, action: libc::sighandler_t, flags: c_int) -> io::Result<()> {
    // SAFETY: all zeroes is a valid sigaction: no flags, an empty mask.
    let mut new: libc::sigaction = unsafe { std::mem::zeroed() };
    new.sa_sigaction = action;
    new.sa_flags = flags;
    // SAFETY: a live sigaction; the handler is one of ours or SIG_IGN.
    succeeded(unsafe { libc::sigaction(signal, &raw const new, ptr::null_mut()) })
}

/// Room that only the kernel touches.
struct Stack(UnsafeCell<[u8; STACK]>);

// SAFETY: nothing of ours reads or writes it.
unsafe impl Sync for Stack {}

fn give_the_handler_a_stack() -> io::Result<()> {
    static ROOM: Stack = Stack(UnsafeCell::new([0; STACK]));
    let stack = libc::stack_t { ss_sp: ROOM.0.get().cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the room is as large as that and lives as long as the process; the old one is not asked for.
    succeeded(unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) })
}

fn mask(how: c_int, signals: impl IntoIterator<Item = c_int>) -> io::Result<()> {
    // SAFETY: sigemptyset makes the set valid before it is used.
    let result = unsafe {
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        for signal in signals {
            libc::sigaddset(&raw mut set, signal);
        }
        libc::pthread_sigmask(how, &raw const set, ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(result)) }
}

fn succeeded(result: c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
