/* A crowd: publishers and clients at random instances, the book of what became
   of each message, and the judge.

   Each message carries its publisher p, that publisher's counter n, and the
   channel's counter k. The book knows what became of each k: `ok` with its id
   and timestamp, `refused` (surely not published), or `unknown`. Each client
   keeps its cursors as the protocol has it and checks what comes while it
   comes: that SEQ has no hole, that nothing comes twice, that every message is
   one that was published, has one id for all and was not refused.

   What did not come is judged at a barrier: a marker is published on every
   channel, every client must receive it in time, and then every message that
   had succeeded before the marker must have come to every client of its
   channel, unless that client was told a reset that excuses its absence.

   Whatever breaks the promise is a `fault`, kept as a line of text. */

import net from 'node:net';
import { EventParser } from '../../demo/client/longpoll.js';
import { SLOW, sleep } from './harness.mjs';

/* ---- chance, by a seed ---------------------------------------------------- */

export function chance(seed) {
  let state = seed >>> 0;
  const random = () => {                       /* mulberry32 */
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 2 ** 32;
  };
  const below = (n) => Math.floor(random() * n);
  return { random, below, pick: (list) => list[below(list.length)], is: (p) => random() < p };
}

export const SEED = Number(process.env.LONGPOLL_SEED || process.env.SEED) || (Date.now() % 1_000_000);

/* ---- a persistent connection that has one request at a time --------------- */

const HEAD_END = Buffer.from('\r\n\r\n');
const NOTHING = Buffer.alloc(0);
const STREAM_MS = 3000;                         /* the longest stream */

/* Why there was no answer. `sent`: the server may have read the request. */
class Lost extends Error {
  constructor(why, sent) {
    super(why);
    this.sent = sent;
  }
}

class Line {
  constructor(port) {
    this.port = port;
    this.socket = null;
    this.got = NOTHING;
    this.pending = null;
  }

  ask(request) {
    return new Promise((done, fail) => {
      this.pending = { done, fail, sent: false, request };
      if (this.socket) this.send();
      else this.connect();
    });
  }

  connect() {
    const socket = net.connect({ port: this.port, host: '127.0.0.1', noDelay: true });
    this.socket = socket;
    this.got = NOTHING;
    socket.on('connect', () => {
      /* A free port may be connected to itself. */
      if (socket.localPort === this.port) socket.destroy();
      else if (this.pending) this.send();
    });
    socket.on('data', (part) => { if (socket === this.socket) this.read(part); });
    socket.on('error', () => {});
    socket.on('end', () => this.over(socket, 'closed'));
    socket.on('close', () => this.over(socket, 'gone'));
  }

  send() {
    this.pending.sent = true;
    this.socket.write(this.pending.request, 'latin1');
  }

  over(socket, why) {
    socket.destroy();
    if (socket !== this.socket) return;
    this.socket = null;
    const { pending } = this;
    this.pending = null;
    pending?.fail(new Lost(why, pending.sent));
  }

  /* End it, whatever is under way. */
  end(why = 'ended here') { if (this.socket) this.over(this.socket, why); }

  read(part) {
    this.got = this.got.length === 0 ? part : Buffer.concat([this.got, part]);
    const end = this.got.indexOf(HEAD_END);
    if (end < 0) return;
    const head = this.got.latin1Slice(0, end);
    const size = Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1]);
    const status = Number(head.slice(9, 12));
    if (!this.pending || !head.startsWith('HTTP/1.1 ') || !(size >= 0)) return this.over(this.socket, `no answer: ${head}`);
    if (this.got.length < end + 4 + size) return;
    const answer = {
      status,
      text: this.got.utf8Slice(end + 4, end + 4 + size),
      retry: /\r\nretry-after: (\d+)/i.exec(head)?.[1],
    };
    const { pending } = this;
    this.pending = null;
    if (this.got.length > end + 4 + size) this.over(this.socket, 'more than one answer');
    this.got = NOTHING;
    if (/\r\nconnection: close/i.test(head)) this.end();
    pending.done(answer);
  }
}

