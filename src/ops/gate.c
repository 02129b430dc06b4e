#include "ops/tiles.h"

void vkm_op_gate(struct vkm_rec *rec, const struct vkm_gate *gate)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_gate_args args = {
        gate->z.addr, gate->bias.addr, gate->idx.addr, gate->g.addr, gate->lse.addr, gate->T, gate->E, gate->K,
        gate->sigmoid, gate->norm_topk, gate->drop_top, gate->prune_below};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("gate", VKM_KERNEL_GATE, ctx->caps.subgroup, args), .groups = vkm_groups(ctx, gate->T),
        .write = {gate->z, gate->idx, gate->g}};
    if (gate->bias.bytes)
        dispatch.read[0] = gate->bias;
    if (!gate->sigmoid)
        dispatch.write[3] = gate->lse;
    vkm_rec_dispatch(rec, &dispatch);
}

void vkm_op_gate_bwd(struct vkm_rec *rec, const struct vkm_gate *gate, const struct vkm_routing *routing,
                     const struct vkm_gate_grad *grad)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    bool lbl = grad->lbl_coef > 0;
    uint32_t T = gate->T;
    /* What is not used is some array that is there: see gemm.glsl on loads that no lane wants. */
    struct vkm_buf load = lbl ? grad->load : gate->z, lse = gate->sigmoid ? gate->z : gate->lse;
    struct vkm_gate_bwd_args args = {
        gate->z.addr, gate->idx.addr, gate->g.addr, grad->dgate.addr, routing->row_of.addr, load.addr, lse.addr,
        grad->dz.addr, grad->loss_scale.addr, T, gate->E, grad->parts, gate->sigmoid, gate->norm_topk,
        lbl ? grad->group : T, lbl && grad->lbl_full, lbl ? (float)((double)grad->lbl_coef * gate->E / T) : 0, (float)(2.0 * grad->z_coef / T)};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("gate.bwd", VKM_KERNEL_GATE_BWD, ctx->caps.subgroup, args), .groups = vkm_groups(ctx, T),
        .read = {gate->z, gate->idx, gate->g, grad->dgate, routing->row_of, load, lse, grad->loss_scale}, .write = {grad->dz}};
    dispatch.spec[SPEC_GATE_K] = gate->K;
    dispatch.spec_count = SPEC_GATE_K + 1;
    vkm_rec_dispatch(rec, &dispatch);
}
