// Checks a cluster with kafkajs: an idempotent producer and the admin calls. kafkajs reads with groups only, so another
// client (FLOTILLA_PYTHON FLOTILLA_READER, ../python/read_back.py) reads what it wrote and compares.
'use strict'

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'

const { execFileSync } = require('node:child_process')
const { randomBytes } = require('node:crypto')
const { isDeepStrictEqual, inspect } = require('node:util')
const { Kafka, logLevel, ConfigResourceTypes } = require('kafkajs')
const codecs = require('./codecs.js')
const { expect, run } = require('./report.js')

const NAME = `kafkajs ${require('kafkajs/package.json').version}`
const REPLICATION = Number(process.env.FLOTILLA_RF || 3)
const RECORDS = Number(process.env.FLOTILLA_RECORDS || 10000)
const PER_CODEC = process.env.FLOTILLA_LONG === '1' ? RECORDS : Math.max(1, Math.floor(RECORDS / 5))
const PARTITIONS = 4
const CHUNK = 500

const kafka = new Kafka({
  clientId: 'flotilla-clients',
  brokers: (process.env.FLOTILLA_BOOTSTRAP || '127.0.0.1:9092').split(','),
  logLevel: logLevel.NOTHING,
  retry: { initialRetryTime: 100, retries: 8 },
})
const admin = kafka.admin()

function topicName(what) {
  return `client-kafkajs-${what}-${randomBytes(4).toString('hex')}`
}

async function expectError(what, want, run) {
  let got
  try {
    got = await run()
  } catch (error) {
    const cause = error.errors ? error.errors[0] : error
    return expect(what, cause.type || `${cause.name}: ${cause.message}`, want)
  }
  throw new Error(`${what}: got ${inspect(got)}, want ${want}`)
}

/** Waits up to 10 s: brokers may learn of a change a little after its answer. */
async function eventually(what, run, want) {
  for (const deadline = Date.now() + 10000; ; await new Promise((resolve) => setTimeout(resolve, 50))) {
    const got = await run().catch((error) => error)
    if (isDeepStrictEqual(got, want)) return
    if (Date.now() > deadline) return expect(what, got, want)
  }
}

async function partitionsOf(topic) {
  const { topics } = await admin.fetchTopicMetadata({ topics: [topic] })
  return topics[0].partitions.filter((partition) => partition.leader >= 0)
}

async function create(topic, partitions, config = {}) {
  const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }))
  const wanted = { topic, numPartitions: partitions, replicationFactor: REPLICATION, configEntries }
  expect('created', await admin.createTopics({ topics: [wanted], waitForLeaders: false }), true)
  await eventually('partitions with a leader', async () => (await partitionsOf(topic)).length, partitions)
}

/** Keyed messages: every 89th is a tombstone, sizes vary, times rise by 1 ms. */
function messages(codec, count) {
  const base = Math.floor(Date.now() / 1000) * 1000 - 3600000
  return Array.from({ length: count }, (_, i) => ({
    key: `key-${i % 97}`,
    value: i % 89 === 88 ? null : `${codec} ${i} ${'flotilla '.repeat(i % 23)}`,
    headers: { number: String(i), codec, empty: '' },
    timestamp: String(base + i),
  }))
}

/** Sends chunk after chunk; gives [chunk, partition, base offset] of each acknowledgement. */
async function produce(topic, codec, sent) {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  const acks = []
  try {
    for (let start = 0; start < sent.length; start += CHUNK) {
      const chunk = sent.slice(start, start + CHUNK)
      const placed = await producer.send({ topic, acks: -1, compression: codecs.TYPES[codec], messages: chunk })
      for (const { partition, baseOffset, errorCode } of placed) {
        expect('error code', errorCode, 0)
        acks.push([start / CHUNK, partition, Number(baseOffset)])
      }
    }
  } finally {
    await producer.disconnect()
  }
  return acks
}

