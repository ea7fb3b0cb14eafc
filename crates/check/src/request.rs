//! The HTTP request: bytes -> which instance was asked for. Pure.
//!
//! The request never changes the rules. It decides whether a body is sent (`HEAD`) and, with `?port=`, which of the
//! instances the operator allowed is meant. Everything else in it is read and forgotten.

/// The most that is read of a request, in bytes.
pub const REQUEST_MAX: usize = 8 * 1024;
/// What `HAProxy` sends: for `option httpchk`, and for `option httpchk GET /` (measured, 1.5 to 3.2).
pub const PROBES: [(&str, &[u8]); 2] =
    [("OPTIONS /", b"OPTIONS / HTTP/1.0\r\n\r\n"), ("GET /", b"GET / HTTP/1.0\r\n\r\n")];

/// What a client asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Request {
    /// The client sent nothing: it gets the verdict all the same.
    Silence,
    /// A request.
    Http {
        /// Whether the method is `HEAD`, which is answered without a body.
        head: bool,
        /// The instance that is asked for.
        instance: Instance,
    },
    /// Bytes that are not an HTTP request, or only a part of its first line; the text is the reason.
    Garbage(&'static str),
}

/// Which instance a request asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Instance {
    /// A plain path: none is named.
    Unnamed,
    /// The value of `port=` in the query, as it was sent.
    Port(String),
    /// More than a path, and no `port=` in the query. It could be meant to name one: `?PORT=3307`, `?p%6Frt=3307`,
    /// `/;port=3307`.
    Unclear,
}

/// Whether the blank line has come that ends a request.
#[must_use]
pub fn is_whole(bytes: &[u8]) -> bool {
    from_request_line(bytes).windows(3).any(|three| three.ends_with(b"\n\n") || three == b"\n\r\n")
}

/// A request without the blank lines before it (RFC 9112, section 2.2).
fn from_request_line(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')).unwrap_or(bytes.len());
    bytes.get(start..).unwrap_or_default()
}

/// Reads the request line. Source: RFC 9112, sections 2.2 (blank lines before it, bare LF) and 3.
#[must_use]
pub fn parse(received: &[u8]) -> Request {
    let bytes = from_request_line(received);
    let line = bytes.split(|byte| *byte == b'\n').next().filter(|line| line.len() < bytes.len());
    let line = match line {
        Some(line) => line,
        None if received.len() == REQUEST_MAX => return Request::Garbage("the request line is too long"),
        None if bytes.is_empty() => return Request::Silence,
        None => return Request::Garbage("the request line is incomplete"),
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
    let instance = match (ports.next(), ports.next()) {
        (_, Some(_)) => return Request::Garbage("the request names more than one port"),
        (Some(port), None) => Instance::Port(port.to_owned()),
        (None, None) if target.contains(['?', '#', '%', ';', '&', '=']) => Instance::Unclear,
        (None, None) => Instance::Unnamed,
    };
    Request::Http { head: *method == "HEAD", instance }
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

    fn http(head: bool, instance: Instance) -> Request {
        Request::Http { head, instance }
    }

    #[test]
    fn any_well_formed_method_and_path_gets_the_verdict() {
        for request in [
            "OPTIONS / HTTP/1.0\r\n\r\n",
            "OPTIONS / HTTP/1.0\r\ncontent-length: 0\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: db01\r\nConnection: close\r\n\r\n",
            "GET /any/path HTTP/1.0\n\n",
            "OPTIONS * HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET http://db01:9200/ HTTP/1.1\r\nHost: db01\r\n\r\n",
            "BREW /pot HTTP/1.0\r\n",
        ] {
            assert_eq!(parse(request.as_bytes()), http(false, Instance::Unnamed), "{request:?}");
        }
        assert_eq!(parse(b"HEAD / HTTP/1.1\r\n\r\n"), http(true, Instance::Unnamed));
    }

    #[test]
    fn a_port_is_taken_from_the_query_as_it_was_sent() {
        for (target, port) in [
            ("/mysqlchk/?port=3306", "3306"),
            ("/?a=b&port=x", "x"),
            ("/?port=", ""),
            ("/?port=1;port=2#a", "1;port=2"),
        ] {
            let request = format!("GET {target} HTTP/1.0\r\n\r\n");
            assert_eq!(parse(request.as_bytes()), http(false, Instance::Port(port.into())), "{target}");
        }
        assert!(matches!(parse(b"GET /?port=1&port=2 HTTP/1.0\r\n\r\n"), Request::Garbage(_)));
    }

    #[test]
    fn more_than_a_path_that_names_no_port_is_unclear() {
        for target in [
            "/?",
            "/?x",
            "/?report=1",
            "/?PORT=1",
            "/?p%6Frt=1",
            "/?%70ort=1",
            "/?a=b;port=1",
            "/;port=1",
            "/#port=1",
            "/%3Fport=1",
            "/port=1",
            "/&port",
            "/?port%3D1",
            "/?&Port=1",
        ] {
            let request = format!("GET {target} HTTP/1.0\r\n\r\n");
            assert_eq!(parse(request.as_bytes()), http(false, Instance::Unclear), "{target}");
        }
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
        for filler in [b'A', b'\n'] {
            let full = vec![filler; REQUEST_MAX];
            assert_eq!(parse(&full), Request::Garbage("the request line is too long"), "{filler}");
        }
    }

    #[test]
    fn the_blank_line_after_the_request_line_ends_a_request() {
        for whole in
            ["GET / HTTP/1.0\r\n\r\n", "GET / HTTP/1.0\n\n", "GET / HTTP/1.0\n\r\n", "\r\n\r\nGET / HTTP/1.0\r\n\r\n"]
        {
            assert!(is_whole(whole.as_bytes()), "{whole:?}");
        }
        for part in
            ["", "\r\n\r\n", "\n\n\n", "\r\n\r\nGET / HT", "GET / HTTP/1.0\r\n", "GET / HTTP/1.0\r\nHost: a\r\n"]
        {
            assert!(!is_whole(part.as_bytes()), "{part:?}");
        }
    }
}
