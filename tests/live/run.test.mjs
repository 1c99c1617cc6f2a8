/* tests/run itself, in a small tree of its own under build/ in which a test of each kind fails: what is asked for and
   is not there is said before anything is built, and the command that a failure prints runs that failure again. */

import assert from 'node:assert/strict';
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { run, which } from './harness.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const tree = path.join(root, 'build/run');

const PLAIN = 'one "two" $three `four` \\five';
const HARD = `it's (a) [hard] name. a|b * c? {1} ${PLAIN}`;

const files = {
  Makefile: `
unit-programs: build/unit/all build/unit/all-asan build/unit/all-msan
build/unit/all build/unit/all-asan build/unit/all-msan: tests/unit/tiny.c
\t@echo unit >>made; mkdir -p build/unit; cc -w -I. -pthread $< -o $@
sim-programs fault-programs live-programs servers build/web.h:
\t@echo $@ >>made
.PHONY: build/web.h
`,
  'tests/unit/tiny.c': `
#include "longpoll.h"
#include "unit.h"
TEST(good) { CHECK(1); }
TEST(bad_at_random) { CHECK_INT(unit_random() % 2, 2); }
`,
  'tests/live/tiny.test.mjs': `
import { test } from 'node:test';
import assert from 'node:assert';
test('good', () => {});
test(${JSON.stringify(HARD)}, () => assert.fail());
test('around', async (t) => {
  await t.test('inside', () => assert.fail());
});
`,
  'tests/wire/tiny.test.mjs': `
import { describe, it } from 'node:test';
import assert from 'node:assert';
describe('host.txt', () => {
  for (const name of ['good', 'bad']) it('host: ' + name, () => assert.equal(name, 'good'));
});
console.log('a run (seed 29)');
`,
  'tests/faults/scenarios.h': 'SCENARIO(a_poll),\nSCENARIO(a_publish),\n',
  'tests/sim/mutants/good.sed': '',
  'tests/sim/mutants/not-found.sed': '',
  'demo/server.c': '\n'.repeat(200),
};

/* Programs that fail, and write down how they were called. */
const scripts = {
  'build/sim': 'case $* in *million*) echo "1 passed, 0 failed, 0 skipped"; exit;; esac\necho "FAIL: one is lost"\n' +
    'echo "again: build/sim --events 1 --seed 31 --trace"; echo "0 passed, 1 failed, 0 skipped"',
  'build/faults': 'echo "ok a_publish: 1 runs"; echo "FAIL a_poll recv 3 EINTR: exit code 9"; echo "1 passed, 1 failed, 0 skipped"',
  'tests/sim/mutants.sh': 'case $PART in [123]*) echo "1 passed, 0 failed, 0 skipped"; exit;; esac\n' +
    'printf "%-20s FAIL: it is not found in 9 events\\n" not-found; echo "0 passed, 1 failed, 0 skipped"',
  'tests/model/run': 'case $MODEL in redis) echo "1 passed, 0 failed, 0 skipped"; exit;; esac\n' +
    'echo "FAIL calm: sound      12 states   1 s"; echo "0 passed, 1 failed, 0 skipped"; exit 1\n' +
    '    holds calm        sound                            ""\n    holds apart       sound                            ""',
  'tests/fuzz/run': 'echo "FAIL $1: not the same (see log)"; echo "0 passed, 1 failed, 0 skipped"',
};

before(() => {
  rmSync(tree, { recursive: true, force: true });
  for (const dir of ['tests/build', 'tests/unit', 'build']) mkdirSync(path.join(tree, dir), { recursive: true });
  for (const file of ['longpoll.h', 'tests/run', 'tests/names.mjs', 'tests/reporter.mjs', 'tests/unit/unit.h', 'tests/build/run',
    'tests/build/user.c', 'tests/build/system.h', 'tests/build/implementation.c']) cpSync(path.join(root, file), path.join(tree, file));
  for (const [name, text] of Object.entries(files)) write(name, text);
  for (const [name, text] of Object.entries(scripts)) program(name, `echo "$0 $*" >>called\n${text}\nexit 1\n`);
  program('build/sim-asan', 'exec build/sim "$@"');
  program('build/faults-asan', 'exec build/faults "$@"');
});

function write(name, text) {
  mkdirSync(path.dirname(path.join(tree, name)), { recursive: true });
  writeFileSync(path.join(tree, name), text);
}

function program(name, text) {
  write(name, `#!/bin/sh\n${text}\n`);
  chmodSync(path.join(tree, name), 0o755);
}

/* A command in that tree, by a shell, as a person would type it. */
async function shell(command, env = {}) {
  const { ONLY, SEED, CI, ...rest } = process.env;
  for (const name of Object.keys(rest)) if (/^(LONGPOLL|NODE_TEST)_/.test(name)) delete rest[name];
  for (const name of ['called', 'made']) rmSync(path.join(tree, name), { force: true });
  const done = await run(['sh', '-c', command], { cwd: tree, env: { ...rest, ...env } }).ended;
  assert.equal(done.stderr, '', command);
  const tell = (name) => (existsSync(path.join(tree, name)) ? readFileSync(path.join(tree, name), 'utf8') : '');
  return { code: done.code, text: done.stdout, called: tell('called'), made: tell('made') };
}

const hints = (text) => [...text.matchAll(/^(.*)\n {4}again: (.*)$/gm)].map(([, what, command]) => ({ what, command }));

