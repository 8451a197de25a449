//! Reading firewall rules: which of them can keep a handoff from its socket.
//!
//! This recognises the common forms and explains them; what it does not know, the self-test finds out by trying.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;

use serde_json::Value;

use super::facts::FirewallFacts;

/// Our own table.
pub const TABLE: &str = "baton_agent";

/// An address and port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: Ipv4Addr,
    /// The port.
    pub port: u16,
}

/// What a rule does to handoffs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleKind {
    /// Sends them elsewhere: DNAT or redirect.
    Dnat,
    /// Drops what connection tracking calls new and what is no SYN.
    NewMustBeSyn,
}

/// A rule that can stand in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// What it does.
    pub kind: RuleKind,
    /// Where it stands, for the operator.
    pub text: String,
    addresses: Condition<Network>,
    ports: Condition<RangeInclusive<u16>>,
}

impl Rule {
    /// Says whether the rule may match packets to an endpoint. In doubt it may.
    pub fn may_match(&self, endpoint: Endpoint) -> bool {
        self.addresses.may_hold(|network| network.contains(endpoint.address))
            && self.ports.may_hold(|range| range.contains(&endpoint.port))
    }
}

/// What a rule asks of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Condition<T> {
    /// Nothing, or something we cannot read.
    Any,
    In(Vec<T>),
    NotIn(Vec<T>),
}

impl<T> Condition<T> {
    fn may_hold(&self, matches: impl Fn(&T) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::In(values) => values.iter().any(matches),
            Self::NotIn(values) => !values.iter().any(matches),
        }
    }

    fn of(values: Option<Vec<T>>, negated: bool) -> Self {
        match (values, negated) {
            (None, _) => Self::Any,
            (Some(values), false) => Self::In(values),
            (Some(values), true) => Self::NotIn(values),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: Ipv4Addr,
    prefix: u32,
}

impl Network {
    fn contains(self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX.checked_shl(32 - self.prefix.min(32)).unwrap_or(0);
        (self.address.to_bits() ^ address.to_bits()) & mask == 0
    }

    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/').unwrap_or((text, "32"));
        let prefix = match prefix.parse::<u32>() {
            Ok(prefix) => prefix,
            Err(_) => prefix.parse::<Ipv4Addr>().ok()?.to_bits().leading_ones(),
        };
        Some(Self { address: address.parse().ok()?, prefix })
    }
}

/// Adds what `nft -j list ruleset` printed to the facts.
pub fn nft_rules(listing: &str, facts: &mut FirewallFacts) {
    let Ok(listing) = serde_json::from_str::<Value>(listing) else { return };
    let rules = listing["nftables"].as_array().into_iter().flatten().map(|object| &object["rule"]);
    for rule in rules.filter(|rule| !rule.is_null()) {
        let expressions: Vec<&Value> = rule["expr"].as_array().into_iter().flatten().collect();
        let name = |field: &str| rule[field].as_str().unwrap_or("?").to_owned();
        if name("table") == TABLE {
            facts.exempt.extend(exempted(&expressions));
            continue;
        }
        let has = |key: &str| expressions.iter().any(|expression| expression.get(key).is_some());
        let text = format!("nft {} {} chain {}", name("family"), name("table"), name("chain"));
        let state = expressions.iter().find(|e| e["match"]["left"]["ct"]["key"] == "state");
        facts.uses_conntrack |= expressions.iter().any(|e| {
            !e["match"]["left"]["ct"].is_null() || !e["vmap"]["key"]["ct"].is_null() || !e["xt"].is_null()
        });
        let kind = if has("dnat") || has("redirect") {
            RuleKind::Dnat
        } else if (has("drop") || has("reject"))
            && state.is_some_and(|state| values(&state["match"]["right"]).contains(&&Value::from("new")))
            && expressions.iter().any(|e| not_syn(&e["match"]))
        {
            RuleKind::NewMustBeSyn
        } else {
            continue;
        };
        let (addresses, ports) = (nft_addresses(&expressions), nft_ports(&expressions));
        facts.rules.push(Rule { kind, text, addresses, ports });
    }
}

