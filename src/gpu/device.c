#include "gpu/device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/host.h"
#include "gpu/features.h"
#include "shared.h"

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

enum { MIN_INVOCATIONS = 256 }; /* of a workgroup: what src/ops/tiles.c takes */

static const char no_driver[] = "no Vulkan device was found; install a Vulkan driver (mesa-vulkan-drivers, or your GPU "
                                "vendor's)";

static bool has_extension(const VkExtensionProperties *list, uint32_t count, const char *name)
{
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(list[i].extensionName, name))
            return true;
    return false;
}

static bool instance_has_extension(const struct vkm_vk *vk, const char *layer, const char *name)
{
    uint32_t count = 0;
    if (vk->EnumerateInstanceExtensionProperties(layer, &count, NULL) || !count)
        return false;
    VkExtensionProperties *list = calloc(count, sizeof *list);
    bool found = list && vk->EnumerateInstanceExtensionProperties(layer, &count, list) >= 0 &&
                 has_extension(list, count, name);
    free(list);
    return found;
}

static bool has_validation_layer(const struct vkm_vk *vk)
{
    uint32_t count = 0;
    if (vk->EnumerateInstanceLayerProperties(&count, NULL) || !count)
        return false;
    VkLayerProperties *list = calloc(count, sizeof *list);
    bool found = false;
    if (list && vk->EnumerateInstanceLayerProperties(&count, list) >= 0)
        for (uint32_t i = 0; i < count; i++)
            found |= !strcmp(list[i].layerName, VALIDATION_LAYER);
    free(list);
    return found;
}

enum vkmoe_status vkm_instance_create(struct vkm_vk *vk, const struct vkmoe_log *log,
                                      const VkDebugUtilsMessengerCreateInfoEXT *messenger, bool *debug_utils)
{
    const char *layers[1], *extensions[2];
    uint32_t layer_count = 0, extension_count = 0;
    const VkValidationFeatureEnableEXT enables[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    const VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = messenger,
        .enabledValidationFeatureCount = 1,
        .pEnabledValidationFeatures = enables,
    };

    *debug_utils = instance_has_extension(vk, NULL, VK_EXT_DEBUG_UTILS_EXTENSION_NAME);
    if (messenger) {
        if (!has_validation_layer(vk))
            return vkm_fail(log, VKMOE_ERROR_DEVICE, "the Vulkan validation layers are not installed; install "
                            "vulkan-validationlayers or run without validation");
        if (!instance_has_extension(vk, VALIDATION_LAYER, VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME))
            return vkm_fail(log, VKMOE_ERROR_DEVICE, "the Vulkan validation layers cannot check synchronization; "
                            "update vulkan-validationlayers or run without validation");
        *debug_utils = true; /* the layer has it even where the loader does not */
        layers[layer_count++] = VALIDATION_LAYER;
        extensions[extension_count++] = VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME;
    }
    if (*debug_utils)
        extensions[extension_count++] = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;

    const VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "vkmoe",
        .pEngineName = "vkmoe",
        .applicationVersion = VK_MAKE_API_VERSION(0, VKMOE_VERSION_MAJOR, VKMOE_VERSION_MINOR, VKMOE_VERSION_PATCH),
        .apiVersion = VK_API_VERSION_1_3,
    };
    const VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = messenger ? &features : NULL,
        .pApplicationInfo = &app,
        .enabledLayerCount = layer_count,
        .ppEnabledLayerNames = layers,
        .enabledExtensionCount = extension_count,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult result = vk->CreateInstance(&info, NULL, &vk->instance);
    if (result == VK_ERROR_INCOMPATIBLE_DRIVER)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "%s", no_driver);
    if (result) {
        char name[32];
        return vkm_fail(log, VKMOE_ERROR_VULKAN, "vkCreateInstance failed: %s; check the Vulkan driver's installation",
                        vkm_vk_result_name(result, name));
    }
    return vkm_vk_load_instance(vk, log);
}

