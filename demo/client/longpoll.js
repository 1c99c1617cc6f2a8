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
   on before is dropped by its id, and so is what was there before 'now'. One
   client object therefore hands each message on exactly once, whatever happens
   to connections and servers: for each channel it remembers the 16 epochs
   (lives of the channel) that have answered it last.

   new LongPollingClient(baseUrl, channels, options)
     baseUrl         http: or https: with an optional path; '' or a path that
                     begins with one '/' is on the page's own origin
     channels        a name, or an array of 1 to 16 different names
     timeout         how long the server may hold a poll, in ms        [30000]
     grace           how much longer to wait for its answer, in ms; with
                     that alone a probe (see `the loop`) is given up   [10000]
     retryDelay      ceiling of the first wait after a failure, in ms   [1000]
     retryDelayMax   ceiling of every wait, in ms                      [30000]
     maxRetries      failures in a row that are retried; a try that was
                     brought forward does not count                 [Infinity]
     lastId          where to begin: '' or null for all that is held, 'now'
                     for nothing old, or the `lastId` of an earlier client ['']
     limit           most messages in one reply             [as the server has]
     prefix          where the API is                                 ['/api']
     headers         more request headers, as fetch() takes them; read anew
                     for each request                                     [{}]
     token           sent by publish(), as Authorization: Bearer, in place of
                     an `authorization` in headers                      [none]
     clientId        X-Client-ID, at most 128 visible ASCII characters; ''
                     sends none, which across origins saves a preflight
                     before each poll                       [128 random bits]
     credentials     as fetch() takes it                       ['same-origin']
     fetch, random   stand in for fetch() and Math.random()

   An option of another name throws, as does a value that cannot work.

   Events, by on(), once() and off(), each (event, listener):
     message       (message, channel)
     reset         ({ channel: 'evicted' | 'epoch' | 'ahead' }) messages of
                   these channels may be missing; comes before what is held
     connected     () the server has answered
     disconnected  ({ error, retryIn }) that has ended, or the client has
                   stopped: retryIn is null then, and error too after stop()
     error         (error) a poll has failed. error.status is the HTTP status,
                   0 if there was none; error.retryIn the ms to the next try,
                   null if there will be none. A Retry-After is honoured, up
                   to a day

   Listeners are not awaited. One that throws stops nothing: what it threw is
   the `cause` of an `error` event whose `listener` names the event. If nobody
   listens for errors, or that listener throws, it is rethrown on a microtask;
   and that the client has given up is said on the console.

   start(), stop()  stop() ends the request on its way; start() goes on from
                    the cursor. Both may be called at any time, any number of
                    times; a stop() in a listener takes effect at once.
   publish(channel, object)  resolves to the server's reply. Rejects with an
                    Error that has .status, .retryIn (null if the server did
                    not say) and .unknown: true if the object may have been
                    published all the same, since the answer was lost or is
                    not this server's. False is certain: this server refused
                    it (a 4xx or 503 with its own {"error":"..."}), or it was
                    never sent. publish() never retries, and stop() does not
                    end it. A name or an object that cannot be sent rejects
                    with a TypeError.
   lastId           the cursor: everything up to it has been handed on
   state            'stopped', 'connecting', 'connected', or 'waiting' to retry

   What retrying cannot mend (any 4xx but 408, 425 and 429) stops the client.
   When the network is back, a person is back at the page, or the machine was
   asleep, the client does not wait: it asks at once, in place of a poll that
   is parked, too.
*/

const EVENTS = ['message', 'reset', 'connected', 'disconnected', 'error'];
const CHANNELS_MAX = 16;
const EPOCHS_MAX = 16;              /* remembered per channel */
const INSTANT_MS = 1000;            /* an empty reply before this is no wait */
const KNOWN_MAX = 1000;             /* replies in a row that are catching up */
const TICK_MS = 5000;               /* how often the clock is looked at */
const ASLEEP_MS = 15000;            /* between two looks: we were suspended */
const HIDDEN_ASLEEP_MS = 90000;     /* a hidden page has a timer a minute */
const DAY_MS = 86400000;
const MESSAGE_ID = /^([^-]+)-([0-9]{1,20})$/;           /* EPOCH-SEQ */

