// The results as a text that a person reads.

export const ms = us => us === undefined ? '-' : `${(us / 1000).toFixed(us < 10000 ? 2 : 0)} ms`

export const number = n => n === undefined ? '-'
  : n >= 1000 ? Math.round(n).toLocaleString('en') : n.toFixed(n < 10 ? 3 : 1)

// A comparison in a line.
export const line = result => Object.entries(result).map(([name, { cost_ns, ratio }]) =>
  `${name} ${Math.round(cost_ns.median)}${ratio ? ` (${ratio.median.toFixed(2)})` : ''}`).join('  ')

function table(title, rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map(row => row[i].length)))
  const padded = row => row.map((cell, i) => i ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))
  return [title, ...rows.map(row => '  ' + padded(row).join('  ').trimEnd())].join('\n')
}

function costs(title, result) {
  const base = result.floor?.cost_ns.median
  const rows = Object.entries(result).map(([name, { cost_ns: c, ratio: r, sleeps }]) => [
    name, `${number(c.median)} ns`, `${number(c.low)}..${number(c.high)}`,
    base && name !== 'floor' ? `${number(c.median - base)} ns` : '',
    r ? r.median.toFixed(3) : '', r ? `${r.low.toFixed(3)}..${r.high.toFixed(3)}` : '',
    sleeps.toFixed(4)])
  return table(title,
    [['', 'CPU each', 'quartiles', 'above floor', 'ratio', 'quartiles', 'sleeps'], ...rows])
}

function memory(park) {
  const names = [...new Set(Object.values(park).flatMap(of => Object.keys(of)))]
  return table('park: memory of the server per parked poll, bytes', [['', ...names],
    ...Object.entries(park).map(([key, of]) =>
      [key.replace('_', ' '), ...names.map(name => number(of[name]))])])
}

const parts = ['mean', 50, 75, 90, 95, 99, 99.9, 99.99, 100]

function latency({ waiters, rate, delays_us: delays }) {
  const names = Object.keys(delays)
  return table(`latency at the client, ${waiters} waiters, ${rate} messages a second, ms`,
    [['', ...parts.map(part => part > 0 ? `p${part}` : part)],
      ...names.map(name => [name, ...parts.map(part => (delays[name][part] / 1000).toFixed(1))])])
}

const transportNames = { short: 'polls every second', long: 'long polls',
  stream: 'events in a stream', websocket: 'WebSocket' }
const peerNames = { ours: 'longpoll.h', nchan: 'nchan', node: 'Node' }
const newsNames = { slow: 'a message every three seconds', fast: '20 messages a second' }

const transportRows = (of, key) => Object.entries(of).map(([name, entry]) => {
  const [transport, peer] = name.split('/'), news = entry[key]
  return [transportNames[transport], peerNames[peer], number(entry.memory),
    news.requests_per_minute.toFixed(0), number(news.bytes_out), number(news.bytes_in),
    ms(news.delay_us[50]), ms(news.delay_us[99]), `${number(news.cpu_ns)} ns`]
})

const transports = ({ clients, body, of, events }) => [
  ...Object.keys(newsNames).map(key => table(
    `transports: ${newsNames[key]} of ${body} bytes to ${clients} clients`,
    [['', '', 'bytes a client', 'requests a minute', 'bytes up', 'down', 'p50', 'p99', 'CPU'],
      ...transportRows(of, key)])),
  ...Object.entries(events).map(([streams, of]) =>
    costs(`transports: an event, ${streams} streams`, of)),
]

const instanceNames = {
  alone: 'one instance, no Redis', ours: 'two instances', nchan: 'nchan, two instances',
  ours_1: 'one instance', ours_2: 'two', ours_3: 'three', two_stores: 'three over two stores',
  same_script: 'redis-benchmark, the same script', least_script: 'the least script',
  same_single: 'one call a connection at a time: the same script', least_single: 'the least script',
}
const us = us => `${us.toFixed(us < 1000 ? 1 : 0)} us`

