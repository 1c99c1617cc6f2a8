/* A model of longpoll.h, checked by spin; `tests/model/run` runs it.

   It asks whether DESIGN 3 holds: a client that sends back the cursor it was
   last given gets every message after it exactly once and in order, or is told
   at once that this cannot be proven. Never neither.

     Publisher   a thread in lp_publish                                C6
     Loop        a thread in lpi_loop_step                             G, E, C6
     Client      polls, hangs up, polls again
     World       time passes, the server is killed, a store loses its data

   What longpoll.h does in one hold of the hub's mutex is one atomic step here,
   and bears the name of its function. What it does between two holds touches
   only what is the thread's own, or a wake pipe, whose every use is a step by
   itself. A reply is sent, and read or lost, in the step that released the
   poll: in truth that takes time, but nobody else can tell, since the client's
   next request may come as late as it likes.

   The server may be killed only while both loops wait. That is no less: all
   that a kill leaves are the clients' cursors and what was published, and a
   loop that is killed within a step, or ends it with all its replies lost,
   leaves the same.

   Not modelled: bytes, HTTP, limits, timestamps and since=, the drain, failing
   allocations, channels that are fetching, when a sweep is due (it may come at
   any time). For those there are tests/unit and tests/sim.

   `total`, `base`, `had`, `from` and `to` are ghosts: they number all messages
   of a channel through all its lives, and only the assertions look at them.

   -DBROKEN_PARK, -DBROKEN_WAKE and -DBROKEN_JUDGE make servers that break the
   promise, which spin has to notice. */

/* ---- The bounds; tests/model/run sets them */

#ifndef CHANNELS
#define CHANNELS 1      /* or 2: the first client polls both, the other one
                           the second only                                   */
#endif
#ifndef CLIENTS
#define CLIENTS 2       /* or 1                                              */
#endif
#ifndef PUBLISHERS
#define PUBLISHERS 1    /* or 2                                              */
#endif
#ifndef PUBLISHES
#define PUBLISHES 3     /* by all of them together                           */
#endif
#ifndef HISTORY
#define HISTORY 1       /* messages of a channel: lp_config.history_count    */
#endif
#ifndef LIMIT
#define LIMIT 9         /* messages in a reply: 1, or more than there are    */
#endif
#define APART 0
#define TOGETHER 1
#define ANYWHERE 2
#ifndef HOME
#define HOME APART      /* the loops on which the two clients are: both on the
                           first, each on its own, or on any, poll by poll   */
#endif
#ifndef TIMEOUTS
#define TIMEOUTS 1      /* 0: no parked poll ever rings                      */
#endif
#ifndef HANGUPS
#define HANGUPS 1       /* 0: no client leaves a parked poll                 */
#endif
#ifndef EVICTS
#define EVICTS 0        /* how many messages go by age or by bytes           */
#endif
#ifndef FORGETS
#define FORGETS 0       /* how often a channel is forgotten                  */
#endif
#ifndef RESTARTS
#define RESTARTS 0      /* how often the server is killed                    */
#endif
#ifndef REPLACES
#define REPLACES 0      /* how often a store elsewhere loses a channel       */
#endif
#define LOOPS 2
#define SLICE 1         /* polls of one list in a turn: LPI_BATCH            */
#define TURNS 1         /* of lpi_deliver in a step: LPI_BATCHES             */

/* ---- C1 >>structs */

mtype = { IDLE, SENT, PARKED, GONE };           /* a connection: lpi_phase   */
mtype = { NO_RESET, EPOCH, EVICTED };           /* lpi_reason                */
mtype = { FROM_START, FROM_NOW, FROM_CURSOR };  /* lpi_requested.kind     */

typedef Channel {       /* lpi_channel                                       */
    bit made;           /* it is in hub->names                               */
    byte epoch;
    byte last, held;    /* it holds SEQ last - held + 1 to last              */
    byte base           /* ghost: the number of the message before SEQ 1     */
};

typedef Waiter {        /* lpi_waiter, or an lpi_cursor before it is one     */
    byte epoch;         /* epoch_number                                      */
    byte seq
};

typedef Cursor {        /* what a client was last given: lpi_requested   */
    mtype kind;
    byte epoch, seq;
    byte had            /* ghost: the message that it stands for             */
};

