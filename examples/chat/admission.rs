//! Who may come in: the rules for rooms, nicknames and origins. They look at what a request says
//! and know nothing of connections.

use ringwire::is_same_origin;

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

/// Whether a page of this origin may open a WebSocket at `host`: one served from here, over plain
/// HTTP as the examples do, or one of those `allowed`.
///
/// Browsers let any page try, and say in `Origin` whose page it was (RFC 6455 §10.2). Other
/// programs send none, and could send any.
pub(crate) fn may_connect(origin: Option<&str>, host: &str, allowed: &[String]) -> bool {
    origin.is_none_or(|origin| {
        is_same_origin(origin, "http", host)
            || allowed.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_in_characters() {
        let longest = "é".repeat(NAME_CHARS_MAX);
        let guest = Guest::new(&longest, "🦀").unwrap();
        assert_eq!((guest.room, guest.nick.as_str()), (longest, "🦀"));
        let too_long = "é".repeat(NAME_CHARS_MAX + 1);
        assert!(Guest::new(&too_long, "nick").is_err());
        assert!(Guest::new("room", &too_long).is_err());
    }

    #[test]
    fn a_name_can_be_seen() {
        for name in ["", " ", "\u{3000}", "a\nb", "a\0", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
            assert!(Guest::new(name, "nick").unwrap_err().starts_with("A room"), "{name:?}");
            assert!(Guest::new("room", name).unwrap_err().starts_with("A nickname"), "{name:?}");
        }
    }

    #[test]
    fn only_pages_from_here_and_allowed_ones_may_connect() {
        let allowed = ["https://chat.example".to_owned()];
        let is_let_in = |origin| may_connect(origin, "localhost:8080", &allowed);
        // No browser.
        assert!(is_let_in(None));
        for origin in ["http://localhost:8080", "https://chat.example", "HTTPS://Chat.Example"] {
            assert!(is_let_in(Some(origin)), "{origin}");
        }
        for origin in [
            "https://localhost:8080",
            "http://localhost",
            "http://evil.example:8080",
            "http://chat.example",
            "https://chat.example.evil",
            "null",
            "",
        ] {
            assert!(!is_let_in(Some(origin)), "{origin}");
        }
    }
}
