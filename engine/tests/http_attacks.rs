//! Plain HTTP by clients that break rules, that dawdle, and that ask for all at once.

mod harness;

use std::io::{Read, Write};
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use harness::{RawClient, ServerFrame, TestServer, handshake, patient, text, wait_until};
use ringwire::{Config, Conn, Context, Handler, Message, Offer, Reply, Request, Response, Upgrade};

/// Sends bodies back: at once, or by another thread. `/big` is 64 MiB.
struct Pages {
    requests: Arc<AtomicUsize>,
}

impl Handler for Pages {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        _request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        Upgrade::accept(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Self>, _state: &mut (), message: Message<'_>) {
        conn.send(message);
    }

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        self.requests.fetch_add(1, Ordering::SeqCst);
        let path = request.path().to_owned();
        let body = [path.as_bytes(), b":", request.body()].concat();
        if path == "/big" {
            return Response::new(200).body("text/plain", vec![b'x'; 64 << 20]).into();
        }
        let response = Response::new(200).body("text/plain", body);
        if !path.starts_with("/later") {
            return response.into();
        }
        let ticket = cx.ticket();
        let reply = Reply::later(&ticket);
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(5));
            ticket.respond(response);
        });
        reply
    }
}

fn pages(config: Config) -> (TestServer, Arc<AtomicUsize>) {
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let make = move |_| Pages { requests: Arc::clone(&counted) };
    (TestServer::start(1, config, make), requests)
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")
}

fn post(fields: &str, body: &str) -> String {
    format!("POST /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}")
}

fn with_length(body: &str) -> String {
    post(&format!("Content-Length: {}\r\n", body.len()), body)
}

fn chunked(chunks: &str) -> String {
    post("Transfer-Encoding: chunked\r\n", chunks)
}

/// A body in chunks of one size each but the last.
fn in_chunks(body: &str, chunk_bytes: usize) -> String {
    let chunks = body.as_bytes().chunks(chunk_bytes);
    let chunks: String = chunks
        .map(|chunk| format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).unwrap()))
        .collect();
    chunked(&format!("{chunks}0\r\n\r\n"))
}

fn expect(client: &mut RawClient, body: &str) {
    let response = client.read_response();
    assert_eq!((response.status, str::from_utf8(&response.body).unwrap()), (200, body));
}

/// The request is refused with this status, behind which the connection ends in order and nothing
/// more is answered.
fn expect_refused(server: &TestServer, request: &str, status: u16) {
    let mut client = server.connect();
    client.send(request.as_bytes());
    let _ = client.try_send(get("/behind").as_bytes());
    let response = client.read_last_response();
    assert_eq!(response.status, status, "{request:?}");
    assert_eq!(response.header("Connection"), Some("close"), "{request:?}");
    let length = response.header("Content-Length").map(|length| length.parse().unwrap());
    assert_eq!(length, Some(response.body.len()), "{request:?}: one response");
}

#[test]
fn bodies_at_their_limit() {
    let (server, requests) = pages(patient().body_bytes_max(1_000));
    let mut client = server.connect();
    let mut served = 0;
    for bytes in [0, 1, 999, 1_000] {
        let body = "b".repeat(bytes);
        let forms = [
            with_length(&body),
            in_chunks(&body, 1_000),
            in_chunks(&body, 1),
            in_chunks(&body, 333),
        ];
        for request in forms {
            client.send(request.as_bytes());
            expect(&mut client, &format!("/p:{body}"));
            served += 1;
        }
    }
    let body = "b".repeat(1_001);
    let refused = [
        with_length(&body),
        in_chunks(&body, 1_001),
        in_chunks(&body, 1),
        in_chunks(&body, 1_000),
        // Before any of it has come.
        post("Content-Length: 18446744073709551615\r\n", ""),
        chunked("ffffffffffffffff\r\n"),
    ];
    for request in &refused {
        expect_refused(&server, request, 413);
    }
    assert_eq!(requests.load(Ordering::SeqCst), served);
    let metrics = server.handle().metrics();
    assert_eq!((metrics.requests, metrics.handshakes_refused), (served as u64, 6));
}

