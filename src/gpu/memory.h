/* Device memory in arenas, one per lifetime: sizes are reserved first, so the total is known before anything is
 * allocated; commit then allocates as few blocks as the device's limits allow and fills in every buffer. */
#ifndef VKM_GPU_MEMORY_H
#define VKM_GPU_MEMORY_H

#include "gpu/context.h"

enum {
    VKM_BLOCK_SLACK = 64 * 1024,    /* unused bytes behind the last buffer of a block: lavapipe 26.2 reads one loop
                                       iteration past a uniform loop's end through an address */
    VKM_BUF_ALIGN = 256,            /* of every reserved buffer */
};

/* A range of device memory, by value. A zero one is "no buffer" (address 0). */
struct vkm_buf {
    VkBuffer handle;
    uint64_t offset;                /* in handle */
    uint64_t bytes;
    uint64_t addr;                  /* device address of the range */
    void *host;                     /* mapped pointer to the range, NULL where the memory is not host-visible */
};

/* A part of b; [offset, offset + bytes) lies within it. */
struct vkm_buf vkm_buf_slice(struct vkm_buf b, uint64_t offset, uint64_t bytes);

enum vkm_memory {
    VKM_MEMORY_DEVICE,              /* device-local; mapped where the device has it so (integrated, CPU) is not relied on */
    VKM_MEMORY_UPLOAD,              /* host writes, device reads: coherent, device-local too where there is such a type */
    VKM_MEMORY_READBACK,            /* device writes, host reads: coherent and host-cached where there is such a type */
};

struct vkm_arena;

/* name is for messages and debuggers ("parameters", "activations", "staging"). */
enum vkmoe_status vkm_arena_create(struct vkmoe_context *ctx, const char *name, enum vkm_memory memory,
                                   struct vkm_arena **out);

/* Notes that *out wants `bytes` (> 0). `out` must stay valid until vkm_arena_commit, which fills it. A buffer larger
 * than the device's largest block is a failure with a message that names it. The first failure latches: vkm_arena_status
 * tells it, commit returns it. */
void vkm_arena_reserve(struct vkm_arena *arena, const char *name, uint64_t bytes, struct vkm_buf *out);

enum vkmoe_status vkm_arena_status(const struct vkm_arena *arena);

/* Bytes reserved so far, with alignment and slack. */
uint64_t vkm_arena_bytes(const struct vkm_arena *arena);

/* Allocates everything reserved, or nothing. Memory is not initialised. Called once. */
enum vkmoe_status vkm_arena_commit(struct vkm_arena *arena);

/* Accepts NULL and an arena that was never committed. The device must not be using it. */
void vkm_arena_destroy(struct vkm_arena *arena);

/* Copies host memory to any buffer, or back, through a temporary staging buffer in bounded pieces; waits for it. For
 * setting up, saving and tests: never inside a step. bytes <= buf.bytes. */
enum vkmoe_status vkm_buf_upload(struct vkmoe_context *ctx, struct vkm_buf dst, const void *src, uint64_t bytes);
enum vkmoe_status vkm_buf_download(struct vkmoe_context *ctx, struct vkm_buf src, void *dst, uint64_t bytes);

#endif
