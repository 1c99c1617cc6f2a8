/* Who may: the token, the authorize hook, CORS, Origin and Host. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { LIVE, Server, checkHeaders, demo, get, live, post } from './harness.mjs';

/* ---- the token -------------------------------------------------------- */

test('publishing wants the token', async (t) => {
  const server = await demo(t, { token: 'open-sesame/42' });
  const publish = (headers) => server.publish('room', { text: 'x' }, headers);
  for (const authorization of [undefined, '', 'Bearer', 'Bearer ', 'Bearer open-', 'Bearer open-sesame/4', 'Bearer open-sesame/422',
    'Bearer OPEN-SESAME/42', 'Basic b3BlbiBzZXNhbWUvNDI=', 'open-sesame/42', 'Bearer xpen sesame/42']) {
    const answer = await publish(authorization === undefined ? {} : { Authorization: authorization });
    answer.refuses(401);
    assert.match(answer.headers['www-authenticate'] ?? '', /^Bearer\b/, authorization);
    checkHeaders(answer);
  }
  assert.equal((await server.poll('room', { timeout: 0 })).json.count, 0, 'nothing was published, and polling is free');
  assert.equal((await publish({ Authorization: 'Bearer open-sesame/42' })).status, 200);
  assert.equal((await server.poll('room', { timeout: 0 })).json.count, 1);
});

test('who may not publish is told before the body is read', async (t) => {
  const server = await live(t, { 'publish-token': 'sesame' });
  const raw = await server.raw();
  raw.send('POST /api/publish/room HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n');
  (await raw.answer()).refuses(401);
  const waits = await server.raw();
  waits.send('POST /api/publish/room HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n'
    + 'Content-Length: 60000\r\nExpect: 100-continue\r\n\r\n');
  (await waits.answer()).refuses(401);
});

/* ---- the authorize hook ----------------------------------------------- */

test('authorize is asked once per decoded channel, with the action', async (t) => {
  const server = await live(t);
  const asked = async () => (await server.request('GET', '/test/asked')).json;
  await asked();
  await server.ask(['a', 'b/c', 'd,e'], { timeout: 0 });
  await server.say('f%g', {});
  assert.deepEqual(await asked(), [
    { action: 'poll', channel: 'a', method: 'GET' },
    { action: 'poll', channel: 'b/c', method: 'GET' },
    { action: 'poll', channel: 'd,e', method: 'GET' },
    { action: 'publish', channel: 'f%g', method: 'POST' },
  ]);
  /* Nor is it asked again when a parked poll is answered. */
  const parked = server.ask('a', { last_id: 'now', timeout: 10 });
  await server.waiters(1);
  await server.burst('a', 1);
  await parked;
  assert.equal((await asked()).length, 1);
});

test('authorize refuses with 401 or 403', async (t) => {
  const server = await live(t);
  for (const [path, status] of [['secret', 403], ['%73ecret%2Fplans', 403], ['login', 401], ['open,secret', 403], ['open,login', 401],
    ['secret,open', 403]]) {
    const polled = (await server.request('GET', `/api/poll/${path}?timeout=10`)).refuses(status);
    checkHeaders(polled);
    if (path.includes(',')) continue;
    (await server.request('POST', `/api/publish/${path}`, { headers: { 'Content-Type': 'application/json' }, body: '{}' })).refuses(status);
  }
  const { waiters, published } = await server.stats();
  assert.deepEqual({ waiters, published }, { waiters: 0, published: 0 });
  await server.burst('secret', 1);       /* the inside may */

  const raw = await server.raw();
  raw.send('POST /api/publish/secret HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n');
  (await raw.answer()).refuses(403);
});

/* ---- CORS ------------------------------------------------------------- */

const A = 'https://a.example';
const B = 'http://b.example:8080';
const FOREIGN = 'https://foreign.example';

const allowed = (answer) => answer.headers['access-control-allow-origin'];
const varies = (answer) => assert.match(answer.headers.vary ?? '', /(^|, *)Origin($|,)/i);

function preflight(server, target, origin, method, headers) {
  return server.request('OPTIONS', target, {
    headers: { Origin: origin, 'Access-Control-Request-Method': method, 'Access-Control-Request-Headers': headers },
  });
}

