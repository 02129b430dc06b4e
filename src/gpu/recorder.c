#include "gpu/recorder.h"

#include "base/clock.h"
#include "gpu/hazard.h"
#include "gpu/submit.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MAX_COMMANDS = 1024,            /* dispatches, fills and copies of one command buffer */
    MAX_PUSH_BYTES = 128,
    MAX_DEPTH = 8,
};

/* Estimated operations of one submission: well below a GPU watchdog's 2 s; a software device gets to show progress. */
static const uint64_t gpu_work = UINT64_C(200000000000), cpu_work = UINT64_C(10000000000);

/* One command buffer, one submission. */
struct part {
    VkCommandBuffer commands;
    uint32_t count;                 /* commands so far */
    struct vkm_trail trail;         /* of them, unless the command buffer is a host's */
};

struct vkm_rec {
    struct vkmoe_context *ctx;
    const char *name;
    enum vkmoe_status status;
    bool open;                      /* recording into the last part */
    bool into;                      /* the only part is the host's */
    bool dry;                       /* of that, the first pass: no command is recorded */
    struct vkmoe_vulkan_scope before, after;
    VkCommandPool pool;
    struct part *parts;
    uint32_t part_count;
    uint64_t work;                  /* of the last part */
    VkPipeline bound;               /* in the last part */
    struct vkm_hazards hazards;
    uint32_t dispatches, barriers;
    char prefix[48];
    size_t marks[MAX_DEPTH];        /* prefix lengths before each push */
    uint32_t depth;
    uint64_t ticket;                /* newest submission */
};

static void barrier(struct vkm_rec *rec, VkPipelineStageFlags2 src_stage, VkAccessFlags2 src_access,
                    VkPipelineStageFlags2 dst_stage, VkAccessFlags2 dst_access)
{
    const VkMemoryBarrier2 memory = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
        .srcStageMask = src_stage,
        .srcAccessMask = src_access,
        .dstStageMask = dst_stage,
        .dstAccessMask = dst_access,
    };
    const VkDependencyInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO,
        .memoryBarrierCount = 1,
        .pMemoryBarriers = &memory,
    };
    if (!rec->dry)
        rec->ctx->vk.CmdPipelineBarrier2(rec->parts[rec->part_count - 1].commands, &info);
}

static const VkPipelineStageFlags2 work_stages =
    VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT;
static const VkAccessFlags2 work_writes = VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT;
static const VkPipelineStageFlags2 use_stages =
    VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT |
    VK_PIPELINE_STAGE_2_DRAW_INDIRECT_BIT;
static const VkAccessFlags2 uses =
    VK_ACCESS_2_SHADER_STORAGE_READ_BIT | VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT | VK_ACCESS_2_TRANSFER_READ_BIT |
    VK_ACCESS_2_TRANSFER_WRITE_BIT | VK_ACCESS_2_INDIRECT_COMMAND_READ_BIT;

static struct part *add_part(struct vkm_rec *rec)
{
    struct part *parts = realloc(rec->parts, (rec->part_count + 1) * sizeof *parts);
    if (!parts)
        return NULL;
    rec->parts = parts;
    parts[rec->part_count] = (struct part){0};
    return &parts[rec->part_count++];
}

/* Adds a command buffer and begins it. */
static enum vkmoe_status begin_part(struct vkm_rec *rec)
{
    struct vkmoe_context *ctx = rec->ctx;
    struct vkm_vk *vk = &ctx->vk;
    enum vkmoe_status status;
    struct part *part = add_part(rec);
    if (!part)
        return vkm_fail_memory(&ctx->log);

    const VkCommandBufferAllocateInfo allocate = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = rec->pool,
        .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    };
    const VkCommandBufferBeginInfo begin = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    };
    if ((status = vkm_check(ctx, vk->AllocateCommandBuffers(vk->device, &allocate, &part->commands),
                            "vkAllocateCommandBuffers")) ||
        (status = vkm_check(ctx, vk->BeginCommandBuffer(part->commands, &begin), "vkBeginCommandBuffer")))
        return status;
    rec->open = true;
    rec->bound = VK_NULL_HANDLE;
    rec->work = 0;
    vkm_name_object(ctx, VK_OBJECT_TYPE_COMMAND_BUFFER, (uint64_t)(uintptr_t)part->commands, rec->name);
    if (rec->part_count == 1)
        barrier(rec, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, VK_ACCESS_2_MEMORY_WRITE_BIT, use_stages, uses);
    return vkm_trail_begin(ctx, &part->trail, part->commands, MAX_COMMANDS);
}

