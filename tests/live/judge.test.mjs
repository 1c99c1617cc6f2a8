/* The judge of many instances, judged: by stories of one client and a few
   messages, and by chaos.mjs against a stand-in for the server (standin.mjs),
   which passes as it is and must fail with each of the errors that it can
   have. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Crowd } from './crowd.mjs';
import { SLOW, run, sleep, which, within } from './harness.mjs';

/* ---- stories ------------------------------------------------------------- */

const A = 'a'.repeat(16);
const B = 'b'.repeat(16);

/* One client that follows one channel, and what it and publishers are told. */
class Story {
  crowd = new Crowd([], { channels: 1, clients: 1, publishers: 0, seed: 1 });

  client = this.crowd.clients[0];
  book = this.crowd.books[0];

  sends() { return this.book.add(1, this.book.messages.length); }

  /* `id` says that it succeeded, else it is another outcome. */
  async ends(message, id, timestamp = Number(id.split('-')[1])) {
    await sleep(1);
    if (/-/.test(id)) this.book.became(message, 'ok', { message_id: id, timestamp });
    else this.book.became(message, id);
    await sleep(1);
    return message;
  }

  async says(...ids) {
    const all = [];
    for (const id of ids) all.push(await this.ends(this.sends(), id));
    return all;
  }

  /* A reply with messages, as pairs of a message and its id. */
  async hears(last_id, pairs = [], why = undefined) {
    await sleep(1);
    const messages = pairs.map(([{ p, n, k }, id, timestamp = Number(id.split('-')[1])]) =>
      ({ id, channel: this.book.name, timestamp, p, n, k }));
    this.client.take({ status: 'messages', last_id, count: messages.length, messages, ...(why && { reset: { [this.book.name]: why } }) }, 0);
    await sleep(1);
  }

  judged() {
    this.crowd.judge(this.book, { sentAt: performance.now() });
    return Object.keys(this.crowd.ledger.kinds).sort();
  }
}

for (const [what, kinds, tell] of [
  ['all that was published comes', [], async (s) => {
    const [one, two] = await s.says(`${A}-1`, `${A}-2`);
    await s.hears(`${A}-2`, [[one, `${A}-1`], [two, `${A}-2`]]);
  }],
  ['what was there before the client is not due', [], async (s) => {
    await s.says(`${A}-1`);
    await s.hears(`${A}-1`);
  }],
  ['a message never comes', ['lost'], async (s) => {
    await s.hears(`${A}-0`);
    await s.says(`${A}-1`);
  }],
  ['a message never comes, and a reset says so', [], async (s) => {
    await s.hears(`${A}-0`);
    await s.says(`${A}-1`);
    await s.hears(`${B}-0`, [], 'epoch');
  }],
  ['a message never comes, and the reset was before it', ['lost'], async (s) => {
    await s.hears(`${A}-0`);
    await s.hears(`${B}-0`, [], 'epoch');
    await s.says(`${B}-1`);
  }],
  ['a message is due after the reset that was told meanwhile', ['lost'], async (s) => {
    await s.hears(`${A}-0`);
    const message = s.sends();
    await s.hears(`${B}-0`, [], 'epoch');
    await s.ends(message, `${B}-1`);
  }],
  ['an unknown outcome may come or not', [], async (s) => {
    await s.hears(`${A}-0`);
    const [one] = await s.says('unknown', 'unknown');
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
  }],
  ['what was refused comes', ['refused, and published'], async (s) => {
    await s.hears(`${A}-0`);
    const [one] = await s.says('refused');
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
  }],
  ['what comes is refused thereafter', ['refused, and published'], async (s) => {
    await s.hears(`${A}-0`);
    const one = s.sends();
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
    await s.ends(one, 'refused');
  }],
  ['a hole', ['hole', 'lost'], async (s) => {
    await s.hears(`${A}-0`);
    const [, two] = await s.says(`${A}-1`, `${A}-2`);
    await s.hears(`${A}-2`, [[two, `${A}-2`]]);
  }],
  ['a message twice', ['hole', 'time', 'twice'], async (s) => {
    const [one] = await s.says(`${A}-1`);
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
  }],
  ['a message again after a reset to an epoch that knows the client\'s', ['repeat'], async (s) => {
    const [one] = await s.says(`${A}-1`);
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
    s.book.parents.set(B, A);
    await s.hears(`${B}-1`, [[one, `${A}-1`]], 'epoch');
  }],
  ['a message again after a reset to one that does not', [], async (s) => {
    const [one] = await s.says(`${A}-1`);
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
    s.book.parents.set(B, '');
    await s.hears(`${B}-1`, [[one, `${A}-1`]], 'epoch');
  }],
  ['another epoch, and no reset', ['unflagged'], async (s) => {
    await s.hears(`${A}-0`);
    await s.hears(`${B}-0`);
  }],
  ['a reset that is none', ['reset'], async (s) => {
    await s.hears(`${A}-0`);
    await s.hears(`${A}-0`, [], 'epoch');
  }],
  ['nothing was evicted', ['reset'], async (s) => {
    await s.hears(`${A}-0`);
    await s.hears(`${A}-0`, [], 'evicted');
  }],
  ['a cursor that is not where the messages end', ['cursor'], async (s) => {
    const [one] = await s.says(`${A}-1`);
    await s.hears(`${A}-2`, [[one, `${A}-1`]]);
  }],
  ['what nobody published', ['not published'], async (s) => {
    await s.hears(`${A}-0`);
    await s.hears(`${A}-1`, [[{ p: 1, n: 7, k: 7 }, `${A}-1`]]);
  }],
  ['two ids for one message', ['two ids'], async (s) => {
    const [one] = await s.says(`${A}-1`);
    await s.hears(`${A}-2`, [[one, `${A}-2`]]);
  }],
  ['one id for two messages', ['lost', 'one id twice'], async (s) => {
    const [one] = await s.says(`${A}-1`, `${A}-1`);
    await s.hears(`${A}-1`, [[one, `${A}-1`]]);
  }],
  ['two timestamps for one message', ['two times'], async (s) => {
    const [one] = await s.says(`${A}-1`);
    await s.hears(`${A}-1`, [[one, `${A}-1`, 7]]);
  }],
  ['what was done first comes last', ['out of order'], async (s) => {
    const [one, two] = await s.says(`${A}-2`, `${A}-1`);
    await s.hears(`${A}-2`, [[two, `${A}-1`], [one, `${A}-2`]]);
  }],
]) {
  test(`a story: ${what}`, async () => {
    const story = new Story();
    await tell(story);
    assert.deepEqual(story.judged(), kinds, story.crowd.ledger.faults.join('\n'));
  });
}