#define LIST(ch, loop) ((ch) * LOOPS + (loop))
#define WAITER(c, ch) ((c) * CHANNELS + (ch))
#define ASKS(c, ch) ((c) == 0 || (ch) == CHANNELS - 1)

/* Under the hub's mutex. */
Channel channel[CHANNELS];
chan parked[CHANNELS * LOOPS] = [CLIENTS] of { byte };  /* lpi_waiter_list.parked   */
bit is_ready[CHANNELS * LOOPS];                         /* lpi_waiter_list.ready    */
chan ready[LOOPS] = [CHANNELS] of { byte };     /* lpi_hub_loop.ready_first  */
bit sleeping[LOOPS], woken[LOOPS];
Waiter waiter[CLIENTS * CHANNELS];
byte epochs;            /* drawn so far; 64 random bits never come again     */
byte total[CHANNELS];   /* ghost: messages, in all lives                     */

/* Not under it. */
bit pipe[LOOPS];            /* lpi_loop.wake: there is something to read     */
byte signals[PUBLISHERS + 1];   /* masks: the loops that each has yet to
                               signal; the last one is World's               */
bit waiting[LOOPS];         /* in poller_wait                                */
mtype phase[CLIENTS] = IDLE;
byte where[CLIENTS];        /* on which loop                                 */
bit due[CLIENTS];           /* the parked poll's time is over                */
Cursor cursor[CLIENTS * CHANNELS];

/* What spin is to try both ways, and scratch that no step leaves to another. */
byte first;     /* the channel whose messages come first in a reply          */
bit lost;       /* the reply does not reach its client                       */
hidden byte ch, n, room, slice, from, to;
hidden mtype reason;

inline any_channel(which) {
    if
    :: which = 0
    :: CHANNELS > 1 -> which = CHANNELS - 1
    fi
}

inline any_fate() {
    any_channel(first);
    if
    :: lost = 0
    :: lost = 1
    fi
}

/* ---- C3 >>channel */

#define FLOOR(ch) (channel[ch].last - channel[ch].held)  /* lpi_channel_floor */

/* lpi_channel_judge: `reason`, and in the waiter where to go on. What `0` and `now` stand
   for is decided here, so this is where the client's promise starts. */
inline judge(c, ch) {
    reason = NO_RESET;
    waiter[WAITER(c, ch)].seq = FLOOR(ch);
    if
    :: cursor[WAITER(c, ch)].kind == FROM_START ->
        cursor[WAITER(c, ch)].had = channel[ch].base + FLOOR(ch)
    :: cursor[WAITER(c, ch)].kind == FROM_NOW ->
        waiter[WAITER(c, ch)].seq = channel[ch].last;
        cursor[WAITER(c, ch)].had = channel[ch].base + channel[ch].last
    :: cursor[WAITER(c, ch)].kind == FROM_CURSOR ->
        judge_cursor(cursor[WAITER(c, ch)], c, ch)
    fi
}

/* lpi_channel_judge_cursor. No client here lies, so none may be told `ahead`. */
inline judge_cursor(claim, c, ch) {
    if
    :: claim.epoch != channel[ch].epoch -> reason = EPOCH
    :: else ->
        assert(claim.seq <= channel[ch].last);
        if
        :: claim.seq < FLOOR(ch) -> reason = EVICTED
        :: else -> waiter[WAITER(c, ch)].seq = claim.seq
        fi
    fi
}

/* ---- C3 >>channel, C6 >>hub */

#define EMPTY(ch, loop) (len(parked[LIST(ch, loop)]) == 0)
#define HAS_LIST(ch, loop) (!EMPTY(ch, loop) || is_ready[LIST(ch, loop)])

/* lpi_channel_update_lists: what makes a channel idle. */
#define IS_IDLE(ch) (channel[ch].made && !channel[ch].held && \
                     !HAS_LIST(ch, 0) && !HAS_LIST(ch, 1))

/* lpi_channel_evict: the oldest, whatever the reason. */
inline evict(ch) {
    channel[ch].held--
}

/* lpi_channel_forget */
inline forget(ch) {
    channel[ch].made = 0;
    channel[ch].epoch = 0;
    channel[ch].last = 0;
    channel[ch].held = 0;
    channel[ch].base = 0
}

