//! The method of a request (RFC 9110 §9.3).

use core::fmt;

/// The methods that are accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// GET: a resource, or the start of a WebSocket connection.
    Get,
    /// HEAD: the headers a GET would be answered with.
    Head,
    /// OPTIONS: which methods there are. Load balancers use it as a health check.
    Options,
    /// POST: whatever the resource makes of the body.
    Post,
    /// PUT: the body replaces the resource.
    Put,
    /// PATCH: the body changes the resource (RFC 5789).
    Patch,
    /// DELETE: the resource goes.
    Delete,
}

impl Method {
    const ALL: [Self; 7] =
        [Self::Get, Self::Head, Self::Options, Self::Post, Self::Put, Self::Patch, Self::Delete];

    /// `None` for a method that is not accepted. Methods have a case (RFC 9110 §9.1).
    pub(crate) fn parse(token: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == token)
    }

    /// The method as it stands in a request, `GET`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Options => "OPTIONS",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// Whether a request of this method may have a body here. For GET and HEAD a body means nothing
    /// and might be an attempt at request smuggling (RFC 9110 §9.3.1, §9.3.2); for OPTIONS no use of
    /// one is defined (§9.3.7).
    pub const fn may_have_body(self) -> bool {
        match self {
            Self::Get | Self::Head | Self::Options => false,
            Self::Post | Self::Put | Self::Patch | Self::Delete => true,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn methods_are_read_as_they_are_written_and_only_so() {
        for method in Method::ALL {
            assert_eq!(Method::parse(method.as_str()), Some(method));
            assert_eq!(method.to_string(), method.as_str());
        }
        for none in ["", "get", "Get", "GETS", "GE", "POSTX", "CONNECT", "TRACE", "PRI", "QUERY"] {
            assert_eq!(Method::parse(none), None, "{none}");
        }
    }
}
