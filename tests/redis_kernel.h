/* redis_kernel.h: paths from the servers on kernels of tests/kernel.h to the simulated Redis of
   tests/redis.h.

   A path stands for an address. It may lead to any of several redis servers, like a proxy in
   front of a primary and its replica, and may fail in each way that a network can. A link is one
   connection over it. Time is whatever the driver passes as now_us; nothing moves but within
   redis_net_move().

       static redis_net net;                  zero: no paths
       k.net = &redis_kernel_net;             before kernel_os()
       k.net_ctx = &net;
       redis_path *p = redis_path_add(&net, "127.0.0.1", 6379, s);
       redis_net_move(&net, now_us);          all that has arrived by now is taken
       redis_net_due(&net)                    when something arrives next; UINT64_MAX: nothing
                                              is on its way
       redis_net_free(&net);                  after the servers are destroyed

   What a path does, to be set at any time:

       p->to = other;                         where connections lead that are made from now on;
                                              NULL: they are refused
       redis_path_cut(&net, p);               all its connections are reset, both ways
       p->held = 1;                           no byte and no end gets through, and nothing is
                                              closed; connections are not answered. 0: it all
                                              arrives
       p->held_back = 1;                      likewise, of what the store says
       p->refuses = 1;                        new connections only
       p->late_us, p->late_more_us;           a piece takes so long, and up to so much more
       p->piece                               a piece has that many bytes at most; 0: any number
       p->from                          whose kernel it serves; NULL: any

   What is on its way when a path is cut is lost. What a server that is `down` was sent is lost
   too, and its connections end when their output has arrived. */

#ifndef TESTS_REDIS_KERNEL_H
#define TESTS_REDIS_KERNEL_H

#include "redis.h"

typedef struct redis_piece {
    struct redis_piece *next;
    uint64_t due_us;
    size_t length;
    int end;                /* the sender has closed                            */
    char bytes[1];
} redis_piece;

/* One way of a link: pieces in their order. */
typedef struct redis_way {
    redis_piece *first, **last;
    uint64_t due_us;        /* of the last piece                                */
    int ended;              /* its end is on the way, or has arrived            */
} redis_way;

typedef struct redis_path {
    struct redis_path *next;
    lp_address address;
    const char *unix_path;  /* or NULL                                          */
    const kernel *from;
    redis *to;
    int held, held_back, refuses;
    uint64_t late_us, late_more_us;
    size_t piece;
    uint32_t dialled;       /* how many connections were begun                  */
} redis_path;

typedef struct redis_link {
    struct redis_link *next;
    struct redis_net *net;
    redis_path *path;
    kernel *k;
    stream *s;              /* NULL: the server has closed its end              */
    redis_conn *conn;       /* NULL: not connected yet, or not any more         */
    redis *to;
    redis_way there, back;
    int answering;          /* a piece with no bytes tells whether it is made   */
    int was;                /* it was connected                                 */
} redis_link;

typedef struct redis_net {
    redis_path *paths;
    redis_link *links;
    uint64_t random, now_us;
} redis_net;

/* ---- pieces ---- */

