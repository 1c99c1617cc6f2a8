/* The promise of continuity: a client that sends back the cursor it was last
   given gets every message after it exactly once and in order, or is told at
   once that this cannot be proven. Never neither. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  CURSOR, Reader, SLOW, TIME, epochOf, get, live, pollTarget, publishTarget, scaled, seqOf, sleep, until as untilNamed,
} from './harness.mjs';

/* Many readers from one address are not what is tested here. */
const FREE = { 'waiters-per-client': 'unlimited', 'waiters-per-address': 'unlimited' };

/* Until it is true; bounded. */
const until = (fn, ms = 10_000 * SLOW) => untilNamed(fn, 'the wait', ms);

const ids = (reply) => reply.messages.map((message) => message.id);
const texts = (reply) => reply.messages.map((message) => message.text);

/* Publish texts one after the other; give the last message's id. */
async function say(server, channel, ...all) {
  let id;
  for (const text of all) id = (await server.say(channel, { text })).message_id;
  return id;
}

const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => `${from + i}`);

/* ---- under load ------------------------------------------------------- */

test('every reader gets every message once and in order, while several publish', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 100_000 });
  const channels = ['a', 'b', 'c', 'd'];
  const each = scaled(600, 20);          /* by each publisher, on each channel */
  const publishers = [1, 2, 3];
  const total = each * publishers.length;
  const readers = [
    [['a'], {}], [['a'], { limit: 1 }], [['b'], { limit: 7 }],
    [['a', 'b'], {}], [['d', 'c', 'b', 'a'], { limit: 50 }], [['a', 'b', 'c', 'd'], { limit: 1000 }],
  ].map(([list, params]) => ({ reader: new Reader(list), params }));

  const publishing = publishers.map(async (p) => {
    for (let n = 1; n <= each; n += 1) {
      for (const channel of channels) await server.say(channel, { p, n });
    }
  });
  const reading = readers.map(({ reader, params }) =>
    reader.read(server, total * reader.channels.length, params));
  await Promise.all([...publishing, ...reading]);

  for (const { reader } of readers) {
    assert.deepEqual(reader.resets, []);
    for (const [channel, messages] of reader.seen) {
      assert.deepEqual(messages.map(({ id }) => seqOf(id)), numbers(1, total).map(Number), channel);
      for (const p of publishers) {
        const own = messages.filter((message) => message.p === p).map(({ n }) => n);
        assert.deepEqual(own, numbers(1, each).map(Number), `publisher ${p} on ${channel}`);
      }
      messages.reduce((before, { timestamp }) => {
        assert.ok(timestamp > before, 'timestamps increase');
        return timestamp;
      }, 0);
    }
  }
  /* All readers were shown the same ids. */
  const shown = readers.flatMap(({ reader }) => (reader.seen.get('a') ?? []).map(({ id }) => id));
  assert.equal(new Set(shown).size, total);
});

test('lp_publish on other threads loses and doubles nothing', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 100_000 });
  const each = scaled(20_000, 500);
  const readers = [new Reader('threads'), new Reader(['other', 'threads'])];
  const reading = readers.map((reader) => reader.read(server, 2 * each, { limit: 1000 }));
  await server.burst('threads', each, { text: 'one', thread: true });
  await server.burst('threads', each, { text: 'two', thread: true });
  await Promise.all(reading);
  for (const reader of readers) {
    for (const text of ['one', 'two']) {
      const own = reader.seen.get('threads').filter((message) => message.text === text);
      assert.deepEqual(own.map(({ n }) => n), numbers(1, each).map(Number));
    }
  }
});

test('lp_publish_async tells the id, or the error', async (t) => {
  const server = await live(t, FREE);
  const ask = (channel, body) => server.request('POST', `/test/publish-async/${channel}`, { body });
  await ask('later', '{"text":"a"}');
  await ask('later', 'not json');
  await ask('later', '{"text":"b"}');
  const told = [];
  while (told.length < 3) told.push(...(await server.request('GET', '/test/outcomes')).json);
  const { messages } = await server.ask('later', { timeout: 0 });
  assert.deepEqual(told.map(({ id }) => id), [messages[0].id, null, messages[1].id]);
});

/* ---- replies that never arrive ---------------------------------------- */

test('a reply that dies on the way costs nothing', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 100_000 });
  const total = scaled(400, 40);
  const reader = new Reader('torn');
  const text = 'x'.repeat(3000);
  const publishing = (async () => {
    for (let n = 1; n <= total; n += 1) await server.say('torn', { n, text });
  })();
  for (let turn = 0; reader.count < total; turn += 1) {
    const raw = await server.raw();
    raw.send(get(pollTarget('torn', { last_id: reader.cursor ?? '0', timeout: 5 })));
    if (turn % 4 === 3) {
      reader.take((await raw.answer()).json);
      raw.close();
    } else {
      /* Part of the reply: of its head, then of its body. */
      await raw.bytes([1, 100, 500][turn % 4]);
      if (turn % 2) raw.reset(); else raw.close();
    }
  }
  await publishing;
  assert.equal(reader.count, total);
  assert.deepEqual(reader.resets, []);
});

