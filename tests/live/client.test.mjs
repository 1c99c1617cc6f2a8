/* demo/client/longpoll.js against a scripted server: what it sends, when it
   sends it, and what it hands on. Where time is the subject, fetch() and the
   timers are the test's own, so that nothing is waited for. */

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { getEventListeners, once } from 'node:events';
import { spawn } from 'node:child_process';
import vm from 'node:vm';
import { LongPollingClient } from '../../demo/client/longpoll.js';
import {
  M, QUICK, body, client, fakeFetch, fakeTimers, fakeWindow, next, ok,
  realImmediate, refuse, serve, settle, sleep, status,
} from './scripted.mjs';

const CLIENT = new URL('../../demo/client/longpoll.js', import.meta.url).href;
const SLOW = { retryDelay: undefined, retryDelayMax: undefined }; /* default */
const LIMIT = { timeout: 20000 };

/* --- what it sends -------------------------------------------------------- */

test('sends names encoded, cursor, timeout, limit and client id', LIMIT,
  async (t) => {
    const cursor = 'a1-5,b2-0 &=%+/';
    const s = await serve(t, [body(cursor)]);
    const c = client(t, `${s.url}/sub//`, ['a,b/c', 'ä ?#%+'],
      { timeout: 1250, limit: 7, headers: { 'X-Mine': 'yes' } });
    c.start();
    await s.requests(2);
    const [first, second] = s.seen;
    const path = '/sub/api/poll/a%2Cb%2Fc,%C3%A4%20%3F%23%25%2B';
    assert.equal(first.url, `${path}?last_id=&timeout=0&limit=7`);
    assert.equal(second.url.split('?')[0], path);
    assert.equal(second.query.get('last_id'), cursor);
    assert.ok(!second.url.includes(cursor), 'the cursor is percent-encoded');
    assert.equal(second.query.get('timeout'), '1.25');
    assert.equal(second.headers['x-mine'], 'yes');
    assert.match(first.headers['x-client-id'], /^[0-9a-f]{32}$/);
    assert.equal(first.headers['x-client-id'], second.headers['x-client-id']);
    assert.equal(first.headers['x-client-id'], c.clientId);
    assert.notEqual(c.clientId, client(t, s.url).clientId);
    assert.equal(first.headers.authorization, undefined);
  });

test('headers may be whatever fetch() takes, and name a field once', LIMIT,
  async (t) => {
    const mine = { 'X-Mine': 'yes', AUTHORIZATION: 'Basic abc' };
    const kinds = [mine, Object.entries(mine), new Headers(mine)];
    for (const headers of kinds) {
      const s = await serve(t, [body('a-0'), null,
        '{"message_id":"a-1"}']);
      const c = client(t, s.url, 'news', { headers, token: 'secret' });
      c.start();
      await s.requests(2);
      await c.publish('news', {});
      const sent = s.seen.map((r) => [r.headers['x-mine'],
        r.req.rawHeaders.filter((h) => /^(Basic|Bearer) /.test(h))]);
      assert.deepEqual(sent, Array(3).fill(['yes', ['Bearer secret']]));
      c.stop();
      const plain = await serve(t, []);
      client(t, plain.url, 'news', { headers }).start();
      await plain.requests(1);
      assert.equal(plain.seen[0].headers.authorization, 'Basic abc');
    }
    const s = await serve(t, []);
    client(t, s.url, 'news', { headers: null, lastId: null }).start();
    await s.requests(1);
    assert.equal(s.seen[0].query.get('last_id'), '', 'null is none');
  });

test('prefix, starting cursor, no client id, page-relative base', LIMIT,
  async (t) => {
    const s = await serve(t, []);
    client(t, new URL(s.url), 'news',
      { prefix: '/v1', lastId: 'now', clientId: '' }).start();
    await s.requests(1);
    assert.equal(s.seen[0].url, '/v1/poll/news?last_id=now&timeout=0');
    assert.equal(s.seen[0].headers['x-client-id'], undefined);
    const { fetch, calls } = fakeFetch(['park']);
    client(t, '', 'news', { fetch }).start();
    assert.equal(calls[0], '/api/poll/news?last_id=&timeout=0');
  });

test('what cannot work is refused by the constructor', () => {
  const make = (channels, options) => () =>
    new LongPollingClient('http://x', channels, options);
  const many = Array.from({ length: 17 }, (_, i) => `c${i}`);
  for (const bad of ['', '.', '..', [], many, ['a', 'a'], [1], '\ud800'])
    assert.throws(make(bad), undefined, JSON.stringify(bad));
  for (const bad of [{ timeout: 0 }, { timeout: '5' }, { timeout: Infinity },
    { retryDelay: 0 }, { retryDelayMax: NaN }, { maxRetries: -1 }])
    assert.throws(make('a', bad), RangeError, JSON.stringify(bad));
  for (const bad of [{ timeOut: 5 }, { toString: 1 }, { clientId: 'a b' },
    { clientId: 'a\nb' }, { clientId: 'ü' }, { clientId: 'x'.repeat(129) },
    { clientId: 7 }, { clientId: null }, { transport: 'sse' },
    { transport: null }])
    assert.throws(make('a', bad), TypeError, JSON.stringify(bad));
  make('a', { clientId: 'x'.repeat(128) })();
  const at = (base) => () => new LongPollingClient(base, 'a');
  for (const bad of ['localhost:8080', '127.0.0.1:8080', 'example.com', 'x/y',
    '//example.com', 'ftp://x', 'http://', 'http:///x', 'http://x?y',
    'http://x/#y', '/x?y', undefined])
    assert.throws(at(bad), TypeError, String(bad));
  for (const good of ['', '/', '/x/y', 'HTTP://x', 'https://[::1]:80/x/',
    new URL('http://x')])
    at(good)();
  make(many.slice(1), { timeout: undefined })();
  assert.throws(() => make('a')().on('mesage', () => {}), TypeError);
  assert.throws(() => make('a')().on('message', null), TypeError);
});

