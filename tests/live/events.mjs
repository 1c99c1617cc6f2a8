/* A strict reader of server-sent events, for the tests of GET /api/stream: what
   the server may send is read to the letter, and anything else fails. Its
   connections can be cut at any byte, and go on with the id of the last event
   that came whole. */

import assert from 'node:assert/strict';
import { CURSOR, Raw, Reader, SLOW, pollTarget, sleep } from './harness.mjs';

const WAIT_MS = 20_000 * SLOW;

export const streamTarget = (channels, params) => pollTarget(channels, params).replace('/api/poll/', '/api/stream/');

/* Keeps the promise's books as Reader does, by events: each has the cursor
   after it. */
export class Listener extends Reader {
  event({ type, id, data }) {
    const cursors = id.split(',');
    assert.equal(cursors.length, this.channels.length, id);
    for (const cursor of cursors) assert.match(cursor, new RegExp(`^${CURSOR}$`));
    if (type === 'reset') {
      assert.ok(Object.keys(data).length > 0, 'a reset says of which channel');
      for (const [name, why] of Object.entries(data)) {
        assert.ok(this.channels.includes(name), name);
        assert.ok(['evicted', 'epoch', 'ahead'].includes(why), why);
        this.resets.push([name, why]);
        this.at.delete(name);
      }
    } else {
      const list = this.seen.get(data.channel);
      assert.ok(list, `a message of ${data.channel}`);
      this.step(data.channel, data.id);
      assert.ok(data.timestamp > (list.at(-1)?.timestamp ?? 0), 'timestamps increase');
      list.push(data);
    }
    this.channels.forEach((name, i) => this.stand(name, cursors[i]));
    this.cursor = id;
  }

  /* The stream begins there; not said before a reset. */
  begins(id) {
    const cursors = id.split(',');
    assert.equal(cursors.length, this.channels.length, id);
    this.channels.forEach((name, i) => this.stand(name, cursors[i]));
    this.cursor = id;
  }

  has(channel, id) { return this.seen.get(channel).some((message) => message.id === id); }
}

/* One connection with a stream. `server` is whatever has raw(); `cut` is how
   many bytes of the answer are read before the connection is cut, and `how`
   what does so: close or reset. */
export class Stream {
  static async open(server, listener, { params, headers = {}, version = '1.1', cut = Infinity, how = 'close', ...options } = {}) {
    const self = new Stream();
    const all = { ...(listener.cursor === undefined ? {} : { 'Last-Event-ID': listener.cursor }), ...headers };
    self.listener = listener;
    self.left = cut;
    self.how = how;
    self.payload = Buffer.alloc(0);
    self.blocks = 0;
    self.beats = 0;
    self.ending = null;                 /* then 'end', 'reset', 'cut' or 'refused' */
    self.raw = await server.raw(options);
    const lines = Object.entries({ ...(version === '1.1' ? { Host: '127.0.0.1' } : {}), ...all });
    self.raw.send(`GET ${streamTarget(listener.channels, params)} HTTP/${version}\r\n${
      lines.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`);
    return self;
  }

