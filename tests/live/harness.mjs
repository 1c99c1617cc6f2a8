/* What every live test stands on: it starts a server, speaks to it as a
   well-behaved client (node's http, persistent connections) or as any other
   (raw sockets), and ends whatever it started.

   From the environment, as tests/run sets it:
     LONGPOLL_SERVER    the demo                              [build/server]
     LONGPOLL_HELPERS   where live/server.c and live/fanout.c are built
                                                              [build/live]
     LONGPOLL_SUFFIX    of the server there: -asan            [none]
     LONGPOLL_PASS      plain, asan, msan or tsan             [plain]
     LONGPOLL_LOOPS     --loops of every server                [none]
     LONGPOLL_WRAP      command words put before a server     [none]
     LONGPOLL_NODE_MODULES  where tests/setup has put what the tests
                        want of npm                 [build/node_modules]
     LONGPOLL_SCALE     factor on the heavy counts  [1; by pass 0.2 or 0.02]

   A server must end with status 0 and, but for the demo's warnings, an empty
   stderr, so whatever a sanitizer has to say fails the test that
   started it. */

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import http from 'node:http';
import { createRequire } from 'node:module';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const env = process.env;
const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const built = (name, fallback) => path.resolve(root, env[name] || fallback);

export const PASS = env.LONGPOLL_PASS || 'plain';
export const DEMO = built('LONGPOLL_SERVER', 'build/server');
const helpers = built('LONGPOLL_HELPERS', 'build/live');
export const LIVE = path.join(helpers, `server${env.LONGPOLL_SUFFIX || ''}`);
export const FANOUT = path.join(helpers, 'fanout');
export const WRAP = (env.LONGPOLL_WRAP || '').split(/\s+/).filter(Boolean);
export const SCALE = Number(env.LONGPOLL_SCALE || { asan: 0.2, msan: 0.2, tsan: 0.05 }[PASS] || 1);

/* Upper bounds on time are this much wider where the server is slow. */
export const SLOW = { asan: 2, msan: 2, tsan: 5 }[PASS] || (WRAP.length > 0 ? 5 : 1);

export const scaled = (n, least = 1) => Math.max(least, Math.round(n * SCALE));
export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

const WAIT_MS = 20_000 * SLOW;

/* ---- what is npm's ----------------------------------------------------- */

const modules = built('LONGPOLL_NODE_MODULES', 'build/node_modules');
export const noModule = (name) => !existsSync(path.join(modules, name)) && `no ${name} in ${modules} (tests/setup)`;
export const module = (name) => import(createRequire(path.join(modules, 'here.js')).resolve(name));

/* ---- processes -------------------------------------------------------- */

const running = new Set();              /* everything that was started here */
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});
for (const signal of ['SIGHUP', 'SIGINT', 'SIGTERM']) process.once(signal, () => process.exit(1));

/* A promise nobody awaits any more must not end the test file. */
const quiet = (promise) => { promise.catch(() => {}); return promise; };

export function within(promise, ms, what) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`${what}: not within ${ms} ms`)), ms);
  });
  return quiet(Promise.race([promise, late]).finally(() => clearTimeout(timer)));
}

/* Do `fn` when the test is over, the last of them first, and each of them even
   if another throws. */
const endings = new WeakMap();
export function atEnd(t, fn) {
  if (endings.has(t)) {
    endings.get(t).push(fn);
    return;
  }
  const all = [fn];
  endings.set(t, all);
  t.after(async () => {
    const errors = [];
    for (const ending of all.reverse()) await (async () => ending())().catch((error) => errors.push(error));
    if (errors.length > 0) throw errors[0];
  });
}