test('CORS is off: no page elsewhere may read, or publish', async (t) => {
  const server = await demo(t);
  const polled = await server.poll('room', { timeout: 0 }, { Origin: A });
  assert.equal(polled.status, 200);
  assert.equal(allowed(polled), undefined);
  (await server.publish('room', {}, { Origin: A })).refuses(403);
  (await server.publish('room', {}, { Origin: 'null' })).refuses(403);
  const flight = await preflight(server, '/api/publish/room', A, 'POST', 'content-type');
  assert.equal(allowed(flight), undefined);
  checkHeaders(flight, 'preflight');
  /* The page that this server itself serves may. */
  assert.equal((await server.publish('room', {}, { Origin: server.url })).status, 200);
  assert.equal((await server.publish('room', {}, { Origin: `http://localhost:${server.port}`, Host: `localhost:${server.port}` })).status, 200);
  (await server.publish('room', {}, { Origin: 'http://127.0.0.1:1' })).refuses(403);
});

test('CORS with a list of origins', async (t) => {
  const server = await demo(t, { cors: `${A},${B}` });
  for (const origin of [A, B]) {
    const polled = await server.poll('room', { timeout: 0 }, { Origin: origin });
    assert.equal(allowed(polled), origin);
    varies(polled);
    const published = await server.publish('room', {}, { Origin: origin });
    assert.deepEqual([published.status, allowed(published)], [200, origin]);
    const wrong = (await server.poll('room', { timeout: 'x' }, { Origin: origin })).refuses(400);
    assert.equal(allowed(wrong), origin, 'an error can be read too');
    varies(wrong);
  }
  for (const origin of [FOREIGN, 'http://a.example', `${A}:444`, `${A}.evil.example`, 'https://xa.example', `${A}/`, 'null', `${A},${B}`]) {
    const polled = await server.poll('room', { timeout: 0 }, { Origin: origin });
    assert.deepEqual([polled.status, allowed(polled)], [200, undefined], origin);
    varies(polled);
    (await server.publish('room', {}, { Origin: origin })).refuses(403);
  }
  /* Without an Origin the answer is the same for all, and still varies. */
  const plain = await server.poll('room', { timeout: 0 });
  assert.deepEqual([plain.status, allowed(plain)], [200, undefined]);
  varies(plain);
  assert.equal((await server.publish('room', {})).status, 200);
});

test('CORS: a parked poll\'s answer can be read as well', async (t) => {
  const server = await live(t, { cors: `${A},${B}` });
  const polls = [A, B, FOREIGN, undefined].map((Origin) =>
    server.poll('room', { last_id: 'now', timeout: 10 }, Origin ? { Origin } : {}));
  await server.waiters(4);
  await server.say('room', { text: 'x' });
  const answers = await Promise.all(polls);
  assert.deepEqual(answers.map(allowed), [A, B, undefined, undefined]);
  for (const answer of answers) {
    varies(answer);
    checkHeaders(answer);
    assert.equal(answer.text, answers[0].text);
  }
  const waited = await server.poll('room', { last_id: 'now', timeout: 0.1 }, { Origin: B });
  assert.deepEqual([waited.json.status, allowed(waited)], ['timeout', B]);
});

test('CORS: preflights', async (t) => {
  const server = await live(t, { cors: `${A},${B}`, 'cors-max-age-s': 1234 });
  const list = (text = '') => text.toLowerCase().split(',').map((word) => word.trim());
  for (const [target, method, wanted] of [
    ['/api/publish/room', 'POST', ['content-type', 'authorization']],
    ['/api/poll/room', 'GET', ['x-client-id']],
    ['/test/echo', 'POST', ['content-type']],
  ]) {
    const answer = await preflight(server, target, B, method, wanted.join(','));
    assert.ok([200, 204].includes(answer.status), `${answer.status}`);
    checkHeaders(answer, 'preflight');
    varies(answer);
    assert.equal(allowed(answer), B);
    assert.equal(answer.headers['access-control-max-age'], '1234');
    assert.ok(list(answer.headers['access-control-allow-methods']).includes(method.toLowerCase()), answer.headers['access-control-allow-methods']);
    const allows = list(answer.headers['access-control-allow-headers']);
    for (const name of wanted) assert.ok(allows.includes(name), `${name} in ${allows}`);
    const foreign = await preflight(server, target, FOREIGN, method, wanted.join(','));
    assert.equal(allowed(foreign), undefined);
  }
});

