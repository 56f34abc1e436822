//! Random arguments, in the forms that every codec writes alike: names of a table in ascending order, no `L`.

use bytes::Bytes;

use super::super::{Array, Decimal, ShortStr, Table, TableBuilder, Value};
use crate::bound::generate::Random;

pub(crate) trait Sample {
    fn sample(random: &mut Random) -> Self;
}

macro_rules! numbers {
    ($($number:ty)*) => {$(
        impl Sample for $number {
            fn sample(random: &mut Random) -> Self {
                random.next() as Self
            }
        }
    )*};
}

numbers! { u8 u16 u32 u64 }

impl Sample for bool {
    fn sample(random: &mut Random) -> Self {
        random.below(2) == 0
    }
}

fn text(random: &mut Random, longest: u64) -> Bytes {
    let length = random.below(longest + 1);
    (0..length).map(|_| b'a' + random.below(26) as u8).collect()
}

impl Sample for ShortStr {
    fn sample(random: &mut Random) -> Self {
        let longest = if random.below(8) == 0 { 255 } else { 12 };
        Self::new(text(random, longest)).unwrap()
    }
}

impl Sample for Bytes {
    fn sample(random: &mut Random) -> Self {
        text(random, 300)
    }
}

impl Sample for Table {
    fn sample(random: &mut Random) -> Self {
        table(random, 3)
    }
}

fn table(random: &mut Random, levels: u64) -> Table {
    let count = random.below(8);
    let entries = (0..count).fold(TableBuilder::default(), |table, index| {
        table.put(format!("{index} {}", text(random, 9).escape_ascii()), &value(random, levels))
    });
    entries.build().unwrap()
}

fn value(random: &mut Random, levels: u64) -> Value {
    let bits = random.next();
    match random.below(if levels > 1 { 17 } else { 15 }) {
        0 => Value::Bool(bits & 1 == 1),
        1 => Value::I8(bits as i8),
        2 => Value::U8(bits as u8),
        3 => Value::I16(bits as i16),
        4 => Value::U16(bits as u16),
        5 => Value::I32(bits as i32),
        6 => Value::U32(bits as u32),
        7 => Value::I64(bits as i64),
        8 => Value::F32(bits as f32),
        9 => Value::F64(bits as f64),
        10 => Value::Decimal(Decimal { scale: bits as u8, value: (bits >> 8) as u32 }),
        11 => Value::Str(text(random, 40)),
        12 => Value::Bytes(bits.to_be_bytes().to_vec().into()),
        13 => Value::Timestamp(bits),
        14 => Value::Void,
        15 => {
            let values: Vec<_> = (0..random.below(4)).map(|_| value(random, levels - 1)).collect();
            Value::Array(Array::new(&values).unwrap())
        }
        _ => Value::Table(table(random, levels - 1)),
    }
}
