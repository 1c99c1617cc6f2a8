// Charts for the README as SVG: lines and bars, legible on a light page and on a dark one.
const WIDTH = 720, HEIGHT = 360
const plot = { left: 84, right: 604, top: 70, bottom: 306 }

// Colours that hold on white and on GitHub's dark; where the reader's scheme is known, better ones.
const style = `
  text { font: 13px system-ui, "Segoe UI", Helvetica, Arial, sans-serif; fill: #57606a }
  .title { font-size: 15px; font-weight: 600; fill: #24292f }
  .strong { font-weight: 600 }
  .grid { stroke: #8c959f; stroke-opacity: .3; stroke-width: 1 }
  .axis { stroke: #8c959f; stroke-width: 1 }
  .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round }
  .s-ours { stroke: #0969da } .f-ours { fill: #0969da }
  .s-floor { stroke: #6e7781; stroke-dasharray: 5 4 } .f-floor { fill: #6e7781 }
  .s-nchan { stroke: #bf5b04 } .f-nchan { fill: #bf5b04 }
  .s-node { stroke: #1a7f37 } .f-node { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    text { fill: #9198a1 } .title { fill: #e6edf3 }
    .s-ours { stroke: #58a6ff } .f-ours { fill: #58a6ff }
    .s-floor { stroke: #9198a1 } .f-floor { fill: #9198a1 }
    .s-nchan { stroke: #e3913d } .f-nchan { fill: #e3913d }
    .s-node { stroke: #3fb950 } .f-node { fill: #3fb950 }
  }`

const labels = { ours: 'longpoll.h', floor: 'floor', nchan: 'nginx + nchan', node: 'Node' }

