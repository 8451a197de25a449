//! The `[dpdk]` settings in checked form, and what they become for capsule and the EAL.

use super::device::Device;
use super::error::SettingsError;
use serde_json::json;
use std::ops::RangeInclusive;

/// Most lcores a switch may use.
pub(super) const LCORES_MAX: usize = 64;
/// Allowed lengths of a descriptor ring.
pub(super) const DESCRIPTORS: RangeInclusive<usize> = 128..=16_384;
/// Allowed MTUs in bytes. The largest fits one mbuf and one af_packet or af_xdp frame on every driver tried.
pub const MTU: RangeInclusive<u16> = 576..=1850;
/// Most memory that may be asked for, in MiB.
pub(super) const MEMORY_MB_MAX: usize = 1 << 20;

/// Mbufs each lcore keeps in its mempool cache.
const POOL_CACHE_FRAMES: usize = 256;
/// Frames each lcore may hold beyond its rings: queued to another lcore, or copies not yet sent.
const HELD_FRAMES: usize = 1024;
/// Bytes one mbuf takes in a pool of hugepages: header, metadata, headroom, data room, padding and its ring slot.
const FRAME_FOOTPRINT_BYTES: usize = 2500;
/// The same in ordinary memory: DPDK puts no mbuf across two pages, so that each takes one.
const FRAME_FOOTPRINT_BYTES_ORDINARY: usize = 4096;
/// What the EAL itself takes of its memory, in MiB.
const EAL_OVERHEAD_MB: usize = 8;

/// What an lcore does when no frame has arrived for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Polls on: least latency, a whole CPU.
    Spin,
    /// Sleeps 100 us at a time after 16 empty polls: for labs and shared machines.
    Nap,
}

/// The `[dpdk]` section. [`DpdkSettings::faults`] tells what cannot work.
#[derive(Clone, Debug)]
pub struct DpdkSettings {
    /// PCI address or virtual device, with driver arguments: see [`Device`].
    pub device: String,
    /// CPU of the main thread and of the threads started by it.
    pub main_lcore: usize,
    /// CPUs that move frames, one queue each. May include `main_lcore` where CPUs are few.
    pub lcores: Vec<usize>,
    /// Length of each receive ring, in frames.
    pub rx_descriptors: usize,
    /// Length of each transmit ring, in frames.
    pub tx_descriptors: usize,
    /// Whether memory comes from hugepages; real devices need them.
    pub hugepages: bool,
    /// Memory for frames and the EAL, in MiB, taken at start.
    pub memory_mb: usize,
    /// Largest IP packet, in bytes, set on the device.
    pub mtu: u16,
    /// What to do when nothing arrives.
    pub idle: Idle,
}

impl DpdkSettings {
    /// Finds everything that is wrong and can be known without touching the machine.
    pub fn faults(&self) -> Vec<SettingsError> {
        let mut faults = Vec::new();
        let mut lcores = self.lcores.clone();
        lcores.sort_unstable();
        lcores.dedup();
        if lcores.len() != self.lcores.len() || lcores.is_empty() || lcores.len() > LCORES_MAX {
            faults.push(SettingsError::Lcores { found: self.lcores.clone() });
        }
        for (key, found) in [("rx_descriptors", self.rx_descriptors), ("tx_descriptors", self.tx_descriptors)]
        {
            if !DESCRIPTORS.contains(&found) {
                faults.push(SettingsError::Descriptors { key, found });
            }
        }
        if !MTU.contains(&self.mtu) {
            faults.push(SettingsError::Mtu { found: self.mtu });
        }
        // What is needed follows from values that must be right for that.
        let needed_mb = if faults.is_empty() { self.memory_needed_mb() } else { 1 };
        if !(needed_mb..=MEMORY_MB_MAX).contains(&self.memory_mb) {
            faults.push(SettingsError::Memory { found: self.memory_mb, needed_mb });
        }
        let device = self.device.parse::<Device>();
        faults.extend(
            device.and_then(|device| device.driver_arguments(self.lcores.len(), self.rx_descriptors)).err(),
        );
        faults
    }

    /// Says whether the device is a card on the PCI bus.
    pub fn is_pci(&self) -> bool {
        self.device.parse::<Device>().is_ok_and(|device| device.is_pci())
    }

    /// Mbufs in the pool: enough that full rings, full caches and full transmit arrays on every lcore
    /// leave [`HELD_FRAMES`] over. One less than a power of two suits DPDK's ring best.
    fn pool_frames(&self) -> usize {
        let transmit_and_receive_arrays = 2 * super::BURST;
        // A cache is flushed when it holds half as much again as its size.
        let cache = POOL_CACHE_FRAMES * 3 / 2;
        let per_lcore =
            self.rx_descriptors + self.tx_descriptors + transmit_and_receive_arrays + cache + HELD_FRAMES;
        (self.lcores.len() * per_lcore).next_power_of_two() - 1
    }

    fn memory_needed_mb(&self) -> usize {
        let frame_bytes = if self.hugepages { FRAME_FOOTPRINT_BYTES } else { FRAME_FOOTPRINT_BYTES_ORDINARY };
        EAL_OVERHEAD_MB + (self.pool_frames() * frame_bytes).div_ceil(1 << 20)
    }