/* One to each instance. */
class Lines {
  byPort = new Map();

  to({ port }) {
    if (!this.byPort.has(port)) this.byPort.set(port, new Line(port));
    return this.byPort.get(port);
  }

  end() { for (const line of this.byPort.values()) line.end(); }
}

/* ---- the book of a channel ------------------------------------------------ */

/* A cursor or an id. */
const parts = (id) => {
  const dash = id.indexOf('-');
  return { epoch: id.slice(0, dash), seq: Number(id.slice(dash + 1)) };
};

class Book {
  constructor(name, ledger) {
    this.name = name;
    this.ledger = ledger;
    this.messages = [];                         /* by k */
    this.byId = new Map();
    this.open = [];                             /* not judged yet */
    this.parents = new Map();                   /* epoch -> the one before, as Redis has it */
  }

  add(p, n) {
    const message = { p, n, k: this.messages.length, sentAt: performance.now(), outcome: 'sent' };
    this.messages.push(message);
    this.open.push(message);
    return message;
  }

  /* Whoever hears of an id, publisher or client, hears the same. */
  isCalled(message, id, timestamp) {
    if (message.id === undefined) {
      const other = this.byId.get(id);
      if (other) this.ledger.fault('one id twice', `${this.name}: ${id} is message ${other.k} and message ${message.k}`);
      this.byId.set(id, message);
      Object.assign(message, parts(id), { id, timestamp });
    } else if (message.id !== id) {
      this.ledger.fault('two ids', `${this.name}: message ${message.k} has the ids ${message.id} and ${id}`);
    } else if (message.timestamp !== timestamp) {
      this.ledger.fault('two times', `${this.name}: ${id} has the timestamps ${message.timestamp} and ${timestamp}`);
    }
  }

  became(message, outcome, reply) {
    message.outcome = outcome;
    message.doneAt = performance.now();
    this.ledger.counts[outcome] += 1;
    if (outcome === 'ok') this.isCalled(message, reply.message_id, reply.timestamp);
    if (outcome === 'refused' && message.id !== undefined) this.refused(message);
  }

  refused(message) {
    this.ledger.fault('refused, and published', `${this.name}: message ${message.k} was refused, and came as ${message.id}`);
  }

  /* A client was shown this. */
  shown({ p, n, k, id, timestamp }) {
    const message = this.messages[k];
    if (message?.p !== p || message.n !== n) {
      this.ledger.fault('not published', `${this.name}: ${id} is nothing that was published`);
      return null;
    }
    this.isCalled(message, id, timestamp);
    if (message.outcome === 'refused') this.refused(message);
    return message;
  }

  /* What was done before something else was begun comes before it. */
  judgeOrder(messages) {
    for (const list of groupBy(messages, ({ epoch }) => epoch).values()) {
      list.sort((a, b) => a.seq - b.seq);
      let latest = { sentAt: 0, timestamp: 0 };
      for (const message of list) {
        if (message.doneAt < latest.sentAt) {
          this.ledger.fault('out of order', `${this.name}: ${message.id} was done before ${latest.id} was begun`);
        }
        if (message.sentAt > latest.sentAt) latest = message;
      }
    }
  }
}

function groupBy(list, by) {
  const groups = new Map();
  for (const one of list) {
    const key = by(one);
    if (groups.has(key)) groups.get(key).push(one);
    else groups.set(key, [one]);
  }
  return groups;
}

/* ---- a client's place on a channel ---------------------------------------- */

class Place {
  constructor(client, book) {
    this.client = client;
    this.book = book;
    this.epoch = null;                          /* of the cursor; null before the first reply */
    this.seq = 0;
    this.asks = client.begins;                  /* what is sent for want of a cursor */
    this.resets = [];
    this.had = new Uint16Array(64);             /* by k: 1 + how many resets there were when it came */
    this.timestamp = 0;
  }

  get name() { return this.book.name; }
  get cursor() { return this.epoch === null ? this.asks : `${this.epoch}-${this.seq}`; }
  get ledger() { return this.book.ledger; }

