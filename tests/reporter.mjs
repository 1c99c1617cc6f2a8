// A reporter for node's test runner that speaks like the other tests here: a line `ok NAME`,
// `FAIL NAME ...` or `skip NAME: REASON` for each test, and the numbers in the last line.

const elsewhere = 'test name does not match pattern' // what node says of tests filtered out

export default async function* report (events) {
  let passed = 0, failed = 0, skipped = 0, top = ''
  for await (const { type, data } of events) {
    if (type === 'test:start' && data.nesting === 0) top = data.name
    if (type !== 'test:pass' && type !== 'test:fail') continue
    const { skip, todo, details } = data
    const name = data.nesting === 0 ? data.name : `${top} > ${data.name}`
    const error = details?.error
    if (skip === elsewhere) continue
    if (type === 'test:fail' && todo === undefined) {
      if (error?.failureType === 'subtestsFailed') continue // they have been told already
      failed++
      yield `FAIL ${name}\n${indent(error?.cause?.stack ?? error?.cause ?? error?.message)}\n`
    } else if (details?.type === 'suite') {
      continue
    } else if (skip !== undefined || todo !== undefined) {
      skipped++
      yield `skip ${name}: ${skip ?? todo}\n`
    } else {
      passed++
      yield `ok ${name}\n`
    }
  }
  yield `${passed} passed, ${failed} failed, ${skipped} skipped\n`
}

function indent (text) {
  return String(text).split('\n').slice(0, 25).map(line => '     ' + line).join('\n')
}
