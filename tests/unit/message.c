/* >>message: what is written in front of a published object's members. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

static unit_memory memory;
static lp_memory watched_memory;

static lpi_message *make(lp_slice channel, const char *json) {
    lp_result result = LP_OK;
    size_t offset = 99;
    lpi_message *m;
    watched_memory = unit_memory_of(&memory);
    m = lpi_message_new(&watched_memory, channel, lp_s(json), &result, &offset);
    CHECK(m);
    CHECK_INT(result, LP_OK);
    return m;
}

static void check_sealed(const char *channel, const char *json, const char *want) {
    lpi_message *m = make(lp_s(channel), json);
    lpi_message_seal(m, lp_s(channel), UINT64_C(0x00c0ffee00000001), 42,
                     UINT64_C(1732412345000007));
    CHECK_STR(lpi_message_text(m), want);
    CHECK_INT(m->seq, 42);
    CHECK_INT(m->timestamp_us, UINT64_C(1732412345000007));
    lpi_message_unref(&watched_memory, m);
    CHECK_INT(memory.blocks, 0);
}

#define FRONT(channel) \
    "{\"id\":\"00c0ffee00000001-42\",\"channel\":\"" channel "\",\"timestamp\":1732412345.000007"

TEST(message_has_three_members_in_front) {
    check_sealed("news", "{\"text\":\"hello\"}", FRONT("news") ",\"text\":\"hello\"}");
    check_sealed("news", "{}", FRONT("news") "}");
    check_sealed("news", "  { } ", FRONT("news") "}");
    check_sealed("a", "{\"a\":1,\"b\":[1,2]}", FRONT("a") ",\"a\":1,\"b\":[1,2]}");
}

TEST(message_keeps_the_rest_byte_for_byte) {
    check_sealed("news", "{\"n\":1.50E+1,\"s\":\"\\u0041\\/\",\"z\":0,\"a\":{\"id\":7}}",
                 FRONT("news") ",\"n\":1.50E+1,\"s\":\"\\u0041\\/\",\"z\":0,\"a\":{\"id\":7}}");
}

TEST(message_own_id_channel_and_timestamp_give_way) {
    check_sealed("news", "{\"id\":1,\"a\":2,\"channel\":\"x\",\"timestamp\":null}",
                 FRONT("news") ",\"a\":2}");
    check_sealed("news", "{\"\\u0069d\":1,\"id\":2,\"id\":3}", FRONT("news") "}");
    check_sealed("news", "{\"ids\":1,\"i\":2}", FRONT("news") ",\"ids\":1,\"i\":2}");
}

TEST(message_channel_is_a_json_string) {
    check_sealed("a\"b\\c", "{}", FRONT("a\\\"b\\\\c") "}");
    check_sealed("caf\xC3\xA9 \xE2\x82\xAC/,&<>", "{}",
                 FRONT("caf\xC3\xA9 \xE2\x82\xAC/,&<>") "}");
}

/* LP_ASSERT and the guard of unit.h watch the room in front. */
TEST(message_longest_prefix_fits) {
    static const char ends[] = "\"\\/a~ ";
    const char *c;
    for (c = ends; *c; c++) {
        char name[LPI_CHANNEL_BYTES];
        size_t length;
        for (length = 1; length <= sizeof name; length++) {
            lp_slice channel = lpi_slice(name, length);
            lpi_message *m;
            lp_slice text;
            memset(name, *c, length);
            m = make(channel, length % 2 ? "{}" : "{\"a\":1}");
            CHECK(lpi_channel_name_good(channel));
            lpi_message_seal(m, channel, UINT64_MAX, UINT64_MAX, UINT64_MAX);
            text = lpi_message_text(m);
            CHECK_BYTES(text.bytes, 45, "{\"id\":\"ffffffffffffffff-18446744073709551615\"", 45);
            CHECK(text.bytes[text.length - 1] == '}');
            CHECK_INT(lp_json_check(text, NULL), LP_OK);
            CHECK(m->at >= sizeof *m && m->at + m->length <= m->size);
            lpi_message_unref(&watched_memory, m);
        }
    }
    CHECK_INT(memory.blocks, 0);
}

/* Every name that a channel may have gives JSON that can be read again. */
TEST(message_any_good_name_is_safe) {
    int i, rounds = unit_rounds(20000), good = 0;
    for (i = 0; i < rounds; i++) {
        char name[12];
        size_t length = 1 + unit_below(sizeof name), k;
        lp_slice channel = lpi_slice(name, length);
        lpi_message *m;
        for (k = 0; k < length; k++)
            name[k] = (char)(unit_one_in(3) ? unit_below(256) : unit_below(128));
        if (!lpi_channel_name_good(channel)) continue;
        good++;
        m = make(channel, "{\"a\":1}");
        lpi_message_seal(m, channel, unit_random(), unit_random(), unit_random());
        CHECK_INT(lp_json_check(lpi_message_text(m), NULL), LP_OK);
        lpi_message_unref(&watched_memory, m);
    }
    CHECK(good > rounds / 100);
    CHECK_INT(memory.blocks, 0);
}

static void check_refused_json(const char *json, size_t want_offset) {
    lp_result result = LP_OK;
    size_t offset = 99;
    lp_slice text = json ? lp_s(json) : lpi_slice(NULL, 0);
    watched_memory = unit_memory_of(&memory);
    CHECK(!lpi_message_new(&watched_memory, LPI_S("news"), text, &result, &offset));
    CHECK_INT(result, LP_ERR_JSON);
    CHECK_INT(offset, want_offset);
    CHECK_INT(memory.blocks, 0);
}

