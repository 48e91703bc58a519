//! Whether a page and the server it talks to are of one origin (RFC 6454).
//!
//! Never a policy: what to do with a foreign page is the caller's decision.

use super::authority::Authority;

/// Whether `origin`, as a browser sends it, names this `scheme` (`http` or `https`) and `host`
/// (the Host header, with or without a port).
///
/// Scheme, host and port must all be the same, without case, the scheme's own port filled in where
/// none is written (RFC 6454 §5). `null` and anything malformed are never the same origin.
pub fn is_same_origin(origin: &str, scheme: &str, host: &str) -> bool {
    let Some((origin_scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    origin_scheme.eq_ignore_ascii_case(scheme)
        && match (Authority::parse(authority), Authority::parse(host)) {
            (Some(a), Some(b)) => a.is_same(&b, port_of(scheme)),
            _ => false,
        }
}

/// Whether `origin` is `http` or `https` at this `host`: what a server can say that stands behind
/// a proxy which adds TLS. It sees `http` where the browser's page is `https`.
///
/// Host and port must be the same; a port that is not written, on either side, is the one of the
/// origin's scheme. So `https://chat.example` is an origin of the hosts `chat.example` and
/// `chat.example:443`, but not of `chat.example:80`. A server that is only ever reached by TLS
/// can compare the scheme too: [`is_same_origin`] with `https`.
pub fn is_origin_of_host(origin: &str, host: &str) -> bool {
    is_same_origin(origin, "http", host) || is_same_origin(origin, "https", host)
}

/// Whether this is an origin in the one way browsers write it (RFC 6454 §6.2): scheme, `://`, host
/// and port, all in lower case, without the port that is the scheme's own, and nothing behind.
///
/// `null` is not: it is what every page without an origin sends, and any site can make one.
pub fn is_serialised_origin(text: &str) -> bool {
    let Some((scheme, authority)) = text.split_once("://") else {
        return false;
    };
    let is_scheme = scheme.starts_with(|first: char| first.is_ascii_lowercase())
        && scheme
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.'));
    let behind_address = authority.rsplit_once(']').map_or(authority, |(_, rest)| rest);
    let is_canonical = !authority.bytes().any(|byte| byte.is_ascii_uppercase())
        && !authority.ends_with([':', '.'])
        && !behind_address.contains(":0");
    is_scheme
        && is_canonical
        && Authority::parse(authority).is_some_and(|authority| {
            !matches!((scheme, authority.port()), ("http", Some(80)) | ("https", Some(443)))
        })
}

/// The port of a scheme (RFC 9110 §4.2).
const fn port_of(scheme: &str) -> u16 {
    if scheme.eq_ignore_ascii_case("https") { 443 } else { 80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_must_all_agree() {
        let same = [
            ("http://a.example", "http", "a.example"),
            ("http://A.example", "http", "a.EXAMPLE"),
            ("http://a.example", "http", "a.example:80"),
            ("http://a.example:80", "http", "a.example"),
            ("https://a.example", "https", "a.example:443"),
            ("http://a.example:8080", "http", "a.example:8080"),
            ("http://a.example", "http", "a.example."),
            ("http://[::1]:9001", "http", "[::1]:9001"),
            ("http://[::1]", "http", "[::1]:80"),
            ("HTTP://a.example", "http", "a.example:"),
            ("https://a.example", "HTTPS", "a.example:443"),
            ("http://[::1]", "http", "[0:0:0:0:0:0:0:1]"),
        ];
        for (origin, scheme, host) in same {
            assert!(is_same_origin(origin, scheme, host), "{origin} {host}");
        }
        let foreign = [
            ("https://a.example", "http", "a.example"),
            ("http://a.example", "https", "a.example"),
            ("http://b.example", "http", "a.example"),
            ("http://a.example.evil", "http", "a.example"),
            ("http://evil-a.example", "http", "a.example"),
            ("http://a.example:81", "http", "a.example"),
            ("http://a.example:443", "http", "a.example"),
            ("null", "http", "null"),
            ("", "http", ""),
            ("http://", "http", ""),
            ("http://.", "http", "."),
            ("http://a.example/", "http", "a.example/"),
            ("http://u@a.example", "http", "u@a.example"),
            ("http://[::1", "http", "[::1"),
            ("http://[::1]x", "http", "[::1]x"),
            ("http://a:65536", "http", "a:65536"),
            ("http://a:+80", "http", "a:+80"),
            ("a.example", "http", "a.example"),
        ];
        for (origin, scheme, host) in foreign {
            assert!(!is_same_origin(origin, scheme, host), "{origin} {host}");
        }
    }

    #[test]
    fn the_scheme_may_be_what_a_proxy_adds() {
        let table = [
            ("https://chat.example", "chat.example", true),
            ("http://chat.example", "chat.example", true),
            ("HTTPS://Chat.Example", "chat.EXAMPLE", true),
            ("https://chat.example", "chat.example:443", true),
            ("https://chat.example:8443", "chat.example:8443", true),
            ("https://chat.example:443", "chat.example", true),
            ("http://chat.example:80", "chat.example", true),
            ("http://[::1]:9001", "[::1]:9001", true),
            ("https://chat.example", "chat.example:80", false),
            ("http://chat.example", "chat.example:443", false),
            ("https://chat.example:8443", "chat.example", false),
            ("https://chat.example", "chat.example:8443", false),
            ("https://chat.example.evil", "chat.example", false),
            ("https://evil.example", "chat.example", false),
            ("https://chat.example/", "chat.example", false),
            ("https://chat.example@evil.example", "chat.example", false),
            ("ws://chat.example", "chat.example", false),
            ("ftp://chat.example", "chat.example", false),
            ("app://chat.example", "chat.example", false),
            ("chat.example", "chat.example", false),
            ("null", "null", false),
            ("null", "", false),
            ("", "", false),
            ("https://", "", false),
        ];
        for (origin, host, expected) in table {
            assert_eq!(is_origin_of_host(origin, host), expected, "{origin} {host}");
        }
    }

    #[test]
    fn an_origin_is_written_in_one_way() {
        for origin in [
            "https://app.example",
            "http://localhost:8080",
            "http://127.0.0.1:8080",
            "http://[::1]:9001",
            "https://xn--caf-dma.example",
            "http://a:443",
            "https://a:80",
            "capacitor://localhost",
            "chrome-extension://abcdefgh",
        ] {
            assert!(is_serialised_origin(origin), "{origin}");
        }
        for other in [
            "",
            "null",
            "any",
            "*",
            "app.example",
            "app.example:80",
            "https://",
            "https:app.example",
            "https://app.example/",
            "https://app.example/path",
            "https://app.example?",
            "://a",
            "https://app.example#",
            "https://*.example/",
            "https://u@app.example",
            "HTTPS://a",
            "https://App.example",
            "https://a:443",
            "http://a:80",
            "https://a:",
            "https://a.",
            "https://a:080",
            "https://a:65536",
            "https://a b",
            " https://a",
            "https://a ",
            "1a://b",
            "https://caf\u{e9}.example",
            "http://[::1]:",
            "http://[::A]",
            "http://[::1]:080",
            "file://",
            "https://a,https://b",
            "http://[::1",
        ] {
            assert!(!is_serialised_origin(other), "{other}");
        }
    }
}
