// Plays transcripts against real servers: whole, byte by byte, and cut in two at every position. A worker of
// wire.test.mjs, which asks for one case at a time and hears null or what is wrong. Apart from it for speed: node's
// test runner follows every promise and socket of its own thread.

import { spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import net from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parentPort, workerData } from 'node:worker_threads'
import * as transcript from './transcript.mjs'

const { Mismatch } = transcript
const here = path.dirname(fileURLToPath(import.meta.url))
const top = path.resolve(here, '../..')

const program = process.env.LONGPOLL_SERVER ?? path.join(top, 'build/server')
const wrap = (process.env.LONGPOLL_WRAP ?? '').split(' ').filter(Boolean)
const { seed } = workerData
const everywhere = !wrap.length && [undefined, 'asan'].includes(process.env.LONGPOLL_PASS)
const cutsMost = Number(process.env.LONGPOLL_CUTS ?? (everywhere ? 600 : 25)) // of a case
const patience = wrap.length ? 10 : 1

const replyMs = 10_000 * patience // a reply, or the end, that takes longer is not coming
const connectionsAtOnce = 120
const inStepBytes = 700 // byte by byte, so many wait each until the server has read the last,
const inStepMs = 3_000  // unless that takes too long: a request has its deadline
const longBytes = 20_000 // the middle of a longer block goes in pieces of random length, and it is cut at fewer places

const count = { cases: 0, replays: 0 }

// ----------------------------------------------------------------------------------- small things

const shown = bytes => transcript.show(bytes.toString('latin1'), true)
const turn = () => new Promise(resolve => setImmediate(resolve))
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms))

