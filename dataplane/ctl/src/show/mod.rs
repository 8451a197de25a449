//! Answers as text for people.

mod dispatch;
mod units;

use handoff_proto::admin::{Backend, Counter, Event, Flows, LcoreStatus, Status};

use crate::capture::Captured;
use crate::keygen::Made;
use crate::table::Align::{Left, Right};
use crate::table::Table;
use crate::vitals::Vitals;
use crate::wall;

pub(crate) use dispatch::{changes, classes, pools, route, rules};
pub(crate) use units::{duration, latency, percent, queue, rate, short};

/// What stands where nothing is known.
pub(crate) const NOTHING: &str = "-";

pub(crate) fn status(status: &Status) -> String {
    let mut text = format!("baton-switch {}, up {}\n", status.release, duration(status.uptime_s));
    text += &format!("address   {} ({})\n", status.address, status.mac);
    text += &format!("device    {}\n", status.device);
    text += &format!("backends  {} of {} usable\n", status.backends_usable, status.backends_configured);
    text += &format!("flows     {} of {}\n", status.flows, status.flows_capacity);
    text += &format!("handoffs  {}\n", status.handoffs);
    text += &format!(
        "frames    {} received, {} sent, {} dropped",
        status.rx_frames, status.tx_frames, status.drops
    );
    text += if status.drops > 0 { " (`batonctl counters` tells why)\n\n" } else { "\n\n" };
    let mut vips = Table::new([("VIP", Left), ("ADDRESS", Left)]);
    for vip in &status.vips {
        vips.row([vip.name.clone(), vip.vip.to_string()]);
    }
    text += &vips.text();
    text.push('\n');
    let mut lcores = Table::new([
        ("LCORE", Right),
        ("CPU", Right),
        ("BUSY", Right),
        ("FLOWS", Right),
        ("RECEIVED", Right),
        ("SENT", Right),
        ("DROPPED", Right),
    ]);
    for lcore in &status.lcores {
        lcores.row([
            lcore.lcore.to_string(),
            lcore.cpu.to_string(),
            busy_share(lcore),
            lcore.flows.to_string(),
            lcore.rx_frames.to_string(),
            lcore.tx_frames.to_string(),
            lcore.drops.to_string(),
        ]);
    }
    text + &lcores.text()
}

/// The share of its time an lcore had work, since start.
fn busy_share(lcore: &LcoreStatus) -> String {
    match lcore.busy_us.saturating_mul(1000).checked_div(lcore.busy_us.saturating_add(lcore.idle_us)) {
        Some(permille) => percent(permille),
        None => NOTHING.to_owned(),
    }
}

pub(crate) fn backends(backends: &[Backend]) -> String {
    let mut table = Table::new([
        ("BACKEND", Left),
        ("ADDRESS", Left),
        ("NEW CONNECTIONS", Left),
        ("WEIGHT", Right),
        ("OPEN", Right),
        ("BORN", Right),
        ("REFUSED", Right),
        ("CPU", Right),
        ("MEMORY", Right),
        ("QUEUE", Right),
        ("LATENCY", Right),
        ("REPORT", Right),
        ("NEXT HOP", Left),
        ("POOLS", Left),
    ]);
    for backend in backends {
        let vitals = Vitals::of(backend);
        let number = |number: Option<u64>| number.map_or(NOTHING.to_owned(), |number| number.to_string());
        table.row([
            backend.name.clone(),
            backend.address.to_string(),
            if backend.usable { "yes" } else { "no" }.to_owned(),
            backend.weight.to_string(),
            number(vitals.connections),
            number(vitals.born),
            number(vitals.refused),
            vitals.cpu_permille.map_or(NOTHING.to_owned(), |permille| percent(permille.into())),
            vitals.memory_permille.map_or(NOTHING.to_owned(), |permille| percent(permille.into())),
            vitals.accept_queue.map_or(NOTHING.to_owned(), queue),
            vitals.latency_us.map_or(NOTHING.to_owned(), latency),
            report(backend),
            backend.next_hop_mac.clone().unwrap_or_else(|| "unresolved".to_owned()),
            backend.pools.join(", "),
        ]);
    }
    let mut text = table.text();
    for backend in backends.iter().filter(|backend| !backend.usable) {
        text += &format!("\n{} gets no new connections:\n", backend.name);
        for reason in &backend.reasons {
            text += &format!("  {reason}\n");
        }
    }
    text
}

