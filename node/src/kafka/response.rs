//! What goes back to a client: a list of byte slices written in one go, records never copied.
//! Invariant: the memory it was budgeted for is given back only when it is written or dropped.
use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes};

use crate::listening::Taken;

/// One response frame in parts, or several that go out together.
#[derive(Debug, Default)]
pub struct Response {
    parts: VecDeque<Bytes>,
    remaining: usize,
    held: Vec<Taken>,
}

impl Response {
    /// A response of several slices; `held` is released when it is written.
    pub fn new(parts: Vec<Bytes>, held: Option<Taken>) -> Self {
        let parts: VecDeque<Bytes> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        let remaining = parts.iter().map(Bytes::len).sum();
        Self { parts, remaining, held: held.into_iter().collect() }
    }

    /// Puts another response behind this one.
    pub fn append(&mut self, mut other: Self) {
        self.parts.append(&mut other.parts);
        self.remaining += other.remaining;
        self.held.append(&mut other.held);
    }
}

impl From<Bytes> for Response {
    fn from(frame: Bytes) -> Self {
        Self::new(vec![frame], None)
    }
}

impl Buf for Response {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.parts.front().map_or(&[], |part| &part[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let count = slices.len().min(self.parts.len());
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
        }
        count
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advance past the end of a response");
        self.remaining -= count;
        while count > 0 {
            let Some(front) = self.parts.front_mut() else { return };
            if count < front.len() {
                front.advance(count);
                return;
            }
            count -= front.len();
            self.parts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_that_go_out_together_keep_their_order() {
        let mut all = Response::default();
        for part in ["ab", "", "c"] {
            all.append(Response::from(Bytes::from_static(part.as_bytes())));
        }
        assert_eq!(all.remaining(), 3);
        assert_eq!(all.copy_to_bytes(3), &b"abc"[..]);
    }

    #[test]
    fn parts_come_out_in_order_whatever_the_steps() {
        for step in 1..=7 {
            let parts = ["ab", "", "cde", "f"].map(|part| Bytes::from_static(part.as_bytes())).to_vec();
            let mut response = Response::new(parts, None);
            let mut out = Vec::new();
            while response.has_remaining() {
                let mut slices = [IoSlice::new(&[]); 2];
                let count = response.chunks_vectored(&mut slices);
                let seen: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).take(step).collect();
                response.advance(seen.len());
                out.extend(seen);
            }
            assert_eq!(out, b"abcdef");
        }
    }
}