  fault(kind, what) {
    this.ledger.fault(kind, `client ${this.client.number} on ${this.name} at ${this.cursor}: ${what}`);
  }

  has(k) { return k < this.had.length && this.had[k] > 0; }

  /* What one reply has for this channel: `told` says why there was a reset. */
  take(messages, cursor, told, at) {
    const next = parts(cursor);
    const from = messages.length > 0 ? parts(messages[0].id).seq - 1 : next.seq;
    if (this.epoch === null) this.begin(next.epoch, from, told, at);
    else if (told) this.reset(next.epoch, from, told, at, messages.length);
    else if (next.epoch !== this.epoch) this.fault('unflagged', `another epoch, ${cursor}, and no reset`);
    for (const message of messages) this.step(message);
    if (next.seq !== this.seq) this.fault('cursor', `the cursor ${cursor} is not where the messages end`);
    this.epoch = next.epoch;
    this.seq = next.seq;
  }

  begin(epoch, seq, told, at) {
    if (told) this.fault('reset', `${told}, of a client that had no cursor`);
    this.epoch = epoch;
    this.seq = seq;
    this.start = { epoch, seq, at };
  }

  reset(epoch, seq, why, at, count) {
    if (!['epoch', 'evicted', 'ahead'].includes(why)) this.fault('reset', `told ${why}`);
    if ((why === 'epoch') !== (epoch !== this.epoch)) this.fault('reset', `${why}, and goes on in ${epoch}`);
    if (why === 'evicted' && seq <= this.seq) this.fault('reset', `evicted, and goes on from ${seq}`);
    this.resets.push({ why, at, from: this.epoch, to: epoch, seq, count, repeats: 0 });
    this.ledger.counts[why] += 1;
    if (count === 0) this.ledger.counts.emptyResets += 1;
    this.timestamp = 0;
    this.epoch = epoch;
    this.seq = seq;
  }

  step(shown) {
    const { seq } = parts(shown.id);
    if (seq !== this.seq + 1) this.fault('hole', `the next is ${shown.id}`);
    this.seq = seq;
    if (!(shown.timestamp > this.timestamp)) this.fault('time', `the timestamp of ${shown.id} is not above the one before`);
    this.timestamp = shown.timestamp;
    const message = this.book.shown(shown);
    if (!message) return;
    this.ledger.counts.received += 1;
    const { k } = message;
    if (k >= this.had.length) {
      const wider = new Uint16Array(Math.max(this.had.length * 2, k + 1));
      wider.set(this.had);
      this.had = wider;
    }
    if (this.had[k] > this.resets.length) this.fault('twice', `${shown.id} came again`);
    else if (this.had[k] > 0) this.repeats(shown);
    this.had[k] = this.resets.length + 1;
  }

  /* Only after a reset for which nothing could be said about what it had. */
  repeats(shown) {
    const reset = this.resets.at(-1);
    reset.repeats += 1;
    reset.repeated ??= shown.id;
    this.ledger.counts.repeats += 1;
  }

  /* Is it told that this message may be missing? The reset must have come
     after it was sent, and must not lie before it in its own epoch. */
  isExcused({ sentAt, epoch, seq }) {
    return this.resets.some((reset) => reset.at >= sentAt && !(epoch === reset.to && seq > reset.seq));
  }

  isDue({ sentAt, epoch, seq }) {
    if (this.start === undefined) return false;
    return epoch === this.start.epoch ? seq > this.start.seq : sentAt > this.start.at;
  }

