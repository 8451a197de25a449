//! What `batonctl route` asks, from the words of the command line.

use handoff_proto::admin::{RouteContent, RouteQuestion};
use thiserror::Error;

use crate::arguments::RouteArguments;

/// Why the words are no question.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum WordsFault {
    /// Nothing a request may be for.
    #[error("URL {0:?}: http://HOST/PATH or /PATH is needed")]
    Url(String),
    /// Nobody reads what is encrypted.
    #[error("URL {0:?}: the switch cannot read inside TLS; ask with --sni NAME and --alpn PROTOCOL")]
    Encrypted(String),
    /// No header.
    #[error("header {0:?}: \"Name: value\" is needed")]
    Header(String),
}

/// Makes the question.
///
/// # Errors
/// See [`WordsFault`].
pub(crate) fn question(words: &RouteArguments) -> Result<RouteQuestion, WordsFault> {
    let RouteArguments { method, url, client, headers, sni, alpn, session_id, vip } = words;
    let content = match (method, url) {
        (Some(method), Some(url)) => http(method, url, headers)?,
        _ if sni.is_some() || !alpn.is_empty() || session_id.is_some() => {
            RouteContent::Tls { server_name: sni.clone(), protocols: alpn.clone(), session_id: *session_id }
        }
        _ => RouteContent::Unseen,
    };
    Ok(RouteQuestion { vip: vip.clone(), client: *client, content })
}

fn http(method: &str, url: &str, headers: &[String]) -> Result<RouteContent, WordsFault> {
    let (mut host, target) = host_and_target(url)?;
    let mut is_host_given = false;
    let mut fields = Vec::new();
    for header in headers {
        let parts = header.split_once(':').map(|(name, value)| (name.trim(), value.trim()));
        match parts {
            // In place of the URL's. A second one goes to the switch, which says what it makes of two.
            Some((name, value)) if name.eq_ignore_ascii_case("host") && !is_host_given => {
                host = Some(value.to_owned());
                is_host_given = true;
            }
            Some((name, value)) if !name.is_empty() => fields.push((name.to_owned(), value.to_owned())),
            _ => return Err(WordsFault::Header(header.clone())),
        }
    }
    Ok(RouteContent::Http { method: method.to_owned(), target, host, headers: fields })
}

/// Takes a URL apart (RFC 3986, section 3) as far as a client would before it asks: the fragment stays at home.
fn host_and_target(url: &str) -> Result<(Option<String>, String), WordsFault> {
    let wrong = || WordsFault::Url(url.to_owned());
    let whole = url.split_once('#').map_or(url, |(whole, _)| whole);
    if whole.starts_with('/') {
        return Ok((None, whole.to_owned()));
    }
    let (scheme, rest) = whole.split_once("://").ok_or_else(wrong)?;
    if scheme.eq_ignore_ascii_case("https") {
        return Err(WordsFault::Encrypted(url.to_owned()));
    }
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, target) = rest.split_at(end);
    // As clients say it in the Host field, port and brackets included: what of it is the host, the switch says.
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    if !scheme.eq_ignore_ascii_case("http") || host.is_empty() || host.starts_with(':') {
        return Err(wrong());
    }
    let slash = if target.starts_with('/') { "" } else { "/" };
    Ok((Some(host.to_owned()), format!("{slash}{target}")))
}

#[cfg(test)]
mod tests {
    use handoff_proto::TlsSessionId;

    use super::*;

    fn words(method: &str, url: &str, headers: &[&str]) -> RouteArguments {
        RouteArguments {
            method: Some(method.to_owned()),
            url: Some(url.to_owned()),
            client: None,
            headers: headers.iter().map(|&header| header.to_owned()).collect(),
            sni: None,
            alpn: Vec::new(),
            session_id: None,
            vip: None,
        }
    }

    #[test]
    fn a_url_is_taken_apart_as_clients_do() {
        for (url, host, target) in [
            ("/", None, "/"),
            ("/a?b=http://c", None, "/a?b=http://c"),
            ("http://www.example.org", Some("www.example.org"), "/"),
            ("http://www.example.org:8080/a/b?c=d#e", Some("www.example.org:8080"), "/a/b?c=d"),
            ("HTTP://user:word@h:80?x", Some("h:80"), "/?x"),
            ("http://[2001:db8::1]:80/", Some("[2001:db8::1]:80"), "/"),
            ("http://[2001:db8::1]/", Some("[2001:db8::1]"), "/"),
        ] {
            let asked = question(&words("GET", url, &[])).expect(url).content;
            let RouteContent::Http { host: found, target: path, .. } = asked else { panic!("{url}") };
            assert_eq!((found.as_deref(), path.as_str()), (host, target), "{url}");
        }
        for wrong in ["", "www.example.org", "ftp://h/", "http://", "http:///a", "http://:80/"] {
            assert_eq!(question(&words("GET", wrong, &[])), Err(WordsFault::Url(wrong.to_owned())));
        }
        let encrypted = question(&words("GET", "https://h/", &[]));
        assert_eq!(encrypted, Err(WordsFault::Encrypted("https://h/".to_owned())));
    }

    #[test]
    fn headers_are_kept_in_order_and_host_counts_instead_of_the_urls() {
        let asked = question(&words("GET", "http://a/", &["Cookie: x=1", "host: b:81", "X-Empty:"]));
        let Ok(RouteQuestion { content: RouteContent::Http { host, headers, .. }, .. }) = asked else {
            panic!("{asked:?}")
        };
        assert_eq!(host.as_deref(), Some("b:81"));
        let expected = [("Cookie", "x=1"), ("X-Empty", "")].map(|(n, v)| (n.to_owned(), v.to_owned()));
        assert_eq!(headers, expected);
        for wrong in ["nothing", ": x"] {
            let refused = question(&words("GET", "/", &[wrong]));
            assert_eq!(refused, Err(WordsFault::Header(wrong.to_owned())));
        }
    }

    #[test]
    fn tls_and_unseen_connections_have_no_url() {
        let none = RouteArguments { method: None, url: None, ..words("", "", &[]) };
        assert_eq!(question(&none).expect("a question").content, RouteContent::Unseen);
        let tls = RouteArguments { sni: Some("a".to_owned()), alpn: vec!["h2".to_owned()], ..none };
        let expected = RouteContent::Tls {
            server_name: Some("a".to_owned()),
            protocols: vec!["h2".to_owned()],
            session_id: None,
        };
        assert_eq!(question(&tls).expect("a question").content, expected);
        let session_id = TlsSessionId::new(b"x");
        let resuming = RouteArguments { session_id, sni: None, alpn: Vec::new(), ..tls };
        let expected = RouteContent::Tls { server_name: None, protocols: Vec::new(), session_id };
        assert_eq!(question(&resuming).expect("a question").content, expected);
    }
}
