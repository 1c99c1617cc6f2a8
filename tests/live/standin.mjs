#!/usr/bin/env node
/* A stand-in for an instance of the server: the HTTP API over Redis in few
   lines, slow and simple. It keeps nothing: every poll and every wake asks
   Redis by the script. It exists so that the tests of many instances can be
   tested themselves, and for its errors: BUG in the environment names one, and
   the judge (crowd.mjs) must find it.

     sticky    an epoch is kept, whatever happens to Redis
     silent    a reset is not told
     again     after a reset everything held is sent, as if nothing were known
     drop      one message in 300 is left out, and its cursor goes on
     twice     one reply in 100 is given once more
     swap      one reply in 50 has its first two messages in the other order
     yes       a publish whose outcome is unknown is answered 200
     deaf      a subscription that broke is not made again
     leak      a refused publish is published all the same

   Its command line is the server's, of which it knows --port, --redis,
   --redis-timeout-ms, --history-count, --history-age-ms and --drain-ms. */

import { randomBytes } from 'node:crypto';
import http from 'node:http';
import { Wire, RedisError, utf8 } from './redis-wire.mjs';

const words = process.argv.slice(2);
if (words.includes('--help')) process.exit(0);
const option = (name, fallback) => (words.includes(`--${name}`) ? words[words.indexOf(`--${name}`) + 1] : fallback);
const { BUG } = process.env;
const TIMEOUT_MS = Number(option('redis-timeout-ms', 5000));
const COUNT = Number(option('history-count', 1000));
const AGE_MS = Number(option('history-age-ms', 300_000));

/* ---- the script ----------------------------------------------------------- */

const SCRIPT = `
local h, x, i, channel = KEYS[1], KEYS[2], KEYS[3], ARGV[1]
local candidate, body, count, age, retry = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6]
local r = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
local v = redis.call('HMGET', h, 'e', 'r', 's', 't', 'b', 'pe', 'ps')
local n = redis.call('XLEN', x)
local time = redis.call('TIME')
local dup = i ~= '' and redis.call('GET', i)
local now = time[1] * 1000000 + time[2]
local e, s, t, b = v[1], tonumber(v[3] or 0), tonumber(v[4] or 0), tonumber(v[5] or 0)
local f = function (number) return string.format('%.0f', number) end
if not e or (v[2] ~= r and ARGV[7] ~= 'sticky') then
  if n > 0 then
    local id = redis.call('XREVRANGE', x, '+', '-', 'COUNT', 1)[1][1]
    local last, at = string.match(id, '(%d+)%-(%d+)')
    if not e then s, t = tonumber(last), tonumber(at) elseif tonumber(last) ~= s then redis.call('DEL', x) n = 0 end
  end
  v[6], v[7] = e or '', f(s)
  e = candidate
  b = math.max(now, t + 1)
  t = b
  redis.call('HSET', h, 'e', e, 'r', r, 's', f(s), 't', f(t), 'b', f(b), 'pe', v[6], 'ps', v[7])
end
if body ~= '' then
  if dup then return {'dup', dup} end
  s, t = s + 1, math.max(now, t + 1)
  local text = e .. ' ' .. f(s) .. ' ' .. f(t) .. ' ' .. body
  redis.call('XADD', x, 'MAXLEN', count, f(s) .. '-' .. f(t), 'm', text)
  redis.call('HSET', h, 's', f(s), 't', f(t))
  local k = redis.call('PUBLISH', channel, text)
  if i ~= '' then redis.call('SET', i, e .. ' ' .. f(s) .. ' ' .. f(t), 'PX', retry) end
  return {'ok', e, f(s), f(t), k}
end
return {'ok', e, f(s), f(t), n, v[6] or '', f(tonumber(v[7] or 0))}`;

const MASK = (1n << 64n) - 1n;
function hash(name) {
  let value = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(name)) value = ((value ^ BigInt(byte)) * 0x100000001b3n) & MASK;
  return value;
}

function jump(key, buckets) {
  let b = -1n;
  let j = 0n;
  while (j < BigInt(buckets)) {
    b = j;
    key = (key * 2862933555777941757n + 1n) & MASK;
    j = BigInt(Math.floor(Number(b + 1n) * (2 ** 31 / Number((key >> 33n) + 1n))));
  }
  return Number(b);
}

/* ---- a store --------------------------------------------------------------- */

class Away extends Error {}
class Unknown extends Error {}

class Store {
  constructor(url) {
    this.url = new URL(url);
    this.parked = new Map();                    /* channel -> those who wait */
    this.connect();
    this.listen();
    setInterval(() => this.beat(), 300).unref();
  }

