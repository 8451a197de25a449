//! A request an operator asks about, owned: what `batonctl route` was given.

use core::net::IpAddr;

use baton_core::policy::{Content, Field, Http, Request, Tls, VipIndex};

/// A request that nobody has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The VIP it would be sent to.
    pub vip: VipIndex,
    /// Who would send it.
    pub client: IpAddr,
    /// What it would ask for.
    pub content: AskedContent,
}

/// What such a request begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskedContent {
    /// Something nobody looks at.
    Unseen,
    /// A request head.
    Http {
        /// The method.
        method: String,
        /// The host, without port.
        host: Option<String>,
        /// The path.
        path: String,
        /// The query, without question mark.
        query: Option<String>,
        /// Header fields: names and values.
        fields: Vec<(String, String)>,
    },
    /// A ClientHello.
    Tls {
        /// The server's name.
        server_name: Option<String>,
        /// The protocols offered.
        protocols: Vec<String>,
        /// The session to be resumed.
        session_id: Vec<u8>,
    },
}

impl Asked {
    /// Shows the request to `look` in the form rules and policies know.
    pub fn with<T>(&self, look: impl FnOnce(&Request<'_>) -> T) -> T {
        let (fields, protocols): (Vec<Field<'_>>, Vec<&[u8]>);
        let content = match &self.content {
            AskedContent::Unseen => Content::Unseen,
            AskedContent::Http { method, host, path, query, fields: given } => {
                fields = given.iter().map(|(name, value)| Field { name, value: value.as_bytes() }).collect();
                Content::Http(Http {
                    method,
                    host: host.as_deref(),
                    path,
                    query: query.as_deref(),
                    fields: &fields,
                })
            }
            AskedContent::Tls { server_name, protocols: given, session_id } => {
                protocols = given.iter().map(|name| name.as_bytes()).collect();
                Content::Tls(Tls { server_name: server_name.as_deref(), protocols: &protocols, session_id })
            }
        };
        look(&Request { vip: self.vip, client: self.client, content })
    }
}
