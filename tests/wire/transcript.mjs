// The plain text of tests/wire/*.txt, as README.md there describes it, made into steps; and replies
// held against what is written. Pure: no sockets, no clock but for the Date of a reply.

/** What a reply, or the lack of one, has wrong. The message is for people. */
export class Mismatch extends Error {
  constructor(message, line) {
    super(message)
    this.line = line
  }
}

// ---------------------------------------------------------------------------------------- text

const escapes = { r: '\r', n: '\n', t: '\t', 0: '\0', s: ' ', '\\': '\\', '<': '<' }

const holes = {
  id: '[0-9a-f]{16}-[0-9]+',
  epoch: '[0-9a-f]{16}',
  time: '[0-9]{10}\\.[0-9]{6}',
  n: '[0-9]+',
  text: '(?:[^"\\\\]|\\\\.)*',
  any: '.*',
}

/** A line's text as parts: {bytes}, {name}, {count, parts} and, in replies, {hole, name}. */
function parseText(text, inReply, fail) {
  let at = 0
  return sequence(false)

  function sequence(nested) {
    const parts = []
    const literal = string => {
      const last = parts.at(-1)
      const bytes = Buffer.from(string)
      if (last?.bytes) last.bytes = Buffer.concat([last.bytes, bytes])
      else parts.push({ bytes })
    }
    while (at < text.length) {
      const char = String.fromCodePoint(text.codePointAt(at))
      at += char.length
      if (char === '}' && nested) return parts
      if (char === '\\') escape(parts, literal)
      else if (char === '<' && inReply) parts.push(hole())
      else literal(char)
    }
    if (nested) fail('a \\{ without its }')
    return parts
  }

  function escape(parts, literal) {
    const char = text[at++]
    if (char === 'x') {
      const hex = text.slice(at, at + 2)
      if (!/^[0-9a-fA-F]{2}$/.test(hex)) fail('\\x wants two hex digits')
      at += 2
      const last = parts.at(-1)
      const byte = Buffer.from(hex, 'hex')
      if (last?.bytes) last.bytes = Buffer.concat([last.bytes, byte])
      else parts.push({ bytes: byte })
    } else if (char === '{') {
      const head = /^([0-9]+)\*|^([A-Za-z][A-Za-z0-9]*)\}/.exec(text.slice(at))
      if (!head) fail('\\{ wants a count and *, or a name and }')
      at += head[0].length
      parts.push(head[1] ? { count: Number(head[1]), parts: sequence(true) } : { name: head[2] })
    } else if (char in escapes) {
      literal(escapes[char])
    } else {
      fail(`no such escape: \\${char ?? ''}`)
    }
  }

  function hole() {
    const found = /^([a-z]+)(?::([A-Za-z][A-Za-z0-9]*))?>/.exec(text.slice(at))
    if (!found || !(found[1] in holes)) fail('no such placeholder; a plain < is written \\<')
    at += found[0].length
    return { hole: found[1], name: found[2] }
  }
}

/** The bytes that parts stand for. */
export function render(parts, names) {
  return Buffer.concat(parts.map(part => {
    if (part.bytes) return part.bytes
    if (part.parts) {
      const once = render(part.parts, names)
      return Buffer.alloc(once.length * part.count, once)
    }
    if (!(part.name in names)) throw new Mismatch(`\\{${part.name}} has not been caught`)
    return Buffer.from(names[part.name], 'latin1')
  }))
}

const quoted = bytes => bytes.toString('latin1').replace(/[^A-Za-z0-9_ ]/g, '\\$&')

/** Whether text (latin1, a character a byte) is what parts say; catches into names if so. */
function matches(parts, text, names) {
  const caught = new Set()
  const source = parts.map(part => {
    if (caught.has(part.name)) return `\\k<${part.name}>`
    if (!part.hole) return quoted(render([part], names))
    if (!part.name) return `(?:${holes[part.hole]})`
    caught.add(part.name)
    return `(?<${part.name}>${holes[part.hole]})`
  })
  const found = new RegExp(`^${source.join('')}$`, 's').exec(text)
  if (found) Object.assign(names, found.groups)
  return found !== null
}

// ---------------------------------------------------------------------------------- transcripts

/**
 * {args, apart, cuts, cases: [{name, line, steps}]}. A step is {kind, line} and by kind:
 * send {parts}, reply {status, fields, body, optional, text}, publish {channel, json},
 * waiters {count}, quiet {ms}, on {connection}; close, either, half-close, reset, settle.
 */
