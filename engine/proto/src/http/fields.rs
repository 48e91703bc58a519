//! Header fields of a head that has been checked: names, values and comma-separated lists.
//!
//! Never checks what it walks over; the parser in front of it has.

use memchr::memchr;

/// The header fields of a head, in order, each name with its value.
///
/// Values come without the white space around them and may hold bytes above 0x7f
/// (RFC 9110 §5.5).
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// Field lines, each with its CRLF.
    lines: &'a [u8],
}

impl<'a> Fields<'a> {
    /// The fields of a whole head, request or response, whose every line ends with CRLF.
    pub(crate) fn of_head(head: &'a [u8]) -> Self {
        let lines = split_line(head).map_or(&[][..], |(_, fields)| fields);
        Self { lines }
    }

    /// All values of the fields of this name, in order. Names are compared without case.
    pub(crate) fn values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        let mut lines = self.lines;
        core::iter::from_fn(move || {
            let line = split_line(lines)?;
            lines = line.1;
            Some(line.0)
        })
        .filter_map(move |line| value_of(line, name))
    }

    /// The value of the only field of this name; `Err` if there are several.
    pub(crate) fn only(&self, name: &str) -> Result<Option<&'a [u8]>, Repeated> {
        let mut values = self.values(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            _ => Err(Repeated),
        }
    }

    /// Whether the list that the fields of this name form together has this element, without case
    /// (RFC 9110 §5.6.1). An element is compared whole: `noupgrade` is not `upgrade`.
    pub(crate) fn list_has(&self, name: &str, element: &str) -> bool {
        self.values(name).flat_map(list).any(|e| e.eq_ignore_ascii_case(element.as_bytes()))
    }
}

/// A field that may occur once occurs more than once.
pub(crate) struct Repeated;

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (line, lines) = split_line(self.lines)?;
        let colon = memchr(b':', line)?;
        self.lines = lines;
        let name = str::from_utf8(&line[..colon]).ok()?;
        Some((name, trim(&line[colon + 1..])))
    }
}

/// The value of a field line, if the field has this name.
fn value_of<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let (start, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    start.eq_ignore_ascii_case(name.as_bytes()).then(|| trim(value))
}

/// The elements of one field value that is a list, without the white space around them. Empty ones
/// are passed over (RFC 9110 §5.6.1.2), however many a head has room for.
pub(crate) fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim).filter(|element| !element.is_empty())
}

/// `token` of RFC 9110 §5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// What we emit as a field value: visible ASCII, spaces and tabs; never a line break or NUL.
pub(crate) fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..=0xff))
}

const fn is_token_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || byte.is_ascii_alphanumeric()
}

/// Without the optional white space at both ends: spaces and tabs (RFC 9110 §5.6.3).
pub(super) fn trim(bytes: &[u8]) -> &[u8] {
    let is_content = |byte: &u8| !matches!(byte, b' ' | b'\t');
    let start = bytes.iter().position(is_content).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(is_content).map_or(start, |last| last + 1);
    &bytes[start..end]
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b'\r', bytes)?;
    Some((&bytes[..end], bytes.get(end + 2..)?))
}

#[cfg(test)]
mod tests {
    use alloc::{vec, vec::Vec};

    use super::*;

    const HEAD: &[u8] = b"GET / HTTP/1.1\r\nA: 1\r\nb:\t two , 2 \r\nB:\r\nC: \xff\r\n\r\n";

    #[test]
    fn fields_come_in_order_and_trimmed() {
        let fields: Vec<_> = Fields::of_head(HEAD).collect();
        assert_eq!(fields, vec![("A", &b"1"[..]), ("b", b"two , 2"), ("B", b""), ("C", b"\xff")]);
        assert_eq!(Fields::of_head(b"").next(), None);
        assert_eq!(Fields::of_head(b"GET / HTTP/1.1\r\n\r\n").next(), None);
    }

    #[test]
    fn names_are_compared_without_case_and_repeats_are_seen() {
        let fields = Fields::of_head(HEAD);
        assert_eq!(fields.values("B").collect::<Vec<_>>(), [&b"two , 2"[..], b""]);
        assert!(matches!(fields.only("a"), Ok(Some(b"1"))));
        assert!(matches!(fields.only("d"), Ok(None)));
        assert!(fields.only("b").is_err());
    }

    #[test]
    fn a_list_has_elements_not_substrings() {
        let fields =
            Fields::of_head(b"x\r\nConnection: keep-alive\r\nconnection: ,UPgrade\r\n\r\n");
        assert!(fields.list_has("Connection", "upgrade"));
        assert!(fields.list_has("Connection", "keep-alive"));
        assert!(!fields.list_has("Connection", "keep"));
        assert!(!fields.list_has("Upgrade", "upgrade"));
    }

    #[test]
    fn empty_elements_of_a_list_are_none() {
        let table: [(&[u8], &[&[u8]]); 6] = [
            (b"", &[]),
            (b" \t", &[]),
            (b",", &[]),
            (b" , ,\t,", &[]),
            (b",a", &[b"a"]),
            (b"a,, b ,\t,c,", &[b"a", b"b", b"c"]),
        ];
        for (value, elements) in table {
            assert_eq!(list(value).collect::<Vec<_>>(), elements, "{value:?}");
        }
        assert!(!Fields::of_head(b"x\r\nUpgrade: ,\r\n\r\n").list_has("Upgrade", ""));
    }

    #[test]
    fn tokens_and_values_have_their_bytes() {
        assert!(is_token(b"Sec-WebSocket-Key") && is_token(b"!#$%&'*+-.^_`|~09azAZ"));
        for bad in [&b""[..], b" ", b"a b", b"a:", b"\xe9", b"a\r", b"(", b"a/b", b"\x7f"] {
            assert!(!is_token(bad), "{bad:?}");
        }
        assert!(is_field_value(b"") && is_field_value(b"a b\t\xff~"));
        for bad in [&b"\r"[..], b"\n", b"\0", b"\x7f", b"a\r\nSet-Cookie: b"] {
            assert!(!is_field_value(bad), "{bad:?}");
        }
    }
}
