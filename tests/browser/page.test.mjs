/* The demo's page in Chromium, against the demo's server.

   LONGPOLL_SERVER        the server                           [build/server]
   UPDATE_PICTURE=1       draws the README's demo/page.png anew

   What the page looked like is left in build/screenshots. */

import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { after, test } from 'node:test';

import { DEMO, run, Server, SLOW, which } from '../live/harness.mjs';
import { browser, driver, launching, root, skip } from './chromium.mjs';

const { env } = process;
const shots = path.join(root, 'build/screenshots');
const WAIT_MS = 30_000 * SLOW;

/* Each window is a context of its own. */
async function newContext(options) {
  return (await browser()).newContext(options);
}

/* A browser whose owner has forbidden all sites to keep data. Its profile is
   removed at the end of all: a browser that was closed writes for a while. */
const profiles = [];
after(() => profiles.forEach((profile) => rmSync(profile, { recursive: true, force: true, maxRetries: 10 })));

async function newForbidding(options) {
  const profile = mkdtempSync(path.join(tmpdir(), 'longpoll-'));
  profiles.push(profile);
  mkdirSync(path.join(profile, 'Default'));
  writeFileSync(path.join(profile, 'Default/Preferences'), JSON.stringify({
    profile: { default_content_setting_values: { cookies: 2 } },
  }));
  return driver().launchPersistentContext(profile, { ...launching, ...options });
}

/* A server that ends with its test, after the windows on it. */
async function serve(t, options) {
  const server = await Server.start(DEMO, options);
  server.windows = [];
  t.after(async () => {
    for (const { context } of server.windows) await context.close();
    await server.stop();
    for (const { name, wrong } of server.windows) assert.deepEqual(wrong, [], `what went wrong in ${name}'s window`);
  });
  return server;
}

/* A window on the page, as somebody with a name. Whatever it asks of another
   host, or reports as an error, fails the test, but for what is `expected`. */
async function open(server, name, { hash = '#lobby', expected = /^$/, create = newContext, ...options } = {}) {
  const context = await create({
    viewport: { width: 1200, height: 800 }, locale: 'en-GB', ...options,
  });
  context.setDefaultTimeout(WAIT_MS);
  const page = await context.newPage();
  const wrong = [];
  page.on('request', (request) => {
    const url = new URL(request.url());
    if (url.origin !== server.url && url.protocol !== 'data:') wrong.push(`request to ${url}`);
  });
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('console', (message) => {
    const bad = ['error', 'warning'].includes(message.type());
    if (bad && !expected.test(message.text())) wrong.push(message.text());
  });
  server.windows.push({ name, context, wrong });
  await page.addInitScript((own) => {
    try {
      if (!sessionStorage.getItem('longpoll.name')) sessionStorage.setItem('longpoll.name', own);
    } catch { /* forbidden */ }
  }, name);
  await page.goto(`${server.url}/${hash}`);
  await connected(page);
  return page;
}

const inState = (page, state) => page.locator(`#state[data-state="${state}"]`).waitFor();
const connected = (page) => inState(page, 'connected');
const arrived = (page, text) => page.locator('.msg p', { hasText: text }).first().waitFor();
const texts = (page) => page.locator('.msg p').allTextContents();
const alert = (page, text) => page.locator('.alert:visible', { hasText: text });
const alerts = (page) => page.locator('.alert:visible').allTextContents();

async function write(page, text) {
  await page.fill('#text', text);
  await page.press('#text', 'Enter');
}

/* Requests for `url` wait, until what is given back is called. */
async function hold(page, url) {
  let release;
  const released = new Promise((done) => { release = done; });
  const wait = async (route) => { await released; await route.fallback(); };
  await page.route(url, wait);
  return async () => { release(); await page.unroute(url, wait); };
}

async function shoot(page, name) {
  mkdirSync(shots, { recursive: true });
  await page.screenshot({ path: path.join(shots, `${name}.png`), timeout: WAIT_MS });
}

