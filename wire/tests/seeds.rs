//! Every seed of the fuzz targets runs through its target, with all allocations counted.
//! Then seeds cut, overwritten and lengthened: no panic, and memory in proportion to the input.

#[allow(dead_code, reason = "shared with the fuzz targets")]
#[path = "../fuzz/targets.rs"]
mod targets;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

/// Counts the bytes this thread holds, and the most it held.
struct Counting;

thread_local! {
    static HELD: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    let _ = HELD.try_with(|held| {
        held.set(held.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(held.get())));
    });
}

#[global_allocator]
static COUNTING: Counting = Counting;

// SAFETY: every call goes to the system allocator unchanged; counting touches only constant-initialised thread locals.
#[allow(unsafe_code, reason = "a counting allocator cannot be written without")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's contract is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's contract is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Most bytes held at a time while `run` ran, beyond those held before.
fn peak_bytes(run: impl FnOnce()) -> usize {
    let before = HELD.get();
    PEAK.set(before);
    run();
    (PEAK.get() - before).max(0) as usize
}

/// The input is copied a few times by the targets themselves; a decoded element takes up to 50 times its bytes.
fn check(target: fn(&[u8]), name: &str, bytes: &[u8], extra: usize) {
    let peak = peak_bytes(|| target(bytes));
    let limit = (16 << 10) + 200 * bytes.len() + extra;
    assert!(peak <= limit, "{name}: {peak} bytes held for {} of input", bytes.len());
}

fn seeds(folder: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(folder);
    let mut seeds: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.display().to_string(), std::fs::read(&path).unwrap()))
        .collect();
    seeds.sort();
    seeds
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

fn mutate(random: &mut Random, seed: &[u8], fixed: usize) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(3) {
        let at = fixed + random.below(bytes.len().saturating_sub(fixed) + 1);
        let fill = [0, 0x7f, 0x80, 0xff, random.below(256) as u8][random.below(5)];
        let width = [1, 2, 4, 5, 8][random.below(5)];
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.extend(std::iter::repeat_n(fill, random.below(200))),
            _ => bytes.iter_mut().skip(at).take(width).for_each(|byte| *byte = fill),
        }
    }
    bytes
}

/// Makes a frame of mutated bytes again, so that they get as far as the payload.
type Reframe = fn(&mut [u8]);

/// Kafka: a length in front.
fn kafka_frame(bytes: &mut [u8]) {
    let length = (bytes.len() as u32).wrapping_sub(4);
    if let Some(front) = bytes.first_chunk_mut() {
        *front = length.to_be_bytes();
    }
}

/// AMQP: a size behind kind and channel, and the end.
fn amqp_frame(bytes: &mut [u8]) {
    if let [_, _, _, s3, s2, s1, s0, payload @ .., end] = bytes {
        [*s3, *s2, *s1, *s0] = (payload.len() as u32).to_be_bytes();
        *end = 0xce;
    }
}

/// `fixed` bytes at the front stay as they are in half the rounds; three of four inputs become frames again.
fn run(folder: &str, target: fn(&[u8]), fixed: usize, reframe: Option<Reframe>, extra: usize) {
    let seeds = seeds(folder);
    assert!(seeds.len() >= 5, "{folder}: {} seeds", seeds.len());
    let rounds = if std::env::var_os("FLOTILLA_LONG").is_some() { 20_000 } else { 200 };
    let mut random = Random(folder.len() as u64);
    for (name, seed) in &seeds {
        check(target, name, seed, extra);
        for cut in 0..seed.len().min(300) {
            check(target, name, &seed[..cut], extra);
        }
        for round in 0..rounds {
            let mut bytes = mutate(&mut random, seed, if round % 2 == 0 { fixed } else { 0 });
            if let Some(reframe) = reframe.filter(|_| round % 4 != 3) {
                reframe(&mut bytes);
            }
            check(target, name, &bytes, extra);
        }
    }
}

#[test]
fn requests() {
    run("request", targets::request, 12, Some(kafka_frame), 0);
}

#[test]
fn responses() {
    run("response", targets::response, 2, None, 0);
}

#[test]
fn batches() {
    run("batch", targets::batches, 61, None, 2 * targets::DECOMPRESSED_BYTES_MAX + (9 << 20));
}