test('CORS for everybody', async (t) => {
  const server = await demo(t, { cors: '*' });
  for (const origin of [A, FOREIGN]) {
    const polled = await server.poll('room', { timeout: 0 }, { Origin: origin });
    assert.ok(['*', origin].includes(allowed(polled)), allowed(polled));
    assert.equal((await server.publish('room', {}, { Origin: origin })).status, 200);
    const flight = await preflight(server, '/api/publish/room', origin, 'POST', 'content-type');
    assert.ok(['*', origin].includes(allowed(flight)));
    assert.match(flight.headers['access-control-max-age'], /^\d+$/);
  }
});

/* ---- Host ------------------------------------------------------------- */

async function hosts(server, good, bad) {
  for (const [list, status] of [[good, 200], [bad, 421]]) {
    for (const host of list) {
      const polled = await server.poll('room', { timeout: 0 }, { Host: host });
      assert.equal(polled.status, status, `Host: ${host}`);
      const published = await server.publish('room', {}, { Host: host });
      assert.equal(published.status, status, `Host: ${host}`);
      if (status === 421) checkHeaders(polled.refuses(421));
    }
  }
}

test('Host on a loopback bind: an IP literal, localhost, or a name that was given', async (t) => {
  await hosts(await demo(t),
    ['localhost', 'localhost:8080', 'LocalHost', '127.0.0.1', '127.0.0.1:1', '192.168.1.7', '[::1]', '[::1]:8080', '[2001:db8::1]:80'],
    ['evil.example', 'evil.example:80', 'localhost.evil.example', '127.0.0.1.evil.example', 'xlocalhost', 'chat.example.org']);
  await hosts(await live(t, { hosts: 'chat.example.org,other.example' }),
    ['chat.example.org', 'Chat.Example.ORG:8080', 'other.example', 'localhost', '127.0.0.1', '[::1]'],
    ['evil.example', 'example.org', 'x.chat.example.org', 'chat.example.org.evil.example', 'hat.example.org']);
});

test('Host on any other bind: only once names were given', async (t) => {
  await hosts(await live(t, { host: '0.0.0.0' }), ['evil.example', 'localhost', '1.2.3.4'], []);
  await hosts(await live(t, { host: '0.0.0.0', hosts: 'chat.example.org' }), ['chat.example.org', '1.2.3.4'], ['evil.example']);
});

test('Host: the routes beside the API are guarded as well', async (t) => {
  const server = await live(t);
  (await server.request('GET', '/test/stats', { headers: { Host: 'evil.example' } })).refuses(421);
  assert.equal((await server.request('GET', '/test/stats', { headers: { Host: 'localhost' } })).status, 200);
});

test('Host: trusted proxies are exempt', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.1' });
  const from = '127.0.0.5';
  assert.equal((await server.poll('room', { timeout: 0 }, { Host: 'chat.example.org' })).status, 200);
  (await server.poll('room', { timeout: 0 }, { Host: 'chat.example.org' }, { from })).refuses(421);
});

test('Host: one, and only one', async (t) => {
  const server = await live(t);
  const status = async (text) => {
    const raw = await server.raw();
    raw.send(text);
    const answer = await raw.answer();
    raw.close();
    return answer.status;
  };
  assert.equal(await status('GET /api/poll/room?timeout=0 HTTP/1.1\r\n\r\n'), 400);
  assert.equal(await status('GET /api/poll/room?timeout=0 HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n'), 400);
  assert.equal(await status('GET /api/poll/room?timeout=0 HTTP/1.0\r\n\r\n'), 200);
  assert.equal(await status(get('/api/poll/room?timeout=0')), 200);
  assert.equal(await status(post('/api/publish/room')), 200);
});

test('options that cannot be are refused at the start', async () => {
  for (const bad of [{ host: 'no such host' }, { host: '1.2.3' }, { 'waiters-max': 'many' }, { 'no-such-option': '1' }, { port: 70000 }]) {
    await assert.rejects(Server.start(LIVE, bad), /did not start/, JSON.stringify(bad));
  }
});
