//! What the server tells a room, as JSON text with a `kind`. It only writes, never reads.

use serde::Serialize;

/// One message of the server. `shard` is always that of the connection it is about.
#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(crate) enum Notice<'a> {
    /// To a newcomer only: you are in.
    Welcome { shard: usize },
    /// To the others in the room.
    Joined { nick: &'a str, shard: usize },
    /// To everyone in the room. The sender knows its own by `id`.
    Said { id: &'a str, nick: &'a str, text: &'a str, shard: usize },
    /// To those who stay.
    Left { nick: &'a str, shard: usize },
}

impl Notice<'_> {
    /// # Panics
    ///
    /// Never: a notice is strings and numbers, and JSON can say all of those.
    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("strings and numbers are always JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_says_its_kind_first() {
        assert_eq!(Notice::Welcome { shard: 1 }.to_json(), r#"{"kind":"welcome","shard":1}"#);
        assert_eq!(
            Notice::Joined { nick: "Ada", shard: 0 }.to_json(),
            r#"{"kind":"joined","nick":"Ada","shard":0}"#
        );
        assert_eq!(
            Notice::Said { id: "1", nick: "A\"da", text: "<b>\n", shard: 0 }.to_json(),
            r#"{"kind":"said","id":"1","nick":"A\"da","text":"<b>\n","shard":0}"#
        );
        assert_eq!(
            Notice::Left { nick: "Ada", shard: 0 }.to_json(),
            r#"{"kind":"left","nick":"Ada","shard":0}"#
        );
    }
}
