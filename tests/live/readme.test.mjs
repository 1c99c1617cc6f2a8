/* What README.md tells its reader to type, program and configure is taken from it and done, in a copy of what a user
   has, build/readme. Changed are ports, so that any number of servers fit, and paths that a test may not touch. */

import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import net from 'node:net';
import path from 'node:path';
import { before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { missing, shipped } from './fronts.mjs';
import { DEMO, Server, demo, freePort, live, run, sleep, until, which } from './harness.mjs';
import { skip as noRedis } from './redis.mjs';

const root = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '../..');
const home = path.join(root, 'build/readme');
const readme = readFileSync(path.join(root, 'README.md'), 'utf8');

/* ---- what it says ------------------------------------------------------- */

const blocks = [...readme.matchAll(/^```(\w*)\n([^]*?)^```$/gm)].map(([, language, text]) => ({ language, text, taken: false }));
const prose = readme.replace(/^```[^]*?^```$/gm, '');
const spans = [...prose.matchAll(/`([^`\n]+)`/g)].map(([, text]) => text);

/* The one block of that language that has these words in it. */
function block(language, words) {
  const found = blocks.filter((one) => one.language === language && one.text.includes(words));
  if (found.length !== 1) throw new Error(`README.md has ${found.length} blocks of ${language} with ${words} in them`);
  found[0].taken = true;
  return found[0].text;
}

const build = block('sh', 'make run');
const program = block('c', 'lp_publish(server');
const site = block('c', 'lp_reply_file');
const compile = block('sh', './hello');
const policy = block('c', 'channel_is_known');
const hello = block('sh', 'localhost:8081');
const poll = block('sh', "'localhost:8080/api/poll/news'");
const publish = block('sh', `'{"text":"hello"}'`);
const published = block('json', '"message_id":');
const answered = block('json', '"messages"');
const again = block('sh', '?last_id=bf72');
const stream = block('sh', '/api/stream/');
const streamed = block('', 'data: {');
const array = block('sh', '[{"text"');
const arrayed = block('json', '"message_ids"');
const administered = block('sh', '--admin-token');
const states = block('sh', '/api/channels?limit');
const state = block('json', '"first_id"');
const handed = block('sh', '/api/receipts/');
const receipts = block('json', '"delivered_to"');
const deletion = block('sh', '-X DELETE');
const handler = block('c', 'lp_json_get_string');
const script = block('js', 'LongPollingClient');
const more = block('js', 'const options');
const maker = block('js', 'createHmac');
const secret = block('sh', '--token-secret');
const shown = block('sh', 'access_token=');
const install = block('sh', 'make install');
const crowd = block('sh', 'client-$n');
const trusting = block('sh', 'build/server --trust');
const several = block('sh', '--redis');
block('', 'primary :6379');             /* the picture */
const nginx = block('nginx', 'proxy_pass');
const metrics = block('sh', '/metrics');
const scraping = block('yaml', 'scrape_configs');
const logged = block('', '- - [');

test('every block of README.md is tried here', () => {
  assert.deepEqual(blocks.filter(({ taken }) => !taken), []);
});

/* ---- how it is done ------------------------------------------------------ */

before(() => {
  rmSync(home, { recursive: true, force: true });
  mkdirSync(home, { recursive: true });
  for (const name of ['Makefile', 'longpoll.h', 'demo']) cpSync(path.join(root, name), path.join(home, name), { recursive: true });
});

/* Replace what must be there. */
function change(text, from, to) {
  assert.ok(text.includes(from), `${from} in ${text}`);
  return text.replaceAll(from, to);
}

const { MAKEFLAGS, MFLAGS, MAKELEVEL, ...clean } = process.env;

/* Commands as a person would type them, in a group of processes that ends with the test. */
const groups = new Set();
const endGroup = (pid) => { groups.delete(pid); try { process.kill(-pid, 'SIGKILL'); } catch { /* it has ended */ } };
process.on('exit', () => groups.forEach(endGroup));

function type(t, text, { cwd = home, env = {} } = {}) {
  const shell = run(['sh', '-ec', text], { cwd, env: { ...clean, ...env }, detached: true });
  groups.add(shell.pid);
  t.after(() => { endGroup(shell.pid); return shell.ended; });
  return shell;
}

async function typed(t, text, options) {
  const done = await type(t, text, options).ended;
  assert.equal(done.code, 0, `${text}\n${done.stdout}${done.stderr}`);
  return done.stdout;
}

/* curl shows how far it is on a stderr that is no terminal. */
const quiet = (text) => change(text, 'curl ', 'curl -sS ');
const to = (server, text) => quiet(change(text, 'localhost:8080', `localhost:${server.port}`));

/* Types of values, by their names and in their order. */
const shape = (value) => JSON.stringify(value, (_, inner) => (typeof inner === 'object' ? inner : typeof inner));

/* A server for a port that a command has. */
const onPort = (port) => Object.assign(new Server(), { port, reach: '127.0.0.1', agent: new http.Agent() });

/* ---- the tests ----------------------------------------------------------- */

test('the demo is built and run', async (t) => {
  const making = type(t, change(build, 'make run', 'make run ARGS="--port 0"'));
  const said = await until(() => /^listening on (http:.*)\n/m.exec(making.stdout) || making.code !== undefined, 'the demo', 120_000);
  assert.ok(said[1], making.stdout + making.stderr);
  assert.equal(making.stderr, '');
  assert.match(await (await fetch(said[1])).text(), /^<!doctype html>/i);
  const help = await typed(t, spans.find((span) => span === 'build/server --help'));
  assert.match(help, /--port .*\[8080\]/);
});

/* The first program in a language: it serves, and it says why it cannot. */
async function first(t, text, name, command) {
  const port = await freePort();
  writeFileSync(path.join(home, name), change(text, '8081', String(port)));
  const running = type(t, command);
  const ask = await until(async () => {
    const asked = await type(t, quiet(change(hello, '8081', String(port)))).ended;
    return running.code !== undefined || (asked.code === 0 && asked.stdout);
  }, 'the first program', 60_000);
  assert.equal(running.stderr, '');
  const { messages } = JSON.parse(ask);
  assert.deepEqual(messages.map((message) => message.text), ['hello']);
  const second = await type(t, './hello').ended;
  assert.deepEqual([second.code, second.stdout, second.stderr], [1, '', 'hello: Address already in use\n']);
}

test('the first program, in C', (t) => first(t, program, 'hello.c', compile));

test('the first program, with a policy', async (t) => {
  const [hook, setting] = policy.split('\ncfg.');
  const known = '#include <string.h>\n\nstatic int channel_is_known(void *ctx, lp_slice channel)\n' +
    '{\n    return !ctx && channel.length == 4 && memcmp(channel.bytes, "news", 4) == 0;\n}\n';
  const hooked = change(program, 'int main', `${known}\n${hook}\nint main`);
  await first(t, change(hooked, 'lp_config cfg = {0};', `lp_config cfg = {0};\n    cfg.${setting}`), 'hello.c', compile);
});

test('the first program, in C++', async (t) => {
  const config = spans.find((span) => span.startsWith('lp_config cfg{'));
  const command = spans.find((span) => span.startsWith('c++ '));
  assert.ok(config && command);
  await first(t, change(program, 'lp_config cfg = {0};', config), 'hello.cpp', `${command}\n./hello`);
});

test('a server of its own pages', async (t) => {
  const port = await freePort();
  mkdirSync(path.join(home, 'www'), { recursive: true });
  writeFileSync(path.join(home, 'www/index.html'), 'the page');
  writeFileSync(path.join(home, 'site.c'), change(site, '8082', String(port)));
  await typed(t, change(change(compile, 'hello', 'site'), './site\n', ''));
  type(t, './site');
  const server = onPort(port);
  const page = await until(() => server.request('GET', '/').catch(() => null), 'the page');
  assert.deepEqual([page.text, page.headers['content-type']], ['the page', 'text/html; charset=utf-8']);
  assert.equal((await server.request('GET', '/', { headers: { 'If-None-Match': page.headers.etag } })).status, 304);
  assert.equal((await server.request('GET', '/../site.c')).status, 404);
  assert.equal((await server.request('GET', '/api/poll/a?timeout=0')).status, 200);
});

test('the handler that reads JSON and answers with some', async (t) => {
  const port = await freePort();
  const route = '    lp_on(server, "POST", "/order", order, NULL);\n';
  let text = change(change(program, '8081', String(port)), 'int main', `${handler}\nint main`);
  text = change(text, '    lp_run(', `${route}    lp_run(`);
  writeFileSync(path.join(home, 'hello.c'), text);
  const running = type(t, compile);
  const server = onPort(port);
  const ask = (body) => server.request('POST', '/order', { body });
  const order = { customer: { name: 'Ada \u{1f600}' }, items: [{ count: 100 }] };
  const answer = await until(() => ask(JSON.stringify(order).replace('100', '1e2')).catch(() => running.code), 'the program', 60_000);
  assert.deepEqual([answer.status, answer.json], [200, { customer: 'Ada \u{1f600}', count: 100 }]);
  for (const body of ['{', '{}', JSON.stringify({ ...order, items: [{ count: 1.5 }] })]) assert.equal((await ask(body)).status, 400, body);
});

test('the figures, what Prometheus is told, and the access log', async (t) => {
  const port = await freePort();
  const server = type(t, `exec '${DEMO}' --port ${port} --log`);
  const second = await live(t, { log: 'json' });
  await until(() => server.stdout.includes('listening'), 'the demo');
  assert.match(await typed(t, to({ port }, metrics)), /^longpoll_connections 1$/m);
  const promtool = which('promtool');
  writeFileSync(path.join(home, 'prometheus.yml'), scraping);
  if (promtool) await typed(t, `${promtool} check config prometheus.yml`);

  /* The lines that it shows are of the form of those that there are. */
  const [common, json] = logged.trimEnd().split('\n');
  const form = (line) => line.replace(/ "GET \S+ /, ' "GET PATH ').replace(/[A-Z][a-z]{2}\//, 'Mon/').replace(/\d+/g, 'N');
  const [, line] = await until(() => server.stdout.split('\n').length > 2 && server.stdout.split('\n'), 'a line');
  assert.equal(form(line), form(common));
  await second.request('GET', '/healthz');
  const [, object] = await until(() => second.process.stdout.split('\n').length > 2 && second.process.stdout.split('\n'), 'a line');
  assert.equal(shape(JSON.parse(object)), shape(JSON.parse(json)));
});

test('the API by curl', async (t) => {
  const server = await demo(t);
  const waiting = type(t, to(server, poll));
  await sleep(300);
  assert.equal(waiting.stdout, '');
  const told = JSON.parse(await typed(t, to(server, publish)));
  assert.equal(shape(told), shape(JSON.parse(published)));
  assert.equal(told.waiters, 1);
  await waiting.ended;
  const reply = JSON.parse(waiting.stdout);
  assert.equal(shape(reply), shape(JSON.parse(answered)));
  assert.equal(reply.messages[0].text, 'hello');

  const between = JSON.parse(await typed(t, to(server, publish)));
  const next = JSON.parse(await typed(t, change(to(server, again), 'bf724f6a4bb1f93d-1', reply.last_id)));
  assert.deepEqual(next.messages.map(({ id }) => id), [between.message_id]);
  assert.equal(next.reset, undefined);
});

test('a stream by curl', async (t) => {
  const server = await demo(t);
  const reading = type(t, to(server, stream));
  await until(() => reading.stdout.includes('retry: '), 'the stream');
  await typed(t, to(server, publish));
  const event = (text) => {
    const [, id, data] = /^id: (.*)\ndata: (.*)$/m.exec(text);
    return [id.replace(/[0-9a-f]{16}/, 'EPOCH'), shape(JSON.parse(data))];
  };
  const [, said] = await until(() => /^id: .*\n\n([^]*\n)\n$/m.exec(reading.stdout), 'the event');
  assert.deepEqual(event(said), event(streamed));
});

test('channels and receipts by curl', async (t) => {
  const words = administered.trim().split(/\s+/);
  assert.equal(words.shift(), 'build/server');
  const options = {};
  for (let i = 0; i < words.length; i += 2) options[words[i].replace('--', '')] = words[i + 1];
  const server = await demo(t, options);
  const first = JSON.parse(await typed(t, to(server, publish))).message_id;
  const told = JSON.parse(await typed(t, to(server, array)));
  assert.equal(shape(told), shape(JSON.parse(arrayed)));

  const [one, all] = (await typed(t, to(server, states).replace(/\n/, '; echo\n'))).split('\n').map((text) => JSON.parse(text));
  assert.equal(shape(one), shape(JSON.parse(state)));
  assert.deepEqual([one.held, one.first_id, one.last_id], [3, first, told.message_ids[1]]);
  assert.deepEqual(all.channels.map(({ channel }) => channel), ['news']);

  const asked = change(to(server, handed), 'bf724f6a4bb1f93d-1', first).replace(/\n/, ' >/dev/null\n');
  assert.deepEqual(JSON.parse(await typed(t, asked)), JSON.parse(receipts));

  assert.deepEqual(JSON.parse(await typed(t, to(server, deletion))), { status: 'deleted' });
  const after = JSON.parse(await typed(t, change(to(server, again), 'bf724f6a4bb1f93d-1', first)));
  assert.deepEqual([after.messages, after.reset], [[], { news: 'epoch' }]);
});

test('the JavaScript client', async (t) => {
  const server = await demo(t);
  const dir = path.join(home, 'demo/client');
  writeFileSync(path.join(dir, 'snippet.js'), change(script, '8080', String(server.port)));
  const client = type(t, 'exec node snippet.js', { cwd: dir });
  await until(async () => client.stdout || client.code !== undefined || !await server.say('news', { text: 'hello' }), 'a message');
  assert.match(client.stdout, /^news \{[^}]*text: 'hello'/, client.stderr);
});

test('the JavaScript client by a stream, with a token that is fetched', async (t) => {
  const server = await demo(t, { token: 'secret' });
  const tokens = http.createServer((request, response) => response.end('secret')).listen(0, '127.0.0.1');
  t.after(() => { tokens.close(); tokens.closeAllConnections(); });
  await new Promise((done) => { tokens.once('listening', done); });
  const dir = path.join(home, 'demo/client');
  writeFileSync(path.join(dir, 'more.js'), `import { LongPollingClient } from './longpoll.js';
    ${change(more, '/token', `http://127.0.0.1:${tokens.address().port}/`)}
    const asked = [];
    const watched = (url, init) => { asked.push(url.split('/')[4]); return fetch(url, init); };
    const client = new LongPollingClient('${server.url}', 'news', { ...options, fetch: watched });
    client.on('message', ({ text }) => { console.log(text, asked.join()); client.stop(); });
    client.on('error', console.error);
    client.on('connected', () => setTimeout(() => client.publish('news', { text: 'hello' }), 300));
    client.start();`);
  const client = await type(t, 'exec node more.js', { cwd: dir }).ended;
  assert.deepEqual([client.stdout, client.stderr], ['hello poll,stream,publish\n', '']);
});

test('a signed token, made and shown', async (t) => {
  const port = await freePort();
  writeFileSync(path.join(home, 'token.mjs'), maker);
  const started = change(secret, 'build/server', `${DEMO} --port ${port}`);
  const wait = `until curl -s localhost:${port}/ >/dev/null; do sleep 0.1; done`;
  const said = await typed(t, `${started}${wait}\n${quiet(change(shown, 'localhost:8080', `localhost:${port}`))}
curl -sS localhost:${port}/api/poll/news
curl -sS -H "Authorization: Bearer $(node token.mjs)" localhost:${port}/api/poll/other
kill $!
wait $! || true`);
  const all = said.replace(/^listening .*\n/, '').replaceAll('}{', '}\n{').trim().split('\n').map((line) => JSON.parse(line));
  assert.deepEqual(all.map(({ status, error }) => status ?? error),
    ['timeout', 'timeout', 'Unauthorized', 'Token does not cover this']);
});

test('make install, and a program by pkg-config', { skip: !which('pkg-config') && 'pkg-config is not installed' }, async (t) => {
  const [first, ...rest] = install.split('\n');
  const prefix = path.join(home, 'prefix');
  await typed(t, change(first, '/usr/local', prefix));
  const elsewhere = path.join(home, 'elsewhere');
  mkdirSync(elsewhere, { recursive: true });
  writeFileSync(path.join(elsewhere, 'hello.c'), program);
  await typed(t, rest.join('\n'), { cwd: elsewhere, env: { PKG_CONFIG_PATH: path.join(prefix, 'lib/pkgconfig') } });
  assert.ok(existsSync(path.join(elsewhere, 'hello')));
});

test('a hundred clients behind one address, by their names', async (t) => {
  const server = await demo(t);
  const all = async (text) => {
    const crowded = type(t, to(server, text));
    await until(async () => crowded.code !== undefined || !await server.say('news', { text: 'x' }) || sleep(50), 'all of them');
    assert.deepEqual([crowded.code, crowded.stderr], [0, '']);
    const count = (part) => crowded.stdout.split(part).length - 1;
    return [count('"status":"messages"'), count('"error":"Too many connections from client"')];
  };
  assert.deepEqual(await all(crowd), [100, 0]);
  const [, refused] = await all(crowd.replace(/-H "X-Client-ID[^"]*" /, ''));
  assert.ok(refused > 0, 'the name is what it takes');
});

/* ---- behind a proxy ------------------------------------------------------ */

const nginxPath = which('nginx');
const skip = !nginxPath && 'nginx is not installed';

/* The README's server and location, with nginx on a port of its own. */
async function proxied(t, listen = '') {
  const words = trusting.trim().split(/\s+/);
  assert.equal(words[0], 'build/server');
  const options = {};
  for (let i = 1; i < words.length; i += 2) options[words[i].replace('--', '')] = words[i + 1];
  const server = await demo(t, options);
  const port = await freePort();
  const dir = path.join(home, `nginx-${port}`);
  mkdirSync(dir, { recursive: true });
  writeFileSync(path.join(dir, 'nginx.conf'), `
daemon off; master_process off; pid ${dir}/pid; error_log ${dir}/error.log;
events { worker_connections 256; }
http {
access_log off; client_body_temp_path ${dir}/body; proxy_temp_path ${dir}/proxy;
fastcgi_temp_path ${dir}/fastcgi; uwsgi_temp_path ${dir}/uwsgi; scgi_temp_path ${dir}/scgi;
server {
listen 127.0.0.1:${port} ${listen};
${change(nginx, '127.0.0.1:8080', `127.0.0.1:${server.port}`)}
}
}
`);
  const front = run([nginxPath, '-p', dir, '-e', `${dir}/error.log`, '-c', `${dir}/nginx.conf`]);
  t.after(() => front.end());
  await until(() => front.code !== undefined || new Promise((done) => {
    const probe = net.connect(port, '127.0.0.1', () => { probe.destroy(); done(true); });
    probe.on('error', () => done(false));
  }), 'nginx');
  assert.equal(front.code, undefined, front.stderr);
  const through = onPort(port);
  t.after(() => through.agent.destroy());
  return { server, through };
}

test('nginx in front, and a name of its own', { skip }, async (t) => {
  const { server, through } = await proxied(t);
  const headers = { Host: 'chat.example.org' };
  const waiting = through.poll('news', { last_id: 'now' }, headers);
  await until(async () => {
    const said = await through.publish('news', { text: 'hello' }, headers);
    assert.equal(said.status, 200, said.text);
    return said.json.waiters;
  }, 'a poll');
  const reply = await waiting;
  assert.equal(reply.status, 200, reply.text);
  assert.equal(reply.json.messages[0].text, 'hello');

  /* Clients are counted by their own addresses: six of one, and six of another. */
  const polls = ['127.0.0.5', '127.0.0.6'].flatMap((from) =>
    Array.from({ length: 7 }, () => through.poll('count', { last_id: 'now', timeout: 20 }, headers, { from, agent: new http.Agent() })));
  await Promise.race(polls);
  await until(async () => (await server.say('count', {})).waiters || sleep(20), 'polls');
  const statuses = (await Promise.all(polls)).map(({ status }) => status);
  assert.deepEqual(statuses.sort(), [...Array(12).fill(200), 429, 429]);
});

test('a name without a proxy', async (t) => {
  const option = spans.find((span) => span.startsWith('--hosts '));
  const [, name] = option.split(' ');
  const without = await demo(t);
  (await without.poll('news', { timeout: 0 }, { Host: name })).refuses(421);
  const server = await demo(t, { hosts: name });
  assert.equal((await server.poll('news', { timeout: 0 }, { Host: name })).status, 200);
});

test('HTTP/2 at the proxy: more polls than a browser has connections', { skip }, async (t) => {
  const listen = spans.find((span) => /^listen .*http2;$/.test(span));
  const { server, through } = await proxied(t, listen.replace('listen 443 ssl', '').replace(';', ''));
  const session = http2.connect(`http://127.0.0.1:${through.port}`);
  t.after(() => session.destroy());
  let text = '';
  let ended = 0;
  for (let n = 0; n < 12; n += 1) {
    const stream = session.request({ ':path': '/api/poll/news?last_id=now&timeout=20', 'x-client-id': `tab-${n}` });
    stream.setEncoding('utf8').on('data', (part) => { text += part; }).on('end', () => { ended += 1; });
  }
  let woken = 0;
  await until(async () => { woken += (await server.say('news', { text: 'hello' })).waiters; return ended === 12; }, '12 replies');
  assert.equal(woken, 12);
  assert.equal(text.split('"text":"hello"').length - 1, 12);
});

