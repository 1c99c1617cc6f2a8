/* Chaos: the load of a crowd on three instances while Redis, the network and
   the instances themselves fail. The last line is `N passed, N failed, N
   skipped`, the one before it the totals.

     node tests/live/chaos.mjs                all faults, a quarter of an hour
     node tests/live/chaos.mjs FAULT...       some, by their names
     node tests/live/chaos.mjs -l             lists them
       --share 0.2      of the full number of strikes
       --stop 15        seconds that a stopped Redis is stopped
       --patience 25    seconds in which all must be well after a strike
       --seed N         of what is random (SEED in the environment does it too)

   A fault is a world of its own and a number of strikes. A strike proves that
   it struck. After each a message on every channel must come to every client
   in time, and every message before it is judged (crowd.mjs). What nobody was
   told of is a failure, always: a message lost, one that came twice, one out
   of order, a poll without an answer. Beyond that each fault says what it may
   cost: `lossless` that no message was lost, even with a reset; `once` that
   none came again, even after one; `resets` how many each client is told for
   each of its channels. */

import assert from 'node:assert/strict';
import { SLOW, sleep, until, within } from './harness.mjs';
import { Crowd, SEED, chance } from './crowd.mjs';
import { Instance, Redis, Relay, instances, skip } from './redis.mjs';

const TIMEOUT_MS = 2000;                        /* redis_timeout_ms */

const args = process.argv.slice(2);
function option(name, fallback) {
  const at = args.indexOf(`--${name}`);
  return at < 0 ? fallback : Number(args.splice(at, 2)[1]);
}
const SHARE = option('share', 1);
const STOP_S = option('stop', 15);
const seed = option('seed', SEED);
/* It may wait for 10 s before it connects again, and then it takes its steps. */
const RECOVERY_MS = option('patience', 25) * 1000 * SLOW;

/* ---- a world ---------------------------------------------------------------- */

class World {
  endings = [];

  constructor(number) { this.dice = chance(seed * 1000 + number); }

  after(fn) { this.endings.push(fn); }          /* as a test of node's has it */

  async end() {
    await this.crowd?.finish();
    for (const fn of this.endings.reverse()) await fn();
  }

  /* `relays`: 'none', 'one' for all, or 'each'. */
  async begin({ redis = {}, relays = 'none', replica = false } = {}) {
    this.redis = await Redis.start(this, redis);
    if (replica) await this.addReplica(redis);
    let urls = this.redis.url;
    if (relays === 'one') {
      this.relay = await Relay.start(this, this.redis.port);
      urls = this.relay.url;
    }
    if (relays === 'each') {
      this.relays = [];
      for (let i = 0; i < 3; i += 1) this.relays.push(await Relay.start(this, this.redis.port));
      urls = (i) => this.relays[i].url;
    }
    this.urls = urls;
    this.instances = await instances(this, 3, urls, { 'redis-timeout-ms': TIMEOUT_MS });
    this.crowd = new Crowd(this.instances, {
      channels: 12, clients: 60, publishers: 6, spread: 3, pause: 8, seed: this.dice.below(2 ** 31),
      grace: 2 * TIMEOUT_MS + 6000 * SLOW,
      streams: process.env.LONGPOLL_INSTANCE ? 0 : 0.2,         /* a stand-in has none */
    });
    this.crowd.learnParents = () => this.learnParents();
    this.crowd.start();
    await this.crowd.publish();
    await this.settle();
  }

  /* A replica that follows the primary by way of a relay. */
  async addReplica(redis) {
    this.replica = await Redis.start(this, redis);
    this.link = await Relay.start(this, this.redis.port);
    await this.replica.follow(this.redis, this.link.port);
    await this.replica.inStep(this.redis);
  }

  /* What followed is the primary now, and the other follows it. */
  async swap() {
    [this.redis, this.replica] = [this.replica, this.redis];
    this.link.drop();
    this.link.mend();
    this.link.turn(this.redis.port);
  }

  async learnParents() {
    for (const book of this.crowd.books) {
      try {
        const [epoch, parent] = await this.redis.call('HMGET', await this.redis.key('h', book.name) ?? 'none', 'e', 'pe');
        if (epoch) book.parents.set(epoch, parent ?? '');
      } catch { /* of another type just now */ }
    }
  }

  get faults() { return this.crowd.ledger.faults; }

  async settle() {
    const ms = await this.crowd.barrier(RECOVERY_MS);
    this.slowest = Math.max(this.slowest ?? 0, ms);
    assert.deepEqual(this.faults, [], 'the promise');
    return ms;
  }

