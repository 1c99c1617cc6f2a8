/* Every limit at its edge, and exact counters after every way to leave. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  SLOW, checkHeaders, demo, epochOf, get, live, pollTarget, scaled, sixHere, sleep, until,
} from './harness.mjs';

const CLIENT = 'Too many connections from client';
const ADDRESS = 'Too many connections from address';
const CHANNEL = 'Channel at capacity';
const SERVER = 'Server at capacity';

function tooMany(answer, error) {
  answer.refuses(429, error);
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
  checkHeaders(answer);
}

/* Park `n` polls, one after the other; give their connections. */
async function parkAll(server, n, channels, options) {
  const all = [];
  for (let i = 0; i < n; i += 1) all.push(await server.park(channels, { last_id: 'now', timeout: 60 }, options));
  return all;
}

const ask = (server, channels, headers, options) =>
  server.poll(channels, { last_id: 'now', timeout: 60 }, headers, options);

/* The ways to leave. Each ends one poll that `raw` has parked on `channel`. */
const WAYS = {
  'closed by the client': async (server, raw) => raw.close(),
  'reset by the client': async (server, raw) => raw.reset(),
  'half closed': async (server, raw) => {
    raw.finish();
    await raw.ended();
  },
  'half closed, with a request behind': async (server, raw) => {
    raw.send(get('/api/poll/behind?timeout=0'));
    raw.finish();
    await raw.ended();
  },
  'closed, with much behind': async (server, raw) => {
    raw.send(get('/api/poll/behind?timeout=0').repeat(2000));
    await sleep(20);
    raw.close();
  },
  'reset, with much behind': async (server, raw) => {
    raw.send(get('/api/poll/behind?timeout=0').repeat(2000));
    await sleep(20);
    raw.reset();
  },
};

test('polls of one client: six by default, and not seven', async (t) => {
  const server = await live(t);
  const six = await parkAll(server, 6, 'room');
  tooMany(await ask(server, 'room'), CLIENT);
  tooMany(await ask(server, ['other', 'third']), CLIENT);
  assert.equal((await server.stats()).waiters, 6);
  assert.equal((await server.stats()).refused, 2);
  const said = await server.say('room', { text: 'all' });
  assert.equal(said.waiters, 6);
  for (const raw of six) assert.equal((await raw.answer()).json.count, 1);
  await parkAll(server, 6, 'room');
  tooMany(await ask(server, 'room'), CLIENT);
});

test('polls of one client: the demo\'s default, and --no-limits', async (t) => {
  const limited = await demo(t);
  const polls = Array.from({ length: 7 }, () => ask(limited, 'room'));
  const first = await Promise.race(polls);
  tooMany(first, CLIENT);
  assert.equal((await limited.say('room', {})).waiters, 6);
  const answers = await Promise.all(polls);
  assert.deepEqual(answers.map(({ status }) => status).sort(), [200, 200, 200, 200, 200, 200, 429]);

  const free = await demo(t, { 'no-limits': true });
  const many = Array.from({ length: 1100 }, () => ask(free, 'room'));
  let woken = 0;
  await until(async () => {
    woken += (await free.say('room', {})).waiters;
    return woken >= 1100;
  }, '1,100 polls of one address');
  for (const answer of await Promise.all(many)) assert.equal(answer.status, 200);
});

for (const [way, leave] of Object.entries(WAYS)) {
  test(`a poll that is ${way} frees its place at once, and one place only`, async (t) => {
    const server = await live(t, { 'waiters-per-client': 2, 'waiters-per-channel': 2 });
    for (let turn = 0; turn < 3; turn += 1) {
      const [first, second] = await parkAll(server, 2, ['a', 'b']);
      tooMany(await ask(server, 'a'), CLIENT);
      tooMany(await ask(server, 'a', { 'X-Client-ID': 'other' }), CHANNEL);
      await leave(server, turn % 2 ? first : second);
      await server.waiters(1);
      const [third] = await parkAll(server, 1, ['b', 'c']);
      tooMany(await ask(server, 'b'), CLIENT);
      tooMany(await ask(server, 'b', { 'X-Client-ID': 'other' }), CHANNEL);
      assert.equal((await server.say('a', { turn })).waiters, 1);
      assert.equal((await (turn % 2 ? second : first).answer()).json.count, 1);
      await leave(server, third);
      await server.waiters(0);
    }
    await until(async () => (await server.stats()).connections <= 4, 'the connections to go');
  });
}

