/* The Vulkan functions that we use, in a table of our own: no global state and no symbols that could clash with a host
 * application which loads Vulkan itself. */
#ifndef VKM_GPU_VK_H
#define VKM_GPU_VK_H

#ifndef VK_NO_PROTOTYPES
#define VK_NO_PROTOTYPES
#endif
#include <vulkan/vulkan.h>

#include "base/log.h"

/* What Vulkan headers older than 1.3.255 lack. */
#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR ((VkStructureType)1000506000)
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR ((VkStructureType)1000506001)
typedef enum VkComponentTypeKHR { VK_COMPONENT_TYPE_FLOAT16_KHR = 0, VK_COMPONENT_TYPE_FLOAT32_KHR = 1 } VkComponentTypeKHR;
typedef enum VkScopeKHR { VK_SCOPE_SUBGROUP_KHR = 3 } VkScopeKHR;
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix, cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    VkComponentTypeKHR AType, BType, CType, ResultType;
    VkBool32 saturatingAccumulation;
    VkScopeKHR scope;
} VkCooperativeMatrixPropertiesKHR;
typedef VkResult (VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(VkPhysicalDevice, uint32_t *,
                                                                                  VkCooperativeMatrixPropertiesKHR *);
#endif
#ifndef VK_KHR_shader_bfloat16
#define VK_KHR_SHADER_BFLOAT16_EXTENSION_NAME "VK_KHR_shader_bfloat16"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_BFLOAT16_FEATURES_KHR ((VkStructureType)1000141000)
#define VK_COMPONENT_TYPE_BFLOAT16_KHR ((VkComponentTypeKHR)1000141000)
typedef struct VkPhysicalDeviceShaderBfloat16FeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 shaderBFloat16Type, shaderBFloat16DotProduct, shaderBFloat16CooperativeMatrix;
} VkPhysicalDeviceShaderBfloat16FeaturesKHR;
#endif

#define VKM_VK_GLOBAL(X)                                                                                               \
    X(CreateInstance) X(EnumerateInstanceExtensionProperties) X(EnumerateInstanceLayerProperties)                      \
    X(EnumerateInstanceVersion)

#define VKM_VK_INSTANCE(X)                                                                                             \
    X(CreateDevice) X(DestroyInstance) X(EnumerateDeviceExtensionProperties) X(EnumeratePhysicalDevices)               \
    X(GetDeviceProcAddr) X(GetPhysicalDeviceFeatures2) X(GetPhysicalDeviceMemoryProperties)                            \
    X(GetPhysicalDeviceMemoryProperties2) X(GetPhysicalDeviceProperties) X(GetPhysicalDeviceProperties2)               \
    X(GetPhysicalDeviceQueueFamilyProperties)

/* NULL unless VK_EXT_debug_utils is enabled. */
#define VKM_VK_DEBUG(X)                                                                                                \
    X(CmdBeginDebugUtilsLabelEXT) X(CmdEndDebugUtilsLabelEXT) X(CreateDebugUtilsMessengerEXT)                          \
    X(DestroyDebugUtilsMessengerEXT) X(SetDebugUtilsObjectNameEXT)
/* NULL unless a device has VK_KHR_cooperative_matrix. */
#define VKM_VK_OPTIONAL(X) X(GetPhysicalDeviceCooperativeMatrixPropertiesKHR)

#define VKM_VK_DEVICE(X)                                                                                               \
    X(AllocateCommandBuffers) X(AllocateMemory) X(BeginCommandBuffer) X(BindBufferMemory) X(CmdBindPipeline)           \
    X(CmdCopyBuffer) X(CmdDispatch) X(CmdDispatchIndirect) X(CmdFillBuffer) X(CmdPipelineBarrier2)                     \
    X(CmdPushConstants) X(CmdResetQueryPool) X(CmdWriteTimestamp2) X(CreateBuffer) X(CreateCommandPool)                \
    X(CreateComputePipelines) X(CreatePipelineCache) X(CreatePipelineLayout) X(CreateQueryPool) X(CreateSemaphore)     \
    X(CreateShaderModule) X(DestroyBuffer) X(DestroyCommandPool) X(DestroyDevice) X(DestroyPipeline)                   \
    X(DestroyPipelineCache) X(DestroyPipelineLayout) X(DestroyQueryPool) X(DestroySemaphore) X(DestroyShaderModule)    \
    X(EndCommandBuffer) X(FreeMemory) X(GetBufferDeviceAddress) X(GetBufferMemoryRequirements)       \
    X(GetDeviceQueue) X(GetPipelineCacheData) X(GetQueryPoolResults) X(GetSemaphoreCounterValue) X(MapMemory)          \
    X(QueueSubmit2) X(WaitSemaphores)

struct vkm_vk {
    void *loader; /* NULL when a host gave us GetInstanceProcAddr */
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
    VkInstance instance;
    VkDevice device;
#define VKM_VK_FIELD(name) PFN_vk##name name;
    VKM_VK_GLOBAL(VKM_VK_FIELD)
    VKM_VK_INSTANCE(VKM_VK_FIELD)
    VKM_VK_DEBUG(VKM_VK_FIELD)
    VKM_VK_OPTIONAL(VKM_VK_FIELD)
    VKM_VK_DEVICE(VKM_VK_FIELD)
#undef VKM_VK_FIELD
};

/* Opens the system's Vulkan loader and reads the global functions. ERROR_DEVICE when there is none. */
enum vkmoe_status vkm_vk_open(struct vkm_vk *vk, const struct vkmoe_log *log);

/* Reads the functions of vk->instance, vk->device; ERROR_VULKAN names one that is missing. */
enum vkmoe_status vkm_vk_load_instance(struct vkm_vk *vk, const struct vkmoe_log *log);
enum vkmoe_status vkm_vk_load_device(struct vkm_vk *vk, const struct vkmoe_log *log);

/* Closes the loader. Instance and device are the caller's to destroy before. Accepts a zero table. */
void vkm_vk_close(struct vkm_vk *vk);

/* "VK_ERROR_DEVICE_LOST"; "VkResult <n>" formatted into buffer where we have no name for it. */
const char *vkm_vk_result_name(VkResult result, char buffer[static 32]);

#endif