/// Says whether a match is for segments that are not a SYN.
fn not_syn(of: &Value) -> bool {
    let flags = |field: &Value| field["payload"]["protocol"] == "tcp" && field["payload"]["field"] == "flags";
    let left = &of["left"];
    let about_flags = flags(left) || left["&"].as_array().is_some_and(|operands| operands.iter().any(flags));
    about_flags
        && (of["op"] == "!=" || of["op"] == "!")
        && values(&of["right"]).contains(&&Value::from("syn"))
}

/// The values of a right side: one, or those of a set.
fn values(right: &Value) -> Vec<&Value> {
    match right.get("set").and_then(Value::as_array).or_else(|| right.as_array()) {
        Some(members) => members.iter().collect(),
        None => vec![right],
    }
}

fn nft_condition<T>(
    expressions: &[&Value],
    protocol: &str,
    field: &str,
    parse: impl Fn(&Value) -> Option<T>,
) -> Condition<T> {
    let payload = |e: &&&Value| {
        let payload = &e["match"]["left"]["payload"];
        payload["protocol"] == protocol && payload["field"] == field
    };
    let Some(matching) = expressions.iter().find(payload).map(|e| &e["match"]) else {
        return Condition::Any;
    };
    Condition::of(values(&matching["right"]).into_iter().map(parse).collect(), matching["op"] == "!=")
}

fn nft_addresses(expressions: &[&Value]) -> Condition<Network> {
    nft_condition(expressions, "ip", "daddr", |value| {
        let prefix = &value["prefix"];
        match (value.as_str(), prefix["addr"].as_str(), prefix["len"].as_u64()) {
            (Some(address), ..) => Network::parse(address),
            (_, Some(address), Some(length)) => Network::parse(&format!("{address}/{length}")),
            _ => None,
        }
    })
}

fn nft_ports(expressions: &[&Value]) -> Condition<RangeInclusive<u16>> {
    let port = |value: &Value| value.as_u64().and_then(|port| u16::try_from(port).ok());
    nft_condition(expressions, "tcp", "dport", |value| match value["range"].as_array().map(Vec::as_slice) {
        Some([first, last]) => Some(port(first)?..=port(last)?),
        _ => port(value).map(|port| port..=port),
    })
}

/// The endpoint a rule of our own table takes out of connection tracking, if it is one for arriving packets.
fn exempted(expressions: &[&Value]) -> Option<Endpoint> {
    let (Condition::In(addresses), Condition::In(ports)) =
        (nft_addresses(expressions), nft_ports(expressions))
    else {
        return None;
    };
    Some(Endpoint { address: addresses.first()?.address, port: *ports.first()?.start() })
}

/// Adds what `iptables-save` printed to the facts.
pub fn iptables_rules(listing: &str, facts: &mut FirewallFacts) {
    let mut table = "";
    for line in listing.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name;
            continue;
        }
        if !line.starts_with("-A ") {
            continue;
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |option: &str| {
            let at = words.iter().position(|word| *word == option)?;
            let negated = at.checked_sub(1).is_some_and(|before| words[before] == "!");
            Some((*words.get(at + 1)?, negated))
        };
        let target = after("-j").map_or("", |(target, _)| target);
        let states = after("--state").or_else(|| after("--ctstate"));
        facts.uses_conntrack |= states.is_some();
        let new = states.is_some_and(|(states, negated)| !negated && states.split(',').any(|s| s == "NEW"));
        let no_syn = line.contains("! --syn") || line.contains("! --tcp-flags FIN,SYN,RST,ACK SYN");
        let kind = match target {
            "DNAT" | "REDIRECT" if table == "nat" => RuleKind::Dnat,
            "DROP" | "REJECT" if new && no_syn => RuleKind::NewMustBeSyn,
            _ => continue,
        };
        let destination = after("-d").or_else(|| after("--destination"));
        let ports = after("--dport").or_else(|| after("--dports"));
        let (one, not_one) = destination.unzip();
        let (ranges, not_these) = ports.unzip();
        facts.rules.push(Rule {
            kind,
            text: format!("iptables -t {table} {line}"),
            addresses: Condition::of(
                one.and_then(Network::parse).map(|network| vec![network]),
                not_one.unwrap_or(false),
            ),
            ports: Condition::of(ranges.and_then(port_ranges), not_these.unwrap_or(false)),
        });
    }
}

