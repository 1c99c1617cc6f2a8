/* reference.h: a JSON validator (RFC 8259) by recursive descent, independent of the library,
   which has neither recursion nor this shape. It also tells the members of a top-level
   object, and what a string stands for. */

#ifndef REFERENCE_H
#define REFERENCE_H

enum { REF_DEPTH = 64, REF_MEMBERS = 1 << 15 };

typedef struct ref_member {
    const char *begin, *end; /* from behind '{' or ',' up to '}' or ','  */
    lp_slice key;            /* between the quotes                       */
} ref_member;

typedef struct ref {
    const char *at, *end;    /* after a failure, `at` is the bad byte    */
    int depth, is_object;
    ref_member *members;     /* room for REF_MEMBERS; NULL: not asked    */
    uint32_t count;
} ref;

BLIND static int ref_value(ref *r);

BLIND static int ref_peek(const ref *r) { return r->at < r->end ? (unsigned char)*r->at : -1; }

BLIND static int ref_take(ref *r, int c)
{
    if (ref_peek(r) != c) return -1;
    r->at++;
    return 0;
}

BLIND static void ref_space(ref *r)
{
    int c;
    for (c = ref_peek(r); c == 0x20 || c == 0x09 || c == 0x0a || c == 0x0d; c = ref_peek(r))
        r->at++;
}