/* Ask again and again until `fn` gives something true, and give that. */
export async function until(fn, what, ms = WAIT_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const value = await fn();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${ms} ms`);
    await sleep(5);
  }
}

/* Start a command; it is killed when this process ends, whatever happens. */
export function run(words, options = {}) {
  const child = spawn(words[0], words.slice(1), { cwd: root, stdio: ['pipe', 'pipe', 'pipe'], ...options });
  const self = { child, pid: child.pid, stdout: '', stderr: '' };
  running.add(child);
  child.stdin?.on('error', () => {});
  child.stdout?.setEncoding('utf8').on('data', (text) => { self.stdout += text; });
  child.stderr?.setEncoding('utf8').on('data', (text) => { self.stderr += text; });
  self.ended = quiet(new Promise((done, fail) => {
    child.on('error', (error) => { running.delete(child); fail(error); });
    child.on('close', (code, signal) => {
      running.delete(child);
      self.code = code;
      self.signal = signal;
      done(self);
    });
  }));
  self.end = async (signal = 'SIGKILL') => { child.kill(signal); return self.ended; };
  return self;
}

/* The path of a program that this machine may lack, or null. */
export function which(name) {
  const places = `${env.PATH || ''}:/usr/sbin:/usr/local/sbin`.split(':');
  return places.filter(Boolean).map((p) => path.join(p, name)).find((p) => existsSync(p)) || null;
}

/* Is ::1 an address here? */
export const sixHere = Object.values(os.networkInterfaces()).flat().some(({ address }) => address === '::1');

/* A port that was free a moment ago, for programs that cannot say which one
   the kernel gave them. */
export async function freePort() {
  const listener = net.createServer().listen(0, '127.0.0.1');
  await new Promise((done) => listener.once('listening', done));
  const { port } = listener.address();
  await new Promise((done) => listener.close(done));
  return port;
}

/* CPU time that a process has used, in milliseconds. */
export function cpuMs(pid) {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;       /* utime and stime, in ticks of 10 ms */
}

/* ---- a server --------------------------------------------------------- */

/* Options as an object: {token: "x", "no-limits": true}. */
const asWords = (options) => Object.entries(options)
  .filter(([, value]) => value !== undefined && value !== false)
  .map(([name, value]) => [`--${name}`, value])
  .flatMap(([name, value]) => (value === true ? [name] : [name, String(value)]));

export class Server {
  /* `options` is an object, or the words of a program that has others than the demo's.
     `files` limits the descriptors: a number, or 'max' for all that may be. */
  static async start(binary, options = {}, { files } = {}) {
    const own = Array.isArray(options) ? options : asWords({ port: 0, loops: env.LONGPOLL_LOOPS || undefined, ...options });
    let words = [...WRAP, binary, ...own];
    if (files !== undefined) {
      const limit = files === 'max' ? '$(ulimit -Hn)' : files;
      words = ['sh', '-c', `ulimit -n ${limit}; exec "$@"`, 'sh', ...words];
    }
    const self = new Server();
    self.process = run(words);
    self.pid = self.process.pid;
    self.sockets = new Set();
    self.agent = new http.Agent({ keepAlive: true, maxSockets: Infinity, maxFreeSockets: Infinity });
    const listening = /^listening on (http:\/\/(\S+):(\d+))\n/m;
    const found = until(() => self.process.code !== undefined || listening.test(self.process.stdout),
      'the listening line');
    try {
      await Promise.race([found, self.process.ended]);
      const match = listening.exec(self.process.stdout);
      if (!match) throw new Error(`${binary} did not start: ${self.process.stdout}${self.process.stderr}`);
      [, self.url, self.host] = match;
      self.port = Number(match[3]);
    } catch (error) {
      self.process.child.kill('SIGKILL');
      throw error;
    }
    /* Where clients go: a server on all addresses is reached by loopback. */
    self.reach = { '0.0.0.0': '127.0.0.1', '*': '127.0.0.1', '[::]': '127.0.0.1' }[self.host] || self.host.replace(/[[\]]/g, '');
    return self;
  }

  /* Let go of all connections, then end it as an operator would. */
  async stop({ ms = 15_000 * SLOW } = {}) {
    if (this.stopped) return;
    this.stopped = true;
    this.letGo();
    this.process.child.kill('SIGTERM');
    await this.over(ms);
  }

  /* Wait for the end of a server that was told to stop, and judge it. What it
     has sent may still be on its way to clients then. */
  async over(ms = 15_000 * SLOW) {
    this.stopped = true;
    try {
      await within(this.process.ended, ms, 'the server to end');
    } finally {
      this.process.child.kill('SIGKILL');
    }
    const { code, signal } = this.process;
    let stderr = this.process.stderr.replace(/^server: warning: .*\n/gm, '');
    if (this.tolerated) stderr = stderr.replace(this.tolerated, '');
    assert.deepEqual({ code, signal, stderr }, { code: 0, signal: null, stderr: '' }, 'a clean end');
  }

  letGo() {
    for (const socket of this.sockets) socket.destroy();
    this.agent.destroy();
  }

  async kill() {
    this.stopped = true;
    this.letGo();
    await this.process.end('SIGKILL');
  }

  /* -- as a well-behaved client -- */

  request(method, target, { headers = {}, body, from, agent = this.agent, ms = WAIT_MS } = {}) {
    const began = performance.now();
    const answer = new Promise((done, fail) => {
      const ask = http.request({
        agent, method, path: target, host: this.reach, port: this.port, localAddress: from, headers,
      });
      ask.setTimeout(ms, () => ask.destroy(new Error(`no answer to ${method} ${target} within ${ms} ms`)));
      ask.on('error', fail);
      ask.on('response', (reply) => {
        const parts = [];
        reply.on('data', (part) => parts.push(part));
        reply.on('error', fail);
        reply.on('end', () => {
          const text = Buffer.concat(parts).toString('utf8');
          done(new Answer(reply.statusCode, reply.headers, text, performance.now() - began));
        });
      });
      ask.end(body);
    });
    return quiet(answer);
  }

  /* `params` is an object whose values are encoded, or a string as it is. */
  poll(channels, params = {}, headers = {}, options = {}) {
    return this.request('GET', pollTarget(channels, params), { headers, ...options });
  }

  publish(channel, message, headers = {}, options = {}) {
    const body = typeof message === 'string' || Buffer.isBuffer(message) ? message : JSON.stringify(message);
    return this.request('POST', publishTarget(channel), {
      headers: { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers },
      body,
      ...options,
    });
  }

  /* Publish what must succeed, and give the reply's object. */
  async say(channel, message, options) {
    const answer = await this.publish(channel, message, {}, options);
    assert.equal(answer.status, 200, answer.text);
    return answer.json;
  }

  /* Poll what must succeed, and give the reply's object. */
  async ask(channels, params, headers, options) {
    const answer = await this.poll(channels, params, headers, options);
    assert.equal(answer.status, 200, answer.text);
    return answer.json;
  }

  /* -- the routes of tests/live/server.c -- */

  async stats() {
    const answer = await this.request('GET', '/test/stats');
    assert.equal(answer.status, 200, answer.text);
    return answer.json;
  }

  waiters(n) {
    return until(async () => (await this.stats()).waiters === n, `${n} parked`);
  }

  async burst(channel, n, { text = 'burst', thread = false } = {}) {
    const route = thread ? 'publish-thread' : 'publish-burst';
    const answer = await this.request('POST', `/test/${route}/${encodeURIComponent(channel)}?n=${n}&text=${text}`);
    assert.equal(answer.status, 200, answer.text);
    return answer.json;
  }

  /* -- as any client -- */

  raw(options = {}) {
    return Raw.connect(this.port, { host: this.reach, owner: this.sockets, ...options });
  }

  /* One poll on a connection of its own, parked when this returns. */
  async park(channels, params = {}, { headers = {}, ...options } = {}) {
    const before = (await this.stats()).waiters;
    const raw = await this.raw(options);
    raw.send(get(pollTarget(channels, params), headers));
    await this.waiters(before + 1);
    return raw;
  }
}

export const demo = (t, options, how) => started(t, DEMO, options, how);
export const live = (t, options, how) => started(t, LIVE, options, how);

/* A server that ends with its test. */
async function started(t, binary, options, how) {
  const server = await Server.start(binary, options, how);
  atEnd(t, () => server.stop());
  return server;
}

/* ---- requests and answers --------------------------------------------- */

export function pollTarget(channels, params = {}) {
  const names = [].concat(channels).map(encodeURIComponent).join(',');
  const query = typeof params === 'string' ? params : Object.entries(params)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('&');
  return `/api/poll/${names}${query && `?${query}`}`;
}

export const publishTarget = (channel) => `/api/publish/${encodeURIComponent(channel)}`;

const asLines = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`).join('');

