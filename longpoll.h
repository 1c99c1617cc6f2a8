/* longpoll.h 1.0.0 - HTTP long polling in one file. MIT or public domain.

   ==========================================================================
   MANUAL                                                            >>manual

   A complete HTTP/1.1 long-polling server for C and C++: clients ask for
   news, the server holds the request until there is some. No dependency but
   the C library. Linux (epoll), macOS and the BSDs (kqueue).

   IN FIVE LINES

       #define LONGPOLL_IMPLEMENTATION        in one source file only
       #include "longpoll.h"

       lp_server *server = NULL;
       lp_config cfg = {0};                   C++: lp_config cfg{};
       cfg.port = 8080;
       if (lp_create(&server, &cfg) == LP_OK) lp_run(server);
       lp_destroy(server);

   Then, from anywhere:

       curl 'localhost:8080/api/poll/news'    waits for a message
       curl -H 'Content-Type: application/json' -d '{"text":"hello"}' \
            localhost:8080/api/publish/news   publishes one

   CONTENTS (search for the tag)

       >>manual                                   what you are reading
       >>results >>types >>config >>life          the declarations
       >>routes >>publish-api >>inspect >>advanced
     A >>platform >>memory >>text >>slab >>table  what all else stands on
     B >>http >>query >>address >>json >>reply    parsers, the reply's head,
       >>wheel >>resp >>token                     timers: no clock, no sockets
     C >>structs >>message >>receipt >>channel    the state that all threads
       >>limit >>waiter >>remote >>hub            share
     D >>os >>poller >>inbox >>file               the operating system
     E >>connection >>accept >>read >>route       a connection, in the order
       >>poll >>stream >>publish >>later          of its life
       >>admin >>monitor >>deliver >>write
       >>close
     F >>redis    G >>loop       H >>public       I >>licence

   BUILD MACROS (before the include that has LONGPOLL_IMPLEMENTATION)

       LONGPOLL_IMPLEMENTATION   the code, in exactly one source file
       LONGPOLL_STATIC           every function static: a private copy
       LONGPOLL_NO_THREADS       no locks: the one thread that runs the server
                                 is the only one to call it, but for lp_stop();
                                 cfg.loops is 1
       LONGPOLL_NO_REDIS         without what cfg.redis needs: a third less code
       LONGPOLL_NO_STREAM        without GET /api/stream
       LONGPOLL_NO_ADMIN         without /api/channels and receipts
       LONGPOLL_NO_TOKEN         without signed tokens: token_secret is an error
       LONGPOLL_NO_MONITOR       without /metrics, /api/stats, /healthz,
                                 cfg.access_log and lp_access_common, _json
       LONGPOLL_NO_FILES         without lp_reply_file: nothing reads the disk
       LONGPOLL_DEBUG            LP_ASSERT checks internal invariants (abort())
       LP_ASSERT(x)              your own assertion in its place
       LONGPOLL_KQUEUE           take kqueue where epoll would be taken

   HTTP API (the prefix /api is cfg.prefix)

     GET /api/poll/{channels}?last_id=&timeout=&limit=      one, or up to 16
                                                            with ',' between
       last_id   the cursor: the last_id of the previous reply, verbatim.
                 Absent, empty or 0: all that is held, then what comes.
                 now: only what comes. With several channels a list in their
                 order; a lone 0 or now stands for all.
       since     instead of last_id, one channel only: the timestamp of the
                 last message received; 0 for all. Each reply has one message.
                 It depends on the wall clock: if that is set back while the
                 server is restarted, since can miss what last_id would not.
       timeout   seconds, may have a fraction [30]; above the cap (60) it is
                 the cap; 0 answers at once.
       limit     most messages in one reply, 1 to 1000 [100].
       X-Client-ID (header) the client's name for limits, 1 to 128 visible
                 bytes, which counts together with its address; absent: the
                 address alone. Needed where many clients share an address.
     Replies, all 200:
       {"status":"messages","last_id":C,"timestamp":T,"count":N,
        "messages":[M,...]}                   then "more":true if cut short,
                                              "reset":{CHANNEL:REASON} if any
       {"status":"timeout","last_id":C,"timestamp":T,"count":0,"messages":[]}
       {"status":"message","last_id":C,"timestamp":T,"count":1,"data":M}
                                              the answer to since=
       M is the published object, led by "id", "channel" and "timestamp".

     GET /api/stream/{channels}?last_id=&limit=     the same as server-sent
                                                    events (text/event-stream)
       Of each message an event: "id: C", the cursor after it, and "data: M";
       of a reset "event: reset" with the cursor and {CHANNEL:REASON}; and every
       15 s of silence a comment. It begins with the id of where it stands. A
       browser's EventSource connects again by itself, and sends the last id
       that it had as Last-Event-ID (header), which counts more than last_id.
       The answer ends with the connection: at the end of the server, and for
       who reads too slowly. limit is that of one write. Waiters, limits,
       history and promise are those of polls.

     POST /api/publish/{channel}, Content-Type: application/json
       one JSON object, at most 64 KiB:
       {"status":"published","message_id":ID,"timestamp":T,"waiters":N}
                                              with Redis also "instances":N
       or an array of 1 to 1,000 objects, which are published all or none; the
       answer then has "message_ids":[ID,...] in place of "message_id", and the
       timestamp of the last. cfg.before_publish may refuse it, with a status
       and a text of its own, or have something else published in its place.
       If cfg.publish is "off" there is no such path: only C code publishes.
       transient=1 (query) they are delivered and not kept: see
                 lp_publish_transient
       Idempotency-Key (header, with Redis) 1 to 128 visible bytes: publishing
                 again with the same key, within redis_retry_ms, publishes
                 nothing and gives the first one's id; or ids, if that was an
                 array.

     For administration, and only if there is a token for it (see ACCESS):

     GET /api/channels/{channel}
       {"channel":NAME,"waiters":N,"held":N,"first_id":ID,"last_id":C,
        "timestamp":T,"age":SECONDS}
       waiters are polls and streams; first_id is null if nothing is held;
       last_id is the cursor of who has had all; age is how long ago the channel
       began. 404 if there is none of that name.

     GET /api/channels?limit=&after=
       {"channels":[{...},...],"next":N}      "next" if there are more: the
                                              after= of the next page
       limit is 1 to 1000 [100]. Pages are in no order. A channel that is there
       all the while is in one of them, once, whatever else comes and goes.

     DELETE /api/channels/{channel}    {"status":"deleted"}, or 404
       drops the channel's history. Each poll that waits on it, with since= too,
       and each stream is told at once by a reset ("epoch"), and later whoever
       comes with a cursor of before. Timestamps go on from where they were.

     GET /api/receipts/{channel}/{id}?limit=&after=        with track_receipts
       {"delivered_to":[NAME,...],"complete":true,"next":N}
       the X-Client-ID of each client that the message was handed to: when the
       last byte of a reply that had it was given to the kernel. In the order of
       that, each once; "complete" is false if some were dropped, since there
       were more than track_receipts. A client without a name has no receipts; a
       HEAD makes none. 404 if the message is not held.

     GET /metrics        the figures of lp_stats for Prometheus (text format
                         0.0.4); at the root, not behind the prefix
     GET /api/stats      the same as JSON
     GET /healthz        at the root: 200 {"status":"ok"}, with Redis also
                         "redis":"up", "down" or, of several, "partly"; 503
                         {"status":"draining"} once the server has been stopped.
                         Redis never makes it 503
       They are for administration, if there is a token for that. Without, and
       on a loopback address, they are for programs on the same machine: not for
       what comes through a proxy (a peer in trusted_proxies, a request with
       X-Forwarded-For, X-Real-IP, Forwarded or Via, or a Host that is a name
       other than localhost), nor for web pages (Origin). A proxy on the same
       machine that sets none of these cannot be told apart: set a token then.
       All others get 404. cfg.monitor is 1: for everybody; LP_OFF: for nobody.
       A load balancer has no token: with one set, /healthz without it says the
       status alone.

     Every error is {"error":"..."} with its status.

   CHANNELS OF DIFFERENT KINDS

     A channel is made by the first poll, stream or message that names it, and
     holds what the configuration says. cfg.policy is asked before that: it may
     refuse (403, "No such channel allowed"), so that clients can only name
     channels that the program knows, and it may lower how many messages are
     held, for how long, and how many polls wait. For instance:

       static int policy(void *ctx, lp_slice channel, lp_policy *policy)
       {
           if (channel.length > 5 && !memcmp(channel.bytes, "room-", 5))
               policy->history_count = 50;
           return is_known(ctx, channel);
       }

     Whether a client may poll or publish is another question, which
     lp_authorize answers with each request.

     With Redis each instance asks when the channel comes into its cache, and
     for each message that it publishes on one that is not there. All instances
     must have the same policy: how much the store holds, and for how long, is
     what the latest to publish says.

   ACCESS

     Unless a token is set, anybody may poll and publish whom lp_authorize lets
     pass, and nobody has administration. With poll_token, publish_token or
     admin_token that action wants Authorization: Bearer TOKEN. The last to be
     asked about what is published is lp_before_publish; only cfg.policy may
     refuse it after that. With cfg.publish "token" a server without a token
     for it does not start. C code is never asked.

     With token_secret each of them wants a signed token, or its own, if it is
     set. A signed token is a JSON Web Token (RFC 7519) of at most 4096 bytes.
     It stands in Authorization or, for EventSource, in the query:
     access_token= (RFC 6750 2.3; both at once is 400). It is signed with the
     secret (HS256, RFC 7518 3.2), and its header is
     {"alg":"HS256","typ":"JWT"} to the byte, but that typ may come first or be
     left out. Its payload:
       exp       seconds since 1970, may have a fraction: from then on it is no
                 longer good.
       nbf       likewise: not good before. May be absent.
       channels  1 to 64 patterns: ["news","room-*"]. A * stands for any bytes,
                 or none, all else for itself. Administration that is about no
                 channel in particular wants a pattern that is just *.
       actions   one or more of "poll" (streams too), "publish" and "admin".
     None of these may be there twice; others, such as iss, sub and aud, are
     ignored. Numbers have no exponent.

     A poll or a stream that waits has been let pass when it came. lp_recheck
     has all who wait on a channel ask again: that is how access is taken away.

     Without a good token it is 401 with WWW-Authenticate: Bearer, and, if a bad
     one was shown, error="invalid_token"; with one that does not cover the
     action and each channel 403, error="insufficient_scope". When a token
     expires while its poll waits, that gets 401 with "Token expired", up to a
     millisecond early, rather than a message of the same moment, which is for
     the next poll; a stream ends. The time is that of the wall clock when the
     request comes. Nothing of a token is logged; but a proxy may log targets.

   THE PROMISE

     A client that sends back the cursor that it was last given gets every
     message after it exactly once and in order, or is told at once that this
     cannot be proven ("reset"). Never neither. The reasons:
       epoch     the channel was forgotten or deleted, or the server restarted,
                 since
       evicted   messages after the cursor are no longer held; or some among
                 them, which were transient
       ahead     the cursor was never given
     A reply with a reset holds everything that is still held, after which
     its last_id is good again. Nothing held: an empty reply comes at once,
     but in the dialect of since= the poll is parked and the reset rides on
     the reply that ends the wait.

   REDIS

     With cfg.redis several instances of a program share their channels, and the
     promise holds across all of them: a client may go to any instance with each
     poll. It takes Redis 7 or Valkey, a primary without Cluster; with several
     stores each holds a part of the channels, all instances naming the same
     ones in the same order. Nothing blocks on it, and what is lost with it is
     told by a reset: it may be restarted, replaced or emptied at any time.

     lp_publish returns LP_PENDING; lp_publish_async tells the outcome. Success
     means that the primary had the message. 503 (LP_ERR_AWAY) means that it is
     not published; 504 (LP_ERR_UNKNOWN) that this is not known, since Redis was
     lost after it was sent: publish it again only with an Idempotency-Key, or
     if a second one does no harm. While Redis is away polls stay parked; one
     whose cursor cannot be judged without it gets 503.

     Wanted of Redis: maxmemory-policy noeviction; appendonly with appendfsync
     always, or no persistence, since what a restart brings back is only useful
     if it is all; repl-backlog-ttl 0; and if it has replicas
     min-replicas-to-write 1, or two primaries at once may each take messages.
     Rights: auth select ping evalsha script|load info time hmget hset xlen xadd
     xtrim xrange xrevrange del get set pexpire publish subscribe unsubscribe.
     TLS is for stunnel or the like, or a unix socket.

     lp_after_publish is told of a message by one of all instances, that which
     it was published through, when Redis has it.

     A deletion and an array are seen by all instances. What /api/channels and
     /api/receipts tell is of the one instance that is asked: the channels that
     it has in its cache, its own waiters, and whom it handed messages of that
     cache to. DELETE never gives 404, but 503 or 504 as publishing does.

   PAGES AND FILES

     lp_reply_asset answers with bytes that are compiled in, lp_reply_file with
     a file of a folder. Both are meant for the pages of a program, their
     scripts and pictures. They set Content-Type by the name's extension, an
     ETag made of the content, Accept-Ranges: none, and Cache-Control: no-cache,
     so that a browser keeps what it has and asks whether it is still good; to
     that the answer is 304 without a body. A handler whose files have new names
     whenever they change may set Cache-Control: max-age=31536000, immutable.

     Ranges are ignored: the answer is always the whole. Nothing is compressed,
     listed or redirected. What the reader's socket does not take at once is
     kept in memory, and counts as history_bytes says: large downloads are for
     the proxy in front.

   THREADS

     lp_publish, lp_publish_transient, lp_publish_async, lp_reply_later,
     lp_stop, lp_stats_read, lp_channel_read, lp_channels_read,
     lp_messages_read, lp_channel_delete, lp_receipts_read and lp_recheck are
     safe on any thread between lp_create and lp_destroy; lp_stop in a signal
     handler too. What needs no server (lp_s, lp_json_* and the like) is safe on
     any thread, with data that no other uses. All else belongs to the thread
     that runs the server. With cfg.loops above 1 lp_run starts the threads that
     it needs beside its own: handlers and hooks then run on any of them,
     several at once, each with a request of its own; but the hooks of `watch`
     and `after_publish` are called on lp_run's own thread alone, and that of
     `policy` also on any thread that publishes. No hook is called while a lock
     is held, except those of lp_memory and the clocks and random bytes of
     lp_os; so a handler or a hook may publish.

     A thread may be cancelled (pthread_cancel, not asynchronously). No call of
     the library is a cancellation point: the thread is cancelled only after
     the call has returned, and in lp_run only after lp_stop.

     Nothing may be thrown through the library: an exception that leaves a
     C++ handler or hook, or a longjmp, leaves its request unanswered and the
     loop in the middle of a step, from which it cannot go on.

   CHILD PROCESSES

     A program may fork, and run other programs, at any time. The server
     remains the parent's: a child may do with it nothing but exec or _exit,
     not even lp_destroy, since both would act on the same sockets.

   OWNERSHIP

     Inputs are copied before the call returns. What a request accessor
     returns is valid until its handler or hook returns; what the JSON reader
     returns stands in the text that it was given. Strings in lp_config are
     read during lp_create alone.

   ERRORS

     A function that can fail returns lp_result: LP_OK (0), or a negative code
     that lp_strerror() explains; its out-parameters are then untouched. The
     library never prints, exits or aborts. Out of memory, a request gets 503
     or its connection is closed, and the others go on.

   LIMITS

     Each is a field of lp_config, with its default in brackets.

   WHAT IT IS NOT

     No TLS (put nginx or HAProxy in front), no HTTP/2, no sessions, and no
     server of large files: see PAGES AND FILES.
     It makes no tokens, keeps no list of those taken back (let them expire
     soon), and knows one secret and no other algorithm than HS256.
     Messages live in memory, here or in Redis: a restart that forgets them
     tells the clients.
   ========================================================================== */

#if defined(LONGPOLL_IMPLEMENTATION) && !defined(_GNU_SOURCE)
#define _GNU_SOURCE /* before the first include: the code wants accept4 */
#endif

#ifndef LONGPOLL_H
#define LONGPOLL_H

#define LP_VERSION "1.0.0"
#define LP_VERSION_NUMBER 10000 /* major * 10000 + minor * 100 + patch */

#include <stddef.h>
#include <stdint.h>

#ifdef LONGPOLL_STATIC
#if defined(__GNUC__)
#define LPDEF static __attribute__((unused))
#else
#define LPDEF static
#endif
#else
#define LPDEF extern
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* ==========================================================================
   RESULTS                                                          >>results
   ========================================================================== */

typedef enum lp_result {
    LP_OK = 0,
    LP_PENDING = 1,       /* published to Redis, the outcome is not known yet */
    LP_ERR_ARG = -1,      /* a function's comment forbids this argument      */
    LP_ERR_CONFIG = -2,   /* a field of lp_config is bad: the log says which */
    LP_ERR_NOMEM = -3,    /* memory, or a limit on it, is exhausted          */
    LP_ERR_JSON = -4,     /* not a JSON object, or an array of some; of what
                             is read or emitted: not JSON                    */
    LP_ERR_TOO_LARGE = -5,/* more than message_bytes_max, or too many, or than
                             a buffer has room for                           */
    LP_ERR_FULL = -6,     /* channels_max is reached and none is idle        */
    LP_ERR_STOPPED = -7,  /* the server has stopped                          */
    LP_ERR_IN_USE = -8,   /* the address is taken                            */
    LP_ERR_DENIED = -9,   /* the system forbids it (a port below 1024?)      */
    LP_ERR_OS = -10,      /* any other system call failed: the log says more */
    LP_ERR_AWAY = -11,    /* Redis is not there, or refuses: nothing is
                             published                                       */
    LP_ERR_UNKNOWN = -12, /* Redis was lost before it answered: it may or may
                             not be published                                */
    LP_ERR_NOT_FOUND = -13, /* no such channel, message or value is here     */
    LP_ERR_TYPE = -14,    /* the value is there, but of another type, or out of
                             range                                           */
    LP_ERR_GONE = -15,    /* nobody waits for that answer any more           */
    LP_ERR_REFUSED = -16  /* the policy does not let the channel be made     */
} lp_result;

/* What a result means, in a few words. Never NULL. Thread: any. */
LPDEF const char *lp_strerror(lp_result result);

/* ==========================================================================
   PLAIN TYPES                                                        >>types
   ========================================================================== */

/* Bytes that somebody else owns; not ended by a NUL. */
typedef struct lp_slice {
    const char *bytes;
    size_t length;
} lp_slice;

/* A slice of a C string, NULL giving an empty one; and of any bytes. Both only
   point at them. Thread: any. */
LPDEF lp_slice lp_s(const char *text);
LPDEF lp_slice lp_sn(const char *bytes, size_t length);

/* An IPv6 address, or an IPv4 one mapped into it (::ffff:a.b.c.d). */
typedef struct lp_address {
    uint8_t bytes[16];
    uint16_t port;
} lp_address;

/* What the server set when a message was published. */
typedef struct lp_published {
    char id[40];           /* "EPOCH-SEQ", ended by a NUL; of several
                              messages the last one's: those before it have
                              the numbers before                             */
    uint64_t timestamp_us; /* since 1970, strictly increasing in a channel   */
    uint32_t count;        /* of messages                                    */
    uint32_t waiters;      /* polls that it woke; with Redis those of this
                              instance                                       */
    uint32_t instances;    /* with Redis: how many had subscribed; else 0    */
} lp_published;

/* A message, as the program is told of it. */
typedef struct lp_message {
    lp_slice channel;
    lp_slice id;           /* "EPOCH-SEQ"                                    */
    lp_slice json;         /* as clients get it, led by id, channel and
                              timestamp                                      */
    uint64_t timestamp_us; /* since 1970, strictly increasing in a channel   */
} lp_message;

typedef struct lp_server lp_server;
typedef struct lp_request lp_request;
typedef struct lp_os lp_os;

/* Allocates (ptr NULL), resizes, or frees (new_size 0): like realloc, but it
   is told the old size too. NULL for "no memory". Must be safe on every
   thread that publishes; it may run while a lock is held. */
typedef struct lp_memory {
    void *(*resize)(void *ctx, void *ptr, size_t old_size, size_t new_size);
    void *ctx;
} lp_memory;

typedef enum lp_log_level {
    LP_LOG_ERROR = 0, /* something does not work                             */
    LP_LOG_WARN = 1,  /* something was refused or cut off                    */
    LP_LOG_INFO = 2   /* start and stop                                      */
} lp_log_level;

typedef struct lp_log {
    void (*write)(void *ctx, lp_log_level level, const char *line);
    void *ctx;
} lp_log;

typedef enum lp_action { LP_POLL = 0, LP_PUBLISH = 1, LP_ADMIN = 2 } lp_action;

/* Asked once per channel of a request, before what is published is read and
   before a poll is parked, if the request's token is good or none is needed. An
   LP_ADMIN that is about no channel has an empty one. Returns 0 to let it pass,
   else 401 or 403. */
typedef struct lp_authorize {
    int (*ask)(void *ctx, lp_request *request, lp_action action,
               lp_slice channel);
    void *ctx;
} lp_authorize;

/* Asked before each publish over HTTP, once its body has been read and found to
   be good, on the thread of the request's loop; what C code publishes is not
   asked about. Returns 0 to let it pass, or a status from 400 to 599 to refuse
   it with: the client then gets {"error":*text}. *text is NULL unless the hook
   sets it, and stands for a few words of the library's.

   json      what is to be published, an object or an array of some as it came.
             The hook may set it to other JSON, which is then published in its
             place: bytes of its own, which are copied before the hook is called
             again on that thread. If that is no object or array of some, or too
             large, the client gets 500, and lp_log is told; if it is only more
             objects than cfg.policy lets the channel hold, 413.

   With Redis a request that is made again with its Idempotency-Key is asked
   about again. */
typedef struct lp_before_publish {
    int (*ask)(void *ctx, lp_request *request, lp_slice channel,
               lp_slice *json, const char **text);
    void *ctx;
} lp_before_publish;

/* Told of every message once it is published, over HTTP or by C code: those of
   a channel in their order, on lp_run's own thread, in its next turn (what is
   left at the end, in lp_destroy). It may publish. *message is valid during the
   call. Until then a message is kept in memory, whatever limits history, so the
   hook should be no slower than the publishers.

   With Redis a message is told by the instance that it was published through,
   and by no other, when Redis has it. One whose outcome is not known
   (LP_ERR_UNKNOWN) is not told, though it may have been published; nor is it
   when its Idempotency-Key shows that it had been. */
typedef struct lp_after_publish {
    void (*tell)(void *ctx, const lp_message *message);
    void *ctx;
} lp_after_publish;

/* Reported on lp_run's own thread, soon after it happens. The two events of one
   channel alternate. */
typedef enum lp_channel_event {
    LP_CHANNEL_OCCUPIED = 0, /* a first poll is parked on the channel        */
    LP_CHANNEL_VACATED = 1   /* no poll was parked for channel_linger_ms     */
} lp_channel_event;

typedef struct lp_watch {
    void (*channel)(void *ctx, lp_channel_event event, lp_slice channel);
    void *ctx;
} lp_watch;

/* What a channel may take. When the policy is asked it holds the
   configuration's own values, and each may be lowered. 0, or more than the
   configuration's, stands for that; LP_OFF for the least, which is 1. (There is
   no channel that holds nothing: messages are delivered from the history.) */
typedef struct lp_policy {
    uint32_t history_count;
    uint32_t history_age_ms;
    uint32_t waiters_max; /* polls parked; beyond it 429                     */
} lp_policy;

/* Asked before a channel is made, on the thread of the poll or of who
   publishes, without a lock; it may publish, but not to channels for which that
   never ends. Returns 0 if the channel may not be made: polls and publishing
   then get 403, or LP_ERR_REFUSED. That is not remembered. A channel that was
   forgotten, once it had been idle for cfg.history_age_ms, is asked about again
   when it is made again. If two threads want the same channel at once both may
   ask, and either answer may count. */
typedef struct lp_policy_hook {
    int (*ask)(void *ctx, lp_slice channel, lp_policy *policy);
    void *ctx;
} lp_policy_hook;

enum { LP_ACCESS_TEXT = 512 };

/* A request, for an access log. What is not known, since the request could not
   be read, is empty; so are fields that it does not have. path, agent and
   referer are cut to LP_ACCESS_TEXT bytes. No token is among these: the query
   is left out of path and of referer. */
typedef struct lp_access {
    lp_slice client;      /* its address, or the one that a trusted proxy
                             gives                                           */
    lp_slice method, path; /* the path as sent                               */
    lp_slice agent, referer;
    uint64_t wall_us;     /* when its head had been read, since 1970         */
    uint64_t duration_us; /* from there until it was answered; of a stream,
                             until it ended                                  */
    uint64_t bytes;       /* of the body as it was sent; a client that went
                             away may not have had them all                  */
    int status;           /* 499 if the connection was closed before there was
                             an answer                                       */
    int http10;           /* the request was HTTP/1.0                        */
    int stream;           /* it was a stream, which has ended                */
} lp_access;

/* Called once for each request, on the thread of its loop (in lp_destroy on the
   caller's), without a lock; it may publish. Until then up to 3 *
   LP_ACCESS_TEXT bytes are kept of a request that waits; one for which there is
   no memory is not told. Connections that are refused before they are read are
   told to lp_log alone. */
typedef struct lp_access_log {
    void (*write)(void *ctx, const lp_access *access);
    void *ctx;
} lp_access_log;

/* ==========================================================================
   CONFIGURATION                                                     >>config

   A field that is zero has the default in brackets. LP_OFF turns a thing off
   and LP_UNLIMITED lifts a limit, where the field says so.
   ========================================================================== */

#define LP_UNLIMITED UINT32_MAX
#define LP_OFF (UINT32_MAX - 1)

typedef struct lp_config {
    /* Where. */
    const char *host;   /* an IP literal, "localhost" or "*"     [127.0.0.1] */
    uint16_t port;      /* 0: the kernel picks, lp_port() tells          [0] */
    uint32_t backlog;   /* of the listener; the kernel may cut it     [4096] */
    const char *prefix; /* of the API's paths; "/": no prefix         [/api] */
    uint32_t loops;     /* threads that serve, 1 to 32; see THREADS      [1] */

    /* Polls. */
    uint32_t timeout_ms;          /* of a poll that names none       [30000] */
    uint32_t timeout_ms_max;      /* a longer wait is cut to this    [60000] */
    uint32_t stream_beat_ms;      /* a stream that has nothing to tell sends a
                                     comment that often              [15000] */
    uint32_t reply_messages;      /* limit= of a poll that has none; the default
                                     is cut to reply_messages_max      [100] */
    uint32_t reply_messages_max;  /* a larger limit= is 400           [1000] */
    uint32_t reply_bytes_max;     /* cut here, never below one message
                                                                   [1048576] */

    /* History: a message is dropped, oldest first, beyond any of these. */
    uint32_t history_count;       /* per channel                      [1000] */
    uint32_t history_age_ms;      /* may be LP_UNLIMITED            [300000] */
    uint32_t transient_ms;        /* a transient message is there for so long
                                     (see lp_publish_transient)       [2000] */
    uint64_t history_bytes;       /* of all channels, with the unsent replies of
                                     slow readers; those may take half of it,
                                     and one address a quarter of that half:
                                     beyond it the reader is cut off; may be
                                     LP_UNLIMITED                 [67108864] */
    uint32_t message_bytes_max;   /* beyond it publishing gets 413   [65536] */
    uint32_t track_receipts;      /* remember to which clients (X-Client-ID) a
                                     message was handed: how many such receipts
                                     of all messages, 48 bytes each and 160 for
                                     each client's name; beyond it the oldest
                                     are dropped                         [0] */

    /* Limits: may be LP_UNLIMITED. */
    uint32_t waiters_max;         /* polls parked; beyond it 429    [100000] */
    uint32_t waiters_per_client;  /* likewise, by address and X-Client-ID if
                                     there is one                        [6] */
    uint32_t waiters_per_channel; /* likewise                        [10000] */
    uint32_t waiters_per_address; /* likewise; IPv6 by /64            [1024] */
    uint32_t channels_max;        /* then the longest idle one is forgotten;
                                     if none is idle, 503           [100000] */
    uint32_t connections_max;     /* beyond it 503 and close        [120000] */
    uint32_t connections_per_address; /* likewise; IPv6 by /64; trusted proxies
                                     are exempt                       [2048] */
    uint32_t partial_bytes_max;   /* memory for all incomplete requests, for
                                     those that wait behind a poll, and for the
                                     records of slow readers. One address may
                                     hold a quarter of it, so one request an
                                     eighth; trusted proxies are exempt. Beyond
                                     it 503 and close, or just close where
                                     another reply is pending     [67108864] */
    uint32_t head_bytes_max;      /* beyond it 431 or 414; 64 to 65535, never
                                     unlimited                       [16384] */
    uint32_t body_bytes_max;      /* of a request to one of your own routes;
                                     beyond it 413. At most 256 MiB, and of
                                     little use above an eighth of
                                     partial_bytes_max               [65536] */
    uint32_t file_bytes_max;      /* of what lp_reply_file answers with; beyond
                                     it 500. Below 2 GiB, and of little use
                                     above an eighth of history_bytes: if more
                                     than that is left of an answer once the
                                     socket has taken its first part, the reader
                                     is cut off, a fast one too    [8388608] */
    /* Deadlines: may all be LP_OFF. */
    uint32_t head_ms;             /* from a request's first byte to the end of
                                     its head; then 408              [10000] */
    uint32_t body_ms;             /* from there to its end; then 408 [30000] */
    uint32_t idle_ms;             /* between requests; then close    [75000] */
    uint32_t write_ms;            /* for each 16 KiB of a reply; then close
                                                                     [30000] */
    uint32_t linger_ms;           /* for a client to read the last reply before
                                     its connection is closed         [2000] */
    uint32_t later_ms;            /* of a request that lp_defer has put off;
                                     then 504                        [30000] */
    uint32_t drain_ms;            /* lp_stop answers the parked polls within
                                     this time; slow readers then get write_ms
                                     more, at most 30 s               [2000] */
    uint32_t channel_linger_ms;   /* see LP_CHANNEL_VACATED           [5000] */

    /* Who is allowed; see ACCESS. "" is an error. */
    const char *poll_token;       /* of polls and streams             [none] */
    const char *publish_token;    /* of publishing                    [none] */
    const char *admin_token;      /* of administration, which is not served
                                     without it or token_secret       [none] */
    const char *token_secret;     /* signs tokens; 32 bytes or more   [none] */
    const char *publish;          /* who may publish over HTTP: "anyone" whom
                                     tokens and hooks let pass; "token": the
                                     same, but lp_create() fails if there is no
                                     publish_token or token_secret; "off":
                                     nobody, POST gets 404          [anyone] */
    uint32_t monitor;             /* who may have /metrics, /healthz and
                                     /api/stats: 0 by admin_token, or without
                                     one only this machine (see HTTP API); 1
                                     everybody; LP_OFF nobody            [0] */
    const char *cors;             /* origins with ',' between, or "*" [none] */
    uint32_t cors_max_age_s;      /* of a preflight                    [600] */
    const char *hosts;            /* names allowed in Host, with ',' between;
                                     IP literals and localhost always are. If
                                     unset, only those are allowed when host is
                                     a loopback address, else any     [none] */
    const char *trusted_proxies;  /* networks with ',' between: 10.0.0.0/8
                                                                      [none] */
    /* Redis, for many instances; see REDIS. */
    const char *redis;            /* 1 to 16 stores with ',' between:
                                     redis://user:password@host:6379/0 or
                                     unix:/path, with %HH for bytes that would
                                     not stand there                  [none] */
    const char *redis_prefix;     /* of its keys                       [lp1] */
    uint32_t redis_timeout_ms;    /* of a call, and of a heartbeat    [5000] */
    uint32_t redis_keep_ms;       /* a quiet channel's cursors stay valid that
                                     long; never less than history_age_ms; may
                                     be LP_UNLIMITED               [3600000] */
    uint32_t redis_empty_ms;      /* likewise of one that never had a message
                                                                    [300000] */
    uint32_t redis_retry_ms;      /* an Idempotency-Key is remembered that long
                                                                    [300000] */
    uint32_t redis_pending_max;   /* publishing calls under way at a store, and
                                     16 MiB of them; beyond it 503   [10000] */
    /* Hooks. */
    lp_authorize authorize;
    lp_before_publish before_publish;
    lp_after_publish after_publish;
    lp_memory memory;
    lp_log log;
    lp_watch watch;
    lp_access_log access_log;
    lp_policy_hook policy;        /* of channels that are made               */
    const lp_os *os;              /* NULL: the real one                      */
} lp_config;

/* Set a field by its name, '_' or '-' between the words: "waiters-per-client".
   Numbers are decimal, with k or m for KiB or MiB, or "off", "unlimited".

   value     for a string field the pointer is kept: it must live until
             lp_create() has returned.

   Thread:   any.
   Returns:  LP_OK, or with nothing changed
             LP_ERR_ARG  no such field, or not a value that it can have      */
LPDEF lp_result lp_config_set(lp_config *config, const char *name,
                              const char *value);

/* ==========================================================================
   LIFE CYCLE                                                          >>life
   ========================================================================== */

/* Bind and listen. Connections queue in the kernel until lp_run or lp_step.

   config    NULL for all defaults; copied, strings included.
   out       receives the server, to be ended by lp_destroy().

   Returns:  LP_OK, or LP_ERR_CONFIG, LP_ERR_NOMEM, LP_ERR_IN_USE,
             LP_ERR_DENIED, LP_ERR_OS                                        */
LPDEF lp_result lp_create(lp_server **out, const lp_config *config);

/* Serve until lp_stop() and the drain after it, on this thread and, with
   cfg.loops above 1, on more, which have ended when it returns. A thread that
   is cancelled meanwhile goes on serving until lp_stop().

   Returns:  LP_OK, or LP_ERR_OS if a poller fails or no thread can be started;
             it may be called again                                          */
LPDEF lp_result lp_run(lp_server *server);

/* Begin the drain: what waits in the listener's queue is accepted, then it
   closes; parked polls are answered with their own cursor, spread over
   drain_ms; replies being written are finished; idle connections close last.
   More calls change nothing.

   Thread:   any, and signal handlers. Never blocks.                         */
LPDEF void lp_stop(lp_server *server);

/* Close and free everything. NULL is fine. No other thread may be in a call,
   and no signal handler that calls lp_stop() may run any more. */
LPDEF void lp_destroy(lp_server *server);

/* The port that the server listens on. Thread: any. */
LPDEF uint16_t lp_port(const lp_server *server);

/* Inside somebody else's event loop: wait until lp_fd() is readable or
   lp_wait_ms() has passed, then call lp_step(server, 0). With cfg.loops above 1
   this is not possible: lp_step returns LP_ERR_ARG, the others -1.

   lp_step   one turn: waits at most wait_ms (negative: for as long as
             nothing is due) and does what is due.
             LP_OK, LP_ERR_STOPPED once the drain is over, LP_ERR_OS.
   lp_fd     the poller's descriptor.
   lp_wait_ms milliseconds until the next deadline, 0 for work that is left;
             some days if there is none.                                     */
LPDEF lp_result lp_step(lp_server *server, int wait_ms);
LPDEF int lp_fd(const lp_server *server);
LPDEF int lp_wait_ms(lp_server *server);

/* ==========================================================================
   ROUTES                                                            >>routes

   Your own paths beside the built-in ones. A handler answers with one
   lp_reply before it returns, or puts that off by lp_defer; a body has been
   read whole by then, chunked or not, up to body_bytes_max.
   ========================================================================== */

typedef void (*lp_handler)(lp_request *request, void *ctx);

/* Serve `pattern` ("/", "/rooms/{room}/info"; a part in braces matches any one
   non-empty part of a path). GET serves HEAD too, without the body; OPTIONS and
   405 are answered by the library. Of several that match, the earliest serves;
   but yours come before the library's /metrics, /healthz and /api/stats, so
   that a program that has such a path of its own keeps it.

   A last part like {path...} matches all that is left of a path, with its
   slashes, or nothing: "/files/{path...}" serves /files/a/b and /files/, but
   not /files. Such a pattern serves only what no other of the method does, the
   library's own included.

   Thread:   the server's, or any before lp_run. With several loops, only before
             lp_run; afterwards LP_ERR_ARG.
   Returns:  LP_OK, LP_ERR_NOMEM, or LP_ERR_ARG: method not one of GET POST PUT
             PATCH DELETE; not a pattern (no leading '/', a '*', a brace that is
             not around a whole part, {x...} before the last part, no name in
             the braces, a byte that a path cannot have); an earlier route of
             the method, with the same kind of last part, matches all of it  */
LPDEF lp_result lp_on(lp_server *server, const char *method,
                      const char *pattern, lp_handler handler, void *ctx);

/* Accessors. If there is no such thing, bytes is NULL; if it is empty, not.
   Bytes is NULL also if it cannot be decoded (a % without two digits behind
   it), or for lack of memory. */
LPDEF lp_slice lp_method(const lp_request *request);
LPDEF lp_slice lp_path(const lp_request *request);       /* as sent          */
LPDEF lp_slice lp_param(lp_request *request, const char *name);   /* decoded */
LPDEF lp_slice lp_query(lp_request *request, const char *name);   /* decoded;
                                          a name of up to 64 bytes           */
LPDEF lp_slice lp_header(const lp_request *request, const char *name);
LPDEF lp_slice lp_body(const lp_request *request);
LPDEF lp_slice lp_client(lp_request *request); /* its address, or the one that
                                          a trusted proxy gives              */

/* The value of a cookie (RFC 6265), of the first if several have that name; not
   decoded, but without the quotes around it. */
LPDEF lp_slice lp_cookie(const lp_request *request, const char *name);

/* A field of a form, if the body is of the type
   application/x-www-form-urlencoded: decoded; the first, if several have that
   name, which has up to 64 bytes. A page of any other site can have a browser
   send a form, with the cookies that it keeps for yours: where that matters,
   compare lp_header(request, "Origin"). */
LPDEF lp_slice lp_form(lp_request *request, const char *name);

/* A whole number in the query: decimal digits, with no zeros before them, and
   perhaps a '-'. LP_OK; LP_ERR_NOT_FOUND if there is no such name;
   LP_ERR_TYPE if its value is anything else, or is below -2^63 or above
   2^63 - 1. */
LPDEF lp_result lp_query_int(const lp_request *request, const char *name,
                             int64_t *out);

/* Answer. `type` is the Content-Type; NULL for none. LP_ERR_ARG if the request
   has been answered or is not a handler's to answer, the status is not 200 to
   599, the type could not stand in a header, or the body is over 2 GiB. */
LPDEF lp_result lp_reply(lp_request *request, int status, const char *type,
                         lp_slice body);

/* {"error":"text"} with the status. */
LPDEF lp_result lp_reply_error(lp_request *request, int status,
                               const char *text);

/* Add a field to a handler's answer, before lp_reply; Cache-Control and
   Access-Control-Allow-Origin replace the library's. LP_ERR_ARG if a byte is
   not allowed in a header (CR and LF above all), or if the field is one that
   the library sets (such as Content-Length); LP_ERR_NOMEM. */
LPDEF lp_result lp_reply_header(lp_request *request, const char *name,
                                lp_slice value);

/* A request that is answered later. All zero: none. */
typedef struct lp_deferred {
    uint64_t number;
    uint32_t loop, connection;
} lp_deferred;

/* Have a handler's request answered later, by lp_reply_later. Until then its
   connection waits as one does whose poll is parked: what the client sends
   behind it waits too, and that it goes away, or ends its side of the stream,
   ends the wait. Fields that lp_reply_header has added stay and go out with the
   answer; all that the request's accessors gave is gone when the handler
   returns.

   timeout_ms  unless it is answered by then, the library answers 504; so it
               does at the end of a drain. 0: cfg.later_ms; may be LP_OFF.
   out         what to give lp_reply_later.

   Returns:  LP_OK: the handler must not answer any more; or, with nothing
             changed
             LP_ERR_ARG    the request has been answered or is not a handler's
                           to answer
             LP_ERR_NOMEM                                                    */
LPDEF lp_result lp_defer(lp_request *request, uint32_t timeout_ms,
                         lp_deferred *out);

/* Answer a deferred request, once.

   type, body  as of lp_reply; copied before return.

   Thread:   any, between lp_create() and lp_destroy(); within the handler that
             has called lp_defer too.
   Blocks:   never.
   Returns:  LP_OK: the answer goes out in the next turn of the request's loop,
             unless the client goes away meanwhile; or, with nothing changed
             LP_ERR_ARG    status, type or body, as of lp_reply
             LP_ERR_GONE   the client has gone away, the request has been
                           answered already, or its time was up
             LP_ERR_NOMEM                                                    */
LPDEF lp_result lp_reply_later(lp_server *server, lp_deferred request,
                               int status, const char *type, lp_slice body);

/* Answer with bytes that are compiled in, or held in memory: 200, or 304 if the
   client has them already (If-None-Match). See PAGES AND FILES. Of the fields
   there only Cache-Control may be set with lp_reply_header, before this.

   name      of a file; what follows its last '.' says the type: html css js mjs
             json map xml txt svg png jpg jpeg gif webp avif ico woff2 wasm pdf
             mp4 webm. Any other, or NULL, is application/octet-stream.
   bytes     copied, or sent, before return.

   Thread:   the request's, within its handler.
   Blocks:   never, but all bytes are hashed for the ETag.
   Returns:  LP_OK, or with nothing answered LP_ERR_ARG as from lp_reply     */
LPDEF lp_result lp_reply_asset(lp_request *request, const char *name,
                               lp_slice bytes);

#ifndef LONGPOLL_NO_FILES
/* Answer with a file: what lp_reply_asset does, for a file on the disk.

   folder    a path; a relative one begins at the current folder of the process.
             Copies of it are not kept.
   path      of the file below that folder, decoded, as lp_param gives it of a
             {path...}, without a '/' before it. If it is empty, or ends with a
             '/', index.html is added. Without bytes, which is what lp_param
             gives if it cannot be decoded, the answer is 404, or 503 if that
             was for lack of memory.

   The answer is 404 if there is no such file that the process may read, and for
   all that might lead elsewhere: a part of the path that is empty, or begins
   with '.' (".." and hidden files too), a NUL, a backslash, a symbolic link
   below the folder, what is not a regular file, and a request whose own path
   has an escaped slash (%2F). 500, or 503 without memory or descriptors or if
   another process has a lease on the file, and a line of the log, at most one a
   second, if the folder cannot be opened, the file cannot be read, or is larger
   than file_bytes_max. None of these answers has the fields that
   lp_reply_header has set.

   Keep fifos and devices out of the folder: to find out what it is, each is
   opened for a moment, and who waits to write to a fifo takes that for its
   reader.

   Thread:   the request's, within its handler.
   Blocks:   on the disk, for as long as it takes to open and read the file, and
             with it all that is served by the same loop. The file is read whole
             with each request, also for HEAD and 304.
   Returns:  LP_OK if there was an answer, whichever; or LP_ERR_ARG: the request
             is not to be answered, or `folder` is NULL                      */
LPDEF lp_result lp_reply_file(lp_request *request, const char *folder,
                              lp_slice path);
#endif

/* --- the JSON emitter ---

   It adds commas and quotes. After the first error nothing more is written and
   lp_json_text is empty. Depth is at most 64. */
typedef struct lp_text { /* text that grows; after a failure it is empty     */
    char *bytes;
    size_t length, capacity;
    lp_memory memory;
    int failed;        /* no memory                                          */
} lp_text;

typedef struct lp_json {
    lp_text text;
    uint64_t in_array; /* a bit per level                                    */
    uint8_t depth;
    uint8_t comma;     /* the next key or value needs a comma before it      */
    uint8_t after_key;
    uint8_t misused;
} lp_json;

LPDEF void lp_json_init(lp_json *json, const lp_memory *memory); /* or NULL  */
LPDEF void lp_json_free(lp_json *json);
LPDEF void lp_json_object(lp_json *json); /* closed by lp_json_end           */
LPDEF void lp_json_array(lp_json *json);
LPDEF void lp_json_end(lp_json *json);
LPDEF void lp_json_key(lp_json *json, lp_slice key);
LPDEF void lp_json_string(lp_json *json, lp_slice text); /* bad UTF-8: U+FFFD */
LPDEF void lp_json_uint(lp_json *json, uint64_t value);
LPDEF void lp_json_int(lp_json *json, int64_t value);
LPDEF void lp_json_double(lp_json *json, double value); /* NaN, inf: null    */
LPDEF void lp_json_bool(lp_json *json, int value);
LPDEF void lp_json_null(lp_json *json);
LPDEF void lp_json_raw(lp_json *json, lp_slice value); /* valid JSON already */
LPDEF lp_slice lp_json_text(const lp_json *json); /* until the next call  */

/* Answer with what was written, as application/json, and free it, also after an
   error: one of lp_reply; LP_ERR_JSON if it is not one whole value, or
   LP_ERR_NOMEM if there was no memory to write it. */
LPDEF lp_result lp_reply_json(lp_request *request, int status, lp_json *json);

/* Exactly one JSON value (RFC 8259), strictly: UTF-8, depth at most 64.
   LP_OK, or LP_ERR_JSON and the offset of the first bad byte. Thread: any. */
LPDEF lp_result lp_json_check(lp_slice text, size_t *out_offset);

/* --- the JSON reader ---

   Takes values out of a text, such as lp_body(), which need not have been
   checked: if it is not exactly one JSON value, by the rules of
   lp_json_check(), there is nothing in it for any of these functions. None of
   them allocates, and slices point into the text. Each lookup reads the whole
   text, and then, for each step of the path, the object or array in which that
   step is made: to take much out of a large text, use lp_json_each().

   A path leads to a value: "user.tags[0]". Names of members have '.' between,
   elements of an array are counted from 0, and "" is the whole text. A name
   that is empty, or has one of . [ ] " in it, is written as a JSON string in
   brackets: ["a.b"]. If an object has a key twice, the last one counts, as in
   JavaScript; escapes in keys mean what they stand for.

   Thread:   any.
   Returns:  LP_OK, or with *out unchanged
             LP_ERR_ARG        not a path
             LP_ERR_JSON       the text is not JSON
             LP_ERR_NOT_FOUND  nothing is there
             LP_ERR_TYPE       of the typed ones: it is of another type, such as
                               null, or out of range                         */

/* The text of a value, as it stands: of a string with its quotes. */
LPDEF lp_result lp_json_get(lp_slice json, const char *path, lp_slice *out);

/* A string, decoded into a buffer, where *out will point, and ended by a NUL
   which is not counted; it may have others in it (\u0000). A string with half
   a surrogate pair in it (\uD800) stands for no text: LP_ERR_TYPE.
   LP_ERR_TOO_LARGE if it needs more than `size` bytes, with the NUL. After an
   error what the buffer has means nothing. */
LPDEF lp_result lp_json_get_string(lp_slice json, const char *path,
                                   char *buffer, size_t size, lp_slice *out);

/* A number, if it is whole and in range. No digit is lost: 1.0 and 1e2 are
   whole, 1.5 and 1e-1 are not, and 2^63 is out of the range of int64_t. */
LPDEF lp_result lp_json_get_int(lp_slice json, const char *path, int64_t *out);
LPDEF lp_result lp_json_get_uint(lp_slice json, const char *path,
                                 uint64_t *out);

/* The double that is nearest to a number, whatever the locale. It is found by
   the C library's strtod, which is given the digits without a point. A number
   that is too large for a double is LP_ERR_TYPE; one that is too near zero is
   zero. */
LPDEF lp_result lp_json_get_double(lp_slice json, const char *path,
                                   double *out);
LPDEF lp_result lp_json_get_bool(lp_slice json, const char *path, int *out);

/* Of what kind is a value that one of these functions gave? Only the first byte
   is looked at. LP_JSON_NONE: no value begins with it. */
typedef enum lp_kind {
    LP_JSON_NONE = 0,
    LP_JSON_NULL = 1,
    LP_JSON_BOOL = 2,
    LP_JSON_NUMBER = 3,
    LP_JSON_STRING = 4,
    LP_JSON_ARRAY = 5,
    LP_JSON_OBJECT = 6
} lp_kind;

LPDEF lp_kind lp_json_kind(lp_slice value);

/* All members of an object, or elements of an array, in their order:

       lp_json_iter it;
       lp_json_each(&it, value);
       while (lp_json_next(&it)) use(it.key, it.value);
       if (it.result != LP_OK) ...

   Each value is a text for the functions above: lp_json_get_int(it.value, "",
   &n). A member whose key comes again is given each time. The text must stay as
   it is until the end. */
typedef struct lp_json_iter {
    lp_slice key;      /* as it stands, without its quotes; in an array bytes is
                          NULL                                               */
    lp_slice value;
    lp_result result;  /* LP_OK; LP_ERR_JSON, or LP_ERR_TYPE if the text is
                          neither an object nor an array: there is no next   */
    lp_slice rest;     /* the library's own                                  */
} lp_json_iter;

LPDEF void lp_json_each(lp_json_iter *it, lp_slice json);
LPDEF int lp_json_next(lp_json_iter *it); /* 0: there is no next             */

/* Is that the key of the member? And the key, decoded, with the errors of
   lp_json_get_string(); LP_ERR_NOT_FOUND in an array. */
LPDEF int lp_json_key_is(const lp_json_iter *it, const char *name);
LPDEF lp_result lp_json_key_text(const lp_json_iter *it, char *buffer,
                                 size_t size, lp_slice *out);

/* ==========================================================================
   PUBLISH                                                      >>publish-api
   ========================================================================== */

/* Publish one JSON object on `channel`, or an array of objects, and wake every
   poll parked there. The objects of an array are messages in a row with none of
   another's between them; they are published all or none.

   channel   1 to 255 bytes of UTF-8 without control characters.
   json      UTF-8; copied before return. An array holds 1 to 1,000 objects, and
             no more than history_count, or the channel's policy, says.
   out       receives id, timestamp and waiters; may be NULL.

   Thread:   any. The calls of one thread keep their order.
   Blocks:   never on the network; holds the hub for one append.
   Returns:  LP_OK; with Redis LP_PENDING, `out` being untouched; or with
             nothing published
             LP_ERR_ARG        bad channel name
             LP_ERR_JSON       not exactly one JSON object, or array of some
             LP_ERR_TOO_LARGE  more than message_bytes_max, or too many objects
             LP_ERR_REFUSED    cfg.policy does not let the channel be made
             LP_ERR_FULL, LP_ERR_NOMEM, LP_ERR_STOPPED
             LP_ERR_AWAY       Redis is not there, or more is under way than
                               redis_pending_max
             LP_ERR_OS         no random bytes for a new channel's epoch     */
LPDEF lp_result lp_publish(lp_server *server, lp_slice channel, lp_slice json,
                           lp_published *out);

/* lp_publish, of what matters only now: where a mouse is, who is typing. The
   message is delivered like any other to who waits, and to who comes within
   cfg.transient_ms; then its text is dropped. It keeps its number, so that who
   missed it is told: a reply that goes past it, from a cursor before it, has
   all that came before and after, each once and in order, and the reset
   "evicted". To who asks for 0 or now that is not said. It counts as one
   message of the history until those before it are gone. With Redis its text is
   never stored: who waits at any instance gets it, but an instance that was cut
   off from Redis when it was published, or did not follow the channel yet,
   takes it for one whose time is over.

   Returns:  as lp_publish                                                   */
LPDEF lp_result lp_publish_transient(lp_server *server, lp_slice channel,
                                     lp_slice json, lp_published *out);

/* Receives the outcome of lp_publish_async: on lp_run's own thread, in its next
   turn, or in lp_destroy. `published` is NULL unless result is LP_OK, and valid
   during the call. */
typedef void (*lp_published_fn)(void *ctx, lp_result result,
                                const lp_published *published);

/* lp_publish, with the outcome told to `fn` later in any case: with Redis also
   LP_ERR_AWAY and LP_ERR_UNKNOWN.
   Returns:  LP_OK (fn will be called once), or LP_ERR_ARG, LP_ERR_NOMEM,
             LP_ERR_STOPPED (it will not)                                    */
LPDEF lp_result lp_publish_async(lp_server *server, lp_slice channel,
                                 lp_slice json, lp_published_fn fn,
                                 void *ctx);

/* ==========================================================================
   INSPECT                                                          >>inspect
   ========================================================================== */

enum {
    LP_LATENCIES = 96,
    LP_REPLY_SIZES = 10,
    LP_STATUS_CLASSES = 6
};

typedef struct lp_stats {
    /* These count up to the end of each loop's last turn, and streams too:  */
    uint64_t requests;      /* well-formed                                   */
    uint64_t replies[LP_STATUS_CLASSES]; /* by the status's first digit      */
    uint64_t reply_sizes[LP_REPLY_SIZES]; /* bodies that were sent, and events
                               of a stream that were sent together: [i] counts
                               those of up to 256 * 4^i bytes that are more than
                               [i - 1] has room for; the last has no bound   */
    uint64_t reply_bytes;   /* the sum of their sizes                        */

    uint64_t published;     /* messages appended                             */
    uint64_t delivered;     /* messages in replies to polls                  */
    uint64_t resets;        /* replies that have a "reset"                   */
    uint64_t evicted;       /* messages dropped by count, age or bytes       */
    uint64_t refused;       /* 429, and connections that were not admitted   */
    uint32_t connections;   /* open now                                      */
    uint32_t streams;       /* open now                                      */
    uint32_t waiters;       /* polls parked now, of streams too              */
    uint32_t channels;      /* known now                                     */
    uint32_t messages;      /* held now; also those without their text       */
    uint64_t history_bytes; /* what they take                                */
    uint64_t pinned_bytes;  /* of the unsent replies of slow readers         */

    uint32_t redis_up;         /* stores that are connected now              */
    uint64_t redis_connects;   /* how often one was connected                */
    uint64_t redis_epochs;     /* channels found to have a new epoch         */
    uint64_t redis_opens;      /* channels' states read                      */
    uint64_t redis_pages;      /* and those for messages that are not cached */
    uint64_t redis_gaps;       /* messages that came ahead of others         */
    uint64_t redis_unknown;    /* publishing calls of unknown outcome        */
    uint64_t redis_round_trip_us; /* of the last heartbeat, the longest of all
                                  stores                                     */

    /* Histograms for lp_latency_percentile_us(): the time from the publishing
       call or request until the last byte of a parked poll's reply was handed
       to the kernel. Polls that are answered in one batch, of up to 32, all
       count with the time of the last. first_latencies holds only each loop's
       first reply with a new message: it shows what a fan-out on one channel
       costs the others.                                                     */
    uint64_t latencies[LP_LATENCIES];
    uint64_t first_latencies[LP_LATENCIES];
    uint64_t latencies_us;  /* the sum of what `latencies` counts            */
} lp_stats;

/* Thread: any. */
LPDEF void lp_stats_read(lp_server *server, lp_stats *out);

/* A channel, as it is known here. With Redis that is what this instance has in
   its cache: the channels that its clients wait on, or did a moment ago. */
typedef struct lp_channel_info {
    char name[256];        /* ended by a NUL                                 */
    uint32_t waiters;      /* polls and streams that are parked              */
    uint32_t held;         /* messages, with their text                      */
    char first_id[40];     /* of the oldest that is held; "" if none is      */
    char last_id[40];      /* of the newest ever: the cursor of who has had
                              all. EPOCH-0 if there was none; "" if Redis has
                              not told it yet                                */
    uint64_t timestamp_us; /* of that message, or created_us                 */
    uint64_t created_us;   /* when its epoch began                           */
} lp_channel_info;

/* Thread: any. LP_OK, or LP_ERR_ARG: bad name; LP_ERR_NOT_FOUND. */
LPDEF lp_result lp_channel_read(lp_server *server, lp_slice channel,
                                lp_channel_info *out);

/* Some of the channels, at most `max`, in no order; returns how many. *position
   is 0 to begin with, and receives what the next call is to be given: 0 after
   the last. A channel that is there all the while is among them exactly once.
   Thread: any. */
LPDEF uint32_t lp_channels_read(lp_server *server, uint32_t *position,
                                lp_channel_info *out, uint32_t max);

/* Is told of one message, which is valid during the call. */
typedef void (*lp_message_fn)(void *ctx, const lp_message *message);

/* Tell `fn` of the newest messages that the channel holds, at most `max`, the
   oldest of them first and without a gap, but for transient ones whose text was
   dropped; LP_UNLIMITED for all. What is published meanwhile is not among them,
   and if the oldest are dropped meanwhile there are fewer. No lock is held
   while `fn` is called: it may publish, and call whatever any thread may. With
   Redis they are those that are cached here.

   Thread:   any; `fn` is called on it.
   Blocks:   never on the network; takes the hub once for each 64 messages.
   Returns:  LP_OK, or without a call of fn LP_ERR_ARG (bad name, no fn),
             LP_ERR_NOT_FOUND (no such channel), LP_ERR_NOMEM                */
LPDEF lp_result lp_messages_read(lp_server *server, lp_slice channel,
                                 uint32_t max, lp_message_fn fn, void *ctx);

/* Drop a channel's history. The channel begins a new epoch, so that every poll
   that is parked on it, and every cursor of it, is told by a reset.

   Thread:   any.
   Returns:  LP_OK; with Redis LP_PENDING: it is done soon, on every instance,
             unless Redis is lost; or with nothing changed LP_ERR_ARG,
             LP_ERR_NOT_FOUND (never with Redis), LP_ERR_STOPPED, LP_ERR_AWAY,
             LP_ERR_NOMEM, LP_ERR_OS                                         */
LPDEF lp_result lp_channel_delete(lp_server *server, lp_slice channel);

/* Have everybody who waits on the channel ask for access again: each poll that
   is parked on it is answered at once, with its own cursor, as if its timeout
   had come, and each stream ends. Their clients come again, and lp_authorize is
   asked, or their token looked at. So access is taken away by a change to what
   lp_authorize answers, and this call after it: once it has returned, nobody is
   given a message of the channel, even one that is published at that moment,
   for whom lp_authorize was not asked since; but for what was on its way. A
   poll that waits for Redis to tell where its cursor stands is answered then.
   With Redis this is about who waits on this instance: call it on each.

   Thread:   any. If lp_authorize calls it for the channel that it is asked
             about, it is asked again; if it does so each time, the poll gets
             503 after a few.
   Returns:  LP_OK, also if nobody waits there; LP_ERR_ARG: bad name         */
LPDEF lp_result lp_recheck(lp_server *server, lp_slice channel);

/* Some of the clients that a message was handed to. */
typedef struct lp_receipts {
    uint32_t position; /* 0 to begin with; receives what the next call is to be
                          given: 0 after the last                            */
    int complete;      /* 0: some were dropped, see track_receipts           */
    uint32_t count;    /* of client_ids                                      */
    char client_ids[64][129]; /* ended by a NUL each                         */
} lp_receipts;

/* Which clients was the message handed to? Those whose X-Client-ID came with a
   poll or a stream, of which a reply had the message in it, when the last byte
   of that reply was given to the kernel. Whether a client has read it is not
   known here; that it polls again behind the message says so. With Redis a
   receipt is known to the instance that made it.

   id        the message's, "EPOCH-SEQ".

   Thread:   any.
   Returns:  LP_OK, or with *page unchanged
             LP_ERR_ARG        bad channel name or id
             LP_ERR_NOT_FOUND  the message is not held                       */
LPDEF lp_result lp_receipts_read(lp_server *server, lp_slice channel,
                                 lp_slice id, lp_receipts *page);

/* A percentile of a histogram, 0.5 for the median, in microseconds: that part
   of the latencies is not above it. It is at most a quarter too high; 0 if the
   histogram is empty. Thread: any. */
LPDEF uint64_t lp_latency_percentile_us(const uint64_t latencies[LP_LATENCIES],
                                        double percentile);

/* A line of an access log, for lp_access_log: in the common format (NCSA)

       192.0.2.7 - - [24/Nov/2026:07:01:41 +0000] "GET / HTTP/1.1" 200 612

   or as a JSON object. No text can forge another line or field: bytes that
   could are written as \xHH, in JSON as \u00HH; there what is no UTF-8 is
   U+FFFD. A text that does not fit is cut.

   buffer    receives the line, which ends with a line feed, and a NUL.
   size      of it; LP_ACCESS_LINE is enough for most, and below
             LP_ACCESS_LINE_MIN nothing but the NUL is written.

   Thread:   any.
   Returns:  the length of the line.                                         */
enum { LP_ACCESS_LINE = 2048, LP_ACCESS_LINE_MIN = 400 };

#ifndef LONGPOLL_NO_MONITOR
LPDEF size_t lp_access_common(char *buffer, size_t size,
                              const lp_access *access);
LPDEF size_t lp_access_json(char *buffer, size_t size,
                            const lp_access *access);
#endif

/* ==========================================================================
   ADVANCED                                                        >>advanced

   The operating system, as the library sees it: one table of functions, so
   that a simulator can stand in its place. `ctx` comes first in each. A
   function that fails returns -errno. Descriptors are any integers from 0 up.
   Nothing blocks but poller_wait.
   ========================================================================== */

#define LP_READ 1u   /* readable, or the peer has ended its stream           */
#define LP_WRITE 2u  /* writable                                             */
#define LP_HANGUP 4u /* the peer has ended its stream, or it broke           */
#define LP_EDGE 8u   /* for poller_set: report what comes, not what is left  */

typedef struct lp_event {
    uint32_t tag;
    uint32_t what;
} lp_event;

/* Tells which descriptors are ready. lp_fd() returns `fd`; the rest belongs to
   the functions below alone. */
typedef struct lp_poller {
    int fd;
    int timer;         /* a descriptor, or -1                                */
    uint64_t timer_us; /* when it fires; UINT64_MAX: never                   */
} lp_poller;

struct lp_os {
    void *ctx;
    uint64_t (*monotonic_us)(void *ctx);
    uint64_t (*wall_us)(void *ctx); /* since 1970                            */
    int (*random)(void *ctx, void *bytes, size_t size);

    /* A listening descriptor; its address and port as bound in *bound. */
    int (*listen)(void *ctx, const lp_address *at, int backlog,
                  lp_address *bound);
    int (*accept)(void *ctx, int listener, lp_address *peer);
    long (*recv)(void *ctx, int fd, void *bytes, size_t size); /* 0: ended   */
    long (*send)(void *ctx, int fd, const lp_slice *parts, int count);

    /* End a stream, though a child process may have a copy of the descriptor
       (it has one from fork to exec at least). how is LP_WRITE if nothing more
       will be sent, or LP_READ | LP_WRITE before the stream is closed. A
       listener that is shut down accepts no more connections. */
    int (*shutdown)(void *ctx, int fd, uint32_t how);
    void (*close)(void *ctx, int fd);
    int (*reserve)(void *ctx); /* a descriptor to give up when none are left */

    /* Level-triggered, but where LP_EDGE is wanted. `was` and `want` are masks;
       was 0 adds, want 0 removes. A descriptor is removed before it is closed:
       closing does not remove it while a child has a copy. LP_EDGE comes with
       LP_READ | LP_HANGUP: what was reported need not be reported again, until
       more comes or poller_set is called once more, `was` and `want` the same.
       A poller may ignore it.
       poller_wait waits for an event, until the time until_us of monotonic_us:
       0 means not at all, UINT64_MAX for ever. It may return sooner with no
       event, but not again and again; and of one descriptor it reports LP_READ
       once. */
    int (*poller_open)(void *ctx, lp_poller *out);
    int (*poller_set)(void *ctx, lp_poller *poller, int fd, uint32_t tag,
                      uint32_t was, uint32_t want);
    int (*poller_wait)(void *ctx, lp_poller *poller, lp_event *events, int max,
                       uint64_t until_us);
    void (*poller_close)(void *ctx, lp_poller *poller);

    /* Like a pipe: signalling fds[1] makes fds[0] readable until it is cleared.
       wake_signal is called on any thread and in signal handlers. */
    int (*wake_open)(void *ctx, int fds[2]);
    void (*wake_signal)(void *ctx, int fd);
    void (*wake_clear)(void *ctx, int fd);

    /* For cfg.redis, and NULL without it. connect begins to connect a stream,
       to the unix socket `path` unless that is NULL, and returns its descriptor
       at once. When the poller reports LP_WRITE of it, connected says whether
       that succeeded: 0 or -errno. resolve finds the address of a host's name;
       it may block, and is called on a thread of its own. */
    int (*connect)(void *ctx, const lp_address *to, const char *path);
    int (*connected)(void *ctx, int fd);
    int (*resolve)(void *ctx, const char *host, lp_address *out);
};

#ifdef __cplusplus
}
#endif
#endif /* LONGPOLL_H */

/* ==========================================================================
   ==========================================================================
   IMPLEMENTATION
   ==========================================================================
   ========================================================================== */

#if defined(LONGPOLL_IMPLEMENTATION) && !defined(LONGPOLL_IMPLEMENTED)
#define LONGPOLL_IMPLEMENTED

/* ==========================================================================
   A1  PLATFORM                                                    >>platform

   What depends on the compiler and on the C library: includes, assertions,
   atomics, the mutex, threads and their cancellation. The system calls are in
   >>os and >>poller. From here on `inline` stands where each poll goes through
   a small function that has many callers: without it, compilers make a call.

   Touches   what it is given.
   Promises  LONGPOLL_NO_THREADS is looked at here only: the rest of the file is
             the same with threads and without.
   ========================================================================== */

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#ifdef __linux__
#include <sys/random.h>
#endif
#ifndef LONGPOLL_NO_FILES
#include <sys/stat.h>
#endif
#include <sys/time.h>
#include <sys/types.h>
#ifndef LONGPOLL_NO_REDIS
#include <netdb.h>
#include <sys/un.h>
#endif
#include <time.h>
#include <unistd.h>

#if !defined(LONGPOLL_KQUEUE) && defined(__linux__)
#include <sys/epoll.h>
#include <sys/timerfd.h>
#else
#ifndef LONGPOLL_KQUEUE
#define LONGPOLL_KQUEUE
#endif
#include <sys/event.h>
#endif

#ifndef LONGPOLL_NO_THREADS
#include <pthread.h>
#endif

/* If a system header was included before this file, _GNU_SOURCE came too late,
   and with -std=c99 glibc has not declared these functions. It has them. */
#if defined(__GLIBC__) && !defined(__USE_GNU) && !defined(__cplusplus)
extern int accept4(int fd, struct sockaddr *address, socklen_t *length,
                   int flags);
extern int pipe2(int fds[2], int flags);
#ifndef O_CLOEXEC
#define O_CLOEXEC __O_CLOEXEC
#endif
#ifndef LONGPOLL_NO_FILES
extern int openat(int folder, const char *name, int flags, ...);
#ifndef O_NOFOLLOW
#define O_DIRECTORY __O_DIRECTORY
#define O_NOFOLLOW __O_NOFOLLOW
#endif
#endif
#if !defined(AI_PASSIVE) && !defined(LONGPOLL_NO_REDIS)
struct addrinfo {
    int ai_flags, ai_family, ai_socktype, ai_protocol;
    socklen_t ai_addrlen;
    struct sockaddr *ai_addr;
    char *ai_canonname;
    struct addrinfo *ai_next;
};
extern int getaddrinfo(const char *name, const char *service,
                       const struct addrinfo *hints, struct addrinfo **out);
extern void freeaddrinfo(struct addrinfo *list);
#endif
#ifndef __USE_POSIX199309
extern int clock_gettime(int clock, struct timespec *out);
#define CLOCK_REALTIME 0
#define CLOCK_MONOTONIC 1
#endif
#endif

#ifndef LP_ASSERT
#ifdef LONGPOLL_DEBUG
#define LP_ASSERT(x)                                                          \
    ((x) ? (void)0                                                            \
         : (fprintf(stderr, "longpoll.h:%d: LP_ASSERT(%s)\n", __LINE__, #x),  \
            abort()))
#else
#define LP_ASSERT(x) ((void)0)
#endif
#endif

#define LPI_NONE UINT32_MAX /* no index                                      */
#define LPI_COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* For what is so only if a channel's store is elsewhere: without Redis the
   compiler knows that it never is. */
#ifdef LONGPOLL_NO_REDIS
#define LPI_REMOTE(x) ((x) && 0)
#else
#define LPI_REMOTE(x) (x)
#endif

/* Likewise for what is so only of a stream, */
#ifdef LONGPOLL_NO_STREAM
#define LPI_STREAMING(x) ((x) && 0)
#else
#define LPI_STREAMING(x) (x)
#endif

/* and for what is so only with signed tokens. */
#ifdef LONGPOLL_NO_TOKEN
#define LPI_SIGNED(x) ((x) && 0)
#else
#define LPI_SIGNED(x) (x)
#endif

/* Are requests of administrators served, and receipts noted? */
#ifdef LONGPOLL_NO_ADMIN
#define LPI_ADMINISTERED 0
#else
#define LPI_ADMINISTERED 1
#endif

/* Likewise for what only a server that is monitored has. */
#ifdef LONGPOLL_NO_MONITOR
#define LPI_MONITORED(x) ((x) && 0)
#else
#define LPI_MONITORED(x) (x)
#endif

static uint64_t lpi_max64(uint64_t a, uint64_t b) { return a > b ? a : b; }

/* For reference counts and flags that several threads touch. Taking a reference
   needs no order, since one is held already; giving one back does, so that the
   thread that frees sees all that the others wrote. */
static void lpi_atomic_add(uint32_t *value, uint32_t n)
{
    __atomic_add_fetch(value, n, __ATOMIC_RELAXED);
}

static uint32_t lpi_atomic_sub(uint32_t *value, uint32_t n)
{
    return __atomic_sub_fetch(value, n, __ATOMIC_ACQ_REL);
}

static uint32_t lpi_atomic_get(const uint32_t *value)
{
    return __atomic_load_n(value, __ATOMIC_ACQUIRE);
}

static void lpi_atomic_set(uint32_t *value, uint32_t to)
{
    __atomic_store_n(value, to, __ATOMIC_RELEASE);
}

#ifdef LONGPOLL_NO_THREADS
typedef int lpi_mutex;
static int lpi_mutex_init(lpi_mutex *m) { return *m = 0; }
static void lpi_mutex_free(lpi_mutex *m) { (void)m; }
static void lpi_lock(lpi_mutex *m) { LP_ASSERT(!*m); *m = 1; }
static void lpi_unlock(lpi_mutex *m) { LP_ASSERT(*m); *m = 0; }

enum { LPI_LOOPS_MAX = 1 };
typedef int lpi_thread;
static int lpi_thread_start(lpi_thread *t, void *(*run)(void *), void *ctx)
{
    (void)t, (void)run, (void)ctx;
    return -1;
}
static void lpi_thread_join(lpi_thread t) { (void)t; }
#ifndef LONGPOLL_NO_REDIS
static int lpi_thread_detach(void *(*run)(void *), void *ctx)
{
    (void)run, (void)ctx;
    return -1;
}
#endif
static lpi_thread lpi_thread_self(void) { return 0; }
static int lpi_cancel_defer(void) { return 0; }
static void lpi_cancel_restore(int was) { (void)was; }
#else
typedef pthread_mutex_t lpi_mutex;
static int lpi_mutex_init(lpi_mutex *m) { return pthread_mutex_init(m, NULL); }
static void lpi_mutex_free(lpi_mutex *m) { pthread_mutex_destroy(m); }
static void lpi_lock(lpi_mutex *m) { pthread_mutex_lock(m); }
static void lpi_unlock(lpi_mutex *m) { pthread_mutex_unlock(m); }

enum { LPI_LOOPS_MAX = 32 }; /* a mask of loops has 32 bits */
typedef pthread_t lpi_thread;
static int lpi_thread_start(lpi_thread *t, void *(*run)(void *), void *ctx)
{
    return pthread_create(t, NULL, run, ctx);
}
static void lpi_thread_join(lpi_thread t) { pthread_join(t, NULL); }

#ifndef LONGPOLL_NO_REDIS
/* Start a thread that nobody joins. 0 or -1. */
static int lpi_thread_detach(void *(*run)(void *), void *ctx)
{
    pthread_t t;
    if (pthread_create(&t, NULL, run, ctx)) return -1;
    pthread_detach(t);
    return 0;
}
#endif
static lpi_thread lpi_thread_self(void) { return pthread_self(); }

/* A thread is cancelled only after the library's call is over. If it ended in a
   system call, a lock that it holds would stay locked, and a loop that it has
   marked as woken but not signalled yet would sleep on. */
#ifdef __ANDROID__ /* which has no cancellation */
static int lpi_cancel_defer(void) { return 0; }
static void lpi_cancel_restore(int was) { (void)was; }
#else
static int lpi_cancel_defer(void)
{
    int was = PTHREAD_CANCEL_ENABLE;
    pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &was);
    return was;
}
static void lpi_cancel_restore(int was) { pthread_setcancelstate(was, &was); }
#endif
#endif

/* ==========================================================================
   A2  MEMORY                                                        >>memory

   All memory comes from one function, the user's or the C library's. It is told
   the old size, so that an allocator need not store it.

   Touches   the memory that it is given.
   Promises  Nothing else in the file calls malloc or free, but for the record
             of a name that is looked up (>>redis). A failure is NULL or -1, and
             leaves what was there before as it was.
   ========================================================================== */

static void *lpi_libc_resize(void *ctx, void *ptr, size_t old_size,
                             size_t new_size)
{
    (void)ctx;
    (void)old_size;
    if (!ptr) return malloc(new_size);
    if (new_size) return realloc(ptr, new_size);
    free(ptr);
    return NULL;
}

static const lp_memory lpi_libc_memory = {lpi_libc_resize, NULL};

static void *lpi_alloc(const lp_memory *memory, size_t size)
{
    LP_ASSERT(size);
    return memory->resize(memory->ctx, NULL, 0, size);
}

static void *lpi_alloc_zero(const lp_memory *memory, size_t size)
{
    void *ptr = lpi_alloc(memory, size);
    if (ptr) memset(ptr, 0, size);
    return ptr;
}

static void lpi_free(const lp_memory *memory, void *ptr, size_t size)
{
    if (ptr) memory->resize(memory->ctx, ptr, size, 0);
}

/* The capacity, doubled until it holds `need` bytes; 0 if a size_t cannot. */
static size_t lpi_grown(size_t capacity, size_t need)
{
    size_t grown = capacity ? capacity : 256;
    while (grown < need) {
        if (grown > SIZE_MAX / 2) return 0;
        grown *= 2;
    }
    return grown;
}

/* Make room for `need` bytes at *bytes, which may move. 0 or -1. */
static int lpi_reserve(const lp_memory *memory, char **bytes,
                       size_t *capacity, size_t need)
{
    size_t grown = lpi_grown(*capacity, need);
    void *ptr;
    if (need <= *capacity) return 0;
    if (!grown) return -1;
    ptr = memory->resize(memory->ctx, *bytes, *capacity, grown);
    if (!ptr) return -1;
    *bytes = (char *)ptr;
    *capacity = grown;
    return 0;
}

/* Likewise for an array of pointers that has one for `index`; those that are
   new are NULL. */
static int lpi_reserve_pointers(const lp_memory *memory, char **pointers,
                                uint32_t *capacity, uint32_t index)
{
    size_t had = *capacity * sizeof(void *), size = had;
    if (index < *capacity) return 0;
    if (lpi_reserve(memory, pointers, &size,
                    (index + (size_t)1) * sizeof(void *)))
        return -1;
    memset(*pointers + had, 0, size - had);
    *capacity = (uint32_t)(size / sizeof(void *));
    return 0;
}

/* ==========================================================================
   A3  TEXT                                                            >>text

   Text as it comes and goes on the wire: slices, classes of characters,
   numbers, UTF-8, the keyed hash; and the two ways to put bytes together, a
   buffer that grows and an arena. Long texts are looked through eight bytes at
   a time.

   Uses      >>memory, for the buffer and the arena
   Touches   the bytes that it is given; nothing beyond their length is read.
   Promises  Text is never taken to end with a NUL. A number is its digits
             alone: a sign, a space or a leading zero is refused.
   ========================================================================== */

enum {
    LPI_TOKEN = 1, /* RFC 9110 5.6.2                                         */
    LPI_HEX = 2,
    LPI_VALUE = 4, /* a field value: HTAB, SP, visible, obs-text             */
    LPI_HOST = 8   /* RFC 3986 3.2.2, reg-name, without the comma and %      */
};

/* clang-format off */
static const uint8_t lpi_classes[256] = {
     0,  0,  0,  0,  0,  0,  0,  0,  0,  4,  0,  0,  0,  0,  0,  0,
     0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
     4, 13,  4,  5, 13,  5, 13, 13, 12, 12, 13, 13,  4, 13, 13,  4,
    15, 15, 15, 15, 15, 15, 15, 15, 15, 15,  4, 12,  4, 12,  4,  4,
     4, 15, 15, 15, 15, 15, 15, 13, 13, 13, 13, 13, 13, 13, 13, 13,
    13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13,  4,  4,  4,  5, 13,
     5, 15, 15, 15, 15, 15, 15, 13, 13, 13, 13, 13, 13, 13, 13, 13,
    13, 13, 13, 13, 13, 13, 13, 13, 13, 13, 13,  4,  5,  4, 13,  0,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,
     4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4,  4
};
/* clang-format on */

static int lpi_is(char c, uint8_t classes)
{
    return (lpi_classes[(uint8_t)c] & classes) != 0;
}

/* All functions lpi_count_* tell how many bytes, from the first on, are of some
   kind. Here: of one of these classes. */
static size_t lpi_count_of(const char *bytes, size_t length, uint8_t classes)
{
    size_t i = 0;
    while (i < length && lpi_is(bytes[i], classes)) i++;
    return i;
}

/* --- eight bytes at a time ---

   A word holds eight bytes, the first of them lowest. A test of a word answers
   in the highest bit of each byte. The additions may carry from a byte into
   those above it, so only the lowest bit of an answer can be relied on: it
   stands for the first byte that fails the test (Warren, Hacker's Delight,
   6-1). */

#define LPI_ONES UINT64_C(0x0101010101010101)
#define LPI_TOPS UINT64_C(0x8080808080808080)

/* A word of four bytes. Compilers turn this into one load. */
static uint32_t lpi_half(const uint8_t *b)
{
    return b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 |
           (uint32_t)b[3] << 24;
}

static uint64_t lpi_word(const char *bytes)
{
    uint64_t word;
    memcpy(&word, bytes, sizeof word);
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    word = __builtin_bswap64(word);
#endif
    return word;
}

/* A word of at most seven bytes, with zeros above them. From four bytes on it
   is read as two halves, which may overlap. */
static inline uint64_t lpi_word_of(const char *bytes, size_t length)
{
    const uint8_t *b = (const uint8_t *)bytes, *end = b + length;
    if (length >= 4)
        return lpi_half(b) | (uint64_t)lpi_half(end - 4) << 8 * (length - 4);
    if (!length) return 0;
    return b[0] | (uint64_t)b[length / 2] << 8 * (length / 2) |
           (uint64_t)end[-1] << 8 * (length - 1);
}

/* The number of the lowest bit that is set. One must be. */
static uint32_t lpi_lowest(uint64_t bits)
{
    return (uint32_t)__builtin_ctzll(bits);
}

/* Tests for bytes that are below `least`, above '~', or equal to `a` or `b`.
   Each of these arguments is a word in which one byte stands eight times. */
static uint64_t lpi_special(uint64_t word, uint64_t least, uint64_t a,
                            uint64_t b)
{
    return ((word - least) | ((word ^ a) - LPI_ONES) |
            ((word ^ b) - LPI_ONES) | (word + LPI_ONES)) & LPI_TOPS;
}

/* Here: bytes that lpi_special() does not find. */
static inline size_t lpi_count_clear(const char *bytes, size_t length,
                                     uint64_t least, uint64_t a, uint64_t b)
{
    size_t i = 0;
    uint64_t special;
    for (; length - i >= 8; i += 8) {
        special = lpi_special(lpi_word(bytes + i), least, a, b);
        if (special) return i + lpi_lowest(special) / 8;
    }
    special = lpi_special(lpi_word_of(bytes + i, length - i), least, a, b);
    return i + lpi_lowest(special) / 8; /* the zeros above the last byte fail */
}

/* Visible ASCII. */
static size_t lpi_count_visible(const char *bytes, size_t length)
{
    return lpi_count_clear(bytes, length, LPI_ONES * '!', LPI_ONES * 0x7f,
                           LPI_ONES * 0x7f);
}

/* What may stand in a request's target: visible ASCII but # and \. */
static size_t lpi_count_target(const char *bytes, size_t length)
{
    return lpi_count_clear(bytes, length, LPI_ONES * '!', LPI_ONES * '#',
                           LPI_ONES * '\\');
}

/* ASCII without control characters. */
static size_t lpi_count_ascii(const char *bytes, size_t length)
{
    return lpi_count_clear(bytes, length, LPI_ONES * ' ', LPI_ONES * 0x7f,
                           LPI_ONES * 0x7f);
}

/* ASCII that stands for itself in a JSON string. */
static size_t lpi_count_plain(const char *bytes, size_t length)
{
    return lpi_count_clear(bytes, length, LPI_ONES * ' ', LPI_ONES * '"',
                           LPI_ONES * '\\');
}

/* A test of eight bytes for others than letters and hyphens, which nearly all
   bytes of a field's name are. It finds the other bytes of LPI_TOKEN, too. */
static uint64_t lpi_token_others(const char *bytes)
{
    uint64_t word = lpi_word(bytes), lower = word | LPI_ONES * 0x20;
    uint64_t from_a = lower + LPI_ONES * (0x80 - 'a');
    uint64_t above_z = lower + LPI_ONES * (0x7f - 'z');
    uint64_t no_hyphen = (word ^ LPI_ONES * '-') + LPI_ONES * 0x7f;
    return ((from_a ^ above_z ^ no_hyphen) | word) & LPI_TOPS;
}

/* Likewise for others than LPI_VALUE: control characters and DEL. It finds HTAB
   and bytes that are not ASCII, too. */
static uint64_t lpi_value_others(const char *bytes)
{
    uint64_t word = lpi_word(bytes);
    return ((word - LPI_ONES * ' ') | (word + LPI_ONES)) & LPI_TOPS;
}

/* Bytes of that class, LPI_TOKEN or LPI_VALUE, two words at a time. What the
   test finds is looked up, unless it is `end`, which is not of the class. */
static inline size_t lpi_count_words(const char *bytes, size_t length,
                                     uint8_t classes, char end)
{
    size_t i = 0;
    while (i + 16 <= length) {
        uint64_t others = classes == LPI_TOKEN ? lpi_token_others(bytes + i)
                                               : lpi_value_others(bytes + i);
        if (!others) {
            i += 8;
            others = classes == LPI_TOKEN ? lpi_token_others(bytes + i)
                                          : lpi_value_others(bytes + i);
        }
        if (!others) {
            i += 8;
            continue;
        }
        i += lpi_lowest(others) / 8;
        if (bytes[i] == end || !lpi_is(bytes[i], classes)) return i;
        i++;
    }
    return i + lpi_count_of(bytes + i, length - i, classes);
}

static size_t lpi_count_token(const char *bytes, size_t length)
{
    return lpi_count_words(bytes, length, LPI_TOKEN, ':');
}

static size_t lpi_count_value(const char *bytes, size_t length)
{
    return lpi_count_words(bytes, length, LPI_VALUE, '\r');
}

static lp_slice lpi_slice(const char *bytes, size_t length)
{
    lp_slice s;
    s.bytes = bytes;
    s.length = length;
    return s;
}

static lp_slice lpi_slice_to(const char *bytes, const char *end)
{
    return lpi_slice(bytes, (size_t)(end - bytes));
}

LPDEF lp_slice lp_s(const char *text)
{
    return lpi_slice(text, text ? strlen(text) : 0);
}

LPDEF lp_slice lp_sn(const char *bytes, size_t length)
{
    return lpi_slice(bytes, length);
}

#define LPI_S(literal) lpi_slice("" literal, sizeof(literal) - 1)

static inline int lpi_equal(lp_slice a, lp_slice b)
{
    return a.length == b.length &&
           (!b.length || (*a.bytes == *b.bytes &&
                          !memcmp(a.bytes, b.bytes, b.length)));
}

static char lpi_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + ('a' - 'A')) : c;
}

/* Are they equal, if the case of ASCII letters does not count? */
static int lpi_alike(lp_slice a, lp_slice b)
{
    size_t i;
    if (a.length != b.length) return 0;
    if (!b.length || !memcmp(a.bytes, b.bytes, b.length)) return 1;
    for (i = 0; i < a.length; i++)
        if (lpi_lower(a.bytes[i]) != lpi_lower(b.bytes[i])) return 0;
    return 1;
}

static int lpi_ends_with(lp_slice s, lp_slice end)
{
    return s.length >= end.length &&
           !memcmp(s.bytes + s.length - end.length, end.bytes, end.length);
}

/* Are they equal? The time taken does not depend on where they differ. */
static int lpi_equal_constant_time(lp_slice a, lp_slice b)
{
    uint32_t differs = a.length != b.length;
    size_t i;
    for (i = 0; i < a.length; i++)
        differs |= (uint32_t)(uint8_t)a.bytes[i] ^
                   (b.length ? (uint8_t)b.bytes[i % b.length] : 1u);
    return !differs;
}

static int lpi_is_blank(char c) { return c == ' ' || c == '\t'; }

static inline lp_slice lpi_trim(lp_slice s)
{
    while (s.length && lpi_is_blank(*s.bytes)) s.bytes++, s.length--;
    while (s.length && lpi_is_blank(s.bytes[s.length - 1])) s.length--;
    return s;
}

/* Take the part before the next `by` off *rest. Returns 0 when no part is left,
   which is when rest->bytes is NULL. An empty text has one part, an empty one;
   "a," has two. */
static inline int lpi_split(lp_slice *rest, char by, lp_slice *out)
{
    const char *end;
    if (!rest->bytes) return 0;
    end = rest->length
              ? (const char *)memchr(rest->bytes, by, rest->length) : NULL;
    *out = lpi_slice(rest->bytes, end ? (size_t)(end - rest->bytes)
                                      : rest->length);
    *rest = end ? lpi_slice(end + 1, rest->length - out->length - 1)
                : lpi_slice(NULL, 0);
    return 1;
}

/* The value of a byte that is LPI_HEX: a letter has bit 6 set, and ends in 1 to
   6. Without a branch, since digits are hard to predict. */
static uint32_t lpi_hex_digit(uint32_t byte)
{
    return (byte & 15) + 9 * (byte >> 6);
}

static int lpi_hex_value(char c)
{
    return lpi_is(c, LPI_HEX) ? (int)lpi_hex_digit((uint8_t)c) : -1;
}

/* Read a number of decimal digits, without leading zeros. Returns 0, or -1 if
   the text is anything else or the number is above 2^64 - 1. */
static int lpi_parse_uint(lp_slice s, uint64_t *out)
{
    uint64_t value = 0;
    size_t i;
    if (!s.length || s.length > 20 || (s.length > 1 && *s.bytes == '0'))
        return -1;
    for (i = 0; i < s.length; i++) {
        uint64_t digit = (uint64_t)(uint8_t)s.bytes[i] - '0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10) return -1;
        value = value * 10 + digit;
    }
    *out = value;
    return 0;
}

/* The number of that magnitude, if an int64_t can hold it. 0 or -1. */
static int lpi_signed(int negative, uint64_t magnitude, int64_t *out)
{
    if (magnitude > (uint64_t)INT64_MAX + (uint64_t)(negative != 0)) return -1;
    if (!negative) *out = (int64_t)magnitude;
    else *out = magnitude ? -(int64_t)(magnitude - 1) - 1 : 0;
    return 0;
}

/* Likewise with a '-' before the digits, or without. */
static int lpi_parse_int(lp_slice s, int64_t *out)
{
    uint64_t magnitude;
    size_t sign = s.length && *s.bytes == '-';
    s = lpi_slice(s.bytes + sign, s.length - sign);
    if (lpi_parse_uint(s, &magnitude)) return -1;
    return lpi_signed(sign != 0, magnitude, out);
}

/* --- putting text where there is room for it ---

   The functions lpi_put_* write text, without a NUL, and return its end. A
   number takes at most 20 bytes, an epoch 16, seconds 27, an id 37. */

static char *lpi_put(char *to, lp_slice text)
{
    memcpy(to, text.bytes, text.length);
    return to + text.length;
}

#define LPI_PUT(to, literal) lpi_put(to, LPI_S(literal))

static char *lpi_put_uint(char *to, uint64_t value)
{
    char digits[20];
    size_t n = 0;
    do digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n) *to++ = digits[--n];
    return to;
}

static char *lpi_put_epoch(char *to, uint64_t epoch)
{
    int shift;
    for (shift = 60; shift >= 0; shift -= 4)
        *to++ = "0123456789abcdef"[epoch >> shift & 15];
    return to;
}

static char *lpi_put_id(char *to, uint64_t epoch, uint64_t seq)
{
    to = lpi_put_epoch(to, epoch);
    *to++ = '-';
    return lpi_put_uint(to, seq);
}

static char *lpi_put_seconds(char *to, uint64_t us)
{
    uint32_t fraction = (uint32_t)(us % 1000000);
    int i;
    to = lpi_put_uint(to, us / 1000000);
    *to++ = '.';
    for (i = 5; i >= 0; i--, fraction /= 10)
        to[i] = (char)('0' + fraction % 10);
    return to + 6;
}

/* Read an epoch: 16 hexadecimal digits in lower case. Returns 0 or -1. */
static inline int lpi_parse_epoch(const char *bytes, uint64_t *out)
{
    uint64_t value = 0;
    uint32_t classes = LPI_HEX, lower = 0x20; /* in capitals that bit is 0 */
    int i;
    for (i = 0; i < 16; i++) {
        uint32_t byte = (uint8_t)bytes[i];
        classes &= lpi_classes[byte];
        lower &= byte;
        value = value << 4 | lpi_hex_digit(byte);
    }
    if (!classes || !lower) return -1;
    *out = value;
    return 0;
}

/* The length of the UTF-8 sequence that the text begins with (RFC 3629 4), or 0
   if it does not begin with one. */
static size_t lpi_utf8(const char *text, size_t length)
{
    const uint8_t *p = (const uint8_t *)text;
    uint8_t low = 0x80, high = 0xBF;
    size_t n, i;
    if (!length) return 0;
    if (p[0] < 0x80) return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4) return 0;
    n = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (p[0] == 0xE0) low = 0xA0;  /* no overlong form */
    if (p[0] == 0xED) high = 0x9F; /* no surrogate     */
    if (p[0] == 0xF0) low = 0x90;
    if (p[0] == 0xF4) high = 0x8F; /* <= U+10FFFF      */
    if (length < n || p[1] < low || p[1] > high) return 0;
    for (i = 2; i < n; i++)
        if (p[i] < 0x80 || p[i] > 0xBF) return 0;
    return n;
}

/* The character that the text begins with, one that is not ASCII; UINT32_MAX if
   that is a byte which is not UTF-8. *length receives how many bytes it has. */
static uint32_t lpi_utf8_code(lp_slice text, size_t *length)
{
    size_t n = lpi_utf8(text.bytes, text.length), i;
    uint32_t code = (uint8_t)*text.bytes & (0x7Fu >> n);
    *length = n ? n : 1;
    if (!n) return UINT32_MAX;
    for (i = 1; i < n; i++)
        code = code << 6 | ((uint8_t)text.bytes[i] & 0x3Fu);
    return code;
}

/* SipHash-1-3 (Aumasson and Bernstein, 2012). Clients choose the names that are
   hashed, and must not be able to choose names that collide, so the hash has a
   secret key. `domain` keeps different uses of one key apart. */
static uint64_t lpi_rotate(uint64_t x, int by)
{
    return x << by | x >> (64 - by);
}

#define LPI_SIP_ROUND(a, b, c, d)                                             \
    (a += b, b = lpi_rotate(b, 13) ^ a, a = lpi_rotate(a, 32),                \
     c += d, d = lpi_rotate(d, 16) ^ c, a += d, d = lpi_rotate(d, 21) ^ a,    \
     c += b, b = lpi_rotate(b, 17) ^ c, c = lpi_rotate(c, 32))

static uint64_t lpi_hash(const uint64_t key[2], uint8_t domain, lp_slice s)
{
    uint64_t a = key[0] ^ 0x736f6d6570736575u ^ domain;
    uint64_t b = key[1] ^ 0x646f72616e646f6du;
    uint64_t c = key[0] ^ 0x6c7967656e657261u;
    uint64_t d = key[1] ^ 0x7465646279746573u;
    uint64_t word = (uint64_t)s.length << 56;
    size_t i, whole = s.length & ~(size_t)7;
    word |= lpi_word_of(s.bytes + whole, s.length - whole);
    for (i = 0; i < whole; i += 8) {
        uint64_t next = lpi_word(s.bytes + i);
        d ^= next;
        LPI_SIP_ROUND(a, b, c, d);
        a ^= next;
    }
    d ^= word;
    LPI_SIP_ROUND(a, b, c, d);
    a ^= word;
    c ^= 0xff;
    LPI_SIP_ROUND(a, b, c, d);
    LPI_SIP_ROUND(a, b, c, d);
    LPI_SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

/* --- text that grows ---

   When memory runs out the text is marked as failed and takes no more until it
   is cleared: one check is enough, when it is read. */

static void lpi_text_init(lp_text *text, const lp_memory *memory)
{
    memset(text, 0, sizeof *text);
    text->memory = *memory;
}

static void lpi_text_clear(lp_text *text)
{
    text->length = 0;
    text->failed = 0;
}

static void lpi_text_free(lp_text *text)
{
    lpi_free(&text->memory, text->bytes, text->capacity);
    text->bytes = NULL;
    text->capacity = 0;
    lpi_text_clear(text);
}

/* Where up to `max` more bytes may be put; lpi_text_set_end() then says how
   many they were. NULL without memory. */
static char *lpi_text_room(lp_text *text, size_t max)
{
    if (max > text->capacity - text->length &&
        lpi_reserve(&text->memory, &text->bytes, &text->capacity,
                    text->length + max))
        text->failed = 1;
    return text->failed ? NULL : text->bytes + text->length;
}

static void lpi_text_set_end(lp_text *text, const char *end)
{
    text->length = (size_t)(end - text->bytes);
}

static void lpi_text_add(lp_text *text, lp_slice s)
{
    char *to = s.length ? lpi_text_room(text, s.length) : NULL;
    if (to) lpi_text_set_end(text, lpi_put(to, s));
}

/* Its bytes are NULL if it has failed. */
static lp_slice lpi_text_slice(const lp_text *text)
{
    if (text->failed) return lpi_slice(NULL, 0);
    return lpi_slice(text->bytes, text->length);
}

/* --- an arena, for many small things that are freed together --- */

typedef struct lpi_block {
    struct lpi_block *next;
    size_t size; /* with this header */
} lpi_block;

typedef struct lpi_arena {
    const lp_memory *memory;
    lpi_block *blocks; /* the newest first    */
    size_t used;       /* bytes of the newest */
} lpi_arena;

/* Take `length` bytes, aligned for any type here; NULL without memory. */
static char *lpi_arena_take(lpi_arena *arena, size_t length)
{
    lpi_block *block = arena->blocks;
    size_t size = (length + 15) & ~(size_t)15;
    size_t want = sizeof *block + size;
    if (!block || block->size - arena->used < size) {
        if (want < 4096) want = 4096;
        block = (lpi_block *)lpi_alloc(arena->memory, want);
        if (!block) return NULL;
        block->next = arena->blocks;
        block->size = want;
        arena->blocks = block;
        arena->used = sizeof *block;
    }
    arena->used += size;
    return (char *)block + arena->used - size;
}

enum { LPI_ARENA_KEPT = 65536 };

/* Free everything. With `keep`, the oldest block stays for what comes next,
   unless it is large. */
static void lpi_arena_clear(lpi_arena *arena, int keep)
{
    lpi_block *block;
    while ((block = arena->blocks) &&
           (block->next || !keep || block->size > LPI_ARENA_KEPT)) {
        arena->blocks = block->next;
        lpi_free(arena->memory, block, block->size);
    }
    arena->used = sizeof(lpi_block);
}

/* ==========================================================================
   A4  SLAB                                                            >>slab

   Records of one size, allocated in chunks and named by 32-bit indices: a link
   takes half the memory of a pointer. An empty chunk is given back, but for
   one, so that a burst leaves nothing behind. A free record begins with the
   index of the next free one of its chunk.

   A list through records keeps its links in an lpi_link at a fixed offset. The
   caller knows whether a record is in a list.

   Uses      >>memory
   Touches   the slab, the list and the records that it is given.
   Promises  A record never moves, and is zeroed when it is taken.
   ========================================================================== */

enum { LPI_CHUNK = 128 }; /* records in one */

typedef struct lpi_slab_chunk {
    char *records;  /* NULL: the entry is vacant, its chunk was given back   */
    uintptr_t base; /* the address that index 0 would have, if all records of
                       the slab stood in one array with these                */
    uint32_t used;  /* how many records are taken                            */
    uint32_t free;  /* the index of the first free record                    */
    uint32_t prev;  /* in the list of chunks that have free records          */
    uint32_t next;  /* in that list, or in the list of vacant entries        */
} lpi_slab_chunk;

typedef struct lpi_slab {
    const lp_memory *memory;
    lpi_slab_chunk *chunks;
    uint32_t chunk_count, chunk_capacity;
    uint32_t roomy, vacant; /* the first chunk that has free records, and the
                               first vacant entry of `chunks`                */
    uint32_t empty;       /* how many chunks have no record taken: 0 or 1    */
    uint32_t record_size;
    uint32_t used;        /* how many records are taken, in all chunks       */
} lpi_slab;

static void lpi_slab_init(lpi_slab *slab, const lp_memory *memory,
                          size_t record_size)
{
    memset(slab, 0, sizeof *slab);
    slab->memory = memory;
    slab->roomy = slab->vacant = LPI_NONE;
    slab->record_size = (uint32_t)record_size;
}

static size_t lpi_slab_chunk_bytes(const lpi_slab *slab)
{
    return (size_t)slab->record_size * LPI_CHUNK;
}

static void lpi_slab_free(lpi_slab *slab)
{
    uint32_t i;
    for (i = 0; i < slab->chunk_count; i++)
        lpi_free(slab->memory, slab->chunks[i].records,
                 lpi_slab_chunk_bytes(slab));
    lpi_free(slab->memory, slab->chunks,
             slab->chunk_capacity * sizeof *slab->chunks);
    slab->chunks = NULL;
    slab->chunk_count = slab->chunk_capacity = slab->used = 0;
}

/* The record of that index. Callers that know its size say it, so that the
   compiler knows it too. */
static void *lpi_record(const lpi_slab *slab, uint32_t index, size_t size)
{
    LP_ASSERT(index / LPI_CHUNK < slab->chunk_count);
    LP_ASSERT(size == slab->record_size);
    return (void *)(slab->chunks[index / LPI_CHUNK].base +
                    (uintptr_t)index * size);
}

static void *lpi_at(const lpi_slab *slab, uint32_t index)
{
    return lpi_record(slab, index, slab->record_size);
}

/* May the record be looked at? It may be free. */
static int lpi_slab_has(const lpi_slab *slab, uint32_t index)
{
    uint32_t c = index / LPI_CHUNK;
    return c < slab->chunk_count && slab->chunks[c].records;
}

/* Remove a chunk from the list of those that have free records. */
static void lpi_slab_unlist_chunk(lpi_slab *slab, uint32_t c)
{
    lpi_slab_chunk *chunk = &slab->chunks[c];
    if (chunk->prev != LPI_NONE) slab->chunks[chunk->prev].next = chunk->next;
    else slab->roomy = chunk->next;
    if (chunk->next != LPI_NONE) slab->chunks[chunk->next].prev = chunk->prev;
}

/* Add a chunk to the list of those that have free records. */
static void lpi_slab_list_chunk(lpi_slab *slab, uint32_t c)
{
    lpi_slab_chunk *chunk = &slab->chunks[c];
    chunk->prev = LPI_NONE;
    chunk->next = slab->roomy;
    if (slab->roomy != LPI_NONE) slab->chunks[slab->roomy].prev = c;
    slab->roomy = c;
}

/* An entry of slab->chunks for one more chunk; LPI_NONE if there is none.
   Indices stay below 2^31: >>wheel uses the highest bit of a link. */
static uint32_t lpi_slab_slot(lpi_slab *slab)
{
    uint32_t c = slab->vacant;
    if (c != LPI_NONE) {
        slab->vacant = slab->chunks[c].next;
        return c;
    }
    if (slab->chunk_count == slab->chunk_capacity) {
        uint32_t grown = slab->chunk_capacity ? slab->chunk_capacity * 2 : 8;
        void *ptr;
        if ((uint64_t)grown * LPI_CHUNK > 1u << 31) return LPI_NONE;
        ptr =
            slab->memory->resize(slab->memory->ctx, slab->chunks,
                                 slab->chunk_capacity * sizeof(lpi_slab_chunk),
                                 grown * sizeof(lpi_slab_chunk));
        if (!ptr) return LPI_NONE;
        slab->chunks = (lpi_slab_chunk *)ptr;
        slab->chunk_capacity = grown;
    }
    slab->chunks[slab->chunk_count].records = NULL;
    return slab->chunk_count++;
}

static int lpi_slab_grow(lpi_slab *slab)
{
    uint32_t c = lpi_slab_slot(slab), i;
    lpi_slab_chunk *chunk;
    if (c == LPI_NONE) return -1;
    chunk = &slab->chunks[c];
    chunk->records =
        (char *)lpi_alloc_zero(slab->memory, lpi_slab_chunk_bytes(slab));
    if (!chunk->records) {
        chunk->next = slab->vacant;
        slab->vacant = c;
        return -1;
    }
    chunk->base = (uintptr_t)chunk->records - c * lpi_slab_chunk_bytes(slab);
    chunk->used = 0;
    chunk->free = c * LPI_CHUNK;
    for (i = 0; i < LPI_CHUNK; i++) {
        uint32_t next = i + 1 < LPI_CHUNK ? chunk->free + i + 1 : LPI_NONE;
        memcpy(chunk->records + (size_t)i * slab->record_size, &next, 4);
    }
    lpi_slab_list_chunk(slab, c);
    slab->empty++;
    return 0;
}

/* The index of a zeroed record, or LPI_NONE without memory. */
static uint32_t lpi_slab_take(lpi_slab *slab)
{
    lpi_slab_chunk *chunk;
    uint32_t c, index;
    void *record;
    if (slab->roomy == LPI_NONE && lpi_slab_grow(slab)) return LPI_NONE;
    c = slab->roomy;
    chunk = &slab->chunks[c];
    index = chunk->free;
    record = lpi_at(slab, index);
    memcpy(&chunk->free, record, 4);
    if (chunk->free == LPI_NONE) lpi_slab_unlist_chunk(slab, c);
    if (!chunk->used++) slab->empty--;
    slab->used++;
    memset(record, 0, slab->record_size);
    return index;
}

static void lpi_slab_give(lpi_slab *slab, uint32_t index)
{
    uint32_t c = index / LPI_CHUNK;
    lpi_slab_chunk *chunk = &slab->chunks[c];
    LP_ASSERT(chunk->used);
    memcpy(lpi_at(slab, index), &chunk->free, 4);
    if (chunk->free == LPI_NONE) lpi_slab_list_chunk(slab, c);
    chunk->free = index;
    slab->used--;
    if (--chunk->used) return;
    if (!slab->empty) {
        slab->empty = 1;
        return;
    }
    lpi_slab_unlist_chunk(slab, c);
    lpi_free(slab->memory, chunk->records, lpi_slab_chunk_bytes(slab));
    chunk->records = NULL;
    chunk->next = slab->vacant;
    slab->vacant = c;
}

typedef struct lpi_link {
    uint32_t prev, next;
} lpi_link;

typedef struct lpi_list {
    uint32_t head, tail;
} lpi_list;

static void lpi_list_init(lpi_list *list)
{
    list->head = list->tail = LPI_NONE;
}

/* Where a list keeps its links: at that offset in the records of a slab. */
typedef struct lpi_links {
    const lpi_slab *slab;
    size_t offset;
} lpi_links;

static void lpi_links_init(lpi_links *links, const lpi_slab *slab,
                           size_t offset)
{
    links->slab = slab;
    links->offset = offset;
}

static lpi_link *lpi_link_at(const lpi_links *links, uint32_t index)
{
    return (lpi_link *)(void *)((char *)lpi_at(links->slab, index) +
                                links->offset);
}

static inline void lpi_list_append(lpi_list *list, const lpi_links *links,
                                   uint32_t index)
{
    lpi_link *link = lpi_link_at(links, index);
    link->prev = list->tail;
    link->next = LPI_NONE;
    if (list->tail == LPI_NONE) list->head = index;
    else lpi_link_at(links, list->tail)->next = index;
    list->tail = index;
}

static inline void lpi_list_remove(lpi_list *list, const lpi_links *links,
                                   uint32_t index)
{
    lpi_link *link = lpi_link_at(links, index);
    if (link->prev == LPI_NONE) list->head = link->next;
    else lpi_link_at(links, link->prev)->next = link->next;
    if (link->next == LPI_NONE) list->tail = link->prev;
    else lpi_link_at(links, link->next)->prev = link->prev;
}

/* Append the record if `in`, else remove it. */
static void lpi_list_set(lpi_list *list, const lpi_links *links, uint32_t index,
                         int in)
{
    if (in) lpi_list_append(list, links, index);
    else lpi_list_remove(list, links, index);
}

/* ==========================================================================
   A5  TABLE                                                          >>table

   A hash table of chains over the records of a slab, whose first member is an
   lpi_node. It is a linear hash table (Litwin, 1980): an insertion beyond one
   entry per bucket splits one bucket in two, and a removal below half an entry
   per bucket merges two. So there is never a pause in which all entries move:
   to double a table of 1,000,000 at once takes 50 to 100 ms.

   Uses      >>memory >>slab
   Touches   the lpi_table that it is given, and its entries' nodes.
   Promises  Adding never fails: without memory for more buckets, chains grow
             longer. Memory follows the number of entries down as well as up.
   ========================================================================== */

typedef struct lpi_node {
    uint64_t hash;
    uint32_t next;
    unsigned count : 31; /* these two are for the record's own use: they  */
    unsigned kept : 1;   /* stand where padding would be                  */
} lpi_node;

enum { LPI_BUCKETS_MIN = 256 };

typedef struct lpi_table {
    const lpi_slab *slab;
    uint32_t *heads;   /* the first entry of each bucket's chain, or LPI_NONE */
    uint32_t capacity; /* how many heads there is room for                    */
    uint32_t buckets;  /* how many are in use                                 */
    uint32_t round;    /* the largest power of two that is not above that     */
    uint32_t count;    /* of entries                                          */
} lpi_table;

static lpi_node *lpi_node_at(const lpi_table *t, uint32_t index)
{
    return (lpi_node *)lpi_at(t->slab, index);
}

static uint32_t *lpi_table_bucket(const lpi_table *t, uint32_t bucket)
{
    return &t->heads[bucket];
}

/* The bucket of this hash is given by its low bits: one more of them for the
   buckets that are split in this round. */
static uint32_t lpi_table_index(const lpi_table *t, uint64_t hash)
{
    uint32_t bucket = (uint32_t)hash & (t->round * 2 - 1);
    return bucket < t->buckets ? bucket : bucket - t->round;
}

static int lpi_table_reserve(lpi_table *t, uint32_t capacity)
{
    const lp_memory *memory = t->slab->memory;
    void *ptr = memory->resize(memory->ctx, t->heads,
                               t->capacity * sizeof *t->heads,
                               capacity * sizeof *t->heads);
    if (!ptr) return -1;
    t->heads = (uint32_t *)ptr;
    t->capacity = capacity;
    return 0;
}

static int lpi_table_init(lpi_table *t, const lpi_slab *slab)
{
    memset(t, 0, sizeof *t);
    t->slab = slab;
    t->buckets = t->round = LPI_BUCKETS_MIN;
    if (lpi_table_reserve(t, t->buckets)) return -1;
    memset(t->heads, 0xff, t->buckets * sizeof *t->heads); /* LPI_NONE */
    return 0;
}

static void lpi_table_free(lpi_table *t)
{
    if (t->heads)
        lpi_free(t->slab->memory, t->heads, t->capacity * sizeof *t->heads);
    t->heads = NULL;
}

/* The first entry with this hash at or after `index` in its chain. Start with
   lpi_table_first; go on from the entry's `next`. */
static uint32_t lpi_table_match(const lpi_table *t, uint32_t index,
                                uint64_t hash)
{
    while (index != LPI_NONE && lpi_node_at(t, index)->hash != hash)
        index = lpi_node_at(t, index)->next;
    return index;
}

static inline uint32_t lpi_table_first(const lpi_table *t, uint64_t hash)
{
    return lpi_table_match(t, t->heads[lpi_table_index(t, hash)], hash);
}

/* Put the entries of a chain that was taken out, from `index` on, into the
   buckets that they now belong in. */
static void lpi_table_link(lpi_table *t, uint32_t index)
{
    while (index != LPI_NONE) {
        lpi_node *node = lpi_node_at(t, index);
        uint32_t next = node->next;
        uint32_t *head = lpi_table_bucket(t, lpi_table_index(t, node->hash));
        node->next = *head;
        *head = index;
        index = next;
    }
}

/* One bucket more: the next of this round is split. */
static void lpi_table_split(lpi_table *t)
{
    uint32_t *split, chain;
    if (t->buckets == t->capacity && lpi_table_reserve(t, t->capacity * 2))
        return;
    split = &t->heads[t->buckets - t->round];
    chain = *split;
    *split = t->heads[t->buckets] = LPI_NONE;
    if (++t->buckets == t->round * 2) t->round *= 2;
    lpi_table_link(t, chain);
}

/* One bucket less: the last goes back into the one that it was split from. */
static void lpi_table_merge(lpi_table *t)
{
    if (t->buckets == t->round) t->round /= 2;
    t->buckets--;
    lpi_table_link(t, t->heads[t->buckets]);
    if (t->buckets <= t->capacity / 4) lpi_table_reserve(t, t->capacity / 2);
}

/* Add an entry, whose node.hash is set. */
static void lpi_table_add(lpi_table *t, uint32_t index)
{
    lpi_node_at(t, index)->next = LPI_NONE;
    lpi_table_link(t, index);
    if (++t->count > t->buckets) lpi_table_split(t);
}

static void lpi_table_remove(lpi_table *t, uint32_t index)
{
    int i;
    lpi_node *node = lpi_node_at(t, index);
    uint32_t *link = lpi_table_bucket(t, lpi_table_index(t, node->hash));
    while (*link != index) link = &lpi_node_at(t, *link)->next;
    *link = node->next;
    t->count--;
    for (i = 0; i < 2; i++) /* one entry less fills two buckets less */
        if (t->count < t->buckets / 2 && t->buckets > LPI_BUCKETS_MIN)
            lpi_table_merge(t);
}

/* ==========================================================================
   B1  HTTP                                                            >>http

   Reads the head of a request (RFC 9112) as it comes, and decodes chunked
   bodies. It is strict wherever two readers of one message could disagree: a
   proxy may stand in front, and each disagreement is a way to smuggle a request
   past it.

   Of most fields nothing is kept: their lines are checked, and only those that
   the library reads are noted. What a program asks for later is looked for in
   the head again, so the head must stay in memory while a handler runs.

   Uses      >>text
   Touches   the lpi_http or lpi_chunked that it is given, and in decoding the
             body. No clock, no memory, no sockets.
   Promises  A text reads the same however it is cut into pieces, and each byte
             is looked at a bounded number of times: a line that comes in pieces
             is only searched for its end until that is here.

   Here a result below 0 is an error, the HTTP status to answer with, negated.
   Positions are offsets from the request's first byte, since the bytes may move
   from one call to the next.
   ========================================================================== */

enum { LPI_FIELDS_MAX = 100 };

typedef struct lpi_span {
    uint16_t at, length;
} lpi_span;

typedef enum lpi_method {
    LPI_GET, LPI_HEAD, LPI_POST, LPI_PUT, LPI_PATCH, LPI_DELETE, LPI_OPTIONS,
    LPI_TRACE, LPI_CONNECT, LPI_METHODS
} lpi_method;

static const char *const lpi_method_names[LPI_METHODS] = {
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
    "CONNECT"};

/* The fields that the library reads. Those before LPI_F_LISTS may come only
   once in a head. */
typedef enum lpi_field {
    LPI_F_HOST, LPI_F_LENGTH, LPI_F_TRANSFER_ENCODING, LPI_F_EXPECT, LPI_F_TYPE,
    LPI_F_AUTHORIZATION, LPI_F_ORIGIN, LPI_F_CLIENT_ID, LPI_F_CONTENT_ENCODING,
    LPI_F_REAL_IP, LPI_F_PREFLIGHT, LPI_F_LISTS,
    LPI_F_CONNECTION = LPI_F_LISTS, LPI_F_FORWARDED, LPI_F_KNOWN
} lpi_field;

#define LPI_NAMED(text) {text, sizeof(text) - 1}

static const lp_slice lpi_field_names[LPI_F_KNOWN] = {
    LPI_NAMED("Host"), LPI_NAMED("Content-Length"),
    LPI_NAMED("Transfer-Encoding"), LPI_NAMED("Expect"),
    LPI_NAMED("Content-Type"), LPI_NAMED("Authorization"),
    LPI_NAMED("Origin"), LPI_NAMED("X-Client-ID"),
    LPI_NAMED("Content-Encoding"), LPI_NAMED("X-Real-IP"),
    LPI_NAMED("Access-Control-Request-Method"), LPI_NAMED("Connection"),
    LPI_NAMED("X-Forwarded-For")};

/* Which field has a name of that length, and the name's first letter in lower
   case. Where there is none, the letter is 0. Origin is as long as Expect. */
static const struct {
    char letter;
    uint8_t field;
} lpi_field_of[] = {
    {0, 0}, {0, 0}, {0, 0}, {0, 0}, {'h', LPI_F_HOST}, {0, 0},
    {'e', LPI_F_EXPECT}, {0, 0}, {0, 0}, {'x', LPI_F_REAL_IP},
    {'c', LPI_F_CONNECTION}, {'x', LPI_F_CLIENT_ID}, {'c', LPI_F_TYPE},
    {'a', LPI_F_AUTHORIZATION}, {'c', LPI_F_LENGTH}, {'x', LPI_F_FORWARDED},
    {'c', LPI_F_CONTENT_ENCODING}, {'t', LPI_F_TRANSFER_ENCODING}, {0, 0},
    {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 0},
    {0, 0},
    {'a', LPI_F_PREFLIGHT}};

typedef struct lpi_http {
    uint32_t line;           /* where the first line begins that is not read
                                yet; of a complete head: where it ends       */
    uint32_t scanned;        /* if above `line`: no LF from there to here    */
    uint32_t limit;          /* of the head's size                           */
    uint8_t in_fields;       /* the request line was read                    */
    uint8_t minor;           /* 0 or 1: HTTP/1.x                             */
    uint8_t method;          /* an lpi_method                                */
    uint8_t absolute;        /* the target named its host                    */
    uint8_t close;           /* Connection: close                            */
    uint8_t keep_alive;      /* Connection: keep-alive                       */
    uint8_t chunked;
    uint8_t expects;         /* Expect: 100-continue                         */
    uint8_t escaped;         /* the target has a % or a +                    */
    uint64_t content_length;
    uint8_t field_count;
    uint32_t fields;         /* where the line of the first field begins     */
    lpi_span method_text, path, query, authority;
    lpi_span values[LPI_F_KNOWN]; /* of the last field of that name; at 0 if
                                     there is none                           */
} lpi_http;

static void lpi_http_init(lpi_http *h, uint32_t limit)
{
    memset(h, 0, sizeof *h);
    h->limit = limit;
}

static lpi_span lpi_span_of(size_t at, size_t length)
{
    lpi_span span;
    span.at = (uint16_t)at;
    span.length = (uint16_t)length;
    return span;
}

static lp_slice lpi_text_of(const char *bytes, lpi_span span)
{
    return lpi_slice(bytes + span.at, span.length);
}

static int lpi_http_has(const lpi_http *h, lpi_field field)
{
    return h->values[field].at != 0;
}

/* The value of the last such field; its bytes are NULL if there is none. */
static lp_slice lpi_http_field(const lpi_http *h, const char *bytes,
                               lpi_field field)
{
    if (!lpi_http_has(h, field)) return lpi_slice(NULL, 0);
    return lpi_text_of(bytes, h->values[field]);
}

/* Walk through the fields of a complete head: `*at` begins as h->fields, and
   each call gives the next field. Returns 0 when there is none. */
static int lpi_http_next(const lpi_http *h, const char *bytes, size_t *at,
                         lp_slice *name, lp_slice *value)
{
    lp_slice line = lpi_slice(bytes + *at, h->line - *at);
    if (*line.bytes == '\r') return 0;
    lpi_split(&line, ':', name);
    lpi_split(&line, '\r', value);
    *value = lpi_trim(*value);
    *at = (size_t)(line.bytes + 1 - bytes);
    return 1;
}

/* The value of a cookie in a Cookie field (RFC 6265 4.2.1), without the quotes
   around it; its bytes are NULL if there is none. */
static lp_slice lpi_http_cookie(lp_slice list, lp_slice name)
{
    lp_slice pair, key;
    while (lpi_split(&list, ';', &pair)) {
        pair = lpi_trim(pair);
        lpi_split(&pair, '=', &key);
        if (!pair.bytes || !key.length || !lpi_equal(key, name)) continue;
        if (pair.length > 1 && *pair.bytes == '"' &&
            pair.bytes[pair.length - 1] == '"')
            pair = lpi_slice(pair.bytes + 1, pair.length - 2);
        return pair;
    }
    return lpi_slice(NULL, 0);
}

/* The value of the last such field before the one that has `value`; its bytes
   are NULL if there is none. Each call reads the head from its beginning: it is
   only for fields of a trusted proxy, which sends few. */
static lp_slice lpi_http_field_before(const lpi_http *h, const char *bytes,
                                      lpi_field field, lp_slice value)
{
    lp_slice found = lpi_slice(NULL, 0), name, other;
    size_t at = h->fields;
    while (lpi_http_next(h, bytes, &at, &name, &other) &&
           other.bytes < value.bytes)
        if (lpi_alike(lpi_field_names[field], name)) found = other;
    return found;
}

/* Is it [ ":" port ], the port at most 65535? */
static int lpi_http_port_good(lp_slice s)
{
    size_t i;
    uint32_t port = 0;
    if (!s.length) return 1;
    if (*s.bytes != ':' || s.length == 1 || s.length > 6) return 0;
    for (i = 1; i < s.length; i++) {
        if (s.bytes[i] < '0' || s.bytes[i] > '9') return 0;
        port = port * 10 + (uint32_t)(s.bytes[i] - '0');
    }
    return port <= 65535;
}

/* Is it host [ ":" port ] (RFC 9112 3.2, RFC 3986 3.2.2)? Without userinfo. */
static int lpi_http_authority_good(lp_slice s)
{
    size_t i = 0;
    if (s.length && *s.bytes == '[') {
        for (i = 1; i < s.length && s.bytes[i] != ']'; i++)
            if (!lpi_is(s.bytes[i], LPI_HEX) && s.bytes[i] != ':' &&
                s.bytes[i] != '.')
                return 0;
        if (i == s.length || i < 3) return 0;
        i++;
    } else {
        for (; i < s.length; i += 3) { /* past an escape */
            i += lpi_count_of(s.bytes + i, s.length - i, LPI_HOST);
            if (i == s.length || s.bytes[i] != '%') break;
            if (s.length - i < 3 || !lpi_is(s.bytes[i + 1], LPI_HEX) ||
                !lpi_is(s.bytes[i + 2], LPI_HEX))
                return 0;
        }
        if (!i) return 0;
    }
    return lpi_http_port_good(lpi_slice(s.bytes + i, s.length - i));
}

/* Read the target from `at` to `end`: origin-form, absolute-form, or "*".
   Returns 0 or -STATUS. */
static int lpi_http_target(lpi_http *h, const char *bytes, size_t at,
                           size_t end)
{
    lp_slice target = lpi_slice(bytes + at, end - at);
    const char *mark;
    size_t i, scheme = 0;
    if (h->method == LPI_CONNECT) return 0; /* lpi_http_validate refuses it */
    if (h->method == LPI_OPTIONS && lpi_equal(target, LPI_S("*"))) {
        h->path = lpi_span_of(at, 1);
        return 0;
    }
    if (bytes[at] == '/')
        scheme = 0; /* the normal case: origin-form */
    else if (target.length > 7 && lpi_alike(lpi_slice(target.bytes, 7),
                                            LPI_S("http://")))
        scheme = 7;
    else if (target.length > 8 && lpi_alike(lpi_slice(target.bytes, 8),
                                            LPI_S("https://")))
        scheme = 8;
    if (scheme) {
        at += scheme;
        for (i = at; i < end && bytes[i] != '/' && bytes[i] != '?';) i++;
        h->authority = lpi_span_of(at, i - at);
        h->absolute = 1;
        if (!lpi_http_authority_good(lpi_text_of(bytes, h->authority)))
            return -400;
        at = i;
    }
    if (at == end ? !scheme : bytes[at] != '/' && !scheme) return -400;
    h->escaped = memchr(bytes + at, '%', end - at) ||
                 memchr(bytes + at, '+', end - at);
    mark = (const char *)memchr(bytes + at, '?', end - at);
    i = mark ? (size_t)(mark - bytes) : end;
    h->path = lpi_span_of(at, i - at);
    if (mark) h->query = lpi_span_of(i + 1, end - i - 1);
    return 0;
}

/* Read "HTTP/" DIGIT "." DIGIT, the first digit a 1. Returns 0 or -STATUS. */
static int lpi_http_version(lpi_http *h, lp_slice s)
{
    if (s.length != 8 || memcmp(s.bytes, "HTTP/", 5) || s.bytes[6] != '.' ||
        s.bytes[5] < '0' || s.bytes[5] > '9' || s.bytes[7] < '0' ||
        s.bytes[7] > '9')
        return -400;
    if (s.bytes[5] != '1') return -505;
    h->minor = s.bytes[7] != '0';
    return 0;
}

static uint8_t lpi_http_method(lp_slice name)
{
    uint8_t method = 0;
    if (lpi_equal(name, LPI_S("GET"))) return LPI_GET;
    if (lpi_equal(name, LPI_S("POST"))) return LPI_POST;
    while (method < LPI_METHODS &&
           !lpi_equal(lp_s(lpi_method_names[method]), name))
        method++;
    return method;
}

/* Read the request line from `at` to `end`, which is its CR. Returns 0 or
   -STATUS. */
static int lpi_http_request_line(lpi_http *h, const char *bytes, size_t at,
                                 size_t end)
{
    size_t target, version;
    int bad;
    if (end - at > 5 && !memcmp(bytes + at, "GET ", 4)) target = at + 3;
    else target = at + lpi_count_of(bytes + at, end - at, LPI_TOKEN);
    if (target == at || target == end || bytes[target] != ' ') return -400;
    h->method_text = lpi_span_of(at, target - at);
    h->method = lpi_http_method(lpi_text_of(bytes, h->method_text));
    target++;
    version = target + lpi_count_target(bytes + target, end - target);
    if (version == target || version == end || bytes[version] != ' ')
        return -400;
    bad = lpi_http_version(h, lpi_slice(bytes + version + 1,
                                        end - version - 1));
    if (bad) return bad;
    return lpi_http_target(h, bytes, target, version);
}

static void lpi_http_connection(lpi_http *h, lp_slice value)
{
    lp_slice option;
    if (lpi_equal(value, LPI_S("keep-alive"))) { /* as browsers send it */
        h->keep_alive = 1;
        return;
    }
    while (lpi_split(&value, ',', &option)) {
        option = lpi_trim(option);
        if (lpi_alike(option, LPI_S("close"))) h->close = 1;
        if (lpi_alike(option, LPI_S("keep-alive"))) h->keep_alive = 1;
    }
}

/* Which field has that name? LPI_F_KNOWN if the library does not read it. */
static uint8_t lpi_http_field_known(lp_slice name)
{
    uint8_t field;
    if (name.length >= LPI_COUNT(lpi_field_of)) return LPI_F_KNOWN;
    if ((*name.bytes | 32) == lpi_field_of[name.length].letter)
        field = lpi_field_of[name.length].field;
    else if (name.length == 6 && (*name.bytes | 32) == 'o')
        field = LPI_F_ORIGIN;
    else return LPI_F_KNOWN; /* nearly all names that are not known end here */
    return lpi_alike(lpi_field_names[field], name) ? field
                                                   : (uint8_t)LPI_F_KNOWN;
}

/* Note the value of a field that the library reads. Returns 0 or -STATUS: most
   may come only once. */
static int lpi_http_note(lpi_http *h, lpi_field field, const char *bytes,
                         lp_slice value)
{
    if (lpi_http_has(h, field) && field < LPI_F_LISTS) return -400;
    value = lpi_trim(value);
    h->values[field] =
        lpi_span_of((size_t)(value.bytes - bytes), value.length);
    if (field == LPI_F_CONNECTION) lpi_http_connection(h, value);
    return 0;
}

/* Read the lines of fields, from h->line on, to the empty line that ends the
   head. Returns 1 if the head is complete, 0 for more, or -STATUS. A bad line
   is refused only when its end is here, so that the answer does not depend on
   how the text was cut. A line's end is looked for from its beginning, and the
   name's too, so that a processor can do both at once and go on to the next
   line. The name ends with its line at the latest: what no value has, no token
   has either. */
static int lpi_http_fields(lpi_http *h, const char *bytes, size_t seen)
{
    if (h->scanned > h->line && /* this line was found incomplete before */
        !memchr(bytes + h->scanned, '\n', seen - h->scanned))
        return 0;
    while (h->line < seen && bytes[h->line] != '\r') {
        const char *line = bytes + h->line;
        size_t left = seen - h->line, end = lpi_count_value(line, left);
        size_t name = lpi_count_token(line, left);
        uint8_t field;
        int bad;
        if (!name || name == end || line[name] != ':' || left - end < 2 ||
            memcmp(line + end, "\r\n", 2))
            return memchr(line, '\n', left) ? -400 : 0;
        if (h->field_count == LPI_FIELDS_MAX) return -431;
        h->field_count++;
        field = lpi_http_field_known(lpi_slice(line, name));
        bad = field == LPI_F_KNOWN
                  ? 0 : lpi_http_note(h, (lpi_field)field, bytes,
                                      lpi_slice(line + name + 1,
                                                end - name - 1));
        if (bad) return bad;
        h->line += (uint32_t)end + 2;
    }
    if (seen - h->line < 2) return 0;
    h->line += 2;
    return bytes[h->line - 1] == '\n' ? 1 : -400;
}

/* Check what the fields mean together: which host is asked, and where the body
   ends (RFC 9112 3.2, 6.3). Returns 0 or -STATUS. */
static int lpi_http_validate(lpi_http *h, const char *bytes)
{
    lp_slice value = lpi_http_field(h, bytes, LPI_F_HOST);
    size_t i;
    if (!value.bytes && h->minor) return -400;
    if (value.bytes && !lpi_http_authority_good(value)) return -400;
    if (value.bytes && !h->absolute)
        h->authority = h->values[LPI_F_HOST];
    if (lpi_http_has(h, LPI_F_TRANSFER_ENCODING)) {
        value = lpi_http_field(h, bytes, LPI_F_TRANSFER_ENCODING);
        if (lpi_http_has(h, LPI_F_LENGTH) || !h->minor || !value.length)
            return -400;
        h->chunked = (uint8_t)lpi_alike(value, LPI_S("chunked"));
        for (i = 0; i < value.length; i++)
            if (!lpi_is(value.bytes[i], LPI_TOKEN)) return -400;
        if (!h->chunked) return -501;
    }
    if (lpi_http_has(h, LPI_F_LENGTH) &&
        (lpi_parse_uint(lpi_http_field(h, bytes, LPI_F_LENGTH),
                        &h->content_length) ||
         h->content_length > INT64_MAX))
        return -400;
    if (lpi_http_has(h, LPI_F_EXPECT) && h->minor) {
        h->expects = (uint8_t)lpi_alike(
            lpi_http_field(h, bytes, LPI_F_EXPECT), LPI_S("100-continue"));
        if (!h->expects) return -417;
    }
    if (h->method >= LPI_TRACE) return -501;
    return 0;
}

/* The status for a head that reaches the limit and is not complete. */
static int lpi_http_too_long(const lpi_http *h, const char *bytes)
{
    if (h->in_fields) return -431;
    if (!memchr(bytes + h->line, ' ', h->limit - h->line)) return -400;
    return -414;
}

/* Read the request line, if its end is here, and the one empty line that may
   stand before it (RFC 9112 2.2). Returns 0 or -STATUS. */
static int lpi_http_first_line(lpi_http *h, const char *bytes, size_t seen)
{
    const char *lf;
    size_t begin, end;
    if (!h->line && seen >= 2 && !memcmp(bytes, "\r\n", 2))
        h->line = h->scanned = 2;
    lf = (const char *)memchr(bytes + h->scanned, '\n', seen - h->scanned);
    if (!lf) return 0;
    begin = h->line;
    end = (size_t)(lf - bytes);
    h->line = h->fields = (uint32_t)end + 1;
    if (end == begin || bytes[end - 1] != '\r') return -400;
    h->in_fields = 1;
    return lpi_http_request_line(h, bytes, begin, end - 1);
}

/* Read on in a head of which `length` bytes are here, from its first byte on.
   Returns the length of the head once it is complete, 0 for more, or -STATUS.

   Two errors are found before the line's end is here: a first byte that cannot
   begin a request (as of a TLS hello), and a CR that no LF follows. */
static int lpi_http_head(lpi_http *h, const char *bytes, size_t length)
{
    size_t seen = length < h->limit ? length : h->limit;
    int done = 0;
    if (!h->in_fields) done = lpi_http_first_line(h, bytes, seen);
    if (h->in_fields && !done) done = lpi_http_fields(h, bytes, seen);
    if (done > 0) {
        done = lpi_http_validate(h, bytes);
        return done ? done : (int)h->line;
    }
    if (done < 0) return done;
    h->scanned = (uint32_t)seen;
    if (h->line + 1 < seen && bytes[h->line] == '\r') return -400;
    if (!h->in_fields && h->line < seen && bytes[h->line] != '\r' &&
        !lpi_is(bytes[h->line], LPI_TOKEN))
        return -400;
    return seen == h->limit ? lpi_http_too_long(h, bytes) : 0;
}

/* --- chunked bodies (RFC 9112 7.1), decoded in place ---

   A state machine that is fed one byte at a time, but the data at once. */

enum { LPI_CHUNK_LINE_MAX = 1024 }; /* bytes of one chunk's extensions */

typedef enum lpi_chunk_phase {
    LPI_C_SIZE, LPI_C_SIZE_LF, LPI_C_DATA, LPI_C_DATA_CR, LPI_C_DATA_LF,
    LPI_C_TRAILER, LPI_C_TRAILER_NAME, LPI_C_TRAILER_VALUE, LPI_C_TRAILER_LF,
    LPI_C_LAST_LF, LPI_C_DONE,
    /* in an extension, behind its ";": what was read last */
    LPI_C_EXT_BEGIN, LPI_C_EXT_NAME, LPI_C_EXT_NAME_SPACE, LPI_C_EXT_EQUALS,
    LPI_C_EXT_VALUE, LPI_C_EXT_QUOTED, LPI_C_EXT_BACKSLASH, LPI_C_EXT_QUOTE,
    LPI_C_EXT_VALUE_SPACE
} lpi_chunk_phase;

typedef struct lpi_chunked {
    uint8_t phase;   /* an lpi_chunk_phase                       */
    uint8_t digits;  /* of the size, so far                      */
    uint16_t lines;  /* of trailers                              */
    uint32_t line;   /* bytes of extensions, or of all trailers  */
    uint64_t left;   /* bytes of the chunk that are to come; or of
                        a body that is skipped and not chunked   */
    uint64_t raw;    /* bytes consumed                           */
    uint64_t decoded;
    uint64_t limit;  /* of `decoded`                             */
} lpi_chunked;

static void lpi_chunked_init(lpi_chunked *c, uint64_t limit)
{
    memset(c, 0, sizeof *c);
    c->limit = limit;
}

static int lpi_chunked_size(lpi_chunked *c, char byte)
{
    int digit = lpi_hex_value(byte);
    if (digit >= 0) {
        if (++c->digits > 8) return -400;
        c->left = c->left << 4 | (uint64_t)digit;
        return 0;
    }
    if (!c->digits) return -400;
    if (c->left > c->limit - c->decoded) return -413;
    c->line = 0;
    if (byte == ';') c->phase = LPI_C_EXT_BEGIN;
    else if (byte == '\r') c->phase = LPI_C_SIZE_LF;
    else return -400;
    return 0;
}

/* The phase after a byte of an extension, or -STATUS. The grammar is
   *( ";" name [ "=" value ] ) with white space around both signs; a value is a
   token or a quoted string. */
static int lpi_chunked_extension_next(lpi_chunk_phase phase, char byte)
{
    int token = lpi_is(byte, LPI_TOKEN), blank = lpi_is_blank(byte);
    switch (phase) {
    case LPI_C_EXT_BEGIN:
        return token ? LPI_C_EXT_NAME : blank ? LPI_C_EXT_BEGIN : -400;
    case LPI_C_EXT_NAME:
        if (token) return LPI_C_EXT_NAME;
        if (byte == '\r') return LPI_C_SIZE_LF;
        /* fall through */
    case LPI_C_EXT_NAME_SPACE:
        if (byte == '=') return LPI_C_EXT_EQUALS;
        if (byte == ';') return LPI_C_EXT_BEGIN;
        return blank ? LPI_C_EXT_NAME_SPACE : -400;
    case LPI_C_EXT_EQUALS:
        if (byte == '"') return LPI_C_EXT_QUOTED;
        return token ? LPI_C_EXT_VALUE : blank ? LPI_C_EXT_EQUALS : -400;
    case LPI_C_EXT_QUOTED:
        if (byte == '"') return LPI_C_EXT_QUOTE;
        if (byte == '\\') return LPI_C_EXT_BACKSLASH;
        return lpi_is(byte, LPI_VALUE) ? LPI_C_EXT_QUOTED : -400;
    case LPI_C_EXT_BACKSLASH:
        return lpi_is(byte, LPI_VALUE) ? LPI_C_EXT_QUOTED : -400;
    case LPI_C_EXT_VALUE:
        if (token) return LPI_C_EXT_VALUE;
        /* fall through */
    case LPI_C_EXT_QUOTE:
        if (byte == '\r') return LPI_C_SIZE_LF;
        /* fall through */
    default: /* LPI_C_EXT_VALUE_SPACE */
        if (byte == ';') return LPI_C_EXT_BEGIN;
        return blank ? LPI_C_EXT_VALUE_SPACE : -400;
    }
}

static int lpi_chunked_extension(lpi_chunked *c, char byte)
{
    int next = lpi_chunked_extension_next((lpi_chunk_phase)c->phase, byte);
    if (next < 0 || ++c->line > LPI_CHUNK_LINE_MAX) return -400;
    c->phase = (uint8_t)next;
    return 0;
}

static int lpi_chunked_trailer(lpi_chunked *c, char byte)
{
    if (++c->line > 16384) return -431;
    if (c->phase == LPI_C_TRAILER) { /* the first byte of a line */
        if (byte == '\r') c->phase = LPI_C_LAST_LF;
        else if (!lpi_is(byte, LPI_TOKEN)) return -400;
        else c->phase = LPI_C_TRAILER_NAME;
    } else if (c->phase == LPI_C_TRAILER_NAME) {
        if (byte == ':') c->phase = LPI_C_TRAILER_VALUE;
        else if (!lpi_is(byte, LPI_TOKEN)) return -400;
    } else if (c->phase == LPI_C_TRAILER_VALUE) {
        if (byte == '\r') c->phase = LPI_C_TRAILER_LF;
        else if (!lpi_is(byte, LPI_VALUE)) return -400;
    } else { /* LPI_C_TRAILER_LF */
        if (byte != '\n') return -400;
        if (++c->lines > LPI_FIELDS_MAX) return -431;
        c->phase = LPI_C_TRAILER;
    }
    return 0;
}

static int lpi_chunked_byte(lpi_chunked *c, char byte)
{
    switch ((lpi_chunk_phase)c->phase) {
    case LPI_C_SIZE:
        return lpi_chunked_size(c, byte);
    case LPI_C_SIZE_LF:
        if (byte != '\n') return -400;
        c->digits = 0;
        c->line = 0;
        c->phase = c->left ? LPI_C_DATA : LPI_C_TRAILER;
        return 0;
    case LPI_C_DATA_CR:
        c->phase = LPI_C_DATA_LF;
        return byte == '\r' ? 0 : -400;
    case LPI_C_DATA_LF:
        c->phase = LPI_C_SIZE;
        return byte == '\n' ? 0 : -400;
    case LPI_C_LAST_LF:
        c->phase = LPI_C_DONE;
        return byte == '\n' ? 0 : -400;
    default:
        return c->phase >= LPI_C_EXT_BEGIN ? lpi_chunked_extension(c, byte)
                                           : lpi_chunked_trailer(c, byte);
    }
}

/* Decode `length` raw bytes at `raw`, and put the body's bytes at `to`, which
   lies at or before `raw`. Returns 1 when the body is complete, 0 for more, or
   -STATUS; *taken receives how many raw bytes were consumed. */
static int lpi_chunked_decode(lpi_chunked *c, char *to, const char *raw,
                              size_t length, size_t *taken)
{
    size_t i = 0;
    while (i < length && c->phase != LPI_C_DONE) {
        size_t n = length - i;
        int bad = 0;
        if (c->phase == LPI_C_DATA) {
            if (n > c->left) n = (size_t)c->left;
            memmove(to, raw + i, n);
            to += n;
            c->decoded += n;
            c->left -= n;
            if (!c->left) c->phase = LPI_C_DATA_CR;
        } else {
            n = 1;
            bad = lpi_chunked_byte(c, raw[i]);
        }
        i += n;
        c->raw += n;
        if (c->raw - c->decoded > 100 * 1024 && c->decoded < c->raw / 4)
            bad = -400; /* more than 75% of it is framing */
        if (bad) return bad;
    }
    *taken = i;
    return c->phase == LPI_C_DONE;
}

/* ==========================================================================
   B2  QUERY                                                          >>query

   Reads what a poll asks for out of its target: the names of channels, cursors
   and numbers.

   Uses      >>text
   Touches   what it is given. No clock, no memory, no sockets.
   Promises  What is accepted is well-formed: names are UTF-8 without control
             characters, cursors are written as the server writes them.
   ========================================================================== */

enum {
    LPI_POLL_CHANNELS = 16,
    LPI_CHANNEL_BYTES = 255,
    LPI_CHANNEL_RAW = 3 * LPI_CHANNEL_BYTES, /* percent-encoded, at most */
    LPI_CLIENT_ID_BYTES = 128
};

/* Percent-decode (RFC 3986 2.1) into `to`, which has room for s.length bytes.
   With `plus`, '+' means a space. Returns the length, or -1. */
static long lpi_percent_decode(char *to, lp_slice s, int plus)
{
    size_t i, n = 0;
    for (i = 0; i < s.length; i++) {
        char c = s.bytes[i];
        if (c > '+' || (c != '%' && c != '+')) {
            to[n++] = c;
            continue;
        }
        if (c == '%') {
            int high, low;
            if (s.length - i < 3) return -1;
            high = lpi_hex_value(s.bytes[i + 1]);
            low = lpi_hex_value(s.bytes[i + 2]);
            if (high < 0 || low < 0) return -1;
            c = (char)(high * 16 + low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        to[n++] = c;
    }
    return (long)n;
}

/* Split "name=value" in a query: returns the name, and leaves the value in
   *part, which is empty if there is none. */
static inline lp_slice lpi_query_pair(lp_slice *part)
{
    const char *equals = part->length ? (const char *)memchr(
                                            part->bytes, '=', part->length)
                                      : NULL;
    size_t n = equals ? (size_t)(equals - part->bytes) : part->length;
    lp_slice name = lpi_slice(part->bytes, n);
    if (n < part->length) n++;
    *part = lpi_slice(part->bytes + n, part->length - n);
    return name;
}

enum { LPI_QUERY_NAME = 3 * 64 };

/* Decode a name in a query into `text`, which has room for LPI_QUERY_NAME
   bytes: 64, each of them escaped. Returns 0, or -1 if it cannot be decoded or
   is longer, so that it cannot be one that is asked for. */
static int lpi_query_name(char *text, lp_slice *name)
{
    long n = name->length <= LPI_QUERY_NAME
                 ? lpi_percent_decode(text, *name, 1) : -1;
    if (n >= 0) *name = lpi_slice(text, (size_t)n);
    return n < 0;
}

/* Is that the name, once it is decoded? */
static int lpi_query_name_is(lp_slice raw, lp_slice name)
{
    char text[LPI_QUERY_NAME];
    return !lpi_query_name(text, &raw) && lpi_equal(raw, name);
}

/* The value of that name in a query or a form, as it stands; of the first, if
   there are several. Its bytes are NULL if there is none. */
static lp_slice lpi_query_find(lp_slice query, lp_slice name)
{
    lp_slice part, key;
    while (query.length && lpi_split(&query, '&', &part)) {
        if (!part.length) continue; /* no pair: a&&b has two */
        key = lpi_query_pair(&part);
        if (lpi_query_name_is(key, name)) return part;
    }
    return lpi_slice(NULL, 0);
}

/* Is it a channel's name: 1 to 255 bytes of UTF-8 without control characters
   (U+0000 to U+001F, U+007F to U+009F)? */
static int lpi_channel_name_good(lp_slice name)
{
    size_t i = 0;
    if (!name.length || name.length > LPI_CHANNEL_BYTES) return 0;
    for (;;) {
        uint8_t c;
        size_t n;
        i += lpi_count_ascii(name.bytes + i, name.length - i);
        if (i == name.length) return 1;
        c = (uint8_t)name.bytes[i];
        n = lpi_utf8(name.bytes + i, name.length - i);
        if (!n || c < 0x20 || c == 0x7f) return 0;
        if (n == 2 && c == 0xC2 && (uint8_t)name.bytes[i + 1] < 0xA0) return 0;
        i += n;
    }
}

/* Decode one channel's name into `to`, which has room for LPI_CHANNEL_RAW
   bytes. Returns 0, or -1 if it is not a channel's name. */
static int lpi_channel_decode(char *to, lp_slice raw, lp_slice *out)
{
    long n;
    if (raw.length > LPI_CHANNEL_RAW) return -1;
    n = lpi_percent_decode(to, raw, 0);
    if (n < 0 || !lpi_channel_name_good(lpi_slice(to, (size_t)n))) return -1;
    *out = lpi_slice(to, (size_t)n);
    return 0;
}

#define LPI_SECONDS_MAX UINT64_C(1000000000000)

/* Read decimal seconds, with or without a fraction, as microseconds. Digits
   beyond the microsecond are an error if `exact`, else they are rounded up.
   More than LPI_SECONDS_MAX count as that. Returns 0 or -1. */
static int lpi_query_seconds(lp_slice s, int exact, uint64_t *out_us)
{
    uint64_t whole = 0, part = 0, unit = 100000;
    size_t i = 0;
    int more = 0;
    for (; i < s.length && s.bytes[i] >= '0' && s.bytes[i] <= '9'; i++) {
        uint64_t digit = (uint64_t)(s.bytes[i] - '0');
        whole = whole * 10 + digit;
        if (whole > LPI_SECONDS_MAX) whole = LPI_SECONDS_MAX;
    }
    if (!i) return -1;
    if (i < s.length) {
        if (s.bytes[i++] != '.' || i == s.length) return -1;
        for (; i < s.length; i++, unit /= 10) {
            if (s.bytes[i] < '0' || s.bytes[i] > '9') return -1;
            if (!unit && exact) return -1;
            if (!unit && s.bytes[i] != '0') more = 1;
            part += (uint64_t)(s.bytes[i] - '0') * unit;
        }
    }
    *out_us = whole * 1000000 + part + (uint64_t)more;
    return 0;
}

/* From where on a poll asks for a channel's messages. */
typedef enum lpi_requested_kind {
    LPI_FROM_START, LPI_FROM_NOW, LPI_FROM_CURSOR, LPI_FROM_TIME
} lpi_requested_kind;

typedef struct lpi_requested {
    lpi_requested_kind kind;
    uint64_t epoch;
    uint64_t seq; /* of LPI_FROM_TIME: microseconds */
    /* The rest is for a channel whose store is elsewhere (>>remote). */
    uint32_t open;     /* only an open of that number or later may justify a
                          reset                                              */
    uint64_t after;    /* LPI_FROM_TIME: SEQ of a message that is not newer, */
    uint64_t before;   /* and of the last that may be no newer               */
    int passed;        /* likewise: newer marks before that were passed      */
    uint64_t until_ms; /* when the poll's timeout has passed                 */
    uint64_t ends_ms;  /* when its token ends; UINT64_MAX: it does not       */
} lpi_requested;

/* Read one cursor: "EPOCH-SEQ", "now", "0" or nothing. Returns 0 or -1. */
static int lpi_query_cursor(lp_slice s, lpi_requested *out)
{
    lpi_requested requested;
    requested.epoch = requested.seq = 0;
    if (s.length > 17) {
        requested.kind = LPI_FROM_CURSOR;
        if (s.bytes[16] != '-' || lpi_parse_epoch(s.bytes, &requested.epoch) ||
            lpi_parse_uint(lpi_slice(s.bytes + 17, s.length - 17),
                           &requested.seq))
            return -1;
    } else if (lpi_equal(s, LPI_S("now"))) {
        requested.kind = LPI_FROM_NOW;
    } else {
        requested.kind = LPI_FROM_START;
        if (s.length && !lpi_equal(s, LPI_S("0"))) return -1;
    }
    *out = requested;
    return 0;
}

/* Read a list of `count` cursors, or one of "", "0" and "now" for all of them.
   Returns 0 or -1. */
static int lpi_query_cursors(lp_slice s, lpi_requested *out, uint32_t count)
{
    lp_slice part;
    uint32_t n = 0;
    if (count == 1) return lpi_query_cursor(s, out);
    if (!s.bytes) s = LPI_S("");
    while (lpi_split(&s, ',', &part))
        if (n == count || lpi_query_cursor(part, &out[n++])) return -1;
    if (n == 1 && out[0].kind != LPI_FROM_CURSOR)
        while (n < count) out[n++] = out[0];
    return n == count ? 0 : -1;
}

/* ==========================================================================
   B3  ADDRESS                                                      >>address

   Addresses and networks as text, the client's address behind trusted proxies,
   and the names of hosts. An IPv4 address is kept as ::ffff:a.b.c.d, so that
   one form serves for all.

   Uses      >>text, and a check of ports in >>http
   Touches   what it is given. No clock, no memory, no sockets, no DNS.
   Promises  A client outside the trusted networks cannot choose the address
             under which it is counted.
   ========================================================================== */

typedef struct lpi_network {
    uint8_t bytes[16];
    uint8_t bits;
} lpi_network;

static const uint8_t lpi_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255};

static int lpi_address_is_v4(const uint8_t bytes[16])
{
    return !memcmp(bytes, lpi_mapped, 12);
}

/* Read four numbers of at most 255, without leading zeros. Returns 0 or -1.
   Each request through a proxy has such an address; inet_pton would need a copy
   that ends with a NUL. */
static int lpi_address_parse_v4(lp_slice s, uint8_t out[4])
{
    size_t i = 0, begin;
    int k;
    for (k = 0; k < 4; k++) {
        uint32_t value = 0, digit;
        if (k && (i == s.length || s.bytes[i++] != '.')) return -1;
        for (begin = i; i < s.length; i++) {
            digit = (uint32_t)(uint8_t)s.bytes[i] - '0';
            if (digit > 9) break;
            value = value * 10 + digit;
        }
        if (i == begin || i - begin > 3 || value > 255) return -1;
        if (i - begin > 1 && s.bytes[begin] == '0') return -1;
        out[k] = (uint8_t)value;
    }
    return i == s.length ? 0 : -1;
}

/* Read an IPv4 or IPv6 address. Returns 0, or -1 and *out may have changed. */
static int lpi_address_parse(lp_slice s, uint8_t out[16])
{
    char text[INET6_ADDRSTRLEN];
    if (!lpi_address_parse_v4(s, out + 12)) {
        memcpy(out, lpi_mapped, 12);
        return 0;
    }
    if (!s.length || s.length >= sizeof text) return -1;
    memcpy(text, s.bytes, s.length);
    text[s.length] = 0;
    if (memchr(text, 0, s.length)) return -1;
    return inet_pton(AF_INET6, text, out) == 1 ? 0 : -1;
}

/* Write an address to `to`, which has room for INET6_ADDRSTRLEN bytes. */
static lp_slice lpi_address_put(char *to, const uint8_t bytes[16])
{
    if (lpi_address_is_v4(bytes))
        inet_ntop(AF_INET, bytes + 12, to, INET6_ADDRSTRLEN);
    else
        inet_ntop(AF_INET6, bytes, to, INET6_ADDRSTRLEN);
    return lp_s(to);
}

/* Read "10.0.0.0/8", "fd00::/8", or one address. Returns 0 or -1. */
static int lpi_address_parse_network(lp_slice s, lpi_network *out)
{
    lp_slice text;
    lpi_network net;
    uint64_t bits;
    int v4;
    if (!lpi_split(&s, '/', &text) || lpi_address_parse(text, net.bytes))
        return -1;
    v4 = lpi_address_is_v4(net.bytes) && !memchr(text.bytes, ':', text.length);
    bits = v4 ? 32 : 128;
    if (s.bytes && (lpi_parse_uint(s, &bits) || bits > (v4 ? 32u : 128u)))
        return -1;
    net.bits = (uint8_t)(v4 ? bits + 96 : bits);
    *out = net;
    return 0;
}

static int lpi_address_in_network(const lpi_network *net,
                                  const uint8_t bytes[16])
{
    uint32_t whole = net->bits / 8u, rest = net->bits % 8u;
    if (memcmp(net->bytes, bytes, whole)) return 0;
    return !rest || !((net->bytes[whole] ^ bytes[whole]) >> (8 - rest));
}

static int lpi_address_in_networks(const lpi_network *nets, uint32_t count,
                                   const uint8_t bytes[16])
{
    uint32_t i;
    for (i = 0; i < count; i++)
        if (lpi_address_in_network(&nets[i], bytes)) return 1;
    return 0;
}

/* Read one element of X-Forwarded-For: an address, with or without a port.
   Returns 0 or -1. */
static int lpi_address_parse_hop(lp_slice s, uint8_t out[16])
{
    lp_slice port = LPI_S("");
    const char *end;
    s = lpi_trim(s);
    if (s.length && *s.bytes == '[') {
        end = (const char *)memchr(s.bytes, ']', s.length);
        if (!end) return -1;
        port = lpi_slice(end + 1, s.length - (size_t)(end + 1 - s.bytes));
        s = lpi_slice(s.bytes + 1, (size_t)(end - s.bytes) - 1);
    } else if (s.length) {
        end = (const char *)memchr(s.bytes, ':', s.length);
        if (end && memchr(s.bytes, '.', (size_t)(end - s.bytes))) {
            port = lpi_slice(end, s.length - (size_t)(end - s.bytes));
            s.length = (size_t)(end - s.bytes);
        }
    }
    return lpi_http_port_good(port) ? lpi_address_parse(s, out) : -1;
}

/* Walk one X-Forwarded-For from the right through the trusted networks to the
   first address that is in none of them. `at` is where the walk begins, and
   receives where it ends. Returns 1 if all are trusted, so that it goes on in
   the field before, else 0. */
static int lpi_address_walk_forwarded(lp_slice value, const lpi_network *nets,
                                      uint32_t count, uint8_t at[16])
{
    uint8_t hop[16];
    while (lpi_address_in_networks(nets, count, at)) {
        size_t cut = value.length;
        if (!value.bytes) return 1;
        while (cut && value.bytes[cut - 1] != ',') cut--;
        if (lpi_address_parse_hop(
                lpi_slice(value.bytes + cut, value.length - cut), hop))
            return 0;
        memcpy(at, hop, 16);
        value = cut ? lpi_slice(value.bytes, cut - 1) : lpi_slice(NULL, 0);
    }
    return 0;
}

/* The name in a Host field, without the port. */
static lp_slice lpi_address_host_name(lp_slice host)
{
    size_t n = host.length;
    while (n && host.bytes[n - 1] >= '0' && host.bytes[n - 1] <= '9') n--;
    if (n && n < host.length && host.bytes[n - 1] == ':') host.length = n - 1;
    return host;
}

/* Is it a host that no DNS server can redirect: an address, or localhost? */
static int lpi_address_host_is_literal(lp_slice name)
{
    uint8_t bytes[16];
    if (name.length > 2 && *name.bytes == '[')
        name = lpi_slice(name.bytes + 1, name.length - 2);
    else if (name.length && memchr(name.bytes, ':', name.length))
        return 0;
    return !lpi_address_parse(name, bytes) ||
           lpi_alike(name, LPI_S("localhost"));
}

/* ==========================================================================
   B4  JSON                                                            >>json

   The scanner checks a text (RFC 8259) in one pass, without recursion, and
   copies the members of the top-level object byte for byte, without those that
   the server sets itself: id, channel and timestamp. The reader takes a text
   apart that the scanner has found good, without changing it. The emitter
   writes JSON into a text that grows.

   Uses      >>memory >>text
   Touches   the text, and the room for the members.
   Promises  The scanner accepts nothing that RFC 8259 forbids, and the emitter
             writes nothing else, if lp_json_raw is given valid JSON. Numbers
             are converted by lp_json_get_int and the like alone.
   ========================================================================== */

enum { LPI_JSON_DEPTH = 64 };

typedef struct lpi_json_scan {
    const char *at, *end; /* after a failure, `at` is the bad byte           */
    uint64_t objects;     /* a bit for each open level, the innermost lowest:
                             1 for an object, 0 for an array                 */
    uint32_t depth;
    int gives_way;        /* the top-level member that is being read is one
                             that the server sets: it is not copied          */
    const char *member;   /* where that member begins                        */
    char *rest;           /* receives the other members; may be NULL         */
    size_t members_length; /* of `rest`                                      */
} lpi_json_scan;

/* The functions lpi_json_scan_* move past what their name says. They return 0,
   or -1 at the first byte that is wrong. */

static void lpi_json_scan_space(lpi_json_scan *s)
{
    while (s->at < s->end && (uint8_t)*s->at <= ' ' &&
           (*s->at == ' ' || *s->at == '\n' || *s->at == '\r' ||
            *s->at == '\t'))
        s->at++;
}

static int lpi_json_scan_escape(lpi_json_scan *s) /* past the backslash */
{
    int i;
    if (s->at == s->end) return -1;
    if (*s->at != 'u') {
        if (!*s->at || !strchr("\"\\/bfnrt", *s->at)) return -1;
        s->at++;
        return 0;
    }
    s->at++;
    for (i = 0; i < 4; i++, s->at++)
        if (s->at == s->end || !lpi_is(*s->at, LPI_HEX)) return -1;
    return 0;
}

static int lpi_json_scan_string(lpi_json_scan *s) /* at the opening quote */
{
    s->at++;
    for (;;) {
        s->at += lpi_count_plain(s->at, (size_t)(s->end - s->at));
        if (s->at == s->end) return -1;
        if (*s->at == '"') {
            s->at++;
            return 0;
        }
        if (*s->at == '\\') {
            s->at++;
            if (lpi_json_scan_escape(s)) return -1;
        } else {
            size_t n = lpi_utf8(s->at, (size_t)(s->end - s->at));
            if (!n || (uint8_t)*s->at < 0x20) return -1;
            s->at += n;
        }
    }
}

static int lpi_json_scan_digits(lpi_json_scan *s)
{
    const char *begin = s->at;
    while (s->at < s->end && *s->at >= '0' && *s->at <= '9') s->at++;
    return s->at == begin ? -1 : 0;
}

static int lpi_json_scan_number(lpi_json_scan *s)
{
    if (*s->at == '-') s->at++;
    if (s->at < s->end && *s->at == '0') s->at++;
    else if (lpi_json_scan_digits(s)) return -1;
    if (s->at < s->end && *s->at == '.') {
        s->at++;
        if (lpi_json_scan_digits(s)) return -1;
    }
    if (s->at < s->end && (*s->at == 'e' || *s->at == 'E')) {
        s->at++;
        if (s->at < s->end && (*s->at == '+' || *s->at == '-')) s->at++;
        return lpi_json_scan_digits(s);
    }
    return 0;
}

static int lpi_json_scan_literal(lpi_json_scan *s, const char *word)
{
    for (; *word; word++, s->at++)
        if (s->at == s->end || *s->at != *word) return -1;
    return 0;
}

/* The number of a \u escape whose digits begin there. */
static uint32_t lpi_json_code(const char *digits)
{
    uint32_t code = 0;
    int i;
    for (i = 0; i < 4; i++)
        code = code << 4 | lpi_hex_digit((uint8_t)digits[i]);
    return code;
}

/* Is it half of a surrogate pair, by itself no character? */
static int lpi_json_is_half(uint32_t code) { return code >> 11 == 0x1B; }

/* The character that an escape stands for, or the half of a surrogate pair if
   its other half does not follow. *length receives how many bytes that took. */
static uint32_t lpi_json_escaped(lp_slice text, size_t *length)
{
    static const char letters[] = "bfnrt", controls[] = "\b\f\n\r\t";
    const char *at = text.bytes + 1, *known = strchr(letters, *at);
    uint32_t code, low;
    *length = 2;
    if (*at != 'u')
        return (uint8_t)(known ? controls[known - letters] : *at);
    *length = 6;
    code = lpi_json_code(at + 1);
    if (code >> 10 != 0x36 || text.length < 12 || at[5] != '\\' ||
        at[6] != 'u')
        return code;
    low = lpi_json_code(at + 7);
    if (low >> 10 != 0x37) return code;
    *length = 12;
    return 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00);
}

/* Take the first character off a text. With `escapes` that is what stands
   between the quotes of a string which was found good. UINT32_MAX for a byte
   that is not UTF-8. */
static uint32_t lpi_json_character(lp_slice *text, int escapes)
{
    uint32_t code = (uint8_t)*text->bytes;
    size_t n = 1;
    if (code == '\\' && escapes) code = lpi_json_escaped(*text, &n);
    else if (code >= 0x80) code = lpi_utf8_code(*text, &n);
    *text = lpi_slice(text->bytes + n, text->length - n);
    return code;
}

/* Does the inside of a string, which was found good, stand for that name? With
   `escapes`, the name is the inside of such a string too. No text is longer
   than what it is written as, so that most names are refused by the length. */
static int lpi_json_same(lp_slice raw, lp_slice name, int escapes)
{
    if (raw.length < name.length && !escapes) return 0;
    while (raw.length && name.length)
        if (lpi_json_character(&raw, 1) != lpi_json_character(&name, escapes))
            return 0;
    return !raw.length && !name.length;
}

/* Is it the key of a member that the server sets itself? */
static int lpi_json_scan_gives_way(lp_slice raw)
{
    static const char *const names[] = {"id", "channel", "timestamp"};
    char first = raw.length ? *raw.bytes : 0;
    size_t i;
    for (i = 0; i < LPI_COUNT(names); i++)
        if ((first == *names[i] || first == '\\') &&
            lpi_json_same(raw, lp_s(names[i]), 0))
            return 1;
    return 0;
}

static int lpi_json_scan_key(lpi_json_scan *s)
{
    const char *begin;
    lp_slice raw;
    lpi_json_scan_space(s);
    if (s->at == s->end || *s->at != '"') return -1;
    begin = s->at + 1;
    if (lpi_json_scan_string(s)) return -1;
    raw = lpi_slice(begin, (size_t)(s->at - 1 - begin));
    if (s->depth == 1) s->gives_way = lpi_json_scan_gives_way(raw);
    lpi_json_scan_space(s);
    if (s->at == s->end || *s->at != ':') return -1;
    s->at++;
    lpi_json_scan_space(s);
    return 0;
}

/* A top-level member ends at s->at: copy it, unless it gives way. */
static void lpi_json_scan_member(lpi_json_scan *s)
{
    size_t length = (size_t)(s->at - s->member);
    if (s->rest && !s->gives_way) {
        if (s->members_length) s->rest[s->members_length++] = ',';
        memcpy(s->rest + s->members_length, s->member, length);
        s->members_length += length;
    }
    s->member = s->at + 1;
}

/* Move past the start of an object or array. Returns 1 if its first value
   follows, 0 if it was empty and is closed, or -1. */
static int lpi_json_scan_open(lpi_json_scan *s)
{
    int object = *s->at == '{';
    if (s->depth == LPI_JSON_DEPTH) return -1;
    s->at++;
    s->objects = s->objects << 1 | (uint64_t)object;
    if (++s->depth == 1) s->member = s->at;
    lpi_json_scan_space(s);
    if (s->at < s->end && *s->at == (object ? '}' : ']')) {
        s->at++;
        s->depth--;
        s->objects >>= 1;
        return 0;
    }
    return object && lpi_json_scan_key(s) ? -1 : 1;
}

/* Returns like lpi_json_scan_open(); 0 for a value that is not one of those. */
static int lpi_json_scan_value(lpi_json_scan *s)
{
    if (s->at == s->end) return -1;
    switch (*s->at) {
    case '{':
    case '[': return lpi_json_scan_open(s);
    case '"': return lpi_json_scan_string(s);
    case 't': return lpi_json_scan_literal(s, "true");
    case 'f': return lpi_json_scan_literal(s, "false");
    case 'n': return lpi_json_scan_literal(s, "null");
    default: return lpi_json_scan_number(s);
    }
}

/* Move on after a value. Returns 1 if another value follows, 0 if all objects
   and arrays are closed, or -1. */
static int lpi_json_scan_next(lpi_json_scan *s)
{
    while (s->depth) {
        int object = (int)(s->objects & 1);
        lpi_json_scan_space(s);
        if (s->at == s->end) return -1;
        if (*s->at == ',') {
            if (object && s->depth == 1) lpi_json_scan_member(s);
            s->at++;
            if (object) return lpi_json_scan_key(s) ? -1 : 1;
            lpi_json_scan_space(s);
            return 1;
        }
        if (*s->at != (object ? '}' : ']')) return -1;
        if (object && s->depth == 1) lpi_json_scan_member(s);
        s->at++;
        s->depth--;
        s->objects >>= 1;
    }
    return 0;
}

/* Here: a value, with all that is in it. */
static int lpi_json_scan_whole(lpi_json_scan *s)
{
    int more = 1;
    while (more > 0) {
        more = lpi_json_scan_value(s);
        if (!more) more = lpi_json_scan_next(s);
    }
    return more;
}

static void lpi_json_scan_init(lpi_json_scan *s, lp_slice text)
{
    memset(s, 0, sizeof *s);
    s->at = text.bytes;
    s->end = text.bytes + text.length;
}

/* Scan a text that is exactly one value. `rest` has room for text.length bytes,
   or is NULL. */
static int lpi_json_scan_text(lpi_json_scan *s, lp_slice text, char *rest)
{
    lpi_json_scan_init(s, text);
    s->rest = rest;
    if (!text.bytes) return -1;
    lpi_json_scan_space(s);
    if (lpi_json_scan_whole(s)) return -1;
    lpi_json_scan_space(s);
    return s->at == s->end ? 0 : -1;
}

/* If the text is JSON, is it an array? */
static int lpi_json_is_array(lp_slice text)
{
    lpi_json_scan s;
    lpi_json_scan_init(&s, text);
    lpi_json_scan_space(&s);
    return s.at < s.end && *s.at == '[';
}

LPDEF lp_result lp_json_check(lp_slice text, size_t *out_offset)
{
    lpi_json_scan scan;
    if (!lpi_json_scan_text(&scan, text, NULL)) return LP_OK;
    if (out_offset)
        *out_offset = text.bytes ? (size_t)(scan.at - text.bytes) : 0;
    return LP_ERR_JSON;
}

/* --- the reader, of texts that the scanner has found good --- */

/* Take the next value out of an object, with its key as it is written, or, if
   `key` is NULL, out of an array. s->at is the bracket that opens it, or what
   stands behind the value before. Returns 1, or 0 if there is none left. */
static int lpi_json_take(lpi_json_scan *s, lp_slice *key, lp_slice *value)
{
    char end = key ? '}' : ']';
    const char *begin;
    if (*s->at == end) return 0;
    s->at++;
    lpi_json_scan_space(s);
    if (*s->at == end) return 0;
    if (key) {
        begin = s->at + 1;
        (void)lpi_json_scan_string(s);
        *key = lpi_slice_to(begin, s->at - 1);
        lpi_json_scan_space(s);
        s->at++; /* the colon */
        lpi_json_scan_space(s);
    }
    begin = s->at;
    (void)lpi_json_scan_whole(s);
    *value = lpi_slice_to(begin, s->at);
    lpi_json_scan_space(s);
    return 1;
}

static char *lpi_json_put_code(char *to, uint32_t code) /* as UTF-8 */
{
    int shift = code < 0x80 ? 0 : code < 0x800 ? 6 : code < 0x10000 ? 12 : 18;
    static const uint8_t first[] = {0, 0xC0, 0xE0, 0xF0};
    *to++ = (char)(first[shift / 6] | code >> shift);
    while (shift) {
        shift -= 6;
        *to++ = (char)(0x80 | (code >> shift & 0x3F));
    }
    return to;
}

/* The text between the quotes of a string. */
static lp_slice lpi_json_inside(lp_slice string)
{
    return lpi_slice(string.bytes + 1, string.length - 2);
}

/* Decode the inside of a string into `to`, which has room for `size` bytes and
   may be where it stands. LP_ERR_TYPE if it has half a surrogate pair, which is
   no character; LP_ERR_TOO_LARGE. */
static lp_result lpi_json_decode(lp_slice raw, char *to, size_t size,
                                 lp_slice *out)
{
    size_t length = 0;
    while (raw.length) {
        char text[4];
        uint32_t code = lpi_json_character(&raw, 1);
        size_t n = (size_t)(lpi_json_put_code(text, code) - text);
        if (lpi_json_is_half(code)) return LP_ERR_TYPE;
        if (n > size - length) return LP_ERR_TOO_LARGE;
        memcpy(to + length, text, n);
        length += n;
    }
    *out = lpi_slice(to, length);
    return LP_OK;
}

/* Likewise, with a NUL behind it. */
static lp_result lpi_json_decode_ended(lp_slice raw, char *to, size_t size,
                                       lp_slice *out)
{
    lp_result result = size ? lpi_json_decode(raw, to, size - 1, out)
                            : LP_ERR_TOO_LARGE;
    if (!result) to[out->length] = '\0';
    return result;
}

/* Check a text that is to be one value, and cut off the space around it. 0 or
   -1. */
static int lpi_json_validate(lp_slice *text)
{
    lpi_json_scan s;
    if (!text->bytes || lpi_json_scan_text(&s, *text, NULL)) return -1;
    while ((uint8_t)*text->bytes <= ' ') text->bytes++, text->length--;
    while ((uint8_t)text->bytes[text->length - 1] <= ' ') text->length--;
    return 0;
}

/* One step of a path: to a member, or to an element. */
typedef struct lpi_json_step {
    lp_slice key;   /* its bytes are NULL for an element                     */
    int escapes;    /* the key was written as a JSON string                  */
    uint64_t index;
} lpi_json_step;

/* Read what stands in brackets in a path, from the opening one on. 0 or -1. */
static int lpi_json_path_brackets(lpi_json_scan *path, lpi_json_step *step)
{
    const char *begin = ++path->at;
    step->escapes = 1;
    step->key = lpi_slice(NULL, 0);
    if (path->at < path->end && *path->at == '"') {
        if (lpi_json_scan_string(path)) return -1;
        step->key = lpi_json_inside(lpi_slice_to(begin, path->at));
    } else if (lpi_json_scan_digits(path) ||
               lpi_parse_uint(lpi_slice_to(begin, path->at), &step->index)) {
        return -1;
    }
    return path->at < path->end && *path->at++ == ']' ? 0 : -1;
}

/* Read the next step of a path that begins at `begin`. Returns 1, 0 if there is
   none left, or -1. */
static int lpi_json_path_step(lpi_json_scan *path, const char *begin,
                              lpi_json_step *step)
{
    if (path->at == path->end) return 0;
    if (*path->at == '[') return lpi_json_path_brackets(path, step) ? -1 : 1;
    if (path->at > begin && *path->at++ != '.') return -1;
    step->escapes = 0;
    step->key = lpi_slice(path->at, strcspn(path->at, ".[]\""));
    path->at += step->key.length;
    return step->key.length ? 1 : -1;
}

/* The value in another where that step leads; its bytes are NULL if there is
   none. */
static lp_slice lpi_json_find(lp_slice in, const lpi_json_step *step)
{
    lp_slice found = lpi_slice(NULL, 0), key, value;
    int object = step->key.bytes != NULL;
    uint64_t i = 0;
    lpi_json_scan s;
    lpi_json_scan_init(&s, in);
    if (*s.at != (object ? '{' : '[')) return found;
    while (lpi_json_take(&s, object ? &key : NULL, &value))
        if (object ? lpi_json_same(key, step->key, step->escapes)
                   : i++ == step->index)
            found = value;
    return found;
}

LPDEF lp_result lp_json_get(lp_slice json, const char *path, lp_slice *out)
{
    lpi_json_scan steps;
    lpi_json_step step;
    int bad = lpi_json_validate(&json), more;
    if (bad) json = lpi_slice(NULL, 0);
    if (!path) return LP_ERR_ARG;
    lpi_json_scan_init(&steps, lp_s(path));
    while ((more = lpi_json_path_step(&steps, path, &step)) > 0)
        if (json.bytes) json = lpi_json_find(json, &step);
    if (more) return LP_ERR_ARG;
    if (!json.bytes) return bad ? LP_ERR_JSON : LP_ERR_NOT_FOUND;
    *out = json;
    return LP_OK;
}

LPDEF lp_kind lp_json_kind(lp_slice value)
{
    if (!value.length) return LP_JSON_NONE;
    switch (*value.bytes) {
    case 'n': return LP_JSON_NULL;
    case 't':
    case 'f': return LP_JSON_BOOL;
    case '"': return LP_JSON_STRING;
    case '[': return LP_JSON_ARRAY;
    case '{': return LP_JSON_OBJECT;
    default: break;
    }
    return *value.bytes == '-' || (*value.bytes >= '0' && *value.bytes <= '9')
               ? LP_JSON_NUMBER : LP_JSON_NONE;
}

static lp_result lpi_json_get_kind(lp_slice json, const char *path,
                                   lp_kind kind, lp_slice *out)
{
    lp_result result = lp_json_get(json, path, out);
    return !result && lp_json_kind(*out) != kind ? LP_ERR_TYPE : result;
}

LPDEF lp_result lp_json_get_string(lp_slice json, const char *path,
                                   char *buffer, size_t size, lp_slice *out)
{
    lp_slice string;
    lp_result result = lpi_json_get_kind(json, path, LP_JSON_STRING, &string);
    if (result) return result;
    return lpi_json_decode_ended(lpi_json_inside(string), buffer, size, out);
}

LPDEF lp_result lp_json_get_bool(lp_slice json, const char *path, int *out)
{
    lp_slice word;
    lp_result result = lpi_json_get_kind(json, path, LP_JSON_BOOL, &word);
    if (!result) *out = *word.bytes == 't';
    return result;
}

/* Digits of a number that decide which double is nearest: a number that lies in
   the middle between two doubles has no more. Of what is behind them only
   whether it is zero matters. */
enum { LPI_JSON_DIGITS = 768 };

/* A number: its digits, as a whole number, times ten to the exponent. Neither
   the first digit nor the last is a zero, but those of zero are "0". */
typedef struct lpi_json_number {
    int64_t exponent;
    size_t count; /* of digits */
    int negative;
    char digits[LPI_JSON_DIGITS + 24]; /* a last one for all that is cut off,
                              and room for what strtod wants behind them     */
} lpi_json_number;

/* Read what stands behind the e. It is cut at a number of digits that no text
   has. */
static int64_t lpi_json_exponent(lp_slice text)
{
    int negative = *text.bytes == '-';
    size_t i = negative || *text.bytes == '+';
    int64_t value = 0;
    for (; i < text.length; i++)
        if (value < INT64_C(100000000000000000))
            value = value * 10 + (text.bytes[i] - '0');
    return negative ? -value : value;
}

/* Read the digits up to the e. Returns where they end. */
static size_t lpi_json_number_digits(lpi_json_number *n, lp_slice text)
{
    size_t i = *text.bytes == '-';
    int behind_point = 0, more = 0;
    for (; i < text.length && (text.bytes[i] | 0x20) != 'e'; i++) {
        char c = text.bytes[i];
        if (c == '.') {
            behind_point = 1;
            continue;
        }
        n->exponent -= behind_point;
        if (n->count == LPI_JSON_DIGITS) n->exponent++, more |= c != '0';
        else if (n->count || c != '0') n->digits[n->count++] = c;
    }
    if (more) n->digits[n->count++] = '1', n->exponent--;
    while (n->count && n->digits[n->count - 1] == '0')
        n->count--, n->exponent++;
    return i;
}

static void lpi_json_number_read(lpi_json_number *n, lp_slice text)
{
    size_t end;
    n->exponent = 0;
    n->count = 0;
    n->negative = *text.bytes == '-';
    end = lpi_json_number_digits(n, text) + 1;
    if (end < text.length)
        n->exponent += lpi_json_exponent(
            lpi_slice(text.bytes + end, text.length - end));
    if (n->count) return;
    n->digits[n->count++] = '0';
    n->exponent = 0;
}

/* Its magnitude, if it is whole and below 2^64. 0 or -1. */
static int lpi_json_number_whole(lpi_json_number *n, uint64_t *out)
{
    size_t zeros = (size_t)n->exponent;
    if (n->count > 20 || n->exponent < 0 || n->exponent > 20) return -1;
    memset(n->digits + n->count, '0', zeros);
    return lpi_parse_uint(lpi_slice(n->digits, n->count + zeros), out);
}

/* The nearest double, which may be infinite. With an exponent, and without a
   point, the text means the same to strtod in every locale. Where the exponent
   is cut the number is zero or infinite, however many digits it has. */
static double lpi_json_number_double(lpi_json_number *n)
{
    char *to = n->digits + n->count;
    int64_t limit = 9999, exponent = n->exponent;
    double value;
    if (exponent > limit) exponent = limit;
    if (exponent < -limit) exponent = -limit;
    *to++ = 'e';
    if (exponent < 0) *to++ = '-';
    to = lpi_put_uint(to, (uint64_t)(exponent < 0 ? -exponent : exponent));
    *to = '\0';
    value = strtod(n->digits, NULL);
    return n->negative ? -value : value;
}

static lp_result lpi_json_get_number(lp_slice json, const char *path,
                                     lpi_json_number *n)
{
    lp_slice text;
    lp_result result = lpi_json_get_kind(json, path, LP_JSON_NUMBER, &text);
    if (!result) lpi_json_number_read(n, text);
    return result;
}

LPDEF lp_result lp_json_get_int(lp_slice json, const char *path, int64_t *out)
{
    lpi_json_number n;
    uint64_t magnitude;
    lp_result result = lpi_json_get_number(json, path, &n);
    if (result) return result;
    return lpi_json_number_whole(&n, &magnitude) ||
                   lpi_signed(n.negative, magnitude, out) ? LP_ERR_TYPE : LP_OK;
}

LPDEF lp_result lp_json_get_uint(lp_slice json, const char *path, uint64_t *out)
{
    lpi_json_number n;
    uint64_t magnitude;
    lp_result result = lpi_json_get_number(json, path, &n);
    if (result) return result;
    if (lpi_json_number_whole(&n, &magnitude) || (n.negative && magnitude))
        return LP_ERR_TYPE;
    *out = magnitude;
    return LP_OK;
}

LPDEF lp_result lp_json_get_double(lp_slice json, const char *path, double *out)
{
    lpi_json_number n;
    double value;
    lp_result result = lpi_json_get_number(json, path, &n);
    if (result) return result;
    value = lpi_json_number_double(&n);
    if (!(value - value == 0)) return LP_ERR_TYPE;
    *out = value;
    return LP_OK;
}

LPDEF void lp_json_each(lp_json_iter *it, lp_slice json)
{
    int object;
    memset(it, 0, sizeof *it);
    if (lpi_json_validate(&json)) {
        it->result = LP_ERR_JSON;
        return;
    }
    object = *json.bytes == '{';
    if (object) it->key = LPI_S("");
    if (object || *json.bytes == '[') it->rest = json;
    else it->result = LP_ERR_TYPE;
}

LPDEF int lp_json_next(lp_json_iter *it)
{
    lpi_json_scan s;
    if (!it->rest.length) return 0;
    lpi_json_scan_init(&s, it->rest);
    if (lpi_json_take(&s, it->key.bytes ? &it->key : NULL, &it->value)) {
        it->rest = lpi_slice_to(s.at, s.end);
        return 1;
    }
    it->key = it->value = it->rest = lpi_slice(NULL, 0);
    return 0;
}

LPDEF int lp_json_key_is(const lp_json_iter *it, const char *name)
{
    return it->key.bytes && lpi_json_same(it->key, lp_s(name), 0);
}

LPDEF lp_result lp_json_key_text(const lp_json_iter *it, char *buffer,
                                 size_t size, lp_slice *out)
{
    if (!it->key.bytes) return LP_ERR_NOT_FOUND;
    return lpi_json_decode_ended(it->key, buffer, size, out);
}

/* --- the emitter --- */

static int lpi_json_failed(const lp_json *j)
{
    return j->misused || j->text.failed;
}

static void lpi_json_add(lp_json *j, lp_slice s)
{
    if (!lpi_json_failed(j)) lpi_text_add(&j->text, s);
}

/* Add the comma that the next value needs. In an object a key must have come
   first, and nowhere else may one have. */
static void lpi_json_begin_value(lp_json *j)
{
    int in_object = j->depth && !(j->in_array & 1);
    if (in_object != j->after_key || (!j->depth && j->comma))
        j->misused = 1;
    if (j->comma && !j->after_key) lpi_json_add(j, LPI_S(","));
    j->after_key = 0;
    j->comma = 1;
}

static void lpi_json_open(lp_json *j, int array)
{
    lpi_json_begin_value(j);
    if (j->depth == LPI_JSON_DEPTH) j->misused = 1;
    if (lpi_json_failed(j)) return;
    lpi_json_add(j, array ? LPI_S("[") : LPI_S("{"));
    j->in_array = j->in_array << 1 | (uint64_t)array;
    j->depth++;
    j->comma = 0;
}

LPDEF void lp_json_init(lp_json *j, const lp_memory *memory)
{
    memset(j, 0, sizeof *j);
    lpi_text_init(&j->text,
                  memory && memory->resize ? memory : &lpi_libc_memory);
}

/* Begin another text in the same memory. */
static void lpi_json_restart(lp_json *j)
{
    lpi_text_clear(&j->text);
    j->in_array = 0;
    j->depth = j->comma = j->after_key = j->misused = 0;
}

LPDEF void lp_json_free(lp_json *j)
{
    if (!j->text.memory.resize) lp_json_init(j, NULL);
    lpi_text_free(&j->text);
    lpi_json_restart(j);
}

LPDEF void lp_json_object(lp_json *j) { lpi_json_open(j, 0); }

LPDEF void lp_json_array(lp_json *j) { lpi_json_open(j, 1); }

LPDEF void lp_json_end(lp_json *j)
{
    if (!j->depth || j->after_key) j->misused = 1;
    if (lpi_json_failed(j)) return;
    lpi_json_add(j, j->in_array & 1 ? LPI_S("]") : LPI_S("}"));
    j->in_array >>= 1;
    j->depth--;
    j->comma = 1;
}

static void lpi_json_quote(lp_json *j, lp_slice s)
{
    static const char escapes[] = "\bb\ff\nn\rr\tt\"\"\\\\";
    size_t i = 0, plain;
    lpi_json_add(j, LPI_S("\""));
    while (i < s.length) {
        char c;
        size_t n;
        plain = i;
        i += lpi_count_plain(s.bytes + i, s.length - i);
        lpi_json_add(j, lpi_slice(s.bytes + plain, i - plain));
        if (i == s.length) break;
        c = s.bytes[i];
        n = lpi_utf8(s.bytes + i, s.length - i);
        if (n > 1 || c == 0x7f) {
            lpi_json_add(j, lpi_slice(s.bytes + i, n));
        } else if (n) {
            const char *known = c ? strchr(escapes, c) : NULL;
            char code[7] = "\\u00";
            code[4] = (char)('0' + ((uint8_t)c >> 4));
            code[5] = "0123456789abcdef"[c & 15];
            if (known) code[1] = known[1];
            lpi_json_add(j, lpi_slice(code, known ? 2 : 6));
        } else {
            lpi_json_add(j, LPI_S("\xEF\xBF\xBD")); /* U+FFFD */
        }
        i += n ? n : 1;
    }
    lpi_json_add(j, LPI_S("\""));
}

LPDEF void lp_json_key(lp_json *j, lp_slice key)
{
    if (!j->depth || (j->in_array & 1) || j->after_key) j->misused = 1;
    if (lpi_json_failed(j)) return;
    if (j->comma) lpi_json_add(j, LPI_S(","));
    lpi_json_quote(j, key);
    lpi_json_add(j, LPI_S(":"));
    j->after_key = 1;
}

LPDEF void lp_json_string(lp_json *j, lp_slice text)
{
    lpi_json_begin_value(j);
    lpi_json_quote(j, text);
}

LPDEF void lp_json_raw(lp_json *j, lp_slice value)
{
    lpi_json_begin_value(j);
    lpi_json_add(j, value);
}

LPDEF void lp_json_uint(lp_json *j, uint64_t value)
{
    char text[20];
    lp_json_raw(j, lpi_slice_to(text, lpi_put_uint(text, value)));
}

LPDEF void lp_json_int(lp_json *j, int64_t value)
{
    char text[21] = "-";
    size_t n = value < 0;
    uint64_t magnitude = n ? 0 - (uint64_t)value : (uint64_t)value;
    lp_json_raw(j, lpi_slice_to(text, lpi_put_uint(text + n, magnitude)));
}

LPDEF void lp_json_double(lp_json *j, double value)
{
    char text[40];
    int i, n, length = 0;
    if (!(value - value == 0)) { /* NaN and the infinities */
        lp_json_null(j);
        return;
    }
    n = snprintf(text, sizeof text, "%.17g", value);
    for (i = 0; i < n; i++) { /* a locale's decimal point may be any bytes */
        int known = strchr("0123456789+-e", text[i]) != NULL;
        if (known || text[length - 1] != '.')
            text[length++] = known ? text[i] : '.';
    }
    lp_json_raw(j, lpi_slice(text, (size_t)length));
}

LPDEF void lp_json_bool(lp_json *j, int value)
{
    lp_json_raw(j, value ? LPI_S("true") : LPI_S("false"));
}

LPDEF void lp_json_null(lp_json *j) { lp_json_raw(j, LPI_S("null")); }

LPDEF lp_slice lp_json_text(const lp_json *j)
{
    if (j->misused || j->depth) return lpi_slice(NULL, 0);
    return lpi_text_slice(&j->text);
}

/* ==========================================================================
   B5  REPLY                                                          >>reply

   The head of an answer (RFC 9112 4): status line, Date, and the fields that
   every answer has. Nothing else writes one, but for 100 Continue (>>read). At
   the end, what the head of a page or file says: its type and its entity tag.

   Uses      >>text
   Touches   the room that the caller has made.
   Promises  A head takes at most LPI_HEAD_FIXED bytes more than its type and
             its extra lines.
   ========================================================================== */

enum {
    LPI_HEAD_FIXED = 224, /* bytes of a head without its type and extra lines */
    LPI_HEAD_ROOM = 320,  /* bytes kept free before a body: a head that fits
                             there is sent in one piece with the body        */
    LPI_DATE_LENGTH = 29
};

#define LPI_UNTIL_CLOSE SIZE_MAX

typedef struct lpi_head {
    int status;
    lp_slice type;    /* the Content-Type; none if its bytes are NULL        */
    uint64_t length;  /* of the body; LPI_UNTIL_CLOSE: it ends with the
                         connection                                          */
    const char *date; /* LPI_DATE_LENGTH bytes                               */
    lp_slice extra;   /* more fields, each with its CR LF                    */
    uint8_t close;
    uint8_t keep_alive;  /* an HTTP/1.0 client is told that it may go on     */
    uint8_t may_cache;   /* `extra` has a Cache-Control, so none is added    */
} lpi_head;

static const struct {
    int status;
    const char *text;
} lpi_statuses[] = {
    {200, "OK"}, {201, "Created"}, {202, "Accepted"}, {204, "No Content"},
    {301, "Moved Permanently"}, {302, "Found"}, {303, "See Other"},
    {304, "Not Modified"}, {307, "Temporary Redirect"},
    {308, "Permanent Redirect"}, {400, "Bad Request"}, {401, "Unauthorized"},
    {403, "Forbidden"}, {404, "Not Found"}, {405, "Method Not Allowed"},
    {408, "Request Timeout"}, {409, "Conflict"}, {410, "Gone"},
    {411, "Length Required"}, {413, "Content Too Large"},
    {414, "URI Too Long"}, {415, "Unsupported Media Type"},
    {417, "Expectation Failed"}, {421, "Misdirected Request"},
    {422, "Unprocessable Content"}, {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"}, {500, "Internal Server Error"},
    {501, "Not Implemented"}, {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"}};

static const char *lpi_status_text(int status)
{
    size_t i;
    for (i = 0; i < LPI_COUNT(lpi_statuses); i++)
        if (lpi_statuses[i].status == status) return lpi_statuses[i].text;
    return "Other";
}

/* Write the head to `to`, and return its end. */
static char *lpi_head_put(char *to, const lpi_head *head)
{
    to = LPI_PUT(to, "HTTP/1.1 ");
    to = lpi_put_uint(to, (uint64_t)head->status);
    *to++ = ' ';
    to = lpi_put(to, lp_s(lpi_status_text(head->status)));
    to = LPI_PUT(to, "\r\nDate: ");
    to = lpi_put(to, lpi_slice(head->date, LPI_DATE_LENGTH));
    if (head->type.bytes) {
        to = LPI_PUT(to, "\r\nContent-Type: ");
        to = lpi_put(to, head->type);
    }
    if (head->status != 204 && head->status != 304 &&
        head->length != LPI_UNTIL_CLOSE) {
        to = LPI_PUT(to, "\r\nContent-Length: ");
        to = lpi_put_uint(to, head->length);
    }
    if (!head->may_cache) to = LPI_PUT(to, "\r\nCache-Control: no-store");
    to = LPI_PUT(to, "\r\nX-Content-Type-Options: nosniff\r\n");
    if (head->close) to = LPI_PUT(to, "Connection: close\r\n");
    else if (head->keep_alive) to = LPI_PUT(to, "Connection: keep-alive\r\n");
    if (head->extra.length) to = lpi_put(to, head->extra);
    return LPI_PUT(to, "\r\n");
}

static char *lpi_put_two(char *to, uint64_t n)
{
    to[0] = (char)('0' + n / 10 % 10);
    to[1] = (char)('0' + n % 10);
    return to + 2;
}

typedef struct lpi_day {
    uint64_t year, month, day; /* month is 0 to 11                           */
} lpi_day;

/* The date of a day, by its number since 1970. Years are counted from 1 March,
   so that a leap day ends its year, and in eras of 400: `doe` and `yoe` are the
   day and the year of the era, `doy` is the day of the year (Hinnant,
   chrono-Compatible Low-Level Date Algorithms). */
static lpi_day lpi_day_of(uint64_t days)
{
    uint64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    uint64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint64_t march = (5 * doy + 2) / 153;
    lpi_day date;
    date.day = doy - (153 * march + 2) / 5 + 1;
    date.month = march < 10 ? march + 2 : march - 10;
    date.year = yoe + era * 400 + (date.month < 2);
    return date;
}

/* Day, month and year, with `by` between them. */
static char *lpi_put_day(char *to, const lpi_day *date, char by)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    to = lpi_put_two(to, date->day);
    *to++ = by;
    to = lpi_put(to, lpi_slice(months + date->month * 3, 3));
    *to++ = by;
    return lpi_put_two(lpi_put_two(to, date->year / 100), date->year % 100);
}

/* The time of the day: 07:01:41. */
static char *lpi_put_time(char *to, uint64_t seconds)
{
    to = lpi_put_two(to, seconds % 86400 / 3600);
    *to++ = ':';
    to = lpi_put_two(to, seconds / 60 % 60);
    *to++ = ':';
    return lpi_put_two(to, seconds % 60);
}

/* Write a time as an IMF-fixdate (RFC 9110 5.6.7), of LPI_DATE_LENGTH bytes. */
static void lpi_put_date(char *to, uint64_t seconds)
{
    uint64_t days = seconds / 86400;
    lpi_day date = lpi_day_of(days);
    to = lpi_put(to, lpi_slice(&"ThuFriSatSunMonTueWed"[days % 7 * 3], 3));
    to = LPI_PUT(to, ", ");
    to = lpi_put_day(to, &date, ' ');
    *to++ = ' ';
    to = lpi_put_time(to, seconds);
    LPI_PUT(to, " GMT");
}

/* --- pages and files --- */

static const struct {
    const char *extension, *type;
} lpi_types[] = {
    {"html", "text/html; charset=utf-8"}, {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"json", "application/json"}, {"map", "application/json"},
    {"xml", "application/xml"}, {"txt", "text/plain; charset=utf-8"},
    {"svg", "image/svg+xml"}, {"png", "image/png"}, {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"}, {"gif", "image/gif"}, {"webp", "image/webp"},
    {"avif", "image/avif"}, {"ico", "image/x-icon"}, {"woff2", "font/woff2"},
    {"wasm", "application/wasm"}, {"pdf", "application/pdf"},
    {"mp4", "video/mp4"}, {"webm", "video/webm"}};

/* The type of a file, by what follows the last '.' of its name. */
static const char *lpi_type_of(lp_slice name)
{
    size_t n = name.length, i;
    lp_slice extension;
    while (n && name.bytes[n - 1] != '.') n--;
    extension = lpi_slice(name.bytes + n, name.length - n);
    if (n)
        for (i = 0; i < LPI_COUNT(lpi_types); i++)
            if (lpi_alike(extension, lp_s(lpi_types[i].extension)))
                return lpi_types[i].type;
    return "application/octet-stream";
}

enum { LPI_ETAG_LENGTH = 18 };

/* Write a strong entity tag (RFC 9110 8.8.3) of LPI_ETAG_LENGTH bytes. The key
   is no secret: instances that serve the same bytes shall give the same tag. */
static lp_slice lpi_etag_put(char *text, lp_slice content)
{
    static const uint64_t key[2] = {0, 0};
    char *to = text;
    *to++ = '"';
    to = lpi_put_epoch(to, lpi_hash(key, 'e', content));
    *to++ = '"';
    return lpi_slice_to(text, to);
}

/* Is the tag in the list of an If-None-Match (RFC 9110 13.1.2)? Weak ones count
   as well. What follows a byte that is no part of a list is not looked at. */
static int lpi_etag_listed(lp_slice list, lp_slice tag)
{
    const char *at = list.bytes, *end = at + list.length, *quote;
    if (lpi_equal(lpi_trim(list), LPI_S("*"))) return 1;
    for (;;) {
        while (at < end && (*at == ' ' || *at == '\t' || *at == ',')) at++;
        if (end - at > 2 && at[0] == 'W' && at[1] == '/') at += 2;
        if (end - at < 2 || *at != '"') return 0;
        quote = (const char *)memchr(at + 1, '"', (size_t)(end - at - 1));
        if (!quote) return 0;
        if (lpi_equal(lpi_slice_to(at, quote + 1), tag)) return 1;
        at = quote + 1;
        if (at < end && *at != ' ' && *at != '\t' && *at != ',') return 0;
    }
}

/* ==========================================================================
   B6  TIMER WHEEL                                                    >>wheel

   Every parked poll has a deadline and nearly all are cancelled before they
   expire, so arming and cancelling are list splices; only expiry costs. After
   Varghese and Lauck (1987): six wheels of 64 slots, each turning 64 times as
   slowly as the one before. The wheel's time, `now`, and a timer's time are
   read as numbers of six digits in base 64: the timer stands on the wheel of
   the highest digit in which they differ, in the slot of its own digit, and
   moves to a lower wheel when `now` reaches that slot. Times are milliseconds
   modulo 2^32, less than 2^31 ahead.

   A timer is an lpi_timer at a fixed offset in a record of a slab. The timers
   of a slot form a list. The `prev` of its first one holds the slot's number
   and LPI_SLOT_MARK, so that the last timer to leave can clear the slot's bit.

   Uses      >>slab
   Touches   the lpi_wheel that it is given. No clock, no memory, no sockets.
   Promises  A timer never expires early, and is late only by the time until
             lpi_wheel_pop() is called.
   ========================================================================== */

enum {
    LPI_WHEELS = 6,
    LPI_SLOTS = 64,
    LPI_DUE_SLOT = LPI_WHEELS * LPI_SLOTS /* of timers whose time has come   */
};

#define LPI_SLOT_MARK 0x80000000u

typedef struct lpi_timer {
    lpi_link link;     /* `next` of one that is not armed is its own index   */
    uint32_t due;      /* when the wheel looks at it                         */
    uint32_t deadline; /* when it expires: at `due`, or later                */
} lpi_timer;

typedef struct lpi_wheel {
    const lpi_slab *slab;
    size_t offset;             /* of the timer in a record                   */
    uint32_t now;
    uint64_t bits[LPI_WHEELS]; /* a bit for each slot: it has timers         */
    uint32_t heads[LPI_DUE_SLOT + 1]; /* the first timer of each slot        */
} lpi_wheel;

static void lpi_wheel_init(lpi_wheel *w, const lpi_slab *slab, size_t offset,
                           uint32_t now)
{
    memset(w, 0, sizeof *w);
    memset(w->heads, 0xff, sizeof w->heads); /* LPI_NONE */
    w->slab = slab;
    w->offset = offset;
    w->now = now;
}

static lpi_timer *lpi_timer_at(const lpi_wheel *w, uint32_t index)
{
    return (lpi_timer *)(void *)((char *)lpi_at(w->slab, index) + w->offset);
}

static uint32_t lpi_wheel_slot(const lpi_wheel *w, uint32_t due)
{
    uint32_t differs = w->now ^ due, wheel = 0;
    if ((int32_t)(due - w->now) <= 0) return LPI_DUE_SLOT;
    while (differs >= LPI_SLOTS) {
        differs >>= 6;
        wheel++;
    }
    return wheel * LPI_SLOTS + (due >> 6 * wheel) % LPI_SLOTS;
}

static void lpi_wheel_link(lpi_wheel *w, uint32_t index)
{
    lpi_timer *timer = lpi_timer_at(w, index);
    uint32_t slot = lpi_wheel_slot(w, timer->due), head = w->heads[slot];
    timer->link.prev = LPI_SLOT_MARK | slot;
    timer->link.next = head;
    if (head != LPI_NONE) lpi_timer_at(w, head)->link.prev = index;
    w->heads[slot] = index;
    if (slot < LPI_DUE_SLOT)
        w->bits[slot / LPI_SLOTS] |= UINT64_C(1) << slot % LPI_SLOTS;
}

static void lpi_wheel_unlink(lpi_wheel *w, uint32_t index)
{
    lpi_link *link = &lpi_timer_at(w, index)->link;
    if (link->next != LPI_NONE)
        lpi_timer_at(w, link->next)->link.prev = link->prev;
    if (link->prev & LPI_SLOT_MARK) {
        uint32_t slot = link->prev & ~LPI_SLOT_MARK;
        w->heads[slot] = link->next;
        if (link->next == LPI_NONE && slot < LPI_DUE_SLOT)
            w->bits[slot / LPI_SLOTS] &= ~(UINT64_C(1) << slot % LPI_SLOTS);
    } else {
        lpi_timer_at(w, link->prev)->link.next = link->next;
    }
    link->next = index;
}

static int lpi_timer_armed(const lpi_wheel *w, uint32_t index)
{
    return lpi_timer_at(w, index)->link.next != index;
}

/* To be called first for the timer of a new record: it is not armed. */
static void lpi_timer_init(lpi_wheel *w, uint32_t index)
{
    lpi_timer_at(w, index)->link.next = index;
}

static void lpi_wheel_cancel(lpi_wheel *w, uint32_t index)
{
    if (lpi_timer_armed(w, index)) lpi_wheel_unlink(w, index);
}

/* Have the timer expire at `deadline`. To move it to a later one costs nothing
   now: it stays in its slot, and is moved when that comes round. */
static inline void lpi_wheel_arm(lpi_wheel *w, uint32_t index,
                                 uint32_t deadline)
{
    lpi_timer *timer = lpi_timer_at(w, index);
    timer->deadline = deadline;
    if (timer->link.next != index) {
        if ((int32_t)(deadline - timer->due) >= 0) return;
        lpi_wheel_unlink(w, index);
    }
    timer->due = deadline;
    lpi_wheel_link(w, index);
}

/* Find the next slot with timers: its wheel, and in *out the time at which it
   comes round. Returns 0 if all wheels are empty. */
static int lpi_wheel_next(const lpi_wheel *w, uint32_t *out_wheel,
                          uint32_t *out)
{
    uint32_t wheel, shift, slot, here;
    uint64_t bits;
    for (wheel = 0; wheel < LPI_WHEELS && !w->bits[wheel];) wheel++;
    if (wheel == LPI_WHEELS) return 0;
    shift = 6 * wheel;
    here = (w->now >> shift) % LPI_SLOTS;
    bits = w->bits[wheel] & ~(UINT64_MAX >> (63 - here)); /* slots after here */
    slot = lpi_lowest(bits ? bits : w->bits[wheel]); /* the last wheel wraps */
    *out_wheel = wheel;
    *out = (wheel < LPI_WHEELS - 1 ? w->now >> shift >> 6 << 6 << shift : 0) |
           slot << shift;
    return 1;
}

/* Milliseconds until something may expire; UINT32_MAX for never. */
static uint32_t lpi_wheel_wait(const lpi_wheel *w)
{
    uint32_t wheel, when;
    if (w->heads[LPI_DUE_SLOT] != LPI_NONE) return 0;
    return lpi_wheel_next(w, &wheel, &when) ? when - w->now : UINT32_MAX;
}

/* Move `now` to the time `when`, at which a slot comes round, and its timers to
   lower wheels. */
static void lpi_wheel_cascade(lpi_wheel *w, uint32_t wheel, uint32_t when)
{
    uint32_t slot = wheel * LPI_SLOTS + (when >> 6 * wheel) % LPI_SLOTS;
    uint32_t index = w->heads[slot];
    w->heads[slot] = LPI_NONE;
    w->bits[wheel] &= ~(UINT64_C(1) << slot % LPI_SLOTS);
    w->now = when;
    while (index != LPI_NONE) {
        uint32_t next = lpi_timer_at(w, index)->link.next;
        lpi_wheel_link(w, index);
        index = next;
    }
}

/* Remove one timer that has expired by `now`, and return its index. If there is
   none, return LPI_NONE: the wheel has then turned to `now`. */
static uint32_t lpi_wheel_pop(lpi_wheel *w, uint32_t now)
{
    for (;;) {
        uint32_t index = w->heads[LPI_DUE_SLOT], wheel, when;
        if (index != LPI_NONE) {
            lpi_timer *timer = lpi_timer_at(w, index);
            lpi_wheel_unlink(w, index);
            if ((int32_t)(timer->deadline - w->now) <= 0) return index;
            timer->due = timer->deadline; /* it was armed for later since */
            lpi_wheel_link(w, index);
        } else if (lpi_wheel_next(w, &wheel, &when) &&
                   (int32_t)(when - now) <= 0) {
            lpi_wheel_cascade(w, wheel, when);
        } else {
            w->now = now;
            return LPI_NONE;
        }
    }
}

#ifndef LONGPOLL_NO_REDIS

/* ==========================================================================
   B7  RESP                                                            >>resp

   Reads what a Redis server sends (RESP, version 2: redis.io, "Redis
   serialization protocol specification") and writes commands to it.

   A reply is read in two steps. lpi_resp_read() goes over the bytes as they
   come, and says when the reply is whole. lpi_resp_take() then takes it apart
   where it lies, an element at a time: an array first, and then what is in it.

   Uses      >>text
   Touches   what it is given. No clock, no memory but that of the text that
             commands are appended to, no sockets.
   Promises  A reply reads the same however it is cut into pieces. What a reply
             announces is held against the limits here, and nothing is allocated
             for it: who receives makes room for what has come.
   ========================================================================== */

enum {
    LPI_RESP_LINE = 4096,     /* bytes of a line, its end included           */
    LPI_RESP_ELEMENTS = 4096, /* in one reply, those of all its arrays       */
    LPI_RESP_DEPTH = 4,       /* arrays in each other                        */
    LPI_RESP_STRING = 16 * 1024 * 1024 + 64 * 1024, /* bytes of one          */
    LPI_RESP_REPLY = 2 * LPI_RESP_STRING /* bytes of a reply                 */
};

typedef enum lpi_resp_kind {
    LPI_RESP_NULL, LPI_RESP_STATUS, LPI_RESP_ERROR, LPI_RESP_NUMBER,
    LPI_RESP_TEXT, LPI_RESP_ARRAY
} lpi_resp_kind;

typedef struct lpi_resp_value {
    lpi_resp_kind kind;
    lp_slice text;   /* of a status, an error or a text                      */
    int64_t number;  /* of an array: how many elements follow                */
} lpi_resp_value;

/* How far the reading of a reply has come. All zero before its first byte. */
typedef struct lpi_resp {
    size_t at;       /* the element that begins there is not read yet        */
    uint32_t elements;
    uint32_t depth;  /* how many arrays are not complete                     */
    uint32_t left[LPI_RESP_DEPTH]; /* elements that each of these lacks      */
} lpi_resp;

static int lpi_starts(lp_slice s, lp_slice with)
{
    return s.length >= with.length && !memcmp(s.bytes, with.bytes, with.length);
}

/* Read a whole number. Returns 0 or -1. */
static int lpi_resp_number(lp_slice s, int64_t *out)
{
    uint64_t value;
    int negative = s.length && *s.bytes == '-';
    if (negative) s = lpi_slice(s.bytes + 1, s.length - 1);
    if (lpi_parse_uint(s, &value) || value > INT64_MAX) return -1;
    *out = negative ? -(int64_t)value : (int64_t)value;
    return 0;
}

/* Read the element that begins at bytes[0]; of an array only what stands before
   its elements. Returns its length, 0 for more, or -1. */
static long lpi_resp_element(const char *bytes, size_t length,
                             lpi_resp_value *out)
{
    size_t line = length, end;
    const char *lf;
    if (!length) return 0;
    if (!memchr("+-:$*", *bytes, 5)) return -1;
    if (line > LPI_RESP_LINE) line = LPI_RESP_LINE;
    lf = (const char *)memchr(bytes, '\n', line);
    if (!lf) return line == LPI_RESP_LINE ? -1 : 0;
    end = (size_t)(lf + 1 - bytes);
    if (end < 3 || lf[-1] != '\r') return -1;
    out->text = lpi_slice(bytes + 1, end - 3);
    out->number = 0;
    out->kind = *bytes == '+' ? LPI_RESP_STATUS : LPI_RESP_ERROR;
    if (*bytes == '+' || *bytes == '-') return (long)end;
    if (lpi_resp_number(out->text, &out->number)) return -1;
    out->kind = LPI_RESP_NUMBER;
    if (*bytes == ':') return (long)end;
    out->kind = LPI_RESP_NULL;
    if (out->number == -1) {
        out->text.length = 0; /* what announces a null is no text */
        return (long)end;
    }
    out->kind = *bytes == '*' ? LPI_RESP_ARRAY : LPI_RESP_TEXT;
    if (out->number < 0) return -1;
    if (*bytes == '*') return (long)end;
    if (out->number > LPI_RESP_STRING) return -1;
    out->text = lpi_slice(bytes + end, (size_t)out->number);
    if (length - end < out->text.length + 2) return 0;
    if (memcmp(out->text.bytes + out->text.length, "\r\n", 2)) return -1;
    return (long)(end + out->text.length + 2);
}

/* Go on reading a reply, whose first byte is bytes[0]. Returns its length once
   it is whole, 0 if more has to come, or -1: malformed, or over a limit. */
static long lpi_resp_read(lpi_resp *resp, const char *bytes, size_t length)
{
    lpi_resp_value value;
    for (;;) {
        long n = lpi_resp_element(bytes + resp->at, length - resp->at, &value);
        if (!n) return length > LPI_RESP_REPLY ? -1 : 0;
        if (n < 0) return n;
        resp->at += (size_t)n;
        if (++resp->elements > LPI_RESP_ELEMENTS) return -1;
        if (value.kind == LPI_RESP_ARRAY && value.number) {
            if (resp->depth == LPI_RESP_DEPTH ||
                value.number > LPI_RESP_ELEMENTS)
                return -1;
            resp->left[resp->depth++] = (uint32_t)value.number;
            continue;
        }
        while (resp->depth && !--resp->left[resp->depth - 1]) resp->depth--;
        if (!resp->depth) return (long)resp->at;
    }
}

/* Take the next element of a whole reply. After the last one it is null. */
static lpi_resp_value lpi_resp_take(lp_slice *reply)
{
    lpi_resp_value value;
    long n;
    memset(&value, 0, sizeof value);
    if (!reply->length) return value;
    n = lpi_resp_element(reply->bytes, reply->length, &value);
    LP_ASSERT(n > 0);
    *reply = lpi_slice(reply->bytes + n, reply->length - (size_t)n);
    return value;
}

/* Take the next element, which is to be a text that reads as a whole number.
   0 or -1. */
static int lpi_resp_take_uint(lp_slice *reply, uint64_t *out)
{
    return lpi_parse_uint(lpi_resp_take(reply).text, out);
}

/* --- writing: a command is an array of texts --- */

static void lpi_resp_head(lp_text *to, char kind, size_t n)
{
    char *at = lpi_text_room(to, 24);
    if (!at) return;
    *at++ = kind;
    lpi_text_set_end(to, LPI_PUT(lpi_put_uint(at, n), "\r\n"));
}

/* Begin a command of `count` words, the first of which is its name. */
static void lpi_resp_command(lp_text *to, size_t count)
{
    lpi_resp_head(to, '*', count);
}

static void lpi_resp_word(lp_text *to, lp_slice word)
{
    lpi_resp_head(to, '$', word.length);
    lpi_text_add(to, word);
    lpi_text_add(to, LPI_S("\r\n"));
}

static void lpi_resp_word_uint(lp_text *to, uint64_t value)
{
    char text[24];
    lpi_resp_word(to, lpi_slice_to(text, lpi_put_uint(text, value)));
}

#endif /* LONGPOLL_NO_REDIS */

/* ==========================================================================
   B8  SIGNED TOKEN                                                  >>token

   Reads a JSON Web Token (RFC 7519) that is signed by HMAC-SHA-256 (HS256 of
   RFC 7518 3.2), in its compact form: HEADER.PAYLOAD.SIGNATURE (RFC 7515 3.1).
   The header is one of three texts, to the byte, so that a token has no say in
   how it is checked. Nothing of the payload is looked at before the signature
   was found right.

   Uses      >>text >>query >>json
   Touches   what it is given. No clock, no memory, no sockets.
   Promises  A token with any byte changed is refused. The time taken does not
             depend on where a signature is wrong.
   ========================================================================== */

enum {
    LPI_TOKEN_BYTES = 4096,
    LPI_TOKEN_PATTERNS = 64,
    LPI_TOKEN_SECRET = 32, /* bytes of a secret at least (RFC 7518 3.2)       */
    LPI_SHA256_BYTES = 32,
    LPI_SHA256_BLOCK = 64
};

/* --- SHA-256 (FIPS 180-4), and HMAC with it (RFC 2104) --- */

typedef struct lpi_sha256 {
    uint32_t state[8];
    uint64_t length; /* bytes so far; those of an incomplete block:          */
    uint8_t block[LPI_SHA256_BLOCK];
} lpi_sha256;

/* Of the cube roots of the first 64 primes, 32 bits behind the point. */
static const uint32_t lpi_sha256_roots[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1,
    0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3,
    0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786,
    0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13,
    0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
    0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a,
    0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static uint32_t lpi_turn(uint32_t x, int by) /* to the right */
{
    return x >> by | x << (32 - by);
}

static void lpi_sha256_block(uint32_t state[8], const uint8_t *block)
{
    uint32_t w[64], one, two;
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3];
    uint32_t e = state[4], f = state[5], g = state[6], h = state[7];
    int i;
    for (i = 0; i < 16; i++, block += 4)
        w[i] = (uint32_t)block[0] << 24 | (uint32_t)block[1] << 16 |
               (uint32_t)block[2] << 8 | block[3];
    for (; i < 64; i++) {
        one = w[i - 15];
        two = w[i - 2];
        w[i] = w[i - 16] + (lpi_turn(one, 7) ^ lpi_turn(one, 18) ^ one >> 3) +
               w[i - 7] + (lpi_turn(two, 17) ^ lpi_turn(two, 19) ^ two >> 10);
    }
    for (i = 0; i < 64; i++) {
        one = h + (lpi_turn(e, 6) ^ lpi_turn(e, 11) ^ lpi_turn(e, 25)) +
              ((e & f) ^ (~e & g)) + lpi_sha256_roots[i] + w[i];
        two = (lpi_turn(a, 2) ^ lpi_turn(a, 13) ^ lpi_turn(a, 22)) +
              ((a & b) ^ (a & c) ^ (b & c));
        h = g, g = f, f = e, e = d + one;
        d = c, c = b, b = a, a = one + two;
    }
    state[0] += a, state[1] += b, state[2] += c, state[3] += d;
    state[4] += e, state[5] += f, state[6] += g, state[7] += h;
}

static void lpi_sha256_init(lpi_sha256 *h)
{
    /* Of the square roots of the first 8 primes, 32 bits behind the point. */
    static const uint32_t roots[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(h->state, roots, sizeof roots);
    h->length = 0;
}

static void lpi_sha256_add(lpi_sha256 *h, lp_slice text)
{
    while (text.length) {
        size_t at = h->length % LPI_SHA256_BLOCK, n = LPI_SHA256_BLOCK - at;
        if (n > text.length) n = text.length;
        memcpy(h->block + at, text.bytes, n);
        h->length += n;
        text = lpi_slice(text.bytes + n, text.length - n);
        if (at + n == LPI_SHA256_BLOCK) lpi_sha256_block(h->state, h->block);
    }
}

static void lpi_sha256_end(lpi_sha256 *h, char out[LPI_SHA256_BYTES])
{
    static const char zeros[LPI_SHA256_BLOCK] = {0};
    uint64_t bits = h->length * 8;
    char length[8];
    int i;
    for (i = 0; i < 8; i++) length[i] = (char)(bits >> (56 - 8 * i) & 0xff);
    lpi_sha256_add(h, LPI_S("\x80"));
    lpi_sha256_add(h, lpi_slice(zeros, (120 - h->length % 64) % 64));
    lpi_sha256_add(h, lpi_slice(length, sizeof length));
    for (i = 0; i < LPI_SHA256_BYTES; i++)
        out[i] = (char)(h->state[i / 4] >> (24 - i % 4 * 8) & 0xff);
}

/* A key, and the two blocks that it makes, hashed already. */
typedef struct lpi_hmac {
    lpi_sha256 inner, outer;
} lpi_hmac;

static void lpi_hmac_pad(lpi_sha256 *h, const char *block, char with)
{
    char padded[LPI_SHA256_BLOCK];
    size_t i;
    for (i = 0; i < sizeof padded; i++) padded[i] = (char)(block[i] ^ with);
    lpi_sha256_init(h);
    lpi_sha256_add(h, lpi_slice(padded, sizeof padded));
}

static void lpi_hmac_init(lpi_hmac *key, lp_slice secret)
{
    char block[LPI_SHA256_BLOCK] = {0};
    if (secret.length > sizeof block) {
        lpi_sha256_init(&key->inner);
        lpi_sha256_add(&key->inner, secret);
        lpi_sha256_end(&key->inner, block);
    } else {
        lpi_put(block, secret);
    }
    lpi_hmac_pad(&key->inner, block, 0x36);
    lpi_hmac_pad(&key->outer, block, 0x5c);
}

static void lpi_hmac_of(const lpi_hmac *key, lp_slice text,
                        char out[LPI_SHA256_BYTES])
{
    lpi_sha256 inner = key->inner, outer = key->outer;
    lpi_sha256_add(&inner, text);
    lpi_sha256_end(&inner, out);
    lpi_sha256_add(&outer, lpi_slice(out, LPI_SHA256_BYTES));
    lpi_sha256_end(&outer, out);
}

/* --- base64url (RFC 4648 5) --- */

static int lpi_base64url_value(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '-' ? 62 : c == '_' ? 63 : -1;
}

/* Decode into `to`, which has room for s.length / 4 * 3 + 2 bytes. There is no
   padding, and bits that stand for nothing are zero, so that each text has one
   form. Returns the length, or -1. */
static long lpi_base64url_decode(char *to, lp_slice s)
{
    uint32_t bits = 0, count = 0; /* how many of the lowest are not put yet */
    size_t i, n = 0;
    if (s.length % 4 == 1) return -1;
    for (i = 0; i < s.length; i++) {
        int value = lpi_base64url_value(s.bytes[i]);
        if (value < 0) return -1;
        bits = bits << 6 | (uint32_t)value;
        count += 6;
        if (count < 8) continue;
        count -= 8;
        to[n++] = (char)(bits >> count & 0xff);
    }
    return bits & ((1u << count) - 1) ? -1 : (long)n;
}

/* --- the token --- */

typedef struct lpi_token {
    uint64_t begins_us, ends_us; /* on the wall clock: it is good from the one
                              until just before the other                    */
    uint64_t ends_ms;      /* the same end on the monotonic clock, once
                              somebody has looked at both (>>route)          */
    uint32_t actions;      /* a mask, by lp_action                           */
    uint32_t pattern_count;
    lp_slice patterns[LPI_TOKEN_PATTERNS]; /* of channels; in `payload`      */
    char payload[LPI_TOKEN_BYTES];
} lpi_token;

typedef enum lpi_token_member {
    LPI_TOKEN_EXP, LPI_TOKEN_NBF, LPI_TOKEN_CHANNELS, LPI_TOKEN_ACTIONS,
    LPI_TOKEN_MEMBERS
} lpi_token_member;

/* The strings of a list of channels, decoded where they stand. 0 or -1. */
static int lpi_token_read_channels(lpi_token *t, lp_slice list)
{
    lpi_json_scan s;
    lp_slice value;
    lpi_json_scan_init(&s, list);
    if (*s.at != '[') return -1;
    while (lpi_json_take(&s, NULL, &value)) {
        char *text = t->payload + (value.bytes + 1 - t->payload);
        lp_slice *out = &t->patterns[t->pattern_count];
        if (t->pattern_count++ == LPI_TOKEN_PATTERNS || *value.bytes != '"' ||
            lpi_json_decode(lpi_json_inside(value), text, value.length, out))
            return -1;
    }
    return t->pattern_count ? 0 : -1;
}

static int lpi_token_read_actions(lpi_token *t, lp_slice list)
{
    static const char *const names[] = {"poll", "publish", "admin"};
    lpi_json_scan s;
    lp_slice value;
    uint32_t i;
    lpi_json_scan_init(&s, list);
    if (*s.at != '[') return -1;
    while (lpi_json_take(&s, NULL, &value)) {
        if (*value.bytes != '"') return -1;
        for (i = 0; i < LPI_COUNT(names); i++)
            if (lpi_json_same(lpi_json_inside(value), lp_s(names[i]), 0)) break;
        if (i == LPI_COUNT(names)) return -1;
        t->actions |= 1u << i;
    }
    return t->actions ? 0 : -1;
}

static int lpi_token_read_member(lpi_token *t, uint32_t member, lp_slice value)
{
    switch (member) {
    case LPI_TOKEN_EXP: return lpi_query_seconds(value, 0, &t->ends_us);
    case LPI_TOKEN_NBF: return lpi_query_seconds(value, 0, &t->begins_us);
    case LPI_TOKEN_CHANNELS: return lpi_token_read_channels(t, value);
    default: return lpi_token_read_actions(t, value);
    }
}

/* Read the payload. Members that are not known are ignored. 0 or -1. */
static int lpi_token_read_payload(lpi_token *t, lp_slice payload)
{
    static const char *const names[] = {"exp", "nbf", "channels", "actions"};
    uint32_t seen = 0, i;
    lpi_json_scan s;
    lp_slice key, value;
    if (lpi_json_scan_text(&s, payload, NULL)) return -1;
    lpi_json_scan_init(&s, payload);
    lpi_json_scan_space(&s);
    if (*s.at != '{') return -1;
    while (lpi_json_take(&s, &key, &value)) {
        for (i = 0; i < LPI_TOKEN_MEMBERS; i++)
            if (lpi_json_same(key, lp_s(names[i]), 0)) break;
        if (i == LPI_TOKEN_MEMBERS) continue;
        if (seen >> i & 1 || lpi_token_read_member(t, i, value)) return -1;
        seen |= 1u << i;
    }
    seen |= 1u << LPI_TOKEN_NBF; /* that one may be absent */
    return seen == (1u << LPI_TOKEN_MEMBERS) - 1 ? 0 : -1;
}

static int lpi_token_header_good(lp_slice header)
{
    /* {"alg":"HS256","typ":"JWT"}, {"typ":"JWT","alg":"HS256"} and
       {"alg":"HS256"} */
    static const char *const headers[] = {
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
        "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9", "eyJhbGciOiJIUzI1NiJ9"};
    size_t i;
    for (i = 0; i < LPI_COUNT(headers); i++)
        if (lpi_equal(header, lp_s(headers[i]))) return 1;
    return 0;
}

/* Read a token that is signed with that key. Whether its time has come, and is
   not over, is for the caller to say. 0, or -1: it is no token, or forged. */
static int lpi_token_read(lpi_token *t, lp_slice text, const lpi_hmac *key)
{
    lp_slice rest = text, header, payload, signature;
    char given[LPI_SHA256_BYTES + 2], wanted[LPI_SHA256_BYTES];
    long n;
    if (text.length > LPI_TOKEN_BYTES || !lpi_split(&rest, '.', &header) ||
        !lpi_split(&rest, '.', &payload) ||
        !lpi_split(&rest, '.', &signature) || rest.bytes)
        return -1;
    if (!lpi_token_header_good(header) || signature.length != 43 ||
        lpi_base64url_decode(given, signature) < 0)
        return -1;
    lpi_hmac_of(key, lpi_slice_to(text.bytes, payload.bytes + payload.length),
                wanted);
    if (!lpi_equal_constant_time(lpi_slice(given, sizeof wanted),
                                 lpi_slice(wanted, sizeof wanted)))
        return -1;
    memset(t, 0, offsetof(lpi_token, patterns));
    n = lpi_base64url_decode(t->payload, payload);
    if (n < 0) return -1;
    return lpi_token_read_payload(t, lpi_slice(t->payload, (size_t)n));
}

/* Does the pattern match the name? A * stands for any bytes, or none. Where the
   texts differ, the last * takes a byte more. Those before it need not: what
   stands between them was found as early as it can be. */
static int lpi_token_matches(lp_slice pattern, lp_slice name)
{
    size_t p = 0, n = 0, behind = 0, from = 0; /* behind the last *, and what
                                                  follows it begins at `from` */
    while (n < name.length) {
        if (p < pattern.length && pattern.bytes[p] == '*') {
            behind = ++p;
            from = n;
        } else if (p < pattern.length && pattern.bytes[p] == name.bytes[n]) {
            p++;
            n++;
        } else if (behind) {
            p = behind;
            n = ++from;
        } else {
            return 0;
        }
    }
    while (p < pattern.length && pattern.bytes[p] == '*') p++;
    return p == pattern.length;
}

/* Does the token permit that on the channel? If that is empty, none is meant,
   and a pattern has to be *. */
static int lpi_token_covers(const lpi_token *t, lp_action action,
                            lp_slice channel)
{
    uint32_t i;
    if (!(t->actions >> action & 1)) return 0;
    for (i = 0; i < t->pattern_count; i++)
        if (channel.length ? lpi_token_matches(t->patterns[i], channel)
                           : lpi_equal(t->patterns[i], LPI_S("*")))
            return 1;
    return 0;
}

/* ==========================================================================
   C1  STRUCTS                                                      >>structs

   All state of a server, grouped by who may touch it.

     lp_server     set up by lp_create, then only read; but for the listener
                   and the stores, which are the first loop's, the stores'
                   queues under a mutex, and a few atomic flags
       lpi_hub     under its mutex: channels, history, limits, waiters
       lpi_loop    one for each thread: connections, timers, scratch space; but
                   its inbox, its latencies and its deferred requests are
                   shared, under its mutex

   A poll that waits is a connection (64 bytes, the loop's) and one waiter (32
   bytes, the hub's) for each of its channels. The waiters of one loop on one
   channel form a waiter list, so that a publisher touches one record for each
   loop and no waiter. Records are named by their index in a slab.

   Uses      >>slab >>table >>http >>query >>wheel >>token
   Touches   nothing: these are types, and functions that find a record.
   ========================================================================== */

/* A published message: immutable, in one allocation, with a reference count. */
typedef struct lpi_message {
    uint32_t refs;        /* atomic                                          */
    uint32_t channel;     /* its index: valid while the channel holds it     */
    uint64_t seq, timestamp_us;
    uint64_t appended_us; /* on the monotonic clock                          */
    struct lpi_message *older, *newer; /* among all channels' messages       */
    struct lpi_message *next_untold;   /* see lpi_hub.first_untold           */
    uint32_t size;        /* of the allocation                               */
    uint32_t woken;       /* how many polls waited for it                    */
    uint32_t at, length;  /* its text, from the start of this record         */
    uint32_t members_at;  /* where the members as published begin            */
    uint32_t first_receipt, last_receipt; /* in the order of their age       */
    uint8_t id_length;
    uint8_t receipts_lost; /* some receipts of it were dropped               */
    uint8_t transient;     /* its text is dropped after cfg.transient_ms: then
                              this is a mark, whose length is 0              */
} lpi_message;

/* Why a reply cannot continue a cursor; or that this cannot be said yet, since
   the channel's store is elsewhere. */
typedef enum lpi_reason {
    LPI_NO_RESET, LPI_EPOCH, LPI_EVICTED, LPI_AHEAD, LPI_UNKNOWN
} lpi_reason;

static const char *const lpi_reason_names[] = {"", "epoch", "evicted",
                                               "ahead"};

/* How much is known here of a channel whose store is elsewhere. */
typedef enum lpi_remote_state {
    LPI_COLD,        /* news do not come                                     */
    LPI_SUBSCRIBING, /* they will                                            */
    LPI_OPENING,     /* they come, but some before them may be missing       */
    LPI_LIVE         /* the ring ends with all that the store had            */
} lpi_remote_state;

enum {
    LPI_EARLY_MAX = 64,               /* messages that are kept beyond a gap */
    LPI_EARLY_BYTES_MAX = 256 * 1024,
    LPI_PAGE_MAX = 64                 /* messages of one page                */
};

/* What a channel has more if its store is elsewhere: the ring is then a cache
   of the newest messages, and this says what the store holds. */
typedef struct lpi_remote {
    uint32_t store;       /* its index                                       */
    uint32_t connection;  /* for which connection of the store the state
                             holds: with another, the channel is COLD        */
    uint8_t state;        /* an lpi_remote_state                             */
    uint8_t known;        /* an open has told the epoch and what follows     */
    uint8_t under_way;    /* an open is sent, and not answered               */
    uint8_t queued;       /* it is in the store's list of channels with work */
    uint8_t delayed;      /* it is in one of the hub's lists of delayed ones */
    uint32_t next_work, next_delayed;
    uint64_t due_ms;      /* the end of the delay                            */
    uint64_t opened_ms;   /* when it was opened last                         */
    uint32_t opens_sent, opens_done, opens_wanted; /* their numbers          */
    uint32_t opens_needed; /* it is not LIVE before the open of that number: a
                             message was missed after an earlier one was sent */
    uint64_t store_last;  /* SEQ of the newest message that an open saw      */
    uint64_t floor;       /* the lowest SEQ that a continuous cursor can have,
                             by what the store holds                         */
    uint64_t past_epoch, past_last; /* the epoch before, and its last SEQ    */
    uint32_t past_number; /* epoch_number of polls that were parked in it; 0:
                             none were                                       */
    uint32_t fetching;    /* waiters on the channel that fetch               */
    uint64_t page_from;   /* the next page begins with that SEQ; 0: none is
                             asked for                                       */
    uint64_t page_sent;   /* the same, of the open that is under way         */
    lpi_message *page;    /* messages beside the ring, by rising SEQ without a
                             gap, through `newer`                            */
    lpi_message *early;   /* those beyond a gap, by rising SEQ, likewise     */
    uint32_t early_count;
    size_t early_bytes;
} lpi_remote;

/* What only some channels have: limits of their own, transient messages. */
typedef struct lpi_extra {
    lpi_timer timer;  /* in hub->due: when something may be dropped sooner than
                         the configuration's age                             */
    uint32_t channel; /* whose it is                                         */
    lp_policy policy;
    uint32_t transients; /* that have their text                             */
    uint32_t marks;      /* that have not                                    */
    uint64_t transient_seq; /* of the first that has its text, if there are  */
} lpi_extra;

typedef struct lpi_channel {
    lpi_node node;
    uint32_t epoch_number; /* changes with the epoch, which a store that is
                              elsewhere may change while polls are parked    */
    char *name;
    char short_name[16];   /* where the name stands if it is not longer      */
    uint32_t name_length;
    uint8_t idle;          /* it is in the hub's list of idle channels       */
    uint8_t watched;       /* it is or will be reported as occupied          */
    uint8_t event_due;     /* it is in hub->events, to be reported           */
    uint8_t announced;     /* it was reported as occupied, and not as
                              vacated                                        */
    uint8_t vacated;       /* it is in the hub's list of vacated channels    */
    uint8_t in_use;        /* a poll whose channels are being found needs it */
    uint8_t forgotten;     /* it is kept only until its events are reported  */
    uint32_t extra;        /* its lpi_extra; LPI_NONE: it needs none         */
    uint64_t epoch;
    uint64_t last;         /* SEQ of the newest message                      */
    uint64_t start_us;     /* when it was made, on the wall clock            */
    uint64_t last_us;      /* timestamp of the newest message, or start_us   */
    uint64_t evicted_us;   /* timestamp of the newest message that is gone   */
    lpi_remote *remote;    /* NULL: this hub is the store                    */
    lpi_message **ring;
    uint32_t ring_size, ring_at, held; /* the oldest held is ring[ring_at]   */
    uint32_t waiters;
    uint32_t waiters_since_publish; /* how many were parked since the newest
                              message, and wait for the next                 */
    lpi_list lists;        /* its waiter lists, one for each loop            */
    lpi_link idle_link;
    lpi_link watch_link;   /* in hub->events or in hub->vacated              */
    uint32_t rechecked;    /* hub->rechecks after its last lp_recheck        */
    uint64_t idle_ms, vacated_ms; /* since when, on the monotonic clock      */
} lpi_channel;

/* The waiters of one loop on one channel. */
typedef struct lpi_waiter_list {
    lpi_link link;       /* in the channel's list of waiter lists            */
    uint32_t channel, loop;
    lpi_list parked;     /* waiters, the lowest SEQ first                    */
    lpi_list fetching;   /* waiters that cannot be judged yet                */
    uint32_t waiters;    /* in both                                          */
    uint32_t next_ready; /* in the loop's ready list                         */
    uint8_t ready;       /* it is in that list, or is being served           */
    uint8_t unseen;      /* a message came, and no waiter was sent it yet    */
    uint8_t recheck;     /* lp_recheck was called: its waiters are released,
                            and given nothing more; who comes later waits in
                            another list                                     */
} lpi_waiter_list;

/* One poll's place on one channel. */
typedef struct lpi_waiter {
    lpi_link link;         /* in the waiter list                             */
    uint32_t connection;   /* its index in the loop                          */
    uint32_t list;
    uint32_t sibling;      /* the poll's waiter on its next channel          */
    uint32_t epoch_number; /* of the channel, when it was parked             */
    union {
        uint64_t seq;       /* parked: of the last message that it has had   */
        uint32_t requested; /* fetching: index of what it asked for          */
    } from;
} lpi_waiter;

/* How many polls of one client are parked: node.count. node.hash is a keyed
   hash of its name and address, which are not kept. node.kept: a connection
   keeps the counter for its next poll. */
typedef struct lpi_counter {
    lpi_node node;
} lpi_counter;

/* What one address (for IPv6, one /64) uses of the limits that all share.
   node.count is how many of its polls are parked. */
typedef struct lpi_account {
    lpi_node node;
    uint32_t refs;          /* connections that count here: the last frees it */
    uint32_t connections;   /* those of them that come from the address itself,
                               and not through a trusted proxy               */
    uint32_t trusted;       /* a trusted proxy: it may use a budget up alone */
    uint64_t partial_bytes; /* of its incomplete requests                    */
    uint64_t pinned_bytes;  /* of send buffers that its connections wait for;
                               one that several of them share counts once    */
} lpi_account;

/* The name of a client. node.count: how many receipts and connections refer to
   it. */
typedef struct lpi_name {
    lpi_node node;
    uint8_t length;
    char text[LPI_CLIENT_ID_BYTES];
} lpi_name;

/* A message was handed to a client. */
typedef struct lpi_receipt {
    lpi_node node;        /* its hash is of the message and the name         */
    lpi_link link;        /* in hub->receipt_list                            */
    lpi_message *message; /* which a channel holds                           */
    uint32_t name;
    uint32_t next;        /* of the same message, the next by age            */
} lpi_receipt;

/* Refusals of one status that are not logged yet. Status 0 stands for
   connections that were closed without a reply. */
typedef struct lpi_refusals {
    uint64_t told_ms;     /* when they were last logged; 0: never            */
    uint32_t count;       /* since then                                      */
    uint16_t status;
    uint8_t address[16];  /* of the latest                                   */
    char why[64];
    char detail[64];
} lpi_refusals;

enum { LPI_REFUSALS = 16 }; /* how many statuses are told apart */

/* What the hub knows of a connection. It stands in the connection's record, so
   that a parked poll needs no other but its waiters; only the hub reads or
   writes it. */
typedef struct lpi_wait {
    uint32_t waiter;       /* the first of its poll; LPI_NONE: no poll waits */
    uint32_t counter;      /* of its client, while a poll waits, or it keeps
                              it for its next poll                           */
    uint32_t account;      /* of its address                                 */
    unsigned limit : 16;   /* most messages in the reply; 0: none, since its
                              access is to be asked for again                */
    unsigned basic : 1;    /* the poll speaks the dialect of since=          */
    unsigned fetching : 1; /* its waiters stand in lists of fetching ones    */
    unsigned reset : 2;    /* an lpi_reason that rides on the reply          */
    unsigned keeps : 1;    /* it keeps `counter` for its next poll           */
    unsigned stream : 1;   /* the reply is some events of a stream           */
} lpi_wait;

/* What a loop counts by itself; the hub has a copy, as of its last turn. */
typedef struct lpi_counts {
    uint64_t requests, streams, replies[LP_STATUS_CLASSES];
    uint64_t reply_bytes, reply_sizes[LP_REPLY_SIZES];
} lpi_counts;

/* What the hub knows of a loop. */
typedef struct lpi_hub_loop {
    const lpi_slab *connections; /* whose records have their lpi_wait at     */
    size_t wait_offset;          /* this offset                              */
    int wake;                    /* the descriptor that signals it           */
    uint32_t ready_first, ready_last; /* waiter lists that it has to serve   */
    uint8_t sleeping;            /* it is in the poller, or soon will be     */
    uint8_t woken;               /* and was signalled since                  */
    lpi_counts counts;
} lpi_hub_loop;

/* What the hub knows of a store that is elsewhere. */
typedef struct lpi_hub_store {
    int up;
    uint32_t connection;   /* its number: all that was known by an earlier one
                              is to be learnt again                          */
    uint64_t down_ms;      /* since when it is not up                        */
    uint32_t first, last;  /* channels with work                             */
    uint32_t opens;        /* under way                                      */
    uint32_t scan;         /* the next channel to be looked at whether it needs
                              work; LPI_NONE: all have been                  */
    uint64_t scan_ms;      /* when the next scan begins                      */
    lp_text left;          /* names of channels that were forgotten, each
                              behind a byte with its length                  */
    uint64_t round_trip_us; /* of the last heartbeat                         */
} lpi_hub_store;

/* Channels that have work later, the one that was added first at the head. All
   of a list wait equally long. */
typedef struct lpi_hub_delayed {
    uint32_t first, last;
} lpi_hub_delayed;

enum { LPI_DELAYED_GAP, LPI_DELAYED_FAILED, LPI_DELAYED };
enum { LPI_STORES_MAX = 16 };

typedef struct lpi_hub {
    lpi_mutex mutex;
    int has_mutex;
    int held;              /* for LPI_HELD: is the mutex held,               */
    lpi_thread holder;     /* and by which thread?                           */
    const lp_memory *memory;
    const lp_config *config;
    const lp_os *os;
    lpi_hub_loop loops[LPI_LOOPS_MAX];
    uint32_t loop_count;
    uint64_t hash_key[2];
    int stopped;
    lpi_hub_store *stores;         /* that are elsewhere; NULL: this hub is
                                      the store                              */
    uint32_t store_count;
    lpi_hub_delayed delayed[LPI_DELAYED];
    size_t beside_bytes;           /* of pages and of messages beyond gaps   */

    lpi_slab channels, lists, waiters, requested, counters, accounts;
    lpi_slab names, receipts;
    lpi_links idle_links, watch_links, list_links, waiter_links, receipt_links;
    lpi_table channel_table, counter_table, account_table;
    lpi_table name_table, receipt_table;
    lpi_list receipt_list;         /* of all messages, the oldest first      */
    lpi_slab extras;
    lpi_wheel due;                 /* of extras                              */
    lp_policy policy;              /* of channels that have none of their own */
    lpi_list idle, vacated;        /* channels, the one longest in it first  */
    lpi_list events;               /* channels with an event to be reported  */
    lpi_message *oldest, *newest;
    lpi_message *first_untold, *last_untold; /* with a reference each: those
                                      that lp_after_publish is to be told of;
                                      `last` is stale while `first` is NULL  */
    uint64_t forgotten_us;         /* the newest timestamp of any channel that
                                      was forgotten; of all stores, the newest
                                      that they gave                         */
    uint32_t rechecks;             /* atomic: how many there were            */
    uint32_t forgotten_recheck;    /* that of channels that are not there    */
    uint64_t sweep_ms;             /* when the next sweep is due             */
    int sweep_moved;               /* the first loop has to know sweep_ms    */
    uint64_t partial_bytes;        /* that request buffers in use take       */
    lpi_refusals refusals[LPI_REFUSALS];
    lp_stats stats;
} lpi_hub;

/* Why a connection or a request is refused. */
typedef enum lpi_why {
    LPI_WHY_NONE, /* it is not */
    LPI_WHY_MEMORY, LPI_WHY_RANDOM, LPI_WHY_FETCHING, LPI_WHY_CHANNELS_MAX,
    LPI_WHY_CONNECTIONS_MAX, LPI_WHY_CONNECTIONS_PER_ADDRESS,
    LPI_WHY_WAITERS_MAX, LPI_WHY_WAITERS_PER_CLIENT,
    LPI_WHY_WAITERS_PER_CHANNEL, LPI_WHY_WAITERS_PER_ADDRESS,
    LPI_WHY_MANY_CHANNELS, LPI_WHY_CHANNEL_NAME, LPI_WHY_CHANNEL_TWICE,
    LPI_WHY_QUERY, LPI_WHY_QUERY_TWICE, LPI_WHY_LAST_ID, LPI_WHY_SINCE,
    LPI_WHY_SINCE_AND_LAST_ID, LPI_WHY_SINCE_CHANNELS, LPI_WHY_STREAM_SINCE,
    LPI_WHY_TIMEOUT, LPI_WHY_LIMIT, LPI_WHY_CLIENT_ID, LPI_WHY_POLICY,
    LPI_WHY_REFUSED, LPI_WHY_RECHECKED, LPI_WHY_NO_TOKEN,
    LPI_WHY_TOKEN, LPI_WHY_TOKEN_EARLY, LPI_WHY_TOKEN_ENDED,
    LPI_WHY_TOKEN_TWICE, LPI_WHY_SCOPE
} lpi_why;

/* The status and the text that the client gets, in the order of lpi_why. */
static const struct {
    int status;
    const char *text;
} lpi_whys[] = {
    {200, ""},
    {503, "Out of memory"},
    {503, "System call failed"},
    {503, "Channel not available yet"},
    {503, "Too many channels"},
    {503, "Server at capacity"},
    {503, "Too many connections from address"},
    {429, "Server at capacity"},
    {429, "Too many connections from client"},
    {429, "Channel at capacity"},
    {429, "Too many connections from address"},
    {400, "Too many channels"},
    {400, "Bad channel name"},
    {400, "Channel named twice"},
    {400, "Bad query"},
    {400, "Parameter given twice"},
    {400, "Bad last_id"},
    {400, "Bad since"},
    {400, "since and last_id exclude each other"},
    {400, "since takes one channel"},
    {400, "A stream takes last_id, not since"},
    {400, "Bad timeout"},
    {400, "Bad limit"},
    {400, "Bad X-Client-ID"},
    {503, ""}, /* the hub's alone: it needs a channel's policy first */
    {403, "No such channel allowed"},
    {503, "Access is being changed"},
    {401, "Unauthorized"},
    {401, "Bad token"},
    {401, "Token not valid yet"},
    {401, "Token expired"},
    {400, "Token given twice"},
    {403, "Token does not cover this"}};

/* --- what crosses the wall between a connection and the hub --- */

/* A channel that is found by its name, or made. */
typedef struct lpi_wanted {
    lp_slice name;
    uint64_t hash;
    const lp_policy *policy; /* what it is made with; NULL: the hook has not
                                been asked                                   */
} lpi_wanted;

/* What a poll asks for. */
typedef struct lpi_poll_request {
    uint32_t loop, connection; /* who asks                                   */
    uint64_t now_ms;
    uint32_t wait_ms;          /* 0: answer at once. If the poll waits, it
                                  receives for how long at most before
                                  lpi_hub_expire() is to be called           */
    uint64_t ends_ms;          /* when its token ends, on the clock of now_ms;
                                  UINT64_MAX: it has none that does          */
    uint32_t count;            /* of channels                                */
    uint16_t limit;
    uint32_t rechecks;         /* lpi_hub_rechecks(), from before its access
                                  was asked for                              */
    uint8_t basic;
    uint8_t stream;            /* it is answered by some events of a stream;
                                  when it is parked, `requested` receives
                                  where it stands                            */
    uint8_t fetching;          /* receives whether it waits to be judged     */
    lp_slice client_id;        /* its bytes are NULL if there is none        */
    const uint8_t *address;    /* 16 bytes                                   */
    lp_slice names[LPI_POLL_CHANNELS];
    lpi_requested requested[LPI_POLL_CHANNELS];

    uint64_t client_key;       /* these are set by lpi_hub_poll()            */
    uint64_t hashes[LPI_POLL_CHANNELS]; /* of the names                      */
    uint32_t asked;            /* a bit for each channel whose policy the hook
                                  has told                                   */
    lp_policy policies[LPI_POLL_CHANNELS]; /* of those                       */
} lpi_poll_request;

/* Where a poll stands in one channel. */
typedef struct lpi_cursor {
    uint32_t channel;
    uint8_t reason; /* an lpi_reason                                         */
    uint8_t fresh;  /* no cursor was given: marks are passed without a word  */
    uint64_t seq;
} lpi_cursor;

/* One reply to be rendered: all that it needs to know of the hub. */
typedef struct lpi_reply {
    uint32_t channel;      /* polls on this channel alone, with equal from,
                              limit, basic, stream, reason and fresh, share
                              the reply                                      */
    uint64_t from;
    uint16_t limit;
    uint8_t basic, reason;
    uint8_t stream, fresh;
    uint8_t channel_count;
    uint8_t more;          /* the limit cut it                               */
    uint8_t resets;        /* some cursor has a reason                       */
    uint8_t failed;        /* no memory for the name of a channel            */
    uint32_t first, count; /* in the batch's messages                        */
    uint32_t recipient_first, recipient_last;
    uint64_t timestamp_us;
    struct {
        uint64_t epoch, seq;
        uint8_t reason;
        uint32_t name_at, name_length; /* in the batch's names, if reset     */
    } at[LPI_POLL_CHANNELS];
} lpi_reply;

/* One poll that gets a reply. */
typedef struct lpi_recipient {
    uint32_t connection;
    uint32_t next;  /* of the same reply; LPI_NONE: none                     */
    uint8_t waited; /* it was parked                                         */
    uint8_t first;  /* the first of its loop to have the channel's newest
                       message                                               */
} lpi_recipient;

/* A poll that has been judged, and waits that much longer. */
typedef struct lpi_decision {
    uint32_t connection;
    uint32_t wait_ms;
    uint64_t ends_ms; /* as in lpi_poll_request                              */
} lpi_decision;

enum { LPI_BATCH = 32 };

/* Polls that the hub has released together, to be answered outside its
   mutex. */
typedef struct lpi_batch {
    lpi_reply replies[LPI_BATCH];
    lpi_recipient recipients[LPI_BATCH];
    lpi_decision parked[LPI_BATCH]; /* polls that fetched, and are parked    */
    uint32_t reply_count, recipient_count, parked_count;
    uint32_t reply_shared;  /* the first reply of the waiter list that is
                               being served; only from there on may replies
                               be shared                                     */
    lpi_message **messages; /* with a reference each                         */
    uint8_t *message_channels; /* of which of its reply's channels each is   */
    uint32_t message_count, message_capacity;
    lp_text names;
} lpi_batch;

/* --- what crosses it between the hub and the stores that are elsewhere --- */

typedef enum lpi_work_kind {
    LPI_WORK_SUBSCRIBE, LPI_WORK_UNSUBSCRIBE, LPI_WORK_OPEN
} lpi_work_kind;

/* A command that a channel needs to be sent. */
typedef struct lpi_work {
    lpi_work_kind kind;
    uint32_t channel;       /* LPI_WORK_OPEN: stays valid till it is answered */
    uint64_t page_from;     /* 0: the newest messages                        */
    uint64_t birth_us, last, last_us; /* what was last known of it, or zeros */
    lp_policy policy;
    uint32_t name_length;
    char name[LPI_CHANNEL_BYTES];
} lpi_work;

enum { LPI_WORK_MAX = 64 };

/* Commands that are taken together. */
typedef struct lpi_work_batch {
    uint32_t count;
    lpi_work work[LPI_WORK_MAX];
} lpi_work_batch;

/* What an open has told. */
typedef struct lpi_opened {
    uint64_t epoch, last, last_us, birth_us, past_epoch, past_last, held;
    uint64_t now_us;        /* on the store's clock                          */
    uint64_t first_us;      /* timestamp of the oldest message held; 0: none */
    int has_past;
    lpi_message *page;      /* by rising SEQ without a gap, through `newer`;
                               taken over                                    */
    uint64_t unreadable;    /* the highest SEQ of which there is no message  */
} lpi_opened;

/* --- a connection and its loop --- */

typedef enum lpi_phase {
    LPI_CLOSED,       /* until the step's end; and a record not in use       */
    LPI_ABANDONED,    /* closed while what it published is on its way: its
                         record is kept until the outcome comes              */
    LPI_ACCEPTED,     /* nothing received                                    */
    LPI_IDLE,         /* between requests                                    */
    LPI_READING_HEAD, /* a head is incomplete                                */
    LPI_READING_BODY, /* a body is incomplete                                */
    LPI_SERVING,      /* within one call: a request is complete, not yet
                         answered                                            */
    LPI_QUEUED,       /* more requests are here, and wait for their turn     */
    LPI_PARKED,       /* a poll waits in the hub                             */
    LPI_PUBLISHING,   /* what it published is on its way to the store        */
    LPI_DEFERRED,     /* the program answers it later                        */
    LPI_WRITING,      /* the rest of a reply waits for the socket            */
    LPI_LINGERING,    /* the last reply is sent; input is discarded          */
    LPI_PHASES
} lpi_phase;

enum { /* flags of a connection */
    LPI_CLOSE = 1,             /* after this reply                           */
    LPI_HTTP10_KEEP_ALIVE = 2, /* HTTP/1.0 that asked to be kept alive       */
    LPI_TRUSTED = 4,           /* the peer is a proxy of ours                */
    LPI_PEER_DONE = 8,         /* the peer has ended its stream              */
    LPI_HEAD_REQUEST = 16,     /* the request was HEAD                       */
    LPI_STREAM = 32,           /* it is a stream, and loop->streams has what
                                  it asks for                                */
    LPI_TOKEN_ENDS = 64,       /* the deadline of its wait is its token's end */
    LPI_READER = 128,          /* loop->readers has its client's name        */
    LPI_FLAGS_KEPT = LPI_TRUSTED | LPI_PEER_DONE | LPI_READER /* when another
                                  request begins                             */
};

/* Bytes that wait to be written, shared by all that send the same. */
typedef struct lpi_send_buffer {
    struct lpi_request_buffer *holders; /* of connections that have not been
                                           sent it all; the last frees it    */
    uint32_t length;
    /* then the bytes */
} lpi_send_buffer;

/* What a connection has only while it keeps bytes: of requests that are
   incomplete or wait for their turn, or of a reply that is not sent yet. */
typedef struct lpi_request_buffer {
    struct lpi_request_buffer *next; /* among the spare ones                 */
    char *in;            /* from the first byte of the request that comes    */
    size_t in_length, in_capacity;
    lpi_http http;
    lpi_chunked chunked;
    uint32_t head_length;
    const struct lpi_route *route;
    lpi_send_buffer *out;
    struct lpi_request_buffer *next_holder; /* of `out`                      */
    uint32_t account;    /* the connection's, while there is `out`           */
    uint32_t out_at;
    uint32_t written;    /* since the write deadline was set                 */
    uint64_t out_appended_us; /* of the first message in `out`, if it answers a
                            parked poll; else 0                              */
} lpi_request_buffer;

/* A cursor of one channel. */
typedef struct lpi_stream_at {
    uint64_t epoch, seq;
} lpi_stream_at;

/* What a stream asks for, again and again. */
typedef struct lpi_stream {
    size_t size;              /* of this record, with its text               */
    uint32_t count;           /* of channels                                 */
    uint16_t limit;
    uint8_t begun;            /* the head of its answer is sent              */
    uint32_t rechecks;        /* as in lpi_poll_request                      */
    uint8_t address[16];      /* whom it counts for                          */
    uint64_t ends_ms;         /* when its token does, as in lpi_poll_request */
    lp_slice client_id;
    struct {
        lp_slice name;
        lpi_requested from;   /* where it goes on                            */
    } channels[1];            /* count of them; then the text                */
} lpi_stream;

/* A client whose receipts are noted. */
typedef struct lpi_reader {
    uint32_t name;           /* its index in the hub                         */
    uint32_t count;          /* of messages in the reply that is being sent  */
    lpi_message **messages;  /* these: the batch's; or a copy, with a reference
                                each, if the socket did not take the reply at
                                once                                         */
    uint8_t has_copy;
} lpi_reader;

/* What an access log will say of a request. */
typedef struct lpi_access {
    lp_access access;         /* its texts stand behind this record          */
    size_t size;              /* of this record, with its texts              */
    uint64_t began_us;        /* on the monotonic clock                      */
    uint8_t client[16];
} lpi_access;

/* A request that is answered later. */
typedef struct lpi_later {
    uint64_t number;          /* no other one of the loop has it             */
    size_t size;              /* of this record, with its text               */
    lp_slice lines;           /* of the answer's head                        */
    uint8_t answered;         /* the answer is in the loop's inbox           */
    uint8_t may_cache, own_origin; /* of the lp_request                      */
} lpi_later;

typedef struct lpi_connection {
    lpi_timer timer;    /* its link also serves in loop->queue and
                           loop->closed: a connection is in the wheel, or in
                           one of these, or in none                          */
    uint8_t address[16];
    lpi_request_buffer *buffer;
    lpi_wait wait;      /* the hub's                                         */
    int fd;
    uint8_t flags;
    uint8_t generation; /* changes each time the record is taken into use    */
    uint8_t cors;       /* 1 + the index of the origin to name; 0: none      */
    unsigned phase : 5; /* an lpi_phase                                      */
    unsigned interest : 3; /* what the poller watches: LP_READ and so on     */
} lpi_connection;

/* A connection that was admitted, and has no record yet. */
typedef struct lpi_handover {
    int fd;
    lp_address peer;
    lpi_wait wait;
} lpi_handover;

/* What became of an lp_publish_async. */
typedef struct lpi_outcome {
    lp_published_fn fn; /* NULL: nobody is to be told                        */
    void *ctx;
    lp_result result;
    lp_published published;
} lpi_outcome;

enum { LPI_RETRY_KEY = 128 }; /* bytes of an Idempotency-Key at most */

/* Messages on their way to a store that is elsewhere. */
typedef struct lpi_call {
    lpi_outcome outcome;
    lpi_message *first;  /* of the chain that is published                   */
    lp_policy policy;    /* of the channel                                   */
    uint8_t is_array;    /* they came as an array                            */
    uint8_t deletes;     /* nothing is published, but the channel's history
                            dropped                                          */
    size_t bytes;        /* that it takes meanwhile                          */
    uint32_t loop, connection; /* the request that is to be answered; LPI_NONE:
                            none, but outcome.fn is to be told if there is
                            one                                              */
    uint32_t name_length, key_length;
    char name[LPI_CHANNEL_BYTES];
    char key[LPI_RETRY_KEY];
} lpi_call;

/* The answer to a deferred request. */
typedef struct lpi_answer {
    lp_deferred request;
    int status;
    lp_slice type, body; /* both in `text`                                   */
    char *text;
    size_t size;         /* of `text`                                        */
} lpi_answer;

typedef enum lpi_task_kind {
    LPI_TASK_OPEN, LPI_TASK_TELL, LPI_TASK_CALL, LPI_TASK_ANSWER
} lpi_task_kind;

/* What another thread leaves for a loop to do. */
typedef struct lpi_task {
    struct lpi_task *next;
    lpi_task_kind kind;
    union {
        lpi_handover handover; /* LPI_TASK_OPEN                              */
        lpi_outcome outcome;   /* LPI_TASK_TELL                              */
        lpi_call call;         /* LPI_TASK_CALL                              */
        lpi_answer answer;     /* LPI_TASK_ANSWER                            */
    } of;
} lpi_task;

/* What was read from a connection, and is not served yet. */
typedef struct lpi_arrival {
    uint32_t connection;
    uint32_t length;
} lpi_arrival;

enum {
    LPI_READ_SIZE = 65536, /* at most in one recv                            */
    LPI_IN_SIZE = 2 * LPI_READ_SIZE,
    LPI_ARRIVALS = 32      /* connections that are read, then served         */
};

typedef struct lpi_loop {
    lp_server *server;
    const lp_os *os;
    uint32_t index;
    lpi_thread thread;   /* not of the first: lp_run's caller runs that      */
    lp_result result;    /* of the last step                                 */
    lp_poller poller;    /* its fd is -1 before it is open                   */
    int wake[2];

    lpi_mutex mutex;     /* of what other threads touch: inbox, latencies and
                            deferred requests, which only the loop's own thread
                            adds and removes                                 */
    int has_mutex;
    struct {
        lpi_task *first, *last; /* `last` is stale while `first` is NULL    */
    } inbox;
    uint64_t latencies[LP_LATENCIES], first_latencies[LP_LATENCIES];
    uint64_t latencies_us;
    lpi_later **laters;  /* by the index of their connections; else NULL     */
    uint32_t later_capacity;
    uint64_t later_number; /* of the last one                                */

    lpi_task *tasks;     /* taken out of the inbox, and not done yet         */
    uint64_t now_us, now_ms; /* when it last looked at the clock             */
    uint64_t sweep_ms;   /* the hub's, as it was before the loop slept       */
    lpi_slab connections;
    lpi_links links;     /* of connections, through their timers             */
    lpi_wheel wheel;
    uint32_t phases[LPI_PHASES]; /* how many connections are in each         */
    lpi_counts counts;
    lpi_list closed;             /* connections to be given back             */
    lpi_list queue;              /* the LPI_QUEUED ones: they have no
                                    deadline                                 */
    uint8_t generation;          /* of the last connection that came         */
    lpi_request_buffer *spare;
    uint32_t spare_count;
    lpi_stream **streams;        /* by the index of their connections; of
                                    others nothing that means anything       */
    uint32_t stream_capacity;
    lpi_reader **readers;        /* likewise, of LPI_READER ones             */
    uint32_t reader_capacity;
    uint32_t access_capacity;
    lpi_access **accesses;       /* likewise, of requests that are not answered,
                                    with cfg.access_log; else NULL           */
    uint64_t drain_ms;           /* when the drain ends; 0: not draining     */
    int ended;                   /* the drain is over                        */

    char *in;                    /* LPI_IN_SIZE bytes: of the arrivals, in
                                    their order                              */
    size_t in_length;
    lpi_arrival arrivals[LPI_ARRIVALS];
    uint32_t arrival_count;
    lpi_http http;
    lpi_chunked chunked;
    lpi_arena arena;             /* of the request that is being served      */
    lp_json json;                /* the body that is being written           */
    lp_text extra;               /* header lines of the reply                */
    lp_text head;
    lpi_batch batch;
    uint64_t date_ms;            /* when `date` was last looked at           */
    char date[LPI_DATE_LENGTH];
} lpi_loop;

typedef enum lpi_route_kind {
    LPI_USER, LPI_POLLS, LPI_STREAMS, LPI_PUBLISHES, LPI_METRICS, LPI_STATS,
    LPI_HEALTH,
    LPI_CHANNELS, LPI_CHANNEL, LPI_DELETES, LPI_RECEIPTS /* administration   */
} lpi_route_kind;

typedef struct lpi_route {
    struct lpi_route *next;
    lpi_route_kind kind;
    lpi_method method;
    lp_slice pattern;
    size_t literal;     /* what stands before its last part, if that is its only
                           parameter, and takes one part; else 0             */
    int takes_rest;     /* its last part matches all that is left of a path  */
    lp_handler handler;
    void *ctx;
} lpi_route;

/* A number of lp_stats: its name there and in JSON, and, unless it is NULL, in
   /metrics behind "longpoll_". What ends with _total is a counter, all else is
   a gauge; what ends with _seconds is kept in microseconds. */
typedef struct lpi_figure {
    const char *field;
    size_t offset, size;
    const char *metric, *help;
} lpi_figure;

#ifndef LONGPOLL_NO_REDIS

/* --- the stores, which are the first loop's --- */

typedef enum lpi_ask_kind {
    LPI_ASK_AUTH, LPI_ASK_SELECT, LPI_ASK_INFO, LPI_ASK_LOAD_CALL,
    LPI_ASK_LOAD_BEAT, LPI_ASK_BEAT, LPI_ASK_PUBLISH, LPI_ASK_OPEN
} lpi_ask_kind;

/* A command that is to be answered. */
typedef struct lpi_ask {
    lpi_ask_kind kind;
    uint32_t channel;    /* LPI_ASK_OPEN                                     */
    uint64_t page_from;  /* likewise                                         */
    lpi_task *task;      /* LPI_ASK_PUBLISH                                  */
    uint64_t at;         /* how many bytes were sent before it               */
    uint64_t sent_ms;
} lpi_ask;

/* A connection to a store. */
typedef struct lpi_redis {
    int fd;              /* -1: none                                         */
    int connected;
    int greeted;         /* all that comes before UP is answered             */
    uint32_t interest;
    char replid[48];     /* of the server that it leads to                   */
    char *in;
    size_t in_length, in_capacity;
    lpi_resp resp;
    lp_text out;         /* from out_at on it is not sent yet                */
    size_t out_at;
    uint64_t out_sent;   /* bytes that were sent, in all                     */
    lpi_ask *asks;       /* a ring, the oldest at asks[ask_at]               */
    uint32_t ask_at, ask_count, ask_capacity;
} lpi_redis;

typedef enum lpi_store_state {
    LPI_STORE_DOWN, LPI_STORE_RESOLVING, LPI_STORE_GREETING, LPI_STORE_UP
} lpi_store_state;

/* A name that is being looked up, on a thread of its own. */
typedef struct lpi_lookup {
    uint32_t refs;       /* atomic: the store's and the thread's             */
    uint32_t done;       /* atomic                                           */
    int error;
    lp_address address;
    lp_os os;
    char host[256];
} lpi_lookup;

/* One Redis. */
typedef struct lpi_store {
    lp_server *server;
    uint32_t index;
    lp_slice host, path, user, password, database;
    lp_address address;
    lpi_store_state state;
    uint64_t deadline_ms; /* of a step towards UP, or of the end of DOWN     */
    uint32_t attempts;
    lpi_redis commands, events;
    lpi_lookup *lookup;
    char call_sha[48], beat_sha[48];
    char layout[64];
    char own[64];         /* the pub/sub channel of this instance            */
    uint64_t beat_ms;     /* when the next heartbeat is due                  */
    uint64_t beat_sent_us;
    int beat_replied, beat_echoed;
    char told[96];        /* why it is down, as last logged                  */
    char policy[32];      /* its maxmemory-policy, as last seen              */
    uint64_t error_ms;    /* no call that failed is logged until then        */
    uint64_t unreadable_ms; /* likewise of texts that are no message         */
    lp_text left;         /* scratch                                         */
    uint64_t candidates[32]; /* epochs that no call has offered yet: so many
                             cost one system call                            */
    uint32_t candidate_count;

    /* What publishers leave, under the server's store_mutex. */
    int accepts;          /* it is UP                                        */
    lpi_task *first, *last;
    uint32_t pending;     /* calls queued and under way                      */
    size_t pending_bytes;
} lpi_store;

#endif /* LONGPOLL_NO_REDIS */

struct lp_server {
    lp_config config; /* resolved; its strings are in `strings` */
    lp_memory memory;
    lp_os os;
    lpi_arena strings;
    lpi_hub hub;
    lpi_loop *loops;
    uint32_t loop_count;
    int listener, reserve;   /* the first loop's, and accept_resume_ms too   */
    lp_address bound;
    int on_loopback;
    uint64_t accept_resume_ms; /* no accepting until then; 0: it goes on     */
    uint32_t next_loop;      /* the loop that gets the next connection       */
    uint32_t stopping;       /* atomic: lp_stop was called                   */
    uint32_t draining;       /* atomic: the first loop accepts no more       */
    uint32_t serving;        /* atomic: loops that have not ended            */
    uint32_t broken;         /* atomic: a loop has failed                    */
    uint32_t hinted;         /* atomic: see lpi_route_hint_proxy             */
    int started;             /* by lp_run                                    */
    lpi_route *routes, *last_route; /* in `strings`: they do not move; the last
                                that was added in order: see lpi_route_add   */
    lpi_network *proxies;
    uint32_t proxy_count;
    struct lpi_store *stores; /* the first loop's, but for their queues       */
    uint32_t store_count;
    lpi_mutex store_mutex;   /* of the queues                                */
    int has_store_mutex;
    int stores_ended;        /* under it: nothing can be published any more  */
    lpi_hmac token_key;      /* if there is a token_secret                   */
    lp_slice *origins, *hosts;
    uint32_t origin_count, host_count;
    int any_origin;
};

struct lp_request {
    lp_server *server;
    lpi_loop *loop;
    uint32_t connection;
    const lpi_http *http; /* NULL: it has no head here, and is being refused */
    const char *bytes;    /* its first byte                                  */
    lp_slice body;
    const lpi_route *route;
    const lpi_token *token; /* signed, and good; NULL: none was read         */
    uint8_t client[16];   /* its address, past the proxies                   */
    uint8_t answered;
    uint8_t may_cache;    /* the handler gave a Cache-Control of its own     */
    uint8_t own_origin;   /* and an Access-Control-Allow-Origin              */
    uint8_t no_memory;    /* a part of its target could not be decoded, since
                             there was no memory                             */
};

static lpi_connection *lpi_connection_at(lpi_loop *loop, uint32_t index)
{
    return (lpi_connection *)lpi_record(&loop->connections, index,
                                        sizeof(lpi_connection));
}

/* The one that accepts and sweeps. */
static lpi_loop *lpi_first_loop(const lp_server *server)
{
    return server->loops;
}

static int lpi_is_proxy(const lp_server *server, const uint8_t address[16])
{
    return lpi_address_in_networks(server->proxies, server->proxy_count,
                                   address);
}

static int lpi_is_closed(const lpi_connection *c)
{
    return c->phase == LPI_CLOSED || c->phase == LPI_ABANDONED;
}

static void lpi_set_phase(lpi_loop *loop, lpi_connection *c, lpi_phase phase)
{
    loop->phases[c->phase]--;
    loop->phases[phase]++;
    c->phase = (unsigned)phase & 31u;
}

static void lpi_log(const lp_server *server, lp_log_level level,
                    const char *what, const char *detail)
{
    char line[256];
    size_t i;
    if (!server->config.log.write) return;
    snprintf(line, sizeof line, "%s%s%s", what, *detail ? ": " : "", detail);
    for (i = 0; line[i]; i++)
        if (line[i] < 0x20 || line[i] > 0x7e) line[i] = '?';
    server->config.log.write(server->config.log.ctx, level, line);
}

static lp_result lpi_config_bad(lp_server *server, const char *field)
{
    lpi_log(server, LP_LOG_ERROR, "bad configuration", field);
    return LP_ERR_CONFIG;
}

/* Is there a token for administration? */
static int lpi_config_has_admin(const lp_config *cfg)
{
    return cfg->admin_token || LPI_SIGNED(cfg->token_secret != NULL);
}

static uint32_t lpi_config_list_length(const char *list)
{
    uint32_t n = 1;
    if (!list) return 0;
    for (; *list; list++) n += *list == ',';
    return n;
}

static void lpi_hub_lock(lpi_hub *hub)
{
    lpi_lock(&hub->mutex);
    hub->holder = lpi_thread_self();
    hub->held = 1;
}

static void lpi_hub_unlock(lpi_hub *hub)
{
    hub->held = 0;
    lpi_unlock(&hub->mutex);
}

/* The first line of every function that needs the hub's mutex. */
#define LPI_HELD(hub)                                                         \
    LP_ASSERT((hub)->held && (hub)->holder == lpi_thread_self())

/* ==========================================================================
   C2  MESSAGE                                                      >>message

   A message is made and validated before the hub's mutex is taken, with room
   in front for what is known only under it: id, channel and timestamp. They
   are written there when it is appended, and the text that results is what
   every reply contains.

   Uses      >>memory >>json
   Touches   the message that it is given, which no other thread has yet.
   ========================================================================== */

static char *lpi_message_room(lpi_message *m) { return (char *)(m + 1); }

static lp_slice lpi_message_text(const lpi_message *m)
{
    return lpi_slice((const char *)m + m->at, m->length);
}

static lp_slice lpi_message_id(const lpi_message *m)
{
    return lpi_slice((const char *)m + m->at + 7, m->id_length); /* {"id":" */
}

/* The name of its channel, which may be forgotten by now: read from the text of
   the message, into `text` (room for LPI_CHANNEL_BYTES). */
static lp_slice lpi_message_channel(const lpi_message *m, char *text)
{
    lp_slice id = lpi_message_id(m);
    const char *at = id.bytes + id.length + sizeof("\",\"channel\":\"") - 1;
    char *to = text;
    for (; *at != '"'; *to++ = *at++)
        if (*at == '\\') at++;
    return lpi_slice_to(text, to);
}

/* A sole owner may free without an atomic decrement: no other thread can take
   a reference. */
static void lpi_message_unref(const lp_memory *memory, lpi_message *m)
{
    if (lpi_atomic_get(&m->refs) == 1 || !lpi_atomic_sub(&m->refs, 1))
        lpi_free(memory, m, m->size);
}

/* Likewise a chain of messages through `newer`. */
static void lpi_message_unref_all(const lp_memory *memory, lpi_message *m)
{
    while (m) {
        lpi_message *next = m->newer;
        lpi_message_unref(memory, m);
        m = next;
    }
}

static uint32_t lpi_message_count(const lpi_message *m)
{
    uint32_t n = 0;
    for (; m; m = m->newer) n++;
    return n;
}

/* The messages of the chain, which are not published yet, are delivered and not
   kept. */
static void lpi_message_set_transient(lpi_message *m)
{
    for (; m; m = m->newer) m->transient = 1;
}

/* The most bytes of {"id":"EPOCH-SEQ","channel":"","timestamp":T, without the
   channel's name; lpi_message_prefix_max() adds that, as JSON writes it. */
enum {
    LPI_PREFIX_MAX = sizeof("{\"id\":\"\",\"channel\":\"\",\"timestamp\":,") +
                     37 + 27
};

static size_t lpi_message_prefix_max(lp_slice channel)
{
    size_t n = LPI_PREFIX_MAX, i;
    i = lpi_count_plain(channel.bytes, channel.length);
    n += i;
    for (; i < channel.length; i++)
        n += channel.bytes[i] == '"' || channel.bytes[i] == '\\' ? 2 : 1;
    return n;
}

/* A message of `json`'s members, or NULL with *result and the bad offset. */
static lpi_message *lpi_message_new(const lp_memory *memory, lp_slice channel,
                                    lp_slice json, lp_result *result,
                                    size_t *offset)
{
    size_t before = lpi_message_prefix_max(channel);
    size_t size = sizeof(lpi_message) + before + json.length + 1;
    lpi_message *m = (lpi_message *)lpi_alloc(memory, size);
    lpi_json_scan scan;
    char *rest;
    *result = LP_ERR_NOMEM;
    *offset = 0;
    if (!m) return NULL;
    memset(m, 0, sizeof *m);
    m->refs = 1;
    m->size = (uint32_t)size;
    m->members_at = (uint32_t)(sizeof *m + before);
    m->first_receipt = m->last_receipt = LPI_NONE;
    rest = lpi_message_room(m) + before;
    *result = LP_ERR_JSON;
    if (lpi_json_scan_text(&scan, json, rest)) {
        *offset = json.bytes ? (size_t)(scan.at - json.bytes) : 0;
    } else {
        const char *at = json.bytes;
        while (*at == ' ' || *at == '\t' || *at == '\r' || *at == '\n') at++;
        *offset = (size_t)(at - json.bytes);
        if (*at == '{') *result = LP_OK;
    }
    if (*result != LP_OK) {
        lpi_free(memory, m, size);
        return NULL;
    }
    rest[scan.members_length] = '}';
    m->length = (uint32_t)scan.members_length;
    return m;
}

/* A message without text, but for its id, that stands in the place of `m`,
   which is transient; NULL without memory. */
static lpi_message *lpi_message_mark(const lp_memory *memory,
                                     const lpi_message *m, lp_slice id)
{
    size_t size = sizeof *m + 7 + id.length; /* as lpi_message_id() finds it */
    size_t skip = offsetof(lpi_message, channel);
    lpi_message *mark = (lpi_message *)lpi_alloc(memory, size);
    if (!mark) return NULL;
    /* All but the references of `m`, which other threads may be giving back. */
    memcpy((char *)mark + skip, (const char *)m + skip, sizeof *m - skip);
    mark->refs = 1;
    mark->size = (uint32_t)size;
    mark->at = sizeof *m;
    mark->length = 0;
    mark->id_length = (uint8_t)id.length;
    mark->first_receipt = mark->last_receipt = LPI_NONE;
    memcpy((char *)(mark + 1) + 7, id.bytes, id.length);
    return mark;
}

enum { LPI_MESSAGES_MAX = 1000 }; /* in one array */

/* A chain of the messages that stand in an array, or NULL like
   lpi_message_new(). */
static lpi_message *lpi_message_new_array(const lp_memory *memory,
                                          lp_slice channel, lp_slice json,
                                          lp_result *result, size_t *offset)
{
    lpi_message *first = NULL, **end = &first;
    uint32_t count = 0;
    lpi_json_scan scan;
    lp_slice object;
    *result = LP_ERR_JSON;
    if (lp_json_check(json, offset) != LP_OK) return NULL;
    lpi_json_scan_init(&scan, json);
    lpi_json_scan_space(&scan);
    while (lpi_json_take(&scan, NULL, &object)) {
        *result = LP_ERR_TOO_LARGE;
        *offset = 0;
        if (count++ < LPI_MESSAGES_MAX)
            *end = lpi_message_new(memory, channel, object, result, offset);
        if (!*end) {
            *offset += (size_t)(object.bytes - json.bytes);
            lpi_message_unref_all(memory, first);
            return NULL;
        }
        end = &(*end)->newer;
    }
    *offset = (size_t)(scan.at - json.bytes); /* if the array is empty */
    return first;
}

/* Write what the server sets in front of the members. */
static void lpi_message_seal(lpi_message *m, lp_slice channel, uint64_t epoch,
                             uint64_t seq, uint64_t timestamp_us)
{
    char prefix[2 * LPI_CHANNEL_BYTES + 128];
    char *id = LPI_PUT(prefix, "{\"id\":\""), *to = lpi_put_id(id, epoch, seq);
    size_t i = 0, n;
    m->id_length = (uint8_t)(to - id);
    to = LPI_PUT(to, "\",\"channel\":\"");
    if (m->members_at - sizeof *m - LPI_PREFIX_MAX == channel.length) {
        to = lpi_put(to, channel); /* nothing in it is to be escaped */
        i = channel.length;
    }
    for (; i < channel.length; i++) { /* no control is in a good name */
        char c = channel.bytes[i];
        if (c == '"' || c == '\\') *to++ = '\\';
        *to++ = c;
    }
    to = LPI_PUT(to, "\",\"timestamp\":");
    to = lpi_put_seconds(to, timestamp_us);
    if (m->length) *to++ = ',';
    n = (size_t)(to - prefix);
    LP_ASSERT(n <= m->members_at - sizeof *m);
    m->at = m->members_at - (uint32_t)n;
    memcpy((char *)m + m->at, prefix, n);
    m->length += (uint32_t)n + 1;
    m->seq = seq;
    m->timestamp_us = timestamp_us;
}

/* ==========================================================================
   C3  RECEIPT                                                      >>receipt

   With cfg.track_receipts each message knows which clients it was handed to.
   Only then are names of clients kept, each once, for as long as a connection
   or a receipt refers to it. There are track_receipts receipts at most: one
   more drops the oldest of all, and its message remembers that some are lost. A
   message that is dropped takes its receipts with it.

   Uses      >>slab >>table >>message
   Touches   the hub's names and receipts, under its mutex.
   Promises  a client is named once in a message's receipts.
   ========================================================================== */

/* Are receipts noted? */
static int lpi_receipts_tracked(const lp_config *config)
{
    return LPI_ADMINISTERED && config->track_receipts;
}

static lpi_name *lpi_name_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_name *)lpi_record(&hub->names, index, sizeof(lpi_name));
}

static lpi_receipt *lpi_receipt_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_receipt *)lpi_record(&hub->receipts, index,
                                     sizeof(lpi_receipt));
}

static lp_slice lpi_name_text(const lpi_name *name)
{
    return lpi_slice(name->text, name->length);
}

/* The name, with one more reference; LPI_NONE without memory. */
static uint32_t lpi_name_take(lpi_hub *hub, lp_slice text)
{
    LPI_HELD(hub);
    uint64_t hash = lpi_hash(hub->hash_key, 'r', text);
    uint32_t index = lpi_table_first(&hub->name_table, hash);
    lpi_name *name;
    while (index != LPI_NONE &&
           !lpi_equal(lpi_name_text(lpi_name_at(hub, index)), text))
        index = lpi_table_match(&hub->name_table,
                                lpi_name_at(hub, index)->node.next, hash);
    if (index == LPI_NONE) {
        index = lpi_slab_take(&hub->names);
        if (index == LPI_NONE) return index;
        name = lpi_name_at(hub, index);
        name->node.hash = hash;
        name->length = (uint8_t)text.length;
        memcpy(name->text, text.bytes, text.length);
        lpi_table_add(&hub->name_table, index);
    }
    lpi_name_at(hub, index)->node.count++;
    return index;
}

static void lpi_name_give(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    LP_ASSERT(lpi_name_at(hub, index)->node.count);
    if (--lpi_name_at(hub, index)->node.count) return;
    lpi_table_remove(&hub->name_table, index);
    lpi_slab_give(&hub->names, index);
}

/* Free the oldest receipt of a message. */
static void lpi_receipt_drop_first(lpi_hub *hub, lpi_message *m)
{
    LPI_HELD(hub);
    uint32_t index = m->first_receipt;
    const lpi_receipt *receipt = lpi_receipt_at(hub, index);
    m->first_receipt = receipt->next;
    if (m->first_receipt == LPI_NONE) m->last_receipt = LPI_NONE;
    lpi_name_give(hub, receipt->name);
    lpi_list_remove(&hub->receipt_list, &hub->receipt_links, index);
    lpi_table_remove(&hub->receipt_table, index);
    lpi_slab_give(&hub->receipts, index);
}

static uint64_t lpi_receipt_hash(const lpi_hub *hub, const lpi_message *m,
                                 uint32_t name)
{
    uint64_t key[2];
    key[0] = (uint64_t)(uintptr_t)m;
    key[1] = name;
    return lpi_hash(hub->hash_key, 'h', lpi_slice((const char *)key,
                                                  sizeof key));
}

static int lpi_receipt_has(lpi_hub *hub, const lpi_message *m, uint32_t name,
                           uint64_t hash)
{
    LPI_HELD(hub);
    uint32_t index = lpi_table_first(&hub->receipt_table, hash);
    while (index != LPI_NONE) {
        const lpi_receipt *receipt = lpi_receipt_at(hub, index);
        if (receipt->message == m && receipt->name == name) return 1;
        index = lpi_table_match(&hub->receipt_table, receipt->node.next, hash);
    }
    return 0;
}

/* The message, which a channel holds, was handed to the client. */
static void lpi_receipt_add(lpi_hub *hub, lpi_message *m, uint32_t name)
{
    LPI_HELD(hub);
    uint64_t hash = lpi_receipt_hash(hub, m, name);
    lpi_receipt *receipt;
    uint32_t index;
    if (lpi_receipt_has(hub, m, name, hash)) return;
    if (hub->receipts.used >= hub->config->track_receipts) {
        lpi_message *oldest =
            lpi_receipt_at(hub, hub->receipt_list.head)->message;
        lpi_receipt_drop_first(hub, oldest);
        oldest->receipts_lost = 1;
    }
    index = lpi_slab_take(&hub->receipts);
    if (index == LPI_NONE) {
        m->receipts_lost = 1;
        return;
    }
    receipt = lpi_receipt_at(hub, index);
    receipt->node.hash = hash;
    receipt->message = m;
    receipt->name = name;
    receipt->next = LPI_NONE;
    lpi_name_at(hub, name)->node.count++;
    if (m->last_receipt == LPI_NONE) m->first_receipt = index;
    else lpi_receipt_at(hub, m->last_receipt)->next = index;
    m->last_receipt = index;
    lpi_list_append(&hub->receipt_list, &hub->receipt_links, index);
    lpi_table_add(&hub->receipt_table, index);
}

/* Copy the names of clients from page->position on. */
static void lpi_receipt_copy(lpi_hub *hub, const lpi_message *m,
                             lp_receipts *page)
{
    LPI_HELD(hub);
    uint32_t index = m->first_receipt, skip = page->position;
    for (; skip && index != LPI_NONE; skip--)
        index = lpi_receipt_at(hub, index)->next;
    page->complete = !m->receipts_lost;
    page->count = 0;
    while (index != LPI_NONE && page->count < LPI_COUNT(page->client_ids)) {
        const lpi_receipt *receipt = lpi_receipt_at(hub, index);
        lp_slice name = lpi_name_text(lpi_name_at(hub, receipt->name));
        *lpi_put(page->client_ids[page->count++], name) = 0;
        index = receipt->next;
    }
    page->position = index == LPI_NONE ? 0 : page->position + page->count;
}

/* ==========================================================================
   C4  CHANNEL                                                      >>channel

   A channel holds the messages SEQ `last - held + 1` to `last`, in a ring. A
   poll's cursor is judged against that and nothing else.

   The messages of all channels also form one list in the order in which they
   were appended, so that expiry by age and by bytes looks at the oldest only.
   Memory is given back by sweeps, at most one a second; what a poll sees is
   exact all the same, since a channel is brought up to date whenever it is
   found (lpi_channel_refresh).

   When the time of a transient message is over, its text is dropped, and a mark
   keeps its place among the others: SEQs have no holes. The oldest message that
   is held is never a mark, since what is lost there is told anyway.

   Uses      >>slab >>table >>message >>receipt
   Touches   the hub's channels and messages, under its mutex. The functions
             that are given a channel and no hub only read that channel.
   ========================================================================== */

static lpi_channel *lpi_channel_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_channel *)lpi_record(&hub->channels, index,
                                     sizeof(lpi_channel));
}

static lp_slice lpi_channel_name(const lpi_channel *ch)
{
    return lpi_slice(ch->name, ch->name_length);
}

static lpi_extra *lpi_extra_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_extra *)lpi_record(&hub->extras, index, sizeof(lpi_extra));
}

/* --- policies --- */

static lp_policy lpi_policy_of(const lp_config *config)
{
    lp_policy policy;
    policy.history_count = config->history_count;
    policy.history_age_ms = config->history_age_ms;
    policy.waiters_max = config->waiters_per_channel;
    return policy;
}

static uint32_t lpi_policy_cut(uint32_t value, uint32_t max)
{
    if (value == LP_OFF) return 1;
    return value && value < max ? value : max;
}

/* Ask the hook what a channel of that name may take; not under the mutex, since
   that is the program's own code. LP_OK, or LP_ERR_REFUSED. */
static lp_result lpi_policy_ask(const lp_config *config, lp_slice name,
                                lp_policy *out)
{
    lp_policy max = lpi_policy_of(config), policy = max;
    if (config->policy.ask &&
        !config->policy.ask(config->policy.ctx, name, &policy))
        return LP_ERR_REFUSED;
    out->history_count =
        lpi_policy_cut(policy.history_count, max.history_count);
    out->history_age_ms =
        lpi_policy_cut(policy.history_age_ms, max.history_age_ms);
    out->waiters_max = lpi_policy_cut(policy.waiters_max, max.waiters_max);
    return LP_OK;
}

/* What the channel may take. */
static const lp_policy *lpi_channel_policy(lpi_hub *hub, const lpi_channel *ch)
{
    LPI_HELD(hub);
    return ch->extra == LPI_NONE ? &hub->policy
                                 : &lpi_extra_at(hub, ch->extra)->policy;
}

/* The channel's record for what few have, made if need be; NULL without
   memory. */
static lpi_extra *lpi_channel_extra(lpi_hub *hub, uint32_t channel)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, channel);
    lpi_extra *extra;
    uint32_t index = ch->extra;
    if (index != LPI_NONE) return lpi_extra_at(hub, index);
    index = lpi_slab_take(&hub->extras);
    if (index == LPI_NONE) return NULL;
    extra = lpi_extra_at(hub, index);
    lpi_timer_init(&hub->due, index);
    extra->channel = channel;
    extra->policy = hub->policy;
    ch->extra = index;
    return extra;
}

static void lpi_channel_free_extra(lpi_hub *hub, lpi_channel *ch)
{
    LPI_HELD(hub);
    if (ch->extra == LPI_NONE) return;
    lpi_wheel_cancel(&hub->due, ch->extra);
    lpi_slab_give(&hub->extras, ch->extra);
    ch->extra = LPI_NONE;
}

/* --- what a channel holds, and where a cursor stands in it --- */

/* The SEQ before that of the oldest message in the ring. */
static uint64_t lpi_channel_ring_floor(const lpi_channel *ch)
{
    return ch->last - ch->held;
}

/* The lowest SEQ that a continuous cursor can have. */
static uint64_t lpi_channel_floor(const lpi_channel *ch)
{
    return LPI_REMOTE(ch->remote) ? ch->remote->floor
                                  : lpi_channel_ring_floor(ch);
}

/* A message of the ring. */
static lpi_message *lpi_channel_message(const lpi_channel *ch, uint64_t seq)
{
    uint64_t i = seq - lpi_channel_ring_floor(ch) - 1;
    LP_ASSERT(i < ch->held);
    i += ch->ring_at;
    return ch->ring[i < ch->ring_size ? i : i - ch->ring_size];
}

/* Does the channel hold the message in its ring? */
static int lpi_channel_holds(const lpi_channel *ch, const lpi_message *m)
{
    return m->seq > lpi_channel_ring_floor(ch) && m->seq <= ch->last &&
           lpi_channel_message(ch, m->seq) == m;
}

/* The message of that id in the ring; NULL if it is not there. Its epoch may be
   one before the channel's. */
static const lpi_message *lpi_channel_of_id(const lpi_channel *ch,
                                            const lpi_requested *id)
{
    char text[40];
    lp_slice want = lpi_slice_to(text, lpi_put_id(text, id->epoch, id->seq));
    const lpi_message *m;
    if (id->seq <= lpi_channel_ring_floor(ch) || id->seq > ch->last)
        return NULL;
    m = lpi_channel_message(ch, id->seq);
    return m->length && lpi_equal(lpi_message_id(m), want) ? m : NULL;
}

/* A message above the floor; NULL if it is not here, but where the store is. */
static inline lpi_message *lpi_channel_get(const lpi_channel *ch, uint64_t seq)
{
    lpi_message *m;
    if (seq > lpi_channel_ring_floor(ch)) return lpi_channel_message(ch, seq);
    m = LPI_REMOTE(ch->remote) ? ch->remote->page : NULL;
    while (m && m->seq < seq) m = m->newer;
    return m && m->seq == seq ? m : NULL;
}

/* The SEQ of the last message of the ring not newer than `us`, or of the one
   before the ring. */
static uint64_t lpi_channel_seq_at(const lpi_channel *ch, uint64_t us)
{
    uint64_t low = lpi_channel_ring_floor(ch), high = ch->last;
    while (low < high) {
        uint64_t middle = high - (high - low) / 2;
        if (lpi_channel_message(ch, middle)->timestamp_us <= us) low = middle;
        else high = middle - 1;
    }
    return low;
}

/* The timestamp of message `seq`, which is held or the last one evicted; for 0,
   when the channel was made. */
static uint64_t lpi_channel_time_at(const lpi_channel *ch, uint64_t seq)
{
    if (seq == ch->last) return ch->last_us;
    if (seq > lpi_channel_ring_floor(ch))
        return lpi_channel_message(ch, seq)->timestamp_us;
    return seq && ch->evicted_us ? ch->evicted_us : ch->start_us;
}

static lpi_reason lpi_channel_judge_time(const lpi_channel *ch, uint64_t us)
{
    if (us < ch->start_us) return LPI_EPOCH;
    if (us < ch->evicted_us) return LPI_EVICTED;
    return us > ch->last_us ? LPI_AHEAD : LPI_NO_RESET;
}

static lpi_reason lpi_channel_judge_cursor(const lpi_channel *ch,
                                           uint64_t epoch, uint64_t seq)
{
    if (epoch != ch->epoch) return LPI_EPOCH;
    if (seq > ch->last) return LPI_AHEAD;
    return seq < lpi_channel_floor(ch) ? LPI_EVICTED : LPI_NO_RESET;
}

/* Judge what is requested: LPI_NO_RESET, or why continuity cannot be proven.
   *seq receives the SEQ after which the reply begins; after a reset it has all
   that is held. */
static lpi_reason lpi_channel_judge(const lpi_channel *ch,
                                    const lpi_requested *requested,
                                    uint64_t *seq)
{
    lpi_reason reason = LPI_NO_RESET;
    *seq = lpi_channel_floor(ch);
    switch (requested->kind) {
    case LPI_FROM_START: break;
    case LPI_FROM_NOW: *seq = ch->last; break;
    case LPI_FROM_CURSOR:
        reason = lpi_channel_judge_cursor(ch, requested->epoch, requested->seq);
        if (!reason) *seq = requested->seq;
        break;
    case LPI_FROM_TIME:
        if (!requested->seq) break;
        reason = lpi_channel_judge_time(ch, requested->seq);
        if (!reason) *seq = lpi_channel_seq_at(ch, requested->seq);
        break;
    }
    return reason;
}

/* --- a channel whose store is elsewhere --- */

/* Jump consistent hash, by the FNV-1a of the name: with one store more, as few
   channels as can be move (Lamping and Veach, 2014). */
static uint64_t lpi_store_hash(lp_slice name)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    size_t i;
    for (i = 0; i < name.length; i++)
        hash = (hash ^ (uint8_t)name.bytes[i]) * UINT64_C(1099511628211);
    return hash;
}

static uint32_t lpi_store_index(lp_slice name, uint32_t count)
{
    uint64_t key = lpi_store_hash(name);
    int64_t bucket = -1, next = 0;
    while (next < (int64_t)count) {
        bucket = next;
        key = key * UINT64_C(2862933555777941757) + 1;
        next = (int64_t)((double)(bucket + 1) *
                         (2147483648.0 / (double)((key >> 33) + 1)));
    }
    return (uint32_t)bucket;
}

/* All zero is a COLD channel of which nothing is known: connections of a store
   are numbered from 1. NULL without memory. */
static lpi_remote *lpi_remote_new(lpi_hub *hub, lp_slice name)
{
    LPI_HELD(hub);
    lpi_remote *r = (lpi_remote *)lpi_alloc_zero(hub->memory, sizeof *r);
    if (!r) return NULL;
    r->store = lpi_store_index(name, hub->store_count);
    r->past_number = LPI_NONE;
    r->next_work = r->next_delayed = LPI_NONE;
    return r;
}

/* Does its state hold for the store's present connection? */
static int lpi_remote_is_current(const lpi_hub *hub, const lpi_remote *r)
{
    LPI_HELD(hub);
    const lpi_hub_store *store = &hub->stores[r->store];
    return store->up && r->connection == store->connection;
}

/* Is an answer to be expected, or work to be done, that names the channel? */
static int lpi_remote_is_busy(const lpi_hub *hub, const lpi_remote *r)
{
    LPI_HELD(hub);
    if (!LPI_REMOTE(r)) return 0;
    if (r->queued || r->delayed) return 1;
    return lpi_remote_is_current(hub, r) &&
           (r->under_way || r->state == LPI_SUBSCRIBING);
}

/* Drop a list of messages that stand beside the ring. */
static void lpi_remote_drop(lpi_hub *hub, lpi_message **list)
{
    LPI_HELD(hub);
    lpi_message *m;
    while ((m = *list)) {
        *list = m->newer;
        hub->beside_bytes -= m->size;
        lpi_message_unref(hub->memory, m);
    }
}

/* The channel needs a command to be sent, or it is to be seen whether it
   does. */
static void lpi_remote_queue(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_remote *r = lpi_channel_at(hub, index)->remote;
    lpi_hub_store *store = &hub->stores[r->store];
    if (r->queued) return;
    r->queued = 1;
    r->next_work = LPI_NONE;
    if (store->first == LPI_NONE) store->first = index;
    else lpi_channel_at(hub, store->last)->remote->next_work = index;
    store->last = index;
}

/* Where a cursor of the epoch before goes on: all up to past_last is what that
   epoch gave. */
static uint64_t lpi_remote_past_seq(const lpi_channel *ch, uint64_t seq)
{
    const lpi_remote *r = ch->remote;
    if (seq > r->past_last) seq = r->past_last;
    if (seq > ch->last) seq = ch->last;
    return lpi_max64(seq, r->floor);
}

/* An open of that number, or a later one, is needed. */
static void lpi_remote_want_open(lpi_hub *hub, uint32_t index, uint32_t number)
{
    LPI_HELD(hub);
    lpi_remote *r = lpi_channel_at(hub, index)->remote;
    if ((int32_t)(number - r->opens_wanted) > 0) r->opens_wanted = number;
    lpi_remote_queue(hub, index);
}

enum { LPI_RING_MIN = 8 };

/* Give the ring another size. 0 or -1. */
static int lpi_channel_resize(lpi_hub *hub, lpi_channel *ch, uint32_t size)
{
    LPI_HELD(hub);
    uint32_t i;
    lpi_message **ring =
        (lpi_message **)lpi_alloc(hub->memory, size * sizeof *ring);
    if (!ring) return -1;
    for (i = 0; i < ch->held; i++)
        ring[i] = lpi_channel_message(ch, lpi_channel_ring_floor(ch) + 1 + i);
    lpi_free(hub->memory, ch->ring, ch->ring_size * sizeof *ring);
    ch->ring = ring;
    ch->ring_size = size;
    ch->ring_at = 0;
    return 0;
}

/* Room for `count` more messages, which may be all that the channel may hold. 0
   or -1. */
static int lpi_channel_reserve(lpi_hub *hub, lpi_channel *ch, uint32_t count)
{
    LPI_HELD(hub);
    uint32_t limit = lpi_channel_policy(hub, ch)->history_count;
    uint32_t size = ch->ring_size;
    uint32_t want = limit - ch->held < count ? limit : ch->held + count;
    if (want <= size) return 0;
    if (!size) size = LPI_RING_MIN / 2;
    do size = size > limit / 2 ? limit : size * 2;
    while (size < want);
    return lpi_channel_resize(hub, ch, size);
}

/* Halve a ring that is mostly empty, more than once if need be, so that rings
   take no more memory than what history_bytes bounds does. */
static void lpi_channel_trim(lpi_hub *hub, lpi_channel *ch)
{
    LPI_HELD(hub);
    uint32_t size = ch->ring_size;
    while (size > LPI_RING_MIN && ch->held <= size / 4) size /= 2;
    if (size < LPI_RING_MIN) size = LPI_RING_MIN;
    if (size >= ch->ring_size) return;
    lpi_channel_resize(hub, ch, size); /* without memory it stays as it is */
}

/* When the time of a transient message is over. */
static uint64_t lpi_message_over_ms(const lpi_hub *hub, const lpi_message *m)
{
    LPI_HELD(hub);
    return m->appended_us / 1000 + hub->config->transient_ms;
}

enum {
    LPI_SWEEP_MS = 1000,
    LPI_SWEEP_MS_MAX = 1 << 29, /* so that a wheel can tell its times apart  */
    LPI_SWEEP_MAX = 256
};

/* A sweep is wanted in `in_ms`. If none is planned so early, the first loop has
   to know, since it may sleep longer. */
static void lpi_hub_want_sweep(lpi_hub *hub, uint64_t now_ms, uint32_t in_ms)
{
    LPI_HELD(hub);
    if (in_ms == LP_UNLIMITED || now_ms + in_ms >= hub->sweep_ms) return;
    hub->sweep_ms = now_ms + in_ms;
    hub->sweep_moved = 1;
}

/* For how long a channel is idle before it is forgotten. */
static uint32_t lpi_hub_idle_ms(const lpi_hub *hub)
{
    return LPI_REMOTE(hub->stores) ? hub->config->channel_linger_ms
                                   : hub->config->history_age_ms;
}

/* After a change to the channel: bring its places in the hub's lists of idle
   and of vacated channels up to date. */
static void lpi_channel_update_lists(lpi_hub *hub, uint32_t index,
                                     uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    int vacated = ch->watched && !ch->event_due && !ch->waiters;
    int idle = (LPI_REMOTE(ch->remote) || !ch->held) && !ch->waiters &&
               ch->lists.head == LPI_NONE;
    if (vacated != ch->vacated) {
        ch->vacated = (uint8_t)vacated;
        ch->vacated_ms = now_ms;
        lpi_hub_want_sweep(hub, now_ms, hub->config->channel_linger_ms);
        lpi_list_set(&hub->vacated, &hub->watch_links, index, vacated);
    }
    if (idle != ch->idle) {
        ch->idle = (uint8_t)idle;
        ch->idle_ms = now_ms;
        lpi_hub_want_sweep(hub, now_ms, lpi_hub_idle_ms(hub));
        lpi_list_set(&hub->idle, &hub->idle_links, index, idle);
    }
}

/* Have a sweep look at the channel when the first of its messages is past its
   age, if that is not the configuration's, or the time of a transient one is
   over; later, if there was no memory for its mark. */
static void lpi_channel_arm(lpi_hub *hub, uint32_t index, uint64_t now_ms)
{
    LPI_HELD(hub);
    const lpi_channel *ch = lpi_channel_at(hub, index);
    const lpi_extra *extra = lpi_extra_at(hub, ch->extra);
    uint32_t age_ms = extra->policy.history_age_ms;
    uint64_t when_ms = UINT64_MAX, over_ms;
    if (ch->held && age_ms != hub->config->history_age_ms)
        when_ms = ch->ring[ch->ring_at]->appended_us / 1000 + age_ms;
    if (extra->transients) {
        over_ms = lpi_message_over_ms(
            hub, lpi_channel_message(ch, extra->transient_seq));
        if (over_ms <= now_ms) over_ms = now_ms + LPI_SWEEP_MS;
        if (over_ms < when_ms) when_ms = over_ms;
    }
    if (when_ms == UINT64_MAX) return;
    if (when_ms > now_ms + LPI_SWEEP_MS_MAX) /* it is armed again then */
        when_ms = now_ms + LPI_SWEEP_MS_MAX;
    if (lpi_wheel_wait(&hub->due) == UINT32_MAX) /* empty: jump to now */
        hub->due.now = (uint32_t)now_ms;
    lpi_wheel_arm(&hub->due, ch->extra, (uint32_t)when_ms);
    lpi_hub_want_sweep(hub, now_ms,
                       when_ms > now_ms ? (uint32_t)(when_ms - now_ms) : 0);
}

/* Queue the channel behind those that lp_watch is still to be told of, so that
   the events of one name are reported in the order in which they happened. */
static void lpi_channel_add_event(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    LP_ASSERT(!ch->event_due && !ch->vacated);
    ch->event_due = 1;
    lpi_list_append(&hub->events, &hub->watch_links, index);
    hub->sweep_ms = 0;
    hub->sweep_moved = 1;
}

/* Find the first transient message that still has its text, behind one that has
   it no more. */
static void lpi_channel_next_transient(lpi_hub *hub, const lpi_channel *ch)
{
    LPI_HELD(hub);
    lpi_extra *extra = lpi_extra_at(hub, ch->extra);
    uint64_t seq = extra->transient_seq;
    const lpi_message *m;
    if (!--extra->transients) return;
    do m = lpi_channel_message(ch, ++seq);
    while (!m->transient || !m->length);
    extra->transient_seq = seq;
}

/* Drop the text of a transient message, which is not the oldest of its channel:
   a mark takes its place. 0, or -1 without memory. */
static int lpi_channel_mark(lpi_hub *hub, lpi_channel *ch, lpi_message *m)
{
    LPI_HELD(hub);
    lpi_message *mark = lpi_message_mark(hub->memory, m, lpi_message_id(m));
    uint64_t i = m->seq - lpi_channel_ring_floor(ch) - 1 + ch->ring_at;
    if (!mark) return -1;
    ch->ring[i < ch->ring_size ? i : i - ch->ring_size] = mark;
    if (m->older) m->older->newer = mark;
    else hub->oldest = mark;
    if (m->newer) m->newer->older = mark;
    else hub->newest = mark;
    while (LPI_ADMINISTERED && m->first_receipt != LPI_NONE)
        lpi_receipt_drop_first(hub, m);
    hub->stats.history_bytes -= m->size - mark->size;
    lpi_extra_at(hub, ch->extra)->marks++;
    lpi_channel_next_transient(hub, ch);
    lpi_message_unref(hub->memory, m);
    return 0;
}

/* Drop a message, which is the oldest of its channel. */
static void lpi_channel_evict_one(lpi_hub *hub, lpi_message *m, int gone,
                                  uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, m->channel);
    LP_ASSERT(ch->held && ch->ring[ch->ring_at] == m);
    if (!LPI_REMOTE(ch->remote)) {
        ch->evicted_us = m->timestamp_us;
    } else if (gone && m->seq > ch->remote->floor) {
        ch->evicted_us = m->timestamp_us;
        ch->remote->floor = m->seq;
    }
    if (m->transient && m->length) lpi_channel_next_transient(hub, ch);
    else if (m->transient) lpi_extra_at(hub, ch->extra)->marks--;
    ch->held--;
    if (++ch->ring_at == ch->ring_size) ch->ring_at = 0;
    if (m->older) m->older->newer = m->newer;
    else hub->oldest = m->newer;
    if (m->newer) m->newer->older = m->older;
    else hub->newest = m->older;
    while (LPI_ADMINISTERED && m->first_receipt != LPI_NONE)
        lpi_receipt_drop_first(hub, m);
    hub->stats.history_bytes -= m->size;
    hub->stats.messages--;
    hub->stats.evicted++;
    if (!ch->held) lpi_channel_update_lists(hub, m->channel, now_ms);
    lpi_message_unref(hub->memory, m);
}

/* Drop the oldest message of a channel, and the marks behind it. `gone`: the
   store, if it is elsewhere, drops it too. */
static void lpi_channel_evict_oldest(lpi_hub *hub, lpi_channel *ch, int gone,
                                     uint64_t now_ms)
{
    LPI_HELD(hub);
    do lpi_channel_evict_one(hub, ch->ring[ch->ring_at], gone, now_ms);
    while (ch->held && !ch->ring[ch->ring_at]->length);
}

/* Likewise `m`, which is the oldest of its channel; not while others are being
   appended, since the ring may become smaller. */
static void lpi_channel_evict(lpi_hub *hub, lpi_message *m, int gone,
                              uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, m->channel);
    lpi_channel_evict_oldest(hub, ch, gone, now_ms);
    lpi_channel_trim(hub, ch);
}

/* `now_ms` may be a little before appended_us, since loops and publishers read
   the clock at different times: so their difference, which might wrap, is not
   taken. */
static int lpi_message_is_old(lpi_hub *hub, const lpi_message *m,
                              uint64_t now_ms)
{
    LPI_HELD(hub);
    uint32_t age_ms =
        lpi_channel_policy(hub, lpi_channel_at(hub, m->channel))
            ->history_age_ms;
    return age_ms != LP_UNLIMITED && now_ms >= m->appended_us / 1000 + age_ms;
}

static int lpi_channel_is_idle_long(const lpi_hub *hub, const lpi_channel *ch,
                                    uint64_t now_ms)
{
    LPI_HELD(hub);
    uint32_t idle_ms = lpi_hub_idle_ms(hub);
    return ch->idle && idle_ms != LP_UNLIMITED &&
           now_ms >= ch->idle_ms + idle_ms;
}

static int lpi_channel_is_forgettable(const lpi_hub *hub, const lpi_channel *ch,
                                      uint64_t now_ms)
{
    LPI_HELD(hub);
    return lpi_channel_is_idle_long(hub, ch, now_ms) &&
           !lpi_remote_is_busy(hub, ch->remote);
}

/* Free what a channel has more because its store is elsewhere. If news of it
   come, they have to be ended. */
static void lpi_channel_free_remote(lpi_hub *hub, lpi_channel *ch)
{
    LPI_HELD(hub);
    lpi_remote *r = ch->remote;
    char length = (char)ch->name_length;
    if (!LPI_REMOTE(r)) return;
    LP_ASSERT(!r->fetching);
    if (lpi_remote_is_current(hub, r)) {
        lp_text *left = &hub->stores[r->store].left;
        char *to = lpi_text_room(left, 1 + ch->name_length);
        if (to) {
            *to++ = length;
            lpi_text_set_end(left, lpi_put(to, lpi_channel_name(ch)));
        }
    }
    lpi_remote_drop(hub, &r->page);
    lpi_remote_drop(hub, &r->early);
    lpi_free(hub->memory, r, sizeof *r);
    ch->remote = NULL;
}

/* Free the record, which is in no list and no table any more. */
static void lpi_channel_free(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    if (ch->name != ch->short_name)
        lpi_free(hub->memory, ch->name, ch->name_length);
    ch->name_length = 0; /* lpi_hub_list() sees that it is not in use */
    lpi_slab_give(&hub->channels, index);
}

/* Was the channel, or one of its name before it, rechecked since hub->rechecks
   was `since`? The numbers may wrap. */
static int lpi_hub_was_rechecked(const lpi_hub *hub, const lpi_channel *ch,
                                 uint32_t since)
{
    LPI_HELD(hub);
    return hub->rechecks - ch->rechecked < hub->rechecks - since;
}

/* Forget an idle channel. If an event of it is still to be reported, its record
   stays until that is done. */
static void lpi_channel_forget(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    LP_ASSERT(ch->idle && ch->lists.head == LPI_NONE);
    if (lpi_hub_was_rechecked(hub, ch, hub->forgotten_recheck))
        hub->forgotten_recheck = ch->rechecked;
    hub->forgotten_us = lpi_max64(hub->forgotten_us, ch->last_us);
    while (ch->held) lpi_channel_evict(hub, ch->ring[ch->ring_at], 0, 0);
    lpi_channel_free_remote(hub, ch);
    lpi_channel_free_extra(hub, ch);
    lpi_list_remove(&hub->idle, &hub->idle_links, index);
    lpi_table_remove(&hub->channel_table, index);
    lpi_free(hub->memory, ch->ring, ch->ring_size * sizeof *ch->ring);
    hub->stats.channels--;
    if (!ch->watched) {
        lpi_channel_free(hub, index);
        return;
    }
    ch->forgotten = 1;
    if (!ch->vacated) return; /* it is in hub->events already */
    ch->vacated = 0;
    lpi_list_remove(&hub->vacated, &hub->watch_links, index);
    lpi_channel_add_event(hub, index);
}

/* Drop the texts of transient messages whose time is over. A store that is
   elsewhere still holds what is before them. */
static void lpi_channel_end_transients(lpi_hub *hub, uint32_t index,
                                       uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    const lpi_extra *extra = lpi_extra_at(hub, ch->extra);
    while (extra->transients) {
        lpi_message *m = lpi_channel_message(ch, extra->transient_seq);
        if (now_ms < lpi_message_over_ms(hub, m)) return;
        if (m == ch->ring[ch->ring_at])
            lpi_channel_evict(hub, m, !LPI_REMOTE(ch->remote), now_ms);
        else if (lpi_channel_mark(hub, ch, m)) return;
    }
}

/* Drop what has become too old. Returns the channel's index, or LPI_NONE if
   the channel itself was forgotten. If nothing of any channel is older than the
   configuration's age, the messages of one that has that need not be looked
   at. */
static uint32_t lpi_channel_refresh(lpi_hub *hub, uint32_t index,
                                    uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    if (hub->oldest &&
        (LPI_REMOTE(ch->remote) || ch->extra != LPI_NONE ||
         lpi_message_is_old(hub, hub->oldest, now_ms)))
        while (ch->held &&
               lpi_message_is_old(hub, ch->ring[ch->ring_at], now_ms))
            lpi_channel_evict(hub, ch->ring[ch->ring_at], 1, now_ms);
    if (ch->extra != LPI_NONE) lpi_channel_end_transients(hub, index, now_ms);
    if (!lpi_channel_is_forgettable(hub, ch, now_ms)) return index;
    lpi_channel_forget(hub, index);
    return LPI_NONE;
}

static uint64_t lpi_channel_hash(const lpi_hub *hub, lp_slice name)
{
    return lpi_hash(hub->hash_key, 'c', name);
}

/* The channel of that name, up to date; LPI_NONE if there is none. */
static uint32_t lpi_channel_find(lpi_hub *hub, lp_slice name, uint64_t hash,
                                 uint64_t now_ms)
{
    LPI_HELD(hub);
    uint32_t index = lpi_table_first(&hub->channel_table, hash);
    while (index != LPI_NONE) {
        lpi_channel *ch = lpi_channel_at(hub, index);
        if (lpi_equal(lpi_channel_name(ch), name))
            return lpi_channel_refresh(hub, index, now_ms);
        index = lpi_table_match(&hub->channel_table, ch->node.next, hash);
    }
    return LPI_NONE;
}

/* If the channel table is full, the channel that has to go for a new one: in
   *out, or LPI_NONE. LP_ERR_FULL if none can go. */
static lp_result lpi_channel_victim(lpi_hub *hub, uint32_t *out)
{
    LPI_HELD(hub);
    uint32_t index = LPI_NONE;
    if (hub->stats.channels >= hub->config->channels_max) {
        index = hub->idle.head;
        while (index != LPI_NONE &&
               (lpi_channel_at(hub, index)->in_use ||
                lpi_remote_is_busy(hub, lpi_channel_at(hub, index)->remote)))
            index = lpi_channel_at(hub, index)->idle_link.next;
        if (index == LPI_NONE) return LP_ERR_FULL;
    }
    *out = index;
    return LP_OK;
}

/* A record with a name and an epoch, in no list or table yet. */
static lp_result lpi_channel_new(lpi_hub *hub, lp_slice name, uint32_t *out)
{
    LPI_HELD(hub);
    lpi_channel *ch;
    uint32_t index;
    uint64_t epoch;
    if (hub->os->random(hub->os->ctx, &epoch, sizeof epoch)) return LP_ERR_OS;
    index = lpi_slab_take(&hub->channels);
    if (index == LPI_NONE) return LP_ERR_NOMEM;
    ch = lpi_channel_at(hub, index);
    ch->name = name.length <= sizeof ch->short_name
                   ? ch->short_name
                   : (char *)lpi_alloc(hub->memory, name.length);
    if (!ch->name) {
        lpi_slab_give(&hub->channels, index);
        return LP_ERR_NOMEM;
    }
    memcpy(ch->name, name.bytes, name.length);
    ch->name_length = (uint32_t)name.length;
    ch->epoch = epoch;
    ch->extra = LPI_NONE;
    *out = index;
    if (!LPI_REMOTE(hub->stores)) return LP_OK;
    ch->remote = lpi_remote_new(hub, name);
    if (ch->remote) return LP_OK;
    lpi_channel_free(hub, index);
    return LP_ERR_NOMEM;
}

/* Give the new channel a policy that is not the configuration's. */
static lp_result lpi_channel_set_policy(lpi_hub *hub, uint32_t index,
                                        const lp_policy *policy)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_extra *extra;
    if (!policy || !memcmp(policy, &hub->policy, sizeof *policy)) return LP_OK;
    extra = lpi_channel_extra(hub, index);
    if (extra) {
        extra->policy = *policy;
        return LP_OK;
    }
    if (LPI_REMOTE(ch->remote)) lpi_free(hub->memory, ch->remote,
                                         sizeof *ch->remote);
    lpi_channel_free(hub, index);
    return LP_ERR_NOMEM;
}

static lp_result lpi_channel_make(lpi_hub *hub, const lpi_wanted *want,
                                  uint64_t now_ms, uint32_t *out)
{
    LPI_HELD(hub);
    lpi_channel *ch;
    uint32_t victim;
    lp_result result = lpi_channel_victim(hub, &victim);
    if (result == LP_OK) result = lpi_channel_new(hub, want->name, out);
    if (result == LP_OK)
        result = lpi_channel_set_policy(hub, *out, want->policy);
    if (result != LP_OK) return result;
    if (victim != LPI_NONE) lpi_channel_forget(hub, victim);
    ch = lpi_channel_at(hub, *out);
    ch->node.hash = want->hash;
    ch->rechecked = hub->forgotten_recheck;
    ch->start_us = lpi_max64(hub->os->wall_us(hub->os->ctx),
                             hub->forgotten_us + 1);
    ch->last_us = ch->start_us;
    lpi_list_init(&ch->lists);
    lpi_table_add(&hub->channel_table, *out);
    hub->stats.channels++;
    lpi_channel_update_lists(hub, *out, now_ms);
    return LP_OK;
}

/* The channel's newest message is transient, or a mark of one; there is an
   lpi_extra. */
static void lpi_channel_add_transient(lpi_hub *hub, const lpi_channel *ch)
{
    LPI_HELD(hub);
    lpi_extra *extra = lpi_extra_at(hub, ch->extra);
    if (!hub->newest->length) extra->marks++;
    else if (!extra->transients++) extra->transient_seq = ch->last;
}

/* Give the message, which is the channel's next, its place in the ring, for
   which there is room; lpi_history_limit() is to follow. */
static void lpi_channel_add(lpi_hub *hub, uint32_t index, lpi_message *m,
                            uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    uint32_t end;
    if (ch->held >= lpi_channel_policy(hub, ch)->history_count)
        lpi_channel_evict_oldest(hub, ch, 1, now_ms);
    ch->last = m->seq;
    ch->last_us = m->timestamp_us;
    m->channel = index;
    end = ch->ring_at + ch->held++;
    ch->ring[end < ch->ring_size ? end : end - ch->ring_size] = m;
    m->older = hub->newest;
    m->newer = NULL;
    if (hub->newest) hub->newest->newer = m;
    else hub->oldest = m;
    hub->newest = m;
    LP_ASSERT(ch->ring[ch->ring_at]->length); /* the oldest is no mark */
    hub->stats.history_bytes += m->size;
    hub->stats.messages++;
    hub->stats.published++;
    lpi_hub_want_sweep(hub, now_ms, hub->config->history_age_ms);
    if (m->transient) lpi_channel_add_transient(hub, ch);
    if (ch->extra != LPI_NONE) lpi_channel_arm(hub, index, now_ms);
    m->woken = ch->waiters_since_publish;
    ch->waiters_since_publish = 0;
    lpi_channel_update_lists(hub, index, now_ms);
}

/* Drop what history_bytes does not allow, but never the newest message. */
static void lpi_history_limit(lpi_hub *hub, uint64_t now_ms)
{
    LPI_HELD(hub);
    uint64_t budget = hub->config->history_bytes;
    while (budget != LP_UNLIMITED && hub->oldest != hub->newest &&
           hub->stats.history_bytes + hub->stats.pinned_bytes > budget)
        lpi_channel_evict(hub, hub->oldest, 0, now_ms);
}

/* The message was published, and lp_after_publish is to be told of it. This
   needs no memory, so that each message is told. */
static void lpi_hub_published(lpi_hub *hub, lpi_message *m)
{
    LPI_HELD(hub);
    lpi_atomic_add(&m->refs, 1);
    m->next_untold = NULL;
    if (hub->first_untold) hub->last_untold->next_untold = m;
    else hub->first_untold = m;
    hub->last_untold = m;
}

/* Make a chain of messages the channel's next, all or none. */
static lp_result lpi_channel_append(lpi_hub *hub, uint32_t index,
                                    lpi_message *first, uint64_t now_us,
                                    lp_published *out)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    uint64_t wall_us = hub->os->wall_us(hub->os->ctx);
    out->count = lpi_message_count(first);
    if (out->count > lpi_channel_policy(hub, ch)->history_count)
        return LP_ERR_TOO_LARGE;
    if (lpi_channel_reserve(hub, ch, out->count)) return LP_ERR_NOMEM;
    if (first->transient && !lpi_channel_extra(hub, index)) return LP_ERR_NOMEM;
    out->waiters = ch->waiters_since_publish;
    /* Publishers may come here in another order than they read the clock. */
    if (hub->newest) now_us = lpi_max64(now_us, hub->newest->appended_us);
    while (first) {
        lpi_message *m = first;
        first = m->newer;
        lpi_message_seal(m, lpi_channel_name(ch), ch->epoch, ch->last + 1,
                         lpi_max64(wall_us, ch->last_us + 1));
        m->appended_us = now_us;
        lpi_channel_add(hub, index, m, now_us / 1000);
        if (hub->config->after_publish.tell) lpi_hub_published(hub, m);
    }
    *lpi_put(out->id, lpi_message_id(hub->newest)) = 0;
    out->timestamp_us = ch->last_us;
    out->instances = 0;
    lpi_history_limit(hub, now_us / 1000);
    return LP_OK;
}

/* Drop the channel's history, and begin a new epoch. */
static lp_result lpi_channel_renew(lpi_hub *hub, uint32_t index,
                                   uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    uint64_t epoch;
    if (hub->os->random(hub->os->ctx, &epoch, sizeof epoch)) return LP_ERR_OS;
    while (ch->held) lpi_channel_evict(hub, ch->ring[ch->ring_at], 1, now_ms);
    ch->epoch = epoch;
    ch->epoch_number++;
    ch->last = ch->evicted_us = 0;
    ch->start_us = lpi_max64(hub->os->wall_us(hub->os->ctx), ch->last_us + 1);
    ch->last_us = ch->start_us;
    ch->waiters_since_publish = 0;
    return LP_OK;
}

static void lpi_channel_describe(lpi_hub *hub, const lpi_channel *ch,
                                 lp_channel_info *out)
{
    LPI_HELD(hub);
    memset(out, 0, sizeof *out);
    lpi_put(out->name, lpi_channel_name(ch));
    out->waiters = ch->waiters;
    out->held = ch->held;
    if (ch->extra != LPI_NONE) out->held -= lpi_extra_at(hub, ch->extra)->marks;
    if (ch->held) lpi_put(out->first_id, lpi_message_id(ch->ring[ch->ring_at]));
    if (!LPI_REMOTE(ch->remote) || ch->remote->known)
        lpi_put_id(out->last_id, ch->epoch, ch->last);
    out->timestamp_us = ch->last_us;
    out->created_us = ch->start_us;
}

/* ==========================================================================
   C5  LIMIT                                                          >>limit

   How many polls are parked is counted by client and by address. Both are
   known by a keyed hash alone. A client's name counts together with its
   address, so that nobody elsewhere can use up what it may have.

   Most clients that are answered ask again at once. So a counter that falls to
   zero is kept by the connection whose poll was the last to count in it, until
   that connection closes or polls for another client. An address's account
   exists while it has a connection, and also counts what it takes of the
   memory that all share.

   Uses      >>slab >>table >>address
   Touches   the hub's counters and accounts, under its mutex. The two keys need
             no mutex.
   ========================================================================== */

/* The key under which an address is limited: for IPv6 that of its /64, since
   one customer has all of it. */
static uint64_t lpi_address_key(const lpi_hub *hub, const uint8_t address[16])
{
    size_t length = lpi_address_is_v4(address) ? 16 : 8;
    return lpi_hash(hub->hash_key, 'n',
                    lpi_slice((const char *)address, length));
}

/* The client of that name at that address; without a name, the address. */
static uint64_t lpi_client_key(const lpi_hub *hub, lp_slice client_id,
                               const uint8_t address[16])
{
    char text[16 + LPI_CLIENT_ID_BYTES], *to = text;
    lp_slice bytes = lpi_slice((const char *)address, 16);
    if (!client_id.bytes) return lpi_hash(hub->hash_key, 'a', bytes);
    if (!lpi_address_is_v4(address)) bytes.length = 8;
    to = lpi_put(lpi_put(to, bytes), client_id);
    return lpi_hash(hub->hash_key, 'i', lpi_slice_to(text, to));
}

static lpi_account *lpi_account_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_account *)lpi_record(&hub->accounts, index,
                                     sizeof(lpi_account));
}

/* The account of the address that has that key, with one more reference;
   LPI_NONE without memory. */
static uint32_t lpi_account_take(lpi_hub *hub, uint64_t key, int trusted)
{
    LPI_HELD(hub);
    uint32_t index = lpi_table_first(&hub->account_table, key);
    if (index == LPI_NONE) {
        index = lpi_slab_take(&hub->accounts);
        if (index == LPI_NONE) return index;
        lpi_account_at(hub, index)->node.hash = key;
        lpi_account_at(hub, index)->trusted = trusted != 0;
        lpi_table_add(&hub->account_table, index);
    }
    lpi_account_at(hub, index)->refs++;
    return index;
}

static void lpi_account_give(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_account *account = lpi_account_at(hub, index);
    LP_ASSERT(account->refs);
    if (--account->refs) return;
    LP_ASSERT(!account->node.count && !account->connections &&
              !account->partial_bytes && !account->pinned_bytes);
    lpi_table_remove(&hub->account_table, index);
    lpi_slab_give(&hub->accounts, index);
}

/* May an account hold that many bytes of a budget? Only a trusted proxy's may
   hold more than a quarter. */
static int lpi_account_may(const lpi_account *account, uint64_t bytes,
                           uint64_t budget)
{
    return account->trusted || bytes <= budget / 4;
}

static lpi_counter *lpi_counter_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_counter *)lpi_record(&hub->counters, index,
                                     sizeof(lpi_counter));
}

/* Release the counter, if the connection keeps one, and free it if no poll
   counts in it. */
static void lpi_counter_let_go(lpi_hub *hub, lpi_wait *wait)
{
    LPI_HELD(hub);
    lpi_counter *counter;
    if (!wait->keeps) return;
    counter = lpi_counter_at(hub, wait->counter);
    wait->keeps = counter->node.kept = 0;
    if (counter->node.count) return;
    lpi_table_remove(&hub->counter_table, wait->counter);
    lpi_slab_give(&hub->counters, wait->counter);
}

/* Count one more poll of the client that has that key. 0, or -1 without
   memory. */
static int lpi_counter_take(lpi_hub *hub, lpi_wait *wait, uint64_t key)
{
    LPI_HELD(hub);
    uint32_t index = wait->counter;
    if (!wait->keeps || lpi_counter_at(hub, index)->node.hash != key) {
        lpi_counter_let_go(hub, wait);
        index = lpi_table_first(&hub->counter_table, key);
    }
    if (index == LPI_NONE) {
        index = lpi_slab_take(&hub->counters);
        if (index == LPI_NONE) return -1;
        lpi_counter_at(hub, index)->node.hash = key;
        lpi_table_add(&hub->counter_table, index);
    }
    lpi_counter_at(hub, index)->node.count++;
    wait->counter = index;
    return 0;
}

static void lpi_counter_give(lpi_hub *hub, lpi_wait *wait)
{
    LPI_HELD(hub);
    lpi_counter *counter = lpi_counter_at(hub, wait->counter);
    LP_ASSERT(counter->node.count);
    if (--counter->node.count || counter->node.kept) return;
    wait->keeps = counter->node.kept = 1;
}

/* ==========================================================================
   C6  WAITER                                                        >>waiter

   Parking a poll and ending its wait. Each is done in one hold of the mutex, so
   that comparing a cursor and parking are one step against appending a message
   and waking. The waiters of a list that are behind the newest message stand
   first, since cursors in a list never decrease from head to tail.

   Uses      >>channel >>limit
   Touches   the hub's waiters and waiter lists, and the lpi_wait of the
             connections that they belong to, under its mutex.
   Promises  what could not be parked has left nothing behind.
   ========================================================================== */

static lpi_waiter_list *lpi_waiter_list_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_waiter_list *)lpi_record(&hub->lists, index,
                                         sizeof(lpi_waiter_list));
}

static lpi_waiter *lpi_waiter_at(lpi_hub *hub, uint32_t index)
{
    return (lpi_waiter *)lpi_record(&hub->waiters, index, sizeof(lpi_waiter));
}

static lpi_wait *lpi_wait_at(lpi_hub *hub, uint32_t loop, uint32_t connection)
{
    const lpi_hub_loop *l = &hub->loops[loop];
    return (lpi_wait *)(void *)((char *)lpi_at(l->connections, connection) +
                                l->wait_offset);
}

/* --- waiter lists --- */

/* The loop's list on the channel for who comes now, made if need be; LPI_NONE
   without memory. */
static uint32_t lpi_waiter_list_get(lpi_hub *hub, uint32_t channel,
                                    uint32_t loop)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, channel);
    uint32_t index = ch->lists.head;
    lpi_waiter_list *list;
    for (; index != LPI_NONE; index = list->link.next) {
        list = lpi_waiter_list_at(hub, index);
        if (list->loop == loop && !list->recheck) return index;
    }
    index = lpi_slab_take(&hub->lists);
    if (index == LPI_NONE) return index;
    list = lpi_waiter_list_at(hub, index);
    list->channel = channel;
    list->loop = loop;
    lpi_list_init(&list->parked);
    lpi_list_init(&list->fetching);
    lpi_list_append(&ch->lists, &hub->list_links, index);
    return index;
}

/* Free the list if nobody waits in it. One that is ready is freed once it has
   been served. */
static inline void lpi_waiter_list_drop_if_empty(lpi_hub *hub, uint32_t index,
                                                 uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_waiter_list *list = lpi_waiter_list_at(hub, index);
    uint32_t channel = list->channel;
    if (list->waiters || list->ready) return;
    lpi_list_remove(&lpi_channel_at(hub, channel)->lists, &hub->list_links,
                    index);
    lpi_slab_give(&hub->lists, index);
    lpi_channel_update_lists(hub, channel, now_ms);
}

/* Put the list at the end of its loop's ready list, if it is not there. */
static void lpi_waiter_list_make_ready(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_waiter_list *list = lpi_waiter_list_at(hub, index);
    lpi_hub_loop *loop = &hub->loops[list->loop];
    if (list->ready) return;
    list->ready = 1;
    list->next_ready = LPI_NONE;
    if (loop->ready_last == LPI_NONE) loop->ready_first = index;
    else lpi_waiter_list_at(hub, loop->ready_last)->next_ready = index;
    loop->ready_last = index;
}

/* Take the first list off the loop's ready list; there is one. */
static uint32_t lpi_waiter_list_pop_ready(lpi_hub *hub, lpi_hub_loop *loop)
{
    LPI_HELD(hub);
    uint32_t index = loop->ready_first;
    lpi_waiter_list *list = lpi_waiter_list_at(hub, index);
    list->ready = 0;
    loop->ready_first = list->next_ready;
    if (loop->ready_first == LPI_NONE) loop->ready_last = LPI_NONE;
    return index;
}

/* There is something new for all who wait on the channel. */
static void lpi_channel_wake(lpi_hub *hub, lpi_channel *ch)
{
    LPI_HELD(hub);
    uint32_t index = ch->lists.head;
    while (index != LPI_NONE) {
        lpi_waiter_list *list = lpi_waiter_list_at(hub, index);
        list->unseen = 1;
        lpi_waiter_list_make_ready(hub, index);
        index = list->link.next;
    }
}

/* --- the waiters of one poll --- */

/* Is there a message or a new epoch in the channel that the waiter was not
   sent? */
static int lpi_waiter_is_behind(const lpi_waiter *waiter, const lpi_channel *ch)
{
    return waiter->epoch_number != ch->epoch_number ||
           waiter->from.seq < ch->last;
}

/* A waiter that is in no list yet, and for a fetching poll with what it asked
   for. LPI_NONE without memory. */
static uint32_t lpi_waiter_new(lpi_hub *hub, const lpi_requested *requested,
                               int fetching)
{
    LPI_HELD(hub);
    uint32_t index = lpi_slab_take(&hub->waiters), r;
    if (index == LPI_NONE || !fetching) return index;
    r = lpi_slab_take(&hub->requested);
    if (r == LPI_NONE) {
        lpi_slab_give(&hub->waiters, index);
        return LPI_NONE;
    }
    *(lpi_requested *)lpi_at(&hub->requested, r) = *requested;
    lpi_waiter_at(hub, index)->from.requested = r;
    return index;
}

static void lpi_waiter_free(lpi_hub *hub, uint32_t index, int fetching)
{
    LPI_HELD(hub);
    if (fetching)
        lpi_slab_give(&hub->requested,
                      lpi_waiter_at(hub, index)->from.requested);
    lpi_slab_give(&hub->waiters, index);
}

/* Add a waiter for one channel, before the poll's others. 0 or -1. */
static int lpi_waiter_add(lpi_hub *hub, const lpi_poll_request *ask,
                          lpi_wait *wait, const lpi_cursor *at,
                          const lpi_requested *requested)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, at->channel);
    uint32_t index = lpi_waiter_new(hub, requested, wait->fetching), list_index;
    lpi_waiter *waiter;
    lpi_waiter_list *list;
    if (index == LPI_NONE) return -1;
    list_index = lpi_waiter_list_get(hub, at->channel, ask->loop);
    if (list_index == LPI_NONE) {
        lpi_waiter_free(hub, index, wait->fetching);
        return -1;
    }
    waiter = lpi_waiter_at(hub, index);
    waiter->connection = ask->connection;
    waiter->list = list_index;
    waiter->epoch_number = ch->epoch_number;
    if (!wait->fetching) {
        waiter->from.seq = at->seq;
        ch->waiters_since_publish += at->seq == ch->last;
        if (LPI_REMOTE(ch->remote) && !lpi_remote_is_current(hub, ch->remote))
            lpi_remote_queue(hub, at->channel);
    } else if (LPI_REMOTE(ch->remote)) {
        ch->remote->fetching++;
    }
    waiter->sibling = wait->waiter;
    wait->waiter = index;
    list = lpi_waiter_list_at(hub, list_index);
    lpi_list_append(wait->fetching ? &list->fetching : &list->parked,
                    &hub->waiter_links, index);
    list->waiters++;
    if (!ch->waiters++) lpi_channel_update_lists(hub, at->channel, ask->now_ms);
    return 0;
}

/* Remove all waiters of the poll. Its channels may become idle. */
static void lpi_waiters_remove(lpi_hub *hub, lpi_wait *wait, uint64_t now_ms)
{
    LPI_HELD(hub);
    while (wait->waiter != LPI_NONE) {
        uint32_t index = wait->waiter;
        lpi_waiter *waiter = lpi_waiter_at(hub, index);
        uint32_t list_index = waiter->list;
        lpi_waiter_list *list = lpi_waiter_list_at(hub, list_index);
        lpi_channel *ch = lpi_channel_at(hub, list->channel);
        lpi_list_remove(wait->fetching ? &list->fetching : &list->parked,
                        &hub->waiter_links, index);
        if (!wait->fetching && !lpi_waiter_is_behind(waiter, ch))
            ch->waiters_since_publish--;
        wait->waiter = waiter->sibling;
        if (LPI_REMOTE(wait->fetching)) ch->remote->fetching--;
        lpi_waiter_free(hub, index, wait->fetching);
        list->waiters--;
        if (!--ch->waiters)
            lpi_channel_update_lists(hub, list->channel, now_ms);
        lpi_waiter_list_drop_if_empty(hub, list_index, now_ms);
    }
}

/* Add waiters for all channels of a poll, in their order. 0, or -1 with none
   added. */
static int lpi_waiters_add(lpi_hub *hub, const lpi_poll_request *ask,
                           lpi_wait *wait, const lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t i = ask->count;
    LP_ASSERT(wait->waiter == LPI_NONE);
    while (i--)
        if (lpi_waiter_add(hub, ask, wait, &at[i], &ask->requested[i])) {
            lpi_waiters_remove(hub, wait, ask->now_ms);
            return -1;
        }
    if (!hub->config->watch.channel) return 0;
    for (i = 0; i < ask->count; i++) {
        lpi_channel *ch = lpi_channel_at(hub, at[i].channel);
        if (ch->watched) continue;
        ch->watched = 1;
        lpi_channel_add_event(hub, at[i].channel);
    }
    return 0;
}

/* Why the poll, which is counted already, may not be parked. */
static lpi_why lpi_waiters_refusal(lpi_hub *hub, const lpi_poll_request *ask,
                                   const lpi_wait *wait, const lpi_cursor *at)
{
    LPI_HELD(hub);
    const lp_config *cfg = hub->config;
    uint32_t i;
    if (lpi_counter_at(hub, wait->counter)->node.count >
        cfg->waiters_per_client)
        return LPI_WHY_WAITERS_PER_CLIENT;
    for (i = 0; i < ask->count; i++) {
        const lpi_channel *ch = lpi_channel_at(hub, at[i].channel);
        if (ch->waiters >= lpi_channel_policy(hub, ch)->waiters_max)
            return LPI_WHY_WAITERS_PER_CHANNEL;
    }
    if (lpi_account_at(hub, wait->account)->node.count >
        cfg->waiters_per_address)
        return LPI_WHY_WAITERS_PER_ADDRESS;
    return LPI_WHY_NONE;
}

/* Park the poll. If it is refused, nothing has changed. */
static lpi_why lpi_waiters_park(lpi_hub *hub, const lpi_poll_request *ask,
                                lpi_wait *wait, const lpi_cursor *at)
{
    LPI_HELD(hub);
    lpi_why why;
    if (hub->stats.waiters >= hub->config->waiters_max)
        return LPI_WHY_WAITERS_MAX;
    if (lpi_counter_take(hub, wait, ask->client_key)) return LPI_WHY_MEMORY;
    lpi_account_at(hub, wait->account)->node.count++;
    why = lpi_waiters_refusal(hub, ask, wait, at);
    if (!why && lpi_waiters_add(hub, ask, wait, at)) why = LPI_WHY_MEMORY;
    if (!why) {
        hub->stats.waiters++;
        return LPI_WHY_NONE;
    }
    lpi_account_at(hub, wait->account)->node.count--;
    lpi_counter_give(hub, wait);
    return why;
}

/* The end of every wait, whatever ends it. */
static inline void lpi_waiters_unpark(lpi_hub *hub, lpi_wait *wait,
                                      uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_waiters_remove(hub, wait, now_ms);
    lpi_counter_give(hub, wait);
    lpi_account_at(hub, wait->account)->node.count--;
    hub->stats.waiters--;
}

/* Where the parked poll stands, in the order of its channels, judged again:
   another epoch by now, or a next message that is no longer held, is a reset.
   After a recheck it is given nothing more. Returns the number of channels. */
static uint32_t lpi_waiters_cursors(lpi_hub *hub, lpi_wait *wait,
                                    lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t index = wait->waiter, n = 0;
    for (; index != LPI_NONE; index = lpi_waiter_at(hub, index)->sibling, n++) {
        const lpi_waiter *waiter = lpi_waiter_at(hub, index);
        const lpi_waiter_list *list = lpi_waiter_list_at(hub, waiter->list);
        const lpi_channel *ch;
        if (list->recheck) wait->limit = 0;
        at[n].channel = list->channel;
        at[n].seq = waiter->from.seq;
        at[n].reason = wait->reset;
        at[n].fresh = 0;
        ch = lpi_channel_at(hub, at[n].channel);
        if (waiter->epoch_number != ch->epoch_number) {
            at[n].reason = LPI_EPOCH;
            if (LPI_REMOTE(ch->remote) &&
                waiter->epoch_number == ch->remote->past_number)
                at[n].seq = lpi_remote_past_seq(ch, at[n].seq);
            else at[n].seq = lpi_channel_floor(ch);
            continue;
        }
        if (at[n].seq >= lpi_channel_floor(ch)) continue;
        if (!at[n].reason) at[n].reason = LPI_EVICTED;
        at[n].seq = lpi_channel_floor(ch);
    }
    return n;
}

/* ==========================================================================
   C7  REMOTE                                                        >>remote

   With Redis a channel lives in a store that is elsewhere, and what is here is
   a cache of it: the ring ends with the newest messages that came. A channel is
   COLD until somebody asks for it; then news of it are subscribed to, and once
   that is acknowledged it is opened: the store is asked for its epoch, its last
   SEQ and some of its messages. With that it is LIVE, as long as the store's
   connection lasts.

   A message is appended only behind the one before it, however it came: as
   news, as the outcome of what was published here, or in an open's page. One
   that comes ahead of others waits for them a moment; if they do not come, the
   channel is opened again.

   That a cursor is continuous may be said from the cache wherever the epoch is
   known, since both only ever move on. A reset may not: it is justified only by
   an open that was sent after the poll came. Such a poll fetches, and remembers
   the number of the open that it needs. If the next message is not in the ring,
   it is fetched with an open too, and stands beside the ring, as a page, until
   those who asked for it are served.

   Uses      >>channel >>waiter
   Touches   the hub's channels and stores, under its mutex.
   Promises  no (epoch, SEQ) names two messages; LIVE means that the ring ends
             with all that the store had at the last heartbeat.
   ========================================================================== */

enum {
    LPI_OPENS_MAX = 256,      /* under way at a store                        */
    LPI_SCAN_MAX = 1024,      /* channels looked at in one call              */
    LPI_AWAY_MS = 2000,       /* a store is away for so long before polls that
                                 need it are refused at once                 */
    LPI_GAP_MS = 100,         /* how long a message ahead of others waits    */
    LPI_FAILED_MS = 1000      /* before an open that failed is sent again    */
};

static uint32_t lpi_remote_next_open(const lpi_remote *r)
{
    return r->opens_sent + 1;
}

/* What is here is not all that the store has: only an open that is sent from
   now on may tell. */
static void lpi_remote_doubt(lpi_remote *r)
{
    if (r->state == LPI_LIVE) r->state = LPI_OPENING;
    r->opens_needed = lpi_remote_next_open(r);
}

/* Open again the channels whose delay is over. */
static void lpi_remote_resume(lpi_hub *hub, uint64_t now_ms)
{
    LPI_HELD(hub);
    int which;
    for (which = 0; which < LPI_DELAYED; which++) {
        lpi_hub_delayed *list = &hub->delayed[which];
        while (list->first != LPI_NONE) {
            uint32_t index = list->first;
            lpi_remote *r = lpi_channel_at(hub, index)->remote;
            if (r->due_ms > now_ms) break;
            list->first = r->next_delayed;
            r->delayed = 0;
            if (r->early) lpi_remote_doubt(r);
            if (which == LPI_DELAYED_FAILED ||
                (int32_t)(r->opens_needed - r->opens_done) > 0)
                lpi_remote_want_open(hub, index, lpi_remote_next_open(r));
        }
    }
}

/* When the first delay is over; UINT64_MAX if there is none. */
static uint64_t lpi_remote_resume_ms(lpi_hub *hub)
{
    LPI_HELD(hub);
    uint64_t next = UINT64_MAX;
    int which;
    for (which = 0; LPI_REMOTE(hub->stores) && which < LPI_DELAYED; which++) {
        uint32_t index = hub->delayed[which].first;
        uint64_t due_ms;
        if (index == LPI_NONE) continue;
        due_ms = lpi_channel_at(hub, index)->remote->due_ms;
        if (due_ms < next) next = due_ms;
    }
    return next;
}

/* --- judging --- */

/* The poll needs the page that begins with that SEQ. */
static void lpi_remote_want_page(lpi_hub *hub, uint32_t index, uint64_t seq)
{
    LPI_HELD(hub);
    lpi_remote *r = lpi_channel_at(hub, index)->remote;
    if (r->under_way && lpi_remote_is_current(hub, r) && r->page_sent == seq)
        return;
    if (!r->page_from) r->page_from = seq;
    lpi_remote_want_open(hub, index, lpi_remote_next_open(r));
}

/* The SEQ of the last message not newer than `us`, in *seq. Or 0 is returned,
   since the messages that tell it are not here; then a page should be read that
   begins after *seq. That is a binary search: what is looked for lies between
   requested->after and requested->before, and each page narrows that down. */
static int lpi_remote_seq_at(const lpi_channel *ch, lpi_requested *requested,
                             uint64_t us, uint64_t *seq)
{
    uint64_t low, high, ring = lpi_channel_ring_floor(ch);
    const lpi_message *m;
    *seq = ch->last;
    if (us >= ch->last_us) return 1;
    *seq = lpi_channel_seq_at(ch, us);
    if (*seq > ring) return 1;
    low = lpi_max64(requested->after, ch->remote->floor);
    high = requested->before < ring ? requested->before : ring;
    for (m = ch->remote->page; m && m->timestamp_us <= us; m = m->newer)
        low = lpi_max64(low, m->seq);
    if (m && m->seq <= high) high = m->seq - 1;
    high = lpi_max64(low, high); /* the floor may have risen above it */
    requested->after = low;
    requested->before = high;
    *seq = low;
    if (low == high)
        return low >= ring || lpi_channel_get(ch, low + 1) != NULL;
    if (high - low > LPI_PAGE_MAX) *seq += (high - low) / 2;
    return 0;
}

/* Judge a cursor against the state that is known here. */
static lpi_reason lpi_remote_judge_cursor(const lpi_channel *ch,
                                          const lpi_requested *requested,
                                          int opened, uint64_t *seq)
{
    const lpi_remote *r = ch->remote;
    if (requested->epoch != ch->epoch) {
        if (requested->epoch != r->past_epoch || !r->past_epoch)
            return LPI_EPOCH;
        *seq = lpi_remote_past_seq(ch, requested->seq);
        /* What it had may be beyond what has come here so far. */
        return *seq == ch->last && ch->last < r->store_last ? LPI_UNKNOWN
                                                            : LPI_EPOCH;
    }
    if (requested->seq > ch->last) {
        if (ch->last >= r->store_last && opened) return LPI_AHEAD;
        *seq = ch->last; /* what is missing is asked for, from there on */
        return LPI_UNKNOWN;
    }
    if (requested->seq < r->floor) return LPI_EVICTED;
    *seq = requested->seq;
    return LPI_NO_RESET;
}

/* Judge a time: the position is by time in any case, or the same messages would
   come again and again. */
static lpi_reason lpi_remote_judge_time(const lpi_channel *ch,
                                        lpi_requested *requested, uint64_t *seq)
{
    lpi_reason reason;
    if (requested->epoch != ch->epoch) { /* the bounds are of another history */
        requested->epoch = ch->epoch;
        requested->after = 0;
        requested->before = UINT64_MAX;
        requested->passed = 0;
    }
    *seq = lpi_max64(ch->remote->floor, requested->after);
    if (!requested->seq) return LPI_NO_RESET;
    if (!lpi_remote_seq_at(ch, requested, requested->seq, seq))
        return LPI_UNKNOWN;
    reason = lpi_channel_judge_time(ch, requested->seq);
    return !reason && requested->passed ? LPI_EVICTED : reason;
}

/* Judge what is requested, like lpi_channel_judge(). LPI_UNKNOWN if an open is
   needed first; *seq is then the SEQ before the messages that it should bring
   along. */
static lpi_reason lpi_remote_judge_known(lpi_hub *hub, const lpi_channel *ch,
                                         lpi_requested *requested,
                                         uint64_t *seq)
{
    LPI_HELD(hub);
    const lpi_remote *r = ch->remote;
    int opened = (int32_t)(r->opens_done - requested->open) >= 0;
    int live = r->state == LPI_LIVE && lpi_remote_is_current(hub, r);
    lpi_reason reason = LPI_NO_RESET;
    int caught_up = r->known && ch->last >= r->store_last;
    *seq = ch->last;
    if (!r->known || (!caught_up && requested->kind != LPI_FROM_CURSOR))
        return LPI_UNKNOWN;
    *seq = r->floor;
    if (requested->kind == LPI_FROM_CURSOR)
        reason = lpi_remote_judge_cursor(ch, requested, opened, seq);
    else if (!opened && !live) return LPI_UNKNOWN;
    else if (requested->kind == LPI_FROM_NOW) *seq = ch->last;
    else if (requested->kind == LPI_FROM_TIME)
        reason = lpi_remote_judge_time(ch, requested, seq);
    return reason && !opened ? LPI_UNKNOWN : reason;
}

/* Judge, and have fetched what is missing for that. */
static lpi_reason lpi_remote_judge(lpi_hub *hub, uint32_t index,
                                   lpi_requested *requested, uint64_t *seq)
{
    LPI_HELD(hub);
    const lpi_channel *ch = lpi_channel_at(hub, index);
    const lpi_remote *r = ch->remote;
    lpi_reason reason = lpi_remote_judge_known(hub, ch, requested, seq);
    int opened = (int32_t)(r->opens_done - requested->open) >= 0;
    if (reason != LPI_UNKNOWN) return reason;
    if (!r->known || *seq >= ch->last || lpi_channel_get(ch, *seq + 1))
        lpi_remote_want_open(hub, index, opened ? lpi_remote_next_open(r)
                                                : requested->open);
    else lpi_remote_want_page(hub, index, *seq + 1);
    return LPI_UNKNOWN;
}

#ifndef LONGPOLL_NO_REDIS

/* --- messages come --- */

/* Doubt it, and open it again at once. */
static void lpi_remote_reopen(lpi_hub *hub, uint32_t index)
{
    LPI_HELD(hub);
    lpi_remote *r = lpi_channel_at(hub, index)->remote;
    lpi_remote_doubt(r);
    lpi_remote_want_open(hub, index, r->opens_needed);
}

/* Have the channel opened again after a moment, unless by then what is missing
   has come. */
static void lpi_remote_delay(lpi_hub *hub, uint32_t index, int which,
                             uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_remote *r = lpi_channel_at(hub, index)->remote;
    lpi_hub_delayed *list = &hub->delayed[which];
    uint32_t ms = which == LPI_DELAYED_GAP ? LPI_GAP_MS : LPI_FAILED_MS;
    if (r->delayed) return;
    r->delayed = 1;
    r->due_ms = now_ms + ms;
    r->next_delayed = LPI_NONE;
    if (list->first == LPI_NONE) list->first = index;
    else lpi_channel_at(hub, list->last)->remote->next_delayed = index;
    list->last = index;
    lpi_hub_want_sweep(hub, now_ms, ms);
}

/* Append a message that is the next, and is taken over. A mark that would be
   the first of the ring, once others have made way for it, is not kept: the
   ring begins behind it. */
static void lpi_remote_append(lpi_hub *hub, uint32_t index, lpi_message *m,
                              uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_remote *r = ch->remote;
    LP_ASSERT(m->seq == ch->last + 1);
    if (lpi_channel_reserve(hub, ch, 1) ||
        (m->transient && !lpi_channel_extra(hub, index))) {
        lpi_message_unref(hub->memory, m);
        lpi_remote_doubt(r);
        lpi_remote_delay(hub, index, LPI_DELAYED_GAP, now_ms);
        return;
    }
    hub->forgotten_us = lpi_max64(hub->forgotten_us, m->timestamp_us);
    r->store_last = lpi_max64(r->store_last, m->seq);
    if (!m->length && ch->held >= lpi_channel_policy(hub, ch)->history_count)
        lpi_channel_evict(hub, ch->ring[ch->ring_at], 1, now_ms);
    if (!m->length && !ch->held) {
        ch->last = m->seq;
        ch->last_us = m->timestamp_us;
        ch->waiters_since_publish = 0;
        lpi_message_unref(hub->memory, m);
        return;
    }
    if (hub->newest) /* one of a page may be older */
        m->appended_us = lpi_max64(m->appended_us, hub->newest->appended_us);
    lpi_channel_add(hub, index, m, now_ms);
    lpi_history_limit(hub, now_ms);
}

static int lpi_remote_is_of_epoch(const lpi_channel *ch, const lpi_message *m)
{
    uint64_t epoch;
    return !lpi_parse_epoch(lpi_message_id(m).bytes, &epoch) &&
           epoch == ch->epoch;
}

/* Append what came ahead of others and is the next now. What has come since, or
   is of another epoch, is dropped; if of another, the channel is opened again,
   since that may be a newer one. */
static void lpi_remote_take_early(lpi_hub *hub, uint32_t index, uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_remote *r = ch->remote;
    lpi_message *m;
    while ((m = r->early) != NULL) {
        int ours = lpi_remote_is_of_epoch(ch, m);
        if (ours && m->seq > ch->last + 1) break;
        r->early = m->newer;
        r->early_count--;
        r->early_bytes -= m->size;
        hub->beside_bytes -= m->size;
        if (ours && m->seq == ch->last + 1) {
            lpi_remote_append(hub, index, m, now_ms);
            continue;
        }
        if (!ours) lpi_remote_reopen(hub, index);
        lpi_message_unref(hub->memory, m);
    }
    if (r->early) lpi_remote_delay(hub, index, LPI_DELAYED_GAP, now_ms);
}

/* May that much more stand beside the rings? */
static int lpi_remote_has_room(const lpi_hub *hub, size_t size)
{
    LPI_HELD(hub);
    uint64_t budget = hub->config->history_bytes;
    return budget == LP_UNLIMITED || hub->beside_bytes + size <= budget / 4;
}

/* Keep a message that is ahead of others until they have come. If that is too
   much, they are asked for, and this one with them. */
static void lpi_remote_keep_early(lpi_hub *hub, uint32_t index, lpi_message *m,
                                  uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_remote *r = lpi_channel_at(hub, index)->remote;
    lpi_message **at = &r->early;
    hub->stats.redis_gaps++;
    while (*at && (*at)->seq < m->seq) at = &(*at)->newer;
    if ((*at && (*at)->seq == m->seq) || r->early_count == LPI_EARLY_MAX ||
        r->early_bytes + m->size > LPI_EARLY_BYTES_MAX ||
        !lpi_remote_has_room(hub, m->size)) {
        if (!*at || (*at)->seq != m->seq) lpi_remote_reopen(hub, index);
        lpi_message_unref(hub->memory, m);
        return;
    }
    m->newer = *at;
    *at = m;
    r->early_count++;
    r->early_bytes += m->size;
    hub->beside_bytes += m->size;
    if (r->state == LPI_LIVE)
        lpi_remote_delay(hub, index, LPI_DELAYED_GAP, now_ms);
}

/* --- an open is answered --- */

/* Forget all messages that are here, since what came after them is not, or they
   are of an epoch that the store does not know. */
static void lpi_remote_restart(lpi_hub *hub, uint32_t index,
                               const lpi_opened *opened, uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    const lpi_message *newest = opened->page;
    while (ch->held) lpi_channel_evict(hub, ch->ring[ch->ring_at], 0, now_ms);
    while (newest && newest->newer) newest = newest->newer;
    ch->last = opened->last;
    ch->last_us = opened->last_us;
    ch->waiters_since_publish = 0;
    if (newest && newest->seq == opened->last)
        ch->last = opened->page->seq - 1; /* the ring begins with the page */
}

/* The store says what the channel's epoch is. Returns whether the ring may
   stay. */
static int lpi_remote_take_epoch(lpi_hub *hub, lpi_channel *ch,
                                 const lpi_opened *opened)
{
    LPI_HELD(hub);
    lpi_remote *r = ch->remote;
    int stays, was_past;
    if (r->known && ch->epoch == opened->epoch) return 1;
    was_past = r->known && opened->has_past && ch->epoch == opened->past_epoch;
    stays = was_past && ch->last <= opened->past_last;
    r->past_number = was_past ? ch->epoch_number : LPI_NONE;
    r->past_epoch = opened->has_past ? opened->past_epoch : 0;
    r->past_last = opened->past_last;
    if (r->known) {
        ch->epoch_number++;
        ch->waiters_since_publish = 0;
        hub->stats.redis_epochs++;
    }
    ch->epoch = opened->epoch;
    ch->start_us = opened->birth_us;
    r->floor = 0;
    ch->evicted_us = 0;
    r->known = 1;
    return stays;
}

/* The store says what it holds. */
static void lpi_remote_take_floor(lpi_channel *ch, const lpi_opened *opened)
{
    uint64_t floor = opened->last - opened->held;
    uint64_t us = opened->first_us ? opened->first_us - 1 : opened->last_us;
    if (opened->unreadable > floor) {
        floor = opened->unreadable;
        us = opened->page ? opened->page->timestamp_us - 1 : opened->last_us;
    }
    if (floor <= ch->remote->floor) return;
    ch->remote->floor = floor;
    ch->evicted_us = us;
}

/* Append those of the page that are next, and keep beside the ring those before
   it, for the polls that fetch. */
static void lpi_remote_take_page(lpi_hub *hub, uint32_t index,
                                 lpi_message *page, uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_remote *r = ch->remote;
    lpi_message **end = &r->page, *m;
    int keep = r->fetching != 0;
    lpi_remote_drop(hub, &r->page);
    while ((m = page) != NULL) {
        page = m->newer;
        m->newer = NULL;
        if (m->seq == ch->last + 1) {
            lpi_remote_append(hub, index, m, now_ms);
        } else if (m->seq <= ch->last && keep &&
                   (!r->page || lpi_remote_has_room(hub, m->size))) {
            /* The first in any case, or it would be asked for for ever. */
            hub->beside_bytes += m->size;
            *end = m;
            end = &m->newer;
        } else {
            if (m->seq <= ch->last) keep = 0; /* none behind a gap */
            lpi_message_unref(hub->memory, m);
        }
    }
}

static void lpi_remote_opened(lpi_hub *hub, uint32_t index,
                              const lpi_opened *opened, uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_remote *r = ch->remote;
    int stays = lpi_remote_take_epoch(hub, ch, opened);
    lpi_remote_take_floor(ch, opened);
    r->store_last = opened->last;
    r->opened_ms = now_ms;
    if (!stays || r->floor > ch->last)
        lpi_remote_restart(hub, index, opened, now_ms);
    lpi_remote_take_page(hub, index, opened->page, now_ms);
    if (ch->last == opened->last)
        ch->last_us = lpi_max64(ch->last_us, opened->last_us);
    hub->forgotten_us = lpi_max64(hub->forgotten_us, opened->last_us);
    if (ch->last >= r->store_last) {
        if ((int32_t)(r->opens_needed - r->opens_done) <= 0)
            r->state = LPI_LIVE;
    } else {
        lpi_remote_reopen(hub, index); /* from there on */
    }
    lpi_remote_take_early(hub, index, now_ms);
    lpi_channel_update_lists(hub, index, now_ms);
    lpi_channel_wake(hub, ch);
}

/* --- what the stores are to be sent --- */

/* Look at some channels of the store: those that are waited for and COLD, or
   that would expire there, are queued. */
static void lpi_remote_scan(lpi_hub *hub, uint32_t k, uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_hub_store *store = &hub->stores[k];
    const lp_config *cfg = hub->config;
    uint32_t left = LPI_SCAN_MAX, ttl_ms;
    if (store->scan == LPI_NONE) {
        if (now_ms < store->scan_ms) return;
        store->scan = 0;
        ttl_ms = cfg->redis_empty_ms < cfg->redis_keep_ms ? cfg->redis_empty_ms
                                                          : cfg->redis_keep_ms;
        store->scan_ms = now_ms + ttl_ms / 6;
    }
    for (; left && store->scan < hub->channels.chunk_count * LPI_CHUNK;
         left--, store->scan++) {
        const lpi_channel *ch;
        if (!lpi_slab_has(&hub->channels, store->scan)) {
            store->scan |= LPI_CHUNK - 1;
            continue;
        }
        ch = lpi_channel_at(hub, store->scan);
        if (!ch->remote || ch->remote->store != k || !ch->waiters) continue;
        ttl_ms = ch->last ? cfg->redis_keep_ms : cfg->redis_empty_ms;
        if (!lpi_remote_is_current(hub, ch->remote))
            lpi_remote_queue(hub, store->scan);
        else if (ttl_ms != LP_UNLIMITED &&
                 now_ms >= ch->remote->opened_ms + ttl_ms / 3)
            lpi_remote_want_open(hub, store->scan,
                                 lpi_remote_next_open(ch->remote));
    }
    if (store->scan >= hub->channels.chunk_count * LPI_CHUNK)
        store->scan = LPI_NONE;
}

/* What the channel needs now: 1, and what in *kind, or 0. */
static int lpi_remote_needs(const lpi_hub *hub, const lpi_channel *ch,
                            lpi_work_kind *kind)
{
    LPI_HELD(hub);
    const lpi_remote *r = ch->remote;
    *kind = LPI_WORK_SUBSCRIBE;
    if (!lpi_remote_is_current(hub, r)) return ch->waiters != 0;
    *kind = LPI_WORK_OPEN;
    return r->state >= LPI_OPENING && !r->under_way &&
           (int32_t)(r->opens_wanted - r->opens_done) > 0;
}

/* Note in *work the command that is sent for the channel. */
static void lpi_remote_send(lpi_hub *hub, uint32_t index, lpi_work_kind kind,
                            lpi_work *work)
{
    LPI_HELD(hub);
    lpi_channel *ch = lpi_channel_at(hub, index);
    lpi_remote *r = ch->remote;
    lpi_hub_store *store = &hub->stores[r->store];
    work->kind = kind;
    work->channel = index;
    work->name_length = ch->name_length;
    memcpy(work->name, ch->name, ch->name_length);
    if (kind == LPI_WORK_SUBSCRIBE) {
        r->connection = store->connection;
        r->state = LPI_SUBSCRIBING;
        r->under_way = 0;
        return;
    }
    r->under_way = 1;
    r->opens_sent++;
    store->opens++;
    hub->stats.redis_opens++;
    hub->stats.redis_pages += r->page_from != 0;
    r->page_sent = r->page_from;
    r->page_from = 0;
    work->page_from = r->page_sent;
    if (!work->page_from && r->known) work->page_from = ch->last + 1;
    work->birth_us = r->known ? ch->start_us : 0;
    work->last = r->known ? ch->last : 0;
    work->last_us = r->known ? ch->last_us : 0;
    work->policy = *lpi_channel_policy(hub, ch);
}

/* Take the store's queued channels, with what each needs. */
static void lpi_remote_work(lpi_hub *hub, uint32_t k, lpi_work_batch *out)
{
    LPI_HELD(hub);
    lpi_hub_store *store = &hub->stores[k];
    out->count = 0;
    while (out->count < LPI_WORK_MAX && store->first != LPI_NONE) {
        uint32_t index = store->first;
        lpi_remote *r = lpi_channel_at(hub, index)->remote;
        lpi_work_kind kind;
        int needs = lpi_remote_needs(hub, lpi_channel_at(hub, index), &kind);
        if (needs && kind == LPI_WORK_OPEN && store->opens >= LPI_OPENS_MAX)
            break;
        store->first = r->next_work;
        r->queued = 0;
        if (needs) lpi_remote_send(hub, index, kind, &out->work[out->count++]);
    }
}

#endif /* LONGPOLL_NO_REDIS */

/* ==========================================================================
   C8  HUB                                                              >>hub

   The wall: everything that a connection's side knows of channels, waiters and
   limits, it knows by the calls at the end of this section. Plain structs go in
   and come out; each call takes the mutex itself, for tens of nanoseconds,
   since nearly all of the cost of a delivery is system calls, which are made
   outside. A poll is answered by a batch: under the mutex what the replies need
   is noted in it, one reply for all who stand at the same cursor; outside, each
   reply is rendered once and sent to its recipients (>>deliver).

   Uses      all of C
   Touches   the hub, and the lpi_wait and the batch that it is given.
   Promises  no hook but lp_memory's and lp_os's clocks and random bytes is
             called while the mutex is held; whoever published or made work for
             another loop has signalled it when the call returns.
   ========================================================================== */

/* --- replies --- */

/* May the poll share the reply? */
static int lpi_reply_fits(const lpi_reply *reply, const lpi_wait *wait,
                          const lpi_cursor *at, uint32_t count)
{
    return count == 1 && reply->channel_count == 1 &&
           reply->channel == at->channel && reply->from == at->seq &&
           reply->limit == wait->limit && reply->reason == at->reason &&
           reply->basic == wait->basic && reply->stream == wait->stream &&
           reply->fresh == at->fresh;
}

/* Of the channels that have more, the one whose next message is the oldest;
   the first of several. `count` if there is none, and LPI_NONE if that cannot
   be said, since the next message of one is not here; but with `any` such a
   channel is left out. */
static uint32_t lpi_reply_next_channel(lpi_hub *hub, const lpi_cursor *at,
                                       uint32_t count, int any)
{
    LPI_HELD(hub);
    uint32_t i, best = count;
    uint64_t best_us = UINT64_MAX;
    for (i = 0; i < count; i++) {
        lpi_channel *ch = lpi_channel_at(hub, at[i].channel);
        const lpi_message *m;
        if (at[i].seq == ch->last) continue;
        m = lpi_channel_get(ch, at[i].seq + 1);
        if (!m && !any) return LPI_NONE;
        if (!m && best == count) best = LPI_NONE;
        if (!m || m->timestamp_us >= best_us) continue;
        best_us = m->timestamp_us;
        best = i;
    }
    return best;
}

/* Go past a message whose text was dropped. */
static void lpi_reply_pass_mark(lpi_cursor *at)
{
    at->seq++;
    if (!at->reason && !at->fresh) at->reason = LPI_EVICTED;
}

/* Take the messages, in the order of their timestamps, and move `at` on. In the
   basic dialect a client goes on from its one message, so that what is behind
   that is left for the next poll. */
static void lpi_reply_gather(lpi_hub *hub, lpi_batch *batch, lpi_reply *reply,
                             lpi_cursor *at, uint32_t count)
{
    LPI_HELD(hub);
    size_t bytes = 0;
    uint32_t i;
    reply->first = batch->message_count;
    if (!reply->limit) return;
    while ((i = lpi_reply_next_channel(hub, at, count, !reply->count)) <
           count) {
        lpi_message *m = lpi_channel_get(lpi_channel_at(hub, at[i].channel),
                                         at[i].seq + 1);
        if (!m->length && !(reply->basic && reply->count)) {
            lpi_reply_pass_mark(&at[i]);
            continue;
        }
        bytes += m->length;
        if (reply->count == reply->limit ||
            (reply->count && bytes > hub->config->reply_bytes_max)) {
            reply->more = 1;
            return;
        }
        lpi_atomic_add(&m->refs, 1);
        batch->message_channels[batch->message_count] = (uint8_t)i;
        batch->messages[batch->message_count++] = m;
        reply->count++;
        reply->timestamp_us = m->timestamp_us;
        at[i].seq++;
    }
    reply->more = i == LPI_NONE;
}

/* Note the new cursor in each channel, and why the old one was not
   continuous. */
static void lpi_reply_note(lpi_hub *hub, lpi_batch *batch, lpi_reply *reply,
                           const lpi_cursor *at, uint32_t count)
{
    LPI_HELD(hub);
    uint32_t i;
    for (i = 0; i < count; i++) {
        lpi_channel *ch = lpi_channel_at(hub, at[i].channel);
        reply->at[i].epoch = ch->epoch;
        reply->at[i].seq = at[i].seq;
        reply->at[i].reason = at[i].reason;
        if (!reply->count)
            reply->timestamp_us = lpi_max64(reply->timestamp_us,
                                            lpi_channel_time_at(ch, at[i].seq));
        if (!at[i].reason) continue;
        reply->resets = 1;
        reply->at[i].name_at = (uint32_t)batch->names.length;
        reply->at[i].name_length = ch->name_length;
        lpi_text_add(&batch->names, lpi_channel_name(ch));
        if (!batch->names.failed) continue;
        reply->failed = 1; /* the batch's other replies are good */
        batch->names.failed = 0;
    }
}

static uint32_t lpi_reply_make(lpi_hub *hub, lpi_batch *batch,
                               const lpi_wait *wait, const lpi_cursor *from,
                               uint32_t count)
{
    LPI_HELD(hub);
    lpi_reply *reply = &batch->replies[batch->reply_count];
    lpi_cursor at[LPI_POLL_CHANNELS];
    memset(reply, 0, offsetof(lpi_reply, at));
    memcpy(at, from, count * sizeof *at);
    reply->channel = from->channel;
    reply->from = from->seq;
    reply->reason = from->reason;
    reply->fresh = from->fresh;
    reply->limit = wait->limit;
    reply->basic = wait->basic;
    reply->stream = wait->stream;
    reply->channel_count = (uint8_t)count;
    reply->recipient_first = reply->recipient_last = LPI_NONE;
    lpi_reply_gather(hub, batch, reply, at, count);
    lpi_reply_note(hub, batch, reply, at, count);
    return batch->reply_count++;
}

/* Is there no room for a reply to that poll? */
static int lpi_batch_is_full(const lpi_batch *batch, const lpi_wait *wait)
{
    return batch->recipient_count == LPI_BATCH ||
           batch->parked_count == LPI_BATCH ||
           batch->message_capacity - batch->message_count < wait->limit;
}

/* Answer a poll whose cursors are `at` and which is not, or no longer, parked.
   There is room in the batch. */
static lpi_recipient *lpi_batch_add(lpi_hub *hub, lpi_batch *batch,
                                    uint32_t connection, const lpi_wait *wait,
                                    const lpi_cursor *at, uint32_t count)
{
    LPI_HELD(hub);
    uint32_t i = batch->reply_count, n = batch->recipient_count++;
    lpi_recipient *recipient = &batch->recipients[n];
    lpi_reply *reply;
    while (i > batch->reply_shared &&
           !lpi_reply_fits(&batch->replies[i - 1], wait, at, count))
        i--;
    i = i > batch->reply_shared ? i - 1
                                : lpi_reply_make(hub, batch, wait, at, count);
    reply = &batch->replies[i];
    if (reply->recipient_first == LPI_NONE) reply->recipient_first = n;
    else batch->recipients[reply->recipient_last].next = n;
    reply->recipient_last = n;
    recipient->connection = connection;
    recipient->next = LPI_NONE;
    recipient->waited = recipient->first = 0;
    hub->stats.delivered += reply->count;
    hub->stats.resets += reply->resets;
    return recipient;
}

/* --- a poll comes --- */

/* The channel that is wanted, made if need be. LP_PENDING if its policy has to
   be asked for first. */
static lp_result lpi_hub_channel(lpi_hub *hub, const lpi_wanted *want,
                                 uint64_t now_ms, uint32_t *out)
{
    LPI_HELD(hub);
    *out = lpi_channel_find(hub, want->name, want->hash, now_ms);
    if (*out != LPI_NONE) return LP_OK;
    if (!want->policy && hub->config->policy.ask) return LP_PENDING;
    return lpi_channel_make(hub, want, now_ms, out);
}

/* Find or make the poll's channels; *found receives how many were. They are in
   use meanwhile, since making one may forget another. */
static lpi_why lpi_hub_find_channels(lpi_hub *hub, const lpi_poll_request *ask,
                                     lpi_cursor *at, uint32_t *found)
{
    LPI_HELD(hub);
    lp_result result = LP_OK;
    uint32_t i, n;
    for (n = 0; n < ask->count; n++) {
        lpi_wanted want;
        want.name = ask->names[n];
        want.hash = ask->hashes[n];
        want.policy = ask->asked >> n & 1 ? &ask->policies[n] : NULL;
        result = lpi_hub_channel(hub, &want, ask->now_ms, &at[n].channel);
        if (result != LP_OK) break;
        at[n].reason = LPI_NO_RESET;
        lpi_channel_at(hub, at[n].channel)->in_use = 1;
    }
    for (i = 0; i < n; i++) lpi_channel_at(hub, at[i].channel)->in_use = 0;
    *found = n;
    if (result == LP_OK) return LPI_WHY_NONE;
    if (result == LP_PENDING) return LPI_WHY_POLICY;
    if (result == LP_ERR_FULL) return LPI_WHY_CHANNELS_MAX;
    return result == LP_ERR_NOMEM ? LPI_WHY_MEMORY : LPI_WHY_RANDOM;
}

/* Was a channel of the poll rechecked after its access was asked for? */
static lpi_why lpi_hub_recheck_refusal(lpi_hub *hub,
                                       const lpi_poll_request *ask,
                                       const lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t i;
    if (ask->rechecks == hub->rechecks) return LPI_WHY_NONE;
    for (i = 0; i < ask->count; i++)
        if (lpi_hub_was_rechecked(hub, lpi_channel_at(hub, at[i].channel),
                                  ask->rechecks))
            return LPI_WHY_RECHECKED;
    return LPI_WHY_NONE;
}

typedef enum lpi_judged {
    LPI_MAY_WAIT, LPI_MUST_REPLY, LPI_MUST_FETCH
} lpi_judged;

/* The next message in one channel is not here. Has an open been answered since
   the poll asked for it? If so another poll may have needed another page of the
   channel. */
static int lpi_hub_has_asked(lpi_hub *hub, const lpi_cursor *at,
                             const lpi_requested *requested)
{
    LPI_HELD(hub);
    const lpi_remote *r = lpi_channel_at(hub, at->channel)->remote;
    return (int32_t)(r->opens_done - requested->open) >= 0;
}

/* Ask for the messages that are not here. With `again` also where that was done
   before. */
static void lpi_hub_want_pages(lpi_hub *hub, lpi_poll_request *ask,
                               lpi_cursor *at, int again)
{
    LPI_HELD(hub);
    uint32_t i;
    for (i = 0; i < ask->count; i++) {
        const lpi_channel *ch = lpi_channel_at(hub, at[i].channel);
        if (at[i].reason == LPI_UNKNOWN || at[i].seq >= ch->last ||
            lpi_channel_get(ch, at[i].seq + 1))
            continue;
        if (lpi_hub_has_asked(hub, &at[i], &ask->requested[i])) {
            if (!again) continue;
            ask->requested[i].open = lpi_remote_next_open(ch->remote);
        }
        at[i].reason = LPI_UNKNOWN;
        lpi_remote_want_page(hub, at[i].channel, at[i].seq + 1);
    }
}

/* Go past the marks that come next, as far as they are here; if more have to be
   fetched, the poll goes on behind these. Returns the reason, if that is one
   now. */
static lpi_reason lpi_hub_pass_marks(const lpi_channel *ch,
                                     lpi_requested *requested, lpi_cursor *at)
{
    const lpi_message *m;
    uint64_t from = at->seq;
    while (at->seq < ch->last && (m = lpi_channel_get(ch, at->seq + 1)) &&
           !m->length)
        lpi_reply_pass_mark(at);
    if (at->seq > from) {
        requested->after = requested->before = at->seq;
        requested->passed = 1;
    }
    return (lpi_reason)at->reason;
}

/* Judge what is requested of each channel: `at` receives where the poll stands.
   There may be something to answer at once; or something is to be fetched from
   the store before that can be said. In the basic dialect a reset with nothing
   held, or nothing but marks, is not answered at once, since its client would
   ask again for ever.

   Each channel's next message is asked for once before the poll is answered, so
   that none starves; and only again if there is nothing at all to answer with,
   or polls that wait for several pages at a time would take them from one
   another without end. */
static lpi_judged lpi_hub_judge(lpi_hub *hub, lpi_poll_request *ask,
                                lpi_cursor *at)
{
    LPI_HELD(hub);
    int unknown = 0, absent = 0, asked = 1, answer = 0;
    uint32_t i;
    for (i = 0; i < ask->count; i++) {
        lpi_channel *ch = lpi_channel_at(hub, at[i].channel);
        lpi_requested *requested = &ask->requested[i];
        lpi_reason reason =
            LPI_REMOTE(ch->remote)
                ? lpi_remote_judge(hub, at[i].channel, requested, &at[i].seq)
                : lpi_channel_judge(ch, requested, &at[i].seq);
        at[i].reason = (uint8_t)reason;
        at[i].fresh = requested->kind == LPI_FROM_START ||
                      requested->kind == LPI_FROM_NOW ||
                      (requested->kind == LPI_FROM_TIME && !requested->seq);
        if (ask->basic && reason != LPI_UNKNOWN)
            reason = lpi_hub_pass_marks(ch, requested, &at[i]);
        if (LPI_REMOTE(reason == LPI_UNKNOWN)) {
            unknown = 1;
        } else if (LPI_REMOTE(ch->remote) && at[i].seq < ch->last &&
                   !lpi_channel_get(ch, at[i].seq + 1)) {
            absent = 1;
            if (!lpi_hub_has_asked(hub, &at[i], requested)) asked = 0;
        } else if (at[i].seq < ch->last || (reason && !ask->basic)) {
            answer = 1;
        }
    }
    if (LPI_REMOTE(absent && (unknown || !asked || !answer))) {
        lpi_hub_want_pages(hub, ask, at, asked && !unknown && !answer);
        return LPI_MUST_FETCH;
    }
    if (LPI_REMOTE(unknown)) return LPI_MUST_FETCH;
    return answer ? LPI_MUST_REPLY : LPI_MAY_WAIT;
}

/* A poll has come whose channels are stored elsewhere: note what its judging
   needs. */
static void lpi_hub_begin_fetch(lpi_hub *hub, lpi_poll_request *ask,
                                const lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t i;
    for (i = 0; i < ask->count; i++) {
        const lpi_remote *r = lpi_channel_at(hub, at[i].channel)->remote;
        ask->requested[i].open = lpi_remote_next_open(r);
        ask->requested[i].after = 0;
        ask->requested[i].before = UINT64_MAX;
        ask->requested[i].passed = 0;
        ask->requested[i].until_ms = /* now_ms is rounded down */
            ask->now_ms + ask->wait_ms + (ask->wait_ms != 0);
        ask->requested[i].ends_ms = ask->ends_ms;
    }
}

/* Is a store that the poll has to wait for away for long? */
static int lpi_hub_is_away(lpi_hub *hub, const lpi_poll_request *ask,
                           const lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t i;
    for (i = 0; i < ask->count; i++) {
        uint32_t k = lpi_channel_at(hub, at[i].channel)->remote->store;
        const lpi_hub_store *store = &hub->stores[k];
        if (at[i].reason == LPI_UNKNOWN && !store->up &&
            ask->now_ms >= store->down_ms + LPI_AWAY_MS)
            return 1;
    }
    return 0;
}

/* Park the poll until what it needs is fetched, for redis_timeout_ms at
   most. */
static lpi_why lpi_hub_fetch(lpi_hub *hub, lpi_poll_request *ask,
                             lpi_wait *wait, const lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t max_ms = hub->config->redis_timeout_ms;
    if (lpi_hub_is_away(hub, ask, at)) return LPI_WHY_FETCHING;
    wait->fetching = 1;
    if (!ask->wait_ms || ask->wait_ms > max_ms) ask->wait_ms = max_ms;
    return lpi_waiters_park(hub, ask, wait, at);
}

/* Answer the poll, park it, or refuse it. */
static lpi_why lpi_hub_park_or_reply(lpi_hub *hub, lpi_poll_request *ask,
                                     lpi_wait *wait, lpi_cursor *at,
                                     lpi_batch *batch)
{
    LPI_HELD(hub);
    lpi_judged judged;
    uint32_t i;
    wait->limit = ask->limit;
    wait->basic = ask->basic & 1u;
    wait->stream = ask->stream & 1u;
    wait->reset = LPI_NO_RESET;
    wait->fetching = 0;
    if (LPI_REMOTE(hub->stores)) lpi_hub_begin_fetch(hub, ask, at);
    judged = lpi_hub_judge(hub, ask, at);
    ask->fetching = LPI_REMOTE(judged == LPI_MUST_FETCH);
    if (ask->fetching) return lpi_hub_fetch(hub, ask, wait, at);
    if (judged == LPI_MUST_REPLY || !ask->wait_ms) {
        lpi_batch_add(hub, batch, ask->connection, wait, at, ask->count);
        return LPI_WHY_NONE;
    }
    wait->reset = at[0].reason & 3u; /* of the basic dialect, if at all */
    for (i = 0; LPI_STREAMING(ask->stream) && i < ask->count; i++) {
        ask->requested[i].epoch = lpi_channel_at(hub, at[i].channel)->epoch;
        ask->requested[i].seq = at[i].seq;
    }
    return lpi_waiters_park(hub, ask, wait, at);
}

/* --- polls are released --- */

/* End a parked poll's wait, and answer it. */
static lpi_recipient *lpi_hub_release(lpi_hub *hub, lpi_batch *batch,
                                      uint32_t connection, lpi_wait *wait,
                                      uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_cursor at[LPI_POLL_CHANNELS];
    uint32_t count = lpi_waiters_cursors(hub, wait, at);
    lpi_recipient *recipient;
    lpi_waiters_unpark(hub, wait, now_ms);
    recipient = lpi_batch_add(hub, batch, connection, wait, at, count);
    recipient->waited = 1;
    return recipient;
}

/* Rebuild a fetching poll's request from its waiters, in *ask, and its channels
   in `at`. */
static void lpi_hub_recall(lpi_hub *hub, lpi_wait *wait,
                           lpi_poll_request *ask, lpi_cursor *at)
{
    LPI_HELD(hub);
    uint32_t index = wait->waiter;
    ask->basic = wait->basic;
    for (ask->count = 0; index != LPI_NONE; ask->count++) {
        const lpi_waiter *waiter = lpi_waiter_at(hub, index);
        const lpi_waiter_list *list = lpi_waiter_list_at(hub, waiter->list);
        if (list->recheck) wait->limit = 0;
        at[ask->count].channel = list->channel;
        ask->connection = waiter->connection;
        ask->loop = list->loop;
        ask->requested[ask->count] = *(const lpi_requested *)lpi_at(
            &hub->requested, waiter->from.requested);
        index = waiter->sibling;
    }
}

/* What a fetching poll has learnt from a page. */
static void lpi_hub_remember(lpi_hub *hub, const lpi_wait *wait,
                             const lpi_poll_request *ask)
{
    LPI_HELD(hub);
    uint32_t index = wait->waiter, i = 0;
    for (; index != LPI_NONE; index = lpi_waiter_at(hub, index)->sibling)
        *(lpi_requested *)lpi_at(&hub->requested,
                                 lpi_waiter_at(hub, index)->from.requested) =
            ask->requested[i++];
}

/* Drop the pages that were fetched for polls which are served by now. */
static void lpi_hub_drop_pages(lpi_hub *hub, const lpi_cursor *at,
                               uint32_t count)
{
    LPI_HELD(hub);
    uint32_t i;
    for (i = 0; i < count; i++) {
        lpi_remote *r = lpi_channel_at(hub, at[i].channel)->remote;
        if (!r->fetching) lpi_remote_drop(hub, &r->page);
    }
}

/* One of a fetching poll's channels was opened: if that was all it needs, judge
   the poll, and answer it or park it. */
static void lpi_hub_fetched(lpi_hub *hub, lpi_batch *batch, lpi_wait *wait,
                            uint64_t now_ms)
{
    LPI_HELD(hub);
    lpi_poll_request ask;
    lpi_cursor at[LPI_POLL_CHANNELS];
    uint64_t until_ms;
    lpi_judged judged;
    lpi_hub_recall(hub, wait, &ask, at);
    ask.now_ms = now_ms;
    judged = lpi_hub_judge(hub, &ask, at);
    if (judged == LPI_MUST_FETCH) {
        lpi_hub_remember(hub, wait, &ask);
        return;
    }
    lpi_waiters_remove(hub, wait, now_ms);
    wait->fetching = 0;
    if (ask.basic) wait->reset = at[0].reason & 3u;
    until_ms = ask.requested[0].until_ms;
    if (judged == LPI_MAY_WAIT && now_ms < until_ms && !wait->stream &&
        wait->limit &&
        !lpi_waiters_add(hub, &ask, wait, at)) {
        lpi_decision *parked = &batch->parked[batch->parked_count++];
        parked->connection = ask.connection;
        parked->wait_ms = (uint32_t)(until_ms - now_ms);
        parked->ends_ms = ask.requested[0].ends_ms;
    } else {
        lpi_waiters_unpark(hub, wait, now_ms);
        lpi_batch_add(hub, batch, ask.connection, wait, at, ask.count);
    }
    lpi_hub_drop_pages(hub, at, ask.count);
}

/* Serve the polls of the list that cannot be judged yet. 1 if there was no room
   for some. */
static int lpi_hub_take_fetching(lpi_hub *hub, const lpi_waiter_list *list,
                                 lpi_batch *batch, uint64_t now_ms)
{
    LPI_HELD(hub);
    uint32_t index = list->fetching.head;
    while (index != LPI_NONE) {
        const lpi_waiter *waiter = lpi_waiter_at(hub, index);
        lpi_wait *wait = lpi_wait_at(hub, list->loop, waiter->connection);
        if (lpi_batch_is_full(batch, wait)) return 1;
        index = waiter->link.next;
        lpi_hub_fetched(hub, batch, wait, now_ms);
    }
    return 0;
}

/* Release the polls of the list that are behind, or all of them if they are to
   be rechecked. 1 if there was no room for some. */
static int lpi_hub_take_parked(lpi_hub *hub, lpi_waiter_list *list,
                               lpi_batch *batch, uint64_t now_ms)
{
    LPI_HELD(hub);
    const lpi_channel *ch = lpi_channel_at(hub, list->channel);
    while (list->parked.head != LPI_NONE) {
        const lpi_waiter *waiter = lpi_waiter_at(hub, list->parked.head);
        uint32_t connection = waiter->connection;
        lpi_wait *wait = lpi_wait_at(hub, list->loop, connection);
        if (!list->recheck && !lpi_waiter_is_behind(waiter, ch)) return 0;
        if (lpi_batch_is_full(batch, wait)) return 1;
        lpi_hub_release(hub, batch, connection, wait, now_ms)->first =
            list->unseen;
        list->unseen = 0;
    }
    return 0;
}

/* Serve the loop's first ready list, for as long as the batch has room. */
static void lpi_hub_take_list(lpi_hub *hub, lpi_hub_loop *loop,
                              lpi_batch *batch, uint64_t now_ms)
{
    LPI_HELD(hub);
    uint32_t index = lpi_waiter_list_pop_ready(hub, loop);
    lpi_waiter_list *list = lpi_waiter_list_at(hub, index);
    int more;
    list->ready = 1; /* so that it is not dropped while it is served */
    batch->reply_shared = batch->reply_count;
    more = LPI_REMOTE(hub->stores)
               ? lpi_hub_take_fetching(hub, list, batch, now_ms) : 0;
    if (lpi_hub_take_parked(hub, list, batch, now_ms)) more = 1;
    list->ready = 0;
    if (more) lpi_waiter_list_make_ready(hub, index);
    else lpi_waiter_list_drop_if_empty(hub, index, now_ms);
}

/* --- sleeping and waking --- */

/* Is there something that a store, which is there, is to be sent? */
static int lpi_hub_has_work(lpi_hub *hub)
{
    LPI_HELD(hub);
    uint32_t k;
    for (k = 0; LPI_REMOTE(k < hub->store_count); k++) {
        const lpi_hub_store *store = &hub->stores[k];
        if (store->up && (store->left.length || store->scan != LPI_NONE ||
                          (store->first != LPI_NONE &&
                           store->opens < LPI_OPENS_MAX)))
            return 1;
    }
    return 0;
}

/* Has the first loop something to do that no other has? */
static int lpi_hub_has_first_work(lpi_hub *hub)
{
    LPI_HELD(hub);
    return hub->first_untold || lpi_hub_has_work(hub);
}

/* The loops that sleep though they have something to do, as a mask: each is in
   such a mask once until it has woken. */
static uint32_t lpi_hub_sleepers(lpi_hub *hub)
{
    LPI_HELD(hub);
    uint32_t i, mask = 0;
    for (i = 0; i < hub->loop_count; i++) {
        lpi_hub_loop *loop = &hub->loops[i];
        int wanted = loop->ready_first != LPI_NONE ||
                     (!i && (hub->sweep_moved || lpi_hub_has_first_work(hub)));
        if (!wanted || !loop->sleeping || loop->woken) continue;
        loop->woken = 1;
        mask |= 1u << i;
    }
    return mask;
}

/* Release the mutex, and signal the loops that now have something to do. */
static void lpi_hub_unlock_and_signal(lpi_hub *hub)
{
    uint32_t mask = lpi_hub_sleepers(hub);
    lpi_hub_unlock(hub);
    for (; mask; mask &= mask - 1)
        hub->os->wake_signal(hub->os->ctx,
                             hub->loops[lpi_lowest(mask)].wake);
}

/* --- refusals: the first of a status is logged at once, those of the next
   second together in one line --- */

enum { LPI_REFUSALS_MS = 1000 };

/* The record of that status. If there are too many, the last serves. */
static lpi_refusals *lpi_refusals_of(lpi_hub *hub, int status)
{
    LPI_HELD(hub);
    lpi_refusals *r = hub->refusals;
    while (r < hub->refusals + LPI_REFUSALS - 1 && r->why[0] &&
           r->status != status)
        r++;
    r->status = (uint16_t)status;
    return r;
}

static void lpi_refusals_copy(char *to, size_t size, lp_slice text)
{
    size_t n = text.length < size ? text.length : size - 1;
    if (n) memcpy(to, text.bytes, n);
    to[n] = 0;
}

/* When the next line of refusals may be due; UINT64_MAX if there are none. */
static uint64_t lpi_refusals_due(const lpi_hub *hub)
{
    LPI_HELD(hub);
    const lpi_refusals *r = hub->refusals, *end = r + LPI_REFUSALS;
    uint64_t due = UINT64_MAX;
    for (; r < end; r++)
        if (r->count && r->told_ms + LPI_REFUSALS_MS < due)
            due = r->told_ms + LPI_REFUSALS_MS;
    return due;
}

/* --- sweeps --- */

/* When the next sweep is due. Messages and channels may wait for LPI_SWEEP_MS
   more, so that sweeps are few. */
static uint64_t lpi_hub_next_sweep(lpi_hub *hub, uint64_t now_ms)
{
    LPI_HELD(hub);
    uint64_t age = hub->config->history_age_ms, next = UINT64_MAX;
    uint64_t refusals = lpi_refusals_due(hub);
    uint32_t wait;
    if (hub->events.head != LPI_NONE) return now_ms;
    if (age != LP_UNLIMITED && hub->oldest)
        next = hub->oldest->appended_us / 1000 + age;
    age = lpi_hub_idle_ms(hub);
    if (age != LP_UNLIMITED && hub->idle.head != LPI_NONE) {
        uint64_t idle = lpi_channel_at(hub, hub->idle.head)->idle_ms + age;
        if (idle < next) next = idle;
    }
    wait = lpi_wheel_wait(&hub->due);
    if (wait != UINT32_MAX && now_ms + wait < next) next = now_ms + wait;
    if (next < now_ms + LPI_SWEEP_MS) next = now_ms + LPI_SWEEP_MS;
    if (hub->vacated.head != LPI_NONE) {
        uint64_t told = lpi_channel_at(hub, hub->vacated.head)->vacated_ms +
                        hub->config->channel_linger_ms;
        if (told < next) next = told;
    }
    if (lpi_remote_resume_ms(hub) < next) next = lpi_remote_resume_ms(hub);
    return refusals < next ? refusals : next;
}

/* The channel with the next event for lp_watch; LPI_NONE if there is none
   yet. */
static uint32_t lpi_hub_next_event(lpi_hub *hub, uint64_t now_ms)
{
    LPI_HELD(hub);
    uint32_t index = hub->events.head;
    if (index != LPI_NONE) return index;
    index = hub->vacated.head;
    if (index != LPI_NONE &&
        lpi_channel_at(hub, index)->vacated_ms +
                hub->config->channel_linger_ms > now_ms)
        return LPI_NONE;
    return index;
}

/* --- the calls. The fields of the configuration that they obey are the limits
   and history's. --- */

/* 0 or -errno; in either case lpi_hub_free() may follow. */
static int lpi_hub_init(lpi_hub *hub, const lp_memory *memory,
                        const lp_config *config, const lp_os *os)
{
    int i;
    hub->memory = memory;
    hub->config = config;
    hub->os = os;
    lpi_slab_init(&hub->channels, memory, sizeof(lpi_channel));
    lpi_slab_init(&hub->lists, memory, sizeof(lpi_waiter_list));
    lpi_slab_init(&hub->waiters, memory, sizeof(lpi_waiter));
    lpi_slab_init(&hub->requested, memory, sizeof(lpi_requested));
    lpi_slab_init(&hub->counters, memory, sizeof(lpi_counter));
    lpi_slab_init(&hub->accounts, memory, sizeof(lpi_account));
    lpi_slab_init(&hub->names, memory, sizeof(lpi_name));
    lpi_slab_init(&hub->receipts, memory, sizeof(lpi_receipt));
    lpi_slab_init(&hub->extras, memory, sizeof(lpi_extra));
    lpi_wheel_init(&hub->due, &hub->extras, offsetof(lpi_extra, timer), 0);
    hub->policy = lpi_policy_of(config);
    lpi_links_init(&hub->idle_links, &hub->channels,
                   offsetof(lpi_channel, idle_link));
    lpi_links_init(&hub->watch_links, &hub->channels,
                   offsetof(lpi_channel, watch_link));
    lpi_links_init(&hub->list_links, &hub->lists,
                   offsetof(lpi_waiter_list, link));
    lpi_links_init(&hub->waiter_links, &hub->waiters,
                   offsetof(lpi_waiter, link));
    lpi_links_init(&hub->receipt_links, &hub->receipts,
                   offsetof(lpi_receipt, link));
    lpi_list_init(&hub->receipt_list);
    lpi_list_init(&hub->idle);
    lpi_list_init(&hub->vacated);
    lpi_list_init(&hub->events);
    for (i = 0; i < LPI_DELAYED; i++)
        hub->delayed[i].first = hub->delayed[i].last = LPI_NONE;
    hub->sweep_ms = UINT64_MAX;
    if (lpi_table_init(&hub->channel_table, &hub->channels) ||
        lpi_table_init(&hub->counter_table, &hub->counters) ||
        lpi_table_init(&hub->account_table, &hub->accounts) ||
        lpi_table_init(&hub->name_table, &hub->names) ||
        lpi_table_init(&hub->receipt_table, &hub->receipts) ||
        lpi_mutex_init(&hub->mutex))
        return -ENOMEM;
    hub->has_mutex = 1;
    return os->random(os->ctx, hub->hash_key, sizeof hub->hash_key);
}

/* A loop joins, before any other call. The lpi_wait of its connections stands
   at an offset of their records; `wake` is what wake_signal is called with. */
static void lpi_hub_join(lpi_hub *hub, uint32_t loop,
                         const lpi_slab *connections, size_t wait_offset,
                         int wake)
{
    lpi_hub_loop *l = &hub->loops[loop];
    l->connections = connections;
    l->wait_offset = wait_offset;
    l->wake = wake;
    l->ready_first = l->ready_last = LPI_NONE;
    if (hub->loop_count <= loop) hub->loop_count = loop + 1;
}

/* A connection comes from that address. If it may, *out is what the hub knows
   of it, until lpi_hub_dismiss(). */
static lpi_why lpi_hub_admit(lpi_hub *hub, const uint8_t address[16],
                             int trusted, lpi_wait *out)
{
    const lp_config *cfg = hub->config;
    uint64_t key = lpi_address_key(hub, address);
    uint32_t index = LPI_NONE;
    lpi_why why = LPI_WHY_NONE;
    lpi_hub_lock(hub);
    if (hub->stats.connections < cfg->connections_max)
        index = lpi_account_take(hub, key, trusted);
    if (index == LPI_NONE) {
        why = LPI_WHY_CONNECTIONS_MAX;
    } else if (!trusted) {
        uint32_t *own = &lpi_account_at(hub, index)->connections;
        if (*own < cfg->connections_per_address) ++*own;
        else why = LPI_WHY_CONNECTIONS_PER_ADDRESS;
        if (why) lpi_account_give(hub, index);
    }
    if (!why) hub->stats.connections++;
    lpi_hub_unlock(hub);
    memset(out, 0, sizeof *out);
    out->waiter = LPI_NONE;
    out->account = index;
    return why;
}

/* An admitted connection has ended. No poll of it waits. */
static void lpi_hub_dismiss(lpi_hub *hub, lpi_wait *wait, int trusted)
{
    lpi_hub_lock(hub);
    lpi_counter_let_go(hub, wait);
    if (!trusted) lpi_account_at(hub, wait->account)->connections--;
    lpi_account_give(hub, wait->account);
    hub->stats.connections--;
    lpi_hub_unlock(hub);
}

/* A trusted proxy speaks for that address: its connection counts there from now
   on, with `bytes` of an incomplete request. If that is refused, nothing has
   changed. */
static lpi_why lpi_hub_move(lpi_hub *hub, lpi_wait *wait,
                            const uint8_t address[16], int trusted,
                            size_t bytes)
{
    uint64_t key = lpi_address_key(hub, address);
    uint64_t budget = hub->config->partial_bytes_max;
    lpi_account *from, *to;
    uint32_t index = LPI_NONE;
    lpi_why why = LPI_WHY_NONE;
    lpi_hub_lock(hub);
    from = lpi_account_at(hub, wait->account);
    if (from->node.hash != key) {
        index = lpi_account_take(hub, key, trusted);
        if (index == LPI_NONE) why = LPI_WHY_MEMORY;
    }
    if (index != LPI_NONE) {
        to = lpi_account_at(hub, index);
        if (bytes && budget != LP_UNLIMITED &&
            !lpi_account_may(to, to->partial_bytes + bytes, budget)) {
            lpi_account_give(hub, index);
            why = LPI_WHY_CONNECTIONS_MAX;
        } else {
            from->partial_bytes -= bytes;
            to->partial_bytes += bytes;
            lpi_account_give(hub, wait->account);
            wait->account = index;
        }
    }
    lpi_hub_unlock(hub);
    return why;
}

/* The account's incomplete requests take `more` bytes more and `less` bytes
   less than before. 0, or -1 if they, or those of all accounts, are now over
   their limit. */
static int lpi_hub_count_partial(lpi_hub *hub, uint32_t account, size_t more,
                                 size_t less)
{
    uint64_t budget = hub->config->partial_bytes_max;
    lpi_account *a;
    int over;
    lpi_hub_lock(hub);
    a = lpi_account_at(hub, account);
    hub->partial_bytes += more;
    hub->partial_bytes -= less;
    a->partial_bytes += more;
    a->partial_bytes -= less;
    over = budget != LP_UNLIMITED &&
           (hub->partial_bytes > budget ||
            !lpi_account_may(a, a->partial_bytes, budget));
    lpi_hub_unlock(hub);
    return -over;
}

/* Count `all` more bytes of send buffers for the server, and `own` for the
   account. 0, or -1 with nothing changed if either would be over its limit. */
static int lpi_hub_pin(lpi_hub *hub, uint32_t account, size_t all, size_t own)
{
    uint64_t budget = hub->config->history_bytes;
    lpi_account *a;
    int may;
    lpi_hub_lock(hub);
    a = lpi_account_at(hub, account);
    may = budget == LP_UNLIMITED ||
          (hub->stats.pinned_bytes + all <= budget / 2 &&
           lpi_account_may(a, a->pinned_bytes + own, budget / 2));
    if (may) {
        hub->stats.pinned_bytes += all;
        a->pinned_bytes += own;
    }
    lpi_hub_unlock(hub);
    return may - 1;
}

static void lpi_hub_unpin(lpi_hub *hub, uint32_t account, size_t all,
                          size_t own)
{
    lpi_hub_lock(hub);
    hub->stats.pinned_bytes -= all;
    lpi_account_at(hub, account)->pinned_bytes -= own;
    lpi_hub_unlock(hub);
}

/* Ask for the policy of the poll's i-th channel. */
static lpi_why lpi_hub_ask_policy(const lpi_hub *hub, lpi_poll_request *ask,
                                  uint32_t i)
{
    if (lpi_policy_ask(hub->config, ask->names[i], &ask->policies[i]) != LP_OK)
        return LPI_WHY_REFUSED;
    ask->asked |= 1u << i;
    ask->now_ms = hub->os->monotonic_us(hub->os->ctx) / 1000;
    return LPI_WHY_NONE;
}

/* A poll comes. Unless it is refused, either the batch, which was empty, holds
   its reply, or it waits: until lpi_hub_take() releases it, lpi_hub_expire() or
   lpi_hub_leave(). On its loop's thread, as these are. */
static lpi_why lpi_hub_poll(lpi_hub *hub, lpi_poll_request *ask, lpi_wait *wait,
                            lpi_batch *batch)
{
    lpi_cursor at[LPI_POLL_CHANNELS];
    lpi_why why;
    uint32_t i;
    ask->client_key = lpi_client_key(hub, ask->client_id, ask->address);
    for (i = 0; i < ask->count; i++)
        ask->hashes[i] = lpi_channel_hash(hub, ask->names[i]);
    ask->asked = 0;
    do {
        lpi_hub_lock(hub);
        why = lpi_hub_find_channels(hub, ask, at, &i);
        if (!why) why = lpi_hub_recheck_refusal(hub, ask, at);
        if (!why) why = lpi_hub_park_or_reply(hub, ask, wait, at, batch);
        if (lpi_whys[why].status == 429) hub->stats.refused++;
        if (LPI_REMOTE(hub->stores)) lpi_hub_unlock_and_signal(hub);
        else lpi_hub_unlock(hub);
    } while (why == LPI_WHY_POLICY && !(why = lpi_hub_ask_policy(hub, ask, i)));
    return why;
}

/* The timeout of a waiting poll has passed: the batch holds its reply. One that
   could not be judged yet is refused. */
static lpi_why lpi_hub_expire(lpi_hub *hub, uint32_t connection, lpi_wait *wait,
                              uint64_t now_ms, lpi_batch *batch)
{
    lpi_why why = LPI_WHY_NONE;
    lpi_hub_lock(hub);
    if (wait->fetching) {
        lpi_waiters_unpark(hub, wait, now_ms);
        why = LPI_WHY_FETCHING;
    } else {
        lpi_hub_release(hub, batch, connection, wait, now_ms);
    }
    lpi_hub_unlock(hub);
    return why;
}

/* A waiting poll ends without an answer. */
static void lpi_hub_leave(lpi_hub *hub, lpi_wait *wait, uint64_t now_ms)
{
    lpi_hub_lock(hub);
    lpi_waiters_unpark(hub, wait, now_ms);
    lpi_hub_unlock(hub);
}

/* Fill the batch with replies to polls of the loop that have something to be
   told, a part of a large fan-out at a time; lists take turns. 1 if there may
   be more. */
static int lpi_hub_take(lpi_hub *hub, uint32_t loop, uint64_t now_ms,
                        lpi_batch *batch)
{
    lpi_hub_loop *l = &hub->loops[loop];
    int lists = LPI_BATCH, more;
    lpi_hub_lock(hub);
    while (lists-- && batch->recipient_count < LPI_BATCH / 2 &&
           l->ready_first != LPI_NONE)
        lpi_hub_take_list(hub, l, batch, now_ms);
    more = l->ready_first != LPI_NONE;
    lpi_hub_unlock(hub);
    return more;
}

/* Append a chain of messages, on any thread. The caller keeps it if this
   fails. */
static lp_result lpi_hub_publish(lpi_hub *hub, lp_slice channel,
                                 lpi_message *first, uint64_t now_us,
                                 lp_published *out)
{
    lpi_wanted want;
    lp_policy policy;
    lp_result result;
    uint32_t index;
    want.name = channel;
    want.hash = lpi_channel_hash(hub, channel);
    want.policy = NULL;
    do {
        lpi_hub_lock(hub);
        result = hub->stopped ? LP_ERR_STOPPED
                              : lpi_hub_channel(hub, &want, now_us / 1000,
                                                &index);
        if (result == LP_OK)
            result = lpi_channel_append(hub, index, first, now_us, out);
        if (result == LP_OK) lpi_channel_wake(hub, lpi_channel_at(hub, index));
        lpi_hub_unlock_and_signal(hub);
        if (result != LP_PENDING) break;
        want.policy = &policy;
        result = lpi_policy_ask(hub->config, channel, &policy);
        now_us = hub->os->monotonic_us(hub->os->ctx);
    } while (result == LP_OK);
    return result;
}

/* A connection reads for the client of that name from now on, or for none if
   that has no bytes; *index is LPI_NONE, or the name that it had before, and
   receives the new one. 0, or -1 without memory. */
static int lpi_hub_name_reader(lpi_hub *hub, lp_slice name, uint32_t *index)
{
    uint32_t before = *index;
    lpi_hub_lock(hub);
    *index = name.bytes ? lpi_name_take(hub, name) : LPI_NONE;
    if (before != LPI_NONE) lpi_name_give(hub, before);
    lpi_hub_unlock(hub);
    return name.bytes && *index == LPI_NONE ? -1 : 0;
}

/* A reply with these messages was handed to the client of that name. */
static void lpi_hub_handed(lpi_hub *hub, uint32_t name, lpi_message **messages,
                           uint32_t count)
{
    uint32_t i;
    lpi_hub_lock(hub);
    for (i = 0; i < count; i++) {
        uint32_t channel = messages[i]->channel; /* while that holds it */
        if (lpi_slab_has(&hub->channels, channel) &&
            lpi_channel_holds(lpi_channel_at(hub, channel), messages[i]))
            lpi_receipt_add(hub, messages[i], name);
    }
    lpi_hub_unlock(hub);
}

/* Whom the message was handed to; see lp_receipts_read(). */
static lp_result lpi_hub_receipts(lpi_hub *hub, lp_slice channel,
                                  const lpi_requested *id, uint64_t now_ms,
                                  lp_receipts *page)
{
    uint64_t hash = lpi_channel_hash(hub, channel);
    lp_result result = LP_ERR_NOT_FOUND;
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_channel_find(hub, channel, hash, now_ms);
    if (index != LPI_NONE) {
        const lpi_message *m =
            lpi_channel_of_id(lpi_channel_at(hub, index), id);
        if (m) {
            lpi_receipt_copy(hub, m, page);
            result = LP_OK;
        }
    }
    lpi_hub_unlock_and_signal(hub);
    return result;
}

/* Drop the channel's history, on any thread. */
static lp_result lpi_hub_delete(lpi_hub *hub, lp_slice channel, uint64_t now_ms)
{
    uint64_t hash = lpi_channel_hash(hub, channel);
    lp_result result = LP_ERR_STOPPED;
    uint32_t index = LPI_NONE;
    lpi_hub_lock(hub);
    if (!hub->stopped) {
        index = lpi_channel_find(hub, channel, hash, now_ms);
        result = LP_ERR_NOT_FOUND;
    }
    if (index != LPI_NONE) result = lpi_channel_renew(hub, index, now_ms);
    if (result == LP_OK) lpi_channel_wake(hub, lpi_channel_at(hub, index));
    lpi_hub_unlock_and_signal(hub);
    return result;
}

/* How many rechecks there were, on any thread: to be looked at before a poll's
   access is asked for. */
static uint32_t lpi_hub_rechecks(const lpi_hub *hub)
{
    return lpi_atomic_get(&hub->rechecks);
}

/* Release all who wait on the channel, on any thread. */
static void lpi_hub_recheck(lpi_hub *hub, lp_slice channel, uint64_t now_ms)
{
    uint64_t hash = lpi_channel_hash(hub, channel);
    uint32_t index, list;
    lpi_hub_lock(hub);
    lpi_atomic_set(&hub->rechecks, hub->rechecks + 1);
    index = lpi_channel_find(hub, channel, hash, now_ms);
    if (index == LPI_NONE) { /* somebody may be about to make it */
        hub->forgotten_recheck = hub->rechecks;
    } else {
        lpi_channel *ch = lpi_channel_at(hub, index);
        ch->rechecked = hub->rechecks;
        for (list = ch->lists.head; list != LPI_NONE;
             list = lpi_waiter_list_at(hub, list)->link.next) {
            lpi_waiter_list_at(hub, list)->recheck = 1;
            lpi_waiter_list_make_ready(hub, list);
        }
    }
    lpi_hub_unlock_and_signal(hub);
}

static lp_result lpi_hub_describe(lpi_hub *hub, lp_slice channel,
                                  uint64_t now_ms, lp_channel_info *out)
{
    uint64_t hash = lpi_channel_hash(hub, channel);
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_channel_find(hub, channel, hash, now_ms);
    if (index != LPI_NONE)
        lpi_channel_describe(hub, lpi_channel_at(hub, index), out);
    lpi_hub_unlock_and_signal(hub);
    return index == LPI_NONE ? LP_ERR_NOT_FOUND : LP_OK;
}

enum { LPI_READ_MAX = 64 }; /* messages that are taken in one call */

/* The newest messages of a channel, as they are taken: from the end of the
   array to its start. */
typedef struct lpi_reading {
    lpi_message **messages; /* with a reference each, from `first` on        */
    uint32_t first;         /* the size of the array to begin with           */
    int begun;
    uint64_t epoch, seq;    /* of the next one to be taken                   */
} lpi_reading;

/* Take some more, the newest first, so that what is dropped meanwhile leaves no
   gap. 1 if there are more. */
static int lpi_hub_read(lpi_hub *hub, lp_slice channel, uint64_t now_ms,
                        lpi_reading *r)
{
    uint64_t hash = lpi_channel_hash(hub, channel), floor = UINT64_MAX;
    uint32_t index, left = LPI_READ_MAX;
    lpi_hub_lock(hub);
    index = lpi_channel_find(hub, channel, hash, now_ms);
    if (index != LPI_NONE) {
        const lpi_channel *ch = lpi_channel_at(hub, index);
        if (!r->begun) r->seq = ch->last;
        if (!r->begun) r->epoch = ch->epoch;
        if (r->epoch == ch->epoch) floor = lpi_channel_ring_floor(ch);
        r->begun = 1;
        for (; left && r->first && r->seq > floor; left--, r->seq--) {
            lpi_message *m = lpi_channel_message(ch, r->seq);
            if (!m->length) continue;
            lpi_atomic_add(&m->refs, 1);
            r->messages[--r->first] = m;
        }
    }
    lpi_hub_unlock_and_signal(hub);
    return !left && r->first;
}

enum { LPI_LIST_MAX = 1024 }; /* records that are looked at in one call */

/* Describe up to `max` channels from *position on; see lp_channels_read(). */
static uint32_t lpi_hub_list(lpi_hub *hub, uint64_t now_ms, uint32_t *position,
                             lp_channel_info *out, uint32_t max)
{
    uint32_t index = *position, looks = LPI_LIST_MAX, n = 0, end;
    lpi_hub_lock(hub);
    end = hub->channels.chunk_count * LPI_CHUNK;
    for (; index < end && n < max && looks--; index++) {
        const lpi_channel *ch;
        if (!lpi_slab_has(&hub->channels, index)) continue;
        ch = lpi_channel_at(hub, index);
        if (!ch->name_length || ch->forgotten ||
            lpi_channel_refresh(hub, index, now_ms) == LPI_NONE)
            continue;
        lpi_channel_describe(hub, ch, &out[n++]);
    }
    *position = index < end ? index : 0;
    lpi_hub_unlock_and_signal(hub);
    return n;
}

static void lpi_hub_free_stores(lpi_hub *hub)
{
    uint32_t k;
    for (k = 0; k < hub->store_count; k++)
        lpi_text_free(&hub->stores[k].left);
    lpi_free(hub->memory, hub->stores, hub->store_count * sizeof *hub->stores);
    hub->stores = NULL;
    hub->store_count = 0;
}

#ifndef LONGPOLL_NO_REDIS

/* --- the calls of the stores that are elsewhere (>>redis), on the first loop's
   thread --- */

/* Before any other call: channels live in that many stores. 0 or -ENOMEM. */
static int lpi_hub_add_stores(lpi_hub *hub, uint32_t count)
{
    uint32_t k;
    hub->stores = (lpi_hub_store *)lpi_alloc_zero(hub->memory,
                                                  count * sizeof *hub->stores);
    if (!hub->stores) return -ENOMEM;
    hub->store_count = count;
    for (k = 0; k < count; k++) {
        lpi_hub_store *store = &hub->stores[k];
        store->first = store->last = store->scan = LPI_NONE;
        store->down_ms = UINT64_MAX - LPI_AWAY_MS; /* until the loop runs */
        lpi_text_init(&store->left, hub->memory);
    }
    return 0;
}

/* The store is connected: what was known of its channels is learnt again. */
static void lpi_hub_store_up(lpi_hub *hub, uint32_t k)
{
    lpi_hub_store *store = &hub->stores[k];
    lpi_hub_lock(hub);
    store->up = 1;
    store->connection++;
    store->opens = 0;
    store->scan = 0;
    lpi_text_clear(&store->left);
    hub->stats.redis_up++;
    hub->stats.redis_connects++;
    lpi_hub_unlock(hub);
}

/* The store is not connected any more; or, at the start, not yet. */
static void lpi_hub_store_down(lpi_hub *hub, uint32_t k, uint64_t now_ms)
{
    lpi_hub_store *store = &hub->stores[k];
    lpi_hub_lock(hub);
    if (store->up) hub->stats.redis_up--;
    store->up = 0;
    store->down_ms = now_ms;
    lpi_hub_unlock(hub);
}

/* A heartbeat of the store has been answered. */
static void lpi_hub_store_beat(lpi_hub *hub, uint32_t k, uint64_t us)
{
    lpi_hub_lock(hub);
    hub->stores[k].round_trip_us = us;
    lpi_hub_unlock(hub);
}

/* What the store is to be sent: some commands, and before them the end of news
   of the channels in *left, each behind a byte with its length. */
static void lpi_hub_store_work(lpi_hub *hub, uint32_t k, uint64_t now_ms,
                               lpi_work_batch *out, lp_text *left)
{
    lpi_hub_store *store = &hub->stores[k];
    lp_text text;
    lpi_hub_lock(hub);
    text = store->left;
    store->left = *left;
    *left = text;
    lpi_remote_scan(hub, k, now_ms);
    lpi_remote_work(hub, k, out);
    lpi_hub_unlock(hub);
}

static uint32_t lpi_hub_find(lpi_hub *hub, lp_slice name, uint64_t now_ms)
{
    LPI_HELD(hub);
    return lpi_channel_find(hub, name, lpi_channel_hash(hub, name), now_ms);
}

/* The name of a channel that an open is under way for, in `text`, which has
   room for LPI_CHANNEL_BYTES. */
static lp_slice lpi_hub_name(lpi_hub *hub, uint32_t index, char *text)
{
    lp_slice name;
    lpi_hub_lock(hub);
    name = lpi_channel_name(lpi_channel_at(hub, index));
    memcpy(text, name.bytes, name.length);
    lpi_hub_unlock(hub);
    return lpi_slice(text, name.length);
}

/* News of the channel come from now on. */
static void lpi_hub_subscribed(lpi_hub *hub, lp_slice name, uint64_t now_ms)
{
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_hub_find(hub, name, now_ms);
    if (index != LPI_NONE) {
        lpi_remote *r = lpi_channel_at(hub, index)->remote;
        if (lpi_remote_is_current(hub, r) && r->state == LPI_SUBSCRIBING) {
            r->state = LPI_OPENING;
            lpi_remote_want_open(hub, index, lpi_remote_next_open(r));
        }
    }
    lpi_hub_unlock(hub);
}

/* An open is answered; or with opened NULL it has failed, and is sent again
   later. */
static void lpi_hub_opened(lpi_hub *hub, uint32_t index,
                           const lpi_opened *opened, uint64_t now_ms)
{
    lpi_remote *r;
    lpi_hub_lock(hub);
    r = lpi_channel_at(hub, index)->remote;
    r->under_way = 0;
    hub->stores[r->store].opens--;
    if (opened) {
        r->opens_done = r->opens_sent;
        lpi_remote_opened(hub, index, opened, now_ms);
        if ((int32_t)(r->opens_wanted - r->opens_done) > 0)
            lpi_remote_queue(hub, index); /* one was wanted meanwhile */
    } else {
        lpi_remote_delay(hub, index, LPI_DELAYED_FAILED, now_ms);
    }
    lpi_hub_unlock_and_signal(hub);
}

/* Is that message of the channel not here yet, though it should be? -1 if
   nobody here knows the channel. */
static int lpi_hub_lacks(lpi_hub *hub, lp_slice name, uint64_t epoch,
                         uint64_t seq, uint64_t now_ms)
{
    int lacks = -1;
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_hub_find(hub, name, now_ms);
    if (index != LPI_NONE) {
        const lpi_channel *ch = lpi_channel_at(hub, index);
        lacks = lpi_remote_is_current(hub, ch->remote) &&
                ch->remote->state >= LPI_OPENING &&
                !(ch->remote->known && ch->epoch == epoch && seq <= ch->last);
    }
    lpi_hub_unlock(hub);
    return lacks;
}

/* A message has come, sealed; it is taken over. Returns how many polls it
   woke, or has woken when it came another way. */
static uint32_t lpi_hub_append(lpi_hub *hub, lp_slice name, lpi_message *m,
                               uint64_t now_ms)
{
    uint32_t index, woken = 0;
    lpi_channel *ch = NULL;
    int ours;
    lpi_hub_lock(hub);
    index = lpi_hub_find(hub, name, now_ms);
    if (index != LPI_NONE) ch = lpi_channel_at(hub, index);
    if (!ch || !lpi_remote_is_current(hub, ch->remote) ||
        ch->remote->state < LPI_OPENING) {
        lpi_message_unref(hub->memory, m);
        lpi_hub_unlock(hub);
        return 0;
    }
    ours = ch->remote->known && lpi_remote_is_of_epoch(ch, m);
    if (ours && m->seq == ch->last + 1) {
        uint64_t seq = m->seq;
        lpi_remote_append(hub, index, m, now_ms);
        if (ch->last == seq && ch->held) /* else it was not kept */
            woken = lpi_channel_message(ch, seq)->woken;
        lpi_remote_take_early(hub, index, now_ms);
        lpi_channel_wake(hub, ch);
    } else if (ours && m->seq <= ch->last) {
        if (m->seq > lpi_channel_ring_floor(ch))
            woken = lpi_channel_message(ch, m->seq)->woken;
        lpi_message_unref(hub->memory, m);
    } else {
        if (!ours && ch->remote->state == LPI_LIVE)
            lpi_remote_reopen(hub, index);
        lpi_remote_keep_early(hub, index, m, now_ms);
    }
    lpi_hub_unlock_and_signal(hub);
    return woken;
}

/* A message that was published here is in its store. */
static void lpi_hub_stored(lpi_hub *hub, lpi_message *m)
{
    if (!hub->config->after_publish.tell) return;
    lpi_hub_lock(hub);
    lpi_hub_published(hub, m);
    lpi_hub_unlock(hub);
}

/* A message of the channel has come, and could not be kept. */
static void lpi_hub_lost(lpi_hub *hub, lp_slice name, uint64_t now_ms)
{
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_hub_find(hub, name, now_ms);
    if (index != LPI_NONE) {
        lpi_remote_doubt(lpi_channel_at(hub, index)->remote);
        lpi_remote_delay(hub, index, LPI_DELAYED_GAP, now_ms);
    }
    lpi_hub_unlock_and_signal(hub);
}

/* The channel's history was dropped in its store, which gave it that epoch. */
static void lpi_hub_renewed(lpi_hub *hub, lp_slice name, uint64_t epoch,
                            uint64_t now_ms)
{
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_hub_find(hub, name, now_ms);
    if (index != LPI_NONE) {
        const lpi_channel *ch = lpi_channel_at(hub, index);
        if (lpi_remote_is_current(hub, ch->remote) &&
            ch->remote->state >= LPI_OPENING &&
            !(ch->remote->known && ch->epoch == epoch))
            lpi_remote_reopen(hub, index);
    }
    lpi_hub_unlock_and_signal(hub);
}

/* The highest timestamp that any store ever gave. */
static uint64_t lpi_hub_seen_us(lpi_hub *hub, uint64_t us)
{
    lpi_hub_lock(hub);
    us = hub->forgotten_us = lpi_max64(hub->forgotten_us, us);
    lpi_hub_unlock(hub);
    return us;
}

/* What a channel of that name may take, on any thread: what it has been made
   with, or else what the hook says. */
static lp_result lpi_hub_policy(lpi_hub *hub, lp_slice channel, uint64_t now_ms,
                                lp_policy *out)
{
    uint64_t hash = lpi_channel_hash(hub, channel);
    uint32_t index;
    if (!hub->config->policy.ask) {
        *out = hub->policy;
        return LP_OK;
    }
    lpi_hub_lock(hub);
    index = lpi_channel_find(hub, channel, hash, now_ms);
    if (index != LPI_NONE)
        *out = *lpi_channel_policy(hub, lpi_channel_at(hub, index));
    lpi_hub_unlock_and_signal(hub);
    return index != LPI_NONE ? LP_OK
                             : lpi_policy_ask(hub->config, channel, out);
}

static void lpi_hub_count_unknown(lpi_hub *hub, uint32_t count)
{
    lpi_hub_lock(hub);
    hub->stats.redis_unknown += count;
    lpi_hub_unlock(hub);
}

#endif /* LONGPOLL_NO_REDIS */

/* --- the calls of the loops --- */

/* The loop is about to sleep: what is published from now on signals it. Returns
   whether it has work already; *sweep_ms is when the first loop is to sweep. */
static int lpi_hub_sleep(lpi_hub *hub, uint32_t loop, const lpi_counts *counts,
                         uint64_t *sweep_ms)
{
    lpi_hub_loop *l = &hub->loops[loop];
    int work;
    lpi_hub_lock(hub);
    l->counts = *counts;
    work = l->ready_first != LPI_NONE;
    if (!loop) {
        if (lpi_hub_has_first_work(hub)) work = 1;
        *sweep_ms = hub->sweep_ms;
        hub->sweep_moved = 0;
    }
    l->sleeping = !work;
    lpi_hub_unlock_and_signal(hub);
    return work;
}

/* The loop has woken. */
static void lpi_hub_wake(lpi_hub *hub, uint32_t loop)
{
    lpi_hub_lock(hub);
    hub->loops[loop].sleeping = hub->loops[loop].woken = 0;
    lpi_hub_unlock(hub);
}

/* Drop messages and channels that are past their age: at most LPI_SWEEP_MAX, so
   that nobody waits long for the mutex. The first loop calls it when
   lpi_hub_sleep() has said. */
static void lpi_hub_sweep(lpi_hub *hub, uint64_t now_ms)
{
    uint32_t left = LPI_SWEEP_MAX, i;
    lpi_hub_lock(hub);
    while (left && hub->oldest && lpi_message_is_old(hub, hub->oldest, now_ms))
        lpi_channel_evict(hub, hub->oldest, 1, now_ms), left--;
    for (; left && (i = lpi_wheel_pop(&hub->due, (uint32_t)now_ms)) != LPI_NONE;
         left--) {
        i = lpi_extra_at(hub, i)->channel;
        if (lpi_channel_refresh(hub, i, now_ms) != LPI_NONE)
            lpi_channel_arm(hub, i, now_ms);
    }
    if (LPI_REMOTE(hub->stores)) lpi_remote_resume(hub, now_ms);
    for (; left && hub->idle.head != LPI_NONE; left--) {
        uint32_t index = hub->idle.head;
        lpi_channel *ch = lpi_channel_at(hub, index);
        if (!lpi_channel_is_idle_long(hub, ch, now_ms)) break;
        if (lpi_channel_is_forgettable(hub, ch, now_ms)) {
            lpi_channel_forget(hub, index);
            continue;
        }
        /* An answer that names it is to come: look again later. */
        ch->idle_ms = now_ms + LPI_SWEEP_MS;
        lpi_list_remove(&hub->idle, &hub->idle_links, index);
        lpi_list_append(&hub->idle, &hub->idle_links, index);
    }
    hub->sweep_ms = left ? lpi_hub_next_sweep(hub, now_ms) : now_ms;
    lpi_hub_unlock(hub);
}

/* The next event to be reported, and in `name` (room for LPI_CHANNEL_BYTES) its
   channel. 0 if there is none yet. */
static int lpi_hub_take_event(lpi_hub *hub, uint64_t now_ms,
                              lp_channel_event *event, char *name,
                              size_t *length)
{
    lpi_channel *ch;
    uint32_t index;
    lpi_hub_lock(hub);
    index = lpi_hub_next_event(hub, now_ms);
    if (index != LPI_NONE) {
        ch = lpi_channel_at(hub, index);
        memcpy(name, ch->name, ch->name_length);
        *length = ch->name_length;
        *event = ch->announced ? LP_CHANNEL_VACATED : LP_CHANNEL_OCCUPIED;
        ch->announced = !ch->announced;
        ch->watched = ch->announced;
        if (!ch->forgotten || !ch->announced) { /* else VACATED is still due */
            if (ch->event_due)
                lpi_list_remove(&hub->events, &hub->watch_links, index);
            ch->event_due = 0;
            if (ch->forgotten) lpi_channel_free(hub, index);
            else lpi_channel_update_lists(hub, index, now_ms);
        }
    }
    lpi_hub_unlock(hub);
    return index != LPI_NONE;
}

/* Take the messages that lp_after_publish is to be told of, through
   `next_untold`, with a reference each. */
static lpi_message *lpi_hub_take_untold(lpi_hub *hub)
{
    lpi_message *first;
    lpi_hub_lock(hub);
    first = hub->first_untold;
    hub->first_untold = NULL;
    lpi_hub_unlock(hub);
    return first;
}

/* Record for the log that a client at that address was refused. */
static void lpi_hub_note_refusal(lpi_hub *hub, int status, lp_slice why,
                                 lp_slice detail, const uint8_t address[16],
                                 uint64_t now_ms)
{
    lpi_refusals *r;
    lpi_hub_lock(hub);
    r = lpi_refusals_of(hub, status);
    r->count++;
    lpi_refusals_copy(r->why, sizeof r->why, why);
    lpi_refusals_copy(r->detail, sizeof r->detail, detail);
    memcpy(r->address, address, 16);
    lpi_hub_want_sweep(hub, now_ms, LPI_REFUSALS_MS);
    lpi_hub_unlock(hub);
}

/* Take refusals that may be logged now: 1, or 0 if there are none. */
static int lpi_hub_take_refusals(lpi_hub *hub, uint64_t now_ms,
                                 lpi_refusals *out)
{
    lpi_refusals *r = hub->refusals, *end = r + LPI_REFUSALS;
    lpi_hub_lock(hub);
    while (r < end &&
           (!r->count || (r->told_ms && now_ms < r->told_ms + LPI_REFUSALS_MS)))
        r++;
    if (r < end) {
        *out = *r;
        r->count = 0;
        r->told_ms = now_ms;
    }
    lpi_hub_unlock(hub);
    return r < end;
}

static void lpi_hub_count_refused(lpi_hub *hub)
{
    lpi_hub_lock(hub);
    hub->stats.refused++;
    lpi_hub_unlock(hub);
}

/* Add what a loop has counted. */
static void lpi_hub_add_counts(lp_stats *out, const lpi_counts *counts)
{
    uint32_t i;
    out->requests += counts->requests;
    out->streams += (uint32_t)counts->streams;
    out->reply_bytes += counts->reply_bytes;
    for (i = 0; i < LP_STATUS_CLASSES; i++)
        out->replies[i] += counts->replies[i];
    for (i = 0; i < LP_REPLY_SIZES; i++)
        out->reply_sizes[i] += counts->reply_sizes[i];
}

/* All but the latencies, which are the loops'. */
static void lpi_hub_stats(lpi_hub *hub, lp_stats *out)
{
    uint32_t k;
    lpi_hub_lock(hub);
    *out = hub->stats;
    for (k = 0; k < hub->loop_count; k++)
        lpi_hub_add_counts(out, &hub->loops[k].counts);
    for (k = 0; k < hub->store_count; k++)
        out->redis_round_trip_us = lpi_max64(out->redis_round_trip_us,
                                             hub->stores[k].round_trip_us);
    lpi_hub_unlock(hub);
}

/* A loop has ended, which may be work for the first; after the last one nothing
   can be published any more. */
static void lpi_hub_loop_ended(lpi_hub *hub, uint32_t loop,
                               const lpi_counts *counts, int last)
{
    lpi_hub_lock(hub);
    hub->loops[loop].counts = *counts;
    if (last) hub->stopped = 1;
    lpi_hub_unlock_and_signal(hub);
}

/* No other thread is in a call any more, so that the mutex need not be taken,
   and no poll waits. */
static void lpi_hub_free(lpi_hub *hub)
{
    uint32_t i;
    if (!hub->memory) return;
    hub->held = 1;
    hub->holder = lpi_thread_self();
    for (i = 0; i < hub->loop_count; i++)
        while (hub->loops[i].ready_first != LPI_NONE)
            lpi_waiter_list_drop_if_empty(
                hub, lpi_waiter_list_pop_ready(hub, &hub->loops[i]), 0);
    while (hub->oldest) lpi_channel_evict(hub, hub->oldest, 0, 0);
    while (hub->idle.head != LPI_NONE) lpi_channel_forget(hub, hub->idle.head);
    while ((i = hub->events.head) != LPI_NONE) {
        lpi_list_remove(&hub->events, &hub->watch_links, i);
        lpi_channel_free(hub, i);
    }
    lpi_hub_free_stores(hub);
    if (hub->has_mutex) lpi_mutex_free(&hub->mutex);
    lpi_table_free(&hub->channel_table);
    lpi_table_free(&hub->counter_table);
    lpi_table_free(&hub->account_table);
    lpi_table_free(&hub->name_table);
    lpi_table_free(&hub->receipt_table);
    lpi_slab_free(&hub->channels);
    lpi_slab_free(&hub->lists);
    lpi_slab_free(&hub->waiters);
    lpi_slab_free(&hub->requested);
    lpi_slab_free(&hub->counters);
    lpi_slab_free(&hub->accounts);
    lpi_slab_free(&hub->names);
    lpi_slab_free(&hub->receipts);
    lpi_slab_free(&hub->extras);
}

/* ==========================================================================
   D1  OS                                                                >>os

   The real operating system behind lp_os, but for its poller.

   Uses      >>address
   Promises  Sockets never block, and are closed on exec. No SIGPIPE is raised.
   ========================================================================== */

#ifndef MSG_NOSIGNAL
#define MSG_NOSIGNAL 0 /* SO_NOSIGPIPE serves instead */
#endif

/* A socket is created close-on-exec where the system can do that, since another
   thread may fork and exec at any time. lpi_prepare_fd() does it elsewhere. */
#ifdef SOCK_CLOEXEC
#define LPI_SOCK_FLAGS (SOCK_NONBLOCK | SOCK_CLOEXEC)
#else
#define LPI_SOCK_FLAGS 0
#endif

static uint64_t lpi_clock_us(int wall)
{
    struct timespec ts;
    clock_gettime(wall ? CLOCK_REALTIME : CLOCK_MONOTONIC, &ts);
    return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static uint64_t lpi_os_monotonic_us(void *ctx)
{
    (void)ctx;
    return lpi_clock_us(0);
}

static uint64_t lpi_os_wall_us(void *ctx)
{
    (void)ctx;
    return lpi_clock_us(1);
}

/* No generator is kept here, since a fork would copy its state. */
static int lpi_os_random(void *ctx, void *bytes, size_t size)
{
    (void)ctx;
#ifdef __linux__
    for (;;) {
        ssize_t n = getrandom(bytes, size, 0); /* all, for up to 256 bytes */
        if (n == (ssize_t)size) return 0;
        if (n < 0 && errno != EINTR) return -errno;
    }
#else
    arc4random_buf(bytes, size);
    return 0;
#endif
}

static socklen_t lpi_to_sockaddr(const lp_address *at,
                                 struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (lpi_address_is_v4(at->bytes)) {
        struct sockaddr_in *v4 = (struct sockaddr_in *)(void *)out;
        v4->sin_family = AF_INET;
        v4->sin_port = htons(at->port);
        memcpy(&v4->sin_addr, at->bytes + 12, 4);
        return sizeof *v4;
    } else {
        struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)(void *)out;
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(at->port);
        memcpy(&v6->sin6_addr, at->bytes, 16);
        return sizeof *v6;
    }
}

static void lpi_from_sockaddr(const struct sockaddr_storage *from,
                              lp_address *out)
{
    memset(out, 0, sizeof *out);
    if (from->ss_family == AF_INET) {
        const struct sockaddr_in *v4 =
            (const struct sockaddr_in *)(const void *)from;
        memcpy(out->bytes, lpi_mapped, 12);
        memcpy(out->bytes + 12, &v4->sin_addr, 4);
        out->port = ntohs(v4->sin_port);
    } else if (from->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 =
            (const struct sockaddr_in6 *)(const void *)from;
        memcpy(out->bytes, &v6->sin6_addr, 16);
        out->port = ntohs(v6->sin6_port);
    }
}

static int lpi_prepare_fd(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0) return -1;
    return fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int lpi_set_option(int fd, int level, int option, int value)
{
    return setsockopt(fd, level, option, &value, sizeof value);
}

/* TCP_NODELAY is set once, here: on Linux accepted sockets inherit it. */
static int lpi_os_listen(void *ctx, const lp_address *at, int backlog,
                         lp_address *bound)
{
    struct sockaddr_storage address;
    socklen_t length = lpi_to_sockaddr(at, &address);
    int fd = socket(address.ss_family, SOCK_STREAM | LPI_SOCK_FLAGS, 0), error;
    (void)ctx;
    if (fd < 0) return -errno;
    lpi_set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    lpi_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (address.ss_family == AF_INET6)
        lpi_set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
    if (!lpi_prepare_fd(fd) &&
        !bind(fd, (struct sockaddr *)&address, length) &&
        !listen(fd, backlog) &&
        !getsockname(fd, (struct sockaddr *)&address, &length)) {
        lpi_from_sockaddr(&address, bound);
        return fd;
    }
    error = errno;
    close(fd);
    return -error;
}

static int lpi_os_accept(void *ctx, int listener, lp_address *peer)
{
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    int fd;
    (void)ctx;
#ifdef __linux__
    fd = accept4(listener, (struct sockaddr *)&address, &length,
                 LPI_SOCK_FLAGS);
    if (fd < 0) return -errno;
#else
    fd = accept(listener, (struct sockaddr *)&address, &length);
    if (fd < 0) return -errno;
    lpi_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (lpi_prepare_fd(fd)) {
        close(fd);
        return -ECONNABORTED;
    }
#endif
#ifdef SO_NOSIGPIPE
    /* It fails if the peer is gone already, and then sending raises SIGPIPE. */
    if (lpi_set_option(fd, SOL_SOCKET, SO_NOSIGPIPE, 1)) {
        close(fd);
        return -ECONNABORTED;
    }
#endif
    lpi_from_sockaddr(&address, peer);
    return fd;
}

static long lpi_os_recv(void *ctx, int fd, void *bytes, size_t size)
{
    ssize_t n = recv(fd, bytes, size, 0);
    (void)ctx;
    return n < 0 ? -errno : (long)n;
}

enum { LPI_PARTS_MAX = 4 };

static long lpi_os_send(void *ctx, int fd, const lp_slice *parts, int count)
{
    struct iovec vectors[LPI_PARTS_MAX];
    struct msghdr message;
    ssize_t n;
    int i;
    (void)ctx;
    LP_ASSERT(count <= LPI_PARTS_MAX);
    if (count == 1) {
        n = send(fd, parts->bytes, parts->length, MSG_NOSIGNAL);
        return n < 0 ? -errno : (long)n;
    }
    memset(&message, 0, sizeof message);
    for (i = 0; i < count; i++) {
        vectors[i].iov_base = (void *)(uintptr_t)parts[i].bytes;
        vectors[i].iov_len = parts[i].length;
    }
    message.msg_iov = vectors;
    message.msg_iovlen = (__typeof__(message.msg_iovlen))count;
    n = sendmsg(fd, &message, MSG_NOSIGNAL);
    return n < 0 ? -errno : (long)n;
}

static int lpi_os_shutdown(void *ctx, int fd, uint32_t how)
{
    (void)ctx;
    return shutdown(fd, how & LP_READ ? SHUT_RDWR : SHUT_WR) ? -errno : 0;
}

static void lpi_os_close(void *ctx, int fd)
{
    (void)ctx;
    close(fd);
}

static int lpi_os_reserve(void *ctx)
{
    int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    (void)ctx;
    return fd < 0 ? -errno : fd;
}

#ifndef LONGPOLL_NO_REDIS

/* 0, or -errno if the socket cannot begin to connect. */
static int lpi_os_connect_fd(int fd, const struct sockaddr *to,
                             socklen_t length)
{
    if (lpi_prepare_fd(fd)) return -errno;
#ifdef SO_NOSIGPIPE
    if (lpi_set_option(fd, SOL_SOCKET, SO_NOSIGPIPE, 1)) return -errno;
#endif
    if (to->sa_family != AF_UNIX)
        lpi_set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (!connect(fd, to, length) || errno == EINPROGRESS) return 0;
    return -errno;
}

static int lpi_os_connect(void *ctx, const lp_address *to, const char *path)
{
    struct sockaddr_storage address;
    struct sockaddr_un *local = (struct sockaddr_un *)(void *)&address;
    socklen_t length;
    int fd, error;
    (void)ctx;
    if (path) {
        if (strlen(path) >= sizeof local->sun_path) return -ENAMETOOLONG;
        memset(local, 0, sizeof *local);
        local->sun_family = AF_UNIX;
        memcpy(local->sun_path, path, strlen(path) + 1);
        length = sizeof *local;
    } else {
        length = lpi_to_sockaddr(to, &address);
    }
    fd = socket(address.ss_family, SOCK_STREAM | LPI_SOCK_FLAGS, 0);
    if (fd < 0) return -errno;
    error = lpi_os_connect_fd(fd, (struct sockaddr *)&address, length);
    if (!error) return fd;
    close(fd);
    return error;
}

static int lpi_os_connected(void *ctx, int fd)
{
    int error = 0;
    socklen_t length = sizeof error;
    (void)ctx;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length)) return -errno;
    return -error;
}

/* getaddrinfo has errors of its own, which errno need not tell. */
static int lpi_os_resolve(void *ctx, const char *host, lp_address *out)
{
    struct sockaddr_storage first;
    struct addrinfo hints, *found = NULL;
    (void)ctx;
    memset(&hints, 0, sizeof hints);
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host, NULL, &hints, &found) || !found) return -ENOENT;
    memset(&first, 0, sizeof first);
    memcpy(&first, found->ai_addr, found->ai_addrlen);
    lpi_from_sockaddr(&first, out);
    freeaddrinfo(found);
    return 0;
}

#else
#define lpi_os_connect NULL
#define lpi_os_connected NULL
#define lpi_os_resolve NULL
#endif /* LONGPOLL_NO_REDIS */

/* A pipe, since write() may be called in a signal handler. */
static int lpi_os_wake_open(void *ctx, int fds[2])
{
    (void)ctx;
#ifdef SOCK_CLOEXEC /* a system that has it has pipe2 too */
    return pipe2(fds, O_NONBLOCK | O_CLOEXEC) ? -errno : 0;
#else
    {
        int error;
        if (pipe(fds)) return -errno;
        if (!lpi_prepare_fd(fds[0]) && !lpi_prepare_fd(fds[1])) return 0;
        error = errno;
        close(fds[0]);
        close(fds[1]);
        return -error;
    }
#endif
}

static void lpi_os_wake_signal(void *ctx, int fd)
{
    int saved = errno;
    ssize_t n = write(fd, "", 1); /* it may fail: a full pipe is readable */
    (void)ctx, (void)n;
    errno = saved;
}

static void lpi_os_wake_clear(void *ctx, int fd)
{
    char bytes[64];
    ssize_t n;
    (void)ctx;
    do n = read(fd, bytes, sizeof bytes);
    while (n == (ssize_t)sizeof bytes);
}

/* ==========================================================================
   D2  POLLER                                                        >>poller

   The poller of lp_os, on epoll or kqueue. It is level-triggered, so that what
   a step leaves unread is reported again. For that, epoll looks at whatever it
   has reported a second time, in the next wait: connections that are read have
   it done only when they ask (LP_EDGE), which is seldom.

   With a timeout, epoll_wait would set a kernel timer for each wait and cancel
   it when an event comes first. Instead a timerfd in the epoll set is set once
   for many waits: it may fire sooner than the present deadline, never later.
   Where there is no timerfd, epoll_wait is given the deadline in milliseconds.
   kevent() takes it in nanoseconds.

   Uses      >>os, for the clock
   Promises  No other section knows which of the two it is.
   ========================================================================== */

enum { LPI_EVENTS = 256 };

#ifndef LONGPOLL_KQUEUE

#define LPI_EVENT_TIMER UINT64_MAX /* unlike any tag, which has 32 bits */

/* Wait without the timer from now on. It is removed before it is closed, since
   while a child has a copy closing alone would leave it in the epoll set. */
static void lpi_poller_timer_close(lp_poller *poller)
{
    struct epoll_event event;
    if (poller->timer < 0) return;
    memset(&event, 0, sizeof event);
    epoll_ctl(poller->fd, EPOLL_CTL_DEL, poller->timer, &event);
    close(poller->timer);
    poller->timer = -1;
}

/* This may fail: without its timer a poller is slower, but works. */
static void lpi_poller_timer_open(lp_poller *poller)
{
    struct epoll_event event;
    poller->timer_us = UINT64_MAX;
    poller->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (poller->timer < 0) return;
    memset(&event, 0, sizeof event);
    event.events = (uint32_t)EPOLLIN;
    event.data.u64 = LPI_EVENT_TIMER;
    if (!epoll_ctl(poller->fd, EPOLL_CTL_ADD, poller->timer, &event)) return;
    close(poller->timer);
    poller->timer = -1;
}

/* Have the timer fire by until_us. 0, or -1 if there is no timer. */
static int lpi_poller_timer_set(lp_poller *poller, uint64_t until_us)
{
    struct itimerspec at;
    if (poller->timer < 0) return -1;
    if (poller->timer_us <= until_us) return 0; /* soon enough already */
    memset(&at, 0, sizeof at);
    at.it_value.tv_sec = (time_t)(until_us / 1000000);
    at.it_value.tv_nsec = (long)(until_us % 1000000) * 1000;
    if (timerfd_settime(poller->timer, TFD_TIMER_ABSTIME, &at, NULL)) {
        lpi_poller_timer_close(poller);
        return -1;
    }
    poller->timer_us = until_us;
    return 0;
}

/* The timer has fired. Until it is read it keeps the poller's own descriptor
   readable, on which a program may wait (lp_fd). */
static void lpi_poller_timer_clear(lp_poller *poller)
{
    uint64_t times;
    ssize_t n = read(poller->timer, &times, sizeof times);
    (void)n;
    poller->timer_us = UINT64_MAX;
}

/* The timeout for epoll_wait: -1 (none) if the timer ends the wait, else in
   milliseconds, rounded up so that no deadline is early. */
static int lpi_poller_wait_ms(lp_poller *poller, uint64_t until_us)
{
    uint64_t now_us, ms;
    if (!until_us) return 0;
    if (until_us == UINT64_MAX || !lpi_poller_timer_set(poller, until_us))
        return -1;
    now_us = lpi_clock_us(0);
    if (until_us <= now_us) return 0;
    ms = (until_us - now_us + 999) / 1000;
    return ms < INT32_MAX ? (int)ms : INT32_MAX;
}

static int lpi_os_poller_open(void *ctx, lp_poller *out)
{
    int fd = epoll_create1(EPOLL_CLOEXEC);
    (void)ctx;
    if (fd < 0) return -errno;
    out->fd = fd;
    lpi_poller_timer_open(out);
    return 0;
}

static int lpi_os_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag,
                             uint32_t was, uint32_t want)
{
    struct epoll_event event;
    int op = !was ? EPOLL_CTL_ADD : want ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;
    (void)ctx;
    memset(&event, 0, sizeof event);
    event.data.u32 = tag;
    if (want & LP_READ) event.events |= (uint32_t)EPOLLIN;
    if (want & LP_WRITE) event.events |= (uint32_t)EPOLLOUT;
    if (want & LP_HANGUP) event.events |= (uint32_t)EPOLLRDHUP;
    if (want & LP_EDGE) event.events |= (uint32_t)EPOLLET;
    return epoll_ctl(poller->fd, op, fd, &event) ? -errno : 0;
}

static uint32_t lpi_poller_what(uint32_t epoll_events)
{
    uint32_t what = 0, broken = epoll_events & (EPOLLERR | EPOLLHUP);
    if (broken || epoll_events & EPOLLIN) what |= LP_READ;
    if (broken || epoll_events & EPOLLOUT) what |= LP_WRITE;
    if (broken || epoll_events & EPOLLRDHUP) what |= LP_HANGUP;
    return what;
}

static int lpi_os_poller_wait(void *ctx, lp_poller *poller, lp_event *events,
                              int max, uint64_t until_us)
{
    struct epoll_event got[LPI_EVENTS];
    int i, n, told = 0;
    (void)ctx;
    n = epoll_wait(poller->fd, got, max < LPI_EVENTS ? max : LPI_EVENTS,
                   lpi_poller_wait_ms(poller, until_us));
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (i = 0; i < n; i++) {
        if (got[i].data.u64 == LPI_EVENT_TIMER) {
            lpi_poller_timer_clear(poller);
            continue;
        }
        events[told].tag = got[i].data.u32;
        events[told++].what = lpi_poller_what(got[i].events);
    }
    return told;
}

static void lpi_os_poller_close(void *ctx, lp_poller *poller)
{
    (void)ctx;
    lpi_poller_timer_close(poller);
    close(poller->fd);
}

#else /* kqueue: a filter for each direction; that of reading tells the end */

static int lpi_os_poller_open(void *ctx, lp_poller *out)
{
    int fd = kqueue();
    (void)ctx;
    if (fd < 0) return -errno;
    out->fd = fd;
    return 0;
}

/* The flags of the filter for reading. To watch for the end of the stream alone
   it is edge-triggered (EV_CLEAR), or unread bytes would be reported again and
   again. */
static int lpi_kqueue_reading(uint32_t mask)
{
    if (mask & LP_READ) return EV_ADD;
    return mask & LP_HANGUP ? EV_ADD | EV_CLEAR : 0;
}

static int lpi_os_poller_set(void *ctx, lp_poller *poller, int fd, uint32_t tag,
                             uint32_t was, uint32_t want)
{
    struct kevent changes[3], *change = changes;
    void *udata = (void *)(uintptr_t)tag;
    int had = lpi_kqueue_reading(was), has = lpi_kqueue_reading(want);
    (void)ctx;
    if (had && had != has) {
        EV_SET(change, (uintptr_t)fd, EVFILT_READ, EV_DELETE, 0, 0, udata);
        change++;
    }
    if (has && had != has) {
        EV_SET(change, (uintptr_t)fd, EVFILT_READ, (unsigned short)has, 0, 0,
               udata);
        change++;
    }
    if ((was ^ want) & LP_WRITE) {
        EV_SET(change, (uintptr_t)fd, EVFILT_WRITE,
               want & LP_WRITE ? EV_ADD : EV_DELETE, 0, 0, udata);
        change++;
    }
    if (change == changes) return 0;
    return kevent(poller->fd, changes, (int)(change - changes), NULL, 0,
                  NULL) < 0 ? -errno : 0;
}

static int lpi_os_poller_wait(void *ctx, lp_poller *poller, lp_event *events,
                              int max, uint64_t until_us)
{
    struct kevent got[LPI_EVENTS];
    struct timespec wait;
    uint64_t now_us = 0, us;
    int i, n;
    (void)ctx;
    if (until_us && until_us != UINT64_MAX) now_us = lpi_clock_us(0);
    us = until_us > now_us ? until_us - now_us : 0;
    wait.tv_sec = (time_t)(us / 1000000);
    wait.tv_nsec = (long)(us % 1000000) * 1000;
    n = kevent(poller->fd, NULL, 0, got, max < LPI_EVENTS ? max : LPI_EVENTS,
               until_us == UINT64_MAX ? NULL : &wait);
    if (n < 0) return errno == EINTR ? 0 : -errno;
    for (i = 0; i < n; i++) {
        events[i].tag = (uint32_t)(uintptr_t)got[i].udata;
        events[i].what = got[i].filter == EVFILT_READ ? LP_READ : LP_WRITE;
        if (got[i].flags & EV_EOF) events[i].what |= LP_HANGUP;
    }
    return n;
}

static void lpi_os_poller_close(void *ctx, lp_poller *poller)
{
    (void)ctx;
    close(poller->fd);
}

#endif

static const lp_os lpi_real_os = {
    NULL,
    lpi_os_monotonic_us, lpi_os_wall_us, lpi_os_random,
    lpi_os_listen, lpi_os_accept, lpi_os_recv, lpi_os_send, lpi_os_shutdown,
    lpi_os_close, lpi_os_reserve,
    lpi_os_poller_open, lpi_os_poller_set, lpi_os_poller_wait,
    lpi_os_poller_close,
    lpi_os_wake_open, lpi_os_wake_signal, lpi_os_wake_clear,
    lpi_os_connect, lpi_os_connected, lpi_os_resolve};

/* ==========================================================================
   D3  INBOX                                                          >>inbox

   What other threads leave for a loop's next turn, first come, first served:
   connections that the first loop has accepted for it, outcomes of what was
   published, and answers to deferred requests.

   Uses      >>memory >>os
   Touches   the inbox, under the loop's mutex, which is never held together
             with the hub's.
   Promises  whoever leaves a task in an empty inbox signals the loop, unless
             that looks after it before it sleeps.
   ========================================================================== */

/* Leave a task, which the loop will free. `signal` is 0 if the loop looks after
   its inbox anyway, before it sleeps. */
static void lpi_inbox_add(lpi_loop *loop, lpi_task *task, int signal)
{
    int was_empty;
    task->next = NULL;
    lpi_lock(&loop->mutex);
    was_empty = !loop->inbox.first;
    if (was_empty) loop->inbox.first = task;
    else loop->inbox.last->next = task;
    loop->inbox.last = task;
    lpi_unlock(&loop->mutex);
    if (was_empty && signal)
        loop->os->wake_signal(loop->os->ctx, loop->wake[1]);
}

/* Take all tasks, in the order in which they came. The caller frees them. */
static lpi_task *lpi_inbox_take(lpi_loop *loop)
{
    lpi_task *tasks;
    lpi_lock(&loop->mutex);
    tasks = loop->inbox.first;
    loop->inbox.first = NULL;
    lpi_unlock(&loop->mutex);
    return tasks;
}

/* ==========================================================================
   D4  FILE                                                            >>file

   Reads a file of a folder from the disk. Its path comes from a client, so it
   is opened part by part, each in the folder of the part before, and no
   symbolic link is followed: whatever stands in the path, and whoever changes
   the folder meanwhile, nothing outside is reached. Only the folder itself may
   be a link.

   Uses      >>memory >>text
   Touches   the disk, directly: that is no part of lp_os. It blocks.
   Promises  a fifo or a device is not waited for; no descriptor stays open, and
             none is passed on to a program that is run meanwhile.
   ========================================================================== */

#ifndef LONGPOLL_NO_FILES

enum { LPI_FILE_PART = 255 }; /* bytes of a part of a path at most */

/* May this be a part of a path? It may be no way to another folder, and no
   hidden file. */
static int lpi_file_part_good(lp_slice part)
{
    return part.length && part.length <= LPI_FILE_PART && *part.bytes != '.' &&
           !memchr(part.bytes, 0, part.length) &&
           !memchr(part.bytes, '\\', part.length);
}

/* Open the part in the folder, which is closed. A descriptor, or -errno. What a
   client can bring about by its choice of a path is -ENOENT; all else is the
   system's trouble. */
static int lpi_file_enter(int folder, lp_slice part, int flags)
{
    char name[LPI_FILE_PART + 1];
    int fd = -1, error = ENOENT;
    if (lpi_file_part_good(part)) {
        *lpi_put(name, part) = 0;
        fd = openat(folder, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK |
                                  O_NOCTTY | O_CLOEXEC | flags);
        error = errno;
    }
    close(folder);
    if (fd >= 0) return fd;
    if (error == EMFILE || error == ENFILE || error == ENOMEM ||
        error == EIO || error == EAGAIN) /* another process has a lease on it */
        return -error;
    return error == EOVERFLOW ? -EFBIG : -ENOENT;
}

/* Open what the path leads to in the folder, which is closed. A descriptor, or
   -errno; a path without bytes leads to the folder itself. */
static int lpi_file_find(int folder, lp_slice path)
{
    int fd = folder;
    lp_slice part;
    while (fd >= 0 && lpi_split(&path, '/', &part)) {
        if (!path.bytes && !part.length) part = LPI_S("index.html");
        fd = lpi_file_enter(fd, part, path.bytes ? O_DIRECTORY : 0);
    }
    return fd;
}

/* Read the whole file. If it grows meanwhile, what is added is left out. 0 or
   -errno: -EFBIG if it is larger than `max`, -ENOENT if it is no file. */
static int lpi_file_read(int fd, size_t max, lp_text *out)
{
    struct stat about;
    size_t left;
    char *to;
    if (fstat(fd, &about)) return -errno;
    if (!S_ISREG(about.st_mode)) return -ENOENT;
    if ((uint64_t)about.st_size > max) return -EFBIG;
    left = (size_t)about.st_size;
    to = lpi_text_room(out, left + 1);
    if (!to) return -ENOMEM;
    while (left) {
        ssize_t n = read(fd, to, left);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (!n) break; /* it has become shorter */
        to += n;
        left -= (size_t)n;
    }
    lpi_text_set_end(out, to);
    return 0;
}

/* Read the file that the path leads to in the folder, which is closed. As
   lpi_file_read. */
static int lpi_file_load(int folder, lp_slice path, size_t max, lp_text *out)
{
    int fd = lpi_file_find(folder, path), error;
    if (fd < 0) return fd;
    error = lpi_file_read(fd, max, out);
    close(fd);
    return error;
}

#endif /* LONGPOLL_NO_FILES */

/* ==========================================================================
   E   A CONNECTION                                               >>connection

   In the order of its life: accepted, read, routed, parked or published,
   delivered, written, closed. Here, and here only, a caller stands before what
   it calls, so that it reads as it happens; the prototypes serve as a table of
   contents. What all of them use comes first.

   Uses      >>http >>query >>address >>json >>reply >>wheel >>os >>inbox, and
             of the hub the calls that end >>hub
   Touches   the loop that it is given, on that loop's thread.
   Promises  a connection that was closed keeps its record until the end of the
             step, so that a caller may still look at its phase.
   ========================================================================== */

static lpi_hub *lpi_hub_of(const lpi_loop *loop);
static void lpi_loop_now(lpi_loop *loop);
static void lpi_arm(lpi_loop *loop, uint32_t index, uint32_t ms);
static uint32_t lpi_tag_of(const lpi_connection *c, uint32_t index);
static uint32_t lpi_tag_connection(lpi_loop *loop, uint32_t tag);
static uint32_t lpi_poller_mask(uint32_t interest);
static int lpi_poller_change(lpi_loop *loop, uint32_t index, uint32_t want);
static void lpi_set_interest(lpi_loop *loop, uint32_t index, uint32_t want);
static void lpi_poller_repeat(lpi_loop *loop, uint32_t index);
static int lpi_try_again(long error);
static lp_json *lpi_body_begin(lpi_loop *loop);
static lp_slice lpi_body_end(lpi_loop *loop);
static lp_slice lpi_body_error(lpi_loop *loop, const char *text);
static const char *lpi_date(lpi_loop *loop);
static void lpi_head_init(lpi_head *head, lpi_loop *loop, lpi_connection *c,
                          int status, lp_slice type, size_t length);
static lp_slice lpi_head_compose(lpi_loop *loop, const lpi_head *head,
                                 lp_slice body);
static void lpi_line(lp_text *to, const char *name, lp_slice value);
static void lpi_cors_lines(const lp_server *server, uint32_t cors, int own,
                           lp_text *to);
static void lpi_note_refusal(lpi_loop *loop, int status, const char *why,
                             lp_slice detail, const uint8_t address[16]);
static void lpi_tell_refusals(lpi_loop *loop);

/* >>accept */
static int lpi_accept(lpi_loop *loop);
static void lpi_accept_hand_over(lpi_loop *first, int fd,
                                 const lp_address *peer);
static void lpi_accept_open(lpi_loop *loop, lpi_handover *handover);
static void lpi_accept_undo(lp_server *server, lpi_handover *handover);
static void lpi_accept_reject(lpi_loop *loop, int fd, const lp_address *peer,
                              lpi_why why);
static int lpi_accept_by_reserve(lpi_loop *loop);
static void lpi_accept_pause(lpi_loop *loop);
static void lpi_accept_resume(lpi_loop *loop);
static void lpi_accept_stop(lpi_loop *loop);
static void lpi_accept_close_listener(lp_server *server);

/* >>read */
static void lpi_read_ready(lpi_loop *loop, uint32_t index);
static void lpi_read_arrived(lpi_loop *loop, uint32_t index, size_t length);
static void lpi_read_serve_arrivals(lpi_loop *loop);
static void lpi_read_serve(lpi_loop *loop, uint32_t index, char *bytes,
                           size_t length);
static size_t lpi_read_serve_one(lpi_loop *loop, uint32_t index, char *bytes,
                                 size_t *length);
static int lpi_read_await_head(lpi_loop *loop, uint32_t index,
                               const lpi_http *http, size_t length);
static size_t lpi_read_serve_head(lpi_loop *loop, uint32_t index, char *bytes,
                                  size_t *length, const lpi_http *http,
                                  uint32_t head_length);
static void lpi_request_begin(lp_request *r, lpi_loop *loop, uint32_t index,
                              const lpi_http *http, const char *bytes);
static void lpi_request_init(lp_request *r, lpi_loop *loop, uint32_t index,
                             const lpi_http *http, const char *bytes);
static void lpi_request_find_client(lp_request *r);
static lpi_why lpi_request_account(lp_request *r);
static void lpi_read_continue(lpi_loop *loop, uint32_t index);
static size_t lpi_read_serve_body(lpi_loop *loop, uint32_t index, char *bytes,
                                  size_t *length, const lpi_http *http,
                                  lpi_chunked *chunked, uint32_t head_length,
                                  const lpi_route *route);
static int lpi_drops_body(const lpi_route *route);
static size_t lpi_read_await_body(lpi_loop *loop, uint32_t index,
                                  const size_t *length, const lpi_http *http,
                                  const lpi_chunked *chunked,
                                  uint32_t head_length,
                                  const lpi_route *route);
static lpi_request_buffer *lpi_request_buffer_get(lpi_loop *loop,
                                                  lpi_connection *c);
static int lpi_request_buffer_reserve(lpi_loop *loop, const lpi_connection *c,
                                      size_t length);
static void lpi_request_buffer_drop(lpi_loop *loop, lpi_connection *c);
static void lpi_request_buffer_free(lpi_loop *loop,
                                    lpi_request_buffer *buffer);
static int lpi_read_keep(lpi_loop *loop, lpi_connection *c, const char *bytes,
                         size_t length);
static int lpi_read_keep_more(lpi_loop *loop, lpi_connection *c,
                              const char *bytes, size_t length);
static void lpi_read_keep_failed(lpi_loop *loop, uint32_t index);
static int lpi_is_receiving(const lpi_connection *c);
static int lpi_is_answering(const lpi_connection *c);
static void lpi_read_set_interest(lpi_loop *loop, uint32_t index);
static void lpi_read_resume(lpi_loop *loop, uint32_t index);
static void lpi_queue_add(lpi_loop *loop, uint32_t index);
static void lpi_queue_remove(lpi_loop *loop, uint32_t index);
static void lpi_queue_serve(lpi_loop *loop);
static void lpi_read_stream_ended(lpi_loop *loop, uint32_t index);
static void lpi_read_hangup(lpi_loop *loop, uint32_t index);

/* >>route */
static int lpi_route_head(lp_request *r);
static uint32_t lpi_route_body_max(const lp_request *r);
static void lpi_route_dispatch(lp_request *r);
static lp_slice lpi_request_path(const lp_request *r);
static const lpi_route *lpi_route_find(const lp_request *r, uint32_t *allowed);
static int lpi_route_matches(const lpi_route *route, lp_slice path);
static int lpi_route_is_parameter(lp_slice part);
static void lpi_route_missing(lp_request *r, uint32_t allowed);
static void lpi_route_options(lp_request *r, uint32_t allowed);
static void lpi_route_allow(lp_request *r, const char *name, uint32_t methods);
static int lpi_route_host_good(const lp_request *r);
static uint8_t lpi_route_origin_index(const lp_server *server,
                                      lp_slice origin);
static int lpi_route_publish_refused(lp_request *r);
static int lpi_route_origin_good(const lp_request *r);
static lp_slice lpi_route_without_port(lp_slice host, lp_slice port);
static int lpi_route_admin_refused(lp_request *r);
static int lpi_route_permitted(lp_request *r, lp_action action,
                               lp_slice channel);
static void lpi_route_refuse(lp_request *r, lpi_why why);
static lpi_why lpi_route_token_refused(lp_request *r, lp_action action,
                                       lp_slice channel);
static lp_slice lpi_route_bearer(const lp_request *r);
static lpi_why lpi_route_query_token(lp_request *r, lp_slice *given);
static lpi_why lpi_route_token_read(lp_request *r, lp_slice text);
static int lpi_route_type_is(const lp_request *r, lp_slice wanted);
static void lpi_route_hint_proxy(const lp_request *r);
static lp_slice lpi_route_last(const lp_request *r);
static lp_slice lpi_route_part(const lp_request *r, lp_slice name);
static int lpi_route_channel(const lp_request *r, char *text, lp_slice *out);
static int lpi_route_decode(lp_request *r, lp_slice *part, int plus);
static int lpi_route_decode_always(lp_request *r, lp_slice *part, int plus);
static size_t lpi_route_literal(lp_slice pattern);
static int lpi_route_takes_rest(lp_slice pattern);
static int lpi_route_pattern_good(lp_slice pattern);
static int lpi_route_is_monitor(lpi_route_kind kind);
static int lpi_route_pattern_hidden(const lp_server *server, lpi_method method,
                                    lp_slice pattern);
static lp_result lpi_route_add(lp_server *server, lpi_route_kind kind,
                               lpi_method method, lp_slice pattern,
                               lp_handler handler, void *ctx);

/* >>poll */
static void lpi_poll(lp_request *r);
static lpi_why lpi_poll_begin(lp_request *r, lpi_poll_request *ask);
static lpi_why lpi_poll_hub(lpi_loop *loop, lpi_poll_request *ask);
static void lpi_poll_park(lpi_loop *loop, const lpi_poll_request *ask);
static void lpi_poll_arm(lpi_loop *loop, uint32_t index, uint32_t wait_ms,
                         uint64_t ends_ms);
static lpi_why lpi_poll_read(lp_request *r, lpi_poll_request *ask);
static lpi_why lpi_poll_read_names(lp_request *r, lpi_poll_request *ask);
static lpi_why lpi_poll_read_values(lp_request *r, lp_slice *values);
static lpi_why lpi_poll_read_cursors(lpi_poll_request *ask,
                                     const lp_slice *values);
static lpi_why lpi_poll_read_numbers(const lp_config *cfg,
                                     lpi_poll_request *ask,
                                     const lp_slice *values);
static int lpi_poll_client_id_good(lp_slice id);
static void lpi_poll_expire(lpi_loop *loop, uint32_t index);

/* >>stream */
static lpi_why lpi_stream_values(lp_request *r, lp_slice *values);
static lpi_why lpi_stream_begin(lp_request *r, const lpi_poll_request *ask);
static lpi_stream *lpi_stream_new(lpi_loop *loop, uint32_t index,
                                  const lpi_poll_request *ask);
static int lpi_stream_reserve(lpi_loop *loop, uint32_t index);
static void lpi_stream_open(lpi_loop *loop, const lpi_poll_request *ask);
static lp_slice lpi_stream_head(lpi_loop *loop, lpi_connection *c,
                                const lpi_stream_at *at, uint32_t count);
static void lpi_stream_send(lpi_loop *loop, uint32_t index,
                            const lpi_reply *reply, lp_slice body,
                            lpi_send_buffer **shared);
static void lpi_stream_go_on(lpi_loop *loop, uint32_t index);
static void lpi_stream_ask(lpi_loop *loop, uint32_t index,
                           lpi_poll_request *ask);
static int lpi_stream_end(lpi_loop *loop, uint32_t index);
static void lpi_stream_drop(lpi_loop *loop, uint32_t index);
static lp_slice lpi_stream_render(lpi_loop *loop, const lpi_reply *reply);
static void lpi_stream_start(const lpi_batch *batch, const lpi_reply *reply,
                             lpi_stream_at *at);
static void lpi_stream_render_id(lp_json *j, const lpi_stream_at *at,
                                 uint32_t count);
static char *lpi_stream_put_id(char *to, const lpi_stream_at *at,
                               uint32_t count);
static void lpi_stream_render_data(lp_json *j, lp_slice message);

/* >>publish */
static void lpi_publish(lp_request *r);
static int lpi_publish_ask(lp_request *r, lp_slice channel, lp_slice *json,
                           lpi_message **first);
static void lpi_publish_refuse(lp_request *r, int status, const char *text);
static void lpi_publish_misused(lp_request *r, const char *what);
static void lpi_publish_here(lp_request *r, lp_slice channel,
                             lpi_message *first, int is_array);
static int lpi_publish_transient_refused(lp_request *r, int *transient);
static int lpi_publish_key_refused(lp_request *r);
static void lpi_publish_remotely(lp_request *r, lp_slice channel,
                                 lpi_message *first, int is_array);
static void lpi_publish_leave(lp_request *r, lpi_call *call);
static void lpi_call_init(lpi_call *call, lp_slice channel);
static void lpi_publish_answer(lpi_loop *loop, const lpi_call *call);
static lp_slice lpi_publish_render(lpi_loop *loop,
                                   const lp_published *published,
                                   int is_array);
static char *lpi_publish_put_ids(char *to, const lp_published *published);
static lp_result lpi_publish_chain(lp_server *server, lp_slice channel,
                                   lpi_message *first,
                                   const lpi_outcome *outcome,
                                   lp_published *out);
static lp_result lpi_publish_messages(lp_server *server, lp_slice channel,
                                      lp_slice json, lpi_message **out,
                                      size_t *offset);
static void lpi_publish_failed(lp_request *r, lp_result result, size_t offset);

/* >>later */
static int lpi_later_begin(lp_request *r, uint32_t timeout_ms,
                           lp_deferred *out);
static lpi_later *lpi_later_new(lp_request *r);
static int lpi_later_add(lpi_loop *loop, uint32_t index, lpi_later *later);
static lpi_later *lpi_later_find(const lpi_loop *loop,
                                 const lp_deferred *request);
static lpi_task *lpi_later_new_answer(const lp_memory *memory, lp_slice type,
                                      lp_slice body);
static lp_result lpi_later_leave(lpi_loop *loop, lpi_task *task);
static void lpi_later_answer(lpi_loop *loop, const lpi_answer *answer);
static void lpi_later_end(lp_request *r, lpi_loop *loop, uint32_t index);
static void lpi_later_drop(lpi_loop *loop, uint32_t index);
static void lpi_later_expire(lpi_loop *loop, uint32_t index);
static void lpi_later_limit(lpi_loop *loop, uint32_t index);

/* >>admin */
static void lpi_admin(lp_request *r);
static void lpi_admin_describe(lp_request *r);
static void lpi_admin_list(lp_request *r);
static void lpi_admin_delete(lp_request *r);
static void lpi_admin_receipts(lp_request *r);
static void lpi_admin_deleted(lp_request *r);
static int lpi_admin_page(lp_request *r, uint32_t *position, uint32_t *limit);
static void lpi_admin_render_next(lp_json *j, uint32_t position);
static void lpi_admin_render_channel(lp_json *j, const lp_channel_info *info,
                                     uint64_t now_us);
static void lpi_admin_render_id(lp_json *j, lp_slice key, const char *id);
static void lpi_admin_render_seconds(lp_json *j, lp_slice key, uint64_t us);
static void lpi_admin_reply(lp_request *r);

/* >>monitor */
static void lpi_monitor_count(lpi_loop *loop, int status, size_t bytes);
static void lpi_monitor_count_bytes(lpi_loop *loop, size_t bytes);
static uint32_t lpi_reply_size_index(uint64_t bytes);
static void lpi_monitor_answer(lpi_loop *loop, uint32_t index, int status,
                               size_t bytes);
static void lpi_monitor_answer_more(lpi_loop *loop, uint32_t index,
                                    size_t bytes);
static lpi_access *lpi_access_of(const lpi_loop *loop, uint32_t index);
static void lpi_access_begin(lp_request *r);
static lpi_access *lpi_access_new(lp_request *r);
static lp_slice lpi_access_cut(lp_slice text);
static size_t lpi_access_until_query(lp_slice url);
static lp_slice lpi_access_keep(char **to, lp_slice text);
static void lpi_access_end(lpi_loop *loop, uint32_t index);
static int lpi_monitor_refused(lp_request *r);
static int lpi_monitor_is_brief(const lp_request *r);
static int lpi_monitor_is_local(const lp_request *r);
static void lpi_monitor(lp_request *r);
static lp_slice lpi_monitor_render_health(lp_request *r, int status,
                                          uint32_t redis_up);
static int lpi_figure_get(const lpi_loop *loop, const lp_stats *stats,
                          const lpi_figure *figure, uint64_t *out);
static lp_slice lpi_monitor_render_stats(lpi_loop *loop,
                                         const lp_stats *stats);
static void lpi_monitor_render_delays(lp_json *j, const char *key,
                                      const uint64_t *latencies);
static uint64_t lpi_figure_sum(const uint64_t *counts, uint32_t length);
static lp_slice lpi_metrics_render(lpi_loop *loop, const lp_stats *stats);
static void lpi_metrics_head(lp_json *j, const char *name, const char *type,
                             const char *help);
static void lpi_metrics_line(lp_json *j, const char *name, lp_slice labels,
                             lp_slice value);
static void lpi_metrics_count(lp_json *j, const char *name, lp_slice labels,
                              uint64_t value);
static void lpi_metrics_seconds(lp_json *j, const char *name, uint64_t us);
static void lpi_metrics_figure(lp_json *j, const lpi_figure *figure,
                               uint64_t value);
static void lpi_metrics_replies(lp_json *j, const lp_stats *stats);
static void lpi_metrics_bucket(lp_json *j, const char *name, lp_slice le,
                               uint64_t value);
static void lpi_metrics_delays(lp_json *j, const lp_stats *stats);
static void lpi_metrics_sizes(lp_json *j, const lp_stats *stats);

/* >>deliver */
static void lpi_deliver(lpi_loop *loop);
static void lpi_deliver_batch_and_resume(lpi_loop *loop);
static void lpi_deliver_batch(lpi_loop *loop);
static void lpi_deliver_reply(lpi_loop *loop, const lpi_reply *reply);
static lp_slice lpi_deliver_head(lpi_loop *loop, lpi_connection *c,
                                 lp_slice body);
static lp_slice lpi_deliver_render(lpi_loop *loop, const lpi_reply *reply);
static void lpi_deliver_render_front(lp_json *j, const lpi_reply *reply);
static void lpi_deliver_render_resets(lp_json *j, const lpi_reply *reply,
                                      const lpi_batch *batch);
static lpi_why lpi_reader_name(lpi_loop *loop, uint32_t index,
                               lp_slice client_id);
static int lpi_reader_new(lpi_loop *loop, uint32_t index);
static void lpi_reader_begin(lpi_loop *loop, uint32_t index,
                             const lpi_reply *reply);
static int lpi_reader_keep(lpi_loop *loop, uint32_t index);
static void lpi_reader_handed(lpi_loop *loop, uint32_t index);
static void lpi_reader_end(lpi_loop *loop, uint32_t index);
static void lpi_reader_drop(lpi_loop *loop, uint32_t index);
static void lpi_deliver_note_latencies(lpi_loop *loop);
static void lpi_deliver_note_reply(lpi_loop *loop, const lpi_reply *reply,
                                   uint64_t now_us);
static void lpi_deliver_note_latency(lpi_loop *loop, uint64_t us);
static uint32_t lpi_latency_index(uint64_t us);
static uint64_t lpi_latency_min(uint32_t at);

/* >>write */
static void lpi_write_reply(lp_request *r, int status, lp_slice type,
                            lp_slice body);
static void lpi_write_content(lp_request *r, const char *type,
                              lp_slice content);
static int lpi_request_has_tag(const lp_request *r, lp_slice etag);
static void lpi_write_send(lpi_loop *loop, uint32_t index, lp_slice head,
                           lp_slice body, lpi_send_buffer **shared);
static void lpi_write_note_taken(lpi_loop *loop, const lpi_connection *c,
                                 uint32_t index);
static void lpi_write_finish(lpi_loop *loop, lpi_connection *c,
                             uint32_t index);
static void lpi_write_linger(lpi_loop *loop, uint32_t index);
static void lpi_write_error(lp_request *r, int status, const char *text);
static void lpi_write_error_note(lp_request *r, int status, const char *text);
static void lpi_write_refusal(lpi_loop *loop, uint32_t index,
                              const lpi_http *http, int status);
static const char *lpi_refusal_text(int status);
static void lpi_write_queue_unsent(lpi_loop *loop, uint32_t index,
                                   lp_slice head, lp_slice body, size_t sent,
                                   lpi_send_buffer **shared);
static int lpi_send_buffer_hold(lpi_loop *loop, lpi_connection *c,
                                lpi_send_buffer **shared, lp_slice first,
                                lp_slice second);
static lpi_send_buffer *lpi_send_buffer_new(lpi_loop *loop, lp_slice first,
                                            lp_slice second);
static int lpi_send_buffer_is_held(const lpi_send_buffer *out,
                                   uint32_t account);
static void lpi_send_buffer_release(lpi_loop *loop,
                                    lpi_request_buffer *buffer);
static void lpi_write_ready(lpi_loop *loop, uint32_t index);
static void lpi_write_drained(lpi_loop *loop, uint32_t index);
static void lpi_write_expire(lpi_loop *loop, uint32_t index);

/* >>close */
static void lpi_connection_expire(lpi_loop *loop, uint32_t index);
static void lpi_close(lpi_loop *loop, uint32_t index);
static void lpi_close_record(lpi_loop *loop, uint32_t index);
static void lpi_close_reap(lpi_loop *loop);
static void lpi_close_all(lpi_loop *loop);
static lpi_connection *lpi_loop_each(lpi_loop *loop, uint32_t *index);
static void lpi_loop_tell_outcome(const lpi_outcome *outcome);
static void lpi_loop_do_tasks(lpi_loop *loop, uint32_t max);

/* >>redis: the one call that a connection makes */
static lp_result lpi_stores_publish(lp_server *server, const lpi_call *who);

/* The tag of an event: a connection's index, and above it the generation of its
   record, or one of these. */
#define LPI_TAG_INDEX 0x00FFFFFFu
#define LPI_TAG_WAKE LPI_TAG_INDEX
#define LPI_TAG_LISTENER (LPI_TAG_INDEX - 1)
#define LPI_TAG_STORES (LPI_TAG_INDEX - 2) /* and down: two for each store   */
#define LPI_TAG_LOWEST (LPI_TAG_STORES - 2 * LPI_STORES_MAX + 1)

enum {
    LPI_NEVER = UINT32_MAX >> 1,
    LPI_TURNS = 8,       /* requests of one connection before others' turn   */
    LPI_QUEUE_TURNS = 64 /* connections of the queue in one step             */
};

static lpi_hub *lpi_hub_of(const lpi_loop *loop)
{
    return &loop->server->hub;
}

/* Read the clock: once before what is ready is served, once after it, and after
   the user's code (handlers and hooks), which may take its time. */
static void lpi_loop_now(lpi_loop *loop)
{
    loop->now_us = loop->os->monotonic_us(loop->os->ctx);
    loop->now_ms = loop->now_us / 1000;
}

/* Have the connection expire after at least `ms`. */
static void lpi_arm(lpi_loop *loop, uint32_t index, uint32_t ms)
{
    LP_ASSERT(!lpi_is_closed(lpi_connection_at(loop, index)));
    if (ms >= LPI_NEVER) lpi_wheel_cancel(&loop->wheel, index);
    else lpi_wheel_arm(&loop->wheel, index, (uint32_t)loop->now_ms + ms + 1);
}

static uint32_t lpi_tag_of(const lpi_connection *c, uint32_t index)
{
    return index | (uint32_t)c->generation << 24;
}

/* The connection that an event is meant for; LPI_NONE if it was closed since:
   an event may come for a closed socket of which a child process has a copy, if
   it could not be taken out of the poller. */
static uint32_t lpi_tag_connection(lpi_loop *loop, uint32_t tag)
{
    uint32_t index = tag & LPI_TAG_INDEX;
    const lpi_connection *c;
    if (!lpi_slab_has(&loop->connections, index)) return LPI_NONE;
    c = lpi_connection_at(loop, index);
    return !lpi_is_closed(c) && c->generation == tag >> 24 ? index
                                                                : LPI_NONE;
}

/* What poller_set is told. A connection that is only read is reported once when
   something comes: whoever may have left some of it calls
   lpi_poller_repeat(). */
static uint32_t lpi_poller_mask(uint32_t interest)
{
    return interest == (LP_READ | LP_HANGUP) ? interest | LP_EDGE : interest;
}

/* Have the poller watch for `want` instead. 0, or -1 with nothing changed. */
static int lpi_poller_change(lpi_loop *loop, uint32_t index, uint32_t want)
{
    const lp_os *os = loop->os;
    lpi_connection *c = lpi_connection_at(loop, index);
    if (want == c->interest) return 0;
    if (os->poller_set(os->ctx, &loop->poller, c->fd, lpi_tag_of(c, index),
                       lpi_poller_mask(c->interest), lpi_poller_mask(want)))
        return -1;
    c->interest = want & 7u;
    return 0;
}

/* Have the poller watch for `want` instead. If it cannot, the connection is
   closed, so this comes after all else that is done to it. */
static void lpi_set_interest(lpi_loop *loop, uint32_t index, uint32_t want)
{
    if (lpi_is_closed(lpi_connection_at(loop, index))) return;
    if (lpi_poller_change(loop, index, want)) lpi_close(loop, index);
}

/* An event may have told of more than was read: have the poller look at the
   connection again. If it cannot, the connection is closed, so this comes after
   all else that is done to it. */
static void lpi_poller_repeat(lpi_loop *loop, uint32_t index)
{
    const lp_os *os = loop->os;
    lpi_connection *c = lpi_connection_at(loop, index);
    uint32_t mask = lpi_poller_mask(c->interest);
    if (lpi_is_closed(c) || !(mask & LP_EDGE)) return;
    if (os->poller_set(os->ctx, &loop->poller, c->fd, lpi_tag_of(c, index),
                       mask, mask))
        lpi_close(loop, index);
}

/* Does the error only mean that the call may succeed later? */
static int lpi_try_again(long error)
{
    return error == -EAGAIN || error == -EWOULDBLOCK || error == -EINTR;
}

/* --- a reply's body, which is written to loop->json behind room for the head,
   and its head --- */

static lp_json *lpi_body_begin(lpi_loop *loop)
{
    lp_json *j = &loop->json;
    char *body;
    lpi_json_restart(j);
    body = lpi_text_room(&j->text, LPI_HEAD_ROOM);
    if (body) lpi_text_set_end(&j->text, body + LPI_HEAD_ROOM);
    return j;
}

/* The body; without bytes if memory ran out. */
static lp_slice lpi_body_end(lpi_loop *loop)
{
    lp_slice text = lp_json_text(&loop->json);
    if (!text.bytes) return text;
    return lpi_slice(text.bytes + LPI_HEAD_ROOM, text.length - LPI_HEAD_ROOM);
}

static lp_slice lpi_body_error(lpi_loop *loop, const char *text)
{
    lp_json *j = lpi_body_begin(loop);
    lp_json_object(j);
    lp_json_key(j, LPI_S("error"));
    lp_json_string(j, lp_s(text));
    lp_json_end(j);
    return lpi_body_end(loop);
}

static const char *lpi_date(lpi_loop *loop)
{
    if (loop->date_ms + 100 <= loop->now_ms || !loop->date_ms) {
        lpi_put_date(loop->date,
                     loop->os->wall_us(loop->os->ctx) / 1000000);
        loop->date_ms = loop->now_ms;
    }
    return loop->date;
}

/* The head of a reply that closes the connection if its flags, or a drain, say
   so. */
static void lpi_head_init(lpi_head *head, lpi_loop *loop, lpi_connection *c,
                          int status, lp_slice type, size_t length)
{
    if (loop->drain_ms) c->flags |= LPI_CLOSE;
    memset(head, 0, sizeof *head);
    head->status = status;
    head->type = type;
    head->length = length;
    head->date = lpi_date(loop);
    head->close = (c->flags & LPI_CLOSE) != 0;
    head->keep_alive = (c->flags & LPI_HTTP10_KEEP_ALIVE) != 0;
}

/* Write the head, and just before the body if that stands in loop->json and
   there is room. Without bytes if memory ran out. */
static lp_slice lpi_head_compose(lpi_loop *loop, const lpi_head *head,
                                 lp_slice body)
{
    size_t max = LPI_HEAD_FIXED + head->type.length + head->extra.length;
    lp_slice text;
    char *to;
    lpi_text_clear(&loop->head);
    to = lpi_text_room(&loop->head, max);
    if (!to) return lpi_slice(NULL, 0);
    text = lpi_slice_to(to, lpi_head_put(to, head));
    if (text.length > LPI_HEAD_ROOM || !loop->json.text.bytes ||
        body.bytes != loop->json.text.bytes + LPI_HEAD_ROOM)
        return text;
    to = loop->json.text.bytes + LPI_HEAD_ROOM - text.length;
    memcpy(to, text.bytes, text.length);
    return lpi_slice(to, text.length);
}

static void lpi_line(lp_text *to, const char *name, lp_slice value)
{
    lpi_text_add(to, lp_s(name));
    lpi_text_add(to, LPI_S(": "));
    lpi_text_add(to, value);
    lpi_text_add(to, LPI_S("\r\n"));
}

/* What CORS adds to every answer; `cors` is 1 + the origin's index, or 0.
   `own`: a handler has set Access-Control-Allow-Origin itself. */
static void lpi_cors_lines(const lp_server *server, uint32_t cors, int own,
                           lp_text *to)
{
    if (!server->any_origin && !server->origin_count) return;
    if (!server->any_origin) lpi_line(to, "Vary", LPI_S("Origin"));
    if (own || (!server->any_origin && !cors)) return;
    lpi_line(to, "Access-Control-Allow-Origin",
             server->any_origin ? LPI_S("*") : server->origins[cors - 1]);
    lpi_line(to, "Access-Control-Expose-Headers", LPI_S("Retry-After, Date"));
}

/* --- what was refused --- */

/* A client at that address was refused: tell the log, now or later. */
static void lpi_note_refusal(lpi_loop *loop, int status, const char *why,
                             lp_slice detail, const uint8_t address[16])
{
    if (!loop->server->config.log.write) return;
    lpi_hub_note_refusal(lpi_hub_of(loop), status, lp_s(why), detail, address,
                         loop->now_ms);
    lpi_tell_refusals(loop);
}

/* Tell the log of what was refused, at most once a second for each status. */
static void lpi_tell_refusals(lpi_loop *loop)
{
    lpi_refusals r;
    char line[240], status[12], address[INET6_ADDRSTRLEN];
    while (lpi_hub_take_refusals(lpi_hub_of(loop), loop->now_ms, &r)) {
        lpi_address_put(address, r.address);
        *status = 0;
        if (r.status) snprintf(status, sizeof status, "%d ", (int)r.status);
        snprintf(line, sizeof line, "%s%s%s%s: %lu time%s, the last from %s",
                 status, r.why, *r.detail ? ", " : "", r.detail,
                 (unsigned long)r.count, r.count > 1 ? "s" : "", address);
        lpi_log(loop->server, LP_LOG_WARN, line, "");
    }
}

/* ==========================================================================
   E1  ACCEPT                                                        >>accept

   The first loop accepts, a bounded number in a step, so that a storm of
   connections does not hold up those that are there, and gives each loop its
   turn to have one. Out of descriptors, a reserved one is given up to accept
   and reject; if even that fails, accepting pauses.

   Promises  a connection is given a record, or told why not (503) and closed.
   ========================================================================== */

enum { LPI_ACCEPTS = 64, LPI_ACCEPT_PAUSE_MS = 250 };

/* Returns 1 if there may be more. */
static int lpi_accept(lpi_loop *loop)
{
    lp_server *server = loop->server;
    int left = LPI_ACCEPTS;
    while (left-- && server->listener >= 0) {
        lp_address peer;
        int fd = loop->os->accept(loop->os->ctx, server->listener, &peer);
        if (fd >= 0) lpi_accept_hand_over(loop, fd, &peer);
        if (fd == -EMFILE || fd == -ENFILE) fd = lpi_accept_by_reserve(loop);
        if (fd >= 0) continue;
        if (fd == -EAGAIN || fd == -EWOULDBLOCK) return 0;
        if (fd == -EINTR || fd == -ECONNABORTED || fd == -EPROTO)
            continue; /* that connection's own trouble */
        lpi_accept_pause(loop);
        return 0;
    }
    return 1;
}

/* Give the connection to the loop whose turn it is, if it may come in. */
static void lpi_accept_hand_over(lpi_loop *first, int fd,
                                 const lp_address *peer)
{
    lp_server *server = first->server;
    lpi_loop *loop = &server->loops[server->next_loop];
    lpi_task *task = NULL;
    lpi_handover handover;
    lpi_why why = lpi_hub_admit(&server->hub, peer->bytes,
                                lpi_is_proxy(server, peer->bytes),
                                &handover.wait);
    if (why) {
        lpi_accept_reject(first, fd, peer, why);
        return;
    }
    handover.fd = fd;
    handover.peer = *peer;
    if (++server->next_loop == server->loop_count) server->next_loop = 0;
    if (loop != first)
        task = (lpi_task *)lpi_alloc(&server->memory, sizeof *task);
    if (task) {
        task->kind = LPI_TASK_OPEN;
        task->of.handover = handover;
        lpi_inbox_add(loop, task, 1);
    } else {
        lpi_accept_open(first, &handover); /* also if there is no memory */
    }
}

/* A connection that is admitted gets a record. */
static void lpi_accept_open(lpi_loop *loop, lpi_handover *handover)
{
    lp_server *server = loop->server;
    uint32_t index = lpi_slab_take(&loop->connections);
    lpi_connection *c;
    if (index != LPI_NONE) {
        c = lpi_connection_at(loop, index);
        c->fd = handover->fd;
        c->generation = ++loop->generation;
        c->wait = handover->wait;
    }
    if (index >= LPI_TAG_LOWEST ||
        lpi_poller_change(loop, index, LP_READ | LP_HANGUP)) {
        if (index != LPI_NONE) lpi_slab_give(&loop->connections, index);
        lpi_accept_undo(server, handover);
        lpi_accept_reject(loop, handover->fd, &handover->peer,
                          LPI_WHY_CONNECTIONS_MAX);
        return;
    }
    memcpy(c->address, handover->peer.bytes, 16);
    if (lpi_is_proxy(server, c->address)) c->flags = LPI_TRUSTED;
    lpi_timer_init(&loop->wheel, index);
    lpi_set_phase(loop, c, LPI_ACCEPTED);
    lpi_arm(loop, index, server->config.head_ms);
}

/* An admitted connection gets no record: the hub forgets it. */
static void lpi_accept_undo(lp_server *server, lpi_handover *handover)
{
    lpi_hub_dismiss(&server->hub, &handover->wait,
                    lpi_is_proxy(server, handover->peer.bytes));
}

/* 503 and close, without a record. What was sent is read once, since closing
   with unread bytes would make the kernel take the answer back. */
static void lpi_accept_reject(lpi_loop *loop, int fd, const lp_address *peer,
                              lpi_why why)
{
    const lp_os *os = loop->os;
    lp_slice parts[2];
    lpi_head head;
    memset(&head, 0, sizeof head);
    head.status = lpi_whys[why].status;
    head.type = LPI_S("application/json");
    head.date = lpi_date(loop);
    head.close = 1;
    head.extra = LPI_S("Retry-After: 5\r\n");
    parts[1] = lpi_body_error(loop, lpi_whys[why].text);
    head.length = parts[1].length;
    parts[0] = lpi_head_compose(loop, &head, parts[1]);
    if (parts[0].bytes && parts[1].bytes) {
        lpi_monitor_count(loop, head.status, parts[1].length);
        os->send(os->ctx, fd, parts, 2);
    }
    os->shutdown(os->ctx, fd, LP_WRITE);
    os->recv(os->ctx, fd, loop->in, LPI_READ_SIZE);
    os->close(os->ctx, fd);
    lpi_hub_count_refused(lpi_hub_of(loop));
    lpi_note_refusal(loop, 503, lpi_whys[why].text, LPI_S("no connection"),
                     peer->bytes);
}

/* No descriptor is left: close the reserved one, accept a connection in its
   place and refuse it. Returns what accept did, or -EMFILE without a
   reserve. */
static int lpi_accept_by_reserve(lpi_loop *loop)
{
    lp_server *server = loop->server;
    const lp_os *os = loop->os;
    lp_address peer;
    int fd;
    if (server->reserve < 0) server->reserve = os->reserve(os->ctx);
    if (server->reserve < 0) return -EMFILE;
    os->close(os->ctx, server->reserve);
    fd = os->accept(os->ctx, server->listener, &peer);
    if (fd >= 0) lpi_accept_reject(loop, fd, &peer, LPI_WHY_CONNECTIONS_MAX);
    server->reserve = os->reserve(os->ctx);
    return fd;
}

/* Accepting has failed: try again later, since the poller would report the
   listener without end. */
static void lpi_accept_pause(lpi_loop *loop)
{
    lp_server *server = loop->server;
    loop->os->poller_set(loop->os->ctx, &loop->poller, server->listener,
                         LPI_TAG_LISTENER, LP_READ, 0);
    server->accept_resume_ms = loop->now_ms + LPI_ACCEPT_PAUSE_MS;
    lpi_log(server, LP_LOG_WARN, "accepting pauses", "");
}

static void lpi_accept_resume(lpi_loop *loop)
{
    lp_server *server = loop->server;
    server->accept_resume_ms = 0;
    if (loop->os->poller_set(loop->os->ctx, &loop->poller, server->listener,
                             LPI_TAG_LISTENER, 0, LP_READ))
        server->accept_resume_ms = loop->now_ms + LPI_ACCEPT_PAUSE_MS;
}

/* lp_stop was called: take in who waits in the listener's queue, and accept no
   more. */
static void lpi_accept_stop(lpi_loop *loop)
{
    lp_server *server = loop->server;
    uint32_t i;
    int left = 1024;
    while (!server->accept_resume_ms && left-- && lpi_accept(loop)) {}
    lpi_accept_close_listener(server);
    lpi_log(server, LP_LOG_INFO, "draining", "");
    lpi_atomic_set(&server->draining, 1);
    for (i = 1; i < server->loop_count; i++)
        loop->os->wake_signal(loop->os->ctx, server->loops[i].wake[1]);
}

/* Connections that wait in its queue are lost. A child that has a copy must
   neither wake the loop nor keep the port open. */
static void lpi_accept_close_listener(lp_server *server)
{
    const lp_os *os = &server->os;
    if (server->listener < 0) return;
    if (!server->accept_resume_ms)
        os->poller_set(os->ctx, &lpi_first_loop(server)->poller,
                       server->listener, LPI_TAG_LISTENER, LP_READ, 0);
    os->shutdown(os->ctx, server->listener, LP_READ | LP_WRITE);
    os->close(os->ctx, server->listener);
    server->listener = -1;
    server->accept_resume_ms = 0;
}

/* ==========================================================================
   E2  READ                                                            >>read

   One recv per readable event, into the loop's own buffer; requests are parsed
   where they lie. Several connections are read before the first of them is
   served: the kernel and the library then find more of their code in the cache
   than if they took turns. Only what is incomplete is copied, into a
   connection's request buffer, and then read on from there. Behind a poll or a
   slow reply at most head_bytes_max is kept, and then reading pauses.

   Promises  each byte is parsed once; nothing behind a request that is refused
             is read as a request; the hub counts what is kept; what arrives in
             a step is served in that step.
   ========================================================================== */

/* There is something to read. */
static void lpi_read_ready(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    size_t kept = c->buffer ? c->buffer->in_length : 0, head = 0;
    size_t room = LPI_READ_SIZE, limit = loop->server->config.head_bytes_max;
    char *in = loop->in + loop->in_length;
    int receiving = lpi_is_receiving(c);
    long n;
    if (lpi_is_closed(c) || !(c->interest & LP_READ)) return;
    if (!receiving && c->phase != LPI_LINGERING)
        room = limit - kept < room ? limit - kept : room;
    if (c->phase == LPI_READING_BODY && lpi_drops_body(c->buffer->route)) {
        /* What comes must not make the buffer of the head grow. */
        memcpy(in, c->buffer->in, kept);
        head = kept;
    }
    n = loop->os->recv(loop->os->ctx, c->fd, in + head, room - head);
    if (n < 0) {
        if (!lpi_try_again(n)) lpi_close(loop, index);
    } else if (!n) {
        lpi_read_stream_ended(loop, index);
    } else if (c->phase == LPI_LINGERING) {
        /* It is not read as a request. */
    } else if (receiving && head == kept) {
        lpi_read_arrived(loop, index, head + (size_t)n);
    } else if (lpi_read_keep_more(loop, c, in, (size_t)n)) {
        lpi_read_keep_failed(loop, index);
    } else if (receiving) {
        lpi_read_serve(loop, index, c->buffer->in, c->buffer->in_length);
    } else {
        lpi_read_set_interest(loop, index);
    }
    /* A short read has taken all that was there (epoll(7), question 9), but of
       urgent data, which is no part of HTTP. */
    if (n < 0 || (size_t)n == room - head) lpi_poller_repeat(loop, index);
}

/* The next bytes in the loop's buffer are of that connection. There is room for
   another recv at any time. */
static void lpi_read_arrived(lpi_loop *loop, uint32_t index, size_t length)
{
    lpi_arrival *arrival = &loop->arrivals[loop->arrival_count++];
    arrival->connection = index;
    arrival->length = (uint32_t)length;
    loop->in_length += length;
    if (loop->arrival_count == LPI_ARRIVALS || loop->in_length > LPI_READ_SIZE)
        lpi_read_serve_arrivals(loop);
}

static void lpi_read_serve_arrivals(lpi_loop *loop)
{
    char *bytes = loop->in;
    uint32_t i;
    for (i = 0; i < loop->arrival_count; i++) {
        const lpi_arrival *arrival = &loop->arrivals[i];
        lpi_read_serve(loop, arrival->connection, bytes, arrival->length);
        bytes += arrival->length;
    }
    loop->arrival_count = 0;
    loop->in_length = 0;
}

/* Serve up to LPI_TURNS requests in `bytes` (the loop's buffer, or the kept
   bytes), and keep the rest. If there are more, the connection is queued, so
   that others have their turn. */
static void lpi_read_serve(lpi_loop *loop, uint32_t index, char *bytes,
                           size_t length)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    int turns = LPI_TURNS, partial = 0;
    size_t at = 0;
    while (at < length && turns-- && lpi_is_receiving(c) && !partial &&
           !(c->flags & LPI_STREAM)) {
        size_t left = length - at;
        size_t n = lpi_read_serve_one(loop, index, bytes + at, &left);
        partial = !n;
        if (partial) length = at + left;
        at += n;
    }
    if (c->phase == LPI_LINGERING || lpi_is_closed(c)) return;
    if (LPI_STREAMING(c->flags & LPI_STREAM)) {
        (void)lpi_read_keep(loop, c, bytes, 0); /* nothing may follow it */
        lpi_stream_go_on(loop, index);
        return;
    }
    if (c->phase == LPI_IDLE && at < length && !partial)
        lpi_queue_add(loop, index);
    if (lpi_read_keep(loop, c, bytes + at, length - at))
        lpi_read_keep_failed(loop, index);
    else if (c->flags & LPI_PEER_DONE && !lpi_is_answering(c))
        lpi_close(loop, index);
    else lpi_read_set_interest(loop, index);
}

/* Serve the request that begins at bytes[0]. Returns how many bytes it takes,
   or 0 if more have to come, with *length cut to what is to be kept. */
static size_t lpi_read_serve_one(lpi_loop *loop, uint32_t index, char *bytes,
                                 size_t *length)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_request_buffer *buffer = c->buffer;
    lpi_http *http = c->phase == LPI_READING_HEAD ? &buffer->http : &loop->http;
    int n;
    if (c->phase == LPI_READING_BODY)
        return lpi_read_serve_body(loop, index, bytes, length, &buffer->http,
                                   &buffer->chunked, buffer->head_length,
                                   buffer->route);
    if (c->phase != LPI_READING_HEAD)
        lpi_http_init(http, loop->server->config.head_bytes_max);
    n = lpi_http_head(http, bytes, *length);
    if (n > 0)
        return lpi_read_serve_head(loop, index, bytes, length, http,
                                   (uint32_t)n);
    if (!n && !lpi_read_await_head(loop, index, http, *length)) return 0;
    lpi_write_refusal(loop, index, http, n ? -n : 503);
    return *length;
}

/* The head is incomplete: keep what its parser knows. 0 or -1. */
static int lpi_read_await_head(lpi_loop *loop, uint32_t index,
                               const lpi_http *http, size_t length)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_request_buffer *buffer;
    if (http->line == length && !http->in_fields) {
        /* An empty line and nothing else: no request has begun. One that came
           out of the queue has no deadline yet. */
        if (c->phase != LPI_READING_HEAD &&
            lpi_timer_armed(&loop->wheel, index))
            return 0;
        lpi_set_phase(loop, c, LPI_IDLE);
        lpi_arm(loop, index, loop->server->config.idle_ms);
        return 0;
    }
    if (c->phase == LPI_READING_HEAD) return 0;
    buffer = lpi_request_buffer_get(loop, c);
    if (!buffer) return -1;
    buffer->http = *http;
    lpi_set_phase(loop, c, LPI_READING_HEAD);
    lpi_arm(loop, index, loop->server->config.head_ms);
    return 0;
}

/* A head of `head_length` bytes is complete. Returns like
   lpi_read_serve_one. */
static size_t lpi_read_serve_head(lpi_loop *loop, uint32_t index, char *bytes,
                                  size_t *length, const lpi_http *http,
                                  uint32_t head_length)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    int has_body = http->chunked || http->content_length;
    lp_request r;
    lpi_request_begin(&r, loop, index, http, bytes);
    if (lpi_route_head(&r)) return has_body ? *length : head_length;
    if (lpi_request_account(&r)) {
        lpi_write_refusal(loop, index, http, 503);
        return *length;
    }
    if (!has_body) {
        r.body = LPI_S("");
        lpi_route_dispatch(&r);
        return head_length;
    }
    if (http->expects) lpi_read_continue(loop, index);
    if (lpi_is_closed(c)) return *length;
    lpi_chunked_init(&loop->chunked, lpi_route_body_max(&r));
    loop->chunked.left = http->chunked ? 0 : http->content_length;
    return lpi_read_serve_body(loop, index, bytes, length, http, &loop->chunked,
                               head_length, r.route);
}

/* A request's head is here. */
static void lpi_request_begin(lp_request *r, lpi_loop *loop, uint32_t index,
                              const lpi_http *http, const char *bytes)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    loop->counts.requests++;
    lpi_request_init(r, loop, index, http, bytes);
    if (LPI_MONITORED(loop->server->config.access_log.write))
        lpi_access_begin(r);
    c->flags &= LPI_FLAGS_KEPT;
    if (http->close || (!http->minor && !http->keep_alive))
        c->flags |= LPI_CLOSE;
    else if (!http->minor) c->flags |= LPI_HTTP10_KEEP_ALIVE;
    if (http->method == LPI_HEAD) c->flags |= LPI_HEAD_REQUEST;
    c->cors = 0;
    lpi_set_phase(loop, c, LPI_SERVING);
}

static void lpi_request_init(lp_request *r, lpi_loop *loop, uint32_t index,
                             const lpi_http *http, const char *bytes)
{
    memset(r, 0, sizeof *r);
    r->server = loop->server;
    r->loop = loop;
    r->connection = index;
    r->http = http;
    r->bytes = bytes;
    lpi_request_find_client(r);
    lpi_text_clear(&loop->extra);
    lpi_arena_clear(&loop->arena, 1);
}

/* Who asks: the peer, or whom a trusted proxy speaks for. */
static void lpi_request_find_client(lp_request *r)
{
    const lp_server *server = r->server;
    const lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    lp_slice hops;
    uint8_t real[16];
    memcpy(r->client, c->address, 16);
    if (!(c->flags & LPI_TRUSTED) || !r->http) return;
    hops = lpi_http_field(r->http, r->bytes, LPI_F_FORWARDED);
    if (!hops.bytes &&
        !lpi_address_parse_hop(
            lpi_http_field(r->http, r->bytes, LPI_F_REAL_IP), real))
        memcpy(r->client, real, 16);
    while (hops.bytes && /* a later field stands further right */
           lpi_address_walk_forwarded(hops, server->proxies,
                                      server->proxy_count, r->client))
        hops = lpi_http_field_before(r->http, r->bytes, LPI_F_FORWARDED, hops);
}

/* Count what comes through a trusted proxy under the address that it speaks
   for, if that may be. */
static lpi_why lpi_request_account(lp_request *r)
{
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    const lpi_request_buffer *buffer = c->buffer;
    if (!(c->flags & LPI_TRUSTED)) return LPI_WHY_NONE;
    return lpi_hub_move(&r->server->hub, &c->wait, r->client,
                        lpi_is_proxy(r->server, r->client),
                        buffer ? sizeof *buffer + buffer->in_capacity : 0);
}

/* Send 100 Continue. If the socket takes none of it now, that is left out: the
   client has to send its body in the end all the same (RFC 9110 10.1.1). */
static void lpi_read_continue(lpi_loop *loop, uint32_t index)
{
    lp_slice text = LPI_S("HTTP/1.1 100 Continue\r\n\r\n");
    lpi_connection *c = lpi_connection_at(loop, index);
    long n = loop->os->send(loop->os->ctx, c->fd, &text, 1);
    if (n != (long)text.length && !lpi_try_again(n)) lpi_close(loop, index);
}

/* The body follows the head at bytes[0]. Returns like lpi_read_serve_one. */
static size_t lpi_read_serve_body(lpi_loop *loop, uint32_t index, char *bytes,
                                  size_t *length, const lpi_http *http,
                                  lpi_chunked *chunked, uint32_t head_length,
                                  const lpi_route *route)
{
    size_t at = head_length, size = (size_t)http->content_length, taken = size;
    int drops = lpi_drops_body(route), done = 1;
    lp_request r;
    if (http->chunked) {
        if (!drops) at += (size_t)chunked->decoded;
        done = lpi_chunked_decode(chunked, bytes + at, bytes + at,
                                  *length - at, &taken);
        if (done < 0) {
            lpi_write_refusal(loop, index, http, -done);
            return *length;
        }
        size = (size_t)chunked->decoded;
    } else if (drops) {
        if (*length - at < chunked->left) taken = *length - at;
        else taken = (size_t)chunked->left;
        chunked->left -= taken;
        done = !chunked->left;
    }
    if (drops) size = 0;
    if (!done) {
        *length = head_length + size;
        taken = *length + 1;
    }
    if (*length < at + taken)
        return lpi_read_await_body(loop, index, length, http, chunked,
                                   head_length, route);
    lpi_request_init(&r, loop, index, http, bytes);
    r.body = lpi_slice(bytes + head_length, size);
    r.route = route;
    lpi_route_dispatch(&r);
    return at + taken;
}

/* A poll has no use for a body: it is read past, and only the head is kept. */
static int lpi_drops_body(const lpi_route *route)
{
    return route->kind == LPI_POLLS || route->kind == LPI_STREAMS;
}

/* The body is incomplete: keep what is known of the request. */
static size_t lpi_read_await_body(lpi_loop *loop, uint32_t index,
                                  const size_t *length, const lpi_http *http,
                                  const lpi_chunked *chunked,
                                  uint32_t head_length, const lpi_route *route)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_request_buffer *buffer;
    if (c->phase == LPI_READING_BODY) return 0;
    buffer = lpi_request_buffer_get(loop, c);
    if (!buffer) {
        lpi_write_refusal(loop, index, http, 503);
        return *length;
    }
    if (http != &buffer->http) buffer->http = *http;
    buffer->chunked = *chunked;
    buffer->head_length = head_length;
    buffer->route = route;
    lpi_set_phase(loop, c, LPI_READING_BODY);
    lpi_arm(loop, index, loop->server->config.body_ms);
    return 0;
}

/* --- the request buffer --- */

/* The connection's, taken into use if need be; NULL if memory or its limit is
   spent. */
static lpi_request_buffer *lpi_request_buffer_get(lpi_loop *loop,
                                                  lpi_connection *c)
{
    lpi_hub *hub = lpi_hub_of(loop);
    lpi_request_buffer *buffer = loop->spare;
    size_t size = sizeof *buffer + (buffer ? buffer->in_capacity : 0);
    if (c->buffer) return c->buffer;
    if (lpi_hub_count_partial(hub, c->wait.account, size, 0)) {
        lpi_hub_count_partial(hub, c->wait.account, 0, size);
        return NULL;
    }
    if (buffer) {
        loop->spare = buffer->next;
        loop->spare_count--;
    } else {
        buffer = (lpi_request_buffer *)lpi_alloc_zero(&loop->server->memory,
                                                      sizeof *buffer);
        if (!buffer) lpi_hub_count_partial(hub, c->wait.account, 0, size);
    }
    c->buffer = buffer;
    return buffer;
}

/* Room for `length` bytes in it. 0, or -1 if memory or its limit is spent. */
static int lpi_request_buffer_reserve(lpi_loop *loop, const lpi_connection *c,
                                      size_t length)
{
    lpi_hub *hub = lpi_hub_of(loop);
    lpi_request_buffer *buffer = c->buffer;
    size_t had = buffer->in_capacity, size = lpi_grown(had, length);
    int failed;
    if (length <= had) return 0;
    failed = lpi_hub_count_partial(hub, c->wait.account, size, 0) ||
             lpi_reserve(&loop->server->memory, &buffer->in,
                         &buffer->in_capacity, length);
    lpi_hub_count_partial(hub, c->wait.account, 0, failed ? size : had);
    return -failed;
}

enum { LPI_SPARE_MAX = 16, LPI_SPARE_BYTES = 16384 };

/* Give it back; the loop keeps a few small ones for the next who need one. */
static void lpi_request_buffer_drop(lpi_loop *loop, lpi_connection *c)
{
    lpi_request_buffer *buffer = c->buffer;
    if (!buffer) return;
    LP_ASSERT(!buffer->out);
    c->buffer = NULL;
    buffer->in_length = 0;
    lpi_hub_count_partial(lpi_hub_of(loop), c->wait.account, 0,
                          sizeof *buffer + buffer->in_capacity);
    if (loop->spare_count < LPI_SPARE_MAX &&
        buffer->in_capacity <= LPI_SPARE_BYTES) {
        buffer->next = loop->spare;
        loop->spare = buffer;
        loop->spare_count++;
        return;
    }
    lpi_request_buffer_free(loop, buffer);
}

static void lpi_request_buffer_free(lpi_loop *loop, lpi_request_buffer *buffer)
{
    const lp_memory *memory = &loop->server->memory;
    lpi_free(memory, buffer->in, buffer->in_capacity);
    lpi_free(memory, buffer, sizeof *buffer);
}

/* Make `bytes`, which may lie within the kept ones, all that is kept. 0 or
   -1. */
static int lpi_read_keep(lpi_loop *loop, lpi_connection *c, const char *bytes,
                         size_t length)
{
    lpi_request_buffer *buffer = c->buffer;
    if (!length) {
        if (buffer) buffer->in_length = 0;
        if (buffer && !buffer->out) lpi_request_buffer_drop(loop, c);
        return 0;
    }
    buffer = lpi_request_buffer_get(loop, c);
    if (!buffer || lpi_request_buffer_reserve(loop, c, length)) return -1;
    if (bytes != buffer->in) memmove(buffer->in, bytes, length);
    buffer->in_length = length;
    return 0;
}

/* Keep what was received, behind what is kept. 0 or -1. */
static int lpi_read_keep_more(lpi_loop *loop, lpi_connection *c,
                              const char *bytes, size_t length)
{
    lpi_request_buffer *buffer = lpi_request_buffer_get(loop, c);
    if (!buffer ||
        lpi_request_buffer_reserve(loop, c, buffer->in_length + length))
        return -1;
    memcpy(buffer->in + buffer->in_length, bytes, length);
    buffer->in_length += length;
    return 0;
}

/* There is no room to keep what came: answer 503. If an answer to an earlier
   request is still due, none can be given before it: close. */
static void lpi_read_keep_failed(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    if (lpi_is_receiving(c)) {
        int began =
            c->phase == LPI_READING_HEAD || c->phase == LPI_READING_BODY;
        lpi_write_refusal(loop, index, began ? &c->buffer->http : NULL, 503);
        if (c->buffer) c->buffer->in_length = 0; /* nothing behind it is read */
        return;
    }
    lpi_note_refusal(loop, 0, "Cut off, since it sends too much at once",
                     LPI_S(""), c->address);
    lpi_close(loop, index);
}

/* --- what happens next --- */

/* May a request begin or go on, so that what comes is parsed as it comes? */
static int lpi_is_receiving(const lpi_connection *c)
{
    return c->phase >= LPI_ACCEPTED && c->phase <= LPI_READING_BODY;
}

/* Is something that came before the end of the stream still being answered? */
static int lpi_is_answering(const lpi_connection *c)
{
    return c->phase == LPI_WRITING || c->phase == LPI_QUEUED ||
           c->phase == LPI_PUBLISHING;
}

/* Read on, unless enough is kept behind a poll or a slow reply. */
static void lpi_read_set_interest(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    uint32_t want = c->interest & LP_WRITE;
    if (c->flags & LPI_PEER_DONE) want &= ~LP_HANGUP;
    else if (lpi_is_receiving(c) || !c->buffer ||
             c->buffer->in_length < loop->server->config.head_bytes_max)
        want |= LP_READ | LP_HANGUP;
    else want |= LP_HANGUP;
    if (want != c->interest) lpi_set_interest(loop, index, want);
}

/* A reply has gone out that did not come from lpi_read_serve: go on with what
   was pipelined behind it. */
static void lpi_read_resume(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    if (!lpi_is_receiving(c)) return;
    if (LPI_STREAMING(c->flags & LPI_STREAM)) lpi_stream_go_on(loop, index);
    else if (c->buffer && c->buffer->in_length)
        lpi_read_serve(loop, index, c->buffer->in, c->buffer->in_length);
    else if (c->flags & LPI_PEER_DONE) lpi_close(loop, index);
    else lpi_read_set_interest(loop, index);
}

static void lpi_queue_add(lpi_loop *loop, uint32_t index)
{
    lpi_wheel_cancel(&loop->wheel, index);
    lpi_set_phase(loop, lpi_connection_at(loop, index), LPI_QUEUED);
    lpi_list_append(&loop->queue, &loop->links, index);
}

static void lpi_queue_remove(lpi_loop *loop, uint32_t index)
{
    lpi_list_remove(&loop->queue, &loop->links, index);
    lpi_timer_init(&loop->wheel, index);
    lpi_set_phase(loop, lpi_connection_at(loop, index), LPI_IDLE);
}

/* Serve up to LPI_QUEUE_TURNS connections of the queue, none of them twice. */
static void lpi_queue_serve(lpi_loop *loop)
{
    int left = LPI_QUEUE_TURNS;
    uint32_t last = loop->queue.tail, index = LPI_NONE;
    while (left-- && index != last && loop->queue.head != LPI_NONE) {
        index = loop->queue.head;
        lpi_queue_remove(loop, index);
        lpi_read_resume(loop, index);
    }
}

static void lpi_read_stream_ended(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    if (!lpi_is_answering(c)) {
        lpi_close(loop, index);
        return;
    }
    c->flags |= LPI_PEER_DONE;
    lpi_set_interest(loop, index, c->interest & LP_WRITE);
}

/* The peer has ended its stream, or it broke. If we are reading, its last bytes
   may have been read, but not yet its end. */
static void lpi_read_hangup(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    if (lpi_is_closed(c)) return;
    if (c->interest & LP_READ) lpi_poller_repeat(loop, index);
    else if (lpi_is_answering(c))
        lpi_set_interest(loop, index, c->interest & LP_WRITE);
    else lpi_close(loop, index);
}

/* ==========================================================================
   E3  ROUTE                                                          >>route

   Paths are matched as they were sent: a %2F or a dot is data of its part,
   never structure. All that can be refused is refused before the body is read;
   if there is one the connection then ends, however the bytes came in.

   Promises  a request has one answer: from here, a poll, a publish, or a
             handler, and 500 if that gives none.
   ========================================================================== */

/* Route the request, and refuse all that can be refused before its body is
   read. 1 if it is answered. */
static int lpi_route_head(lp_request *r)
{
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    lp_slice path = lpi_request_path(r);
    uint32_t allowed;
    c->cors = lpi_route_origin_index(
        r->server, lpi_http_field(r->http, r->bytes, LPI_F_ORIGIN));
    if (r->http->chunked || r->http->content_length)
        c->flags |= LPI_CLOSE; /* taken back below, if it is to be read */
    lpi_route_hint_proxy(r);
    if (!lpi_route_host_good(r)) {
        lpi_write_error(r, 421, "Host not served here");
        return 1;
    }
    if (lpi_equal(path, LPI_S("*"))) {
        lpi_route_options(r, 1u << LPI_GET | 1u << LPI_POST);
        return 1;
    }
    r->route = lpi_route_find(r, &allowed);
    if (!r->route) {
        lpi_route_missing(r, allowed);
        return 1;
    }
    if (r->route->kind == LPI_PUBLISHES && lpi_route_publish_refused(r))
        return 1;
    if (r->route->kind >= LPI_CHANNELS && lpi_route_admin_refused(r)) return 1;
    if (LPI_MONITORED(lpi_route_is_monitor(r->route->kind)) &&
        lpi_monitor_refused(r))
        return 1;
    if (r->http->content_length > lpi_route_body_max(r)) {
        lpi_write_error(r, 413, "Body too large");
        return 1;
    }
    if (!r->http->close && (r->http->minor || r->http->keep_alive))
        c->flags &= (uint8_t)~LPI_CLOSE;
    return 0;
}

/* How large may the request's body be? */
static uint32_t lpi_route_body_max(const lp_request *r)
{
    const lp_config *cfg = &r->server->config;
    return r->route->kind == LPI_USER ? cfg->body_bytes_max
                                      : cfg->message_bytes_max;
}

static void lpi_route_dispatch(lp_request *r)
{
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    lpi_set_phase(r->loop, c, LPI_SERVING);
    switch (r->route->kind) {
    case LPI_POLLS:
    case LPI_STREAMS: lpi_poll(r); break;
    case LPI_PUBLISHES: lpi_publish(r); break;
    case LPI_CHANNELS:
    case LPI_CHANNEL:
    case LPI_DELETES:
    case LPI_RECEIPTS:
        if (LPI_ADMINISTERED) lpi_admin(r);
        break;
    case LPI_METRICS:
    case LPI_STATS:
    case LPI_HEALTH:
        if (LPI_MONITORED(1)) lpi_monitor(r);
        break;
    case LPI_USER:
        r->route->handler(r, r->route->ctx);
        if (r->answered) break;
        lpi_log(r->server, LP_LOG_ERROR, "a handler gave no answer", "");
        lpi_write_error(r, 500, "No answer");
        break;
    }
}

/* --- which route --- */

static lp_slice lpi_request_path(const lp_request *r)
{
    lp_slice path = lpi_text_of(r->bytes, r->http->path);
    return path.length ? path : LPI_S("/");
}

/* Find the route; else *allowed is a mask of the methods that the path has. */
static const lpi_route *lpi_route_find(const lp_request *r, uint32_t *allowed)
{
    const lpi_route *route = r->server->routes;
    lpi_method method = (lpi_method)r->http->method;
    lp_slice path = lpi_request_path(r);
    *allowed = 0;
    if (method == LPI_HEAD) method = LPI_GET;
    for (; route; route = route->next)
        if (route->method == method && lpi_route_matches(route, path))
            return route;
    for (route = r->server->routes; route; route = route->next)
        if (lpi_route_matches(route, path)) *allowed |= 1u << route->method;
    return NULL;
}

static int lpi_route_matches(const lpi_route *route, lp_slice path)
{
    lp_slice pattern = route->pattern, want, part;
    size_t n = route->literal;
    if (n)
        return path.length > n && !memcmp(path.bytes, pattern.bytes, n) &&
               !memchr(path.bytes + n, '/', path.length - n);
    while (lpi_split(&pattern, '/', &want)) {
        if (route->takes_rest && !pattern.bytes) return path.bytes != NULL;
        if (!lpi_split(&path, '/', &part)) return 0;
        if (lpi_route_is_parameter(want) ? !part.length
                                         : !lpi_equal(want, part))
            return 0;
    }
    return !path.bytes;
}

static int lpi_route_is_parameter(lp_slice part)
{
    return part.length > 2 && *part.bytes == '{' &&
           part.bytes[part.length - 1] == '}';
}

/* No route has this path and method; `allowed` is a mask of the methods that
   the path has. */
static void lpi_route_missing(lp_request *r, uint32_t allowed)
{
    if (r->http->method == LPI_OPTIONS && allowed) {
        lpi_route_options(r, allowed);
        return;
    }
    if (allowed) lpi_route_allow(r, "Allow", allowed);
    lpi_write_error(r, allowed ? 405 : 404,
                    allowed ? "Method not allowed" : "Not found");
}

/* OPTIONS, and with it the CORS preflight (Fetch standard, 4.8). */
static void lpi_route_options(lp_request *r, uint32_t allowed)
{
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    const lp_config *cfg = &r->server->config;
    char text[20];
    lpi_route_allow(r, "Allow", allowed);
    if (lpi_http_has(r->http, LPI_F_PREFLIGHT) &&
        (r->server->any_origin || c->cors)) {
        lpi_route_allow(r, "Access-Control-Allow-Methods", allowed);
        lpi_line(&r->loop->extra, "Access-Control-Allow-Headers",
                 LPI_S("Authorization, Content-Type, Idempotency-Key, "
                       "Last-Event-ID, X-Client-ID"));
        lpi_line(&r->loop->extra, "Access-Control-Max-Age",
                 lpi_slice_to(text,
                              lpi_put_uint(text, cfg->cors_max_age_s)));
    }
    lpi_write_reply(r, 204, lpi_slice(NULL, 0), LPI_S(""));
}

/* A header line with the names of the methods. */
static void lpi_route_allow(lp_request *r, const char *name, uint32_t methods)
{
    lp_text *extra = &r->loop->extra;
    int i;
    if (methods & 1u << LPI_GET) methods |= 1u << LPI_HEAD;
    methods |= 1u << LPI_OPTIONS;
    lpi_text_add(extra, lp_s(name));
    for (i = 0; i < LPI_METHODS; i++) {
        if (!(methods & 1u << i)) continue;
        methods &= ~(1u << i);
        lpi_text_add(extra, *name ? LPI_S(": ") : LPI_S(", "));
        name = "";
        lpi_text_add(extra, lp_s(lpi_method_names[i]));
    }
    lpi_text_add(extra, LPI_S("\r\n"));
}

/* --- who may --- */

/* Does the server answer to this Host? A page that reaches it by DNS rebinding
   sends another. */
static int lpi_route_host_good(const lp_request *r)
{
    const lp_server *server = r->server;
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    lp_slice name =
        lpi_address_host_name(lpi_text_of(r->bytes, r->http->authority));
    uint32_t i;
    if (!server->on_loopback && !server->host_count) return 1;
    if (c->flags & LPI_TRUSTED || !name.length) return 1;
    for (i = 0; i < server->host_count; i++)
        if (lpi_alike(server->hosts[i], name)) return 1;
    return lpi_address_host_is_literal(name);
}

/* 1 + the index of the origin in the list; 0 if it is not there. */
static uint8_t lpi_route_origin_index(const lp_server *server, lp_slice origin)
{
    uint32_t i;
    for (i = 0; i < server->origin_count; i++)
        if (lpi_alike(server->origins[i], origin)) return (uint8_t)(i + 1);
    return 0;
}

/* Check a publish request before its body is read: origin, channel, who asks,
   type and coding. 1 if it was refused. */
static int lpi_route_publish_refused(lp_request *r)
{
    lp_slice coding = lpi_http_field(r->http, r->bytes, LPI_F_CONTENT_ENCODING);
    char text[LPI_CHANNEL_RAW];
    lp_slice name;
    if (!lpi_route_origin_good(r)) {
        lpi_write_error(r, 403, "Origin not allowed");
    } else if (lpi_route_channel(r, text, &name)) {
        lpi_write_error(r, 400, "Bad channel name");
    } else if (lpi_route_permitted(r, LP_PUBLISH, name)) {
        if (!lpi_route_type_is(r, LPI_S("application/json")))
            lpi_write_error(r, 415, "Content-Type must be application/json");
        else if (coding.bytes && !lpi_alike(coding, LPI_S("identity")))
            lpi_write_error(r, 415, "Content-Encoding not supported");
        else return 0;
    }
    return 1;
}

/* May a page of that origin publish here? The server's own, or a listed one. */
static int lpi_route_origin_good(const lp_request *r)
{
    lp_slice origin = lpi_http_field(r->http, r->bytes, LPI_F_ORIGIN);
    lp_slice host, port;
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    if (!origin.bytes || r->server->any_origin || c->cors) return 1;
    host = lpi_text_of(r->bytes, r->http->authority);
    if (origin.length > 7 && lpi_alike(lpi_slice(origin.bytes, 7),
                                       LPI_S("http://"))) {
        port = LPI_S(":80");
        origin = lpi_slice(origin.bytes + 7, origin.length - 7);
    } else if (origin.length > 8 && lpi_alike(lpi_slice(origin.bytes, 8),
                                              LPI_S("https://"))) {
        port = LPI_S(":443");
        origin = lpi_slice(origin.bytes + 8, origin.length - 8);
    } else {
        return 0;
    }
    return lpi_alike(lpi_route_without_port(origin, port),
                     lpi_route_without_port(host, port));
}

static lp_slice lpi_route_without_port(lp_slice host, lp_slice port)
{
    if (host.length > port.length &&
        lpi_equal(lpi_slice(host.bytes + host.length - port.length,
                            port.length), port))
        host.length -= port.length;
    return host;
}

/* Check an administrator's request: origin, and who asks. 1 if it was
   refused. */
static int lpi_route_admin_refused(lp_request *r)
{
    lp_slice channel = lp_param(r, "channel");
    if (!channel.bytes) channel = LPI_S(""); /* it is about none, or all */
    if (r->no_memory) { /* or the name is not known */
        lpi_route_refuse(r, LPI_WHY_MEMORY);
        return 1;
    }
    if (lpi_route_origin_good(r))
        return !lpi_route_permitted(r, LP_ADMIN, channel);
    lpi_write_error(r, 403, "Origin not allowed");
    return 1;
}

/* May who asks do that on the channel? First the request's token says so, if
   one is needed, and then lp_authorize. 0 if it was refused. */
static int lpi_route_permitted(lp_request *r, lp_action action,
                               lp_slice channel)
{
    const lp_authorize *hook = &r->server->config.authorize;
    lpi_why why = lpi_route_token_refused(r, action, channel);
    int status = 0;
    if (!why && hook->ask) {
        status = hook->ask(hook->ctx, r, action, channel);
        lpi_loop_now(r->loop);
    }
    if (status == 401) why = LPI_WHY_NO_TOKEN;
    if (why) lpi_route_refuse(r, why);
    else if (status) lpi_write_error(r, 403, "Forbidden");
    return !why && !status;
}

/* Refuse the request. Unless it is wrong, it may be tried again. */
static void lpi_route_refuse(lp_request *r, lpi_why why)
{
    lp_text *extra = &r->loop->extra;
    int status = lpi_whys[why].status;
    lp_slice challenge = LPI_S("Bearer"); /* RFC 6750 3 */
    if (status == 429 || status == 503)
        lpi_line(extra, "Retry-After", LPI_S("5"));
    if (why == LPI_WHY_TOKEN_TWICE)
        challenge = LPI_S("Bearer error=\"invalid_request\"");
    else if (why == LPI_WHY_SCOPE)
        challenge = LPI_S("Bearer error=\"insufficient_scope\"");
    else if (why > LPI_WHY_NO_TOKEN)
        challenge = LPI_S("Bearer error=\"invalid_token\"");
    if (why >= LPI_WHY_NO_TOKEN) lpi_line(extra, "WWW-Authenticate", challenge);
    lpi_write_error(r, status, lpi_whys[why].text);
}

/* Why the request's token does not let it pass. If none is set for the action,
   the request needs none. */
static lpi_why lpi_route_token_refused(lp_request *r, lp_action action,
                                       lp_slice channel)
{
    const lp_config *cfg = &r->server->config;
    const char *plain = action == LP_POLL      ? cfg->poll_token
                        : action == LP_PUBLISH ? cfg->publish_token
                                               : cfg->admin_token;
    lp_slice given, in_header;
    lpi_why why = LPI_WHY_NONE;
    int is_signed = LPI_SIGNED(cfg->token_secret != NULL);
    if (!plain && !is_signed) return LPI_WHY_NONE;
    if (!is_signed || !r->token) {
        given = in_header = lpi_route_bearer(r);
        if (is_signed) why = lpi_route_query_token(r, &given);
        if (why) return why;
        if (!given.bytes) return LPI_WHY_NO_TOKEN;
        if (plain && in_header.bytes &&
            lpi_equal_constant_time(in_header, lp_s(plain)))
            return LPI_WHY_NONE;
        if (!is_signed) return LPI_WHY_TOKEN;
        why = lpi_route_token_read(r, given);
        if (why) return why;
    }
    return lpi_token_covers(r->token, action, channel) ? LPI_WHY_NONE
                                                       : LPI_WHY_SCOPE;
}

/* The token in the header (RFC 6750 2.1: the scheme's name in any case). Its
   bytes are NULL if there is none. */
static lp_slice lpi_route_bearer(const lp_request *r)
{
    lp_slice given = lpi_http_field(r->http, r->bytes, LPI_F_AUTHORIZATION);
    if (given.length < 7 ||
        !lpi_alike(lpi_slice(given.bytes, 7), LPI_S("bearer ")))
        return lpi_slice(NULL, 0);
    return lpi_trim(lpi_slice(given.bytes + 7, given.length - 7));
}

/* Look for a token in the query too (RFC 6750 2.3). *given is the one that the
   header has, if it has bytes: then there may be no other. */
static lpi_why lpi_route_query_token(lp_request *r, lp_slice *given)
{
    lp_slice query = lpi_text_of(r->bytes, r->http->query), part, name;
    while (query.length && lpi_split(&query, '&', &part)) {
        int bad;
        name = lpi_query_pair(&part);
        if (!lpi_query_name_is(name, LPI_S("access_token"))) continue;
        if (given->bytes) return LPI_WHY_TOKEN_TWICE;
        bad = lpi_route_decode(r, &part, 1);
        if (bad) return bad == -ENOMEM ? LPI_WHY_MEMORY : LPI_WHY_TOKEN;
        *given = part;
    }
    return LPI_WHY_NONE;
}

/* Read a signed token, whose time is judged by the wall clock; from then on its
   end stands on the monotonic clock. That is rounded down to a millisecond, so
   that no deadline is later than the end. */
static lpi_why lpi_route_token_read(lp_request *r, lp_slice text)
{
    const lp_os *os = r->loop->os;
    lpi_token *token;
    uint64_t wall_us;
    token = (lpi_token *)(void *)lpi_arena_take(&r->loop->arena, sizeof *token);
    if (!token) return LPI_WHY_MEMORY;
    if (lpi_token_read(token, text, &r->server->token_key))
        return LPI_WHY_TOKEN;
    lpi_loop_now(r->loop);
    wall_us = os->wall_us(os->ctx);
    if (wall_us >= token->ends_us) return LPI_WHY_TOKEN_ENDED;
    if (wall_us < token->begins_us) return LPI_WHY_TOKEN_EARLY;
    token->ends_ms = (r->loop->now_us + (token->ends_us - wall_us)) / 1000;
    r->token = token;
    return LPI_WHY_NONE;
}

/* Is that the type of the body? Parameters behind it do not count. */
static int lpi_route_type_is(const lp_request *r, lp_slice wanted)
{
    lp_slice type = lpi_http_field(r->http, r->bytes, LPI_F_TYPE), media;
    return lpi_equal(type, wanted) ||
           (lpi_split(&type, ';', &media) &&
            lpi_alike(lpi_trim(media), wanted));
}

/* A forwarded address is ignored if the peer is not a trusted proxy, so that
   all clients behind it count as one: tell the log, once. */
static void lpi_route_hint_proxy(const lp_request *r)
{
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    char line[128], address[INET6_ADDRSTRLEN];
    if (!lpi_http_has(r->http, LPI_F_FORWARDED) &&
        !lpi_http_has(r->http, LPI_F_REAL_IP))
        return;
    if (c->flags & LPI_TRUSTED || lpi_atomic_get(&r->server->hinted)) return;
    lpi_atomic_set(&r->server->hinted, 1);
    lpi_address_put(address, c->address);
    snprintf(line, sizeof line, "%s passes on addresses (X-Forwarded-For) and "
             "is not in trusted_proxies", address);
    lpi_log(r->server, LP_LOG_WARN, line, "");
}

/* --- what the path says --- */

/* The last part of the path, of one of the library's own routes. */
static lp_slice lpi_route_last(const lp_request *r)
{
    lp_slice path = lpi_request_path(r);
    size_t n = r->route->literal;
    if (!n) /* the prefix has parameters */
        for (n = path.length; path.bytes[n - 1] != '/';) n--;
    return lpi_slice(path.bytes + n, path.length - n);
}

/* The part of the path that stands where the pattern has {name}. */
static lp_slice lpi_route_part(const lp_request *r, lp_slice name)
{
    lp_slice pattern = r->route->pattern, path = lpi_request_path(r);
    lp_slice want, part;
    size_t n = r->route->literal;
    if (n && lpi_equal(name, lpi_slice(pattern.bytes + n + 1,
                                       pattern.length - n - 2)))
        return lpi_slice(path.bytes + n, path.length - n);
    while (lpi_split(&pattern, '/', &want)) {
        int is_parameter = lpi_route_is_parameter(want);
        part = path;
        if (r->route->takes_rest && !pattern.bytes) want.length -= 3;
        else if (!lpi_split(&path, '/', &part)) break;
        if (is_parameter &&
            lpi_equal(lpi_slice(want.bytes + 1, want.length - 2), name))
            return part;
    }
    return lpi_slice(NULL, 0);
}

/* The channel that the path ends with, decoded into `text` (room for
   LPI_CHANNEL_RAW bytes) if need be. 0 or -1. */
static int lpi_route_channel(const lp_request *r, char *text, lp_slice *out)
{
    lp_slice raw = lpi_route_last(r);
    if (r->http->escaped) return lpi_channel_decode(text, raw, out);
    *out = raw;
    return lpi_channel_name_good(raw) ? 0 : -1;
}

/* Percent-decode a part of the target, if there is anything to decode in it.
   0, -EINVAL or -ENOMEM. */
static int lpi_route_decode(lp_request *r, lp_slice *part, int plus)
{
    if (!part->bytes || !r->http->escaped) return 0;
    return lpi_route_decode_always(r, part, plus);
}

static int lpi_route_decode_always(lp_request *r, lp_slice *part, int plus)
{
    long n;
    char *to = lpi_arena_take(&r->loop->arena, part->length + 1);
    if (!to) {
        r->no_memory = 1;
        return -ENOMEM;
    }
    n = lpi_percent_decode(to, *part, plus);
    if (n < 0) return -EINVAL;
    *part = lpi_slice(to, (size_t)n);
    return 0;
}

/* --- adding a route --- */

/* See lpi_route.literal. */
static size_t lpi_route_literal(lp_slice pattern)
{
    lp_slice rest = pattern, part = pattern;
    size_t parameters = 0;
    while (lpi_split(&rest, '/', &part))
        parameters += (size_t)lpi_route_is_parameter(part);
    if (parameters != 1 || !lpi_route_is_parameter(part) ||
        lpi_route_takes_rest(pattern))
        return 0;
    return pattern.length - part.length;
}

/* Does the pattern end with a part like {path...}? */
static int lpi_route_takes_rest(lp_slice pattern)
{
    return lpi_ends_with(pattern, LPI_S("...}"));
}

/* Is it a pattern? It holds only bytes that a path may have, but no '*', which
   elsewhere stands for more than itself; and braces stand around whole parts,
   of which only the last may end with three dots. */
static int lpi_route_pattern_good(lp_slice pattern)
{
    lp_slice part;
    size_t i;
    if (!pattern.length || *pattern.bytes != '/' ||
        lpi_count_target(pattern.bytes, pattern.length) < pattern.length ||
        memchr(pattern.bytes, '?', pattern.length) ||
        memchr(pattern.bytes, '*', pattern.length))
        return 0;
    while (lpi_split(&pattern, '/', &part)) {
        if (lpi_route_is_parameter(part)) {
            if (lpi_route_takes_rest(part) &&
                (pattern.bytes || part.length < sizeof "{...}"))
                return 0;
            part = lpi_slice(part.bytes + 1, part.length - 2);
        }
        for (i = 0; i < part.length; i++)
            if (part.bytes[i] == '{' || part.bytes[i] == '}') return 0;
    }
    return 1;
}

static int lpi_route_is_monitor(lpi_route_kind kind)
{
    return kind == LPI_METRICS || kind == LPI_STATS || kind == LPI_HEALTH;
}

/* Does a route that will be tried before match all that the pattern matches? A
   route that takes one part cannot match all that one which takes the rest
   does. */
static int lpi_route_pattern_hidden(const lp_server *server, lpi_method method,
                                    lp_slice pattern)
{
    const lpi_route *route = server->routes;
    int takes_rest = lpi_route_takes_rest(pattern);
    for (; route; route = route->next)
        if (route->method == method && route->takes_rest == takes_rest &&
            !lpi_route_is_monitor(route->kind) &&
            lpi_route_matches(route, pattern))
            return 1;
    return 0;
}

/* The routes stand in the order in which they are tried: the library's and the
   program's as they were added, then those of >>monitor, and at the end those
   that take the rest of a path. */
static lp_result lpi_route_add(lp_server *server, lpi_route_kind kind,
                               lpi_method method, lp_slice pattern,
                               lp_handler handler, void *ctx)
{
    lpi_route **link = server->last_route ? &server->last_route->next
                                          : &server->routes;
    lpi_route *route = (lpi_route *)(void *)lpi_arena_take(
        &server->strings, sizeof *route + pattern.length);
    if (!route) return LP_ERR_NOMEM;
    memset(route, 0, sizeof *route);
    memcpy(route + 1, pattern.bytes, pattern.length);
    route->kind = kind;
    route->method = method;
    route->pattern = lpi_slice((const char *)(route + 1), pattern.length);
    route->literal = lpi_route_literal(route->pattern);
    route->takes_rest = lpi_route_takes_rest(route->pattern);
    route->handler = handler;
    route->ctx = ctx;
    while (route->takes_rest && *link) link = &(*link)->next;
    route->next = *link;
    *link = route;
    if (!route->takes_rest && !lpi_route_is_monitor(kind))
        server->last_route = route;
    return LP_OK;
}

/* ==========================================================================
   E4  POLL                                                            >>poll

   What is asked is read here, and refused if it cannot be understood; the hub
   then answers the poll, parks it, or refuses it, in one call.

   Promises  The token and lp_authorize are asked about each channel before the
             hub is. A step ends the waits whose time is over before it
             delivers, so that no message is released to a poll or a stream
             after its token's end, not even one of the same step; what was
             released before is still written.
   ========================================================================== */

enum { LPI_POLL_TURNS = 8 }; /* how often access may change while it is asked */

enum { LPI_Q_LAST_ID, LPI_Q_SINCE, LPI_Q_TIMEOUT, LPI_Q_LIMIT, LPI_Q_KNOWN };

static const lp_slice lpi_query_names[LPI_Q_KNOWN] = {
    LPI_NAMED("last_id"), LPI_NAMED("since"), LPI_NAMED("timeout"),
    LPI_NAMED("limit")};

static void lpi_poll(lp_request *r)
{
    lpi_loop *loop = r->loop;
    lpi_poll_request ask;
    lpi_why why = lpi_poll_read(r, &ask);
    int turns = LPI_POLL_TURNS;
    if (!why)
        do why = lpi_poll_begin(r, &ask);
        while (why == LPI_WHY_RECHECKED && turns--);
    if (r->answered) return; /* it may not be */
    if (why) {
        lpi_route_refuse(r, why);
        return;
    }
    r->answered = 1;
    if (loop->batch.recipient_count) lpi_deliver_batch(loop);
    else lpi_poll_park(loop, &ask);
}

/* Ask whether the poll may be, which answers it if not, and give it to the hub.
   LPI_WHY_RECHECKED if that is to be asked again, since access has changed. */
static lpi_why lpi_poll_begin(lp_request *r, lpi_poll_request *ask)
{
    lpi_loop *loop = r->loop;
    lpi_why why = LPI_WHY_NONE;
    uint32_t i;
    ask->rechecks = lpi_hub_rechecks(lpi_hub_of(loop));
    for (i = 0; i < ask->count; i++)
        if (!lpi_route_permitted(r, LP_POLL, ask->names[i])) return why;
    ask->now_ms = loop->now_ms; /* the hook may have taken its time */
    ask->ends_ms = LPI_SIGNED(r->token != NULL) ? r->token->ends_ms
                                                : UINT64_MAX;
    if (lpi_receipts_tracked(&loop->server->config))
        why = lpi_reader_name(loop, r->connection, ask->client_id);
    if (!why && LPI_STREAMING(ask->stream)) why = lpi_stream_begin(r, ask);
    if (!why) why = lpi_poll_hub(loop, ask);
    if (why) lpi_stream_drop(loop, r->connection);
    return why;
}

/* Give the poll to the hub. That may ask for policies, which takes its time. */
static lpi_why lpi_poll_hub(lpi_loop *loop, lpi_poll_request *ask)
{
    lpi_connection *c = lpi_connection_at(loop, ask->connection);
    lpi_why why = lpi_hub_poll(lpi_hub_of(loop), ask, &c->wait, &loop->batch);
    if (loop->server->config.policy.ask) lpi_loop_now(loop);
    return why;
}

/* The hub has parked the poll. */
static void lpi_poll_park(lpi_loop *loop, const lpi_poll_request *ask)
{
    lpi_connection *c = lpi_connection_at(loop, ask->connection);
    lpi_set_phase(loop, c, LPI_PARKED);
    lpi_poll_arm(loop, ask->connection, ask->wait_ms, ask->ends_ms);
    if (LPI_STREAMING(ask->stream) && !ask->fetching)
        lpi_stream_open(loop, ask);
}

/* Have the poll's wait end after wait_ms, or at the end of its token. */
static void lpi_poll_arm(lpi_loop *loop, uint32_t index, uint32_t wait_ms,
                         uint64_t ends_ms)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    c->flags &= (uint8_t)~LPI_TOKEN_ENDS;
    if (LPI_SIGNED(ends_ms <= loop->now_ms + wait_ms)) {
        c->flags |= LPI_TOKEN_ENDS;
        lpi_wheel_arm(&loop->wheel, index, (uint32_t)ends_ms);
    } else {
        lpi_arm(loop, index, wait_ms);
    }
}

static lpi_why lpi_poll_read(lp_request *r, lpi_poll_request *ask)
{
    lp_slice values[LPI_Q_KNOWN];
    lpi_why why;
    ask->loop = r->loop->index;
    ask->connection = r->connection;
    ask->count = ask->basic = ask->fetching = 0;
    ask->stream = r->route->kind == LPI_STREAMS;
    why = lpi_poll_read_names(r, ask);
    if (!why) why = lpi_poll_read_values(r, values);
    if (!why && LPI_STREAMING(ask->stream)) why = lpi_stream_values(r, values);
    if (!why) why = lpi_poll_read_cursors(ask, values);
    if (!why) why = lpi_poll_read_numbers(&r->server->config, ask, values);
    ask->client_id = lpi_http_field(r->http, r->bytes, LPI_F_CLIENT_ID);
    ask->address = r->client;
    if (LPI_STREAMING(ask->stream))
        ask->wait_ms = r->server->config.stream_beat_ms;
    if (!why && !lpi_poll_client_id_good(ask->client_id))
        why = LPI_WHY_CLIENT_ID;
    if (r->http->method == LPI_HEAD || r->loop->drain_ms)
        ask->wait_ms = 0; /* HEAD never waits, nor does anybody in a drain */
    return why;
}

static lpi_why lpi_poll_read_names(lp_request *r, lpi_poll_request *ask)
{
    lp_slice list = lpi_route_last(r), raw;
    uint32_t i;
    while (lpi_split(&list, ',', &raw)) {
        int bad;
        if (ask->count == LPI_POLL_CHANNELS) return LPI_WHY_MANY_CHANNELS;
        bad = lpi_route_decode(r, &raw, 0);
        if (bad == -ENOMEM) return LPI_WHY_MEMORY;
        if (bad || !lpi_channel_name_good(raw)) return LPI_WHY_CHANNEL_NAME;
        for (i = 0; i < ask->count; i++)
            if (lpi_equal(ask->names[i], raw)) return LPI_WHY_CHANNEL_TWICE;
        ask->names[ask->count++] = raw;
    }
    return LPI_WHY_NONE;
}

static lpi_why lpi_poll_read_values(lp_request *r, lp_slice *values)
{
    lp_slice query = lpi_text_of(r->bytes, r->http->query), part, name;
    char text[LPI_QUERY_NAME];
    int i, bad;
    memset(values, 0, LPI_Q_KNOWN * sizeof *values);
    while (query.length && lpi_split(&query, '&', &part)) {
        name = lpi_query_pair(&part);
        if (r->http->escaped && lpi_query_name(text, &name)) continue;
        for (i = 0; i < LPI_Q_KNOWN; i++)
            if (lpi_equal(name, lpi_query_names[i])) break;
        if (i == LPI_Q_KNOWN) continue;
        if (values[i].bytes) return LPI_WHY_QUERY_TWICE;
        bad = lpi_route_decode(r, &part, 1);
        if (bad) return bad == -ENOMEM ? LPI_WHY_MEMORY : LPI_WHY_QUERY;
        values[i] = part;
    }
    return LPI_WHY_NONE;
}

static lpi_why lpi_poll_read_cursors(lpi_poll_request *ask,
                                     const lp_slice *values)
{
    uint64_t us = 0;
    if (!values[LPI_Q_SINCE].bytes)
        return lpi_query_cursors(values[LPI_Q_LAST_ID], ask->requested,
                                 ask->count)
                   ? LPI_WHY_LAST_ID
                   : LPI_WHY_NONE;
    if (values[LPI_Q_LAST_ID].bytes)
        return LPI_WHY_SINCE_AND_LAST_ID;
    if (ask->count != 1) return LPI_WHY_SINCE_CHANNELS;
    if (lpi_query_seconds(values[LPI_Q_SINCE], 1, &us)) return LPI_WHY_SINCE;
    ask->basic = 1;
    ask->requested[0].kind = LPI_FROM_TIME;
    ask->requested[0].epoch = 0;
    ask->requested[0].seq = us;
    return LPI_WHY_NONE;
}

static lpi_why lpi_poll_read_numbers(const lp_config *cfg,
                                     lpi_poll_request *ask,
                                     const lp_slice *values)
{
    uint64_t us, limit = cfg->reply_messages;
    uint64_t wait_ms = cfg->timeout_ms;
    if (values[LPI_Q_TIMEOUT].bytes) {
        if (lpi_query_seconds(values[LPI_Q_TIMEOUT], 0, &us))
            return LPI_WHY_TIMEOUT;
        wait_ms = us / 1000 + (us % 1000 != 0);
    }
    if (wait_ms > cfg->timeout_ms_max) wait_ms = cfg->timeout_ms_max;
    ask->wait_ms = (uint32_t)wait_ms;
    if (values[LPI_Q_LIMIT].bytes &&
        (lpi_parse_uint(values[LPI_Q_LIMIT], &limit) || !limit ||
         limit > cfg->reply_messages_max))
        return LPI_WHY_LIMIT;
    ask->limit = (uint16_t)(ask->basic ? 1 : limit);
    return LPI_WHY_NONE;
}

static int lpi_poll_client_id_good(lp_slice id)
{
    return !id.bytes || (id.length && id.length <= LPI_CLIENT_ID_BYTES &&
                         lpi_count_visible(id.bytes, id.length) == id.length);
}

/* The poll's timeout has passed: answer with its own cursor, or with what has
   come meanwhile. Once its token has ended it is given nothing more. */
static void lpi_poll_expire(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_hub *hub = lpi_hub_of(loop);
    lpi_why why = LPI_WHY_TOKEN_ENDED;
    lp_request r;
    if (LPI_SIGNED(c->flags & LPI_TOKEN_ENDS))
        lpi_hub_leave(hub, &c->wait, loop->now_ms);
    else
        why = lpi_hub_expire(hub, index, &c->wait, loop->now_ms, &loop->batch);
    if (!why) {
        lpi_deliver_batch_and_resume(loop);
        return;
    }
    lpi_set_phase(loop, c, LPI_SERVING);
    if (lpi_stream_end(loop, index)) return;
    lpi_request_init(&r, loop, index, NULL, NULL);
    lpi_route_refuse(&r, why);
    lpi_read_resume(loop, index);
}

/* ==========================================================================
   E5  STREAM                                                        >>stream

   Server-sent events (HTML, 9.2). A stream is a poll that asks again by itself:
   each reply of the hub is sent as events, and when they are out the next poll
   goes on from there. So its waiters, limits, history and promise are those of
   polls, and a slow reader is bounded like any other: it asks for more only
   when the socket has taken what there was. A timeout is sent as a comment,
   which shows proxies and clients that the stream is alive.

   What a stream asks for stands in loop->streams, at its connection's index, so
   that a parked poll is no larger. The answer ends with the connection, and
   nothing that comes behind the request is read as another.

   Promises  the id of each event is the cursor after it, so that a client that
             connects again with the last one that it had misses nothing, and
             has nothing twice.
   ========================================================================== */

enum {
    LPI_STREAM_TURNS = 8,                       /* replies in a row          */
    LPI_STREAM_ID = LPI_POLL_CHANNELS * 38 + 8  /* bytes of an event's id    */
};

/* A client that connects again sends the id that it had last; that counts more
   than the URL, which stays the same. */
static lpi_why lpi_stream_values(lp_request *r, lp_slice *values)
{
    lp_slice last = lp_header(r, "Last-Event-ID");
    if (values[LPI_Q_SINCE].bytes) return LPI_WHY_STREAM_SINCE;
    if (last.length) values[LPI_Q_LAST_ID] = last;
    return LPI_WHY_NONE;
}

/* Keep what the stream asks for. HEAD has no stream, but its head. */
static lpi_why lpi_stream_begin(lp_request *r, const lpi_poll_request *ask)
{
    lpi_loop *loop = r->loop;
    lpi_connection *c = lpi_connection_at(loop, r->connection);
    lpi_stream *stream;
    uint32_t i;
    c->flags |= LPI_CLOSE;
    c->flags &= (uint8_t)~LPI_HTTP10_KEEP_ALIVE;
    if (c->flags & LPI_HEAD_REQUEST) return LPI_WHY_NONE;
    stream = lpi_stream_new(loop, r->connection, ask);
    if (!stream) return LPI_WHY_MEMORY;
    stream->count = ask->count;
    stream->limit = ask->limit;
    stream->rechecks = ask->rechecks;
    stream->ends_ms = ask->ends_ms;
    memcpy(stream->address, ask->address, sizeof stream->address);
    for (i = 0; i < ask->count; i++)
        stream->channels[i].from = ask->requested[i];
    loop->streams[r->connection] = stream;
    loop->counts.streams++;
    c->flags |= LPI_STREAM;
    return LPI_WHY_NONE;
}

/* A record with copies of the names; NULL without memory. */
static lpi_stream *lpi_stream_new(lpi_loop *loop, uint32_t index,
                                  const lpi_poll_request *ask)
{
    const lp_memory *memory = &loop->server->memory;
    size_t size = sizeof(lpi_stream) + ask->client_id.length;
    lpi_stream *stream;
    char *to;
    uint32_t i;
    size += (ask->count - 1) * sizeof stream->channels[0];
    for (i = 0; i < ask->count; i++) size += ask->names[i].length;
    if (lpi_stream_reserve(loop, index)) return NULL;
    stream = (lpi_stream *)lpi_alloc_zero(memory, size);
    if (!stream) return NULL;
    stream->size = size;
    to = (char *)(stream->channels + ask->count);
    for (i = 0; i < ask->count; i++) {
        stream->channels[i].name = lpi_slice(to, ask->names[i].length);
        to = lpi_put(to, ask->names[i]);
    }
    if (!ask->client_id.bytes) return stream;
    stream->client_id = lpi_slice(to, ask->client_id.length);
    lpi_put(to, ask->client_id);
    return stream;
}

/* Room in loop->streams for that connection. 0 or -1. */
static int lpi_stream_reserve(lpi_loop *loop, uint32_t index)
{
    char *streams = (char *)loop->streams;
    if (lpi_reserve_pointers(&loop->server->memory, &streams,
                             &loop->stream_capacity, index))
        return -1;
    loop->streams = (lpi_stream **)(void *)streams;
    return 0;
}

/* The stream's poll is parked, so there is no reply to begin it with: send the
   head alone. A client whose socket has no room for it reads nothing. */
static void lpi_stream_open(lpi_loop *loop, const lpi_poll_request *ask)
{
    lpi_connection *c = lpi_connection_at(loop, ask->connection);
    lpi_stream_at at[LPI_POLL_CHANNELS];
    lp_slice head;
    uint32_t i;
    if (loop->streams[ask->connection]->begun) return;
    loop->streams[ask->connection]->begun = 1;
    for (i = 0; i < ask->count; i++) {
        at[i].epoch = ask->requested[i].epoch;
        at[i].seq = ask->requested[i].seq;
    }
    head = lpi_stream_head(loop, c, at, ask->count);
    if (head.bytes) lpi_monitor_answer(loop, ask->connection, 200, 0);
    if (!head.bytes || loop->os->send(loop->os->ctx, c->fd, &head, 1) !=
                           (long)head.length)
        lpi_close(loop, ask->connection);
}

/* The head of a stream, how soon its client should connect again once it ends,
   and where it begins, so that a client which connects again before it has had
   an event goes on from there. (That is left out before a reset: a client that
   has not had it must be told again.) Without bytes if memory ran out. */
static lp_slice lpi_stream_head(lpi_loop *loop, lpi_connection *c,
                                const lpi_stream_at *at, uint32_t count)
{
    lpi_head head;
    char *text, *to;
    lpi_head_init(&head, loop, c, 200, LPI_S("text/event-stream"),
                  LPI_UNTIL_CLOSE);
    lpi_text_clear(&loop->extra);
    lpi_line(&loop->extra, "X-Accel-Buffering", LPI_S("no"));
    lpi_cors_lines(loop->server, c->cors, 0, &loop->extra);
    head.extra = lpi_text_slice(&loop->extra);
    lpi_text_clear(&loop->head);
    text = lpi_text_room(&loop->head, LPI_HEAD_FIXED + head.type.length +
                                          head.extra.length + 32 +
                                          LPI_STREAM_ID);
    if (!text || loop->extra.failed) return lpi_slice(NULL, 0);
    to = lpi_head_put(text, &head);
    if (c->flags & LPI_HEAD_REQUEST) return lpi_slice_to(text, to);
    to = LPI_PUT(to, "retry: 1000\n");
    if (count) to = lpi_stream_put_id(to, at, count);
    return lpi_slice_to(text, LPI_PUT(to, "\n"));
}

/* Send the reply to one of its recipients, which goes on after it. */
static void lpi_stream_send(lpi_loop *loop, uint32_t index,
                            const lpi_reply *reply, lp_slice body,
                            lpi_send_buffer **shared)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_stream *stream = c->flags & LPI_STREAM ? loop->streams[index] : NULL;
    lp_slice head = LPI_S("");
    lpi_stream_at at[LPI_POLL_CHANNELS];
    uint32_t i;
    if (!stream || !stream->begun) {
        lpi_stream_start(&loop->batch, reply, at);
        head = lpi_stream_head(loop, c, at,
                               reply->resets ? 0 : reply->channel_count);
    }
    if (!head.bytes || !body.bytes) {
        lpi_close(loop, index);
    } else if (!stream) {
        lpi_monitor_answer(loop, index, 200, 0);
        lpi_write_send(loop, index, head, LPI_S(""), NULL);
    } else {
        if (!stream->begun && !reply->count && !reply->resets)
            body = LPI_S(""); /* the head says all that there is */
        if (!stream->begun) lpi_monitor_answer(loop, index, 200, body.length);
        else lpi_monitor_answer_more(loop, index, body.length);
        stream->begun = 1;
        for (i = 0; i < stream->count; i++) {
            stream->channels[i].from.kind = LPI_FROM_CURSOR;
            stream->channels[i].from.epoch = reply->at[i].epoch;
            stream->channels[i].from.seq = reply->at[i].seq;
        }
        lpi_write_send(loop, index, head, body, shared);
    }
}

/* What it was sent is out: poll again. If there is ever more at once, the
   connection is queued, so that others have their turn. A client that has ended
   its side is not waited with, as with a poll. */
static void lpi_stream_go_on(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    int turns = LPI_STREAM_TURNS;
    while (c->phase == LPI_IDLE && turns--) {
        lpi_poll_request ask;
        lpi_why why;
        lpi_stream_ask(loop, index, &ask);
        lpi_set_phase(loop, c, LPI_SERVING);
        why = LPI_WHY_TOKEN_ENDED;
        if (!LPI_SIGNED(ask.ends_ms <= loop->now_ms))
            why = lpi_poll_hub(loop, &ask);
        if (why) (void)lpi_stream_end(loop, index);
        else if (loop->batch.recipient_count) lpi_deliver_batch(loop);
        else lpi_poll_park(loop, &ask);
    }
    if (c->phase == LPI_LINGERING || lpi_is_closed(c)) return;
    if (c->phase == LPI_IDLE) lpi_queue_add(loop, index);
    if (c->flags & LPI_PEER_DONE && !lpi_is_answering(c))
        lpi_close(loop, index);
    else lpi_read_set_interest(loop, index);
}

static void lpi_stream_ask(lpi_loop *loop, uint32_t index,
                           lpi_poll_request *ask)
{
    const lpi_stream *stream = loop->streams[index];
    uint32_t i;
    ask->loop = loop->index;
    ask->connection = index;
    ask->now_ms = loop->now_ms;
    ask->ends_ms = stream->ends_ms;
    ask->rechecks = stream->rechecks;
    ask->wait_ms = loop->drain_ms ? 0 : loop->server->config.stream_beat_ms;
    ask->count = stream->count;
    ask->limit = stream->limit;
    ask->basic = 0;
    ask->stream = 1;
    ask->client_id = stream->client_id;
    ask->address = stream->address;
    for (i = 0; i < stream->count; i++) {
        ask->names[i] = stream->channels[i].name;
        ask->requested[i] = stream->channels[i].from;
    }
}

/* The stream cannot go on for now: end it, and its client connects again. 0 if
   it has not begun: then it may be refused. */
static int lpi_stream_end(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    int begun = LPI_STREAMING(c->flags & LPI_STREAM) &&
                loop->streams[index]->begun;
    lpi_stream_drop(loop, index);
    if (begun) lpi_write_linger(loop, index);
    return begun;
}

static void lpi_stream_drop(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    if (!LPI_STREAMING(c->flags & LPI_STREAM)) return;
    c->flags &= (uint8_t)~LPI_STREAM;
    loop->counts.streams--;
    lpi_free(&loop->server->memory, loop->streams[index],
             loop->streams[index]->size);
}

/* --- the events --- */

/* The reply as events; without bytes if memory ran out. */
static lp_slice lpi_stream_render(lpi_loop *loop, const lpi_reply *reply)
{
    const lpi_batch *batch = &loop->batch;
    const uint8_t *channels = batch->message_channels + reply->first;
    lp_json *j = lpi_body_begin(loop);
    lpi_stream_at at[LPI_POLL_CHANNELS]; /* the cursor, as it moves on */
    uint32_t i;
    if (reply->failed) return lpi_slice(NULL, 0);
    lpi_stream_start(batch, reply, at);
    if (reply->resets) {
        lpi_json_add(j, LPI_S("event: reset\n"));
        lpi_stream_render_id(j, at, reply->channel_count);
        lpi_json_add(j, LPI_S("data: "));
        lpi_deliver_render_resets(j, reply, batch);
        lpi_json_add(j, LPI_S("\n\n"));
    }
    for (i = 0; i < reply->count; i++) {
        at[channels[i]].seq = batch->messages[reply->first + i]->seq;
        lpi_stream_render_id(j, at, reply->channel_count);
        lpi_stream_render_data(
            j, lpi_message_text(batch->messages[reply->first + i]));
    }
    if (!reply->count && !reply->resets) lpi_json_add(j, LPI_S(":\n\n"));
    return lpi_body_end(loop);
}

/* The cursor before the reply's messages. What it goes past that has no text is
   told by a reset, which comes first. */
static void lpi_stream_start(const lpi_batch *batch, const lpi_reply *reply,
                             lpi_stream_at *at)
{
    const uint8_t *channels = batch->message_channels + reply->first;
    uint32_t i;
    for (i = 0; i < reply->channel_count; i++) {
        at[i].epoch = reply->at[i].epoch;
        at[i].seq = reply->at[i].seq;
    }
    for (i = reply->count; i--;)
        at[channels[i]].seq = batch->messages[reply->first + i]->seq - 1;
}

static void lpi_stream_render_id(lp_json *j, const lpi_stream_at *at,
                                 uint32_t count)
{
    char *to = lpi_text_room(&j->text, LPI_STREAM_ID);
    if (to) lpi_text_set_end(&j->text, lpi_stream_put_id(to, at, count));
}

/* The line with a cursor, which has LPI_STREAM_ID bytes at most. */
static char *lpi_stream_put_id(char *to, const lpi_stream_at *at,
                               uint32_t count)
{
    uint32_t i;
    to = LPI_PUT(to, "id: ");
    for (i = 0; i < count; i++) {
        if (i) *to++ = ',';
        to = lpi_put_id(to, at[i].epoch, at[i].seq);
    }
    *to++ = '\n';
    return to;
}

/* A line with the message. JSON may have line ends between its tokens, which
   would end the line, and could forge an event: they become spaces. */
static void lpi_stream_render_data(lp_json *j, lp_slice message)
{
    size_t at;
    char *to, *end;
    lpi_json_add(j, LPI_S("data: "));
    at = j->text.length;
    lpi_json_add(j, message);
    if (j->text.failed) return;
    end = j->text.bytes + j->text.length;
    for (to = j->text.bytes + at;
         (to = (char *)memchr(to, '\n', (size_t)(end - to)));)
        *to = ' ';
    for (to = j->text.bytes + at;
         (to = (char *)memchr(to, '\r', (size_t)(end - to)));)
        *to = ' ';
    lpi_json_add(j, LPI_S("\n\n"));
}

/* ==========================================================================
   E6  PUBLISH                                                      >>publish

   The same way for HTTP and for lp_publish: the message is made first, which
   finds out whether it can be one, and is appended by one call of the hub, or
   left for its store. Between the two lp_before_publish is asked about what
   came over HTTP.

   Promises  what was answered with 200 has been appended; with any other
             status, nothing has, but for 504, which says that it may have
             been. lp_before_publish sees only good JSON of a good size, and no
             lock is held meanwhile.
   ========================================================================== */

static void lpi_publish(lp_request *r)
{
    char text[LPI_CHANNEL_RAW];
    lp_slice channel, json = r->body;
    lpi_message *first = NULL;
    size_t offset = 0;
    int transient;
    lp_result result = LP_ERR_ARG;
    if (lpi_publish_transient_refused(r, &transient) ||
        (LPI_REMOTE(r->server->stores) && lpi_publish_key_refused(r)))
        return;
    /* Decode it again: the head may have been read in an earlier call. */
    if (!lpi_route_channel(r, text, &channel))
        result = lpi_publish_messages(r->server, channel, json, &first,
                                      &offset);
    if (result != LP_OK) {
        lpi_publish_failed(r, result, offset);
        return;
    }
    if (r->server->config.before_publish.ask &&
        lpi_publish_ask(r, channel, &json, &first))
        return;
    if (transient) lpi_message_set_transient(first);
    lpi_loop_now(r->loop); /* for the delay till it is delivered */
    if (LPI_REMOTE(r->server->stores))
        lpi_publish_remotely(r, channel, first, lpi_json_is_array(json));
    else lpi_publish_here(r, channel, first, lpi_json_is_array(json));
}

/* Ask lp_before_publish about the messages, and make those that it gives in
   their place. 0; or -1: the request is answered, and the messages are
   freed. */
static int lpi_publish_ask(lp_request *r, lp_slice channel, lp_slice *json,
                           lpi_message **first)
{
    const lp_before_publish *hook = &r->server->config.before_publish;
    const char *text = NULL;
    lp_slice given = *json;
    lp_result result = LP_OK;
    size_t offset;
    int status = hook->ask(hook->ctx, r, channel, &given, &text);
    if (!status && given.bytes == json->bytes && given.length == json->length)
        return 0;
    *json = given;
    lpi_message_unref_all(&r->server->memory, *first);
    if (!status)
        result = lpi_publish_messages(r->server, channel, given, first,
                                      &offset);
    if (status) lpi_publish_refuse(r, status, text);
    else if (result == LP_ERR_NOMEM) lpi_publish_failed(r, result, 0);
    else if (result != LP_OK) lpi_publish_misused(r, "gave bad JSON");
    return r->answered ? -1 : 0;
}

/* lp_before_publish refuses, with a text of its own or without. */
static void lpi_publish_refuse(lp_request *r, int status, const char *text)
{
    lp_text *extra = &r->loop->extra;
    if (status < 400 || status > 599) {
        lpi_publish_misused(r, "gave a bad status");
        return;
    }
    if (status == 401) lpi_line(extra, "WWW-Authenticate", LPI_S("Bearer"));
    if (status == 429 || status == 503)
        lpi_line(extra, "Retry-After", LPI_S("5"));
    lpi_write_error(r, status, text ? text : "Message refused");
}

/* lp_before_publish has done what it may not. */
static void lpi_publish_misused(lp_request *r, const char *what)
{
    lpi_log(r->server, LP_LOG_ERROR, "before_publish", what);
    lpi_write_error(r, 500, "Message not published");
}

/* Append the messages, and answer. */
static void lpi_publish_here(lp_request *r, lp_slice channel,
                             lpi_message *first, int is_array)
{
    lp_published published;
    lp_result result = lpi_hub_publish(&r->server->hub, channel, first,
                                       r->loop->now_us, &published);
    if (r->server->config.policy.ask) lpi_loop_now(r->loop);
    if (result == LP_OK) {
        lpi_write_reply(r, 200, LPI_S("application/json"),
                        lpi_publish_render(r->loop, &published, is_array));
        return;
    }
    lpi_message_unref_all(&r->server->memory, first);
    lpi_publish_failed(r, result, 0);
}

/* Is it to be transient? 1 if the request was refused. */
static int lpi_publish_transient_refused(lp_request *r, int *transient)
{
    lp_slice value = lpi_query_find(lpi_text_of(r->bytes, r->http->query),
                                    LPI_S("transient"));
    *transient = value.bytes != NULL;
    (void)lpi_route_decode(r, &value, 1); /* else it is as sent: not "1" */
    if (r->no_memory) lpi_publish_failed(r, LP_ERR_NOMEM, 0);
    else if (value.bytes && !lpi_equal(value, LPI_S("1")))
        lpi_write_error(r, 400, "Bad transient");
    return r->answered;
}

/* Check an Idempotency-Key, if there is one. 1 if the request was refused. */
static int lpi_publish_key_refused(lp_request *r)
{
    lp_slice key = lp_header(r, "Idempotency-Key");
    if (!key.bytes || (key.length && key.length <= LPI_RETRY_KEY &&
                       lpi_count_visible(key.bytes, key.length) == key.length))
        return 0;
    lpi_write_error(r, 400, "Bad Idempotency-Key");
    return 1;
}

/* The channel's store is elsewhere. */
static void lpi_publish_remotely(lp_request *r, lp_slice channel,
                                 lpi_message *first, int is_array)
{
    lp_slice key = lp_header(r, "Idempotency-Key");
    lpi_call call;
    lpi_call_init(&call, channel);
    call.first = first;
    call.is_array = is_array != 0;
    call.key_length = (uint32_t)key.length;
    if (key.length) memcpy(call.key, key.bytes, key.length);
    lpi_publish_leave(r, &call);
}

/* Leave the call for its store: the request is answered when that has. */
static void lpi_publish_leave(lp_request *r, lpi_call *call)
{
    lpi_loop *loop = r->loop;
    lp_result result;
    call->loop = loop->index;
    call->connection = r->connection;
    result = lpi_stores_publish(r->server, call);
    if (result != LP_PENDING) {
        lpi_message_unref_all(&r->server->memory, call->first);
        lpi_publish_failed(r, result, 0);
        return;
    }
    r->answered = 1;
    lpi_wheel_cancel(&loop->wheel, r->connection);
    lpi_set_phase(loop, lpi_connection_at(loop, r->connection), LPI_PUBLISHING);
}

/* A call for that channel, of whose outcome nobody is told. */
static void lpi_call_init(lpi_call *call, lp_slice channel)
{
    memset(call, 0, sizeof *call);
    call->connection = LPI_NONE;
    call->name_length = (uint32_t)channel.length;
    memcpy(call->name, channel.bytes, channel.length);
}

/* The store has answered, or will not. If the connection was closed meanwhile,
   its record has waited for this. */
static void lpi_publish_answer(lpi_loop *loop, const lpi_call *call)
{
    uint32_t index = call->connection;
    lpi_connection *c;
    lp_request r;
    if (index == LPI_NONE) return; /* lp_publish: nobody is to be told */
    c = lpi_connection_at(loop, index);
    if (c->phase == LPI_ABANDONED) {
        lpi_close_record(loop, index);
        return;
    }
    LP_ASSERT(c->phase == LPI_PUBLISHING);
    lpi_request_init(&r, loop, index, NULL, NULL);
    lpi_set_phase(loop, c, LPI_SERVING);
    if (call->outcome.result == LP_OK && call->deletes)
        lpi_admin_deleted(&r);
    else if (call->outcome.result == LP_OK)
        lpi_write_reply(&r, 200, LPI_S("application/json"),
                        lpi_publish_render(loop, &call->outcome.published,
                                           call->is_array));
    else lpi_publish_failed(&r, call->outcome.result, 0);
    lpi_read_resume(loop, index);
}

/* The body of the answer. */
static lp_slice lpi_publish_render(lpi_loop *loop,
                                   const lp_published *published, int is_array)
{
    lp_json *j = lpi_body_begin(loop);
    char *to = lpi_text_room(&j->text, published->count * sizeof published->id +
                                           200);
    if (!to) return lpi_slice(NULL, 0);
    to = LPI_PUT(to, "{\"status\":\"published\",\"message_id");
    if (is_array) {
        to = lpi_publish_put_ids(LPI_PUT(to, "s\":["), published);
        to = LPI_PUT(to, "],\"timestamp\":");
    } else {
        to = lpi_put(LPI_PUT(to, "\":\""), lp_s(published->id));
        to = LPI_PUT(to, "\",\"timestamp\":");
    }
    to = lpi_put_seconds(to, published->timestamp_us);
    to = LPI_PUT(to, ",\"waiters\":");
    to = lpi_put_uint(to, published->waiters);
    if (LPI_REMOTE(loop->server->stores)) {
        to = LPI_PUT(to, ",\"instances\":");
        to = lpi_put_uint(to, published->instances);
    }
    lpi_text_set_end(&j->text, LPI_PUT(to, "}"));
    return lpi_body_end(loop);
}

/* The ids of messages in a row, of which the last is known. */
static char *lpi_publish_put_ids(char *to, const lp_published *published)
{
    lpi_requested last;
    uint64_t seq;
    if (lpi_query_cursor(lp_s(published->id), &last)) return to;
    for (seq = last.seq - published->count + 1; seq <= last.seq; seq++) {
        to = LPI_PUT(to, "\"");
        to = lpi_put_id(to, last.epoch, seq);
        to = seq < last.seq ? LPI_PUT(to, "\",") : LPI_PUT(to, "\"");
    }
    return to;
}

/* Publish a chain of messages on any thread, for C code: LP_OK with *out; or,
   with Redis, LP_PENDING, the outcome being told to whom `outcome` says, unless
   that is NULL; or they are freed. */
static lp_result lpi_publish_chain(lp_server *server, lp_slice channel,
                                   lpi_message *first,
                                   const lpi_outcome *outcome,
                                   lp_published *out)
{
    lp_result result;
    if (LPI_REMOTE(server->stores)) {
        lpi_call call;
        lpi_call_init(&call, channel);
        call.first = first;
        if (outcome) call.outcome = *outcome;
        result = lpi_stores_publish(server, &call);
    } else {
        result = lpi_hub_publish(&server->hub, channel, first,
                                 server->os.monotonic_us(server->os.ctx), out);
    }
    if (result < 0) lpi_message_unref_all(&server->memory, first);
    return result;
}

/* A chain of the messages that are to be published, in *out; or NULL. */
static lp_result lpi_publish_messages(lp_server *server, lp_slice channel,
                                      lp_slice json, lpi_message **out,
                                      size_t *offset)
{
    const lp_memory *memory = &server->memory;
    lp_result result = LP_OK;
    *out = NULL;
    if (json.length > server->config.message_bytes_max) return LP_ERR_TOO_LARGE;
    if (!lpi_json_is_array(json)) {
        *out = lpi_message_new(memory, channel, json, &result, offset);
        return result;
    }
    *out = lpi_message_new_array(memory, channel, json, &result, offset);
    if (*out && lpi_message_count(*out) > server->config.history_count) {
        lpi_message_unref_all(memory, *out);
        *out = NULL;
        result = LP_ERR_TOO_LARGE;
    }
    return result;
}

static void lpi_publish_failed(lp_request *r, lp_result result, size_t offset)
{
    char text[64] = "Not a JSON object, at byte ";
    if (result == LP_ERR_JSON) {
        *lpi_put_uint(text + strlen(text), offset) = 0;
        lpi_write_error(r, 400, text);
        return;
    }
    if (result == LP_ERR_TOO_LARGE) {
        lpi_write_error(r, 413, "Too many messages");
        return;
    }
    if (result == LP_ERR_UNKNOWN) { /* to try again may publish it twice */
        lpi_write_error(r, 504, lp_strerror(result));
        return;
    }
    if (result == LP_ERR_REFUSED) {
        lpi_write_error(r, 403, lp_strerror(result));
        return;
    }
    lpi_line(&r->loop->extra, "Retry-After", LPI_S("5"));
    lpi_write_error(r, 503, lp_strerror(result));
}

/* ==========================================================================
   E7  LATER                                                          >>later

   A request that the program answers later, from any thread. Its connection
   waits with a deadline, and beside it stands a record that says so to other
   threads, under the loop's mutex. The answer comes through the inbox.

   Promises  a request is answered once: by the program, or by 504; whoever is
             told LP_OK was the first to answer.
   ========================================================================== */

/* Put the request off. 0 or -1. */
static int lpi_later_begin(lp_request *r, uint32_t timeout_ms, lp_deferred *out)
{
    lpi_loop *loop = r->loop;
    uint32_t index = r->connection;
    lpi_later *later = lpi_later_new(r);
    if (!later || lpi_later_add(loop, index, later)) {
        if (later) lpi_free(&r->server->memory, later, later->size);
        return -1;
    }
    out->number = later->number;
    out->loop = loop->index;
    out->connection = index;
    r->answered = 1;
    lpi_set_phase(loop, lpi_connection_at(loop, index), LPI_DEFERRED);
    lpi_loop_now(loop); /* the handler may have taken its time */
    lpi_arm(loop, index, timeout_ms);
    if (loop->drain_ms) lpi_later_limit(loop, index);
    return 0;
}

/* With a copy of the lines that the handler has added; NULL without memory. */
static lpi_later *lpi_later_new(lp_request *r)
{
    lp_slice lines = lpi_text_slice(&r->loop->extra);
    size_t size = sizeof(lpi_later) + lines.length;
    lpi_later *later;
    if (r->loop->extra.failed) return NULL;
    later = (lpi_later *)lpi_alloc_zero(&r->server->memory, size);
    if (!later) return NULL;
    later->size = size;
    later->number = ++r->loop->later_number;
    later->may_cache = r->may_cache;
    later->own_origin = r->own_origin;
    later->lines = lpi_slice((const char *)(later + 1), lines.length);
    if (lines.length) memcpy(later + 1, lines.bytes, lines.length);
    return later;
}

/* 0 or -1. */
static int lpi_later_add(lpi_loop *loop, uint32_t index, lpi_later *later)
{
    char *laters;
    int failed;
    lpi_lock(&loop->mutex);
    laters = (char *)loop->laters;
    failed = lpi_reserve_pointers(&loop->server->memory, &laters,
                                  &loop->later_capacity, index);
    loop->laters = (lpi_later **)(void *)laters;
    if (!failed) loop->laters[index] = later;
    lpi_unlock(&loop->mutex);
    return failed;
}

/* The request of that handle; NULL if it does not wait any more. On another
   thread than the loop's, under its mutex. */
static lpi_later *lpi_later_find(const lpi_loop *loop,
                                 const lp_deferred *request)
{
    uint32_t index = request->connection;
    lpi_later *later =
        index < loop->later_capacity ? loop->laters[index] : NULL;
    return later && later->number == request->number ? later : NULL;
}

/* An answer, with a copy of its type and its body; NULL without memory. */
static lpi_task *lpi_later_new_answer(const lp_memory *memory, lp_slice type,
                                      lp_slice body)
{
    lpi_task *task = (lpi_task *)lpi_alloc_zero(memory, sizeof *task);
    lpi_answer *answer;
    if (!task) return NULL;
    task->kind = LPI_TASK_ANSWER;
    answer = &task->of.answer;
    answer->size = type.length + body.length + 1; /* never 0 */
    answer->text = (char *)lpi_alloc(memory, answer->size);
    if (!answer->text) {
        lpi_free(memory, task, sizeof *task);
        return NULL;
    }
    if (type.length) memcpy(answer->text, type.bytes, type.length);
    answer->type = lpi_slice(answer->text, type.length);
    answer->body = lpi_slice(answer->text + type.length, body.length);
    if (body.length)
        memcpy(answer->text + type.length, body.bytes, body.length);
    return task;
}

/* On any thread: leave the answer, unless there is one already. */
static lp_result lpi_later_leave(lpi_loop *loop, lpi_task *task)
{
    lpi_later *later;
    int may;
    lpi_lock(&loop->mutex);
    later = lpi_later_find(loop, &task->of.answer.request);
    may = later && !later->answered;
    if (may) later->answered = 1;
    lpi_unlock(&loop->mutex);
    if (!may) return LP_ERR_GONE;
    lpi_inbox_add(loop, task, 1);
    return LP_OK;
}

/* An answer is here. If the connection was closed meanwhile, nobody wants
   it. */
static void lpi_later_answer(lpi_loop *loop, const lpi_answer *answer)
{
    uint32_t index = answer->request.connection;
    if (lpi_later_find(loop, &answer->request)) {
        lp_request r;
        lpi_later_end(&r, loop, index);
        lpi_write_reply(&r, answer->status, answer->type, answer->body);
        lpi_read_resume(loop, index);
    }
    lpi_free(&loop->server->memory, answer->text, answer->size);
}

/* The request is about to be answered. */
static void lpi_later_end(lp_request *r, lpi_loop *loop, uint32_t index)
{
    const lpi_later *later = loop->laters[index];
    lpi_request_init(r, loop, index, NULL, NULL);
    r->may_cache = later->may_cache;
    r->own_origin = later->own_origin;
    lpi_text_add(&loop->extra, later->lines);
    lpi_later_drop(loop, index);
    lpi_set_phase(loop, lpi_connection_at(loop, index), LPI_SERVING);
}

static void lpi_later_drop(lpi_loop *loop, uint32_t index)
{
    lpi_later *later = loop->laters[index];
    lpi_lock(&loop->mutex);
    loop->laters[index] = NULL;
    lpi_unlock(&loop->mutex);
    lpi_free(&loop->server->memory, later, later->size);
}

/* Its time is up: answer 504, unless an answer is on its way. */
static void lpi_later_expire(lpi_loop *loop, uint32_t index)
{
    lp_request r;
    int answered;
    lpi_lock(&loop->mutex);
    answered = loop->laters[index]->answered;
    loop->laters[index]->answered = 1; /* whoever comes now is too late */
    lpi_unlock(&loop->mutex);
    if (answered) return;
    lpi_later_end(&r, loop, index);
    lpi_text_clear(&loop->extra); /* the lines were for another answer */
    r.may_cache = r.own_origin = 0;
    lpi_write_error(&r, 504, "No answer in time");
    lpi_read_resume(loop, index);
}

/* In a drain, wait no longer than that takes. */
static void lpi_later_limit(lpi_loop *loop, uint32_t index)
{
    const lpi_connection *c = lpi_connection_at(loop, index);
    uint32_t when = (uint32_t)loop->drain_ms;
    if (lpi_timer_armed(&loop->wheel, index) &&
        (int32_t)(when - c->timer.deadline) >= 0)
        return;
    lpi_wheel_arm(&loop->wheel, index, when);
}

/* ==========================================================================
   E8  ADMIN                                                          >>admin

   What an administrator asks of channels. The token has been checked when the
   request was routed.
   ========================================================================== */

enum { LPI_ADMIN_PAGE = 100, LPI_ADMIN_PAGE_MAX = 1000, LPI_ADMIN_BATCH = 16 };

static void lpi_admin(lp_request *r)
{
    if (r->route->kind == LPI_CHANNELS) lpi_admin_list(r);
    else if (r->route->kind == LPI_CHANNEL) lpi_admin_describe(r);
    else if (r->route->kind == LPI_DELETES) lpi_admin_delete(r);
    else lpi_admin_receipts(r);
}

static void lpi_admin_describe(lp_request *r)
{
    char text[LPI_CHANNEL_RAW];
    lp_slice channel;
    lp_channel_info info;
    if (lpi_route_channel(r, text, &channel)) {
        lpi_write_error(r, 400, "Bad channel name");
    } else if (lpi_hub_describe(lpi_hub_of(r->loop), channel, r->loop->now_ms,
                                &info) != LP_OK) {
        lpi_write_error(r, 404, "No such channel");
    } else {
        lpi_admin_render_channel(lpi_body_begin(r->loop), &info,
                                 r->server->os.wall_us(r->server->os.ctx));
        lpi_admin_reply(r);
    }
}

/* A page of the channels. */
static void lpi_admin_list(lp_request *r)
{
    uint64_t now_us = r->server->os.wall_us(r->server->os.ctx);
    lp_channel_info infos[LPI_ADMIN_BATCH];
    uint32_t position, limit, i;
    lp_json *j;
    if (lpi_admin_page(r, &position, &limit)) return;
    j = lpi_body_begin(r->loop);
    lp_json_object(j);
    lp_json_key(j, LPI_S("channels"));
    lp_json_array(j);
    do {
        uint32_t n = LPI_ADMIN_BATCH;
        if (n > limit) n = limit;
        n = lpi_hub_list(lpi_hub_of(r->loop), r->loop->now_ms, &position,
                         infos, n);
        for (i = 0; i < n; i++) lpi_admin_render_channel(j, &infos[i], now_us);
        limit -= n;
    } while (limit && position);
    lp_json_end(j);
    lpi_admin_render_next(j, position);
    lp_json_end(j);
    lpi_admin_reply(r);
}

static void lpi_admin_delete(lp_request *r)
{
    char text[LPI_CHANNEL_RAW];
    lp_slice channel;
    lp_result result;
    if (lpi_route_channel(r, text, &channel)) {
        lpi_write_error(r, 400, "Bad channel name");
        return;
    }
    if (LPI_REMOTE(r->server->stores)) {
        lpi_call call;
        lpi_call_init(&call, channel);
        call.deletes = 1;
        lpi_publish_leave(r, &call);
        return;
    }
    result = lpi_hub_delete(lpi_hub_of(r->loop), channel, r->loop->now_ms);
    if (result == LP_OK) lpi_admin_deleted(r);
    else if (result == LP_ERR_NOT_FOUND)
        lpi_write_error(r, 404, "No such channel");
    else lpi_publish_failed(r, result, 0);
}

/* Whom a message was handed to. */
static void lpi_admin_receipts(lp_request *r)
{
    lp_slice channel = lp_param(r, "channel"), id = lp_param(r, "id");
    uint32_t limit, i;
    lpi_requested at;
    lp_receipts page;
    lp_json *j;
    if (lpi_admin_page(r, &page.position, &limit)) return;
    if (!lpi_channel_name_good(channel) || !id.bytes ||
        lpi_query_cursor(id, &at) || at.kind != LPI_FROM_CURSOR) {
        lpi_write_error(r, 400, "Bad channel name or id");
        return;
    }
    j = lpi_body_begin(r->loop);
    lp_json_object(j);
    lp_json_key(j, LPI_S("delivered_to"));
    lp_json_array(j);
    do {
        uint32_t from = page.position;
        if (lpi_hub_receipts(lpi_hub_of(r->loop), channel, &at,
                             r->loop->now_ms, &page) != LP_OK) {
            lpi_write_error(r, 404, "No such message");
            return;
        }
        if (page.count > limit) {
            page.count = limit;
            page.position = from + limit;
        }
        for (i = 0; i < page.count; i++)
            lp_json_string(j, lp_s(page.client_ids[i]));
        limit -= page.count;
    } while (limit && page.position);
    lp_json_end(j);
    lp_json_key(j, LPI_S("complete"));
    lp_json_bool(j, page.complete);
    lpi_admin_render_next(j, page.position);
    lp_json_end(j);
    lpi_admin_reply(r);
}

static void lpi_admin_deleted(lp_request *r)
{
    lp_json *j = lpi_body_begin(r->loop);
    lp_json_object(j);
    lp_json_key(j, LPI_S("status"));
    lp_json_string(j, LPI_S("deleted"));
    lp_json_end(j);
    lpi_admin_reply(r);
}

/* Read after= and limit=. 0, or -1 with the request refused. */
static int lpi_admin_page(lp_request *r, uint32_t *position, uint32_t *limit)
{
    lp_slice after = lp_query(r, "after"), max = lp_query(r, "limit");
    uint64_t from = 0, count = LPI_ADMIN_PAGE;
    if (r->no_memory) { /* for these, or for what the caller has asked for */
        lpi_route_refuse(r, LPI_WHY_MEMORY);
        return -1;
    }
    if (after.bytes && (lpi_parse_uint(after, &from) || from >= LPI_NONE)) {
        lpi_write_error(r, 400, "Bad after");
        return -1;
    }
    if (max.bytes && (lpi_parse_uint(max, &count) || !count ||
                      count > LPI_ADMIN_PAGE_MAX)) {
        lpi_write_error(r, 400, "Bad limit");
        return -1;
    }
    *position = (uint32_t)from;
    *limit = (uint32_t)count;
    return 0;
}

/* Where the next page begins, unless this was the last. */
static void lpi_admin_render_next(lp_json *j, uint32_t position)
{
    if (!position) return;
    lp_json_key(j, LPI_S("next"));
    lp_json_uint(j, position);
}

static void lpi_admin_render_channel(lp_json *j, const lp_channel_info *info,
                                     uint64_t now_us)
{
    uint64_t age_us = now_us > info->created_us ? now_us - info->created_us : 0;
    lp_json_object(j);
    lp_json_key(j, LPI_S("channel"));
    lp_json_string(j, lp_s(info->name));
    lp_json_key(j, LPI_S("waiters"));
    lp_json_uint(j, info->waiters);
    lp_json_key(j, LPI_S("held"));
    lp_json_uint(j, info->held);
    lpi_admin_render_id(j, LPI_S("first_id"), info->first_id);
    lpi_admin_render_id(j, LPI_S("last_id"), info->last_id);
    lpi_admin_render_seconds(j, LPI_S("timestamp"), info->timestamp_us);
    lpi_admin_render_seconds(j, LPI_S("age"), age_us);
    lp_json_end(j);
}

static void lpi_admin_render_id(lp_json *j, lp_slice key, const char *id)
{
    lp_json_key(j, key);
    if (*id) lp_json_string(j, lp_s(id));
    else lp_json_null(j);
}

static void lpi_admin_render_seconds(lp_json *j, lp_slice key, uint64_t us)
{
    char text[32];
    lp_json_key(j, key);
    lp_json_raw(j, lpi_slice_to(text, lpi_put_seconds(text, us)));
}

/* Answer with what was written. */
static void lpi_admin_reply(lp_request *r)
{
    lpi_write_reply(r, 200, LPI_S("application/json"), lpi_body_end(r->loop));
}

/* ==========================================================================
   E9  MONITOR                                                      >>monitor

   What an operator is told: /metrics, /api/stats and /healthz, and the access
   log. A loop counts its replies in numbers of its own, which the hub copies
   once a turn, so that counting takes no lock.

   What the access log will say of a request is kept from its head until it is
   answered in loop->accesses, at its connection's index, so that a parked poll
   is no larger without one. Each place that answers calls lpi_monitor_answer()
   before it sends. lpi_access_end() follows when the answer is out, of polls
   when that of the whole batch is, so that nobody waits for the hook; a stream,
   and a request that gets no answer, are told at the end of the step in which
   their connection closes.

   Promises  a request is told to the access log once, unless there was no
             memory to keep what it says; no token is told.
   ========================================================================== */

/* --- counting --- */

/* A reply of that status, and of that many bytes without its head. */
static void lpi_monitor_count(lpi_loop *loop, int status, size_t bytes)
{
    loop->counts.replies[status / 100]++;
    lpi_monitor_count_bytes(loop, bytes);
}

static void lpi_monitor_count_bytes(lpi_loop *loop, size_t bytes)
{
    loop->counts.reply_bytes += bytes;
    loop->counts.reply_sizes[lpi_reply_size_index(bytes)]++;
}

/* See lp_stats.reply_sizes. */
static uint32_t lpi_reply_size_index(uint64_t bytes)
{
    uint64_t rest = bytes ? (bytes - 1) >> 8 : 0;
    uint32_t at = rest ? (63 - (uint32_t)__builtin_clzll(rest)) / 2 + 1 : 0;
    return at < LP_REPLY_SIZES ? at : LP_REPLY_SIZES - 1;
}

/* The request is about to be answered. */
static void lpi_monitor_answer(lpi_loop *loop, uint32_t index, int status,
                               size_t bytes)
{
    lpi_access *kept = lpi_access_of(loop, index);
    lpi_monitor_count(loop, status, bytes);
    if (!LPI_MONITORED(kept)) return;
    kept->access.status = status;
    kept->access.bytes = bytes;
    kept->access.stream =
        (lpi_connection_at(loop, index)->flags & LPI_STREAM) != 0;
}

/* A stream is about to be sent more. */
static void lpi_monitor_answer_more(lpi_loop *loop, uint32_t index,
                                    size_t bytes)
{
    lpi_access *kept = lpi_access_of(loop, index);
    lpi_monitor_count_bytes(loop, bytes);
    if (LPI_MONITORED(kept)) kept->access.bytes += bytes;
}

/* --- the access log --- */

/* What is kept of the request for the access log; NULL if nothing is. */
static lpi_access *lpi_access_of(const lpi_loop *loop, uint32_t index)
{
    return LPI_MONITORED(index < loop->access_capacity) ? loop->accesses[index]
                                                        : NULL;
}

/* A request's head is here, or it is refused before that. Nothing is kept if
   that was done already, or there is no memory. */
static void lpi_access_begin(lp_request *r)
{
    lpi_loop *loop = r->loop;
    char *accesses = (char *)loop->accesses;
    if (lpi_access_of(loop, r->connection) ||
        lpi_reserve_pointers(&loop->server->memory, &accesses,
                             &loop->access_capacity, r->connection))
        return;
    loop->accesses = (lpi_access **)(void *)accesses;
    loop->accesses[r->connection] = lpi_access_new(r);
}

static lpi_access *lpi_access_new(lp_request *r)
{
    const lp_os *os = r->loop->os;
    lp_slice path = lpi_slice(NULL, 0), agent = path, referer = path;
    lpi_access *kept;
    size_t size = sizeof *kept;
    char *to;
    if (r->http) {
        path = lpi_access_cut(lpi_request_path(r));
        agent = lpi_access_cut(lp_header(r, "User-Agent"));
        referer = lp_header(r, "Referer");
        referer.length = lpi_access_until_query(referer);
        referer = lpi_access_cut(referer);
    }
    size += path.length + agent.length + referer.length;
    kept = (lpi_access *)lpi_alloc_zero(&r->server->memory, size);
    if (!kept) return NULL;
    kept->size = size;
    kept->began_us = os->monotonic_us(os->ctx);
    memcpy(kept->client, r->client, sizeof kept->client);
    to = (char *)(kept + 1);
    kept->access.path = lpi_access_keep(&to, path);
    kept->access.agent = lpi_access_keep(&to, agent);
    kept->access.referer = lpi_access_keep(&to, referer);
    kept->access.wall_us = os->wall_us(os->ctx);
    kept->access.method = LPI_S("");
    if (!r->http) return kept;
    kept->access.method = lp_s(lpi_method_names[r->http->method]);
    kept->access.http10 = !r->http->minor;
    return kept;
}

static lp_slice lpi_access_cut(lp_slice text)
{
    if (text.length > LP_ACCESS_TEXT) text.length = LP_ACCESS_TEXT;
    return text;
}

/* How much of an address of a page may be told: its query, and what stands
   behind a #, may hold a token. */
static size_t lpi_access_until_query(lp_slice url)
{
    size_t n = 0;
    while (n < url.length && url.bytes[n] != '?' && url.bytes[n] != '#') n++;
    return n;
}

static lp_slice lpi_access_keep(char **to, lp_slice text)
{
    lp_slice kept = lpi_slice(*to, text.length);
    if (!text.length) return lpi_slice("", 0);
    *to = lpi_put(*to, text);
    return kept;
}

/* The request was answered, or will not be. A stream goes on until its
   connection closes. */
static void lpi_access_end(lpi_loop *loop, uint32_t index)
{
    const lp_access_log *hook = &loop->server->config.access_log;
    lpi_access *kept = lpi_access_of(loop, index);
    char client[INET6_ADDRSTRLEN];
    if (!LPI_MONITORED(kept)) return;
    if (kept->access.stream && !lpi_is_closed(lpi_connection_at(loop, index)))
        return;
    loop->accesses[index] = NULL; /* before the hook, which may publish */
    kept->access.client = lpi_address_put(client, kept->client);
    lpi_loop_now(loop);
    kept->access.duration_us = loop->now_us - kept->began_us;
    if (!kept->access.status) kept->access.status = 499;
    hook->write(hook->ctx, &kept->access);
    lpi_free(&loop->server->memory, kept, kept->size);
    lpi_loop_now(loop);
}

/* --- who may --- */

/* See the manual. 1 if the request was refused. */
static int lpi_monitor_refused(lp_request *r)
{
    const lp_config *cfg = &r->server->config;
    if (cfg->monitor == 1 || lpi_monitor_is_brief(r)) return 0;
    if (lpi_config_has_admin(cfg)) return lpi_route_admin_refused(r);
    if (lpi_monitor_is_local(r)) return 0;
    lpi_write_error(r, 404, "Not found");
    return 1;
}

/* /healthz without the token that it wants says the status alone. */
static int lpi_monitor_is_brief(const lp_request *r)
{
    const lp_config *cfg = &r->server->config;
    return r->route->kind == LPI_HEALTH && cfg->monitor != 1 &&
           lpi_config_has_admin(cfg) &&
           !lpi_http_has(r->http, LPI_F_AUTHORIZATION);
}

/* Does the request come from a program on this machine? A proxy there passes on
   what others ask, and a browser what pages ask. */
static int lpi_monitor_is_local(const lp_request *r)
{
    static const char *const others[] = {"X-Forwarded-For", "X-Real-IP",
                                         "Forwarded", "Via", "Origin"};
    lpi_connection *c = lpi_connection_at(r->loop, r->connection);
    lp_slice host =
        lpi_address_host_name(lpi_text_of(r->bytes, r->http->authority));
    size_t i;
    if (!r->server->on_loopback || c->flags & LPI_TRUSTED) return 0;
    for (i = 0; i < LPI_COUNT(others); i++)
        if (lp_header(r, others[i]).bytes) return 0;
    return !host.length || lpi_address_host_is_literal(host);
}

/* --- what is told --- */

static void lpi_monitor(lp_request *r)
{
    lp_slice type = LPI_S("application/json"), body;
    lp_stats stats;
    int status = 200;
    lp_stats_read(r->server, &stats);
    if (r->route->kind == LPI_METRICS) {
        type = LPI_S("text/plain; version=0.0.4; charset=utf-8");
        body = lpi_metrics_render(r->loop, &stats);
    } else if (r->route->kind == LPI_STATS) {
        body = lpi_monitor_render_stats(r->loop, &stats);
    } else {
        if (lpi_atomic_get(&r->server->stopping)) {
            status = 503;
            /* This loop may not have begun its drain. */
            lpi_connection_at(r->loop, r->connection)->flags |= LPI_CLOSE;
        }
        body = lpi_monitor_render_health(r, status, stats.redis_up);
    }
    lpi_write_reply(r, status, type, body);
}

static lp_slice lpi_monitor_render_health(lp_request *r, int status,
                                          uint32_t redis_up)
{
    lp_json *j = lpi_body_begin(r->loop);
    const char *redis = !redis_up ? "down" : "partly";
    if (redis_up == r->server->store_count) redis = "up";
    lp_json_object(j);
    lp_json_key(j, LPI_S("status"));
    lp_json_string(j, status == 200 ? LPI_S("ok") : LPI_S("draining"));
    if (r->server->config.redis && !lpi_monitor_is_brief(r)) {
        lp_json_key(j, LPI_S("redis"));
        lp_json_string(j, lp_s(redis));
    }
    lp_json_end(j);
    return lpi_body_end(r->loop);
}

#define LPI_FIGURE(field)                                                     \
    #field, offsetof(lp_stats, field), sizeof(((lp_stats *)0)->field)

static const lpi_figure lpi_figures[] = {
    {LPI_FIGURE(requests), "requests_total", "Well-formed requests."},
    {LPI_FIGURE(reply_bytes), NULL, NULL},
    {LPI_FIGURE(published), "messages_published_total", "Messages appended."},
    {LPI_FIGURE(delivered), "messages_delivered_total",
     "Messages in replies to polls and in events of streams."},
    {LPI_FIGURE(resets), "resets_total", "Replies that have a reset."},
    {LPI_FIGURE(evicted), "messages_evicted_total",
     "Messages dropped by count, age or bytes."},
    {LPI_FIGURE(refused), "refused_total",
     "Polls refused by a limit, and connections that were not admitted."},
    {LPI_FIGURE(connections), "connections", "Connections open now."},
    {LPI_FIGURE(streams), "streams", "Streams open now."},
    {LPI_FIGURE(waiters), "waiters", "Polls parked now, of streams too."},
    {LPI_FIGURE(channels), "channels", "Channels known now."},
    {LPI_FIGURE(messages), "messages", "Messages held now."},
    {LPI_FIGURE(history_bytes), "history_bytes",
     "What the messages held now take."},
    {LPI_FIGURE(pinned_bytes), "pinned_bytes",
     "What replies that slow readers have not read yet take."},
    {LPI_FIGURE(latencies_us), NULL, NULL},
    {LPI_FIGURE(redis_up), "redis_up", "Stores that are connected now."},
    {LPI_FIGURE(redis_connects), "redis_connects_total",
     "How often a store was connected."},
    {LPI_FIGURE(redis_epochs), "redis_epochs_total",
     "Channels found to have a new epoch."},
    {LPI_FIGURE(redis_opens), "redis_opens_total",
     "Reads of a channel's state."},
    {LPI_FIGURE(redis_pages), "redis_pages_total",
     "Reads of messages that are not cached."},
    {LPI_FIGURE(redis_gaps), "redis_gaps_total",
     "Messages that came ahead of others."},
    {LPI_FIGURE(redis_unknown), "redis_unknown_total",
     "Publishing calls of unknown outcome."},
    {LPI_FIGURE(redis_round_trip_us), "redis_round_trip_seconds",
     "Of the last heartbeat, the longest of all stores."}};

/* The value of a figure; *out is not written if there is no such figure, since
   there is no Redis. 0 or -1. */
static int lpi_figure_get(const lpi_loop *loop, const lp_stats *stats,
                          const lpi_figure *figure, uint64_t *out)
{
    const char *at = (const char *)stats + figure->offset;
    uint32_t v32;
    if (!loop->server->config.redis && !strncmp(figure->field, "redis_", 6))
        return -1;
    if (figure->size == sizeof *out) {
        memcpy(out, at, sizeof *out);
        return 0;
    }
    memcpy(&v32, at, sizeof v32);
    *out = v32;
    return 0;
}

/* --- as JSON --- */

static lp_slice lpi_monitor_render_stats(lpi_loop *loop, const lp_stats *stats)
{
    lp_json *j = lpi_body_begin(loop);
    char class_name[4] = "2xx";
    uint64_t value;
    size_t i;
    lp_json_object(j);
    lp_json_key(j, LPI_S("version"));
    lp_json_string(j, LPI_S(LP_VERSION));
    for (i = 0; i < LPI_COUNT(lpi_figures); i++) {
        if (lpi_figure_get(loop, stats, &lpi_figures[i], &value)) continue;
        lp_json_key(j, lp_s(lpi_figures[i].field));
        lp_json_uint(j, value);
    }
    lp_json_key(j, LPI_S("replies"));
    lp_json_object(j);
    for (i = 2; i < LP_STATUS_CLASSES; i++) {
        *class_name = (char)('0' + i);
        lp_json_key(j, lp_s(class_name));
        lp_json_uint(j, stats->replies[i]);
    }
    lp_json_end(j);
    lp_json_key(j, LPI_S("reply_sizes"));
    lp_json_array(j);
    for (i = 0; i < LP_REPLY_SIZES; i++)
        lp_json_uint(j, stats->reply_sizes[i]);
    lp_json_end(j);
    lpi_monitor_render_delays(j, "latencies", stats->latencies);
    lpi_monitor_render_delays(j, "first_latencies", stats->first_latencies);
    lp_json_end(j);
    return lpi_body_end(loop);
}

/* How many there are, and percentiles. */
static void lpi_monitor_render_delays(lp_json *j, const char *key,
                                      const uint64_t *latencies)
{
    static const struct {
        const char *key;
        double percentile;
    } shown[] = {{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}};
    size_t i;
    lp_json_key(j, lp_s(key));
    lp_json_object(j);
    lp_json_key(j, LPI_S("count"));
    lp_json_uint(j, lpi_figure_sum(latencies, LP_LATENCIES));
    for (i = 0; i < LPI_COUNT(shown); i++) {
        lp_json_key(j, lp_s(shown[i].key));
        lp_json_uint(j, lp_latency_percentile_us(latencies,
                                                 shown[i].percentile));
    }
    lp_json_end(j);
}

static uint64_t lpi_figure_sum(const uint64_t *counts, uint32_t length)
{
    uint64_t all = 0;
    uint32_t i;
    for (i = 0; i < length; i++) all += counts[i];
    return all;
}

/* --- for Prometheus (text format 0.0.4) --- */

static lp_slice lpi_metrics_render(lpi_loop *loop, const lp_stats *stats)
{
    lp_json *j = lpi_body_begin(loop);
    uint64_t value;
    size_t i;
    lpi_metrics_head(j, "build_info", "gauge", "The version of longpoll.h.");
    lpi_metrics_line(j, "build_info", LPI_S("{version=\"" LP_VERSION "\"}"),
                     LPI_S("1"));
    for (i = 0; i < LPI_COUNT(lpi_figures); i++)
        if (lpi_figures[i].metric &&
            !lpi_figure_get(loop, stats, &lpi_figures[i], &value))
            lpi_metrics_figure(j, &lpi_figures[i], value);
    lpi_metrics_replies(j, stats);
    lpi_metrics_delays(j, stats);
    lpi_metrics_sizes(j, stats);
    return lpi_body_end(loop);
}

static void lpi_metrics_head(lp_json *j, const char *name, const char *type,
                             const char *help)
{
    lpi_json_add(j, LPI_S("# HELP longpoll_"));
    lpi_json_add(j, lp_s(name));
    lpi_json_add(j, LPI_S(" "));
    lpi_json_add(j, lp_s(help));
    lpi_json_add(j, LPI_S("\n# TYPE longpoll_"));
    lpi_json_add(j, lp_s(name));
    lpi_json_add(j, LPI_S(" "));
    lpi_json_add(j, lp_s(type));
    lpi_json_add(j, LPI_S("\n"));
}

static void lpi_metrics_line(lp_json *j, const char *name, lp_slice labels,
                             lp_slice value)
{
    lpi_json_add(j, LPI_S("longpoll_"));
    lpi_json_add(j, lp_s(name));
    lpi_json_add(j, labels);
    lpi_json_add(j, LPI_S(" "));
    lpi_json_add(j, value);
    lpi_json_add(j, LPI_S("\n"));
}

static void lpi_metrics_count(lp_json *j, const char *name, lp_slice labels,
                              uint64_t value)
{
    char text[20];
    lpi_metrics_line(j, name, labels,
                     lpi_slice_to(text, lpi_put_uint(text, value)));
}

static void lpi_metrics_seconds(lp_json *j, const char *name, uint64_t us)
{
    char text[27];
    lpi_metrics_line(j, name, LPI_S(""),
                     lpi_slice_to(text, lpi_put_seconds(text, us)));
}

static void lpi_metrics_figure(lp_json *j, const lpi_figure *figure,
                               uint64_t value)
{
    const char *name = figure->metric;
    int counts = lpi_ends_with(lp_s(name), LPI_S("_total"));
    lpi_metrics_head(j, name, counts ? "counter" : "gauge", figure->help);
    if (lpi_ends_with(lp_s(name), LPI_S("_seconds")))
        lpi_metrics_seconds(j, name, value);
    else lpi_metrics_count(j, name, LPI_S(""), value);
}

static void lpi_metrics_replies(lp_json *j, const lp_stats *stats)
{
    char labels[] = "{code=\"2xx\"}";
    int i;
    lpi_metrics_head(j, "replies_total", "counter",
                     "Replies by the class of their status.");
    for (i = 2; i < LP_STATUS_CLASSES; i++) {
        labels[7] = (char)('0' + i);
        lpi_metrics_count(j, "replies_total", lp_s(labels),
                          stats->replies[i]);
    }
}

/* One bucket of a histogram; `le` is its bound. */
static void lpi_metrics_bucket(lp_json *j, const char *name, lp_slice le,
                               uint64_t value)
{
    char labels[64];
    char *to = LPI_PUT(labels, "{le=\"");
    to = LPI_PUT(lpi_put(to, le), "\"}");
    lpi_metrics_count(j, name, lpi_slice_to(labels, to), value);
}

enum { LPI_DELAY_MIN = 6, LPI_DELAY_MAX = 24 }; /* doublings of 1 us */

/* Of the latencies' buckets those that end where a number of microseconds
   doubles, from 64 us to 17 s. */
static void lpi_metrics_delays(lp_json *j, const lp_stats *stats)
{
    uint64_t all = lpi_figure_sum(stats->latencies, LP_LATENCIES);
    uint32_t i;
    lpi_metrics_head(j, "delivery_delay_seconds", "histogram",
                     "From publishing until the last byte of a parked poll's "
                     "reply was handed to the kernel.");
    for (i = LPI_DELAY_MIN; i <= LPI_DELAY_MAX; i++) {
        uint64_t end_us = UINT64_C(1) << i;
        char le[27];
        lpi_metrics_bucket(j, "delivery_delay_seconds_bucket",
                           lpi_slice_to(le, lpi_put_seconds(le, end_us)),
                           lpi_figure_sum(stats->latencies,
                                   lpi_latency_index(end_us)));
    }
    lpi_metrics_bucket(j, "delivery_delay_seconds_bucket", LPI_S("+Inf"), all);
    lpi_metrics_seconds(j, "delivery_delay_seconds_sum", stats->latencies_us);
    lpi_metrics_count(j, "delivery_delay_seconds_count", LPI_S(""), all);
}

static void lpi_metrics_sizes(lp_json *j, const lp_stats *stats)
{
    uint32_t i;
    uint64_t all = 0;
    lpi_metrics_head(j, "reply_size_bytes", "histogram",
                     "Bodies of replies, and events of a stream that were "
                     "sent together.");
    for (i = 0; i < LP_REPLY_SIZES; i++) {
        char text[20];
        lp_slice le =
            lpi_slice_to(text, lpi_put_uint(text, UINT64_C(256) << 2 * i));
        all += stats->reply_sizes[i];
        if (i == LP_REPLY_SIZES - 1) le = LPI_S("+Inf");
        lpi_metrics_bucket(j, "reply_size_bytes_bucket", le, all);
    }
    lpi_metrics_count(j, "reply_size_bytes_sum", LPI_S(""),
                      stats->reply_bytes);
    lpi_metrics_count(j, "reply_size_bytes_count", LPI_S(""), all);
}

/* ==========================================================================
   E10 DELIVER                                                      >>deliver

   The hub releases polls in batches (>>hub). Each reply of a batch is rendered
   once, and the same bytes go to all of its recipients, by one send each.

   Promises  a recipient that cannot be answered is closed, and its cursor asks
             again.
   ========================================================================== */

enum { LPI_BATCHES = 8 }; /* in one step */

/* Answer the polls that have something to be told. */
static void lpi_deliver(lpi_loop *loop)
{
    int turns = LPI_BATCHES, more = 1;
    while (turns-- && more) {
        more = lpi_hub_take(lpi_hub_of(loop), loop->index, loop->now_ms,
                            &loop->batch);
        lpi_deliver_batch_and_resume(loop);
    }
}

/* Not for use in lpi_read_serve(), which goes on by itself with what is
   pipelined behind a poll: here that is served at the end. */
static void lpi_deliver_batch_and_resume(lpi_loop *loop)
{
    uint32_t indices[LPI_BATCH], n = loop->batch.recipient_count, i;
    for (i = 0; i < n; i++) indices[i] = loop->batch.recipients[i].connection;
    lpi_deliver_batch(loop);
    for (i = 0; i < n; i++) lpi_read_resume(loop, indices[i]);
}

/* Answer everybody in the batch, and empty it. */
static void lpi_deliver_batch(lpi_loop *loop)
{
    lpi_batch *batch = &loop->batch;
    uint32_t i;
    for (i = 0; i < batch->reply_count; i++)
        lpi_deliver_reply(loop, &batch->replies[i]);
    if (batch->message_count) lpi_deliver_note_latencies(loop);
    if (LPI_MONITORED(loop->accesses))
        for (i = 0; i < batch->recipient_count; i++)
            lpi_access_end(loop, batch->recipients[i].connection);
    for (i = 0; i < batch->message_count; i++)
        lpi_message_unref(&loop->server->memory, batch->messages[i]);
    for (i = 0; i < batch->parked_count && !loop->drain_ms; i++)
        lpi_poll_arm(loop, batch->parked[i].connection,
                     batch->parked[i].wait_ms, batch->parked[i].ends_ms);
    batch->reply_count = batch->recipient_count = batch->message_count = 0;
    batch->reply_shared = batch->parked_count = 0;
    lpi_text_clear(&batch->names);
}

/* Send the reply to all of its recipients. The head is written anew only where
   it differs from the one before. */
static void lpi_deliver_reply(lpi_loop *loop, const lpi_reply *reply)
{
    const lpi_recipient *recipients = loop->batch.recipients;
    lp_slice body = LPI_STREAMING(reply->stream)
                        ? lpi_stream_render(loop, reply)
                        : lpi_deliver_render(loop, reply);
    lp_slice head = body;
    lpi_send_buffer *shared = NULL;
    uint32_t i = reply->recipient_first, variant = LPI_NONE;
    for (; i != LPI_NONE; i = recipients[i].next) {
        uint32_t index = recipients[i].connection, mine;
        lpi_connection *c = lpi_connection_at(loop, index);
        lpi_set_phase(loop, c, LPI_SERVING);
        if (loop->drain_ms) c->flags |= LPI_CLOSE;
        if (LPI_ADMINISTERED && c->flags & LPI_READER)
            lpi_reader_begin(loop, index, reply);
        if (LPI_STREAMING(reply->stream)) {
            lpi_stream_send(loop, index, reply, body, &shared);
            continue;
        }
        mine = (c->flags & (LPI_CLOSE | LPI_HTTP10_KEEP_ALIVE)) |
               (uint32_t)c->cors << 16;
        if (mine != variant) head = lpi_deliver_head(loop, c, body);
        variant = mine;
        if (!body.bytes || !head.bytes) {
            lpi_close(loop, index);
            continue;
        }
        if (c->flags & LPI_HEAD_REQUEST) {
            lpi_monitor_answer(loop, index, 200, 0);
            lpi_write_send(loop, index, head, LPI_S(""), NULL);
        } else {
            lpi_monitor_answer(loop, index, 200, body.length);
            lpi_write_send(loop, index, head, body, &shared);
        }
    }
}

/* The head for that connection; without bytes if memory ran out. */
static lp_slice lpi_deliver_head(lpi_loop *loop, lpi_connection *c,
                                 lp_slice body)
{
    lpi_head head;
    if (!body.bytes) return body;
    lpi_head_init(&head, loop, c, 200, LPI_S("application/json"), body.length);
    lpi_text_clear(&loop->extra);
    lpi_cors_lines(loop->server, c->cors, 0, &loop->extra);
    head.extra = lpi_text_slice(&loop->extra);
    if (loop->extra.failed) return lpi_slice(NULL, 0);
    return lpi_head_compose(loop, &head, body);
}

/* --- the body --- */

/* The body of the reply; without bytes if memory ran out. */
static lp_slice lpi_deliver_render(lpi_loop *loop, const lpi_reply *reply)
{
    const lpi_batch *batch = &loop->batch;
    lp_json *j = lpi_body_begin(loop);
    uint32_t i;
    if (reply->failed) return lpi_slice(NULL, 0);
    lpi_deliver_render_front(j, reply);
    for (i = 0; i < reply->count; i++) {
        lp_slice text = lpi_message_text(batch->messages[reply->first + i]);
        if (i) lpi_json_add(j, LPI_S(","));
        lpi_json_add(j, text);
    }
    if (!reply->basic || !reply->count) lpi_json_add(j, LPI_S("]"));
    if (reply->more && !reply->basic) lpi_json_add(j, LPI_S(",\"more\":true"));
    if (reply->resets) {
        lpi_json_add(j, LPI_S(",\"reset\":"));
        lpi_deliver_render_resets(j, reply, batch);
    }
    lpi_json_add(j, LPI_S("}"));
    return lpi_body_end(loop);
}

/* All that stands before the messages. */
static void lpi_deliver_render_front(lp_json *j, const lpi_reply *reply)
{
    char *to = lpi_text_room(&j->text, LPI_POLL_CHANNELS * 38 + 160);
    int basic = reply->basic && reply->count;
    uint32_t i;
    if (!to) return;
    if (basic) to = LPI_PUT(to, "{\"status\":\"message\"");
    else if (reply->count || (reply->resets && !reply->basic))
        to = LPI_PUT(to, "{\"status\":\"messages\"");
    else to = LPI_PUT(to, "{\"status\":\"timeout\"");
    to = LPI_PUT(to, ",\"last_id\":\"");
    for (i = 0; i < reply->channel_count; i++) {
        if (i) *to++ = ',';
        to = lpi_put_id(to, reply->at[i].epoch, reply->at[i].seq);
    }
    to = LPI_PUT(to, "\",\"timestamp\":");
    to = lpi_put_seconds(to, reply->timestamp_us);
    to = LPI_PUT(to, ",\"count\":");
    to = lpi_put_uint(to, reply->count);
    to = basic ? LPI_PUT(to, ",\"data\":") : LPI_PUT(to, ",\"messages\":[");
    lpi_text_set_end(&j->text, to);
}

static void lpi_deliver_render_resets(lp_json *j, const lpi_reply *reply,
                                      const lpi_batch *batch)
{
    lp_slice before = LPI_S("{");
    uint32_t i;
    for (i = 0; i < reply->channel_count; i++) {
        lp_slice reason = lp_s(lpi_reason_names[reply->at[i].reason]);
        if (!reason.length) continue;
        lpi_json_add(j, before);
        lpi_json_quote(j, lpi_slice(batch->names.bytes + reply->at[i].name_at,
                                    reply->at[i].name_length));
        lpi_json_add(j, LPI_S(":"));
        lpi_json_quote(j, reason);
        before = LPI_S(",");
    }
    lpi_json_add(j, LPI_S("}"));
}

/* --- receipts: a reply is noted when its last byte was handed to the kernel */

/* The connection reads for that client from now on. Its name is kept until it
   is closed, or asks for another. */
static lpi_why lpi_reader_name(lpi_loop *loop, uint32_t index,
                               lp_slice client_id)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    if (!(c->flags & LPI_READER)) {
        if (!client_id.bytes) return LPI_WHY_NONE;
        if (lpi_reader_new(loop, index)) return LPI_WHY_MEMORY;
        c->flags |= LPI_READER;
    }
    if (!lpi_hub_name_reader(lpi_hub_of(loop), client_id,
                             &loop->readers[index]->name) &&
        client_id.bytes)
        return LPI_WHY_NONE;
    lpi_reader_drop(loop, index);
    return client_id.bytes ? LPI_WHY_MEMORY : LPI_WHY_NONE;
}

/* A record for that connection, without a name. 0 or -1. */
static int lpi_reader_new(lpi_loop *loop, uint32_t index)
{
    const lp_memory *memory = &loop->server->memory;
    char *readers = (char *)loop->readers;
    lpi_reader *reader;
    if (lpi_reserve_pointers(memory, &readers, &loop->reader_capacity, index))
        return -1;
    loop->readers = (lpi_reader **)(void *)readers;
    reader = (lpi_reader *)lpi_alloc_zero(memory, sizeof *reader);
    loop->readers[index] = reader;
    if (!reader) return -1;
    reader->name = LPI_NONE;
    return 0;
}

/* The connection is about to be sent the reply. */
static void lpi_reader_begin(lpi_loop *loop, uint32_t index,
                             const lpi_reply *reply)
{
    lpi_reader *reader = loop->readers[index];
    if (lpi_connection_at(loop, index)->flags & LPI_HEAD_REQUEST) return;
    reader->messages = loop->batch.messages + reply->first;
    reader->count = reply->count;
}

/* The socket did not take the whole reply: keep its messages until it has. 0,
   or -1 without memory. */
static int lpi_reader_keep(lpi_loop *loop, uint32_t index)
{
    lpi_reader *reader = loop->readers[index];
    size_t size = reader->count * sizeof *reader->messages;
    lpi_message **copy;
    uint32_t i;
    if (!reader->count) return 0;
    copy = (lpi_message **)lpi_alloc(&loop->server->memory, size);
    if (!copy) return -1;
    memcpy(copy, reader->messages, size);
    for (i = 0; i < reader->count; i++) lpi_atomic_add(&copy[i]->refs, 1);
    reader->messages = copy;
    reader->has_copy = 1;
    return 0;
}

/* The reply is out. */
static void lpi_reader_handed(lpi_loop *loop, uint32_t index)
{
    const lpi_reader *reader = loop->readers[index];
    if (reader->count)
        lpi_hub_handed(lpi_hub_of(loop), reader->name, reader->messages,
                       reader->count);
    lpi_reader_end(loop, index);
}

/* The reply is out, or will not be. */
static void lpi_reader_end(lpi_loop *loop, uint32_t index)
{
    const lp_memory *memory = &loop->server->memory;
    lpi_reader *reader = loop->readers[index];
    uint32_t i;
    for (i = 0; reader->has_copy && i < reader->count; i++)
        lpi_message_unref(memory, reader->messages[i]);
    if (reader->has_copy)
        lpi_free(memory, reader->messages,
                 reader->count * sizeof *reader->messages);
    reader->has_copy = 0;
    reader->count = 0;
}

/* The connection is closed, or reads for nobody that has a name. */
static void lpi_reader_drop(lpi_loop *loop, uint32_t index)
{
    lpi_reader *reader = loop->readers[index];
    lpi_reader_end(loop, index);
    (void)lpi_hub_name_reader(lpi_hub_of(loop), lpi_slice(NULL, 0),
                              &reader->name);
    lpi_free(&loop->server->memory, reader, sizeof *reader);
    lpi_connection_at(loop, index)->flags &= (uint8_t)~LPI_READER;
}

/* --- how long it took --- */

/* Note how long the replies of the batch took, all of them as long as the last,
   so that the clock is read once. */
static void lpi_deliver_note_latencies(lpi_loop *loop)
{
    const lpi_batch *batch = &loop->batch;
    uint64_t now_us = loop->os->monotonic_us(loop->os->ctx);
    uint32_t i;
    lpi_lock(&loop->mutex);
    for (i = 0; i < batch->reply_count; i++)
        if (batch->replies[i].count)
            lpi_deliver_note_reply(loop, &batch->replies[i], now_us);
    lpi_unlock(&loop->mutex);
}

/* A reply that the socket has not taken yet is noted when it has. */
static void lpi_deliver_note_reply(lpi_loop *loop, const lpi_reply *reply,
                                   uint64_t now_us)
{
    const lpi_recipient *recipients = loop->batch.recipients;
    lpi_message **messages = loop->batch.messages + reply->first;
    uint64_t us = now_us - messages[0]->appended_us;
    uint64_t newest_us = now_us - messages[reply->count - 1]->appended_us;
    uint32_t i = reply->recipient_first;
    for (; i != LPI_NONE; i = recipients[i].next) {
        lpi_connection *c = lpi_connection_at(loop, recipients[i].connection);
        if (!recipients[i].waited) continue;
        if (recipients[i].first)
            loop->first_latencies[lpi_latency_index(newest_us)]++;
        if (c->phase == LPI_WRITING)
            c->buffer->out_appended_us = messages[0]->appended_us;
        else if (!lpi_is_closed(c)) lpi_deliver_note_latency(loop, us);
    }
}

/* Under the loop's mutex. */
static void lpi_deliver_note_latency(lpi_loop *loop, uint64_t us)
{
    loop->latencies[lpi_latency_index(us)]++;
    loop->latencies_us += us;
}

/* A latency's index in a histogram: exact below 4 us, then four for each
   doubling. */
static uint32_t lpi_latency_index(uint64_t us)
{
    uint32_t doublings, at;
    if (us < 4) return (uint32_t)us;
    doublings = 63 - (uint32_t)__builtin_clzll(us);
    at = 4 * (doublings - 1) + ((uint32_t)(us >> (doublings - 2)) & 3);
    return at < LP_LATENCIES ? at : LP_LATENCIES - 1;
}

/* The least latency that has that index. */
static uint64_t lpi_latency_min(uint32_t at)
{
    if (at < 4) return at;
    return (uint64_t)(4 + at % 4) << (at / 4 - 1);
}

/* ==========================================================================
   E11 WRITE                                                          >>write

   One send per reply. What the socket does not take at once is kept in a send
   buffer that all who are sent the same share, and counts against
   history_bytes; once half of that is spent so, or a quarter of the half by one
   address, slow readers are cut off, and their cursors ask again.

   Promises  a reply is written whole, or the connection is closed.
   ========================================================================== */

enum { LPI_WRITTEN = 16384 }; /* bytes that renew a write deadline */

/* Answer the request that is being served; loop->extra has its own lines. */
static void lpi_write_reply(lp_request *r, int status, lp_slice type,
                            lp_slice body)
{
    lpi_loop *loop = r->loop;
    lpi_connection *c = lpi_connection_at(loop, r->connection);
    lp_slice text = lpi_slice(NULL, 0);
    lpi_head head;
    r->answered = 1;
    if (r->route && r->route->kind == LPI_USER) lpi_loop_now(loop);
    lpi_head_init(&head, loop, c, status, type, body.length);
    lpi_cors_lines(r->server, c->cors, r->own_origin, &loop->extra);
    head.extra = lpi_text_slice(&loop->extra);
    head.may_cache = r->may_cache;
    if (!loop->extra.failed && body.bytes)
        text = lpi_head_compose(loop, &head, body);
    if (c->flags & LPI_HEAD_REQUEST || status == 204 || status == 304)
        body = LPI_S("");
    if (!text.bytes) {
        lpi_close(loop, r->connection);
        return;
    }
    lpi_monitor_answer(loop, r->connection, status, body.length);
    lpi_write_send(loop, r->connection, text, body, NULL);
    lpi_access_end(loop, r->connection);
}

/* Answer with a page or a file, unless the client has it (RFC 9110 13.1.2). */
static void lpi_write_content(lp_request *r, const char *type,
                              lp_slice content)
{
    lp_text *extra = &r->loop->extra;
    char text[LPI_ETAG_LENGTH];
    lp_slice etag;
    if (!content.bytes) content = LPI_S("");
    etag = lpi_etag_put(text, content);
    lpi_line(extra, "ETag", etag);
    lpi_line(extra, "Accept-Ranges", LPI_S("none"));
    if (!r->may_cache) lpi_line(extra, "Cache-Control", LPI_S("no-cache"));
    r->may_cache = 1;
    if (lpi_request_has_tag(r, etag))
        lpi_write_reply(r, 304, lpi_slice(NULL, 0), LPI_S(""));
    else lpi_write_reply(r, 200, lp_s(type), content);
}

/* Does the request say that the client has the content of that tag? */
static int lpi_request_has_tag(const lp_request *r, lp_slice etag)
{
    size_t at = r->http->fields;
    lp_slice name, value;
    if (r->http->method != LPI_GET && r->http->method != LPI_HEAD) return 0;
    while (lpi_http_next(r->http, r->bytes, &at, &name, &value))
        if (lpi_alike(name, LPI_S("If-None-Match")) &&
            lpi_etag_listed(value, etag))
            return 1;
    return 0;
}

/* Send a reply; `shared` is where others who are sent the same body find what
   is kept of it, or NULL. */
static void lpi_write_send(lpi_loop *loop, uint32_t index, lp_slice head,
                           lp_slice body, lpi_send_buffer **shared)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lp_slice parts[2];
    size_t total = head.length + body.length;
    long n;
    int count = body.length ? 2 : 1;
    parts[0] = head.length ? head : body;
    parts[1] = body;
    if (!head.length || head.bytes + head.length == body.bytes) {
        parts[0].length = total;
        count = 1;
    }
    n = loop->os->send(loop->os->ctx, c->fd, parts, count);
    if (n < 0 && !lpi_try_again(n)) {
        lpi_close(loop, index);
        return;
    }
    if (n < 0) n = 0;
    if ((size_t)n < total) {
        lpi_write_queue_unsent(loop, index, head, body, (size_t)n, shared);
        return;
    }
    lpi_write_note_taken(loop, c, index);
    lpi_write_finish(loop, c, index);
}

/* The socket has taken the last byte of a reply. This comes before all else
   that follows, since the connection may fail in that. */
static void lpi_write_note_taken(lpi_loop *loop, const lpi_connection *c,
                                 uint32_t index)
{
    if (LPI_ADMINISTERED && c->flags & LPI_READER)
        lpi_reader_handed(loop, index);
}

/* The reply is out. */
static void lpi_write_finish(lpi_loop *loop, lpi_connection *c, uint32_t index)
{
    if (c->flags & LPI_CLOSE) {
        if (LPI_STREAMING(c->flags & LPI_STREAM && !loop->drain_ms))
            lpi_set_phase(loop, c, LPI_IDLE); /* lpi_read_resume() goes on */
        else lpi_write_linger(loop, index);
        return;
    }
    lpi_set_phase(loop, c, LPI_IDLE);
    lpi_arm(loop, index, loop->server->config.idle_ms);
}

/* The last reply is sent: end our stream, and read on until the client closes.
   Closing with unread bytes makes the kernel discard the reply (RFC 9112
   9.6). */
static void lpi_write_linger(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    uint32_t linger_ms = loop->server->config.linger_ms;
    if (c->flags & LPI_PEER_DONE || !linger_ms ||
        loop->os->shutdown(loop->os->ctx, c->fd, LP_WRITE)) {
        lpi_close(loop, index);
        return;
    }
    lpi_set_phase(loop, c, LPI_LINGERING);
    lpi_arm(loop, index, linger_ms);
    lpi_set_interest(loop, index, LP_READ | LP_HANGUP);
}

/* --- refusing --- */

static void lpi_write_error(lp_request *r, int status, const char *text)
{
    lpi_write_error_note(r, status, text);
    lpi_write_reply(r, status, LPI_S("application/json"),
                    lpi_body_error(r->loop, text));
}

/* Tell the log of an answer of ours that refuses. A path that is not there is
   no refusal. */
static void lpi_write_error_note(lp_request *r, int status, const char *text)
{
    char detail[64] = "";
    if (status == 404 || status == 405 || status == 500) return;
    if (status == 421) {
        lp_slice name = lpi_text_of(r->bytes, r->http->authority);
        snprintf(detail, sizeof detail, "%.*s is not in hosts",
                 (int)(name.length < 40 ? name.length : 40), name.bytes);
    }
    lpi_note_refusal(r->loop, status, text, lp_s(detail), r->client);
}

/* Refuse a request that is malformed, too late or more than can be kept, and
   close: nothing behind it can be read as a request. `http` is what was read of
   it, or NULL. */
static void lpi_write_refusal(lpi_loop *loop, uint32_t index,
                              const lpi_http *http, int status)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lp_request r;
    lpi_request_init(&r, loop, index, NULL, NULL);
    if (LPI_MONITORED(loop->server->config.access_log.write))
        lpi_access_begin(&r);
    c->flags &= LPI_FLAGS_KEPT;
    c->flags |= LPI_CLOSE;
    if (http && http->in_fields && http->method == LPI_HEAD)
        c->flags |= LPI_HEAD_REQUEST;
    c->cors = 0;
    lpi_set_phase(loop, c, LPI_SERVING);
    if (status == 503) lpi_line(&loop->extra, "Retry-After", LPI_S("5"));
    lpi_write_error(&r, status, lpi_refusal_text(status));
    if (c->phase == LPI_LINGERING) lpi_request_buffer_drop(loop, c);
}

static const char *lpi_refusal_text(int status)
{
    switch (status) {
    case 408: return "Request timeout";
    case 413: return "Body too large";
    case 414: return "URI too long";
    case 417: return "Expectation failed";
    case 431: return "Request head too large";
    case 501: return "Not implemented";
    case 503: return "Server at capacity";
    case 505: return "HTTP version not supported";
    default: return "Malformed request";
    }
}

/* --- what the socket did not take --- */

/* Keep what the socket did not take. */
static void lpi_write_queue_unsent(lpi_loop *loop, uint32_t index,
                                   lp_slice head, lp_slice body, size_t sent,
                                   lpi_send_buffer **shared)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_request_buffer *buffer = lpi_request_buffer_get(loop, c);
    lpi_send_buffer *mine = NULL, **to = &mine;
    lp_slice first = lpi_slice(NULL, 0), second = body;
    size_t at = 0;
    if (sent < head.length) {
        first = lpi_slice(head.bytes + sent, head.length - sent);
    } else if (shared) {
        to = shared;
        at = sent - head.length;
    } else {
        second.bytes += sent - head.length;
        second.length -= sent - head.length;
    }
    if (!buffer ||
        (LPI_ADMINISTERED && c->flags & LPI_READER &&
         lpi_reader_keep(loop, index)) ||
        lpi_send_buffer_hold(loop, c, to, first, second)) {
        lpi_note_refusal(loop, 0, "Cut off, since it reads too slowly",
                         LPI_S(""), c->address);
        lpi_close(loop, index);
        return;
    }
    buffer->out_at = (uint32_t)at;
    buffer->written = 0;
    buffer->out_appended_us = 0;
    lpi_set_phase(loop, c, LPI_WRITING);
    lpi_arm(loop, index, loop->server->config.write_ms);
    lpi_set_interest(loop, index, c->interest | LP_WRITE);
}

/* The connection is to be sent *shared, which is made of the two parts if it is
   NULL. Its address is charged once for all its connections that wait for it.
   0, or -1 with nothing held: memory or a limit is spent. */
static int lpi_send_buffer_hold(lpi_loop *loop, lpi_connection *c,
                                lpi_send_buffer **shared, lp_slice first,
                                lp_slice second)
{
    lpi_hub *hub = lpi_hub_of(loop);
    lpi_send_buffer *out = *shared;
    size_t size = sizeof *out +
                  (out ? out->length : first.length + second.length);
    size_t all = out ? 0 : size;
    size_t own = out && lpi_send_buffer_is_held(out, c->wait.account) ? 0
                                                                      : size;
    if (own && lpi_hub_pin(hub, c->wait.account, all, own)) return -1;
    if (!out) out = lpi_send_buffer_new(loop, first, second);
    if (!out) {
        lpi_hub_unpin(hub, c->wait.account, all, own);
        return -1;
    }
    *shared = out;
    c->buffer->out = out;
    c->buffer->account = c->wait.account;
    c->buffer->next_holder = out->holders;
    out->holders = c->buffer;
    return 0;
}

static lpi_send_buffer *lpi_send_buffer_new(lpi_loop *loop, lp_slice first,
                                            lp_slice second)
{
    size_t length = first.length + second.length;
    lpi_send_buffer *out = (lpi_send_buffer *)lpi_alloc(
        &loop->server->memory, sizeof *out + length);
    if (!out) return NULL;
    out->length = (uint32_t)length;
    out->holders = NULL;
    if (first.length) memcpy(out + 1, first.bytes, first.length);
    if (second.length)
        memcpy((char *)(out + 1) + first.length, second.bytes, second.length);
    return out;
}

/* Does a connection that counts in the account wait for it? */
static int lpi_send_buffer_is_held(const lpi_send_buffer *out, uint32_t account)
{
    const lpi_request_buffer *buffer = out->holders;
    while (buffer && buffer->account != account) buffer = buffer->next_holder;
    return buffer != NULL;
}

/* The connection that has the request buffer was sent all, or will not be. The
   last one frees the send buffer. */
static void lpi_send_buffer_release(lpi_loop *loop, lpi_request_buffer *buffer)
{
    lpi_send_buffer *out = buffer->out;
    lpi_request_buffer **link = &out->holders;
    size_t size = sizeof *out + out->length, all = 0, own = 0;
    while (*link != buffer) link = &(*link)->next_holder;
    *link = buffer->next_holder;
    buffer->out = NULL;
    if (!out->holders) all = size;
    if (!lpi_send_buffer_is_held(out, buffer->account)) own = size;
    if (own) lpi_hub_unpin(lpi_hub_of(loop), buffer->account, all, own);
    if (all) lpi_free(&loop->server->memory, out, size);
}

/* The socket takes more. */
static void lpi_write_ready(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_request_buffer *buffer = c->buffer;
    lp_slice rest;
    long n;
    if (c->phase != LPI_WRITING) return;
    rest = lpi_slice((const char *)(buffer->out + 1) + buffer->out_at,
                     buffer->out->length - buffer->out_at);
    n = loop->os->send(loop->os->ctx, c->fd, &rest, 1);
    if (n < 0) {
        if (!lpi_try_again(n)) lpi_close(loop, index);
        return;
    }
    buffer->out_at += (uint32_t)n;
    buffer->written += (uint32_t)n;
    if (buffer->written >= LPI_WRITTEN) {
        buffer->written = 0;
        lpi_arm(loop, index, loop->server->config.write_ms);
    }
    if ((size_t)n == rest.length) lpi_write_drained(loop, index);
}

/* All of the rest is written. */
static void lpi_write_drained(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    lpi_request_buffer *buffer = c->buffer;
    lpi_write_note_taken(loop, c, index);
    if (buffer->out_appended_us) {
        uint64_t us = loop->os->monotonic_us(loop->os->ctx) -
                      buffer->out_appended_us;
        lpi_lock(&loop->mutex);
        lpi_deliver_note_latency(loop, us);
        lpi_unlock(&loop->mutex);
    }
    lpi_send_buffer_release(loop, buffer);
    if (!buffer->in_length) lpi_request_buffer_drop(loop, c);
    lpi_set_interest(loop, index, c->interest & ~LP_WRITE);
    if (lpi_is_closed(c)) return;
    lpi_write_finish(loop, c, index);
    lpi_read_resume(loop, index);
}

/* The write deadline has passed. Try once more, since the poller reports a
   socket only once much of its buffer is free. */
static void lpi_write_expire(lpi_loop *loop, uint32_t index)
{
    lpi_write_ready(loop, index);
    if (lpi_connection_at(loop, index)->phase == LPI_WRITING &&
        !lpi_timer_armed(&loop->wheel, index))
        lpi_close(loop, index);
}

/* ==========================================================================
   E12 CLOSE                                                          >>close

   The one way out of a connection, whatever it was doing. A child process may
   have a copy of the socket: so it is taken out of the poller and its stream is
   ended before it is closed.

   Promises  the hub knows nothing of it, once its record is given back.
   ========================================================================== */

/* A deadline has passed. */
static void lpi_connection_expire(lpi_loop *loop, uint32_t index)
{
    lpi_connection *c = lpi_connection_at(loop, index);
    switch ((lpi_phase)c->phase) {
    case LPI_PARKED: lpi_poll_expire(loop, index); break;
    case LPI_WRITING: lpi_write_expire(loop, index); break;
    case LPI_DEFERRED: lpi_later_expire(loop, index); break;
    case LPI_READING_HEAD:
    case LPI_READING_BODY:
        lpi_write_refusal(loop, index, &c->buffer->http, 408);
        break;
    default: lpi_close(loop, index); break;
    }
}

static void lpi_close(lpi_loop *loop, uint32_t index)
{
    const lp_os *os = loop->os;
    lpi_connection *c = lpi_connection_at(loop, index);
    if (lpi_is_closed(c)) return;
    if (c->phase == LPI_PARKED)
        lpi_hub_leave(lpi_hub_of(loop), &c->wait, loop->now_ms);
    if (c->phase == LPI_QUEUED) lpi_queue_remove(loop, index);
    if (c->phase == LPI_DEFERRED) lpi_later_drop(loop, index);
    lpi_stream_drop(loop, index);
    if (LPI_ADMINISTERED && c->flags & LPI_READER) lpi_reader_drop(loop, index);
    lpi_wheel_cancel(&loop->wheel, index);
    (void)lpi_poller_change(loop, index, 0);
    if (c->phase != LPI_LINGERING) /* else its stream has ended already */
        os->shutdown(os->ctx, c->fd, LP_READ | LP_WRITE);
    os->close(os->ctx, c->fd);
    if (c->phase == LPI_PUBLISHING) lpi_set_phase(loop, c, LPI_ABANDONED);
    else lpi_close_record(loop, index);
    if (c->phase == LPI_ABANDONED) lpi_access_end(loop, index);
}

/* The record is given back at the end of the step. */
static void lpi_close_record(lpi_loop *loop, uint32_t index)
{
    lpi_set_phase(loop, lpi_connection_at(loop, index), LPI_CLOSED);
    lpi_list_append(&loop->closed, &loop->links, index);
}

enum { LPI_SCRATCH_MAX = 4 << 20 }; /* what a loop may keep between replies */

/* At the end of a step: give back the records of connections that were closed
   in it, and what they held; and what was decoded of requests. */
static void lpi_close_reap(lpi_loop *loop)
{
    uint32_t index;
    if (loop->json.text.capacity > LPI_SCRATCH_MAX) lp_json_free(&loop->json);
    lpi_arena_clear(&loop->arena, 1);
    while ((index = loop->closed.head) != LPI_NONE) {
        lpi_connection *c = lpi_connection_at(loop, index);
        lpi_list_remove(&loop->closed, &loop->links, index);
        lpi_access_end(loop, index);
        if (c->buffer && c->buffer->out)
            lpi_send_buffer_release(loop, c->buffer);
        lpi_request_buffer_drop(loop, c);
        lpi_hub_dismiss(lpi_hub_of(loop), &c->wait, c->flags & LPI_TRUSTED);
        lpi_slab_give(&loop->connections, index);
    }
}

static void lpi_close_all(lpi_loop *loop)
{
    uint32_t index = 0;
    lpi_connection *c;
    for (; (c = lpi_loop_each(loop, &index)); index++) {
        lpi_close(loop, index);
        if (c->phase == LPI_ABANDONED) lpi_close_record(loop, index);
    }
    lpi_close_reap(loop);
}

/* The connection in use at *index or after it, in no order; NULL if there is
   none. */
static lpi_connection *lpi_loop_each(lpi_loop *loop, uint32_t *index)
{
    lpi_slab *slab = &loop->connections;
    for (; *index < slab->chunk_count * LPI_CHUNK; ++*index) {
        lpi_connection *c;
        if (!slab->chunks[*index / LPI_CHUNK].records) continue;
        c = lpi_connection_at(loop, *index);
        if (c->phase != LPI_CLOSED) return c;
    }
    return NULL;
}

/* --- what other threads have left --- */

static void lpi_loop_tell_outcome(const lpi_outcome *outcome)
{
    outcome->fn(outcome->ctx, outcome->result,
                outcome->result == LP_OK ? &outcome->published : NULL);
}

/* Do what other threads have left, but open at most `max` connections: the rest
   is done in the next step, as is what is left meanwhile. */
static void lpi_loop_do_tasks(lpi_loop *loop, uint32_t max)
{
    lpi_task *task, **end = &loop->tasks;
    while (*end) end = &(*end)->next;
    *end = lpi_inbox_take(loop);
    while (max && (task = loop->tasks)) {
        loop->tasks = task->next;
        if (task->kind == LPI_TASK_OPEN) {
            lpi_accept_open(loop, &task->of.handover);
            max--;
        } else if (task->kind == LPI_TASK_TELL) {
            lpi_loop_tell_outcome(&task->of.outcome);
        } else if (task->kind == LPI_TASK_ANSWER) {
            lpi_later_answer(loop, &task->of.answer);
        } else if (task->of.call.outcome.fn) {
            lpi_loop_tell_outcome(&task->of.call.outcome);
        } else {
            lpi_publish_answer(loop, &task->of.call);
        }
        lpi_free(&loop->server->memory, task, sizeof *task);
    }
    if (loop->tasks) loop->os->wake_signal(loop->os->ctx, loop->wake[1]);
}

#ifndef LONGPOLL_NO_REDIS

/* ==========================================================================
   F   REDIS                                                          >>redis

   One or more Redis servers hold the channels of many instances. Each is a
   store: a hash, a stream and a pub/sub channel for each of our channels, which
   one script reads and changes, so that every call is one step there. The
   script draws a new epoch whenever the server cannot be shown to be the one
   that it was, by its replication id, which is new after each restart and each
   promotion.

   A store has two connections: one for commands, which are answered in order,
   and one for news. It is UP once both are, lead to the same server, and that
   is a primary. A heartbeat goes out on the one and comes back on the other; if
   it does not, or anything else is not as it should be, both are closed and
   made anew. What publishers leave in the queue is sent once a step.

   Keys, with P for redis_prefix and the first 12 bits of the name's hash in
   braces, so that all keys of a channel are in one slot:

     Ph:NAME  hash     e epoch, r replication id, s last SEQ, t last timestamp,
                       b the epoch's birth, pe ps the epoch before and its last
                       SEQ, o: nothing held is older
     Px:NAME  stream   ID SEQ-TIMESTAMP, field m: the text that is published
     P:NAME   pub/sub  "EPOCH SEQ TIMESTAMP {...}", with "~" before a message
                       that is transient; the stream then has the "~" alone
     Pi:NAME\nKEY      "EPOCH SEQ TIMESTAMP MESSAGES", for an Idempotency-Key

   Uses      >>resp >>hub >>inbox, and >>publish to answer
   Touches   the stores, on the first loop's thread; their queues on any.
   Promises  nothing blocks; a publishing call that was accepted is told its
             outcome once.
   ========================================================================== */

/* KEYS hash, stream[, idempotency]
   ARGV 1 a candidate epoch, 2 to 4 what the caller last knew of the channel
   (birth, SEQ, timestamp; zeros if nothing), 5 the highest timestamp it ever
   saw, 6 how many messages are held, 7 for how long, 8 for how long the hash is
   kept (both in ms; 0: for ever; publishing renews that once a second, so it is
   a second more than it must be), 9 the pub/sub channel. If that is not empty:
   10 for how long the idempotency key is kept, and from 11 on JSON objects,
   with "~" before each if they are transient; without any the channel's history
   is dropped, by a new epoch. Else: 10 the SEQ that the page begins with
   (empty: the newest), 11 how many messages it has, 12 for how long an empty
   channel is kept.

   A transient message leaves a mark in the stream, so that SEQs have no holes;
   none where nothing is held before it, and an open drops those that nothing is
   before any more. A page of nothing but marks is as long as may be. The first
   command that writes is one that Redis refuses when it has no memory: it
   refuses none that follow. */
static const char lpi_store_call_script[] =
    "local h,x,i=KEYS[1],KEYS[2],KEYS[3]\n"
    "local epoch,wb,ws,wt=ARGV[1],ARGV[2]+0,ARGV[3]+0,ARGV[4]+0\n"
    "local seen=ARGV[5]+0\n"
    "local count,age,keep,channel=ARGV[6],ARGV[7]+0,ARGV[8],ARGV[9]\n"
    "local function str(v) return string.format('%.0f',v) end\n"
    "local function num(v) return v and v+0 or 0 end\n"
    "local function at(entry)\n"
    "  local s,t=string.match(entry[1],'^(%d+)-(%d+)$')\n"
    "  return s+0,t+0\n"
    "end\n"
    "local function expire(key,ms)\n"
    "  if ms~='0' then redis.call('PEXPIRE',key,ms) end\n"
    "end\n"
    "local info=redis.call('INFO','replication')\n"
    "local _,at_r=string.find(info,'master_replid:',1,true)\n"
    "local r=at_r and string.sub(info,at_r+1,at_r+40)\n"
    "local v=redis.call('HMGET',h,'e','r','s','t','b','o')\n"
    "local publishes=channel~='' and ARGV[11]\n"
    "local n=not publishes and redis.call('XLEN',x)\n"
    "local dup=i and redis.call('GET',i)\n"
    "local time=redis.call('TIME')\n"
    "local now=time[1]*1000000+time[2]\n"
    "local e,s,t,b,o=v[1],num(v[3]),num(v[4]),num(v[5]),num(v[6])\n"
    "local renewed=s>0 and v[4] and string.sub(v[4],1,-7)==time[1]\n"
    "if not e or v[2]~=r or wb>b or wb==b and ws>s\n"
    "    or 0<wb and wb<b and b<=wt then\n"
    "  n=n or redis.call('XLEN',x)\n"
    "  if n>0 then\n"
    "    local ls,lt=at(redis.call('XREVRANGE',x,'+','-','COUNT',1)[1])\n"
    "    if not e then s,t=ls,lt\n"
    "    elseif ls~=s then redis.call('DEL',x) n=0 end\n"
    "  end\n"
    "  t=math.max(now,t+1,seen+1)\n"
    "  b=t\n"
    "  redis.call('HSET',h,'e',epoch,'r',r,'s',str(s),'t',str(t),\n"
    "    'b',str(b),'pe',e or '','ps',str(s),'o',str(o))\n"
    "  e,renewed=epoch,false\n"
    "end\n"
    "local was=o\n"
    "local function trim(max)\n"
    "  local cut=now-age*1000\n"
    "  if age==0 or o>=cut then return false end\n"
    "  local head=redis.call('XRANGE',x,'-','+','COUNT',max+1)\n"
    "  local k=1\n"
    "  while k<=max and head[k] and select(2,at(head[k]))<cut do k=k+1 end\n"
    "  n=n and n-(k-1)\n"
    "  if not head[k] then redis.call('DEL',x) o=t return true end\n"
    "  if k>1 then redis.call('XTRIM',x,'MINID',head[k][1]) end\n"
    "  o=select(2,at(head[k]))\n"
    "  return k>max\n"
    "end\n"
    "if publishes then\n"
    "  if dup then expire(h,keep) return {r,dup} end\n"
    "  local ss,st,k\n"
    "  local transient=string.byte(publishes)==126\n"
    "  if transient then n=n or redis.call('XLEN',x) end\n"
    "  for a=11,#ARGV do\n"
    "    s=s+1\n"
    "    t=math.max(now,t+1)\n"
    "    ss,st=str(s),str(t)\n"
    "    local text=e..' '..ss..' '..st..' '..ARGV[a]\n"
    "    redis.call('XADD',x,'MAXLEN',count,ss..'-'..st,'m',\n"
    "      transient and e..' '..ss..' '..st..' ~' or text)\n"
    "    k=redis.call('PUBLISH',channel,text)\n"
    "  end\n"
    "  if transient and n==0 then redis.call('DEL',x) end\n"
    "  trim(8)\n"
    "  if o~=was then redis.call('HSET',h,'s',ss,'t',st,'o',str(o))\n"
    "  else redis.call('HSET',h,'s',ss,'t',st) end\n"
    "  expire(x,ARGV[7])\n"
    "  if not renewed then expire(h,keep) end\n"
    "  if i then\n"
    "    redis.call('SET',i,e..' '..ss..' '..st..' '..#ARGV-10,'PX',ARGV[10])\n"
    "  end\n"
    "  return {r,e,ss,st,k}\n"
    "end\n"
    "if channel~='' then\n"
    "  if e~=epoch then e,t=epoch,math.max(now,t+1,seen+1) end\n"
    "  local st=str(t)\n"
    "  redis.call('DEL',x)\n"
    "  redis.call('HSET',h,'e',e,'t',st,'b',st,'pe','','ps','0','o',st)\n"
    "  expire(h,keep)\n"
    "  return {r,e,str(s),st,\n"
    "    redis.call('PUBLISH',channel,e..' 0 '..st..' {}')}\n"
    "end\n"
    "local function mark(text) return string.byte(text,-1)==126 end\n"
    "while n>0 and trim(64) do end\n"
    "if o~=was then redis.call('HSET',h,'o',str(o)) end\n"
    "expire(h,s>0 and keep or ARGV[12])\n"
    "local function get(from,max)\n"
    "  return redis.call('XRANGE',x,from,'+','COUNT',max)\n"
    "end\n"
    "local page,first={},get('-',1)[1]\n"
    "while first and mark(first[2][2]) do\n"
    "  local head=get('-',64)\n"
    "  local k=1\n"
    "  while head[k] and mark(head[k][2][2]) do k=k+1 end\n"
    "  n=n-(k-1)\n"
    "  if n>0 then redis.call('XTRIM',x,'MAXLEN',str(n))\n"
    "  else redis.call('DEL',x) end\n"
    "  first=head[k] or get('-',1)[1]\n"
    "end\n"
    "if ARGV[10]~='' then\n"
    "  local from,seen=ARGV[10],false\n"
    "  repeat\n"
    "    local got=get(from,ARGV[11])\n"
    "    for k=1,#got do\n"
    "      page[#page+1]=got[k][2][2]\n"
    "      seen=seen or not mark(got[k][2][2])\n"
    "      from='('..got[k][1]\n"
    "    end\n"
    "  until seen or not got[1] or #page>=1024\n"
    "else\n"
    "  local got=redis.call('XREVRANGE',x,'+','-','COUNT',ARGV[11])\n"
    "  for k=#got,1,-1 do page[#page+1]=got[k][2][2] end\n"
    "end\n"
    "local past=redis.call('HMGET',h,'pe','ps')\n"
    "return {r,e,str(s),str(t),str(b),past[1] or '',str(num(past[2])),\n"
    "  str(n),str(now),first and first[1] or '',page}\n";

/* KEYS layout; ARGV 1 what it should be, 2 for how long it is kept, 3 the
   pub/sub channel of the caller alone. */
static const char lpi_store_beat_script[] =
    "local info=redis.call('INFO','replication')\n"
    "local r=string.match(info,'master_replid:(%x+)')\n"
    "local was=redis.call('GET',KEYS[1])\n"
    "redis.call('PUBLISH',ARGV[3],'')\n"
    "if not was then redis.call('SET',KEYS[1],ARGV[1],'PX',ARGV[2])\n"
    "elseif was==ARGV[1] then redis.call('PEXPIRE',KEYS[1],ARGV[2]) end\n"
    "return {r,was or ARGV[1]}\n";

enum {
    LPI_STORE_STEP_MS = 5000,      /* for each step towards UP               */
    LPI_STORE_RETRY_MS = 100,      /* doubled for each attempt               */
    LPI_STORE_RETRY_MS_MAX = 10000,
    LPI_STORE_BEAT_MS = 2000,
    LPI_STORE_LAYOUT_MS = 10000,   /* the layout is kept without heartbeats  */
    LPI_STORE_PENDING_BYTES = 16 << 20,
    LPI_STORE_NEWEST = 16,         /* messages of a first open               */
    LPI_STORE_PAGE_BYTES = 4 << 20,
    LPI_STORE_ROUNDS = 16,         /* batches of work in one step            */
    LPI_STORE_RECV = 65536,
    LPI_STORE_LOOKUP_MS = 20       /* how often it is seen to                */
};

/* --- a connection to a store --- */

static void lpi_redis_blank(lpi_redis *c, const lp_memory *memory)
{
    memset(c, 0, sizeof *c);
    c->fd = -1;
    lpi_text_init(&c->out, memory);
}

static uint32_t lpi_redis_tag(const lpi_store *store, const lpi_redis *c)
{
    return LPI_TAG_STORES - 2 * store->index - (c == &store->events);
}

static int lpi_redis_set_interest(lpi_store *store, lpi_redis *c,
                                  uint32_t want)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    const lp_os *os = loop->os;
    if (want == c->interest) return 0;
    if (os->poller_set(os->ctx, &loop->poller, c->fd, lpi_redis_tag(store, c),
                       c->interest, want))
        return -1;
    c->interest = want;
    return 0;
}

static void lpi_redis_close(lpi_store *store, lpi_redis *c)
{
    const lp_os *os = &store->server->os;
    const lp_memory *memory = &store->server->memory;
    if (c->fd >= 0) {
        (void)lpi_redis_set_interest(store, c, 0);
        os->shutdown(os->ctx, c->fd, LP_READ | LP_WRITE);
        os->close(os->ctx, c->fd);
    }
    LP_ASSERT(!c->ask_count);
    lpi_free(memory, c->in, c->in_capacity);
    lpi_free(memory, c->asks, c->ask_capacity * sizeof *c->asks);
    lpi_text_free(&c->out);
    lpi_redis_blank(c, memory);
}

/* Begin to connect. 0 or -errno. */
static int lpi_redis_open(lpi_store *store, lpi_redis *c)
{
    const lp_os *os = &store->server->os;
    int fd = os->connect(os->ctx, &store->address,
                         store->path.length ? store->path.bytes : NULL);
    if (fd < 0) return fd;
    c->fd = fd;
    return lpi_redis_set_interest(store, c, LP_READ | LP_WRITE) ? -ENOMEM : 0;
}

/* Note that what is written next to c->out will be answered. 0, or -1 without
   memory. */
static int lpi_redis_ask(lpi_store *store, lpi_redis *c, const lpi_ask *ask)
{
    uint32_t end;
    if (c->ask_count == c->ask_capacity) {
        uint32_t grown = c->ask_capacity ? 2 * c->ask_capacity : 64, i;
        lpi_ask *asks = (lpi_ask *)lpi_alloc(&store->server->memory,
                                             grown * sizeof *asks);
        if (!asks) return -1;
        for (i = 0; i < c->ask_count; i++)
            asks[i] = c->asks[(c->ask_at + i) % c->ask_capacity];
        lpi_free(&store->server->memory, c->asks,
                 c->ask_capacity * sizeof *asks);
        c->asks = asks;
        c->ask_capacity = grown;
        c->ask_at = 0;
    }
    end = (c->ask_at + c->ask_count++) % c->ask_capacity;
    c->asks[end] = *ask;
    c->asks[end].at = c->out_sent + (c->out.length - c->out_at);
    c->asks[end].sent_ms = lpi_first_loop(store->server)->now_ms;
    return 0;
}

static int lpi_redis_ask_kind(lpi_store *store, lpi_redis *c,
                              lpi_ask_kind kind)
{
    lpi_ask ask;
    memset(&ask, 0, sizeof ask);
    ask.kind = kind;
    return lpi_redis_ask(store, c, &ask);
}

/* Send what is written. 0, or -1 if the connection is broken. */
static int lpi_redis_flush(lpi_store *store, lpi_redis *c)
{
    const lp_os *os = &store->server->os;
    while (!c->out.failed && c->out_at < c->out.length) {
        lp_slice rest = lpi_slice(c->out.bytes + c->out_at,
                                  c->out.length - c->out_at);
        long n = os->send(os->ctx, c->fd, &rest, 1);
        if (n < 0 && !lpi_try_again(n)) return -1;
        if (n > 0) {
            c->out_at += (size_t)n;
            c->out_sent += (uint64_t)n;
        }
        if (n != (long)rest.length)
            return lpi_redis_set_interest(store, c, LP_READ | LP_WRITE);
    }
    if (c->out.failed) return -1;
    if (c->out.capacity > LPI_SCRATCH_MAX) lpi_text_free(&c->out);
    else lpi_text_clear(&c->out);
    c->out_at = 0;
    return lpi_redis_set_interest(store, c, LP_READ);
}

/* --- down --- */

static void lpi_lookup_release(lpi_lookup *lookup)
{
    if (!lpi_atomic_sub(&lookup->refs, 1)) free(lookup);
}

static void lpi_store_drop_lookup(lpi_store *store)
{
    if (store->lookup) lpi_lookup_release(store->lookup);
    store->lookup = NULL;
}

/* The outcome of a publishing call is known: tell who made it. */
static void lpi_store_tell(lpi_store *store, lpi_task *task, lp_result result)
{
    lp_server *server = store->server;
    lpi_call *call = &task->of.call;
    call->outcome.result = result;
    lpi_message_unref_all(&server->memory, call->first);
    call->first = NULL;
    lpi_lock(&server->store_mutex);
    store->pending--;
    store->pending_bytes -= call->bytes;
    lpi_unlock(&server->store_mutex);
    lpi_inbox_add(&server->loops[call->loop], task, call->loop != 0);
}

/* The connection is lost: nothing that was asked is answered any more. */
static void lpi_store_forget_asks(lpi_store *store)
{
    lpi_redis *c = &store->commands;
    uint32_t unknown = 0;
    for (; c->ask_count; c->ask_count--) {
        lpi_ask *ask = &c->asks[c->ask_at];
        int sent = ask->at < c->out_sent;
        c->ask_at = (c->ask_at + 1) % c->ask_capacity;
        if (ask->kind != LPI_ASK_PUBLISH) continue;
        unknown += sent != 0;
        lpi_store_tell(store, ask->task,
                       sent ? LP_ERR_UNKNOWN : LP_ERR_AWAY);
    }
    store->events.ask_count = 0;
    if (unknown) lpi_hub_count_unknown(&store->server->hub, unknown);
}

/* Copy as much of the text as there is room for, and a NUL. */
static void lpi_store_note(char *to, size_t size, lp_slice text)
{
    size_t n = text.length < size ? text.length : size - 1;
    if (n) memcpy(to, text.bytes, n);
    to[n] = 0;
}

/* A number that is at random between 0 and `max`. */
static uint32_t lpi_store_random(lpi_store *store, uint32_t max)
{
    const lp_os *os = &store->server->os;
    uint32_t value = 0;
    if (os->random(os->ctx, &value, sizeof value)) return max;
    return (uint32_t)(((uint64_t)value * ((uint64_t)max + 1)) >> 32);
}

/* Whether publishers may leave calls. */
static void lpi_store_accept(lpi_store *store, int accepts)
{
    lpi_lock(&store->server->store_mutex);
    store->accepts = accepts;
    lpi_unlock(&store->server->store_mutex);
}

/* A line of the log, which names the store. */
static void lpi_store_log(lpi_store *store, lp_log_level level,
                          const char *what, lp_slice detail)
{
    char line[256], text[100];
    lp_slice at = store->path.length ? store->path : store->host;
    lpi_store_note(text, sizeof text, detail);
    if (store->path.length)
        snprintf(line, sizeof line, "redis %.100s: %s", at.bytes, what);
    else
        snprintf(line, sizeof line, "redis %.100s:%u: %s", at.bytes,
                 (unsigned)store->address.port, what);
    lpi_log(store->server, level, line, text);
}

/* Close both connections, and try again after a while, or at least after
   `pause_ms`. */
static void lpi_store_fail(lpi_store *store, const char *why,
                           lp_slice detail, uint32_t pause_ms)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    uint32_t doublings = store->attempts < 7 ? store->attempts : 7;
    uint32_t max = (uint32_t)LPI_STORE_RETRY_MS << doublings;
    char told[sizeof store->told];
    if (store->state == LPI_STORE_DOWN) return;
    if (max > LPI_STORE_RETRY_MS_MAX) max = LPI_STORE_RETRY_MS_MAX;
    snprintf(told, sizeof told, "%s%s%.*s", why, detail.length ? ": " : "",
             (int)(detail.length < 60 ? detail.length : 60),
             detail.length ? detail.bytes : "");
    if (store->state == LPI_STORE_UP || strcmp(told, store->told))
        lpi_store_log(store, LP_LOG_ERROR, "down", lp_s(told));
    memcpy(store->told, told, sizeof told);
    if (store->state == LPI_STORE_UP) {
        lpi_store_accept(store, 0);
        lpi_hub_store_down(&store->server->hub, store->index, loop->now_ms);
    }
    lpi_store_forget_asks(store);
    lpi_redis_close(store, &store->commands);
    lpi_redis_close(store, &store->events);
    lpi_store_drop_lookup(store);
    store->state = LPI_STORE_DOWN;
    store->attempts++;
    store->deadline_ms =
        loop->now_ms + lpi_max64(pause_ms, 10 + lpi_store_random(store, max));
}

/* The server has answered with an error that says that it cannot be used. The
   operator has to mend what is about passwords and rights. */
static void lpi_store_refused(lpi_store *store, lp_slice error)
{
    static const char *const rights[] = {"NOAUTH", "WRONGPASS", "NOPERM",
                                         "ERR AUTH", "ERR invalid password",
                                         "ERR The user executing the script"};
    size_t i;
    for (i = 0; i < LPI_COUNT(rights); i++)
        if (lpi_starts(error, lp_s(rights[i]))) {
            lpi_store_fail(store, "refused", error, LPI_STORE_RETRY_MS_MAX);
            return;
        }
    lpi_store_fail(store, "it answers", error, 0);
}

/* --- connecting --- */

static void *lpi_lookup_thread(void *arg)
{
    lpi_lookup *lookup = (lpi_lookup *)arg;
    const lp_os *os = &lookup->os;
    lookup->error = os->resolve(os->ctx, lookup->host, &lookup->address);
    lpi_atomic_set(&lookup->done, 1);
    lpi_lookup_release(lookup);
    return NULL;
}

/* Have the name looked up. The thread may outlast the server: so the record is
   the C library's, as is what getaddrinfo allocates. 0 or -1. */
static int lpi_store_look_up(lpi_store *store)
{
    lpi_lookup *lookup;
    if (!store->server->os.resolve ||
        store->host.length >= sizeof lookup->host)
        return -1;
    lookup = (lpi_lookup *)calloc(1, sizeof *lookup);
    if (!lookup) return -1;
    lookup->os = store->server->os;
    memcpy(lookup->host, store->host.bytes, store->host.length);
    lookup->refs = 2;
    store->lookup = lookup;
    if (!lpi_thread_detach(lpi_lookup_thread, lookup)) return 0;
    lookup->refs = 1;
    lpi_store_drop_lookup(store);
    return -1;
}

/* Both connections begin. */
static void lpi_store_connect(lpi_store *store)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    int error;
    store->state = LPI_STORE_GREETING;
    store->beat_sent_us = 0;
    store->beat_replied = store->beat_echoed = 0;
    store->deadline_ms = loop->now_ms + LPI_STORE_STEP_MS;
    error = lpi_redis_open(store, &store->commands);
    if (!error) error = lpi_redis_open(store, &store->events);
    if (error)
        lpi_store_fail(store, "cannot connect", lp_s(strerror(-error)), 0);
}

/* The pause is over: find the address, if it is a name's, and connect. */
static void lpi_store_begin(lpi_store *store)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lp_slice host = store->host;
    if (!store->attempts)
        lpi_hub_store_down(&store->server->hub, store->index, loop->now_ms);
    if (lpi_equal(host, LPI_S("localhost"))) host = LPI_S("127.0.0.1");
    if (store->path.length || !lpi_address_parse(host, store->address.bytes)) {
        lpi_store_connect(store);
        return;
    }
    store->state = LPI_STORE_RESOLVING;
    store->deadline_ms = loop->now_ms + LPI_STORE_STEP_MS;
    if (lpi_store_look_up(store))
        lpi_store_fail(store, "cannot look up its name", host, 0);
}

static void lpi_store_resolved(lpi_store *store)
{
    lpi_lookup *lookup = store->lookup;
    int error = lookup->error;
    memcpy(store->address.bytes, lookup->address.bytes, 16);
    lpi_store_drop_lookup(store);
    if (error) lpi_store_fail(store, "no such host", store->host, 0);
    else lpi_store_connect(store);
}

/* --- greeting --- */

static void lpi_redis_command(lp_text *to, lp_slice name, lp_slice word)
{
    lpi_resp_command(to, 2);
    lpi_resp_word(to, name);
    lpi_resp_word(to, word);
}

static int lpi_redis_ask_command(lpi_store *store, lpi_redis *c,
                                 lpi_ask_kind kind, lp_slice name,
                                 lp_slice word)
{
    if (lpi_redis_ask_kind(store, c, kind)) return -1;
    lpi_redis_command(&c->out, name, word);
    return 0;
}

static int lpi_store_authenticate(lpi_store *store, lpi_redis *c)
{
    if (!store->password.length) return 0;
    if (lpi_redis_ask_kind(store, c, LPI_ASK_AUTH)) return -1;
    lpi_resp_command(&c->out, store->user.length ? 3 : 2);
    lpi_resp_word(&c->out, LPI_S("AUTH"));
    if (store->user.length) lpi_resp_word(&c->out, store->user);
    lpi_resp_word(&c->out, store->password);
    return 0;
}

static int lpi_store_load(lpi_store *store, lpi_ask_kind kind,
                          const char *script)
{
    lpi_redis *c = &store->commands;
    if (lpi_redis_ask_kind(store, c, kind)) return -1;
    lpi_resp_command(&c->out, 3);
    lpi_resp_word(&c->out, LPI_S("SCRIPT"));
    lpi_resp_word(&c->out, LPI_S("LOAD"));
    lpi_resp_word(&c->out, lp_s(script));
    return 0;
}

/* Everything up to the first heartbeat is sent at once. */
static int lpi_store_greet(lpi_store *store, lpi_redis *c)
{
    int commands = c == &store->commands;
    if (lpi_store_authenticate(store, c)) return -1;
    if (commands && store->database.length &&
        lpi_redis_ask_command(store, c, LPI_ASK_SELECT, LPI_S("SELECT"),
                              store->database))
        return -1;
    if (lpi_redis_ask_kind(store, c, LPI_ASK_INFO)) return -1;
    lpi_resp_command(&c->out, 1);
    lpi_resp_word(&c->out, LPI_S("INFO"));
    if (commands) {
        if (lpi_store_load(store, LPI_ASK_LOAD_CALL, lpi_store_call_script) ||
            lpi_store_load(store, LPI_ASK_LOAD_BEAT, lpi_store_beat_script))
            return -1;
    } else {
        lpi_redis_command(&c->out, LPI_S("SUBSCRIBE"), lp_s(store->own));
    }
    return lpi_redis_flush(store, c);
}

/* The poller says that the connection is made, or that it failed. */
static void lpi_redis_connected(lpi_store *store, lpi_redis *c)
{
    const lp_os *os = &store->server->os;
    int error = os->connected(os->ctx, c->fd);
    c->connected = !error;
    if (error)
        lpi_store_fail(store, "cannot connect", lp_s(strerror(-error)), 0);
    else if (lpi_store_greet(store, c))
        lpi_store_fail(store, "connection lost", LPI_S(""), 0);
}

/* The value of a field of INFO. */
static lp_slice lpi_info_field(lp_slice info, lp_slice name)
{
    lp_slice line;
    while (lpi_split(&info, '\n', &line)) {
        if (line.length <= name.length || !lpi_starts(line, name) ||
            line.bytes[name.length] != ':')
            continue;
        line = lpi_slice(line.bytes + name.length + 1,
                         line.length - name.length - 1);
        if (line.length && line.bytes[line.length - 1] == '\r') line.length--;
        return line;
    }
    return lpi_slice(NULL, 0);
}

/* Warn of a policy that evicts keys, once for each policy. */
static void lpi_store_warn(lpi_store *store, lp_slice policy)
{
    if (lpi_equal(policy, lp_s(store->policy))) return;
    lpi_store_note(store->policy, sizeof store->policy, policy);
    if (policy.length && !lpi_equal(policy, LPI_S("noeviction")))
        lpi_store_log(store, LP_LOG_WARN, "it may evict channels, which then "
                      "begin anew: maxmemory-policy is not noeviction", policy);
}

/* What the server says of itself: may it be used? */
static void lpi_store_inspect(lpi_store *store, lpi_redis *c, lp_slice info)
{
    lp_slice role = lpi_info_field(info, LPI_S("role"));
    lp_slice replid = lpi_info_field(info, LPI_S("master_replid"));
    if (!replid.length || replid.length >= sizeof c->replid) {
        lpi_store_fail(store, "it has no master_replid", LPI_S(""), 0);
        return;
    }
    memcpy(c->replid, replid.bytes, replid.length);
    c->replid[replid.length] = 0;
    if (lpi_equal(lpi_info_field(info, LPI_S("cluster_enabled")), LPI_S("1")))
        lpi_store_fail(store, "refused", LPI_S("it is a Redis Cluster"),
                       LPI_STORE_RETRY_MS_MAX);
    else if (lpi_equal(lpi_info_field(info, LPI_S("loading")), LPI_S("1")))
        lpi_store_fail(store, "it is loading", LPI_S(""), 0);
    else if (!lpi_equal(role, LPI_S("master")))
        lpi_store_fail(store, "refused", LPI_S("it is a replica"), 1000);
    else if (c == &store->commands)
        lpi_store_warn(store,
                       lpi_info_field(info, LPI_S("maxmemory_policy")));
}

/* Send a heartbeat. 0, or -1 without memory. */
static int lpi_store_beat(lpi_store *store)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lp_text *out = &store->commands.out;
    if (lpi_redis_ask_kind(store, &store->commands, LPI_ASK_BEAT)) return -1;
    lpi_resp_command(out, 7);
    lpi_resp_word(out, LPI_S("EVALSHA"));
    lpi_resp_word(out, lp_s(store->beat_sha));
    lpi_resp_word(out, LPI_S("1"));
    lpi_text_clear(&loop->extra);
    lpi_text_add(&loop->extra, lp_s(store->server->config.redis_prefix));
    lpi_text_add(&loop->extra, LPI_S(":layout"));
    lpi_resp_word(out, lpi_text_slice(&loop->extra));
    lpi_resp_word(out, lp_s(store->layout));
    lpi_resp_word_uint(out, LPI_STORE_LAYOUT_MS);
    lpi_resp_word(out, lp_s(store->own));
    store->beat_replied = store->beat_echoed = 0;
    store->beat_sent_us = loop->now_us;
    store->beat_ms = loop->now_ms + LPI_STORE_BEAT_MS;
    return loop->extra.failed ? -1 : 0;
}

/* Is all answered that comes before UP? */
static void lpi_store_check_up(lpi_store *store)
{
    if (store->state != LPI_STORE_GREETING || !store->beat_replied ||
        !store->beat_echoed)
        return;
    if (strcmp(store->commands.replid, store->events.replid)) {
        lpi_store_fail(store, "its connections lead to two servers", LPI_S(""),
                       0);
        return;
    }
    store->state = LPI_STORE_UP;
    lpi_hub_store_up(&store->server->hub, store->index);
    lpi_store_accept(store, 1);
    lpi_store_log(store, store->told[0] ? LP_LOG_WARN : LP_LOG_INFO,
                  store->told[0] ? "up again" : "up", LPI_S(""));
    store->told[0] = 0;
}

/* Both connections are ready for the first heartbeat. */
static void lpi_store_check_greeted(lpi_store *store)
{
    if (store->state != LPI_STORE_GREETING || store->beat_sent_us ||
        !store->commands.greeted || !store->events.greeted)
        return;
    if (lpi_store_beat(store) || lpi_redis_flush(store, &store->commands))
        lpi_store_fail(store, "connection lost", LPI_S(""), 0);
}

/* The replication id that a script has read must be the one that the greeting
   told: else this is another server now, or it was promoted. */
static int lpi_store_is_same(lpi_store *store, lp_slice replid)
{
    if (lpi_equal(replid, lp_s(store->commands.replid))) return 1;
    lpi_store_fail(store, "it has another replication id", LPI_S(""), 0);
    return 0;
}

static void lpi_store_take_beat(lpi_store *store, lp_slice reply)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lp_slice layout;
    char text[100];
    lpi_resp_take(&reply);
    if (!lpi_store_is_same(store, lpi_resp_take(&reply).text)) return;
    layout = lpi_resp_take(&reply).text;
    if (!lpi_equal(layout, lp_s(store->layout))) {
        /* Other stores, history_count or history_age_ms than here. */
        snprintf(text, sizeof text, "%.*s, not %s",
                 (int)(layout.length < 26 ? layout.length : 26),
                 layout.length ? layout.bytes : "", store->layout);
        lpi_store_fail(store, "refused: another layout", lp_s(text), 1000);
        return;
    }
    store->beat_replied = 1;
    if (store->state == LPI_STORE_UP) store->attempts = 0;
    lpi_hub_store_beat(&store->server->hub, store->index,
                       loop->now_us - store->beat_sent_us);
    lpi_store_check_up(store);
}

/* --- keys and calls --- */

/* Write a key of the channel; `kind` is one of h, x, i, or 0 for the pub/sub
   channel. */
static void lpi_store_key(lpi_store *store, lp_text *to, char kind,
                          lp_slice name)
{
    uint32_t slot = (uint32_t)(lpi_store_hash(name) >> 52);
    char text[8];
    char *at = text;
    *at++ = ':';
    *at++ = '{';
    *at++ = "0123456789abcdef"[slot >> 8];
    *at++ = "0123456789abcdef"[slot >> 4 & 15];
    *at++ = "0123456789abcdef"[slot & 15];
    *at++ = '}';
    lpi_text_clear(to);
    lpi_text_add(to, lp_s(store->server->config.redis_prefix));
    lpi_text_add(to, lpi_slice_to(text, at));
    if (kind) lpi_text_add(to, lpi_slice(&kind, 1));
    lpi_text_add(to, LPI_S(":"));
    lpi_text_add(to, name);
}

/* Write a word that is a key. */
static void lpi_store_word_key(lpi_store *store, lp_text *out, char kind,
                               lp_slice name)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lpi_store_key(store, &loop->extra, kind, name);
    if (loop->extra.failed) out->failed = 1;
    lpi_resp_word(out, lpi_text_slice(&loop->extra));
}

/* The name of a channel in a pub/sub channel's; without bytes if that is none
   of ours. */
static lp_slice lpi_store_name(const lpi_store *store, lp_slice key)
{
    size_t before = strlen(store->server->config.redis_prefix) + 7;
    if (key.length <= before) return lpi_slice(NULL, 0);
    return lpi_slice(key.bytes + before, key.length - before);
}

static uint32_t lpi_store_age(uint32_t ms)
{
    return ms == LP_UNLIMITED ? 0 : ms;
}

/* An epoch that was never offered before. */
static int lpi_store_candidate(lpi_store *store, uint64_t *out)
{
    const lp_os *os = &store->server->os;
    if (!store->candidate_count) {
        if (os->random(os->ctx, store->candidates, sizeof store->candidates))
            return -1;
        store->candidate_count = LPI_COUNT(store->candidates);
    }
    *out = store->candidates[--store->candidate_count];
    return 0;
}

/* How much a channel holds, as the script is told. */
static void lpi_store_word_policy(lpi_store *store, const lp_policy *policy)
{
    const lp_config *cfg = &store->server->config;
    lp_text *out = &store->commands.out;
    lpi_resp_word_uint(out, policy->history_count);
    lpi_resp_word_uint(out, lpi_store_age(policy->history_age_ms));
    lpi_resp_word_uint(out, cfg->redis_keep_ms == LP_UNLIMITED
                                ? 0 : (uint64_t)cfg->redis_keep_ms + 1000);
}

/* The words that every call of the script begins with, up to those of
   lpi_store_word_policy(). */
static void lpi_store_begin_call(lpi_store *store, lp_slice name, lp_slice key,
                                 const lpi_work *known, size_t words)
{
    lp_text *out = &store->commands.out;
    char text[32];
    uint64_t candidate = 0;
    if (lpi_store_candidate(store, &candidate)) out->failed = 1;
    lpi_resp_command(out, (key.length ? 14 : 13) + words);
    lpi_resp_word(out, LPI_S("EVALSHA"));
    lpi_resp_word(out, lp_s(store->call_sha));
    lpi_resp_word(out, key.length ? LPI_S("3") : LPI_S("2"));
    lpi_store_word_key(store, out, 'h', name);
    lpi_store_word_key(store, out, 'x', name);
    if (key.length) {
        lp_text *extra = &lpi_first_loop(store->server)->extra;
        lpi_store_key(store, extra, 'i', name);
        lpi_text_add(extra, LPI_S("\n"));
        lpi_text_add(extra, key);
        if (extra->failed) out->failed = 1;
        lpi_resp_word(out, lpi_text_slice(extra));
    }
    lpi_resp_word(out, lpi_slice_to(text, lpi_put_epoch(text, candidate)));
    lpi_resp_word_uint(out, known ? known->birth_us : 0);
    lpi_resp_word_uint(out, known ? known->last : 0);
    lpi_resp_word_uint(out, known ? known->last_us : 0);
    lpi_resp_word_uint(out, lpi_hub_seen_us(&store->server->hub, 0));
}

static int lpi_store_send_open(lpi_store *store, const lpi_work *work)
{
    const lp_config *cfg = &store->server->config;
    lp_text *out = &store->commands.out;
    uint32_t max = work->page_from ? (uint32_t)LPI_PAGE_MAX
                                   : (uint32_t)LPI_STORE_NEWEST;
    uint32_t page = LPI_STORE_PAGE_BYTES / cfg->message_bytes_max;
    lpi_ask ask;
    memset(&ask, 0, sizeof ask);
    ask.kind = LPI_ASK_OPEN;
    ask.channel = work->channel;
    ask.page_from = work->page_from;
    if (lpi_redis_ask(store, &store->commands, &ask)) return -1;
    lpi_store_begin_call(store, lpi_slice(work->name, work->name_length),
                         LPI_S(""), work, 4);
    lpi_store_word_policy(store, &work->policy);
    lpi_resp_word(out, LPI_S(""));
    if (page > max) page = max;
    if (!page) page = 1;
    if (work->page_from) lpi_resp_word_uint(out, work->page_from);
    else lpi_resp_word(out, LPI_S(""));
    lpi_resp_word_uint(out, page);
    lpi_resp_word_uint(out, cfg->redis_empty_ms);
    return 0;
}

/* Send what a publisher has left. */
static int lpi_store_send_publish(lpi_store *store, lpi_task *task)
{
    lpi_call *call = &task->of.call;
    const lpi_message *m = call->first;
    lp_slice name = lpi_slice(call->name, call->name_length);
    lp_text *out = &store->commands.out;
    lpi_ask ask;
    memset(&ask, 0, sizeof ask);
    ask.kind = LPI_ASK_PUBLISH;
    ask.task = task;
    if (lpi_redis_ask(store, &store->commands, &ask)) return -1;
    lpi_store_begin_call(store, name, lpi_slice(call->key, call->key_length),
                         NULL, 2 + lpi_message_count(m));
    lpi_store_word_policy(store, &call->policy);
    lpi_store_word_key(store, out, 0, name);
    lpi_resp_word_uint(out, store->server->config.redis_retry_ms);
    for (; m; m = m->newer) {
        lp_slice begin = m->transient ? LPI_S("~{") : LPI_S("{");
        lpi_resp_head(out, '$', begin.length + m->length + 1);
        lpi_text_add(out, begin);
        lpi_text_add(out, lpi_slice((const char *)m + m->members_at,
                                    m->length + 1));
        lpi_text_add(out, LPI_S("\r\n"));
    }
    return 0;
}

/* --- what comes back --- */

/* Read "EPOCH SEQ TIMESTAMP", and leave in *text what follows. SEQ 0 is that of
   no message, but says that the channel has a new epoch. 0 or -1. */
static int lpi_store_read_id(lp_slice *text, uint64_t *epoch, uint64_t *seq,
                             uint64_t *us)
{
    lp_slice word;
    if (!lpi_split(text, ' ', &word) || word.length != 16 ||
        lpi_parse_epoch(word.bytes, epoch))
        return -1;
    if (!lpi_split(text, ' ', &word) || lpi_parse_uint(word, seq)) return -1;
    if (!lpi_split(text, ' ', &word) || lpi_parse_uint(word, us)) return -1;
    return *us ? 0 : -1;
}

/* The mark of a transient message that the store does not hold; NULL without
   memory. */
static lpi_message *lpi_store_mark(lpi_store *store, uint64_t epoch,
                                   uint64_t seq, uint64_t us)
{
    char id[40];
    lpi_message m;
    memset(&m, 0, sizeof m);
    m.seq = seq;
    m.timestamp_us = us;
    return lpi_message_mark(&store->server->memory, &m,
                            lpi_slice_to(id, lpi_put_id(id, epoch, seq)));
}

/* The message that the text is, sealed; NULL with LP_ERR_NOMEM or LP_ERR_JSON
   in *result. */
static lpi_message *lpi_store_message(lpi_store *store, lp_slice name,
                                      lp_slice text, uint64_t appended_us,
                                      lp_result *result)
{
    uint64_t epoch, seq, us;
    size_t offset;
    lpi_message *m;
    int transient;
    *result = LP_ERR_JSON;
    if (lpi_store_read_id(&text, &epoch, &seq, &us) || !seq) return NULL;
    transient = lpi_starts(text, LPI_S("~"));
    if (transient) text = lpi_slice(text.bytes + 1, text.length - 1);
    if (transient && !text.length) {
        m = lpi_store_mark(store, epoch, seq, us);
        *result = m ? LP_OK : LP_ERR_NOMEM;
    } else {
        m = lpi_message_new(&store->server->memory, name, text, result,
                            &offset);
        if (m) lpi_message_seal(m, name, epoch, seq, us);
    }
    if (!m) return NULL;
    m->transient = transient != 0;
    m->appended_us = appended_us;
    return m;
}

/* A text of that channel is no message: somebody else has written it. Said once
   a second at most. */
static void lpi_store_log_unreadable(lpi_store *store, lp_slice name)
{
    uint64_t now_ms = lpi_first_loop(store->server)->now_ms;
    if (now_ms < store->unreadable_ms) return;
    store->unreadable_ms = now_ms + LPI_REFUSALS_MS;
    lpi_store_log(store, LP_LOG_WARN, "unreadable text in channel", name);
}

/* News have come of a channel. */
static void lpi_store_take_news(lpi_store *store, lp_slice name, lp_slice text)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lpi_hub *hub = &store->server->hub;
    uint64_t epoch, seq, us;
    lp_slice rest = text;
    lp_result result = LP_ERR_JSON;
    lpi_message *m = NULL;
    int lacks;
    if (lpi_store_read_id(&rest, &epoch, &seq, &us)) {
        lpi_store_log_unreadable(store, name);
        return;
    }
    if (!seq) {
        lpi_hub_renewed(hub, name, epoch, loop->now_ms);
        return;
    }
    lacks = lpi_hub_lacks(hub, name, epoch, seq, loop->now_ms);
    if (lacks < 0) {
        lpi_resp_command(&store->events.out, 2);
        lpi_resp_word(&store->events.out, LPI_S("UNSUBSCRIBE"));
        lpi_store_word_key(store, &store->events.out, 0, name);
    }
    if (lacks <= 0) return;
    m = lpi_store_message(store, name, text, loop->now_us, &result);
    if (m) lpi_hub_append(hub, name, m, loop->now_ms);
    else lpi_hub_lost(hub, name, loop->now_ms);
}

static void lpi_store_free_page(lpi_store *store, lpi_opened *opened)
{
    while (opened->page) {
        lpi_message *m = opened->page;
        opened->page = m->newer;
        lpi_message_unref(&store->server->memory, m);
    }
}

/* The page of an open: the messages in *out. A text that is none hides all that
   comes before it, and itself; so does a message that somebody has deleted. 0,
   or -1: malformed, or no memory. */
static int lpi_store_take_page(lpi_store *store, const lpi_ask *ask,
                               lp_slice name, lp_slice reply, lpi_opened *out)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lpi_resp_value array = lpi_resp_take(&reply);
    int64_t count = array.number;
    lpi_message **end = &out->page;
    uint64_t seq = out->last - (uint64_t)count + 1; /* that should be next */
    uint64_t low = lpi_max64(ask->page_from, 1);    /* and may be            */
    if (array.kind != LPI_RESP_ARRAY) return -1;
    if (ask->page_from)
        seq = lpi_max64(low, out->last - out->held + 1);
    for (; count > 0; count--) {
        lp_slice text = lpi_resp_take(&reply).text;
        lp_result result = LP_ERR_JSON;
        uint64_t age;
        lpi_message *m = lpi_store_message(store, name, text, loop->now_us,
                                           &result);
        if (!m && result == LP_ERR_NOMEM) return -1;
        if (m && (m->seq < low || m->seq > out->last)) {
            lpi_message_unref(&store->server->memory, m);
            m = NULL;
        }
        if (!m || m->seq != seq) {
            lpi_store_free_page(store, out);
            end = &out->page;
            out->unreadable = m ? m->seq - 1 : seq;
        }
        seq = low = (m ? m->seq : seq) + 1;
        if (!m) continue;
        age = out->now_us > m->timestamp_us ? out->now_us - m->timestamp_us
                                            : 0;
        m->appended_us = m->appended_us > age ? m->appended_us - age : 0;
        *end = m;
        end = &m->newer;
    }
    if (out->unreadable) lpi_store_log_unreadable(store, name);
    return 0;
}

/* Read what an open has told. 0, or -1: malformed, or no memory. */
static int lpi_store_read_open(lpi_store *store, const lpi_ask *ask,
                               lp_slice name, lp_slice reply, lpi_opened *out)
{
    lp_slice text, first;
    uint64_t seq;
    text = lpi_resp_take(&reply).text;
    if (text.length != 16 || lpi_parse_epoch(text.bytes, &out->epoch))
        return -1;
    if (lpi_resp_take_uint(&reply, &out->last) ||
        lpi_resp_take_uint(&reply, &out->last_us) ||
        lpi_resp_take_uint(&reply, &out->birth_us))
        return -1;
    text = lpi_resp_take(&reply).text;
    if (text.length) {
        if (text.length != 16 || lpi_parse_epoch(text.bytes, &out->past_epoch))
            return -1;
        out->has_past = 1;
    }
    if (lpi_resp_take_uint(&reply, &out->past_last) ||
        lpi_resp_take_uint(&reply, &out->held) ||
        lpi_resp_take_uint(&reply, &out->now_us) || out->held > out->last)
        return -1;
    first = lpi_resp_take(&reply).text;
    if (first.length && (!lpi_split(&first, '-', &text) ||
                         lpi_parse_uint(text, &seq) ||
                         lpi_parse_uint(first, &out->first_us)))
        return -1;
    return lpi_store_take_page(store, ask, name, reply, out);
}

static void lpi_store_take_open(lpi_store *store, const lpi_ask *ask,
                                lp_slice reply)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lpi_hub *hub = &store->server->hub;
    char text[LPI_CHANNEL_BYTES];
    lp_slice name = lpi_hub_name(hub, ask->channel, text);
    lpi_opened opened;
    memset(&opened, 0, sizeof opened);
    lpi_resp_take(&reply);
    if (!lpi_store_is_same(store, lpi_resp_take(&reply).text)) return;
    if (!lpi_store_read_open(store, ask, name, reply, &opened)) {
        lpi_hub_opened(hub, ask->channel, &opened, loop->now_ms);
        return;
    }
    lpi_store_free_page(store, &opened);
    lpi_hub_opened(hub, ask->channel, NULL, loop->now_ms);
}

/* The epoch and SEQ of the last message that was published, and in *out its
   timestamp; or, if there are 2 elements, those of the first try, and of how
   many messages it was. 0, or -1 if malformed. */
static int lpi_store_read_outcome(lp_slice *reply, int64_t count,
                                  uint64_t *epoch, uint64_t *seq,
                                  lp_published *out)
{
    lp_slice text = lpi_resp_take(reply).text;
    uint64_t messages = 1;
    if (count == 2) {
        if (lpi_store_read_id(&text, epoch, seq, &out->timestamp_us) ||
            (text.bytes && lpi_parse_uint(text, &messages)) || !messages ||
            messages > LPI_MESSAGES_MAX)
            return -1;
        out->count = (uint32_t)messages;
        return 0;
    }
    if (text.length != 16 || lpi_parse_epoch(text.bytes, epoch) ||
        lpi_resp_take_uint(reply, seq))
        return -1;
    return lpi_resp_take_uint(reply, &out->timestamp_us);
}

/* Append what was published here; `seq` and `us` are the last message's, and
   those before it have the numbers before. Returns how many polls it woke. */
static uint32_t lpi_store_append(lpi_store *store, lpi_call *call,
                                 uint64_t epoch, uint64_t seq, uint64_t us)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lpi_hub *hub = &store->server->hub;
    lp_slice name = lpi_slice(call->name, call->name_length);
    uint32_t before = lpi_message_count(call->first) - 1, woken = 0, n;
    if (!call->first) lpi_hub_renewed(hub, name, epoch, loop->now_ms);
    while (call->first) {
        lpi_message *m = call->first;
        call->first = m->newer;
        m->newer = NULL;
        lpi_message_seal(m, name, epoch, seq - before, us - before);
        m->appended_us = loop->now_us;
        lpi_hub_stored(hub, m);
        n = lpi_hub_append(hub, name, m, loop->now_ms);
        if (n > woken) woken = n;
        before--;
    }
    return woken;
}

/* A publishing call is answered. Append here what has got its ids, if it is
   new. */
static void lpi_store_take_published(lpi_store *store, lpi_task *task,
                                     lp_slice reply)
{
    lpi_hub *hub = &store->server->hub;
    lpi_call *call = &task->of.call;
    lp_published *out = &call->outcome.published;
    uint64_t epoch, seq;
    int64_t count = lpi_resp_take(&reply).number;
    lp_slice replid = lpi_resp_take(&reply).text;
    out->count = lpi_message_count(call->first);
    if (lpi_store_read_outcome(&reply, count, &epoch, &seq, out) ||
        seq < out->count) {
        lpi_hub_count_unknown(hub, 1);
        lpi_store_tell(store, task, LP_ERR_UNKNOWN);
        lpi_store_fail(store, "malformed answer", LPI_S(""), 0);
        return;
    }
    *lpi_put_id(out->id, epoch, seq) = 0;
    lpi_hub_seen_us(hub, out->timestamp_us);
    if (count != 2) {
        out->instances = (uint32_t)lpi_resp_take(&reply).number;
        out->waiters = lpi_store_append(store, call, epoch, seq,
                                        out->timestamp_us);
    }
    lpi_store_tell(store, task, LP_OK);
    lpi_store_is_same(store, replid);
}

/* Does the error concern that call alone? Then the store stays UP. */
static int lpi_store_error_passes(lp_slice error)
{
    static const char *const fatal[] = {"READONLY", "LOADING", "MASTERDOWN",
                                        "NOSCRIPT", "NOAUTH", "NOPERM",
                                        "WRONGPASS"};
    size_t i;
    for (i = 0; i < LPI_COUNT(fatal); i++)
        if (lpi_starts(error, lp_s(fatal[i]))) return 0;
    return 1;
}

/* A command was answered with an error. */
static void lpi_store_take_error(lpi_store *store, const lpi_ask *ask,
                                 lp_slice error)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    int passes = lpi_store_error_passes(error);
    if (ask->kind == LPI_ASK_PUBLISH)
        lpi_store_tell(store, ask->task, LP_ERR_AWAY);
    else if (ask->kind == LPI_ASK_OPEN)
        lpi_hub_opened(&store->server->hub, ask->channel, NULL, loop->now_ms);
    else if (ask->kind != LPI_ASK_BEAT) passes = 0;
    else if (passes) store->beat_replied = 1;
    if (!passes) {
        lpi_store_refused(store, error);
        return;
    }
    /* A script that is BUSY has published nothing to itself. */
    if (store->state == LPI_STORE_UP && lpi_starts(error, LPI_S("BUSY")))
        store->beat_echoed |= ask->kind == LPI_ASK_BEAT;
    lpi_store_check_up(store);
    if (loop->now_ms < store->error_ms) return;
    store->error_ms = loop->now_ms + LPI_STORE_RETRY_MS_MAX;
    lpi_store_log(store, LP_LOG_WARN, "a call failed", error);
}

/* The oldest command is answered with `reply`. */
static void lpi_store_take_answer(lpi_store *store, lpi_redis *c,
                                  lp_slice reply)
{
    lp_slice rest = reply;
    lpi_resp_value value = lpi_resp_take(&rest);
    lpi_ask ask = c->asks[c->ask_at];
    c->ask_at = (c->ask_at + 1) % c->ask_capacity;
    c->ask_count--;
    if (value.kind == LPI_RESP_ERROR) {
        lpi_store_take_error(store, &ask, value.text);
        return;
    }
    switch (ask.kind) {
    case LPI_ASK_AUTH:
    case LPI_ASK_SELECT: break;
    case LPI_ASK_INFO: lpi_store_inspect(store, c, value.text); break;
    case LPI_ASK_LOAD_CALL:
        lpi_store_note(store->call_sha, sizeof store->call_sha, value.text);
        break;
    case LPI_ASK_LOAD_BEAT:
        lpi_store_note(store->beat_sha, sizeof store->beat_sha, value.text);
        c->greeted = 1;
        lpi_store_check_greeted(store);
        break;
    case LPI_ASK_BEAT: lpi_store_take_beat(store, reply); break;
    case LPI_ASK_PUBLISH:
        lpi_store_take_published(store, ask.task, reply);
        break;
    case LPI_ASK_OPEN: lpi_store_take_open(store, &ask, reply); break;
    }
}

/* News, or that some come from now on, or no more. */
static void lpi_store_take_push(lpi_store *store, lp_slice reply)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lp_slice kind, key, name;
    int own;
    lpi_resp_take(&reply);
    kind = lpi_resp_take(&reply).text;
    key = lpi_resp_take(&reply).text;
    own = lpi_equal(key, lp_s(store->own));
    name = lpi_store_name(store, key);
    if (own && lpi_equal(kind, LPI_S("subscribe"))) {
        store->events.greeted = 1;
        lpi_store_check_greeted(store);
    } else if (own && lpi_equal(kind, LPI_S("message"))) {
        store->beat_echoed = 1;
        lpi_store_check_up(store);
    } else if (name.length && lpi_equal(kind, LPI_S("subscribe"))) {
        lpi_hub_subscribed(&store->server->hub, name, loop->now_ms);
    } else if (name.length && lpi_equal(kind, LPI_S("message"))) {
        lpi_store_take_news(store, name, lpi_resp_take(&reply).text);
    }
}

static void lpi_store_take_reply(lpi_store *store, lpi_redis *c,
                                 lp_slice reply)
{
    if (c->ask_count) lpi_store_take_answer(store, c, reply);
    else if (c == &store->events && *reply.bytes == '*')
        lpi_store_take_push(store, reply);
    else lpi_store_fail(store, "malformed answer", LPI_S(""), 0);
}

/* Take what is whole of what was received. 0, or -1 if it is malformed. */
static int lpi_redis_parse(lpi_store *store, lpi_redis *c)
{
    size_t at = 0;
    long n;
    while ((n = lpi_resp_read(&c->resp, c->in + at, c->in_length - at)) > 0) {
        memset(&c->resp, 0, sizeof c->resp);
        lpi_store_take_reply(store, c, lpi_slice(c->in + at, (size_t)n));
        if (c->fd < 0) return 0;
        at += (size_t)n;
    }
    c->in_length -= at;
    if (c->in_length) {
        memmove(c->in, c->in + at, c->in_length);
    } else if (c->in_capacity > LPI_SCRATCH_MAX) {
        lpi_free(&store->server->memory, c->in, c->in_capacity);
        c->in = NULL;
        c->in_capacity = 0;
    }
    return n < 0 ? -1 : 0;
}

static void lpi_redis_read(lpi_store *store, lpi_redis *c)
{
    const lp_os *os = &store->server->os;
    size_t room = c->in_length + LPI_STORE_RECV / 4, max = LPI_STORE_RECV;
    long n;
    if (lpi_reserve(&store->server->memory, &c->in, &c->in_capacity, room)) {
        lpi_store_fail(store, "no memory", LPI_S(""), 0);
        return;
    }
    room = c->in_capacity - c->in_length;
    n = os->recv(os->ctx, c->fd, c->in + c->in_length,
                 room < max ? room : max);
    if (n < 0 && lpi_try_again(n)) return;
    if (n <= 0) {
        lpi_store_fail(store, "connection lost", LPI_S(""), 0);
        return;
    }
    c->in_length += (size_t)n;
    if (lpi_redis_parse(store, c))
        lpi_store_fail(store, "malformed answer", LPI_S(""), 0);
}

/* --- what a step does --- */

static void lpi_store_send_names(lpi_store *store, const lpi_work_batch *batch)
{
    lp_text *out = &store->events.out;
    uint32_t i, names = 0;
    for (i = 0; i < batch->count; i++)
        names += batch->work[i].kind == LPI_WORK_SUBSCRIBE;
    if (!names) return;
    lpi_resp_command(out, 1 + names);
    lpi_resp_word(out, LPI_S("SUBSCRIBE"));
    for (i = 0; i < batch->count; i++) {
        const lpi_work *work = &batch->work[i];
        if (work->kind == LPI_WORK_SUBSCRIBE)
            lpi_store_word_key(store, out, 0,
                               lpi_slice(work->name, work->name_length));
    }
}

static void lpi_store_send_left(lpi_store *store, lp_text *left)
{
    lp_text *out = &store->events.out;
    size_t at = 0;
    while (at < left->length) {
        size_t length = (uint8_t)left->bytes[at];
        lpi_resp_command(out, 2);
        lpi_resp_word(out, LPI_S("UNSUBSCRIBE"));
        lpi_store_word_key(store, out, 0,
                           lpi_slice(left->bytes + at + 1, length));
        at += 1 + length;
    }
    lpi_text_clear(left);
}

/* Send what the channels need. 0, or -1 without memory. */
static int lpi_store_send_work(lpi_store *store)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    lpi_work_batch batch;
    uint32_t rounds = LPI_STORE_ROUNDS, i;
    do {
        lpi_hub_store_work(&store->server->hub, store->index, loop->now_ms,
                           &batch, &store->left);
        lpi_store_send_left(store, &store->left);
        lpi_store_send_names(store, &batch);
        for (i = 0; i < batch.count; i++)
            if (batch.work[i].kind == LPI_WORK_OPEN &&
                lpi_store_send_open(store, &batch.work[i]))
                return -1;
    } while (batch.count == LPI_WORK_MAX && --rounds);
    return 0;
}

/* Take the calls that publishers have left. */
static lpi_task *lpi_store_take_calls(lpi_store *store)
{
    lpi_task *calls;
    lpi_lock(&store->server->store_mutex);
    calls = store->first;
    store->first = NULL;
    lpi_unlock(&store->server->store_mutex);
    return calls;
}

/* Send the calls that publishers have left; or refuse them, if the store is not
   UP. 0, or -1 without memory. */
static int lpi_store_send_calls(lpi_store *store)
{
    lpi_task *calls = lpi_store_take_calls(store);
    int failed = 0;
    while (calls) {
        lpi_task *task = calls;
        calls = task->next;
        if (!failed && store->state == LPI_STORE_UP &&
            !lpi_store_send_publish(store, task))
            continue;
        failed = store->state == LPI_STORE_UP;
        lpi_store_tell(store, task, LP_ERR_AWAY);
    }
    return -failed;
}

/* When a call or a heartbeat has to be answered. */
static uint64_t lpi_store_answer_ms(const lpi_store *store)
{
    const lpi_redis *c = &store->commands;
    uint32_t timeout_ms = store->server->config.redis_timeout_ms;
    uint64_t due_ms = UINT64_MAX;
    if (c->ask_count) due_ms = c->asks[c->ask_at].sent_ms + timeout_ms;
    if (!store->beat_replied || !store->beat_echoed) {
        uint64_t beat_ms = store->beat_sent_us / 1000 + timeout_ms;
        if (beat_ms < due_ms) due_ms = beat_ms;
    }
    return due_ms;
}

/* A step of a store that is UP. */
static void lpi_store_step_up(lpi_store *store)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    int failed = 0;
    if (loop->now_ms >= lpi_store_answer_ms(store)) {
        lpi_store_fail(store, "no answer in time", LPI_S(""), 0);
        return;
    }
    if (loop->now_ms >= store->beat_ms && store->beat_replied &&
        store->beat_echoed)
        failed = lpi_store_beat(store);
    if (!failed) failed = lpi_store_send_calls(store);
    if (!failed) failed = lpi_store_send_work(store);
    if (failed) {
        lpi_store_fail(store, "no memory", LPI_S(""), 0);
    } else if (lpi_redis_flush(store, &store->commands) ||
               lpi_redis_flush(store, &store->events)) {
        lpi_store_fail(store, "connection lost", LPI_S(""), 0);
    }
}

static void lpi_store_step(lpi_store *store)
{
    lpi_loop *loop = lpi_first_loop(store->server);
    int late = loop->now_ms >= store->deadline_ms;
    switch (store->state) {
    case LPI_STORE_DOWN:
        if (late) lpi_store_begin(store);
        break;
    case LPI_STORE_RESOLVING:
        if (lpi_atomic_get(&store->lookup->done)) lpi_store_resolved(store);
        else if (late)
            lpi_store_fail(store, "cannot look up its name in time",
                           store->host, 0);
        break;
    case LPI_STORE_GREETING:
        if (late)
            lpi_store_fail(store, "no answer in time", LPI_S("connecting"), 0);
        break;
    case LPI_STORE_UP: lpi_store_step_up(store); break;
    }
    if (store->state != LPI_STORE_UP) lpi_store_send_calls(store);
}

/* --- the calls. But for lpi_stores_publish(), they are the first loop's --- */

/* A connection to a store is ready. */
static void lpi_stores_event(lpi_loop *loop, const lp_event *event)
{
    uint32_t n = LPI_TAG_STORES - event->tag;
    lpi_store *store = &loop->server->stores[n / 2];
    lpi_redis *c = n % 2 ? &store->events : &store->commands;
    if (c->fd < 0) return;
    if (!c->connected && event->what & (LP_WRITE | LP_HANGUP))
        lpi_redis_connected(store, c);
    if (c->fd < 0 || !c->connected) return;
    if (event->what & LP_WRITE && lpi_redis_flush(store, c))
        lpi_store_fail(store, "connection lost", LPI_S(""), 0);
    if (c->fd >= 0 && event->what & (LP_READ | LP_HANGUP))
        lpi_redis_read(store, c);
}

static void lpi_stores_step(lpi_loop *loop)
{
    uint32_t k;
    for (k = 0; k < loop->server->store_count; k++)
        lpi_store_step(&loop->server->stores[k]);
    if (k) lpi_loop_do_tasks(loop, LPI_ACCEPTS); /* outcomes */
}

/* Has the store calls that are not sent yet? The first loop's own may have been
   left behind its stores' step: they have signalled nobody. */
static int lpi_store_has_calls(const lpi_store *store)
{
    int has;
    lpi_lock(&store->server->store_mutex);
    has = store->first != NULL;
    lpi_unlock(&store->server->store_mutex);
    return has;
}

/* Make *wait no longer than until something is due. */
static void lpi_stores_due(const lpi_loop *loop, uint64_t *wait)
{
    uint32_t k;
    for (k = 0; k < loop->server->store_count; k++) {
        const lpi_store *store = &loop->server->stores[k];
        uint64_t when = store->deadline_ms;
        if (store->state == LPI_STORE_RESOLVING)
            when = loop->now_ms + LPI_STORE_LOOKUP_MS;
        if (store->state == LPI_STORE_UP) {
            when = lpi_store_answer_ms(store);
            if (store->beat_ms < when && store->beat_replied &&
                store->beat_echoed)
                when = store->beat_ms;
        }
        when = when > loop->now_ms ? when - loop->now_ms : 0;
        if (lpi_store_has_calls(store)) when = 0;
        if (when < *wait) *wait = when;
    }
}

/* Is the outcome of a publishing call still to come? */
static int lpi_stores_are_busy(lp_server *server)
{
    uint32_t k, pending = 0;
    if (!server->stores) return 0;
    lpi_lock(&server->store_mutex);
    for (k = 0; k < server->store_count; k++)
        pending += server->stores[k].pending;
    lpi_unlock(&server->store_mutex);
    return pending != 0;
}

/* Leave a call for the store, if it may be. `signal`: the first loop may be
   asleep. */
static lp_result lpi_store_leave(lpi_store *store, lpi_task *task, int signal)
{
    lp_server *server = store->server;
    size_t bytes = task->of.call.bytes;
    lp_result result = LP_PENDING;
    int was_empty;
    lpi_lock(&server->store_mutex);
    was_empty = !store->first;
    if (server->stores_ended) result = LP_ERR_STOPPED;
    else if (!store->accepts ||
             store->pending >= server->config.redis_pending_max ||
             store->pending_bytes + bytes > LPI_STORE_PENDING_BYTES)
        result = LP_ERR_AWAY;
    if (result == LP_PENDING) {
        store->pending++;
        store->pending_bytes += bytes;
        if (was_empty) store->first = task;
        else store->last->next = task;
        store->last = task;
    }
    lpi_unlock(&server->store_mutex);
    if (result == LP_PENDING && was_empty && signal)
        server->os.wake_signal(server->os.ctx,
                               lpi_first_loop(server)->wake[1]);
    return result;
}

/* How much the channel holds that is published to. */
static lp_result lpi_store_policy(lp_server *server, lpi_call *call)
{
    lp_slice name = lpi_slice(call->name, call->name_length);
    uint64_t now_ms = server->os.monotonic_us(server->os.ctx) / 1000;
    lp_result result = lpi_hub_policy(&server->hub, name, now_ms,
                                      &call->policy);
    if (result != LP_OK) return result;
    return lpi_message_count(call->first) > call->policy.history_count
               ? LP_ERR_TOO_LARGE : LP_OK;
}

/* Publish the messages of `who` on any thread, or drop a channel's history if
   that says so: LP_PENDING, with the outcome told later to whom it says, or why
   not; then the caller keeps the messages. */
static lp_result lpi_stores_publish(lp_server *server, const lpi_call *who)
{
    const lp_memory *memory = &server->memory;
    lp_slice name = lpi_slice(who->name, who->name_length);
    uint32_t k = lpi_store_index(name, server->store_count);
    int own = !who->loop && who->connection != LPI_NONE; /* in its step */
    lp_result result = LP_OK;
    lpi_task *task;
    lpi_call *call;
    const lpi_message *m;
    task = (lpi_task *)lpi_alloc(memory, sizeof *task);
    if (!task) return LP_ERR_NOMEM;
    task->kind = LPI_TASK_CALL;
    task->next = NULL;
    call = &task->of.call;
    *call = *who;
    call->bytes = sizeof *task;
    call->policy = server->hub.policy;
    if (!call->deletes) result = lpi_store_policy(server, call);
    for (m = call->first; m; m = m->newer) call->bytes += m->size;
    if (result == LP_OK)
        result = lpi_store_leave(&server->stores[k], task, !own);
    if (result != LP_PENDING) lpi_free(memory, task, sizeof *task);
    return result;
}

/* The parts of redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or of
   unix:PATH, as they are written. 0 or -1. */
static int lpi_store_parse(lpi_store *store, lp_slice url)
{
    lp_slice part;
    const char *at;
    uint64_t port = 6379, number;
    if (lpi_starts(url, LPI_S("unix:"))) {
        store->path = lpi_slice(url.bytes + 5, url.length - 5);
        return store->path.length ? 0 : -1;
    }
    if (!lpi_starts(url, LPI_S("redis://"))) return -1;
    url = lpi_slice(url.bytes + 8, url.length - 8);
    for (at = url.bytes + url.length; at > url.bytes && at[-1] != '@'; at--) {}
    if (at > url.bytes) {
        part = lpi_slice_to(url.bytes, at - 1);
        url.length -= (size_t)(at - url.bytes);
        url.bytes = at;
        if (!lpi_split(&part, ':', &store->user)) return -1;
        store->password = part;
        if (!part.bytes) return -1;
    }
    if (!lpi_split(&url, '/', &part)) return -1;
    store->database = url;
    if (url.length && lpi_parse_uint(url, &number)) return -1;
    if (part.length && *part.bytes == '[') {
        at = (const char *)memchr(part.bytes, ']', part.length);
        if (!at) return -1;
        store->host = lpi_slice_to(part.bytes + 1, at);
        if (lpi_address_parse(store->host, store->address.bytes)) return -1;
        part = lpi_slice_to(at + 1, part.bytes + part.length);
        if (part.length && *part.bytes != ':') return -1;
        if (part.length) part = lpi_slice(part.bytes + 1, part.length - 1);
    } else {
        lpi_split(&part, ':', &store->host);
    }
    if (part.length && (lpi_parse_uint(part, &port) || !port || port > 65535))
        return -1;
    store->address.port = (uint16_t)port;
    return store->host.length ? 0 : -1;
}

/* Decode a part of a URL. The copy ends with a NUL, and lives as long as the
   server. */
static lp_result lpi_store_keep(lp_server *server, lp_slice *s)
{
    char *copy;
    long n;
    if (!s->length) return LP_OK;
    copy = lpi_arena_take(&server->strings, s->length + 1);
    if (!copy) return LP_ERR_NOMEM;
    n = lpi_percent_decode(copy, *s, 0);
    if (n < 0) return lpi_config_bad(server, "redis");
    copy[n] = 0;
    *s = lpi_slice(copy, (size_t)n);
    return LP_OK;
}

static lp_result lpi_store_init(lp_server *server, lpi_store *store,
                                lp_slice url)
{
    const lp_config *cfg = &server->config;
    lp_result result;
    uint64_t own;
    char *at;
    if (lpi_store_parse(store, url))
        return lpi_config_bad(server, "redis");
    result = lpi_store_keep(server, &store->host);
    if (result == LP_OK) result = lpi_store_keep(server, &store->path);
    if (result == LP_OK) result = lpi_store_keep(server, &store->user);
    if (result == LP_OK) result = lpi_store_keep(server, &store->password);
    if (result == LP_OK) result = lpi_store_keep(server, &store->database);
    if (result != LP_OK) return result;
    if (server->os.random(server->os.ctx, &own, sizeof own)) return LP_ERR_OS;
    at = LPI_PUT(lpi_put(store->own, lp_s(cfg->redis_prefix)), "@");
    *lpi_put_epoch(at, own) = 0;
    snprintf(store->layout, sizeof store->layout, "%u/%u %u %u",
             (unsigned)store->index, (unsigned)server->store_count,
             (unsigned)cfg->history_count,
             (unsigned)lpi_store_age(cfg->history_age_ms));
    return LP_OK;
}

/* Make the stores that the configuration names; they are connected once the
   loop runs. */
static lp_result lpi_stores_init(lp_server *server)
{
    const lp_config *cfg = &server->config;
    lp_slice rest = lp_s(cfg->redis), url;
    uint32_t count = lpi_config_list_length(cfg->redis);
    if (!count) return LP_OK;
    if (count > LPI_STORES_MAX || !server->os.connect || !server->os.connected)
        return lpi_config_bad(server, "redis");
    if (cfg->message_bytes_max > LPI_STORE_PENDING_BYTES - 65536)
        return lpi_config_bad(server, "message_bytes_max");
    if (strlen(cfg->redis_prefix) > 32)
        return lpi_config_bad(server, "redis_prefix");
    if (lpi_mutex_init(&server->store_mutex)) return LP_ERR_NOMEM;
    server->has_store_mutex = 1;
    server->stores = (lpi_store *)lpi_alloc_zero(
        &server->memory, count * sizeof *server->stores);
    if (!server->stores) return LP_ERR_NOMEM;
    server->store_count = count;
    for (count = 0; count < server->store_count; count++) {
        lpi_store *store = &server->stores[count];
        store->server = server;
        store->index = count;
        lpi_redis_blank(&store->commands, &server->memory);
        lpi_redis_blank(&store->events, &server->memory);
        lpi_text_init(&store->left, &server->memory);
    }
    if (lpi_hub_add_stores(&server->hub, server->store_count))
        return LP_ERR_NOMEM;
    for (count = 0; lpi_split(&rest, ',', &url); count++) {
        lp_result result = lpi_store_init(server, &server->stores[count],
                                          lpi_trim(url));
        if (result != LP_OK) return result;
    }
    return LP_OK;
}

/* Nothing can be published any more; what is under way is told so. More calls
   change nothing. */
static void lpi_stores_end(lp_server *server)
{
    uint32_t k;
    if (!server->stores || server->stores_ended) return;
    lpi_lock(&server->store_mutex);
    server->stores_ended = 1;
    lpi_unlock(&server->store_mutex);
    for (k = 0; k < server->store_count; k++) {
        lpi_store *store = &server->stores[k];
        lpi_task *calls = lpi_store_take_calls(store);
        while (calls) {
            lpi_task *task = calls;
            calls = task->next;
            lpi_store_tell(store, task, LP_ERR_AWAY);
        }
        lpi_store_forget_asks(store);
        lpi_redis_close(store, &store->commands);
        lpi_redis_close(store, &store->events);
        lpi_store_drop_lookup(store);
        lpi_text_free(&store->left);
        if (server->hub.stores) lpi_hub_store_down(&server->hub, k, 0);
        store->state = LPI_STORE_DOWN;
        store->deadline_ms = UINT64_MAX;
    }
}

static void lpi_stores_free(lp_server *server)
{
    if (server->has_store_mutex) lpi_mutex_free(&server->store_mutex);
    lpi_free(&server->memory, server->stores,
             server->store_count * sizeof *server->stores);
}

#else /* LONGPOLL_NO_REDIS: there are no stores */

static void lpi_stores_event(lpi_loop *loop, const lp_event *event)
{
    (void)loop, (void)event;
}

static void lpi_stores_step(lpi_loop *loop) { (void)loop; }

static void lpi_stores_due(const lpi_loop *loop, uint64_t *wait)
{
    (void)loop, (void)wait;
}

static int lpi_stores_are_busy(lp_server *server)
{
    (void)server;
    return 0;
}

static lp_result lpi_stores_publish(lp_server *server, const lpi_call *who)
{
    (void)server, (void)who;
    return LP_ERR_CONFIG;
}

static lp_result lpi_stores_init(lp_server *server)
{
    return server->config.redis ? lpi_config_bad(server, "redis") : LP_OK;
}

static void lpi_stores_end(lp_server *server) { (void)server; }
static void lpi_stores_free(lp_server *server) { (void)server; }

#endif /* LONGPOLL_NO_REDIS */

/* ==========================================================================
   G   LOOP                                                            >>loop

   One step: wait, serve what is ready, expire what is due, deliver, sweep, and
   give back what was closed. Only the first loop accepts, sweeps and keeps the
   stores; once it has stopped accepting, all loops drain, and the last to end
   stops the hub.

   Uses      all above
   Touches   its own loop; the listener and what the server's atomic flags say.
   Promises  an idle server sleeps until its next deadline.
   ========================================================================== */

enum { LPI_WAIT_MAX = 1 << 30, LPI_EXPIRIES = 256 };

/* Make *wait no longer than the time from `now` to `when`. */
static void lpi_loop_earlier(uint64_t *wait, uint64_t when, uint64_t now)
{
    uint64_t in = when > now ? when - now : 0;
    if (in < *wait) *wait = in;
}

enum { LPI_DRAIN_WRITE_MS = 30000, LPI_DRAIN_TOLD_MS = 1000 };

/* When a drain ends: parked polls have drain_ms, then slow readers write_ms
   more, but LPI_DRAIN_WRITE_MS at most, even if write_ms is LP_OFF. A loop that
   waits for the outcome of what was published has LPI_DRAIN_TOLD_MS more, since
   the first loop tells the last ones when its own drain ends. */
static uint64_t lpi_loop_drain_end(const lpi_loop *loop)
{
    uint32_t more_ms = loop->server->config.write_ms;
    if (loop->now_ms < loop->drain_ms) return loop->drain_ms;
    if (more_ms > LPI_DRAIN_WRITE_MS) more_ms = LPI_DRAIN_WRITE_MS;
    if (loop->index && loop->phases[LPI_PUBLISHING])
        more_ms += LPI_DRAIN_TOLD_MS;
    return loop->drain_ms + more_ms;
}

/* Is nobody left but idle connections, or is the time up? */
static int lpi_loop_drained(const lpi_loop *loop)
{
    const uint32_t *n = loop->phases;
    uint32_t waiting = n[LPI_PARKED] + n[LPI_PUBLISHING] + n[LPI_DEFERRED] +
                       n[LPI_WRITING] + n[LPI_LINGERING];
    uint32_t coming = n[LPI_ACCEPTED] + n[LPI_READING_HEAD] +
                      n[LPI_READING_BODY] + n[LPI_QUEUED];
    if (!loop->index && lpi_stores_are_busy(loop->server)) waiting++;
    if (!waiting && !coming) return 1;
    if (loop->now_ms < loop->drain_ms) return 0;
    return !waiting || loop->now_ms >= lpi_loop_drain_end(loop);
}

/* Milliseconds until something is due; LPI_WAIT_MAX at most, since the wheel's
   times wrap at 2^32 ms, and it turns only when the loop does. */
static uint64_t lpi_loop_due(const lpi_loop *loop)
{
    const lp_server *server = loop->server;
    uint64_t wait = LPI_WAIT_MAX, now = loop->now_ms;
    uint32_t turn = lpi_wheel_wait(&loop->wheel);
    if (turn != UINT32_MAX) /* `turn` counts from wheel.now */
        lpi_loop_earlier(&wait, turn, (uint32_t)now - loop->wheel.now);
    if (loop->sweep_ms != UINT64_MAX)
        lpi_loop_earlier(&wait, loop->sweep_ms, now);
    if (!loop->index && server->accept_resume_ms)
        lpi_loop_earlier(&wait, server->accept_resume_ms, now);
    if (!loop->index) lpi_stores_due(loop, &wait);
    if (loop->drain_ms)
        lpi_loop_earlier(
            &wait, lpi_loop_drained(loop) ? 0 : lpi_loop_drain_end(loop), now);
    if (loop->queue.head != LPI_NONE) return 0;
    return wait;
}

/* The time that poller_wait is given, if something is due in due_ms and the
   caller of the step waits for wait_ms at most. */
static uint64_t lpi_loop_until(const lpi_loop *loop, uint64_t due_ms,
                               int wait_ms)
{
    uint64_t due_us = (loop->now_ms + due_ms) * 1000;
    uint64_t callers_us = loop->now_us + (uint64_t)wait_ms * 1000;
    if (!due_ms || !wait_ms) return 0;
    return wait_ms < 0 || due_us < callers_us ? due_us : callers_us;
}

static int lpi_loop_sleep(lpi_loop *loop)
{
    return lpi_hub_sleep(&loop->server->hub, loop->index, &loop->counts,
                         &loop->sweep_ms);
}

/* Before a connection is opened or turned away, what has arrived is served:
   who is turned away is read into the loop's buffer too. */
static void lpi_loop_event(lpi_loop *loop, const lp_event *event)
{
    if (event->tag == LPI_TAG_WAKE) {
        lpi_read_serve_arrivals(loop);
        loop->os->wake_clear(loop->os->ctx, loop->wake[0]);
        lpi_loop_do_tasks(loop, LPI_ACCEPTS);
    } else if (event->tag == LPI_TAG_LISTENER) {
        lpi_read_serve_arrivals(loop);
        lpi_accept(loop);
    } else if (event->tag <= LPI_TAG_STORES && event->tag >= LPI_TAG_LOWEST) {
        lpi_stores_event(loop, event);
    } else {
        uint32_t index = lpi_tag_connection(loop, event->tag);
        if (index == LPI_NONE) return;
        if (event->what & LP_WRITE) lpi_write_ready(loop, index);
        if (event->what & LP_READ) lpi_read_ready(loop, index);
        if (event->what & LP_HANGUP) lpi_read_hangup(loop, index);
    }
}

/* Serve the deadlines that have passed. 1 if some may be left for the next
   step. */
static int lpi_loop_expire(lpi_loop *loop)
{
    int left = LPI_EXPIRIES;
    while (left--) {
        uint32_t index = lpi_wheel_pop(&loop->wheel, (uint32_t)loop->now_ms);
        if (index == LPI_NONE) return 0;
        lpi_connection_expire(loop, index);
    }
    return 1;
}

/* Tell lp_watch of the channels that are occupied or vacated. */
static void lpi_loop_tell(lpi_loop *loop)
{
    const lp_watch *watch = &loop->server->config.watch;
    lp_channel_event event;
    char name[LPI_CHANNEL_BYTES];
    size_t length;
    int left = LPI_SWEEP_MAX;
    if (!watch->channel) return;
    while (left-- && lpi_hub_take_event(&loop->server->hub, loop->now_ms,
                                        &event, name, &length)) {
        watch->channel(watch->ctx, event, lpi_slice(name, length));
        lpi_loop_now(loop);
    }
}

/* On the first loop: tell lp_after_publish of what was published. What it
   publishes itself is told in the next turn. */
static void lpi_loop_tell_published(lpi_loop *loop)
{
    const lp_after_publish *hook = &loop->server->config.after_publish;
    lpi_message *m, *next;
    if (!hook->tell) return;
    for (m = lpi_hub_take_untold(&loop->server->hub); m; m = next) {
        char name[LPI_CHANNEL_BYTES];
        lp_message message;
        next = m->next_untold;
        message.channel = lpi_message_channel(m, name);
        message.id = lpi_message_id(m);
        message.json = lpi_message_text(m);
        message.timestamp_us = m->timestamp_us;
        hook->tell(hook->ctx, &message);
        lpi_message_unref(&loop->server->memory, m);
    }
    lpi_loop_now(loop);
}

/* On the first loop, if a sweep is due: report events, log refusals, sweep. */
static void lpi_loop_sweep(lpi_loop *loop)
{
    if (loop->now_ms < loop->sweep_ms) return;
    lpi_loop_tell(loop);
    lpi_tell_refusals(loop);
    lpi_hub_sweep(&loop->server->hub, loop->now_ms);
}

/* Begin to drain. The waits of the parked polls end spread over drain_ms, those
   of deferred requests at its end. */
static void lpi_loop_drain_begin(lpi_loop *loop)
{
    uint32_t drain_ms = loop->server->config.drain_ms, index = 0;
    lpi_connection *c;
    if (!loop->index) lpi_accept_stop(loop);
    lpi_loop_do_tasks(loop, UINT32_MAX);
    loop->drain_ms = loop->now_ms + drain_ms;
    for (; (c = lpi_loop_each(loop, &index)); index++) {
        uint32_t place = index * 2654435761u; /* anywhere in the drain */
        uint32_t when = (uint32_t)loop->now_ms +
                        (uint32_t)((uint64_t)place * drain_ms >> 32);
        if (c->phase == LPI_DEFERRED) lpi_later_limit(loop, index);
        if (c->phase != LPI_PARKED) continue;
        if ((int32_t)(when - c->timer.deadline) >= 0) continue;
        c->flags &= (uint8_t)~LPI_TOKEN_ENDS;
        lpi_wheel_arm(&loop->wheel, index, when);
    }
}

static void lpi_loop_end(lpi_loop *loop)
{
    lp_server *server = loop->server;
    int last;
    if (!loop->index) {
        lpi_stores_end(server);
        lpi_loop_do_tasks(loop, UINT32_MAX);
    }
    lpi_close_all(loop);
    loop->ended = 1;
    last = !lpi_atomic_sub(&server->serving, 1);
    lpi_hub_loop_ended(&server->hub, loop->index, &loop->counts, last);
    if (last) lpi_log(server, LP_LOG_INFO, "stopped", "");
}

/* Begin the drain; and end once it is over, and nothing came in this step: an
   idle connection may have sent its next request already. */
static void lpi_loop_drain(lpi_loop *loop, int quiet)
{
    lp_server *server = loop->server;
    if (!loop->drain_ms) {
        if (lpi_atomic_get(loop->index ? &server->draining : &server->stopping))
            lpi_loop_drain_begin(loop);
        return;
    }
    if (!lpi_loop_drained(loop)) return;
    if (!quiet && loop->now_ms < lpi_loop_drain_end(loop)) return;
    lpi_loop_end(loop);
}

static lp_result lpi_loop_step(lpi_loop *loop, int wait_ms)
{
    lp_event events[LPI_EVENTS];
    const lp_os *os = loop->os;
    uint64_t due;
    int i, n, late;
    if (loop->ended) return LP_ERR_STOPPED;
    lpi_loop_now(loop);
    due = lpi_loop_sleep(loop) ? 0 : lpi_loop_due(loop);
    n = os->poller_wait(os->ctx, &loop->poller, events, LPI_EVENTS,
                        lpi_loop_until(loop, due, wait_ms));
    lpi_hub_wake(&loop->server->hub, loop->index);
    if (n < 0) return LP_ERR_OS;
    lpi_loop_now(loop); /* deadlines that events set count from here */
    if (lpi_wheel_wait(&loop->wheel) == UINT32_MAX) /* empty: jump to now */
        loop->wheel.now = (uint32_t)loop->now_ms;
    for (i = 0; i < n; i++) lpi_loop_event(loop, &events[i]);
    lpi_read_serve_arrivals(loop);
    lpi_queue_serve(loop);
    lpi_loop_now(loop);
    late = lpi_loop_expire(loop);
    if (!loop->index) lpi_stores_step(loop);
    /* A deadline that is left may be the end of a token. */
    if (!LPI_SIGNED(late && loop->server->config.token_secret))
        lpi_deliver(loop);
    if (!loop->index) lpi_loop_tell_published(loop);
    lpi_loop_sweep(loop);
    if (!loop->index && loop->server->accept_resume_ms &&
        loop->now_ms >= loop->server->accept_resume_ms)
        lpi_accept_resume(loop);
    lpi_loop_drain(loop, !n);
    lpi_close_reap(loop);
    return loop->ended ? LP_ERR_STOPPED : LP_OK;
}

/* Something has failed: make all loops of lp_run return. */
static void lpi_loops_break(lp_server *server)
{
    uint32_t i;
    lpi_atomic_set(&server->broken, 1);
    for (i = 0; i < server->loop_count; i++)
        server->os.wake_signal(server->os.ctx, server->loops[i].wake[1]);
}

/* Step until the end, or until any loop fails. */
static void lpi_loop_run(lpi_loop *loop)
{
    lp_server *server = loop->server;
    do loop->result = lpi_loop_step(loop, -1);
    while (loop->result == LP_OK && !lpi_atomic_get(&server->broken));
    if (loop->result != LP_OK && loop->result != LP_ERR_STOPPED)
        lpi_loops_break(server);
}

static void *lpi_loop_thread(void *loop)
{
    lpi_loop_run((lpi_loop *)loop);
    return NULL;
}

/* Run all loops, the first on this thread, until they have ended. */
static lp_result lpi_loops_run(lp_server *server)
{
    lpi_loop *loops = server->loops;
    lp_result result;
    uint32_t i = 1;
    server->started = 1;
    lpi_atomic_set(&server->broken, 0);
    while (i < server->loop_count &&
           !lpi_thread_start(&loops[i].thread, lpi_loop_thread, &loops[i]))
        i++;
    if (i < server->loop_count) {
        lpi_log(server, LP_LOG_ERROR, "cannot start a thread", "");
        lpi_loops_break(server);
    }
    lpi_loop_run(loops);
    result = loops->result;
    while (--i) {
        lpi_thread_join(loops[i].thread);
        if (loops[i].result != LP_ERR_STOPPED) result = loops[i].result;
    }
    if (lpi_atomic_get(&server->broken)) return LP_ERR_OS;
    return result == LP_ERR_STOPPED ? LP_OK : result;
}

/* The part of the setup that cannot fail; lpi_loop_free() may follow it. */
static void lpi_loop_blank(lpi_loop *loop, lp_server *server, uint32_t index)
{
    memset(loop, 0, sizeof *loop);
    loop->server = server;
    loop->os = &server->os;
    loop->index = index;
    loop->poller.fd = loop->wake[0] = loop->wake[1] = -1;
    loop->sweep_ms = UINT64_MAX;
    lpi_list_init(&loop->closed);
    lpi_list_init(&loop->queue);
}

/* 0 or -errno, with nothing open. */
static int lpi_loop_open_wake(lpi_loop *loop)
{
    const lp_os *os = loop->os;
    int fds[2], error = os->wake_open(os->ctx, fds);
    if (error) return error;
    error = os->poller_set(os->ctx, &loop->poller, fds[0], LPI_TAG_WAKE, 0,
                           LP_READ);
    if (!error) {
        memcpy(loop->wake, fds, sizeof fds);
        return 0;
    }
    os->close(os->ctx, fds[0]);
    os->close(os->ctx, fds[1]);
    return error;
}

static int lpi_loop_init(lpi_loop *loop, lp_server *server)
{
    const lp_memory *memory = &server->memory;
    const lp_os *os = &server->os;
    int error;
    lpi_loop_now(loop);
    lpi_slab_init(&loop->connections, memory, sizeof(lpi_connection));
    lpi_links_init(&loop->links, &loop->connections,
                   offsetof(lpi_connection, timer.link));
    lpi_wheel_init(&loop->wheel, &loop->connections,
                   offsetof(lpi_connection, timer), (uint32_t)loop->now_ms);
    lp_json_init(&loop->json, memory);
    loop->arena.memory = memory;
    lpi_text_init(&loop->extra, memory);
    lpi_text_init(&loop->head, memory);
    lpi_text_init(&loop->batch.names, memory);
    loop->batch.message_capacity = server->config.reply_messages_max + 1024;
    loop->batch.messages = (lpi_message **)lpi_alloc(
        memory, loop->batch.message_capacity * sizeof(lpi_message *));
    loop->batch.message_channels =
        (uint8_t *)lpi_alloc(memory, loop->batch.message_capacity);
    loop->in = (char *)lpi_alloc(memory, LPI_IN_SIZE);
    if (!loop->in || !loop->batch.messages || !loop->batch.message_channels)
        return -ENOMEM;
    if (lpi_mutex_init(&loop->mutex)) return -ENOMEM;
    loop->has_mutex = 1;
    error = os->poller_open(os->ctx, &loop->poller);
    if (error) return error;
    error = lpi_loop_open_wake(loop);
    if (!error)
        lpi_hub_join(&server->hub, loop->index, &loop->connections,
                     offsetof(lpi_connection, wait), loop->wake[1]);
    return error;
}

/* Close the connections and tell the outcomes that other threads have left. */
static void lpi_loop_free_tasks(lpi_loop *loop)
{
    const lp_os *os = loop->os;
    lpi_task *task;
    while (loop->tasks || (loop->tasks = lpi_inbox_take(loop))) {
        task = loop->tasks;
        loop->tasks = task->next;
        if (task->kind == LPI_TASK_OPEN) {
            lpi_handover *handover = &task->of.handover;
            os->shutdown(os->ctx, handover->fd, LP_READ | LP_WRITE);
            os->close(os->ctx, handover->fd);
            lpi_accept_undo(loop->server, handover);
        } else if (task->kind == LPI_TASK_TELL) {
            lpi_loop_tell_outcome(&task->of.outcome);
        } else if (task->kind == LPI_TASK_ANSWER) {
            lpi_later_answer(loop, &task->of.answer);
        } else if (task->of.call.outcome.fn) {
            lpi_loop_tell_outcome(&task->of.call.outcome);
        }
        lpi_free(&loop->server->memory, task, sizeof *task);
    }
}

static void lpi_loop_free(lpi_loop *loop)
{
    const lp_memory *memory = &loop->server->memory;
    const lp_os *os = loop->os;
    lpi_close_all(loop);
    if (loop->has_mutex) {
        lpi_loop_free_tasks(loop);
        lpi_mutex_free(&loop->mutex);
    }
    if (loop->wake[0] >= 0) {
        os->poller_set(os->ctx, &loop->poller, loop->wake[0], LPI_TAG_WAKE,
                       LP_READ, 0);
        os->close(os->ctx, loop->wake[0]);
        os->close(os->ctx, loop->wake[1]);
    }
    if (loop->poller.fd >= 0) os->poller_close(os->ctx, &loop->poller);
    while (loop->spare) {
        lpi_request_buffer *buffer = loop->spare;
        loop->spare = buffer->next;
        lpi_request_buffer_free(loop, buffer);
    }
    lpi_free(memory, loop->in, LPI_IN_SIZE);
    lpi_free(memory, loop->batch.messages,
             loop->batch.message_capacity * sizeof(lpi_message *));
    lpi_free(memory, loop->batch.message_channels,
             loop->batch.message_capacity);
    lpi_free(memory, loop->laters, loop->later_capacity * sizeof(lpi_later *));
    lpi_free(memory, loop->streams,
             loop->stream_capacity * sizeof(lpi_stream *));
    lpi_free(memory, loop->readers,
             loop->reader_capacity * sizeof(lpi_reader *));
    lpi_free(memory, loop->accesses,
             loop->access_capacity * sizeof(lpi_access *));
    lpi_text_free(&loop->batch.names);
    lpi_text_free(&loop->extra);
    lpi_text_free(&loop->head);
    lpi_arena_clear(&loop->arena, 0);
    lp_json_free(&loop->json);
    lpi_slab_free(&loop->connections);
}

/* ==========================================================================
   H   PUBLIC                                                        >>public

   The public functions, but for those of >>json, and what only they use: the
   table of configuration fields, and the making of a server and its routes.

   Uses      all above
   Promises  A thread that is cancelled during a call completes the call first.
   ========================================================================== */

LPDEF const char *lp_strerror(lp_result result)
{
    switch (result) {
    case LP_OK: return "OK";
    case LP_ERR_ARG: return "Bad argument";
    case LP_ERR_CONFIG: return "Bad configuration";
    case LP_ERR_NOMEM: return "Out of memory";
    case LP_ERR_JSON: return "Not a JSON object";
    case LP_ERR_TOO_LARGE: return "Message too large";
    case LP_ERR_FULL: return "Too many channels";
    case LP_ERR_STOPPED: return "Server stopped";
    case LP_ERR_IN_USE: return "Address already in use";
    case LP_ERR_DENIED: return "Permission denied";
    case LP_ERR_OS: return "System call failed";
    case LP_PENDING: return "Outcome not known yet";
    case LP_ERR_AWAY: return "Redis not available";
    case LP_ERR_UNKNOWN: return "Outcome unknown";
    case LP_ERR_NOT_FOUND: return "Not found";
    case LP_ERR_GONE: return "Nobody waits for the answer";
    case LP_ERR_TYPE: return "Value of another type, or out of range";
    case LP_ERR_REFUSED: return "No such channel allowed";
    }
    return "Unknown result";
}

/* --- configuration: one table gives the fields' names, defaults and limits */

typedef enum lpi_option_kind {
    LPI_O_16, LPI_O_32, LPI_O_64, LPI_O_TEXT
} lpi_option_kind;

enum {
    LPI_O_UNLIMITED = 1, /* the field may be LP_UNLIMITED                    */
    LPI_O_NEVER = 2,     /* it may be LP_OFF: the deadline never comes       */
    LPI_O_ZERO = 4,      /* it may be LP_OFF: the time is zero               */
    LPI_O_FILLED = 8,    /* it may not be an empty text                      */
    LPI_O_OFF = 16       /* it may be LP_OFF, and stays so                   */
};

typedef struct lpi_option {
    const char *name;
    size_t offset;
    lpi_option_kind kind;
    int flags;
    uint64_t initial, min, max;
    const char *text;
} lpi_option;

#define LPI_O(field) #field, offsetof(lp_config, field)
#define LPI_NUMBER_MAX 1000000000u

static const lpi_option lpi_options_known[] = {
    {LPI_O(host), LPI_O_TEXT, 0, 0, 0, 0, "127.0.0.1"},
    {LPI_O(port), LPI_O_16, 0, 0, 0, 65535, NULL},
    {LPI_O(backlog), LPI_O_32, 0, 4096, 1, INT32_MAX, NULL},
    {LPI_O(prefix), LPI_O_TEXT, 0, 0, 0, 0, "/api"},
    {LPI_O(loops), LPI_O_32, 0, 1, 1, LPI_LOOPS_MAX, NULL},
    {LPI_O(timeout_ms), LPI_O_32, 0, 30000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(timeout_ms_max), LPI_O_32, 0, 60000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(stream_beat_ms), LPI_O_32, 0, 15000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(reply_messages), LPI_O_32, 0, 100, 1, 65535, NULL},
    {LPI_O(reply_messages_max), LPI_O_32, 0, 1000, 1, 65535, NULL},
    {LPI_O(reply_bytes_max), LPI_O_32, 0, 1 << 20, 1, 1 << 30, NULL},
    {LPI_O(history_count), LPI_O_32, 0, 1000, 1, 1 << 24, NULL},
    {LPI_O(history_age_ms), LPI_O_32, LPI_O_UNLIMITED, 300000, 1,
     LPI_NUMBER_MAX, NULL},
    {LPI_O(transient_ms), LPI_O_32, 0, 2000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(history_bytes), LPI_O_64, LPI_O_UNLIMITED, 64 << 20, 1,
     UINT64_C(1) << 50, NULL},
    {LPI_O(message_bytes_max), LPI_O_32, 0, 65536, 2, 1 << 28, NULL},
    {LPI_O(waiters_max), LPI_O_32, LPI_O_UNLIMITED, 100000, 1, LPI_NUMBER_MAX,
     NULL},
    {LPI_O(waiters_per_client), LPI_O_32, LPI_O_UNLIMITED, 6, 1, LPI_NUMBER_MAX,
     NULL},
    {LPI_O(waiters_per_channel), LPI_O_32, LPI_O_UNLIMITED, 10000, 1,
     LPI_NUMBER_MAX, NULL},
    {LPI_O(waiters_per_address), LPI_O_32, LPI_O_UNLIMITED, 1024, 1,
     LPI_NUMBER_MAX, NULL},
    {LPI_O(channels_max), LPI_O_32, LPI_O_UNLIMITED, 100000, 1, LPI_NUMBER_MAX,
     NULL},
    {LPI_O(connections_max), LPI_O_32, LPI_O_UNLIMITED, 120000, 1,
     LPI_NUMBER_MAX, NULL},
    {LPI_O(connections_per_address), LPI_O_32, LPI_O_UNLIMITED, 2048, 1,
     LPI_NUMBER_MAX, NULL},
    {LPI_O(partial_bytes_max), LPI_O_32, LPI_O_UNLIMITED, 64 << 20, 65536,
     LPI_NUMBER_MAX * 2, NULL},
    {LPI_O(head_bytes_max), LPI_O_32, 0, 16384, 64, 65535, NULL},
    {LPI_O(body_bytes_max), LPI_O_32, 0, 65536, 1, 1 << 28, NULL},
    {LPI_O(file_bytes_max), LPI_O_32, 0, 8 << 20, 1, INT32_MAX, NULL},
    {LPI_O(head_ms), LPI_O_32, LPI_O_NEVER, 10000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(body_ms), LPI_O_32, LPI_O_NEVER, 30000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(idle_ms), LPI_O_32, LPI_O_NEVER, 75000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(write_ms), LPI_O_32, LPI_O_NEVER, 30000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(linger_ms), LPI_O_32, LPI_O_ZERO, 2000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(later_ms), LPI_O_32, LPI_O_NEVER, 30000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(drain_ms), LPI_O_32, LPI_O_ZERO, 2000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(channel_linger_ms), LPI_O_32, LPI_O_ZERO, 5000, 1, LPI_NUMBER_MAX,
     NULL},
    {LPI_O(track_receipts), LPI_O_32, 0, 0, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(poll_token), LPI_O_TEXT, LPI_O_FILLED, 0, 0, 0, NULL},
    {LPI_O(publish_token), LPI_O_TEXT, LPI_O_FILLED, 0, 0, 0, NULL},
    {LPI_O(admin_token), LPI_O_TEXT, LPI_O_FILLED, 0, 0, 0, NULL},
    {LPI_O(token_secret), LPI_O_TEXT, LPI_O_FILLED, 0, 0, 0, NULL},
    {LPI_O(publish), LPI_O_TEXT, LPI_O_FILLED, 0, 0, 0, "anyone"},
    {LPI_O(monitor), LPI_O_32, LPI_O_OFF, 0, 1, 1, NULL},
    {LPI_O(cors), LPI_O_TEXT, 0, 0, 0, 0, NULL},
    {LPI_O(cors_max_age_s), LPI_O_32, 0, 600, 1, 86400, NULL},
    {LPI_O(hosts), LPI_O_TEXT, 0, 0, 0, 0, NULL},
    {LPI_O(trusted_proxies), LPI_O_TEXT, 0, 0, 0, 0, NULL},
    {LPI_O(redis), LPI_O_TEXT, 0, 0, 0, 0, NULL},
    {LPI_O(redis_prefix), LPI_O_TEXT, 0, 0, 0, 0, "lp1"},
    {LPI_O(redis_timeout_ms), LPI_O_32, 0, 5000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(redis_keep_ms), LPI_O_32, LPI_O_UNLIMITED, 3600000, 1,
     LPI_NUMBER_MAX, NULL},
    {LPI_O(redis_empty_ms), LPI_O_32, 0, 300000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(redis_retry_ms), LPI_O_32, 0, 300000, 1, LPI_NUMBER_MAX, NULL},
    {LPI_O(redis_pending_max), LPI_O_32, 0, 10000, 1, 1000000, NULL}};

static uint64_t lpi_option_get(const lp_config *config, const lpi_option *o)
{
    const char *at = (const char *)config + o->offset;
    uint16_t v16;
    uint32_t v32;
    uint64_t v64;
    switch (o->kind) {
    case LPI_O_16: memcpy(&v16, at, sizeof v16); return v16;
    case LPI_O_32: memcpy(&v32, at, sizeof v32); return v32;
    default: memcpy(&v64, at, sizeof v64); return v64;
    }
}

static void lpi_option_put(lp_config *config, const lpi_option *o,
                           uint64_t value)
{
    char *at = (char *)config + o->offset;
    uint16_t v16 = (uint16_t)value;
    uint32_t v32 = (uint32_t)value;
    switch (o->kind) {
    case LPI_O_16: memcpy(at, &v16, sizeof v16); break;
    case LPI_O_32: memcpy(at, &v32, sizeof v32); break;
    default: memcpy(at, &value, sizeof value); break;
    }
}

/* May the field have this value? Zero stands for the default. */
static int lpi_option_good(const lpi_option *o, uint64_t value)
{
    if (!value) return 1;
    if (o->kind != LPI_O_16 && value == LP_UNLIMITED &&
        o->flags & LPI_O_UNLIMITED)
        return 1;
    if (o->kind != LPI_O_16 && value == LP_OFF)
        return (o->flags & (LPI_O_NEVER | LPI_O_ZERO | LPI_O_OFF)) != 0;
    return value >= o->min && value <= o->max;
}

static int lpi_option_named(const lpi_option *o, const char *name)
{
    const char *known = o->name;
    for (; *known && *name; known++, name++)
        if (*known != *name && !(*known == '_' && *name == '-')) return 0;
    return !*known && !*name;
}

static int lpi_parse_option(const char *text, uint64_t *out)
{
    lp_slice s = lp_s(text);
    int shift = 0;
    char unit = s.length ? lpi_lower(s.bytes[s.length - 1]) : 0;
    if (lpi_equal(s, LPI_S("off"))) *out = LP_OFF;
    else if (lpi_equal(s, LPI_S("unlimited"))) *out = LP_UNLIMITED;
    else {
        if (unit == 'k') shift = 10;
        if (unit == 'm') shift = 20;
        if (shift) s.length--;
        if (lpi_parse_uint(s, out) || *out > UINT64_MAX >> shift) return -1;
        *out <<= shift;
        if (*out == LP_OFF || *out == LP_UNLIMITED) return -1;
    }
    return 0;
}

LPDEF lp_result lp_config_set(lp_config *config, const char *name,
                              const char *value)
{
    uint64_t number;
    size_t i;
    if (!config || !name || !value) return LP_ERR_ARG;
    for (i = 0; i < LPI_COUNT(lpi_options_known); i++) {
        const lpi_option *o = &lpi_options_known[i];
        if (!lpi_option_named(o, name)) continue;
        if (o->kind == LPI_O_TEXT) {
            memcpy((char *)config + o->offset, &value, sizeof value);
            return LP_OK;
        }
        if (lpi_parse_option(value, &number) || !lpi_option_good(o, number))
            return LP_ERR_ARG;
        lpi_option_put(config, o, number);
        return LP_OK;
    }
    return LP_ERR_ARG;
}

/* --- life cycle */

static lp_result lpi_config_resolve_text(lp_server *server, const lpi_option *o)
{
    char *at = (char *)&server->config + o->offset, *copy;
    const char *text;
    size_t size;
    memcpy(&text, at, sizeof text);
    if (text && !*text && o->flags & LPI_O_FILLED)
        return lpi_config_bad(server, o->name);
    if (!text || !*text) text = o->text;
    if (text) {
        size = strlen(text) + 1;
        copy = lpi_arena_take(&server->strings, size);
        if (!copy) return LP_ERR_NOMEM;
        memcpy(copy, text, size);
        text = copy;
    }
    memcpy(at, &text, sizeof text);
    return LP_OK;
}

/* Does cfg->publish say that nobody may publish over HTTP? */
static int lpi_config_publish_off(const lp_config *cfg)
{
    return lpi_equal(lp_s(cfg->publish), LPI_S("off"));
}

static lp_result lpi_config_check_publish(lp_server *server)
{
    const lp_config *cfg = &server->config;
    lp_slice who = lp_s(cfg->publish);
    int has_token = cfg->publish_token || cfg->token_secret;
    if (lpi_equal(who, LPI_S("anyone")) || lpi_config_publish_off(cfg) ||
        (lpi_equal(who, LPI_S("token")) && has_token))
        return LP_OK;
    return lpi_config_bad(server, "publish");
}

/* Check the fields, give those that are zero their defaults, and copy the
   strings. */
static lp_result lpi_config_resolve(lp_server *server)
{
    lp_config *cfg = &server->config;
    int own_reply_messages = cfg->reply_messages != 0;
    size_t i;
    if (cfg->track_receipts && !LPI_ADMINISTERED)
        return lpi_config_bad(server, "track_receipts");
    if (cfg->access_log.write && !LPI_MONITORED(1))
        return lpi_config_bad(server, "access_log"); /* it was left out */
    for (i = 0; i < LPI_COUNT(lpi_options_known); i++) {
        const lpi_option *o = &lpi_options_known[i];
        uint64_t value;
        if (o->kind == LPI_O_TEXT) {
            lp_result result = lpi_config_resolve_text(server, o);
            if (result != LP_OK) return result;
            continue;
        }
        value = lpi_option_get(cfg, o);
        if (!lpi_option_good(o, value)) return lpi_config_bad(server, o->name);
        if (!value) lpi_option_put(cfg, o, o->initial);
        if (value == LP_OFF && o->flags & LPI_O_NEVER)
            lpi_option_put(cfg, o, LPI_NEVER);
        if (value == LP_OFF && o->flags & LPI_O_ZERO)
            lpi_option_put(cfg, o, 0);
    }
    if (cfg->token_secret) {
        lp_slice secret = lp_s(cfg->token_secret);
        if (!LPI_SIGNED(secret.length >= LPI_TOKEN_SECRET))
            return lpi_config_bad(server, "token_secret");
        lpi_hmac_init(&server->token_key, secret);
    }
    if (cfg->redis_keep_ms < cfg->history_age_ms)
        cfg->redis_keep_ms = cfg->history_age_ms;
    if (cfg->reply_messages <= cfg->reply_messages_max) return LP_OK;
    if (own_reply_messages) return lpi_config_bad(server, "reply_messages");
    cfg->reply_messages = cfg->reply_messages_max;
    return LP_OK;
}

/* Split a list at its commas. The slices are allocated with the strings. */
static lp_result lpi_config_resolve_list(lp_server *server, const char *field,
                                         const char *list, lp_slice **out,
                                         uint32_t *count)
{
    lp_slice rest = lp_s(list), part;
    uint32_t n = lpi_config_list_length(list);
    if (!n) return LP_OK;
    *out = (lp_slice *)(void *)lpi_arena_take(&server->strings,
                                              (n + 1) * sizeof **out);
    if (!*out) return LP_ERR_NOMEM;
    while (lpi_split(&rest, ',', &part)) {
        part = lpi_trim(part);
        if (part.length) (*out)[(*count)++] = part;
    }
    return *count ? LP_OK : lpi_config_bad(server, field);
}

static lp_result lpi_config_resolve_proxies(lp_server *server)
{
    lp_slice rest = lp_s(server->config.trusted_proxies), part;
    uint32_t n = lpi_config_list_length(server->config.trusted_proxies);
    if (!n) return LP_OK;
    server->proxies = (lpi_network *)(void *)lpi_arena_take(
        &server->strings, n * sizeof *server->proxies);
    if (!server->proxies) return LP_ERR_NOMEM;
    while (lpi_split(&rest, ',', &part)) {
        part = lpi_trim(part);
        if (lpi_address_parse_network(part,
                                      &server->proxies[server->proxy_count++]))
            return lpi_config_bad(server, "trusted_proxies");
    }
    return LP_OK;
}

static lp_result lpi_config_resolve_lists(lp_server *server)
{
    const lp_config *cfg = &server->config;
    lp_result result = lpi_config_resolve_proxies(server);
    uint32_t i;
    if (result == LP_OK)
        result = lpi_config_resolve_list(server, "hosts", cfg->hosts,
                                         &server->hosts, &server->host_count);
    if (result == LP_OK)
        result = lpi_config_resolve_list(
            server, "cors", cfg->cors, &server->origins, &server->origin_count);
    if (result != LP_OK) return result;
    if (server->origin_count > 255) return lpi_config_bad(server, "cors");
    for (i = 0; i < server->origin_count; i++) {
        lp_slice origin = server->origins[i];
        size_t k;
        for (k = 0; k < origin.length; k++)
            if (origin.bytes[k] <= 0x20 || origin.bytes[k] > 0x7e)
                return lpi_config_bad(server, "cors");
        if (lpi_equal(origin, LPI_S("*"))) server->any_origin = 1;
    }
    return LP_OK;
}

/* The library's own routes, behind the prefix but where it says otherwise.
   Those of an administrator are not there without a token for them. */
static const struct {
    lpi_route_kind kind;
    lpi_method method;
    const char *path;
} lpi_routes_own[] = {
    {LPI_POLLS, LPI_GET, "/poll/{channels}"},
#ifndef LONGPOLL_NO_STREAM
    {LPI_STREAMS, LPI_GET, "/stream/{channels}"},
#endif
    {LPI_PUBLISHES, LPI_POST, "/publish/{channel}"},
#ifndef LONGPOLL_NO_MONITOR
    {LPI_METRICS, LPI_GET, "/metrics"}, /* at the root */
    {LPI_HEALTH, LPI_GET, "/healthz"},  /* likewise */
    {LPI_STATS, LPI_GET, "/stats"},
#endif
#ifndef LONGPOLL_NO_ADMIN
    {LPI_CHANNELS, LPI_GET, "/channels"},
    {LPI_CHANNEL, LPI_GET, "/channels/{channel}"},
    {LPI_DELETES, LPI_DELETE, "/channels/{channel}"},
    {LPI_RECEIPTS, LPI_GET, "/receipts/{channel}/{id}"},
#endif
};

static int lpi_route_is_wanted(const lp_config *cfg, lpi_route_kind kind)
{
    if (lpi_route_is_monitor(kind)) return cfg->monitor != LP_OFF;
    if (kind == LPI_PUBLISHES) return !lpi_config_publish_off(cfg);
    if (kind < LPI_CHANNELS) return 1;
    return lpi_config_has_admin(cfg) &&
           (kind != LPI_RECEIPTS || cfg->track_receipts);
}

static lp_result lpi_route_add_api(lp_server *server)
{
    lp_slice prefix = lp_s(server->config.prefix);
    lp_text path;
    lp_result result = LP_OK;
    size_t i;
    if (!lpi_route_pattern_good(prefix) || lpi_route_takes_rest(prefix))
        return lpi_config_bad(server, "prefix");
    while (prefix.length && prefix.bytes[prefix.length - 1] == '/')
        prefix.length--;
    lpi_text_init(&path, &server->memory);
    for (i = 0; i < LPI_COUNT(lpi_routes_own) && result == LP_OK; i++) {
        lpi_route_kind kind = lpi_routes_own[i].kind;
        if (!lpi_route_is_wanted(&server->config, kind))
            continue;
        lpi_text_clear(&path);
        if (kind != LPI_METRICS && kind != LPI_HEALTH)
            lpi_text_add(&path, prefix);
        lpi_text_add(&path, lp_s(lpi_routes_own[i].path));
        result = path.failed ? LP_ERR_NOMEM
                             : lpi_route_add(server, kind,
                                             lpi_routes_own[i].method,
                                             lpi_text_slice(&path), NULL, NULL);
    }
    lpi_text_free(&path);
    return result;
}

static lp_result lpi_server_result(int error)
{
    switch (error) {
    case EADDRINUSE: return LP_ERR_IN_USE;
    case EACCES:
    case EPERM: return LP_ERR_DENIED;
    case ENOMEM: return LP_ERR_NOMEM;
    default: return LP_ERR_OS;
    }
}

static lp_result lpi_server_listen(lp_server *server)
{
    const lp_config *cfg = &server->config;
    const lp_os *os = &server->os;
    lp_slice host = lp_s(cfg->host);
    lp_address at;
    int fd, error;
    if (lpi_equal(host, LPI_S("localhost"))) host = LPI_S("127.0.0.1");
    if (lpi_equal(host, LPI_S("*"))) host = LPI_S("0.0.0.0");
    if (host.length > 2 && *host.bytes == '[')
        host = lpi_slice(host.bytes + 1, host.length - 2);
    if (lpi_address_parse(host, at.bytes))
        return lpi_config_bad(server, "host");
    at.port = cfg->port;
    fd = os->listen(os->ctx, &at, (int)cfg->backlog, &server->bound);
    if (fd < 0) {
        lpi_log(server, LP_LOG_ERROR, "cannot listen", strerror(-fd));
        return lpi_server_result(-fd);
    }
    server->on_loopback =
        (lpi_address_is_v4(at.bytes) && at.bytes[12] == 127) ||
        !memcmp(at.bytes, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\1", 16);
    error = os->poller_set(os->ctx, &lpi_first_loop(server)->poller, fd,
                           LPI_TAG_LISTENER, 0, LP_READ);
    if (!error) {
        server->listener = fd;
        if (!server->on_loopback && !lpi_config_publish_off(cfg) &&
            !cfg->publish_token && !cfg->token_secret && !cfg->authorize.ask)
            lpi_log(server, LP_LOG_WARN, "who can reach this address may "
                    "publish: there is no publish_token, token_secret or "
                    "authorize", cfg->host);
        return LP_OK;
    }
    os->shutdown(os->ctx, fd, LP_READ | LP_WRITE);
    os->close(os->ctx, fd);
    return lpi_server_result(-error);
}

/* The part that cannot fail: after it lp_destroy may be called. */
static void lpi_server_blank(lp_server *server, const lp_config *config,
                             const lp_memory *memory)
{
    memset(server, 0, sizeof *server);
    if (config) server->config = *config;
    server->memory = *memory;
    server->os = server->config.os ? *server->config.os : lpi_real_os;
    server->strings.memory = &server->memory;
    server->listener = server->reserve = -1;
}

static int lpi_server_loops(lp_server *server)
{
    uint32_t i, count = server->config.loops;
    int error = 0;
    server->loops = (lpi_loop *)lpi_alloc(&server->memory,
                                          count * sizeof *server->loops);
    if (!server->loops) return -ENOMEM;
    server->loop_count = server->serving = count;
    for (i = 0; i < count; i++) lpi_loop_blank(&server->loops[i], server, i);
    for (i = 0; i < count && !error; i++)
        error = lpi_loop_init(&server->loops[i], server);
    return error;
}

static lp_result lpi_server_init(lp_server *server)
{
    lp_result result = lpi_config_resolve(server);
    int error;
    if (result == LP_OK) result = lpi_config_check_publish(server);
    if (result == LP_OK) result = lpi_config_resolve_lists(server);
    if (result == LP_OK) result = lpi_route_add_api(server);
    if (result != LP_OK) return result;
    error = lpi_hub_init(&server->hub, &server->memory, &server->config,
                         &server->os);
    if (!error) error = lpi_server_loops(server);
    if (error) return lpi_server_result(-error);
    result = lpi_stores_init(server);
    if (result != LP_OK) return result;
    server->reserve = server->os.reserve(server->os.ctx);
    return lpi_server_listen(server);
}

LPDEF lp_result lp_create(lp_server **out, const lp_config *config)
{
    const lp_memory *memory = config && config->memory.resize
                                  ? &config->memory : &lpi_libc_memory;
    lp_server *server;
    lp_result result;
    int cancel;
    if (!out) return LP_ERR_ARG;
    server = (lp_server *)lpi_alloc(memory, sizeof *server);
    if (!server) return LP_ERR_NOMEM;
    cancel = lpi_cancel_defer();
    lpi_server_blank(server, config, memory);
    result = lpi_server_init(server);
    if (result != LP_OK) lp_destroy(server);
    else *out = server;
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF void lp_destroy(lp_server *server)
{
    lp_memory memory;
    uint32_t i;
    int cancel;
    if (!server) return;
    cancel = lpi_cancel_defer();
    memory = server->memory;
    server->hub.stopped = 1;
    lpi_accept_close_listener(server);
    if (server->reserve >= 0) server->os.close(server->os.ctx,
                                               server->reserve);
    lpi_stores_end(server);
    if (server->loop_count) lpi_loop_tell_published(lpi_first_loop(server));
    for (i = 0; i < server->loop_count; i++) lpi_loop_free(&server->loops[i]);
    lpi_stores_free(server);
    lpi_hub_free(&server->hub);
    lpi_free(&memory, server->loops, server->loop_count * sizeof(lpi_loop));
    lpi_arena_clear(&server->strings, 0);
    lpi_free(&memory, server, sizeof *server);
    lpi_cancel_restore(cancel);
}

LPDEF lp_result lp_step(lp_server *server, int wait_ms)
{
    lpi_loop *loop;
    lp_result result;
    int cancel;
    if (!server || server->loop_count > 1) return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    loop = lpi_first_loop(server);
    result = lpi_loop_step(loop, wait_ms);
    if (result == LP_OK) lpi_loop_sleep(loop); /* new work signals lp_fd() */
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF lp_result lp_run(lp_server *server)
{
    lp_result result;
    int cancel;
    if (!server) return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    result = lpi_loops_run(server);
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF void lp_stop(lp_server *server)
{
    int cancel;
    if (!server) return;
    cancel = lpi_cancel_defer(); /* async-signal-safe (POSIX.1-2024) */
    lpi_atomic_set(&server->stopping, 1);
    server->os.wake_signal(server->os.ctx, lpi_first_loop(server)->wake[1]);
    lpi_cancel_restore(cancel);
}

LPDEF uint16_t lp_port(const lp_server *server)
{
    return server ? server->bound.port : 0;
}

LPDEF int lp_fd(const lp_server *server)
{
    if (!server || server->loop_count > 1) return -1;
    return lpi_first_loop(server)->poller.fd;
}

LPDEF int lp_wait_ms(lp_server *server)
{
    lpi_loop *loop;
    int cancel, wait_ms = 0;
    if (!server || server->loop_count > 1) return -1;
    cancel = lpi_cancel_defer();
    loop = lpi_first_loop(server);
    if (!lpi_loop_sleep(loop)) {
        lpi_loop_now(loop);
        wait_ms = (int)lpi_loop_due(loop);
    }
    lpi_cancel_restore(cancel);
    return wait_ms;
}

LPDEF void lp_stats_read(lp_server *server, lp_stats *out)
{
    uint32_t i, k;
    lpi_hub_stats(&server->hub, out);
    for (i = 0; i < server->loop_count; i++) {
        lpi_loop *loop = &server->loops[i];
        lpi_lock(&loop->mutex);
        for (k = 0; k < LP_LATENCIES; k++) {
            out->latencies[k] += loop->latencies[k];
            out->first_latencies[k] += loop->first_latencies[k];
        }
        out->latencies_us += loop->latencies_us;
        lpi_unlock(&loop->mutex);
    }
}

LPDEF uint64_t lp_latency_percentile_us(const uint64_t latencies[LP_LATENCIES],
                                        double percentile)
{
    uint64_t all = 0, below = 0;
    uint32_t i;
    for (i = 0; i < LP_LATENCIES; i++) all += latencies[i];
    if (!all) return 0;
    for (i = 0; i < LP_LATENCIES - 1; i++) {
        below += latencies[i];
        if ((double)below >= percentile * (double)all) break;
    }
    return lpi_latency_min(i + 1) - 1;
}

#ifndef LONGPOLL_NO_MONITOR

/* --- lines of an access log */

enum { /* bytes in a line */
    LPI_ACCESS_CLIENT = 64, /* of the client at most                         */
    LPI_ACCESS_METHOD = 24, /* of the method at most                         */
    LPI_ACCESS_TAIL = 64    /* kept for what follows a text                  */
};

/* What stands for a byte that might be taken for a part of the line; in
   `code` or a constant. */
static lp_slice lpi_access_escape(char *code, uint8_t c, int json)
{
    char *to = json ? LPI_PUT(code, "\\u00") : LPI_PUT(code, "\\x");
    if (json && c >= 0x80) return LPI_S("\\ufffd"); /* it is no UTF-8 */
    *to++ = "0123456789abcdef"[c >> 4];
    *to++ = "0123456789abcdef"[c & 15];
    return lpi_slice_to(code, to);
}

/* The text, or as much of it as there is room for before `end`. */
static char *lpi_access_put(char *to, const char *end, lp_slice s, int json)
{
    while (s.length) {
        size_t n = lpi_utf8(s.bytes, s.length);
        uint8_t c = (uint8_t)*s.bytes;
        int plain = n > 1 ? json
                          : c > (json ? 0x1f : 0x20) && c < 0x7f && c != '"' &&
                                c != '\\';
        char code[6];
        lp_slice part = lpi_slice(s.bytes, n);
        if (!plain) {
            part = lpi_access_escape(code, c, json);
            n = 1;
        }
        if (to + part.length > end) break;
        to = lpi_put(to, part);
        s = lpi_slice(s.bytes + n, s.length - n);
    }
    return to;
}

LPDEF size_t lp_access_common(char *buffer, size_t size, const lp_access *a)
{
    uint64_t seconds = a->wall_us / 1000000;
    lpi_day day = lpi_day_of(seconds / 86400);
    char *to = buffer;
    if (size) *buffer = 0;
    if (size < LP_ACCESS_LINE_MIN) return 0;
    to = lpi_access_put(to, to + LPI_ACCESS_CLIENT, a->client, 0);
    to = LPI_PUT(to, " - - [");
    to = lpi_put_day(to, &day, '/');
    *to++ = ':';
    to = LPI_PUT(lpi_put_time(to, seconds), " +0000] \"");
    if (a->method.length) {
        to = lpi_access_put(to, to + LPI_ACCESS_METHOD, a->method, 0);
        *to++ = ' ';
        to = lpi_access_put(to, buffer + size - LPI_ACCESS_TAIL, a->path, 0);
        to = a->http10 ? LPI_PUT(to, " HTTP/1.0") : LPI_PUT(to, " HTTP/1.1");
    } else {
        *to++ = '-'; /* it could not be read */
    }
    to = lpi_put_uint(LPI_PUT(to, "\" "), (uint32_t)a->status);
    *to++ = ' ';
    to = LPI_PUT(lpi_put_uint(to, a->bytes), "\n");
    *to = 0;
    return (size_t)(to - buffer);
}

/* RFC 3339, in microseconds: 2026-11-24T07:01:41.123456Z. */
static char *lpi_access_put_when(char *to, uint64_t us)
{
    lpi_day day = lpi_day_of(us / 1000000 / 86400);
    char seconds[27];
    size_t n;
    to = lpi_put_two(lpi_put_two(to, day.year / 100), day.year % 100);
    *to++ = '-';
    to = lpi_put_two(to, day.month + 1);
    *to++ = '-';
    to = lpi_put_two(to, day.day);
    *to++ = 'T';
    to = lpi_put_time(to, us / 1000000);
    n = (size_t)(lpi_put_seconds(seconds, us % 1000000) - seconds);
    to = lpi_put(to, lpi_slice(seconds + 1, n - 1));
    *to++ = 'Z';
    return to;
}

LPDEF size_t lp_access_json(char *buffer, size_t size, const lp_access *a)
{
    char *to = buffer;
    const char *end;
    if (size) *buffer = 0;
    if (size < LP_ACCESS_LINE_MIN) return 0;
    end = buffer + size - LPI_ACCESS_TAIL;
    to = lpi_access_put_when(LPI_PUT(to, "{\"time\":\""), a->wall_us);
    to = LPI_PUT(to, "\",\"client\":\"");
    to = lpi_access_put(to, to + LPI_ACCESS_CLIENT, a->client, 1);
    to = LPI_PUT(to, "\",\"method\":\"");
    to = lpi_access_put(to, to + LPI_ACCESS_METHOD, a->method, 1);
    to = a->http10 ? LPI_PUT(to, "\",\"http\":\"1.0\",\"status\":")
                   : LPI_PUT(to, "\",\"http\":\"1.1\",\"status\":");
    to = lpi_put_uint(to, (uint32_t)a->status);
    to = lpi_put_uint(LPI_PUT(to, ",\"bytes\":"), a->bytes);
    to = lpi_put_uint(LPI_PUT(to, ",\"duration_us\":"), a->duration_us);
    to = a->stream ? LPI_PUT(to, ",\"stream\":true,\"path\":\"")
                   : LPI_PUT(to, ",\"stream\":false,\"path\":\"");
    to = lpi_access_put(to, end, a->path, 1);
    to = LPI_PUT(to, "\",\"agent\":\"");
    to = lpi_access_put(to, end, a->agent, 1);
    to = LPI_PUT(to, "\",\"referer\":\"");
    to = LPI_PUT(lpi_access_put(to, end, a->referer, 1), "\"}\n");
    *to = 0;
    return (size_t)(to - buffer);
}

#endif /* LONGPOLL_NO_MONITOR */

/* --- routes */

LPDEF lp_result lp_on(lp_server *server, const char *method,
                      const char *pattern, lp_handler handler, void *ctx)
{
    int m;
    if (!server || !method || !handler ||
        !lpi_route_pattern_good(lp_s(pattern)))
        return LP_ERR_ARG;
    if (server->started && server->loop_count > 1) return LP_ERR_ARG;
    for (m = 0; m <= LPI_DELETE; m++)
        if (!strcmp(method, lpi_method_names[m]) && m != LPI_HEAD &&
            !lpi_route_pattern_hidden(server, (lpi_method)m, lp_s(pattern)))
            return lpi_route_add(server, LPI_USER, (lpi_method)m, lp_s(pattern),
                                 handler, ctx);
    return LP_ERR_ARG;
}

LPDEF lp_slice lp_method(const lp_request *r)
{
    return lpi_text_of(r->bytes, r->http->method_text);
}

LPDEF lp_slice lp_path(const lp_request *r) { return lpi_request_path(r); }

LPDEF lp_slice lp_param(lp_request *r, const char *name)
{
    lp_slice part = lpi_route_part(r, lp_s(name));
    return lpi_route_decode(r, &part, 0) ? lpi_slice(NULL, 0) : part;
}

static lp_slice lpi_query_raw(const lp_request *r, const char *name)
{
    return lpi_query_find(lpi_text_of(r->bytes, r->http->query), lp_s(name));
}

LPDEF lp_slice lp_query(lp_request *r, const char *name)
{
    lp_slice value = lpi_query_raw(r, name);
    return lpi_route_decode(r, &value, 1) ? lpi_slice(NULL, 0) : value;
}

LPDEF lp_result lp_query_int(const lp_request *r, const char *name,
                             int64_t *out)
{
    char text[3 * 20]; /* "-9223372036854775808", each byte of it escaped */
    lp_slice value = lpi_query_raw(r, name);
    long n = value.length <= sizeof text ? lpi_percent_decode(text, value, 1)
                                         : -1;
    if (!value.bytes) return LP_ERR_NOT_FOUND;
    return n < 0 || lpi_parse_int(lpi_slice(text, (size_t)n), out) ? LP_ERR_TYPE
                                                                   : LP_OK;
}

LPDEF lp_slice lp_header(const lp_request *r, const char *name)
{
    size_t at = r->http->fields;
    lp_slice other, value;
    while (lpi_http_next(r->http, r->bytes, &at, &other, &value))
        if (lpi_alike(other, lp_s(name))) return value;
    return lpi_slice(NULL, 0);
}

LPDEF lp_slice lp_cookie(const lp_request *r, const char *name)
{
    size_t at = r->http->fields;
    lp_slice field, list, value;
    while (lpi_http_next(r->http, r->bytes, &at, &field, &list)) {
        if (!lpi_alike(field, LPI_S("cookie"))) continue;
        value = lpi_http_cookie(list, lp_s(name));
        if (value.bytes) return value;
    }
    return lpi_slice(NULL, 0);
}

LPDEF lp_slice lp_body(const lp_request *r) { return r->body; }

LPDEF lp_slice lp_form(lp_request *r, const char *name)
{
    lp_slice value = lpi_slice(NULL, 0);
    if (lpi_route_type_is(r, LPI_S("application/x-www-form-urlencoded")))
        value = lpi_query_find(r->body, lp_s(name));
    if (!value.bytes || lpi_route_decode_always(r, &value, 1))
        return lpi_slice(NULL, 0);
    return value;
}

LPDEF lp_slice lp_client(lp_request *r)
{
    char *to = lpi_arena_take(&r->loop->arena, INET6_ADDRSTRLEN);
    return to ? lpi_address_put(to, r->client) : lpi_slice(NULL, 0);
}

static int lpi_is_value(lp_slice s)
{
    size_t i;
    for (i = 0; i < s.length; i++)
        if (!lpi_is(s.bytes[i], LPI_VALUE)) return 0;
    return 1;
}

/* Is it a handler's to answer, and not answered yet? */
static int lpi_request_is_open(const lp_request *r)
{
    return !r->answered && r->route && r->route->kind == LPI_USER;
}

LPDEF lp_result lp_reply_header(lp_request *r, const char *name,
                                lp_slice value)
{
    static const char *const ours[] = {
        "connection", "content-length", "content-type", "date",
        "transfer-encoding", "trailer", "upgrade", "x-content-type-options"};
    lp_slice key = lp_s(name);
    size_t i;
    if (!lpi_request_is_open(r) || !key.length || !lpi_is_value(value))
        return LP_ERR_ARG;
    for (i = 0; i < key.length; i++)
        if (!lpi_is(key.bytes[i], LPI_TOKEN)) return LP_ERR_ARG;
    for (i = 0; i < LPI_COUNT(ours); i++)
        if (lpi_alike(key, lp_s(ours[i]))) return LP_ERR_ARG;
    if (lpi_alike(key, LPI_S("cache-control"))) r->may_cache = 1;
    if (lpi_alike(key, LPI_S("access-control-allow-origin"))) r->own_origin = 1;
    lpi_line(&r->loop->extra, name, value);
    return r->loop->extra.failed ? LP_ERR_NOMEM : LP_OK;
}

LPDEF lp_result lp_reply(lp_request *r, int status, const char *type,
                         lp_slice body)
{
    if (!lpi_request_is_open(r) || status < 200 || status > 599 ||
        !lpi_is_value(lp_s(type)))
        return LP_ERR_ARG;
    if (body.length > INT32_MAX) return LP_ERR_ARG;
    if (!body.bytes) body = LPI_S("");
    lpi_write_reply(r, status, lp_s(type), body);
    return LP_OK;
}

LPDEF lp_result lp_reply_error(lp_request *r, int status, const char *text)
{
    if (!lpi_request_is_open(r) || status < 200 || status > 599)
        return LP_ERR_ARG;
    lpi_write_reply(r, status, LPI_S("application/json"),
                    lpi_body_error(r->loop, text));
    return LP_OK;
}

LPDEF lp_result lp_defer(lp_request *r, uint32_t timeout_ms, lp_deferred *out)
{
    if (!out || !lpi_request_is_open(r)) return LP_ERR_ARG;
    if (!timeout_ms) timeout_ms = r->server->config.later_ms;
    return lpi_later_begin(r, timeout_ms, out) ? LP_ERR_NOMEM : LP_OK;
}

LPDEF lp_result lp_reply_later(lp_server *server, lp_deferred request,
                               int status, const char *type, lp_slice body)
{
    const lp_memory *memory;
    lpi_task *task;
    lp_result result = LP_ERR_NOMEM;
    int cancel;
    if (!server || status < 200 || status > 599 || !lpi_is_value(lp_s(type)) ||
        body.length > INT32_MAX)
        return LP_ERR_ARG;
    if (request.loop >= server->loop_count) return LP_ERR_GONE;
    memory = &server->memory;
    cancel = lpi_cancel_defer();
    task = lpi_later_new_answer(memory, lp_s(type), body);
    if (task) {
        task->of.answer.request = request;
        task->of.answer.status = status;
        result = lpi_later_leave(&server->loops[request.loop], task);
    }
    if (task && result != LP_OK) {
        lpi_free(memory, task->of.answer.text, task->of.answer.size);
        lpi_free(memory, task, sizeof *task);
    }
    lpi_cancel_restore(cancel);
    return result;
}

/* --- pages and files */

LPDEF lp_result lp_reply_asset(lp_request *r, const char *name, lp_slice bytes)
{
    if (!lpi_request_is_open(r) || bytes.length > INT32_MAX) return LP_ERR_ARG;
    lpi_write_content(r, lpi_type_of(lp_s(name)), bytes);
    return LP_OK;
}

#ifndef LONGPOLL_NO_FILES

/* Does the path have an escaped slash? Once it is decoded, nobody can tell it
   from one that parts the path. */
static int lpi_file_slash_hidden(const lp_request *r)
{
    lp_slice path = lpi_request_path(r);
    size_t i;
    for (i = 0; i + 3 <= path.length; i++)
        if (lpi_alike(lpi_slice(path.bytes + i, 3), LPI_S("%2F"))) return 1;
    return 0;
}

/* Answer with an error, without the fields that are meant for the file: a
   Cache-Control would keep the error alive. */
static void lpi_file_reply_error(lp_request *r, int status, const char *text)
{
    lpi_text_clear(&r->loop->extra);
    r->may_cache = r->own_origin = 0;
    if (status == 503) lpi_line(&r->loop->extra, "Retry-After", LPI_S("5"));
    lp_reply_error(r, status, text);
}

/* A file or folder of that name cannot be read: tell the client, and the log
   why. `error` is an errno, negated. */
static void lpi_file_failed(lp_request *r, lp_slice name, int error)
{
    int is_busy = error == -ENOMEM || error == -EMFILE || error == -ENFILE ||
                  error == -EAGAIN;
    int status = is_busy ? 503 : 500;
    char detail[64];
    snprintf(detail, sizeof detail, "%.*s: %s",
             (int)(name.length < 32 ? name.length : 32), name.bytes,
             error == -EFBIG ? "above file_bytes_max" : strerror(-error));
    lpi_note_refusal(r->loop, status, "File not served", lp_s(detail),
                     r->client);
    lpi_file_reply_error(r, status, "File not served");
}

LPDEF lp_result lp_reply_file(lp_request *r, const char *folder, lp_slice path)
{
    lp_slice name = path;
    lp_text text;
    int fd, error;
    if (!folder || !lpi_request_is_open(r)) return LP_ERR_ARG;
    fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        lpi_file_failed(r, lp_s(folder), -errno);
        return LP_OK;
    }
    if (!path.length || lpi_ends_with(path, LPI_S("/")))
        name = LPI_S("index.html");
    if (lpi_file_slash_hidden(r)) path = lpi_slice(NULL, 0);
    lpi_text_init(&text, &r->server->memory);
    error = lpi_file_load(fd, path, r->server->config.file_bytes_max, &text);
    if (!path.bytes && r->no_memory) error = -ENOMEM;
    if (!error) lpi_write_content(r, lpi_type_of(name), lpi_text_slice(&text));
    else if (error == -ENOENT) lpi_file_reply_error(r, 404, "Not found");
    else lpi_file_failed(r, name, error);
    lpi_text_free(&text);
    return LP_OK;
}

#endif /* LONGPOLL_NO_FILES */

LPDEF lp_result lp_reply_json(lp_request *r, int status, lp_json *json)
{
    lp_slice text = lp_json_text(json);
    lp_result result = json->text.failed ? LP_ERR_NOMEM : LP_ERR_JSON;
    if (text.length) result = lp_reply(r, status, "application/json", text);
    lp_json_free(json);
    return result;
}

/* --- publish */

static lp_result lpi_publish_json(lp_server *server, lp_slice channel,
                                  lp_slice json, int transient,
                                  lp_published *out)
{
    lp_published published;
    lpi_message *first;
    lp_result result;
    size_t offset;
    int cancel;
    if (!server || !lpi_channel_name_good(channel)) return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    result = lpi_publish_messages(server, channel, json, &first, &offset);
    if (transient) lpi_message_set_transient(first);
    if (result == LP_OK)
        result = lpi_publish_chain(server, channel, first, NULL, &published);
    lpi_cancel_restore(cancel);
    if (result == LP_OK && out) *out = published;
    return result;
}

LPDEF lp_result lp_publish(lp_server *server, lp_slice channel, lp_slice json,
                           lp_published *out)
{
    return lpi_publish_json(server, channel, json, 0, out);
}

LPDEF lp_result lp_publish_transient(lp_server *server, lp_slice channel,
                                     lp_slice json, lp_published *out)
{
    return lpi_publish_json(server, channel, json, 1, out);
}

LPDEF lp_result lp_channel_read(lp_server *server, lp_slice channel,
                                lp_channel_info *out)
{
    lp_result result;
    int cancel;
    if (!server || !out || !lpi_channel_name_good(channel)) return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    result = lpi_hub_describe(&server->hub, channel,
                              server->os.monotonic_us(server->os.ctx) / 1000,
                              out);
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF uint32_t lp_channels_read(lp_server *server, uint32_t *position,
                                lp_channel_info *out, uint32_t max)
{
    uint64_t now_ms = server->os.monotonic_us(server->os.ctx) / 1000;
    uint32_t n = 0;
    int cancel = lpi_cancel_defer();
    do n += lpi_hub_list(&server->hub, now_ms, position, out + n, max - n);
    while (n < max && *position);
    lpi_cancel_restore(cancel);
    return n;
}

/* Take references to `count` messages of the channel, tell of each, and give
   them back. */
static lp_result lpi_messages_tell(lp_server *server, lp_slice channel,
                                   uint32_t count, lp_message_fn fn, void *ctx)
{
    uint64_t now_ms = server->os.monotonic_us(server->os.ctx) / 1000;
    lpi_reading r;
    uint32_t i;
    memset(&r, 0, sizeof r);
    r.messages = (lpi_message **)lpi_alloc(&server->memory,
                                           count * sizeof *r.messages);
    if (!r.messages) return LP_ERR_NOMEM;
    r.first = count;
    while (lpi_hub_read(&server->hub, channel, now_ms, &r)) {}
    for (i = r.first; i < count; i++) {
        lp_message message;
        message.channel = channel;
        message.id = lpi_message_id(r.messages[i]);
        message.json = lpi_message_text(r.messages[i]);
        message.timestamp_us = r.messages[i]->timestamp_us;
        fn(ctx, &message);
        lpi_message_unref(&server->memory, r.messages[i]);
    }
    lpi_free(&server->memory, r.messages, count * sizeof *r.messages);
    return LP_OK;
}

LPDEF lp_result lp_messages_read(lp_server *server, lp_slice channel,
                                 uint32_t max, lp_message_fn fn, void *ctx)
{
    lp_channel_info info;
    lp_result result;
    int cancel;
    if (!fn) return LP_ERR_ARG;
    result = lp_channel_read(server, channel, &info);
    if (result != LP_OK) return result;
    if (max > info.held) max = info.held;
    if (!max) return LP_OK;
    cancel = lpi_cancel_defer();
    result = lpi_messages_tell(server, channel, max, fn, ctx);
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF lp_result lp_receipts_read(lp_server *server, lp_slice channel,
                                 lp_slice id, lp_receipts *page)
{
    lpi_requested at;
    lp_result result;
    int cancel;
    if (!server || !page || !lpi_channel_name_good(channel) || !id.bytes ||
        lpi_query_cursor(id, &at) || at.kind != LPI_FROM_CURSOR)
        return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    result = lpi_hub_receipts(&server->hub, channel, &at,
                              server->os.monotonic_us(server->os.ctx) / 1000,
                              page);
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF lp_result lp_recheck(lp_server *server, lp_slice channel)
{
    int cancel;
    if (!server || !lpi_channel_name_good(channel)) return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    lpi_hub_recheck(&server->hub, channel,
                    server->os.monotonic_us(server->os.ctx) / 1000);
    lpi_cancel_restore(cancel);
    return LP_OK;
}

LPDEF lp_result lp_channel_delete(lp_server *server, lp_slice channel)
{
    lp_result result;
    int cancel;
    if (!server || !lpi_channel_name_good(channel)) return LP_ERR_ARG;
    cancel = lpi_cancel_defer();
    if (LPI_REMOTE(server->stores)) {
        lpi_call call;
        lpi_call_init(&call, channel);
        call.deletes = 1;
        result = lpi_stores_publish(server, &call);
    } else {
        result = lpi_hub_delete(&server->hub, channel,
                                server->os.monotonic_us(server->os.ctx) / 1000);
    }
    lpi_cancel_restore(cancel);
    return result;
}

LPDEF lp_result lp_publish_async(lp_server *server, lp_slice channel,
                                 lp_slice json, lp_published_fn fn, void *ctx)
{
    lpi_message *first;
    size_t offset;
    lpi_task *task;
    lpi_outcome *outcome;
    int cancel;
    if (!server || !fn) return LP_ERR_ARG;
    task = (lpi_task *)lpi_alloc_zero(&server->memory, sizeof *task);
    if (!task) return LP_ERR_NOMEM;
    task->kind = LPI_TASK_TELL;
    outcome = &task->of.outcome;
    outcome->fn = fn;
    outcome->ctx = ctx;
    cancel = lpi_cancel_defer();
    outcome->result = LP_ERR_ARG;
    if (lpi_channel_name_good(channel))
        outcome->result = lpi_publish_messages(server, channel, json, &first,
                                               &offset);
    if (outcome->result == LP_OK)
        outcome->result = lpi_publish_chain(server, channel, first, outcome,
                                            &outcome->published);
    if (outcome->result == LP_ERR_STOPPED || outcome->result == LP_PENDING) {
        lp_result result = outcome->result == LP_PENDING ? LP_OK
                                                         : LP_ERR_STOPPED;
        lpi_free(&server->memory, task, sizeof *task);
        lpi_cancel_restore(cancel);
        return result;
    }
    lpi_inbox_add(lpi_first_loop(server), task, 1);
    lpi_cancel_restore(cancel);
    return LP_OK;
}

/* ==========================================================================
   I   LICENCE AND CHANGES                                          >>licence

   As you prefer: public domain, or the MIT licence.

   --- Public domain (unlicense.org) ---
   This is free and unencumbered software released into the public domain.
   Anyone is free to copy, modify, publish, use, compile, sell, or distribute
   this software, either in source code form or as a compiled binary, for any
   purpose, commercial or non-commercial, and by any means. In jurisdictions
   that recognize copyright laws, the authors dedicate any and all copyright
   interest in the software to the public domain, in perpetuity, for the
   benefit of the public at large. THE SOFTWARE IS PROVIDED "AS IS", WITHOUT
   WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
   WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND
   NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS BE LIABLE FOR ANY CLAIM,
   DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
   OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE
   USE OR OTHER DEALINGS IN THE SOFTWARE.

   --- MIT ---
   Copyright (c) 2026 The longpoll.h authors
   Permission is hereby granted, free of charge, to any person obtaining a copy
   of this software and associated documentation files (the "Software"), to
   deal in the Software without restriction, including without limitation the
   rights to use, copy, modify, merge, publish, distribute, sublicense, and/or
   sell copies of the Software, and to permit persons to whom the Software is
   furnished to do so, subject to the following conditions: The above copyright
   notice and this permission notice shall be included in all copies or
   substantial portions of the Software. The software is provided "as is",
   without warranty of any kind, express or implied, including but not limited
   to the warranties of merchantability, fitness for a particular purpose and
   noninfringement. In no event shall the authors or copyright holders be
   liable for any claim, damages or other liability, whether in an action of
   contract, tort or otherwise, arising from, out of or in connection with the
   software or the use or other dealings in the software.

   --- Changes ---
   1.0.0  the first release
   ========================================================================== */

#endif /* LONGPOLL_IMPLEMENTATION */
