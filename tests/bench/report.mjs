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

function news({ clients, seconds, news: count, short_ms: short, ...of }) {
  return table(`news: ${count} in ${seconds} s, ${clients} clients, short polls every ${short} ms`,
    [['', 'requests', 'bytes', 'late on average', 'p99'], ...['long', 'short'].map(kind =>
      [kind, number(of[kind].requests), number(of[kind].bytes_in + of[kind].bytes_out),
        ms(of[kind].mean_us), ms(of[kind].p99_us)])])
}

const bars = list => table('bars', [['', 'measured', 'bar', ''], ...list.map(b => [b.name,
  b.value === undefined ? '-' : `${number(b.value)} ${b.unit}`.trim(),
  `${b.sense} ${number(b.limit)}`,
  b.met === undefined ? 'not measured' : b.met ? 'met' : 'MISSED'])])

const list = (title, lines) => `${title}\n${lines.map(line => `  ${line}`).join('\n')}`

export function report({ machine, scenarios: s, bars: measured, skipped, failed }) {
  const each = (of, title) => Object.entries(of ?? {}).map(([key, result]) =>
    costs(title(key), result))
  return [
    Object.entries(machine).map(([key, value]) => `${key}: ${value}`).join('\n'),
    s.park && memory(s.park),
    ...each(s.fanout, key => `fanout: a delivery, ${key.replace('/', ' bytes to ')} waiters`),
    ...each(s.pairs, key => `pairs: publish, deliver, poll again; ${key} channels`),
    s.publish && costs('publish: a request, nobody waiting', s.publish),
    s.catchup && costs('catchup: a message held', s.catchup),
    s.churn && costs('churn: connect, poll, close', s.churn),
    s.latency && latency(s.latency),
    s.news && news(s.news),
    ...each(s.loops, key => `loops: ${key}, two threads against one`),
    s.idle && list('idle', [`${s.idle.parked} parked, ${number(s.idle.seconds)} s: ` +
      `${number(s.idle.wakeups_per_second)} wake-ups, ` +
      `${number(s.idle.cpu_us_per_second)} us of CPU a second`]),
    s.bystander && list('bystander', [`beside fan-outs to ${s.bystander.waiters}, ` +
      `${s.bystander.rate} messages a second: p99 ${ms(s.bystander.server_p99_us.median)} ` +
      `at the server, ${ms(s.bystander.client_us[99])} at the client`]),
    s.cycle && list('cycle: user-space instructions',
      Object.entries(s.cycle).map(([key, value]) => `${key}: ${number(value)}`)),
    s.calls && list('calls', [`lp_publish: ${number(s.calls.median)} a second`]),
    measured.length && bars(measured),
    skipped.length && list('skipped', skipped),
    failed.length && list('failed', failed),
  ].filter(Boolean).join('\n\n')
}
