/* Handing command buffers to the device, waiting for them, and telling what it was doing when it hangs. */
#ifndef VKM_GPU_SUBMIT_H
#define VKM_GPU_SUBMIT_H

#include "gpu/context.h"
#include "gpu/trail.h"

/* What is submitted; it stays until it has finished. */
struct vkm_work {
    VkCommandBuffer commands;
    const char *name;               /* static: of its recording */
    const struct vkm_trail *trail;  /* of its commands; NULL: none */
    uint32_t first, count, all;     /* which of the recording's commands it has */
};

/* Submits it; *ticket is for vkm_wait. */
enum vkmoe_status vkm_submit(struct vkmoe_context *ctx, const struct vkm_work *work, uint64_t *ticket);

/* Where the device is now: `, in "micro-batch", operation "layer 3/moe.gate_up" (57 of 412)`; "" where nothing was submitted
 * or is unfinished. Returns text. */
enum { VKM_PLACE = 320 };
const char *vkm_place(struct vkmoe_context *ctx, char text[static VKM_PLACE]);

/* The driver has said that the device is lost. */
void vkm_lose(struct vkmoe_context *ctx);

/* Frees what is kept of submissions. */
void vkm_flights_clear(struct vkmoe_context *ctx);

#endif
