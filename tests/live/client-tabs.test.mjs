/* demo/client/longpoll.js in many tabs that share one poll, or stream.

   All is the test's own: time, network, server, locks and channels, each with
   delays of its own, so that a leader can go in the middle of anything. What
   happens when is drawn from a seed, which is printed; SEED repeats it, and
   WORLDS says how many there are. */

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { LongPollingClient } from '../../demo/client/longpoll.js';

const SEED = Number(process.env.SEED || Date.now() % 1e9);
const PASS = process.env.LONGPOLL_PASS || 'plain';
/* The server is the test's own: it is the same in every pass. */
const WORLDS = Number(process.env.WORLDS || (PASS === 'plain' ? 300 : 10));
const STEPS = 150;                  /* in each world */
const HELD = 12;                    /* messages that a channel holds */
const URL_BASE = 'http://server';

/* --- chance, and time ----------------------------------------------------- */

function chance(seed) {
  let state = seed >>> 0;
  const random = () => {            /* a mixed counter */
    state = (state + 0x9e3779b9) >>> 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x85ebca6b);
    z = Math.imul(z ^ (z >>> 13), 0xc2b2ae35);
    return ((z ^ (z >>> 16)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(random() * n);
  return { random, below, pick: (list) => list[below(list.length)],
    one: (n) => below(n) === 0 };
}

const immediate = setImmediate;
const drain = () => new Promise((resolve) => immediate(resolve));

/* Everything happens as an event of a tab, at a time. The events of a frozen
   tab wait; those of a dead one never come. */
class Clock {
  now = 0;
  events = [];
  tab = null;                       /* whose event this is */
  order = 0;

  at(delay, tab, fn) {
    const event = { at: this.now + delay, order: this.order++, tab, fn };
    this.events.push(event);
    return event;
  }

  drop(event) {
    this.events = this.events.filter((other) => other !== event);
  }

  async run(ms) {
    const end = this.now + ms;
    for (let n = 0; n < 100000; n++) {
      let first = null;
      for (const event of this.events) {
        if (event.at > end || event.tab?.frozen) continue;
        if (!first || event.at < first.at ||
          (event.at === first.at && event.order < first.order)) first = event;
      }
      if (!first) {
        this.now = end;
        return;
      }
      this.drop(first);
      if (first.tab?.dead) continue;
      this.now = Math.max(this.now, first.at);
      this.tab = first.tab;
      first.fn();
      await drain();
      this.tab = null;
    }
    assert.fail('it spins');
  }

  async as(tab, fn) {
    this.tab = tab;
    fn();
    await drain();
    this.tab = null;
  }

  /* The client's timers and clocks. */
  install(t) {
    const { setTimeout: set, clearTimeout: clear, setInterval: every,
      clearInterval: never } = globalThis;
    const { now } = Date;
    globalThis.setTimeout = (fn, ms) => this.at(ms, this.tab, fn);
    globalThis.clearTimeout = (event) => this.drop(event);
    globalThis.setInterval = (fn, ms) => {
      const interval = {};
      const { tab } = this;
      const again = () => {
        interval.event = this.at(ms, tab, () => { again(); fn(); });
      };
      again();
      return interval;
    };
    globalThis.clearInterval = (interval) => this.drop(interval.event);
    Date.now = () => this.now;
    performance.now = () => this.now;
    t.after(() => {
      Object.assign(globalThis, { setTimeout: set, clearTimeout: clear,
        setInterval: every, clearInterval: never });
      Date.now = now;
      delete performance.now;
    });
  }
}

/* --- the server, as DESIGN has it ----------------------------------------- */

class Server {
  channels = new Map();             /* name -> { epoch, seq, held } */
  parked = new Set();
  down = false;                     /* no connection */
  refusing = null;                  /* (channels) => status or 0 */
  held = false;                     /* no stream comes through */
  polls = 0;
  lives = 0;

  channel(name) {
    if (!this.channels.has(name))
      this.channels.set(name, { epoch: `e${++this.lives}`, seq: 0, held: [] });
    return this.channels.get(name);
  }

  publish(name) {
    const channel = this.channel(name);
    const id = `${channel.epoch}-${++channel.seq}`;
    channel.held.push({ id, channel: name, timestamp: this.clock.now });
    if (channel.held.length > HELD) channel.held.shift();
    for (const poll of [...this.parked])
      if (poll.names.includes(name)) poll.answer();
    return id;
  }

  judge(name, cursor) {
    const { epoch, seq, held } = this.channel(name);
    const [e, digits] = cursor.split('-');
    const s = Number(digits);
    if (cursor === '') return { messages: held, to: `${epoch}-${seq}` };
    if (cursor === 'now') return { messages: [], to: `${epoch}-${seq}` };
    const why = e !== epoch ? 'epoch' : s > seq ? 'ahead'
      : s < seq - held.length ? 'evicted' : null;
    if (why) return { messages: held, to: `${epoch}-${seq}`, why };
    return { messages: held.slice(held.length - (seq - s)),
      to: `${epoch}-${seq}` };
  }

  reply({ names, cursors, limit }) {
    const parts = names.map((name, i) => this.judge(name, cursors[i]));
    const all = parts.flatMap(({ messages }) => messages)
      .sort((a, b) => a.timestamp - b.timestamp ||
        names.indexOf(a.channel) - names.indexOf(b.channel));
    const messages = all.slice(0, limit);
    const reset = Object.fromEntries(names.map((name, i) =>
      [name, parts[i].why]).filter(([, why]) => why));
    const to = parts.map(({ to: end, messages: list }, i) => {
      const shown = messages.filter((m) => m.channel === names[i]);
      if (shown.length === list.length) return end;
      if (shown.length > 0) return shown.at(-1).id;
      /* Nothing of it was shown: where it stood, or before all it holds. */
      if (!parts[i].why && cursors[i] !== '') return cursors[i];
      const [e, s] = list[0].id.split('-');
      return `${e}-${s - 1}`;
    });
    return { status: messages.length ? 'messages' : 'timeout',
      last_id: to.join(','), timestamp: 1, count: messages.length, messages,
      ...(all.length > limit ? { more: true } : {}),
      ...(Object.keys(reset).length ? { reset } : {}) };
  }

  /* What a stream says of it. */
  events(poll) {
    let text = '';
    let reply;
    do {
      reply = this.reply(poll);
      const { messages, reset, last_id } = reply;
      const at = new Map(zip(poll.names, last_id.split(',')));
      for (const { id, channel } of [...messages].reverse())
        at.set(channel, id.replace(/[0-9]+$/, (seq) => seq - 1));
      const cursor = () => `id: ${[...at.values()].join(',')}\n`;
      if (reset) text += `event: reset\n${cursor()}data: ${
        JSON.stringify(reset)}\n\n`;
      for (const message of messages) {
        at.set(message.channel, message.id);
        text += `${cursor()}data: ${JSON.stringify(message)}\n\n`;
      }
      poll.cursors = last_id.split(',');
    } while (reply.more);
    return text;
  }

  /* A new life: nothing is held, and the connections are gone. */
  restart() {
    this.channels.clear();
    this.cut();
  }

  cut() {
    for (const poll of [...this.parked]) poll.fail();
  }
}

const zip = (names, values) => names.map((name, i) => [name, values[i]]);

/* --- the network: fetch() of a tab ---------------------------------------- */

function network(world, tab) {
  const { clock, server, delay } = world;
  return (address, { signal }) => new Promise((resolve, reject) => {
    const url = new URL(address);
    const names = url.pathname.split('/').at(-1).split(',')
      .map(decodeURIComponent);
    const last = url.searchParams.get('last_id');
    const poll = {
      tab, names,
      cursors: names.length === 1 || last.includes(',') ? last.split(',')
        : names.map(() => last),
      limit: Number(url.searchParams.get('limit') ?? 5),
      timeout: Number(url.searchParams.get('timeout')) * 1000,
    };
    const over = () => {
      server.parked.delete(poll);
      clock.drop(poll.timer);
    };
    poll.fail = () => {
      over();
      clock.at(delay(), tab, () => reject(new TypeError('fetch failed')));
    };
    poll.answer = () => {
      over();
      const body = JSON.stringify(server.reply(poll));
      clock.at(delay(), tab, () => resolve({ ok: true, status: 200,
        headers: new Headers(), json: async () => JSON.parse(body) }));
    };
    signal.addEventListener('abort', () => { over(); reject(signal.reason); });
    clock.at(delay(), null, () => {
      if (signal.aborted || tab.dead) return;
      server.polls++;
      const refused = server.refusing?.(names) ?? 0;
      if (server.down) return poll.fail();
      if (refused) return clock.at(delay(), tab, () => resolve({ ok: false,
        status: refused, statusText: '', headers: new Headers(),
        json: async () => ({ error: 'because' }) }));
      const now = server.reply(poll);
      if (url.pathname.includes('/stream/')) {
        if (!server.held) streams(world, poll, signal, resolve);
        return;
      }
      if (poll.timeout === 0 || now.count > 0 || now.reset)
        return poll.answer();
      poll.cursors = now.last_id.split(',');        /* 'now' is resolved */
      server.parked.add(poll);
      poll.timer = clock.at(poll.timeout, null, poll.answer);
    });
  });
}

/* A stream comes in pieces, and when it is cut the last of them may be lost. */
function streams(world, poll, signal, resolve) {
  const { clock, server, delay } = world;
  const { tab } = poll;
  let out;
  let last = 0;
  let over = false;
  const body = new ReadableStream({ start(controller) { out = controller; } });
  const then = (fn) => {
    last = Math.max(clock.now + delay(), last);
    clock.at(last - clock.now, tab, () => { if (!over) fn(); });
  };
  const say = (text) => {
    const bytes = new TextEncoder().encode(text);
    const size = world.piece ?? 1 + world.chance.below(bytes.length);
    for (let at = 0; at < bytes.length; at += size)
      then(() => out.enqueue(bytes.subarray(at, at + size)));
  };
  const leave = () => {
    server.parked.delete(poll);
    clock.drop(poll.timer);
  };
  const beat = () => {
    poll.timer = clock.at(15000, null, () => { say(':\n\n'); beat(); });
  };
  poll.answer = () => say(server.events(poll));
  poll.fail = () => {
    leave();
    if (world.chance.one(2)) last = 0;
    then(() => {
      over = true;
      if (world.chance.one(2)) out.close();
      else out.error(new TypeError('terminated'));
    });
  };
  signal.addEventListener('abort', () => {
    leave();
    if (!over) out.error(signal.reason);
    over = true;
  });
  server.parked.add(poll);
  poll.isStream = true;
  beat();
  then(() => resolve({ ok: true, status: 200, body,
    headers: new Headers({ 'Content-Type': 'text/event-stream' }) }));
  say(`retry: 1000\n\n${server.events(poll)}`);
}

/* --- Web Locks, and BroadcastChannel -------------------------------------- */

class Locks {
  held = [];
  pending = [];

  constructor(world) { this.world = world; }

  of(tab) {
    return {
      request: (name, options, fn) => this.request(tab, name, options, fn),
      query: () => this.query(),
    };
  }

  async query() {
    return { held: this.held.map(({ name, mode }) => ({ name, mode })),
      pending: [] };
  }

  request(tab, name, { mode = 'exclusive', signal, steal }, fn) {
    return new Promise((resolve, reject) => {
      assert.ok(!(signal && steal), 'as the standard has it');
      const lock = { tab, name, mode, fn, resolve, reject };
      if (signal?.aborted) return reject(signal.reason);
      signal?.addEventListener('abort', () => {
        if (!this.pending.includes(lock)) return;
        this.remove(lock);
        reject(signal.reason);
        this.grant(name);
      });
      if (steal) {
        for (const other of this.held.filter((l) => l.name === name)) {
          this.remove(other);
          const robbed = new DOMException('stolen', 'AbortError');
          const { clock, delay } = this.world;      /* not before it has it */
          clock.at(Math.max(delay(), other.at - clock.now), other.tab,
            () => other.reject(robbed));
        }
        this.pending.unshift(lock);
      } else this.pending.push(lock);
      this.grant(name);
    });
  }

  remove(lock) {
    this.held = this.held.filter((other) => other !== lock);
    this.pending = this.pending.filter((other) => other !== lock);
  }

  grant(name) {
    for (const lock of this.pending.filter((l) => l.name === name)) {
      const others = this.held.filter((l) => l.name === name);
      const free = others.length === 0 || (lock.mode === 'shared' &&
        others.every((l) => l.mode === 'shared'));
      if (!free) return;
      this.pending = this.pending.filter((other) => other !== lock);
      this.held.push(lock);
      const { clock, delay } = this.world;
      const wait = delay();
      lock.at = clock.now + wait;
      clock.at(wait, lock.tab, async () => {
        const value = await lock.fn();
        lock.resolve(value);
        this.remove(lock);
        this.grant(name);
      });
    }
  }

  drop(tab) {
    const gone = [...this.held, ...this.pending].filter((l) => l.tab === tab);
    gone.forEach((lock) => this.remove(lock));
    for (const { name } of gone) this.grant(name);
  }
}

function lines(world, tab) {
  return class {
    constructor(name) {
      this.name = name;
      this.tab = tab;
      this.last = new Map();        /* what one says stays in order */
      world.lines.add(this);
    }

    postMessage(word) {
      assert.ok(world.lines.has(this), 'closed');
      for (const line of world.lines) {
        if (line === this || line.name !== this.name || line.tab.dead) continue;
        const data = structuredClone(word);
        const { clock } = world;
        const at = Math.max(clock.now + world.delay(),
          this.last.get(line) ?? 0);
        this.last.set(line, at);
        clock.at(at - clock.now, line.tab, () => {
          if (world.lines.has(line)) line.onmessage({ data });
        });
      }
    }

    close() { world.lines.delete(this); }
  };
}

/* --- a world of tabs ------------------------------------------------------ */

class World {
  lines = new Set();
  tabs = [];
  clock = new Clock();
  server = new Server();

  constructor(t, seed, transport = 'poll') {
    this.chance = chance(seed);
    this.transport = transport;
    this.server.clock = this.clock;
    this.locks = new Locks(this);
    this.clock.install(t);
  }

  delay = () => this.chance.below(12) / 4;

  get live() { return this.tabs.filter((tab) => !tab.dead && !tab.frozen); }
  get polls() { return [...this.server.parked]; }

  async open(channels, options = {}) {
    const tab = { dead: false, frozen: false, channels, log: [] };
    this.tabs.push(tab);
    const client = new LongPollingClient(URL_BASE, channels, {
      share: true, transport: this.transport, locks: this.locks.of(tab),
      BroadcastChannel: lines(this, tab), fetch: network(this, tab),
      random: this.chance.random, ...options });
    tab.client = client;
    for (const event of ['message', 'reset', 'connected', 'disconnected',
      'error'])
      client.on(event, (what) => {
        assert.ok(!tab.dead);
        tab.log.push([event, what, this.clock.now]);
      });
    await this.clock.as(tab, () => client.start());
    return tab;
  }

  async stop(tab) { await this.clock.as(tab, () => tab.client.stop()); }

  /* It is gone in the middle of whatever it did. */
  kill(tab) {
    tab.dead = true;
    for (const line of this.lines)
      if (line.tab === tab) this.lines.delete(line);
    for (const poll of this.polls)
      if (poll.tab === tab) this.server.parked.delete(poll);
    this.clock.at(this.delay(), null, () => this.locks.drop(tab));
  }

  leader() {
    return this.locks.held.find((lock) => lock.mode === 'exclusive')?.tab;
  }
}

const ids = (tab, channel) => tab.log.filter(([event, m]) =>
  event === 'message' && (!channel || m.channel === channel))
  .map(([, m]) => m.id);
const events = (tab, event) => tab.log.filter(([e]) => e === event);

/* Exactly once and in order; a hole only behind a reset. */
function check(tab) {
  const last = new Map();
  const had = new Set();
  let connected = false;
  for (const [event, what] of tab.log) {
    if (event === 'reset')
      for (const channel of Object.keys(what)) last.delete(channel);
    if (event === 'connected') {
      assert.ok(!connected, 'connected twice');
      connected = true;
    }
    if (event === 'disconnected') connected = false;
    if (event !== 'message') continue;
    assert.ok(connected, 'a message to one who is not connected');
    assert.ok(tab.channels.includes(what.channel), 'a channel of its own');
    assert.ok(!had.has(what.id), `${what.id} twice`);
    had.add(what.id);
    const [epoch, seq] = what.id.split('-');
    const before = last.get(what.channel);
    if (before) {
      assert.equal(epoch, before[0], 'a new epoch only after a reset');
      assert.equal(Number(seq), before[1] + 1, `${what.id}: a hole`);
    }
    last.set(what.channel, [epoch, Number(seq)]);
  }
}

function cursorOf(world, tab) {
  return tab.channels.map((name) => {
    const { epoch, seq } = world.server.channel(name);
    return `${epoch}-${seq}`;
  }).join(',');
}

/* --- what must be --------------------------------------------------------- */

const LIMIT = { timeout: 60000 };

async function eightTabs(t, transport) {
  const world = new World(t, 1, transport);
  const rooms = ['lobby', 'kitchen', 'workshop'];
  const tabs = [];
  for (let i = 0; i < 8; i++) {
    tabs.push(await world.open(i % 2 ? rooms.slice(i % 3) : rooms));
    await world.clock.run(20);
  }
  const everyone = async (what) => {
    const id = world.server.publish('workshop');
    await world.clock.run(20);
    for (const tab of world.live)
      assert.equal(ids(tab).at(-1), id, `${what}: ${ids(tab)}`);
    await world.clock.run(20);
    assert.equal(world.polls.length, 1, `${what}: one poll`);
  };
  await everyone('at first');
  await world.stop(world.leader());
  await world.clock.run(50);
  assert.equal(events(tabs[0], 'disconnected').length, 1);
  world.tabs = world.tabs.filter((tab) => tab.client.state !== 'stopped');
  await everyone('the leader was closed');
  world.kill(world.leader());
  await world.clock.run(50);
  await everyone('the leader crashed');
  for (const tab of world.live) {
    assert.equal(events(tab, 'connected').length, 1);
    assert.equal(events(tab, 'disconnected').length, 0, 'nobody noticed');
    check(tab);
  }

  /* Nobody hears of a leader that hangs but by its silence. */
  const frozen = world.leader();
  frozen.frozen = true;
  const id = world.server.publish('workshop');
  await world.clock.run(15500);
  for (const tab of world.live) assert.equal(ids(tab).at(-1), id);
  assert.notEqual(world.leader(), frozen);
  frozen.frozen = false;
  await world.clock.run(1000);
  assert.notEqual(world.leader(), frozen);
  await everyone('it has thawed');
  /* Robbed in any other way, too; and who was robbed may lead again. */
  const line = new (lines(world, { dead: false }))(world.locks.held[0].name
    .replace(/\] \[.*/, ']'));
  line.onmessage = ({ data }) => { if (data.from) words.push(data); };
  const words = [];
  const robbed = world.leader();
  const thief = { dead: false };
  world.locks.request(thief, line.name, { steal: true }, () =>
    new Promise(() => {}));
  await world.clock.run(20);
  assert.equal(world.leader(), thief);
  assert.deepEqual(world.polls, [], 'who is robbed does not go on');
  for (const tab of world.live) if (tab !== robbed) world.kill(tab);
  await world.clock.run(20);
  assert.deepEqual(words, []);
  world.kill(thief);
  world.locks.drop(thief);
  await world.clock.run(20);
  assert.equal(world.leader(), robbed);
  assert.equal(words.length, 1, 'a new leader says where it stands');
  line.close();
  await everyone('leads again');
  world.live.forEach(check);
  const before = world.server.polls;
  await world.clock.run(600000);
  assert.ok(world.server.polls - before <= 21, 'no more than one poll in 30 s');
}

for (const transport of ['poll', 'stream', 'auto'])
  test(`eight tabs, one ${transport}, whoever goes`, LIMIT,
    (t) => eightTabs(t, transport));

test('a poll each: share off, or what it needs missing', LIMIT, async (t) => {
  const refused = () => Promise.reject(new DOMException('no', 'SecurityError'));
  const kinds = {
    off: { share: false },
    'no locks': { locks: null },
    'no channel': { BroadcastChannel: null },
    'locks are refused': { locks: { request: refused, query: refused } },
    'locks throw': { locks: { request() { throw new Error('no'); } } },
    'locks never come': { locks: { request: () => new Promise(() => {}) } },
    'channels are refused': { BroadcastChannel: class {
      constructor() { throw new DOMException('no', 'SecurityError'); }
    } },
    'headers of their own': (i) => ({ headers: { 'X-User': `u${i}` } }),
    'credentials': (i) => ({ credentials: i ? 'omit' : 'include' }),
    'prefix': (i) => ({ prefix: `/v${i}` }),
  };
  for (const [kind, options] of Object.entries(kinds)) {
    const world = new World(t, 2);
    const tabs = [];
    for (const i of [0, 1])
      tabs.push(await world.open(['a'],
        typeof options === 'function' ? options(i) : options));
    await world.clock.run(kind === 'locks never come' ? 21000 : 50);
    assert.equal(world.polls.length, 2, kind);
    const id = world.server.publish('a');
    await world.clock.run(50);
    for (const tab of tabs) {
      assert.deepEqual(ids(tab), [id], kind);
      assert.deepEqual(events(tab, 'error'), [], kind);
    }
    assert.equal(world.polls.length, 2, kind);
    if (typeof options !== 'function') assert.equal(world.leader(), undefined);
  }
});

test('alike: tokens, limits, cursors and channels may differ', LIMIT,
  async (t) => {
    const world = new World(t, 3);
    for (let i = 0; i < 5; i++) world.server.publish('a');
    const { epoch } = world.server.channel('a');
    const tabs = [
      await world.open(['a', 'b'], { token: 'x', limit: 2 }),
      await world.open(['b', 'a'], { token: 'y', lastId: 'now' }),
      await world.open(['a'], { lastId: `${epoch}-3`, headers: {} }),
      await world.open(['__proto__', 'a,b', 'a'], { clientId: '' }),
    ];
    await world.clock.run(50);
    assert.equal(world.polls.length, 1);
    world.server.publish('a');
    world.server.publish('__proto__');
    world.server.publish('a,b');
    await world.clock.run(50);
    assert.equal(world.polls.length, 1);
    assert.deepEqual(tabs.map((tab) => ids(tab, 'a').length), [6, 1, 3, 6]);
    assert.deepEqual(tabs.map((tab) => ids(tab).length), [6, 1, 3, 8]);
    for (const tab of tabs) {
      assert.equal(tab.client.lastId, cursorOf(world, tab));
      check(tab);
    }
  });

test('a word is taken from where one stands, and nowhere else', LIMIT,
  async (t) => {
    const world = new World(t, 8);
    const { server, clock } = world;
    const told = [];
    const publish = (n) => {
      for (; n > 0; n--) told.push(server.publish('a'));
    };
    const leader = { dead: false };
    const line = new (lines(world, leader))(
      `longpoll/1 ["${URL_BASE}/api","same-origin",[]]`);
    line.onmessage = () => {};
    world.locks.request(leader, line.name, {}, () => new Promise(() => {}));
    publish(5);
    const tab = await world.open(['a'], { lastId: 'now' });
    await clock.run(50);
    publish(4);
    const at = (n) => told[n - 1];
    const say = async (from, to, more = {}) => {
      const before = server.polls;
      line.postMessage({ from: new Map([['a', at(from)]]),
        to: new Map([['a', at(to)]]), reset: {}, waited: false, over: [],
        messages: told.slice(from, to).map((id) => ({ id, channel: 'a' })),
        ...more });
      await clock.run(20);
      return [ids(tab).length, told.indexOf(tab.client.lastId) + 1,
        server.polls - before, events(tab, 'reset').length];
    };
    const evicted = { reset: { a: 'evicted' } };
    assert.deepEqual(await say(3, 6), [1, 6, 0, 0], 'within it');
    assert.deepEqual(await say(6, 7), [2, 7, 0, 0], 'at its beginning');
    assert.deepEqual(await say(3, 5), [2, 7, 0, 0], 'an old one');
    assert.deepEqual(await say(7, 7), [2, 7, 0, 0], 'at rest, as we');
    assert.deepEqual(await say(3, 8, evicted), [4, 9, 1, 0], 'not our reset');
    publish(3);
    assert.deepEqual(await say(10, 11), [7, 12, 1, 0], 'a gap');
    assert.deepEqual(await say(10, 10), [7, 12, 1, 0], 'at rest elsewhere');
    publish(1);
    assert.deepEqual(await say(12, 13, evicted), [8, 13, 0, 1], 'our reset');
    check(tab);
    line.postMessage({ failed: '' });
    await clock.run(3);
    assert.equal(events(tab, 'error').length, 1);
    assert.equal(events(tab, 'disconnected').length, 1);
  });

test('a leader that is robbed does not keep its stream', LIMIT, async (t) => {
  const world = new World(t, 11, 'stream');
  const ada = await world.open(['a']);
  await world.clock.run(50);
  await world.open(['a']);
  await world.clock.run(50);
  assert.deepEqual(world.polls.map((poll) => poll.tab), [ada]);
  /* Between two readings it looks who is there; it is robbed meanwhile. */
  let held;
  world.locks.query = () => new Promise((resolve) => { held = resolve; });
  world.server.publish('a');
  await world.clock.run(20);
  const thief = { dead: false };
  world.locks.request(thief, world.locks.held.find((lock) =>
    lock.mode === 'exclusive').name, { steal: true }, () =>
    new Promise(() => {}));
  await world.clock.run(20);
  await world.clock.as(ada, () => held({ held: [], pending: [] }));
  assert.deepEqual(world.polls, []);
  world.live.forEach(check);
});

/* A tab that was stopped may hear the new leader before it learns that it leads
   no more: what it heard until then it must ask for. */
test('a leader that is robbed asks at once where the new one stands', LIMIT,
  async (t) => {
    const world = new World(t, 14);
    const { clock, server, locks } = world;
    const ada = await world.open(['a']);
    await clock.run(50);
    const { name } = locks.held.find((lock) => lock.mode === 'exclusive');
    const thief = { dead: false };
    const line = new (lines(world, thief))(name);
    const say = (from, to, messages = []) => line.postMessage({
      from: new Map([['a', from]]), to: new Map([['a', to]]), messages,
      reset: {}, waited: false, over: [] });
    let id = null;
    line.onmessage = ({ data }) => { if (data.ask) say(id, id); };
    server.parked.clear();            /* it does not hear by itself */
    const { delay } = world;
    world.delay = () => 100;
    locks.request(thief, name, { steal: true }, () => new Promise(() => {}));
    world.delay = delay;
    const before = ada.client.lastId;
    id = server.publish('a');
    say(before, id, [{ id, channel: 'a' }]);
    await clock.run(50);
    assert.deepEqual(ids(ada), [], 'it does not yet know');
    await clock.run(100);
    assert.deepEqual(ids(ada), [id]);
    check(ada);
  });

test('who comes late has all at once, also by replies of one message', LIMIT,
  async (t) => {
    for (const transport of ['poll', 'stream', 'auto']) {
      const world = new World(t, 12, transport);
      world.piece = 70;
      await world.open(['a']);
      await world.clock.run(50);
      const told = Array.from({ length: 10 }, () => world.server.publish('a'));
      const ben = await world.open(['a'], { limit: 1 });
      await world.clock.run(500);
      assert.deepEqual(ids(ben), told, transport);
      assert.equal(world.polls.length, 1);
    }
  });

test('a stream that is closed for one who comes is opened again at once', LIMIT,
  async (t) => {
    const world = new World(t, 13, 'auto');
    for (const [i, name] of ['a', 'b', 'c'].entries()) {
      await world.open([name]);
      await world.clock.run(50);
      const [poll, ...others] = world.polls;
      assert.deepEqual([poll.isStream, poll.names.length, others],
        [true, i + 1, []]);
      if (i === 1) world.server.publish('b');
      await world.clock.run(50);
    }
  });

test('sixteen channels are one poll; beyond, one polls by itself', LIMIT,
  async (t) => {
    const world = new World(t, 4);
    const many = (n, from) =>
      Array.from({ length: n }, (_, i) => `c${i + from}`);
    const tabs = [];
    for (const channels of [many(8, 0), many(8, 8), many(2, 15)]) {
      tabs.push(await world.open(channels));
      await world.clock.run(50);
    }
    const counts = () => world.polls.map((poll) => poll.names.length)
      .sort((a, b) => a - b);
    await world.clock.run(100);
    assert.deepEqual(counts(), [2, 16]);
    const publish = async () => {
      const published = many(17, 0).map((name) => world.server.publish(name));
      await world.clock.run(100);
      for (const tab of world.live.filter((x) => x.client.state !== 'stopped'))
        assert.deepEqual(ids(tab).slice(-tab.channels.length).sort(),
          published.filter((_, i) => tab.channels.includes(`c${i}`)).sort());
    };
    await publish();
    assert.deepEqual(counts(), [2, 16]);
    await world.stop(tabs[1]);
    await world.clock.run(31000);
    await publish();
    await world.clock.run(31000);
    assert.deepEqual(counts(), [10], 'there is room again');
    await publish();
    tabs.forEach(check);
  });

test('one whose channel is refused is alone with that', LIMIT, async (t) => {
  const world = new World(t, 5);
  const ada = await world.open(['a']);
  await world.clock.run(50);
  const ben = await world.open(['b']);
  const cleo = await world.open(['c', 'a']);
  await world.clock.run(100);
  assert.equal(world.polls.length, 1);
  world.server.refusing = (names) => (names.includes('b') ? 403 : 0);
  world.server.publish('a');
  await world.clock.run(40000);
  assert.equal(ben.client.state, 'stopped');
  assert.equal(events(ben, 'error')[0][1].status, 403);
  const id = world.server.publish('a');
  await world.clock.run(100);
  for (const tab of [ada, cleo]) {
    assert.equal(ids(tab).at(-1), id);
    assert.equal(tab.client.state, 'connected');
    assert.deepEqual(events(tab, 'error'), []);
  }
  assert.equal(world.polls.length, 1);

  /* What the server says of sixteen may not hold for each: by themselves. */
  world.server.refusing = (names) => (names.length > 2 ? 414 : 0);
  const dora = await world.open(['d']);
  await world.clock.run(200);
  assert.equal(world.polls.length, 3);
  const last = world.server.publish('d');
  await world.clock.run(100);
  assert.equal(ids(dora).at(-1), last);
  const before = world.server.polls;
  await world.clock.run(600000);
  assert.ok(world.server.polls - before < 100, 'and no more is asked for it');
  for (const tab of [ada, cleo, dora])
    assert.deepEqual(events(tab, 'error'), []);
});

test('news for others do not slow a leader down; what is none does', LIMIT,
  async (t) => {
    const world = new World(t, 9);
    await world.open(['a']);
    await world.clock.run(50);
    const ben = await world.open(['b']);
    await world.clock.run(50);
    assert.equal(world.polls.length, 1);
    for (let i = 0; i < 50; i++) {
      const id = world.server.publish('b');
      await world.clock.run(20);
      assert.equal(ids(ben).at(-1), id);
    }
    const { server } = world;
    const same = { id: server.publish('b'), channel: 'b', timestamp: 1 };
    const honest = server.reply;
    server.reply = (poll) =>
      ({ ...honest.call(server, poll), count: 1, messages: [same] });
    await world.clock.run(20);
    const before = server.polls;
    await world.clock.run(20000);
    assert.ok(server.polls - before < 50, `${server.polls - before} polls`);
    assert.equal(ids(ben).length, 51);

    /* Nor do cursors that are none. */
    server.reply = honest;
    await world.clock.run(61000);
    assert.equal(world.polls.length, 1);
    server.reply = (poll) => ({ ...honest.call(server, poll),
      ...(poll.names.length > 1 ? { last_id: 'now,now' } : {}) });
    const between = server.polls;
    server.publish('a');
    await world.clock.run(20000);
    assert.ok(server.polls - between < 100, `${server.polls - between} polls`);
  });

test('when the connection is lost, all are told and each tries', LIMIT,
  async (t) => {
    const world = new World(t, 6);
    const tabs = [];
    for (let i = 0; i < 4; i++) tabs.push(await world.open(['a'],
      { maxRetries: i === 3 ? 2 : undefined }));
    await world.clock.run(100);
    world.server.down = true;
    world.server.cut();
    await world.clock.run(20);
    for (const { client, log } of tabs) {
      assert.ok(['waiting', 'connecting'].includes(client.state));
      const [error, gone] = log.filter(([event]) =>
        ['error', 'disconnected'].includes(event));
      assert.equal(error[0], 'error');
      assert.equal(error[1].status, 0);
      assert.ok(error[1].retryIn > 0);
      assert.equal(gone[0], 'disconnected');
      assert.equal(gone[1].error, error[1]);
    }
    await world.clock.run(60000);
    assert.equal(tabs[3].client.state, 'stopped', 'it has retried enough');
    assert.equal(events(tabs[3], 'error').length, 3);
    world.server.restart();
    world.server.down = false;
    const id = world.server.publish('a');
    await world.clock.run(31000);
    for (const tab of tabs.slice(0, 3)) {
      assert.deepEqual(ids(tab), [id]);
      assert.equal(events(tab, 'reset').length, 1);
      assert.equal(events(tab, 'connected').length, 2);
    }
    assert.equal(world.polls.length, 1);
  });

/* Tabs with a window and a document each, whose events `tell` makes. */
async function pages(t, world, n) {
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
  });
  const tabs = [];
  for (let i = 0; i < n; i++) {
    const page = new EventTarget();
    globalThis.addEventListener = page.addEventListener.bind(page);
    globalThis.document = new EventTarget();
    const { document } = globalThis;
    const tab = await world.open(['a']);
    tab.tell = (event) => world.clock.as(tab, () => {
      page.dispatchEvent(new Event(event));
      document.dispatchEvent(new Event(event));
    });
    tabs.push(tab);
    await world.clock.run(50);
  }
  return tabs;
}

