//! An operator's word that what cannot be made good is lost (rule 10).

use std::sync::Arc;

use meridian_node::RebuildEvent;
use meridian_service::{AcceptLoss, Effect, Outcome, RequestError};
use meridian_types::{KeyspaceId, VnodeId, VnodeKind};

use crate::node::Inner;

impl Inner {
    /// Answers reads of these vnodes from now on as they are; durable when it returns.
    pub(crate) async fn accept_loss(
        self: &Arc<Self>,
        accept: AcceptLoss,
    ) -> Result<Outcome, RequestError> {
        let (keyspace, vnodes) = self.unsound_of(&accept)?;
        let unsound = vnodes.len() as u64;
        let accepted = self.off_thread(move |inner| {
            inner.store.accept_loss(keyspace, &vnodes)?;
            inner.judge_some(keyspace, &vnodes)
        });
        let judged = accepted.await.map_err(|given_up| given_up.to_string());
        match judged.and_then(|judged| judged.map_err(|error| error.to_string())) {
            Ok(vnodes) => {
                let AcceptLoss { keyspace: name, .. } = accept;
                tracing::warn!(keyspace = name, vnodes = unsound, "what is missing was accepted");
                self.tell_rebuild(RebuildEvent::Judged { keyspace, vnodes });
                Ok(Outcome::LossAccepted { vnodes: unsound })
            }
            Err(why) => Err(RequestError::Storage { why, effect: Effect::Unknown }),
        }
    }

    /// The vnodes that are meant and that this node is not sound for.
    fn unsound_of(&self, accept: &AcceptLoss) -> Result<(KeyspaceId, Vec<VnodeId>), RequestError> {
        let invalid = |what, why| Err(RequestError::InvalidArgument { what, why });
        let AcceptLoss { node, keyspace, vnodes } = accept;
        let me = self.name_of(self.id);
        if node != me {
            return invalid("node", format!("this is {me}; ask {node} itself"));
        }
        let view = self.catalog.load();
        let Some(known) = view.keyspaces().find(|known| known.def.name == *keyspace) else {
            return invalid("keyspace", format!("there is no keyspace `{keyspace}`"));
        };
        let id = known.def.id;
        let mut own = self.own_vnodes(id);
        if let Some(foreign) = vnodes.iter().find(|vnode| !own.contains(vnode)) {
            return invalid("vnodes", format!("{me} does not hold vnode {foreign} of {keyspace}"));
        }
        own.retain(|vnode| {
            let is_meant = vnodes.is_empty() || vnodes.contains(vnode);
            is_meant && self.store.standing(id, *vnode).kind() != VnodeKind::Sound
        });
        Ok((id, own))
    }
}