/* ---- a stand-in for the server -------------------------------------------- */

const file = (name) => fileURLToPath(new URL(name, import.meta.url));
const skip = !which('redis-server') && 'redis-server is not installed';

async function chaos(words, BUG) {
  const env = { ...process.env, LONGPOLL_INSTANCE: file('standin.mjs'), ...(BUG && { BUG }) };
  const child = run(['node', file('chaos.mjs'), ...words], { env });
  await within(child.ended, 180_000 * SLOW, 'the chaos');
  assert.equal(child.stderr, '');
  return { said: child.stdout, code: child.code };
}

/* In what those with errors must fail in. */
for (const kind of ['promotion', 'kill-persistent', 'subscribers', 'stop'])
  test(`an instance that keeps the promise passes: ${kind}`, { skip }, async () => {
    const { said, code } = await chaos([kind, '--share', '0.02', '--stop', '3']);
    assert.match(said, /\n1 passed, 0 failed, 0 skipped\n$/);
    assert.equal(code, 0);
  });

for (const [bug, words, kind] of [
  ['sticky', ['promotion', '--share', '0.1'], /one id twice|two ids|lost:|starved:/],
  ['silent', ['kill-persistent', '--share', '0.02'], /unflagged:/],
  ['again', ['kill-persistent', '--share', '0.04'], /repeat:/],
  ['drop', ['subscribers', '--share', '0.1'], /hole:|lost:|cursor:/],
  ['twice', ['subscribers', '--share', '0.1'], /twice:|cursor:/],
  ['swap', ['subscribers', '--share', '0.3'], /hole:|merge:/],
  ['yes', ['stop', '--stop', '3', '--share', '0.1'], /two ids:|lost:/],
  ['deaf', ['subscribers', '--share', '0.02'], /starved:/],
  ['leak', ['subscribers', '--share', '0.1'], /refused, and published:/],
]) {
  test(`an instance with an error does not: ${bug}`, { skip }, async () => {
    const { said, code } = await chaos([...words, '--patience', '4'], bug);
    assert.match(said, /\n0 passed, 1 failed, 0 skipped\n$/);
    assert.match(said, kind);
    assert.equal(code, 1);
  });
}