/** mulberry32: the same numbers for the same seed. */
function random(state) {
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

let channels = 0
const freshChannel = () => `c${(channels++).toString(36).padStart(7, '0')}`

/** Of this machine, and nobody else's: Linux answers on all of 127/8. */
let addresses = 0
function freshAddress() {
  const nth = addresses++
  return `127.${1 + (nth >> 16)}.${(nth >> 8) & 255}.${nth & 255}`
}

/** Three numbers of three digits, of which 127 is none. */
let networks = 0
function freshNetwork() {
  const nth = networks++
  return [130 + (Math.floor(nth / 10_000) % 70), 100 + (Math.floor(nth / 100) % 100), 100 + (nth % 100)].join('.')
}

/** At most so many tasks at a time. */
class Gate {
  #free
  #queue = []
  constructor(most) { this.#free = most }
  async run(task) {
    if (this.#free > 0) this.#free--
    else await new Promise(resolve => this.#queue.push(resolve))
    try {
      return await task()
    } finally {
      if (this.#queue.length) this.#queue.shift()()
      else this.#free++
    }
  }
}

const gate = new Gate(connectionsAtOnce)

// ------------------------------------------------------------------------------------ a connection

const readBuffer = Buffer.alloc(65_536)

class Connection {
  ended = false    // FIN came
  closed = false   // the socket is no more
  finished = false // we sent FIN
  error = null
  last = null      // the last reply taken
  #socket
  #chunks = []
  #wake = null

  static async open({ host, port }, localAddress) {
    const connection = new Connection()
    const wake = () => { connection.#wake?.(); connection.#wake = null }
    const onread = { // one buffer for all: else every read would cost a new one of 64 KiB
      buffer: readBuffer,
      callback: (size, buffer) => {
        connection.#chunks.push(Buffer.from(buffer.subarray(0, size)))
        wake()
        return true
      },
    }
    const socket = net.connect({ host, port, localAddress, noDelay: true, allowHalfOpen: true, onread })
    connection.#socket = socket
    socket.on('drain', wake)
    socket.on('end', () => { connection.ended = true; wake() })
    socket.on('error', error => { connection.error ??= error; wake() })
    socket.on('close', () => { connection.closed = true; wake() })
    await new Promise((resolve, reject) => { socket.once('connect', resolve); socket.once('error', reject) })
    return connection
  }

  /** All that came and has not been taken. */
  get bytes() {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)]
    return this.#chunks[0] ?? Buffer.alloc(0)
  }

  /** Sent for the kernel to deliver; what the server no longer wants to read may be lost. */
  write(bytes) {
    if (bytes.length && !this.ended && !this.closed) this.#socket.write(bytes)
  }

  /** Until the kernel has all of it; others have their turn. */
  async flush() {
    await turn()
    while (this.#socket.writableLength && !this.ended && !this.closed && !this.error) await this.#change(1_000)
  }

  halfClose() {
    this.finished = true
    return new Promise(resolve => {
      if (this.closed || this.error) resolve()
      else this.#socket.end(resolve)
    })
  }

  reset() { this.#socket.resetAndDestroy() }

  done(polite) {
    if (polite) this.#socket.end(() => this.#socket.destroy())
    else this.#socket.resetAndDestroy()
  }

  #change(ms) {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, ms)
      this.#wake = () => { clearTimeout(timer); resolve() }
    })
  }

  /** The next reply, left where it is; null if the end comes instead. */
  async peek(bodyless = false) {
    const deadline = Date.now() + replyMs
    for (;;) {
      const reply = transcript.parseReply(this.bytes, bodyless)
      if (reply) return reply
      const came = this.bytes.length ? `; only this came: ${shown(this.bytes)}` : ''
      if (this.ended && came) throw new Mismatch(`the connection was closed within this reply${came}`)
      if (this.ended) return null
      if (this.error) throw new Mismatch(`the connection broke before this reply (${this.error.code})${came}`)
      const left = deadline - Date.now()
      if (left <= -1) throw new Mismatch(`no reply in ${replyMs} ms${came}`)
      await this.#change(Math.max(left, 1)) // once more after the deadline: it may be us who were slow
    }
  }

  async reply(bodyless = false) {
    const reply = await this.peek(bodyless)
    if (!reply) throw new Mismatch('the connection was closed without this reply')
    const rest = this.bytes.subarray(reply.size)
    this.#chunks = rest.length ? [rest] : []
    return this.last = reply
  }

  /** Waits for the end of the stream, before which nothing may come. */
  async end() {
    const deadline = Date.now() + replyMs
    while (!this.ended) {
      this.nothing()
      if (this.error) throw new Mismatch(`reset (${this.error.code}), not closed`)
      const left = deadline - Date.now()
      if (left <= 0) throw new Mismatch(`still open after ${replyMs} ms`)
      await this.#change(left)
    }
    this.nothing()
  }

  nothing() {
    if (this.bytes.length)
      throw new Mismatch(`nothing more was to come, but this did: ${shown(this.bytes)}`)
  }
}

// -------------------------------------------------------------------------------------- a server

/** Requests one after another on a connection of its own, outside of what is tested. */
class Helper {
  #where
  #connection = null
  #turn = Promise.resolve()
  constructor(where) { this.#where = where }

  ask(bytes) {
    const answer = this.#turn.then(async () => {
      if (!this.#connection || this.#connection.ended || this.#connection.error)
        this.#connection = await Connection.open(this.#where)
      this.#connection.write(bytes)
      try {
        return await this.#connection.reply()
      } catch (error) {
        this.#connection.done()
        this.#connection = null
        throw new Mismatch(`on the runner's own connection: ${error.message}`)
      }
    })
    this.#turn = answer.catch(() => {})
    return answer
  }

  done() { this.#connection?.done(true) }
}

class Server {
  #child
  #stderr = ''
  #ping
  #publisher
  #waiting = []
  #pinging = false
  exit = null // [code, signal] once it has gone

  static #all = new Map()

  /** The one server with these options, begun when it is first wanted, and again if it has died. */
  static with(args) {
    const key = args.join(' ')
    const known = Server.#all.get(key)
    if (known && !known.dead) return known.ready
    const server = new Server()
    server.ready = server.#start(args)
    Server.#all.set(key, server)
    return server.ready
  }

  static get all() { return [...Server.#all.values()] }

  get dead() { return this.exit !== null }

  async #start(args) {
    const [command, ...rest] = [...wrap, program, '--port', '0', ...args]
    this.name = ['server', ...args].join(' ')
    const shown = option => {
      const token = args[args.indexOf(option) + 1 || args.length]
      return token ? `Authorization: Bearer ${token}\r\n` : ''
    }
    this.publishes = shown('--token')
    this.polls = shown('--poll-token')
    const child = this.#child = spawn(command, rest, { stdio: ['ignore', 'pipe', 'pipe'] })
    child.stderr.on('data', data => { this.#stderr = (this.#stderr + data).slice(-4000) })
    this.gone = new Promise(resolve => {
      child.on('error', error => { this.#stderr += error.message; resolve(this.exit = ['not started', null]) })
      child.on('exit', (code, signal) => resolve(this.exit = [code, signal]))
    })
    const line = await new Promise((resolve, reject) => {
      let text = ''
      child.stdout.on('data', data => {
        text += data
        if (text.includes('\n')) resolve(text.slice(0, text.indexOf('\n')))
      })
      this.gone.then(() => reject(new Error(`${command} does not run: ${this.obituary()}`)))
      setTimeout(() => reject(new Error(`${this.name}: no first line`)), replyMs).unref()
    })
    const found = /^listening on http:\/\/(.+):([0-9]+)\/?$/.exec(line)
    if (!found) throw new Error(`${this.name}: its first line is ${JSON.stringify(line)}`)
    this.where = { host: found[1], port: Number(found[2]) }
    this.#ping = new Helper(this.where)
    this.#publisher = new Helper(this.where)
    return this
  }

  obituary() {
    return `it ended (${this.exit?.filter(part => part !== null).join(', ')})\n${this.#stderr}`
  }

  /** Resolves once the server has had two turns, and so has read what was sent to it before. */
  settled() {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject })
      if (!this.#pinging) this.#pingOn()
    })
  }

  async #pingOn() {
    this.#pinging = true
    const request = Buffer.from(`GET /api/poll/ping?timeout=0 HTTP/1.1\r\nHost: localhost\r\n${this.polls}\r\n`)
    while (this.#waiting.length) {
      const waiting = this.#waiting.splice(0)
      try {
        await this.#ping.ask(request)
        await this.#ping.ask(request)
        waiting.forEach(({ resolve }) => resolve())
      } catch (error) {
        waiting.forEach(({ reject }) => reject(new Mismatch(error.message)))
      }
    }
    this.#pinging = false
  }

  async publish(channel, json) {
    const reply = await this.#publisher.ask(Buffer.concat([
      Buffer.from(`POST /api/publish/${channel} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n` +
        `${this.publishes}Content-Length: ${json.length}\r\n\r\n`),
      json,
    ]))
    if (reply.status !== 200) throw new Mismatch(`publish failed: ${reply.head}: ${reply.body}`)
    return JSON.parse(reply.body)
  }

  async stop() {
    this.#ping?.done()
    this.#publisher?.done()
    if (this.exit === null) this.#child.kill('SIGTERM')
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), 4 * replyMs)
    const [code, signal] = await this.gone
    clearTimeout(timer)
    if (code !== 0) throw new Error(`${this.name}: ended with ${signal ?? code}, not 0\n${this.#stderr}`)
  }
}

