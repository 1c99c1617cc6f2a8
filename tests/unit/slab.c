/* A4, slab: records by index, chunks given back, and lists through records. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

/* What must hold of a slab between two calls. */
static void recount_slab(const lpi_slab *s, const unit_memory *m) {
    uint32_t c, n = LPI_CHUNK, used = 0, roomy = 0, empty = 0, vacant = 0, on_lists = 0;
    uint32_t chunks = 0;
    for (c = 0; c < s->chunk_count; c++) {
        const lpi_slab_chunk *chunk = &s->chunks[c];
        uint32_t i = chunk->free, free_records = 0;
        if (!chunk->records) {
            vacant++;
            continue;
        }
        for (; i != LPI_NONE; free_records++) {
            CHECK_INT(i / LPI_CHUNK, c);
            CHECK(free_records < n); /* no circle */
            memcpy(&i, lpi_at(s, i), 4);
        }
        CHECK_INT(chunk->used + free_records, n);
        used += chunk->used;
        roomy += free_records != 0;
        empty += chunk->used == 0;
        chunks++;
    }
    CHECK_INT(used, s->used);
    CHECK_INT(empty, s->empty);
    CHECK(empty <= 1);
    for (c = s->roomy; c != LPI_NONE; c = s->chunks[c].next, on_lists++) {
        CHECK(s->chunks[c].records && s->chunks[c].free != LPI_NONE);
        CHECK(on_lists < roomy);
        if (s->chunks[c].next != LPI_NONE) CHECK_INT(s->chunks[s->chunks[c].next].prev, c);
    }
    CHECK_INT(on_lists, roomy);
    for (on_lists = 0, c = s->vacant; c != LPI_NONE; c = s->chunks[c].next, on_lists++) {
        CHECK(!s->chunks[c].records);
        CHECK(on_lists < vacant);
    }
    CHECK_INT(on_lists, vacant);
    CHECK_INT(m->bytes, chunks * lpi_slab_chunk_bytes(s) +
                            s->chunk_capacity * sizeof(lpi_slab_chunk));
}

typedef struct held_record {
    uint32_t index;
    uint8_t stamp;
} held_record;

enum { HELD_MAX = 3000 };

static void stamp(const lpi_slab *s, held_record *r) {
    r->stamp = (uint8_t)unit_random();
    memset(lpi_at(s, r->index), r->stamp, s->record_size);
}

/* Every byte of the record is as it was left. */
static void check_stamp(const lpi_slab *s, const held_record *r) {
    const uint8_t *p = (const uint8_t *)lpi_at(s, r->index);
    uint32_t i;
    for (i = 0; i < s->record_size; i++) CHECK_INT(p[i], r->stamp);
}

static void take_and_give(uint32_t record_size, int fails) {
    static held_record held[HELD_MAX];
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_slab s;
    uint32_t count = 0, i, most = 1 + unit_below(HELD_MAX);
    int round, grows = 1;
    lpi_slab_init(&s, &memory, record_size);
    for (round = 0; round < unit_rounds(6000); round++) {
        if (count == most) grows = 0;
        if (count == 0) grows = 1;
        if (fails && unit_one_in(50)) m.fail_at = m.calls + 1 + unit_below(2);
        if (unit_one_in(4) ? !grows : grows) {
            size_t failed = m.failed;
            if (count == HELD_MAX) continue;
            i = lpi_slab_take(&s);
            CHECK_INT(i == LPI_NONE, m.failed != failed);
            if (i == LPI_NONE) continue;
            held[count].index = i;
            held[count].stamp = 0;
            check_stamp(&s, &held[count]); /* new records are zeroed */
            stamp(&s, &held[count++]);
        } else if (count) {
            i = unit_below(count);
            check_stamp(&s, &held[i]); /* and nobody else wrote to it: none is held twice */
            lpi_slab_give(&s, held[i].index);
            held[i] = held[--count];
        }
        CHECK_INT(s.used, count);
        if (round % 64 == 0) recount_slab(&s, &m);
    }
    while (count) {
        check_stamp(&s, &held[--count]);
        lpi_slab_give(&s, held[count].index);
    }
    recount_slab(&s, &m);
    CHECK(m.bytes <= lpi_slab_chunk_bytes(&s) + s.chunk_capacity * sizeof(lpi_slab_chunk));
    lpi_slab_free(&s);
    CHECK_INT(m.blocks, 0);
}

TEST(slab_takes_and_gives_like_a_model) {
    static const uint32_t sizes[] = {4, 12, 33, 64, 200};
    size_t i;
    for (i = 0; i < LPI_COUNT(sizes); i++) take_and_give(sizes[i], 0);
}

