/* Recording, hazards, replay. */
#include "gpu_fixture.h"

#include <stdio.h>
#include <string.h>

Test(recorder, barriers_follow_hazards)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 4096);
    const struct vkm_buf none = {0};
    const struct vkm_buf low = vkm_buf_slice(t.c, 0, 2048), high = vkm_buf_slice(t.c, 2048, 2048);
    const struct vkm_buf straddling = vkm_buf_slice(t.c, 2044, 8);
    const struct {
        const char *name;
        struct vkm_buf first_write, first_read, second_write, second_read;
        uint32_t barriers;
    } cases[] = {
        {"read after write", t.a, none, t.b, t.a, 1},
        {"write after read", t.a, t.b, t.b, none, 1},
        {"write after write", t.a, none, t.a, none, 1},
        {"read and read", t.a, t.c, t.b, t.c, 0},
        {"independent", t.a, none, t.b, none, 0},
        {"halves of a buffer", low, none, high, none, 0},
        {"read of the other half", low, none, t.a, high, 0},
        {"overlap by one word", low, none, straddling, none, 1},
        {"same access twice in one dispatch", t.a, t.a, t.b, t.c, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vkm_rec *rec = recording(ctx);
        record_fill(ctx, rec, cases[i].first_write, 1, cases[i].first_read);
        record_fill(ctx, rec, cases[i].second_write, 2, cases[i].second_read);
        cr_expect_eq(vkm_rec_barriers(rec), cases[i].barriers, "%s", cases[i].name);
        cr_expect_eq(vkm_rec_dispatches(rec), 2);
        run(ctx, rec);
        expect_words(ctx, cases[i].second_write, 2);
        vkm_rec_destroy(rec);
    }

    /* A barrier covers everything before it. */
    struct vkm_rec *rec = recording(ctx);
    record_fill(ctx, rec, t.a, 1, none);
    record_fill(ctx, rec, t.b, 1, none);
    record_fill(ctx, rec, t.c, 1, t.a);
    cr_expect_eq(vkm_rec_barriers(rec), 1);
    record_fill(ctx, rec, t.a, 1, t.b);
    cr_expect_eq(vkm_rec_barriers(rec), 2); /* a was read since */
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);
}

Test(recorder, fill_copy_replay)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 40000);
    struct vkm_rec *rec = recording(ctx);
    vkm_rec_push(rec, "layer %d", 3);
    vkm_rec_push(rec, "a prefix that is far longer than what is kept of it, which must do no harm");
    vkm_rec_fill(rec, t.a, 0xdeadbeef);
    vkm_rec_pop(rec);
    vkm_rec_copy(rec, t.b, t.a);
    vkm_rec_pop(rec);
    record_fill(ctx, rec, t.a, 7, (struct vkm_buf){0});
    vkm_rec_copy(rec, t.c, vkm_buf_slice(t.a, 0, 20000));
    cr_expect_eq(vkm_rec_barriers(rec), 3);
    run(ctx, rec);
    expect_words(ctx, t.a, 7);
    expect_words(ctx, t.b, 0xdeadbeef);
    expect_words(ctx, vkm_buf_slice(t.c, 0, 20000), 7);

    /* Twice more without waiting between them. */
    uint64_t first, second;
    uint32_t zero[10000] = {0};
    cr_assert_eq(vkm_buf_upload(ctx, t.b, zero, sizeof zero), VKMOE_OK);
    cr_assert_eq(vkm_rec_submit(rec, &first), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_rec_submit(rec, &second), VKMOE_OK, "%s", seen.last);
    cr_expect_gt(second, first);
    cr_assert_eq(vkm_wait(ctx, second), VKMOE_OK);
    expect_words(ctx, t.a, 7);
    expect_words(ctx, t.b, 0xdeadbeef);
    vkm_rec_destroy(rec);
    vkm_rec_destroy(NULL);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);
}

Test(recorder, indirect)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 64 * 4 * 10);
    struct vkm_rec *rec = recording(ctx);
    struct vkm_fill_args args;
    struct vkm_buf size = vkm_buf_slice(t.b, 16, 12);
    vkm_rec_fill(rec, t.a, 1);
    vkm_rec_fill(rec, vkm_buf_slice(size, 0, 4), 3); /* 3 x 1 x 1 workgroups of 64 words */
    vkm_rec_fill(rec, vkm_buf_slice(size, 4, 8), 1);
    struct vkm_dispatch d = fill(ctx, &args, t.a, 9, (struct vkm_buf){0});
    d.groups = (struct vkm_groups){0};
    d.indirect = size;
    vkm_rec_dispatch(rec, &d);
    cr_expect_eq(vkm_rec_barriers(rec), 1);
    cr_expect_eq(vkm_rec_dispatches(rec), 1);
    vkm_rec_fill(rec, vkm_buf_slice(size, 0, 4), 5); /* after the dispatch has read it */
    cr_expect_eq(vkm_rec_barriers(rec), 2);
    run(ctx, rec);
    expect_words(ctx, vkm_buf_slice(t.a, 0, 3 * 64 * 4), 9);
    expect_words(ctx, vkm_buf_slice(t.a, 3 * 64 * 4, 7 * 64 * 4), 1);
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);
}

