/* GET /api/stream: server-sent events. Each message once and in order, or a
   reset, whatever becomes of the connection, the server, Redis, or a proxy
   between. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { chance, SEED } from './crowd.mjs';
import { Listener, Stream, at, follow, streamTarget } from './events.mjs';
import { FRONTS, front, missing } from './fronts.mjs';
import {
  LIVE, Reader, SLOW, Server, atEnd, epochOf, get, live, run, scaled, seqOf, sleep, until, which,
} from './harness.mjs';
import { Redis, instances, skip } from './redis.mjs';

const FREE = { 'waiters-per-client': 'unlimited', 'waiters-per-address': 'unlimited', 'history-count': 100_000 };
const PROMPT_MS = 1000 * SLOW;
const dice = chance(SEED);

const counted = (n) => Array.from({ length: n }, (_, i) => i + 1);
const texts = (listener, channel) => listener.seen.get(channel).map(({ text }) => text);

/* Where a connection is cut: within the head, soon, or after a while. */
const anywhere = () => 1 + dice.below(dice.pick([300, 1500, 4000, 15_000]));
const anyhow = () => dice.pick(['close', 'reset']);

/* A stream that has begun, and ends with its test. */
async function open(t, server, channels, { listener = new Listener(channels), ...options } = {}) {
  const stream = await Stream.open(server, listener, options);
  atEnd(t, () => stream.close());
  assert.equal(await stream.begin(), 200, stream.text);
  return stream;
}

/* ---- one stream ------------------------------------------------------------ */

test('the head, and messages as they are published', async (t) => {
  const server = await live(t, FREE);
  await server.say('a', { text: 'before' });
  const stream = await open(t, server, ['a', 'b']);
  assert.deepEqual(Object.keys(stream.headers).sort(), ['cache-control', 'connection', 'content-type', 'date', 'x-accel-buffering', 'x-content-type-options']);
  assert.deepEqual(
    [stream.headers.connection, stream.headers['x-accel-buffering'], stream.headers['cache-control']],
    ['close', 'no', 'no-store'],
  );
  const { listener } = stream;
  assert.equal((await stream.next()).data.text, 'before');
  await server.waiters(1);
  for (let n = 1; n <= 50; n += 1) {
    const began = performance.now();
    const { message_id, waiters } = await server.say(n % 3 ? 'a' : 'b', { text: `${n} \u2028 ☕\u0001` });
    const { type, data } = await stream.next();
    assert.deepEqual([type, data.id, data.text], ['message', message_id, `${n} \u2028 ☕\u0001`]);
    assert.ok(performance.now() - began < PROMPT_MS);
    assert.ok(waiters <= 1);
  }
  assert.deepEqual(listener.resets, []);

  /* What stands between the tokens of a message cannot forge an event. */
  await server.publish('a', '{"x":1,\n\nid: 1\r\n}').then((answer) => answer.refuses(400));
  await server.publish('a', '{"text"\n\n:\r"lines",\r\n\n "data":\n1}');
  assert.deepEqual((await stream.next()).data.text, 'lines');
});

test('in silence there is a comment, and what comes after it comes at once', async (t) => {
  const server = await live(t, { ...FREE, 'stream-beat-ms': 100 });
  const stream = await open(t, server, 'room', { params: { last_id: 'now' } });
  const began = performance.now();
  await stream.until(() => stream.beats === 5);
  const ms = performance.now() - began;
  assert.ok(ms > 350 && ms < 500 + PROMPT_MS, `5 beats in ${ms} ms`);
  const { message_id } = await server.say('room', {});
  assert.equal((await stream.next()).id, message_id);
  assert.equal((await server.stats()).connections, 2);
  stream.close();
  await server.waiters(0);
});

