// Prints the names of the tests in the files that it is given, a line `FILE<tab>TEST` each, and runs none of them:
// in place of node's test runner the files get one that only writes down what it is asked to run. A test inside
// a test is not known before it runs.

import { register } from 'node:module'
import path from 'node:path'
import { pathToFileURL } from 'node:url'

const asModule = text => `data:text/javascript,${encodeURIComponent(text)}`
const stub = asModule(`
  export const { test, it, describe, suite, before, after, beforeEach, afterEach, mock } = globalThis.runner
  export default test`)
register(asModule(`
  export const resolve = (name, context, next) =>
    name === 'node:test' ? { url: ${JSON.stringify(stub)}, shortCircuit: true } : next(name, context)`))

let file = '', around = ''
const test = name => { console.log(`${path.basename(file, '.test.mjs')}\t${around}${name}`) }
const suite = (name, ...rest) => {
  around = `${name} > `
  rest.at(-1)()
  around = ''
}
test.skip = test.todo = test.only = test
suite.skip = suite.todo = suite.only = suite
const nothing = () => {}
globalThis.runner = {
  test, it: test, describe: suite, suite, before: nothing, after: nothing, beforeEach: nothing, afterEach: nothing, mock: {},
}

for (file of process.argv.slice(2)) await import(pathToFileURL(path.resolve(file)))
process.exit()
