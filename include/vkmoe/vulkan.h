/* vkmoe on the Vulkan device of an application that has one: for programs with an instance, a device and a queue of their
 * own. A program that owns nothing needs vkmoe.h alone.
 *
 *     vkmoe_vulkan_needs_query   what a device must and should be created with
 *     (the host creates its device)
 *     vkmoe_context_adopt        a context on that device; everything of vkmoe.h and stack.h works on it
 *     vkmoe_vulkan_record_...    a stack's forward, backward, update or whole step, in the host's own command buffer
 *
 * What the library does with what is the host's
 *   - It creates buffers, pipelines, command pools and a timeline semaphore on the device, allocates memory of its own, and
 *     submits to the queue while it holds the host's lock. It destroys what it created, and nothing else.
 *   - It waits for its own submissions alone: never for the device or the queue to be idle. It starts no thread.
 *   - Its own submissions (vkmoe.h, stack.h) follow each other on the queue and with a barrier; their buffers are its own, so a
 *     frame needs no synchronization with them. Where it wants some: vkmoe_vulkan_timeline, vkmoe_vulkan_wait_for.
 *   - Vulkan is called through get_instance_proc_addr alone: the library links no loader, and has no Vulkan symbol.
 *   - Two contexts may be on one device, used by two threads, when they have different queues or a lock that keeps them
 *     apart. */
#ifndef VKMOE_VULKAN_H
#define VKMOE_VULKAN_H

#include <vulkan/vulkan_core.h>

#include <vkmoe/stack.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What a device is to be created with. The chains are complete structures VkPhysicalDeviceFeatures2 and
 * VkPhysicalDeviceVulkan11Features to -13Features, and those of extensions: pass one as VkDeviceCreateInfo.pNext, or set in
 * your own chain what is set in it. */
struct vkmoe_vulkan_needs {
    const VkPhysicalDeviceFeatures2 *required; /* without these there is no context */
    const VkPhysicalDeviceFeatures2 *liked;    /* these, too, and what else makes kernels faster or allows --precision, of
                                                  what the device has */
    const char *const *extensions;             /* device extensions that `liked` belongs to; none is required */
    uint32_t extension_count;
    uint32_t queue_family;                     /* one with compute, and with timestamps where there is one */
};

/* Asks a physical device of an instance that was created for Vulkan 1.3 or later. ERROR_DEVICE, and the reason in the log,
 * when vkmoe cannot run on it. *out is freed with vkmoe_vulkan_needs_free, after the device was created. */
VKMOE_API enum vkmoe_status vkmoe_vulkan_needs_query(struct vkmoe_log log, PFN_vkGetInstanceProcAddr get_instance_proc_addr,
                                                     VkInstance instance, VkPhysicalDevice physical_device,
                                                     struct vkmoe_vulkan_needs **out);
VKMOE_API void vkmoe_vulkan_needs_free(struct vkmoe_vulkan_needs *needs);

/* The host's device. All handles outlive the context. */
struct vkmoe_vulkan_desc {
    struct vkmoe_log log;
    PFN_vkGetInstanceProcAddr get_instance_proc_addr; /* required: of the loader that made the instance */
    VkInstance instance;                       /* required; for Vulkan 1.3 or later */
    VkPhysicalDevice physical_device;          /* required */
    VkDevice device;                           /* required */
    VkQueue queue;                             /* required; of the device, of a family with compute */
    uint32_t queue_family;                     /* of that queue */
    const VkPhysicalDeviceFeatures2 *features; /* required: what the device was created with, as this structure and its
                                                  chain; structures that the library does not know are passed over */
    const char *const *extensions;             /* device extensions that were enabled; NULL: none */
    uint32_t extension_count;
    bool debug_utils;                          /* VK_EXT_debug_utils is enabled: objects and dispatches get names */

    /* Called around each vkQueueSubmit2; NULL: nobody else uses the queue at the same time. Both or none. */
    void (*queue_lock)(void *user);
    void (*queue_unlock)(void *user);
    void *queue_user;

    const VkAllocationCallbacks *allocator;    /* for all that is created on the device; outlives the context; or NULL */
    const char *cache_dir;                     /* as in struct vkmoe_context_desc */
    uint32_t timeout_seconds;                  /* likewise; time that a submission waits for a semaphore of the host's counts */
};

/* A context on the host's device. ERROR_ARGUMENT names a field that is missing or contradicts the device, or a required
 * feature that was not enabled; ERROR_DEVICE: the device can never do it. vkmoe_context_destroy waits for the context's own
 * submissions and gives everything back; the device stays the host's. Where it hangs (ERROR_DEVICE_LOST without the driver
 * having said so) nothing on it is given back, and the allocator's memory stays in use: the host may let it be with the rest. */
VKMOE_API enum vkmoe_status vkmoe_context_adopt(const struct vkmoe_vulkan_desc *desc, struct vkmoe_context **out);

/* The semaphore that the context's own submissions signal, and the value that it reaches when all so far are done: for a
 * submission of the host's that waits for them on the device. The semaphore is the context's. */