  say(what) {
    if (what !== this.said) process.stderr.write(`server: warning: redis ${this.url.host}: ${what}\n`);
    this.said = what;
  }

  open() {
    const wire = new Wire(Number(this.url.port), { onPush: (push) => this.wake(utf8(push.at(-2)).slice('lp1:'.length)) });
    const { username, password } = this.url;
    if (password) wire.call('AUTH', decodeURIComponent(username) || 'default', decodeURIComponent(password));
    return wire;
  }

  async connect() {
    for (;;) {
      const wire = this.open();
      try {
        const role = await late(wire.call('ROLE'));
        if (role[0] !== 'master') throw new Error(`a replica, ${role[0]}`);
        if (/cluster_enabled:1/.test(await late(wire.call('INFO', 'cluster')))) throw new Error('Cluster mode');
        const mine = `${COUNT} ${AGE_MS}`;
        const layout = await late(wire.call('GET', 'lp1:layout')) ?? mine;
        if (layout === mine) await late(wire.call('SET', 'lp1:layout', mine));
        if (layout !== mine) throw new Error(`another layout: ${layout}, not ${mine}`);
        const [, policy] = /maxmemory_policy:(\S+)/.exec(await late(wire.call('INFO', 'memory')));
        if (!/noeviction|volatile/.test(policy)) this.say(`its policy evicts: ${policy}`);
        this.wire = wire;
        this.said = '';
        this.wakeAll();
        await wire.closed;
      } catch (error) {
        this.say(`down, ${JSON.stringify(error.message || error.code)}`);
      }
      this.wire = null;
      wire.close();
      await pause(50 + Math.random() * 150);
    }
  }

  async beat() {
    const { wire } = this;
    if (!wire) return;
    await late(identity(wire)).then((replid) => {
      if (this.subscribed && this.subscribed !== replid) throw new Error('another identity');
    }).catch((error) => {
      this.say(`down, ${error.message}`);
      if (wire === this.wire) this.wire = null;
      wire.close();
      this.subscription?.close();
    });
  }

  async listen() {
    do {
      const wire = this.open();
      this.subscription = wire;
      this.subscribed = await identity(wire).catch(() => '');
      await wire.call('PSUBSCRIBE', 'lp1:*').then(() => this.wakeAll(), () => {});
      const beat = setInterval(() => late(wire.call('PING')).catch(() => wire.close()), 300);
      wire.take = takePong(wire.take);
      await wire.closed;
      clearInterval(beat);
      this.subscribed = '';
      await pause(50);
    } while (BUG !== 'deaf');
  }

  wake(channel) { for (const poll of this.parked.get(channel) ?? []) poll(); }
  wakeAll() { for (const channel of this.parked.keys()) this.wake(channel); }

  async script(channel, body = '', key = '') {
    if (!this.wire) throw new Away('Redis is away');
    const prefix = `lp1:{${(hash(channel) >> 52n).toString(16).padStart(3, '0')}}`;
    try {
      const reply = await Promise.race([stopped, late(this.wire.call('EVAL', SCRIPT, 3, `${prefix}h:${channel}`, `${prefix}x:${channel}`,
        key && `${prefix}i:${channel}\n${key}`, `lp1:${channel}`, randomBytes(8).toString('hex'), body, COUNT, AGE_MS, 300_000, BUG ?? ''))]);
      return reply;
    } catch (error) {
      if (error instanceof RedisError) this.say(error.message);
      throw error instanceof RedisError ? new Away(error.message) : new Unknown('Outcome unknown');
    }
  }

  async range(channel, from, count) {
    const prefix = `lp1:{${(hash(channel) >> 52n).toString(16).padStart(3, '0')}}`;
    const list = await late(this.wire.call('XRANGE', `${prefix}x:${channel}`, `${from + 1}-0`, '+', 'COUNT', count));
    return list.map(([, [, text]]) => {
      const [, epoch, seq, time, members] = /^(\S+) (\S+) (\S+) ([^]*)$/.exec(utf8(text));
      const head = `{"id":"${epoch}-${seq}","channel":${JSON.stringify(channel)},"timestamp":${seconds(time)}`;
      return { seq: Number(seq), time: Number(time), text: head + members };
    });
  }
}

const identity = async (wire) => /master_replid:(\w+)/.exec(await wire.call('INFO', 'replication'))[1];
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const takePong = (take) => function pong(value) { return value?.[0] === 'pong' ? take.call(this, 'PONG') : take.call(this, value); };

function late(promise) {
  return Promise.race([promise, pause(TIMEOUT_MS).then(() => { throw new Error('no answer in time'); })]);
}

