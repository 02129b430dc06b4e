#include "nn/params.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "ops/ops.h"

enum { ALIGN = VKM_BUF_ALIGN / sizeof(float) }; /* elements between the beginnings of two parameters */
#define RANGE_MAX ((uint64_t)1 << 30)          /* elements of a range: kernels index them with 32 bits */

struct shape {
    enum vkm_param_id id;
    const char *name;
    uint64_t dims[3];
    enum vkm_init init;
    bool decay;
};

static void shapes(const struct vkmoe_model_config *c, const struct vkm_ends *ends, struct shape out[VKM_PARAM_KINDS])
{
    uint64_t A = c->heads ? c->d_model : 0, I = ends ? ends->in : 0, O = ends ? ends->out : c->vocab;
    uint64_t D = c->d_model, E = c->experts, F = c->d_expert, V = c->vocab, B = c->router_bias ? E : 0, G = c->d_shared;
#define SHAPE(id, name, d0, d1, d2, init, decay) {VKM_PARAM_##id, name, {d0, d1, d2}, VKM_INIT_##init, decay},
    const struct shape table[VKM_PARAM_KINDS] = {VKM_LAYER_PARAMS(SHAPE) VKM_MODEL_PARAMS(SHAPE)};
#undef SHAPE
    for (int i = 0; i < VKM_PARAM_KINDS; i++)
        out[i] = table[i];
}

static void describe(struct vkm_param *p, const struct shape *shape, int32_t layer)
{
    p->id = shape->id;
    p->layer = layer;
    p->init = shape->init;
    p->decay = shape->decay;
    p->count = shape->dims[0] ? 1 : 0;
    for (; p->count && p->rank < 3 && shape->dims[p->rank]; p->rank++) {
        p->dims[p->rank] = shape->dims[p->rank];
        p->count *= shape->dims[p->rank];
    }
    if (layer == VKM_NO_LAYER)
        snprintf(p->name, sizeof p->name, "%s", shape->name);
    else
        snprintf(p->name, sizeof p->name, "layers.%d.%s", (int)layer, shape->name);
}

enum vkmoe_status vkm_params_create(const struct vkmoe_log *log, const struct vkmoe_model_config *config,
                                    const struct vkm_ends *ends, struct vkm_params *out)
{
    struct shape table[VKM_PARAM_KINDS];
    *out = (struct vkm_params){.count = config->layers * VKM_LAYER_PARAM_KINDS + VKM_PARAM_KINDS - VKM_LAYER_PARAM_KINDS};
    out->list = calloc(out->count, sizeof *out->list);
    out->ranges = calloc(out->count, sizeof *out->ranges);
    if (!out->list || !out->ranges) {
        vkm_params_destroy(out);
        return vkm_fail_memory(log);
    }
    shapes(config, ends, table);
    struct vkm_param *p = out->list;
    for (uint32_t layer = 0; layer < config->layers; layer++)
        for (int id = 0; id < VKM_LAYER_PARAM_KINDS; id++)
            describe(p++, &table[id], (int32_t)layer);
    for (int id = VKM_LAYER_PARAM_KINDS; id < VKM_PARAM_KINDS; id++)
        describe(p++, &table[id], VKM_NO_LAYER);
    const double writers = config->heads ? 2.0 * config->layers : config->layers;
    for (p = out->list; p < out->list + out->count; p++) {
        p->std = ends && p->rank && p->layer != VKM_NO_LAYER ? 1 / sqrt((double)p->dims[p->rank - 1]) : 0.02;
        if (p->init == VKM_INIT_NORMAL_RESIDUAL)
            p->std /= sqrt(writers);
    }
    return VKMOE_OK;
}

void vkm_params_destroy(struct vkm_params *params)
{
    if (!params)
        return;
    free(params->list);
    free(params->ranges);
    *params = (struct vkm_params){0};
}

struct vkm_param *vkm_params_get(const struct vkm_params *params, enum vkm_param_id id, int32_t layer)
{
    if (layer != VKM_NO_LAYER)
        return &params->list[(uint32_t)layer * VKM_LAYER_PARAM_KINDS + id];
    return &params->list[params->count - VKM_PARAM_KINDS + id];
}

uint64_t vkm_params_total(const struct vkm_params *params)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < params->count; i++)
        total += params->list[i].count;
    return total;
}

uint64_t vkm_params_active(const struct vkm_params *params, const struct vkmoe_model_config *config)
{
    uint64_t active = 0;
    for (uint32_t i = 0; i < params->count; i++) {
        const struct vkm_param *p = &params->list[i];
        bool routed = p->id == VKM_PARAM_W13 || p->id == VKM_PARAM_W2;
        active += routed ? p->count / config->experts * config->top_k : p->count;
    }
    return active;
}