test('a poll that times out, or is answered, frees its place', async (t) => {
  const server = await live(t, { 'waiters-per-client': 1, 'waiters-per-channel': 1, 'waiters-per-address': 1 });
  for (let turn = 0; turn < 3; turn += 1) {
    const short = server.poll(['a', 'b'], { last_id: 'now', timeout: 0.2 * SLOW });
    await server.waiters(1);
    tooMany(await ask(server, 'a'));
    assert.equal((await short).json.status, 'timeout');
    const long = ask(server, ['b', 'a']);
    await server.waiters(1);
    assert.equal((await server.say('a', { turn })).waiters, 1);
    assert.equal((await long).json.count, 1);
    assert.equal((await server.stats()).waiters, 0);
  }
});

test('polls that come and go at random leave exact counters', async (t) => {
  const server = await live(t, { 'waiters-per-client': 40, 'waiters-per-channel': 40, 'waiters-per-address': 40, 'waiters-max': 40 });
  let seed = 12345;
  const random = (n) => { seed = (seed * 1103515245 + 12345) % 2147483648; return Math.floor(seed / 65536) % n; };
  const leave = Object.values(WAYS);
  for (let turn = 0; turn < scaled(300, 30); turn += 1) {
    const raw = await server.raw();
    const channels = [['a'], ['a', 'b'], ['c', 'b', 'a']][random(3)];
    raw.send(get(pollTarget(channels, { last_id: 'now', timeout: random(2) ? 30 : 0.01 })));
    if (random(3) === 0) await server.say('abc'[random(3)], { turn });
    if (random(2)) await sleep(random(4));
    if (random(4)) await leave[[0, 1, 4, 5][random(4)]](server, raw);
    else raw.finish();
  }
  await until(async () => (await server.stats()).connections === 1, 'all to be gone');
  assert.equal((await server.stats()).waiters, 0);
  for (const channel of 'abc') assert.equal((await server.say(channel, {})).waiters, 0);
  /* Exactly 40 places are there again, by each of the limits. */
  const all = await parkAll(server, 40, ['a', 'b', 'c']);
  assert.equal((await ask(server, 'd')).status, 429);
  for (const raw of all) raw.close();
  await server.waiters(0);
});

test('X-Client-ID names a client of its address, and of no other', async (t) => {
  const server = await live(t, { 'waiters-per-client': 2 });
  const as = (name) => ({ 'X-Client-ID': name });
  await parkAll(server, 2, 'room', { headers: as('one') });
  tooMany(await ask(server, 'room', as('one')), CLIENT);
  await parkAll(server, 2, 'room', { headers: as('one'), from: '127.0.0.9' });
  tooMany(await ask(server, 'room', as('one'), { from: '127.0.0.9' }), CLIENT);
  await parkAll(server, 2, 'room', { headers: as('two') });
  tooMany(await ask(server, 'room', as('two')), CLIENT);
  await parkAll(server, 2, 'room', { headers: as('One') });
  tooMany(await ask(server, 'room', as('One')), CLIENT);
});