  judge(messages) {
    for (const message of messages) {
      if (message.outcome !== 'ok' || this.has(message.k) || !this.isDue(message)) continue;
      if (this.isExcused(message)) this.ledger.counts.flagged += 1;
      else if (this.ledger.isOutside(message)) this.ledger.counts.outside += 1;
      else this.fault('lost', `${message.id} never came, and nothing was said`);
    }
    for (const reset of this.resets) {
      if (reset.repeats === 0 || reset.judged) continue;
      reset.judged = true;
      const what = `after ${reset.why} from ${reset.from} to ${reset.to} ${reset.repeats} messages came again, ${reset.repeated} first`;
      if (reset.why === 'evicted') this.fault('repeat', what);
      if (this.ledger.isNear(reset)) continue;
      if (reset.why === 'epoch' && this.book.parents.get(reset.to) === reset.from) this.fault('repeat', what);
    }
  }
}

/* ---- a client -------------------------------------------------------------- */

class Client {
  constructor(crowd, number, books) {
    const { dice } = crowd;
    this.crowd = crowd;
    this.number = number;
    this.begins = dice.pick(['0', 'now', '']);
    this.places = books.map((book) => new Place(this, book));
    this.byName = new Map(this.places.map((place) => [place.name, place]));
    this.lines = new Lines();
    this.path = `/api/poll/${books.map(({ name }) => encodeURIComponent(name)).join(',')}`;
    this.deadline = Infinity;
    this.line = null;
  }

  get begun() { return this.places.every(({ epoch }) => epoch !== null); }

  request(timeout) {
    const { dice, options } = this.crowd;
    const limit = dice.is(0.2) ? `&limit=${1 + dice.below(20)}` : '&limit=1000';
    const cursor = this.places.map((place) => place.cursor).join(',');
    return `GET ${this.path}?last_id=${cursor}&timeout=${timeout}${limit} HTTP/1.1\r\nHost: 127.0.0.1\r\n`
      + `X-Client-ID: ${options.name}-${this.number}\r\n\r\n`;
  }

  async run() {
    const { crowd } = this;
    while (!crowd.over) await (crowd.dice.is(crowd.options.streams) ? this.stream() : this.turn());
    this.lines.end();
  }

  async turn() {
    const { crowd } = this;
    const { dice, options, ledger } = crowd;
    const timeout = dice.is(options.instant) ? 0 : Math.ceil(1 + dice.random() * (options.timeout - 1));
    const line = this.lines.to(dice.pick(crowd.instances));
    this.line = line;
    this.asked = performance.now();
    this.deadline = this.asked + timeout * 1000 + options.grace;
    const leaves = dice.is(options.leaves) && setTimeout(() => line.end('left'), dice.random() * 200);
    try {
      await this.hears(await line.ask(this.request(timeout)), timeout);
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      if (!crowd.over) ledger.counts[error.message === 'left' ? 'left' : 'lostPolls'] += 1;
      if (!/^(left|closed|gone|ended here)$/.test(error.message)) ledger.fault('http', `a poll: ${error.message}`);
      if (!error.sent) await sleep(5 + dice.below(30));
    } finally {
      clearTimeout(leaves);
      this.deadline = Infinity;
    }
  }

  /* A stream for a while, which is then cut, wherever it stands. */
  async stream() {
    const { dice, instances, ledger } = this.crowd;
    const socket = net.connect(dice.pick(instances).port, '127.0.0.1');
    const timer = setTimeout(() => socket.destroy(), dice.random() * STREAM_MS);
    const decoder = new TextDecoder();
    const parser = new EventParser();
    let head = NOTHING;
    socket.write(this.request(0).replace('/api/poll/', '/api/stream/').replace('&timeout=0', ''), 'latin1');
    try {
      for await (let part of socket) {
        if (!head.includes(HEAD_END)) {
          head = Buffer.concat([head, part]);
          const end = head.indexOf(HEAD_END);
          if (end < 0) continue;
          part = head.subarray(end + HEAD_END.length);
          if (head.latin1Slice(9, 12) !== '200') break;
          ledger.counts.streams += 1;
        }
        parser.push(decoder.decode(part, { stream: true }));
        for (const event of parser.events.splice(0)) this.hearsEvent(event);
      }
    } catch (error) {
      if (!error.code) throw error;             /* else it is the connection's */
    } finally {
      clearTimeout(timer);
      socket.destroy();
    }
    const status = head.latin1Slice(9, 12);
    if (status === '503') ledger.counts.polls503 += 1;
    else if (!['200', ''].includes(status)) ledger.fault('http', `a stream was answered ${head}`);
    if (status !== '200') await sleep(20 + dice.below(200));
  }