/* What it wrote is then there for the host and for the next part. */
static enum vkmoe_status end_part(struct vkm_rec *rec)
{
    const struct part *part = &rec->parts[rec->part_count - 1];
    rec->open = false;
    barrier(rec, use_stages, work_writes, use_stages | VK_PIPELINE_STAGE_2_HOST_BIT, uses | VK_ACCESS_2_HOST_READ_BIT);
    vkm_trail_end(rec->ctx, &part->trail, part->commands);
    vkm_hazards_forget(&rec->hazards);
    return vkm_check(rec->ctx, rec->ctx->vk.EndCommandBuffer(part->commands), "vkEndCommandBuffer");
}

static struct vkm_rec *new_recording(struct vkmoe_context *ctx, const char *name)
{
    struct vkm_rec *rec = calloc(1, sizeof *rec);
    if (rec)
        *rec = (struct vkm_rec){.ctx = ctx, .name = name};
    return rec;
}

enum vkmoe_status vkm_rec_create(struct vkmoe_context *ctx, const char *name, struct vkm_rec **out)
{
    *out = NULL;
    struct vkm_rec *rec = new_recording(ctx, name);
    if (!rec)
        return vkm_fail_memory(&ctx->log);
    const VkCommandPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
        .queueFamilyIndex = ctx->queue_family,
    };
    enum vkmoe_status status =
        vkm_check(ctx, ctx->vk.CreateCommandPool(ctx->vk.device, &info, ctx->allocator, &rec->pool), "vkCreateCommandPool");
    if (!status)
        status = begin_part(rec);
    if (status) {
        vkm_rec_destroy(rec);
        return status;
    }
    *out = rec;
    return VKMOE_OK;
}

enum vkmoe_status vkm_rec_create_into(struct vkmoe_context *ctx, const char *name, const struct vkmoe_vulkan_record *where,
                                      struct vkm_rec **out)
{
    static const struct vkmoe_vulkan_scope all = {VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
                                                  VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT};
    *out = NULL;
    struct vkm_rec *rec = new_recording(ctx, name);
    struct part *part = rec ? add_part(rec) : NULL;
    if (!part) {
        free(rec);
        return vkm_fail_memory(&ctx->log);
    }
    part->commands = where->commands;
    rec->into = rec->dry = rec->open = true;
    rec->before = where->before.stages ? where->before : all;
    rec->after = where->after.stages ? where->after : all;
    *out = rec;
    return VKMOE_OK;
}

enum vkmoe_status vkm_rec_again(struct vkm_rec *rec)
{
    if (rec->status)
        return rec->status;
    rec->dry = false;
    rec->bound = VK_NULL_HANDLE;
    rec->dispatches = rec->barriers = rec->parts[0].count = 0;
    vkm_hazards_forget(&rec->hazards);
    barrier(rec, rec->before.stages | work_stages, rec->before.access | work_writes, use_stages, uses); /* and of our own */
    return VKMOE_OK;
}

void vkm_rec_destroy(struct vkm_rec *rec)
{
    if (!rec)
        return;
    struct vkm_vk *vk = &rec->ctx->vk;
    vkm_wait_quiet(rec->ctx, rec->ticket);
    for (uint32_t i = 0; i < rec->part_count; i++)
        vkm_trail_destroy(rec->ctx, &rec->parts[i].trail);
    if (rec->pool && !rec->ctx->hung) /* frees the command buffers */
        vk->DestroyCommandPool(vk->device, rec->pool, rec->ctx->allocator);
    vkm_hazards_clear(&rec->hazards);
    free(rec->parts);
    free(rec);
}