const instances = ({ delay, messages, comeback: back }) => [
  table('instances: delay from publishing on one to delivery on another',
    [['', 'p50', 'p99'], ...Object.entries(delay).map(([name, at]) =>
      [instanceNames[name], us(at[50]), us(at[99])])]),
  table("instances: messages a second, and the stores' CPU for each",
    [['', 'a second', 'CPU', 'of the busiest'], ...Object.entries(messages).map(([name, m]) =>
      [name === 'nchan' ? 'nchan, one instance' : instanceNames[name], number(m.each),
        us(m.cpu_ns / 1000), us(m.busiest_ns / 1000)])]),
  list('instances: Redis is back', [`${number(back.channels)} channels LIVE after ` +
    `${(back.live_ms / 1000).toFixed(1)} s; publish meanwhile p50 ${ms(back.publish_us[50])}, ` +
    `p99 ${ms(back.publish_us[99])}`]),
]

// A bar is for browsers' heads; the same figures with others stand beside them.
const bars = (list, kinds) => table('bars, which are for heads of browsers',
  [['', ...kinds, 'bar', ''], ...Object.entries(list).map(([name, b]) => [name,
    ...kinds.map(kind => b.values[kind] === undefined ? '-'
      : `${number(b.values[kind])} ${b.unit}`.trim()),
    `${b.sense} ${number(b.limit)}`,
    b.met === undefined ? 'not measured' : b.met ? 'met' : 'MISSED'])])

const list = (title, lines) => `${title}\n${lines.map(line => `  ${line}`).join('\n')}`

const kindNames = {
  browser: 'heads of browsers', proxy: "heads of browsers behind a proxy", bare: 'bare heads',
}

const costsOf = s => [...Object.values(s.fanout ?? {}), ...Object.values(s.pairs ?? {}),
  ...s.publish ? [s.publish] : []]

// How long the polls were, the cursor's digits included.
function requestBytes(s) {
  const all = costsOf(s).map(result => result.ours?.request_bytes).filter(Boolean)
  if (!all.length) return ''
  const [low, high] = [Math.min(...all.map(r => r[0])), Math.max(...all.map(r => r[1]))]
  return `, polls of ${low} to ${high} bytes`
}

function reportSeries(kind, s) {
  const each = (of, title) => Object.entries(of ?? {}).map(([key, result]) =>
    costs(title(key), result))
  return [
    `==== ${kindNames[kind]}${requestBytes(s)}`,
    s.park && memory(s.park),
    ...each(s.fanout, key => `fanout: a delivery, ${key.replace('/', ' bytes to ')} waiters`),
    ...each(s.pairs, key => `pairs: publish, deliver, poll again; ${key} channels`),
    s.publish && costs('publish: a request, nobody waiting', s.publish),
    s.catchup && costs('catchup: a message held', s.catchup),
    s.churn && costs('churn: connect, poll, close', s.churn),
    s.latency && latency(s.latency),
    ...each(s.loops, key => `loops: ${key}, two threads against one`),
    s.idle && list('idle', [`${s.idle.parked} parked, ${number(s.idle.seconds)} s: ` +
      `${number(s.idle.wakeups_per_second)} wake-ups, ` +
      `${number(s.idle.cpu_us_per_second)} us of CPU a second`]),
    s.bystander && list('bystander', [`beside fan-outs to ${s.bystander.waiters}, ` +
      `${s.bystander.rate} messages a second: p99 ${ms(s.bystander.server_p99_us.median)} ` +
      `at the server, ${ms(s.bystander.client_us[99])} at the client`]),
    s.cycle && list('cycle: user-space instructions',
      Object.entries(s.cycle).map(([key, value]) => `${key}: ${number(value)}`)),
    ...s.instances ? instances(s.instances) : [],
    ...s.transports ? transports(s.transports) : [],
    s.calls && list('calls', [`lp_publish: ${number(s.calls.median)} a second`]),
  ]
}

export function report({ machine, series, bars: measured, skipped, failed }) {
  return [
    Object.entries(machine).map(([key, value]) => `${key}: ${value}`).join('\n'),
    ...Object.entries(series).flatMap(([kind, s]) => reportSeries(kind, s)),
    Object.keys(measured).length && bars(measured, Object.keys(series)),
    skipped.length && list('skipped', skipped),
    failed.length && list('failed', failed),
  ].filter(Boolean).join('\n\n')
}

// ---- what the README says, between two comments in it

const names = ['ours', 'floor', 'nchan', 'node']
const row = (title, cells) =>
  `| ${title} | ${names.map(name => cells[name] ?? '').join(' | ')} |`

