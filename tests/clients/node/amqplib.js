// amqplib against FLOTILLA_AMQP (amqp://host:port,...): what applications do with queues. Publishers and consumers are connected to different
// nodes. FLOTILLA_PEER=1 leaves out what only Flotilla has, so that the program can be checked against RabbitMQ.
'use strict'

const { randomBytes } = require('node:crypto')
const { setTimeout: sleep } = require('node:timers/promises')
const amqp = require('amqplib')
const { expect, run } = require('./report.js')

const NAME = `amqplib ${require('./package.json').dependencies.amqplib}`
const NODES = (process.env.FLOTILLA_AMQP || 'amqp://127.0.0.1:5672').split(',')
const PATIENCE_MS = 15_000
/** How long nothing may come where nothing is due. */
const SILENCE_MS = 700

const unique = (what) => `amqplib-${what}-${randomBytes(4).toString('hex')}`

/** A connection with a channel that confirms. */
async function session(node = 0) {
  const connection = await amqp.connect(NODES[node % NODES.length])
  // Who waits for the channel's own error hears of it; these would end the program.
  connection.on('error', () => {})
  const channel = await connection.createConfirmChannel()
  channel.on('error', () => {})
  return { connection, channel, end: () => connection.close() }
}

/** A session with a durable queue, which `drop` deletes. */
async function withQueue(what, node, args = {}) {
  const name = unique(what)
  const made = await session(node)
  await made.channel.assertQueue(name, { durable: true, arguments: args })
  const drop = async () => {
    await made.channel.deleteQueue(name)
    await made.end()
  }
  return { ...made, name, drop }
}

/** Publishes to a queue and waits until each message is confirmed. */
async function publish(channel, queue, bodies, options = {}) {
  for (const body of bodies) channel.sendToQueue(queue, Buffer.from(String(body)), { persistent: true, ...options })
  await channel.waitForConfirms()
}

/** A consumer whose deliveries are asked for one by one. */
async function consume(channel, queue, options = {}) {
  const came = []
  let wake = () => {}
  const { consumerTag } = await channel.consume(queue, (message) => { came.push(message); wake() }, options)
  async function next(patience = PATIENCE_MS) {
    for (const deadline = Date.now() + patience; came.length === 0; ) {
      const left = deadline - Date.now()
      if (left <= 0) throw new Error(`no delivery from ${queue} for ${patience} ms`)
      await Promise.race([new Promise((resolve) => { wake = resolve }), sleep(left)])
    }
    return came.shift()
  }
  const nothing = async (why) => {
    await sleep(SILENCE_MS)
    expect(`${why}: too many`, came.map((message) => String(message.content)), [])
  }
  return { consumerTag, next, nothing }
}

/** Three workers with prefetch share the work; each message is done once. */
async function workQueue() {
  const count = 300
  const { channel, name, drop } = await withQueue('work', 0)
  const done = []
  const workers = []
  for (const node of [0, 1, 2]) {
    const worker = await session(node)
    workers.push(worker)
    await worker.channel.prefetch(10)
    await worker.channel.consume(name, (message) => {
      done.push(Number(message.content))
      worker.channel.ack(message)
    })
  }
  const numbers = Array.from({ length: count }, (_, number) => number)
  await publish(channel, name, numbers)
  for (const deadline = Date.now() + PATIENCE_MS; done.length < count && Date.now() < deadline; ) await sleep(10)
  expect('messages done', done.sort((a, b) => a - b), numbers)
  for (const worker of workers) await worker.end()
  await drop()
  return count
}

/** What is given back comes again, marked, in its place; what is rejected is gone. */
async function requeue() {
  const { channel, name, drop } = await withQueue('requeue', 1)
  await publish(channel, name, ['a', 'b', 'c'])
  const consumer = await session(2)
  await consumer.channel.prefetch(1)
  const deliveries = await consume(consumer.channel, name)
  const steps = [['a', false, 'nack'], ['a', true, 'ack'], ['b', false, 'reject'], ['c', false, 'ack']]
  for (const [body, redelivered, then] of steps) {
    const message = await deliveries.next()
    expect('delivery', [String(message.content), message.fields.redelivered], [body, redelivered])
    if (then === 'reject') consumer.channel.reject(message, false)
    else consumer.channel[then](message)
  }
  await deliveries.nothing('after all')
  await consumer.end()
  await drop()
  return steps.length
}

