//! What commands print: lines and tables for people, JSON for programs; and how they fail.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use comfy_table::{Table, presets};
use meridian_service::{Effect, RequestError};
use serde_json::{Value, json};

/// Where a command's answer goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    /// One JSON document (or one a line) instead of lines and tables.
    pub(crate) json: bool,
}

impl Output {
    /// A line of the answer.
    pub(crate) fn line(self, text: impl Display) -> Result<(), Failure> {
        writeln!(io::stdout().lock(), "{text}").map_err(Failure::from)
    }

    /// The answer as the program or the person wants it.
    pub(crate) fn answer(self, program: &Value, person: impl Display) -> Result<(), Failure> {
        if self.json { self.line(program) } else { self.line(person) }
    }

    /// A remark for people, beside the answer.
    pub(crate) fn note(self, text: impl Display) {
        if !self.json {
            say(text);
        }
    }

    /// Says why a command failed; its exit code.
    pub(crate) fn failed(self, failure: &Failure) -> ExitCode {
        match failure {
            Failure::Quiet => return ExitCode::SUCCESS,
            _ if self.json => say(json!({ "error": failure.json() })),
            _ => say(format_args!("error: {failure}")),
        }
        ExitCode::from(failure.exit_code())
    }
}

/// A line on standard error. Nobody can be told when that fails.
pub(crate) fn say(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// An empty table with these headings.
pub(crate) fn table<const N: usize>(headings: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY).set_header(headings);
    table
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A node refused or could not do it.
    Request(RequestError),
    /// What was asked for is not there, or a condition does not hold.
    No(String),
    /// No node could be reached; nothing was written.
    Unreachable(String),
    /// A node was asked and did not answer: a write may have been done.
    Unknown(String),
    /// Some of many failed; they were listed.
    Partial(String),
    /// A check came to no verdict.
    Undecided(String),
    /// Whoever read the answer left.
    Quiet,
    /// Anything else, with what to do about it.
    Other(anyhow::Error),
}

/// Exit codes, as `meridian help` and docs/cli.md list them.
impl Failure {
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Quiet => 0,
            Self::Request(error) if error.effect() == Effect::Unknown => 4,
            Self::Request(_) | Self::No(_) | Self::Other(_) | Self::Partial(_) => 1,
            Self::Undecided(_) => 2,
            Self::Unreachable(_) => 3,
            Self::Unknown(_) => 4,
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Request(error) => request_error(error),
            Self::Unknown(message) => json!({
                "name": "no_answer", "effect": Effect::Unknown.name(), "message": message
            }),
            Self::No(message) => json!({ "name": "no", "message": message }),
            Self::Unreachable(message) => json!({
                "name": "unreachable", "effect": Effect::NotApplied.name(), "message": message
            }),
            Self::Partial(message) => json!({ "name": "partial", "message": message }),
            Self::Undecided(message) => json!({ "name": "undecided", "message": message }),
            Self::Quiet => Value::Null,
            Self::Other(error) => json!({ "name": "failed", "message": format!("{error:#}") }),
        }
    }
}

/// An error of a node for programs.
pub(crate) fn request_error(error: &RequestError) -> Value {
    let code = error.code();
    json!({
        "code": code.id,
        "name": code.name,
        "effect": error.effect().name(),
        "retryable": error.is_retryable(),
        "message": error.to_string(),
    })
}

/// An error of a node for people: its code and what it did to the data come along.
pub(crate) fn request_error_line(error: &RequestError) -> String {
    let code = error.code();
    format!("{error} [{} {}, {}]", code.id, code.name, error.effect().name())
}

impl Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Request(error) => f.write_str(&request_error_line(error)),
            Self::No(message)
            | Self::Unreachable(message)
            | Self::Unknown(message)
            | Self::Undecided(message)
            | Self::Partial(message) => f.write_str(message),
            Self::Quiet => Ok(()),
            Self::Other(error) => write!(f, "{error:#}"),
        }
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl From<RequestError> for Failure {
    fn from(error: RequestError) -> Self {
        Self::Request(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Quiet,
            _ => Self::Other(error.into()),
        }
    }
}
