/* A thread of the host's is cancelled while it is in the library: no lock is
   left behind, no poll unwoken, nothing of a message. */

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { figures, helper } from './attack.mjs';
import { SLOW, atEnd, run, scaled, within } from './harness.mjs';

/* A thread that is cancelled leaves its stack as it was, in which
   AddressSanitizer then trips itself when it gives up the signal stack. */
const env = { ...process.env, ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ''}:use_sigaltstack=0` };

const seed = Number(process.env.LONGPOLL_SEED ?? Date.now() % 2 ** 31);

for (const loops of [1, 4]) {
  for (const [how, what] of Object.entries({
    room: 'lp_publish, on the channel that is polled',
    new: 'lp_publish, on new channels',
    async: 'lp_publish_async',
    run: 'lp_run, and lp_publish',
  })) {
    test(`threads are cancelled in ${what}: ${loops} loops`, async (t) => {
      const rounds = scaled(150, 40);
      const program = run([helper('cancel'), how, loops, rounds, seed, 2000 * SLOW].map(String), { env });
      atEnd(t, () => program.end());
      await within(program.ended, 120_000, `the rounds, seed ${seed}`);
      assert.deepEqual([program.code, program.signal, program.stderr], [0, null, ''], `seed ${seed}`);
      figures.push(`cancelled in ${what}, ${loops} loops: ${program.stdout.trim()}`);
    });
  }
}
