/* A model of many instances that share a store, checked by spin;
   `tests/model/run` runs it, and longpoll.pml is the model of one instance.

   It asks whether DESIGN 7 keeps the promise of DESIGN 3: a client that sends
   back its cursor, to any instance, gets every message exactly once and in
   order, or is told at once that this cannot be proven; whatever the store
   loses, and however often another server takes its place.

     Server      executes what comes on an instance's subscription
     World       restarts, promotes and demotes the two servers, closes
                 connections, evicts; the servers are a primary and its replica,
                 or two primaries
     Member      an instance: one channel, and two connections to the store
     Elsewhere   an instance of which only its calls to the store are seen
     Client      polls any of them with the cursor that it was last given

   An instance's next connection may reach the other server, as behind a proxy
   that has been switched, and both connections may break or be given up at any
   time; a timeout is nothing else. A command is executed in the step that sends
   it. That is no less: a command that is executed later is one that was sent
   later, or one from Elsewhere if its reply is never read. Its reply, what is
   published and what is acknowledged arrive later, in order on each of the two
   connections, but in any order between them. SUBSCRIBE is executed later than
   it is sent.

   Every message has a number, in the order of publishing. `tags` are the
   numbers of the messages at each SEQ, and `content` says what each epoch has
   at each SEQ. `content`, `top`, `had` and `justified` are ghosts: only the
   assertions look at them.

   Not modelled: bytes, limits, ages, since= and all timestamps. An epoch's
   birth is its number here, and the part of the witness that compares a birth
   with a timestamp is left out, since only since= needs it. Nor are idempotency
   keys, several channels, or several stores. Nobody lies about a cursor.

   Each -DBROKEN_... makes a protocol that breaks the promise, which spin has to
   notice. */

/* ---- The bounds; tests/model/run sets them */

#ifndef INSTANCES
#define INSTANCES 1     /* or 2                                              */
#endif
#ifndef PUBLISHES
#define PUBLISHES 2     /* by all together; 7 at most                        */
#endif
#ifndef ELSEWHERE
#define ELSEWHERE 1     /* 0: nobody uses the store but the instances        */
#endif
#ifndef HISTORY
#define HISTORY 2       /* messages in the stream: MAXLEN                    */
#endif
#ifndef RESTARTS
#define RESTARTS 0      /* how often a primary restarts                      */
#endif
#ifndef PROMOTES
#define PROMOTES 0      /* how often a replica becomes a primary             */
#endif
#ifndef SWITCHES
#define SWITCHES 0      /* how often an instance's connections begin to reach
                           the other server                                  */
#endif
#ifndef KILLS
#define KILLS 0         /* how often the server closes a subscription        */
#endif
#ifndef EVICTS
#define EVICTS 0        /* how often it evicts the hash, the stream, or the
                           oldest message                                    */
#endif
#ifndef ROLLBACKS
#define ROLLBACKS 0     /* how often its data is set back within one process */
#endif
#ifndef FORGETS
#define FORGETS 0       /* how often an instance unsubscribes                */
#endif
#ifndef BEATS
#define BEATS 0         /* heartbeats whose promise is checked               */
#endif
#ifndef GIVES_UP
#define GIVES_UP 1      /* 0: connections are given up only with a reason    */
#endif
#define NEWEST 1        /* messages that a first open brings: 16             */
#define PAGE 1          /* messages in a page: 64                            */
#define EPOCHS 8        /* more than are ever drawn, and one                 */

/* ---- The store */

mtype = { NO_RESET, EPOCH, EVICTED };           /* lpi_reason                */
mtype = { FROM_START, FROM_NOW, FROM_CURSOR };  /* lpi_requested.kind        */

typedef Store {
    bit master;
    byte id;                /* master_replid                                 */
    byte e, r, s, pe, ps;   /* the hash; e is 0 if there is none             */
    byte n;                 /* entries in the stream, of which s is the last,
                               even if there is no hash                      */
    int tags;               /* the messages in it                            */
    byte top                /* ghost: the newest message that it ever had    */
};

Store server[2];
byte ids, epochs;           /* drawn so far; neither ever comes again        */
byte number;                /* messages published so far                     */
int content[EPOCHS];        /* ghost: what each epoch has at each SEQ        */

#define TAG(tags, seq) (((tags) >> (3 * (seq))) & 7)
#define BITS(tag, seq) ((tag) << (3 * (seq)))
#define UP_TO(seq) ((1 << (3 * (seq) + 3)) - 1)     /* all SEQs up to it     */
#define AFTER(tags, seq) ((tags) & ~UP_TO(seq))
#define FLOOR(k) (server[k].s - server[k].n)
#define MIN(x, y) ((x) < (y) -> (x) : (y))
#define MAX(x, y) ((x) > (y) -> (x) : (y))