void vkm_rec_fail(struct vkm_rec *rec, enum vkmoe_status status)
{
    if (!rec->status)
        rec->status = status;
}

const struct vkmoe_context *vkm_rec_context(const struct vkm_rec *rec)
{
    return rec->ctx;
}

uint32_t vkm_rec_dispatches(const struct vkm_rec *rec)
{
    return rec->dispatches;
}

uint32_t vkm_rec_barriers(const struct vkm_rec *rec)
{
    return rec->barriers;
}

void vkm_rec_push(struct vkm_rec *rec, const char *fmt, ...)
{
    assert(rec->depth < MAX_DEPTH);
    size_t length = strlen(rec->prefix), room = sizeof rec->prefix - length;
    rec->marks[rec->depth++] = length;
    if (length && room > 1) {
        memcpy(rec->prefix + length++, "/", 2);
        room--;
    }
    va_list args;
    va_start(args, fmt);
    vsnprintf(rec->prefix + length, room, fmt, args);
    va_end(args);
}

void vkm_rec_pop(struct vkm_rec *rec)
{
    assert(rec->depth > 0);
    rec->prefix[rec->marks[--rec->depth]] = '\0';
}

struct vkm_groups vkm_groups(const struct vkmoe_context *ctx, uint64_t n)
{
    uint64_t y = n / ctx->caps.max_groups + (n % ctx->caps.max_groups != 0);
    if (y > ctx->caps.max_groups) /* a dispatch of these is refused */
        return (struct vkm_groups){UINT32_MAX, UINT32_MAX, 1};
    return (struct vkm_groups){y ? (uint32_t)((n + y - 1) / y) : 0, (uint32_t)y, 1};
}

/* Before a command: a new part if the last is full, a barrier if the command needs one, its label. NULL: failed. */
static struct part *begin_command(struct vkm_rec *rec, const char *label, const struct vkm_buf *reads,
                                  uint32_t read_count, const struct vkm_buf *writes, uint32_t write_count,
                                  uint64_t flops)
{
    struct vkmoe_context *ctx = rec->ctx;
    uint64_t limit = ctx->caps.cpu ? cpu_work : gpu_work, work = flops;
    if (rec->status)
        return NULL;
    if (!rec->open) {
        rec->status = vkm_fail(&ctx->log, VKMOE_ERROR_ARGUMENT, "%s: recording %s has ended", label, rec->name);
        return NULL;
    }
    for (uint32_t i = 0; i < read_count; i++)
        work += reads[i].bytes / 4;
    for (uint32_t i = 0; i < write_count; i++)
        work += writes[i].bytes / 4;

    struct part *part = &rec->parts[rec->part_count - 1];
    if (!rec->into && part->count && (part->count == MAX_COMMANDS || work > limit || rec->work > limit - work)) {
        if ((rec->status = end_part(rec)) || (rec->status = begin_part(rec)))
            return NULL;
        part = &rec->parts[rec->part_count - 1];
        rec->barriers++;
    }
    rec->work += work;

    if (vkm_hazards_found(&rec->hazards, reads, read_count, writes, write_count)) {
        barrier(rec, use_stages, work_writes, use_stages, uses);
        if (!rec->into)
            vkm_trail_mark(ctx, &part->trail, part->commands);
        rec->barriers++;
        vkm_hazards_forget(&rec->hazards);
    }
    if (!vkm_hazards_add(&rec->hazards, reads, read_count, writes, write_count)) {
        rec->status = vkm_fail_memory(&ctx->log);
        return NULL;
    }
    if (!rec->into && (rec->status = vkm_trail_note(ctx, &part->trail, rec->name, rec->prefix, label, flops)))
        return NULL;
    if (ctx->debug_names && !rec->dry) {
        char text[128];
        snprintf(text, sizeof text, "%s%s%s", rec->prefix, *rec->prefix ? "/" : "", label);
        const VkDebugUtilsLabelEXT info = {.sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_LABEL_EXT, .pLabelName = text};
        ctx->vk.CmdBeginDebugUtilsLabelEXT(part->commands, &info);
    }
    return part;
}

