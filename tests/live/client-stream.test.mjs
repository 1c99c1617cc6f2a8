/* demo/client/longpoll.js with transport 'stream' and 'auto': against a server
   that answers as it is told, against the real one by a relay that cuts and
   holds back, and behind nginx and HAProxy. */

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { EventParser } from '../../demo/client/longpoll.js';
import { SEED, chance } from './crowd.mjs';
import { FRONTS, front, missing } from './fronts.mjs';
import { SLOW, live, scaled, seqOf, until } from './harness.mjs';
import { relay } from './relay.mjs';
import {
  M, body, client, fakeTimers, fakeWindow, next, serve, settle, sleep, status,
} from './scripted.mjs';

const LIMIT = { timeout: 60000 * SLOW };
const PROMPT_MS = 1000 * SLOW;
const STREAM = { transport: 'stream' };
const AUTO = { transport: 'auto' };
const dice = chance(SEED);
console.log(`seed ${SEED}`);

const counted = (n) => Array.from({ length: n }, (_, i) => i + 1);

/* --- the parser ------------------------------------------------------------ */

const TEXT = '\ufeff: hello\r\nretry: 1000\nid: a-1\n\n' +
  'data: one\n\n' +
  'id: a-2\rdata:two\rdata:  lines \r\r' +
  'event: reset\r\nid: b-0\r\ndata: {"n":"epoch"}\r\n\r\n' +
  'data\n\ndata\ndata\n\n' +
  'id: c-1\nevent: x\n\n' +
  ':\n\nnothing: here\nretry: 5x\nid: nul\0\ndata: é☕𝄞\u2028: x\n\n' +
  '\n\r\r\nid\ndata: no id\n\n' +
  'id: d-9\ndata: cut off\n';
const EVENTS = [
  ['message', 'one', 'a-1'], ['message', 'two\n lines ', 'a-2'],
  ['reset', '{"n":"epoch"}', 'b-0'], ['message', '', 'b-0'],
  ['message', '\n', 'b-0'], ['message', 'é☕𝄞\u2028: x', 'c-1'],
  ['message', 'no id', ''],
];

/* What it makes of bytes that come in these parts. */
function parse(parts) {
  const decoder = new TextDecoder();
  const parser = new EventParser();
  for (const part of parts) parser.push(decoder.decode(part, { stream: true }));
  const { events, lastId, retry, used } = parser;
  return { lastId, retry, used,
    events: events.map(({ type, data, lastId: id }) => [type, data, id]) };
}

test('the parser: events are the same, wherever the bytes are split', () => {
  const bytes = Buffer.from(TEXT);
  const want = { events: EVENTS, lastId: '', retry: 1000, used: true };
  assert.deepEqual(parse([bytes]), want);
  assert.deepEqual(parse([...bytes].map((byte) => Buffer.of(byte))), want);
  for (let i = 0; i <= bytes.length; i++)
    for (let j = i; j <= Math.min(bytes.length, i + 9); j++)
      assert.deepEqual(parse([bytes.subarray(0, i), bytes.subarray(i, j),
        bytes.subarray(j)]), want, `at ${i} and ${j}`);
});

test('the parser: an event is there with its last byte, an id with it', () => {
  for (const end of ['\n', '\r', '\r\n']) {
    const parser = new EventParser();
    parser.push(`id: a-1${end}data: x${end}`);
    assert.deepEqual([parser.events, parser.lastId], [[], '']);
    parser.push(end[0]);
    assert.deepEqual([parser.events.length, parser.lastId], [1, 'a-1']);
    parser.push(`${end.slice(1)}data: y${end}${end}`);
    assert.equal(parser.events.length, 2);
  }
  const unused = new EventParser();
  unused.push('retry: 1\nid: a-1\n\n');
  assert.equal(unused.used, false, 'a head alone is not the use of a stream');
  unused.push(':\n');
  assert.equal(unused.used, true);
});

/* --- a stream that does as it is told --------------------------------------- */

const event = (id, channel = 'news') =>
  `id: ${id}\ndata: ${JSON.stringify(M(id, channel))}\n\n`;
