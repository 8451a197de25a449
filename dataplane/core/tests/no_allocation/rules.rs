//! Finding a rule, by conditions of every kind.

use std::net::{IpAddr, Ipv4Addr};

use baton_core::policy::{
    ClientNetworks, Conditions, Content, CookieMatch, Field, HeaderMatch, HostMatch, Http, Methods,
    PathMatch, PoolIndex, ProtocolMatch, QueryMatch, Request, Rule, Rules, Service, Tls, ValueMatch,
    VipIndex,
};

use super::allocations;

/// Every condition on HTTP at once; of two of a kind, the second is told.
fn demanding(path: &str, expression: bool) -> Conditions {
    let value = || ValueMatch::Prefix("1".into());
    let path = if expression { PathMatch::regex(path) } else { PathMatch::suffix(path) };
    Conditions {
        vip: Some(VipIndex(1)),
        clients: ClientNetworks::new(["10.0.0.0/8", "192.0.2.0/24", "2001:db8::/32"]).ok(),
        service: Some(Service::Static),
        methods: Methods::new(["HEAD", "GET"]).ok(),
        host: HostMatch::new("*.Example.org").ok(),
        path: path.ok(),
        headers: vec![HeaderMatch::new("X-Beta", value()).expect("a field")],
        cookies: vec![CookieMatch::new("group", value()).expect("a cookie")],
        query: vec![QueryMatch::new("id", value()).expect("a parameter")],
        ..Conditions::default()
    }
}

#[test]
fn looking_for_a_rule_allocates_nothing() {
    let encrypted = Conditions {
        server_name: HostMatch::new("*.example.org").ok(),
        protocol: ProtocolMatch::new("h2").ok(),
        ..Conditions::default()
    };
    let mut rules = vec![
        demanding(r"^/[a-z]+/(?i)[0-9]{1,20}\.html$", true),
        demanding(".css", false),
        encrypted,
        Conditions { vip: Some(VipIndex(2)), ..Conditions::default() },
    ];
    // Enough others that there are ways to go.
    rules.extend((0..1_000).map(|n| Conditions {
        host: HostMatch::new(&format!("{n}.example.org")).ok(),
        path: PathMatch::prefix(&format!("/{n}/")).ok(),
        ..Conditions::default()
    }));
    let rules = Rules::new(rules.into_iter().map(|rule| Rule::to_pool(rule, PoolIndex(0))).collect());
    let fields = [
        Field { name: "x-beta", value: b"0" },
        Field { name: "X-BETA", value: b"12" },
        Field { name: "Cookie", value: b"a=b; group=0; group=12" },
    ];
    let client = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));
    let host = Some("WWW.example.ORG.");
    let http = Http { method: "GET", host, path: "/a/1.html", query: Some("a&id=0&id=12"), fields: &fields };
    let hello = Tls { server_name: host, protocols: &[b"http/1.1", b"h2"], session_id: &[] };
    for (vip, content, expected) in [
        (1, Content::Http(http), Some(0)),
        (1, Content::Http(Http { path: "/a/1.css", ..http }), Some(1)),
        (1, Content::Http(Http { path: "/a/1.gif", ..http }), None),
        (1, Content::Tls(hello), Some(2)),
        (2, Content::Unseen, Some(3)),
        (1, Content::Unseen, None),
        (1, Content::Http(Http { host: Some("999.EXAMPLE.org"), path: "/999/", ..http }), Some(1_003)),
    ] {
        let request = Request { vip: VipIndex(vip), client, content };
        let (found, counted) = allocations(|| rules.find(&request).map(|(found, _)| found.0));
        assert_eq!((found, counted), (expected, 0), "{request:?}");
    }
}
