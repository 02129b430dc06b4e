/* The instance, the device and vkmoe's context on it. */
#include "gpu.h"

#include <stdio.h>
#include <string.h>

static const char *const layer = "VK_LAYER_KHRONOS_validation";

bool gpu_check(VkResult result, const char *what)
{
    if (result >= 0)
        return true;
    fprintf(stderr, "paint: %s failed with %d\n", what, result);
    return false;
}

static bool fail(const char *text)
{
    fprintf(stderr, "paint: %s\n", text);
    return false;
}

static void print(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level <= VKMOE_LOG_WARNING)
        fprintf(stderr, "paint: %s\n", line);
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT types,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    struct gpu *gpu = user;
    (void)severity, (void)types;
    gpu->messages++;
    fprintf(stderr, "paint: validation: %s\n", data->pMessage);
    return VK_FALSE;
}

static bool have_layer(void)
{
    VkLayerProperties layers[64];
    uint32_t count = 64;
    vkEnumerateInstanceLayerProperties(&count, layers);
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(layers[i].layerName, layer))
            return true;
    return fail("--validate: VK_LAYER_KHRONOS_validation is not installed");
}

bool gpu_create_instance(struct gpu *gpu, bool validate, const char *const *extensions, uint32_t extension_count)
{
    static const VkValidationFeatureEnableEXT synchronization =
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
    const VkDebugUtilsMessengerCreateInfoEXT messenger = {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .pfnUserCallback = on_message,
        .pUserData = gpu,
        .messageSeverity =
            VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT};
    const VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                              .pNext = &messenger,
                                              .enabledValidationFeatureCount = 1,
                                              .pEnabledValidationFeatures = &synchronization};
    const VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO, .pApplicationName = "paint", .apiVersion = VK_API_VERSION_1_3};
    const char *names[16];
    uint32_t count = 0;
    for (; count < extension_count && count < 15; count++)
        names[count] = extensions[count];
    if (validate)
        names[count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    const VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                       .pNext = validate ? &features : NULL,
                                       .pApplicationInfo = &app,
                                       .enabledLayerCount = validate,
                                       .ppEnabledLayerNames = &layer,
                                       .enabledExtensionCount = count,
                                       .ppEnabledExtensionNames = names};
    gpu->validate = validate;
    if (validate && !have_layer())
        return false;
    const VkResult result = vkCreateInstance(&info, NULL, &gpu->instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return fail("no Vulkan driver is installed");
    if (!gpu_check(result, "vkCreateInstance"))
        return false;
    if (!validate)
        return true;
    PFN_vkCreateDebugUtilsMessengerEXT create =
        (PFN_vkCreateDebugUtilsMessengerEXT)vkGetInstanceProcAddr(gpu->instance, "vkCreateDebugUtilsMessengerEXT");
    return gpu_check(create(gpu->instance, &messenger, NULL, &gpu->messenger), "vkCreateDebugUtilsMessengerEXT");
}

/* What vkmoe needs of a device that it can use and that can show pictures; else NULL, and `log` has the reason. */
static struct vkmoe_vulkan_needs *query(struct gpu *gpu, VkPhysicalDevice physical, VkSurfaceKHR surface,
                                        struct vkmoe_log log)
{
    struct vkmoe_vulkan_needs *needs = NULL;
    VkBool32 shows = VK_TRUE;
    if (vkmoe_vulkan_needs_query(log, vkGetInstanceProcAddr, gpu->instance, physical, &needs))
        return NULL;
    if (surface)
        vkGetPhysicalDeviceSurfaceSupportKHR(physical, needs->queue_family, surface, &shows);
    if (shows)
        return needs;
    vkmoe_vulkan_needs_free(needs);
    if (log.fn)
        log.fn(log.user, VKMOE_LOG_ERROR, "the device cannot show pictures in the window");
    return NULL;
}

