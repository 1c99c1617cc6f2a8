/* Signed tokens: the hash and the signature against published vectors, what is a token and what
   it permits, byte by byte; and then who may do what, and what ends with a token. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"
#include "kernel.h"
#include "../store.h"
#include "../token.h"

static world w;

/* ---- the hash ---- */

static const char *token_hex(const char *bytes) {
    static char text[2 * LPI_SHA256_BYTES + 1];
    int i;
    for (i = 0; i < LPI_SHA256_BYTES; i++) sprintf(text + 2 * i, "%02x", (uint8_t)bytes[i]);
    return text;
}

static const char *token_hash(const char *bytes, size_t length) {
    lpi_sha256 h;
    char out[LPI_SHA256_BYTES];
    lpi_sha256_init(&h);
    lpi_sha256_add(&h, lpi_slice(bytes, length));
    lpi_sha256_end(&h, out);
    return token_hex(out);
}

/* The examples of FIPS 180-4, and the further ones that NIST published with them. */
TEST(token_sha256_vectors) {
    static const struct { const char *text, *digest; } texts[] = {
        {"", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
        {"abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
        {"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq",
         "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
        {"abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmn"
         "hijklmnoijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
         "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1"},
        {"\xbd", "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b"},
        {"\xc9\x8c\x8e\x55",
         "7abc22c0ae5af26ce93dbb94433a0e0b2e119d014f8e7f65bd56c61ccccd9504"}};
    static const struct { char byte; size_t length; const char *digest; } runs[] = {
        {0, 55, "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7"},
        {0, 56, "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb"},
        {0, 57, "65a16cb7861335d5ace3c60718b5052e44660726da4cd13bb745381b235a1785"},
        {0, 64, "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b"},
        {0, 1000, "541b3e9daa09b20bf85fa273e5cbd3e80185aa4ec298e765db87742b70138a53"},
        {0x41, 1000, "c2e686823489ced2017f6059b8b239318b6364f6dcd835d0a519105a1eadd6e4"},
        {0x55, 1005, "f4d62ddec0f3dd90ea1380fa16a5ff8dc4c54b21740650f24afc4120903552b0"},
        {'a', 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
        {0, 1000000, "d29751f2649b32ff572b5e0a9f541ea660a50f94ff0beedfb0b692b924cc8025"}};
    static char run[1000000];
    size_t i;
    for (i = 0; i < LPI_COUNT(texts); i++)
        CHECK_STR(lp_s(token_hash(texts[i].text, strlen(texts[i].text))), texts[i].digest);
    for (i = 0; i < LPI_COUNT(runs); i++) {
        memset(run, runs[i].byte, runs[i].length);
        CHECK_STR(lp_s(token_hash(run, runs[i].length)), runs[i].digest);
    }
}

/* Texts of 0 to 300 bytes, in pieces; all their digests together have this one. */
TEST(token_sha256_of_every_length) {
    lpi_sha256 all, one;
    char text[300], digest[LPI_SHA256_BYTES];
    size_t length, i, n;
    lpi_sha256_init(&all);
    for (length = 0; length <= sizeof text; length++) {
        for (i = 0; i < length; i++) text[i] = (char)(i * 7 + length);
        lpi_sha256_init(&one);
        for (i = 0; i < length; i += n) {
            n = 1 + unit_below((uint32_t)(length - i));
            lpi_sha256_add(&one, lpi_slice(text + i, n));
        }
        lpi_sha256_end(&one, digest);
        lpi_sha256_add(&all, lpi_slice(digest, sizeof digest));
    }
    lpi_sha256_end(&all, digest);
    CHECK_STR(lp_s(token_hex(digest)),
              "60d63ff40b5558727a9b786ac0be9300f7ca58fd9ddd3b2f3681b369018a87dc");
}

static void token_check_mac(lp_slice secret, lp_slice text, const char *want, size_t bytes) {
    lpi_hmac key;
    char out[LPI_SHA256_BYTES];
    lpi_hmac_init(&key, secret);
    lpi_hmac_of(&key, text, out);
    CHECK_STR(lpi_slice(token_hex(out), 2 * bytes), want);
    lpi_hmac_of(&key, text, out); /* the key is as good as before */
    CHECK_STR(lpi_slice(token_hex(out), 2 * bytes), want);
}

/* RFC 4231, 4.2 to 4.8; of the fifth only 16 bytes are given there. And keys about as long as
   a block. */
TEST(token_hmac_vectors) {
    static const struct { char byte; size_t length; const char *text, *mac; } cases[] = {
        {0x0b, 20, "Hi There",
         "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
        {(char)0xaa, 131, "Test Using Larger Than Block-Size Key - Hash Key First",
         "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
        {(char)0xaa, 131,
         "This is a test using a larger than block-size key and a larger than block-size data. "
         "The key needs to be hashed before being used by the HMAC algorithm.",
         "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
        {'k', 63, "text", "c90d83e78c64ee16fe2eefa3e8a834d79d1d3d0ea483f8d9908323b714c7f134"},
        {'k', 64, "text", "0414bb1d8c0c4556cdb2028727b16610ae377b1a194b6db1f853d4297f2329bc"},
        {'k', 65, "text", "5b69580123e3d7e788b7e8352ac37a3247b911c5ec0837147b74109a6382d3f5"}};
    char key[131], text[50];
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        memset(key, cases[i].byte, cases[i].length);
        token_check_mac(lpi_slice(key, cases[i].length), lp_s(cases[i].text), cases[i].mac, 32);
    }
    token_check_mac(lp_s("Jefe"), lp_s("what do ya want for nothing?"),
                    "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843", 32);
    memset(key, 0xaa, 20);
    memset(text, 0xdd, 50);
    token_check_mac(lpi_slice(key, 20), lpi_slice(text, 50),
                    "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe", 32);
    for (i = 0; i < 25; i++) key[i] = (char)(i + 1);
    memset(text, 0xcd, 50);
    token_check_mac(lpi_slice(key, 25), lpi_slice(text, 50),
                    "82558a389a443c0ea4cc819899f2083a85f0faa3e578f8077a2e3ff46729665b", 32);
    memset(key, 0x0c, 20);
    token_check_mac(lpi_slice(key, 20), lp_s("Test With Truncation"),
                    "a3b6167473100ee06e0c796c2955552b", 16);
}

/* ---- base64url ---- */

TEST(token_base64url_comes_back) {
    char bytes[80], text[120], back[120];
    size_t length, i;
    for (length = 0; length < sizeof bytes; length++) {
        for (i = 0; i < length; i++) bytes[i] = (char)unit_below(256);
        token_encode(text, bytes, length);
        CHECK_INT(lpi_base64url_decode(back, lp_s(text)), length);
        CHECK_BYTES(back, length, bytes, length);
    }
}

TEST(token_base64url_edges) {
    static const struct { const char *text; long length; } cases[] = {
        {"", 0}, {"A", -1}, {"AA", 1}, {"AAA", 2}, {"AAAA", 3}, {"AAAAA", -1}, {"AAAAAA", 4},
        {"AQ", 1}, {"Ag", 1}, {"Aw", 1}, {"AR", -1}, {"AB", -1}, {"AAE", 2}, {"AAB", -1},
        {"AAD", -1}, {"AAI", 2}, {"_w", 1}, {"__8", 2}, {"__9", -1}, {"-_-_", 3}, {"+/+/", -1},
        {"AA==", -1}, {"AAA=", -1}, {"AA=", -1}, {"=", -1}, {" AA", -1}, {"AA ", -1},
        {"AA\n", -1}, {"A.A", -1}, {"AA\x80" "A", -1}};
    size_t i;
    int c, n = 0;
    char back[16];
    for (i = 0; i < LPI_COUNT(cases); i++)
        if (lpi_base64url_decode(back, lp_s(cases[i].text)) != cases[i].length)
            unit_fail(__FILE__, __LINE__, "\"%s\"", cases[i].text);
    for (c = 0; c < 256; c++) {
        char text[4] = {'A', 'A', 'A', 'A'};
        text[c % 4] = (char)c;
        n += lpi_base64url_decode(back, lpi_slice(text, 4)) == 3;
    }
    CHECK_INT(n, 64);
}

/* ---- strings and members of JSON ---- */

TEST(token_strings_are_decoded) {
    static const struct { const char *raw, *want; } cases[] = {
        {"", ""}, {"a", "a"}, {"\\\"\\\\\\/", "\"\\/"}, {"\\b\\f\\n\\r\\t", "\b\f\n\r\t"},
        {"\\u0041\\u005a", "AZ"}, {"x\\u007fy", "x\x7fy"}, {"\\u0080", "\xc2\x80"},
        {"\\u07FF", "\xdf\xbf"}, {"\\u0800", "\xe0\xa0\x80"}, {"\\uffff", "\xef\xbf\xbf"},
        {"\\uD7ff\\uE000", "\xed\x9f\xbf\xee\x80\x80"}, {"\\ud800\\udc00", "\xf0\x90\x80\x80"},
        {"\\uDBFF\\uDFFF!", "\xf4\x8f\xbf\xbf!"}, {"\xc3\xa9\\u00e9", "\xc3\xa9\xc3\xa9"},
        {"\\ud800", NULL}, {"\\udc00", NULL}, {"\\ud800\\ud800", NULL}, {"\\ud800x", NULL},
        {"\\ud800\\u0041", NULL}, {"\\ud800\\n00000", NULL}, {"\\udc00\\ud800", NULL},
        {"\\ud800\\ue000", NULL}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        size_t length = strlen(cases[i].raw);
        char *text = (char *)malloc(length + 1); /* not a byte more */
        lp_slice got;
        lp_result result;
        memcpy(text, cases[i].raw, length);
        result = lpi_json_decode(lpi_slice(text, length), text, length, &got);
        CHECK_INT(result, cases[i].want ? LP_OK : LP_ERR_TYPE);
        if (cases[i].want) CHECK_STR(got, cases[i].want);
        free(text);
    }
}

TEST(token_members_are_taken) {
    static const char text[] = " { \"a\" : [ 1 , [ ] , {\"b\":[2]} ] ,\"\\u0062\":\"]}\",\"c\":{}}";
    lpi_json_scan s, list;
    lp_slice key, value;
    CHECK_INT(lp_json_check(lp_s(text), NULL), LP_OK);
    lpi_json_scan_init(&s, lp_s(text));
    lpi_json_scan_space(&s);
    CHECK(lpi_json_take(&s, &key, &value));
    CHECK_STR(key, "a");
    CHECK_STR(value, "[ 1 , [ ] , {\"b\":[2]} ]");
    lpi_json_scan_init(&list, value);
    CHECK(lpi_json_take(&list, NULL, &value));
    CHECK_STR(value, "1");
    CHECK(lpi_json_take(&list, NULL, &value));
    CHECK_STR(value, "[ ]");
    CHECK(lpi_json_take(&list, NULL, &value));
    CHECK_STR(value, "{\"b\":[2]}");
    CHECK(!lpi_json_take(&list, NULL, &value));
    CHECK(lpi_json_take(&s, &key, &value));
    CHECK_STR(key, "\\u0062");
    CHECK_STR(value, "\"]}\"");
    CHECK(lpi_json_take(&s, &key, &value));
    lpi_json_scan_init(&list, value);
    CHECK(!lpi_json_take(&list, &key, &value));
    CHECK(!lpi_json_take(&s, &key, &value));
}

/* ---- what is a token ---- */

static lpi_token token_read;

static int token_takes(lp_slice text) {
    lpi_hmac key;
    char *copy = (char *)malloc(text.length + 1); /* not a byte more, but for "" */
    int result;
    memcpy(copy, text.bytes, text.length);
    lpi_hmac_init(&key, lp_s(token_secret));
    memset(&token_read, 0x55, sizeof token_read);
    result = lpi_token_read(&token_read, lpi_slice(copy, text.length), &key);
    free(copy); /* what was read stands by itself */
    return !result;
}

static int token_takes_parts(const char *header, const char *payload) {
    char text[TOKEN_ROOM];
    return token_takes(lp_s(token_sign(text, token_secret, header, payload)));
}

#define TOKEN_GOOD "{\"exp\":1732412345,\"channels\":[\"news\",\"room-*\"],\"actions\":[\"poll\"]}"

TEST(token_is_read) {
    CHECK(token_takes_parts(token_header, "{\"iss\":\"me\",\"exp\":1732412345.25,\"nbf\":17,"
                            "\"channels\":[\"n\\u00e9ws\",\"\"],\"x\":{\"exp\":[1]},"
                            "\"actions\":[\"publish\",\"admin\"]} "));
    CHECK_INT(token_read.ends_us, UINT64_C(1732412345250000));
    CHECK_INT(token_read.begins_us, 17000000);
    CHECK_INT(token_read.pattern_count, 2);
    CHECK_STR(token_read.patterns[0], "n\xc3\xa9ws");
    CHECK_STR(token_read.patterns[1], "");
    CHECK_INT(token_read.actions, 1u << LP_PUBLISH | 1u << LP_ADMIN);
    CHECK(token_takes_parts("{\"alg\":\"HS256\"}", TOKEN_GOOD));
    CHECK(token_takes_parts("{\"typ\":\"JWT\",\"alg\":\"HS256\"}", TOKEN_GOOD));
    CHECK(token_takes_parts(token_header, TOKEN_GOOD));
    CHECK_INT(token_read.ends_us, UINT64_C(1732412345000000));
    CHECK_INT(token_read.begins_us, 0);
    CHECK_INT(token_read.actions, 1u << LP_POLL);
}

/* Made by another program: `openssl dgst -sha256 -hmac`. */
TEST(token_of_another_maker) {
    CHECK(token_takes(lp_s(
        "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9."
        "eyJleHAiOjQxMDI0NDQ4MDAsImNoYW5uZWxzIjpbIm5ld3MiXSwiYWN0aW9ucyI6WyJwb2xsIiwicHVibGlzaCJdfQ."
        "PwPFE1sUIYm5ZKInc80goTs_7u_eOa1LZmGwfLAzC-8")));
    CHECK_STR(token_read.patterns[0], "news");
    CHECK_INT(token_read.ends_us, UINT64_C(4102444800000000));
}

TEST(token_headers_that_are_none) {
    static const char *const headers[] = {
        "{\"alg\":\"none\"}", "{\"alg\":\"none\",\"typ\":\"JWT\"}", "{\"alg\":\"None\"}",
        "{\"alg\":\"HS384\",\"typ\":\"JWT\"}", "{\"alg\":\"hs256\",\"typ\":\"JWT\"}",
        "{\"alg\":\"RS256\",\"typ\":\"JWT\"}", "{\"alg\":\"HS256\",\"typ\":\"jwt\"}",
        "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"kid\":\"1\"}",
        "{\"kid\":\"/dev/null\",\"alg\":\"HS256\",\"typ\":\"JWT\"}",
        "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"crit\":[\"exp\"],\"exp\":0}",
        "{\"alg\":\"HS256\",\"typ\":\"JWT\",\"b64\":false,\"crit\":[\"b64\"]}",
        "{\"alg\":\"HS256\",\"alg\":\"HS256\"}", "{\"alg\":\"HS256\",\"alg\":\"none\"}",
        "{\"alg\": \"HS256\"}", " {\"alg\":\"HS256\"}", "{\"alg\":\"HS256\"} ", "{\"alg\":\"HS256\"}\n",
        "{\"alg\":\"HS256\"", "{\"typ\":\"JWT\"}", "{}", "", "null",
        "{\"\\u0061lg\":\"HS256\"}"};
    char text[TOKEN_ROOM];
    size_t i;
    for (i = 0; i < LPI_COUNT(headers); i++) {
        if (token_takes_parts(headers[i], TOKEN_GOOD))
            unit_fail(__FILE__, __LINE__, "%s", headers[i]);
        *strrchr(token_sign(text, token_secret, headers[i], TOKEN_GOOD), '.') = 0;
        CHECK(!token_takes(lp_s(text))); /* nor without a signature, */
        strcat(text, ".");
        CHECK(!token_takes(lp_s(text))); /* or with an empty one */
    }
}

#define TOKEN_REST "\"channels\":[\"a\"],\"actions\":[\"poll\"]}"
#define TOKEN_EXP "{\"exp\":9,"

TEST(token_claims) {
    static const struct { int good; const char *payload; } cases[] = {
        {1, TOKEN_EXP TOKEN_REST}, {1, " {\t\"exp\" : 9 ,\n" TOKEN_REST "\r\n"},
        {0, TOKEN_EXP TOKEN_REST "x"}, {0, TOKEN_EXP TOKEN_REST "{}"},
        {0, "[" TOKEN_EXP TOKEN_REST "]"}, {0, "[]"}, {0, ""}, {0, "{}"}, {0, "null"}, {0, "9"},
        {0, "\"x\""}, {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"poll\"]"},
        /* exp */
        {0, "{" TOKEN_REST}, {0, "{\"exp\":null," TOKEN_REST}, {0, "{\"exp\":\"9\"," TOKEN_REST},
        {0, "{\"exp\":-9," TOKEN_REST}, {0, "{\"exp\":[9]," TOKEN_REST},
        {0, "{\"exp\":{}," TOKEN_REST}, {0, "{\"exp\":true," TOKEN_REST},
        {0, "{\"exp\":1e9," TOKEN_REST}, {0, "{\"exp\":1E9," TOKEN_REST},
        {0, "{\"exp\":09," TOKEN_REST}, {0, "{\"exp\":9.," TOKEN_REST},
        {0, "{\"exp\":.9," TOKEN_REST}, {0, "{\"exp\":+9," TOKEN_REST},
        {0, "{\"exp\":9x," TOKEN_REST}, {0, "{\"exp\":NaN," TOKEN_REST},
        {1, "{\"exp\":0," TOKEN_REST}, {1, "{\"exp\":0.5," TOKEN_REST},
        {1, "{\"exp\":9.000000000000000000001," TOKEN_REST},
        {1, "{\"exp\":99999999999999999999999999999," TOKEN_REST},
        {0, "{\"Exp\":9," TOKEN_REST}, {0, "{\"exp \":9," TOKEN_REST},
        {1, "{\"\\u0065xp\":9," TOKEN_REST},
        {0, "{\"exp\":9," TOKEN_EXP TOKEN_REST}, {0, "{\"exp\":9,\"exp\":9," TOKEN_REST},
        {0, "{\"exp\":9,\"e\\u0078p\":9," TOKEN_REST}, {0, "{\"exp\":\"x\",\"exp\":9," TOKEN_REST},
        /* nbf */
        {1, TOKEN_EXP "\"nbf\":0," TOKEN_REST}, {1, TOKEN_EXP "\"nbf\":1.5," TOKEN_REST},
        {1, TOKEN_EXP "\"nbf\":10," TOKEN_REST}, {0, TOKEN_EXP "\"nbf\":null," TOKEN_REST},
        {0, TOKEN_EXP "\"nbf\":\"1\"," TOKEN_REST}, {0, TOKEN_EXP "\"nbf\":-1," TOKEN_REST},
        {0, TOKEN_EXP "\"nbf\":1,\"nbf\":1," TOKEN_REST},
        /* channels */
        {0, TOKEN_EXP "\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":\"a\",\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":{\"a\":\"b\"},\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[1],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\",null],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[[\"a\"]],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"\\ud800\"],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"channels\":[\"a\"],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\n\"],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"\xff\"],\"actions\":[\"poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\",],\"actions\":[\"poll\"]}"},
        /* actions */
        {0, TOKEN_EXP "\"channels\":[\"a\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":\"poll\"}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"poll\",\"stream\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"Poll\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"pol\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"polls\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"*\"]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[true]}"},
        {0, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"poll\"],\"actions\":[\"admin\"]}"},
        {1, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"poll\",\"poll\"]}"},
        {1, TOKEN_EXP "\"channels\":[\"a\"],\"actions\":[\"p\\u006fll\"]}"},
        /* others */
        {1, "{\"iat\":-1,\"aud\":[\"x\"],\"sub\":null,\"sub\":2,\"\":{}," "\"exp\":9," TOKEN_REST},
        {0, "{\"x\":{\"exp\":9}," TOKEN_REST}, {0, "{\"x\":[}," TOKEN_EXP TOKEN_REST}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++)
        if (token_takes_parts(token_header, cases[i].payload) != cases[i].good)
            unit_fail(__FILE__, __LINE__, "%s", cases[i].payload);
    CHECK(!token_takes_parts(token_header, TOKEN_EXP "\"nbf\":1,\"channels\":[\"a\"]}"));
}

TEST(token_times_are_exact) {
    static const struct { const char *exp; uint64_t us; } cases[] = {
        {"0", 0}, {"0.000001", 1}, {"0.0000001", 1}, {"0.0000010", 1}, {"1.0000011", 1000002},
        {"9.9999999", 10000000}, {"1000000000000", UINT64_C(1000000000000000000)},
        {"10000000000000000000000", UINT64_C(1000000000000000000)}};
    char payload[200];
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++) {
        sprintf(payload, "{\"exp\":%s," TOKEN_REST, cases[i].exp);
        CHECK(token_takes_parts(token_header, payload));
        CHECK_INT(token_read.ends_us, cases[i].us);
    }
}

/* ---- what is none ---- */

TEST(token_with_any_bit_changed) {
    char text[TOKEN_ROOM];
    size_t length, i;
    int bit;
    token_sign(text, token_secret, token_header, TOKEN_GOOD);
    length = strlen(text);
    for (i = 0; i < length; i++)
        for (bit = 0; bit < 8; bit++) {
            text[i] = (char)(text[i] ^ 1 << bit);
            if (token_takes(lpi_slice(text, length)))
                unit_fail(__FILE__, __LINE__, "byte %d, bit %d", (int)i, bit);
            text[i] = (char)(text[i] ^ 1 << bit);
        }
    CHECK(token_takes(lpi_slice(text, length)));
}

TEST(token_with_any_character_changed) {
    static const char all[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=";
    char text[TOKEN_ROOM];
    const char *c;
    size_t length, i;
    token_sign(text, token_secret, token_header, TOKEN_GOOD);
    length = strlen(text);
    for (i = 0; i < length; i++) {
        char was = text[i];
        for (c = all; *c; c++) {
            text[i] = *c;
            CHECK_INT(token_takes(lpi_slice(text, length)), *c == was);
        }
        text[i] = was;
    }
}

TEST(token_cut_or_lengthened) {
    char text[TOKEN_ROOM], longer[2 * TOKEN_ROOM + 2];
    size_t length, i;
    int c;
    token_sign(text, token_secret, token_header, TOKEN_GOOD);
    length = strlen(text);
    for (i = 0; i < length; i++) {
        CHECK(!token_takes(lpi_slice(text, i)));
        CHECK(!token_takes(lpi_slice(text + length - i, i)));
        memcpy(longer, text, i); /* one is missing inside */
        memcpy(longer + i, text + i + 1, length - i - 1);
        CHECK(!token_takes(lpi_slice(longer, length - 1)));
    }
    for (i = 0; i <= length; i++)
        for (c = 0; c < 256; c += 1 + (c == 128) * 50) { /* one more */
            memcpy(longer, text, i);
            longer[i] = (char)c;
            memcpy(longer + i + 1, text + i, length - i);
            CHECK(!token_takes(lpi_slice(longer, length + 1)));
        }
    sprintf(longer, "%s.%s", text, text);
    CHECK(!token_takes(lp_s(longer)));
    sprintf(longer, ".%s", text);
    CHECK(!token_takes(lp_s(longer)));
    CHECK(!token_takes(lp_s("..")));
    CHECK(!token_takes(lp_s("...")));
    CHECK(token_takes(lpi_slice(text, length)));
}

TEST(token_of_another_secret) {
    char text[TOKEN_ROOM], other[sizeof token_secret];
    size_t i;
    for (i = 0; i < sizeof token_secret - 1; i++) {
        strcpy(other, token_secret);
        other[i] ^= 1;
        CHECK(!token_takes(lp_s(token_sign(text, other, token_header, TOKEN_GOOD))));
        other[i] = 0;
        CHECK(!token_takes(lp_s(token_sign(text, other, token_header, TOKEN_GOOD))));
    }
}

/* The signature is of the header and the payload as they are written: the two of one token
   are none of another. */
TEST(token_parts_of_two) {
    char one[TOKEN_ROOM], two[TOKEN_ROOM];
    token_sign(one, token_secret, token_header, TOKEN_GOOD);
    token_sign(two, token_secret, token_header, TOKEN_EXP TOKEN_REST);
    strcpy(strrchr(one, '.'), strrchr(two, '.'));
    CHECK(!token_takes(lp_s(one)));
    CHECK(token_takes(lp_s(two)));
}

/* A payload whose last bits stand for nothing, in the one form that is signed too. */
TEST(token_with_spare_bits) {
    lpi_hmac key;
    char text[TOKEN_ROOM], mac[LPI_SHA256_BYTES], *end;
    int i;
    lpi_hmac_init(&key, lp_s(token_secret));
    for (i = 0; i < 4; i++) { /* " " at the end: 2 bytes over, so 2 bits */
        end = token_encode(text, token_header, sizeof token_header - 1);
        *end++ = '.';
        end = token_encode(end, TOKEN_EXP TOKEN_REST "  ", sizeof TOKEN_EXP TOKEN_REST + 1);
        CHECK_INT((end - strchr(text, '.') - 1) % 4, 3);
        end[-1] = (char)(end[-1] + i);
        lpi_hmac_of(&key, lpi_slice_to(text, end), mac);
        *end++ = '.';
        token_encode(end, mac, sizeof mac);
        CHECK_INT(token_takes(lp_s(text)), !i);
    }
}

/* ---- as large as it may be ---- */

static const char *token_padded(char *payload, int padding) {
    sprintf(payload, "{\"x\":\"%*s\",\"exp\":9," TOKEN_REST, padding, "");
    return payload;
}

TEST(token_of_4096_bytes) {
    char text[TOKEN_ROOM], payload[TOKEN_ROOM];
    int padding = 3011 - (int)strlen(token_padded(payload, 0));
    token_sign(text, token_secret, token_header, token_padded(payload, padding));
    CHECK_INT(strlen(text), LPI_TOKEN_BYTES);
    CHECK(token_takes(lp_s(text)));
    token_sign(text, token_secret, token_header, token_padded(payload, padding + 1));
    CHECK_INT(strlen(text), LPI_TOKEN_BYTES + 1);
    CHECK(!token_takes(lp_s(text)));
}

TEST(token_of_64_channels) {
    char payload[2000], *to;
    int n, i;
    for (n = 63; n <= 66; n++) {
        to = payload + sprintf(payload, "{\"exp\":9,\"channels\":[\"c0\"");
        for (i = 1; i < n; i++) to += sprintf(to, ",\"c%d\"", i);
        sprintf(to, "],\"actions\":[\"poll\"]}");
        CHECK_INT(token_takes_parts(token_header, payload), n <= LPI_TOKEN_PATTERNS);
        if (n > LPI_TOKEN_PATTERNS) continue;
        CHECK(lpi_token_covers(&token_read, LP_POLL, lp_s("c62")));
        CHECK_INT(lpi_token_covers(&token_read, LP_POLL, lp_s("c63")), n == 64);
        CHECK(!lpi_token_covers(&token_read, LP_POLL, lp_s("c64")));
    }
}

TEST(token_json_as_deep_as_it_may_be) {
    char payload[400], open[80], end[80];
    int depth;
    for (depth = 62; depth <= 65; depth++) {
        memset(open, '[', (size_t)depth);
        memset(end, ']', (size_t)depth);
        sprintf(payload, "{\"x\":%.*s%.*s,\"exp\":9," TOKEN_REST, depth, open, depth, end);
        CHECK_INT(token_takes_parts(token_header, payload), depth < LPI_JSON_DEPTH);
    }
}

/* ---- patterns ---- */

TEST(token_patterns) {
    static const struct { const char *pattern, *name; int matches; } cases[] = {
        {"news", "news", 1}, {"news", "new", 0}, {"news", "newss", 0}, {"news", "News", 0},
        {"news", "xnews", 0}, {"", "a", 0}, {"*", "a", 1}, {"*", "anything/at all", 1},
        {"**", "a", 1}, {"a*", "a", 1}, {"a*", "ab", 1}, {"a*", "ba", 0}, {"*a", "a", 1},
        {"*a", "ba", 1}, {"*a", "ab", 0}, {"*a", "aab", 0}, {"*a", "aaa", 1}, {"a*b", "ab", 1},
        {"a*b", "axb", 1}, {"a*b", "axbx", 0}, {"a*b", "a", 0}, {"a*b", "abb", 1},
        {"a*a", "a", 0}, {"a*a", "aa", 1}, {"*a*", "bab", 1}, {"*a*", "bbb", 0},
        {"*ab*ab*", "abab", 1}, {"*ab*ab*", "aab", 0}, {"*aab", "aaab", 1}, {"*aba", "ababa", 1},
        {"*abab*b", "aababb", 1}, {"room-*", "room-", 1}, {"room-*", "room", 0},
        {"room-*", "rooms-1", 0}, {"*.*.*", "a.b.c", 1}, {"*.*.*", "a.b", 0}, {"*.*.*", "..", 1},
        {"a?c", "abc", 0}, {"a?c", "a?c", 1}, {"[ab]", "a", 0}, {"a\\*", "a*", 0},
        {"a\\*", "a\\x", 1}, {"*", "*", 1}, {"caf\xc3\xa9*", "caf\xc3\xa9/1", 1},
        {"*\xa9", "\xc3\xa9", 1}};
    size_t i;
    for (i = 0; i < LPI_COUNT(cases); i++)
        if (lpi_token_matches(lp_s(cases[i].pattern), lp_s(cases[i].name)) != cases[i].matches)
            unit_fail(__FILE__, __LINE__, "%s %s", cases[i].pattern, cases[i].name);
}

/* The same by trying everything. */
static int token_matches_slowly(lp_slice p, lp_slice n) {
    size_t i;
    if (!p.length) return !n.length;
    if (*p.bytes != '*')
        return n.length && *n.bytes == *p.bytes &&
               token_matches_slowly(lpi_slice(p.bytes + 1, p.length - 1),
                                    lpi_slice(n.bytes + 1, n.length - 1));
    for (i = 0; i <= n.length; i++)
        if (token_matches_slowly(lpi_slice(p.bytes + 1, p.length - 1),
                                 lpi_slice(n.bytes + i, n.length - i)))
            return 1;
    return 0;
}

TEST(token_patterns_at_random) {
    int rounds = unit_rounds(200000), matched = 0;
    while (rounds--) {
        char pattern[8], name[10];
        size_t p = unit_below(sizeof pattern), n = 1 + unit_below(sizeof name - 1), i;
        int want;
        for (i = 0; i < p; i++) pattern[i] = "**aab"[unit_below(5)];
        for (i = 0; i < n; i++) name[i] = "aab"[unit_below(3)];
        want = token_matches_slowly(lpi_slice(pattern, p), lpi_slice(name, n));
        CHECK_INT(lpi_token_matches(lpi_slice(pattern, p), lpi_slice(name, n)), want);
        matched += want;
    }
    CHECK(matched > 100);
}

/* Which by trying everything would take for ever. */
TEST(token_patterns_that_are_slow_elsewhere) {
    char pattern[3001], name[256];
    int i;
    for (i = 0; i < 3000; i++) pattern[i] = i % 2 ? '*' : 'a';
    pattern[i] = 'b';
    memset(name, 'a', 255);
    for (i = 0; i < 1000; i++) {
        CHECK(!lpi_token_matches(lpi_slice(pattern, 3001), lpi_slice(name, 255)));
        CHECK(!lpi_token_matches(lpi_slice(pattern + 2900, 101), lpi_slice(name, 255)));
    }
}

TEST(token_covers_what_it_says) {
    CHECK(token_takes_parts(token_header,
          "{\"exp\":9,\"channels\":[\"a\",\"b*\"],\"actions\":[\"poll\",\"admin\"]}"));
    CHECK(lpi_token_covers(&token_read, LP_POLL, lp_s("a")));
    CHECK(lpi_token_covers(&token_read, LP_ADMIN, lp_s("bc")));
    CHECK(!lpi_token_covers(&token_read, LP_PUBLISH, lp_s("a")));
    CHECK(!lpi_token_covers(&token_read, LP_POLL, lp_s("c")));
    CHECK(!lpi_token_covers(&token_read, LP_ADMIN, lp_s(""))); /* no channel in particular */
    CHECK(token_takes_parts(token_header,
          "{\"exp\":9,\"channels\":[\"a\",\"**\",\"\"],\"actions\":[\"admin\"]}"));
    CHECK(!lpi_token_covers(&token_read, LP_ADMIN, lp_s("")));
    CHECK(token_takes_parts(token_header,
          "{\"exp\":9,\"channels\":[\"a\",\"*\"],\"actions\":[\"admin\"]}"));
    CHECK(lpi_token_covers(&token_read, LP_ADMIN, lp_s("")));
    CHECK(!lpi_token_covers(&token_read, LP_POLL, lp_s("")));
}

/* ---- requests ---- */

static char token_texts[8][TOKEN_ROOM]; /* one after the other */
static int token_next;

static char *token_for(const char *payload) {
    return token_sign(token_texts[token_next++ % 8], token_secret, token_header, payload);
}

/* The wall clock, that far from now, as a number of seconds. */
static const char *token_time(int64_t ms) {
    static char text[40];
    uint64_t us = w.k.wall_us + w.k.now_us + (uint64_t)(ms * 1000);
    sprintf(text, "%llu.%06u", (unsigned long long)(us / 1000000), (unsigned)(us % 1000000));
    return text;
}

/* Good for `ms` from now on. */
static char *token_of(int64_t ms, const char *channels, const char *actions) {
    char payload[1000];
    snprintf(payload, sizeof payload, "{\"exp\":%s,\"channels\":[%s],\"actions\":[%s]}",
             token_time(ms), channels, actions);
    return token_for(payload);
}

static void token_open(void) {
    w.cfg.token_secret = token_secret;
    open_world(&w);
}

/* A GET, with that token in its header unless it is NULL. */
static void token_get(peer *c, const char *target, const char *token) {
    sayf(c, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s\r\n", target,
         token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
}

static answer *token_ask(const char *target, const char *token) {
    peer *c = dial(&w);
    answer *a;
    token_get(c, target, token);
    settle(&w);
    a = take(c);
    leave(&w, c);
    return a;
}

static answer *token_publish(const char *target, const char *token) {
    peer *c = dial(&w);
    sayf(c, "POST %s HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            "%s%s%sContent-Length: 2\r\n\r\n{}", target,
         token ? "Authorization: Bearer " : "", token ? token : "", token ? "\r\n" : "");
    settle(&w);
    return take(c);
}

static peer *token_park(const char *target, const char *token) {
    uint32_t before = w.s->hub.stats.waiters;
    peer *c = dial(&w);
    token_get(c, target, token);
    settle(&w);
    CHECK_SILENT(c);
    CHECK_INT(w.s->hub.stats.waiters, before + 1);
    return c;
}

static void token_check(const answer *a, int status, const char *error, const char *challenge) {
    CHECK_INT(a->status, status);
    CHECK_STR(member(a->body, "error"), error);
    CHECK_STR(heading(a, "WWW-Authenticate"), challenge);
}

#define TOKEN_INVALID "Bearer error=\"invalid_token\""
#define TOKEN_SCOPE "Bearer error=\"insufficient_scope\""

static void token_check_ended(const answer *a) {
    token_check(a, 401, "Token expired", TOKEN_INVALID);
    CHECK(!heading(a, "Retry-After").bytes);
}

/* Channels that an administrator may ask for. */
static void token_make_channels(void) {
    static const char *const names[] = {"a", "d", "news", "other"};
    size_t i;
    for (i = 0; i < LPI_COUNT(names); i++)
        CHECK_INT(lp_publish(w.s, lp_s(names[i]), lp_s("{}"), NULL), LP_OK);
}

/* ---- who may do what ---- */

/* Each action with no token, its own, another's, and a signed one that is good for all; for each
   set of tokens that may be configured. */
TEST(token_who_needs_what) {
    static const char *const plain[] = {"to-poll", "to-publish", "to-admin"};
    int set, action, shown;
    for (set = 0; set < 16; set++) {
        const char *whole;
        memset(&w, 0, sizeof w);
        if (set & 1) w.cfg.poll_token = plain[0];
        if (set & 2) w.cfg.publish_token = plain[1];
        if (set & 4) w.cfg.admin_token = plain[2];
        if (set & 8) w.cfg.token_secret = token_secret;
        open_world(&w);
        token_make_channels();
        whole = token_of(100000, "\"*\"", "\"poll\",\"publish\",\"admin\"");
        for (action = 0; action < 3; action++)
            for (shown = 0; shown < 4; shown++) {
                int own = set >> action & 1, is_signed = set >> 3, want = 200;
                const char *token = shown == 0   ? NULL
                                    : shown == 1 ? plain[action]
                                    : shown == 2 ? plain[(action + 1) % 3]
                                                 : whole;
                const answer *a = action == 0   ? token_ask("/api/poll/a?timeout=0", token)
                                  : action == 1 ? token_publish("/api/publish/a", token)
                                                : token_ask("/api/channels/a", token);
                if (own || is_signed)
                    want = (shown == 1 && own) || (shown == 3 && is_signed) ? 200 : 401;
                else if (action == 2) want = 404;
                if (a->status != want)
                    unit_fail(__FILE__, __LINE__, "set %d, action %d, shown %d: %d", set, action,
                              shown, a->status);
                if (want == 401)
                    CHECK_STR(heading(a, "WWW-Authenticate"), shown ? TOKEN_INVALID : "Bearer");
                else CHECK(!heading(a, "WWW-Authenticate").bytes);
            }
        close_world(&w);
    }
}

TEST(token_has_to_cover_the_action_and_each_channel) {
    token_open();
    token_make_channels();
    {
        const char *poll = token_of(9000, "\"news\",\"room-*\"", "\"poll\"");
        const char *both = token_of(9000, "\"a/b\",\"caf\\u00e9\"", "\"publish\",\"poll\"");
        const char *admin = token_of(9000, "\"news\"", "\"admin\"");
        const char *all = token_of(9000, "\"*\"", "\"admin\"");
        CHECK_INT(token_ask("/api/poll/news?timeout=0", poll)->status, 200);
        CHECK_INT(token_ask("/api/poll/room-1,news,room-2?timeout=0", poll)->status, 200);
        CHECK_INT(token_ask("/api/poll/n%65ws?timeout=0", poll)->status, 200);
        token_check(token_ask("/api/poll/room-1,other,news?timeout=0", poll), 403,
                    "Token does not cover this", TOKEN_SCOPE);
        token_check(token_ask("/api/poll/New?timeout=0", poll), 403, "Token does not cover this",
                    TOKEN_SCOPE);
        token_check(token_publish("/api/publish/news", poll), 403, "Token does not cover this",
                    TOKEN_SCOPE);
        CHECK_INT(token_publish("/api/publish/a%2Fb", both)->status, 200);
        CHECK_INT(token_ask("/api/poll/a%2Fb,caf%C3%A9?timeout=0", both)->status, 200);
        CHECK_INT(token_ask("/api/poll/a%252Fb?timeout=0", both)->status, 403);
        CHECK_INT(token_ask("/api/channels/news", admin)->status, 200);
        CHECK_INT(token_ask("/api/channels/other", admin)->status, 403);
        CHECK_INT(token_ask("/api/channels", admin)->status, 403);
        CHECK_INT(token_ask("/api/channels", all)->status, 200);
        CHECK_INT(token_ask("/api/channels/other", all)->status, 200);
        CHECK_INT(token_ask("/api/channels/news", poll)->status, 403);
    }
    CHECK_INT(stats_of(&w).channels, 8); /* none of those that were refused */
    close_world(&w);
}

/* What is wrong with the question is told after who may not ask, but for the name, which the
   token has to cover. */
TEST(token_before_what_is_published_is_looked_at) {
    const char *token;
    peer *c;
    token_open();
    token = token_of(9000, "\"a\"", "\"publish\"");
    c = dial(&w);
    say(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
           "Content-Length: 60000\r\nExpect: 100-continue\r\n\r\n");
    settle(&w);
    token_check(take(c), 401, "Unauthorized", "Bearer");
    c = dial(&w);
    sayf(c, "POST /api/publish/a HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\n"
            "Authorization: Bearer %s\r\nContent-Length: 2\r\n\r\n{}", token);
    settle(&w);
    CHECK_INT(take(c)->status, 415);
    CHECK_INT(token_publish("/api/publish/%ff", NULL)->status, 400);
    CHECK_INT(token_publish("/api/publish/b", token)->status, 403);
    CHECK_INT(stats_of(&w).published, 0);
    CHECK_INT(token_publish("/api/publish/a", token)->status, 200);
    close_world(&w);
}

static char token_asked[300];
static int token_hook_says;

static int token_authorize(void *ctx, lp_request *r, lp_action action, lp_slice channel) {
    (void)ctx, (void)r;
    sprintf(token_asked + strlen(token_asked), "%d:%.*s;", action, (int)channel.length,
            channel.length ? channel.bytes : "");
    return token_hook_says;
}

TEST(token_and_then_authorize) {
    const char *token;
    w.cfg.authorize.ask = token_authorize;
    token_open();
    token_make_channels();
    token = token_of(9000, "\"a\",\"*\"", "\"poll\",\"publish\",\"admin\"");
    CHECK_INT(token_ask("/api/poll/a", NULL)->status, 401);
    CHECK_INT(token_ask("/api/poll/a", "x")->status, 401);
    CHECK_STR(lp_s(token_asked), "");
    CHECK_INT(token_ask("/api/poll/a,b?timeout=0", token)->status, 200);
    CHECK_INT(token_publish("/api/publish/c", token)->status, 200);
    CHECK_INT(token_ask("/api/channels/d", token)->status, 200);
    CHECK_INT(token_ask("/api/channels", token)->status, 200);
    CHECK_STR(lp_s(token_asked), "0:a;0:b;1:c;2:d;2:;");
    token_hook_says = 403;
    token_check(token_ask("/api/channels", token), 403, "Forbidden", "");
    token_hook_says = 401;
    token_check(token_publish("/api/publish/c", token), 401, "Unauthorized", "Bearer");
    close_world(&w);
}

/* ---- where the token stands ---- */

static answer *token_query(const char *format, const char *token, const char *header) {
    char target[3000];
    snprintf(target, sizeof target, format, token);
    return token_ask(target, header);
}

TEST(token_in_the_query) {
    const char *token;
    w.cfg.poll_token = "plain";
    token_open();
    token = token_of(9000, "\"a\"", "\"poll\",\"publish\"");
    CHECK_INT(token_query("/api/poll/a?timeout=0&access_token=%s", token, NULL)->status, 200);
    CHECK_INT(token_query("/api/poll/a?access_token=%s&timeout=0", token, NULL)->status, 200);
    CHECK_INT(token_query("/api/poll/a?acce%%73s_token=%s&timeout=0", token, NULL)->status, 200);
    {
        char escaped[3 * 400 + 1];
        size_t i;
        for (i = 0; token[i]; i++) sprintf(escaped + 3 * i, "%%%02X", (uint8_t)token[i]);
        CHECK(i < 400);
        CHECK_INT(token_query("/api/poll/a?timeout=0&access_token=%s", escaped, NULL)->status, 200);
    }
    token_check(token_query("/api/poll/b?access_token=%s", token, NULL), 403,
                "Token does not cover this", TOKEN_SCOPE);
    token_check(token_query("/api/poll/a?Access_Token=%s", token, NULL), 401, "Unauthorized",
                "Bearer");
    token_check(token_query("/api/poll/a?access_token=%s%%", token, NULL), 401, "Bad token",
                TOKEN_INVALID);
    token_check(token_query("/api/poll/a?access_token=%s%%2E", token, NULL), 401, "Bad token",
                TOKEN_INVALID);
    token_check(token_query("/api/poll/a?access_token=", token, NULL), 401, "Bad token",
                TOKEN_INVALID);
    token_check(token_query("/api/poll/a?access_token", token, NULL), 401, "Bad token",
                TOKEN_INVALID);
    /* A plain one stands in the header only. */
    token_check(token_query("/api/poll/a?access_token=%s", "plain", NULL), 401, "Bad token",
                TOKEN_INVALID);
    CHECK_INT(token_ask("/api/poll/a?timeout=0", "plain")->status, 200);
    close_world(&w);
}

TEST(token_given_twice) {
    static const char invalid[] = "Bearer error=\"invalid_request\"";
    const char *token;
    char target[3000];
    w.cfg.poll_token = "plain";
    token_open();
    token = token_of(9000, "\"a\"", "\"poll\"");
    snprintf(target, sizeof target, "/api/poll/a?timeout=0&access_token=%s", token);
    token_check(token_ask(target, token), 400, "Token given twice", invalid);
    token_check(token_ask(target, "plain"), 400, "Token given twice", invalid);
    token_check(token_ask(target, "x"), 400, "Token given twice", invalid);
    snprintf(target, sizeof target, "/api/poll/a?access_token=%s&timeout=0&access_token=%s", token,
             token);
    token_check(token_ask(target, NULL), 400, "Token given twice", invalid);
    token_check(token_ask("/api/poll/a?access_token&access_token", NULL), 400, "Token given twice",
                invalid);
    close_world(&w);
}

/* Another scheme is no token of ours, and may stand beside it. */
TEST(token_beside_another_scheme) {
    peer *c;
    token_open();
    c = dial(&w);
    sayf(c, "GET /api/poll/a?timeout=0&access_token=%s HTTP/1.1\r\nHost: localhost\r\n"
            "Authorization: Basic dTpw\r\n\r\n", token_of(9000, "\"a\"", "\"poll\""));
    settle(&w);
    CHECK_INT(take(c)->status, 200);
    close_world(&w);
}

/* Where no secret is set the query is the application's own. */
TEST(token_in_a_query_that_nobody_reads) {
    w.cfg.poll_token = "plain";
    open_world(&w);
    CHECK_INT(token_ask("/api/poll/a?timeout=0&access_token=x", "plain")->status, 200);
    token_check(token_ask("/api/poll/a?access_token=plain", NULL), 401, "Unauthorized", "Bearer");
    close_world(&w);
}

/* ---- when it is good ---- */

TEST(token_is_good_until_just_before_its_end) {
    static const struct { int us, status; } cases[] = {{-1000000, 401}, {-1, 401}, {0, 401},
                                                       {1, 200}, {2, 200}, {1000000, 200}};
    size_t i;
    char payload[200];
    token_open();
    for (i = 0; i < LPI_COUNT(cases); i++) {
        uint64_t us = w.k.wall_us + w.k.now_us + (uint64_t)(int64_t)cases[i].us;
        const answer *a;
        sprintf(payload, "{\"exp\":%llu.%06u," TOKEN_REST, (unsigned long long)(us / 1000000),
                (unsigned)(us % 1000000));
        a = token_ask("/api/poll/a?timeout=0", token_for(payload));
        CHECK_INT(a->status, cases[i].status);
        if (a->status == 401) token_check_ended(a);
        sprintf(payload, "{\"nbf\":%llu.%06u,\"exp\":9999999999," TOKEN_REST,
                (unsigned long long)(us / 1000000), (unsigned)(us % 1000000));
        a = token_ask("/api/poll/a?timeout=0", token_for(payload));
        CHECK_INT(a->status, cases[i].us <= 0 ? 200 : 401);
        if (a->status == 401) token_check(a, 401, "Token not valid yet", TOKEN_INVALID);
    }
    close_world(&w);
}

TEST(token_good_for_ever) {
    peer *c;
    token_open();
    c = token_park("/api/poll/a?timeout=60",
                   token_for("{\"exp\":99999999999999999999999," TOKEN_REST));
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK_STR(member(take(c)->body, "n"), "1");
    leave(&w, c);
    close_world(&w);
}

/* Never before the millisecond in which the token ends, and never later than that. */
TEST(token_ends_a_wait_at_its_time) {
    int i, rounds = unit_rounds(300);
    token_open();
    for (i = 0; i < rounds; i++) {
        uint64_t end_us, ms = 1 + unit_below(1 << unit_below(16));
        peer *c;
        const char *token;
        answer *a;
        w.k.now_us += unit_below(3000);
        end_us = w.k.now_us + ms * 1000;
        token = token_of((int64_t)ms, "\"a\"", "\"poll\"");
        c = dial(&w);
        token_get(c, "/api/poll/a?timeout=60", token);
        while (!unheard(c).length) CHECK_INT(turn(&w, 100000000), LP_OK);
        CHECK(w.k.now_us + 1000 > end_us);
        CHECK(w.k.now_us <= end_us);
        token_check_ended(a = take(c));
        CHECK(!heading(a, "Connection").bytes);
        CHECK_INT(stats_of(&w).waiters, 0);
        token_get(c, "/api/poll/a?timeout=0", token); /* nor is it good again */
        tick(&w, 1);
        settle(&w);
        token_check_ended(take(c));
        token_get(c, "/api/poll/a?timeout=0", token_of(9000, "\"a\"", "\"poll\""));
        settle(&w);
        CHECK_INT(take(c)->status, 200); /* with another one it goes on */
        leave(&w, c);
    }
    close_world(&w);
}

TEST(token_that_outlives_the_wait) {
    peer *c;
    token_open();
    c = token_park("/api/poll/a?timeout=2", token_of(2100, "\"a\"", "\"poll\""));
    pass(&w, 2003);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    pass(&w, 1000);
    CHECK_SILENT(c);
    c = token_park("/api/poll/a?timeout=2", token_of(1900, "\"a\"", "\"poll\""));
    pass(&w, 1901);
    token_check_ended(take(c));
    close_world(&w);
}

/* What the wall clock does afterwards is of no concern. */
TEST(token_is_judged_by_the_wall_clock_once) {
    peer *c;
    token_open();
    c = token_park("/api/poll/a?timeout=60", token_of(5000, "\"a\"", "\"poll\""));
    w.k.wall_us += UINT64_C(3600000000);
    pass(&w, 4990);
    CHECK_SILENT(c);
    w.k.wall_us -= UINT64_C(7200000000);
    pass(&w, 20);
    token_check_ended(take(c));
    close_world(&w);
}

/* A message that comes in the same step as the end is for the next poll, and is not lost. */
TEST(token_that_ends_as_a_message_comes) {
    peer *c, *d;
    answer *a;
    token_open();
    c = token_park("/api/poll/a?timeout=60", token_of(5000, "\"a\"", "\"poll\""));
    d = token_park("/api/poll/a?timeout=60", token_of(9000, "\"a\"", "\"poll\""));
    pass(&w, 4990);
    CHECK_SILENT(c);
    tick(&w, 20);
    publish_n(&w, "a", 1);
    settle(&w);
    token_check_ended(take(c));
    CHECK_STR(member(take(d)->body, "n"), "1");
    CHECK_SILENT(c);
    a = token_ask("/api/poll/a?timeout=0", token_of(9000, "\"a\"", "\"poll\""));
    CHECK_STR(member(a->body, "n"), "1");
    close_world(&w);
}

TEST(token_ends_just_after_a_message) {
    peer *c;
    token_open();
    c = token_park("/api/poll/a?timeout=60", token_of(5000, "\"a\"", "\"poll\""));
    pass(&w, 4998);
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK_STR(member(take(c)->body, "n"), "1");
    pass(&w, 100);
    CHECK_SILENT(c);
    close_world(&w);
}

/* More than one step serves end at once, and a message comes in that step: nobody gets it whose
   token has ended, and those whose has not get it a few steps later. */
TEST(token_of_many_that_end_together) {
    enum { N = 3 * LPI_EXPIRIES + 7 };
    static peer *ended[N], *good[10];
    const char *token, *other;
    int i;
    w.unchecked = 1;
    w.cfg.waiters_per_client = w.cfg.waiters_per_address = LP_UNLIMITED;
    token_open();
    token = token_of(5000, "\"a\"", "\"poll\"");
    other = token_of(9000, "\"a\"", "\"poll\"");
    for (i = 0; i < N; i++) ended[i] = token_park("/api/poll/a?timeout=60", token);
    for (i = 0; i < 10; i++) good[i] = token_park("/api/poll/a?timeout=60", other);
    tick(&w, 5000);
    publish_n(&w, "a", 1);
    settle(&w);
    for (i = 0; i < N; i++) token_check_ended(take(ended[i]));
    for (i = 0; i < 10; i++) CHECK_STR(member(take(good[i])->body, "n"), "1");
    CHECK_INT(stats_of(&w).waiters, 0);
    close_world(&w);
}

/* A connection may have had a token, and then not. */
TEST(token_of_an_earlier_poll_ends_nothing) {
    peer *c;
    w.cfg.poll_token = "plain";
    token_open();
    c = token_park("/api/poll/a?timeout=60", token_of(5000, "\"a\"", "\"poll\""));
    publish_n(&w, "a", 1);
    settle(&w);
    take(c);
    token_get(c, "/api/poll/a?timeout=10&last_id=now", "plain");
    pass(&w, 9990);
    CHECK_SILENT(c);
    pass(&w, 20);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    close_world(&w);
}

TEST(token_of_a_poll_that_is_drained) {
    peer *c, *d;
    w.cfg.drain_ms = 3000;
    token_open();
    c = token_park("/api/poll/a?timeout=60", token_of(100000, "\"a\"", "\"poll\""));
    d = token_park("/api/poll/a?timeout=60", token_of(10, "\"a\"", "\"poll\""));
    lp_stop(w.s);
    pass(&w, 100);
    while (turn(&w, 1000) == LP_OK) {}
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    CHECK(has(unheard(d), "\"status\":\"timeout\"") || has(unheard(d), "Token expired"));
    close_world(&w);
}

/* The drain comes first: the poll ends with its own cursor, though its deadline was the
   token's end. */
TEST(token_that_would_end_within_the_drain) {
    int i;
    for (i = 0; i < 20; i++) {
        peer *c;
        memset(&w, 0, sizeof w);
        w.cfg.drain_ms = 2000;
        token_open();
        c = token_park("/api/poll/a?timeout=60", token_of(2500, "\"a\"", "\"poll\""));
        lp_stop(w.s);
        while (turn(&w, 1000) == LP_OK) {}
        CHECK_STR(member(take(c)->body, "status"), "timeout");
        close_world(&w);
    }
}

TEST(token_and_no_memory) {
    const char *token;
    size_t calls;
    int i, refused = 0;
    token_open();
    token = token_of(9000, "\"a\"", "\"poll\"");
    for (i = 1; i < 40; i++) {
        peer *c = dial(&w);
        settle(&w);
        calls = w.m.calls;
        w.m.fail_at = calls + (size_t)i;
        token_get(c, "/api/poll/a?timeout=0", token);
        settle(&w);
        w.m.fail_at = 0;
        if (!c->closed && !has(unheard(c), "HTTP/1.1 200")) {
            CHECK(has(unheard(c), "HTTP/1.1 503"));
            refused++;
        }
        leave(&w, c);
    }
    CHECK(refused > 0);
    close_world(&w);
}

/* ---- while it is fetching ---- */

static void token_load(const char *name) {
    lpi_hub *hub = &w.s->hub;
    lpi_hub_lock(hub);
    store_load_channel(hub, lpi_channel_find(hub, lp_s(name), lpi_channel_hash(hub, lp_s(name)),
                                             now_ms(&w)), now_ms(&w));
    lpi_hub_unlock(hub);
}

TEST(token_that_ends_while_its_poll_fetches) {
    static const char *const targets[] = {"/api/poll/a?timeout=60", "/api/poll/a?timeout=0",
                                          "/api/stream/a"};
    size_t i;
    for (i = 0; i < LPI_COUNT(targets); i++) {
        peer *c;
        memset(&w, 0, sizeof w);
        w.cfg.redis_timeout_ms = 700;
        token_open();
        store_open(&w.s->hub);
        c = token_park(targets[i], token_of(500, "\"a\"", "\"poll\""));
        pass(&w, 498);
        CHECK_SILENT(c);
        pass(&w, 2);
        token_check_ended(take(c));
        CHECK_INT(w.s->hub.requested.used, 0);
        token_load("a");
        pass(&w, 1000);
        CHECK_SILENT(c);
        close_world(&w);
    }
}

TEST(token_that_ends_after_its_poll_has_fetched) {
    peer *c;
    w.cfg.redis_timeout_ms = 700;
    token_open();
    store_open(&w.s->hub);
    c = token_park("/api/poll/a?timeout=60", token_of(900, "\"a\"", "\"poll\""));
    pass(&w, 698);
    CHECK_SILENT(c);
    pass(&w, 4); /* it was not judged in time */
    CHECK_INT(take(c)->status, 503);
    c = token_park("/api/poll/a?timeout=60", token_of(5000, "\"a\"", "\"poll\""));
    pass(&w, 600);
    token_load("a"); /* and is parked */
    settle(&w);
    CHECK_INT(w.s->hub.requested.used, 0);
    pass(&w, 4390);
    CHECK_SILENT(c);
    pass(&w, 11);
    token_check_ended(take(c));
    c = token_park("/api/poll/a?timeout=2", token_of(5000, "\"a\"", "\"poll\""));
    pass(&w, 2003);
    CHECK_STR(member(take(c)->body, "status"), "timeout");
    close_world(&w);
}

/* ---- streams ---- */

static peer *token_stream(const char *target, const char *token) {
    peer *c = dial(&w);
    token_get(c, target, token);
    settle(&w);
    CHECK(has(unheard(c), "text/event-stream"));
    c->out_at = c->out_length;
    return c;
}

TEST(token_that_ends_ends_its_stream) {
    peer *c;
    token_open();
    c = token_stream("/api/stream/a", token_of(40000, "\"a\"", "\"poll\""));
    pass(&w, 39000); /* comments renew nothing */
    CHECK_INT(count_of(unheard(c), ":\n\n"), 2);
    c->out_at = c->out_length;
    publish_n(&w, "a", 1);
    settle(&w);
    CHECK(has(unheard(c), "\"n\":1"));
    c->out_at = c->out_length;
    CHECK(!c->shut);
    pass(&w, 998);
    CHECK(!c->shut);
    tick(&w, 2);
    publish_n(&w, "a", 2); /* in the step of its end */
    settle(&w);
    CHECK(c->shut);
    CHECK_SILENT(c);
    CHECK_INT(stats_of(&w).waiters, 0);
    leave(&w, c);
    token_check_ended(token_ask("/api/stream/a", token_of(-1, "\"a\"", "\"poll\"")));
    close_world(&w);
}

TEST(token_in_the_query_of_a_stream) {
    char target[3000];
    peer *c;
    token_open();
    snprintf(target, sizeof target, "/api/stream/a?access_token=%s",
             token_of(1000, "\"a\"", "\"poll\""));
    c = token_stream(target, NULL);
    pass(&w, 1000);
    CHECK(c->shut);
    CHECK_INT(token_ask("/api/stream/b", token_of(1000, "\"a\"", "\"poll\""))->status, 403);
    CHECK_INT(token_ask("/api/stream/b", NULL)->status, 401);
    close_world(&w);
}

/* A stream whose last write is not done when its token ends: that is finished, and what came
   meanwhile is not sent. */
TEST(token_that_ends_while_its_stream_writes) {
    peer *c;
    token_open();
    c = token_stream("/api/stream/a?last_id=now", token_of(1000, "\"a\"", "\"poll\""));
    widen(c, 10);
    publish_n(&w, "a", 1);
    settle(&w);
    publish_n(&w, "a", 2);
    pass(&w, 1500);
    CHECK_INT(w.s->loops[0].phases[LPI_WRITING], 1);
    widen(c, SIZE_MAX);
    settle(&w);
    CHECK(has(unheard(c), "\"n\":1}\n\n"));
    CHECK(!has(unheard(c), "\"n\":2}"));
    CHECK(c->shut);
    close_world(&w);
}

/* One that always has more to send ends too. */
TEST(token_that_ends_while_its_stream_is_queued) {
    peer *c;
    int i;
    token_open();
    for (i = 0; i < 100; i++) publish_n(&w, "a", i);
    c = dial(&w);
    settle(&w);
    token_get(c, "/api/stream/a?limit=1", token_of(5, "\"a\"", "\"poll\""));
    CHECK_INT(turn(&w, 0), LP_OK);
    CHECK_INT(w.s->loops[0].phases[LPI_QUEUED], 1);
    tick(&w, 6);
    settle(&w);
    CHECK(c->shut);
    CHECK(!has(unheard(c), "\"n\":99}"));
    CHECK(count_of(unheard(c), "id: ") < 40);
    close_world(&w);
}

/* ---- what is told ---- */

static char token_log[20000];

static void token_note(void *ctx, lp_log_level level, const char *line) {
    (void)ctx, (void)level;
    CHECK(strlen(token_log) + strlen(line) + 2 < sizeof token_log);
    strcat(strcat(token_log, line), "\n");
}

TEST(token_is_never_logged) {
    static const char *const prefixes[] = {"/api/poll/a", "/api/stream/a", "/api/publish/a", "/x",
                                           "/api/poll/a,a", "/api/poll/%zz", "//", "/api/channels"};
    static const char *const hosts[] = {"localhost", "elsewhere.example", "", "a b"};
    size_t i, k, part;
    const char *tokens[4];
    prepare_world(&w);
    w.cfg.log.write = token_note;
    w.cfg.token_secret = token_secret;
    w.cfg.publish_token = "plain-secret-of-mine";
    CHECK_INT(lp_create(&w.s, &w.cfg), LP_OK);
    token_make_channels();
    tokens[0] = token_of(9000, "\"a\"", "\"poll\"");
    tokens[1] = token_of(-9000, "\"a\"", "\"poll\"");
    tokens[2] = "plain-secret-of-mine";
    tokens[3] = "eyJhbGciOiJub25lIn0.eyJleHAiOjk5OTk5OTk5OTl9.";
    for (i = 0; i < LPI_COUNT(prefixes); i++)
        for (k = 0; k < LPI_COUNT(hosts); k++)
            for (part = 0; part < LPI_COUNT(tokens); part++) {
                peer *c = dial(&w);
                sayf(c, "%s %s?access_token=%s&timeout=%s HTTP/1.1\r\nHost: %s\r\n"
                        "Authorization: Bearer %s\r\n\r\n", i == 2 ? "POST" : "GET", prefixes[i],
                     tokens[part], k ? "0" : "x", hosts[k], tokens[(part + 1) % 4]);
                settle(&w);
                c = dial(&w);
                sayf(c, "GET %s?timeout=0&access_token=%s HTTP/1.1\r\nHost: %s\r\n\r\n",
                     prefixes[i], tokens[part], hosts[k]);
                pass(&w, 1100);
            }
    CHECK(count_of(lp_s(token_log), "\n") > 20);
    for (i = 0; i < LPI_COUNT(tokens); i++)
        for (part = 0; part + 12 < strlen(tokens[i]); part += 6) {
            char piece[13];
            snprintf(piece, sizeof piece, "%.12s", tokens[i] + part);
            if (strstr(token_log, piece))
                unit_fail(__FILE__, __LINE__, "\"%s\" in the log", piece);
        }
    CHECK(!strstr(token_log, "access_token") && !strstr(token_log, token_secret));
    close_world(&w);
}

/* No byte more for a poll that waits. */
TEST(token_costs_a_parked_poll_nothing) {
    CHECK_INT(sizeof(lpi_connection), 64);
    CHECK_INT(sizeof(lpi_waiter), 32);
}
