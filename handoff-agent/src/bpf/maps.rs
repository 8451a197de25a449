//! Typed access to the maps.

use std::path::Path;

use handoff_proto::control::VIPS_MAX;
use handoff_proto::{FourTuple, KeyRing, TagKey, Vip};
use libbpf_rs::{MapCore, MapFlags, MapHandle, Object};
use zerocopy::{FromBytes, IntoBytes};

use super::BpfError;
use super::abi::{
    COUNTERS, Counter, FlowKey, KEY_SELF_TEST, KEYS_ENTRIES, KeyEntry, Record, Settings, Sockets, Traffic,
    VipKey, Window,
};

/// The maps, by the names they are pinned under.
pub(super) const NAMES: [&str; 10] = [
    "settings",
    "keys",
    "vips",
    "records",
    "record_locks",
    "window",
    "counters",
    "traffic",
    "sessions",
    "sockets",
];

const ONLY_ENTRY: [u8; 4] = 0u32.to_ne_bytes();
/// Value of the entries in `vips` that stand for any port.
const ANY_PORT: u32 = 1;

/// Handles to the maps of loaded or pinned programs.
pub struct Maps {
    settings: MapHandle,
    keys: MapHandle,
    vips: MapHandle,
    records: MapHandle,
    window: MapHandle,
    counters: MapHandle,
    traffic: MapHandle,
    sessions: MapHandle,
    sockets: MapHandle,
}