test('a connection reset while its poll is parked costs nothing', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 100_000 });
  const total = scaled(300, 30);
  const reader = new Reader('cut');
  const publishing = (async () => {
    for (let n = 1; n <= total; n += 1) {
      await server.say('cut', { n });
      if (n % 10 === 0) await sleep(3);
    }
  })();
  for (let turn = 0; reader.count < total; turn += 1) {
    const raw = await server.raw();
    raw.send(get(pollTarget('cut', { last_id: reader.cursor, timeout: 5 })));
    if (turn % 3 === 2) {
      reader.take((await raw.answer()).json);
      raw.close();
    } else {
      await sleep(turn % 5);
      if (turn % 2) raw.reset(); else raw.close();
    }
  }
  await publishing;
  assert.deepEqual(reader.resets, []);
  await server.waiters(0);
  assert.equal((await server.say('cut', { n: 0 })).waiters, 0, 'nobody is left behind');
});

/* ---- where a poll begins ---------------------------------------------- */

test('absent, empty and 0 give everything held; now gives only what comes', async (t) => {
  const server = await live(t, FREE);
  const last = await say(server, 'room', '1', '2', '3');
  for (const query of ['timeout=0', 'last_id=&timeout=0', 'last_id=0&timeout=0']) {
    const reply = await server.ask('room', query);
    assert.deepEqual(texts(reply), ['1', '2', '3'], query);
    assert.equal(reply.last_id, last);
    assert.ok(!('reset' in reply) && !('more' in reply));
  }
  const now = await server.ask('room', { last_id: 'now', timeout: 0 });
  assert.deepEqual([now.status, now.last_id, now.count], ['timeout', last, 0]);

  const parked = server.ask('room', { last_id: 'now', timeout: 10 });
  await server.waiters(1);
  await say(server, 'room', '4');
  assert.deepEqual(texts(await parked), ['4']);
  const rest = await server.ask('room', { last_id: now.last_id, timeout: 0 });
  assert.deepEqual(texts(rest), ['4'], 'the cursor that now was resolved to');
});

test('a poll on a channel that is not there yet makes it, and its cursor lasts', async (t) => {
  const server = await live(t, FREE);
  for (const start of ['0', 'now']) {
    const first = await server.ask(`new-${start}`, { last_id: start, timeout: 0 });
    assert.equal(first.status, 'timeout');
    assert.match(first.last_id, /^[0-9a-f]{16}-0$/);
    const id = await say(server, `new-${start}`, 'hello');
    assert.equal(id, `${epochOf(first.last_id)}-1`);
    const next = await server.ask(`new-${start}`, { last_id: first.last_id, timeout: 0 });
    assert.deepEqual(texts(next), ['hello']);
    assert.ok(!('reset' in next));
  }
});

test('a cursor gives what comes after it', async (t) => {
  const server = await live(t, FREE);
  await say(server, 'room', ...numbers(1, 5));
  const all = ids(await server.ask('room', { timeout: 0 }));
  for (let seq = 0; seq <= 5; seq += 1) {
    const last_id = `${epochOf(all[0])}-${seq}`;
    const reply = await server.ask('room', { last_id, timeout: 0 });
    assert.deepEqual(ids(reply), all.slice(seq), last_id);
    assert.equal(reply.last_id, all[4]);
    assert.ok(!('reset' in reply));
  }
});

test('what is not a cursor is refused', async (t) => {
  const server = await live(t, FREE);
  const id = await say(server, 'room', '1');
  const epoch = epochOf(id);
  for (const bad of [
    'hello', '1', '-1', 'later', 'NOW', `${epoch}`, `${epoch}-`, `${epoch}--1`, `${epoch}-1x`, `${epoch}-1,`,
    `${epoch}0-1`, `${epoch.slice(1)}-1`, `${epoch}-99999999999999999999999`, `${epoch.slice(1)}g-1`, '0,0', ' 0',
  ]) {
    (await server.poll('room', { last_id: bad, timeout: 0 })).refuses(400);
  }
  (await server.poll(['room', 'other', 'third'], { last_id: `${id},0`, timeout: 0 })).refuses(400);
});

/* ---- several channels ------------------------------------------------- */

test('a list of cursors stands in the order of the channels', async (t) => {
  const server = await live(t, FREE);
  const a = await say(server, 'a', 'a1', 'a2');
  const b = await say(server, 'b', 'b1', 'b2');
  const first = (id) => `${epochOf(id)}-1`;
  for (const [last_id, expected] of [
    ['0', ['a1', 'a2', 'b1', 'b2']],
    ['', ['a1', 'a2', 'b1', 'b2']],
    ['0,0', ['a1', 'a2', 'b1', 'b2']],
    [`${first(a)},${first(b)}`, ['a2', 'b2']],
    [`${a},${first(b)}`, ['b2']],
    [`${first(a)},now`, ['a2']],
    ['now,0', ['b1', 'b2']],
    [`0,${b}`, ['a1', 'a2']],
    [`,${b}`, ['a1', 'a2']],
    [`${a},`, ['b1', 'b2']],
    ['now', []],
    ['now,now', []],
    [`${a},${b}`, []],
  ]) {
    const reply = await server.ask(['a', 'b'], { last_id, timeout: 0 });
    assert.deepEqual(texts(reply), expected, last_id);
    assert.equal(reply.last_id, `${a},${b}`, last_id);
    assert.ok(!('reset' in reply));
  }
  /* The comma may be encoded or not, as any query value. */
  const plain = await server.ask(['a', 'b'], `timeout=0&last_id=${first(a)},${b}`);
  assert.deepEqual(texts(plain), ['a2']);
  const swapped = await server.ask(['b', 'a'], { last_id: `${b},${first(a)}`, timeout: 0 });
  assert.deepEqual([texts(swapped), swapped.last_id], [['a2'], `${b},${a}`]);
});