/** No more than the limit of a consumer, and of all consumers of a channel together. */
async function prefetch() {
  const { channel, name, drop } = await withQueue('prefetch', 0)
  await publish(channel, name, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
  const consumer = await session(1)
  await consumer.channel.prefetch(2)
  const deliveries = await consume(consumer.channel, name)
  await deliveries.next()
  const second = await deliveries.next()
  await deliveries.nothing('a limit of 2')
  consumer.channel.ack(second)
  await deliveries.next()
  await deliveries.nothing('after an acknowledgement')
  consumer.channel.ackAll()
  await deliveries.next()
  await deliveries.next()
  await consumer.end()
  const shared = await session(2)
  await shared.channel.prefetch(3, true)
  const both = [await consume(shared.channel, name), await consume(shared.channel, name)]
  const got = []
  for (const one of both) {
    for (let more = true; more; ) more = await one.next(SILENCE_MS).then(() => got.push(1), () => false)
  }
  expect('of two consumers with a limit of 3 together', got.length, 3)
  await shared.end()
  await drop()
  return 8
}

/** Many at a time, each confirmed. */
async function confirms() {
  const count = 1000
  const { channel, name, drop } = await withQueue('confirms', 2)
  let confirmed = 0
  const note = (error) => { if (!error) confirmed += 1 }
  for (let number = 0; number < count; number++) channel.sendToQueue(name, Buffer.alloc(number), {}, note)
  await channel.waitForConfirms()
  expect('confirmed', confirmed, count)
  expect('purged', await channel.purgeQueue(name), { messageCount: count })
  await drop()
  return count
}

/** A message without a queue comes back before it is confirmed. */
async function mandatory() {
  const { channel, end } = await session(0)
  const returned = []
  channel.on('return', (message) => returned.push(message))
  channel.publish('amq.topic', 'nobody', Buffer.from('back'), { mandatory: true })
  channel.publish('amq.topic', 'nobody', Buffer.from('gone'))
  await channel.waitForConfirms()
  const told = returned.map(({ fields, content }) => [fields.replyCode, fields.routingKey, String(content)])
  expect('returned', told, [[312, 'nobody', 'back']])
  await end()
  return 2
}

/** Words, stars and hashes, into queues that the server names. */
async function topicExchange() {
  const { channel, end } = await session(1)
  const exchange = unique('topic')
  await channel.assertExchange(exchange, 'topic')
  const patterns = { '*.orange.*': ['quick.orange.rabbit', 'lazy.orange.elephant'], 'lazy.#': ['lazy.orange.elephant', 'lazy.brown.fox', 'lazy'] }
  const deliveries = {}
  for (const pattern of Object.keys(patterns)) {
    const { queue } = await channel.assertQueue('', { exclusive: true })
    await channel.bindQueue(queue, exchange, pattern)
    deliveries[pattern] = await consume(channel, queue, { noAck: true })
  }
  const keys = ['quick.orange.rabbit', 'lazy.orange.elephant', 'lazy.brown.fox', 'quick.brown.fox', 'lazy']
  for (const key of keys) channel.publish(exchange, key, Buffer.from(key))
  await channel.waitForConfirms()
  for (const [pattern, wanted] of Object.entries(patterns)) {
    for (const key of wanted) {
      const { fields, content } = await deliveries[pattern].next()
      expect(pattern, [fields.exchange, fields.routingKey, String(content)], [exchange, key, key])
    }
    await deliveries[pattern].nothing(pattern)
  }
  await channel.deleteExchange(exchange)
  await end()
  return 5
}

/** What expires or is rejected goes where the queue says, with its history; nothing goes before its time. */
async function deadLetters() {
  const { channel, name: dead, drop } = await withQueue('dead', 2)
  const queue = unique('ttl')
  await channel.assertQueue(queue, { messageTtl: 600, deadLetterExchange: '', deadLetterRoutingKey: dead })
  const letters = await consume(channel, dead, { noAck: true })
  const died = async (reason) => {
    const { properties } = await letters.next()
    const [death] = properties.headers['x-death']
    expect('death', [death.reason, death.queue, death.count, properties.headers.mine], [reason, queue, 1, 'yes'])
  }
  const start = Date.now()
  await publish(channel, queue, ['mortal'], { headers: { mine: 'yes' } })
  await died('expired')
  if (Date.now() - start < 550) throw new Error(`expired after ${Date.now() - start} of 600 ms`)
  const deliveries = await consume(channel, queue)
  await publish(channel, queue, ['unwanted'], { headers: { mine: 'yes' } })
  channel.reject(await deliveries.next(), false)
  await died('rejected')
  await channel.deleteQueue(queue)
  await drop()
  return 2
}

/** The highest first; of one priority the oldest. */
async function priorities() {
  const { channel, name, drop } = await withQueue('priority', 0, { 'x-max-priority': 10 })
  for (const priority of [1, 9, 0, 5, 9]) await publish(channel, name, [priority], { priority })
  const consumer = await session(1)
  await consumer.channel.prefetch(1)
  const deliveries = await consume(consumer.channel, name)
  const got = []
  for (let number = 0; number < 5; number++) {
    const message = await deliveries.next()
    got.push(Number(message.content))
    consumer.channel.ack(message)
  }
  expect('order', got, [9, 9, 5, 1, 0])
  await consumer.end()
  await drop()
  return 5
}

/** Headers and properties come back with the types that they went with. */
async function properties() {
  const { channel, name, drop } = await withQueue('properties', 1)
  const headers = { text: 'a', whole: 7, large: 2 ** 40, part: 0.5, truth: true, list: [1, 'b', { c: null }], nothing: null, bytes: Buffer.from([0, 255]) }
  const options = { headers, contentType: 'text/plain', contentEncoding: 'none', correlationId: 'c', replyTo: 'r', messageId: 'm', type: 't', appId: 'a', timestamp: 1_700_000_000 }
  await publish(channel, name, ['x'], options)
  const got = await channel.get(name, { noAck: true })
  for (const [key, value] of Object.entries(options)) expect(key, got.properties[key], value)
  expect('nothing more', await channel.get(name), false)
  await drop()
  return Object.keys(options).length
}

/** A channel that is refused something closes with its code, and the connection lives; a deleted queue cancels its consumer. */
async function errors() {
  const { connection, end } = await session(0)
  const refusals = [
    [404, (channel) => channel.checkQueue('no-such-queue')],
    [404, (channel) => channel.bindQueue('no-such-queue', 'amq.topic', '')],
    [406, (channel) => channel.assertExchange('amq.direct', 'fanout')],
    [403, (channel) => channel.deleteExchange('amq.direct')],
  ]
  for (const [code, refused] of refusals) {
    const channel = await connection.createChannel()
    const closed = new Promise((resolve) => channel.on('error', resolve))
    await refused(channel).then(() => { throw new Error(`not refused with ${code}`) }, () => {})
    expect('closed with', (await closed).code, code)
  }
  const { name, drop } = await withQueue('cancel', 1)
  const deliveries = await consume(await connection.createChannel(), name)
  await drop()
  expect('a cancelled consumer is told', await deliveries.next(), null)
  await end()
  return refusals.length + 1
}

/** What fails waits, longer each time, and says how often it failed. */
async function delayedRetry() {
  const { channel, name, drop } = await withQueue('retry', 2, { 'x-delayed-retry-min': 200, 'x-delayed-retry-max': 5000 })
  const deliveries = await consume(channel, name)
  await publish(channel, name, ['again'])
  for (const [failures, least] of [[0, 0], [1, 200], [2, 400]]) {
    const start = Date.now()
    const message = await deliveries.next()
    const waited = Date.now() - start
    if (waited < least - 20) throw new Error(`came after ${waited} instead of ${least} ms`)
    expect('failures', message.properties.headers['x-delivery-count'] ?? 0, failures)
    if (failures === 2) channel.ack(message)
    else channel.nack(message)
  }
  await drop()
  return 3
}

const CHECKS = {
  'work-queue': workQueue,
  requeue,
  prefetch,
  confirms,
  mandatory,
  'topic-exchange': topicExchange,
  'dead-letters': deadLetters,
  priorities,
  properties,
  errors,
}
const OURS = { 'delayed-retry': delayedRetry }

run(NAME, { ...CHECKS, ...(process.env.FLOTILLA_PEER === '1' ? {} : OURS) })
