//! `simulate` as a program: what it says, leaves behind and exits with.

use std::path::PathBuf;
use std::process::{Command, Output};

fn simulate(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_simulate"));
    command.args(arguments).output().expect("the program starts")
}

/// A directory of one test's own, empty.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    if path.exists() {
        std::fs::remove_dir_all(&path).expect("an old run's directory");
    }
    path
}

/// Frames of a capture, as the form says (draft-ietf-opsawg-pcap): a header of 24 bytes, then records, each with its length at 8.
fn frames(pcap: &[u8]) -> Vec<&[u8]> {
    let word = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().expect("four bytes"));
    assert_eq!(word(&pcap[..4]), 0xa1b2_c3d4, "microseconds, this machine's order");
    assert_eq!(word(&pcap[20..24]), 1, "Ethernet");
    let mut frames = Vec::new();
    let mut rest = &pcap[24..];
    while !rest.is_empty() {
        let (record, after) = rest.split_at(16);
        let (frame, after) = after.split_at(word(&record[8..12]) as usize);
        frames.push(frame);
        rest = after;
    }
    frames
}

#[test]
fn a_finding_is_told_with_its_seed_and_a_capture_and_by_the_exit_status() {
    let captures = directory("finding");
    let path = captures.to_str().expect("a path of ours");
    let run =
        simulate(&["--scenario", "calm", "--seed", "2", "--forbid", "switch_handoffs", "--captures", path]);
    let told = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(1), "{told}");
    assert!(told.contains("seed 2: a forbidden counter moved: switch_handoffs is "), "{told}");
    assert!(told.contains("simulate --scenario calm --seed 2; "), "how to see it again: {told}");
    assert!(told.contains("something is wrong"), "{told}");

    let pcap = std::fs::read(captures.join("calm-2.pcap")).expect("a capture");
    let frames = frames(&pcap);
    assert!(frames.len() > 100, "{} frames", frames.len());
    // Its clients send SYNs to the VIP (RFC 9293, section 3.1: the flags are the 14th byte).
    let is_syn = |frame: &&&[u8]| {
        frame.len() >= 54
            && frame[12..14] == [8, 0]
            && frame[23] == 6
            && frame[30..34] == [10, 60, 0, 100]
            && frame[47] == 2
    };
    assert!(frames.iter().filter(is_syn).count() >= 4, "every plan opens four connections or more");
}

#[test]
fn a_good_seed_is_told_by_the_exit_status_and_leaves_nothing_behind() {
    let captures = directory("nothing");
    let path = captures.to_str().expect("a path of ours");
    // In a calm world nothing is lost.
    let run = simulate(&["--scenario", "calm", "--seed", "2", "--forbid", "link_lost", "--captures", path]);
    let told = String::from_utf8_lossy(&run.stdout);
    assert_eq!(run.status.code(), Some(0), "{told}");
    assert!(told.contains("nothing found"), "{told}");
    assert!(!captures.exists());
}

#[test]
fn wrong_usage_has_a_status_of_its_own() {
    for wrong in [&["--scenario", "sunshine"][..], &["--count", "0"], &["--seeds", "2"]] {
        assert_eq!(simulate(wrong).status.code(), Some(2), "{wrong:?}");
    }
}

#[test]
fn progress_is_told_to_those_who_have_no_terminal() {
    let run = simulate(&["--scenario", "calm", "--count", "3", "--progress", "0"]);
    let told = String::from_utf8_lossy(&run.stderr);
    let lines: Vec<&str> = told.lines().collect();
    let expected = [1, 2, 3].map(|seeds| format!("simulate: calm {seeds} of 3 seeds"));
    assert_eq!(lines, expected);
}
