#include "ops/tiles.h"

uint32_t vkm_gemm_parts(const struct vkmoe_context *ctx, uint32_t n)
{
    return vkm_div_up(n, vkm_tiles(ctx).bn);
}

/* Whole vec4s along the sum: every row of A (and of B in NT) begins on 16 bytes. */
static bool vec4_rows(const struct vkm_gemm *g)
{
    return g->form != GEMM_TN && g->k % 4 == 0 && g->a.addr % 16 == 0 && g->b.addr % 16 == 0;
}

static void list_access(const struct vkm_gemm *g, struct vkm_dispatch *dispatch)
{
    uint32_t reads = 0, writes = 0;
    const struct vkm_routing *routing = g->routing;
    dispatch->read[reads++] = g->a;
    dispatch->read[reads++] = g->b;
    if (g->base.bytes)
        dispatch->read[reads++] = g->base;
    if (routing) {
        dispatch->read[reads++] = routing->offset;
        dispatch->read[reads++] = routing->token_of;
        if (g->form != GEMM_TN)
            dispatch->read[reads++] = routing->tiles;
    }
    dispatch->write[writes++] = g->c;
    if (g->epilogue != EPILOGUE_STORE)
        dispatch->write[writes++] = g->act;
    if (g->epilogue == EPILOGUE_DSWIGLU && routing) {
        dispatch->read[reads++] = g->gate;
        dispatch->read[reads++] = routing->slot_of;
        dispatch->write[writes++] = g->dgate;
    }
}

void vkm_op_gemm(struct vkm_rec *rec, const struct vkm_gemm *g)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    struct vkm_tiles tiles = vkm_tiles(ctx);
    const struct vkm_routing *routing = g->routing;
    struct vkm_gemm_args args = {
        .a = g->a.addr, .b = g->b.addr, .c = g->c.addr, .base = g->accumulate ? g->c.addr : g->base.addr,
        .m = g->m, .n = g->n, .k = g->k, .alpha = g->alpha == 0 ? 1 : g->alpha,
        .act = g->act.addr, .gate = g->gate.addr, .dgate = g->dgate.addr};
    struct vkm_dispatch dispatch = {
        .label = g->label, .kernel = tiles.gemm, .args = &args, .args_bytes = sizeof args,
        .spec = {[0] = tiles.gemm_wg, [SPEC_GEMM_FORM] = g->form, [SPEC_GEMM_EPILOGUE] = g->epilogue,
                 [SPEC_GEMM_GROUPED] = routing != NULL, [SPEC_GEMM_VEC4] = vec4_rows(g), [SPEC_GEMM_BM] = tiles.bm,
                 [SPEC_GEMM_TM] = tiles.tm, [SPEC_GEMM_TN] = tiles.tn, [SPEC_GEMM_BK] = tiles.bk,
                 [SPEC_GEMM_GATHER] = g->gather},
        .spec_count = SPEC_GEMM_GATHER + 1,
        .groups = {vkm_div_up(g->m, tiles.bm), vkm_div_up(g->n, tiles.bn), 1},
        .flops = 2ull * g->m * g->n * g->k * (g->epilogue == EPILOGUE_SWIGLU ? 2 : 1)};
    if (routing) {
        args.offset = routing->offset.addr;
        args.gather = routing->token_of.addr;
        args.gather_rows = routing->T;
        args.slot = routing->slot_of.addr;
        args.tiles = routing->tiles.addr;
        if (g->form == GEMM_TN)
            dispatch.groups.z = routing->E;
        else
            dispatch.indirect = vkm_buf_slice(routing->commands, g->n == routing->F ? 0 : sizeof(VkDispatchIndirectCommand),
                                              sizeof(VkDispatchIndirectCommand));
    }
    list_access(g, &dispatch);
    vkm_rec_dispatch(rec, &dispatch);
}
