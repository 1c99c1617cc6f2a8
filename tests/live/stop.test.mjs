/* The end of a server, and the lack of descriptors. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  SLOW, Server, DEMO, LIVE, checkHeaders, cpuMs, demo, get, live, pollTarget, post, sleep, until,
} from './harness.mjs';

const FREE = { 'waiters-per-client': 'unlimited' };

/* Tell a server to stop, and judge its end when it comes. */
function stopping(server, signal = 'SIGTERM') {
  const began = performance.now();
  server.process.child.kill(signal);
  const end = server.over().then(() => performance.now() - began);
  end.catch(() => {});                   /* told to whoever awaits it */
  return end;
}

test('parked polls are answered with their own cursor, spread over the drain', async () => {
  const drain = 1500 * SLOW;
  const server = await Server.start(LIVE, { ...FREE, 'drain-ms': drain });
  try {
    const rooms = [];
    const park = async (room, start) => {
      const { last_id, timestamp } = await server.ask(room, { last_id: 'now', timeout: 0 });
      rooms.push({ last_id, timestamp, raw: await server.park(room, { last_id: start ?? last_id, timeout: 60 }) });
    };
    for (let n = 1; n <= 7; n += 1) {
      await server.burst(`room${n}`, n);
      await park(`room${n}`, n % 2 ? 'now' : undefined);
    }
    for (let n = 1; n <= 20; n += 1) await park('room3', 'now');
    const idle = await server.raw();
    idle.send(get('/api/poll/room3?timeout=0'));
    assert.equal((await idle.answer()).status, 200);
    const fresh = await server.raw();
    server.agent.destroy();

    const began = performance.now();
    const end = stopping(server);
    const times = [];
    await Promise.all(rooms.map(async ({ raw, last_id, timestamp }) => {
      const answer = await raw.answer({ ms: drain + 5000 * SLOW });
      times.push(performance.now() - began);
      const reply = answer.json;
      assert.deepEqual(reply, { status: 'timeout', last_id, timestamp, count: 0, messages: [] });
      assert.equal(answer.headers.connection?.toLowerCase(), 'close');
      checkHeaders(answer);
      assert.equal(await raw.ended(), 'end');
    }));
    times.sort((a, b) => a - b);
    assert.ok(times.at(-1) < drain + 1000 * SLOW, `the last after ${times.at(-1)} ms`);
    assert.ok(times.at(-1) - times[0] > drain * 0.4, `from ${times[0]} to ${times.at(-1)} ms`);
    const middle = times.filter((ms) => ms > drain * 0.2 && ms < drain * 0.8).length;
    assert.ok(middle >= rooms.length * 0.25, `${middle} of ${rooms.length} in the middle`);
    await idle.ended({ ms: 5000 * SLOW });
    await fresh.ended({ ms: 5000 * SLOW });
    assert.ok(await end < drain + 3000 * SLOW, 'the end in time');
  } finally {
    await server.kill();
  }
});

test('while it drains nobody else is let in, and those that are here are served', async () => {
  const drain = 1000 * SLOW;
  const server = await Server.start(LIVE, { ...FREE, 'drain-ms': drain });
  try {
    const parked = [];
    for (let n = 0; n < 10; n += 1) parked.push(await server.park('room', { last_id: 'now', timeout: 60 }));
    const here = await server.raw();
    here.send(get('/api/poll/room?timeout=0'));
    await here.answer();
    server.agent.destroy();
    const end = stopping(server);
    await until(async () => {
      const late = await server.raw().catch(() => null);
      late?.close();
      return late === null;
    }, 'the listener to be closed', 2000 * SLOW);
    /* A request on a connection that is open still: answered, then closed. Its loop may hear of the
       end a moment after the one that has closed the listener. */
    for (let closing = false; here.state === 'open' && !closing;) {
      here.send(get('/api/poll/room?timeout=0'));
      const answer = await here.answer();
      assert.ok([200, 503].includes(answer.status), `${answer.status}`);
      closing = answer.headers.connection?.toLowerCase() === 'close';
      if (closing) await here.ended();
    }
    for (const raw of parked) assert.equal((await raw.answer()).json.status, 'timeout');
    assert.ok(await end < drain + 3000 * SLOW);
  } finally {
    await server.kill();
  }
});

test('connections that wait in the listener\'s queue are served before it closes', async () => {
  const server = await Server.start(LIVE, { ...FREE, 'drain-ms': 500 });
  try {
    server.process.child.kill('SIGSTOP');
    const queued = await Promise.all(Array.from({ length: 5 }, () => server.raw()));
    for (const raw of queued) raw.send(get('/api/poll/room?timeout=0'));
    await sleep(50);
    server.process.child.kill('SIGTERM');
    const end = stopping(server, 'SIGCONT');
    for (const raw of queued) assert.ok((await raw.answer()).status);
    await end;
  } finally {
    await server.kill();
  }
});

