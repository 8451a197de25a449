//! Functions that stand between capsule and DPDK because the two disagree about arguments or duties.

use crate::sys;
use std::ffi::{CStr, CString, c_char, c_int};
use std::{ptr, slice};

/// "Invalid argument", negated as DPDK returns it.
const INVALID_ARGUMENT: c_int = -22;

/// Initialises the EAL with capsule's arguments translated to those of 22.11.
///
/// Returns what DPDK's `rte_eal_init` returns: the number of arguments it parsed, or -1 with
/// `rte_errno` set.
///
/// # Safety
///
/// `argv` must point to `argc` valid, NUL-terminated strings. DPDK's own conditions hold besides: once
/// per process, before any other DPDK function, on the thread that becomes the main lcore.
pub unsafe fn rte_eal_init(argc: c_int, argv: *mut *mut c_char) -> c_int {
    let Ok(count) = usize::try_from(argc) else {
        return INVALID_ARGUMENT;
    };
    // SAFETY: the caller vouches for `argc` elements; nothing writes to them while this slice lives.
    let pointers = unsafe { slice::from_raw_parts(argv, count) };
    let arguments = pointers
        .iter()
        // SAFETY: the caller vouches for every element being a NUL-terminated string.
        .map(|&argument| unsafe { CStr::from_ptr(argument) }.to_owned())
        .collect();
    let arguments = translate_arguments(arguments);
    let mut pointers: Vec<*mut c_char> =
        arguments.iter().map(|argument| argument.as_ptr().cast_mut()).collect();
    let Ok(count) = c_int::try_from(pointers.len()) else {
        return INVALID_ARGUMENT;
    };
    // getopt expects a null pointer behind the last argument.
    pointers.push(ptr::null_mut());
    // SAFETY: `pointers` holds `count` strings that live until the end of this function; DPDK copies what
    // it keeps and writes to the array of pointers (getopt reorders it), not to the strings.
    unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) }
}

/// Rewrites EAL arguments of DPDK 19.11, as capsule makes them, to those of 22.11.
///
/// * `--pci-whitelist` and `--master-lcore` have new names.
/// * Capsule's pattern for PCI addresses knows decimal digits only and hands `0000:3b:00.0` over as a
///   virtual device: such a `--vdev` becomes `-a`.
/// * Capsule cannot give a PCI device driver arguments. An application can, with an `-a` of its own behind
///   capsule's arguments; the EAL wants each device once, so capsule's mention then goes.
fn translate_arguments(arguments: Vec<CString>) -> Vec<CString> {
    let mut translated = Vec::with_capacity(arguments.len());
    let mut rest = arguments.as_slice();
    while let [argument, behind @ ..] = rest {
        rest = behind;
        let replacement = match argument.to_bytes() {
            b"--pci-whitelist" => c"-a",
            b"--master-lcore" => c"--main-lcore",
            b"--vdev" if behind.first().is_some_and(|value| names_pci_device(value)) => c"-a",
            _ => argument.as_c_str(),
        };
        if let (true, Some((device, behind))) = (replacement == c"-a", behind.split_first()) {
            rest = behind;
            if !is_repeated_with_arguments(device, behind) {
                translated.extend([replacement.to_owned(), device.clone()]);
            }
        } else {
            translated.push(replacement.to_owned());
        }
    }
    translated
}

/// Whether `arguments` contain an `-a` for this very device with driver arguments.
fn is_repeated_with_arguments(device: &CStr, arguments: &[CString]) -> bool {
    arguments.windows(2).any(|pair| {
        let repeated = pair[1].to_bytes().strip_prefix(device.to_bytes());
        pair[0].as_c_str() == c"-a" && repeated.is_some_and(|behind| behind.starts_with(b","))
    })
}