/* ---- An instance */

mtype = { DOWN, GREETING, UP };                     /* its connections       */
mtype = { COLD, SUBSCRIBING, OPENING, LIVE };       /* the channel           */
mtype = { SUBSCRIBE, UNSUBSCRIBE };                 /* on its subscription   */
mtype = { MESSAGE, SUBSCRIBED, UNSUBSCRIBED, ECHO };
mtype = { OPEN, READ_PAGE, COMPARE, PUBLISH, BEAT };    /* on commands       */

typedef Instance {
    mtype link;
    bit way;                /* the server that a new connection reaches      */
    byte cmd_at, sub_at;    /* the servers of the two connections            */
    byte id;                /* what the commands' server said in its greeting*/
    bit cmd_cut, sub_cut;   /* this connection is broken                     */
    bit subscribed;         /* the server has the channel's subscription     */

    mtype state;
    byte e;                 /* 0: not known                                  */
    byte first, last;       /* the SEQs in the ring: none if first > last    */
    byte floor;             /* the store's, when it last told                */
    int tags;
    byte top;               /* ghost: the newest message that it ever had    */
    byte buffer_e, buffer_s, buffer_tag;    /* room for one message          */
    bit want_open;          /* an open must be sent                          */
    bit calling;            /* an open, a page or a comparison is under way  */
    byte unanswered;        /* (UN)SUBSCRIBEs                                */

    bit beat, beat_reply, beat_echo;    /* a heartbeat; what it has brought  */
    byte beat_top           /* ghost: what had been published when it was
                               executed                                      */
};

Instance inst[INSTANCES];
chan requests[INSTANCES] = [3] of { mtype };
chan heard[INSTANCES] = [6] of { mtype, byte, byte, byte };     /* e, s, tag */
/* kind; r, e, s, floor, pe, ps; the first SEQ and the last one of the page,
   and its messages; top */
chan replies[INSTANCES] = [3] of { mtype, byte, byte, byte, byte, byte, byte,
                                   byte, byte, int, byte };

/* ---- The poll, of which there is one at a time */

mtype = { IDLE, FETCHING, PARKED };

mtype cursor_kind = FROM_START;     /* what the client was last given        */
byte cursor_e, cursor_s;
byte had;                           /* ghost: the messages that it has had   */

mtype phase = IDLE;
byte here;                          /* the instance where it is              */
mtype ask_kind = FROM_START;        /* where the poll stands                 */
byte ask_e, ask_s;
byte page_from;                     /* the SEQ that it needs a page from     */
bit covered;                        /* a call was sent after it came         */
bit justified;                      /* ghost: see below                      */

/* What spin is to try both ways, and scratch that no step leaves to another. */
byte k;         /* a server                                                  */
bit one;        /* only one message goes into the reply; or: data is lost    */
hidden byte x, r, e, s, floor, pe, ps, from, to, top, tag, p, q, at;
hidden byte msg_e, msg_s, msg_tag;
hidden int tags;
hidden mtype reason, kind;

/* ---- The ghost: did the store's state justify a reset since the poll came? */

#define STANDS(k) (server[k].e == ask_e && ask_s >= FLOOR(k) && \
                   ask_s <= server[k].s)

inline look() {
    if
    :: phase != IDLE && inst[here].link == UP && ask_kind == FROM_CURSOR &&
       !STANDS(inst[here].cmd_at) -> justified = 1
    :: else
    fi
}

/* ---- The script */

/* Is a new epoch due? `known_id` is what the caller knows the identity to be,
   `w_e` and `w_s` are its witness: the birth of the epoch that it knows, and
   its last SEQ. */
#ifdef BROKEN_CACHED
#define IDENTITY(k, known_id) known_id
#else
#define IDENTITY(k, known_id) server[k].id
#endif
#ifdef BROKEN_WITNESS
#define DENIED(k, w_e, w_s) false
#else
#define DENIED(k, w_e, w_s) (w_e > server[k].e || \
                             (w_e == server[k].e && w_s > server[k].s))
#endif

inline renew(k, known_id, w_e, w_s, checked) {
    r = IDENTITY(k, known_id);
    if
    :: server[k].e == 0 || (checked && server[k].r != r) ||
       DENIED(k, w_e, w_s) ->
        /* All up to ps is what the epoch before gave. */
        assert(server[k].e == 0 ||
               server[k].tags == (content[server[k].e] & UP_TO(server[k].s) &
                                  ~UP_TO(FLOOR(k))));
        server[k].pe = server[k].e;
        server[k].ps = server[k].s;
        epochs++;
        assert(epochs < EPOCHS);
        server[k].e = epochs;
        server[k].r = r;
        content[epochs] = server[k].tags
    :: else
    fi
}

