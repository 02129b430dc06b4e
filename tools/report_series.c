#include "report_series.h"

#include <math.h>
#include <stdlib.h>

#include "json.h"

enum { MAX_VALIDATIONS = 200, MAX_LOG = 120, MAX_LOAD = 40, MAX_SHARES = 1 << 20 };

enum { MEAN, SUM, LEAST, MOST };
static const struct {
    const char *name;
    enum report_field field;
    int how;
} reductions[REDUCTIONS] = {
    { "pes_min", FIELD_PES, LEAST },         { "pes", FIELD_PES, MEAN },
    { "seu", FIELD_SEU, MEAN },              { "entropy", FIELD_ENTROPY, MEAN },
    { "entropy_topk", FIELD_ENTROPY_TOPK, MEAN }, { "gram_mean_square", FIELD_GRAM_MEAN_SQUARE, MEAN },
    { "gram_max", FIELD_GRAM_MAX, MOST },    { "dead", FIELD_DEAD, SUM },
    { "used", FIELD_USED, MEAN },            { "load_max", FIELD_LOAD_MAX, MEAN },
    { "load_min", FIELD_LOAD_MIN, MEAN },    { "load_cv", FIELD_LOAD_CV, MEAN },
    { "changed", FIELD_CHANGED, MEAN },
};

const char *reduction_name(size_t reduction)
{
    return reductions[reduction].name;
}

double reduce(size_t reduction, const double *fields, size_t layers)
{
    const double *values = fields + (size_t)reductions[reduction].field * layers;
    double sum = 0.0, least = INFINITY, most = -INFINITY;
    size_t n = 0;
    for (size_t l = 0; l < layers; l++) {
        if (isnan(values[l]))
            continue;
        sum += values[l];
        least = fmin(least, values[l]);
        most = fmax(most, values[l]);
        n++;
    }
    if (n == 0)
        return NAN;
    switch (reductions[reduction].how) {
    case MEAN:
        return sum / (double)n;
    case SUM:
        return sum;
    case LEAST:
        return least;
    default:
        return most;
    }
}

static double mean_and_sd(const double *values, size_t count, double *sd, size_t *n)
{
    double sum = 0.0, squares = 0.0;
    *n = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i])) {
            sum += values[i];
            ++*n;
        }
    const double mean = *n > 0 ? sum / (double)*n : NAN;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            squares += (values[i] - mean) * (values[i] - mean);
    *sd = *n > 1 ? sqrt(squares / (double)(*n - 1)) : NAN;
    return mean;
}

double mean_of(const double *values, size_t count)
{
    double sd;
    size_t n;
    return mean_and_sd(values, count, &sd, &n);
}

json_t *mean_json(const double *values, size_t count)
{
    double sd;
    size_t n;
    const double mean = mean_and_sd(values, count, &sd, &n);
    return json_pack("{s:o, s:o, s:I}", "mean", json_number(mean), "sd", json_number(sd), "n", (json_int_t)n);
}

/* Column 0 is the loss, the others are the reductions. */
static const char *column_name(size_t column)
{
    return column == 0 ? "loss" : reductions[column - 1].name;
}

static double column_value(const struct run *run, const struct point *point, size_t column)
{
    return column == 0 ? point->loss : reduce(column - 1, point->fields, run->layers);
}

static const struct point *at_step(const struct run *run, uint64_t step)
{
    size_t low = 0, high = run->validation.count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if (run->validation.points[middle].step < step)
            low = middle + 1;
        else
            high = middle;
    }
    const struct point *point = run->validation.points + low;
    return low < run->validation.count && point->step == step ? point : NULL;
}

/* The index-th of `kept` that are spread over `count`, the first and the last among them. */
static size_t spread(size_t index, size_t kept, size_t count)
{
    return kept > 1 ? index * (count - 1) / (kept - 1) : count - 1;
}

static size_t at_most(size_t count, size_t limit)
{
    return count < limit ? count : limit;
}

json_t *method_curve_json(const struct run *runs, const struct method *method)
{
    const struct run *first = &runs[method->counted[0]];
    const size_t kept = at_most(first->validation.count, MAX_VALIDATIONS);
    double *values = malloc(method->counted_count * sizeof *values);
    json_t *object = values ? json_object() : NULL, *steps = json_array(), *tokens = json_array();
    for (size_t column = 0; column <= REDUCTIONS; column++) {
        json_t *means = json_array(), *sds = json_array();
        for (size_t i = 0; values && i < kept; i++) {
            const struct point *point = &first->validation.points[spread(i, kept, first->validation.count)];
            const struct point *same = point;
            double sd;
            size_t n;
            for (size_t r = 0; same && r < method->counted_count; r++) {
                same = at_step(&runs[method->counted[r]], point->step);
                values[r] = same ? column_value(&runs[method->counted[r]], same, column) : NAN;
            }
            if (!same)
                continue;
            json_array_append_new(means, json_number(mean_and_sd(values, method->counted_count, &sd, &n)));
            json_array_append_new(sds, json_number(sd));
            if (column == 0) {
                json_array_append_new(steps, json_integer((json_int_t)point->step));
                json_array_append_new(tokens, json_integer((json_int_t)point->tokens));
            }
        }
        json_object_set_new(object, column_name(column), json_pack("{s:o, s:o}", "mean", means, "sd", sds));
    }
    json_object_set_new(object, "step", steps);
    json_object_set_new(object, "tokens", tokens);
    free(values);
    return object;
}

