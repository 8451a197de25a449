//! What a consistent policy goes by: a part of the request, as a number.
//!
//! The number must be the same on every lcore, on every switch of a group and in the next life of a switch, or a client's
//! requests would meet another backend on each: so the key of the hash is fixed and known. Whoever can write requests can
//! therefore choose where they go; no policy may need more work for that.

use core::hash::Hasher;
use core::net::IpAddr;

use siphasher::sip::SipHasher13;

use super::SettingsFault;
use crate::policy::{Http, Request};

/// The key of every hash that decides where a request goes. It is no secret and never changes.
const KEY: [u8; 16] = *b"baton-balance-v1";

/// Longest name of a header field or cookie to go by, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// The part of a request that a policy goes by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HashOn {
    /// The client's address.
    Client,
    /// The path, without host and query.
    Path,
    /// Host, path and query.
    Url,
    /// The host asked for, of the request head.
    Host,
    /// The server name of the ClientHello.
    ServerName,
    /// The value of the cookie of this name.
    Cookie(Box<str>),
    /// The value of the header field of this name.
    Header(Box<str>),
}

impl HashOn {
    /// Goes by a cookie.
    ///
    /// # Errors
    /// If no cookie can have that name (RFC 6265, section 4.1.1).
    pub fn cookie(name: &str) -> Result<Self, SettingsFault> {
        checked(name).map(Self::Cookie)
    }

    /// Goes by a header field.
    ///
    /// # Errors
    /// If no field can have that name (RFC 9110, section 5.1).
    pub fn header(name: &str) -> Result<Self, SettingsFault> {
        checked(name).map(Self::Header)
    }

    /// Returns the number of a request; `None` if the request lacks what this goes by. It then goes by [`client_key`].
    pub fn key(&self, request: &Request<'_>) -> Option<u64> {
        match self {
            Self::Client => Some(client_key(request.client)),
            Self::Path => request.http().map(|http| hash([http.path.as_bytes()])),
            Self::Url => request.http().map(url_key),
            Self::Host => request.http().and_then(|http| http.host).map(name_key),
            Self::ServerName => request.tls().and_then(|tls| tls.server_name).map(name_key),
            Self::Cookie(name) => request.http()?.cookie(name).map(value_key),
            Self::Header(name) => request.http()?.field(name).map(value_key),
        }
    }
}

/// Returns the number of a client. An IPv4 address is the same client when it is written as an IPv6 one.
pub fn client_key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => hash([&address.octets()[..]]),
        IpAddr::V6(address) => hash([&address.octets()[..]]),
    }
}

/// Returns the number of a value, such as a cookie's.
pub fn value_key(value: &[u8]) -> u64 {
    hash([value])
}

/// Hashes parts of a text in their order. Where one ends and the next begins makes no difference.
pub(in crate::policy) fn hash<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> u64 {
    let mut hasher = hasher();
    parts.into_iter().for_each(|part| hasher.write(part));
    hasher.finish()
}

/// Starts a hash that decides where a request goes.
pub(super) fn hasher() -> SipHasher13 {
    SipHasher13::new_with_key(&KEY)
}

/// Host, path and query. A zero byte, which none of them has, keeps them apart.
fn url_key(http: &Http<'_>) -> u64 {
    let mut hasher = hasher();
    write_name(&mut hasher, http.host.unwrap_or_default());
    hasher.write(b"\0");
    hasher.write(http.path.as_bytes());
    if let Some(query) = http.query {
        hasher.write(b"\0");
        hasher.write(query.as_bytes());
    }
    hasher.finish()
}

fn name_key(name: &str) -> u64 {
    let mut hasher = hasher();
    write_name(&mut hasher, name);
    hasher.finish()
}

/// A host's name is the same in capitals (RFC 9110, section 4.2.3).
fn write_name(hasher: &mut SipHasher13, name: &str) {
    for chunk in name.as_bytes().chunks(32) {
        let mut lower = [0; 32];
        lower.iter_mut().zip(chunk).for_each(|(place, byte)| *place = byte.to_ascii_lowercase());
        hasher.write(lower.get(..chunk.len()).unwrap_or_default());
    }
}

