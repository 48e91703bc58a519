//! What hostile or unlucky peers may take of descriptors, memory and slots: a stated amount,
//! and all of it comes back. Each server that is measured is a process of its own.

mod harness;

use std::process::{self, Command};
use std::time::{Duration, Instant};

use harness::process::ServerProcess;
use harness::{Echo, RawClient, ServerFrame, TestServer, close, handshake, ping, text, wait_until};
use ringwire::{Config, Conn, Context, Handler, Offer, Request, Upgrade};

fn assert_echoes(client: &mut RawClient) {
    client.send(&text("echo"));
    assert_eq!(client.read_frame(), ServerFrame::text("echo"));
}

/// The test's own limit; should it not be raised, connecting says so.
fn raise_own_descriptor_limit(descriptors: usize) {
    let (pid, limit) = (process::id().to_string(), format!("--nofile={descriptors}:"));
    let _ = Command::new("prlimit").args(["--pid", &pid, &limit]).status();
}

/// A length that is announced costs nothing: 2,000 times 1 MiB do not (gobwas/ws#223,
/// GHSA-8r68-gvr4-jh7j).
#[test]
fn announced_lengths_take_no_memory() {
    const CONNECTIONS: usize = 2_000;
    const GROWTH_BYTES_MAX: usize = 64 << 20;
    let name = "announced_lengths_take_no_memory";
    let server = ServerProcess::start(name, "-n 4096", Config::new(), |_| Echo);
    raise_own_descriptor_limit(4_096);
    let mut clients: Vec<RawClient> = (0..CONNECTIONS).map(|_| server.open()).collect();
    let before = server.resident_bytes();
    // 1 MiB, in one frame, in a first fragment and in a continuation; then nothing of it.
    let length = (1_u64 << 20).to_be_bytes();
    let claim = |first: u8| [&[first, 0xFF][..], &length, &[1, 2, 3, 4]].concat();
    let empty_fragment = harness::frame(0x02, b"");
    let claims = [claim(0x82), claim(0x81), claim(0x01), [empty_fragment, claim(0x80)].concat()];
    for (client, claim) in clients.iter_mut().zip(claims.iter().cycle()) {
        client.send(&[ping(b"seen?"), claim.clone()].concat());
    }
    // The pong comes when the tick that has seen the claim ends.
    for client in &mut clients {
        assert_eq!(client.read_frame().first, 0x8A);
    }
    let growth = server.resident_bytes().saturating_sub(before);
    assert!(growth < GROWTH_BYTES_MAX, "{growth} bytes for {CONNECTIONS} claims of 1 MiB");
    assert_echoes(&mut server.open());
    drop(clients);
    let metrics = server.stop();
    assert!(metrics.contains("connections_now: 0,"), "{metrics}");
}

/// When descriptors run out, those that are connected are served; an upgrade is told to come
/// back, a request that ends is answered, and waiting takes no processor time.
#[test]
fn more_clients_than_descriptors() {
    const CLIENTS: usize = 200;
    const FIRST: usize = 20;
    let name = "more_clients_than_descriptors";
    let server = ServerProcess::start(name, "-n 64", Config::new(), |_| Echo);
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| server.connect()).collect();
    for client in &mut clients {
        client.send(&handshake());
    }
    // First come, first served.
    let mut open = Vec::new();
    for mut client in clients {
        let head = client.read_head();
        if head.starts_with("HTTP/1.1 101 ") {
            open.push(client);
        } else {
            assert!(head.starts_with("HTTP/1.1 503 "), "{head}");
            assert!(harness::header(&head, "Retry-After").is_some(), "{head}");
            assert_eq!(client.read_to_end(), b"");
        }
    }
    assert!((FIRST..60).contains(&open.len()), "{} are open", open.len());
    let before = server.cpu_ticks();
    std::thread::sleep(Duration::from_secs(1));
    let ticks = server.cpu_ticks() - before;
    assert!(ticks < 50, "half of a second's processor time is spent on waiting");
    // Those who say nothing hold what is beyond the limit for a short time only.
    let silent: Vec<RawClient> = (0..10).map(|_| server.connect()).collect();
    for _ in 0..20 {
        let mut client = server.connect();
        client.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.read_last_response().status, 200, "the handler's answer");
    }
    drop(silent);
    open.iter_mut().for_each(assert_echoes);
    // As soon as some have left, others may come.
    for _ in 0..FIRST {
        drop(open.pop());
    }
    wait_until("there is room again", || {
        let mut client = server.connect();
        client.send(&handshake());
        client.read_status() == 101
    });
    drop(open);
    let metrics = server.stop();
    assert!(!metrics.contains("connections_refused: 0,"), "{metrics}");
    assert!(metrics.contains("connections_now: 0,"), "{metrics}");
}