/// Shorter than announced: FIN ends it without an answer, silence with 408.
#[test]
fn bodies_that_do_not_come() {
    let config = patient().body_timeout_ms(200);
    let (server, requests) = pages(config);
    let short = [
        post("Content-Length: 10\r\n", ""),
        post("Content-Length: 10\r\n", "nine byte"),
        chunked(""),
        chunked("a\r\nnine byte"),
        chunked("a\r\nten bytes!"),
        chunked("a\r\nten bytes!\r\n"),
        chunked("a\r\nten bytes!\r\n0\r\n"),
        chunked("a\r\nten bytes!\r\n0\r\nTrailer: x\r\n"),
    ];
    for request in &short {
        let mut client = server.connect();
        client.send(request.as_bytes());
        client.stream.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.read_to_end(), b"", "{request:?}");
        let mut client = server.connect();
        client.send(request.as_bytes());
        assert_eq!(client.read_last_response().status, 408, "{request:?}");
    }
    assert_eq!(requests.load(Ordering::SeqCst), 0);
    server.wait_until_empty();
}

/// Each byte that comes is no more time for the rest.
#[test]
fn a_body_in_drips_is_late_all_the_same() {
    let (server, _) = pages(patient().body_timeout_ms(200));
    for request in [post("Content-Length: 5000\r\n", ""), chunked("1000\r\n")] {
        let mut client = server.connect();
        client.send(request.as_bytes());
        client.drip_until_answered(std::iter::repeat_n(b'd', 3_000));
        assert_eq!(client.read_status(), 408);
    }
}

#[test]
fn requests_in_every_cut() {
    let (server, _) = pages(patient());
    let mut client = server.connect();
    let requests = [
        with_length("hello"),
        chunked("3\r\nhel\r\n2;ext=\"v\"\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"),
        get("/g"),
    ]
    .concat();
    for cut in 0..=requests.len() {
        client.send(&requests.as_bytes()[..cut]);
        client.send(&requests.as_bytes()[cut..]);
        for body in ["/p:hello", "/p:hello", "/g:"] {
            expect(&mut client, body);
        }
    }
    for byte in requests.as_bytes() {
        client.send(&[*byte]);
    }
    for body in ["/p:hello", "/p:hello", "/g:"] {
        expect(&mut client, body);
    }
}