test('where a stream begins: Last-Event-ID, then last_id; and what it is told', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 10 });
  const ids = [];
  for (const text of counted(8)) ids.push((await server.say('room', { text })).message_id);
  const from = async (cursor, params, headers) => {
    const listener = new Listener('room', cursor);
    const stream = await open(t, server, 'room', { listener, params, headers });
    await stream.until(() => listener.cursor === ids.at(-1));
    stream.close();
    await server.waiters(0);
    return { got: texts(listener, 'room'), resets: listener.resets };
  };
  const [, second, , , fifth] = ids;
  assert.deepEqual((await from(undefined)).got, counted(8));
  assert.deepEqual((await from(undefined, { limit: 1 })).got, counted(8));
  assert.deepEqual((await from(undefined, { last_id: fifth })).got, [6, 7, 8]);
  assert.deepEqual((await from(second, { last_id: fifth })).got, [3, 4, 5, 6, 7, 8]);
  assert.deepEqual((await from(undefined, { last_id: second }, { 'Last-Event-ID': '' })).got, [3, 4, 5, 6, 7, 8]);
  assert.deepEqual(await from(`${'0'.repeat(15)}1-1`), { got: counted(8), resets: [['room', 'epoch']] });
  const ahead = await from(`${epochOf(second)}-99`);
  assert.deepEqual(ahead.resets, [['room', 'ahead']]);
  for (const text of [9, 10, 11, 12, 13]) ids.push((await server.say('room', { text })).message_id);
  assert.deepEqual(await from(second), { got: counted(13).slice(3), resets: [['room', 'evicted']] });
  for (const [query, headers] of [['?since=0'], ['?limit=0'], ['?last_id=x'], ['', { 'Last-Event-ID': 'x' }], ['', { 'Last-Event-ID': `${second},${second}` }]]) {
    (await server.request('GET', `/api/stream/room${query}`, { headers })).refuses(400);
  }
});

test('curl and an HTTP/1.0 client read it', { skip: !which('curl') && 'curl is not installed' }, async (t) => {
  const server = await live(t, FREE);
  const curl = run([which('curl'), '-sN', `http://127.0.0.1:${server.port}${streamTarget('room')}`]);
  atEnd(t, () => curl.end());
  const old = await open(t, server, 'room', { version: '1.0', headers: { Connection: 'keep-alive' } });
  assert.equal(old.headers.connection, 'close');
  await until(() => /^retry: 1000\nid: [0-9a-f]{16}-0\n\n$/.test(curl.stdout), 'the head');
  let expected = curl.stdout;
  for (const n of counted(10)) {
    const began = performance.now();
    const { message_id } = await server.say('room', { n });
    const { id, data } = await old.next();
    assert.deepEqual([id, data.n], [message_id, n]);
    await until(() => curl.stdout.includes(`"n":${n}}\n\n`), 'it at curl');
    assert.ok(performance.now() - began < PROMPT_MS);
    expected += `id: ${message_id}\ndata: {"id":"${message_id}","channel":"room","timestamp":`;
    assert.ok(curl.stdout.startsWith(expected), curl.stdout);
    expected = curl.stdout;
  }
});

/* ---- connections that are cut ------------------------------------------------ */

/* `each` messages by each of three publishers on each of the channels; gives
   what they do. */
function publishers(channels, each, where) {
  return Promise.all([1, 2, 3].map(async (p) => {
    for (let n = 1; n <= each; n += 1) {
      for (const channel of channels) await where(n).say(channel, { p, n });
      if (n % 50 === 0) await sleep(5);
    }
  }));
}

/* All that they said, once and in order. */
function judge(listener, each) {
  assert.deepEqual(listener.resets, []);
  for (const [channel, messages] of listener.seen) {
    assert.deepEqual(messages.map(({ id }) => seqOf(id)), counted(3 * each), channel);
    for (const p of [1, 2, 3]) {
      assert.deepEqual(messages.filter((message) => message.p === p).map(({ n }) => n), counted(each), `publisher ${p} on ${channel}`);
    }
  }
}

