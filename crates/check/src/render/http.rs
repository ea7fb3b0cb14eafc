//! Responses: the only file that writes CRLF.

use super::Reply;
use crate::verdict::Verdict;

/// The response that `HAProxy`'s `option httpchk` reads.
pub(super) fn verdict(reply: &Reply, verdict: &Verdict) -> String {
    let (code, standard) = verdict.http();
    let reason = verdict.short_reason();
    let phrase = if reply.reason_phrase { &*reason } else { standard };
    let body = [verdict.word(), ": ", &*reason, "\n"].concat();
    response([code, phrase], "text/plain; charset=utf-8", &body, reply.head)
}

/// A page of metrics. A 200 also when down: the scrape was successful, and the page says the rest.
pub(super) fn metrics(page: &str, head: bool) -> String {
    response(["200", "OK"], "text/plain; version=0.0.4", page, head)
}

/// Made for each step of a run, in case that it hangs: so without the machinery of `format!`.
fn response([code, phrase]: [&str; 2], content_type: &str, body: &str, head: bool) -> String {
    let length = body.len().to_string();
    [
        "HTTP/1.1 ",
        code,
        " ",
        phrase,
        "\r\n\
         Content-Type: ",
        content_type,
        "\r\n\
         Content-Length: ",
        &length,
        "\r\n\
         Connection: close\r\n\
         Cache-Control: no-store\r\n\
         \r\n",
        if head { "" } else { body },
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{render, reply};
    use super::super::{Form, Reply};
    use crate::verdict::{down, up};

    #[test]
    fn the_http_form_is_the_one_of_the_manual() {
        assert_eq!(
            render(&reply(Form::Http), down("lag is 42s, limit is 30s")),
            "HTTP/1.1 503 Service Unavailable\r\n\
             Content-Type: text/plain; charset=utf-8\r\n\
             Content-Length: 31\r\n\
             Connection: close\r\n\
             Cache-Control: no-store\r\n\
             \r\n\
             down: lag is 42s, limit is 30s\n"
        );
        assert!(render(&reply(Form::Http), up("x")).starts_with("HTTP/1.1 200 OK\r\n"));
    }

    #[test]
    fn the_reason_can_stand_in_the_status_line() {
        let reply = Reply { reason_phrase: true, ..reply(Form::Http) };
        assert!(render(&reply, down("lag is NULL")).starts_with("HTTP/1.1 503 lag is NULL\r\n"));
        assert!(render(&reply, up("lag is 0s")).starts_with("HTTP/1.1 200 lag is 0s\r\n"));
    }

    #[test]
    fn head_gets_the_length_but_no_body() {
        let response = render(&Reply { head: true, ..reply(Form::Http) }, up("writable"));
        assert!(response.contains("Content-Length: 13\r\n") && response.ends_with("\r\n\r\n"), "{response}");
    }

    #[test]
    fn metrics_are_a_200_whatever_the_verdict() {
        let page = render(&reply(Form::Prometheus), down("lag is NULL"));
        let response = render(&Reply { reason_phrase: true, ..reply(Form::Scrape) }, down("lag is NULL"));
        let (head, body) = response.split_once("\r\n\r\n").unwrap();
        assert_eq!(body, page);
        let length = page.len();
        assert_eq!(
            head,
            format!(
                "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {length}\r\n\
                 Connection: close\r\nCache-Control: no-store"
            )
        );
        let head = render(&Reply { head: true, ..reply(Form::Scrape) }, down("lag is NULL"));
        assert!(head.contains(&format!("Content-Length: {length}\r\n")) && head.ends_with("\r\n\r\n"), "{head}");
    }
}
