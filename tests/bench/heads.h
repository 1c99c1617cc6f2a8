/* The heads of the bench's requests, in three kinds:

     browser   what browsers send with the polls of demo/client/longpoll.js:
               fields in their orders, another set for each connection, cookies
               of different lengths; with its request line a head has 500 to
               800 bytes
     proxy     the same as nginx passes it on: the browser speaks HTTP/2 to
               it, so that names are in lower case, and the fields that it adds
               stand in front; the client's address and the request's id are
               never twice the same, since over one connection of a proxy come
               the requests of many
     bare      Host and X-Client-ID, the same for all but for a number

   A head is made once for a connection, and depends on nothing but the
   connection's number: each server is asked with the same bytes. */

#ifndef HEADS_H
#define HEADS_H

#include <ctype.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HEADS_HOST "chat.example.org"

enum {
    HEAD_MAX = 1000,       /* nginx takes 1,024 bytes at once, with the line  */
    HEAD_FIELDS_MIN = 446, /* of a browser: with its request line 500 to 800  */
    HEAD_FIELDS_MAX = 722,
    HEAD_COOKIE_MIN = 20   /* a shorter one is none                           */
};

typedef enum head_kind { HEADS_BARE, HEADS_BROWSER, HEADS_PROXY } head_kind;

typedef struct request_head {
    char text[HEAD_MAX]; /* the fields: what stands between the request line
                            and the empty line                                */
    size_t length;
    char *address, *real_ip, *request_id; /* in it, behind a proxy; or NULL   */
} request_head;

/* A line each. Those that begin with '-' are not passed on by a proxy, those
   with '*' belong to HTTP/2, those with '+' to a request with a body, as does
   '=', which a proxy writes itself; a '?' is sent by every other browser. The
   letters behind '$': head_value. */

#define HEADS_CHROMIUM(platform, system, brand, mobile, agent)                \
    "-Host: $h\n-Connection: keep-alive\n=Content-Length: $n\n"               \
    "Pragma: no-cache\nCache-Control: no-cache\n"                             \
    "sec-ch-ua-platform: \"" platform "\"\n"                                  \
    "User-Agent: Mozilla/5.0 (" system ") AppleWebKit/537.36 (KHTML, like "   \
    "Gecko) Chrome/$v.0.0.0 " agent "Safari/537.36" brand "\", "              \
    "\"Not?A_Brand\";v=\"24\"\n"                                              \
    "+Content-Type: application/json\nX-Client-ID: $i\n"                      \
    "sec-ch-ua-mobile: " mobile "\n?DNT: 1\nAccept: */*\n"                    \
    "+Origin: https://$h\nSec-Fetch-Site: same-origin\n"                      \
    "Sec-Fetch-Mode: cors\nSec-Fetch-Dest: empty\n"                           \
    "Referer: https://$h/$r\nAccept-Encoding: gzip, deflate, br, zstd\n"      \
    "Accept-Language: $l\nCookie: $c\n*priority: u=1, i\n"

#define HEADS_CHROME                                                          \
    "\nsec-ch-ua: \"Chromium\";v=\"$v\", \"Google Chrome\";v=\"$v"
#define HEADS_EDGE                                                            \
    " Edg/$v.0.0.0\nsec-ch-ua: \"Chromium\";v=\"$v\", "                       \
    "\"Microsoft Edge\";v=\"$v"

#define HEADS_FIREFOX(system, engine)                                         \
    "-Host: $h\n"                                                             \
    "User-Agent: Mozilla/5.0 (" system "; rv:$v.0) Gecko/" engine " "         \
    "Firefox/$v.0\nAccept: */*\nAccept-Language: $l\n"                        \
    "Accept-Encoding: gzip, deflate, br, zstd\nReferer: https://$h/$r\n"      \
    "+Content-Type: application/json\nX-Client-ID: $i\n"                      \
    "=Content-Length: $n\n+Origin: https://$h\n?DNT: 1\n?Sec-GPC: 1\n"        \
    "-Connection: keep-alive\nCookie: $c\nSec-Fetch-Dest: empty\n"            \
    "Sec-Fetch-Mode: cors\nSec-Fetch-Site: same-origin\nPriority: u=4\n"      \
    "Pragma: no-cache\nCache-Control: no-cache\n"

