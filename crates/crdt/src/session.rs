//! What a session has seen, and the token that carries it from request to request.
//!
//! A session promises its client that reads show what it wrote and what it was shown before, on
//! whichever node it asks (Terry et al., *Session guarantees for weakly consistent replicated
//! data*, 1994). For that it carries, for each vnode, the dots of what it was shown: a replica whose
//! clock has them all shows that or what replaced it, because a delta brings its context along.
//!
//! INVARIANT: what leaves the list of exact vnodes is remembered in the fold, so a session may ask
//! for more than it needs, and never for less.

use meridian_types::varint::{DecodeError, Reader, put_u64};
use meridian_types::{KeyspaceId, Mutation, VnodeId, broken};
use xxhash_rust::xxh3::xxh3_64;

use crate::token::{MAC_BYTES, TokenKey, same};
use crate::{Actor, Context, CounterSet, Dot, DotSet, VnodeClock};

const VERSION: u8 = 1;
/// Places of the fold: at three hundred folded vnodes one of seven others is taken for folded, too.
const FOLD_BITS: usize = 2_048;
const FOLD_BYTES: usize = FOLD_BITS / 8;
/// Ranges of one actor's counters from which on they are made one: reads of many rows of a vnode
/// see single dots, and a set of them grows with the rows.
const MAX_RANGES: usize = 4;

/// How much a session remembers exactly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionLimits {
    /// Vnodes.
    pub vnodes: usize,
    /// Bytes of the sealed token.
    pub bytes: usize,
}

impl Default for SessionLimits {
    /// 64 vnodes, and 4 KiB: a header of 5.4 KiB, below what HTTP servers and proxies take.
    fn default() -> Self {
        Self { vnodes: 64, bytes: 4 << 10 }
    }
}

/// What must be met before a session is shown something of a vnode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand<'a> {
    /// Nothing: it has seen nothing there.
    Nothing,
    /// Whoever answers has these dots.
    Dots(&'a Context),
    /// It has forgotten what it saw there, so what all replicas have is asked for.
    Everything,
}

/// What a session has seen of one vnode.
#[derive(Clone, Debug, PartialEq, Eq)]
struct SeenVnode {
    keyspace: KeyspaceId,
    vnode: VnodeId,
    dots: Context,
    /// Whether it had left the list before: then the dots are not all that was seen.
    partial: bool,
}

impl SeenVnode {
    fn is(&self, keyspace: KeyspaceId, vnode: VnodeId) -> bool {
        (self.keyspace, self.vnode) == (keyspace, vnode)
    }
}

/// What a session has seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Session {
    /// The last one that was touched first. No vnode twice.
    vnodes: Vec<SeenVnode>,
    fold: Fold,
}

