//! The page and its parts, built into the program. They come from here and may load nothing from
//! anywhere else; nothing here depends on who asks.

use ringwire::Response;

/// Where the page finds its WebSocket.
pub(crate) const SOCKET_PATH: &str = "/ws";

/// Everything the page needs comes from its own origin, `'self'`, which covers its WebSocket too
/// (CSP Level 3). Inline script and style stay forbidden, so no text can become either.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const INDEX: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

/// Answers a plain HTTP request.
pub(crate) fn respond(path: &str) -> Response {
    match path {
        "/" => part("text/html; charset=utf-8", INDEX),
        "/style.css" => part("text/css; charset=utf-8", STYLE),
        "/script.js" => part("text/javascript; charset=utf-8", SCRIPT),
        "/icon.svg" => part("image/svg+xml", ICON),
        SOCKET_PATH => upgrade_required(),
        _ => not_found(),
    }
}

/// Nothing is at this path.
pub(crate) fn not_found() -> Response {
    plain(404, "There is nothing here; the chat is at /\n")
}

/// A browser that opens the socket's address as a page. A 426 names what it asks for
/// (RFC 9110 §15.5.22).
fn upgrade_required() -> Response {
    with_headers(plain(426, "The chat's page is at /\n"), &[("Upgrade", "websocket")])
}

/// A sentence for people.
pub(crate) fn plain(status: u16, sentence: &'static str) -> Response {
    hardened(Response::new(status)).body("text/plain; charset=utf-8", sentence.as_bytes())
}

fn part(content_type: &'static str, text: &'static str) -> Response {
    hardened(Response::new(200)).body(content_type, text.as_bytes())
}

fn hardened(response: Response) -> Response {
    with_headers(
        response,
        &[
            ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
            ("X-Content-Type-Options", "nosniff"),
            ("Referrer-Policy", "no-referrer"),
            // The next release may bring another page.
            ("Cache-Control", "no-cache"),
        ],
    )
}

fn with_headers(response: Response, headers: &[(&str, &str)]) -> Response {
    headers
        .iter()
        .try_fold(response, |response, (name, value)| response.header(name, value))
        .expect("these names and values are valid in HTTP")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{admission::NAME_CHARS_MAX, line::TEXT_CHARS_MAX};

    #[test]
    fn the_page_knows_the_servers_limits() {
        for (name, limit) in
            [("NAME_CHARS_MAX", NAME_CHARS_MAX), ("TEXT_CHARS_MAX", TEXT_CHARS_MAX)]
        {
            assert!(SCRIPT.contains(&format!("const {name} = {limit};")), "{name}");
        }
    }

    #[test]
    fn the_page_names_no_other_place() {
        for part in [INDEX, STYLE, SCRIPT, ICON] {
            // A name of XML, looked up by nobody.
            let part = part.replace("http://www.w3.org/2000/svg", "");
            assert!(!part.contains("://"), "{part}");
        }
    }
}
