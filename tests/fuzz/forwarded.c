/* forwarded.c: whose request it is: addresses, networks, X-Forwarded-For and X-Real-IP.

   Input, in lines: the trusted networks with ',' between; the peer's address; then fields,
   each "F value" (X-Forwarded-For) or "R value" (X-Real-IP), in their order. The library's
   answer must be that of the simple reading below. */

#include "fuzz.h"
#include "strict.h"

enum { NETS = 16, FIELDS = 16, MOST = 4096 };

/* ---- addresses, once more ---- */

BLIND static int simple_v4(lp_slice s, uint8_t out[4])
{
    int i;
    for (i = 0; i < 4; i++) {
        size_t dot = strict_find(s, '.'), k;
        int value = 0;
        if ((dot == s.length) != (i == 3) || dot < 1 || dot > 3) return 0;
        if (dot > 1 && s.bytes[0] == '0') return 0;
        for (k = 0; k < dot; k++) {
            if (!strict_digit(s.bytes[k])) return 0;
            value = value * 10 + s.bytes[k] - '0';
        }
        if (value > 255) return 0;
        out[i] = (uint8_t)value;
        s = strict_cut(s, i == 3 ? dot : dot + 1, s.length);
    }
    return 1;
}

/* Groups with ':' between, the last perhaps as IPv4. How many bytes, or -1. */
BLIND static int simple_groups(lp_slice s, int may_v4, uint8_t out[16])
{
    int n = 0;
    if (!s.length) return 0;
    for (;;) {
        size_t colon = strict_find(s, ':'), k;
        int value = 0;
        if (colon == s.length && may_v4 && strict_find(s, '.') < s.length)
            return n <= 12 && simple_v4(s, out + n) ? n + 4 : -1;
        if (n == 16 || colon < 1 || colon > 4) return -1;
        for (k = 0; k < colon; k++) {
            int c = s.bytes[k];
            if (!strict_hex(c)) return -1;
            value = value * 16 + (strict_digit(c) ? c - '0' : (c & 15) + 9);
        }
        out[n++] = (uint8_t)(value >> 8);
        out[n++] = (uint8_t)value;
        if (colon == s.length) return n;
        s = strict_cut(s, colon + 1, s.length);
    }
}

BLIND static int simple_address(lp_slice s, uint8_t out[16])
{
    uint8_t left[16], right[16];
    size_t i;
    int a, b;
    memset(out, 0, 16);
    memset(out + 10, 0xff, 2);
    if (simple_v4(s, out + 12)) return 1;
    for (i = 0; i + 1 < s.length && memcmp(s.bytes + i, "::", 2); i++) {}
    if (i + 1 >= s.length) return s.length <= 45 && simple_groups(s, 1, out) == 16;
    a = simple_groups(strict_cut(s, 0, i), 0, left);
    b = simple_groups(strict_cut(s, i + 2, s.length), 1, right);
    if (a < 0 || b < 0 || a + b > 14 || s.length > 45) return 0;
    memset(out, 0, 16);
    memcpy(out, left, (size_t)a);
    memcpy(out + 16 - b, right, (size_t)b);
    return 1;
}

typedef struct simple_net {
    uint8_t bytes[16];
    int bits; /* of the 128 */
} simple_net;

BLIND static int simple_network(lp_slice s, simple_net *out)
{
    size_t slash = strict_find(s, '/'), i;
    lp_slice address = strict_cut(s, 0, slash);
    int most = strict_find(address, ':') == address.length ? 32 : 128, bits = 0;
    if (!simple_address(address, out->bytes)) return 0;
    if (slash < s.length) {
        s = strict_cut(s, slash + 1, s.length);
        if (s.length < 1 || s.length > 3 || (s.length > 1 && s.bytes[0] == '0')) return 0;
        for (i = 0; i < s.length; i++) {
            if (!strict_digit(s.bytes[i])) return 0;
            bits = bits * 10 + s.bytes[i] - '0';
        }
        if (bits > most) return 0;
    } else {
        bits = most;
    }
    out->bits = bits + 128 - most;
    return 1;
}

BLIND static int simple_bit(const uint8_t bytes[16], int i)
{
    return bytes[i / 8] >> (7 - i % 8) & 1;
}

