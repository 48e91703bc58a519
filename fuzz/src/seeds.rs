//! The seeds of the corpora: small inputs that reach each part of what is fuzzed.
//!
//! Never random: the same seeds every time, so that the files can be compared with them.

use ringwire_proto::{Header, Opcode, client_request, mask};

/// One input of one target's corpus.
#[derive(Clone, Debug)]
pub struct Seed {
    /// The target whose corpus it is in.
    pub target: &'static str,
    /// What it is, a part of its file name.
    pub name: String,
    /// The input.
    pub bytes: Vec<u8>,
}

/// Role and limit in front of the streams of `frame` and `cuts`: the limit is 255 times 16 bytes.
const SERVER: [u8; 2] = [0, 255];
const CLIENT: [u8; 2] = [1, 255];

/// Limit and pieces in front of the streams of `differential`: the limit of the others, or 160
/// bytes; all in one piece, or three bytes at a time.
const WHOLE: [u8; 2] = [255, 0];
const WHOLE_SMALL: [u8; 2] = [10, 0];
const IN_PIECES: [u8; 2] = [255, 3];

/// The mask key of the RFC's examples (RFC 6455 §5.7).
const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// All seeds.
pub fn seeds() -> Vec<Seed> {
    let mut all = Vec::new();
    for (name, frames) in streams() {
        let server = stream(&frames, Some(KEY));
        let client = stream(&frames, None);
        // Cuts: three pieces of 1, 2 and 5 bytes, then the rest.
        all.push(seed("cuts", name, &[&SERVER, &[3, 1, 2, 5], &server]));
        all.push(seed("frame", name, &[&SERVER, &server]));
        all.push(seed("frame", &format!("{name}-unmasked"), &[&CLIENT, &client]));
        all.push(seed("differential", name, &[&IN_PIECES, &server]));
    }
    for (name, frames) in disputed_streams() {
        all.push(seed("differential", name, &[&WHOLE_SMALL, &stream(&frames, Some(KEY))]));
    }
    for (name, bytes) in DISPUTED_FRAMES {
        all.push(seed("differential", name, &[&WHOLE, bytes]));
    }
    for (name, bytes) in violations() {
        all.push(seed("cuts", name, &[&SERVER, &[3, 1, 2, 5], bytes]));
        all.push(seed("frame", name, &[&SERVER, bytes]));
    }
    all.extend(heads().iter().map(|(name, head)| seed("handshake", name, &[head])));
    for (name, requests) in REQUESTS {
        all.push(seed("http_body", name, &[&IN_CUTS, requests]));
    }
    for (name, body) in CHUNKED_BODIES {
        all.push(seed("http_body", name, &[&CHUNKED_IN_CUTS, body]));
    }
    all.push(seed("http_body", "length", &[&[5, 1, 2, 1, 3], b"0123456789abcdefGET /"]));
    all.push(seed("http_body", "length-over-limit", &[&[3, 1, 2, 0], b"0123456789abcdef"]));
    for (name, payload) in CLOSE_PAYLOADS {
        all.push(seed("close_payload", name, &[payload]));
    }
    for (name, cut, bytes) in [("empty", 0, 0), ("word", 3, 8), ("tail", 9, 21), ("long", 64, 130)]
    {
        all.push(seed("mask", name, &[&[cut, 1], &KEY, &vec![b'm'; bytes]]));
    }
    all.extend(choices().iter().map(|(name, choices)| seed("shard", name, &[choices])));
    all
}

fn seed(target: &'static str, name: &str, parts: &[&[u8]]) -> Seed {
    Seed { target, name: name.into(), bytes: parts.concat() }
}

type Frame = (bool, Opcode, Vec<u8>);

