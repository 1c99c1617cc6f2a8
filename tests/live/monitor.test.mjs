/* What an operator is told: /metrics as promtool reads it, and its figures against
   what was done; /healthz in a drain; who may have them, through nginx and HAProxy as
   shipped; and the access log of the demo, a line for each request. */

import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { test } from 'node:test';
import { Listener, Stream } from './events.mjs';
import { FRONTS, front, missing } from './fronts.mjs';
import {
  SLOW, atEnd, demo, get, live, post, scaled, sleep, until, which,
} from './harness.mjs';

const FREE = { 'waiters-per-client': 'unlimited', 'waiters-per-address': 'unlimited' };
const PATHS = ['/metrics', '/api/stats', '/healthz'];
const promtool = which('promtool');

/* What Prometheus itself says of the text, its naming conventions included. */
function lint(text) {
  const { status, stdout, stderr } = spawnSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8' });
  assert.deepEqual({ status, stdout, stderr }, { status: 0, stdout: '', stderr: '' });
}

/* The samples by their names with their labels, and the types by name. */
function read(text) {
  const values = new Map();
  const types = new Map();
  assert.ok(text.endsWith('\n'));
  for (const line of text.slice(0, -1).split('\n')) {
    const type = /^# TYPE (\w+) (counter|gauge|histogram)$/.exec(line);
    if (type) types.set(type[1], type[2]);
    if (line.startsWith('#')) continue;
    const [, name, value] = /^(longpoll_\w+(?:\{\w+="[^"\\]*"\})?) (\d+(?:\.\d+)?)$/.exec(line) ?? assert.fail(line);
    assert.ok(!values.has(name), `${name} twice`);
    values.set(name, Number(value));
  }
  return { values, types, of: (name) => values.get(`longpoll_${name}`) ?? assert.fail(`no ${name}`) };
}

async function scrape(server, options) {
  const answer = await server.request('GET', '/metrics', options);
  assert.equal(answer.status, 200, answer.text);
  assert.equal(answer.headers['content-type'], 'text/plain; version=0.0.4; charset=utf-8');
  return answer.text;
}

/* The buckets of a histogram rise up to its count. */
function histogram({ values, of }, name) {
  const buckets = [...values].filter(([key]) => key.startsWith(`longpoll_${name}_bucket`));
  let before = 0;
  let bound = 0;
  for (const [key, value] of buckets) {
    const le = Number(/le="(.*)"/.exec(key)[1].replace('+Inf', 'Infinity'));
    assert.ok(le > bound && value >= before, key);
    [bound, before] = [le, value];
  }
  assert.deepEqual([bound, before], [Infinity, of(`${name}_count`)]);
  return { count: before, sum: of(`${name}_sum`) };
}

/* ---- the figures ----------------------------------------------------------- */

test('/metrics while the server is busy, read by promtool, and equal to what was done', { skip: !promtool && 'promtool is not installed' }, async (t) => {
  const server = await live(t, { ...FREE, monitor: 1 });
  const n = scaled(400, 40);
  const rooms = 4;
  let asked = 0;
  let bytes = 0;
  let busy = true;
  const request = async (...words) => {
    asked += 1;
    const answer = await server.request(...words);
    bytes += Buffer.byteLength(answer.text);
    return answer;
  };
  const follow = async (room) => {
    let last = 'now';
    let got = 0;
    while (got < n) {
      const answer = await request('GET', `/api/poll/room-${room}?last_id=${last}`);
      assert.equal(answer.status, 200, answer.text);
      last = answer.json.last_id;
      got += answer.json.count;
    }
  };
  const followers = Array.from({ length: rooms }, (_, room) => follow(room));
  await until(async () => read(await scrape(server)).of('waiters') === rooms, 'all parked');
  let scrapes = 0;
  const watch = (async () => {
    while (busy) {
      const text = await scrape(server);
      if (scrapes % 10 === 0) lint(text);
      scrapes += 1;
      await sleep(5);
    }
  })();
  for (let i = 0; i < n; i += 1) {
    for (let room = 0; room < rooms; room += 1) {
      const headers = { 'Content-Type': 'application/json' };
      assert.equal((await request('POST', `/api/publish/room-${room}`, { headers, body: `{"n":${i}}` })).status, 200);
    }
    if (i % 10 === 0) assert.equal((await request('GET', '/nowhere')).status, 404);
  }
  await Promise.all(followers);
  busy = false;
  await watch;

  const stream = await Stream.open(server, new Listener('room-0'), { params: { last_id: 'now' } });
  atEnd(t, () => stream.close());
  assert.equal(await stream.begin(), 200);
  await until(async () => read(await scrape(server)).of('streams') === 1, 'the stream');
  await sleep(100 * SLOW);              /* of several loops each counts up to its last turn */
  const before = read(await scrape(server));
  const text = await scrape(server);
  lint(text);
  const now = read(text);
  const refusals = Math.ceil(n / 10);
  assert.equal(now.of('messages_published_total'), n * rooms);
  assert.equal(now.of('messages_delivered_total'), n * rooms);
  assert.equal(now.of('replies_total{code="4xx"}'), refusals);
  assert.equal(now.of('replies_total{code="3xx"}'), 0);
  assert.equal(now.of('replies_total{code="5xx"}'), 0);
  assert.deepEqual([now.of('streams'), now.of('waiters'), now.of('channels'), now.of('messages')], [1, 1, rooms, n * rooms]);
  assert.equal(now.of('connections'), before.of('connections'));
  assert.equal(now.types.get('longpoll_delivery_delay_seconds'), 'histogram');
  assert.equal(now.types.get('longpoll_requests_total'), 'counter');
  assert.equal(now.of(`build_info{version="${text.match(/version="(.*)"/)[1]}"}`), 1);

  const polls = asked - refusals - n * rooms;
  const delays = histogram(now, 'delivery_delay_seconds');
  assert.ok(delays.count > 0 && delays.count <= polls, `${delays.count} of ${polls}`);
  assert.ok(delays.sum > 0 && delays.sum < 60);
  const sizes = histogram(now, 'reply_size_bytes');
  assert.equal(sizes.count, now.of('replies_total{code="2xx"}') + refusals);
  assert.ok(sizes.sum > bytes, `${sizes.sum} of ${bytes}`);       /* those of the scrapes are in it */

  /* Each request is counted, the scrapes too. */
  await sleep(100 * SLOW);
  const stats = (await server.request('GET', '/api/stats')).json;
  assert.equal(stats.requests, stats.replies['2xx'] + stats.replies['4xx']);
  assert.equal(stats.published, n * rooms);
  assert.equal(stats.latencies.count, delays.count);
  assert.ok(stats.latencies.p50_us <= stats.latencies.p90_us && stats.latencies.p90_us <= stats.latencies.p99_us);
  stream.close();
  await until(async () => read(await scrape(server)).of('streams') === 0, 'the end of the stream');
});

/* ---- /healthz -------------------------------------------------------------- */

test('/healthz is 503 in a drain, for who is still connected', async (t) => {
  const server = await live(t, { 'drain-ms': 3000 });
  const raw = await server.raw();
  assert.equal((await raw.send(get('/healthz')).answer()).text, '{"status":"ok"}');
  for (let i = 0; i < 4; i += 1) await server.park('room', { last_id: 'now' }, { headers: { 'X-Client-ID': `c${i}` } });
  server.process.child.kill('SIGTERM');
  const answer = await until(async () => {
    const { status, text, headers } = await raw.send(get('/healthz')).answer();
    return status === 503 && { text, headers };
  }, '503');
  assert.equal(answer.text, '{"status":"draining"}');
  assert.equal(answer.headers.connection, 'close');
  await server.over();
});

/* ---- who may --------------------------------------------------------------- */

for (const name of FRONTS) {
  test(`${name} as shipped publishes none of them`, { skip: missing(name) }, async (t) => {
    const plain = await live(t);                                  /* which trusts nobody: a mistake */
    const trusting = await live(t, { 'trusted-proxies': '127.0.0.1' });
    for (const server of [plain, trusting]) {
      const { port } = await front(t, name, [server.port]);
      for (const path of PATHS) {
        for (const headers of [{}, { 'X-Forwarded-For': '' }, { 'X-Forwarded-For': '127.0.0.1' }, { Host: 'localhost' }]) {
          const answer = await fetchThrough(port, path, headers);
          assert.deepEqual([answer.status, answer.text], [404, '{"error":"Not found"}'], path);
        }
      }
    }
    for (const path of PATHS) assert.equal((await plain.request('GET', path)).status, 200);

    const guarded = await live(t, { 'trusted-proxies': '127.0.0.1', 'admin-token': 'secret' });
    const { port } = await front(t, name, [guarded.port]);
    for (const path of PATHS) {
      assert.equal((await fetchThrough(port, path, {})).status, path === '/healthz' ? 200 : 401);
      assert.equal((await fetchThrough(port, path, { Authorization: 'Bearer secret' })).status, 200);
    }
  });
}

async function fetchThrough(port, path, headers) {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { headers });
  return { status: answer.status, text: await answer.text() };
}

/* A process that stands still has its connections accepted by the kernel, and answers none. */
test('HAProxy leaves out an instance that does not answer /healthz', { skip: missing('haproxy') }, async (t) => {
  const servers = [];
  for (let i = 0; i < 3; i += 1) servers.push(await live(t, { 'trusted-proxies': '127.0.0.1', 'admin-token': 'secret' }));
  const { port } = await front(t, 'haproxy', servers.map((server) => server.port), (text) => {
    assert.equal(text.match(/^ *# option httpchk GET \/healthz$/gm)?.length, 1);
    return text.replace('# option httpchk', 'option httpchk');
  });
  const ask = () => fetchThrough(port, '/test/address', {});
  await until(async () => (await ask()).status === 200, 'an answer');
  process.kill(servers[1].pid, 'SIGSTOP');
  try {
    await sleep(3000 * SLOW);
    for (let i = 0; i < 9; i += 1) {
      const began = performance.now();
      assert.equal((await ask()).status, 200);
      assert.ok(performance.now() - began < 1000 * SLOW);
    }
  } finally {
    process.kill(servers[1].pid, 'SIGCONT');
  }
});

/* ---- the access log -------------------------------------------------------- */

const COMMON = /^(\S+) - - \[(\d\d\/[A-Z][a-z][a-z]\/\d{4}:\d\d:\d\d:\d\d \+0000)\] "(-|([A-Z]+) (\S+) HTTP\/1\.([01]))" (\d{3}) (\d+)$/;

/* The lines of the log so far, as objects. */
function logged(server, format) {
  const lines = server.process.stdout.split('\n').slice(1, -1);
  return lines.map((line) => {
    if (format === 'json') {
      const { client, method, path, http, status, bytes, stream } = JSON.parse(line);
      return { client, method, path, http, status, bytes, stream };
    }
    const [, client, date, , method = '', path = '', minor, status, bytes] = COMMON.exec(line) ?? assert.fail(line);
    const at = Date.parse(date.replace(':', ' ').replaceAll('/', ' '));
    assert.ok(Math.abs(Date.now() - at) < 60_000, date);
    return { client, method, path, http: minor && `1.${minor}`, status: Number(status), bytes: Number(bytes) };
  });
}

for (const format of ['common', 'json']) {
  test(`--log ${format}: a line for each request, in their order, and no secret in any`, async (t) => {
    const server = await demo(t, { log: format, token: 'secret-publish', 'admin-token': 'secret-admin', trust: '127.0.0.1' });
    const expected = [];
    const raw = await server.raw();
    const auth = { Authorization: 'Bearer secret-publish' };
    const exchange = async (bytes, method, path, line = {}) => {
      const { status, text } = await raw.send(bytes).answer();
      expected.push({ client: '127.0.0.1', method, path, http: '1.1', status, bytes: Buffer.byteLength(text), ...line });
    };
    await exchange(get('/?token=secret-query'), 'GET', '/');
    await exchange(get('/%22%0a?secret'), 'GET', '/%22%0a');
    await exchange(get('/api/poll/a?timeout=0&access_token=secret-query', { Referer: 'http://a/?secret', 'User-Agent': 'x"\\y' }), 'GET', '/api/poll/a');
    await exchange(get('/api/poll/a?timeout=bad'), 'GET', '/api/poll/a');
    await exchange(post('/api/publish/a?secret', '{"n":1}', auth), 'POST', '/api/publish/a');
    await exchange(get('/metrics', { Authorization: 'Bearer secret-admin' }), 'GET', '/metrics');
    await exchange(get('/healthz', { 'X-Forwarded-For': '192.0.2.7' }), 'GET', '/healthz', { client: '192.0.2.7' });
    await exchange(get('/api/poll/a?last_id=0'), 'GET', '/api/poll/a');
    await exchange(get('/api/poll/b?timeout=0.2'), 'GET', '/api/poll/b');

    /* Parked, and its client leaves; a stream, told with all that it sent; what is no request. */
    const gone = await server.raw();
    gone.send(get('/api/poll/c?secret'));
    await sleep(200 * SLOW);
    gone.close();
    expected.push({ client: '127.0.0.1', method: 'GET', path: '/api/poll/c', http: '1.1', status: 499, bytes: 0 });
    await until(() => logged(server, format).length === expected.length, 'the line of who has gone');
    const stream = await server.raw();
    stream.send(get('/api/stream/a?last_id=0&access_token=secret'));
    await until(() => stream.got.includes('data: '), 'an event');
    const events = stream.got.subarray(stream.got.indexOf('\n\n', stream.got.indexOf('retry: ')) + 2).length;
    stream.close();
    expected.push({ client: '127.0.0.1', method: 'GET', path: '/api/stream/a', http: '1.1', status: 200, bytes: events });
    await until(() => logged(server, format).length === expected.length, 'the line of the stream');
    const bad = await server.raw();
    const { status, text } = await bad.send('GET /secret secret HTTP/1.1\r\n\r\n').answer();
    expected.push({ client: '127.0.0.1', method: '', path: '', http: format === 'json' ? '1.1' : undefined, status, bytes: Buffer.byteLength(text) });
    await until(() => logged(server, format).length >= expected.length, 'all lines');

    const lines = logged(server, format);
    if (format === 'json') {
      lines.forEach((line) => { assert.equal(line.stream, line.path.startsWith('/api/stream/')); delete line.stream; });
    }
    assert.deepEqual(lines, expected);
    assert.ok(!server.process.stdout.includes('secret'));
  });
}

test('--log json through nginx: each request of many clients has its line', { skip: missing('nginx') }, async (t) => {
  const server = await demo(t, { log: 'json', trust: '127.0.0.1' });
  const { port } = await front(t, 'nginx', [server.port]);
  const n = scaled(200, 20);
  const headers = (i) => ({ 'X-Forwarded-For': `192.0.2.${i % 50}`, 'User-Agent': `agent ${i} "\\` });
  const polls = Array.from({ length: n }, (_, i) => fetchThrough(port, `/api/poll/room?timeout=5&last_id=0&token=secret-${i}`, headers(i)));
  await sleep(300 * SLOW);
  const published = await fetch(`http://127.0.0.1:${port}/api/publish/room`, {
    method: 'POST', headers: { 'Content-Type': 'application/json', ...headers(7) }, body: '{"text":"x"}',
  });
  assert.equal(published.status, 200);
  const answers = await Promise.all(polls);
  const entries = () => server.process.stdout.split('\n').slice(1, -1).map((line) => JSON.parse(line));
  await until(() => entries().length >= n + 1, 'all lines');
  const agents = new Map(entries().map((entry) => [`${entry.method} ${entry.agent}`, entry]));
  assert.equal(entries().length, n + 1);
  answers.forEach(({ status, text }, i) => {
    const entry = agents.get(`GET agent ${i} "\\`);
    assert.deepEqual(
      [entry.client, entry.path, entry.status, entry.bytes],
      [`192.0.2.${i % 50}`, '/api/poll/room', status, Buffer.byteLength(text)],
    );
    assert.ok(entry.duration_us < 60e6);
  });
  assert.ok(!server.process.stdout.includes('secret'));
});
