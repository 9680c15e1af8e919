//! A concurrent skip list (Pugh 1990; insertion by compare-and-swap from the bottom up, as in
//! Herlihy and Shavit, without removal): readers take no lock and never wait, writers race only
//! for the links that both of them change.
//!
//! INVARIANT: a node is complete before the first link to it is published (release), and is never
//! changed or freed while the list lives; a list of level `n` is a sub-list of level `n - 1`.

#![expect(unsafe_code, reason = "nodes live in an arena and are linked by raw pointers")]

use std::cmp::Ordering as Order;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use super::arena::Arena;
use super::supply::Supply;
use crate::key::{ValueKind, kind_of, pack, prefix_of, seqno_of};
use crate::prefetch::prefetch;
use crate::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

/// With one in four going up, 4^12 entries keep the expected search logarithmic.
const MAX_HEIGHT: usize = 12;

/// The fixed part of a node; `height` links, the key and the value follow.
#[repr(C)]
pub(crate) struct Node {
    tag: u64,
    /// The key's first eight bytes, big endian, zero-padded: decides most comparisons.
    prefix: u64,
    key_len: u32,
    value_len: u32,
    /// Merge operands of this key on top of each other, this one included.
    chain: u32,
    height: u32,
}

type Link = AtomicPtr<Node>;

/// A node of a live list.
#[derive(Clone, Copy)]
pub(crate) struct NodeRef<'a> {
    node: &'a Node,
    raw: NonNull<Node>,
}

impl<'a> NodeRef<'a> {
    /// # Safety
    /// `raw` is null or a published node of a list that lives for `'a`.
    unsafe fn new(raw: *mut Node) -> Option<Self> {
        let raw = NonNull::new(raw)?;
        // SAFETY: by the caller; nodes are immutable but for their atomic links.
        Some(Self { node: unsafe { raw.as_ref() }, raw })
    }

    pub(crate) const fn tag(self) -> u64 {
        self.node.tag
    }

    pub(crate) const fn as_ptr(self) -> NonNull<Node> {
        self.raw
    }

    fn links(self) -> *const Link {
        // SAFETY: the links follow the fixed part in the same allocation (`SkipList::insert`).
        unsafe { self.raw.as_ptr().add(1).cast_const().cast() }
    }

    fn key_start(self) -> *const u8 {
        // SAFETY: the key follows the `height` links in the same allocation.
        unsafe { self.links().add(self.node.height as usize).cast() }
    }

    pub(crate) fn key(self) -> &'a [u8] {
        // SAFETY: `key_len` initialised bytes are there, immutable for `'a`.
        unsafe { std::slice::from_raw_parts(self.key_start(), self.node.key_len as usize) }
    }

    pub(crate) fn value(self) -> &'a [u8] {
        // SAFETY: `value_len` initialised bytes follow the key, immutable for `'a`.
        unsafe {
            let start = self.key_start().add(self.node.key_len as usize);
            std::slice::from_raw_parts(start, self.node.value_len as usize)
        }
    }

    /// How this node compares with a search target.
    #[inline]
    fn compare(self, key: &[u8], prefix: u64, tag: u64) -> Order {
        self.node
            .prefix
            .cmp(&prefix)
            .then_with(|| self.key().cmp(key))
            .then_with(|| tag.cmp(&self.node.tag))
    }
}

/// The list.
pub(crate) struct SkipList {
    head: [Link; MAX_HEIGHT],
    height: AtomicUsize,
    arena: Arena,
}

/// Where a new node goes: at each level the links before it and the node after it.
struct Splice {
    before: [*const Link; MAX_HEIGHT],
    after: [*mut Node; MAX_HEIGHT],
}

impl SkipList {
    pub(crate) fn new(supply: Arc<Supply>) -> Self {
        Self {
            head: std::array::from_fn(|_level| AtomicPtr::new(ptr::null_mut())),
            height: AtomicUsize::new(1),
            arena: Arena::new(supply),
        }
    }

    pub(crate) fn allocated(&self) -> usize {
        self.arena.allocated()
    }

