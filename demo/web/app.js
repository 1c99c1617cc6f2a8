/* The demo's page: rooms over one long poll.

   Every room that is joined is a channel, and one poll waits for all of them.
   What arrives is kept per room, a bounded number of entries, and the log
   shows the room named in the URL's hash. A message is shown when the server
   hands it out, one's own no sooner than anybody else's. What is written, and
   what could not be published, belongs to the room that it was written in.

   Whatever comes from outside enters the document as text, never as markup. */

import { LongPollingClient } from './longpoll.js';

const ROOMS_AT_FIRST = ['lobby', 'kitchen', 'workshop'];
const ROOMS_MAX = 16;              // the most channels in one poll
const ROOM_BYTES_MAX = 255;
const ENTRIES_MAX = 500;           // kept, and shown, per room
const GROUP_SECONDS = 300;         // within it a name is not repeated
const REPLY_MESSAGES_MAX = 1000;   // so that one reply catches up

const RESETS = {
  epoch: 'The channel began a new life: the server was restarted, or had forgotten it.',
  evicted: 'Messages after this page\u2019s cursor are no longer held.',
  ahead: 'The server never gave out this page\u2019s cursor.',
};

const $ = (id) => document.getElementById(id);
const base = new URL('.', location.href).href.replace(/\/$/, '');
const clock = new Intl.DateTimeFormat([], { hour: '2-digit', minute: '2-digit' });

const me = recall('sessionStorage', 'me') || random();   // marks what is ours
const rooms = new Map();           // name -> room, in the order of the poll
const drafts = new Map();          // name -> draft, of rooms that were left too
let here = null;                   // the room that is shown
let client = null;
let online = true;                 // what the switch says
let atEnd = true;                  // the log follows what comes,
let below = 0;                     // or so many stand further down
let settling = 0, later = 0;       // timers
let token = recall('sessionStorage', 'token') ?? '';

/* ---- small things ------------------------------------------------------ */

/* Where site data is blocked, even to name a store throws. */
function recall(store, key) {
  try { return window[store].getItem('longpoll.' + key); } catch { return null; }
}

