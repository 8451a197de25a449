//! The form of the configuration file; [`checked`](super::checked) says what its values may be and which must be there.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Unexpected, Visitor};

/// The file.
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default)]
    pub(super) agent: Agent,
    #[serde(default)]
    pub(super) load: Load,
    #[serde(default)]
    pub(super) vip: Tables<Vip>,
}

/// `[agent]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "an [agent] table")]
pub(super) struct Agent {
    pub(super) name: Option<String>,
    pub(super) interface: Option<String>,
    pub(super) address: Option<String>,
    pub(super) switch: Option<String>,
    pub(super) key_file: Option<String>,
    pub(super) state_dir: Option<String>,
    pub(super) pin_dir: Option<String>,
    pub(super) manage_host: Option<bool>,
    pub(super) records: Option<Number>,
    pub(super) health_interval_ms: Option<Number>,
    pub(super) health_timeout_ms: Option<Number>,
}

/// `[load]`
#[derive(Debug, Default, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [load] table")]
pub(super) struct Load {
    pub(super) cgroup: Option<String>,
}

/// `[[vip]]`
#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields, expecting = "a [[vip]] table")]
pub(super) struct Vip {
    pub(super) address: Option<String>,
    pub(super) port: Option<Number>,
    pub(super) health: Option<String>,
}

/// A number as TOML has it, before anybody asks what it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number(pub(super) i64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WholeNumber;
        impl Visitor<'_> for WholeNumber {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number")
            }

            fn visit_i64<E: Error>(self, number: i64) -> Result<Number, E> {
                Ok(Number(number))
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Number, E> {
                i64::try_from(number)
                    .map(Number)
                    .map_err(|_| E::invalid_value(Unexpected::Unsigned(number), &self))
            }
        }
        deserializer.deserialize_i64(WholeNumber)
    }
}

/// Any number of tables of one name, in double brackets.
#[derive(Debug)]
pub(super) struct Tables<T>(pub(super) Vec<T>);

impl<T> Default for Tables<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Tables<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Each<T> {
            type Value = Tables<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("tables in double brackets")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut tables: A) -> Result<Tables<T>, A::Error> {
                let mut all = Vec::new();
                while let Some(table) = tables.next_element()? {
                    all.push(table);
                }
                Ok(Tables(all))
            }
        }
        deserializer.deserialize_seq(Each(PhantomData))
    }
}
