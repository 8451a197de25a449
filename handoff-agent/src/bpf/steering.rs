//! The settings the running programs obey, changed in one place and one field at a time.

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use handoff_proto::TagKey;

use super::abi::{
    RECORDS_NOT_BEGUN, SETTING_CLOCK_KNOWN, SETTING_READY, SETTING_SELF_TEST, SETTING_SWITCH_KNOWN, Settings,
};
use super::{BpfError, Maps};
use crate::sys::clock;

/// Changes the settings of the running programs.
pub struct Steering<'a> {
    maps: &'a Maps,
    /// What the map has. The lock is over changing it there as well: the map takes the entry as a whole, and the supervisor and
    /// the dialer change fields of it.
    settings: Mutex<Settings>,
}

impl<'a> Steering<'a> {
    /// Takes the settings over: the clock, the switch and readiness stay as an earlier agent left them, unless
    /// `afresh`, for programs that nothing went through yet.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(
        maps: &'a Maps,
        address: Ipv4Addr,
        interface: u32,
        key_id: u32,
        afresh: bool,
    ) -> Result<Self, BpfError> {
        let mut settings = maps.settings()?;
        settings.flags &= !SETTING_SELF_TEST;
        if afresh {
            settings.flags = 0;
        }
        settings.address = address.octets();
        settings.interface = interface;
        settings.key_id = key_id;
        maps.set_self_test_key(None)?;
        maps.set_settings(&settings)?;
        Ok(Self { maps, settings: Mutex::new(settings) })
    }

    /// Sets the switch's clock: its value less that of `CLOCK_MONOTONIC`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_clock(&self, offset_us: i64) -> Result<(), BpfError> {
        // The offset first: nobody may see the flag with the offset of before.
        self.change(|settings| settings.clock_offset_us = offset_us)?;
        self.change(|settings| settings.flags |= SETTING_CLOCK_KNOWN)
    }

    /// Sets where reports on plain packets go.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_switch(&self, address: Ipv4Addr) -> Result<(), BpfError> {
        self.change(|settings| settings.switch_address = address.octets())?;
        self.change(|settings| settings.flags |= SETTING_SWITCH_KNOWN)
    }

    /// Opens or closes the host for new connections.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_ready(&self, ready: bool) -> Result<(), BpfError> {
        self.change(|settings| {
            settings.flags =
                if ready { settings.flags | SETTING_READY } else { settings.flags & !SETTING_READY };
        })
    }

    /// Lets messages from `client` tagged with `key` through for a self-test, answered on `interface`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begin_self_test(&self, client: Ipv4Addr, interface: u32, key: &TagKey) -> Result<(), BpfError> {
        self.maps.set_self_test_key(Some(key))?;
        self.change(|settings| {
            settings.self_test_client = client.octets();
            settings.self_test_interface = interface;
        })?;
        self.change(|settings| settings.flags |= SETTING_SELF_TEST)
    }

    /// Ends the self-test.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn end_self_test(&self) -> Result<(), BpfError> {
        self.change(|settings| settings.flags &= !SETTING_SELF_TEST)?;
        self.maps.set_self_test_key(None)
    }

    /// Lets new records begin, now that the programs that fill them are attached; old ones go on.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn begin_records(&self) -> Result<(), BpfError> {
        self.change(|settings| {
            if settings.records_since_us == RECORDS_NOT_BEGUN {
                settings.records_since_us = clock::monotonic_us();
            }
        })
    }

    /// Returns when the memory of used generations began, `CLOCK_MONOTONIC` in microseconds.
    pub fn records_since_us(&self) -> u64 {
        self.lock().records_since_us
    }

    /// Returns the flags, `SETTING_*`.
    pub fn flags(&self) -> u32 {
        self.lock().flags
    }

    /// Sets the index of the data interface, after it went away and came back.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_interface(&self, interface: u32) -> Result<(), BpfError> {
        self.change(|settings| settings.interface = interface)
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) -> Result<(), BpfError> {
        let mut settings = self.lock();
        let mut changed = *settings;
        change(&mut changed);
        if changed == *settings {
            return Ok(());
        }
        self.maps.set_settings(&changed)?;
        *settings = changed;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Settings> {
        // Replaced as a whole, once the map has it: a panic of another holder does not spoil it.
        self.settings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
