#include "ops/colsum.h"
#include "ops/tiles.h"

void vkm_op_rmsnorm(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf w, struct vkm_buf y, struct vkm_buf y16,
                    uint32_t type, uint32_t T, uint32_t D, float eps)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_rmsnorm_args args = {x.addr, w.addr, y.addr, y16.addr, T, D, eps};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("rmsnorm", VKM_KERNEL_RMSNORM, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, T), .read = {x, w}, .write = {y, y16}};
    if (y16.bytes)
        vkm_dispatch_narrow(&dispatch, VKM_KERNEL_RMSNORM_16, type);
    vkm_dispatch_lanes(&dispatch, vkm_lanes_row(ctx, D, dispatch.spec[0]));
    vkm_rec_dispatch(rec, &dispatch);
}

static uint64_t rstd_bytes(uint32_t T)
{
    return (T * sizeof(float) + VKM_BUF_ALIGN - 1) / VKM_BUF_ALIGN * VKM_BUF_ALIGN;
}

uint64_t vkm_rmsnorm_scratch(uint32_t T, uint32_t D)
{
    return rstd_bytes(T) + vkm_colsum_scratch(T, D);
}

void vkm_op_rmsnorm_bwd(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf w, struct vkm_buf dy, struct vkm_buf dx,
                        struct vkm_buf dw, struct vkm_buf scratch, uint32_t T, uint32_t D, float eps)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_buf rstd = vkm_buf_slice(scratch, 0, T * sizeof(float));
    struct vkm_buf partial = vkm_buf_slice(scratch, rstd_bytes(T), vkm_colsum_scratch(T, D));
    struct vkm_rmsnorm_bwd_args args = {x.addr, w.addr, dy.addr, dx.addr, rstd.addr, T, D, eps};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("rmsnorm.bwd", VKM_KERNEL_RMSNORM_BWD, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, T), .read = {x, w, dy}, .write = {dx, rstd}};
    vkm_dispatch_lanes(&dispatch, vkm_lanes_row(ctx, D, dispatch.spec[0]));
    vkm_rec_dispatch(rec, &dispatch);
    vkm_op_colsum(rec, "rmsnorm.bwd.w", dy, x, rstd, dw, partial, T, D, true);
}
