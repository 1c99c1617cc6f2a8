/* What the tests of many instances stand on: real redis-servers that are
   killed, stopped, demoted, filled and emptied; a relay before one, by which
   instances can be cut off or sent to another; and the instances themselves.

   From the environment, beside what harness.mjs reads:
     LONGPOLL_INSTANCE   the server that plays an instance  [LONGPOLL_SERVER] */

import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { spawnSync } from 'node:child_process';
import {
  DEMO, SLOW, Server, atEnd, freePort, run, sleep, until, which, within,
} from './harness.mjs';
import { Wire } from './redis-wire.mjs';

export { Wire };

const REDIS = which('redis-server') || which('valkey-server');
export const INSTANCE = process.env.LONGPOLL_INSTANCE
  ? path.resolve(process.env.LONGPOLL_INSTANCE) : DEMO;

/* Why there is nothing to test, or false. An unknown option ends a server
   before it comes to --help. */
const knows = () => spawnSync(INSTANCE, ['--redis', 'redis://127.0.0.1:6379', '--help']).status === 0;
export const skip = (!REDIS && 'redis-server is not installed')
  || (!knows() && `${path.basename(INSTANCE)} has no --redis`);

/* ---- a redis-server ------------------------------------------------------ */

const CALL_MS = 10_000 * SLOW;

export class Redis {
  /* `persist`: every write is on disk before it is answered. `options` are
     those of redis.conf: {maxmemory: '4mb', requirepass: 'secret'}. */
  static async start(t, { persist = false, port, options = {} } = {}) {
    const self = new Redis();
    self.persist = persist;
    self.options = options;
    self.dir = mkdtempSync(path.join(os.tmpdir(), 'longpoll-redis-'));
    atEnd(t, async () => {
      await self.kill();
      rmSync(self.dir, { recursive: true, force: true });
    });
    for (let tries = 0; ; tries += 1) {
      self.port = port ?? await freePort();
      try {
        await self.restart();
        return self;
      } catch (error) {
        if (tries === 3) throw error;
      }
    }
  }

  get url() {
    const { requirepass } = this.options;
    return `redis://${requirepass ? `:${requirepass}@` : ''}127.0.0.1:${this.port}`;
  }

  /* The same again, on the same port and files. */
  async restart() {
    const options = {
      port: this.port, bind: '127.0.0.1', dir: this.dir, daemonize: 'no', save: '', loglevel: 'warning',
      appendonly: this.persist ? 'yes' : 'no', appendfsync: 'always', 'repl-diskless-sync-delay': 0, ...this.options,
    };
    /* Somebody may have been given the port for a connection meanwhile. */
    await until(async () => {
      this.process = run([REDIS, ...Object.entries(options).flatMap(([name, value]) => [`--${name}`, String(value)])],
        { cwd: this.dir });
      return until(async () => this.process.code !== undefined || this.call('PING').catch(() => false), 'Redis')
        .then((pong) => pong === 'PONG');
    }, 'redis-server');
    this.pid = this.process.pid;
  }

  async kill() {
    this.wire?.close();
    this.wire = null;
    if (this.process.code === undefined) await this.process.end('SIGKILL');
  }

  pause() { process.kill(this.pid, 'SIGSTOP'); }
  resume() { process.kill(this.pid, 'SIGCONT'); }

  async call(...words) {
    if (!this.wire || this.wire.gone) {
      this.wire = new Wire(this.port);
      if (this.options.requirepass) this.wire.call('AUTH', this.options.requirepass);
    }
    return within(this.wire.call(...words), CALL_MS, words[0]);
  }

  async info(section) {
    const text = await this.call('INFO', section);
    return Object.fromEntries(text.split('\r\n').filter((line) => line.includes(':'))
      .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 1)]));
  }

  async identity() { return (await this.info('replication')).master_replid; }

  /* Follow another, by way of `port`; or nobody: a promotion. */
  async follow(other, port = other?.port) {
    await this.call('REPLICAOF', ...(other ? ['127.0.0.1', port] : ['NO', 'ONE']));
    this.options = { ...this.options };
    if (other) this.options.replicaof = `127.0.0.1 ${port}`;
    else delete this.options.replicaof;
  }

  /* This replica has all that the primary had a moment ago. That the link is up
     does not say so. */
  async inStep(primary) {
    const offset = Number((await primary.info('replication')).master_repl_offset);
    await until(async () => {
      const { master_link_status: link, slave_repl_offset: own } = await this.info('replication');
      return link === 'up' && Number(own) >= offset;
    }, 'the replica to be in step');
  }

  /* How many subscribers lost their connection. */
  killSubscribers() { return this.call('CLIENT', 'KILL', 'TYPE', 'pubsub'); }

  /* The ids of the connections that instances have. */
  async clients() {
    const lines = (await this.call('CLIENT', 'LIST')).split('\n').filter(Boolean);
    return lines.filter((line) => !/ cmd=client\|list | flags=[^ ]*[MS]/.test(line)).map((line) => /^id=(\d+)/.exec(line)[1]);
  }

  /* The key of a channel: 'h' for its hash, 'x' for its stream. */
  async key(kind, channel) {
    const [key] = await this.call('KEYS', `lp1:{???}${kind}:${channel}`);
    return key;
  }
}

