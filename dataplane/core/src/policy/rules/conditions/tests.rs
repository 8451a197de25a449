use core::net::IpAddr;

use super::*;
use crate::policy::{Field, ValueMatch};

fn host(name: &str) -> Option<HostMatch> {
    Some(HostMatch::new(name).expect("a name"))
}

fn exact(value: &str) -> ValueMatch {
    ValueMatch::Exact(value.into())
}

fn header(name: &str, value: ValueMatch) -> Vec<HeaderMatch> {
    vec![HeaderMatch::new(name, value).expect("a field")]
}

fn cookie(name: &str, value: ValueMatch) -> Vec<CookieMatch> {
    vec![CookieMatch::new(name, value).expect("a cookie")]
}

fn query(name: &str, value: ValueMatch) -> Vec<QueryMatch> {
    vec![QueryMatch::new(name, value).expect("a parameter")]
}

fn networks(networks: &[&str]) -> Option<ClientNetworks> {
    Some(ClientNetworks::new(networks.iter().copied()).expect("networks"))
}

fn methods(methods: &[&str]) -> Option<Methods> {
    Some(Methods::new(methods.iter().copied()).expect("methods"))
}

/// Conditions of every kind that HTTP has, each of which holds for [`http`].
fn one_of_each() -> Vec<Conditions> {
    let none = Conditions::default;
    vec![
        Conditions { vip: Some(VipIndex(1)), ..none() },
        Conditions { clients: networks(&["192.0.2.0/24"]), ..none() },
        Conditions { service: Some(Service::Video), ..none() },
        Conditions { methods: methods(&["GET", "HEAD"]), ..none() },
        Conditions { host: host("*.example.org"), ..none() },
        Conditions { path: Some(PathMatch::suffix(".mp4").expect("a path")), ..none() },
        Conditions { headers: header("X-Beta", exact("1")), ..none() },
        Conditions { cookies: cookie("group", ValueMatch::Prefix("g".into())), ..none() },
        Conditions { query: query("id", ValueMatch::Present), ..none() },
    ]
}

fn http<'a>(fields: &'a [Field<'a>]) -> Request<'a> {
    let host = Some("www.example.org");
    let http = Http { method: "GET", host, path: "/film.mp4", query: Some("id=7"), fields };
    Request { vip: VipIndex(1), client: IpAddr::from([192, 0, 2, 1]), content: Content::Http(http) }
}

#[test]
fn all_conditions_must_hold_and_each_kind_counts() {
    let fields = [Field { name: "x-beta", value: b"1" }, Field { name: "Cookie", value: b"group=gold" }];
    let asked = http(&fields);
    let Content::Http(content) = asked.content else { panic!("HTTP") };
    let slips: Vec<Request<'_>> = vec![
        Request { vip: VipIndex(2), ..asked },
        Request { client: IpAddr::from([192, 0, 3, 1]), ..asked },
        // One kind of work, one method, one path goes with others: each slip says which conditions it breaks.
        Request { content: Content::Http(Http { path: "/film.mp3", ..content }), ..asked },
        Request { content: Content::Http(Http { method: "POST", ..content }), ..asked },
        Request { content: Content::Http(Http { host: Some("example.org"), ..content }), ..asked },
        Request { content: Content::Http(Http { host: None, ..content }), ..asked },
        Request { content: Content::Http(Http { path: "/film.mpg", ..content }), ..asked },
        Request { content: Content::Http(Http { fields: &fields[1..], ..content }), ..asked },
        Request { content: Content::Http(Http { fields: &fields[..1], ..content }), ..asked },
        Request { content: Content::Http(Http { query: Some("no=7"), ..content }), ..asked },
        Request { content: Content::Http(Http { query: None, ..content }), ..asked },
    ];
    let broken: [&[usize]; 11] = [&[0], &[1], &[2, 5], &[2, 3], &[4], &[4], &[5], &[6], &[7], &[8], &[8]];
    for (at, one) in one_of_each().iter().enumerate() {
        assert!(one.hold(&asked), "{one}");
        for (slip, broken) in slips.iter().zip(broken) {
            assert_eq!(one.hold(slip), !broken.contains(&at), "{one} for {slip:?}");
        }
    }
    let of = |at: usize| one_of_each().swap_remove(at);
    let all = Conditions {
        vip: of(0).vip,
        clients: of(1).clients,
        service: of(2).service,
        methods: of(3).methods,
        host: of(4).host,
        path: of(5).path,
        headers: of(6).headers,
        cookies: of(7).cookies,
        query: of(8).query,
        ..Conditions::default()
    };
    assert!(all.hold(&asked) && Conditions::default().hold(&asked));
    for slip in slips {
        assert!(!all.hold(&slip), "{slip:?}");
        assert!(Conditions::default().hold(&slip));
    }
    assert_eq!(
        all.to_string(),
        "vip[1], client 192.0.2.0/24, service video, method GET|HEAD, host *.example.org, path *.mp4, \
         header X-Beta=1, cookie group=g*, query id"
    );
    assert_eq!(Conditions::default().to_string(), "any");
}

