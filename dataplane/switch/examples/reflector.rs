//! The smallest program behind the DPDK door: swaps the MAC addresses of every frame and sends it back.
//!
//! Shows the path a frame takes and measures what the door costs:
//!
//! ```text
//! reflector DEVICE [--lcores 1,2] [--main 0] [--hugepages] [--memory MB] [--spin] [--seconds N] [--copy]
//! ```
//!
//! `--copy` sends each frame as a fresh copy. Ends after `--seconds`, or on SIGINT or SIGTERM, and prints the
//! counters.

use anyhow::{Context, bail};
use baton_switch::dpdk::{Burst, Dpdk, DpdkSettings, Idle, Lcore, Tx, Worker};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Length of a MAC address.
const MAC_BYTES: usize = 6;

struct Reflector {
    copy: bool,
}

impl Worker for Reflector {
    fn turn(&mut self, received: &mut Burst, tx: &mut Tx) {
        for mut frame in received {
            let (buffer, start, len) = frame.buffer_mut();
            if len < 2 * MAC_BYTES {
                continue;
            }
            let (destination, source) = buffer[start..start + 2 * MAC_BYTES].split_at_mut(MAC_BYTES);
            destination.swap_with_slice(source);
            if self.copy {
                // A failure is counted, and shown at the end.
                let _counted = tx.send_copy(frame.data());
            } else {
                tx.send(frame);
            }
        }
    }
}

struct Options {
    settings: DpdkSettings,
    seconds: Option<u64>,
    copy: bool,
}

fn options() -> anyhow::Result<Options> {
    let mut arguments = std::env::args().skip(1);
    let mut options = Options {
        settings: DpdkSettings {
            device: arguments.next().context("name a device, as in net_af_packet0,iface=data0")?,
            main_lcore: 0,
            lcores: vec![1],
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            hugepages: false,
            memory_mb: 64,
            mtu: 1500,
            idle: Idle::Nap,
        },
        seconds: None,
        copy: false,
    };
    let settings = &mut options.settings;
    while let Some(option) = arguments.next() {
        let mut value = || arguments.next().with_context(|| format!("{option} needs a value"));
        match option.as_str() {
            "--lcores" => {
                settings.lcores = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--main" => settings.main_lcore = value()?.parse()?,
            "--memory" => settings.memory_mb = value()?.parse()?,
            "--mtu" => settings.mtu = value()?.parse()?,
            "--seconds" => options.seconds = Some(value()?.parse()?),
            "--hugepages" => settings.hugepages = true,
            "--spin" => settings.idle = Idle::Spin,
            "--copy" => options.copy = true,
            _ => bail!("unknown option {option}"),
        }
    }
    Ok(options)
}

fn main() -> anyhow::Result<()> {
    let Options { settings, seconds, copy } = options()?;
    let dpdk = Dpdk::open(settings)?;
    let (port, counters, lcores) = (dpdk.port().clone(), dpdk.counters().to_vec(), dpdk.lcores().to_vec());
    let mac: Vec<String> = port.mac().iter().map(|byte| format!("{byte:02x}")).collect();
    println!("ready: {}, {} free buffers", mac.join(":"), port.free_frames());

    let stop = Arc::new(AtomicBool::new(false));
    if let Some(seconds) = seconds {
        let (stop, port) = (stop.clone(), port.clone());
        thread::spawn(move || {
            thread::sleep(Duration::from_secs(seconds));
            println!("port: {:?}", port.stats());
            println!("extended: {:?}", port.extended_stats());
            stop.store(true, Ordering::Relaxed);
        });
    }
    let started = Instant::now();
    dpdk.run(stop, move |_lcore: Lcore| Reflector { copy })?;
    let elapsed = started.elapsed().as_secs_f64();
    for (lcore, counters) in lcores.iter().zip(&counters) {
        let snapshot = counters.snapshot();
        println!("lcore {} (CPU {}): {:.2} Mpps sent", lcore.index, lcore.cpu, {
            snapshot.tx_frames as f64 / elapsed / 1e6
        });
        for (name, _, value) in snapshot.entries().filter(|(_, _, value)| *value > 0) {
            println!("  {name} {value}");
        }
    }
    println!(
        "after: {} free buffers, {:?}",
        port.free_frames(),
        port.stats().map_err(|error| error.to_string())
    );
    Ok(())
}
