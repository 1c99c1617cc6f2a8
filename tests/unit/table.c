/* A5, table: linear hashing, against a plain array. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

typedef struct table_record {
    lpi_node node;
    uint32_t mine; /* its own index, so that a wrong one shows */
} table_record;

enum { RECORDS = 5000 };

typedef struct table_fixture {
    unit_memory m;
    lp_memory memory;
    lpi_slab slab;
    lpi_table table;
    uint32_t records[RECORDS];
    uint8_t inside[RECORDS];
    uint32_t count; /* inside */
} table_fixture;

static table_record *record(table_fixture *f, uint32_t which) {
    return (table_record *)lpi_at(&f->slab, f->records[which]);
}

/* All records are taken first, so that later only the table allocates. */
static void open_table(table_fixture *f) {
    uint32_t i;
    memset(f, 0, sizeof *f);
    f->memory = unit_memory_of(&f->m);
    lpi_slab_init(&f->slab, &f->memory, sizeof(table_record));
    for (i = 0; i < RECORDS; i++) {
        f->records[i] = lpi_slab_take(&f->slab);
        record(f, i)->mine = f->records[i];
    }
    CHECK_INT(lpi_table_init(&f->table, &f->slab), 0);
}

static void close_table(table_fixture *f) {
    lpi_table_free(&f->table);
    lpi_slab_free(&f->slab);
    CHECK_INT(f->m.blocks, 0);
}

static void add(table_fixture *f, uint32_t which, uint64_t hash) {
    record(f, which)->node.hash = hash;
    lpi_table_add(&f->table, f->records[which]);
    f->inside[which] = 1;
    f->count++;
}

static void take_out(table_fixture *f, uint32_t which) {
    lpi_table_remove(&f->table, f->records[which]);
    f->inside[which] = 0;
    f->count--;
}

/* Every record stands once, in the bucket of its hash. */
static uint32_t check_buckets(const table_fixture *f) {
    const lpi_table *t = &f->table;
    uint32_t bucket, i, total = 0, longest = 0;
    CHECK(t->round >= 16 && (t->round & (t->round - 1)) == 0);
    CHECK(t->round <= t->buckets && t->buckets < t->round * 2);
    CHECK(t->buckets <= t->capacity);
    for (bucket = 0; bucket < t->buckets; bucket++) {
        uint32_t length = 0;
        for (i = *lpi_table_bucket(t, bucket); i != LPI_NONE; i = lpi_node_at(t, i)->next) {
            CHECK_INT(lpi_table_index(t, lpi_node_at(t, i)->hash), bucket);
            CHECK_INT(((table_record *)lpi_node_at(t, i))->mine, i);
            CHECK(length <= t->count); /* no circle */
            length++;
        }
        total += length;
        if (length > longest) longest = length;
    }
    CHECK_INT(total, t->count);
    CHECK_INT(t->count, f->count);
    return longest;
}

static int is_found(table_fixture *f, uint32_t which) {
    uint64_t hash = record(f, which)->node.hash;
    uint32_t i = lpi_table_first(&f->table, hash);
    for (; i != LPI_NONE; i = lpi_table_match(&f->table, lpi_node_at(&f->table, i)->next, hash)) {
        CHECK(lpi_node_at(&f->table, i)->hash == hash);
        if (i == f->records[which]) return 1;
    }
    return 0;
}

static void random_life(uint64_t hashes, int fails) {
    static table_fixture f;
    int round, grows = 1;
    uint32_t most = 1 + unit_below(RECORDS);
    open_table(&f);
    for (round = 0; round < unit_rounds(30000); round++) {
        uint32_t which = unit_below(RECORDS);
        if (f.count == most) grows = 0;
        if (f.count == 0) grows = 1;
        if (fails && unit_one_in(100)) f.m.fail_at = f.m.calls + 1;
        if (unit_one_in(5) ? !grows : grows) {
            if (!f.inside[which]) add(&f, which, hashes ? unit_random() % hashes : unit_random());
        } else if (f.inside[which]) {
            take_out(&f, which);
        }
        which = unit_below(RECORDS);
        CHECK_INT(is_found(&f, which), f.inside[which]);
        if (round % 500 == 0) check_buckets(&f);
    }
    check_buckets(&f);
    for (most = 0; most < RECORDS; most++) {
        CHECK_INT(is_found(&f, most), f.inside[most]);
        if (f.inside[most]) take_out(&f, most);
    }
    check_buckets(&f);
    close_table(&f);
}

TEST(table_like_an_array) { random_life(0, 0); }
TEST(table_like_an_array_with_collisions) { random_life(300, 0); }
TEST(table_like_an_array_with_few_hashes) { random_life(3, 0); }
TEST(table_like_an_array_with_failing_memory) { random_life(0, 1); }