/* Who hears what is published at `k`: who is subscribed there, or at a replica
   that follows it. */
#define SUB(i) server[inst[i].sub_at]
#define REACHED(i, k) (!inst[i].sub_cut && (inst[i].sub_at == k || \
                       (!SUB(i).master && SUB(i).id == server[k].id)))

inline publish(k, known_id, w_e, w_s) {
    renew(k, known_id, w_e, w_s, true);
    number++;
    server[k].s++;
    if
    :: server[k].n == HISTORY
    :: else -> server[k].n++
    fi;
    server[k].tags = AFTER(server[k].tags, FLOOR(k));
    server[k].tags = server[k].tags | BITS(number, server[k].s);
    server[k].top = number;
    /* No epoch and SEQ name two messages. */
    assert(TAG(content[server[k].e], server[k].s) == 0);
    content[server[k].e] = content[server[k].e] | BITS(number, server[k].s);
    for (x : 0 .. INSTANCES - 1) {
        if
        :: inst[x].link == UP && inst[x].subscribed && REACHED(x, k) ->
            heard[x]!MESSAGE, server[k].e, server[k].s, number
        :: else
        fi
    }
    look()
}

#ifdef BROKEN_OPEN
#define OPEN_CHECKS false
#else
#define OPEN_CHECKS true
#endif

/* An open: the page begins at SEQ `start`, or is the newest messages if that is
   0. Its reply is left in the scratch. */
inline open(k, known_id, w_e, w_s, start, count) {
    renew(k, known_id, w_e, w_s, OPEN_CHECKS);
    e = server[k].e; s = server[k].s; floor = FLOOR(k); top = server[k].top;
    pe = server[k].pe; ps = server[k].ps;
    if
    :: start > 0 ->
        from = MAX(start, floor + 1);
        to = MIN(s, from + count - 1)
    :: else ->
        from = 1 + MAX(floor, (s > count -> s - count : 0));
        to = s
    fi;
    if
    :: from > to -> from = 1; to = 0; tags = 0
    :: else -> tags = AFTER(server[k].tags, from - 1) & UP_TO(to)
    fi;
    look()
}

/* ---- Judging by the reply to an open */

/* Where the poll goes on: `p`, and the reason if that is a reset. No client
   here lies, so that none may be told `ahead`. */
inline judge() {
    reason = NO_RESET;
    if
    :: ask_kind == FROM_START -> p = floor
    :: ask_kind == FROM_NOW -> p = s
    :: ask_kind == FROM_CURSOR && ask_e == e ->
        assert(ask_s <= s);
        if
        :: ask_s < floor -> reason = EVICTED; p = floor
        :: else -> p = ask_s
        fi
    :: ask_kind == FROM_CURSOR && ask_e != e ->
        reason = EPOCH;
        if
        :: ask_e == pe -> p = MAX(floor, MIN(ask_s, ps))
        :: else -> p = floor
        fi
    fi
}

/* What comes before the place where a client starts, or goes on after a reset,
   counts as had. */
inline count_as_had(of_epoch, upto_seq) {
    for (q : 1 .. upto_seq) {
        had = had | (1 << TAG(content[of_epoch], q))
    }
}

inline stand(at_e, at_s) {
    if
    :: ask_kind != FROM_CURSOR -> count_as_had(at_e, at_s)
    :: else
    fi;
    ask_kind = FROM_CURSOR;
    ask_e = at_e;
    ask_s = at_s
}

inline end_poll() {
    phase = IDLE; here = 0; covered = 0; justified = 0; page_from = 0;
    ask_kind = FROM_START; ask_e = 0; ask_s = 0
}

/* The reply in epoch `of_e` with those of `those` that come after `p`, up to
   SEQ `upto`, or only `one` of them, and what the client makes of it. All may
   come again after a reset to an epoch of which it is not known how it goes on
   from the client's. */
