//! Why a command was refused, in Redis's words where Redis has them.

use meridian_service::{Effect, RequestError};

use super::reply::Reply;
use crate::codes;

/// A command that was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CommandError {
    /// The options do not fit together.
    #[error("ERR syntax error")]
    Syntax,
    /// A number was expected.
    #[error("ERR value is not an integer or out of range")]
    NotANumber,
    /// An expiry that is zero, negative or too large.
    #[error("ERR invalid expire time in '{0}' command")]
    Expiry(&'static str),
    /// Too few or too many arguments.
    #[error("ERR wrong number of arguments for '{0}' command")]
    Arity(String),
    /// No such command.
    #[error("ERR unknown command '{name}', with args beginning with: {args}")]
    Unknown {
        /// As it was given, cut to 128 bytes.
        name: String,
        /// The first arguments, each quoted.
        args: String,
    },
    /// No such part of a command.
    #[error("ERR unknown subcommand '{subcommand}'. Try {command} HELP.")]
    UnknownPart {
        /// The command.
        command: &'static str,
        /// As it was given.
        subcommand: String,
    },
    /// The connection has not shown the password.
    #[error("NOAUTH Authentication required.")]
    NoAuth,
    /// `HELLO` before the password was shown.
    #[error(
        "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO \
         <proto> AUTH <user> <pass> option can be used to authenticate the client and select the \
         RESP protocol version at the same time"
    )]
    NoAuthHello,
    /// The password is wrong.
    #[error("WRONGPASS invalid username-password pair or user is disabled.")]
    WrongPassword,
    /// There is no password.
    #[error(
        "ERR AUTH <password> called without any password configured for the default user. Are you \
         sure your configuration is correct?"
    )]
    NoPassword,
    /// A dialect that is not spoken.
    #[error("NOPROTO unsupported protocol version")]
    NoProtocol,
    /// Anything else that is wrong with the command.
    #[error("ERR {0}")]
    Refused(String),
    /// From the service: the catalogue's id, what happened to the data, the sentence.
    #[error("{} {} {}: {_0}", _0.code().resp, _0.code().id, _0.effect().name())]
    Request(#[from] RequestError),
    /// Some keys of a command with many failed, the others did not.
    #[error(
        "{} {} {}: {failed} of {of} keys failed, the first: {error}",
        error.code().resp, error.code().id, effect.name()
    )]
    Partly {
        /// The first failure.
        error: RequestError,
        /// What the command as a whole did.
        effect: Effect,
        /// How many keys failed.
        failed: usize,
        /// How many keys there were.
        of: usize,
    },
    /// The service gave another kind of answer.
    #[error("ERR {} unknown: the node answered with another kind of outcome", codes::BUG.id)]
    OtherOutcome,
}

impl From<CommandError> for Reply {
    fn from(error: CommandError) -> Self {
        Self::Error(error.to_string())
    }
}