#[test]
fn chunks_of_many_kinds() {
    let (server, _) = pages(patient());
    let mut client = server.connect();
    let long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(16_000));
    let trailers = format!("1\r\nx\r\n0\r\n{}\r\n", "Trailer: x\r\n".repeat(600));
    let good: [(&str, &str); 11] = [
        ("0\r\n\r\n", ""),
        ("0000000000000000\r\n\r\n", ""),
        ("A\r\nten bytes!\r\n0\r\n\r\n", "ten bytes!"),
        ("000a\r\nten bytes!\r\n00\r\n\r\n", "ten bytes!"),
        ("1;a\r\nx\r\n0;b=c\r\n\r\n", "x"),
        ("1;a=\"b\\\"; c\";d\r\nx\r\n0\r\n\r\n", "x"),
        ("1 ;a\r\nx\r\n0\r\n\r\n", "x"),
        ("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
        ("5\r\n0\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n"),
        (&long, "x"),
        (&trailers, "x"),
    ];
    for (chunks, body) in good {
        client.send(chunked(chunks).as_bytes());
        expect(&mut client, &format!("/p:{body}"));
    }
    let too_long = format!("1;{}\r\nx\r\n0\r\n\r\n", "e".repeat(17_000));
    let trailers = format!("1\r\nx\r\n0\r\n{}\r\n", "Trailer: x\r\n".repeat(800));
    let bad: [(&str, u16); 25] = [
        ("\r\n", 400),
        (";a\r\n\r\n", 400),
        ("-1\r\nx\r\n0\r\n\r\n", 400),
        ("+1\r\nx\r\n0\r\n\r\n", 400),
        (" 1\r\nx\r\n0\r\n\r\n", 400),
        ("0x1\r\nx\r\n0\r\n\r\n", 400),
        ("1_0\r\nx\r\n0\r\n\r\n", 400),
        ("g\r\nx\r\n0\r\n\r\n", 400),
        ("1 \r\nx\r\n0\r\n\r\n", 400),
        ("1\nx\n0\n\n", 400),
        ("1\rx\r\n0\r\n\r\n", 400),
        ("1\r\nxx\r\n0\r\n\r\n", 400),
        ("1\r\nx0\r\n\r\n", 400),
        ("1\r\nx\n0\r\n\r\n", 400),
        ("2\r\nx\r\n0\r\n\r\n", 400),
        ("1;a\x00\r\nx\r\n0\r\n\r\n", 400),
        ("1;a\nb\r\nx\r\n0\r\n\r\n", 400),
        ("1;a\rb\r\nx\r\n0\r\n\r\n", 400),
        ("00000000000000001\r\nx\r\n0\r\n\r\n", 400),
        ("1\r\nx\r\n0\r\nTrailer\r\n\r\n", 400),
        ("1\r\nx\r\n0\r\n Trailer: x\r\n\r\n", 400),
        ("1\r\nx\r\n0\r\nTrailer : x\r\n\r\n", 400),
        ("1\r\nx\r\n0\r\nTrailer: \x7f\r\n\r\n", 400),
        (&too_long, 400),
        (&trailers, 431),
    ];
    for (chunks, status) in bad {
        expect_refused(&server, &chunked(chunks), status);
    }
}

/// What two readers could understand in two ways is refused, and nothing behind it is read.
#[test]
fn smuggling() {
    let (server, requests) = pages(patient());
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let length = format!("Content-Length: {}\r\n", smuggled.len());
    let te = "Transfer-Encoding: chunked\r\n";
    let refused: Vec<(String, u16)> = vec![
        (format!("{length}{te}"), 400),
        (format!("{te}{length}"), 400),
        (format!("Content-Length: 0\r\n{te}"), 400),
        (format!("{length}{length}"), 400),
        (format!("{length}Content-Length: 0\r\n"), 400),
        (format!("Content-Length: 5, {}\r\n", smuggled.len()), 400),
        (format!("{te}{te}"), 400),
        (format!("{te}Transfer-Encoding: identity\r\n"), 400),
        ("Transfer-Encoding: identity\r\n".into(), 400),
        ("Transfer-Encoding: gzip\r\n".into(), 400),
        ("Transfer-Encoding: gzip, chunked\r\n".into(), 501),
        ("Transfer-Encoding: chunked, identity\r\n".into(), 400),
        ("Transfer-Encoding: xchunked\r\n".into(), 400),
        ("Transfer-Encoding: \"chunked\"\r\n".into(), 400),
        ("Transfer-Encoding:\x0bchunked\r\n".into(), 400),
        ("Transfer-Encoding : chunked\r\n".into(), 400),
        (" Transfer-Encoding: chunked\r\n".into(), 400),
        ("X: y\r\n Transfer-Encoding: chunked\r\n".into(), 400),
        ("X: y\nTransfer-Encoding: chunked\r\n".into(), 400),
        ("X: y\rTransfer-Encoding: chunked\r\n".into(), 400),
        ("Content-Length: +5\r\n".into(), 400),
        ("Content-Length: 0x5\r\n".into(), 400),
        ("Content-Length: -1\r\n".into(), 400),
        ("Content-Length: 99999999999999999999\r\n".into(), 400),
        ("Content-Length:\r\n".into(), 400),
        ("Content-Length : 5\r\n".into(), 400),
    ];
    for (fields, status) in &refused {
        expect_refused(&server, &post(fields, smuggled), *status);
    }
    // A body where none belongs.
    for method in ["GET", "HEAD", "OPTIONS"] {
        for fields in [&length, te] {
            let request = format!("{method} /p HTTP/1.1\r\nHost: a\r\n{fields}\r\n{smuggled}");
            let mut client = server.connect();
            client.send(request.as_bytes());
            assert_eq!(client.read_last_response().status, 400, "{request:?}");
        }
    }
    // HTTP/1.0 knows no chunks.
    expect_refused(&server, &post(te, smuggled).replace("HTTP/1.1", "HTTP/1.0"), 400);
    assert_eq!(requests.load(Ordering::SeqCst), 0, "nothing was smuggled");
    // An announced length is believed, whatever the body looks like.
    let mut client = server.connect();
    client.send((with_length(smuggled) + &get("/next")).as_bytes());
    expect(&mut client, &format!("/p:{smuggled}"));
    expect(&mut client, "/next:");
}

