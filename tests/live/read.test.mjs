/* What clients send, as real ones send it: JSON against JavaScript's own reading of it, curl's forms and its cookies. */

import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';
import { atEnd, live, run, scaled, which } from './harness.mjs';

const SEED = Number(process.env.LONGPOLL_SEED || Date.now() % 1_000_000);
const OK = 0, NOT_FOUND = -13, TYPE = -14;

async function read(server, text, where) {
  const target = `/test/read-json?path=${encodeURIComponent(where)}`;
  const answer = await server.request('POST', target, { body: text });
  assert.equal(answer.status, 200, answer.text);
  return answer.json;
}

/* Chance that can be had again (mulberry32). */
function chance(seed) {
  let state = seed;
  return (limit) => {
    state = (state + 0x6d2b79f5) | 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) % limit;
  };
}

const KEYS = ['a', 'b', 'key', 'a.b', '', '[0]', '"', '\\', 'é', '😀', '\u0000', '\n', 'id', '0'];
const STRINGS = ['', 'text', '"\\/\b\f\n\r\t', 'é€😀', '\u0000\u001f\u007f\u2028', '}],{['];
const NUMBERS = ['0', '-0', '1', '-1.5', '1e2', '15e-1', '0.1', '1e308', '1e400', '5e-324', '1e-400', '9007199254740993',
  '9223372036854775807', '9223372036854775808', '-9223372036854775808', '123456789012345678901234567890', '1.0',
  '2.2250738585072011e-308', '179769313486231580793728971405301e276'];

/* A string in one of the ways in which JSON may write it. */
function written(text, below) {
  let out = '"';
  for (const unit of text.split('')) {
    const plain = JSON.stringify(unit).slice(1, -1);
    out += below(4) === 0 ? `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}` : plain;
  }
  /* Half of a pair cannot stand for itself beside the other half as an escape. */
  return JSON.parse(`${out}"`) === text && Buffer.from(out).toString() === out && !/[\ud800-\udfff]/u.test(out) ? `${out}"`
    : JSON.stringify(text);
}

function value(below, depth) {
  const kind = below(depth > 3 ? 4 : 7);
  const space = () => ' \n\t'.slice(0, below(3));
  if (kind === 0) return NUMBERS[below(NUMBERS.length)];
  if (kind === 1) return written(STRINGS[below(STRINGS.length)], below);
  if (kind === 2) return ['true', 'false', 'null'][below(3)];
  if (kind === 3) return `${below(2) ? '-' : ''}${below(1e9)}${below(1e9)}.${below(1e9)}e${below(620) - 330}`;
  const parts = Array.from({ length: below(6) }, () => value(below, depth + 1));
  if (kind === 4) return `[${space()}${parts.join(`${space()},${space()}`)}${space()}]`;
  const members = parts.map((part) => `${written(KEYS[below(KEYS.length)], below)}${space()}:${space()}${part}`);
  return `{${space()}${members.join(`,${space()}`)}${space()}}`;
}

/* Every value in it, with the path that leads there. */
function* walk(of, where = '') {
  yield [where, of];
  if (Array.isArray(of)) for (const [i, inner] of of.entries()) yield* walk(inner, `${where}[${i}]`);
  else if (of !== null && typeof of === 'object') {
    for (const [key, inner] of Object.entries(of)) {
      const plain = /^[^.[\]"\u0000]+$/.test(key);
      yield* walk(inner, plain ? `${where}${where && '.'}${key}` : `${where}[${JSON.stringify(key)}]`);
    }
  }
}

/* Whether that whole number, as it is written, is one of an int64_t. */
function whole(text) {
  const [, sign, digits, fraction = '', exponent = '0'] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([-+]?\d+))?$/.exec(text);
  const shift = Number(exponent) - fraction.length;
  let all = BigInt(digits + fraction);
  if (all === 0n) return 0n;
  if (Math.abs(shift) > 700) return undefined;
  if (shift >= 0) all *= 10n ** BigInt(shift);
  else if (all % 10n ** BigInt(-shift) !== 0n) return undefined;
  else all /= 10n ** BigInt(-shift);
  if (sign) all = -all;
  return BigInt.asIntN(64, all) === all ? all : undefined;
}

test('what JavaScript reads in a text is what is read here', async (t) => {
  const server = await live(t);
  const below = chance(SEED);
  for (let round = 0; round < scaled(60, 10); round += 1) {
    const text = value(below, 0);
    for (const [where, wanted] of walk(JSON.parse(text))) {
      const got = await read(server, text, where);
      const what = `seed ${SEED}: ${where} in ${text}: ${JSON.stringify(got)}`;
      assert.equal(got.result, OK, what);
      assert.deepEqual(got.value, wanted, what);
      if (typeof wanted === 'string') assert.equal(got.string, wanted, what);
      else assert.equal(got.string, undefined, what);
      if (typeof wanted !== 'number') assert.equal(got.double, undefined, what);
      else if (Number.isFinite(wanted)) assert.ok(Object.is(got.double, wanted), what);
      else assert.equal(got.double, undefined, what);
      if (typeof wanted !== 'number') assert.equal(got.int, TYPE, what);
      const again = Object.fromEntries(got.each.filter((part) => part.length === 2));
      if (Array.isArray(wanted)) assert.deepEqual(got.each, wanted.map((part) => [part]), what);
      else if (wanted !== null && typeof wanted === 'object') assert.deepEqual(again, wanted, what);
      else assert.deepEqual(got.each, [], what);
    }
  }
});

