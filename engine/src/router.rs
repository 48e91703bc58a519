//! Paths to whatever an application has for them: a small router for `on_upgrade` and `on_request`.
//!
//! Never looks at the method or the query, and knows nothing of the shard.

use std::borrow::Cow;
use std::collections::HashSet;
use std::error::Error;
use std::fmt;

use percent_encoding::percent_decode_str;

/// Patterns of paths, each with a value. The crate `matchit` finds the pattern of a path.
///
/// - `/rooms` matches this path alone; `/rooms/` is another one.
/// - `/rooms/{room}/messages` has a parameter: a segment of at least one byte. It may have text in
///   front or behind, `/images/{name}.png`. A name is letters, digits and `_`.
/// - `/files/{*rest}` ends with a rest: at least one byte, slashes included.
/// - `{{` and `}}` are the braces themselves.
///
/// Where several patterns match, text is preferred to a parameter or a rest, segment by segment:
/// `/rooms/new` goes to `/rooms/new` and not to `/rooms/{room}`. Two patterns between which that does
/// not decide overlap, and the second one is refused: `/{a}` and `/{b}`, `/{a}` and `/{*rest}`; also
/// `/{a}.png` and `/{*rest}`, between which `matchit` does not decide.
///
/// The text of a pattern is compared with a path as it was sent, byte by byte, so `/%72ooms` is not
/// `/rooms`. Parameters are percent-decoded when they are read.
///
/// ```
/// use ringwire::Router;
///
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// enum Page { Health, Room }
///
/// let mut router = Router::new();
/// router.add("/health", Page::Health)?;
/// router.add("/rooms/{room}", Page::Room)?;
///
/// let found = router.find("/rooms/caf%C3%A9").expect("a room");
/// assert_eq!(*found.value(), Page::Room);
/// assert_eq!(found.param("room").as_deref(), Some("café"));
/// assert!(router.find("/rooms").is_none());
/// # Ok::<(), ringwire::RouteError>(())
/// ```
#[derive(Clone)]
pub struct Router<T> {
    patterns: matchit::Router<T>,
}

impl<T> Router<T> {
    /// A router without patterns.
    pub fn new() -> Self {
        Self { patterns: matchit::Router::new() }
    }

    /// Adds a pattern and what belongs to it.
    ///
    /// # Errors
    ///
    /// The pattern is malformed or could never match, see [`RouteError::Pattern`]; it overlaps with
    /// an earlier one. The router is as it was then.
    pub fn add(&mut self, pattern: &str, value: T) -> Result<(), RouteError> {
        check(pattern).ok_or(RouteError::Pattern)?;
        self.patterns.insert(pattern, value).map_err(|error| match error {
            matchit::InsertError::Conflict { with } => RouteError::Overlap { with },
            _ => RouteError::Pattern,
        })
    }

    /// The pattern of a path ([`Request::path`](crate::Request::path)) and its parameters.
    pub fn find<'r, 'p>(&'r self, path: &'p str) -> Option<Match<'r, 'p, T>> {
        let matchit::Match { value, params } = self.patterns.at(path).ok()?;
        Some(Match { value, params })
    }
}

impl<T> Default for Router<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> fmt::Debug for Router<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Router").finish_non_exhaustive()
    }
}

/// What [`Router::find`] has found.
#[derive(Debug)]
pub struct Match<'r, 'p, T> {
    value: &'r T,
    params: matchit::Params<'r, 'p>,
}

impl<'r, 'p, T> Match<'r, 'p, T> {
    /// What was added with the pattern.
    pub const fn value(&self) -> &'r T {
        self.value
    }

    /// The parameter or rest of this name, percent-decoded; bytes that are not UTF-8 are replaced.
    /// `None` if the pattern has none of this name.
    ///
    /// A decoded parameter may hold anything that can be encoded, `/`, `..` and NUL too. It is no
    /// path of a file before it has been checked.
    pub fn param(&self, name: &str) -> Option<Cow<'p, str>> {
        let value = self.params.iter().find(|(key, _)| *key == name)?.1;
        Some(percent_decode_str(value).decode_utf8_lossy())
    }
}

/// Why a pattern is not added.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RouteError {
    /// It does not begin with `/`, has a `?`, a `#` or something else than visible ASCII, which no
    /// path has; a parameter has no name or the name of another one; a segment has two parameters; a
    /// brace is open; something follows the rest.
    Pattern,
    /// Some paths would match it and an earlier pattern, and neither is preferred.
    Overlap {
        /// The earlier pattern.
        with: String,
    },
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pattern => f.write_str("not a pattern of paths"),
            Self::Overlap { with } => write!(f, "overlaps with the pattern {with}"),
        }
    }
}

