//! Tells of hosts that claim a VIP or the switch's own address: the lcores count such packets, the log names the host.

use core::net::IpAddr;
use core::time::Duration;

use baton_core::DropReason;
use handoff_proto::admin::EventKind;
use tracing::warn;

use super::answers::ask;
use super::shared::Shared;
use super::told::Told;
use crate::runtime::Question;

/// How often the counter is looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Watches for ever. The same host is told of once a minute.
pub(super) async fn watch(shared: &Shared) {
    let mut told = Told::default();
    let mut counted = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let now = shared.observer.sum(|lcore| lcore.core.drops(DropReason::AddressConflict));
        if now == counted {
            continue;
        }
        counted = now;
        for mailbox in shared.mailboxes.iter() {
            let Some(claim) = ask(mailbox, |reply| Question::Conflict { reply }).await.flatten() else {
                continue;
            };
            let mac = claim.mac.to_string().replace('-', ":");
            if told.is_news(IpAddr::V4(claim.address), &mac, shared.clock().now()) {
                warn!(
                    address = %claim.address,
                    mac,
                    counter = "drop_address_conflict",
                    "another host claims an address of the switch: no host but the switch may answer ARP for a VIP",
                );
                let text = format!(
                    "the host {mac} claims {}: no host but the switch may answer ARP for a VIP",
                    claim.address
                );
                shared.note(EventKind::AddressConflict, Some(&mac), &text);
            }
        }
    }
}
