/* A client of the basic dialect that knows nothing but since= and timeout=:
   0 at first, then the timestamp of each message. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { get, live, post, publishTarget, scaled } from './harness.mjs';

/* Publish {"n":1} to {"n":total} down one connection, many requests at a time,
   and check each answer. */
async function publishAll(server, channel, total) {
  const raw = await server.raw();
  const target = publishTarget(channel);
  for (let n = 1; n <= total;) {
    const end = Math.min(total, n + 199);
    let batch = '';
    for (let k = n; k <= end; k += 1) batch += post(target, `{"n":${k}}`);
    raw.send(batch);
    for (; n <= end; n += 1) {
      const answer = await raw.answer();
      assert.equal(answer.status, 200, answer.text);
      assert.ok(answer.json.message_id.endsWith(`-${n}`), answer.text);
    }
  }
  raw.close();
}

/* Poll until `total` messages have come, each exactly the next. `cursor` takes
   the next value of since= from a message, or from the reply's bytes. */
async function readAll(server, channel, total, cursor) {
  const raw = await server.raw();
  let since = '0';
  for (let n = 1; n <= total;) {
    raw.send(get(`/api/poll/${channel}?since=${since}&timeout=10`));
    const answer = await raw.answer();
    const reply = answer.json;
    assert.equal(answer.status, 200, answer.text);
    assert.equal(reply.reset, undefined, answer.text);
    if (reply.status === 'timeout') continue;
    assert.equal(reply.status, 'message', answer.text);
    assert.equal(reply.data.n, n, `message ${n} after since=${since}`);
    since = cursor(reply.data, answer.text);
    n += 1;
  }
  raw.close();
  return since;
}

test('20,000 messages by since= alone: none is lost, none comes twice', async (t) => {
  const server = await live(t, { 'history-count': 30_000 });
  const total = scaled(20_000, 200);
  const began = performance.now();
  const publishing = publishAll(server, 'news', total);
  const [, since] = await Promise.all([
    publishing.then(() => performance.now() - began),
    readAll(server, 'news', total, ({ timestamp }) => timestamp),       /* a number of JavaScript's */
    readAll(server, 'news', total, (_, text) => /"data":\{.*?"timestamp":([\d.]+)/.exec(text)[1]),
  ]);
  const rest = await server.ask('news', { since, timeout: 0 });
  assert.deepEqual([rest.status, rest.count], ['timeout', 0]);
  t.diagnostic(`${total} messages to two clients in ${Math.round(performance.now() - began)} ms`);
});

test('the same from behind: all published before the first poll', async (t) => {
  const server = await live(t, { 'history-count': 30_000 });
  const total = scaled(5_000, 100);
  await publishAll(server, 'news', total);
  await readAll(server, 'news', total, ({ timestamp }) => timestamp);
});