/* suite, what is asked for, the failures, of them those that fail again alone, and how the program is called then */
for (const [suite, asked, failures, alone, called] of [
  ['unit', 'tiny', ['plain', 'asan', ...(process.platform === 'linux' && which('clang') ? ['msan'] : [])].map((pass) =>
    new RegExp(`^unit/tiny/${pass}: bad_at_random `)), '0 passed, 1 failed, 0 skipped'],
  ['live', 'tiny', ['plain', 'asan'].flatMap((pass) => [`live/tiny/${pass}: ${HARD}`, `live/tiny/${pass}: around > inside`]),
    '0 passed, 1 failed, 0 skipped'],
  ['wire', 'tiny', ['plain', 'asan'].map((pass) => `wire/tiny/${pass}: host.txt > host: bad`), '1 passed, 1 failed, 0 skipped'],
  ['build', "'under 100 lines'", ['build/all/plain: demo/server.c is under 100 lines'], '0 passed, 1 failed, 0 skipped'],
  ['sim', '', ['plain', 'asan'].map((pass) => `sim/worlds/${pass}: one is lost`), '0 passed, 1 failed, 0 skipped', /--seed 31\n$/],
  ['faults', '', ['plain', 'asan'].map((pass) => `faults/faults/${pass}: a_poll recv 3 EINTR: exit code 9`),
    '1 passed, 1 failed, 0 skipped', /faults a_poll\n$/],
  ['mutants', '', [/^mutants\/(part0|mutants)\/plain: not-found: it is not found in 9 events$/], '0 passed, 1 failed, 0 skipped',
    /mutants.sh not-found\n$/],
  ['model', '', [/^model\/(longpoll|model)\/plain: calm: sound /], '0 passed, 1 failed, 0 skipped', /run calm\n$/],
  ['fuzz', 'http', ['fuzz/http/plain: http: not the same (see log)'], '0 passed, 1 failed, 0 skipped', /run http\n$/],
]) {
  test(`what fails in the suite ${suite} fails again by the command that is printed`, async () => {
    const first = await shell(`tests/run ${suite} ${asked}`);
    assert.equal(first.code, 1, first.text);
    const printed = hints(first.text);
    assert.equal(printed.length, failures.length, first.text);
    for (const [i, { what, command }] of printed.entries()) {
      if (failures[i] instanceof RegExp) assert.match(what, failures[i]);
      else assert.equal(what, failures[i]);
      const again = await shell(command);
      assert.equal(again.code, 1, `${command}\n${again.text}`);
      assert.ok(again.text.endsWith(`\n${alone}\n`), `${command}\n${again.text}`);
      assert.deepEqual(hints(again.text), [{ what: hints(again.text)[0]?.what, command }], 'and prints that command again');
      if (called) assert.match(again.called, called);
    }
  });
}

test('a randomised test is run again with its seed', async () => {
  for (const [suite, seed] of [['unit', /^SEED=\d+ ONLY=/], ['wire', /^SEED=29 ONLY=/], ['sim', /^SEED=31 ONLY=/]]) {
    const { text } = await shell(`tests/run ${suite}`, { ONLY: 'plain' });
    assert.match(hints(text)[0].command, seed);
  }
});

test('what is not there is said before anything is built or run', async () => {
  rmSync(path.join(tree, 'build/unit'), { recursive: true, force: true });
  for (const wrong of ['unit nowhere', 'unit tiny nowhere', 'unit good', 'build nowhere', 'sim nowhere', 'sim worlds nowhere',
    'faults nowhere', 'mutants nowhere', 'model nowhere', 'fuzz nowhere', 'wire nowhere', 'wire tiny nowhere', 'live tiny inside',
    'live tiny "around the world"']) {
    const { code, text, called, made } = await shell(`tests/run ${wrong}`);
    assert.deepEqual([code, called, made], [2, '', ''], wrong);
    assert.match(text, /^no such test: tests\/run -l [a-z]+ lists what there is\n$/);
  }
  const suite = await shell('tests/run nowhere');
  assert.deepEqual([suite.code, suite.made], [2, '']);
  assert.match(suite.text, /^the suites are: [a-z ]+ check$/m);
  const pass = await shell('tests/run unit tiny', { ONLY: 'nowhere' });
  assert.deepEqual([pass.code, pass.made, pass.text], [2, '', 'no such pass: nowhere\n']);
});

test('tests/run -l lists what can be asked for', async () => {
  assert.equal((await shell('tests/run -l unit')).text, 'tiny\tgood\ntiny\tbad_at_random\n');
  assert.equal((await shell('tests/run -l live')).text, `tiny\tgood\ntiny\t${HARD}\ntiny\taround\n`);
  assert.equal((await shell('tests/run -l wire tiny bad')).text, 'tiny\thost.txt > host: bad\n');
  assert.equal((await shell('tests/run -l model')).text, 'calm\napart\n');
  assert.match((await shell('tests/run -l build install')).text, /^make install, make uninstall\n$/);
});

const name32 = '32-bit programs are skipped by name where they cannot be built, and on CI that fails';
test(name32, { skip: process.arch !== 'x64' && 'they are built on x86-64 only' }, async () => {
  const gcc = which('gcc');
  program('shim/gcc', `case " $* " in *" -m32 "*) echo "no headers" >&2; exit 1;; esac\nexec ${gcc} "$@"`);
  const env = { PATH: `${tree}/shim:${process.env.PATH}` };
  const here = await shell('tests/build/run -m32', env);
  assert.equal(here.code, 0, here.text);
  assert.match(here.text, /^skip gcc -m32 -std=c99 -O1: gcc has no headers or library for -m32/m);
  assert.match(here.text, /\n0 passed, 0 failed, 2 skipped\n$/);
  const all = await shell('tests/run build -m32', env);
  assert.equal(all.code, 0, all.text);
  assert.match(all.text, /^build\/all\/plain: gcc -m32 -std=c99 -O1: gcc has no headers/m);
  assert.equal((await shell('tests/run build -m32', { ...env, CI: 'true' })).code, 1);
});
