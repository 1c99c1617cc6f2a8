/* The page of demo/examples/jobs.c in Chromium. */

import assert from 'node:assert/strict';
import path from 'node:path';
import { test } from 'node:test';
import { DEMO, Server, atEnd, sleep } from '../live/harness.mjs';
import { browser, skip } from './chromium.mjs';

const JOBS = path.join(path.dirname(DEMO), 'examples/jobs');

/* The page in a window of its own; whatever goes wrong in it fails the test. */
async function open(t, server) {
  const context = await (await browser()).newContext();
  const page = await context.newPage();
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(String(error)));
  page.on('console', (line) => { if (line.type() === 'error' && !/favicon/.test(line.location().url)) wrong.push(line.text()); });
  atEnd(t, async () => {
    await context.close();
    assert.deepEqual(wrong, []);
  });
  await page.goto(server.url);
  page.shows = () => page.locator('pre').textContent();
  return page;
}

test('a job that is started by a click is followed to its end, in the windows of its session alone', { skip }, async (t) => {
  const server = await Server.start(JOBS, ['0']);
  atEnd(t, () => server.stop());
  const [ann, bob] = [await open(t, server), await open(t, server)];
  await ann.click('button');
  await ann.waitForFunction(() => /^Tea [1-9]/.test(document.querySelector('pre').textContent));
  await ann.click('button');
  await ann.waitForFunction(() => document.querySelector('pre').textContent === 'Tea 50\nTea 50\n');
  assert.equal(await bob.shows(), '');
  await ann.reload();
  await ann.waitForFunction(() => document.querySelector('pre').textContent === 'Tea 50\nTea 50\n');
  await bob.click('button');
  await bob.waitForFunction(() => /^Tea [1-9]\d*\n$/.test(document.querySelector('pre').textContent));
  await sleep(300);
  assert.equal(await ann.shows(), 'Tea 50\nTea 50\n');
});