/* ---- a relay -------------------------------------------------------------

   A TCP proxy before a redis-server. turn() sends new connections elsewhere
   and leaves alone those that are there. cut() holds back all bytes, as a
   network does that is parted, and mend() lets them go on. */

export class Relay {
  static async start(t, port) {
    const self = new Relay();
    self.target = port;
    self.pairs = new Set();
    self.isCut = { up: false, down: false };
    self.listener = net.createServer({ allowHalfOpen: true, noDelay: true }, (near) => self.pass(near)).listen(0, '127.0.0.1');
    await new Promise((done) => self.listener.once('listening', done));
    self.port = self.listener.address().port;
    atEnd(t, () => { self.listener.close(); self.drop(); });
    return self;
  }

  get url() { return `redis://127.0.0.1:${this.port}`; }

  turn(port) { this.target = port; }

  pass(near) {
    const far = net.connect({ port: this.target, host: '127.0.0.1', allowHalfOpen: true, noDelay: true });
    const pair = { near, far };
    this.pairs.add(pair);
    this.flow(near, far, 'up', pair);
    this.flow(far, near, 'down', pair);
  }

  flow(from, to, way, pair) {
    if (this.isCut[way]) from.pause();
    from.on('data', (part) => { if (!to.write(part)) from.pause(); });
    to.on('drain', () => { if (!this.isCut[way]) from.resume(); });
    from.on('end', () => to.end());
    from.on('error', () => {});
    from.on('close', () => {                    /* is not heard of through a cut */
      pair.closed = true;
      if (!this.isCut[way]) this.end(pair);
    });
  }

  end({ near, far }) {
    for (const pair of this.pairs) if (pair.near === near) this.pairs.delete(pair);
    near.destroy();
    far.destroy();
  }

  cut(ways = ['up', 'down']) {
    for (const way of ways) this.isCut[way] = true;
    for (const { near, far } of this.pairs) {
      if (this.isCut.up) near.pause();
      if (this.isCut.down) far.pause();
    }
  }

  mend() {
    this.isCut = { up: false, down: false };
    for (const pair of this.pairs) {
      if (pair.closed) this.end(pair);
      pair.near.resume();
      pair.far.resume();
    }
  }

  /* End all connections. */
  drop() { for (const pair of this.pairs) this.end(pair); }
}

/* ---- an instance --------------------------------------------------------- */

export class Instance {
  static async start(t, urls, options = {}, program = INSTANCE) {
    const self = new Instance();
    self.program = program;
    self.options = { redis: [].concat(urls).join(','), 'no-limits': true, ...options };
    self.log = '';                              /* of its earlier lives */
    atEnd(t, () => self.stop());
    await self.begin();
    return self;
  }

  /* On the port that it had before, if it had one. */
  async begin() {
    const { port = 0, options } = this;
    this.server = await until(() => Server.start(this.program, { ...options, port }).catch((error) => {
      if (port === 0 || !/in use/.test(error.message)) throw error;
      return sleep(50);
    }), 'the port to be free');
    this.port = this.server.port;
    this.pid = this.server.pid;
  }

  /* All that it has logged. */
  get said() { return this.log + (this.server?.process.stderr ?? ''); }

  /* Its end must be clean, whatever it had to say about Redis. */
  async stop(ms) {
    const { server } = this;
    if (!server) return;
    this.server = null;
    this.log += server.process.stderr;
    server.tolerated = /^(server|error): .*redis.*\n/gim;
    await server.stop(ms === undefined ? {} : { ms });
  }

  async kill() {
    const { server } = this;
    this.server = null;
    this.log += server.process.stderr;
    await server.kill();
  }

  /* Publishing works, by way of each store if `channels` are spread. */
  ready(channels = ['ready'], ms = READY_MS) {
    return until(async () => {
      for (const channel of channels) {
        const answer = await this.server.publish(channel, { ready: true }).catch(() => null);
        if (answer?.status !== 200) return sleep(30);
      }
      return true;
    }, `instance ${this.port} to publish`, ms);
  }

  async restart(signal = 'SIGTERM') {
    if (signal === 'SIGKILL') await this.kill();
    else await this.stop();
    await this.begin();
  }

  /* Wait for a line of its log. */
  logs(pattern, ms = READY_MS) {
    return until(() => pattern.exec(this.said), `the log to have ${pattern}: ${this.said}`, ms);
  }
}

/* It may wait for 10 s before it tries to connect again, and then it takes
   its steps. */
const READY_MS = 20_000 * SLOW;

/* `urls`: the same for all, or a function that gives each its own. */
export async function instances(t, n, urls, options) {
  const one = (_, i) => Instance.start(t, typeof urls === 'function' ? urls(i) : urls, options);
  const all = await Promise.all(Array.from({ length: n }, one));
  await Promise.all(all.map((instance) => instance.ready()));
  return all;
}
