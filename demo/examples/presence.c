/* Presence: who is in a room, on one server or on many over Redis.

   Who is in the room "lobby" as "ann" polls, or streams, three channels at
   once:

     curl -H 'X-Client-ID: ann' \
       localhost:8080/api/poll/lobby,presence:lobby,here:lobby:ann

   "here:lobby:ann" is hers alone and carries nothing. Somebody waits on it, and
   so she is there: lp_watch tells when the first poll is parked on it, and when
   none has been for channel_linger_ms. So to poll again is no absence, and who
   has several tabs is there once. On "presence:lobby" it is told who joined and
   who left:

     {"type":"joined","room":"lobby","who":"ann","at":"5f0c94d1a2b3e687"}

   GET /presence/lobby gives the list. A page that wants to be right at any time
   asks for it when it begins, and again for each message of presence:lobby.

   Each of several servers announces its own people on "presence", all of them
   again with every beat, and listens there to the others, by a stream of its
   own. Whom nobody has announced for three beats is gone: with the server.

     presence [--beat SECONDS] [--FIELD VALUE]...      fields of lp_config:
                                                      --redis redis://127.0.0.1

   A name is what the client says. In a program of yours lp_authorize should
   look at who is signed in. */

#define LONGPOLL_IMPLEMENTATION
#include "longpoll.h"

#include <signal.h>

enum { NAME = 64, ID = 33 }; /* bytes, with a NUL */

typedef struct person {
    char room[NAME], who[NAME];
    char at[ID];     /* the server that announced her                        */
    uint64_t until;  /* of another server: she is gone then, in seconds      */
} person;

static lp_server *server;
static uint32_t beat_s = 10;
static char me[ID];  /* this server's name                                   */
static char key[ID]; /* nobody else knows it                                 */

/* Everybody, in no order; a program with thousands would use a hash table. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static person *people;
static size_t count, room_for;
static int stopped;

/* --- names and messages --- */

static int good_name(lp_slice name)
{
    size_t i;
    for (i = 0; i < name.length; i++)
        if (!strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                    "0123456789._-", name.bytes[i] ? name.bytes[i] : ':'))
            return 0;
    return name.length && name.length < NAME;
}

static int starts(lp_slice text, const char *with)
{
    size_t n = strlen(with);
    return text.length >= n && !memcmp(text.bytes, with, n);
}

static int same(lp_slice text, const char *as)
{
    return text.length == strlen(as) && starts(text, as);
}

/* "here:ROOM:WHO". 0 if it is not, or a name is not good. */
static int parse_here(lp_slice channel, lp_slice *room, lp_slice *who)
{
    const char *colon;
    if (!starts(channel, "here:")) return 0;
    room->bytes = channel.bytes + 5;
    room->length = channel.length - 5;
    colon = (const char *)memchr(room->bytes, ':', room->length);
    if (!colon) return 0;
    who->bytes = colon + 1;
    who->length = (size_t)(room->bytes + room->length - who->bytes);
    room->length = (size_t)(colon - room->bytes);
    return good_name(*room) && good_name(*who);
}

static void add_member(lp_json *json, const char *name, const char *value)
{
    lp_json_key(json, lp_s(name));
    lp_json_string(json, lp_s(value));
}

/* To the other servers; and to the room, unless it is told every beat. */
static void announce(const char *type, const person *p)
{
    char channel[NAME + 10];
    lp_json json;
    lp_json_init(&json, NULL);
    lp_json_object(&json);
    add_member(&json, "type", type);
    add_member(&json, "room", p->room);
    add_member(&json, "who", p->who);
    add_member(&json, "at", p->at);
    lp_json_end(&json);
    snprintf(channel, sizeof channel, "presence:%s", p->room);
    lp_publish(server, lp_s("presence"), lp_json_text(&json), NULL);
    if (strcmp(type, "here"))
        lp_publish(server, lp_s(channel), lp_json_text(&json), NULL);
    lp_json_free(&json);
}

/* --- the list --- */

static int is_person(const person *a, const person *b)
{
    return !strcmp(a->room, b->room) && !strcmp(a->who, b->who);
}

/* She is there, as that server says; or with `until` 0 she is not. */
static void note(const person *p)
{
    size_t i = 0;
    pthread_mutex_lock(&mutex);
    while (i < count &&
           !(is_person(&people[i], p) && !strcmp(people[i].at, p->at)))
        i++;
    if (i == count && p->until) {
        if (count == room_for) {
            person *more = (person *)realloc(
                people, (room_for * 2 + 16) * sizeof *people);
            if (more) room_for = room_for * 2 + 16, people = more;
        }
        if (count < room_for) people[count++] = *p;
    } else if (i < count) {
        if (p->until) people[i] = *p;
        else people[i] = people[--count];
    }
    pthread_mutex_unlock(&mutex);
}

