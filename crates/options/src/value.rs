//! One value at a time: its default, its bounds, and the error where it is not possible.

use std::fmt::Display;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::OptionsError;
use crate::keys::{self, Default, Kind, find, variable};
use crate::options::Secret;
use crate::source::Origin;
use crate::validate::Validation;

/// The shortest secret: 16 characters of base64 are 96 bits.
const MIN_SECRET: usize = 16;

/// Single values.
impl Validation<'_> {
    pub(crate) fn text(
        &self,
        key: &'static str,
        given: Option<String>,
    ) -> Result<String, OptionsError> {
        match given.or_else(|| default_text(key).map(str::to_owned)) {
            Some(text) if !text.trim().is_empty() => Ok(text),
            Some(_) => Err(self.invalid(key, "empty", allowed(key))),
            None => Err(self.required(key)),
        }
    }

    pub(crate) fn secret(
        &self,
        key: &'static str,
        given: Option<String>,
    ) -> Result<Secret, OptionsError> {
        let text = given.ok_or_else(|| self.required(key))?;
        if text.chars().count() < MIN_SECRET {
            let value = format!("(hidden), {} characters long", text.chars().count());
            return Err(self.invalid(key, value, allowed(key)));
        }
        Ok(Secret::new(text))
    }

    pub(crate) fn path(
        &self,
        key: &'static str,
        given: Option<String>,
    ) -> Result<PathBuf, OptionsError> {
        Ok(self.relative(key, &self.text(key, given)?))
    }

    /// A path as seen from where it was written.
    pub(crate) fn relative(&self, key: &str, path: &str) -> PathBuf {
        let folder = match self.layers.origin(key) {
            Origin::File { path, .. } => path.parent().map(Path::to_owned),
            _ => None,
        };
        folder.unwrap_or_default().join(path)
    }

    pub(crate) fn number(
        &self,
        key: &'static str,
        given: Option<u64>,
    ) -> Result<u64, OptionsError> {
        let Some(keys::Key { kind: Kind::Number { min, max, .. }, default, .. }) =
            find(key).copied()
        else {
            return Err(self.invalid(key, "no number", "nothing"));
        };
        let number = match (given, default) {
            (Some(number), _) | (None, Default::Number(number)) => number,
            (None, _) => 0,
        };
        if !(min..=max).contains(&number) {
            return Err(self.invalid(key, number, allowed(key)));
        }
        Ok(number)
    }

    pub(crate) fn size(
        &self,
        key: &'static str,
        given: Option<u64>,
    ) -> Result<usize, OptionsError> {
        let number = self.number(key, given)?;
        usize::try_from(number)
            .map_err(|_refused| self.invalid(key, number, "what this machine can address"))
    }

    pub(crate) fn millis(
        &self,
        key: &'static str,
        given: Option<u64>,
    ) -> Result<Duration, OptionsError> {
        Ok(Duration::from_millis(self.number(key, given)?))
    }

    pub(crate) fn switch(&self, key: &'static str, given: Option<bool>) -> bool {
        given.unwrap_or(matches!(find(key).map(|key| key.default), Some(Default::Bool(true))))
    }

    pub(crate) fn word<'w>(
        &self,
        key: &'static str,
        given: Option<&'w str>,
    ) -> Result<&'w str, OptionsError> {
        let word = given.or(default_text(key)).unwrap_or_default();
        let words = match find(key).map(|key| key.kind) {
            Some(Kind::Word(words)) => words,
            _ => &[],
        };
        let known = words.iter().find(|known| known.eq_ignore_ascii_case(word));
        known.copied().ok_or_else(|| self.invalid(key, format!("{word:?}"), allowed(key)))
    }

    pub(crate) fn address(
        &self,
        key: &'static str,
        given: Option<&str>,
    ) -> Result<SocketAddr, OptionsError> {
        let text = given.or(default_text(key)).unwrap_or_default();
        text.parse().map_err(|_refused| self.invalid(key, format!("{text:?}"), allowed(key)))
    }

    pub(crate) fn switchable(
        &self,
        key: &'static str,
        given: Option<&str>,
    ) -> Result<Option<SocketAddr>, OptionsError> {
        match given {
            Some("off") => Ok(None),
            given => self.address(key, given).map(Some),
        }
    }
}

/// Errors.
impl Validation<'_> {
    pub(crate) fn invalid(
        &self,
        key: &str,
        value: impl Display,
        allowed: impl Into<String>,
    ) -> OptionsError {
        OptionsError::Invalid {
            key: key.to_owned(),
            value: value.to_string(),
            origin: self.layers.origin(key),
            allowed: allowed.into(),
        }
    }

    pub(crate) fn conflict(
        &self,
        key: &str,
        value: impl Display,
        conflict: String,
    ) -> OptionsError {
        let origin = self.layers.origin(key);
        OptionsError::Conflict { key: key.to_owned(), value: value.to_string(), origin, conflict }
    }

    pub(crate) fn open_listener(&self, key: &str, address: SocketAddr, why: &str) -> OptionsError {
        self.conflict(
            key,
            address,
            format!(
                "that is reachable from other machines and {why}; set `doors.password`, listen on \
                 127.0.0.1, or set `doors.allow_open_listeners = true` behind a firewall"
            ),
        )
    }

    pub(crate) fn required(&self, key: &str) -> OptionsError {
        match find(key).map(|key| key.default) {
            Some(Default::Required(how)) => self.missing(key, how),
            _ => self.missing(key, "set it"),
        }
    }

    pub(crate) fn missing(&self, key: &str, how: &str) -> OptionsError {
        let place = self.sources.file.as_ref().map(|path| format!(" in {}", path.display()));
        OptionsError::Missing {
            key: key.to_owned(),
            place: place.unwrap_or_default(),
            how: how.to_owned(),
            variable: variable(key),
        }
    }
}

pub(crate) fn allowed(key: &str) -> String {
    find(key).map(|key| key.kind.allowed()).unwrap_or_default()
}

fn default_text(key: &str) -> Option<&'static str> {
    match find(key)?.default {
        Default::Text(text) => Some(text),
        _ => None,
    }
}