test('polls again at once, and tells what state it is in', LIMIT,
  async (t) => {
    const s = await serve(t, [body('a-0'),
      (req, res) => setTimeout(() => res.end(body('a-1', [M('a-1')])), 60)]);
    const c = client(t, s.url, 'news', { ...SLOW, random: () => 0.999999 });
    assert.equal(c.state, 'stopped');
    c.start();
    assert.equal(c.state, 'connecting');
    await next(c, 'connected');
    assert.equal(c.state, 'connected');
    let cursor;
    c.once('message', () => { cursor = c.lastId; });
    const [message, channel] = await next(c, 'message');
    assert.deepEqual([message.id, channel], ['a-1', 'news']);
    assert.equal(cursor, 'a-0', 'moves only when all was handed on');
    const answered = performance.now();
    await s.requests(3);
    assert.ok(s.seen[2].at - answered < 1000);
    assert.equal(c.lastId, 'a-1');
    assert.equal(c.log.connected, 1);
    assert.deepEqual(c.log.gone, []);
  });

/* --- when it tries again -------------------------------------------------- */

test('backs off exponentially up to the cap, and waits what it says', LIMIT,
  async (t) => {
    const clock = fakeTimers(t);
    const { fetch, calls } = fakeFetch([new TypeError('down')]);
    const c = client(t, 'http://x', 'news', { fetch, random: () => 0.999999,
      ...SLOW });
    c.start();
    await settle();
    for (const want of [1000, 2000, 4000, 8000, 16000, 30000, 30000]) {
      const before = calls.length;
      const { retryIn, status: code } = c.log.errors.at(-1);
      assert.equal(retryIn, want);
      assert.equal(code, 0);
      assert.equal(c.state, 'waiting');
      assert.deepEqual(clock.pending(), [want], 'one timer, and no other');
      await clock.advance(want - 1);
      assert.equal(calls.length, before, 'not early');
      await clock.advance(1);
      assert.equal(calls.length, before + 1, 'not late');
    }
    assert.deepEqual(c.log.gone, [], 'it never was connected');
    c.stop();
    assert.deepEqual(clock.pending(), [], 'nothing left behind');
  });

test('the jitter is full, and never nothing', LIMIT, async (t) => {
  const clock = fakeTimers(t);
  const first = async (random) => {
    const { fetch } = fakeFetch([new TypeError('down')]);
    const c = client(t, 'http://x', 'news', { fetch, random, ...SLOW });
    c.start();
    await settle();
    c.stop();
    return c.log.errors[0].retryIn;
  };
  assert.equal(await first(() => 0), 100);
  const waits = await Promise.all(Array.from({ length: 400 }, () => first()));
  assert.ok(Math.min(...waits) >= 100 && Math.max(...waits) <= 1000);
  for (let low = 100; low < 1000; low += 150) {
    const n = waits.filter((w) => w >= low && w < low + 150).length;
    assert.ok(n > 25, `${n} of 400 waits in ${low}..${low + 150}`);
  }
  assert.deepEqual(clock.pending(), []);
});

test('Retry-After: seconds or a date, never earlier', LIMIT, async (t) => {
  const clock = fakeTimers(t);
  const date = 'Sun, 06 Nov 1994 08:49:37 GMT';     /* a wrong clock is no */
  const later = 'Sun, 06 Nov 1994 08:51:37 GMT';    /* matter: 120 s later */
  const soon = new Date(Math.ceil(Date.now() / 1000) * 1000 + 90000);
  const cases = [
    [{ 'Retry-After': '7' }, 7000, 7000],
    [{ 'Retry-After': '0' }, 0, 0],
    [{ 'Retry-After': later, 'Date': date }, 120000, 120000],
    [{ 'Retry-After': date, 'Date': later }, 0, 0],
    [{ 'Retry-After': soon.toUTCString() }, 89000, 91000],
    [{ 'Retry-After': '86399' }, 86399000, 86399000],
    [{ 'Retry-After': '9999999' }, 86400000, 86400000],
    [{ 'Retry-After': '9'.repeat(320) }, 86400000, 86400000],
    [{ 'Retry-After': 'Sun, 06 Nov 9994 08:49:37 GMT' }, 86400000, 86400000],
    [{ 'Retry-After': 'soon' }, 0, 0],
  ];
  for (const [headers, least, most] of cases) {
    const { fetch, calls } = fakeFetch([refuse(503, headers), 'park']);
    const c = client(t, 'http://x', 'news', { fetch, random: () => 0.5,
      ...SLOW });
    c.start();
    await settle();
    const { retryIn, message } = c.log.errors[0];
    assert.equal(message, '503 because');
    assert.ok(retryIn >= least + 500 && retryIn <= most + 500,
      `${JSON.stringify(headers)}: ${retryIn}`);
    await clock.advance(retryIn - 1);
    assert.equal(calls.length, 1, `early: ${JSON.stringify(headers)}`);
    await clock.advance(1);
    assert.equal(calls.length, 2, `late: ${JSON.stringify(headers)}`);
    c.stop();
  }
});

