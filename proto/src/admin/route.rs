//! What would become of a request that might come.

use core::net::IpAddr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Rule;
use crate::tls::TlsSessionId;

/// How many headers and protocols one question may have.
const REPEATS_MAX: usize = 64;

/// A request that might come: the query of `GET /v1/route`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteQuestion {
    /// Name of the VIP it would come to; may be left out where there is one only.
    pub vip: Option<String>,
    /// Whom it would come from; left out, nobody in particular, which is 0.0.0.0.
    pub client: Option<IpAddr>,
    /// What its first bytes would say.
    pub content: RouteContent,
}

/// What the first bytes of a connection say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum RouteContent {
    /// Nothing that is looked at.
    #[default]
    Unseen,
    /// An HTTP request.
    Http {
        /// `GET` and so on.
        method: String,
        /// Path and query, beginning with `/`.
        target: String,
        /// What the Host field says, with or without port.
        host: Option<String>,
        /// The other fields, in their order.
        headers: Vec<(String, String)>,
    },
    /// A TLS ClientHello.
    Tls {
        /// SNI.
        server_name: Option<String>,
        /// ALPN, in the client's order.
        protocols: Vec<String>,
        /// The session the client would resume.
        session_id: Option<TlsSessionId>,
    },
}

/// Why a query is no question.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PairFault {
    /// Nobody knows this name.
    #[error(
        "there is no parameter \"{0}\"; there are vip, client, method, target, host, header, server_name, protocol, \
         session_id"
    )]
    Unknown(String),
    /// Only some may come again.
    #[error("the parameter \"{0}\" comes twice; only header and protocol may")]
    Twice(&'static str),
    /// Too many of those that may.
    #[error("more than {REPEATS_MAX} headers or protocols")]
    TooMany,
    /// No address.
    #[error("client={0:?} is no IP address")]
    Client(String),
    /// No session.
    #[error("session_id={0:?} is no TLS session id: 1 to 32 bytes in hex digits are needed, two a byte")]
    Session(String),
    /// No header.
    #[error("header={0:?} is not of the form \"Name: value\"")]
    Header(String),
    /// Not a target a request may have.
    #[error("target={0:?} does not begin with \"/\"")]
    Target(String),
    /// Half a request.
    #[error("of an HTTP request both method and target are needed")]
    HalfHttp,
    /// A connection is one or the other.
    #[error(
        "method, target, host and header speak of HTTP, server_name, protocol and session_id of TLS: use either"
    )]
    Both,
}

impl RouteQuestion {
    /// Returns the query's parameters, not yet encoded.
    pub fn to_pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        let mut put = |name, value: &Option<String>| pairs.extend(value.clone().map(|value| (name, value)));
        put("vip", &self.vip);
        put("client", &self.client.map(|client| client.to_string()));
        match &self.content {
            RouteContent::Unseen => {}
            RouteContent::Http { method, target, host, headers } => {
                put("method", &Some(method.clone()));
                put("target", &Some(target.clone()));
                put("host", host);
                headers.iter().for_each(|(name, value)| put("header", &Some(format!("{name}: {value}"))));
            }
            RouteContent::Tls { server_name, protocols, session_id } => {
                put("server_name", server_name);
                put("session_id", &session_id.map(|id| id.to_string()));
                protocols.iter().for_each(|protocol| put("protocol", &Some(protocol.clone())));
            }
        }
        pairs
    }

    /// Reads the query's parameters, decoded already, in any order.
    ///
    /// # Errors
    /// See [`PairFault`].
    pub fn from_pairs(
        pairs: impl IntoIterator<Item = (impl AsRef<str>, impl Into<String>)>,
    ) -> Result<Self, PairFault> {
        let mut given = Given::default();
        for (name, value) in pairs {
            given.take(name.as_ref(), value.into())?;
        }
        given.question()
    }
}

/// Parameters as they come.
#[derive(Debug, Default)]
struct Given {
    vip: Option<String>,
    client: Option<IpAddr>,
    method: Option<String>,
    target: Option<String>,
    host: Option<String>,
    headers: Vec<(String, String)>,
    server_name: Option<String>,
    protocols: Vec<String>,
    session_id: Option<TlsSessionId>,
}

impl Given {
    fn take(&mut self, name: &str, value: String) -> Result<(), PairFault> {
        match name {
            "vip" => once(&mut self.vip, "vip", value)?,
            "client" => {
                let client = value.parse().map_err(|_| PairFault::Client(value))?;
                once(&mut self.client, "client", client)?;
            }
            "method" => once(&mut self.method, "method", value)?,
            "target" if !value.starts_with('/') => return Err(PairFault::Target(value)),
            "target" => once(&mut self.target, "target", value)?,
            "host" => once(&mut self.host, "host", value)?,
            "header" => match value.split_once(':') {
                Some((name, rest)) if !name.trim().is_empty() => {
                    self.headers.push((name.trim().to_owned(), rest.trim().to_owned()));
                }
                _ => return Err(PairFault::Header(value)),
            },
            "server_name" => once(&mut self.server_name, "server_name", value)?,
            "protocol" => self.protocols.push(value),
            "session_id" => {
                let id = value.parse().map_err(|_| PairFault::Session(value))?;
                once(&mut self.session_id, "session_id", id)?;
            }
            _ => return Err(PairFault::Unknown(name.to_owned())),
        }
        if self.headers.len() + self.protocols.len() > REPEATS_MAX {
            return Err(PairFault::TooMany);
        }
        Ok(())
    }