inline reply(of_e, those, upto) {
    if
    :: reason == NO_RESET ->
        assert(ask_kind != FROM_CURSOR || (ask_e == of_e && ask_s == p))
    :: else -> assert(justified)
    fi;
    if
    :: reason == EPOCH && ask_e == pe ->
        for (q : floor + 1 .. p) {                      /* none is left out  */
            assert(had & (1 << TAG(content[of_e], q)))
        }
    :: reason == EPOCH && ask_e != pe -> had = 0
    :: else
    fi;
    if
    :: reason != NO_RESET || ask_kind != FROM_CURSOR -> count_as_had(of_e, p)
    :: else
    fi;
    at = p;
    q = p + 1;
    do
    :: q <= upto && !(one && at > p) ->
        tag = TAG(those, q);
        if
        :: tag != 0 ->
            assert(q == at + 1);                        /* none is left out  */
            assert(tag == TAG(content[of_e], q));
            assert((had & (1 << tag)) == 0);            /* none comes twice  */
            had = had | (1 << tag);
            at = q
        :: else
        fi;
        q++
    :: else -> break
    od;
    cursor_kind = FROM_CURSOR;
    cursor_e = of_e;
    cursor_s = at;
    end_poll()
}

/* ---- The cache of an instance */

#define C inst[i]
#define POLL_HERE(i) (phase != IDLE && here == i)

/* A poll stands at `p` in the cache's epoch: answer, park, or read a page. */
inline serve() {
    if
    :: p < C.last && p + 1 >= C.first -> reply(C.e, C.tags, C.last)
    :: p == C.last -> stand(C.e, p); phase = PARKED; page_from = 0
    :: else -> phase = FETCHING; page_from = p + 1
    fi
}

/* The cache has changed. A parked poll that is behind is answered; if another
   epoch has begun, an open that is sent from now on has to judge it. */
inline wake() {
    if
    :: POLL_HERE(i) && phase == PARKED && ask_e != C.e ->
        phase = FETCHING; page_from = 0
    :: POLL_HERE(i) && phase == PARKED && ask_e == C.e && ask_s < C.last ->
        reason = NO_RESET; p = ask_s;
        serve()
    :: else
    fi
}

/* A reply that was asked for after the poll came judges it. */
inline judge_poll() {
    judge();
    covered = 0;
    if
    :: C.e == e && p < C.last && p + 1 >= C.first -> reply(e, C.tags, C.last)
    :: else ->
        if
        :: p + 1 >= from && p + 1 <= to -> reply(e, tags, to)
        :: else ->
            if
            :: p == s && reason != NO_RESET -> reply(e, 0, p)
            :: p == s && reason == NO_RESET && C.e == e && p == C.last ->
                stand(e, p); phase = PARKED; page_from = 0
            :: else -> phase = FETCHING; page_from = (p < s -> p + 1 : 0)
            fi
        fi
    fi
}

/* Puts SEQ `at`, the next one, into the ring. */
inline push(its_tag) {
    C.last = at;
    C.tags = C.tags | BITS(its_tag, at);
    C.top = MAX(C.top, its_tag)
}

inline clear_buffer() {
    C.buffer_e = 0; C.buffer_s = 0; C.buffer_tag = 0
}

/* What was buffered, now that the cache has changed. */
inline use_buffer() {
    if
    :: C.buffer_e == 0
    :: C.buffer_e != 0 && C.buffer_e == C.e ->
        if
        :: C.buffer_s <= C.last -> clear_buffer()
        :: C.buffer_s == C.last + 1 ->
            at = C.buffer_s;
            push(C.buffer_tag);
            clear_buffer()
        :: else
        fi
    :: C.buffer_e != 0 && C.buffer_e != C.e ->
        clear_buffer();
        reopen()
    fi
}

/* An open has to be sent from now on: one that is under way does not count. */
inline reopen() {
    C.state = OPENING;
    C.want_open = 1
}

/* Waits for the message before it. */
inline buffer(its_e, its_s, its_tag) {
    if
    :: C.buffer_e == 0 ->
        C.buffer_e = its_e; C.buffer_s = its_s; C.buffer_tag = its_tag
    :: C.buffer_e == its_e && C.buffer_s == its_s
    :: else ->
#ifndef BROKEN_OVERFLOW
        clear_buffer();
        reopen()
#else
        skip
#endif
    fi
}

#ifdef BROKEN_DENSITY
#define NEXT(seq) true
#else
#define NEXT(seq) (seq == C.last + 1)
#endif

/* A message from the subscription, or from the reply to our own publish. */
inline append(its_e, its_s, its_tag) {
    if
    :: C.state == LIVE && its_e != C.e -> reopen()
    :: C.state == LIVE && its_e == C.e && its_s > C.last && NEXT(its_s) ->
        at = its_s;
        push(its_tag);
        use_buffer();
        wake()
    :: C.state == LIVE && its_e == C.e && its_s > C.last && !NEXT(its_s) ->
        buffer(its_e, its_s, its_tag)
    :: C.state == OPENING -> buffer(its_e, its_s, its_tag)
    :: else
    fi
}

/* The reply to an open. The ring is kept if what it holds belongs to the epoch,
   and if the page goes on where it ends. */
