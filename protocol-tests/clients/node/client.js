// The shared list of steps with kafkajs. See protocol-tests/README.md.
'use strict'

const readline = require('readline')
const { Kafka, CompressionTypes, CompressionCodecs, ConfigResourceTypes, logLevel } = require('kafkajs')
const lz4 = require('lz4-napi')
const { ZstdCodec } = require('zstd-codec')

const [bootstrap, prefix, mode] = process.argv.slice(2)
const PER_CODEC = 60
const STEP_MS = 30000
const [MAIN, IDEMPOTENT, GROUP_TOPIC, EVENTS, GROUP, BIG] = ['main', 'idem', 'group', 'events', 'members', 'big'].map(name => `${prefix}_${name}`)

// kafkajs leaves these three codecs to its users.
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy')
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: encoder => lz4.compressFrame(encoder.buffer),
  decompress: buffer => lz4.decompressFrame(buffer),
})
const zstd = new Promise(resolve => ZstdCodec.run(codec => resolve(new codec.Streaming())))
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => Buffer.from((await zstd).compress(encoder.buffer)),
  decompress: async buffer => Buffer.from((await zstd).decompress(buffer)),
})
const CODECS = { none: CompressionTypes.None, gzip: CompressionTypes.GZIP, snappy: CompressionTypes.Snappy, lz4: CompressionTypes.LZ4, zstd: CompressionTypes.ZSTD }

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1'
const kafka = new Kafka({
  clientId: 'kafkajs', brokers: [bootstrap], logLevel: logLevel.ERROR, retry: { retries: 20, maxRetryTime: 1000 },
  logCreator: () => entry => console.error(entry.namespace, entry.log.message, entry.log.error || ''),
})
const admin = kafka.admin()
const input = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const sleep = milliseconds => new Promise(resolve => setTimeout(resolve, milliseconds))

function check(condition, message) {
  if (!condition) throw new Error(message)
}

async function wait(what, condition) {
  for (const deadline = Date.now() + STEP_MS; !(await condition()); await sleep(50)) {
    check(Date.now() < deadline, `not within ${STEP_MS} ms: ${what}`)
  }
}

async function send(topic, messages, settings = {}, producerSettings = {}) {
  const producer = kafka.producer({ allowAutoTopicCreation: true, ...producerSettings })
  await producer.connect()
  try {
    return await producer.send({ topic, messages, acks: -1, timeout: 10000, ...settings })
  } finally {
    await producer.disconnect()
  }
}

const numbered = (name, from, to, partitions) =>
  Array.from({ length: to - from }, (_, i) => ({ partition: (from + i) % partitions, value: `${name}${from + i}` }))

const sorted = values => [...values].sort().join()
const same = (values, name, count) => sorted(values) === sorted(numbered(name, 0, count, 1).map(each => each.value))

let readers = 0
async function read(topic, count, until = () => false) {
  const consumer = kafka.consumer({ groupId: `${prefix}_reader_${readers++}`, maxWaitTimeInMs: 200, retry: { retries: 20 } })
  const got = []
  await consumer.connect()
  try {
    await consumer.subscribe({ topic, fromBeginning: true })
    await consumer.run({ autoCommit: false, eachMessage: async ({ partition, message }) => { got.push({ partition, ...message }) } })
    await wait(`${count} records of ${topic}`, () => got.length >= count || got.some(until))
    await sleep(300)
  } finally {
    await consumer.disconnect()
  }
  const found = got.find(until)
  if (found) return found
  check(got.length === count, `${got.length} records of ${topic} instead of ${count}`)
  return got
}

async function createTopic() {
  const wanted = { topic: MAIN, numPartitions: 4, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '86400000' }] }
  const made = await admin.createTopics({ topics: [wanted, { topic: GROUP_TOPIC, numPartitions: 4 }, { topic: IDEMPOTENT, numPartitions: 1 }], waitForLeaders: true })
  check(made, 'the topics were not made')
  check((await admin.createTopics({ topics: [wanted] })) === false, 'the second creation of a topic was not refused')
  const { topics } = await admin.fetchTopicMetadata({ topics: [MAIN] })
  check(topics[0].partitions.length === 4, 'the topic has not 4 partitions')
}

const produce = codec => async () => {
  const messages = Array.from({ length: PER_CODEC }, (_, i) => ({
    key: `${codec}-${i}`, value: `${codec} value ${i} ${'abcdefgh'.repeat(25)}`, headers: { codec, n: `${i}` },
  }))
  await send(MAIN, messages, { compression: CODECS[codec] })
}

async function consumeAll() {
  const seen = new Set()
  const last = {}
  for (const { key, value, headers, partition } of await read(MAIN, PER_CODEC * Object.keys(CODECS).length)) {
    const [codec, number] = `${key}`.split('-')
    check(`${headers.codec}` === codec && `${headers.n}` === number, `headers of ${key}`)
    check(`${value}`.startsWith(`${codec} value ${number} abc`), `value of ${key}`)
    check(!seen.has(`${key}`), `${key} came twice`)
    seen.add(`${key}`)
    const place = partition + codec
    check(!(place in last) || last[place] < +number, `order in ${place}`)
    last[place] = +number
  }
}

