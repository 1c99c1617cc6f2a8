/* Many instances that share their news over real redis-servers. Here is what
   each must do while all is well, what it says when its Redis is not what it
   should be, and that all is well once that is mended. chaos.mjs has the
   faults under load. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { LongPollingClient } from '../../demo/client/longpoll.js';
import { Crowd, chance, SEED } from './crowd.mjs';
import { FRONTS, front, missing } from './fronts.mjs';
import {
  LIVE, PASS, Raw, Reader, SLOW, atEnd, cpuMs, epochOf, freePort, post, publishTarget, scaled, seqOf, sleep, until,
} from './harness.mjs';
import { INSTANCE, Instance, Redis, Relay, instances, skip } from './redis.mjs';

const live = (name, fn) => test(name, { skip }, fn);
const dice = chance(SEED);

const READY_MS = 20_000 * SLOW;

/* `n` instances on as many stores as asked for. */
async function many(t, { n = 3, stores = 1, redis, options } = {}) {
  const all = await Promise.all(Array.from({ length: stores }, () => Redis.start(t, redis)));
  const servers = await instances(t, n, all.map(({ url }) => url), options);
  return { stores: all, redis: all[0], servers, any: () => dice.pick(servers).server };
}

/* Not a spin: what a process uses in two seconds. */
async function rests(instance, what, ms = 2000) {
  const before = cpuMs(instance.pid);
  await sleep(ms);
  const spent = cpuMs(instance.pid) - before;
  assert.ok(spent <= ms * 0.05 * SLOW + 20, `${what}: ${spent} ms of CPU in ${ms} ms`);
}

/* A refusal that says when to come back. */
function away(answer) {
  answer.refuses(503);
  assert.match(answer.headers['retry-after'] ?? '', /^\d+$/);
}

/* A line of log for each change, not for each try. */
function brief(instance, lines = 10) {
  const said = instance.said.split('\n').filter(Boolean);
  assert.ok(said.length <= lines, `${said.length} lines of log: ${instance.said}`);
}

/* ---- while all is well ---------------------------------------------------- */

const CLIENTS = 300;

for (const stores of [1, 2]) {
  live(`a crowd at three instances over ${stores === 1 ? 'one store' : 'two stores'}`, async (t) => {
    const messages = PASS !== 'plain' ? 5000 : stores === 1 ? 50_000 : 15_000;
    const { stores: all, servers } = await many(t, { stores, options: { 'history-count': 100_000 } });
    const crowd = new Crowd(servers, {
      clients: CLIENTS, channels: 50, spread: 3, publishers: 3, lanes: 4, pause: 0, timeout: 20, streams: 0.2,
    }).start();
    atEnd(t, () => crowd.finish());
    await crowd.publish(messages);
    await crowd.barrier(60_000 * SLOW);
    await crowd.finish();
    crowd.check();
    const { counts } = crowd.ledger;
    assert.equal(counts.ok, messages + 50, crowd.summary);
    assert.ok(counts.streams > CLIENTS / 10, crowd.summary);
    for (const none of ['refused', 'unknown', 'epoch', 'evicted', 'ahead', 'flagged', 'repeats', 'polls503', 'early']) {
      assert.equal(counts[none], 0, crowd.summary);
    }
    for (const redis of all) {
      const channels = (await redis.call('KEYS', 'lp1:{*}h:crowd-*')).length;
      assert.ok(channels >= 10, `${channels} of 50 channels are on this store`);
    }
  });
}

live('what was published is seen at once on the same instance', async (t) => {
  const { any } = await many(t);
  let cursor = '0';
  for (let n = 1; n <= scaled(200, 20); n += 1) {
    const server = any();
    const { message_id } = await server.say('room', { n });
    const reply = await server.ask('room', { last_id: cursor, timeout: 0 });
    assert.deepEqual(reply.messages.map((message) => message.n), [n]);
    assert.deepEqual([reply.last_id, reply.reset], [message_id, undefined]);
    cursor = reply.last_id;
  }
  for (let n = 1; n <= scaled(50, 5); n += 1) {
    const server = any();
    const { message_id } = await server.say(`room-${n}`, {});
    assert.equal((await server.ask(`room-${n}`, { timeout: 0 })).last_id, message_id);
  }
});