test('back online, or back at the page: the wait is cut short', LIMIT,
  async (t) => {
    const clock = fakeTimers(t);
    const { page, online } = fakeWindow(t);
    const { fetch, calls } = fakeFetch([new TypeError('down'),
      new TypeError('down'), new TypeError('down'),
      refuse(503, { 'Retry-After': '5' }), new TypeError('down')]);
    const c = client(t, 'http://x', 'news', { fetch, ...SLOW,
      random: () => 0.999999 });
    const visible = (visibilityState) => {
      document.visibilityState = visibilityState;
      document.dispatchEvent(new Event('visibilitychange'));
    };
    c.start();
    await settle();
    online();
    await settle();
    assert.equal(calls.length, 2);
    visible('hidden');
    await settle();
    assert.equal(calls.length, 2);
    visible('visible');
    await settle();
    assert.equal(calls.length, 3);
    online();
    await settle();
    for (let i = 0; i < 3; i++) {   /* not before the server's own time */
      online();
      await settle();
    }
    await clock.advance(4999);
    assert.equal(calls.length, 4);
    await clock.advance(1);
    online();
    await settle();
    assert.equal(calls.length, 5);
    assert.equal(getEventListeners(page, 'online').length, 1);
    c.stop();
    online();
    visible('visible');
    await settle();
    assert.equal(calls.length, 5);
    assert.equal(getEventListeners(page, 'online').length, 0);
    assert.equal(getEventListeners(document, 'visibilitychange').length, 0);
    assert.deepEqual(clock.pending(), []);
  });

test('a parked poll is asked anew: back online, or after a sleep', LIMIT,
  async (t) => {
    const clock = fakeTimers(t);
    const { ticks, online, tick } = fakeWindow(t);
    const { fetch, calls } = fakeFetch([ok('a-0'), 'park', ok('a-0'), 'park',
      ok('a-0'), 'park', new TypeError('down'), 'park']);
    const c = client(t, 'http://x', 'news', { fetch, maxRetries: 0, ...SLOW });
    const timeouts = () => calls.map((url) => /timeout=([0-9]+)/.exec(url)[1]);
    c.start();
    await settle();
    assert.deepEqual(timeouts(), ['0', '30']);
    online();
    await settle();
    assert.deepEqual(timeouts(), ['0', '30', '0', '30'], 'the network is back');
    tick(5000);
    tick(5000);
    await settle();
    assert.equal(calls.length, 4, 'time that passes is no reason');
    tick(20000);
    await settle();
    assert.equal(calls.length, 6, 'a suspended machine is');
    document.visibilityState = 'hidden';
    tick(61000);
    await settle();
    assert.equal(calls.length, 6, 'a hidden page has a timer a minute');
    assert.deepEqual([c.log.connected, c.log.gone], [1, []], 'nobody noticed');
    tick(600000);
    await settle();
    assert.equal(calls.length, 7);
    assert.equal(c.log.gone.length, 1, 'unless it fails');
    assert.equal(c.state, 'waiting', 'and that is not the last try');
    c.stop();
    assert.equal(ticks.size, 0);
    assert.deepEqual(clock.pending(), []);
  });

test('tries that are brought forward do not use up maxRetries', LIMIT,
  async (t) => {
    const clock = fakeTimers(t);
    const { online } = fakeWindow(t);
    const { fetch, calls } = fakeFetch([new TypeError('down')]);
    const c = client(t, 'http://x', 'news', { fetch, maxRetries: 2, ...SLOW });
    c.start();
    await settle();
    for (let i = 0; i < 10; i++) {
      online();
      await settle();
    }
    assert.equal(calls.length, 11);
    await clock.advance(30000);
    assert.equal(calls.length, 13, 'the two that were due');
    assert.equal(c.state, 'stopped');
    assert.deepEqual(c.log.errors.map((e) => e.retryIn === null),
      [...Array(12).fill(false), true]);
  });

test('how long it waits: a probe for grace, a poll for timeout and grace',
  LIMIT, async (t) => {
    const clock = fakeTimers(t);
    const { fetch } = fakeFetch([ok('a-0'), 'park']);
    const stuck = client(t, 'http://x', 'news',
      { fetch: fakeFetch(['park']).fetch, ...SLOW });
    stuck.start();
    await settle();
    assert.deepEqual(clock.pending(), [10000]);
    await clock.advance(10000);
    assert.match(stuck.log.errors[0].message, /no answer in 10000 ms/);
    stuck.stop();
    const c = client(t, 'http://x', 'news', { fetch, ...SLOW });
    c.start();
    await settle();
    assert.deepEqual(clock.pending(), [40000]);
  });

test('does not spin on instant replies that bring nothing new', LIMIT,
  async (t) => {
    const reset = { reset: { news: 'epoch' } };
    const kinds = {
      empty: () => body('a-0'),
      reset: (n) => body(`${n}-0`, [], reset),
      known: () => body('a-2', [M('a-1'), M('a-2')], reset),
    };
    await Promise.all(Object.entries(kinds).map(async ([kind, reply]) => {
      let n = 0;
      const s = await serve(t, [], { otherwise: (req, res) =>
        res.end(reply(n++)) });
      const c = client(t, s.url, 'news', { retryDelay: 80,
        retryDelayMax: 1000, random: () => 0.999999 });
      c.start();
      /* The probe, the first, one in order, then after 80, 160, 320. */
      await s.requests(6);
      c.stop();
      const gaps = s.seen.slice(3).map((r, i) => r.at - s.seen[i + 2].at);
      [80, 160, 320].forEach((want, i) => assert.ok(
        gaps[i] >= want - 2, `${kind}: ${gaps}`));
      assert.deepEqual(c.log.errors, []);
      assert.equal(c.log.connected, 1);
      assert.equal(c.log.gone.length, 1, 'by stop() alone');
    }));
  });