#[test]
fn pipelined_requests_with_an_upgrade_behind() {
    let (server, _) = pages(patient());
    let requests =
        [get("/a"), with_length("body"), get("/later"), chunked("1\r\nx\r\n0\r\n\r\n")].concat();
    let all = [requests.as_bytes(), &handshake(), &text("one"), &text("two")].concat();
    // In one piece, in two at any cut of the seams, and byte by byte.
    let cuts = [0, 1, requests.len() - 1, requests.len(), requests.len() + 1, all.len() - 1];
    for cut in cuts {
        let mut client = server.connect();
        client.send(&all[..cut]);
        client.send(&all[cut..]);
        for body in ["/a:", "/p:body", "/later:", "/p:x"] {
            expect(&mut client, body);
        }
        assert_eq!(client.read_status(), 101);
        assert_eq!(client.read_frame(), ServerFrame::text("one"));
        assert_eq!(client.read_frame(), ServerFrame::text("two"));
    }
    // Behind an upgrade there are frames and no requests.
    let mut client = server.connect();
    client.send(&[&handshake()[..], get("/a").as_bytes()].concat());
    assert_eq!(client.read_status(), 101);
    client.expect_close(1002);
}

#[test]
fn a_thousand_requests_in_one_packet() {
    let (server, requests) = pages(patient());
    let mut client = server.connect();
    let all: String = (0..1_000).map(|number| get(&format!("/{number}"))).collect();
    client.send(all.as_bytes());
    for number in 0..1_000 {
        expect(&mut client, &format!("/{number}:"));
    }
    drop(client);
    // With small bounds the server keeps little of what waits, and ends who sends more.
    let config = patient().early_bytes_max(2_000);
    let (small, served) = pages(config);
    let mut client = small.connect();
    let few: String = (0..40).map(|number| get(&format!("/{number}"))).collect();
    client.send(few.as_bytes());
    for number in 0..40 {
        expect(&mut client, &format!("/{number}:"));
    }
    let _ = client.try_send(all.as_bytes());
    client.expect_gone();
    let handle = small.handle();
    wait_until("it is counted", || handle.metrics().violations == 1);
    assert!(served.load(Ordering::SeqCst) < 1_040);
    assert_eq!(requests.load(Ordering::SeqCst), 1_000);
    drop(client);
    // Each waits for the one before, and that for its ticket.
    let mut client = server.connect();
    client.send(get("/later").as_bytes());
    let mut sent = 0;
    while sent < 16 << 20 && client.try_send(get("/x").repeat(1_000).as_bytes()).is_ok() {
        sent += 1_000 * get("/x").len();
    }
    client.expect_gone();
    server.wait_until_empty();
}

/// Answers that come later keep their place.
#[test]
fn answers_keep_the_order_of_requests() {
    let (server, _) = pages(patient());
    let mut client = server.connect();
    let paths: Vec<String> = (0..60)
        .map(|number| format!("/{}{number}", if number % 3 == 0 { "later" } else { "now" }))
        .collect();
    let all: String = paths.iter().map(|path| get(path)).collect();
    client.send(all.as_bytes());
    for path in &paths {
        expect(&mut client, &format!("{path}:"));
    }
}

