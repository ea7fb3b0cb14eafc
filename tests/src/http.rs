//! A client on a bare TCP connection: it sees bytes, and it tells a clean end from a reset.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::wait;

/// What `HAProxy` sends for `option httpchk`.
pub const REQUEST: &[u8] = b"OPTIONS / HTTP/1.0\r\n\r\n";

/// How long a server may say nothing.
const BOUND: Duration = Duration::from_secs(60);

/// One conversation, to its end.
#[derive(Clone, Debug)]
pub struct Reply {
    /// All that came.
    pub bytes: Vec<u8>,
    /// Whether it ended in a reset, not in a clean end.
    pub reset: bool,
    /// From before the connect to the end.
    pub elapsed: Duration,
}

impl Reply {
    /// The status code; 0 when there is no status line.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status_line().get(9..12).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// The words behind the status code.
    #[must_use]
    pub fn reason_phrase(&self) -> String {
        self.status_line().get(13..).unwrap_or_default().to_owned()
    }

    /// The headers, in the order they came.
    #[must_use]
    pub fn headers(&self) -> Vec<(String, String)> {
        let head = self.head();
        let lines = head.lines().skip(1).map(|line| line.split_once(": ").expect("a header"));
        lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// The value of one header.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers().into_iter().find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// What follows the blank line.
    #[must_use]
    pub fn body(&self) -> String {
        self.text().split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }

    /// All that came, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    fn head(&self) -> String {
        self.text().split("\r\n\r\n").next().unwrap_or_default().to_owned()
    }

    fn status_line(&self) -> String {
        let head = self.head();
        head.lines().next().filter(|line| line.starts_with("HTTP/1.")).unwrap_or_default().to_owned()
    }
}

/// Connects, sends `request` and reads to the end, keeping its own side open as `HAProxy` does.
#[track_caller]
pub fn exchange(address: SocketAddr, request: &[u8]) -> Reply {
    Client::connect(address).send(request).reply()
}

/// Asks as `HAProxy` does.
#[track_caller]
pub fn get(address: SocketAddr) -> Reply {
    exchange(address, REQUEST)
}

/// An open conversation, for a client with bad manners.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    begin: Instant,
}

impl Client {
    /// Connects, and says nothing.
    #[must_use]
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        let begin = Instant::now();
        let stream =
            TcpStream::connect_timeout(&address, BOUND).unwrap_or_else(|error| panic!("connect to {address}: {error}"));
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, begin }
    }

    /// Sends bytes: a request, half of it, or none. A server that is gone already is found when reading.
    #[must_use]
    pub fn send(mut self, bytes: &[u8]) -> Self {
        let _ = self.stream.write_all(bytes);
        self
    }

    /// Sends the bytes one by one, with `pause` after each, until all are sent or the server is gone.
    #[must_use]
    pub fn send_slowly(mut self, bytes: &[u8], pause: Duration) -> Self {
        for byte in bytes.chunks(1) {
            if self.stream.write_all(byte).is_err() {
                break;
            }
            wait::dawdle(pause);
        }
        self
    }

    /// Closes the sending side: the server reads its end.
    #[must_use]
    pub fn finish(self) -> Self {
        let _ = self.stream.shutdown(Shutdown::Write);
        self
    }

    /// Reads to the end.
    #[must_use]
    #[track_caller]
    pub fn reply(self) -> Reply {
        self.read(4096, Duration::ZERO)
    }

    /// Reads one byte at a time, with `pause` after each.
    #[must_use]
    #[track_caller]
    pub fn reply_slowly(self, pause: Duration) -> Reply {
        self.read(1, pause)
    }

    /// Goes away at once, in good order.
    pub fn leave(self) {
        drop(self);
    }

    /// Goes away with a reset.
    pub fn reset(self) {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO)).unwrap();
    }

    #[track_caller]
    fn read(mut self, at_once: usize, pause: Duration) -> Reply {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; at_once];
        let reset = loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => break false,
                Ok(count) => bytes.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("no end within {BOUND:?}, got {:?}: {error}", String::from_utf8_lossy(&bytes)),
            }
            if !pause.is_zero() {
                wait::dawdle(pause);
            }
        };
        Reply { bytes, reset, elapsed: self.begin.elapsed() }
    }
}
