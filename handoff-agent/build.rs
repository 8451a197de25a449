//! Compiles the BPF programs with clang and turns the list of counters into Rust.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use libbpf_cargo::SkeletonBuilder;

const SOURCE: &str = "src/bpf/handoff.bpf.c";
const HEADERS: [&str; 11] = [
    "answer.h",
    "asked.h",
    "counters.h",
    "create.h",
    "intf.h",
    "kernel.h",
    "maps.h",
    "measure.h",
    "packet.h",
    "session.h",
    "siphash.h",
];
const PACKAGES: &str = "apt-get install clang libelf-dev zlib1g-dev pkg-config make linux-libc-dev";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    println!("cargo::rerun-if-env-changed=CLANG");
    for header in HEADERS {
        println!("cargo::rerun-if-changed=src/bpf/{header}");
    }
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    compile(&out);
    counters(&out);
}

fn compile(out: &Path) {
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    if Command::new(&clang).arg("--version").output().is_err() {
        fail(&format!("`{clang}` compiles the BPF programs of baton-agent, but cannot be run"));
    }
    let include = multiarch_include();
    let built = SkeletonBuilder::new()
        .source(SOURCE)
        .obj(out.join("handoff.bpf.o"))
        .clang(&clang)
        .clang_args(["-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-I", &include])
        .build();
    if let Err(error) = built {
        fail(&format!("the BPF programs of baton-agent do not compile: {error:#}"));
    }
}

/// Returns where Debian and its like keep `asm/types.h`: clang does not look there when it compiles for BPF.
fn multiarch_include() -> String {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").expect("cargo sets CARGO_CFG_TARGET_ARCH");
    format!("/usr/include/{arch}-linux-gnu")
}

/// Ends the build with a message that does not drown in a backtrace.
fn fail(message: &str) -> ! {
    eprintln!("\n{message}\nOn Debian: {PACKAGES}\n");
    std::process::exit(1);
}

/// Writes `counters.rs`: the names and texts of `counters.h`, in its order.
fn counters(out: &Path) {
    let header = fs::read_to_string("src/bpf/counters.h").expect("src/bpf/counters.h is part of the source");
    let mut rust = String::from("&[\n");
    for line in header.lines().filter_map(|line| line.strip_prefix("\tX(")) {
        let parsed = line.split_once(", \"").and_then(|(name, rest)| Some((name, rest.split_once("\")")?.0)));
        let Some((name, text)) = parsed else {
            fail(&format!("src/bpf/counters.h has a line that is not X(name, \"text\"): {line}"));
        };
        writeln!(rust, "    Counter {{ name: {name:?}, text: {text:?} }},").expect("writing to a String");
    }
    rust.push_str("]\n");
    fs::write(out.join("counters.rs"), rust).expect("OUT_DIR is writable");
}
