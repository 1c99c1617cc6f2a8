/* The programs of demo/examples, each against real clients: node's fetch, and the JavaScript client. */

import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { test } from 'node:test';
import { LongPollingClient } from '../../demo/client/longpoll.js';
import { DEMO, SLOW, Server, atEnd, cpuMs, get, run, sleep, until, within } from './harness.mjs';

const SUFFIX = process.env.LONGPOLL_SUFFIX || '';
const built = (name, suffix = SUFFIX) => path.join(path.dirname(DEMO), `${name}${suffix}`);
const none = (name, wants) => !existsSync(built(name)) && `${name} was not built: it wants ${wants}`;

/* The program with a port of the kernel's choice, ended with the test. */
async function start(t, program) {
  const server = await Server.start(program, ['0']);
  atEnd(t, () => server.stop());
  return server;
}

/* What C++ is compiled with: g++ and, with sanitizers, clang++. */
const compiled = (name) => [built(name), built(name, '-clang-asan')]
  .filter((program, i) => existsSync(program) && (i === 0 || SUFFIX === '-asan'));

/* ---- jobs.c ------------------------------------------------------------ */

const JOBS = built('examples/jobs');

/* A visitor of the page: its cookie, and the channel that the page says. */
async function visit(server) {
  const page = await fetch(server.url);
  assert.equal(page.status, 200);
  assert.match(page.headers.get('content-type'), /^text\/html/);
  const set = page.headers.get('set-cookie');
  assert.match(set, /^session=[0-9a-f]{64}; Path=\/; HttpOnly; SameSite=Lax$/);
  const cookie = set.split(';')[0];
  const [, channel] = /\/api\/poll\/(jobs-[0-9a-f]{32})\?/.exec(await page.text());
  const ask = (target, options) => fetch(server.url + target, { headers: { cookie }, ...options });
  return {
    cookie,
    channel,
    ask,
    order: (body) => ask('/jobs', { method: 'POST', body: typeof body === 'string' ? body : JSON.stringify(body) }),
    result: (number, options) => ask(`/jobs/${number}/result`, options),
    poll: (of = channel) => ask(`/api/poll/${of}?timeout=0`),
  };
}

const order = async (visitor, name, steps) => {
  const answer = await visitor.order({ name, steps });
  assert.equal(answer.status, 202);
  const job = await answer.json();
  assert.deepEqual({ ...job, job: 0 }, { job: 0, name, steps, done: 0, sum: 0 });
  return job.job;
};
const squares = (n) => (n * (n + 1) * (2 * n + 1)) / 6;

async function refuses(answer, status, error) {
  const { status: is, ...rest } = { status: answer.status, ...await answer.json() };
  assert.deepEqual([is, rest], [status, { error }]);
}

test('jobs: the JavaScript client follows a job to its end, and its result is waited for', async (t) => {
  const server = await start(t, JOBS);
  const visitor = await visit(server);
  const again = await visitor.ask('/');
  assert.deepEqual([again.status, again.headers.get('set-cookie')], [200, null], 'a session stays the same');
  const client = new LongPollingClient(server.url, visitor.channel, { headers: { cookie: visitor.cookie } });
  const told = [];
  client.on('message', ({ job, name, steps, done, sum }) => told.push({ job, name, steps, done, sum }));
  client.on('error', (error) => told.push(error));
  client.start();
  atEnd(t, () => client.stop());
  const name = 'a "tea" with \u{1f375} and \\';
  const job = await order(visitor, name, 7);
  const began = performance.now();
  const answer = await visitor.result(job);
  assert.ok(performance.now() - began > 300, 'it was not there yet');
  const whole = { job, name, steps: 7, done: 7, sum: squares(7) };
  assert.deepEqual([answer.status, await answer.json()], [200, whole]);
  await until(() => told.length >= 7, 'all of its progress');
  assert.deepEqual(told, [1, 2, 3, 4, 5, 6, 7].map((done) => ({ job, name, steps: 7, done, sum: squares(done) })));
  const later = await visitor.result(job);
  assert.deepEqual([later.status, await later.json()], [200, whole], 'and it stays there');
});

