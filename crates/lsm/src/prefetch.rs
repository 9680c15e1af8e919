//! Asking for memory before it is needed. What a lookup waits for is memory that no cache holds,
//! one piece behind the other; pieces asked for together arrive together.

#![cfg_attr(
    all(target_arch = "x86_64", not(miri)),
    expect(unsafe_code, reason = "the prefetch instruction has no safe form")
)]

/// Bytes that the processor loads at once.
const LINE: usize = 64;

/// Asks for the cache line at `at`, which need not be valid memory, without waiting for it.
#[inline]
pub(crate) fn prefetch<T>(at: *const T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a prefetch reads nothing and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _nobody_to_ask = at;
}

/// Asks for all of `bytes`.
#[inline]
pub(crate) fn prefetch_all(bytes: &[u8]) {
    for line in bytes.chunks(LINE) {
        prefetch(line.as_ptr());
    }
}
