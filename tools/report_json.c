#include "report_json.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "json.h"
#include "report_series.h"

enum { FORMAT = 1 };

/* What the whole report shares. */
struct context {
    const struct run *runs;
    const struct methods *methods;
    const json_t *compare;
    double *scratch;           /* a number for each run of a method, of each kind that is being averaged */
    double baseline_loss, baseline_tokens;
    double none_seconds;       /* of a step without balance */
};

static double last_tokens(const struct run *run)
{
    return run->validation.count > 0 ? (double)run->validation.points[run->validation.count - 1].tokens : NAN;
}

/* Tokens at which a run's validation loss first was at or below `loss`, on a straight line between validations. */
static double tokens_to_loss(const struct run *run, double loss)
{
    const struct point *before = NULL;
    for (size_t i = 0; i < run->validation.count; i++) {
        const struct point *point = &run->validation.points[i];
        if (isnan(point->loss))
            continue;
        if (point->loss <= loss) {
            const double tokens = (double)point->tokens;
            if (!before)
                return tokens;
            const double way = (before->loss - loss) / (before->loss - point->loss);
            return (double)before->tokens + way * (tokens - (double)before->tokens);
        }
        before = point;
    }
    return NAN;
}

/* Seconds of a step by the median of the speeds that the run logged. */
static double run_step_seconds(const struct run *run)
{
    double *speeds = malloc((run->log.count + 1) * sizeof *speeds);
    size_t n = 0;
    for (size_t i = 0; speeds && i < run->log.count; i++)
        if (run->log.points[i].tokens_per_second > 0.0)
            speeds[n++] = run->log.points[i].tokens_per_second;
    const double speed = speeds ? median(speeds, n) : NAN;
    free(speeds);
    return (double)run->step_tokens / speed;
}

static const json_t *measured_seconds(const struct context *c)
{
    const json_t *seconds = json_object_get(c->compare, "step_seconds");
    return json_object_size(seconds) > 0 ? seconds : NULL;
}

static double step_seconds(const struct context *c, const struct method *method)
{
    const json_t *measured = measured_seconds(c);
    if (measured) {
        const json_t *value = json_object_get(measured, method->label);
        if (!value)
            value = json_object_get(measured, method->base);
        return value && json_number_value(value) > 0.0 ? json_number_value(value) : NAN;
    }
    for (size_t i = 0; i < method->counted_count; i++)
        c->scratch[i] = run_step_seconds(&c->runs[method->counted[i]]);
    return mean_of(c->scratch, method->counted_count);
}

static double none_seconds(const struct context *c)
{
    const double measured = json_number_value(json_object_get(measured_seconds(c), "none"));
    if (measured > 0.0)
        return measured;
    for (size_t m = 0; m < c->methods->count; m++)
        if (strcmp(c->methods->list[m].base, "none") == 0)
            return step_seconds(c, &c->methods->list[m]);
    return NAN;
}

static json_t *summary_json(const struct context *c, const struct method *method)
{
    const size_t count = method->counted_count;
    json_t *object = json_object();
    for (size_t i = 0; i < count; i++)
        c->scratch[i] = run_loss(&c->runs[method->counted[i]]);
    json_object_set_new(object, "loss", mean_json(c->scratch, count));
    for (size_t i = 0; i < count; i++)
        c->scratch[i] = exp(c->scratch[i]);
    json_object_set_new(object, "perplexity", mean_json(c->scratch, count));
    for (size_t reduction = 0; reduction < REDUCTIONS; reduction++) {
        for (size_t i = 0; i < count; i++)
            c->scratch[i] = reduce(reduction, c->runs[method->counted[i]].fields, c->runs[method->counted[i]].layers);
        json_object_set_new(object, reduction_name(reduction), mean_json(c->scratch, count));
    }
    return object;
}

/* {"mean", "sd", "n", "of", "runs": [tokens of each counted run, null where it did not get there], "saving"} */
static json_t *tokens_to_baseline_json(const struct context *c, const struct method *method)
{
    const size_t count = method->counted_count;
    json_t *each = json_array();
    for (size_t i = 0; i < count; i++) {
        c->scratch[i] = tokens_to_loss(&c->runs[method->counted[i]], c->baseline_loss);
        json_array_append_new(each, json_number(c->scratch[i]));
    }
    json_t *object = mean_json(c->scratch, count);
    json_object_set_new(object, "of", json_integer((json_int_t)count));
    json_object_set_new(object, "runs", each);
    json_object_set_new(object, "saving", method == &c->methods->list[c->methods->baseline] ? json_real(0.0) :
                        json_number(1.0 - mean_of(c->scratch, count) / c->baseline_tokens));
    return object;
}