test('six polls named alice at one address: alice polls on at another', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.2' });
  const alice = { 'X-Client-ID': 'alice' };
  await parkAll(server, 6, 'room', { headers: alice, from: '127.0.0.50' });
  tooMany(await ask(server, 'room', alice, { from: '127.0.0.50' }), CLIENT);
  await parkAll(server, 6, 'room', { headers: alice, from: '127.0.0.77' });
  /* Behind a proxy the address is what it says. */
  const behind = (address) => ({ headers: { ...alice, 'X-Forwarded-For': address }, from: '127.0.0.2' });
  await parkAll(server, 6, 'room', behind('6.6.6.6'));
  tooMany(await ask(server, 'room', behind('6.6.6.6').headers, { from: '127.0.0.2' }), CLIENT);
  await parkAll(server, 6, 'room', behind('7.7.7.7'));
  assert.equal((await server.say('room', {})).waiters, 24);
});

test('without X-Client-ID the address is the client', async (t) => {
  const server = await live(t, { 'waiters-per-client': 2 });
  for (const from of ['127.0.0.2', '127.0.0.3']) {
    await parkAll(server, 2, 'room', { from });
    tooMany(await ask(server, 'room', {}, { from }), CLIENT);
  }
  /* A name that looks like the address is another client. */
  await parkAll(server, 1, 'room', { headers: { 'X-Client-ID': '127.0.0.2' } });
});

test('X-Client-ID: up to 128 visible bytes', async (t) => {
  const server = await live(t, {});
  const status = async (name) => {
    const raw = await server.raw();
    raw.send(Buffer.from(`GET /api/poll/room?timeout=0 HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Client-ID: ${name}\r\n\r\n`, 'latin1'));
    const answer = await raw.answer();
    raw.close();
    if (answer.status !== 200) answer.refuses(400);
    return answer.status;
  };
  for (const good of ['a', '!~"#$%&{}', 'x'.repeat(128)]) assert.equal(await status(good), 200, good);
  for (const bad of ['x'.repeat(129), 'a b', 'a\tb', 'caf\xe9', 'a\x7fb']) assert.equal(await status(bad), 400, bad);
});

test('one address has a ceiling, however many clients it claims to be', async (t) => {
  const server = await live(t, { 'waiters-per-address': 4 });
  for (let i = 0; i < 4; i += 1) await parkAll(server, 1, 'room', { headers: { 'X-Client-ID': `name-${i}` } });
  tooMany(await ask(server, 'room', { 'X-Client-ID': 'name-4' }), ADDRESS);
  tooMany(await ask(server, 'room'), ADDRESS);
  const [other] = await parkAll(server, 1, 'room', { from: '127.0.0.2', headers: { 'X-Client-ID': 'name-0' } });
  assert.equal((await server.say('room', {})).waiters, 5);
  assert.equal((await other.answer()).json.count, 1);
  await server.waiters(0);
  await parkAll(server, 4, 'room', { headers: { 'X-Client-ID': 'name-0' } });
});

test('the channel\'s capacity counts every channel of a poll', async (t) => {
  const server = await live(t, { 'waiters-per-channel': 3, 'waiters-per-client': 'unlimited' });
  await parkAll(server, 2, 'a');
  const [wide] = await parkAll(server, 1, ['b', 'a']);
  tooMany(await ask(server, 'a'), CHANNEL);
  tooMany(await ask(server, ['c', 'b', 'a']), CHANNEL);
  tooMany(await ask(server, ['a', 'c']), CHANNEL);
  await parkAll(server, 2, 'b');
  tooMany(await ask(server, 'b'), CHANNEL);
  await parkAll(server, 3, 'c');         /* the refused ones left nothing behind */
  wide.close();
  await server.waiters(7);
  await parkAll(server, 1, ['a', 'b']);
  tooMany(await ask(server, 'a'), CHANNEL);
  tooMany(await ask(server, 'b'), CHANNEL);
});