test('replies that waited, or brought something, are not slowed', LIMIT,
  async (t) => {
    const never = { retryDelay: 60000, retryDelayMax: 60000 };
    let n = 0;
    const busy = await serve(t, [], { otherwise: (req, res) => {
      if (++n <= 200) res.end(body(`a-${n}`, [M(`a-${n}`)]));
    } });
    const a = client(t, busy.url, 'news', never);
    a.start();
    await busy.requests(201);
    assert.equal(a.log.ids.length, 200);
    const slow = await serve(t, [], { otherwise: (req, res) =>
      setTimeout(() => res.end(body('a-0')), 30) });
    const b = client(t, slow.url, 'news', { ...never, timeout: 40 });
    b.start();
    await slow.requests(8);
  });

test('a long catch-up of what was had is progress', LIMIT, async (t) => {
  /* Two servers behind one proxy: over to the other, and back. */
  const reset = { reset: { news: 'epoch' } };
  const page = (from, to, more = {}) => body(`a-${to}`,
    Array.from({ length: to - from + 1 }, (_, i) => M(`a-${from + i}`)), more);
  const pages = (more) => Array.from({ length: 10 }, (_, i) =>
    page(i * 100 + 1, i * 100 + 100, { more: i < 9, ...(i ? {} : more) }));
  const s = await serve(t, [...pages(), body('b-1', [M('b-1')], reset),
    ...pages(reset), page(1001, 1001)]);
  const c = client(t, s.url, 'news',
    { retryDelay: 60000, retryDelayMax: 60000 });
  c.start();
  await s.requests(23);
  assert.deepEqual(c.log.ids, [...Array.from({ length: 1000 },
    (_, i) => `a-${i + 1}`), 'b-1', 'a-1001']);
});

test('does not spin on `more` without end', LIMIT, async (t) => {
  const clock = fakeTimers(t);
  const kinds = {
    'stands still': [() => body('a-1', [M('a-1')], { more: true }), 6],
    'brings nothing': [(n) => body(`a-${n}`, [], { more: true }), 6],
    'moves for ever': [(n) => body(`a-${n}`, [M('a-1')], { more: true }), 1008],
  };
  for (const [kind, [reply, most]] of Object.entries(kinds)) {
    let calls = 0;
    const fetch = () => new Promise((resolve) => {
      if (++calls < 3000) resolve(new Response(reply(calls)));
    });
    const c = client(t, 'http://x', 'news',
      { fetch, ...SLOW, random: () => 0.999999 });
    c.start();
    /* No timer of the client's is left from one turn to the next but that of
       a pause: each request is answered within one. */
    for (const want of [1000, 2000, 4000]) {
      for (let i = 0; i < 100000 && clock.pending()[0] !== want; i++)
        await new Promise((r) => realImmediate(r));
      assert.ok(calls <= most, `${kind}: ${calls} requests`);
      assert.deepEqual(clock.pending(), [want], kind);
      await clock.advance(want);
    }
    assert.ok(calls <= most, `${kind}: ${calls} requests`);
    c.stop();
  }
});

test('gives up a request a little after its answer was due', LIMIT,
  async (t) => {
    const s = await serve(t, [body('a-0'), null, body('a-0'),
      (req, res) => { res.writeHead(200); res.write('{"status":'); }]);
    const c = client(t, s.url, 'news', { timeout: 80, grace: 500 });
    let began;
    c.once('connected', () => { began = performance.now(); });
    c.start();
    await s.requests(2);
    const closed = once(s.seen[1].res, 'close');
    const [error] = await next(c, 'error');
    const took = performance.now() - began;
    assert.ok(took >= 578 && took < 5000, `${took} ms`);
    assert.equal(error.status, 0);
    assert.match(error.message, /no answer/);
    await closed;
    assert.equal(c.log.gone.length, 1);
    await s.requests(4);            /* and a body that never ends */
    const [stuck] = await next(c, 'error');
    assert.match(stuck.message, /no answer/);
    await s.requests(5);
    assert.equal(s.seen[4].query.get('last_id'), 'a-0');
  });

test('a slow body has a time of its own', LIMIT, async (t) => {
  const reply = body('a-1', [M('a-1')]);
  const s = await serve(t, [body('a-0'), async (req, res) => {
    await sleep(800);                   /* each has 1400 ms, and a busy machine */
    res.write(reply.slice(0, 20));
    await sleep(800);
    res.end(reply.slice(20));
  }]);
  const c = client(t, s.url, 'news', { timeout: 800, grace: 600 });
  c.start();
  await next(c, 'message');
  assert.deepEqual(c.log.errors, []);
});

/* --- what it hands on ----------------------------------------------------- */

test('hands each message on once over every kind of reset', LIMIT,
  async (t) => {
    const s = await serve(t, [
      body('a-3', [M('a-2'), M('a-3')]),
      body('a-4', [M('a-1'), M('a-2'), M('a-3'), M('a-4')],
        { reset: { news: 'ahead' } }),
      body('a-9', [M('a-8'), M('a-9')], { reset: { news: 'evicted' } }),
      body('b-2', [M('b-1'), M('b-2')], { reset: { news: 'epoch' } }),
      body('a-10', [M('a-8'), M('a-9'), M('a-10')],
        { reset: { news: 'epoch' } }),
      body('b-3', [M('b-1'), M('b-2'), M('b-3')],
        { reset: { news: 'epoch' } }),
    ]);
    const c = client(t, s.url);
    c.start();
    await s.requests(7);
    assert.deepEqual(c.log.ids, ['a-2', 'a-3', 'a-4', 'a-8', 'a-9', 'b-1',
      'b-2', 'a-10', 'b-3']);
    assert.deepEqual(c.log.resets.map((r) => r.news),
      ['ahead', 'evicted', 'epoch', 'epoch', 'epoch']);
    assert.equal(s.seen[6].query.get('last_id'), 'b-3');
  });

