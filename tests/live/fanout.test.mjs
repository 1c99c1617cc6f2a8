/* One channel, very many polls: every delivery exactly once and in order. */

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { test } from 'node:test';
import { FANOUT, SLOW, live, run, scaled, until, within } from './harness.mjs';

/* The default limits of a server suffice for 10,000 polls: they are 10,000
   clients at 20 addresses, and the channel is exactly at its capacity. */
async function fanout(t, polls, publishes, seconds, ...more) {
  const server = await live(t, {}, { files: 'max' });
  const words = [FANOUT, server.port, 'fan', polls, publishes, seconds, ...more].map(String);
  const load = run(words);
  t.after(() => load.end());
  await until(() => load.stdout.startsWith('ready\n') || load.code !== undefined, 'all polls to be sent', 60_000);
  assert.equal(load.code, undefined, load.stderr);
  await server.waiters(polls);
  const { history_bytes, ...before } = await server.stats();
  assert.equal(before.refused, 0);
  load.child.stdin.write('go\n');
  await within(load.ended, (seconds + 10) * 1000, 'the load client');
  assert.equal(load.stderr, '');
  assert.equal(load.code, 0, load.stdout);
  const counts = JSON.parse(load.stdout.slice(6));
  assert.equal(counts.deliveries, polls * publishes);
  assert.equal(counts.errors, 0);
  t.diagnostic(`${counts.deliveries} deliveries in ${counts.replies} replies, ${counts.ms} ms`);

  await server.waiters(0);
  const after = await server.stats();
  assert.equal(after.delivered, polls * publishes);
  assert.equal(after.resets, 0);
  assert.equal(after.refused, 0);
  assert.equal(after.pinned_bytes, 0);
  return counts;
}

/* A process may have this many descriptors here. */
const files = Number(execFileSync('sh', ['-c', 'ulimit -Hn'], { encoding: 'utf8' })) || Infinity;
const most = Math.min(10_000, files - 200);

test('10,000 polls, 100 publishes: 1,000,000 deliveries', async (t) => {
  const polls = Math.min(most, scaled(10_000, 200));
  if (polls < scaled(10_000, 200)) t.diagnostic(`only ${polls}: ulimit -Hn is ${files}`);
  const counts = await fanout(t, polls, 100, 120 * SLOW);
  assert.ok(counts.woken > counts.polls, `${counts.woken} polls were parked when a message came`);
});

test('publishing does not wait for the readers', async (t) => {
  await fanout(t, Math.min(most, scaled(1_000, 50)), 300, 60 * SLOW, 'free');
});
