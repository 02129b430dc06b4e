#include "nn/tune.h"

#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "nn/net.h"

enum { EXPERTS = 8, ACTIVE = 2, SEQ = 16, ROUNDS = 5 };

/* A network of one layer that is so wide, and tokens that make few or many rows for an expert. */
static enum vkmoe_status create(struct vkmoe_context *ctx, uint32_t type, enum vkm_rows rows, struct vkm_net **out)
{
    const uint32_t width = ctx->caps.cpu ? 256 : 1024, each = rows == VKM_ROWS_FEW ? 16 : ctx->caps.cpu ? 64 : 512;
    const struct vkmoe_model_config config = {
        .layers = 1, .d_model = width, .heads = width / 64, .experts = EXPERTS, .top_k = ACTIVE, .d_expert = width,
        .seq = SEQ, .vocab = VKMOE_BYTE_VOCAB, .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = true};
    return vkm_net_create(ctx, &config, each * EXPERTS / ACTIVE / SEQ, VKM_NET_TRAIN, type, out);
}

static enum vkmoe_status fill(struct vkmoe_context *ctx, struct vkm_buf buf, double scale, uint32_t stream)
{
    const uint64_t count = buf.bytes / sizeof(float);
    float *x = malloc(buf.bytes);
    if (!x)
        return vkm_fail_memory(&ctx->log);
    for (uint64_t i = 0; i < count; i++)
        x[i] = (float)(scale * vkm_rng_normal(1, stream, i));
    enum vkmoe_status status = vkm_buf_upload(ctx, buf, x, buf.bytes);
    free(x);
    return status;
}

static enum vkmoe_status setup(struct vkm_net *net)
{
    struct vkmoe_context *ctx = net->ctx;
    enum vkmoe_status status;
    if ((status = vkm_net_commit(net)) ||
        (status = vkm_params_init(ctx, &net->params, VKMOE_ROUTER_ORTHOGONAL, 1)) ||
        (status = vkm_params_narrow(ctx, &net->params)) || (status = fill(ctx, net->layers[0].x_mid, 1, 1)))
        return status;
    return fill(ctx, net->scratch.dx, 1e-3, 2);
}

/* What does not follow from the tiles: the output, and the experts' gradients. (The gate's is summed up by tiles.) The
 * caller frees it. */
static enum vkmoe_status results(const struct vkm_net *net, uint8_t **out, uint64_t *bytes)
{
    const struct vkm_buf parts[] = {net->x_out, vkm_net_param(net, VKM_PARAM_W13, 0)->grad,
                                    vkm_net_param(net, VKM_PARAM_W2, 0)->grad};
    enum vkmoe_status status = VKMOE_OK;
    *bytes = 0;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        *bytes += parts[i].bytes;
    uint8_t *at = *out = malloc(*bytes);
    if (!at)
        return vkm_fail_memory(&net->ctx->log);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && !status; at += parts[i++].bytes)
        status = vkm_buf_download(net->ctx, parts[i], at, parts[i].bytes);
    return status;
}

/* The layer once for its results, then for its time. */
static enum vkmoe_status run(const struct vkm_net *net, double *seconds, uint8_t **out, uint64_t *bytes)
{
    struct vkm_rec *rec;
    enum vkmoe_status status = vkm_rec_create(net->ctx, "tune", &rec);
    if (status)
        return status;
    vkm_moe_forward(rec, net, 0, net->x_out, (struct vkm_buf){0});
    vkm_moe_backward(rec, net, 0, &(struct vkm_loss){0});
    if (!(status = vkm_rec_end(rec)) && !(status = vkm_rec_time(rec, 1, seconds)) && !(status = results(net, out, bytes)))
        status = vkm_rec_time(rec, ROUNDS, seconds);
    vkm_rec_destroy(rec);
    return status;
}

/* With the tiles that are tuned now. */
static enum vkmoe_status measure(struct vkmoe_context *ctx, const struct vkm_tune_report *report, double *seconds,
                                 uint8_t **out, uint64_t *bytes)
{
    struct vkm_net *net;
    enum vkmoe_status status = create(ctx, report->type, report->rows, &net);
    if (!status && !(status = setup(net)))
        status = run(net, seconds, out, bytes);
    vkm_net_destroy(net);
    return status;
}

static enum vkmoe_status compare(struct vkmoe_context *ctx, struct vkm_tune_report *report)
{
    struct vkm_tuned *tuned = &ctx->tuning.gemm[report->type][report->rows];
    uint8_t *first = NULL, *other = NULL;
    uint64_t bytes;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < report->count && !status; i++) {
        struct vkm_tune_result *r = &report->results[i];
        *tuned = vkm_tuned_of(&r->tiles);
        if ((status = measure(ctx, report, &r->seconds, i ? &other : &first, &bytes)))
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
    struct vkm_gemm_tiles candidates[VKM_GEMM_CANDIDATES], first;
    *out = (struct vkm_tune_report){.type = type, .rows = rows};
    ctx->tuning.gemm[type][rows] = (struct vkm_tuned){0};
    first = vkm_gemm_tiles(ctx, type, rows);
    out->results[out->count++].tiles = first;
    const uint32_t count = vkm_gemm_candidates(ctx, type, candidates);
    for (uint32_t i = 0; i < count; i++)
        if (memcmp(&candidates[i], &first, sizeof first) != 0)
            out->results[out->count++].tiles = candidates[i];
    return compare(ctx, out);
}
