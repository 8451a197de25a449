//! The scenarios, one after the other.

use std::time::Duration;

use baton_core::policy::balance::{
    ContentAndLoadSettings, HashOn, HostWeights, LardReplicatedSettings, LardSettings, MaglevSettings,
    PolicySettings, RaccSettings, SettingsFault, TrafficUnit,
};
use baton_weather::Chance;
use handoff_proto::Micros;

use crate::addresses;
use crate::chances::Chances;
use crate::client::script::Ending;
use crate::fault::{Fault, Timed};
use crate::oracle::{Losses, Refusals, Tolerance};
use crate::scenario::{Scenario, chance, traffic};
use crate::world::{Plan, Replays};

const NONE: Tolerance = Tolerance {
    losses: Losses::None,
    refusals: Refusals::None,
    smoltcp_may_stop: false,
    unfinished: false,
    lasts: false,
};
const REFUSALS: Tolerance = Tolerance { refusals: Refusals::OfFaulty, ..NONE };
const LOSSES: Tolerance = Tolerance {
    losses: Losses::Fatal,
    refusals: Refusals::OfFaulty,
    smoltcp_may_stop: false,
    unfinished: false,
    lasts: false,
};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "calm",
        about: "nothing goes wrong",
        shape: |_, _| {},
        evidence: &[("switch_handoffs", 100)],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "storm",
        about: "frames are lost, doubled, overtaken and corrupted on every cable",
        shape: storm,
        evidence: &[
            ("link_lost", 90),
            ("link_duplicated", 90),
            ("link_reordered", 90),
            ("link_corrupted", 90),
        ],
        // Weather never ends.
        tolerance: Tolerance { smoltcp_may_stop: true, unfinished: true, lasts: true, ..NONE },
        complete_percent: 98,
    },
    Scenario {
        name: "pieces",
        about: "clients write their requests in small pieces, over a lossy path",
        shape: pieces,
        evidence: &[("switch_heads_held", 90), ("switch_held_repeated", 8)],
        // Weather never ends.
        tolerance: Tolerance { smoltcp_may_stop: true, unfinished: true, lasts: true, ..NONE },
        complete_percent: 95,
    },
    Scenario {
        name: "reuse",
        about: "clients open connections from few ports again and again",
        shape: reuse,
        evidence: &[("switch_flows_replaced", 90), ("backend_healed", 45)],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "agent-gone",
        about: "agents die and come back; what they loaded stays at work",
        shape: agent_gone,
        evidence: &[("world_answered_without_agent", 25), ("world_usability_lost", 85)],
        tolerance: REFUSALS,
        complete_percent: 85,
    },
    Scenario {
        name: "backend-cut",
        about: "the cable of a backend is cut and mended, or the backend loses power",
        shape: cut_off,
        evidence: &[("link_cut", 45), ("world_sockets_lost", 9)],
        tolerance: LOSSES,
        complete_percent: 90,
    },
    Scenario {
        name: "listener-refuses",
        about: "servers stop listening or accepting: handoffs are refused and go elsewhere",
        shape: listener_refuses,
        evidence: &[("backend_refused", 70), ("switch_handoffs_retried", 50)],
        tolerance: REFUSALS,
        complete_percent: 35,
    },
    Scenario {
        name: "switch-restart",
        about: "the switch is killed and started again, its clock having jumped ahead",
        shape: switch_restart,
        evidence: &[
            ("switch_flows_adopted", 35),
            ("world_flows_lost", 70),
            ("world_served_after_restart", 90),
        ],
        // What was acknowledged of an unfinished head is lost with the switch (docs/LIMITS.md).
        tolerance: LOSSES,
        complete_percent: 99,
    },
    Scenario {
        name: "policy-change",
        about: "other rules come into force again and again",
        shape: policy_change,
        evidence: &[("world_served_by_new_rules", 70)],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "policies",
        about: "any of the policies chooses; agents fall silent and come back, queues fill, rules change",
        shape: policies,
        evidence: &[
            ("switch_stale_reports", 2),
            ("world_usability_lost", 45),
            ("backend_refused", 4),
            ("world_served_by_new_rules", 70),
        ],
        // A pool may have lost its backends under rules that are no longer in force when its client hears of it.
        tolerance: Tolerance { refusals: Refusals::Any, ..NONE },
        complete_percent: 80,
    },
    Scenario {
        name: "key-rotation",
        about: "keys of cookies and tags are rotated",
        shape: key_rotation,
        evidence: &[
            ("world_served_under_old_cookie", 25),
            ("world_served_under_new_cookie", 90),
            ("world_served_without_old_key", 90),
        ],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "table-full",
        about: "the flow table and the places for heads are far too small",
        shape: table_full,
        evidence: &[
            ("switch_drop_table_full", 90),
            ("switch_flows_evicted", 80),
            ("switch_drop_holds_full", 22),
            ("switch_holds_evicted", 5),
        ],
        // A table stays as small as it is.
        tolerance: Tolerance { unfinished: true, lasts: true, ..LOSSES },
        complete_percent: 40,
    },
    Scenario {
        name: "control-delayed",
        about: "what agents and switch say to each other comes late",
        shape: control_delayed,
        evidence: &[("world_reports_outdated", 90), ("backend_refused", 6)],
        tolerance: Tolerance { refusals: Refusals::Any, ..NONE },
        complete_percent: 75,
    },
    Scenario {
        name: "clock-jump",
        about: "agents are wrong about the switch's clock, which may leap by an hour between two lives of it",
        shape: clock_jump,
        evidence: &[("backend_stale", 20), ("backend_future", 25), ("world_served_after_restart", 20)],
        tolerance: Tolerance { refusals: Refusals::Any, ..LOSSES },
        complete_percent: 90,
    },
    Scenario {
        name: "forgotten",
        about: "the switch forgets flows of quiet clients, and has to find their servers again",
        shape: forgotten,
        evidence: &[("switch_flows_adopted", 90)],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "replays",
        about: "messages between switch and backends come again, up to a minute later",
        shape: replays,
        evidence: &[("world_frames_replayed", 90), ("backend_stale", 20)],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "forgeries",
        about: "a stranger makes up segments of every kind in the clients' names, without knowing their numbers",
        shape: forgeries,
        evidence: &[("world_segments_forged", 90), ("switch_fins_unbelieved", 90)],
        tolerance: NONE,
        complete_percent: 100,
    },
    Scenario {
        name: "stalls",
        about: "the switch stands still now and then, and often has no buffer for what it wants to send",
        shape: stalls,
        evidence: &[("world_frames_waited", 55), ("switch_transmit_failed", 55)],
        // Buffers are lacking to the end.
        tolerance: Tolerance { unfinished: true, lasts: true, ..REFUSALS },
        complete_percent: 90,
    },
    Scenario {
        name: "everything",
        about: "several of these at once",
        shape: everything,
        evidence: &[
            ("link_lost", 35),
            ("switch_heads_held", 80),
            ("backend_refused", 10),
            ("world_flows_lost", 15),
            ("world_usability_lost", 45),
            ("world_frames_replayed", 12),
        ],
        tolerance: Tolerance {
            losses: Losses::Any,
            refusals: Refusals::Any,
            smoltcp_may_stop: true,
            unfinished: true,
            // It may have drawn weather, and that never ends.
            lasts: true,
        },
        complete_percent: 70,
    },
];

