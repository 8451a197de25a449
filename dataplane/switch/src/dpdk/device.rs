//! The device specification: a PCI address or a virtual device, with driver arguments.

use super::error::SettingsError;
use std::str::FromStr;

/// Driver of a kernel interface by AF_PACKET sockets.
const AF_PACKET: &str = "net_af_packet";

/// A parsed device specification, `name[,key=value...]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    name: String,
    arguments: Vec<String>,
    is_pci: bool,
}

impl FromStr for Device {
    type Err = SettingsError;

    /// Parses `0000:3b:00.0`, `net_af_packet0,iface=data0` and the like.
    ///
    /// # Errors
    ///
    /// [`SettingsError::Device`] when the name is neither a full PCI address nor begins with `net_`, or
    /// contains what EAL arguments cannot carry; [`SettingsError::InterfaceMissing`].
    fn from_str(specification: &str) -> Result<Self, SettingsError> {
        let found = || specification.to_owned();
        let mut parts = specification.split(',');
        let name = parts.next().unwrap_or_default();
        let arguments: Vec<String> = parts.map(str::to_owned).collect();
        let is_pci = is_pci_address(name);
        let printable = specification.bytes().all(|byte| byte.is_ascii_graphic());
        let complete = arguments.iter().all(|argument| !argument.is_empty());
        if !printable || !complete || !(is_pci || name.starts_with("net_")) {
            return Err(SettingsError::Device { found: found() });
        }
        let device = Self { name: name.to_owned(), arguments, is_pci };
        if device.is_af_packet() && device.interface().is_none_or(str::is_empty) {
            return Err(SettingsError::InterfaceMissing { found: found() });
        }
        Ok(device)
    }
}

impl Device {
    /// The name DPDK knows the port by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether this is a PCI device rather than a virtual one.
    pub fn is_pci(&self) -> bool {
        self.is_pci
    }

    /// The kernel interface an af_packet device sits on.
    pub fn interface(&self) -> Option<&str> {
        if self.is_af_packet() { self.argument("iface") } else { None }
    }

    /// The driver arguments, joined as the EAL wants them, with what the settings imply filled in.
    ///
    /// af_packet makes one queue and 512 frames per ring unless told otherwise; it is told the number of
    /// lcores and the receive descriptors, so that they mean the same on every device. What the operator
    /// wrote out stays.
    ///
    /// # Errors
    ///
    /// [`SettingsError::TooFewQueues`] when the operator's own `qpairs` is below `lcores`.
    pub(super) fn driver_arguments(
        &self,
        lcores: usize,
        rx_descriptors: usize,
    ) -> Result<Option<String>, SettingsError> {
        let mut arguments = self.arguments.clone();
        if self.is_af_packet() {
            match self.argument("qpairs").map(str::parse::<usize>) {
                Some(Ok(queues)) if queues >= lcores => {}
                Some(_) => {
                    let found = format!("{},{}", self.name, self.arguments.join(","));
                    return Err(SettingsError::TooFewQueues { found, lcores });
                }
                None => arguments.push(format!("qpairs={lcores}")),
            }
            let ring_is_given =
                ["blocksz", "framesz", "framecnt"].iter().any(|key| self.argument(key).is_some());
            if !ring_is_given {
                // Two frames share a block.
                arguments.push(format!("framecnt={}", rx_descriptors.next_multiple_of(2)));
            }
        }
        Ok(if arguments.is_empty() { None } else { Some(arguments.join(",")) })
    }

    fn is_af_packet(&self) -> bool {
        self.name.starts_with(AF_PACKET)
    }

    fn argument(&self, key: &str) -> Option<&str> {
        self.arguments.iter().find_map(|argument| argument.strip_prefix(key)?.strip_prefix('='))
    }
}

/// Whether `name` is `domain:bus:device.function` in full and in hexadecimal.
fn is_pci_address(name: &str) -> bool {
    let hex = |text: &str, digits: &[usize]| {
        digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let Some((domain, rest)) = name.split_once(':') else {
        return false;
    };
    let Some((bus, slot)) = rest.split_once(':') else {
        return false;
    };
    let Some((device, function)) = slot.split_once('.') else {
        return false;
    };
    hex(domain, &[4, 5, 8]) && hex(bus, &[2]) && hex(device, &[2]) && hex(function, &[1])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(specification: &str) -> Device {
        specification.parse().expect("a good specification")
    }

    #[test]
    fn pci_addresses_may_have_hex_digits_and_arguments() {
        let card = device("0000:3b:00.1,mprq_en=1");
        assert!(card.is_pci());
        assert_eq!(card.name(), "0000:3b:00.1");
        assert_eq!(card.driver_arguments(4, 1024), Ok(Some("mprq_en=1".to_owned())));
        assert_eq!(device("0000:02:00.0").driver_arguments(1, 1024), Ok(None));
    }

    #[test]
    fn af_packet_gets_a_queue_per_lcore_and_its_ring_size() {
        let veth = device("net_af_packet0,iface=data0");
        assert!(!veth.is_pci());
        assert_eq!(veth.interface(), Some("data0"));
        let filled_in = veth.driver_arguments(2, 1025);
        assert_eq!(filled_in, Ok(Some("iface=data0,qpairs=2,framecnt=1026".to_owned())));
    }

    #[test]
    fn what_the_operator_wrote_stays() {
        let veth = device("net_af_packet0,iface=data0,qpairs=4,blocksz=8192");
        let unchanged = veth.driver_arguments(2, 1024);
        assert_eq!(unchanged, Ok(Some("iface=data0,qpairs=4,blocksz=8192".to_owned())));
    }

    #[test]
    fn too_few_queues_are_refused() {
        for qpairs in ["1", "", "two"] {
            let veth = device(&format!("net_af_packet0,iface=data0,qpairs={qpairs}"));
            assert!(matches!(
                veth.driver_arguments(2, 1024),
                Err(SettingsError::TooFewQueues { lcores: 2, .. })
            ));
        }
    }

    #[test]
    fn other_names_are_refused() {
        for bad in
            ["", "eth0", "3b:00.0", "0000:3b:00", "0000:3b:00.g", "net_null0,", "net_null0,a b", "net_\0"]
        {
            assert_eq!(
                bad.parse::<Device>(),
                Err(SettingsError::Device { found: bad.to_owned() }),
                "{bad:?}"
            );
        }
        for bad in ["net_af_packet0", "net_af_packet0,iface="] {
            let refused = bad.parse::<Device>();
            assert_eq!(refused, Err(SettingsError::InterfaceMissing { found: bad.to_owned() }), "{bad:?}");
        }
    }
}