/* Publish what is delivered and not kept. */
const transient = (server, channel, body) => server.request('POST', `${publishTarget(channel)}?transient=1`, {
  headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
});

live('transient messages reach who waits at any instance, and who missed one is told', async (t) => {
  const ms = 300 * SLOW;
  const { servers, redis } = await many(t, { options: { 'transient-ms': ms } });
  const [a, b, c] = servers.map(({ server }) => server);
  const { message_id: first } = await a.say('mice', { n: 1 });
  for (const server of [a, b, c]) await server.ask('mice', { last_id: first, timeout: 0 });
  const waits = [a, b, c].map((server) => server.poll('mice', { last_id: first, timeout: 20 }));
  await sleep(100 * SLOW);
  const answer = await transient(b, 'mice', { n: 2 });
  assert.equal(answer.status, 200, answer.text);
  for (const { json } of await Promise.all(waits)) assert.deepEqual(json.messages.map(({ n }) => n), [2]);
  await a.say('mice', { n: 3 });
  const stored = JSON.stringify(await redis.call('XRANGE', await redis.key('x', 'mice'), '-', '+'));
  assert.ok(stored.includes('n\\":3') && !stored.includes('n\\":2'), stored);
  await sleep(ms + 200);
  /* One that has never heard of the channel, too. */
  const { server: fresh } = await Instance.start(t, redis.url);
  await until(async () => (await fresh.poll('mice', { timeout: 0 })).status === 200, 'it to be up', READY_MS);
  for (const server of [a, b, c, fresh]) {
    const seen = async (last_id) => {
      const { messages, reset } = await server.ask('mice', { last_id, timeout: 0 });
      return [messages.map(({ n }) => n), reset];
    };
    assert.deepEqual(await seen(first), [[3], { mice: 'evicted' }]);
    assert.deepEqual(await seen(answer.json.message_id), [[3], undefined]);
    assert.deepEqual(await seen('0'), [[1, 3], undefined]);
  }
});

live('a policy lowers what a channel holds in Redis', async (t) => {
  const redis = await Redis.start(t);
  const options = { policy: 'on', 'no-limits': false, 'waiters-per-client': 'unlimited' };
  const [{ server: a }, { server: b }] = await Promise.all([1, 2].map(() => Instance.start(t, redis.url, options, LIVE)));
  for (const server of [a, b])
    await until(async () => (await server.publish('ready', {})).status === 200, 'publishing to work', READY_MS);
  const ids = [];
  for (let n = 1; n <= 5; n += 1) ids.push((await (n % 2 ? a : b).say('small', { n })).message_id);
  assert.equal(await redis.call('XLEN', await redis.key('x', 'small')), 2);
  for (const server of [a, b]) {
    const { messages, reset } = await server.ask('small', { last_id: ids[0], timeout: 0 });
    assert.deepEqual([messages.map(({ n }) => n), reset], [[4, 5], { small: 'evicted' }]);
    (await server.publish('unknown', {})).refuses(403);
    (await server.poll('unknown', { timeout: 0 })).refuses(403);
  }
  await sleep(600);
  for (const server of [a, b]) assert.deepEqual((await server.ask('small', { timeout: 0 })).messages, []);
});

live('a parked poll hears of what another instance published', async (t) => {
  const { servers } = await many(t);
  const [a, b, c] = servers.map(({ server }) => server);
  for (let n = 1; n <= scaled(20, 3); n += 1) {
    const { last_id } = await a.ask(`room-${n}`, { last_id: 'now', timeout: 0 });
    const parked = [a, b, c].map((server) => server.ask(`room-${n}`, { last_id, timeout: 20 }));
    await sleep(20);
    const { message_id } = await dice.pick([a, b, c]).say(`room-${n}`, { n });
    for (const reply of await Promise.all(parked)) {
      assert.deepEqual([reply.messages.map(({ id }) => id), reply.reset], [[message_id], undefined]);
    }
  }
});

live('a publisher is told of its own waiters, and how many instances listen', async (t) => {
  const { servers } = await many(t);
  const parked = servers.map(({ server }) => server.ask('room', { last_id: 'now', timeout: 30 }));
  await sleep(500 * SLOW);
  const said = await servers[1].server.say('room', {});
  assert.deepEqual([said.waiters, said.instances], [1, 3]);
  await Promise.all(parked);
});

