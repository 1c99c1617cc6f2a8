/* The protocol of Redis, as far as tests need it. */

import net from 'node:net';

export class RedisError extends Error {}

/* One value at `from`: [value, where it ends], or null while it is
   incomplete. */
function parseValue(text, from) {
  const end = text.indexOf('\r\n', from);
  if (end < 0) return null;
  const line = text.slice(from + 1, end);
  const next = end + 2;
  switch (text[from]) {
    case '+': return [line, next];
    case '-': return [new RedisError(line), next];
    case ':': return [Number(line), next];
    case '$': {
      const size = Number(line);
      if (size < 0) return [null, next];
      return text.length < next + size + 2 ? null : [text.slice(next, next + size), next + size + 2];
    }
    case '*': {
      const values = [];
      let at = next;
      for (let n = Number(line); n > 0; n -= 1) {
        const one = parseValue(text, at);
        if (!one) return null;
        values.push(one[0]);
        [, at] = one;
      }
      return [values, at];
    }
    default: throw new Error(`not the protocol of Redis: ${text.slice(from, from + 50)}`);
  }
}

/* A connection that answers calls in their order. Text is latin1 here, a
   character for a byte: utf8() makes text of what is not ASCII. */
export class Wire {
  constructor(port, { onPush } = {}) {
    this.waiting = [];
    this.text = '';
    this.onPush = onPush;
    this.socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    this.opened = new Promise((done) => this.socket.once('connect', done));
    this.closed = new Promise((done) => this.socket.once('close', done));
    this.socket.setEncoding('latin1').on('data', (part) => this.read(part));
    this.socket.on('error', (error) => { this.error = error; });
    this.socket.on('close', () => {
      this.gone = true;
      const error = this.error ?? new Error('Redis has closed the connection');
      for (const { fail } of this.waiting.splice(0)) fail(error);
    });
  }

  read(part) {
    this.text += part;
    let at = 0;
    try {
      for (let one; at < this.text.length && (one = parseValue(this.text, at)); [, at] = one) this.take(one[0]);
    } catch (error) {
      this.socket.destroy(error);
    }
    this.text = this.text.slice(at);
  }

  take(value) {
    if (Array.isArray(value) && /^p?message$/.test(value[0])) return this.onPush?.(value);
    const { done, fail } = this.waiting.shift();
    return value instanceof RedisError ? fail(value) : done(value);
  }

  call(...words) {
    const bytes = words.map((word) => Buffer.from(String(word)));
    const parts = bytes.flatMap((one) => [Buffer.from(`$${one.length}\r\n`), one, Buffer.from('\r\n')]);
    const answer = new Promise((done, fail) => {
      if (this.gone) fail(this.error ?? new Error('the connection to Redis is closed'));
      else this.waiting.push({ done, fail });
    });
    answer.catch(() => {});
    if (!this.gone) this.socket.write(Buffer.concat([Buffer.from(`*${words.length}\r\n`), ...parts]));
    return answer;
  }

  close() { this.socket.destroy(); }
}

export const utf8 = (text) => Buffer.from(text, 'latin1').toString('utf8');