inline load() {
    if
    :: C.e == e
    :: C.e != e && C.e != 0 && C.e == pe && C.last <= ps
    :: else -> C.last = 0; C.first = 1; C.tags = 0; C.e = 0
    fi;
    if
    :: C.e == 0 || C.last + 1 < from ->
        C.first = from;
        C.last = to;
        C.tags = tags;
        if
        :: to != s -> C.first = s + 1; C.last = s; C.tags = 0
        :: else
        fi
    :: else ->
        if
        :: to > C.last ->
            C.tags = C.tags | AFTER(tags, C.last);
            C.last = to
        :: else
        fi
    fi;
    C.e = e;
    C.floor = floor;
    if
    :: C.last < s -> C.want_open = 1
    :: C.last >= s && C.first <= C.last ->
        C.top = MAX(C.top, TAG(C.tags, C.last))
    :: C.last >= s && C.first > C.last -> C.top = MAX(C.top, top)
    fi;
    C.state = (C.want_open -> OPENING : LIVE);
    use_buffer();
    if
    :: C.buffer_e != 0 -> reopen()
    :: else
    fi
}

/* Both connections are given up. What is cached stays. */
inline go_down() {
    do :: heard[i]?_, _, _, _ :: len(heard[i]) == 0 -> break od;
    do :: requests[i]?_ :: len(requests[i]) == 0 -> break od;
    do
    :: replies[i]?_, _, _, _, _, _, _, _, _, _, _
    :: len(replies[i]) == 0 -> break
    od;
    C.link = DOWN; C.state = COLD;
    C.cmd_at = 0; C.sub_at = 0; C.id = 0; C.cmd_cut = 0; C.sub_cut = 0;
    C.subscribed = 0; C.want_open = 0; C.calling = 0; C.unanswered = 0;
    C.beat = 0; C.beat_reply = 0; C.beat_echo = 0; C.beat_top = 0;
    clear_buffer();
    if
    :: POLL_HERE(i) -> covered = 0
    :: else
    fi
}

/* "LIVE means: the cache has all that was published before the heartbeat." */
inline end_beat() {
    if
    :: C.beat_reply && C.beat_echo ->
        assert(C.state != LIVE || C.top >= C.beat_top);
        C.beat = 0; C.beat_reply = 0; C.beat_echo = 0; C.beat_top = 0
    :: else
    fi
}

inline opened() {
    C.calling = 0;
    if
    :: C.state == OPENING || C.state == LIVE ->
        load();
        if
        :: POLL_HERE(i) && covered -> judge_poll()
        :: else -> wake()
        fi
    :: else -> covered = (POLL_HERE(i) -> 0 : covered)
    fi
}

/* A page is never put into the ring. */
inline page_read() {
    C.calling = 0;
#ifdef BROKEN_PAGE
    if
    :: e == C.e && from <= to && from < C.first ->
        C.first = from;
        C.tags = C.tags | tags
    :: else
    fi;
#endif
    if
    :: C.state == LIVE && e != C.e -> reopen()
    :: else
    fi;
    if
    :: POLL_HERE(i) && covered -> judge_poll()
    :: else
    fi
}

inline compared() {
    C.calling = 0;
    if
    :: C.state != OPENING || C.want_open
    :: C.state == OPENING && !C.want_open && r == C.id && e == C.e &&
       s == C.last ->
        C.state = LIVE;
        use_buffer();
        if
        :: C.buffer_e != 0 -> reopen()
        :: else
        fi;
        wake()
    :: else -> C.want_open = 1
    fi
}

#define AT(i) server[inst[i].cmd_at]
#define WHOLE(i) (!inst[i].cmd_cut && !inst[i].sub_cut && AT(i).master && \
                  AT(i).id == inst[i].id)
#define CAN_WRITE(i) (inst[i].link == UP && !inst[i].cmd_cut && \
                      server[inst[i].cmd_at].master)
#ifdef BROKEN_SERVERS
#define SAME_ID true
#else
#define SAME_ID (server[k].id == C.id)
#endif
#ifdef BROKEN_EARLY
#define AFTER_SUBSCRIBE OPENING
#else
#define AFTER_SUBSCRIBE SUBSCRIBING
#endif
#define NEEDS_JUDGING(i) (POLL_HERE(i) && phase == FETCHING && !covered && \
                          page_from == 0)

byte forgets, beats;

inline any_server() {
    if
    :: k = 0
    :: k = 1
    fi
}

inline either() {
    if
    :: one = 0
    :: one = 1
    fi
}