const begun = (id) => `retry: 1\nid: ${id}\n\n`;

const TYPE = { headers: { 'Content-Type': 'text/event-stream' } };

/* Answers a request with a stream that begins so, and ends so. */
const stream = (text, end = () => {}) => (req, res) => {
  res.writeHead(200, TYPE.headers);
  res.write(text);
  end(res);
};

const kinds = (s) => s.seen.map(({ url }) =>
  `${url.split('/')[2]} ${new URL(url, 'http://x').searchParams
    .get('last_id')}`);

test('a stream in place of polls that are parked', LIMIT, async (t) => {
  let res;
  const s = await serve(t, [body('a-1', [M('a-1')]),
    stream(begun('a-1'), (r) => { res = r; })]);
  const c = client(t, s.url, 'news', { ...STREAM, limit: 7 });
  c.start();
  await s.requests(2);
  assert.equal(s.seen[0].url, '/api/poll/news?last_id=&timeout=0&limit=7');
  assert.equal(s.seen[1].url, '/api/stream/news?last_id=a-1&limit=7');
  assert.equal(s.seen[1].headers['x-client-id'], c.clientId);
  for (const byte of event('a-2')) {
    assert.deepEqual(c.log.ids, ['a-1']);
    res.write(byte);
    await sleep(1);
  }
  await until(() => c.lastId === 'a-2', 'the message');
  const events = [];
  c.on('reset', ({ news }) => events.push(news));
  c.on('message', ({ id }) => events.push(id));
  /* In one piece; what the client had before is not told again. */
  res.write(`${event('a-3')}event: reset\nid: b-0\ndata: {"news":"epoch"}\n\n` +
    `${event('b-1')}event: reset\nid: a-1\ndata: {"news":"epoch"}\n\n` +
    `${event('a-2')}${event('a-3')}${event('a-4')}`);
  await until(() => c.lastId === 'a-4', 'the rest');
  assert.deepEqual(events, ['a-3', 'epoch', 'b-1', 'epoch', 'a-4']);
  assert.deepEqual([s.seen.length, c.log.connected, c.log.errors],
    [2, 1, []]);
  const closed = until(() => res.closed, 'the end of the stream');
  c.stop();
  await closed;
});

test('a stream that ends is opened again from the cursor', LIMIT,
  async (t) => {
    const half = event('a-9').slice(0, -1);
    const s = await serve(t, [body('a-0'),
      stream(begun('a-0') + event('a-1') + half, (res) => res.end()),
      stream(begun('a-1') + event('a-2') + half, (res) =>
        setTimeout(() => res.destroy(), 20)),
      stream(`${begun('a-2')}:\n\n`, (res) => res.end()),
      stream(begun('a-2') + event('a-3'))]);
    const c = client(t, s.url, 'news', STREAM);
    c.start();
    await s.requests(5);
    await until(() => c.lastId === 'a-3', 'the last message');
    assert.deepEqual(kinds(s), ['poll ', 'stream a-0', 'stream a-1',
      'stream a-2', 'stream a-2']);
    assert.deepEqual(c.log.ids, ['a-1', 'a-2', 'a-3']);
    assert.deepEqual([c.log.errors, c.log.gone, c.log.connected], [[], [], 1]);
  });

test('how soon it is opened again: spread over what `retry:` says', LIMIT,
  async (t) => {
    const clock = fakeTimers(t);
    const cases = [[0, 1000], [700, 1000], [5000, 5000], [99000, 30000]];
    for (const [retry, want] of cases) {
      const told = new TextEncoder().encode(`retry: ${retry}\n\n:\n\n`);
      const calls = [];
      const fetch = async (url, { signal }) => {
        calls.push(url);
        if (!url.includes('/stream/')) return new Response(body('a-0'));
        if (calls.length > 2) return new Promise((resolve, reject) => {
          signal.addEventListener('abort', () => reject(signal.reason));
        });
        return new Response(told, TYPE);
      };
      const c = client(t, 'http://x', 'news', { ...STREAM, fetch,
        retryDelay: undefined, retryDelayMax: undefined,
        random: () => 0.999999 });
      c.start();
      await until(async () => { await settle(); return calls.length === 2 &&
        clock.pending()[0] === want; }, `a wait of ${want} ms`);
      assert.deepEqual(clock.pending(), [want], `retry: ${retry}`);
      await clock.advance(want);
      assert.equal(calls.length, 3);
      c.stop();
      await settle();
      assert.deepEqual(clock.pending(), []);
    }
  });

