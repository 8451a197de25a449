//! What would become of a request: an lcore decides, without doing it; here that is put into the words of switch.toml.

use core::net::{IpAddr, Ipv4Addr};

use baton_core::http;
use baton_core::policy::{Affinity, VipIndex};
use baton_core::switch::{Explanation, Inspect};
use handoff_proto::admin::{Route, RouteContent, RouteOutcome, RouteQuestion, RuleAction};

use super::answers::ask;
use super::catalog::{Catalog, NamedVip};
use super::listings;
use super::operate::OperateFault;
use super::reload::Running;
use super::shared::Shared;
use crate::runtime::{Asked, AskedContent, Question};

/// What is answered where nothing else is.
const UNAVAILABLE: u16 = 503;

/// How often it is asked if the configuration changes meanwhile.
const ATTEMPTS: usize = 2;

/// Asks the first lcore. Each lcore has its own turns and counts, so that another may choose otherwise. What it answers is put
/// into the words of the configuration it went by: where another one came into force meanwhile, it is asked again.
pub(super) async fn route(shared: &Shared, question: &RouteQuestion) -> Result<Route, OperateFault> {
    for _ in 0..ATTEMPTS {
        let running = shared.live.running();
        let route = route_by(shared, &running, question).await?;
        if shared.live.running().generation == running.generation {
            return Ok(route);
        }
    }
    Err(OperateFault::Busy("the configuration changed meanwhile; try again".to_owned()))
}

async fn route_by(
    shared: &Shared,
    running: &Running,
    question: &RouteQuestion,
) -> Result<Route, OperateFault> {
    let (vip, named) = vip(&running.config.catalog, question.vip.as_deref())?;
    fits(named, &question.content)?;
    let client = question.client.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let asked = Box::new(Asked { vip, client, content: content(&question.content)? });
    let busy = |why: &str| OperateFault::Busy(format!("{why}; try again"));
    let lcore = shared.mailboxes.first().ok_or_else(|| busy("there is no lcore"))?;
    let explanation = ask(lcore, |reply| Question::Explain { asked, reply }).await;
    let explanation = explanation.ok_or_else(|| busy("an lcore does not answer at the moment"))?;
    Ok(Route {
        vip: named.name.clone(),
        rule: explanation.rule.and_then(|rule| listings::rule(running, usize::from(rule.0))),
        pool_fullness_permille: explanation.pool.map(|_| explanation.fullness_permille),
        outcome: outcome(running, &explanation),
    })
}

fn vip<'a>(catalog: &'a Catalog, name: Option<&str>) -> Result<(VipIndex, &'a NamedVip), OperateFault> {
    let mut vips = (0..).map(VipIndex).zip(&catalog.vips);
    let names = || catalog.vips.iter().map(|named| named.name.as_str()).collect::<Vec<_>>().join(", ");
    match (name, catalog.vips.as_slice()) {
        (Some(name), _) => vips.find(|(_, named)| named.name == name).ok_or_else(|| {
            OperateFault::Unknown(format!("no VIP is called {name:?}; there are {}", names()))
        }),
        (None, [only]) => Ok((VipIndex(0), only)),
        (None, _) => Err(OperateFault::Invalid(format!("which VIP? there are {}", names()))),
    }
}

/// Refuses requests that could not come that way.
fn fits(named: &NamedVip, content: &RouteContent) -> Result<(), OperateFault> {
    let needed = match (named.service.inspect, content) {
        (Inspect::Http, RouteContent::Http { .. })
        | (Inspect::Tls, RouteContent::Tls { .. })
        | (Inspect::None, RouteContent::Unseen) => return Ok(()),
        (Inspect::Http, _) => "requests are read there: say method and target",
        (Inspect::Tls, _) => "ClientHellos are read there: say server_name, protocol or session_id",
        (Inspect::None, _) => "nothing is read there: say nothing but the client",
    };
    Err(OperateFault::Invalid(format!("VIP {:?}: {needed}", named.name)))
}

