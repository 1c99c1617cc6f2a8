/* longpoll.js: the client of longpoll.h, for browsers and Node 18 or later.

     import { LongPollingClient } from './longpoll.js';

     const client = new LongPollingClient('http://127.0.0.1:8080', 'news');
     client.on('message', (message, channel) => console.log(message));
     client.start();

   THE PROMISE
   The server gives a cursor with every reply; the client sends it back with
   the next poll. So nothing is lost while the client is away, short of what
   the server has forgotten by then, and that is told by a `reset`. After a
   reset the server sends all that it still holds; what this client has handed
   on before is dropped by its id. One client object therefore hands each
   message on exactly once, whatever happens to connections and servers.

   new LongPollingClient(baseUrl, channels, options)
     baseUrl         origin and optional path; '' is the page's own origin
     channels        a name, or an array of 1 to 16 different names
     timeout         how long the server may hold a poll, in ms        [30000]
     grace           how much longer to wait for its answer, in ms     [10000]
     retryDelay      ceiling of the first wait after a failure, in ms   [1000]
     retryDelayMax   ceiling of every wait, in ms                      [30000]
     maxRetries      failures in a row that are retried             [Infinity]
     lastId          where to begin: '' for all that is held, 'now' for
                     nothing old, or the `lastId` of an earlier client    ['']
     limit           most messages in one reply             [as the server has]
     prefix          where the API is                                 ['/api']
     headers         more request headers; read anew for each request     [{}]
     token           sent by publish(), as Authorization: Bearer        [none]
     clientId        X-Client-ID; '' sends none, which across origins saves
                     a preflight before each poll           [128 random bits]
     credentials     as fetch() takes it                       ['same-origin']
     fetch, random   stand in for fetch() and Math.random()

   Events, by on(), once() and off(), each (event, listener):
     message       (message, channel)
     reset         ({ channel: 'evicted' | 'epoch' | 'ahead' }) messages of
                   these channels may be missing; comes before what is held
     connected     () the server has answered
     disconnected  ({ error, retryIn }) that has ended, or the client has
                   stopped: retryIn is null then, and error too after stop()
     error         (error) a poll has failed. error.status is the HTTP status,
                   0 if there was none; error.retryIn the ms to the next try,
                   null if there will be none

   Listeners are not awaited. One that throws stops nothing: what it threw is
   the `cause` of an `error` event whose `listener` names the event. If nobody
   listens for errors, or that listener throws, it is rethrown on a microtask.

   start(), stop()  stop() ends the request on its way; start() goes on from
                    the cursor. Both may be called at any time, any number of
                    times; a stop() in a listener takes effect at once.
   publish(channel, object)  resolves to the server's reply. Rejects with an
                    Error that has .status and .retryIn (null if the server
                    did not say); it never retries, since a publish whose
                    answer was lost may have been done.
   lastId           the cursor: everything up to it has been handed on
   state            'stopped', 'connecting', 'connected', or 'waiting' to retry

   What retrying cannot mend (any 4xx but 408, 425 and 429) stops the client.
*/

const EVENTS = ['message', 'reset', 'connected', 'disconnected', 'error'];
const CHANNELS_MAX = 16;
const EPOCHS_MAX = 16;              /* remembered per channel */
const INSTANT_MS = 1000;            /* an empty reply before this is no wait */
const TIMER_MS_MAX = 2 ** 31 - 1;   /* setTimeout fires at once beyond it */
const DAY_MS = 86400000;
const MESSAGE_ID = /^([^-]+)-([0-9]{1,20})$/;           /* EPOCH-SEQ */

export class LongPollingClient {
  #options;
  #base;
  #path;                            /* of the poll, without its query */
  #lastId;
  #state = 'stopped';
  #run = null;                      /* what start() made and stop() ends */
  #seen = new Map();                /* channel -> epoch -> SEQ handed on last */
  #listeners = new Map(EVENTS.map((event) => [event, []]));