/// Streams of frames that keep the rules.
fn streams() -> Vec<(&'static str, Vec<Frame>)> {
    use Opcode::{Binary, Close, Continuation, Ping, Pong, Text};
    let bye = [&1000u16.to_be_bytes()[..], b"bye"].concat();
    vec![
        ("text", vec![(true, Text, b"Hello".to_vec())]),
        ("empty", vec![(true, Text, vec![]), (true, Binary, vec![])]),
        ("length-126", vec![(true, Binary, vec![7; 126])]),
        ("three", vec![(true, Text, "é".into()), (true, Binary, vec![1]), (true, Pong, vec![])]),
        (
            "fragments",
            vec![
                (false, Text, b"H".to_vec()),
                (true, Ping, b"between".to_vec()),
                (false, Continuation, vec![]),
                (true, Continuation, b"ello".to_vec()),
            ],
        ),
        (
            "character-split",
            vec![(false, Text, vec![0xf0, 0x9f]), (true, Continuation, vec![0x98, 0x80])],
        ),
        ("character-unfinished", vec![(true, Text, vec![0xe2, 0x82])]),
        ("surrogate", vec![(false, Text, vec![0xed, 0xa0, 0x80])]),
        ("close-empty", vec![(true, Close, vec![]), (true, Text, b"ignored".to_vec())]),
        ("close", vec![(false, Binary, vec![1]), (true, Close, bye)]),
        ("close-code-bad", vec![(true, Close, vec![0x03, 0xed])]),
        ("too-big", vec![(true, Binary, vec![0; 4081])]),
        ("empty-fragments", {
            let mut frames = vec![(false, Continuation, vec![]); 200];
            frames[0].1 = Text;
            frames
        }),
    ]
}

/// Streams about which implementations disagree, and two at the limit, where they must not.
fn disputed_streams() -> Vec<(&'static str, Vec<Frame>)> {
    use Opcode::{Binary, Close, Continuation, Pong, Text};
    let close = |code: u16, reason: &str| [&code.to_be_bytes(), reason.as_bytes()].concat();
    vec![
        ("close-1004", vec![(true, Close, close(1004, "reserved"))]),
        ("close-1014", vec![(true, Close, close(1014, "gateway"))]),
        ("close-too-long", vec![(true, Close, close(1000, &"x".repeat(124)))]),
        ("pong-too-long", vec![(true, Pong, vec![0; 126])]),
        ("at-limit", vec![(true, Binary, vec![0; 160])]),
        (
            "fragments-at-limit",
            vec![(false, Binary, vec![0; 80]), (true, Continuation, vec![0; 80])],
        ),
        (
            "fragments-too-big",
            vec![(false, Binary, vec![0; 100]), (true, Continuation, vec![0; 100])],
        ),
        (
            "message-replaced",
            vec![
                (false, Text, b"a".into()),
                (false, Binary, b"b".into()),
                (true, Continuation, vec![]),
            ],
        ),
        (
            "character-unfinished-in-fragments",
            vec![(false, Text, b"a\xe2".into()), (true, Continuation, b"\x82".into())],
        ),
    ]
}

/// The same for frames that no encoder of ours would write, each of them whole.
const DISPUTED_FRAMES: [(&str, &[u8]); 5] = [
    ("mask-missing", &[0x81, 0x01, b'x']),
    ("length-not-minimal", &[0x82, 0xfe, 0, 1, 0, 0, 0, 0, b'x']),
    ("length-8-not-minimal", &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'x']),
    ("ping-length-not-minimal", &[0x89, 0xfe, 0, 1, 0, 0, 0, 0, b'x']),
    // The bad code comes first, but others look at the reason first.
    ("close-code-and-reason-bad", &[0x88, 0x83, 0, 0, 0, 0, 0x03, 0xed, 0xff]),
];

/// Starts of frames that break a rule in the header.
fn violations() -> [(&'static str, &'static [u8]); 9] {
    [
        ("reserved-bit", &[0xc1, 0x80]),
        ("reserved-opcode", &[0x83]),
        ("ping-fragmented", &[0x09, 0x80]),
        ("ping-too-long", &[0x89, 0xfe]),
        ("mask-missing", &[0x81, 0x00]),
        ("length-2-not-minimal", &[0x82, 0xfe, 0, 125]),
        ("length-8-not-minimal", &[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]),
        ("length-top-bit", &[0x82, 0xff, 0x80]),
        ("length-2-to-63", &[0x82, 0xff, 0x7f, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 0]),
    ]
}

