#include "gpu/trail.h"

#include <stdlib.h>
#include <string.h>

#include "gpu/memory.h"
#include "gpu/profiler.h"

/* Command buffers that can have a word at the same time; large models have a few hundred. Others are known by name alone. */
enum { WORDS = 1024 };

struct vkm_trails {
    struct vkm_arena *arena;
    struct vkm_buf words;           /* 0: the command buffer is not running; n + 1: n commands have finished */
    uint32_t free_count;
    uint32_t free[WORDS];
};

enum vkmoe_status vkm_trails_create(struct vkmoe_context *ctx, struct vkm_trails **out)
{
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_trails *trails = calloc(1, sizeof *trails);
    if (!trails)
        return vkm_fail_memory(&ctx->log);
    if ((status = vkm_arena_create(ctx, "progress", VKM_MEMORY_READBACK, &trails->arena)))
        goto fail;
    vkm_arena_reserve(trails->arena, "words", WORDS * sizeof(uint32_t), &trails->words);
    if ((status = vkm_arena_commit(trails->arena)))
        goto fail;
    for (uint32_t i = 0; i < WORDS; i++)
        trails->free[trails->free_count++] = WORDS - i;
    *out = trails;
    return VKMOE_OK;

fail:
    vkm_trails_destroy(trails);
    return status;
}

void vkm_trails_destroy(struct vkm_trails *trails)
{
    if (!trails)
        return;
    vkm_arena_destroy(trails->arena);
    free(trails);
}

/* The device writes there while it runs: never to be kept in a register. */
static volatile uint32_t *word_of(const struct vkmoe_context *ctx, const struct vkm_trail *trail)
{
    return (volatile uint32_t *)ctx->trails->words.host + (trail->word - 1);
}

static void write_word(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands, uint32_t value)
{
    const struct vkm_buf *words = &ctx->trails->words;
    if (trail->word)
        ctx->vk.CmdFillBuffer(commands, words->handle, words->offset + (trail->word - 1) * sizeof value, sizeof value, value);
}

static void write_stamp(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands, uint32_t index)
{
    if (trail->queries)
        ctx->vk.CmdWriteTimestamp2(commands, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, trail->queries, index);
}

enum vkmoe_status vkm_trail_begin(struct vkmoe_context *ctx, struct vkm_trail *trail, VkCommandBuffer commands, uint32_t most)
{
    const VkQueryPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP,
        .queryCount = most + 1,
    };
    struct vkm_trails *trails = ctx->trails;
    if (trails->free_count) {
        trail->word = trails->free[--trails->free_count];
        *word_of(ctx, trail) = 0;
    }
    write_word(ctx, trail, commands, 1);
    if (!ctx->profiler)
        return VKMOE_OK;
    enum vkmoe_status status = vkm_check(
        ctx, ctx->vk.CreateQueryPool(ctx->vk.device, &info, ctx->allocator, &trail->queries), "vkCreateQueryPool");
    if (status)
        return status;
    ctx->vk.CmdResetQueryPool(commands, trail->queries, 0, most + 1);
    write_stamp(ctx, trail, commands, 0);
    return VKMOE_OK;
}

void vkm_trail_mark(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands)
{
    if (trail->count) /* else the beginning has said so */
        write_word(ctx, trail, commands, trail->count + 1);
}

/* Where the prefix stands, which most often is that of the command before; false: no memory. */
static bool keep_prefix(struct vkm_trail *trail, const char *prefix, uint32_t *at)
{
    if (trail->count && !strcmp(trail->prefixes + trail->list[trail->count - 1].prefix, prefix)) {
        *at = trail->list[trail->count - 1].prefix;
        return true;
    }
    const size_t bytes = strlen(prefix) + 1;
    char *more = realloc(trail->prefixes, trail->prefix_bytes + bytes);
    if (!more)
        return false;
    trail->prefixes = more;
    memcpy(more + trail->prefix_bytes, prefix, bytes);
    *at = (uint32_t)trail->prefix_bytes;
    trail->prefix_bytes += bytes;
    return true;
}

enum vkmoe_status vkm_trail_note(struct vkmoe_context *ctx, struct vkm_trail *trail, const char *recording, const char *prefix,
                                 const char *label, uint64_t flops)
{
    struct vkm_command command = {.label = label, .site = UINT32_MAX};
    if (trail->count == trail->capacity) {
        const uint32_t capacity = trail->capacity ? 2 * trail->capacity : 8;
        struct vkm_command *list = realloc(trail->list, capacity * sizeof *list);
        if (!list)
            return vkm_fail_memory(&ctx->log);
        trail->list = list;
        trail->capacity = capacity;
    }
    if (!keep_prefix(trail, prefix, &command.prefix))
        return vkm_fail_memory(&ctx->log);
    if (ctx->profiler)
        command.site = vkm_profiler_site(ctx->profiler, recording, prefix, label, flops);
    trail->list[trail->count++] = command;
    return VKMOE_OK;
}

void vkm_trail_stamp(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands)
{
    write_stamp(ctx, trail, commands, trail->count);
}

void vkm_trail_end(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands)
{
    write_word(ctx, trail, commands, 0);
}

enum vkmoe_status vkm_trail_profile(struct vkmoe_context *ctx, const struct vkm_trail *trail)
{
    const uint32_t count = trail->count + 1;
    uint64_t *ticks = malloc(count * sizeof *ticks);
    if (!ticks)
        return vkm_fail_memory(&ctx->log);
    /* Without waiting, as the command buffer has finished: no wait but vkm_wait's could go on for ever. */
    enum vkmoe_status status = vkm_check(
        ctx, ctx->vk.GetQueryPoolResults(ctx->vk.device, trail->queries, 0, count, count * sizeof *ticks, ticks, sizeof *ticks,
                                         VK_QUERY_RESULT_64_BIT), "vkGetQueryPoolResults");
    for (uint32_t i = 0; i + 1 < count && !status; i++)
        vkm_profiler_add(ctx->profiler, trail->list[i].site, ticks[i], ticks[i + 1]);
    free(ticks);
    return status;
}

uint32_t vkm_trail_finished(const struct vkmoe_context *ctx, const struct vkm_trail *trail)
{
    const uint32_t value = trail->word ? *word_of(ctx, trail) : 0;
    return value && value <= trail->count + 1 ? value - 1 : UINT32_MAX;
}

void vkm_trail_destroy(struct vkmoe_context *ctx, struct vkm_trail *trail)
{
    if (trail->queries && !ctx->hung)
        ctx->vk.DestroyQueryPool(ctx->vk.device, trail->queries, ctx->allocator);
    if (trail->word && !ctx->hung)
        ctx->trails->free[ctx->trails->free_count++] = trail->word;
    free(trail->list);
    free(trail->prefixes);
    *trail = (struct vkm_trail){0};
}
