#include "ops/tiles.h"

#include <string.h>

enum { SCAN_WG = 1024 };

struct vkm_tiles vkm_tiles(const struct vkmoe_context *ctx)
{
    const struct vkm_caps *caps = &ctx->caps;
    if (caps->cpu) {
        uint32_t wg = caps->subgroup;
        return (struct vkm_tiles){
            .row_wg = wg, .flat_wg = wg * 8, .attention_wg = wg, .attention_lanes = 1, .route_chunk = 64, .scan_wg = wg,
            .split_groups = 0, .embed_subgroups = 64, .embed_rows = 1,
            /* lavapipe's compiler runs over its stack where 16 lanes put two f32 into 64 bits (Mesa 26.2) */
            .pairs = caps->int64 && wg <= 8,
        };
    }
    uint32_t scan_wg = SCAN_WG < caps->max_invocations ? SCAN_WG : caps->max_invocations;
    if (scan_wg > caps->subgroup * caps->max_subgroups)
        scan_wg = caps->subgroup * caps->max_subgroups;
    scan_wg -= scan_wg % caps->subgroup;
    return (struct vkm_tiles){
        .row_wg = caps->subgroup > 128 ? caps->subgroup : 128, .flat_wg = 256, .attention_wg = 64,
        .attention_lanes = caps->subgroup < 16 ? caps->subgroup : 16, /* they sum over lanes of a subgroup */
        .route_chunk = 64, .scan_wg = scan_wg, .split_groups = 512, .embed_subgroups = 4096, .embed_rows = 4, .pairs = false,
    };
}

/* ---- matrix products -------------------------------------------------------------------------------------------- */

/* Tiles that may be best, by kernel. The first is the default for many rows in a group, the first of at most FEW_BM rows that
 * for few. wg and, for gemm_panel, bn follow from the rest. */
enum { FEW_ROWS = 48, FEW_BM = 64 };
struct shape {
    uint32_t bm, bn, bk, tm, tn;
};
/* A lane has tm rows of tn columns, bk deep at a time. */
static const struct shape panel_shapes[] = {
    {64, 0, 64, 64, 8}, {32, 0, 64, 32, 8}, {16, 0, 64, 16, 8}, {64, 0, 32, 64, 8}, {64, 0, 64, 64, 4}, {64, 0, 128, 64, 4}};
/* An invocation has tm by tn. */
static const struct shape tiled_shapes[] = {
    {64, 64, 16, 4, 4}, {128, 64, 16, 8, 4}, {128, 128, 16, 8, 8}, {64, 128, 16, 4, 8}, {32, 64, 16, 4, 4},
    {64, 64, 32, 4, 4}};
/* A subgroup has tm by tn. */
static const struct shape cm_shapes[] = {
    {128, 128, 32, 64, 32}, {64, 128, 32, 32, 32}, {128, 64, 32, 32, 32}, {64, 64, 32, 32, 32}, {128, 128, 16, 64, 32},
    {64, 64, 64, 32, 32}, {64, 64, 32, 16, 16}, {32, 32, 16, 16, 16}};
/* Sums of a lane at most, in registers beside all else; where lanes share a file of them, and an invocation has 64. */
enum { CM_HELD = 64, CM_HELD_FEW = 16 };

/* Bytes of shared memory that gemm_cm.comp takes at most (EPILOGUE_SWIGLU has two Bs and two results). */
static uint32_t cm_shared_bytes(const struct vkm_gemm_tiles *t)
{
    uint32_t vecs = t->bk / 4 + 2, subgroups = t->bm / t->tm * (t->bn / t->tn);
    return 8 * vecs * (t->bm + 2 * t->bn) + 4 * t->bm * (t->bn / t->tn) + 8 * subgroups * t->cm.m * t->cm.n;
}

/* And gemm_tiled.comp, likewise. */
static uint32_t tiled_shared_bytes(const struct vkm_gemm_tiles *t)
{
    return 4 * (t->bk * (t->bm + 4 + 2 * (t->bn + 4)) + t->bm * (t->bn / t->tn));
}

