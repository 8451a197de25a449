//! Conditions on the host asked for.

/// A host name to compare with, without port. Comparison ignores ASCII case (RFC 9110, section 4.2.3) and one trailing
/// dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostMatch(String);

impl HostMatch {
    /// Compares with this name.
    pub fn new(name: &str) -> Self {
        Self(without_dot(name).to_owned())
    }

    /// Says whether `host` is this name.
    pub fn matches(&self, host: &str) -> bool {
        without_dot(host).eq_ignore_ascii_case(&self.0)
    }
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}