for (const channels of [['a'], ['a', 'b', 'c']]) {
  test(`cut anywhere and resumed: each message once and in order, on ${channels.length}`, async (t) => {
    const server = await live(t, FREE);
    const each = scaled(3000 / 3 / channels.length, 30);
    const total = 3 * each * channels.length;
    const listeners = [{}, { limit: 1 }, { limit: 7 }, { limit: 1000 }].map((params) => ({ params, listener: new Listener(channels) }));
    listeners.push({ listener: new Listener(channels), cut: () => Infinity });
    const reading = listeners.map(({ listener, params, cut = anywhere }) => follow(listener, () => server, {
      done: () => listener.count >= total, cut, how: anyhow, params, ms: 60_000 * SLOW,
    }));
    await publishers(channels, each, () => server);
    const counts = await Promise.all(reading);
    for (const { listener } of listeners) judge(listener, each);
    for (const [i, { streams, cut, end, reset, refused, lost }] of counts.entries()) {
      assert.deepEqual([end, reset, refused, lost], [0, 0, 0, 0], 'it is us alone who end streams');
      if (listeners[i].cut) assert.equal(streams, 1);
      else assert.ok(cut > 0, 'a listener is not cut');
    }
    /* One listener may draw the longest again and again; all of them do not. */
    const cuts = counts.reduce((sum, { cut }) => sum + cut, 0);
    assert.ok(cuts > total / 60, `${cuts} cuts for ${total} messages`);
    await server.waiters(0);
    assert.equal((await server.say('a', {})).waiters, 0, 'nobody is left behind');
  });
}

test('through restarts of the server: a reset is told once, and nothing is lost without one', async (t) => {
  const options = { ...FREE, 'drain-ms': 200 * SLOW };
  const channels = ['a', 'b', 'c'];
  const restarts = 3;
  const acked = new Map(channels.map((channel) => [channel, new Map()]));       /* epoch -> ids */
  let server = await Server.start(LIVE, options);
  let over = false;
  atEnd(t, () => { over = true; return server.kill(); });
  const { port } = server;

  const say = async (channel, message) => {
    const answer = await server.publish(channel, message).catch(() => null);
    if (answer?.status !== 200) return null;
    const { message_id: id } = answer.json;
    const lives = acked.get(channel);
    if (!lives.has(epochOf(id))) lives.set(epochOf(id), []);
    lives.get(epochOf(id)).push(id);
    return id;
  };
  const publishing = channels.map(async (channel) => {
    for (let n = 1; !over; n += 1) {
      const id = await say(channel, { n });
      await sleep(id ? 2 : 10);
    }
  });
  const listeners = [['a'], ['a'], channels, channels, ['c', 'b', 'a']].map((list) => new Listener(list));
  let published = false;
  const hasAll = (listener) => published && listener.channels.every((channel) => {
    const [epoch, ids] = [...acked.get(channel)].at(-1);
    const at = listener.at.get(channel);
    return at?.epoch === epoch && at.seq >= Math.max(...ids.map(seqOf));
  });
  const reading = listeners.map((listener, i) => follow(listener, () => server, {
    done: () => hasAll(listener), cut: i % 2 ? anywhere : undefined, how: anyhow, ms: 60_000 * SLOW,
  }));

  for (let life = 0; life < restarts; life += 1) {
    await sleep(200 * SLOW);
    const steady = await Promise.all(channels.map((channel) => until(() => say(channel, { steady: life }), 'it to be published')));
    await until(() => listeners.every((listener) => listener.channels.every((channel) =>
      listener.has(channel, steady[channels.indexOf(channel)]))), 'all to have heard it');
    const before = server;
    before.process.child.kill('SIGTERM');
    await before.over();
    before.letGo();
    server = await until(() => Server.start(LIVE, { ...options, port }).catch((error) => {
      if (!/in use/i.test(error.message)) throw error;
      return sleep(20);
    }), 'the port to be free');
  }
  await sleep(200 * SLOW);
  over = true;
  await Promise.all(publishing);
  published = true;
  const counts = await Promise.all(reading);
  for (const [i, listener] of listeners.entries()) {
    assert.ok(counts[i].streams > restarts);
    assert.deepEqual(listener.resets.map(([, why]) => why), Array(restarts * listener.channels.length).fill('epoch'));
    for (const channel of listener.channels) {
      assert.equal(listener.resets.filter(([name]) => name === channel).length, restarts, `resets of ${channel}`);
      const lives = new Map();
      for (const { id } of listener.seen.get(channel)) lives.set(epochOf(id), [...lives.get(epochOf(id)) ?? [], id]);
      assert.deepEqual([...lives.keys()], [...acked.get(channel).keys()], 'one life after the other');
      for (const ids of lives.values()) assert.deepEqual(ids.map(seqOf), counted(ids.length));
      const [epoch, last] = [...lives].at(-1);
      for (const id of acked.get(channel).get(epoch)) assert.ok(last.includes(id), `${id} was published`);
    }
  }
  await server.stop();
});

