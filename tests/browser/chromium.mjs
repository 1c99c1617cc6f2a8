/* Chromium, driven by playwright-core, for the tests of this folder.

   LONGPOLL_NODE_MODULES  where playwright-core is       [build/node_modules]
   CHROMIUM               the browser                     [/usr/bin/chromium] */

import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { after } from 'node:test';
import { fileURLToPath } from 'node:url';

const { env } = process;
export const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const modules = path.resolve(root, env.LONGPOLL_NODE_MODULES || 'build/node_modules');
const chromium = env.CHROMIUM || '/usr/bin/chromium';

/* Why there is nothing to test with, or false. */
function missing() {
  if (!existsSync(path.join(modules, 'playwright-core'))) return `no playwright-core in ${modules} (tests/setup)`;
  if (!existsSync(chromium)) return `no Chromium at ${chromium} (apt-get install chromium, or set CHROMIUM)`;
  return false;
}

export const skip = missing();

export const launching = {
  executablePath: chromium,
  timeout: 60_000,
  args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
    '--disable-background-networking', '--disable-component-update'],
};

export const driver = () => createRequire(path.join(modules, 'here.js'))('playwright-core').chromium;

/* One browser for all tests of a file; it ends with them. */
let launched = null;
after(async () => (await launched)?.close());

export function browser(options) {
  launched ??= driver().launch({ ...launching, ...options });
  return launched;
}