fn storm(plan: &mut Plan, chances: &mut Chances) {
    be_patient(plan);
    for conditions in [&mut plan.outside, &mut plan.inside, &mut plan.at_backends] {
        conditions.loss = chance(chances.between(2, 40));
        conditions.duplicate = chance(chances.between(2, 30));
        conditions.reorder = chance(chances.between(2, 30));
        conditions.jitter = Duration::from_micros(chances.between(0, 5_000));
        conditions.jitter_reorders = chances.percent(50);
    }
    // No packet crosses two of these cables: two changes can hide from a checksum behind each other.
    plan.outside.corrupt = Chance::NEVER;
    plan.at_backends.corrupt = Chance::NEVER;
    let corrupting = if chances.percent(50) { &mut plan.outside } else { &mut plan.at_backends };
    corrupting.corrupt = chance(chances.between(2, 15));
}

/// smoltcp waits up to a minute before it repeats itself once more. Clients give up before their servers do, so that who was
/// stopped by whom can be told.
fn be_patient(plan: &mut Plan) {
    plan.conversations.iter_mut().for_each(|script| script.patience = Micros::from_secs(800));
}

fn pieces(plan: &mut Plan, chances: &mut Chances) {
    be_patient(plan);
    traffic::in_pieces(&mut plan.conversations, chances);
    plan.outside.loss = chance(chances.between(0, 30));
    plan.outside.reorder = chance(chances.between(0, 30));
    plan.at_backends.loss = chance(chances.between(0, 20));
}