test('a reset is told before the messages that come with it', LIMIT,
  async (t) => {
    const s = await serve(t, [body('b-1', [M('b-1')],
      { reset: { news: 'epoch' } })]);
    const c = client(t, s.url);
    const order = [];
    for (const event of ['connected', 'reset', 'message'])
      c.on(event, () => order.push(event));
    c.start();
    await s.requests(2);
    assert.deepEqual(order, ['connected', 'reset', 'message']);
  });

test('compares SEQ as a number, however large, for each channel', LIMIT,
  async (t) => {
    const big = '9007199254740993';         /* 2^53 + 1 */
    const s = await serve(t, [
      body('x', [M('a-9', 'p'), M('a-2', 'q'), M('a-10', 'p')]),
      body('x', [M('a-10', 'p'), M('a-3', 'q'), M('a-9007199254740992', 'p')]),
      body('x', [M(`a-${big}`, 'p'), M(`a-${big}`, 'q')]),
    ]);
    const c = client(t, s.url, ['p', 'q']);
    c.start();
    await s.requests(4);
    assert.deepEqual(c.log.ids, ['a-9', 'a-2', 'a-10', 'a-3',
      'a-9007199254740992', `a-${big}`, `a-${big}`]);
  });

test('remembers a bounded number of epochs, the recent ones', LIMIT,
  async (t) => {
    const others = Array.from({ length: 14 }, (_, i) => M(`e${i}-1`));
    const s = await serve(t, [
      body('x', [M('p-1'), M('q-1'), ...others, M('p-2'), M('new-1')]),
      body('x', [M('p-2'), M('e13-1'), M('e0-1'), M('q-1')]),
    ]);
    const c = client(t, s.url);
    c.start();
    await s.requests(3);
    assert.deepEqual(c.log.ids.slice(18), ['q-1'], 'the longest silent');
  });

test('an epoch that answers is remembered, though it brings nothing', LIMIT,
  async (t) => {
    const reset = { reset: { news: 'epoch' } };
    const others = Array.from({ length: 20 }, (_, i) =>
      [body(`e${i}-1`, [M(`e${i}-1`)], reset), body('p-2')]).flat();
    const s = await serve(t, [body('p-2', [M('p-1'), M('p-2')]), ...others,
      body('p-2', [M('p-1'), M('p-2')], reset)]);
    const c = client(t, s.url);
    c.start();
    await s.requests(43);
    assert.equal(c.log.ids.length, 22);
    assert.equal(new Set(c.log.ids).size, 22, 'nothing twice');
  });

test('now: what was there before does not come over failover and back', LIMIT,
  async (t) => {
    const reset = { reset: { p: 'epoch', q: 'epoch' } };
    const a = [M('a-1', 'p'), M('a-2', 'p'), M('x-1', 'q')];
    const s = await serve(t, [body('a-2,x-1'),
      body('b-1,y-0', [M('b-1', 'p')], reset),
      body('a-3,x-1', [...a, M('a-3', 'p')], reset)]);
    const c = client(t, s.url, ['p', 'q'], { lastId: 'now' });
    c.start();
    await s.requests(4);
    assert.deepEqual(c.log.ids, ['b-1', 'a-3']);
  });

test('now: a stop() in `connected` keeps what now meant', LIMIT,
  async (t) => {
    for (const [lastId, told, kept] of [['now', 'a-4,b-5', 'a-4,b-5'],
      ['now,b-2', 'a-4,b-3', 'a-4,b-2'], ['a-1,now', 'a-4,b-3', 'a-1,b-3']]) {
      const s = await serve(t, [body(told, lastId === 'now' ? []
        : [lastId[0] === 'n' ? M('b-3', 'q') : M('a-2', 'p')])]);
      const c = client(t, s.url, ['p', 'q'], { lastId });
      c.once('connected', () => c.stop());
      c.start();
      await next(c, 'disconnected');
      assert.equal(c.lastId, kept);
      assert.deepEqual(c.log.ids, []);
      c.start();
      await s.requests(2);
      assert.equal(s.seen[1].query.get('last_id'), kept);
      c.stop();
    }
  });

test('objects of another realm are objects', LIMIT, async (t) => {
  const json = body('b-1', [M('b-1')], { reset: { news: 'epoch' } });
  const foreign = { ok: true, status: 200, headers: new Headers(),
    json: async () => vm.runInNewContext(`(${json})`) };
  const { fetch, calls } = fakeFetch([() => foreign, 'park']);
  const c = client(t, 'http://x', 'news', { fetch });
  c.start();
  await settle();
  assert.equal(calls.length, 2);
  assert.deepEqual(c.log.errors, []);
  assert.deepEqual(c.log.ids, ['b-1']);
  assert.equal(c.log.resets[0].news, 'epoch');
  c.stop();
});

test('a connection cut in the middle of a reply costs nothing', LIMIT,
  async (t) => {
    const reply = body('a-2', [M('a-1'), M('a-2')]);
    const cut = (how) => (req, res) => {
      res.writeHead(200, how === 'length'
        ? { 'Content-Length': reply.length } : {});
      res.write(reply.slice(0, how === 'none' ? 0 : reply.length - 9));
      setTimeout(() => req.socket.destroy(), 10);
    };
    const s = await serve(t, [body('a-0'), cut('length'), body('a-0'),
      cut('chunked'), body('a-0'), cut('none'), reply]);
    const c = client(t, s.url);
    c.start();
    await s.requests(8);
    assert.deepEqual(s.seen.slice(1, 7).map((r) => r.query.get('last_id')),
      Array(6).fill('a-0'));
    assert.deepEqual(c.log.ids, ['a-1', 'a-2']);
    assert.equal(c.log.errors.length, 3);
    assert.equal(c.log.connected, 4);
    assert.equal(c.log.gone.length, 3);
    assert.equal(c.log.gone[0].error, c.log.errors[0]);
    assert.equal(c.log.gone[0].retryIn, c.log.errors[0].retryIn);
  });