test('sixteen channels, each with a cursor of its own', async (t) => {
  const server = await live(t, FREE);
  const names = numbers(1, 16).map((n) => `room ${n}, with a comma`);
  const reader = new Reader(names);
  await Promise.all(names.map((name) => say(server, name, '1', '2', '3')));
  await reader.read(server, 48, { limit: 5 });
  const parked = reader.once(server, { timeout: 10 });
  await server.waiters(1);
  await say(server, names[11], 'late');
  assert.deepEqual(texts(await parked), ['late']);
});

test('messages of several channels are merged by their timestamps', async (t) => {
  const server = await live(t, FREE);
  const order = ['a', 'b', 'b', 'c', 'a', 'c', 'c', 'b', 'a'];
  for (const [n, channel] of order.entries()) await server.say(channel, { n });
  const whole = await server.ask(['c', 'a', 'b'], { timeout: 0 });
  assert.deepEqual(whole.messages.map(({ n }) => n), [...order.keys()]);
  assert.equal(whole.timestamp, whole.messages.at(-1).timestamp);

  /* Cut by the limit it is the same sequence, and none is passed over. */
  const reader = new Reader(['b', 'c', 'a']);
  const seen = [];
  for (let turn = 0; turn < 5; turn += 1) {
    const reply = await reader.once(server, { limit: 2, timeout: 0 });
    assert.equal(reply.more, turn < 4 ? true : undefined);
    seen.push(...reply.messages.map(({ n }) => n));
  }
  assert.deepEqual(seen, [...order.keys()]);
});

test('a reset of one channel leaves the cursors of the others alone', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 3 });
  const a = await say(server, 'a', 'a1');
  const b = await say(server, 'b', 'b1');
  await say(server, 'a', 'a2');
  await say(server, 'b', ...numbers(2, 9).map((n) => `b${n}`));
  const reply = await server.ask(['a', 'b', 'c'], { last_id: `${a},${b},0`, timeout: 10 });
  assert.deepEqual(reply.reset, { b: 'evicted' });
  assert.deepEqual(texts(reply), ['a2', 'b7', 'b8', 'b9']);
  const next = await server.ask(['a', 'b', 'c'], { last_id: reply.last_id, timeout: 0 });
  assert.deepEqual([next.status, next.reset], ['timeout', undefined]);
});

/* ---- how much comes at once ------------------------------------------- */

test('limit cuts a reply, and says that there is more', async (t) => {
  const server = await live(t, FREE);
  await say(server, 'room', ...numbers(1, 25));
  const reader = new Reader('room');
  const shape = [];
  for (let turn = 0; turn < 3; turn += 1) {
    const reply = await reader.once(server, { limit: 10, timeout: 0 });
    shape.push([reply.count, reply.more]);
  }
  assert.deepEqual(shape, [[10, true], [10, true], [5, undefined]]);
  const exact = await server.ask('room', { limit: 25, timeout: 0 });
  assert.deepEqual([exact.count, exact.more], [25, undefined]);
  const one = await server.ask('room', { limit: 1, timeout: 0 });
  assert.deepEqual([one.count, one.more, one.last_id], [1, true, one.messages[0].id]);
  for (const limit of ['0', '1001', '-1', '1.5', 'many', '99999999999999999999', '10x']) {
    (await server.poll('room', { limit, timeout: 0 })).refuses(400);
  }
});

test('without a limit a reply has at most 100 messages, with one at most 1000', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 2000 });
  await server.burst('room', 1100);
  assert.equal((await server.ask('room', { timeout: 0 })).count, 100);
  assert.equal((await server.ask('room', { timeout: 0, limit: 1000 })).count, 1000);
});

test('a reply is cut at 1 MiB', async (t) => {
  const server = await live(t, FREE);
  const text = 'x'.repeat(60_000);
  for (let n = 1; n <= 20; n += 1) await server.say('big', { n, text });
  const reader = new Reader('big');
  const first = await server.poll('big', reader.params({ timeout: 0 }));
  reader.take(first.json);
  assert.ok(first.text.length <= 1_048_576 + 1024, `${first.text.length} bytes`);
  assert.ok(first.text.length > 1_048_576 - 61_000, `${first.text.length} bytes`);
  assert.equal(first.json.more, true);
  const rest = await reader.once(server, { timeout: 0 });
  assert.equal(rest.more, undefined);
  assert.deepEqual(reader.seen.get('big').map(({ n }) => n), numbers(1, 20).map(Number));
});

test('a reply is never cut below one message', async (t) => {
  const server = await live(t, { ...FREE, 'reply-bytes-max': 1000 });
  const text = 'x'.repeat(5000);
  for (let n = 1; n <= 3; n += 1) await server.say('big', { n, text });
  const reader = new Reader('big');
  for (const more of [true, true, undefined]) {
    const reply = await reader.once(server, { timeout: 0 });
    assert.deepEqual([reply.count, reply.more], [1, more]);
  }
});