  constructor(baseUrl, channels, options = {}) {
    const names = [].concat(channels);
    const o = {
      timeout: 30000, grace: 10000, retryDelay: 1000, retryDelayMax: 30000,
      maxRetries: Infinity, lastId: '', limit: null, prefix: '/api',
      headers: {}, token: '', clientId: randomId(), credentials: 'same-origin',
      random: Math.random,
      fetch: (...args) => globalThis.fetch(...args), ...defined(options),
    };
    checkRange('channels', names.length, 1, CHANNELS_MAX);
    if (new Set(names).size < names.length)
      throw new RangeError('a channel is named twice');
    checkRange('timeout', o.timeout, 1, DAY_MS);
    checkRange('grace', o.grace, 0, DAY_MS);
    checkRange('retryDelay', o.retryDelay, 1, DAY_MS);
    checkRange('retryDelayMax', o.retryDelayMax, 1, DAY_MS);
    checkRange('maxRetries', o.maxRetries, 0, Infinity);
    this.#options = o;
    this.#base = String(baseUrl).replace(/\/+$/, '') + o.prefix;
    this.#path = '/poll/' + names.map(encodeChannel).join(',');
    this.#lastId = String(o.lastId);
  }

  get lastId() { return this.#lastId; }
  get state() { return this.#state; }
  get clientId() { return this.#options.clientId; }

  on(event, fn) { return this.#listen(event, fn, false); }
  once(event, fn) { return this.#listen(event, fn, true); }

  off(event, fn) {
    const rest = this.#of(event).filter((listener) => listener.fn !== fn);
    this.#listeners.set(event, rest);
    return this;
  }

  start() {
    if (this.#run) return;
    const run = { cancel() {}, hurry() {}, page: new AbortController() };
    const { signal } = run.page;
    /* A person who is back at the page, or a network that is back, is a
       reason to try now. Neither exists in Node. */
    if (typeof addEventListener === 'function')
      addEventListener('online', () => run.hurry(), { signal });
    if (typeof document !== 'undefined')
      document.addEventListener('visibilitychange', () => {
        if (document.visibilityState === 'visible') run.hurry();
      }, { signal });
    this.#run = run;
    this.#state = 'connecting';
    this.#loop(run);
  }

  stop() { if (this.#run) this.#end(null); }

  async publish(channel, data) {
    const { token, grace } = this.#options;
    const headers = { 'Content-Type': 'application/json' };
    if (token) headers.Authorization = `Bearer ${token}`;
    const init = { method: 'POST', headers, body: JSON.stringify(data) };
    return this.#request(`/publish/${encodeChannel(channel)}`, init, grace);
  }

  /* --- the loop ----------------------------------------------------------

     A run is over as soon as `this.#run` is another: whatever comes back from
     an await, or from a listener, looks at that first.

     The first poll of a connection is a probe, with timeout=0. A poll that is
     parked tells nothing for half a minute, whether all is well or not; the
     probe tells at once, and makes a cursor of 'now'. It proves little, since
     a proxy may pass it and still cut every long wait: only a poll that has
     waited, or a new message, ends a row of failures. */

  async #loop(run) {
    let failures = 0;
    let empties = 0;                /* instant replies with nothing new */
    while (this.#run === run) {
      const { timeout } = this.#options;
      const probe = this.#state !== 'connected';
      const began = performance.now();
      if (probe) this.#state = 'connecting';
      let reply;
      try {
        reply = await this.#poll(run, probe ? 0 : timeout);
      } catch (error) {
        if (this.#run === run) await this.#failed(run, error, failures++);
        continue;
      }
      if (this.#run !== run) return;
      const waited = !probe &&
        performance.now() - began >= Math.min(INSTANT_MS, timeout / 2);
      if (probe) this.#connected();
      const fresh = this.#deliver(run, reply);
      if (fresh > 0 || waited) failures = empties = 0;
      else if (!probe && ++empties > 1)
        /* One is in order: a reset, or a server that is being stopped. More
           are a server or a proxy that will not wait, and we would spin. */
        await this.#sleep(run, this.#backoff(empties - 2), true);
    }
  }

  #connected() {
    this.#state = 'connected';
    this.#emit('connected');
  }

  async #failed(run, error, failures) {
    const { maxRetries } = this.#options;
    const told = error.retryIn ?? 0;                /* by Retry-After */
    const jitter = this.#backoff(failures);
    const final = isFinal(error.status) || failures >= maxRetries;
    const lost = this.#state === 'connected';
    error.retryIn = final ? null : told + jitter;
    this.#state = 'waiting';
    this.#emit('error', error);
    if (this.#run !== run) return;
    if (final) return this.#end(error);
    if (lost) this.#emit('disconnected', { error, retryIn: error.retryIn });
    /* What the server told is kept to the end; only our own part, which
       spreads out those who were told the same, may be cut short. */
    await this.#sleep(run, told, false);
    await this.#sleep(run, jitter, true);
  }

  #end(error) {
    const run = this.#run;
    this.#run = null;
    this.#state = 'stopped';
    run.page.abort();
    run.cancel();
    this.#emit('disconnected', { error, retryIn: null });
  }

  /* Full jitter: anywhere below a ceiling that doubles, so that clients which
     were cut off together do not come back together. Never next to nothing. */
  #backoff(n) {
    const { retryDelay, retryDelayMax, random } = this.#options;
    const ceiling = Math.min(retryDelayMax, retryDelay * 2 ** n);
    const floor = Math.min(retryDelay, retryDelayMax) / 10;
    return Math.ceil(Math.max(floor, random() * ceiling));
  }

  async #sleep(run, ms, mayHurry) {
    for (; ms > 0 && this.#run === run; ms -= TIMER_MS_MAX)
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, Math.min(ms, TIMER_MS_MAX));
        run.cancel = () => { clearTimeout(timer); resolve(); };
        if (mayHurry) run.hurry = run.cancel;
      });
    run.hurry = () => {};
  }

  /* --- one reply --------------------------------------------------------- */

  /* Returns how many messages were new. The cursor moves only when all have
     been handed on: after a stop() among them, the next start() asks for the
     same again and drops those that were. */
  #deliver(run, reply) {
    let fresh = 0;
    if (this.#run !== run) return fresh;
    if (reply.reset) this.#emit('reset', reply.reset);
    for (const message of reply.messages) {
      if (this.#run !== run) return fresh;
      if (!this.#isNew(message)) continue;
      fresh++;
      this.#emit('message', message, message.channel);
    }
    this.#lastId = reply.last_id;
    return fresh;
  }

  /* SEQ has no holes and comes in order, so the last one handed on stands for
     all before it. An epoch may come back (two servers behind one proxy), so
     a few are kept, and the one that has been silent longest goes first. */
  #isNew({ id, channel }) {
    const [, epoch, digits] = MESSAGE_ID.exec(id);
    const seq = BigInt(digits);
    if (!this.#seen.has(channel)) this.#seen.set(channel, new Map());
    const epochs = this.#seen.get(channel);
    const last = epochs.get(epoch);
    if (last !== undefined && seq <= last) return false;
    epochs.delete(epoch);
    epochs.set(epoch, seq);
    if (epochs.size > EPOCHS_MAX) epochs.delete(epochs.keys().next().value);
    return true;
  }

  /* --- HTTP -------------------------------------------------------------- */

  async #poll(run, timeout) {
    const { limit, grace } = this.#options;
    const query = `?last_id=${encodeURIComponent(this.#lastId)}` +
      `&timeout=${timeout / 1000}` + (limit === null ? '' : `&limit=${limit}`);
    const patience = this.#options.timeout + grace;
    const reply = await this.#request(this.#path + query, {}, patience, run);
    if (!isPollReply(reply)) throw failure('not the reply of a poll', 200);
    return reply;
  }

  /* Resolves to the parsed body. Rejects with an Error whose status and
     retryIn are set. The head of the reply must come within patience, and so
     must its body: a long one over a slow line gets a time of its own. */
  async #request(path, init, patience, run) {
    const { fetch, clientId, credentials } = this.#options;
    const headers = { ...this.#options.headers, ...init.headers };
    if (clientId) headers['X-Client-ID'] = clientId;
    const abort = new AbortController();
    const giveUp = () => abort.abort(new Error(`no answer in ${patience} ms`));
    if (run) run.cancel = () => abort.abort();
    let response;
    let timer = setTimeout(giveUp, patience);
    try {
      response = await fetch(this.#base + path, { ...init, headers,
        credentials, cache: 'no-store', signal: abort.signal });
      clearTimeout(timer);
      timer = setTimeout(giveUp, patience);
      if (!response.ok) throw await refusal(response);
      return await response.json();
    } catch (error) {
      if (error.status) throw error;
      const cause = abort.signal.aborted ? abort.signal.reason : error;
      /* Node's fetch() says why only one level down. */
      const why = cause.cause?.message || cause.message;
      throw failure(why, response?.status ?? 0, null, cause);
    } finally {
      clearTimeout(timer);
    }
  }

  /* --- events ------------------------------------------------------------ */

  #of(event) {
    const listeners = this.#listeners.get(event);
    if (!listeners) throw new TypeError(`there is no event '${event}'`);
    return listeners;
  }

  #listen(event, fn, once) {
    if (typeof fn !== 'function') throw new TypeError('not a function');
    this.#listeners.set(event, [...this.#of(event), { fn, once }]);
    return this;
  }

  #emit(event, ...args) {
    for (const listener of this.#of(event)) {
      if (listener.once) {
        const rest = this.#of(event).filter((other) => other !== listener);
        this.#listeners.set(event, rest);
      }
      try {
        listener.fn.apply(this, args);
      } catch (thrown) {
        this.#report(event, thrown);
      }
    }
  }