static json_t *layers_json(const struct context *c, const struct method *method)
{
    const size_t layers = c->runs[method->runs[0]].layers;
    json_t *object = json_object();
    for (size_t f = 0; f < FIELD_COUNT; f++) {
        json_t *list = json_array();
        bool any = false;
        for (size_t l = 0; l < layers; l++) {
            for (size_t i = 0; i < method->counted_count; i++)
                c->scratch[i] = c->runs[method->counted[i]].fields[f * layers + l];
            any = any || !isnan(mean_of(c->scratch, method->counted_count));
            json_array_append_new(list, mean_json(c->scratch, method->counted_count));
        }
        if (any)
            json_object_set_new(object, report_field_names[f], list);
        else
            json_decref(list);
    }
    return object;
}

/* [[16 shares] of each layer], mean over the runs; null where nothing was measured. */
static json_t *gates_json(const struct context *c, const struct method *method)
{
    const size_t layers = c->runs[method->runs[0]].layers;
    json_t *object = json_array();
    bool any = false;
    for (size_t l = 0; l < layers; l++) {
        json_t *list = json_array();
        for (size_t g = 0; g < VKMOE_GATE_BINS; g++) {
            for (size_t i = 0; i < method->counted_count; i++)
                c->scratch[i] = c->runs[method->counted[i]].gates[l * VKMOE_GATE_BINS + g];
            const double mean = mean_of(c->scratch, method->counted_count);
            any = any || !isnan(mean);
            json_array_append_new(list, json_number(mean));
        }
        json_array_append_new(object, list);
    }
    if (any)
        return object;
    json_decref(object);
    return json_null();
}

static const struct cut *cut_at(const struct cuts *cuts, double at)
{
    for (size_t i = 0; i < cuts->count; i++)
        if (!(cuts->list[i].at < at) && !(cuts->list[i].at > at))
            return &cuts->list[i];
    return NULL;
}

/* What all the counted runs that were evaluated have in common: [{"below" or "n", "loss": {"mean", ...}, ...}] */
static json_t *cuts_json(const struct context *c, const struct method *method, bool prune)
{
    static const char *const names[] = { "loss", "perplexity", "seconds", "active_experts" };
    const struct cuts *first = NULL;
    json_t *list = json_array();
    for (size_t i = 0; i < method->counted_count && !first; i++) {
        const struct run *run = &c->runs[method->counted[i]];
        first = prune ? &run->prune : &run->drop_top;
        first = first->count > 0 ? first : NULL;
    }
    for (size_t p = 0; first && p < first->count; p++) {
        json_t *entry = json_pack("{s:f}", prune ? "below" : "n", first->list[p].at);
        for (size_t field = 0; field < 4; field++) {
            for (size_t i = 0; i < method->counted_count; i++) {
                const struct run *run = &c->runs[method->counted[i]];
                const struct cut *cut = cut_at(prune ? &run->prune : &run->drop_top, first->list[p].at);
                c->scratch[i] = !cut ? NAN : (const double[]){ cut->loss, cut->perplexity, cut->seconds,
                                                               cut->active_experts }[field];
            }
            json_object_set_new(entry, names[field], mean_json(c->scratch, method->counted_count));
        }
        json_array_append_new(list, entry);
    }
    return list;
}

static json_t *indices_json(const size_t *indices, size_t count)
{
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++)
        json_array_append_new(list, json_integer((json_int_t)indices[i]));
    return list;
}

static json_t *method_json(const struct context *c, const struct method *method)
{
    const double seconds = step_seconds(c, method);
    json_t *object = json_pack("{s:o, s:s, s:b, s:b}", "label", json_text(method->label), "base", method->base, "dense",
                               method->dense, "finished", method->finished);
    json_object_set_new(object, "runs", indices_json(method->runs, method->count));
    json_object_set_new(object, "counted", indices_json(method->counted, method->counted_count));
    json_object_set_new(object, "summary", summary_json(c, method));
    json_object_set_new(object, "tokens_to_baseline", tokens_to_baseline_json(c, method));
    json_object_set_new(object, "step_seconds", json_number(seconds));
    json_object_set_new(object, "step_relative", json_number(seconds / c->none_seconds));
    json_object_set_new(object, "curve", method_curve_json(c->runs, method));
    json_object_set_new(object, "layers", layers_json(c, method));
    json_object_set_new(object, "gates", gates_json(c, method));
    json_object_set_new(object, "prune", cuts_json(c, method, true));
    json_object_set_new(object, "drop_top", cuts_json(c, method, false));
    return object;
}

