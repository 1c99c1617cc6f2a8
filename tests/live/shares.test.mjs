/* What all clients share, and one address takes as much of as it can: a quarter
   of it, and others go on as if nothing were. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attack, bystander, deserted, figures, inside, pss } from './attack.mjs';
import { PASS, SLOW, get, publishTarget, sleep, until } from './harness.mjs';

const MiB = 2 ** 20;
const PUBLISH = 'Content-Type: application/json\r\n';
const bad = '127.0.0.50';
const good = '127.0.0.77';

/* Connections of one address, that each send the same. */
async function crowd(server, n, bytes, options) {
  const raws = await Promise.all(Array.from({ length: n }, () => server.raw({ from: bad, ...options })));
  for (const raw of raws) raw.send(bytes);
  return raws;
}

/* Wait until a count of those that are open stands still. */
async function settled(raws) {
  const open = () => raws.filter((raw) => raw.state === 'open').length;
  for (let before = -1, now = open(); before !== now; before = now, now = open()) await sleep(300 * SLOW);
  return open();
}

/* ---- replies that are not read ---------------------------------------- */

/* More than the kernel takes, so that the rest is kept by the server. */
async function page(server, headers, from) {
  const raw = await server.raw({ from });
  raw.send(get('/test/page?n=6000000', headers));
  const answer = await raw.answer();
  raw.close();
  return answer.text.length;
}

for (const [who, options, theirs, ours] of [
  ['of one address', {}, {}, {}],
  ['behind a proxy', { 'trusted-proxies': `${bad},${good}` }, { 'X-Forwarded-For': '6.6.6.6' }, { 'X-Forwarded-For': '7.7.7.7' }],
]) {
  test(`sixty readers ${who} that do not read: the replies of others are whole`, async (t) => {
    const server = await inside(t, { 'waiters-per-client': 'unlimited', ...options });
    for (let n = 0; n < 18; n += 1) await server.say('big', { n, text: 'x'.repeat(60_000) });
    const beside = bystander(server);
    const poll = get('/api/poll/big?timeout=0&limit=1000', theirs);
    const readers = await Promise.all(Array.from({ length: 60 }, () => server.raw({ from: bad })));
    for (const raw of readers) raw.pause().send(poll.repeat(8));
    await until(async () => (await server.stats()).pinned_bytes >= 5 * MiB, 'replies to be kept');
    await sleep(500 * SLOW);
    const { pinned_bytes: pinned } = await server.stats();
    for (let n = 0; n < 10; n += 1) assert.equal(await page(server, ours, good), 6_000_000);
    assert.ok(pinned <= 8 * MiB, `${pinned} bytes are kept for one address, of 64 MiB`);
    figures.push(`sixty readers ${who} that do not read: ${(pinned / MiB).toFixed(1)} MiB are kept for them`);
    for (const raw of readers) raw.reset();
    await beside.end(`sixty readers ${who} that do not read`);
    await deserted(server);
    /* All that they had is given back. */
    assert.equal(await page(server, theirs, bad), 6_000_000);
  });
}

/* ---- requests that are not finished ----------------------------------- */

/* A publish that comes in pieces, so that it has to be kept. */
async function publishInPieces(server, headers, from) {
  const body = JSON.stringify({ text: 'x'.repeat(2000) });
  const raw = await server.raw({ from });
  const lines = Object.entries({ Host: '127.0.0.1', 'Content-Length': body.length, ...headers }).map((line) => line.join(': '));
  raw.send(`POST ${publishTarget('room')} HTTP/1.1\r\n${PUBLISH}${lines.join('\r\n')}\r\n\r\n${body.slice(0, 1000)}`);
  await sleep(30);
  raw.send(body.slice(1000));
  const answer = await raw.answer();
  raw.close();
  return [answer.status, answer.status === 200 ? '' : answer.text];
}

const body = (line, more = '') =>
  `${line} HTTP/1.1\r\nHost: 127.0.0.1\r\n${more}Content-Length: 65536\r\n\r\n${' '.repeat(65_530)}`;

