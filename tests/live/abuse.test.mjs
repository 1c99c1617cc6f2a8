/* Those who mean no good. Beside each attack a well-behaved client polls and
   publishes, and every message comes once and in order; the server's memory
   stays under what its limits allow; and when the attack is over all of it is
   back. How much memory each took is printed at the end. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { test } from 'node:test';
import { attack, bystander, cpuOver, deserted, figures, helper, inside, pss } from './attack.mjs';
import {
  LIVE, PASS, SLOW, WRAP, checkHeaders, cpuMs, get, post, run, scaled, sleep, until, which, within,
} from './harness.mjs';

const MiB = 2 ** 20;

/* A process may have this many descriptors here. */
const files = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || Infinity;
const clients = (n, least) => Math.min(scaled(n, least), files - 300);

/* ---- memory ------------------------------------------------------------ */

/* The most that a server may have beside what it has at rest, by its limits.
   Every record is counted with its places in tables and the allocator's. */
function bound({
  partial = 64 * MiB, history = 64 * MiB, connections = 120_000, waiters = 100_000, channels = 100_000,
}) {
  const kept = partial + history;       /* incomplete requests; messages, and replies that are not read */
  return kept * 1.25
    + connections * 160                 /* a record of 64 bytes, a timer's and a poller's place */
    + waiters * 192                     /* a waiter, and at worst a list and two counters of its own */
    + channels * 640                    /* a record, a name of up to 255 bytes, a small ring */
    + 5 * MiB;                          /* a loop's own room: at most 4 MiB of it is kept between replies */
}

/* Looks at a server's memory until `end`, which judges it. */
function memoryOf(server, what, limits) {
  const before = pss(server.pid);
  let most = before;
  const look = () => { most = Math.max(most, pss(server.pid)); };
  const timer = setInterval(() => {
    try { look(); } catch { clearInterval(timer); }                   /* a test that failed has ended it */
  }, 50).unref();
  return {
    end() {
      clearInterval(timer);
      look();
      const grown = most - before;
      const mib = (bytes) => `${(bytes / MiB).toFixed(1)} MiB`;
      figures.push(`memory, ${what}: ${mib(grown)} more, of at most ${mib(bound(limits))}; then ${mib(pss(server.pid) - before)}`);
      if (PASS === 'plain') assert.ok(grown < bound(limits), figures.at(-1));
    },
  };
}

/* Wait until the slow readers have been cut off; the most that was pinned. */
async function cutOff(server) {
  let pinned = 0;
  await until(async () => {
    const now = await server.stats();
    pinned = Math.max(pinned, now.pinned_bytes);
    return now.waiters <= 1 && now.connections < 20;
  }, 'the slow readers to be cut off', 40_000 * SLOW);
  return pinned;
}

/* ---- slow ones, by the thousand ---------------------------------------- */

test('slow heads: each is cut off in its time, and told; a second wave takes no more memory', async (t) => {
  const most = clients(3000, 100);
  const limits = { partial: 8 * MiB, history: 4 * MiB, connections: most + 100, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'head-ms': 3000 * SLOW, 'partial-bytes-max': '8m', 'history-bytes': '4m', 'connections-max': most + 100, 'channels-max': 100,
  }, { files: 'max' });
  const memory = memoryOf(server, `${most} slow heads`, limits);
  const beside = bystander(server);
  const after = [pss(server.pid)];
  for (let wave = 0; wave < 2; wave += 1) {
    const load = await attack(t, server, 'heads', most);
    const { statuses } = await load.until(({ open }) => open === 0, 'all slow heads to be cut off');
    assert.deepEqual(statuses, { 408: most });
    after.push(pss(server.pid));
    await load.over();
  }
  await beside.end(`${most} slow heads, twice`);
  memory.end();
  /* What the allocator keeps it gives to those who come next. */
  const [first, second] = [after[1] - after[0], after[2] - after[1]];
  if (PASS === 'plain') assert.ok(second < first / 4 + MiB / 2, `${first} bytes, then ${second}`);
  await deserted(server);
});

