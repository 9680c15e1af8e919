//! The cache, and stand-ins for what it holds.

#[path = "../../../../src/table/cache.rs"]
pub(crate) mod cache;

pub(crate) mod block {
    //! A block that counts how many there are.

    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    /// Bytes of all blocks of a model that anybody holds, and how many there are.
    #[derive(Clone, Debug, Default)]
    pub(crate) struct Live(Arc<(AtomicU64, AtomicU64)>);

    impl Live {
        /// Blocks, bytes.
        pub(crate) fn now(&self) -> (u64, u64) {
            (self.0.0.load(Ordering::Relaxed), self.0.1.load(Ordering::Relaxed))
        }
    }

    #[derive(Debug)]
    struct Payload {
        /// Where it was read, over and over; overwritten when nobody holds it any more.
        data: Vec<u64>,
        live: Live,
    }

    impl Drop for Payload {
        fn drop(&mut self) {
            let bytes = self.data.len() as u64 * 8;
            self.live.0.0.fetch_sub(1, Ordering::Relaxed);
            self.live.0.1.fetch_sub(bytes, Ordering::Relaxed);
            self.data.fill(u64::MAX);
        }
    }

    const fn place(file: u64, offset: u64) -> u64 {
        (file << 32) | offset
    }

    #[derive(Clone, Debug)]
    pub(crate) struct Block(Arc<Payload>);

    impl Block {
        pub(crate) fn read(file: u64, offset: u64, words: usize, live: &Live) -> Self {
            live.0.0.fetch_add(1, Ordering::Relaxed);
            live.0.1.fetch_add(words as u64 * 8, Ordering::Relaxed);
            let data = vec![place(file, offset); words];
            Self(Arc::new(Payload { data, live: live.clone() }))
        }

        pub(crate) fn is_of(&self, file: u64, offset: u64) -> bool {
            let (data, place) = (&self.0.data, place(file, offset));
            data.first() == Some(&place) && data.last() == Some(&place)
        }

        pub(crate) fn bytes(&self) -> usize {
            self.0.data.len() * 8
        }
    }
}

pub(crate) mod filter {
    //! Part of a filter.

    #[derive(Clone, Debug)]
    pub(crate) struct Filter(pub(crate) usize);

    impl Filter {
        pub(crate) const fn bytes(&self) -> usize {
            self.0
        }
    }
}

pub(crate) mod index {
    //! Part of an index.

    #[derive(Debug)]
    pub(crate) struct Index(pub(crate) usize);

    impl Index {
        pub(crate) const fn bytes(&self) -> usize {
            self.0
        }
    }
}
