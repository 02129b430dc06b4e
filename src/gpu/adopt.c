/* A context on a host's device: include/vkmoe/vulkan.h. */
#include <vkmoe/vulkan.h>

#include <stdlib.h>

#include "gpu/device.h"
#include "gpu/features.h"

/* The public structure, and what it points to. */
struct needs {
    struct vkmoe_vulkan_needs needs;
    struct vkm_features required, liked;
};

/* Fills vk with the host's instance, and device with what is known of its physical device. */
static enum vkmoe_status probe(const struct vkmoe_log *log, PFN_vkGetInstanceProcAddr get, VkInstance instance,
                               VkPhysicalDevice physical, struct vkm_vk *vk, struct vkm_device *device)
{
    *vk = (struct vkm_vk){.GetInstanceProcAddr = get, .instance = instance};
    *device = (struct vkm_device){.physical = physical};
    const char *absent = !get        ? "get_instance_proc_addr" :
                         !instance   ? "instance" :
                         !physical   ? "physical_device" :
                                       NULL;
    if (absent)
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "%s is NULL; it is required", absent);
    enum vkmoe_status status = vkm_vk_load_instance(vk, log);
    if (status)
        return status;
    vkm_device_probe(vk, device);
    if (!device->info.usable)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "cannot use the device %s: %s", device->info.name, device->info.reason);
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_vulkan_needs_query(struct vkmoe_log log, PFN_vkGetInstanceProcAddr get_instance_proc_addr,
                                           VkInstance instance, VkPhysicalDevice physical_device,
                                           struct vkmoe_vulkan_needs **out)
{
    struct vkm_vk vk;
    struct vkm_device device;
    *out = NULL;
    enum vkmoe_status status = probe(&log, get_instance_proc_addr, instance, physical_device, &vk, &device);
    if (status)
        return status;
    struct needs *n = calloc(1, sizeof *n);
    if (!n)
        return vkm_fail_memory(&log);
    vkm_features_set(&n->required, &(struct vkm_caps){0});
    vkm_features_set(&n->liked, &device.caps);
    n->needs = (struct vkmoe_vulkan_needs){.required = &n->required.core, .liked = &n->liked.core,
                                           .extensions = n->liked.extensions,
                                           .extension_count = n->liked.extension_count,
                                           .queue_family = device.queue_family};
    *out = &n->needs;
    return VKMOE_OK;
}

void vkmoe_vulkan_needs_free(struct vkmoe_vulkan_needs *needs)
{
    free(needs); /* the first member of what was allocated */
}

/* The queue's family can compute; whether it has timestamps goes into caps. */
static enum vkmoe_status check_queue(const struct vkm_vk *vk, const struct vkmoe_vulkan_desc *desc, struct vkm_caps *caps)
{
    VkQueueFamilyProperties families[VKM_QUEUE_FAMILIES];
    const uint32_t count = vkm_queue_families(vk, desc->physical_device, families);
    if (desc->queue_family >= count)
        return vkm_fail(&desc->log, VKMOE_ERROR_ARGUMENT, "queue_family is %u; the device has families 0 to %u",
                        desc->queue_family, count - 1);
    if (!(families[desc->queue_family].queueFlags & VK_QUEUE_COMPUTE_BIT))
        return vkm_fail(&desc->log, VKMOE_ERROR_ARGUMENT, "queue_family %u has no compute; vkmoe_vulkan_needs_query names "
                        "one that has", desc->queue_family);
    vkm_caps_timestamps(caps, families[desc->queue_family].timestampValidBits);
    return VKMOE_OK;
}

static enum vkmoe_status check(const struct vkmoe_vulkan_desc *desc)
{
    const char *absent = !desc->device                                  ? "device" :
                         !desc->queue                                   ? "queue" :
                         !desc->features                                ? "features" :
                         desc->extension_count && !desc->extensions     ? "extensions" :
                         !desc->queue_lock && desc->queue_unlock        ? "queue_lock" :
                         desc->queue_lock && !desc->queue_unlock        ? "queue_unlock" :
                                                                          NULL;
    if (absent)
        return vkm_fail(&desc->log, VKMOE_ERROR_ARGUMENT, "%s is NULL; it is required", absent);
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_context_adopt(const struct vkmoe_vulkan_desc *desc, struct vkmoe_context **out)
{
    struct vkm_device device;
    struct vkm_features features;
    enum vkmoe_status status;
    *out = NULL;
    struct vkmoe_context *ctx = calloc(1, sizeof *ctx);
    if (!ctx)
        return vkm_fail_memory(&desc->log);
    *ctx = (struct vkmoe_context){
        .log = desc->log, .adopted = true, .queue = desc->queue, .queue_family = desc->queue_family,
        .physical = desc->physical_device, .allocator = desc->allocator, .debug_names = desc->debug_utils,
        .timeout_seconds = desc->timeout_seconds,
        .queue_lock = desc->queue_lock, .queue_unlock = desc->queue_unlock, .queue_user = desc->queue_user};
    if ((status = probe(&ctx->log, desc->get_instance_proc_addr, desc->instance, desc->physical_device, &ctx->vk, &device)) ||
        (status = check(desc)) || (status = check_queue(&ctx->vk, desc, &device.caps)))
        goto fail;
    vkm_features_read(&features, desc->features, desc->extensions, desc->extension_count);
    const char *missing = vkm_features_missing(&features);
    if (missing) {
        status = vkm_fail(&ctx->log, VKMOE_ERROR_ARGUMENT, "features lacks %s, which vkmoe requires; vkmoe_vulkan_needs_query "
                          "tells what a device is to be created with", missing);
        goto fail;
    }
    ctx->info = device.info;
    ctx->caps = device.caps;
    vkm_features_limit(&features, &ctx->caps);
    ctx->vk.device = desc->device;
    if ((status = vkm_vk_load_device(&ctx->vk, &ctx->log)) || (status = vkm_context_begin(ctx, desc->cache_dir)))
        goto fail;
    *out = ctx;
    return VKMOE_OK;

fail:
    vkmoe_context_destroy(ctx);
    return status;
}

void vkmoe_vulkan_timeline(const struct vkmoe_context *ctx, VkSemaphore *semaphore, uint64_t *value)
{
    *semaphore = ctx->timeline;
    *value = ctx->submitted;
}

void vkmoe_vulkan_wait_for(struct vkmoe_context *ctx, VkSemaphore semaphore, uint64_t value)
{
    ctx->awaited = (VkSemaphoreSubmitInfo){.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO, .semaphore = semaphore, .value = value,
                                           .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
}
