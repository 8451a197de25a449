//! Frames byte by byte: a second implementation, so that an error in the core's builders cannot hide behind itself.

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;
/// The window every segment of a client has in its header.
pub(crate) const CLIENT_WINDOW: u16 = 512;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;

pub(crate) type Mac = [u8; 6];
pub(crate) type Ip = [u8; 4];

/// The Internet checksum (RFC 1071): 0 over bytes that contain a right one.
pub(crate) fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
    let mut sum: u64 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded")
}

fn pseudo_header(source: Ip, destination: Ip, protocol: u8, bytes: usize) -> Vec<u8> {
    let length = u16::try_from(bytes).expect("short").to_be_bytes();
    [&source[..], &destination, &[0, protocol], &length].concat()
}

pub(crate) fn ethernet(destination: Mac, source: Mac, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&destination[..], &source, &ethertype.to_be_bytes(), payload].concat()
}

/// An IPv4 packet; `options` must be a multiple of four bytes.
pub(crate) fn ipv4_with(
    source: Ip,
    destination: Ip,
    protocol: u8,
    flags: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let header_bytes = 20 + options.len();
    let total = u16::try_from(header_bytes + payload.len()).expect("short").to_be_bytes();
    let [f0, f1] = flags.to_be_bytes();
    let first = 0x40 | u8::try_from(header_bytes / 4).expect("at most 60");
    let mut packet = vec![first, 0, total[0], total[1], 0x12, 0x34, f0, f1, 61, protocol, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    packet.extend(options);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(payload);
    packet
}

pub(crate) fn ipv4(source: Ip, destination: Ip, protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(source, destination, protocol, 0x4000, &[], payload)
}

/// A TCP segment to be written.
#[derive(Clone, Debug)]
pub(crate) struct TcpFrame {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) source: Ip,
    pub(crate) destination: Ip,
    pub(crate) source_port: u16,
    pub(crate) destination_port: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    /// Padded with end-of-list bytes to a multiple of four.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

impl TcpFrame {
    pub(crate) fn segment(&self) -> Vec<u8> {
        let mut options = self.options.clone();
        options.resize(options.len().next_multiple_of(4), 0);
        let offset = u8::try_from((20 + options.len()) / 4).expect("at most 60") << 4;
        let mut segment = Vec::new();
        segment.extend(self.source_port.to_be_bytes());
        segment.extend(self.destination_port.to_be_bytes());
        segment.extend(self.seq.to_be_bytes());
        segment.extend(self.ack.to_be_bytes());
        segment.extend([offset, self.flags]);
        segment.extend(CLIENT_WINDOW.to_be_bytes());
        segment.extend([0; 4]);
        segment.extend(options);
        segment.extend(&self.payload);
        let mut summed = pseudo_header(self.source, self.destination, 6, segment.len());
        summed.extend(&segment);
        let sum = checksum(&summed);
        segment[16..18].copy_from_slice(&sum.to_be_bytes());
        segment
    }

    pub(crate) fn packet(&self) -> Vec<u8> {
        ipv4(self.source, self.destination, 6, &self.segment())
    }

    pub(crate) fn frame(&self) -> Vec<u8> {
        ethernet(self.to, self.from, 0x0800, &self.packet())
    }
}

/// Reads a TCP segment sent by the switch and insists on everything a receiver insists on.
pub(crate) fn read_tcp(frame: &[u8]) -> TcpFrame {
    let (ip, segment) = read_ipv4(frame);
    assert_eq!(ip.protocol, 6, "TCP");
    let header_bytes = usize::from(segment[12] >> 4) * 4;
    assert!((20..=segment.len()).contains(&header_bytes), "data offset {header_bytes}");
    let mut summed = pseudo_header(ip.source, ip.destination, 6, segment.len());
    summed.extend(segment);
    assert_eq!(checksum(&summed), 0, "TCP checksum");
    TcpFrame {
        to: ip.to,
        from: ip.from,
        source: ip.source,
        destination: ip.destination,
        source_port: u16::from_be_bytes([segment[0], segment[1]]),
        destination_port: u16::from_be_bytes([segment[2], segment[3]]),
        seq: be32(segment, 4),
        ack: be32(segment, 8),
        flags: segment[13],
        options: segment[20..header_bytes].to_vec(),
        payload: segment[header_bytes..].to_vec(),
    }
}

/// Splits TCP options into kind and content; padding is left out.
pub(crate) fn read_options(mut options: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut list = Vec::new();
    while let [kind, rest @ ..] = options {
        match kind {
            0 => break,
            1 => options = rest,
            _ => {
                let length = usize::from(rest[0]);
                list.push((*kind, options[2..length].to_vec()));
                options = &options[length..];
            }
        }
    }
    list
}

/// What stands in front of an IPv4 packet's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outer {
    pub(crate) to: Mac,
    pub(crate) from: Mac,
    pub(crate) source: Ip,
    pub(crate) destination: Ip,
    pub(crate) protocol: u8,
}