test('a page that is frozen does not poll, and lets another lead', LIMIT,
  async (t) => {
    for (const [freeze, thaw] of [['pagehide', 'pageshow'],
      ['freeze', 'resume']]) {
      const world = new World(t, 7);
      const [ada, ben] = await pages(t, world, 2);
      assert.equal(world.leader(), ada);
      await ada.tell(freeze);
      await world.clock.run(50);
      assert.equal(world.leader(), ben);
      assert.deepEqual(world.polls.map((poll) => poll.tab), [ben]);
      const id = world.server.publish('a');
      await world.clock.run(60000);
      assert.deepEqual([ids(ada), ids(ben)], [[], [id]]);
      await ada.tell(thaw);
      await world.clock.run(50);
      assert.deepEqual([ids(ada), ids(ben)], [[id], [id]]);
      assert.equal(events(ada, 'disconnected').length, 0);
      await ben.tell(freeze);
      await ben.tell(freeze);
      await ben.tell(thaw);
      await world.clock.run(50);
      assert.equal(world.polls.length, 1);
      await ben.tell(freeze);
      await world.stop(ben);
      await ben.tell(thaw);
      await world.clock.run(50);
      assert.deepEqual(world.polls.map((poll) => poll.tab), [ada]);
    }
  });

test('what a follower has reason to doubt, the leader asks anew', LIMIT,
  async (t) => {
    const world = new World(t, 10);
    const [ada, ben] = await pages(t, world, 2);
    assert.equal(world.leader(), ada);
    /* A connection that died without a word: no answer will ever come. */
    const [dead] = world.polls;
    world.server.parked.delete(dead);
    world.clock.drop(dead.timer);
    await ben.tell('online');
    await world.clock.run(50);
    assert.equal(world.polls.length, 1);
    const id = world.server.publish('a');
    await world.clock.run(50);
    assert.deepEqual([ids(ada), ids(ben)], [[id], [id]]);
  });

