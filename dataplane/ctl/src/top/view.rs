//! What `batonctl top` shows.

use handoff_proto::admin::{Backend, LcoreStatus};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span, Text};
use ratatui::widgets::{Cell, Row, Table, Widget};

use super::rates::{Look, Rate};
use crate::show::{NOTHING, duration, latency, percent, queue, rate, short};
use crate::vitals::Vitals;

const HEADING: Style = Style::new().add_modifier(Modifier::REVERSED);
const GOOD: Style = Style::new().fg(Color::Green);
const FAIR: Style = Style::new().fg(Color::Yellow);
const BAD: Style = Style::new().fg(Color::Red);

/// Lines above the tables, and the empty ones between.
const HEAD_LINES: u16 = 4;
const GAP_LINES: u16 = 1;
/// How many lcores are shown at most, so that there is room for backends.
const LCORE_LINES_MAX: usize = 8;

/// The newest look, seen from the one before.
#[derive(Debug)]
pub(crate) struct View {
    now: Look,
    rows: Vec<BackendRow>,
    lcores: Vec<LcoreRow>,
    head: Head,
    /// Why the newest look failed, if it did.
    complaint: Option<String>,
    /// How many backends are above the first shown.
    skipped: usize,
}

#[derive(Clone, Debug)]
struct Head {
    handoffs: Rate,
    received: Rate,
    sent: Rate,
    dropped: Rate,
}

#[derive(Clone, Debug)]
struct LcoreRow {
    number: u8,
    busy_permille: Option<u64>,
    flows: u64,
}

#[derive(Clone, Debug)]
struct BackendRow {
    name: String,
    state: (&'static str, Style),
    weight: u16,
    vitals: Vitals,
    handoffs: Rate,
    refused: Rate,
    bytes: Rate,
    report_age_ms: Option<u64>,
    report_stale: Option<bool>,
}

impl View {
    /// Shows a look; rates are known if there is an earlier one.
    pub(crate) fn new(now: Look, before: Option<&Look>) -> Self {
        let head = Head {
            handoffs: now.rate(before, |status| status.handoffs),
            received: now.rate(before, |status| status.rx_frames),
            sent: now.rate(before, |status| status.tx_frames),
            dropped: now.rate(before, |status| status.drops),
        };
        let lcore = |lcore: &LcoreStatus| LcoreRow {
            number: lcore.lcore,
            busy_permille: now.busy_permille(before, lcore),
            flows: lcore.flows,
        };
        let backend = |backend: &Backend| {
            let rate = |of: fn(&Vitals) -> Option<u64>| now.backend_rate(before, &backend.name, of);
            BackendRow {
                name: backend.name.clone(),
                state: state(backend),
                weight: backend.weight,
                vitals: Vitals::of(backend),
                handoffs: rate(|vitals| vitals.born),
                refused: rate(|vitals| vitals.refused),
                bytes: rate(|vitals| vitals.tx_bytes),
                report_age_ms: backend.report_age_ms,
                report_stale: backend.report_stale,
            }
        };
        let lcores = now.status.lcores.iter().map(lcore).collect();
        let rows = now.backends.iter().map(backend).collect();
        Self { now, rows, lcores, head, complaint: None, skipped: 0 }
    }

    /// Shows a newer look.
    pub(crate) fn turn_to(&mut self, now: Look) {
        let skipped = self.skipped.min(now.backends.len().saturating_sub(1));
        *self = Self { skipped, ..Self::new(now, Some(&self.now)) };
    }

    /// Says that what is shown is old, and why.
    pub(crate) fn complain(&mut self, why: String) {
        self.complaint = Some(why);
    }

    /// Goes down the list of backends, or up.
    pub(crate) fn scroll(&mut self, lines: isize) {
        self.skipped = self.skipped.saturating_add_signed(lines).min(self.rows.len().saturating_sub(1));
    }

    /// Returns all of it as plain text, `width` columns wide.
    pub(crate) fn text(&self, width: u16) -> String {
        let lines = u16::try_from(self.rows.len()).unwrap_or(u16::MAX).saturating_add(1);
        let height =
            HEAD_LINES.saturating_add(self.lcore_lines()).saturating_add(2 * GAP_LINES).saturating_add(lines);
        let mut buffer = Buffer::empty(Rect::new(0, 0, width, height));
        self.render(buffer.area, &mut buffer);
        let mut text = String::new();
        for cells in buffer.content.chunks(usize::from(width.max(1))) {
            let line: String = cells.iter().map(|cell| cell.symbol()).collect();
            text += line.trim_end();
            text.push('\n');
        }
        text
    }

    /// With a heading.
    fn lcore_lines(&self) -> u16 {
        u16::try_from(self.lcores.len().min(LCORE_LINES_MAX)).unwrap_or_default() + 1
    }

