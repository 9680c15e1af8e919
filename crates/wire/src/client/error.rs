//! Errors, both ways and whole: what a client decodes is the error that the node had.

use meridian_crdt::{SessionTokenError, TokenError};
use meridian_service::{DcShortfall, DcTally, Effect, RequestError};
use meridian_types::varint::DecodeError;
use meridian_types::{CatalogError, KeyError, TableId, TableNameError};
use prost::Message;

use super::words::intern;
use super::{Malformed, consistency, level_of};
use crate::v1;
use crate::v1::ErrorDetail;
use crate::v1::error_detail as e;
use crate::v1::error_detail::Cause;

/// `google.rpc.Status`, which `grpc-status-details-bin` holds.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
    #[prost(message, repeated, tag = "3")]
    details: Vec<prost_types::Any>,
}

const TYPE_URL: &str = "type.googleapis.com/meridian.v1.ErrorDetail";

/// Longest message of a status, in bytes. It travels in a header, and the error's own detail
/// beside it; both must fit a client's limit for headers (8 KiB with many).
const MAX_STATUS_MESSAGE: usize = 1 << 10;

/// The gRPC status of an error, with the whole error in its details.
#[must_use]
pub fn status_of(error: &RequestError) -> tonic::Status {
    let code = tonic::Code::from_i32(error.code().grpc.into());
    let detail = ErrorDetail::from(error);
    let mut message = detail.message.clone();
    message.truncate(message.floor_char_boundary(MAX_STATUS_MESSAGE));
    let any = prost_types::Any { type_url: TYPE_URL.to_owned(), value: detail.encode_to_vec() };
    let status = RpcStatus { code: code.into(), message: message.clone(), details: vec![any] };
    tonic::Status::with_details(code, message, status.encode_to_vec().into())
}

/// The error that a node put into a status; `None` where the status came from elsewhere: from the
/// transport, or from a node whose errors this version does not know.
#[must_use]
pub fn error_of(status: &tonic::Status) -> Option<RequestError> {
    let outer = RpcStatus::decode(status.details()).ok()?;
    let any = outer.details.into_iter().find(|any| any.type_url == TYPE_URL)?;
    ErrorDetail::decode(any.value.as_slice()).ok()?.try_into().ok()
}

/// Sizes travel as 64 bits, which every platform's `usize` fits into.
fn wide(n: usize) -> u64 {
    n as u64
}

