//! Definitions of keyspaces and tables, compared with other nodes and taken from them.

use std::sync::Arc;

use meridian_types::{Catalog, KeyspaceId};
use meridian_wire::replica::{CatalogMessage, CatalogReply, PeerBody, catalog_digest};

use super::Asker;
use crate::node::Inner;

impl Inner {
    pub(super) fn catalog_said(self: &Arc<Self>, asker: Asker, message: CatalogMessage) {
        self.block(move |inner| {
            let mine = inner.store.catalog();
            let reply = match message {
                CatalogMessage::Digest(digest) if digest == catalog_digest(&mine) => {
                    CatalogReply::Same
                }
                CatalogMessage::Digest(_) | CatalogMessage::Ask => {
                    CatalogReply::Catalog((*mine).clone())
                }
                CatalogMessage::Publish(theirs) => inner.take_catalog(&theirs, None),
                CatalogMessage::Created { catalog, keyspace } => {
                    inner.take_catalog(&catalog, Some(keyspace))
                }
            };
            inner.send_back(asker, PeerBody::CatalogReply(reply));
        });
    }

    fn take_catalog(&self, theirs: &Catalog, created: Option<KeyspaceId>) -> CatalogReply {
        match self.join_catalog(theirs, created) {
            Ok(_) => CatalogReply::Joined,
            Err(error) => CatalogReply::Refused(error.to_string()),
        }
    }
}