static enum vkmoe_device_type device_type(VkPhysicalDeviceType type)
{
    switch (type) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: return VKMOE_DEVICE_INTEGRATED;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU: return VKMOE_DEVICE_DISCRETE;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU: return VKMOE_DEVICE_VIRTUAL;
    case VK_PHYSICAL_DEVICE_TYPE_CPU: return VKMOE_DEVICE_CPU;
    default: return VKMOE_DEVICE_OTHER;
    }
}

static void format_uuid(char out[static 37], const uint8_t *id)
{
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        out += sprintf(out, i == 4 || i == 6 || i == 8 || i == 10 ? "-%02x" : "%02x", id[i]);
}

uint32_t vkm_queue_families(const struct vkm_vk *vk, VkPhysicalDevice physical,
                            VkQueueFamilyProperties families[VKM_QUEUE_FAMILIES])
{
    uint32_t count = 0; /* asked for first: SwiftShader leaves a larger one as it is */
    vk->GetPhysicalDeviceQueueFamilyProperties(physical, &count, NULL);
    count = count < VKM_QUEUE_FAMILIES ? count : VKM_QUEUE_FAMILIES;
    vk->GetPhysicalDeviceQueueFamilyProperties(physical, &count, families);
    return count;
}

void vkm_caps_timestamps(struct vkm_caps *caps, uint32_t valid_bits)
{
    caps->timestamp_mask = valid_bits >= 64 ? UINT64_MAX : (UINT64_C(1) << valid_bits) - 1;
    if (!valid_bits)
        caps->timestamp_ns = 0;
}

/* The first compute family with timestamps, else the first with compute. */
static bool find_queue_family(const struct vkm_vk *vk, struct vkm_device *device)
{
    VkQueueFamilyProperties families[VKM_QUEUE_FAMILIES];
    const uint32_t count = vkm_queue_families(vk, device->physical, families);
    bool found = false;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits = families[i].timestampValidBits;
        if (!(families[i].queueFlags & VK_QUEUE_COMPUTE_BIT) || (found && (device->caps.timestamp_mask || !bits)))
            continue;
        found = true;
        device->queue_family = i;
        vkm_caps_timestamps(&device->caps, bits);
    }
    return found;
}

/* Fills what a device older than Vulkan 1.3 can tell; the rest of the structures must not be chained for it. */
static void probe_basic(const struct vkm_vk *vk, struct vkm_device *device, VkPhysicalDeviceProperties *props)
{
    struct vkmoe_device_info *info = &device->info;
    vk->GetPhysicalDeviceProperties(device->physical, props);
    snprintf(info->name, sizeof info->name, "%s", props->deviceName);
    snprintf(info->driver, sizeof info->driver, "version %#x", props->driverVersion);
    info->type = device_type(props->deviceType);
    info->api_version = props->apiVersion;
    info->shared_bytes = props->limits.maxComputeSharedMemorySize;

    VkPhysicalDeviceMemoryProperties memory;
    vk->GetPhysicalDeviceMemoryProperties(device->physical, &memory);
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
        if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) &&
            memory.memoryHeaps[i].size > info->memory_bytes)
            info->memory_bytes = memory.memoryHeaps[i].size;
}