BLIND static int ref_hex(int c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

BLIND static int ref_string(ref *r)
{
    if (ref_take(r, '"')) return -1;
    for (;;) {
        int c = ref_peek(r), i;
        uint32_t code;
        size_t n;
        if (c < 0x20) return -1;
        if (c == '"') return ref_take(r, '"');
        if (c != '\\') {
            n = fuzz_utf8(r->at, (size_t)(r->end - r->at), &code);
            if (!n) return -1;
            r->at += n;
            continue;
        }
        r->at++;
        c = ref_peek(r);
        if (c != '"' && c != '\\' && c != '/' && c != 'b' && c != 'f' && c != 'n' && c != 'r' &&
            c != 't' && c != 'u')
            return -1;
        r->at++;
        for (i = 0; c == 'u' && i < 4; i++, r->at++)
            if (ref_hex(ref_peek(r)) < 0) return -1;
    }
}

BLIND static int ref_digits(ref *r)
{
    int c = ref_peek(r);
    if (c < '0' || c > '9') return -1;
    while (c >= '0' && c <= '9') {
        r->at++;
        c = ref_peek(r);
    }
    return 0;
}

BLIND static int ref_number(ref *r)
{
    ref_take(r, '-');
    if (ref_take(r, '0') && ref_digits(r)) return -1;
    if (!ref_take(r, '.') && ref_digits(r)) return -1;
    if (ref_take(r, 'e') && ref_take(r, 'E')) return 0;
    if (ref_take(r, '+')) ref_take(r, '-');
    return ref_digits(r);
}

BLIND static int ref_word(ref *r, const char *word)
{
    while (*word)
        if (ref_take(r, *word++)) return -1;
    return 0;
}

BLIND static int ref_array(ref *r)
{
    ref_take(r, '[');
    ref_space(r);
    if (!ref_take(r, ']')) return 0;
    for (;;) {
        if (ref_value(r)) return -1;
        ref_space(r);
        if (!ref_take(r, ']')) return 0;
        if (ref_take(r, ',')) return -1;
        ref_space(r);
    }
}

BLIND static int ref_object(ref *r)
{
    ref_member member;
    ref_take(r, '{');
    member.begin = r->at;
    ref_space(r);
    if (!ref_take(r, '}')) return 0;
    for (;;) {
        const char *quote;
        ref_space(r);
        quote = r->at;
        if (ref_string(r)) return -1;
        member.key = lpi_slice(quote + 1, (size_t)(r->at - quote) - 2);
        ref_space(r);
        if (ref_take(r, ':')) return -1;
        ref_space(r);
        if (ref_value(r)) return -1;
        ref_space(r);
        member.end = r->at;
        if (r->depth == 1 && r->members && r->count < REF_MEMBERS) r->members[r->count++] = member;
        if (!ref_take(r, '}')) return 0;
        if (ref_take(r, ',')) return -1;
        member.begin = r->at;
    }
}

BLIND static int ref_value(ref *r)
{
    int c = ref_peek(r), result;
    if (c == '{' || c == '[') {
        if (r->depth == REF_DEPTH) return -1;
        r->depth++;
        result = c == '{' ? ref_object(r) : ref_array(r);
        r->depth--;
        return result;
    }
    if (c == '"') return ref_string(r);
    if (c == 't') return ref_word(r, "true");
    if (c == 'f') return ref_word(r, "false");
    if (c == 'n') return ref_word(r, "null");
    return ref_number(r);
}

/* 0, or -1 with r->at at the bad byte. */
BLIND static int ref_text(ref *r, lp_slice text, ref_member *members)
{
    memset(r, 0, sizeof *r);
    r->at = text.bytes;
    r->end = text.bytes + text.length;
    r->members = members;
    ref_space(r);
    r->is_object = ref_peek(r) == '{';
    if (ref_value(r)) return -1;
    ref_space(r);
    return r->at == r->end ? 0 : -1;
}

/* What the inside of a valid string stands for, as UTF-8; a lone surrogate as three bytes, as
   if it could be. `to` has room for as many bytes. */
BLIND static size_t ref_decode(char *to, lp_slice s)
{
    static const char from[] = "\"\\/bfnrt", stands[] = "\"\\/\b\f\n\r\t";
    size_t i = 0, n = 0;
    while (i < s.length) {
        uint32_t code = 0;
        int k;
        if (s.bytes[i] != '\\') {
            to[n++] = s.bytes[i++];
            continue;
        }
        if (s.bytes[i + 1] != 'u') {
            to[n++] = stands[strchr(from, s.bytes[i + 1]) - from];
            i += 2;
            continue;
        }
        for (k = 2; k < 6; k++)
            code = code * 16 + (uint32_t)ref_hex((unsigned char)s.bytes[i + (size_t)k]);
        i += 6;
        if (code < 0x80) {
            to[n++] = (char)code;
        } else if (code < 0x800) {
            to[n++] = (char)(0xc0 | code >> 6);
            to[n++] = (char)(0x80 | (code & 0x3f));
        } else {
            to[n++] = (char)(0xe0 | code >> 12);
            to[n++] = (char)(0x80 | (code >> 6 & 0x3f));
            to[n++] = (char)(0x80 | (code & 0x3f));
        }
    }
    return n;
}

/* ref_decode() writes each half of a surrogate pair as three bytes. Make one sequence of two such
   halves, and tell whether all is UTF-8 then: there is no half that stands alone. */
BLIND static int ref_join(char *text, size_t *length)
{
    size_t i, n, to = 0;
    int good = 1;
    for (i = 0; i < *length; i += n, to += n) {
        const unsigned char *p = (const unsigned char *)text + i;
        uint32_t code;
        if (*length - i >= 6 && p[0] == 0xed && p[1] >= 0xa0 && p[1] < 0xb0 && p[3] == 0xed &&
            p[4] >= 0xb0) {
            code = 0x10000 + ((p[1] & 15u) << 16 | (p[2] & 63u) << 10 | (p[4] & 15u) << 6 |
                              (p[5] & 63u));
            text[to] = (char)(0xf0 | code >> 18);
            text[to + 1] = (char)(0x80 | (code >> 12 & 63));
            text[to + 2] = (char)(0x80 | (code >> 6 & 63));
            text[to + 3] = (char)(0x80 | (code & 63));
            i += 2;
            n = 4;
            continue;
        }
        n = fuzz_utf8(text + i, *length - i, &code);
        if (!n) good = 0, n = 1;
        memmove(text + to, text + i, n);
    }
    *length = to;
    return good;
}

#endif /* REFERENCE_H */
