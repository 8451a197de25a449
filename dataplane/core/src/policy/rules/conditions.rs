//! What a rule asks of a request, put together.

use core::fmt;

use super::{
    ClientNetworks, CookieMatch, HeaderMatch, HostMatch, Methods, PathMatch, ProtocolMatch, QueryMatch,
    Service,
};
use crate::ids::VipIndex;
use crate::policy::{Content, Http, Request, Tls};

/// Conditions, all of which must hold; those that are not there always do. Conditions on HTTP hold for HTTP requests only,
/// those on TLS for ClientHellos only, and neither for connections whose content was not looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// The VIP the client connected to.
    pub vip: Option<VipIndex>,
    /// Who asks.
    pub clients: Option<ClientNetworks>,
    /// HTTP: the kind of work.
    pub service: Option<Service>,
    /// HTTP: the methods, one of which is needed.
    pub methods: Option<Methods>,
    /// HTTP: the host asked for.
    pub host: Option<HostMatch>,
    /// HTTP: the path asked for.
    pub path: Option<PathMatch>,
    /// HTTP: header fields, all of which are needed.
    pub headers: Vec<HeaderMatch>,
    /// HTTP: cookies, all of which are needed.
    pub cookies: Vec<CookieMatch>,
    /// HTTP: query parameters, all of which are needed.
    pub query: Vec<QueryMatch>,
    /// TLS: the server's name.
    pub server_name: Option<HostMatch>,
    /// TLS: a protocol that is offered.
    pub protocol: Option<ProtocolMatch>,
}

impl Conditions {
    /// Says whether every condition holds.
    pub fn hold(&self, request: &Request<'_>) -> bool {
        self.vip.is_none_or(|vip| vip == request.vip)
            && match &request.content {
                Content::Http(http) => !self.need_tls() && self.hold_for_http(http),
                Content::Tls(tls) => !self.need_http() && self.hold_for_tls(tls),
                Content::Unseen => !self.need_http() && !self.need_tls(),
            }
            && self.clients.as_ref().is_none_or(|clients| clients.matches(request.client))
    }

    /// Says whether some condition holds for HTTP requests only.
    pub fn need_http(&self) -> bool {
        self.service.is_some()
            || self.methods.is_some()
            || self.host.is_some()
            || self.path.is_some()
            || !self.headers.is_empty()
            || !self.cookies.is_empty()
            || !self.query.is_empty()
    }

    /// Says whether some condition holds for ClientHellos only.
    pub fn need_tls(&self) -> bool {
        self.server_name.is_some() || self.protocol.is_some()
    }

    /// What is compared soonest comes first.
    fn hold_for_http(&self, http: &Http<'_>) -> bool {
        self.methods.as_ref().is_none_or(|methods| methods.matches(http.method))
            && self.host.as_ref().is_none_or(|wanted| http.host.is_some_and(|host| wanted.matches(host)))
            && self.path.as_ref().is_none_or(|path| path.matches(http.path))
            && self.service.is_none_or(|service| service.matches(http))
            && self.query.iter().all(|query| query.matches(http.query))
            && self.headers.iter().all(|header| header.matches(http.fields))
            && self.cookies.iter().all(|cookie| cookie.matches(http.fields))
    }

    fn hold_for_tls(&self, tls: &Tls<'_>) -> bool {
        let named = |wanted: &HostMatch| tls.server_name.is_some_and(|name| wanted.matches(name));
        self.server_name.as_ref().is_none_or(named)
            && self.protocol.as_ref().is_none_or(|protocol| protocol.matches(tls.protocols))
    }

    /// Says whether every request for which `later` holds is one for which this holds, so that a rule of this before one of
    /// `later` leaves it nothing. Where that is hard to say, it is denied.
    pub fn covers(&self, later: &Self) -> bool {
        fn covered<T>(wide: &Option<T>, narrow: &Option<T>, covers: impl Fn(&T, &T) -> bool) -> bool {
            wide.as_ref().is_none_or(|wide| narrow.as_ref().is_some_and(|narrow| covers(wide, narrow)))
        }
        fn all_covered<T>(wide: &[T], narrow: &[T], covers: impl Fn(&T, &T) -> bool) -> bool {
            wide.iter().all(|wide| narrow.iter().any(|narrow| covers(wide, narrow)))
        }
        covered(&self.vip, &later.vip, VipIndex::eq)
            && covered(&self.clients, &later.clients, ClientNetworks::covers)
            && covered(&self.service, &later.service, |wide, narrow| wide.covers(*narrow))
            && covered(&self.methods, &later.methods, Methods::covers)
            && covered(&self.host, &later.host, HostMatch::covers)
            && covered(&self.path, &later.path, PathMatch::covers)
            && all_covered(&self.headers, &later.headers, HeaderMatch::covers)
            && all_covered(&self.cookies, &later.cookies, CookieMatch::covers)
            && all_covered(&self.query, &later.query, QueryMatch::covers)
            && covered(&self.server_name, &later.server_name, HostMatch::covers)
            && covered(&self.protocol, &later.protocol, ProtocolMatch::eq)
    }
}

impl fmt::Display for Conditions {
    /// Writes them as an operator reads them: `host *.example.org, path /video/*, cookie group=gold`; `any` without
    /// conditions. A VIP is written by its position, as in messages about the configuration: `vip[0]`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words = Words { f, count: 0 };
        if let Some(VipIndex(vip)) = self.vip {
            words.add("", &format_args!("vip[{vip}]"))?;
        }
        words.each("client ", &self.clients)?;
        words.each("service ", &self.service)?;
        words.each("method ", &self.methods)?;
        words.each("host ", &self.host)?;
        words.each("path ", &self.path)?;
        words.each("header ", &self.headers)?;
        words.each("cookie ", &self.cookies)?;
        words.each("query ", &self.query)?;
        words.each("server name ", &self.server_name)?;
        words.each("protocol ", &self.protocol)?;
        if words.count == 0 { f.write_str("any") } else { Ok(()) }
    }
}

/// Words with commas between them.
struct Words<'f, 'a> {
    f: &'f mut fmt::Formatter<'a>,
    count: usize,
}

impl Words<'_, '_> {
    fn add(&mut self, what: &str, word: &dyn fmt::Display) -> fmt::Result {
        let between = if self.count == 0 { "" } else { ", " };
        self.count += 1;
        write!(self.f, "{between}{what}{word}")
    }

    fn each<'w, T: fmt::Display + 'w>(
        &mut self,
        what: &str,
        words: impl IntoIterator<Item = &'w T>,
    ) -> fmt::Result {
        words.into_iter().try_for_each(|word| self.add(what, word))
    }
}

#[cfg(test)]
mod tests;
