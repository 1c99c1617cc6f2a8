/* The demo as a program: what it prints, and what its options do. */

import assert from 'node:assert/strict';
import os from 'node:os';
import { test } from 'node:test';
import { DEMO, Server, WRAP, demo, run, until, which } from './harness.mjs';

const sixHere = Object.values(os.networkInterfaces()).flat().some(({ address }) => address === '::1');

const call = (...words) => run([...WRAP, DEMO, ...words]).ended;

test('--help tells the options, all of which there are', async () => {
  const help = await call('--help');
  assert.deepEqual([help.code, help.stderr], [0, '']);
  assert.match(help.stdout, /^usage: server /);
  const named = [...help.stdout.matchAll(/--([a-z][a-z-]*)/g)].map(([, name]) => name);
  for (const name of ['host', 'port', 'hosts', 'trust', 'token', 'cors', 'loops', 'log', 'no-limits']) {
    assert.ok(named.includes(name), `--${name} is told`);
  }
  for (const name of named) {
    const value = { log: 'json', monitor: '1' }[name] || '7';
    const words = name === 'no-limits' ? [`--${name}`] : [`--${name}`, value];
    const taken = await call(...words, '--help');
    assert.deepEqual([taken.code, taken.stdout, taken.stderr], [0, help.stdout, ''], name);
  }
});

test('a bad option is named, with what is wrong, and no server starts', async () => {
  for (const words of [['--prot', '8080'], ['--port', '99999'], ['--port'], ['--port', ''], ['-p', '80'], ['80'], [''],
    ['--'], ['--no-limits', '--loops', 'many'],
    ['--log', 'combined'], ['--log'], ['--monitor', '2']]) {
    const bad = await call(...words);
    const name = words[0] === '--no-limits' ? '--loops' : words[0];
    assert.deepEqual([bad.code, bad.stdout], [2, ''], words.join(' '));
    assert.equal(bad.stderr, `server: ${name}: Bad argument (see --help)\n`);
  }
  const field = await call('--port', '0', '--trust', 'everybody');
  assert.deepEqual([field.code, field.stdout], [1, '']);
  assert.match(field.stderr, /trusted_proxies[^]*\nserver: Bad configuration\n$/);
});

test('a port that is taken is told', async (t) => {
  const first = await demo(t);
  const second = await call('--port', String(first.port));
  assert.deepEqual([second.code, second.stdout], [1, '']);
  assert.match(second.stderr, /\nserver: Address already in use\n$/);
});

test('the first line has a URL that can be opened', async (t) => {
  const hosts = { '127.0.0.1': '127.0.0.1', localhost: 'localhost', '*': '127.0.0.1', ...(sixHere && { '::1': '[::1]' }) };
  for (const [host, said] of Object.entries(hosts)) {
    const server = await demo(t, { host });
    assert.equal(server.url, `http://${said}:${server.port}`);
    const page = await fetch(server.url);
    assert.equal(page.status, 200);
    assert.match(page.headers.get('content-type'), /^text\/html/);
    assert.match(await page.text(), /^<!doctype html>/i);
  }
});

/* Its descriptors are taken away while it runs, so that it cannot even turn a client away. */
const prlimit = which('prlimit');
test('warnings are printed, and the server goes on', { skip: !prlimit && 'prlimit is not installed' }, async (t) => {
  const server = await Server.start(DEMO);
  t.after(() => server.kill());
  assert.equal((await run([prlimit, '--pid', String(server.pid), '--nofile=3:']).ended).code, 0);
  const answer = server.poll('room', { timeout: 0 }, { Connection: 'close' });
  await until(() => /^server: warning: .+\n/.test(server.process.stderr), 'a warning');
  assert.equal((await run([prlimit, '--pid', String(server.pid), '--nofile=99:']).ended).code, 0);
  assert.equal((await answer).status, 200);
  await server.stop();
});
