/* Files of a folder, to curl and to node, from a disk that has traps in it; and bodies larger than a message. */

import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { SLOW, atEnd, checkHeaders, demo, get, live, run, scaled, until, which } from './harness.mjs';

const noCurl = !which('curl') && 'curl is not installed';
const digest = (bytes) => createHash('sha256').update(bytes).digest('hex');

/* A folder `www` beside a secret, and what is in it. */
function folder(t) {
  const top = mkdtempSync(path.join(os.tmpdir(), 'longpoll-files-'));
  atEnd(t, () => rmSync(top, { recursive: true }));
  const www = path.join(top, 'www');
  const put = (name, content) => writeFileSync(path.join(www, name), content);
  mkdirSync(path.join(www, 'sub'), { recursive: true });
  mkdirSync(path.join(www, '.git'));
  writeFileSync(path.join(top, 'secret'), 'a secret');
  put('index.html', '<!doctype html><title>index</title>');
  put('sub/index.html', '<!doctype html><title>sub</title>');
  put('sub/app.js', 'app();\n');
  put('ünï cödé.txt', 'named');
  put('.hidden', 'a secret');
  put('.git/config', 'a secret');
  symlinkSync('../secret', path.join(www, 'link'));
  symlinkSync('..', path.join(www, 'up'));
  symlinkSync('sub', path.join(www, 'linked'));
  return { top, www, put };
}

/* curl, which leaves the path as it is: status, fields and body. */
async function curl(server, target, ...words) {
  const { stdout, code, stderr } = await run(['curl', '-sS', '-i', '--path-as-is', '--max-time', String(20 * SLOW), ...words,
    `http://127.0.0.1:${server.port}${target}`]).ended;
  assert.deepEqual([code, stderr], [0, ''], target);
  const end = stdout.indexOf('\r\n\r\n');
  const [line, ...lines] = stdout.slice(0, end).split('\r\n');
  const headers = Object.fromEntries(lines.map((one) => [one.split(': ')[0].toLowerCase(), one.split(': ')[1]]));
  return { status: Number(line.split(' ')[1]), headers, text: stdout.slice(end + 4) };
}

test('files by curl', { skip: noCurl }, async (t) => {
  const { www } = folder(t);
  const server = await live(t, { files: www });
  for (const [target, type, text] of [
    ['', 'text/html; charset=utf-8', '<!doctype html><title>index</title>'],
    ['sub/', 'text/html; charset=utf-8', '<!doctype html><title>sub</title>'],
    ['sub/app.js', 'text/javascript; charset=utf-8', 'app();\n'],
    [encodeURIComponent('ünï cödé.txt'), 'text/plain; charset=utf-8', 'named'],
  ]) {
    const answer = await curl(server, `/test/files/${target}`);
    assert.deepEqual([answer.status, answer.text, answer.headers['content-type']], [200, text, type], target);
    checkHeaders(answer, target);
    assert.equal(answer.headers['accept-ranges'], 'none');
    const again = await curl(server, `/test/files/${target}`, '-H', `If-None-Match: W/${answer.headers.etag}, "x"`);
    assert.deepEqual([again.status, again.text, again.headers.etag], [304, '', answer.headers.etag], target);
    checkHeaders(again, target);
    const head = await curl(server, `/test/files/${target}`, '-I');
    assert.deepEqual([head.status, head.headers['content-length']], [200, String(Buffer.byteLength(text))], target);
    const range = await curl(server, `/test/files/${target}`, '-r', '0-1');
    assert.deepEqual([range.status, range.text], [200, text], target);
  }
});

test('curl keeps a file by its tag, and is told when it changes', { skip: noCurl }, async (t) => {
  const { top, www, put } = folder(t);
  const server = await live(t, { files: www });
  const kept = path.join(top, 'etag');
  const tagged = (target) => curl(server, target, '--etag-compare', kept, '--etag-save', kept);
  writeFileSync(kept, '');
  put('page.css', 'a {}');
  assert.equal((await tagged('/test/files/page.css')).status, 200);
  assert.equal((await tagged('/test/files/page.css')).status, 304);
  put('page.css', 'b {}');
  const changed = await tagged('/test/files/page.css');
  assert.deepEqual([changed.status, changed.text], [200, 'b {}']);
  assert.equal((await tagged('/test/files/page.css')).status, 304);
});

test('nothing outside the folder, nothing hidden, nothing that is no file', { skip: noCurl }, async (t) => {
  const { www, put } = folder(t);
  const server = await live(t, { files: www });
  const socket = net.createServer().listen(path.join(www, 'socket'));
  atEnd(t, () => socket.close());
  assert.equal((await run(['mkfifo', path.join(www, 'fifo')]).ended).code, 0);
  put('unreadable', 'a secret');
  chmodSync(path.join(www, 'unreadable'), 0);
  const mine = process.getuid() === 0 ? [] : ['unreadable'];      /* root reads it all the same */
  for (const trap of [
    '../secret', '%2e%2e/secret', '%2E%2E%2Fsecret', '..%2fsecret', 'sub/../../secret', 'sub/..%2f..%2fsecret', '..%5csecret',
    '..\\secret', 'sub/%2e%2e/index.html', './index.html', '/etc/passwd', '%2fetc%2fpasswd', '../../../../../etc/passwd',
    'up/secret', 'up/www/index.html', 'link', 'linked/app.js', '.hidden', '.git/config', '.git/', '.', '..', 'sub', 'sub//app.js',
    'index.html/', 'index.html%00', 'index.html%00.js', 'fifo', 'socket', 'none', 'none/', '%', '%zz', '%c0%ae%c0%ae/secret',
    `${'x'.repeat(300)}`, `${'x/'.repeat(1000)}`, ...mine,
  ]) {
    const answer = await curl(server, `/test/files/${trap}`);
    /* A backslash may not stand in a target at all. */
    assert.deepEqual([answer.status, answer.headers.etag], [trap.includes('\\') ? 400 : 404, undefined], trap);
    assert.ok(!answer.text.includes('secret'), trap);
  }
  assert.equal((await curl(server, '/test/files/')).status, 200);
});