live('an array is one call: in a row, and whole, at every instance', async (t) => {
  const { servers, any } = await many(t);
  const all = servers.map(({ server }) => server);
  await any().say('room', { n: 0 });
  const parked = all.map((server) => server.ask('room', { last_id: 'now', timeout: 20, limit: 1000 }));
  await sleep(300 * SLOW);
  const array = Array.from({ length: 200 }, (_, i) => ({ n: i + 1 }));
  const { message_ids, instances: heard } = await all[0].say('room', array);
  assert.deepEqual([message_ids.length, heard], [200, 3]);
  for (const [i, reply] of (await Promise.all(parked)).entries()) {
    const ids = reply.messages.map(({ id }) => id);
    assert.equal(reply.reset, undefined);
    while (ids.length < 200) { /* they may come in more replies than one */
      const more = await all[i].ask('room', { last_id: ids.at(-1), timeout: 20, limit: 1000 });
      assert.equal(more.reset, undefined);
      ids.push(...more.messages.map(({ id }) => id));
    }
    assert.deepEqual(ids, message_ids);
  }
  const say = async (message) => (await any().publish('room', message, { 'Idempotency-Key': 'again' })).json;
  const { message_ids: three } = await say(array.slice(0, 3));
  assert.deepEqual((await say(array.slice(0, 3))).message_ids, three);
  assert.equal((await say({})).message_id, three[2]);
  for (const server of all) {
    const { messages } = await server.ask('room', { last_id: message_ids[199], timeout: 0 });
    assert.deepEqual(messages.map(({ id }) => id), three);
  }
});

live('a deletion is told at every instance at once, and for ever', async (t) => {
  const { servers, any } = await many(t, { options: { 'admin-token': 'sesame' } });
  const all = servers.map(({ server }) => server);
  const { message_id } = await any().say('room', [{}, {}]).then(({ message_ids }) => ({ message_id: message_ids[1] }));
  for (let round = 0; round < 3; round += 1) {
    const parked = all.map((server) => server.ask(['other', 'room'], { last_id: 'now', timeout: 20 }));
    await sleep(300 * SLOW);
    const began = Date.now();
    const answer = await any().request('DELETE', '/api/channels/room', { headers: { Authorization: 'Bearer sesame' } });
    assert.deepEqual([answer.status, answer.json], [200, { status: 'deleted' }]);
    const last = [];
    for (const reply of await Promise.all(parked)) {
      assert.deepEqual([reply.count, reply.reset], [0, { room: 'epoch' }]);
      last.push(reply.last_id);
    }
    assert.ok(Date.now() - began < 2000 * SLOW, 'at once');
    assert.equal(new Set(last).size, 1);
    const { timestamp } = await any().say('room', { round });
    for (const [i, server] of all.entries()) {
      const reply = await server.ask(['other', 'room'], { last_id: last[i], timeout: 20 });
      assert.deepEqual([reply.messages.map((m) => m.round), reply.reset], [[round], undefined]);
      const old = await server.ask('room', { last_id: message_id, timeout: 20 });
      assert.deepEqual([old.messages.map((m) => m.round), old.reset], [[round], { room: 'epoch' }]);
      assert.equal(old.messages[0].timestamp, timestamp);
    }
  }
});

live('since: a timestamp is a cursor at every instance', async (t) => {
  const { any } = await many(t);
  const total = scaled(60, 10);
  for (let n = 1; n <= total; n += 1) await any().say('room', { n });
  let since = '0';
  for (let n = 1; n <= total; n += 1) {
    const answer = await any().poll('room', { since, timeout: 10 });
    assert.equal(answer.status, 200, answer.text);
    assert.deepEqual([answer.json.data.n, answer.json.reset], [n, undefined]);
    [, since] = /"timestamp":(\d+\.\d{6}),"count"/.exec(answer.text);
  }
  assert.equal((await any().ask('room', { since, timeout: 0 })).status, 'timeout');
});

