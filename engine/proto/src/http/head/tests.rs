//! The end of a head: where it is, what is refused on the way, and that nothing is read twice.

use alloc::{format, vec};

use super::*;

const LIMITS: HeadLimits = HeadLimits { head_bytes_max: 64, headers_max: 4, target_bytes_max: 32 };

fn scan(head: &[u8]) -> Result<Option<usize>, RequestError> {
    HeadScan::new().scan(head, &LIMITS)
}

#[test]
fn the_end_is_behind_the_empty_line() {
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(scan(head), Ok(Some(head.len())));
    assert_eq!(scan(&[&head[..], b"\x81\x80frames\n\0"].concat()), Ok(Some(head.len())));
    for end in 0..head.len() {
        assert_eq!(scan(&head[..end]), Ok(None));
    }
    assert_eq!(scan(b"x\r\n\r\n"), Ok(Some(5)));
}

#[test]
fn line_ends_other_than_crlf_are_refused_at_once() {
    let table: [&[u8]; 10] = [
        b"\n",
        b"\r",
        b"\0",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\rH",
        b"GET / HTTP/1.1\r\r",
        b"GET / HTTP/1.1\r\nHost: a\n",
        b"GET / HTTP/1.1\r\n\n",
        b"GET / HTTP/1.1\r\n\rX",
        b"GET / HTTP/1.1\r\nHost: \0",
    ];
    for head in table {
        assert_eq!(scan(&head[..head.len() - 1]), Ok(None), "{head:?}");
        assert_eq!(scan(head), Err(RequestError::Malformed), "{head:?}");
    }
}

#[test]
fn the_limit_is_on_the_head_and_not_on_what_follows() {
    let line = b"GET / HTTP/1.1\r\n";
    let head_of = |bytes: usize| {
        let fill = bytes - line.len() - 4;
        format!("GET / HTTP/1.1\r\n{}\r\n\r\n", "x".repeat(fill)).into_bytes()
    };
    let fits = [head_of(64), vec![0; 1000]].concat();
    assert_eq!(scan(&fits), Ok(Some(64)));
    assert_eq!(scan(&head_of(65)), Err(RequestError::HeadTooLong));
    assert_eq!(scan(&head_of(65)[..64]), Err(RequestError::HeadTooLong));
    assert_eq!(scan(&head_of(65)[..63]), Ok(None));
    assert_eq!(scan(&[b'x'; 64]), Err(RequestError::TargetTooLong));
    assert_eq!(scan(&[b'x'; 63]), Ok(None));
}

#[test]
fn the_verdict_does_not_depend_on_cuts() {
    let heads: [&[u8]; 5] = [
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nframes",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"\r\n",
        &[b'x'; 100],
        b"GET / HTTP/1.1\r\nHost: a\r\nmore: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n\r\n",
    ];
    for head in heads {
        for cut in 0..head.len() {
            let mut in_two = HeadScan::new();
            let verdict = match in_two.scan(&head[..cut], &LIMITS) {
                Ok(None) => in_two.scan(head, &LIMITS),
                verdict => verdict,
            };
            assert_eq!(verdict, scan(head), "{head:?} cut at {cut}");
        }
    }
}

#[test]
fn a_dripped_head_is_read_once() {
    // tungstenite CVE-2023-43669: each byte that came made the whole head be read again.
    let limits = HeadLimits { head_bytes_max: 65_536, ..LIMITS };
    let mut head = b"GET / HTTP/1.1\r\n".to_vec();
    let mut scan = HeadScan::new();
    assert_eq!(scan.scan(&head, &limits), Ok(None));
    while head.len() < 65_535 {
        // A NUL is refused wherever it is looked at, so what is behind us is not.
        *head.last_mut().unwrap() = 0;
        head.push(b'x');
        assert_eq!(scan.scan(&head, &limits), Ok(None));
    }
    head.push(b'x');
    assert_eq!(scan.scan(&head, &limits), Err(RequestError::HeadTooLong));
}

#[test]
fn the_defaults_are_what_their_documentation_says() {
    let limits = HeadLimits::default();
    assert_eq!(
        (limits.head_bytes_max, limits.headers_max, limits.target_bytes_max),
        (16_384, 100, 8192)
    );
}
