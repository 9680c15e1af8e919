//! REST, as a script would use it.

use serde_json::{Value, json};

use super::*;

fn percent(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("%{b:02X}")).collect()
}

fn in_json(bytes: &[u8]) -> Value {
    use base64::Engine;
    match std::str::from_utf8(bytes) {
        Ok(text) => json!(text),
        Err(_) => {
            json!({ "base64": base64::engine::general_purpose::STANDARD.encode(bytes) })
        }
    }
}

fn from_json(value: &Value) -> Vec<u8> {
    use base64::Engine;
    match value {
        Value::String(text) => text.clone().into_bytes(),
        other => {
            let text = other["base64"].as_str().unwrap();
            base64::engine::general_purpose::STANDARD.decode(text).unwrap()
        }
    }
}

/// What a client would write: method, path behind the table, query, headers, body.
#[allow(clippy::too_many_lines, reason = "one arm for each request, all of one shape")]
pub(super) async fn run(at: std::net::SocketAddr, request: &Request, json: bool) -> Answer {
    let level = format!("consistency={}", LEVEL.name());
    let place = |key: &[u8]| format!("/v1/kv/geo/cities/{}?{level}", percent(key));
    let accept: &[(&str, &str)] = if json { &[("accept", "application/json")] } else { &[] };
    let post = async |verb: &str, body: Value| {
        let path = format!("/v1/kv/geo/cities:{verb}?{level}");
        ask(at, "POST", &path, &[], body.to_string().as_bytes()).await
    };
    match request {
        Request::Get(get) => ask(at, "GET", &place(&get.key), accept, b"").await,
        Request::Replicas(get) => {
            let path = place(&get.key).replace("/v1/kv", "/v1/replicas");
            ask(at, "GET", &path, &[], b"").await
        }
        Request::Put(put) => {
            let mut path = place(&put.item.key);
            match put.item.expiry {
                Expiry::TableDefault => {}
                Expiry::Never => path.push_str("&ttl=never"),
                Expiry::Keep => path.push_str("&ttl=keep"),
                Expiry::At(at) => path.push_str(&format!("&expires={}", at.0)),
            }
            let condition: &[_] = match put.condition {
                None => &[],
                Some(Condition::Absent) => &[("if-none-match", "*")],
                Some(Condition::Present) => &[("if-match", "*")],
            };
            ask(at, "PUT", &path, condition, put.item.value.as_ref().unwrap()).await
        }
        Request::Delete(delete) => ask(at, "DELETE", &place(&delete.key), &[], b"").await,
        Request::Touch(touch) => {
            let mut body = json!({ "key": in_json(&touch.key) });
            if let Expiry::At(at) = touch.expiry {
                body["expires"] = json!(at.0);
            }
            post("touch", body).await
        }
        Request::MultiGet(get) => {
            let keys: Vec<_> = get.keys.iter().map(|key| in_json(key)).collect();
            post("mget", json!({ "keys": keys })).await
        }
        Request::Batch(batch) => {
            let item = |item: &PutItem| {
                let value = item.value.as_ref().map(|value| in_json(value));
                json!({ "key": in_json(&item.key), "value": value })
            };
            let items: Vec<_> = batch.items.iter().map(item).collect();
            post("batch", json!({ "items": items })).await
        }
        Request::AtomicBatch(batch) => {
            let item = |write: &TableWrite| {
                let value = write.item.value.as_ref().map(|value| in_json(value));
                let (table, key) = (write.table.table(), in_json(&write.item.key));
                json!({ "table": table, "key": key, "value": value })
            };
            let items: Vec<_> = batch.writes.iter().map(item).collect();
            post("batch", json!({ "items": items, "atomic": true })).await
        }
        Request::Scan(scan) => {
            use base64::Engine;
            let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
            let mut path = format!("/v1/kv/geo/cities?{level}&limit=17&prefix=pre");
            if let Some(cursor) = &scan.cursor {
                path.push_str(&format!("&cursor={}", engine.encode(cursor)));
            }
            ask(at, "GET", &path, &[], b"").await
        }
        Request::CreateKeyspace(create) => {
            let body = json!({
                "name": create.name,
                "replication": create.replication,
                "if_not_exists": create.if_not_exists,
            });
            ask(at, "POST", "/v1/keyspaces", &[], body.to_string().as_bytes()).await
        }
        Request::CreateTable(create) => {
            let body = json!({ "name": create.name, "options": create.options });
            ask(at, "POST", "/v1/tables", &[], body.to_string().as_bytes()).await
        }
        Request::DescribeTable(name) => {
            ask(at, "GET", &format!("/v1/tables/{name}"), &[], b"").await
        }
        Request::ListTables => ask(at, "GET", "/v1/tables", &[], b"").await,
        Request::Cluster => ask(at, "GET", "/v1/cluster", &[], b"").await,
        Request::AcceptLoss(accept) => {
            let vnodes: Vec<u32> = accept.vnodes.iter().map(|vnode| vnode.0).collect();
            let AcceptLoss { node, keyspace, .. } = accept;
            let body = json!({ "node": node, "keyspace": keyspace, "vnodes": vnodes });
            ask(at, "POST", "/v1/repair/accept-loss", &[], body.to_string().as_bytes()).await
        }
        Request::InSession(_) => panic!("sessions have a list of their own"),
    }
}

