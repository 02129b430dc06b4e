#include "ops/tiles.h"

/* Tiles of all experts' rows: each expert's last may be part empty. */
static uint64_t most_tiles(const struct vkmoe_context *ctx, const struct vkm_routing *r)
{
    return vkm_div_up((uint64_t)r->T * r->K, vkm_routed_tiles(ctx, r).bm) + (uint64_t)r->E;
}

void vkm_routing_reserve(const struct vkmoe_context *ctx, struct vkm_arena *arena, struct vkm_routing *r)
{
    struct vkm_tiles tiles = vkm_tiles(ctx);
    uint64_t R = (uint64_t)r->T * r->K;
    vkm_arena_reserve(arena, "routing.count", r->E * 4ull, &r->count);
    vkm_arena_reserve(arena, "routing.offset", (r->E + 1) * 4ull, &r->offset);
    vkm_arena_reserve(arena, "routing.row_of", R * 4, &r->row_of);
    vkm_arena_reserve(arena, "routing.token_of", R * 4, &r->token_of);
    vkm_arena_reserve(arena, "routing.slot_of", R * 4, &r->slot_of);
    vkm_arena_reserve(arena, "routing.chunks", vkm_div_up(r->T, tiles.route_chunk) * 4ull * r->E, &r->chunk_count);
    vkm_arena_reserve(arena, "routing.tiles", most_tiles(ctx, r) * sizeof(struct gemm_tile), &r->tiles);
    vkm_arena_reserve(arena, "routing.commands", 2 * sizeof(VkDispatchIndirectCommand), &r->commands);
}

/* A CPU device takes longer to begin two more kernels than one of its processors to go through so many slots. */
enum { ROUTE_ALONE_SLOTS = 8192 };

void vkm_op_route(struct vkm_rec *rec, const struct vkm_routing *r, struct vkm_buf total)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const struct vkm_tiles tiles = vkm_tiles(ctx);
    const struct vkm_gemm_tiles product = vkm_routed_tiles(ctx, r);
    if (most_tiles(ctx, r) > ctx->caps.max_groups) {
        vkm_rec_fail(rec, vkm_fail(&ctx->log, VKMOE_ERROR_ARGUMENT,
                                   "%u tokens with %u experts each make more than %u tiles, the most this device launches; "
                                   "use a smaller batch", r->T, r->K, ctx->caps.max_groups));
        return;
    }
    struct vkm_route_args args = {
        r->idx.addr, r->chunk_count.addr, r->count.addr, total.addr, r->offset.addr, r->row_of.addr, r->token_of.addr,
        r->slot_of.addr, r->tiles.addr, r->commands.addr, r->T, r->E, r->K, tiles.route_chunk, product.bm,
        vkm_div_up(r->F, product.bn), vkm_div_up(r->D, product.bn)};
    if (ctx->caps.cpu && (uint64_t)r->T * r->K <= ROUTE_ALONE_SLOTS) {
        vkm_rec_dispatch(rec, &(struct vkm_dispatch){
            VKM_DISPATCH("route", VKM_KERNEL_ROUTE_ALONE, ctx->caps.subgroup, args), .groups = {1, 1, 1}, .read = {r->idx},
            .write = {r->count, r->offset, r->row_of, r->token_of, r->slot_of, r->tiles, r->commands, total}});
        return;
    }
    const struct vkm_groups chunks = vkm_groups(ctx, vkm_div_up(r->T, tiles.route_chunk));
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("route.count", VKM_KERNEL_ROUTE_COUNT, ctx->caps.subgroup, args), .groups = chunks, .read = {r->idx},
        .write = {r->chunk_count}});
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("route.scan", VKM_KERNEL_ROUTE_SCAN, tiles.scan_wg, args), .groups = {1, 1, 1},
        .write = {r->chunk_count, r->count, r->offset, r->tiles, r->commands, total}});
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH("route.scatter", VKM_KERNEL_ROUTE_SCATTER, ctx->caps.subgroup, args), .groups = chunks,
        .read = {r->idx, r->offset, r->chunk_count}, .write = {r->row_of, r->token_of, r->slot_of}});
}

void vkm_op_combine(struct vkm_rec *rec, const struct vkm_routing *routing, struct vkm_buf rows, struct vkm_buf g,
                    struct vkm_buf base, struct vkm_buf y, uint32_t D)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const bool vec4 = D % 4 == 0 && (rows.addr | base.addr | y.addr) % 16 == 0;
    struct vkm_combine_args args = {rows.addr, routing->row_of.addr, g.addr, base.addr, y.addr, routing->T, D};
    struct vkm_dispatch dispatch = {
        .label = "combine", .kernel = routing->type == TYPE_F32 ? VKM_KERNEL_COMBINE : VKM_KERNEL_COMBINE_16, .args = &args,
        .args_bytes = sizeof args,
        .spec = {[0] = vkm_tiles(ctx).row_wg, [SPEC_TYPE] = routing->type,
                 [SPEC_LANES] = routing->type == TYPE_F32 && vkm_lanes_fit(ctx, D) ? D : 0, [SPEC_COMBINE_K] = routing->K,
                 [SPEC_COMBINE_WEIGHTED] = g.bytes != 0, [SPEC_COMBINE_VEC4] = vec4},
        .spec_count = SPEC_COMBINE_VEC4 + 1, .groups = vkm_groups(ctx, routing->T), .read = {rows, routing->row_of},
        .write = {y}};
    uint32_t reads = 2;
    if (g.bytes)
        dispatch.read[reads++] = g;
    if (base.bytes)
        dispatch.read[reads++] = base;
    vkm_rec_dispatch(rec, &dispatch);
}