  /* Let nobody publish, and every client poll with the newest cursor. */
  async hush() {
    await this.crowd.hold();
    await this.settle();
  }

  /* How many resets each client was told for each channel. */
  resets() { return this.crowd.places.map(({ resets }) => resets.length); }

  /* Each has been told `n` more, no more and no fewer. */
  async told(before, n, what) {
    const more = () => this.resets().map((count, i) => count - before[i]);
    await until(() => more().every((count) => count >= n), `${what}: each to be told`, RECOVERY_MS).catch((error) => {
      throw new Error(`${error.message}: ${more()}`);
    });
    assert.deepEqual(more().filter((count) => count !== n), [], `${what}: resets of each client and channel`);
  }
}

/* ---- the strikes ------------------------------------------------------------- */

/* Do it so many times, with the load between, and judge after each. */
async function strikes(world, times, strike, { lossless = false, once = lossless, resets } = {}) {
  const { counts } = world.crowd.ledger;
  for (let n = 0; n < times; n += 1) {
    await sleep(20 + world.dice.below(300));
    const before = world.resets();
    const { flagged, repeats } = counts;
    await strike(n);
    await world.settle();
    if (resets !== undefined) await world.told(before, resets, `strike ${n + 1}`);
    if (lossless) assert.equal(counts.flagged, flagged, `strike ${n + 1}: messages lost behind a reset`);
    if (once) assert.equal(counts.repeats, repeats, `strike ${n + 1}: messages that came again after a reset`);
    world.struck = n + 1;
  }
}

/* Kill Redis and start it again: another process, and another identity. */
async function killRedis(redis) {
  const before = { run: (await redis.info('server')).run_id, identity: await redis.identity() };
  await redis.kill();
  await sleep(50);
  await redis.restart();
  const after = { run: (await redis.info('server')).run_id, identity: await redis.identity() };
  assert.notEqual(after.run, before.run);
  assert.notEqual(after.identity, before.identity);
}

/* The replica no longer hears of the primary, which goes on. */
async function lag(world) {
  const { redis, replica, link, crowd } = world;
  await replica.inStep(redis);
  link.cut();
  const { sent } = crowd;
  await until(() => crowd.sent > sent + 40, 'some load');
  const [primary, behind] = await Promise.all([redis.info('replication'), replica.info('replication')]);
  assert.ok(Number(primary.master_repl_offset) > Number(behind.slave_repl_offset), 'the replica lags');
}

/* Every instance says so in its log, from here on. */
function heard(world, pattern) {
  const from = world.instances.map(({ said }) => said.length);
  return () => until(() => world.instances.every(({ said }, i) => pattern.test(said.slice(from[i]))),
    `each instance to log ${pattern}`, RECOVERY_MS);
}

/* A publish by way of one instance; its status. */
async function publish(instance, channel) {
  const answer = await instance.server.publish(channel, { outside: true }, {}, { ms: 3 * TIMEOUT_MS + 5000 * SLOW });
  return answer.status;
}

const WAYS = [['up'], ['down'], ['up', 'down']];