/// Connecting and vanishing, at every point and in every way, leaves nothing behind.
#[test]
fn churn_leaves_nothing() {
    const ROUNDS: usize = 100;
    let name = "churn_leaves_nothing";
    let server = ServerProcess::start(name, "-n 1024", Config::new(), |_| Echo);
    let unfinished = harness::binary(&[0; 30_000]);
    let openings: [&[u8]; 3] = [b"", &handshake()[..50], b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"];
    let descriptors = server.descriptors();
    let mut resident_bytes = 0;
    // Goes on for so many seconds, if asked to.
    let seconds = std::env::var("RINGWIRE_CHURN_SECONDS").map_or(0, |text| text.parse().unwrap());
    let until = Instant::now() + Duration::from_secs(seconds);
    let mut round = 0;
    while round < ROUNDS || Instant::now() < until {
        for opening in openings {
            let mut client = server.connect();
            client.send(opening);
            if round % 2 == 0 { drop(client) } else { client.reset() }
        }
        for bytes in [&text("unread")[..], &unfinished[..20_000], &harness::close(1000, "")] {
            let mut client = server.open();
            client.send(bytes);
            if round % 2 == 0 { client.reset() } else { drop(client) }
        }
        if round == ROUNDS / 10 {
            resident_bytes = server.resident_bytes();
        }
        round += 1;
        // Loopback has 28,000 ports, and a connection closed in order keeps its port for a minute.
        std::thread::sleep(Duration::from_millis(seconds.min(3)));
    }
    wait_until("all descriptors are closed", || server.descriptors() == descriptors);
    let growth = server.resident_bytes().saturating_sub(resident_bytes);
    assert!(growth < 16 << 20, "{growth} bytes more than after a tenth of it");
    assert_echoes(&mut server.open());
    let metrics = server.stop();
    // Who connects by TCP and resets without a word is never accepted (TCP_DEFER_ACCEPT).
    let silent = if harness::is_unix() { 0 } else { round / 2 };
    let accepted = format!("connections_accepted: {},", 6 * round + 1 - silent);
    assert!(metrics.contains(&accepted), "{accepted} {metrics}");
    assert!(metrics.contains("connections_now: 0,"), "{metrics}");
    assert!(metrics.contains("panics: 0,"), "{metrics}");
}

#[test]
fn more_connections_than_slots() {
    let config = Config::new().connections_max(3);
    let server = TestServer::start(1, config, |_| Echo);
    let mut open = vec![server.open(), server.open()];
    // A connection counts from the start, not from its handshake on.
    let opening = server.connect();
    let handle = server.handle();
    wait_until("all slots are taken", || handle.metrics().connections_now == 3);
    for refused in 1..=2 {
        server.connect().expect_gone();
        wait_until("it is counted", || handle.metrics().connections_refused == refused);
    }
    // An upgrade is told to come back, and a request that ends gets its answer.
    let mut upgrading = server.connect();
    upgrading.send(&handshake());
    let response = upgrading.read_last_response();
    assert_eq!((response.status, response.header("Retry-After")), (503, Some("5")));
    let mut asking = server.connect();
    asking.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(asking.read_last_response().status, 426, "the handler's answer");
    open.iter_mut().for_each(assert_echoes);
    drop(opening);
    drop((upgrading, asking));
    wait_until("a slot is free", || handle.metrics().connections_now == 2);
    open.push(server.open());
    open.iter_mut().for_each(assert_echoes);
    assert_eq!(handle.metrics().connections_accepted, 4);
}

/// Fewer receive buffers than connections that send at once: a receive that finds none is
/// armed again, and no byte is lost.
#[test]
fn more_input_than_receive_buffers() {
    let config = Config::new()
        .receive_buffer_bytes(512)
        .receive_buffers_min(1)
        .receive_buffers_max(2)
        .message_bytes_max(1 << 20);
    let name = "more_input_than_receive_buffers";
    let server = ServerProcess::start(name, "-c 0", config, |_| Echo);
    let mut clients: Vec<RawClient> = (0..20).map(|_| server.open()).collect();
    let payload = |client: usize| -> Vec<u8> { (0..100_000).map(|i| (i + client) as u8).collect() };
    let frames: Vec<_> = (0..20).map(|index| harness::binary(&payload(index))).collect();
    // All of them find the server at once; no more than a socket takes whose owner does not read.
    const FIRST_BYTES: usize = 40_000;
    server.stopped_for(Duration::ZERO, || {
        for (client, frame) in clients.iter_mut().zip(&frames) {
            client.send(&frame[..FIRST_BYTES]);
        }
    });
    for (client, frame) in clients.iter_mut().zip(&frames) {
        client.send(&frame[FIRST_BYTES..]);
    }
    for (index, client) in clients.iter_mut().enumerate() {
        let echo = client.read_frame();
        assert!(echo.payload == payload(index), "{echo:?}");
    }
    drop(clients);
    let metrics = server.stop();
    assert!(!metrics.contains("receives_unbuffered: 0,"), "there was a buffer for each: {metrics}");
}

/// More connections become readable at once than one tick takes: each is heard, and again when it
/// speaks again.
#[test]
fn a_thousand_that_are_readable_at_once() {
    const CONNECTIONS: usize = 1_000;
    let name = "a_thousand_that_are_readable_at_once";
    let server = ServerProcess::start(name, "-n 2048", Config::new(), |_| Echo);
    raise_own_descriptor_limit(4_096);
    let mut clients: Vec<RawClient> = (0..CONNECTIONS).map(|_| server.open()).collect();
    for round in 0..3 {
        let message = |index: usize| format!("{index} in round {round}");
        server.stopped_for(Duration::ZERO, || {
            for (index, client) in clients.iter_mut().enumerate() {
                client.send(&text(&message(index)));
            }
        });
        for (index, client) in clients.iter_mut().enumerate() {
            assert_eq!(client.read_past_pings(), ServerFrame::text(&message(index)));
        }
    }
    // And all of them are gone at once.
    let descriptors = server.descriptors();
    server.stopped_for(Duration::ZERO, || {
        for (index, client) in clients.drain(..).enumerate() {
            if index % 2 == 0 { client.reset() } else { drop(client) }
        }
    });
    wait_until("all are closed", || server.descriptors() + CONNECTIONS == descriptors);
    let metrics = server.stop();
    assert!(metrics.contains("messages_received: 3000,"), "{metrics}");
    assert!(metrics.contains("connections_now: 0,"), "{metrics}");
}

/// Rings so small that completions overflow them: slower, but nothing is lost.
#[test]
fn more_completions_than_fit() {
    const CLIENTS: usize = 100;
    let config = Config::new().submission_entries(1).completion_entries(2);
    let server = TestServer::start(1, config, |_| Echo);
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| server.open()).collect();
    for round in 0..20 {
        let message = format!("round {round}");
        for client in &mut clients {
            client.send(&text(&message));
        }
        for client in &mut clients {
            assert_eq!(client.read_frame(), ServerFrame::text(&message));
        }
    }
    drop(clients);
    server.wait_until_empty();
    server.assert_serves();
}

