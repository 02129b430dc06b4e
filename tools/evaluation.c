#include "evaluation.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "json.h"
#include "print.h"

static enum vkmoe_status no_memory(void)
{
    message("out of memory");
    return VKMOE_ERROR_MEMORY;
}

/* The model's arrays hold until its next call only. */
static enum vkmoe_status keep_metrics(struct evaluation *out)
{
    const size_t layers = out->whole.layers, cells = layers * out->whole.experts;
    out->metrics = malloc(layers * sizeof *out->metrics);
    out->expert_tokens = malloc(cells * sizeof *out->expert_tokens);
    if (!out->metrics || !out->expert_tokens)
        return no_memory();
    memcpy(out->metrics, out->whole.metrics, layers * sizeof *out->metrics);
    memcpy(out->expert_tokens, out->whole.expert_tokens, cells * sizeof *out->expert_tokens);
    return VKMOE_OK;
}

static struct evaluation_point point_of(const struct vkmoe_eval_result *result, double below, uint32_t n)
{
    return (struct evaluation_point){ .below = below, .n = n, .loss = result->loss, .perplexity = result->perplexity,
                                      .seconds = result->seconds, .active_experts = result->active_experts };
}

static enum vkmoe_status add_point(struct vkmoe_model *model, const struct vkmoe_eval_desc *desc, double below,
                                   struct evaluation_point *points, size_t *count)
{
    struct vkmoe_eval_result result;
    const enum vkmoe_status status = vkmoe_model_evaluate(model, desc, &result);
    if (status == VKMOE_OK)
        points[(*count)++] = point_of(&result, below, desc->drop_top);
    return status;
}

enum vkmoe_status evaluation_run(struct vkmoe_model *model, const struct vkmoe_data *data,
                                 const struct evaluation_plan *plan, struct evaluation *out)
{
    const struct vkmoe_eval_desc plain = { .data = data, .held_out = plan->held_out };
    struct vkmoe_eval_desc desc = plain;
    *out = (struct evaluation){ 0 };
    desc.pes_tokens = plan->metrics ? plan->pes_tokens : 0;
    enum vkmoe_status status = vkmoe_model_evaluate(model, &desc, &out->whole);
    if (status == VKMOE_OK && plan->metrics)
        status = keep_metrics(out);
    out->whole.metrics = out->metrics;
    out->whole.expert_tokens = out->expert_tokens;
    if (status == VKMOE_OK && plan->prune_count > 0 &&
        !(out->prune = malloc(plan->prune_count * sizeof *out->prune)))
        status = no_memory();
    for (size_t i = 0; status == VKMOE_OK && i < plan->prune_count; i++) {
        desc = plain;
        desc.prune_below = (float)plan->prune[i];
        status = add_point(model, &desc, plan->prune[i], out->prune, &out->prune_count);
    }
    if (status == VKMOE_OK && plan->drop) {
        out->drop = malloc(((size_t)plan->drop_top + 1) * sizeof *out->drop);
        if (out->drop)
            out->drop[out->drop_count++] = point_of(&out->whole, 0.0, 0);
        else
            status = no_memory();
        for (uint32_t n = 1; status == VKMOE_OK && n <= plan->drop_top; n++) {
            desc = plain;
            desc.drop_top = n;
            status = add_point(model, &desc, 0.0, out->drop, &out->drop_count);
        }
    }
    if (status != VKMOE_OK)
        evaluation_free(out);
    return status;
}

void evaluation_free(struct evaluation *evaluation)
{
    free(evaluation->metrics);
    free(evaluation->expert_tokens);
    free(evaluation->prune);
    free(evaluation->drop);
    *evaluation = (struct evaluation){ 0 };
}

static void print_layers(const struct evaluation *e)
{
    printf("\n%5s%10s%10s%7s%10s%8s%9s%8s%12s%10s  %s\n", "layer", "max/mean", "min/mean", "cv", "used", "SEU",
           "entropy", "top-K", "Gram msq", "Gram max", "similarity of experts");
    for (uint32_t l = 0; l < e->whole.layers; l++) {
        const struct vkmoe_layer_metrics *m = &e->metrics[l];
        char used[24];
        snprintf(used, sizeof used, "%" PRIu32 "/%" PRIu32, e->whole.experts - m->dead, e->whole.experts);
        printf("%5" PRIu32 "%10.3f%10.3f%7.3f%10s%8.3f%9.3f%8.3f%12.3g%10.3g", l, m->load_max, m->load_min, m->load_cv,
               used, m->seu, m->entropy, m->entropy_topk, m->gram_mean_square, m->gram_max);
        if (isnan(m->pes))
            puts("  not measured");
        else
            printf("  %.4f +- %.4f\n", m->pes, m->pes_se);
    }
    printf("\ngate weights of the active experts, a bar for each sixteenth from 0 to 1; full height is the most\n");
    for (uint32_t l = 0; l < e->whole.layers; l++) {
        const double *gates = e->metrics[l].gates;
        double most = 0.0, mean = 0.0;
        printf("%5" PRIu32 "  ", l);
        for (int i = 0; i < VKMOE_GATE_BINS; i++) {
            most = fmax(most, gates[i]);
            mean += gates[i] * (i + 0.5) / VKMOE_GATE_BINS;
        }
        for (int i = 0; i < VKMOE_GATE_BINS; i++)
            fputs(gates[i] > 0.0 ? bar(8.0 * gates[i] / most) : " ", stdout);
        printf("  mean about %.2f\n", mean);
    }
}

