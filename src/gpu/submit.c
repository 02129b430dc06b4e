#include "gpu/submit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A wait is made of so many, and a device hangs when none of them saw a submission finish. Counting them instead of looking at a
 * clock, a process that was stopped for an hour, or a machine that slept, does not take its device to hang. */
enum { SLICES = 10 };

/* For a lost device to let go of what it was doing. */
static const uint64_t settle_ns = 1000000000;

/* A submission that is not known to have finished. */
struct vkm_flight {
    uint64_t ticket;
    struct vkm_work work;
    bool awaits;                    /* a semaphore of the host's */
};

/* ---- where it is --------------------------------------------------------------------------------------------------- */

/* Forgets what has finished and makes room for one more; false: no memory. */
static bool make_room(struct vkm_flights *flights)
{
    size_t done = 0;
    while (done < flights->count && flights->list[done].ticket <= flights->finished)
        done++;
    flights->count -= done;
    if (done)
        memmove(flights->list, flights->list + done, flights->count * sizeof *flights->list);
    if (flights->count < flights->capacity)
        return true;
    const size_t capacity = flights->capacity ? 2 * flights->capacity : 16;
    struct vkm_flight *list = realloc(flights->list, capacity * sizeof *list);
    if (!list)
        return false;
    flights->list = list;
    flights->capacity = capacity;
    return true;
}

void vkm_flights_clear(struct vkmoe_context *ctx)
{
    free(ctx->flights.list);
    ctx->flights = (struct vkm_flights){0};
}

const char *vkm_place(struct vkmoe_context *ctx, char text[static VKM_PLACE])
{
    const struct vkm_flights *flights = &ctx->flights;
    uint64_t done = flights->finished, counter = 0;
    size_t i = 0;
    text[0] = '\0';
    if (flights->count && !ctx->vk.GetSemaphoreCounterValue(ctx->vk.device, ctx->timeline, &counter) &&
        counter > done && counter <= ctx->submitted)
        done = counter;
    while (i < flights->count && flights->list[i].ticket <= done)
        i++;
    if (i == flights->count)
        return text;
    const struct vkm_work *work = &flights->list[i].work;
    const struct vkm_trail *trail = work->trail;
    const uint32_t at = trail ? vkm_trail_finished(ctx, trail) : UINT32_MAX;
    if (trail && at < trail->count) {
        const char *prefix = trail->prefixes + trail->list[at].prefix;
        snprintf(text, VKM_PLACE, ", in \"%s\", operation \"%s%s%s\" (%u of %u)", work->name, prefix, *prefix ? "/" : "",
                 trail->list[at].label, work->first + at + 1, work->all);
    } else if (flights->list[i].awaits) {
        snprintf(text, VKM_PLACE, ", in \"%s\", which waits for a semaphore of the host's", work->name);
    } else if (work->count < work->all) {
        snprintf(text, VKM_PLACE, ", in \"%s\", operations %u to %u of %u", work->name, work->first + 1,
                 work->first + work->count, work->all);
    } else {
        snprintf(text, VKM_PLACE, ", in \"%s\"", work->name);
    }
    return text;
}

/* ---- submitting and waiting ---------------------------------------------------------------------------------------- */

void vkm_lose(struct vkmoe_context *ctx)
{
    const VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &ctx->timeline,
        .pValues = &ctx->submitted,
    };
    if (ctx->lost)
        return;
    ctx->lost = true;
    /* Vulkan promises that such a wait ends soon, and that nothing is in use then. Some drivers need a moment. */
    if (ctx->timeline && ctx->submitted > ctx->flights.finished)
        ctx->hung = ctx->vk.WaitSemaphores(ctx->vk.device, &info, settle_ns) == VK_TIMEOUT;
}