async function idempotent() {
  const producer = kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
  await producer.connect()
  for (let from = 0; from < 500; from += 20) {
    await producer.send({ topic: IDEMPOTENT, acks: -1, messages: numbered('', from, from + 20, 1) })
  }
  await producer.disconnect()
  const values = (await read(IDEMPOTENT, 500)).map(each => +each.value)
  check(values.every((value, i) => value === i), 'the records are not 0 to 499 in order')
}

async function offsets() {
  const found = await admin.fetchTopicOffsets(MAIN)
  const sum = name => found.reduce((total, each) => total + Number(each[name]), 0)
  check(sum('low') === 0 && sum('high') === PER_CODEC * 5, `offsets ${JSON.stringify(found)}`)
  const early = await admin.fetchTopicOffsetsByTimestamp(MAIN, 1000)
  check(early.every(each => each.offset === '0'), `offsets for the year 1970: ${JSON.stringify(early)}`)
}

class Member {
  values = []
  assigned = 0

  async join() {
    this.consumer = kafka.consumer({ groupId: GROUP, sessionTimeout: 6000, heartbeatInterval: 500, rebalanceTimeout: 6000, maxWaitTimeInMs: 200, retry: { retries: 20 } })
    this.next = {}
    this.consumer.on(this.consumer.events.GROUP_JOIN, ({ payload }) => { this.assigned = (payload.memberAssignment[GROUP_TOPIC] || []).length })
    await this.consumer.connect()
    await this.consumer.subscribe({ topic: GROUP_TOPIC, fromBeginning: true })
    await this.consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        this.next[partition] = Number(message.offset) + 1
        this.values.push(`${message.value}`)
      },
    })
    return this
  }

  async commit() {
    const offsets = Object.entries(this.next).map(([partition, offset]) => ({ topic: GROUP_TOPIC, partition: +partition, offset: `${offset}` }))
    await this.consumer.commitOffsets(offsets)
  }

  leave() {
    return this.consumer.disconnect()
  }
}

let first, writer
const post = messages => writer.send({ topic: GROUP_TOPIC, acks: -1, messages })

async function groupOfTwo() {
  first = await new Member().join()
  await wait('the first member owns 4 partitions', () => first.assigned === 4)
  const second = await new Member().join()
  await wait('each member owns 2 partitions', () => first.assigned === 2 && second.assigned === 2)
  writer = kafka.producer()
  await writer.connect()
  await post(numbered('a', 0, 100, 4))
  await wait('the members got 100 records', () => first.values.length + second.values.length >= 100)
  check(first.values.length === 50 && second.values.length === 50, `the members got ${first.values.length} and ${second.values.length}`)
  await first.commit()
  await second.commit()
  await second.leave()
  await wait('the first member owns all again after the second left', () => first.assigned === 4)
  first.values = []
  await post(numbered('b', 0, 20, 4))
  await wait('the first member got 20 more', () => first.values.length >= 20)
  check(same(first.values, 'b', 20), `after the rebalance came ${first.values}`)
}

async function commit() {
  await first.commit()
  const [{ partitions }] = await admin.fetchOffsets({ groupId: GROUP, topics: [GROUP_TOPIC] })
  check(partitions.length === 4 && partitions.every(each => each.offset === '30'), `committed ${JSON.stringify(partitions)}`)
}

async function restartResume() {
  first.values = []
  console.log('REQUEST restart')
  check((await input.next()).value === 'restarted', 'the runner could not restart the broker')
  await post(numbered('c', 0, 20, 4))
  // Without idempotence kafkajs may send a record again when the broker went away under it: at least once, so each value counts once.
  const distinct = () => [...new Set(first.values)]
  await wait('the member got 20 records after the restart', () => distinct().length >= 20)
  await sleep(300)
  check(same(distinct(), 'c', 20), `after the restart came ${first.values}`)
  await first.commit()
  await first.leave()
  const third = await new Member().join()
  await wait('a new member owns all partitions', () => third.assigned === 4)
  await post(numbered('d', 0, 4, 4))
  await wait('the new member got 4 records', () => third.values.length >= 4)
  await sleep(300)
  check(same(third.values, 'd', 4), `the new member got ${third.values}`)
  await third.leave()
}

async function config(name) {
  const { resources } = await admin.describeConfigs({ includeSynonyms: true, resources: [{ type: ConfigResourceTypes.TOPIC, name: MAIN }] })
  return resources[0].configEntries.find(each => each.configName === name).configValue
}

async function configs() {
  check((await config('retention.ms')) === '86400000' && (await config('cleanup.policy')) === 'delete', 'the configs as created')
  const change = value => admin.alterConfigs({ validateOnly: false, resources: [{ type: ConfigResourceTypes.TOPIC, name: MAIN, configEntries: [{ name: 'retention.ms', value }] }] })
  await change('3600000')
  await wait('retention.ms shows the change', async () => (await config('retention.ms')) === '3600000')
  const error = await change('soon').then(() => null, failure => failure)
  check(error && error.type === 'INVALID_CONFIG', `retention.ms=soon gave ${error}`)
  check((await admin.describeCluster()).brokers.length === 1, 'the cluster has not one node')
}