const escaped = text =>
  String(text).replace(/[&<>]/g, c => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;' })[c])

function element(name, attributes, inside) {
  const given = Object.entries(attributes).filter(([, value]) => value !== '')
  const head = [name, ...given.map(([key, value]) =>
    `${key}="${typeof value === 'number' ? Number(value.toFixed(1)) : value}"`)].join(' ')
  return inside === undefined ? `<${head}/>` : `<${head}>${inside}</${name}>`
}

const text = (x, y, what, { anchor = 'start', kind = '' } = {}) =>
  element('text', { x, y, 'text-anchor': anchor, class: kind }, escaped(what))

const rule = (x1, y1, x2, y2, kind) => element('line', { x1, y1, x2, y2, class: kind })

const svg = (title, parts, height = HEIGHT) => element('svg', {
  xmlns: 'http://www.w3.org/2000/svg', viewBox: `0 0 ${WIDTH} ${height}`, width: WIDTH, height,
  role: 'img', 'aria-label': escaped(title),
}, ['', element('style', {}, style + '\n'), text(20, 28, title, { kind: 'title' }), ...parts, '']
  .join('\n')) + '\n'

// ---- scales

const linear = (from, to, low, high) => value =>
  low + (value - from) / (to - from) * (high - low)
const logarithmic = (from, to, low, high) => {
  const scale = linear(Math.log(from), Math.log(to), low, high)
  return value => scale(Math.log(value))
}

// 1, 2, 5, 10... from the largest below to the smallest above.
function decades(least, most) {
  const all = []
  for (let power = 10 ** Math.floor(Math.log10(least)); power <= most * 10; power *= 10)
    all.push(power, 2 * power, 5 * power)
  const first = all.findLastIndex(value => value <= least)
  const last = all.findIndex(value => value >= most)
  return all.slice(Math.max(first, 0), last + 1)
}

const readable = value =>
  value >= 1000 ? value.toLocaleString('en') : String(Number(value.toPrecision(3)))

// ---- lines

// Names at the lines' ends, pushed apart where they would touch.
function endLabels(ends) {
  let last = -Infinity
  return ends.sort((a, b) => a.y - b.y).map(({ y, name }) => {
    last = Math.max(y, last + 17)
    return text(plot.right + 10, last + 4, labels[name], { kind: `f-${name} strong` })
  })
}

// `series`: name -> list of [x, y]; x and y are placed by the scales.
function lines(title, series, { x, y, xTicks, yTicks, xTitle, yTitle }) {
  const parts = [text(20, 48, yTitle)], ends = []
  for (const value of yTicks)
    parts.push(rule(plot.left, y(value), plot.right, y(value), 'grid'),
      text(plot.left - 10, y(value) + 4, readable(value), { anchor: 'end' }))
  for (const [value, label] of xTicks)
    parts.push(rule(x(value), plot.bottom, x(value), plot.bottom + 5, 'axis'),
      text(x(value), plot.bottom + 22, label, { anchor: 'middle' }))
  parts.push(rule(plot.left, plot.bottom, plot.right, plot.bottom, 'axis'))
  parts.push(text((plot.left + plot.right) / 2, plot.bottom + 44, xTitle, { anchor: 'middle' }))
  for (const [name, points] of Object.entries(series)) {
    const at = points.map(([px, py]) => [x(px), y(py)])
    const places = at.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(' ')
    parts.push(element('polyline', { class: `line s-${name}`, points: places }))
    for (const [cx, cy] of at) parts.push(element('circle', { cx, cy, r: 3, class: `f-${name}` }))
    ends.push({ name, y: at.at(-1)[1] })
  }
  return svg(title, [...parts, ...endLabels(ends)])
}

const extent = series => {
  const values = Object.values(series).flat().map(([, y]) => y)
  return [Math.min(...values), Math.max(...values)]
}

// Both charts are logarithmic upwards, from a round number to a round one.
function logarithmicLines(title, series, rest) {
  if (!series.ours) return undefined
  const [least, most] = extent(series), yTicks = decades(least, most)
  const y = logarithmic(yTicks[0], yTicks.at(-1), plot.bottom, plot.top)
  return lines(title, series, { y, yTicks, ...rest })
}

function cpuChart(fanout) {
  const cells = Object.entries(fanout).filter(([key]) => key.startsWith('64/'))
  const xs = cells.map(([key]) => Number(key.split('/')[1])), series = {}
  if (xs.length < 2) return undefined
  for (const name of Object.keys(labels))
    for (const [i, [, result]] of cells.entries())
      if (result[name]) (series[name] ??= []).push([xs[i], result[name].cost_ns.median / 1000])
  return logarithmicLines('Server CPU per delivery, by the number of waiters', series, {
    x: logarithmic(xs[0], xs.at(-1), plot.left + 12, plot.right - 12),
    xTicks: xs.filter(n => n < 15000).map(n => [n, readable(n)]),
    xTitle: 'waiters on one channel', yTitle: 'microseconds, logarithmic',
  })
}

function latencyChart({ delays_us: delays, waiters, rate }) {
  const percentiles = ['50', '75', '90', '95', '99', '99.9', '99.99']
  const place = p => -Math.log10(1 - Number(p) / 100) // as many nines
  const series = Object.fromEntries(Object.keys(labels).filter(name => delays[name]).map(name =>
    [name, percentiles.map(p => [place(p), delays[name][p] / 1000])]))
  const title = `Delay to the client: ${readable(waiters)} waiters, ${rate} messages a second`
  return logarithmicLines(title, series, {
    x: linear(place('50'), place('99.99'), plot.left + 12, plot.right - 12),
    xTicks: percentiles.filter(p => p !== '75' && p !== '95').map(p => [place(p), p + '%']),
    xTitle: 'percentile of all deliveries', yTitle: 'milliseconds, logarithmic',
  })
}

// ---- bars

function memoryChart(park) {
  const groups = [['one_channel', 'All on one channel, each its own client'],
    ['channel_each', 'A channel each']]
  if (!groups.every(([key]) => park[key].ours)) return undefined
  const most = Math.max(...groups.flatMap(([key]) => Object.values(park[key])))
  const x = linear(0, most, 0, 430), left = 130, parts = []
  let y = 62
  for (const [key, title] of groups) {
    parts.push(text(20, y, title, { kind: 'strong' }))
    y += 12
    for (const name of Object.keys(labels).filter(name => park[key][name] !== undefined)) {
      const bytes = park[key][name]
      parts.push(text(left - 10, y + 15, labels[name], { anchor: 'end' }))
      parts.push(element('rect', { x: left, y, width: Math.max(x(bytes), 1.5), height: 20, rx: 2,
        class: `f-${name}` }))
      parts.push(text(left + x(bytes) + 8, y + 15, `${readable(Math.round(bytes))} bytes`,
        { kind: name === 'ours' ? 'strong' : '' }))
      y += 28
    }
    y += 26
  }
  return svg('Memory of the server for each parked poll', parts, y - 16)
}

// By file name, as far as what they show was measured, of the library at least.
export function charts(s) {
  const all = {
    'memory.svg': s.park && memoryChart(s.park),
    'cpu.svg': s.fanout && cpuChart(s.fanout),
    'latency.svg': s.latency && latencyChart(s.latency),
  }
  return Object.fromEntries(Object.entries(all).filter(([, svg]) => svg))
}