export class LongPollingClient {
  #options;
  #base;
  #channels;
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
      fetch: (...args) => globalThis.fetch(...args),
    };
    for (const [name, value] of Object.entries(options)) {
      if (!Object.hasOwn(o, name))
        throw new TypeError(`there is no option '${name}'`);
      if (value !== undefined) o[name] = value;
    }
    checkRange('channels', names.length, 1, CHANNELS_MAX);
    if (new Set(names).size < names.length)
      throw new RangeError('a channel is named twice');
    checkRange('timeout', o.timeout, 1, DAY_MS);
    checkRange('grace', o.grace, 0, DAY_MS);
    checkRange('retryDelay', o.retryDelay, 1, DAY_MS);
    checkRange('retryDelayMax', o.retryDelayMax, 1, DAY_MS);
    checkRange('maxRetries', o.maxRetries, 0, Infinity);
    if (typeof o.clientId !== 'string' || !/^[!-~]{0,128}$/.test(o.clientId))
      throw new TypeError('clientId must be 128 visible characters at most');
    this.#options = o;
    this.#base = checkBase(String(baseUrl)).replace(/\/+$/, '') + o.prefix;
    this.#channels = names;
    this.#path = '/poll/' + names.map(encodeChannel).join(',');
    this.#lastId = String(o.lastId ?? '');
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
    const run = { cancel() {}, hurry() {}, hurried: false,
      page: new AbortController() };
    this.#run = run;
    this.#state = 'connecting';
    this.#lookOut(run);
    this.#loop(run).catch((thrown) => {     /* by an option: `random`, say */
      if (this.#run === run) this.#end(failure(String(thrown), 0));
      throw thrown;
    });
  }

  stop() { if (this.#run) this.#end(null); }

  async publish(channel, data) {
    const { token, grace } = this.#options;
    const headers = { 'Content-Type': 'application/json' };
    if (token) headers.Authorization = `Bearer ${token}`;
    const init = { method: 'POST', headers, body: JSON.stringify(data) };
    const path = `/publish/${encodeChannel(channel)}`;
    const reply = await this.#request(path, init, grace);
    if (typeof reply?.message_id !== 'string')
      throw failure('not the reply of a publish', 200, { unknown: true });
    return reply;
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
    let known = 0;                  /* and those of a long catch-up */
    while (this.#run === run) {
      const { timeout } = this.#options;
      const lost = this.#state !== 'connected';
      const { hurried } = run;
      const probe = lost || hurried;
      const began = performance.now();
      const before = this.#lastId;
      if (lost) this.#state = 'connecting';
      run.hurried = false;
      let reply;
      try {
        const polling = this.#poll(run, probe ? 0 : timeout);
        if (!probe) this.#mayHurry(run);
        reply = await polling;
      } catch (error) {
        if (this.#run !== run) return;
        if (run.hurried) continue;  /* and so it was cancelled */
        await this.#failed(run, error, failures, hurried);
        if (!hurried) failures++;
        continue;
      } finally {
        run.hurry = () => {};
      }
      if (this.#run !== run) return;
      const waited = !probe &&
        performance.now() - began >= Math.min(INSTANT_MS, timeout / 2);
      if (lost) this.#connected(reply);
      const fresh = this.#deliver(run, reply);
      const moved = reply.more && reply.messages.length > 0 &&
        this.#lastId !== before;
      if (fresh > 0 || waited) failures = empties = known = 0;
      else if (moved && known < KNOWN_MAX)
        /* After a reset there can be much that we have had. */
        known++;
      else if (!probe && ++empties > 1)
        /* One is in order: a reset, or a server that is being stopped. More
           are a server or a proxy that will not wait, and we would spin. */
        await this.#sleep(run, this.#backoff(empties - 2), true);
    }
  }

  #connected(reply) {
    this.#resolveNow(reply);
    this.#state = 'connected';
    this.#emit('connected');
  }

  /* What 'now' meant is known from here on, even if a listener stops us. */
  #resolveNow({ last_id, messages }) {
    const told = last_id.split(',');
    const asked = this.#lastId === 'now' ? told.map(() => 'now')
      : this.#lastId.split(',');
    if (asked.length !== told.length) return;
    this.#lastId = asked.map((cursor, i) => {
      const channel = this.#channels[i];
      if (cursor !== 'now' || messages.some((m) => m.channel === channel))
        return cursor;
      this.#isNew({ id: told[i], channel });
      return told[i];
    }).join(',');
  }

  async #failed(run, error, failures, hurried) {
    const { maxRetries } = this.#options;
    const told = error.retryIn ?? 0;                /* by Retry-After */
    const jitter = this.#backoff(failures);
    const final = isFinal(error.status) ||
      (failures >= maxRetries && !hurried);
    const lost = this.#state === 'connected';
    error.retryIn = final ? null : told + jitter;
    this.#state = 'waiting';
    if (final && this.#of('error').length === 0)
      console.error(`longpoll: given up: ${error.message}`);
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
    if (ms === 0 || this.#run !== run) return;
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      run.cancel = () => { clearTimeout(timer); resolve(); };
      if (mayHurry) this.#mayHurry(run);
    });
    run.hurry = () => {};
  }

  /* --- reasons to hurry --------------------------------------------------- */

  /* Until run.hurry is another: what is awaited may be cut short. */
  #mayHurry(run) {
    run.hurry = () => { run.hurried = true; run.cancel(); };
  }

  /* In Node there is only the clock. A wall clock that has jumped was set, or
     stands for a machine that was asleep: connections are dead then, and no
     one says so. */
  #lookOut(run) {
    const { signal } = run.page;
    const hidden = () => globalThis.document?.visibilityState === 'hidden';
    let seen = Date.now();
    const clock = setInterval(() => {
      const passed = Date.now() - seen;
      seen += passed;
      if (passed > (hidden() ? HIDDEN_ASLEEP_MS : ASLEEP_MS)) run.hurry();
    }, TICK_MS);
    signal.addEventListener('abort', () => clearInterval(clock));
    globalThis.addEventListener?.('online', () => run.hurry(), { signal });
    globalThis.document?.addEventListener('visibilitychange', () => {
      if (!hidden()) run.hurry();
    }, { signal });
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
    this.#reach(reply.last_id);
    return fresh;
  }

  /* The cursor stands for all before it, had or not wanted. */
  #reach(lastId) {
    this.#lastId = lastId;
    const ids = lastId.split(',');
    if (ids.length === this.#channels.length)
      ids.forEach((id, i) => this.#isNew({ id, channel: this.#channels[i] }));
  }

  /* SEQ has no holes and comes in order, so the last one stands for all before
     it. An epoch may come back (two servers behind one proxy), so a few are
     kept, and the one that has not answered for longest goes first. */
  #isNew({ id, channel }) {
    const [, epoch, digits] = MESSAGE_ID.exec(id) ?? [];
    if (!epoch) return false;       /* a cursor of another kind */
    const seq = BigInt(digits);
    if (!this.#seen.has(channel)) this.#seen.set(channel, new Map());
    const epochs = this.#seen.get(channel);
    const last = epochs.get(epoch) ?? -1n;
    epochs.delete(epoch);
    epochs.set(epoch, seq > last ? seq : last);
    if (epochs.size > EPOCHS_MAX) epochs.delete(epochs.keys().next().value);
    return seq > last;
  }

  /* --- HTTP -------------------------------------------------------------- */

  async #poll(run, timeout) {
    const { limit, grace } = this.#options;
    const query = `?last_id=${encodeURIComponent(this.#lastId)}` +
      `&timeout=${timeout / 1000}` + (limit === null ? '' : `&limit=${limit}`);
    const reply =
      await this.#request(this.#path + query, {}, timeout + grace, run);
    if (!isPollReply(reply)) throw failure('not the reply of a poll', 200);
    return reply;
  }

  /* Resolves to the parsed body. Rejects with an Error of our own, whatever
     was thrown. The head of the reply must come within patience, and so must
     its body: a long one over a slow line gets a time of its own. */
  async #request(path, init, patience, run) {
    const { fetch, clientId, credentials } = this.#options;
    const abort = new AbortController();
    const giveUp = () => abort.abort(new Error(`no answer in ${patience} ms`));
    if (run) run.cancel = () => abort.abort();
    let timer;
    let sent = false;
    let response;
    let body;
    try {
      const headers = new Headers(this.#options.headers ?? {});
      for (const [name, value] of Object.entries(init.headers ?? {}))
        headers.set(name, value);
      if (clientId) headers.set('X-Client-ID', clientId);
      timer = setTimeout(giveUp, patience);
      sent = true;
      response = await fetch(this.#base + path, { ...init, headers,
        credentials, cache: 'no-store', signal: abort.signal });
      clearTimeout(timer);
      timer = setTimeout(giveUp, patience);
      body = await response.json();
    } catch (error) {
      /* What a refusal says beyond its status may be lost, or be no JSON. */
      if (!response || response.ok) {
        const cause = abort.signal.aborted ? abort.signal.reason : error;
        /* Node's fetch() says why only one level down. */
        const why = cause?.cause?.message || cause?.message || cause;
        throw failure(why, response?.status ?? 0, { cause, unknown: sent });
      }
    } finally {
      clearTimeout(timer);
    }
    if (!response.ok) throw refusal(response, body);
    return body;
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
      if (listener.done) continue;  /* by an event within this one */
      if (listener.once) {
        listener.done = true;
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
    /* Nothing was tried and nothing is over: there is no retryIn. */
    this.#emit('error', failure(`a listener of '${event}' threw`, 0,
      { cause: thrown, retryIn: undefined, listener: event }));
  }
}

