/* Host memory to device memory and back, outside of steps. */
#include "gpu/recorder.h"

#include <assert.h>
#include <string.h>

static const uint64_t piece_bytes = 32 * 1024 * 1024;

static enum vkmoe_status copy_and_wait(struct vkmoe_context *ctx, const char *name, struct vkm_buf dst,
                                       struct vkm_buf src)
{
    struct vkm_rec *rec;
    enum vkmoe_status status = vkm_rec_create(ctx, name, &rec);
    if (status)
        return status;
    vkm_rec_copy(rec, dst, src);
    return vkm_rec_run_once(rec);
}

/* Copies device to host (src NULL) or host to device (dst NULL). */
static enum vkmoe_status transfer(struct vkmoe_context *ctx, struct vkm_buf device, void *dst, const void *src,
                                  uint64_t bytes)
{
    struct vkm_arena *arena = NULL;
    struct vkm_buf staging;
    assert(bytes <= device.bytes);
    if (!bytes)
        return VKMOE_OK;
    enum vkmoe_status status;
    if (device.host) {
        if ((status = vkm_wait(ctx, ctx->submitted)))
            return status;
        memcpy(dst ? dst : device.host, dst ? device.host : src, (size_t)bytes);
        return VKMOE_OK;
    }

    if ((status = vkm_arena_create(ctx, "transfer", dst ? VKM_MEMORY_READBACK : VKM_MEMORY_UPLOAD, &arena)))
        return status;
    vkm_arena_reserve(arena, "piece", bytes < piece_bytes ? bytes : piece_bytes, &staging);
    status = vkm_arena_commit(arena);
    for (uint64_t done = 0; done < bytes && !status; done += staging.bytes) {
        uint64_t n = bytes - done < staging.bytes ? bytes - done : staging.bytes;
        struct vkm_buf here = vkm_buf_slice(staging, 0, n), there = vkm_buf_slice(device, done, n);
        if (src) {
            memcpy(staging.host, (const uint8_t *)src + done, (size_t)n);
            status = copy_and_wait(ctx, "upload", there, here);
        } else if (!(status = copy_and_wait(ctx, "download", here, there))) {
            memcpy((uint8_t *)dst + done, staging.host, (size_t)n);
        }
    }
    vkm_arena_destroy(arena);
    return status;
}

enum vkmoe_status vkm_buf_upload(struct vkmoe_context *ctx, struct vkm_buf dst, const void *src, uint64_t bytes)
{
    return transfer(ctx, dst, NULL, src, bytes);
}

enum vkmoe_status vkm_buf_download(struct vkmoe_context *ctx, struct vkm_buf src, void *dst, uint64_t bytes)
{
    return transfer(ctx, src, dst, NULL, bytes);
}
