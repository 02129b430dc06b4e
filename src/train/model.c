/* Saved models: loading, evaluating, sampling. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/rng.h"
#include "nn/config.h"
#include "train/evaluator.h"
#include "train/hf.h"
#include "train/probe.h"
#include "train/weights.h"

enum { EVAL_TOKENS = 4096 }; /* of a batch, about */

struct vkmoe_model {
    struct vkm_net *net;                /* one sequence, for sampling */
    /* Evaluation, made when first asked for. */
    struct vkm_net *batch_net;
    struct vkm_evaluator *evaluator;
    struct vkm_layer_sums *sums;
    struct vkm_probe *probe;            /* made when PES is asked for */
    uint32_t drop_top;                  /* what evaluator and probe were recorded with */
    float prune_below;
    /* Sampling, made when first asked for. */
    struct vkm_arena *upload;
    struct vkm_buf tok;                 /* [T] u32 */
    struct vkm_rec *forward;
};

enum vkmoe_status vkmoe_model_load(struct vkmoe_context *ctx, const char *dir, struct vkmoe_model **out)
{
    struct vkmoe_model_config config;
    struct vkmoe_model *model = NULL;
    char *path = NULL;
    enum vkmoe_status status = vkmoe_checkpoint_find(ctx->log, dir, &path);
    *out = NULL;
    if (status || (status = vkm_checkpoint_verify(&ctx->log, path, VKM_VERIFY_MODEL)) ||
        (status = vkm_hf_config_read(&ctx->log, path, &config)) || (status = vkm_config_check_batch(&ctx->log, &config, 1)))
        goto end;
    if (!(model = calloc(1, sizeof *model))) {
        status = vkm_fail_memory(&ctx->log);
        goto end;
    }
    if ((status = vkm_net_create(ctx, &config, 1, VKM_NET_FORWARD, TYPE_F32, &model->net)) ||
        (status = vkm_net_commit(model->net)) || (status = vkm_weights_load(model->net, path, NULL))) {
        vkmoe_model_destroy(model);
        goto end;
    }
    *out = model;
end:
    free(path);
    return status;
}

void vkmoe_model_destroy(struct vkmoe_model *model)
{
    if (!model)
        return;
    vkm_probe_destroy(model->probe);
    vkm_evaluator_destroy(model->evaluator);
    vkm_layer_sums_destroy(model->sums);
    vkm_net_destroy(model->batch_net);
    vkm_rec_destroy(model->forward);
    vkm_arena_destroy(model->upload);
    vkm_net_destroy(model->net);
    free(model);
}

const struct vkmoe_model_config *vkmoe_model_config(const struct vkmoe_model *model)
{
    return &model->net->config;
}

/* Sequences of a batch: fewer than EVAL_TOKENS where a tensor would be too large. */
static uint32_t batch_of(const struct vkmoe_model_config *config)
{
    const struct vkmoe_log silent = {0};
    uint32_t batch = config->seq < EVAL_TOKENS ? EVAL_TOKENS / config->seq : 1;
    while (batch > 1 && vkm_config_check_batch(&silent, config, batch) != VKMOE_OK)
        batch /= 2;
    return batch;
}

static enum vkmoe_status prepare_network(struct vkmoe_model *model)
{
    enum vkmoe_status status;
    if (model->batch_net)
        return VKMOE_OK;
    if (!model->sums && (status = vkm_layer_sums_create(&model->net->ctx->log, &model->net->config, &model->sums)))
        return status;
    if ((status = vkm_net_create_shared(model->net, batch_of(&model->net->config), &model->batch_net)) ||
        (status = vkm_net_commit(model->batch_net))) {
        vkm_net_destroy(model->batch_net);
        model->batch_net = NULL;
    }
    return status;
}

/* The evaluator and the probe are recorded for one choice of what is dropped. */
static enum vkmoe_status prepare_evaluator(struct vkmoe_model *model, const struct vkmoe_eval_desc *desc)
{
    enum vkmoe_status status;
    if (model->evaluator && model->drop_top == desc->drop_top && model->prune_below == desc->prune_below)
        return VKMOE_OK;
    vkm_evaluator_destroy(model->evaluator);
    vkm_probe_destroy(model->probe);
    model->evaluator = NULL;
    model->probe = NULL;
    model->drop_top = desc->drop_top;
    model->prune_below = desc->prune_below;
    for (uint32_t layer = 0; layer < model->net->config.layers; layer++) {
        model->batch_net->layers[layer].gate.drop_top = desc->drop_top;
        model->batch_net->layers[layer].gate.prune_below = desc->prune_below;
    }
    if ((status = vkm_evaluator_create(model->batch_net, &model->evaluator)) ||
        (status = vkm_evaluator_commit(model->evaluator))) {
        vkm_evaluator_destroy(model->evaluator);
        model->evaluator = NULL;
    }
    return status;
}

