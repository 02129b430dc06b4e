/* A layer of experts, forward and backward, by the library's own recordings. Every token is routed to experts that we
 * choose: the router's rows are unit vectors, so a token's first E numbers are its logits but for a factor. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/layer.h"
#include "bench/measure.h"
#include "cases/cases.h"
#include "common.h"
#include "nn/config.h"

/* Small ones for CPU devices, then those of SonicMoE's paper. */
static const struct layer_shape shapes[] = {
    {768, 128, 256, 8, 2},        {768, 128, 128, 32, 4},       {1024, 256, 256, 32, 4},
    {8192, 768, 256, 128, 8},     {8192, 1536, 1024, 32, 2},    {8192, 4096, 512, 128, 8},   {24576, 1536, 256, 128, 8},
    {24576, 1536, 1024, 32, 2},   {40960, 768, 256, 128, 8},    {32768, 4096, 1024, 128, 8},
};
enum { ROUTINGS = 3, ROUNDS = 3 };
enum { SEQ = 64 }; /* tokens of a sequence, which mean nothing to a layer; divides every T */

static const struct {
    enum case_routing routing;
    const char *name;
} routings[ROUTINGS] = {{CASE_BALANCED, "balanced"}, {CASE_SKEWED, "skewed"}, {CASE_ONE, "one-hot"}};

static double forward_flops(const struct layer_shape *s)
{
    return 6.0 * s->T * s->n * s->d * s->K;
}

static struct vkmoe_model_config config_of(const struct layer_shape *s)
{
    return (struct vkmoe_model_config){.layers = 1, .d_model = s->d, .heads = s->d / 64, .experts = s->E, .top_k = s->K,
                                       .d_expert = s->n, .seq = SEQ, .vocab = VKMOE_BYTE_VOCAB, .rope_theta = 1e4f,
                                       .norm_eps = 1e-5f, .norm_topk = true};
}

/* ---- what is timed ---------------------------------------------------------------------------------------------- */

static void record_forward(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct layer *l = user;
    (void)i;
    vkm_moe_forward(rec, l->net, 0, l->net->x_out, (struct vkm_buf){0});
}

enum vkmoe_status layer_forward(const struct layer *l)
{
    struct vkm_rec *rec;
    const enum vkmoe_status status = vkm_rec_create(l->net->ctx, "bench setup", &rec);
    if (status)
        return status;
    vkm_moe_forward(rec, l->net, 0, l->net->x_out, (struct vkm_buf){0});
    return vkm_rec_run_once(rec);
}

static void record_backward(struct vkm_rec *rec, void *user, uint32_t i)
{
    const struct layer *l = user;
    (void)i;
    vkm_moe_backward(rec, l->net, 0, &l->loss);
}

static void record_both(struct vkm_rec *rec, void *user, uint32_t i)
{
    record_forward(rec, user, i);
    record_backward(rec, user, i);
}

static void restore_dy(struct vkm_rec *rec, void *user)
{
    const struct layer *l = user;
    vkm_rec_copy(rec, l->net->scratch.dx, l->dy);
}

/* The backward turns hidden rows into their gradient, and the output's gradient into the input's. */
static void prepare_backward(struct vkm_rec *rec, void *user)
{
    record_forward(rec, user, 0);
    restore_dy(rec, user);
}

enum { PASSES = 3 };
static const struct {
    const char *name;
    double flops; /* over the forward's */
    void (*record)(struct vkm_rec *rec, void *user, uint32_t i);
    void (*prepare)(struct vkm_rec *rec, void *user);
} passes[PASSES] = {
    {"moe forward", 1, record_forward, NULL},
    {"moe backward", 2, record_backward, prepare_backward},
    {"moe both", 3, record_both, restore_dy},
};

/* ---- the layer -------------------------------------------------------------------------------------------------- */

static enum vkmoe_status upload_norm_and_router(const struct layer *l, const struct layer_shape *s)
{
    struct vkmoe_context *ctx = l->net->ctx;
    const struct vkm_param *router = vkm_net_param(l->net, VKM_PARAM_ROUTER, 0);
    const struct vkm_param *norm = vkm_net_param(l->net, VKM_PARAM_MOE_NORM, 0);
    float *w = calloc((size_t)s->E * s->d, sizeof *w), *ones = malloc(s->d * sizeof *ones);
    enum vkmoe_status status = VKMOE_OK;
    if (!w || !ones) {
        status = vkm_fail_memory(&ctx->log);
        goto done;
    }
    for (uint32_t e = 0; e < s->E; e++)
        w[(size_t)e * s->d + e] = 1;
    for (uint32_t i = 0; i < s->d; i++)
        ones[i] = 1;
    if (!(status = vkm_buf_upload(ctx, router->weight, w, router->count * sizeof *w)))
        status = vkm_buf_upload(ctx, norm->weight, ones, norm->count * sizeof *ones);
    if (!status)
        status = vkm_params_narrow(ctx, &l->net->params);
done:
    free(w);
    free(ones);
    return status;
}

static void layer_destroy(struct layer *l)
{
    vkm_arena_destroy(l->arena);
    vkm_net_destroy(l->net);
}

