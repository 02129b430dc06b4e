#include "ops/colsum.h"
#include "ops/tiles.h"

uint32_t vkm_gemm_parts(const struct vkmoe_context *ctx, const struct vkm_routing *routing)
{
    return vkm_div_up(routing->F, vkm_routed_tiles(ctx, routing).bn);
}

static uint32_t type_of(const struct vkm_gemm *g)
{
    return g->routing ? g->routing->type : g->type;
}

enum { GEMM_LANES_STRIP = 32 }; /* columns of C that gemm_lanes computes at a time */

/* gemm_panel's code has a load for each number of the panel: where each is loaded by itself, compiling took a minute. */
enum { PANEL_BK_UNALIGNED = 8 };

/* Neighbours in memory can be loaded at once: rows are whole fours of them (pairs, where gemm_panel takes pairs) and begin on such an
 * address. */
static bool vec4_rows(const struct vkm_gemm *g, uint32_t narrow, bool panel)
{
    uint64_t a_align = narrow & NARROW_A ? 8 : 16, b_align = narrow & NARROW_B ? 8 : 16;
    if (g->a.addr % a_align || g->b.addr % b_align)
        return false;
    if (panel)
        return (g->form == GEMM_TN || g->k % 4 == 0) && (g->form == GEMM_NT || g->n % 2 == 0);
    return (g->form == GEMM_TN ? g->m : g->k) % 4 == 0 && (g->form == GEMM_NT ? g->k : g->n) % 4 == 0;
}

/* Likewise the rows of all results, for the kernels that write four at once. */
static bool vec4_results(const struct vkm_gemm *g, uint32_t narrow)
{
    return g->n % 4 == 0 && (g->c.addr | g->act.addr) % (narrow & NARROW_C ? 8 : 16) == 0 && g->base.addr % 16 == 0;
}

/* gemm_lanes takes rows of whole vectors, and of C of whole strips. It has the tile as it is, for what else follows from that. */
static bool take_lanes(const struct vkmoe_context *ctx, const struct vkm_gemm *g, struct vkm_gemm_tiles *tiles)
{
    const uint64_t addresses = g->a.addr | g->b.addr | g->c.addr | g->base.addr | g->act.addr;
    const bool reduction = g->form == GEMM_TN;
    const uint32_t tm = reduction ? 4 : 2, terms = reduction && g->routing ? g->k / g->routing->E : g->k; /* of a sum */
    if (!vkm_lanes(ctx) || addresses % 16 || g->n % GEMM_LANES_STRIP ||
        (reduction ? g->m % tm : g->form == GEMM_NT ? g->k % VKM_LANES : g->k % 4))
        return false;
    tiles->kernel = VKM_KERNEL_GEMM_LANES;
    if (!g->routing || reduction) /* else the tile map has them */
        tiles->bm = vkm_lanes_rows(ctx, tiles->bm, g->m, (uint64_t)vkm_div_up(g->n, tiles->bn) * (g->routing ? g->routing->E : 1));
    tiles->bk = (reduction ? terms >= 512 : terms % 128 == 0) ? 128 : 64;
    tiles->bk = tiles->bk < vkm_lanes(ctx) ? tiles->bk : vkm_lanes(ctx);
    tiles->tm = tm;
    tiles->tn = 4;
    return true;
}

static void list_access(const struct vkm_gemm *g, bool cut_up, struct vkm_dispatch *dispatch)
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
    if (cut_up) {
        dispatch->read[reads++] = routing->slot_of;
        dispatch->read[reads++] = routing->idx;
        dispatch->write[writes++] = g->partial;
    }
    if (g->epilogue != EPILOGUE_STORE)
        dispatch->write[writes++] = g->act;
    if (g->epilogue == EPILOGUE_DSWIGLU && routing) {
        dispatch->read[reads++] = g->gate;
        dispatch->read[reads++] = routing->slot_of;
        dispatch->write[writes++] = g->dgate;
    }
}

/* Terms of a sum that a part has at least; parts that are added in one pass. */
enum { SPLIT_TERMS = 512, SPLIT_MOST = 64 };

/* That fill the device, of sums whose results are [m,n], with tiles of bm by bn */
static uint32_t most_parts(const struct vkmoe_context *ctx, uint32_t m, uint32_t n, uint32_t bm, uint32_t bn)
{
    const uint64_t groups = (uint64_t)vkm_div_up(m, bm) * vkm_div_up(n, bn);
    const uint64_t parts = vkm_tiles(ctx).split_groups / groups;
    return parts < SPLIT_MOST ? (uint32_t)parts : SPLIT_MOST;
}