async function partitions() {
  await admin.createPartitions({ topicPartitions: [{ topic: MAIN, count: 6 }] })
  await wait('6 partitions are listed', async () => (await admin.fetchTopicMetadata({ topics: [MAIN] })).topics[0].partitions.length === 6)
  await send(MAIN, [{ partition: 5, value: 'in the new one' }])
}

async function groups() {
  const listed = async () => (await admin.listGroups()).groups.some(each => each.groupId === GROUP)
  check(await listed(), 'the group is not listed')
  const described = await admin.describeGroups([GROUP])
  check(described.groups[0].state === 'Empty', `the group is ${described.groups[0].state}`)
  await admin.deleteGroups([GROUP])
  check(!(await listed()), 'the group is still listed')
}

async function deleteRecords() {
  await admin.deleteTopicRecords({ topic: MAIN, partitions: [{ partition: 0, offset: '5' }] })
  const found = await admin.fetchTopicOffsets(MAIN)
  check(found.find(each => each.partition === 0).low === '5', `offsets ${JSON.stringify(found)}`)
}

async function deleteTopic() {
  await admin.deleteTopics({ topics: [MAIN] })
  await wait('the topic is gone', async () => !(await admin.listTopics()).includes(MAIN))
}

const rows = (from, to) =>
  Array.from({ length: to - from }, (_, i) => ({ partition: 0, value: JSON.stringify({ n: from + i, name: `row-${from + i}`, price: (from + i) / 2 }) }))

const statement = (name, sql) => send('_millpond_sql', [{ key: `${prefix}-${name}`, value: sql, headers: { from: 'kafkajs' } }])

async function sqlRegister() {
  await send(EVENTS, rows(0, 100))
  await statement('good', `CREATE MATERIALIZED STREAM ${BIG} AS SELECT n, name FROM ${EVENTS} WHERE n >= 90`)
}

async function sqlRefused() {
  // kafkajs sends Produce v7, whose answer has no room for a message: the code is all that it can show.
  const error = await statement('bad', `CREATE MATERIALIZED STREAM ${prefix}_bad AS SELECT nmae FROM ${EVENTS}`).then(() => null, failure => failure)
  check(error && error.type === 'INVALID_RECORD', `the wrong statement gave ${error}`)
}

async function answer(name) {
  const found = await read('_millpond_answers', Infinity, each => `${each.key}` === `${prefix}-${name}`)
  check(`${found.headers.from}` === 'kafkajs', 'the answer lacks the statement\'s header')
  return `${found.value}`
}

async function sqlAnswers() {
  const { error } = JSON.parse(await answer('bad'))
  check(error.message.includes('nmae') && error.line === 1 && error.column > 1, `the refusal says ${JSON.stringify(error)}`)
  await statement('show', 'SHOW STREAMS')
  check((await answer('show')).includes(BIG), 'SHOW STREAMS does not name the stream')
}

async function sqlResults() {
  for (const to of [100, 105]) {
    if (to === 105) await send(EVENTS, rows(100, 105))
    const came = (await read(BIG, to - 90)).map(each => `${each.value}`)
    const expected = Array.from({ length: to - 90 }, (_, i) => `{"n":${90 + i},"name":"row-${90 + i}"}`)
    check(sorted(came) === sorted(expected), `the results are ${came}`) // they may be spread over partitions
  }
}

async function sqlOwned() {
  const error = await send(BIG, [{ partition: 0, value: '{}' }]).then(() => null, failure => failure)
  check(error && error.type === 'POLICY_VIOLATION', `writing to a stream's topic gave ${error}`)
}

const STEPS = [['create_topic', createTopic]]
for (const codec of Object.keys(CODECS)) STEPS.push([`produce_${codec}`, produce(codec)])
STEPS.push(['consume_all', consumeAll], ['idempotent', idempotent], ['offsets', offsets], ['group_of_two', groupOfTwo], ['commit', commit],
  ['restart_resume', restartResume], ['configs', configs], ['partitions', partitions], ['groups', groups], ['delete_records', deleteRecords],
  ['delete_topic', deleteTopic])
if (mode === 'sql') {
  STEPS.push(['sql_register', sqlRegister], ['sql_refused', sqlRefused], ['sql_answers', sqlAnswers], ['sql_results', sqlResults], ['sql_owned', sqlOwned])
}

async function main() {
  await admin.connect()
  for (const [name, step] of STEPS) {
    try {
      await step()
      console.log(`ok ${name}`)
    } catch (error) {
      console.error(error)
      console.log(`FAIL ${name}: ${String(error).replace(/\s+/g, ' ')}`)
    }
  }
  process.exit(0)
}

main().catch(error => {
  console.log(`FAIL connect: ${error}`)
  process.exit(1)
})
