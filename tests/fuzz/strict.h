/* strict.h: HTTP/1.1 heads and chunked bodies once more, written from the RFCs and not from
   the library: slow, over the whole text at once, as the oracle of http.c. */

#ifndef STRICT_H
#define STRICT_H

typedef struct strict_head {
    int minor, close, keep_alive, chunked, expects, absolute;
    uint32_t fields;
    uint64_t content_length;
    lp_slice method, path, query, authority;
} strict_head;

static const char *const strict_methods[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE",
                                             "OPTIONS", "TRACE", "CONNECT", NULL};

/* Of these a second one is an attack, or a mistake that two readers mend differently. */
static const char *const strict_once[] = {
    "host", "content-length", "transfer-encoding", "expect", "content-type", "authorization",
    "origin", "x-client-id", "content-encoding", "x-real-ip", "access-control-request-method",
    NULL};

BLIND static int strict_alpha(int c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
BLIND static int strict_digit(int c) { return c >= '0' && c <= '9'; }
BLIND static int strict_among(int c, const char *set) { return c && strchr(set, c) != NULL; }

BLIND static int strict_hex(int c)
{
    return strict_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

BLIND static int strict_tchar(int c)
{
    return strict_alpha(c) || strict_digit(c) || strict_among(c, "!#$%&'*+-.^_`|~");
}

BLIND static int strict_vchar(int c) { return c == '\t' || (c >= 0x20 && c != 0x7f); }

BLIND static int strict_is(lp_slice s, const char *word)
{
    return s.length == strlen(word) && (!s.length || !strncasecmp(s.bytes, word, s.length));
}

BLIND static int strict_starts(lp_slice s, const char *word)
{
    return s.length >= strlen(word) && !strncasecmp(s.bytes, word, strlen(word));
}

BLIND static int strict_at(lp_slice s, size_t i) { return (unsigned char)s.bytes[i]; }

BLIND static lp_slice strict_cut(lp_slice s, size_t from, size_t to)
{
    return lpi_slice(s.bytes + from, to - from);
}

BLIND static lp_slice strict_trim(lp_slice s)
{
    size_t from = 0, to = s.length;
    while (from < to && strict_among(s.bytes[from], " \t")) from++;
    while (to > from && strict_among(s.bytes[to - 1], " \t")) to--;
    return strict_cut(s, from, to);
}

/* The index of c, or the length. */
BLIND static size_t strict_find(lp_slice s, int c)
{
    size_t i = 0;
    while (i < s.length && s.bytes[i] != c) i++;
    return i;
}

BLIND static int strict_nibble(int c)
{
    static const char digits[] = "0123456789abcdefABCDEF";
    const char *at = c ? strchr(digits, c) : NULL;
    return !at ? -1 : at - digits < 16 ? (int)(at - digits) : (int)(at - digits) - 6;
}

/* Percent-decoded, with `plus` a + as a space: the length, or -1. */
BLIND static long strict_decode(char *to, lp_slice s, int plus)
{
    long n = 0;
    size_t i = 0;
    while (i < s.length) {
        int c = (unsigned char)s.bytes[i];
        if (c == '%') {
            if (i + 2 >= s.length || strict_nibble(s.bytes[i + 1]) < 0 ||
                strict_nibble(s.bytes[i + 2]) < 0)
                return -1;
            c = strict_nibble(s.bytes[i + 1]) << 4 | strict_nibble(s.bytes[i + 2]);
            i += 2;
        }
        else if (plus && c == '+') c = ' ';
        to[n++] = (char)c;
        i++;
    }
    return n;
}

/* uri-host [ ":" port ] */
BLIND static int strict_port(lp_slice s)
{
    unsigned long port = 0;
    size_t i;
    if (!s.length) return 1;
    if (s.bytes[0] != ':' || s.length < 2 || s.length > 6) return 0;
    for (i = 1; i < s.length; i++) {
        if (!strict_digit(s.bytes[i])) return 0;
        port = port * 10 + (unsigned long)(s.bytes[i] - '0');
    }
    return port < 65536;
}

BLIND static int strict_authority(lp_slice s)
{
    size_t i, end = s.length;
    lp_slice host;
    int bracket = s.length && s.bytes[0] == '[';
    if (bracket) end = strict_find(s, ']') + 1;
    else end = strict_find(s, ':');
    if (end > s.length) return 0;
    host = strict_cut(s, 0, end);
    if (bracket) {
        if (host.length < 4) return 0;
        for (i = 1; i + 1 < host.length; i++)
            if (!strict_hex(host.bytes[i]) && !strict_among(host.bytes[i], ":.")) return 0;
    } else {
        if (!host.length) return 0;
        for (i = 0; i < host.length; i++)
            if (!strict_alpha(host.bytes[i]) && !strict_digit(host.bytes[i]) &&
                !strict_among(host.bytes[i], "-._~!$&'()*+;=") &&
                !(host.bytes[i] == '%' && i + 2 < host.length &&
                  strict_hex(strict_at(host, i + 1)) &&
                  strict_hex(strict_at(host, i + 2))))
                return 0;
    }
    return strict_port(strict_cut(s, end, s.length));
}

BLIND static int strict_target(lp_slice t, strict_head *out)
{
    size_t i, skip = 0, mark;
    for (i = 0; i < t.length; i++) {
        int c = strict_at(t, i);
        if (c < 0x21 || c > 0x7e || c == '#' || c == '\\') return 0;
    }
    if (t.length == 1 && t.bytes[0] == '*' && strict_is(out->method, "OPTIONS")) {
        out->path = t;
        return 1;
    }
    if (strict_starts(t, "http://")) skip = 7;
    if (strict_starts(t, "https://")) skip = 8;
    if (skip) {
        lp_slice rest = strict_cut(t, skip, t.length);
        size_t slash = strict_find(rest, '/'), query = strict_find(rest, '?');
        out->absolute = 1;
        out->authority = strict_cut(rest, 0, slash < query ? slash : query);
        if (!strict_authority(out->authority)) return 0;
        t = strict_cut(rest, out->authority.length, rest.length);
    } else if (!t.length || t.bytes[0] != '/') {
        return 0;
    }
    mark = strict_find(t, '?');
    out->path = strict_cut(t, 0, mark);
    if (mark < t.length) out->query = strict_cut(t, mark + 1, t.length);
    return 1;
}

BLIND static int strict_request_line(lp_slice line, strict_head *out)
{
    size_t a = strict_find(line, ' '), b, i;
    lp_slice rest, version;
    if (a == 0 || a == line.length) return 0;
    out->method = strict_cut(line, 0, a);
    for (i = 0; i < a; i++)
        if (!strict_tchar(line.bytes[i])) return 0;
    for (i = 0; i < 7; i++) /* TRACE and CONNECT are not served */
        if (lpi_equal(out->method, lp_s(strict_methods[i]))) break;
    if (i == 7) return 0;
    rest = strict_cut(line, a + 1, line.length);
    b = strict_find(rest, ' ');
    if (b == rest.length) return 0;
    version = strict_cut(rest, b + 1, rest.length);
    if (version.length != 8 || memcmp(version.bytes, "HTTP/1.", 7) ||
        !strict_digit(version.bytes[7]))
        return 0;
    out->minor = version.bytes[7] != '0';
    return strict_target(strict_cut(rest, 0, b), out);
}

BLIND static int strict_length(lp_slice s, uint64_t *out)
{
    size_t i;
    *out = 0;
    if (!s.length || s.length > 19) return 0;
    if (s.length > 1 && s.bytes[0] == '0') return 0;
    for (i = 0; i < s.length; i++)
        if (!strict_digit(s.bytes[i])) return 0;
    if (s.length == 19 && memcmp(s.bytes, "9223372036854775807", 19) > 0) return 0;
    for (i = 0; i < s.length; i++) *out = *out * 10 + (uint64_t)(s.bytes[i] - '0');
    return 1;
}

BLIND static void strict_connection(lp_slice s, strict_head *out)
{
    size_t comma;
    do {
        lp_slice option;
        comma = strict_find(s, ',');
        option = strict_trim(strict_cut(s, 0, comma));
        if (strict_is(option, "close")) out->close = 1;
        if (strict_is(option, "keep-alive")) out->keep_alive = 1;
        s = strict_cut(s, comma < s.length ? comma + 1 : comma, s.length);
    } while (s.length);
}

typedef struct strict_seen {
    uint32_t once;
    lp_slice host, length, encoding, expect;
} strict_seen;

BLIND static int strict_field(lp_slice line, strict_head *out, strict_seen *seen)
{
    size_t colon = strict_find(line, ':'), i;
    lp_slice name, value;
    if (!colon || colon == line.length) return 0;
    name = strict_cut(line, 0, colon);
    value = strict_trim(strict_cut(line, colon + 1, line.length));
    for (i = 0; i < name.length; i++)
        if (!strict_tchar(strict_at(name, i))) return 0;
    for (i = 0; i < value.length; i++)
        if (!strict_vchar(strict_at(value, i))) return 0;
    if (++out->fields > 100) return 0;
    for (i = 0; strict_once[i]; i++) {
        if (!strict_is(name, strict_once[i])) continue;
        if (seen->once & 1u << i) return 0;
        seen->once |= 1u << i;
        if (i == 0) seen->host = value;
        if (i == 1) seen->length = value;
        if (i == 2) seen->encoding = value;
        if (i == 3) seen->expect = value;
    }
    if (strict_is(name, "connection")) strict_connection(value, out);
    return 1;
}

BLIND static int strict_together(strict_head *out, const strict_seen *seen)
{
    if (out->minor && !seen->host.bytes) return 0;
    if (seen->host.bytes && !strict_authority(seen->host)) return 0;
    if (!out->absolute) out->authority = seen->host;
    if (seen->encoding.bytes) {
        if (seen->length.bytes || !out->minor || !strict_is(seen->encoding, "chunked")) return 0;
        out->chunked = 1;
    }
    if (seen->length.bytes && !strict_length(seen->length, &out->content_length)) return 0;
    if (seen->expect.bytes && out->minor) {
        if (!strict_is(seen->expect, "100-continue")) return 0;
        out->expects = 1;
    }
    return 1;
}

/* Where the head ends: behind the first empty line that is not the text's first line. 0: it
   does not end. */
BLIND static size_t strict_end(lp_slice text)
{
    size_t i = 0;
    if (text.length >= 2 && !memcmp(text.bytes, "\r\n", 2)) i = 2;
    if (text.length >= i + 2 && !memcmp(text.bytes + i, "\r\n", 2)) return i + 2;
    for (; i + 4 <= text.length; i++)
        if (!memcmp(text.bytes + i, "\r\n\r\n", 4)) return i + 4;
    return 0;
}

/* Whether a request may begin so: with a token, or with a line end before it. */
BLIND static int strict_begins(lp_slice text)
{
    if (text.length >= 2 && !memcmp(text.bytes, "\r\n", 2)) text = strict_cut(text, 2, text.length);
    return !text.length || text.bytes[0] == '\r' || strict_tchar(strict_at(text, 0));
}

/* Whether a head, which ends as strict_end says, is to be served. */
BLIND static int strict_read(lp_slice text, strict_head *out)
{
    strict_seen seen;
    size_t at = 0;
    int first = 1;
    memset(out, 0, sizeof *out);
    memset(&seen, 0, sizeof seen);
    if (text.length >= 2 && !memcmp(text.bytes, "\r\n", 2)) at = 2;
    while (at + 2 < text.length) {
        size_t end = at;
        lp_slice line;
        while (memcmp(text.bytes + end, "\r\n", 2)) end++;
        line = strict_cut(text, at, end);
        if (strict_find(line, '\r') < line.length || strict_find(line, '\n') < line.length ||
            strict_find(line, '\0') < line.length)
            return 0;
        if (first ? !strict_request_line(line, out) : !strict_field(line, out, &seen)) return 0;
        first = 0;
        at = end + 2;
    }
    return !first && strict_together(out, &seen);
}

/* ---- chunked (RFC 9112 7.1), with the library's limits. A reader of bytes that says -1 at
   the end of the text; 1: complete, 0: it goes on, -1: refused ---- */

typedef struct strict_chunks {
    lp_slice text;
    size_t at, length; /* read; decoded into body */
    uint64_t limit;
    char *body;
    size_t extension, trailer_bytes, trailers;
} strict_chunks;

BLIND static int strict_next(strict_chunks *c)
{
    return c->at < c->text.length ? (unsigned char)c->text.bytes[c->at++] : -1;
}

BLIND static int strict_expect(strict_chunks *c, int want)
{
    int got = strict_next(c);
    return got < 0 ? 0 : got == want ? 1 : -1;
}

/* The next byte of an extension, of which no more than 1024 may come; -2 for one more. */
BLIND static int strict_more(strict_chunks *c)
{
    int byte = strict_next(c);
    return byte < 0 || ++c->extension <= 1024 ? byte : -2;
}

/* The next one that is no blank, from `byte` on. */
BLIND static int strict_past_blanks(strict_chunks *c, int byte)
{
    while (byte == ' ' || byte == '\t') byte = strict_more(c);
    return byte;
}

/* token, from `byte` on: the byte behind it, or -2 if it is empty. */
BLIND static int strict_token(strict_chunks *c, int byte)
{
    if (byte >= 0 && !strict_tchar(byte)) return -2;
    while (byte >= 0 && strict_tchar(byte)) byte = strict_more(c);
    return byte;
}

/* quoted-string, from behind its first quote on: the byte behind it, or -2. */
BLIND static int strict_quoted(strict_chunks *c)
{
    int byte = strict_more(c);
    while (byte >= 0 && byte != '"') {
        if (byte == '\\') byte = strict_more(c);
        if (byte >= 0 && !strict_vchar(byte)) return -2;
        if (byte >= 0) byte = strict_more(c);
    }
    return byte < 0 ? byte : strict_more(c);
}

/* *( BWS ";" BWS chunk-ext-name [ BWS "=" BWS chunk-ext-val ] ), from the first ";" on; no
   blank may stand before that one. The byte behind it all, -1 if there is none yet, or -2. */
BLIND static int strict_extensions(strict_chunks *c)
{
    int byte = ';', next = ';';
    c->extension = 0;
    while (next == ';') {
        byte = strict_token(c, strict_past_blanks(c, strict_more(c)));
        next = strict_past_blanks(c, byte);
        if (next == '=') {
            byte = strict_past_blanks(c, strict_more(c));
            byte = byte == '"' ? strict_quoted(c) : strict_token(c, byte);
            next = strict_past_blanks(c, byte);
        }
    }
    return next < 0 || next == byte ? next : -2; /* nothing but ";" follows a blank */
}

/* The size, its extensions and the end of its line. */
BLIND static int strict_size(strict_chunks *c, uint64_t *size)
{
    int digits = 0, byte;
    *size = 0;
    for (;;) {
        byte = strict_next(c);
        if (byte < 0) return 0;
        if (!strict_hex(byte)) break;
        if (++digits > 8) return -1;
        *size = *size * 16 + (uint64_t)(strict_digit(byte) ? byte - '0' : (byte & 15) + 9);
    }
    if (!digits || *size + c->length > c->limit) return -1;
    if (byte == ';') byte = strict_extensions(c);
    if (byte == -1) return 0;
    return byte == '\r' ? strict_expect(c, '\n') : -1;
}

BLIND static int strict_data(strict_chunks *c, uint64_t size)
{
    int result;
    while (size--) {
        int byte = strict_next(c);
        if (byte < 0) return 0;
        c->body[c->length++] = (char)byte;
    }
    result = strict_expect(c, '\r');
    return result == 1 ? strict_expect(c, '\n') : result;
}

BLIND static int strict_trailer(strict_chunks *c, int *last)
{
    size_t begin = c->at;
    int byte = strict_next(c), result;
    *last = byte == '\r';
    if (*last) return strict_expect(c, '\n');
    while (byte >= 0 && byte != ':' && strict_tchar(byte)) byte = strict_next(c);
    if (byte >= 0 && (byte != ':' || c->at == begin + 1)) return -1;
    do byte = byte < 0 ? byte : strict_next(c);
    while (byte >= 0 && strict_vchar(byte));
    if (byte >= 0 && byte != '\r') return -1;
    result = byte < 0 ? 0 : strict_expect(c, '\n');
    c->trailer_bytes += c->at - begin;
    if (c->trailer_bytes > 16384 || (result == 1 && ++c->trailers > 100)) return -1;
    return result;
}

BLIND static int strict_body(strict_chunks *c)
{
    uint64_t size = 1;
    int result = 1, last = 0;
    while (size && result == 1) {
        result = strict_size(c, &size);
        if (result == 1 && size) result = strict_data(c, size);
    }
    while (!last && result == 1) result = strict_trailer(c, &last);
    return result;
}

#endif /* STRICT_H */
