/* Who a client is behind proxies; and real ones in front. */

import assert from 'node:assert/strict';
import http from 'node:http';
import { test } from 'node:test';
import { FRONTS, front as started, missing } from './fronts.mjs';
import {
  DEMO, LIVE, Reader, SLOW, Server, atEnd, demo, live, scaled, sixHere, sleep,
} from './harness.mjs';

/* What the server takes for the client's address. Header values may be lists:
   then there are several fields of that name. */
async function address(server, headers = {}, options = {}) {
  const answer = await server.request('GET', '/test/address', { headers, ...options });
  assert.equal(answer.status, 200, answer.text);
  return answer.text;
}

test('from an untrusted peer the headers mean nothing', async (t) => {
  const none = await live(t);
  const some = await live(t, { 'trusted-proxies': '127.0.0.1,10.0.0.0/8' });
  for (const forged of [{ 'X-Forwarded-For': '6.6.6.6' }, { 'X-Real-IP': '7.7.7.7' }, { 'X-Forwarded-For': '6.6.6.6', 'X-Real-IP': '7.7.7.7' }]) {
    assert.equal(await address(none, forged), '127.0.0.1');
    assert.equal(await address(none, forged, { from: '127.0.0.5' }), '127.0.0.5');
    assert.equal(await address(some, forged, { from: '127.0.0.5' }), '127.0.0.5');
    assert.equal(await address(some, forged), forged['X-Forwarded-For'] ?? '7.7.7.7');
  }
});

test('X-Forwarded-For is walked from the right to the first that is not trusted', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.1/32, 10.0.0.0/8,2001:db8:aaaa::/48' });
  for (const [forwarded, expected] of [
    ['1.2.3.4', '1.2.3.4'],
    ['6.6.6.6, 1.2.3.4', '1.2.3.4'],
    ['6.6.6.6,1.2.3.4', '1.2.3.4'],
    ['6.6.6.6 , 1.2.3.4 , 10.0.0.1', '1.2.3.4'],
    ['6.6.6.6, 1.2.3.4, 10.1.2.3, 10.255.255.255', '1.2.3.4'],
    ['10.0.0.1, 11.0.0.1, 10.0.0.2', '11.0.0.1'],
    ['9.255.255.255, 10.0.0.2', '9.255.255.255'],
    ['2001:db8::1', '2001:db8::1'],
    ['6.6.6.6, 2001:DB8:0:0:0:0:0:1, 2001:db8:aaaa::9', '2001:db8::1'],
    ['6.6.6.6, 2001:db8:aaab::1, 2001:db8:aaaa:1::1', '2001:db8:aaab::1'],
    ['1.2.3.4, ::ffff:10.0.0.1', '1.2.3.4'],
    ['6.6.6.6, ::ffff:1.2.3.4', '1.2.3.4'],
    [['6.6.6.6', '1.2.3.4, 10.0.0.1', '10.0.0.2'], '1.2.3.4'],
    [['6.6.6.6, 1.2.3.4'], '1.2.3.4'],
  ]) {
    assert.equal(await address(server, { 'X-Forwarded-For': forwarded }), expected, String(forwarded));
  }
  /* What is no address ends the walk: nothing to its left is believed. */
  for (const forwarded of ['6.6.6.6, unknown', '6.6.6.6, 1.2.3', '6.6.6.6, 1.2.3.4.5', '6.6.6.6, ,', '6.6.6.6, _x, 10.0.0.1',
    '6.6.6.6, 256.1.1.1', '6.6.6.6, 01.2.3.4x']) {
    assert.notEqual(await address(server, { 'X-Forwarded-For': forwarded }), '6.6.6.6', forwarded);
  }
});

test('X-Real-IP stands in where there is no X-Forwarded-For', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.1' });
  assert.equal(await address(server, { 'X-Real-IP': '1.2.3.4' }), '1.2.3.4');
  assert.equal(await address(server, { 'X-Real-IP': '2001:db8::7' }), '2001:db8::7');
  assert.equal(await address(server, { 'X-Real-IP': 'rubbish' }), '127.0.0.1');
});

test('networks are matched to the bit', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.0/30,192.168.128.0/17,2001:db8:0:8000::/49,0.0.0.0/32' });
  assert.equal(await address(server, { 'X-Forwarded-For': '1.2.3.4' }, { from: '127.0.0.3' }), '1.2.3.4');
  assert.equal(await address(server, { 'X-Forwarded-For': '1.2.3.4' }, { from: '127.0.0.4' }), '127.0.0.4');
  for (const [last, trusted] of [['192.168.128.0', true], ['192.168.255.255', true], ['192.168.127.255', false],
    ['192.169.128.1', false], ['2001:db8:0:8000::1', true], ['2001:db8:0:ffff::1', true], ['2001:db8:0:7fff::1', false]]) {
    assert.equal(await address(server, { 'X-Forwarded-For': `1.2.3.4, ${last}` }), trusted ? '1.2.3.4' : last, last);
  }
});