enum vkmoe_status vkm_submit(struct vkmoe_context *ctx, const struct vkm_work *work, uint64_t *ticket)
{
    const VkCommandBufferSubmitInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
        .commandBuffer = work->commands,
    };
    const VkSemaphoreSubmitInfo signal = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
        .semaphore = ctx->timeline,
        .value = ctx->submitted + 1,
        .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
    };
    const bool awaits = ctx->awaited.semaphore != VK_NULL_HANDLE;
    const VkSubmitInfo2 info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
        .waitSemaphoreInfoCount = awaits,
        .pWaitSemaphoreInfos = &ctx->awaited,
        .commandBufferInfoCount = 1,
        .pCommandBufferInfos = &commands,
        .signalSemaphoreInfoCount = 1,
        .pSignalSemaphoreInfos = &signal,
    };
    if (ctx->lost) /* which was said: nothing is asked of it any more */
        return VKMOE_ERROR_DEVICE_LOST;
    if (!make_room(&ctx->flights))
        return vkm_fail_memory(&ctx->log);
    if (ctx->queue_lock)
        ctx->queue_lock(ctx->queue_user);
    const VkResult result = ctx->vk.QueueSubmit2(ctx->queue, 1, &info, VK_NULL_HANDLE);
    if (ctx->queue_unlock)
        ctx->queue_unlock(ctx->queue_user);
    if (!result) {
        *ticket = ++ctx->submitted;
        ctx->awaited.semaphore = VK_NULL_HANDLE;
        ctx->flights.list[ctx->flights.count++] = (struct vkm_flight){*ticket, *work, awaits};
    }
    return vkm_check(ctx, result, "vkQueueSubmit2");
}

static VkResult reached(const struct vkmoe_context *ctx, uint64_t *value)
{
    const VkResult result = ctx->vk.GetSemaphoreCounterValue(ctx->vk.device, ctx->timeline, value);
    return !result && *value > ctx->submitted ? VK_ERROR_DEVICE_LOST : result; /* some drivers say so by the largest value */
}

/* VK_TIMEOUT: no submission finished within the context's time. */
static VkResult wait_while_progressing(struct vkmoe_context *ctx, uint64_t ticket)
{
    const VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &ctx->timeline,
        .pValues = &ticket,
    };
    const uint64_t slice = (uint64_t)ctx->timeout_seconds * 1000000000 / SLICES;
    uint64_t before = 0, now = 0;
    VkResult result = reached(ctx, &now);
    for (unsigned idle = 0; !result && now < ticket;) {
        before = now;
        result = ctx->vk.WaitSemaphores(ctx->vk.device, &info, slice);
        if (result == VK_SUCCESS)
            break;
        if (result == VK_TIMEOUT)
            result = reached(ctx, &now);
        idle = now > before ? 0 : idle + 1;
        if (!result && idle == SLICES)
            return VK_TIMEOUT;
    }
    if (!result && ticket > ctx->flights.finished)
        ctx->flights.finished = ticket;
    return result;
}

enum vkmoe_status vkm_wait(struct vkmoe_context *ctx, uint64_t ticket)
{
    char place[VKM_PLACE];
    if (ticket <= ctx->flights.finished)
        return VKMOE_OK;
    if (ctx->lost)
        return VKMOE_ERROR_DEVICE_LOST;
    VkResult result = wait_while_progressing(ctx, ticket);
    if (result != VK_TIMEOUT)
        return vkm_check(ctx, result, "vkWaitSemaphores");
    ctx->lost = ctx->hung = true;
    return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE_LOST, "the device %s has finished nothing for %u s%s; restart, and if it is "
                    "only slow, with a smaller batch or a longer timeout", ctx->info.name, ctx->timeout_seconds,
                    vkm_place(ctx, place));
}

void vkm_wait_quiet(struct vkmoe_context *ctx, uint64_t ticket)
{
    char place[VKM_PLACE];
    if (ticket <= ctx->flights.finished || ctx->lost)
        return;
    const VkResult result = wait_while_progressing(ctx, ticket);
    if (result == VK_ERROR_DEVICE_LOST)
        vkm_lose(ctx);
    if (result != VK_TIMEOUT)
        return;
    ctx->lost = ctx->hung = true;
    vkm_log(&ctx->log, VKMOE_LOG_WARNING, "the device %s has finished nothing for %u s%s; what lies on it is left there",
            ctx->info.name, ctx->timeout_seconds, vkm_place(ctx, place));
}
