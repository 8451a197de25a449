//! What rules answer themselves: `redirect` and `respond`.

use core::ops::RangeInclusive;

use baton_core::http::{BODY_BYTES_MAX, CONTENT_TYPE_BYTES_MAX, LOCATION_NAMES};
use baton_core::policy::RuleAnswer;

use super::faults::{Findings, quoted};
use super::raw::{RawRedirect, RawRespond};

const REDIRECT_STATUSES: [i64; 5] = [301, 302, 303, 307, 308];
const REDIRECT_STATUS_DEFAULT: u16 = 302;
const RESPOND_STATUS: RangeInclusive<u16> = 200..=599;
/// Statuses whose responses have no body (RFC 9110, sections 15.3.5, 15.3.6 and 15.4.5).
const BODILESS: [u16; 3] = [204, 205, 304];
/// Longest location, in bytes.
const LOCATION_BYTES_MAX: usize = 2048;
const CONTENT_TYPE_DEFAULT: &str = "text/plain; charset=utf-8";

/// Checks a redirection. `key` is that of the rule's `redirect`.
pub(super) fn redirect(raw: &RawRedirect, key: &str, findings: &mut Findings) -> Option<RuleAnswer> {
    let status = match raw.status {
        None => Some(REDIRECT_STATUS_DEFAULT),
        Some(status) if REDIRECT_STATUSES.contains(&status) => u16::try_from(status).ok(),
        Some(other) => {
            let allowed =
                format!("allowed are {}", REDIRECT_STATUSES.map(|status| status.to_string()).join(", "));
            findings.fault(format!("{key}.status"), other, allowed);
            None
        }
    };
    let location_key = format!("{key}.location");
    let needed = "where to is needed, such as \"https://{host}{uri}\"";
    let location = findings.required(&location_key, raw.location.as_deref(), needed)?;
    if let Err(allowed) = location_is_sound(location) {
        findings.fault(location_key, quoted(location), allowed);
        return None;
    }
    Some(RuleAnswer::Redirect { status: status?, location: location.to_owned() })
}

/// Says what is wrong with a location (RFC 9110, section 10.2.2: a reference to a URI), if anything.
fn location_is_sound(location: &str) -> Result<(), String> {
    if location.len() > LOCATION_BYTES_MAX {
        return Err(format!("{} bytes; at most {LOCATION_BYTES_MAX} are allowed", location.len()));
    }
    let placeholders = LOCATION_NAMES.map(|name| format!("{{{name}}}")).join(", ");
    let mut rest = location;
    while let Some((before, from)) = rest.split_once('{') {
        let inside = from.split_once('}').filter(|(name, _)| LOCATION_NAMES.contains(name));
        let (false, Some((_, after))) = (before.contains('}'), inside) else {
            return Err(format!("what stands in braces is replaced, and is one of {placeholders}"));
        };
        rest = after;
    }
    if rest.contains('}') {
        return Err(format!("what stands in braces is replaced, and is one of {placeholders}"));
    }
    // RFC 3986, appendix A: what else a URI may consist of.
    let is_allowed = |byte: u8| byte.is_ascii_graphic() && !b"\"<>\\^`|".contains(&byte);
    let begins_right =
        ["/", "http://", "https://", "{uri}", "{path}"].iter().any(|start| location.starts_with(start));
    if !begins_right || !location.bytes().all(is_allowed) {
        return Err(
            "a URI that begins with \"http://\", \"https://\" or \"/\" is needed, percent-encoded".to_owned()
        );
    }
    Ok(())
}

/// Checks a fixed response. `key` is that of the rule's `respond`.
pub(super) fn respond(raw: &RawRespond, key: &str, findings: &mut Findings) -> RuleAnswer {
    let status_key = format!("{key}.status");
    let needed = format!("allowed are {} to {}", RESPOND_STATUS.start(), RESPOND_STATUS.end());
    let status = findings.required(&status_key, raw.status, &needed);
    let status = findings.number(&status_key, status, *RESPOND_STATUS.start(), RESPOND_STATUS);
    let body = raw.body.clone().unwrap_or_default().into_bytes();
    if body.len() > BODY_BYTES_MAX {
        let allowed = format!("longer than the {BODY_BYTES_MAX} bytes allowed");
        findings.fault(format!("{key}.body"), format!("{} bytes", body.len()), allowed);
    } else if !body.is_empty() && BODILESS.contains(&status) {
        let allowed = format!("a response with status {status} has no body; leave it out");
        findings.fault(format!("{key}.body"), quoted(raw.body.as_deref().unwrap_or_default()), allowed);
    }
    let content_type = media_type(
        raw.content_type.as_deref(),
        &format!("{key}.content_type"),
        CONTENT_TYPE_DEFAULT,
        findings,
    );
    RuleAnswer::Respond { status, content_type, body }
}

/// Checks the media type of a body.
pub(super) fn media_type(found: Option<&str>, key: &str, default: &str, findings: &mut Findings) -> String {
    let Some(text) = found else { return default.to_owned() };
    // What a field value may have (RFC 9110, section 5.5): above all, no line breaks.
    let is_sound = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') && text.contains('/');
    if !is_sound || text.len() > CONTENT_TYPE_BYTES_MAX {
        let allowed = format!(
            "a media type of at most {CONTENT_TYPE_BYTES_MAX} characters is needed, such as {default:?}"
        );
        findings.fault(key, quoted(text), allowed);
    }
    text.to_owned()
}