static uint64_t padded(uint64_t count)
{
    return (count + ALIGN - 1) / ALIGN * ALIGN;
}

void vkm_params_reserve(struct vkm_params *params, struct vkm_arena *arena, uint64_t max_block, bool trainable,
                        uint32_t type)
{
    uint64_t most = max_block > VKM_BLOCK_SLACK ? (max_block - VKM_BLOCK_SLACK) / sizeof(float) : 0;
    if (most > RANGE_MAX)
        most = RANGE_MAX;
    params->trainable = trainable;
    params->type = type;
    params->range_count = 0;
    struct vkm_param_range *range = NULL;
    for (int decay = 1; decay >= 0; decay--) {
        range = NULL;
        for (uint32_t i = 0; i < params->count; i++) {
            struct vkm_param *p = &params->list[i];
            if (p->decay != decay || p->count == 0)
                continue;
            if (!range || range->count + padded(p->count) > most) {
                range = &params->ranges[params->range_count++];
                *range = (struct vkm_param_range){.decay = decay};
            }
            range->count += padded(p->count);
        }
    }
    for (uint32_t i = 0; i < params->range_count; i++) {
        struct vkm_param_range *r = &params->ranges[i];
        vkm_arena_reserve(arena, "weights", r->count * sizeof(float), &r->weight);
        if (type != TYPE_F32 && r->decay)
            vkm_arena_reserve(arena, "16-bit weights", r->count * sizeof(uint16_t), &r->weight16);
        if (!trainable)
            continue;
        vkm_arena_reserve(arena, "gradients", r->count * sizeof(float), &r->grad);
        vkm_arena_reserve(arena, "first moments", r->count * sizeof(float), &r->moment1);
        vkm_arena_reserve(arena, "second moments", r->count * sizeof(float), &r->moment2);
    }
}

void vkm_params_bind(struct vkm_params *params)
{
    uint32_t next = 0;
    for (int decay = 1; decay >= 0; decay--) {
        uint64_t at = 0;
        for (uint32_t i = 0; i < params->count; i++) {
            struct vkm_param *p = &params->list[i];
            if (p->decay != decay || p->count == 0)
                continue;
            const struct vkm_param_range *r = &params->ranges[next];
            if (at == r->count) {
                r = &params->ranges[++next];
                at = 0;
            }
            uint64_t offset = at * sizeof(float), bytes = p->count * sizeof(float);
            p->weight = vkm_buf_slice(r->weight, offset, bytes);
            if (r->weight16.bytes)
                p->weight16 = vkm_buf_slice(r->weight16, offset / 2, bytes / 2);
            if (params->trainable) {
                p->grad = vkm_buf_slice(r->grad, offset, bytes);
                p->moment1 = vkm_buf_slice(r->moment1, offset, bytes);
                p->moment2 = vkm_buf_slice(r->moment2, offset, bytes);
            }
            at += padded(p->count);
        }
        if (at)
            next++;
    }
}

/* ---- initial values ---------------------------------------------------------------------------------------------- */

static void init_normal(float *w, uint64_t count, double std, uint64_t seed, uint32_t stream)
{
    for (uint64_t i = 0; i < count; i++)
        w[i] = (float)(std * vkm_rng_normal(seed, stream, i));
}

/* n orthonormal vectors of length d >= n, in v [n,d]: normal ones, orthogonalised twice (Gram-Schmidt). */
static void orthonormal(double *v, uint64_t n, uint64_t d, uint64_t seed, uint32_t stream)
{
    for (uint64_t i = 0; i < n * d; i++)
        v[i] = vkm_rng_normal(seed, stream, i);
    for (uint64_t i = 0; i < n; i++) {
        double *a = v + i * d;
        for (int round = 0; round < 2; round++)
            for (uint64_t j = 0; j < i; j++) {
                const double *b = v + j * d;
                double inner = 0;
                for (uint64_t k = 0; k < d; k++)
                    inner += a[k] * b[k];
                for (uint64_t k = 0; k < d; k++)
                    a[k] -= inner * b[k];
            }
        double norm = 0;
        for (uint64_t k = 0; k < d; k++)
            norm += a[k] * a[k];
        for (uint64_t k = 0; k < d; k++)
            a[k] /= sqrt(norm);
    }
}

