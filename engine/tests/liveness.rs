//! Peers that are silent, slow, or too eager with control frames, and the deadline or limit
//! each of them meets. Deadlines under test are short, or so long (`NEVER_MS`) that waiting
//! for them would fail the test; how soon one fires is never asserted.

mod harness;

use std::time::Duration;

use harness::recorder::{Acts, recorded};
use harness::{NEVER_MS, ServerFrame, binary, frame, patient, ping, text};
use ringwire::SendStatus;

#[test]
fn floods_of_control_frames() {
    let (server, calls) = recorded(patient(), Acts::default());
    let between_fragments = [frame(0x01, b"a"), ping(b"b").repeat(1_000)].concat();
    let floods: [(&str, Vec<u8>); 5] = [
        ("empty pings", ping(b"").repeat(1_000)),
        ("long pings", ping(&[b'p'; 125]).repeat(1_000)),
        ("pongs", frame(0x8A, b"").repeat(1_000)),
        ("both in turn", [ping(b""), frame(0x8A, b"")].concat().repeat(500)),
        ("between fragments", between_fragments),
    ];
    for (name, flood) in floods {
        println!("flood: {name}");
        let mut client = server.open();
        client.send(&flood);
        // Up to the limit they are answered.
        let answers = std::iter::from_fn(|| {
            let frame = client.read_frame();
            (frame.first == 0x8A).then_some(frame)
        });
        let pongs = answers.take(1_000).count();
        assert!(pongs < 1_000, "all of them were answered");
        assert_eq!(client.read_to_end(), b"");
        assert_eq!(calls.next_close(), (1008, "too many control frames".to_owned()));
        server.assert_serves();
        assert_eq!(calls.next_close().0, 1006, "that of assert_serves");
    }
}

/// What was asked for is free, however often it is: pongs to the application's own pings. Beyond
/// these they count.
#[test]
fn pongs_that_were_asked_for() {
    const PINGS: usize = 2_000;
    let acts = Acts {
        message: |conn, message| {
            if message.payload() == b"ping" {
                (0..PINGS).for_each(|_| assert_ne!(conn.ping(b"p"), SendStatus::Dropped));
            }
            conn.send("pinged");
        },
        ..Acts::default()
    };
    let (server, calls) = recorded(patient(), acts);
    let mut client = server.open();
    for _ in 0..2 {
        client.send(&text("ping"));
        for _ in 0..PINGS {
            assert_eq!(client.read_frame(), ServerFrame { first: 0x89, payload: b"p".to_vec() });
        }
        assert_eq!(client.read_frame(), ServerFrame::text("pinged"));
        client.send(&[frame(0x8A, b"p").repeat(PINGS), text("all answered")].concat());
        assert_eq!(client.read_frame(), ServerFrame::text("pinged"));
    }
    assert_eq!(server.handle().metrics().violations, 0);
    client.send(&frame(0x8A, b"p").repeat(PINGS));
    client.expect_close(1008);
    assert_eq!(calls.next_close(), (1008, "too many control frames".to_owned()));
}

/// What a peer has waiting when its network has stalled comes at once, and is no flood.
#[test]
fn control_frames_of_a_peer_that_was_stalled() {
    let (server, _calls) = recorded(patient(), Acts::default());
    for (name, waiting) in [("pings", ping(b"p")), ("pongs", frame(0x8A, b"p"))] {
        println!("waiting: {name}");
        let mut client = server.open();
        let burst = [waiting.repeat(120), text("behind them")].concat();
        client.send(&burst.repeat(2));
        for _ in 0..2 {
            for _ in 0..if name == "pings" { 120 } else { 0 } {
                assert_eq!(
                    client.read_frame(),
                    ServerFrame { first: 0x8A, payload: b"p".to_vec() }
                );
            }
            assert_eq!(client.read_frame(), ServerFrame::text("behind them"));
        }
    }
    assert_eq!(server.handle().metrics().violations, 0);
}

/// Without a limit, pongs are bounded by the write buffer: those in the middle may be left
/// out, the newest is answered (RFC 6455 §5.5.3). It used to be forgotten unless a message
/// had filled the buffer.
#[test]
fn the_newest_of_many_pings_is_answered() {
    let config = patient().control_frames_per_second_max(0).write_bytes_mark(1_000);
    let (server, _calls) = recorded(config, Acts::default());
    let mut client = server.open();
    let flood: Vec<u8> = (0..2_000).flat_map(|i| ping(format!("{i:0125}").as_bytes())).collect();
    client.send(&flood);
    let newest = format!("{:0125}", 1_999).into_bytes();
    let is_newest = |frame: ServerFrame| {
        assert_eq!(frame.first, 0x8A);
        frame.payload == newest
    };
    assert!((0..2_000).any(|_| is_newest(client.read_frame())));
    client.send(&text("echo"));
    assert_eq!(client.read_frame(), ServerFrame::text("echo"));
}

