//! The request of a client: any bytes; some of them over stdin, in pieces of any size.

use std::time::Duration;

use check::fuzzing::{Instance, REQUEST_MAX, Request, is_whole, parse_request, receive};
use rustix::fd::OwnedFd;
use rustix::net::{AddressFamily, SendFlags, Shutdown, SocketFlags, SocketType, recv, send, shutdown, socketpair};

use super::is_one_in;

/// Long enough: all the bytes are there before the first is read.
const PATIENCE: Duration = Duration::from_secs(60);
/// The most pieces: each takes room of its own in the socket, and a client that fills it would wait.
const PIECES_MAX: usize = 128;

/// The bytes are the request.
pub fn run(input: &[u8]) {
    let read = input.get(..REQUEST_MAX).unwrap_or(input);
    let request = parse_request(read);
    assert_eq!(request, parse_request(until_whole(read)), "what follows a request changes its meaning");
    if is_one_in(64, input) {
        let (received, unread) = in_one_piece(input);
        assert!(unread >= input.len().saturating_sub(REQUEST_MAX), "more than {REQUEST_MAX} bytes were read");
        assert_eq!(request, received, "stdin changes the meaning of a request");
        assert_eq!(request, in_pieces(read), "the pieces a request comes in change its meaning");
    }
    is_what_was_sent(request, read);
}

fn is_what_was_sent(request: Request, read: &[u8]) {
    let line = after_blank_lines(read);
    match request {
        Request::Silence => assert!(line.is_empty(), "{read:?} is not silence"),
        Request::Http { head, instance } => {
            assert_eq!(head, line.starts_with(b"HEAD "));
            let line = line.split(|byte| *byte == b'\n').next().unwrap();
            if let Instance::Port(port) = instance {
                assert!(port.bytes().all(|byte| byte.is_ascii_graphic() && !b"&#".contains(&byte)), "{port:?}");
                let sent = format!("port={port}");
                assert!(line.windows(sent.len()).any(|part| part == sent.as_bytes()), "{port:?} was not sent");
            }
        }
        Request::Garbage(what) => assert!(!line.is_empty() && !what.is_empty()),
    }
}

/// The least that has to be read of it.
fn until_whole(bytes: &[u8]) -> &[u8] {
    let (mut part, mut whole) = (0, bytes.len());
    while part < whole {
        let middle = part.midpoint(whole);
        if is_whole(&bytes[..middle]) { whole = middle } else { part = middle + 1 }
    }
    &bytes[..whole]
}

/// What follows the blank lines that a client may send before its request.
fn after_blank_lines(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or(bytes.len());
    &bytes[start..]
}

/// What is made of bytes that come at once, and how many of them were left unread.
fn in_one_piece(bytes: &[u8]) -> (Request, usize) {
    let (request, ours) = receive_from(SocketType::STREAM, &[bytes]);
    let mut buffer = vec![0; bytes.len() + 1];
    let mut unread = 0;
    while let Ok((count @ 1.., _)) = recv(&ours, &mut buffer, rustix::net::RecvFlags::empty()) {
        unread += count;
    }
    (request, unread)
}

/// What is made of bytes that come one piece after the other, each in a read of its own.
fn in_pieces(bytes: &[u8]) -> Request {
    let size = (1 + bytes.len() % 7).max(bytes.len().div_ceil(PIECES_MAX));
    receive_from(SocketType::SEQPACKET, &bytes.chunks(size).collect::<Vec<_>>()).0
}

/// Puts the pieces on stdin and receives them; the other end of stdin is handed back.
fn receive_from(kind: SocketType, pieces: &[&[u8]]) -> (Request, OwnedFd) {
    let (client, stdin) = socketpair(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None).unwrap();
    for piece in pieces {
        assert_eq!(send(&client, piece, SendFlags::empty()), Ok(piece.len()));
    }
    shutdown(&client, Shutdown::Write).unwrap();
    rustix::stdio::dup2_stdin(&stdin).unwrap();
    (receive(PATIENCE), stdin)
}