export const get = (target, headers = {}) =>
  `GET ${target} HTTP/1.1\r\n${asLines({ Host: '127.0.0.1', ...headers })}\r\n`;

export const post = (target, body = '{}', headers = {}) => {
  const all = { Host: '127.0.0.1', 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(body), ...headers };
  return `POST ${target} HTTP/1.1\r\n${asLines(all)}\r\n${body}`;
};

export class Answer {
  constructor(status, headers, text, ms) {
    this.status = status;
    this.headers = headers;
    this.text = text;
    this.ms = ms;
  }

  get json() {
    return JSON.parse(this.text);
  }

  /* An error has its status and says exactly one thing. */
  refuses(status, error) {
    assert.equal(this.status, status, this.text);
    assert.deepEqual(Object.keys(this.json), ['error']);
    if (error instanceof RegExp) assert.match(this.json.error, error);
    else if (error) assert.equal(this.text, JSON.stringify({ error }));
    return this;
  }
}

/* ---- a connection under full control ---------------------------------- */

export class Raw {
  static async connect(port, { host = '127.0.0.1', from, owner = new Set(), ms = WAIT_MS } = {}) {
    const self = new Raw();
    self.parts = [];
    self.size = 0;                      /* bytes received and not yet taken */
    self.total = 0;                     /* bytes received, ever */
    self.state = 'open';                /* then 'end' (a FIN came) or 'reset' */
    self.wake = () => {};
    const socket = net.connect({ port, host, localAddress: from, noDelay: true });
    self.socket = socket;
    owner.add(socket);
    socket.on('close', () => owner.delete(socket));
    socket.on('data', (part) => {
      self.parts.push(part);
      self.size += part.length;
      self.total += part.length;
      self.wake();
    });
    socket.on('end', () => { if (self.state === 'open') self.state = 'end'; self.wake(); });
    socket.on('error', (error) => { self.state = 'reset'; self.error = error; self.wake(); });
    socket.on('close', () => { if (self.state === 'open') self.state = 'reset'; self.wake(); });
    await within(new Promise((done, fail) => {
      socket.once('connect', done);
      socket.once('error', fail);
    }), ms, 'a connection');
    return self;
  }