VKMOE_API void vkmoe_vulkan_timeline(const struct vkmoe_context *ctx, VkSemaphore *semaphore, uint64_t *value);
/* The context's next submission waits on the device for a semaphore of the host's, of another queue's work for instance: a
 * timeline's value, or a binary one (value 0), whose signal has been submitted. A later call before that replaces it. */
VKMOE_API void vkmoe_vulkan_wait_for(struct vkmoe_context *ctx, VkSemaphore semaphore, uint64_t value);

/* ---- a stack in the host's command buffer ------------------------------------------------------------------------- */

enum vkmoe_vulkan_type {
    VKMOE_VULKAN_32,           /* f32, or u32 where the array holds integers */
    VKMOE_VULKAN_F16,          /* 16 bits: on devices with storage16; for numbers only */
    VKMOE_VULKAN_BF16,
};

/* Rows in a buffer of the host's, which was created with VK_BUFFER_USAGE_SHADER_DEVICE_ADDRESS_BIT and _STORAGE_BUFFER_BIT.
 * Nothing outside of [address, address + bytes) is touched. A zero one is absent. */
struct vkmoe_vulkan_array {
    VkDeviceAddress address;   /* of the first element: vkGetBufferDeviceAddress plus an offset; a multiple of the element's
                                  size */
    VkDeviceSize bytes;        /* from there to the end of what may be used: at least (rows - 1) stride + a row */
    VkDeviceSize stride;       /* bytes from a row to the next, a multiple of the element's size; 0: packed */
    enum vkmoe_vulkan_type type;
};

/* Where a recording goes, and what stands around it. `before` is what wrote the arrays that it reads and used those that it
 * writes; `after` is what will use what it writes and overwrite what it reads. A zero one means all commands and all memory,
 * which is right always; a narrower one lets unrelated work of the queue overlap. Barriers for both are part of the recording,
 * so nothing else is needed on the same queue; another queue waits by a semaphore, as for any work.
 *
 * commands: a command buffer in the recording state, primary or secondary, outside of a render pass and of video coding, of a
 * pool of the context's queue family. Its bound compute pipeline and its push constants are others afterwards; graphics state
 * is left alone. It may be submitted many times, to the context's queue, one execution after the other. Nothing of the
 * recording lies in it but commands: the stack, its context and the arrays outlive its execution. While it runs, no function of
 * stack.h is called on that stack, which knows of its own submissions alone.
 *
 * An error records nothing, and the log names the argument: ERROR_ARGUMENT. Memory and pipelines are had when the stack is
 * created or first recorded, never when the command buffer runs. */
struct vkmoe_vulkan_scope {
    VkPipelineStageFlags2 stages;
    VkAccessFlags2 access;
};
struct vkmoe_vulkan_record {
    VkCommandBuffer commands;
    struct vkmoe_vulkan_scope before, after;
};

/* vkmoe_stack_forward, or with `kept` (rows == batch) vkmoe_stack_forward_kept. */
struct vkmoe_vulkan_forward {
    uint32_t rows;
    bool kept;
    struct vkmoe_vulkan_array in;      /* [rows, I], required */
    struct vkmoe_vulkan_array out;     /* [rows, O] */
    struct vkmoe_vulkan_array experts; /* [layers, rows, K] u32, stride from row to row, layer behind layer */
    struct vkmoe_vulkan_array gates;   /* likewise, the active experts' weights */
};
VKMOE_API enum vkmoe_status vkmoe_vulkan_record_forward(struct vkmoe_stack *stack, const struct vkmoe_vulkan_record *where,
                                                        const struct vkmoe_vulkan_forward *forward);

/* vkmoe_stack_backward: dout [batch, O] required; din [batch, I] absent with VKMOE_F16. It runs after a kept forward and
 * before whatever else trains the stack: that order is the host's to keep. */
VKMOE_API enum vkmoe_status vkmoe_vulkan_record_backward(struct vkmoe_stack *stack, const struct vkmoe_vulkan_record *where,
                                                         const struct vkmoe_vulkan_array *dout,
                                                         const struct vkmoe_vulkan_array *din);

/* vkmoe_stack_update, with the learning rate of the time of recording. */
VKMOE_API enum vkmoe_status vkmoe_vulkan_record_update(struct vkmoe_stack *stack, const struct vkmoe_vulkan_record *where);

/* vkmoe_stack_step: in [batch, I]; target [batch, O], or [batch, 1] u32 for cross-entropy. The bits are those of the library's
 * own submission. */
VKMOE_API enum vkmoe_status vkmoe_vulkan_record_step(struct vkmoe_stack *stack, const struct vkmoe_vulkan_record *where,
                                                     const struct vkmoe_vulkan_array *in,
                                                     const struct vkmoe_vulkan_array *target);

/* What the newest step that has run says; does not wait. Call it when the host knows (by its fence) that no step is running,
 * else numbers of two steps may stand beside each other. */
VKMOE_API enum vkmoe_status vkmoe_vulkan_report(struct vkmoe_stack *stack, struct vkmoe_stack_report *report);

#ifdef __cplusplus
}
#endif

#endif
