//! Rates between looks, and what the terminal shows of them.

use std::net::IpAddr;
use std::time::Duration;

use handoff_proto::Vip;
use handoff_proto::admin::{Backend, LcoreStatus, Status, VipStatus};
use handoff_proto::control::{AcceptQueue, Load, Response, Traffic};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{Event, KeyCode, KeyEvent, KeyModifiers};
use ratatui::style::Color;

use super::rates::Look;
use super::view::View;
use super::{Turn, turn};
use crate::vitals::Vitals;

/// A look at a switch that has handed off `handoffs` connections in all, half of them to each of its two backends.
fn look(seconds: u64, handoffs: u64) -> Look {
    let lcore = LcoreStatus {
        lcore: 0,
        cpu: 1,
        flows: handoffs,
        rx_frames: 10 * handoffs,
        tx_frames: 9 * handoffs,
        drops: 0,
        busy_us: 250_000 * seconds,
        idle_us: 750_000 * seconds,
    };
    let status = Status {
        release: "0.1.0".to_owned(),
        uptime_s: 60 + seconds,
        address: IpAddr::from([10, 60, 0, 1]),
        mac: "02:00:00:00:00:01".to_owned(),
        device: "net_af_packet0,iface=data0".to_owned(),
        lcore_count: 1,
        vips: vec![VipStatus {
            name: "web".to_owned(),
            vip: Vip { address: IpAddr::from([10, 60, 0, 100]), port: 80 },
        }],
        backends_usable: 1,
        backends_configured: 2,
        flows: handoffs,
        flows_capacity: 65_536,
        rx_frames: 10 * handoffs,
        tx_frames: 9 * handoffs,
        handoffs,
        drops: 0,
        lcores: vec![lcore],
    };
    let backend = |name: &str, usable| Backend {
        name: name.to_owned(),
        address: IpAddr::from([10, 60, 0, 11]),
        usable,
        reasons: Vec::new(),
        next_hop_mac: None,
        report_age_ms: Some(if usable { 87 } else { 412 }),
        report_stale: Some(!usable),
        agent_release: None,
        clock_ahead_ms: None,
        load: usable.then(|| Load {
            born: Some(handoffs / 2),
            refused: Some(0),
            cpu_busy_permille: Some(125),
            memory_pressure_permille: Some(31),
            accept_queue: Some(AcceptQueue { length: 3, limit: 511 }),
            response: Some(Response { mean_us: 850, count: 1 }),
            traffic: Some(Traffic { bytes_out: 1_000 * handoffs, ..Traffic::default() }),
            ..Load::default()
        }),
        pools: Vec::new(),
        weight: 10,
        draining: false,
        handoffs,
        connections: usable.then_some(4),
    };
    Look {
        at: Duration::from_secs(seconds),
        status,
        backends: vec![backend("one", true), backend("two", false)],
    }
}

/// What a terminal of this size shows, line by line.
fn shown(view: &View, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("memory");
    terminal.draw(|frame| frame.render_widget(view, frame.area())).expect("memory");
    let cells = terminal.backend().buffer().content().chunks(usize::from(width));
    cells
        .map(|line| line.iter().map(|cell| cell.symbol()).collect::<String>().trim_end().to_owned())
        .collect()
}

#[test]
fn rates_are_growth_over_time_and_unknown_where_counters_began_anew() {
    let (first, second) = (look(1, 100), look(3, 700));
    let handoffs = |now: &Look, before: Option<&Look>| now.rate(before, |status| status.handoffs);
    assert_eq!(handoffs(&second, Some(&first)), Some(300.0));
    assert_eq!(handoffs(&second, None), None);
    assert_eq!(handoffs(&first, Some(&first)), None, "no time passed");
    assert_eq!(handoffs(&look(4, 50), Some(&second)), None, "the switch began anew");
    let born = |vitals: &Vitals| vitals.born;
    assert_eq!(second.backend_rate(Some(&first), "one", born), Some(150.0));
    assert_eq!(second.backend_rate(Some(&first), "two", born), None, "its agent does not report");
    assert_eq!(second.backend_rate(Some(&first), "three", born), None);
}

#[test]
fn an_lcore_is_as_busy_as_it_was_since_the_look_before() {
    let (first, mut second) = (look(1, 0), look(3, 0));
    assert_eq!(first.busy_permille(None, &first.status.lcores[0]), Some(250));
    second.status.lcores[0].busy_us = first.status.lcores[0].busy_us + 1_500_000;
    second.status.lcores[0].idle_us = first.status.lcores[0].idle_us + 500_000;
    assert_eq!(second.busy_permille(Some(&first), &second.status.lcores[0]), Some(750));
    assert_eq!(first.busy_permille(Some(&second), &first.status.lcores[0]), None, "it began anew");
}