/* lpi_hub_channel, lpi_channel_make */
inline get(ch) {
    if
    :: !channel[ch].made ->
        channel[ch].made = 1;
        epochs++;
        channel[ch].epoch = epochs;
        channel[ch].base = total[ch]
    :: else
    fi
}

/* lpi_waiter_list_make_ready */
inline make_ready(ch, loop) {
    if
    :: !is_ready[LIST(ch, loop)] ->
        is_ready[LIST(ch, loop)] = 1;
        ready[loop]!ch
    :: else
    fi
}

/* lpi_channel_wake */
inline wake_lists(ch) {
    if
    :: HAS_LIST(ch, 0) -> make_ready(ch, 0)
    :: else
    fi;
    if
    :: HAS_LIST(ch, 1) -> make_ready(ch, 1)
    :: else
    fi
}

/* lpi_hub_sleepers */
#define SLEEPER(loop) (len(ready[loop]) > 0 && sleeping[loop] && !woken[loop])

inline note_sleepers(mask) {
    if
    :: SLEEPER(0) -> woken[0] = 1; mask = mask | 1
    :: else
    fi;
    if
    :: SLEEPER(1) -> woken[1] = 1; mask = mask | 2
    :: else
    fi
}

/* lpi_hub_unlock_and_signal: a step for each loop, outside the mutex. */
inline signal(mask) {
    do
    :: d_step { mask & 1 -> pipe[0] = 1; mask = mask & 2 }
    :: d_step { mask == 2 -> pipe[1] = 1; mask = 0 }
    :: mask == 0 -> break
    od
}

/* lpi_channel_append */
inline append(ch) {
    if
    :: channel[ch].held == HISTORY -> evict(ch)
    :: else
    fi;
    channel[ch].last++;
    channel[ch].held++;
    total[ch]++
}

/* ---- C5 >>waiter */

/* lpi_waiter_is_behind */
#define BEHIND(c, ch) (waiter[WAITER(c, ch)].epoch != channel[ch].epoch || \
                       waiter[WAITER(c, ch)].seq < channel[ch].last)

/* lpi_waiters_park. Where each waiter stands has been judged. */
inline enter(c, loop) {
    for (ch : 0 .. CHANNELS - 1) {
        if
        :: ASKS(c, ch) ->
            waiter[WAITER(c, ch)].epoch = channel[ch].epoch;
            parked[LIST(ch, loop)]!c
        :: else
        fi
    }
    phase[c] = PARKED
}

/* lpi_waiters_unpark. Lists without waiters are gone then: HAS_LIST. */
inline leave(c, loop) {
    for (ch : 0 .. CHANNELS - 1) {
        if
        :: ASKS(c, ch) -> parked[LIST(ch, loop)]??eval(c)
        :: else
        fi
    }
    due[c] = 0
}

/* lpi_waiters_cursors, for one of them. */
inline judge_again(c, ch) {
    reason = NO_RESET;
#ifndef BROKEN_JUDGE
    if
    :: waiter[WAITER(c, ch)].epoch != channel[ch].epoch -> reason = EPOCH
    :: else ->
        if
        :: waiter[WAITER(c, ch)].seq < FLOOR(ch) -> reason = EVICTED
        :: else
        fi
    fi;
    if
    :: reason != NO_RESET -> waiter[WAITER(c, ch)].seq = FLOOR(ch)
    :: else
    fi
#endif
}

/* ---- What a client makes of a reply */

/* The promise, for one channel of a reply with the messages after `from` up to
   `to`: it goes on where the client's cursor stood, or says why it does not.
   A reset has its reason, and repeats nothing either. */
inline check(own, c, ch) {
    if
    :: reason == NO_RESET -> assert(from == own.had)
    :: reason == EVICTED -> assert(from > own.had)
    :: reason == EPOCH ->
        assert(from >= own.had);
        assert(own.kind != FROM_CURSOR || own.epoch != channel[ch].epoch)
    fi;
    own.kind = FROM_CURSOR;
    own.epoch = channel[ch].epoch;
    own.seq = n;
    own.had = to
}

/* What was not received gave no cursor; `0` and `now` will be read anew. */
inline lose(own) {
    if
    :: own.kind != FROM_CURSOR -> own.had = 0
    :: else
    fi
}

