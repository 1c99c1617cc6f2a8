/* Many tabs of one Chromium, against the demo's server: they share one poll, or
   stream.

   LONGPOLL_SERVER        the server                           [build/server]

   A browser opens six connections to an origin, so that with a poll in each tab
   the seventh would not even load. */

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { DEMO, Server, SLOW, sleep, until } from '../live/harness.mjs';
import { browser, skip } from './chromium.mjs';

const WAIT_MS = 30_000 * SLOW;
const PROMPT_MS = 5_000 * SLOW;         /* a loaded machine is no 40 s */
const TABS = 8;

const limits = { timeout: 180_000 * SLOW, skip };

/* A page with one client, whose options are in its address; what it hears is
   in `heard`. */
const PAGE = `<!doctype html><title>tab</title><script type="module">
  import { LongPollingClient } from './longpoll.js';
  const { channels, ...options } = JSON.parse(decodeURIComponent(location.hash.slice(1)));
  window.heard = [];
  window.events = [];
  window.client = new LongPollingClient('', channels, options);
  client.on('message', (m, channel) => heard.push([channel, Number(m.id.split('-')[1]), m.n]));
  for (const event of ['reset', 'connected', 'disconnected', 'error'])
    client.on(event, (what) => events.push([event, String(what?.message ?? JSON.stringify(what))]));
  client.start();
</script>`;