/* ---- waiting ---------------------------------------------------------- */

test('a timeout returns the cursor that the poll was parked with', async (t) => {
  const server = await live(t, FREE);
  const last = await say(server, 'room', '1', '2');
  const { messages } = await server.ask('room', { timeout: 0 });
  const other = await server.ask('other', { last_id: 'now', timeout: 0 });
  const pair = `${last},${other.last_id}`;
  for (const [channels, last_id, expected] of [
    [['room'], last, last], [['room'], 'now', last],
    [['room', 'other'], pair, pair], [['room', 'other'], 'now', pair], [['room', 'other'], `${last},0`, pair],
  ]) {
    const answer = await server.poll(channels, { last_id, timeout: 0.25 });
    const reply = answer.json;
    assert.deepEqual(
      [reply.status, reply.last_id, reply.count, reply.messages, reply.reset],
      ['timeout', expected, 0, [], undefined]);
    if (channels.length === 1) assert.equal(reply.timestamp, messages[1].timestamp);
    assert.ok(answer.ms >= 245 && answer.ms < 245 + 1000 * SLOW, `${answer.ms} ms`);
  }
});

test('timeout: its default and its cap are the config\'s, and nonsense is refused', async (t) => {
  const server = await live(t, { ...FREE, 'timeout-ms': 200, 'timeout-ms-max': 400 });
  for (const [query, ms] of [['', 200], ['timeout=0.3', 300], ['timeout=50', 400], ['timeout=999999999999', 400],
    ['timeout=%30', 0], ['timeout=0.0', 0], ['timeout=1', 400]]) {
    const answer = await server.poll('room', query);
    assert.equal(answer.json.status, 'timeout');
    assert.ok(answer.ms >= ms - 5 && answer.ms < ms + 180 * SLOW, `${query}: ${answer.ms} ms`);
  }
  for (const timeout of ['-1', 'abc', 'NaN', 'inf', '0x10', '1e3', '1,5', '5s', ' 1', '1.2.3', '.']) {
    (await server.poll('room', { timeout })).refuses(400);
  }
});

test('a parked poll is answered at once, and publishing tells how many it woke', async (t) => {
  const server = await live(t, FREE);
  assert.equal((await server.say('room', { text: '0' })).waiters, 0);
  const polls = Array.from({ length: 3 }, () => server.poll('room', { last_id: 'now', timeout: 10 }));
  const both = server.poll(['other', 'room'], { last_id: 'now', timeout: 10 });
  const elsewhere = server.poll('other', { last_id: 'now', timeout: 10 });
  await server.waiters(5);
  const before = performance.now();
  assert.equal((await server.say('room', { text: '1' })).waiters, 4);
  for (const answer of await Promise.all([...polls, both])) assert.deepEqual(texts(answer.json), ['1']);
  assert.ok(performance.now() - before < 500 * SLOW);
  assert.equal((await server.say('room', { text: '2' })).waiters, 0);
  assert.equal((await server.say('other', { text: '3' })).waiters, 1);
  assert.deepEqual(texts((await elsewhere).json), ['3']);
});

test('what is published between a reply and the next poll is there when that comes', async (t) => {
  const server = await live(t, FREE);
  const reader = new Reader('room');
  const parked = reader.once(server);
  await server.waiters(1);
  await say(server, 'room', '1');
  await parked;
  await say(server, 'room', '2', '3');
  await reader.once(server);
  assert.deepEqual(reader.seen.get('room').map(({ text }) => text), ['1', '2', '3']);
});

/* ---- resets ----------------------------------------------------------- */

/* A reset comes at once, with everything that is still held, and after it the
   cursor is good again. */
async function resets(server, channel, last_id, why, held) {
  const answer = await server.poll(channel, { last_id, timeout: 10 });
  const reply = answer.json;
  assert.ok(answer.ms < 2000 * SLOW, `at once, not after ${answer.ms} ms`);
  assert.deepEqual(reply.reset, { [channel]: why }, answer.text.slice(0, 300));
  assert.equal(reply.status, 'messages');
  assert.deepEqual(texts(reply), held);
  assert.equal(reply.count, held.length);
  assert.match(reply.last_id, new RegExp(`^${CURSOR}$`));
  const next = await server.ask(channel, { last_id: reply.last_id, timeout: 0 });
  assert.deepEqual([next.status, next.reset, next.last_id], ['timeout', undefined, reply.last_id]);
  return reply;
}

test('evicted by count', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 10 });
  const fifth = await say(server, 'room', ...numbers(1, 5));
  await say(server, 'room', ...numbers(6, 15));
  assert.equal(seqOf(fifth), 5);
  const edge = await server.ask('room', { last_id: fifth, timeout: 0 });
  assert.deepEqual([texts(edge), edge.reset], [numbers(6, 15), undefined], 'the oldest cursor that is good');
  const before = `${epochOf(fifth)}-4`;
  const reply = await resets(server, 'room', before, 'evicted', numbers(6, 15));
  assert.equal(epochOf(reply.last_id), epochOf(fifth));
  const all = await server.ask('room', { last_id: '0', timeout: 0 });
  assert.deepEqual([texts(all), all.reset], [numbers(6, 15), undefined], '0 claims nothing');
});

