/* What bench holds results against: numbers within their bounds pass, all others are found and named. */
#include <math.h>
#include <string.h>

#include "bench/check.h"
#include "cases/narrow.h"
#include "gpu_fixture.h"

enum { COUNT = 64 };

/* Whether the device's numbers, `first` to `first` + COUNT - 1 of those that are there, are taken for `want`. */
static bool taken(struct vkmoe_context *ctx, struct vkm_buf buf, uint32_t type, uint64_t first, const struct num *want)
{
    struct check c;
    check_begin(&c, ctx, "sums", "64");
    check_expect(&c, "x", buf, type, first, want, COUNT);
    const enum vkmoe_status status = check_end(&c);
    cr_expect(status == VKMOE_OK || status == VKMOE_ERROR_DEVICE);
    return status == VKMOE_OK;
}

Test(bench_check, finds_a_number_that_is_wrong)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 2 * COUNT * sizeof(float));
    float x[2 * COUNT];
    struct num want[COUNT];
    for (size_t i = 0; i < 2 * COUNT; i++)
        x[i] = (float)i + 0.5f;
    for (size_t i = 0; i < COUNT; i++)
        want[i] = num_within((double)(i + COUNT) + 0.5, 0x1p-10);
    const float wrongs[] = {COUNT + 7.5f + 0x1p-9f, 0, NAN, INFINITY};
    for (size_t i = 0; i < sizeof wrongs / sizeof *wrongs; i++) {
        x[COUNT + 7] = COUNT + 7.5f + 0x1p-11f;
        cr_assert_eq(vkm_buf_upload(ctx, t.a, x, sizeof x), VKMOE_OK);
        cr_expect(taken(ctx, t.a, TYPE_F32, COUNT, want));
        x[COUNT + 7] = wrongs[i];
        cr_assert_eq(vkm_buf_upload(ctx, t.a, x, sizeof x), VKMOE_OK);
        cr_expect(!taken(ctx, t.a, TYPE_F32, COUNT, want), "%g", (double)wrongs[i]);
        cr_expect(strstr(seen.last, "'sums' (64)") && strstr(seen.last, "x[71]"), "%s", seen.last);
    }
    vkm_arena_destroy(t.arena);
    close_context(ctx, sizeof wrongs / sizeof *wrongs);
}

Test(bench_check, reads_16_bits)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, COUNT * sizeof(uint16_t));
    for (uint32_t type = TYPE_F16; type <= TYPE_BF16; type++) {
        uint16_t bits[COUNT];
        struct num want[COUNT];
        for (uint32_t i = 0; i < COUNT; i++) {
            bits[i] = narrow_draw(type, i * 2654435761u);
            want[i] = num_exact((1 + 0x1p-11) * (double)narrow_value(type, bits[i])); /* as rounded */
        }
        cr_assert_eq(vkm_buf_upload(ctx, t.b, bits, sizeof bits), VKMOE_OK);
        cr_expect(taken(ctx, t.b, type, 0, want));
        bits[9] ^= 1 << (type == TYPE_F16 ? 9 : 6); /* by half of the number */
        cr_assert_eq(vkm_buf_upload(ctx, t.b, bits, sizeof bits), VKMOE_OK);
        cr_expect(!taken(ctx, t.b, type, 0, want));
    }
    vkm_arena_destroy(t.arena);
    close_context(ctx, 2);
}

Test(bench_check, finds_an_index_that_is_wrong)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, COUNT * sizeof(uint32_t));
    uint32_t idx[COUNT], *read;
    struct check c;
    for (uint32_t i = 0; i < COUNT; i++)
        idx[i] = i % 8;
    cr_assert_eq(vkm_buf_upload(ctx, t.c, idx, sizeof idx), VKMOE_OK);
    check_begin(&c, ctx, "route", "64");
    read = check_read_words(&c, t.c, 8);
    cr_expect_arr_eq(read, idx, sizeof idx);
    check_expect_words(&c, "idx", t.c, 32, &idx[32], 32);
    cr_expect_eq(c.status, VKMOE_OK);
    idx[40] = 3;
    check_expect_words(&c, "idx", t.c, 32, &idx[32], 32);
    cr_expect(c.status == VKMOE_ERROR_DEVICE && strstr(seen.last, "idx[40] is 0 instead of 3"), "%s", seen.last);
    cr_expect_eq(check_end(&c), VKMOE_ERROR_DEVICE);

    check_begin(&c, ctx, "route", "64");
    read = check_read_words(&c, t.c, 7); /* none may be used as an index */
    for (uint32_t i = 0; i < COUNT; i++)
        cr_expect_lt(read[i], 7);
    cr_expect_eq(check_end(&c), VKMOE_ERROR_DEVICE);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 2);
}