test('one that is silent is dead; a comment shows that it is not', LIMIT,
  async (t) => {
    const beats = (res) => {
      const beat = setInterval(() => res.write(':\n\n'), 100);
      setTimeout(() => clearInterval(beat), 1000);
      res.on('close', () => clearInterval(beat));
    };
    const s = await serve(t, [body('a-0'),
      stream(begun('a-0'), beats), stream(begun('a-0'))]);
    const c = client(t, s.url, 'news', { ...STREAM, timeout: 250, grace: 50 });
    c.start();
    await s.requests(2);
    const began = performance.now();
    await s.requests(3);
    const took = performance.now() - began;
    assert.ok(took > 1150 && took < 1500 + PROMPT_MS, `${took} ms`);
    await until(() => s.seen[1].res.closed, 'the end of the silent one');
    assert.deepEqual([c.log.errors, c.log.gone], [[], []]);
  });

test('a stream is closed when it is not read on', LIMIT, async (t) => {
  const { online } = fakeWindow(t);
  const s = await serve(t, [body('a-1', [M('a-1')]),
    stream(begun('a-1') + event('a-1')), body('a-1'),
    stream(begun('a-1') + event('a-1'))]);
  const c = client(t, s.url, 'news', { ...STREAM, retryDelay: 60000,
    retryDelayMax: 60000, random: () => 0.999999 });
  /* It pauses when what comes is not new. */
  const pauses = async (res) => {
    await sleep(100);
    res.write(event('a-1'));
    await sleep(100);
    res.write(event('a-2'));
    await sleep(100);
    assert.deepEqual(c.log.ids, ['a-1']);
  };
  c.start();
  await s.requests(2);
  await pauses(s.seen[1].res);
  online();
  await until(() => s.seen[1].res.closed, 'the end of the first');
  await s.requests(4);
  assert.deepEqual(kinds(s), ['poll ', 'stream a-1', 'poll a-1',
    'stream a-1']);
  assert.equal(s.seen[2].query.get('timeout'), '0');
  await pauses(s.seen[3].res);
  c.stop();
  await until(() => s.seen[3].res.closed, 'the end of the second');
});

/* Streams that are none, or that nothing comes of. */
const held = (req, res) => {
  res.writeHead(200, TYPE.headers);
  res.flushHeaders();
};
const USELESS = {
  'not there': [status(404), { status: 404, final: true }],
  'forbidden': [status(403), { status: 403, final: true }],
  'too many': [status(429), { status: 429 }],
  'away': [status(503), { status: 503 }],
  'another type': [(req, res) => res.end(body('a-0')),
    { status: 200, message: /not a stream, but ''/ }],
  'a page': [(req, res) => { res.setHeader('Content-Type', 'text/html');
    res.write('<html>'); }, { status: 200, message: /'text\/html'/ }],
  'nothing in it': [stream('', (res) => res.end()),
    { status: 200, message: /the stream has ended/ }],
  'a head alone': [stream(begun('a-0'), (res) => res.end()),
    { status: 200, message: /the stream has ended/ }],
  'its head is held up': [() => {}, { status: 0, message: /no answer/ }],
  'its body is held up': [held, { status: 200, message: /no answer/ }],
  'silent from the first': [stream(begun('a-0')),
    { status: 200, message: /no answer/ }],
  'cut': [(req) => req.socket.destroy(), { status: 0 }],
  'no JSON': [stream(`${begun('a-0')}data: {x\n\n`),
    { status: 200, message: /not the events/ }],
  'no message': [stream(`${begun('a-0')}data: {"id":"a-1"}\n\n`),
    { status: 200, message: /not the events/ }],
  'no reset': [stream(`${begun('a-0')}event: reset\ndata: x\n\n`),
    { status: 200, message: /not the events/ }],
};