for (const [what, bytes, options, theirs, ours] of [
  ['heads', get('/api/poll/room').slice(0, -2) + `X-Slow: ${'x'.repeat(16_000)}`, { 'partial-bytes-max': '8m' }],
  ['bodies of publishes', body('POST /api/publish/room', PUBLISH), {}],
  ['bodies of publishes, behind a proxy', body('POST /api/publish/room', `${PUBLISH}X-Forwarded-For: 6.6.6.6\r\n`),
    { 'trusted-proxies': `${bad},${good}` }, { 'X-Forwarded-For': '6.6.6.6' }, { 'X-Forwarded-For': '7.7.7.7' }],
  ['behind polls that wait', `${get('/api/poll/elsewhere?last_id=now&timeout=60')}GET / HTTP/1.1\r\nX-Slow: ${'x'.repeat(16_000)}`,
    { 'partial-bytes-max': '8m', 'waiters-per-client': 'unlimited' }],
  ['bodies of polls', body('GET /api/poll/room?timeout=0'), {}],
]) {
  test(`560 unfinished requests, ${what}: others publish as ever`, async (t) => {
    const server = await inside(t, { 'head-ms': 60_000, 'body-ms': 60_000, ...options });
    const beside = bystander(server);
    const many = await crowd(server, 560, bytes);
    const open = await settled(many);
    /* And what is left of their share, to the last kilobyte. */
    const small = await crowd(server, 300, 'GET /api/poll/room HTTP/1.1\r\nX-Slow: ');
    await settled(small);
    for (let n = 0; n < 10; n += 1) assert.deepEqual(await publishInPieces(server, ours, good), [200, '']);
    for (const raw of many.filter((one) => one.total > 0)) (await raw.answer()).refuses(503);
    const share = (options['partial-bytes-max'] ? 8 : 64) * MiB / 4;
    if (what === 'bodies of polls') assert.equal(open, 560, 'all are there: nothing of them is kept');
    else assert.ok(open >= 20 && open * bytes.length <= share, `${open} of ${bytes.length} bytes are kept`);
    figures.push(`560 unfinished requests, ${what}: ${open} are let be`);
    await beside.end(`560 unfinished requests, ${what}`);
    for (const raw of [...many, ...small]) raw.reset();
    await deserted(server);
    assert.deepEqual(await publishInPieces(server, theirs, bad), [200, '']);
  });
}

for (const [how, begin, end] of [
  ['of a length', (length) => [`Content-Length: ${length}\r\n\r\n`, ''], ''],
  ['in chunks', (length) => ['Transfer-Encoding: chunked\r\n\r\n', `${length.toString(16)}\r\n`], '\r\n0\r\n\r\n'],
]) {
  test(`the body of a poll is read past, not kept: ${how}`, async (t) => {
    const server = await inside(t, { 'body-ms': 60_000, 'waiters-per-client': 'unlimited' });
    const said = await server.say('room', { text: 'here' });
    const before = pss(server.pid);
    const [field, first] = begin(60_000);
    const polls = await crowd(server, 500, `GET /api/poll/room?timeout=0 HTTP/1.1\r\nHost: 127.0.0.1\r\n${field}${first}${'x'.repeat(59_000)}`);
    await sleep(1000 * SLOW);
    const grown = pss(server.pid) - before;
    figures.push(`memory, 500 polls with a body of 59,000 bytes so far, ${how}: ${(grown / 1024).toFixed()} KiB more`);
    if (PASS === 'plain') assert.ok(grown < 500 * 4096 + 2 * MiB, `${grown} bytes`);
    for (const raw of polls) assert.equal(raw.total, 0, 'no answer before its end');
    for (const raw of polls) raw.send('x'.repeat(1000) + end + get('/api/poll/room?timeout=0&last_id=now'));
    for (const raw of polls) {
      assert.equal((await raw.answer()).json.last_id, said.message_id);
      assert.equal((await raw.answer()).json.count, 0, 'and the next request is where it should be');
    }
  });
}

/* ---- connections ------------------------------------------------------- */

test('2,100 connections of one address: 2,048 stay', async (t) => {
  const server = await inside(t, { 'head-ms': 120_000 }, { files: 'max' });
  const beside = bystander(server);
  const load = await attack(t, server, 'idle', 2100, { per: 2100 });
  const { statuses } = await load.until(({ closed }) => closed === 52, 'those above to be gone');
  assert.deepEqual(statuses, { 503: 52 });
  await beside.end('2,100 connections of one address');
  await load.over();
  await deserted(server);
  const again = await attack(t, server, 'idle', 2048, { per: 2100 });
  await sleep(300 * SLOW);
  assert.equal((await again.counts()).open, 2048, 'their places are free again');
  await again.over();
});
