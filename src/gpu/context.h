/* A Vulkan device: its own or a host's. What it can do is read once, into ctx->caps. */
#ifndef VKM_GPU_CONTEXT_H
#define VKM_GPU_CONTEXT_H

#include "base/log.h"
#include "gpu/vk.h"

/* A product of cooperative matrices: 16-bit operands, f32 sums, by a subgroup. m == 0: the device has none. */
struct vkm_cm {
    uint32_t m, n, k;
    bool use;                       /* matrix products use it: it was found right and faster than without (ops/probe.h) */
    bool use_attention;             /* likewise attention */
    bool probed;
};

/* What kernels and allocation choose by: capabilities, never a vendor's name. */
struct vkm_caps {
    bool cpu;                       /* a software device: kernels use its own tile shapes */
    uint32_t subgroup;              /* subgroup size that pipelines run with; where sizes vary and none can be required, at least */
    bool subgroup_required;         /* VkPipelineShaderStageRequiredSubgroupSizeCreateInfo can be used for it */
    uint32_t subgroup_sure;         /* that any pipeline has at least */
    uint32_t subgroup_least;        /* of pipelines that need many registers: smaller where lanes share a file of them */
    uint32_t max_subgroups;         /* of a workgroup, where their size is required */
    uint32_t max_invocations;       /* of a workgroup */
    uint32_t shared_bytes;
    uint32_t max_groups;            /* smallest maxComputeWorkGroupCount of the dimensions */
    uint64_t max_block;             /* largest single buffer: min(maxMemoryAllocationSize, maxBufferSize) */
    double timestamp_ns;            /* nanoseconds per timestamp tick; 0: no timestamps */
    uint64_t timestamp_mask;        /* the bits of a timestamp that count */
    bool full_subgroups;            /* pipelines may require them */
    bool memory_budget;             /* VK_EXT_memory_budget */
    bool storage16;                 /* 16-bit arrays can be read and written */
    bool float16;                   /* f16 arithmetic */
    bool int64;                     /* 64-bit integers */
    bool bfloat16_matrix;           /* VK_KHR_shader_bfloat16, with cooperative matrices */
    uint32_t lanes;                 /* lanes.glsl's loads are used, gemm_lanes' panels at most so deep; 0: not used (ops/probe.h) */
    bool lanes_probed;
    uint32_t processors;            /* of the host, which a CPU device runs on */
    struct vkm_cm cm[3];            /* by TYPE_F16, TYPE_BF16 of shaders/shared.h */
};

/* Tiles of matrix products that were measured to be best (gpu/tuning.h), for products of one type with few or many rows in
 * a group; bm == 0: none. What they mean is ops/tiles.h's. */
enum vkm_rows { VKM_ROWS_FEW, VKM_ROWS_MANY, VKM_ROWS_KINDS };
struct vkm_tuned {
    uint32_t bm, bn, bk, tm, tn, wg;
};
struct vkm_tuning {
    struct vkm_tuned gemm[3][VKM_ROWS_KINDS]; /* by TYPE_ of shaders/shared.h */
};

struct vkm_pipelines;
struct vkm_profiler;
struct vkm_trails;

/* Submissions in their order (gpu/submit.h), without those at the front that are known to have finished. */
struct vkm_flights {
    struct vkm_flight *list;
    size_t count, capacity;
    uint64_t finished;              /* the newest ticket of which that is known */
};

struct vkmoe_context {
    struct vkmoe_log log;
    struct vkmoe_device_info info;
    struct vkm_caps caps;
    struct vkm_tuning tuning;

    bool adopted;                   /* instance, device and queue belong to the host: never destroyed, never idled */
    struct vkm_vk vk;               /* loader, instance, device and their functions */
    VkPhysicalDevice physical;
    VkPhysicalDeviceMemoryProperties memory;
    uint64_t allocated;             /* bytes of VKM_MEMORY_DEVICE arenas: what is free where the driver has no budget */
    VkQueue queue;
    uint32_t queue_family;
    void (*queue_lock)(void *user), (*queue_unlock)(void *user); /* around each submission; NULL: nobody else submits */
    void *queue_user;
    const VkAllocationCallbacks *allocator; /* of everything on the device; or NULL */

    VkSemaphore timeline;           /* counts submissions */
    uint64_t submitted;             /* its newest value handed out */
    VkSemaphoreSubmitInfo awaited;  /* of the host's: for the next submission, where it has a semaphore */
    struct vkm_flights flights;
    uint32_t timeout_seconds;       /* a device that finishes no submission for so long is taken to hang */
    bool lost;                      /* the device was lost or hangs: nothing is submitted or waited for any more */
    bool hung;                      /* it may still be using what lies on it: nothing of that is destroyed */
    VkDebugUtilsMessengerEXT messenger;
    bool debug_names;               /* VK_EXT_debug_utils is there: objects and dispatches get names */
    uint64_t validation_messages;

    struct vkm_pipelines *pipelines;
    struct vkm_trails *trails;
    struct vkm_profiler *profiler;  /* NULL unless profiling */
};

/* Logs "call: result" and maps the result to a status (out of device memory, device lost, ...). VK_SUCCESS gives OK. */
enum vkmoe_status vkm_check(struct vkmoe_context *ctx, VkResult result, const char *call);

/* Opens what lies on the device: caps, vk, physical and queue are there. On failure the context is to be destroyed. */
enum vkmoe_status vkm_context_begin(struct vkmoe_context *ctx, const char *cache_dir);

/* Waits until submission `ticket` (a value that vkm_submit or vkm_rec_submit returned) has finished. 0 returns at once, and so
 * does a wait for a device that was lost, which has been said. ERROR_DEVICE_LOST also when nothing finishes within the context's
 * timeout. */
enum vkmoe_status vkm_wait(struct vkmoe_context *ctx, uint64_t ticket);

/* The same for destroy functions: silent, but for a warning when it is this wait that finds the device to hang. */
void vkm_wait_quiet(struct vkmoe_context *ctx, uint64_t ticket);

/* Bytes of the largest device-local heap that are still free for us (VK_EXT_memory_budget where there is one). */
uint64_t vkm_memory_available(const struct vkmoe_context *ctx);

/* Names an object for debuggers; does nothing without VK_EXT_debug_utils. */
void vkm_name_object(const struct vkmoe_context *ctx, VkObjectType type, uint64_t handle, const char *name);

#endif