export function parseTranscript(text, file) {
  const transcript = { args: ['--no-limits'], apart: false, cuts: Infinity, cases: [] }
  let steps = null
  let number = 0
  let block = null // what the previous line may be continued by: a send, or a reply

  const fail = message => { throw new Error(`${file}:${number}: ${message}`) }
  const add = step => {
    if (!steps) fail('a case begins with ==')
    steps.push({ ...step, line: number })
    return steps.at(-1)
  }

  for (const line of text.split('\n')) {
    number++
    if (line.startsWith('#')) continue
    if (line.trim() === '') { if (block?.kind === 'send') block = null; continue }
    if (line.startsWith('== ')) begin(line.slice(3).trim())
    else if (/^>( |$)/.test(line)) sent(line.slice(2))
    else if (/^<\??( |$)/.test(line)) expected(line)
    else directive(line.trim())
  }
  for (const { name, steps, line } of transcript.cases) {
    number = line
    if (steps.length === 0) fail(`nothing happens in "${name}"`)
  }
  return transcript

  function begin(name) {
    if (transcript.cases.some(other => other.name === name)) fail(`a second case "${name}"`)
    transcript.cases.push({ name, line: number, steps: steps = [] })
    block = null
  }

  function sent(line) {
    if (block?.kind !== 'send') block = add({ kind: 'send', parts: [] })
    const backslashes = /\\*$/.exec(line)[0].length
    const open = backslashes % 2 === 1
    block.parts.push(...parseText(open ? line.slice(0, -1) : line, false, fail))
    if (!open) block.parts.push({ bytes: Buffer.from('\r\n') })
  }

  function expected(line) {
    const optional = line.startsWith('<?')
    const content = line.replace(/^<\?? ?/, '')
    if (content.startsWith('HTTP/')) {
      const [version, ...rest] = content.split(' ')
      const status = rest.join(' ').split(' | ').map(one => parseText(`${version} ${one}`, true, fail))
      block = add({ kind: 'reply', status, fields: [], body: null, optional, text: [content] })
      return
    }
    if (block?.kind !== 'reply') fail('a reply begins with its status line')
    block.text.push(content)
    if (block.body) {
      if (block.body.none) fail('nothing goes with <none>')
      if (block.body.parts.length) block.body.parts.push({ bytes: Buffer.from('\n') })
      if (content === '<none>') block.body = { none: true }
      else block.body.parts.push(...parseText(content, true, fail))
    } else if (content === '') {
      block.body = { parts: [] }
    } else {
      const field = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): (.*)$/.exec(content)
      if (!field) fail('a field is NAME: VALUE')
      const values = field[2].split(' | ')
        .map(value => (value === '<absent>' ? null : parseText(value, true, fail)))
      block.fields.push({ name: field[1], values, text: content })
    }
  }

  function directive(line) {
    block = null
    const [word, ...rest] = line.split(' ')
    if (word === 'server:') {
      if (steps) fail('options come before the first case')
      transcript.args = rest
    } else if (line === 'clients: apart') {
      if (steps) fail('options come before the first case')
      transcript.apart = true
    } else if (word === 'cuts:' && /^[0-9]+$/.test(rest[0])) {
      if (steps) fail('options come before the first case')
      transcript.cuts = Number(rest[0])
    } else if (['close', 'either', 'half-close', 'reset', 'settle'].includes(line)) {
      add({ kind: line })
    } else if (word === 'publish' && rest.length >= 2) {
      add({ kind: 'publish', channel: parseText(rest[0], false, fail),
            json: parseText(rest.slice(1).join(' '), false, fail) })
    } else if (word === 'waiters' && /^[0-9]+$/.test(rest[0])) {
      add({ kind: 'waiters', count: Number(rest[0]) })
    } else if (word === 'quiet' && /^[0-9]+$/.test(rest[0])) {
      add({ kind: 'quiet', ms: Number(rest[0]) })
    } else if (word === 'on' && /^[A-Z]$/.test(rest[0])) {
      add({ kind: 'on', connection: rest[0] })
    } else {
      fail(`not a directive: ${line}`)
    }
  }
}

// -------------------------------------------------------------------------------------- replies

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
const date = new RegExp('^(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} ' +
  '(Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT$')

/**
 * The first reply in bytes: {status, head, fields, body, size, text}, or null while it is not all there.
 * bodyless: a reply to HEAD. Throws Mismatch for one of bad form.
 */
export function parseReply(bytes, bodyless) {
  const end = bytes.indexOf('\r\n\r\n')
  if (end < 0) {
    const start = bytes.toString('latin1', 0, 5)
    if (!'HTTP/'.startsWith(start)) throw new Mismatch(`not a reply: ${show(bytes.toString('latin1'), true)}`)
    return null
  }
  const [head, ...lines] = bytes.toString('latin1', 0, end).split('\r\n')
  const status = /^HTTP\/1\.[01] ([1-5][0-9]{2}) [\x20-\x7e]+$/.exec(head)
  if (!status) throw new Mismatch(`not a status line: ${JSON.stringify(head)}`)

  const fields = new Map()
  for (const line of lines) {
    const colon = line.indexOf(': ')
    const name = line.slice(0, colon)
    const value = line.slice(colon + 2)
    if (colon < 0 || !token.test(name) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(value) || value !== value.trim())
      throw new Mismatch(`not a field: ${JSON.stringify(line)}`)
    if (fields.has(name.toLowerCase())) throw new Mismatch(`the field ${name} stands there twice`)
    fields.set(name.toLowerCase(), value)
  }

  const reply = { status: Number(status[1]), head, fields, body: '', bodyless, size: end + 4 }
  const empty = bodyless || reply.status < 200 || reply.status === 204 || reply.status === 304
  const length = fields.get('content-length')
  if (length !== undefined && !/^(0|[1-9][0-9]*)$/.test(length))
    throw new Mismatch(`Content-Length: ${JSON.stringify(length)}`)
  if (!empty) {
    reply.size += Number(length ?? 0)
    if (bytes.length < reply.size) return null
    reply.body = bytes.toString('latin1', end + 4, reply.size)
  }
  reply.text = bytes.toString('latin1', 0, reply.size)
  return reply
}

