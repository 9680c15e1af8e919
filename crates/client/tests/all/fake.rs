//! A node's gRPC door whose answers are scripted.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use meridian_client::{Client, ClientOptions, ConsistencyLevel, Outcome, Request, RequestError};
use meridian_types::Millis;
use meridian_wire::client::{Defaults, IntoRequest, Malformed, SESSION, status_of};
use meridian_wire::v1;
use meridian_wire::v1::admin_server::{Admin, AdminServer};
use meridian_wire::v1::kv_server::{Kv, KvServer};
use tokio::net::{TcpListener, TcpSocket};
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::{Response, Status};

/// What a node does with a request.
pub(crate) enum Answer {
    Is(Result<Outcome, RequestError>),
    Status(Status),
    /// None, ever.
    Silence,
}

impl From<Outcome> for Answer {
    fn from(outcome: Outcome) -> Self {
        Self::Is(Ok(outcome))
    }
}

impl From<RequestError> for Answer {
    fn from(error: RequestError) -> Self {
        Self::Is(Err(error))
    }
}

type Script = Box<dyn FnMut(&Request) -> Answer + Send>;

/// What a node was asked, and with which metadata.
pub(crate) type Asked = (Request, MetadataMap);

/// A running node. Dropped, it is gone with its connections.
pub(crate) struct Node {
    pub(crate) addr: SocketAddr,
    asked: Arc<Mutex<Vec<Asked>>>,
    /// A runtime of its own, because the server's connections outlive its task.
    runtime: Option<Runtime>,
}

impl Node {
    pub(crate) async fn start(script: impl FnMut(&Request) -> Answer + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let desk = Desk { script: Arc::new(Mutex::new(Box::new(script))), asked: Arc::default() };
        let asked = Arc::clone(&desk.asked);
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).enable_all().build().unwrap();
        let listener = listener.into_std().unwrap();
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(KvServer::new(desk.clone()))
                .add_service(AdminServer::new(desk))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        Self { addr, asked, runtime: Some(runtime) }
    }

    /// Answers one after the other.
    pub(crate) async fn with(answers: Vec<Answer>) -> Self {
        let mut answers = answers.into_iter();
        Self::start(move |_| answers.next().expect("asked more often than expected")).await
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// An address where nobody listens, and nobody else will as long as this lives.
pub(crate) struct Nobody {
    pub(crate) addr: SocketAddr,
    _socket: TcpSocket,
}

pub(crate) fn nobody() -> Nobody {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    Nobody { addr: socket.local_addr().unwrap(), _socket: socket }
}

pub(crate) fn options<'a>(nodes: impl IntoIterator<Item = &'a SocketAddr>) -> ClientOptions {
    ClientOptions::new(nodes.into_iter().map(ToString::to_string))
}

pub(crate) async fn client(nodes: &[&Node]) -> Client {
    Client::connect(options(nodes.iter().map(|node| &node.addr))).await.unwrap()
}

#[derive(Clone)]
struct Desk {
    script: Arc<Mutex<Script>>,
    asked: Arc<Mutex<Vec<Asked>>>,
}

const DEFAULTS: Defaults =
    Defaults { consistency: ConsistencyLevel::One, page_rows: 10, now: Millis(1_000) };

impl Desk {
    async fn answer<A: TryFrom<Outcome, Error = Malformed>>(
        &self,
        metadata: MetadataMap,
        request: Result<Request, RequestError>,
    ) -> Result<Response<A>, Status> {
        let request = request.map_err(|error| status_of(&error))?;
        let answer = (self.script.lock().unwrap())(&request);
        let token = {
            let mut asked = self.asked.lock().unwrap();
            let token = next_token(asked.len() + 1, &metadata);
            asked.push((request, metadata));
            token
        };
        match answer {
            Answer::Is(Ok(outcome)) => {
                let mut response = Response::new(A::try_from(outcome).unwrap());
                if let Some(token) = token {
                    let token = BinaryMetadataValue::from_bytes(token.as_bytes());
                    response.metadata_mut().insert_bin(SESSION, token);
                }
                Ok(response)
            }
            Answer::Is(Err(error)) => Err(status_of(&error)),
            Answer::Status(status) => Err(status),
            Answer::Silence => std::future::pending().await,
        }
    }
}

/// Of a request in a session: its number, and the tokens that came with it.
fn next_token(number: usize, metadata: &MetadataMap) -> Option<String> {
    let tokens = metadata.get_all_bin(SESSION).iter();
    let tokens = tokens.map(|token| String::from_utf8(token.to_bytes().unwrap().to_vec()).unwrap());
    let tokens: Vec<_> = tokens.collect();
    (!tokens.is_empty()).then(|| format!("{number}({})", tokens.join(",")))
}

macro_rules! service {
    ($service:ident { $($method:ident($message:ident) -> $answer:ident by $into:ident;)* }) => {
        #[tonic::async_trait]
        impl $service for Desk {
            $(async fn $method(
                &self,
                request: tonic::Request<v1::$message>,
            ) -> Result<Response<v1::$answer>, Status> {
                let (metadata, _, message) = request.into_parts();
                self.answer(metadata, message.$into(&DEFAULTS)).await
            })*
        }
    };
}

service! {
    Kv {
        get(GetRequest) -> GetResponse by into_request;
        put(PutRequest) -> WriteResponse by into_request;
        delete(DeleteRequest) -> WriteResponse by into_request;
        touch(TouchRequest) -> TouchResponse by into_request;
        multi_get(MultiGetRequest) -> MultiGetResponse by into_request;
        batch(BatchRequest) -> BatchResponse by into_request;
        atomic_batch(AtomicBatchRequest) -> BatchResponse by into_request;
        scan(ScanRequest) -> ScanResponse by into_request;
        replicas(GetRequest) -> ReplicasResponse by into_replicas_request;
    }
}

service! {
    Admin {
        create_keyspace(CreateKeyspaceRequest) -> CreatedResponse by into_request;
        create_table(CreateTableRequest) -> CreatedResponse by into_request;
        describe_table(DescribeTableRequest) -> TableView by into_request;
        list_tables(ListTablesRequest) -> ListTablesResponse by into_request;
        cluster(ClusterRequest) -> ClusterView by into_request;
        accept_loss(AcceptLossRequest) -> AcceptLossResponse by into_request;
    }
}
