//! Services known by name: what kind of work a request is for a server, told by its method, its path and its query.
//!
//! The division is that of the early content-aware clusters, which had a file service, a video service and a database
//! service on different machines, and of those that told static from dynamic requests because the latter cost a server
//! something of another order:
//!
//! | name       | method         | path                                                  | query          |
//! |------------|----------------|-------------------------------------------------------|----------------|
//! | `video`    | GET, HEAD      | ends in a type of [`VIDEO_TYPES`]                           | any            |
//! | `static`   | GET, HEAD      | names no program; with a query: ends in a type of [`VIDEO_TYPES`] or [`FILE_TYPES`] | any, see path |
//! | `file`     | as `static`, without what is `video`                  |                                        | |
//! | `dynamic`  | all that is not `static`                              |                                        | |
//! | `database` | as `dynamic`, if it says what to look for or to change: it has a query, or the method is POST, PUT, PATCH or DELETE | | |
//!
//! So every request is either `static` or `dynamic`; `video` and `file` share the former, and `database` is part of the
//! latter. A path names a program if a segment of it ends in a type of [`PROGRAM_TYPES`] (`/index.php/a`) or is `cgi-bin`. Types
//! are compared without regard to ASCII case; of a segment, what stands behind a `;` is dropped (`/a.jsp;jsessionid=1`). A
//! query behind a file (`/a.css?v=2`) keeps caches apart and makes nothing dynamic.

use core::fmt;

use crate::policy::Http;

/// Types of moving pictures and their playlists.
pub const VIDEO_TYPES: [&str; 22] = [
    "3gp", "asf", "avi", "divx", "flv", "m2ts", "m3u8", "m4s", "m4v", "mkv", "mov", "mp4", "mpd", "mpe",
    "mpeg", "mpg", "ogv", "ts", "vob", "webm", "wmv", "xvid",
];

/// Types of other files that lie ready.
pub const FILE_TYPES: [&str; 53] = [
    "7z", "apk", "avif", "bin", "bmp", "bz2", "css", "csv", "deb", "dmg", "doc", "docx", "eot", "exe",
    "flac", "gif", "gz", "htm", "html", "ico", "iso", "jar", "jpeg", "jpg", "js", "json", "map", "md", "mjs",
    "mp3", "msi", "ogg", "otf", "pdf", "png", "ppt", "ps", "rpm", "svg", "tar", "tgz", "tif", "tiff", "ttf",
    "txt", "wasm", "wav", "webp", "woff", "woff2", "xml", "xz", "zip",
];

/// Types of programs that servers run.
pub const PROGRAM_TYPES: [&str; 14] =
    ["asp", "aspx", "cfm", "cgi", "do", "fcgi", "jsp", "jspx", "php", "php3", "phtml", "pl", "py", "shtml"];

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// Moving pictures.
    Video,
    /// Something looked up or changed.
    Database,
    /// What lies ready and is no video.
    File,
    /// What lies ready.
    Static,
    /// What a program makes.
    Dynamic,
}

impl Service {
    /// All there are.
    pub const ALL: [Self; 5] = [Self::Video, Self::Database, Self::File, Self::Static, Self::Dynamic];

    /// Returns the service of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|service| service.name() == name)
    }

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Video => "video",
            Self::Database => "database",
            Self::File => "file",
            Self::Static => "static",
            Self::Dynamic => "dynamic",
        }
    }

    /// Says whether a request is of this kind. It goes over the path at most twice.
    pub fn matches(self, http: &Http<'_>) -> bool {
        match self {
            Self::Video => is_reading(http) && has_type(last_segment(http.path), &VIDEO_TYPES),
            Self::Static => is_static(http),
            Self::File => is_static(http) && !has_type(last_segment(http.path), &VIDEO_TYPES),
            Self::Dynamic => !is_static(http),
            Self::Database => {
                let says_what = http.query.is_some_and(|query| !query.is_empty())
                    || matches!(http.method, "POST" | "PUT" | "PATCH" | "DELETE");
                says_what && !is_static(http)
            }
        }
    }

    /// Says whether every request of kind `other` is of this kind.
    pub(super) fn covers(self, other: Self) -> bool {
        self == other
            || matches!(
                (self, other),
                (Self::Static, Self::Video | Self::File) | (Self::Dynamic, Self::Database)
            )
    }
}