  hearsEvent({ type, data, lastId }) {
    const isReset = type === 'reset';
    const messages = isReset ? [] : [JSON.parse(data)];
    this.take({ status: 'messages', last_id: lastId, count: messages.length, messages, ...(isReset && { reset: JSON.parse(data) }) }, 0);
  }

  hears(answer, timeout) {
    const { ledger, dice } = this.crowd;
    ledger.counts.replies += 1;
    if (answer.status === 503) {
      ledger.counts.polls503 += 1;
      if (!answer.retry) ledger.fault('http', `503 without Retry-After: ${answer.text}`);
      return sleep(20 + dice.below(200));
    }
    if (answer.status !== 200) return ledger.fault('http', `a poll was answered ${answer.status}: ${answer.text}`);
    return this.take(JSON.parse(answer.text), timeout);
  }

  take(reply, timeout) {
    const { ledger } = this.crowd;
    const at = performance.now();
    const cursors = reply.last_id.split(',');
    const shares = new Map(this.places.map(({ name }) => [name, []]));
    if (cursors.length !== this.places.length) return ledger.fault('cursor', `${this.path} was given ${reply.last_id}`);
    if (reply.count !== reply.messages.length) ledger.fault('http', `count is ${reply.count}, of ${reply.messages.length}`);
    this.checkMerge(reply.messages);
    for (const message of reply.messages) {
      const share = shares.get(message.channel);
      if (share) share.push(message);
      else ledger.fault('not asked for', `${this.path} got ${message.id} of ${message.channel}`);
    }
    for (const name of Object.keys(reply.reset ?? {})) {
      if (!this.byName.has(name)) ledger.fault('reset', `of ${name}, which ${this.path} does not ask for`);
    }
    this.places.forEach((place, i) => place.take(shares.get(place.name), cursors[i], reply.reset?.[place.name], at));
    const early = reply.status === 'timeout' && !reply.reset && at - this.asked < timeout * 1000 - 50;
    if (early) ledger.counts.early += 1;
    return undefined;
  }

  /* Messages of several channels come by time, then by the list's order. */
  checkMerge(messages) {
    let before = null;
    for (const message of messages) {
      const isBehind = before && (message.timestamp < before.timestamp
        || (message.timestamp === before.timestamp && this.rank(message) <= this.rank(before)));
      if (isBehind) this.crowd.ledger.fault('merge', `${message.channel} ${message.id} came after ${before.channel} ${before.id}`);
      before = message;
    }
  }

  rank({ channel }) { return this.places.findIndex(({ name }) => name === channel); }
}

/* ---- the ledger ------------------------------------------------------------ */

class Ledger {
  constructor() {
    this.faults = [];
    this.kinds = {};                            /* kind of fault -> how many */
    this.outside = [];                          /* [from, to]: two primaries at once */
    this.counts = {
      ok: 0, refused: 0, unknown: 0, replies: 0, received: 0, epoch: 0, evicted: 0, ahead: 0, emptyResets: 0,
      flagged: 0, outside: 0, repeats: 0, polls503: 0, lostPolls: 0, left: 0, early: 0, streams: 0,
    };
  }

  fault(kind, what) {
    this.kinds[kind] = (this.kinds[kind] ?? 0) + 1;
    if (this.faults.length < 20) this.faults.push(`${kind}: ${what}`);
  }

  /* Was it accepted while there were two primaries? Then it is lost to those
     who are with the other, and the promise does not speak of it. */
  isOutside({ sentAt }) { return this.outside.some(([from, to]) => sentAt >= from && sentAt <= to); }

  /* Was it told while there were two primaries, or soon after? A client that
     goes from one to the other and back has had some of what comes then. */
  isNear({ at }) { return this.outside.some(([from, to]) => at >= from && at <= to + 5000); }
}