/* And gemm_panel.comp. */
static uint32_t panel_shared_bytes(const struct vkm_gemm_tiles *t)
{
    return 4 * (t->tm * t->bn + 256);
}

/* Lanes share a file of registers, of which few are an invocation's. */
static bool shares_registers(const struct vkm_caps *caps)
{
    return caps->subgroup_least < caps->subgroup;
}

/* The tiles of one shape; false: the device has not what it takes. */
static bool fit(const struct vkmoe_context *ctx, uint32_t type, const struct shape *s, bool matrices,
                struct vkm_gemm_tiles *t)
{
    const struct vkm_caps *caps = &ctx->caps;
    const bool f32 = type == TYPE_F32;
    *t = (struct vkm_gemm_tiles){.bm = s->bm, .bn = s->bn, .bk = s->bk, .tm = s->tm, .tn = s->tn};
    if (matrices) {
        t->kernel = type == TYPE_F16 ? VKM_KERNEL_GEMM_CM_F16 : VKM_KERNEL_GEMM_CM_BF16;
        t->cm = caps->cm[type];
        t->wg = s->bm / s->tm * (s->bn / s->tn) * caps->subgroup;
        return vkm_shaders[t->kernel].words && t->wg <= caps->max_invocations &&
               cm_shared_bytes(t) <= caps->shared_bytes &&
               s->tm * s->tn <= caps->subgroup * (shares_registers(caps) ? CM_HELD_FEW : CM_HELD) &&
               s->tm % t->cm.m == 0 && s->tn % t->cm.n == 0 && s->bk % t->cm.k == 0 &&
               (!caps->cpu || s->bm == 32); /* a software device takes long enough */
    }
    if (caps->cpu) {
        t->kernel = !f32 ? VKM_KERNEL_GEMM_PANEL_16 : caps->int64 ? VKM_KERNEL_GEMM_PANEL_WIDE : VKM_KERNEL_GEMM_PANEL;
        t->wg = caps->subgroup;
        t->bn = s->tn * t->wg;
        return panel_shared_bytes(t) <= caps->shared_bytes &&
               (f32 || s->bk <= 32) && /* 16-bit loads take a compiler long */
               (!f32 || !vkm_lanes(ctx) || s == panel_shapes); /* gemm_lanes has its own */
    }
    t->kernel = f32 ? VKM_KERNEL_GEMM_TILED : VKM_KERNEL_GEMM_TILED_16;
    t->wg = s->bm / s->tm * (s->bn / s->tn);
    return t->wg <= caps->max_invocations && tiled_shared_bytes(t) <= caps->shared_bytes;
}

uint32_t vkm_gemm_candidates(const struct vkmoe_context *ctx, uint32_t type, struct vkm_gemm_tiles out[VKM_GEMM_CANDIDATES])
{
    const bool matrices = ctx->caps.cm[type].use;
    const struct shape *shapes = matrices ? cm_shapes : ctx->caps.cpu ? panel_shapes : tiled_shapes;
    const size_t count = matrices ? sizeof cm_shapes : ctx->caps.cpu ? sizeof panel_shapes : sizeof tiled_shapes;
    uint32_t fitting = 0;
    for (size_t i = 0; i < count / sizeof *shapes; i++)
        fitting += fit(ctx, type, &shapes[i], matrices, &out[fitting]);
    return fitting;
}
_Static_assert(sizeof cm_shapes / sizeof *cm_shapes < VKM_GEMM_CANDIDATES, "room for all");

bool vkm_has_lanes(const struct vkmoe_context *ctx)
{
    return ctx->caps.cpu && ctx->caps.int64 && ctx->caps.subgroup == VKM_LANES;
}

bool vkm_gemm_has_cm(const struct vkmoe_context *ctx, uint32_t type)
{
    struct vkm_gemm_tiles t;
    bool has = false;
    for (size_t i = 0; type != TYPE_F32 && ctx->caps.cm[type].m && i < sizeof cm_shapes / sizeof *cm_shapes; i++)
        has |= fit(ctx, type, &cm_shapes[i], true, &t);
    return has;
}