/* --- worlds by chance ----------------------------------------------------- */

const NAMES = Array.from({ length: 9 }, (_, i) => `n${i}`);

/* One thing that happens. */
async function happen(world) {
  const { chance: { below, pick, one }, server, clock, tabs } = world;
  const some = () => {
    const many = one(12) ? 9 : 1 + below(4);
    const names = NAMES.map((name) => [Math.sin(below(1e6)), name]).sort()
      .slice(0, many).map(([, name]) => name);
    /* In some worlds there are more than fit in one poll. */
    return world.wide ? names.map((name) => `${name}${pick(['', 'x', 'y'])}`)
      : names;
  };
  const { live } = world;
  const what = below(20);
  if (what < 8) {
    const name = pick(pick(tabs)?.channels ?? NAMES);
    for (let n = 1 + (one(3) ? below(2 * HELD) : 0); n > 0; n--)
      server.publish(name);
  } else if (what < 10 && live.length < 6) {
    tabs.push(await open(world, some()));
  } else if (what === 10 && live.length > 1) {
    world.kill(one(2) ? world.leader() ?? pick(live) : pick(live));
  } else if (what === 11 && live.length > 0) {
    const tab = one(2) ? world.leader() ?? pick(live) : pick(live);
    tab.frozen = true;
  } else if (what === 12) {
    for (const tab of tabs) if (one(2)) tab.frozen = false;
  } else if (what === 13 && live.length > 0) {
    const tab = pick(live);
    await clock.as(tab, () => tab.client.stop());
    if (one(2)) await clock.as(tab, () => tab.client.start());
  } else if (what === 14) {
    for (const tab of live) await clock.as(tab, () => tab.client.start());
  } else if (what === 15 && one(3)) {
    server.restart();
  } else if (what === 16) {
    server.down = one(4);
    if (one(2)) server.cut();
  } else if (what === 17 && one(2)) {
    const bad = pick(NAMES);
    server.refusing = one(2) ? null
      : (names) => (names.includes(bad) ? 429 : 0);
  } else if (what === 18) {
    server.held = one(3);
  }
  await clock.run(pick([0, 1, 3, 10, 50, 300, one(3) ? 12000 : 100]));
}