/* At eight addresses, so that it is all of it and not the share of one. */
test('slow heads: no more of them than partial_bytes_max', async (t) => {
  const most = clients(3000, 100);
  const limits = { partial: MiB / 8, history: 4 * MiB, connections: most + 100, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'head-ms': 60_000, 'partial-bytes-max': '128k', 'history-bytes': '4m', 'connections-max': most + 100, 'channels-max': 100,
  }, { files: 'max' });
  const memory = memoryOf(server, `${most} slow heads, partial_bytes_max 128 KiB`, limits);
  const beside = bystander(server);
  const load = await attack(t, server, 'heads', most, { per: Math.ceil(most / 8) });
  /* Who has had its 503 is closed a moment later: the counts are of one moment. */
  const { open, closed, statuses } = await load.until(
    (now) => now.open <= 300 && now.closed >= (now.statuses[503] ?? 0), 'most to be cut off, and closed');
  assert.equal(open + closed, most);
  assert.deepEqual(statuses, { 503: closed });
  if (most > 200) assert.ok(open > 50, `${open} are still there`);
  await sleep(1500);
  await beside.end(`${most} slow heads, partial_bytes_max 128 KiB`);
  memory.end();
  await load.over();
  await deserted(server);
});

test('slow bodies: no more of them than partial_bytes_max, each for its time', async (t) => {
  const most = clients(2000, 100);
  const limits = { partial: 8 * MiB, history: 4 * MiB, connections: most + 100, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'body-ms': 4000 * SLOW, 'partial-bytes-max': '8m', 'history-bytes': '4m', 'connections-max': most + 100, 'channels-max': 100,
  }, { files: 'max' });
  const memory = memoryOf(server, `${most} slow bodies of 20,000 bytes`, limits);
  const beside = bystander(server);
  const load = await attack(t, server, 'bodies', most, { per: Math.ceil(most / 8), size: 20_000 });
  const now = await load.until(({ open }) => open === 0, 'all slow bodies to be cut off');
  const { 408: late, 503: refused = 0 } = now.statuses;
  assert.equal(late + refused, most, 'each is told why');
  assert.ok(late >= Math.min(most, 150) && late <= 420, `${late} were within the limit`);
  await beside.end(`${most} slow bodies`);
  memory.end();
  await load.over();
  await deserted(server);
  assert.equal((await server.stats()).channels, 1, 'none of them has made a channel');
});

test('slow readers: four megabytes for each, half of history_bytes for all', async (t) => {
  const most = clients(250, 50);
  const limits = { partial: 8 * MiB, history: 64 * MiB, connections: most + 100, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'write-ms': 3000 * SLOW, 'reply-bytes-max': '4m', 'partial-bytes-max': '8m',
    'history-bytes': '64m', 'connections-max': most + 100, 'channels-max': 100,
  }, { files: 'max' });
  for (let n = 0; n < 64; n += 1) await server.say('big', { n, text: 'x'.repeat(60_000) });
  const memory = memoryOf(server, `${most} slow readers of four megabytes`, limits);
  const beside = bystander(server);
  /* At five addresses, each of which may hold up a quarter of that half. */
  const load = await attack(t, server, 'readers', most, { per: most / 5, target: '/api/poll/big?timeout=0&limit=1000' });
  const pinned = await cutOff(server);
  assert.ok(pinned > 20 * MiB && pinned <= 32 * MiB, `${pinned} bytes were pinned`);
  await beside.end(`${most} slow readers of four megabytes`);
  memory.end();
  await load.over();
  await deserted(server);
});

test('slow readers: one message of three megabytes for all who wait', async (t) => {
  const most = clients(400, 50);
  const limits = { partial: 32 * MiB, history: 64 * MiB, connections: most + 100, channels: 100, waiters: most + 100 };
  const server = await inside(t, {
    'write-ms': 3000 * SLOW, 'partial-bytes-max': '32m', 'history-bytes': '64m', 'connections-max': most + 100, 'channels-max': 100,
    'message-bytes-max': '4m',
  }, { files: 'max' });
  const load = await attack(t, server, 'readers', most, { target: '/api/poll/big?last_id=now&timeout=60' });
  await server.waiters(most);
  const memory = memoryOf(server, `${most} slow readers of the same three megabytes`, limits);
  const beside = bystander(server);
  const said = server.say('big', { text: 'x'.repeat(3 * MiB) });
  const pinned = await cutOff(server);
  assert.equal((await said).waiters, most);
  assert.ok(pinned > 0 && pinned <= 8 * MiB, `${pinned} bytes were pinned`);
  await beside.end(`${most} slow readers of the same`);
  memory.end();
  await load.over();
  await deserted(server);
});

