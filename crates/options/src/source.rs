//! The three layers: a file, the environment, flags. Each value remembers where it came from.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use config::{Config, ConfigError, Map, Source, Value, ValueKind};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::OptionsError;
use crate::keys::{KEYS, PEERS, find};

/// The longest configuration or shape file, in bytes: thousands of peers fit.
pub(crate) const MAX_FILE_BYTES: u64 = 4 << 20;

/// What every variable that sets a key starts with. Variables without `__` are not ours.
const PREFIX: &str = "MERIDIAN_";

/// Where values may come from, weakest first.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The TOML file.
    pub file: Option<PathBuf>,
    /// The environment, all of it: `MERIDIAN_SECTION__KEY` is picked out.
    pub environment: Vec<(String, String)>,
    /// `(section.key, value)` from flags.
    pub flags: Vec<(String, String)>,
}

/// Where a value came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// A line of a file, from 1.
    File {
        /// The file.
        path: PathBuf,
        /// The line.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A flag.
    Flag,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Environment(variable) => write!(f, "environment variable {variable}"),
            Self::Flag => f.write_str("flag --set"),
        }
    }
}

/// One value of one layer.
#[derive(Clone, Debug)]
pub(crate) struct Given {
    pub(crate) section: String,
    /// Empty for a value that stands where a section should.
    pub(crate) key: String,
    pub(crate) value: ValueKind,
    pub(crate) origin: Origin,
}

impl Given {
    pub(crate) fn path(&self) -> String {
        match self.key.as_str() {
            "" => self.section.clone(),
            key => format!("{}.{key}", self.section),
        }
    }
}

/// All layers, weakest first.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layers(pub(crate) Vec<Given>);

impl Layers {
    /// Reads every source and checks that all keys exist.
    pub(crate) fn read(sources: &Sources) -> Result<Self, OptionsError> {
        let mut given = Vec::new();
        if let Some(path) = &sources.file {
            let text = read_text("the configuration file", path)?;
            read_file(path, &text, &mut given)?;
        }
        given.extend(sources.environment.iter().filter_map(from_environment));
        given.extend(sources.flags.iter().map(from_flag));
        for one in &given {
            check_key(one)?;
        }
        Ok(Self(given))
    }

    /// The strongest value of a key.
    pub(crate) fn last(&self, path: &str) -> Option<&Given> {
        self.0.iter().rev().find(|given| given.path() == path)
    }

    /// Where a key's value came from.
    pub(crate) fn origin(&self, path: &str) -> Origin {
        self.last(path).map_or(Origin::Default, |given| given.origin.clone())
    }

    /// The layers merged, by `config`.
    pub(crate) fn merge(&self) -> Result<Config, ConfigError> {
        Config::builder().add_source(self.clone()).build()
    }
}

impl Source for Layers {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        let mut sections: Map<String, Map<String, Value>> = Map::new();
        for given in &self.0 {
            let origin = given.origin.to_string();
            let value = Value::new(Some(&origin), given.value.clone());
            sections.entry(given.section.clone()).or_default().insert(given.key.clone(), value);
        }
        let tables = sections.into_iter();
        Ok(tables.map(|(name, table)| (name, Value::new(None, ValueKind::Table(table)))).collect())
    }
}

/// A whole text file, within the bound.
pub(crate) fn read_text(what: &'static str, path: &Path) -> Result<String, OptionsError> {
    let unreadable = |source| OptionsError::Unreadable { what, path: path.to_owned(), source };
    let bytes = fs::metadata(path).map_err(unreadable)?.len();
    if bytes > MAX_FILE_BYTES {
        let (path, limit) = (path.to_owned(), MAX_FILE_BYTES);
        return Err(OptionsError::TooLong { what, path, bytes, limit });
    }
    fs::read_to_string(path).map_err(unreadable)
}

fn line_of(text: &str, at: usize) -> usize {
    1 + text.as_bytes().iter().take(at).filter(|&&byte| byte == b'\n').count()
}

fn read_file(path: &Path, text: &str, given: &mut Vec<Given>) -> Result<(), OptionsError> {
    let table = DeTable::parse(text).map_err(|error| OptionsError::Syntax {
        path: path.to_owned(),
        line: line_of(text, error.span().map_or(0, |span| span.start)),
        message: error.message().to_owned(),
    })?;
    let origin = |at| Origin::File { path: path.to_owned(), line: line_of(text, at) };
    for (section, inside) in table.get_ref() {
        let section_name = section.get_ref().to_string();
        let DeValue::Table(keys) = inside.get_ref() else {
            let (section, key) = (section_name, String::new());
            let (value, origin) = (scalar(inside), origin(inside.span().start));
            given.push(Given { section, key, value, origin });
            continue;
        };
        for (key, value) in keys {
            given.push(Given {
                section: section_name.clone(),
                key: key.get_ref().to_string(),
                value: scalar(value),
                origin: origin(key.span().start),
            });
        }
    }
    Ok(())
}

/// Every allowed value is a text, a whole number or a switch; what is none of them becomes a text
/// that no key accepts.
fn scalar(value: &Spanned<DeValue<'_>>) -> ValueKind {
    match value.get_ref() {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Boolean(switch) => ValueKind::Boolean(*switch),
        DeValue::Integer(number) => {
            let (text, radix) = (number.as_str(), number.radix());
            i64::from_str_radix(text, radix)
                .map_or_else(|_| ValueKind::String(text.to_owned()), ValueKind::I64)
        }
        DeValue::Float(number) => ValueKind::String(number.as_str().to_owned()),
        other => ValueKind::Array(vec![Value::new(None, other.type_str())]),
    }
}

fn from_environment((variable, value): &(String, String)) -> Option<Given> {
    let (section, key) = variable.strip_prefix(PREFIX)?.split_once("__")?;
    Some(Given {
        section: section.to_ascii_lowercase(),
        key: key.to_ascii_lowercase(),
        value: ValueKind::String(value.clone()),
        origin: Origin::Environment(variable.clone()),
    })
}

fn from_flag((path, value): &(String, String)) -> Given {
    let (section, key) = path.split_once('.').unwrap_or((path, ""));
    Given {
        section: section.to_owned(),
        key: key.to_owned(),
        value: ValueKind::String(value.clone()),
        origin: Origin::Flag,
    }
}

fn check_key(given: &Given) -> Result<(), OptionsError> {
    let path = given.path();
    if find(&path).is_some() || (given.section == PEERS && !given.key.is_empty()) {
        return Ok(());
    }
    let in_section: Vec<&str> = KEYS
        .iter()
        .filter_map(|key| key.path.strip_prefix(&given.section)?.strip_prefix('.'))
        .collect();
    let known = if in_section.is_empty() {
        let mut sections: Vec<&str> =
            KEYS.iter().filter_map(|key| Some(key.path.split_once('.')?.0)).collect();
        sections.push(PEERS);
        sections.dedup();
        format!("the sections are {}", sections.join(", "))
    } else {
        format!("section `{}` has {}", given.section, in_section.join(", "))
    };
    Err(OptionsError::UnknownKey { key: path, origin: given.origin.clone(), known })
}
