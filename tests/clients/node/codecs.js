// The codecs that kafkajs leaves to plug-ins, in plain JavaScript: nothing to compile at install time.
'use strict'

const { CompressionTypes, CompressionCodecs } = require('kafkajs')
const lz4 = require('lz4js')
const xxh32 = require('lz4js/xxh32.js')
const snappy = require('snappyjs')
const { ZstdCodec } = require('zstd-codec')

const zstd = new Promise((resolve) => ZstdCodec.run((library) => resolve(new library.Simple())))

// lz4js leaves out the flag for independent blocks, without which Kafka refuses a frame. It holds for what we write: a
// frame of one block. The descriptor's checksum is the second byte of its xxh32.
function lz4Frame(buffer) {
  if (buffer.length > 4 << 20) throw new Error(`${buffer.length} bytes do not fit one LZ4 block`)
  const frame = Buffer.from(lz4.compress(buffer))
  frame[4] |= 0x20
  frame[6] = xxh32.hash(0, frame, 4, 2) >> 8
  return frame
}

const decompressUnused = async () => {
  throw new Error('these programs only produce')
}

function install() {
  const codec = (compress) => () => ({
    compress: async (encoder) => compress(encoder.buffer),
    decompress: decompressUnused,
  })
  CompressionCodecs[CompressionTypes.Snappy] = codec((buffer) => Buffer.from(snappy.compress(buffer)))
  CompressionCodecs[CompressionTypes.LZ4] = codec(lz4Frame)
  CompressionCodecs[CompressionTypes.ZSTD] = codec(async (buffer) => Buffer.from((await zstd).compress(buffer)))
}

const TYPES = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD,
}

module.exports = { install, TYPES }