BLIND static int simple_trusts(const simple_net *nets, uint32_t count, const uint8_t at[16])
{
    uint32_t n;
    for (n = 0; n < count; n++) {
        int i = 0;
        while (i < nets[n].bits && simple_bit(nets[n].bytes, i) == simple_bit(at, i)) i++;
        if (i == nets[n].bits) return 1;
    }
    return 0;
}

BLIND static int simple_hop(lp_slice s, uint8_t out[16])
{
    size_t bracket, colon, dot;
    s = strict_trim(s);
    bracket = strict_find(s, ']');
    colon = strict_find(s, ':');
    dot = strict_find(s, '.');
    if (s.length && s.bytes[0] == '[') {
        if (bracket == s.length || !strict_port(strict_cut(s, bracket + 1, s.length))) return 0;
        s = strict_cut(s, 1, bracket);
    } else if (dot < colon) {
        if (!strict_port(strict_cut(s, colon, s.length))) return 0;
        s = strict_cut(s, 0, colon);
    }
    return simple_address(s, out);
}

/* ---- an input, taken apart ---- */

typedef struct field {
    int forwarded; /* else X-Real-IP */
    lp_slice value;
} field;

static struct question {
    lpi_network nets[NETS];
    simple_net simple[NETS];
    uint32_t net_count, field_count;
    uint8_t peer[16];
    field fields[FIELDS];
} q;

BLIND static lp_slice take_line(lp_slice *rest, int end)
{
    size_t n = strict_find(*rest, end);
    lp_slice line = strict_cut(*rest, 0, n);
    *rest = strict_cut(*rest, n < rest->length ? n + 1 : n, rest->length);
    return line;
}

/* At its own edge of the memory: the library may not look further. */
static fuzz_pages pages, head_pages;

static void take_networks(lp_slice line)
{
    while (line.length && q.net_count < NETS) {
        lp_slice one = strict_trim(take_line(&line, ','));
        lpi_network net;
        simple_net simple;
        int got, want;
        one = fuzz_guarded(&pages, one.bytes, one.length);
        got = !lpi_address_parse_network(one, &net);
        want = simple_network(one, &simple);
        MUST(got == want, "network \"%.*s\": %d", (int)one.length, one.bytes, got);
        if (!got) continue;
        MUST(net.bits == simple.bits && !memcmp(net.bytes, simple.bytes, 16), "network \"%.*s\"",
             (int)one.length, one.bytes);
        q.nets[q.net_count] = net;
        q.simple[q.net_count++] = simple;
    }
}

static int take_peer(lp_slice line)
{
    char text[INET6_ADDRSTRLEN + 1];
    uint8_t want[16], again[16];
    int got;
    line = fuzz_guarded(&pages, line.bytes, line.length);
    got = !lpi_address_parse(line, q.peer);
    MUST(got == simple_address(line, want), "address \"%.*s\": %d", (int)line.length, line.bytes,
         got);
    if (!got) return 0;
    MUST(!memcmp(q.peer, want, 16), "address \"%.*s\"", (int)line.length, line.bytes);
    MUST(!lpi_address_parse(lpi_address_put(text, want), again) && !memcmp(want, again, 16),
         "an address that is written and read again");
    return 1;
}

static int take_question(lp_slice text)
{
    q.net_count = q.field_count = 0;
    take_networks(take_line(&text, '\n'));
    if (!take_peer(take_line(&text, '\n'))) return 0;
    while (text.length && q.field_count < FIELDS) {
        lp_slice line = take_line(&text, '\n');
        field *f = &q.fields[q.field_count];
        if (!line.length || (line.bytes[0] != 'F' && line.bytes[0] != 'R')) continue;
        f->forwarded = line.bytes[0] == 'F';
        f->value = strict_cut(line, 1, line.length);
        q.field_count++;
    }
    return 1;
}

/* ---- the answers ---- */