inline clear_waiter(c, ch) {
    waiter[WAITER(c, ch)].epoch = 0;
    waiter[WAITER(c, ch)].seq = 0
}

/* ---- C6 >>hub: the answer */

/* lpi_reply_gather, lpi_reply_note: of one channel, from where the waiter stands,
   up to `room` messages of those that are held; and what becomes of them. */
inline answer_part(c, ch) {
    n = waiter[WAITER(c, ch)].seq;
    if
    :: n < FLOOR(ch) -> n = FLOOR(ch)
    :: else
    fi;
    from = channel[ch].base + n;
    do
    :: n < channel[ch].last && room > 0 -> n++; room--
    :: else -> break
    od;
    to = channel[ch].base + n;
    if
    :: lost -> lose(cursor[WAITER(c, ch)])
    :: else -> check(cursor[WAITER(c, ch)], c, ch)
    fi;
    clear_waiter(c, ch)
}

#define NTH(i) ((first + (i)) % CHANNELS)

/* lpi_hub_release: end a wait and answer. Messages of several channels are merged
   by time, so that the limit may cut either one: `first` is any. */
inline release(c, loop) {
    leave(c, loop);
    room = LIMIT;
    for (ch : 0 .. CHANNELS - 1) {
        if
        :: ASKS(c, NTH(ch)) ->
            judge_again(c, NTH(ch));
            answer_part(c, NTH(ch))
        :: else
        fi
    }
    phase[c] = IDLE
}

/* lpi_hub_take_list. The slice may end before the list does. */
inline deliver_list(loop, v, c) {
    ready[loop]?v;
    slice = SLICE;
    do
    :: !EMPTY(v, loop) ->
        parked[LIST(v, loop)]?<c>;
        if
        :: BEHIND(c, v) && slice > 0 -> release(c, loop); slice--
        :: else -> break
        fi
    :: else -> break
    od;
    is_ready[LIST(v, loop)] = 0;
    if
    :: !EMPTY(v, loop) && BEHIND(c, v) -> make_ready(v, loop)
    :: else
    fi
}

/* ---- C6 >>hub: lpi_hub_poll */

/* lpi_hub_find_channels, lpi_hub_judge: find or make the channels, judge all
   cursors, answer at once if there is a message or a reset. */
inline compare(c, at_once) {
    for (ch : 0 .. CHANNELS - 1) {
        if
        :: ASKS(c, ch) ->
            get(ch);
            judge(c, ch);
            if
            :: reason != NO_RESET || waiter[WAITER(c, ch)].seq < channel[ch].last ->
                at_once = 1
            :: else
            fi
        :: else
        fi
    }
}

/* lpi_batch_add by lpi_hub_park_or_reply: an answer without a wait. */
inline answer(c) {
    room = LIMIT;
    for (ch : 0 .. CHANNELS - 1) {
        if
        :: ASKS(c, NTH(ch)) ->
            judge(c, NTH(ch));      /* for its `reason`: nothing has changed */
            answer_part(c, NTH(ch))
        :: else
        fi
    }
    phase[c] = IDLE
}

/* lpi_hub_park_or_reply: the answer, or the park. */
inline settle(c, loop, at_once) {
    if
    :: at_once -> answer(c)
    :: else -> enter(c, loop)
    fi
}

/* lpi_read_hangup, lpi_close of a poll that is parked. */
inline hangup(c, loop) {
    leave(c, loop);
    for (ch : 0 .. CHANNELS - 1) {
        lose(cursor[WAITER(c, ch)]);
        clear_waiter(c, ch)
    }
    phase[c] = IDLE
}

/* ---- G >>loop: lpi_loop_step, for ever */

#define EVENT(c, loop) ((c) < CLIENTS && where[c] == loop && \
                        (phase[c] == SENT || phase[c] == GONE))
#define RINGS(c, loop) ((c) < CLIENTS && where[c] == loop && \
                        phase[c] == PARKED && due[c])
#define SECOND (CLIENTS - 1)
#define EVENTS(loop) (EVENT(0, loop) | EVENT(SECOND, loop) << SECOND)
#define RING(loop) (RINGS(0, loop) || RINGS(SECOND, loop))