test('stream: one that does not work is an error', LIMIT, async (t) => {
  await Promise.all(Object.entries(USELESS).map(async ([what, [step, want]]) => {
    const s = await serve(t, [body('a-0'), step, body('a-0'),
      stream(begun('a-0') + event('a-1'))]);
    const c = client(t, s.url, 'news', { ...STREAM, timeout: 400, grace: 300 });
    c.start();
    const [error] = await next(c, 'error');
    assert.equal(error.status, want.status, what);
    if (want.message) assert.match(error.message, want.message, what);
    assert.equal(error.retryIn === null, want.final === true, what);
    if (want.final) return assert.equal(c.state, 'stopped');
    await next(c, 'message');
    assert.deepEqual(kinds(s).map((kind) => kind.split(' ')[0]),
      ['poll', 'stream', 'poll', 'stream'], what);
    assert.equal(c.log.errors.length, 1, what);
    assert.equal(c.log.gone.length, 1, what);
    return c.stop();
  }));
});

test('stream: those that end at once are retried as often as it is said',
  LIMIT, async (t) => {
    const s = await serve(t, [], { otherwise: (req, res) => (
      /stream/.test(req.url) ? stream(begun('a-0'), (r) => r.end())(req, res)
        : res.end(body('a-0'))) });
    const c = client(t, s.url, 'news', { ...STREAM, maxRetries: 3 });
    c.start();
    await until(() => c.state === 'stopped', 'its end');
    assert.equal(c.log.errors.length, 4);
    assert.equal(s.seen.length, 8, 'a probe and a stream each');
  });

test('auto: where a stream does not work, polls go on at once', LIMIT,
  async (t) => {
    await Promise.all(Object.entries(USELESS).map(async ([what, [step]]) => {
      const s = await serve(t, [body('a-0'), step, body('a-1', [M('a-1')])]);
      const c = client(t, s.url, 'news', { ...AUTO, timeout: 400, grace: 300 });
      c.start();
      await s.requests(4);
      assert.deepEqual(kinds(s), ['poll ', 'stream a-0', 'poll a-0',
        'poll a-1'], what);
      assert.equal(s.seen[2].query.get('timeout'), '0.4', what);
      assert.deepEqual(c.log.ids, ['a-1'], what);
      assert.deepEqual([c.log.errors, c.log.gone, c.log.connected],
        [[], [], 1], what);
      await until(() => s.seen[1].res.closed, `${what}: the end of it`);
      c.stop();
    }));
  });

test('auto: when it tries again', LIMIT, async (t) => {
  const clock = fakeTimers(t);
  const { now } = performance;
  performance.now = () => clock.now;
  t.after(() => { performance.now = now; });
  let streams = 0;
  let works = false;
  let answer;                       /* to the poll that is parked */
  let n = 0;
  const fetch = (url, { signal }) => new Promise((resolve, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason));
    if (url.includes('timeout=0')) return resolve(new Response(body('a-0')));
    answer = () => resolve(new Response(body(`a-${++n}`, [M(`a-${n}`)])));
    if (!url.includes('/stream/')) return undefined;
    streams++;
    if (works) resolve(new Response('retry: 0\n\n:\n\n', TYPE));
    works = false;
    return undefined;
  });
  const c = client(t, 'http://x', 'news', { ...AUTO, fetch, timeout: 86400000,
    random: () => 0.999999 });
  c.start();
  const comes = (want) => until(async () => {
    await settle();
    return streams === want;
  }, `stream ${want}`);
  const waits = async (seconds, had) => {
    await clock.advance(3000);      /* it is held up */
    await clock.advance(seconds * 1000 - 1);
    answer();
    await settle();
    assert.equal(streams, had, `within ${seconds} s`);
    await clock.advance(1);
    answer();
    await comes(had + 1);
  };
  await comes(1);
  for (const [i, s] of [30, 120, 480, 1920, 3600, 3600].entries())
    await waits(s, i + 1);
  await clock.advance(3000);
  await clock.advance(3600000);
  works = true;
  answer();
  await comes(8);                   /* it works, and ends */
  await clock.advance(20);
  await comes(9);
  await waits(30, 9);
  assert.deepEqual(c.log.errors, []);
});