live('one Idempotency-Key is one message', async (t) => {
  const { servers, any } = await many(t);
  const say = async (key, channel = 'room', server = any()) => {
    const answer = await server.publish(channel, { key }, { 'Idempotency-Key': key });
    assert.equal(answer.status, 200, answer.text);
    return [answer.json.message_id, answer.json.timestamp];
  };
  const first = await say('one', 'room', servers[0].server);
  for (const { server } of servers) assert.deepEqual(await say('one', 'room', server), first);
  const together = await Promise.all(Array.from({ length: 20 }, () => say('two')));
  for (const one of together) assert.deepEqual(one, together[0]);
  assert.notDeepEqual(together[0], first);
  await say('one', 'other');
  const { messages } = await servers[2].server.ask('room', { timeout: 0 });
  assert.deepEqual(messages.map(({ id, key }) => [id, key]), [[first[0], 'one'], [together[0][0], 'two']]);
  assert.equal((await servers[1].server.ask('other', { timeout: 0 })).count, 1);
});

/* One program, whatever the pass. */
if (PASS === 'plain') {
  live('without threads it is the same', async (t) => {
    const redis = await Redis.start(t);
    const program = path.join(path.dirname(INSTANCE), 'server-nothreads');
    const [one, other] = await Promise.all([0, 1].map(() => Instance.start(t, redis.url, {}, program)));
    await Promise.all([one.ready(), other.ready()]);
    const parked = other.server.ask('room', { last_id: 'now', timeout: 20 });
    await sleep(300);
    await one.server.say('room', { n: 1 });
    const { last_id: last, messages } = await parked;
    assert.deepEqual(messages.map(({ n }) => n), [1]);
    await redis.kill();
    await redis.restart();
    await Promise.all([one.ready(), other.ready()]);
    await other.server.say('room', { n: 2 });
    const after = await one.server.ask('room', { last_id: last, timeout: 20 });
    assert.equal(after.reset?.room, 'epoch');
    assert.deepEqual(after.messages.map(({ n }) => n), [2]);
    await rests(one, 'without threads');
  });
}

live('with nothing to do they rest', async (t) => {
  const { servers } = await many(t);
  const parked = servers.flatMap(({ server }) => Array.from({ length: 30 }, (_, i) =>
    server.ask(`room-${i % 5}`, { last_id: 'now', timeout: 30 })));
  await sleep(500 * SLOW);
  for (const instance of servers) await rests(instance, 'with 30 polls parked');
  for (let i = 0; i < 5; i += 1) await servers[0].server.say(`room-${i}`, {});
  for (const reply of await Promise.all(parked)) assert.equal(reply.count, 1);
});

/* ---- Redis fails, and is back ----------------------------------------------- */