/// How old its report is, and whether policies go on without it.
fn report(backend: &Backend) -> String {
    let stale = if backend.report_stale == Some(true) { ", stale" } else { "" };
    backend.report_age_ms.map_or(NOTHING.to_owned(), |age| format!("{} ago{stale}", short(age)))
}

pub(crate) fn flows(flows: &Flows) -> String {
    let mut table = Table::new([
        ("CLIENT", Left),
        ("VIP", Left),
        ("BACKEND", Left),
        ("STATE", Left),
        ("AGE", Right),
        ("IDLE", Right),
        ("LCORE", Right),
    ]);
    for flow in &flows.flows {
        let client = std::net::SocketAddr::new(flow.tuple.client, flow.tuple.client_port);
        table.row([
            client.to_string(),
            flow.tuple.service().to_string(),
            flow.backend.clone().unwrap_or_else(|| NOTHING.to_owned()),
            flow.state.clone(),
            short(flow.age_ms),
            short(flow.idle_ms),
            flow.lcore.to_string(),
        ]);
    }
    match flows.flows.len() {
        0 => "no flows\n".to_owned(),
        shown => format!("{}\n{shown} of {} flows\n", table.text(), flows.total.max(shown as u64)),
    }
}

/// An event, a line.
pub(crate) fn event(event: &Event) -> String {
    let subject = event.subject.as_deref().unwrap_or("switch");
    format!("{}  {:<22}  {subject}: {}\n", wall::utc(event.time), event.kind.name(), event.text)
}

/// What is said where events are missing.
pub(crate) fn lost(count: u64) -> String {
    let which = if count == 1 { "event is" } else { "events are" };
    format!("({count} earlier {which} not kept any more)\n")
}

pub(crate) fn counters(counters: &[Counter], all: bool) -> String {
    let mut table = Table::new([("COUNT", Right), ("NAME", Left), ("MEANING", Left)]);
    let shown: Vec<&Counter> = counters.iter().filter(|counter| all || counter.value > 0).collect();
    if shown.is_empty() {
        return "every counter is 0; --all lists them\n".to_owned();
    }
    for counter in shown {
        table.row([counter.value.to_string(), counter.name.clone(), counter.description.clone()]);
    }
    table.text()
}

pub(crate) fn captured(captured: &Captured) -> String {
    let Captured { file, frames, lost } = captured;
    let file = file.display();
    match (frames, lost) {
        (Some(frames), Some(0)) => format!("{frames} frames in {file}\n"),
        (Some(frames), Some(lost)) => {
            format!(
                "{frames} frames in {file}; {lost} more were lost, because they came faster than they were taken\n"
            )
        }
        _ => format!(
            "interrupted; what came until then is in {file} (`batonctl events` tells what was lost)\n"
        ),
    }
}

pub(crate) fn made(made: &Made, further: bool) -> String {
    let Made { file, id } = made;
    let file = file.display();
    let then = if further {
        "Where keys are in use already, append its [[key]] at the end of the switch's and every backend's key_file; do \
         not replace them, or connections break. docs/OPERATING.md, Keys, has all steps. In a new cluster, copy the file \
         to the switch and every backend as their key_file, mode 0600"
    } else {
        "Copy it to the switch and every backend as their key_file, mode 0600"
    };
    format!("wrote key {id} to {file}. {then}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_shares_are_of_all_time_and_unknown_without_any() {
        let lcore = |busy_us, idle_us| LcoreStatus {
            lcore: 0,
            cpu: 1,
            flows: 0,
            rx_frames: 0,
            tx_frames: 0,
            drops: 0,
            busy_us,
            idle_us,
        };
        assert_eq!(busy_share(&lcore(0, 0)), "-");
        assert_eq!(busy_share(&lcore(1, 3)), "25.0 %");
        assert_eq!(busy_share(&lcore(5, 0)), "100.0 %");
    }
}
