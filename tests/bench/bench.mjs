// The bench: servers and loads in interleaved rounds, their medians, the bars, the charts.
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus, release } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'
import * as machine from './machine.mjs'
import { Load } from './machine.mjs'
import { line, ms, number, readme, report } from './report.mjs'
import { charts } from './chart.mjs'
import * as redis from './instances.mjs'

const usage = `tests/bench/run [OPTION...] [SCENARIO...]

  park       memory per parked poll           fanout     CPU per delivery, one channel
  pairs      CPU per message, many channels   publish    CPU per request, nobody waiting
  catchup    CPU per message held             churn      CPU per connect, poll, close
  latency    delays at a fixed rate           idle       wake-ups with all parked
  bystander  delays beside a large fan-out    loops      two threads against one
  cycle      instructions, by valgrind        calls      lp_publish from another thread
  transports short polls, long polls, streams, WebSocket: the same news by each
  instances  several over Redis: delays, messages a second, its return

  --heads KIND of the requests: browser, proxy or bare, or several with commas between; without it
               all three. The bars of the design are for browsers' heads, and most is measured with
               them alone: with the others only what has a bar, and in fewer rounds
  --quick      small and rough: to see that everything works
  --rounds N   of each comparison [15]
  --keep       the charts go to tests/bench/charts/ too, where the README shows them, and the
               figures into the README, if nothing was left out; those of transports, which have
               a place of their own, also by themselves: --keep --heads browser transports

Browsers' heads have 500 to 800 bytes and differ from connection to connection; nginx adds the
client's address and the request's id, another each time, and the library trusts it then. A cost
is CPU time of the server, as the scheduler counts it. Written to build/bench/: results.txt,
results.json, readme.md, *.svg.`

