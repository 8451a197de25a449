//! What the backend has to do: the load part of the report. What cannot be read is absent, never 0.

mod cgroup;
mod connections;
mod pressure;
mod processors;
mod servers;
mod traffic;

use std::time::{Duration, Instant};

use handoff_proto::Vip;
use handoff_proto::control::Load;

use self::connections::Connections;
use self::processors::CpuTime;
use self::traffic::TrafficMeter;
use crate::bpf::Maps;
use crate::sys::diag::{self, State};
use crate::sys::netlink::Netlink;

pub use connections::begin_counting;
pub use servers::{Servers, Tree, Unknown};

/// How soon a report may follow another with a load of its own: over less, shares of time say nothing.
const INTERVAL_MIN: Duration = Duration::from_millis(50);

/// Reads the load again and again.
pub struct LoadMeter<'a> {
    maps: &'a Maps,
    servers: &'a Servers,
    interface: String,
    vips: Vec<Vip>,
    connections: Connections<'a>,
    traffic: TrafficMeter,
    host: Option<CpuTime>,
    /// When the servers' control group had used how much time, of how many thousandths of a processor.
    used: Option<(Instant, u64, u64)>,
    read_at: Option<Instant>,
    last: Load,
}

impl<'a> LoadMeter<'a> {
    /// Measures the load of these VIPs and this interface. Connections are counted as they open and close while `is_watched`:
    /// while the program that does so is attached.
    pub fn new(
        maps: &'a Maps,
        servers: &'a Servers,
        interface: &str,
        vips: Vec<Vip>,
        is_watched: bool,
    ) -> Self {
        Self {
            maps,
            servers,
            interface: interface.to_owned(),
            connections: Connections::new(maps, vips.clone(), is_watched),
            vips,
            traffic: TrafficMeter::default(),
            host: None,
            used: None,
            read_at: None,
            last: Load::default(),
        }
    }

    /// Returns the load now; asked again at once, that of before.
    pub fn read(&mut self) -> Load {
        let now = Instant::now();
        if self.read_at.is_none_or(|when| now.duration_since(when) >= INTERVAL_MIN) {
            self.read_at = Some(now);
            self.last = self.measure(now);
        }
        self.last
    }

    fn measure(&mut self, now: Instant) -> Load {
        let mut load = Load { established: self.connections.established(now), ..Load::default() };
        if let Ok(listeners) = diag::tcp_sockets(State::Listen, None) {
            load.accept_queue = connections::fullest_queue(&listeners, &self.vips);
        }
        if let Ok(counters) = self.maps.counters() {
            load.born = Some(counters.value("born"));
            load.refused = Some(counters.sum("refused_"));
        }
        let processors = self.host_share(&mut load);
        self.servers_share(now, processors, &mut load);
        if let Some(sum) = traffic::sum(self.maps, &self.vips) {
            let measured = self.traffic.read(now, sum);
            load.traffic = Some(measured.traffic);
            load.response = measured.response;
            load.rate = measured.rate;
        }
        if let Ok(Some(interface)) = Netlink::open().and_then(|netlink| netlink.interface(&self.interface)) {
            load.rx_bytes = Some(interface.rx_bytes);
            load.tx_bytes = Some(interface.tx_bytes);
        }
        load
    }

    /// Notes how busy the host's processors were; returns how many there are, if that can be read.
    fn host_share(&mut self, load: &mut Load) -> Option<u64> {
        let stat = self.servers.tree().text("proc/stat");
        let now = stat.as_deref().and_then(CpuTime::of_stat);
        load.cpu_busy_permille = self.host.zip(now).and_then(|(before, now)| now.busy_permille_since(before));
        self.host = now;
        now.map(|now| now.processors)
    }

    /// Notes what the servers' control group used and waited for.
    fn servers_share(&mut self, now: Instant, processors: Option<u64>, load: &mut Load) {
        let group = self.servers.cgroup();
        let used =
            group.as_ref().and_then(|group| Some((now, group.used_us()?, group.milli_cpus(processors?))));
        load.server_cpu_permille =
            self.used.zip(used).and_then(|((then, before, _), (_, after, milli_cpus))| {
                processors::used_permille(after.checked_sub(before)?, now.duration_since(then), milli_cpus)
            });
        self.used = used;
        load.memory_pressure_permille = group.and_then(|group| group.memory_pressure()).or_else(|| {
            let host = self.servers.tree().text("proc/pressure/memory")?;
            pressure::some_avg10_permille(&host)
        });
    }
}
