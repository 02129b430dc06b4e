/* What a command buffer leaves behind as it runs. Its commands have names, and after each barrier the device notes in a word of
 * host memory how many of them have finished: that tells where a device hangs, also when it is lost. With a profiler there is a
 * timestamp after each command, too. */
#ifndef VKM_GPU_TRAIL_H
#define VKM_GPU_TRAIL_H

#include "gpu/context.h"

struct vkm_trail {
    uint32_t word;                  /* number of the context's, counted from 1; 0: there was none left */
    VkQueryPool queries;            /* profiling: timestamp 0 at the beginning, i + 1 after command i */
    uint32_t count, capacity;       /* commands: noted, that there is room for */
    struct vkm_command {
        const char *label;          /* static */
        uint32_t prefix;            /* where it begins in prefixes */
        uint32_t site;              /* of the profiler */
    } *list;
    char *prefixes;                 /* one behind the other, each with its NUL */
    size_t prefix_bytes;
};

/* The words of a context, of which vkm_trails_destroy accepts NULL. */
enum vkmoe_status vkm_trails_create(struct vkmoe_context *ctx, struct vkm_trails **out);
void vkm_trails_destroy(struct vkm_trails *trails);

/* At the beginning of a command buffer of at most `most` commands, after a barrier. On failure vkm_trail_destroy frees what
 * there is. */
enum vkmoe_status vkm_trail_begin(struct vkmoe_context *ctx, struct vkm_trail *trail, VkCommandBuffer commands, uint32_t most);

/* After a barrier between commands, before the next one is noted. */
void vkm_trail_mark(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands);

/* Before a command is recorded: its name. recording and label are static, prefix is copied. */
enum vkmoe_status vkm_trail_note(struct vkmoe_context *ctx, struct vkm_trail *trail, const char *recording, const char *prefix,
                                 const char *label, uint64_t flops);

/* After it: the profiler's timestamp. */
void vkm_trail_stamp(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands);

/* At the end, after a barrier. */
void vkm_trail_end(struct vkmoe_context *ctx, const struct vkm_trail *trail, VkCommandBuffer commands);

/* Hands the times to the profiler; the command buffer has finished. */
enum vkmoe_status vkm_trail_profile(struct vkmoe_context *ctx, const struct vkm_trail *trail);

/* How many commands are known to have finished, of a command buffer that is with the device; UINT32_MAX: it has not begun, as
 * far as is known. */
uint32_t vkm_trail_finished(const struct vkmoe_context *ctx, const struct vkm_trail *trail);

/* The device is not using it. */
void vkm_trail_destroy(struct vkmoe_context *ctx, struct vkm_trail *trail);

#endif
