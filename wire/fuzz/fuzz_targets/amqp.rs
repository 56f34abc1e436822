//! `cargo +nightly fuzz run amqp wire/fuzz/seeds/amqp` from the folder wire/.
#![no_main]
#[allow(dead_code)]
#[path = "../targets.rs"]
mod targets;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| targets::amqp(bytes));
