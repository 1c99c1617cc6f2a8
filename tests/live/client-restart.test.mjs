/* demo/client/longpoll.js against the real server, through its restarts.

   The server keeps its messages in memory, so each life of it has epochs of
   its own. The client must say so, once for each restart, and hand on all
   that was published in every life: SEQ has no holes, so a loss shows. Only
   what is published in the very moment of a stop may go down with the server,
   and even that never twice, and never out of order.

   LONGPOLL_SERVER names another server than build/server. */

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { once } from 'node:events';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LongPollingClient } from '../../demo/client/longpoll.js';

const SERVER = process.env.LONGPOLL_SERVER ??
  fileURLToPath(new URL('../../build/server', import.meta.url));
const skip = existsSync(SERVER) ? false : `no ${SERVER}: run make first`;

const CHANNELS = ['restart', 'a,b/ü'];
const STOPS = ['SIGTERM', 'SIGKILL', 'SIGTERM', 'SIGKILL', 'SIGKILL'];
const STEADY = 40;                  /* published in each life, all must come */
const STEP_MS = 15000;              /* the longest that any one step may take */

async function startServer(t, port) {
  const child = spawn(SERVER, ['--port', String(port), '--no-limits'],
    { stdio: ['ignore', 'pipe', 'inherit'] });
  t.after(() => child.kill('SIGKILL'));
  const gone = once(child, 'exit');
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text) => { out += text; });
  await until('the server listens', () => {
    assert.equal(child.exitCode, null, `the server ended: ${out}`);
    return out.includes('\n');
  });
  const url = /^listening on (http:\/\/.+:([0-9]+))$/.exec(out.split('\n')[0]);
  assert.ok(url, `first line: ${out}`);
  const stop = async (signal) => { child.kill(signal); await gone; };
  return { url: url[1], port: Number(url[2]), stop };
}

async function until(what, is) {
  const end = performance.now() + STEP_MS;
  while (!is()) {
    assert.ok(performance.now() < end, `${what}: not within ${STEP_MS} ms`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/* Publish until the server is gone; how many it acknowledged. */
async function publishToTheEnd(client, channel) {
  for (let n = 0; ; n++) {
    try {
      await client.publish(channel, { burst: n });
    } catch {
      return n;
    }
  }
}

/* One number per channel and epoch, counted from 1: no hole, nothing twice,
   nothing out of order, across all lives. */
function checkDense(got) {
  const last = new Map();
  for (const { id, channel } of got) {
    const [epoch, seq] = id.split('-');
    const life = `${channel} ${epoch}`;
    assert.equal(Number(seq), (last.get(life) ?? 0) + 1, `${channel} ${id}`);
    last.set(life, Number(seq));
  }
  return last;
}

for (const transport of ['poll', 'stream', 'auto'])
  test(`${transport}: through 5 restarts nothing is lost or doubled`,
    { skip, timeout: 120000 }, (t) => restarts(t, transport));

async function restarts(t, transport) {
  let server = await startServer(t, 0);
  const { port } = server;
  const client = new LongPollingClient(server.url, CHANNELS,
    { transport, timeout: 5000, retryDelay: 50, retryDelayMax: 200, limit: 7 });
  t.after(() => client.stop());
  const got = [];
  const resets = [];
  const acknowledged = new Set();
  let connected = 0;
  let lost = 0;
  client.on('message', (message) => got.push(message));
  client.on('reset', (reset) => resets.push(reset));
  client.on('connected', () => { connected++; });
  client.on('disconnected', () => { lost++; });
  const publish = async (data) => {
    const channel = CHANNELS[data.n % CHANNELS.length];
    const reply = await client.publish(channel, data);
    assert.equal(reply.status, 'published');
    acknowledged.add(`${channel} ${reply.message_id}`);
  };
  const allCame = () => {
    const came = new Set(got.map((m) => `${m.channel} ${m.id}`));
    return [...acknowledged].every((id) => came.has(id));
  };

  client.start();
  for (let life = 0; ; life++) {
    /* Half before the client is back, half once it is. */
    for (let n = 0; n < STEADY / 2; n++) await publish({ life, n });
    await until('connected again', () => client.state === 'connected');
    for (let n = STEADY / 2; n < STEADY; n++) await publish({ life, n });
    await until(`life ${life}: all messages`, allCame);
    checkDense(got);
    assert.equal(resets.length, life, 'one reset for each restart');
    if (life === STOPS.length) break;
    const before = lost;
    const burst = publishToTheEnd(client, CHANNELS[0]);
    await server.stop(STOPS[life]);
    await burst;
    await until('disconnected', () => lost > before);
    assert.notEqual(client.state, 'stopped', 'the client gave up');
    server = await startServer(t, port);
  }
  client.stop();

  for (const reset of resets)
    assert.deepEqual(reset, Object.fromEntries(
      CHANNELS.map((channel) => [channel, 'epoch'])));
  const lives = checkDense(got);
  assert.equal(lives.size, CHANNELS.length * (STOPS.length + 1));
  assert.ok(connected > STOPS.length);
  await server.stop('SIGTERM');
}
