//! Who may come in: the rules for rooms and nicknames. They look at what a request says and know
//! nothing of connections.

use ringwire_examples::Name;

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
    Name::try_from(name).is_ok()
}

#[cfg(test)]
mod tests {
    use ringwire_examples::NAME_CHARS_MAX;

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
}