/* ---- the end of a server ------------------------------------------------------- */

/* Tell it to stop; when it has ended, how long that took. */
function stopping(server) {
  const began = performance.now();
  server.process.child.kill('SIGTERM');
  const end = server.over().then(() => performance.now() - began);
  end.catch(() => {});
  return end;
}

test('a stop ends streams within the drain, and whole', async (t) => {
  const drain = 1000 * SLOW;
  const server = await Server.start(LIVE, { ...FREE, 'drain-ms': drain });
  atEnd(t, () => server.kill());
  const streams = [];
  for (let n = 1; n <= 30; n += 1) streams.push(await open(t, server, n % 3 ? ['a'] : ['a', 'b']));
  await server.waiters(30);
  await server.burst('a', 300);               /* some of it is on its way still */
  server.agent.destroy();
  const began = performance.now();
  const end = stopping(server);
  const times = await Promise.all(streams.map(async (stream) => {
    while (await stream.next({ ms: drain + 5000 * SLOW }));
    assert.deepEqual([stream.ending, stream.rest], ['end', '']);
    return performance.now() - began;
  }));
  for (const { listener } of streams) assert.deepEqual(listener.seen.get('a').map(({ n }) => n), counted(listener.count));
  assert.ok(Math.max(...times) < drain + 1000 * SLOW, `the last after ${Math.max(...times)} ms`);
  assert.ok(await end < drain + 2000 * SLOW, `the end after ${await end} ms`);
});

/* A stream that has had many replies in a row waits for its next turn. In a
   handler that takes a while the requests of streams and the stop pile up, so
   that the drain begins just then. */
test('a stop ends streams that wait for their turn', async (t) => {
  const drain = 500 * SLOW;
  const server = await Server.start(LIVE, { ...FREE, 'drain-ms': drain });
  atEnd(t, () => server.kill());
  const raws = [];
  for (const n of counted(40)) {
    await server.burst(`room${n}`, n);
    const raw = await server.raw();
    raw.send(get('/api/poll/none?timeout=0'));
    await raw.answer();
    raws.push(raw);
  }
  const busy = await server.raw();
  busy.send(get('/api/poll/none?timeout=0'));
  await busy.answer();
  server.process.child.kill('SIGSTOP');
  busy.send(`POST /test/publish-burst/busy?n=${scaled(600_000)}&text=x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n`);
  await sleep(20);
  raws.forEach((raw, i) => raw.send(get(streamTarget(`room${i + 1}`, { limit: 1 }))));
  await sleep(50);
  server.agent.destroy();
  server.process.child.kill('SIGCONT');
  await sleep(50);
  const end = stopping(server);
  await until(() => raws.every(({ state }) => state !== 'open'), 'the end of all streams', drain + 5000 * SLOW);
  for (const raw of raws) assert.equal(raw.state, 'end');
  const ms = await end;
  assert.ok(ms < drain + 4000 * SLOW, `the end after ${ms} ms`);
});

/* ---- many ------------------------------------------------------------------------ */

test('200 streams and 200 polls on one channel', async (t) => {
  const server = await live(t, FREE);
  const n = scaled(200, 20);
  const streams = await Promise.all(Array.from({ length: n }, () => open(t, server, 'room')));
  const readers = Array.from({ length: n }, () => new Reader('room'));
  const polling = readers.map((reader) => reader.read(server, 50, { timeout: 20 }));
  await server.waiters(2 * n);
  for (const i of counted(50)) {
    const { waiters } = await server.say('room', { i });
    if (i === 1) assert.equal(waiters, 2 * n);
  }
  const reading = streams.map((stream) => stream.until(() => stream.listener.count >= 50));
  assert.ok((await Promise.all(reading)).every(Boolean));
  await Promise.all(polling);
  for (const listener of [...readers, ...streams.map((stream) => stream.listener)]) {
    assert.deepEqual(listener.seen.get('room').map(({ i }) => i), counted(50));
    assert.deepEqual(listener.resets, []);
  }
});

