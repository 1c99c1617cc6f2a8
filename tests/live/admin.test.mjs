/* What an administrator asks for, of a real server and over curl: the channels, their deletion, and receipts of whom
   a message was handed to. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Listener, Stream } from './events.mjs';
import { LIVE, Server, atEnd, demo, get, live, pollTarget, run, scaled, until, which } from './harness.mjs';

const ADMIN = { 'admin-token': 'sesame', 'track-receipts': 100_000 };
const FREE = { 'waiters-per-client': 'unlimited', 'waiters-per-address': 'unlimited', 'connections-per-address': 'unlimited' };
const TOKEN = { Authorization: 'Bearer sesame' };
const numbers = (n) => Array.from({ length: n }, (_, i) => ({ n: i + 1 }));

const asked = (server, method, target) => server.request(method, target, { headers: TOKEN });

async function told(server, method, target) {
  const answer = await asked(server, method, target);
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

/* Whom the message was handed to, by pages of that many. */
async function receipts(server, channel, id, limit = 100) {
  const names = [];
  for (let after = 0; after !== undefined;) {
    const page = await told(server, 'GET', `/api/receipts/${channel}/${id}?limit=${limit}&after=${after}`);
    assert.ok(page.delivered_to.length <= limit);
    assert.equal(page.complete, true);
    names.push(...page.delivered_to);
    after = page.next;
  }
  return names;
}

