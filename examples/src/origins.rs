//! Whose pages may connect to an example: those it serves itself, those named by `--allow-origin`,
//! or everybody's. At a handshake the engine compares; other requests are compared here.

use std::str::FromStr;

use ringwire::{Upgrade, is_same_origin, is_serialised_origin};

/// A value of `--allow-origin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowedOrigin {
    /// Pages of any site.
    Any,
    /// Pages of this origin, like `https://app.example`.
    One(String),
}

impl AllowedOrigin {
    /// `upgrade`, for the pages of these origins too.
    pub fn allow<S>(origins: &[Self], upgrade: Upgrade<S>) -> Upgrade<S> {
        origins.iter().fold(upgrade, |upgrade, origin| match origin {
            Self::Any => upgrade.dangerously_allow_any_origin(),
            Self::One(origin) => upgrade.allow_origin(origin),
        })
    }

    /// Whether a request with this Origin may act for its user at `host`: what the engine asks
    /// before it upgrades, for requests that it does not judge.
    #[must_use]
    pub fn admit(origins: &[Self], origin: Option<&str>, host: &str) -> bool {
        // No browser, no page.
        let Some(origin) = origin else { return true };
        // Behind a proxy that adds TLS the page is `https` and the request `http`.
        ["http", "https"].iter().any(|scheme| is_same_origin(origin, scheme, host))
            || origins.iter().any(|allowed| match allowed {
                Self::Any => true,
                Self::One(other) => other == origin,
            })
    }
}

impl FromStr for AllowedOrigin {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "any" => Ok(Self::Any),
            _ if is_serialised_origin(text) => Ok(Self::One(text.to_owned())),
            _ => Err("neither `any` nor an origin as browsers send it, like https://app.example: \
                      in lower case, without a path or the scheme's own port"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_admitted_as_the_engine_admits_them() {
        let admits = |options: &[&str], origin| {
            let origins: Vec<_> = options.iter().map(|option| option.parse().unwrap()).collect();
            AllowedOrigin::admit(&origins, origin, "a.example:8080")
        };
        for own in [None, Some("http://a.example:8080"), Some("https://a.example:8080")] {
            assert!(admits(&[], own), "{own:?}");
        }
        for other in ["http://a.example", "https://b.example", "null", ""] {
            assert!(!admits(&[], Some(other)), "{other}");
            assert!(admits(&["any"], Some(other)), "{other}");
        }
        assert!(admits(&["https://c.example", "https://b.example"], Some("https://b.example")));
        assert!(!admits(&["https://c.example"], Some("https://b.example")));
    }

    #[test]
    fn an_origin_is_what_browsers_send() {
        assert_eq!("any".parse(), Ok(AllowedOrigin::Any));
        for origin in ["https://app.example", "http://localhost:8080", "capacitor://localhost"] {
            assert_eq!(origin.parse(), Ok(AllowedOrigin::One(origin.to_owned())));
        }
        for other in ["", "null", "*", "ANY", "app.example", "https://app.example/", "HTTPS://a"] {
            assert!(other.parse::<AllowedOrigin>().is_err(), "{other}");
        }
    }
}
