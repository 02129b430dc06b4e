#include "train/probe.h"

#include <math.h>
#include <stdlib.h>

#include "base/rng.h"

struct vkm_probe {
    struct vkm_net *net;
    struct vkm_arena *upload, *device, *readback;
    struct vkm_buf tok;             /* [T] u32 of a batch */
    uint32_t *targets;              /* [T], not looked at */
    struct vkm_rec *change, *pes;
    bool called;                    /* before holds an earlier choice */
    struct vkm_buf before;          /* [L,T,K] u32 */
    struct vkm_buf changed;         /* [T] */
    struct vkm_buf change_sum;      /* [L] */
    struct vkm_buf change_result;   /* [L] */
    uint32_t n;                     /* tokens of a batch on which PES is measured */
    struct vkm_routing all;         /* of these to all experts */
    struct vkm_buf all_idx;         /* [n,E] u32, for the host to fill */
    struct vkm_buf positions;       /* [n] u32 */
    struct vkm_buf pes_values;      /* [L,n] */
    struct vkm_buf pes_result;      /* [L,n] */
};

enum vkmoe_status vkm_probe_create(struct vkm_net *net, struct vkm_probe **out)
{
    const struct vkmoe_model_config *c = &net->config;
    uint64_t layers = c->layers, T = net->T;
    enum vkmoe_status status;
    *out = NULL;
    struct vkm_probe *p = calloc(1, sizeof *p);
    if (!p)
        return vkm_fail_memory(&net->ctx->log);
    p->net = net;
    p->n = vkm_measure_pes_tokens(net);
    p->all = (struct vkm_routing){.T = p->n, .E = c->experts, .K = c->experts, .F = c->d_expert, .D = c->d_model,
                                  .type = net->type};
    p->targets = malloc(T * sizeof *p->targets);
    if (!p->targets) {
        status = vkm_fail_memory(&net->ctx->log);
        goto fail;
    }
    if ((status = vkm_arena_create(net->ctx, "probe input", VKM_MEMORY_UPLOAD, &p->upload)) ||
        (status = vkm_arena_create(net->ctx, "probe", VKM_MEMORY_DEVICE, &p->device)) ||
        (status = vkm_arena_create(net->ctx, "probe output", VKM_MEMORY_READBACK, &p->readback)))
        goto fail;
    vkm_arena_reserve(p->upload, "tokens", T * sizeof(uint32_t), &p->tok);
    vkm_arena_reserve(p->upload, "positions", p->n * sizeof(uint32_t), &p->positions);
    vkm_arena_reserve(p->upload, "all experts", (uint64_t)p->n * c->experts * sizeof(uint32_t), &p->all_idx);
    vkm_arena_reserve(p->device, "choices before", layers * T * c->top_k * sizeof(uint32_t), &p->before);
    vkm_arena_reserve(p->device, "changed", T * sizeof(float), &p->changed);
    vkm_arena_reserve(p->device, "changes", layers * sizeof(float), &p->change_sum);
    vkm_arena_reserve(p->device, "similarity", layers * p->n * sizeof(float), &p->pes_values);
    vkm_routing_reserve(net->ctx, p->device, &p->all);
    vkm_arena_reserve(p->readback, "changes", layers * sizeof(float), &p->change_result);
    vkm_arena_reserve(p->readback, "similarity", layers * p->n * sizeof(float), &p->pes_result);
    *out = p;
    return VKMOE_OK;

fail:
    vkm_probe_destroy(p);
    return status;
}

uint64_t vkm_probe_bytes(const struct vkm_probe *p)
{
    return vkm_arena_bytes(p->upload) + vkm_arena_bytes(p->device) + vkm_arena_bytes(p->readback);
}

void vkm_probe_destroy(struct vkm_probe *p)
{
    if (!p)
        return;
    vkm_rec_destroy(p->change);
    vkm_rec_destroy(p->pes);
    vkm_arena_destroy(p->upload);
    vkm_arena_destroy(p->device);
    vkm_arena_destroy(p->readback);
    free(p->targets);
    free(p);
}

static void look_for_change(void *user, struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    struct vkm_probe *p = user;
    uint64_t bytes = (uint64_t)net->T * net->config.top_k * sizeof(uint32_t);
    vkm_op_routing_change(rec, vkm_buf_slice(p->before, layer * bytes, bytes), net->layers[layer].gate.idx, p->changed,
                          net->T, net->config.top_k);
    vkm_op_sum(rec, p->changed, vkm_buf_slice(p->change_sum, layer * sizeof(float), sizeof(float)), net->T,
               1 / (float)net->T);
}

