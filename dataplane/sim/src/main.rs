//! `simulate`: runs many seeds of a scenario, or of all, and says what was found.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use baton_sim::capture::SharedCapture;
use baton_sim::oracle::Finding;
use baton_sim::run::{self, Report};
use baton_sim::scenario::{self, Scenario};
use baton_sim::tally::Tally;
use clap::Parser;

/// Runs worlds around the real switch core and says what is wrong with them.
///
/// A seed and a commit reproduce a world frame by frame. Exit status: 0 nothing was found, 1 something was, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds of each scenario.
    #[arg(long, default_value_t = 1)]
    count: u64,
    /// Which scenario, or `all`; `list` tells them.
    #[arg(long, default_value = "all")]
    scenario: String,
    /// Begin no further world after so many seconds.
    #[arg(long, value_name = "S")]
    time_limit: Option<u64>,
    /// Where captures of worlds go with which something is wrong.
    #[arg(long, value_name = "DIR", default_value = "target/simulate")]
    captures: PathBuf,
    /// Worlds at a time; as many as there are processors if not given.
    #[arg(long)]
    jobs: Option<usize>,
    /// Write what was run and found as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Take it for wrong if this counter moved: to find a world that shows something, with its capture. `--verbose` tells counters.
    #[arg(long, value_name = "COUNTER")]
    forbid: Option<String>,
    /// Seconds between lines of progress on standard error; 5 on a terminal and 30 elsewhere if not given.
    #[arg(long, value_name = "S")]
    progress: Option<u64>,
    /// Say how the connections of each world ended, and what was counted.
    #[arg(long)]
    verbose: bool,
}

/// How often progress is told, on a terminal and elsewhere, in seconds.
const PROGRESS_S: (u64, u64) = (5, 30);
/// Findings that are told of a scenario; further ones are only counted.
const TOLD_MAX: usize = 10;

