#include "ops/tiles.h"

void vkm_op_grad_square(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf partial, uint64_t count)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_grad_norm_args args = {.x = x.addr, .partial = partial.addr, .count = (uint32_t)count};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("grad.square", VKM_KERNEL_GRAD_SQUARE, vkm_tiles(ctx).row_wg, args),
        .groups = {VKM_NORM_PARTIALS, 1, 1}, .read = {x}, .write = {partial}};
    vkm_dispatch_lanes(&dispatch, vkm_lanes_fit(ctx, count));
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_grad_norm(struct vkm_rec *rec, struct vkm_buf partials, struct vkm_buf stats, struct vkm_buf loss_scale,
                      uint32_t count, float clip, uint32_t growth)
{
    struct vkm_grad_norm_args args = {
        .partial = partials.addr, .stats = stats.addr, .loss_scale = loss_scale.addr, .partials = count, .clip = clip,
        .growth = growth};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("grad.norm", VKM_KERNEL_GRAD_NORM, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {1, 1, 1}, .read = {partials}, .write = {stats, loss_scale}});
}

void vkm_op_adamw(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf g, struct vkm_buf m, struct vkm_buf v,
                  struct vkm_buf w16, uint32_t type, struct vkm_buf control, struct vkm_buf stats, uint64_t count,
                  float beta1, float beta2, float eps, float decay)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const struct vkm_tiles tiles = vkm_tiles(ctx);
    const bool pairs = tiles.pairs && !w16.bytes && count % 2 == 0;
    const bool lanes = pairs && vkm_lanes(ctx) && count % ADAMW_TOGETHER == 0;
    const uint32_t wg = lanes ? VKM_LANES : tiles.flat_wg, each = lanes ? ADAMW_TOGETHER : pairs ? 2 * wg : wg;
    struct vkm_adamw_args args = {w.addr, g.addr, m.addr, v.addr, w16.addr, control.addr, stats.addr,
                                  (uint32_t)(pairs && !lanes ? count / 2 : count), beta1, beta2, eps, decay};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("adamw", pairs ? VKM_KERNEL_ADAMW_WIDE : VKM_KERNEL_ADAMW, wg, args),
        .groups = vkm_groups(ctx, vkm_div_up(count, each)),
        .read = {control, stats}, .write = {w, g, m, v, w16}};
    vkm_dispatch_lanes(&dispatch, lanes);
    if (w16.bytes)
        vkm_dispatch_narrow(&dispatch, VKM_KERNEL_ADAMW_16, type);
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_narrow(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf y, uint32_t type, uint64_t count)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t wg = vkm_tiles(ctx).flat_wg;
    struct vkm_narrow_args args = {x.addr, y.addr, (uint32_t)count};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("narrow", VKM_KERNEL_NARROW, wg, args), .groups = vkm_groups(ctx, vkm_div_up(count, wg)),
        .read = {x}, .write = {y}};
    vkm_dispatch_narrow(&dispatch, VKM_KERNEL_NARROW, type);
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_adam_advance(struct vkm_rec *rec, struct vkm_buf state, struct vkm_buf control, struct vkm_buf stats, float lr,
                         float beta1, float beta2)
{
    struct vkm_adam_advance_args args = {state.addr, control.addr, stats.addr, lr, beta1, beta2, (float)(1 - (double)beta1),
                                         (float)(1 - (double)beta2)};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("adam.advance", VKM_KERNEL_ADAM_ADVANCE, 1, args),
        .groups = {1, 1, 1}, .read = {stats}, .write = {state, control}});
}
