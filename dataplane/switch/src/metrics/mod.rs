//! `/metrics`: what the switch counts, in Prometheus text form.
//!
//! [`Sample`] is everything at one moment, [`render`] its text, [`serve`] the little HTTP around it. Names begin with `baton_`;
//! counters end in `_total`; labels are only what the operator configured (`lcore`, `backend`, `class`), and the `release`.

mod http;
mod sample;
mod text;

pub use http::{Scrape, serve};
pub use sample::{BackendSample, ClassSample, ControlSample, LcoreSample, Sample};
pub use text::render;
pub(crate) use text::{NEWS_LOST, SESSIONS_LOST};