impl Maps {
    /// Takes the maps of loaded programs.
    pub(super) fn of(object: &Object) -> Result<Self, BpfError> {
        let find = |name: &'static str| {
            let map = object.maps().find(|map| map.name() == name).ok_or(BpfError::Missing(name))?;
            MapHandle::try_from(&map).map_err(BpfError::libbpf(format!("opening the map `{name}`")))
        };
        Self::from_names(find)
    }

    /// Opens the maps an agent pinned.
    ///
    /// # Errors
    /// There are none, or they are of another form.
    pub fn pinned(dir: &Path) -> Result<Self, BpfError> {
        Self::from_names(|name| {
            let path = dir.join(name);
            MapHandle::from_pinned_path(&path)
                .map_err(BpfError::libbpf(format!("opening {}", path.display())))
        })
    }

    fn from_names(find: impl Fn(&'static str) -> Result<MapHandle, BpfError>) -> Result<Self, BpfError> {
        let sized = |name: &'static str, value_bytes: usize| {
            let map = find(name)?;
            if usize::try_from(map.value_size()) == Ok(value_bytes) {
                Ok(map)
            } else {
                Err(BpfError::Form(name))
            }
        };
        Ok(Self {
            settings: sized("settings", size_of::<Settings>())?,
            keys: sized("keys", size_of::<KeyEntry>())?,
            vips: sized("vips", size_of::<u32>())?,
            records: sized("records", size_of::<Record>())?,
            window: sized("window", size_of::<Window>())?,
            counters: sized("counters", COUNTERS.len() * size_of::<u64>())?,
            traffic: sized("traffic", size_of::<Traffic>())?,
            sessions: sized("sessions", 0)?,
            sockets: sized("sockets", size_of::<Sockets>())?,
        })
    }

    /// Reads the settings.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn settings(&self) -> Result<Settings, BpfError> {
        read(&self.settings, "settings", &ONLY_ENTRY)?.ok_or(BpfError::Form("settings"))
    }

    /// Writes the settings. Each field changes at once; two fields may be seen in different states.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_settings(&self, settings: &Settings) -> Result<(), BpfError> {
        write(&self.settings, "settings", &ONLY_ENTRY, settings.as_bytes())
    }

    /// Reads the state of the window of freshness.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn window(&self) -> Result<Window, BpfError> {
        read(&self.window, "window", &ONLY_ENTRY)?.ok_or(BpfError::Form("window"))
    }

    /// Makes exactly the keys of the ring accepted; returns the id of the one that issues.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_keys(&self, ring: &KeyRing) -> Result<u32, BpfError> {
        for id in 0..KEYS_ENTRIES {
            let key = ring.iter().find(|key| u32::from(key.id().0) == id);
            let entry = key.map_or_else(KeyEntry::default, |key| KeyEntry::of(&key.tag_key()));
            self.set_key(id, &entry)?;
        }
        Ok(u32::from(ring.current().id().0))
    }

    /// Gives the self-test its key, or takes it away.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_self_test_key(&self, key: Option<&TagKey>) -> Result<(), BpfError> {
        self.set_key(KEY_SELF_TEST, &key.map_or_else(KeyEntry::default, KeyEntry::of))
    }

    fn set_key(&self, id: u32, entry: &KeyEntry) -> Result<(), BpfError> {
        write(&self.keys, "keys", &id.to_ne_bytes(), entry.as_bytes())
    }

    /// Makes exactly these VIPs served, at most [`VIPS_MAX`]. One that was served before keeps its place in `traffic`, and
    /// what was counted there.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_vips(&self, vips: &[Vip]) -> Result<(), BpfError> {
        let mut taken = [false; VIPS_MAX];
        let mut places: Vec<Option<u32>> = Vec::new();
        for vip in vips {
            let place = self.place_of(*vip)?;
            let free = place.and_then(|place| taken.get_mut(usize::try_from(place).ok()?));
            // Two of one place: written by an agent that gave none.
            let kept = free.is_some_and(|is_taken| !std::mem::replace(is_taken, true));
            places.push(place.filter(|_| kept));
        }
        for (vip, place) in vips.iter().zip(places) {
            let place = match place {
                Some(place) => place,
                None => self.clear_place(&mut taken)?,
            };
            write(&self.vips, "vips", VipKey::of(*vip).as_bytes(), &(place + 1).to_ne_bytes())?;
        }
        let any_port = |vip: &Vip| VipKey::of(Vip { port: 0, ..*vip });
        for key in vips.iter().map(any_port) {
            write(&self.vips, "vips", key.as_bytes(), &ANY_PORT.to_ne_bytes())?;
        }
        let wanted: Vec<VipKey> = vips.iter().flat_map(|vip| [VipKey::of(*vip), any_port(vip)]).collect();
        for key in self.vips.keys().filter(|key| !wanted.iter().any(|want| want.as_bytes() == &key[..])) {
            self.vips.delete(&key).map_err(BpfError::libbpf("deleting from the map `vips`"))?;
        }
        Ok(())
    }

    /// Returns the place of a served VIP in `traffic`.
    fn place_of(&self, vip: Vip) -> Result<Option<u32>, BpfError> {
        let value: Option<u32> = read(&self.vips, "vips", VipKey::of(vip).as_bytes())?;
        Ok(value.and_then(|value| value.checked_sub(1)))
    }

    /// Takes a place of `traffic` that nobody has, with nothing counted in it.
    fn clear_place(&self, taken: &mut [bool; VIPS_MAX]) -> Result<u32, BpfError> {
        let free = taken.iter().position(|is_taken| !is_taken).ok_or(BpfError::Form("traffic"))?;
        taken[free] = true;
        let place = u32::try_from(free).map_err(|_| BpfError::Form("traffic"))?;
        let processors = libbpf_rs::num_possible_cpus().map_err(BpfError::libbpf("counting processors"))?;
        let zero = vec![vec![0; size_of::<Traffic>()]; processors];
        self.traffic
            .update_percpu(&place.to_ne_bytes(), &zero, MapFlags::ANY)
            .map_err(BpfError::libbpf("writing the map `traffic`"))?;
        Ok(place)
    }

    /// Reads what a VIP received, sent and answered, summed over the processors; `None` if it is not served.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn traffic(&self, vip: Vip) -> Result<Option<Traffic>, BpfError> {
        let Some(place) = self.place_of(vip)? else { return Ok(None) };
        let per_cpu = self
            .traffic
            .lookup_percpu(&place.to_ne_bytes(), MapFlags::ANY)
            .map_err(BpfError::libbpf("reading the map `traffic`"))?
            .ok_or(BpfError::Form("traffic"))?;
        let mut sum = Traffic::default();
        for cpu in per_cpu {
            sum = sum.with(Traffic::read_from_bytes(&cpu).map_err(|_| BpfError::Form("traffic"))?);
        }
        Ok(Some(sum))
    }

    /// The ring of TLS sessions.
    pub(super) const fn sessions(&self) -> &MapHandle {
        &self.sessions
    }

    /// Reads how many connections were opened and closed.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn sockets(&self) -> Result<Sockets, BpfError> {
        read(&self.sockets, "sockets", &ONLY_ENTRY)?.ok_or(BpfError::Form("sockets"))
    }

    /// Begins to count the connections of a network namespace, from 0.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_sockets(&self, sockets: &Sockets) -> Result<(), BpfError> {
        write(&self.sockets, "sockets", &ONLY_ENTRY, sockets.as_bytes())
    }

    /// Reads what is known of a 4-tuple.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn record(&self, tuple: &FourTuple) -> Result<Option<Record>, BpfError> {
        read(&self.records, "records", FlowKey::of(tuple).as_bytes())
    }

    /// Writes what is known of a 4-tuple, whatever is known already, and without the lock of the programs: not for
    /// 4-tuples they may have in hand.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn set_record(&self, tuple: &FourTuple, record: &Record) -> Result<(), BpfError> {
        write(&self.records, "records", FlowKey::of(tuple).as_bytes(), record.as_bytes())
    }

    /// Forgets a 4-tuple; it need not be known. Of the self-test's own only: a copy of a handoff whose generation is
    /// forgotten would be taken again.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn forget(&self, tuple: &FourTuple) -> Result<(), BpfError> {
        match self.records.delete(FlowKey::of(tuple).as_bytes()) {
            Err(error) if error.kind() != libbpf_rs::ErrorKind::NotFound => {
                Err(BpfError::libbpf("deleting from the map `records`")(error))
            }
            _ => Ok(()),
        }
    }

    /// Reads all counters, summed over the processors.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn counters(&self) -> Result<Counters, BpfError> {
        let per_cpu = self
            .counters
            .lookup_percpu(&ONLY_ENTRY, MapFlags::ANY)
            .map_err(BpfError::libbpf("reading the map `counters`"))?
            .ok_or(BpfError::Form("counters"))?;
        let mut sums = vec![0u64; COUNTERS.len()];
        for cpu in per_cpu {
            for (sum, word) in sums.iter_mut().zip(cpu.chunks_exact(size_of::<u64>())) {
                *sum += u64::read_from_bytes(word).map_err(|_| BpfError::Form("counters"))?;
            }
        }
        Ok(Counters(sums))
    }
}