#[test]
fn conditions_on_http_hold_for_http_and_those_on_tls_for_tls_alone() {
    let fields = [Field { name: "x-beta", value: b"1" }, Field { name: "Cookie", value: b"group=gold" }];
    let http = http(&fields);
    let hello =
        Tls { server_name: Some("WWW.example.org"), protocols: &[b"h2", b"http/1.1"], session_id: b"" };
    let tls = Request { content: Content::Tls(hello), ..http };
    let unseen = Request { content: Content::Unseen, ..http };
    for (at, one) in one_of_each().iter().enumerate() {
        assert_eq!((one.need_http(), one.need_tls()), (at >= 2, false), "{one}");
        assert_eq!((one.hold(&tls), one.hold(&unseen)), (at < 2, at < 2), "{one}");
    }
    let named = Conditions { server_name: host("www.example.org"), ..Conditions::default() };
    let offered = Conditions { protocol: ProtocolMatch::new("h2").ok(), ..Conditions::default() };
    for one in [&named, &offered] {
        assert!(one.need_tls() && !one.need_http());
        assert_eq!((one.hold(&tls), one.hold(&http), one.hold(&unseen)), (true, false, false), "{one}");
    }
    let other = Tls { server_name: Some("example.org"), protocols: &[b"http/1.1"], ..hello };
    let bare = Tls { server_name: None, protocols: &[], ..hello };
    for content in [other, bare].map(Content::Tls) {
        assert!(!named.hold(&Request { content, ..tls }) && !offered.hold(&Request { content, ..tls }));
    }
    // No connection is both.
    let both = Conditions { methods: methods(&["GET"]), ..named.clone() };
    assert!(!both.hold(&http) && !both.hold(&tls) && !both.hold(&unseen));
    let words = Conditions { protocol: offered.protocol.clone(), ..named }.to_string();
    assert_eq!(words, "server name www.example.org, protocol h2");
}