/* All hops in one list, the peer last; from there on to the left while one is trusted. */
BLIND static void simple_answer(uint8_t at[16])
{
    static char list[MOST + FIELDS];
    lp_slice all = lpi_slice(list, 0);
    const lp_slice *real = NULL;
    uint32_t i, lists = 0;
    memcpy(at, q.peer, 16);
    for (i = 0; i < q.field_count; i++) {
        if (!q.fields[i].forwarded) {
            real = &q.fields[i].value;
            continue;
        }
        if (lists++) list[all.length++] = ',';
        memcpy(list + all.length, q.fields[i].value.bytes, q.fields[i].value.length);
        all.length += q.fields[i].value.length;
    }
    if (!lists) {
        uint8_t hop[16];
        if (real && simple_trusts(q.simple, q.net_count, at) && simple_hop(*real, hop))
            memcpy(at, hop, 16);
        return;
    }
    while (simple_trusts(q.simple, q.net_count, at)) {
        size_t comma = all.length;
        uint8_t hop[16];
        while (comma && list[comma - 1] != ',') comma--;
        if (!simple_hop(strict_cut(all, comma, all.length), hop)) return;
        memcpy(at, hop, 16);
        if (!comma) return;
        all.length = comma - 1;
    }
}

/* Fields as they come over the wire. NULL: not as a head may have them. */
static const char *put_head(lpi_http *http)
{
    static char text[MOST + 64 * (FIELDS + 1)];
    size_t n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nHost: h\r\n");
    lp_slice head;
    uint32_t i;
    for (i = 0; i < q.field_count; i++) {
        n += (size_t)sprintf(text + n, q.fields[i].forwarded ? "x-Forwarded-for:" : "X-Real-IP:");
        memcpy(text + n, q.fields[i].value.bytes, q.fields[i].value.length);
        n += q.fields[i].value.length;
        n += (size_t)sprintf(text + n, "\r\n");
    }
    n += (size_t)sprintf(text + n, "\r\n");
    head = fuzz_guarded(&head_pages, text, n);
    lpi_http_init(http, 65535);
    return lpi_http_head(http, head.bytes, n) == (int)n ? head.bytes : NULL;
}

static void library_answer(const lpi_http *http, const char *bytes, uint8_t at[16])
{
    static lp_server server;
    static lpi_loop loop;
    static uint32_t index = LPI_NONE;
    lp_request r;
    lpi_connection *c;
    if (index == LPI_NONE) {
        lpi_slab_init(&loop.connections, &lpi_libc_memory, sizeof(lpi_connection));
        index = lpi_slab_take(&loop.connections);
    }
    c = lpi_connection_at(&loop, index);
    memset(c, 0, sizeof *c);
    memset(&r, 0, sizeof r);
    server.proxies = q.nets;
    server.proxy_count = q.net_count;
    memcpy(c->address, q.peer, 16);
    if (lpi_address_in_networks(q.nets, q.net_count, q.peer)) c->flags = LPI_TRUSTED;
    MUST(!c->flags == !simple_trusts(q.simple, q.net_count, q.peer), "whether the peer is trusted");
    r.server = &server;
    r.loop = &loop;
    r.connection = index;
    r.http = http;
    r.bytes = bytes;
    lpi_request_find_client(&r);
    memcpy(at, r.client, 16);
}

/* A Host that stands for this machine whatever DNS says. */
static void check_host(lp_slice host)
{
    uint8_t bytes[16];
    size_t end = host.length, colon;
    int want, got;
    lp_slice name;
    if (!strict_authority(host)) return;
    host = fuzz_guarded(&pages, host.bytes, host.length);
    got = lpi_address_host_is_literal(lpi_address_host_name(host));
    if (host.bytes[0] == '[') {
        end = strict_find(host, ']');
        want = simple_address(strict_cut(host, 1, end), bytes);
    } else {
        colon = strict_find(host, ':');
        name = strict_cut(host, 0, colon);
        want = simple_address(name, bytes) || strict_is(name, "localhost");
    }
    MUST(!got == !want, "host \"%.*s\": %d", (int)host.length, host.bytes, got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char copy[MOST];
    lp_slice text = lpi_slice(copy, size);
    uint8_t got[16], want[16];
    char a[INET6_ADDRSTRLEN + 1], b[INET6_ADDRSTRLEN + 1];
    lpi_http http;
    const char *bytes;
    if (size > sizeof copy) return 0;
    if (size) memcpy(copy, data, size);
    check_host(strict_cut(text, 0, strict_find(text, '\n')));
    if (!take_question(text)) return 0;
    bytes = put_head(&http);
    if (!bytes) return 0;
    library_answer(&http, bytes, got);
    simple_answer(want);
    MUST(!memcmp(got, want, 16), "it is %.*s, not %.*s", (int)lpi_address_put(a, got).length, a,
         (int)lpi_address_put(b, want).length, b);
    return 0;
}
