#include "ops/tiles.h"

uint32_t vkm_gemm_parts(const struct vkmoe_context *ctx, const struct vkm_routing *routing)
{
    return vkm_div_up(routing->F, vkm_routed_tiles(ctx, routing).bn);
}

/* gemm_panel's code has a load for each number of the panel: where each is loaded by itself, compiling took a minute. */
enum { PANEL_BK_UNALIGNED = 8 };

/* Neighbours in memory can be loaded at once: rows are whole fours of them (pairs, where gemm_panel takes pairs) and begin on such an
 * address. */
static bool vec4_rows(const struct vkm_gemm *g, uint32_t narrow, const struct vkm_gemm_tiles *tiles, bool panel)
{
    uint64_t a_align = narrow & NARROW_A ? 8 : 16, b_align = narrow & NARROW_B ? 8 : 16;
    if (g->a.addr % a_align || g->b.addr % b_align)
        return false;
    if (panel)
        return (g->form == GEMM_TN || g->k % 4 == 0) && (g->form == GEMM_NT || g->n % 2 == 0);
    if (!tiles->cm.m)
        return g->form != GEMM_TN && g->k % 4 == 0;
    return (g->form == GEMM_TN ? g->m : g->k) % 4 == 0 && (g->form == GEMM_NT ? g->k : g->n) % 4 == 0;
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
    const struct vkm_routing *routing = g->routing;
    const uint32_t type = routing ? routing->type : g->type;
    const uint32_t narrow = type == TYPE_F32 ? 0 : g->narrow;
    struct vkm_gemm_tiles tiles =
        routing ? vkm_routed_tiles(ctx, routing) : vkm_gemm_tiles(ctx, type, vkm_gemm_rows(g->m, 1));
    const bool panel = ctx->caps.cpu && !tiles.cm.m, vec4 = vec4_rows(g, narrow, &tiles, panel);
    if (panel && !vec4)
        tiles.bk = PANEL_BK_UNALIGNED;
    struct vkm_gemm_args args = {
        .a = g->a.addr, .b = g->b.addr, .c = g->c.addr, .base = g->accumulate ? g->c.addr : g->base.addr,
        .m = g->m, .n = g->n, .k = g->k, .alpha = g->alpha == 0 ? 1 : g->alpha,
        .act = g->act.addr, .gate = g->gate.addr, .dgate = g->dgate.addr};
    struct vkm_dispatch dispatch = {
        .label = g->label, .kernel = tiles.kernel, .args = &args, .args_bytes = sizeof args,
        .spec = {[0] = tiles.wg, [SPEC_GEMM_FORM] = g->form, [SPEC_GEMM_EPILOGUE] = g->epilogue,
                 [SPEC_GEMM_GROUPED] = routing != NULL, [SPEC_GEMM_VEC4] = vec4, [SPEC_GEMM_BM] = tiles.bm,
                 [SPEC_GEMM_TM] = tiles.tm, [SPEC_GEMM_TN] = tiles.tn, [SPEC_GEMM_BK] = tiles.bk,
                 [SPEC_GEMM_GATHER] = g->gather, [SPEC_GEMM_TYPE] = type, [SPEC_GEMM_NARROW] = narrow,
                 [SPEC_GEMM_BN] = tiles.bn, [SPEC_GEMM_CM_M] = tiles.cm.m, [SPEC_GEMM_CM_N] = tiles.cm.n,
                 [SPEC_GEMM_CM_K] = tiles.cm.k},
        .spec_count = tiles.cm.m ? SPEC_GEMM_CM_K + 1 : type == TYPE_F32 ? SPEC_GEMM_GATHER + 1 : SPEC_GEMM_NARROW + 1,
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