static void end_command(struct vkm_rec *rec, struct part *part)
{
    part->count++;
    if (rec->ctx->debug_names && !rec->dry)
        rec->ctx->vk.CmdEndDebugUtilsLabelEXT(part->commands);
    if (!rec->into)
        vkm_trail_stamp(rec->ctx, &part->trail, part->commands);
}

static uint32_t count_buffers(const struct vkm_buf *list)
{
    uint32_t count = 0;
    while (count < VKM_MAX_ACCESS && list[count].bytes)
        count++;
    return count;
}

static enum vkmoe_status check_dispatch(const struct vkm_rec *rec, const struct vkm_dispatch *d)
{
    uint32_t max = rec->ctx->caps.max_groups;
    if (d->args_bytes > MAX_PUSH_BYTES || d->args_bytes % 4)
        return vkm_fail(&rec->ctx->log, VKMOE_ERROR_ARGUMENT, "%s: %u bytes of arguments; they are whole words, at "
                        "most %d bytes", d->label, d->args_bytes, MAX_PUSH_BYTES);
    if (d->indirect.handle && (d->indirect.bytes < sizeof(VkDispatchIndirectCommand) || d->indirect.offset % 4))
        return vkm_fail(&rec->ctx->log, VKMOE_ERROR_ARGUMENT, "%s: its indirect buffer has %llu bytes at %llu; 12 are "
                        "needed, at a multiple of 4", d->label, (unsigned long long)d->indirect.bytes,
                        (unsigned long long)d->indirect.offset);
    if (!d->indirect.handle && (d->groups.x > max || d->groups.y > max || d->groups.z > max))
        return vkm_fail(&rec->ctx->log, VKMOE_ERROR_ARGUMENT, "%s: %u x %u x %u workgroups; %s takes %u in a "
                        "dimension: use a smaller model or batch", d->label, d->groups.x, d->groups.y, d->groups.z,
                        rec->ctx->info.name, max);
    return VKMOE_OK;
}

void vkm_rec_dispatch(struct vkm_rec *rec, const struct vkm_dispatch *d)
{
    struct vkm_vk *vk = &rec->ctx->vk;
    struct vkm_pipeline pipeline;
    if (rec->status || (!d->indirect.handle && (!d->groups.x || !d->groups.y || !d->groups.z)))
        return;
    if ((rec->status = check_dispatch(rec, d)) ||
        (rec->status = vkm_pipeline_get(rec->ctx, d->kernel, d->spec, d->spec_count, d->subgroup, &pipeline)))
        return;

    struct vkm_buf reads[VKM_MAX_ACCESS + 1];
    uint32_t read_count = count_buffers(d->read), write_count = count_buffers(d->write);
    memcpy(reads, d->read, read_count * sizeof *reads);
    if (d->indirect.handle)
        reads[read_count++] = d->indirect;
    struct part *part = begin_command(rec, d->label, reads, read_count, d->write, write_count, d->flops);
    if (!part)
        return;
    if (!rec->dry) {
        if (rec->bound != pipeline.handle)
            vk->CmdBindPipeline(part->commands, VK_PIPELINE_BIND_POINT_COMPUTE, pipeline.handle);
        rec->bound = pipeline.handle;
        if (d->args_bytes)
            vk->CmdPushConstants(part->commands, pipeline.layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, d->args_bytes, d->args);
        if (d->indirect.handle)
            vk->CmdDispatchIndirect(part->commands, d->indirect.handle, d->indirect.offset);
        else
            vk->CmdDispatch(part->commands, d->groups.x, d->groups.y, d->groups.z);
    }
    rec->dispatches++;
    end_command(rec, part);
}

void vkm_rec_fill(struct vkm_rec *rec, struct vkm_buf dst, uint32_t value)
{
    if (rec->status || !dst.bytes)
        return;
    if (dst.bytes % 4 || dst.offset % 4) {
        rec->status = vkm_fail(&rec->ctx->log, VKMOE_ERROR_ARGUMENT, "fill: %llu bytes at %llu are not whole words",
                               (unsigned long long)dst.bytes, (unsigned long long)dst.offset);
        return;
    }
    struct part *part = begin_command(rec, "fill", NULL, 0, &dst, 1, 0);
    if (!part)
        return;
    if (!rec->dry)
        rec->ctx->vk.CmdFillBuffer(part->commands, dst.handle, dst.offset, dst.bytes, value);
    end_command(rec, part);
}