/* Points [group_begin, group_end) of a series become one: the mean of each column, the step and tokens of the last. */
static json_t *columns_json(const struct run *run, const struct series *series, size_t groups,
                            size_t (*begin)(size_t group, size_t groups, size_t count))
{
    json_t *object = json_object(), *steps = json_array(), *tokens = json_array();
    for (size_t g = 0; g < groups; g++) {
        const struct point *last = &series->points[begin(g + 1, groups, series->count) - 1];
        json_array_append_new(steps, json_integer((json_int_t)last->step));
        json_array_append_new(tokens, json_integer((json_int_t)last->tokens));
    }
    json_object_set_new(object, "step", steps);
    json_object_set_new(object, "tokens", tokens);
    for (size_t column = 0; column <= REDUCTIONS; column++) {
        json_t *list = json_array();
        bool any = false;
        for (size_t g = 0; g < groups; g++) {
            double sum = 0.0;
            size_t n = 0;
            for (size_t i = begin(g, groups, series->count); i < begin(g + 1, groups, series->count); i++) {
                const double value = column_value(run, &series->points[i], column);
                if (isnan(value))
                    continue;
                sum += value;
                n++;
            }
            any = any || n > 0;
            json_array_append_new(list, json_number(n > 0 ? sum / (double)n : NAN));
        }
        if (any || column == 0)
            json_object_set_new(object, column_name(column), list);
        else
            json_decref(list); /* nothing but nulls */
    }
    return object;
}

static size_t even_begin(size_t group, size_t groups, size_t count)
{
    return group * count / groups;
}

json_t *validation_json(const struct run *run)
{
    const size_t kept = at_most(run->validation.count, MAX_VALIDATIONS);
    struct series thinned = { .points = calloc(kept + 1, sizeof *thinned.points), .count = kept };
    if (!thinned.points)
        return NULL;
    for (size_t i = 0; i < kept; i++)
        thinned.points[i] = run->validation.points[spread(i, kept, run->validation.count)];
    json_t *object = columns_json(run, &thinned, kept, even_begin);
    free(thinned.points);
    return object;
}

json_t *log_json(const struct run *run)
{
    return columns_json(run, &run->log, at_most(run->log.count, MAX_LOG), even_begin);
}

/* One layer's load over log lines [first, end): tokens of each expert over their mean, to three decimals. */
static json_t *share_json(const struct run *run, size_t layer, size_t first, size_t end)
{
    const size_t experts = run->experts;
    json_t *list = json_array();
    double total = 0.0;
    for (size_t i = first; i < end; i++)
        for (size_t e = 0; run->log.points[i].load && e < experts; e++)
            if (!isnan(run->log.points[i].load[layer * experts + e]))
                total += run->log.points[i].load[layer * experts + e];
    for (size_t e = 0; e < experts; e++) {
        double sum = 0.0;
        for (size_t i = first; i < end; i++)
            if (run->log.points[i].load && !isnan(run->log.points[i].load[layer * experts + e]))
                sum += run->log.points[i].load[layer * experts + e];
        const double share = total > 0.0 ? sum * (double)experts / total : NAN;
        json_array_append_new(list, json_number(round(share * 1000.0) / 1000.0));
    }
    return list;
}

json_t *load_json(const struct run *run)
{
    size_t kept = at_most(run->log.count, MAX_LOAD);
    bool any = false;
    for (size_t i = 0; i < run->log.count; i++)
        any = any || (run->log.points[i].load && !isnan(run->log.points[i].load[0]));
    if (run->dense || !any)
        return json_null();
    while (kept > 1 && kept * run->layers * run->experts > MAX_SHARES)
        kept--;
    json_t *tokens = json_array(), *times = json_array();
    for (size_t g = 0; g < kept; g++) {
        const size_t first = even_begin(g, kept, run->log.count), end = even_begin(g + 1, kept, run->log.count);
        json_t *layers = json_array();
        for (size_t l = 0; l < run->layers; l++)
            json_array_append_new(layers, share_json(run, l, first, end));
        json_array_append_new(times, layers);
        json_array_append_new(tokens, json_integer((json_int_t)run->log.points[end - 1].tokens));
    }
    return json_pack("{s:o, s:o}", "tokens", tokens, "share", times);
}
