//! The committed corpus, replayed: everything the fuzzer found worth keeping, and everything that once broke.

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use baton_fuzz_checks::{TARGETS, Target};

/// What all corpora together may weigh: they are part of every clone, and replayed in every run of the tests.
const CORPUS_BYTES_MAX: u64 = 150_000;

fn directory(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(of)
}

/// The names in a directory, without what ends them.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let stem = |path: PathBuf| path.file_stem().expect("a name").to_str().expect("text").to_owned();
    let mut names: Vec<String> = entries.map(|entry| stem(entry.expect("readable").path())).collect();
    names.sort();
    names
}

/// Replays the corpus of a target. All of it is tried; then those inputs that break something are named.
fn replay(name: &str) {
    let (_, check): &Target = TARGETS.iter().find(|(target, _)| *target == name).expect("a target");
    let directory = directory("corpus").join(name);
    let (mut count, mut broken) = (0, Vec::new());
    for entry in fs::read_dir(&directory).expect("a corpus") {
        let path = entry.expect("readable").path();
        let bytes = fs::read(&path).expect("readable");
        count += 1;
        if catch_unwind(|| check(&bytes)).is_err() {
            broken.push(path);
        }
    }
    assert!(broken.is_empty(), "these inputs break {name}: {broken:?}");
    assert!(count > 0, "the corpus of {name} is empty");
}

#[test]
fn every_target_has_its_line_and_its_corpus() {
    let targets: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names(&directory("fuzz_targets")), targets, "fuzz_targets and TARGETS");
    assert_eq!(names(&directory("corpus")), targets, "corpus and TARGETS");
}

#[test]
fn the_corpora_stay_small() {
    let files = |directory: PathBuf| {
        fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("readable"))
    };
    let weight: u64 = files(directory("corpus"))
        .flat_map(|corpus| files(corpus.path()))
        .map(|file| file.metadata().expect("a file").len())
        .sum();
    assert!(weight <= CORPUS_BYTES_MAX, "{weight} bytes");
}

#[test]
fn chunked() {
    replay("chunked");
}

#[test]
fn client_hello() {
    replay("client_hello");
}

#[test]
fn configuration() {
    replay("configuration");
}

#[test]
fn control_message() {
    replay("control_message");
}

#[test]
fn frame() {
    replay("frame");
}

#[test]
fn handoff_header() {
    replay("handoff_header");
}

#[test]
fn http_head() {
    replay("http_head");
}

#[test]
fn tcp_options() {
    replay("tcp_options");
}