async function roundtrip(codec, count) {
  const topic = topicName(codec)
  await create(topic, PARTITIONS)
  const sent = messages(codec, count)
  const acks = await produce(topic, codec, sent)
  const ends = await admin.fetchTopicOffsets(topic)
  expect('sum of the end offsets', ends.reduce((sum, { high }) => sum + Number(high), 0), count)
  const plan = JSON.stringify({ topic, partitions: PARTITIONS, chunk: CHUNK, records: sent, acks })
  execFileSync(process.env.FLOTILLA_PYTHON, [process.env.FLOTILLA_READER], { input: plan, timeout: 60000 })
  await admin.deleteTopics({ topics: [topic] })
  return count
}

async function describe() {
  const topic = topicName('admin')
  await create(topic, PARTITIONS)
  const { brokers, controller, clusterId } = await admin.describeCluster()
  const nodes = brokers.map(({ nodeId }) => nodeId)
  expect('the controller is a node', nodes.includes(controller), true)
  expect('the cluster id is given', clusterId.length > 0, true)
  for (const { leader, replicas, isr } of await partitionsOf(topic)) {
    expect('the leader is a node', nodes.includes(leader), true)
    expect('replicas and in sync', [replicas.length, isr.length], [REPLICATION, REPLICATION])
  }
  expect('listed', (await admin.listTopics()).includes(topic), true)
  expect('create twice', await admin.createTopics({ topics: [{ topic }], waitForLeaders: false }), false)
  await admin.deleteTopics({ topics: [topic] })
  await eventually('listed after deletion', async () => (await admin.listTopics()).includes(topic), false)
  await expectError('describe an unknown topic', 'UNKNOWN_TOPIC_OR_PARTITION', () => partitionsOf(topic))
  return 12
}

async function configs() {
  const topic = topicName('config')
  await create(topic, 1, { 'retention.ms': '86400000' })
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  const value = async (key) => {
    const { resources } = await admin.describeConfigs({ resources: [resource], includeSynonyms: false })
    return resources[0].configEntries.find(({ configName }) => configName === key)?.configValue
  }
  await eventually('retention.ms', () => value('retention.ms'), '86400000')
  expect('default of cleanup.policy', await value('cleanup.policy'), 'delete')
  const alter = (key, to) =>
    admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: key, value: to }] }] })
  await alter('max.message.bytes', '100000')
  await eventually('max.message.bytes altered', () => value('max.message.bytes'), '100000')
  await eventually('retention.ms, not named in AlterConfigs', () => value('retention.ms'), '604800000')
  await expectError('bad value', 'INVALID_CONFIG', () => alter('retention.ms', 'soon'))
  await admin.deleteTopics({ topics: [topic] })
  return 5
}

async function partitionsAndRecords() {
  const topic = topicName('records')
  await create(topic, 1)
  const sent = messages('none', 100)
  await produce(topic, 'none', sent)
  await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '40' }] })
  expect('offsets', await admin.fetchTopicOffsets(topic), [{ partition: 0, offset: '100', high: '100', low: '40' }])
  const at = await admin.fetchTopicOffsetsByTimestamp(topic, Number(sent[70].timestamp))
  expect('offset by time', at, [{ partition: 0, offset: '70' }])
  await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
  await eventually('partitions after growth', async () => (await partitionsOf(topic)).length, 3)
  const shrink = () => admin.createPartitions({ topicPartitions: [{ topic, count: 2 }] })
  await expectError('shrink', 'INVALID_PARTITIONS', shrink)
  await admin.deleteTopics({ topics: [topic] })
  return 4
}

async function tooLarge() {
  const topic = topicName('large')
  await create(topic, 1, { 'max.message.bytes': '50000' })
  const send = (bytes) => produce(topic, 'none', [{ key: 'k', value: Buffer.alloc(bytes) }])
  await expectError('60,000 bytes', 'MESSAGE_TOO_LARGE', () => send(60000))
  expect('the next record', await send(10), [[0, 0, 0]])
  await admin.deleteTopics({ topics: [topic] })
  return 2
}

async function setUp() {
  codecs.install()
  await admin.connect()
}

const roundtrips = Object.keys(codecs.TYPES).map((codec) => [codec, () => roundtrip(codec, PER_CODEC)])
run(NAME, {
  ...Object.fromEntries(roundtrips),
  'admin/describe': describe,
  'admin/configs': configs,
  'admin/partitions-records': partitionsAndRecords,
  'error/too-large': tooLarge,
}, setUp)