/* Each entry of the log as one word or line: what stands where. */
const log = (page) => page.locator('#log > li').evaluateAll((items) => items.map((item) =>
  (item.matches('.msg') ? item.querySelector('p') : item).textContent));

const limits = { timeout: 120_000 * SLOW, skip };

/* An answer of the server's that refuses to publish. */
const full = { status: 429, headers: { 'Retry-After': '3' }, json: { error: 'Server at capacity' } };

test('page: two windows chat', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada');
  const ben = await open(server, 'Ben');
  assert.equal(await ada.title(), 'lobby \u2013 longpoll.h');
  assert.ok(await ada.locator('#empty').isVisible(), 'an empty room says so');

  await write(ada, 'Hello, Ben');
  await arrived(ben, 'Hello, Ben');
  await arrived(ada, 'Hello, Ben');
  await write(ben, 'Hello, <b>Ada</b><img src=x onerror=alert(1)>');
  await arrived(ada, 'Hello, <b>Ada</b>');
  await arrived(ben, 'Hello, <b>Ada</b>');
  assert.equal(await ada.locator('#log :is(img, b)').count(), 0, 'markup stays text');
  assert.equal(await ada.locator('#empty').isVisible(), false);

  for (const page of [ada, ben]) {
    assert.deepEqual(await page.locator('.by strong').allTextContents(), ['Ada', 'Ben']);
    assert.match(await page.locator('.msg time').first().textContent(), /^\d\d:\d\d$/);
    assert.deepEqual(await page.locator('.seq').allTextContents(), ['lobby #1', 'lobby #2']);
    assert.match(await page.locator('#cursor').textContent(), /^[0-9a-f]{16}-2$/);
  }
  assert.deepEqual(await ada.locator('.mine p').allTextContents(), ['Hello, Ben']);

  await ada.fill('#text', 'half written');
  await ada.fill('#name', 'Ada L.');
  await ada.press('#name', 'Enter');
  await ada.locator('#text:focus').waitFor();
  assert.equal(await ada.inputValue('#text'), 'half written', 'a new name sends nothing');
  await ada.fill('#name', 'Ada');
  await ada.press('#name', 'Tab');

  await ada.reload();
  await arrived(ada, 'Hello, <b>Ada</b>');
  assert.equal((await texts(ada)).length, 2, 'what the server holds comes again after a reload');
  assert.deepEqual(await ada.locator('.mine p').allTextContents(), ['Hello, Ben']);
  assert.equal(await ada.inputValue('#name'), 'Ada', 'the name is remembered');
});

test('page: a message of any other shape is shown as JSON', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada');
  await server.say('lobby', { temperature: 21.5, name: { not: 'a string' } });
  await server.say('lobby', { text: ['<i>'], name: ' ' });
  await arrived(ada, '["<i>"]');
  assert.deepEqual(await texts(ada), ['{"temperature":21.5}', '{"text":["<i>"]}']);
  assert.deepEqual(await ada.locator('.msg:not(.more) strong').allTextContents(), ['someone']);
});

test('page: offline, and what was missed', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada');
  const ben = await open(server, 'Ben');
  await write(ada, 'one');
  await arrived(ben, 'one');

  await ben.focus('#switch');
  await ben.keyboard.press('Space');
  await inState(ben, 'offline');
  assert.equal(await ben.getAttribute('#switch', 'aria-checked'), 'false');
  assert.ok(await ben.isDisabled('#send'));
  for (const text of ['two', 'three', 'four']) await write(ada, text);
  await arrived(ada, 'four');
  await shoot(ben, 'offline');
  assert.deepEqual(await texts(ben), ['one'], 'offline is offline');

  await ben.click('#switch');
  await arrived(ben, 'four');
  await write(ada, 'five');
  await arrived(ben, 'five');
  assert.deepEqual(await log(ben),
    ['one', 'While you were away: 3 messages', 'two', 'three', 'four', 'five']);
  await shoot(ben, 'catch-up');

  await ben.click('#switch');
  await ben.click('#switch');
  await connected(ben);
  await write(ada, 'six');
  await arrived(ben, 'six');
  assert.equal(await ben.locator('.divider').count(), 1, 'nothing missed, nothing said');
});

