// The server that a competent person writes by hand in Node: parked responses in a Set per channel,
// a ring of history, the same API. No cluster: what is compared is one core.
import { createServer } from 'node:http'
import { randomBytes } from 'node:crypto'

const option = (name, value) => {
  const at = process.argv.indexOf('--' + name)
  return at < 0 ? value : Number(process.argv[at + 1])
}
const HELD = option('history-count', 1000)
const BODY_MAX = 65536
const WAIT_MAX = 600

const channels = new Map()

function channelOf(name) {
  let ch = channels.get(name)
  if (!ch) {
    ch = { epoch: randomBytes(8).toString('hex'), last: 0, time: 0, ring: new Array(HELD),
      waiting: new Set(), streams: new Set() }
    channels.set(name, ch)
  }
  return ch
}

function send(res, status, body) {
  res.writeHead(status, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
  })
  res.end(body)
}

const seconds = us => (us / 1e6).toFixed(6)

// All that is held after `from`, at most a hundred.
function render(ch, from) {
  const first = Math.max(from, ch.last - HELD) + 1
  const upTo = Math.min(ch.last, first + 99)
  const messages = []
  for (let seq = first; seq <= upTo; seq++)
    messages.push(ch.ring[seq % HELD])
  const status = messages.length ? 'messages' : 'timeout'
  const cursor = messages.length ? upTo : from
  return `{"status":"${status}","last_id":"${ch.epoch}-${cursor}",` +
    `"timestamp":${seconds(ch.time)},"count":${messages.length},"messages":[${messages.join(',')}]}`
}

function forget(waiter) {
  clearTimeout(waiter.timer)
  waiter.ch.waiting.delete(waiter)
}

function park(ch, from, res, wait) {
  const waiter = { ch, from, res, timer: null }
  waiter.timer = setTimeout(() => {
    forget(waiter)
    send(res, 200, render(ch, from))
  }, wait * 1000)
  ch.waiting.add(waiter)
  res.on('close', () => forget(waiter))
}

function poll(ch, query, res) {
  const [epoch, seq] = (query.get('last_id') || '0').split('-')
  const from = epoch === ch.epoch ? Number(seq) : 0
  const wait = Math.min(Number(query.get('timeout') ?? 30), WAIT_MAX)
  if (from < ch.last || wait === 0) send(res, 200, render(ch, from))
  else park(ch, from, res, wait)
}

// Those who stand at the same place, nearly always all, share one text.
function wake(ch) {
  const waiting = ch.waiting
  let from = -1, text = ''
  ch.waiting = new Set()
  for (const waiter of waiting) {
    clearTimeout(waiter.timer)
    if (waiter.from !== from) {
      from = waiter.from
      text = render(ch, from)
    }
    send(waiter.res, 200, text)
  }
  return waiting.size
}

function publish(name, body, res) {
  let message
  try {
    message = JSON.parse(body)
  } catch {}
  if (message === null || typeof message !== 'object' || Array.isArray(message)) {
    send(res, 400, '{"error":"Not a JSON object"}')
    return
  }
  const ch = channelOf(name)
  const id = `${ch.epoch}-${++ch.last}`
  ch.time = Math.max(ch.time + 1, Date.now() * 1000)
  ch.ring[ch.last % HELD] =
    JSON.stringify({ id, channel: name, timestamp: ch.time / 1e6, ...message })
  send(res, 200, `{"status":"published","message_id":"${id}","timestamp":${seconds(ch.time)},` +
    `"waiters":${ch.waiting.size}}`)
  wake(ch)
  tell(ch)
}

function readBody(req, res, then) {
  const parts = []
  let length = 0
  req.on('data', part => {
    length += part.length
    if (length <= BODY_MAX) parts.push(part)
  })
  req.on('end', () => {
    if (length > BODY_MAX) send(res, 413, '{"error":"Body too large"}')
    else then(parts.length === 1 ? parts[0].toString() : Buffer.concat(parts).toString())
  })
}

const event = (ch, seq) => `id: ${ch.epoch}-${seq}\ndata: ${ch.ring[seq % HELD]}\n\n`

// EventSource connects again by itself, with the id that it had last.
function stream(ch, query, req, res) {
  const [epoch, last] = (req.headers['last-event-id'] || query.get('last_id') || '0').split('-')
  res.writeHead(200, {
    'Content-Type': 'text/event-stream',
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    'X-Accel-Buffering': 'no',
  })
  res.write('retry: 1000\n\n')
  const from = epoch === ch.epoch ? Number(last) : 0
  for (let seq = Math.max(from, ch.last - HELD) + 1; seq <= ch.last; seq++)
    res.write(event(ch, seq))
  ch.streams.add(res)
  res.on('close', () => ch.streams.delete(res))
}

function tell(ch) {
  const text = event(ch, ch.last)
  for (const res of ch.streams) {
    if (res.writableLength > BODY_MAX * 4) res.destroy() // too slow: it comes back
    else res.write(text)
  }
}

setInterval(() => {
  for (const ch of channels.values())
    for (const res of ch.streams) res.write(':\n\n')
}, 15000)

const server = createServer((req, res) => {
  const [path, query = ''] = req.url.split('?', 2)
  if (req.method === 'GET' && path.startsWith('/api/poll/'))
    poll(channelOf(decodeURIComponent(path.slice(10))), new URLSearchParams(query), res)
  else if (req.method === 'GET' && path.startsWith('/api/stream/'))
    stream(channelOf(decodeURIComponent(path.slice(12))), new URLSearchParams(query), req, res)
  else if (req.method === 'POST' && path.startsWith('/api/publish/'))
    readBody(req, res, body => publish(decodeURIComponent(path.slice(13)), body, res))
  else
    send(res, 404, '{"error":"Not found"}')
})
server.keepAliveTimeout = 3600000
server.requestTimeout = 0
server.listen({ port: 0, host: '127.0.0.1', backlog: 4096 }, () => {
  console.log(`listening on http://127.0.0.1:${server.address().port}`)
})