/* ---- connections ------------------------------------------------------- */

test('connections that say nothing', async (t) => {
  const most = clients(4000, 100);
  const limits = { partial: MiB, history: MiB, connections: most + 100, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'head-ms': 2000 * SLOW, 'partial-bytes-max': '1m', 'history-bytes': '1m', 'connections-max': most + 100, 'channels-max': 100,
  }, { files: 'max' });
  const memory = memoryOf(server, `${most} silent connections`, limits);
  const beside = bystander(server);
  const load = await attack(t, server, 'idle', most);
  const { statuses } = await load.until(({ open }) => open === 0, 'the silent ones to be closed');
  assert.deepEqual(statuses, {});
  await beside.end(`${most} silent connections`);
  memory.end();
  await load.over();
  await deserted(server);
});

test('accept storms: 20,000 connections, 4,000 at a time', async (t) => {
  const most = scaled(20_000, 500);
  const limits = { partial: 8 * MiB, history: MiB, connections: 6000, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'partial-bytes-max': '8m', 'history-bytes': '1m', 'connections-max': 6000, 'channels-max': 100,
  }, { files: 'max' });
  const memory = memoryOf(server, `a storm of ${most} connections`, limits);
  const parked = await server.park('elsewhere', { last_id: 'now', timeout: 60 });
  const beside = bystander(server);
  const load = attack(t, server, 'storm', most, { size: Math.min(4000, files - 300) });
  await sleep(100);
  const began = performance.now();
  await server.say('elsewhere', { text: 'in the storm' });
  assert.equal((await parked.answer()).json.count, 1);
  const ms = performance.now() - began;
  assert.ok(ms < 3000 * SLOW, `the parked poll was answered after ${ms} ms`);
  const { connected } = await (await load).counts();
  assert.equal(connected, most);
  await beside.end(`a storm of ${most} connections`);
  memory.end();
  await (await load).over();
  parked.close();
  await deserted(server);
});

