//! Waiting until nodes have noticed a cut or a heal: each says on its health page whom it cannot
//! reach.

use std::net::SocketAddr;
use std::time::Duration;

use futures::future::join_all;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::dev::control::Reply;
use crate::dev::health;

/// How long nodes may take to notice: several times what `links.down_after_ms` is by default.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a node is asked.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// A node that is asked about others.
#[derive(Clone, Debug)]
pub(super) struct View {
    pub(super) node: String,
    pub(super) rest: SocketAddr,
    pub(super) others: Vec<String>,
}

/// How the node should see the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    There,
    Gone,
}

/// Answers with `said` once every node sees the others as wanted, or says which do not.
pub(super) fn answer(
    views: Vec<View>,
    wanted: Wanted,
    said: String,
    reply: oneshot::Sender<Reply>,
) {
    tokio::spawn(async move {
        let deadline = Instant::now() + PATIENCE;
        let noticed = join_all(views.iter().map(|view| notices(view, wanted, deadline))).await;
        let late = views.iter().zip(noticed).filter(|(_, noticed)| !noticed);
        let mut late: Vec<&str> = late.map(|(view, _)| view.node.as_str()).collect();
        late.dedup();
        let answer = match late.as_slice() {
            [] => Reply::Done(said),
            late => Reply::Refused(format!(
                "{said}; but after {} s these have not noticed: {}",
                PATIENCE.as_secs(),
                late.join(", ")
            )),
        };
        // A caller that left does not read the answer.
        let _ = reply.send(answer);
    });
}

async fn notices(view: &View, wanted: Wanted, deadline: Instant) -> bool {
    while Instant::now() < deadline {
        let page = health::ask(view.rest, "/health").await;
        if page.is_some_and(|page| is_as_wanted(page.complaint().as_deref(), view, wanted)) {
            return true;
        }
        sleep(ASK_AGAIN).await;
    }
    false
}

fn is_as_wanted(complaint: Option<&str>, view: &View, wanted: Wanted) -> bool {
    let is_missing = |name: &String| {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '-';
        complaint.is_some_and(|text| text.split(|c| !is_word(c)).any(|word| word == name))
    };
    match wanted {
        Wanted::There => !view.others.iter().any(is_missing),
        Wanted::Gone => view.others.iter().all(is_missing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_health_page_says_who_is_missing() {
        let others = vec!["eu-1".to_owned(), "eu-2".to_owned()];
        let rest = SocketAddr::from(([127, 0, 0, 1], 1));
        let view = View { node: "us-1".into(), rest, others };
        let one = "cluster: 1 of 8 other nodes cannot be reached: eu-1; 3 hints wait";
        let both = "cluster: 2 of 8 other nodes cannot be reached: eu-1, eu-2; 3 hints wait";
        let longer = "cluster: 2 of 8 other nodes cannot be reached: eu-11, eu-2";
        for (complaint, there, gone) in [
            (None, true, false),
            (Some(one), false, false),
            (Some(both), false, true),
            (Some(longer), false, false),
            (Some("data: a hint was dropped"), true, false),
        ] {
            assert_eq!(is_as_wanted(complaint, &view, Wanted::There), there, "{complaint:?}");
            assert_eq!(is_as_wanted(complaint, &view, Wanted::Gone), gone, "{complaint:?}");
        }
    }
}
