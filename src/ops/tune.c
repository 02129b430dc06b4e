#include "ops/tune.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "gpu/memory.h"

enum { E = 8, K = 2, ROUNDS = 5 };

/* A layer of experts: its five products, forward and backward. */
struct layer {
    struct vkmoe_context *ctx;
    struct vkm_arena *arena;
    struct vkm_routing routing;
    uint32_t T, D, F;
    struct vkm_buf x, dy, gate;         /* [T,D], [T,D], [T,K] */
    struct vkm_buf w13, w2;             /* [E,2F,D], [E,D,F] */
    struct vkm_buf h13, act, rows, dgate, dw13, dw2;
};

static uint64_t bytes_of(uint32_t type, uint64_t count)
{
    return count * (type == TYPE_F32 ? sizeof(float) : sizeof(uint16_t));
}

static void plan(struct layer *l, uint32_t type)
{
    const uint64_t T = l->T, D = l->D, F = l->F, R = T * K;
    struct vkm_arena *arena = l->arena;
    l->routing = (struct vkm_routing){.T = l->T, .E = E, .K = K, .F = l->F, .D = l->D, .type = type};
    vkm_arena_reserve(arena, "idx", R * sizeof(uint32_t), &l->routing.idx);
    vkm_arena_reserve(arena, "x", bytes_of(type, T * D), &l->x);
    vkm_arena_reserve(arena, "dy", T * D * sizeof(float), &l->dy);
    vkm_arena_reserve(arena, "gate", R * sizeof(float), &l->gate);
    vkm_arena_reserve(arena, "w13", bytes_of(type, E * 2 * F * D), &l->w13);
    vkm_arena_reserve(arena, "w2", bytes_of(type, E * D * F), &l->w2);
    vkm_arena_reserve(arena, "h13", bytes_of(type, 2 * R * F), &l->h13);
    vkm_arena_reserve(arena, "act", bytes_of(type, R * F), &l->act);
    vkm_arena_reserve(arena, "rows", bytes_of(type, R * D), &l->rows);
    vkm_arena_reserve(arena, "dgate", R * F * sizeof(float), &l->dgate); /* for tiles of any width */
    vkm_arena_reserve(arena, "dw13", E * 2 * F * D * sizeof(float), &l->dw13);
    vkm_arena_reserve(arena, "dw2", E * D * F * sizeof(float), &l->dw2);
}

/* Numbers of magnitude 1/16 to 1/4, in the type's bits. */
static enum vkmoe_status fill(struct layer *l, struct vkm_buf buf, uint32_t type)
{
    uint8_t *data = malloc(buf.bytes);
    if (!data)
        return vkm_fail_memory(&l->ctx->log);
    const uint64_t count = buf.bytes / bytes_of(type, 1);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t word[4];
        vkm_rng_words(1, (uint32_t)buf.offset, i, word);
        const uint32_t r = word[0], sign = r & 0x8000, power = (r >> 16) % 3;
        const float f = (float)(1 + (r & 127) / 128.0) / (float)(16 >> power) * (sign ? -1.0f : 1.0f);
        const uint16_t half = (uint16_t)(type == TYPE_F16 ? sign | (11 + power) << 10 | (r & 1023)
                                                          : sign | (123 + power) << 7 | (r & 127));
        if (type == TYPE_F32)
            memcpy(data + 4 * i, &f, 4);
        else
            memcpy(data + 2 * i, &half, 2);
    }
    enum vkmoe_status status = vkm_buf_upload(l->ctx, buf, data, buf.bytes);
    free(data);
    return status;
}

static enum vkmoe_status setup(struct layer *l, uint32_t type)
{
    enum vkmoe_status status;
    uint32_t *idx = malloc(l->routing.idx.bytes);
    if (!idx)
        return vkm_fail_memory(&l->ctx->log);
    for (uint32_t i = 0; i < l->T * K; i++)
        idx[i] = i % E;
    status = vkm_buf_upload(l->ctx, l->routing.idx, idx, l->routing.idx.bytes);
    free(idx);
    if (status || (status = fill(l, l->x, type)) || (status = fill(l, l->dy, TYPE_F32)) ||
        (status = fill(l, l->gate, TYPE_F32)) || (status = fill(l, l->w13, type)))
        return status;
    return fill(l, l->w2, type);
}

static void record(struct vkm_rec *rec, const struct layer *l)
{
    const struct vkm_routing *r = &l->routing;
    const uint32_t R = l->T * K, D = l->D, F = l->F, all = NARROW_A | NARROW_B | NARROW_C;
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "gate_up", .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU, .routing = r, .narrow = all, .gather = GATHER_A,
        .a = l->x, .b = l->w13, .c = l->h13, .act = l->act, .m = R, .n = F, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "down", .form = GEMM_NT, .routing = r, .narrow = all, .a = l->act, .b = l->w2, .c = l->rows, .m = R, .n = D,
        .k = F});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "down.bwd.x", .form = GEMM_NN, .epilogue = EPILOGUE_DSWIGLU, .routing = r, .narrow = NARROW_B | NARROW_C,
        .gather = GATHER_A, .a = l->dy, .b = l->w2, .c = l->h13, .act = l->act, .gate = l->gate, .dgate = l->dgate, .m = R,
        .n = F, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "down.bwd.w", .form = GEMM_TN, .routing = r, .narrow = NARROW_B, .gather = GATHER_A, .a = l->dy,
        .b = l->act, .c = l->dw2, .m = D, .n = F, .k = R});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "gate_up.bwd.w", .form = GEMM_TN, .routing = r, .narrow = NARROW_A | NARROW_B, .gather = GATHER_B,
        .a = l->h13, .b = l->x, .c = l->dw13, .m = 2 * F, .n = D, .k = R});
    vkm_op_gemm(rec, &(struct vkm_gemm){
        .label = "gate_up.bwd.x", .form = GEMM_NN, .routing = r, .narrow = all, .a = l->h13, .b = l->w13, .c = l->rows,
        .m = R, .n = D, .k = 2 * F});
}

