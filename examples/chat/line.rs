//! What a client may say: `{"id":"..","text":".."}` and nothing else. Only the shape is judged
//! here, never the words.

use std::borrow::Cow;

use serde::Deserialize;

/// Longest text, in characters. The page counts the same way.
pub(crate) const TEXT_CHARS_MAX: usize = 2000;

/// Longest id, in characters. The page's own are 32.
pub(crate) const ID_CHARS_MAX: usize = 64;

/// One message of a client.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Line<'a> {
    /// The client's name for this message, by which it knows its own copy and any repetition.
    #[serde(borrow)]
    pub(crate) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(crate) text: Cow<'a, str>,
}

impl<'a> Line<'a> {
    /// # Errors
    ///
    /// The reason, fit for a Close frame.
    pub(crate) fn parse(json: &'a str) -> Result<Self, &'static str> {
        let line = Self::from_object(json)
            .ok_or(r#"a message is {"id":"..","text":".."} and nothing else"#)?;
        if !(1..=ID_CHARS_MAX).contains(&line.id.chars().count()) {
            return Err("an id is 1 to 64 characters");
        }
        if !(1..=TEXT_CHARS_MAX).contains(&line.text.chars().count()) {
            return Err("a text is 1 to 2000 characters");
        }
        Ok(line)
    }

    /// Serde would also take an array for a struct, its fields in order.
    fn from_object(json: &'a str) -> Option<Self> {
        json.trim_start().starts_with('{').then(|| serde_json::from_str(json).ok())?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn json(id: &str, text: &str) -> String {
        serde_json::json!({ "id": id, "text": text }).to_string()
    }

    #[test]
    fn a_line_has_an_id_and_a_text() {
        let line = Line::parse(r#" {"text": "h\u00e9 \ud83e\udd80\n\"", "id": "1"} "#).unwrap();
        assert_eq!(line.id, "1");
        assert_eq!(line.text, "hé 🦀\n\"");
    }

    #[test]
    fn lengths_are_counted_in_characters() {
        assert!(Line::parse(&json(&"é".repeat(64), &"🦀".repeat(2000))).is_ok());
        assert_eq!(
            Line::parse(&json("1", &"🦀".repeat(2001))),
            Err("a text is 1 to 2000 characters")
        );
        assert_eq!(Line::parse(&json("1", "")), Err("a text is 1 to 2000 characters"));
        assert_eq!(Line::parse(&json(&"é".repeat(65), "x")), Err("an id is 1 to 64 characters"));
        assert_eq!(Line::parse(&json("", "x")), Err("an id is 1 to 64 characters"));
    }

    #[test]
    fn any_other_shape_is_refused() {
        for json in [
            "",
            "hello",
            "null",
            "[]",
            r#"["1","x"]"#,
            r#"{"id":"1"}"#,
            r#"{"text":"x"}"#,
            r#"{"id":1,"text":"x"}"#,
            r#"{"id":"1","text":null}"#,
            r#"{"id":"1","text":["x"]}"#,
            r#"{"id":"1","text":"x","nick":"someone else"}"#,
            r#"{"id":"1","id":"2","text":"x"}"#,
            r#"{"id":"1","text":"x"}{}"#,
            r#"{"id":"1","text":"\ud800"}"#,
        ] {
            let reason = Line::parse(json).unwrap_err();
            assert!(reason.starts_with("a message is"), "{json}: {reason}");
        }
        assert!(Line::parse(&"[".repeat(100_000)).is_err());
    }
}