test('a reply of another shape is an error, and is retried', LIMIT,
  async (t) => {
    const bad = ['', '{', 'null', '[]', '"x"', '<html>busy</html>',
      body(''), body(7), JSON.stringify({ last_id: 'a-1' }),
      JSON.stringify({ last_id: 'a-1', messages: {} }),
      body('a-1', [null]), body('a-1', [M('a-1'), M('nonsense')]),
      body('a-1', [{ id: 'a-1' }]), body('a-1', [], { reset: 'epoch' })];
    const s = await serve(t, [...bad, body('a-1', [M('a-1')])]);
    const c = client(t, s.url, 'news', { retryDelay: 1, retryDelayMax: 1 });
    c.start();
    await s.requests(bad.length + 2);
    assert.equal(c.log.errors.length, bad.length);
    assert.ok(c.log.errors.every((e) => e.status === 200 && e.retryIn === 1));
    assert.deepEqual(c.log.ids, ['a-1'], 'nothing of a bad reply is used');
    assert.equal(s.seen[bad.length].query.get('last_id'), '');
  });

/* --- when it ends --------------------------------------------------------- */

test('what retrying cannot mend ends it', LIMIT, async (t) => {
  for (const code of [400, 401, 403, 404, 405, 410, 421, 431]) {
    const s = await serve(t, [], { otherwise: status(code,
      { 'Retry-After': '0' }) });
    const c = client(t, s.url, 'news', { retryDelay: 1, retryDelayMax: 1 });
    const order = [];
    c.on('error', () => order.push(`error ${c.state}`));
    c.on('disconnected', () => order.push(`disconnected ${c.state}`));
    c.start();
    const [{ error, retryIn }] = await next(c, 'disconnected');
    await sleep(15);
    /* To a 421 fetch() itself gives another connection a try. */
    const tries = code === 421 ? s.seen.length : 1;
    assert.ok(s.seen.length === tries && tries <= 2, `${code} was retried`);
    assert.equal(error.status, code);
    assert.equal(error.message, `${code} because`);
    assert.equal(error.retryIn, null);
    assert.equal(retryIn, null);
    assert.deepEqual(order, ['error waiting', 'disconnected stopped']);
    c.start();                      /* the person may try again */
    await next(c, 'error');
    assert.equal(s.seen.length, 2 * tries);
  }
});

test('what may pass is retried', LIMIT, async (t) => {
  const codes = [408, 425, 429, 500, 501, 502, 503, 504];
  const s = await serve(t, codes.map((code) =>
    status(code, {}, code === 500 ? '<html>' : undefined)));
  const c = client(t, s.url, 'news', { retryDelay: 1, retryDelayMax: 1 });
  c.start();
  await s.requests(codes.length + 1);
  assert.deepEqual(c.log.errors.map((e) => e.status), codes);
});

test('maxRetries: failures in a row, which a probe does not break', LIMIT,
  async (t) => {
    const quick = { retryDelay: 1, retryDelayMax: 1 };
    const never = await serve(t, [], { otherwise: status(503) });
    const a = client(t, never.url, 'news', { ...quick, maxRetries: 0 });
    a.start();
    await next(a, 'disconnected');
    assert.equal(never.seen.length, 1);
    const slow = (req, res) => setTimeout(() => res.end(body('a-1')), 40);
    const s = await serve(t, [status(503), status(503), body('a-0'),
      body('a-1', [M('a-1')]), status(503), slow, status(503), slow,
      status(503)]);
    const b = client(t, s.url, 'news',
      { ...quick, maxRetries: 2, timeout: 60 });
    b.start();
    while (b.state !== 'stopped') await next(b, 'disconnected');
    assert.deepEqual(b.log.errors.map((e) => e.retryIn), [1, 1, 1, 1, null]);
    assert.equal(s.seen.length, 9);
  });

test('stop() ends the request on its way, start() goes on', LIMIT,
  async (t) => {
    const s = await serve(t, [body('a-1', [M('a-1')]), null,
      body('a-2', [M('a-1'), M('a-2')])]);
    const c = client(t, s.url);
    c.stop();
    assert.deepEqual(c.log.gone, []);
    c.start();
    c.start();
    await s.requests(2);
    const closed = once(s.seen[1].res, 'close');
    c.stop();
    c.stop();
    assert.equal(c.state, 'stopped');
    assert.deepEqual(c.log.gone, [{ error: null, retryIn: null }]);
    await closed;
    await sleep(60);
    assert.equal(s.seen.length, 2);
    c.start();
    await s.requests(4);
    assert.equal(s.seen[2].query.get('last_id'), 'a-1');
    assert.deepEqual(c.log.ids, ['a-1', 'a-2']);
    assert.deepEqual(c.log.errors, []);
  });

test('stop() during a wait; stop() and start() in one breath', LIMIT,
  async (t) => {
    const s = await serve(t, [status(503)]);
    const c = client(t, s.url, 'news', { retryDelay: 60,
      random: () => 0.999999 });
    c.start();
    await next(c, 'error');
    c.stop();
    c.start();
    c.stop();
    c.start();
    await s.requests(2);
    await sleep(150);
    const alive = s.seen.filter((r) => !r.res.closed);
    assert.equal(alive.length, 1, 'one loop, one request');
  });

