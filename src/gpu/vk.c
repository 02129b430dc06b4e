#include "gpu/vk.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

enum vkmoe_status vkm_vk_open(struct vkm_vk *vk, const struct vkmoe_log *log)
{
    vk->loader = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!vk->loader)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "there is no Vulkan loader (libvulkan.so.1); install libvulkan1 and a "
                        "Vulkan driver (mesa-vulkan-drivers, or your GPU vendor's)");

    /* ISO C has no cast from an object pointer to a function pointer. */
    void *symbol = dlsym(vk->loader, "vkGetInstanceProcAddr");
    memcpy(&vk->GetInstanceProcAddr, &symbol, sizeof symbol);
    if (!symbol)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "libvulkan.so.1 has no vkGetInstanceProcAddr; reinstall libvulkan1");

#define LOAD(name) vk->name = (PFN_vk##name)vk->GetInstanceProcAddr(NULL, "vk" #name);
    VKM_VK_GLOBAL(LOAD)
#undef LOAD
    uint32_t version = 0;
    if (vk->EnumerateInstanceVersion)
        vk->EnumerateInstanceVersion(&version);
    if (version < VK_API_VERSION_1_3)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "the Vulkan loader is older than 1.3; update libvulkan1");
    return VKMOE_OK;
}

static enum vkmoe_status missing(const struct vkmoe_log *log, const char *name)
{
    return vkm_fail(log, VKMOE_ERROR_VULKAN, "the Vulkan driver has no %s; update it", name);
}

enum vkmoe_status vkm_vk_load_instance(struct vkm_vk *vk, const struct vkmoe_log *log)
{
#define LOAD(name) vk->name = (PFN_vk##name)vk->GetInstanceProcAddr(vk->instance, "vk" #name);
#define NEED(name)                                                                                                     \
    LOAD(name)                                                                                                         \
    if (!vk->name)                                                                                                     \
        return missing(log, "vk" #name);
    VKM_VK_INSTANCE(NEED)
    VKM_VK_DEBUG(LOAD)
    VKM_VK_OPTIONAL(LOAD)
#undef NEED
#undef LOAD
    return VKMOE_OK;
}

enum vkmoe_status vkm_vk_load_device(struct vkm_vk *vk, const struct vkmoe_log *log)
{
#define NEED(name)                                                                                                     \
    vk->name = (PFN_vk##name)vk->GetDeviceProcAddr(vk->device, "vk" #name);                                            \
    if (!vk->name)                                                                                                     \
        return missing(log, "vk" #name);
    VKM_VK_DEVICE(NEED)
#undef NEED
    return VKMOE_OK;
}

void vkm_vk_close(struct vkm_vk *vk)
{
    if (vk->loader)
        dlclose(vk->loader);
    *vk = (struct vkm_vk){0};
}

const char *vkm_vk_result_name(VkResult result, char buffer[static 32])
{
    switch (result) {
    case VK_SUCCESS: return "VK_SUCCESS";
    case VK_NOT_READY: return "VK_NOT_READY";
    case VK_TIMEOUT: return "VK_TIMEOUT";
    case VK_INCOMPLETE: return "VK_INCOMPLETE";
    case VK_ERROR_OUT_OF_HOST_MEMORY: return "VK_ERROR_OUT_OF_HOST_MEMORY";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY: return "VK_ERROR_OUT_OF_DEVICE_MEMORY";
    case VK_ERROR_INITIALIZATION_FAILED: return "VK_ERROR_INITIALIZATION_FAILED";
    case VK_ERROR_DEVICE_LOST: return "VK_ERROR_DEVICE_LOST";
    case VK_ERROR_MEMORY_MAP_FAILED: return "VK_ERROR_MEMORY_MAP_FAILED";
    case VK_ERROR_LAYER_NOT_PRESENT: return "VK_ERROR_LAYER_NOT_PRESENT";
    case VK_ERROR_EXTENSION_NOT_PRESENT: return "VK_ERROR_EXTENSION_NOT_PRESENT";
    case VK_ERROR_FEATURE_NOT_PRESENT: return "VK_ERROR_FEATURE_NOT_PRESENT";
    case VK_ERROR_INCOMPATIBLE_DRIVER: return "VK_ERROR_INCOMPATIBLE_DRIVER";
    case VK_ERROR_TOO_MANY_OBJECTS: return "VK_ERROR_TOO_MANY_OBJECTS";
    case VK_ERROR_INVALID_SHADER_NV: return "VK_ERROR_INVALID_SHADER_NV";
    case VK_ERROR_UNKNOWN: return "VK_ERROR_UNKNOWN";
    default: snprintf(buffer, 32, "VkResult %d", (int)result); return buffer;
    }
}
