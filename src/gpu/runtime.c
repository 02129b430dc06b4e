/* What the rest asks of an open context: a call's result checked, free memory, names. */
#include "gpu/context.h"

#include "base/host.h"
#include "gpu/submit.h"

enum vkmoe_status vkm_check(struct vkmoe_context *ctx, VkResult result, const char *call)
{
    char name[32], place[VKM_PLACE];
    switch (result) {
    case VK_SUCCESS:
        return VKMOE_OK;
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return vkm_fail_memory(&ctx->log);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE_MEMORY,
                        "%s: the device is out of memory; use a smaller model or batch, or close other programs", call);
    case VK_ERROR_DEVICE_LOST:
        if (ctx->lost) /* said once */
            return VKMOE_ERROR_DEVICE_LOST;
        vkm_place(ctx, place);
        vkm_lose(ctx);
        return vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE_LOST, "%s: the driver reset or lost the device %s%s; resume from the last "
                        "checkpoint in a new process", call, ctx->info.name, place);
    default:
        return vkm_fail(&ctx->log, VKMOE_ERROR_VULKAN, "%s failed: %s; updating the driver may help", call,
                        vkm_vk_result_name(result, name));
    }
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
