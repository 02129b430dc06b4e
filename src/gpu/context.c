#include "gpu/context.h"

#include "gpu/device.h"
#include "gpu/features.h"
#include "gpu/pipeline.h"
#include "gpu/profiler.h"
#include "gpu/submit.h"
#include "gpu/trail.h"
#include "gpu/tuning.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    struct vkmoe_context *ctx = user;
    (void)severity;
    (void)types;
    ctx->validation_messages++;
    vkm_log(&ctx->log, VKMOE_LOG_ERROR, "validation: %s", data->pMessage ? data->pMessage : "(no text)");
    return VK_FALSE;
}

static enum vkmoe_status open_device(struct vkmoe_context *ctx)
{
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = ctx->queue_family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    struct vkm_features features;
    vkm_features_set(&features, &ctx->caps);
    const VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features.core,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = features.extension_count,
        .ppEnabledExtensionNames = features.extensions,
    };
    enum vkmoe_status status =
        vkm_check(ctx, ctx->vk.CreateDevice(ctx->physical, &info, NULL, &ctx->vk.device), "vkCreateDevice");
    if (!status)
        status = vkm_vk_load_device(&ctx->vk, &ctx->log);
    if (!status)
        ctx->vk.GetDeviceQueue(ctx->vk.device, ctx->queue_family, 0, &ctx->queue);
    return status;
}

static enum vkmoe_status create_timeline(struct vkmoe_context *ctx)
{
    const VkSemaphoreTypeCreateInfo type = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    enum vkmoe_status status =
        vkm_check(ctx, ctx->vk.CreateSemaphore(ctx->vk.device, &info, ctx->allocator, &ctx->timeline), "vkCreateSemaphore");
    if (!status)
        vkm_name_object(ctx, VK_OBJECT_TYPE_SEMAPHORE, (uint64_t)ctx->timeline, "vkmoe submissions");
    return status;
}

/* Instance, validation messenger, physical device and what it can do. */
static enum vkmoe_status find_device(struct vkmoe_context *ctx, const struct vkmoe_context_desc *desc)
{
    struct vkm_device *devices = NULL;
    uint32_t count = 0, index = 0;
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity =
            VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = ctx,
    };
    enum vkmoe_status status = vkm_vk_open(&ctx->vk, &ctx->log);
    if (!status)
        status = vkm_instance_create(&ctx->vk, &ctx->log, desc->validate ? &messenger : NULL, &ctx->debug_names);
    if (!status && desc->validate)
        status = vkm_check(ctx,
                           ctx->vk.CreateDebugUtilsMessengerEXT(ctx->vk.instance, &messenger, NULL, &ctx->messenger),
                           "vkCreateDebugUtilsMessengerEXT");
    if (!status)
        status = vkm_devices_probe(&ctx->vk, &ctx->log, &devices, &count);
    if (!status)
        status = vkm_device_choose(&ctx->log, devices, count, desc->device, &index);
    if (!status) {
        ctx->physical = devices[index].physical;
        ctx->info = devices[index].info;
        ctx->caps = devices[index].caps;
        ctx->queue_family = devices[index].queue_family;
    }
    free(devices);
    return status;
}

enum vkmoe_status vkm_context_begin(struct vkmoe_context *ctx, const char *cache_dir)
{
    enum vkmoe_status status;
    if (!ctx->timeout_seconds) /* a software device can well be busy with one submission */
        ctx->timeout_seconds = ctx->caps.cpu ? 1800 : 120;
    ctx->vk.GetPhysicalDeviceMemoryProperties(ctx->physical, &ctx->memory);
    if ((status = create_timeline(ctx)) || (status = vkm_trails_create(ctx, &ctx->trails)) ||
        (status = vkm_pipelines_create(ctx, cache_dir, &ctx->pipelines)) || (status = vkm_tuning_load(ctx, cache_dir)))
        return status;
    vkm_log(&ctx->log, VKMOE_LOG_DEBUG, "device %s (%s), subgroup %u%s", ctx->info.name, ctx->info.driver,
            ctx->caps.subgroup, ctx->caps.subgroup_required ? ", required" : "");
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_context_create(const struct vkmoe_context_desc *desc, struct vkmoe_context **out)
{
    const struct vkmoe_context_desc defaults = {0};
    enum vkmoe_status status;
    if (!desc)
        desc = &defaults;
    *out = NULL;
    struct vkmoe_context *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return vkm_fail_memory(&desc->log);
    ctx->log = desc->log;
    ctx->timeout_seconds = desc->timeout_seconds;

    if ((status = find_device(ctx, desc)) || (status = open_device(ctx)) ||
        (status = vkm_context_begin(ctx, desc->cache_dir)))
        goto fail;
    if (desc->profile_path && (status = vkm_profiler_create(ctx, desc->profile_path, &ctx->profiler)))
        goto fail;
    *out = ctx;
    return VKMOE_OK;

fail:
    vkmoe_context_destroy(ctx);
    return status;
}

void vkmoe_context_destroy(struct vkmoe_context *ctx)
{
    if (!ctx)
        return;
    struct vkm_vk *vk = &ctx->vk;
    vkm_wait_quiet(ctx, ctx->submitted);
    vkm_profiler_destroy(ctx, ctx->profiler);
    vkm_pipelines_destroy(ctx, ctx->pipelines);
    vkm_trails_destroy(ctx->trails);
    if (ctx->timeline && !ctx->hung)
        vk->DestroySemaphore(vk->device, ctx->timeline, ctx->allocator);
    if (!ctx->adopted && !ctx->hung && vk->DestroyDevice)
        vk->DestroyDevice(vk->device, NULL);
    if (ctx->messenger) /* in any case: it would call a context that is gone */
        vk->DestroyDebugUtilsMessengerEXT(vk->instance, ctx->messenger, NULL);
    if (!ctx->adopted && !ctx->hung && vk->DestroyInstance)
        vk->DestroyInstance(vk->instance, NULL);
    if (!ctx->hung) /* else the driver's threads may still run its code */
        vkm_vk_close(vk);
    vkm_flights_clear(ctx);
    free(ctx);
}

bool vkmoe_context_lost(const struct vkmoe_context *ctx)
{
    return ctx->lost;
}

const struct vkmoe_device_info *vkmoe_context_device(const struct vkmoe_context *ctx)
{
    return &ctx->info;
}

uint64_t vkmoe_context_validation_messages(const struct vkmoe_context *ctx)
{
    return ctx->validation_messages;
}
