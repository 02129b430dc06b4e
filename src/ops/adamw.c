#include "ops/tiles.h"

void vkm_op_grad_square(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf partial, uint64_t count)
{
    struct vkm_grad_norm_args args = {.x = x.addr, .partial = partial.addr, .count = (uint32_t)count};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("grad.square", VKM_KERNEL_GRAD_SQUARE, vkm_tiles(vkm_rec_context(rec)).flat_wg, args),
        .groups = {VKM_NORM_PARTIALS, 1, 1}, .read = {x}, .write = {partial}});
}

void vkm_op_grad_norm(struct vkm_rec *rec, struct vkm_buf partials, struct vkm_buf stats, uint32_t count, float clip)
{
    struct vkm_grad_norm_args args = {.partial = partials.addr, .stats = stats.addr, .partials = count, .clip = clip};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("grad.norm", VKM_KERNEL_GRAD_NORM, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {1, 1, 1}, .read = {partials}, .write = {stats}});
}

void vkm_op_adamw(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf g, struct vkm_buf m, struct vkm_buf v,
                  struct vkm_buf control, struct vkm_buf stats, uint64_t count, float beta1, float beta2, float eps,
                  float decay)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t wg = vkm_tiles(ctx).flat_wg;
    struct vkm_adamw_args args = {w.addr, g.addr, m.addr, v.addr, control.addr, stats.addr, (uint32_t)count,
                                  beta1, beta2, eps, decay};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("adamw", VKM_KERNEL_ADAMW, wg, args), .groups = vkm_groups(ctx, vkm_div_up(count, wg)),
        .read = {control, stats}, .write = {w, g, m, v}});
}
