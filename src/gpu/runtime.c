/* What the rest asks of an open context: a call's result checked, waiting, free memory, names. */
#include "gpu/context.h"

#include "base/host.h"

/* A device that finishes no submission for so long is taken to hang; a software device can well be busy with one. */
static uint64_t hang_seconds(const struct vkmoe_context *ctx)
{
    return ctx->caps.cpu ? 1800 : 120;
}

enum vkmoe_status vkm_check(const struct vkmoe_context *ctx, VkResult result, const char *call)
{
    char name[32];
    switch (result) {
    case VK_SUCCESS:
        return VKMOE_OK;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return vkm_fail_memory(&ctx->log);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE_MEMORY,
                        "%s: the device is out of memory; use a smaller model or batch, or close other programs", call);
    case VK_ERROR_DEVICE_LOST:
        return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE_LOST,
                        "%s: the driver reset or lost the device %s; resume from the last checkpoint in a new process",
                        call, ctx->info.name);
    default:
        return vkm_fail(&ctx->log, VKMOE_ERROR_VULKAN, "%s failed: %s; updating the driver may help", call,
                        vkm_vk_result_name(result, name));
    }
}

enum vkmoe_status vkm_submit(struct vkmoe_context *ctx, VkCommandBuffer buffer, uint64_t *ticket)
{
    const VkCommandBufferSubmitInfo commands = {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
        .commandBuffer = buffer,
    };
    const VkSemaphoreSubmitInfo signal = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
        .semaphore = ctx->timeline,
        .value = ctx->submitted + 1,
        .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
    };
    const VkSubmitInfo2 info = {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
        .waitSemaphoreInfoCount = ctx->awaited.semaphore != VK_NULL_HANDLE,
        .pWaitSemaphoreInfos = &ctx->awaited,
        .commandBufferInfoCount = 1,
        .pCommandBufferInfos = &commands,
        .signalSemaphoreInfoCount = 1,
        .pSignalSemaphoreInfos = &signal,
    };
    if (ctx->queue_lock)
        ctx->queue_lock(ctx->queue_user);
    const VkResult result = ctx->vk.QueueSubmit2(ctx->queue, 1, &info, VK_NULL_HANDLE);
    if (ctx->queue_unlock)
        ctx->queue_unlock(ctx->queue_user);
    if (!result) {
        *ticket = ++ctx->submitted;
        ctx->awaited.semaphore = VK_NULL_HANDLE;
    }
    ctx->lost |= result == VK_ERROR_DEVICE_LOST;
    return vkm_check(ctx, result, "vkQueueSubmit2");
}

/* VK_TIMEOUT: no submission finished within hang_seconds. */
static VkResult wait_while_progressing(struct vkmoe_context *ctx, uint64_t ticket)
{
    const VkSemaphoreWaitInfo info = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1,
        .pSemaphores = &ctx->timeline,
        .pValues = &ticket,
    };
    uint64_t before = 0, after = 0;
    VkResult result = ctx->vk.GetSemaphoreCounterValue(ctx->vk.device, ctx->timeline, &after);
    while (!result && after < ticket) {
        before = after;
        result = ctx->vk.WaitSemaphores(ctx->vk.device, &info, hang_seconds(ctx) * 1000000000);
        if (result != VK_TIMEOUT)
            break;
        result = ctx->vk.GetSemaphoreCounterValue(ctx->vk.device, ctx->timeline, &after);
        if (!result && after == before)
            result = VK_TIMEOUT;
    }
    if (result == VK_TIMEOUT || result == VK_ERROR_DEVICE_LOST)
        ctx->lost = true;
    return result;
}

enum vkmoe_status vkm_wait(struct vkmoe_context *ctx, uint64_t ticket)
{
    if (!ticket)
        return VKMOE_OK;
    VkResult result = wait_while_progressing(ctx, ticket);
    if (result == VK_TIMEOUT)
        return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE_LOST,
                        "the device %s has finished nothing for %u s and seems to hang; restart, with a smaller batch "
                        "if it is only slow", ctx->info.name, (unsigned)hang_seconds(ctx));
    return vkm_check(ctx, result, "vkWaitSemaphores");
}

void vkm_wait_quiet(struct vkmoe_context *ctx, uint64_t ticket)
{
    if (ticket && !ctx->lost)
        wait_while_progressing(ctx, ticket);
}

uint64_t vkm_memory_available(const struct vkmoe_context *ctx)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                               .pNext = ctx->caps.memory_budget ? &budget : NULL};
    ctx->vk.GetPhysicalDeviceMemoryProperties2(ctx->physical, &props);
    const VkPhysicalDeviceMemoryProperties *memory = &props.memoryProperties;
    uint32_t heap = 0;
    uint64_t largest = 0;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++)
        if ((memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) && memory->memoryHeaps[i].size > largest) {
            heap = i;
            largest = memory->memoryHeaps[i].size;
        }
    uint64_t available = largest > ctx->allocated ? largest - ctx->allocated : 0;
    if (ctx->caps.memory_budget)
        available = budget.heapBudget[heap] > budget.heapUsage[heap] ?
                        budget.heapBudget[heap] - budget.heapUsage[heap] : 0;
    if (ctx->caps.cpu) {
        uint64_t host = vkm_host_memory_available();
        available = host < available ? host : available;
    }
    return available;
}

void vkm_name_object(const struct vkmoe_context *ctx, VkObjectType type, uint64_t handle, const char *name)
{
    const VkDebugUtilsObjectNameInfoEXT info = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
        .objectType = type,
        .objectHandle = handle,
        .pObjectName = name,
    };
    if (ctx->debug_names)
        ctx->vk.SetDebugUtilsObjectNameEXT(ctx->vk.device, &info);
}