/// Each port is used again soon after its connection has ended, or before.
fn reuse(plan: &mut Plan, chances: &mut Chances) {
    let ports = chances.between(1, 3);
    for script in &mut plan.conversations {
        script.host = 0;
        script.port = u16::try_from(30_000 + script.number % ports).unwrap_or(30_000);
        for request in &mut script.requests {
            request.padding_bytes = 0;
            request.answer_bytes = request.answer_bytes.min(2_000);
            request.think = Micros(0);
            request.pause = Micros(0);
        }
        script.requests.truncate(1);
        script.pause = Micros(0);
        script.start = Micros::from_secs(4 + script.number / ports * 3);
        if matches!(script.ending, Ending::HalfClose | Ending::Abort(_)) {
            script.ending = Ending::ClientCloses;
        }
    }
}

/// A span within which a fault begins, and how long it lasts.
fn trouble(chances: &mut Chances, longest_ms: u64) -> (Micros, Micros) {
    let begin = chances.span(Micros::from_secs(3), Micros::from_secs(10));
    (begin, begin.plus(Micros::from_millis(chances.between(50, longest_ms))))
}

fn push(plan: &mut Plan, at: Micros, fault: Fault) {
    plan.faults.push(Timed { at, fault });
}

fn any_backend(chances: &mut Chances) -> usize {
    chances.position(addresses::BACKEND_COUNT)
}

fn agent_gone(plan: &mut Plan, chances: &mut Chances) {
    for _ in 0..chances.between(1, 3) {
        let (backend, (begin, end)) = (any_backend(chances), trouble(chances, 5_000));
        push(plan, begin, Fault::AgentGone(backend));
        push(plan, end, Fault::AgentBack(backend));
    }
}

fn backend_cut(plan: &mut Plan, chances: &mut Chances) {
    let (backend, (begin, end)) = (any_backend(chances), trouble(chances, 8_000));
    // Something to cut: answers that take their time.
    for script in plan.conversations.iter_mut().filter(|script| script.number % 2 == 0) {
        script.start = begin;
        script.requests.iter_mut().for_each(|request| request.think = Micros::from_millis(100));
    }
    if chances.percent(70) {
        push(plan, begin, Fault::BackendCut(backend));
        push(plan, end, Fault::BackendMended(backend));
    } else {
        push(plan, begin, Fault::PowerLost(backend));
    }
}

/// As above, and the connections have been there for a while by then: some are being served.
fn cut_off(plan: &mut Plan, chances: &mut Chances) {
    backend_cut(plan, chances);
    for script in plan.conversations.iter_mut().filter(|script| script.number % 2 == 0) {
        let earlier = Micros::from_millis(60 * (1 + script.number / 2));
        script.start = Micros(script.start.0.saturating_sub(earlier.0));
    }
}

