/* What any Vulkan application has: an instance, a device with a queue, buffers and compute pipelines. Functions that
 * return false have said why in one line on stderr. */
#ifndef PAINT_GPU_H
#define PAINT_GPU_H

#include <vkmoe/vulkan.h>

struct gpu {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    uint64_t messages;         /* of the validation layers */
    bool validate;
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    VkDevice device;
    VkQueue queue;
    uint32_t family;
    VkCommandPool pool;
    VkCommandBuffer commands;  /* the only one: recorded, submitted and waited for, frame by frame */
    VkFence fence;
    VkPipelineLayout layout;   /* of all pipelines: 128 bytes of push constants */
    struct vkmoe_context *ctx; /* vkmoe on this device */
};

struct buffer {
    VkBuffer buffer;
    VkDeviceMemory memory;
    VkDeviceAddress address;
    VkDeviceSize bytes;
    void *host;                /* where it is mapped; NULL: on the device only */
};

bool gpu_check(VkResult result, const char *what);

/* First the instance, with a window's extensions; then the device: number `index` of Vulkan's list, or with -1 the
 * fastest kind that vkmoe runs on and that shows pictures on `surface`, if there is one. */
bool gpu_create_instance(struct gpu *gpu, bool validate, const char *const *extensions, uint32_t extension_count);
bool gpu_create_device(struct gpu *gpu, int index, VkSurfaceKHR surface);
/* All but the instance; then the instance, when a window's surface is gone. Zero ones may be given. */
void gpu_destroy_device(struct gpu *gpu);
void gpu_destroy_instance(struct gpu *gpu);

bool gpu_buffer(struct gpu *gpu, VkDeviceSize bytes, bool on_host, struct buffer *out);
void gpu_buffer_free(struct gpu *gpu, struct buffer *buffer);
VkPipeline gpu_pipeline(struct gpu *gpu, const uint32_t *code, size_t bytes);

bool gpu_begin(struct gpu *gpu);
void gpu_dispatch(struct gpu *gpu, VkPipeline pipeline, const void *push, uint32_t push_bytes, uint32_t threads);
void gpu_barrier(struct gpu *gpu, VkPipelineStageFlags2 from, VkAccessFlags2 written, VkPipelineStageFlags2 to,
                 VkAccessFlags2 used);
/* Submits what was recorded: after `wait` and before `signal`, where they are not null. */
bool gpu_submit(struct gpu *gpu, VkSemaphore wait, VkSemaphore signal);
bool gpu_wait(struct gpu *gpu);

#endif
