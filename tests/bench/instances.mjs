// Several instances over Redis: what it adds to a delay, how many messages a second it takes and
// what they cost it, and how soon all is well after it was away. Beside nchan over Redis, and
// beside redis-benchmark, which calls the same script, and the least one that could do.
//
// The stores have the first core, what calls them the last: instances, the load, redis-benchmark.
import { execFile, execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { promisify } from 'node:util'
import * as machine from './machine.mjs'
import { Load } from './machine.mjs'

const HELD = 100  // messages of a channel's history
const BODY = 200  // bytes of a message
const CHANNELS = 64

const run = promisify(execFile)
const sum = list => list.reduce((a, b) => a + b, 0)
const us = ns => (ns / 1000).toFixed(1)
const median = list => [...list].sort((a, b) => a - b)[list.length >> 1]

export function missing() {
  for (const tool of ['redis-server', 'redis-benchmark'])
    try {
      execFileSync('sh', ['-c', 'command -v "$0"', tool], { stdio: 'ignore' })
    } catch {
      return tool
    }
  return undefined
}

// ---- who is compared

const ours = ({ redis, heads, ...options }) =>
  machine.startOurs({ heads, held: HELD, redis, ...options })
const nchan = ({ redis: [redis], cpu }) => machine.startNchan(HELD, { redis, cpu })

// `count` instances over as many stores, and a load on them: polls go to the first, messages to
// the ones of `to`. All is ended by stop().
async function start({ instance, stores, count, to, cpu = machine.core.client, heads, load }) {
  const all = []
  const stop = async () => {
    for (const one of all.reverse()) await one.stop()
  }
  const add = one => (all.push(one), one)
  try {
    const redis = []
    while (redis.length < stores) redis.push(add(await machine.startRedis()))
    const servers = []
    while (servers.length < count) servers.push(add(await instance({ redis, cpu, heads })))
    await sleep(300) // until they are connected
    const ports = servers.slice(to).map(({ port }) => port).join()
    const client = add(new Load({ ...servers[0], pid: (redis[0] ?? servers[0]).pid }, {
      heads, body: BODY, gate: 0, alone: 0, 'publish-ports': ports, ...load,
    }))
    return { redis, servers, load: client, stop }
  } catch (error) {
    await stop()
    throw error
  }
}

// ---- the delay

const delayed = {
  alone: { instance: ours, stores: 0, count: 1, to: 0 },
  ours: { instance: ours, stores: 1, count: 2, to: 1 },
  nchan: { instance: nchan, stores: 1, count: 2, to: 1 },
}

// A hundred channels with a waiter each, messages at a fixed rate.
async function delays({ quick, able, failed, say }) {
  const entries = {}, out = {}
  try {
    for (const name in delayed)
      try {
        if (name === 'nchan' && !able.has('nchan')) continue
        const load = { channels: 100, publishers: 4 }
        const one = await start({ ...delayed[name], cpu: machine.core.server, heads: 'browser',
          load })
        entries[name] = { ...one, runs: [] }
        await one.load.ask('park 100')
        await one.load.ask('rate 1 200')
      } catch (error) {
        failed(`instances, delay, ${name}`, error)
        await entries[name]?.stop()
        delete entries[name]
      }
    for (let round = 0; round < (quick ? 1 : 5); round++)
      for (const { load, runs } of Object.values(entries))
        runs.push((await load.ask(`rate ${quick ? 1 : 2} 200`)).delay_us)
    for (const name in entries)
      out[name] = Object.fromEntries([50, 99].map(part =>
        [part, median(entries[name].runs.map(delay => delay[part]))]))
  } finally {
    for (const one of Object.values(entries)) await one.stop()
  }
  say('instances, delay p50, p99: ' + Object.entries(out).map(([name, at]) =>
    `${name} ${Math.round(at[50])}, ${Math.round(at[99])} us`).join('; '))
  return out
}

// ---- messages a second: programs publish them, whose requests have bare heads

const called = {
  ours_1: { instance: ours, stores: 1, count: 1 },
  ours_2: { instance: ours, stores: 1, count: 2 },
  ours_3: { instance: ours, stores: 1, count: 3 },
  two_stores: { instance: ours, stores: 2, count: 3 },
  nchan: { instance: nchan, stores: 1, count: 1 },
}

// The words of a call as our instances send them, of a message of the same size. All are of one
// channel: what redis-benchmark can vary would be another in each word.
const text = '"text":"' + 'x'.repeat(BODY - 10) + '"}'
const words = ['lp1:{abc}h:c00000', 'lp1:{abc}x:c00000', '0123456789abcdef', '0', '0', '0', '0',
  String(HELD), '300000', '3600000', 'lp1:{abc}:c00000', '0', text]
const same = {
  script: () => readFileSync(join(machine.root, 'build/redis/call.lua'), 'utf8'),
  words: ['2', ...words],
}
const least = {
  script: () => `local id=redis.call('XADD',KEYS[1],'MAXLEN',ARGV[1],'*','m',ARGV[2])
redis.call('PUBLISH',KEYS[1],ARGV[2])
return id`,
  words: ['1', words[1], String(HELD), text],
}

// Many calls at a time on each connection, as instances under load make them; and as
// redis-benchmark does unless told otherwise: fifty connections with a call each.
const piped = ['-c', '64', '-P', '8'], single = ['-c', '50']
const scripts = {
  same_script: { ...same, how: piped },
  least_script: { ...least, how: piped },
  same_single: { ...same, how: single },
  least_single: { ...least, how: single },
}

async function startBenchmark({ script, words, how }) {
  const redis = await machine.startRedis()
  const sha = await redis.wire.call('SCRIPT', 'LOAD', script())
  const args = ['-c', String(machine.core.client), 'redis-benchmark', '-p', String(redis.port),
    ...how, '--csv']
  return {
    redis: [redis],
    ask: async seconds => {
      const calls = Math.round(30000 * seconds)
      const { stdout } = await run('taskset',
        [...args, '-n', String(calls), 'EVALSHA', sha, ...words])
      const each = Number(stdout.trim().split('\n').at(-1).match(/.*?","([\d.]+)"/)[1])
      return { published: calls, seconds: calls / each }
    },
    stop: redis.stop,
  }
}

async function startCalls(name) {
  if (scripts[name]) return startBenchmark(scripts[name])
  const one = await start({ ...called[name], to: 0, heads: 'bare',
    load: { channels: CHANNELS, publishers: 64 } })
  return { ...one, ask: seconds => one.load.ask(`flood ${seconds}`) }
}

async function calls({ quick, able, failed, say }) {
  const entries = {}, out = {}
  const seconds = quick ? 0.5 : 1
  try {
    for (const name of [...Object.keys(called), ...Object.keys(scripts)])
      try {
        if (name === 'nchan' && !able.has('nchan')) continue
        entries[name] = { ...await startCalls(name), runs: [] }
        await entries[name].ask(seconds)
      } catch (error) {
        failed(`instances, messages, ${name}`, error)
        await entries[name]?.stop()
        delete entries[name]
      }
    for (let round = 0; round < (quick ? 2 : 7); round++)
      for (const { ask, redis, runs } of Object.values(entries)) {
        const before = redis.map(({ pid }) => machine.cpuOf(pid))
        const { published, seconds: took } = await ask(seconds)
        const used = redis.map(({ pid }, i) => machine.cpuOf(pid) - before[i])
        runs.push({ each: published / took, cpu_ns: sum(used) / published,
          busiest_ns: Math.max(...used) / published })
      }
    for (const name in entries)
      out[name] = Object.fromEntries(['each', 'cpu_ns', 'busiest_ns'].map(key =>
        [key, median(entries[name].runs.map(one => one[key]))]))
  } finally {
    for (const one of Object.values(entries)) await one.stop()
  }
  for (const name in out)
    say(`instances, messages: ${name}: ${Math.round(out[name].each)} a second, ` +
      `${us(out[name].cpu_ns)} us of the stores' CPU each, ${us(out[name].busiest_ns)} of the busiest`)
  return out
}

// ---- Redis comes back

// A connection that polls 16 channels, and asks again whatever comes.
function poll(port, names, onReply) {
  const socket = connect(port, '127.0.0.1')
  let last = '0', text = ''
  const ask = () => socket.write(`GET /api/poll/${names}?timeout=3600&last_id=${last} HTTP/1.1\r\n` +
    'Host: localhost\r\n\r\n')
  socket.on('connect', ask).on('error', () => {})
  socket.on('data', part => {
    text += part
    const head = text.indexOf('\r\n\r\n')
    const length = head < 0 ? 0 : Number(/Content-Length: (\d+)/.exec(text)[1])
    if (head < 0 || text.length < head + 4 + length) return
    const body = JSON.parse(text.slice(head + 4))
    text = ''
    last = body.last_id ?? last
    onReply(body)
    if (body.last_id) ask()
    else setTimeout(ask, 200)
  })
  return socket
}

const statsOf = async port => (await fetch(`http://127.0.0.1:${port}/stats`)).json()

async function until(what, limit_s) {
  const end = Date.now() + limit_s * 1000
  while (Date.now() < end) {
    const value = await what()
    if (value) return value
    await sleep(20)
  }
  throw new Error('it takes too long')
}

// All channels are opened, Redis is killed, and an empty one takes its place at once. (After it
// was away for long, the next try to connect may take up to ten seconds by itself.) Each poll is
// told once of each of its channels; meanwhile others publish at a fixed rate.
async function comeback({ quick, say }) {
  const count = quick ? 8000 : 100000, names = 16
  const all = []
  try {
    let redis = await machine.startRedis({ cpu: machine.core.any })
    all.push({ stop: () => redis.stop() })
    const server = await machine.startOurs({ heads: 'bare', held: HELD, redis: [redis],
      cpu: machine.core.any })
    all.push(server)
    let told = 0
    const onReply = ({ reset }) => { told += reset ? Object.keys(reset).length : 0 }
    for (let i = 0; i < count / names; i++) {
      const list = Array.from({ length: names }, (_, k) => `c${i}-${k}`).join()
      const socket = poll(server.port, list, onReply)
      all.push({ stop: () => socket.destroy() })
      if (i % 250 === 249) await sleep(30)
    }
    const opened = async () => (await statsOf(server.port)).redis_opens
    await until(async () => await opened() >= count, 60)
    await sleep(1000)
    const before = await opened()
    await redis.stop()
    const load = new Load(server, { channels: 64, publishers: 8, first: 50000, gate: 0, alone: 0,
      body: BODY })
    all.push(load)
    const began = Date.now()
    redis = await machine.startRedis({ cpu: machine.core.any, port: redis.port })
    await until(async () => (await statsOf(server.port)).redis_up, 20)
    const up = Date.now()
    const publishing = load.ask('rate 3 100')
    await until(async () => told >= count && await opened() >= before + count, 60)
    const out = { channels: count, up_ms: up - began, live_ms: Date.now() - began,
      publish_us: (await publishing).publish_delay_us }
    say(`instances, Redis is back: ${count} channels LIVE after ${out.live_ms} ms, ` +
      `the first call after ${out.up_ms}; publish p50 ${Math.round(out.publish_us[50])}, ` +
      `p99 ${Math.round(out.publish_us[99])} us meanwhile`)
    return out
  } finally {
    for (const one of all.reverse()) await one.stop()
  }
}

// ---- all of it

export async function instances(bench) {
  const out = { delay: await delays(bench), messages: await calls(bench),
    comeback: await comeback(bench) }
  const { messages: m, comeback: back } = out
  const { bar } = bench
  for (const n of [1, 2, 3])
    bar(`messages a second by ${n} instance${n > 1 ? 's' : ''}, of what redis-benchmark calls`,
      m[`ours_${n}`]?.each / m.same_script?.each, 0.8, { sense: 'at least' })
  bar("Redis's CPU per call of the script, against the least one",
    m.same_single?.cpu_ns / m.least_single?.cpu_ns, 2.2)
  bar(`${back.channels} channels LIVE after Redis's return`, back.live_ms / 1000, 5, { unit: 's' })
  bar('publish p99 meanwhile', back.publish_us[99] / 1000, 100, { unit: 'ms' })
  return out
}
