//! The request target: which resource of which host is asked for (RFC 9112 §3.2).
//!
//! Never decodes or normalises: `/a/../b` is not `/b`.

use super::{Method, authority::Authority};

/// The schemes of an absolute target: those a WebSocket server is asked by (RFC 9110 §4.2,
/// RFC 6455 §3). Compared without case (RFC 3986 §3.1).
const SCHEMES: [&str; 4] = ["http", "https", "ws", "wss"];

/// The parts of a request target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target<'a> {
    /// Host and port of an absolute target, which count instead of the Host field's.
    pub(crate) authority: Option<&'a str>,
    /// Begins with `/`, or is the `*` of an OPTIONS.
    pub(crate) path: &'a str,
    /// What follows the first `?`.
    pub(crate) query: Option<&'a str>,
}

impl<'a> Target<'a> {
    /// Origin-form, absolute-form, or `*` with OPTIONS; all of it visible ASCII without a fragment.
    /// `None` for everything else, the authority-form of CONNECT too.
    pub(crate) fn parse(method: Method, text: &'a str) -> Option<Self> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
            return None;
        }
        if text == "*" && method == Method::Options {
            return Some(Self { authority: None, path: "*", query: None });
        }
        if text.starts_with('/') {
            return Some(Self::of(None, text));
        }
        let (scheme, rest) = text.split_once("://")?;
        if !SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme)) {
            return None;
        }
        // RFC 3986 §3.2: it ends at the first `/`, `?` or `#`, whatever a query says further on.
        let (authority, rest) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        Authority::parse(authority)?;
        Some(Self::of(Some(authority), rest))
    }

    fn of(authority: Option<&'a str>, path_and_query: &'a str) -> Self {
        let (path, query) = match path_and_query.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path_and_query, None),
        };
        // RFC 9110 §4.2.3: an empty path is the same as `/`.
        Self { authority, path: if path.is_empty() { "/" } else { path }, query }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A target, its authority, path and query.
    type Good = (&'static str, Option<&'static str>, &'static str, Option<&'static str>);

    #[test]
    fn targets_and_their_parts() {
        let table: [Good; 24] = [
            ("/", None, "/", None),
            ("/?", None, "/", Some("")),
            ("/a?b?c=/d", None, "/a", Some("b?c=/d")),
            ("//a/../b", None, "//a/../b", None),
            ("//evil.example/ws", None, "//evil.example/ws", None),
            ("/http://h/ws", None, "/http://h/ws", None),
            ("/x?u=http://h/ws", None, "/x", Some("u=http://h/ws")),
            ("http://h", Some("h"), "/", None),
            ("http://h?a=b", Some("h"), "/", Some("a=b")),
            ("http://h?next=/ws?room=r", Some("h"), "/", Some("next=/ws?room=r")),
            ("http://h?u=http://i/ws", Some("h"), "/", Some("u=http://i/ws")),
            ("http://h/", Some("h"), "/", None),
            ("http://h//ws", Some("h"), "//ws", None),
            ("http://h/@b:c", Some("h"), "/@b:c", None),
            ("http://h?user@b", Some("h"), "/", Some("user@b")),
            ("http://h:80/a?b", Some("h:80"), "/a", Some("b")),
            ("http://h:/a", Some("h:"), "/a", None),
            ("https://h/a", Some("h"), "/a", None),
            ("ws://h:9001", Some("h:9001"), "/", None),
            ("wss://h/a", Some("h"), "/a", None),
            ("WsS://H.Example/A", Some("H.Example"), "/A", None),
            ("http://[::1]:9001?a", Some("[::1]:9001"), "/", Some("a")),
            ("http://[::1]/ws", Some("[::1]"), "/ws", None),
            ("http://%61/ws", Some("%61"), "/ws", None),
        ];
        for (text, authority, path, query) in table {
            let target = Target::parse(Method::Get, text);
            assert_eq!(target, Some(Target { authority, path, query }), "{text}");
        }
    }

    #[test]
    fn what_is_no_target() {
        let table = [
            "",
            "*",
            "**",
            "a",
            "?",
            "?a=b",
            "h:80",
            "h:80/ws",
            "x?u=http://h/ws",
            "://h/x",
            "://",
            "http:",
            "http:/",
            "http:/h/ws",
            "http:h/ws",
            "http//h",
            "http://",
            "http:///",
            "http:///ws",
            "http://?a",
            "http://:80/ws",
            "http://h:65536/",
            "http://h:x/",
            "http://u@h/ws",
            "http://u:p@h/ws",
            "http://@h/",
            "http://h\\@i/ws",
            "http://h\\ws",
            "http://[::1/ws",
            "http://::1/ws",
            "http://[x]/ws",
            "http://h%/ws",
            "http://h%zz/",
            "http://a,b/ws",
            "ftp://h/ws",
            "file:///ws",
            "httpx://h/ws",
            "xhttp://h/ws",
            "x+ws://h/ws",
            "ws:/ws",
            "javascript://h/ws",
            "/#",
            "/a#b",
            "http://h#f",
            "http://h/#f",
            "http://h?#f",
            "#",
            "/\u{e9}",
            "http://h\u{e9}/",
            "/a b",
            "/\t",
            "/\u{7f}",
            " /",
            "\"http://h/\"",
        ];
        for text in table {
            assert_eq!(Target::parse(Method::Get, text), None, "{text}");
        }
    }

    #[test]
    fn the_asterisk_is_for_options_alone() {
        let target = Target { authority: None, path: "*", query: None };
        assert_eq!(Target::parse(Method::Options, "*"), Some(target));
        assert_eq!(Target::parse(Method::Head, "*"), None);
        assert_eq!(Target::parse(Method::Options, "**"), None);
        assert_eq!(Target::parse(Method::Options, "*?a"), None);
    }
}