test('stop() in a listener: the rest comes after the next start()', LIMIT,
  async (t) => {
    const all = [1, 2, 3].map((n) => M(`a-${n}`));
    const reset = { reset: { news: 'epoch' } };
    const s = await serve(t, [body('a-3', all), body('a-3', all),
      body('b-0', [], reset), body('b-0', [], reset),
      body('b-0', [], reset)]);
    const c = client(t, s.url);
    c.once('message', () => c.stop());
    c.start();
    await next(c, 'disconnected');
    assert.deepEqual(c.log.ids, ['a-1']);
    assert.equal(c.lastId, '');
    c.start();
    c.once('message', () => queueMicrotask(() => c.stop()));
    await next(c, 'disconnected');
    assert.deepEqual(c.log.ids, ['a-1', 'a-2', 'a-3']);
    assert.equal(c.lastId, 'a-3');
    c.once('connected', () => c.stop());
    c.start();
    await next(c, 'disconnected');
    assert.deepEqual(c.log.resets, []);
    assert.equal(c.lastId, 'a-3', 'what was not told is not passed over');
    c.start();
    await next(c, 'reset');
  });

test('whatever is thrown, the client can be started again', LIMIT,
  async (t) => {
    const frozen = Object.freeze(Object.assign(new Error('no'),
      { status: 500 }));
    const poison = { fetch: [frozen, undefined, null, 'no', 7] };
    for (const thrown of poison.fetch) {
      const c = client(t, 'http://x', 'news',
        { fetch: () => Promise.reject(thrown), maxRetries: 0 });
      for (let i = 1; i <= 2; i++) {
        c.start();
        await next(c, 'disconnected');
        assert.equal(c.log.errors.length, i, String(thrown));
        assert.equal(c.log.errors[0].status, 0);
        assert.equal(c.log.errors[0].cause, thrown);
      }
    }
    let bad = true;
    const headers = { get 'X-Mine'() {
      if (bad) throw Object.freeze(new Error('not signed in'));
      return 'yes';
    } };
    const s = await serve(t, [body('a-0')]);
    const c = client(t, s.url, 'news', { headers, maxRetries: 0 });
    c.start();
    await next(c, 'disconnected');
    assert.equal(c.log.errors[0].message, 'not signed in');
    await assert.rejects(c.publish('news', {}), { unknown: false });
    bad = false;
    c.start();
    await s.requests(2);
    assert.equal(s.seen[0].headers['x-mine'], 'yes');
    assert.equal(s.seen[1].query.get('timeout'), '30');
  });

test('an option that throws stops the client, and is rethrown', LIMIT,
  async (t) => {
    const child = spawn(process.execPath, ['--input-type=module', '-e', `
      import { LongPollingClient } from '${CLIENT}';
      const heard = [];
      process.on('unhandledRejection', (e) => heard.push(e.message));
      let bad = true;
      const c = new LongPollingClient('http://x', 'news', {
        fetch: async () => { throw new Error('down'); },
        random: () => { if (bad) throw new Error('no dice'); return 0; } });
      c.on('error', (e) => { heard.push(e.message); c.stop(); });
      c.start();
      setTimeout(() => {
        heard.push(c.state);
        bad = false;
        c.start();
        setTimeout(() => console.log(String(heard)), 20);
      }, 20);`]);
    t.after(() => child.kill('SIGKILL'));
    const [out] = await once(child.stdout, 'data');
    assert.equal(String(out).trim(), 'no dice,stopped,down');
  });

test('giving up is said on the console if nobody listens', LIMIT,
  async (t) => {
    const lines = [];
    const { error } = console;
    console.error = (...args) => lines.push(args.join(' '));
    t.after(() => { console.error = error; });
    const s = await serve(t, [status(503)], { otherwise: status(403) });
    const c = new LongPollingClient(s.url, 'news', QUICK);
    c.start();
    await next(c, 'disconnected');
    assert.equal(lines.length, 1);
    assert.match(lines[0], /longpoll.*403 because/);
    const heard = client(t, s.url, 'news');
    heard.start();
    await next(heard, 'disconnected');
    assert.equal(lines.length, 1);
  });

