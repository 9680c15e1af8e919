//! One request to one node.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use meridian_service::{Effect, InSession, Outcome, Request, SessionOutcome};
use meridian_types::RequestId;
use meridian_wire::client::{Malformed, REQUEST_ID, SESSION, error_of};
use meridian_wire::v1::admin_client::AdminClient;
use meridian_wire::v1::kv_client::KvClient;
use meridian_wire::{v1, why};
use tonic::metadata::{Ascii, BinaryMetadataValue, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::ClientError;
use crate::retry::writes;

/// What a failed call brought.
pub(crate) enum Failure {
    Status(Status),
    Malformed(Malformed),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        Self::Malformed(malformed)
    }
}

/// What goes with the request.
pub(crate) struct Envelope<'a> {
    pub(crate) id: RequestId,
    pub(crate) timeout: Duration,
    pub(crate) authorization: Option<&'a MetadataValue<Ascii>>,
    pub(crate) answer_bytes: usize,
    pub(crate) session: Option<&'a SessionCall>,
}

/// A session while one of its requests is asked.
pub(crate) struct SessionCall {
    tokens: Vec<Bytes>,
    /// The one that came with the answer.
    token: Mutex<Option<Bytes>>,
}

impl Envelope<'_> {
    fn around<M>(&self, message: impl Into<M>) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message.into());
        request.set_timeout(self.timeout);
        if let Ok(id) = self.id.to_string().parse() {
            request.metadata_mut().insert(REQUEST_ID, id);
        }
        if let Some(authorization) = self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        if let Some(session) = self.session {
            let mut add = |token: &[u8]| {
                request.metadata_mut().append_bin(SESSION, BinaryMetadataValue::from_bytes(token))
            };
            if session.tokens.is_empty() {
                add(b"");
            }
            session.tokens.iter().for_each(|token| {
                add(token);
            });
        }
        request
    }

    /// What is answered; the session's token is kept.
    fn answered<M>(&self, response: tonic::Response<M>) -> M {
        if let Some(session) = self.session {
            let token =
                response.metadata().get_bin(SESSION).and_then(|value| value.to_bytes().ok());
            *session.token.lock().unwrap_or_else(PoisonError::into_inner) = token;
        }
        response.into_inner()
    }

    /// Asks a node, as part of a session where the request is.
    pub(crate) async fn ask(&self, channel: Channel, request: Request) -> Result<Outcome, Failure> {
        let Request::InSession(InSession { tokens, request }) = request else {
            return self.ask_one(channel, request).await;
        };
        let session = SessionCall { tokens, token: Mutex::default() };
        let inside = Envelope { session: Some(&session), ..*self };
        let outcome = Box::new(inside.ask_one(channel, *request).await?);
        match session.token.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(token) => Ok(Outcome::InSession(SessionOutcome { token, outcome })),
            None => Err(Failure::Malformed(Malformed { what: "session" })),
        }
    }

    async fn ask_one(&self, channel: Channel, request: Request) -> Result<Outcome, Failure> {
        match request {
            Request::Get(_)
            | Request::Put(_)
            | Request::Delete(_)
            | Request::Touch(_)
            | Request::MultiGet(_)
            | Request::Batch(_)
            | Request::AtomicBatch(_)
            | Request::Scan(_)
            | Request::Replicas(_) => self.ask_kv(channel, request).await,
            other => self.ask_admin(channel, other).await,
        }
    }

    async fn ask_kv(&self, channel: Channel, request: Request) -> Result<Outcome, Failure> {
        let mut kv = KvClient::new(channel)
            .max_decoding_message_size(self.answer_bytes)
            .max_encoding_message_size(usize::MAX);
        Ok(match request {
            Request::Get(get) => {
                Outcome::Got(self.answered(kv.get(self.around(get)).await?).into())
            }
            Request::Put(put) => {
                Outcome::Put(self.answered(kv.put(self.around(put)).await?).into())
            }
            Request::Delete(delete) => {
                Outcome::Put(self.answered(kv.delete(self.around(delete)).await?).into())
            }
            Request::Touch(touch) => {
                Outcome::Touched(self.answered(kv.touch(self.around(touch)).await?).into())
            }
            Request::MultiGet(get) => {
                Outcome::MultiGot(self.answered(kv.multi_get(self.around(get)).await?).try_into()?)
            }
            Request::Batch(batch) => {
                Outcome::Batch(self.answered(kv.batch(self.around(batch)).await?).try_into()?)
            }
            Request::AtomicBatch(batch) => {
                let answer = kv.atomic_batch(self.around(batch)).await?;
                Outcome::Batch(answer.into_inner().try_into()?)
            }
            Request::Scan(scan) => {
                Outcome::Page(self.answered(kv.scan(self.around(scan)).await?).into())
            }
            Request::Replicas(get) => {
                Outcome::Replicas(self.answered(kv.replicas(self.around(get)).await?).try_into()?)
            }
            _ => return Err(Failure::Malformed(Malformed { what: "kind of request" })),
        })
    }

    async fn ask_admin(&self, channel: Channel, request: Request) -> Result<Outcome, Failure> {
        let mut admin = AdminClient::new(channel).max_decoding_message_size(self.answer_bytes);
        Ok(match request {
            Request::CreateKeyspace(create) => {
                let created = admin.create_keyspace(self.around(create)).await?;
                Outcome::Created { new: created.into_inner().new }
            }
            Request::CreateTable(create) => {
                let created = admin.create_table(self.around(create)).await?;
                Outcome::Created { new: created.into_inner().new }
            }
            Request::DescribeTable(name) => {
                let describe = v1::DescribeTableRequest { name: name.into() };
                let view = admin.describe_table(self.around(describe)).await?;
                Outcome::Table(view.into_inner().try_into()?)
            }
            Request::ListTables => {
                let list = admin.list_tables(self.around(v1::ListTablesRequest {})).await?;
                list.into_inner().try_into()?
            }
            Request::AcceptLoss(accept) => {
                let accepted = admin.accept_loss(self.around(accept)).await?;
                Outcome::LossAccepted { vnodes: accepted.into_inner().vnodes }
            }
            Request::Cluster => {
                let view = admin.cluster(self.around(v1::ClusterRequest {})).await?;
                Outcome::Cluster(view.into_inner().try_into()?)
            }
            _ => return Err(Failure::Malformed(Malformed { what: "kind of request" })),
        })
    }
}

/// What a failure means to the caller.
pub(crate) fn error_from(failure: Failure, request: &Request, endpoint: &str) -> ClientError {
    let endpoint = endpoint.to_owned();
    let effect = if writes(request) { Effect::Unknown } else { Effect::NotApplied };
    let status = match failure {
        Failure::Malformed(malformed) => {
            return ClientError::Malformed { endpoint, what: malformed.to_string(), effect };
        }
        Failure::Status(status) => status,
    };
    if let Some(error) = error_of(&status) {
        return error.into();
    }
    let why = why(&status);
    match status.code() {
        // What a node's door, or a gRPC library on the way, says before anybody serves the request.
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::InvalidArgument
        | Code::Unimplemented => ClientError::Refused { endpoint, why },
        // An answer over `answer_bytes`.
        Code::OutOfRange => ClientError::Malformed { endpoint, what: why, effect },
        _ => ClientError::NoAnswer { endpoint, why, effect },
    }
}