test('auto: how long it waits for a stream to begin', LIMIT, async (t) => {
  const clock = fakeTimers(t);
  for (const [options, want, head] of [[AUTO, 3000], [AUTO, 3000, true],
    [{ ...AUTO, grace: 500 }, 500], [STREAM, 10000], [STREAM, 10000, true]]) {
    const fetch = async (url, { signal }) => {
      if (!url.includes('/stream/')) return new Response(body('a-0'));
      if (head) return new Response(new ReadableStream(), TYPE);
      return new Promise((resolve, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason));
      });
    };
    const c = client(t, 'http://x', 'news', { ...options, fetch });
    c.start();
    await until(async () => { await settle(); return clock.pending()[0]; },
      'a stream');
    assert.deepEqual(clock.pending(), [want]);
    c.stop();
  }
});

test('it reads only as fast as it hands on', LIMIT, async (t) => {
  let pulled = 0;
  const text = new TextEncoder();
  const source = new ReadableStream({ pull(controller) {
    pulled++;
    if (pulled <= 50) controller.enqueue(text.encode(event(`a-${pulled}`)));
  } }, { highWaterMark: 0 });
  const fetch = async (url) => (url.includes('/stream/')
    ? new Response(source, TYPE)
    : new Response(body('a-0')));
  const c = client(t, 'http://x', 'news', { ...STREAM, fetch });
  const ahead = [];
  c.on('message', ({ id }) => ahead.push(pulled - seqOf(id)));
  c.start();
  await until(() => c.log.ids.length === 50, 'all');
  assert.ok(ahead.every((n) => n === 0), `${ahead}`);
  assert.deepEqual(c.log.errors, []);
});

/* --- the real server --------------------------------------------------------- */

const FREE = { 'waiters-per-client': 'unlimited', 'history-count': 100000 };

/* Each of the n that were published, once and in order. */
function has(c, n) {
  assert.deepEqual(c.log.ids.map(seqOf), counted(n));
  assert.deepEqual(c.log.resets, []);
}

test('cut at any byte: each message once and in order', LIMIT, async (t) => {
  const server = await live(t, FREE);
  const total = scaled(2000, 100);
  const worlds = await Promise.all([STREAM, STREAM, AUTO, { ...STREAM, limit: 1 },
    { ...STREAM, limit: 7 }].map(async (options) => {
    const between = await relay(t, server.port, () => ({
      left: 1 + dice.below(dice.pick([300, 1500, 15000])),
      reset: dice.is(0.5),
    }));
    const c = client(t, between.url, 'news', { ...options, retryDelay: 1,
      retryDelayMax: 5 });
    c.start();
    return { c, between, options };
  }));
  for (const n of counted(total)) {
    await server.say('news', { n, text: '☕'.repeat(dice.below(50)) });
    if (n % 20 === 0) await sleep(1);
  }
  for (const { c, between, options } of worlds) {
    await until(() => c.log.ids.length >= total, 'all of them', 60000 * SLOW);
    has(c, total);
    const { length } = between.asked;
    if (options === AUTO) assert.deepEqual(c.log.errors, []);
    else assert.ok(length > total / 50, `${length} streams`);
  }
});

test('the reset of a stream is told once, before what is held', LIMIT,
  async (t) => {
    const server = await live(t, { ...FREE, 'history-count': 5 });
    let open;
    let gate;
    const between = await relay(t, server.port, () => ({ gate }));
    const c = client(t, between.url, ['a', 'b'], STREAM);
    const order = [];
    c.on('reset', (reset) => order.push(reset));
    c.on('message', ({ n }) => order.push(n));
    c.start();
    await until(() => between.asked.length === 1, 'a stream');
    await server.say('a', { n: 1 });
    await until(() => order.length === 1, 'the first');
    gate = new Promise((done) => { open = done; });
    between.cut();
    await until(() => between.asked.length === 2, 'another stream');
    for (const n of counted(20)) await server.say('a', { n: n + 1 });
    open();
    await until(() => order.length === 7, 'what is held');
    assert.deepEqual(order, [1, { a: 'evicted' }, 17, 18, 19, 20, 21]);
    assert.deepEqual([c.log.errors, c.log.connected], [[], 1]);
    await server.say('b', { n: 22 });
    await until(() => order.at(-1) === 22, 'and on');
  });