static uint64_t redis_net_random(redis_net *net)
{
    uint64_t z = (net->random += UINT64_C(0x9e3779b97f4a7c15));
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

static void redis_way_add(redis_link *l, redis_way *w, const char *bytes, size_t n, int end)
{
    const redis_path *p = l->path;
    redis_piece *piece = (redis_piece *)redis_realloc(NULL, sizeof *piece + n);
    uint64_t due = l->net->now_us + p->late_us;
    if (p->late_more_us) due += redis_net_random(l->net) % (p->late_more_us + 1);
    if (due < w->due_us) due = w->due_us;
    w->due_us = due;
    piece->next = NULL;
    piece->due_us = due;
    piece->length = n;
    piece->end = end;
    if (n) memcpy(piece->bytes, bytes, n);
    if (!w->first) w->last = &w->first;
    *w->last = piece;
    w->last = &piece->next;
    if (end) w->ended = 1;
}

static void redis_way_send(redis_link *l, redis_way *w, const char *bytes, size_t n)
{
    size_t max = l->path->piece ? l->path->piece : n;
    while (n) {
        size_t part = n < max ? n : max;
        redis_way_add(l, w, bytes, part, 0);
        bytes += part;
        n -= part;
    }
}

static void redis_way_drop(redis_way *w)
{
    while (w->first) {
        redis_piece *next = w->first->next;
        free(w->first);
        w->first = next;
    }
}

static redis_piece *redis_way_take(redis_way *w, uint64_t now_us)
{
    redis_piece *piece = w->first;
    if (!piece || piece->due_us > now_us) return NULL;
    w->first = piece->next;
    return piece;
}

/* ---- what the kernel asks ---- */

static redis_path *redis_path_find(redis_net *net, const kernel *k, const lp_address *to,
                                   const char *path)
{
    redis_path *p = net->paths;
    for (; p; p = p->next) {
        if (p->from && p->from != k) continue;
        if (path ? p->unix_path && !strcmp(path, p->unix_path)
                 : !p->unix_path && !memcmp(to->bytes, p->address.bytes, 16) &&
                       to->port == p->address.port)
            return p;
    }
    return NULL;
}

static stream *redis_link_connect(kernel *k, const lp_address *to, const char *path, int *error)
{
    redis_net *net = (redis_net *)k->net_ctx;
    redis_path *p = redis_path_find(net, k, to, path);
    redis_link *l;
    *error = ENETUNREACH;
    if (!p) return NULL;
    p->dialled++;
    l = (redis_link *)redis_zeroed(sizeof *l);
    l->net = net;
    l->path = p;
    l->k = k;
    l->s = (stream *)redis_zeroed(sizeof *l->s);
    l->s->connecting = 1;
    l->s->window = SIZE_MAX;
    l->s->far = l;
    l->next = net->links;
    net->links = l;
    l->answering = 1;
    redis_way_add(l, &l->back, "", 0, 0);
    return l->s;
}

static void redis_link_sent(stream *s, const lp_slice *parts, size_t n)
{
    redis_link *l = (redis_link *)s->far;
    for (; n; parts++) {
        size_t part = parts->length < n ? parts->length : n;
        redis_way_send(l, &l->there, parts->bytes, part);
        n -= part;
    }
}

static void redis_link_ended(stream *s)
{
    redis_link *l = (redis_link *)s->far;
    if (!l->there.ended) redis_way_add(l, &l->there, "", 0, 1);
}

static void redis_link_closed(stream *s)
{
    redis_link *l = (redis_link *)s->far;
    if (!l->there.ended) redis_way_add(l, &l->there, "", 0, 1);
    l->s = NULL;
    free(s->in);
    free(s);
}

REDIS_UNUSED static const kernel_net redis_kernel_net = {redis_link_connect, redis_link_sent,
                                                         redis_link_ended, redis_link_closed};

/* ---- what arrives ---- */

/* What has come for the server, behind what it has not read yet. */
static void redis_link_put(stream *s, const char *bytes, size_t n)
{
    size_t unread = s->in_length - s->in_at;
    if (s->in_at) memmove(s->in, s->in + s->in_at, unread);
    s->in_at = 0;
    s->in_length = unread;
    if (unread + n > s->in_size) {
        s->in_size = (unread + n) * 2 + 256;
        s->in = (char *)redis_realloc(s->in, s->in_size);
    }
    memcpy(s->in + unread, bytes, n);
    s->in_length += n;
}

static void redis_link_answer(redis_link *l)
{
    l->answering = 0;
    l->to = l->path->to;
    if (!l->s || l->s->ended) return;
    if (!l->path->refuses && l->to) l->conn = redis_connect(l->to);
    if (l->conn) l->conn->user = l;
    l->was = l->conn != NULL;
    kernel_answered(l->k, l->s, l->conn ? 0 : ECONNREFUSED);
}

/* Take what the store says, if it gets anywhere. */
static void redis_link_hear(redis_link *l)
{
    size_t n;
    const char *bytes;
    if (!l->conn || l->path->held || l->path->held_back) return;
    bytes = redis_output(l->conn, &n);
    redis_way_send(l, &l->back, bytes, n);
    redis_take(l->conn, n);
    if (!l->conn->closed) return;
    redis_way_add(l, &l->back, "", 0, 1);
    redis_close(l->conn);
    l->conn = NULL;
}

static void redis_link_move_there(redis_link *l)
{
    redis_piece *piece;
    while ((piece = redis_way_take(&l->there, l->net->now_us))) {
        if (l->conn && piece->length) redis_receive(l->conn, piece->bytes, piece->length);
        if (l->conn && piece->end) {
            redis_close(l->conn);
            l->conn = NULL;
        }
        free(piece);
    }
}

static void redis_link_move_back(redis_link *l)
{
    redis_piece *piece;
    while ((piece = redis_way_take(&l->back, l->net->now_us))) {
        if (l->answering) redis_link_answer(l);
        if (l->s && !l->s->rst && piece->length && !(l->s->ended & LP_READ))
            redis_link_put(l->s, piece->bytes, piece->length);
        if (l->s && piece->end) l->s->fin = 1;
        if (l->s) kernel_refresh_stream(l->k, l->s);
        free(piece);
    }
}

static void redis_link_free(redis_link *l)
{
    redis_way_drop(&l->there);
    redis_way_drop(&l->back);
    if (l->conn) redis_close(l->conn);
    free(l);
}

/* All that has arrived by now is taken: by the stores first, whose answers then come back. */
REDIS_UNUSED static void redis_net_move(redis_net *net, uint64_t now_us)
{
    redis_link *l, **at;
    net->now_us = now_us;
    for (l = net->links; l; l = l->next)
        if (!l->path->held) redis_link_move_there(l);
    for (l = net->links; l; l = l->next) redis_link_hear(l);
    for (at = &net->links; (l = *at);) {
        if (!l->path->held && !l->path->held_back) redis_link_move_back(l);
        if (l->s || l->conn || l->there.first) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        redis_link_free(l);
    }
}

REDIS_UNUSED static uint64_t redis_net_due(const redis_net *net)
{
    uint64_t due = UINT64_MAX;
    const redis_link *l;
    for (l = net->links; l; l = l->next) {
        if (l->path->held) continue;
        if (l->there.first && l->there.first->due_us < due) due = l->there.first->due_us;
        if (l->path->held_back) continue;
        if (l->back.first && l->back.first->due_us < due) due = l->back.first->due_us;
        if (l->conn && (l->conn->out.length != l->conn->out.from || l->conn->closed))
            due = net->now_us;
    }
    return due;
}

/* ---- paths ---- */

REDIS_UNUSED static redis_path *redis_path_add(redis_net *net, const char *host, uint16_t port,
                                               redis *to)
{
    redis_path *p = (redis_path *)redis_zeroed(sizeof *p);
    lpi_address_parse(lp_s(host), p->address.bytes);
    p->address.port = port;
    p->to = to;
    p->next = net->paths;
    net->paths = p;
    return p;
}

REDIS_UNUSED static void redis_link_cut(redis_link *l)
{
    redis_way_drop(&l->there);
    redis_way_drop(&l->back);
    if (l->conn) redis_close(l->conn);
    l->conn = NULL;
    if (!l->s) return;
    if (l->s->connecting) kernel_answered(l->k, l->s, ECONNRESET);
    l->answering = 0;
    l->s->rst = 1;
    kernel_refresh_stream(l->k, l->s);
}

/* Whatever is on its way is lost, and both ends hear of it. */
REDIS_UNUSED static void redis_path_cut(redis_net *net, const redis_path *p)
{
    redis_link *l;
    for (l = net->links; l; l = l->next)
        if (l->path == p) redis_link_cut(l);
}

REDIS_UNUSED static void redis_net_free(redis_net *net)
{
    while (net->links) {
        redis_link *next = net->links->next;
        redis_link_free(net->links);
        net->links = next;
    }
    while (net->paths) {
        redis_path *next = net->paths->next;
        free(net->paths);
        net->paths = next;
    }
}

#endif /* TESTS_REDIS_KERNEL_H */