#define HEADS_SAFARI(system, version)                                         \
    "-Host: $h\n+Content-Type: application/json\nPragma: no-cache\n"          \
    "Accept: */*\nSec-Fetch-Site: same-origin\nX-Client-ID: $i\n"             \
    "Accept-Language: $l\nCache-Control: no-cache\nSec-Fetch-Mode: cors\n"    \
    "Accept-Encoding: gzip, deflate, br\n+Origin: https://$h\n"               \
    "User-Agent: Mozilla/5.0 (" system ") AppleWebKit/605.1.15 (KHTML, like " \
    "Gecko) Version/" version " Safari/60$d.1.15\n=Content-Length: $n\n"      \
    "-Connection: keep-alive\nReferer: https://$h/$r\n"                       \
    "Sec-Fetch-Dest: empty\nCookie: $c\n*priority: u=3, i\n"

static const char *const heads_of_browsers[] = {
    HEADS_CHROMIUM("Windows", "Windows NT 10.0; Win64; x64", HEADS_CHROME,
                   "?0", ""),
    HEADS_CHROMIUM("macOS", "Macintosh; Intel Mac OS X 10_15_7", HEADS_CHROME,
                   "?0", ""),
    HEADS_CHROMIUM("Linux", "X11; Linux x86_64", HEADS_CHROME, "?0", ""),
    HEADS_CHROMIUM("Android", "Linux; Android 10; K", HEADS_CHROME, "?1",
                   "Mobile "),
    HEADS_CHROMIUM("Windows", "Windows NT 10.0; Win64; x64", HEADS_EDGE,
                   "?0", ""),
    HEADS_FIREFOX("Windows NT 10.0; Win64; x64", "20100101"),
    HEADS_FIREFOX("X11; Linux x86_64", "20100101"),
    HEADS_FIREFOX("Android 14; Mobile", "$v.0"),
    HEADS_SAFARI("Macintosh; Intel Mac OS X 10_15_7", "17.$d"),
    HEADS_SAFARI("iPhone; CPU iPhone OS 17_$d like Mac OS X",
                 "17.$d Mobile/15E148"),
};

static const char *const heads_languages[] = {
    "en-US,en;q=0.9", "de-DE,de;q=0.9,en-US;q=0.8,en;q=0.7", "en-GB,en;q=0.9",
    "fr-FR,fr;q=0.9,en;q=0.8", "ja", "pt-BR,pt;q=0.9,en-US;q=0.8,en;q=0.7",
    "zh-CN,zh;q=0.9", "es-ES,es;q=0.9,en;q=0.8",
};

static const char *const heads_cookies[] = {
    "sid", "theme", "_ga", "csrftoken", "lang", "_gid", "consent", "uid",
};

#define HEADS_COUNT(list) (sizeof(list) / sizeof *(list))

/* ---- numbers that look like chance --------------------------------------- */

/* No two numbers have the same image. */
static uint64_t head_mix(uint64_t n)
{
    n += 0x9e3779b97f4a7c15u;
    n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9u;
    n = (n ^ n >> 27) * 0x94d049bb133111ebu;
    return n ^ n >> 31;
}

static void head_put_hex(char *to, uint64_t n)
{
    int i;
    for (i = 15; i >= 0; i--, n >>= 4) to[i] = "0123456789abcdef"[n & 15];
}

/* ---- a browser's fields -------------------------------------------------- */

typedef struct heading {
    request_head *h;
    const char *line;      /* of the template, at what is to be written       */
    uint64_t chance;       /* what the next choice is drawn from              */
    unsigned number, body; /* of the connection; bytes of the body, or 0      */
    unsigned version;
    size_t cookie;         /* its length, or 0                                */
    int proxied;
} heading;