test('networks that cannot be read are refused at the start', async () => {
  for (const bad of ['10.0.0.0/33', '10.0.0/8', 'proxy.example', '::/129', '10.0.0.0/', '10.0.0.0/-1', '1.2.3.4/8x']) {
    await assert.rejects(Server.start(LIVE, { 'trusted-proxies': bad }), /did not start/, bad);
  }
});

if (sixHere) {
  test('an IPv6 peer', async (t) => {
    const server = await live(t, { host: '::1', 'trusted-proxies': '::1' });
    assert.match(server.url, /^http:\/\/\[::1\]:\d+$/);
    assert.equal(await address(server), '::1');
    assert.equal(await address(server, { 'X-Forwarded-For': '6.6.6.6, 1.2.3.4' }), '1.2.3.4');
  });

  test('an IPv4 peer of an IPv6 socket is the IPv4 address that it is', async (t) => {
    const server = await live(t, { host: '::', 'trusted-proxies': '127.0.0.1' });
    assert.equal(await address(server, { 'X-Forwarded-For': '1.2.3.4' }), '1.2.3.4');
    assert.equal(await address(server, { 'X-Forwarded-For': '1.2.3.4' }, { from: '127.0.0.8' }), '127.0.0.8');
  });
}

test('limits hold per forwarded address', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.1', 'waiters-per-client': 2 });
  const from = (ip) => ({ headers: { 'X-Forwarded-For': ip } });
  for (const ip of ['1.1.1.1', '2.2.2.2', '2001:db8::1']) {
    for (let i = 0; i < 2; i += 1) await server.park('room', { last_id: 'now' }, from(ip));
    (await server.poll('room', {}, from(ip).headers)).refuses(429, 'Too many connections from client');
    (await server.poll('room', {}, { 'X-Forwarded-For': `9.9.9.9, ${ip}` })).refuses(429);
  }
});

test('the ceiling of an IPv6 address is that of its /64', async (t) => {
  const server = await live(t, { 'trusted-proxies': '127.0.0.1', 'waiters-per-address': 2 });
  let n = 0;
  const headers = (ip) => { n += 1; return { 'X-Forwarded-For': ip, 'X-Client-ID': `name-${n}` }; };
  const park = (ip) => server.park('room', { last_id: 'now' }, { headers: headers(ip) });
  const refused = async (ip) => (await server.poll('room', {}, headers(ip))).refuses(429);
  await park('2001:db8:0:1::1');
  await park('2001:db8:0:1:ffff::2');
  await refused('2001:db8:0:1::3');
  await refused('2001:db8:0:1:8000::');
  await park('2001:db8:0:2::1');
  await park('10.0.0.1');
  await park('10.0.0.1');
  await refused('10.0.0.1');
  await refused('::ffff:10.0.0.1');
  await park('10.0.0.2');
});

test('the demo trusts whom --trust names', async (t) => {
  const server = await demo(t, { trust: '127.0.0.1,10.0.0.0/8' });
  /* Of seven polls at once one is refused, and that is answered first. */
  const seven = async (forwarded) => {
    const all = Array.from({ length: 7 }, () =>
      server.poll('room', { last_id: 'now', timeout: 20 }, { 'X-Forwarded-For': forwarded }));
    (await Promise.race(all)).refuses(429);
    return all;
  };
  const all = [...await seven('1.1.1.1'), ...await seven('1.1.1.1, 2.2.2.2, 10.0.0.9')];
  assert.equal((await server.say('room', {})).waiters, 12);
  const answers = await Promise.all(all);
  assert.equal(answers.filter(({ status }) => status === 200).length, 12);
});

/* ---- real proxies ----------------------------------------------------- */

/* A way to speak to the server through a proxy at `port`. */
function through(t, server, port) {
  const front = Object.create(server);
  front.port = port;
  front.reach = '127.0.0.1';
  front.agent = new http.Agent({ keepAlive: true });
  t.after(() => front.agent.destroy());
  return front;
}