TEST(slab_takes_and_gives_with_failing_memory) {
    static const uint32_t sizes[] = {4, 12, 64};
    size_t i;
    for (i = 0; i < LPI_COUNT(sizes); i++) take_and_give(sizes[i], 1);
}

/* A chunk that was just emptied is not freed and made again at each turn. */
TEST(slab_does_not_flutter_at_a_chunk_s_edge) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_slab s;
    size_t calls;
    int i;
    lpi_slab_init(&s, &memory, 16);
    for (i = 0; i < LPI_CHUNK; i++) lpi_slab_take(&s);
    lpi_slab_give(&s, lpi_slab_take(&s));
    calls = m.calls;
    for (i = 0; i < 100; i++) lpi_slab_give(&s, lpi_slab_take(&s));
    CHECK_INT(m.calls, calls);
    lpi_slab_free(&s);
}

/* Records do not move: neither when the slab grows nor when it shrinks. */
TEST(slab_records_stay_where_they_are) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_slab s;
    uint32_t first, others[1000];
    void *at;
    int i;
    lpi_slab_init(&s, &memory, 8);
    first = lpi_slab_take(&s);
    at = lpi_at(&s, first);
    for (i = 0; i < 1000; i++) others[i] = lpi_slab_take(&s);
    CHECK(lpi_at(&s, first) == at);
    for (i = 0; i < 1000; i++) lpi_slab_give(&s, others[i]);
    CHECK(lpi_at(&s, first) == at);
    lpi_slab_free(&s);
    CHECK_INT(m.blocks, 0);
}

/* Indices stay below 2^31: wheels and lists mark with the highest bit. */
TEST(slab_ends_before_indices_do) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_slab s;
    lpi_slab_init(&s, &memory, 4);
    s.chunk_count = s.chunk_capacity = (1u << 31) / LPI_CHUNK; /* as if all were taken */
    CHECK(lpi_slab_take(&s) == LPI_NONE);
    CHECK_INT(m.calls, 0);
    lpi_slab_init(&s, &memory, 4);
    s.chunk_count = (1u << 31) / LPI_CHUNK - 1; /* one more fits */
    s.chunk_capacity = s.chunk_count + 1;
    s.chunks = (lpi_slab_chunk *)memory.resize(memory.ctx, NULL, 0,
                                               s.chunk_capacity * sizeof(lpi_slab_chunk));
    memset(s.chunks, 0, s.chunk_count * sizeof(lpi_slab_chunk));
    CHECK_INT(lpi_slab_take(&s), (1u << 31) - LPI_CHUNK);
    lpi_slab_free(&s);
    CHECK_INT(m.blocks, 0);
}

/* ---- lists ---- */

typedef struct list_record {
    uint32_t something;
    lpi_link a, b;
} list_record;

enum { LIST_RECORDS = 40 };

static void check_links(const lpi_list *list, const lpi_links *links, const uint32_t *want,
                       uint32_t count) {
    uint32_t i, at = list->head, before = LPI_NONE;
    for (i = 0; i < count; i++) {
        CHECK_INT(at, want[i]);
        CHECK_INT(lpi_link_at(links, at)->prev, before);
        before = at;
        at = lpi_link_at(links, at)->next;
    }
    CHECK_INT(at, LPI_NONE);
    CHECK_INT(list->tail, before);
}

/* Two lists run through the same records and leave each other alone. */
TEST(slab_lists_like_arrays) {
    lpi_links links[2];
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    lpi_slab s;
    lpi_list lists[2];
    uint32_t records[LIST_RECORDS], model[2][LIST_RECORDS], count[2] = {0, 0}, i, k;
    int round;
    lpi_slab_init(&s, &memory, sizeof(list_record));
    lpi_links_init(&links[0], &s, offsetof(list_record, a));
    lpi_links_init(&links[1], &s, offsetof(list_record, b));
    for (i = 0; i < LIST_RECORDS; i++) records[i] = lpi_slab_take(&s);
    lpi_list_init(&lists[0]);
    lpi_list_init(&lists[1]);
    for (round = 0; round < unit_rounds(20000); round++) {
        uint32_t l = unit_below(2), which = records[unit_below(LIST_RECORDS)];
        for (i = 0; i < count[l] && model[l][i] != which;) i++;
        if (i < count[l]) {
            lpi_list_remove(&lists[l], &links[l], which);
            count[l]--;
            for (k = i; k < count[l]; k++) model[l][k] = model[l][k + 1];
        } else {
            lpi_list_append(&lists[l], &links[l], which);
            model[l][count[l]++] = which;
        }
        check_links(&lists[0], &links[0], model[0], count[0]);
        check_links(&lists[1], &links[1], model[1], count[1]);
    }
    lpi_slab_free(&s);
}