// ---------------------------------------------------------------------------------------- the ways

/** How a case's blocks are cut up: (bytes, nth block) => pieces, or null for every byte. */
const whole = { name: 'whole', cut: bytes => [bytes] }
const byteByByte = { name: 'byte by byte', cut: () => null }
const cutAt = (block, position, shown) => ({
  name: `cut in two at byte ${position}, ${shown}`,
  cut: (bytes, nth) => (nth === block ? [bytes.subarray(0, position), bytes.subarray(position)] : [bytes]),
})

/** Every cut of these blocks; of long ones those near line ends, and a sample. */
function waysToCut(blocks, most, rand) {
  const all = []
  blocks.forEach((bytes, block) => {
    for (let at = 1; at < bytes.length; at++) all.push({ block, at, bytes })
  })
  if (all.length > longBytes) most = Math.min(most, 100)
  let chosen = all
  if (all.length > most) {
    const isNear = ({ bytes, at }) => [-2, -1, 0, 1].some(by => bytes[at + by] === 10)
    const near = sample(all.filter(isNear), most / 2, rand)
    const far = sample(all.filter(cut => !isNear(cut)), most - near.length, rand)
    chosen = [...near, ...far]
  }
  return chosen.map(({ block, at, bytes }) => {
    const left = shown(bytes.subarray(Math.max(0, at - 20), at))
    const right = shown(bytes.subarray(at, at + 20))
    return cutAt(block, at, `between "${left}" and "${right}"${blocks.length > 1 ? ` of block ${block + 1}` : ''}`)
  })
}

