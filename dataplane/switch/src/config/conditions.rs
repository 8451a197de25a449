//! What a rule asks of a request.

use baton_core::policy::rules::{FieldError, PathError};
use baton_core::policy::{
    ClientNetworks, Conditions, CookieMatch, HeaderMatch, HostMatch, Methods, PathMatch, ProtocolMatch,
    QueryMatch, Service, ValueMatch, VipIndex,
};

use super::faults::{Findings, quoted};
use super::names::Names;
use super::raw::{OneOrMore, RawField, RawRule};

/// Reads the conditions of one rule.
pub(super) struct Reader<'a, 'f> {
    pub(super) raw: &'a RawRule,
    /// Which rule this is.
    pub(super) position: usize,
    pub(super) findings: &'f mut Findings,
    /// Whether all was right so far.
    pub(super) is_right: bool,
}

impl Reader<'_, '_> {
    /// Reads them all; `None` if some are faulty.
    pub(super) fn conditions(&mut self, vips: &Names<'_>) -> Option<Conditions> {
        let raw = self.raw;
        let conditions = Conditions {
            vip: self.vip(vips),
            clients: self.one("client", &raw.client, |texts| ClientNetworks::new(strs(texts))),
            service: self.service(),
            methods: self.one("method", &raw.method, |texts| Methods::new(strs(texts))),
            host: self.one("host", &raw.host, |text| HostMatch::new(text)),
            path: self.path(),
            headers: self.fields("header", &raw.header, HeaderMatch::new),
            cookies: self.fields("cookie", &raw.cookie, CookieMatch::new),
            query: self.fields("query", &raw.query, QueryMatch::new),
            server_name: self.one("server_name", &raw.server_name, |text| HostMatch::new(text)),
            protocol: self.one("protocol", &raw.protocol, |text| ProtocolMatch::new(text)),
        };
        self.is_right.then_some(conditions)
    }

    fn key(&self, name: &str) -> String {
        format!("rule[{}].{name}", self.position)
    }

    fn fault(&mut self, key: String, found: impl core::fmt::Display, allowed: impl Into<String>) {
        self.findings.fault(key, found, allowed);
        self.is_right = false;
    }

    fn vip(&mut self, vips: &Names<'_>) -> Option<VipIndex> {
        let name = self.raw.vip.as_ref()?;
        let found = vips.find(name, &self.key("vip"), self.findings);
        self.is_right &= found.is_some();
        found.map(VipIndex)
    }

    fn service(&mut self) -> Option<Service> {
        let name = self.raw.service.as_ref()?;
        let found = Service::from_name(name);
        if found.is_none() {
            let known = Service::ALL.map(|service| quoted(service.name())).join(", ");
            self.fault(self.key("service"), quoted(name), format!("allowed are {known}"));
        }
        found
    }

    /// Reads a condition that stands once, if it is there.
    fn one<R: Shown, T, E: core::fmt::Display>(
        &mut self,
        name: &str,
        raw: &Option<R>,
        read: impl FnOnce(&R) -> Result<T, E>,
    ) -> Option<T> {
        let raw = raw.as_ref()?;
        read(raw).map_err(|fault| self.fault(self.key(name), raw.shown(), fault.to_string())).ok()
    }

    /// Reads the condition on the path, of which there may be one.
    fn path(&mut self) -> Option<PathMatch> {
        type Given = (&'static str, String, Result<PathMatch, PathError>);
        fn given<R: Shown>(
            name: &'static str,
            raw: &Option<R>,
            read: impl FnOnce(&R) -> Result<PathMatch, PathError>,
        ) -> Option<Given> {
            raw.as_ref().map(|raw| (name, raw.shown(), read(raw)))
        }
        let RawRule { path_exact, path_prefix, path_suffix, path_regex, .. } = self.raw;
        let kinds = [
            given("path_exact", path_exact, |text| PathMatch::exact(text)),
            given("path_prefix", path_prefix, |text| PathMatch::prefix(text)),
            given("path_suffix", path_suffix, |texts| PathMatch::suffixes(strs(texts))),
            given("path_regex", path_regex, |text| PathMatch::regex(text)),
        ];
        let mut given = kinds.into_iter().flatten();
        let (name, shown, read) = given.next()?;
        if let Some((second, other, _)) = given.next() {
            let allowed =
                format!("a rule has one path condition, and this one has {name} already; write two rules");
            self.fault(self.key(second), other, allowed);
            return None;
        }
        read.map_err(|fault| self.fault(self.key(name), shown, fault.to_string())).ok()
    }

    /// Reads conditions on things with a name.
    fn fields<T>(
        &mut self,
        name: &str,
        raw: &Option<OneOrMore<RawField>>,
        read: impl Fn(&str, ValueMatch) -> Result<T, FieldError>,
    ) -> Vec<T> {
        let Some(raw) = raw else { return Vec::new() };
        let key = |position: usize| match raw {
            OneOrMore::One(_) => self.key(name),
            OneOrMore::More(_) => format!("{}[{position}]", self.key(name)),
        };
        let keys: Vec<String> = (0..raw.as_slice().len()).map(key).collect();
        if keys.is_empty() {
            self.fault(self.key(name), "[]", "at least one is needed; leave it out, if none is meant");
        }
        raw.as_slice().iter().zip(keys).filter_map(|(field, key)| self.field(field, &key, &read)).collect()
    }

    fn field<T>(
        &mut self,
        raw: &RawField,
        key: &str,
        read: impl Fn(&str, ValueMatch) -> Result<T, FieldError>,
    ) -> Option<T> {
        let name_key = format!("{key}.name");
        let Some(name) = self.findings.required(&name_key, raw.name.as_deref(), "whose value is meant?")
        else {
            self.is_right = false;
            return None;
        };
        let (value, shown) = match (&raw.value, &raw.value_prefix) {
            (None, None) => (ValueMatch::Present, None),
            (Some(value), None) => (ValueMatch::Exact(value.clone()), Some(("value", value))),
            (None, Some(prefix)) => (ValueMatch::Prefix(prefix.clone()), Some(("value_prefix", prefix))),
            (Some(_), Some(prefix)) => {
                let allowed = "there is value already: either the whole value or its beginning is compared";
                self.fault(format!("{key}.value_prefix"), quoted(prefix), allowed);
                return None;
            }
        };
        let found = read(name, value);
        found
            .map_err(|fault| {
                let of_value = matches!(
                    fault,
                    FieldError::Value(_) | FieldError::ValueTooLong(_) | FieldError::EmptyPrefix
                );
                let (which, found) =
                    shown.filter(|_| of_value).map_or(("name", name), |(which, value)| (which, value));
                self.fault(format!("{key}.{which}"), quoted(found), fault.to_string());
            })
            .ok()
    }
}

fn strs(texts: &OneOrMore<String>) -> impl Iterator<Item = &str> {
    texts.as_slice().iter().map(String::as_str)
}

/// Shows what is written as TOML writes it.
trait Shown {
    fn shown(&self) -> String;
}

impl Shown for String {
    fn shown(&self) -> String {
        quoted(self)
    }
}

impl Shown for OneOrMore<String> {
    fn shown(&self) -> String {
        match self {
            Self::One(text) => quoted(text),
            Self::More(texts) => format!("{texts:?}"),
        }
    }
}