/* ---- the crowd ------------------------------------------------------------- */

export class Crowd {
  /* `instances`: whatever has a port; the list may change at any time.
       channels, clients, publishers   how many
       lanes       messages that one publisher has under way
       spread      a client has 1 to so many channels
       pause       ms between two messages of one publisher
       text        bytes of an ordinary message; one in a hundred is large
       timeout     seconds of the longest poll
       instant     share of polls with timeout=0
       streams     share of streams in place of polls
       leaves      share of polls whose client goes away
       grace       ms that an answer may be late */
  constructor(instances, options = {}) {
    this.options = {
      channels: 10, clients: 30, publishers: 3, lanes: 1, spread: 3, pause: 10, text: 60, timeout: 20, instant: 0.05, streams: 0,
      leaves: 0.02, grace: 12_000 * SLOW, name: 'crowd', seed: SEED, ...options,
    };
    this.dice = chance(this.options.seed);
    this.instances = instances;
    this.ledger = new Ledger();
    this.over = false;
    this.paused = true;
    this.wanted = Infinity;                     /* messages in all */
    this.sent = 0;
    this.underWay = 0;
    this.books = Array.from({ length: this.options.channels }, (_, i) => new Book(`${this.options.name}-${i}`, this.ledger));
    this.clients = Array.from({ length: this.options.clients }, (_, i) => {
      const books = new Set([this.books[i % this.books.length]]);
      for (let more = this.dice.below(this.options.spread); more > 0; more -= 1) books.add(this.dice.pick(this.books));
      return new Client(this, i, [...books]);
    });
    this.publisherLines = [];
    this.numbers = new Map();                   /* publisher -> its counter */
  }

  get places() { return this.clients.flatMap(({ places }) => places); }

  start() {
    const { publishers, lanes } = this.options;
    this.running = [
      ...this.clients.map((client) => client.run()),
      ...Array.from({ length: publishers * lanes }, (_, i) => this.publishes(1 + (i % publishers))),
    ];
    for (const one of this.running) one.catch((error) => this.ledger.fault('harness', error.stack));
    this.watch = setInterval(() => this.watches(), 250);
    return this;
  }

  /* A poll that is not answered in time is a fault; the client goes on. */
  watches() {
    const now = performance.now();
    for (const client of this.clients) {
      if (now < client.deadline) continue;
      this.ledger.fault('no answer', `client ${client.number} polled ${Math.round(now - client.asked)} ms ago`);
      client.line.end('left');
    }
  }

  /* Publish without end, or until so many were sent; then wait for those. */
  async publish(total = Infinity, ms = 600_000) {
    this.wanted = total === Infinity ? Infinity : this.sent + total;
    this.paused = false;
    const end = performance.now() + ms;
    while (this.wanted < Infinity && (this.sent < this.wanted || this.underWay > 0)) {
      if (performance.now() > end) return this.ledger.fault('slow', `${this.wanted - this.sent} messages not sent in ${ms} ms`);
      await sleep(20);
    }
    return undefined;
  }

  /* Hold the publishers, and wait for what is under way. */
  async hold() {
    this.paused = true;
    while (this.underWay > 0) await sleep(2);
  }

  async publishes(p) {
    const lines = new Lines();
    this.publisherLines.push(lines);
    const { pause } = this.options;
    while (!this.over) {
      if (this.paused || this.sent >= this.wanted) {
        await sleep(5);
        continue;
      }
      this.sent += 1;
      const { outcome } = await this.says(p, this.dice.pick(this.books), lines, this.dice.pick(this.instances));
      if (outcome === 'refused') await sleep(10 + this.dice.below(40));
      else if (pause > 0) await sleep(pause * (0.5 + this.dice.random()));
    }
    lines.end();
  }