/// Reads `80`, `80:90` and lists of these.
fn port_ranges(text: &str) -> Option<Vec<RangeInclusive<u16>>> {
    let range = |text: &str| {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        Some(first.parse().ok()?..=last.parse().ok()?)
    };
    text.split(',').map(range).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const VIP: Endpoint = Endpoint { address: Ipv4Addr::new(10, 60, 0, 100), port: 80 };

    fn nft(rule: &str) -> FirewallFacts {
        let mut facts = FirewallFacts::default();
        let listing = format!(
            r#"{{"nftables": [{{"metainfo": {{"version": "1.0.6"}}}}, {{"rule": {{"family": "inet", "table": "fw",
            "chain": "in", "handle": 3, "expr": {rule}}}}}]}}"#
        );
        nft_rules(&listing, &mut facts);
        facts
    }

    fn iptables(line: &str) -> FirewallFacts {
        let mut facts = FirewallFacts::default();
        iptables_rules(&format!("*filter\n:INPUT ACCEPT [0:0]\n{line}\nCOMMIT\n"), &mut facts);
        facts
    }

    /// The kind of the first rule that may match the VIP.
    fn against_vip(facts: &FirewallFacts) -> Option<RuleKind> {
        facts.rules.iter().find(|rule| rule.may_match(VIP)).map(|rule| rule.kind)
    }

    // As nft 1.0.6 prints the rules quoted above each.
    const NEW: &str = r#"{"match": {"op": "in", "left": {"ct": {"key": "state"}}, "right": "new"}}"#;
    const FLAGS_MASKED: &str = r#"{"match": {"op": "!=", "left": {"&": [{"payload": {"protocol": "tcp", "field":
        "flags"}}, ["fin", "syn", "rst", "ack"]]}, "right": "syn"}}"#;
    const FLAGS: &str = r#"{"match": {"op": "!=", "left": {"payload": {"protocol": "tcp", "field": "flags"}},
        "right": "syn"}}"#;

    #[test]
    fn nft_rules_that_want_a_syn_are_found() {
        // ct state new tcp flags & (fin|syn|rst|ack) != syn drop
        let facts = nft(&format!(r#"[{NEW}, {FLAGS_MASKED}, {{"drop": null}}]"#));
        assert_eq!(against_vip(&facts), Some(RuleKind::NewMustBeSyn));
        assert!(facts.uses_conntrack);
        assert_eq!(facts.rules[0].text, "nft inet fw chain in");
        // tcp flags != syn ct state { invalid, new } counter reject
        let set = r#"{"match": {"op": "==", "left": {"ct": {"key": "state"}}, "right": {"set": ["invalid", "new"]}}}"#;
        let facts = nft(&format!(r#"[{FLAGS}, {set}, {{"counter": {{"packets": 0}}}}, {{"reject": {{}}}}]"#));
        assert_eq!(against_vip(&facts), Some(RuleKind::NewMustBeSyn));
        // tcp dport 443 ct state new tcp flags ! syn drop
        let port = r#"{"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}},
            "right": 443}}"#;
        let facts = nft(&format!(r#"[{port}, {NEW}, {FLAGS}, {{"drop": null}}]"#));
        assert_eq!((against_vip(&facts), facts.rules.len()), (None, 1));
    }

    #[test]
    fn other_nft_rules_are_left_alone() {
        for rule in [
            format!(r#"[{NEW}, {FLAGS}, {{"accept": null}}]"#),
            format!(r#"[{NEW}, {{"drop": null}}]"#),
            format!(r#"[{FLAGS}, {{"drop": null}}]"#),
            r#"[{"drop": null}]"#.to_owned(),
            "null".to_owned(),
            "7".to_owned(),
        ] {
            assert_eq!(nft(&rule).rules, [], "{rule}");
        }
        let mut facts = FirewallFacts::default();
        nft_rules("not json", &mut facts);
        assert_eq!(facts, FirewallFacts::default());
    }

    #[test]
    fn nft_nat_counts_where_it_may_match() {
        let rule = |daddr: &str, op: &str, dport: &str| {
            format!(
                r#"[{{"match": {{"op": "{op}", "left": {{"payload": {{"protocol": "ip", "field": "daddr"}}}},
                "right": {daddr}}}}}, {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "tcp",
                "field": "dport"}}}}, "right": {dport}}}}}, {{"dnat": {{"addr": "10.0.0.1"}}}}]"#
            )
        };
        let net = r#"{"prefix": {"addr": "10.60.0.0", "len": 24}}"#;
        let vip = r#""10.60.0.100""#;
        for (daddr, op, dport, hit) in [
            (net, "==", "80", true),
            (net, "==", "81", false),
            (net, "==", r#"{"set": [22, 80]}"#, true),
            (net, "==", r#"{"range": [70, 79]}"#, false),
            (net, "==", r#"{"set": [22, {"range": [79, 90]}]}"#, true),
            (net, "==", r#""@ports""#, true),
            (net, "!=", "80", false),
            (vip, "==", "80", true),
            (vip, "!=", "80", false),
            (r#""10.60.0.101""#, "!=", "80", true),
        ] {
            let found = against_vip(&nft(&rule(daddr, op, dport)));
            assert_eq!(found, hit.then_some(RuleKind::Dnat), "{op} {daddr} {dport}");
        }
        let redirect = nft(r#"[{"redirect": {"port": 80}}]"#);
        assert_eq!(against_vip(&redirect), Some(RuleKind::Dnat));
    }

    #[test]
    fn our_own_table_says_what_is_exempt() {
        let mut facts = FirewallFacts::default();
        let listing = r#"{"nftables": [{"rule": {"family": "ip", "table": "baton_agent", "chain": "prerouting", "expr":
            [
            {"match": {"op": "==", "left": {"payload": {"protocol": "ip", "field": "daddr"}}, "right": "10.60.0.100"}},
            {"match": {"op": "==", "left": {"payload": {"protocol": "tcp", "field": "dport"}}, "right": 80}},
            {"notrack": null}]}},
            {"rule": {"family": "ip", "table": "baton_agent", "chain": "output", "expr": [{"notrack": null}]}}]}"#;
        nft_rules(listing, &mut facts);
        assert_eq!((facts.exempt, facts.rules), (vec![VIP], vec![]));
    }

    #[test]
    fn iptables_rules_are_read_alike() {
        let new_not_syn = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m state --state NEW -j DROP";
        for (line, want) in [
            (format!("-A INPUT {new_not_syn}"), Some(RuleKind::NewMustBeSyn)),
            (format!("-A INPUT -d 10.60.0.100/32 {new_not_syn}"), Some(RuleKind::NewMustBeSyn)),
            (format!("-A INPUT ! -d 10.60.0.100/32 {new_not_syn}"), None),
            (format!("-A INPUT -d 10.61.0.0/255.255.0.0 {new_not_syn}"), None),
            (
                "-A INPUT -p tcp ! --syn -m conntrack --ctstate INVALID,NEW -j REJECT".into(),
                Some(RuleKind::NewMustBeSyn),
            ),
            ("-A INPUT -p tcp ! --syn -m conntrack ! --ctstate NEW -j DROP".into(), None),
            ("-A INPUT -p tcp --syn -m conntrack --ctstate NEW -j DROP".into(), None),
            (format!("-A INPUT -m multiport --dports 22,443:500 {new_not_syn}"), None),
            (format!("-A INPUT -m multiport --dports 22,79:90 {new_not_syn}"), Some(RuleKind::NewMustBeSyn)),
            ("-A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 10.0.0.1".into(), None),
        ] {
            assert_eq!(against_vip(&iptables(&line)), want, "{line}");
        }
        let mut facts = FirewallFacts::default();
        let nat = "*nat\n-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080\nCOMMIT\n";
        iptables_rules(nat, &mut facts);
        assert_eq!(against_vip(&facts), Some(RuleKind::Dnat));
        assert!(!facts.uses_conntrack);
    }
}
