//! The operating system's randomness, replaced in this binary by a stream that the seed decides.
//! Election timeouts, store ids and hash-map keys all come from `getrandom(2)`; with these two symbols linked in, a run is a
//! function of its seed. Must never be linked into the product: it lives in the simulation's binary only.
#![allow(unsafe_code, reason = "two C symbols are overridden; see the SAFETY comments")]

use std::cell::Cell;

thread_local! {
    static STATE: Cell<u64> = const { Cell::new(0x5EED) };
}

/// Starts the stream of this thread; the simulation has one thread.
pub fn seed(seed: u64) {
    STATE.set(seed);
}

/// SplitMix64 (Steele, Lea, Flood 2014).
fn next() -> u64 {
    STATE.with(|state| {
        let advanced = state.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        state.set(advanced);
        let mixed = (advanced ^ (advanced >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    })
}

fn fill(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next().to_le_bytes()[..chunk.len()]);
    }
}

/// `getrandom(2)`.
///
/// # Safety
/// As in libc: `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, length: usize, _flags: u32) -> isize {
    if length > 0 {
        // SAFETY: the caller vouches for `buffer` and `length`, as for the system call this stands in for.
        unsafe {
            fill(std::slice::from_raw_parts_mut(buffer, length));
        }
    }
    length as isize
}

/// `getentropy(3)`.
///
/// # Safety
/// As in libc: `buffer` must be valid for writes of `length` bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getentropy(buffer: *mut u8, length: usize) -> i32 {
    // SAFETY: handed on unchanged.
    unsafe {
        getrandom(buffer, length, 0);
    }
    0
}