test('whole numbers to the last digit', async (t) => {
  const server = await live(t);
  const below = chance(SEED);
  const ends = ['', '.0', '.5', 'e1', '0e-1', '.50e2'];
  const made = () => `${below(2) ? '-' : ''}${1 + below(9)}${below(1e9)}${below(1e9)}${ends[below(6)]}`;
  for (const number of [...NUMBERS, ...Array.from({ length: scaled(200, 20) }, made)]) {
    const got = await read(server, `{"n":${number}}`, 'n');
    assert.equal(String(got.int), String(whole(number) ?? TYPE), `seed ${SEED}: ${number}`);
  }
});

test('what JavaScript does not read, and what is not there', async (t) => {
  const server = await live(t);
  for (const text of ['', '{', '{"a":1}}', '[1,]', '{"a":01}', '{a:1}', "{'a':1}", '"\\x"', '\ufeff{}', 'undefined']) {
    assert.throws(() => JSON.parse(text));
    assert.deepEqual(await read(server, text, 'a'), { result: -4 }, text);
  }
  assert.deepEqual(await read(server, '{"a":[]}', 'b'), { result: NOT_FOUND });
  assert.deepEqual(await read(server, '{"a":[]}', 'a[0]'), { result: NOT_FOUND });
  assert.deepEqual(await read(server, '{"a":[]}', 'a[x]'), { result: -1 });
});

test('forms, cookies and numbers, by curl', { skip: !which('curl') && 'curl is not installed' }, async (t) => {
  const server = await live(t);
  const folder = mkdtempSync(path.join(os.tmpdir(), 'longpoll-'));
  atEnd(t, () => rmSync(folder, { recursive: true }));
  const jar = path.join(folder, 'jar');
  const curl = async (name, ...words) => {
    const target = `${server.url}/test/read-form/${name}`;
    const { stdout, code, stderr } = await run(['curl', '-sS', '-b', jar, '-c', jar, ...words, target]).ended;
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout);
  };
  const odd = 'a b&c=d+e%41é😀\n"';
  assert.deepEqual(await curl('text', '--data-urlencode', `text=${odd}`), { cookie: null, form: odd, query: NOT_FOUND });
  /* The server has set a cookie by now, and curl gives it back. */
  assert.deepEqual(await curl('seen', '--data-urlencode', 'seen='), { cookie: 'by the server', form: '', query: NOT_FOUND });
  assert.equal((await curl('b', '-b', 'a=1; b="2"; c=3', '-d', '')).cookie, '2');
  assert.equal((await curl('c', '-d', 'a=1&b=2', '--data-urlencode', 'c=3')).form, '3');
  assert.equal((await curl('a', '-H', 'Content-Type: text/plain', '-d', 'a=1')).form, null);
  assert.equal((await curl('a', '-F', 'a=1')).form, null, 'a multipart form is not read');
  for (const [query, number] of [['-7', '-7'], ['9223372036854775807', '9223372036854775807'], ['9223372036854775808', TYPE],
    ['1.0', TYPE], ['%2D1', '-1'], ['', TYPE]]) {
    const answer = await server.request('POST', `/test/read-form/n?m=1&n=${query}`);
    assert.equal(answer.json.query, number, query);
  }
});

test('a form of a browser: URLSearchParams, chunked too', async (t) => {
  const server = await live(t);
  const below = chance(SEED);
  const headers = { 'Content-Type': 'application/x-www-form-urlencoded;charset=UTF-8' };
  for (let round = 0; round < scaled(100, 20); round += 1) {
    const form = new URLSearchParams();
    for (let n = below(6); n > 0; n -= 1) form.append(KEYS[below(KEYS.length)], STRINGS[below(STRINGS.length)]);
    const name = KEYS.filter((key) => key && key !== '\u0000')[below(KEYS.length - 2)];
    const length = below(2) ? { 'Content-Length': Buffer.byteLength(form.toString()) } : { 'Transfer-Encoding': 'chunked' };
    const answer = await server.request('POST', `/test/read-form/${encodeURIComponent(name)}`,
      { headers: { ...headers, ...length }, body: form.toString() });
    assert.equal(answer.status, 200, answer.text);
    assert.equal(answer.json.form, form.get(name), `seed ${SEED}: ${name} in ${form}`);
  }
});