Test(recorder, long_recording_is_split)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 4096);
    struct vkm_rec *rec = recording(ctx);
    uint64_t before = ctx->submitted;
    for (uint32_t i = 0; i < 5000; i++)
        record_fill(ctx, rec, i % 2 ? t.a : t.b, i, i % 2 ? t.b : t.a);
    cr_expect_eq(vkm_rec_barriers(rec), 4999);
    run(ctx, rec);
    cr_expect_eq(ctx->submitted - before, 5);
    expect_words(ctx, t.a, 4999);
    expect_words(ctx, t.b, 4998);
    vkm_rec_destroy(rec);

    rec = recording(ctx); /* and by work: each of these fills a submission */
    before = ctx->submitted;
    for (uint32_t i = 0; i < 3; i++) {
        struct vkm_fill_args args;
        struct vkm_dispatch d = fill(ctx, &args, t.a, 40 + i, (struct vkm_buf){0});
        d.flops = UINT64_MAX / 2;
        vkm_rec_dispatch(rec, &d);
    }
    run(ctx, rec);
    cr_expect_eq(ctx->submitted - before, 3);
    expect_words(ctx, t.a, 42);
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);
}

Test(recorder, empty_dispatch_and_groups)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 4096);
    struct vkm_rec *rec = recording(ctx);
    struct vkm_fill_args args;
    for (int i = 0; i < 3; i++) {
        struct vkm_dispatch d = fill(ctx, &args, t.a, 1, (struct vkm_buf){0});
        d.groups = (struct vkm_groups){i != 0, i != 1, i != 2};
        vkm_rec_dispatch(rec, &d);
    }
    cr_expect_eq(vkm_rec_dispatches(rec), 0);
    run(ctx, rec); /* nothing in it: fine */
    vkm_rec_destroy(rec);

    const uint64_t counts[] = {1, 65535, 65536, 100000, 65535 * UINT64_C(65535)};
    ctx->caps.max_groups = 65535;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct vkm_groups g = vkm_groups(ctx, counts[i]);
        cr_expect(g.x <= 65535 && g.y <= 65535 && g.z == 1);
        cr_expect_geq((uint64_t)g.x * g.y, counts[i]);
        cr_expect_lt((uint64_t)g.x * g.y - counts[i], g.y);
    }
    cr_expect_eq(vkm_groups(ctx, 0).x, 0);
    cr_expect_gt(vkm_groups(ctx, UINT64_C(1) << 40).x, 65535);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 0);
}

Test(recorder, errors_latch)
{
    struct vkmoe_context *ctx = open_context();
    struct three t = three(ctx, 4096);
    for (int i = 0; i < 7; i++) {
        static const char *const expected[7] = {"test.fill", "test.fill", "fill", "copy", "test.fill", "fill", "fill"};
        struct vkm_rec *rec = recording(ctx);
        struct vkm_fill_args args;
        uint64_t ticket = 99;
        struct vkm_dispatch d = fill(ctx, &args, t.a, 1, (struct vkm_buf){0});
        enum vkmoe_status wanted = i == 5 ? VKMOE_ERROR_IO : VKMOE_ERROR_ARGUMENT;
        seen.errors = 0;
        snprintf(seen.last, sizeof seen.last, "fill");
        switch (i) {
        case 0: d.groups.y = ctx->caps.max_groups + 1; vkm_rec_dispatch(rec, &d); break;
        case 1: d.args_bytes = 132; vkm_rec_dispatch(rec, &d); break;
        case 2: vkm_rec_fill(rec, vkm_buf_slice(t.a, 0, 6), 0); break;
        case 3: vkm_rec_copy(rec, vkm_buf_slice(t.a, 0, 8), t.b); break;
        case 4: d.indirect = vkm_buf_slice(t.a, 0, 8); vkm_rec_dispatch(rec, &d); break;
        case 5: vkm_rec_fail(rec, VKMOE_ERROR_IO); vkm_rec_fail(rec, VKMOE_ERROR_FORMAT); break;
        case 6: d.spec[0] = ctx->caps.max_invocations + 1; vkm_rec_dispatch(rec, &d); break;
        }
        cr_expect_eq(seen.errors, i != 5);
        cr_expect(strstr(seen.last, expected[i]), "%s", seen.last);
        record_fill(ctx, rec, t.a, 1, (struct vkm_buf){0}); /* ignored, without a second message */
        d.groups.x = UINT32_MAX;
        vkm_rec_dispatch(rec, &d);
        cr_expect_eq(vkm_rec_dispatches(rec), 0);
        cr_expect_eq(vkm_rec_end(rec), wanted);
        cr_expect_eq(vkm_rec_submit(rec, &ticket), wanted);
        cr_expect_eq(seen.errors, i != 5);
        vkm_rec_destroy(rec);
    }
    seen.errors = 0;

    struct vkm_rec *rec = recording(ctx);
    uint64_t ticket;
    cr_expect_eq(vkm_rec_submit(rec, &ticket), VKMOE_ERROR_ARGUMENT); /* not ended */
    vkm_rec_destroy(rec);
    vkm_arena_destroy(t.arena);
    close_context(ctx, 1);
}