static uint32_t parts_of(const struct vkmoe_context *ctx, uint32_t type, uint32_t m, uint32_t n, uint32_t k)
{
    const struct vkm_gemm_tiles tiles = vkm_gemm_tiles(ctx, type, vkm_gemm_rows(m, 1));
    uint32_t parts = most_parts(ctx, m, n, tiles.bm, tiles.bn);
    parts = parts < k / SPLIT_TERMS ? parts : k / SPLIT_TERMS;
    return parts < 2 ? 1 : parts;
}

uint64_t vkm_gemm_partial(const struct vkmoe_context *ctx, uint32_t type, uint32_t m, uint32_t n, uint32_t k)
{
    const uint32_t parts = parts_of(ctx, type, m, n, k);
    return parts > 1 ? sizeof(float) * parts * m * n : 0;
}

/* Rows of a part of an expert's sum, see shaders/common/parts.glsl; all, where no sum is cut up. An expert has at most T rows. They do not
 * follow from the tiles in use: whichever those are, experts' gradients have the same bits, which tuning counts on. */
enum { SPLIT_TILE = 128 };
static uint32_t rows_of_part(const struct vkmoe_context *ctx, const struct vkm_routing *r, uint32_t m, uint32_t n)
{
    const uint32_t rows = r->T * r->K, parts = most_parts(ctx, m, n, SPLIT_TILE, SPLIT_TILE);
    const uint32_t part = parts < 2 ? rows : vkm_div_up(rows, parts) > SPLIT_TERMS ? vkm_div_up(rows, parts) : SPLIT_TERMS;
    return part + part / 2 < r->T ? part : rows;
}

static uint32_t places_of(const struct vkm_routing *r, uint32_t part)
{
    return (r->T * r->K - 1) / part;
}

uint64_t vkm_gemm_partial_routed(const struct vkmoe_context *ctx, const struct vkm_routing *r, uint32_t m, uint32_t n)
{
    return sizeof(float) * places_of(r, rows_of_part(ctx, r, m, n)) * m * n;
}

/* part: terms of a sum that a workgroup adds up; parts: of a sum, and of experts' sums the places of further parts */
static void product(struct vkm_rec *rec, const struct vkm_gemm *g, uint32_t part, uint32_t parts)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const struct vkm_routing *routing = g->routing;
    const bool by_expert = routing && g->form == GEMM_TN;
    const uint32_t type = type_of(g);
    const uint32_t narrow = type == TYPE_F32 ? 0 : g->narrow;
    struct vkm_gemm_tiles tiles =
        routing ? vkm_routed_tiles(ctx, routing) : vkm_gemm_tiles(ctx, type, vkm_gemm_rows(g->m, 1));
    const bool lanes = type == TYPE_F32 && take_lanes(ctx, g, &tiles), panel = ctx->caps.cpu && !tiles.cm.m && !lanes;
    const bool vec4 = lanes ? g->k % tiles.bk == 0 : vec4_rows(g, narrow, panel);
    const uint32_t aligned =
        (vec4 ? VEC4_OPERANDS : 0) | (!lanes && !panel && vec4_results(g, narrow) ? VEC4_RESULTS : 0);
    if (panel && !vec4)
        tiles.bk = PANEL_BK_UNALIGNED;
    while (panel && !routing && tiles.tn > 2 && g->epilogue == EPILOGUE_STORE && 2 * g->n <= tiles.bn) { /* a router's few columns */
        tiles.tn /= 2;
        tiles.bn /= 2;
    }
    struct vkm_gemm_args args = {
        .a = g->a.addr, .b = g->b.addr, .c = g->c.addr, .base = g->accumulate ? g->c.addr : g->base.addr,
        .m = g->m, .n = g->n, .k = g->k, .part = part, .alpha = g->alpha == 0 ? 1 : g->alpha,
        .act = g->act.addr, .gate = g->gate.addr, .dgate = g->dgate.addr};
    struct vkm_dispatch dispatch = {
        .label = g->label, .kernel = tiles.kernel, .args = &args, .args_bytes = sizeof args,
        .spec = {[0] = tiles.wg, [SPEC_GEMM_FORM] = g->form, [SPEC_GEMM_EPILOGUE] = g->epilogue,
                 [SPEC_GEMM_GROUPED] = routing != NULL, [SPEC_GEMM_VEC4] = aligned, [SPEC_GEMM_BM] = tiles.bm,
                 [SPEC_GEMM_TM] = tiles.tm, [SPEC_GEMM_TN] = tiles.tn, [SPEC_GEMM_BK] = tiles.bk,
                 [SPEC_GEMM_GATHER] = g->gather, [SPEC_GEMM_TYPE] = type, [SPEC_GEMM_NARROW] = narrow,
                 [SPEC_GEMM_BN] = tiles.bn, [SPEC_GEMM_CM_M] = tiles.cm.m, [SPEC_GEMM_CM_N] = tiles.cm.n,
                 [SPEC_GEMM_CM_K] = tiles.cm.k},
        .spec_count = tiles.cm.m ? SPEC_GEMM_CM_K + 1 : SPEC_GEMM_BN + 1,
        .subgroup = vkm_gemm_subgroup(ctx, &tiles, g->epilogue),
        .groups = {vkm_div_up(g->m, tiles.bm), vkm_div_up(g->n, tiles.bn), parts + (by_expert ? routing->E : 0)},
        .flops = 2ull * g->m * g->n * g->k * (g->epilogue == EPILOGUE_SWIGLU ? 2 : 1)};
    if (lanes) {
        dispatch.spec[SPEC_GEMM_BASE] = args.base == 0 ? BASE_NONE : args.base == args.c ? BASE_C : BASE_OTHER;
        dispatch.spec_count = SPEC_GEMM_BASE + 1;
    }
    /* Each thread of a CPU takes a range of workgroups: let it be columns, as experts differ (COLUMNS_OUTERMOST). */
    if ((lanes || panel) && g->form == GEMM_TN)
        dispatch.groups = (struct vkm_groups){dispatch.groups.x, dispatch.groups.z, dispatch.groups.y};
    if (routing) {
        args.offset = routing->offset.addr;
        args.gather = routing->token_of.addr;
        args.gather_rows = routing->T;
        args.slot = routing->slot_of.addr;
        args.tiles = routing->tiles.addr;
        args.idx = routing->idx.addr;
        args.partial = g->partial.addr;
        if (g->form != GEMM_TN)
            dispatch.indirect = vkm_buf_slice(routing->commands, g->n == routing->F ? 0 : sizeof(VkDispatchIndirectCommand),
                                              sizeof(VkDispatchIndirectCommand));
    }
    list_access(g, by_expert && parts > 0, &dispatch);
    vkm_rec_dispatch(rec, &dispatch);
}