test('the server\'s capacity', async (t) => {
  const server = await live(t, { 'waiters-max': 5 });
  const all = [];
  for (let i = 0; i < 5; i += 1) all.push(...await parkAll(server, 1, `room${i}`, { headers: { 'X-Client-ID': `c${i}` } }));
  tooMany(await ask(server, 'new', { 'X-Client-ID': 'c9' }), SERVER);
  all[2].reset();
  await server.waiters(4);
  await parkAll(server, 1, 'new', { headers: { 'X-Client-ID': 'c9' } });
  tooMany(await ask(server, 'newer', { 'X-Client-ID': 'c10' }), SERVER);
  assert.equal((await server.say('new', {})).waiters, 1, 'publishing goes on');
});

test('a refused poll may come again on its connection', async (t) => {
  const server = await live(t, { 'waiters-per-client': 1 });
  const [first] = await parkAll(server, 1, 'room');
  const raw = await server.raw();
  raw.send(get('/api/poll/room?last_id=now'));
  tooMany(await raw.answer(), CLIENT);
  first.close();
  await server.waiters(0);
  raw.send(get('/api/poll/room?last_id=now'));
  await server.waiters(1);
  await server.say('room', {});
  assert.equal((await raw.answer()).json.count, 1);
});

test('a full channel table forgets the longest idle empty channel', async (t) => {
  const server = await live(t, { 'channels-max': 4, 'waiters-per-client': 'unlimited' });
  const cursor = async (channel, last_id = 'now') => {
    const { last_id: cursor, reset } = await server.ask(channel, { last_id, timeout: 0 });
    return reset ? reset[channel] : cursor;
  };
  await server.say('held', {});
  const [parked] = await parkAll(server, 1, 'waited');
  const e1 = await cursor('e1');
  const e2 = await cursor('e2');
  assert.equal((await server.stats()).channels, 4);
  assert.equal((await server.publish('new', {})).status, 200);
  assert.equal((await server.stats()).channels, 4);
  assert.equal(await cursor('e2', e2), e2, 'e1 was idle for longer');
  assert.equal(await cursor('e1', e1), 'epoch', 'e1 was forgotten');
  assert.equal(await cursor('e2', e2), 'epoch', 'then e2 was, for e1');

  /* Now e2 is the only empty one: let it be filled. */
  assert.equal((await server.publish('e2', {})).status, 200);
  for (const refused of [
    await server.publish('more', {}), await ask(server, 'more'), await ask(server, ['held', 'more']),
    await server.poll('more', { timeout: 0 }),
  ]) {
    refused.refuses(503, 'Too many channels');
    checkHeaders(refused);
  }
  assert.equal((await server.stats()).waiters, 1);
  assert.equal((await server.publish('held', {})).status, 200, 'those that are there go on');
  assert.equal((await server.publish('new', {})).status, 200);
  assert.equal((await server.say('waited', {})).waiters, 1);
  assert.equal((await parked.answer()).json.count, 1);
});

test('a channel is empty from the moment when its last poll has left', async (t) => {
  const server = await live(t, { 'channels-max': 2, 'waiters-per-client': 'unlimited' });
  await server.say('held', {});
  const [parked] = await parkAll(server, 1, 'waited');
  (await server.publish('more', {})).refuses(503, 'Too many channels');
  parked.close();
  await server.waiters(0);
  assert.equal((await server.publish('more', {})).status, 200);
  (await ask(server, 'waited')).refuses(503, 'Too many channels');
});

test('more connections than may be are told so', async (t) => {
  const server = await live(t, { 'connections-max': 8, 'waiters-per-client': 'unlimited' });
  const polls = await parkAll(server, 6, 'room', { headers: { Connection: 'keep-alive' } });
  const { connections } = await server.stats();
  assert.equal(connections, 7, 'six polls and this one');
  const last = await server.raw();
  last.send(get('/api/poll/room?timeout=0'));
  assert.equal((await last.answer()).status, 200);
  const over = await server.raw();
  over.send(get('/api/poll/room?timeout=0'));
  const refused = await over.answer();
  refused.refuses(503);
  assert.equal(refused.headers.connection?.toLowerCase(), 'close');
  await over.ended();
  last.close();
  await until(async () => (await server.stats()).connections === 7, 'a place to be free');
  const again = await server.raw();
  again.send(get('/api/poll/room?timeout=0'));
  assert.equal((await again.answer()).status, 200);
  const said = await server.say('room', {});
  assert.equal(said.waiters, 6);
  for (const raw of polls) assert.equal((await raw.answer()).status, 200);
});