/* What kernels do within a subgroup: see shaders/common. */
static bool has_subgroup_operations(const VkPhysicalDeviceVulkan11Properties *p11)
{
    const VkSubgroupFeatureFlags needed = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT |
                                          VK_SUBGROUP_FEATURE_BALLOT_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    return (p11->subgroupSupportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
           (p11->subgroupSupportedOperations & needed) == needed;
}

/* Larger is better: one product of the most multiplications, square ones before others. */
static uint32_t matrix_rank(uint32_t m, uint32_t n, uint32_t k)
{
    return 2 * m * n * k + (m == n);
}

/* lavapipe lays a row of its 8 x 8 matrices out over the subgroup; its compiler crashes where that is 16 lanes
 * (LP_NATIVE_VECTOR_WIDTH=512, Mesa 26.2). */
enum { CPU_MATRIX_LANES = 8 };

/* The products of cooperative matrices that kernels can use: 16-bit operands, sums in f32, by a subgroup. */
static void probe_matrices(const struct vkm_vk *vk, struct vkm_device *device)
{
    uint32_t count = 0;
    if ((device->caps.cpu && device->caps.subgroup != CPU_MATRIX_LANES) ||
        !vk->GetPhysicalDeviceCooperativeMatrixPropertiesKHR ||
        vk->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(device->physical, &count, NULL) || !count)
        return;
    VkCooperativeMatrixPropertiesKHR *list = calloc(count, sizeof *list);
    for (uint32_t i = 0; list && i < count; i++)
        list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (!list || vk->GetPhysicalDeviceCooperativeMatrixPropertiesKHR(device->physical, &count, list) < 0)
        count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const VkCooperativeMatrixPropertiesKHR *p = &list[i];
        uint32_t type = p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR                                    ? TYPE_F16
                        : p->AType == VK_COMPONENT_TYPE_BFLOAT16_KHR && device->caps.bfloat16_matrix ? TYPE_BF16
                                                                                                     : TYPE_F32;
        struct vkm_cm *cm = &device->caps.cm[type];
        bool fits = p->MSize >= 8 && p->NSize >= 8 && p->KSize >= 8 && p->MSize <= 16 && p->NSize <= 16 && p->KSize <= 16;
        if (type != TYPE_F32 && p->BType == p->AType && p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR && p->ResultType == p->CType &&
            p->scope == VK_SCOPE_SUBGROUP_KHR && fits &&
            matrix_rank(p->MSize, p->NSize, p->KSize) > matrix_rank(cm->m, cm->n, cm->k) * (cm->m > 0))
            *cm = (struct vkm_cm){.m = p->MSize, .n = p->NSize, .k = p->KSize};
    }
    free(list);
}

/* Where subgroups may be small, lanes share a file of registers that does not grow with them: of 32, an invocation of an Intel Arc
 * has 32 numbers in registers, and a product that needs 60 spills a hundred times (docs/architecture.md). */
enum { SHARED_FILE_LANES = 16 };