/* l is zero; layer_destroy releases it whatever comes of this. */
static enum vkmoe_status layer_create(struct vkmoe_context *ctx, const struct layer_shape *s, uint32_t type, struct layer *l)
{
    const struct vkmoe_model_config config = config_of(s);
    enum vkmoe_status status;
    if ((status = vkm_net_create(ctx, &config, s->T / SEQ, VKM_NET_TRAIN, type, &l->net)) ||
        (status = vkm_arena_create(ctx, "bench", VKM_MEMORY_DEVICE, &l->arena)))
        return status;
    vkm_arena_reserve(l->arena, "dy", (uint64_t)s->T * s->d * sizeof(float), &l->dy);
    return vkm_arena_status(l->arena);
}

static uint64_t layer_bytes(const struct layer *l)
{
    return vkm_arena_bytes(l->net->param_arena) + vkm_arena_bytes(l->net->activation_arena) + vkm_arena_bytes(l->arena);
}

static const struct bench_fill weights1 = {.seed = 1, .scale = 0.035f}, weights2 = {.seed = 2, .scale = 0.035f},
                               gradients = {.seed = 3, .scale = 1};

static enum vkmoe_status layer_commit(struct layer *l, const struct layer_shape *s)
{
    struct vkmoe_context *ctx = l->net->ctx;
    enum vkmoe_status status;
    if ((status = vkm_net_commit(l->net)) || (status = vkm_arena_commit(l->arena)) ||
        (status = vkm_params_clear(ctx, &l->net->params)) ||
        (status = bench_fill(ctx, vkm_net_param(l->net, VKM_PARAM_W13, 0)->weight, &weights1)) ||
        (status = bench_fill(ctx, vkm_net_param(l->net, VKM_PARAM_W2, 0)->weight, &weights2)) ||
        (status = bench_fill(ctx, l->dy, &gradients)))
        return status;
    return upload_norm_and_router(l, s);
}

/* Tokens that the router sends where case_route says: 3 and a little less for the chosen, at most 1 for the others. */
static enum vkmoe_status upload_tokens(const struct layer *l, const struct layer_shape *s, const uint32_t *idx)
{
    const struct vkm_buf buf = l->net->layers[0].x_mid;
    float *x = malloc(buf.bytes);
    if (!x)
        return vkm_fail_memory(&l->net->ctx->log);
    case_fill(x, buf.bytes / sizeof *x, 4, 1);
    for (uint32_t t = 0; t < s->T; t++)
        for (uint32_t k = 0; k < s->K; k++)
            x[(size_t)t * s->d + idx[t * s->K + k]] = 3 - 0.05f * (float)k;
    enum vkmoe_status status = vkm_buf_upload(l->net->ctx, buf, x, buf.bytes);
    free(x);
    return status;
}

/* Routes the tokens and looks whether they went where they were sent. */
static enum vkmoe_status route(struct layer *l, const struct layer_shape *s, enum case_routing routing)
{
    struct vkmoe_context *ctx = l->net->ctx;
    const struct vkm_buf buf = l->net->layers[0].gate.idx;
    uint32_t *wanted = malloc(buf.bytes), *got = malloc(buf.bytes);
    enum vkmoe_status status = VKMOE_OK;
    if (!wanted || !got) {
        status = vkm_fail_memory(&ctx->log);
        goto done;
    }
    case_route(routing, s->T, s->E, s->K, 1, wanted);
    if ((status = upload_tokens(l, s, wanted)) || (status = layer_forward(l)) ||
        (status = vkm_buf_download(ctx, buf, got, buf.bytes)))
        goto done;
    if (memcmp(wanted, got, buf.bytes) != 0)
        status = vkm_fail(&ctx->log, VKMOE_ERROR_VULKAN, "%s routes tokens to other experts than it should", ctx->info.name);
done:
    free(wanted);
    free(got);
    return status;
}

/* ---- results ---------------------------------------------------------------------------------------------------- */

static void shape_text(const struct layer_shape *s, const char *routing, char text[64])
{
    snprintf(text, 64, "%u, %u, %u, %u, %u%s%s", s->T, s->d, s->n, s->E, s->K, *routing ? " " : "", routing);
}

/* Times of a pass with one routing, round by round. */
struct cell {
    struct bench_times round[ROUNDS];
    bool slow;
};

static double middle(double *x)
{
    return bench_times_of(x, ROUNDS).median;
}

/* The figure of all rounds; balanced: of the same pass. */
static struct bench_result result_of(const struct bench *b, const char *name, const char *ceiling, double flops,
                                     const struct cell *c, const struct cell *balanced)
{
    double medians[ROUNDS], ratios[ROUNDS];
    struct bench_times all = {.low = c->round[0].low, .high = c->round[0].high};
    for (int r = 0; r < ROUNDS; r++) {
        medians[r] = c->round[r].median;
        ratios[r] = balanced->slow ? NAN : balanced->round[r].median / c->round[r].median;
        all.low = fmin(all.low, c->round[r].low);
        all.high = fmax(all.high, c->round[r].high);
        all.repetitions += c->round[r].repetitions;
    }
    all.median = middle(medians);
    struct bench_result result = bench_rate(b, "layer", name, "GFLOP/s", ceiling, 1e-9 * flops, &all);
    result.of_balanced = balanced->slow ? NAN : middle(ratios);
    return result;
}