/* No timer is due, or it became due too late for this step. */
#define RUNG(loop) (turns < TURNS || !RING(loop))

proctype Loop(byte me) {
    byte c, v, turns;
    byte seen;      /* the clients of whom poller_wait has told: a mask      */
    bit heard;      /* it has told that the pipe can be read                 */
    bit work, at_once;
    do
    ::  /* lpi_loop_sleep, lpi_hub_sleep */
        d_step {
            work = len(ready[me]) > 0;
            sleeping[me] = !work;
            waiting[me] = 1
        }
        /* poller_wait */
end_wait:
        d_step {
            work || pipe[me] || EVENTS(me) || RING(me);
            seen = EVENTS(me);
            heard = pipe[me];
            waiting[me] = 0;
            work = 0
        }
        /* lpi_hub_wake */
        d_step { sleeping[me] = 0; woken[me] = 0; turns = TURNS }
        do
        /* lpi_loop_event, one by one in any order: wake_clear, lpi_poll (with
           timeout=0 it is answered at once), lpi_read_hangup. */
        :: d_step { heard -> pipe[me] = 0; heard = 0 }
        :: atomic {
            seen ->
            if
            :: seen & 1 -> c = 0
            :: seen & 2 -> c = 1
            fi;
            seen = seen & ~(1 << c);
            if
            :: phase[c] == GONE -> d_step { hangup(c, me) }; goto served
            :: phase[c] == SENT -> at_once = 0
            :: phase[c] == SENT -> at_once = 1
            fi;
            d_step { compare(c, at_once); ch = 0 };
#ifdef BROKEN_PARK
           }
           atomic {
#endif
            any_fate();
            d_step { settle(c, me, at_once); first = 0; lost = 0; at_once = 0 };
served:     c = 0
           }
        /* lpi_loop_expire: lpi_poll_expire, one after the other */
        :: atomic {
            !heard && !seen && turns == TURNS && RING(me) ->
            any_fate();
            d_step {
                c = (RINGS(0, me) -> 0 : SECOND);
                release(c, me);
                c = 0; first = 0; lost = 0
            }
           }
        /* lpi_deliver */
        :: atomic {
            !heard && !seen && RUNG(me) && turns > 0 && len(ready[me]) > 0 ->
            any_fate();
            d_step {
                deliver_list(me, v, c);
                c = 0; v = 0; first = 0; lost = 0; turns--
            }
           }
        :: d_step {
            !heard && !seen && RUNG(me) &&
            (turns == 0 || len(ready[me]) == 0) -> turns = 0
           };
            break
        od
    od
}

/* ---- C6 >>hub: lpi_hub_publish, a few times */

byte published;

proctype Publisher(byte me) {
    byte to_channel;
    do
    :: atomic {
        published < PUBLISHES ->
        published++;
        any_channel(to_channel);
        d_step {
            get(to_channel);
#ifndef BROKEN_WAKE
            append(to_channel);
#endif
            wake_lists(to_channel);
            note_sleepers(signals[me])
        }
       }
       signal(signals[me]);
#ifdef BROKEN_WAKE
       atomic { get(to_channel); append(to_channel) };
#endif
       to_channel = 0
    :: published == PUBLISHES -> break
    od
}

/* ---- Who polls. What it does with replies is above. */

proctype Client(byte me) {
    if
    :: d_step {
        for (ch : 0 .. CHANNELS - 1) {
            cursor[WAITER(me, ch)].kind = FROM_START
        }
        ch = 0
       }
    :: d_step {
        for (ch : 0 .. CHANNELS - 1) {
            cursor[WAITER(me, ch)].kind = FROM_NOW
        }
        ch = 0
       }
    fi;
    do
    :: atomic {
        phase[me] == IDLE ->
        if
        :: HOME != APART || me == 0 -> where[me] = 0
        :: HOME == ANYWHERE || HOME == APART && me == 1 -> where[me] = 1
        fi;
        phase[me] = SENT
       }
    :: d_step { TIMEOUTS && phase[me] == PARKED && !due[me] -> due[me] = 1 }
    :: d_step { HANGUPS && phase[me] == PARKED ->
        phase[me] = GONE; due[me] = 0
       }
    :: phase[me] == PARKED  /* it waits on, for ever if need be */
    od
}

/* ---- What else happens */

