//! The methods, each the same way: message, request, outcome, message.

use meridian_service::{Outcome, Request as ServiceRequest, RequestError, Service};
use meridian_types::RequestId;
use meridian_wire::client::{IntoRequest, Malformed, REQUEST_ID, SESSION, status_of};
use meridian_wire::v1;
use meridian_wire::v1::admin_server::Admin;
use meridian_wire::v1::kv_server::Kv;
use tonic::metadata::BinaryMetadataValue;
use tonic::{Request, Response, Status};

use super::{Desk, request_id, session, timeout};
use crate::codes;
use crate::front::{apart, in_session};

impl<S: Service> Desk<S> {
    async fn serve<M, A>(
        &self,
        request: Request<M>,
        understand: impl FnOnce(M) -> Result<ServiceRequest, RequestError>,
    ) -> Result<Response<A>, Status>
    where
        A: TryFrom<Outcome, Error = Malformed>,
    {
        let (id, timeout) = (request_id(request.metadata())?, timeout(request.metadata())?);
        let session = session(request.metadata())?;
        let context = self.front.context(id, timeout);
        let understood = understand(request.into_inner());
        let result = match understood {
            Ok(request) => self.front.call_to_the_end(context, in_session(session, request)).await,
            Err(refused) => Err(refused),
        };
        let outcome = result.map_err(|error| with_id(status_of(&error), context.id))?;
        let (outcome, token) = apart(outcome);
        let answer = A::try_from(outcome).map_err(|why| {
            let text = format!("{} unknown: {why}", codes::BUG.id);
            with_id(Status::internal(text), context.id)
        })?;
        let mut response = Response::new(answer);
        if let Ok(value) = context.id.to_string().parse() {
            response.metadata_mut().insert(REQUEST_ID, value);
        }
        if let Some(token) = token {
            let token = BinaryMetadataValue::from_bytes(&token);
            response.metadata_mut().insert_bin(SESSION, token);
        }
        Ok(response)
    }

    async fn ask<M, A>(&self, request: Request<M>) -> Result<Response<A>, Status>
    where
        M: IntoRequest,
        A: TryFrom<Outcome, Error = Malformed>,
    {
        let defaults = self.defaults();
        self.serve(request, |message| message.into_request(&defaults)).await
    }
}

fn with_id(mut status: Status, id: RequestId) -> Status {
    if let Ok(value) = id.to_string().parse() {
        status.metadata_mut().insert(REQUEST_ID, value);
    }
    status
}

type Answer<A> = Result<Response<A>, Status>;

#[tonic::async_trait]
impl<S: Service> Kv for Desk<S> {
    async fn get(&self, request: Request<v1::GetRequest>) -> Answer<v1::GetResponse> {
        self.ask(request).await
    }

    async fn put(&self, request: Request<v1::PutRequest>) -> Answer<v1::WriteResponse> {
        self.ask(request).await
    }

    async fn delete(&self, request: Request<v1::DeleteRequest>) -> Answer<v1::WriteResponse> {
        self.ask(request).await
    }

    async fn touch(&self, request: Request<v1::TouchRequest>) -> Answer<v1::TouchResponse> {
        self.ask(request).await
    }

    async fn multi_get(
        &self,
        request: Request<v1::MultiGetRequest>,
    ) -> Answer<v1::MultiGetResponse> {
        self.ask(request).await
    }

    async fn batch(&self, request: Request<v1::BatchRequest>) -> Answer<v1::BatchResponse> {
        self.ask(request).await
    }

    async fn atomic_batch(
        &self,
        request: Request<v1::AtomicBatchRequest>,
    ) -> Answer<v1::BatchResponse> {
        self.ask(request).await
    }

    async fn scan(&self, request: Request<v1::ScanRequest>) -> Answer<v1::ScanResponse> {
        self.ask(request).await
    }

    async fn replicas(&self, request: Request<v1::GetRequest>) -> Answer<v1::ReplicasResponse> {
        let defaults = self.defaults();
        self.serve(request, |message| message.into_replicas_request(&defaults)).await
    }
}

#[tonic::async_trait]
impl<S: Service> Admin for Desk<S> {
    async fn accept_loss(
        &self,
        request: Request<v1::AcceptLossRequest>,
    ) -> Answer<v1::AcceptLossResponse> {
        self.ask(request).await
    }

    async fn create_keyspace(
        &self,
        request: Request<v1::CreateKeyspaceRequest>,
    ) -> Answer<v1::CreatedResponse> {
        self.ask(request).await
    }

    async fn create_table(
        &self,
        request: Request<v1::CreateTableRequest>,
    ) -> Answer<v1::CreatedResponse> {
        self.ask(request).await
    }

    async fn describe_table(
        &self,
        request: Request<v1::DescribeTableRequest>,
    ) -> Answer<v1::TableView> {
        self.ask(request).await
    }

    async fn list_tables(
        &self,
        request: Request<v1::ListTablesRequest>,
    ) -> Answer<v1::ListTablesResponse> {
        self.ask(request).await
    }

    async fn cluster(&self, request: Request<v1::ClusterRequest>) -> Answer<v1::ClusterView> {
        self.ask(request).await
    }
}
