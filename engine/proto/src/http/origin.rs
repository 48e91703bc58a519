//! Whether a page and the server it talks to are of one origin (RFC 6454).
//!
//! Never a policy: what to do with a foreign page is the caller's decision.

/// Whether `origin`, as a browser sends it, names this `scheme` (`http` or `https`) and `host`
/// (the Host header, with or without a port).
///
/// Scheme, host and port must all be the same, without case, the scheme's own port filled in where
/// none is written (RFC 6454 §5). `null` and anything malformed are never the same origin.
pub fn is_same_origin(origin: &str, scheme: &str, host: &str) -> bool {
    let Some((origin_scheme, authority)) = origin.split_once("://") else {
        return false;
    };
    let port_default = match scheme {
        "https" => 443,
        _ => 80,
    };
    origin_scheme.eq_ignore_ascii_case(scheme)
        && match (host_and_port(authority, port_default), host_and_port(host, port_default)) {
            (Some(a), Some(b)) => a.0.eq_ignore_ascii_case(b.0) && a.1 == b.1,
            _ => false,
        }
}

/// The host, an IPv6 address with its brackets, and the port.
fn host_and_port(authority: &str, port_default: u16) -> Option<(&str, u16)> {
    let host_end = match authority.strip_prefix('[') {
        Some(address) => address.find(']')? + 2,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (host, port) = authority.split_at(host_end);
    // A name in the root zone is the same with its dot.
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.is_empty() || host.contains(['/', '@', '?', '#', '\\']) {
        return None;
    }
    match port.strip_prefix(':') {
        None if port.is_empty() => Some((host, port_default)),
        None => None,
        Some("") => Some((host, port_default)),
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            Some((host, digits.parse().ok()?))
        }
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scheme_host_and_port_must_all_agree() {
        let same = [
            ("http://a.example", "http", "a.example"),
            ("http://A.example", "http", "a.EXAMPLE"),
            ("http://a.example", "http", "a.example:80"),
            ("http://a.example:80", "http", "a.example"),
            ("https://a.example", "https", "a.example:443"),
            ("http://a.example:8080", "http", "a.example:8080"),
            ("http://a.example", "http", "a.example."),
            ("http://[::1]:9001", "http", "[::1]:9001"),
            ("http://[::1]", "http", "[::1]:80"),
            ("HTTP://a.example", "http", "a.example:"),
        ];
        for (origin, scheme, host) in same {
            assert!(is_same_origin(origin, scheme, host), "{origin} {host}");
        }
        let foreign = [
            ("https://a.example", "http", "a.example"),
            ("http://a.example", "https", "a.example"),
            ("http://b.example", "http", "a.example"),
            ("http://a.example.evil", "http", "a.example"),
            ("http://evil-a.example", "http", "a.example"),
            ("http://a.example:81", "http", "a.example"),
            ("http://a.example:443", "http", "a.example"),
            ("null", "http", "null"),
            ("", "http", ""),
            ("http://", "http", ""),
            ("http://.", "http", "."),
            ("http://a.example/", "http", "a.example/"),
            ("http://u@a.example", "http", "u@a.example"),
            ("http://[::1", "http", "[::1"),
            ("http://[::1]x", "http", "[::1]x"),
            ("http://a:65536", "http", "a:65536"),
            ("http://a:+80", "http", "a:+80"),
            ("a.example", "http", "a.example"),
        ];
        for (origin, scheme, host) in foreign {
            assert!(!is_same_origin(origin, scheme, host), "{origin} {host}");
        }
    }
}
