//! A state as it is recorded. `docs/formats/store.md`.

use meridian_types::varint::{DecodeError, Reader, put_u64};
use meridian_types::{Incarnation, NodeId};

use super::{Goods, VnodeKind, VnodeState};

const VERSION: u8 = 1;
const FOUND_SOUND: u8 = 1;
const ACCEPTED: u8 = 2;
const EVERYBODY: u8 = 4;
const RESETTING: u8 = 8;
const KNOWN_FLAGS: u8 = 15;

impl VnodeState {
    /// The record.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let flags = [
            (self.found_sound, FOUND_SOUND),
            (self.accepted, ACCEPTED),
            (self.everybody, EVERYBODY),
            (self.resetting, RESETTING),
        ];
        let set = flags.iter().filter(|(is_set, _)| *is_set);
        let mut out = vec![VERSION, self.kind as u8, set.fold(0, |flags, (_, flag)| flags | flag)];
        out.extend_from_slice(&self.loss.0.to_be_bytes());
        put_u64(&mut out, self.swept.len() as u64);
        for (node, was_fresh) in &self.swept {
            put_u64(&mut out, u64::from(node.0));
            out.push(u8::from(*was_fresh));
        }
        put_u64(&mut out, self.heard.len() as u64);
        for (node, loss) in &self.heard {
            put_u64(&mut out, u64::from(node.0));
            out.extend_from_slice(&loss.0.to_be_bytes());
        }
        put_u64(&mut out, self.pulled.len() as u64);
        for (node, goods) in &self.pulled {
            put_u64(&mut out, u64::from(node.0));
            out.push(goods.bits());
        }
        out
    }

    /// The state that a record holds.
    ///
    /// # Errors
    /// The bytes are no record of a known version in its only spelling.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut r = Reader::new(bytes);
        let what = "state of a vnode";
        let version = r.u8(what)?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { what, version });
        }
        let kind = VnodeKind::from_number(r.u8(what)?).ok_or_else(|| r.invalid(what))?;
        let flags = r.u8(what)?;
        if flags > KNOWN_FLAGS {
            return Err(r.invalid(what));
        }
        let mut state = Self::begun(kind, Incarnation(r.fixed_u64("loss")?));
        state.found_sound = flags & FOUND_SOUND != 0;
        state.accepted = flags & ACCEPTED != 0;
        state.everybody = flags & EVERYBODY != 0;
        state.resetting = flags & RESETTING != 0;
        for _ in 0..r.count(2, "nodes swept")? {
            let (node, was_fresh) = (NodeId(r.u32("node swept")?), r.u8("node swept")?);
            let rises = state.swept.last_key_value().is_none_or(|(last, _)| *last < node);
            if was_fresh > 1 || !rises {
                return Err(r.invalid("node swept"));
            }
            state.swept.insert(node, was_fresh == 1);
        }
        for _ in 0..r.count(9, "losses heard of")? {
            let heard = (NodeId(r.u32("loss")?), Incarnation(r.fixed_u64("loss")?));
            if state.heard.last().is_some_and(|last| *last >= heard) {
                return Err(r.invalid("loss"));
            }
            state.heard.insert(heard);
        }
        for _ in 0..r.count(2, "nodes pulled from")? {
            let (node, bits) = (NodeId(r.u32("node pulled from")?), r.u8("node pulled from")?);
            let rises = state.pulled.last_key_value().is_none_or(|(last, _)| *last < node);
            match Goods::from_bits(bits) {
                Some(goods) if rises => drop(state.pulled.insert(node, goods)),
                _ => return Err(r.invalid("node pulled from")),
            }
        }
        r.finish()?;
        Ok(state)
    }
}