/// Names of header fields and cookies are tokens (RFC 9110, section 5.6.2).
fn checked(name: &str) -> Result<Box<str>, SettingsFault> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.bytes().all(is_token) {
        return Err(SettingsFault::HashName);
    }
    Ok(name.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::VipIndex;
    use crate::policy::{Content, Field, Tls};

    const CLIENT: IpAddr = IpAddr::V4(core::net::Ipv4Addr::new(10, 50, 0, 11));

    fn asked(http: Http<'_>, on: &HashOn) -> Option<u64> {
        on.key(&Request { vip: VipIndex(0), client: CLIENT, content: Content::Http(http) })
    }

    fn head<'a>(host: &'a str, path: &'a str, fields: &'a [Field<'a>]) -> Http<'a> {
        Http { method: "GET", host: Some(host), path, query: None, fields }
    }

    fn cookies<'a>(value: &'a [u8]) -> [Field<'a>; 1] {
        [Field { name: "cOOkie", value }]
    }

    #[test]
    fn the_hash_is_siphash_1_3_with_the_documented_key() {
        // From a second implementation, in Python, checked against the paper's vectors with 2 and 4 rounds.
        assert_eq!(hash([b"".as_slice()]), 0xf790_9f70_f3a6_1553);
        assert_eq!(hash([b"/files/".as_slice(), b"a"]), 0x82a6_4c7d_19a9_be15);
    }

    #[test]
    fn each_part_is_told_apart_and_nothing_else() {
        let base = Http { query: Some("x=1"), ..head("www.example.org", "/a", &[]) };
        let others = [
            Http { path: "/b", ..base },
            Http { host: Some("example.org"), ..base },
            Http { query: Some("x=2"), ..base },
            Http { query: None, ..base },
        ];
        let changes = |on: &HashOn| others.map(|other| asked(other, on) != asked(base, on));
        assert_eq!(changes(&HashOn::Url), [true; 4]);
        assert_eq!(changes(&HashOn::Path), [true, false, false, false]);
        assert_eq!(changes(&HashOn::Host), [false, true, false, false]);
        assert_eq!(changes(&HashOn::Client), [false; 4]);
        let shouted = Http { host: Some("WWW.example.ORG"), ..base };
        assert_eq!(asked(shouted, &HashOn::Url), asked(base, &HashOn::Url));
        assert_eq!(asked(shouted, &HashOn::Host), asked(base, &HashOn::Host));
        let moved = Http { path: "/ax=1", query: None, ..base };
        assert_ne!(asked(moved, &HashOn::Url), asked(base, &HashOn::Url), "the query is no part of the path");
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands() {
        let on = HashOn::cookie("group").expect("a good name");
        let gold = Some(hash([b"gold".as_slice()]));
        for value in [
            "group=gold",
            "a=b; group=gold",
            "xgroup=no; group=gold;c=d",
            "a=b;group=gold  ",
            "group; group=gold",
        ] {
            assert_eq!(asked(head("a", "/", &cookies(value.as_bytes())), &on), gold, "{value}");
        }
        for value in ["", "groups=gold", "Group=gold", "group", "a=group=gold"] {
            assert_eq!(asked(head("a", "/", &cookies(value.as_bytes())), &on), None, "{value}");
        }
        let twice = [Field { name: "Cookie", value: b"a=b" }, Field { name: "Cookie", value: b"group=gold" }];
        assert_eq!(asked(head("a", "/", &twice), &on), gold);
    }

    #[test]
    fn a_field_is_found_in_any_case_and_only_whole() {
        let on = HashOn::header("X-User").expect("a good name");
        let fields = [Field { name: "X-User-Agent", value: b"no" }, Field { name: "x-user", value: b"7" }];
        assert_eq!(asked(head("a", "/", &fields), &on), Some(hash([b"7".as_slice()])));
        assert_eq!(asked(head("a", "/", &fields[..1]), &on), None);
    }

    #[test]
    fn what_a_request_lacks_has_no_number() {
        let unseen = Request { vip: VipIndex(0), client: CLIENT, content: Content::Unseen };
        for on in [HashOn::Path, HashOn::Url, HashOn::Host, HashOn::ServerName] {
            assert_eq!(on.key(&unseen), None, "{on:?}");
        }
        assert_eq!(HashOn::Client.key(&unseen), Some(client_key(CLIENT)));
        let tls = |server_name| {
            let tls = Tls { server_name, protocols: &[], session_id: &[] };
            HashOn::ServerName.key(&Request { content: Content::Tls(tls), ..unseen })
        };
        assert_eq!(tls(None), None);
        assert_eq!(tls(Some("A.example")), Some(hash([b"a.example".as_slice()])));
    }

    #[test]
    fn a_mapped_address_is_the_same_client() {
        let mapped = IpAddr::V6("::ffff:10.50.0.11".parse().expect("an address"));
        assert_eq!(client_key(mapped), client_key(CLIENT));
        assert_ne!(client_key("10.50.0.12".parse().expect("an address")), client_key(CLIENT));
    }

    #[test]
    fn names_that_no_field_can_have_are_refused() {
        let long = "x".repeat(NAME_BYTES_MAX + 1);
        for name in ["", "a b", "a=b", "a;b", "ä", "a:", &long] {
            assert_eq!(HashOn::cookie(name), Err(SettingsFault::HashName), "{name}");
            assert_eq!(HashOn::header(name), Err(SettingsFault::HashName), "{name}");
        }
    }
}