test('page: rooms', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada');
  await write(ada, 'in the lobby');
  await arrived(ada, 'in the lobby');

  const name = 'a/b, \u00e9t\u00e9 100%';
  await ada.fill('#join-name', name);
  await ada.press('#join-name', 'Enter');
  await ada.locator('#room', { hasText: name }).waitFor();
  await connected(ada);
  const ben = await open(server, 'Ben', { hash: new URL(ada.url()).hash });
  assert.equal(await ben.textContent('#room'), name, 'the room is in the address');
  await write(ben, 'up here');
  await arrived(ada, 'up here');
  assert.deepEqual(await texts(ada), ['up here']);

  await server.say('lobby', { name: 'Cleo', text: 'anybody?' });
  await ada.locator('#rooms li', { hasText: 'lobby' }).locator('b', { hasText: '1' }).waitFor();
  assert.match(await ada.title(), /^\(1\) /);
  await ada.locator('#rooms a', { hasText: 'lobby' }).focus();
  await ada.keyboard.press('Enter');
  await arrived(ada, 'anybody?');
  assert.deepEqual(await texts(ada), ['in the lobby', 'anybody?'], 'each once, in order');
  assert.equal(await ada.locator('#rooms b:visible').count(), 0, 'read');

  await ada.goBack();
  await arrived(ada, 'up here');
  await ada.click('.here .leave');
  await arrived(ada, 'anybody?');
  assert.equal(await ada.locator('#rooms a', { hasText: name }).count(), 0);

  /* One poll takes sixteen channels: the page says so and stays where it is. */
  for (let i = await ada.locator('#rooms li').count(); i < 16; i += 1) {
    await ada.fill('#join-name', `room ${i}`);
    await ada.press('#join-name', 'Enter');
    await ada.locator('#room', { hasText: `room ${i}` }).waitFor();
  }
  await ada.fill('#join-name', 'too many');
  await ada.press('#join-name', 'Enter');
  await alert(ada, '16 rooms at most').waitFor();
  await shoot(ada, 'rooms');
  assert.equal(await ada.textContent('#room'), 'room 15');
  await ada.click('#rooms a >> text=room 14');
  await ada.locator('#room', { hasText: 'room 14' }).waitFor();
  assert.deepEqual(await alerts(ada), [], 'that is over');
  await ada.goto('about:blank');
  await ada.goto(`${server.url}/#too many`);
  await connected(ada);
  assert.equal(await ada.textContent('#room'), 'lobby');
  assert.match(String(await alerts(ada)), /16 rooms at most/);
});

test('page: a restart of the server is a reset, and said', limits, async (t) => {
  const expected = /Failed to load resource: net::ERR_/;
  const first = await serve(t);
  const ada = await open(first, 'Ada', { expected });
  const ben = await open(first, 'Ben', { expected, colorScheme: 'dark' });
  await write(ada, 'before');
  await arrived(ben, 'before');

  await first.stop();
  await inState(ada, 'waiting');
  await shoot(ada, 'waiting');
  await serve(t, { port: first.port });
  await ben.locator('.notice', { hasText: 'could not prove continuity: epoch' }).waitFor();
  await connected(ada);
  await write(ada, 'after');
  await arrived(ben, 'after');
  const [, notice] = await log(ben);
  assert.deepEqual(await log(ben), ['before', notice, 'after']);
  assert.match(notice, /epoch.*What follows is everything it still holds/);
  assert.match(await ben.textContent('#cursor'), /-1$/);
  await shoot(ben, 'reset-dark');
});