const short = n => n < 1 ? n.toFixed(2) : n < 20 ? n.toFixed(1) : String(Math.round(n))
const times = ratio => ratio.toFixed(ratio < 3 ? 2 : 1)
const cellsOf = (of, text) => Object.fromEntries(names.filter(name => of[name] !== undefined)
  .map(name => [name, text(of[name], name)]))

const memoryRow = (title, of) =>
  row(title, cellsOf(of, bytes => `${Math.round(bytes).toLocaleString('en')} B`))

const costRow = (title, of) => row(title, cellsOf(of, ({ cost_ns: c, ratio: r }, name) =>
  `${short(c.median / 1000)} µs${of.floor && name !== 'floor' ? `, ${times(r.median)}` : ''}`))

function delayRow(title, of) {
  const text = us => short(us / 1000)
  return row(title, cellsOf(of.delays_us, at => `${text(at[50])}, ${text(at[99])} ms`))
}

function rowsOf(kind, s) {
  return [
    row(`**${kindNames[kind]}${requestBytes(s)}**`, {}),
    s.park && memoryRow('memory per parked poll, one channel', s.park.one_channel),
    s.park && memoryRow('memory per parked poll, a channel each', s.park.channel_each),
    ...Object.entries(s.fanout ?? {}).filter(([key]) => key.startsWith('64/') && key !== '64/10')
      .map(([key, of], i) => {
        const waiters = Number(key.slice(3)).toLocaleString('en')
        return costRow(i ? `to ${waiters}`
          : `CPU per delivery, 64 bytes to ${waiters} waiters`, of)
      }),
    s.pairs?.[1000] &&
      costRow('publish, deliver, poll again: 1,000 channels of one waiter', s.pairs[1000]),
    s.publish && costRow('publish over HTTP, nobody waiting', s.publish),
    s.catchup && costRow('catching up, per message', s.catchup),
    s.churn && costRow('connect, poll, close', s.churn),
    s.latency && delayRow(`delay to ${s.latency.waiters.toLocaleString('en')} waiters, ` +
      `${s.latency.rate} messages a second, p50 and p99`, s.latency),
  ].filter(Boolean)
}

const count = n => Math.round(n).toLocaleString('en')
const often = n => Math.round(n) === 1 ? 'once' : `${count(n)} times`

function instancesText({ delay, messages: m, comeback: back }) {
  const late = at => `${short(at[50] / 1000)} ms (p99 ${short(at[99] / 1000)})`
  const thousands = one => `${Math.round(one.each / 1000)},000`
  return `Over Redis, a message published at one instance is delivered by another within ` +
    `${late(delay.ours)}, at one instance without Redis within ${late(delay.alone)}` +
    `${delay.nchan ? `, by nchan over Redis within ${late(delay.nchan)}` : ''}. ` +
    `Three instances publish ${thousands(m.ours_3)} messages a second through one Redis ` +
    `(redis-benchmark calls the same script ${thousands(m.same_script)} times` +
    `${m.nchan ? `, nchan publishes ${thousands(m.nchan)}` : ''}); of two stores each does half. ` +
    `${count(back.channels)} channels are in step again ${short(back.live_ms / 1000)} s after ` +
    'an empty Redis takes the place of one that was killed.'
}

function instructionsText(series) {
  const of = Object.entries(series).filter(([, s]) => s.cycle)
    .map(([kind, s]) => `${count(s.cycle.fanout_100)} with ${kindNames[kind]}`)
  return of.length > 0 && 'A poll that is parked, told and asked again takes so many ' +
    `instructions in user space: ${of.join(', ')}.`
}

function quartilesText(s) {
  const of = (title, result) => result?.ours?.ratio && result.floor &&
    `${title} ${result.ours.ratio.low.toFixed(2)} to ${result.ours.ratio.high.toFixed(2)}`
  const all = [
    of('1,000 waiters', s.fanout?.['64/1000']), of('10,000 waiters', s.fanout?.['64/10000']),
    of('one waiter per message', s.pairs?.[1000]), of('a publish', s.publish)].filter(Boolean)
  return all.length > 0 && `Quartiles of these ratios, browsers' heads: ${all.join(', ')}. ` +
    'On a machine that others use too they scatter more.'
}

