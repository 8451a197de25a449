//! The port and its mempool as DPDK knows them: address, statistics, MTU, end.

use super::error::DpdkError;
use super::frame::Frame;
use capsule_ffi as ffi;
use parking_lot::Mutex;
use std::ffi::{CStr, CString, c_char};
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// DPDK's description of an error number; DPDK returns them negated.
fn reason(result: i32) -> String {
    // SAFETY: takes any number and returns a string that stays until this thread's next call.
    let text = unsafe { ffi::rte_strerror(result.wrapping_abs()) };
    // SAFETY: NUL-terminated, and copied before anyone can call again on this thread.
    let text = unsafe { CStr::from_ptr(text) };
    text.to_string_lossy().into_owned()
}

/// Whether any port came up: tells a device that did not start from one that would not be configured.
pub(super) fn any_exists() -> bool {
    // SAFETY: walks a static table of DPDK's; allowed at any time.
    unsafe { ffi::rte_eth_dev_count_avail() > 0 }
}

/// The mempool of the port. It is never freed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pool(NonNull<ffi::rte_mempool>);

// SAFETY: the pool is never freed, and made for several producers and consumers: any thread may use it.
unsafe impl Send for Pool {}
// SAFETY: as above.
unsafe impl Sync for Pool {}

impl Pool {
    /// Finds the pool that capsule made for memory node `node`, or `None`.
    ///
    /// # Safety
    ///
    /// The EAL must be initialised, and capsule's pools never be freed.
    unsafe fn find(node: i32) -> Option<Self> {
        // Capsule numbers its pools, one for each memory node its cores are on.
        for number in 0..=super::settings::LCORES_MAX {
            let name = CString::new(format!("mempool{number}")).ok()?;
            // SAFETY: the EAL is initialised, the name NUL-terminated.
            let pool = NonNull::new(unsafe { ffi::rte_mempool_lookup(name.as_ptr()) })?;
            // SAFETY: found in DPDK's list, and never freed; the field does not change.
            if unsafe { pool.as_ref() }.socket_id == node {
                return Some(Self(pool));
            }
        }
        None
    }

    /// Takes a buffer from the pool: an empty frame behind the usual headroom. `None` when there is none.
    pub(super) fn allocate(&self) -> Option<Frame> {
        // SAFETY: a valid pool that is never freed.
        let mbuf = NonNull::new(unsafe { ffi::_rte_pktmbuf_alloc(self.0.as_ptr()) })?;
        // SAFETY: fresh from the pool: valid, direct, and known to nobody else.
        unsafe { Frame::from_raw(mbuf) }
    }

    fn free_frames(&self) -> usize {
        // SAFETY: a valid pool that is never freed.
        let count = unsafe { ffi::rte_mempool_avail_count(self.0.as_ptr()) };
        count as usize
    }
}

/// The driver's own counters of a port, since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortStats {
    /// Frames received.
    pub rx_frames: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames the device dropped because the receive ring was full.
    pub rx_missed: u64,
    /// Frames received in error.
    pub rx_errors: u64,
    /// Frames dropped because the pool had no free buffer.
    pub rx_no_buffer: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames that failed to be sent.
    pub tx_errors: u64,
}

/// A handle to the port for control code: cheap to clone, usable on any thread.
#[derive(Clone, Debug)]
pub struct Port {
    mac: [u8; 6],
    pool: Pool,
    /// The number while the port is open. The lock guards its being open: who reads statistics holds it, and so does who closes.
    number: Arc<Mutex<Option<u16>>>,
}

impl Port {
    /// Finds the port named `name` and the pool it receives into; `first_lcore` is the least of its CPUs.
    ///
    /// # Safety
    ///
    /// Capsule's runtime must have made the port, and its pools must never be freed.
    pub(super) unsafe fn find(name: &str, first_lcore: usize) -> Result<(Self, u16, Pool), String> {
        let c_name = CString::new(name).map_err(|error| error.to_string())?;
        let mut number = 0;
        // SAFETY: the name is NUL-terminated, `number` may be written.
        let found = unsafe { ffi::rte_eth_dev_get_port_by_name(c_name.as_ptr(), &raw mut number) };
        if found != 0 {
            return Err(reason(found));
        }
        let mut address = ffi::rte_ether_addr::default();
        // SAFETY: the port exists, `address` may be written.
        let read = unsafe { ffi::rte_eth_macaddr_get(number, &raw mut address) };
        if read != 0 {
            return Err(reason(read));
        }
        // SAFETY: the caller vouches for the runtime.
        let node = unsafe { memory_node(number, first_lcore) };
        // SAFETY: the caller vouches for the runtime and its pools.
        let pool = unsafe { Pool::find(node) }.ok_or_else(|| format!("no mempool on memory node {node}"))?;
        let number_while_open = Arc::new(Mutex::new(Some(number)));
        let port = Self { mac: address.addr_bytes, pool, number: number_while_open };
        Ok((port, number, pool))
    }

    /// The port's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// How many of the pool's buffers are free.
    pub fn free_frames(&self) -> usize {
        self.pool.free_frames()
    }