test('evicted by age', async (t) => {
  const age = 600 * SLOW;
  const server = await live(t, { ...FREE, 'history-age-ms': age });
  const first = await say(server, 'room', '1', '2');
  const hold = await server.park('room', { last_id: first, timeout: 60 });     /* keeps the channel */
  await sleep(age + 150);
  const all = await server.ask('room', { last_id: '0', timeout: 0 });
  assert.deepEqual([all.count, all.reset], [0, undefined]);
  const good = await server.ask('room', { last_id: first, timeout: 0 });
  assert.deepEqual([good.status, good.reset, good.last_id], ['timeout', undefined, first], 'nothing was missed');
  await resets(server, 'room', `${epochOf(first)}-1`, 'evicted', []);
  assert.equal((await server.stats()).messages, 0);
  await say(server, 'room', '3');
  assert.deepEqual(texts((await hold.answer()).json), ['3']);
  await resets(server, 'room', `${epochOf(first)}-1`, 'evicted', ['3']);
});

test('evicted by the byte budget of the whole server, the oldest first', async (t) => {
  const server = await live(t, { ...FREE, 'history-bytes': 200_000 });
  const text = (n) => `${n}${'x'.repeat(10_000)}`;
  const old = await say(server, 'old', text(1));
  const room = await say(server, 'room', text(1));
  for (let n = 2; n <= 30; n += 1) await say(server, 'room', text(n));
  const stats = await server.stats();
  assert.ok(stats.history_bytes <= 200_000, `${stats.history_bytes} bytes`);
  assert.ok(stats.messages >= 15 && stats.messages < 20, `${stats.messages} messages`);
  assert.equal(stats.evicted, 31 - stats.messages);
  const held = numbers(31 - stats.messages, 30).map(text);
  await resets(server, 'room', room, 'evicted', held);
  await resets(server, 'old', `${epochOf(old)}-0`, 'evicted', []);
});

/* On one loop, which answers nobody while a handler publishes. */
test('evicted between append and delivery: a parked poll is told', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 10, loops: 1 });
  const last = await say(server, 'room', 'before');
  const parked = server.ask('room', { last_id: last, timeout: 10 });
  const fresh = server.ask(['new', 'room'], { last_id: 'now', timeout: 10 });
  const basic = server.ask('room', { since: (await server.ask('room', { timeout: 0 })).timestamp, timeout: 10 });
  await server.waiters(3);
  const burst = await server.burst('room', 50);
  assert.equal(burst.waiters, 0, 'woken once, by the first');
  for (const reply of [await parked, await fresh]) {
    assert.deepEqual(reply.reset, { room: 'evicted' });
    assert.deepEqual(reply.messages.map(({ n }) => n), numbers(41, 50).map(Number));
  }
  assert.equal((await parked).last_id, burst.id);
  const one = await basic;
  assert.deepEqual([one.status, one.data.n, one.reset], ['message', 41, { room: 'evicted' }]);
});

test('a burst that is still held is delivered to a parked poll as it is', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 10 });
  const reader = new Reader('room', 'now');
  await reader.once(server, { timeout: 0 });
  const parked = reader.once(server);
  await server.waiters(1);
  await server.burst('room', 10);
  await parked;
  await reader.read(server, 10);
  assert.deepEqual(reader.resets, []);
});

test('evictions all the time: each gap is told, and nothing comes twice', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 5 });
  let read = 0;
  let gaps = 0;
  const reading = (async () => {
    let at = 0;
    for (let cursor = '0', done = false; !done;) {
      const { last_id, messages, reset } = await server.ask('room', { last_id: cursor, timeout: 5 });
      const first = messages.length > 0 ? seqOf(messages[0].id) : 0;
      if (reset) {
        assert.deepEqual(reset, { room: 'evicted' });
        assert.ok(first > at + 1, `no gap between ${at} and ${first}`);
        gaps += 1;
      } else if (cursor !== '0' && first) {
        assert.equal(first, at + 1, 'a gap that was not told');
      }
      messages.forEach(({ id }, i) => assert.equal(seqOf(id), first + i));
      read += messages.length;
      at = messages.length > 0 ? seqOf(messages.at(-1).id) : at;
      assert.equal(seqOf(last_id), at);
      cursor = last_id;
      done = messages.some(({ text }) => text === 'end');
      if (read % 3 === 0) await sleep(2);
    }
  })();
  for (let n = 1; n <= scaled(700, 60); n += 1) {
    await server.say('room', { n });
    if (n % 7 === 0) await server.burst('room', n % 10);
  }
  await say(server, 'room', 'end');
  await reading;
  assert.ok(gaps > 0 && read > 0, `${read} messages, ${gaps} gaps told`);
});

