/* A browser's own EventSource on GET /api/stream of the demo's server, which
   it reaches by a relay that can cut connections.

   LONGPOLL_SERVER        the server                           [build/server] */

import assert from 'node:assert/strict';
import net from 'node:net';
import { test } from 'node:test';

import { DEMO, Server, SLOW, atEnd, epochOf, seqOf, sleep, until } from '../live/harness.mjs';
import { browser, skip } from './chromium.mjs';

const WAIT_MS = 30_000 * SLOW;

const limits = { timeout: 120_000 * SLOW, skip };

/* All that the EventSource tells, as it tells it. */
const PAGE = `<!doctype html><title>stream</title><script>
  window.heard = [];
  window.resets = [];
  window.opened = 0;
  const source = window.source = new EventSource('/api/stream/' + location.hash.slice(1));
  source.onopen = () => { opened++; };
  source.onmessage = (event) => heard.push([event.lastEventId, event.data]);
  source.addEventListener('reset', (event) => resets.push([event.lastEventId, event.data]));
</script>`;

const counted = (n) => Array.from({ length: n }, (_, i) => i + 1);

/* Passes streams to the server at `port`, and notes with which Last-Event-ID
   each was asked for. cut(n) cuts those that are there, each after n bytes
   more of its answer. */
async function relay(t, port) {
  const self = { asked: [], pairs: new Set() };
  const listener = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1');
    const pair = { left: Infinity, streams: false, end: () => { near.destroy(); far.destroy(); self.pairs.delete(pair); } };
    self.pairs.add(pair);
    near.on('data', (part) => {
      const text = part.toString('latin1');
      if (text.startsWith('GET /api/stream/')) {
        pair.streams = true;
        self.asked.push(/^last-event-id: *(.*)\r$/im.exec(text)?.[1] ?? null);
      }
      far.write(part);
    });
    far.on('data', (part) => {
      if (part.length < pair.left) near.write(part);
      else near.write(part.subarray(0, pair.left), pair.end);
      pair.left -= part.length;
    });
    for (const socket of [near, far]) {
      socket.on('error', pair.end);
      socket.on('close', pair.end);
    }
  }).listen(0, '127.0.0.1');
  await new Promise((done) => listener.once('listening', done));
  self.url = `http://127.0.0.1:${listener.address().port}`;
  self.cut = (n) => {
    for (const pair of self.pairs) {
      if (pair.streams && n) pair.left = n;
      else if (pair.streams) pair.end();
    }
  };
  atEnd(t, () => {
    listener.close();
    for (const pair of self.pairs) pair.end();
  });
  return self;
}

/* A server, a relay before it, and a page there whose EventSource is open. */
async function world(t, channels) {
  const all = { server: await Server.start(DEMO) };
  atEnd(t, () => all.server.stop());
  all.relay = await relay(t, all.server.port);
  const context = await (await browser()).newContext();
  atEnd(t, () => context.close());
  context.setDefaultTimeout(WAIT_MS);
  await context.route('**/stream.html', (route) => route.fulfill({ contentType: 'text/html', body: PAGE }));
  all.page = await context.newPage();
  await all.page.goto(`${all.relay.url}/stream.html#${channels}`);
  await all.page.waitForFunction(() => opened === 1);
  all.heard = () => all.page.evaluate(() => heard.map(([id, data]) => ({ cursor: id, ...JSON.parse(data) })));
  all.resets = () => all.page.evaluate(() => resets.map(([cursor, data]) => ({ cursor, why: JSON.parse(data) })));
  all.count = (n) => all.page.waitForFunction((least) => heard.length >= least, n);
  return all;
}

test('stream: an EventSource hears what is published, as it is published', limits, async (t) => {
  const { server, page, heard, resets, count } = await world(t, 'a,b');
  const cursors = [];
  for (const n of counted(20)) {
    const began = performance.now();
    cursors.push((await server.say(n % 4 ? 'a' : 'b', { n, text: '☕\u2028\n' })).message_id);
    await count(n);
    assert.ok(performance.now() - began < 1000 * SLOW);
  }
  const all = await heard();
  assert.deepEqual(all.map(({ n, text }) => [n, text]), counted(20).map((n) => [n, '☕\u2028\n']));
  assert.deepEqual(all.map(({ id }) => id), cursors);
  const last = (channel) => all.filter((message) => message.channel === channel).at(-1).id;
  assert.equal(all.at(-1).cursor, `${last('a')},${last('b')}`);
  assert.deepEqual(await resets(), []);
  assert.equal(await page.evaluate(() => opened), 1);
});

test('stream: an EventSource whose connections are cut connects again, and has each message once', limits, async (t) => {
  const { server, relay: between, page, heard, resets } = await world(t, 'news');
  let over = false;
  let said = 0;
  const publishing = (async () => {
    while (!over) {
      await server.say('news', { n: said += 1 });
      await sleep(3);
    }
  })();
  await page.waitForFunction(() => heard.length > 5);
  for (const [i, bytes] of [0, 1, 50, 200, 501].entries()) {
    between.cut(bytes);
    await page.waitForFunction((n) => opened === n, i + 2);
    await sleep(50);
  }
  over = true;
  await publishing;
  await page.waitForFunction((n) => heard.length >= n, said);
  const all = await heard();
  assert.deepEqual(all.map(({ n }) => n), counted(said));
  assert.deepEqual(await resets(), []);
  const [first, ...rest] = between.asked;
  assert.equal(first, null);
  assert.equal(rest.length, 5);
  for (const id of rest) assert.ok(all.some(({ cursor }) => cursor === id), `it has asked from ${id}`);
});

test('stream: an EventSource is told of a restart once, by a reset', limits, async (t) => {
  const all = await world(t, 'a,b');
  const { port } = all.server;
  let lives = 1;
  for (const n of counted(5)) await all.server.say('a', { n });
  await all.count(5);
  for (; lives < 3; lives += 1) {
    all.server.agent.destroy();
    all.server.process.child.kill('SIGTERM');
    await all.server.over();
    all.server = await until(() => Server.start(DEMO, { port }).catch((error) => {
      if (!/in use/i.test(error.message)) throw error;
      return sleep(20);
    }), 'the port to be free');
    for (const n of counted(5)) await all.server.say('a', { n });
    await all.count(5 * (lives + 1));
  }
  await all.server.say('b', { n: 1 });
  await all.count(16);
  const heard = await all.heard();
  const a = heard.filter(({ channel }) => channel === 'a');
  assert.deepEqual(a.map(({ n }) => n), [...counted(5), ...counted(5), ...counted(5)]);
  assert.deepEqual(a.map(({ id }) => seqOf(id)), a.map(({ n }) => n));
  assert.equal(new Set(a.map(({ id }) => epochOf(id))).size, 3);
  assert.equal(heard.length, 16);
  const resets = await all.resets();
  assert.deepEqual(resets.map(({ why }) => why), [{ a: 'epoch', b: 'epoch' }, { a: 'epoch', b: 'epoch' }]);
  for (const [life, { cursor }] of resets.entries()) {
    const [first, second] = cursor.split(',');
    assert.equal(first, `${epochOf(a[5 * (life + 1)].id)}-0`);
    assert.equal(seqOf(second), 0);
  }
  /* It asks from the last message before; and it was cut off only by stops. */
  assert.deepEqual(all.relay.asked.filter((id) => id === heard[4].cursor).length > 0, true);
  assert.equal(await all.page.evaluate(() => [opened, source.readyState].join()), `${lives},1`);
});
