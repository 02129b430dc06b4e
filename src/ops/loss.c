#include "ops/colsum.h"
#include "ops/tiles.h"

void vkm_op_xent(struct vkm_rec *rec, struct vkm_buf logits, struct vkm_buf target, struct vkm_buf loss,
                 struct vkm_buf z_loss, uint32_t T, uint32_t V, float z_coef, float scale)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_xent_args args = {logits.addr, target.addr, loss.addr, z_loss.addr, T, V, z_coef, scale};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("xent", VKM_KERNEL_XENT, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, T), .read = {target}, .write = {logits, loss, z_loss}});
}

void vkm_op_sum(struct vkm_rec *rec, struct vkm_buf x, struct vkm_buf out, uint32_t count, float scale)
{
    struct vkm_sum_args args = {x.addr, out.addr, count, scale};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("sum", VKM_KERNEL_SUM, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {1, 1, 1}, .read = {x}, .write = {out}});
}

static uint64_t gram_bytes(uint32_t E)
{
    return ((uint64_t)E * E * sizeof(float) + VKM_BUF_ALIGN - 1) / VKM_BUF_ALIGN * VKM_BUF_ALIGN;
}

uint64_t vkm_simbal_scratch(uint32_t E)
{
    return gram_bytes(E) + E * sizeof(float);
}

void vkm_op_simbal(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf dw, struct vkm_buf out, struct vkm_buf scratch,
                   uint32_t E, uint32_t D, float coef)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_buf gram = vkm_buf_slice(scratch, 0, (uint64_t)E * E * sizeof(float));
    struct vkm_buf row = vkm_buf_slice(scratch, gram_bytes(E), E * sizeof(float));
    struct vkm_simbal_args args = {gram.addr, row.addr, E};

    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "simbal.gram", .form = GEMM_NT, .a = w, .b = w, .c = gram, .m = E, .n = E, .k = D});
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("simbal", VKM_KERNEL_SIMBAL, vkm_tiles(ctx).row_wg, args),
        .groups = vkm_groups(ctx, E), .write = {gram, row}});
    vkm_op_sum(rec, row, out, E, coef);
    if (dw.bytes)
        vkm_op_gemm(rec, &(struct vkm_gemm){
            .label = "simbal.bwd", .form = GEMM_NN, .a = gram, .b = w, .c = dw, .m = E, .n = D, .k = E,
            .alpha = 2 * coef, .accumulate = true});
}

uint64_t vkm_lbl_scratch(uint32_t T, uint32_t E)
{
    return VKM_BUF_ALIGN * (uint64_t)vkm_div_up(E * sizeof(float), VKM_BUF_ALIGN) + vkm_colsum_scratch(T, E);
}

void vkm_op_lbl(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf p, struct vkm_buf out,
                struct vkm_buf scratch, float scale)
{
    uint32_t T = routing->T, E = routing->E;
    struct vkm_buf none = {0}, psum = vkm_buf_slice(scratch, 0, E * sizeof(float));
    struct vkm_buf partial = vkm_buf_slice(scratch, scratch.bytes - vkm_colsum_scratch(T, E), vkm_colsum_scratch(T, E));
    struct vkm_lbl_args args = {psum.addr, routing->count.addr, out.addr, T, E, scale};
    vkm_op_colsum(rec, "lbl.mean", p, none, none, psum, partial, T, E, false);
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("lbl", VKM_KERNEL_LBL, vkm_tiles(vkm_rec_context(rec)).row_wg, args),
        .groups = {1, 1, 1}, .read = {psum, routing->count}, .write = {out}});
}
