//! Plain requests to a shard in memory.

use super::*;

/// What a client of plain HTTP sends and reads.
struct HttpClient {
    wire: SharedWire,
}

impl HttpClient {
    fn new(shard: &TestShard<Actor>) -> Self {
        Self { wire: shard.world.connect() }
    }

    /// Sends bytes, lets the shard work, and reads all responses: status and body of each.
    fn says(&self, shard: &mut TestShard<Actor>, bytes: &str) -> Vec<(u16, String)> {
        self.wire.borrow_mut().to_server.extend_from_slice(bytes.as_bytes());
        shard.run();
        self.hears()
    }

    fn hears(&self) -> Vec<(u16, String)> {
        let mut responses = Vec::new();
        while let Some(response) = client::read_response(&self.wire) {
            let body = String::from_utf8(response.body).expect("text");
            responses.push((response.status, body));
        }
        responses
    }

    fn is_closed(&self) -> bool {
        self.wire.borrow().server_left
    }
}

const GET: &str = "GET /echo HTTP/1.1\r\nHost: a\r\n\r\n";

fn answers(bodies: &[&str]) -> Vec<(u16, String)> {
    bodies.iter().map(|body| (200, (*body).to_owned())).collect()
}

#[test]
fn a_connection_serves_request_after_request() {
    let (mut shard, _) = actor();
    let client = HttpClient::new(&shard);
    for _ in 0..3 {
        assert_eq!(client.says(&mut shard, GET), answers(&["GET:"]));
    }
    // Several at once are answered one after the other.
    assert_eq!(client.says(&mut shard, &GET.repeat(5)), answers(&["GET:"; 5]));
    assert!(!client.is_closed());
    let last = GET.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(client.says(&mut shard, &format!("{last}{GET}")), answers(&["GET:"]));
    assert!(client.is_closed());
    assert_eq!(shard.handle().metrics().requests, 9);
}

#[test]
fn a_body_may_come_in_any_pieces() {
    let (mut shard, _) = actor();
    let length = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello";
    let chunked = "PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
                   3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    let all = format!("{length}{chunked}{GET}");
    let expected = answers(&["POST:hello", "PUT:hello", "GET:"]);
    for cut in 0..all.len() {
        let client = HttpClient::new(&shard);
        let mut heard = client.says(&mut shard, &all[..cut]);
        heard.extend(client.says(&mut shard, &all[cut..]));
        assert_eq!(heard, expected, "cut at {cut}");
    }
    let dripped = HttpClient::new(&shard);
    let mut heard = Vec::new();
    for byte in all.chars() {
        heard.extend(dripped.says(&mut shard, &byte.to_string()));
    }
    assert_eq!(heard, expected);
}

#[test]
fn a_body_has_a_limit_and_a_deadline() {
    let config = Config::new().body_bytes_max(4);
    let (mut shard, _) = actor_with(config);
    for (request, status) in [
        ("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 413),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello", 413),
        ("GET /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx", 400),
        ("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
    ] {
        let client = HttpClient::new(&shard);
        let heard = client.says(&mut shard, request);
        assert_eq!(heard.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [status]);
        assert!(client.is_closed(), "{request}");
    }
    let late = HttpClient::new(&shard);
    let begun = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nhal";
    assert_eq!(late.says(&mut shard, begun), []);
    shard.advance(Duration::from_secs(31));
    assert_eq!(late.hears().first().map(|(status, _)| *status), Some(408));
    let expecting = HttpClient::new(&shard);
    let head =
        "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(expecting.says(&mut shard, head), [(100, String::new())]);
    assert_eq!(expecting.says(&mut shard, "ok"), answers(&["POST:ok"]));
}

#[test]
fn a_quiet_connection_is_let_go() {
    let (mut shard, _) = actor();
    let client = HttpClient::new(&shard);
    client.says(&mut shard, GET);
    shard.advance(Duration::from_secs(74));
    assert_eq!(client.says(&mut shard, GET), answers(&["GET:"]));
    shard.advance(Duration::from_secs(76));
    assert!(client.is_closed() && client.hears().is_empty());
    // One that has begun a request is told.
    let half = HttpClient::new(&shard);
    half.says(&mut shard, GET);
    half.says(&mut shard, "GET / HT");
    shard.advance(Duration::from_secs(11));
    assert_eq!(half.hears().first().map(|(status, _)| *status), Some(408));
}

#[test]
fn an_upgrade_may_follow_requests() {
    let (mut shard, notes) = actor();
    let upgrade = "GET /ada HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let client = HttpClient::new(&shard);
    let heard = client.says(&mut shard, &format!("{GET}{GET}{upgrade}"));
    assert_eq!(heard.iter().map(|(status, _)| *status).collect::<Vec<_>>(), [200, 200, 101]);
    assert_eq!(notes.borrow()[1..], ["open ada"]);
}

#[test]
fn requests_wait_for_the_answer_of_a_ticket() {
    let (mut shard, _) = actor();
    let client = HttpClient::new(&shard);
    let later = GET.replace("/echo", "/later");
    assert_eq!(client.says(&mut shard, &format!("{later}{GET}")), []);
    assert_eq!(client.says(&mut shard, GET), []);
    shard.handle().command(0, Order::Respond("later".into())).unwrap();
    shard.run();
    assert_eq!(client.hears(), answers(&["late", "GET:", "GET:"]));
    assert!(!client.is_closed());
}

/// A client that has said its last word still hears the answers.
#[test]
fn a_half_closed_connection_is_answered() {
    let (mut shard, _) = actor();
    let client = HttpClient::new(&shard);
    client.wire.borrow_mut().to_server.extend_from_slice(GET.repeat(2).as_bytes());
    client.wire.borrow_mut().client_left = true;
    shard.run();
    assert_eq!(client.hears(), answers(&["GET:", "GET:"]));
    assert!(client.is_closed());
    let waiting = HttpClient::new(&shard);
    waiting.says(&mut shard, &GET.replace("/echo", "/later"));
    waiting.wire.borrow_mut().client_left = true;
    shard.run();
    shard.handle().command(0, Order::Respond("later".into())).unwrap();
    shard.run();
    assert_eq!(waiting.hears(), answers(&["late"]));
    assert!(waiting.is_closed());
    shard.run();
    assert_eq!(shard.handle().metrics().connections_now, 0);
}

#[test]
fn what_comes_before_a_response_is_out_is_bounded() {
    let (mut shard, _) = actor();
    let client = HttpClient::new(&shard);
    client.wire.borrow_mut().is_full = true;
    client.says(&mut shard, GET);
    client.says(&mut shard, &GET.repeat(1_500));
    assert!(!client.is_closed());
    client.says(&mut shard, &GET.repeat(1_500));
    assert!(client.is_closed(), "64 KiB and more");
}
