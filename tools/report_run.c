#define _XOPEN_SOURCE 700 /* realpath */
#include "report_run.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "common.h"
#include "files.h"

#define MAX_COUNT 9007199254740992.0 /* 2^53: whole numbers up to here are exact */
enum { MAX_METRICS = 1 << 28, MAX_LINE = 1 << 24, MAX_VALUES = 1 << 26 };
enum { MAX_LAYERS = 1024, MAX_EXPERTS = 65536, MAX_ROUTED = 1 << 20 };

#define REPORT_FIELD_NAME(id, name) name,
const char *const report_field_names[FIELD_COUNT] = { REPORT_FIELDS(REPORT_FIELD_NAME) };

/* An object being read. The first fault is told and latches in bad. */
struct reader {
    const char *path;
    size_t line;               /* 0: the file has no lines to name */
    bool bad;
};

__attribute__((format(printf, 2, 3))) static void fault(struct reader *in, const char *format, ...)
{
    char text[160], line[24] = "";
    va_list arguments;
    if (in->bad)
        return;
    in->bad = true;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (in->line > 0)
        snprintf(line, sizeof line, ":%zu", in->line);
    message("%s%s: %s", in->path, line, text);
}

/* NULL and a fault where it is not there or of another type. */
static const json_t *need(struct reader *in, const json_t *object, const char *key, json_type type, const char *what)
{
    const json_t *value = json_object_get(object, key);
    if (value && json_typeof(value) == type)
        return value;
    fault(in, value ? "\"%s\" must be %s" : "\"%s\" is missing; it must be %s", key, what);
    return NULL;
}

static uint64_t need_count(struct reader *in, const json_t *object, const char *key, uint64_t min, uint64_t max)
{
    const json_int_t value = json_integer_value(need(in, object, key, JSON_INTEGER, "a whole number"));
    if (!in->bad && (value < 0 || (uint64_t)value < min || (uint64_t)value > max))
        fault(in, "\"%s\" must be from %" PRIu64 " to %" PRIu64, key, min, max);
    return in->bad ? min : (uint64_t)value;
}

static const char *need_text(struct reader *in, const json_t *object, const char *key)
{
    return json_string_value(need(in, object, key, JSON_STRING, "a string"));
}

/* null stands for a number that was not finite. */
static bool read_number(const json_t *value, double min, double max, double *out)
{
    *out = NAN;
    if (!value || json_is_null(value))
        return true;
    if (!json_is_number(value) || json_number_value(value) < min || json_number_value(value) > max)
        return false;
    *out = json_number_value(value);
    return true;
}

static double number(struct reader *in, const json_t *object, const char *key, double min, double max)
{
    double value;
    if (!read_number(json_object_get(object, key), min, max, &value))
        fault(in, "\"%s\" must be a number from %g to %g", key, min, max);
    return value;
}