test('slowhttptest: slow heads, slow bodies, slow readers', { skip: !which('slowhttptest') && 'slowhttptest is not here' }, async (t) => {
  const n = scaled(800, 100);
  const limits = { partial: 8 * MiB, history: 16 * MiB, connections: n + 100, channels: 100, waiters: 100 };
  const server = await inside(t, {
    'head-ms': 2000 * SLOW, 'body-ms': 2000 * SLOW, 'write-ms': 2000 * SLOW, 'partial-bytes-max': '8m', 'history-bytes': '16m',
    'connections-max': n + 100, 'channels-max': 100,
  }, { files: 'max' });
  const memory = memoryOf(server, `slowhttptest, ${n} connections`, limits);
  const beside = bystander(server);
  const url = (target) => ['-u', `http://127.0.0.1:${server.port}${target}`];
  for (const how of [
    ['-H', '-x', '24', ...url('/api/poll/slow')],
    ['-B', '-s', '8192', '-x', '24', '-t', 'POST', '-f', 'application/json', ...url('/api/publish/slow')],
    ['-X', '-w', '512', '-y', '1024', '-n', '1', '-z', '32', '-k', '3', ...url('/test/page?n=1000000')],
  ]) {
    const load = run([which('slowhttptest'), ...how, '-c', `${n}`, '-r', `${n}`, '-i', '1', '-l', '3', '-p', `${3 * SLOW}`]);
    t.after(() => load.end());
    await within(load.ended, 60_000 * SLOW, how[0]);
    const said = load.stdout.replace(/\x1b\[[0-9;]*m/g, '');
    const available = [...said.matchAll(/service available: *(\S+)/g)].map(([, word]) => word);
    assert.ok(available.length > 0, said);
    assert.ok(available.every((word) => word === 'YES'), `${how[0]}: ${said.slice(-1500)}`);
  }
  await beside.end('slowhttptest');
  memory.end();
  await deserted(server);
});

/* ---- names ------------------------------------------------------------- */

/* Ten times `n` names; how much of the server's time each block took, and what
   it answered. */
async function names(t, server, n, how) {
  const blocks = [];
  for (let block = 0; block < 10; block += 1) {
    const before = cpuMs(server.pid);
    const load = await attack(t, server, 'names', n, { size: 1 + block * n, target: how });
    const { statuses, slowest_ms } = await load.counts();
    blocks.push({ ms: cpuMs(server.pid) - before, statuses, slowest_ms });
    await load.over();
  }
  return blocks;
}

/* What the last names cost is what the first ones did. The clock has ticks of
   10 ms; and making room costs a little more than having it. */
function flat(blocks, what) {
  const ms = blocks.map((block) => block.ms);
  const [first, last] = [ms.slice(0, 3), ms.slice(-3)].map((some) => some.reduce((a, b) => a + b));
  figures.push(`time, ${what}: ${ms.join(' ')} ms; the slowest 64 answers ${Math.max(...blocks.map((b) => b.slowest_ms))} ms`);
  if (PASS === 'plain') assert.ok(last <= first * 4 + 60, `${what}: ${ms}`);
}

for (const how of ['random', 'alike']) {
  test(`100,000 ${how} names, polled: as many channels as may be`, async (t) => {
    const n = scaled(10_000, 200);
    const limits = { partial: MiB, history: MiB, connections: 100, channels: 2 * n, waiters: 100 };
    const server = await inside(t, {
      'channels-max': 2 * n, 'partial-bytes-max': '1m', 'history-bytes': '1m', 'connections-max': 100,
    });
    const memory = memoryOf(server, `${10 * n} ${how} names, polled, channels_max ${2 * n}`, limits);
    const beside = bystander(server);
    const blocks = await names(t, server, n, `poll-${how}`);
    for (const { statuses } of blocks) assert.deepEqual(statuses, { 200: n });
    assert.equal((await server.stats()).channels, 2 * n);
    await beside.end(`${10 * n} ${how} names, polled`);
    memory.end();
    flat(blocks, `${10 * n} ${how} names, polled`);
    await deserted(server);
  });

  test(`100,000 ${how} names, published to: as many channels as may be, and then again`, async (t) => {
    const n = scaled(10_000, 200);
    const limits = { partial: MiB, history: 16 * MiB, connections: 100, channels: 2 * n, waiters: 100 };
    const server = await inside(t, {
      'channels-max': 2 * n, 'partial-bytes-max': '1m', 'history-bytes': '16m', 'connections-max': 100, 'history-age-ms': 5000 * SLOW,
    });
    const memory = memoryOf(server, `${10 * n} ${how} names, published to, channels_max ${2 * n}`, limits);
    const beside = bystander(server);
    await until(async () => (await server.stats()).channels === 1, 'the bystander\'s channel');
    const blocks = await names(t, server, n, `publish-${how}`);
    const total = {};
    for (const { statuses } of blocks)
      for (const [status, times] of Object.entries(statuses)) total[status] = (total[status] ?? 0) + times;
    /* None of those that hold a message gives way, unless it is too old. */
    assert.deepEqual(Object.keys(total), ['200', '503']);
    assert.equal(total[200] + total[503], 10 * n);
    assert.ok(total[200] >= 2 * n - 1, `${total[200]} were published`);
    assert.ok((await server.stats()).channels <= 2 * n);
    await beside.end(`${10 * n} ${how} names, published to`);
    memory.end();
    flat(blocks.slice(3), `${10 * n} ${how} names, published to, the refused`);
    await until(async () => (await server.publish('another', {})).status === 200, 'there to be room again', 30_000 * SLOW);
    await until(async () => (await server.stats()).messages <= 2, 'the messages to go', 30_000 * SLOW);
    await deserted(server);
  });
}

/* ---- who they say they are --------------------------------------------- */

test('X-Client-ID, another for each poll: the address has a ceiling', async (t) => {
  const most = clients(3000, 1100);
  const limits = { partial: MiB, history: MiB, connections: most + 100, channels: 100, waiters: 1100 };
  const server = await inside(t, {
    'partial-bytes-max': '1m', 'history-bytes': '1m', 'connections-max': most + 100, 'channels-max': 100,
    'connections-per-address': 'unlimited',
  }, { files: 'max' });
  const memory = memoryOf(server, `${most} polls of one address, each its own X-Client-ID`, limits);
  const beside = bystander(server);
  const load = await attack(t, server, 'polls', most, { per: most, target: 'room' });
  const { statuses } = await load.until(({ statuses: s }) => s[429] === most - 1024, 'the others to be refused');
  assert.deepEqual(statuses, { 429: most - 1024 });
  await until(async () => [1024, 1025].includes((await server.stats()).waiters), 'as many as one address may have');
  await beside.end(`${most} polls of one address`);
  memory.end();
  await load.over();
  await deserted(server);
});

test('X-Forwarded-For, another for each poll: only a proxy of ours is believed', async (t) => {
  const server = await inside(t, { 'waiters-per-address': 20, 'waiters-per-client': 5, 'trusted-proxies': '127.0.0.2,10.0.0.0/8' });
  const beside = bystander(server);
  const polls = async (from, n, headers) => {
    const raws = await Promise.all(Array.from({ length: n }, () => server.raw({ from })));
    raws.forEach((raw, i) => raw.send(get('/api/poll/room?last_id=now&timeout=60', headers(i))));
    return raws;
  };
  const refused = async (raws, n) => {
    let count = 0;
    await until(async () => {
      count = raws.filter((raw) => raw.total > 0).length;
      return count >= n;
    }, `${n} refusals`);
    await sleep(100);
    assert.equal(raws.filter((raw) => raw.total > 0).length, n);
    for (const raw of raws.filter((one) => one.total > 0)) (await raw.answer()).refuses(429);
    for (const raw of raws) raw.reset();
    await until(async () => (await server.stats()).waiters <= 1, 'them to be gone');
  };
  /* A peer of no trust stays one client, at one address. */
  const names6 = (i) => `6.6.${i}.1`;
  await refused(await polls('127.0.0.5', 40, (i) => ({ 'X-Forwarded-For': names6(i) })), 35);
  await refused(await polls('127.0.0.5', 40, (i) => ({ 'X-Forwarded-For': names6(i), 'X-Client-ID': `c${i}` })), 20);
  await refused(await polls('127.0.0.5', 40, (i) => ({ 'X-Real-IP': names6(i), 'X-Client-ID': `c${i}` })), 20);
  /* What a client forges stands left of what the proxy adds, and is not read. */
  await refused(await polls('127.0.0.2', 40, (i) => ({ 'X-Forwarded-For': `${names6(i)}, 7.7.7.7, 10.0.0.${i}`, 'X-Client-ID': `c${i}` })), 20);
  await refused(await polls('127.0.0.2', 40, (i) => ({ 'X-Forwarded-For': `${names6(i)}, 7.7.7.7` })), 35);
  /* Nor is what cannot be read, nor anything to its left. */
  await refused(await polls('127.0.0.2', 40, (i) => ({ 'X-Forwarded-For': `${names6(i)}, nobody`, 'X-Client-ID': `c${i}` })), 20);
  /* Forty clients behind the proxy are forty. */
  await refused(await polls('127.0.0.2', 40, (i) => ({ 'X-Forwarded-For': names6(i) })), 0);
  await beside.end('forged addresses');
});

test('a foreign Origin, a foreign Host: neither reads nor publishes', async (t) => {
  const server = await inside(t);
  const beside = bystander(server);
  const evil = 'evil.example';
  for (let turn = 0; turn < scaled(50, 5); turn += 1) {
    for (const origin of ['http://evil.example', 'https://evil.example', 'null', `http://127.0.0.1.${evil}`, `http://${evil}:${server.port}`])
      checkHeaders((await server.publish('room', {}, { Origin: origin })).refuses(403));
    for (const host of [evil, `${evil}:${server.port}`, `localhost.${evil}`, `127.0.0.1.${evil}`]) {
      checkHeaders((await server.publish('room', {}, { Host: host })).refuses(421));
      checkHeaders((await server.publish('room', {}, { Host: host, Origin: `http://${host}` })).refuses(421));
      checkHeaders((await server.poll('room', { timeout: 0 }, { Host: host })).refuses(421));
    }
    /* What a page may send without asking first is not published either. */
    for (const type of ['text/plain', 'application/x-www-form-urlencoded', 'multipart/form-data; boundary=x'])
      (await server.publish('room', {}, { 'Content-Type': type })).refuses(415);
  }
  await beside.end('foreign pages');
  assert.deepEqual((await server.ask('room', { timeout: 0 })).messages, []);
});

/* ---- everybody at once ------------------------------------------------- */

test('19,000 clients, cut off, are there again at once', async (t) => {
  const most = clients(19_000, 200);
  if (most < scaled(19_000, 200)) t.diagnostic(`only ${most}: ulimit -Hn is ${files}`);
  const limits = { connections: most + 300, waiters: most + 100, partial: 8 * MiB, history: 8 * MiB, channels: 100 };
  const options = {
    'waiters-per-channel': 'unlimited', 'partial-bytes-max': '8m', 'history-bytes': '8m', 'connections-max': most + 300,
    'channels-max': 100, 'drain-ms': 1000,
  };
  const first = await inside(t, options, { files: 'max' });
  const parking = memoryOf(first, `${most} parked polls, each its own client`, limits);
  const load = await attack(t, first, 'polls', most, { target: 'room' });
  await until(async () => (await first.stats()).waiters === most, `${most} to be parked`, 60_000 * SLOW);
  assert.equal((await first.say('room', { text: 'one' })).waiters, most);
  await load.until(({ messages }) => messages === most, 'all to have it');
  await until(async () => (await first.stats()).waiters === most, 'all to be parked again', 60_000 * SLOW);
  parking.end();
  await first.stop({ ms: 30_000 * SLOW });

  const second = await inside(t, { ...options, port: first.port }, { files: 'max' });
  const memory = memoryOf(second, `${most} clients, there again at once`, limits);
  const beside = bystander(second);
  const waiting = async () => (await second.stats()).waiters;
  await until(async () => (await waiting()) >= most, `${most} to be parked again`, 60_000 * SLOW);
  await beside.end(`${most} clients that are there again`);
  await until(async () => (await waiting()) === most, 'them alone to be left');
  const told = await load.counts();
  assert.equal(told.timeouts, most, 'each was told its own cursor');
  assert.equal(told.resets, most, 'and that the channel is another one');
  assert.deepEqual(Object.keys(told.statuses), ['200']);
  const { messages } = told;
  await second.say('room', { text: 'two' });
  await load.until((now) => now.messages === messages + most, 'all to have the second');
  memory.end();
  await load.over();
  await deserted(second);
});

/* ---- descriptors ------------------------------------------------------- */

test('out of descriptors: the others are served, newcomers told, nothing spins', async (t) => {
  const server = await inside(t, { 'waiters-per-client': 'unlimited', 'head-ms': 60_000, 'idle-ms': 60_000 }, { files: 80 });
  const parked = await server.park('room', { last_id: 'now', timeout: 60 });
  const memory = memoryOf(server, 'no descriptors left', { connections: 100, waiters: 100, channels: 100, partial: MiB, history: MiB });
  const open = await server.raw();
  open.send(get('/api/poll/x?timeout=0'));
  assert.equal((await open.answer()).status, 200);
  const crowd = await Promise.all(Array.from({ length: 300 }, () => server.raw()));
  await until(() => crowd.filter((raw) => raw.total > 0 && raw.state !== 'open').length >= 200, 'the rest to be turned away');
  const away = crowd.filter((raw) => raw.total > 0);
  for (const raw of away) {
    (await raw.answer()).refuses(503, 'Server at capacity');
    await raw.ended();
  }
  const stay = crowd.filter((raw) => raw.state === 'open');
  assert.ok(stay.length > 40 && stay.length < 80, `${stay.length} stay`);
  /* A newcomer every now and then, and still nothing spins. */
  const ms = await cpuOver(server, 1000);
  assert.ok(ms <= 100 * SLOW, `${ms} ms of CPU in an idle second`);
  figures.push(`time, no descriptors left: ${ms} ms of CPU in a second`);
  for (let n = 1; n <= 20; n += 1) {
    open.send(post('/api/publish/beside', JSON.stringify({ n })));
    assert.equal((await open.answer()).status, 200);
    open.send(get('/api/poll/beside?timeout=0&limit=1000'));
    assert.equal((await open.answer()).json.count, n);
  }
  const late = await server.raw();
  (await late.answer()).refuses(503, 'Server at capacity');
  open.send(post('/api/publish/room', '{}'));
  assert.equal((await open.answer()).json.waiters, 1);
  assert.equal((await parked.answer()).json.count, 1);
  memory.end();

  for (const raw of [...stay, ...away]) raw.close();
  await until(async () => (await server.stats()).connections <= 4, 'the descriptors to be back');
  const beside = bystander(server);
  await sleep(300);
  await beside.end('descriptors that are there again');
  for (const raw of await Promise.all(Array.from({ length: 40 }, () => server.raw()))) {
    raw.send(get('/api/poll/x?timeout=0'));
    assert.equal((await raw.answer()).status, 200);
    raw.close();
  }
});

test('not even a descriptor in reserve: the listener rests, and comes back', {
  skip: (!which('prlimit') && 'prlimit is not here') || (WRAP.length > 0 && 'it would be the wrapper\'s'),
}, async (t) => {
  const server = await inside(t, { 'waiters-per-client': 'unlimited' }, { files: 200 });
  const limit = (n) => execFileSync(which('prlimit'), ['--pid', server.pid, `--nofile=${n}:200`].map(String));
  const parked = await server.park('room', { last_id: 'now', timeout: 60 });
  const open = await server.raw();
  open.send(get('/api/poll/x?timeout=0'));
  assert.equal((await open.answer()).status, 200);
  limit(4);
  const waiting = await Promise.all(Array.from({ length: 50 }, () => server.raw()));
  for (const raw of waiting) raw.send(get('/api/poll/x?timeout=0'));
  await sleep(100);
  const ms = await cpuOver(server, 1000);
  assert.ok(ms <= 100 * SLOW, `${ms} ms of CPU in a second of rest`);
  figures.push(`time, the listener rests: ${ms} ms of CPU in a second`);
  open.send(post('/api/publish/room', '{}'));
  assert.equal((await open.answer()).json.waiters, 1, 'who is there is served');
  assert.equal((await parked.answer()).json.count, 1);
  limit(200);
  for (const raw of waiting) assert.ok([200, 503].includes((await raw.answer()).status));
  const beside = bystander(server);
  await sleep(300);
  await beside.end('a listener that has rested');
  limit(4);                             /* and again, as if nothing had been */
  const late = await server.raw();
  late.send(get('/api/poll/x?timeout=0'));
  await sleep(600);
  limit(200);
  assert.ok([200, 503].includes((await late.answer()).status));
});

/* ---- inside ------------------------------------------------------------ */

/* Bytes of every kind, and what a client might hope to smuggle. */
const wild = [
  ...Array.from({ length: 256 }, (_, byte) => Buffer.from([0x61, byte, 0x62])),
  ...['', 'plain', 'a\r\nX-Evil: 1', 'a\nX-Evil: 1', 'a\rX-Evil: 1', 'a\0b', 'a\r\n\r\n<html>', '\r\n', '\n', '%0d%0aX-Evil: 1',
    'a\u2028b', '\ud83d\ude00', 'a\x1b[31mred', 'x'.repeat(900)].map((text) => Buffer.from(text)),
];

/* An answer's fields and text, bytes above 0x7f and all; each line of its head
   is one that this server writes, and only once. */
async function strictly(raw) {
  const end = await raw.expect(() => { const at = raw.got.indexOf('\r\n\r\n'); return at < 0 ? null : at; }, 10_000 * SLOW, 'a head');
  const lines = raw.got.subarray(0, end).toString('latin1').split('\r\n').slice(1);
  const fields = {};
  for (const line of lines) {
    const [, name, value] = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\t\x20-\x7e\x80-\xff]*)$/.exec(line) ?? assert.fail(JSON.stringify(line));
    assert.ok(!(name in fields), line);
    fields[name] = value;
  }
  const size = Number(fields['Content-Length']);
  await raw.bytes(end + 4 + size);
  const text = raw.got.subarray(end + 4, end + 4 + size).toString('utf8');
  raw.got = raw.got.subarray(end + 4 + size);
  return { fields, text };
}

