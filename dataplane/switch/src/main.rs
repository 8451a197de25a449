//! `baton-switch`: reads the configuration, puts the rooms together, runs until told to stop.

use std::io::{ErrorKind, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use baton_core::wire::MacAddress;
use baton_core::{Counters, Entropy, Settings, Snapshot, Switch};
use baton_pages::{Pages, PagesFault};
use baton_switch::config::{Config, ConfigError};
use baton_switch::control::{
    AdminSocket, Control, Identity, Listeners, Live, PortReading, ReadPort, Roster, Shared, bind,
};
use baton_switch::dpdk::{Dpdk, Lcore, Port};
use baton_switch::metrics::{self, Sample, Scrape};
use baton_switch::runtime::{Clock, LcoreView, Mailbox, Observer, SwitchWorker};
use clap::{CommandFactory, Parser};
use tracing::{info, warn};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

/// The Baton switch: hands the connections of HTTP clients to backends, which answer them directly.
#[derive(Debug, Parser)]
#[command(
    name = "baton-switch",
    version,
    subcommand_negates_reqs = true,
    args_conflicts_with_subcommands = true,
    after_help = "Exit status: 0 stopped by SIGTERM or SIGINT, or --check found no fault; 1 failed while starting or \
                  running; 2 wrong usage or configuration.\n\
                  SIGHUP reads the configuration file again; a faulty one is refused, and the one before goes on.\n\
                  Environment: BATON_LOG sets what is logged, such as \"debug\" or \"warn,baton_switch::control=debug\" \
                  (info,capsule=warn)."
)]
struct Arguments {
    /// The configuration file; switch.example.toml explains its keys.
    #[arg(long, value_name = "FILE", required = true)]
    config: Option<PathBuf>,
    /// Say what is wrong with the configuration and the key file it names, and exit.
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    pages: Option<Pages>,
}

