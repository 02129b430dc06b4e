#include "fault_fixture.h"

#include <stdlib.h>
#include <string.h>

struct fault fault = {.left = -1};

bool fault_due(const char *what)
{
    if (fault.only && strcmp(what, fault.only) != 0)
        return false;
    if (fault.lost_in || atomic_load(&fault.left) < 0 || atomic_fetch_sub(&fault.left, 1) != 0)
        return false;
    fault.what = what;
    return true;
}

static bool is_lost(const char *call)
{
    if (fault.lost_in && !fault.lost && strcmp(call, fault.lost_in) == 0 && atomic_fetch_sub(&fault.left, 1) == 0)
        fault.lost = true;
    return fault.lost;
}

/* The library's own allocations: the linker sends them here. */
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);

void *__wrap_malloc(size_t size)
{
    return fault_due("malloc") ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fault_due("calloc") ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
    return fault_due("realloc") ? NULL : __real_realloc(old, size);
}

/* name(result when it fails, parameters, arguments). What fails has not happened, but for a wait, which is over. */
#define VULKAN_CALLS(X)                                                                                                    \
    X(AllocateCommandBuffers, OUT_OF_HOST_MEMORY,                                                                          \
      (VkDevice d, const VkCommandBufferAllocateInfo *i, VkCommandBuffer *o), (d, i, o))                                   \
    X(AllocateMemory, OUT_OF_DEVICE_MEMORY,                                                                                \
      (VkDevice d, const VkMemoryAllocateInfo *i, const VkAllocationCallbacks *a, VkDeviceMemory *o), (d, i, a, o))        \
    X(BeginCommandBuffer, OUT_OF_HOST_MEMORY, (VkCommandBuffer c, const VkCommandBufferBeginInfo *i), (c, i))              \
    X(BindBufferMemory, OUT_OF_DEVICE_MEMORY, (VkDevice d, VkBuffer b, VkDeviceMemory m, VkDeviceSize o), (d, b, m, o))    \
    X(CreateBuffer, OUT_OF_HOST_MEMORY,                                                                                    \
      (VkDevice d, const VkBufferCreateInfo *i, const VkAllocationCallbacks *a, VkBuffer *o), (d, i, a, o))                \
    X(CreateCommandPool, OUT_OF_HOST_MEMORY,                                                                               \
      (VkDevice d, const VkCommandPoolCreateInfo *i, const VkAllocationCallbacks *a, VkCommandPool *o), (d, i, a, o))      \
    X(CreateComputePipelines, OUT_OF_HOST_MEMORY,                                                                          \
      (VkDevice d, VkPipelineCache c, uint32_t n, const VkComputePipelineCreateInfo *i, const VkAllocationCallbacks *a,    \
       VkPipeline *o), (d, c, n, i, a, o))                                                                                 \
    X(CreatePipelineCache, OUT_OF_HOST_MEMORY,                                                                             \
      (VkDevice d, const VkPipelineCacheCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineCache *o), (d, i, a, o))  \
    X(CreatePipelineLayout, OUT_OF_HOST_MEMORY,                                                                            \
      (VkDevice d, const VkPipelineLayoutCreateInfo *i, const VkAllocationCallbacks *a, VkPipelineLayout *o), (d, i, a, o)) \
    X(CreateSemaphore, OUT_OF_HOST_MEMORY,                                                                                 \
      (VkDevice d, const VkSemaphoreCreateInfo *i, const VkAllocationCallbacks *a, VkSemaphore *o), (d, i, a, o))          \
    X(CreateShaderModule, OUT_OF_HOST_MEMORY,                                                                              \
      (VkDevice d, const VkShaderModuleCreateInfo *i, const VkAllocationCallbacks *a, VkShaderModule *o), (d, i, a, o))    \
    X(EndCommandBuffer, OUT_OF_HOST_MEMORY, (VkCommandBuffer c), (c))                                                      \
    X(MapMemory, MEMORY_MAP_FAILED,                                                                                        \
      (VkDevice d, VkDeviceMemory m, VkDeviceSize f, VkDeviceSize s, VkMemoryMapFlags g, void **o), (d, m, f, s, g, o))

#define WRAP(name, error, parameters, arguments)                                                                           \
    static PFN_vk##name real_##name;                                                                                       \
    static VKAPI_ATTR VkResult VKAPI_CALL wrap_##name parameters                                                           \
    {                                                                                                                      \
        return fault_due("vk" #name) ? VK_ERROR_##error : real_##name arguments;                                               \
    }
VULKAN_CALLS(WRAP)

static PFN_vkQueueSubmit2 real_QueueSubmit2;
static VKAPI_ATTR VkResult VKAPI_CALL wrap_QueueSubmit2(VkQueue q, uint32_t n, const VkSubmitInfo2 *i, VkFence f)
{
    if (is_lost("vkQueueSubmit2"))
        return VK_ERROR_DEVICE_LOST;
    return fault_due("vkQueueSubmit2") ? VK_ERROR_OUT_OF_HOST_MEMORY : real_QueueSubmit2(q, n, i, f);
}

static PFN_vkGetSemaphoreCounterValue real_GetSemaphoreCounterValue;
static VKAPI_ATTR VkResult VKAPI_CALL wrap_GetSemaphoreCounterValue(VkDevice d, VkSemaphore s, uint64_t *value)
{
    return is_lost("vkGetSemaphoreCounterValue") ? VK_ERROR_DEVICE_LOST : real_GetSemaphoreCounterValue(d, s, value);
}

/* A lost device ends what it was doing, and waits end. */
static PFN_vkWaitSemaphores real_WaitSemaphores;
static VKAPI_ATTR VkResult VKAPI_CALL wrap_WaitSemaphores(VkDevice d, const VkSemaphoreWaitInfo *i, uint64_t timeout)
{
    const VkResult result = real_WaitSemaphores(d, i, timeout);
    if (is_lost("vkWaitSemaphores"))
        return VK_ERROR_DEVICE_LOST;
    return result == VK_SUCCESS && fault_due("vkWaitSemaphores") ? VK_ERROR_DEVICE_LOST : result;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_proc(VkDevice device, const char *name)
{
#define FIND(call, ...)                                                                                                    \
    if (!strcmp(name, "vk" #call)) {                                                                                       \
        real_##call = (PFN_vk##call)fault.get_device_proc_addr(device, name);                                              \
        return (PFN_vkVoidFunction)wrap_##call;                                                                            \
    }
    VULKAN_CALLS(FIND)
    FIND(GetSemaphoreCounterValue, DEVICE_LOST, (), ())
    FIND(QueueSubmit2, DEVICE_LOST, (), ())
    FIND(WaitSemaphores, DEVICE_LOST, (), ())
    return fault.get_device_proc_addr(device, name);
}

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_instance_proc(VkInstance instance, const char *name)
{
    PFN_vkVoidFunction found = fault.get_instance_proc_addr(instance, name);
    if (strcmp(name, "vkGetDeviceProcAddr") != 0)
        return found;
    fault.get_device_proc_addr = (PFN_vkGetDeviceProcAddr)found;
    return (PFN_vkVoidFunction)device_proc;
}