/* The least time of some runs with the tiles that are tuned now. */
static enum vkmoe_status run(struct layer *l, double *seconds)
{
    struct vkm_rec *rec;
    enum vkmoe_status status = vkm_rec_create(l->ctx, "tune", &rec);
    if (status)
        return status;
    vkm_op_route(rec, &l->routing, (struct vkm_buf){0}); /* its tile map follows from the tiles */
    record(rec, l);
    status = vkm_rec_end(rec);
    *seconds = 0;
    for (int round = 0; round <= ROUNDS && !status; round++) {
        uint64_t ticket;
        const double start = vkm_seconds();
        if ((status = vkm_rec_submit(rec, &ticket)) || (status = vkm_wait(l->ctx, ticket)))
            break;
        const double took = vkm_seconds() - start;
        if (round == 1 || (round > 1 && took < *seconds)) /* the first warms up */
            *seconds = took;
    }
    vkm_rec_destroy(rec);
    return status;
}

/* Everything that the products wrote but dgate, whose partial sums follow from the tiles. The caller frees it. */
static enum vkmoe_status results(struct layer *l, uint8_t **out, uint64_t *bytes)
{
    const struct vkm_buf parts[] = {l->h13, l->act, l->rows, l->dw13, l->dw2};
    enum vkmoe_status status = VKMOE_OK;
    *bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        *bytes += parts[i].bytes;
    uint8_t *at = *out = malloc(*bytes);
    if (!at)
        return vkm_fail_memory(&l->ctx->log);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !status; at += parts[i++].bytes)
        status = vkm_buf_download(l->ctx, parts[i], at, parts[i].bytes);
    return status;
}

static enum vkmoe_status compare(struct layer *l, struct vkm_tune_report *report)
{
    struct vkm_tuned *tuned = &l->ctx->tuning.gemm[report->type][report->rows];
    uint8_t *first = NULL, *other = NULL;
    uint64_t bytes;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < report->count && !status; i++) {
        struct vkm_tune_result *r = &report->results[i];
        *tuned = vkm_tuned_of(&r->tiles);
        if ((status = run(l, &r->seconds)) || (status = results(l, i ? &other : &first, &bytes)))
            break;
        r->right = i == 0 || memcmp(first, other, bytes) == 0;
        free(other);
        other = NULL;
        /* Another than the default has to be better by more than two runs of the same differ. */
        if (r->right && r->seconds < 0.97 * report->results[0].seconds && r->seconds < report->results[report->best].seconds)
            report->best = i;
    }
    free(first);
    free(other);
    *tuned = status ? (struct vkm_tuned){0} : vkm_tuned_of(&report->results[report->best].tiles);
    return status;
}

enum vkmoe_status vkm_gemm_tune(struct vkmoe_context *ctx, uint32_t type, enum vkm_rows rows, struct vkm_tune_report *out)
{
    const uint32_t width = ctx->caps.cpu ? 256 : 1024, each = rows == VKM_ROWS_FEW ? 16 : ctx->caps.cpu ? 64 : 512;
    struct layer l = {.ctx = ctx, .T = each * E / K, .D = width, .F = width};
    struct vkm_gemm_tiles candidates[VKM_GEMM_CANDIDATES], first;
    enum vkmoe_status status;
    *out = (struct vkm_tune_report){.type = type, .rows = rows};
    ctx->tuning.gemm[type][rows] = (struct vkm_tuned){0};
    first = vkm_gemm_tiles(ctx, type, rows);
    out->results[out->count++].tiles = first;
    const uint32_t count = vkm_gemm_candidates(ctx, type, candidates);
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(&candidates[i], &first, sizeof first) != 0)
            out->results[out->count++].tiles = candidates[i];
    if ((status = vkm_arena_create(ctx, "tune", VKM_MEMORY_DEVICE, &l.arena)))
        return status;
    plan(&l, type);
    /* Room for the tile map of the smallest tiles. */
    struct vkm_routing most = l.routing;
    most.T *= 8;
    vkm_routing_reserve(ctx, l.arena, &most);
    if (!(status = vkm_arena_commit(l.arena))) {
        const struct vkm_buf idx = l.routing.idx;
        most.T = l.T;
        l.routing = most;
        l.routing.idx = idx;
        if (!(status = setup(&l, type)))
            status = compare(&l, out);
    }
    vkm_arena_destroy(l.arena);
    return status;
}
