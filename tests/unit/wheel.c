/* B6, timer wheel: against a naive array, across the end of its 32 bits. */

#define LONGPOLL_IMPLEMENTATION
#define LONGPOLL_DEBUG
#include "../../longpoll.h"
#include "unit.h"

typedef struct wheel_record {
    uint32_t before[3]; /* so that the timer's offset is not 0 */
    lpi_timer timer;
    uint32_t mine;
} wheel_record;

enum { TIMERS = 200 };

/* Time is kept here in 64 bits; the wheel sees the lower 32. */
typedef struct wheel_fixture {
    lpi_slab slab;
    lpi_wheel wheel;
    uint32_t index[TIMERS];
    uint8_t armed[TIMERS];
    uint64_t deadline[TIMERS];
    uint64_t now;
} wheel_fixture;

static void open_wheel(wheel_fixture *f, uint32_t now) {
    uint32_t i;
    memset(f, 0, sizeof *f);
    f->now = (UINT64_C(5) << 32) + now;
    lpi_slab_init(&f->slab, &lpi_libc_memory, sizeof(wheel_record));
    lpi_wheel_init(&f->wheel, &f->slab, offsetof(wheel_record, timer), now);
    for (i = 0; i < TIMERS; i++) {
        f->index[i] = lpi_slab_take(&f->slab);
        ((wheel_record *)lpi_at(&f->slab, f->index[i]))->mine = i;
        lpi_timer_init(&f->wheel, f->index[i]);
        CHECK(!lpi_timer_armed(&f->wheel, f->index[i]));
    }
}

static void close_wheel(wheel_fixture *f) { lpi_slab_free(&f->slab); }

static void arm(wheel_fixture *f, uint32_t which, int64_t ahead) {
    f->armed[which] = 1;
    f->deadline[which] = f->now + (uint64_t)ahead;
    lpi_wheel_arm(&f->wheel, f->index[which], (uint32_t)f->deadline[which]);
    CHECK(lpi_timer_armed(&f->wheel, f->index[which]));
}

static void cancel(wheel_fixture *f, uint32_t which) {
    f->armed[which] = 0;
    lpi_wheel_cancel(&f->wheel, f->index[which]);
    CHECK(!lpi_timer_armed(&f->wheel, f->index[which]));
}

/* The first true deadline from now; 0 for none. */
static uint64_t first_deadline(const wheel_fixture *f) {
    uint64_t first = 0;
    uint32_t i;
    for (i = 0; i < TIMERS; i++)
        if (f->armed[i] && (!first || f->deadline[i] < first)) first = f->deadline[i];
    return first;
}

/* Every armed timer stands once, in the slot where its time is found; bits tell the truth. */
static void check_slots(const wheel_fixture *f) {
    const lpi_wheel *w = &f->wheel;
    uint32_t slot, i, before, total = 0;
    for (slot = 0; slot <= LPI_DUE_SLOT; slot++) {
        int has = w->heads[slot] != LPI_NONE;
        if (slot < LPI_DUE_SLOT)
            CHECK_INT(w->bits[slot / LPI_SLOTS] >> slot % LPI_SLOTS & 1, has);
        before = LPI_SLOT_MARK | slot;
        for (i = w->heads[slot]; i != LPI_NONE; i = lpi_timer_at(w, i)->link.next) {
            const lpi_timer *timer = lpi_timer_at(w, i);
            uint32_t mine = ((wheel_record *)lpi_at(&f->slab, i))->mine;
            CHECK_INT(timer->link.prev, before);
            CHECK(f->armed[mine]);
            CHECK_INT(timer->deadline, (uint32_t)f->deadline[mine]);
            CHECK((int32_t)(timer->deadline - timer->due) >= 0);
            CHECK_INT(lpi_wheel_slot(w, timer->due), slot);
            CHECK(total++ < TIMERS);
            before = i;
        }
    }
    for (i = 0; i < TIMERS; i++) total -= f->armed[i];
    CHECK_INT(total, 0);
}

static void check_wait(const wheel_fixture *f) {
    uint64_t first = first_deadline(f);
    uint32_t wait = lpi_wheel_wait(&f->wheel);
    if (!first) CHECK(wait == UINT32_MAX);
    else if (first <= f->now) CHECK_INT(wait, 0);
    else CHECK(wait <= first - f->now);
}

static int64_t some_delay(int64_t most) {
    int64_t delay;
    switch (unit_below(8)) {
    case 0: return 0;
    case 1: /* late already; but two times of one timer are never 2^31 apart */
        return most < INT32_MAX ? -(int64_t)unit_below(100) : 1;
    case 2: delay = (INT64_C(1) << 6 * unit_below(6)) + (int64_t)unit_below(3) - 1; break;
    case 3: delay = most - (int64_t)unit_below(2); break;
    default: delay = (int64_t)(unit_random() >> (33 + unit_below(31))); break;
    }
    return delay < most ? delay : most;
}

/* Turn to `to`: what rings is due, and what is due rings. Now and then a timer that rang
   is armed again at once, as a connection's is. */
static void advance(wheel_fixture *f, uint64_t to) {
    uint32_t index, i;
    f->now = to;
    while ((index = lpi_wheel_pop(&f->wheel, (uint32_t)to)) != LPI_NONE) {
        uint32_t which = ((wheel_record *)lpi_at(&f->slab, index))->mine;
        CHECK(f->armed[which]);
        CHECK(f->deadline[which] <= to);
        CHECK(!lpi_timer_armed(&f->wheel, index));
        f->armed[which] = 0;
        if (unit_one_in(4)) arm(f, which, 1 + (int64_t)unit_below(1u << 20));
        if (unit_one_in(8)) cancel(f, unit_below(TIMERS));
        if (unit_one_in(8)) arm(f, unit_below(TIMERS), (int64_t)unit_below(1u << 20));
    }
    for (i = 0; i < TIMERS; i++) CHECK(!f->armed[i] || f->deadline[i] > to);
    CHECK_INT(f->wheel.now, (uint32_t)to);
}

