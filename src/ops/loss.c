#include "ops/colsum.h"
#include "ops/tiles.h"

void vkm_op_xent(struct vkm_rec *rec, struct vkm_buf logits, struct vkm_buf target, struct vkm_buf loss,
                 struct vkm_buf z_loss, struct vkm_buf loss_scale, uint32_t T, uint32_t V, float z_coef, float scale)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_xent_args args = {logits.addr, target.addr, loss.addr, z_loss.addr, loss_scale.addr, T, V, z_coef, scale};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("xent", VKM_KERNEL_XENT, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, T), .read = {target, loss_scale}, .write = {logits, loss, z_loss}});
}

void vkm_op_sum(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf out, uint32_t count, float scale)
{
    struct vkm_sum_args args = {x.addr, out.addr, count, scale};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("sum", VKM_KERNEL_SUM, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {1, 1, 1}, .read = {x}, .write = {out}});
}

void vkm_op_simbal(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf dw, struct vkm_buf row, struct vkm_buf loss_scale,
                   uint32_t E, uint32_t D, float coef)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_simbal_args args = {w.addr, dw.addr, row.addr, loss_scale.addr, E, D, coef};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("simbal", VKM_KERNEL_SIMBAL, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, E), .read = {w, loss_scale}, .write = {dw, row}};
    vkm_dispatch_lanes(&dispatch, vkm_lanes_row(ctx, D, dispatch.spec[0]));
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_expert_load(struct vkm_rec *rec, const struct vkm_gate *gate, uint32_t group, struct vkm_buf load)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t groups = gate->T / group;
    struct vkm_expert_load_args args = {
        .idx = gate->idx.addr, .load = load.addr, .groups = groups, .group = group, .E = gate->E, .K = gate->K};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("expert.load", VKM_KERNEL_EXPERT_LOAD, vkm_tiles(ctx).scan_wg, args), .groups = vkm_groups(ctx, groups), .read = {gate->idx}, .write = {load}});
}

void vkm_op_expert_load_total(struct vkm_rec *rec, uint32_t E, uint32_t K, struct vkm_buf count, struct vkm_buf load)
{
    uint32_t wg = vkm_tiles(vkm_rec_context(rec)).flat_wg;
    struct vkm_expert_load_args args = {.count = count.addr, .load = load.addr, .groups = 1, .E = E, .K = K};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("expert.load.total", VKM_KERNEL_EXPERT_LOAD_TOTAL, wg, args), .groups = {vkm_div_up(E, wg), 1, 1},
        .read = {count}, .write = {load}});
}

void vkm_op_lbl(struct vkm_rec *rec, const struct vkm_gate *gate, struct vkm_buf load, uint32_t group, bool full,
                struct vkm_buf out, struct vkm_buf scratch, float coef)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_buf term = vkm_buf_slice(scratch, 0, gate->T * sizeof(float));
    struct vkm_lbl_args args = {gate->z.addr, gate->idx.addr, load.addr, term.addr, gate->T, gate->E, gate->K, group, full,
                                gate->sigmoid};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("lbl", VKM_KERNEL_LBL, ctx->caps.subgroup, args), .groups = vkm_groups(ctx, gate->T),
        .read = {gate->z, gate->idx, load}, .write = {term}});
    vkm_op_sum(rec, term, out, gate->T, (float)((double)coef * gate->E / gate->T));
}

uint64_t vkm_square_scratch(uint32_t count)
{
    return vkm_colsum_scratch(count, 1);
}

void vkm_op_square(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf out, struct vkm_buf scratch, uint32_t count)
{
    vkm_op_colsum(rec, "square", x, x, (struct vkm_buf){0}, out, vkm_buf_slice(scratch, 0, vkm_square_scratch(count)), count,
                  1, true);
}

void vkm_op_lossfree(struct vkm_rec *rec, struct vkm_buf bias, struct vkm_buf count, struct vkm_buf stats, uint32_t E,
                     float rate)
{
    uint32_t wg = vkm_tiles(vkm_rec_context(rec)).flat_wg;
    struct vkm_lossfree_args args = {bias.addr, count.addr, stats.addr, E, rate};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("lossfree", VKM_KERNEL_LOSSFREE, wg, args), .groups = {vkm_div_up(E, wg), 1, 1},
        .read = {count, stats}, .write = {bias}});
}