test('page: publishing that wants a token', limits, async (t) => {
  const server = await serve(t, { token: 'sesame' });
  const ada = await open(server, 'Ada', { expected: /status of 401/ });
  await write(ada, 'open');
  await ada.locator('#token').waitFor();
  assert.equal(await ada.inputValue('#text'), 'open', 'nothing written is lost');
  await shoot(ada, 'token');
  /* The page connects anew with the token; that it then is connected is no
     reason to take back what publishing has said. */
  const release = await hold(ada, '**/api/poll/**');
  await ada.fill('#token-value', 'wrong');
  await ada.press('#token-value', 'Enter');
  await alert(ada, 'does not take this token').waitFor();
  await inState(ada, 'connecting');
  await release();
  await connected(ada);
  assert.deepEqual(await alerts(ada), ['The server does not take this token.']);
  await ada.fill('#token-value', '\u2603');
  await ada.press('#token-value', 'Enter');
  await ada.locator('#token-value:focus').waitFor();
  assert.deepEqual(await alerts(ada), ['The server does not take this token.'], 'nor does a header');
  await ada.click('#switch');
  await inState(ada, 'offline');
  await ada.fill('#token-value', 'later');
  await ada.press('#token-value', 'Enter');
  assert.equal(await ada.locator('#token').isVisible(), false, 'it is for when the line is back');
  assert.equal(await ada.inputValue('#text'), 'open');
  await ada.click('#switch');
  await ada.press('#text', 'Enter');
  await alert(ada, 'does not take this token').waitFor();
  await ada.fill('#token-value', 'sesame');
  await ada.press('#token-value', 'Enter');
  await arrived(ada, 'open');
  assert.equal(await ada.locator('#token').isVisible(), false);
  assert.equal(await ada.inputValue('#text'), '');
  assert.deepEqual(await texts(ada), ['open']);
});

test('page: a refusal is said, and the words are kept', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada', { expected: /status of 429/ });
  await ada.route('**/api/publish/**', (route) => route.fulfill(full));
  await write(ada, 'patience');
  await alert(ada, 'Not published: the server answered 429 Server at capacity. Try again in 3 s.').waitFor();
  assert.equal(await ada.inputValue('#text'), 'patience');
  await ada.click('#switch');
  await inState(ada, 'offline');
  await ada.click('#switch');
  await connected(ada);
  assert.equal((await alerts(ada)).length, 1, 'the line is another matter');
  await ada.unroute('**/api/publish/**');
  await ada.click('#send');
  await arrived(ada, 'patience');
  assert.deepEqual(await alerts(ada), []);
});

test('page: what the line says is its own', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada', { expected: /status of 503/ });
  const answer = async (reply) => {
    await ada.unroute('**/api/poll/**');
    await ada.route('**/api/poll/**', (route) => route.fulfill(reply));
    await server.say('lobby', { text: 'wake' });
  };
  await answer({ status: 503, headers: { 'Retry-After': '1' }, json: { error: 'Gone to lunch' } });
  await alert(ada, 'The server answered 503 Gone to lunch.').waitFor();
  await inState(ada, 'waiting');
  await answer({ contentType: 'text/html', body: '<h1>Captive portal</h1>' });
  await alert(ada, 'The server gave an answer that makes no sense.').waitFor();
  await write(ada, 'published all the same');
  await ada.waitForFunction(() => document.querySelector('#text').value === '');
  assert.equal((await alerts(ada)).length, 1, 'publishing does not clear it');
  await ada.unroute('**/api/poll/**');
  await arrived(ada, 'published all the same');
  assert.deepEqual(await alerts(ada), []);
});

/* What may come of a publish whose answer says nothing about it. */
const answers = {
  'no answer': (route) => route.abort(),
  'half a body': (route) => route.fulfill({ contentType: 'application/json', body: '{"status":"publ' }),
  'a proxy\u2019s 502': (route) => route.fulfill({ status: 502, contentType: 'text/html', body: '<h1>502</h1>' }),
  'a proxy\u2019s 504': (route) => route.fulfill({ status: 504, contentType: 'text/html', body: '<h1>504</h1>' }),
};