/* w [rows,cols]: orthogonal rows of that length, or columns where there are more rows than columns */
static bool init_orthogonal(float *w, uint64_t rows, uint64_t cols, double length, uint64_t seed, uint32_t stream)
{
    bool wide = rows <= cols;
    uint64_t n = wide ? rows : cols, d = wide ? cols : rows;
    double *v = malloc(n * d * sizeof *v);
    if (!v)
        return false;
    orthonormal(v, n, d, seed, stream);
    for (uint64_t r = 0; r < rows; r++)
        for (uint64_t c = 0; c < cols; c++)
            w[r * cols + c] = (float)(length * (wide ? v[r * d + c] : v[c * d + r]));
    free(v);
    return true;
}

/* w [rows,cols]: rows of independent directions, length 1 */
static void init_unit(float *w, uint64_t rows, uint64_t cols, uint64_t seed, uint32_t stream)
{
    for (uint64_t r = 0; r < rows; r++) {
        double square = 0;
        for (uint64_t i = r * cols; i < (r + 1) * cols; i++) {
            double value = vkm_rng_normal(seed, stream, i);
            square += value * value;
        }
        for (uint64_t i = r * cols; i < (r + 1) * cols; i++)
            w[i] = (float)(vkm_rng_normal(seed, stream, i) / sqrt(square));
    }
}

static bool init_router(float *w, uint64_t E, uint64_t D, enum vkmoe_router_init init, uint64_t seed, uint32_t stream)
{
    switch (init) {
    case VKMOE_ROUTER_ORTHOGONAL:
        return init_orthogonal(w, E, D, 1, seed, stream);
    case VKMOE_ROUTER_NORMAL:
        init_normal(w, E * D, 0.02, seed, stream);
        break;
    case VKMOE_ROUTER_UNIT:
        init_unit(w, E, D, seed, stream);
        break;
    case VKMOE_ROUTER_ORTHOGONAL_SMALL:
        return init_orthogonal(w, E, D, 0.02 * sqrt((double)D), seed, stream);
    }
    return true;
}

bool vkm_param_draw(const struct vkm_param *p, enum vkmoe_router_init router, uint64_t seed, uint32_t index, float *w)
{
    uint32_t stream = VKM_STREAM_INIT + index;
    switch (p->init) {
    case VKM_INIT_ONES:
        for (uint64_t i = 0; i < p->count; i++)
            w[i] = 1;
        break;
    case VKM_INIT_NORMAL:
    case VKM_INIT_NORMAL_RESIDUAL:
        init_normal(w, p->count, p->std, seed, stream);
        break;
    case VKM_INIT_ZEROS:
        memset(w, 0, p->count * sizeof *w);
        break;
    case VKM_INIT_ROUTER:
        return init_router(w, p->dims[0], p->dims[1], router, seed, stream);
    }
    return true;
}

enum vkmoe_status vkm_params_narrow(struct vkmoe_context *ctx, const struct vkm_params *params)
{
    struct vkm_rec *rec;
    if (params->type == TYPE_F32)
        return VKMOE_OK;
    enum vkmoe_status status = vkm_rec_create(ctx, "16-bit weights", &rec);
    if (status)
        return status;
    for (uint32_t i = 0; i < params->range_count; i++) {
        const struct vkm_param_range *r = &params->ranges[i];
        if (r->weight16.bytes)
            vkm_op_narrow(rec, r->weight, r->weight16, params->type, r->count);
    }
    return vkm_rec_run_once(rec);
}

enum vkmoe_status vkm_params_clear(struct vkmoe_context *ctx, const struct vkm_params *params)
{
    struct vkm_rec *rec;
    enum vkmoe_status status = vkm_rec_create(ctx, "clear parameters", &rec);
    if (status)
        return status;
    for (uint32_t i = 0; i < params->range_count; i++) {
        const struct vkm_param_range *r = &params->ranges[i];
        vkm_rec_fill(rec, r->weight, 0);
        if (params->trainable) {
            vkm_rec_fill(rec, r->grad, 0);
            vkm_rec_fill(rec, r->moment1, 0);
            vkm_rec_fill(rec, r->moment2, 0);
        }
    }
    return vkm_rec_run_once(rec);
}

enum vkmoe_status vkm_params_init(struct vkmoe_context *ctx, struct vkm_params *params, enum vkmoe_router_init router,
                                  uint64_t seed)
{
    enum vkmoe_status status = vkm_params_clear(ctx, params);
    for (uint32_t i = 0; i < params->count && !status; i++) {
        const struct vkm_param *p = &params->list[i];
        if (p->count == 0)
            continue;
        float *w = malloc(p->count * sizeof *w);
        if (!w || !vkm_param_draw(p, router, seed, i, w))
            status = vkm_fail_memory(&ctx->log);
        else
            status = vkm_buf_upload(ctx, p->weight, w, p->count * sizeof *w);
        free(w);
    }
    return status;
}
