/* Records dispatches once and replays them. Each dispatch declares what it reads and writes; a barrier is put in only
 * where one of these overlaps something earlier since the last barrier (write after read, read after write, write after
 * write), compared by address range. Dispatches that do not depend on each other may run at the same time.
 *
 * Recording functions return nothing: the first error latches, and vkm_rec_end returns it. */
#ifndef VKM_GPU_RECORDER_H
#define VKM_GPU_RECORDER_H

#include <vkmoe/vulkan.h>

#include "gpu/memory.h"
#include "gpu/pipeline.h"

enum { VKM_MAX_ACCESS = 10, VKM_MAX_SPEC = 16 };

struct vkm_groups {
    uint32_t x, y, z;
};

/* n workgroups as x by y, for a kernel that finds its index with group_index() of common/base.glsl and skips those past
 * n: device limits count 65535 in a dimension. */
struct vkm_groups vkm_groups(const struct vkmoe_context *ctx, uint64_t n);

struct vkm_dispatch {
    const char *label;              /* static string: "moe.gate_up"; shown by the profiler and debuggers */
    enum vkm_kernel kernel;
    uint32_t spec[VKM_MAX_SPEC];    /* specialization constants 0.. ; constant 0 is the workgroup's size in x */
    uint32_t spec_count;
    uint32_t subgroup;              /* lanes of one: caps.subgroup_least; 0: caps.subgroup */
    const void *args;               /* the kernel's push constants, copied */
    uint32_t args_bytes;
    struct vkm_groups groups;
    struct vkm_buf indirect;        /* with a handle: a VkDispatchIndirectCommand on the device instead of groups */
    struct vkm_buf read[VKM_MAX_ACCESS];  /* up to the first with bytes == 0 */
    struct vkm_buf write[VKM_MAX_ACCESS]; /* likewise; a buffer that is read and written stands here alone */
    uint64_t flops;                 /* estimate, for bounding submissions and for the profiler; 0: not counted */
};

struct vkm_rec;

/* An empty recording. name (static) is its label in traces. */
enum vkmoe_status vkm_rec_create(struct vkmoe_context *ctx, const char *name, struct vkm_rec **out);

/* A recording into a command buffer of the host's, in two passes: the first one checks, and makes pipelines, but records
 * nothing; after vkm_rec_again the same calls do. vkm_rec_end puts the last barrier. It is never submitted here. */
enum vkmoe_status vkm_rec_create_into(struct vkmoe_context *ctx, const char *name, const struct vkmoe_vulkan_record *where,
                                      struct vkm_rec **out);
/* The first error of the first pass, or the second pass begins: nothing in it can fail. */
enum vkmoe_status vkm_rec_again(struct vkm_rec *rec);

/* All dispatches until the matching pop carry this prefix ("layer 3"); name is copied. */
void vkm_rec_push(struct vkm_rec *rec, const char *fmt, ...) VKM_PRINTF(2, 3);
void vkm_rec_pop(struct vkm_rec *rec);

void vkm_rec_dispatch(struct vkm_rec *rec, const struct vkm_dispatch *dispatch);

/* dst[i] = value for all 32-bit words. bytes is a multiple of 4. */
void vkm_rec_fill(struct vkm_rec *rec, struct vkm_buf dst, uint32_t value);

/* Copies src.bytes to the beginning of dst; they do not overlap. */
void vkm_rec_copy(struct vkm_rec *rec, struct vkm_buf dst, struct vkm_buf src);

/* Latches an error of the caller's own (already logged), so that vkm_rec_end returns it. */
void vkm_rec_fail(struct vkm_rec *rec, enum vkmoe_status status);

/* The context that the recording belongs to: op code chooses tiles by ctx->caps. */
const struct vkmoe_context *vkm_rec_context(const struct vkm_rec *rec);

/* Closes the recording; its writes are made visible to the host at the end. The first error of the recording. */
enum vkmoe_status vkm_rec_end(struct vkm_rec *rec);

/* Replays the whole recording after everything submitted before: a barrier against all earlier work stands at its
 * start. It is handed over in as many queue submissions as keep each within a bounded number of operations. *ticket
 * (may be NULL) is for vkm_wait. Host writes made before the call are visible to it. */
enum vkmoe_status vkm_rec_submit(struct vkm_rec *rec, uint64_t *ticket);

/* For work that is done once: ends the recording, submits it, waits for it and destroys it. */
enum vkmoe_status vkm_rec_run_once(struct vkm_rec *rec);

/* Submits the ended recording `rounds` times and waits for each: *seconds of the shortest, by the host's clock. What a device does
 * for the first time takes longer: a round before the others warms it up. */
enum vkmoe_status vkm_rec_time(struct vkm_rec *rec, int rounds, double *seconds);

/* Dispatches and barriers recorded: for tests and `--profile`. */
uint32_t vkm_rec_dispatches(const struct vkm_rec *rec);
uint32_t vkm_rec_barriers(const struct vkm_rec *rec);

/* Accepts NULL. Waits for its last submission first. */
void vkm_rec_destroy(struct vkm_rec *rec);

#endif
