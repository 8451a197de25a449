//! The ring of TLS sessions: what servers named, in the order they did.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};

use handoff_proto::{TlsSessionId, Vip};
use libbpf_rs::{MapHandle, RingBuffer, RingBufferBuilder};
use zerocopy::FromBytes as _;

use super::abi::Session;
use super::{BpfError, Maps};

/// A TLS session a server named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedSession {
    /// Where that server listens.
    pub vip: Vip,
    /// The session's id.
    pub id: TlsSessionId,
}

/// Fetches TLS sessions. One reader at a time: the ring forgets what was fetched. It can be polled for input.
pub struct SessionRing<'a> {
    map: &'a MapHandle,
    ring: RingBuffer<'static>,
    /// Where the ring's callback leaves what [`SessionRing::take`] is fetching, and empty between calls: what waits, waits in the
    /// ring. Nobody contends for the lock; it is there because the callback must own its end of it, and may change threads.
    fetched: Arc<Mutex<Vec<NamedSession>>>,
}

impl<'a> SessionRing<'a> {
    /// Begins with the oldest session nobody fetched.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn new(maps: &'a Maps) -> Result<Self, BpfError> {
        let fetched: Arc<Mutex<Vec<NamedSession>>> = Arc::default();
        let into = Arc::clone(&fetched);
        let mut builder = RingBufferBuilder::new();
        builder
            .add(maps.sessions(), move |bytes| {
                into.lock().unwrap_or_else(PoisonError::into_inner).extend(named(bytes));
                0
            })
            .map_err(BpfError::libbpf("opening the ring `sessions`"))?;
        let ring = builder.build().map_err(BpfError::libbpf("mapping the ring `sessions`"))?;
        Ok(Self { map: maps.sessions(), ring, fetched })
    }

    /// Fetches up to `count_max` sessions.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn take(&self, count_max: usize) -> Result<Vec<NamedSession>, BpfError> {
        let outcome = self.ring.consume_raw_n(count_max);
        if outcome < 0 {
            let error = libbpf_rs::Error::from_raw_os_error(outcome.saturating_neg());
            return Err(BpfError::libbpf("reading the ring `sessions`")(error));
        }
        Ok(std::mem::take(&mut *self.fetched.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl AsFd for SessionRing<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }
}

/// Reads an entry of the ring; what is none, only another program could have put there.
fn named(bytes: &[u8]) -> Option<NamedSession> {
    let session = Session::read_from_bytes(bytes).ok()?;
    let id = TlsSessionId::new(session.id.get(..usize::from(session.length))?)?;
    Some(NamedSession { vip: session.vip.vip(), id })
}

#[cfg(test)]
mod tests {
    use super::super::abi::VipKey;
    use super::*;
    use zerocopy::IntoBytes as _;

    #[test]
    fn entries_of_the_ring_are_read_and_others_are_not() {
        let vip = Vip { address: [10, 60, 0, 100].into(), port: 443 };
        let session = |length| Session { vip: VipKey::of(vip), length, zero: [0; 3], id: [7; 32] };
        let id = TlsSessionId::new(&[7, 7, 7]).expect("three bytes");
        assert_eq!(named(session(3).as_bytes()), Some(NamedSession { vip, id }));
        assert_eq!(named(session(0).as_bytes()), None);
        assert_eq!(named(session(33).as_bytes()), None);
        assert_eq!(named(&session(3).as_bytes()[1..]), None);
        assert_eq!(named(&[]), None);
    }
}