live('a restart that lost nothing: each parked poll is told once, and nothing comes twice', async (t) => {
  const { redis, servers, any } = await many(t, { redis: { persist: true } });
  const readers = Array.from({ length: 12 }, () => new Reader(['a', 'b']));
  for (let n = 1; n <= 10; n += 1) for (const room of ['a', 'b']) await any().say(room, { n });
  await Promise.all(readers.map((reader) => reader.read(any(), 20)));

  /* Told of both channels, in one reply or in two. */
  const telling = readers.map(async (reader, i) => {
    while (reader.resets.length < 2) {
      const reply = await reader.once(servers[i % 3].server, { timeout: 40 });
      assert.equal(reply.count, 0);
      assert.ok(reply.reset, 'it was parked until there was something to tell');
    }
    assert.deepEqual(reader.resets.sort(), [['a', 'epoch'], ['b', 'epoch']]);
  });
  await sleep(300 * SLOW);
  await redis.kill();
  await redis.restart();
  await Promise.all(telling);
  for (const instance of servers) await instance.ready();
  for (const room of ['a', 'b']) await any().say(room, { n: 11 });
  for (const reader of readers) {
    await reader.read(any(), 22);
    for (const list of reader.seen.values()) assert.deepEqual(list.map(({ n }) => n), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
    assert.equal(reader.resets.length, 2);
  }
  for (const instance of servers) brief(instance);
});

live('a restart that lost all: everybody is told', async (t) => {
  const { redis, servers, any } = await many(t);
  const { message_id } = await any().say('room', { n: 1 });
  const parked = servers.map(({ server }) => server.ask('room', { last_id: message_id, timeout: 40 }));
  await sleep(300 * SLOW);
  await redis.kill();
  await redis.restart();
  for (const reply of await Promise.all(parked)) {
    assert.deepEqual([reply.count, reply.reset], [0, { room: 'epoch' }]);
    assert.notEqual(epochOf(reply.last_id), epochOf(message_id));
  }
});

live('cut off from Redis: what can be judged stays parked, and on return nothing is missing', async (t) => {
  const redis = await Redis.start(t);
  const relay = await Relay.start(t, redis.port);
  const timeout = 1500 * SLOW;
  const [apart, other] = await instances(t, 2, (i) => [relay.url, redis.url][i], { 'redis-timeout-ms': timeout });
  const { message_id } = await other.server.say('room', { n: 0 });
  const reader = new Reader('room', message_id);
  reader.at.set('room', { epoch: epochOf(message_id), seq: seqOf(message_id) });
  let answered = false;
  const parked = reader.once(apart.server, { timeout: 60 }).then(() => { answered = true; });
  await sleep(300 * SLOW);
  relay.cut();
  for (let n = 1; n <= 10; n += 1) await other.server.say('room', { n });
  const publishing = apart.server.publish('room', { never: 'sure' });
  await apart.logs(/redis.*down/i);
  assert.ok([503, 504].includes((await publishing).status));
  assert.equal(answered, false);

  /* What it cannot know it does not say, and once it has been away for a
     while it refuses at once. */
  away(await apart.server.poll('news', { last_id: 'now', timeout: 20 }));
  await sleep(2500);
  const refused = await apart.server.poll('news', { last_id: '0', timeout: 20 });
  away(refused);
  assert.ok(refused.ms < 1000 * SLOW, `refused after ${refused.ms} ms`);
  const said = await apart.server.publish('room', {});
  away(said);
  assert.ok(said.ms < 1000 * SLOW, `refused after ${said.ms} ms`);
  await rests(apart, 'cut off');

  relay.mend();
  await parked;
  await apart.ready();
  await other.server.say('room', { last: true });
  while (!reader.seen.get('room').some(({ last }) => last)) await reader.once(apart.server);
  const numbers = reader.seen.get('room').map(({ n }) => n).filter((n) => n !== undefined);
  assert.deepEqual([numbers, reader.resets], [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10], []]);
  brief(apart);
});

live('one of two stores is away: the channels of the other go on', async (t) => {
  const { stores, servers, any } = await many(t, { stores: 2 });
  const [server] = servers.map((instance) => instance.server);
  const at = [];                                /* a channel on each store */
  for (let n = 0; n < 40 && !(at[0] && at[1]); n += 1) {
    await any().say(`room-${n}`, { n });
    for (const [i, redis] of stores.entries()) if (await redis.key('h', `room-${n}`)) at[i] = `room-${n}`;
  }
  const [here, there] = at;
  const { last_id } = await server.ask([here, there], { timeout: 0 });
  const parked = server.ask([here, there], { last_id, timeout: 40 });
  await sleep(300 * SLOW);
  await stores[1].kill();
  await until(async () => (await server.publish(there, {})).status === 503, 'the store to be away');
  const said = await any().say(here, { text: 'on' });
  const reply = await parked;
  assert.deepEqual([reply.messages.map(({ id }) => id), reply.reset], [[said.message_id], undefined]);
  assert.equal(reply.last_id, `${said.message_id},${last_id.split(',')[1]}`);

  await stores[1].restart();
  await Promise.all(servers.map((instance) => instance.ready([here, there])));
  /* Until its channel is opened again a reply may still go on with the other. */
  let next = reply;
  for (let n = 0; n < 20 && !next.reset; n += 1)
    next = await server.ask([here, there], { last_id: next.last_id, timeout: 20 });
  assert.deepEqual(next.reset, { [there]: 'epoch' });
});

/* ---- an instance stops -------------------------------------------------------- */

/* 100 publishes on connections of their own; when all are told, {200: n, ...}
   and what the channel has by then. */
async function hundred(t, server, meanwhile) {
  const raws = await Promise.all(Array.from({ length: 100 }, () => Raw.connect(server.port)));
  atEnd(t, () => { for (const raw of raws) raw.close(); });
  raws.forEach((raw, n) => raw.send(post(publishTarget('room'), `{"n":${n}}`)));
  await meanwhile(raws);
  return Promise.all(raws.map(async (raw) => {
    const { status } = await raw.answer({ ms: 20_000 * SLOW });
    await raw.ended({ ms: 20_000 * SLOW });     /* and nothing behind it */
    return status;
  }));
}

