/* Types of longpoll.js, whose head is the manual. */

export interface LongPollingMessage {
  /** EPOCH-SEQ: never given twice on one channel. */
  id: string;
  channel: string;
  /** Seconds since 1970, to the microsecond. */
  timestamp: number;
  /** What was published. */
  [member: string]: unknown;
}

/** Why messages of a channel may be missing. */
export type LongPollingReset =
  Record<string, 'evicted' | 'epoch' | 'ahead'>;

export interface LongPollingError extends Error {
  /** HTTP status; 0 if there was none. */
  status: number;
  /** Milliseconds to the next try; null if there will be none. Undefined if
      this is not about a poll: a listener threw. */
  retryIn: number | null | undefined;
  /** Of a publish(): it may have been done all the same. False is certain:
      this server refused it, or it was never sent. */
  unknown?: boolean;
  /** The event whose listener threw `cause`. */
  listener?: keyof LongPollingEvents;
  cause?: unknown;
}

export interface LongPollingDisconnect {
  /** Null after stop(). */
  error: LongPollingError | null;
  /** Milliseconds to the next try; null if the client has stopped. */
  retryIn: number | null;
}

export interface LongPollingEvents<M = LongPollingMessage> {
  message: (message: M, channel: string) => void;
  reset: (channels: LongPollingReset) => void;
  connected: () => void;
  disconnected: (why: LongPollingDisconnect) => void;
  error: (error: LongPollingError) => void;
}

/** None is sent if it is empty. */
export type LongPollingToken = string | null | undefined;

export interface LongPollingOptions {
  /** 'stream' reads server-sent events in place of parked polls; 'auto' does so
      where nothing between holds them up, and else polls. ['poll'] */
  transport?: 'poll' | 'stream' | 'auto';
  /** How long the server may hold a poll, in ms. With grace, how long a stream
      may be silent. [30000] */
  timeout?: number;
  /** How much longer to wait for its answer, in ms; a probe, which is to be
      answered at once, is waited for no longer than this. [10000] */
  grace?: number;
  /** Ceiling of the first wait after a failure, in ms. [1000] */
  retryDelay?: number;
  /** Ceiling of every wait, in ms. [30000] */
  retryDelayMax?: number;
  /** Failures in a row that are retried; a try that was brought forward
      does not count. [Infinity] */
  maxRetries?: number;
  /** '' or null for all that is held, 'now' for nothing old, or a cursor.
      [''] */
  lastId?: string | null;
  /** Most messages in one reply. [as the server has] */
  limit?: number | null;
  /** Where the API is. ['/api'] */
  prefix?: string;
  /** More request headers; read anew for each request. */
  headers?: HeadersInit | null;
  /** Sent as Authorization: Bearer, in place of an `authorization` in headers.
      A function is asked when the first request needs one, and again, once,
      when the server has answered 401 to what it gave. */
  token?: string | (() => LongPollingToken | Promise<LongPollingToken>);
  /** X-Client-ID, at most 128 visible ASCII characters; '' sends none.
      [128 random bits] */
  clientId?: string;
  /** As fetch() takes it. ['same-origin'] */
  credentials?: 'omit' | 'same-origin' | 'include';
  /** One poll, or stream, for all tabs of a browser. [true in a browser] */
  share?: boolean;
  fetch?: typeof globalThis.fetch;
  /** In place of navigator.locks. Without them nothing is shared. */
  locks?: LockManager | null;
  /** In place of the global one. Without it nothing is shared. */
  BroadcastChannel?: typeof globalThis.BroadcastChannel | null;
  /** From 0 up to 1, for the jitter. [Math.random] */
  random?: () => number;
}

export interface LongPollingPublished {
  status: 'published';
  message_id: string;
  timestamp: number;
  /** The polls that it woke. */
  waiters: number;
}

export class LongPollingClient<M = LongPollingMessage> {
  /** `baseUrl` is http: or https:, or a path ('' is one) on the page's own
      origin. An option of another name throws, as does a value that cannot
      work. */
  constructor(baseUrl: string | URL, channels: string | readonly string[],
    options?: LongPollingOptions);

  /** The cursor: everything up to it has been handed on. */
  readonly lastId: string;
  readonly state: 'stopped' | 'connecting' | 'connected' | 'waiting';
  readonly clientId: string;

  on<E extends keyof LongPollingEvents>(
    event: E, fn: LongPollingEvents<M>[E]): this;
  once<E extends keyof LongPollingEvents>(
    event: E, fn: LongPollingEvents<M>[E]): this;
  off<E extends keyof LongPollingEvents>(
    event: E, fn: LongPollingEvents<M>[E]): this;

  start(): void;
  stop(): void;

  /** Rejects with a LongPollingError, or a TypeError if `data` or `channel`
      cannot be sent; never retries but after a 401, with a new token. */
  publish(channel: string, data: object): Promise<LongPollingPublished>;
}
