//! Whose pages may connect to an example: those it serves itself, those named by `--allow-origin`,
//! or everybody's. It decides nothing: the engine compares.

use std::str::FromStr;

use ringwire::{Upgrade, is_serialised_origin};

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