/* All memory is gone and all connections break. */
inline restart() {
    for (ch : 0 .. CHANNELS - 1) {
        forget(ch);
        do :: parked[LIST(ch, 0)]?_ :: EMPTY(ch, 0) -> break od;
        do :: parked[LIST(ch, 1)]?_ :: EMPTY(ch, 1) -> break od;
        is_ready[LIST(ch, 0)] = 0;
        is_ready[LIST(ch, 1)] = 0
    }
    for (n : 0 .. LOOPS - 1) {
        do :: ready[n]?_ :: len(ready[n]) == 0 -> break od;
        sleeping[n] = 1; woken[n] = 0; pipe[n] = 0
    }
    for (n : 0 .. PUBLISHERS) {
        signals[n] = 0
    }
    for (n : 0 .. CLIENTS - 1) {
        for (ch : 0 .. CHANNELS - 1) {
            lose(cursor[WAITER(n, ch)]);
            clear_waiter(n, ch)
        }
        due[n] = 0; phase[n] = IDLE
    }
}

byte evicts, forgets, restarts, replaces;

proctype World() {
    byte which;
    do
    :: atomic {     /* by age or bytes: lpi_hub_sweep, lpi_channel_find ...  */
        evicts < EVICTS -> any_channel(which);
        if
        :: channel[which].held > 0 -> d_step { evict(which); evicts++ }
        :: else
        fi;
        which = 0
       }
    :: atomic {     /* lpi_hub_sweep, lpi_channel_find, lpi_channel_make     */
        forgets < FORGETS -> any_channel(which);
        if
        :: IS_IDLE(which) -> d_step { forget(which); forgets++ }
        :: else
        fi;
        which = 0
       }
    :: d_step { restarts < RESTARTS && waiting[0] && waiting[1] ->
        restart(); restarts++
       }
    :: d_step {     /* what lpi_channel.epoch_number is for              */
        replaces < REPLACES && channel[CHANNELS - 1].made ->
        forget(CHANNELS - 1);
        get(CHANNELS - 1);
        wake_lists(CHANNELS - 1);
        note_sleepers(signals[PUBLISHERS]);
        replaces++
       }
       signal(signals[PUBLISHERS])
    :: published <= PUBLISHES   /* always so: nothing, for ever if need be   */
    od
}

init {
    atomic {
        run Loop(0);
        run Loop(1);
        run Publisher(0);
        if
        :: PUBLISHERS > 1 -> run Publisher(1)
        :: else
        fi;
        run Client(0);
        if
        :: CLIENTS > 1 -> run Client(1)
        :: else
        fi;
        run World()
    }
}

/* ---- What must hold beside the assertions */

#define WAITS(c) (phase[c] == PARKED || phase[c] == GONE)
#define BEHIND_IN(c, ch) (WAITS(c) && ASKS(c, ch) && BEHIND(c, ch))
#define QUEUED_IN(c, ch) (!BEHIND_IN(c, ch) || is_ready[LIST(ch, where[c])])
#define LAST_CHANNEL (CHANNELS - 1)
#define QUEUED(c) (QUEUED_IN(c, 0) && QUEUED_IN(c, LAST_CHANNEL))
#define LATE(c) (phase[c] == PARKED && \
                 (BEHIND_IN(c, 0) || BEHIND_IN(c, LAST_CHANNEL)))
#define SIGNALS (signals[0] | signals[PUBLISHERS - 1] | signals[PUBLISHERS])
#define ROUSED(loop) (!(sleeping[loop] && len(ready[loop]) > 0) || \
                      (woken[loop] && (pipe[loop] || SIGNALS >> loop & 1)))

/* A poll that is behind stands in a list that is ready; and a loop that sleeps
   though a list is ready has been signalled, or is about to be. */
ltl sound { [] (QUEUED(0) && QUEUED(SECOND) && ROUSED(0) && ROUSED(1)) }

/* A parked poll that is behind is answered in the end, if its client stays. No
   timeout helps, since none has to come. */
ltl answered { [] (LATE(0) -> <> !LATE(0)) }
ltl answered_second { [] (LATE(SECOND) -> <> !LATE(SECOND)) }

/* And every request is served. */
ltl served { [] (phase[0] == SENT -> <> (phase[0] != SENT)) }