static struct vkmoe_vulkan_needs *choose(struct gpu *gpu, int index, VkSurfaceKHR surface)
{
    static const int order[] = {[VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU] = 5,
                                [VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU] = 4,
                                [VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU] = 3,
                                [VK_PHYSICAL_DEVICE_TYPE_CPU] = 2,
                                [VK_PHYSICAL_DEVICE_TYPE_OTHER] = 1};
    VkPhysicalDevice devices[16];
    struct vkmoe_vulkan_needs *best = NULL;
    uint32_t count = 16;
    int best_order = 0;
    if (vkEnumeratePhysicalDevices(gpu->instance, &count, devices) < 0 || !count)
        return fail("there is no Vulkan device"), NULL;
    if (index >= (int)count) {
        fprintf(stderr, "paint: --device %d: there are %u devices, from 0\n", index, (unsigned)count);
        return NULL;
    }
    if (index >= 0) {
        gpu->physical = devices[index];
        return query(gpu, devices[index], surface, (struct vkmoe_log){.fn = print});
    }
    for (uint32_t i = 0; i < count; i++) {
        VkPhysicalDeviceProperties properties;
        vkGetPhysicalDeviceProperties(devices[i], &properties);
        const int own = properties.deviceType <= VK_PHYSICAL_DEVICE_TYPE_CPU ? order[properties.deviceType] : 1;
        struct vkmoe_vulkan_needs *needs =
            own > best_order ? query(gpu, devices[i], surface, (struct vkmoe_log){0}) : NULL;
        if (!needs)
            continue;
        vkmoe_vulkan_needs_free(best);
        best = needs, best_order = own, gpu->physical = devices[i];
    }
    if (!best)
        fail("vkmoe can use none of the Vulkan devices; --device 0 says why the first is unfit");
    return best;
}

static bool create(struct gpu *gpu, const struct vkmoe_vulkan_needs *needs, bool swapchain)
{
    const char *names[32];
    const float priority = 1;
    uint32_t count = 0;
    for (; count < needs->extension_count && count < 31; count++)
        names[count] = needs->extensions[count];
    if (swapchain)
        names[count++] = VK_KHR_SWAPCHAIN_EXTENSION_NAME;
    const VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                           .queueFamilyIndex = needs->queue_family,
                                           .queueCount = 1,
                                           .pQueuePriorities = &priority};
    const VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                                     .pNext = needs->liked,
                                     .queueCreateInfoCount = 1,
                                     .pQueueCreateInfos = &queue,
                                     .enabledExtensionCount = count,
                                     .ppEnabledExtensionNames = names};
    if (!gpu_check(vkCreateDevice(gpu->physical, &info, NULL, &gpu->device), "vkCreateDevice"))
        return false;
    gpu->family = needs->queue_family;
    vkGetDeviceQueue(gpu->device, gpu->family, 0, &gpu->queue);
    const struct vkmoe_vulkan_desc desc = {.log = {.fn = print},
                                           .get_instance_proc_addr = vkGetInstanceProcAddr,
                                           .instance = gpu->instance,
                                           .physical_device = gpu->physical,
                                           .device = gpu->device,
                                           .queue = gpu->queue,
                                           .queue_family = gpu->family,
                                           .features = needs->liked,
                                           .extensions = names,
                                           .extension_count = count,
                                           .debug_utils = gpu->validate};
    return !vkmoe_context_adopt(&desc, &gpu->ctx);
}

static bool create_commands(struct gpu *gpu)
{
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = gpu->family};
    VkCommandBufferAllocateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                            .commandBufferCount = 1};
    const VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};
    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = 128};
    const VkPipelineLayoutCreateInfo layout = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                               .pushConstantRangeCount = 1,
                                               .pPushConstantRanges = &push};
    if (!gpu_check(vkCreateCommandPool(gpu->device, &pool, NULL, &gpu->pool), "vkCreateCommandPool"))
        return false;
    commands.commandPool = gpu->pool;
    return gpu_check(vkAllocateCommandBuffers(gpu->device, &commands, &gpu->commands), "vkAllocateCommandBuffers") &&
           gpu_check(vkCreateFence(gpu->device, &fence, NULL, &gpu->fence), "vkCreateFence") &&
           gpu_check(vkCreatePipelineLayout(gpu->device, &layout, NULL, &gpu->layout), "vkCreatePipelineLayout");
}

bool gpu_create_device(struct gpu *gpu, int index, VkSurfaceKHR surface)
{
    struct vkmoe_vulkan_needs *needs = choose(gpu, index, surface);
    if (!needs)
        return false;
    const bool ok = create(gpu, needs, surface) && create_commands(gpu);
    vkmoe_vulkan_needs_free(needs);
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &gpu->memory);
    return ok;
}

void gpu_destroy_device(struct gpu *gpu)
{
    vkmoe_context_destroy(gpu->ctx);
    if (gpu->device) {
        vkDestroyPipelineLayout(gpu->device, gpu->layout, NULL);
        vkDestroyFence(gpu->device, gpu->fence, NULL);
        vkDestroyCommandPool(gpu->device, gpu->pool, NULL);
        vkDestroyDevice(gpu->device, NULL);
    }
}

void gpu_destroy_instance(struct gpu *gpu)
{
    if (gpu->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy = (PFN_vkDestroyDebugUtilsMessengerEXT)vkGetInstanceProcAddr(
            gpu->instance, "vkDestroyDebugUtilsMessengerEXT");
        destroy(gpu->instance, gpu->messenger, NULL);
    }
    if (gpu->instance)
        vkDestroyInstance(gpu->instance, NULL);
}
