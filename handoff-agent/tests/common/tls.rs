//! ServerHellos as RFC 5246 and RFC 8446 have them, and what is wrong with others.

/// A handshake message of TLS: type, length in three bytes, body.
pub fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("short").to_be_bytes();
    [&[kind][..], &length[1..], body].concat()
}

/// A record of the handshake.
pub fn record(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&[22, 3, 3][..], &length, content].concat()
}

pub fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    [&kind.to_be_bytes()[..], &length, content].concat()
}

/// What TLS 1.3 says of itself.
pub fn supported_versions() -> Vec<u8> {
    extension(43, &[3, 4])
}

/// The extensions nginx sends with a session id: renegotiation_info, extended_master_secret.
pub fn usual_extensions() -> Vec<Vec<u8>> {
    vec![extension(0xff01, &[0]), extension(23, &[])]
}

/// A ServerHello.
#[derive(Clone)]
pub struct ServerHello {
    pub version: [u8; 2],
    pub id: Vec<u8>,
    /// `None` for none at all, not even an empty list.
    pub extensions: Option<Vec<Vec<u8>>>,
}

impl ServerHello {
    /// Of TLS 1.2, with an id of so many bytes.
    pub fn named(length: u8) -> Self {
        Self { version: [3, 3], id: (1..=length).collect(), extensions: Some(usual_extensions()) }
    }

    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::from(self.version);
        body.extend([0x5a; 32]);
        body.push(u8::try_from(self.id.len()).expect("short"));
        body.extend(&self.id);
        body.extend([0xc0, 0x2f, 0]); // cipher suite, no compression
        if let Some(extensions) = &self.extensions {
            let extensions = extensions.concat();
            body.extend(u16::try_from(extensions.len()).expect("short").to_be_bytes());
            body.extend(extensions);
        }
        body
    }

    pub fn message(&self) -> Vec<u8> {
        message(2, &self.body())
    }

    pub fn record(&self) -> Vec<u8> {
        record(&self.message())
    }
}
