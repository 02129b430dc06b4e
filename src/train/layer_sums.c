#include "train/layer_sums.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

_Static_assert(GATE_BINS == VKMOE_GATE_BINS, "the device counts the bins that are reported");

struct layer {
    double entropy, entropy_topk, seu, gram_square, gram_max;
    uint64_t bins[GATE_BINS];
};

struct vkm_layer_sums {
    uint32_t layers, experts, seq;
    uint64_t sequences;
    struct layer *layer;                    /* [layers] */
    uint64_t *expert_tokens;                /* [layers, experts] */
    struct vkmoe_layer_metrics *metrics;    /* [layers] */
};

enum vkmoe_status vkm_layer_sums_create(const struct vkmoe_log *log, const struct vkmoe_model_config *model,
                                        struct vkm_layer_sums **out)
{
    struct vkm_layer_sums *s = *out = calloc(1, sizeof *s);
    if (!s)
        return vkm_fail_memory(log);
    s->layers = model->layers;
    s->experts = model->experts;
    s->seq = model->seq;
    s->layer = calloc(s->layers, sizeof *s->layer);
    s->expert_tokens = calloc((size_t)s->layers * s->experts, sizeof *s->expert_tokens);
    s->metrics = calloc(s->layers, sizeof *s->metrics);
    if (s->layer && s->expert_tokens && s->metrics)
        return VKMOE_OK;
    vkm_layer_sums_destroy(s);
    *out = NULL;
    return vkm_fail_memory(log);
}

void vkm_layer_sums_destroy(struct vkm_layer_sums *s)
{
    if (!s)
        return;
    free(s->layer);
    free(s->expert_tokens);
    free(s->metrics);
    free(s);
}

void vkm_layer_sums_clear(struct vkm_layer_sums *s)
{
    s->sequences = 0;
    memset(s->layer, 0, s->layers * sizeof *s->layer);
    memset(s->expert_tokens, 0, (size_t)s->layers * s->experts * sizeof *s->expert_tokens);
}

void vkm_layer_sums_add(struct vkm_layer_sums *s, const struct router_stats *stats, const uint32_t *counts,
                        uint64_t sequences)
{
    s->sequences += sequences;
    for (uint32_t l = 0; l < s->layers; l++) {
        struct layer *sum = &s->layer[l];
        sum->entropy += stats[l].entropy;
        sum->entropy_topk += stats[l].entropy_topk;
        sum->seu += stats[l].seu;
        sum->gram_square = stats[l].gram_square;
        sum->gram_max = stats[l].gram_max;
        for (int bin = 0; bin < GATE_BINS; bin++)
            sum->bins[bin] += stats[l].bins[bin];
    }
    for (size_t i = 0; i < (size_t)s->layers * s->experts; i++)
        s->expert_tokens[i] += counts[i];
}

const uint64_t *vkm_layer_sums_expert_tokens(const struct vkm_layer_sums *s)
{
    return s->expert_tokens;
}

double vkm_layer_sums_active(const struct vkm_layer_sums *s)
{
    double rows = 0;
    for (size_t i = 0; i < (size_t)s->layers * s->experts; i++)
        rows += (double)s->expert_tokens[i];
    return rows / ((double)s->sequences * s->seq * s->layers);
}

/* Largest, least and spread of the experts' tokens over their mean. */
static void load(struct vkmoe_layer_metrics *m, const uint64_t *tokens, uint32_t experts)
{
    double sum = 0, most = 0, least = INFINITY, square = 0;
    for (uint32_t e = 0; e < experts; e++) {
        sum += (double)tokens[e];
        most = fmax(most, (double)tokens[e]);
        least = fmin(least, (double)tokens[e]);
        m->dead += tokens[e] == 0;
    }
    double mean = sum / experts;
    for (uint32_t e = 0; e < experts; e++)
        square += ((double)tokens[e] - mean) * ((double)tokens[e] - mean);
    m->load_max = most / mean;
    m->load_min = least / mean;
    m->load_cv = sqrt(square / experts) / mean;
}

struct vkmoe_layer_metrics *vkm_layer_sums_metrics(struct vkm_layer_sums *s)
{
    double tokens = (double)s->sequences * s->seq;
    for (uint32_t l = 0; l < s->layers; l++) {
        const struct layer *sum = &s->layer[l];
        struct vkmoe_layer_metrics *m = &s->metrics[l];
        *m = (struct vkmoe_layer_metrics){
            .seu = sum->seu / (double)s->sequences, .entropy = sum->entropy / tokens,
            .entropy_topk = sum->entropy_topk / tokens, .gram_mean_square = sum->gram_square, .gram_max = sum->gram_max,
            .changed = NAN, .pes = NAN, .pes_se = NAN};
        load(m, s->expert_tokens + (size_t)l * s->experts, s->experts);
        double weights = 0;
        for (int bin = 0; bin < GATE_BINS; bin++)
            weights += (double)sum->bins[bin];
        for (int bin = 0; bin < GATE_BINS; bin++)
            m->gates[bin] = (double)sum->bins[bin] / weights;
    }
    return s->metrics;
}