test('a forgotten channel: epoch', async (t) => {
  const age = 400 * SLOW;
  const server = await live(t, { ...FREE, 'history-age-ms': age });
  const old = await say(server, 'room', '1', '2', '3');
  const quiet = await server.ask('quiet', { last_id: 'now', timeout: 0 });
  const { timestamp } = await server.ask('room', { timeout: 0, last_id: old });
  /* Dropped after the age, idle from then on, forgotten after the age again. */
  await until(async () => (await server.stats()).channels === 0, age * 2 + 3000);
  await resets(server, 'quiet', quiet.last_id, 'epoch', []);
  const reply = await resets(server, 'room', old, 'epoch', []);
  assert.notEqual(epochOf(reply.last_id), epochOf(old));
  assert.equal(seqOf(reply.last_id), 0);
  assert.ok(reply.timestamp > timestamp, 'later than anything before');

  const id = await say(server, 'room', 'again');
  assert.equal(id, `${epochOf(reply.last_id)}-1`);
  await resets(server, 'room', old, 'epoch', ['again']);
  await resets(server, 'room', `${epochOf(old)}-1`, 'epoch', ['again']);
});

test('a channel with messages or waiters is not forgotten', async (t) => {
  const age = 300 * SLOW;
  const server = await live(t, { ...FREE, 'history-age-ms': age });
  const start = await server.ask(['waited', 'spoken'], { last_id: 'now', timeout: 0 });
  const [waited] = start.last_id.split(',');
  const parked = server.ask('waited', { last_id: waited, timeout: 30 });
  const end = Date.now() + age * 4;
  let spoken;
  while (Date.now() < end) {
    spoken = await say(server, 'spoken', 'x');
    await sleep(age / 3);
  }
  assert.equal(epochOf(spoken), epochOf(start.last_id.split(',')[1]));
  await say(server, 'waited', 'at last');
  const reply = await parked;
  assert.deepEqual([texts(reply), reply.reset, reply.last_id], [['at last'], undefined, `${epochOf(waited)}-1`]);
});

test('a cursor that was never given: ahead', async (t) => {
  const server = await live(t, FREE);
  const last = await say(server, 'room', '1', '2');
  await resets(server, 'room', `${epochOf(last)}-3`, 'ahead', ['1', '2']);
  await resets(server, 'room', `${epochOf(last)}-18446744073709551615`, 'ahead', ['1', '2']);
  const empty = await server.ask('empty', { last_id: 'now', timeout: 0 });
  await resets(server, 'empty', `${epochOf(empty.last_id)}-1`, 'ahead', []);
});

test('a cursor of another server, or of another channel: epoch', async (t) => {
  const server = await live(t, FREE);
  await say(server, 'room', '1', '2');
  const other = await say(server, 'other', '1', '2');
  await resets(server, 'room', other, 'epoch', ['1', '2']);
  await resets(server, 'room', '0123456789abcdef-7', 'epoch', ['1', '2']);
});

test('a reset that the limit cuts goes on where it was cut', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 10 });
  const first = await say(server, 'room', '1');
  await say(server, 'room', ...numbers(2, 20));
  const reader = new Reader('room', first);
  const start = await reader.once(server, { limit: 4 });
  assert.deepEqual([texts(start), start.more, start.reset], [numbers(11, 14), true, { room: 'evicted' }]);
  const rest = await reader.once(server);
  assert.deepEqual([texts(rest), rest.reset], [numbers(15, 20), undefined]);
});

/* ---- the basic dialect ------------------------------------------------ */

test('since: one message at a time, by timestamps read to the microsecond', async (t) => {
  const server = await live(t, FREE);
  await server.burst('room', 200);       /* close together: a microsecond apart, most of them */
  const exact = [];
  let since = '0';
  for (let n = 1; n <= 200; n += 1) {
    const answer = await server.poll('room', { since, timeout: 5 });
    const reply = answer.json;
    assert.deepEqual([reply.status, reply.count, reply.data.n, reply.reset], ['message', 1, n, undefined]);
    assert.equal(reply.last_id, reply.data.id);
    assert.equal(reply.timestamp, reply.data.timestamp);
    [, since] = new RegExp(`"timestamp":(${TIME}),"count"`).exec(answer.text);
    exact.push(since);
  }
  const done = await server.ask('room', { since, timeout: 0 });
  assert.deepEqual([done.status, done.count, done.messages, done.reset], ['timeout', 0, [], undefined]);
  assert.equal(done.timestamp, Number(since));
  /* Equal is not greater; one microsecond less is. */
  const [seconds, micros] = exact[100].split('.');
  assert.equal((await server.ask('room', { since: exact[100], timeout: 0 })).data.n, 102);
  const less = micros === '000000' ? `${seconds - 1}.999999` : `${seconds}.${String(micros - 1).padStart(6, '0')}`;
  assert.equal((await server.ask('room', { since: less, timeout: 0 })).data.n, 101);
});

test('since: a parked poll is answered with the one message', async (t) => {
  const server = await live(t, FREE);
  const parked = server.poll('room', { since: 0, timeout: 10 });
  await server.waiters(1);
  await server.burst('room', 3);
  const reply = (await parked).json;
  assert.deepEqual([reply.status, reply.data.n], ['message', 1]);
  assert.equal((await server.ask('room', { since: reply.data.timestamp, timeout: 0 })).data.n, 2);
});

test('since: a client may go on with the cursor', async (t) => {
  const server = await live(t, FREE);
  await server.burst('room', 3);
  const { last_id } = await server.ask('room', { since: 0, timeout: 0 });
  assert.equal((await server.ask('room', { last_id, timeout: 0 })).count, 2);
});