test('a stopped client does not keep Node alive', LIMIT, async (t) => {
  const s = await serve(t, [body('a-1', [M('a-1')])]);
  const down = 'http://127.0.0.1:1';
  const child = spawn(process.execPath, ['--input-type=module', '-e', `
    import { LongPollingClient } from '${CLIENT}';
    const a = new LongPollingClient('${s.url}', 'news');
    const b = new LongPollingClient('${down}', 'news', { retryDelay: 30000 });
    b.once('error', () => setTimeout(() => { a.stop(); b.stop(); }, 50));
    a.once('message', () => b.start());
    a.start();`], { stdio: ['ignore', 'inherit', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const began = performance.now();
  const [code] = await once(child, 'exit');
  assert.equal(code, 0);
  assert.ok(performance.now() - began < 8000);
  assert.equal(s.seen.length, 2);
});

/* --- listeners ------------------------------------------------------------ */

test('a listener that throws loses nothing and is reported', LIMIT,
  async (t) => {
    const s = await serve(t, [body('a-2', [M('a-1'), M('a-2')])]);
    const c = client(t, s.url);
    const late = [];
    const bug = new Error('bug');
    c.once('message', () => { throw bug; });
    c.on('message', (m) => late.push(m.id));
    c.start();
    await s.requests(2);
    assert.deepEqual(c.log.ids, ['a-1', 'a-2']);
    assert.deepEqual(late, ['a-1', 'a-2']);
    assert.equal(c.log.errors.length, 1);
    const [error] = c.log.errors;
    assert.equal(error.cause, bug);
    assert.equal(error.listener, 'message');
    assert.equal(error.retryIn, undefined);
    assert.equal(c.state, 'connected');
  });

test('with nobody to hear of it, it is rethrown', LIMIT, async (t) => {
  const s = await serve(t, [body('a-2', [M('a-1'), M('a-2')])]);
  const child = spawn(process.execPath, ['--input-type=module', '-e', `
    import { LongPollingClient } from '${CLIENT}';
    const thrown = [];
    process.on('uncaughtException', (e) => thrown.push(e.message));
    const c = new LongPollingClient('${s.url}', 'news');
    c.on('message', (m) => {
      if (m.id === 'a-2') setTimeout(() => {
        c.stop();
        console.log(String(thrown));
      }, 20);
      throw new Error(m.id);
    });
    c.start();`]);
  t.after(() => child.kill('SIGKILL'));
  const [out] = await once(child.stdout, 'data');
  assert.equal(String(out).trim(), 'a-1,a-2');
});

test('off() and once()', LIMIT, async (t) => {
  const three = ['a-1', 'a-2', 'a-3'].map((id) => M(id));
  const s = await serve(t, [body('a-3', three)]);
  const c = client(t, s.url);
  const heard = [];
  const never = () => heard.push('never');
  const first = () => { heard.push('first'); c.off('message', first); };
  assert.equal(c.on('message', never).off('message', never), c);
  c.once('message', never).off('message', never);
  c.on('message', first).once('message', () => heard.push('once'));
  c.start();
  await s.requests(2);
  assert.deepEqual(heard, ['first', 'once']);
});

test('once() fires once, also if the event comes within itself', LIMIT,
  async (t) => {
    const s = await serve(t, []);
    const c = client(t, s.url);
    let outer = true;
    let heard = 0;
    c.on('disconnected', () => {
      if (!outer) return;
      outer = false;
      c.start();
      c.stop();
    });
    c.once('disconnected', () => { heard++; });
    c.start();
    c.stop();
    assert.equal(c.log.gone.length, 2);
    assert.equal(heard, 1);
  });

/* --- publish -------------------------------------------------------------- */

test('publish() posts an object and tells what became of it', LIMIT,
  async (t) => {
    const bodies = [];
    const published = '{"status":"published","message_id":"a-1"}';
    const s = await serve(t, [async (req, res) => {
      for await (const part of req) bodies.push(String(part));
      res.end(published);
    }, status(429, { 'Retry-After': '3' }), status(401),
    (req) => req.socket.destroy(), null]);
    const c = client(t, s.url, 'news', { token: 'secret' });
    assert.deepEqual(await c.publish('a/b', { text: 'ü' }),
      JSON.parse(published));
    const [{ url, method, headers }] = s.seen;
    assert.deepEqual([method, url], ['POST', '/api/publish/a%2Fb']);
    assert.equal(headers['content-type'], 'application/json');
    assert.equal(headers.authorization, 'Bearer secret');
    assert.deepEqual(bodies, ['{"text":"ü"}']);
    const fails = (want) => assert.rejects(c.publish('n', {}), want);
    await fails({ status: 429, retryIn: 3000, message: '429 because' });
    await fails({ status: 401, retryIn: null });
    await fails({ status: 0, retryIn: null });
    const hasty = client(t, s.url, 'news', { grace: 100 });
    await assert.rejects(hasty.publish('n', {}),
      { status: 0, message: 'no answer in 100 ms' });
    await assert.rejects(c.publish('..', {}), TypeError);
    assert.equal(s.seen.length, 5, 'never retried');
    assert.equal(c.state, 'stopped');
    assert.deepEqual(c.log.errors, []);
  });

test('publish() tells a refusal from an outcome that is unknown', LIMIT,
  async (t) => {
    const half = (code) => (req, res) => {
      res.writeHead(code, { 'Content-Length': 99 });
      res.write('{"status":"publi');
      setTimeout(() => req.socket.destroy(), 10);
    };
    const html = '<html><h1>Sorry</h1></html>';
    const known = [status(400), status(401), status(408), status(413),
      status(429), status(503)];
    const unknown = [status(500), status(502), status(504), half(200),
      half(503), status(502, {}, html), status(503, {}, html),
      status(403, {}, html), status(404, {}, '{"error":404}'),
      status(400, {}, 'null'), status(200, {}, html), status(200, {}, '{}'),
      status(200, {}, 'null'), (req) => req.socket.destroy(), null];
    const s = await serve(t, [...known, ...unknown]);
    const c = client(t, s.url, 'news', { grace: 300 });
    const outcomes = [];
    for (const _ of s.steps)
      await c.publish('n', {}).catch((e) => outcomes.push(e.unknown));
    assert.deepEqual(outcomes, [...known.map(() => false),
      ...unknown.map(() => true)]);
    const quoted = client(t, s.url, 'news', { token: '\u20ac' });
    await assert.rejects(quoted.publish('n', {}), { unknown: false });
    const loop = {};
    loop.loop = loop;
    await assert.rejects(c.publish('n', loop), TypeError);
    assert.equal(s.seen.length, s.steps.length, 'and that was not sent');
  });

test('stop() does not end a publish', LIMIT, async (t) => {
  const s = await serve(t, [body('a-0'), null, (req, res) =>
    setTimeout(() => res.end('{"message_id":"a-1"}'), 100)]);
  const c = client(t, s.url);
  c.start();
  await s.requests(2);
  const published = c.publish('n', {});
  await s.requests(3);
  c.stop();
  assert.equal((await published).message_id, 'a-1');
});
