//! Starting and ending capsule's runtime with our loops on it.

use super::counters::LcoreCounters;
use super::device::Device;
use super::error::DpdkError;
use super::lcore::{AbortOnPanic, Lcore, LcoreLoop, Shared, Worker};
use super::machine;
use super::port::{self, Pool, Port};
use super::settings::DpdkSettings;
use super::tx::Tx;
use capsule::{Runtime, UnixSignal};
use std::fmt;
use std::mem::ManuallyDrop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// The application's name to the EAL and in thread names.
pub(super) const APP_NAME: &str = "baton";
/// The name capsule calls the port by.
pub(super) const PORT_NAME: &str = "data";

/// How often the main lcore looks whether all loops have ended.
const STOP_CHECK: Duration = Duration::from_millis(20);

/// DPDK, started, with its port ready but not yet receiving. There can be one per process.
pub struct Dpdk {
    /// Never dropped: dropping it would unmap the pool under frames that other threads may still hold. What
    /// matters of it, ending the lcores and closing the port, [`Dpdk::run`] does.
    runtime: ManuallyDrop<Runtime>,
    settings: DpdkSettings,
    lcores: Vec<Lcore>,
    counters: Vec<Arc<LcoreCounters>>,
    port: Port,
    port_number: u16,
    pool: Pool,
}

impl fmt::Debug for Dpdk {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Dpdk").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl Dpdk {
    /// Starts the EAL, makes the mempool and the lcores' threads, and sets up the port.
    ///
    /// The calling thread becomes the main lcore: it is pinned to that CPU, and so are the threads it starts
    /// from now on. Call it on the main thread, once.
    ///
    /// # Errors
    ///
    /// [`DpdkError`] with the setting to change.
    pub fn open(settings: DpdkSettings) -> Result<Self, DpdkError> {
        let config = settings.capsule_config()?;
        let device: Device = settings.device.parse()?;
        machine::check(&settings, &device)?;
        let run_error = |reason: String| DpdkError::Run { device: settings.device.clone(), reason };
        let config = serde_json::from_value(config).map_err(|error| run_error(error.to_string()))?;
        let runtime = Runtime::build(config).map_err(|error| {
            let (device, reason) = (settings.device.clone(), format!("{error:#}"));
            if port::any_exists() {
                DpdkError::SetUp { device, reason }
            } else {
                DpdkError::Start { device, reason }
            }
        })?;
        let runtime = ManuallyDrop::new(runtime);

        let lcores = number_lcores(&settings.lcores);
        let first_cpu = lcores.first().map_or(0, |lcore| lcore.cpu);
        // SAFETY: the runtime made the port, and as it is never dropped its pools are never freed.
        let found = unsafe { Port::find(device.name(), first_cpu) };
        let (port, port_number, pool) = found.map_err(run_error)?;
        port.set_mtu(settings.mtu)?;
        let counters = lcores.iter().map(|_| Arc::default()).collect();
        Ok(Self { runtime, settings, lcores, counters, port, port_number, pool })
    }

    /// The port, for control code.
    pub fn port(&self) -> &Port {
        &self.port
    }

    /// The lcores, in the order of their indices.
    pub fn lcores(&self) -> &[Lcore] {
        &self.lcores
    }

    /// The counters of each lcore, in the order of their indices.
    pub fn counters(&self) -> &[Arc<LcoreCounters>] {
        &self.counters
    }

    /// Starts the port, runs a worker on each lcore and returns when all have ended: after SIGTERM, SIGINT or
    /// when `stop` is set, which the signals do too. SIGHUP is left to others.
    ///
    /// `build` is called on each lcore, so that what it allocates is near. Workers are dropped there.
    ///
    /// # Errors
    ///
    /// [`DpdkError::Run`] when the port does not start.
    pub fn run<W, F>(mut self, stop: Arc<AtomicBool>, build: F) -> Result<(), DpdkError>
    where
        W: Worker + 'static,
        F: Fn(Lcore) -> W + Send + Sync + 'static,
    {
        let running = Arc::new(AtomicUsize::new(self.lcores.len()));
        let shared = Shared { stop, running };
        let run_error = |error: anyhow::Error| DpdkError::Run {
            device: self.settings.device.clone(),
            reason: format!("{error:#}"),
        };
        let build = Arc::new(build);
        for (lcore, counters) in self.lcores.iter().zip(&self.counters) {
            let (lcore, counters, build) = (*lcore, counters.clone(), build.clone());
            let (port, pool, idle, shared) =
                (self.port_number, self.pool, self.settings.idle, shared.clone());
            let install = move |_queues| {
                let _abort = AbortOnPanic;
                let queue = lcore.index as u16;
                let worker = build(lcore);
                // SAFETY: capsule runs this once the port is started. It has a queue for each lcore, numbered in
                // the order of CPUs as our indices are; only this lcore is given this one. The pool is the port's.
                let tx = unsafe { Tx::new(port, queue, pool, counters.clone()) };
                // SAFETY: as above.
                unsafe { LcoreLoop::new(worker, tx, (port, queue), idle, shared, counters) }
            };
            self.runtime.add_pipeline_to_core(lcore.cpu, install).map_err(run_error)?;
        }
        end_when_stopped(&mut self.runtime, self.settings.main_lcore, &shared).map_err(run_error)?;
        let executed = self.runtime.execute();
        let has_ended = shared.running.load(Ordering::Acquire) == 0;
        if executed.is_ok() && has_ended {
            // SAFETY: `execute` has stopped the port, and every loop has ended.
            unsafe { self.port.close() };
        }
        executed.map_err(run_error)
    }
}

/// Numbers the CPUs as capsule numbers their queues: in ascending order.
fn number_lcores(cpus: &[usize]) -> Vec<Lcore> {
    let mut cpus = cpus.to_vec();
    cpus.sort_unstable();
    cpus.into_iter().enumerate().map(|(index, cpu)| Lcore { index, cpu }).collect()
}

/// Makes `Runtime::execute` return once every loop has ended.
///
/// Capsule ends on a signal only. So the first signal asks the loops to end; the main lcore sees them gone
/// and raises the signal that capsule is to act on.
fn end_when_stopped(runtime: &mut Runtime, main_lcore: usize, shared: &Shared) -> anyhow::Result<()> {
    let (stop, running) = (shared.stop.clone(), shared.running.clone());
    runtime.set_on_signal(move |signal| match signal {
        UnixSignal::SIGHUP => false,
        UnixSignal::SIGINT | UnixSignal::SIGTERM => {
            stop.store(true, Ordering::Relaxed);
            running.load(Ordering::Acquire) == 0
        }
    });
    let running = shared.running.clone();
    let raise_when_all_ended = move || {
        if running.load(Ordering::Acquire) == 0 {
            // SAFETY: `execute` has installed its handler before it runs this.
            let raised = unsafe { libc::raise(libc::SIGTERM) };
            debug_assert_eq!(raised, 0, "SIGTERM is a valid signal");
        }
    };
    runtime.add_periodic_task_to_core(main_lcore, raise_when_all_ended, STOP_CHECK)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lcores_are_numbered_in_the_order_of_their_cpus() {
        let expected = [Lcore { index: 0, cpu: 1 }, Lcore { index: 1, cpu: 4 }, Lcore { index: 2, cpu: 7 }];
        assert_eq!(number_lcores(&[4, 7, 1]), expected);
    }
}