static void probe_caps(const struct vkm_vk *vk, struct vkm_device *device, const VkPhysicalDeviceLimits *limits,
                       const VkPhysicalDeviceVulkan11Properties *p11, const VkPhysicalDeviceVulkan13Properties *p13,
                       const struct vkm_features *f)
{
    struct vkm_caps *caps = &device->caps;
    caps->int64 = caps->storage16 = caps->float16 = caps->bfloat16_matrix = caps->memory_budget = true;
    caps->cpu = device->info.type == VKMOE_DEVICE_CPU;
    caps->processors = vkm_host_processors();
    caps->subgroup_sure = p13->minSubgroupSize;
    caps->subgroup_required = f->v13.subgroupSizeControl && p13->minSubgroupSize < p13->maxSubgroupSize &&
                              (p13->requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
    caps->subgroup = !caps->subgroup_required ? caps->subgroup_sure :
                     p11->subgroupSize > SHARED_FILE_LANES && p13->minSubgroupSize < SHARED_FILE_LANES ? SHARED_FILE_LANES :
                                                                                                         p11->subgroupSize;
    caps->subgroup_least = p13->minSubgroupSize <= SHARED_FILE_LANES ? p13->minSubgroupSize : caps->subgroup;
    caps->max_subgroups = p13->maxComputeWorkgroupSubgroups;
    caps->full_subgroups = caps->subgroup_required || p13->minSubgroupSize == p13->maxSubgroupSize;
    caps->max_invocations = limits->maxComputeWorkGroupInvocations;
    if (caps->max_invocations > limits->maxComputeWorkGroupSize[0])
        caps->max_invocations = limits->maxComputeWorkGroupSize[0];
    caps->shared_bytes = limits->maxComputeSharedMemorySize;
    caps->max_groups = limits->maxComputeWorkGroupCount[0];
    for (int i = 1; i < 3; i++)
        if (limits->maxComputeWorkGroupCount[i] < caps->max_groups)
            caps->max_groups = limits->maxComputeWorkGroupCount[i];
    caps->max_block = p11->maxMemoryAllocationSize < p13->maxBufferSize ? p11->maxMemoryAllocationSize
                                                                        : p13->maxBufferSize;
    caps->timestamp_ns = caps->timestamp_mask ? (double)limits->timestampPeriod : 0;
    if (device->info.cooperative_matrix)
        probe_matrices(vk, device);
    vkm_features_limit(f, caps);
}

void vkm_device_probe(const struct vkm_vk *vk, struct vkm_device *device)
{
    struct vkmoe_device_info *info = &device->info;
    struct vkm_features f;
    VkPhysicalDeviceVulkan13Properties p13 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES};
    VkPhysicalDeviceVulkan12Properties p12 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES,
                                              .pNext = &p13};
    VkPhysicalDeviceVulkan11Properties p11 = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES,
                                              .pNext = &p12};
    VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p11};

    probe_basic(vk, device, &props.properties);
    uint32_t version = props.properties.apiVersion;
    if (version < VK_API_VERSION_1_3) {
        snprintf(info->reason, sizeof info->reason, "its driver has Vulkan %u.%u, 1.3 is needed; update the driver",
                 VK_API_VERSION_MAJOR(version), VK_API_VERSION_MINOR(version));
        return;
    }
    vk->GetPhysicalDeviceProperties2(device->physical, &props);
    if (!vkm_features_query(&f, vk, device->physical)) {
        snprintf(info->reason, sizeof info->reason, "the host has no memory left to ask it; close other programs");
        return;
    }
    snprintf(info->driver, sizeof info->driver, "%.120s%s%.120s", p12.driverName, *p12.driverInfo ? " " : "",
             p12.driverInfo);
    format_uuid(info->uuid, p11.deviceUUID);
    info->subgroup_size = p11.subgroupSize;
    info->cooperative_matrix = vkm_features_extension(&f, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    info->bfloat16 = vkm_features_extension(&f, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME);

    bool queue = find_queue_family(vk, device);
    probe_caps(vk, device, &props.properties.limits, &p11, &p13, &f);
    info->storage16 = device->caps.storage16;
    info->float16 = device->caps.float16;
    const char *feature = vkm_features_missing(&f);
    if (feature)
        snprintf(info->reason, sizeof info->reason, "its driver lacks the feature %s; update the driver", feature);
    else if (!queue)
        snprintf(info->reason, sizeof info->reason, "it has no compute queue");
    else if (!has_subgroup_operations(&p11))
        snprintf(info->reason, sizeof info->reason, "it lacks subgroup arithmetic, ballot or shuffle in compute shaders");
    else if (device->caps.max_invocations < MIN_INVOCATIONS)
        snprintf(info->reason, sizeof info->reason, "its workgroups have at most %u invocations, %d are needed",
                 device->caps.max_invocations, MIN_INVOCATIONS);
    info->usable = !info->reason[0];
}

enum vkmoe_status vkm_devices_probe(const struct vkm_vk *vk, const struct vkmoe_log *log, struct vkm_device **out,
                                    uint32_t *count)
{
    VkPhysicalDevice physical[64];
    uint32_t n = sizeof physical / sizeof *physical;
    *out = NULL;
    VkResult result = vk->EnumeratePhysicalDevices(vk->instance, &n, physical);
    if (result < 0 || !n)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "%s", no_driver);
    struct vkm_device *devices = calloc(n, sizeof *devices);
    if (!devices)
        return vkm_fail_memory(log);
    for (uint32_t i = 0; i < n; i++) {
        devices[i].physical = physical[i];
        vkm_device_probe(vk, &devices[i]);
    }
    *out = devices;
    *count = n;
    return VKMOE_OK;
}

