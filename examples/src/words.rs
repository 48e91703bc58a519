//! Words of people, as the examples take them: counted in characters, because that is what people
//! see, and without what cannot be shown. They are checked when they are read.

use std::fmt;

use serde::{Deserialize, Serialize};

/// 1 to `CHARS_MAX` characters, some of which can be seen and none of which is a control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String")]
pub struct Words<const CHARS_MAX: usize>(String);

/// Longest name of a person or a room, in characters: a title that fits one line of a phone.
pub const NAME_CHARS_MAX: usize = 32;

/// A name of a person or a room.
pub type Name = Words<NAME_CHARS_MAX>;

/// What somebody says.
pub type Text = Words<2_000>;

impl<const CHARS_MAX: usize> Words<CHARS_MAX> {
    /// The words themselves.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const CHARS_MAX: usize> TryFrom<String> for Words<CHARS_MAX> {
    type Error = String;

    /// # Errors
    ///
    /// The rule that is broken, for the one who said it.
    fn try_from(words: String) -> Result<Self, String> {
        let is_shown = !words.trim().is_empty() && !words.contains(char::is_control);
        if is_shown && words.chars().count() <= CHARS_MAX {
            return Ok(Self(words));
        }
        Err(format!("names and texts have 1 to {CHARS_MAX} characters and no control characters"))
    }
}

impl<const CHARS_MAX: usize> TryFrom<&str> for Words<CHARS_MAX> {
    type Error = String;

    fn try_from(words: &str) -> Result<Self, String> {
        words.to_owned().try_into()
    }
}

impl<const CHARS_MAX: usize> fmt::Display for Words<CHARS_MAX> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_characters() {
        for words in ["é".repeat(32), "🦀".into(), " a ".into()] {
            assert_eq!(Name::try_from(&*words).unwrap().as_str(), words);
        }
        assert!(Name::try_from("é".repeat(33)).unwrap_err().contains("1 to 32"));
        assert!(Text::try_from("é".repeat(2_000)).is_ok());
        assert!(Text::try_from("é".repeat(2_001)).is_err());
    }

    #[test]
    fn words_can_be_seen() {
        for words in ["", " ", "\u{3000}", "a\nb", "a\0", "\u{7f}", "\u{85}", "\u{1b}[31m"] {
            assert!(Name::try_from(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn words_are_checked_when_they_are_read() {
        assert_eq!(serde_json::from_str::<Name>(r#""a""#).unwrap(), Name::try_from("a").unwrap());
        assert!(serde_json::from_str::<Name>(r#""\u0000""#).is_err());
        assert_eq!(serde_json::to_string(&Name::try_from("a\"").unwrap()).unwrap(), r#""a\"""#);
    }
}
