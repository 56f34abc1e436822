//! `cargo +nightly fuzz run response wire/fuzz/seeds/response` from the folder wire/.
#![no_main]
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::response(bytes));
