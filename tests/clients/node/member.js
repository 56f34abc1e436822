// A member of a group for python/group.py: `member.js GROUP TOPIC classic`. Prints what it got and what it has committed, and
// leaves when its input ends.
'use strict'

const { Kafka, logLevel } = require('kafkajs')

async function main(groupId, topic) {
  const kafka = new Kafka({
    clientId: 'flotilla-clients',
    brokers: (process.env.FLOTILLA_BOOTSTRAP || '127.0.0.1:9092').split(','),
    logLevel: logLevel.NOTHING,
  })
  const consumer = kafka.consumer({ groupId, sessionTimeout: 20000, heartbeatInterval: 1000, maxWaitTimeInMs: 200 })
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  process.stdin.resume().on('end', () => consumer.disconnect().then(() => process.exit(0)))
  await consumer.run({
    autoCommit: false,
    eachBatch: async ({ batch, resolveOffset, heartbeat }) => {
      console.log(batch.messages.map(({ offset }) => `got ${batch.partition} ${offset}`).join('\n'))
      const offset = String(BigInt(batch.lastOffset()) + 1n)
      try {
        await consumer.commitOffsets([{ topic, partition: batch.partition, offset }])
        resolveOffset(batch.lastOffset())
        console.log(`committed ${batch.partition} ${offset}`)
      } catch (error) {
        console.log(`# ${error.message}`) // a rebalance came between: others read it again
      }
      await heartbeat()
    },
  })
}

main(...process.argv.slice(2)).catch((error) => {
  console.log(`# ${error.message}`)
  process.exit(1)
})