    fn head_text(&self) -> Text<'_> {
        let status = &self.now.status;
        let Head { handoffs, received, sent, dropped } = &self.head;
        let usable = match status.backends_usable {
            0 => BAD,
            usable if usable == status.backends_configured => GOOD,
            _ => FAIR,
        };
        let drops = if dropped.is_some_and(|rate| rate > 0.0) { FAIR } else { Style::new() };
        let complaint = match &self.complaint {
            Some(why) => Line::styled(format!("OLD: {why}"), BAD),
            None => Line::styled("q quits, arrows scroll", Style::new().add_modifier(Modifier::DIM)),
        };
        Text::from(vec![
            Line::raw(format!(
                "baton-switch {}  {}  up {}",
                status.release,
                status.address,
                duration(status.uptime_s)
            )),
            Line::from(vec![
                Span::raw(format!(
                    "handoffs {}/s  received {}/s  sent {}/s  ",
                    told(*handoffs),
                    told(*received),
                    told(*sent)
                )),
                Span::styled(format!("dropped {}/s", told(*dropped)), drops),
            ]),
            Line::from(vec![
                Span::raw(format!("flows {} of {}  backends ", status.flows, status.flows_capacity)),
                Span::styled(
                    format!("{} of {} usable", status.backends_usable, status.backends_configured),
                    usable,
                ),
            ]),
            complaint,
        ])
    }

    fn lcore_table(&self) -> Table<'_> {
        let rows = self.lcores.iter().take(LCORE_LINES_MAX).map(|lcore| {
            let busy = lcore.busy_permille.map_or(NOTHING.to_owned(), percent);
            Row::new([right(lcore.number.to_string()), right(busy), right(lcore.flows.to_string())])
        });
        let heading = Row::new([right("LCORE"), right("BUSY"), right("FLOWS")]).style(HEADING);
        Table::new(rows, [5, 8, 10].map(Constraint::Length)).header(heading).column_spacing(1)
    }

    fn backend_table(&self) -> Table<'_> {
        let rows = self.rows.iter().skip(self.skipped).map(|row| {
            let BackendRow {
                name,
                state,
                weight,
                vitals,
                handoffs,
                refused,
                bytes,
                report_age_ms,
                report_stale,
            } = row;
            let report = report_age_ms.map_or(NOTHING.to_owned(), short);
            let report = match report_stale {
                Some(true) => Line::styled(format!("stale {report}"), FAIR),
                _ => Line::raw(report),
            };
            let number = |number: Option<u64>| number.map_or(NOTHING.to_owned(), |number| number.to_string());
            Row::new([
                Cell::new(name.as_str()),
                Cell::new(Span::styled(state.0, state.1)),
                right(weight.to_string()),
                right(number(vitals.connections)),
                right(told(*handoffs)),
                right(told(*refused)),
                right(vitals.cpu_permille.map_or(NOTHING.to_owned(), |permille| percent(permille.into()))),
                right(vitals.memory_permille.map_or(NOTHING.to_owned(), |permille| percent(permille.into()))),
                right(vitals.accept_queue.map_or(NOTHING.to_owned(), queue)),
                right(vitals.latency_us.map_or(NOTHING.to_owned(), latency)),
                right(told(*bytes)),
                right(report),
            ])
        });
        let heading = Row::new([
            Cell::new("BACKEND"),
            Cell::new("STATE"),
            right("WEIGHT"),
            right("CONNS"),
            right("HANDOFF/s"),
            right("REFUSE/s"),
            right("CPU"),
            right("MEMORY"),
            right("QUEUE"),
            right("LATENCY"),
            right("OUT B/s"),
            right("REPORT"),
        ]);
        let widths = [
            Constraint::Min(10),
            Constraint::Length(8),
            Constraint::Length(6),
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Length(8),
            Constraint::Length(7),
            Constraint::Length(7),
            Constraint::Length(9),
            Constraint::Length(8),
            Constraint::Length(7),
            Constraint::Length(12),
        ];
        Table::new(rows, widths).header(heading.style(HEADING)).column_spacing(1)
    }
}

impl Widget for &View {
    fn render(self, area: Rect, buffer: &mut Buffer) {
        let [head, _, lcores, _, backends] = Layout::vertical([
            Constraint::Length(HEAD_LINES),
            Constraint::Length(GAP_LINES),
            Constraint::Length(self.lcore_lines()),
            Constraint::Length(GAP_LINES),
            Constraint::Min(0),
        ])
        .areas(area);
        self.head_text().render(head, buffer);
        Widget::render(self.lcore_table(), lcores, buffer);
        Widget::render(self.backend_table(), backends, buffer);
    }
}

fn state(backend: &Backend) -> (&'static str, Style) {
    match (backend.draining, backend.usable) {
        (true, _) => ("draining", FAIR),
        (false, true) => ("usable", GOOD),
        (false, false) => ("down", BAD),
    }
}

fn told(each_second: Rate) -> String {
    each_second.map_or(NOTHING.to_owned(), rate)
}

fn right<'a>(text: impl Into<Line<'a>>) -> Cell<'a> {
    Cell::new(text.into().right_aligned())
}