proctype Member(byte i) {
    do
    /* One connection after the other; the greeting says role and identity. */
    :: d_step {
        C.link == DOWN && server[C.way].master ->
        C.link = GREETING;
        C.cmd_at = C.way;
        C.id = server[C.way].id
       }
    :: d_step {
        C.link == GREETING ->
        k = C.way;
        if
        :: server[k].master && SAME_ID -> C.link = UP; C.sub_at = k; look()
        :: else -> go_down()
        fi;
        k = 0
       }
    /* A heartbeat fails, or a connection is seen to be broken. */
    :: d_step { C.link == UP && (GIVES_UP || !WHOLE(i)) -> go_down() }

    :: d_step {
        C.link == UP && C.state == COLD && len(requests[i]) < 3 ->
        requests[i]!SUBSCRIBE;
        C.unanswered++;
        C.state = AFTER_SUBSCRIBE;
        C.want_open = (C.state == OPENING)
       }

    /* The channel is opened, or only compared if it was known; or a poll that
       cannot be judged by what is cached asks for an open that can. */
    :: d_step {
        CAN_WRITE(i) && !C.calling &&
        (C.state == OPENING && C.want_open ||
         C.state == LIVE && NEEDS_JUDGING(i)) ->
        k = C.cmd_at;
        if
        :: C.e != 0 -> open(k, C.id, C.e, C.last, C.last + 1, PAGE)
        :: else -> open(k, C.id, 0, 0, 0, NEWEST)
        fi;
        replies[i]!OPEN, r, e, s, floor, pe, ps, from, to, tags, top;
        C.calling = 1;
        C.want_open = 0;
        covered = (POLL_HERE(i) -> 1 : covered);
        k = 0
       }
    :: d_step {
        C.link == UP && !C.cmd_cut && !C.calling && C.state == OPENING &&
        C.want_open && C.e != 0 ->
        k = C.cmd_at;
        replies[i]!COMPARE, server[k].r, server[k].e, server[k].s, 0, 0, 0,
                   0, 0, 0, 0;
        C.calling = 1;
        C.want_open = 0;
        k = 0
       }
    :: d_step {
        CAN_WRITE(i) && !C.calling && POLL_HERE(i) && phase == FETCHING &&
        page_from > 0 ->
        k = C.cmd_at;
        open(k, C.id, C.e, C.last, page_from, PAGE);
        replies[i]!READ_PAGE, r, e, s, floor, pe, ps, from, to, tags, top;
        C.calling = 1;
        covered = 1;
        k = 0
       }

    /* Somebody publishes here. */
    :: d_step {
        CAN_WRITE(i) && number < PUBLISHES && len(replies[i]) < 2 ->
        k = C.cmd_at;
        publish(k, C.id, C.e, C.last);
        replies[i]!PUBLISH, r, server[k].e, server[k].s, 0, 0, 0, 0, 0,
                   number, 0;
        k = 0
       }

    :: d_step {
        CAN_WRITE(i) && beats < BEATS && !C.beat && len(replies[i]) < 2 ->
        beats++;
        k = C.cmd_at;
        C.beat = 1;
        C.beat_top = server[k].top;
        replies[i]!BEAT, server[k].id, 0, 0, 0, 0, 0, 0, 0, 0, 0;
        if
        :: REACHED(i, k) -> heard[i]!ECHO, 0, 0, 0
        :: else
        fi;
        k = 0
       }

    /* What comes on the subscription. */
    :: atomic {
        C.link == UP && len(heard[i]) > 0 -> either();
        d_step {
            heard[i]?kind, msg_e, msg_s, msg_tag;
            if
            :: kind == MESSAGE -> append(msg_e, msg_s, msg_tag)
            :: kind == SUBSCRIBED ->
                C.unanswered--;
                if
                :: C.state == SUBSCRIBING && C.unanswered == 0 -> reopen()
                :: else
                fi
            :: kind == UNSUBSCRIBED -> C.unanswered--
            :: kind == ECHO -> C.beat_echo = 1; end_beat()
            fi;
            one = 0
        }
       }

    /* What comes on the commands' connection. */
    :: atomic {
        C.link == UP && len(replies[i]) > 0 -> either();
        d_step {
            replies[i]?kind, r, e, s, floor, pe, ps, from, to, tags, top;
            if
            :: kind != COMPARE && r != C.id -> go_down()
            :: kind == OPEN && r == C.id -> opened()
            :: kind == READ_PAGE && r == C.id -> page_read()
            :: kind == COMPARE -> compared()
            :: kind == PUBLISH && r == C.id ->
                if
                :: C.state == LIVE -> append(e, s, tags)
                :: else
                fi
            :: kind == BEAT && r == C.id -> C.beat_reply = 1; end_beat()
            fi;
            one = 0
        }
       }

    /* A gap has not closed in time. */
    :: d_step { C.state == LIVE && C.buffer_e != 0 -> clear_buffer(); reopen() }

    /* Nobody has polled here for a while. */
    :: d_step {
        forgets < FORGETS && C.e != 0 && !POLL_HERE(i) &&
        len(requests[i]) < 3 ->
        forgets++;
        if
        :: C.link == UP && C.state != COLD ->
            requests[i]!UNSUBSCRIBE;
            C.unanswered++
        :: else
        fi;
        C.state = COLD; C.want_open = 0;
        C.e = 0; C.first = 0; C.last = 0; C.floor = 0; C.tags = 0; C.top = 0;
        clear_buffer()
       }
    od
}

