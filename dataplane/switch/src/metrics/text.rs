//! A sample as Prometheus text (exposition format 0.0.4).

use baton_core::{DropReason, Event};
use handoff_proto::control::Load;
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
    let stale = sample.backends.iter();
    let stale = stale.filter_map(|one| Some((label(&one.name), number(u64::from(one.report_stale?)))));
    families.push(gauge(
        "backend_report_stale",
        "Whether the backend's report is too old for policies to go by (1) or not (0); absent while its agent is not connected.",
        stale.collect(),
    ));
    loads(sample, families);
}

/// What agents say of their backends: absent where one does not say it, or is not connected.
fn loads(sample: &Sample, families: &mut Vec<MetricFamily>) {
    let of_load = |value: fn(&Load) -> Option<f64>| -> Vec<Series> {
        let told = sample.backends.iter().filter_map(|one| {
            let value = value(one.load.as_ref()?)?;
            Some((Some(("backend", one.name.clone())), value))
        });
        told.collect()
    };
    families.push(gauge(
        "backend_connections",
        "Connections at the backend's VIPs, as its agent last said.",
        of_load(|load| load.established.map(number)),
    ));
    families.push(gauge(
        "backend_response_seconds",
        "Mean time from a request to the first byte of its answer, as the backend's agent last said; absent if nothing was asked.",
        of_load(|load| load.response.map(|response| f64::from(response.mean_us) / 1e6)),
    ));
    families.push(gauge(
        "backend_cpu_ratio",
        "Share of their processors that the backend's servers use, or else of its host's that is busy (0 to 1).",
        of_load(|load| load.server_cpu_permille.or(load.cpu_busy_permille).map(share)),
    ));
    families.push(gauge(
        "backend_memory_pressure_ratio",
        "Share of the last ten seconds in which some task of the backend's servers waited for memory (0 to 1).",
        of_load(|load| load.memory_pressure_permille.map(share)),
    ));
    families.push(gauge(
        "backend_accept_queue_length",
        "Connections that wait for the backend's server to accept them, in its fullest accept queue.",
        of_load(|load| load.accept_queue.map(|queue| queue.length.into())),
    ));
    families.push(gauge(
        "backend_accept_queue_limit",
        "How many may wait there.",
        of_load(|load| load.accept_queue.map(|queue| queue.limit.into())),
    ));
    families.push(counter(
        "backend_received_bytes",
        "TCP payload that the backend's VIPs received from clients, since its agent's programs were attached.",
        of_load(|load| load.traffic.map(|traffic| number(traffic.bytes_in))),
    ));
    families.push(counter(
        "backend_sent_bytes",
        "TCP payload that the backend's VIPs sent to clients, since its agent's programs were attached.",
        of_load(|load| load.traffic.map(|traffic| number(traffic.bytes_out))),
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
    ("news_lost", "Learned hardware addresses that did not reach another lcore, once for each.");
/// See [`NEWS_LOST`].
pub(crate) const SESSIONS_LOST: (&str, &str) = (
    "sessions_lost",
    "Learned TLS sessions that did not reach an lcore, once for each lcore; their clients' next handshakes are full ones.",
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

/// Thousandths as Prometheus has them.
fn share(permille: u16) -> f64 {
    f64::from(permille) / 1000.0
}

/// A count as Prometheus has it.
#[expect(clippy::cast_precision_loss, reason = "Prometheus knows doubles only; exact below 2^53")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use handoff_proto::control::{AcceptQueue, Response, Traffic};

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
                    report_stale: Some(false),
                    load: Some(Load {
                        established: Some(4),
                        accept_queue: Some(AcceptQueue { length: 3, limit: 511 }),
                        server_cpu_permille: Some(250),
                        cpu_busy_permille: Some(900),
                        memory_pressure_permille: Some(15),
                        response: Some(Response { mean_us: 500_000, count: 2 }),
                        traffic: Some(Traffic { bytes_in: 10, bytes_out: 2_000, ..Traffic::default() }),
                        ..Load::default()
                    }),
                },
                BackendSample {
                    name: "two".to_owned(),
                    usable: false,
                    report_age_s: None,
                    handoffs: 0,
                    report_stale: None,
                    load: None,
                },
                BackendSample {
                    name: "three".to_owned(),
                    usable: true,
                    report_age_s: Some(0.5),
                    handoffs: 0,
                    report_stale: Some(true),
                    load: Some(Load { cpu_busy_permille: Some(900), ..Load::default() }),
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
            "baton_backend_cpu_ratio{backend=\"one\"} 0.25",
            "baton_backend_cpu_ratio{backend=\"three\"} 0.9",
            "baton_backend_memory_pressure_ratio{backend=\"one\"} 0.015",
            "baton_backend_accept_queue_length{backend=\"one\"} 3",
            "baton_backend_accept_queue_limit{backend=\"one\"} 511",
            "baton_backend_received_bytes_total{backend=\"one\"} 10",
            "baton_backend_sent_bytes_total{backend=\"one\"} 2000",
            "baton_backend_report_stale{backend=\"one\"} 0",
            "baton_backend_report_stale{backend=\"three\"} 1",
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
    fn what_an_agent_does_not_say_is_absent_and_never_0() {
        let text = render(&sample()).expect("renders");
        let of = |name: &str| -> BTreeSet<String> {
            let label = format!("{{backend=\"{name}\"}}");
            let lines = text.lines().filter_map(|line| line.split_once(&label));
            lines.map(|(metric, _)| metric.trim_start_matches("baton_backend_").to_owned()).collect()
        };
        let set =
            |names: &[&str]| -> BTreeSet<String> { names.iter().map(|&name| name.to_owned()).collect() };
        assert_eq!(of("two"), set(&["usable", "handoffs_total"]), "nobody speaks for it");
        let silent = ["usable", "handoffs_total", "report_age_seconds", "report_stale", "cpu_ratio"];
        assert_eq!(of("three"), set(&silent), "its agent knows of its processors alone");
        assert_eq!(of("one").len(), silent.len() + 7);
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