function remember(store, key, value) {
  try { window[store].setItem('longpoll.' + key, value); } catch { /* blocked */ }
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

function random() {
  return Math.random().toString(36).slice(2, 10);
}

/* For a shell: what is between single quotes stands for itself. */
function quoted(text) {
  return `'${text.replaceAll("'", "'\\''")}'`;
}

function plural(count, one) {
  return `${count} ${one}${count === 1 ? '' : 's'}`;
}

function face(element, name) {
  let hue = 0;
  for (const char of name) hue = (hue * 31 + char.codePointAt(0)) % 9973;
  element.style.setProperty('--hue', (hue * 137.5) % 360);
  element.textContent = [...name.trim()][0]?.toUpperCase() ?? '?';
}

function newName() {
  const pick = (words) => words[Math.floor(Math.random() * words.length)];
  return pick(['Quiet', 'Swift', 'Amber', 'Mossy', 'Bright', 'Gentle', 'Snowy'])
    + ' ' + pick(['Heron', 'Otter', 'Finch', 'Badger', 'Lynx', 'Marten', 'Wren']);
}

/* ---- entries: messages, dividers, notices ------------------------------ */

/* Each entry keeps the element that shows it, made once, so that going to
   another room and back is a matter of hanging elements in and out. */
function append(room, entry) {
  room.entries.push(entry);
  while (room.entries.length > ENTRIES_MAX) {
    const [gone] = room.entries.splice(room.entries[0] === room.mark ? 1 : 0, 1);
    gone.element.remove();
    if (gone.id) room.ids.delete(gone.id);
  }
  if (room !== here) return;
  $('empty').hidden = true;
  $('log').append(entry.element);
  atEnd ||= Boolean(entry.mine);
  if (!atEnd) below += 1;
}

function messageElement(room, message, name, joined) {
  const mine = message.from === me ? ' mine' : '';
  const element = make('li', 'msg' + mine + (joined ? ' more' : ''));
  const date = new Date(message.timestamp * 1000);
  const by = make('div', 'by');
  const time = make('time', '', clock.format(date));
  time.dateTime = date.toISOString();
  by.append(make('strong', '', name), time);
  const badge = make('i', 'face');
  badge.setAttribute('aria-hidden', 'true');
  face(badge, name);
  const what = make('div', 'what');
  const seq = make('span', 'seq');
  seq.append(make('span', '', room.name), ` #${message.id.split('-').pop()}`);
  what.append(textElement(message), seq);
  const body = make('div', 'body');
  body.append(by, what);
  element.append(badge, body);
  element.title = `${date.toLocaleString()}  \u00b7  ${message.id}`;
  return element;
}

function nameOf({ name }) {
  return (typeof name === 'string' && name.trim().slice(0, 64)) || 'someone';
}

/* A message that is not this page's own kind is shown as what it is: JSON. */
function textElement(message) {
  if (typeof message.text === 'string') return make('p', '', message.text);
  const { id, channel, timestamp, name, ...rest } = message;
  return make('p', 'raw', JSON.stringify(rest));
}

function onMessage(message, channel) {
  const room = rooms.get(channel);
  if (!room || room.ids.has(message.id)) return;
  if (message.from === me) published(room, message.nonce);
  countCatchUp(room);
  const last = room.entries.at(-1);
  const name = nameOf(message);
  const joined = last?.id && last.name === name
    && message.timestamp - last.timestamp < GROUP_SECONDS;
  room.ids.add(message.id);
  append(room, {
    id: message.id, name, timestamp: message.timestamp,
    mine: message.from === me,
    element: messageElement(room, message, name, joined),
  });
  if (room !== here || document.hidden) room.unread += 1;
  settleSoon();
}

/* After an absence the messages that waited stand under a line that counts
   them: those of the first reply, which the client hands on in one go, right
   after it has said that it is connected. */
function countCatchUp(room) {
  if (!room.away) return;
  if (!room.mark) {
    room.mark = { count: 0, element: make('li', 'divider') };
    append(room, room.mark);
  }
  const count = room.mark.count += 1;
  room.mark.element.textContent = `While you were away: ${plural(count, 'message')}`;
}

function setAway(away) {
  for (const room of rooms.values()) {
    room.away = away;
    room.mark = null;
  }
}

function onReset(reasons) {
  for (const [channel, reason] of Object.entries(reasons)) {
    const room = rooms.get(channel);
    if (!room) continue;
    const element = make('li', 'notice');
    element.append(
      make('strong', '', `The server could not prove continuity: ${reason}`),
      `${RESETS[reason] ?? ''} What follows is everything it still holds.`);
    room.away = false;
    room.mark = { element };
    append(room, room.mark);
  }
  settleSoon();
}

/* ---- the connection ---------------------------------------------------- */

/* One client polls for all rooms. A change of rooms makes a new one, which
   goes on from the cursors of the old. */
function connect() {
  const old = client;
  client = new LongPollingClient(base, [...rooms.keys()], {
    lastId: [...rooms.values()].map((room) => room.cursor).join(','),
    limit: REPLY_MESSAGES_MAX,
    token,
  });
  old?.stop();
  const mine = client;
  const on = (event, fn) => mine.on(event, (...args) => {
    if (mine === client) fn(...args);
  });
  on('message', onMessage);
  on('reset', onReset);
  on('connected', () => { say('line', ''); settleSoon(); });
  on('disconnected', onDisconnected);
  on('error', onError);
  if (online) client.start();
  showState();
}

/* Once a reply has been handed on whole, and the cursor has moved. */
function settleSoon() {
  clearTimeout(settling);
  settling = setTimeout(() => {
    settling = 0;
    if (client.state === 'connected') setAway(false);
    const cursors = client.lastId.split(',');
    [...rooms.values()].forEach((room, i) => { room.cursor = cursors[i]; });
    if (atEnd) toEnd(); else showNewer();
    showRooms();
    showState();
  });
}

function onDisconnected({ error, retryIn }) {
  setAway(true);
  if (error && retryIn === null) online = false;
  showState();
}

function onError(error) {
  if (error.listener) throw error.cause;        // a fault of this page: show it
  const answer = error.status >= 400 ? `answered ${error.message}` : 'gave an answer that makes no sense';
  say('line', error.status ? `The server ${answer}.` : '');
  showState();
}

/* ---- rooms ------------------------------------------------------------- */

function roomFromHash() {
  try { return decodeURIComponent(location.hash.slice(1)); } catch { return ''; }
}

function usable(name) {
  if (typeof name !== 'string' || ['', '.', '..'].includes(name)) return false;
  if (/[\u0000-\u001f\u007f-\u009f]|\p{Surrogate}/u.test(name)) return false;
  return new TextEncoder().encode(name).length <= ROOM_BYTES_MAX;
}

function join(name) {
  if (rooms.has(name)) return true;
  if (rooms.size === ROOMS_MAX) {
    say('rooms', `One poll waits for ${ROOMS_MAX} rooms at most: leave one first.`);
    return false;
  }
  const item = make('li');
  const link = make('a');
  const badge = make('b');
  const out = make('button', 'leave', '\u00d7');
  link.href = '#' + encodeURIComponent(name);
  link.append(make('span', '', name), badge);
  out.type = 'button';
  out.setAttribute('aria-label', `Leave ${name}`);
  out.addEventListener('click', () => leave(name));
  item.append(link, out);
  $('rooms').append(item);
  const draft = drafts.get(name) ?? { text: '', sending: [], trouble: null };
  drafts.set(name, draft);
  rooms.set(name, {
    name, draft, item, link, badge, out, cursor: '0', entries: [], ids: new Set(),
    unread: 0, away: false, mark: null,
  });
  return true;
}

function leave(name) {
  rooms.get(name).item.remove();
  rooms.delete(name);
  roomsChanged();
  location.hash = encodeURIComponent([...rooms.keys()][0]);
}

function roomsChanged() {
  remember('localStorage', 'rooms', JSON.stringify([...rooms.keys()]));
  connect();
  showRooms();
}

function followHash() {
  const before = rooms.size;
  const name = roomFromHash();
  if (usable(name) && join(name)) show(rooms.get(name));
  else location.replace('#' + encodeURIComponent(here.name));
  if (rooms.size !== before || !client) roomsChanged();
}

function showRooms() {
  let unread = 0;
  for (const room of rooms.values()) {
    const shown = room === here;
    unread += room.unread;
    room.item.className = shown ? 'here' : '';
    room.link.setAttribute('aria-current', shown ? 'page' : 'false');
    const { trouble } = room.draft;
    room.badge.hidden = shown || !(trouble || room.unread);
    room.badge.className = trouble ? 'unsent' : '';
    room.badge.textContent = trouble ? '!' : room.unread;
    room.badge.title = trouble ? trouble.text : `${room.unread} unread`;
    room.out.hidden = !shown || rooms.size === 1;
  }
  $('poll-note').textContent = `${plural(rooms.size, 'room')}, one poll`;
  document.title = `${unread ? `(${unread}) ` : ''}${here.name} \u2013 longpoll.h`;
}

function show(room) {
  if (room === here) return;
  here = room;
  here.unread = 0;
  const log = $('log');
  log.setAttribute('aria-live', 'off');         // a change of view is no news
  log.replaceChildren(...room.entries.map((entry) => entry.element));
  setTimeout(() => log.setAttribute('aria-live', 'polite'), 100);
  $('room').textContent = room.name;
  $('empty').hidden = room.entries.length > 0;
  const url = `${base}/api/publish/${encodeURIComponent(room.name)}`;
  $('curl').textContent = `curl -H 'Content-Type: application/json' \\\n`
    + ` -d '{"name":"Curl","text":"hello"}' \\\n${quoted(url)}`;
  say('rooms', '');
  showDraft();
  toEnd();
  showRooms();
  showState();
  room.item.scrollIntoView({ block: 'nearest', inline: 'nearest' });
}

/* ---- what the page says ------------------------------------------------ */

function showState() {
  if (!client) return;
  const state = client.state === 'stopped' ? 'offline' : client.state;
  if ($('state').dataset.state !== state) {
    $('state').dataset.state = state;
    $('state').textContent = state === 'waiting' ? 'waiting to retry' : state;
  }
  $('switch').setAttribute('aria-checked', online);
  $('send').disabled = !online;
  $('text').placeholder = online ? `Message #${here.name}` : 'Offline: go online to write';
  $('cursor').textContent = here.cursor;
  /* Of the end of a wait the client says nothing. */
  if (state === 'waiting') { clearTimeout(later); later = setTimeout(showState, 250); }
}

/* Each part of the page has an alert of its own, which it alone clears: the
   line, the rooms, the draft. */
function say(part, text) {
  const alert = $(`${part}-alert`);
  if (alert.textContent !== text) alert.textContent = text;
  alert.hidden = !text;
}

function showDraft() {
  const { text, trouble } = here.draft;
  if ($('text').value !== text) $('text').value = text;
  say('draft', trouble?.text ?? '');
  $('token').hidden = !trouble?.wantsToken;
  $('send').textContent = trouble?.unsure ? 'Send again' : 'Send';
  $('text').style.height = 'auto';
  $('text').style.height = `${$('text').scrollHeight + 2}px`;
}

function nearEnd() {
  const { scrollHeight, scrollTop, clientHeight } = $('scroll');
  return scrollHeight - scrollTop - clientHeight < 80;
}

function toEnd() {
  atEnd = true;
  below = 0;
  $('scroll').scrollTop = $('scroll').scrollHeight;
  showNewer();
}

function showNewer() {
  $('newer').hidden = below === 0;
  $('newer').textContent = `${plural(below, 'new message')} \u2193`;
}

/* ---- what the reader does ---------------------------------------------- */

function switchLine() {
  online = !online;
  say('line', '');
  if (online) client.start(); else client.stop();
  showState();
}

/* A room's messages go out one after the other, so that they keep their order.
   Each has a nonce, by which this window knows it again. */
async function publish() {
  const { name: room, draft } = here;
  const text = draft.text.trim();
  if (!text || !online) return;
  setDraft(draft, '', null);
  draft.sending.push({ text, nonce: random(), arrived: false });
  if (draft.sending.length > 1) return;
  while (draft.sending.length > 0) {
    const [message] = draft.sending;
    const name = $('name').value.trim();
    try {
      await client.publish(room, { name, text: message.text, from: me, nonce: message.nonce });
    } catch (error) {
      if (!message.arrived) return giveBack(draft, error);
    }
    draft.sending.shift();
  }
}

/* What could not be published, and all that stood behind it, goes back to
   where it was written, before what has been written there since. */
function giveBack(draft, error) {
  const unsent = draft.sending.splice(0);
  const texts = [...unsent.map(({ text }) => text), draft.text];
  setDraft(draft, texts.filter(Boolean).join('\n'), troubleOf(error, unsent[0]));
  if (draft === here.draft && draft.trouble.wantsToken) $('token-value').focus();
}

/* Only what the server refused, or what was never sent, is certainly not
   published. Of the rest nobody knows: `unsure` is that message. */
function troubleOf({ status, message, retryIn, unknown }, unsure) {
  if (unknown) {
    const why = status >= 400 ? `the answer was ${message}` : 'its answer was lost';
    const text = `Perhaps this was published, perhaps not: ${why}.`;
    return { text: `${text} If it does not appear here soon, send it again.`, unsure };
  }
  if (status === 401 || !status) return {       // 0: no header takes this token
    text: token ? 'The server does not take this token.' : 'Publishing here wants a token.',
    wantsToken: true,
  };
  const again = retryIn ? ` Try again in ${Math.ceil(retryIn / 1000)} s.` : '';
  return { text: `Not published: the server answered ${message}.${again}` };
}

/* The poll has brought one of our own: the answer to it does not matter. */
function published({ draft }, nonce) {
  const message = draft.sending[0] ?? draft.trouble?.unsure;
  if (!message || message.nonce !== nonce) return;
  message.arrived = true;
  if (draft.trouble) setDraft(draft, draft.text.slice(message.text.length).trimStart(), null);
}

function setDraft(draft, text, trouble) {
  Object.assign(draft, { text, trouble });
  showDraft();
  showRooms();
}

/* Trouble ends when the words that it is about are deleted. */
function onInput() {
  const { draft } = here;
  const text = $('text').value;
  const kept = text && text.startsWith(draft.trouble?.unsure?.text ?? '');
  setDraft(draft, text, kept ? draft.trouble : null);
}

function onKey(event) {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  if (here.draft.trouble?.unsure) $('send').focus();   // twice is for the button
  else publish();
}

function useToken() {
  token = $('token-value').value;
  remember('sessionStorage', 'token', token);
  setDraft(here.draft, here.draft.text, null);
  connect();                                    // the token is the client's
  $('text').focus();
  publish();
}

function onForm(id, fn) {
  $(id).addEventListener('submit', (event) => { event.preventDefault(); fn(); });
}

function listen() {
  addEventListener('hashchange', followHash);
  new ResizeObserver(() => { if (atEnd) toEnd(); }).observe($('scroll'));
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) return;
    here.unread = 0;
    showRooms();
  });
  $('switch').addEventListener('click', switchLine);
  $('newer').addEventListener('click', toEnd);
  $('scroll').addEventListener('scroll', () => {
    if (settling) return;                       // not the reader's doing, perhaps
    atEnd = nearEnd();
    if (atEnd) below = 0;
    showNewer();
  });
  $('name').addEventListener('input', () => face($('face'), $('name').value));
  $('name').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return;
    event.preventDefault();                     // it would send the draft
    $('text').focus();
  });
  $('name').addEventListener('change', () => {
    $('name').value = $('name').value.trim() || newName();
    keepName();
  });
  $('text').addEventListener('input', onInput);
  $('text').addEventListener('keydown', onKey);
  onForm('compose', publish);
  onForm('token', useToken);
  onForm('join', () => {
    const name = $('join-name').value.trim().replace(/^#/, '');
    if (!usable(name)) return say('rooms', 'A room\u2019s name has 1 to 255 bytes and no control characters.');
    say('rooms', '');
    $('join-name').value = '';
    location.hash = encodeURIComponent(name);
  });
}

function keepName() {
  face($('face'), $('name').value);
  remember('sessionStorage', 'name', $('name').value);
  remember('localStorage', 'name', $('name').value);
}

function roomsKept() {
  try {
    const names = JSON.parse(recall('localStorage', 'rooms')).filter(usable);
    if (names.length > 0) return names.slice(0, ROOMS_MAX);
  } catch { /* none, or not ours */ }
  return ROOMS_AT_FIRST;
}

/* A window knows itself and its name over a reload; a new one begins with the
   last name. */
remember('sessionStorage', 'me', me);
$('name').value = recall('sessionStorage', 'name') || recall('localStorage', 'name') || newName();
keepName();
listen();
roomsKept().forEach(join);
show(rooms.values().next().value);
followHash();
if (matchMedia('(hover: hover)').matches) $('text').focus();