for (const [what, answer] of Object.entries(answers)) {
  test(`page: whether it was published is unknown: ${what}`, limits, async (t) => {
    const server = await serve(t);
    const ada = await open(server, 'Ada', { expected: /status of 50|net::ERR_/ });
    const lose = async (published) => {
      await ada.unroute('**/api/publish/**');
      await ada.route('**/api/publish/**', async (route) => {
        if (published) await route.fetch();
        await published;
        await answer(route);
      });
    };
    /* It was not. Enter alone does not send it a second time. */
    await lose(null);
    await write(ada, 'lost');
    await alert(ada, 'Perhaps this was published, perhaps not').waitFor();
    assert.equal(await ada.inputValue('#text'), 'lost');
    await shoot(ada, 'unknown');
    await ada.unroute('**/api/publish/**');
    await ada.type('#text', 'x');
    await ada.press('#text', 'Backspace');
    await ada.press('#text', 'Enter');
    assert.equal(await ada.inputValue('#text'), 'lost');
    assert.equal(await ada.textContent('#send:focus'), 'Send again');
    await ada.keyboard.press('Enter');
    await arrived(ada, 'lost');
    assert.equal(await ada.textContent('#send'), 'Send');
    assert.deepEqual(await alerts(ada), []);

    /* It was, and the poll says so before the answer is lost, */
    await lose(arrived(ada, 'early'));
    await write(ada, 'early');
    await arrived(ada, 'early');
    await write(ada, 'next');
    await arrived(ada, 'next');
    /* and after it. What was written since stays. */
    const release = await hold(ada, '**/api/poll/**');
    await ada.click('#switch');
    await ada.click('#switch');
    let typed;
    await lose(new Promise((done) => { typed = done; }));
    await write(ada, 'late');
    await ada.type('#text', 'meanwhile');
    typed();
    await alert(ada, 'Perhaps this was published').waitFor();
    assert.equal(await ada.inputValue('#text'), 'late\nmeanwhile');
    await release();
    await arrived(ada, 'late');
    await alert(ada, 'Perhaps').waitFor({ state: 'hidden' });
    assert.equal(await ada.inputValue('#text'), 'meanwhile');
    assert.deepEqual(await texts(ada), ['lost', 'early', 'next', 'late'], 'each once');
  });
}

test('page: words stay with their room', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada', { expected: /status of 429/ });
  const go = async (room) => {
    await ada.click(`#rooms a >> text=${room}`);
    await ada.locator('#room', { hasText: room }).waitFor();
  };
  await ada.fill('#text', 'half a thought');
  await go('kitchen');
  assert.equal(await ada.inputValue('#text'), '');
  await ada.fill('#text', 'another');
  await go('lobby');
  assert.equal(await ada.inputValue('#text'), 'half a thought');

  /* Refused when another room is shown. */
  await ada.route('**/api/publish/**', (route) => route.fulfill(full));
  const release = await hold(ada, '**/api/publish/**');
  await write(ada, 'for the lobby');
  await write(ada, 'this too');
  await go('kitchen');
  await release();
  await ada.locator('#rooms li', { hasText: 'lobby' }).locator('b', { hasText: '!' }).waitFor();
  await shoot(ada, 'unsent');
  assert.equal(await ada.inputValue('#text'), 'another');
  assert.deepEqual(await alerts(ada), [], 'it is the lobby\u2019s');
  await ada.unroute('**/api/publish/**');
  await ada.press('#text', 'Enter');
  await arrived(ada, 'another');
  assert.deepEqual(await texts(ada), ['another']);

  await go('lobby');
  await alert(ada, 'Not published').waitFor();
  assert.equal(await ada.inputValue('#text'), 'for the lobby\nthis too');
  await ada.click('.here .leave');
  await ada.fill('#join-name', 'lobby');
  await ada.press('#join-name', 'Enter');
  await ada.locator('#room', { hasText: 'lobby' }).waitFor();
  assert.equal(await ada.inputValue('#text'), 'for the lobby\nthis too', 'on leaving it, too');
  await ada.press('#text', 'Enter');
  await arrived(ada, 'for the lobby');
  assert.deepEqual(await alerts(ada), []);
});

