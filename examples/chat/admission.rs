//! Who may come in: the rules for rooms, nicknames and origins. They look at what a request says
//! and know nothing of connections.

/// Longest room name and nickname, in characters: a title that fits one line of a phone.
pub(crate) const NAME_CHARS_MAX: usize = 32;

/// Someone in a room: what the server keeps of a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Guest {
    pub(crate) room: String,
    pub(crate) nick: String,
}

impl Guest {
    /// # Errors
    ///
    /// The reason, for the one who asked.
    pub(crate) fn new(room: &str, nick: &str) -> Result<Self, &'static str> {
        if !is_name(room) {
            return Err("A room's name is 1 to 32 characters, none of them a control character.\n");
        }
        if !is_name(nick) {
            return Err("A nickname is 1 to 32 characters, none of them a control character.\n");
        }
        Ok(Self { room: room.to_owned(), nick: nick.to_owned() })
    }
}

fn is_name(name: &str) -> bool {
    (1..=NAME_CHARS_MAX).contains(&name.chars().count())
        && !name.trim().is_empty()
        && !name.contains(char::is_control)
}

/// Which pages may open a WebSocket here. Browsers let any page try, and say whose page it was in
/// `Origin` (RFC 6455 §10.2); other programs send none, and could send any.
#[derive(Clone, Debug)]
pub(crate) struct OriginPolicy {
    allowed: Vec<String>,
}

impl OriginPolicy {
    /// Pages served from here, and pages of the origins `allowed`.
    ///
    /// The examples speak plain HTTP, so a page served from here has an `http` origin. Behind a
    /// proxy that adds TLS, its public `https` origin belongs in `allowed`.
    pub(crate) fn new(allowed: Vec<String>) -> Self {
        Self { allowed }
    }

    /// Whether a request with this `Origin` header, sent to `host`, may become a WebSocket.
    pub(crate) fn allow(&self, origin: Option<&str>, host: &str) -> bool {
        let Some(origin) = origin else { return true };
        self.allowed.iter().any(|allowed| origin.eq_ignore_ascii_case(allowed))
            || is_same_origin(origin, host)
    }
}

/// Scheme, host and port all equal (RFC 6454 §5). Port 80 may be left out on either side.
fn is_same_origin(origin: &str, host: &str) -> bool {
    let Some((scheme, authority)) = origin.split_at_checked(b"http://".len()) else {
        return false;
    };
    let authority = authority.strip_suffix(":80").unwrap_or(authority);
    let host = host.strip_suffix(":80").unwrap_or(host);
    !host.is_empty()
        && scheme.eq_ignore_ascii_case("http://")
        && authority.eq_ignore_ascii_case(host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_characters() {
        let longest = "é".repeat(NAME_CHARS_MAX);
        let guest = Guest::new(&longest, "🦀").unwrap();
        assert_eq!(guest.room, longest);
        assert_eq!(guest.nick, "🦀");
        assert!(Guest::new(&"é".repeat(NAME_CHARS_MAX + 1), "nick").is_err());
        assert!(Guest::new("room", &"n".repeat(NAME_CHARS_MAX + 1)).is_err());
    }

    #[test]
    fn a_name_can_be_seen() {
        for name in ["", " ", "\u{3000}", "a\nb", "a\0", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
            assert!(Guest::new(name, "nick").unwrap_err().starts_with("A room"), "{name:?}");
            assert!(Guest::new("room", name).unwrap_err().starts_with("A nickname"), "{name:?}");
        }
    }

    #[test]
    fn who_sends_no_origin_is_no_browser() {
        assert!(OriginPolicy::new(vec![]).allow(None, "127.0.0.1:8080"));
    }

    #[test]
    fn the_same_origin_may_connect() {
        let policy = OriginPolicy::new(vec![]);
        for (origin, host) in [
            ("http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http://localhost:8080", "LOCALHOST:8080"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://chat.example", "chat.example"),
            ("http://chat.example", "chat.example:80"),
        ] {
            assert!(policy.allow(Some(origin), host), "{origin} to {host}");
        }
    }

    #[test]
    fn another_scheme_host_or_port_is_another_origin() {
        let policy = OriginPolicy::new(vec![]);
        for origin in [
            "https://chat.example:8080",
            "http://chat.example",
            "http://chat.example:8081",
            "http://chat.example.:8080",
            "http://evil.example:8080",
            "http://chat.example:8080.evil.example",
            "http://evil.example/chat.example:8080",
            "http://x@chat.example:8080",
            "chat.example:8080",
            "http://",
            "null",
            "",
            "\u{fffd}\u{fffd}\u{fffd}",
        ] {
            assert!(!policy.allow(Some(origin), "chat.example:8080"), "{origin}");
        }
        assert!(!policy.allow(Some("http://"), ""));
    }

    #[test]
    fn other_origins_are_named_whole() {
        let policy = OriginPolicy::new(vec!["https://chat.example".into()]);
        assert!(policy.allow(Some("https://chat.example"), "127.0.0.1:8080"));
        assert!(policy.allow(Some("http://127.0.0.1:8080"), "127.0.0.1:8080"));
        assert!(!policy.allow(Some("https://chat.example.evil"), "127.0.0.1:8080"));
        assert!(!policy.allow(Some("http://chat.example"), "127.0.0.1:8080"));
    }
}
