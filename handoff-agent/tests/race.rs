//! Two processors with handoffs of one 4-tuple at the same moment: whichever is slower, the highest generation stays.

mod common;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::*;
use handoff_agent::bpf::{PROGRAM_INGRESS, Programs};
use handoff_proto::Generation;
use libbpf_rs::ProgramInput;

const DROP: u32 = 2;
const PORT_OF_CLIENT: u16 = 1001;
/// How often they must have met before the test has seen enough, and how long it waits for that.
const MEETINGS: u64 = 50;
const PATIENCE: Duration = Duration::from_secs(10);

/// Sends one generation after the other; after each that was answered, the record must have that one or a newer one.
fn send(programs: &Programs, next: &AtomicU64, begun: Instant) {
    let program = programs.program(PROGRAM_INGRESS).expect("there");
    let maps = programs.maps();
    while maps.counters().expect("readable").value("overtaken") < MEETINGS && begun.elapsed() < PATIENCE {
        for _ in 0..100 {
            let generation = next.fetch_add(1, Ordering::Relaxed);
            let client = Client { generation: Generation(generation), ..Client::new(PORT_OF_CLIENT) };
            let frame = client.frame(REQUEST);
            let input = ProgramInput { data_in: Some(&frame), ..ProgramInput::default() };
            let verdict = program.test_run(input).expect("the kernel runs it").return_value;
            if verdict == DROP {
                continue; // overtaken: by a newer one, or the lock was held too long by a sender that had to wait
            }
            let record = maps.record(&client.tuple).expect("readable").expect("remembered");
            assert!(record.generation >= generation, "{} after {generation}", record.generation);
        }
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn an_older_generation_never_overwrites_a_newer_one() {
    enter_new_netns();
    let programs = ready_programs(1);
    let mut settings = programs.maps().settings().expect("readable");
    settings.records_capacity = u32::MAX; // one record, again and again: no lack of room
    programs.maps().set_settings(&settings).expect("writable");
    let (next, begun) = (AtomicU64::new(1), Instant::now());
    let senders = thread::available_parallelism().map_or(1, usize::from).clamp(2, 8);
    thread::scope(|scope| {
        for _ in 0..senders {
            scope.spawn(|| send(&programs, &next, begun));
        }
    });
    let counters = programs.maps().counters().expect("readable");
    let sent = next.into_inner() - 1;
    let (stored, late) = (counters.value("refused_no_listener"), counters.value("gone_old_generation"));
    assert_eq!(stored + late + counters.value("overtaken"), sent, "each came to one of the three");
    if thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        assert!(counters.value("overtaken") > 0, "{sent} sent, and no two met");
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn of_copies_taken_at_the_same_moment_one_is_answered() {
    enter_new_netns();
    let programs = ready_programs(1);
    const ROUNDS: u16 = 1000;
    let barrier = std::sync::Barrier::new(2);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let program = programs.program(PROGRAM_INGRESS).expect("there");
                for port in 0..ROUNDS {
                    let client = Client { generation: Generation(7), ..Client::new(2000 + port) };
                    let frame = client.frame(REQUEST);
                    let input = ProgramInput { data_in: Some(&frame), ..ProgramInput::default() };
                    barrier.wait();
                    program.test_run(input).expect("the kernel runs it");
                }
            });
        }
    });
    let counters = programs.maps().counters().expect("readable");
    assert_eq!(counters.value("refused_no_listener"), u64::from(ROUNDS), "once for each connection");
    let again = counters.value("refused_again") + counters.value("overtaken");
    assert_eq!(again, u64::from(ROUNDS), "the other copy finds that, or gives way");
}
