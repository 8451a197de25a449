//! What rules answer themselves, without any backend.

/// An answer of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleAnswer {
    /// What is asked for is elsewhere.
    Redirect {
        /// 301, 302, 303, 307 or 308.
        status: u16,
        /// Where: a URI in which `{host}`, `{path}`, `{query}`, `{uri}` (path and query) and `{port}` (of the VIP) stand for
        /// those of the request.
        location: String,
    },
    /// A fixed response.
    Respond {
        /// 200 to 599.
        status: u16,
        /// The media type of the body.
        content_type: String,
        /// The body.
        body: Vec<u8>,
    },
}