fn is_reading(http: &Http<'_>) -> bool {
    matches!(http.method, "GET" | "HEAD")
}

fn is_static(http: &Http<'_>) -> bool {
    let last = last_segment(http.path);
    let is_video = has_type(last, &VIDEO_TYPES);
    let has_query = http.query.is_some_and(|query| !query.is_empty());
    is_reading(http)
        && (is_video || !names_program(http.path))
        && (is_video || !has_query || has_type(last, &FILE_TYPES))
}

fn last_segment(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, last)| last)
}

fn names_program(path: &str) -> bool {
    path.split('/').any(|segment| segment == "cgi-bin" || has_type(segment, &PROGRAM_TYPES))
}

/// Says whether a segment ends in a dot and one of the types.
fn has_type(segment: &str, types: &[&str]) -> bool {
    let bare = segment.split_once(';').map_or(segment, |(bare, _)| bare);
    let Some((_, ours)) = bare.rsplit_once('.') else { return false };
    types.iter().any(|one| one.eq_ignore_ascii_case(ours))
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_request_is_of_the_kinds_the_table_says() {
        use Service::{Database, Dynamic, File, Static, Video};
        for (method, path, query, expected) in [
            ("GET", "/films/a.mpeg", None, &[Video, Static][..]),
            ("GET", "/films/a.MP4", Some("token=1"), &[Video, Static]),
            ("HEAD", "/live/1.ts", None, &[Video, Static]),
            ("POST", "/films/a.mpg", None, &[Database, Dynamic]),
            ("GET", "/films/mp4", None, &[File, Static]),
            ("GET", "/", None, &[File, Static]),
            ("GET", "/file_set/dir00001/class1_3", None, &[File, Static]), // as in SPECweb99
            ("GET", "/a.html", Some(""), &[File, Static]),
            ("GET", "/a.css", Some("v=2"), &[File, Static]),
            ("HEAD", "/a.zip", None, &[File, Static]),
            ("GET", "/search", Some("q=x"), &[Database, Dynamic]),
            ("GET", "/index.php", None, &[Dynamic]),
            ("GET", "/index.PHP", Some("id=7"), &[Database, Dynamic]),
            ("GET", "/index.php/a/b.html", None, &[Dynamic]),
            ("GET", "/a.jsp;jsessionid=1.css", None, &[Dynamic]),
            ("GET", "/cgi-bin/a", Some("x"), &[Database, Dynamic]),
            ("GET", "/a/cgi-bin", None, &[Dynamic]),
            ("POST", "/a", None, &[Database, Dynamic]),
            ("PUT", "/a.html", None, &[Database, Dynamic]),
            ("OPTIONS", "*", None, &[Dynamic]),
            ("CONNECT", "", None, &[Dynamic]),
        ] {
            let http = Http { method, host: None, path, query, fields: &[] };
            let found: Vec<Service> =
                Service::ALL.into_iter().filter(|service| service.matches(&http)).collect();
            let expected: Vec<Service> =
                Service::ALL.into_iter().filter(|service| expected.contains(service)).collect();
            assert_eq!(found, expected, "{method} {path} {query:?}");
        }
    }

    #[test]
    fn names_are_found_again_and_nothing_else_is_a_name() {
        for service in Service::ALL {
            assert_eq!(Service::from_name(service.name()), Some(service));
        }
        for name in ["", "Video", "videos", "files"] {
            assert_eq!(Service::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn no_type_is_of_two_kinds() {
        for (types, others) in [
            (&VIDEO_TYPES[..], &FILE_TYPES[..]),
            (&VIDEO_TYPES, &PROGRAM_TYPES),
            (&FILE_TYPES, &PROGRAM_TYPES),
        ] {
            assert_eq!(types.iter().find(|one| others.contains(one)), None);
        }
    }
}