test('jobs: two sessions do not see each other\'s', async (t) => {
  const server = await start(t, JOBS);
  const [ann, bob] = [await visit(server), await visit(server)];
  assert.notEqual(ann.channel, bob.channel);
  const [tea, ale] = [await order(ann, 'tea', 3), await order(bob, 'ale', 3)];
  await refuses(await bob.result(tea), 404, 'No such job');
  await refuses(await ann.result(ale), 404, 'No such job');
  await refuses(await ann.poll(bob.channel), 403, 'Forbidden');
  const half = { ...ann, cookie: `session=${bob.channel.slice(5)}${ann.cookie.slice(-32)}` };
  for (const cookie of [half.cookie, 'session=', 'other=1', `${ann.cookie}0`]) {
    const headers = { cookie };
    await refuses(await ann.ask(`/api/poll/${bob.channel}?timeout=0`, { headers }), 403, 'Forbidden');
    await refuses(await ann.result(ale, { headers }), 404, 'No such job');
    await refuses(await ann.ask('/jobs', { headers, method: 'POST', body: '{}' }), 401, 'No session: get / first');
  }
  await Promise.all([ann.result(tea), bob.result(ale)]);
  for (const [visitor, job] of [[ann, tea], [bob, ale]]) {
    const { messages } = await (await visitor.poll()).json();
    assert.deepEqual(messages.map((message) => message.job), [job, job, job]);
  }
  const headers = { cookie: ann.cookie, 'content-type': 'application/json' };
  const publish = await ann.ask(`/api/publish/${ann.channel}`, { headers, method: 'POST', body: '{}' });
  assert.equal(publish.status, 404, 'nobody but jobs publishes');
});

test('jobs: what is wrong with an order is said, and nothing begins', async (t) => {
  const server = await start(t, JOBS);
  const visitor = await visit(server);
  const name = 'JSON is wanted, with a short name', steps = 'steps is to be from 1 to 100';
  for (const [body, error] of [
    ['', name], ['{"name":"tea"', name], ['[]', name], [{ steps: 3 }, name], [{ name: 7, steps: 3 }, name],
    [{ name: 'x'.repeat(78), steps: 3 }, name],
    [{ name: 'tea' }, steps], [{ name: 'tea', steps: 0 }, steps], [{ name: 'tea', steps: 101 }, steps],
    [{ name: 'tea', steps: 1.5 }, steps], [{ name: 'tea', steps: '3' }, steps], ['{"name":"tea","steps":1e99}', steps],
  ]) await refuses(await visitor.order(body), 400, error);
  for (const number of ['0', '1', '-1', 'x', '1e99', '64']) await refuses(await visitor.result(number), 404, 'No such job');
  assert.equal(await order(visitor, 'x'.repeat(77), 1), 1, 'the first job');
  assert.equal((await visitor.result('1')).status, 200);
});

test('jobs: of those who wait for a result one goes away, and the last is answered', async (t) => {
  const server = await start(t, JOBS);
  const visitor = await visit(server);
  const job = await order(visitor, 'tea', 10);
  const target = `/jobs/${job}/result`;
  const gone = await server.raw();
  gone.send(get(target, { Cookie: visitor.cookie }));
  await sleep(100);
  gone.reset();
  const first = visitor.result(job);
  await sleep(200);
  const second = visitor.result(job);
  assert.equal((await first).status, 409);
  const answer = await second;
  assert.deepEqual([answer.status, (await answer.json()).sum], [200, squares(10)]);
  /* And one whose job ends when nobody is there any more. */
  const other = await order(visitor, 'ale', 3);
  const alone = await server.raw();
  alone.send(get(`/jobs/${other}/result`, { Cookie: visitor.cookie }));
  await sleep(100);
  alone.close();
  await until(async () => (await (await visitor.poll()).json()).messages.length === 13, 'both to be done');
  assert.equal((await visitor.result(other)).status, 200);
});

test('jobs: 64 at a time, and then the oldest gives way', async (t) => {
  const server = await start(t, JOBS);
  const visitor = await visit(server);
  const all = await Promise.all(Array.from({ length: 64 }, (_, i) => order(visitor, `job ${i}`, 20)));
  assert.deepEqual(all.sort((a, b) => a - b), Array.from({ length: 64 }, (_, i) => i + 1));
  await refuses(await visitor.order({ name: 'one more', steps: 1 }), 503, 'Too many jobs');
  const results = await Promise.all(all.map((job) => visitor.result(job)));
  for (const answer of results) assert.equal((await answer.json()).sum, squares(20));
  assert.equal(await order(visitor, 'one more', 1), 65);
  await refuses(await visitor.result(1), 404, 'No such job');
  assert.equal((await (await visitor.result(2)).json()).name.slice(0, 3), 'job');
});

test('jobs: the end comes while many are at work', async (t) => {
  const server = await start(t, JOBS);
  const visitor = await visit(server);
  for (let i = 0; i < 60; i += 1) {
    await order(visitor, 'tea', 100);
    await sleep(3);
  }
  const answer = visitor.result(60);
  await sleep(100);
  server.process.child.kill('SIGTERM');
  assert.equal((await answer).status, 504);
  await server.over();
});

