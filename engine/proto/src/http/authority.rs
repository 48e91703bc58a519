//! `host [ ":" port ]`: the Host field, the authority of a request target, and what stands behind
//! the scheme of an origin (RFC 3986 §3.2, RFC 9110 §7.2).
//!
//! Never resolves a name and never decodes one.

use core::net::Ipv6Addr;

/// A host and perhaps a port. There is no userinfo (RFC 9110 §4.2.4).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority<'a> {
    host: Host<'a>,
    port: Option<u16>,
}

#[derive(Clone, Copy, Debug)]
enum Host<'a> {
    /// A name or an IPv4 address, without the dot of the root zone.
    Name(&'a str),
    V6(Ipv6Addr),
}

impl<'a> Authority<'a> {
    /// `None` for an empty host (RFC 9110 §4.2.1), userinfo, a port above 65,535, and everything
    /// that RFC 3986 §3.2.2 does not call a host. A comma is refused although it is a sub-delim:
    /// readers that take Host for a list would see two hosts.
    pub(crate) fn parse(text: &'a str) -> Option<Self> {
        let (host, rest) = match text.strip_prefix('[') {
            Some(literal) => {
                let (address, rest) = literal.split_once(']')?;
                (Host::V6(address.parse().ok()?), rest)
            }
            None => {
                let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                let name = name.strip_suffix('.').unwrap_or(name);
                (Host::Name(is_name(name).then_some(name)?), rest)
            }
        };
        Some(Self { host, port: parse_port(rest)? })
    }

    /// The port, if one is written.
    pub(crate) const fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether both are the same host and port, where `port_default` stands for a port that is not
    /// written. Names are compared without case, addresses by value.
    pub(crate) fn is_same(&self, other: &Self, port_default: u16) -> bool {
        let is_same_host = match (self.host, other.host) {
            (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
            (Host::V6(a), Host::V6(b)) => a == b,
            _ => false,
        };
        is_same_host && self.port.unwrap_or(port_default) == other.port.unwrap_or(port_default)
    }
}

/// `[ ":" *DIGIT ]`: `Some(None)` where no port is written, `None` where it is none.
fn parse_port(text: &str) -> Option<Option<u16>> {
    match text.strip_prefix(':') {
        None => text.is_empty().then_some(None),
        Some("") => Some(None),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            digits.parse().ok().map(Some)
        }
        Some(_) => None,
    }
}

/// `1*( unreserved / pct-encoded / sub-delims )` but for the comma.
fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    while let Some(byte) = bytes.next() {
        let is_fine = match byte {
            b'%' => [bytes.next(), bytes.next()]
                .iter()
                .all(|digit| digit.is_some_and(|digit| digit.is_ascii_hexdigit())),
            b'-' | b'.' | b'_' | b'~' => true,
            b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=' => true,
            _ => byte.is_ascii_alphanumeric(),
        };
        if !is_fine {
            return false;
        }
    }
    !name.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_that_are_some() {
        let table = [
            ("a", None),
            ("a.example", None),
            ("a.example.", None),
            ("a.example:80", Some(80)),
            ("a.example:", None),
            ("a:0", Some(0)),
            ("a:00080", Some(80)),
            ("a:65535", Some(65535)),
            ("127.0.0.1:9001", Some(9001)),
            ("[::1]", None),
            ("[::1]:9001", Some(9001)),
            ("[2001:DB8::1]:", None),
            ("[::ffff:1.2.3.4]:1", Some(1)),
            ("a_b~c-d", None),
            ("%61.example", None),
            ("caf%C3%A9.example:1", Some(1)),
            ("a!$&'()*+;=b", None),
        ];
        for (text, port) in table {
            let authority = Authority::parse(text);
            assert_eq!(authority.map(|authority| authority.port()), Some(port), "{text}");
        }
    }

    #[test]
    fn hosts_and_ports_that_are_none() {
        let table = [
            "",
            ".",
            ":",
            ":80",
            "a:65536",
            "a:99999999999999999999",
            "a:+80",
            "a:-1",
            "a:80x",
            "a: 80",
            "a:80:80",
            "a::80",
            "::1",
            "[::1",
            "::1]",
            "[]",
            "[]:80",
            "[::1]x",
            "[::1]80",
            "[::g]",
            "[1.2.3.4]",
            "[fe80::1%25eth0]",
            "[fe80::1%eth0]",
            "[v1.a]",
            "[::1]]",
            "user@a",
            "user:password@a",
            "@a",
            "a@",
            "a/",
            "a?",
            "a#",
            "a\\",
            "a b",
            " a",
            "a ",
            "a,b",
            "a\"",
            "<a>",
            "a|b",
            "a^b",
            "{a}",
            "%",
            "%6",
            "%6g",
            "%g1",
            "a%",
            "a%2",
            "\u{e9}",
            "a\tb",
            "a\0",
            "http://a",
        ];
        for text in table {
            assert!(Authority::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn what_is_the_same() {
        let same = |a, b| Authority::parse(a).unwrap().is_same(&Authority::parse(b).unwrap(), 80);
        for (a, b) in [
            ("a.example", "A.Example"),
            ("a.example", "a.example."),
            ("a:80", "a"),
            ("a:", "a:080"),
            ("[::1]", "[0:0::0:1]:80"),
            ("[2001:DB8::A]", "[2001:db8::a]"),
        ] {
            assert!(same(a, b) && same(b, a), "{a} {b}");
        }
        for (a, b) in [
            ("a", "b"),
            ("a:81", "a"),
            ("a.b", "a"),
            ("%61", "a"),
            ("[::1]", "127.0.0.1"),
            ("[::1]", "[::2]"),
            ("[::ffff:127.0.0.1]", "127.0.0.1"),
        ] {
            assert!(!same(a, b) && !same(b, a), "{a} {b}");
        }
    }
}