  #report(event, thrown) {
    if (event === 'error' || this.#of('error').length === 0)
      return queueMicrotask(() => { throw thrown; });
    const error = failure(`a listener of '${event}' threw`, 0, null, thrown);
    error.retryIn = undefined;      /* nothing was tried, nothing is over */
    error.listener = event;
    this.#emit('error', error);
  }
}

function isFinal(status) {
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

function isPollReply(reply) {
  return typeof reply?.last_id === 'string' && reply.last_id !== '' &&
    (reply.reset === undefined || reply.reset instanceof Object) &&
    Array.isArray(reply.messages) && reply.messages.every((message) =>
      typeof message?.channel === 'string' && MESSAGE_ID.test(message.id));
}

function failure(message, status, retryIn = null, cause = undefined) {
  return Object.assign(new Error(message, { cause }), { status, retryIn });
}

async function refusal(response) {
  const body = await response.json().catch(() => null);
  const text = body?.error ?? response.statusText;
  return failure(`${response.status} ${text}`, response.status,
    retryAfter(response.headers));
}

/* In ms, null if not told. A date is taken by the server's own clock. */
function retryAfter(headers) {
  const value = headers.get('retry-after')?.trim() ?? '';
  if (/^[0-9]+(\.[0-9]+)?$/.test(value)) return Math.ceil(value * 1000);
  const at = Date.parse(value);
  const now = Date.parse(headers.get('date') ?? '') || Date.now();
  return Number.isNaN(at) ? null : Math.max(0, at - now);
}

/* URLs take '.' and '..' for directories, however they are encoded. */
function encodeChannel(name) {
  if (typeof name !== 'string' || ['', '.', '..'].includes(name))
    throw new TypeError(`'${name}' cannot be the name of a channel`);
  return encodeURIComponent(name);
}

/* A name for limits, no secret: where there is no global crypto (Node 18),
   Math.random() will do. */
function randomId() {
  const bytes = new Uint8Array(16);
  if (globalThis.crypto?.getRandomValues) crypto.getRandomValues(bytes);
  else bytes.forEach((_, i) => { bytes[i] = Math.random() * 256; });
  return [...bytes].map((b) => b.toString(16).padStart(2, '0')).join('');
}

function defined(options) {
  return Object.fromEntries(Object.entries(options)
    .filter(([, value]) => value !== undefined));
}

function checkRange(name, value, min, max) {
  if (!(typeof value === 'number' && value >= min && value <= max))
    throw new RangeError(`${name} must be from ${min} to ${max}`);
}