static bool is_tuned(const struct vkm_tuned *tuned, const struct vkm_gemm_tiles *t)
{
    const struct vkm_tuned own = vkm_tuned_of(t);
    return memcmp(tuned, &own, sizeof own) == 0;
}

enum vkm_rows vkm_gemm_rows(uint64_t rows, uint64_t groups)
{
    return rows < FEW_ROWS * groups ? VKM_ROWS_FEW : VKM_ROWS_MANY;
}

struct vkm_gemm_tiles vkm_gemm_tiles(const struct vkmoe_context *ctx, uint32_t type, enum vkm_rows rows)
{
    struct vkm_gemm_tiles candidates[VKM_GEMM_CANDIDATES];
    const uint32_t count = vkm_gemm_candidates(ctx, type, candidates);
    for (uint32_t i = 0; i < count; i++)
        if (is_tuned(&ctx->tuning.gemm[type][rows], &candidates[i]))
            return candidates[i];
    for (uint32_t i = 0; i < count && rows == VKM_ROWS_FEW; i++)
        if (candidates[i].bm <= FEW_BM)
            return candidates[i];
    return candidates[0];
}

uint32_t vkm_gemm_subgroup(const struct vkmoe_context *ctx, const struct vkm_gemm_tiles *t, uint32_t epilogue)
{
    const uint32_t least = ctx->caps.subgroup_least;
    const bool many = epilogue == EPILOGUE_SWIGLU && !t->cm.m; /* a matrix is a subgroup's: it wants caps.subgroup */
    return many && t->wg <= least * ctx->caps.max_subgroups ? least : 0;
}

uint32_t vkm_lanes_rows(const struct vkmoe_context *ctx, uint32_t least, uint64_t rows, uint64_t others)
{
    uint32_t bm = VKM_LANES_ROWS;
    while (bm > least && vkm_div_up(rows, bm) * others < 4ull * ctx->caps.processors)
        bm /= 2;
    return bm;
}

struct vkm_gemm_tiles vkm_routed_tiles(const struct vkmoe_context *ctx, const struct vkm_routing *r)
{
    const uint64_t rows = (uint64_t)r->T * r->K;
    const enum vkm_rows many = vkm_gemm_rows(rows, r->E);
    struct vkm_gemm_tiles tiles = vkm_gemm_tiles(ctx, r->type, many);
    if (vkm_lanes(ctx) && r->type == TYPE_F32 && many == VKM_ROWS_MANY)
        tiles.bm = vkm_lanes_rows(ctx, tiles.bm, rows, vkm_div_up(r->F < r->D ? r->F : r->D, tiles.bn));
    return tiles;
}

/* ---- attention -------------------------------------------------------------------------------------------------- */

/* What a pass on cooperative matrices has in shared memory: its own rows' tiles, products of them with others, operands made of
 * these; and how many results of the head's width in matrices. */
static const struct {
    uint32_t own, scores, weights, results;
    enum vkm_kernel plain, f16, bf16;
} passes[] = {
    [VKM_ATTENTION_FORWARD] = {1, 1, 1, 1, VKM_KERNEL_ATTENTION, VKM_KERNEL_ATTENTION_CM_F16, VKM_KERNEL_ATTENTION_CM_BF16},
    [VKM_ATTENTION_BWD_Q] = {2, 2, 1, 1, VKM_KERNEL_ATTENTION_BWD_Q, VKM_KERNEL_ATTENTION_BWD_Q_CM_F16,
                             VKM_KERNEL_ATTENTION_BWD_Q_CM_BF16},
    [VKM_ATTENTION_BWD_KV] = {2, 2, 2, 2, VKM_KERNEL_ATTENTION_BWD_KV, VKM_KERNEL_ATTENTION_BWD_KV_CM_F16,
                              VKM_KERNEL_ATTENTION_BWD_KV_CM_BF16},
};
/* Subgroups, each with a matrix's rows, and keys at a time, best first. */
static const struct {
    uint32_t subgroups, cols;
} attention_shapes[] = {{4, 32}, {2, 32}, {2, 16}, {1, 16}};
enum { ATTENTION_HELD = 128 }; /* results that an invocation can hold: wider heads have too many for its registers */
/* So many lanes share a query; twice as many where each would hold more than these vec4s of it, which are fewer where subgroups
 * are small because registers are few. */