/// Reads what is asked about as the packet path reads it from a connection.
fn content(asked: &RouteContent) -> Result<AskedContent, OperateFault> {
    Ok(match asked {
        RouteContent::Unseen => AskedContent::Unseen,
        RouteContent::Http { method, target, host, headers } => {
            let (path, query) =
                target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
            let field = host.iter().map(|host| ("Host".to_owned(), host.clone()));
            let fields: Vec<(String, String)> = field.chain(headers.iter().cloned()).collect();
            AskedContent::Http {
                method: method.clone(),
                host: host_of(&fields)?,
                path: path.to_owned(),
                query: query.map(str::to_owned),
                fields,
            }
        }
        RouteContent::Tls { server_name, protocols, session_id } => AskedContent::Tls {
            server_name: server_name.clone(),
            protocols: protocols.clone(),
            // None is sent as an empty one (RFC 5246, section 7.4.1.2).
            session_id: session_id.map(|id| id.as_bytes().to_vec()).unwrap_or_default(),
        },
    })
}

/// Finds the host among the fields of a request.
fn host_of(fields: &[(String, String)]) -> Result<Option<String>, OperateFault> {
    let wrong =
        |why: String| OperateFault::Invalid(format!("{why}: the switch answers such a request with 400"));
    let mut hosts = fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case("host"));
    let (first, second) = (hosts.next(), hosts.next());
    if second.is_some() {
        return Err(wrong("more than one Host".to_owned()));
    }
    let Some((_, field)) = first else { return Ok(None) };
    let host = http::host_of(field.trim()).ok_or_else(|| wrong(format!("host={field:?} is no host")))?;
    Ok(Some(host.to_owned()))
}

fn outcome(running: &Running, explanation: &Explanation) -> RouteOutcome {
    let catalog = &running.config.catalog;
    let refused = |why: String| RouteOutcome::Answer { status: UNAVAILABLE, location: None, why };
    let Some(rule) = explanation.rule else { return refused("no rule matches".to_owned()) };
    if explanation.answer.is_some() {
        let action = listings::rule(running, usize::from(rule.0)).map(|rule| rule.action);
        let (status, location) = match action {
            Some(RuleAction::Redirect { status, location }) => (status, Some(location)),
            Some(RuleAction::Respond { status }) => (status, None),
            Some(RuleAction::Pool(_)) | None => (UNAVAILABLE, None),
        };
        return RouteOutcome::Answer { status, location, why: "the rule says so".to_owned() };
    }
    let pool = explanation.pool.and_then(|pool| catalog.pools.get(usize::from(pool.0)));
    let Some(named) = pool else { return refused("the rule leads nowhere".to_owned()) };
    let (backend, why) = match explanation.chosen {
        Some(_) if !explanation.is_let_in => {
            let class =
                catalog.classes.get(usize::from(explanation.class.0)).map(|named| named.name.as_str());
            let class = class.filter(|name| !name.is_empty()).unwrap_or("that of rules which name none");
            let percent = explanation.fullness_permille / 10;
            return refused(format!(
                "overload: pool {:?} is full by {percent} %, and requests of class {class:?} are refused then",
                named.name
            ));
        }
        Some((backend, why)) => (catalog.backend_name(backend).map(str::to_owned), why.text()),
        None => (None, "no backend of the pool may get new connections"),
    };
    let affinity = named.pool.affinity.as_ref().map(|affinity| match affinity {
        Affinity::Client => "the client's address".to_owned(),
        Affinity::Cookie { name } => format!("the value of cookie {name}"),
        Affinity::CookieRoute { name, .. } => format!("the backend that cookie {name} names"),
        Affinity::TlsSession => "the TLS session it resumes".to_owned(),
    });
    RouteOutcome::Dispatch {
        pool: named.name.clone(),
        affinity,
        policy: named.pool.policy.name().to_owned(),
        backend,
        why: why.to_owned(),
    }
}