/// The counters at one time, in the order of [`COUNTERS`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters(Vec<u64>);

impl Counters {
    /// Returns one counter by its name in `counters.h`; a name that is not there is a fault of ours.
    ///
    /// # Panics
    /// If there is no counter of that name.
    pub fn value(&self, name: &str) -> u64 {
        match COUNTERS.iter().position(|counter| counter.name == name) {
            Some(position) => self.0[position],
            None => panic!("counters.h has no counter `{name}`"),
        }
    }

    /// Returns the sum of the counters whose name begins with `prefix`.
    pub fn sum(&self, prefix: &str) -> u64 {
        self.iter().filter(|(counter, _)| counter.name.starts_with(prefix)).map(|(_, value)| value).sum()
    }

    /// Returns each counter with its value.
    pub fn iter(&self) -> impl Iterator<Item = (&'static Counter, u64)> {
        COUNTERS.iter().zip(self.0.iter().copied())
    }
}

fn read<V: FromBytes>(map: &MapHandle, name: &'static str, key: &[u8]) -> Result<Option<V>, BpfError> {
    let found =
        map.lookup(key, MapFlags::ANY).map_err(BpfError::libbpf(format!("reading the map `{name}`")))?;
    found.map(|bytes| V::read_from_bytes(&bytes).map_err(|_| BpfError::Form(name))).transpose()
}

fn write(map: &MapHandle, name: &'static str, key: &[u8], value: &[u8]) -> Result<(), BpfError> {
    map.update(key, value, MapFlags::ANY).map_err(BpfError::libbpf(format!("writing the map `{name}`")))
}