const faults = {
  'kill-persistent': { times: 50, async run(world, times) {
    await world.begin({ redis: { persist: true } });
    await strikes(world, times, async (n) => {
      if (n % 2 === 0) return killRedis(world.redis);
      /* Every poll is parked at the end of its channel: it is told, once, and
         by an empty reply. */
      await world.hush();
      const before = world.resets();
      await killRedis(world.redis);
      await world.told(before, 1, 'while nobody publishes');
      const newest = world.crowd.places.map(({ resets }) => resets.at(-1).count);
      assert.deepEqual(newest.filter((count) => count !== 0), [], 'empty');
      return world.crowd.publish();
    }, { lossless: true, resets: 1 });
  } },

  'kill-memory': { times: 50, async run(world, times) {
    await world.begin();
    await strikes(world, times, () => killRedis(world.redis), { resets: 1 });
  } },

  subscribers: { times: 100, async run(world, times) {
    await world.begin();
    await strikes(world, times, async () => {
      assert.ok(await world.redis.killSubscribers() > 0, 'subscribers were cut off');
    }, { lossless: true, resets: 0 });
  } },

  stop: { times: 20, async run(world, times) {
    await world.begin();
    await strikes(world, times, async () => {
      const down = heard(world, /redis.*down/i);
      world.redis.pause();
      try {
        await sleep(STOP_S * 1000);
        await down();
      } finally {
        world.redis.resume();
      }
    }, { lossless: true, resets: 0 });
  } },

  promotion: { times: 20, async run(world, times) {
    await world.begin({ relays: 'one', replica: true });
    await strikes(world, times, async () => {
      const { redis, replica, relay } = world;
      const identity = await replica.identity();
      await lag(world);
      await redis.kill();                       /* fenced */
      await replica.follow(null);
      assert.notEqual(await replica.identity(), identity);
      relay.turn(replica.port);
      await world.swap();
      await redis.restart();                    /* without anything, as a replica of the other */
      await redis.follow(replica, world.link.port);
      await redis.inStep(replica);
    }, { once: true, resets: 1 });
  } },

  demotion: { times: 20, async run(world, times) {
    await world.begin({ replica: true });
    let living = 0;
    await strikes(world, times, async () => {
      const { redis, replica, link, crowd } = world;
      const identity = await redis.identity();
      await lag(world);
      await crowd.hold();                       /* a publish would end its connection: READONLY */
      const before = await redis.clients();
      await replica.follow(null);
      await redis.follow(replica);
      await redis.inStep(replica);
      await redis.follow(null);
      const after = await redis.clients();
      living += before.filter((id) => after.includes(id)).length;
      assert.notEqual(await redis.identity(), identity);
      link.drop();
      link.mend();
      await replica.follow(redis, link.port);
      await replica.inStep(redis);
      await crowd.publish();
    }, { once: true, resets: 1 });
    world.more = `${living} connections lived through it`;
    assert.ok(living > 0, 'connections that lived through it');
  } },

  'first-replica': { times: 5, async run(world, times) {
    await world.begin({ redis: { options: { 'repl-backlog-ttl': 1 } } });
    const changed = async (from, what) => {
      const found = await until(async () => (await world.redis.identity()) !== from, what);
      assert.ok(found);
      await world.settle();
    };
    await strikes(world, times, async () => {
      const { redis } = world;
      const identity = await redis.identity();
      const replica = await Redis.start(world);
      await replica.follow(redis);
      await replica.inStep(redis);
      await changed(identity, 'another identity once a replica has come');
      const attached = await redis.identity();
      await replica.kill();
      await changed(attached, 'another identity once the backlog is freed');
    }, { lossless: true, resets: 2 });
  } },

  'old-primary': { times: 10, async run(world, times) {
    await world.begin({ relays: 'one', replica: true });
    let longest = 0;
    await strikes(world, times, async () => {
      const { redis, replica, relay, crowd } = world;
      const began = performance.now();
      await replica.follow(null);
      relay.turn(replica.port);
      /* Subscriptions go to the new primary, commands stay with the old one. */
      assert.ok(await redis.killSubscribers() > 0);
      const outside = [began, Infinity];
      crowd.ledger.outside.push(outside);
      await until(async () => (await redis.clients()).length === 0, 'the old primary to be left', RECOVERY_MS);
      const starved = performance.now() - began;
      longest = Math.max(longest, starved);
      outside[1] = performance.now();
      assert.ok(starved <= 2 * TIMEOUT_MS + 1000 * SLOW, `starved for ${Math.round(starved)} ms`);
      await until(async () => (await replica.clients()).length > 0, 'the new primary to be found', RECOVERY_MS);
      await redis.kill();
      await world.swap();
      await redis.restart();
      await redis.follow(replica, world.link.port);
      await redis.inStep(replica);
    });
    world.more = `starved for ${Math.round(longest)} ms at most`;
  } },

  instances: { times: 30, async run(world, times) {
    await world.begin();
    await strikes(world, times, async () => {
      const instance = world.dice.pick(world.instances);
      const { pid } = instance;
      await instance.restart('SIGKILL');
      assert.notEqual(instance.pid, pid);
      await instance.ready();
    }, { lossless: true, resets: 0 });
  } },

  evicted: { times: 20, async run(world, times) {
    await world.begin();
    await strikes(world, times, async (n) => {
      const { name } = world.dice.pick(world.crowd.books);
      const kinds = [['h'], ['x'], ['h', 'x']][n % 3];
      const keys = await Promise.all(kinds.map((kind) => world.redis.key(kind, name)));
      assert.equal(await world.redis.call(n % 2 ? 'DEL' : 'UNLINK', ...keys), keys.length);
    });
  } },

  'foreign-type': { times: 10, async run(world, times) {
    await world.begin();
    await strikes(world, times, async (n) => {
      const [book, other] = world.crowd.books.slice(n % (world.crowd.books.length - 1));
      const key = await world.redis.key(n % 2 ? 'h' : 'x', book.name);
      await world.redis.call('MULTI');
      await world.redis.call('DEL', key);
      await world.redis.call('SET', key, 'of somebody else');
      await world.redis.call('EXEC');
      for (const instance of world.instances) {
        assert.notEqual(await publish(instance, book.name), 200);
        assert.equal((await instance.server.poll(other.name, { timeout: 0, limit: 1 })).status, 200);
      }
      assert.equal(await world.redis.call('GET', key), 'of somebody else');
      await world.redis.call('DEL', key);
    });
  } },

  partition: { times: 9, async run(world, times) {
    await world.begin({ relays: 'each' });
    await strikes(world, times, async (n) => {
      const i = world.dice.below(3);
      const down = heard({ instances: [world.instances[i]] }, /redis.*down/i);
      world.relays[i].cut(WAYS[n % 3]);
      assert.ok([503, 504].includes(await publish(world.instances[i], 'outside')));
      await sleep(world.dice.below(2 * TIMEOUT_MS));
      await down();
      world.relays[i].mend();
      await world.instances[i].ready();
    }, { lossless: true, resets: 0 });
  } },

  layouts: { times: 5, async run(world, times) {
    await world.begin();
    await strikes(world, times, async () => {
      const other = await Instance.start(world, world.redis.url, { 'redis-timeout-ms': TIMEOUT_MS, 'history-count': 77 });
      await other.logs(/layout/i);
      assert.equal(await publish(other, 'outside'), 503);
      await other.stop();
    }, { lossless: true, resets: 0 });
  } },

  flushall: { times: 10, async run(world, times) {
    await world.begin();
    await strikes(world, times, async () => {
      const key = await world.redis.key('h', world.crowd.books[0].name);
      const epoch = await world.redis.call('HGET', key, 'e');
      await world.redis.call('FLUSHALL');
      await world.settle();
      assert.notEqual(await world.redis.call('HGET', key, 'e'), epoch);
    }, { resets: 1 });
  } },
};

