use proptest::prelude::*;

use super::*;

/// Reads `bytes` into room that stays: what is found can be kept and compared.
fn parsed(bytes: &[u8]) -> Parsed<'_> {
    parse(bytes, Box::leak(Box::default()))
}

fn head(text: &str) -> Head<'_> {
    match parsed(text.as_bytes()) {
        Parsed::Complete(head) => head,
        other => panic!("{other:?} for {text:?}"),
    }
}

#[test]
fn every_form_of_target_gives_host_and_path() {
    for (request, host, path) in [
        ("GET / HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("a.example"), "/"),
        ("GET /x/y?q=/z HTTP/1.1\r\nhost:  A.example:8080 \r\n\r\n", Some("A.example"), "/x/y"),
        ("GET /old HTTP/1.0\r\n\r\n", None, "/old"),
        ("GET http://b.example/p?q HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("b.example"), "/p"),
        ("GET HTTP://b.example HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("b.example"), "/"),
        ("GET http://b.example?q HTTP/1.1\r\nHost: b.example\r\n\r\n", Some("b.example"), "/"),
        ("OPTIONS * HTTP/1.1\r\nHost: a.example\r\n\r\n", Some("a.example"), "*"),
        ("CONNECT c.example:443 HTTP/1.1\r\nHost: c.example:443\r\n\r\n", Some("c.example"), ""),
        ("GET / HTTP/1.1\r\nHost: [2001:db8::1]:80\r\n\r\n", Some("2001:db8::1"), "/"),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Some(""), "/"),
        ("\r\nGET /after-empty-line HTTP/1.1\r\nHost: a\r\n\r\n", Some("a"), "/after-empty-line"),
    ] {
        let head = head(request);
        assert_eq!((head.host, head.path, head.bytes), (host, path, request.len()), "{request:?}");
    }
}

#[test]
fn a_body_or_a_second_request_is_not_part_of_the_head() {
    let text = "POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhelloGET / HTTP/1.1\r\n\r\n";
    let head = head(text);
    assert_eq!(head.method, "POST");
    assert_eq!(&text[head.bytes..][..5], "hello");
}

#[test]
fn a_disputed_or_foreign_beginning_is_malformed() {
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\nHost: a\r\nhOST: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a:b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [www.example.org]\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: []\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: \xff\r\n\r\n",
        b"GET relative HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nName : a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        assert_eq!(parsed(bytes), Parsed::Malformed, "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_head_is_partial_at_every_cut_and_complete_at_its_end() {
    let text = "GET /some/path?x=y HTTP/1.1\r\nHost: a.example:80\r\nCookie: k=v; l=w\r\nAccept: */*\r\n\r\n";
    for cut in 0..text.len() {
        assert_eq!(parsed(&text.as_bytes()[..cut]), Parsed::Partial, "cut at {cut}");
    }
    assert_eq!(head(text).bytes, text.len());
}

#[test]
fn fields_beyond_the_limit_are_told_apart() {
    let with_fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(head(&with_fields(HEADER_COUNT_MAX)).path, "/");
    assert_eq!(parsed(with_fields(HEADER_COUNT_MAX + 1).as_bytes()), Parsed::TooManyFields);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        parse(&bytes, &mut Fields::default());
    }

    #[test]
    fn what_follows_a_head_never_changes_it(path in "/[a-z0-9/.]{0,40}", host in "[a-z0-9.-]{1,40}", rest: Vec<u8>) {
        let text = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let mut bytes = text.clone().into_bytes();
        bytes.extend(rest);
        let fields = [Header { name: "Host", value: host.as_bytes() }];
        let expected = Head {
            method: "GET",
            host: Some(&host),
            path: &path,
            query: None,
            fields: &fields,
            bytes: text.len(),
        };
        let mut room = Fields::default();
        prop_assert_eq!(parse(&bytes, &mut room), Parsed::Complete(expected));
    }

    /// A head may come in any pieces: the first answer that is not `Partial` is that for all the bytes there will be.
    #[test]
    fn a_head_fed_by_single_bytes_is_the_whole_head(
        method in "(GET|POST|CONNECT|OPTIONS|x)",
        blank in "( |  |\t)",
        target in "(/[!-~\u{b5}]{0,9}|\\*|http://[a-z./?]{0,9}|[ -~]{0,5})",
        version in "(HTTP/1\\.1|HTTP/1\\.0|HTTP/2\\.0|HTT)",
        end in "(\r\n|\n|\r|)",
        fields in proptest::collection::vec(
            (
                "(Host|[A-Za-z-]{0,6})",
                "(:|: | :|)",
                "([a-z.:\\[\\]]{0,6}|[ -~\t\u{7f}\u{0}\u{b5}]{0,9})",
                "(\r\n|\r\n|\r\n|\n|\r|)",
            ),
            0..6,
        ),
        behind: Vec<u8>,
    ) {
        let mut text = format!("{method}{blank}{target} {version}{end}");
        fields.iter().for_each(|(name, colon, value, end)| text += &format!("{name}{colon}{value}{end}"));
        text += "\r\n";
        let bytes = [text.as_bytes(), &behind].concat();
        let is_partial = |cut: &usize| parse(&bytes[..*cut], &mut Fields::default()) == Parsed::Partial;
        let first = (0..=bytes.len()).find(|cut| !is_partial(cut)).unwrap_or(bytes.len());
        let (mut room, mut other_room) = (Fields::default(), Fields::default());
        prop_assert_eq!(parse(&bytes[..first], &mut room), parse(&bytes, &mut other_room));
    }
}