let stopping = false;
let giveUp;
const stopped = new Promise((_, fail) => { giveUp = () => fail(new Error('stopped')); });
stopped.catch(() => {});

const stores = option('redis', '').split(',').map((url) => new Store(url));
const storeOf = (channel) => stores[jump(hash(channel), stores.length)];

/* ---- the HTTP API ---------------------------------------------------------- */

const parked = new Set();

function answer(response, status, text, headers = {}) {
  const close = stopping ? { Connection: 'close' } : {};
  const length = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) };
  response.writeHead(status, { ...length, 'Cache-Control': 'no-store', ...headers, ...close });
  response.end(text);
}

const refuse = (response, status, error) =>
  answer(response, status, JSON.stringify({ error }), status === 503 ? { 'Retry-After': '1' } : {});

const seconds = (micros) => `${micros.slice(0, -6)}.${micros.slice(-6)}`;
const published = (id, micros, waiters, k) =>
  `{"status":"published","message_id":"${id}","timestamp":${seconds(micros)},"waiters":${waiters},"instances":${k}}`;

async function publish(request, response, channel) {
  let body = '';
  for await (const part of request.setEncoding('utf8')) body += part;
  const members = body.trim().replace(/^\{\s*/, ',').replace(/^,\}$/, '}');
  const store = storeOf(channel);
  try {
    const [word, ...reply] = await store.script(channel, members, request.headers['idempotency-key'] ?? '');
    const [epoch, seq, time, k] = word === 'dup' ? reply[0].split(' ') : reply;
    if (BUG === 'leak' && Math.random() < 0.01) return refuse(response, 503, 'a lie');
    return answer(response, 200, published(`${epoch}-${seq}`, time, store.parked.get(channel)?.size ?? 0, k ?? 0));
  } catch (error) {
    if (error instanceof Away) return refuse(response, 503, error.message);
    if (BUG === 'yes') return answer(response, 200, published(`${'0'.repeat(16)}-${Math.floor(Math.random() * 1e9)}`, '1000000', 0, 0));
    return refuse(response, 504, 'Outcome unknown');
  }
}

/* Where a cursor stands: from which SEQ on, in which epoch, and why not. */
function judge(cursor, [, epoch, s, t, n, pe, ps]) {
  const last = Number(s);
  const floor = last - Number(n);
  const now = { epoch, last, time: Number(t) };
  if (cursor === '' || cursor === '0') return { ...now, from: floor };
  if (cursor === 'now') return { ...now, from: last };
  const [theirs, digits] = cursor.split('-');
  const seq = Number(digits);
  if (theirs !== epoch) {
    if (BUG === 'again' || theirs !== pe) return { ...now, from: floor, why: 'epoch' };
    return { ...now, from: Math.max(floor, Math.min(seq, Number(ps))), why: 'epoch' };
  }
  if (seq > last) return { ...now, from: floor, why: 'ahead' };
  if (seq < floor) return { ...now, from: floor, why: 'evicted' };
  return { ...now, from: seq };
}

/* A timestamp as a cursor: the first message that is later. */
async function later(channel, since, state) {
  const [seconds, fraction = ''] = since.split('.');
  const time = Number(seconds + fraction.padEnd(6, '0'));
  const list = await storeOf(channel).range(channel, 0, 1000);
  const next = list.find((one) => one.time > time);
  return `${state[1]}-${next ? next.seq - 1 : state[2]}`;
}

async function look(channels, cursors, limit) {
  const reset = {};
  const ends = [];
  const found = [];
  let timestamp = 0;
  for (const [i, channel] of channels.entries()) {
    const cursor = cursors[i] ?? cursors[0];
    const state = await storeOf(channel).script(channel).catch((error) => {
      if (channels.length === 1 || !/-/.test(cursor)) throw error;
      const [epoch, seq] = cursor.split('-');     /* nothing is known of it just now */
      return ['ok', epoch, seq, '0', '0', '', '0'];
    });
    const place = judge(cursor, state);
    if (place.why && BUG !== 'silent') reset[channel] = place.why;
    let list = place.from < place.last ? await storeOf(channel).range(channel, place.from, limit) : [];
    list = list.filter(({ seq }) => seq <= place.last);
    if (list.length > 0 && list[0].seq !== place.from + 1) list = [];      /* it has changed meanwhile */
    ends.push({ epoch: place.epoch, seq: place.from });
    found.push(...list.map((one) => ({ ...one, i })));
    timestamp = Math.max(timestamp, place.time);
  }
  found.sort((a, b) => a.time - b.time || a.i - b.i);
  const messages = found.slice(0, limit);
  for (const { seq, i } of messages) ends[i].seq = seq;
  if (BUG === 'swap' && messages.length > 1 && Math.random() < 0.02) messages.unshift(...messages.splice(1, 1));
  if (BUG === 'drop' && Math.random() < messages.length / 300) messages.splice(Math.floor(Math.random() * messages.length), 1);
  const last_id = ends.map(({ epoch, seq }) => `${epoch}-${seq}`).join(',');
  return { messages, reset, last_id, timestamp, more: found.length > limit };
}

