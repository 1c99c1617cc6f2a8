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
     share           one poll for all tabs, see below          [in a browser]
     fetch, random, locks, BroadcastChannel
                     stand in for fetch(), Math.random(), navigator.locks and
                     BroadcastChannel

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

   TABS
   A browser opens six connections to an origin (HTTP/1.1), so a seventh tab
   with a poll of its own would hang. With `share`, the clients of a browser
   whose requests would be alike (base URL, prefix, credentials, and headers as
   they are when it connects) use one poll: one client leads, the others hear
   from it, and when it goes, the next leads. They may follow different
   channels, up to 16 in all; a client whose channels no longer fit polls by
   itself. Each has its own cursor and fetches what it missed, so the promise
   holds for each. `timeout`, `limit` and `clientId` are the leader's; what is
   not about one poll is every client's own: state, events, retries, publish().
   When the leader loses its connection, each is told, and tries by itself.
   Where Web Locks (https: or localhost only) or BroadcastChannel are missing,
   or site data is blocked, each client has a poll of its own.

   What retrying cannot mend (any 4xx but 408, 425 and 429) stops the client.
   When the network is back, a person is back at the page, or the machine was
   asleep, the client does not wait: it asks at once, in place of a poll that
   is parked, too. While a page is frozen, or in the back/forward cache, it
   does not poll.
*/

const EVENTS = ['message', 'reset', 'connected', 'disconnected', 'error'];
const CHANNELS_MAX = 16;
const EPOCHS_MAX = 16;              /* remembered per channel */
const INSTANT_MS = 1000;            /* an empty reply before this is no wait */
const KNOWN_MAX = 1000;             /* replies in a row that are catching up */
const TICK_MS = 5000;               /* how often the clock is looked at */
const ASLEEP_MS = 15000;            /* between two looks: we were suspended */
const HIDDEN_ASLEEP_MS = 90000;     /* a hidden page has a timer a minute */
const SILENCE_MS = 5000;            /* a leader that is alive is heard */
const APART_MS = 60000;             /* a poll for all that was refused */
const DAY_MS = 86400000;
const MESSAGE_ID = /^([^-]+)-([0-9]{1,20})$/;           /* EPOCH-SEQ */

export class LongPollingClient {
  #options;
  #base;
  #channels;
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
      share: 'location' in globalThis, random: Math.random,
      fetch: (...args) => globalThis.fetch(...args),
      locks: globalThis.navigator?.locks,
      BroadcastChannel: globalThis.BroadcastChannel,
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
    names.forEach(encodeChannel);   /* throws if one cannot be a name */
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
    const run = {
      cancel() {},                  /* ends what is awaited */
      hurry() {},                   /* does so for a reason to ask anew */
      stir() {},                    /* does so since the group has changed */
      wake() {},                    /* does so since the leader has spoken */
      hurried: false,
      stirred: false,
      parked: false,                /* whether the last reply was one that */
      waited: false,                /* could wait, and whether it did */
      more: false,                  /* the server holds more for us */
      behind: false,                /* the leader is beyond our cursor */
      group: null,                  /* the clients that we share a poll with */
      sharing: this.#options.share,
      frozen: null,                 /* a promise: until then, no poll */
      page: new AbortController(),  /* ends what start() listens to */
    };
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
      const lost = this.#state !== 'connected';
      const { hurried } = run;
      const before = this.#lastId;
      if (lost) this.#state = 'connecting';
      run.hurried = run.stirred = false;
      let reply = null;
      try {
        if (run.frozen) await run.frozen;
        else reply = await this.#next(run, lost, hurried);
      } catch (error) {
        if (this.#run !== run) return;
        if (run.hurried || run.stirred) continue;   /* so it was cancelled */
        await this.#failed(run, error, failures, hurried);
        if (!hurried) failures++;
      } finally {
        run.hurry = run.stir = () => {};
      }
      if (this.#run !== run) return;
      if (!reply) continue;
      if (lost) this.#connected(reply);
      const fresh = this.#deliver(run, reply) + (reply.others ?? 0);
      if (this.#run !== run) return;
      this.#join(run, hurried);
      const moved = reply.more && reply.messages.length > 0 &&
        this.#lastId !== before;
      if (fresh > 0 || run.waited) failures = empties = known = 0;
      else if (moved && known < KNOWN_MAX)
        /* After a reset there can be much that we have had. */
        known++;
      else if (run.parked && ++empties > 1)
        /* One is in order: a reset, or a server that is being stopped. More
           are a server or a proxy that will not wait, and we would spin. */
        await this.#sleep(run, this.#backoff(empties - 2), true);
    }
  }

  /* The next reply, by a request of ours or not; null to look again. */
  #next(run, lost, hurried) {
    const { group } = run;
    if (group?.leading) return this.#lead(run, group, hurried);
    if (lost || hurried || run.behind) return this.#alone(run, 0);
    if (group && !group.full && !run.more) return this.#follow(run, group);
    return this.#alone(run, this.#options.timeout);
  }

