//! Plain HTTP beside the WebSocket: pages, health checks, and what each answer says of itself.

mod harness;

use harness::recorder::{Acts, recorded};
use harness::requests::{VERSION, without};
use harness::{Echo, ServerFrame, TestServer, assert_is_date, handshake, text};
use ringwire::{Config, Request, Response};

/// A request line, and the status, body and Content-Length of its answer.
type Plain = (&'static str, u16, &'static [u8], Option<&'static str>);

#[test]
fn plain_http_on_the_same_port() {
    let page = |request: &Request<'_>| match request.path() {
        "/" => Response::new(200).body("text/html", b"<p>hello</p>".as_slice()),
        "/empty" => Response::new(204),
        _ => Response::new(404),
    };
    let acts = Acts { request: page, ..Acts::default() };
    let (server, calls) = recorded(Config::new(), acts);
    let requests: [Plain; 17] = [
        ("GET / HTTP/1.1", 200, b"<p>hello</p>", Some("12")),
        ("HEAD / HTTP/1.1", 200, b"", Some("12")),
        ("GET / HTTP/1.0", 200, b"<p>hello</p>", Some("12")),
        ("HEAD / HTTP/1.0", 200, b"", Some("12")),
        ("GET http://a HTTP/1.1", 200, b"<p>hello</p>", Some("12")),
        ("GET http://a?next=/nowhere HTTP/1.1", 200, b"<p>hello</p>", Some("12")),
        ("GET http://a?u=http://a/nowhere HTTP/1.1", 200, b"<p>hello</p>", Some("12")),
        ("HEAD https://a HTTP/1.0", 200, b"", Some("12")),
        ("GET /empty HTTP/1.1", 204, b"", None),
        ("GET /nowhere HTTP/1.1", 404, b"", Some("0")),
        ("GET //nowhere HTTP/1.1", 404, b"", Some("0")),
        ("HEAD /nowhere HTTP/1.1", 404, b"", Some("0")),
        ("OPTIONS / HTTP/1.0", 204, b"", None),
        ("OPTIONS / HTTP/1.1", 204, b"", None),
        ("OPTIONS * HTTP/1.0", 204, b"", None),
        ("OPTIONS * HTTP/1.1", 204, b"", None),
        ("OPTIONS http://a HTTP/1.1", 204, b"", None),
    ];
    for (line, status, body, length) in requests {
        let mut client = server.connect();
        // It shall be the last: the second is not answered.
        let request = format!("{line}\r\nHost: a\r\nConnection: close\r\n\r\n");
        client.send(request.repeat(2).as_bytes());
        let response = client.read_last_response();
        assert_eq!((response.status, &response.body[..]), (status, body), "{line}");
        assert_eq!(response.header("Content-Length"), length, "{line}");
        assert_eq!(response.header("Connection"), Some("close"), "{line}");
        let allow =
            line.starts_with("OPTIONS").then_some("GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE");
        assert_eq!(response.header("Allow"), allow, "{line}");
        assert_is_date(&response);
    }
    assert_eq!(server.handle().metrics().handshakes_refused, 0);
    assert_eq!(calls.rest(server), [], "a request is no connection");
}

/// What load balancers ask by default, HTTP/1.0 without Host included, is answered by 2xx.
#[test]
fn health_checks_find_an_answer() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let requests: [(&str, u16, &[u8]); 9] = [
        ("OPTIONS / HTTP/1.0\r\n\r\n", 204, b""),
        ("OPTIONS * HTTP/1.0\r\n\r\n", 204, b""),
        ("OPTIONS / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 204, b""),
        ("GET /health HTTP/1.0\r\n\r\n", 200, b"ok\n"),
        ("HEAD /health HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, b""),
        (
            "GET /health HTTP/1.1\r\nHost: 10.0.0.1:80\r\nUser-Agent: kube-probe/1.34\r\n\
             Connection: close\r\n\r\n",
            200,
            b"ok\n",
        ),
        ("GET /health?x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", 200, b"ok\n"),
        ("GET / HTTP/1.0\r\n\r\n", 426, b"this is a WebSocket server\n"),
        (
            "GET /healthy HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            426,
            b"this is a WebSocket server\n",
        ),
    ];
    for (request, status, body) in requests {
        let mut client = server.connect();
        client.send(request.as_bytes());
        let response = client.read_last_response();
        assert_eq!((response.status, &response.body[..]), (status, body), "{request}");
        assert_is_date(&response);
    }
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_refused, metrics.connections_silent), (0, 0));
}

/// A connection serves one request after the other, with bodies, and then a WebSocket.
#[test]
fn one_connection_serves_several_requests() {
    let echo = |request: &Request<'_>| {
        Response::new(200).body("application/octet-stream", request.body().to_vec())
    };
    let acts = Acts { request: echo, ..Acts::default() };
    let (server, _calls) = recorded(Config::new(), acts);
    let mut client = server.connect();
    let bodies = [vec![], b"hello".to_vec(), vec![7; 100_000]];
    for body in &bodies {
        let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", body.len());
        client.send(&[head.as_bytes(), body].concat());
        let response = client.read_response();
        assert_eq!((response.status, response.body == *body), (200, true), "{}", body.len());
        assert_eq!(response.header("Connection"), None);
    }
    // Two at once, and the handshake right behind them.
    let gets = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".repeat(2);
    client.send(&[gets, handshake(), text("behind it")].concat());
    for status in [200, 200, 101] {
        assert_eq!(client.read_response().status, status);
    }
    assert_eq!(client.read_frame(), ServerFrame::text("behind it"));
    assert_eq!(server.handle().metrics().requests, 5);
}

/// A panic of `on_request` is 500, to HEAD without a body.
#[test]
fn a_panic_answers_head_without_a_body() {
    let acts = Acts { request: |_| panic!("on purpose"), ..Acts::default() };
    let (server, _calls) = recorded(Config::new(), acts);
    for method in ["GET", "HEAD"] {
        let mut client = server.connect();
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let response = client.read_last_response();
        assert_eq!((response.status, &response.body[..]), (500, &b""[..]), "{method}");
    }
}

/// A request whose sender says at once that nothing more will come (as `nc -N` does) is
/// answered all the same.
#[test]
fn plain_http_with_half_a_close() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    for request in [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), without(VERSION)] {
        let mut client = server.connect();
        client.send(&request);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(client.read_last_response().status, 426);
    }
    server.wait_until_empty();
}