static json_t *run_layers_json(const struct run *run)
{
    json_t *object = json_object();
    for (size_t f = 0; f < FIELD_COUNT; f++) {
        json_t *list = json_array();
        for (size_t l = 0; l < run->layers; l++)
            json_array_append_new(list, json_number(run->fields[f * run->layers + l]));
        json_object_set_new(object, report_field_names[f], list);
    }
    return object;
}

static json_t *run_json(const struct context *c, size_t index)
{
    const struct run *run = &c->runs[index];
    const struct point *last_log = run->log.count > 0 ? &run->log.points[run->log.count - 1] : NULL;
    const struct point *last = run->validation.count > 0 ? &run->validation.points[run->validation.count - 1] : NULL;
    size_t m = 0;
    for (size_t i = 0; i < c->methods->count; i++)
        for (size_t r = 0; r < c->methods->list[i].count; r++)
            if (c->methods->list[i].runs[r] == index)
                m = i;
    if (!last || (last_log && last_log->step > last->step))
        last = last_log;
    const double loss = run_loss(run), seconds = run_step_seconds(run);
    json_t *object = json_pack("{s:o, s:I, s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "name", json_text(run->name), "method",
                               (json_int_t)m, "seed", run->seed, "finished", run->finished, "step",
                               last ? (json_int_t)last->step : 0, "steps", (json_int_t)run->steps, "tokens",
                               last ? (json_int_t)last->tokens : 0, "parameters", (json_int_t)run->parameters,
                               "skipped", (json_int_t)run->skipped);
    json_object_set_new(object, "device", run->device ? json_string(run->device) : json_null());
    json_object_set_new(object, "loss", json_number(loss));
    json_object_set_new(object, "perplexity", json_number(exp(loss)));
    json_object_set_new(object, "tokens_per_second", json_number((double)run->step_tokens / seconds));
    json_object_set(object, "model", (json_t *)run->model);
    json_object_set(object, "train", (json_t *)run->train);
    json_object_set_new(object, "layers", run_layers_json(run));
    json_object_set_new(object, "validation", validation_json(run));
    json_object_set_new(object, "log", log_json(run));
    json_object_set_new(object, "load", load_json(run));
    return object;
}

/* What the smallest and the largest of the runs are, to be held beside the paper's. */
static json_t *scale_json(const struct context *c, size_t count)
{
    uint64_t least = UINT64_MAX, most = 0;
    double tokens = 0.0;
    for (size_t r = 0; r < count; r++) {
        const struct run *run = &c->runs[r];
        least = run->parameters < least ? run->parameters : least;
        most = run->parameters > most ? run->parameters : most;
        tokens = fmax(tokens, last_tokens(run));
        if (run->log.count > 0)
            tokens = fmax(tokens, (double)run->log.points[run->log.count - 1].tokens);
    }
    return json_pack("{s:[I, I], s:f}", "parameters", (json_int_t)least, (json_int_t)most, "tokens", tokens);
}

json_t *report_json(const struct run *runs, size_t count, const struct methods *methods, const json_t *compare,
                    const json_t *paper)
{
    struct context c = { .runs = runs, .methods = methods, .compare = compare };
    const struct method *baseline = &methods->list[methods->baseline];
    c.scratch = malloc(count * sizeof *c.scratch);
    if (!c.scratch)
        return NULL;
    for (size_t i = 0; i < baseline->counted_count; i++)
        c.scratch[i] = run_loss(&runs[baseline->counted[i]]);
    c.baseline_loss = mean_of(c.scratch, baseline->counted_count);
    for (size_t i = 0; i < baseline->counted_count; i++)
        c.scratch[i] = last_tokens(&runs[baseline->counted[i]]);
    c.baseline_tokens = mean_of(c.scratch, baseline->counted_count);
    c.none_seconds = none_seconds(&c);
    json_t *object = json_pack("{s:i, s:s, s:s, s:{s:I, s:o, s:o}, s:s}", "format", FORMAT, "version", vkmoe_version(),
                               "data", runs[0].data, "baseline", "method", (json_int_t)methods->baseline, "loss",
                               json_number(c.baseline_loss), "tokens", json_number(c.baseline_tokens), "step_time",
                               measured_seconds(&c) ? "interleaved" : "runs");
    json_object_set_new(object, "scale", scale_json(&c, count));
    json_object_set(object, "paper", (json_t *)paper);
    json_t *list = json_array();
    for (size_t m = 0; m < methods->count; m++)
        json_array_append_new(list, method_json(&c, &methods->list[m]));
    json_object_set_new(object, "methods", list);
    list = json_array();
    for (size_t r = 0; r < count; r++)
        json_array_append_new(list, run_json(&c, r));
    json_object_set_new(object, "runs", list);
    free(c.scratch);
    return object;
}
