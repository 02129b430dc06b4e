/* vkmoe on the Vulkan device of an application that has one: for programs with an instance, a device and a queue of their
 * own. A program that owns nothing needs vkmoe.h alone.
 *
 *     vkmoe_vulkan_needs_query   what a device must and should be created with
 *     (the host creates its device)
 *     vkmoe_context_adopt        a context on that device; everything of vkmoe.h works on it
 *
 * What the library does with what is the host's
 *   - It creates buffers, pipelines, command pools and a timeline semaphore on the device, allocates memory of its own, and
 *     submits to the queue while it holds the host's lock. It destroys what it created, and nothing else.
 *   - It waits for its own submissions alone: never for the device or the queue to be idle. It starts no thread.
 *   - Its submissions follow each other on the queue and with a barrier; they wait for no semaphore of the host's, and the
 *     buffers are its own, so a frame needs no synchronization with them.
 *   - Vulkan is called through get_instance_proc_addr alone: the library links no loader, and has no Vulkan symbol.
 *   - Two contexts may be on one device, used by two threads, when they have different queues or a lock that keeps them
 *     apart. */
#ifndef VKMOE_VULKAN_H
#define VKMOE_VULKAN_H

#include <vulkan/vulkan_core.h>

#include <vkmoe/vkmoe.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a device is to be created with. The chains are complete structures VkPhysicalDeviceFeatures2 and
 * VkPhysicalDeviceVulkan11Features to -13Features, and those of extensions: pass one as VkDeviceCreateInfo.pNext, or set in
 * your own chain what is set in it. */
struct vkmoe_vulkan_needs {
    const VkPhysicalDeviceFeatures2 *required; /* without these there is no context */
    const VkPhysicalDeviceFeatures2 *liked;    /* these, too, and what else makes kernels faster or allows --precision, of
                                                  what the device has */
    const char *const *extensions;             /* device extensions that `liked` belongs to; none is required */
    uint32_t extension_count;
    uint32_t queue_family;                     /* one with compute, and with timestamps where there is one */
};

/* Asks a physical device of an instance that was created for Vulkan 1.3 or later. ERROR_DEVICE, and the reason in the log,
 * when vkmoe cannot run on it. *out is freed with vkmoe_vulkan_needs_free, after the device was created. */
VKMOE_API enum vkmoe_status vkmoe_vulkan_needs_query(struct vkmoe_log log, PFN_vkGetInstanceProcAddr get_instance_proc_addr,
                                                     VkInstance instance, VkPhysicalDevice physical_device,
                                                     struct vkmoe_vulkan_needs **out);
VKMOE_API void vkmoe_vulkan_needs_free(struct vkmoe_vulkan_needs *needs);

/* The host's device. All handles outlive the context. */
struct vkmoe_vulkan_desc {
    struct vkmoe_log log;
    PFN_vkGetInstanceProcAddr get_instance_proc_addr; /* required: of the loader that made the instance */
    VkInstance instance;                       /* required; for Vulkan 1.3 or later */
    VkPhysicalDevice physical_device;          /* required */
    VkDevice device;                           /* required */
    VkQueue queue;                             /* required; of the device, of a family with compute */
    uint32_t queue_family;                     /* of that queue */
    const VkPhysicalDeviceFeatures2 *features; /* required: what the device was created with, as this structure and its
                                                  chain; structures that the library does not know are passed over */
    const char *const *extensions;             /* device extensions that were enabled; NULL: none */
    uint32_t extension_count;
    bool debug_utils;                          /* VK_EXT_debug_utils is enabled: objects and dispatches get names */

    /* Called around each vkQueueSubmit2; NULL: nobody else uses the queue at the same time. Both or none. */
    void (*queue_lock)(void *user);
    void (*queue_unlock)(void *user);
    void *queue_user;

    const VkAllocationCallbacks *allocator;    /* for all that is created on the device; outlives the context; or NULL */
    const char *cache_dir;                     /* as in struct vkmoe_context_desc */
};

/* A context on the host's device. ERROR_ARGUMENT names a field that is missing or contradicts the device, or a required
 * feature that was not enabled; ERROR_DEVICE: the device can never do it. vkmoe_context_destroy waits for the context's own
 * submissions and gives everything back; the device stays the host's. */
VKMOE_API enum vkmoe_status vkmoe_context_adopt(const struct vkmoe_vulkan_desc *desc, struct vkmoe_context **out);

#ifdef __cplusplus
}
#endif

#endif
