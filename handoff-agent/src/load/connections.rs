//! How many connections there are at the VIPs, and how many wait to be accepted.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use handoff_proto::Vip;
use handoff_proto::control::AcceptQueue;

use crate::bpf::abi::Sockets;
use crate::bpf::{BpfError, Maps};
use crate::sys::diag::{self, State, TcpSocket};

/// A dump of sockets may take one fiftieth of a processor: with very many of them, it is made less often.
const DUMP_SHARE: u32 = 50;
/// How long at most between two dumps, where nothing else counts.
const DUMP_PAUSE_MAX: Duration = Duration::from_secs(5);
/// How often what was counted as connections opened and closed is compared with a dump. They differ where the kernel left a
/// change out: it lets no program interrupt itself.
const COMPARE_PAUSE: Duration = Duration::from_secs(60);
/// How soon it is compared again if connections opened or closed meanwhile.
const COMPARE_AGAIN: Duration = Duration::from_secs(1);

/// Lets the program that watches sockets count those of this thread's network namespace, from 0.
///
/// # Errors
/// The kernel refuses.
pub fn begin_counting(maps: &Maps) -> Result<(), BpfError> {
    let namespace = std::fs::metadata("/proc/thread-self/ns/net")
        .map_err(|error| BpfError::Io { action: "looking at this network namespace".to_owned(), error })?;
    // The kernel numbers namespaces with 32 bits.
    let namespace = u32::try_from(namespace.ino()).map_err(|_| BpfError::Form("sockets"))?;
    maps.set_sockets(&Sockets { namespace, ..Sockets::default() })
}

/// Counts the connections at the VIPs.
pub(super) struct Connections<'a> {
    maps: &'a Maps,
    vips: Vec<Vip>,
    is_watched: bool,
    /// What a dump had more than had been counted by then; without a program that counts, all of it.
    base: Option<i64>,
    dump_next: Option<Instant>,
}

impl<'a> Connections<'a> {
    pub(super) const fn new(maps: &'a Maps, vips: Vec<Vip>, is_watched: bool) -> Self {
        Self { maps, vips, is_watched, base: None, dump_next: None }
    }

    /// Returns how many there are.
    pub(super) fn established(&mut self, now: Instant) -> Option<u64> {
        if self.dump_next.is_none_or(|next| now >= next) {
            self.compare(now);
        }
        let counted = if self.is_watched { self.maps.sockets().ok()?.open } else { 0 };
        u64::try_from(self.base?.saturating_add(counted).max(0)).ok()
    }

    /// Dumps all sockets, to know what was open before the counting began.
    fn compare(&mut self, now: Instant) {
        let begun = Instant::now();
        let before = self.maps.sockets().map(|sockets| sockets.open);
        let dumped = dump(&self.vips);
        let after = self.maps.sockets().map(|sockets| sockets.open);
        let pause = begun.elapsed().saturating_mul(DUMP_SHARE);
        let (counted, pause) = match (self.is_watched, before, after) {
            (false, ..) => (0, pause.min(DUMP_PAUSE_MAX)),
            (true, Ok(before), Ok(after)) if before == after => (after, COMPARE_PAUSE),
            // Some of the dump is of before, some of after.
            (true, Ok(before), Ok(after)) => (i64::midpoint(before, after), pause.max(COMPARE_AGAIN)),
            (true, ..) => return,
        };
        self.dump_next = Some(now + pause);
        if let Some(dumped) = dumped {
            self.base = Some(dumped.saturating_sub(counted));
        }
    }
}

fn dump(vips: &[Vip]) -> Option<i64> {
    let mut ports: Vec<u16> = vips.iter().map(|vip| vip.port).collect();
    ports.sort_unstable();
    ports.dedup();
    let mut count = 0;
    for port in ports {
        let sockets = diag::tcp_sockets(State::Established, Some(port)).ok()?;
        let ours = |address: IpAddr| vips.contains(&Vip { address, port });
        count += sockets.iter().filter(|socket| ours(socket.address)).count();
    }
    i64::try_from(count).ok()
}

/// Returns the queue of the listener at one of the VIPs that is nearest to its limit; `None` without any listener.
pub(super) fn fullest_queue(listeners: &[TcpSocket], vips: &[Vip]) -> Option<AcceptQueue> {
    let queues = super::servers::at_vips(listeners, vips)
        .map(|listener| AcceptQueue { length: listener.rx_queue, limit: listener.tx_queue });
    queues.max_by_key(|queue| (queue.permille(), queue.length))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn the_fullest_queue_of_the_vips_is_told() {
        let (here, there) = (Ipv4Addr::new(10, 60, 0, 100), Ipv4Addr::new(10, 60, 0, 9));
        let vips = [80, 443].map(|port| Vip { address: here.into(), port });
        let listener = |address: Ipv4Addr, port, rx_queue, tx_queue| TcpSocket {
            address: address.into(),
            port,
            interface: 0,
            v6only: false,
            mptcp: false,
            rx_queue,
            tx_queue,
            inode: 1,
            cgroup: None,
        };
        let any = Ipv4Addr::UNSPECIFIED;
        let listeners = [
            listener(any, 80, 100, 511),
            listener(here, 443, 20, 64), // the shorter, but fuller one
            listener(there, 80, 64, 64),
            listener(any, 22, 1, 1),
        ];
        assert_eq!(fullest_queue(&listeners, &vips), Some(AcceptQueue { length: 20, limit: 64 }));
        assert_eq!(fullest_queue(&listeners[2..], &vips), None, "nobody listens at a VIP");
    }
}
