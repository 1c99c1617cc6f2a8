/* The demo's page: rooms over one long poll.

   Every room that is joined is a channel, and one poll waits for all of them.
   What arrives is kept per room, a bounded number of entries, and the log
   shows the room named in the URL's hash. A message is shown when the server
   hands it out, one's own no sooner than anybody else's.

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

const me = tag();                  // marks what this window published
const rooms = new Map();           // name -> room, in the order of the poll
let here = null;                   // the room that is shown
let client = null;
let online = true;                 // what the switch says
const queue = [];                  // what is being published
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

/* Kept for the session, so that a reload still knows its own messages. */
function tag() {
  const known = recall('sessionStorage', 'me');
  const drawn = known || Math.random().toString(36).slice(2, 10);
  remember('sessionStorage', 'me', drawn);
  return drawn;
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
  on('connected', () => { say(''); settleSoon(); });
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
  if (error.status) say(`The server answered ${error.message}.`);
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
    say(`One poll waits for ${ROOMS_MAX} rooms at most: leave one first.`);
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
  rooms.set(name, {
    name, item, link, badge, out, cursor: '0', entries: [], ids: new Set(),
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
  if (usable(name) && join(name)) {
    show(rooms.get(name));
  } else {
    show(here ?? rooms.values().next().value);
    location.replace('#' + encodeURIComponent(here.name));
  }
  if (rooms.size !== before || !client) roomsChanged();
}

function showRooms() {
  let unread = 0;
  for (const room of rooms.values()) {
    const shown = room === here;
    unread += room.unread;
    room.item.className = shown ? 'here' : '';
    room.link.setAttribute('aria-current', shown ? 'page' : 'false');
    room.badge.hidden = shown || room.unread === 0;
    room.badge.textContent = room.unread;
    room.badge.title = `${room.unread} unread`;
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
  $('curl').textContent = `curl ${quoted(url)} \\\n`
    + ` -H 'Content-Type: application/json' \\\n -d '{"name":"Curl","text":"hello"}'`;
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

function say(text) {
  $('alert').textContent = text;
  $('alert').hidden = !text;
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
  say('');
  if (online) client.start(); else client.stop();
  showState();
}

/* One after the other, so that they keep their order. What could not be
   published goes back to where it was written. */
async function publish() {
  const text = $('text').value.trim();
  if (!text || !online) return;
  fillText('');
  queue.push({ room: here.name, text });
  if (queue.length > 1) return;
  try {
    while (queue.length > 0) {
      const name = $('name').value.trim();
      await client.publish(queue[0].room, { name, text: queue[0].text, from: me });
      queue.shift();
      say('');
    }
    $('token').hidden = true;
  } catch (error) {
    const back = queue.splice(0).map((unsent) => unsent.text);
    fillText([...back, $('text').value].filter(Boolean).join('\n'));
    refused(error);
  }
}

function refused(error) {
  const again = error.retryIn ? ` Try again in ${Math.ceil(error.retryIn / 1000)} s.` : '';
  if (error.status === 401) {
    say(token ? 'The server does not take this token.' : 'Publishing here wants a token.');
    $('token').hidden = false;
    $('token-value').focus();
  } else if (error.status) {
    say(`Not published: the server answered ${error.message}.${again}`);
  } else {
    say('Perhaps not published: the server\u2019s answer did not come. Send it again?');
  }
}

function useToken() {
  token = $('token-value').value;
  remember('sessionStorage', 'token', token);
  $('token').hidden = true;
  say('');
  connect();                                    // the token is the client's
  $('text').focus();
  publish();
}

function fillText(text) {
  $('text').value = text;
  fitText();
}

function fitText() {
  $('text').style.height = 'auto';
  $('text').style.height = `${$('text').scrollHeight + 2}px`;
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
  $('name').addEventListener('change', () => {
    $('name').value = $('name').value.trim() || newName();
    keepName();
  });
  $('text').addEventListener('input', fitText);
  $('text').addEventListener('keydown', (event) => {
    if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    publish();
  });
  onForm('compose', publish);
  onForm('token', useToken);
  onForm('join', () => {
    const name = $('join-name').value.trim().replace(/^#/, '');
    if (!usable(name)) return say('A room\u2019s name has 1 to 255 bytes and no control characters.');
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

/* A window keeps its name over a reload; a new one begins with the last. */
$('name').value = recall('sessionStorage', 'name') || recall('localStorage', 'name') || newName();
keepName();
listen();
roomsKept().forEach(join);
followHash();
if (matchMedia('(hover: hover)').matches) $('text').focus();