test('a reply is not split, whatever a handler passes on', async (t) => {
  const server = await inside(t);
  const raw = await server.raw();
  const ask = (target, body) => {
    raw.send(Buffer.concat([Buffer.from(`POST ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: ${body.length}\r\n\r\n`), body]));
    return strictly(raw);
  };
  const ours = ['Date', 'Content-Type', 'Content-Length', 'Cache-Control', 'X-Content-Type-Options'];
  for (const body of wild) {
    const what = JSON.stringify(body.toString('latin1'));
    const bad = body.some((byte) => (byte < 0x20 && byte !== 9) || byte === 0x7f);
    const named = await ask('/header', body);
    const { value, name } = JSON.parse(named.text);
    assert.equal(value === 0, !bad, what);
    assert.equal(named.fields['X-Value'], bad ? undefined : body.toString('latin1'), what);
    const theirs = Object.keys(named.fields).filter((field) => !ours.includes(field) && field !== 'X-Value');
    /* A name ends at its NUL, since it is a C string. */
    const asName = body.toString('latin1').split('\0')[0];
    assert.equal(name === 0, /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(asName), what);
    assert.equal(theirs.length, name === 0 ? 1 : 0, what);
    const { text } = await ask('/type', body);
    const asType = body.subarray(0, asName.length);
    assert.equal(text === 'refused', asType.some((byte) => (byte < 0x20 && byte !== 9) || byte === 0x7f), what);
    const error = await ask('/error', body);
    assert.deepEqual(Object.keys(error.fields).sort(), [...ours].sort());
    assert.deepEqual(Object.keys(JSON.parse(error.text)), ['error'], what);
  }
});