/* ---- connections of one address ---------------------------------------- */

const BAD = '127.0.0.50';

/* A connection that is served; or null, if it was told that there are too
   many. */
async function served(server, from = BAD) {
  const raw = await server.raw({ from });
  raw.send(get('/api/poll/room?timeout=0'));
  const answer = await raw.answer();
  if (answer.status === 200) return raw;
  answer.refuses(503, ADDRESS);
  checkHeaders(answer);
  assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
  assert.equal(answer.headers.connection?.toLowerCase(), 'close');
  await raw.ended();
  return null;
}

/* Take all places of an address: `n`, and not one more. */
async function takeAll(server, n, from) {
  const all = [];
  for (let i = 0; i < n; i += 1) all.push(await served(server, from));
  assert.ok(all.every((raw) => raw !== null), `${n} are let in`);
  assert.equal(await served(server, from), null);
  return all;
}

test('connections of one address: as many as may be, and not one more', async (t) => {
  const server = await live(t, { 'connections-per-address': 5, 'trusted-proxies': '127.0.0.2' });
  const all = await takeAll(server, 5);
  await takeAll(server, 5, '127.0.0.77');
  for (let n = 0; n < 30; n += 1) assert.ok(await served(server, '127.0.0.2'), 'a proxy of ours has as many as it likes');
  for (const raw of all) {
    raw.send(get('/api/poll/room?timeout=0'));
    assert.equal((await raw.answer()).status, 200, 'who is there is served');
  }
  assert.ok((await server.stats()).refused >= 2);
});

test('connections of one address: whoever goes gives a place back, and one only', async (t) => {
  const server = await live(t, {
    'connections-per-address': 3, 'idle-ms': 3000 * SLOW, 'head-ms': 300 * SLOW, 'linger-ms': 200 * SLOW, 'waiters-per-client': 'unlimited',
  });
  const leave = {
    closed: async (raw) => raw.close(),
    reset: async (raw) => raw.reset(),
    'half closed': async (raw) => { raw.finish(); await raw.ended(); },
    'half closed while parked': async (raw) => {
      raw.send(get('/api/poll/room?last_id=now&timeout=60'));
      await server.waiters(1);
      raw.finish();
      await raw.ended();
    },
    'closed while parked': async (raw) => {
      raw.send(get('/api/poll/room?last_id=now&timeout=60'));
      await server.waiters(1);
      raw.close();
      await server.waiters(0);
    },
    'told to close': async (raw) => {
      raw.send(get('/api/poll/room?timeout=0', { Connection: 'close' }));
      await raw.answer();
      await raw.ended();
    },
    malformed: async (raw) => {
      raw.send('nonsense\r\n\r\n');
      (await raw.answer()).refuses(400);
      await raw.ended();
    },
    'late with a head': async (raw) => {
      raw.send('GET /');
      (await raw.answer()).refuses(408);
      await raw.ended();
    },
    'closed within a body': async (raw) => {
      raw.send('POST /api/publish/room HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{');
      await sleep(20);
      raw.close();
    },
  };
  for (const [way, go] of Object.entries(leave)) {
    const before = (await server.stats()).connections;
    const all = await takeAll(server, 3);
    await go(all[1]);
    const third = await until(() => served(server), `a place to be free: ${way}`);
    assert.equal(await served(server), null, way);
    for (const raw of [all[0], all[2], third]) raw.close();
    await until(async () => (await server.stats()).connections <= before, 'them to be gone');
  }
  const idle = await takeAll(server, 3);
  for (const raw of idle) await raw.ended({ ms: 6000 * SLOW });
  /* A client sees its end in the midst of a step, and its place is free at the end of that; another loop
     may accept in between. */
  for (let n = 0; n < 3; n += 1) await until(() => served(server), 'the place of an idle one to be free');
  assert.equal(await served(server), null, 'idle');
});

