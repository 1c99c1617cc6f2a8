/* Who may: plain and signed tokens, the authorize hook, CORS, Origin and Host. */

import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import { Listener, Stream } from './events.mjs';
import {
  LIVE, SLOW, Server, atEnd, checkHeaders, demo, get, live, module, noModule, pollTarget, post, sleep, until,
} from './harness.mjs';

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

/* ---- signed tokens ----------------------------------------------------- */

const SECRET = 'thirty-two bytes or more, and secret: ☕';
const KEY = new TextEncoder().encode(SECRET);
const noJose = noModule('jose');

/* By node's own crypto: the claims are good for an hour, unless they say otherwise. */
const soon = (seconds) => Date.now() / 1000 + seconds;
const part = (value) => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)).toString('base64url');
function sign(claims = {}, { secret = SECRET, header = { alg: 'HS256', typ: 'JWT' }, hash = 'sha256' } = {}) {
  const payload = typeof claims === 'string' ? claims
    : { exp: soon(3600), channels: ['*'], actions: ['poll', 'publish'], ...claims };
  const text = `${part(header)}.${part(payload)}`;
  return `${text}.${createHmac(hash, secret).update(text).digest('base64url')}`;
}

const bearer = (token) => ({ Authorization: `Bearer ${token}` });
const challenge = (answer) => answer.headers['www-authenticate'];

function refusedToken(answer, error = 'Bad token') {
  assert.equal(answer.refuses(401).json.error, error);
  assert.equal(challenge(answer), 'Bearer error="invalid_token"');
  checkHeaders(answer);
}

test('a token of a JWT library: polls, streams and publishing', { skip: noJose }, async (t) => {
  const { SignJWT } = await module('jose');
  const server = await live(t, { 'token-secret': SECRET });
  const token = await new SignJWT({ channels: ['room-*', 'café, ☕'], actions: ['poll', 'publish'], name: 'somebody' })
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuer('the application').setAudience(['longpoll']).setSubject('7').setJti('x')
    .setIssuedAt().setNotBefore('-1 minute').setExpirationTime('1 hour').sign(KEY);
  for (const channel of ['room-1', 'room-/', 'café, ☕']) {
    assert.equal((await server.publish(channel, { text: channel }, bearer(token))).status, 200);
    const polled = await server.poll(channel, { timeout: 0 }, bearer(token));
    assert.deepEqual(polled.json.messages.map(({ text }) => text), [channel]);
    const stream = await Stream.open(server, new Listener([channel]), { headers: bearer(token) });
    assert.equal(await stream.begin(), 200, stream.text);
    assert.equal((await stream.next()).data.text, channel);
    stream.close();
  }
  for (const answer of [await server.publish('other', {}, bearer(token)),
    await server.poll(['room-1', 'other'], {}, bearer(token)), await server.poll('room', {}, bearer(token))]) {
    answer.refuses(403);
    assert.equal(challenge(answer), 'Bearer error="insufficient_scope"');
  }
  const short = await new SignJWT({ channels: ['*'], actions: ['poll'] }).setProtectedHeader({ alg: 'HS256' })
    .setExpirationTime('1 minute').sign(KEY);
  assert.equal((await server.poll('other', { timeout: 0 }, bearer(short))).status, 200);
  (await server.publish('other', {}, bearer(short))).refuses(403);
  for (const answer of [await server.poll('other'), await server.publish('other', {})]) {
    answer.refuses(401);
    assert.equal(challenge(answer), 'Bearer');
  }
});