struct Subscriber;

impl Handler for Subscriber {
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

    fn on_open(&mut self, conn: &mut Conn<'_, Self>, _state: &mut ()) {
        conn.subscribe("everyone").unwrap();
    }
}

/// A publish to more subscribers than the completion queue has entries once filled it beyond them
/// before any was taken out, and so did a stop: each overflow ended receives.
#[test]
fn a_crowd_larger_than_the_completion_queue_does_not_overflow_it() {
    const CLIENTS: usize = 400;
    let config = Config::new().submission_entries(64).completion_entries(128);
    let server = TestServer::start(1, config, |_| Subscriber);
    let handle = server.handle();
    let mut clients: Vec<RawClient> = (0..CLIENTS).map(|_| server.open()).collect();
    for round in 0..24 {
        let message = format!("round {round}");
        handle.publish("everyone", message.as_str()).unwrap();
        for client in &mut clients {
            assert_eq!(client.read_frame(), ServerFrame::text(&message));
        }
    }
    assert_eq!(handle.metrics().completions_overflowed, 0, "publishing");
    let stopping = std::thread::spawn(move || server.stop());
    for client in &mut clients {
        assert_eq!(client.read_frame().close_code(), 1001);
        client.send(&close(1001, ""));
    }
    drop(clients);
    stopping.join().unwrap().unwrap();
    // An older kernel completes in one enter whatever is ready, however much that is: it keeps what
    // does not fit, and everybody has ended all the same.
    if kernel_release() >= (6, 14) {
        assert_eq!(handle.metrics().completions_overflowed, 0, "stopping");
    }
}

/// The first two numbers of the kernel's release.
fn kernel_release() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}
