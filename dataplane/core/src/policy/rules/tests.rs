use core::net::{IpAddr, Ipv4Addr};

use super::*;
use crate::ids::VipIndex;
use crate::policy::{Content, Http, Tls};

fn rule(vip: Option<u16>, host: Option<&str>, path: Option<&str>, pool: u16) -> Rule {
    let conditions = Conditions {
        vip: vip.map(VipIndex),
        host: host.map(|name| HostMatch::new(name).expect("a name")),
        path: path.map(|prefix| PathMatch::prefix(prefix).expect("a path")),
        ..Conditions::default()
    };
    Rule::to_pool(conditions, PoolIndex(pool))
}

fn ask<'a>(vip: u16, host: Option<&'a str>, path: &'a str) -> Request<'a> {
    let content = Content::Http(Http { method: "GET", host, path, query: None, fields: &[] });
    Request { vip: VipIndex(vip), client: IpAddr::V4(Ipv4Addr::LOCALHOST), content }
}

#[test]
fn the_first_rule_whose_conditions_all_hold_wins() {
    let rules = Rules::new(vec![
        rule(Some(1), None, None, 1),
        rule(None, Some("Video.Example."), Some("/hd/"), 2),
        rule(None, Some("video.example"), None, 3),
        rule(None, None, Some("/hd/"), 4),
    ]);
    for (request, pool) in [
        (ask(1, Some("video.example"), "/hd/x"), Some(1)),
        (ask(0, Some("VIDEO.example"), "/hd/x"), Some(2)),
        (ask(0, Some("video.example."), "/sd/x"), Some(3)),
        (ask(0, None, "/hd/x"), Some(4)),
        (ask(0, Some("other.example"), "/sd/x"), None),
    ] {
        let found = rules.find(&request).and_then(|(_, rule)| rule.pool());
        assert_eq!(found, pool.map(PoolIndex), "{request:?}");
    }
}

fn conditions(build: impl FnOnce(&mut Conditions)) -> Conditions {
    let mut conditions = Conditions::default();
    build(&mut conditions);
    conditions
}

fn host(name: &str) -> Option<HostMatch> {
    Some(HostMatch::new(name).expect("a name"))
}

/// Conditions that all hold for [`asked_for_all`], found by every way there is.
fn all_ways() -> Vec<Conditions> {
    let path = |path: Result<PathMatch, PathError>| Some(path.expect("a path"));
    let names: [&dyn Fn(&mut Conditions); 3] =
        [&|_| {}, &|rule| rule.host = host("www.example.org"), &|rule| rule.host = host("*.org")];
    let paths: [&dyn Fn(&mut Conditions); 7] = [
        &|_| {},
        &|rule| rule.path = path(PathMatch::exact("/a/b.jpg")),
        &|rule| rule.path = path(PathMatch::prefix("/")),
        &|rule| rule.path = path(PathMatch::prefix("/a/b.jpg")),
        &|rule| rule.path = path(PathMatch::suffix(".jpg")),
        &|rule| rule.path = path(PathMatch::suffixes([".css", ".jpg"])),
        &|rule| rule.path = path(PathMatch::regex("[b]")),
    ];
    let mut ways = Vec::new();
    for vip in [None, Some(VipIndex(3))] {
        for name in names {
            for path in paths {
                ways.push(conditions(|rule| {
                    rule.vip = vip;
                    name(rule);
                    path(rule);
                }));
            }
        }
    }
    ways
}

fn to_pools(conditions: impl IntoIterator<Item = Conditions>) -> Rules {
    let pools = (0..=u16::MAX).map(PoolIndex);
    Rules::new(conditions.into_iter().zip(pools).map(|(rule, pool)| Rule::to_pool(rule, pool)).collect())
}

#[test]
fn by_whatever_way_rules_are_found_the_one_that_comes_first_wins() {
    let asked = ask(3, Some("www.example.org"), "/a/b.jpg");
    let mut ways = all_ways();
    // What leads nowhere stands between.
    let elsewhere = conditions(|rule| rule.host = host("www.example.com"));
    for _ in 0..ways.len() {
        ways.rotate_left(1);
        let mut order: Vec<Conditions> = Vec::new();
        for way in &ways {
            order.extend([elsewhere.clone(), way.clone()]);
        }
        let rules = to_pools(order);
        let (found, rule) = rules.find(&asked).expect("all hold");
        assert_eq!((found, rule.pool()), (RuleIndex(1), Some(PoolIndex(1))), "{}", rule.conditions);
    }
    // Each alone is found as well, and not for another VIP, host or path than its own.
    for way in ways {
        let rules = to_pools([elsewhere.clone(), way.clone()]);
        assert_eq!(rules.find(&asked).map(|(found, _)| found), Some(RuleIndex(1)), "{way}");
        for other in [
            ask(2, Some("www.example.org"), "/a/b.jpg"),
            ask(4, Some("www.example.org"), "/a/b.jpg"),
            ask(3, Some("www.example.net"), "/a/b.jpg"),
            ask(3, None, "/a/b.jpg"),
            ask(3, Some("www.example.org"), "*"),
        ] {
            assert_eq!(rules.find(&other).is_some(), way.hold(&other), "{way} for {other:?}");
        }
    }
}

