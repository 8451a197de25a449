//! The programs at a backend's interface, and messages that come over the wire.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Instant;

use handoff_agent::bpf::{Direction, PROGRAM_EGRESS, PROGRAM_INGRESS, attach_unpinned};
use handoff_agent::sys::clock;
use handoff_proto::Micros;

use super::coverage::Loaded;
use super::net::*;
use super::*;

/// The programs of a backend at one end of a wire; the rest is as in [`Net`].
pub struct Wire {
    pub programs: Loaded,
    pub net: Net,
    _links: [libbpf_rs::Link; 2],
}

impl Wire {
    pub fn new() -> Self {
        let net = Net::new();
        net.add_address("lo", VIP);
        let programs = ready_programs(net.data_index);
        let links = [(PROGRAM_INGRESS, Direction::Ingress), (PROGRAM_EGRESS, Direction::Egress)]
            .map(|(name, at)| attach_unpinned(&programs, name, net.data_index, at).expect("attachable"));
        Self { programs, net, _links: links }
    }

    /// Sends a frame and returns what it was counted as, when as many counts as `want` came.
    #[track_caller]
    pub fn counted(&self, frame: &[u8], want: &[(&str, u64)]) {
        let before = self.programs.maps().counters().expect("readable");
        self.send(frame);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let seen = changes(&before, &self.programs.maps().counters().expect("readable"));
            if seen == want {
                return;
            }
            assert!(Instant::now() < deadline, "counted {seen:?}, wanted {want:?}");
            std::thread::yield_now();
        }
    }

    /// Lets a time go by on the switch's clock.
    pub fn pass(&self, time: Micros) {
        let maps = self.programs.maps();
        let mut settings = maps.settings().expect("readable");
        settings.clock_offset_us += time.0.cast_signed();
        maps.set_settings(&settings).expect("writable");
    }

    /// Gives the programs new records, as of now; what a successor's map would not have, these no longer have.
    pub fn begin_records_without(&self, client: &Client) {
        let maps = self.programs.maps();
        maps.forget(&client.tuple).expect("deletable");
        let mut settings = maps.settings().expect("readable");
        settings.records_since_us = clock::monotonic_us();
        maps.set_settings(&settings).expect("writable");
    }

    pub fn state(&self, client: &Client) -> Option<u32> {
        self.programs.maps().record(&client.tuple).expect("readable").map(|record| record.state)
    }
}

impl std::ops::Deref for Wire {
    type Target = Net;

    fn deref(&self) -> &Net {
        &self.net
    }
}

/// Hands a connection off and accepts it.
#[track_caller]
pub fn established(wire: &Wire, listener: &TcpListener, client: &Client) -> TcpStream {
    wire.send(&client.frame(REQUEST));
    let (mut stream, peer) = accept(listener);
    assert_eq!(peer, SocketAddr::new(client.tuple.client, client.tuple.client_port));
    assert_reads(&mut stream, REQUEST);
    wire.await_reply(client, "acknowledgment", |reply| reply.ack == BASE_SEQ.add(18));
    stream
}
