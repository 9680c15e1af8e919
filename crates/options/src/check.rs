//! Loading, and the listing that `meridian config check` prints.

use config::{ConfigError, ValueKind};

use crate::OptionsError;
use crate::keys::{Default, KEYS, Kind, PEERS, find};
use crate::options::Options;
use crate::raw::Raw;
use crate::source::{Layers, Origin, Sources};
use crate::validate::Validation;

/// One key as it is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    /// `section.key`.
    pub key: String,
    /// Its value; `(hidden)` for a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Validated options, and where each came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The options.
    pub options: Options,
    /// Every key, in the order of the reference, then the peers.
    pub effective: Vec<Effective>,
}

impl Options {
    /// Reads, merges and validates all sources.
    ///
    /// # Errors
    /// Names the key, where its value came from, and what is allowed. Only files were read; nothing
    /// was changed.
    pub fn load(sources: &Sources) -> Result<Loaded, OptionsError> {
        let layers = Layers::read(sources)?;
        let raw = typed(&layers)?;
        let options = Validation::new(&layers, sources).options(raw)?;
        let effective = effective(&layers, &options);
        Ok(Loaded { options, effective })
    }
}

fn typed(layers: &Layers) -> Result<Raw, OptionsError> {
    let raw = layers.merge().and_then(config::Config::try_deserialize::<Raw>);
    raw.map_err(|error| wrong_type(layers, &error))
}

/// `config` says which key has the wrong type; the table of keys says what it should be.
fn wrong_type(layers: &Layers, error: &ConfigError) -> OptionsError {
    let key = match error {
        ConfigError::Type { key: Some(key), .. } | ConfigError::At { key: Some(key), .. } => key,
        _ => "",
    };
    let given = layers.last(key);
    let value = given.map_or_else(|| error.to_string(), |given| shown(key, &given.value));
    OptionsError::Invalid {
        key: key.to_owned(),
        value,
        origin: layers.origin(key),
        allowed: find(key).map_or_else(|| "a text".to_owned(), |key| key.kind.allowed()),
    }
}

fn shown(key: &str, value: &ValueKind) -> String {
    match value {
        _ if is_secret(key) => "(hidden)".to_owned(),
        ValueKind::Array(_) => "neither text, number nor switch".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        value => value.to_string(),
    }
}

fn is_secret(key: &str) -> bool {
    find(key).is_some_and(|key| key.kind == Kind::Secret)
}

fn effective(layers: &Layers, options: &Options) -> Vec<Effective> {
    let mut all: Vec<Effective> = KEYS
        .iter()
        .map(|key| {
            let value = match layers.last(key.path) {
                Some(given) => shown(key.path, &given.value),
                None if key.path == "node.name" => format!("{:?}", options.node.name),
                None => match key.default {
                    Default::Text(text) => format!("{text:?}"),
                    default => default.to_string(),
                },
            };
            Effective { key: key.path.to_owned(), value, origin: layers.origin(key.path) }
        })
        .collect();
    let names = options.cluster.shape.topology();
    all.extend(options.peers.iter().filter_map(|(id, address)| {
        let key = format!("{PEERS}.{}", names.node(*id)?.name);
        let origin = layers.origin(&key);
        Some(Effective { key, value: format!("{address:?}"), origin })
    }));
    all
}