static void live_at_random(uint32_t start, int64_t most) {
    static wheel_fixture f;
    int round;
    open_wheel(&f, start);
    for (round = 0; round < unit_rounds(3000); round++) {
        uint32_t which = unit_below(TIMERS), wait;
        switch (unit_below(7)) {
        case 0: cancel(&f, which); break;
        case 1: advance(&f, f.now + unit_below(4)); break;
        case 2: /* to what the wheel says, or just before it */
            wait = lpi_wheel_wait(&f.wheel);
            if (wait != UINT32_MAX) advance(&f, f.now + wait - (wait && unit_one_in(2)));
            break;
        case 3: /* a time that is armed on the way is less than 2^31 after the wheel's */
            if (unit_one_in(4)) advance(&f, f.now + unit_below((uint32_t)(most / 2)));
            break;
        case 4: /* a little later than it was */
            if (f.armed[which] && f.deadline[which] + 4 < f.now + (uint64_t)most)
                arm(&f, which, (int64_t)(f.deadline[which] - f.now) + 1 + unit_below(3));
            break;
        default: arm(&f, which, some_delay(most)); break;
        }
        check_slots(&f);
        check_wait(&f);
    }
    close_wheel(&f);
}

TEST(wheel_like_an_array_from_zero) { live_at_random(0, 100000); }
TEST(wheel_like_an_array_across_the_wrap) { live_at_random(0u - 50000u, 100000); }
TEST(wheel_like_an_array_from_anywhere) {
    int i;
    for (i = 0; i < 5; i++) live_at_random((uint32_t)unit_random(), 1 << (8 + 4 * i));
}
TEST(wheel_like_an_array_with_the_longest_times) {
    static const uint32_t starts[] = {
        0, 0x3fffffff, 0x7fffffff, 0x80000001, 0xbfffffff, 0xffffffff};
    size_t i;
    for (i = 0; i < LPI_COUNT(starts); i++) live_at_random(starts[i], INT32_MAX);
}

/* One timer, at and beside each power of 64: silent one before, ringing at its time. */
TEST(wheel_rings_on_the_millisecond) {
    static const uint32_t starts[] = {0, 1, 63, 64, 4095, 0x3fffffff, 0x40000000, 0x7ffffffe,
                                      0x80000000, 0xbfffffff, 0xffffff00, 0xfffffffe, 0xffffffff};
    static wheel_fixture f;
    size_t s;
    int power, beside;
    for (s = 0; s < LPI_COUNT(starts); s++)
        for (power = 0; power <= 6; power++)
            for (beside = -1; beside <= 1; beside++) {
                int64_t ahead = power < 6 ? (INT64_C(1) << 6 * power) + beside
                                          : INT32_MAX - 1 + beside;
                uint32_t index;
                if (ahead < 1 || ahead > INT32_MAX) continue;
                open_wheel(&f, starts[s]);
                arm(&f, 7, ahead);
                index = lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + (uint64_t)ahead - 1));
                CHECK(index == LPI_NONE);
                CHECK_INT(lpi_wheel_wait(&f.wheel), 1);
                index = lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + (uint64_t)ahead));
                CHECK_INT(index, f.index[7]);
                CHECK(lpi_wheel_wait(&f.wheel) == UINT32_MAX);
                close_wheel(&f);
            }
}

/* Who sleeps as long as the wheel says is woken a few times for one timer, not often. */
TEST(wheel_wakes_seldom) {
    static wheel_fixture f;
    int round;
    for (round = 0; round < unit_rounds(300); round++) {
        int wakes = 0;
        open_wheel(&f, (uint32_t)unit_random());
        arm(&f, 0, 1 + (int64_t)(unit_random() >> 33) % (INT32_MAX - 1));
        while (f.armed[0]) {
            uint32_t wait = lpi_wheel_wait(&f.wheel);
            CHECK(wait != UINT32_MAX);
            CHECK(wait > 0 || f.deadline[0] <= f.now);
            f.now += wait;
            if (lpi_wheel_pop(&f.wheel, (uint32_t)f.now) != LPI_NONE) {
                CHECK_INT(f.now, f.deadline[0]);
                f.armed[0] = 0;
            }
            CHECK(++wakes <= LPI_WHEELS);
        }
        close_wheel(&f);
    }
}

/* A deadline that is put off again and again costs no relinking, and rings once. */
TEST(wheel_moves_later_lazily_and_earlier_at_once) {
    static wheel_fixture f;
    uint32_t i, *heads = f.wheel.heads, before[LPI_DUE_SLOT + 1];
    open_wheel(&f, 0xffffffc0u);
    arm(&f, 0, 100);
    memcpy(before, heads, sizeof before);
    for (i = 100; i < 5000; i++) arm(&f, 0, i);
    CHECK(memcmp(before, heads, sizeof before) == 0);
    CHECK(lpi_wheel_wait(&f.wheel) <= 100);
    CHECK(lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + 4998)) == LPI_NONE);
    CHECK_INT(lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + 4999)), f.index[0]);
    f.now += 4999;
    arm(&f, 1, 5000);
    arm(&f, 1, 9000);
    arm(&f, 1, 6000); /* earlier than the deadline, later than the slot */
    arm(&f, 1, 70);
    CHECK(lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + 69)) == LPI_NONE);
    CHECK_INT(lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + 70)), f.index[1]);
    CHECK(lpi_wheel_pop(&f.wheel, (uint32_t)(f.now + 20000)) == LPI_NONE);
    close_wheel(&f);
}