/* Equal in the low bits, which choose the bucket, and different above. */
TEST(table_hashes_that_differ_above_32_bits) {
    static table_fixture f;
    uint32_t i;
    open_table(&f);
    for (i = 0; i < 300; i++) add(&f, i, (uint64_t)i << 32 | 5);
    check_buckets(&f);
    for (i = 0; i < 300; i++) {
        uint32_t at = lpi_table_first(&f.table, (uint64_t)i << 32 | 5);
        CHECK_INT(at, f.records[i]);
        CHECK(lpi_table_match(&f.table, lpi_node_at(&f.table, at)->next,
                              (uint64_t)i << 32 | 5) == LPI_NONE);
    }
    CHECK(lpi_table_first(&f.table, (uint64_t)300 << 32 | 5) == LPI_NONE);
    close_table(&f);
}

/* It grows and shrinks with what it holds: short chains, and no memory kept. */
TEST(table_follows_the_number_of_entries) {
    static table_fixture f;
    uint32_t i, buckets;
    size_t empty;
    open_table(&f);
    empty = f.m.bytes;
    for (i = 0; i < RECORDS; i++) {
        add(&f, i, unit_random());
        CHECK(f.table.buckets >= f.count && f.table.buckets <= f.count + LPI_BUCKETS_MIN);
        CHECK(f.table.capacity <= 2 * f.table.buckets);
    }
    CHECK(check_buckets(&f) < 20);
    for (i = 0; i < RECORDS; i++) {
        buckets = f.table.buckets;
        take_out(&f, i);
        CHECK(buckets - f.table.buckets <= 2); /* never all at once */
        CHECK(f.table.buckets <= LPI_BUCKETS_MIN || f.table.buckets <= 2 * f.count + 1);
        CHECK(f.table.capacity <= 4 * f.table.buckets);
    }
    CHECK_INT(f.table.buckets, LPI_BUCKETS_MIN);
    CHECK(f.table.capacity <= 4 * LPI_BUCKETS_MIN);
    CHECK(f.m.bytes <= empty + 3 * LPI_BUCKETS_MIN * sizeof(uint32_t));
    close_table(&f);
}

/* What was just grown does not shrink at once, nor the other way round: nothing is allocated
   and freed in turns. */
static void check_no_flutter(table_fixture *f, uint32_t which) {
    size_t calls = f->m.calls;
    uint32_t i, k;
    for (i = 0; i < 100; i++) {
        for (k = 0; k < 5; k++) take_out(f, which - k);
        for (k = 0; k < 5; k++) add(f, which - k, unit_random());
    }
    CHECK(f->m.calls - calls <= 1);
    check_buckets(f);
}

TEST(table_does_not_flutter) {
    static table_fixture f;
    uint32_t n;
    open_table(&f);
    for (n = 0; f.table.capacity < 1024; n++) add(&f, n, unit_random());
    CHECK_INT(f.table.buckets, 513);
    check_no_flutter(&f, n - 1);
    while (f.table.capacity == 1024) take_out(&f, --n);
    CHECK_INT(f.table.capacity, 512);
    CHECK(f.table.buckets == 255 || f.table.buckets == 256); /* two at a time */
    check_no_flutter(&f, n - 1);
    close_table(&f);
}

/* Without memory its chains grow longer; with memory again it goes on splitting. */
TEST(table_lives_through_want) {
    static table_fixture f;
    uint32_t i, buckets;
    open_table(&f);
    f.m.fail_at = f.m.calls + 1;
    f.m.fail_forever = 1;
    for (i = 0; i < 2000; i++) add(&f, i, unit_random());
    CHECK_INT(f.table.buckets, LPI_BUCKETS_MIN);
    check_buckets(&f);
    f.m.fail_at = 0;
    for (; i < RECORDS; i++) {
        buckets = f.table.buckets;
        add(&f, i, unit_random());
        CHECK_INT(f.table.buckets, buckets + 1);
    }
    f.m.fail_at = f.m.calls + 1;
    for (i = 0; i < RECORDS; i++) CHECK(is_found(&f, i));
    for (i = 0; i < RECORDS; i++) take_out(&f, i); /* which needs none */
    check_buckets(&f);
    CHECK_INT(f.table.buckets, LPI_BUCKETS_MIN);
    close_table(&f);
}

TEST(table_init_fails_whole) {
    size_t k, failed = 1;
    for (k = 1; failed; k++) {
        unit_memory m = {0};
        lp_memory memory = unit_memory_of(&m);
        lpi_slab slab;
        lpi_table table;
        lpi_slab_init(&slab, &memory, sizeof(table_record));
        m.fail_at = k;
        CHECK_INT(lpi_table_init(&table, &slab), m.failed ? -1 : 0);
        lpi_table_free(&table);
        CHECK_INT(m.blocks, 0);
        failed = m.failed;
    }
    CHECK_INT(k, 3); /* it allocates once */
}

TEST(table_free_of_none) {
    lpi_table table;
    memset(&table, 0, sizeof table);
    lpi_table_free(&table);
}