test('page: a browser that keeps no site data', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada', { create: newForbidding });
  assert.equal(await ada.evaluate(() => {
    try { return String(sessionStorage); } catch (error) { return error.name; }
  }), 'SecurityError', 'it is blocked');
  const ben = await open(server, 'Ben');
  await write(ada, 'no cookies here');
  await arrived(ben, 'no cookies here');
  await write(ben, 'all right');
  await arrived(ada, 'all right');
  assert.deepEqual(await ada.locator('.mine p').allTextContents(), ['no cookies here']);
});

test('page: eight tabs of one browser, each in a room of its own', limits, async (t) => {
  const server = await serve(t);
  const context = await newContext({ locale: 'en-GB' });
  const tabs = [];
  for (let i = 1; i <= 8; i += 1)
    tabs.push(await open(server, `Tab ${i}`, { hash: `#room ${i}`, create: () => context }));
  for (const [i, tab] of tabs.entries()) {
    await write(tab, `from tab ${i + 1}`);
    await arrived(tab, `from tab ${i + 1}`);
  }
  await server.say('lobby', { name: 'Bot', text: 'to all' });
  for (const tab of tabs) {
    await tab.locator('#rooms li', { hasText: 'lobby' }).locator('b', { hasText: '1' }).waitFor();
    assert.equal((await texts(tab)).length, 1);
  }
});

const noCurl = which('curl') ? false : 'no curl';
test('page: the command that it shows works in a shell', { ...limits, skip: skip || noCurl }, async (t) => {
  const server = await serve(t);
  const names = ['lobby', 'it\u2019s \'quoted\'', '\'; exit 3; \'', 'a"b $HOME `id` $(id)', '~ !! \\ (x) *&|<>#%20', '[a-c] {x,y}', '\u00e9t\u00e9'];
  const ada = await open(server, 'Ada');
  for (const name of names) {
    await ada.evaluate((hash) => { location.hash = hash; }, encodeURIComponent(name));
    await ada.locator('#room').filter({ hasText: name }).waitFor();
    const { code, stderr } = await run(['sh', '-c', await ada.textContent('#curl')]).ended;
    assert.equal(code, 0, `${name}: ${stderr}`);
    await arrived(ada, 'hello');
    assert.deepEqual(await texts(ada), ['hello'], name);
  }
});