/* All experts of a layer run on the tokens that PES is measured on, which the layers below passed on without what is
 * dropped. */
static enum vkmoe_status measure_pes(struct vkmoe_model *model, const struct vkmoe_data *data, enum vkm_split split,
                                     uint32_t tokens, struct vkmoe_layer_metrics *metrics)
{
    enum vkmoe_status status;
    if (!model->probe && ((status = vkm_probe_create(model->batch_net, &model->probe)) ||
                          (status = vkm_probe_commit(model->probe)))) {
        vkm_probe_destroy(model->probe);
        model->probe = NULL;
        return status;
    }
    return vkm_probe_pes(model->probe, data, split, tokens, metrics);
}

static enum vkmoe_status check_evaluation(const struct vkmoe_model *model, const struct vkmoe_eval_desc *desc)
{
    const struct vkmoe_log *log = &model->net->ctx->log;
    const struct vkmoe_model_config *c = &model->net->config;
    if (!(desc->prune_below >= 0 && desc->prune_below <= 1))
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "prune_below (%g) must be from 0 to 1", (double)desc->prune_below);
    if (desc->drop_top > c->experts - c->top_k)
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "drop_top (%u) must be at most experts - top_k = %u", desc->drop_top,
                        c->experts - c->top_k);
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_model_evaluate(struct vkmoe_model *model, const struct vkmoe_eval_desc *desc,
                                       struct vkmoe_eval_result *out)
{
    enum vkm_split split = desc->held_out ? VKM_SPLIT_VALID : VKM_SPLIT_ALL;
    enum vkmoe_status status;
    double sum;
    *out = (struct vkmoe_eval_result){0};
    if ((status = check_evaluation(model, desc)) || (status = prepare_network(model)) ||
        (status = prepare_evaluator(model, desc)))
        return status;
    double started = vkm_seconds();
    if ((status = vkm_evaluator_run(model->evaluator, desc->data, split, 0, model->sums, &sum, &out->tokens)))
        return status;
    out->seconds = vkm_seconds() - started;
    if (!out->tokens)
        return vkm_fail(&model->net->ctx->log, VKMOE_ERROR_ARGUMENT,
                        "the text is one token long, so nothing can be predicted; give a longer one");
    struct vkmoe_layer_metrics *metrics = vkm_layer_sums_metrics(model->sums);
    if (desc->pes_tokens && (status = measure_pes(model, desc->data, split, desc->pes_tokens, metrics)))
        return status;
    out->bytes = vkm_data_bytes(desc->data, split);
    out->loss = sum / (double)out->tokens;
    out->perplexity = exp(out->loss);
    out->bits_per_byte = out->bytes ? sum / log(2) / (double)out->bytes : NAN;
    out->active_experts = vkm_layer_sums_active(model->sums);
    out->layers = model->net->config.layers;
    out->experts = model->net->config.experts;
    out->expert_tokens = vkm_layer_sums_expert_tokens(model->sums);
    out->metrics = metrics;
    return VKMOE_OK;
}

/* ---- sampling -------------------------------------------------------------------------------------------------- */

static enum vkmoe_status prepare_sampling(struct vkmoe_model *model)
{
    struct vkm_net *net = model->net;
    enum vkmoe_status status;
    if (model->forward)
        return VKMOE_OK;
    if (!model->upload) {
        if ((status = vkm_arena_create(net->ctx, "prompt", VKM_MEMORY_UPLOAD, &model->upload)))
            return status;
        vkm_arena_reserve(model->upload, "tokens", net->T * sizeof(uint32_t), &model->tok);
        if ((status = vkm_arena_commit(model->upload)))
            goto fail;
        memset(model->tok.host, 0, model->tok.bytes);
    }
    if ((status = vkm_rec_create(net->ctx, "sample", &model->forward)))
        return status;
    vkm_net_forward(model->forward, net, model->tok, (struct vkm_buf){0}, NULL);
    vkm_net_logits(model->forward, net);
    if ((status = vkm_rec_end(model->forward)))
        goto fail;
    return VKMOE_OK;
fail:
    vkm_rec_destroy(model->forward);
    model->forward = NULL;
    vkm_arena_destroy(model->upload);
    model->upload = NULL;
    return status;
}

