/* demo/examples/presence.c: who joined and who left, over polls and streams,
   several tabs, and several servers over Redis. */

import assert from 'node:assert/strict';
import http from 'node:http';
import path from 'node:path';
import { test } from 'node:test';
import { DEMO, SLOW, Server, atEnd, get, pollTarget, sleep, until } from './harness.mjs';
import { Redis, skip } from './redis.mjs';

const PRESENCE = path.join(path.dirname(DEMO), `examples/presence${process.env.LONGPOLL_SUFFIX || ''}`);
const LINGER = 600 * SLOW;
const SHORT = { 'channel-linger-ms': LINGER, 'waiters-per-client': 'unlimited', 'drain-ms': 200 };

async function presence(t, options = {}) {
  const server = await Server.start(PRESENCE, { ...SHORT, ...options });
  atEnd(t, () => server.stop());
  return server;
}

async function who(server, room = 'lobby') {
  const answer = await server.request('GET', `/presence/${room}`);
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.json.room, room);
  return answer.json.who.sort();
}

const names = (server, want, room, ms) =>
  until(async () => (await who(server, room)).join() === want, `${want || 'nobody'} to be there`, ms);
const inRoom = (name, room = 'lobby') => [room, `presence:${room}`, `here:${room}:${name}`];

/* Somebody who polls again and again, until close(); what is heard in the room. */
function enter(server, name, room) {
  const agent = new http.Agent({ keepAlive: true });
  const tab = { heard: [], closed: false, close() { tab.closed = true; agent.destroy(); } };
  tab.over = (async () => {
    for (let last = 'now'; !tab.closed;) {
      const answer = await server.poll(inRoom(name, room), { last_id: last, timeout: 30 }, { 'X-Client-ID': name },
        { agent, ms: 60_000 }).catch((error) => { if (!tab.closed) throw error; });
      if (tab.closed) return;
      last = answer.json.last_id;
      tab.heard.push(...answer.json.messages.map(({ type, who: of }) => `${type} ${of}`));
    }
  })();
  tab.hears = (what) => until(() => tab.heard.includes(what), `${name} to hear: ${what}`);
  return tab;
}

/* A connection with a stream, as EventSource opens it: without a header. */
async function follow(server, name) {
  const raw = await server.raw();
  raw.send(get(`/api/stream/${inRoom(name).map(encodeURIComponent).join(',')}?last_id=now&who=${name}`));
  return raw;
}

/* What the room has been told. */
async function told(server) {
  const { messages } = await server.ask('presence:lobby', { last_id: 0, timeout: 0 });
  return messages.map(({ type, who: name, room }) => `${type} ${name} ${room}`);
}

test('who polls is there, and who does not for a while has left', async (t) => {
  const server = await presence(t);
  assert.deepEqual(await who(server), []);
  const ann = enter(server, 'ann');
  await names(server, 'ann');
  const bob = enter(server, 'bob');
  await names(server, 'ann,bob');
  await ann.hears('joined bob');
  /* She is back soon, on another connection: she never left. */
  ann.close();
  await sleep(LINGER / 2);
  const again = enter(server, 'ann');
  await sleep(LINGER);
  assert.deepEqual(await who(server), ['ann', 'bob']);
  const began = performance.now();
  bob.close();
  await names(server, 'ann');
  const ms = performance.now() - began;
  assert.ok(ms > LINGER - 20 && ms < LINGER + 1500 * SLOW, `gone after ${ms} ms`);
  await again.hears('left bob');
  again.close();
  await names(server, '');
  assert.deepEqual(await told(server), ['joined ann lobby', 'joined bob lobby', 'left bob lobby', 'left ann lobby']);
});

test('streams and several tabs', async (t) => {
  const server = await presence(t);
  const tabs = [await follow(server, 'ann'), enter(server, 'ann'), await follow(server, 'ann')];
  const bob = await follow(server, 'bob');
  await names(server, 'ann,bob');
  await bob.expect(() => (bob.got.includes('"who":"bob"') ? true : null), 5000 * SLOW, 'bob to see himself join');
  tabs[0].close();
  tabs[1].close();
  await sleep(2 * LINGER);
  assert.deepEqual(await who(server), ['ann', 'bob'], 'one tab is left');
  tabs[2].close();
  await names(server, 'bob');
  await bob.expect(() => (bob.got.includes('"type":"left"') ? true : null), 5000 * SLOW, 'bob to see ann leave');
});

test('rooms are apart, and names are checked', async (t) => {
  const server = await presence(t);
  const tabs = ['lobby', 'attic'].map((room) => enter(server, 'ann', room));
  atEnd(t, () => tabs.forEach((tab) => tab.close()));
  for (const room of ['lobby', 'attic']) await names(server, 'ann', room);
  assert.deepEqual(await who(server, 'cellar'), []);
  const refuses = async (channels, headers) => {
    const answer = await server.request('GET', pollTarget(channels, { timeout: 0 }), { headers });
    answer.refuses(403, 'Forbidden');
  };
  await refuses('here:lobby:ann', { 'X-Client-ID': 'bob' });
  await refuses('here:lobby:ann', {});
  await refuses('here:lobby:an"n', { 'X-Client-ID': 'an"n' });
  await refuses('here:lobby', { 'X-Client-ID': 'lobby' });
  await refuses(`here:lobby:${'x'.repeat(64)}`, { 'X-Client-ID': 'x'.repeat(64) });
  await refuses('presence', {});
  await refuses('presence', { 'X-Key': '0'.repeat(32) });
  for (const channel of ['presence', 'presence:lobby', 'here:lobby:ann']) {
    (await server.publish(channel, { type: 'left', room: 'lobby', who: 'ann' })).refuses(403, 'Forbidden');
  }
  await server.say('lobby', { text: 'hello' });
  assert.deepEqual(await who(server), ['ann']);
});

/* ---- over Redis ----------------------------------------------------------- */

test('over Redis all servers know who is there', { skip }, async (t) => {
  const redis = await Redis.start(t);
  const beat = 2 * SLOW;
  const options = { redis: redis.url, beat };
  const servers = await Promise.all([presence(t, options), presence(t, options)]);
  const [one, other] = servers;
  for (const server of servers) await until(async () => (await server.publish('ready', {})).status === 200, 'Redis');
  const ann = enter(one, 'ann');
  const bob = enter(other, 'bob');
  for (const server of servers) await names(server, 'ann,bob');
  /* She goes on at the other one. */
  const moved = enter(other, 'ann');
  ann.close();
  await sleep(3 * LINGER);
  for (const server of servers) assert.deepEqual(await who(server), ['ann', 'bob']);
  moved.close();
  for (const server of servers) await names(server, 'bob');
  /* One that comes later hears of all; and who is there at one that was killed is gone after three beats. */
  const third = await presence(t, options);
  await names(third, 'bob');
  const cat = enter(third, 'cat');
  for (const server of servers) await names(server, 'bob,cat');
  cat.close();
  await third.kill();
  await sleep(beat * 1000);
  assert.deepEqual(await who(one), ['bob', 'cat']);
  for (const server of servers) await names(server, 'bob', 'lobby', 5 * beat * 1000);
  /* What Redis forgets is announced again. */
  await redis.call('FLUSHALL');
  const fourth = await presence(t, options);
  await names(fourth, 'bob', 'lobby', (3 * beat + 5) * 1000);
  bob.close();
  for (const server of [...servers, fourth]) await names(server, '');
});
