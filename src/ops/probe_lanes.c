#include "ops/probe.h"

#include <string.h>

#include "ops/tiles.h"

enum { NUMBERS = 2 * PROBE_LANES_ROWS * VKM_LANES, LOOPS = 2048, TIMES = 3 };

static enum vkmoe_status run(struct vkmoe_context *ctx, struct vkm_buf x, struct vkm_buf y, bool together, float sums[VKM_LANES],
                             double *seconds)
{
    struct vkm_rec *rec;
    struct vkm_probe_lanes_args args = {.x = x.addr, .y = y.addr, .rounds = LOOPS};
    enum vkmoe_status status = vkm_rec_create(ctx, "probe", &rec);
    if (status)
        return status;
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        .label = "probe", .kernel = VKM_KERNEL_PROBE_LANES, .spec = {VKM_LANES, [SPEC_PROBE_TOGETHER] = together},
        .spec_count = SPEC_PROBE_TOGETHER + 1, .args = &args, .args_bytes = sizeof args, .groups = {1, 1, 1}, .read = {x},
        .write = {y}});
    if (!(status = vkm_rec_end(rec)) && !(status = vkm_rec_time(rec, 1, seconds)))
        status = vkm_rec_time(rec, TIMES, seconds);
    vkm_rec_destroy(rec);
    return status ? status : vkm_buf_download(ctx, y, sums, VKM_LANES * sizeof *sums);
}

static enum vkmoe_status compare(struct vkmoe_context *ctx, struct vkm_buf x, struct vkm_buf y, uint32_t *lanes)
{
    float values[NUMBERS], sums[2][VKM_LANES];
    double seconds[2];
    enum vkmoe_status status;
    for (uint32_t i = 0; i < NUMBERS; i++)
        values[i] = (float)(i % 7); /* their sums are exact */
    if ((status = vkm_buf_upload(ctx, x, values, sizeof values)) || (status = run(ctx, x, y, false, sums[0], &seconds[0])) ||
        (status = run(ctx, x, y, true, sums[1], &seconds[1])))
        return status;
    *lanes = !memcmp(sums[0], sums[1], sizeof sums[0]) && seconds[0] > seconds[1] ? VKM_LANES_DEPTH : 0;
    vkm_log(&ctx->log, VKMOE_LOG_DEBUG, "lanes' neighbours loaded together: %.2f times as fast as apart, %s",
            seconds[0] / seconds[1], *lanes ? "used" : "not used");
    return VKMOE_OK;
}

enum vkmoe_status vkm_lanes_probe(struct vkmoe_context *ctx)
{
    struct vkm_caps *caps = &ctx->caps;
    struct vkm_arena *arena;
    struct vkm_buf x, y;
    enum vkmoe_status status;
    if (caps->lanes_probed || !vkm_has_lanes(ctx))
        return VKMOE_OK;
    if ((status = vkm_arena_create(ctx, "probe", VKM_MEMORY_DEVICE, &arena)))
        return status;
    vkm_arena_reserve(arena, "x", NUMBERS * sizeof(float), &x);
    vkm_arena_reserve(arena, "y", VKM_LANES * sizeof(float), &y);
    if (!(status = vkm_arena_commit(arena)))
        status = compare(ctx, x, y, &caps->lanes);
    vkm_arena_destroy(arena);
    caps->lanes_probed = !status;
    return status;
}
