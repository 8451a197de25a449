//! What can be learnt of the machine before DPDK starts, so that its terse errors are rare.

use super::device::Device;
use super::error::DpdkError;
use super::settings::DpdkSettings;
use std::fs;
use std::path::Path;

/// Checks that CPUs, interface and hugepages are there.
///
/// # Errors
///
/// [`DpdkError::Cpu`], [`DpdkError::Interface`], [`DpdkError::Hugepages`] or [`DpdkError::Memory`]. What cannot be read is not
/// judged: DPDK will.
pub(super) fn check(settings: &DpdkSettings, device: &Device) -> Result<(), DpdkError> {
    if let Ok(status) = fs::read_to_string("/proc/self/status") {
        check_cpus(settings, &status)?;
    }
    if let (Some(interface), Ok(table)) =
        (device.interface(), fs::read_to_string("/proc/thread-self/net/dev"))
        && !lists_interface(&table, interface)
    {
        return Err(DpdkError::Interface { interface: interface.to_owned() });
    }
    if settings.hugepages
        && let Some(free_mb) = free_hugepages_mb(Path::new("/sys/kernel/mm/hugepages"))
        && free_mb < settings.memory_mb
    {
        return Err(DpdkError::Hugepages { free_mb, needed_mb: settings.memory_mb });
    }
    if !settings.hugepages
        && let Some(free_mb) = fs::read_to_string("/proc/meminfo").ok().and_then(|table| available_mb(&table))
        && free_mb < settings.memory_mb
    {
        return Err(DpdkError::Memory { free_mb, needed_mb: settings.memory_mb });
    }
    Ok(())
}

/// Checks the lcores against `Cpus_allowed_list` of `/proc/self/status`.
fn check_cpus(settings: &DpdkSettings, status: &str) -> Result<(), DpdkError> {
    let Some(allowed) = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")) else {
        return Ok(());
    };
    let allowed = allowed.trim();
    let lcores = settings.lcores.iter().map(|&cpu| ("lcores", cpu));
    for (key, cpu) in [("main_lcore", settings.main_lcore)].into_iter().chain(lcores) {
        if !cpu_list_contains(allowed, cpu) {
            return Err(DpdkError::Cpu { key, cpu, allowed: allowed.to_owned() });
        }
    }
    Ok(())
}

/// Whether a kernel CPU list such as `0-3,8` contains `cpu`.
fn cpu_list_contains(list: &str, cpu: usize) -> bool {
    list.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.trim().parse::<usize>(), last.trim().parse::<usize>()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&cpu),
            _ => false,
        }
    })
}

/// Whether a table like `/proc/net/dev` has a line for `interface`.
fn lists_interface(table: &str, interface: &str) -> bool {
    table.lines().filter_map(|line| line.split_once(':')).any(|(name, _)| name.trim() == interface)
}

/// Memory that can be had without swapping, in MiB, from a table like `/proc/meminfo`.
fn available_mb(table: &str) -> Option<usize> {
    let line = table.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kb| kb / 1024)
}

/// Free hugepages of all sizes, in MiB; `None` when the kernel has no such folder.
fn free_hugepages_mb(folder: &Path) -> Option<usize> {
    let mut free_kb = 0;
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let name = entry.file_name();
        let size_kb = name.to_str().and_then(|name| name.strip_prefix("hugepages-")?.strip_suffix("kB"));
        let pages = fs::read_to_string(entry.path().join("free_hugepages"));
        if let (Some(Ok(size_kb)), Ok(pages)) = (size_kb.map(str::parse::<usize>), pages) {
            free_kb += size_kb * pages.trim().parse::<usize>().unwrap_or(0);
        }
    }
    Some(free_kb / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dpdk::Idle;

    #[test]
    fn available_memory_is_read() {
        let table = "MemTotal:       16384000 kB\nMemFree:  1 kB\nMemAvailable:    2048000 kB\n";
        assert_eq!(available_mb(table), Some(2000));
        assert_eq!(available_mb("MemTotal: 1 kB\n"), None);
    }

    #[test]
    fn cpu_lists_are_read() {
        for (list, cpu, expected) in
            [("0-1", 1, true), ("0-1", 2, false), ("0,4-7", 4, true), ("0,4-7", 3, false), ("", 0, false)]
        {
            assert_eq!(cpu_list_contains(list, cpu), expected, "{cpu} in {list:?}");
        }
    }

    #[test]
    fn unavailable_cpu_is_named_with_its_key() {
        let settings = DpdkSettings {
            device: "net_null0".to_owned(),
            main_lcore: 0,
            lcores: vec![1, 9],
            rx_descriptors: 1024,
            tx_descriptors: 1024,
            hugepages: false,
            memory_mb: 64,
            mtu: 1500,
            idle: Idle::Nap,
        };
        let error =
            check_cpus(&settings, "Name:\tx\nCpus_allowed_list:\t0-1\n").expect_err("CPU 9 is missing");
        let expected = "dpdk.lcores: CPU 9 is not available to this process (available: 0-1); choose another";
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn interfaces_are_found_by_their_whole_name() {
        let table = "Inter-|   Receive\n face |bytes\n    lo: 0 0\n data0: 12 1\n";
        assert!(lists_interface(table, "data0"));
        assert!(!lists_interface(table, "data"));
    }
}