impl Error for RouteError {}

/// What `matchit` takes and nobody means: a name with a slash or a brace in it, one name twice.
fn check(pattern: &str) -> Option<()> {
    // A path is visible ASCII without a query, see `Request::path`.
    let is_text = |byte: u8| byte.is_ascii_graphic() && !b"?#".contains(&byte);
    let segments = pattern.strip_prefix('/').filter(|_| pattern.bytes().all(is_text))?;
    let mut names = HashSet::new();
    let mut is_rest_behind = false;
    for segment in segments.split('/') {
        if is_rest_behind {
            return None;
        }
        let Some(param) = param_of(segment)? else { continue };
        is_rest_behind = param.is_rest;
        if !names.insert(param.name) {
            return None;
        }
    }
    Some(())
}

struct Param {
    name: String,
    is_rest: bool,
}

/// The parameter of a segment, if it has one; `None` if it is malformed.
fn param_of(segment: &str) -> Option<Option<Param>> {
    let unescaped = segment.replace("{{", "").replace("}}", "");
    let Some((_, param)) = unescaped.split_once('{') else {
        return (!unescaped.contains('}')).then_some(None);
    };
    let (param, behind) = param.split_once('}')?;
    let name = param.strip_prefix('*').unwrap_or(param);
    let is_rest = name.len() < param.len();
    let is_name = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !behind.contains(['{', '}'])
        && (!is_rest || segment.len() == param.len() + 2);
    is_name.then(|| Some(Param { name: name.into(), is_rest }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn router(patterns: &[&'static str]) -> Router<&'static str> {
        let mut router = Router::new();
        for pattern in patterns {
            router.add(pattern, *pattern).unwrap();
        }
        router
    }

    #[test]
    fn paths_find_their_pattern() {
        let router = router(&[
            "/",
            "/ws",
            "/rooms/new",
            "/rooms/{room}",
            "/rooms/{room}/messages",
            "/rooms/new/messages/first",
            "/files/{*rest}",
            "/files/index",
            "/images/{name}.png",
            "/{{x}}",
        ]);
        let table = [
            ("/", Some("/")),
            ("/ws", Some("/ws")),
            ("/rooms/new", Some("/rooms/new")),
            ("/rooms/newer", Some("/rooms/{room}")),
            ("/rooms/a%2Fb", Some("/rooms/{room}")),
            ("/rooms/a/messages", Some("/rooms/{room}/messages")),
            // Text was the wrong way here, so the parameter it is.
            ("/rooms/new/messages", Some("/rooms/{room}/messages")),
            ("/rooms/new/messages/first", Some("/rooms/new/messages/first")),
            ("/files/index", Some("/files/index")),
            ("/files/index/a", Some("/files/{*rest}")),
            ("/files//", Some("/files/{*rest}")),
            ("/images/a.png", Some("/images/{name}.png")),
            ("/{x}", Some("/{{x}}")),
            ("", None),
            ("*", None),
            ("/ws/", None),
            ("//ws", None),
            ("/WS", None),
            ("/w%73", None),
            ("/rooms", None),
            ("/rooms/", None),
            ("/rooms//messages", None),
            ("/rooms/a/b/messages", None),
            ("/files", None),
            ("/files/", None),
            ("/images/.png", None),
        ];
        for (path, expected) in table {
            assert_eq!(router.find(path).map(|found| *found.value()), expected, "{path}");
        }
    }

    #[test]
    fn parameters_are_decoded_and_known_by_name() {
        let router = router(&["/r/{room}/m/{id}", "/f/{*rest}"]);
        let table = [
            ("/r/a/m/b", "room", Some("a")),
            ("/r/a/m/b", "id", Some("b")),
            ("/r/a/m/b", "rest", None),
            ("/r/a/m/b", "Room", None),
            ("/r/caf%c3%A9/m/%2F%2e.+%20", "room", Some("café")),
            ("/r/caf%c3%A9/m/%2F%2e.+%20", "id", Some("/..+ ")),
            ("/r/%ff/m/%", "room", Some("\u{fffd}")),
            ("/r/%ff/m/%", "id", Some("%")),
            ("/r/%7broom%7d/m/%zz", "room", Some("{room}")),
            ("/f/a/../b%2Fc", "rest", Some("a/../b/c")),
            ("/f//", "rest", Some("/")),
        ];
        for (path, name, expected) in table {
            assert_eq!(
                router.find(path).unwrap().param(name).as_deref(),
                expected,
                "{path} {name}"
            );
        }
    }

    #[test]
    fn patterns_that_overlap_are_refused_and_change_nothing() {
        let table: [(&str, &str); 10] = [
            ("/a", "/a"),
            ("/{a}", "/{a}"),
            ("/{a}", "/{b}"),
            ("/{a}/x", "/{b}/x"),
            ("/{*a}", "/{*b}"),
            ("/{a}", "/{*b}"),
            ("/{*a}", "/{b}"),
            ("/{a}.png", "/{*b}"),
            ("/x/{a}/y", "/x/{*b}"),
            ("/x{a}y", "/x{b}y"),
        ];
        for (first, second) in table {
            let mut router = Router::new();
            router.add(first, first).unwrap();
            let overlap = RouteError::Overlap { with: first.into() };
            assert_eq!(router.add(second, second), Err(overlap), "{first} {second}");
            assert_eq!(router.find(first).map(|found| *found.value()), Some(first));
        }
        for (first, second) in [("/{a}/x", "/{b}/y"), ("/a", "/{a}"), ("/a/{*r}", "/{a}/b")] {
            router(&[first, second]);
        }
        let with = "/a".into();
        assert_eq!(RouteError::Overlap { with }.to_string(), "overlaps with the pattern /a");
    }

    #[test]
    fn what_is_no_pattern_of_paths() {
        let table = [
            "",
            "a",
            "*",
            "{a}",
            "/a b",
            "/caf\u{e9}",
            "/a?b",
            "/a#",
            "/{}",
            "/{*}",
            "/{a",
            "/a}",
            "/{/{a}",
            "/{a/b}",
            "/{a{b}",
            "/{a}}",
            "/{{a}",
            "/{a:b}",
            "/{a*}",
            "/{**a}",
            "/x{*a}",
            "/{*a}x",
            "/{*a}/",
            "/{a}{b}",
            "/{a}-{b}",
            "/{*a}/b",
            "/{a}/{a}",
            "/{a}/{*a}",
            "/{a}/x{a}y",
            "/\0",
        ];
        for pattern in table {
            assert_eq!(Router::new().add(pattern, ()), Err(RouteError::Pattern), "{pattern}");
        }
    }

    /// Random patterns, against the rules written down: no panic, and the right one is found.
    #[test]
    fn any_patterns_find_what_the_naive_twin_finds() {
        const SEGMENTS: [&str; 8] = ["a", "b", "ab", "{p}", "{q}", "{*r}", "{", "x{s}"];
        let mut random = fastrand::Rng::with_seed(7);
        let mut path_of = |segments: &[&'static str]| -> String {
            (0..random.usize(1..4))
                .map(|_| format!("/{}", random.choice(segments).unwrap()))
                .collect()
        };
        let mut found = 0;
        for _ in 0..20_000 {
            let mut router = Router::new();
            let mut patterns = Vec::new();
            for _ in 0..6 {
                let pattern = path_of(&SEGMENTS);
                if router.add(&pattern, pattern.clone()).is_ok() {
                    patterns.push(pattern);
                }
            }
            let path = path_of(&["a", "b", "ab", "c", "xa", ""]);
            let expected = naive(&patterns, &path);
            assert_eq!(
                router.find(&path).map(|found| &**found.value()),
                expected,
                "{patterns:?} {path}"
            );
            found += usize::from(expected.is_some());
        }
        assert!(found > 1000, "{found}");
    }

    /// Of all patterns that match, the one whose first differing segment is the plainest.
    fn naive<'a>(patterns: &'a [String], path: &str) -> Option<&'a str> {
        let rank = |segment: &str| match segment {
            segment if !segment.contains('{') => 0,
            segment if !segment.starts_with('{') => 1,
            _ => 2,
        };
        let matching = patterns.iter().filter(|pattern| naive_matches(pattern, path));
        let ranks = |pattern: &&String| pattern.split('/').map(rank).collect::<Vec<_>>();
        matching.min_by_key(ranks).map(|pattern| &**pattern)
    }

    fn naive_matches(pattern: &str, path: &str) -> bool {
        let mut segments = path.split('/');
        for part in pattern.split('/') {
            if part.starts_with("{*") {
                return !segments.collect::<Vec<_>>().join("/").is_empty();
            }
            let Some(segment) = segments.next() else { return false };
            let (before, is_param) = part.split_once('{').map_or((part, false), |(b, _)| (b, true));
            let is_match = match is_param {
                true => segment.len() > before.len() && segment.starts_with(before),
                false => segment == part,
            };
            if !is_match {
                return false;
            }
        }
        segments.next().is_none()
    }
}
