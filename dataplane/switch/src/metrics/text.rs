//! A sample as Prometheus text (exposition format 0.0.4).

use baton_core::{DropReason, Event};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{Encoder, TextEncoder};

use super::sample::{ClassSample, LcoreSample, Sample};
use crate::dpdk::PortStats;

const PREFIX: &str = "baton_";

/// One series of a family: its label, if any, and its value.
type Series = (Option<(&'static str, String)>, f64);

/// Writes a sample as text.
///
/// # Errors
/// A family without name or series: our own mistake.
pub fn render(sample: &Sample) -> prometheus::Result<String> {
    let mut families = Vec::new();
    lcores(sample, &mut families);
    port(sample, &mut families);
    backends(sample, &mut families);
    classes(sample, &mut families);
    control(sample, &mut families);
    // A family may have no series at the moment: a closed port, no agent connected.
    families.retain(|family| !family.get_metric().is_empty());
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn lcores(sample: &Sample, families: &mut Vec<MetricFamily>) {
    let of_each = |value: &dyn Fn(&LcoreSample) -> f64| -> Vec<Series> {
        sample.lcores.iter().map(|lcore| (Some(("lcore", lcore.index.to_string())), value(lcore))).collect()
    };
    for (place, event) in Event::ALL.iter().enumerate() {
        families.push(counter(event.name(), event.description(), of_each(&|lcore| at(&lcore.events, place))));
    }
    for (place, reason) in DropReason::ALL.iter().enumerate() {
        families.push(counter(
            reason.name(),
            reason.description(),
            of_each(&|lcore| at(&lcore.drops, place)),
        ));
    }
    families.push(gauge("flows", "Entries in the flow table.", of_each(&|lcore| number(lcore.flows))));
    families.push(gauge(
        "flows_capacity",
        "Entries the flow table can hold.",
        of_each(&|lcore| number(u64::try_from(lcore.flow_count_max).unwrap_or(u64::MAX))),
    ));
    families.push(counter(
        "lcore_busy_seconds",
        "Time in turns of the burst loop that received or sent something.",
        of_each(&|lcore| lcore.busy_s),
    ));
    families.push(counter(
        "lcore_idle_seconds",
        "Time in turns of the burst loop that had nothing to do, and in naps.",
        of_each(&|lcore| lcore.idle_s),
    ));
    let Some(first) = sample.lcores.first() else { return };
    for (place, (name, description, _)) in first.door.entries().enumerate() {
        // Time is told above, in seconds.
        if !name.ends_with("_us") {
            let value =
                |lcore: &LcoreSample| number(lcore.door.entries().nth(place).map_or(0, |entry| entry.2));
            families.push(counter(&format!("lcore_{name}"), description, of_each(&value)));
        }
    }
}

fn port(sample: &Sample, families: &mut Vec<MetricFamily>) {
    let mut counted = |name: &str, description: &str, value: fn(&PortStats) -> u64| {
        let series = sample.port.iter().map(|port| (None, number(value(&port.stats))));
        families.push(counter(&format!("port_{name}"), description, series.collect()));
    };
    counted("rx_frames", "Frames the port received, by its driver's count.", |stats| stats.rx_frames);
    counted("rx_bytes", "Bytes the port received, by its driver's count.", |stats| stats.rx_bytes);
    counted("rx_missed", "Frames the device dropped because the receive ring was full.", |stats| {
        stats.rx_missed
    });
    counted("rx_errors", "Frames received in error.", |stats| stats.rx_errors);
    counted("rx_no_buffer", "Frames dropped because the pool had no free buffer.", |stats| {
        stats.rx_no_buffer
    });
    counted("tx_frames", "Frames the port sent, by its driver's count.", |stats| stats.tx_frames);
    counted("tx_bytes", "Bytes the port sent, by its driver's count.", |stats| stats.tx_bytes);
    counted("tx_errors", "Frames that failed to be sent.", |stats| stats.tx_errors);
    let free =
        sample.port.iter().map(|port| (None, number(u64::try_from(port.free_frames).unwrap_or(u64::MAX))));
    families.push(gauge("pool_free_frames", "Free buffers of the packet pool.", free.collect()));
}

fn backends(sample: &Sample, families: &mut Vec<MetricFamily>) {
    let label = |name: &str| Some(("backend", name.to_owned()));
    let usable =
        sample.backends.iter().map(|backend| (label(&backend.name), number(u64::from(backend.usable))));
    families.push(gauge(
        "backend_usable",
        "Whether the backend may get new connections (1) or not (0).",
        usable.collect(),
    ));
    let ages =
        sample.backends.iter().filter_map(|backend| Some((label(&backend.name), backend.report_age_s?)));
    families.push(gauge(
        "backend_report_age_seconds",
        "Time since the backend's agent was last heard; absent while it is not connected.",
        ages.collect(),
    ));
    let handoffs = sample.backends.iter().map(|backend| (label(&backend.name), number(backend.handoffs)));
    families.push(counter(
        "backend_handoffs",
        "Connections the backend was given, those it refused among them.",
        handoffs.collect(),
    ));
    let connections =
        sample.backends.iter().filter_map(|one| Some((label(&one.name), number(one.connections?))));
    families.push(gauge(
        "backend_connections",
        "Connections at the backend's VIPs, as its agent last said.",
        connections.collect(),
    ));
    let responses = sample.backends.iter().filter_map(|one| Some((label(&one.name), one.response_s?)));
    families.push(gauge(
        "backend_response_seconds",
        "Mean time from a request to the first byte of its answer, as the backend's agent last said; absent if nothing was asked.",
        responses.collect(),
    ));
}

fn classes(sample: &Sample, families: &mut Vec<MetricFamily>) {
    let mut of_class = |name: &str, description: &str, count: fn(&ClassSample) -> u64| {
        let series = sample.classes.iter();
        let series = series.map(|class| (Some(("class", class.name.clone())), number(count(class))));
        families.push(counter(name, description, series.collect()));
    };
    of_class("class_let_in", "Requests of the service class that were let in.", |class| class.let_in);
    of_class("class_refused", "Requests of the service class refused for overload.", |class| class.refused);
}

/// Name and meaning of what control counts and operators see among the counters, too.
pub(crate) const NEWS_LOST: (&str, &str) =
    ("news_lost", "Learned hardware addresses that did not reach another lcore.");
/// See [`NEWS_LOST`].
pub(crate) const SESSIONS_LOST: (&str, &str) = (
    "sessions_lost",
    "Learned TLS sessions that did not reach an lcore; their clients' next handshakes are full ones.",
);

fn control(sample: &Sample, families: &mut Vec<MetricFamily>) {
    let counts = &sample.control;
    for (name, description, value) in [
        ("agents_welcomed", "Agents that were welcomed.", counts.welcomed),
        ("agents_refused", "Connections of agents that ended for a fault of theirs.", counts.refused),
        (
            "agents_crowded",
            "Connections not taken because too many were not authenticated yet.",
            counts.crowded,
        ),
        ("snapshots_published", "Snapshots published to the lcores.", counts.published),
        (NEWS_LOST.0, NEWS_LOST.1, counts.news_lost),
        (SESSIONS_LOST.0, SESSIONS_LOST.1, counts.sessions_lost),
    ] {
        families.push(counter(name, description, vec![(None, number(value))]));
    }
    let release = Some(("release", env!("CARGO_PKG_VERSION").to_owned()));
    families.push(gauge("build_info", "The switch's release, as a label.", vec![(release, 1.0)]));
    families.push(gauge(
        "start_time_seconds",
        "When the switch started, in seconds since the Unix epoch.",
        vec![(None, sample.started_s)],
    ));
}

fn counter(name: &str, description: &str, series: Vec<Series>) -> MetricFamily {
    let metrics = series.into_iter().map(|(label, value)| {
        let mut counter = Counter::default();
        counter.set_value(value);
        let mut metric = labelled(label);
        metric.set_counter(counter);
        metric
    });
    family(&format!("{PREFIX}{name}_total"), description, MetricType::COUNTER, metrics.collect())
}

fn gauge(name: &str, description: &str, series: Vec<Series>) -> MetricFamily {
    let metrics = series.into_iter().map(|(label, value)| {
        let mut gauge = Gauge::default();
        gauge.set_value(value);
        let mut metric = labelled(label);
        metric.set_gauge(gauge);
        metric
    });
    family(&format!("{PREFIX}{name}"), description, MetricType::GAUGE, metrics.collect())
}

fn labelled(label: Option<(&'static str, String)>) -> Metric {
    let pairs = label.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value);
        pair
    });
    Metric::from_label(pairs.collect())
}

fn family(name: &str, description: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(description.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

fn at(values: &[u64], place: usize) -> f64 {
    number(values.get(place).copied().unwrap_or(0))
}

/// A count as Prometheus has it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows doubles only; exact below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::control::PortReading;
    use crate::dpdk::LcoreSnapshot;
    use crate::metrics::{BackendSample, ControlSample};

    fn lcore(index: u8) -> LcoreSample {
        LcoreSample {
            index,
            events: (100..).take(Event::ALL.len()).collect(),
            drops: (200..).take(DropReason::ALL.len()).collect(),
            flows: 7,
            flow_count_max: 65_536,
            door: LcoreSnapshot { rx_frames: 11, busy_us: 12, ..LcoreSnapshot::default() },
            busy_s: 1.5,
            idle_s: 2.25,
        }
    }

    fn sample() -> Sample {
        let stats = PortStats { rx_bytes: 1234, ..PortStats::default() };
        Sample {
            started_s: 1_763_711_747.5,
            lcores: vec![lcore(0), lcore(1)],
            backends: vec![
                BackendSample {
                    name: "one".to_owned(),
                    usable: true,
                    report_age_s: Some(0.125),
                    handoffs: 7,
                    connections: Some(4),
                    response_s: Some(0.5),
                },
                BackendSample {
                    name: "two".to_owned(),
                    usable: false,
                    report_age_s: None,
                    handoffs: 0,
                    connections: None,
                    response_s: None,
                },
            ],
            classes: vec![ClassSample { name: "video".to_owned(), let_in: 40, refused: 2 }],
            port: Some(PortReading { stats, free_frames: 99 }),
            control: ControlSample { refused: 3, sessions_lost: 5, ..ControlSample::default() },
        }
    }

    /// A family as a scraper sees it.
    #[derive(Default)]
    struct Scraped {
        kind: String,
        has_help: bool,
        series: Vec<String>,
    }

    /// Reads the text as a scraper does.
    fn parse(text: &str) -> BTreeMap<String, Scraped> {
        let mut families: BTreeMap<String, Scraped> = BTreeMap::new();
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, words) = help.split_once(' ').expect("name and words");
                families.entry(name.to_owned()).or_default().has_help = words.ends_with('.');
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("name and type");
                families.entry(name.to_owned()).or_default().kind = kind.to_owned();
            } else {
                let (series, value) = line.rsplit_once(' ').expect("series and value");
                let name = series.split('{').next().expect("a name");
                let family = families.get_mut(name).unwrap_or_else(|| panic!("{line} before its TYPE"));
                assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
                family.series.push(series.to_owned());
            }
        }
        families
    }

    #[test]
    fn every_family_has_help_type_series_and_a_name_by_the_rules() {
        let families = parse(&render(&sample()).expect("renders"));
        let core = Event::ALL.len() + DropReason::ALL.len();
        assert!(families.len() > core + 20, "{}", families.len());
        for (name, Scraped { kind, has_help, series }) in &families {
            assert!(name.starts_with("baton_"), "{name}");
            assert!(
                name.bytes().all(|byte| byte.is_ascii_lowercase() || b"0123456789_".contains(&byte)),
                "{name}"
            );
            assert_eq!(kind == "counter", name.ends_with("_total"), "{name} is a {kind}");
            assert!(*has_help, "{name}");
            assert!(!series.is_empty(), "{name}");
            let distinct: BTreeSet<&String> = series.iter().collect();
            assert_eq!(distinct.len(), series.len(), "{name}");
        }
    }

    #[test]
    fn values_stand_under_their_names_and_labels() {
        let text = render(&sample()).expect("renders");
        for line in [
            "baton_rx_frames_total{lcore=\"0\"} 100",
            "baton_drop_malformed_total{lcore=\"1\"} 200",
            "baton_flows{lcore=\"1\"} 7",
            "baton_flows_capacity{lcore=\"0\"} 65536",
            "baton_lcore_busy_seconds_total{lcore=\"0\"} 1.5",
            "baton_lcore_idle_seconds_total{lcore=\"1\"} 2.25",
            "baton_lcore_rx_frames_total{lcore=\"0\"} 11",
            "baton_port_rx_bytes_total 1234",
            "baton_pool_free_frames 99",
            "baton_backend_usable{backend=\"one\"} 1",
            "baton_backend_usable{backend=\"two\"} 0",
            "baton_backend_report_age_seconds{backend=\"one\"} 0.125",
            "baton_backend_handoffs_total{backend=\"one\"} 7",
            "baton_backend_connections{backend=\"one\"} 4",
            "baton_backend_response_seconds{backend=\"one\"} 0.5",
            "baton_class_let_in_total{class=\"video\"} 40",
            "baton_class_refused_total{class=\"video\"} 2",
            "baton_agents_refused_total 3",
            "baton_sessions_lost_total 5",
            "baton_start_time_seconds 1763711747.5",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
        assert!(!text.contains("_us_total"), "time is in seconds");
        assert!(!text.contains("report_age_seconds{backend=\"two\"}"));
    }

    #[test]
    fn the_operators_page_names_what_is_exported() {
        let page = include_str!("../../../../docs/OPERATING.md");
        let tables = page.split("<!-- generated: ").filter_map(|part| part.split_once(" -->\n"));
        let told: BTreeSet<String> = tables
            .flat_map(|(table, rest)| {
                let names = rest.lines().map_while(|line| line.strip_prefix("| ")).filter_map(|row| {
                    row.strip_prefix('`').and_then(|name| name.split('`').next()).map(str::to_owned)
                });
                match table {
                    "events" | "drops" | "lcore counters" => {
                        names.map(|name| format!("{PREFIX}{name}_total")).collect::<Vec<_>>()
                    }
                    "other metrics" => names.collect(),
                    _ => Vec::new(),
                }
            })
            // Exported as seconds, which are among the others.
            .filter(|name| !name.ends_with("_us_total"))
            .collect();
        let exported: BTreeSet<String> = parse(&render(&sample()).expect("renders")).into_keys().collect();
        assert_eq!(told, exported);
    }

    #[test]
    fn what_is_not_there_leaves_no_empty_family() {
        let bare = Sample { port: None, backends: Vec::new(), classes: Vec::new(), ..sample() };
        let families = parse(&render(&bare).expect("renders"));
        assert!(families.values().all(|family| !family.series.is_empty()));
        assert!(
            !families.keys().any(|name| name.starts_with("baton_port_") || name.starts_with("baton_backend"))
        );
    }
}