  /* What came and was not taken yet; joined no more often than asked for. */
  get got() {
    if (this.parts.length !== 1) this.parts = [Buffer.concat(this.parts)];
    return this.parts[0];
  }

  set got(rest) {
    this.parts = [rest];
    this.size = rest.length;
  }

  send(bytes) {
    if (this.socket.writable) this.socket.write(bytes);
    return this;
  }

  /* Bytes one by one, in segments of their own. */
  async trickle(bytes, ms) {
    for (const byte of Buffer.from(bytes)) {
      this.send(Buffer.from([byte]));
      await sleep(ms);
    }
    return this;
  }

  finish(bytes) { this.socket.end(bytes); return this; }        /* FIN: half closed */
  close() { this.socket.destroy(); }
  reset() { this.socket.resetAndDestroy(); }                    /* RST */
  pause() { this.socket.pause(); return this; }
  resume() { this.socket.resume(); return this; }

  /* Wait until `ready` gives something, the stream's end or the time's. */
  async expect(ready, ms, what) {
    const end = Date.now() + ms;
    for (;;) {
      const value = ready();
      if (value !== null) return value;
      if (this.state !== 'open') throw new Error(`${what}: ${this.state} after ${JSON.stringify(this.got.toString('latin1').slice(0, 300))}`);
      const left = end - Date.now();
      if (left <= 0) throw new Error(`${what}: not within ${ms} ms, have ${JSON.stringify(this.got.toString('latin1').slice(0, 300))}`);
      await new Promise((done) => {
        const timer = setTimeout(done, left);
        this.wake = () => { clearTimeout(timer); done(); };
      });
      this.wake = () => {};
    }
  }

  /* The next answer, by its Content-Length (1xx, 204, 304 and HEAD: none). */
  async answer({ head = false, ms = WAIT_MS } = {}) {
    const began = performance.now();
    const { status, headers, raw, size, from } = await this.expect(() => parseHead(this.got, head), ms, 'the head of an answer');
    await this.expect(() => (this.size >= from + size ? true : null), ms, 'the body of an answer');
    const text = this.got.subarray(from, from + size).toString('utf8');
    this.got = this.got.subarray(from + size);
    const answer = new Answer(status, headers, text, performance.now() - began);
    answer.head = raw;
    return answer;
  }

  /* At least this many bytes, left where they are. */
  bytes(n, { ms = WAIT_MS } = {}) {
    return this.expect(() => (this.size >= n ? true : null), ms, `${n} bytes`);
  }

  /* The stream's end: 'end' or 'reset'. With nothing left unread. */
  async ended({ ms = WAIT_MS } = {}) {
    const end = Date.now() + ms;
    while (this.state === 'open') {
      if (Date.now() > end) throw new Error(`the connection is still open after ${ms} ms`);
      await sleep(2);
    }
    assert.equal(this.got.toString('latin1'), '', 'nothing more on the connection');
    return this.state;
  }

  /* Nothing comes and nothing ends, for a while. */
  async silent(ms) {
    await sleep(ms);
    assert.equal(this.got.toString('latin1'), '');
    assert.equal(this.state, 'open');
  }
}