  async #alone(run, timeout) {
    run.behind = false;
    const reply = await this.#poll(run, this.#channels, this.#lastId, timeout);
    run.more = reply.more === true;
    return reply;
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
    this.#leave(run, error);
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
    this.#leave(run);
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

  /* What is awaited may be cut short, until run.hurry, or run.stir, is set
     to another. */
  #mayHurry(run) {
    run.hurry = () => { run.hurried = true; run.cancel(); };
  }

  #mayStir(run) {
    run.stir = () => { run.stirred = true; run.cancel(); };
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
    let thaw;
    const freeze = () => {
      run.frozen ??= new Promise((resolve) => { thaw = resolve; });
      this.#leave(run);             /* others need not wait for us */
      run.stir();
    };
    const resume = () => {
      if (!run.frozen) return;
      run.frozen = null;
      run.hurried = true;
      thaw();
    };
    globalThis.addEventListener?.('pagehide', freeze, { signal });
    globalThis.addEventListener?.('pageshow', resume, { signal });
    globalThis.document?.addEventListener('freeze', freeze, { signal });
    globalThis.document?.addEventListener('resume', resume, { signal });
  }

  /* --- one poll for all tabs ----------------------------------------------

     A client that is connected is in a group (below, and there is how they
     speak to each other). What the leader's poll brought goes to all as a
     word, which says for each channel from which cursor to which. A client
     whose own cursor lies there takes what is new to it; one whose cursor does
     not asks the server itself. So no word need be trusted to arrive, or to
     come from the only leader. A client that fails leaves, and is in again
     once it is connected. */

  #join(run, hurried) {
    const { locks, BroadcastChannel } = this.#options;
    /* We were away: so, perhaps, was the leader's connection. */
    if (hurried && run.group) run.group.ask(true);
    if (run.group || run.frozen || !run.sharing) return;
    if (!locks || !BroadcastChannel) return;
    if (!cursorsIn(this.#lastId, this.#channels.length)) return;
    const on = {
      word: () => run.wake(),
      change: () => run.stir(),
      hurry: () => run.hurry(),
      broken: () => this.#part(run),
    };
    try {
      run.group = new Group(locks, BroadcastChannel, this.#alike(),
        this.#channels, on);
      run.group.enter();
    } catch {
      this.#part(run);
    }
  }

  /* Locks, or what they need, are not to be had: a poll of our own. */
  #part(run) {
    run.sharing = false;
    this.#leave(run);
    run.stir();
    return null;
  }

  #leave(run, error) {
    run.group?.leave(error);
    run.group = null;
  }

  /* What is the same for all clients whose polls can stand for each other. */
  #alike() {
    const { headers, credentials } = this.#options;
    const base = new URL(this.#base, globalThis.location?.href).href;
    return JSON.stringify([base, credentials, [...new Headers(headers ?? {})]]);
  }

  async #follow(run, group) {
    const { random } = this.#options;
    run.parked = run.waited = false;
    for (let silence = 0; group.words.length === 0; silence++) {
      if (silence === 1) group.ask(false);
      if (silence === 2) group.steal();
      if (silence === 3) return this.#part(run);    /* not even that */
      const wait = SILENCE_MS * (silence === 0 ? 1 + random() : 1);
      const sleeping = this.#sleep(run, wait, true);
      this.#mayStir(run);
      run.wake = run.cancel;
      await sleeping;
      run.wake = () => {};
      if (this.#run !== run || run.hurried || run.stirred) return null;
    }
    const word = group.words.shift();
    if (word.failed !== undefined) throw failure(word.failed, 0);
    run.waited = word.waited;
    return this.#meet(run, word);
  }

  async #lead(run, group, hurried) {
    const { timeout } = this.#options;
    const own = this.#channels;
    const { asked } = group;
    group.asked = false;
    const channels = group.union(own, await group.members());
    if (this.#run !== run || run.group !== group || !group.leading ||
      group.asked) return null;
    const at = [...this.#lastId.split(','),
      ...channels.slice(own.length).map((c) => group.at.get(c) ?? 'now')];
    const known = !at.includes('now');
    if (known) group.stand(channels, at, asked);
    let reply;
    try {
      reply = await this.#poll(run, channels, at.join(','),
        known && !hurried ? timeout : 0);
    } catch (error) {
      /* Perhaps for the sake of one that is not ours. */
      if (error.status < 400 || channels.length === own.length) throw error;
      group.refuse(channels);
      return null;
    }
    const to = cursorsIn(reply.last_id, channels.length);
    if (!to) throw failure('not the reply of a poll', 200);
    const word = group.tell(channels, at, to, reply, run.waited);
    /* News for others is no reason to slow down. */
    for (const channel of this.#seen.keys())
      if (!channels.includes(channel)) this.#seen.delete(channel);
    const others = reply.messages.filter((message) =>
      !own.includes(message.channel) && this.#isNew(message)).length;
    return { ...this.#meet(run, word), others };
  }

  /* What a leader's word is to us: a reply. SEQ has no holes, so a word that
     begins at or before our cursor and ends behind it has all that we lack. A
     reset is told to those alone who stand where the leader stood. */
  #meet(run, word) {
    const met = new Set();
    const last = this.#lastId.split(',').map((mine, i) => {
      const channel = this.#channels[i];
      const from = word.from.get(channel);
      const to = word.to.get(channel);
      if (to === undefined || to === mine) return mine;
      if (mine !== from && (Object.hasOwn(word.reset, channel) ||
        !(inOrder(from, mine) && inOrder(mine, to)))) {
        /* A word from before our last fetch is no news. One that says where
           the leader stands, and not where we do, is. */
        if (from === to || !inOrder(to, mine)) run.behind = true;
        return mine;
      }
      met.add(channel);
      return to;
    });
    const reset = Object.entries(word.reset).filter(([c]) => met.has(c));
    return {
      last_id: last.join(','),
      messages: word.messages.filter((m) => met.has(m.channel)),
      reset: reset.length > 0 ? Object.fromEntries(reset) : undefined,
      more: word.more,
    };
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
    cursorsIn(lastId, this.#channels.length)
      ?.forEach((id, i) => this.#isNew({ id, channel: this.#channels[i] }));
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

  async #poll(run, channels, lastId, timeout) {
    const { limit, grace } = this.#options;
    const path = `/poll/${channels.map(encodeChannel).join(',')}` +
      `?last_id=${encodeURIComponent(lastId)}&timeout=${timeout / 1000}` +
      (limit === null ? '' : `&limit=${limit}`);
    const began = performance.now();
    run.parked = timeout > 0;
    const polling = this.#request(path, {}, timeout + grace, run);
    if (run.parked) {
      this.#mayHurry(run);
      this.#mayStir(run);
    }
    const reply = await polling;
    if (!isPollReply(reply)) throw failure('not the reply of a poll', 200);
    run.waited = run.parked &&
      performance.now() - began >= Math.min(INSTANT_MS, timeout / 2);
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

/* --- the group -------------------------------------------------------------

   All clients whose polls are alike (see #alike) are a group: they hold or
   await locks and speak over a BroadcastChannel, both named after it.

   Who leads      holds the lock of the group's name. The others wait for it,
                  so that the browser names the next, also when a tab crashes.
   Who is there   holds, shared, a lock named after its channels. The leader
                  lists them when it is about to poll; nobody needs to say
                  good-bye.
   Words          of the leader: { from, to, messages, reset, ... } after each
                  poll, or { failed } when there is no connection.
                  Of the others: { ask }, when they come, and when nothing was
                  heard for a while. It is answered at once by where the leader
                  stands, a word with nothing in it, so that who missed one
                  learns of it. Their channels are in the next poll.
   A leader that is frozen or stuck does not answer, and its lock is stolen. It
   learns of that when it wakes, and follows. */

class Group {
  leading = false;
  full = false;                     /* the leader has no room for us */
  asked = false;                    /* by one whose channels are not polled */
  words = [];                       /* of the leader, not yet taken */
  at = new Map();                   /* channel -> cursor, of the last poll */
  #locks;
  #name;
  #mine;                            /* our channels, as they name a lock */
  #on;
  #line;
  #left = false;
  #release;
  #held = new Promise((resolve) => { this.#release = resolve; });
  #queue;                           /* ends our waiting to lead */
  #over = [];                       /* those for whom there is no room */
  #refused = { channels: '', until: 0 };

  constructor(locks, BroadcastChannel, alike, channels, on) {
    this.#locks = locks;
    this.#name = `longpoll/1 ${alike}`;
    this.#mine = JSON.stringify([...channels].sort());
    this.#on = on;
    this.#line = new BroadcastChannel(this.#name);
    this.#line.onmessage = ({ data }) => this.#hear(data);
  }

  enter() {
    this.#queue = new AbortController();
    const { signal } = this.#queue;
    this.#hold(`${this.#name} ${this.#mine}`, { mode: 'shared', signal },
      () => this.ask(false));
    this.#await({ signal });
  }

  leave(error) {
    /* A refusal may be about our channels alone: the next will see. */
    if (this.leading && error && error.status < 400)
      this.#say({ failed: error.message });
    this.#left = true;
    this.leading = false;
    this.#queue?.abort();
    this.#release();
    this.#line.close();
  }

  /* `anew`: the leader shall not trust its connection. */
  ask(anew) {
    if (!this.leading) this.#say({ ask: this.#mine, anew });
  }

  steal() {
    this.#queue.abort();
    this.#await({ steal: true });
  }

  /* The channels of each that is there. */
  async members() {
    try {
      const { held } = await this.#locks.query();
      const names = new Set(held.map(({ name }) => name)
        .filter((name) => name.startsWith(`${this.#name} `)));
      return [...names].map((name) => name.slice(this.#name.length + 1));
    } catch {
      this.#broken();
      return [];
    }
  }

  /* What the leader polls: its own channels, and the others' as long as there
     is room. Those who are in it stay in it. */
  union(own, members) {
    const isIn = (member) => this.#covers(member);
    const all = new Set(own);
    this.#over = [];
    for (const member of [...members.filter(isIn),
      ...members.filter((member) => !isIn(member))]) {
      const more = JSON.parse(member).filter((channel) => !all.has(channel));
      if (all.size + more.length > CHANNELS_MAX) this.#over.push(member);
      else more.forEach((channel) => all.add(channel));
    }
    const channels = [...all];
    if (JSON.stringify(channels) !== this.#refused.channels ||
      performance.now() > this.#refused.until) return channels;
    this.#over = members.filter((member) =>
      JSON.parse(member).some((channel) => !own.includes(channel)));
    return own;
  }

  /* The server would not have this poll; for a while each is by itself. */
  refuse(channels) {
    this.#refused = { channels: JSON.stringify(channels),
      until: performance.now() + APART_MS };
    this.at = new Map();
  }

  /* What is polled from where; told to all if they do not know. */
  stand(channels, cursors, asked) {
    const first = this.at.size === 0;
    this.at = zip(channels, cursors);
    if (first || asked) this.#answer();
  }

  /* Returns the word that was said. */
  tell(channels, from, to, { messages, reset = {}, more }, waited) {
    this.at = zip(channels, to);
    return this.#say({ from: zip(channels, from), to: this.at,
      messages, reset, more, waited, over: this.#over });
  }

  #answer() {
    this.#say({ from: this.at, to: this.at, messages: [], reset: {},
      waited: false, over: this.#over });
  }

  #say(word) {
    if (!this.#left) this.#line.postMessage(word);
    return word;
  }

  #covers(member) {
    return JSON.parse(member).every((channel) => this.at.has(channel));
  }

  #hear(word) {
    if (this.#left) return;
    if (word.ask) this.#hearAsk(word);
    else if (!this.leading) this.#hearWord(word);
  }

  #hearAsk({ ask, anew }) {
    if (!this.leading) return;
    this.#answer();
    if (anew) this.#on.hurry();
    if (this.#covers(ask) || this.#over.includes(ask)) return;
    this.asked = true;
    this.#on.change();
  }

  #hearWord(word) {
    const full = Boolean(word.over?.includes(this.#mine));
    const changed = full !== this.full;
    this.full = full;
    this.words = full ? [] : [...this.words, word];
    if (changed) this.#on.change();
    else this.#on.word();
  }

  /* To lead, when the others have gone, or at once. */
  async #await(options) {
    await this.#hold(this.#name, options, () => {
      this.leading = true;
      this.full = false;
      this.at = new Map();
      this.#on.change();
    });
  }

  async #hold(name, options, granted) {
    try {
      await this.#locks.request(name, options, () => {
        if (this.#left) return undefined;
        granted();
        return this.#held;
      });
    } catch (error) {
      if (this.#left || options.signal?.aborted) return;
      if (error?.name === 'AbortError') this.#robbed();
      else this.#broken();
    }
  }

  #robbed() {
    this.leading = false;
    this.#queue = new AbortController();
    this.#await({ signal: this.#queue.signal });
    this.#on.change();
  }

  #broken() {
    if (!this.#left) this.#on.broken();
  }
}

/* As many as there are channels; null if they are of another kind. */
function cursorsIn(lastId, count) {
  const ids = lastId.split(',');
  return ids.length === count && ids.every((id) => MESSAGE_ID.test(id))
    ? ids : null;
}

const zip = (names, values) =>
  new Map(names.map((name, i) => [name, values[i]]));

/* Whether cursor `a` is known to be no later than `b`. */
function inOrder(a, b) {
  const [, epoch, seq] = MESSAGE_ID.exec(a) ?? [];
  const [, other, later] = MESSAGE_ID.exec(b) ?? [];
  return epoch !== undefined && epoch === other && BigInt(seq) <= BigInt(later);
}

/* --- small things --------------------------------------------------------- */

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
    unknown: !own || status < 400 || (status >= 500 && status !== 503),
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
