/* demo/client/longpoll.js and its token: against a server that answers as it is
   told, and the real one. */

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { SLOW, demo, sleep, until } from './harness.mjs';
import {
  M, body, client, fakeTimers, next, serve, settle, status,
} from './scripted.mjs';

const LIMIT = { timeout: 20000 * SLOW };

/* token(): t1, t2, ... */
function tokens(give = (n) => `t${n}`) {
  const token = () => give(++token.calls);
  token.calls = 0;
  return token;
}

const bearers = (s) => s.seen.map(({ headers }) =>
  headers.authorization?.replace('Bearer ', ''));
const kinds = (s) => s.seen.map(({ url, query, method }) =>
  (method === 'POST' ? 'publish' : `${url.split('/')[2]}${
    query.has('timeout') ? ` ${query.get('timeout')}` : ''}`));
const published = '{"message_id":"a-1"}';

/* Lets through who has a token of these; what it then answers is up to `step`. */
const only = (good, step) => (req, res) => (
  good().includes(req.headers.authorization?.slice(7)) ? step(req, res)
    : status(401)(req, res));

test('asked once, and sent with all', LIMIT, async (t) => {
  const type = { 'Content-Type': 'text/event-stream' };
  const s = await serve(t, [body('a-0'), (req, res) => {
    res.writeHead(200, type);
    res.write('id: a-0\n\n');
  }], { otherwise: (req, res) => res.end(published) });
  for (const give of [(n) => `t${n}`, async (n) => { await sleep(5);
    return `t${n}`; }]) {
    s.seen.length = 0;
    const token = tokens(give);
    const c = client(t, s.url, 'news', { token, transport: 'stream' });
    c.start();
    await s.requests(2);
    await c.publish('news', {});
    assert.deepEqual(kinds(s), ['poll 0', 'stream', 'publish']);
    assert.deepEqual(bearers(s), ['t1', 't1', 't1']);
    assert.equal(token.calls, 1);
    c.stop();
  }
  for (const none of [() => '', () => null, async () => undefined]) {
    s.seen.length = 0;
    await client(t, s.url, 'news', { token: none }).publish('news', {})
      .catch(() => {});
    assert.deepEqual(bearers(s), [undefined]);
  }
});

test('refused: a new one, once; then it is over', LIMIT, async (t) => {
  for (const transport of ['poll', 'stream', 'auto']) {
    const s = await serve(t, [], { otherwise: status(401) });
    const token = tokens();
    const c = client(t, s.url, 'news', { token, transport });
    c.start();
    const [{ error }] = await next(c, 'disconnected');
    assert.equal(error.message, '401 because');
    assert.deepEqual([error.status, error.retryIn], [401, null]);
    assert.deepEqual(bearers(s), ['t1', 't2']);
    /* Whoever starts it again has another try. */
    c.start();
    await next(c, 'disconnected');
    assert.deepEqual(bearers(s), ['t1', 't2', 't3', 't4']);
    await assert.rejects(c.publish('news', {}),
      { status: 401, unknown: false });
    assert.deepEqual(bearers(s).slice(4), ['t5', 't6']);
    assert.equal(token.calls, 6);
  }
});

test('refused by the stream alone: it is the same', LIMIT, async (t) => {
  for (const transport of ['stream', 'auto']) {
    const s = await serve(t, [body('a-0')], { otherwise: status(401) });
    const c = client(t, s.url, 'news', { token: tokens(), transport });
    c.start();
    const [{ error }] = await next(c, 'disconnected');
    assert.equal(error.status, 401);
    assert.deepEqual(kinds(s), ['poll 0', 'stream', 'stream'], transport);
    assert.deepEqual(bearers(s), ['t1', 't1', 't2'], transport);
  }
});

test('a string has no other: 401 ends it', LIMIT, async (t) => {
  const s = await serve(t, [], { otherwise: status(401) });
  const c = client(t, s.url, 'news', { token: 'only' });
  c.start();
  await next(c, 'disconnected');
  await assert.rejects(c.publish('news', {}), { status: 401 });
  assert.deepEqual(bearers(s), ['only', 'only']);
});

test('it runs out while a poll is parked: over and over', LIMIT, async (t) => {
  const s = await serve(t, [], { otherwise: (req, res) => {
    const { query, headers } = s.seen.at(-1);
    const n = Number(headers.authorization.slice(8));
    if (query.get('timeout') === '0') return res.end(body('a-0'));
    if (n < 6) return setTimeout(() => status(401)(req, res), 30);
    return res.end(body('a-1', [M('a-1')]));
  } });
  const token = tokens();
  const c = client(t, s.url, 'news', { token });
  c.start();
  await next(c, 'message');
  assert.equal(token.calls, 6);
  /* The new one is tried by a poll that is answered at once. */
  assert.deepEqual(kinds(s).slice(0, 5),
    ['poll 0', 'poll 30', 'poll 0', 'poll 30', 'poll 0']);
  assert.deepEqual(bearers(s).slice(0, 5), ['t1', 't1', 't2', 't2', 't3']);
  assert.deepEqual([c.log.errors, c.log.connected], [[], 1]);
});