/* Announce our own, and forget those of others whose time is over. */
static void beat(void)
{
    uint64_t now = (uint64_t)time(NULL);
    size_t i = 0;
    pthread_mutex_lock(&mutex);
    while (i < count) {
        if (!strcmp(people[i].at, me)) announce("here", &people[i++]);
        else if (people[i].until <= now) people[i] = people[--count];
        else i++;
    }
    pthread_mutex_unlock(&mutex);
}

/* GET /presence/{room} */
static void list(lp_request *request, void *ctx)
{
    char room[NAME] = "";
    lp_slice name = lp_param(request, "room");
    lp_json json;
    size_t i, k;
    (void)ctx;
    if (good_name(name)) memcpy(room, name.bytes, name.length);
    lp_json_init(&json, NULL);
    lp_json_object(&json);
    add_member(&json, "room", room);
    lp_json_key(&json, lp_s("who"));
    lp_json_array(&json);
    pthread_mutex_lock(&mutex);
    for (i = 0; i < count; i++) {
        if (strcmp(people[i].room, room)) continue;
        for (k = 0; !is_person(&people[k], &people[i]);) k++;
        if (k == i) lp_json_string(&json, lp_s(people[i].who)); /* once */
    }
    pthread_mutex_unlock(&mutex);
    lp_json_end(&json);
    lp_json_end(&json);
    lp_reply(request, 200, "application/json", lp_json_text(&json));
    lp_json_free(&json);
}

/* --- hooks --- */

/* Nobody is there under another's name; nobody but C code tells who is there;
   and what is for servers is for servers. */
static int authorize(void *ctx, lp_request *request, lp_action action,
                     lp_slice channel)
{
    lp_slice room, who, name = lp_header(request, "X-Client-ID");
    (void)ctx;
    if (!name.bytes) name = lp_query(request, "who"); /* for EventSource */
    if (action == LP_PUBLISH)
        return starts(channel, "presence") || starts(channel, "here:") ? 403
                                                                       : 0;
    if (same(channel, "presence"))
        return same(lp_header(request, "X-Key"), key) ? 0 : 403;
    if (!starts(channel, "here:")) return 0;
    if (!parse_here(channel, &room, &who)) return 403;
    return name.length == who.length &&
                   !memcmp(name.bytes, who.bytes, who.length)
               ? 0 : 403;
}

static void watch(void *ctx, lp_channel_event event, lp_slice channel)
{
    lp_slice room, who;
    person p;
    (void)ctx;
    if (!parse_here(channel, &room, &who)) return;
    memset(&p, 0, sizeof p);
    memcpy(p.room, room.bytes, room.length);
    memcpy(p.who, who.bytes, who.length);
    strcpy(p.at, me);
    p.until = event == LP_CHANNEL_OCCUPIED;
    note(&p);
    announce(p.until ? "joined" : "left", &p);
}

/* --- listening to the other servers, on a thread of its own --- */

/* The string of that name in JSON that announce() has made: no byte of a name
   is escaped there. */
static void read_member(const char *json, const char *name, char *to,
                        size_t size)
{
    char begin[16];
    const char *from;
    size_t n = 0;
    snprintf(begin, sizeof begin, "\"%s\":\"", name);
    from = strstr(json, begin);
    if (from) from += strlen(begin);
    while (from && from[n] && from[n] != '"' && n < size - 1) {
        to[n] = from[n];
        n++;
    }
    to[n] = 0;
}

/* A line of the stream. What is old, since Redis held it, is judged by when it
   was said. */
static void hear(const char *line)
{
    char type[8];
    const char *timestamp = strstr(line, "\"timestamp\":");
    person p;
    if (strncmp(line, "data: {", 7) || !timestamp) return;
    memset(&p, 0, sizeof p);
    read_member(line, "type", type, sizeof type);
    read_member(line, "room", p.room, sizeof p.room);
    read_member(line, "who", p.who, sizeof p.who);
    read_member(line, "at", p.at, sizeof p.at);
    p.until = strtoull(timestamp + 12, NULL, 10) + 3 * beat_s;
    if (!strcmp(type, "left") || p.until <= (uint64_t)time(NULL)) p.until = 0;
    if (*p.who && strcmp(p.at, me)) note(&p);
}

