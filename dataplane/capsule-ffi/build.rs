//! Finds DPDK through pkg-config, compiles `shim.c` and generates `sys` with bindgen.
//!
//! Whatever the machine lacks is reported with the Debian package that brings it.

use std::env;
use std::panic;
use std::path::PathBuf;
use std::process::{Command, exit};

/// First DPDK release with the names `compat.rs` translates to.
const DPDK_VERSION_MIN: &str = "22.11";
/// First release these bindings have never been tried with.
const DPDK_VERSION_UNTRIED: &str = "23";

/// Functions capsule calls and those Baton's own code adds; everything else stays out of the bindings.
const FUNCTIONS: &[&str] = &[
    "_rte_.*",
    "numa_node_of_cpu",
    "rte_eal_(init|cleanup)",
    "rte_eth_(allmulticast|promiscuous)_(enable|disable)",
    "rte_eth_dev_(adjust_nb_rx_tx_desc|close|configure|count_avail|get_mtu|get_port_by_name)",
    "rte_eth_dev_(info_get|set_mtu|socket_id|start|stop)",
    "rte_eth_[rt]x_queue_setup",
    "rte_eth_macaddr_get",
    "rte_eth_stats_get",
    "rte_eth_xstats_(get|get_names)",
    "rte_mempool_(avail_count|free|in_use_count|lookup)",
    "rte_pktmbuf_pool_create",
    "rte_socket_(id|count|id_by_idx)",
    "rte_strerror",
    "rte_thread_(register|set_affinity)",
];

fn main() {
    for file in ["build.rs", "src/bindings.h", "src/shim.h", "src/shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let cflags = dpdk_cflags();
    require_libclang();
    link_dpdk();
    compile_shim(&cflags);
    generate_sys(&cflags);
}

/// Ends the build with a message for the person at the keyboard; a panic would bury it in a backtrace.
fn give_up(problem: &str, remedy: &str) -> ! {
    eprintln!("\ncapsule-ffi: {problem}\n  remedy: {remedy}\n");
    exit(1);
}

/// The C compiler flags DPDK's headers need, `-march` and `-include` among them, which the
/// `pkg-config` crate drops.
fn dpdk_cflags() -> Vec<String> {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG");
    let program = env::var("PKG_CONFIG").unwrap_or_else(|_| "pkg-config".to_owned());
    let output = match Command::new(&program).args(["--cflags", "libdpdk"]).output() {
        Ok(output) => output,
        Err(error) => give_up(&format!("cannot run `{program}`: {error}"), "apt-get install pkg-config"),
    };
    if !output.status.success() {
        give_up(
            &format!(
                "DPDK's development files were not found: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            ),
            "apt-get install libdpdk-dev (or set PKG_CONFIG_PATH to where libdpdk.pc is)",
        );
    }
    let flags = String::from_utf8_lossy(&output.stdout);
    flags.split_whitespace().map(str::to_owned).collect()
}

/// Loads libclang once to learn whether it is there: bindgen only panics.
fn require_libclang() {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let loaded = panic::catch_unwind(bindgen::clang_version);
    panic::set_hook(hook);
    if loaded.is_err() {
        give_up(
            "libclang, which reads DPDK's headers, was not found",
            "apt-get install libclang-dev (or set LIBCLANG_PATH to the folder of libclang.so)",
        );
    }
}

/// Emits the link flags and checks the release.
fn link_dpdk() {
    let found = pkg_config::Config::new().atleast_version(DPDK_VERSION_MIN).probe("libdpdk");
    match found {
        Ok(library) if library.version.as_str() >= DPDK_VERSION_UNTRIED => {
            println!("cargo:warning=DPDK {} is newer than any this crate was tried with", library.version)
        }
        Ok(_) => {}
        Err(error) => give_up(
            &format!("no usable DPDK (at least {DPDK_VERSION_MIN}): {error}"),
            "apt-get install libdpdk-dev on Debian 12 or later",
        ),
    }
    // capsule asks libnuma which node a core is on; libdpdk.pc names it for static linking only.
    println!("cargo:rustc-link-lib=numa");
}

/// Compiles the functions that exist only as `static inline` in DPDK's headers.
fn compile_shim(cflags: &[String]) {
    let mut shim = cc::Build::new();
    shim.file("src/shim.c").define("_GNU_SOURCE", None).opt_level(3);
    for flag in cflags {
        shim.flag(flag);
    }
    shim.compile("capsule_ffi_shim");
}

/// Writes `sys.rs` into `OUT_DIR`.
fn generate_sys(cflags: &[String]) {
    let mut builder = bindgen::Builder::default()
        .header("src/bindings.h")
        .clang_arg("-D_GNU_SOURCE")
        .clang_args(cflags)
        .allowlist_var("CAPSULE_.*|LCORE_ID_ANY")
        .allowlist_var("RTE_MBUF_DEFAULT_(BUF_SIZE|DATAROOM)|RTE_PKTMBUF_HEADROOM")
        .allowlist_type("rte_eth_rx_mq_mode|rte_cpuset_t")
        .default_enum_style(bindgen::EnumVariation::ModuleConsts)
        .derive_default(true)
        .generate_comments(false)
        .layout_tests(true);
    for function in FUNCTIONS {
        builder = builder.allowlist_function(function);
    }
    let bindings = match builder.generate() {
        Ok(bindings) => bindings,
        Err(error) => give_up(
            &format!("bindgen could not read DPDK's headers: {error}"),
            "apt-get install libdpdk-dev libnuma-dev libclang-dev clang",
        ),
    };
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    bindings.write_to_file(out.join("sys.rs")).expect("OUT_DIR is writable");
}
