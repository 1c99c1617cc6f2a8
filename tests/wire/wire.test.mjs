// Replays tests/wire/*.txt against a real server: whole, byte by byte, and cut in two at every position.
// README.md beside this file says how a transcript is written and how to run one case; replay.mjs plays it.

import { readdirSync, readFileSync } from 'node:fs'
import os from 'node:os'
import path from 'node:path'
import { after, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { parseTranscript } from './transcript.mjs'

const here = path.dirname(fileURLToPath(import.meta.url))
const casesAtOnce = 24
const seed = Number(process.env.LONGPOLL_SEED ?? Math.floor(Math.random() * 2 ** 32))

// ----------------------------------------------------------------------------------- the workers

// Cases go to them in turn; each has servers of its own.
const workers = Array.from({ length: Math.min(4, os.cpus().length) }, () => {
  const worker = new Worker(new URL('replay.mjs', import.meta.url), { workerData: { seed } })
  const asked = new Map()
  let lastId = 0
  worker.on('message', ({ id, value, message, stack }) => {
    const { resolve, reject } = asked.get(id)
    asked.delete(id)
    if (message === undefined) resolve(value)
    else reject(Object.assign(new Error(message), { stack }))
  })
  worker.on('error', error => { for (const { reject } of asked.values()) reject(error) })

  return {
    end: () => worker.terminate(),
    ask: (request, what) => new Promise((resolve, reject) => {
      asked.set(++lastId, { resolve, reject })
      worker.postMessage({ id: lastId, request, ...what })
    }),
  }
})

const askAll = request => Promise.all(workers.map(worker => worker.ask(request)))

// ------------------------------------------------------------------------------------- the tests

for (const file of readdirSync(here).filter(name => name.endsWith('.txt')).sort()) {
  const { apart, cases } = parseTranscript(readFileSync(path.join(here, file), 'utf8'), `tests/wire/${file}`)
  const skip = apart && process.platform !== 'linux' && 'only on Linux has every client an address of its own'
  describe(file, { concurrency: casesAtOnce }, () => {
    cases.forEach(({ name }, nth) => {
      const worker = workers[nth % workers.length]
      it(`${path.basename(file, '.txt')}: ${name}`, { skip }, () => worker.ask('check', { file, name }))
    })
  })
}

describe('afterwards', () => {
  it('afterwards: every server ends when told, with status 0', () => askAll('stop'))
})

after(async () => {
  await askAll('stop').catch(() => {}) // a failure has been told, unless one case alone was wanted
  const counts = await askAll('count')
  const sum = what => counts.reduce((total, count) => total + count[what], 0)
  console.log(`wire: ${sum('cases')} cases passed all three ways, in ${sum('replays')} replays (seed ${seed})`)
  await Promise.all(workers.map(worker => worker.end()))
})