static unsigned head_draw(heading *w, unsigned below)
{
    w->chance = head_mix(w->chance);
    return (unsigned)(w->chance >> 32) % below;
}

static void head_put(request_head *h, const char *text, size_t length)
{
    if (length > HEAD_MAX - h->length) {
        fprintf(stderr, "heads: a head is too long\n");
        exit(1);
    }
    memcpy(h->text + h->length, text, length);
    h->length += length;
}

static void head_put_text(request_head *h, const char *text)
{
    head_put(h, text, strlen(text));
}

static void head_put_number(request_head *h, unsigned n)
{
    char text[16];
    head_put(h, text, (size_t)sprintf(text, "%u", n));
}

static void head_put_letters(heading *w, unsigned count)
{
    while (count--) {
        char letter = "abcdefghijkmnopqrstuvwxyz23456789"[head_draw(w, 33)];
        head_put(w->h, &letter, 1);
    }
}

/* "name=value; name=value", w->cookie bytes in all. */
static void head_put_cookie(heading *w)
{
    size_t end = w->h->length + w->cookie;
    unsigned i = head_draw(w, HEADS_COUNT(heads_cookies));
    for (;;) {
        size_t left;
        head_put_text(w->h, heads_cookies[i++ % HEADS_COUNT(heads_cookies)]);
        head_put_text(w->h, "=");
        left = end - w->h->length;
        if (left < 60) {
            head_put_letters(w, (unsigned)left);
            return;
        }
        head_put_letters(w, 4 + head_draw(w, 36));
        head_put_text(w->h, "; ");
    }
}

static void head_put_id(heading *w)
{
    char id[32];
    head_put_hex(id, head_mix(w->number));
    head_put_hex(id + 16, head_mix(~(uint64_t)w->number));
    head_put(w->h, id, sizeof id);
}

static void head_value(heading *w, char letter)
{
    switch (letter) {
    case 'h': head_put_text(w->h, HEADS_HOST); break;
    case 'v': head_put_number(w->h, w->version); break;
    case 'd': head_put_number(w->h, w->version % 7); break;
    case 'i': head_put_id(w); break;
    case 'n': head_put_number(w->h, w->body); break;
    case 'c': head_put_cookie(w); break;
    case 'r':
        head_put_text(w->h, "room/");
        head_put_letters(w, 4 + head_draw(w, 12));
        break;
    case 'l':
        head_put_text(w->h, heads_languages[head_draw(
                                w, HEADS_COUNT(heads_languages))]);
        break;
    }
}

/* Whether the browser sends the line; past the sign at its beginning. */
static int head_sends(heading *w)
{
    switch (*w->line) {
    case '-': return w->line++, !w->proxied;
    case '*': return w->line++, w->proxied;
    case '+': return w->line++, w->body > 0;
    case '=': return w->line++, w->body && !w->proxied;
    case '?': return w->line++, head_draw(w, 2) == 0;
    case 'C': return w->cookie || strncmp(w->line, "Cookie", 6);
    default: return 1;
    }
}

static void head_put_line(heading *w)
{
    int in_name = w->proxied;
    for (; *w->line != '\n'; w->line++) {
        char c = *w->line;
        if (c == ':') in_name = 0;
        if (c == '$') {
            head_value(w, *++w->line);
            continue;
        }
        if (in_name) c = (char)tolower(c);
        head_put(w->h, &c, 1);
    }
    head_put_text(w->h, "\r\n");
}

static void head_put_browser(heading w)
{
    unsigned kinds = HEADS_COUNT(heads_of_browsers);
    w.line = heads_of_browsers[w.number % kinds];
    w.chance = head_mix(w.number);
    w.version = 115 + head_draw(&w, 25);
    for (; *w.line; w.line++) {
        if (head_sends(&w)) head_put_line(&w);
        else w.line += strcspn(w.line, "\n");
    }
}