fn main() -> ExitCode {
    match simulate(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Says whether nothing was found.
fn simulate(arguments: &Arguments) -> Result<bool> {
    if arguments.count == 0 || arguments.jobs == Some(0) {
        bail!("--count and --jobs must be at least 1");
    }
    let scenarios: Vec<&'static Scenario> = match arguments.scenario.as_str() {
        "list" => {
            scenario::ALL.iter().for_each(|scenario| println!("{:18} {}", scenario.name, scenario.about));
            return Ok(true);
        }
        "all" => scenario::ALL.iter().collect(),
        name => vec![scenario::named(name).with_context(|| format!("no scenario {name}; --scenario list"))?],
    };
    // What a panicking world says is told as its finding, and where.
    std::panic::set_hook(Box::new(run::note_panic));
    let begin = Instant::now();
    let deadline = arguments.time_limit.map(|limit| begin + Duration::from_secs(limit));
    let mut tallies = BTreeMap::new();
    println!(
        "{:18} {:>7} {:>7} {:>11} {:>11} {:>9} {:>8}",
        "scenario", "seeds", "fired", "events", "virtual h", "seconds", "findings"
    );
    for (at, scenario) in (0..).zip(&scenarios) {
        // Each gets an equal share of what is left of the time.
        let others = u32::try_from(scenarios.len()).unwrap_or(u32::MAX) - at;
        let share = deadline.map(|deadline| {
            let now = Instant::now();
            now + deadline.saturating_duration_since(now) / others
        });
        let tally = run_all(scenario, arguments, share)?;
        tell(scenario, &tally, arguments.verbose);
        tallies.insert(scenario.name, tally);
    }
    if let Some(path) = &arguments.json {
        let file = File::create(path).with_context(|| format!("{}", path.display()))?;
        serde_json::to_writer_pretty(BufWriter::new(file), &tallies)?;
    }
    Ok(sum_up(&tallies, arguments.count, begin.elapsed()))
}

/// Prints a scenario's line, and what was found.
fn tell(scenario: &Scenario, tally: &Tally, is_verbose: bool) {
    println!(
        "{:18} {:>7} {:>7} {:>11} {:>11.2} {:>9.1} {:>8}",
        scenario.name,
        tally.seeds,
        tally.fired,
        tally.events,
        tally.virtual_s / 3600.0,
        tally.seconds,
        tally.findings.len()
    );
    if is_verbose {
        println!("    {:?}", tally.outcomes);
        println!("    {:?}", tally.evidence);
    }
    tally.findings.iter().take(TOLD_MAX).for_each(|finding| println!("    {finding}"));
    if tally.findings.len() > TOLD_MAX {
        println!("    ... and {} more", tally.findings.len() - TOLD_MAX);
    }
}

/// Prints the last lines; says whether nothing was found.
fn sum_up(tallies: &BTreeMap<&str, Tally>, count: u64, took: Duration) -> bool {
    let sum = |number: fn(&Tally) -> u64| tallies.values().map(number).sum::<u64>();
    let is_fine = tallies.values().all(|tally| tally.findings.is_empty());
    println!(
        "{} seeds, {} events, {:.1} virtual hours in {:.1} s: {}",
        sum(|tally| tally.seeds),
        sum(|tally| tally.events),
        tallies.values().map(|tally| tally.virtual_s).sum::<f64>() / 3600.0,
        took.as_secs_f64(),
        if is_fine { "nothing found" } else { "something is wrong" }
    );
    for (name, tally) in tallies.iter().filter(|(_, tally)| tally.seeds < count) {
        println!("the time limit left out {} seeds of {name}", count - tally.seeds);
    }
    is_fine
}

fn run_all(scenario: &'static Scenario, arguments: &Arguments, deadline: Option<Instant>) -> Result<Tally> {
    let begin = Instant::now();
    let next = AtomicU64::new(0);
    let jobs = arguments.jobs.or_else(|| thread::available_parallelism().ok().map(Into::into)).unwrap_or(1);
    let (sender, reports) = mpsc::channel::<(u64, Report)>();
    let mut tally = Tally::default();
    let usual = if std::io::stderr().is_terminal() { PROGRESS_S.0 } else { PROGRESS_S.1 };
    let progress = Duration::from_secs(arguments.progress.unwrap_or(usual));
    let mut last_told = Instant::now();
    thread::scope(|scope| {
        for _ in 0..jobs {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.count || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        return;
                    }
                    let seed = arguments.seed.wrapping_add(at);
                    let mut report = run::run(scenario, seed, None);
                    if let Some(name) = &arguments.forbid {
                        report.findings.extend(forbidden(&report, name));
                    }
                    if sender.send((seed, report)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(sender);
        for (seed, report) in reports {
            tally.take(scenario, seed, &report);
            if arguments.verbose {
                println!("    seed {seed}: {:?} {:?}", report.outcomes, report.counts);
            }
            if last_told.elapsed() >= progress {
                last_told = Instant::now();
                eprintln!("simulate: {} {} of {} seeds", scenario.name, tally.seeds, arguments.count);
            }
        }
    });
    tally.seconds = begin.elapsed().as_secs_f64();
    tally.judge(scenario);
    for seed in tally.failed.iter().take(TOLD_MAX) {
        let path = capture(scenario, *seed, &arguments.captures)?;
        println!("    seed {seed}: simulate --scenario {} --seed {seed}; {}", scenario.name, path.display());
    }
    Ok(tally)
}

fn forbidden(report: &Report, name: &str) -> Option<Finding> {
    let count = report.counts.get(name).copied().filter(|count| *count > 0)?;
    Some(Finding::Forbidden(format!("{name} is {count}")))
}

/// Runs the very same world once more and keeps its frames, also those in front of a panic.
fn capture(scenario: &Scenario, seed: u64, directory: &Path) -> Result<PathBuf> {
    let path = directory.join(format!("{}-{seed}.pcap", scenario.name));
    std::fs::create_dir_all(directory).with_context(|| format!("{}", directory.display()))?;
    let mut file = BufWriter::new(File::create(&path).with_context(|| format!("{}", path.display()))?);
    let frames = SharedCapture::default();
    run::run(scenario, seed, Some(SharedCapture::clone(&frames)));
    let frames = frames.lock().unwrap_or_else(PoisonError::into_inner);
    frames.write(&mut file)?;
    file.flush()?;
    if frames.left_out > 0 {
        eprintln!("simulate: {} has no room for the last {} frames", path.display(), frames.left_out);
    }
    Ok(path)
}
