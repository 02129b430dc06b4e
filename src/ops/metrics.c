/* What is measured of routing: never part of a step that is not measured. */
#include "ops/tiles.h"

void vkm_op_entropy(struct vkm_rec *rec, const struct vkm_gate *gate, struct vkm_buf full, struct vkm_buf topk)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_entropy_args args = {gate->z.addr, gate->idx.addr, full.addr, topk.addr, gate->T, gate->E, gate->K};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("measure.entropy", VKM_KERNEL_ENTROPY, ctx->caps.subgroup, args), .groups = vkm_groups(ctx, gate->T),
        .read = {gate->z, gate->idx}, .write = {full, topk}});
}

void vkm_op_seu(struct vkm_rec *rec, struct vkm_buf load, struct vkm_buf used, uint32_t groups, uint32_t E)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_seu_args args = {load.addr, used.addr, groups, E};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("measure.seu", VKM_KERNEL_SEU, ctx->caps.subgroup, args), .groups = vkm_groups(ctx, groups),
        .read = {load}, .write = {used}});
}

void vkm_op_histogram(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf bins, uint32_t count)
{
    struct vkm_histogram_args args = {x.addr, bins.addr, count};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("measure.histogram", VKM_KERNEL_HISTOGRAM, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {GATE_BINS, 1, 1}, .read = {x}, .write = {bins}});
}

void vkm_op_gram(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf square, struct vkm_buf most, struct vkm_buf scratch,
                 uint32_t E, uint32_t D)
{
    struct vkm_buf gram = vkm_buf_slice(scratch, 0, (uint64_t)E * E * sizeof(float));
    struct vkm_gram_args args = {gram.addr, square.addr, most.addr, E};
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "measure.gram", .form = GEMM_NT, .a = w, .b = w, .c = gram, .m = E, .n = E, .k = D});
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("measure.gram.size", VKM_KERNEL_GRAM, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {1, 1, 1}, .read = {gram}, .write = {square, most}});
}

void vkm_op_routing_change(struct vkm_rec *rec, struct vkm_buf before, struct vkm_buf idx, struct vkm_buf changed,
                           uint32_t T, uint32_t K)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    uint32_t wg = vkm_tiles(ctx).flat_wg;
    struct vkm_routing_change_args args = {before.addr, idx.addr, changed.addr, T, K};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("measure.change", VKM_KERNEL_ROUTING_CHANGE, wg, args), .groups = vkm_groups(ctx, vkm_div_up(T, wg)),
        .read = {idx}, .write = {before, changed}});
}

void vkm_op_pes(struct vkm_rec *rec, struct vkm_buf rows, struct vkm_buf pes, uint32_t T, uint32_t D, uint32_t E)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_pes_args args = {rows.addr, pes.addr, T, D, E};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("measure.pes", VKM_KERNEL_PES, vkm_tiles(ctx).row_wg, args), .groups = vkm_groups(ctx, T),
        .read = {rows}, .write = {pes}});
}
