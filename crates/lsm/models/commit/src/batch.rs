//! The twin of the engine's batch: so many operations of so many bytes.

pub(crate) struct WriteBatch {
    count: u32,
    bytes: Vec<u8>,
}

impl WriteBatch {
    pub(crate) fn new(count: u32) -> Self {
        Self { count, bytes: vec![7; count as usize] }
    }

    pub(crate) const fn count(&self) -> u32 {
        self.count
    }

    pub(crate) fn encoded(&self) -> &[u8] {
        &self.bytes
    }
}