test('since: what does not go with it is refused', async (t) => {
  const server = await live(t, FREE);
  (await server.poll('room', { since: 0, last_id: 0, timeout: 0 })).refuses(400);
  (await server.poll(['room', 'other'], { since: 0, timeout: 0 })).refuses(400);
  for (const since of ['abc', '-1', '1.2.3', 'now', '0x1', '1732412345,5', '1732412345.123456-1']) {
    (await server.poll('room', { since, timeout: 0 })).refuses(400);
  }
});

/* Microseconds since 1970 of a timestamp, and back. */
const micros = (timestamp) => BigInt(Math.round(timestamp * 1e6));
const seconds = (us) => `${us / 1_000_000n}.${String(us % 1_000_000n).padStart(6, '0')}`;

test('since: a reset with messages held comes at once, with the first of them', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 3 });
  await server.burst('room', 3);
  const times = (await server.ask('room', { timeout: 0 })).messages.map(({ timestamp }) => micros(timestamp));
  await server.burst('room', 2);         /* evicts the first two */
  const all = (await server.ask('room', { timeout: 0 })).messages;
  const ask = async (us) => {
    const answer = await server.poll('room', { since: seconds(us), timeout: 10 });
    assert.ok(answer.ms < 2000 * SLOW);
    return answer.json;
  };
  for (const [us, why] of [
    [times[1], undefined],               /* the newest evicted: nothing after it was missed */
    [times[1] - 1n, 'evicted'],
    [times[0], 'evicted'],
    [micros(all.at(-1).timestamp) + 1n, 'ahead'],
    [micros(all.at(-1).timestamp) + 1_000_000_000n, 'ahead'],
  ]) {
    const reply = await ask(us);
    assert.deepEqual(reply.reset, why && { room: why }, seconds(us));
    assert.deepEqual([reply.status, reply.data.id, reply.last_id], ['message', all[0].id, all[0].id]);
  }
  const begin = await ask(times[0] - 3_600_000_000n);
  assert.ok('room' in begin.reset, 'before the channel began');
});

test('since: a reset with nothing held is parked, and rides on the reply that ends it', async (t) => {
  const age = 300 * SLOW;
  const server = await live(t, { ...FREE, 'history-age-ms': age });
  await say(server, 'room', '1', '2');
  const { messages } = await server.ask('room', { timeout: 0 });
  await until(async () => (await server.stats()).channels === 0, age * 2 + 3000);
  const since = messages[0].timestamp;

  const waited = await server.poll('room', { since, timeout: 0.3 });
  const reply = waited.json;
  assert.ok(waited.ms > 290, `parked, not answered after ${waited.ms} ms`);
  assert.deepEqual([reply.status, reply.count, reply.reset], ['timeout', 0, { room: 'epoch' }]);
  assert.ok(reply.timestamp > messages[1].timestamp);
  const next = await server.ask('room', { since: reply.timestamp, timeout: 0 });
  assert.deepEqual([next.status, next.reset], ['timeout', undefined], 'the timestamp is good again');

  const parked = server.ask('room', { since, timeout: 10 });
  await server.waiters(1);
  await say(server, 'room', '3');
  const ended = await parked;
  assert.deepEqual([ended.status, ended.data.text, ended.reset], ['message', '3', { room: 'epoch' }]);
  assert.equal((await server.ask('room', { since: reply.timestamp, timeout: 0 })).data.text, '3');
});

/* ---- shapes, to the byte ---------------------------------------------- */

const matches = (text, pattern) => assert.match(text, new RegExp(`^${pattern}$`));
const literal = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

test('the replies, to the byte', async (t) => {
  const server = await live(t, { ...FREE, 'history-count': 3 });
  const body = '{"text":"hello"}';
  const empty = await server.poll('news', { timeout: 0 });
  matches(empty.text, `{"status":"timeout","last_id":"[0-9a-f]{16}-0","timestamp":${TIME},"count":0,"messages":\\[\\]}`);
  const published = await server.publish('news', body);
  matches(published.text, `{"status":"published","message_id":"${CURSOR}","timestamp":${TIME},"waiters":0}`);

  const { message_id: id } = published.json;
  const [, time] = /"timestamp":([\d.]+)/.exec(published.text);
  const one = `{"id":"${id}","channel":"news","timestamp":${time},"text":"hello"}`;
  const head = (status, count) => `{"status":"${status}","last_id":"${id}","timestamp":${time},"count":${count},`;
  const poll = async (query) => (await server.poll('news', query)).text;
  assert.equal(await poll('timeout=0'), `${head('messages', 1)}"messages":[${one}]}`);
  assert.equal(await poll('timeout=0&since=0'), `${head('message', 1)}"data":${one}}`);
  assert.equal(await poll('timeout=0&last_id=now'), `${head('timeout', 0)}"messages":[]}`);
  assert.equal(await poll(`timeout=0&last_id=${epochOf(id)}-9`),
    `${head('messages', 1)}"messages":[${one}],"reset":{"news":"ahead"}}`);
  assert.equal(await poll('timeout=0&since=9999999999'), `${head('message', 1)}"data":${one},"reset":{"news":"ahead"}}`);

  await server.burst('news', 3);
  const cut = await poll(`timeout=0&limit=1&last_id=${epochOf(id)}-0`);
  assert.ok(cut.startsWith('{"status":"messages","last_id":"') && cut.includes('"count":1,"messages":[{"id":"'), cut);
  assert.ok(/\}\],("more":true,"reset":\{"news":"evicted"\}|"reset":\{"news":"evicted"\},"more":true)\}$/.test(cut), cut);
  const more = await poll(`timeout=0&limit=1&last_id=${id}`);
  assert.ok(more.endsWith('}],"more":true}'), more);
});

