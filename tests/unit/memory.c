/* A2, memory: what stands between the library and the hook. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

TEST(memory_alloc_tells_the_sizes) {
    unit_memory m = {0}; /* it checks them */
    lp_memory memory = unit_memory_of(&m);
    char *a = (char *)lpi_alloc(&memory, 1), *b = (char *)lpi_alloc_zero(&memory, 333);
    size_t i;
    CHECK(a && b);
    for (i = 0; i < 333; i++) CHECK_INT(b[i], 0);
    CHECK_INT(m.bytes, 334);
    lpi_free(&memory, a, 1);
    lpi_free(&memory, b, 333);
    lpi_free(&memory, NULL, 0); /* is fine, and does not reach the hook */
    lpi_free(&memory, NULL, 5);
    CHECK_INT(m.blocks, 0);
    m.fail_at = 3;
    CHECK(!lpi_alloc_zero(&memory, 10));
    CHECK_INT(m.failed, 1);
}

TEST(memory_reserve_doubles) {
    static const struct { size_t need, capacity; } steps[] = {
        {0, 0}, {1, 256}, {255, 256}, {256, 256}, {257, 512}, {100, 512}, {513, 1024},
        {5000, 8192}, {8192, 8192}, {8193, 16384}, {65536, 65536}};
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    char *bytes = NULL;
    size_t capacity = 0, i;
    for (i = 0; i < LPI_COUNT(steps); i++) {
        size_t calls = m.calls, before = capacity;
        CHECK_INT(lpi_reserve(&memory, &bytes, &capacity, steps[i].need), 0);
        CHECK_INT(capacity, steps[i].capacity);
        CHECK_INT(m.calls - calls, capacity != before);
        CHECK_INT(m.bytes, capacity);
        if (capacity) bytes[capacity - 1] = (char)i;
        if (capacity && before) bytes[0] = 'x';
    }
    CHECK_INT(bytes[0], 'x');
    lpi_free(&memory, bytes, capacity);
}

TEST(memory_reserve_fails_with_nothing_changed) {
    unit_memory m = {0};
    lp_memory memory = unit_memory_of(&m);
    char *bytes = NULL, *before;
    size_t capacity = 0;
    m.fail_at = 1;
    CHECK_INT(lpi_reserve(&memory, &bytes, &capacity, 10), -1);
    CHECK(!bytes && !capacity);
    CHECK_INT(lpi_reserve(&memory, &bytes, &capacity, 10), 0);
    before = bytes;
    memcpy(bytes, "kept", 4);
    m.fail_at = m.calls + 1;
    CHECK_INT(lpi_reserve(&memory, &bytes, &capacity, 257), -1);
    CHECK(bytes == before && capacity == 256);
    CHECK_BYTES(bytes, 4, "kept", 4);
    /* sizes that cannot be: without a call, without an overflow, without an end */
    CHECK_INT(lpi_reserve(&memory, &bytes, &capacity, SIZE_MAX), -1);
    CHECK_INT(lpi_reserve(&memory, &bytes, &capacity, SIZE_MAX / 2 + 2), -1);
    CHECK_INT(m.calls, 3);
    CHECK(bytes == before && capacity == 256);
    lpi_free(&memory, bytes, capacity);
}

TEST(memory_libc) {
    const lp_memory *memory = &lpi_libc_memory;
    char *bytes = (char *)lpi_alloc(memory, 3);
    CHECK(bytes != NULL);
    memcpy(bytes, "abc", 3);
    bytes = (char *)memory->resize(memory->ctx, bytes, 3, 100000);
    CHECK(bytes != NULL);
    CHECK_BYTES(bytes, 3, "abc", 3);
    bytes = (char *)memory->resize(memory->ctx, bytes, 100000, 2);
    CHECK_BYTES(bytes, 2, "ab", 2);
    CHECK(!memory->resize(memory->ctx, bytes, 2, 0));
}