impl Session {
    /// Whether nothing was seen.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.vnodes.is_empty() && self.fold.is_empty()
    }

    /// How many vnodes are remembered exactly, or in part.
    #[must_use]
    pub fn len(&self) -> usize {
        self.vnodes.len()
    }

    /// Whether vnodes were forgotten, so that reads of some ask all replicas.
    #[must_use]
    pub fn is_folded(&self) -> bool {
        !self.fold.is_empty()
    }

    /// What must be met before the session is shown something of a vnode.
    #[must_use]
    pub fn demand(&self, keyspace: KeyspaceId, vnode: VnodeId) -> Demand<'_> {
        match self.vnodes.iter().find(|seen| seen.is(keyspace, vnode)) {
            Some(seen) if seen.partial => Demand::Everything,
            Some(seen) => Demand::Dots(&seen.dots),
            None if self.fold.has(keyspace, vnode) => Demand::Everything,
            None => Demand::Nothing,
        }
    }

    /// The vnodes of a keyspace that are remembered, in no particular order.
    pub fn vnodes(&self, keyspace: KeyspaceId) -> impl Iterator<Item = VnodeId> + '_ {
        let of_keyspace = move |seen: &&SeenVnode| seen.keyspace == keyspace;
        self.vnodes.iter().filter(of_keyspace).map(|seen| seen.vnode)
    }

    /// Notes what the session was shown of a vnode. `known` is what somebody who showed it has: with
    /// it scattered dots become the range that they lie in, where that is known to exist.
    pub fn note(
        &mut self,
        keyspace: KeyspaceId,
        vnode: VnodeId,
        dots: impl IntoIterator<Item = Dot>,
        known: Option<&Context>,
    ) {
        let mut seen = match self.vnodes.iter().position(|seen| seen.is(keyspace, vnode)) {
            Some(at) => self.vnodes.remove(at),
            None => {
                let partial = self.fold.has(keyspace, vnode);
                SeenVnode { keyspace, vnode, dots: Context::default(), partial }
            }
        };
        dots.into_iter().for_each(|dot| seen.dots.insert(dot));
        if let Some(known) = known {
            seen.dots = filled(&seen.dots, known);
        }
        if !seen.dots.is_empty() || seen.partial {
            self.vnodes.insert(0, seen);
        }
    }

    /// Adds what another branch of the same session has seen: requests of a session that ran beside
    /// each other each brought a token of their own.
    pub fn join(&mut self, other: &Self) {
        let mut joined: Vec<SeenVnode> = Vec::with_capacity(self.vnodes.len());
        for rank in 0..self.vnodes.len().max(other.vnodes.len()) {
            for (one, another) in [(&*self, other), (other, &*self)] {
                let Some(seen) = one.vnodes.get(rank) else { continue };
                let (keyspace, vnode) = (seen.keyspace, seen.vnode);
                if joined.iter().any(|known| known.is(keyspace, vnode)) {
                    continue;
                }
                let mut seen = seen.clone();
                match another.vnodes.iter().find(|other| other.is(keyspace, vnode)) {
                    Some(other) => {
                        seen.dots.union_with(&other.dots);
                        seen.partial |= other.partial;
                    }
                    None => seen.partial |= another.fold.has(keyspace, vnode),
                }
                joined.push(seen);
            }
        }
        self.vnodes = joined;
        self.fold.union_with(&other.fold);
    }

    /// Folds the vnodes that were not touched for longest, until the rest is within the limits.
    pub fn trim(&mut self, limits: SessionLimits) {
        while self.vnodes.len() > limits.vnodes {
            self.fold_last();
        }
        while !self.vnodes.is_empty() && self.body().len() + MAC_BYTES > limits.bytes {
            self.fold_last();
        }
    }

    fn fold_last(&mut self) {
        if let Some(seen) = self.vnodes.pop()
            && !broken(Mutation::FoldForgets)
        {
            self.fold.insert(seen.keyspace, seen.vnode);
        }
    }

    /// Everything but the authentication code: version, the actors, the vnodes by them, the fold.
    pub(crate) fn body(&self) -> Vec<u8> {
        let mut actors: Vec<Actor> = Vec::new();
        for (actor, _) in self.vnodes.iter().flat_map(|seen| seen.dots.dots().actors()) {
            if let Err(at) = actors.binary_search(&actor) {
                actors.insert(at, actor);
            }
        }
        let mut out = vec![VERSION];
        put_u64(&mut out, actors.len() as u64);
        actors.iter().for_each(|actor| actor.encode(&mut out));
        put_u64(&mut out, self.vnodes.len() as u64);
        for seen in &self.vnodes {
            put_u64(&mut out, u64::from(seen.keyspace.0));
            put_u64(&mut out, u64::from(seen.vnode.0));
            let dots = seen.dots.dots();
            // Twice the count, and whether more was seen in the lowest bit.
            put_u64(&mut out, (dots.actors().count() as u64) << 1 | u64::from(seen.partial));
            for (actor, counters) in dots.actors() {
                let at = actors.binary_search(&actor).unwrap_or_default();
                put_u64(&mut out, at as u64);
                counters.encode(&mut out);
            }
        }
        self.fold.encode(&mut out);
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(body);
        let version = reader.u8("version of a session")?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion { what: "session", version });
        }
        let count = reader.count(Actor::MIN_BYTES, "number of actors")?;
        let mut actors: Vec<Actor> = Vec::with_capacity(count);
        for _ in 0..count {
            let actor = Actor::decode(&mut reader)?;
            if actors.last().is_some_and(|last| *last >= actor) {
                return Err(reader.invalid("order of actors"));
            }
            actors.push(actor);
        }
        let mut used = vec![false; actors.len()];
        let count = reader.count(MIN_VNODE_BYTES, "number of vnodes")?;
        let mut vnodes: Vec<SeenVnode> = Vec::with_capacity(count);
        for _ in 0..count {
            let seen = decode_vnode(&mut reader, &actors, &mut used)?;
            if vnodes.iter().any(|known| known.is(seen.keyspace, seen.vnode)) {
                return Err(reader.invalid("vnode of a session"));
            }
            vnodes.push(seen);
        }
        if used.contains(&false) {
            return Err(reader.invalid("actor of a session"));
        }
        let fold = Fold::decode(&mut reader)?;
        reader.finish()?;
        Ok(Self { vnodes, fold })
    }
}

/// Fewest bytes of an encoded vnode: keyspace, number, count of actors.
const MIN_VNODE_BYTES: usize = 3;

fn decode_vnode(
    reader: &mut Reader<'_>,
    actors: &[Actor],
    used: &mut [bool],
) -> Result<SeenVnode, DecodeError> {
    let keyspace = KeyspaceId(reader.u32("keyspace of a session")?);
    let vnode = VnodeId(reader.u32("vnode of a session")?);
    let head = reader.u64("number of actors")?;
    let mut dots = DotSet::default();
    let mut next = 0;
    for _ in 0..head >> 1 {
        let at = reader.u32("actor of a vnode")? as usize;
        let counters = CounterSet::decode(reader)?;
        let Some(actor) = actors.get(at).filter(|_| at >= next && !counters.is_empty()) else {
            return Err(reader.invalid("actor of a vnode"));
        };
        next = at + 1;
        used[at] = true;
        dots.insert_counters(*actor, &counters);
    }
    Ok(SeenVnode { keyspace, vnode, dots: Context { seen: dots }, partial: head & 1 == 1 })
}