test('the log stays printable, and says nothing that a client has said, but for a Host', async (t) => {
  const server = await inside(t, { 'publish-token': 'sesame', 'connections-max': 20, 'channels-max': 20 });
  const secret = 'Zx81-said-by-a-client';
  const host = 'Zx82-said-as-a-host';
  const beside = bystander(server, { headers: { Authorization: 'Bearer sesame' } });
  for (const bytes of wild) {
    await Promise.all([
      ['', '\r\n\r\n'],
      ['GET /', ' HTTP/1.1\r\nHost: localhost\r\n\r\n'],
      ['GET /api/poll/', '?timeout=0 HTTP/1.1\r\nHost: localhost\r\n\r\n'],
      ['GET /api/poll/a?last_id=', ' HTTP/1.1\r\nHost: localhost\r\n\r\n'],
      ['GET /api/poll/a?timeout=0 HTTP/1.1\r\nHost: ', '\r\n\r\n', host],
      ['GET /api/poll/a?timeout=0 HTTP/1.1\r\nHost: localhost\r\nX-Client-ID: ', '\r\n\r\n'],
      ['POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ', '\r\n\r\n'],
      ['POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n', ''],
    ].map(async ([before, behind, said = secret]) => {
      const raw = await server.raw();
      raw.finish(Buffer.concat([Buffer.from(before + said), bytes, Buffer.from(behind)]));
      await until(() => raw.state !== 'open', 'the end');
      raw.close();
    }));
  }
  await beside.end('nonsense of every kind');
  server.letGo();
  await server.stop();
  const lines = server.process.stdout.split('\n').slice(1, -1);
  assert.ok(lines.some((line) => line.startsWith('log ')), 'it has a log');
  for (const line of lines) assert.match(line, /^log [0-2] [ -~]+$/);
  assert.ok(!server.process.stdout.includes(secret));
  const hosts = lines.filter((line) => line.includes(host));
  assert.ok(hosts.length > 0, 'a Host that is not served is named');
  for (const line of hosts) assert.match(line, /^log 1 421 Host not served here, [!-~]+ is not in hosts: /);
});