  /* The head. 200 begins the stream; else there is an error in `text`. */
  async begin({ ms = WAIT_MS } = {}) {
    this.raws = Buffer.alloc(0);
    this.pump = this.pumpHead;
    const end = await this.find(() => (this.raws.includes('\r\n\r\n') ? this.raws.indexOf('\r\n\r\n') : null), ms, 'the head of a stream');
    if (end === null) return null;
    const [first, ...fields] = this.raws.subarray(0, end).toString('latin1').split('\r\n');
    const status = /^HTTP\/1\.1 (\d\d\d) [ -~]+$/.exec(first);
    assert.ok(status, `a status line: ${first}`);
    this.status = Number(status[1]);
    this.headers = {};
    for (const line of fields) {
      const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~]*)$/.exec(line);
      assert.ok(field && !(field[1].toLowerCase() in this.headers), `a field, once: ${line}`);
      this.headers[field[1].toLowerCase()] = field[2];
    }
    const rest = this.raws.subarray(end + 4);
    if (this.status !== 200) {
      const size = Number(this.headers['content-length']);
      this.raws = rest;
      await this.find(() => (this.raws.length >= size ? true : null), ms, 'the body of a refusal');
      this.text = this.raws.toString('utf8');
      this.close('refused');
      return this.status;
    }
    assert.equal(this.headers['content-type'], 'text/event-stream');
    assert.equal(this.headers['content-length'], undefined);
    if ('transfer-encoding' in this.headers) {      /* a proxy's */
      assert.equal(this.headers['transfer-encoding'], 'chunked');
      this.chunks = new Chunks();
    }
    this.pump = this.pumpBody;
    this.arrived(rest);
    return 200;
  }

  /* The next event, as it stands in the books; null once the stream has
     ended. */
  async next({ ms = WAIT_MS } = {}) {
    const end = Date.now() + ms;
    for (;;) {
      const block = await this.find(() => this.block(), Math.max(0, end - Date.now()), 'an event');
      if (block === null) return null;
      const event = this.parse(block);
      if (!event) continue;
      this.listener.event(event);
      return event;
    }
  }

  /* Read until it is true, or for a while; true unless the stream ended. */
  async until(done, { ms = WAIT_MS } = {}) {
    const end = Date.now() + ms;
    while (!done()) {
      const block = await this.find(() => this.block() ?? (done() ? '' : null), Math.max(0, end - Date.now()), 'the stream');
      if (block === null) return false;
      const event = block && this.parse(block);
      if (event) this.listener.event(event);
    }
    return true;
  }

  block() {
    const end = this.payload.indexOf('\n\n');
    if (end < 0) return null;
    const block = new TextDecoder('utf-8', { fatal: true }).decode(this.payload.subarray(0, end));
    this.payload = this.payload.subarray(end + 2);
    this.blocks += 1;
    return block;
  }

  /* An event, or null for what is none. */
  parse(block) {
    if (this.blocks === 1) {
      const first = /^retry: 1000(?:\nid: ([0-9a-f,-]+))?$/.exec(block);
      assert.ok(first, block);
      if (first[1]) this.listener.begins(first[1]);
      return null;
    }
    if (block === ':') {
      this.beats += 1;
      return null;
    }
    const event = /^(event: reset\n)?id: ([0-9a-f,-]+)\ndata: (\{[^\r\n]*\})$/.exec(block);
    assert.ok(event, `an event: ${JSON.stringify(block.slice(0, 500))}`);
    return { type: event[1] ? 'reset' : 'message', id: event[2], data: JSON.parse(event[3]) };
  }

  pumpHead(part) { this.raws = Buffer.concat([this.raws, part]); }

  pumpBody(part) { this.arrived(part); }

  arrived(part) {
    this.payload = Buffer.concat([this.payload, this.chunks ? this.chunks.decode(part) : part]);
  }

  /* Wait until `ready` gives something; null if the stream ends before. */
  async find(ready, ms, what) {
    const end = Date.now() + ms;
    for (;;) {
      const { raw } = this;
      const n = Math.min(raw.size, this.left);
      if (n > 0) {
        const got = raw.got;
        raw.got = got.subarray(n);
        this.left -= n;
        this.pump(got.subarray(0, n));
      }
      const value = ready();
      if (value !== null) return value;
      if (this.left === 0) this.close('cut');
      else if (this.chunks?.ended) this.close('end');
      else if (raw.state !== 'open') this.ending ??= raw.state;
      if (this.ending) return null;
      const left = end - Date.now();
      if (left <= 0) {
        throw new Error(`${what}: not within ${ms} ms, at ${this.listener.cursor}, have ${JSON.stringify(this.payload.toString('latin1').slice(0, 300))}`);
      }
      await new Promise((done) => {
        const timer = setTimeout(done, Math.min(left, 20));     /* what `ready` looks at may not come from here */
        raw.wake = () => { clearTimeout(timer); done(); };
      });
      raw.wake = () => {};
    }
  }

  /* What is left of an event that did not come whole. */
  get rest() { return this.payload.toString('latin1'); }

  /* Once: to reset a socket that was closed already hangs node's exit. */
  close(ending = 'cut') {
    this.ending ??= ending;
    if (this.raw.state === 'open' && !this.raw.socket.destroyed) this.raw[this.how]();
  }
}

/* Chunked coding, decoded strictly as it comes. */
class Chunks {
  bytes = Buffer.alloc(0);
  left = 0;                             /* of a chunk and the line end behind it */
  last = false;
  ended = false;

  decode(part) {
    const out = [];
    this.bytes = Buffer.concat([this.bytes, part]);
    while (this.bytes.length > 0) {
      assert.ok(!this.ended, 'nothing follows the last chunk');
      if (this.left > 2) {
        const n = Math.min(this.left - 2, this.bytes.length);
        out.push(this.bytes.subarray(0, n));
        this.bytes = this.bytes.subarray(n);
        this.left -= n;
        continue;
      }
      const end = this.bytes.indexOf('\r\n');
      if (end < 0) break;
      const line = this.bytes.subarray(0, end).toString('latin1');
      this.bytes = this.bytes.subarray(end + 2);
      if (this.left) {
        assert.equal(line, '', 'a line end behind a chunk');
        this.left = 0;
        this.ended = this.last;
      } else {
        assert.match(line, /^[0-9a-fA-F]+$/, 'the size of a chunk');
        this.left = parseInt(line, 16) + 2;
        this.last = this.left === 2;
      }
    }
    return Buffer.concat(out);
  }
}

/* Listen until `done()`. Whenever a stream ends, or is cut after as many bytes
   as `cut` gives, the next one goes on with the last id; `where` gives the
   server that is asked. Gives how many streams there were, and of which end. */
export async function follow(listener, where, { done, cut = () => Infinity, how = () => 'close', refusals = [], params, ms = WAIT_MS } = {}) {
  const counts = { streams: 0, end: 0, reset: 0, cut: 0, refused: 0, lost: 0 };
  const end = Date.now() + ms;
  while (!done()) {
    if (Date.now() > end) throw new Error(`not all has come within ${ms} ms: ${listener.count} messages at ${listener.cursor}, ${JSON.stringify(counts)}`);
    const left = Math.max(1, end - Date.now());
    const stream = await Stream.open(where(), listener, { params, cut: cut(), how: how() }).catch((error) => {
      if (error instanceof assert.AssertionError) throw error;
      return null;
    });
    if (!stream) {                      /* the connection is refused */
      counts.lost += 1;
      await sleep(20);
      continue;
    }
    try {
      counts.streams += 1;
      const status = await stream.begin({ ms: left });
      if (status === 200) await stream.until(done, { ms: left });
      else if (status !== null) assert.ok(refusals.includes(status), `${status}: ${stream.text}`);
      /* A server ends a stream between two events. */
      if (stream.ending === 'end' && status !== null) assert.equal(stream.rest, '', 'an event that is not whole');
    } finally {
      if (stream.ending) counts[stream.ending] += 1;
      stream.close();
    }
    if (stream.ending !== 'cut' && !done()) await sleep(20);
  }
  return counts;
}

/* A proxy's port, as what a stream can be asked of. */
export const at = (port) => ({ raw: (options) => Raw.connect(port, options) });
