//! The handoff header as `docs/PROTOCOL.md` has it, by someone who has seen only the tables there: fields are numbers at
//! offsets in bits, and a reader says all that is wrong, not only what it stumbles over first.

/// Bytes of a header.
pub(crate) const BYTES: usize = 56;

/// The fields in the order of the table, each with its offset in bits and its length. "window scales" are two fields.
#[rustfmt::skip]
const FIELDS: [(&str, usize, usize); 18] = [
    ("magic", 0, 32), ("version", 32, 8), ("type", 40, 8), ("flags", 48, 16),
    ("send", 64, 4), ("receive", 68, 4), ("key id", 72, 8), ("MSS", 80, 16),
    ("base_seq", 96, 32), ("base_ack", 128, 32), ("TSval", 160, 32), ("TSecr", 192, 32),
    ("detail", 224, 16), ("lcore", 240, 8), ("reserved", 248, 8),
    ("generation", 256, 64), ("issue time", 320, 64), ("tag", 384, 64),
];

/// What a reader must refuse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Length,
    Magic,
    Version,
    Type,
    Options,
    Detail,
    Reserved,
}

/// A header as numbers, possible or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plain([u64; FIELDS.len()]);

fn position(name: &str) -> usize {
    FIELDS.iter().position(|(field, _, _)| *field == name).unwrap_or_else(|| panic!("no field {name}"))
}

impl Plain {
    /// Reads the fields, whatever they say; nothing of too few bytes.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bit = |at: usize| u64::from(bytes[at / 8] >> (7 - at % 8) & 1);
        let field = |(_, at, length): (&str, usize, usize)| {
            (at..at + length).fold(0, |value, at| value << 1 | bit(at))
        };
        (bytes.len() >= BYTES).then(|| Self(FIELDS.map(field)))
    }

    /// Writes the fields, whatever they say.
    pub(crate) fn write(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        for ((_, at, length), value) in FIELDS.into_iter().zip(self.0) {
            for bit in 0..length {
                let place = at + bit;
                bytes[place / 8] |= u8::from(value >> (length - 1 - bit) & 1 == 1) << (7 - place % 8);
            }
        }
        bytes
    }

    pub(crate) fn get(&self, name: &str) -> u64 {
        self.0[position(name)]
    }

    #[must_use]
    pub(crate) fn with(mut self, name: &str, value: u64) -> Self {
        self.0[position(name)] = value;
        self
    }

    /// Says everything in it that a reader of version 1 must refuse.
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let (flags, shifts) = (self.get("flags"), [self.get("send"), self.get("receive")]);
        let shifts_fit =
            if flags & 1 == 1 { shifts.iter().all(|shift| *shift <= 14) } else { shifts == [0, 0] };
        let detail = self.get("detail");
        let detail_fits = match self.get("type") {
            9 => [1, 2, 3, 4, 5, 6, 8, 9, 11].contains(&detail), // MINE: states
            _ => detail <= 8,
        };
        let checks = [
            (Fault::Magic, self.get("magic") == 0x4254_4f4e),
            (Fault::Version, self.get("version") == 1),
            (Fault::Type, (1..=10).contains(&self.get("type"))),
            (Fault::Options, flags <= 0x0f && shifts_fit),
            (Fault::Detail, detail_fits),
            (Fault::Reserved, self.get("reserved") == 0),
        ];
        checks.into_iter().filter(|(_, holds)| !holds).map(|(fault, _)| fault).collect()
    }
}