#[test]
fn a_peer_that_never_answers_pings() {
    let config = patient().ping_interval_ms(100).pong_timeout_ms(200);
    let (server, calls) = recorded(config, Acts::default());
    let mut client = server.open();
    assert_eq!(client.read_frame(), ServerFrame { first: 0x89, payload: vec![] });
    client.expect_close(1011);
    assert_eq!(calls.next_close(), (1011, "ping timeout".to_owned()));
}

/// Whatever the peer sends answers a ping: it is there.
#[test]
fn a_peer_that_answers_stays() {
    let config = patient().ping_interval_ms(50).pong_timeout_ms(10_000);
    let (server, calls) = recorded(config, Acts::default());
    let mut client = server.open();
    for round in 0..6 {
        assert_eq!(client.read_frame().first, 0x89);
        match round % 3 {
            0 => client.send(&frame(0x8A, b"")),
            1 => client.send(&frame(0x8A, b"not what was asked")),
            _ => {
                client.send(&text("hello"));
                assert_eq!(client.read_frame(), ServerFrame::text("hello"));
            }
        }
    }
    drop(client);
    assert_eq!(calls.next_close().0, 1006);
}

/// The idle timeout is kept from the start, although the first deadline of a connection is
/// that of its handshake. It used to be looked at only when that one had passed.
#[test]
fn a_peer_that_says_nothing() {
    let config = patient().idle_timeout_ms(200);
    let (server, calls) = recorded(config, Acts::default());
    let mut silent = server.open();
    silent.expect_close(1001);
    assert_eq!(calls.next_close(), (1001, "idle timeout".to_owned()));
    let mut silent_after_a_while = server.open();
    silent_after_a_while.send(&text("hello"));
    assert_eq!(silent_after_a_while.read_frame(), ServerFrame::text("hello"));
    silent_after_a_while.expect_close(1001);
}

/// Bytes that come one by one keep the connection from being idle, not the message from being
/// late.
#[test]
fn a_message_that_drips() {
    let config = patient().message_timeout_ms(300).idle_timeout_ms(NEVER_MS);
    let (server, calls) = recorded(config, Acts::default());
    let long = binary(&[0; 60_000]);
    let fragment = frame(0x00, &[0; 60_000]);
    let fragments = [frame(0x02, b"a"), frame(0x8A, b"pong"), fragment].concat();
    let control = frame(0x8A, &[0; 125]);
    // What is sent, and how much of it at once.
    let messages: [(&str, &[u8], usize); 4] = [
        ("from its first byte", &long, 0),
        ("in its payload", &long, 5_000),
        ("in its second fragment", &fragments, 30),
        ("a control frame", &control, 1),
    ];
    for (name, message, at_once) in messages {
        println!("dripping: {name}");
        let mut client = server.open();
        client.send(&message[..at_once]);
        client.drip_until_answered(message[at_once..].iter().copied().take(1_500));
        client.expect_close(1008);
        assert_eq!(calls.next_close(), (1008, "message timeout".to_owned()));
    }
    let mut between_fragments = server.open();
    between_fragments.send(&frame(0x02, b"a"));
    between_fragments.expect_close(1008);
    server.assert_serves();
}

/// Each message has its own deadline, also when they follow each other so closely that there
/// is never none under way. The first one's used to be counted for all, and so a busy
/// connection was closed.
#[test]
fn a_stream_of_messages_that_are_never_late() {
    let config = patient().message_timeout_ms(1_500);
    let (server, _calls) = recorded(config, Acts::default());
    let mut client = server.open();
    let (start, end) = {
        let message = text("in two pieces");
        let (start, end) = message.split_at(9);
        (start.to_vec(), end.to_vec())
    };
    client.send(&start);
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        client.send(&[&end[..], &start].concat());
        assert_eq!(client.read_frame(), ServerFrame::text("in two pieces"));
    }
}

/// A ping that waits for its answer does not put off what is due before the answer is.
#[test]
fn an_unanswered_ping_delays_no_other_deadline() {
    let pinging = patient().ping_interval_ms(50).pong_timeout_ms(NEVER_MS);
    let (server, calls) = recorded(pinging.clone().idle_timeout_ms(300), Acts::default());
    let mut client = server.open();
    assert_eq!(client.read_frame().first, 0x89);
    client.expect_close(1001);
    assert_eq!(calls.next_close().1, "idle timeout");

    let config = pinging.message_timeout_ms(300);
    let (server, calls) = recorded(config, Acts::default());
    let mut client = server.open();
    client.send(&frame(0x01, b"begun"));
    assert_eq!(client.read_frame().first, 0x89);
    client.expect_close(1008);
    assert_eq!(calls.next_close().1, "message timeout");
}

/// A slow peer is not a dead one.
#[test]
fn a_message_that_takes_its_time_but_comes() {
    let config = patient().message_timeout_ms(20_000).idle_timeout_ms(20_000);
    let (server, _calls) = recorded(config, Acts::default());
    let mut client = server.open();
    let message = text(&"slow ".repeat(40));
    let (begin, end) = message.split_at(message.len() - 1);
    for byte in begin {
        client.send(&[*byte]);
        std::thread::sleep(Duration::from_millis(2));
    }
    client.send(end);
    assert_eq!(client.read_frame(), ServerFrame::text(&"slow ".repeat(40)));
}
