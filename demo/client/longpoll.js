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
     transport       'poll'; 'stream' or 'auto', see STREAMS          ['poll']
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
     token           sent as Authorization: Bearer, in place of an
                     `authorization` in headers: a string, or a function
                     that gives or promises one, see TOKENS             [none]
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
     error         (error) a poll or stream has failed. error.status is the
                   HTTP status, 0 if there was none; error.retryIn the ms to the
                   next try, null if there will be none. A Retry-After is
                   honoured, up to a day

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
                    never sent. publish() never retries, but after a 401 with
                    a new token, and stop() does not end it. A name or an object
                    that cannot be sent rejects with a TypeError.
   lastId           the cursor: everything up to it has been handed on
   state            'stopped', 'connecting', 'connected', or 'waiting' to retry

   STREAMS
   With 'stream' the news are read from one long answer to GET /api/stream, in
   place of polls that are parked: a message costs no request. All else is the
   same, the promise too. A stream that ends, as when the server is stopped, is
   no failure: it is opened again from the cursor, at some time within what its
   `retry:` said (retryDelayMax at most). One that is silent for timeout + grace
   is taken for dead: the server shows every 15 s that it is alive. (If its
   stream_beat_ms is longer, timeout must be too.)
   Some proxies hold an answer back until it is whole. With 'auto' a stream that
   does not begin within 3 s, fails, is refused, is none, or ends before it has
   told anything, is taken for one that cannot work here, and polls go on at
   once in its place: nothing is lost or told twice. A stream is tried again
   after 30 s, then after 2, 8 and 32 minutes, and then every hour; one that
   works starts this over. With 'stream' the same is an error, and is retried.

   TOKENS
   Each poll, stream and publish() sends the token. A function is called when
   the first request needs one, and again when the server has answered 401 to
   what it gave, also in the middle of a poll: all requests that meet that wait
   for the same new token, and are sent again with it, once. If that is refused
   as well the 401 is an error, which ends the client, as it does with a string.
   A function that throws, or takes longer than the request may, fails that
   request as if there were no connection: it is retried.

   TABS
   A browser opens six connections to an origin (HTTP/1.1), so a seventh tab
   with a poll of its own would hang. With `share`, the clients of a browser
   whose requests would be alike (base URL, prefix, credentials, and headers as
   they are when it connects) use one poll, or stream: one client leads, the
   others hear from it, and when it goes, the next leads. They may follow
   different channels, up to 16 in all; a client whose channels no longer fit
   polls by itself. Each has its own cursor and fetches what it missed, so the
   promise holds for each. What is about the one poll is the leader's:
   transport, timeout, limit, clientId, token (but each has connected with its
   own token, and if the leader's is not good for all channels, each polls by
   itself). The rest is every client's own: state, events, retries, publish().
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
const HELD_UP_MS = 3000;            /* a stream that begins later is held up */
const POLLS_MS = 30000;             /* 'auto' polls first for so long, in place
                                       of streams; then four times as long */
