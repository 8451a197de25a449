//! Conditions on the path of a request target.

use core::fmt;

use super::regex::{PathRegex, RegexError};

/// Longest text to compare paths with, in bytes.
pub const PATH_BYTES_MAX: usize = 2048;
/// Most ends one condition may name.
pub const SUFFIX_COUNT_MAX: usize = 64;

/// What a path must look like. Paths are compared byte by byte, undecoded (RFC 3986, section 6.2.2.1: paths are case
/// sensitive).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Its beginning, such as `/video/`.
    Prefix(String),
    /// Its end, such as `.jpg`.
    Suffix(String),
    /// One of several ends, such as those of pictures.
    Suffixes(Suffixes),
    /// Something in it.
    Regex(PathRegex),
}

/// Two ends of paths or more.
///
/// INVARIANT: none is the end of another, so that of a path that has one of them, it has no other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suffixes(Box<[String]>);

impl Suffixes {
    /// Returns the ends, in no order that means anything.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

/// Why a text is nothing to compare paths with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// No path has it: other bytes stand percent-encoded (RFC 3986, section 3.3), and queries are not part of it.
    #[error("a path as it stands in requests is needed: {}percent-encoded, without '?', '#' or blanks", beginning(.from_start))]
    NoPath {
        /// Whether it is compared from the first byte on, which is a slash.
        from_start: bool,
    },
    /// It is longer than what is compared.
    #[error("a path condition has at most {PATH_BYTES_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// None is named, or too many.
    #[error("1 to {SUFFIX_COUNT_MAX} ends of paths are needed, these are {0}")]
    Count(usize),
    /// It is no regular expression that can be used.
    #[error(transparent)]
    Regex(#[from] RegexError),
}

fn beginning(from_start: &bool) -> &'static str {
    if *from_start { "starting with '/', " } else { "" }
}

impl PathMatch {
    /// Compares with the whole path.
    ///
    /// # Errors
    /// If it is no path.
    pub fn exact(text: &str) -> Result<Self, PathError> {
        checked(text, true).map(Self::Exact)
    }

    /// Compares with the beginning of the path.
    ///
    /// # Errors
    /// If no path begins so.
    pub fn prefix(text: &str) -> Result<Self, PathError> {
        checked(text, true).map(Self::Prefix)
    }

    /// Compares with the end of the path.
    ///
    /// # Errors
    /// If no path ends so.
    pub fn suffix(text: &str) -> Result<Self, PathError> {
        checked(text, false).map(Self::Suffix)
    }

    /// Compares with the end of the path: one of these is needed.
    ///
    /// # Errors
    /// If there is none, if there are more than [`SUFFIX_COUNT_MAX`], or if no path ends in one of them.
    pub fn suffixes<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, PathError> {
        let texts: Vec<&str> = texts.into_iter().take(SUFFIX_COUNT_MAX + 1).collect();
        if texts.is_empty() || texts.len() > SUFFIX_COUNT_MAX {
            return Err(PathError::Count(texts.len()));
        }
        let mut ends: Vec<String> = Vec::with_capacity(texts.len());
        for text in texts {
            let end = checked(text, false)?;
            // What ends in a shorter one says nothing more.
            if !ends.iter().any(|known| end.ends_with(known.as_str())) {
                ends.retain(|known| !known.ends_with(&end));
                ends.push(end);
            }
        }
        Ok(match ends.pop() {
            Some(only) if ends.is_empty() => Self::Suffix(only),
            last => Self::Suffixes(Suffixes(ends.into_iter().chain(last).collect())),
        })
    }

    /// Looks for a regular expression in the path.
    ///
    /// # Errors
    /// If it is none, or its table would be too large.
    pub fn regex(text: &str) -> Result<Self, PathError> {
        Ok(Self::Regex(PathRegex::new(text)?))
    }

    /// Says whether `path` looks like that.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(whole) => path == whole,
            Self::Prefix(beginning) => path.starts_with(beginning.as_str()),
            Self::Suffix(end) => path.ends_with(end.as_str()),
            Self::Suffixes(ends) => ends.iter().any(|end| path.ends_with(end)),
            Self::Regex(regex) => regex.matches(path),
        }
    }

    /// Says whether every path that `other` matches is matched by this; where that is hard to say, it is denied.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (wide, Self::Exact(path)) => wide.matches(path),
            (Self::Prefix(wide), Self::Prefix(narrow)) => narrow.starts_with(wide.as_str()),
            // A path may have no more than the end that is asked for.
            (Self::Suffix(_) | Self::Suffixes(_), Self::Suffix(narrow)) => self.matches(narrow),
            (Self::Suffix(_) | Self::Suffixes(_), Self::Suffixes(narrow)) => {
                narrow.iter().all(|end| self.matches(end))
            }
            (Self::Regex(wide), Self::Regex(narrow)) => wide == narrow,
            _ => false,
        }
    }
}