/* C is of 32 bits. */
static bool has_wide_results(const struct vkm_gemm *g)
{
    return type_of(g) == TYPE_F32 || !(g->narrow & NARROW_C);
}

/* Sums over an expert's rows. */
static void routed_sums(struct vkm_rec *rec, const struct vkm_gemm *g)
{
    const struct vkmoe_context *ctx = vkm_rec_context(rec);
    const struct vkm_routing *r = g->routing;
    const bool may_cut = g->partial.bytes && has_wide_results(g);
    const uint32_t part = may_cut ? rows_of_part(ctx, r, g->m, g->n) : g->k, places = places_of(r, part);
    product(rec, g, part, places);
    if (places == 0)
        return;
    const uint32_t wg = vkm_tiles(ctx).flat_wg, size = g->m * g->n;
    struct vkm_gemm_parts_args args = {.partial = g->partial.addr, .c = g->c.addr, .offset = r->offset.addr, .slot = r->slot_of.addr,
                                       .idx = r->idx.addr, .experts = r->E, .rows = g->k, .part = part, .size = size};
    vkm_rec_dispatch(rec, &(struct vkm_dispatch){
        VKM_DISPATCH(g->label, VKM_KERNEL_GEMM_PARTS, wg, args), .groups = {vkm_div_up(size, wg), places, 1},
        .read = {g->partial, r->offset, r->slot_of, r->idx}, .write = {g->c}});
}

/* Sums over all rows. */
static void long_sums(struct vkm_rec *rec, const struct vkm_gemm *g)
{
    const struct vkm_buf none = {0};
    const bool may_cut = g->partial.bytes && !g->base.bytes && has_wide_results(g);
    const uint32_t parts = may_cut ? parts_of(vkm_rec_context(rec), g->type, g->m, g->n, g->k) : 1;
    if (parts == 1) {
        product(rec, g, g->k, 1);
        return;
    }
    struct vkm_gemm part = *g;
    part.c = vkm_buf_slice(g->partial, 0, sizeof(float) * parts * g->m * g->n);
    part.accumulate = false;
    product(rec, &part, vkm_div_up(g->k, parts), parts);
    vkm_op_colsum(rec, g->label, part.c, none, none, g->c, none, parts, g->m * g->n, g->accumulate);
}

void vkm_op_gemm(struct vkm_rec *rec, const struct vkm_gemm *g)
{
    if (g->form != GEMM_TN)
        product(rec, g, g->k, 1);
    else if (g->routing)
        routed_sums(rec, g);
    else
        long_sums(rec, g);
}
