//! The blocks of a table that several keys lie in: those near each other come with one read.
//!
//! A block that could not be read with others is read again by itself when it is its turn: what is
//! read over is nobody's error.

use std::path::Path;

use bytes::Bytes;
use meridian_vfs::File;

use super::block::Block;
use super::format::Handle;
use super::parts::Leaf;
use super::reader::Table;
use super::stretch::Stretch;
use crate::error::Error;

/// Most bytes read at once: beyond it a disk gains nothing, and every reader of many keys holds as
/// many.
pub(crate) const JOINED_BYTES: u64 = 256 << 10;
/// Bytes that are read over, wanted by nobody, instead of asking the disk once more: about what it
/// reads in the time of a call.
pub(crate) const READ_OVER_BYTES: u64 = 8 << 10;

/// What is wanted of a table, and what was read of it.
#[derive(Debug)]
pub(crate) struct Joined {
    /// The numbers of blocks, ascending.
    wanted: Vec<usize>,
    stretch: Stretch,
    /// The block that was asked for last.
    last: Option<(usize, Block)>,
}

impl Joined {
    /// `wanted`: the numbers of blocks, ascending, some of them more than once.
    pub(crate) fn new(wanted: impl Iterator<Item = usize>) -> Self {
        let mut wanted: Vec<usize> = wanted.collect();
        wanted.dedup();
        Self { wanted, stretch: Stretch::new(), last: None }
    }

    /// The block at `at` of the table's index, through the cache.
    pub(crate) fn block(
        &mut self,
        table: &Table,
        leaf: &mut Leaf,
        at: usize,
    ) -> Result<Block, Error> {
        if let Some((there, block)) = &self.last
            && *there == at
        {
            return Ok(block.clone());
        }
        let block = table.block_joined(leaf, at, self)?;
        self.last = Some((at, block.clone()));
        Ok(block)
    }

    /// The stored bytes of the block at `at`, read together with those that are wanted after it;
    /// `None` if there are none near, or they cannot be read. `is_here`: no need to read it.
    pub(crate) fn read(
        &mut self,
        file: &dyn File,
        path: &Path,
        at: usize,
        mut handle_of: impl FnMut(usize) -> Option<Handle>,
        is_here: impl Fn(Handle) -> bool,
    ) -> Option<Bytes> {
        let handle = handle_of(at)?;
        if let Some(stored) = self.stretch.get(handle) {
            return Some(stored);
        }
        let mut end = end_of(handle)?;
        let behind = self.wanted.partition_point(|wanted| *wanted <= at);
        for next in self.wanted[behind..].iter().map_while(|wanted| handle_of(*wanted)) {
            let (Some(gap), Some(to)) = (next.offset.checked_sub(end), end_of(next)) else { break };
            if gap > READ_OVER_BYTES || to - handle.offset > JOINED_BYTES {
                break;
            }
            if !is_here(next) {
                end = to;
            }
        }
        if end == end_of(handle)? {
            return None;
        }
        let len = usize::try_from(end - handle.offset).ok()?;
        self.stretch.read(file, path, handle.offset, len).then(|| self.stretch.get(handle))?
    }
}

fn end_of(handle: Handle) -> Option<u64> {
    handle.offset.checked_add(u64::from(handle.len))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::Arc;

    use meridian_vfs::{FaultFs, Fs, MemFs, Op};
    use proptest::prelude::*;

    use super::*;

    fn layout(blocks: &[u32]) -> Vec<Handle> {
        let mut offset = 8;
        let mut place = |len: &u32| {
            let handle = Handle { offset, len: *len };
            offset += u64::from(*len);
            handle
        };
        blocks.iter().map(&mut place).collect()
    }

    fn stored(handle: Handle) -> Vec<u8> {
        (0..handle.len).map(|at| (handle.offset + u64::from(at)).to_le_bytes()[0]).collect()
    }

    proptest! {
        #[test]
        fn what_is_wanted_comes_in_few_bounded_reads(
            blocks in proptest::collection::vec(
                prop_oneof![8 => 1..5000u32, 1 => 5000..400_000u32],
                1..120,
            ),
            wanted in proptest::collection::vec(0..4u8, 120),
            here in proptest::collection::vec(0..6u8, 120),
        ) {
            let handles = layout(&blocks);
            let fs = FaultFs::new(Arc::new(MemFs::new()));
            let path = Path::new("/t");
            let file = fs.create(path).unwrap();
            file.append(&[0; 8]).unwrap();
            handles.iter().for_each(|handle| file.append(&stored(*handle)).unwrap());
            let bytes: Vec<u8> = handles.iter().flat_map(|handle| stored(*handle)).collect();
            let all: Vec<usize> = (0..blocks.len()).filter(|at| wanted[*at] > 0).collect();
            let is_here = |handle: Handle| {
                let at = handles.iter().position(|other| other.offset == handle.offset);
                here[at.unwrap()] == 0
            };
            let mut joined = Joined::new(all.iter().flat_map(|at| [*at; 2]));
            let (mut alone, before) = (0, fs.calls(Op::Read));
            for at in all.iter().copied().filter(|at| !is_here(handles[*at])) {
                let seen = fs.calls(Op::Read);
                let read = joined.read(&*file, path, at, |at| handles.get(at).copied(), is_here);
                let calls = fs.calls(Op::Read) - seen;
                match read {
                    None => alone += 1,
                    Some(read) => {
                        let from = usize::try_from(handles[at].offset).unwrap() - 8;
                        prop_assert_eq!(&*read, &bytes[from..from + blocks[at] as usize]);
                        prop_assert!(calls <= 1);
                        prop_assert!(joined.stretch.bytes() as u64 <= JOINED_BYTES);
                    }
                }
            }
            // As few as whoever takes the next one along while it is near and there is room.
            let (mut least, span) = (0, Cell::new(None::<(u64, u64)>));
            for handle in all.iter().map(|at| handles[*at]).filter(|handle| !is_here(*handle)) {
                let to = end_of(handle).unwrap();
                let near = span.get().filter(|(start, end)| {
                    handle.offset - end <= READ_OVER_BYTES && to - start <= JOINED_BYTES
                });
                least += u64::from(near.is_none());
                span.set(Some((near.map_or(handle.offset, |(start, _)| start), to)));
            }
            prop_assert_eq!(fs.calls(Op::Read) - before + alone, least);
        }
    }
}