#[test]
fn wider_conditions_cover_narrower_ones() {
    let none = Conditions::default;
    let path = |path: Result<PathMatch, super::super::PathError>| Conditions {
        path: Some(path.expect("a path")),
        ..Conditions::default()
    };
    let named = |name: &str| Conditions { host: host(name), ..Conditions::default() };
    let with = |value: ValueMatch| Conditions { headers: header("X-Beta", value), ..Conditions::default() };
    // Each covers the next in its row, and itself; none covers the one before.
    for row in [
        vec![none(), Conditions { vip: Some(VipIndex(1)), ..none() }],
        vec![none(), named("*.org"), named("*.example.org"), named("www.example.org")],
        vec![
            none(),
            path(PathMatch::prefix("/a")),
            path(PathMatch::prefix("/a/b")),
            path(PathMatch::exact("/a/b/c")),
        ],
        vec![
            none(),
            path(PathMatch::suffix("g")),
            path(PathMatch::suffixes([".jpg", ".png", "/img"])),
            path(PathMatch::suffixes([".png", "a.jpg"])),
            path(PathMatch::suffix("a.jpg")),
            path(PathMatch::exact("/a.jpg")),
        ],
        vec![none(), path(PathMatch::regex("^/[ab]$")), path(PathMatch::exact("/a"))],
        vec![none(), with(ValueMatch::Present), with(ValueMatch::Prefix("1".into())), with(exact("12"))],
        vec![
            none(),
            Conditions { cookies: cookie("a", ValueMatch::Present), ..none() },
            Conditions { cookies: [cookie("b", exact("1")), cookie("a", exact("1"))].concat(), ..none() },
        ],
        vec![
            none(),
            Conditions { query: query("a", ValueMatch::Prefix("1".into())), ..none() },
            Conditions { query: query("a", ValueMatch::Prefix("11".into())), ..none() },
        ],
        vec![
            none(),
            Conditions { clients: networks(&["10.0.0.0/8", "2001:db8::/32"]), ..none() },
            Conditions { clients: networks(&["10.1.0.0/16", "10.2.0.0/16"]), ..none() },
            Conditions { clients: networks(&["10.2.3.4"]), ..none() },
        ],
        vec![
            none(),
            Conditions { methods: methods(&["GET", "HEAD"]), ..none() },
            Conditions { methods: methods(&["HEAD"]), ..none() },
        ],
        vec![
            none(),
            Conditions { service: Some(Service::Static), ..none() },
            Conditions { service: Some(Service::Video), ..none() },
        ],
        vec![
            none(),
            Conditions { server_name: host("*.example.org"), ..none() },
            Conditions { server_name: host("www.example.org"), ..none() },
            Conditions {
                server_name: host("www.example.org"),
                protocol: ProtocolMatch::new("h2").ok(),
                ..none()
            },
        ],
    ] {
        for (at, wide) in row.iter().enumerate() {
            for (behind, narrow) in row.iter().enumerate() {
                assert_eq!(wide.covers(narrow), at <= behind, "{wide} and {narrow}");
            }
        }
    }
}

#[test]
fn what_only_overlaps_is_not_covered() {
    let none = Conditions::default;
    let path = |path: Result<PathMatch, super::super::PathError>| Conditions {
        path: Some(path.expect("a path")),
        ..Conditions::default()
    };
    let all = [
        Conditions { vip: Some(VipIndex(1)), ..none() },
        Conditions { vip: Some(VipIndex(2)), ..none() },
        Conditions { host: host("example.org"), ..none() },
        Conditions { host: host("*.example.org"), ..none() },
        Conditions { host: host("*.badexample.org"), ..none() },
        Conditions { server_name: host("*.example.org"), ..none() },
        path(PathMatch::prefix("/a")),
        path(PathMatch::suffix("/a")),
        path(PathMatch::suffixes([".a", ".b"])),
        path(PathMatch::suffixes([".b", ".c"])),
        path(PathMatch::regex("/a")),
        path(PathMatch::regex("^/b")),
        Conditions { headers: header("a", ValueMatch::Present), ..none() },
        Conditions { cookies: cookie("a", ValueMatch::Present), ..none() },
        Conditions { cookies: cookie("A", ValueMatch::Present), ..none() },
        Conditions { query: query("a", ValueMatch::Present), ..none() },
        Conditions { query: query("A", ValueMatch::Present), ..none() },
        Conditions { clients: networks(&["10.0.0.0/9"]), ..none() },
        Conditions { clients: networks(&["10.0.0.0/16", "11.0.0.0/8"]), ..none() },
        Conditions { methods: methods(&["GET"]), ..none() },
        Conditions { methods: methods(&["POST"]), ..none() },
        Conditions { service: Some(Service::File), ..none() },
        Conditions { service: Some(Service::Dynamic), ..none() },
        Conditions { protocol: ProtocolMatch::new("h2").ok(), ..none() },
        Conditions { protocol: ProtocolMatch::new("h3").ok(), ..none() },
    ];
    for (at, one) in all.iter().enumerate() {
        for (behind, other) in all.iter().enumerate() {
            assert_eq!(one.covers(other), at == behind, "{one} and {other}");
        }
    }
}
