/* What a server refuses it tells its log: once a second at most of each kind,
   how often and whom last, and which setting is the likely cure. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { inside } from './attack.mjs';
import { SLOW, get, post, sixHere, sleep, until } from './harness.mjs';

const bad = '127.0.0.50';
const worse = '127.0.0.51';

/* The lines of level 1, something was refused; of level 2 are start and stop. */
const warnings = (server) => [...server.process.stdout.matchAll(/^log 1 (.*)$/gm)].map(([, line]) => line);

/* Lines of one kind as {count, address}. */
function told(server, kind) {
  return warnings(server).filter((line) => line.startsWith(kind)).map((line) => {
    const found = /^(.*): (\d+) times?, the last from (\S+)$/.exec(line);
    assert.ok(found, line);
    return { what: found[1], count: Number(found[2]), address: found[3] };
  });
}

/* One answer on a connection of its own. */
async function refused(server, from, bytes, status) {
  const raw = await server.raw({ from });
  raw.send(bytes);
  const answer = await raw.answer();
  raw.close();
  assert.equal(answer.status, status, answer.text);
}

const KINDS = {
  '400 Malformed request': [400, 'nonsense\r\n\r\n'],
  '401 Unauthorized': [401, post('/api/publish/room')],
  '403 Origin not allowed': [403, post('/api/publish/room', '{}', { Origin: 'http://evil.example' })],
  '413 Body too large': [413, post('/api/publish/room', '{}', { 'Content-Length': 70_000, Authorization: 'Bearer sesame' })],
  '415 Content-Type must be application/json': [415, post('/api/publish/room', '{}', { 'Content-Type': 'text/plain', Authorization: 'Bearer sesame' })],
  '421 Host not served here, evil.example:80 is not in hosts': [421, get('/api/poll/room?timeout=0', { Host: 'evil.example:80' })],
  '429 Too many connections from client': [429, get('/api/poll/room?last_id=now', { 'X-Client-ID': 'one' })],
  '431 Request head too large': [431, get('/api/poll/room?timeout=0', { X: 'x'.repeat(20_000) })],
  '501 Not implemented': [501, get('/api/poll/room', { 'Transfer-Encoding': 'gzip' })],
};

for (const loops of [1, 4]) {
  test(`each kind of refusal is told once a second at most: ${loops} loops`, async (t) => {
    const server = await inside(t, { loops, 'publish-token': 'sesame', 'waiters-per-client': 1 });
    for (const from of [bad, worse]) await server.park('room', { last_id: 'now', timeout: 60 }, { from, headers: { 'X-Client-ID': 'one' } });
    const began = performance.now();
    for (let turn = 0; turn < 20; turn += 1)
      for (const [status, bytes] of Object.values(KINDS)) await refused(server, turn < 15 ? bad : worse, bytes, status);
    const counted = (kind) => told(server, kind).reduce((sum, { count }) => sum + count, 0);
    await until(() => Object.keys(KINDS).every((kind) => counted(kind) === 20), 'all to be told', 5000 * SLOW);
    const seconds = (performance.now() - began) / 1000;
    for (const kind of Object.keys(KINDS)) {
      const lines = told(server, kind);
      assert.ok(lines.length >= 2 && lines.length <= seconds + 1, `${kind}: ${lines.length} lines in ${seconds} s`);
      assert.deepEqual([lines[0].count, lines[0].address], [1, bad], 'the first is told at once');
      assert.equal(lines.at(-1).address, worse);
      for (const { what } of lines) assert.equal(what, kind);
    }
    assert.equal(warnings(server).length, Object.keys(KINDS).flatMap((kind) => told(server, kind)).length, 'nothing else');
    /* After a while in which there was none, one is told at once again. */
    await sleep(1100);
    const before = warnings(server).length;
    await refused(server, bad, 'nonsense\r\n\r\n', 400);
    await until(() => warnings(server).length > before, 'the next one', 500 * SLOW);
    assert.equal(warnings(server).at(-1), `400 Malformed request: 1 time, the last from ${bad}`);
  });
}