TEST(message_of_anything_else_is_refused) {
    check_refused_json(NULL, 0);
    check_refused_json("", 0);
    check_refused_json("   ", 3);
    check_refused_json("[1]", 0);
    check_refused_json("  7", 2);
    check_refused_json("\"{}\"", 0);
    check_refused_json(" \r\n\t[{}]", 4);
    check_refused_json("{\"a\":}", 5);
    check_refused_json("{\"a\":1", 6);
    check_refused_json("{} x", 3);
    check_refused_json("{}{}", 2);
    check_refused_json("{\"a\":1,}", 7);
}

TEST(message_without_memory) {
    lp_result result = LP_OK;
    size_t offset = 99;
    watched_memory = unit_memory_of(&memory);
    memory.fail_at = 1;
    CHECK(!lpi_message_new(&watched_memory, LPI_S("news"), LPI_S("{}"), &result, &offset));
    CHECK_INT(result, LP_ERR_NOMEM);
    CHECK_INT(memory.blocks, 0);
}

TEST(message_is_freed_by_the_last_who_lets_go) {
    lpi_message *m = make(LPI_S("news"), "{}");
    lpi_atomic_add(&m->refs, 2);
    lpi_message_unref(&watched_memory, m);
    lpi_message_unref(&watched_memory, m);
    CHECK_INT(memory.blocks, 1);
    CHECK_INT(m->refs, 1);
    lpi_message_unref(&watched_memory, m);
    CHECK_INT(memory.blocks, 0);
}

/* The size that counts against history_bytes is what was allocated. */
TEST(message_size_is_what_it_takes) {
    lpi_message *m = make(LPI_S("news"), "{\"text\":\"0123456789\"}");
    CHECK_INT(m->size, memory.bytes);
    lpi_message_unref(&watched_memory, m);
}

/* ---- an array of them ---- */

static lp_result array_result;
static size_t array_offset;

static lpi_message *make_array(const char *json) {
    watched_memory = unit_memory_of(&memory);
    array_result = LP_OK;
    array_offset = 99;
    return lpi_message_new_array(&watched_memory, lp_s("news"), lp_s(json), &array_result,
                                 &array_offset);
}

static void check_no_array(const char *json, size_t offset) {
    CHECK(!make_array(json));
    CHECK_INT(array_result, LP_ERR_JSON);
    CHECK_INT(array_offset, offset);
    CHECK_INT(memory.blocks, 0);
}

TEST(message_array_is_a_chain) {
    lpi_message *m = make_array(" [ {\"a\":1}, {\"id\":2,\"b\":[{}]} ,{}] "), *second;
    CHECK(m);
    CHECK_INT(array_result, LP_OK);
    CHECK_INT(lpi_message_count(m), 3);
    second = m->newer;
    lpi_message_seal(second, lp_s("news"), UINT64_C(0x00c0ffee00000001), 42,
                     UINT64_C(1732412345000007));
    CHECK_STR(lpi_message_text(second), FRONT("news") ",\"b\":[{}]}");
    CHECK(!second->newer->newer);
    lpi_message_unref_all(&watched_memory, m);
    CHECK_INT(memory.blocks, 0);
}

/* Wherever it is bad, what stands before is freed and the offset is that in the whole. */
TEST(message_array_is_all_or_nothing) {
    check_no_array("[]", 1);
    check_no_array(" [ ] ", 3);
    check_no_array("[", 1);
    check_no_array("[1]", 1);
    check_no_array("[{},{},7]", 7);
    check_no_array("[{}, \"x\"]", 5);
    check_no_array("[{},{},{\"a\":tru}]", 15);
    check_no_array("[{},{},{}", 9);
    check_no_array("[{},{},{}]]", 10);
    check_no_array("[{},{},{}] {}", 11);
    check_no_array("[{},{\"a\":\"\xff\"}]", 10);
    check_no_array("[{}}", 3);
    check_no_array("[{\"a\nb\":1}]", 4); /* the bad byte is white space elsewhere */
    check_no_array("[{}, ", 5);
}

TEST(message_array_of_too_many) {
    static char json[4000];
    size_t n = 1;
    int i;
    lpi_message *m;
    json[0] = '[';
    for (i = 0; i < LPI_MESSAGES_MAX; i++, n += 3) memcpy(json + n, "{},", 3);
    strcpy(json + n - 1, "]");
    m = make_array(json);
    CHECK_INT(lpi_message_count(m), 1000);
    lpi_message_unref_all(&watched_memory, m);
    strcpy(json + n - 1, ",{}]");
    CHECK(!make_array(json));
    CHECK_INT(array_result, LP_ERR_TOO_LARGE);
    CHECK_INT(memory.blocks, 0);
}

TEST(message_array_without_memory) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        lpi_message *m;
        memset(&memory, 0, sizeof memory);
        memory.fail_at = k;
        m = make_array("[{},{},{}]");
        failed = memory.failed;
        CHECK_INT(!m, failed != 0);
        CHECK_INT(array_result, failed ? LP_ERR_NOMEM : LP_OK);
        lpi_message_unref_all(&watched_memory, m);
        CHECK_INT(memory.blocks, 0);
    }
    CHECK_INT(k, 5);
}