/// Capsule tells each of its steps at level info.
const LOG_DEFAULT: &str = "info,capsule=warn";
const EXIT_FAILURE: u8 = 1;
const EXIT_CONFIG: u8 = 2;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let file = match (&arguments.config, &arguments.pages) {
        (_, Some(pages)) => return make(pages),
        (Some(file), None) => file,
        (None, None) => unreachable!("clap insists on a file where there is no command"),
    };
    let config = match Config::load(file) {
        Ok(config) => config,
        Err(error) => return refuse(&error),
    };
    if arguments.check {
        for warning in &config.warnings {
            println!("warning: {}: {warning}", file.display());
        }
        println!("{}: OK", file.display());
        return ExitCode::SUCCESS;
    }
    if let Err(error) = start_log() {
        eprintln!("BATON_LOG: {error}");
        return ExitCode::from(EXIT_CONFIG);
    }
    for warning in &config.warnings {
        warn!("{}: {warning}", file.display());
    }
    match run(file, config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("baton-switch: {error:#}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn make(pages: &Pages) -> ExitCode {
    match pages.make(Arguments::command(), baton_pages::DAEMONS, std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads us has seen enough.
        Err(PagesFault::Write(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("baton-switch: {fault}");
            ExitCode::from(EXIT_FAILURE)
        }
    }
}

fn refuse(error: &ConfigError) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(EXIT_CONFIG)
}

/// Logs to standard error, what `BATON_LOG` says or else the usual.
fn start_log() -> Result<(), ParseError> {
    let filter = match std::env::var("BATON_LOG") {
        Ok(directives) => EnvFilter::try_new(directives)?,
        Err(_) => EnvFilter::new(LOG_DEFAULT),
    };
    let to_terminal = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(to_terminal)
        .init();
    Ok(())
}

fn run(file: &Path, config: Config) -> anyhow::Result<()> {
    let Config { dpdk: dpdk_settings, core, control: listen, catalog, .. } = config.clone();
    // First what fails most easily, and is undone most easily.
    let listeners = Listeners {
        agents: bind("listen", listen.listen)?,
        metrics: bind("metrics", listen.metrics)?,
        admin: AdminSocket::bind(&listen.admin_socket)?,
    };
    let device = dpdk_settings.device.clone();
    let dpdk = Dpdk::open(dpdk_settings)?;
    let clock = Clock::start()?;
    let seed = getrandom::u64().context("the operating system gives no randomness")?;

    let mac = MacAddress(dpdk.port().mac());
    let count = dpdk.lcores().len();
    let counters: Vec<Arc<Counters>> = std::iter::repeat_with(Arc::default).take(count).collect();
    let mailboxes: Arc<[Mailbox]> = std::iter::repeat_with(Mailbox::default).take(count).collect();
    let views = dpdk.lcores().iter().zip(dpdk.counters()).zip(&counters).map(|((lcore, door), core)| {
        LcoreView::new(number(*lcore), lcore.cpu, Arc::clone(core), Arc::clone(door))
    });
    let identity = Identity {
        address: core.network.address.into(),
        gateway: core.network.gateway,
        mac: mac.to_string().replace('-', ":"),
        device,
        flow_count_max: core.flow_count_max,
    };
    let observer = Observer::new(clock, views.collect());
    let snapshot = Arc::new(Roster::new(Arc::clone(&catalog)).snapshot());
    info!(
        device = identity.device,
        mac = identity.mac,
        lcores = count,
        vips = catalog.vips.len(),
        backends = catalog.backends.len(),
        "baton-switch {} starts",
        env!("CARGO_PKG_VERSION"),
    );
    let live = Live::new(file, config, clock.now());
    let read_port = port_reader(dpdk.port().clone());
    let shared = Arc::new(Shared::new(identity, live, observer, Arc::clone(&mailboxes), read_port));
    let scraped = Arc::clone(&shared);
    let scrape: Scrape = Arc::new(move || metrics::render(&Sample::take(&scraped)));
    let control = Control::start(listeners, shared, scrape).context("cannot start the control thread")?;

    let parts = Parts { core, mac, snapshot, counters, mailboxes, clock, seed };
    let outcome = dpdk.run(Arc::new(AtomicBool::new(false)), move |lcore| parts.worker(lcore));
    control.stop();
    outcome?;
    info!("stopped");
    Ok(())
}

fn port_reader(port: Port) -> ReadPort {
    Box::new(move || Ok(PortReading { stats: port.stats()?, free_frames: port.free_frames() }))
}

/// What the workers are made of.
struct Parts {
    core: Settings,
    mac: MacAddress,
    snapshot: Arc<Snapshot>,
    /// Per lcore.
    counters: Vec<Arc<Counters>>,
    mailboxes: Arc<[Mailbox]>,
    clock: Clock,
    seed: u64,
}

impl Parts {
    /// Makes the worker of one lcore. Runs there, so that its memory is near.
    fn worker(&self, lcore: Lcore) -> SwitchWorker {
        let index = number(lcore);
        let count = u8::try_from(self.mailboxes.len()).unwrap_or(u8::MAX);
        let place = baton_core::Lcore { number: index, count, mac: self.mac };
        let counters = self.counters.get(lcore.index).map(Arc::clone).unwrap_or_default();
        let entropy = Entropy::from_seed(self.seed.wrapping_add(u64::from(index)));
        let (snapshot, now) = (Arc::clone(&self.snapshot), self.clock.now());
        match Switch::new(place, self.core.clone(), snapshot, Arc::clone(&counters), entropy, now) {
            Ok(switch) => {
                let mailboxes = Arc::clone(&self.mailboxes);
                SwitchWorker::new(switch, counters, self.clock, lcore.index, mailboxes)
            }
            Err(error) => unreachable!("the configuration's check lets no such settings through: {error}"),
        }
    }
}

/// Returns an lcore's number as the core counts them.
fn number(lcore: Lcore) -> u8 {
    match u8::try_from(lcore.index) {
        Ok(number) => number,
        Err(_) => unreachable!("the DPDK settings allow fewer than 256 lcores"),
    }
}