/* ---- uv.c -------------------------------------------------------------- */

const UV = built('examples/uv');
const noUv = none('examples/uv', 'libuv');

test('uv: 50 polls at once are served by the loop, which tells the time', { skip: noUv }, async (t) => {
  const server = await start(t, UV);
  const poll = (channel, i) => fetch(`${server.url}/api/poll/${channel}?last_id=now`, { headers: { 'X-Client-ID': `c${i}` } });
  const all = (channel) => Array.from({ length: 50 }, (_, i) => poll(channel, i));
  const clocks = await Promise.all(all('clock').map(async (answer) => (await answer).json()));
  for (const { count, messages: [message] } of clocks) {
    assert.equal(count, 1);
    assert.ok(Math.abs(message.timestamp - Date.now() / 1000) < 5 * SLOW, 'the time');
  }
  const parked = all('room');
  await until(async () => (await (await fetch(`${server.url}/api/stats`)).json()).waiters >= 50, '50 parked');
  const began = performance.now();
  await server.say('room', { text: 'hello' });
  for (const answer of parked) assert.equal((await (await answer).json()).messages[0].text, 'hello');
  assert.ok(performance.now() - began < 700 * SLOW, 'not with the next tick of the clock only');
});

test('uv: the loop sleeps while there is nothing to do, and SIGTERM ends it', { skip: noUv }, async (t) => {
  const server = await start(t, UV);
  const { last_id } = await server.ask('clock', { last_id: 'now', timeout: 0 });
  const before = cpuMs(server.pid);
  await sleep(3000);
  assert.ok(cpuMs(server.pid) - before < 150 * SLOW, `${cpuMs(server.pid) - before} ms of CPU in 3 s`);
  const { count } = await server.ask('clock', { last_id, timeout: 0 });
  assert.ok(count >= 2 && count <= 4, `${count} ticks`);
  const asked = performance.now();
  for (let i = 0; i < 6; i += 1) {
    const late = await server.ask('room', { last_id: 'now', timeout: 0.1 });
    assert.equal(late.status, 'timeout');
  }
  assert.ok(performance.now() - asked < 4000, 'deadlines are kept, not only those of the clock');
  const parked = Array.from({ length: 50 }, (_, i) => server.poll('room', { last_id: 'now' }, { 'X-Client-ID': `c${i}` },
    { agent: false }));
  await until(async () => (await server.request('GET', '/api/stats')).json.waiters >= 50, '50 parked');
  const began = performance.now();
  server.process.child.kill('SIGTERM');
  for (const answer of await Promise.all(parked)) assert.equal(answer.json.status, 'timeout');
  await server.over();
  assert.ok(performance.now() - began < 6000 * SLOW, 'in time');
});

/* ---- longpoll.hpp and chat.cpp ----------------------------------------- */

const CXX = 'a C++ compiler';

test('chat: what is said is heard, dice fall later, and an exception is 500', { skip: none('examples/chat', CXX) }, async (t) => {
  for (const program of compiled('examples/chat')) {
    const server = await start(t, program);
    const heard = [];
    const client = new LongPollingClient(server.url, 'inn');
    client.on('message', ({ who, text }) => heard.push(`${who}: ${text}`));
    client.start();
    atEnd(t, () => client.stop());
    const post = (target, body = '') => fetch(server.url + target, { method: 'POST', body });
    const say = (room, who, text) => post(`/rooms/${room}`, JSON.stringify({ who, text }));
    assert.equal((await say('inn', 'ann', 'hello \u{1f37a} "there"')).status, 204);
    for (const body of ['', '{"who":"ann"}', '{"who":"ann","text":7}', JSON.stringify({ who: 'x'.repeat(64), text: '' })]) {
      await refuses(await post('/rooms/inn', body), 400, 'who and text are to be short strings');
    }
    for (const sides of ['x', '1', '101', '1e9', '']) {
      await refuses(await post(`/rooms/inn/dice?sides=${sides}`), 400, 'sides is a number from 2 to 100');
    }
    await refuses(await say('x'.repeat(256), 'ann', 'too long a name for a channel'), 500, 'Internal error');
    const rolls = await Promise.all(Array.from({ length: 12 }, () => post('/rooms/inn/dice?sides=2')));
    const given = await Promise.all(rolls.map(async (roll) => [roll.status, await roll.text()]));
    const good = given.filter(([status]) => status === 200);
    assert.equal(good.length, 8, 'eight dice');
    for (const [, side] of good) assert.match(side, /^[12]$/);
    for (const [status, text] of given.filter(([is]) => is !== 200)) {
      assert.deepEqual([status, text], [503, '{"error":"All dice are in the air"}']);
    }
    const gone = await server.raw();
    gone.send('POST /rooms/inn/dice HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 0\r\n\r\n');
    await sleep(50);
    gone.reset();
    await until(() => heard.length >= 10, 'ann and nine dice');
    assert.equal(heard[0], 'ann: hello \u{1f37a} "there"');
    for (const line of heard.slice(1)) assert.match(line, /^dice: [1-6]$/);
    /* The end, while one is in the air. */
    const last = post('/rooms/inn/dice');
    await sleep(50);
    await server.stop();
    assert.ok([200, 503, 504].includes((await last).status));
  }
});