/* The head of an answer, strictly; null while it is incomplete. */
export function parseHead(bytes, head = false) {
  const end = bytes.indexOf('\r\n\r\n');
  if (end < 0) return null;
  const raw = bytes.subarray(0, end + 2).toString('latin1');
  const lines = raw.slice(0, -2).split('\r\n');
  const status = /^HTTP\/1\.1 ([1-5]\d\d) [ -~]+$/.exec(lines[0]);
  assert.ok(status, `a status line: ${lines[0]}`);
  const headers = {};
  for (const line of lines.slice(1)) {
    const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t -~]*)$/.exec(line);
    assert.ok(field, `a header field: ${line}`);
    const name = field[1].toLowerCase();
    headers[name] = name in headers ? `${headers[name]}, ${field[2]}` : field[2];
  }
  const code = Number(status[1]);
  const bodiless = head || code < 200 || code === 204 || code === 304;
  if (!bodiless) assert.match(headers['content-length'] ?? '', /^\d+$/, `a Content-Length in ${raw}`);
  return { status: code, headers, raw, from: end + 4, size: bodiless ? 0 : Number(headers['content-length']) };
}

/* ---- what is true of every reply -------------------------------------- */

export const CURSOR = '[0-9a-f]{16}-\\d+';
export const TIME = '\\d+\\.\\d{6}';

export const epochOf = (cursor) => cursor.split('-')[0];
export const seqOf = (cursor) => Number(cursor.split('-')[1]);

/* DESIGN 2: the headers of every answer. */
export function checkHeaders(answer, what = answer.text) {
  const { headers } = answer;
  assert.ok(Math.abs(Date.parse(headers.date) - Date.now()) < 15_000 * SLOW, `Date: ${headers.date} (${what})`);
  assert.match(headers.date, /^[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT$/);
  if (![204, 304].includes(answer.status)) assert.match(headers['content-length'] ?? '', /^\d+$/, what);
  assert.equal(headers['cache-control'], headers.etag ? 'no-cache' : 'no-store', what);
  assert.equal(headers['x-content-type-options'], 'nosniff', what);
}

/* A reader that keeps the promise's books: for each channel where it stands,
   and that what comes is exactly what comes next. */
export class Reader {
  constructor(channels, at = 'at once') {
    this.channels = [].concat(channels);
    this.cursor = at === 'at once' ? undefined : at;
    this.at = new Map();                /* channel -> {epoch, seq} */
    this.seen = new Map(this.channels.map((name) => [name, []]));
    this.resets = [];
    this.replies = 0;
  }

  get count() {
    return [...this.seen.values()].reduce((sum, list) => sum + list.length, 0);
  }

  params(more = {}) {
    return { last_id: this.cursor, timeout: 5, ...more };
  }

  /* Take a reply's object; throws if it breaks the promise. */
  take(reply) {
    this.replies += 1;
    assert.ok(['messages', 'timeout'].includes(reply.status), JSON.stringify(reply).slice(0, 300));
    assert.equal(reply.count, reply.messages.length);
    if (reply.status === 'timeout') assert.equal(reply.count, 0);
    const cursors = reply.last_id.split(',');
    assert.equal(cursors.length, this.channels.length, reply.last_id);
    for (const [name, why] of Object.entries(reply.reset ?? {})) {
      assert.ok(this.channels.includes(name), name);
      this.resets.push([name, why]);
      this.at.delete(name);
    }
    let last = [0, -1];                 /* merged by time, then by the list's order */
    for (const message of reply.messages) {
      const { id, channel, timestamp } = message;
      const place = this.channels.indexOf(channel);
      assert.ok(place >= 0, `a message of ${channel}`);
      assert.ok(timestamp > last[0] || (timestamp === last[0] && place > last[1]), 'merged by timestamp');
      last = [timestamp, place];
      this.step(channel, id);
      this.seen.get(channel).push(message);
    }
    if (reply.count > 0) assert.equal(reply.timestamp, last[0]);
    this.channels.forEach((name, i) => this.stand(name, cursors[i]));
    this.cursor = reply.last_id;
  }

  step(channel, id) {
    const before = this.at.get(channel);
    if (before) assert.equal(id, `${before.epoch}-${before.seq + 1}`, `the next message of ${channel}`);
    this.at.set(channel, { epoch: epochOf(id), seq: seqOf(id) });
  }

  /* The cursor is the position of what was shown, never another. */
  stand(channel, cursor) {
    const at = this.at.get(channel);
    if (at) assert.equal(cursor, `${at.epoch}-${at.seq}`, `the cursor of ${channel}`);
    else this.at.set(channel, { epoch: epochOf(cursor), seq: seqOf(cursor) });
  }

  async once(server, params, headers, options) {
    const reply = await server.ask(this.channels, this.params(params), headers, options);
    this.take(reply);
    return reply;
  }

  /* Poll until `total` messages have come. */
  async read(server, total, params, headers, options) {
    while (this.count < total) await this.once(server, params, headers, options);
    assert.equal(this.count, total, 'no message twice');
  }
}