function sentencesOf(s) {
  return [
    s.idle && `${count(s.idle.parked)} parked polls wake the server ` +
      `${often(s.idle.wakeups_per_second * s.idle.seconds)} in ${count(s.idle.seconds)} s.`,
    s.bystander && `While ${count(s.bystander.waiters)} are served, a message on another ` +
      `channel is handed to the kernel within ${ms(s.bystander.server_p99_us.median)} (p99).`,
    s.calls && `A thread calls \`lp_publish\` ${short(s.calls.median / 1e6)} million times a ` +
      'second.',
    s.loops?.fanout.two && 'Two loops cost ' +
      `${times(s.loops.fanout.two.ratio.median)} times the CPU of one.`,
    s.instances && instancesText(s.instances),
  ]
}

function machineText({ cpu, cores, kernel, compiler, nchan, node }) {
  const version = (text, what) => text?.match(what)?.[0] ?? text
  return `One run on ${cores === 2 ? 'two' : cores} cores of an ${cpu}, ` +
    `Linux ${version(kernel, /^\d+\.\d+/)}, gcc ${version(compiler, /\d+\.\d+/)}, ` +
    `nchan ${version(nchan, /\d+\.\d+\.\d+/)}, Node ${version(node, /\d+\.\d+/)} (medians):`
}

// ---- the same news by each transport

const transportHead = ['', '', 'requests a minute', 'bytes up, down', 'delay p50, p99',
  'CPU a message', 'memory a client']

const cells = list => `| ${list.join(' | ')} |`

function transportRow(name, entry, key) {
  const [transport, peer] = name.split('/'), news = entry[key], late = us => short(us / 1000)
  return cells([transportNames[transport], peerNames[peer], count(news.requests_per_minute),
    `${count(news.bytes_out)}, ${count(news.bytes_in)}`,
    `${late(news.delay_us[50])}, ${late(news.delay_us[99])} ms`,
    `${short(news.cpu_ns / 1000)} µs`, `${count(entry.memory)} B`])
}

function eventsText(events) {
  const all = Object.entries(events).filter(([, { ours, floor }]) => ours && floor)
  const costs = all.map(([streams, { ours }]) =>
    `${short(ours.cost_ns.median / 1000)} µs of CPU to ${count(Number(streams))} streams`)
  const ratios = name => all.map(([, of]) => of[name] && times(of[name].ratio.median)).join(' and ')
  return all.length > 0 && `An event of 64 bytes takes ${costs.join(', ')}: ${ratios('ours')} ` +
    'times what it costs the floor to send as many bytes ' +
    `(nchan ${ratios('nchan')}, Node ${ratios('node')}).`
}

function begunText(of) {
  const one = name => of[name] &&
    `${count(of[name].begin_out)} bytes up and ${count(of[name].begin_in)} down`
  return of['stream/ours'] && of['websocket/nchan'] && `A stream begins with ` +
    `${one('stream/ours')}, a WebSocket with ${one('websocket/nchan')} (nchan).`
}

function transportsText({ clients, body, of, events }) {
  const rows = Object.keys(newsNames).flatMap(key => [
    cells([`**${newsNames[key]}**`, '', '', '', '', '', '']),
    ...Object.entries(of).map(([name, entry]) => transportRow(name, entry, key))])
  const table = [cells(transportHead), cells(transportHead.map(() => '---')), ...rows]
  const text = [begunText(of), eventsText(events)].filter(Boolean).join(' ')
  return `Messages of ${body} bytes to ${count(clients)} clients on one channel, with heads of ` +
    'browsers; bytes, counted at the client\'s socket, and CPU are for each message that a ' +
    `client gets:\n\n${table.join('\n')}\n\n${text}\n`
}

// The text of each of the README's parts that is measured.
export function readme({ machine, series }) {
  const browser = series.browser ?? {}
  const table = [row('', { ours: 'longpoll.h', floor: 'floor', nchan: 'nchan', node: 'Node' }),
    row('---', Object.fromEntries(names.map(name => [name, '---']))),
    ...Object.entries(series).flatMap(([kind, s]) => rowsOf(kind, s))].join('\n')
  const text = ['The second figure is the ratio to the floor, a median of ratios turn by turn.',
    ...sentencesOf(browser), instructionsText(series)].filter(Boolean).join(' ')
  const figures = [machineText(machine), table, text, quartilesText(browser)].filter(Boolean)
  return { figures: figures.join('\n\n') + '\n',
    ...browser.transports && { transports: transportsText(browser.transports) } }
}
