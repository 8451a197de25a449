//! The subtrees a path leads through, as hashes.

use core::hash::Hasher;

use super::super::hash_on::hasher;

/// Returns the hash of each subtree on the way to a document, the widest first: of `/a/b/c` those of `/a`, `/a/b` and
/// `/a/b/c`, the document itself; at most `depth` of them. Paths are taken as they are written.
pub(super) fn prefixes(path: &str, depth: u8) -> impl Iterator<Item = u64> {
    let mut hasher = hasher();
    let segments = path.strip_prefix('/').unwrap_or(path).split('/').take(depth.into());
    segments.map(move |segment| {
        hasher.write(b"/");
        hasher.write(segment.as_bytes());
        hasher.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::super::super::hash;
    use super::*;

    #[test]
    fn each_subtree_has_the_hash_of_its_path() {
        let all = |path: &str, depth| prefixes(path, depth).collect::<Vec<_>>();
        let hashes = |paths: &[&str]| paths.iter().map(|path| hash([path.as_bytes()])).collect::<Vec<_>>();
        assert_eq!(all("/a/b/c", 8), hashes(&["/a", "/a/b", "/a/b/c"]));
        assert_eq!(all("/a/b/c", 2), hashes(&["/a", "/a/b"]));
        assert_eq!(all("/", 2), hashes(&["/"]));
        assert_eq!(all("*", 2), hashes(&["/*"]), "what is no path is no trouble");
    }
}