for (const name of FRONTS) {
  test(`${name} in front`, { skip: missing(name) }, async (t) => {
    const server = await live(t, { 'trusted-proxies': '127.0.0.1/32', 'waiters-per-client': 2 });
    const front = through(t, server, (await started(t, name, [server.port])).port);
    const from = '127.0.0.5';

    /* Who the client is; and a forged header adds nothing. */
    assert.equal(await address(front, {}, { from }), '127.0.0.5');
    assert.equal(await address(front, { 'X-Forwarded-For': '6.6.6.6' }, { from }), '127.0.0.5');
    assert.equal(await address(front, { 'X-Forwarded-For': '127.0.0.1' }, { from }), '127.0.0.5');

    /* One parks, another publishes, the first returns at once. */
    const parked = front.poll('room', { last_id: 'now', timeout: 20 }, {}, { from });
    await server.waiters(1);
    const said = await front.say('room', { text: 'hello' }, { from: '127.0.0.6' });
    assert.equal(said.waiters, 1);
    const answer = await parked;
    assert.equal(answer.json.messages[0].text, 'hello');
    assert.equal(answer.headers['cache-control'], 'no-store');

    /* Messages through it, each once and in order. */
    const reader = new Reader('flow');
    const reading = reader.read(front, 100, {}, {}, { from });
    for (let n = 1; n <= 100; n += 1) await front.say('flow', { n }, { from: '127.0.0.6' });
    await reading;
    assert.deepEqual(reader.resets, []);

    /* Limits per client, and a client that goes frees its place. */
    const polls = [1, 2].map(() => {
      const agent = new http.Agent();
      const poll = front.poll('limit', { last_id: 'now', timeout: 60 }, {}, { from, agent });
      return { poll, leave: () => agent.destroy() };
    });
    await server.waiters(2);
    (await front.poll('limit', {}, {}, { from })).refuses(429, 'Too many connections from client');
    const other = front.poll('limit', { last_id: 'now', timeout: 60 }, {}, { from: '127.0.0.7' });
    await server.waiters(3);
    polls[0].leave();
    await server.waiters(2);
    const again = front.poll('limit', { last_id: 'now', timeout: 60 }, {}, { from });
    await server.waiters(3);
    assert.equal((await front.say('limit', { text: 'x' }, { from: '127.0.0.8' })).waiters, 3);
    for (const one of [polls[1].poll, other, again]) assert.equal((await one).json.count, 1);

    /* A timeout comes through, and any name may stand in Host. */
    const waited = await front.poll('idle', { timeout: 0.3 }, { Host: 'chat.example.org' }, { from });
    assert.equal(waited.json.status, 'timeout');
    assert.ok(waited.ms < 3000 * SLOW);
    (await server.poll('idle', { timeout: 0 }, { Host: 'chat.example.org' }, { from })).refuses(421);

    /* Big replies, and errors with a body on the way. */
    const text = 'x'.repeat(60_000);
    for (let n = 1; n <= 20; n += 1) await front.say('big', { n, text }, { from });
    const big = new Reader('big');
    await big.read(front, 20, {}, {}, { from });
    (await front.publish('big', { text: 'x'.repeat(70_000) }, {}, { from })).refuses(413);
    assert.equal((await front.publish('big', { text: 'after' }, {}, { from })).status, 200);
  });
}

/* Three servers that know nothing of each other are enough to see where requests go while each is stopped and
   started again, and the proxy reads its file anew: no answer is the proxy's own. */
for (const name of FRONTS) {
  test(`${name}: three servers are restarted in turn, and nobody is told 502`, { skip: missing(name) }, async (t) => {
    const options = { 'no-limits': true, trust: '127.0.0.1', 'drain-ms': 400 * SLOW };
    const servers = await Promise.all([1, 2, 3].map(() => Server.start(DEMO, options)));
    atEnd(t, () => Promise.all(servers.map((server) => server.stop())));
    const ports = servers.map(({ port }) => port);
    const proxy = await started(t, name, ports);
    const front = through(t, servers[0], proxy.port);
    const counts = {};
    let over = false;
    const again = async (what, ask) => {
      while (!over) {
        const { status, code } = await ask().catch((error) => error);
        counts[`${what} ${status ?? code}`] = (counts[`${what} ${status ?? code}`] ?? 0) + 1;
        if (status !== 200) await sleep(20);
      }
    };
    const all = [
      ...Array.from({ length: scaled(8, 2) }, (_, i) => again('publish', () => front.publish(`room-${i % 3}`, { i }))),
      ...Array.from({ length: scaled(20, 4) }, (_, i) => again('poll', () => front.poll(`room-${i % 3}`, { last_id: 'now', timeout: 1 }))),
      ...Array.from({ length: scaled(4, 1) }, () => again('poll', () => front.poll('quiet', { timeout: 0 }))),
    ];
    for (let n = 0; n < 6; n += 1) {
      await sleep(300);
      await servers[n % 3].stop();
      servers[n % 3] = await Server.start(DEMO, { ...options, port: ports[n % 3] });
      if (n === 4) proxy.reload();
      await sleep(600);                         /* HAProxy looks each half second */
    }
    over = true;
    await Promise.all(all);
    /* A reload may close a client's connection. */
    const kinds = Object.keys(counts).filter((kind) => !kind.endsWith('ECONNRESET')).sort();
    assert.deepEqual(kinds, ['poll 200', 'publish 200'], JSON.stringify(counts));
  });
}
