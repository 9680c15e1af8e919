//! What a connection has chosen.

use meridian_types::{ConsistencyLevel, TableName, TableNameError};

use super::reply::Protocol;
use crate::DoorsOptions;

/// Numbered databases, as many as Redis has by default.
pub(super) const DATABASES: u8 = 16;

/// Which answers are sent, as `CLIENT REPLY` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answers {
    /// All.
    #[default]
    On,
    /// None.
    Off,
    /// Not the next one.
    SkipNext,
}

/// One connection's choices. Commands take from it what they need when they are understood, so a
/// later change does not touch those that run.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// As `CLIENT ID` shows it.
    pub(super) id: u64,
    /// As `CLIENT SETNAME` gave it.
    pub(super) name: String,
    /// The table that commands are about.
    pub(super) table: TableName,
    /// Its number, where it is a numbered database.
    pub(super) database: Option<u8>,
    /// The level of reads and writes.
    pub(super) level: ConsistencyLevel,
    /// The dialect.
    pub(super) protocol: Protocol,
    /// Whether the password was shown, or none is needed.
    pub(super) authenticated: bool,
    /// Which answers are sent.
    pub(super) answers: Answers,
}

impl Session {
    pub(super) fn new(id: u64, options: &DoorsOptions) -> Result<Self, TableNameError> {
        Ok(Self {
            id,
            name: String::new(),
            table: database(options, 0)?,
            database: Some(0),
            level: options.default_consistency,
            protocol: Protocol::Resp2,
            authenticated: options.password.is_none(),
            answers: Answers::On,
        })
    }
}

/// The table of a numbered database.
pub(super) fn database(options: &DoorsOptions, number: u8) -> Result<TableName, TableNameError> {
    TableName::new(&options.resp_keyspace, &format!("db{number}"))
}