test('what a JWT library makes, and is refused', { skip: noJose }, async (t) => {
  const jose = await module('jose');
  const server = await live(t, { 'token-secret': SECRET });
  const claims = { channels: ['*'], actions: ['poll'] };
  const made = (header, key = KEY, exp = '1 hour') =>
    new jose.SignJWT(claims).setProtectedHeader(header).setExpirationTime(exp).sign(key);
  const { privateKey } = await jose.generateKeyPair('ES256');
  const long = new Uint8Array(64).fill(7);
  const tokens = {
    none: new jose.UnsecuredJWT(claims).setExpirationTime('1 hour').encode(),
    384: await new jose.SignJWT(claims).setProtectedHeader({ alg: 'HS384', typ: 'JWT' }).setExpirationTime('1 hour').sign(long),
    ES256: await made({ alg: 'ES256', typ: 'JWT' }, privateKey),
    kid: await made({ alg: 'HS256', typ: 'JWT', kid: '1' }),
    type: await made({ alg: 'HS256', typ: 'at+jwt' }),
    'another secret': await made({ alg: 'HS256', typ: 'JWT' }, new TextEncoder().encode(`${SECRET}!`)),
    'no exp': await new jose.SignJWT(claims).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).sign(KEY),
    'no claims': await new jose.SignJWT({}).setProtectedHeader({ alg: 'HS256', typ: 'JWT' }).setExpirationTime('1 hour').sign(KEY),
    encrypted: await new jose.EncryptJWT(claims).setProtectedHeader({ alg: 'dir', enc: 'A256GCM' })
      .setExpirationTime('1 hour').encrypt(new Uint8Array(32)),
  };
  for (const [what, token] of Object.entries(tokens)) {
    const answer = await server.poll('room', { timeout: 0 }, bearer(token));
    assert.equal(answer.status, 401, what);
    refusedToken(answer);
  }
  refusedToken(await server.poll('room', {}, bearer(await made({ alg: 'HS256' }, KEY, '-1 second'))), 'Token expired');
  const early = await new jose.SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).setExpirationTime('1 hour')
    .setNotBefore('10 minutes').sign(KEY);
  refusedToken(await server.poll('room', {}, bearer(early)), 'Token not valid yet');
  assert.equal((await server.poll('room', { timeout: 0 }, bearer(await made({ alg: 'HS256', typ: 'JWT' })))).status, 200);
});

test('a token with any character changed, or one less', async (t) => {
  const server = await live(t, { 'token-secret': SECRET });
  const token = sign();
  const bad = new Set(['', '.', '..', 'x.y.z', token.toUpperCase(), `${token}.`, `${token}=`, `.${token}`, `${token}${token}`, `"${token}"`]);
  for (let i = 0; i < token.length; i += 1) {
    bad.add(token.slice(0, i) + (token[i] === 'A' ? 'B' : 'A') + token.slice(i + 1));
    bad.add(token.slice(0, i) + token.slice(i + 1));
  }
  bad.delete(token);
  for (const one of bad) {
    const answer = await server.poll('room', { timeout: 0 }, one ? bearer(one) : {});
    assert.equal(answer.status, 401, one);
  }
  assert.equal((await server.stats()).channels, 0);
  assert.equal((await server.poll('room', { timeout: 0 }, bearer(token))).status, 200);
});

test('a token in the query, as what cannot set a header has it', async (t) => {
  const server = await live(t, { 'token-secret': SECRET, 'poll-token': 'plain' });
  const token = sign();
  assert.equal((await server.poll('room', { timeout: 0, access_token: token })).status, 200);
  assert.equal((await server.request('POST', `/api/publish/room?access_token=${token}`,
    { headers: { 'Content-Type': 'application/json' }, body: '{}' })).status, 200);
  const both = (await server.poll('room', { timeout: 0, access_token: token }, bearer(token))).refuses(400);
  assert.equal(challenge(both), 'Bearer error="invalid_request"');
  refusedToken(await server.poll('room', { timeout: 0, access_token: 'plain' }));
  assert.equal((await server.poll('room', { timeout: 0 }, bearer('plain'))).status, 200);
});

test('a token that expires while its poll waits', async (t) => {
  const server = await live(t, { 'token-secret': SECRET, cors: 'https://a.example' });
  const exp = soon(1.2);
  const raw = await server.raw();
  raw.send(get(pollTarget('room', { timeout: 30 }), { ...bearer(sign({ exp })), Origin: 'https://a.example' }));
  await server.waiters(1);
  const answer = await raw.answer();
  const late = Date.now() - exp * 1000;
  assert.ok(late >= -2 && late < 1000 * SLOW, `${late} ms late`);
  refusedToken(answer, 'Token expired');
  assert.equal(answer.headers['access-control-allow-origin'], 'https://a.example', 'a page can read it');
  await server.waiters(0);
  /* The connection goes on, with another token, and nothing was lost. */
  const cursor = (await server.poll('room', { timeout: 0, last_id: 'now' }, bearer(sign()))).json.last_id;
  await server.burst('room', 1);
  raw.send(get(pollTarget('room', { last_id: cursor }), bearer(sign())));
  assert.equal((await raw.answer()).json.count, 1);
  /* One that outlives its wait is no concern of the poll's. */
  assert.equal((await server.poll('room', { timeout: 0.3, last_id: 'now' }, bearer(sign({ exp: soon(30) })))).json.status, 'timeout');
});

