//! What clients do, drawn from chances.

use handoff_proto::Micros;

use crate::chances::Chances;
use crate::client::script::{Conversation, Ending, RequestPlan};

/// By when all connections of a plan have been opened.
pub(super) const OPENING: Micros = Micros::from_secs(12);
/// Ports that clients open connections from: many, so that none is used twice unless that is wanted.
const PORTS: u64 = 20_000;

/// Draws connections.
pub(super) fn conversations(count: u64, hosts: usize, chances: &mut Chances) -> Vec<Conversation> {
    (0..count).map(|number| conversation(number, hosts, chances)).collect()
}

/// Draws one.
pub(super) fn conversation(number: u64, hosts: usize, chances: &mut Chances) -> Conversation {
    let ending = chances.pick(&[
        Ending::ClientCloses,
        Ending::ClientCloses,
        Ending::ClientCloses,
        Ending::ServerCloses,
        Ending::ServerCloses,
        Ending::HalfClose,
        Ending::Abort(1000),
        Ending::Nothing,
    ]);
    let requests = if ending == Ending::Nothing { 0 } else { chances.between(1, 3) };
    Conversation {
        number,
        host: chances.position(hosts),
        // Its own as long as there are fewer connections than this step.
        port: u16::try_from(20_000 + chances.between(0, PORTS / 50) * 50 + number).unwrap_or(20_000),
        start: chances.span(Micros::from_millis(2_000), OPENING),
        pause: if chances.percent(25) { chances.span(Micros(0), Micros::from_secs(5)) } else { Micros(0) },
        requests: (0..requests).map(|_| request(chances)).collect(),
        ending,
        timestamps: chances.percent(80).then(|| chances.word()),
        receive_bytes: chances.pick(&[8 * 1024, 64 * 1024, 256 * 1024]),
        patience: Micros::from_secs(90),
    }
}

fn request(chances: &mut Chances) -> RequestPlan {
    let padding_bytes = match chances.between(0, 9) {
        0..=5 => 0,
        6..=8 => usize::try_from(chances.between(100, 6_000)).unwrap_or(0),
        _ => usize::try_from(chances.between(6_000, 30_000)).unwrap_or(0),
    };
    let body_bytes =
        if chances.percent(25) { usize::try_from(chances.between(1, 60_000)).unwrap_or(1) } else { 0 };
    RequestPlan {
        class: chances.pick(&["files", "files", "video", "routed"]),
        padding_bytes,
        body_bytes,
        answer_bytes: usize::try_from(chances.pick(&[0, 100, 2_000, 20_000, 100_000])).unwrap_or(0),
        think: if chances.percent(20) { chances.span(Micros(0), Micros::from_secs(2)) } else { Micros(0) },
        piece_bytes: usize::MAX,
        piece_gap: Micros(0),
        pause: if chances.percent(20) { chances.span(Micros(0), Micros::from_secs(3)) } else { Micros(0) },
    }
}

/// Makes clients write their requests in small pieces.
pub(super) fn in_pieces(conversations: &mut [Conversation], chances: &mut Chances) {
    // Several requests of some hundred pieces, 300 ms apart, and pauses between them.
    conversations.iter_mut().for_each(|script| script.patience = Micros::from_secs(300));
    for request in conversations.iter_mut().flat_map(|script| &mut script.requests) {
        request.padding_bytes = request.padding_bytes.min(3_000);
        request.body_bytes = request.body_bytes.min(2_000);
        request.piece_bytes = usize::try_from(chances.between(20, 400)).unwrap_or(20);
        request.piece_gap = chances.span(Micros::from_millis(1), Micros::from_millis(300));
    }
}