enum { ATTENTION_LANES = 8, ATTENTION_VECS = 4, ATTENTION_VECS_FEW = 1 };

static bool power_of_two(uint32_t n)
{
    return n && (n & (n - 1)) == 0;
}

/* As attention_cm.glsl has it. */
static uint32_t attention_padded(uint32_t width, const struct vkm_cm *cm)
{
    const uint32_t unit = cm->n > cm->k ? cm->n : cm->k;
    return vkm_div_up(width, unit) * unit;
}

/* Bytes of shared memory of a pass: attention_cm.glsl and its kernels. */
static uint32_t attention_shared_bytes(const struct vkm_attention_tiles *t, uint32_t width, enum vkm_attention_pass pass)
{
    const uint32_t stride = attention_padded(width, &t->cm) / 4 + 2, vecs = t->cols / 4;
    return 8 * (passes[pass].own * t->rows + 2 * t->cols) * stride + 16 * passes[pass].scores * t->rows * (vecs + 1) +
           8 * passes[pass].weights * t->rows * (vecs + 2) + (pass == VKM_ATTENTION_BWD_KV ? 8 * t->cols : 0);
}

static bool attention_fits(const struct vkm_caps *caps, const struct vkm_attention *a, enum vkm_attention_pass pass,
                           const struct vkm_attention_tiles *t)
{
    const struct vkm_cm *cm = &t->cm;
    return vkm_shaders[t->kernel].words && power_of_two(cm->m) && power_of_two(cm->n) && power_of_two(cm->k) &&
           power_of_two(caps->subgroup) && t->cols % cm->n == 0 && t->cols % cm->k == 0 && t->wg <= caps->max_invocations &&
           passes[pass].results * attention_padded(a->width, cm) * cm->m <= ATTENTION_HELD * caps->subgroup &&
           attention_shared_bytes(t, a->width, pass) <= caps->shared_bytes;
}

struct vkm_attention_tiles vkm_attention_tiles(const struct vkmoe_context *ctx, const struct vkm_attention *a,
                                               enum vkm_attention_pass pass, bool matrices)
{
    const struct vkm_caps *caps = &ctx->caps;
    const struct vkm_tiles tiles = vkm_tiles(ctx);
    for (size_t i = 0; matrices && a->type != TYPE_F32 && i < sizeof attention_shapes / sizeof *attention_shapes; i++) {
        struct vkm_attention_tiles t = {
            .kernel = a->type == TYPE_F16 ? passes[pass].f16 : passes[pass].bf16, .lanes = 1, .cm = caps->cm[a->type],
            .wg = attention_shapes[i].subgroups * caps->subgroup, .cols = attention_shapes[i].cols};
        t.rows = attention_shapes[i].subgroups * t.cm.m;
        if ((!caps->cpu || attention_shapes[i].subgroups == 1) && attention_fits(caps, a, pass, &t))
            return t;
    }
    struct vkm_attention_tiles t = {.kernel = passes[pass].plain, .wg = tiles.attention_wg, .lanes = 1};
    const uint32_t vecs = shares_registers(caps) ? ATTENTION_VECS_FEW : ATTENTION_VECS;
    while (2 * t.lanes <= tiles.attention_lanes && a->width / 4 % (2 * t.lanes) == 0 &&
           (t.lanes < ATTENTION_LANES || a->width / 4 / t.lanes > vecs))
        t.lanes *= 2;
    t.rows = t.wg / t.lanes;
    return t;
}