/* All messages of a channel. Those that the instance does not have yet come from
   Redis in pages. */
async function all(server, channel) {
  const messages = [];
  for (let last_id = '0', more = true; more;) {
    const reply = await server.ask(channel, { timeout: 0, limit: 1000, last_id });
    messages.push(...reply.messages);
    ({ last_id, more = false } = reply);
  }
  return messages;
}

live('a stop with 100 publishes under way: each is told once', async (t) => {
  const { servers: [first, second] } = await many(t, { n: 2 });
  let stopping;
  const statuses = await hundred(t, first.server, async (raws) => {
    await raws[0].bytes(1);
    stopping = first.stop();
  });
  await stopping;
  const messages = await all(second.server, 'room');
  statuses.forEach((status, n) => {
    const times = messages.filter((message) => message.n === n).length;
    assert.ok([200, 503, 504].includes(status), `${status}`);
    if (status !== 504) assert.equal(times, status === 200 ? 1 : 0, `${status}, and ${n} is there ${times} times`);
    assert.ok(times <= 1);
  });
  assert.ok(statuses.includes(200));
});

live('a stop with 100 publishes under way, and Redis silent: each is told once that nobody knows', async (t) => {
  const { redis, servers: [first, second] } = await many(t, { n: 2, options: { 'redis-timeout-ms': 60_000, 'write-ms': 3000 } });
  let stopping;
  let statuses;
  redis.pause();
  try {
    statuses = await hundred(t, first.server, async () => {
      await sleep(500 * SLOW);
      stopping = first.stop();
    });
    await stopping;
  } finally {
    redis.resume();
  }
  assert.deepEqual([...new Set(statuses)], [504]);
  await second.ready();
  const { messages } = await second.server.ask('room', { timeout: 5, limit: 1000 });
  assert.equal(new Set(messages.map(({ n }) => n)).size, messages.length, 'none is there twice');
});

/* ---- Redis is not what it should be ---------------------------------------------- */

/* An instance whose Redis is no use: it says so, refuses, and rests; and once
   that is mended, all is well. */
async function useless(t, url, line, mend, options = {}) {
  const instance = await Instance.start(t, url, { 'redis-timeout-ms': 1500 * SLOW, ...options });
  await instance.logs(line);
  away(await instance.server.publish('room', {}));
  away(await instance.server.poll('room', { timeout: 20 }));
  await rests(instance, String(line), 3000);
  brief(instance);
  if (mend) {
    await mend();
    await instance.ready();
    const { message_id } = await instance.server.say('room', {});
    assert.equal((await instance.server.ask('room', { timeout: 0 })).last_id, message_id);
    await rests(instance, `mended: ${line}`);
  }
  return instance;
}

live('a wrong password', async (t) => {
  const redis = await Redis.start(t, { options: { requirepass: 'right' } });
  await useless(t, `redis://:wrong@127.0.0.1:${redis.port}`, /redis.*(password|wrongpass|auth)/i, async () => {
    await redis.call('CONFIG', 'SET', 'requirepass', 'wrong');
    redis.options = { ...redis.options, requirepass: 'wrong' };
  });
});

live('a right password, and a name with it', async (t) => {
  const redis = await Redis.start(t, { options: { requirepass: 'sec ret/@:' } });
  await redis.call('ACL', 'SETUSER', 'news', 'on', '>pa ss', '~*', '&*', '+@all');
  const urls = [`redis://:${encodeURIComponent('sec ret/@:')}@127.0.0.1:${redis.port}`,
    `redis://news:${encodeURIComponent('pa ss')}@127.0.0.1:${redis.port}`];
  const servers = await instances(t, 2, (i) => urls[i]);
  const { message_id } = await servers[0].server.say('room', {});
  assert.equal((await servers[1].server.ask('room', { timeout: 5 })).last_id, message_id);
});

live('no password where one is needed', async (t) => {
  const redis = await Redis.start(t, { options: { requirepass: 'right' } });
  await useless(t, `redis://127.0.0.1:${redis.port}`, /redis.*(password|noauth|auth)/i);
});

