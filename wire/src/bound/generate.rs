//! Tests only: random messages from a schema, the mirror image of the guard.

use super::{Field, Kind};

/// SplitMix64: small, and the same on every machine.
pub(crate) struct Random(pub u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A valid message body.
pub(crate) fn message(random: &mut Random, schema: &'static [Field], version: i16, flexible: bool) -> Vec<u8> {
    let mut generator = Generator { random, version, flexible, out: Vec::new() };
    generator.fields(schema);
    generator.out
}

struct Generator<'a> {
    random: &'a mut Random,
    version: i16,
    flexible: bool,
    out: Vec<u8>,
}

impl Generator<'_> {
    fn fields(&mut self, fields: &'static [Field]) {
        let version = self.version;
        for field in fields.iter().filter(|f| f.tag.is_none() && f.is_in(version)) {
            self.value(field);
        }
        if self.flexible {
            self.tags(fields);
        }
    }

    fn tags(&mut self, fields: &'static [Field]) {
        let mut known: Vec<_> = fields.iter().filter(|f| f.tag.is_some() && f.is_in(self.version)).collect();
        known.retain(|_| self.random.one_in(2));
        known.sort_by_key(|field| field.tag);
        let unknown = self.random.one_in(8);
        self.varint(known.len() + usize::from(unknown));
        for field in known {
            let outer = std::mem::take(&mut self.out);
            self.value(field);
            let content = std::mem::replace(&mut self.out, outer);
            self.varint(field.tag.unwrap_or_default() as usize);
            self.varint(content.len());
            self.out.extend(content);
        }
        if unknown {
            self.varint(1_000);
            self.varint(5);
            self.out.extend(b"tagme");
        }
    }

    fn value(&mut self, field: &'static Field) {
        let nullable = self.version >= field.nullable_since;
        if nullable && self.random.one_in(4) {
            match field.kind {
                Kind::Struct(_) => self.out.push(0xff),
                Kind::Str if !self.flexible => self.out.extend([0xff; 2]),
                _ if !self.flexible => self.out.extend([0xff; 4]),
                _ => self.out.push(0),
            }
            return;
        }
        if nullable && matches!(field.kind, Kind::Struct(_)) {
            self.out.push(1);
        }
        self.kind(&field.kind);
    }

    fn kind(&mut self, kind: &'static Kind) {
        match kind {
            Kind::Fixed(size) => {
                let bytes: Vec<u8> = (0..*size).map(|_| self.random.next() as u8).collect();
                self.out.extend(bytes);
            }
            Kind::Str => {
                let length = self.random.below(12) as usize;
                if self.flexible {
                    self.varint(length + 1);
                } else {
                    self.out.extend((length as i16).to_be_bytes());
                }
                let letters: Vec<u8> = (0..length).map(|_| b'a' + self.random.below(26) as u8).collect();
                self.out.extend(letters);
            }
            Kind::Bytes => {
                let length = self.random.below(200) as usize;
                self.length(length);
                self.out.extend(std::iter::repeat_n(7, length));
            }
            Kind::Array(element) => {
                let count = self.random.below(4) as usize;
                self.length(count);
                for _ in 0..count {
                    self.kind(element);
                }
            }
            Kind::Struct(fields) => self.fields(fields),
        }
    }

    fn length(&mut self, length: usize) {
        if self.flexible {
            self.varint(length + 1);
        } else {
            self.out.extend((length as i32).to_be_bytes());
        }
    }

    fn varint(&mut self, value: usize) {
        let mut rest = value;
        while rest >= 0x80 {
            self.out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }
}