/* ---- The client */

#define CONTINUOUS(i) (inst[i].e == ask_e && ask_s >= inst[i].floor && \
                       ask_s <= inst[i].last)

inline ask() {
    ask_kind = cursor_kind;
    ask_e = cursor_e;
    ask_s = cursor_s;
    had = (cursor_kind == FROM_CURSOR -> had : 0)
}

proctype Client() {
    byte i;
    if
    :: cursor_kind = FROM_START
    :: cursor_kind = FROM_NOW
    fi;
    do
    /* lpi_hub_poll */
    :: atomic {
        phase == IDLE ->
        if
        :: i = 0
        :: INSTANCES > 1 -> i = INSTANCES - 1
        fi;
        either();
        d_step {
            ask();
            here = i;
            phase = FETCHING;
            look();
            if
            :: ask_kind == FROM_CURSOR && CONTINUOUS(i) ->
                reason = NO_RESET; p = ask_s;
                serve()
            :: ask_kind == FROM_START && C.state == LIVE ->
                reason = NO_RESET; p = C.floor;
                serve()
            :: ask_kind == FROM_NOW && C.state == LIVE ->
                stand(C.e, C.last);
                phase = PARKED
#ifdef BROKEN_RESET
            :: ask_kind == FROM_CURSOR && !CONTINUOUS(i) && C.state == LIVE ->
                reason = (ask_e != C.e -> EPOCH : EVICTED);
                p = C.floor;
                pe = 0;
                reply(C.e, C.tags, C.last)
#endif
            :: else
            fi;
            i = 0; one = 0
        }
       }
    /* The wait ends with its own cursor. */
    :: d_step {
        phase == PARKED ->
        cursor_kind = FROM_CURSOR;
        cursor_e = ask_e;
        cursor_s = ask_s;
        end_poll()
       }
    /* It hangs up, or is told 503. */
    :: d_step { phase != IDLE -> end_poll() }
    /* It polls elsewhere, where an open is sent for it. */
    :: atomic {
        ELSEWHERE && phase == IDLE -> any_server(); either();
        d_step {
            if
            :: server[k].master ->
                ask();
                open(k, server[k].id, 0, 0, 0, HISTORY);
                judge();
                justified = 1;
                reply(e, tags, to)
            :: else
            fi;
            k = 0; one = 0
        }
       }
    od
}

/* ---- The others */

proctype Elsewhere() {
    do
    :: atomic {
        ELSEWHERE && number < PUBLISHES -> any_server();
        d_step {
            if
            :: server[k].master -> publish(k, server[k].id, 0, 0)
            :: else
            fi;
            k = 0
        }
       }
    od
}

/* What the servers do with SUBSCRIBE and UNSUBSCRIBE. */
proctype Server(byte i) {
    mtype what;
    do
    :: d_step {
        C.link == UP && !C.sub_cut && len(requests[i]) > 0 ->
        requests[i]?what;
        C.subscribed = (what == SUBSCRIBE);
        heard[i]!(what == SUBSCRIBE -> SUBSCRIBED : UNSUBSCRIBED), 0, 0, 0;
        what = 0
       }
    od
}

byte restarts, promotes, switches, kills, evicts, rollbacks;

inline copy(mine, its) {
    server[mine].e = server[its].e;
    server[mine].r = server[its].r;
    server[mine].s = server[its].s;
    server[mine].pe = server[its].pe;
    server[mine].ps = server[its].ps;
    server[mine].n = server[its].n;
    server[mine].tags = server[its].tags;
    server[mine].top = server[its].top
}

inline new_id(k) {
    ids++;
    server[k].id = ids
}

inline restart() {
    restarts++;
    if
    :: one && !server[1 - k].master -> copy(k, 1 - k)
    :: else
    fi;
    new_id(k);
    for (x : 0 .. INSTANCES - 1) {
        if
        :: inst[x].link != DOWN && inst[x].cmd_at == k -> inst[x].cmd_cut = 1
        :: else
        fi;
        if
        :: inst[x].link == UP && inst[x].sub_at == k -> inst[x].sub_cut = 1
        :: else
        fi
    }
    look()
}

