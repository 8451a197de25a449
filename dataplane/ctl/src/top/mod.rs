//! `batonctl top`: looks at the switch again and again, and shows what changed from look to look.

mod rates;
#[cfg(test)]
mod tests;
mod view;

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use handoff_proto::admin::{Backend, Status};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use thiserror::Error;
use tokio::runtime::Runtime;
use tokio::time::timeout;

use crate::arguments::TopArguments;
use crate::client::{AskFault, Client};
use rates::Look;
use view::View;

/// The view is drawn again at most this often, however fast keys come.
const REDRAW: Duration = Duration::from_millis(50);
/// How long the switch may take for a look; keys wait as long.
const LOOK_MAX: Duration = Duration::from_secs(3);
/// How many lines a page key goes.
const PAGE: usize = 10;

/// Why there is nothing to watch.
#[derive(Debug, Error)]
pub(crate) enum TopFault {
    /// The first look failed.
    #[error(transparent)]
    Ask(#[from] AskFault),
    /// Nowhere to draw.
    #[error("top draws on a terminal, and standard output is none; --once prints one view as text")]
    NoTerminal,
    /// The terminal fails.
    #[error("the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// Watches until somebody quits, or shows one view.
///
/// # Errors
/// See [`TopFault`].
pub(crate) fn run(runtime: &Runtime, client: &mut Client, wanted: &TopArguments) -> Result<(), TopFault> {
    let start = Instant::now();
    let first = look(runtime, client, start)?;
    if wanted.once {
        std::thread::sleep(wanted.interval);
        let view = View::new(look(runtime, client, start)?, Some(&first));
        io::stdout().lock().write_all(view.text(wanted.width).as_bytes())?;
        return Ok(());
    }
    if !io::stdout().is_terminal() {
        return Err(TopFault::NoTerminal);
    }
    let mut terminal = ratatui::try_init()?;
    let watched = watch(&mut terminal, wanted.interval, first, || look(runtime, client, start));
    ratatui::restore();
    Ok(watched?)
}

fn look(runtime: &Runtime, client: &mut Client, start: Instant) -> Result<Look, AskFault> {
    let look = async {
        let status: Status = client.get("/v1/status").await?;
        let backends: Vec<Backend> = client.get("/v1/backends").await?;
        Ok(Look { at: start.elapsed(), status, backends })
    };
    runtime.block_on(async { timeout(LOOK_MAX, look).await.map_err(|_| AskFault::TooLate(LOOK_MAX))? })
}

/// Draws, waits for keys and looks, in turn. Where a look fails, what is shown stays, and says so.
fn watch(
    terminal: &mut DefaultTerminal,
    interval: Duration,
    first: Look,
    mut look: impl FnMut() -> Result<Look, AskFault>,
) -> io::Result<()> {
    let mut view = View::new(first, None);
    let mut next_look = Instant::now() + interval;
    loop {
        terminal.draw(|frame| frame.render_widget(&view, frame.area()))?;
        let drawn = Instant::now();
        let mut has_changed = false;
        // Keys are taken until it is time to draw.
        while !(has_changed && drawn.elapsed() >= REDRAW) {
            let due = if has_changed { (drawn + REDRAW).min(next_look) } else { next_look };
            if event::poll(due.saturating_duration_since(Instant::now()))? {
                match turn(&event::read()?) {
                    Turn::Quit => return Ok(()),
                    Turn::Scroll(lines) => view.scroll(lines),
                    Turn::Redraw => {}
                    Turn::Nothing => continue,
                }
                has_changed = true;
            } else if Instant::now() >= next_look {
                match look() {
                    Ok(now) => view.turn_to(now),
                    Err(fault) => view.complain(fault.to_string()),
                }
                next_look = Instant::now() + interval;
                break;
            }
        }
    }
}

/// What an event of the terminal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    Quit,
    /// Down by so many lines, or up.
    Scroll(isize),
    Redraw,
    Nothing,
}

fn turn(event: &Event) -> Turn {
    let page = PAGE.cast_signed();
    match event {
        Event::Resize(..) => Turn::Redraw,
        Event::Key(key) if key.kind == KeyEventKind::Release => Turn::Nothing,
        Event::Key(key) => match key.code {
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Turn::Quit,
            KeyCode::Char('q') | KeyCode::Esc => Turn::Quit,
            KeyCode::Down | KeyCode::Char('j') => Turn::Scroll(1),
            KeyCode::Up | KeyCode::Char('k') => Turn::Scroll(-1),
            KeyCode::PageDown | KeyCode::Char(' ') => Turn::Scroll(page),
            KeyCode::PageUp => Turn::Scroll(-page),
            KeyCode::Home => Turn::Scroll(isize::MIN),
            _ => Turn::Nothing,
        },
        _ => Turn::Nothing,
    }
}