    /// Reads the driver's counters.
    ///
    /// # Errors
    ///
    /// [`DpdkError::PortClosed`] after [`Dpdk::run`](super::Dpdk::run) has returned, [`DpdkError::Stats`]
    /// when the driver has none.
    pub fn stats(&self) -> Result<PortStats, DpdkError> {
        let number = self.number.lock();
        let number = number.ok_or(DpdkError::PortClosed)?;
        let mut stats = ffi::rte_eth_stats::default();
        // SAFETY: the port is open while we hold the lock, `stats` may be written.
        let read = unsafe { ffi::rte_eth_stats_get(number, &raw mut stats) };
        if read != 0 {
            return Err(DpdkError::Stats { reason: reason(read) });
        }
        Ok(PortStats {
            rx_frames: stats.ipackets,
            rx_bytes: stats.ibytes,
            rx_missed: stats.imissed,
            rx_errors: stats.ierrors,
            rx_no_buffer: stats.rx_nombuf,
            tx_frames: stats.opackets,
            tx_bytes: stats.obytes,
            tx_errors: stats.oerrors,
        })
    }

    /// Reads all the driver's named counters; which there are depends on the driver.
    ///
    /// # Errors
    ///
    /// As [`Port::stats`].
    pub fn extended_stats(&self) -> Result<Vec<(String, u64)>, DpdkError> {
        let guard = self.number.lock();
        let number = guard.ok_or(DpdkError::PortClosed)?;
        // SAFETY: the port is open while we hold the lock; without an array this returns how many there are.
        let count = unsafe { ffi::rte_eth_xstats_get_names(number, ptr::null_mut(), 0) };
        let size = u32::try_from(count).map_err(|_| DpdkError::Stats { reason: reason(count) })?;
        let mut names = vec![ffi::rte_eth_xstat_name { name: [0; 64] }; size as usize];
        let mut values = vec![ffi::rte_eth_xstat::default(); size as usize];
        // SAFETY: the port is open while we hold the lock, `names` has `size` elements.
        let named = unsafe { ffi::rte_eth_xstats_get_names(number, names.as_mut_ptr(), size) };
        // SAFETY: the port is open while we hold the lock, `values` has `size` elements.
        let valued = unsafe { ffi::rte_eth_xstats_get(number, values.as_mut_ptr(), size) };
        for result in [named, valued] {
            if result < 0 {
                return Err(DpdkError::Stats { reason: reason(result) });
            }
        }
        Ok(names.iter().zip(&values).map(|(name, value)| (text(&name.name), value.value)).collect())
    }

    /// Sets the MTU, in bytes.
    pub(super) fn set_mtu(&self, mtu: u16) -> Result<(), DpdkError> {
        let guard = self.number.lock();
        let number = guard.ok_or(DpdkError::PortClosed)?;
        let mut present = 0;
        // SAFETY: the port is open while we hold the lock, `present` may be written.
        let read = unsafe { ffi::rte_eth_dev_get_mtu(number, &raw mut present) };
        // SAFETY: the port is open while we hold the lock.
        let set = unsafe { ffi::rte_eth_dev_set_mtu(number, mtu) };
        // Some drivers cannot set any; then the present one must do.
        if set == 0 || (read == 0 && present == mtu) {
            Ok(())
        } else {
            Err(DpdkError::Mtu { mtu, reason: reason(set) })
        }
    }

    /// Closes the port: its driver gives back the device and the frames in its rings.
    ///
    /// # Safety
    ///
    /// The port must be stopped and no lcore use its queues any more.
    pub(super) unsafe fn close(&self) {
        if let Some(number) = self.number.lock().take() {
            // SAFETY: the caller vouches for stopped lcores; the lock keeps readers of statistics out.
            let closed = unsafe { ffi::rte_eth_dev_close(number) };
            if closed != 0 {
                tracing::warn!(reason = reason(closed), "port did not close cleanly");
            }
        }
    }
}

/// The memory node whose pool capsule gives to a port: the device's own, else that of its first lcore.
///
/// # Safety
///
/// The EAL must be initialised.
unsafe fn memory_node(port: u16, first_lcore: usize) -> i32 {
    // SAFETY: the EAL is initialised; any port number is allowed.
    let device_node = unsafe { ffi::rte_eth_dev_socket_id(port) };
    // SAFETY: the EAL is initialised.
    let nodes = unsafe { ffi::rte_socket_count() };
    let is_known = (0..nodes).any(|index| {
        // SAFETY: the EAL is initialised and `index` is below the count.
        unsafe { ffi::rte_socket_id_by_idx(index) == device_node }
    });
    if is_known {
        return device_node;
    }
    let cpu = i32::try_from(first_lcore).unwrap_or(-1);
    // SAFETY: any number is allowed; for unknown CPUs the answer is -1.
    unsafe { ffi::numa_node_of_cpu(cpu) }
}

/// A NUL-terminated array as text.
fn text(characters: &[c_char]) -> String {
    let bytes: Vec<u8> =
        characters.iter().map(|&character| character as u8).take_while(|&byte| byte != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}
