/* What a program in C says of its channels, over real sockets. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { live, sleep, SLOW } from './harness.mjs';

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