const POLLS_MAX_MS = 3600000;
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
  #token = null;                    /* a promise of what token() gave last */
  #uselessStreams = 0;              /* in a row */
  #pollUntil = 0;                   /* no stream before that */
  #listeners = new Map(EVENTS.map((event) => [event, []]));

  constructor(baseUrl, channels, options = {}) {
    const names = [].concat(channels);
    const o = {
      timeout: 30000, grace: 10000, retryDelay: 1000, retryDelayMax: 30000,
      maxRetries: Infinity, lastId: '', limit: null, prefix: '/api',
      headers: {}, token: '', clientId: randomId(), credentials: 'same-origin',
      transport: 'poll', share: 'location' in globalThis, random: Math.random,
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
    if (!['poll', 'stream', 'auto'].includes(o.transport))
      throw new TypeError(`transport must be 'poll', 'stream' or 'auto'`);
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
      stream: null,                 /* what we read on in place of polls */
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
    const { grace } = this.#options;
    const headers = { 'Content-Type': 'application/json' };
    const init = { method: 'POST', headers, body: JSON.stringify(data) };
    const path = `/publish/${encodeChannel(channel)}`;
    const reply = await this.#request(path, init, grace, readJson);
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
    const reply = await this.#ask(run, this.#channels, this.#lastId, timeout);
    run.more = reply?.more === true;
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
  #backoff(n, least = 0) {
    const { retryDelay, retryDelayMax, random } = this.#options;
    const ceiling = Math.min(retryDelayMax,
      Math.max(least, retryDelay * 2 ** n));
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
    this.#close(run);
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
    this.#close(run);
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
      reply = await this.#ask(run, channels, at.join(','),
        known && !hurried ? timeout : 0);
      if (!reply) return null;
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

  /* --- asking the server ------------------------------------------------- */

  /* What there is after `lastId`, as the reply of a poll has it. A stream is
     read in place of polls that are parked; null if it has ended. */
  async #ask(run, channels, lastId, timeout) {
    const names = channels.map(encodeChannel).join(',');
    const began = performance.now();
    run.parked = timeout > 0;
    const asking = run.parked && this.#mayStream(run)
      ? this.#read(run, names, lastId)
      : this.#poll(run, names, lastId, timeout);
    if (run.parked) {
      this.#mayHurry(run);
      this.#mayStir(run);
    }
    const reply = await asking;
    run.waited = run.parked &&
      performance.now() - began >= Math.min(INSTANT_MS, timeout / 2);
    return reply;
  }

  async #poll(run, names, lastId, timeout) {
    this.#close(run);
    const path = this.#path('poll', names, lastId,
      `&timeout=${timeout / 1000}`);
    const reply = await this.#request(path, {}, timeout + this.#options.grace,
      readJson, run);
    if (!isPollReply(reply)) throw failure('not the reply of a poll', 200);
    return reply;
  }

  #path(kind, names, lastId, more = '') {
    const { limit } = this.#options;
    return `/${kind}/${names}?last_id=${encodeURIComponent(lastId)}${more}` +
      (limit === null ? '' : `&limit=${limit}`);
  }

  /* One that follows, but for what it missed, would not learn from a stream
     when it has had all. */
  #mayStream({ group }) {
    return this.#options.transport !== 'poll' &&
      performance.now() >= this.#pollUntil &&
      (!group || group.leading || group.full);
  }

  /* The next of the stream that is open, if it stands there, else of a new
     one. */
  async #read(run, names, lastId) {
    const { timeout, grace } = this.#options;
    if (!run.stream?.standsAt(names, lastId)) {
      this.#close(run);
      run.stream = await this.#open(run, names, lastId);
      if (!run.stream) return null;
    }
    const { stream } = run;
    run.cancel = () => stream.close();
    const reply = await stream.next(timeout + grace);
    if (reply && isPollReply(reply)) return reply;
    this.#close(run);
    if (reply) return this.#useless(failure('not the events of a stream', 200));
    if (!stream.used) return this.#useless(stream.error);
    /* That is in order, but all may have been cut off together. */
    this.#uselessStreams = 0;
    await this.#sleep(run, this.#backoff(0, stream.retry), true);
    return null;
  }

  async #open(run, names, lastId) {
    const { transport, grace } = this.#options;
    const patience = transport === 'auto' ? Math.min(grace, HELD_UP_MS) : grace;
    try {
      const stream = await this.#request(this.#path('stream', names, lastId),
        {}, patience, openStream, run);
      return Object.assign(stream, { names, lastId });
    } catch (error) {
      const ended = this.#run !== run || run.hurried || run.stirred;
      if (ended || error.status === 401) throw error;
      return this.#useless(error);
    }
  }

  /* With 'auto' polls go on at once, and will tell if more is wrong. */
  #useless(error) {
    if (this.#options.transport === 'stream') throw error;
    this.#pollUntil = performance.now() +
      Math.min(POLLS_MAX_MS, POLLS_MS * 4 ** this.#uselessStreams++);
    return null;
  }

  #close(run) {
    run.stream?.close();
    run.stream = null;
  }

  /* --- HTTP -------------------------------------------------------------- */

  /* Resolves to what `read` makes of the response. After a 401 there is one
     more try with a new token: of a poll as a probe, since one that is parked
     would not tell whether the token is good. */
  async #request(path, init, patience, read, run) {
    const call = new Call(patience);
    if (run) run.cancel = () => call.cancel();
    const again = path.replace(/&timeout=[0-9.]+/, '&timeout=0');
    let answer = await this.#exchange(call, path, init, read);
    if (answer.response.status === 401 && answer.token)
      answer = await this.#exchange(call, again, init, read);
    if (!answer.response.ok) throw refusal(answer.response, answer.body);
    return answer.body;
  }

  /* Rejects with an Error of our own, whatever was thrown. The head of the
     reply must come within patience, and so must its body: a long one over a
     slow line gets a time of its own. Whoever is the first to find that a token
     is no good makes the next ask for another, which all share. */
  async #exchange(call, path, init, read) {
    const { fetch, clientId, credentials } = this.#options;
    let token = null;
    let sent = false;
    let response;
    let body;
    try {
      const headers = new Headers(this.#options.headers ?? {});
      for (const [name, value] of Object.entries(init.headers ?? {}))
        headers.set(name, value);
      if (clientId) headers.set('X-Client-ID', clientId);
      call.wait();
      let bearer = this.#options.token;
      if (typeof bearer === 'function') {
        token = this.#token ??= (async (ask) => ask())(bearer);
        bearer = await call.within(token);
        call.wait();
      }
      if (bearer) headers.set('Authorization', `Bearer ${bearer}`);
      sent = true;
      response = await fetch(this.#base + path, { ...init, headers,
        credentials, cache: 'no-store', signal: call.signal });
      body = await (response.ok ? read : readJson)(response, call);
    } catch (error) {
      /* What a refusal says beyond its status may be lost, or be no JSON. */
      if (!response || response.ok)
        throw call.failure(error, response?.status ?? 0, sent);
    } finally {
      call.rest();
      const isGood = sent && response?.status !== 401;
      if (!isGood && this.#token === token) this.#token = null;
    }
    return { response, body, token };
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

/* --- a request ------------------------------------------------------------ */

/* Under way; it is given up when nothing has come for as long as its patience,
   from each wait() on. */
class Call {
  cancelled = false;
  #patience;
  #timer;
  #abort = new AbortController();

  constructor(patience) { this.#patience = patience; }

  get signal() { return this.#abort.signal; }

  wait(ms = this.#patience) {
    this.rest();
    this.#timer = setTimeout(() => {
      this.#abort.abort(new Error(`no answer in ${ms} ms`));
    }, ms);
  }

  rest() { clearTimeout(this.#timer); }

  cancel() {
    this.cancelled = true;
    this.rest();
    this.#abort.abort();
  }

  /* What the promise gives, if it does so while this is under way. */
  async within(promise) {
    const { signal } = this;
    if (signal.aborted) throw signal.reason;
    return Promise.race([promise, new Promise((resolve, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason));
    })]);
  }

  failure(error, status, sent) {
    const cause = this.signal.aborted ? this.signal.reason : error;
    /* Node's fetch() says why only one level down. */
    const why = cause?.cause?.message || cause?.message || cause;
    return failure(why, status, { cause, unknown: sent });
  }
}

function readJson(response, call) {
  call.wait();
  return response.json();
}

/* --- a stream --------------------------------------------------------------

   Server-sent events, read as fast as they are handed on. What they tell is
   given as the replies of a poll. That the server only shows to be alive, by a
   comment, is a reply with nothing in it. */

/* It is open once something of its body has come. */
async function openStream(response, call) {
  const type = response.headers.get('content-type') ?? '';
  if (!/^text\/event-stream *(;|$)/i.test(type)) {
    response.body?.cancel().catch(() => {});        /* it may be endless */
    throw new Error(`not a stream, but '${type}'`);
  }
  const stream = new Stream(response.body.getReader(), call);
  if (!await stream.more()) throw stream.error;
  return stream;
}

class Stream {
  names;                            /* of which channels */
  lastId;                           /* where it stands */
  error = null;                     /* why it has ended */
  #reader;
  #call;
  #text = new TextDecoder();
  #parser = new EventParser();

  constructor(reader, call) {
    this.#reader = reader;
    this.#call = call;
  }

  /* Has it told anything, or shown that it waits? */
  get used() { return this.#parser.used; }
  get retry() { return this.#parser.retry; }

  standsAt(names, lastId) {
    return !this.#call.cancelled && this.names === names &&
      this.lastId === lastId;
  }

  close() { this.#call.cancel(); }

  /* Null when it has ended: by itself, or since it was silent for too long.
     Rejects when it is closed. */
  async next(patience) {
    const began = performance.now();
    do {
      const waited = performance.now() - began >= INSTANT_MS;
      if (this.#parser.events.length > 0 || waited) return this.#reply();
    } while (await this.more(patience));
    if (this.#call.cancelled) throw this.error;
    return null;
  }

  /* Is there more? It may take as long as `patience`, or what is left of that
     of the request. */
  async more(patience) {
    if (patience) this.#call.wait(patience);
    try {
      const { done, value } = await this.#reader.read();
      if (done) throw new Error('the stream has ended');
      this.#parser.push(this.#text.decode(value, { stream: true }));
      return true;
    } catch (error) {
      this.error = this.#call.failure(error, 200, true);
      return false;
    } finally {
      this.#call.rest();
    }
  }

  /* All that is there; but a reset is told before what follows it. */
  #reply() {
    const { events } = this.#parser;
    const end = events.findIndex(({ type }, i) => i > 0 && type === 'reset');
    const some = events.splice(0, end < 0 ? events.length : end);
    this.lastId = (some.at(-1) ?? this.#parser).lastId || this.lastId;
    const reset = some[0]?.type === 'reset' ? some.shift() : null;
    return {
      last_id: this.lastId,
      messages: some.filter(({ type }) => type === 'message')
        .map(({ data }) => parseJson(data)),
      reset: reset ? parseJson(reset.data) : undefined,
    };
  }
}

/* As HTML has it (9.2.6). Exported for its tests alone. */
export class EventParser {
  events = [];                      /* { type, data, lastId }, to be taken */
  lastId = '';
  retry = 0;                        /* in ms */
  used = false;                     /* an event or a comment has come */
  #rest = '';                       /* of a line whose end has not come */
  #cr = false;                      /* a line feed would be of the last line */
  #id = '';                         /* counts once the event is whole */
  #type = '';
  #data = [];

  push(text) {
    if (text === '') return;
    const next = this.#cr && text[0] === '\n' ? text.slice(1) : text;
    this.#cr = text.endsWith('\r');
    const lines = (this.#rest + next).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line);
  }

  #line(line) {
    if (line === '') return this.#dispatch();
    const [, field, value] = /^([^:]*):? ?([^]*)$/.exec(line);
    if (line[0] === ':') this.used = true;
    else if (field === 'data') this.#data.push(value);
    else if (field === 'event') this.#type = value;
    else if (field === 'id' && !value.includes('\0')) this.#id = value;
    else if (field === 'retry' && /^[0-9]+$/.test(value))
      this.retry = Number(value);
  }

  #dispatch() {
    this.lastId = this.#id;
    if (this.#data.length > 0) {
      this.used = true;
      this.events.push({ type: this.#type || 'message',
        data: this.#data.join('\n'), lastId: this.lastId });
    }
    this.#type = '';
    this.#data = [];
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
    /* The new leader may have spoken while we still thought that we led. */
    this.ask(false);
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

function parseJson(text) {
  try { return JSON.parse(text); } catch { return null; }
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
