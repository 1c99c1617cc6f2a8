/* For the tests of demo/client/longpoll.js: a server that answers as it is told,
   a client whose events are noted down, and where time is the subject a
   network and timers of the test's own. */

import http from 'node:http';
import { once } from 'node:events';
import { LongPollingClient } from '../../demo/client/longpoll.js';

export const QUICK = { retryDelay: 20, retryDelayMax: 40 };

/* --- the scripted server -------------------------------------------------- */

export const M = (id, channel = 'news', more = {}) =>
  ({ id, channel, timestamp: 1, ...more });

export const body = (lastId, messages = [], more = {}) => JSON.stringify({
  status: messages.length ? 'messages' : 'timeout', last_id: lastId,
  timestamp: 1, count: messages.length, messages, ...more });

/* Each step answers one request: a string is the body of a 200, a function
   is called with (req, res). When the steps are used up, polls are parked. */
export async function serve(t, steps, options = {}) {
  const seen = [];                  /* every request, in order */
  const server = http.createServer((req, res) => {
    const url = new URL(req.url, 'http://x');
    seen.push({ url: req.url, query: url.searchParams, at: performance.now(),
      headers: req.headers, method: req.method, req, res });
    server.emit('seen');
    const step = steps[seen.length - 1] ?? options.otherwise;
    if (typeof step === 'string') res.end(step);
    else if (step) step(req, res);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => { server.close(); server.closeAllConnections(); });
  const requests = async (n) => {
    while (seen.length < n) await once(server, 'seen');
  };
  const url = `http://127.0.0.1:${server.address().port}`;
  return { url, seen, steps, requests };
}

export const status = (code, headers = {}, text = '{"error":"because"}') =>
  (req, res) => { res.writeHead(code, headers); res.end(text); };

export function client(t, url, channels = 'news', options = {}) {
  const c = new LongPollingClient(url, channels, { ...QUICK, ...options });
  const log = { ids: [], resets: [], errors: [], gone: [], connected: 0 };
  c.on('message', (m) => log.ids.push(m.id));
  c.on('reset', (r) => log.resets.push(r));
  c.on('error', (e) => log.errors.push(e));
  c.on('disconnected', (d) => log.gone.push(d));
  c.on('connected', () => { log.connected++; });
  t.after(() => c.stop());
  return Object.assign(c, { log });
}

export const next = (c, event) => new Promise((resolve) => {
  c.once(event, (...args) => resolve(args));
});
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/* --- time and network of the test's own ----------------------------------- */

export const realImmediate = setImmediate;
export async function settle() {
  for (let i = 0; i < 20; i++) await new Promise((r) => realImmediate(r));
}

export function fakeTimers(t) {
  const { setTimeout: set, clearTimeout: clear } = globalThis;
  const timers = new Map();
  let id = 0;
  const clock = {
    now: 0,
    pending: () => [...timers.values()].map((timer) => timer.at - clock.now),
    async advance(ms) {
      const end = clock.now + ms;
      for (;;) {
        const due = [...timers].filter(([, timer]) => timer.at <= end)
          .sort((a, b) => a[1].at - b[1].at)[0];
        if (!due) break;
        clock.now = due[1].at;
        timers.delete(due[0]);
        due[1].fn();
        await settle();
      }
      clock.now = end;
      await settle();
    },
  };
  globalThis.setTimeout = (fn, ms = 1) => {
    /* Node's own fetch() keeps timers too, from the tests before. */
    if (!new Error().stack.includes('/longpoll.js')) return set(fn, ms);
    /* As the real one: out of range is 1. */
    const wait = ms >= 1 && ms <= 2 ** 31 - 1 ? ms : 1;
    timers.set(++id, { at: clock.now + wait, fn });
    return id;
  };
  globalThis.clearTimeout = (timer) =>
    (typeof timer === 'number' ? timers.delete(timer) : clear(timer));
  t.after(() => {
    globalThis.setTimeout = set;
    globalThis.clearTimeout = clear;
  });
  return clock;
}

/* A window's events, and a wall clock that jumps; `tick` is the interval by
   which the client looks at it. */
export function fakeWindow(t) {
  const { setInterval: set, clearInterval: clear } = globalThis;
  const { now } = Date;
  const page = new EventTarget();
  const ticks = new Map();
  let offset = 0;
  globalThis.addEventListener = page.addEventListener.bind(page);
  globalThis.document = Object.assign(new EventTarget(),
    { visibilityState: 'visible' });
  globalThis.setInterval = (fn) => {
    ticks.set(ticks.size, fn);
    return ticks.size - 1;
  };
  globalThis.clearInterval = (id) => ticks.delete(id);
  Date.now = () => now() + offset;
  t.after(() => {
    delete globalThis.addEventListener;
    delete globalThis.document;
    Object.assign(globalThis, { setInterval: set, clearInterval: clear });
    Date.now = now;
  });
  const online = () => page.dispatchEvent(new Event('online'));
  const tick = (ms) => { offset += ms; for (const fn of ticks.values()) fn(); };
  return { page, ticks, online, tick };
}

/* A fetch() whose answers are Response objects, errors to reject with, or
   'park', which is left only by an abort. The last one repeats, but not for
   ever: a client that spins must fail its test, not hang it. */
export function fakeFetch(answers) {
  const calls = [];
  const fetch = (url, init) => new Promise((resolve, reject) => {
    const answer = answers[Math.min(calls.length, answers.length - 1)];
    calls.push(url);
    if (calls.length > 1000) return;
    init.signal.addEventListener('abort', () => reject(init.signal.reason));
    if (answer instanceof Error) reject(answer);
    else if (answer !== 'park') resolve(answer());
  });
  return { fetch, calls };
}

export const refuse = (code, headers = {}) => () =>
  new Response('{"error":"because"}', { status: code, headers });
export const ok = (...args) => () => new Response(body(...args));