/// The same dots, and where an actor's lie scattered, those between them that `known` has as well.
fn filled(dots: &Context, known: &Context) -> Context {
    let mut out = DotSet::default();
    for (actor, counters) in dots.dots().actors() {
        let base = known.dots().counters(actor).map_or(0, CounterSet::base);
        let (scattered, highest) = (counters.ranges().len() > MAX_RANGES, counters.highest());
        if scattered && highest <= base {
            out.insert_counters(actor, &CounterSet::up_to(highest));
        } else {
            out.insert_counters(actor, counters);
        }
    }
    Context { seen: out }
}

/// Vnodes that were seen and are not remembered: a filter, so that it takes some others along and
/// leaves none out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fold {
    bits: Option<Box<[u8; FOLD_BYTES]>>,
}

impl Fold {
    fn is_empty(&self) -> bool {
        self.bits.is_none()
    }

    fn place(keyspace: KeyspaceId, vnode: VnodeId) -> (usize, u8) {
        let name = u64::from(keyspace.0) << 32 | u64::from(vnode.0);
        let at = usize::try_from(xxh3_64(&name.to_be_bytes()) % FOLD_BITS as u64).unwrap_or(0);
        (at / 8, 1 << (at % 8))
    }

    fn insert(&mut self, keyspace: KeyspaceId, vnode: VnodeId) {
        let (byte, bit) = Self::place(keyspace, vnode);
        self.bits.get_or_insert_with(|| Box::new([0; FOLD_BYTES]))[byte] |= bit;
    }

    fn has(&self, keyspace: KeyspaceId, vnode: VnodeId) -> bool {
        let (byte, bit) = Self::place(keyspace, vnode);
        self.bits.as_ref().is_some_and(|bits| bits[byte] & bit != 0)
    }

    fn union_with(&mut self, other: &Self) {
        let Some(theirs) = &other.bits else { return };
        let bits = self.bits.get_or_insert_with(|| Box::new([0; FOLD_BYTES]));
        bits.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine |= theirs);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match &self.bits {
            None => out.push(0),
            Some(bits) => {
                out.push(1);
                out.extend_from_slice(&bits[..]);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8("fold of a session")? {
            0 => Ok(Self::default()),
            1 => {
                let mut bits = Box::new([0; FOLD_BYTES]);
                bits.copy_from_slice(reader.take(FOLD_BYTES, "fold of a session")?);
                if bits.iter().all(|byte| *byte == 0) {
                    return Err(reader.invalid("fold of a session"));
                }
                Ok(Self { bits: Some(bits) })
            }
            _ => Err(reader.invalid("fold of a session")),
        }
    }
}

impl VnodeClock {
    /// Whether everything was applied that is in a context.
    #[must_use]
    pub fn has_all(&self, seen: &Context) -> bool {
        seen.seen.is_subset(&self.seen)
    }
}

/// A sealed session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionToken(Vec<u8>);

/// A session's token that is not accepted. Nothing was changed; begin a new session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionTokenError {
    /// The bytes are no token, or were cut.
    #[error("the session token is damaged: {0}")]
    Malformed(#[from] DecodeError),
    /// The authentication code does not fit.
    #[error("the session token was not given by this cluster, or was changed on the way")]
    Forged,
}

impl SessionToken {
    /// Seals a session. Its caller has trimmed it.
    #[must_use]
    pub fn seal(key: &TokenKey, session: &Session) -> Self {
        let mut out = session.body();
        let code = code(key, &out);
        out.extend_from_slice(&code);
        Self(out)
    }

    /// Opens a token.
    ///
    /// # Errors
    /// See [`SessionTokenError`]. What [`Self::seal`] did not give under this key is never accepted.
    pub fn open(key: &TokenKey, token: &[u8]) -> Result<Session, SessionTokenError> {
        let what = "session";
        match token.first() {
            None => return Err(DecodeError::Truncated { at: 0, what }.into()),
            Some(&VERSION) => {}
            Some(&version) => return Err(DecodeError::UnknownVersion { what, version }.into()),
        }
        let Some((body, given)) = token.split_last_chunk::<MAC_BYTES>() else {
            return Err(DecodeError::Truncated { at: token.len(), what }.into());
        };
        if !same(&code(key, body), given) {
            return Err(SessionTokenError::Forged);
        }
        Ok(Session::decode(body)?)
    }

    /// The token's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The token's bytes, owned.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

fn code(key: &TokenKey, body: &[u8]) -> [u8; MAC_BYTES] {
    let mut code = [0; MAC_BYTES];
    code.copy_from_slice(&blake3::keyed_hash(key.session(), body).as_bytes()[..MAC_BYTES]);
    code
}
