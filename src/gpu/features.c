#include "gpu/features.h"

#include <stdlib.h>
#include <string.h>

#include "gpu/pipeline.h"
#include "shared.h"

static void link_chain(struct vkm_features *f)
{
    f->core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    f->core.pNext = &f->v11;
    f->v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES;
    f->v11.pNext = &f->v12;
    f->v12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES;
    f->v12.pNext = &f->v13;
    f->v13.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES;
    f->v13.pNext = f->matrix.cooperativeMatrix ? &f->matrix : NULL;
    f->matrix.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR;
    f->matrix.pNext = f->bfloat16.shaderBFloat16Type ? &f->bfloat16 : NULL;
    f->bfloat16.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR;
}

void vkm_features_set(struct vkm_features *f, const struct vkm_caps *caps)
{
    /* where the build has kernels for it: Debian 12's validation layer does not know the extension, and its glslang has built none */
    const bool f16 = caps->cm[TYPE_F16].m && vkm_shaders[VKM_KERNEL_GEMM_CM_F16].words;
    const bool bf16 = caps->cm[TYPE_BF16].m && vkm_shaders[VKM_KERNEL_GEMM_CM_BF16].words;
    const bool matrices = f16 || bf16, bfloat16 = matrices && caps->bfloat16_matrix;
    *f = (struct vkm_features){
        .core.features.shaderInt64 = caps->int64,
        .v11.storageBuffer16BitAccess = caps->storage16,
        .v12 = {.bufferDeviceAddress = VK_TRUE, .scalarBlockLayout = VK_TRUE, .timelineSemaphore = VK_TRUE,
                .shaderFloat16 = caps->float16, .vulkanMemoryModel = matrices},
        .v13 = {.synchronization2 = VK_TRUE, .maintenance4 = VK_TRUE, .subgroupSizeControl = caps->subgroup_required,
                .computeFullSubgroups = caps->full_subgroups},
        .matrix.cooperativeMatrix = matrices,
        .bfloat16 = {.shaderBFloat16Type = bfloat16, .shaderBFloat16CooperativeMatrix = bfloat16},
    };
    if (caps->memory_budget)
        f->extensions[f->extension_count++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    if (matrices)
        f->extensions[f->extension_count++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
    if (bfloat16)
        f->extensions[f->extension_count++] = VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME;
    link_chain(f);
}

/* One structure of a host's chain, whether of a Vulkan version or of a single feature. */
static void read_structure(struct vkm_features *f, const VkBaseInStructure *s)
{
#define FROM(type, to, field) f->to.field |= ((const type *)(const void *)s)->field
    switch (s->sType) {
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES:
        FROM(VkPhysicalDeviceVulkan11Features, v11, storageBuffer16BitAccess);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES:
        FROM(VkPhysicalDeviceVulkan12Features, v12, bufferDeviceAddress);
        FROM(VkPhysicalDeviceVulkan12Features, v12, scalarBlockLayout);
        FROM(VkPhysicalDeviceVulkan12Features, v12, timelineSemaphore);
        FROM(VkPhysicalDeviceVulkan12Features, v12, shaderFloat16);
        FROM(VkPhysicalDeviceVulkan12Features, v12, vulkanMemoryModel);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES:
        FROM(VkPhysicalDeviceVulkan13Features, v13, synchronization2);
        FROM(VkPhysicalDeviceVulkan13Features, v13, maintenance4);
        FROM(VkPhysicalDeviceVulkan13Features, v13, subgroupSizeControl);
        FROM(VkPhysicalDeviceVulkan13Features, v13, computeFullSubgroups);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES:
        FROM(VkPhysicalDevice16BitStorageFeatures, v11, storageBuffer16BitAccess);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_BUFFER_DEVICE_ADDRESS_FEATURES:
        FROM(VkPhysicalDeviceBufferDeviceAddressFeatures, v12, bufferDeviceAddress);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SCALAR_BLOCK_LAYOUT_FEATURES:
        FROM(VkPhysicalDeviceScalarBlockLayoutFeatures, v12, scalarBlockLayout);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_TIMELINE_SEMAPHORE_FEATURES:
        FROM(VkPhysicalDeviceTimelineSemaphoreFeatures, v12, timelineSemaphore);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES:
        FROM(VkPhysicalDeviceShaderFloat16Int8Features, v12, shaderFloat16);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES:
        FROM(VkPhysicalDeviceVulkanMemoryModelFeatures, v12, vulkanMemoryModel);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SYNCHRONIZATION_2_FEATURES:
        FROM(VkPhysicalDeviceSynchronization2Features, v13, synchronization2);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_4_FEATURES:
        FROM(VkPhysicalDeviceMaintenance4Features, v13, maintenance4);
        break;
    case VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES:
        FROM(VkPhysicalDeviceSubgroupSizeControlFeatures, v13, subgroupSizeControl);
        FROM(VkPhysicalDeviceSubgroupSizeControlFeatures, v13, computeFullSubgroups);
        break;
    default: /* values that an enumeration of older headers has not */
        if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR)
            FROM(VkPhysicalDeviceCooperativeMatrixFeaturesKHR, matrix, cooperativeMatrix);
        else if (s->sType == VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR) {
            FROM(VkPhysicalDeviceShaderBfloat16FeaturesKHR, bfloat16, shaderBFloat16Type);
            FROM(VkPhysicalDeviceShaderBfloat16FeaturesKHR, bfloat16, shaderBFloat16CooperativeMatrix);
        }
    }
#undef FROM
}

bool vkm_features_extension(const struct vkm_features *f, const char *extension)
{
    for (uint32_t i = 0; i < f->extension_count; i++)
        if (strcmp(f->extensions[i], extension) == 0)
            return true;
    return false;
}

/* Notes an extension, if it is one that we use. */
static void note_extension(struct vkm_features *f, const char *name)
{
    static const char *const known[VKM_EXTENSIONS] = {
        VK_EXT_MEMORY_BUDGET_EXTENSION_NAME, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME,
        VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME};
    for (size_t k = 0; k < VKM_EXTENSIONS; k++)
        if (strcmp(name, known[k]) == 0 && !vkm_features_extension(f, name))
            f->extensions[f->extension_count++] = known[k];
}

void vkm_features_read(struct vkm_features *f, const VkPhysicalDeviceFeatures2 *chain, const char *const *extensions,
                       uint32_t extension_count)
{
    *f = (struct vkm_features){.core.features.shaderInt64 = chain->features.shaderInt64};
    for (const VkBaseInStructure *s = chain->pNext; s; s = s->pNext)
        read_structure(f, s);
    for (uint32_t i = 0; i < extension_count; i++)
        note_extension(f, extensions[i]);
    link_chain(f);
}

bool vkm_features_query(struct vkm_features *f, const struct vkm_vk *vk, VkPhysicalDevice physical)
{
    uint32_t count = 0;
    *f = (struct vkm_features){0};
    vk->EnumerateDeviceExtensionProperties(physical, NULL, &count, NULL);
    VkExtensionProperties *offered = calloc(count ? count : 1, sizeof *offered);
    if (!offered)
        return false;
    if (vk->EnumerateDeviceExtensionProperties(physical, NULL, &count, offered) < 0)
        count = 0;
    for (uint32_t i = 0; i < count; i++)
        note_extension(f, offered[i].extensionName);
    free(offered);
    f->matrix.cooperativeMatrix = vkm_features_extension(f, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
    f->bfloat16.shaderBFloat16Type = vkm_features_extension(f, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME);
    link_chain(f);
    vk->GetPhysicalDeviceFeatures2(physical, &f->core);
    return true;
}

const char *vkm_features_missing(const struct vkm_features *f)
{
    return !f->v12.bufferDeviceAddress ? "bufferDeviceAddress" :
           !f->v12.scalarBlockLayout   ? "scalarBlockLayout" :
           !f->v12.timelineSemaphore   ? "timelineSemaphore" :
           !f->v13.synchronization2    ? "synchronization2" :
           !f->v13.maintenance4        ? "maintenance4" :
                                         NULL;
}

void vkm_features_limit(const struct vkm_features *f, struct vkm_caps *caps)
{
    caps->int64 &= f->core.features.shaderInt64;
    caps->storage16 &= f->v11.storageBuffer16BitAccess;
    caps->float16 &= f->v12.shaderFloat16 && caps->storage16;
    if (caps->subgroup_required && !f->v13.subgroupSizeControl) { /* then they are of any size that the device has */
        caps->subgroup_required = caps->full_subgroups = false;
        caps->subgroup = caps->subgroup_least = caps->subgroup_sure;
    }
    caps->full_subgroups &= f->v13.computeFullSubgroups;
    caps->memory_budget &= vkm_features_extension(f, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    if (!caps->float16 || !f->v12.vulkanMemoryModel || !f->matrix.cooperativeMatrix || (!caps->cpu && !caps->full_subgroups) ||
        !vkm_features_extension(f, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME))
        caps->cm[TYPE_F16] = caps->cm[TYPE_BF16] = (struct vkm_cm){0};
    if (!f->bfloat16.shaderBFloat16Type || !f->bfloat16.shaderBFloat16CooperativeMatrix ||
        !vkm_features_extension(f, VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME)) {
        caps->bfloat16_matrix = false;
        caps->cm[TYPE_BF16] = (struct vkm_cm){0};
    }
}