/// Takes a text that is found in paths.
fn checked(text: &str, from_start: bool) -> Result<String, PathError> {
    let stands_in_paths = |byte: u8| byte.is_ascii_graphic() && !b"?#\"<>\\^`{|}".contains(&byte);
    if text.is_empty() || (from_start && !text.starts_with('/')) || !text.bytes().all(stands_in_paths) {
        return Err(PathError::NoPath { from_start });
    }
    if text.len() > PATH_BYTES_MAX {
        return Err(PathError::TooLong(text.len()));
    }
    Ok(text.to_owned())
}

impl fmt::Display for PathMatch {
    /// Writes `/a`, `/a*`, `*.jpg`, `*.jpg|*.gif` or `~ ^/[0-9]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(whole) => f.write_str(whole),
            Self::Prefix(beginning) => write!(f, "{beginning}*"),
            Self::Suffix(end) => write!(f, "*{end}"),
            Self::Suffixes(ends) => {
                let mut ends = ends.iter();
                ends.next().map_or(Ok(()), |end| write!(f, "*{end}"))?;
                ends.try_for_each(|end| write!(f, "|*{end}"))
            }
            Self::Regex(regex) => write!(f, "~ {}", regex.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_matches_its_part_of_the_path_and_nothing_else() {
        let ours = [
            PathMatch::exact("/a"),
            PathMatch::prefix("/a/"),
            PathMatch::suffix(".jpg"),
            PathMatch::regex("^/./.*jpg$"),
        ]
        .map(|path| path.expect("a path"));
        for (path, expected) in [
            ("/a", [true, false, false, false]),
            ("/a/", [false, true, false, false]),
            ("/a/x.jpg", [false, true, true, true]),
            ("/A/x.JPG", [false, false, false, false]),
            ("/b/a/.jpg", [false, false, true, true]),
            ("", [false, false, false, false]),
        ] {
            assert_eq!(ours.each_ref().map(|ours| ours.matches(path)), expected, "{path}");
        }
        assert_eq!(ours.map(|ours| ours.to_string()), ["/a", "/a/*", "*.jpg", "~ ^/./.*jpg$"]);
    }

    #[test]
    fn one_of_several_ends_is_enough_and_none_says_what_another_says() {
        let ends = |texts: &[&str]| PathMatch::suffixes(texts.iter().copied()).expect("ends");
        let pictures = ends(&[".gif", ".jpg", ".jpeg"]);
        for (path, expected) in
            [("/a.gif", true), ("/b/c.jpeg", true), (".jpg", true), ("/a.gif/", false), ("/a.GIF", false)]
        {
            assert_eq!(pictures.matches(path), expected, "{path}");
        }
        assert_eq!(pictures.to_string(), "*.gif|*.jpg|*.jpeg");
        assert_eq!(ends(&[".gif"]), PathMatch::suffix(".gif").expect("an end"));
        assert_eq!(ends(&["a.gif", ".gif", "b.gif", ".gif"]), ends(&[".gif"]));
        assert_eq!(ends(&["a.gif", ".jpg", "f"]).to_string(), "*.jpg|*f");
        assert_eq!(PathMatch::suffixes([]), Err(PathError::Count(0)));
        assert_eq!(PathMatch::suffixes([".a"; 65]), Err(PathError::Count(65)));
        assert!(PathMatch::suffixes([".a"; 64]).is_ok());
        assert_eq!(PathMatch::suffixes([".a", "?"]), Err(PathError::NoPath { from_start: false }));
    }

    #[test]
    fn what_stands_in_no_path_is_refused() {
        for text in ["", "a", "/a?b", "/a#b", "/a b", "/é", "/a|b", "/\n"] {
            assert_eq!(PathMatch::exact(text), Err(PathError::NoPath { from_start: true }), "{text}");
            assert_eq!(PathMatch::prefix(text), Err(PathError::NoPath { from_start: true }), "{text}");
            let expected = (text != "a").then_some(PathError::NoPath { from_start: false });
            assert_eq!(PathMatch::suffix(text).err(), expected, "{text}");
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        assert_eq!(PathMatch::prefix(&long), Err(PathError::TooLong(2049)));
        assert!(PathMatch::prefix(&long[..PATH_BYTES_MAX]).is_ok());
        let told = PathMatch::suffix(" ").expect_err("a blank").to_string();
        assert_eq!(
            told,
            "a path as it stands in requests is needed: percent-encoded, without '?', '#' or blanks"
        );
    }
}
