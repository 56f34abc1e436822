//! The compressions of record batches: gzip, snappy (raw and xerial), lz4 frame, zstd. Reading is bounded by a cap.
//! Invariant: output never passes the cap, working memory is at most cap + 16 MiB whatever the input says.
//! Never: allocates by a length inside compressed data without checking it against the bytes present.

use std::io::{Read, Write};

/// Kafka's compression types; the discriminant is the value of the attribute bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum Compression {
    /// Bytes as they are.
    #[default]
    None = 0,
    /// RFC 1952, also several members in a row.
    Gzip = 1,
    /// Snappy: written in xerial's framing as Java does, read in both forms.
    Snappy = 2,
    /// LZ4 frame format.
    Lz4 = 3,
    /// RFC 8878. Windows above 8 MiB (levels 20 to 22 with `--ultra`) are refused.
    Zstd = 4,
}

/// Why compressed bytes cannot be read, or bytes cannot be compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CompressionError {
    /// The decompressed bytes would pass the caller's cap.
    #[error("decompressed size passes the cap of {max} bytes")]
    TooLarge {
        /// The cap.
        max: usize,
    },
    /// Not valid data of this compression.
    #[error("corrupt {} data", .codec.name())]
    Corrupt {
        /// The compression in question.
        codec: Compression,
    },
}

type Result<T> = std::result::Result<T, CompressionError>;

/// In front of xerial-framed snappy: magic, version 1, compatible with 1.
const XERIAL_HEADER: [u8; 16] = *b"\x82SNAPPY\x00\x00\x00\x00\x01\x00\x00\x00\x01";
/// Block size of xerial's writer.
const XERIAL_BLOCK_BYTES: usize = 32 << 10;
/// A snappy copy of 3 bytes yields 64 at most, so no honest block expands by more than this.
const SNAPPY_EXPANSION_MAX: usize = 22;
/// 8 MiB, what RFC 8878 asks of every decoder.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const ZSTD_LEVEL: i32 = 3;

impl Compression {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::None, Self::Gzip, Self::Snappy, Self::Lz4, Self::Zstd];

    /// From the low three bits of a batch's attributes.
    #[must_use]
    pub const fn from_attributes(attributes: i16) -> Option<Self> {
        match attributes & 7 {
            0 => Some(Self::None),
            1 => Some(Self::Gzip),
            2 => Some(Self::Snappy),
            3 => Some(Self::Lz4),
            4 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// As in Kafka's `compression.type`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// From Kafka's `compression.type`.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|codec| codec.name() == name)
    }

    /// Compresses, in the form Kafka clients read.
    ///
    /// # Errors
    /// [`CompressionError::Corrupt`] if the encoder fails, which only happens without memory.
    pub fn compress(self, input: &[u8]) -> Result<Vec<u8>> {
        let failed = |_| CompressionError::Corrupt { codec: self };
        match self {
            Self::None => Ok(input.to_vec()),
            Self::Gzip => gzip(input).map_err(failed),
            Self::Snappy => snappy_xerial(input),
            Self::Lz4 => lz4(input).map_err(failed),
            Self::Zstd => zstd::bulk::compress(input, ZSTD_LEVEL).map_err(failed),
        }
    }

    /// Decompresses into at most `max` bytes.
    ///
    /// # Errors
    /// [`CompressionError`].
    pub fn decompress(self, input: &[u8], max: usize) -> Result<Vec<u8>> {
        match self {
            Self::None if input.len() > max => Err(CompressionError::TooLarge { max }),
            Self::None => Ok(input.to_vec()),
            Self::Gzip => self.read_capped(flate2::read::MultiGzDecoder::new(input), max),
            Self::Snappy => unsnappy(input, max),
            Self::Lz4 => self.read_capped(lz4_flex::frame::FrameDecoder::new(input), max),
            Self::Zstd => self.read_capped(self.zstd_reader(input)?, max),
        }
    }

    fn zstd_reader(self, input: &[u8]) -> Result<impl Read> {
        let corrupt = |_| CompressionError::Corrupt { codec: self };
        let mut reader = zstd::stream::read::Decoder::with_buffer(input).map_err(corrupt)?;
        reader.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(corrupt)?;
        Ok(reader)
    }

    fn read_capped(self, reader: impl Read, max: usize) -> Result<Vec<u8>> {
        let mut output = Vec::new();
        let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
        reader.take(limit).read_to_end(&mut output).map_err(|_| CompressionError::Corrupt { codec: self })?;
        if output.len() > max { Err(CompressionError::TooLarge { max }) } else { Ok(output) }
    }
}

