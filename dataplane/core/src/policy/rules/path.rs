//! Conditions on the path of a request target.

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
}

impl PathMatch {
    /// Says whether `path` looks like that.
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Exact(whole) => path == whole,
            Self::Prefix(beginning) => path.starts_with(beginning.as_str()),
            Self::Suffix(end) => path.ends_with(end.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_matches_its_part_of_the_path_and_nothing_else() {
        let exact = PathMatch::Exact("/a".into());
        let prefix = PathMatch::Prefix("/a/".into());
        let suffix = PathMatch::Suffix(".jpg".into());
        for (path, expected) in [
            ("/a", [true, false, false]),
            ("/a/", [false, true, false]),
            ("/a/x.jpg", [false, true, true]),
            ("/A/x.JPG", [false, false, false]),
            ("/b/a/.jpg", [false, false, true]),
            ("", [false, false, false]),
        ] {
            let got = [exact.matches(path), prefix.matches(path), suffix.matches(path)];
            assert_eq!(got, expected, "{path}");
        }
    }
}