    /// Inserts an entry; there is none with this key, seqno and kind. Returns how many merge
    /// operands now lie on top of each other here.
    pub(crate) fn insert(&self, key: &[u8], seqno: u64, kind: ValueKind, value: &[u8]) -> u32 {
        let tag = pack(seqno, kind);
        let prefix = prefix_of(key);
        let height = random_height(tag ^ prefix.rotate_left(32));
        // A load first: the line is shared by all writers, and next to nothing ever raises it.
        if self.height.load(Ordering::Relaxed) < height {
            self.height.fetch_max(height, Ordering::Relaxed);
        }
        let mut splice = Splice {
            before: [self.head.as_ptr(); MAX_HEIGHT],
            after: [ptr::null_mut(); MAX_HEIGHT],
        };
        self.find(key, prefix, tag, Some(&mut splice));
        let chain =
            if kind == ValueKind::Merge { 1 + self.chain_at(splice.after[0], key) } else { 0 };
        let node = self.fill(key, value, tag, prefix, height, chain);
        for level in 0..height {
            self.link(node, level, &mut splice, (key, prefix, tag));
        }
        chain
    }

    fn chain_at(&self, next: *mut Node, key: &[u8]) -> u32 {
        // SAFETY: `find` returns null or published nodes of this list.
        match unsafe { NodeRef::new(next) } {
            Some(next) if next.key() == key => next.node.chain,
            _ => 0,
        }
    }

    /// A complete node that nothing links to yet.
    fn fill(
        &self,
        key: &[u8],
        value: &[u8],
        tag: u64,
        prefix: u64,
        height: usize,
        chain: u32,
    ) -> NonNull<Node> {
        let links = height * size_of::<Link>();
        let size = size_of::<Node>() + links + key.len() + value.len();
        let raw = self.arena.alloc(size).cast::<Node>();
        let len = |bytes: &[u8]| u32::try_from(bytes.len()).expect("bounded by MAX_VALUE_BYTES");
        let header = Node {
            tag,
            prefix,
            key_len: len(key),
            value_len: len(value),
            chain,
            height: u32::try_from(height).expect("at most MAX_HEIGHT"),
        };
        // SAFETY: the arena gave `size` bytes, aligned to 8, to this call alone; header, links,
        // key and value lie in it one behind the other.
        unsafe {
            raw.write(header);
            let tower = raw.add(1).cast::<Link>();
            for level in 0..height {
                tower.add(level).write(AtomicPtr::new(ptr::null_mut()));
            }
            let key_start = tower.add(height).cast::<u8>();
            ptr::copy_nonoverlapping(key.as_ptr(), key_start.as_ptr(), key.len());
            let value_start = key_start.add(key.len());
            ptr::copy_nonoverlapping(value.as_ptr(), value_start.as_ptr(), value.len());
        }
        raw
    }

    fn link(&self, node: NonNull<Node>, level: usize, splice: &mut Splice, at: (&[u8], u64, u64)) {
        loop {
            let after = splice.after[level];
            // SAFETY: `node` has more than `level` links; nobody else reads them at this level
            // before the exchange below publishes it.
            let own = unsafe { &*node.add(1).cast::<Link>().add(level).as_ptr() };
            own.store(after, Ordering::Relaxed);
            // SAFETY: `before` is the head's or a published node's tower, higher than `level`.
            let before = unsafe { &*splice.before[level].add(level) };
            // Release: whoever finds the node finds it complete.
            if before
                .compare_exchange(after, node.as_ptr(), Ordering::Release, Ordering::Relaxed)
                .is_ok()
            {
                return;
            }
            // Somebody linked a node here. Nothing is ever removed, so the search may go on from
            // the old place.
            let nobody = ptr::null_mut();
            let (before, after) =
                self.advance(splice.before[level], level, at.0, at.1, at.2, nobody);
            splice.before[level] = before;
            splice.after[level] = after;
        }
    }

    /// Goes right on `level` from `before` while nodes sort before the target. `refused` is null or
    /// a node known not to.
    ///
    /// The cost of a search is the wait for nodes that no cache holds, one behind the other. While
    /// the next node of this level is waited for, that of the level below is already asked for: one
    /// of the two is where the search goes on.
    #[inline]
    fn advance(
        &self,
        mut before: *const Link,
        level: usize,
        key: &[u8],
        prefix: u64,
        tag: u64,
        refused: *mut Node,
    ) -> (*const Link, *mut Node) {
        loop {
            // SAFETY: `before` is a tower of this list that is higher than `level`.
            let next = unsafe { (*before.add(level)).load(Ordering::Acquire) };
            if next == refused {
                return (before, next);
            }
            if let Some(below) = level.checked_sub(1) {
                // SAFETY: as above; only the address is used.
                let below = unsafe { (*before.add(below)).load(Ordering::Relaxed) };
                prefetch(below.cast_const());
            }
            // SAFETY: links hold null or published nodes.
            match unsafe { NodeRef::new(next) } {
                Some(node) if node.compare(key, prefix, tag) == Order::Less => {
                    before = node.links();
                }
                _ => return (before, next),
            }
        }
    }

