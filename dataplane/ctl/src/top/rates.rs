//! What happened between two looks, each second.

use std::time::Duration;

use handoff_proto::admin::{Backend, LcoreStatus, Status};

use crate::vitals::Vitals;

/// The switch as it was at one time.
#[derive(Clone, Debug)]
pub(crate) struct Look {
    /// Since the first look.
    pub(crate) at: Duration,
    pub(crate) status: Status,
    pub(crate) backends: Vec<Backend>,
}

/// How much a second. `None` without an earlier look, or where a counter began anew in between.
pub(crate) type Rate = Option<f64>;

impl Look {
    /// Returns by how much a counter of the switch grew each second since `before`.
    pub(crate) fn rate(&self, before: Option<&Self>, of: impl Fn(&Status) -> u64) -> Rate {
        self.grown(before, |look| Some(of(&look.status)))
    }

    /// Returns by how much a counter of a backend grew each second since `before`.
    pub(crate) fn backend_rate(
        &self,
        before: Option<&Self>,
        name: &str,
        of: impl Fn(&Vitals) -> Option<u64>,
    ) -> Rate {
        self.grown(before, |look| {
            let backend = look.backends.iter().find(|backend| backend.name == name)?;
            of(&Vitals::of(backend))
        })
    }

    /// Returns the share of its time an lcore had work since `before`, in thousandths; without an earlier look, since it started.
    pub(crate) fn busy_permille(&self, before: Option<&Self>, lcore: &LcoreStatus) -> Option<u64> {
        let earlier = before.and_then(|look| look.status.lcores.iter().find(|old| old.lcore == lcore.lcore));
        let (busy, idle) = earlier.map_or((0, 0), |old| (old.busy_us, old.idle_us));
        let (busy, idle) = (lcore.busy_us.checked_sub(busy)?, lcore.idle_us.checked_sub(idle)?);
        busy.saturating_mul(1000).checked_div(busy.saturating_add(idle))
    }

    fn grown(&self, before: Option<&Self>, of: impl Fn(&Self) -> Option<u64>) -> Rate {
        let before = before?;
        let seconds = self.at.checked_sub(before.at)?.as_secs_f64();
        let grown = of(self)?.checked_sub(of(before)?)?;
        #[expect(clippy::cast_precision_loss, reason = "a rate is told in four digits")]
        let grown = grown as f64;
        (seconds > 0.0).then(|| grown / seconds)
    }
}
