//! What the backend has to do: the load part of the report.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use handoff_proto::Vip;
use handoff_proto::control::Load;

use crate::bpf::Maps;
use crate::sys::diag::{self, State};
use crate::sys::netlink::Netlink;

/// Counting sockets may take one fiftieth of a processor: with very many of them, it is done less often.
const COUNTING_SHARE: u32 = 50;

/// Busy and total time of the processors, in ticks since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct CpuTime {
    busy: u64,
    total: u64,
}

/// Reads the load again and again.
pub struct LoadMeter<'a> {
    maps: &'a Maps,
    interface: String,
    vips: Vec<Vip>,
    cpu: CpuTime,
    last: Load,
    count_next: Instant,
}

impl<'a> LoadMeter<'a> {
    /// Measures the load of these VIPs and this interface.
    pub fn new(maps: &'a Maps, interface: &str, vips: Vec<Vip>) -> Self {
        Self {
            maps,
            interface: interface.to_owned(),
            vips,
            cpu: CpuTime::default(),
            last: Load::default(),
            count_next: Instant::now(),
        }
    }

    /// Returns the load now. What cannot be read stays as it was.
    pub fn read(&mut self) -> Load {
        let begun = Instant::now();
        if begun >= self.count_next {
            if let Some(established) = self.established() {
                self.last.established = established;
            }
            self.count_next =
                begun + begun.elapsed().saturating_mul(COUNTING_SHARE).min(Duration::from_secs(5));
        }
        if let Ok(counters) = self.maps.counters() {
            self.last.born = counters.value("born");
            self.last.refused = counters.sum("refused_");
        }
        if let Some(now) = fs::read_to_string("/proc/stat").ok().as_deref().and_then(cpu_time) {
            self.last.cpu_busy_permille = busy_permille(self.cpu, now);
            self.cpu = now;
        }
        if let Ok(Some(interface)) = Netlink::open().and_then(|netlink| netlink.interface(&self.interface)) {
            self.last.rx_bytes = interface.rx_bytes;
            self.last.tx_bytes = interface.tx_bytes;
        }
        self.last
    }

    fn established(&self) -> Option<u64> {
        let mut ports: Vec<u16> = self.vips.iter().map(|vip| vip.port).collect();
        ports.sort_unstable();
        ports.dedup();
        let mut count = 0;
        for port in ports {
            let sockets = diag::tcp_sockets(State::Established, Some(port)).ok()?;
            let ours = |address: IpAddr| self.vips.contains(&Vip { address, port });
            count += sockets.iter().filter(|socket| ours(socket.address)).count();
        }
        u64::try_from(count).ok()
    }
}

/// Reads the first line of `/proc/stat`: user nice system idle iowait irq softirq steal.
fn cpu_time(stat: &str) -> Option<CpuTime> {
    let fields = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = fields.split_whitespace().take(8).map_while(|field| field.parse().ok()).collect();
    let total: u64 = ticks.iter().sum();
    let idle = ticks.get(3)? + ticks.get(4)?;
    Some(CpuTime { busy: total.saturating_sub(idle), total })
}

/// Returns the share of the time between two readings that was busy.
fn busy_permille(before: CpuTime, now: CpuTime) -> u16 {
    let total = now.total.saturating_sub(before.total).max(1);
    let busy = now.busy.saturating_sub(before.busy).min(total);
    u16::try_from(busy * 1_000 / total).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_iowait_are_not_busy() {
        let before = cpu_time("cpu  10 0 10 60 20 0 0 0 5 0\ncpu0 1 2 3\n").expect("a stat");
        assert_eq!(before, CpuTime { busy: 20, total: 100 });
        let now = cpu_time("cpu  30 0 30 100 20 5 5 10 5 0\n").expect("a stat");
        assert_eq!(busy_permille(before, now), 600);
        assert_eq!(busy_permille(now, now), 0);
        assert_eq!(busy_permille(now, before), 0, "a counter that ran backwards");
    }

    #[test]
    fn other_texts_are_no_stat() {
        assert_eq!(cpu_time(""), None);
        assert_eq!(cpu_time("cpu 1 2 3"), None);
        assert_eq!(cpu_time("intr 1 2 3 4 5 6 7 8"), None);
    }
}
