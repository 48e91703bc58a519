//! The page and its parts, built into the program. They come from here and may load nothing from
//! anywhere else; nothing here depends on who asks.

use ringwire::{Method, Response};

/// Where the page finds its WebSocket.
pub(crate) const SOCKET_PATH: &str = "/ws";

const INDEX: &str = include_str!("index.html");
const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");
const ICON: &str = include_str!("icon.svg");

const HEADERS: [(&str, &str); 4] = [
    // Everything the page needs comes from its own origin, `'self'`, which covers its WebSocket
    // too (CSP Level 3). Inline script and style stay forbidden, so no text can become either.
    (
        "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    // The next release may bring another page.
    ("Cache-Control", "no-cache"),
];

/// Answers a plain HTTP request.
pub(crate) fn respond(method: Method, path: &str) -> Response {
    match path {
        _ if method.may_have_body() => {
            with(sentence(405, "There is only reading here.\n"), "Allow", "GET, HEAD, OPTIONS")
        }
        "/" => answer(200, "text/html; charset=utf-8", INDEX),
        "/style.css" => answer(200, "text/css; charset=utf-8", STYLE),
        "/script.js" => answer(200, "text/javascript; charset=utf-8", SCRIPT),
        "/icon.svg" => answer(200, "image/svg+xml", ICON),
        // For the health checks of load balancers.
        "/health" => sentence(200, "ok\n"),
        // A 426 names what it asks for (RFC 9110 §15.5.22).
        SOCKET_PATH => with(sentence(426, "The chat's page is at /\n"), "Upgrade", "websocket"),
        _ => not_found(),
    }
}

/// Nothing is at this path.
pub(crate) fn not_found() -> Response {
    sentence(404, "There is nothing here; the chat is at /\n")
}

/// Words for people.
pub(crate) fn sentence(status: u16, words: &'static str) -> Response {
    answer(status, "text/plain; charset=utf-8", words)
}

fn answer(status: u16, content_type: &'static str, body: &'static str) -> Response {
    HEADERS
        .iter()
        .fold(Response::new(status), |response, (name, value)| with(response, name, value))
        .body(content_type, body.as_bytes())
}

fn with(response: Response, name: &str, value: &str) -> Response {
    response.header(name, value).expect("the names and values in this file are valid")
}

#[cfg(test)]
mod tests {
    use ringwire_examples::NAME_CHARS_MAX;

    use super::*;
    use crate::line::TEXT_CHARS_MAX;

    #[test]
    fn the_page_knows_the_servers_limits() {
        let limits = [("NAME_CHARS_MAX", NAME_CHARS_MAX), ("TEXT_CHARS_MAX", TEXT_CHARS_MAX)];
        for (name, limit) in limits {
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
