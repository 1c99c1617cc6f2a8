/* A1, platform: the atomics and the mutex, with threads that get into each other's way. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

enum { THREADS = 4 };

typedef struct shared_state {
    uint32_t count, zeros, flag;
    uint64_t plain; /* under the mutex */
    lpi_mutex mutex;
    int rounds;
} shared_state;

static void *count_up_and_down(void *ctx) {
    shared_state *s = (shared_state *)ctx;
    int i;
    for (i = 0; i < s->rounds; i++) {
        lpi_atomic_add(&s->count, 3);
        lpi_atomic_sub(&s->count, 2);
        lpi_lock(&s->mutex);
        s->plain = s->plain * 3 + 1; /* a lost update shows */
        s->plain = (s->plain - 1) / 3 + 1;
        lpi_unlock(&s->mutex);
    }
    return NULL;
}

static void in_threads(void *(*run)(void *), shared_state *s) {
    pthread_t threads[THREADS];
    int i;
    for (i = 0; i < THREADS; i++) CHECK_INT(pthread_create(&threads[i], NULL, run, s), 0);
    for (i = 0; i < THREADS; i++) CHECK_INT(pthread_join(threads[i], NULL), 0);
}

TEST(platform_no_update_is_lost) {
    shared_state s;
    memset(&s, 0, sizeof s);
    s.rounds = unit_rounds(50000);
    CHECK_INT(lpi_mutex_init(&s.mutex), 0);
    in_threads(count_up_and_down, &s);
    CHECK_INT(lpi_atomic_get(&s.count), THREADS * s.rounds);
    CHECK_INT(s.plain, THREADS * s.rounds);
    lpi_mutex_free(&s.mutex);
}

static void *release(void *ctx) {
    shared_state *s = (shared_state *)ctx;
    int i;
    for (i = 0; i < s->rounds; i++)
        if (lpi_atomic_sub(&s->count, 1) == 0) lpi_atomic_add(&s->zeros, 1);
    return NULL;
}

/* Of many that let go of one thing, exactly one is the last. */
TEST(platform_one_reference_is_the_last) {
    shared_state s;
    memset(&s, 0, sizeof s);
    s.rounds = unit_rounds(50000);
    s.count = (uint32_t)(THREADS * s.rounds);
    in_threads(release, &s);
    CHECK_INT(s.count, 0);
    CHECK_INT(s.zeros, 1);
}

static void *hand_over(void *ctx) {
    shared_state *s = (shared_state *)ctx;
    s->plain = 42;
    lpi_atomic_set(&s->flag, 1);
    return NULL;
}

/* What was written before a flag is set is seen by who sees the flag. */
TEST(platform_a_flag_brings_what_stands_before_it) {
    int i, rounds = unit_rounds(500);
    for (i = 0; i < rounds; i++) {
        shared_state s;
        pthread_t thread;
        memset(&s, 0, sizeof s);
        CHECK_INT(pthread_create(&thread, NULL, hand_over, &s), 0);
        while (!lpi_atomic_get(&s.flag)) sched_yield();
        CHECK_INT(s.plain, 42);
        CHECK_INT(pthread_join(thread, NULL), 0);
    }
}

TEST(platform_max) {
    CHECK(lpi_max64(1, 2) == 2);
    CHECK(lpi_max64(UINT64_MAX, 0) == UINT64_MAX);
}