/* What was timed is checked where it was timed. */
static enum vkmoe_status check(const struct layer *l, const struct layer_shape *s, uint32_t type, const char *routing,
                               const struct cell cells[PASSES])
{
    char name[40], shape[64];
    if (cells[0].slow)
        return VKMOE_OK;
    bench_typed_name(name, "moe", type);
    shape_text(s, routing, shape);
    return layer_check(l, s, !cells[PASSES - 1].slow, name, shape);
}

/* All routings in each round, so that a machine that changes its speed changes it for all. */
static enum vkmoe_status time_rounds(struct bench *b, struct layer *l, const struct layer_shape *s, uint32_t type,
                                     struct cell cells[ROUTINGS][PASSES])
{
    enum vkmoe_status status = layer_commit(l, s);
    for (int round = 0; round < ROUNDS; round++)
        for (size_t i = 0; i < ROUTINGS && !status; i++) {
            status = route(l, s, routings[i].routing);
            for (size_t p = 0; p < PASSES && !status; p++) {
                struct cell *cell = &cells[i][p];
                struct bench_times *times = &cell->round[round];
                const double flops = passes[p].flops * forward_flops(s), seconds = 1e-9 * flops / bench_product_rate(b, type);
                if (p > 0 && round == 0 && seconds > b->seconds) {
                    *times = (struct bench_times){.median = seconds};
                    cell->slow = true;
                }
                if (cell->slow)
                    continue;
                /* What the backward overwrites has to be prepared anew for each. */
                status = bench_time(b, &(struct bench_case){.record = passes[p].record, .prepare = passes[p].prepare, .user = l,
                                                            .most = passes[p].prepare ? 1 : 0, .anyway = round > 0,
                                                            .seconds = b->seconds / ROUNDS}, times);
                cell->slow = times->repetitions == 0;
                if (!status)
                    b->product_rate[type] = 1e-9 * flops / times->median;
            }
            if (!status && round == 0)
                status = check(l, s, type, routings[i].name, cells[i]);
        }
    return status;
}

static enum vkmoe_status measure(struct bench *b, struct layer *l, const struct layer_shape *s, uint32_t type)
{
    struct cell cells[ROUTINGS][PASSES] = {0};
    enum vkmoe_status status = time_rounds(b, l, s, type, cells);
    for (size_t i = 0; i < ROUTINGS; i++)
        for (size_t p = 0; p < PASSES && !status; p++) {
            const struct cell *cell = &cells[i][p];
            char name[40], shape[64];
            bench_typed_name(name, passes[p].name, type);
            shape_text(s, routings[i].name, shape);
            if (cell->slow) {
                status = bench_skip_slow(b, "layer", name, shape, cell->round[0].median);
                continue;
            }
            struct bench_result r = result_of(b, name, bench_product_ceiling(b, type), passes[p].flops * forward_flops(s),
                                              cell, &cells[0][p]);
            memcpy(r.shape, shape, sizeof r.shape);
            status = bench_report(b, &r);
        }
    return status;
}

/* The largest array of the layer: a device has a limit for one. */
static uint64_t largest(const struct layer_shape *s)
{
    const uint64_t weights = 2ull * s->E * s->n * s->d, hidden = 2ull * s->T * s->K * s->n, rows = (uint64_t)s->T * s->K * s->d;
    const uint64_t most = weights > hidden ? weights : hidden;
    return sizeof(float) * (most > rows ? most : rows);
}

static enum vkmoe_status run(struct bench *b, const struct layer_shape *s, uint32_t type)
{
    const double seconds = 3e-9 * forward_flops(s) / bench_product_rate(b, type);
    struct layer l = {0};
    char shape[64], name[40];
    enum vkmoe_status status;
    shape_text(s, "", shape);
    bench_typed_name(name, "moe", type);
    if (seconds > b->seconds)
        return bench_skip_slow(b, "layer", name, shape, seconds);
    if (largest(s) + VKM_BLOCK_SLACK > b->ctx->caps.max_block)
        return bench_skip(b, "layer", name, shape, "larger than one allocation of the device may be");
    if (!(status = layer_create(b->ctx, s, type, &l))) {
        if (bench_fits(b, layer_bytes(&l)))
            status = measure(b, &l, s, type);
        else
            status = bench_skip(b, "layer", name, shape, "needs %.1f GiB, and %.1f are free",
                                (double)layer_bytes(&l) / 0x1p30, (double)vkm_memory_available(b->ctx) / 0x1p30);
    }
    layer_destroy(&l);
    return status;
}

enum vkmoe_status bench_layer(struct bench *b)
{
    enum vkmoe_status status = VKMOE_OK;
    for (size_t i = 0; i < CASE_COUNT(shapes) && !status; i++)
        for (uint32_t type = TYPE_F32; type <= TYPE_BF16 && !status; type++)
            if (b->types[type])
                status = run(b, &shapes[i], type);
    return status;
}