#[test]
fn the_view_tells_rates_and_backends() {
    let expected = "\
baton-switch 0.1.0  10.60.0.1  up 1 min 3 s
handoffs 300/s  received 3.00k/s  sent 2.70k/s  dropped 0/s
flows 700 of 65536  backends 1 of 2 usable
q quits, arrows scroll

LCORE     BUSY      FLOWS
    0   25.0 %        700

BACKEND         STATE    WEIGHT   CONNS HANDOFF/s REFUSE/s     CPU  MEMORY     QUEUE  LATENCY OUT B/s       REPORT
one             usable       10       4       150        0  12.5 %   3.1 %     3/511   850 us    300k        87 ms
two             down         10       -         -        -       -       -         -        -       - stale 412 ms
";
    let view = View::new(look(3, 700), Some(&look(1, 100)));
    assert_eq!(view.text(114), expected);
    let lines: Vec<&str> = expected.lines().collect();
    assert_eq!(shown(&view, 114, 11), lines, "the terminal shows the same");
}

#[test]
fn a_small_terminal_shows_what_fits_and_scrolls() {
    let mut view = View::new(look(1, 0), None);
    let one = |view: &View| shown(view, 80, 10)[9].split_whitespace().next().map(str::to_owned);
    assert_eq!(one(&view).as_deref(), Some("one"));
    view.scroll(1);
    assert_eq!(one(&view).as_deref(), Some("two"));
    view.scroll(100);
    assert_eq!(one(&view).as_deref(), Some("two"), "never beyond the last");
    view.turn_to(look(2, 0));
    assert_eq!(one(&view).as_deref(), Some("two"), "a newer look does not move the list");
    view.scroll(isize::MIN);
    assert_eq!(one(&view).as_deref(), Some("one"));
    for (width, height) in [(0, 0), (1, 1), (5, 3), (20, 7), (400, 2)] {
        assert_eq!(shown(&view, width.max(1), height.max(1)).len(), usize::from(height.max(1)));
    }
}

#[test]
fn a_failed_look_is_told_until_one_succeeds() {
    let mut view = View::new(look(1, 0), None);
    view.complain("nobody answers".to_owned());
    assert_eq!(shown(&view, 80, 12)[3], "OLD: nobody answers");
    view.turn_to(look(2, 0));
    assert_eq!(shown(&view, 80, 12)[3], "q quits, arrows scroll");
}

#[test]
fn states_have_colours() {
    let mut now = look(1, 0);
    now.backends[0].draining = true;
    let mut terminal = Terminal::new(TestBackend::new(114, 11)).expect("memory");
    let view = View::new(now, None);
    terminal.draw(|frame| frame.render_widget(&view, frame.area())).expect("memory");
    let buffer = terminal.backend().buffer();
    let colour_of = |line, word: &str| {
        let text: String = (0..114).map(|column| buffer[(column, line)].symbol().to_owned()).collect();
        let column = u16::try_from(text.find(word).expect(word)).expect("narrow");
        buffer[(column, line)].fg
    };
    assert_eq!(colour_of(9, "draining"), Color::Yellow);
    assert_eq!(colour_of(10, "down"), Color::Red);
    assert_eq!(colour_of(10, "stale"), Color::Yellow);
    assert_eq!(colour_of(2, "1 of 2 usable"), Color::Yellow);
}

#[test]
fn keys_quit_and_scroll() {
    let key = |code, modifiers| turn(&Event::Key(KeyEvent::new(code, modifiers)));
    let plain = KeyModifiers::NONE;
    assert_eq!(key(KeyCode::Char('q'), plain), Turn::Quit);
    assert_eq!(key(KeyCode::Char('c'), KeyModifiers::CONTROL), Turn::Quit);
    assert_eq!(key(KeyCode::Char('c'), plain), Turn::Nothing);
    assert_eq!(key(KeyCode::Down, plain), Turn::Scroll(1));
    assert_eq!(key(KeyCode::PageUp, plain), Turn::Scroll(-10));
    assert_eq!(turn(&Event::Resize(80, 24)), Turn::Redraw);
    assert_eq!(turn(&Event::FocusLost), Turn::Nothing);
}