live('no such host', async (t) => {
  await useless(t, 'redis://no-such-host.invalid:6379', /redis.*(no-such-host|resolve|name|known)/i);
});

live('a Redis that starts after us', async (t) => {
  const port = await freePort();
  await useless(t, `redis://127.0.0.1:${port}`, /redis.*(refused|down|connect)/i, () => Redis.start(t, { port }));
});

live('a Redis that accepts and never answers', async (t) => {
  const redis = await Redis.start(t);
  redis.pause();
  atEnd(t, () => redis.resume());
  await useless(t, redis.url, /redis.*(down|time|answer)/i, () => redis.resume());
});

live('something that is no Redis', async (t) => {
  const other = await Instance.start(t, (await Redis.start(t)).url);
  await useless(t, `redis://127.0.0.1:${other.port}`, /redis/i);
});

live('Cluster mode is refused', async (t) => {
  const redis = await Redis.start(t, { options: { 'cluster-enabled': 'yes' } });
  await useless(t, redis.url, /redis.*cluster/i);
});

live('a replica is refused until it is promoted', async (t) => {
  const primary = await Redis.start(t);
  const replica = await Redis.start(t);
  await replica.follow(primary);
  await replica.inStep(primary);
  await useless(t, replica.url, /redis.*(replica|role|slave)/i, () => replica.follow(null));
});

live('another layout is refused, and the others go on', async (t) => {
  const { redis, servers } = await many(t, { n: 2 });
  await useless(t, redis.url, /redis.*layout/i, async () => {
    for (const { server } of servers) await server.say('room', {});
    for (const instance of servers) {
      assert.doesNotMatch(instance.said, /layout/i);
      await instance.stop();
    }
    await redis.call('FLUSHALL');
  }, { 'history-count': 77 });
});

live('a Redis that is full: publishing is refused, reading goes on', async (t) => {
  const { redis, servers: [{ server }, other] } = await many(t, { n: 2, redis: { options: { maxmemory: '5mb' } } });
  const text = 'x'.repeat(60_000);
  const last = await server.say('early', {});
  const full = await until(async () => {
    const answer = await server.publish('room', { text });
    return answer.status !== 200 && answer;
  }, 'Redis to be full');
  away(full);
  await redis.call('CONFIG', 'SET', 'maxmemory', '1mb');        /* and by far */
  await other.server.ask('early', { timeout: 0 });
  assert.equal((await server.ask('early', { timeout: 0 })).last_id, last.message_id);
  for (let n = 0; n < 20; n += 1) away(await server.publish('room', { text }));
  /* A heartbeat cannot write either, but that is no reason to be away. */
  await rests(other, 'full', 5000);
  for (const instance of [server, other.server]) {
    assert.equal((await instance.ask('early', { last_id: last.message_id, timeout: 0 })).last_id, last.message_id);
  }
  await redis.call('CONFIG', 'SET', 'maxmemory', '0');
  await until(async () => (await server.publish('room', { text })).status === 200, 'publishing to work', READY_MS);
});

/* Of a refused call nothing is heard, and it takes no number. */
live('a Redis that is full publishes nothing that is transient either', async (t) => {
  const { redis, servers: [{ server }, { server: other }] } = await many(t, { n: 2, redis: { options: { maxmemory: '5mb' } } });
  const { last_id: cursor } = await server.ask('mice', { last_id: 'now', timeout: 0 });
  const hears = other.poll('mice', { last_id: cursor, timeout: 30 });
  await sleep(100 * SLOW);
  await redis.call('CONFIG', 'SET', 'maxmemory', '1mb');
  for (let n = 0; n < 5; n += 1) away(await transient(server, 'mice', { n: -1 }));
  await redis.call('CONFIG', 'SET', 'maxmemory', '0');
  await until(async () => (await transient(server, 'mice', { n: 1 })).status === 200, 'publishing to work', READY_MS);
  const { json } = await hears;
  assert.deepEqual(json.messages.map(({ n }) => n), [1]);
  assert.equal(seqOf(json.last_id), 1);
});

