/* Real proxies in front of the server, with the files of demo/ as they are but
   for where they listen and where the instances are. */

import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, readdirSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { atEnd, freePort, run, until, which } from './harness.mjs';

/* How each is started, and told to read its file again. nginx and HAProxy have
   a master and workers; they are a group of processes that ends as one. */
const kinds = {
  nginx: {
    file: 'nginx.conf',
    words: (command, dir, file) => [command, '-p', dir, '-e', 'stderr', '-c', file],
    reload: 'SIGHUP',
  },
  haproxy: {
    file: 'haproxy.cfg',
    words: (command, dir, file) => [command, '-W', '-db', '-f', file],
    reload: 'SIGUSR2',
  },
};

export const FRONTS = Object.keys(kinds);
export const missing = (name) => !which(name) && `${name} is not installed`;

/* The file's text, for instances at these ports. If there are fewer than three,
   some of its servers are the same one. */
export function shipped(name, port, ports) {
  let text = readFileSync(new URL(`../../demo/${name}`, import.meta.url), 'utf8');
  const change = (pattern, count, to) => {
    assert.equal(text.match(pattern)?.length, count, `${pattern} in ${name}`);
    text = text.replace(pattern, to);
  };
  change(/(?<=^ *listen )8000(?=;)|(?<=^ *bind ):8000$/gm, 1, `127.0.0.1:${port}`);
  change(/(?<=^ *server .*)127\.0\.0\.1:808([123])/gm, 6, (_, n) => `127.0.0.1:${ports[(n - 1) % ports.length]}`);
  return text;
}

const answers = (port) => new Promise((done) => {
  const probe = net.connect(port, '127.0.0.1');
  probe.on('connect', () => { probe.destroy(); done(true); });
  probe.on('error', () => done(false));
});

/* Does one of that group of processes listen there? The port was free, but another test may have
   been quicker. Only Linux tells. */
function holds(group, port) {
  if (process.platform !== 'linux') return true;
  const local = `0100007F:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const socket = readFileSync('/proc/net/tcp', 'utf8').split('\n').map((line) => line.trim().split(/\s+/))
    .find(([, at, , state]) => at === local && state === '0A')?.[9];
  return readdirSync('/proc').filter((pid) => /^\d+$/.test(pid)).some((pid) => {
    try {
      const [, , itsGroup] = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '').split(' ');
      return Number(itsGroup) === group && readdirSync(`/proc/${pid}/fd`)
        .some((fd) => readlinkSync(`/proc/${pid}/fd/${fd}`) === `socket:[${socket}]`);
    } catch {
      return false; /* it has ended */
    }
  });
}

const groups = new Set();
process.on('exit', () => groups.forEach(endGroup));
function endGroup(pid) {
  groups.delete(pid);
  try { process.kill(-pid, 'SIGKILL'); } catch { /* it has ended */ }
}

/* Start one in front of the servers at `ports`, on a port that was free. What
   else is to be different in its file `change` does. */
export async function front(t, name, ports, change = (text) => text) {
  const { file, words, reload } = kinds[name];
  for (let tries = 0; ; tries += 1) {
    const port = await freePort();
    const dir = mkdtempSync(path.join(os.tmpdir(), 'longpoll-'));
    const copy = path.join(dir, file);
    writeFileSync(copy, change(shipped(file, port, ports)));
    const program = run(words(which(name), dir, copy), { detached: true });
    groups.add(program.pid);
    atEnd(t, async () => {
      endGroup(program.pid);
      await program.ended;
      rmSync(dir, { recursive: true, force: true });
    });
    await until(async () => program.code !== undefined || (await answers(port) && holds(program.pid, port)),
      'the proxy');
    if (program.code === undefined) {
      return { port, program, reload: () => process.kill(program.pid, reload) };
    }
    if (tries === 3) throw new Error(`the proxy does not start: ${program.stdout}${program.stderr}`);
  }
}