test('what a program answers itself, and what is not there, is no refusal', async (t) => {
  const server = await inside(t);
  for (const [status, bytes] of [[404, get('/nothing/here')], [405, get('/api/publish/room')], [405, post('/api/poll/room')],
    [400, post('/error', 'an error of the program')]])
    await refused(server, bad, bytes, status);
  await sleep(1200);
  assert.deepEqual(warnings(server), []);
});

test('who is turned away, or cut off, is told of too', async (t) => {
  const server = await inside(t, { 'connections-per-address': 2, 'history-bytes': '1m' });
  for (let n = 0; n < 2; n += 1) await server.raw({ from: bad });
  const third = await server.raw({ from: bad });
  (await third.answer()).refuses(503);
  const slow = await server.raw({ from: worse });
  slow.pause().send(get('/test/page?n=20000000'));
  await until(() => warnings(server).length >= 2, 'two lines');
  assert.deepEqual(warnings(server).sort(), [
    `503 Too many connections from address, no connection: 1 time, the last from ${bad}`,
    `Cut off, since it reads too slowly: 1 time, the last from ${worse}`,
  ]);
});

test('behind a proxy the address is the client\'s', async (t) => {
  const server = await inside(t, { 'trusted-proxies': '127.0.0.2' });
  await refused(server, '127.0.0.2', post('/api/publish/room', '[]', { 'X-Forwarded-For': '6.6.6.6, 7.7.7.7' }), 400);
  await until(() => warnings(server).length > 0, 'a line');
  assert.match(warnings(server)[0], /^400 .*: 1 time, the last from 7\.7\.7\.7$/);
  assert.equal(warnings(server).length, 1);
});

test('a foreign Host is named, and the setting for it', async (t) => {
  const server = await inside(t);
  for (const host of ['chat.example', 'chat.example:8443', `${'x'.repeat(300)}.example`]) {
    await refused(server, bad, get('/api/poll/room?timeout=0', { Host: host }), 421);
    await sleep(1100);
  }
  const names = told(server, '421').map(({ what }) => what);
  assert.deepEqual(names.slice(0, 2), [
    '421 Host not served here, chat.example is not in hosts', '421 Host not served here, chat.example:8443 is not in hosts',
  ]);
  assert.match(names[2], /^421 Host not served here, x{30,60} is not in hosts$/);
});

for (const field of ['X-Forwarded-For', 'X-Real-IP']) {
  test(`${field} from whom we do not trust names trusted_proxies, once`, async (t) => {
    const server = await inside(t, { 'trusted-proxies': '127.0.0.2', loops: 2 });
    const passOn = (from) => refused(server, from, get('/api/poll/room?timeout=0', { [field]: '6.6.6.6' }), 200);
    for (let n = 0; n < 5; n += 1) await passOn('127.0.0.2');
    assert.deepEqual(warnings(server), [], 'a proxy of ours may');
    for (let n = 0; n < 20; n += 1) await passOn(n < 10 ? bad : worse);
    await sleep(1200);
    await passOn(worse);
    assert.deepEqual(warnings(server), [`${bad} passes on addresses (X-Forwarded-For) and is not in trusted_proxies`]);
  });
}

test('a server that anybody may reach, and publish to, says so at its start', async (t) => {
  const line = /^who can reach this address may publish: .*publish_token.*authorize/;
  for (const host of ['0.0.0.0', '*', ...(sixHere ? ['::'] : [])]) {
    const server = await inside(t, { host });
    assert.equal(warnings(server).filter((one) => line.test(one)).length, 1, host);
  }
  for (const options of [{}, { host: '127.0.0.1' }, { host: '127.0.0.8' }, { host: '0.0.0.0', 'publish-token': 'x' }, { host: '0.0.0.0', authorize: 'on' }]) {
    const server = await inside(t, options);
    assert.deepEqual(warnings(server), [], JSON.stringify(options));
  }
});