test('who does not read is cut off, holds up nobody, and goes on from where it was', async (t) => {
  const server = await live(t, { ...FREE, 'write-ms': 1000 * SLOW, 'history-bytes': '200m' });
  const lazy = await open(t, server, 'room');
  lazy.raw.pause();
  const others = await Promise.all(Array.from({ length: 10 }, () => open(t, server, 'room')));
  const total = 250;
  const text = 'x'.repeat(60_000);              /* 15 MB, more than the kernel takes */
  for (let i = 0; i < total; i += 1) {
    const began = performance.now();
    await server.say('room', { text });
    await Promise.all(others.map((stream) => stream.until(() => stream.listener.count > i)));
    assert.ok(performance.now() - began < PROMPT_MS);
  }
  await until(async () => (await server.stats()).connections === 11, 'it to be cut off', 10_000 * SLOW);
  await until(async () => (await server.stats()).pinned_bytes === 0, 'what it held to be given back');
  lazy.raw.resume();
  while (await lazy.next());
  assert.ok(lazy.listener.count < total, `${lazy.listener.count} of ${total}`);
  await follow(lazy.listener, () => server, { done: () => lazy.listener.count >= total });
  for (const { listener } of [lazy, ...others]) {
    assert.deepEqual(listener.seen.get('room').map(({ id }) => seqOf(id)), counted(total));
    assert.deepEqual(listener.resets, []);
  }
});

/* ---- several instances -------------------------------------------------------------- */

test('two instances: a stream at one hears of the other, and goes on at the other', { skip }, async (t) => {
  const redis = await Redis.start(t);
  const two = (await instances(t, 2, redis.url)).map(({ server }) => server);
  const heard = await open(t, two[0], 'news');
  for (const n of counted(20)) {
    const began = performance.now();
    const { message_id } = await two[1].say('news', { n });
    assert.equal((await heard.next()).id, message_id);
    assert.ok(performance.now() - began < PROMPT_MS);
  }
  for (const channels of [['room'], ['a', 'b', 'c']]) {
    const each = scaled(900 / 3 / channels.length, 10);
    const total = 3 * each * channels.length;
    const listeners = [0, 1].map(() => new Listener(channels));
    const reading = listeners.map((listener, i) => {
      let n = i;
      return follow(listener, () => two[(n += 1) % 2], { done: () => listener.count >= total, cut: anywhere, how: anyhow, ms: 60_000 * SLOW });
    });
    await publishers(channels, each, (n) => two[n % 2]);
    for (const counts of await Promise.all(reading)) assert.equal(counts.end + counts.reset + counts.refused, 0, JSON.stringify(counts));
    for (const listener of listeners) judge(listener, each);
  }
});

test('Redis is killed, and is back empty: every stream is told once', { skip }, async (t) => {
  const redis = await Redis.start(t);
  const both = await instances(t, 2, redis.url);
  const channels = ['a', 'b'];
  for (const n of counted(5)) for (const channel of channels) await both[n % 2].server.say(channel, { n });
  let over = false;
  const listeners = Array.from({ length: 4 }, () => new Listener(channels));
  const reading = listeners.map((listener, i) => {
    let streams = i;
    const where = () => both[Math.floor((streams += 1) / 2) % 2].server;
    return follow(listener, where, {
      done: () => over && channels.every((channel) => listener.seen.get(channel).some(({ last }) => last)),
      refusals: [503], ms: 60_000 * SLOW,
    });
  });
  await until(() => listeners.every((listener) => listener.count === 10), 'what was published');
  await redis.kill();
  await redis.restart();
  await Promise.all(both.map((instance) => instance.ready(channels)));
  for (const channel of channels) {
    for (const n of counted(5)) await both[n % 2].server.say(channel, { n });
    await both[0].server.say(channel, { last: true });
  }
  over = true;
  await Promise.all(reading);
  for (const listener of listeners) {
    assert.deepEqual(listener.resets.sort(), [['a', 'epoch'], ['b', 'epoch']]);
    for (const list of listener.seen.values()) {
      /* The instances said that they were ready by messages of their own. */
      assert.deepEqual(list.map(({ n, last }) => n ?? (last ? 'last' : 0)).filter(Boolean), [...counted(5), ...counted(5), 'last']);
      const lives = [...new Set(list.map(({ id }) => epochOf(id)))];
      assert.equal(lives.length, 2);
      for (const life of lives) {
        const seqs = list.filter(({ id }) => epochOf(id) === life).map(({ id }) => seqOf(id));
        assert.deepEqual(seqs, counted(seqs.length));
      }
    }
  }
});