const { values: options, positionals: wanted } = parseArgs({
  allowPositionals: true,
  options: { quick: { type: 'boolean' }, keep: { type: 'boolean' }, rounds: { type: 'string' },
    heads: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
})
const quick = Boolean(options.quick)
const rounds = Number(options.rounds) || (quick ? 3 : 15)
const roundsOf = part => Math.max(3, Math.round(rounds * part * (series.whole ? 1 : 0.5)))
const turns = quick ? 1 : 5 // of ours and the floor in a round, where a bar stands between them
const most = Math.min(quick ? 2000 : 19000, machine.filesMax - 1000)
const results = { machine: {}, series: {}, bars: {}, skipped: [], failed: [] }

// What is measured now: the kind of heads, and whether with it every scenario, or what has a bar.
let series = { heads: '', whole: true }

const started = Date.now()
const say = text =>
  console.error(`${((Date.now() - started) / 1000).toFixed(0).padStart(4)} s  ${text}`)

// ---- figures

const sum = list => list.reduce((a, b) => a + b, 0)
const quantile = (list, part) =>
  [...list].sort((a, b) => a - b)[Math.round(part * (list.length - 1))]
const median = list => quantile(list, 0.5)
const spread = list =>
  ({ median: median(list), low: quantile(list, 0.25), high: quantile(list, 0.75) })

// A bar is for browsers' heads; of the others the figure is shown beside it. `met` is undefined
// where there is no figure.
function bar(name, value, limit, { sense = 'at most', unit = '' } = {}) {
  const entry = results.bars[name] ??= { values: {}, limit, sense, unit }
  entry.values[series.heads] = value
  if (series.heads !== 'browser' || value === undefined) return
  entry.met = sense === 'at most' ? value <= limit : value >= limit
}

// A server that drops, dies or hangs has no figures in that comparison; the others go on.
function failed(where, error) {
  results.failed.push(`${series.heads}, ${where}: ${error.message}`)
  say(`${where}: FAILED: ${error.message}`)
}

// ---- who is compared

const able = new Set(['ours', 'two', 'floor', 'node'])

const firstLine = (command, args) => {
  try {
    const stdio = ['ignore', 'pipe', 'ignore']
    return execFileSync(command, args, { encoding: 'utf8', stdio }).split('\n')[0]
  } catch {
    return undefined
  }
}

const has = command => Boolean(firstLine('sh', ['-c', 'command -v "$0"', command]))

function findOut() {
  if (has('nginx') && machine.nchanModule) able.add('nchan')
  else results.skipped.push('nchan: apt-get install nginx-light libnginx-mod-nchan')
  if (!redis.missing()) able.add('redis')
  else results.skipped.push(`instances: no ${redis.missing()}: apt-get install redis-server`)
  if (!has('valgrind')) results.skipped.push('cycle: apt-get install valgrind')
}

const servers = {
  ours: ({ held }) => machine.startOurs({ heads: series.heads, held }),
  two: ({ held }) => machine.startOurs({ heads: series.heads, held, loops: 2 }),
  nchan: ({ held }) => machine.startNchan(held),
  node: ({ held }) => machine.startNode(held),
  floor: ({ sizes }) => machine.startFloor(sizes.poll, sizes.publish),
}

// Each load's clients come from addresses of their own. Node is not stopped while requests are
// sent: it has many threads, each of which that costs a little, and it is too slow to sleep anyway.
let networks = 0
const loadOptions = (name, own) => ({ network: networks++ % 200 + 1, heads: series.heads,
  gate: name === 'node' ? 0 : 1, ...own })

// Runs `task` with a server and loads on it, and ends them whatever happens.
async function withServer(name, test, task) {
  const server = await servers[name]({ held: 100, ...test })
  const loads = []
  const load = own => loads[loads.push(new Load(server, loadOptions(name, own))) - 1]
  try {
    return await task(server, load)
  } finally {
    for (const one of loads) await one.stop()
    await server.stop()
  }
}

// ---- the comparison: all are up at once, and take turns, in another order each round

// A server with its load, warm, all waiters parked. Node compiles what runs often: it gets more.
async function enter(name, test) {
  const server = await servers[name]({ held: 100, ...test })
  const load = new Load(server, loadOptions(name, test.load))
  const entry = { name, server, load, runs: [] }
  const until = Date.now() + (name === 'node' ? 3000 : 0) * (quick ? 0.3 : 1)
  try {
    if (test.waiters) await load.ask(`park ${test.waiters}`)
    do entry.warm = await load.ask(test.warm || test.command)
    while (Date.now() < until)
    return entry
  } catch (error) {
    await leave(entry)
    throw error
  }
}

async function leave({ load, server }) {
  await load.stop()
  await server.stop()
}

// Who is asked in a round: all, once; but ours and the floor, between which a bar stands, take
// several turns, so that a machine that others use too disturbs their ratio less.
function turnsOf(round, entries, turns) {
  const close = entries.filter(entry => ['ours', 'floor'].includes(entry.name))
  const list = entries.filter(entry => !close.includes(entry))
  for (let turn = 0; turn < turns; turn++)
    list.push(...(turn % 2 ? [...close].reverse() : close))
  return round % 2 ? list.reverse() : list
}

// The floor's replies are as long as ours, so ours comes first.
async function interleave(title, names, test) {
  let entries = [], sizes
  const attempt = async (name, task) => {
    try {
      return await task()
    } catch (error) {
      failed(`${title}, ${name}`, error)
    }
  }
  try {
    for (const name of names.filter(name => able.has(name))) {
      if (name === 'floor' && !sizes) continue
      const entry = await attempt(name, () => enter(name, { ...test, sizes }))
      if (!entry) continue
      entries.push(entry)
      const { poll_reply_bytes: poll, publish_reply_bytes: publish } = entry.warm
      sizes ??= { poll: poll || 400, publish: publish || 300 }
    }
    for (let round = 0; round < (quick ? 3 : test.rounds ?? roundsOf(1)); round++)
      for (const entry of turnsOf(round, entries, test.turns ?? 1)) {
        if (!entries.includes(entry)) continue
        const run = await attempt(entry.name, () => entry.load.ask(test.command))
        if (run) entry.runs.push(run)
        else {
          entries = entries.filter(other => other !== entry)
          await leave(entry)
        }
      }
    return entries
  } finally {
    for (const entry of entries) await leave(entry)
  }
}

// What the design asks of a browser's head.
function checkRequests(title, runs) {
  const least = Math.min(...runs.map(run => run.request_bytes_min || Infinity))
  const most = Math.max(...runs.map(run => run.request_bytes_max))
  if (series.heads === 'browser' && (least < 500 || most > 800))
    failed(title, new Error(`polls have ${least} to ${most} bytes, not 500 to 800`))
  return most && [least, most]
}

// The cost is CPU time divided by the count that `per` names; its ratio is taken turn by turn,
// that of who takes one a round against the median of that round.
async function compare(title, names, test) {
  const entries = await interleave(title, names, test)
  const base = entries.find(entry => entry.name === (test.base ?? 'floor'))
  const cost = run => run.cpu_ns / run[test.per]
  const against = (i, runs) => {
    const turns = Math.max(1, base.runs.length / runs.length)
    return median(base.runs.slice(i * turns, (i + 1) * turns).map(cost))
  }
  const out = {}
  for (const { name, runs } of entries) {
    const count = sum(runs.map(run => run[test.per]))
    out[name] = {
      cost_ns: spread(runs.map(cost)),
      ratio: base && spread(runs.map((run, i) => cost(run) / against(i, runs))),
      count, sleeps: sum(runs.map(run => run.voluntary)) / count,
      request_bytes: name === 'ours' ? checkRequests(title, runs) : undefined,
      poll_reply_bytes: runs.at(-1).poll_reply_bytes,
      publish_reply_bytes: runs.at(-1).publish_reply_bytes,
    }
  }
  say(`${title}: ${line(out)}`)
  return out
}

const ratioOf = (result, name = 'ours') => result?.[name]?.ratio?.median
const everyone = ['ours', 'floor', 'nchan', 'node']
const peers = ['ours', 'nchan', 'node']

// ---- scenarios

// Each waiter is a client of its own; at the end messages come for them: they were there.
const parkOne = (name, own, last) => withServer(name, {}, async (server, load) => {
  const client = load({ timeout: 3000, gate: 0, ...own })
  const few = await client.ask(`park ${quick ? 500 : 1000}`)
  const many = await client.ask(`park ${most}`)
  await client.ask(last)
  return (many.pss_bytes - few.pss_bytes) / (many.waiters - few.waiters)
})

async function park() {
  const out = { one_channel: {}, channel_each: {} }
  for (const key in out)
    for (const name of peers.filter(name => able.has(name)))
      try {
        out[key][name] = await (key === 'one_channel' ? parkOne(name, {}, 'fanout 0')
          : parkOne(name, { channels: most }, 'pairs 0.2'))
        say(`park, ${key.replace('_', ' ')}, ${name}: ${number(out[key][name])} bytes`)
      } catch (error) {
        failed(`park, ${key}, ${name}`, error)
      }
  bar('memory per parked poll, one channel', out.one_channel.ours, 128, { unit: 'B' })
  bar('memory per parked poll, a channel each', out.channel_each.ours, 384, { unit: 'B' })
  return out
}

const fanouts = () => !series.whole ? { 64: quick ? [1000] : [1000, 10000] }
  : quick ? { 64: [10, 100, 1000] }
    : { 64: [10, 100, 1000, 10000, most], 512: [1000], 4096: [1000] }

async function fanout() {
  const out = {}
  for (const body of Object.keys(fanouts()).map(Number))
    for (const waiters of fanouts()[body]) {
      const part = waiters > 10000 || body > 64 ? 0.2 : waiters === 10000 ? 0.4 : 1
      out[`${body}/${waiters}`] = await compare(`fanout, ${body} B, ${waiters} waiters`, everyone, {
        waiters, load: { body }, command: 'fanout 0.1', per: 'deliveries',
        rounds: roundsOf(part),
        turns: body === 64 && [1000, 10000].includes(waiters) ? turns : 1,
      })
    }
  for (const waiters of [1000, 10000])
    bar(`fanout ${waiters}, CPU per delivery against the floor`,
      ratioOf(out[`64/${waiters}`]), 1.10)
  const [many, few] = [ratioOf(out['64/10000']), ratioOf(out['64/100'])]
  bar('the ratio at 10,000 waiters against that at 100', many && few && many / few, 1.10)
  return out
}

// The warm-up fills the histories.
async function pairs() {
  const out = {}
  for (const [channels, held] of quick || !series.whole ? [[1000, 16]] : [[1000, 16], [10000, 4]])
    out[channels] = await compare(`pairs, ${channels} channels`, everyone, {
      waiters: channels, load: { channels, publishers: 8 }, held,
      warm: 'pairs 1', command: 'pairs 0.15', per: 'published',
      turns: channels === 1000 ? turns : 1, rounds: roundsOf(channels === 1000 ? 1 : 0.4),
    })
  bar('pairs 1000, CPU per message against the floor', ratioOf(out[1000]), 1.20)
  return out
}

async function publish() {
  const result = await compare('publish', everyone, {
    load: { channels: 64, publishers: 64 },
    warm: 'publish 1', command: 'publish 0.15', per: 'published', turns,
  })
  bar('publish without waiters, CPU against the floor', ratioOf(result), 1.25)
  return result
}

async function catchup() {
  const result = await compare('catchup', peers, {
    command: 'catchup 0.3 100', per: 'deliveries', base: 'ours', rounds: roundsOf(0.6),
  })
  bar('catch-up, messages per CPU second against nchan', ratioOf(result, 'nchan'), 50,
    { sense: 'at least', unit: 'times' })
  return result
}

const churn = () => compare('churn', everyone, {
  command: 'churn 0.3 16', per: 'connections', rounds: roundsOf(0.6),
})

// Of rounds that were measured one after the other: the median of each percentile.
function delaysOf(runs) {
  const { count, ...parts } = runs[0].delay_us
  return Object.fromEntries(Object.keys(parts).map(part =>
    [part, median(runs.map(run => run.delay_us[part]))]))
}

async function latency() {
  const waiters = 1000, rate = 10
  const entries = await interleave('latency', everyone, {
    waiters, load: { gate: 0 }, warm: `rate 1 ${rate}`, command: `rate ${quick ? 1 : 3} ${rate}`,
    rounds: 4,
  })
  const delays = Object.fromEntries(entries.map(({ name, runs }) => [name, delaysOf(runs)]))
  for (const name in delays)
    say(`latency, ${waiters} waiters, ${rate} a second, ${name}: ` +
      `p50 ${ms(delays[name][50])}, p99 ${ms(delays[name][99])}`)
  return { waiters, rate, delays_us: delays }
}

// The message before makes all ask: a connection without a request has a deadline of its own.
const idle = () => withServer('ours', {}, async (server, load) => {
  const client = load({ timeout: 3000, gate: 0 })
  await client.ask(`park ${most}`)
  await client.ask('fanout 0')
  await sleep(2000)
  const run = await client.ask(`idle ${quick ? 3 : series.whole ? 20 : 5}`)
  await client.ask('fanout 0')
  const out = {
    parked: most, seconds: run.seconds, wakeups_per_second: run.voluntary / run.seconds,
    cpu_us_per_second: run.cpu_ns / 1e3 / run.seconds,
  }
  bar(`idle, ${most} parked, wake-ups a second`, out.wakeups_per_second, 2)
  say(`idle, ${most} parked: ${number(out.wakeups_per_second)} wake-ups and ` +
    `${number(out.cpu_us_per_second)} us of CPU a second`)
  return out
})

const statsOf = async server => (await fetch(`http://127.0.0.1:${server.port}/stats`)).json()

// The delay below which that part lies of what was counted between two looks.
function delayBetween(before, after, name, part) {
  const counts = after[name].map((count, i) => count - before[name][i])
  let left = Math.ceil(sum(counts) * part)
  return after.bounds_us[counts.findIndex(count => (left -= count) <= 0)]
}

// A fan-out to very many, over and over, and beside it a hundred channels with a waiter each at a
// fixed rate. Their client goes first, since both clients have the same core.
const bystander = () => withServer('ours', {}, async (server, load) => {
  const crowd = load({ timeout: 3000, gate: 0, alone: 0 })
  const others = load({ timeout: 3000, gate: 0, alone: 0, channels: 100, first: 30000,
    publishers: 4 })
  const runs = [], at99 = [], seconds = quick ? 3 : 8
  let delivered = 0
  others.first()
  await crowd.ask(`park ${most}`)
  await others.ask('park 100')
  await crowd.ask('fanout 0')
  for (let round = 0; round < (quick || !series.whole ? 1 : 3); round++) {
    const before = await statsOf(server)
    const both = [crowd.ask(`fanout ${seconds}`), others.ask(`rate ${seconds} 200`)]
    const [crowdRun, run] = await Promise.all(both)
    at99.push(delayBetween(before, await statsOf(server), 'first_delays', 0.99))
    runs.push(run)
    delivered += crowdRun.deliveries
  }
  const out = { waiters: most, rate: 200, server_p99_us: spread(at99), client_us: delaysOf(runs),
    crowd_deliveries: delivered }
  say(`bystander: p99 ${ms(out.server_p99_us.median)} at the server, ` +
    `${ms(out.client_us[99])} at the client; ${number(delivered)} deliveries beside it`)
  bar(`bystander of a fan-out to ${most}, p99 at the server`, out.server_p99_us.median / 1000, 5,
    { unit: 'ms' })
  return out
})

// ---- the same news by each way of being told, which nchan alone has all of

const transportNames = ['short', 'long', 'stream', 'websocket']
const newsOf = {
  slow: { rate: 1 / 3, seconds: quick ? 6 : 18 },
  fast: { rate: 20, seconds: quick ? 2 : 6 },
}

// What a client took, and what it cost the server. That each client had each message once, and in
// order, is what the load checks.
const newsCosts = (run, clients) => ({
  requests_per_minute: run.requests / clients / run.seconds * 60,
  bytes_out: run.bytes_out / run.deliveries, bytes_in: run.bytes_in / run.deliveries,
  delay_us: { 50: run.delay_us[50], 99: run.delay_us[99] },
  cpu_ns: run.cpu_ns / run.deliveries, news: run.published, seconds: run.seconds,
})

const transportOne = (name, transport, clients, body) =>
  withServer(name, {}, async (server, load) => {
    const client = load({ transport, body, gate: 0 })
    const begin = await client.ask(`park ${clients}`)
    await client.ask(`rate ${quick ? 1 : 3} 20`)
    const out = { begin_out: begin.bytes_out / clients, begin_in: begin.bytes_in / clients }
    for (const [key, { rate, seconds }] of Object.entries(newsOf))
      out[key] = newsCosts(await client.ask(`rate ${seconds} ${rate}`), clients)
    return out
  })

async function transports() {
  const clients = quick ? 100 : 500, body = 200
  const out = { clients, body, of: {}, events: {} }
  for (const transport of transportNames)
    for (const name of transport === 'websocket' ? ['nchan'] : peers)
      try {
        if (!able.has(name)) continue
        const entry = await transportOne(name, transport, clients, body)
        entry.memory = await parkOne(name, { transport }, 'rate 0.1 10')
        out.of[`${transport}/${name}`] = entry
        say(`transports, ${transport}, ${name}: ${number(entry.memory)} bytes a client` +
          Object.keys(newsOf).map(key => `; ${key}: ${number(entry[key].cpu_ns)} ns a message, ` +
            `p99 ${ms(entry[key].delay_us[99])}`).join(''))
      } catch (error) {
        failed(`transports, ${transport}, ${name}`, error)
      }
  for (const waiters of quick ? [1000] : [1000, 10000])
    out.events[waiters] = await compare(`transports, an event to ${waiters} streams`, everyone, {
      waiters, load: { transport: 'stream' }, command: 'fanout 0.1', per: 'deliveries', turns,
      rounds: roundsOf(waiters > 1000 ? 0.4 : 1),
    })
  return out
}

async function loops() {
  const fanout = await compare('loops, fanout', ['ours', 'two'], {
    waiters: 1000, command: 'fanout 0.15', per: 'deliveries', base: 'ours',
  })
  const pairs = await compare('loops, pairs', ['ours', 'two'], {
    waiters: 1000, load: { channels: 1000, publishers: 8 }, held: 16,
    warm: 'pairs 1', command: 'pairs 0.15', per: 'published', base: 'ours',
  })
  bar('two loops against one, CPU per delivery', ratioOf(fanout, 'two'), 1.15)
  return { fanout, pairs }
}

// ---- instructions, and calls within a process

// A longer run less a shorter one: what is left is cycles, without the start.
function instructions(what, waiters, channels, per) {
  const few = 20, many = 70
  const count = cycles => {
    const file = join(machine.built, 'callgrind.out')
    execFileSync('valgrind', ['-q', '--tool=callgrind', `--toggle-collect=${what}`,
      `--callgrind-out-file=${file}`, machine.program('cycle'),
      ...[waiters, channels, cycles].map(String), series.heads],
    { stdio: ['ignore', 'ignore', 'inherit'] })
    return Number(readFileSync(file, 'utf8').match(/^(?:summary|totals): *(\d+)/m)[1])
  }
  return Math.round((count(many) - count(few)) / (many - few) / per)
}

function cycle() {
  if (!has('valgrind')) return undefined
  const out = {
    fanout_100: instructions('counted_step', 100, 1, 100),
    channel_each_100: instructions('counted_step', 100, 100, 100),
    ...series.whole && {
      alone: instructions('counted_step', 1, 1, 1),
      lp_publish: instructions('counted_publish', 1, 1, 1),
    },
  }
  say(`cycle: ${Object.entries(out).map(([key, value]) => `${key} ${value}`).join(', ')}`)
  return out
}

function calls() {
  const runs = []
  for (let i = 0; i < (quick ? 2 : 7); i++) {
    const text = execFileSync(machine.program('publish'), ['500000', '64'], { encoding: 'utf8' })
    const run = JSON.parse(text)
    if (!run.valid) throw new Error('lp_publish lost messages')
    runs.push(run.per_second)
  }
  const out = spread(runs)
  say(`calls: lp_publish ${number(out.median)} times a second`)
  bar('lp_publish from another thread, no waiters, a second', out.median, 1e6,
    { sense: 'at least' })
  return out
}

const instances = () =>
  able.has('redis') ? redis.instances({ quick, able, failed, say, bar }) : undefined

// ---- the run

const version = name => firstLine('dpkg-query', ['-W', '-f=${Version}', name])

const describe = () => ({
  cpu: cpus()[0].model, cores: machine.cores, kernel: release(),
  compiler: firstLine('cc', ['--version']), node: process.version,
  longpoll: readFileSync(join(machine.root, 'longpoll.h'), 'utf8').match(/LP_VERSION "(.*)"/)?.[1],
  nchan: able.has('nchan') ? version('libnginx-mod-nchan') ?? 'unknown' : undefined,
  rounds, quick, when: new Date().toISOString(),
})

const scenarios = { park, fanout, pairs, publish, catchup, churn, latency, idle, bystander, loops,
  cycle, calls, instances, transports }
const barred = ['park', 'fanout', 'pairs', 'publish',
  ...quick ? [] : ['catchup', 'idle', 'bystander', 'cycle']]
const kinds = ['browser', 'proxy', 'bare']

// All figures that a part of the README has must be there, or it keeps those that it has.
function keep(parts) {
  const file = join(machine.root, 'README.md')
  const good = !quick && !results.failed.length && !results.skipped.length
  const whole = {
    figures: good && kinds.every(kind => results.series[kind]) && !wanted.length,
    transports: good && results.series.browser?.transports,
  }
  let text = readFileSync(file, 'utf8')
  for (const name in parts)
    if (whole[name])
      text = text.replace(new RegExp(`(<!-- ${name} -->\n)[^]*(<!-- end of ${name} -->\n)`),
        (_, begin, end) => begin + parts[name] + end)
    else say(`README.md keeps its ${name}: not everything was measured`)
  writeFileSync(file, text)
}

function write() {
  const text = report(results), parts = readme(results)
  const figures = Object.values(parts).join('\n')
  writeFileSync(join(machine.built, 'results.json'), JSON.stringify(results, null, 1) + '\n')
  writeFileSync(join(machine.built, 'results.txt'), text + '\n')
  writeFileSync(join(machine.built, 'readme.md'), figures)
  const places = [machine.built, ...options.keep ? [join(machine.here, 'charts')] : []]
  for (const place of places) {
    mkdirSync(place, { recursive: true })
    for (const [name, svg] of Object.entries(charts(results.series.browser ?? {})))
      writeFileSync(join(place, name), svg)
  }
  if (options.keep) keep(parts)
  console.log(`${text}\n\n${figures}`)
}

async function measure(heads, whole) {
  series = { heads, whole }
  const scenariosOf = results.series[heads] = {}
  for (const name of wanted.length ? wanted : whole ? Object.keys(scenarios) : barred)
    try {
      say(`-- ${heads} heads: ${name}`)
      scenariosOf[name] = await scenarios[name]()
    } catch (error) {
      failed(name, error)
    }
}

async function main() {
  const asked = options.heads?.split(',') ?? kinds
  const unknown = [...wanted.filter(name => !scenarios[name]),
    ...asked.filter(kind => !kinds.includes(kind))]
  if (options.help || unknown.length) {
    console.log((unknown.length ? `no such thing: ${unknown.join(' ')}\n\n` : '') + usage)
    process.exit(unknown.length ? 2 : 0)
  }
  findOut()
  results.machine = describe()
  for (const heads of asked) await measure(heads, heads === 'browser')
  write()
  process.exit(results.failed.length ? 1 : 0)
}

main()