test('EventSource with a token in its URL, until that expires', { skip: noModule('eventsource') }, async (t) => {
  const { EventSource } = await module('eventsource');
  const server = await live(t, { 'token-secret': SECRET, 'stream-beat-ms': 200 });
  const url = (claims) => `${server.url}/api/stream/room?last_id=now&access_token=${sign(claims)}`;
  const heard = [];
  const errors = [];
  const source = new EventSource(url({ exp: soon(2.5), actions: ['poll'] }));
  atEnd(t, () => source.close());
  source.onmessage = ({ data, lastEventId }) => heard.push([JSON.parse(data).text, lastEventId]);
  source.onerror = ({ code }) => errors.push([code, source.readyState]);
  await server.waiters(1);
  await server.burst('room', 3, { text: 'heard' });
  await until(() => heard.length === 3, 'the events');
  /* Its stream ends; it connects again by itself, with the same URL, and is told. */
  await until(() => source.readyState === EventSource.CLOSED, 'the end');
  assert.equal(errors.at(-1)[0], 401);
  await server.burst('room', 2, { text: 'later' });
  await sleep(300);
  assert.deepEqual(heard.map(([text]) => text), ['heard', 'heard', 'heard']);
  /* A new one goes on with a new token, from the last id of the old one. */
  const next = new EventSource(url({}).replace('last_id=now', `last_id=${heard.at(-1)[1]}`));
  atEnd(t, () => next.close());
  const more = [];
  next.onmessage = ({ data }) => more.push(JSON.parse(data).text);
  await until(() => more.length === 2, 'the events');
  assert.deepEqual(more, ['later', 'later']);
});

test('each token opens its own door', async (t) => {
  const server = await demo(t, { 'poll-token': 'to-poll', token: 'to-publish' });
  for (const token of [undefined, 'to-publish', 'to-pol', 'to-poll2']) {
    const answer = (await server.poll('room', { timeout: 0 }, token ? bearer(token) : {})).refuses(401);
    assert.equal(challenge(answer), token ? 'Bearer error="invalid_token"' : 'Bearer');
  }
  (await server.publish('room', {}, bearer('to-poll'))).refuses(401);
  assert.equal((await server.publish('room', {}, bearer('to-publish'))).status, 200);
  assert.equal((await server.poll('room', { timeout: 0 }, bearer('to-poll'))).json.count, 1);
  (await server.request('GET', '/api/stream/room')).refuses(401);
});

test('nothing of a token is printed', async (t) => {
  const server = await demo(t, { 'token-secret': SECRET, 'publish-token': 'plain-and-secret', hosts: 'chat.example.org' });
  const tokens = [sign(), sign({ exp: 1 }), sign({}, { secret: 'x' })];
  for (const token of tokens) {
    await server.poll('room', { access_token: token, timeout: 'x' });
    await server.poll('room', { access_token: token, limit: 0 }, bearer(token));
    await server.poll('room', { access_token: token, timeout: 0 }, { Host: 'elsewhere.example' });
    await server.publish('room', '[]', bearer(token));
    await server.request('GET', `/${token}`, { headers: bearer('plain-and-secret') });
    await server.publish('room', {}, { ...bearer('plain-and-secret'), Origin: 'https://elsewhere.example' });
  }
  await sleep(1200); /* what was refused in a second is told in the next */
  await server.stop();
  const { stdout, stderr } = server.process;
  assert.match(stderr, /^server: warning: 401 /m);
  for (const secret of [SECRET, 'plain-and-secret', 'access_token', ...tokens.flatMap((token) => token.split('.'))])
    assert.ok(!(stdout + stderr).includes(secret), secret);
});

test('a secret that is too short is refused at the start', async () => {
  for (const secret of ['', 'x'.repeat(31)])
    await assert.rejects(Server.start(LIVE, { 'token-secret': secret }), /did not start[^]*/, secret);
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