/* ---- all of them --------------------------------------------------------------- */

const names = Object.keys(faults);
if (args[0] === '-l') {
  for (const name of names) console.log(name);
  process.exit(0);
}
for (const name of args) {
  if (!names.includes(name)) {
    console.error(`no such fault: ${name}; there are ${names.join(' ')}`);
    process.exit(2);
  }
}

const totals = {};
const numbers = { passed: 0, failed: 0, skipped: 0 };
console.log(`seed ${seed}`);
for (const [number, name] of names.entries()) {
  if (args.length > 0 && !args.includes(name)) continue;
  if (skip) {
    console.log(`skip ${name}: ${skip}`);
    numbers.skipped += 1;
    continue;
  }
  const times = Math.max(1, Math.round(faults[name].times * SHARE));
  const world = new World(number);
  const began = performance.now();
  let error = null;
  try {
    await within(faults[name].run(world, times), 3_600_000, name);
  } catch (thrown) {
    error = thrown;
  }
  await world.end().catch((thrown) => { error ??= thrown; });
  if (world.crowd && !error && world.faults.length > 0) error = new Error(world.faults.join('\n'));
  for (const [what, n] of Object.entries(world.crowd?.ledger.counts ?? {})) totals[what] = (totals[what] ?? 0) + n;
  numbers[error ? 'failed' : 'passed'] += 1;
  const seconds = Math.round((performance.now() - began) / 1000);
  const told = [`${world.struck ?? 0} of ${times} strikes in ${seconds} s`, world.crowd?.summary,
    `the slowest recovery ${Math.round(world.slowest ?? 0)} ms`, world.more].filter(Boolean).join('; ');
  console.log(`${error ? 'FAIL' : 'ok'} ${name}: ${told}`);
  if (error) {
    console.log(`     ${error.stack.split('\n').slice(0, 30).join('\n     ')}`);
    for (const { port, said } of world.instances ?? []) {
      for (const line of said.split('\n').filter(Boolean).slice(-10)) console.log(`     ${port}: ${line}`);
    }
  }
}
console.log(`totals: ${Object.entries(totals).map(([what, n]) => `${what} ${n}`).join(', ')}`);
console.log(`${numbers.passed} passed, ${numbers.failed} failed, ${numbers.skipped} skipped`);
process.exit(numbers.failed > 0 ? 1 : 0);