static void read_numbers(struct reader *in, const json_t *list, size_t count, double min, const char *key, double *out)
{
    if (!json_is_array(list) || json_array_size(list) != count) {
        fault(in, "\"%s\" must be a list of %zu", key, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        if (!read_number(json_array_get(list, i), min, MAX_COUNT, &out[i]))
            fault(in, "\"%s\" must hold numbers of at least %g", key, min);
}

/* [rows] or, with columns above 0, [rows, columns]; left as it is where the key is not there or null. */
static void table(struct reader *in, const json_t *object, const char *key, size_t rows, size_t columns, double *out)
{
    const json_t *list = json_object_get(object, key);
    const double min = strcmp(key, "pes") == 0 ? -1.0 : 0.0; /* a cosine */
    if (!list || json_is_null(list))
        return;
    if (columns == 0) {
        read_numbers(in, list, rows, min, key, out);
        return;
    }
    if (!json_is_array(list) || json_array_size(list) != rows) {
        fault(in, "\"%s\" must be a list of %zu lists", key, rows);
        return;
    }
    for (size_t i = 0; i < rows; i++)
        read_numbers(in, json_array_get(list, i), columns, min, key, out + i * columns);
}

static double *nan_table(size_t count)
{
    double *values = malloc(count * sizeof *values);
    for (size_t i = 0; values && i < count; i++)
        values[i] = NAN;
    return values;
}

static void read_fields(struct reader *in, const json_t *object, const struct run *run, double *fields, double *gates)
{
    if (run->dense)
        return;
    for (size_t f = 0; f < FIELD_COUNT; f++)
        table(in, object, report_field_names[f], run->layers, 0, fields + f * run->layers);
    table(in, object, "gates", run->layers, VKMOE_GATE_BINS, gates);
}

/* Appends to the log or to the validations. */
static bool read_point(struct reader *in, const json_t *object, struct run *run)
{
    const bool validation = json_object_get(object, "val_loss");
    struct series *series = validation ? &run->validation : &run->log;
    const size_t field_count = (size_t)FIELD_COUNT * run->layers, gate_count = (size_t)run->layers * VKMOE_GATE_BINS;
    const bool has_load = !validation && !run->dense && json_is_array(json_object_get(object, "expert_tokens"));
    const size_t load_count = has_load ? (size_t)run->layers * run->experts : 0; /* no more than the line gives reason for */
    struct point point = {
        .step = need_count(in, object, "step", 0, (uint64_t)MAX_COUNT),
        .tokens = need_count(in, object, "tokens", 0, (uint64_t)MAX_COUNT),
        .loss = number(in, object, validation ? "val_loss" : "loss", 0.0, 1e30),
        .tokens_per_second = number(in, object, "tokens_per_second", 0.0, 1e30),
    };
    struct point *last = series->count > 0 ? &series->points[series->count - 1] : NULL;
    if (last && (point.step < last->step || point.tokens < last->tokens))
        fault(in, "\"step\" and \"tokens\" go back behind those of an earlier line");
    run->values += field_count + gate_count + load_count;
    if (run->values > MAX_VALUES)
        fault(in, "the lines up to here hold more than %d numbers: too many for a report", MAX_VALUES);
    if (in->bad)
        return false;
    point.fields = nan_table(field_count + gate_count + load_count);
    if (!point.fields) {
        message("out of memory");
        return false;
    }
    point.gates = point.fields + field_count;
    point.load = has_load ? point.gates + gate_count : NULL;
    read_fields(in, object, run, point.fields, point.gates);
    if (has_load)
        table(in, object, "expert_tokens", run->layers, run->experts, point.load);
    if (in->bad) {
        free(point.fields);
        return false;
    }
    if (last && last->step == point.step) {
        /* Validated twice, the last time on more tokens; but routing has not moved since a moment ago. */
        const size_t changed = (size_t)FIELD_CHANGED * run->layers;
        for (size_t l = 0; l < run->layers; l++)
            if (!isnan(last->fields[changed + l]))
                point.fields[changed + l] = last->fields[changed + l];
        free(last->fields);
        *last = point;
        return true;
    }
    if ((series->count & (series->count - 1)) == 0) { /* a power of two: full */
        struct point *points = realloc(series->points, (series->count ? 2 * series->count : 1) * sizeof *points);
        if (!points) {
            message("out of memory");
            free(point.fields);
            return false;
        }
        series->points = points;
    }
    series->points[series->count++] = point;
    return true;
}

/* A last line that was cut short is left out: the run is going on, or was killed. */
static bool read_metrics(struct run *run)
{
    struct reader in = { 0 };
    size_t bytes;
    char *path = path_in(run->path, "metrics.jsonl"), *text = path ? file_load(path, MAX_METRICS, &bytes, NULL) : NULL;
    bool fine = text;
    in.path = path;
    for (size_t at = 0; fine && at < bytes;) {
        json_error_t error;
        const char *end = memchr(text + at, '\n', bytes - at);
        const size_t length = end ? (size_t)(end - (text + at)) : bytes - at;
        json_t *object = length > MAX_LINE ? NULL : json_loadb(text + at, length, JSON_REJECT_DUPLICATES, &error);
        in.line++;
        if (!object && !end && length <= MAX_LINE)
            break;
        if (length > MAX_LINE)
            fault(&in, "a line of more than %d MiB", MAX_LINE >> 20);
        else if (!object)
            fault(&in, "%s", error.text);
        else if (!json_is_object(object))
            fault(&in, "is not a JSON object");
        fine = !in.bad && read_point(&in, object, run);
        json_decref(object);
        at += length + 1;
    }
    free(text);
    free(path);
    return fine;
}

static bool read_cuts(struct reader *in, const json_t *object, const char *key, const char *at, struct cuts *out)
{
    const json_t *list = json_object_get(object, key);
    if (!list || json_is_null(list))
        return true;
    if (!json_is_array(list)) {
        fault(in, "\"%s\" must be a list", key);
        return false;
    }
    out->list = calloc(json_array_size(list) + 1, sizeof *out->list);
    if (!out->list) {
        message("out of memory");
        return false;
    }
    for (; out->count < json_array_size(list) && !in->bad; out->count++) {
        const json_t *entry = json_array_get(list, out->count);
        if (!json_is_object(entry))
            fault(in, "\"%s\" must hold objects", key);
        out->list[out->count] = (struct cut){
            .at = number(in, entry, at, 0.0, MAX_EXPERTS),
            .loss = number(in, entry, "loss", 0.0, 1e30),
            .perplexity = number(in, entry, "perplexity", 0.0, 1e300),
            .seconds = number(in, entry, "seconds", 0.0, 1e30),
            .active_experts = number(in, entry, "active_experts", 0.0, MAX_EXPERTS),
        };
        if (isnan(out->list[out->count].at))
            fault(in, "\"%s\": \"%s\" is missing", key, at);
    }
    return !in->bad;
}

/* evaluation.json, where there is one. Its layers are objects of numbers. */
static bool read_evaluation(struct run *run)
{
    struct reader in = { 0 };
    bool absent = false;
    char *path = path_in(run->path, "evaluation.json");
    json_t *object = path ? json_file_load(path, &absent) : NULL;
    in.path = path;
    const json_t *layers = json_object_get(object, "layers");
    bool fine = object || absent;
    if (object && layers && (!json_is_array(layers) || json_array_size(layers) != run->layers))
        fault(&in, "\"layers\" must be a list of %" PRIu32, run->layers);
    for (size_t l = 0; layers && !in.bad && !run->dense && l < run->layers; l++) {
        const json_t *layer = json_array_get(layers, l);
        double value;
        if (!json_is_object(layer))
            fault(&in, "\"layers\" must hold objects");
        for (size_t f = 0; f < FIELD_COUNT; f++) {
            value = number(&in, layer, report_field_names[f], f == FIELD_PES ? -1.0 : 0.0, MAX_COUNT);
            if (!isnan(value))
                run->fields[f * run->layers + l] = value;
        }
        table(&in, layer, "gates", VKMOE_GATE_BINS, 0, run->gates + l * VKMOE_GATE_BINS);
    }
    fine = fine && !in.bad && read_cuts(&in, object, "prune", "below", &run->prune) &&
           read_cuts(&in, object, "drop_top", "n", &run->drop_top);
    json_decref(object);
    free(path);
    return fine;
}

/* The last value that a validation, or else a log line, has of each field. */
static void last_fields(struct run *run)
{
    const struct series *const both[] = { &run->validation, &run->log };
    const size_t field_count = (size_t)FIELD_COUNT * run->layers, gate_count = (size_t)run->layers * VKMOE_GATE_BINS;
    for (size_t s = 0; s < 2; s++)
        for (size_t i = both[s]->count; i-- > 0;) {
            const struct point *point = &both[s]->points[i];
            for (size_t f = 0; f < field_count; f++)
                if (isnan(run->fields[f]))
                    run->fields[f] = point->fields[f];
            for (size_t g = 0; g < gate_count; g++)
                if (isnan(run->gates[g]))
                    run->gates[g] = point->gates[g];
        }
}

/* All weights of the Transformer that vkmoe.h describes: the library counts them only where there is a device. */
static uint64_t parameters(struct reader *in, const json_t *model)
{
    const uint64_t max = 1 << 20, layers = need_count(in, model, "layers", 1, MAX_LAYERS);
    const uint64_t d = need_count(in, model, "d_model", 1, max), v = need_count(in, model, "vocab", 1, 1 << 24);
    const uint64_t e = need_count(in, model, "experts", 1, MAX_EXPERTS), f = need_count(in, model, "d_expert", 1, max);
    const uint64_t shared = need_count(in, model, "d_shared", 0, max);
    const bool bias = json_is_true(json_object_get(model, "router_bias"));
    if ((double)layers * (double)d * ((double)e * (double)f + (double)shared + 2.0 * (double)d) > MAX_COUNT / 8)
        fault(in, "\"layers\", \"experts\", \"d_model\" and \"d_expert\" make more weights than there can be");
    if (in->bad)
        return 0;
    const uint64_t layer = 2 * d + 4 * d * d + e * d + (bias ? e : 0) + 3 * d * (e * f + shared);
    return layers * layer + 2 * v * d + d;
}

static void read_config(struct reader *in, struct run *run)
{
    need_count(in, run->trainer, "format", 2, 4);
    run->model = need(in, run->trainer, "model", JSON_OBJECT, "an object");
    run->train = need(in, run->trainer, "train", JSON_OBJECT, "an object");
    run->data = need_text(in, run->trainer, "data");
    run->device = json_string_value(json_object_get(run->trainer, "device"));
    if (in->bad)
        return;
    run->skipped = need_count(in, run->trainer, "skipped", 0, (uint64_t)MAX_COUNT);
    run->layers = (uint32_t)need_count(in, run->model, "layers", 1, MAX_LAYERS);
    run->experts = (uint32_t)need_count(in, run->model, "experts", 1, MAX_EXPERTS);
    if ((uint64_t)run->layers * run->experts > MAX_ROUTED)
        fault(in, "\"experts\": more than %d in all layers", MAX_ROUTED);
    run->dense = run->experts == 1;
    run->parameters = parameters(in, run->model);
    run->seed = need_text(in, run->train, "seed");
    run->steps = need_count(in, run->train, "steps", 1, UINT32_MAX);
    run->step_tokens = need_count(in, run->model, "seq", 1, 1 << 24) * need_count(in, run->train, "batch", 1, 1 << 24) *
                       need_count(in, run->train, "accum", 1, 1 << 15);
    float *const coefficients[] = { &run->balance.simbal, &run->balance.lbl, &run->balance.lossfree };
    static const char *const names[] = { "simbal", "lbl", "lossfree" };
    for (size_t i = 0; i < 3; i++) {
        const double value = number(in, run->train, names[i], 0.0, 1e6);
        *coefficients[i] = isnan(value) ? 0.0f : (float)value;
    }
}

/* The absolute path, and its last part. */
static bool resolve(const char *dir, struct run *run)
{
    struct stat info;
    run->path = realpath(dir, NULL);
    if (!run->path || stat(run->path, &info) != 0) {
        message("%s: %s", dir, strerror(errno));
        return false;
    }
    if (!S_ISDIR(info.st_mode)) {
        message("%s: is not a directory", dir);
        return false;
    }
    run->name = strrchr(run->path, '/') + 1;
    return true;
}

enum run_result run_load(const char *dir, struct run *out)
{
    struct reader in = { 0 };
    bool absent = false;
    *out = (struct run){ 0 };
    if (!resolve(dir, out))
        return RUN_BAD;
    char *path = checkpoint_file(out->path, "trainer.json"), *metrics = path_in(out->path, "metrics.jsonl");
    struct stat info;
    in.path = path;
    absent = !path;
    if (path && metrics)
        out->trainer = json_file_load(path, &absent);
    const bool begun = metrics && stat(metrics, &info) == 0;
    free(metrics);
    if (absent && begun)
        message("warning: %s: left out, there is no checkpoint yet: the run has not saved so far", dir);
    else if (absent)
        message("%s: is not a run: there is no checkpoint (step-...) with a trainer.json", dir);
    if (out->trainer)
        read_config(&in, out);
    free(path);
    if (!out->trainer || in.bad)
        return absent && begun ? RUN_EMPTY : RUN_BAD;
    out->fields = nan_table((size_t)FIELD_COUNT * out->layers);
    out->gates = nan_table((size_t)out->layers * VKMOE_GATE_BINS);
    if (!out->fields || !out->gates) {
        message("out of memory");
        return RUN_BAD;
    }
    if (!read_metrics(out) || !read_evaluation(out))
        return RUN_BAD;
    last_fields(out);
    const struct series *log = &out->log, *validation = &out->validation;
    for (size_t l = 0; l < out->layers; l++) {
        double *used = &out->fields[(size_t)FIELD_USED * out->layers + l];
        if (isnan(*used))
            *used = out->experts - out->fields[(size_t)FIELD_DEAD * out->layers + l];
    }
    out->finished = validation->count > 0 && validation->points[validation->count - 1].step >= out->steps &&
                    (log->count == 0 || log->points[log->count - 1].step >= out->steps);
    return RUN_OK;
}

static void series_free(struct series *series)
{
    for (size_t i = 0; i < series->count; i++)
        free(series->points[i].fields);
    free(series->points);
}

void run_free(struct run *run)
{
    series_free(&run->log);
    series_free(&run->validation);
    free(run->prune.list);
    free(run->drop_top.list);
    free(run->fields);
    free(run->gates);
    json_decref(run->trainer);
    free(run->path);
    *run = (struct run){ 0 };
}

double run_loss(const struct run *run)
{
    return run->validation.count > 0 ? run->validation.points[run->validation.count - 1].loss : NAN;
}
