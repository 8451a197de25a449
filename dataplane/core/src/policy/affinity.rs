//! Stickiness: what binds several connections to the same backend.

use crate::ids::BackendIndex;

/// What binds connections to a backend, whatever the pool's policy would choose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Affinity {
    /// The client's address.
    Client,
    /// The value of a cookie, by its hash.
    Cookie {
        /// The cookie's name.
        name: String,
    },
    /// The value of a cookie, or the part behind its last dot, which names a backend: servers that append their own name to
    /// their session ids.
    CookieRoute {
        /// The cookie's name.
        name: String,
        /// Who is called how.
        labels: Vec<(String, BackendIndex)>,
    },
    /// The session a TLS 1.2 client wants to resume (RFC 5246, section 7.3), as far as agents have learned whose it is.
    TlsSession,
}
