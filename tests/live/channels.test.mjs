/* What a program in C says of its channels, over real sockets. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Listener, Stream } from './events.mjs';
import { atEnd, live, scaled, sleep, SLOW, until } from './harness.mjs';

const POLICY = { policy: 'on', 'waiters-per-client': 'unlimited' };
const REFUSED = 'No such channel allowed';

const held = async (server, channel) => (await server.ask(channel, { last_id: 0, timeout: 0 })).messages.map(({ n }) => n);

test('a channel that the policy does not know is refused', async (t) => {
  const server = await live(t, POLICY);
  (await server.poll('unknown-1')).refuses(403, REFUSED);
  (await server.poll(['a', 'unknown-1', 'b'])).refuses(403, REFUSED);
  (await server.request('GET', '/api/stream/unknown-1')).refuses(403, REFUSED);
  (await server.publish('unknown-1', { n: 1 })).refuses(403, REFUSED);
  await server.say('known', { n: 1 });
  assert.deepEqual(await held(server, 'known'), [1]);
  const { channels } = await server.stats();
  assert.ok(channels <= 2, `${channels} channels`); /* known, and a */
});

test('a policy lowers what a channel holds and who waits there', async (t) => {
  const server = await live(t, POLICY);
  const ids = [];
  for (let n = 1; n <= 3; n++) {
    ids.push((await server.say('small', { n })).message_id);
    await server.say('large', { n });
  }
  assert.deepEqual(await held(server, 'small'), [2, 3]);
  assert.deepEqual(await held(server, 'large'), [1, 2, 3]);
  const waits = server.poll('small', { last_id: ids[2], timeout: 20 });
  await server.waiters(1);
  (await server.poll('small', { last_id: ids[2] })).refuses(429, 'Channel at capacity');
  (await server.publish('small', [{ n: 4 }, { n: 5 }, { n: 6 }])).refuses(413);
  await server.say('small', { n: 4 });
  assert.deepEqual((await waits).json.messages.map(({ n }) => n), [4]);
  await sleep(600);
  assert.deepEqual(await held(server, 'small'), []);
  assert.deepEqual((await server.ask('small', { last_id: ids[0], timeout: 5 * SLOW })).reset, { small: 'evicted' });
});

test('the newest messages are read in C', async (t) => {
  const server = await live(t);
  for (let n = 1; n <= 5; n++) await server.say('news', { n });
  const { messages } = await server.ask('news', { last_id: 0, timeout: 0 });
  assert.deepEqual((await server.request('GET', '/test/newest/news?n=3')).json, messages.slice(2));
  assert.deepEqual((await server.request('GET', '/test/newest/news?n=99')).json, messages);
});

test('access is taken away from who waits, and the others miss nothing', async (t) => {
  const server = await live(t, { 'waiters-per-client': 'unlimited', 'waiters-per-address': 'unlimited', 'connections-per-address': 'unlimited' });
  const count = scaled(200, 20);
  const { message_id: last } = await server.say('room', { n: 0 });
  const wait = (name) => server.poll('room', { last_id: last, timeout: 30 }, { 'X-Client-ID': name });
  const waiting = Array.from({ length: count }, (_, i) => wait(`c${i}`));
  const other = server.poll('other', { last_id: 0, timeout: 30 }, { 'X-Client-ID': 'c0' });
  await server.waiters(count + 1);
  const stream = await Stream.open(server, new Listener(['room']));
  atEnd(t, () => stream.close());
  assert.equal(await stream.begin(), 200);
  await server.waiters(count + 2);
  assert.equal((await server.request('POST', '/test/ban/room?client=c0')).status, 200);
  await server.say('room', { n: 1 });
  for (const { json } of await Promise.all(waiting)) {
    assert.deepEqual([json.status, json.last_id, json.count], ['timeout', last, 0]);
  }
  await until(async () => (await server.stats()).waiters === 1, 'the stream ends');
  (await wait('c0')).refuses(403);
  for (let i = 1; i < count; i++) assert.deepEqual((await wait(`c${i}`)).json.messages.map(({ n }) => n), [1]);
  await server.say('other', { n: 2 });
  assert.deepEqual((await other).json.messages.map(({ n }) => n), [2]);
});

test('transient messages reach who waits, and who missed one is told', async (t) => {
  const server = await live(t, { 'transient-ms': 300 * SLOW, 'waiters-per-client': 'unlimited' });
  const { message_id: first } = await server.say('mice', { n: 1 });
  const waits = server.poll('mice', { last_id: first, timeout: 20 });
  await server.waiters(1);
  const answer = await server.request('POST', '/api/publish/mice?transient=1', { headers: { 'Content-Type': 'application/json' }, body: '{"n":2}' });
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.json.waiters, 1);
  assert.deepEqual((await waits).json.messages.map(({ n }) => n), [2]);
  await server.say('mice', { n: 3 });
  await sleep(400 * SLOW);
  const late = await server.ask('mice', { last_id: first, timeout: 0 });
  assert.deepEqual([late.messages.map(({ n }) => n), late.reset], [[3], { mice: 'evicted' }]);
  const after = await server.ask('mice', { last_id: answer.json.message_id, timeout: 0 });
  assert.deepEqual([after.messages.map(({ n }) => n), after.reset], [[3], undefined]);
  const all = await server.ask('mice', { last_id: 0, timeout: 0 });
  assert.deepEqual([all.messages.map(({ n }) => n), all.reset], [[1, 3], undefined]);
  (await server.request('POST', '/api/publish/mice?transient=0', { headers: { 'Content-Type': 'application/json' }, body: '{}' })).refuses(400, 'Bad transient');
});
