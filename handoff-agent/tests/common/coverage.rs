//! Writes down which branches of the programs were taken, where the build counts that: `scripts/bpf-coverage`.

use std::ops::Deref;
use std::path::PathBuf;

use handoff_agent::bpf::Programs;
use libbpf_rs::{MapCore as _, MapFlags, MapHandle};

use super::map_of_programs;

/// The directory counts go to. Set while programs are tested that count.
const VARIABLE: &str = "BATON_BPF_COVERAGE";
/// The map of the counters: what libbpf makes of the section `scripts/bpf-coverage` puts them in.
const MAP: &str = ".data.counts";

/// Loaded programs. Those that count write that down when they are dropped, or when their test fails.
pub struct Loaded {
    programs: Programs,
    counts: Option<Counts>,
}

struct Counts {
    map: MapHandle,
    file: PathBuf,
}

impl Loaded {
    /// # Panics
    /// If these programs should count and do not.
    pub fn new(programs: Programs) -> Self {
        let counts = std::env::var_os(VARIABLE).map(|directory| {
            let map = map_of_programs(MAP).expect("scripts/bpf-coverage builds programs that count");
            let id = map.info().expect("a map has an id").info.id;
            Counts { map, file: PathBuf::from(directory).join(format!("{}-{id}.counts", std::process::id())) }
        });
        Self { programs, counts }
    }
}

impl Deref for Loaded {
    type Target = Programs;

    fn deref(&self) -> &Programs {
        &self.programs
    }
}

impl Drop for Loaded {
    fn drop(&mut self) {
        if let Some(Counts { map, file }) = &self.counts {
            let counts =
                map.lookup(&0u32.to_ne_bytes(), MapFlags::ANY).expect("readable").expect("an array has it");
            std::fs::write(file, counts).expect("scripts/bpf-coverage makes the directory");
        }
    }
}