#[test]
fn a_quiet_connection_is_closed_without_a_word() {
    let (server, _) = pages(patient().keep_alive_timeout_ms(100));
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(get("/g").as_bytes());
        expect(&mut client, "/g:");
    }
    assert_eq!(client.read_to_end(), b"");
    let metrics = server.handle().metrics();
    assert_eq!((metrics.handshakes_refused, metrics.connections_silent), (0, 0));
}

#[test]
fn heads_have_no_body() {
    let (server, _) = pages(patient());
    let mut client = server.connect();
    let both = [get("/h").replace("GET", "HEAD"), get("/later").replace("GET", "HEAD"), get("/g")];
    client.send(both.concat().as_bytes());
    for length in ["3", "7"] {
        let head = client.read_head();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        assert_eq!(harness::header(&head, "Content-Length"), Some(length));
    }
    expect(&mut client, "/g:");
}

#[test]
fn clients_that_wait_for_100() {
    let (server, _) = pages(patient().body_bytes_max(10));
    let waiting = "Content-Length: 5\r\nExpect: 100-continue\r\n";
    let mut client = server.connect();
    for _ in 0..3 {
        client.send(post(waiting, "").as_bytes());
        assert_eq!(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
        client.send(b"hello");
        expect(&mut client, "/p:hello");
        // One that does not wait is not told.
        client.send(post(waiting, "hello").as_bytes());
        expect(&mut client, "/p:hello");
        // Without a body there is nothing to wait for.
        client.send(post("Expect: 100-continue\r\n", "").as_bytes());
        expect(&mut client, "/p:");
    }
    let chunked = "Transfer-Encoding: chunked\r\nexpect: 100-Continue\r\n";
    client.send(post(chunked, "").as_bytes());
    assert_eq!(client.read_head(), "HTTP/1.1 100 Continue\r\n\r\n");
    client.send(b"1\r\nx\r\n0\r\n\r\n");
    expect(&mut client, "/p:x");
    // The final answer at once, to what is refused by its head.
    for (fields, status) in [
        ("Content-Length: 11\r\nExpect: 100-continue\r\n", 413),
        ("Content-Length: 5\r\nExpect: 200-ok\r\n", 417),
    ] {
        let mut client = server.connect();
        client.send(post(fields, "").as_bytes());
        assert_eq!(client.read_last_response().status, status, "{fields}");
    }
    // HTTP/1.0 did not know of it.
    let mut client = server.connect();
    client.send(post(waiting, "").replace("HTTP/1.1", "HTTP/1.0").as_bytes());
    client.send(b"hello");
    assert_eq!(client.read_last_response().body, b"/p:hello");
}

#[test]
fn versions_and_persistence() {
    let (server, _) = pages(patient());
    // A request of HTTP/1.0 is the last one, whatever it asks for.
    for fields in ["", "Host: a\r\n", "Connection: keep-alive\r\n"] {
        let mut client = server.connect();
        client.send(format!("GET /old HTTP/1.0\r\n{fields}\r\n").as_bytes());
        let response = client.read_last_response();
        assert_eq!((response.status, &response.body[..]), (200, &b"/old:"[..]));
        assert_eq!(response.header("Connection"), Some("close"));
    }
    for connection in ["close", "Close", "keep-alive, close", "x,close"] {
        let mut client = server.connect();
        let request = get("/last").replace("\r\n\r\n", "\r\nConnection: C\r\n\r\n");
        let request = request.replace(": C", &format!(": {connection}"));
        client.send((request + &get("/behind")).as_bytes());
        assert_eq!(client.read_last_response().body, b"/last:", "{connection}");
    }
    for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/11", "http/1.1", "ICY/1.1"] {
        let mut client = server.connect();
        client.send(get("/v").replace("HTTP/1.1", version).as_bytes());
        let status = client.read_last_response().status;
        assert!(matches!(status, 400 | 505), "{version}: {status}");
    }
    // The preface of HTTP/2, as `curl --http2-prior-knowledge` sends it.
    let mut client = server.connect();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0");
    let status = client.read_last_response().status;
    assert!(matches!(status, 400 | 405 | 501 | 505), "{status}");
}