/* ---- behind proxies --------------------------------------------------------------------- */

for (const name of FRONTS) {
  test(`${name}: each message at once, and on through restarts of the instances`, { skip: skip || missing(name) }, async (t) => {
    const redis = await Redis.start(t);
    const three = await instances(t, 3, redis.url, { trust: '127.0.0.1', 'drain-ms': 500 * SLOW });
    const proxy = await front(t, name, three.map(({ port }) => port));
    const streams = [];
    for (let i = 0; i < 6; i += 1) streams.push(await open(t, at(proxy.port), 'news'));
    for (const n of counted(20)) {
      const began = performance.now();
      await three[n % 3].server.say('news', { n });
      await Promise.all(streams.map((stream) => stream.until(() => stream.listener.count === n)));
      const ms = performance.now() - began;
      assert.ok(ms < PROMPT_MS, `after ${ms} ms`);
    }

    /* They go on by way of the proxy, whichever instance that chooses. */
    let over = false;
    let published = false;
    const last = new Map([['a', 0], ['b', 0]]);
    const publishing = [...last.keys()].map(async (channel) => {
      for (let n = 1; !over; n += 1) {
        const { server } = three[n % 3];
        const answer = await server?.publish(channel, { n }).catch(() => null);
        if (answer?.status === 200) last.set(channel, Math.max(last.get(channel), seqOf(answer.json.message_id)));
        await sleep(5);
      }
    });
    const listeners = counted(6).map((i) => new Listener(i % 2 ? ['a'] : ['b', 'a']));
    const reading = listeners.map((listener, i) => follow(listener, () => at(proxy.port), {
      done: () => published && listener.channels.every((channel) => (listener.at.get(channel)?.seq ?? 0) >= last.get(channel)),
      cut: i < 2 ? anywhere : undefined, how: anyhow, ms: 60_000 * SLOW,
    }));
    for (const instance of three) {
      await sleep(300);
      await instance.restart();
      await instance.ready();
    }
    await sleep(300);
    over = true;
    await Promise.all(publishing);
    published = true;
    const counts = await Promise.all(reading);
    assert.ok(counts.reduce((sum, { end }) => sum + end, 0) > 0, 'some streams were ended by an instance');
    for (const listener of listeners) {
      assert.deepEqual(listener.resets, []);
      for (const list of listener.seen.values()) assert.deepEqual(list.map(({ id }) => seqOf(id)), counted(list.length));
    }
  });
}

/* The proxies' times are those of demo/, made forty-five times shorter, as is
   the time between two comments. */
test('proxies: a silent stream lasts, and after a reload it moves on', async (t) => {
  const beat = 333;
  const server = await live(t, { ...FREE, 'trusted-proxies': '127.0.0.1', 'stream-beat-ms': beat });
  const shorter = (text) => text.replaceAll('90s', '2s');
  const here = FRONTS.filter((name) => !missing(name));
  if (here.length === 0) t.skip('no proxy is installed');
  await Promise.all(here.map(async (name) => {
    const proxy = await front(t, name, [server.port], shorter);
    const stream = await open(t, at(proxy.port), name);
    await stream.until(() => stream.beats >= 15);
    const { message_id } = await server.say(name, {});
    assert.equal((await stream.next()).id, message_id, name);

    proxy.reload();
    const began = performance.now();
    while (await stream.next({ ms: 10_000 * SLOW }));
    assert.ok(performance.now() - began < 5000 * SLOW, `${name}: its old worker has ended`);
    assert.equal(stream.rest, '', name);
    await server.say(name, { text: 'missed' });
    const next = await open(t, at(proxy.port), name, { listener: stream.listener });
    assert.equal((await next.next()).data.text, 'missed', name);

    /* The server hears of a client that has gone. */
    const { waiters } = await server.stats();
    next.close();
    await until(async () => (await server.stats()).waiters < waiters, `${name} to tell that the client has gone`);
  }));
});
