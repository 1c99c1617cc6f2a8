/* B3, address: parsing, networks, the walk through X-Forwarded-For, and names of hosts. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

/* ---- addresses: in a block of just its size, so that a sanitizer sees what is beyond */

static int parse(const char *text, uint8_t out[16]) {
    size_t length = strlen(text);
    char *copy = (char *)malloc(length + !length);
    int result;
    memcpy(copy, text, length);
    result = lpi_address_parse(lpi_slice(copy, length), out);
    free(copy);
    return result;
}

/* The address as it is written back, or "-". */
static const char *canonical(const char *text) {
    static char to[INET6_ADDRSTRLEN + 1];
    uint8_t bytes[16];
    if (parse(text, bytes)) return "-";
    return lpi_address_put(to, bytes).bytes;
}

TEST(address_parsing) {
    static const char *const pairs[][2] = {
        {"1.2.3.4", "1.2.3.4"}, {"0.0.0.0", "0.0.0.0"}, {"255.255.255.255", "255.255.255.255"},
        {"::", "::"}, {"::1", "::1"}, {"2001:DB8:0:0::1", "2001:db8::1"},
        {"1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"}, {"::ffff:1.2.3.4", "1.2.3.4"},
        {"::FFFF:102:304", "1.2.3.4"}, {"64:ff9b::1.2.3.4", "64:ff9b::102:304"},
        {"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255",
         "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
        {"", "-"}, {"1.2.3", "-"}, {"1.2.3.4.5", "-"}, {"256.1.1.1", "-"}, {"1.2.3.4 ", "-"},
        {" 1.2.3.4", "-"}, {"127.1", "-"}, {"2130706433", "-"}, {"0x7f.0.0.1", "-"},
        {"1.2.3.-4", "-"}, {"1.2.3.4:80", "-"}, {"[::1]", "-"}, {":::", "-"}, {"1::2::3", "-"},
        {"1:2:3:4:5:6:7", "-"}, {"1:2:3:4:5:6:7:8:9", "-"}, {"12345::", "-"}, {"g::", "-"},
        {"fe80::1%lo", "-"}, {"localhost", "-"}, {"unknown", "-"},
        {"0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000", "-"}};
    uint8_t bytes[16];
    size_t i;
    for (i = 0; i < LPI_COUNT(pairs); i++) {
        if (strcmp(canonical(pairs[i][0]), pairs[i][1]))
            unit_fail(__FILE__, __LINE__, "\"%s\" is %s, not %s", pairs[i][0],
                      canonical(pairs[i][0]), pairs[i][1]);
    }
    CHECK_INT(lpi_address_parse(LPI_S("1.2.3.4\0"), bytes), -1);
    CHECK_INT(lpi_address_parse(LPI_S("1.2\0.3.4"), bytes), -1);
    CHECK_INT(lpi_address_parse(lpi_slice(NULL, 0), bytes), -1);
    CHECK_INT(parse("1.2.3.4", bytes), 0);
    CHECK(lpi_address_is_v4(bytes));
    CHECK_INT(parse("::1.2.3.4", bytes), 0); /* the old, compatible form is IPv6 */
    CHECK(!lpi_address_is_v4(bytes));
}

static void some_address(uint8_t out[16]) {
    int i;
    for (i = 0; i < 16; i++) out[i] = unit_one_in(3) ? 0 : (uint8_t)unit_random();
    if (unit_one_in(2)) memcpy(out, lpi_mapped, 12);
}

TEST(address_comes_back) {
    int round;
    for (round = 0; round < unit_rounds(5000); round++) {
        uint8_t want[16], got[16];
        char text[INET6_ADDRSTRLEN];
        some_address(want);
        CHECK_INT(lpi_address_parse(lpi_address_put(text, want), got), 0);
        CHECK(memcmp(got, want, 16) == 0);
    }
}

/* ---- networks ---- */

static lpi_network trusted[2];

TEST(address_networks_of_every_length) {
    int round;
    for (round = 0; round < unit_rounds(20000); round++) {
        uint8_t base[16], other[16];
        char text[80], address[INET6_ADDRSTRLEN];
        lpi_network net;
        uint32_t v4, bits, flipped;
        some_address(base);
        v4 = (uint32_t)lpi_address_is_v4(base) * 96;
        bits = unit_below(129 - v4);
        lpi_address_put(address, base);
        sprintf(text, "%s/%u", address, bits);
        CHECK_INT(lpi_address_parse_network(lp_s(text), &net), 0);
        CHECK_INT(net.bits, bits + v4);
        CHECK(lpi_address_in_network(&net, base)); /* though it has bits beyond the prefix */
        memcpy(other, base, 16);
        flipped = unit_below(128);
        other[flipped / 8] = (uint8_t)(other[flipped / 8] ^ 0x80 >> flipped % 8);
        CHECK_INT(lpi_address_in_network(&net, other), flipped >= bits + v4);
    }
}

TEST(address_networks_as_text) {
    static const struct { const char *text; int bits; } nets[] = {
        {"10.0.0.0/8", 104}, {"10.0.0.0/0", 96}, {"10.0.0.1/32", 128}, {"10.0.0.1", 128},
        {"::/0", 0}, {"fd00::/7", 7}, {"::1", 128}, {"::1/128", 128},
        {"::ffff:10.0.0.0/104", 104}, {"10.0.0.0/33", -1}, {"10.0.0.0/", -1},
        {"10.0.0.0/-1", -1}, {"10.0.0.0/08", -1}, {"10.0.0.0/8/8", -1}, {"10.0.0.0/8 ", -1},
        {"10.0.0/8", -1}, {"::/129", -1}, {"::/x", -1}, {"", -1}, {"/8", -1}, {"/", -1},
        {"10.0.0.0/255.0.0.0", -1}, {"10.0.0.0/4294967304", -1}, {"localhost", -1}};
    size_t i;
    for (i = 0; i < LPI_COUNT(nets); i++) {
        lpi_network net;
        int result;
        net.bits = 200;
        result = lpi_address_parse_network(lp_s(nets[i].text), &net);
        if (result != (nets[i].bits < 0 ? -1 : 0))
            unit_fail(__FILE__, __LINE__, "\"%s\" gives %d", nets[i].text, result);
        CHECK_INT(net.bits, result ? 200 : nets[i].bits);
    }
    CHECK_INT(lpi_address_parse_network(lpi_slice(NULL, 0), &trusted[0]), -1);
}

/* 0.0.0.0/0 is all of IPv4 and nothing of IPv6. */
TEST(address_all_of_ipv4) {
    lpi_network net, nets[2];
    uint8_t v4[16], v6[16];
    CHECK_INT(lpi_address_parse_network(LPI_S("0.0.0.0/0"), &net), 0);
    CHECK_INT(parse("203.0.113.9", v4), 0);
    CHECK_INT(parse("2001:db8::1", v6), 0);
    CHECK(lpi_address_in_network(&net, v4));
    CHECK(!lpi_address_in_network(&net, v6));
    CHECK_INT(lpi_address_parse_network(LPI_S("10.0.0.0/8"), &nets[0]), 0);
    CHECK_INT(lpi_address_parse_network(LPI_S("2001:db8::/32"), &nets[1]), 0);
    CHECK(lpi_address_in_networks(nets, 2, v6));
    CHECK(!lpi_address_in_networks(nets, 1, v6));
    CHECK(!lpi_address_in_networks(nets, 2, v4));
    CHECK(!lpi_address_in_networks(nets, 0, v4));
}

/* ---- X-Forwarded-For ---- */

/* Who is asking, when `peer` sends the field: its address, and '+' if the walk goes on in
   the field before. */
static const char *walk(const char *peer, const char *field) {
    static char result[INET6_ADDRSTRLEN + 2];
    uint8_t at[16];
    int more;
    CHECK_INT(lpi_address_parse_network(LPI_S("10.0.0.0/8"), &trusted[0]), 0);
    CHECK_INT(lpi_address_parse_network(LPI_S("fd00::/8"), &trusted[1]), 0);
    CHECK_INT(parse(peer, at), 0);
    more = lpi_address_walk_forwarded(lp_s(field), trusted, 2, at);
    lpi_address_put(result, at);
    return more ? strcat(result, "+") : result;
}

TEST(address_walks) {
    static const char *const walks[][3] = {
        {"192.0.2.1", "1.1.1.1", "192.0.2.1"}, /* not trusted: the field is ignored */
        {"10.0.0.1", "1.1.1.1", "1.1.1.1"}, {"10.0.0.1", "9.9.9.9, 1.1.1.1", "1.1.1.1"},
        {"10.0.0.1", "1.1.1.1, 10.0.0.2", "1.1.1.1"},
        {"10.0.0.1", "9.9.9.9,1.1.1.1,10.0.0.2 ,\t10.0.0.3", "1.1.1.1"},
        {"10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3+"}, /* all are trusted: the first */
        {"fd00::1", "2001:db8::1", "2001:db8::1"},
        {"fd00::1", "x, [2001:db8::1]:443", "2001:db8::1"},
        {"10.0.0.1", "1.1.1.1:8080", "1.1.1.1"}, {"10.0.0.1", "[2001:db8::1]", "2001:db8::1"},
        {"10.0.0.1", "::ffff:1.1.1.1", "1.1.1.1"}, {"::ffff:10.0.0.1", "1.1.1.1", "1.1.1.1"},
        {"10.0.0.1", "1.1.1.1, ::ffff:10.0.0.2", "1.1.1.1"},
        /* what is no address ends it: the last known is the one */
        {"10.0.0.1", "", "10.0.0.1"}, {"10.0.0.1", "unknown", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1,", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1, x, 10.0.0.2", "10.0.0.2"},
        {"10.0.0.1", "1.1.1.1,,10.0.0.2", "10.0.0.2"},
        {"10.0.0.1", "_hidden", "10.0.0.1"}, {"10.0.0.1", "[::1", "10.0.0.1"},
        {"10.0.0.1", "[]", "10.0.0.1"}, {"10.0.0.1", "1.1.1.1:", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1:x", "10.0.0.1"}, {"10.0.0.1", "1.1.1.1:65536", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1:0", "1.1.1.1"}, {"10.0.0.1", "[2001:db8::1]x", "10.0.0.1"},
        {"10.0.0.1", "[2001:db8::1]:", "10.0.0.1"},
        {"10.0.0.1", "1.1.1.1 1.1.1.2", "10.0.0.1"},
        {"10.0.0.1", "2001:db8::1:443x", "10.0.0.1"}};
    size_t i;
    for (i = 0; i < LPI_COUNT(walks); i++)
        if (strcmp(walk(walks[i][0], walks[i][1]), walks[i][2]))
            unit_fail(__FILE__, __LINE__, "from %s, \"%s\": %s, not %s", walks[i][0], walks[i][1],
                      walk(walks[i][0], walks[i][1]), walks[i][2]);
}

/* By chance, over several fields: whatever a stranger puts in front, the answer is the
   rightmost that is not trusted. */
TEST(address_nobody_walks_past_a_stranger) {
    int round;
    for (round = 0; round < unit_rounds(5000); round++) {
        static const char *const forged[] = {"6.6.6.6", "10.6.6.6", "x", "", "[", "fd00::6"};
        char fields[3][400] = {"", "", ""};
        uint8_t at[16], want[16];
        int hops = (int)unit_below(6), field = 2, i;
        walk("10.0.0.1", "");
        for (i = 0; i <= hops; i++) { /* from the right: proxies, then the stranger */
            char hop[40], rest[400];
            sprintf(hop, "%s.%u.%u", i < hops ? "10.0" : "203.0", unit_below(256),
                    unit_below(256));
            if (i == hops) CHECK_INT(parse(hop, want), 0);
            if (field && fields[field][0] && unit_one_in(3)) field--;
            strcpy(rest, fields[field]);
            sprintf(fields[field], "%s%s%s", hop, !*rest ? "" : unit_one_in(2) ? "," : " , ",
                    rest);
        }
        for (i = (int)unit_below(4); i; i--) {
            char rest[400];
            strcpy(rest, fields[field]);
            sprintf(fields[field], "%s,%s", forged[unit_below(LPI_COUNT(forged))], rest);
        }
        CHECK_INT(parse("10.0.0.1", at), 0);
        for (i = 2; i >= 0 && fields[i][0]; i--)
            if (!lpi_address_walk_forwarded(lp_s(fields[i]), trusted, 2, at)) break;
        CHECK(memcmp(at, want, 16) == 0);
    }
}

/* ---- hosts: as the head's parser has let them through ---- */

TEST(address_host_names) {
    CHECK_STR(lpi_address_host_name(lp_s("example.org:80")), "example.org");
    CHECK_STR(lpi_address_host_name(lp_s("example.org")), "example.org");
    CHECK_STR(lpi_address_host_name(lp_s("127.0.0.1")), "127.0.0.1");
    CHECK_STR(lpi_address_host_name(lp_s("127.0.0.1:1")), "127.0.0.1");
    CHECK_STR(lpi_address_host_name(lp_s("[::1]:8080")), "[::1]");
    CHECK_STR(lpi_address_host_name(lp_s("[::1]")), "[::1]");
    CHECK_STR(lpi_address_host_name(lp_s("h80:80")), "h80");
    CHECK_STR(lpi_address_host_name(lp_s("80")), "80");
    CHECK_STR(lpi_address_host_name(lp_s("")), "");
}

TEST(address_hosts_that_need_no_dns) {
    static const char *const literal[] = {
        "127.0.0.1", "10.1.2.3", "[::1]", "[2001:db8::1]", "localhost", "LocalHost"};
    static const char *const others[] = {
        "", "localhost.", "localhos", "localhost.example.org", "example.org",
        "127.0.0.1.example.org", "127.1", "2130706433", "0x7f000001", "::1", "[]", "[", "]",
        "[g]", "127.0.0.1.", "1.2.3.4.5"};
    size_t i;
    for (i = 0; i < LPI_COUNT(literal); i++)
        if (!lpi_address_host_is_literal(lp_s(literal[i])))
            unit_fail(__FILE__, __LINE__, "%s is one", literal[i]);
    for (i = 0; i < LPI_COUNT(others); i++)
        if (lpi_address_host_is_literal(lp_s(others[i])))
            unit_fail(__FILE__, __LINE__, "%s is none", others[i]);
}