/// Whether a device specification (`name[,key=value...]`) names a PCI device by its full address,
/// `domain:bus:device.function` in hexadecimal.
fn names_pci_device(specification: &CStr) -> bool {
    let Ok(specification) = specification.to_str() else {
        return false;
    };
    let name = specification.split(',').next().unwrap_or_default();
    let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = name.split(':');
    let (Some(domain), Some(bus), Some(slot), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    let Some((device, function)) = slot.split_once('.') else {
        return false;
    };
    // Intel's volume management device numbers its domains from 0x10000.
    hex(domain, 4..=8) && hex(bus, 2..=2) && hex(device, 2..=2) && hex(function, 1..=1)
}

/// Pins the calling thread to `cpuset` and makes it known to the EAL.
///
/// Capsule starts its worker threads itself. A thread the EAL does not know has no lcore id, and without
/// one every mempool operation misses the per-lcore cache. Returns 0, or DPDK's negative error when the
/// thread could not be pinned.
///
/// # Safety
///
/// `cpuset` must point to a valid CPU set, and the EAL must be initialised.
pub unsafe fn rte_thread_set_affinity(cpuset: *mut sys::rte_cpuset_t) -> c_int {
    // SAFETY: the caller vouches for `cpuset` and for the EAL.
    let result = unsafe { sys::rte_thread_set_affinity(cpuset) };
    // SAFETY: reads a thread-local of DPDK's; always allowed.
    let lcore_id = unsafe { sys::_rte_lcore_id() };
    if result == 0 && lcore_id == sys::LCORE_ID_ANY {
        // A refusal (no lcore id left) costs speed only: the pool works without its cache.
        // SAFETY: the EAL is initialised and this thread has no lcore id yet.
        let _registered = unsafe { sys::rte_thread_register() };
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn translate(arguments: &[&str]) -> Vec<String> {
        let arguments =
            arguments.iter().map(|text| CString::new(*text).expect("test arguments have no NUL")).collect();
        translate_arguments(arguments)
            .into_iter()
            .map(|argument| argument.into_string().expect("test arguments are UTF-8"))
            .collect()
    }

    #[test]
    fn old_option_names_become_new_ones() {
        assert_eq!(
            translate(&["app", "--pci-whitelist", "0000:02:00.0", "--master-lcore", "0", "-l", "0"]),
            ["app", "-a", "0000:02:00.0", "--main-lcore", "0", "-l", "0"]
        );
    }

    #[test]
    fn pci_address_with_hex_digits_is_no_virtual_device() {
        assert_eq!(translate(&["app", "--vdev", "0000:3b:00.0"]), ["app", "-a", "0000:3b:00.0"]);
        assert_eq!(
            translate(&["app", "--vdev", "10000:e1:1f.7,mprq_en=1"]),
            ["app", "-a", "10000:e1:1f.7,mprq_en=1"]
        );
    }

    #[test]
    fn own_mention_of_a_device_replaces_capsules() {
        assert_eq!(
            translate(&["app", "--pci-whitelist", "0000:02:00.0", "-l", "0", "-a", "0000:02:00.0,x=1"]),
            ["app", "-l", "0", "-a", "0000:02:00.0,x=1"]
        );
        assert_eq!(
            translate(&["app", "--vdev", "0000:3b:00.0", "-a", "0000:3b:00.1,x=1"]),
            ["app", "-a", "0000:3b:00.0", "-a", "0000:3b:00.1,x=1"]
        );
    }

    #[test]
    fn virtual_devices_stay() {
        for device in
            ["net_null0", "net_af_packet0,iface=data0", "net_tap0,mac=00:64:74:61:70:00", "3b:00.0", ""]
        {
            assert_eq!(translate(&["app", "--vdev", device]), ["app", "--vdev", device]);
        }
    }

    #[test]
    fn values_and_a_dangling_option_are_left_alone() {
        assert_eq!(translate(&["app", "--file-prefix", "--vdev"]), ["app", "--file-prefix", "--vdev"]);
    }

    #[test]
    fn compat_constants_keep_their_bits() {
        // Values from DPDK's documentation: MBUF_FAST_FREE is bit 16 of the transmit offloads.
        assert_eq!(crate::DEV_TX_OFFLOAD_MBUF_FAST_FREE, 1 << 16);
        assert_eq!(crate::RTE_MBUF_DEFAULT_BUF_SIZE, 2048 + 128);
    }
}
