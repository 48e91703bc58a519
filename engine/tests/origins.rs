//! Whose pages may connect (RFC 6455 §10.2): the engine's own check, and what an application
//! allows beyond it.

mod harness;

use harness::recorder::{Acts, recorded};
use harness::requests::{HOST, first_line, plus, with};
use harness::{Echo, TestServer, text};
use ringwire::{Config, Context, Handler, Offer, Request, Upgrade};

/// An origin, the target and Host of its handshake, and whether it is let in without further ado.
type Judged = (&'static str, &'static str, &'static str, bool);

/// RFC 6455 §10.2: a page of another origin is refused, also where `on_upgrade` accepts whomever
/// it is asked about. The target's host counts before Host (RFC 9112 §3.2.2).
#[test]
fn pages_of_other_origins_are_refused() {
    let server = TestServer::start(1, Config::new(), |_| Echo);
    let (accepting, calls) = recorded(Config::new(), Acts::default());
    let table: [Judged; 32] = [
        ("http://localhost", "/", "localhost", true),
        ("http://localhost:80", "/", "localhost", true),
        ("http://localhost", "/", "localhost:80", true),
        ("HTTP://LOCALHOST", "/", "localhost", true),
        ("http://localhost:9001", "/", "localhost:9001", true),
        ("http://[::1]:9001", "/", "[::1]:9001", true),
        // A proxy in front has taken TLS off.
        ("https://chat.example", "/", "chat.example", true),
        ("https://chat.example", "/", "chat.example:443", true),
        ("https://chat.example:8443", "/", "chat.example:8443", true),
        ("https://chat.example", "/", "chat.example:80", false),
        ("https://chat.example:8443", "/", "chat.example", false),
        ("http://chat.example", "/", "chat.example:443", false),
        ("null", "/", "localhost", false),
        ("null", "/", "null", false),
        ("http://localhost:8080", "/", "localhost", false),
        ("http://localhost.evil.example", "/", "localhost", false),
        ("http://evil.example", "/", "localhost", false),
        ("http://evil.example/localhost", "/", "localhost", false),
        ("http://localhost@evil.example", "/", "localhost", false),
        ("http://evil.example#localhost", "/", "localhost", false),
        ("ws://localhost", "/", "localhost", false),
        ("file://localhost", "/", "localhost", false),
        ("localhost", "/", "localhost", false),
        ("*", "/", "localhost", false),
        // The target names the host.
        ("http://localhost", "http://evil.example/", "localhost", false),
        ("http://evil.example", "http://localhost/", "evil.example", false),
        ("http://evil.example", "http://evil.example/", "localhost", true),
        ("http://localhost", "http://localhost", "evil.example", true),
        ("http://localhost:81", "ws://localhost:81?a=b", "localhost", true),
        ("https://localhost", "wss://localhost/", "a", true),
        ("http://localhost", "http://localhost:81/", "localhost", false),
        ("http://localhost", "http://evil.example?http://localhost/", "localhost", false),
    ];
    for (origin, target, host, is_let_in) in table {
        let lines = [format!("Host: {host}"), format!("Origin: {origin}")];
        let request = with(HOST, &lines.each_ref().map(String::as_str));
        let request = String::from_utf8(request).unwrap();
        let request = request.replace("GET / ", &format!("GET {target} ")).into_bytes();
        for server in [&server, &accepting] {
            let mut client = server.connect();
            if is_let_in {
                client.send(&request);
                assert_eq!(client.read_status(), 101, "{origin} {target} {host}");
                continue;
            }
            client.send(&[&request[..], &text("smuggled")].concat());
            let response = client.read_last_response();
            assert_eq!(response.status, 403, "{origin} {target} {host}");
            let body = String::from_utf8(response.body).unwrap();
            assert!(body.contains("allow_origin") && body.contains("Host $http_host;"), "{body}");
            // Nothing of the peer's comes back.
            assert!(!body.contains(origin), "{body}");
        }
    }
    let let_in = table.iter().filter(|(.., is_let_in)| *is_let_in).count();
    let metrics = accepting.handle().metrics();
    assert_eq!(metrics.handshakes_accepted, let_in as u64);
    assert_eq!(metrics.handshakes_refused, (table.len() - let_in) as u64);
    assert_eq!(calls.rest(accepting).len(), 2 * let_in, "an open and a close each, no message");
}

#[test]
fn other_origins_are_let_in_by_name_or_all_of_them() {
    let as_asked = |request: &Request<'_>, _: &Offer<'_>| {
        let upgrade = Upgrade::accept(());
        match request.path() {
            "/two" => upgrade.allow_origin("https://a.example").allow_origin("http://b.example:81"),
            "/any" => upgrade.dangerously_allow_any_origin(),
            "/mistake" => upgrade.allow_origin("https://a.example/"),
            _ => upgrade,
        }
    };
    let acts = Acts { upgrade: as_asked, ..Acts::default() };
    let (server, _calls) = recorded(Config::new(), acts);
    let table = [
        ("/", "https://a.example", 403),
        ("/two", "https://a.example", 101),
        ("/two", "http://b.example:81", 101),
        ("/two", "http://localhost", 101),
        ("/two", "http://a.example", 403),
        ("/two", "https://A.example", 403),
        ("/two", "https://a.example:443", 403),
        ("/two", "https://a.example.", 403),
        ("/two", "https://b.example:81", 403),
        ("/two", "null", 403),
        ("/any", "https://a.example", 101),
        ("/any", "null", 101),
        ("/mistake", "https://a.example/", 500),
    ];
    for (path, origin, status) in table {
        let mut client = server.connect();
        let request = String::from_utf8(plus(format!("Origin: {origin}\r\n"))).unwrap();
        client.send(request.replace("GET / ", &format!("GET {path} ")).as_bytes());
        assert_eq!(client.read_status(), status, "{path} {origin}");
    }
}

/// What the application keeps: dropping it is its code, also where the engine drops it unopened.
#[derive(Default)]
struct Explosive;

impl Drop for Explosive {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

struct Explosives;

impl Handler for Explosives {
    type State = Explosive;
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _: &Offer<'_>,
    ) -> Upgrade<Explosive> {
        let upgrade = Upgrade::accept(Explosive);
        if request.path() == "/header" { upgrade.header("X", "a\r\nb") } else { upgrade }
    }
}

#[test]
fn the_state_of_a_connection_that_is_not_opened_may_panic() {
    let server = TestServer::start(1, Config::new(), |_| Explosives);
    for (request, status) in
        [(plus("Origin: https://a.example\r\n"), 403), (first_line("GET /header HTTP/1.1"), 500)]
    {
        let mut client = server.connect();
        client.send(&request);
        assert_eq!(client.read_last_response().status, status);
    }
    server.wait_until_empty();
    assert_eq!(server.handle().metrics().panics, 2);
}