/// Numbers of replicas fit 32 bits by far.
fn narrow(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn size(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

impl From<&RequestError> for ErrorDetail {
    fn from(error: &RequestError) -> Self {
        let code = error.code();
        let effect = match error.effect() {
            Effect::NotApplied => v1::Effect::NotApplied,
            Effect::Unknown => v1::Effect::Unknown,
        };
        Self {
            code: code.id.to_owned(),
            name: code.name.to_owned(),
            effect: effect.into(),
            message: error.to_string(),
            retryable: error.is_retryable(),
            cause: Some(cause_of(error)),
        }
    }
}

fn cause_of(error: &RequestError) -> Cause {
    match error {
        RequestError::InvalidArgument { what, why } => {
            Cause::Argument(e::Argument { what: (*what).to_owned(), why: why.clone() })
        }
        RequestError::Key(key) => Cause::Key((*key).into()),
        RequestError::Context(token) => Cause::Context((*token).into()),
        RequestError::UnknownTable(name) => {
            Cause::UnknownTable(e::UnknownTable { name: name.to_string() })
        }
        RequestError::Catalog(catalog) => Cause::Catalog(catalog.into()),
        RequestError::Level { level, why } => {
            let level = consistency(*level).into();
            Cause::Level(e::LevelRefused { level, why: (*why).to_owned() })
        }
        RequestError::Unavailable { level, missing } => Cause::Unavailable(e::Unavailable {
            level: consistency(*level).into(),
            missing: missing.iter().map(Into::into).collect(),
        }),
        RequestError::Timeout { level, acks, write } => Cause::Timeout(e::Timeout {
            level: consistency(*level).into(),
            acks: acks.iter().map(Into::into).collect(),
            write: *write,
        }),
        RequestError::Failed { level, acks, why, write } => Cause::Failed(e::Failed {
            level: consistency(*level).into(),
            acks: acks.iter().map(Into::into).collect(),
            why: why.clone(),
            write: *write,
        }),
        RequestError::Overloaded { queue, limit } => {
            Cause::Overloaded(e::Overloaded { queue: (*queue).to_owned(), limit: wide(*limit) })
        }
        RequestError::Storage { why, .. } => Cause::Storage(e::Storage { why: why.clone() }),
        RequestError::Siblings { count } => Cause::Siblings(e::Siblings { count: wide(*count) }),
        RequestError::Stopping => Cause::Stopping(e::Stopping {}),
        RequestError::Session(SessionTokenError::Malformed(why)) => {
            Cause::Session(TokenError::Malformed(*why).into())
        }
        RequestError::Session(SessionTokenError::Forged) => {
            Cause::Session(TokenError::Forged.into())
        }
        RequestError::SessionBehind { level } => {
            Cause::SessionBehind(e::SessionBehind { level: consistency(*level).into() })
        }
    }
}

impl TryFrom<ErrorDetail> for RequestError {
    type Error = Malformed;

    fn try_from(detail: ErrorDetail) -> Result<Self, Malformed> {
        let level = |n: i32| level_of(n).ok_or(Malformed { what: "level of an error" });
        Ok(match detail.cause.ok_or(Malformed { what: "cause of an error" })? {
            Cause::Argument(e::Argument { what, why }) => {
                Self::InvalidArgument { what: intern(&what), why }
            }
            Cause::Key(key) => Self::Key(key.try_into()?),
            Cause::Context(token) => Self::Context(token.try_into()?),
            Cause::UnknownTable(e::UnknownTable { name }) => {
                let name = name.parse().ok();
                Self::UnknownTable(name.ok_or(Malformed { what: "table of an error" })?)
            }
            Cause::Catalog(catalog) => Self::Catalog(catalog.try_into()?),
            Cause::Level(refused) => {
                Self::Level { level: level(refused.level)?, why: intern(&refused.why) }
            }
            Cause::Unavailable(unavailable) => Self::Unavailable {
                level: level(unavailable.level)?,
                missing: unavailable.missing.into_iter().map(Into::into).collect(),
            },
            Cause::Timeout(timeout) => Self::Timeout {
                level: level(timeout.level)?,
                acks: timeout.acks.into_iter().map(Into::into).collect(),
                write: timeout.write,
            },
            Cause::Failed(failed) => Self::Failed {
                level: level(failed.level)?,
                acks: failed.acks.into_iter().map(Into::into).collect(),
                why: failed.why,
                write: failed.write,
            },
            Cause::Overloaded(full) => {
                Self::Overloaded { queue: intern(&full.queue), limit: size(full.limit) }
            }
            Cause::Storage(storage) => {
                Self::Storage { why: storage.why, effect: effect_of(detail.effect)? }
            }
            Cause::Siblings(siblings) => Self::Siblings { count: size(siblings.count) },
            Cause::Stopping(e::Stopping {}) => Self::Stopping,
            Cause::Session(refused) => match refused.try_into()? {
                TokenError::Malformed(why) => Self::Session(SessionTokenError::Malformed(why)),
                TokenError::Forged => Self::Session(SessionTokenError::Forged),
                TokenError::OtherTable { .. } | TokenError::OtherKey => {
                    return Err(Malformed { what: "refusal of a session" });
                }
            },
            Cause::SessionBehind(behind) => Self::SessionBehind { level: level(behind.level)? },
        })
    }
}

fn effect_of(number: i32) -> Result<Effect, Malformed> {
    match v1::Effect::try_from(number) {
        Ok(v1::Effect::NotApplied) => Ok(Effect::NotApplied),
        Ok(v1::Effect::Unknown) => Ok(Effect::Unknown),
        _ => Err(Malformed { what: "effect of an error" }),
    }
}

impl From<&DcShortfall> for e::Shortfall {
    fn from(dc: &DcShortfall) -> Self {
        Self {
            datacenter: dc.datacenter.clone(),
            required: narrow(dc.required),
            alive: narrow(dc.alive),
            replicas: narrow(dc.replicas),
        }
    }
}

impl From<e::Shortfall> for DcShortfall {
    fn from(dc: e::Shortfall) -> Self {
        Self {
            datacenter: dc.datacenter,
            required: size(dc.required.into()),
            alive: size(dc.alive.into()),
            replicas: size(dc.replicas.into()),
        }
    }
}

impl From<&DcTally> for e::Tally {
    fn from(dc: &DcTally) -> Self {
        Self {
            datacenter: dc.datacenter.clone(),
            acked: narrow(dc.acked),
            required: narrow(dc.required),
            replicas: narrow(dc.replicas),
        }
    }
}

impl From<e::Tally> for DcTally {
    fn from(dc: e::Tally) -> Self {
        Self {
            datacenter: dc.datacenter,
            acked: size(dc.acked.into()),
            required: size(dc.required.into()),
            replicas: size(dc.replicas.into()),
        }
    }
}

impl From<KeyError> for e::KeyRefused {
    fn from(error: KeyError) -> Self {
        use e::key_refused::Kind;
        let (kind, bytes, limit) = match error {
            KeyError::EmptyKey => (Kind::EmptyKey, 0, 0),
            KeyError::KeyTooLarge { bytes, limit } => (Kind::KeyTooLarge, bytes, limit),
            KeyError::ValueTooLarge { bytes, limit } => (Kind::ValueTooLarge, bytes, limit),
        };
        Self { kind: kind.into(), bytes: wide(bytes), limit: wide(limit) }
    }
}

impl TryFrom<e::KeyRefused> for KeyError {
    type Error = Malformed;

    fn try_from(refused: e::KeyRefused) -> Result<Self, Malformed> {
        use e::key_refused::Kind;
        let (bytes, limit) = (size(refused.bytes), size(refused.limit));
        match refused.kind() {
            Kind::EmptyKey => Ok(Self::EmptyKey),
            Kind::KeyTooLarge => Ok(Self::KeyTooLarge { bytes, limit }),
            Kind::ValueTooLarge => Ok(Self::ValueTooLarge { bytes, limit }),
            Kind::Unspecified => Err(Malformed { what: "refusal of a key" }),
        }
    }
}

impl From<TokenError> for e::ContextRefused {
    fn from(error: TokenError) -> Self {
        use e::context_refused::Kind;
        let damaged = |kind: Kind, field: &str, at: usize, number: u64| Self {
            kind: kind.into(),
            field: field.to_owned(),
            at: wide(at),
            number,
            ..Self::default()
        };
        match error {
            TokenError::Malformed(DecodeError::Truncated { at, what }) => {
                damaged(Kind::Truncated, what, at, 0)
            }
            TokenError::Malformed(DecodeError::Invalid { at, what }) => {
                damaged(Kind::Invalid, what, at, 0)
            }
            TokenError::Malformed(DecodeError::Trailing { at, left }) => {
                damaged(Kind::Trailing, "", at, wide(left))
            }
            TokenError::Malformed(DecodeError::UnknownVersion { what, version }) => {
                damaged(Kind::UnknownVersion, what, 0, version.into())
            }
            TokenError::OtherTable { given, asked } => Self {
                kind: Kind::OtherTable.into(),
                given_table: given.0,
                asked_table: asked.0,
                ..Self::default()
            },
            TokenError::OtherKey => damaged(Kind::OtherKey, "", 0, 0),
            TokenError::Forged => damaged(Kind::Forged, "", 0, 0),
        }
    }
}

impl TryFrom<e::ContextRefused> for TokenError {
    type Error = Malformed;

    fn try_from(refused: e::ContextRefused) -> Result<Self, Malformed> {
        use e::context_refused::Kind;
        let malformed = Malformed { what: "refusal of a context" };
        let (at, what) = (size(refused.at), intern(&refused.field));
        Ok(match refused.kind() {
            Kind::Truncated => DecodeError::Truncated { at, what }.into(),
            Kind::Invalid => DecodeError::Invalid { at, what }.into(),
            Kind::Trailing => DecodeError::Trailing { at, left: size(refused.number) }.into(),
            Kind::UnknownVersion => {
                let version = u8::try_from(refused.number).ok().ok_or(malformed)?;
                DecodeError::UnknownVersion { what, version }.into()
            }
            Kind::OtherTable => Self::OtherTable {
                given: TableId(refused.given_table),
                asked: TableId(refused.asked_table),
            },
            Kind::OtherKey => Self::OtherKey,
            Kind::Forged => Self::Forged,
            Kind::Unspecified => return Err(malformed),
        })
    }
}

impl From<&CatalogError> for e::CatalogRefused {
    fn from(error: &CatalogError) -> Self {
        use e::catalog_refused::Kind;
        let refused = |kind: Kind, given: &str, which: &str, allowed: &str| Self {
            kind: kind.into(),
            given: given.to_owned(),
            which: which.to_owned(),
            allowed: allowed.to_owned(),
        };
        match error {
            CatalogError::Exists(name) => refused(Kind::Exists, name, "", ""),
            CatalogError::NoKeyspace(name) => refused(Kind::NoKeyspace, name, "", ""),
            CatalogError::NoReplicas(name) => refused(Kind::NoReplicas, name, "", ""),
            CatalogError::NoRoom(name) => refused(Kind::NoRoom, name, "", ""),
            CatalogError::SameId { name, holder } => refused(Kind::SameId, name, holder, ""),
            CatalogError::Inconsistent(name) => refused(Kind::Inconsistent, name, "", ""),
            CatalogError::Name(TableNameError::NoKeyspace(name)) => {
                refused(Kind::NameWithoutKeyspace, name, "", "")
            }
            CatalogError::Name(TableNameError::BadPart { which, part }) => {
                refused(Kind::BadName, part, which, "")
            }
            CatalogError::UnknownOption { option, given, allowed } => {
                refused(Kind::UnknownOption, given, option, allowed)
            }
        }
    }
}

impl TryFrom<e::CatalogRefused> for CatalogError {
    type Error = Malformed;

    fn try_from(refused: e::CatalogRefused) -> Result<Self, Malformed> {
        use e::catalog_refused::Kind;
        let kind = refused.kind();
        let e::CatalogRefused { given, which, allowed, .. } = refused;
        Ok(match kind {
            Kind::Exists => Self::Exists(given),
            Kind::NoKeyspace => Self::NoKeyspace(given),
            Kind::NoReplicas => Self::NoReplicas(given),
            Kind::NoRoom => Self::NoRoom(given),
            Kind::SameId => Self::SameId { name: given, holder: which },
            Kind::Inconsistent => Self::Inconsistent(given),
            Kind::NameWithoutKeyspace => Self::Name(TableNameError::NoKeyspace(given)),
            Kind::BadName => {
                Self::Name(TableNameError::BadPart { which: intern(&which), part: given })
            }
            Kind::UnknownOption => {
                Self::UnknownOption { option: intern(&which), given, allowed: intern(&allowed) }
            }
            Kind::Unspecified => return Err(Malformed { what: "refusal of the catalog" }),
        })
    }
}
