/* json3.c: every text of up to three bytes, alone and where a value, a string, a member and
   a number's rest stand, against the reference validator: the same verdict, the same bad
   byte, and nothing read behind the end. */

#include "fuzz.h"
#include "reference.h"

static const char *const places[][2] = {
    {"", ""}, {"[", "]"}, {"\"", "\""}, {"{\"\":0", "}"}, {"-1", ""}};

static fuzz_pages pages;

static void check(lp_slice text, uint32_t bytes)
{
    ref r;
    size_t offset = text.length;
    int want = ref_text(&r, text, NULL);
    lp_result got = lp_json_check(text, &offset);
    MUST((got == LP_OK) == !want && offset == (size_t)(r.at - text.bytes),
         "%06x, in %.*s: result %d at %zu, reference %d at %zu", bytes, (int)text.length,
         text.bytes, got, offset, want, (size_t)(r.at - text.bytes));
}

int main(void)
{
    uint64_t tried = 0, good = 0;
    size_t place, length;
    uint32_t bytes;
    fuzz_pages_init(&pages);
    for (place = 0; place < LPI_COUNT(places); place++) {
        for (length = 0; length <= 3; length++) {
            const char *before = places[place][0], *after = places[place][1];
            size_t all = strlen(before) + length + strlen(after);
            char *text = pages.end - all, *hole = text + strlen(before);
            memcpy(text, before, strlen(before));
            memcpy(hole + length, after, strlen(after));
            for (bytes = 0; bytes < 1u << 8 * length; bytes++) {
                if (length > 0) hole[0] = (char)bytes;
                if (length > 1) hole[1] = (char)(bytes >> 8);
                if (length > 2) hole[2] = (char)(bytes >> 16);
                check(lpi_slice(text, all), bytes);
                good += !lp_json_check(lpi_slice(text, all), NULL);
                tried++;
            }
        }
    }
    printf("%" PRIu64 " texts, %" PRIu64 " of them JSON: validator and reference agree\n", tried,
           good);
    return 0;
}
