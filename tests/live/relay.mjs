/* Passes connections to the server at `port`. Those that carry a stream it can
   cut, at any byte of the answer, hold back, or let wait. */

import net from 'node:net';
import { atEnd } from './harness.mjs';

/* `begins` is asked for each stream what is to become of it:
     left   bytes of its answer that are passed before it is cut    [all]
     reset  it is cut by a reset, not by an end                     [false]
     hold   the answer is passed once it is whole                   [false]
     gate   a promise: the request is passed after it               [none]
   `asked` has the heads of their requests. */
export async function relay(t, port, begins = () => ({})) {
  const self = { asked: [], pairs: new Set() };
  const listener = net.createServer((near) => {
    const far = net.connect(port, '127.0.0.1');
    const pair = { left: Infinity, streams: false, near, far };
    pair.end = () => {
      self.pairs.delete(pair);
      if (pair.reset && !near.destroyed) near.resetAndDestroy();
      near.destroy();
      far.destroy();
    };
    self.pairs.add(pair);
    near.on('data', async (part) => {
      const text = part.toString('latin1');
      if (text.startsWith('GET /api/stream/')) {
        pair.streams = true;
        self.asked.push(text);
        Object.assign(pair, begins());
        await pair.gate;
      }
      far.write(part);
    });
    const kept = [];
    far.on('data', (part) => {
      if (pair.hold) kept.push(part);
      else if (part.length < pair.left) near.write(part);
      else near.write(part.subarray(0, pair.left), pair.end);
      pair.left -= part.length;
    });
    far.on('end', () => near.end(Buffer.concat(kept)));
    for (const socket of [near, far]) socket.on('error', pair.end);
    near.on('close', pair.end);
  }).listen(0, '127.0.0.1');
  await new Promise((done) => { listener.once('listening', done); });
  self.url = `http://127.0.0.1:${listener.address().port}`;
  /* Cut those that are there, each after n bytes more of its answer. */
  self.cut = (n) => {
    for (const pair of self.pairs) {
      if (pair.streams && n) pair.left = n;
      else if (pair.streams) pair.end();
    }
  };
  atEnd(t, () => {
    listener.close();
    for (const pair of self.pairs) pair.end();
  });
  return self;
}