    /// The first node at or behind the target; fills the splice if one is given.
    fn find(&self, key: &[u8], prefix: u64, tag: u64, splice: Option<&mut Splice>) -> *mut Node {
        let mut before = self.head.as_ptr();
        let mut found = ptr::null_mut();
        let top = self.height.load(Ordering::Relaxed);
        match splice {
            Some(splice) => {
                for level in (0..top).rev() {
                    (before, found) = self.advance(before, level, key, prefix, tag, found);
                    splice.before[level] = before;
                    splice.after[level] = found;
                }
            }
            None => {
                for level in (0..top).rev() {
                    (before, found) = self.advance(before, level, key, prefix, tag, found);
                }
            }
        }
        found
    }

    /// The first entry at or behind `(key, tag)` in version order.
    pub(crate) fn seek(&self, key: &[u8], tag: u64) -> Option<NodeRef<'_>> {
        // SAFETY: `find` returns null or a published node; the list outlives the borrow.
        unsafe { NodeRef::new(self.find(key, prefix_of(key), tag, None)) }
    }

    pub(crate) fn first(&self) -> Option<NodeRef<'_>> {
        // SAFETY: as in `seek`.
        unsafe { NodeRef::new(self.head[0].load(Ordering::Acquire)) }
    }

    pub(crate) fn last(&self) -> Option<NodeRef<'_>> {
        self.last_before(|_| true)
    }

    /// The last entry before `(key, tag)` in version order.
    pub(crate) fn seek_before(&self, key: &[u8], tag: u64) -> Option<NodeRef<'_>> {
        let prefix = prefix_of(key);
        self.last_before(|node| node.compare(key, prefix, tag) == Order::Less)
    }

    fn last_before(&self, is_before: impl Fn(NodeRef<'_>) -> bool) -> Option<NodeRef<'_>> {
        let mut found: Option<NodeRef<'_>> = None;
        for level in (0..self.height.load(Ordering::Relaxed)).rev() {
            loop {
                let links = found.map_or(self.head.as_ptr(), NodeRef::links);
                // SAFETY: a node found on a level has links on all levels below it.
                let next = unsafe { NodeRef::new((*links.add(level)).load(Ordering::Acquire)) };
                match next {
                    Some(next) if is_before(next) => found = Some(next),
                    _ => break,
                }
            }
        }
        found
    }

    pub(crate) fn next<'a>(&'a self, node: NodeRef<'a>) -> Option<NodeRef<'a>> {
        // SAFETY: every node has a link on level 0; links hold null or published nodes.
        let next = unsafe { NodeRef::new((*node.links()).load(Ordering::Acquire)) }?;
        // Neighbours lie anywhere in the arena: the one behind is asked for while this one is read.
        // SAFETY: as above.
        let behind = unsafe { (*next.links()).load(Ordering::Relaxed) }.cast_const();
        prefetch(behind);
        prefetch(behind.wrapping_byte_add(64));
        Some(next)
    }

    /// # Safety
    /// `node` is a published node of this list.
    pub(crate) unsafe fn resume(&self, node: NonNull<Node>) -> NodeRef<'_> {
        // SAFETY: by the caller; the borrow keeps the list alive.
        NodeRef { node: unsafe { &*node.as_ptr() }, raw: node }
    }
}

impl NodeRef<'_> {
    pub(crate) const fn seqno(self) -> u64 {
        seqno_of(self.node.tag)
    }

    pub(crate) const fn kind(self) -> ValueKind {
        kind_of(self.node.tag)
    }
}

/// The height of a node from its own content: one in four goes up, no shared state, and a replay
/// builds the same list.
fn random_height(seed: u64) -> usize {
    let mut z = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let ups = (z.trailing_ones() / 2) as usize;
    (1 + ups).min(MAX_HEIGHT)
}