static bool contains_ignoring_case(const char *text, const char *part)
{
    for (; *text; text++) {
        size_t i = 0;
        while (part[i] && tolower((unsigned char)text[i]) == tolower((unsigned char)part[i]))
            i++;
        if (!part[i])
            return true;
    }
    return false;
}

static bool matches(const struct vkm_device *device, uint32_t index, const char *wanted)
{
    if (!wanted)
        return true;
    if (wanted[0] && strspn(wanted, "0123456789") == strlen(wanted))
        return strtoul(wanted, NULL, 10) == index;
    return (strlen(wanted) == 36 && contains_ignoring_case(device->info.uuid, wanted)) ||
           contains_ignoring_case(device->info.name, wanted);
}

/* Smaller is preferred when no device is named. */
static int rank(enum vkmoe_device_type type)
{
    switch (type) {
    case VKMOE_DEVICE_DISCRETE: return 0;
    case VKMOE_DEVICE_INTEGRATED: return 1;
    case VKMOE_DEVICE_VIRTUAL: return 2;
    case VKMOE_DEVICE_OTHER: return 3;
    case VKMOE_DEVICE_CPU: return 4;
    }
    return 5;
}

enum vkmoe_status vkm_device_choose(const struct vkmoe_log *log, const struct vkm_device *devices, uint32_t count,
                                    const char *wanted, uint32_t *index)
{
    uint32_t usable = count, unusable = count;
    for (uint32_t i = 0; i < count; i++) {
        if (!matches(&devices[i], i, wanted))
            continue;
        if (!devices[i].info.usable)
            unusable = unusable == count ? i : unusable;
        else if (usable == count || (!wanted && rank(devices[i].info.type) < rank(devices[usable].info.type)))
            usable = i;
    }
    if (usable < count) {
        *index = usable;
        return VKMOE_OK;
    }
    if (unusable < count)
        return vkm_fail(log, VKMOE_ERROR_DEVICE, "cannot use device %u, %s: %s", unusable, devices[unusable].info.name,
                        devices[unusable].info.reason);

    char list[640] = "";
    size_t used = 0;
    for (uint32_t i = 0; i < count && used < sizeof list; i++)
        used += (size_t)snprintf(list + used, sizeof list - used, "%s%u %s", i ? ", " : "", i, devices[i].info.name);
    return vkm_fail(log, VKMOE_ERROR_DEVICE, "no device matches '%.100s'; there are: %s; see `vkmoe devices`", wanted,
                    list);
}

enum vkmoe_status vkmoe_devices_list(struct vkmoe_log log, struct vkmoe_device_info **out, size_t *count)
{
    struct vkm_vk vk = {0};
    struct vkm_device *devices = NULL;
    struct vkmoe_device_info *infos = NULL;
    uint32_t n = 0;
    bool debug_utils;
    *out = NULL;
    *count = 0;
    enum vkmoe_status status = vkm_vk_open(&vk, &log);
    if (!status)
        status = vkm_instance_create(&vk, &log, NULL, &debug_utils);
    if (!status)
        status = vkm_devices_probe(&vk, &log, &devices, &n);
    if (!status && !(infos = calloc(n, sizeof *infos)))
        status = vkm_fail_memory(&log);
    if (!status) {
        for (uint32_t i = 0; i < n; i++)
            infos[i] = devices[i].info;
        *out = infos;
        *count = n;
    }
    free(devices);
    if (vk.DestroyInstance)
        vk.DestroyInstance(vk.instance, NULL);
    vkm_vk_close(&vk);
    return status;
}

void vkmoe_devices_free(struct vkmoe_device_info *devices)
{
    free(devices);
}