/* A connection to this very server, that has asked for a stream of all that was
   and will be announced; or -1. */
static int ask(void)
{
    struct sockaddr_in to;
    struct timeval second = {1, 0};
    char request[200];
    int fd = socket(AF_INET, SOCK_STREAM, 0), length;
    memset(&to, 0, sizeof to);
    to.sin_family = AF_INET;
    to.sin_port = htons(lp_port(server));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    length = snprintf(request, sizeof request,
                      "GET /api/stream/presence?last_id=0 HTTP/1.1\r\n"
                      "Host: localhost\r\nX-Key: %s\r\n\r\n", key);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
    if (!connect(fd, (struct sockaddr *)&to, sizeof to) &&
        send(fd, request, (size_t)length, MSG_NOSIGNAL) == length)
        return fd;
    close(fd);
    return -1;
}

/* Hear the whole lines of what was received, and keep the rest. A line that is
   longer than any of ours is cut. */
static void take_lines(char *text, size_t *length, size_t size)
{
    char *end;
    while ((end = (char *)memchr(text, '\n', *length)) ||
           (*length == size && (end = text + size - 1))) {
        *end = 0;
        hear(text);
        *length -= (size_t)(end + 1 - text);
        memmove(text, end + 1, *length);
    }
}

static int is_stopped(int now)
{
    int was;
    pthread_mutex_lock(&mutex);
    was = stopped;
    stopped |= now;
    pthread_mutex_unlock(&mutex);
    return was;
}

/* Until the server has stopped. Each second at least it looks at the clock. */
static void *listen_to_all(void *ctx)
{
    time_t next = 0;
    char text[2048];
    size_t length = 0;
    int fd = -1;
    (void)ctx;
    while (!is_stopped(0)) {
        ssize_t n = 0;
        if (fd < 0) fd = ask(), length = 0;
        if (fd >= 0) n = recv(fd, text + length, sizeof text - length, 0);
        if (n > 0) {
            length += (size_t)n;
            take_lines(text, &length, sizeof text);
        } else if (!n || (errno != EAGAIN && errno != EINTR)) {
            if (fd >= 0) close(fd);
            fd = -1;
            sleep(1);
        }
        if (time(NULL) < next) continue;
        beat();
        next = time(NULL) + (time_t)beat_s;
    }
    if (fd >= 0) close(fd);
    return NULL;
}

/* --- start and end --- */

static void stop(int signal_number)
{
    (void)signal_number;
    lp_stop(server);
}

/* 16 random bytes as 32 digits. 0 or -1. */
static int draw(char to[ID])
{
    unsigned char bytes[16];
    size_t i;
    FILE *random = fopen("/dev/urandom", "rb");
    size_t n = random ? fread(bytes, 1, sizeof bytes, random) : 0;
    if (random) fclose(random);
    for (i = 0; i < n; i++) snprintf(to + 2 * i, 3, "%02x", bytes[i]);
    return n == sizeof bytes ? 0 : -1;
}

static int parse(lp_config *cfg, int argc, char **argv)
{
    int i;
    for (i = 1; i + 1 < argc; i += 2) {
        if (!strcmp(argv[i], "--beat"))
            beat_s = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        else if (strncmp(argv[i], "--", 2) ||
                 lp_config_set(cfg, argv[i] + 2, argv[i + 1]))
            return -1;
    }
    return i < argc || !beat_s ? -1 : 0;
}

int main(int argc, char **argv)
{
    lp_config cfg = {0};
    pthread_t listener;
    lp_result result;
    cfg.port = 8080;
    cfg.authorize.ask = authorize;
    cfg.watch.channel = watch;
    if (parse(&cfg, argc, argv) || draw(me) || draw(key)) return 2;
    me[16] = 0;
    result = lp_create(&server, &cfg);
    if (result == LP_OK)
        result = lp_on(server, "GET", "/presence/{room}", list, NULL);
    if (result != LP_OK) {
        fprintf(stderr, "%s\n", lp_strerror(result));
        return 1;
    }
    signal(SIGINT, stop);
    signal(SIGTERM, stop);
    printf("listening on http://127.0.0.1:%u\n", lp_port(server));
    fflush(stdout);
    if (pthread_create(&listener, NULL, listen_to_all, NULL)) return 1;
    lp_run(server);
    signal(SIGINT, SIG_IGN); /* lp_stop may not come after lp_destroy */
    signal(SIGTERM, SIG_IGN);
    is_stopped(1);
    pthread_join(listener, NULL);
    lp_destroy(server);
    free(people);
    return 0;
}