/* The oldest message goes by its age; or, for want of memory, the whole stream
   or the hash. */
inline evict(what) {
    evicts++;
    if
    :: what == 0 && server[k].n > 0 -> server[k].n--
    :: what == 1 -> server[k].n = 0
    :: what == 2 ->
        server[k].e = 0; server[k].r = 0; server[k].pe = 0; server[k].ps = 0
    :: else
    fi;
    server[k].tags = AFTER(server[k].tags, FLOOR(k));
    if
    :: server[k].e == 0 && server[k].n == 0 -> server[k].s = 0
    :: else
    fi;
    look()
}

proctype World() {
    byte what;
    do
    /* A replica receives all that its primary has. */
    :: atomic {
        RESTARTS || PROMOTES || ROLLBACKS -> any_server();
        d_step {
            if
            :: server[k].master && !server[1 - k].master ->
                copy(1 - k, k);
                server[1 - k].id = server[k].id
            :: else
            fi;
            k = 0
        }
       }
    /* A primary restarts with all of its data, or with what was saved: that is
       what the replica has. */
    :: atomic {
        restarts < RESTARTS -> any_server(); either();
        d_step {
            if
            :: server[k].master -> restart()
            :: else
            fi;
            k = 0; one = 0
        }
       }
    :: atomic {
        promotes < PROMOTES -> any_server();
        d_step {
            if
            :: !server[k].master ->
                promotes++;
                server[k].master = 1;
                new_id(k)
            :: else
            fi;
            k = 0
        }
       }
    /* One of two primaries becomes a replica: its connections live on. */
    :: atomic {
        server[0].master && server[1].master -> any_server();
        d_step { server[k].master = 0; k = 0 }
       }
    :: atomic {
        switches < SWITCHES ->
        if
        :: what = 0
        :: INSTANCES > 1 -> what = INSTANCES - 1
        fi;
        d_step {
            switches++;
            inst[what].way = 1 - inst[what].way;
            what = 0
        }
       }
    :: atomic {
        kills < KILLS ->
        if
        :: what = 0
        :: INSTANCES > 1 -> what = INSTANCES - 1
        fi;
        d_step {
            if
            :: inst[what].link == UP -> kills++; inst[what].sub_cut = 1
            :: else
            fi;
            what = 0
        }
       }
    :: atomic {
        evicts < EVICTS -> any_server();
        if
        :: what = 0
        :: what = 1
        :: what = 2
        fi;
        d_step {
            if
            :: server[k].master -> evict(what)
            :: else
            fi;
            k = 0; what = 0
        }
       }
    /* Only the witness notices this, so that it has to be complete. */
    :: d_step {
        rollbacks < ROLLBACKS && server[0].master && !server[1].master &&
        inst[0].e == server[0].e && inst[0].last == server[0].s &&
        len(replies[0]) == 0 && len(heard[0]) == 0 ->
        rollbacks++;
        copy(0, 1);
        look()
       }
    od
}

init {
    atomic {
        server[0].master = 1;
        server[0].id = 1;
        server[1].id = 1;
        ids = 1;
        for (x : 0 .. INSTANCES - 1) {
            inst[x].link = DOWN;
            inst[x].state = COLD;
            run Member(x);
            run Server(x)
        }
        run Client();
        run Elsewhere();
        run World()
    }
}

/* ---- What must hold beside the assertions */

/* With nothing under way and both connections whole, at a server that is still
   the one that greeted, a LIVE cache has all that was published. */
#define SETTLED(i) (inst[i].link == UP && inst[i].state == LIVE && \
    len(heard[i]) == 0 && len(replies[i]) == 0 && len(requests[i]) == 0 && \
    WHOLE(i) && inst[i].buffer_e == 0)
#define COMPLETE(i) (!SETTLED(i) || inst[i].top >= AT(i).top)

/* A parked poll stands where the cache ends. */
#define PARKED_RIGHT (phase != PARKED || \
    (ask_e == inst[here].e && ask_s == inst[here].last))

/* For a channel that is being opened, and for a poll that waits for the store,
   a call is under way or can be sent. */
#define WAITS(i) (POLL_HERE(i) && phase == FETCHING && covered)
#define ASKED(i) (inst[i].calling || inst[i].want_open || \
                  (inst[i].state != OPENING && !WAITS(i)))

ltl sound {
    [] (COMPLETE(0) && COMPLETE(INSTANCES - 1) && PARKED_RIGHT &&
        ASKED(0) && ASKED(INSTANCES - 1))
}