/* A listener now and then stops its own client. */
async function open(world, channels) {
  const { pick, below } = world.chance;
  const tab = await world.open(channels,
    { lastId: pick(['', 'now']), limit: 1 + below(9),
      transport: pick(world.transports) });
  world.tabs.pop();                 /* the caller has it */
  if (world.chance.one(6)) tab.client.on('message', () => {
    /* Without a cursor the next start() begins anew: no reset. */
    if (!world.chance.one(9) || tab.client.lastId === '') return;
    tab.client.stop();
    if (world.chance.one(2)) tab.client.start();
  });
  return tab;
}

const LONG = { timeout: 60000 + WORLDS * 800 };

test(`${WORLDS} worlds from seed ${SEED}`, LONG, async (t) => {
  console.log(`seed ${SEED}`);
  let messages = 0;
  for (let n = 0; n < WORLDS; n++) {
    const seed = SEED + n;
    const world = new World(t, seed);
    world.wide = seed % 4 === 3;
    world.transports = [['poll'], ['stream'], ['auto'],
      ['poll', 'stream', 'auto']][Math.floor(seed / 4) % 4];
    try {
      for (let step = 0; step < STEPS; step++) await happen(world);

      /* Then all is well again: all are told, and from one poll. */
      const { server, clock } = world;
      server.down = false;
      server.refusing = null;
      server.held = false;
      for (const tab of world.tabs) tab.frozen = false;
      for (const tab of world.live)
        await clock.as(tab, () => { tab.client.start(); });
      await clock.run(130000);
      for (const tab of world.live)
        await clock.as(tab, () => tab.client.start());
      await clock.run(1000);
      const published = new Map(world.live.flatMap((tab) => tab.channels)
        .map((name) => [name, server.publish(name)]));
      await clock.run(500);    /* a leader may have a limit of one */
      for (const tab of world.live) {
        if (tab.client.state === 'stopped') continue;   /* by its listener */
        assert.equal(tab.client.state, 'connected');
        assert.equal(tab.client.lastId, cursorOf(world, tab), 'promptly');
        for (const name of tab.channels)
          assert.equal(ids(tab, name).at(-1), published.get(name));
      }
      const running = world.live.filter((x) => x.client.state !== 'stopped');
      const union = new Set(world.live.flatMap((tab) => tab.channels));
      if (union.size <= 16 && running.length > 0)
        assert.equal(world.polls.length, 1, 'one poll for all');
      for (const tab of world.tabs) {
        check(tab);
        messages += ids(tab).length;
      }
    } catch (error) {
      throw new Error(`SEED=${seed} WORLDS=1: ${error.message}`,
        { cause: error });
    }
  }
  console.log(`${messages} messages handed on`);
  assert.ok(messages > 100 * WORLDS);
});