fn gzip(input: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(input)?;
    writer.finish()
}

fn lz4(input: &[u8]) -> std::io::Result<Vec<u8>> {
    let info = lz4_flex::frame::FrameInfo::new()
        .block_size(lz4_flex::frame::BlockSize::Max64KB)
        .block_mode(lz4_flex::frame::BlockMode::Independent);
    let mut writer = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    writer.write_all(input)?;
    Ok(writer.finish()?)
}

fn snappy_xerial(input: &[u8]) -> Result<Vec<u8>> {
    let corrupt = CompressionError::Corrupt { codec: Compression::Snappy };
    let mut output = XERIAL_HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in input.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(|_| corrupt)?;
        let length = u32::try_from(packed.len()).map_err(|_| corrupt)?;
        output.extend_from_slice(&length.to_be_bytes());
        output.extend_from_slice(&packed);
    }
    Ok(output)
}

fn unsnappy(input: &[u8], max: usize) -> Result<Vec<u8>> {
    let mut output = Vec::new();
    if !input.starts_with(&XERIAL_HEADER[..8]) {
        unsnappy_block(input, max, &mut output)?;
        return Ok(output);
    }
    let corrupt = CompressionError::Corrupt { codec: Compression::Snappy };
    let mut rest = input.get(XERIAL_HEADER.len()..).ok_or(corrupt)?;
    while !rest.is_empty() {
        let (length, after) = rest.split_first_chunk().ok_or(corrupt)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| corrupt)?;
        let (block, after) = after.split_at_checked(length).ok_or(corrupt)?;
        unsnappy_block(block, max, &mut output)?;
        rest = after;
    }
    Ok(output)
}

/// Appends one raw block. Its length is claimed at its front: checked against what the block can yield.
fn unsnappy_block(block: &[u8], max: usize, output: &mut Vec<u8>) -> Result<()> {
    let corrupt = CompressionError::Corrupt { codec: Compression::Snappy };
    let claimed = snap::raw::decompress_len(block).map_err(|_| corrupt)?;
    if claimed > max.saturating_sub(output.len()) {
        return Err(CompressionError::TooLarge { max });
    }
    if claimed > block.len().saturating_mul(SNAPPY_EXPANSION_MAX) {
        return Err(corrupt);
    }
    let start = output.len();
    output.resize(start + claimed, 0);
    snap::raw::Decoder::new().decompress(block, &mut output[start..]).map_err(|_| corrupt)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..100_000u32).flat_map(|i| (i % 977).to_le_bytes()).collect()
    }

    #[test]
    fn every_codec_round_trips_and_holds_the_cap() {
        for input in [vec![], vec![7], sample()] {
            for codec in Compression::ALL {
                let packed = codec.compress(&input).unwrap();
                assert_eq!(codec.decompress(&packed, input.len()).unwrap(), input, "{}", codec.name());
                if !input.is_empty() {
                    let error = codec.decompress(&packed, input.len() - 1).unwrap_err();
                    assert_eq!(error, CompressionError::TooLarge { max: input.len() - 1 }, "{}", codec.name());
                }
                assert_eq!(Compression::from_attributes(codec as i16), Some(codec));
                assert_eq!(Compression::from_name(codec.name()), Some(codec));
            }
        }
        assert_eq!(Compression::from_attributes(5), None);
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let packed = snap::raw::Encoder::new().compress_vec(&sample()).unwrap();
        assert_eq!(Compression::Snappy.decompress(&packed, 1 << 20).unwrap(), sample());
    }

    #[test]
    fn a_claimed_length_is_not_believed() {
        let raw = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        let corrupt = CompressionError::Corrupt { codec: Compression::Snappy };
        assert_eq!(Compression::Snappy.decompress(&raw, usize::MAX).unwrap_err(), corrupt);
        let framed = [&XERIAL_HEADER[..], &[0xff; 8]].concat();
        assert_eq!(Compression::Snappy.decompress(&framed, 1 << 20).unwrap_err(), corrupt);
        // A zstd frame that claims a window of 128 MiB.
        let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 0x88, 0x01, 0x00, 0x00];
        let corrupt = CompressionError::Corrupt { codec: Compression::Zstd };
        assert_eq!(Compression::Zstd.decompress(&zstd, 1 << 20).unwrap_err(), corrupt);
    }

    #[test]
    fn truncated_data_is_an_error() {
        for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let packed = codec.compress(&sample()).unwrap();
            let error = codec.decompress(&packed[..packed.len() / 2], 1 << 20).unwrap_err();
            assert_eq!(error, CompressionError::Corrupt { codec }, "{}", codec.name());
        }
    }
}
