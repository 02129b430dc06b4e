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

/* The more columns an invocation has, the less often the tokens are looked at; the fewer, the more subgroups there are. */
enum { EMBED_MOST = 8, EMBED_SUBGROUPS = 4096, EMBED_SUBGROUPS_CPU = 64 };

void vkm_op_embed_bwd(struct vkm_rec *rec, struct vkm_buf dw, struct vkm_buf tok, struct vkm_buf dy, uint32_t T,
                      uint32_t D, uint32_t V)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const uint32_t wg = ctx->caps.subgroup, enough = ctx->caps.cpu ? EMBED_SUBGROUPS_CPU : EMBED_SUBGROUPS;
    const uint32_t most = vkm_div_up(D / 4, wg);
    uint32_t n = 1;
    while (n < EMBED_MOST && n < most && (uint64_t)V * vkm_div_up(most, 2 * n) >= enough)
        n *= 2;
    struct vkm_embed_bwd_args args = {dw.addr, tok.addr, dy.addr, T, D, V};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        .label = "embed.bwd", .kernel = VKM_KERNEL_EMBED_BWD, .args = &args, .args_bytes = sizeof args,
        .spec = {[0] = wg, [SPEC_EMBED_N] = n, [SPEC_EMBED_AHEAD] = ctx->caps.cpu ? 1 : 4}, .spec_count = SPEC_EMBED_AHEAD + 1,
        .groups = vkm_groups(ctx, (uint64_t)V * vkm_div_up(most, n)), .read = {tok, dy}, .write = {dw}});
}