function sample(list, most, rand) {
  if (list.length <= most) return list
  return Array.from({ length: Math.floor(most) }, () => list.splice(Math.floor(rand() * list.length), 1)[0])
}

async function writeBytes(connection, bytes, server, rand) {
  const long = bytes.length > longBytes
  const until = Date.now() + inStepMs
  for (let at = 0, size; at < bytes.length && !connection.ended; at += size) {
    const middle = long && at >= inStepBytes && at < bytes.length - inStepBytes
    size = middle ? Math.min(1 + Math.floor(rand() * 999), bytes.length - inStepBytes - at) : 1
    connection.write(bytes.subarray(at, at + size))
    if (at < inStepBytes && Date.now() < until) await server.settled()
    else if (at % 100 === 0 || size > 1) await connection.flush()
  }
}

// ----------------------------------------------------------------------------------------- replay

const probe = server => Buffer.from(
  `GET /api/poll/probe1,probe2?timeout=0 HTTP/1.1\r\nHost: localhost\r\n${server.polls}\r\n`)
const probeBody = /^\{"status":"timeout","last_id":"[0-9a-f]{16}-0,[0-9a-f]{16}-0",/

/** Plays a case once. Returns what was sent (blocks) and the replies, normalised. Throws Mismatch. */
async function replay(server, steps, way, rand, apart) {
  const address = apart ? freshAddress() : undefined
  const names = { channel: freshChannel(), network: freshNetwork() }
  const connections = new Map()
  const finished = new Set()
  const blocks = []
  const results = []
  let name = 'A'
  let published = null
  let step = null

  const connection = async () => {
    if (!connections.has(name)) connections.set(name, await Connection.open(server.where, address))
    return connections.get(name)
  }
  const saidClose = wire => wire.last?.fields.get('connection') === 'close'

  const play = {
    async send() {
      const wire = await connection()
      const bytes = transcript.render(step.parts, names)
      blocks.push(bytes)
      const pieces = way.cut(bytes, blocks.length - 1)
      if (!pieces) await writeBytes(wire, bytes, server, rand)
      else {
        for (const [index, piece] of pieces.entries()) {
          if (index > 0) await server.settled()
          wire.write(piece)
        }
      }
      await wire.flush()
    },
    async reply() {
      const wire = await connection()
      const bodyless = step.body?.none
      if (step.optional) {
        const next = await wire.peek(bodyless)
        if (!next || !transcript.startsAs(step, next, names)) return
      }
      const reply = await wire.reply(bodyless)
      const wrong = transcript.differences(step, reply, names)
      if (wrong.length) throw new Mismatch([...wrong, 'in', ...lines(reply.text)].join('\n'))
      if (!step.optional) results.push(transcript.normalised(reply, names))
    },
    async close() {
      const wire = await connection()
      await wire.end()
      if (wire.last && !saidClose(wire) && !wire.finished)
        throw new Mismatch('it closes, but its last reply did not say Connection: close')
      finished.add(name)
    },
    async either() {
      if (saidClose(await connection())) await play.close()
    },
    async 'half-close'() { await (await connection()).halfClose() },
    async reset() { (await connection()).reset(); finished.add(name) },
    async settle() { await server.settled(); await server.settled() },
    async quiet() {
      const wire = await connection()
      await sleep(step.ms)
      wire.nothing()
      if (wire.ended) throw new Mismatch('it has closed')
      if (wire.error) throw new Mismatch(`it broke (${wire.error.code})`)
    },
    async publish() {
      published = await server.publish(transcript.render(step.channel, names), transcript.render(step.json, names))
    },
    async waiters() {
      if (published?.waiters !== step.count)
        throw new Mismatch(`- "waiters":${step.count}\n+ "waiters":${published?.waiters}`)
    },
    async on() { name = step.connection },
  }

  try {
    for (step of steps) await play[step.kind]()
    step = null
    for (const [which, wire] of connections) {
      if (finished.has(which)) continue
      if (saidClose(wire)) throw new Mismatch(`its last reply said Connection: close; it was to stay open`)
      wire.nothing()
      if (wire.ended) throw new Mismatch('it has closed; it was to stay open')
      wire.write(probe(server))
      const reply = await wire.reply()
      wire.nothing()
      if (reply.status !== 200 || !probeBody.test(reply.body))
        throw new Mismatch(['the poll on the connection left open got:', ...lines(reply.text)].join('\n'))
    }
    count.replays++
    return { blocks, results }
  } catch (error) {
    if (error instanceof Mismatch) error.line ??= step?.line
    throw error
  } finally {
    for (const wire of connections.values()) wire.done(way === whole)
  }
}

const lines = text => transcript.show(text, true, 1500).split('\\r\\n').map(line => `    ${line}`)

/** The three ways for one case; throws an Error that tells a person all. */
async function check(file, server, one, { apart, cuts: most }) {
  const rand = random(seed ^ one.line)
  const play = async way => {
    try {
      return await replay(server, one.steps, way, rand, apart)
    } catch (error) {
      await Promise.race([server.gone, sleep(100)])
      if (server.dead) throw failure(file, one, way, new Mismatch(`the server died: ${server.obituary()}`))
      throw error instanceof Mismatch ? failure(file, one, way, error) : error
    }
  }
  const alike = (way, got) => {
    const wrong = []
    got.results.forEach((text, nth) => {
      const before = first.results[nth]
      if (text !== before) wrong.push(`reply ${nth + 1} is, whole:`, ...lines(before), 'and now:', ...lines(text))
    })
    if (wrong.length) throw failure(file, one, way, new Mismatch(wrong.join('\n')))
  }

  const first = await play(whole)

  await gate.run(async () => alike(byteByByte, await play(byteByByte)))

  let failed = null
  await Promise.all(waysToCut(first.blocks, Math.min(most, cutsMost), rand).map(way => gate.run(async () => {
    if (failed) return
    try {
      alike(way, await play(way))
    } catch (error) {
      failed ??= error
    }
  })))
  if (failed) throw failed
  count.cases++
}

function failure(file, one, way, mismatch) {
  const error = new Error([
    `tests/wire/${file}:${mismatch.line ?? one.line}: ${one.name}`,
    `  ${way.name}`,
    ...mismatch.message.split('\n').map(line => `  ${line}`),
    `  (seed ${seed}; this case begins at line ${one.line})`,
  ].join('\n'))
  error.stack = `${error.message}\n    at tests/wire/${file}:${mismatch.line ?? one.line}:1`
  return error
}

// ----------------------------------------------------------------------------- what we are asked

const transcripts = new Map()

function read(file) {
  if (!transcripts.has(file)) {
    const text = readFileSync(path.join(here, file), 'utf8')
    transcripts.set(file, transcript.parseTranscript(text, `tests/wire/${file}`))
  }
  return transcripts.get(file)
}

const requests = {
  async check({ file, name }) {
    const options = read(file)
    await check(file, await Server.with(options.args), options.cases.find(one => one.name === name), options)
  },
  async stop() {
    await Promise.all(Server.all.map(server => server.stop()))
  },
  async count() { return count },
}

parentPort.on('message', async ({ id, request, ...what }) => {
  try {
    parentPort.postMessage({ id, value: await requests[request](what) })
  } catch (error) {
    parentPort.postMessage({ id, message: error.message, stack: error.stack })
  }
})
