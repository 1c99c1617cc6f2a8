/* What the tests share in which some mean no good: the load client, a
   well-behaved client beside it, and what a server costs meanwhile. */

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { after } from 'node:test';
import { FANOUT, LIVE, Reader, SLOW, Server, atEnd, cpuMs, run, sleep, until, within } from './harness.mjs';

const ABUSE = path.join(path.dirname(FANOUT), 'abuse');

/* A program of tests/live, built as the server under test is. */
export const helper = (name) => path.join(path.dirname(LIVE), `${name}${process.env.LONGPOLL_SUFFIX || ''}`);

/* A server that prints its log: no hook of it keeps a book that would grow
   with what comes. */
export async function inside(t, options, how) {
  const server = await Server.start(helper('abuse-inside'), options, how);
  atEnd(t, () => server.stop());
  return server;
}

/* What is printed when all tests of the file are over. */
export const figures = [];
after(() => { for (const line of figures) console.log(line); });

/* What a process has to itself, and its part of what it shares. */
export function pss(pid) {
  const found = /^Pss: *(\d+) kB$/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'));
  return Number(found[1]) * 1024;
}

/* CPU time that a server uses in so many milliseconds. */
export const cpuOver = async (server, ms) => {
  const before = cpuMs(server.pid);
  await sleep(ms);
  return cpuMs(server.pid) - before;
};

/* A well-behaved client: it polls, something is published, it has it; every
   fourth time on a connection of its own. */
export function bystander(server, { headers = {}, from = '127.0.0.77' } = {}) {
  const agent = new http.Agent({ keepAlive: true });
  const reader = new Reader('bystander', 'now');
  let over = false;
  let worst = 0;
  const turns = (async () => {
    for (let n = 1; !over || n <= 3; n += 1) {
      const how = { from, agent: n % 4 === 0 ? false : agent, ms: 15_000 * SLOW };
      const began = performance.now();
      const poll = server.ask('bystander', { last_id: reader.cursor, timeout: 20 }, headers, how);
      poll.catch(() => {});
      if (n % 2 === 0) await sleep(5);
      if (n === 1) await sleep(50);
      const said = await server.publish('bystander', { n }, headers, how);
      assert.equal(said.status, 200, said.text);
      reader.take(await poll);
      assert.deepEqual(reader.seen.get('bystander').map((message) => message.n), Array.from({ length: n }, (_, i) => i + 1));
      worst = Math.max(worst, performance.now() - began);
      await sleep(20);
    }
  })();
  turns.catch(() => {});
  return {
    async end(what) {
      over = true;
      try {
        await within(turns, 25_000 * SLOW, 'the bystander');
      } finally {
        agent.destroy();
      }
      assert.ok(worst < 10_000 * SLOW, `the slowest turn took ${worst} ms`);
      assert.deepEqual(reader.resets, []);
      figures.push(`beside ${what}: ${reader.replies} turns, the slowest ${worst.toFixed(0)} ms`);
    },
  };
}

/* The load client. `counts` asks it what has become of its connections. */
export async function attack(t, server, kind, count, { per = 500, size = 0, target = '/' } = {}) {
  const load = run([ABUSE, kind, server.port, count, per, size, target].map(String));
  atEnd(t, () => load.end());
  load.counts = async () => {
    const had = load.stdout.length;
    load.child.stdin.write('?\n');
    const line = await until(() => {
      assert.equal(load.code, undefined, load.stderr);
      const text = load.stdout.slice(had);
      return text.endsWith('}}\n') && text;
    }, 'the counts');
    return JSON.parse(line);
  };
  load.until = (ready, what, ms = 60_000 * SLOW) => until(async () => {
    const counts = await load.counts();
    if (ready(counts)) return counts;
    await sleep(100);
    return null;
  }, what, ms);
  load.over = async () => {
    load.child.stdin.end();
    await within(load.ended, 10_000 * SLOW, 'the load client');
    assert.deepEqual([load.code, load.stderr], [0, '']);
  };
  await until(() => load.stdout.startsWith('ready\n') || load.code !== undefined || server.process.code !== undefined,
    'all connections', 60_000 * SLOW);
  assert.equal(load.code, undefined, load.stderr);
  assert.equal(server.process.code, undefined, 'the server has ended');
  return load;
}

/* Nobody is there any more but who asks. */
export async function deserted(server) {
  server.agent.destroy();
  await until(async () => {
    const { connections, waiters, pinned_bytes } = await server.stats();
    return connections === 1 && waiters === 0 && pinned_bytes === 0;
  }, 'connections, waiters and pinned bytes to be back', 30_000 * SLOW);
}