/* A server, and one browser's context: all its tabs have six connections. */
async function serve(t, transport = 'poll') {
  const server = await Server.start(DEMO, {});
  const context = await (await browser({ ignoreDefaultArgs: ['--disable-back-forward-cache'] })).newContext();
  t.after(async () => {
    await context.close();
    await server.stop();
  });
  context.setDefaultTimeout(WAIT_MS);
  await context.route('**/tab.html', (route) => route.fulfill({ contentType: 'text/html', body: PAGE }));
  await context.route('**/other.html', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  return { server, context, transport, tabs: [] };
}

/* `parked` has the polls and streams of a tab that the server may hold. */
async function newTab(world) {
  const page = await world.context.newPage();
  page.parked = new Set();
  page.on('request', (request) => {
    if (/\/api\/(poll\/.*timeout=[1-9]|stream\/)/.test(request.url())) page.parked.add(request);
    if (/\/api\/stream\//.test(request.url())) world.streams = (world.streams ?? 0) + 1;
  });
  for (const event of ['requestfinished', 'requestfailed'])
    page.on(event, (request) => page.parked.delete(request));
  for (const event of ['crash', 'close', 'framenavigated']) page.on(event, () => page.parked.clear());
  world.tabs.push(page);
  return page;
}

async function open(world, options) {
  const page = await newTab(world);
  await page.goto(`${world.server.url}/tab.html#${encodeURIComponent(JSON.stringify({ transport: world.transport, ...options }))}`);
  await page.waitForFunction(() => globalThis.client?.state === 'connected');
  return page;
}

const forget = (world, page) => { world.tabs = world.tabs.filter((other) => other !== page); };
const polls = (world) => world.tabs.reduce((sum, page) => sum + page.parked.size, 0);
const onePoll = (world) => until(() => polls(world) === 1, 'one poll for all tabs', WAIT_MS);

async function leader(world) {
  await onePoll(world);
  return world.tabs.find((page) => page.parked.size > 0);
}

/* Each tab has had all of a channel, once and in order, and soon. */
async function hasAll(world, channel, last, ms = PROMPT_MS) {
  const began = performance.now();
  for (const page of world.tabs) {
    await page.waitForFunction(([name, n]) => heard.some(([c, seq]) => c === name && seq === n),
      [channel, last], { timeout: Math.max(1, ms - (performance.now() - began)) });
    const seqs = await page.evaluate((name) => heard.filter(([c]) => c === name).map(([, seq]) => seq), channel);
    assert.deepEqual(seqs, Array.from({ length: last }, (_, i) => i + 1), 'each once, in order');
  }
}

const said = (world, channel, n) => world.server.say(channel, { n }).then(({ message_id: id }) => Number(id.split('-')[1]));
const undisturbed = async (world) => {
  for (const page of world.tabs)
    assert.deepEqual(await page.evaluate(() => events), [['connected', 'undefined']]);
};

test('tabs: eight windows of the demo chat', limits, async (t) => {
  const world = await serve(t);
  const texts = (page) => page.locator('.msg p').allTextContents();
  for (let i = 0; i < TABS; i += 1) {
    const page = await newTab(world);
    await page.goto(`${world.server.url}/#lobby`);
    await page.locator('#state[data-state="connected"]').waitFor();
  }
  await onePoll(world);
  const expected = [];
  for (const [i, page] of world.tabs.entries()) {
    const began = performance.now();
    expected.push(`from tab ${i}`);
    await page.fill('#text', expected.at(-1));
    await page.press('#text', 'Enter');
    for (const other of world.tabs) await other.locator('.msg p', { hasText: expected.at(-1) }).first().waitFor();
    const took = performance.now() - began;
    assert.ok(took < PROMPT_MS, `seen by all after ${took} ms`);
  }
  for (const page of world.tabs) assert.deepEqual(await texts(page), expected);

  /* All at once. */
  await Promise.all(world.tabs.map(async (page, i) => {
    for (let n = 0; n < 5; n += 1) {
      await page.fill('#text', `${i}.${n}`);
      await page.press('#text', 'Enter');
    }
  }));
  const all = TABS * 6;
  for (const page of world.tabs) await until(async () => (await texts(page)).length >= all, 'all of it', WAIT_MS);
  const order = await texts(world.tabs[0]);
  assert.equal(new Set(order).size, all);
  for (const page of world.tabs) assert.deepEqual(await texts(page), order);
});

for (const transport of ['poll', 'stream', 'auto']) {
  test(`tabs, ${transport}: the leader is closed, leaves, crashes, in the middle of everything`, limits, async (t) => {
    const world = await serve(t, transport);
    for (let i = 0; i < TABS; i += 1) await open(world, { channels: ['news'] });
    const goes = {
      closed: (page) => page.close(),
      elsewhere: (page) => page.goto('about:blank'),
      crashed: async (page) => {
        const crash = page.waitForEvent('crash');
        const cdp = await world.context.newCDPSession(page);
        cdp.send('Page.crash').catch(() => {});
        await crash;
      },
    };
    let last = 0;
    for (const [how, go] of [...Object.entries(goes), ...Object.entries(goes)]) {
      const first = await leader(world);
      forget(world, first);
      let over = false;
      const publishing = (async () => {
        while (!over) {
          last = await said(world, 'news', how);
          await sleep(3);
        }
      })();
      await sleep(50);
      await go(first);
      await sleep(50);
      over = true;
      await publishing;
      await hasAll(world, 'news', last);
      await onePoll(world);
      last = await said(world, 'news', how);
      await hasAll(world, 'news', last);
    }
    await undisturbed(world);
    assert.equal(world.streams > 0, transport !== 'poll');
    for (const page of world.tabs) last = Number((await page.evaluate(() => client.publish('news', {}))).message_id.split('-')[1]);
    await hasAll(world, 'news', last);
  });
}

for (const transport of ['poll', 'stream', 'auto']) {
  test(`tabs, ${transport}: rooms that differ`, limits, async (t) => {
    const world = await serve(t, transport);
    const rooms = (i) => [`room ${i}`, 'lobby', `room ${(i + 1) % TABS}`];
    for (let i = 0; i < TABS; i += 1) await open(world, { channels: rooms(i) });
    for (let round = 1; round <= 3; round += 1) {
      const page = await leader(world);
      for (let i = 0; i < TABS; i += 1) await said(world, `room ${i}`, round);
      await said(world, 'lobby', round);
      for (const [i, tab] of world.tabs.entries()) {
        await tab.waitForFunction((n) => heard.length === 3 * n, round, { timeout: PROMPT_MS });
        for (const room of tab.rooms ?? rooms(i)) {
          const got = await tab.evaluate((name) => heard.filter(([c]) => c === name).map(([, seq]) => seq), room);
          assert.deepEqual(got, Array.from({ length: round }, (_, n) => n + 1), `${room} in tab ${i}`);
        }
        tab.rooms ??= rooms(i);
      }
      await page.close();
      forget(world, page);
    }
    await undisturbed(world);
    assert.equal(world.streams > 0, transport !== 'poll');
  });
}

for (const transport of ['poll', 'stream', 'auto']) {
  test(`tabs, ${transport}: a leader that goes into the back/forward cache, and returns`, limits, async (t) => {
    const world = await serve(t, transport);
    for (let i = 0; i < 4; i += 1) await open(world, { channels: ['news'] });
    const first = await leader(world);
    await first.evaluate(() => { window.kept = 'in the cache'; });
    await first.goto(`${world.server.url}/other.html`);
    forget(world, first);
    await hasAll(world, 'news', await said(world, 'news', 'one is away'));
    assert.notEqual(await leader(world), first);
    await first.goBack({ waitUntil: 'commit' });      /* what was cached does not load */
    assert.equal(await first.evaluate(() => window.kept), 'in the cache');
    world.tabs.push(first);
    await hasAll(world, 'news', 1);
    await hasAll(world, 'news', await said(world, 'news', 'and back'));
    await onePoll(world);
    await undisturbed(world);
    assert.equal(world.streams > 0, transport !== 'poll');
  });
}

for (const transport of ['poll', 'stream', 'auto']) {
  test(`tabs, ${transport}: a leader that is stopped in a debugger`, limits, async (t) => {
    const world = await serve(t, transport);
    for (let i = 0; i < 4; i += 1) await open(world, { channels: ['news'] });
    const stopped = await leader(world);
    const debug = await world.context.newCDPSession(stopped);
    await debug.send('Debugger.enable');
    await debug.send('Debugger.pause');
    forget(world, stopped);
    const last = await said(world, 'news', 'nobody hears');
    await hasAll(world, 'news', last, 20_000 * SLOW);
    await onePoll(world);
    await debug.send('Debugger.disable');
    world.tabs.push(stopped);
    await hasAll(world, 'news', await said(world, 'news', 'all hear'));
    await onePoll(world);
    await undisturbed(world);
    assert.equal(world.streams > 0, transport !== 'poll');
  });
}

test('tabs: a poll each where they do not share', limits, async (t) => {
  const without = {
    'share: false': {},
    'no locks': { script: () => { Object.defineProperty(Navigator.prototype, 'locks', { value: undefined }); } },
    'no BroadcastChannel': { script: () => { delete globalThis.BroadcastChannel; } },
    'locks refused': { script: () => { LockManager.prototype.request = () => Promise.reject(new DOMException('no', 'SecurityError')); } },
  };
  for (const [what, { script }] of Object.entries(without)) {
    const world = await serve(t);
    if (script) await world.context.addInitScript(script);
    for (let i = 0; i < 3; i += 1) await open(world, { channels: ['news'], ...(script ? {} : { share: false }) });
    await until(() => polls(world) === 3, `${what}: a poll each`, WAIT_MS);
    await hasAll(world, 'news', await said(world, 'news', what));
    await undisturbed(world);
  }
});