static void compare_experts(void *user, struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    struct vkm_probe *p = user;
    uint64_t bytes = p->n * sizeof(float);
    vkm_measure_pes(rec, net, layer, &p->all, p->positions, vkm_buf_slice(p->pes_values, layer * bytes, bytes));
}

enum vkmoe_status vkm_probe_commit(struct vkm_probe *p)
{
    const struct vkm_observer change = {look_for_change, p}, compare = {compare_experts, p};
    const struct vkm_buf none = {0};
    enum vkmoe_status status;
    if ((status = vkm_arena_commit(p->upload)) || (status = vkm_arena_commit(p->device)) ||
        (status = vkm_arena_commit(p->readback)))
        return status;
    p->all.idx = p->all_idx;
    for (uint32_t i = 0, *idx = p->all_idx.host; i < p->n * p->all.E; i++)
        idx[i] = i % p->all.E;
    if ((status = vkm_rec_create(p->net->ctx, "routing change", &p->change)) ||
        (status = vkm_rec_create(p->net->ctx, "expert similarity", &p->pes)))
        return status;
    vkm_rec_fill(p->change, p->change_sum, 0);
    vkm_net_forward(p->change, p->net, p->tok, none, &change);
    vkm_rec_copy(p->change, p->change_result, p->change_sum);
    vkm_net_forward(p->pes, p->net, p->tok, none, &compare);
    vkm_rec_copy(p->pes, p->pes_result, p->pes_values);
    if ((status = vkm_rec_end(p->change)))
        return status;
    return vkm_rec_end(p->pes);
}

/* Contexts [first, first + B) of `wanted` spaced evenly over the split. */
static void fill_tokens(struct vkm_probe *p, const struct vkmoe_data *data, enum vkm_split split, uint64_t first,
                        uint64_t wanted)
{
    uint32_t S = p->net->config.seq, *tok = p->tok.host;
    uint64_t windows = vkm_data_windows(data, split, S);
    for (uint32_t b = 0; b < p->net->B; b++)
        vkm_data_window(data, split, (first + b) * windows / wanted, S, tok + (size_t)b * S, p->targets + (size_t)b * S);
}

static enum vkmoe_status run(struct vkm_probe *p, struct vkm_rec *rec)
{
    uint64_t ticket;
    enum vkmoe_status status = vkm_rec_submit(rec, &ticket);
    return status ? status : vkm_wait(p->net->ctx, ticket);
}

enum vkmoe_status vkm_probe_change(struct vkm_probe *p, const struct vkmoe_data *data, enum vkm_split split,
                                   struct vkmoe_layer_metrics *metrics)
{
    fill_tokens(p, data, split, 0, p->net->B);
    enum vkmoe_status status = run(p, p->change);
    if (status)
        return status;
    const float *changed = p->change_result.host;
    for (uint32_t layer = 0; layer < p->net->config.layers && metrics; layer++)
        metrics[layer].changed = p->called ? changed[layer] : NAN;
    p->called = true;
    return VKMOE_OK;
}

enum vkmoe_status vkm_probe_pes(struct vkm_probe *p, const struct vkmoe_data *data, enum vkm_split split,
                                uint64_t tokens, struct vkmoe_layer_metrics *metrics)
{
    uint32_t layers = p->net->config.layers, T = p->net->T, *positions = p->positions.host;
    uint64_t batches = (tokens + p->n - 1) / p->n;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t layer = 0; layer < layers; layer++)
        metrics[layer].pes = metrics[layer].pes_se = 0;
    for (uint64_t batch = 0, done = 0; batch < batches && !status; batch++) {
        fill_tokens(p, data, split, batch * p->net->B, batches * p->net->B);
        for (uint32_t i = 0; i < p->n; i++)
            positions[i] = (uint32_t)vkm_rng_below(0, VKM_STREAM_PROBE, batch * p->n + i, T);
        if ((status = run(p, p->pes)))
            break;
        /* Mean and sum of squares of deviations, value by value (Welford 1962). */
        for (uint32_t i = 0; i < p->n && done < tokens; i++) {
            done++;
            for (uint32_t layer = 0; layer < layers; layer++) {
                double value = ((const float *)p->pes_result.host)[(size_t)layer * p->n + i];
                double off = value - metrics[layer].pes;
                metrics[layer].pes += off / (double)done;
                metrics[layer].pes_se += off * (value - metrics[layer].pes);
            }
        }
    }
    for (uint32_t layer = 0; layer < layers; layer++)
        metrics[layer].pes_se = tokens > 1 ? sqrt(metrics[layer].pes_se / (double)(tokens - 1) / (double)tokens) : NAN;
    return status;
}