async function poll(request, response, channels, query) {
  let cursors = (query.get('last_id') ?? '').split(',');
  const timeout = Math.min(60, Number(query.get('timeout') ?? 30)) * 1000;
  const since = query.get('since');
  const limit = since === null ? Number(query.get('limit') ?? 100) : 1;
  const end = Date.now() + timeout;
  let gone = false;
  let over;
  let woken = true;
  const wake = () => { woken = true; over?.(); };
  response.on('close', () => { gone = true; wake(); });
  for (const channel of channels) {
    const { parked: map } = storeOf(channel);
    if (!map.has(channel)) map.set(channel, new Set());
    map.get(channel).add(wake);
  }
  parked.add(wake);
  try {
    if (since !== null) cursors = [await later(channels[0], since, await storeOf(channels[0]).script(channels[0]))];
    for (let first = true; !gone; first = false) {
      woken = false;
      const found = await look(channels, cursors, limit).catch(() => null);   /* Redis is away */
      if (!found && first) return refuse(response, 503, 'Redis is away');
      const isDone = Date.now() >= end || stopping;
      if (found && (found.messages.length > 0 || Object.keys(found.reset).length > 0 || isDone)) {
        const status = found.messages.length > 0 ? 'messages' : 'timeout';
        const tail = (found.more ? ',"more":true' : '') + (Object.keys(found.reset).length > 0 ? `,"reset":${JSON.stringify(found.reset)}` : '');
        const last_id = BUG === 'twice' && Math.random() < 0.01 && /^[^,]{17,}$/.test(cursors.join()) ? cursors.join() : found.last_id;
        const time = ((found.messages.at(-1)?.time ?? found.timestamp) / 1e6).toFixed(6);
        const texts = found.messages.map(({ text }) => text).join();
        const head = `{"status":"${status}","last_id":"${last_id}","timestamp":${time},"count":${found.messages.length}`;
        if (since !== null && texts) return answer(response, 200, `${head.replace('"messages"', '"message"')},"data":${texts}${tail}}`);
        return answer(response, 200, `${head},"messages":[${texts}]${tail}}`);
      }
      if (found) cursors = found.last_id.split(',');
      if (!found && isDone) return answer(response, 200, `{"status":"timeout","last_id":"${cursors.join()}","timestamp":0,"count":0,"messages":[]}`);
      if (!woken) {
        const wait = found ? end - Date.now() : Math.min(end - Date.now(), 100);
        await new Promise((done) => { over = done; setTimeout(done, Math.max(0, wait)); });
      }
    }
    return undefined;
  } finally {
    parked.delete(wake);
    for (const channel of channels) storeOf(channel).parked.get(channel).delete(wake);
  }
}

const server = http.createServer({ keepAliveTimeout: 75_000 }, (request, response) => {
  const { pathname, searchParams } = new URL(request.url, 'http://localhost');
  const [, api, what, names = ''] = pathname.split('/');
  const channels = names.split(',').map(decodeURIComponent);
  const doing = api === 'api' && what === 'poll' ? poll(request, response, channels, searchParams)
    : api === 'api' && what === 'publish' ? publish(request, response, channels[0]) : Promise.resolve(refuse(response, 404, 'Not found'));
  doing.catch((error) => { process.stderr.write(`${error.stack}\n`); response.destroy(); });
});
server.listen(Number(option('port', 8080)), '127.0.0.1', () => {
  process.stdout.write(`listening on http://127.0.0.1:${server.address().port}\n`);
});

process.once('SIGTERM', () => {
  stopping = true;
  server.closeIdleConnections = () => {};       /* one may be new, its request on the way */
  server.close(() => process.exit(0));
  for (const wake of parked) setTimeout(wake, Math.random() * Number(option('drain-ms', 2000)) * 0.5);
  setTimeout(giveUp, Number(option('drain-ms', 2000)));
  setTimeout(() => { server.closeAllConnections(); process.exit(0); }, Number(option('drain-ms', 2000)) + 500).unref();
});
