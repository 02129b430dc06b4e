#include "ops/tiles.h"

void vkm_op_embed(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf tok, struct vkm_buf y, uint32_t T, uint32_t D)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_tiles tiles = vkm_tiles(ctx);
    struct vkm_embed_args args = {w.addr, tok.addr, y.addr, T, D};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("embed", VKM_KERNEL_EMBED, tiles.flat_wg, args),
        .groups = vkm_groups(ctx, vkm_div_up((uint64_t)T * D, tiles.flat_wg)), .read = {w, tok}, .write = {y}});
}

void vkm_op_embed_bwd(struct vkm_rec *rec, struct vkm_buf dw, struct vkm_buf tok, struct vkm_buf dy, uint32_t T,
                      uint32_t D, uint32_t V)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_embed_bwd_args args = {dw.addr, tok.addr, dy.addr, T, D, V};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("embed.bwd", VKM_KERNEL_EMBED_BWD, ctx->caps.subgroup, args),
        .groups = vkm_groups(ctx, V), .read = {tok, dy}, .write = {dw}});
}
