//! The message itself, without records.

use core::net::IpAddr;

use super::read::Reader;
use super::{Fault, MAJOR};

const RANDOM_BYTES: usize = 32;
const SESSION_ID_BYTES_MAX: usize = 32;
/// Types of extensions that are read.
const SERVER_NAME: u16 = 0;
const PROTOCOLS: u16 = 16;
const SUPPORTED_VERSIONS: u16 = 43;
/// NameType host_name.
const HOST_NAME: u8 = 0;
/// Longest name and label of the DNS (RFC 1035, section 2.3.4), as text without the last dot.
const NAME_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// What rules can look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello<'a> {
    /// The server's name (RFC 6066, section 3), as written but for a dot at its end: to be compared without regard to ASCII
    /// case. `None` if there is none, or if it is an IP address: RFC 6066 forbids that, some clients send it nevertheless,
    /// and it is nothing to dispatch by, but no reason to refuse either.
    pub server_name: Option<&'a str>,
    /// The application protocols offered (RFC 7301), most wanted first.
    pub protocols: Protocols<'a>,
    /// The session to be resumed in TLS 1.2; in TLS 1.3 without meaning. At most 32 bytes.
    pub session_id: &'a [u8],
    /// The highest version offered: of supported_versions, else the legacy one. `None` if none offered is 3.x.
    pub version: Option<Version>,
    /// Bytes of the stream up to the end of the hello's last record.
    pub bytes: usize,
}

/// A version as TLS writes it: 3.0 is SSL 3.0, 3.3 is TLS 1.2, 3.4 is TLS 1.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u16);

impl Version {
    /// TLS 1.2.
    pub const TLS_1_2: Self = Self(0x0303);
    /// TLS 1.3.
    pub const TLS_1_3: Self = Self(0x0304);

    /// Returns the version of these two bytes, `None` if it is not 3.x: GREASE, a draft, DTLS.
    pub fn new(number: u16) -> Option<Self> {
        let [major, _] = number.to_be_bytes();
        (major == MAJOR).then_some(Self(number))
    }

    /// Returns the two bytes, as a number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// The protocols a client offers: an iterator over their names, which are bytes, none of them empty. Values reserved by
/// GREASE are among them.
#[derive(Clone, Copy, Default)]
pub struct Protocols<'a>(&'a [u8]);

impl<'a> Protocols<'a> {
    /// Reads the extension: a list of at least one name, each of at least one byte.
    fn read(content: &'a [u8]) -> Option<Self> {
        let mut content = Reader::new(content);
        let list = content.vector_16()?;
        let mut names = Reader::new(list);
        while names.left() > 0 {
            names.vector_8().filter(|name| !name.is_empty())?;
        }
        (content.left() == 0 && !list.is_empty()).then_some(Self(list))
    }
}

impl<'a> Iterator for Protocols<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let mut names = Reader::new(self.0);
        let name = names.vector_8()?;
        self.0 = names.peek(names.left());
        Some(name)
    }
}

impl PartialEq for Protocols<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Protocols<'_> {}

impl core::fmt::Debug for Protocols<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(self.map(<[u8]>::escape_ascii)).finish()
    }
}

/// What extensions say, each at most once.
#[derive(Default)]
struct Extensions<'a> {
    server_name: Option<Option<&'a str>>,
    protocols: Option<Protocols<'a>>,
    version: Option<Option<Version>>,
}

impl<'a> Hello<'a> {
    /// Reads a message without its header, which came in so many bytes of the stream.
    pub(super) fn read(message: &'a [u8], bytes: usize) -> Result<Self, Fault> {
        let mut message = Reader::new(message);
        let legacy_version = message.u16().ok_or(Fault::Length)?;
        let legacy_version = Version::new(legacy_version).ok_or(Fault::Version)?;
        let session_id = session_id_of(&mut message).ok_or(Fault::Length)?;
        let extensions = match message.left() {
            0 => Extensions::default(), // TLS 1.2 allows a hello without
            _ => Extensions::read(message.vector_16().ok_or(Fault::Length)?)?,
        };
        if message.left() > 0 {
            return Err(Fault::Length);
        }
        Ok(Self {
            server_name: extensions.server_name.flatten(),
            protocols: extensions.protocols.unwrap_or_default(),
            session_id,
            // RFC 8446, section 4.2.1: with the extension, the legacy version MUST NOT be used; without it, what is
            // negotiated is TLS 1.2 or older, whatever stands there.
            version: extensions.version.unwrap_or(Some(legacy_version.min(Version::TLS_1_2))),
            bytes,
        })
    }
}

/// Passes over the random, takes the session id, passes over cipher suites and compression methods.
fn session_id_of<'a>(message: &mut Reader<'a>) -> Option<&'a [u8]> {
    message.take(RANDOM_BYTES)?;
    let session_id = message.vector_8().filter(|id| id.len() <= SESSION_ID_BYTES_MAX)?;
    message.vector_16().filter(|suites| !suites.is_empty() && suites.len().is_multiple_of(2))?;
    message.vector_8().filter(|methods| !methods.is_empty())?;
    Some(session_id)
}

impl<'a> Extensions<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let (mut bytes, mut found) = (Reader::new(bytes), Self::default());
        while bytes.left() > 0 {
            let kind = bytes.u16().ok_or(Fault::Length)?;
            let content = bytes.vector_16().ok_or(Fault::Length)?;
            match kind {
                SERVER_NAME => once(&mut found.server_name, server_name_of(content)?)?,
                PROTOCOLS => once(&mut found.protocols, Protocols::read(content).ok_or(Fault::Length)?)?,
                SUPPORTED_VERSIONS => once(&mut found.version, highest(content).ok_or(Fault::Length)?)?,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// "There MUST NOT be more than one extension of the same type in a given extension block" (RFC 8446, section 4.2).
fn once<T>(place: &mut Option<T>, value: T) -> Result<(), Fault> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(Fault::Repeated),
    }
}

/// Reads a server name list: one host name. Other types of names were never defined, nor where they would end.
fn server_name_of(content: &[u8]) -> Result<Option<&str>, Fault> {
    let mut content = Reader::new(content);
    let mut list = content.vector_16().map(Reader::new).ok_or(Fault::Length)?;
    if list.u8() != Some(HOST_NAME) {
        return Err(Fault::ServerName);
    }
    let name = list.vector_16().ok_or(Fault::Length)?;
    if list.left() > 0 || content.left() > 0 {
        return Err(Fault::ServerName);
    }
    let name = core::str::from_utf8(name).map_err(|_| Fault::ServerName)?;
    if name.parse::<IpAddr>().is_ok() {
        return Ok(None);
    }
    // RFC 6066 has the name without a dot at its end; some clients send what their user typed.
    let name = name.strip_suffix('.').unwrap_or(name);
    if is_dns_name(name) { Ok(Some(name)) } else { Err(Fault::ServerName) }
}

/// Says whether it is labels with dots between them: letters, digits, hyphens within, and underscores, which are in use.
fn is_dns_name(name: &str) -> bool {
    let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(is_sound)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= NAME_BYTES_MAX && name.split('.').all(is_label)
}

/// Reads supported_versions: returns the highest that is 3.x, if there is one.
fn highest(content: &[u8]) -> Option<Option<Version>> {
    let mut content = Reader::new(content);
    let mut list = content.vector_8().map(Reader::new)?;
    if content.left() > 0 || list.left() == 0 || !list.left().is_multiple_of(2) {
        return None;
    }
    let mut highest = None;
    while let Some(number) = list.u16() {
        highest = highest.max(Version::new(number));
    }
    Some(highest)
}