test('page: a phone', limits, async (t) => {
  const server = await serve(t);
  const phone = { viewport: { width: 390, height: 844 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
  for (const colorScheme of ['light', 'dark']) {
    const ada = await open(server, 'Ada', { ...phone, colorScheme });
    await write(ada, `${'unbroken'.repeat(20)} ${colorScheme}`);
    await arrived(ada, colorScheme);
    const width = await ada.evaluate(() => Math.max(
      document.documentElement.scrollWidth, document.body.scrollWidth,
      document.querySelector('#scroll').scrollWidth));
    assert.ok(width <= 390, `no sideways scrolling: ${width}`);
    const send = await ada.locator('#send').boundingBox();
    assert.ok(send.x + send.width <= 390 && send.y + send.height <= 844, 'the button is in sight');
    await shoot(ada, `phone-${colorScheme}`);
    await ada.evaluate(() => { location.hash = 'a room with a long name'; });
    await ada.locator('#room', { hasText: 'long name' }).waitFor();
    const leave = await ada.locator('.here .leave').boundingBox();
    assert.ok(leave.x + leave.width <= 390 - 28, 'the room is clear of the fade at the edge');
  }
});

test('page: a small phone on which all goes wrong at once', limits, async (t) => {
  const server = await serve(t, { token: 'sesame' });
  const ada = await open(server, 'Ada', {
    viewport: { width: 320, height: 568 }, isMobile: true, hasTouch: true, expected: /status of (401|503)/,
  });
  await ada.fill('#join-name', 'x'.repeat(60));
  await ada.press('#join-name', 'Enter');
  await ada.locator('#room', { hasText: 'xxx' }).waitFor();
  await ada.evaluate(() => { document.querySelector('#join-name').maxLength = 300; });
  await ada.fill('#join-name', 'x'.repeat(256));
  await ada.press('#join-name', 'Enter');
  await alert(ada, '1 to 255 bytes').waitFor();
  await write(ada, 'line\n'.repeat(20));
  await alert(ada, 'wants a token').waitFor();
  await ada.route('**/api/poll/**', (route) => route.fulfill({
    status: 503, headers: { 'Retry-After': '60' }, json: { error: 'Server at capacity' },
  }));
  await server.request('POST', '/api/publish/lobby', {
    headers: { 'Content-Type': 'application/json', Authorization: 'Bearer sesame' }, body: '{}',
  });
  await inState(ada, 'waiting');
  await alert(ada, '503').waitFor();
  await shoot(ada, 'small');
  for (const id of ['#switch', '#token-value', '#text', '#send']) {
    const { x, y, width, height } = await ada.locator(id).boundingBox();
    assert.ok(x >= 0 && y >= 0 && x + width <= 320 && y + height <= 568, `${id} is in sight`);
  }
});

test('page: the log is bounded, and follows only a reader at its end', limits, async (t) => {
  const server = await serve(t);
  const ada = await open(server, 'Ada');
  for (let i = 1; i <= 620; i += 1) await server.say('lobby', { name: 'Bot', text: `line ${i}.` });
  await arrived(ada, 'line 620.');
  assert.equal((await texts(ada)).length, 500);
  await ada.waitForFunction(() => {
    const { scrollHeight, scrollTop, clientHeight } = document.querySelector('#scroll');
    return scrollHeight - scrollTop - clientHeight < 2;
  });

  await ada.evaluate(() => { document.querySelector('#scroll').scrollTop = 100; });
  await ada.waitForTimeout(100);
  await server.say('lobby', { name: 'Bot', text: 'the newest' });
  await ada.locator('#newer', { hasText: '1 new message' }).click();
  await ada.locator('#newer').waitFor({ state: 'hidden' });
  assert.ok(await ada.getByText('the newest').isVisible());
});

/* The README's picture: no test, so drawn only when asked for. */
if (env.UPDATE_PICTURE) test('page: the picture', limits, async (t) => {
  const server = await serve(t);
  const maren = await open(server, 'Maren', { colorScheme: 'light' });
  const say = (room, name, text) => server.say(room, { name, text });
  await say('kitchen', 'Ida', 'Soup is on the stove.');
  await say('lobby', 'Theo', 'Morning! Is the new build out?');
  await say('lobby', 'Yusuf', 'Ten minutes ago. One header, one page, no framework.');
  await say('lobby', 'Yusuf', 'And the coffee machine works again.');
  await say('lobby', 'Ida', 'Both equally important.');
  await arrived(maren, 'Both equally');
  await write(maren, 'Going into the tunnel, back in five minutes.');
  await arrived(maren, 'tunnel');
  await maren.click('#switch');
  await inState(maren, 'offline');
  await say('lobby', 'Theo', 'Then she will miss the best part.');
  await say('lobby', 'Ida', 'She won\u2019t: her page sends its cursor back, and gets all that came after it, in order, once.');
  await say('kitchen', 'Ida', 'Second helping, anyone?');
  await say('lobby', 'doorbell', 'Somebody is at the door.');
  await maren.click('#switch');
  await arrived(maren, 'at the door');
  await write(maren, 'Out of the tunnel, and all of it is here.');
  await arrived(maren, 'Out of the tunnel');
  await say('lobby', 'Theo', 'Told you so, Ida. I mean, you told me.');
  await arrived(maren, 'Told you');
  await maren.screenshot({ path: path.join(root, 'demo/page.png') });
});