/* ---- many instances ------------------------------------------------------ */

test('three instances over Redis, behind HAProxy', { skip: noRedis || missing('haproxy') }, async (t) => {
  const ports = [];
  while (ports.length < 5) ports.push(await freePort());
  const [redis, entry, ...own] = ports;
  const config = path.join(home, 'demo/haproxy.cfg');
  writeFileSync(config, shipped('haproxy.cfg', entry, own));
  let text = change(several, '6379', String(redis));
  text = change(text, 'redis-server ', `redis-server --port ${redis} --save '' --dir "$(mktemp -d ./redis-XXXXXX)" `);
  text = change(text, '808$n', `$(echo ${own.join(' ')} | cut -d' ' -f$n)`);
  const all = type(t, change(text, 'build/server', DEMO));
  const front = onPort(entry);
  t.after(() => front.agent.destroy());
  await until(async () => all.code !== undefined || ((await front.publish('news', { text: 'hello' }).catch(() => null))?.status === 200), 'it to publish');
  assert.equal(all.code, undefined, all.stderr);
  for (const port of own) {
    const server = onPort(port);
    t.after(() => server.agent.destroy());
    const ask = () => server.poll('news', { timeout: 0 }).catch(() => null);
    const reply = await until(async () => { const answer = await ask(); return answer?.status === 200 && answer.json; }, 'an instance');
    assert.deepEqual([reply.messages.map((message) => message.text), reply.reset], [['hello'], undefined]);
  }
});