fn listener_refuses(plan: &mut Plan, chances: &mut Chances) {
    for backend in 0..addresses::BACKEND_COUNT {
        if backend > 0 && chances.percent(40) {
            continue;
        }
        let (begin, end) = (Micros::from_secs(chances.between(0, 4)), Micros::from_secs(13));
        if chances.percent(40) {
            push(plan, begin, Fault::ListenerGone(backend));
            push(plan, end, Fault::ListenerBack(backend));
        } else {
            push(plan, begin, Fault::QueueFull(backend));
            push(plan, end, Fault::QueueDrained(backend));
        }
    }
    plan.control_delay = Micros::from_millis(chances.between(1, 400));
}

fn switch_restart(plan: &mut Plan, chances: &mut Chances) {
    let (begin, end) = trouble(chances, 3_000);
    // Less than a cookie lives, so that clients without a request can still go on.
    let jump = chances.pick(&[0, 0, 1_000, 500_000, 5_000_000, 60_000_000]);
    push(plan, begin, Fault::SwitchKilled);
    push(plan, end, Fault::SwitchStarted(Micros(jump)));
}

fn policy_change(plan: &mut Plan, chances: &mut Chances) {
    for _ in 0..chances.between(2, 8) {
        let at = chances.span(Micros::from_secs(2), traffic::OPENING);
        push(plan, at, Fault::RulesChanged(chances.position(3)));
    }
    plan.faults.sort_by_key(|timed| timed.at);
}

fn policies(plan: &mut Plan, chances: &mut Chances) {
    let policies = every_policy();
    plan.policy = policies[chances.position(policies.len())].clone();
    policy_change(plan, chances);
    let (begin, end) = trouble(chances, 3_000);
    push(
        plan,
        begin,
        Fault::ControlDelayed(chances.span(Micros::from_millis(100), Micros::from_millis(500))),
    );
    push(plan, end, Fault::ControlDelayed(Micros::from_millis(1)));
    if chances.percent(50) {
        agent_gone(plan, chances);
    }
    if chances.percent(50) {
        let (backend, (begin, end)) = (any_backend(chances), trouble(chances, 2_000));
        push(plan, begin, Fault::QueueFull(backend));
        push(plan, end, Fault::QueueDrained(backend));
    }
    plan.faults.sort_by_key(|timed| timed.at);
}

fn sound<T>(settings: Result<T, SettingsFault>) -> T {
    match settings {
        Ok(settings) => settings,
        Err(fault) => unreachable!("settings of a world are sound: {fault}"),
    }
}

/// Every policy, with settings that let worlds of this size see what it does.
fn every_policy() -> [PolicySettings; 16] {
    use PolicySettings as P;
    [
        P::RoundRobin,
        P::WeightedRoundRobin,
        P::LeastConnections,
        P::LeastTraffic(TrafficUnit::Bytes),
        P::LeastTraffic(TrafficUnit::Packets),
        P::WeightedLeastLoad(HostWeights::default()),
        P::FastestResponse,
        P::TwoChoices,
        P::ClientHash,
        P::Maglev(sound(MaglevSettings::new(HashOn::Path, Some(150)))),
        P::UrlHash,
        P::Lard(LardSettings::default()),
        P::LardReplicated(sound(LardReplicatedSettings::new(LardSettings::default(), 20))),
        P::Cap,
        P::Racc(RaccSettings::default()),
        P::ContentAndLoad(ContentAndLoadSettings::default()),
    ]
}

fn key_rotation(plan: &mut Plan, chances: &mut Chances) {
    let first = chances.span(Micros::from_secs(2), Micros::from_secs(5));
    let second = first.plus(chances.span(Micros::from_secs(1), Micros::from_secs(4)));
    push(plan, first, Fault::KeyAdded);
    push(plan, second, Fault::KeyPromoted);
    // No cookie or message of the old key is left by then.
    push(plan, second.plus(Micros::from_secs(100)), Fault::KeyRetired);
}