live('a full Redis and one that evicts are told in the log', async (t) => {
  const evicts = await Redis.start(t, { options: { maxmemory: '50mb', 'maxmemory-policy': 'allkeys-lru' } });
  const [instance] = await instances(t, 1, evicts.url);
  await instance.logs(/redis.*(evict|policy|allkeys)/i);

  const full = await Redis.start(t, { options: { maxmemory: '5mb' } });
  const [other] = await instances(t, 1, full.url);
  await until(async () => (await other.server.publish('room', { text: 'x'.repeat(60_000) })).status !== 200, 'Redis to be full');
  await other.logs(/redis.*(oom|memory|full)/i);
  brief(other);
});

live('a foreign type under a key: that channel is refused, the others go on', async (t) => {
  const { redis, servers } = await many(t, { n: 2 });
  const [{ server }, other] = servers;
  for (const kind of ['h', 'x']) {
    const first = await server.say(`room-${kind}`, { n: 1 });
    const key = await redis.key(kind, `room-${kind}`);
    await redis.call('DEL', key);
    await redis.call('SET', key, 'of somebody else');
    for (const instance of servers) {
      assert.notEqual((await instance.server.publish(`room-${kind}`, {})).status, 200);
      await instance.server.say('fine', {});
    }
    await servers[0].logs(/redis.*(wrongtype|type|wrong kind)/i);
    await rests(other, 'a foreign type');
    assert.equal(await redis.call('GET', key), 'of somebody else');
    await redis.call('DEL', key);
    await Promise.all(servers.map((instance) => instance.ready([`room-${kind}`])));
    const reply = await other.server.ask(`room-${kind}`, { last_id: first.message_id, timeout: 5 });
    if (kind === 'h') assert.deepEqual(Object.keys(reply.reset ?? {}), [`room-${kind}`]);
  }
  for (const instance of servers) brief(instance, 12);
});

/* ---- behind proxies --------------------------------------------------------------- */

/* The library's clients while each instance is stopped and started again, and
   the proxy reads its file anew. */
for (const name of FRONTS) {
  test(`${name}: a rolling restart of three instances, and a reload`, { skip: skip || missing(name) }, async (t) => {
    const { servers } = await many(t, { options: { trust: '127.0.0.1', 'drain-ms': 1000 * SLOW } });
    const proxy = await front(t, name, servers.map(({ port }) => port));
    const url = `http://127.0.0.1:${proxy.port}`;
    const rooms = ['a', 'b', 'c', 'd', 'e'];
    /* A proxy that is reloaded may close a connection, and an instance that
       stops may say so; but neither is an answer of the proxy's own. */
    const failed = ({ status = 0, message }) => assert.ok([0, 503, 504].includes(status), message);
    let over = false;
    let fault = null;
    const watched = (fn) => (...words) => { try { fn(...words); } catch (error) { fault ??= error; } };

    /* Clients of one to three rooms, from the beginning. */
    const clients = Array.from({ length: scaled(60, 10) }, (_, i) => {
      const own = rooms.slice(i % 3, (i % 3) + 1 + (i % 3));
      const client = new LongPollingClient(url, own, { timeout: 8000, retryDelay: 100, retryDelayMax: 1000, share: false });
      const at = new Map(own.map((room) => [room, 0]));
      client.on('message', watched(({ id, channel }) => {
        assert.equal(seqOf(id), at.get(channel) + 1, `the next of ${channel}`);
        at.set(channel, seqOf(id));
      }));
      client.on('reset', watched((reset) => assert.fail(`a reset: ${JSON.stringify(reset)}`)));
      client.on('error', watched(failed));
      client.start();
      atEnd(t, () => client.stop());
      return { client, at };
    });

    const last = new Map(rooms.map((room) => [room, 0]));
    let published = 0;
    const publishing = rooms.map(async (room) => {
      for (let n = 1; !over; n += 1) {
        await clients[0].client.publish(room, { n }).then((reply) => {
          last.set(room, Math.max(last.get(room), seqOf(reply.message_id)));
          published += 1;
        }, watched(failed));
        await sleep(5);
      }
    });

    for (const [i, instance] of servers.entries()) {
      await sleep(300);
      await instance.restart();
      await instance.ready();
      if (i === 1) proxy.reload();
    }
    await sleep(1000);
    over = true;
    await Promise.all(publishing);
    await until(() => fault || clients.every(({ at }) => [...at].every(([room, seq]) => seq >= last.get(room))), 'every message to come');
    if (fault) throw fault;
    assert.ok(published > 30, `${published} messages`);
  });
}