/// A client that never reads: its response is kept by the kernel as far as it fits, and no longer
/// than the write timeout.
#[test]
fn a_client_that_never_reads() {
    // Far longer than a client that reads is kept from it: over a Unix socket nothing but its reading
    // is acknowledged.
    let config = patient().write_timeout_ms(2_000);
    let (server, _) = pages(config);
    let mut stuck = server.connect();
    stuck.send((get("/big") + &get("/next").repeat(3)).as_bytes());
    let mut other = server.connect();
    other.send(get("/g").as_bytes());
    expect(&mut other, "/g:");
    drop(other);
    server.wait_until_empty();
    // One that reads gets all of it, and the next answers.
    let mut client = server.connect();
    client.send((get("/big") + &get("/next")).as_bytes());
    assert_eq!(client.read_response().body.len(), 64 << 20);
    expect(&mut client, "/next:");
}

/// The client is gone before its answer: a ticket, a long response, a body.
#[test]
fn clients_that_leave_in_between() {
    let (server, _) = pages(patient());
    let parts = [
        get("/later"),
        get("/big"),
        get("/g").repeat(50),
        post("Content-Length: 9\r\n", "x"),
        chunked("9\r\nx"),
        "GET /half".into(),
        get("/later") + &get("/later"),
    ];
    for part in &parts {
        for resets in [false, true] {
            let mut client = server.connect();
            client.send(part.as_bytes());
            match resets {
                true => client.reset(),
                false => drop(client),
            }
        }
    }
    server.wait_until_empty();
    let mut client = server.connect();
    client.send(get("/g").as_bytes());
    expect(&mut client, "/g:");
    assert_eq!(server.handle().metrics().panics, 0);
}

/// A client that says its last word with its requests hears all the answers.
#[test]
fn requests_with_a_fin_behind_them() {
    let (server, _) = pages(patient());
    for requests in [
        vec![get("/a")],
        vec![get("/a"), with_length("b"), get("/later"), get("/c")],
        vec![get("/later"), get("/later")],
    ] {
        let mut client = server.connect();
        client.send(requests.concat().as_bytes());
        client.stream.shutdown(Shutdown::Write).unwrap();
        for _ in 0..requests.len() {
            assert_eq!(client.read_response().status, 200);
        }
        assert_eq!(client.read_to_end(), b"");
    }
    // With a handshake at the end: it is opened, its frame answered, and it ends.
    let mut client = server.connect();
    let all = [get("/a").as_bytes(), get("/later").as_bytes(), &handshake(), &text("x")].concat();
    client.send(&all);
    client.stream.shutdown(Shutdown::Write).unwrap();
    expect(&mut client, "/a:");
    expect(&mut client, "/later:");
    assert_eq!(client.read_status(), 101);
    assert_eq!(client.read_frame(), ServerFrame::text("x"));
    assert_eq!(client.read_to_end(), b"");
    server.wait_until_empty();
}

/// A server that stops answers what it has taken, and says that nothing more will be.
#[test]
fn requests_while_the_server_stops() {
    let (server, _) = pages(patient());
    let mut idle = server.connect();
    idle.send(get("/a").as_bytes());
    expect(&mut idle, "/a:");
    let mut begun = server.connect();
    begun.send(b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel");
    let mut reading = server.connect();
    reading.send((get("/big") + &get("/behind")).as_bytes());
    let mut first = [0; 1];
    reading.stream.read_exact(&mut first).unwrap();
    let handle = server.handle();
    handle.stop();
    assert_eq!(idle.read_to_end(), b"");
    begun.expect_gone();
    let rest = reading.read_to_end();
    assert!(rest.len() > 64 << 20 && rest.ends_with(b"xxx"), "{} bytes", rest.len());
    let _ = idle.stream.write_all(b"GET");
}
