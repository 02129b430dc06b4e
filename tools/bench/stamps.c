#include "bench/stamps.h"

#include <stdlib.h>

#include "gpu/submit.h"

struct stamps {
    VkQueryPool queries;
    VkCommandPool pool;
    VkCommandBuffer commands[2];
};

static enum vkmoe_status record(struct vkmoe_context *ctx, const struct stamps *s, uint32_t which)
{
    struct vkm_vk *vk = &ctx->vk;
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    enum vkmoe_status status = vkm_check(ctx, vk->BeginCommandBuffer(s->commands[which], &begin), "vkBeginCommandBuffer");
    if (status)
        return status;
    if (which == 0)
        vk->CmdResetQueryPool(s->commands[which], s->queries, 0, 2);
    vk->CmdWriteTimestamp2(s->commands[which], VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, s->queries, which);
    return vkm_check(ctx, vk->EndCommandBuffer(s->commands[which]), "vkEndCommandBuffer");
}

enum vkmoe_status stamps_create(struct vkmoe_context *ctx, struct stamps **out)
{
    struct vkm_vk *vk = &ctx->vk;
    enum vkmoe_status status;
    *out = NULL;
    struct stamps *s = calloc(1, sizeof *s);
    if (!s)
        return vkm_fail_memory(&ctx->log);
    const VkQueryPoolCreateInfo queries = {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO, .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = 2};
    const VkCommandPoolCreateInfo pool = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = ctx->queue_family};
    if ((status = vkm_check(ctx, vk->CreateQueryPool(vk->device, &queries, NULL, &s->queries), "vkCreateQueryPool")) ||
        (status = vkm_check(ctx, vk->CreateCommandPool(vk->device, &pool, NULL, &s->pool), "vkCreateCommandPool")))
        goto fail;
    const VkCommandBufferAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = s->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 2};
    if ((status = vkm_check(ctx, vk->AllocateCommandBuffers(vk->device, &allocate, s->commands),
                            "vkAllocateCommandBuffers")) ||
        (status = record(ctx, s, 0)) || (status = record(ctx, s, 1)))
        goto fail;
    *out = s;
    return VKMOE_OK;

fail:
    stamps_destroy(ctx, s);
    return status;
}

void stamps_destroy(struct vkmoe_context *ctx, struct stamps *s)
{
    if (!s)
        return;
    if (s->pool && !ctx->hung)
        ctx->vk.DestroyCommandPool(ctx->vk.device, s->pool, NULL);
    if (s->queries && !ctx->hung)
        ctx->vk.DestroyQueryPool(ctx->vk.device, s->queries, NULL);
    free(s);
}

enum vkmoe_status stamps_first(struct vkmoe_context *ctx, struct stamps *s)
{
    uint64_t ticket;
    return vkm_submit(ctx, &(struct vkm_work){.commands = s->commands[0], .name = "bench"}, &ticket);
}

enum vkmoe_status stamps_second(struct vkmoe_context *ctx, struct stamps *s)
{
    uint64_t ticket;
    return vkm_submit(ctx, &(struct vkm_work){.commands = s->commands[1], .name = "bench"}, &ticket);
}

enum vkmoe_status stamps_seconds(struct vkmoe_context *ctx, struct stamps *s, double *seconds)
{
    uint64_t ticks[2] = {0};
    enum vkmoe_status status = vkm_wait(ctx, ctx->submitted);
    if (!status)
        status = vkm_check(ctx, ctx->vk.GetQueryPoolResults(ctx->vk.device, s->queries, 0, 2, sizeof ticks, ticks,
                                                            sizeof *ticks, VK_QUERY_RESULT_64_BIT),
                           "vkGetQueryPoolResults");
    *seconds = (double)((ticks[1] - ticks[0]) & ctx->caps.timestamp_mask) * ctx->caps.timestamp_ns * 1e-9;
    return status;
}
