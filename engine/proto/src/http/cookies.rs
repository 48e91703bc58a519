//! The cookies of a request, as a server reads them (RFC 6265 §4.2).
//!
//! Never decodes: what a value means is between the server that set it and itself.

use super::{Fields, fields::trim};

/// All cookies of these fields, each a name with its value.
///
/// A `;` always ends a cookie, in quotes too, as it does for browsers (RFC 6265 §5.2). A reader that
/// lets quotes protect it can be made to take other cookies into a value.
pub(super) fn of<'a>(fields: &Fields<'a>) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
    fields.values("Cookie").flat_map(|value| value.split(|&byte| byte == b';')).filter_map(cookie)
}

fn cookie(pair: &[u8]) -> Option<(&str, &str)> {
    // Only spaces and tabs: who trims more reads another name than the browser checked the prefix
    // of (`__Host-`).
    let pair = str::from_utf8(trim(pair)).ok()?;
    let (name, value) = pair.split_once('=')?;
    let name = name.trim_end_matches([' ', '\t']);
    let value = value.trim_start_matches([' ', '\t']);
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    (!name.is_empty()).then_some((name, unquoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use alloc::{format, vec::Vec};

    use super::*;

    #[test]
    fn cookies_of_a_field() {
        let table: [(&str, &[(&str, &str)]); 22] = [
            ("", &[]),
            ("a=b", &[("a", "b")]),
            ("a=b; c=d", &[("a", "b"), ("c", "d")]),
            ("a=b;c=d;", &[("a", "b"), ("c", "d")]),
            (";; a=b ;;\t; c = d ", &[("a", "b"), ("c", "d")]),
            ("a=", &[("a", "")]),
            ("a==b=", &[("a", "=b=")]),
            ("a=b; a=c", &[("a", "b"), ("a", "c")]),
            ("A=b; a=c", &[("A", "b"), ("a", "c")]),
            ("a=\"b\"", &[("a", "b")]),
            ("a=\"\"", &[("a", "")]),
            ("a=\"", &[("a", "\"")]),
            ("a=\"b", &[("a", "\"b")]),
            ("a=b\"", &[("a", "b\"")]),
            ("a=\"b;c\"; d=e", &[("a", "\"b"), ("d", "e")]),
            ("a=\"b; session=s; c=d\"", &[("a", "\"b"), ("session", "s"), ("c", "d\"")]),
            ("a=%20+\\", &[("a", "%20+\\")]),
            ("a=b, c=d", &[("a", "b, c=d")]),
            ("nameless; =b; a=c", &[("a", "c")]),
            ("$Version=1; a=b; $Path=/", &[("$Version", "1"), ("a", "b"), ("$Path", "/")]),
            ("a=\u{e9}; \u{e9}=a", &[("a", "\u{e9}"), ("\u{e9}", "a")]),
            ("\u{2003}__Host-a=b", &[("\u{2003}__Host-a", "b")]),
        ];
        for (value, expected) in table {
            let head = format!("GET / HTTP/1.1\r\nCookie: {value}\r\n\r\n");
            let cookies: Vec<_> = of(&Fields::of_head(head.as_bytes())).collect();
            assert_eq!(cookies, expected, "{value}");
        }
    }

    #[test]
    fn fields_are_read_one_after_the_other_and_bad_cookies_alone_are_lost() {
        let head =
            b"x\r\nCookie: a=b; c\r\nX: y=z\r\ncookie: d=\xff; \xff=e; f=g\r\nCOOKIE: a=h\r\n\r\n";
        let cookies: Vec<_> = of(&Fields::of_head(head)).collect();
        assert_eq!(cookies, [("a", "b"), ("f", "g"), ("a", "h")]);
    }
}