test('a published object keeps its bytes, but for its own id, channel and timestamp', async (t) => {
  const server = await live(t, FREE);
  let n = 0;
  const stored = async (body) => {
    n += 1;
    const answer = await server.publish(`raw${n}`, body);
    assert.equal(answer.status, 200, answer.text);
    const { message_id } = answer.json;
    const [, time] = /"timestamp":([\d.]+)/.exec(answer.text);
    const text = (await server.poll(`raw${n}`, { timeout: 0 })).text;
    const head = `{"id":"${message_id}","channel":"raw${n}","timestamp":${time}`;
    const start = text.indexOf('"messages":[') + 12;
    assert.equal(text.slice(start, start + head.length), head);
    JSON.parse(text);
    return text.slice(start + head.length, -2);
  };
  for (const [body, rest] of [
    ['{}', '}'],
    [' { } ', '}'],
    ['{"a":1}', ',"a":1}'],
    ['{"id":1}', '}'],
    ['{"timestamp":1,"channel":[],"id":{}}', '}'],
    ['{"a":1.50,"b":-0,"c":1E+2,"d":12345678901234567890123}', ',"a":1.50,"b":-0,"c":1E+2,"d":12345678901234567890123}'],
    ['{"a":"\\u00e9\\/\\ud83d\\ude00é😀"}', ',"a":"\\u00e9\\/\\ud83d\\ude00é😀"}'],
    ['{"id":5,"a":1,"\\u0069d":"x","channel":[1,{"id":2}],"b":"id","timestamp":null,"id":6,"c":{"id":7,"channel":8}}',
      ',"a":1,"b":"id","c":{"id":7,"channel":8}}'],
    ['{"a":1,"id":2}', ',"a":1}'],
    ['{"id":2,"a":1}', ',"a":1}'],
    ['{"a":1,"\\u0063\\u0068annel":"x","b":2,"tim\\u0065stamp":0}', ',"a":1,"b":2}'],
    ['{"a":1,"a":2}', ',"a":1,"a":2}'],
    ['{"ID":1,"idx":2,"i":3,"":4}', ',"ID":1,"idx":2,"i":3,"":4}'],
    ['{"a\\u0000b":1,"id\\u0000":2}', ',"a\\u0000b":1,"id\\u0000":2}'],
    ['{"a":"}],{\\"id\\":1"}', ',"a":"}],{\\"id\\":1"}'],
  ]) {
    assert.equal(await stored(body), rest, body);
  }
  const spaced = await stored('{ "a" : [ 1 , 2 ] ,\n\t"b":{ } }');
  matches(spaced, `,\\s*${literal('"a" : [ 1 , 2 ] ,\n\t"b":{ }')}\\s*}`);
  const parted = await stored('{ "id" : 1 , "a" : 1 , "id" : 2 , "b" : 2 , "id" : 3 }');
  assert.deepEqual(JSON.parse(`{"x":0${parted}`), { x: 0, a: 1, b: 2 });
  assert.ok(parted.includes('"a" : 1') && parted.includes('"b" : 2'), parted);
});

test('the channel\'s name comes back as it was meant, in JSON', async (t) => {
  const server = await live(t, FREE);
  for (const name of ['a"b\\c', 'café ☕', 'a,b', 'a/b', '..', '%41', 'a b+c', '😀', "x".repeat(255), '{}']) {
    await say(server, name, 'here');
    const reply = await server.ask([name], { timeout: 0 });
    assert.deepEqual([texts(reply), reply.messages[0].channel], [['here'], name]);
    const ahead = await server.ask([name], { last_id: `${epochOf(reply.last_id)}-9`, timeout: 0 });
    assert.deepEqual(ahead.reset, { [name]: 'ahead' });
  }
  /* Decoded once: %2C and %2F are data, and %2541 is %41. */
  const both = await server.request('GET', '/api/poll/a%2Cb,%2541?timeout=0');
  assert.deepEqual(both.json.messages.map(({ channel }) => channel), ['a,b', '%41']);
});

test('what is not a channel, or not up to 16 different ones, is refused', async (t) => {
  const server = await live(t, FREE);
  const poll = (names) => server.request('GET', `/api/poll/${names}?timeout=0`);
  for (const bad of ['%00', 'a%0Ab', '%7F', '%80', '%C3%28', '%ED%A0%80', '%F5%80%80%80', '%C0%AF', 'x'.repeat(256), 'a,,b', ',a',
    'a,', '%zz', '%4', 'a,a', 'a,%61', numbers(1, 17).join(',')]) {
    (await poll(bad)).refuses(400);
    if (!bad.includes(',')) {
      (await server.request('POST', `/api/publish/${bad}`, { headers: { 'Content-Type': 'application/json' }, body: '{}' }))
        .refuses(400);
    }
  }
  assert.equal((await poll('x'.repeat(255))).status, 200);
  assert.equal((await poll(numbers(1, 16).join(','))).status, 200);
  assert.equal(publishTarget('a/b'), '/api/publish/a%2Fb');
});
