#include "ops/tiles.h"

void vkm_op_embed(struct vkm_rec *rec, struct vkm_buf w, struct vkm_buf tok, struct vkm_buf y, uint32_t T, uint32_t D)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_embed_args args = {w.addr, tok.addr, y.addr, T, D};
    struct vkm_dispatch dispatch = {
        VKM_DISPATCH("embed", VKM_KERNEL_EMBED, vkm_tiles(ctx).row_wg, args), .groups = vkm_groups(ctx, T), .read = {w, tok},
        .write = {y}};
    vkm_dispatch_lanes(&dispatch, vkm_lanes_row(ctx, D, dispatch.spec[0]));
    vkm_rec_dispatch(rec, &dispatch);
}

enum { MOST_COLUMNS = 32 }; /* of an invocation: they are in registers */

void vkm_op_embed_bwd(struct vkm_rec *rec, struct vkm_buf dw, struct vkm_buf tok, struct vkm_buf dy, uint32_t T,
                      uint32_t D, uint32_t V)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const struct vkm_tiles tiles = vkm_tiles(ctx);
    const uint32_t wg = ctx->caps.subgroup;
    uint32_t n = 1; /* the more, the less often the tokens are looked at; the fewer, the more subgroups there are */
    while (n < MOST_COLUMNS && n * wg < D && (uint64_t)V * vkm_div_up(D, 2 * n * wg) >= tiles.embed_subgroups)
        n *= 2;
    struct vkm_embed_bwd_args args = {dw.addr, tok.addr, dy.addr, T, D, V};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        .label = "embed.bwd", .kernel = VKM_KERNEL_EMBED_BWD, .args = &args, .args_bytes = sizeof args,
        .spec = {[0] = wg, [SPEC_EMBED_N] = n, [SPEC_EMBED_ROWS] = tiles.embed_rows}, .spec_count = SPEC_EMBED_ROWS + 1,
        .groups = vkm_groups(ctx, (uint64_t)V * vkm_div_up(D, n * wg)), .read = {tok, dy}, .write = {dw}});
}
