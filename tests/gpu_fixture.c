#include "gpu_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seen seen;

static void on_log(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level <= VKMOE_LOG_WARNING)
        snprintf(seen.last, sizeof seen.last, "%s", line);
    if (level == VKMOE_LOG_INFO)
        snprintf(seen.all + strlen(seen.all), sizeof seen.all - strlen(seen.all), "%s\n", line);
    seen.errors += level == VKMOE_LOG_ERROR;
    seen.warnings += level == VKMOE_LOG_WARNING;
}

const struct vkmoe_log test_log = {.fn = on_log};

bool validating(void)
{
    return getenv("VKMOE_VALIDATE") != NULL;
}

struct vkmoe_context *open_desc(struct vkmoe_context_desc desc)
{
    struct vkmoe_context *ctx = NULL;
    desc.log = test_log;
    desc.validate = validating();
    const enum vkmoe_status status = vkmoe_context_create(&desc, &ctx);
    if (status == VKMOE_ERROR_DEVICE && !getenv("VKMOE_REQUIRE_DEVICE"))
        cr_skip_test("no Vulkan device: %s", seen.last);
    cr_assert_eq(status, VKMOE_OK, "%s", seen.last);
    seen.errors = 0;
    return ctx;
}

struct vkmoe_context *open_context(void)
{
    return open_desc((struct vkmoe_context_desc){0});
}

void close_context(struct vkmoe_context *ctx, unsigned expected)
{
    cr_expect_eq(vkmoe_context_validation_messages(ctx), 0, "%s", seen.last);
    vkmoe_context_destroy(ctx);
    cr_expect_eq(seen.errors, expected, "%u errors, last: %s", seen.errors, seen.last);
}

struct vkm_arena *arena(struct vkmoe_context *ctx, enum vkm_memory memory)
{
    struct vkm_arena *a;
    cr_assert_eq(vkm_arena_create(ctx, "test", memory, &a), VKMOE_OK);
    return a;
}

struct vkm_rec *recording(struct vkmoe_context *ctx)
{
    struct vkm_rec *rec;
    cr_assert_eq(vkm_rec_create(ctx, "test", &rec), VKMOE_OK, "%s", seen.last);
    return rec;
}

struct vkm_dispatch fill(struct vkmoe_context *ctx, struct vkm_fill_args *args, struct vkm_buf dst, uint32_t value,
                         struct vkm_buf read)
{
    *args = (struct vkm_fill_args){.v = dst.addr, .count = (uint32_t)(dst.bytes / 4), .value = value};
    return (struct vkm_dispatch){
        .label = "test.fill",
        .kernel = VKM_KERNEL_FILL,
        .spec = {64},
        .spec_count = 1,
        .args = args,
        .args_bytes = sizeof *args,
        .groups = vkm_groups(ctx, (dst.bytes / 4 + 63) / 64),
        .read = {read},
        .write = {dst},
        .flops = dst.bytes / 4,
    };
}

void record_fill(struct vkmoe_context *ctx, struct vkm_rec *rec, struct vkm_buf dst, uint32_t value,
                 struct vkm_buf read)
{
    struct vkm_fill_args args;
    struct vkm_dispatch d = fill(ctx, &args, dst, value, read);
    vkm_rec_dispatch(rec, &d);
}

void run(struct vkmoe_context *ctx, struct vkm_rec *rec)
{
    uint64_t ticket = 0;
    cr_assert_eq(vkm_rec_end(rec), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_rec_submit(rec, &ticket), VKMOE_OK, "%s", seen.last);
    cr_assert_gt(ticket, 0);
    cr_assert_eq(vkm_wait(ctx, ticket), VKMOE_OK, "%s", seen.last);
}

void expect_words(struct vkmoe_context *ctx, struct vkm_buf buf, uint32_t value)
{
    uint32_t *words = malloc(buf.bytes);
    cr_assert_eq(vkm_buf_download(ctx, buf, words, buf.bytes), VKMOE_OK, "%s", seen.last);
    for (size_t i = 0; i < buf.bytes / 4; i++)
        cr_assert_eq(words[i], value, "word %zu of %zu: %#x instead of %#x", i, (size_t)buf.bytes / 4, words[i], value);
    free(words);
}

struct three three(struct vkmoe_context *ctx, uint64_t bytes)
{
    struct three t = {.arena = arena(ctx, VKM_MEMORY_DEVICE)};
    struct vkm_buf a, b, c;
    vkm_arena_reserve(t.arena, "a", bytes, &a);
    vkm_arena_reserve(t.arena, "b", bytes, &b);
    vkm_arena_reserve(t.arena, "c", bytes, &c);
    cr_assert_eq(vkm_arena_commit(t.arena), VKMOE_OK, "%s", seen.last);
    t.a = a;
    t.b = b;
    t.c = c;
    return t;
}