  /* Publish one message, and write down what became of it. */
  async says(p, book, lines, instance, ms = this.options.grace) {
    const n = (this.numbers.get(p) ?? 0) + 1;
    this.numbers.set(p, n);
    const message = book.add(p, n);
    const size = this.dice.is(0.01) ? this.options.text * 50 : this.dice.below(this.options.text * 2);
    const body = `{"p":${p},"n":${n},"k":${message.k},"text":"${'x'.repeat(size)}"}`;
    const line = lines.to(instance);
    const timer = setTimeout(() => line.end('late'), ms);
    this.underWay += 1;
    try {
      const answer = await line.ask(`POST /api/publish/${encodeURIComponent(book.name)} HTTP/1.1\r\nHost: 127.0.0.1\r\n`
        + `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`);
      this.wasAnswered(book, message, answer);
    } catch (error) {
      if (!(error instanceof Lost)) throw error;
      if (error.message === 'late') this.ledger.fault('no answer', `to publish ${message.k} on ${book.name}`);
      book.became(message, error.sent ? 'unknown' : 'refused');
    } finally {
      clearTimeout(timer);
      this.underWay -= 1;
    }
    return message;
  }

  wasAnswered(book, message, { status, text, retry }) {
    const reply = JSON.parse(text);
    message.status = status;
    if (status === 200) return book.became(message, 'ok', reply);
    book.became(message, status === 503 ? 'refused' : 'unknown');
    if (![503, 504].includes(status) || typeof reply.error !== 'string') {
      this.ledger.fault('http', `publish was answered ${status}: ${text}`);
    }
    if (status === 503 && !retry) this.ledger.fault('http', `503 without Retry-After: ${text}`);
    return undefined;
  }

  /* Publish on every channel what every client must receive in time, and judge
     all that was done before it. Resolves to how many ms the last of them took
     to come to the last client. */
  async barrier(ms = 20_000 * SLOW, books = this.books) {
    const began = performance.now();
    const end = began + ms;
    const markers = new Map();
    await Promise.all(books.map(async (book) => {
      const lines = new Lines();
      while (!markers.has(book) && performance.now() < end) {
        const message = await this.says(0, book, lines, this.dice.pick(this.instances), end - performance.now() + 1000);
        if (message.outcome === 'ok') markers.set(book, message);
        else await sleep(20);
      }
      if (!markers.has(book)) this.ledger.fault('starved', `nothing could be published on ${book.name} for ${ms} ms`);
      lines.end();
    }));
    const lacks = (place) => {
      const marker = markers.get(place.book);
      return place.start === undefined || (place.isDue(marker) && !place.has(marker.k));
    };
    let places = this.places.filter((place) => markers.has(place.book));
    while ((places = places.filter(lacks)).length > 0 && performance.now() < end) await sleep(5);
    for (const place of places) {
      if (place.start) place.fault('starved', `${markers.get(place.book).id} did not come in ${ms} ms`);
      else place.fault('starved', `no answer to its first poll in ${ms} ms`);
    }
    await this.learnParents?.();
    for (const [book, marker] of markers) this.judge(book, marker);
    return performance.now() - began;
  }

  judge(book, marker) {
    const isRipe = ({ doneAt }) => doneAt <= marker.sentAt;
    const ripe = book.open.filter(isRipe);
    book.open = book.open.filter((message) => !isRipe(message));
    book.judgeOrder(ripe.filter(({ outcome }) => outcome === 'ok'));
    for (const place of this.places) if (place.book === book) place.judge(ripe);
  }

  /* The end of all of it. */
  async finish() {
    this.over = true;
    clearInterval(this.watch);
    for (const client of this.clients) client.lines.end();
    for (const lines of this.publisherLines) lines.end();
    await Promise.all(this.running);
  }

  /* Throws if the promise was broken. */
  check() {
    const { faults, kinds } = this.ledger;
    if (faults.length > 0) throw new Error(`seed ${this.options.seed}: ${JSON.stringify(kinds)}\n${faults.join('\n')}`);
  }

  get summary() {
    const { counts } = this.ledger;
    return Object.entries(counts).filter(([, n]) => n > 0).map(([name, n]) => `${name} ${n}`).join(', ');
  }
}
