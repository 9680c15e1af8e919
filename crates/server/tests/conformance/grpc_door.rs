//! gRPC, which loses nothing.

use super::*;

type Channel = tonic::transport::Channel;
type Kv = v1::kv_client::KvClient<Channel>;
type Admin = v1::admin_client::AdminClient<Channel>;

fn outcome<M>(
    result: Result<tonic::Response<M>, tonic::Status>,
    read: impl FnOnce(M) -> Outcome,
) -> Scripted {
    match result {
        Ok(response) => {
            assert!(response.metadata().contains_key("meridian-request-id"));
            Ok(read(response.into_inner()))
        }
        Err(status) => Err(error_of(&status).expect("a whole error")),
    }
}

/// gRPC loses nothing: the outcome is the script's.
pub(super) async fn run(kv: &mut Kv, admin: &mut Admin, request: Request) -> Scripted {
    match request {
        Request::Get(get) => {
            let message = v1::GetRequest::from(Get { with_context: true, ..get });
            outcome(kv.get(message).await, |m| Outcome::Got(m.into()))
        }
        Request::Replicas(get) => {
            let message = v1::GetRequest::from(get);
            outcome(kv.replicas(message).await, |m| Outcome::Replicas(m.try_into().unwrap()))
        }
        Request::Put(put) => {
            let message = v1::PutRequest::from(put);
            outcome(kv.put(message).await, |m| Outcome::Put(m.into()))
        }
        Request::Delete(delete) => {
            let message = v1::DeleteRequest::from(delete);
            outcome(kv.delete(message).await, |m| Outcome::Put(m.into()))
        }
        Request::Touch(touch) => {
            let message = v1::TouchRequest::from(touch);
            outcome(kv.touch(message).await, |m| Outcome::Touched(m.into()))
        }
        Request::MultiGet(get) => {
            let message = v1::MultiGetRequest::from(get);
            outcome(kv.multi_get(message).await, |m| Outcome::MultiGot(m.try_into().unwrap()))
        }
        Request::Batch(batch) => {
            let message = v1::BatchRequest::from(batch);
            outcome(kv.batch(message).await, |m| Outcome::Batch(m.try_into().unwrap()))
        }
        Request::AtomicBatch(batch) => {
            let message = v1::AtomicBatchRequest::from(batch);
            let answer = kv.atomic_batch(message).await;
            outcome(answer, |m| Outcome::Batch(m.try_into().unwrap()))
        }
        Request::Scan(scan) => {
            let message = v1::ScanRequest::from(scan);
            outcome(kv.scan(message).await, |m| Outcome::Page(m.into()))
        }
        other => run_admin(admin, other).await,
    }
}

async fn run_admin(admin: &mut Admin, request: Request) -> Scripted {
    let created = |m: v1::CreatedResponse| Outcome::Created { new: m.new };
    match request {
        Request::CreateKeyspace(create) => {
            let message = v1::CreateKeyspaceRequest::from(create);
            outcome(admin.create_keyspace(message).await, created)
        }
        Request::CreateTable(create) => {
            let message = v1::CreateTableRequest::from(create);
            outcome(admin.create_table(message).await, created)
        }
        Request::DescribeTable(name) => {
            let message = v1::DescribeTableRequest { name: name.into() };
            let result = admin.describe_table(message).await;
            outcome(result, |m| Outcome::Table(m.try_into().unwrap()))
        }
        Request::ListTables => {
            let result = admin.list_tables(v1::ListTablesRequest {}).await;
            outcome(result, |m| m.try_into().unwrap())
        }
        Request::AcceptLoss(accept) => {
            let result = admin.accept_loss(v1::AcceptLossRequest::from(accept)).await;
            outcome(result, |m| Outcome::LossAccepted { vnodes: m.vnodes })
        }
        Request::Cluster => {
            let result = admin.cluster(v1::ClusterRequest {}).await;
            outcome(result, |m| Outcome::Cluster(m.try_into().unwrap()))
        }
        other => panic!("{other:?} has no method"),
    }
}