test('longpoll.hpp: what handlers throw, and answers that are owed', { skip: none('live/wrapper', CXX) }, async (t) => {
  for (const program of compiled('live/wrapper')) {
    const server = await start(t, program);
    const ask = async (target, options) => {
      const answer = await fetch(server.url + target, options);
      return [answer.status, await answer.text()];
    };
    const error = (text) => JSON.stringify({ error: text });
    for (let round = 0; round < 3; round += 1) {
      assert.deepEqual(await ask('/before'), [200, 'before'], 'a server that was moved');
      assert.deepEqual(await ask('/function'), [200, 'function']);
      assert.deepEqual(await ask('/moved'), [200, 'one']);
      assert.deepEqual(await ask('/throw/exception'), [500, error('Internal error')]);
      assert.deepEqual(await ask('/throw/int'), [500, error('Internal error')]);
      assert.deepEqual(await ask('/throw/after'), [200, 'answered']);
      assert.deepEqual(await ask('/throw/later'), [503, error('Not answered')]);
      assert.deepEqual(await ask('/drop'), [503, error('Not answered')]);
      assert.deepEqual(await ask('/copies'), [200, 'by one of two']);
      assert.deepEqual(await ask('/twice'), [200, 'once']);
      assert.deepEqual(await ask('/bad'), [200, 'in the end']);
      assert.deepEqual(await ask('/answered'), [200, 'answered']);
      const [status, id] = await ask('/publish/news', { method: 'POST', body: '{"round":1}' });
      assert.deepEqual([status, id.split('-')[1]], [200, String(round + 1)]);
      assert.deepEqual(await ask('/publish/news', { method: 'POST', body: '{' }), [500, error('Internal error')]);
      const parked = ask('/keep');
      await until(async () => (await ask('/owed'))[1] === '1', 'one to be owed');
      assert.deepEqual(await ask('/pay'), [200, 'yes']);
      assert.deepEqual(await parked, [200, 'paid']);
      const forgotten = ask('/keep');
      await until(async () => (await ask('/owed'))[1] === '1', 'one to be owed');
      assert.deepEqual(await ask('/forget'), [200, 'forgot']);
      assert.deepEqual(await forgotten, [503, error('Not answered')]);
      const gone = await server.raw();
      gone.send(get('/keep'));
      await until(async () => (await ask('/owed'))[1] === '1', 'one to be owed');
      gone.reset();
      await sleep(50);
      assert.deepEqual(await ask('/pay'), [200, 'no'], 'nobody waits any more');
    }
    const kept = ask('/keep');
    await until(async () => (await ask('/owed'))[1] === '1', 'one to be owed');
    server.process.child.kill('SIGTERM');
    assert.equal((await kept)[0], 504);
    await server.over();
  }
});

/* ---- those that were here before --------------------------------------- */

test('thread: a thread publishes a clock', async (t) => {
  const server = await start(t, built('examples/thread'));
  const { messages } = await server.ask('clock', { last_id: 0 });
  const next = await server.ask('clock', { last_id: messages.at(-1).id });
  assert.equal(next.messages[0].ticks, messages.at(-1).ticks + 1);
});

test('embed: what is typed comes to who polls, and the end of the input is the end', async () => {
  const program = run([built('examples/embed'), '0']);
  await until(() => /\n/.test(program.stdout), 'its first line');
  const url = program.stdout.trim().replace('listening on ', '');
  const parked = fetch(`${url}/api/poll/typed?last_id=now`);
  await sleep(200);
  program.child.stdin.write('a "line"\n');
  assert.equal((await (await parked).json()).messages[0].text, 'a "line"');
  program.child.stdin.end();
  await within(program.ended, 10_000 * SLOW, 'its end');
  assert.deepEqual([program.code, program.stderr], [0, '']);
});