fn stream(frames: &[Frame], key: Option<[u8; 4]>) -> Vec<u8> {
    let mut out = Vec::new();
    for (fin, opcode, payload) in frames {
        let payload_bytes = payload.len() as u64;
        Header { fin: *fin, rsv: 0, opcode: *opcode, mask: key, payload_bytes }.append(&mut out);
        let payload_start = out.len();
        out.extend_from_slice(payload);
        mask::unmask(&mut out[payload_start..], key.unwrap_or_default());
    }
    out
}

/// Heads that are accepted, and near misses.
fn heads() -> Vec<(&'static str, Vec<u8>)> {
    let mut upgrade = Vec::new();
    client_request(&mut upgrade, "a.example", "/ws?a=b%20c", [7; 16], &["chat", "v2"], &[])
        .expect("every part may be sent");
    let text = String::from_utf8(upgrade.clone()).expect("a request is text");
    let with = |from: &str, to: &str| text.replace(from, to).into_bytes();
    vec![
        ("upgrade", upgrade),
        ("plain", b"HEAD http://a.example/x HTTP/1.1\r\nHost: a.example\r\n\r\n".to_vec()),
        ("version-8", with("Version: 13", "Version: 8")),
        ("key-short", with("Key: B", "Key: ")),
        ("connection-list", with("Connection: Upgrade", "Connection: keep-alive, upgrade")),
        ("connection-substring", with("Connection: Upgrade", "Connection: noupgrade")),
        ("protocol-empty", with("chat, v2", "chat,, v2")),
        ("protocol-twice", with("chat, v2", "chat, chat")),
        ("extensions", with("Host:", "Sec-WebSocket-Extensions: ;;\"=, x;y=\"\r\nHost:")),
        ("host-twice", with("Host: ", "Host: b\r\nHost: ")),
        ("origin", with("Host: ", "Origin: http://a.example\r\nHost: ")),
        ("length-twice", with("Host: ", "Content-Length: 0\r\nContent-Length: 1\r\nHost: ")),
        ("chunked", with("Host: ", "Transfer-Encoding: chunked\r\nHost: ")),
        ("line-feed-bare", with("\r\nHost", "\nHost")),
        ("fold", with("Host: ", "Host:\r\n ")),
        ("high-bytes", with("chat", "\u{80}\u{ff}")),
        ("origin-null", with("Host: ", "Origin: null\r\nHost: ")),
        ("origin-https", with("Host: ", "Origin: https://a.example:443\r\nHost: ")),
        ("protocol-none", with("chat, v2", ", ,")),
        ("connection-commas", with("Connection: Upgrade", "Connection: ,, keep-alive,,upgrade,")),
        ("proxy-http10", {
            let lost =
                text.replace("Upgrade: websocket\r\nConnection: Upgrade", "Connection: close");
            lost.replace("HTTP/1.1", "HTTP/1.0").into_bytes()
        }),
        ("proxy-no-upgrade", with("Upgrade: websocket\r\n", "")),
        ("target-no-path", with("/ws?a=b%20c", "ws://b.example:80?next=/ws")),
        ("target-user", with("/ws", "http://a@b.example/ws")),
        ("target-in-query", with("/ws", "x?u=http://b.example/ws")),
        ("target-v6", with("/ws", "HTTPS://[2001:db8::1]:443/ws")),
        ("options", b"OPTIONS * HTTP/1.0\r\n\r\n".to_vec()),
        ("host-port", with("a.example", "a.example:65536")),
        (
            "response",
            b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
    ]
}

/// Limit, kind, length and cuts in front of the streams of `http_body`: bodies of 80 bytes, in
/// pieces of 5 and 11 bytes in turn.
const IN_CUTS: [u8; 6] = [20, 0, 0, 2, 5, 11];
const CHUNKED_IN_CUTS: [u8; 6] = [20, 1, 0, 2, 5, 11];

/// Requests one behind the other.
const REQUESTS: [(&str, &[u8]); 12] = [
    ("post", b"POST /r HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nroom"),
    (
        "post-chunked",
        b"POST /r HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nroom\r\n0\r\n\r\n",
    ),
    (
        "pipelined",
        b"PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n\
          DELETE /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nt: u\r\n\r\n\
          PATCH /d HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nyGET /e",
    ),
    (
        "body-like-a-request",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n",
    ),
    (
        "expect",
        b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    ),
    (
        "both",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    ("get-with-body", b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nx"),
    ("gzip", b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ("chunked-in-http10", b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ("post-in-http10", b"POST / HTTP/1.0\r\nContent-Length: 2\r\n\r\nabGET / HTTP/1.0\r\n\r\n"),
    ("length-list", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\nx"),
    ("too-long", b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 81\r\n\r\nx"),
];

/// Bodies in chunks, and what is nearly one.
const CHUNKED_BODIES: [(&str, &[u8]); 10] = [
    ("chunks", b"4\r\nroom\r\n00a\r\n0123456789\r\n0\r\n\r\nGET /"),
    ("chunk-extensions", b"1;a\r\nx\r\n1 ; b = \"c\"\r\ny\r\n0;d\r\n\r\n"),
    ("chunk-trailers", b"0\r\nDigest: x\r\nA:\r\n\r\n"),
    ("chunk-unfinished", b"4\r\nroom\r\n0\r\n"),
    ("chunk-over-limit", b"50\r\n"),
    ("chunk-size-overflow", b"1\r\nx\r\nffffffffffffffff\r\n"),
    ("chunk-size-long", b"00000000000000001\r\nx\r\n"),
    ("chunk-line-feed-bare", b"1\nx\n0\n\n"),
    ("chunk-too-short", b"4\r\nroo\r\n0\r\n\r\n"),
    ("chunk-trailer-folded", b"0\r\na: b\r\n c\r\n\r\n"),
];

const CLOSE_PAYLOADS: [(&str, &[u8]); 7] = [
    ("empty", b""),
    ("one-byte", b"\x03"),
    ("normal", b"\x03\xe8"),
    ("reserved", b"\x03\xed"),
    ("application", b"\x0b\xb8reason"),
    ("reason-bad", b"\x03\xe8\xed\xa0\x80"),
    ("reason-cut", b"\x03\xe8\xc3"),
];

/// Choices for a world of shards. The first two dozen or so make its settings, the others its
/// steps.
fn choices() -> Vec<(String, Vec<u8>)> {
    let mut all = vec![
        // The mildest choice every time, another one, and everything in turn.
        ("zeros".into(), vec![0; 300]),
        ("ones".into(), vec![255; 300]),
        ("counting".into(), (0..=255).cycle().take(1_000).collect()),
        ("counting-down".into(), (0..=255).rev().cycle().take(1_000).collect()),
    ];
    let mut scatter = Scatter(0);
    for bytes in [50, 100, 200, 400, 600, 800, 1_200, 2_000] {
        all.push((format!("scattered-{bytes}"), scatter.bytes(bytes)));
    }
    // Steps that repeat: what is rare in scattered choices is done again and again.
    for period in [3, 7, 11, 31, 61, 97, 131, 180] {
        let settings = scatter.bytes(40);
        let steps = scatter.bytes(period).into_iter().cycle().take(900);
        all.push((format!("period-{period}"), settings.into_iter().chain(steps).collect()));
    }
    all
}

/// Bytes without a pattern, the same ones every time: splitmix64.
struct Scatter(u64);

impl Scatter {
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.byte()).collect()
    }

    fn byte(&mut self) -> u8 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed >> 56) as u8
    }
}