void evaluation_print(const struct evaluation *e)
{
    printf("loss           %.4f nats per token\nperplexity     %.4f\nbits per byte  %.4f\ntokens         %" PRIu64 "\n",
           e->whole.loss, e->whole.perplexity, e->whole.bits_per_byte, e->whole.tokens);
    if (e->metrics)
        print_layers(e);
    if (e->prune_count > 0)
        printf("\n%11s%10s%12s%9s%16s\n", "prune below", "loss", "perplexity", "seconds", "active experts");
    for (size_t i = 0; i < e->prune_count; i++)
        printf("%11g%10.4f%12.4f%9.2f%16.3f\n", e->prune[i].below, e->prune[i].loss, e->prune[i].perplexity,
               e->prune[i].seconds, e->prune[i].active_experts);
    if (e->drop_count > 0)
        printf("\n%11s%10s%12s\n", "drop top", "loss", "perplexity");
    for (size_t i = 0; i < e->drop_count; i++)
        printf("%11" PRIu32 "%10.4f%12.4f\n", e->drop[i].n, e->drop[i].loss, e->drop[i].perplexity);
}

static json_t *layer_json(const struct evaluation *e, uint32_t layer)
{
    const struct vkmoe_layer_metrics *m = &e->metrics[layer];
    const uint64_t *tokens = e->expert_tokens + (size_t)layer * e->whole.experts;
    json_t *gates = json_array(), *experts = json_array();
    for (int i = 0; i < VKMOE_GATE_BINS; i++)
        json_array_append_new(gates, json_number(m->gates[i]));
    for (uint32_t i = 0; i < e->whole.experts; i++)
        json_array_append_new(experts, json_integer((json_int_t)tokens[i]));
    return json_pack("{s:o, s:o, s:o, s:I, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}",
        "load_max", json_number(m->load_max), "load_min", json_number(m->load_min), "load_cv", json_number(m->load_cv),
        "dead", (json_int_t)m->dead, "seu", json_number(m->seu), "entropy", json_number(m->entropy),
        "entropy_topk", json_number(m->entropy_topk), "gram_mean_square", json_number(m->gram_mean_square),
        "gram_max", json_number(m->gram_max), "gates", gates, "pes", json_number(m->pes),
        "pes_se", json_number(m->pes_se), "expert_tokens", experts);
}

/* kind "prune" or "drop_top", which is how a point names where it is. */
static void add_points(json_t *object, const char *kind, const struct evaluation_point *points, size_t count)
{
    json_t *list = count > 0 ? json_array() : NULL;
    for (size_t i = 0; i < count; i++) {
        const struct evaluation_point *p = &points[i];
        json_t *point = json_object();
        if (strcmp(kind, "prune") == 0)
            json_object_set_new(point, "below", json_number(p->below));
        else
            json_object_set_new(point, "n", json_integer((json_int_t)p->n));
        json_object_set_new(point, "loss", json_number(p->loss));
        json_object_set_new(point, "perplexity", json_number(p->perplexity));
        json_object_set_new(point, "seconds", json_number(p->seconds));
        json_object_set_new(point, "active_experts", json_number(p->active_experts));
        json_array_append_new(list, point);
    }
    if (list)
        json_object_set_new(object, kind, list);
}

json_t *evaluation_json(const struct evaluation *e)
{
    json_t *object = json_pack("{s:o, s:o, s:o, s:I, s:I, s:o, s:o}", "loss", json_number(e->whole.loss),
        "perplexity", json_number(e->whole.perplexity), "bits_per_byte", json_number(e->whole.bits_per_byte),
        "tokens", (json_int_t)e->whole.tokens, "bytes", (json_int_t)e->whole.bytes,
        "seconds", json_number(e->whole.seconds), "active_experts", json_number(e->whole.active_experts));
    if (object && e->metrics) {
        json_t *layers = json_array();
        for (uint32_t l = 0; l < e->whole.layers; l++)
            json_array_append_new(layers, layer_json(e, l));
        json_object_set_new(object, "layers", layers);
    }
    if (object) {
        add_points(object, "prune", e->prune, e->prune_count);
        add_points(object, "drop_top", e->drop, e->drop_count);
    }
    return object;
}