/* As long as there is room for: so a head is written twice, and the first time
   to know how long it is without a cookie. */
static size_t head_cookie_length(const heading *w)
{
    static request_head without;
    heading draft = *w;
    size_t had, least = 0, length;
    draft.h = &without;
    without.length = 0;
    head_put_browser(draft);
    had = without.length + sizeof "Cookie: \r\n" - 1;
    if (had >= HEAD_FIELDS_MAX) return 0;
    if (had < HEAD_FIELDS_MIN) least = HEAD_FIELDS_MIN - had;
    length = least + head_draw(&draft,
                               (unsigned)(HEAD_FIELDS_MAX - had - least + 1));
    return length < HEAD_COOKIE_MIN ? 0 : length;
}

/* ---- what is asked with -------------------------------------------------- */

/* The client's address and the request's id of the next request, if they are
   in the head: three digits to a byte, so that all are as long. `serial` is
   never twice the same. */
static void head_renew(request_head *h, uint64_t serial)
{
    uint64_t left = serial;
    int i;
    if (!h->address) return;
    for (i = 3; i >= 0; i--) {
        unsigned byte = 100 + (unsigned)(left % 156);
        char *to = h->address + 4 * i;
        left /= 156;
        to[0] = (char)('0' + byte / 100);
        to[1] = (char)('0' + byte / 10 % 10);
        to[2] = (char)('0' + byte % 10);
    }
    memcpy(h->real_ip, h->address, 15);
    head_put_hex(h->request_id, head_mix(serial));
    head_put_hex(h->request_id + 16, head_mix(~serial));
}

static char *head_put_room(request_head *h, const char *name, const char *room)
{
    char *at;
    head_put_text(h, name);
    at = h->text + h->length;
    head_put_text(h, room);
    head_put_text(h, "\r\n");
    return at;
}

static void head_put_proxy(request_head *h, unsigned body)
{
    head_put_text(h, "Host: " HEADS_HOST "\r\n");
    h->address = head_put_room(h, "X-Forwarded-For: ", "100.100.100.100");
    h->real_ip = head_put_room(h, "X-Real-IP: ", "100.100.100.100");
    head_put_text(h, "X-Forwarded-Proto: https\r\n");
    h->request_id = head_put_room(h, "X-Request-ID: ",
                                  "00000000000000000000000000000000");
    if (!body) return;
    head_put_text(h, "Content-Length: ");
    head_put_number(h, body);
    head_put_text(h, "\r\n");
}

static void head_put_bare(request_head *h, unsigned number, unsigned body)
{
    char text[128];
    if (body)
        sprintf(text, "Host: 127.0.0.1\r\nContent-Type: application/json\r\n"
                      "Content-Length: %u\r\n", body);
    else sprintf(text, "Host: 127.0.0.1\r\nX-Client-ID: c%05u\r\n",
                 number % 100000);
    head_put_text(h, text);
}

/* The head of the connection with that number; `body` is how long what it
   publishes is, 0 if it polls. */
static void head_make(request_head *h, head_kind kind, unsigned number,
                      unsigned body)
{
    heading w;
    memset(h, 0, sizeof *h);
    if (kind == HEADS_BARE) {
        head_put_bare(h, number, body);
        return;
    }
    memset(&w, 0, sizeof w);
    w.h = h;
    w.number = number;
    w.body = body;
    w.proxied = kind == HEADS_PROXY;
    w.cookie = head_cookie_length(&w);
    if (w.proxied) head_put_proxy(h, body);
    head_put_browser(w);
}

static head_kind heads_named(const char *name)
{
    static const char *const names[] = {"bare", "browser", "proxy"};
    unsigned i;
    for (i = 0; i < HEADS_COUNT(names); i++)
        if (!strcmp(name, names[i])) return (head_kind)i;
    fprintf(stderr, "heads: bare, browser or proxy, not %s\n", name);
    exit(2);
}

#endif
