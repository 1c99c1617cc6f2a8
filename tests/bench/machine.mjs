// Servers and load clients as child processes: pinned, started, asked and ended.
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { cpus, setPriority } from 'node:os'
import { setTimeout as sleep } from 'node:timers/promises'
import { createInterface } from 'node:readline'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Wire } from '../live/redis-wire.mjs'

export const here = dirname(fileURLToPath(import.meta.url))
export const root = join(here, '../..')
export const built = join(root, 'build/bench')
export const program = name => join(built, name)

const about = (file, what) => readFileSync(`/proc/self/${file}`, 'utf8').match(what)?.[1]

export const cores = cpus().length
export const filesMax = Number(about('limits', /Max open files +\S+ +(\d+)/) ?? 1024)

// The server has the first core, the client the last; two loops have the first two.
const allowed = about('status', /Cpus_allowed_list:\s*(\S+)/).split(',').flatMap(range => {
  const [first, last = first] = range.split('-').map(Number)
  return Array.from({ length: last - first + 1 }, (_, i) => first + i)
})
export const core = { server: allowed[0], client: allowed.at(-1),
  two: allowed.slice(0, 2).join(), any: allowed.join() }

// ---- processes: whatever was started is ended, also by a signal

const alive = new Set()

function kill(pid, signal = 'SIGKILL') {
  try {
    process.kill(pid, signal)
  } catch {} // it had gone already
}

process.on('exit', () => alive.forEach(pid => kill(pid)))
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'])
  process.on(signal, () => process.exit(130))

function start(cpu, command, args, stdio) {
  const child = spawn('taskset', ['-c', String(cpu), command, ...args], { stdio, cwd: built })
  child.ended = new Promise(resolve => child.on('exit', resolve))
  alive.add(child.pid)
  child.ended.then(() => alive.delete(child.pid))
  return child
}

// ---- servers

async function firstPort(child) {
  for await (const line of createInterface({ input: child.stdout }))
    if (line.startsWith('listening on ')) return Number(line.split(':').pop())
  throw new Error('the server did not start')
}

async function startPrinting(dialect, cpu, command, args) {
  const child = start(cpu, command, args.map(String), ['ignore', 'pipe', 'inherit'])
  const port = await firstPort(child)
  const stop = () => (kill(child.pid), child.ended)
  return { dialect, port, pid: child.pid, stop }
}

// What the README says for each: the name that browsers know it by; behind a proxy, whom to trust.
const facing = {
  bare: [],
  browser: ['--hosts', 'chat.example.org'],
  proxy: ['--trusted-proxies', '127.0.0.0/8'],
}

export function startOurs({ heads, held = 100, loops = 1, redis = [], cpu, more = [] }) {
  const options = ['--loops', loops, '--history-count', held, '--timeout-ms-max', 3600000,
    ...facing[heads], ...more]
  if (redis.length) options.push('--redis', redis.map(({ url }) => url).join())
  return startPrinting('ours', cpu ?? (loops > 1 ? core.two : core.server), program('serve'), options)
}

export const startFloor = (pollBytes, publishBytes) =>
  startPrinting('floor', core.server, program('floor'), [pollBytes, publishBytes].map(Math.round))

export const startNode = held => startPrinting('ours', core.server, process.execPath,
  [join(here, 'node.mjs'), '--history-count', held])

// ---- nginx with nchan, as well tuned as its manual says

const modules = ['/usr/lib/nginx/modules', '/usr/lib64/nginx/modules', '/usr/share/nginx/modules']
export const nchanModule =
  modules.map(dir => join(dir, 'ngx_nchan_module.so')).find(file => existsSync(file))

const subscribers = { '/sub': 'longpoll', '/short': 'intervalpoll', '/stream': 'eventsource',
  '/socket': 'websocket' }

// There are more connections than there can be: near the end of them nginx closes connections
// that idle, the publishers' here.
const nginxConf = (port, held, files, redis) => `
load_module ${nchanModule};
daemon off;
worker_processes 1;
worker_rlimit_nofile ${files};
error_log error.log error;
pid nginx.pid;
events { use epoll; worker_connections ${2 * files}; multi_accept on; accept_mutex off; }
http {
  access_log off;
  tcp_nodelay on;
  keepalive_timeout 3600s;
  keepalive_requests 1000000000;
  client_body_buffer_size 128k;
  client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  nchan_shared_memory_size 1024M;
  ${redis ? `upstream redis { nchan_redis_server ${redis.url}; }` : ''}
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location = /pub {
      nchan_publisher http;
      ${redis ? 'nchan_redis_pass redis;' : ''}
      nchan_channel_id $arg_id;
      nchan_message_buffer_length ${held};
      nchan_message_timeout 3600s;
    }
    ${Object.entries(subscribers).map(([path, kind]) => `location = ${path} {
      nchan_subscriber ${kind};
      ${redis ? 'nchan_redis_pass redis;' : ''}
      nchan_channel_id $arg_id;
      nchan_subscriber_first_message oldest;
      nchan_subscriber_timeout 3600s;
    }`).join('\n    ')}
  }
}
`

