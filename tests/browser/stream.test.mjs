/* A browser's own EventSource on GET /api/stream of the demo's server, which
   it reaches by a relay that can cut connections; and what the parser of the
   JavaScript client makes of any bytes, beside what an EventSource does.

   LONGPOLL_SERVER        the server                           [build/server] */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { SEED, chance } from '../live/crowd.mjs';
import { DEMO, Server, SLOW, atEnd, epochOf, seqOf, sleep, until } from '../live/harness.mjs';
import { relay } from '../live/relay.mjs';
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

/* The Last-Event-ID of each stream. */
const asked = (between) => between.asked.map((head) => /^last-event-id: *(.*)\r$/im.exec(head)?.[1] ?? null);

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
  const [first, ...rest] = asked(between);
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
  assert.deepEqual(asked(all.relay).filter((id) => id === heard[4].cursor).length > 0, true);
  assert.equal(await all.page.evaluate(() => [opened, source.readyState].join()), `${lives},1`);
});

const VALUES = ['', ' ', 'x', ' x', '  y ', 'reset', 'message', 'a:b', ': c', '5', 'é☕𝄞', 'nul\0', '\u2028', '\ufeff'];

/* Lines that are right, nearly right, and wrong, with ends of every kind. */
function anything(dice) {
  const fields = ['data', 'event', 'id', 'retry', 'dat', '', ' data', 'DATA', 'data ', '\ufeffdata'];
  const ends = ['\n', '\r', '\r\n', '\n\n', '\r\r', '\r\n\r\n', '\n\r', ''];
  let text = dice.pick(['', '', '\ufeff', '\ufeff\ufeff']);
  for (let n = dice.below(40); n > 0; n -= 1) text += dice.pick(fields) + dice.pick([':', ':', ': ', '']) + dice.pick(VALUES) + dice.pick(ends);
  const bytes = Buffer.from(text);
  if (dice.is(0.2) && bytes.length > 0) bytes[dice.below(bytes.length)] = 0xff;
  return bytes;
}

test('stream: the client reads any bytes as an EventSource does', limits, async (t) => {
  const server = await Server.start(DEMO);
  const context = await (await browser()).newContext();
  atEnd(t, async () => { await context.close(); await server.stop(); });
  const dice = chance(SEED);
  console.log(`seed ${SEED}`);
  const bodies = Array.from({ length: 300 }, () => anything(dice));
  await context.route('**/bytes/*', (route) => route.fulfill({
    contentType: 'text/event-stream', body: bodies[Number(route.request().url().split('/').at(-1))],
  }));
  await context.route('**/empty.html', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  const page = await context.newPage();
  await page.goto(`${server.url}/empty.html`);
  const both = await page.evaluate(async (count) => {
    const { EventParser } = await import('/longpoll.js');
    const theirs = (url, types) => new Promise((done) => {
      const events = [];
      const source = new EventSource(url);
      for (const type of new Set(['message', 'reset', 'x', ...types]))
        source.addEventListener(type, ({ data, lastEventId }) => events.push([type, data, lastEventId]));
      source.onerror = () => { source.close(); done(events); };
    });
    const ours = async (url) => {
      const bytes = new Uint8Array(await (await fetch(url)).arrayBuffer());
      const decoder = new TextDecoder();
      const parser = new EventParser();
      for (const byte of bytes) parser.push(decoder.decode(Uint8Array.of(byte), { stream: true }));
      return parser.events.map(({ type, data, lastId }) => [type, data, lastId]);
    };
    const all = [];
    for (let i = 0; i < count; i += 1) {
      const mine = await ours(`/bytes/${i}`);
      all.push([await theirs(`/bytes/${i}`, mine.map(([type]) => type)), mine]);
    }
    return all;
  }, bodies.length);
  let events = 0;
  for (const [i, [theirs, ours]] of both.entries()) {
    assert.deepEqual(ours, theirs, JSON.stringify(bodies[i].toString()));
    events += theirs.length;
  }
  assert.ok(events > bodies.length, `${events} events`);
});

/* A page of the server whose client asks across origins, by a relay. */
async function across(t, transport, begins) {
  const server = await Server.start(DEMO, { cors: '*' });
  const context = await (await browser()).newContext();
  atEnd(t, async () => { await context.close(); await server.stop(); });
  const between = await relay(t, server.port, begins);
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  await page.goto(`${server.url}/longpoll.js`);     /* what the test makes up is of no address */
  await page.evaluate(async ([url, how]) => {
    const { LongPollingClient } = await import('/longpoll.js');
    window.heard = [];
    window.events = [];
    window.client = new LongPollingClient(url, 'news', { transport: how, token: async () => 'mine', retryDelay: 5, retryDelayMax: 20 });
    client.on('message', ({ n }) => heard.push(n));
    for (const event of ['reset', 'connected', 'disconnected', 'error']) client.on(event, () => events.push(event));
    client.start();
  }, [between.url, transport]);
  await until(() => between.asked.length > 0, 'a stream', WAIT_MS);
  return { server, between, page };
}

test('stream: the client in a page, across origins, cut anywhere', limits, async (t) => {
  const dice = chance(SEED);
  console.log(`seed ${SEED}`);
  const { server, between, page } = await across(t, 'stream', () => ({ left: 400 + dice.below(2000), reset: dice.is(0.5) }));
  for (const n of counted(500)) {
    await server.say('news', { n });
    if (n % 10 === 0) await sleep(10);
  }
  await page.waitForFunction(() => heard.length >= 500);
  assert.deepEqual(await page.evaluate(() => heard), counted(500));
  assert.ok(between.asked.length > 10, `${between.asked.length} streams`);
  assert.ok(between.asked.every((head) => /^authorization: Bearer mine\r$/im.test(head)));
  assert.ok(!(await page.evaluate(() => events)).includes('reset'));
});

test('stream: the client in a page polls where a proxy holds streams back', limits, async (t) => {
  const { server, between, page } = await across(t, 'auto', () => ({ hold: true }));
  const began = performance.now();
  for (const n of counted(20)) await server.say('news', { n });
  await page.waitForFunction(() => heard.length === 20);
  const took = performance.now() - began;
  assert.ok(took > 1500 && took < 3000 + 2000 * SLOW, `${took} ms`);
  await server.say('news', { n: 21 });
  await page.waitForFunction(() => heard.length === 21);
  assert.deepEqual(await page.evaluate(() => heard), counted(21));
  assert.deepEqual(await page.evaluate(() => events), ['connected']);
  assert.equal(between.asked.length, 1);
});
