//! `[[error_page]]`: bodies the operator gives for errors the switch answers itself.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use baton_core::http::{BODY_BYTES_MAX, ErrorBody, ErrorPages, Refusal};

use super::answers::media_type;
use super::faults::{Findings, quoted};
use super::raw::RawErrorPage;

const CONTENT_TYPE_DEFAULT: &str = "text/html; charset=utf-8";

/// Reads a body, and one byte more than is allowed, so that a longer one is seen to be.
pub(super) fn read_body(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(BODY_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)?.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Checks the error pages and reads their bodies.
pub(super) fn error_pages(
    raw: &[RawErrorPage],
    findings: &mut Findings,
    read: impl Fn(&Path) -> io::Result<Vec<u8>>,
) -> ErrorPages {
    let mut pages = ErrorPages::default();
    for (position, entry) in raw.iter().enumerate() {
        let key = |name: &str| format!("error_page[{position}].{name}");
        let statuses = Refusal::STATUSES.map(|status| status.to_string()).join(", ");
        let allowed = format!("allowed are {statuses}: the errors the switch itself answers with");
        let status = findings.required(&key("status"), entry.status, &allowed);
        let place = Refusal::STATUSES.iter().position(|known| Some(i64::from(*known)) == status);
        let slot = place.and_then(|place| pages.bodies.get_mut(place));
        match (status, &slot) {
            (Some(status), None) => findings.fault(key("status"), status, &allowed),
            (Some(status), Some(Some(_))) => {
                findings.fault(key("status"), status, "another [[error_page]] has this status already");
            }
            _ => {}
        }
        let content_type =
            media_type(entry.content_type.as_deref(), &key("content_type"), CONTENT_TYPE_DEFAULT, findings);
        let file =
            findings.required(&key("file"), entry.file.as_deref(), "the path of the page's body is needed");
        let Some(file) = file else { continue };
        match read(Path::new(file)) {
            Ok(bytes) if bytes.len() > BODY_BYTES_MAX => {
                findings.fault(
                    key("file"),
                    quoted(file),
                    format!("longer than the {BODY_BYTES_MAX} bytes allowed"),
                );
            }
            Ok(bytes) => {
                if let Some(slot) = slot {
                    *slot = Some(ErrorBody { content_type, bytes });
                }
            }
            Err(error) => findings.fault(key("file"), quoted(file), format!("cannot be read: {error}")),
        }
    }
    pages
}