/* Somebody swaps a folder for a link to the outside, over and over, while files are asked for. */
test('a folder that is swapped for a link leads nowhere', async (t) => {
  const { top, www } = folder(t);
  const server = await live(t, { files: www });
  const at = (name) => path.join(www, name);
  mkdirSync(path.join(top, 'outside'));
  writeFileSync(path.join(top, 'outside/app.js'), 'a secret');
  symlinkSync('../outside', at('trap'));
  const seen = new Set();
  for (let n = 0; n < scaled(300, 30); n += 1) {
    const answers = Array.from({ length: 8 }, () => server.request('GET', '/test/files/sub/app.js'));
    renameSync(at('sub'), at('away'));
    renameSync(at('trap'), at('sub'));
    await Promise.race(answers);
    renameSync(at('sub'), at('trap'));
    renameSync(at('away'), at('sub'));
    for (const { status, text } of await Promise.all(answers)) {
      seen.add(status);
      assert.ok(status === 404 || (status === 200 && text === 'app();\n'), `${status} ${text}`);
    }
  }
  assert.ok(seen.has(404) && seen.has(200), [...seen].join());
});

test('the largest file there may be, and one byte more', async (t) => {
  const { www, put } = folder(t);
  const server = await live(t, { files: www, 'file-bytes-max': '3m' });
  const whole = randomBytes(3 << 20);
  put('fits.bin', whole);
  put('large.bin', Buffer.concat([whole, Buffer.from('x')]));
  for (let n = 0; n < 3; n += 1) {
    const answer = await fetch(`${server.url}/test/files/fits.bin`);
    assert.equal(answer.status, 200);
    assert.equal(digest(Buffer.from(await answer.arrayBuffer())), digest(whole));
  }
  const large = await server.request('GET', '/test/files/large.bin');
  large.refuses(500);
  put('large.bin', whole);
  assert.equal((await fetch(`${server.url}/test/files/large.bin`)).status, 200);
});

/* What the socket does not take is kept, and counts: see history_bytes. */
test('a slow reader gets its file, or is cut off where it would take too much', async (t) => {
  const { www, put } = folder(t);
  const whole = randomBytes(6 << 20);
  put('large.bin', whole);
  for (const [history, cut] of [['64m', false], ['16m', true]]) {
    const server = await live(t, { files: www, 'history-bytes': history });
    const raw = await server.raw();
    raw.pause();
    raw.send(get('/test/files/large.bin'));
    const pinned = async () => (await server.request('GET', '/api/stats')).json.pinned_bytes;
    if (cut) await until(async () => (await server.stats()).connections === 1, 'the reader to be cut off');
    else await until(async () => await pinned() > 0, 'the rest to be kept');
    raw.resume();
    if (cut) await until(() => raw.state !== 'open', 'its end');
    else assert.equal((await raw.answer()).status, 200);
    assert.equal(raw.total > whole.length, !cut);
    assert.equal(await pinned(), 0);
    raw.close();
    await server.stop();
  }
});

test('the page of the demo is kept by its tag', { skip: noCurl }, async (t) => {
  const server = await demo(t);
  for (const target of ['/', '/app.js', '/style.css', '/longpoll.js']) {
    const first = await curl(server, target);
    assert.deepEqual([first.status, first.headers['cache-control']], [200, 'no-cache'], target);
    assert.match(first.headers['content-type'], /^text\/(html|javascript|css); charset=utf-8$/);
    const again = await curl(server, target, '-H', `If-None-Match: ${first.headers.etag}`);
    assert.deepEqual([again.status, again.text], [304, ''], target);
  }
});

test('bodies for a handler are not measured as messages are', async (t) => {
  const server = await live(t, { 'body-bytes-max': '1m', 'message-bytes-max': 1000 });
  const echo = (body, headers) => server.request('POST', '/test/echo', { body, headers });
  const whole = 'b'.repeat(1 << 20);
  for (const headers of [{ 'Content-Length': whole.length }, { 'Transfer-Encoding': 'chunked' }]) {
    const answer = await echo(whole, headers);
    assert.deepEqual([answer.status, answer.text === whole], [200, true]);
  }
  (await echo(`${whole}x`, { 'Content-Length': whole.length + 1 })).refuses(413);
  const raw = await server.raw();
  raw.send(`POST /test/echo HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n`);
  (await raw.answer()).refuses(413);
  raw.close();
  const message = (length) => JSON.stringify({ text: 'x'.repeat(length - 11) });
  assert.equal((await server.publish('room', message(1000))).status, 200);
  (await server.publish('room', message(1001))).refuses(413);
});
