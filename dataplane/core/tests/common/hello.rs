//! ClientHellos, put together from RFC 5246, section 7.4.1.2, and RFC 8446, section 4.1.2.

fn vector_8(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).expect("short")][..], bytes].concat()
}

fn vector_16(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).expect("short").to_be_bytes()[..], bytes].concat()
}

fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &vector_16(content)].concat()
}

/// A hello in one record, as a TLS 1.2 client sends it.
pub(crate) fn hello(server_name: Option<&str>, protocols: &[&str], session_id: &[u8]) -> Vec<u8> {
    let mut extensions = Vec::new();
    if let Some(name) = server_name {
        let name = [&[0][..], &vector_16(name.as_bytes())].concat();
        extensions.extend(extension(0, &vector_16(&name)));
    }
    if !protocols.is_empty() {
        let names: Vec<u8> = protocols.iter().flat_map(|name| vector_8(name.as_bytes())).collect();
        extensions.extend(extension(16, &vector_16(&names)));
    }
    let body = [
        &[3, 3][..],
        &[0x5a; 32],
        &vector_8(session_id),
        &vector_16(&[0xc0, 0x2f]),
        &vector_8(&[0]),
        &vector_16(&extensions),
    ]
    .concat();
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    let message = [&[1][..], &length[1..], &body].concat();
    [&[22, 3, 1][..], &vector_16(&message)].concat()
}
