use super::*;

const NOW: Micros = Micros::from_secs(1_000);

fn record(generation: u64, fate: Fate) -> Record {
    Record { generation: Generation(generation), fate, since: Micros::from_secs(900) }
}

fn base() -> Handoff {
    Handoff { generation: Generation(10), is_base: true, fits_socket: false }
}

fn later() -> Handoff {
    Handoff { is_base: false, ..base() }
}

/// The page's table, line by line: socket, record, what becomes of a base segment, what of others.
#[test]
fn every_line_of_the_table() {
    use Holder::{Live, Nobody, TimeWait};
    use Step::{Create, Deliver, Drop, Gone, Heal, Refuse, Requeue};
    let refused = Fate::Refused(Detail::QueueFull);
    let lines = [
        (Nobody, None, Create, Drop),
        (Nobody, Some(record(9, Fate::Born)), Create, Drop),
        (Nobody, Some(record(10, Fate::Assigned)), Create, Requeue),
        (Nobody, Some(record(10, Fate::Healing(1))), Create, Requeue),
        (Nobody, Some(record(10, Fate::Born)), Gone(Detail::NoSocket), Gone(Detail::NoSocket)),
        (Nobody, Some(record(10, refused)), Refuse(Detail::QueueFull), Refuse(Detail::QueueFull)),
        (Nobody, Some(record(11, Fate::Born)), Gone(Detail::OldGeneration), Gone(Detail::OldGeneration)),
        (Live, None, Refuse(Detail::Occupied), Refuse(Detail::Occupied)),
        (Live, Some(record(9, Fate::Born)), Heal, Drop),
        (Live, Some(record(10, Fate::Assigned)), Deliver, Deliver),
        (Live, Some(record(10, Fate::Born)), Deliver, Deliver),
        (Live, Some(record(10, Fate::Healing(1))), Heal, Drop),
        (Live, Some(record(10, refused)), Refuse(Detail::QueueFull), Refuse(Detail::QueueFull)),
        (Live, Some(record(11, Fate::Born)), Gone(Detail::OldGeneration), Gone(Detail::OldGeneration)),
        (TimeWait, None, Heal, Deliver),
        (TimeWait, Some(record(9, Fate::Born)), Heal, Drop),
        (TimeWait, Some(record(10, Fate::Healing(1))), Heal, Drop),
        (TimeWait, Some(record(10, refused)), Refuse(Detail::QueueFull), Refuse(Detail::QueueFull)),
        (TimeWait, Some(record(10, Fate::Born)), Deliver, Deliver),
        (TimeWait, Some(record(11, Fate::Born)), Deliver, Deliver),
    ];
    for (holder, record, of_base, of_later) in lines {
        assert_eq!(decide(base(), holder, record.as_ref(), NOW), of_base, "{holder:?} {record:?}");
        assert_eq!(decide(later(), holder, record.as_ref(), NOW), of_later, "{holder:?} {record:?}, later");
    }
}

#[test]
fn what_is_its_own_is_delivered_though_nobody_remembers() {
    let own = Handoff { fits_socket: true, ..base() };
    assert_eq!(decide(own, Holder::Live, None, NOW), Step::Deliver);
    assert_eq!(decide(own, Holder::TimeWait, None, NOW), Step::Deliver);
}

#[test]
fn a_generation_heals_three_times_and_never_what_was_found_occupied() {
    let tired = record(10, Fate::Healing(3));
    assert_eq!(decide(base(), Holder::Live, Some(&tired), NOW), Step::Refuse(Detail::Occupied));
    let occupied = record(9, Fate::Refused(Detail::Occupied));
    assert_eq!(decide(base(), Holder::Live, Some(&occupied), NOW), Step::Refuse(Detail::Occupied));
}