void vkm_rec_copy(struct vkm_rec *rec, struct vkm_buf dst, struct vkm_buf src)
{
    if (rec->status || !src.bytes)
        return;
    if (src.bytes > dst.bytes) {
        rec->status = vkm_fail(&rec->ctx->log, VKMOE_ERROR_ARGUMENT, "copy: %llu bytes into %llu",
                               (unsigned long long)src.bytes, (unsigned long long)dst.bytes);
        return;
    }
    struct vkm_buf written = vkm_buf_slice(dst, 0, src.bytes);
    const VkBufferCopy region = {.srcOffset = src.offset, .dstOffset = dst.offset, .size = src.bytes};
    struct part *part = begin_command(rec, "copy", &src, 1, &written, 1, 0);
    if (!part)
        return;
    if (!rec->dry)
        rec->ctx->vk.CmdCopyBuffer(part->commands, src.handle, dst.handle, 1, &region);
    end_command(rec, part);
}

enum vkmoe_status vkm_rec_end(struct vkm_rec *rec)
{
    if (!rec->open)
        return rec->status;
    if (rec->into) {
        barrier(rec, work_stages, work_writes, rec->after.stages, rec->after.access);
        rec->open = false;
        return rec->status;
    }
    enum vkmoe_status status = end_part(rec);
    if (!rec->status)
        rec->status = status;
    return rec->status;
}

/* Waits for the submission and hands its timestamps to the profiler. */
static enum vkmoe_status collect_times(struct vkm_rec *rec)
{
    enum vkmoe_status status = vkm_wait(rec->ctx, rec->ticket);
    for (uint32_t i = 0; i < rec->part_count && !status; i++)
        status = vkm_trail_profile(rec->ctx, &rec->parts[i].trail);
    return status;
}

enum vkmoe_status vkm_rec_submit(struct vkm_rec *rec, uint64_t *ticket)
{
    struct vkmoe_context *ctx = rec->ctx;
    struct vkm_work work = {.name = rec->name};
    if (rec->status)
        return rec->status;
    if (rec->open)
        return vkm_fail(&ctx->log, VKMOE_ERROR_ARGUMENT, "recording %s is submitted before it has ended", rec->name);
    for (uint32_t i = 0; i < rec->part_count; i++)
        work.all += rec->parts[i].count;
    for (uint32_t i = 0; i < rec->part_count; i++, work.first += work.count) {
        const struct part *part = &rec->parts[i];
        work.commands = part->commands;
        work.count = part->count;
        work.trail = &part->trail;
        enum vkmoe_status status = vkm_submit(ctx, &work, &rec->ticket);
        if (status)
            return status;
    }
    if (ticket)
        *ticket = rec->ticket;
    return ctx->profiler ? collect_times(rec) : VKMOE_OK;
}

enum vkmoe_status vkm_rec_run_once(struct vkm_rec *rec)
{
    uint64_t ticket;
    enum vkmoe_status status = vkm_rec_end(rec);
    if (!status)
        status = vkm_rec_submit(rec, &ticket);
    if (!status)
        status = vkm_wait(rec->ctx, ticket);
    vkm_rec_destroy(rec);
    return status;
}

enum vkmoe_status vkm_rec_time(struct vkm_rec *rec, int rounds, double *seconds)
{
    *seconds = 0;
    for (int round = 0; round < rounds; round++) {
        uint64_t ticket;
        const double start = vkm_seconds();
        enum vkmoe_status status = vkm_rec_submit(rec, &ticket);
        if (status || (status = vkm_wait(rec->ctx, ticket)))
            return status;
        const double took = vkm_seconds() - start;
        if (round == 0 || took < *seconds)
            *seconds = took;
    }
    return VKMOE_OK;
}
