//! What a peer may make grow, and what it may not.

use super::*;

#[test]
fn a_declared_length_grows_nothing() {
    // gobwas/ws, nats, fastwebsockets: memory was reserved for what a header only announced.
    let limits = IncomingLimits { message_bytes_max: usize::MAX, ..LIMITS };
    for declared in [1 << 20, 1 << 32, (1 << 62) - 1, (1 << 63) - 1] {
        for fin in [true, false] {
            let mut incoming = Incoming::new(Role::Server);
            feed_silently(&mut incoming, &bare_header(fin, Binary, declared), &limits);
            assert_eq!(incoming.buffered_bytes(), 0, "{declared} declared");
            feed_silently(&mut incoming, &[0; 10], &limits);
            assert!(incoming.is_mid_message());
            assert!(incoming.buffered_bytes() <= 20 + 4096);
        }
    }
}

#[test]
fn memory_follows_the_bytes_that_came() {
    /// For the header with which the message can be sent on.
    const ROOM_BYTES: usize = 10;
    let limits = IncomingLimits { message_bytes_max: 1 << 20, ..LIMITS };
    let mut incoming = Incoming::new(Role::Server);
    feed_silently(&mut incoming, &bare_header(true, Binary, 100_000), &limits);
    for pieces in 1..100 {
        feed_silently(&mut incoming, &[0; 1000], &limits);
        let factor = if 1000 * pieces < SPARSE_BYTES - ROOM_BYTES { 2 } else { 8 };
        assert!(incoming.buffered_bytes() <= factor * (1000 * pieces + ROOM_BYTES));
        assert!(incoming.buffered_bytes() <= 100_000 + ROOM_BYTES, "no more than is needed");
    }
    let mut input = [0; 1000];
    let mut events = incoming.receive(&mut input, &limits);
    let Some(Ok(Event::Message(message))) = events.next() else { panic!("the message is whole") };
    assert_eq!(message.len(), 100_000);
    drop(events);
    assert_eq!((incoming.buffered_bytes(), incoming.is_idle()), (0, true));
}

#[test]
fn pings_cut_in_two_do_not_move_a_long_message_again_and_again() {
    let limits = IncomingLimits { message_bytes_max: 1 << 20, ..LIMITS };
    let mut incoming = Incoming::new(Role::Server);
    feed_silently(&mut incoming, &frames(&[(false, Binary, &[1; 100_000])]), &limits);
    feed_silently(&mut incoming, &frames(&[(false, Continuation, &[1; 700_000])]), &limits);
    assert!(incoming.buffered_bytes() <= (1 << 20) + 256);
    let mut capacities = vec![incoming.buffered_bytes()];
    for _ in 0..50 {
        let stream = frames(&[(true, Ping, &[2; 125]), (false, Continuation, &[1; 125])]);
        let (start, rest) = stream.split_at(100);
        feed_silently(&mut incoming, start, &limits);
        let mut rest = rest.to_vec();
        let mut events = incoming.receive(&mut rest, &limits);
        assert_eq!(events.next(), Some(Ok(Event::Ping(&[2; 125]))));
        assert_eq!(events.next(), None);
        capacities.push(incoming.buffered_bytes());
    }
    capacities.dedup();
    assert!(capacities.len() <= 2, "grew {} times", capacities.len() - 1);
}

#[test]
fn too_big_is_known_from_the_header_alone() {
    let cases: [(bool, u64); 4] =
        [(true, 1001), (false, 1001), (true, (1 << 63) - 1), (false, 1 << 62)];
    for (fin, declared) in cases {
        assert_eq!(fails(&bare_header(fin, Text, declared)), Some(ProtocolError::MessageTooBig));
    }
    // The sum over fragments, up to where it would wrap.
    for declared in [401, (1 << 63) - 600, (1 << 63) - 1] {
        let mut stream = frames(&[(false, Text, &[b'x'; 600])]);
        stream.extend(bare_header(true, Continuation, declared));
        assert_eq!(fails(&stream), Some(ProtocolError::MessageTooBig));
    }
    let stream = frames(&[(false, Text, &[b'x'; 600]), (true, Continuation, &[b'x'; 400])]);
    assert_eq!(hear_whole(&stream), Ok(vec![Heard::Text(vec![b'x'; 1000])]));
}

#[test]
fn lengths_that_were_negative_elsewhere_are_refused() {
    // nats CVE-2026-27889, undici CVE-2026-1528, gorilla CVE-2020-27813: 15 bytes that crashed.
    let lengths = [
        (1 << 63, ProtocolError::LengthOutOfRange),
        (u64::MAX, ProtocolError::LengthOutOfRange),
        ((1 << 63) - 1, ProtocolError::MessageTooBig),
        // websocket-driver CVE-2026-54466: a float would have rounded it.
        ((1 << 53) + 1, ProtocolError::MessageTooBig),
    ];
    for (length, error) in lengths {
        assert_eq!(fails(&bare_header(true, Binary, length)), Some(error));
        let mut stream = frames(&[(false, Binary, b"a")]);
        stream.extend(bare_header(true, Continuation, length));
        assert_eq!(fails(&stream), Some(error));
    }
}