#[test]
fn decompression() {
    run("decompress", targets::decompress, 1, None, 4 * targets::DECOMPRESSED_BYTES_MAX + (9 << 20));
}

/// Kind, channel, size, class and method stay: 70 seeds, 200 rounds each.
#[test]
fn amqp() {
    run("amqp", targets::amqp, 11, Some(amqp_frame), 0);
}

/// A frame of 128 KiB holds one table of 65,000 entries: all are checked and read, none is kept.
#[test]
fn reading_amqp_holds_nothing() {
    use wire::amqp::{ContentHeader, Method, Table, frame, method::queue};
    let entries = b"\0V".repeat(65_000);
    let declare =
        queue::Declare { arguments: Table::from_bytes(entries.clone().into()).unwrap(), ..Default::default() };
    let mut method = bytes::BytesMut::new();
    frame::put_method(&mut method, 1, &declare.into(), 128 << 10).unwrap();
    let header = [&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9, 0x20, 0][..], &130_000u32.to_be_bytes(), &entries].concat();
    let header = bytes::Bytes::from(header);
    let peak = peak_bytes(|| {
        let frame = frame::next_frame(&mut method, 128 << 10).unwrap().unwrap();
        assert!(Method::decode(frame.payload).is_ok());
        let properties = ContentHeader::decode(header).unwrap().properties.read();
        assert_eq!(properties.headers.unwrap().iter().count(), 65_000);
    });
    assert!(peak < 1 << 10, "{peak} bytes held");
}

/// One frame of the largest size, made to expand as far as it can.
#[test]
fn the_worst_frame_holds_less_than_64_mib() {
    let frame = |key: u8, version: u8, body: Vec<u8>| {
        let head = [0, key, 0, version, 0, 0, 0, 1, 0xff, 0xff, 0];
        [&((head.len() + body.len()) as u32).to_be_bytes()[..], &head, &body].concat()
    };
    let tags = |count: u32| {
        let varint = [count as u8 | 0x80, (count >> 7) as u8 | 0x80, (count >> 14) as u8];
        let fields = (0..count).flat_map(|tag| [tag as u8 | 0x80, (tag >> 7) as u8 | 0x80, (tag >> 14) as u8, 0]);
        [&varint[..], &fields.collect::<Vec<_>>()].concat()
    };
    let size = (4 << 20) - 100;
    for (name, bytes) in [
        ("topics, few enough", frame(3, 9, [&[0xa0, 0x8d, 0x06][..], &[1, 0].repeat(99_999), &[0, 0, 0, 0]].concat())),
        ("topics, too many", frame(3, 9, [&[0x81, 0x89, 0x7a][..], &[1, 0].repeat(size / 2)].concat())),
        ("tags, few enough", frame(18, 3, [&[1, 1][..], &tags(99_999)].concat())),
        ("tags, too many", frame(18, 3, [&[1, 1][..], &tags(1_000_000)].concat())),
        ("tags, claimed", frame(18, 3, [&[1, 1, 0xff, 0xff, 0x7f][..], &vec![0xff; size]].concat())),
        ("one long string", frame(18, 3, [&[0xff, 0xff, 0x7f][..], &vec![b'a'; size]].concat())),
    ] {
        let peak = peak_bytes(|| targets::request(&bytes));
        assert!(peak < 64 << 20, "{name}: {peak} bytes held for {}", bytes.len());
    }
}

#[test]
fn random_bytes() {
    let rounds = if std::env::var_os("FLOTILLA_LONG").is_some() { 2_000_000 } else { 20_000 };
    let mut random = Random(77);
    for _ in 0..rounds {
        let length = random.below(120);
        let mut bytes: Vec<u8> = (0..length).map(|_| random.below(256) as u8).collect();
        check(targets::response, "random", &bytes, 0);
        check(targets::batches, "random", &bytes, 9 << 20);
        if bytes.len() >= 8 {
            let head = [0, 0, 0, bytes.len() as u8 - 4, 0, bytes[5] % 76, 0, bytes[7] % 19];
            bytes[..8].copy_from_slice(&head);
        }
        check(targets::request, "random", &bytes, 0);
    }
}
