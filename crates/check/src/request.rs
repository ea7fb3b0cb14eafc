//! The HTTP request on stdin: bytes -> which instance was asked for. Bounded in size and time.
//!
//! The request never changes the rules. It says whether a body is wanted (`HEAD`) and, with `?port=`, which of the
//! instances the operator allowed is meant. Everything else in it is read and forgotten.

use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::io::{Errno, read};

/// The most that is read of a request, in bytes.
pub const REQUEST_MAX: usize = 8 * 1024;

/// What a client asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The client said nothing: it gets the verdict all the same.
    Silence,
    /// A request; `port` is the value of `?port=`, as it was sent.
    Http {
        /// Whether the method is `HEAD`, which is answered without a body.
        head: bool,
        /// The value of `port=` in the query; `None` without one.
        port: Option<String>,
    },
    /// Bytes that are no HTTP request, or only a part of its first line; the words say what is wrong.
    Garbage(&'static str),
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
        if buffer.get(..filled).is_some_and(has_blank_line) {
            break;
        }
    }
    buffer.truncate(filled);
    parse(&buffer)
}

/// Reads and forgets what still comes, until the client closes or `patience` is over.
pub fn drain(patience: Duration) {
    let end = Instant::now() + patience;
    let mut buffer = [0; 4096];
    while read_until(end, &mut buffer).is_some() {}
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

fn has_blank_line(bytes: &[u8]) -> bool {
    bytes.windows(2).any(|pair| pair == b"\n\n") || bytes.windows(4).any(|four| four == b"\r\n\r\n")
}

/// Reads the request line. Source: RFC 9112, sections 2.2 (blank lines before it, bare LF) and 3.
fn parse(bytes: &[u8]) -> Request {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
    let Some((_, bytes)) = start.and_then(|start| bytes.split_at_checked(start)) else {
        return Request::Silence;
    };
    let Some(line) = bytes.split(|byte| *byte == b'\n').next().filter(|line| line.len() < bytes.len()) else {
        return Request::Garbage(if bytes.len() < REQUEST_MAX {
            "the request line is incomplete"
        } else {
            "the request line is too long"
        });
    };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let Some(words) = std::str::from_utf8(line).ok().map(|line| line.split(' ').collect::<Vec<_>>()) else {
        return NO_HTTP;
    };
    let [method, target, version] = words.as_slice() else { return NO_HTTP };
    if !is_token(method)
        || target.is_empty()
        || !target.bytes().all(|byte| byte.is_ascii_graphic())
        || !is_version(version)
    {
        return NO_HTTP;
    }
    let query = target.split_once('?').map_or("", |(_, query)| query);
    let query = query.split('#').next().unwrap_or_default();
    let mut ports = query.split('&').filter_map(|pair| pair.strip_prefix("port="));
    match (ports.next(), ports.next()) {
        (port, None) => Request::Http { head: *method == "HEAD", port: port.map(str::to_owned) },
        (_, Some(_)) => Request::Garbage("the request names more than one port"),
    }
}

const NO_HTTP: Request = Request::Garbage("the request is not HTTP");

/// RFC 9110, section 5.6.2.
fn is_token(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_version(word: &str) -> bool {
    word.strip_prefix("HTTP/").is_some_and(|number| matches!(number.as_bytes(), [b'0'..=b'9', b'.', b'0'..=b'9']))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn http(head: bool, port: Option<&str>) -> Request {
        Request::Http { head, port: port.map(str::to_owned) }
    }

    #[test]
    fn any_well_formed_method_and_path_gets_the_verdict() {
        for request in [
            "OPTIONS / HTTP/1.0\r\n\r\n",
            "OPTIONS / HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: db01\r\nConnection: close\r\n\r\n",
            "GET /any/path?x=y#z HTTP/1.0\n\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET http://db01:9200/ HTTP/1.1\r\nHost: db01\r\n\r\n",
            "BREW /pot HTTP/1.0\r\n",
        ] {
            assert_eq!(parse(request.as_bytes()), http(false, None), "{request:?}");
        }
        assert_eq!(parse(b"HEAD / HTTP/1.1\r\n\r\n"), http(true, None));
    }

    #[test]
    fn a_port_is_taken_from_the_query_as_it_was_sent() {
        assert_eq!(parse(b"GET /mysqlchk/?port=3306 HTTP/1.0\r\n\r\n"), http(false, Some("3306")));
        assert_eq!(parse(b"GET /?a=b&port=x HTTP/1.0\r\n\r\n"), http(false, Some("x")));
        assert_eq!(parse(b"GET /?port= HTTP/1.0\r\n\r\n"), http(false, Some("")));
        assert_eq!(parse(b"GET /?report=1 HTTP/1.0\r\n\r\n"), http(false, None));
        assert_eq!(parse(b"GET /port=1 HTTP/1.0\r\n\r\n"), http(false, None));
        assert!(matches!(parse(b"GET /?port=1&port=2 HTTP/1.0\r\n\r\n"), Request::Garbage(_)));
    }

    #[test]
    fn silence_is_no_garbage() {
        assert_eq!(parse(b""), Request::Silence);
        assert_eq!(parse(b"\r\n"), Request::Silence);
    }

    #[test]
    fn what_is_no_request_is_said_to_be_none() {
        for bytes in [
            &b"GET / HTTP/1.0"[..],
            b"GET /\r\n\r\n",
            b"GET  / HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.0 x\r\n\r\n",
            b"GET / HTTP/10\r\n\r\n",
            b"GET / http/1.0\r\n\r\n",
            b"G\x01T / HTTP/1.0\r\n\r\n",
            b"GET /\xff HTTP/1.0\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        ] {
            assert!(matches!(parse(bytes), Request::Garbage(_)), "{bytes:?}");
        }
        assert_eq!(parse(&vec![b'A'; REQUEST_MAX]), Request::Garbage("the request line is too long"));
    }

    #[test]
    fn the_blank_line_ends_a_request() {
        assert!(has_blank_line(b"GET / HTTP/1.0\r\n\r\n"));
        assert!(has_blank_line(b"GET / HTTP/1.0\n\n"));
        assert!(!has_blank_line(b"GET / HTTP/1.0\r\nHost: a\r\n"));
    }
}