fn table_full(plan: &mut Plan, chances: &mut Chances) {
    plan.lcores = 1;
    plan.flow_count_max = usize::try_from(chances.between(1, 2)).unwrap_or(1);
    plan.hold_count_max = usize::try_from(chances.between(1, 2)).unwrap_or(1);
    for script in &mut plan.conversations {
        script.start = Micros::from_secs(4).plus(Micros::from_millis(script.number * 20));
    }
    if chances.percent(50) {
        traffic::in_pieces(&mut plan.conversations, chances);
    }
}

fn control_delayed(plan: &mut Plan, chances: &mut Chances) {
    let (begin, end) = trouble(chances, 6_000);
    push(plan, begin, Fault::ControlDelayed(Micros::from_millis(chances.between(100, 2_500))));
    push(plan, end, Fault::ControlDelayed(Micros::from_millis(1)));
    let backend = any_backend(chances);
    push(plan, begin, Fault::ListenerGone(backend));
    push(plan, end, Fault::ListenerBack(backend));
}

fn clock_jump(plan: &mut Plan, chances: &mut Chances) {
    // Until the next report, that is, for 150 ms: again and again.
    let backend = any_backend(chances);
    let by = chances.pick(&[-1_500_000, -30_000_000, 2_500_000, 60_000_000]);
    if chances.percent(30) {
        push(plan, Micros::from_millis(6_000), Fault::SwitchKilled);
        push(plan, Micros::from_millis(6_200), Fault::SwitchStarted(Micros::from_secs(3_600)));
    }
    let mut at = Micros::from_secs(3);
    while at < traffic::OPENING {
        push(plan, at, Fault::ClockMisread(backend, by));
        at = at.plus(Micros::from_millis(chances.between(50, 400)));
    }
}

fn forgotten(plan: &mut Plan, chances: &mut Chances) {
    // Longer than any client waits before it repeats itself: a flow must not be forgotten again while it is asked for.
    plan.established_timeout = Micros::from_secs(10);
    for script in &mut plan.conversations {
        if script.requests.is_empty() {
            continue;
        }
        if matches!(script.ending, Ending::Abort(_)) {
            script.ending = Ending::ClientCloses;
        }
        script.patience = Micros::from_secs(200);
        for request in &mut script.requests {
            request.pause = chances.span(Micros::from_secs(14), Micros::from_secs(20));
        }
        if let Some(request) = script.requests.first().cloned() {
            script.requests.push(request);
        }
    }
}

fn replays(plan: &mut Plan, chances: &mut Chances) {
    plan.replays = Some(Replays {
        per_mille: chances.between(50, 500),
        latest: chances.pick(&[Micros::from_millis(50), Micros::from_millis(1_900), Micros::from_secs(60)]),
    });
    if chances.percent(50) {
        plan.outside.loss = chance(chances.between(1, 20));
        plan.at_backends.loss = chance(chances.between(1, 20));
    }
}

fn forgeries(plan: &mut Plan, chances: &mut Chances) {
    plan.forgeries = chances.between(50, 600);
}

fn stalls(plan: &mut Plan, chances: &mut Chances) {
    plan.buffers_lacking = chances.between(1, 300);
    for _ in 0..chances.between(1, 6) {
        let at = chances.span(Micros::from_secs(2), traffic::OPENING);
        let span = Micros::from_millis(chances.pick(&[1, 20, 100, 300, 1_000]));
        push(plan, at, Fault::SwitchStalled(span));
    }
    if chances.percent(50) {
        traffic::in_pieces(&mut plan.conversations, chances);
    }
}

fn everything(plan: &mut Plan, chances: &mut Chances) {
    let troubles: [fn(&mut Plan, &mut Chances); 12] = [
        storm,
        replays,
        forgeries,
        stalls,
        pieces,
        agent_gone,
        backend_cut,
        listener_refuses,
        switch_restart,
        control_delayed,
        clock_jump,
        policy_change,
    ];
    for _ in 0..chances.between(2, 4) {
        chances.pick(&troubles)(plan, chances);
    }
    plan.faults.sort_by_key(|timed| timed.at);
}
