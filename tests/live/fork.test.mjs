/* The host has children, and a child has copies of all descriptors: a worker
   that was forked, or any program between its fork and its exec. What is closed
   must then be over all the same: for who was connected, for the poller, and
   for the port. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { attack, bystander, cpuOver, figures, helper } from './attack.mjs';
import { SLOW, Server, atEnd, get, scaled, sleep, until, within } from './harness.mjs';

const FREE = { 'waiters-per-client': 'unlimited', 'head-ms': 60_000, 'idle-ms': 60_000 };

async function forking(t, options) {
  const server = await Server.start(helper('fork'), options, { files: 'max' });
  atEnd(t, () => server.stop());
  return server;
}

/* A child that holds on to everything, until its end here. */
async function child(t, server) {
  const answer = await server.request('POST', '/hold', { headers: { 'Content-Length': 0 } });
  assert.equal(answer.status, 200, answer.text);
  const pid = answer.json;
  const end = () => { try { process.kill(pid, 'SIGKILL'); } catch (error) { assert.equal(error.code, 'ESRCH'); } };
  atEnd(t, end);
  return { pid, end };
}

/* Connections of 20 to an address, each with `bytes` on its way. */
async function crowd(server, n, bytes) {
  const raws = [];
  for (let i = 0; i < n; i += 1) raws.push(server.raw({ from: `127.0.1.${1 + Math.floor(i / 20)}` }));
  return (await Promise.all(raws)).map((raw) => raw.send(bytes));
}

const connections = (server, n) => until(async () => (await server.stats()).connections === n, `${n} connections`);

for (const loops of [1, 4]) {
  test(`what is closed costs nothing while a child lives, and is nobody else's: ${loops} loops`, async (t) => {
    const server = await forking(t, { ...FREE, loops });
    const n = 300 * loops;              /* of each loop more than a slab chunk has */
    const first = await crowd(server, n, get('/api/poll/room?timeout=0'));
    for (const raw of first) assert.equal((await raw.answer()).status, 200);
    await child(t, server);
    for (const [i, raw] of first.entries()) if (i % 2) raw.close(); else raw.reset();
    await connections(server, 1);
    const ms = await cpuOver(server, 1000);
    figures.push(`time, ${n} closed connections that a child has, ${loops} loops: ${ms} ms of CPU in a second`);
    assert.ok(ms <= 60 * SLOW, `${ms} ms of CPU in an idle second`);

    /* Records that were given back are others' now, and stay theirs. */
    const second = await crowd(server, n, get('/api/poll/room?last_id=now&timeout=60'));
    await server.waiters(n);
    await sleep(200);
    assert.equal((await server.say('room', {})).waiters, n);
    for (const raw of second) assert.equal((await raw.answer()).json.count, 1);
  });

  test(`after lp_stop the port refuses at once and lp_run returns, though a child lives: ${loops} loops`, async (t) => {
    const drain = 1000 * SLOW;
    const server = await forking(t, { ...FREE, loops, 'drain-ms': drain });
    const parked = await crowd(server, 8, get('/api/poll/room?last_id=now&timeout=60'));
    await server.waiters(8);
    const idle = await server.raw();
    idle.send(get('/api/poll/room?timeout=0'));
    await idle.answer();
    await child(t, server);
    server.agent.destroy();

    const began = performance.now();
    server.process.child.kill('SIGTERM');
    const late = await Promise.all(Array.from({ length: 5 }, () => server.raw().catch(() => null)));
    await until(() => server.raw().then((raw) => { raw.close(); return false; }, () => true),
      'the port to refuse', 300 * SLOW);
    for (const raw of parked) {
      assert.equal((await raw.answer()).json.status, 'timeout');
      await raw.ended();
    }
    for (const raw of [idle, ...late]) if (raw) await raw.ended({ ms: drain + 1000 * SLOW });
    await until(() => server.process.stdout.includes('\nended\n'), 'the end', drain + 3000 * SLOW);
    await server.over();
    figures.push(`the end after lp_stop, while a child lives: ${(performance.now() - began).toFixed(0)} of ${drain} ms`);
    const log = server.process.stdout.split('\n').filter((line) => line.startsWith('log '));
    assert.ok(log.length < 10, `${log.length} lines of log, the last: ${log.at(-1)}`);

    /* The child lives still. */
    await assert.rejects(server.raw(), { code: 'ECONNREFUSED' });
    const next = await forking(t, { ...FREE, port: server.port });
    assert.equal((await next.poll('room', { timeout: 0 })).status, 200);
  });
}

test('who is closed hears of it at once while a child lives', async (t) => {
  const server = await forking(t, { 'idle-ms': 500 * SLOW, 'head-ms': 1000 * SLOW, 'write-ms': 1000 * SLOW, 'linger-ms': 300 });
  const idle = await server.raw();
  idle.send(get('/api/poll/room?timeout=0'));
  assert.equal((await idle.answer()).status, 200);
  const silent = await server.raw();
  const half = await server.park('room', { last_id: 'now', timeout: 60 });
  const slow = await server.raw();
  slow.pause().send(get('/test/page?n=20000000'));
  const wrong = await server.raw();
  await child(t, server);

  half.finish();
  await half.ended({ ms: 500 * SLOW });
  wrong.send('nonsense\r\n\r\n');
  assert.equal((await wrong.answer()).status, 400);
  await wrong.ended({ ms: 500 * SLOW });
  await idle.ended({ ms: 1500 * SLOW });
  await silent.ended({ ms: 2000 * SLOW });
  await sleep(1500 * SLOW);             /* the slow reader's time is up */
  slow.resume();
  await until(() => slow.state !== 'open', 'the slow reader to hear of its end', 3000 * SLOW);
});

/* If it goes wrong, what the server had to say comes first. */
async function heard(server, work) {
  try {
    await work();
  } catch (error) {
    await within(server.process.ended, 2000, 'its end').catch(() => {});
    assert.equal(server.process.stderr.slice(0, 3000), '', error.message);
    throw error;
  }
}

async function bursts(t, server, n) {
  const load = await attack(t, server, 'bursts', 800, { size: n, target: '/api/poll/room?timeout=0' });
  const { statuses } = await load.counts();
  assert.deepEqual(statuses, { 200: 800 * n });
  await load.over();
}

test('800 connections that come and go, while children do', async (t) => {
  const server = await forking(t, FREE);
  const n = scaled(10, 4);
  let over = false;
  let children = 0;
  const comeAndGo = async () => {
    for (; !over && children < 1000; children += 1) {
      const one = await child(t, server);
      await sleep(50);
      one.end();
    }
  };
  await heard(server, async () => {
    const beside = bystander(server);
    await Promise.all([bursts(t, server, n).finally(() => { over = true; }), comeAndGo()]);
    assert.ok(children >= 2, 'there were some');
    await beside.end(`${n} bursts of 800 connections and ${children} children`);
  });
});

test('800 connections that come and go, beside system() on another thread', async (t) => {
  const server = await forking(t, { ...FREE, programs: 'on' });
  const n = scaled(25, 5);
  await heard(server, async () => {
    const beside = bystander(server);
    await bursts(t, server, n);
    await beside.end(`${n} bursts of 800 connections and system()`);
  });
});