test('connections of one address: crowds that come and go leave exact counts', async (t) => {
  const server = await live(t, { 'connections-per-address': 20 });
  for (let turn = 0; turn < scaled(20, 5); turn += 1) {
    const crowd = await Promise.all(Array.from({ length: 60 }, () => server.raw({ from: BAD })));
    for (const [i, raw] of crowd.entries()) {
      if (i % 3) raw.send(get('/api/poll/room?timeout=0'));
      if (i % 2) raw.reset();
      else raw.close();
    }
  }
  await until(async () => (await server.stats()).connections === 1, 'all to be gone');
  await takeAll(server, 20);
});

if (sixHere) {
  test('connections of one IPv6 address', async (t) => {
    const server = await live(t, { host: '::', 'connections-per-address': 4 });
    const six = { host: '::1' };
    const all = [];
    for (let n = 0; n < 4; n += 1) all.push(await server.raw(six));
    for (const raw of all) {
      raw.send(get('/api/poll/room?timeout=0'));
      assert.equal((await raw.answer()).status, 200);
    }
    const over = await server.raw(six);
    (await over.answer()).refuses(503, ADDRESS);
    await over.ended();
    /* An IPv4 address is another, however it is written there. */
    await takeAll(server, 4);
  });
}

test('the watch hook hears of the first poll on a channel, and when the last has been gone for a while', async (t) => {
  const linger = 400 * SLOW;
  const server = await live(t, { 'channel-linger-ms': linger });
  const watched = async () => (await server.request('GET', '/test/watched')).json;
  const first = await server.park(['a', 'b'], { last_id: 'now' });
  const second = await server.park('a', { last_id: 'now' });
  assert.deepEqual((await watched()).sort(), [['waited on', 'a'], ['waited on', 'b']]);
  await server.ask('c', { timeout: 0 });
  await server.say('c', {});
  first.close();
  await server.waiters(1);
  /* Back before the time is up: it was never deserted. */
  const third = await server.park('b', { last_id: 'now' });
  const began = performance.now();
  second.close();
  await server.waiters(1);
  const told = [];
  await until(async () => { told.push(...await watched()); return told.length > 0; }, 'the end of the lingering');
  const ms = performance.now() - began;
  assert.deepEqual(told, [['deserted', 'a']]);
  assert.ok(ms >= linger - 20 && ms < linger + 1500 * SLOW, `after ${ms} ms`);
  assert.equal((await server.say('b', {})).waiters, 1);
  assert.equal((await third.answer()).json.count, 1);
  await server.park('a', { last_id: 'now' });
  assert.deepEqual(await watched(), [['waited on', 'a']]);
});

test('memory is given back when all have gone', async (t) => {
  const server = await live(t, { 'waiters-per-client': 'unlimited', 'history-age-ms': 300, 'channel-linger-ms': 'off' });
  const first = await server.ask('room', { last_id: 'now', timeout: 0 });
  for (let turn = 0; turn < 3; turn += 1) {
    const all = await Promise.all(Array.from({ length: scaled(100, 10) }, () => server.raw()));
    all.forEach((raw, i) => raw.send(get(pollTarget([`c${i % 7}`, 'room'], { last_id: 'now', timeout: 60 }))));
    await server.waiters(all.length);
    assert.equal((await server.say('room', {})).waiters, all.length);
    await server.waiters(0);
    for (const raw of all) raw.reset();
  }
  await until(async () => {
    const { waiters, connections, channels, messages, history_bytes, pinned_bytes } = await server.stats();
    return waiters + channels + messages + history_bytes + pinned_bytes === 0 && connections === 1;
  }, 'nothing to be left');
  assert.ok(epochOf(first.last_id));
});