fn problem(value: &Value) -> Seen {
    let text = |field: &str| value[field].as_str().unwrap().to_owned();
    Seen::Error { code: text("code"), effect: text("effect") }
}

fn envelope(value: &Value) -> Seen {
    let values = value["values"].as_array().unwrap();
    Seen::Values(values.iter().map(|v| from_json(&v["value"])).collect())
}

/// The parts of `300 Multiple Choices`.
fn parts(answer: &Answer) -> Seen {
    let kind = answer.header("content-type").unwrap();
    let boundary = format!("--{}", kind.split_once("boundary=").unwrap().1);
    let mut values = Vec::new();
    let mut rest = answer.body.as_slice();
    let find = |rest: &[u8], what: &[u8]| rest.windows(what.len()).position(|w| w == what);
    while let Some(at) = find(rest, boundary.as_bytes()) {
        rest = &rest[at + boundary.len()..];
        let Some(head) = find(rest, b"\r\n\r\n") else { break };
        let end = find(rest, format!("\r\n{boundary}").as_bytes()).unwrap();
        values.push(rest[head + 4..end].to_vec());
    }
    Seen::Values(values)
}

fn refused(request: &Request, answer: &Answer) -> Seen {
    let body = answer.json();
    assert_eq!(body["status"], answer.status, "the body's status is the line's");
    assert_eq!(answer.header("meridian-error"), body["code"].as_str());
    match (body["code"].as_str().unwrap(), request) {
        ("MER-0006", Request::Get(_)) => {
            assert!(answer.header("meridian-context").is_some(), "also of a deleted key");
            Seen::Values(Vec::new())
        }
        ("MER-0007", Request::Put(_)) => Seen::Written { applied: false },
        _ => problem(&body),
    }
}

pub(super) fn read(request: &Request, answer: &Answer) -> Seen {
    assert!(answer.header("meridian-request-id").is_some());
    let kind = answer.header("content-type").unwrap_or_default();
    if kind == "application/problem+json" {
        return refused(request, answer);
    }
    let many = |one: &dyn Fn(&Value) -> Seen| {
        let body = answer.json();
        let one = |result: &Value| match (&result["ok"], &result["error"]) {
            (Value::Null, error) => problem(error),
            (ok, _) => one(ok),
        };
        Seen::Many(body["results"].as_array().unwrap().iter().map(one).collect())
    };
    match (request, answer.status) {
        (Request::Get(_), 300) => parts(answer),
        (Request::Get(_), 200) if kind == "application/json" => envelope(&answer.json()),
        (Request::Get(_), 200) => {
            assert!(answer.header("etag").is_some());
            assert!(answer.header("meridian-context").is_some());
            Seen::Values(vec![answer.body.clone()])
        }
        (Request::Put(_) | Request::Delete(_), 204) => {
            assert!(answer.header("meridian-context").is_some());
            Seen::Written { applied: true }
        }
        (Request::Touch(_), 200) => {
            Seen::Touched { existed: answer.json()["existed"].as_bool().unwrap() }
        }
        (Request::MultiGet(_), 200) => many(&envelope),
        (Request::Batch(_) | Request::AtomicBatch(_), 200) => {
            many(&|ok| Seen::Written { applied: ok["applied"].as_bool().unwrap() })
        }
        (Request::Scan(_), 200) => {
            let body = answer.json();
            let rows = body["rows"].as_array().unwrap();
            let keys = rows.iter().map(|row| from_json(&row["key"])).collect();
            Seen::Page { keys, more: !body["next"].is_null() }
        }
        (Request::Replicas(_), 200) => {
            Seen::Replicas(answer.json()["replicas"].as_array().unwrap().len())
        }
        (Request::CreateKeyspace(_) | Request::CreateTable(_), 200 | 201) => {
            let new = answer.json()["new"].as_bool().unwrap();
            assert_eq!(new, answer.status == 201);
            Seen::Created { new }
        }
        (Request::DescribeTable(_), 200) => {
            Seen::Table(answer.json()["name"].as_str().unwrap().to_owned())
        }
        (Request::ListTables, 200) => {
            let tables = answer.json()["tables"].as_array().unwrap().len();
            Seen::Tables { keyspaces: 1, tables }
        }
        (Request::AcceptLoss(_), 200) => {
            Seen::LossAccepted(answer.json()["vnodes"].as_u64().unwrap())
        }
        (Request::Cluster, 200) => {
            Seen::Cluster(answer.json()["name"].as_str().unwrap().to_owned())
        }
        other => panic!("{other:?}: {answer:?}"),
    }
}
