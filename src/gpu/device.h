/* Vulkan devices: what each is and can do, and choosing one. */
#ifndef VKM_GPU_DEVICE_H
#define VKM_GPU_DEVICE_H

#include "gpu/context.h"

/* All that is known of a physical device before it is opened. */
struct vkm_device {
    VkPhysicalDevice physical;
    struct vkmoe_device_info info;
    struct vkm_caps caps;
    uint32_t queue_family;
};

/* Creates vk->instance (Vulkan 1.3) and loads its functions; vk is open. messenger (may be NULL) turns on the
 * validation layers and receives their messages. *debug_utils tells whether VK_EXT_debug_utils was enabled. */
enum vkmoe_status vkm_instance_create(struct vkm_vk *vk, const struct vkmoe_log *log,
                                      const VkDebugUtilsMessengerCreateInfoEXT *messenger, bool *debug_utils);

/* Fills all but `physical`, which is given. */
void vkm_device_probe(const struct vkm_vk *vk, struct vkm_device *device);

enum { VKM_QUEUE_FAMILIES = 32 }; /* more than any device has */
/* The device's queue families; their number. */
uint32_t vkm_queue_families(const struct vkm_vk *vk, VkPhysicalDevice physical,
                            VkQueueFamilyProperties families[VKM_QUEUE_FAMILIES]);
/* Sets what timestamps a queue has by its family's timestampValidBits. */
void vkm_caps_timestamps(struct vkm_caps *caps, uint32_t valid_bits);

/* All devices, in the driver's order; at least one. The caller frees *out. */
enum vkmoe_status vkm_devices_probe(const struct vkm_vk *vk, const struct vkmoe_log *log, struct vkm_device **out,
                                    uint32_t *count);

/* The usable device that vkmoe_context_desc.device names (NULL: the default one), or ERROR_DEVICE with the reason. */
enum vkmoe_status vkm_device_choose(const struct vkmoe_log *log, const struct vkm_device *devices, uint32_t count,
                                    const char *wanted, uint32_t *index);

#endif