function isFinal(status) {
  return status >= 400 && status < 500 && ![408, 425, 429].includes(status);
}

/* Of any realm: where tests run in a vm, `instanceof Object` fails. */
function isPlain(value) {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isPollReply(reply) {
  return typeof reply?.last_id === 'string' && reply.last_id !== '' &&
    (reply.reset === undefined || isPlain(reply.reset)) &&
    Array.isArray(reply.messages) && reply.messages.every((message) =>
      typeof message?.channel === 'string' && MESSAGE_ID.test(message.id));
}

/* `more` may have a cause. */
function failure(message, status, more = {}) {
  return Object.assign(new Error(message), { status, retryIn: null }, more);
}

/* Only what this server itself refused is certainly not done. */
function refusal(response, body) {
  const { status, statusText, headers } = response;
  const own = typeof body?.error === 'string';
  return failure(`${status} ${own ? body.error : statusText}`, status, {
    retryIn: retryAfter(headers),
    unknown: !(own && (status < 500 || status === 503)),
  });
}

/* In ms, at most a day, null if not told. A date is taken by the server's
   own clock. */
function retryAfter(headers) {
  const value = headers.get('retry-after')?.trim() ?? '';
  if (/^[0-9]+(\.[0-9]+)?$/.test(value))
    return Math.min(DAY_MS, Math.ceil(value * 1000));
  const at = Date.parse(value);
  const now = Date.parse(headers.get('date') ?? '') || Date.now();
  return Number.isNaN(at) ? null : Math.min(DAY_MS, Math.max(0, at - now));
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

/* 'localhost:8080' is a URL too, whose scheme is 'localhost'. */
function checkBase(base) {
  if (!/^(https?:\/\/[^/?#]+(\/[^?#]*)?|(\/(?!\/)[^?#]*)?)$/i.test(base))
    throw new TypeError(`'${base}' is neither '', a path, nor http(s)://HOST`);
  return base;
}

function checkRange(name, value, min, max) {
  if (!(typeof value === 'number' && value >= min && value <= max))
    throw new RangeError(`${name} must be from ${min} to ${max}`);
}