/// Reads the Ethernet and IPv4 headers of a frame the switch made: whole, checksummed, never to be fragmented, not
/// ECN-capable, without padding.
pub(crate) fn read_ipv4(frame: &[u8]) -> (Outer, &[u8]) {
    assert_eq!(be16(frame, 12), 0x0800, "ethertype");
    let packet = &frame[14..];
    assert_eq!(packet[0], 0x45, "version and header length");
    assert_eq!(packet[1], 0, "neither DSCP nor ECN");
    assert_eq!(usize::from(be16(packet, 2)), packet.len(), "total length");
    assert_eq!(be16(packet, 6), 0x4000, "don't fragment, and not a fragment");
    assert_eq!(packet[8], 64, "time to live");
    assert_eq!(checksum(&packet[..20]), 0, "IPv4 header checksum");
    let outer = Outer {
        to: frame[..6].try_into().expect("six bytes"),
        from: frame[6..12].try_into().expect("six bytes"),
        source: packet[12..16].try_into().expect("four bytes"),
        destination: packet[16..20].try_into().expect("four bytes"),
        protocol: packet[9],
    };
    (outer, &packet[20..])
}

/// A handoff message, read field by field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) outer: Outer,
    pub(crate) source_port: u16,
    pub(crate) kind: u8,
    pub(crate) flags: u16,
    pub(crate) wscale: u8,
    pub(crate) key_id: u8,
    pub(crate) mss: u16,
    pub(crate) base_seq: u32,
    pub(crate) base_ack: u32,
    pub(crate) tsval: u32,
    pub(crate) tsecr: u32,
    pub(crate) detail: u16,
    pub(crate) lcore: u8,
    pub(crate) generation: u64,
    pub(crate) issued: u64,
    pub(crate) covered: [u8; 48],
    pub(crate) tag: [u8; 8],
    /// The client's IP packet.
    pub(crate) inner: Vec<u8>,
}

pub(crate) fn read_message(frame: &[u8]) -> Message {
    let (outer, datagram) = read_ipv4(frame);
    assert_eq!(outer.protocol, 17, "UDP");
    assert_eq!(be16(datagram, 2), 7171, "destination port");
    assert_eq!(usize::from(be16(datagram, 4)), datagram.len(), "UDP length");
    assert_eq!(be16(datagram, 6), 0, "UDP checksum unused");
    let header = &datagram[8..64];
    assert_eq!(&header[..5], b"BTON\x01", "magic and version");
    assert_eq!(header[31], 0, "reserved");
    Message {
        outer,
        source_port: be16(datagram, 0),
        kind: header[5],
        flags: be16(header, 6),
        wscale: header[8],
        key_id: header[9],
        mss: be16(header, 10),
        base_seq: be32(header, 12),
        base_ack: be32(header, 16),
        tsval: be32(header, 20),
        tsecr: be32(header, 24),
        detail: be16(header, 28),
        lcore: header[30],
        generation: be64(header, 32),
        issued: be64(header, 40),
        covered: header[..48].try_into().expect("48 bytes"),
        tag: header[48..].try_into().expect("eight bytes"),
        inner: datagram[64..].to_vec(),
    }
}

/// An ARP packet for IPv4 over Ethernet (RFC 826).
pub(crate) fn arp(operation: u16, sender: (Ip, Mac), target: (Ip, Mac), to: Mac) -> Vec<u8> {
    let mut payload = vec![0, 1, 8, 0, 6, 4];
    payload.extend(operation.to_be_bytes());
    payload.extend(sender.1);
    payload.extend(sender.0);
    payload.extend(target.1);
    payload.extend(target.0);
    ethernet(to, sender.1, 0x0806, &payload)
}

pub(crate) fn icmp_echo(source: Ip, destination: Ip, to: Mac, from: Mac, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![8, 0, 0, 0, 0x0a, 0x0b, 0, 1];
    message.extend(payload);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ethernet(to, from, 0x0800, &ipv4(source, destination, 1, &message))
}

pub(crate) fn udp(source_port: u16, destination_port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).expect("short").to_be_bytes();
    [&source_port.to_be_bytes()[..], &destination_port.to_be_bytes(), &length, &[0, 0], payload].concat()
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().expect("two bytes"))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