test('it runs out in a stream, which the server then ends', LIMIT,
  async (t) => {
    const type = { 'Content-Type': 'text/event-stream' };
    const s = await serve(t, [body('a-0'), (req, res) => {
      res.writeHead(200, type);
      res.end(`retry: 1\nid: a-0\n\nid: a-1\ndata: ${
        JSON.stringify(M('a-1'))}\n\n`);
    }, status(401), (req, res) => {
      res.writeHead(200, type);
      res.write(`id: a-1\n\nid: a-2\ndata: ${JSON.stringify(M('a-2'))}\n\n`);
    }]);
    for (const transport of ['stream', 'auto']) {
      s.seen.length = 0;
      const c = client(t, s.url, 'news', { token: tokens(), transport });
      c.start();
      await until(() => c.lastId === 'a-2', 'the second');
      assert.deepEqual(kinds(s), ['poll 0', 'stream', 'stream', 'stream']);
      assert.deepEqual(bearers(s), ['t1', 't1', 't1', 't2']);
      assert.deepEqual([c.log.ids, c.log.errors], [['a-1', 'a-2'], []]);
      c.stop();
    }
  });

test('those that are refused at once share one new token', LIMIT, async (t) => {
  let good = ['t1'];
  const s = await serve(t, [], { otherwise: only(() => good, (req, res) => (
    req.method === 'POST' ? res.end(published)
      : s.seen.at(-1).query.get('timeout') === '0' && res.end(body('a-0')))) });
  const token = tokens(async (n) => { await sleep(20); return `t${n}`; });
  const c = client(t, s.url, 'news', { token });
  c.start();
  await s.requests(2);
  good = ['t2'];
  const all = await Promise.all(Array.from({ length: 20 }, () =>
    c.publish('news', {})));
  assert.equal(all.length, 20);
  assert.equal(token.calls, 2);
  assert.equal(s.seen.length, 2 + 40);
  /* And the parked poll, when it is told of it, takes the same. */
  status(401)(null, s.seen[1].res);
  await s.requests(44);
  assert.deepEqual(bearers(s).slice(42), ['t2', 't2']);
  assert.equal(token.calls, 2);
  assert.deepEqual(c.log.errors, []);
});

test('a publish() that is never let in does not end the polls', LIMIT,
  async (t) => {
    const s = await serve(t, [], { otherwise: (req, res) => {
      const { headers, method, query } = s.seen.at(-1);
      if (method === 'POST') return status(401)(req, res);
      if (query.get('timeout') === '0') return res.end(body('a-0'));
      const stale = headers.authorization === 'Bearer t1';
      return setTimeout(() => (stale ? status(401)(req, res)
        : res.end(body('a-1', [M('a-1')]))), 100);
    } });
    const token = tokens();
    const c = client(t, s.url, 'news', { token });
    c.start();
    await s.requests(2);
    await assert.rejects(c.publish('news', {}), { status: 401 });
    await next(c, 'message');
    assert.deepEqual(c.log.errors, []);
  });

test('token() that throws, or gives what cannot be sent: as no connection',
  LIMIT, async (t) => {
    const bug = new Error('not signed in');
    const s = await serve(t, [body('a-0')]);
    const bad = [() => { throw bug; }, async () => { throw bug; },
      () => 'a\nb'];
    const token = tokens((n) => (bad[n - 1] ? bad[n - 1]() : 'good'));
    const c = client(t, s.url, 'news', { token });
    c.start();
    await s.requests(2);
    assert.deepEqual(bearers(s), ['good', 'good']);
    assert.deepEqual(c.log.errors.map((e) => [e.status, e.retryIn > 0]),
      bad.map(() => [0, true]));
    assert.deepEqual(c.log.errors.slice(0, 2).map(({ message, cause }) =>
      [message, cause]), [['not signed in', bug], ['not signed in', bug]]);
    const d = client(t, s.url, 'news', { token: bad[1] });
    await assert.rejects(d.publish('news', {}),
      { message: 'not signed in', status: 0, unknown: false });
    const e = client(t, s.url, 'news', { token: bad[0], maxRetries: 2 });
    e.start();
    await until(() => e.state === 'stopped', 'its end');
    assert.equal(e.log.errors.length, 3);
  });

test('token() that takes too long is given up, and asked again', LIMIT,
  async (t) => {
    const clock = fakeTimers(t);
    const fetch = async () => new Response(published);
    const token = tokens((n) => (n === 1 ? new Promise(() => {}) : 'good'));
    const c = client(t, 'http://x', 'news', { token, fetch });
    const gone = assert.rejects(c.publish('news', {}),
      { message: 'no answer in 10000 ms', status: 0, unknown: false });
    c.start();
    await settle();
    assert.deepEqual(clock.pending(), [10000, 10000]);
    assert.equal(token.calls, 1);
    await clock.advance(10000);
    await gone;
    assert.equal(c.log.errors[0].message, 'no answer in 10000 ms');
    await c.publish('news', {});
    assert.equal(token.calls, 2);
    c.stop();
    assert.deepEqual(clock.pending(), []);
    /* stop() does not wait for it. */
    const d = client(t, 'http://x', 'news', { fetch,
      token: () => new Promise(() => {}) });
    d.start();
    d.stop();
    await settle();
    assert.deepEqual([clock.pending(), d.log.errors], [[], []]);
  });

test('the real server: publishing wants a token', LIMIT, async (t) => {
  const server = await demo(t, { token: 'secret' });
  const token = tokens((n) => (n === 1 ? 'old' : 'secret'));
  const c = client(t, server.url, 'news', { token, transport: 'stream' });
  c.start();
  await next(c, 'connected');
  const [message] = await Promise.all([next(c, 'message'),
    c.publish('news', { text: 'in' })]);
  assert.equal(message[0].text, 'in');
  assert.equal(token.calls, 2);
  await assert.rejects(client(t, server.url, 'news', { token: tokens() })
    .publish('news', {}), { status: 401, unknown: false });
  assert.deepEqual(c.log.errors, []);
});