struct candidate {
    uint32_t token;
    double weight;
};

static int likelier(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    if (x->weight != y->weight)
        return x->weight < y->weight ? 1 : -1;
    return (x->token > y->token) - (x->token < y->token);
}

/* One token from logits [V] by temperature and nucleus (Holtzman et al. 2020); u uniform in [0, 1). */
static uint32_t sample(const float *logits, uint32_t V, float temperature, float top_p, double u,
                       struct candidate *scratch)
{
    double top = -INFINITY, total = 0, kept = 0;
    for (uint32_t v = 0; v < V; v++)
        top = logits[v] > top ? logits[v] : top;
    for (uint32_t v = 0; v < V; v++) {
        double weight = temperature > 0 ? exp((logits[v] - top) / temperature) : logits[v] == top;
        scratch[v] = (struct candidate){v, weight};
        total += weight;
    }
    qsort(scratch, V, sizeof *scratch, likelier);
    uint32_t count = 0;
    do
        kept += scratch[count++].weight;
    while (count < V && kept < top_p * total && temperature > 0);
    double left = u * kept;
    for (uint32_t i = 0; i < count; i++) {
        left -= scratch[i].weight;
        if (left < 0)
            return scratch[i].token;
    }
    return scratch[0].token;
}

static enum vkmoe_status generate(struct vkmoe_model *model, const struct vkmoe_generate_desc *desc, vkmoe_text_fn fn,
                                  void *user, float *logits, struct candidate *scratch)
{
    struct vkm_net *net = model->net;
    uint32_t S = net->config.seq, V = net->config.vocab, used = 0;
    uint32_t *tok = model->tok.host, max_tokens = desc->max_tokens ? desc->max_tokens : 256;
    const char *prompt = desc->prompt ? desc->prompt : "";
    size_t length = strlen(prompt), skip = length > S ? length - S : 0;
    for (size_t i = skip; i < length; i++)
        tok[used++] = (unsigned char)prompt[i];
    if (!used)
        tok[used++] = VKMOE_TOKEN_END_OF_TEXT;
    for (uint32_t i = 0; i < max_tokens; i++) {
        uint64_t ticket;
        enum vkmoe_status status;
        uint64_t row_bytes = V * sizeof(float);
        struct vkm_buf row = vkm_buf_slice(net->scratch.logits, (used - 1) * row_bytes, row_bytes);
        if ((status = vkm_rec_submit(model->forward, &ticket)) || (status = vkm_wait(net->ctx, ticket)) ||
            (status = vkm_buf_download(net->ctx, row, logits, row_bytes)))
            return status;
        uint32_t next = sample(logits, VKMOE_BYTE_VOCAB, desc->temperature, desc->top_p > 0 ? desc->top_p : 1,
                               vkm_rng_uniform(desc->seed, VKM_STREAM_SAMPLE, i), scratch);
        char byte = (char)next;
        if (next == VKMOE_TOKEN_END_OF_TEXT || !fn(user, &byte, 1))
            break;
        if (used == S) { /* the context slides, half at a time so that the first token stays far from the end */
            used = S / 2;
            memmove(tok, tok + (S - used), used * sizeof *tok);
        }
        tok[used++] = next;
    }
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_model_generate(struct vkmoe_model *model, const struct vkmoe_generate_desc *desc,
                                       vkmoe_text_fn fn, void *user)
{
    const struct vkmoe_log *log = &model->net->ctx->log;
    uint32_t V = model->net->config.vocab;
    enum vkmoe_status status;
    if (!(desc->temperature >= 0) || !isfinite(desc->temperature))
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "temperature must be 0 or more");
    if (!(desc->top_p >= 0 && desc->top_p <= 1))
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "top_p must be from 0 to 1");
    if ((status = prepare_sampling(model)))
        return status;
    float *logits = malloc(V * sizeof *logits);
    struct candidate *scratch = malloc(V * sizeof *scratch);
    status = logits && scratch ? generate(model, desc, fn, user, logits, scratch) : vkm_fail_memory(log);
    free(logits);
    free(scratch);
    return status;
}