test('by curl, in the words of the manual', { skip: !which('curl') && 'curl is not installed' }, async (t) => {
  const server = await demo(t, ADMIN);
  const curl = async (...words) => {
    const { stdout, code, stderr } = await run(['curl', '-sS', ...words]).ended;
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const url = (path) => `http://127.0.0.1:${server.port}/api/${path}`;
  const bearer = ['-H', 'Authorization: Bearer sesame'];
  const published = await curl('-H', 'Content-Type: application/json', '-d', '[{"n":1},{"n":2}]', url('publish/news'));
  assert.deepEqual(Object.keys(published), ['status', 'message_ids', 'timestamp', 'waiters']);
  const [first, second] = published.message_ids;
  const { messages } = await curl('-H', 'X-Client-ID: ann', url('poll/news?limit=1'));
  assert.deepEqual(messages.map(({ id }) => id), [first]);
  assert.deepEqual(await curl(...bearer, url(`receipts/news/${first}`)), { delivered_to: ['ann'], complete: true });
  assert.deepEqual(await curl(...bearer, url(`receipts/news/${second}`)), { delivered_to: [], complete: true });
  const state = await curl(...bearer, url('channels/news'));
  assert.deepEqual([state.channel, state.waiters, state.held, state.first_id, state.last_id], ['news', 0, 2, first, second]);
  const { age, ...rest } = (await curl(...bearer, url('channels'))).channels[0];
  assert.ok(age >= state.age);
  assert.deepEqual({ ...rest, age: state.age }, state);
  assert.deepEqual(await curl('-X', 'DELETE', ...bearer, url('channels/news')), { status: 'deleted' });
  assert.deepEqual((await curl(url(`poll/news?last_id=${second}`))).reset, { news: 'epoch' });
  assert.deepEqual(await curl(url('channels')), { error: 'Unauthorized' });
});

test('without a token there is nothing', async (t) => {
  const server = await demo(t);
  for (const [method, path] of [['GET', 'channels'], ['GET', 'channels/a'], ['DELETE', 'channels/a'], ['GET', 'receipts/a/b']]) {
    (await asked(server, method, `/api/${path}`)).refuses(404);
  }
});

test('a deletion is told to each who waits, and news go on', async (t) => {
  const server = await live(t, { ...ADMIN, ...FREE });
  const count = scaled(300, 20);
  await server.say('room', { n: 0 });
  const waiting = Array.from({ length: count }, (_, i) => server.poll(i % 3 ? 'room' : ['other', 'room'],
    { last_id: 'now', timeout: 30 }, { 'X-Client-ID': `c${i}` }));
  await server.waiters(count);
  const listener = new Listener(['room']);
  const stream = await Stream.open(server, listener);
  atEnd(t, () => stream.close());
  assert.equal(await stream.begin(), 200);
  await told(server, 'DELETE', '/api/channels/room');
  const answers = await Promise.all(waiting);
  for (const { json } of answers) assert.deepEqual([json.count, json.reset], [0, { room: 'epoch' }]);
  const again = answers.map(({ json }, i) => server.poll(i % 3 ? 'room' : ['other', 'room'],
    { last_id: json.last_id, timeout: 30 }, { 'X-Client-ID': `c${i}` }));
  await server.waiters(count + 1);
  const { message_id, waiters } = await server.say('room', { n: 1 });
  assert.equal(waiters, count + 1);
  for (const { json } of await Promise.all(again)) {
    assert.deepEqual([json.messages.map(({ id }) => id), json.reset], [[message_id], undefined]);
  }
  while (!listener.has('room', message_id)) assert.ok(await stream.next(), 'the stream goes on');
  assert.deepEqual(listener.resets, [['room', 'epoch']]);
});

test('an array wakes once, whole, on every connection', async (t) => {
  const server = await live(t, FREE);
  const waiting = Array.from({ length: 20 }, (_, i) => server.poll('room', { limit: 1000, timeout: 30 }, { 'X-Client-ID': `c${i}` }));
  await server.waiters(20);
  const { message_ids, waiters } = await server.say('room', numbers(1000));
  assert.equal(waiters, 20);
  for (const { json } of await Promise.all(waiting)) assert.deepEqual(json.messages.map(({ id }) => id), message_ids);
  (await server.publish('room', numbers(1001))).refuses(413);
  (await server.publish('room', [{}, 1])).refuses(400);
  (await server.publish('room', [])).refuses(400);
  assert.equal((await server.stats()).published, 1000);
});

/* The reply is larger than what the kernel takes of it, so it is not handed to who does not read. */
test('receipts: who has read it to its end, and nobody else', async (t) => {
  const mib = 2 ** 20;
  const server = await live(t, { ...ADMIN, ...FREE, 'reply-bytes-max': 24 * mib, 'history-bytes': 1024 * mib });
  const pad = 'x'.repeat(60_000);
  let last;
  for (let n = 0; n < 500; n += 1) ({ message_id: last } = await server.say('room', { pad }));
  const target = pollTarget('room', { limit: 1000 });
  const slow = await server.raw();
  slow.socket.pause();
  slow.send(get(target, { 'X-Client-ID': 'slow' }));
  const gone = await server.raw();
  gone.socket.pause();
  gone.send(get(target, { 'X-Client-ID': 'gone' }));
  const fast = await server.poll('room', { limit: 1000 }, { 'X-Client-ID': 'fast' });
  const id = fast.json.messages.at(-1).id;
  await until(async () => (await receipts(server, 'room', id)).includes('fast'), 'the receipt');
  assert.deepEqual(await receipts(server, 'room', id), ['fast']);
  gone.socket.destroy();
  slow.socket.resume();
  await until(async () => (await receipts(server, 'room', id)).length === 2, 'the slow one');
  assert.deepEqual(await receipts(server, 'room', id), ['fast', 'slow']);
  assert.notEqual(id, last, 'one reply does not hold them all');
  assert.deepEqual(await receipts(server, 'room', last), []);
});

test('receipts of a crowd, by pages', async (t) => {
  const server = await live(t, { ...ADMIN, ...FREE });
  const count = scaled(400, 30);
  const names = Array.from({ length: count }, (_, i) => `client-${i}`);
  const waiting = names.map((name) => server.poll('room', { timeout: 30 }, { 'X-Client-ID': name }));
  await server.waiters(count);
  const { message_id } = await server.say('room', {});
  await Promise.all(waiting);
  for (const limit of [1000, 100, 7]) assert.deepEqual((await receipts(server, 'room', message_id, limit)).sort(), [...names].sort());
});

test('pages of channels have each once, while others come and go', async (t) => {
  const server = await Server.start(LIVE, { ...ADMIN, ...FREE, 'history-age-ms': 500 });
  atEnd(t, () => server.stop());
  const count = scaled(1500, 100);
  const waiting = Array.from({ length: count }, (_, i) => server.poll(`stays-${i}`, { timeout: 60 }));
  await server.waiters(count);
  const seen = [];
  let others = 0;
  for (let after = 0; after !== undefined;) {
    const page = await told(server, 'GET', `/api/channels?limit=50&after=${after}`);
    seen.push(...page.channels.map(({ channel }) => channel).filter((name) => name.startsWith('stays-')));
    for (let n = 0; n < 10; n += 1) await server.say(`goes-${others += 1}`, {});
    after = page.next;
  }
  assert.equal(seen.length, count);
  assert.equal(new Set(seen).size, count);
  server.letGo();
  await Promise.allSettled(waiting);
});
