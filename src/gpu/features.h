/* The features that a device is created with: those that kernels need, and those that they are faster with. */
#ifndef VKM_GPU_FEATURES_H
#define VKM_GPU_FEATURES_H

#include "gpu/context.h"

enum { VKM_EXTENSIONS = 4 };

/* A chain that begins with core. It points into itself: not to be copied. */
struct vkm_features {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDeviceVulkan11Features v11;
    VkPhysicalDeviceVulkan12Features v12;
    VkPhysicalDeviceVulkan13Features v13;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix;
    VkPhysicalDeviceShaderBfloat16FeaturesKHR bfloat16;
    const char *extensions[VKM_EXTENSIONS];
    uint32_t extension_count;
};

/* What a device with these capabilities is created with; of no capabilities, what is required of any device. */
void vkm_features_set(struct vkm_features *f, const struct vkm_caps *caps);

/* Reads the chain that a host enabled, and its extensions. */
void vkm_features_read(struct vkm_features *f, const VkPhysicalDeviceFeatures2 *chain, const char *const *extensions,
                       uint32_t extension_count);

bool vkm_features_extension(const struct vkm_features *f, const char *extension);

/* All that a device of Vulkan 1.3 offers. false: no host memory. */
bool vkm_features_query(struct vkm_features *f, const struct vkm_vk *vk, VkPhysicalDevice physical);

/* The first required feature that is off, or NULL. */
const char *vkm_features_missing(const struct vkm_features *f);

/* Takes from caps what f does not enable. */
void vkm_features_limit(const struct vkm_features *f, struct vkm_caps *caps);

#endif