test('a reply that is being written is finished', async () => {
  /* of history-bytes one address may hold up an eighth */
  const server = await Server.start(LIVE, { ...FREE, 'drain-ms': 1000 * SLOW, 'history-bytes': '400m' });
  try {
    const raw = await server.raw();
    raw.pause();
    raw.send(get('/test/page?n=20000000'));
    await sleep(200 * SLOW);
    server.agent.destroy();
    const end = stopping(server);
    await sleep(100);
    raw.resume();
    assert.equal((await raw.answer()).text.length, 20_000_000);
    await end;
  } finally {
    await server.kill();
  }
});

test('with nobody there it ends at once, by either signal', async () => {
  for (const signal of ['SIGTERM', 'SIGINT']) {
    for (const binary of [DEMO, LIVE]) {
      const server = await Server.start(binary);
      assert.equal((await server.poll('room', { timeout: 0 })).status, 200);
      server.agent.destroy();
      await sleep(20);
      assert.ok(await stopping(server, signal) < 4000 * SLOW);
    }
  }
});

test('to stop twice is to stop once', async () => {
  const server = await Server.start(LIVE, { 'drain-ms': 500 });
  try {
    const parked = await server.park('room', { last_id: 'now', timeout: 60 });
    server.agent.destroy();
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGINT']) {
      server.process.child.kill(signal);
      await sleep(5);
    }
    const end = stopping(server);
    assert.equal((await parked.answer()).json.status, 'timeout');
    await end;
  } finally {
    await server.kill();
  }
});

test('the demo drains', async () => {
  const server = await Server.start(DEMO);
  try {
    const { last_id } = await server.ask('room', { last_id: 'now', timeout: 0 });
    const polls = [1, 2, 3].map(() => server.poll('room', { last_id: 'now', timeout: 60 }));
    await sleep(300 * SLOW);
    const end = stopping(server);
    for (const answer of await Promise.all(polls)) {
      assert.deepEqual([answer.json.status, answer.json.last_id], ['timeout', last_id]);
    }
    await end;
  } finally {
    await server.kill();
  }
});

test('the port is free again at once', async (t) => {
  const first = await live(t);
  await first.ask('room', { timeout: 0 });
  await first.stop();
  const second = await live(t, { port: first.port });
  assert.equal(second.port, first.port);
  assert.equal((await second.poll('room', { timeout: 0 })).status, 200);
  await assert.rejects(Server.start(LIVE, { port: first.port }), /did not start/);
});

test('more connections than descriptors: it rests, and serves again', async (t) => {
  const server = await demo(t, { 'no-limits': true }, { files: 64 });
  const parked = await server.raw();
  parked.send(get(pollTarget('early', { last_id: 'now', timeout: 60 })));
  const publisher = await server.raw();
  const publish = async (channel) => {
    publisher.send(post(`/api/publish/${channel}`));
    const answer = await publisher.answer();
    assert.equal(answer.status, 200, answer.text);
    return answer.json.waiters;
  };
  await publish('other');

  const crowd = await Promise.all(Array.from({ length: 300 }, () => server.raw().catch(() => null)));
  for (const raw of crowd) raw?.send(get(pollTarget('crowd', { last_id: 'now', timeout: 60 })));
  await sleep(300);
  const before = cpuMs(server.pid);
  await sleep(1000);
  const spent = cpuMs(server.pid) - before;
  assert.ok(spent <= 200, `${spent} ms of CPU in an idle second`);

  /* Those that are in are served meanwhile. */
  assert.equal(await publish('early'), 1);
  assert.equal((await parked.answer()).json.count, 1);
  const woken = await publish('crowd');
  assert.ok(woken >= 20 && woken < 64, `${woken} were parked`);

  for (const raw of crowd) raw?.close();
  await until(async () => {
    const raw = await server.raw().catch(() => null);
    if (!raw) return false;
    raw.send(get('/api/poll/room?timeout=0'));
    const answer = await raw.answer({ ms: 2000 }).catch(() => null);
    raw.close();
    return answer?.status === 200;
  }, 'it to serve again', 10_000 * SLOW);
  assert.equal(await publish('crowd'), 0);
  const again = await Promise.all(Array.from({ length: 20 }, () => server.raw()));
  for (const raw of again) {
    raw.send(get('/api/poll/other?timeout=0'));
    assert.equal((await raw.answer()).json.count, 1);
  }
});

test('crowds that come and go at the edge of the descriptors', async (t) => {
  const server = await live(t, FREE, { files: 48 });
  for (let turn = 0; turn < 5; turn += 1) {
    const crowd = await Promise.all(Array.from({ length: 80 }, () => server.raw().catch(() => null)));
    for (const [i, raw] of crowd.entries()) raw?.send(get(pollTarget(`room${i % 3}`, { last_id: 'now', timeout: 30 })));
    await sleep(50);
    for (const [i, raw] of crowd.entries()) if (i % 2) raw?.reset(); else raw?.close();
  }
  server.agent.destroy();
  await until(async () => {
    const answer = await server.request('GET', '/test/stats').catch(() => null);
    return answer?.status === 200 && answer.json.waiters === 0 && answer.json.connections <= 2;
  }, 'all to be gone');
  const parked = await server.park('room0', { last_id: 'now' });
  assert.equal((await server.say('room0', {})).waiters, 1);
  assert.equal((await parked.answer()).status, 200);
});