function freePort() {
  return new Promise(resolve => {
    const server = createServer().listen(0, '127.0.0.1', () => {
      const { port } = server.address()
      server.close(() => resolve(port))
    })
  })
}

async function workerOf(master) {
  const children = `/proc/${master}/task/${master}/children`
  for (let tries = 0; tries < 200 && existsSync(children); tries++) {
    await sleep(20)
    const pid = parseInt(readFileSync(children, 'utf8'))
    if (pid) return pid
  }
  throw new Error('nginx did not start')
}

let nginxes = 0
export async function startNchan(held, { redis, cpu = core.server } = {}) {
  const port = await freePort()
  const dir = join(built, `nginx-${++nginxes}`)
  mkdirSync(dir, { recursive: true })
  writeFileSync(join(dir, 'nginx.conf'), nginxConf(port, held, filesMax, redis))
  const args = ['-p', dir + '/', '-c', 'nginx.conf', '-e', 'error.log']
  const child = start(cpu, 'nginx', args, ['ignore', 'ignore', 'inherit'])
  const pid = await workerOf(child.pid)
  alive.add(pid) // it would outlive a master that is killed
  await sleep(100)
  const stop = async () => {
    kill(child.pid)
    kill(pid)
    alive.delete(pid)
    await child.ended
    rmSync(dir, { recursive: true, force: true })
  }
  return { dialect: 'nchan', port, pid, stop }
}

// ---- redis-server, which keeps nothing on disk

export async function startRedis({ cpu = core.server, port } = {}) {
  port ??= await freePort()
  const args = ['--port', String(port), '--bind', '127.0.0.1', '--save', '', '--appendonly', 'no']
  const child = start(cpu, 'redis-server', args, ['ignore', 'ignore', 'inherit'])
  const wire = await connectRedis(port)
  const stop = () => (wire.close(), kill(child.pid), child.ended)
  return { port, pid: child.pid, wire, url: `redis://127.0.0.1:${port}`, stop }
}

async function connectRedis(port) {
  for (let tries = 0; tries < 200; tries++) {
    const wire = new Wire(port)
    if (await wire.call('PING').catch(() => false)) return wire
    await sleep(10)
  }
  throw new Error('redis-server did not start')
}

// What a process has used, in ns.
export function cpuOf(pid) {
  const tasks = `/proc/${pid}/task`
  return readdirSync(tasks)
    .map(task => Number(readFileSync(`${tasks}/${task}/schedstat`, 'utf8').split(' ')[0]))
    .reduce((a, b) => a + b, 0)
}

// ---- load clients: a line out, a line of JSON back

const LATEST_S = 120 // a load gives up by itself long before

export class Load {
  constructor(server, options = {}) {
    const all = { dialect: server.dialect, port: server.port, pid: server.pid, ...options }
    const args = Object.entries(all).flatMap(([name, value]) => ['--' + name, String(value)])
    this.child = start(core.client, program('load'), args, ['pipe', 'pipe', 'inherit'])
    this.child.stdin.on('error', () => {}) // it has ended: ask() says so
    this.lines = createInterface({ input: this.child.stdout })[Symbol.asyncIterator]()
  }

  async ask(command) {
    this.child.stdin.write(command + '\n')
    const late = sleep(LATEST_S * 1000, { done: true }, { ref: false })
    const { value, done } = await Promise.race([this.lines.next(), late])
    if (done) throw new Error(`"${command}": the load client ended, or did not answer`)
    const result = JSON.parse(value)
    if (!result.valid) throw new Error(`"${command}" is invalid: ${result.error}`)
    return result
  }

  first() { // before other clients on its core, where that is allowed
    try {
      setPriority(this.child.pid, -15)
    } catch {}
  }

  stop() {
    kill(this.child.pid)
    return this.child.ended
  }
}