test('a consumer that is slow has all', LIMIT, async (t) => {
  const server = await live(t, FREE);
  const c = client(t, server.url, 'news', STREAM);
  c.on('message', () => {
    const end = performance.now() + 2;
    while (performance.now() < end);
  });
  c.start();
  await next(c, 'connected');
  const total = scaled(1000, 50);
  const text = 'x'.repeat(3000);
  for (const _ of counted(total)) await server.say('news', { text });
  await until(() => c.log.ids.length >= total, 'all', 60000 * SLOW);
  has(c, total);
});

test('auto: behind a proxy that holds the answer back', LIMIT, async (t) => {
  const server = await live(t, FREE);
  const between = await relay(t, server.port, () => ({ hold: true }));
  const c = client(t, between.url, 'news', AUTO);
  c.start();
  await until(() => between.asked.length === 1, 'a stream');
  const began = performance.now();
  for (const n of counted(10)) await server.say('news', { n });
  await until(() => c.log.ids.length === 10, 'the polls');
  const took = performance.now() - began;
  assert.ok(took > 2000 && took < 3000 + PROMPT_MS, `${took} ms`);
  for (const n of counted(50)) {
    const said = performance.now();
    await server.say('news', { n });
    await until(() => c.log.ids.length === 10 + n, 'a message');
    assert.ok(performance.now() - said < PROMPT_MS);
  }
  has(c, 60);
  assert.equal(between.asked.length, 1, 'no other stream is tried');
  assert.deepEqual([c.log.errors, c.log.connected], [[], 1]);
});

for (const name of FRONTS) {
  test(`through ${name} as shipped`, { ...LIMIT, skip: missing(name) },
    async (t) => {
      const server = await live(t, { ...FREE, 'trusted-proxies': '127.0.0.1' });
      const { port } = await front(t, name, [server.port]);
      const c = client(t, `http://127.0.0.1:${port}`, 'news', AUTO);
      c.start();
      await server.waiters(1);
      for (const n of counted(50)) {
        const said = performance.now();
        await server.say('news', { n });
        await until(() => c.log.ids.length === n, 'a message');
        assert.ok(performance.now() - said < PROMPT_MS);
      }
      has(c, 50);
      assert.deepEqual([c.log.errors, c.log.connected], [[], 1]);
    });
}

test('auto: behind an nginx that buffers', { ...LIMIT, skip: missing('nginx') },
  async (t) => {
    const server = await live(t, { ...FREE, 'trusted-proxies': '127.0.0.1' });
    const { port } = await front(t, 'nginx', [server.port], (text) =>
      text.replace(/proxy_buffering off;/g, 'proxy_buffering on;')
        .replace(/proxy_http_version/, 'proxy_ignore_headers X-Accel-Buffering;\n$&'));
    const urls = [];
    const fetch = (url, init) => { urls.push(url); return globalThis.fetch(url, init); };
    const c = client(t, `http://127.0.0.1:${port}`, 'news', { ...AUTO, fetch });
    c.start();
    await until(() => urls.some((url) => /stream/.test(url)), 'a stream');
    const began = performance.now();
    for (const n of counted(10)) await server.say('news', { n });
    await until(() => c.log.ids.length === 10, 'the polls');
    const took = performance.now() - began;
    assert.ok(took > 2000 && took < 3000 + PROMPT_MS, `${took} ms`);
    await server.say('news', { n: 11 });
    await until(() => c.log.ids.length === 11, 'a message');
    has(c, 11);
    assert.equal(urls.filter((url) => /stream/.test(url)).length, 1);
    assert.deepEqual([c.log.errors, c.log.connected], [[], 1]);
  });