    /// The settings in the form capsule reads. Its core ids can only be made by deserialising.
    ///
    /// # Errors
    ///
    /// The first of [`DpdkSettings::faults`].
    pub(super) fn capsule_config(&self) -> Result<serde_json::Value, SettingsError> {
        self.faults().into_iter().next().map_or(Ok(()), Err)?;
        let device: Device = self.device.parse()?;
        let driver_arguments = device.driver_arguments(self.lcores.len(), self.rx_descriptors)?;
        let mut eal_arguments = self.eal_arguments(&device);
        let mut args = None;
        match driver_arguments {
            // Capsule drops the arguments of a PCI device: the EAL hears of them directly.
            Some(arguments) if device.is_pci() => {
                eal_arguments.push_str(&format!(" -a {},{arguments}", device.name()));
            }
            arguments => args = arguments,
        }
        Ok(json!({
            "app_name": super::runtime::APP_NAME,
            "master_core": self.main_lcore,
            "mempool": { "capacity": self.pool_frames(), "cache_size": POOL_CACHE_FRAMES },
            "ports": [{
                "name": super::runtime::PORT_NAME,
                "device": device.name(),
                "args": args,
                "cores": self.lcores,
                "rxd": self.rx_descriptors,
                "txd": self.tx_descriptors,
            }],
            "dpdk_args": eal_arguments,
        }))
    }

    /// The EAL arguments that capsule does not make itself.
    fn eal_arguments(&self, device: &Device) -> String {
        // No files and no sockets: no second process can attach, and a crash leaves nothing behind. The EAL
        // does not take --in-memory together with --no-huge, which without shared files comes to the same.
        let memory_kind: &[&str] =
            if self.hugepages { &["--in-memory"] } else { &["--no-huge", "--no-shconf"] };
        let mut arguments = vec!["--no-telemetry", "--log-level=lib.eal:warning"];
        arguments.extend(memory_kind);
        if !device.is_pci() {
            arguments.push("--no-pci");
        }
        let memory = self.memory_mb.to_string();
        arguments.extend(["-m", memory.as_str()]);
        arguments.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lab() -> DpdkSettings {
        DpdkSettings {
            device: "net_af_packet0,iface=data0".to_owned(),
            main_lcore: 0,
            lcores: vec![1],
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            hugepages: false,
            memory_mb: 64,
            mtu: 1500,
            idle: Idle::Nap,
        }
    }

    #[test]
    fn lab_settings_are_good() {
        assert_eq!(lab().faults(), []);
    }

    #[test]
    fn each_wrong_value_is_named() {
        let cases = [
            (DpdkSettings { device: "eth0".to_owned(), ..lab() }, "device = \"eth0\""),
            (DpdkSettings { lcores: vec![], ..lab() }, "lcores = []"),
            (DpdkSettings { lcores: vec![1, 1], ..lab() }, "lcores = [1, 1]"),
            (DpdkSettings { rx_descriptors: 64, ..lab() }, "rx_descriptors = 64"),
            (DpdkSettings { tx_descriptors: 100_000, ..lab() }, "tx_descriptors = 100000"),
            (DpdkSettings { mtu: 9000, ..lab() }, "mtu = 9000"),
            (DpdkSettings { memory_mb: 16, ..lab() }, "memory_mb = 16"),
        ];
        for (settings, expected) in cases {
            let [fault] = &settings.faults()[..] else { panic!("one fault: {settings:?}") };
            assert!(fault.to_string().starts_with(&format!("dpdk.{expected}: ")), "{fault}");
        }
        let all = DpdkSettings { lcores: vec![], mtu: 9000, memory_mb: 0, device: "x".to_owned(), ..lab() };
        assert_eq!(all.faults().len(), 4, "all at once");
    }

    #[test]
    fn pool_outlasts_full_rings() {
        let two = DpdkSettings { lcores: vec![0, 1], ..lab() };
        assert_eq!(lab().pool_frames(), 4095);
        assert_eq!(two.pool_frames(), 8191);
        assert!(two.pool_frames() > 2 * (1024 + 1024 + 2 * 32 + 384 + 1000));
    }

    #[test]
    fn a_frame_in_ordinary_memory_takes_a_page() {
        // Measured: 16,383 frames fit 72 MiB and not 64.
        let long = DpdkSettings { lcores: vec![0, 1], rx_descriptors: 4096, memory_mb: 71, ..lab() };
        assert_eq!(long.pool_frames(), 16383);
        assert_eq!(long.faults(), [SettingsError::Memory { found: 71, needed_mb: 72 }]);
        assert_eq!(DpdkSettings { memory_mb: 72, ..long.clone() }.faults(), []);
        assert_eq!(DpdkSettings { hugepages: true, ..long }.faults(), []);
    }

    #[test]
    fn capsule_reads_its_configuration() {
        let value = lab().capsule_config().expect("good settings");
        let config: capsule::config::RuntimeConfig =
            serde_json::from_value(value).expect("capsule knows every key");
        assert_eq!(config.ports[0].device, "net_af_packet0");
        assert_eq!(config.ports[0].args.as_deref(), Some("iface=data0,qpairs=1,framecnt=1024"));
        assert_eq!(config.mempool.capacity, 4095);
        let arguments = config.dpdk_args.expect("arguments of ours");
        assert!(arguments.contains("--no-huge") && arguments.ends_with("-m 64"), "{arguments}");
    }

    #[test]
    fn pci_driver_arguments_reach_the_eal() {
        let card = DpdkSettings { device: "0000:02:00.0,mprq_en=1".to_owned(), hugepages: true, ..lab() };
        let value = card.capsule_config().expect("good settings");
        assert_eq!(value["ports"][0]["device"], "0000:02:00.0");
        assert_eq!(value["ports"][0]["args"], serde_json::Value::Null);
        let arguments = value["dpdk_args"].as_str().expect("a string");
        assert!(arguments.ends_with("-m 64 -a 0000:02:00.0,mprq_en=1"), "{arguments}");
        assert!(!arguments.contains("--no-huge") && !arguments.contains("--no-pci"), "{arguments}");
    }
}