/** What every reply must satisfy: a list of what it does not. */
export function violations(reply) {
  const { status, fields, body, bodyless } = reply
  const wrong = []
  const want = (good, message) => { if (!good) wrong.push(message) }
  const is = (name, value) => want(fields.get(name.toLowerCase()) === value, `${name} must be ${value}`)

  want(!fields.has('transfer-encoding'), 'never Transfer-Encoding')
  if (status < 200 || status === 204 || status === 304) {
    want(!fields.has('content-length'), `no Content-Length with ${status} (RFC 9110 8.6)`)
    if (status < 200) return wrong
  } else {
    want(fields.has('content-length'), 'Content-Length must be there')
  }
  want(date.test(fields.get('date')) && Math.abs(Date.parse(fields.get('date')) - Date.now()) < 60_000,
       'Date must be there, and be now')
  is('Cache-Control', fields.has('etag') ? 'no-cache' : 'no-store')
  is('X-Content-Type-Options', 'nosniff')
  want([undefined, 'close', 'keep-alive'].includes(fields.get('connection')), 'Connection: close or keep-alive')

  if (status >= 400) {
    is('Content-Type', 'application/json')
    if (!bodyless) want(isError(body), 'an error is exactly {"error":"..."}')
    if (status === 401) want(fields.has('www-authenticate'), 'WWW-Authenticate must be there')
    if (status === 405) want(fields.has('allow'), 'Allow must be there')
    if (status === 429) want(/^[0-9]+$/.test(fields.get('retry-after')), 'Retry-After must be there')
  }
  return wrong
}

function isError(body) {
  try {
    const text = Buffer.from(body, 'latin1').toString()
    const { error } = JSON.parse(text)
    return typeof error === 'string' && error !== '' && /^\{"error":".*"\}$/.test(text) &&
      Object.keys(JSON.parse(text)).length === 1
  } catch {
    return false
  }
}

/** Whether a reply has a status line that the step allows. */
export function startsAs(step, reply, names) {
  return step.status.some(parts => matches(parts, reply.head, names))
}

/** Holds a reply against a step of kind reply: a list of what differs, with -, + and blank before the lines. */
export function differences(step, reply, names) {
  const wrong = []
  if (!startsAs(step, reply, names))
    wrong.push(`- ${step.text[0]}`, `+ ${reply.head}`)

  for (const { name, values, text } of step.fields) {
    const got = reply.fields.get(name.toLowerCase())
    const good = values.some(parts => (parts ? got !== undefined && matches(parts, got, names) : got === undefined))
    if (!good) wrong.push(`- ${text}`, got === undefined ? '+ (no such field)' : `+ ${name}: ${got}`)
  }

  if (step.body && !step.body.none && !matches(step.body.parts, reply.body, names)) {
    const text = step.text.slice(step.text.indexOf('') + 1).join('\n')
    wrong.push(`- ${show(text)}`, `+ ${show(reply.body, true)}`)
  }
  for (const violation of violations(reply)) wrong.push(`! ${violation}`)
  return wrong
}

/** The reply without what differs from one replay to the next. */
export function normalised(reply, names) {
  return reply.text
    .replace(/^Date: .*$/m, 'Date: <date>')
    .replaceAll(names.channel, '<channel>')
    .replace(/\b[0-9a-f]{16}-/g, '<epoch>-')
    .replace(/\b[0-9]{10}\.[0-9]{6}\b/g, '<time>')
    .replace(/"age":[0-9]+\.[0-9]{6}\b/g, '"age":<age>')
}

/** Text for a person: long ones cut in the middle, odd bytes escaped. */
export function show(text, latin1 = false, most = 600) {
  let readable = latin1 ? Buffer.from(text, 'latin1').toString() : text
  if (readable.length > most)
    readable = `${readable.slice(0, most / 2)} ...(${readable.length} characters)... ${readable.slice(-most / 2)}`
  return readable
    .replace(/\\/g, '\\\\')
    .replace(/\r/g, '\\r')
    .replace(/\n/g, '\\n')
    .replace(/\t/g, '\\t')
    // eslint-disable-next-line no-control-regex
    .replace(/[\0-\x1f\x7f\ufffd]/g, char => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`)
}
