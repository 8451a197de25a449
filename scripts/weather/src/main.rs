//! `weather`: stands between two interfaces of its network namespace and makes bad weather on the way.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use signal_hook::consts::{SIGINT, SIGTERM, SIGUSR1};

use baton_weather::conditions::ConditionsError;
use baton_weather::port::Port;
use baton_weather::relay::{Climate, Relay};
use baton_weather::{Bounds, Chance, Conditions, Filter, Report};

/// How old the statistics file may be.
const STATS_PERIOD: Duration = Duration::from_millis(100);
const EXIT_FAILURE: u8 = 1;
const EXIT_USAGE: u8 = 2;

/// Stands between two interfaces and makes bad weather on the way: frames are lost, delayed, doubled and put out of order.
///
/// What happens to the n-th frame of a direction depends on the seed, the direction and n alone.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "SIGTERM and SIGINT end it; the counters go to standard output as one line of JSON. SIGUSR1 prints \
                  them while it runs.\nExit status: 0 ended as asked; 1 an interface or file failed; 2 wrong usage."
)]
struct Arguments {
    /// One interface of this network namespace.
    #[arg(long, value_name = "INTERFACE")]
    a: String,
    /// The other one.
    #[arg(long, value_name = "INTERFACE")]
    b: String,
    /// Decides what happens to each frame.
    #[arg(long, value_name = "NUMBER")]
    seed: u64,
    /// Share of the frames that vanish, as 1%.
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    loss: Chance,
    /// Share of the frames that arrive twice.
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    duplicate: Chance,
    /// Share of the frames that are held back until later ones have overtaken them.
    #[arg(long, value_name = "PERCENT", default_value_t = Chance::NEVER)]
    reorder: Chance,
    /// So many later frames overtake a frame that is held back...
    #[arg(long, value_name = "FRAMES", default_value_t = Conditions::default().reorder_gap)]
    reorder_gap: u32,
    /// ... but it waits no longer than this.
    #[arg(long, value_name = "TIME", default_value = "10ms", value_parser = humantime::parse_duration)]
    reorder_wait: Duration,
    /// How long each frame takes, as 5ms.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    delay: Duration,
    /// How much longer at most; each frame draws its share. Frames wait for those in front of them: order is kept.
    #[arg(long, value_name = "TIME", default_value = "0ms", value_parser = humantime::parse_duration)]
    jitter: Duration,
    /// Frames that draw less jitter overtake those that drew more.
    #[arg(long)]
    jitter_reorders: bool,
    /// Which way the weather blows; frames of the other way go on at once.
    #[arg(long, value_enum, default_value_t = Way::Both)]
    direction: Way,
    /// Frames that meet the weather: all, ip, tcp, udp, tcp:PORT, udp:PORT, or several with commas between. Every other
    /// passes untouched.
    #[arg(long = "match", value_name = "KINDS", default_value_t = Filter::default())]
    filter: Filter,
    /// Frames that may wait in each direction; what comes on top is dropped.
    #[arg(long, value_name = "FRAMES", default_value_t = Bounds::default().frames_max)]
    queue: usize,
    /// End after this time.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// Keep the counters in this file, as JSON, never older than a tenth of a second, and complete at any moment.
    #[arg(long, value_name = "FILE")]
    stats: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Way {
    AToB,
    BToA,
    Both,
}

impl Arguments {
    fn climate(&self) -> Result<Climate, ConditionsError> {
        let bad = Conditions {
            loss: self.loss,
            duplicate: self.duplicate,
            reorder: self.reorder,
            reorder_gap: self.reorder_gap,
            reorder_wait: self.reorder_wait,
            corrupt: Chance::NEVER,
            delay: self.delay,
            jitter: self.jitter,
            jitter_reorders: self.jitter_reorders,
        }
        .checked()?;
        let fine = Conditions::default();
        Ok(match self.direction {
            Way::AToB => Climate { a_to_b: bad, b_to_a: fine },
            Way::BToA => Climate { a_to_b: fine, b_to_a: bad },
            Way::Both => Climate { a_to_b: bad.clone(), b_to_a: bad },
        })
    }
}

/// Signals as something that can be polled: a byte each.
struct Signals {
    end: UnixStream,
    tell: UnixStream,
}

impl Signals {
    fn watch() -> io::Result<Self> {
        let pipe = || -> io::Result<(UnixStream, UnixStream)> {
            let (read, write) = UnixStream::pair()?;
            read.set_nonblocking(true)?;
            Ok((read, write))
        };
        let ((end, end_of), (tell, tell_of)) = (pipe()?, pipe()?);
        signal_hook::low_level::pipe::register(SIGTERM, end_of.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, end_of)?;
        signal_hook::low_level::pipe::register(SIGUSR1, tell_of)?;
        Ok(Self { end, tell })
    }

    /// Whether one of them came since the last question.
    fn came(mut stream: &UnixStream) -> bool {
        matches!(stream.read(&mut [0; 64]), Ok(1..))
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("weather: {error:#}");
            ExitCode::from(if error.is::<ConditionsError>() { EXIT_USAGE } else { EXIT_FAILURE })
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let climate = arguments.climate()?;
    anyhow::ensure!(arguments.a != arguments.b, "a link has two ends: {} was given for both", arguments.a);
    let signals = Signals::watch().context("cannot watch for signals")?;
    let (a, b) = (Port::open(&arguments.a)?, Port::open(&arguments.b)?);
    let bounds = Bounds { frames_max: arguments.queue, ..Bounds::default() };
    let mut relay = Relay::new(arguments.seed, arguments.filter.clone(), climate, bounds, a, b);
    let stats = arguments.stats.as_deref();
    let uptime = carry(&mut relay, &signals, arguments.duration, stats)?;
    publish(&relay.report(uptime)?, stats, true)
}

/// Carries frames until a signal or the time ends it; returns how long that was.
fn carry(
    relay: &mut Relay,
    signals: &Signals,
    duration: Option<Duration>,
    stats: Option<&Path>,
) -> Result<Duration> {
    let begin = Instant::now();
    let mut next_stats = Duration::ZERO;
    loop {
        let now = begin.elapsed();
        if Signals::came(&signals.end) || duration.is_some_and(|duration| now >= duration) {
            return Ok(now);
        }
        let tell = Signals::came(&signals.tell);
        if tell || (stats.is_some() && now >= next_stats) {
            publish(&relay.report(now)?, stats, tell)?;
            next_stats = now + STATS_PERIOD;
        }
        if relay.turn(|| begin.elapsed())? {
            continue;
        }
        let next = [relay.next_due(), duration, stats.map(|_| next_stats)].into_iter().flatten().min();
        let timeout = next.map_or(Duration::MAX, |next| next.saturating_sub(begin.elapsed()));
        relay
            .wait([signals.end.as_fd(), signals.tell.as_fd()], timeout.min(WAIT_MAX))
            .context("cannot wait for frames")?;
    }
}

/// Longest sleep: the kernel's calls take no longer ones, and waking once an hour costs nothing.
const WAIT_MAX: Duration = Duration::from_secs(3600);

/// Replaces the statistics file in one step, and with `print` tells standard output, too.
fn publish(report: &Report, stats: Option<&Path>, print: bool) -> Result<()> {
    let text = serde_json::to_string(report)? + "\n";
    if let Some(path) = stats {
        let mut partial = path.as_os_str().to_owned();
        partial.push(".new");
        fs::write(&partial, &text)
            .and_then(|()| fs::rename(&partial, path))
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if print {
        io::stdout().write_all(text.as_bytes()).context("cannot write to standard output")?;
    }
    Ok(())
}
