//! Plain HTTP by a client that was not written here: `ureq`, which keeps connections open, sends
//! bodies in chunks and waits for 100.

mod harness;

use std::io::Cursor;

use harness::{PATIENCE, TestServer, patient};
use ringwire::{Context, Handler, Offer, Reply, Request, Response, Upgrade};
use ureq::{Agent, SendBody};

/// Says what was asked, at once or later.
struct Witness;

impl Handler for Witness {
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

    fn on_request(&mut self, cx: &mut Context<'_, Self>, request: &Request<'_>) -> Reply {
        let body = request.body();
        let sum =
            body.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte as u32));
        let (method, path) = (request.method(), request.path());
        let said = format!("{method} {path} {} {sum}", body.len()).into_bytes();
        let response = Response::new(200).body("text/plain", said);
        if path != "/later" {
            return response.into();
        }
        let ticket = cx.ticket();
        let reply = Reply::later(&ticket);
        std::thread::spawn(move || ticket.respond(response));
        reply
    }
}

fn expected(method: &str, path: &str, body: &[u8]) -> String {
    let sum = body.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte as u32));
    format!("{method} {path} {} {sum}", body.len())
}

#[test]
fn a_client_asks_for_one_thing_after_the_other() {
    let config = patient().body_bytes_max(300_000);
    let server = TestServer::start(1, config, |_| Witness);
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .into();
    let url = |path: &str| format!("http://{}{path}", server.addr());
    let bytes: Vec<u8> = (0..300_000u32).map(|number| (number % 251) as u8).collect();
    for path in ["/", "/later", "/a%20b?c"] {
        let path_only = path.split('?').next().unwrap();
        let mut response = agent.get(url(path)).call().unwrap();
        let said = response.body_mut().read_to_string().unwrap();
        assert_eq!(said, expected("GET", path_only, b""));
        assert_eq!(agent.head(url(path)).call().unwrap().status(), 200);
        for length in [0, 1, 65_536, 300_000] {
            let body = &bytes[..length];
            let mut response = agent.post(url(path)).send(body).unwrap();
            let said = response.body_mut().read_to_string().unwrap();
            assert_eq!(said, expected("POST", path_only, body), "{length}");
            let mut reader = Cursor::new(body);
            let chunked = SendBody::from_reader(&mut reader);
            let mut response = agent.put(url(path)).send(chunked).unwrap();
            let said = response.body_mut().read_to_string().unwrap();
            assert_eq!(said, expected("PUT", path_only, body), "{length} in chunks");
            let waiting = agent.patch(url(path)).header("Expect", "100-continue");
            let mut response = waiting.send(body).unwrap();
            let said = response.body_mut().read_to_string().unwrap();
            assert_eq!(said, expected("PATCH", path_only, body), "{length} after 100");
        }
        let mut response = agent.delete(url(path)).call().unwrap();
        let said = response.body_mut().read_to_string().unwrap();
        assert_eq!(said, expected("DELETE", path_only, b""));
    }
    let metrics = server.handle().metrics();
    assert_eq!((metrics.connections_accepted, metrics.handshakes_refused), (1, 0), "kept open");
    // Refused while it waits for 100, so that nothing of it is sent.
    let refused =
        agent.post(url("/")).header("Expect", "100-continue").send(&[7; 300_001][..]).unwrap();
    assert_eq!(refused.status(), 413);
    let mut response = agent.get(url("/")).call().unwrap();
    assert_eq!(response.body_mut().read_to_string().unwrap(), expected("GET", "/", b""));
    assert_eq!(server.handle().metrics().connections_accepted, 2);
}