#[test]
fn fragments_as_small_as_their_charge_pass_and_smaller_ones_run_out() {
    // 1000 bytes may cost 2000 and 64 free charges of 8: in pieces of 5 they just do not.
    let in_pieces = |piece_bytes: usize| {
        let mut stream = frames(&[(false, Binary, b"")]);
        for at in (0..1000).step_by(piece_bytes) {
            let end = (at + piece_bytes).min(1000);
            stream.extend(frames(&[(end == 1000, Continuation, &vec![7; end - at])]));
        }
        hear_whole(&stream)
    };
    for piece_bytes in [1000, 100, 8, 6] {
        assert_eq!(in_pieces(piece_bytes), Ok(vec![Heard::Binary(vec![7; 1000])]));
    }
    for piece_bytes in [1, 2, 4, 5] {
        assert_eq!(in_pieces(piece_bytes), Err((vec![], ProtocolError::TooManyFragments)));
    }
}

#[test]
fn endless_empty_fragments_and_a_million_single_bytes_are_cut_off() {
    // ws CVE-2026-48779 and ws#2331: a limit of 16 MiB, defaults otherwise.
    let limits = IncomingLimits { message_bytes_max: 16 << 20, ..IncomingLimits::default() };
    for payload in [&b""[..], b"x"] {
        let mut incoming = Incoming::new(Role::Server);
        feed_silently(&mut incoming, &frames(&[(false, Binary, b"")]), &limits);
        let fragment = frames(&[(false, Continuation, payload)]);
        let failed = (0..1_000_000).find_map(|_| {
            incoming.receive(&mut fragment.clone(), &limits).next().map(|event| event.is_err())
        });
        assert_eq!(failed, Some(true));
    }
}

#[test]
fn the_fragments_autobahn_sends_are_admitted() {
    // Autobahn 9.3.1: 4 MiB in 64-byte fragments, against a limit of 16 MiB.
    let limits = IncomingLimits { message_bytes_max: 16 << 20, ..IncomingLimits::default() };
    let mut stream = frames(&[(false, Text, &[b'*'; 64])]);
    for _ in 2..65_536 {
        stream.extend(frames(&[(false, Continuation, &[b'*'; 64])]));
    }
    stream.extend(frames(&[(true, Continuation, &[b'*'; 64])]));
    let heard = hear(Role::Server, &limits, &stream, 10_000).unwrap();
    assert!(matches!(&heard[..], [Heard::Text(text)] if text.len() == 4 << 20));
}

#[test]
fn limits_without_bounds_do_not_overflow() {
    let limits =
        IncomingLimits { message_bytes_max: usize::MAX, fragment_charge_bytes: usize::MAX };
    let stream = frames(&[(false, Text, b"a"), (true, Continuation, b"b")]);
    assert_eq!(hear(Role::Server, &limits, &stream, 3), Ok(vec![Heard::Text(b"ab".to_vec())]));
    let none = IncomingLimits { message_bytes_max: 0, fragment_charge_bytes: 0 };
    let stream = frames(&[(true, Text, b""), (false, Text, b""), (true, Continuation, b"")]);
    let empty = Heard::Text(vec![]);
    assert_eq!(hear(Role::Server, &none, &stream, 9), Ok(vec![empty.clone(), empty]));
}

/// What a fragmented message reserves follows what came, and ends at the limit.
#[test]
fn fragments_reserve_twice_what_came_at_most_and_never_beyond_the_limit() {
    const LIMIT: usize = 1 << 20;
    let limits = IncomingLimits { message_bytes_max: LIMIT, fragment_charge_bytes: 0 };
    for piece_bytes in [1_000, 20_000, 300_000] {
        let mut incoming = Incoming::new(Role::Server);
        let mut came_bytes = 0;
        while came_bytes < LIMIT {
            let payload = vec![0; piece_bytes.min(LIMIT - came_bytes)];
            let opcode = if came_bytes == 0 { Binary } else { Opcode::Continuation };
            let mut input = frame(Role::Server, false, opcode, &payload);
            assert_eq!(incoming.receive(&mut input, &limits).next(), None);
            came_bytes += payload.len();
            assert!(incoming.buffered_bytes() <= 2 * came_bytes + 4_096, "{came_bytes} came");
            assert!(incoming.buffered_bytes() <= LIMIT + 256, "{came_bytes} came");
        }
        // A ping in between fits into what is set aside beside the message.
        let before = incoming.buffered_bytes();
        let mut ping = frame(Role::Server, true, Opcode::Ping, &[1; 125]);
        let (first, second) = ping.split_at_mut(50);
        assert_eq!(incoming.receive(first, &limits).next(), None);
        assert!(incoming.receive(second, &limits).next().is_some());
        assert!(incoming.buffered_bytes() <= before.max(LIMIT + 256));
    }
}