test('children of one process never draw the same epoch', async () => {
  for (let turn = 0; turn < 3; turn += 1) {
    const all = run([helper('abuse-inside'), 'fork']);
    await within(all.ended, 20_000 * SLOW, 'the children');
    assert.deepEqual([all.code, all.stderr], [0, '']);
    const ids = all.stdout.trim().split('\n');
    assert.equal(ids.length, 17 * 3);
    for (const id of ids) assert.match(id, /^[0-9a-f]{16}-1$/);
    assert.equal(new Set(ids).size, ids.length);
  }
});

test('comparing a token takes the same instructions, wherever it differs', {
  skip: !which('valgrind') && 'valgrind is not here',
}, async () => {
  const plain = path.join(path.dirname(LIVE), 'abuse-inside');        /* valgrind does not run a sanitizer's */
  const token = '0123456789abcdef0123456789abcdef';
  const counts = [];
  for (const given of [token, `x${token.slice(1)}`, `${token.slice(0, -1)}x`]) {
    const counted = run([which('valgrind'), '--tool=callgrind', '--callgrind-out-file=/dev/null', '--toggle-collect=compare',
      plain, 'compare', given, token]);
    await within(counted.ended, 60_000, 'valgrind');
    assert.equal(counted.stdout, given === token ? 'equal\n' : 'different\n');
    const found = /Collected : (\d+)/.exec(counted.stderr);
    assert.ok(found, counted.stderr);
    counts.push(Number(found[1]));
  }
  assert.ok(counts[0] > 100, `${counts}`);
  assert.equal(new Set(counts).size, 1, `${counts}`);
});