    fn question(self) -> Result<RouteQuestion, PairFault> {
        let Self { vip, client, method, target, host, headers, server_name, protocols, session_id } = self;
        let is_http = method.is_some() || target.is_some() || host.is_some() || !headers.is_empty();
        let is_tls = server_name.is_some() || !protocols.is_empty() || session_id.is_some();
        let content = match (is_http, is_tls) {
            (false, false) => RouteContent::Unseen,
            (false, true) => RouteContent::Tls { server_name, protocols, session_id },
            (true, true) => return Err(PairFault::Both),
            (true, false) => {
                let (method, target) = method.zip(target).ok_or(PairFault::HalfHttp)?;
                RouteContent::Http { method, target, host, headers }
            }
        };
        Ok(RouteQuestion { vip, client, content })
    }
}

fn once<T>(place: &mut Option<T>, name: &'static str, value: T) -> Result<(), PairFault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(PairFault::Twice(name)),
    }
}

/// Where a request would go: answers `GET /v1/route`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Name of the VIP.
    pub vip: String,
    /// The rule that matches; none if none does.
    pub rule: Option<Rule>,
    /// How full the rule's pool is, in thousandths; none if no pool would get the request. Its class is refused from some fullness on.
    pub pool_fullness_permille: Option<u16>,
    /// What becomes of the request.
    pub outcome: RouteOutcome,
}

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum RouteOutcome {
    /// A backend gets it.
    Dispatch {
        /// The pool.
        pool: String,
        /// What of the request keeps it at its backend, in a sentence; none if the pool keeps nothing.
        affinity: Option<String>,
        /// The pool's policy.
        policy: String,
        /// The backend; none if there is none that may get it, and then it is refused with status 503.
        backend: Option<String>,
        /// Why that one, or why none, in a sentence.
        why: String,
    },
    /// The switch answers.
    Answer {
        /// The status.
        status: u16,
        /// Where it sends the client, if it does.
        location: Option<String>,
        /// Why, in a sentence.
        why: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str) -> Vec<(&str, &str)> {
        text.split('&').filter_map(|pair| pair.split_once('=')).collect()
    }

    #[test]
    fn a_question_is_read_as_it_was_written() {
        let http = RouteQuestion {
            vip: Some("web".into()),
            client: Some(IpAddr::from([10, 0, 0, 7])),
            content: RouteContent::Http {
                method: "POST".into(),
                target: "/a?b=c".into(),
                host: Some("www.example.org".into()),
                headers: vec![("Cookie".into(), "a=b: c".into()), ("X-Beta".into(), String::new())],
            },
        };
        let tls = RouteQuestion {
            content: RouteContent::Tls {
                server_name: Some("www.example.org".into()),
                protocols: vec!["h2".into(), "http/1.1".into()],
                session_id: TlsSessionId::new(&[0, 0xab]),
            },
            ..RouteQuestion::default()
        };
        for question in [http, tls, RouteQuestion::default()] {
            assert_eq!(RouteQuestion::from_pairs(question.to_pairs()), Ok(question));
        }
    }

    #[test]
    fn a_query_says_each_thing_once_and_speaks_of_one_protocol() {
        let fault = |text| RouteQuestion::from_pairs(pairs(text)).expect_err(text);
        assert_eq!(fault("way=1"), PairFault::Unknown("way".into()));
        assert_eq!(fault("host=a&host=b"), PairFault::Twice("host"));
        assert_eq!(fault("client=me"), PairFault::Client("me".into()));
        assert_eq!(fault("header=nothing"), PairFault::Header("nothing".into()));
        assert_eq!(fault("header=: nothing"), PairFault::Header(": nothing".into()));
        assert_eq!(fault("method=GET&target=a"), PairFault::Target("a".into()));
        assert_eq!(fault("method=GET"), PairFault::HalfHttp);
        assert_eq!(fault("host=a"), PairFault::HalfHttp);
        assert_eq!(fault("method=GET&target=/&server_name=a"), PairFault::Both);
        assert_eq!(fault("method=GET&target=/&session_id=ab"), PairFault::Both);
        let long = "ab".repeat(33);
        for wrong in ["", "a", "xy", "0xab", &long] {
            let refused = RouteQuestion::from_pairs([("session_id", wrong)]);
            assert_eq!(refused, Err(PairFault::Session(wrong.into())));
        }
        assert_eq!(fault("session_id=ab&session_id=ab"), PairFault::Twice("session_id"));
        let many = "protocol=h2&".repeat(REPEATS_MAX + 1);
        assert_eq!(fault(&many), PairFault::TooMany);
    }
}
