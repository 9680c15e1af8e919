//! Catalogs between nodes.

use meridian_types::{Catalog, KeyspaceDef, KeyspaceId, TableDef};
use prost::Message;
use xxhash_rust::xxh3::xxh3_128;

use super::parts::required;
use super::{CatalogMessage, CatalogReply, WireFault};
use crate::client::Malformed;
use crate::v1;
use crate::v1::catalog_message::Message as Said;
use crate::v1::catalog_reply::Reply;

/// A digest of a catalog: equal catalogs have equal digests. Two versions of Meridian may disagree
/// about it, which costs an exchange of catalogs and nothing else.
#[must_use]
pub fn catalog_digest(catalog: &Catalog) -> u128 {
    xxh3_128(&v1::Catalog::from(catalog).encode_to_vec())
}

impl From<&Catalog> for v1::Catalog {
    fn from(catalog: &Catalog) -> Self {
        Self {
            keyspaces: catalog.keyspaces().cloned().map(Into::into).collect(),
            tables: catalog.tables().cloned().map(Into::into).collect(),
        }
    }
}

fn malformed(malformed: Malformed) -> WireFault {
    WireFault::Missing(malformed.what)
}

fn refused(field: &'static str, why: impl ToString) -> WireFault {
    WireFault::Invalid { field, why: why.to_string() }
}

impl TryFrom<v1::Catalog> for Catalog {
    type Error = WireFault;

    /// Defines everything anew, so that a catalog from outside keeps every rule of one from here.
    fn try_from(catalog: v1::Catalog) -> Result<Self, WireFault> {
        let mut ours = Self::default();
        for def in catalog.keyspaces {
            let def = KeyspaceDef::try_from(def).map_err(malformed)?;
            let made = ours.restore_keyspace(&def.name, def.replication, def.version);
            let id = made.map_err(|why| refused("keyspace", why))?.id;
            if id != def.id {
                return Err(refused("keyspace", format!("{} has id {id}", def.name)));
            }
        }
        for def in catalog.tables {
            let def = TableDef::try_from(def).map_err(malformed)?;
            let made = ours.restore_table(&def.name, def.options, def.version);
            let made = made.map_err(|why| refused("table", why))?;
            if (made.id, made.keyspace) != (def.id, def.keyspace) {
                return Err(refused("table", format!("{} has id {}", def.name, made.id)));
            }
        }
        Ok(ours)
    }
}

impl From<&CatalogMessage> for v1::CatalogMessage {
    fn from(message: &CatalogMessage) -> Self {
        let message = match message {
            CatalogMessage::Publish(catalog) => Said::Publish(catalog.into()),
            CatalogMessage::Created { catalog, keyspace } => {
                let catalog = Some(catalog.into());
                Said::Created(v1::CreatedKeyspace { catalog, keyspace: keyspace.0 })
            }
            CatalogMessage::Digest(digest) => Said::Digest((*digest).into()),
            CatalogMessage::Ask => Said::Ask(v1::Nothing {}),
        };
        Self { message: Some(message) }
    }
}

impl TryFrom<v1::CatalogMessage> for CatalogMessage {
    type Error = WireFault;

    fn try_from(message: v1::CatalogMessage) -> Result<Self, WireFault> {
        Ok(match required(message.message, "message about the catalog")? {
            Said::Publish(catalog) => Self::Publish(catalog.try_into()?),
            Said::Created(created) => Self::Created {
                catalog: required(created.catalog.map(Catalog::try_from).transpose()?, "catalog")?,
                keyspace: KeyspaceId(created.keyspace),
            },
            Said::Digest(digest) => Self::Digest(digest.into()),
            Said::Ask(v1::Nothing {}) => Self::Ask,
        })
    }
}

impl From<&CatalogReply> for v1::CatalogReply {
    fn from(reply: &CatalogReply) -> Self {
        let reply = match reply {
            CatalogReply::Joined => Reply::Joined(v1::Nothing {}),
            CatalogReply::Same => Reply::Same(v1::Nothing {}),
            CatalogReply::Catalog(catalog) => Reply::Catalog(catalog.into()),
            CatalogReply::Refused(why) => Reply::Refused(why.clone()),
        };
        Self { reply: Some(reply) }
    }
}

impl TryFrom<v1::CatalogReply> for CatalogReply {
    type Error = WireFault;

    fn try_from(reply: v1::CatalogReply) -> Result<Self, WireFault> {
        Ok(match required(reply.reply, "answer about the catalog")? {
            Reply::Joined(v1::Nothing {}) => Self::Joined,
            Reply::Same(v1::Nothing {}) => Self::Same,
            Reply::Catalog(catalog) => Self::Catalog(catalog.try_into()?),
            Reply::Refused(why) => Self::Refused(why),
        })
    }
}