/* ---- what stands between the lines --------------------------------------- */

test('commands in the text: each target, option and link is there', async (t) => {
  const makes = spans.filter((span) => /^make( |$)/.test(span));
  assert.ok(makes.length > 5);
  for (const command of makes) await typed(t, change(command, 'make', 'make -n'), { cwd: root });
  for (const span of spans.filter((one) => /^--[a-z]/.test(one))) {
    const value = span.includes(' ') || span === '--log' ? '' : '2';
    await typed(t, `${DEMO} ${span} ${value} --help`);
  }
  const hint = spans.find((span) => span.startsWith('tests/run SUITE'));
  const one = "build 'demo/server.c is under'";
  assert.match(await typed(t, change(hint, 'SUITE FILE TEST', one), { cwd: root }), /\n1 passed, 0 failed, 0 skipped\n$/);
  const list = spans.find((span) => span.startsWith('tests/run -l'));
  assert.match(await typed(t, change(list, 'SUITE', 'live'), { cwd: root }), /^readme\tthe API by curl$/m);
  for (const [, link] of prose.matchAll(/\]\(([^)]*)\)/g)) assert.ok(existsSync(path.join(root, link)), link);
});

test('limits: each field is there and has that default', async (t) => {
  const table = readme.slice(readme.indexOf('| field | default |'));
  const rows = table.slice(0, table.indexOf('\n\n')).split('\n').slice(2).map((line) => line.split('|'));
  const whole = readFileSync(path.join(root, 'longpoll.h'), 'utf8');
  const header = whole.slice(whole.indexOf('typedef struct lp_config {'));
  const unit = { KiB: 1024, MiB: 1024 ** 2 };
  let fields = 0;
  for (const [, names, defaults] of rows) {
    const numbers = [...defaults.matchAll(/(\d{1,3}(?:,\d{3})*)(?: ([KM]iB))?/g)]
      .map(([, number, of]) => Number(number.replaceAll(',', '')) * (unit[of] || 1));
    for (const [i, [, name]] of [...names.matchAll(/`(\w+)`/g)].entries()) {
      const comment = new RegExp(`\\b${name}; */\\*([^]*?)\\*/`).exec(header);
      assert.ok(comment, `${name} in longpoll.h`);
      assert.equal(numbers[i], Number(/\[(\d+)\]\s*$/.exec(comment[1])?.[1]), name);
      await typed(t, `${DEMO} --${name} ${numbers[i]} --help`);
      fields += 1;
    }
  }
  assert.ok(fields > 20, `${fields} fields`);
});
