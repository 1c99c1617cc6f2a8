/* The hooks on messages: what before_publish refuses and changes, and that
   after_publish is told of each message once and in order, whoever published
   it; over Redis by the instance that it was published through, alone. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIVE, SLOW, live, scaled, sleep, until } from './harness.mjs';
import { Instance, Redis, skip } from './redis.mjs';

const FREE = { 'waiters-per-client': 'unlimited', 'history-count': 100_000 };
const withHooks = (t, options = {}) => live(t, { hooks: 'on', ...FREE, ...options });

/* What the hook was told since it was asked last. */
async function told(server) {
  const answer = await server.request('GET', '/test/published');
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

/* Until `n` have been told, and then none more for a moment. */
async function allTold(server, n) {
  const all = [];
  await until(async () => { all.push(...await told(server)); return all.length >= n; }, `${n} messages to be told`);
  await sleep(50 * SLOW);
  all.push(...await told(server));
  assert.equal(all.length, n);
  return all;
}

/* Until none have been told for a moment. */
async function restTold(server) {
  const all = [];
  for (let more = null; more?.length !== 0;) {
    await sleep(100 * SLOW);
    more = await told(server);
    all.push(...more);
  }
  return all;
}

/* Each channel's messages have come in the order of their ids, from 1 on. */
function inOrder(all) {
  const last = {};
  for (const { channel, id, timestamp_us: us, message } of all) {
    assert.equal(message.id, id);
    assert.equal(message.channel, channel);
    assert.equal(Math.round(message.timestamp * 1e6), us);
    const [epoch, seq] = id.split('-');
    const before = last[channel] ?? { epoch, seq: 0, us: 0 };
    assert.equal(epoch, before.epoch);
    assert.equal(Number(seq), before.seq + 1);
    assert.ok(us > before.us);
    last[channel] = { epoch, seq: Number(seq), us };
  }
  return Object.fromEntries(Object.entries(last).map(([channel, { seq }]) => [channel, seq]));
}

test('before_publish refuses', async (t) => {
  const server = await withHooks(t);
  (await server.publish('room', { text: 'forbidden' })).refuses(422, 'That word is forbidden');
  (await server.publish('room', [{ text: 'fine' }, { text: 'forbidden' }])).refuses(422, 'That word is forbidden');
  (await server.publish('room', { text: 'unwanted' })).refuses(403, 'Message refused');
  await server.say('room', { text: 'fine' });
  const { count, messages } = await server.ask('room', { last_id: 0 });
  assert.deepEqual([count, messages[0].text], [1, 'fine']);
  assert.equal((await server.burst('room', 1, { text: 'forbidden' })).waiters, 0);   /* C code is not asked */
  assert.deepEqual(inOrder(await allTold(server, 2)), { room: 2 });
});

test('before_publish changes what is published', async (t) => {
  const server = await withHooks(t);
  server.tolerated = /^error: before_publish: gave bad JSON\n/gm;
  const waits = await server.park('room', { last_id: 'now' });
  await server.say('room', { text: 'secret' });
  const [message] = (await waits.answer()).json.messages;
  assert.equal(message.redacted, true);
  assert.equal(message.text, undefined);
  (await server.publish('room', { text: 'spoil' })).refuses(500, 'Message not published');
  const several = await server.say('room', [{ text: 'secret' }, { text: 'more' }]);
  assert.equal(several.message_ids, undefined, 'the answer is to the one object that was published');
  assert.match(several.message_id, /-2$/);
  const all = await allTold(server, 2);
  assert.deepEqual(all.map(({ message: { redacted } }) => redacted), [true, true]);
});

for (const loops of [1, 4]) {
  test(`after_publish is told of each message once and in order: ${loops} loops`, async (t) => {
    const server = await withHooks(t, { loops });
    const each = scaled(2000, 100);
    const over = async (channel, lane) => {
      for (let n = 0; n < each / 4; n += 1) await server.say(channel, { lane, n });
    };
    await Promise.all([
      ...[0, 1, 2, 3].map((lane) => over('http', lane)),
      server.burst('burst', each), server.burst('thread', each, { thread: true }), server.burst('thread', each, { thread: true }),
      server.say('array', Array.from({ length: 500 }, (_, n) => ({ n }))),
    ]);
    const all = await allTold(server, 4 * each + 500);
    assert.deepEqual(inOrder(all), { http: each, burst: each, thread: 2 * each, array: 500 });
    for (const lane of [0, 1, 2, 3]) {
      const ns = all.filter(({ message }) => message.lane === lane).map(({ message }) => message.n);
      assert.deepEqual(ns, ns.map((_, n) => n), 'a client has its own in order');
    }
    const { messages } = await server.ask('array', { last_id: 0, limit: 1000 });
    assert.deepEqual(messages, all.filter(({ channel }) => channel === 'array').map(({ message }) => message));
  });
}

test('after_publish may publish', async (t) => {
  const server = await withHooks(t);
  const waits = await server.park('answer', { last_id: 'now' });
  await server.say('question', { text: 'is it so?' });
  assert.equal((await waits.answer()).json.messages[0].text, 'yes');
  assert.deepEqual(inOrder(await allTold(server, 2)), { question: 1, answer: 1 });
});

test('nobody may publish over HTTP', async (t) => {
  const server = await withHooks(t, { publish: 'off' });
  (await server.publish('room', {})).refuses(404, 'Not found');
  await server.burst('room', 2);
  assert.equal((await server.ask('room', { last_id: 0 })).count, 2);
  await assert.rejects(live(t, { publish: 'token' }), /did not start/);
  const other = await live(t, { publish: 'token', 'publish-token': 'sesame' });
  (await other.publish('room', {})).refuses(401);
  assert.equal((await other.publish('room', {}, { Authorization: 'Bearer sesame' })).status, 200);
});

/* ---- over Redis ----------------------------------------------------------- */

const overRedis = (name, fn) => test(name, { skip }, fn);

async function several(t, n, redis, options = {}) {
  const all = await Promise.all(Array.from({ length: n }, () => Instance.start(t, redis.url, {
    'no-limits': undefined, hooks: 'on', ...FREE, ...options,
  }, LIVE)));
  await Promise.all(all.map((instance, i) => instance.ready([`ready-${i}`])));
  for (const { server } of all) await told(server);
  return all;
}

overRedis('over Redis each message is told by the instance that it was published through', async (t) => {
  const redis = await Redis.start(t);
  const all = await several(t, 3, redis);
  const each = scaled(400, 40);
  /* Some of them wait for what the others publish. */
  const waits = await all[0].server.park('room', { last_id: 'now' });
  await Promise.all(all.flatMap(({ server }, i) => [0, 1].map(async (lane) => {
    for (let n = 0; n < each; n += 1) await server.say('room', n % 5 ? { i, lane, n } : [{ i, lane, n }, { i, lane, n, again: true }]);
  })));
  assert.equal((await waits.answer()).status, 200);
  const own = 2 * (each + Math.ceil(each / 5));
  const heard = await Promise.all(all.map(({ server }) => allTold(server, own)));
  const ids = new Set();
  heard.forEach((messages, i) => {
    let before = 0;
    for (const { id, message } of messages) {
      assert.equal(message.i, i, 'it was published through this one');
      const seq = Number(id.split('-')[1]);
      assert.ok(seq > before, `${id} after ${before}`);
      before = seq;
      ids.add(id);
    }
  });
  assert.equal(ids.size, 3 * own, 'each once');
});

overRedis('over Redis what before_publish refuses is not published, and what it changes is', async (t) => {
  const redis = await Redis.start(t);
  const [one, other] = await several(t, 2, redis);
  (await one.server.publish('room', { text: 'forbidden' })).refuses(422, 'That word is forbidden');
  await one.server.say('room', { text: 'secret' });
  const { messages } = await other.server.ask('room', { last_id: 0 });
  assert.deepEqual(messages.map(({ redacted }) => redacted), [true]);
  assert.deepEqual((await allTold(one.server, 1)).map(({ message }) => message.redacted), [true]);
  await allTold(other.server, 0);
});

overRedis('over Redis what is told was published, and what was acknowledged is told', async (t) => {
  const redis = await Redis.start(t, { persist: true });
  const [one, other] = await several(t, 2, redis, { 'redis-timeout-ms': 1000 * SLOW });
  const acknowledged = new Set();
  let stopping = false, n = 0;
  const lane = async (server) => {
    while (!stopping) {
      const answer = await server.publish('room', { n: n += 1 });
      if (answer.status === 200) acknowledged.add(answer.json.message_id);
      else assert.ok([503, 504].includes(answer.status), answer.text);
      if (answer.status !== 200) await sleep(20);
    }
  };
  const lanes = [one, one, other, other].map(({ server }) => lane(server));
  for (let turn = 0; turn < 3; turn += 1) {
    await sleep(500);
    await redis.kill();
    await redis.restart();
    await sleep(1500 * SLOW);
  }
  stopping = true;
  await Promise.all(lanes);
  const ids = (await Promise.all([one, other].map(({ server }) => restTold(server)))).flat().map(({ id }) => id);
  assert.ok(acknowledged.size > 100, `${acknowledged.size} were published`);
  assert.deepEqual(ids.sort(), [...acknowledged].sort());
});