#[test]
fn what_is_looked_at_does_not_grow_with_the_rules() {
    type Make = fn(usize) -> Conditions;
    let kinds: [(&str, Make); 8] = [
        ("hosts", |n| conditions(|rule| rule.host = host(&format!("h{n}.example.org")))),
        ("wildcards", |n| conditions(|rule| rule.host = host(&format!("*.h{n}.example.org")))),
        ("whole paths", |n| conditions(|rule| rule.path = PathMatch::exact(&format!("/p{n}/x.t{n}")).ok())),
        ("prefixes", |n| conditions(|rule| rule.path = PathMatch::prefix(&format!("/p{n}/")).ok())),
        ("suffixes", |n| conditions(|rule| rule.path = PathMatch::suffix(&format!(".t{n}")).ok())),
        ("hosts and prefixes", |n| {
            conditions(|rule| {
                rule.host = host(&format!("h{}.example.org", n % 100));
                rule.path = PathMatch::prefix(&format!("/p{n}/")).ok();
            })
        }),
        ("VIPs", |n| conditions(|rule| rule.vip = u16::try_from(n).map(VipIndex).ok())),
        ("server names", |n| conditions(|rule| rule.server_name = host(&format!("h{n}.example.org")))),
    ];
    for (kind, make) in kinds {
        for count in [10, 1_000, 10_000] {
            let rules = to_pools((0..count).map(make).chain([Conditions::default()]));
            for n in [0, count / 2, count - 1, count] {
                let vip = u16::try_from(n).expect("few");
                let host = match kind {
                    "wildcards" => format!("www.h{n}.example.org"),
                    "hosts and prefixes" => format!("h{}.example.org", n % 100),
                    _ => format!("h{n}.example.org"),
                };
                let path = format!("/p{n}/x.t{n}");
                let mut request = ask(vip, Some(&host), &path);
                if kind == "server names" {
                    let tls = Tls { server_name: Some(&host), protocols: &[], session_id: &[] };
                    request.content = Content::Tls(tls);
                }
                let mut tried = Vec::new();
                let found = rules.search(&request, |position| tried.push(position));
                // The last rule takes what no other does.
                assert_eq!(found.map(|(found, _)| usize::from(found.0)), Some(n.min(count)), "{kind} {n}");
                assert!(tried.len() <= 2, "{count} {kind}: {tried:?} were tried");
            }
        }
    }
}

#[test]
fn behind_a_rule_that_holds_nothing_is_looked_at() {
    // Of 1,000 rules that name nothing to find them by, and as many for one prefix, the sixth holds.
    let get = Methods::new(["GET"]).ok();
    let post = Methods::new(["POST"]).ok();
    let rules = to_pools((0..2_000).map(|n| {
        conditions(|rule| {
            rule.methods = if n == 5 { get.clone() } else { post.clone() };
            rule.path = if n % 2 == 0 { None } else { PathMatch::prefix("/").ok() };
        })
    }));
    let mut tried = Vec::new();
    let found = rules.search(&ask(0, None, "/"), |position| tried.push(position)).map(|(found, _)| found);
    assert_eq!(found, Some(RuleIndex(5)));
    // The rules without a path come first, and none of them holds.
    assert!(tried.iter().filter(|position| **position % 2 == 1).eq(&[1, 3, 5]), "{tried:?}");
}

#[test]
fn as_many_rules_as_there_may_be_are_found() {
    let rules = to_pools(
        (0..RULE_COUNT_MAX).map(|n| conditions(|rule| rule.host = host(&format!("{n:x}.example.org")))),
    );
    for n in [0_u16, 1, 255, 4096, 65_534] {
        let name = format!("{n:X}.EXAMPLE.org");
        assert_eq!(rules.find(&ask(0, Some(&name), "/")).map(|(found, _)| found), Some(RuleIndex(n)));
    }
    assert_eq!(rules.find(&ask(0, Some("ffff.example.org"), "/")), None);
}

#[test]
fn rules_that_are_never_reached_are_told_with_the_first_that_takes_all() {
    let [get, get_too] = [(); 2].map(|()| Methods::new(["GET"]).ok());
    let rules = to_pools([
        conditions(|rule| rule.host = host("*.org")),
        conditions(|rule| rule.path = PathMatch::prefix("/a").ok()),
        conditions(|rule| rule.host = host("www.example.org")), // 0
        conditions(|rule| rule.path = PathMatch::exact("/ab").ok()), // 1
        conditions(|rule| rule.path = PathMatch::suffix("g").ok()),
        conditions(|rule| rule.path = PathMatch::suffix(".jpg").ok()), // 4
        conditions(|rule| rule.path = PathMatch::exact("/b/c.jpg").ok()), // 4
        conditions(|rule| rule.vip = Some(VipIndex(1))),
        conditions(|rule| (rule.vip, rule.methods) = (Some(VipIndex(1)), get)), // 7
        conditions(|rule| rule.methods = get_too),
        conditions(|rule| rule.server_name = host("*.org")),
        conditions(|rule| rule.server_name = host("*.example.org")), // 10
        conditions(|_| {}),
        conditions(|rule| rule.path = PathMatch::regex("^/x").ok()), // 12
    ]);
    let expected = [(2, 0), (3, 1), (5, 4), (6, 4), (8, 7), (11, 10), (13, 12)];
    let expected = expected.map(|(later, earlier)| (RuleIndex(later), RuleIndex(earlier)));
    assert_eq!(rules.unreached(usize::MAX), expected);
    assert_eq!(rules.unreached(0), []);
    let all = to_pools(all_ways());
    let compared: Vec<_> = (0..)
        .zip(all.iter())
        .filter_map(|(later, rule)| {
            let first =
                all.iter().take(later).position(|earlier| earlier.conditions.covers(&rule.conditions))?;
            Some((
                RuleIndex(u16::try_from(later).expect("few")),
                RuleIndex(u16::try_from(first).expect("few")),
            ))
        })
        .collect();
    assert_eq!(all.unreached(usize::MAX), compared, "as comparing each with each");
}
