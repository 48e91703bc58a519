//! A handler with routes of its own, asked by clients for paths that a router could take for others.

mod harness;

use harness::{TestServer, patient};
use ringwire::{Context, Handler, Method, Offer, Reply, Request, Response, Router, Upgrade};

/// What a path leads to, and how large a body it takes.
#[derive(Clone, Copy)]
struct Route {
    name: &'static str,
    body_bytes_max: usize,
}

struct Site {
    routes: Router<Route>,
}

impl Handler for Site {
    type State = ();
    type Command = ();

    fn on_upgrade(
        &mut self,
        _cx: &mut Context<'_, Self>,
        request: &Request<'_>,
        _offer: &Offer<'_>,
    ) -> Upgrade<()> {
        match self.routes.find(request.path()) {
            Some(found) if found.value().name == "ws" => Upgrade::accept(()),
            _ => Upgrade::refuse(Response::new(404)),
        }
    }

    fn on_request(&mut self, _cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let Some(found) = self.routes.find(request.path()) else {
            return Response::new(404).into();
        };
        let route = found.value();
        if request.body().len() > route.body_bytes_max {
            return Response::new(413).into();
        }
        let param = found.param("room").or_else(|| found.param("rest")).unwrap_or_default();
        let body = format!("{} {param}", route.name).into_bytes();
        Response::new(200).body("text/plain; charset=utf-8", body).into()
    }
}

fn site() -> TestServer {
    let config = patient().target_bytes_max(8_192).body_bytes_max(1_000);
    TestServer::start(1, config, |_| {
        let mut routes = Router::new();
        for (pattern, name, body_bytes_max) in [
            ("/ws", "ws", 0),
            ("/rooms/new", "new", 0),
            ("/rooms/{room}", "room", 10),
            ("/rooms/{room}/messages", "messages", 1_000),
            ("/files/{*rest}", "file", 0),
            ("/admin", "admin", 0),
        ] {
            routes.add(pattern, Route { name, body_bytes_max }).unwrap();
        }
        assert!(routes.add("/rooms/{other}", Route { name: "x", body_bytes_max: 0 }).is_err());
        Site { routes }
    })
}

#[test]
fn paths_that_look_like_others() {
    let server = site();
    let long = format!("/rooms/{}", "x".repeat(8_192 - "/rooms/".len()));
    let long_room = format!("room {}", "x".repeat(8_192 - "/rooms/".len()));
    let encoded = format!("/rooms/{}", "%2F".repeat(2_700));
    let encoded_room = format!("room {}", "/".repeat(2_700));
    let table: [(&str, u16, &str); 31] = [
        ("/rooms/new", 200, "new "),
        ("/rooms/new?room=old", 200, "new "),
        ("/rooms/newer", 200, "room newer"),
        ("/rooms/%6eew", 200, "room new"),
        ("/rooms/a%2Fmessages", 200, "room a/messages"),
        ("/rooms/a/messages", 200, "messages a"),
        ("/rooms/a%2fb/messages", 200, "messages a/b"),
        ("/rooms/..", 200, "room .."),
        ("/rooms/../admin", 404, ""),
        ("/rooms/%2e%2e%2fadmin", 200, "room ../admin"),
        ("/rooms/./messages", 200, "messages ."),
        ("/files/../admin", 200, "file ../admin"),
        ("/files/a//b/", 200, "file a//b/"),
        ("/files//", 200, "file /"),
        ("/files/%00", 200, "file \0"),
        ("/files/%", 200, "file %"),
        ("/files/%zz%4", 200, "file %zz%4"),
        ("/files/%ff%fe", 200, "file \u{fffd}\u{fffd}"),
        ("/files/%e2%82%ac", 200, "file \u{20ac}"),
        ("/files", 404, ""),
        ("/files/", 404, ""),
        ("/admin", 200, "admin "),
        ("/admin/", 404, ""),
        ("//admin", 404, ""),
        ("/Admin", 404, ""),
        ("/admin%2f", 404, ""),
        ("/%61dmin", 404, ""),
        ("/admin;x", 404, ""),
        ("http://a/admin", 200, "admin "),
        (&long, 200, &long_room),
        (&encoded, 200, &encoded_room),
    ];
    let mut client = server.connect();
    for (target, status, body) in table {
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        let response = client.read_response();
        let heard = str::from_utf8(&response.body).unwrap();
        assert_eq!((response.status, heard), (status, body), "{target}");
    }
    // What is no target at all, or a longer one.
    for (target, status) in [
        (format!("{long}x").as_str(), 414),
        ("admin", 400),
        ("*", 400),
        ("/a b", 400),
        ("/adm\u{e9}n", 400),
        ("/a\x7f", 400),
        ("/a#b", 400),
        ("", 400),
    ] {
        let mut client = server.connect();
        client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!(client.read_last_response().status, status, "{target}");
    }
}

/// A route's own limit, below that of the server.
#[test]
fn routes_have_limits_of_their_own() {
    let server = site();
    let mut client = server.connect();
    for (method, path, bytes, status) in [
        (Method::Post, "/rooms/a", 10, 200),
        (Method::Post, "/rooms/a", 11, 413),
        (Method::Put, "/rooms/a/messages", 1_000, 200),
        (Method::Post, "/rooms/new", 1, 413),
        (Method::Delete, "/rooms/new", 0, 200),
        (Method::Patch, "/nowhere", 1_000, 404),
    ] {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {bytes}\r\n\r\n");
        client.send(&[head.as_bytes(), &vec![b'b'; bytes]].concat());
        assert_eq!(client.read_response().status, status, "{method} {path} {bytes}");
    }
    // The server's own limit is before all of them.
    client.send(b"POST /rooms/a/messages HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n");
    assert_eq!(client.read_last_response().status, 413);
}

/// Handshakes find their route, too.
#[test]
fn handshakes_have_routes() {
    let server = site();
    for (target, status) in [("/ws", 101), ("/ws?x", 101), ("/ws/", 404), ("/%77s", 404)] {
        let mut client = server.connect();
        let request = String::from_utf8(harness::handshake()).unwrap();
        client.send(request.replace("GET / ", &format!("GET {target} ")).as_bytes());
        assert_eq!(client.read_status(), status, "{target}");
    }
}
