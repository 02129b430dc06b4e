/* Results as JSON, and back. What is read may come from anyone: every member is checked, others are left out. */
#include "json.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "bench/bench.h"
#include "common.h"
#include "devices.h"
#include "files.h"

enum { MAX_RESULTS = 512 }; /* of a list, several times what there is: they are looked up one by one */

/* ---- writing ---------------------------------------------------------------------------------------------------- */

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

/* A ceiling has neither a group nor a ceiling of its own; what was skipped has no numbers. */
static json_t *result_json(const struct bench_result *r, bool ceiling, bool skipped)
{
    json_t *object = ceiling ? json_object() : json_pack("{s:s}", "group", r->group);
    json_t *more = skipped ? json_pack("{s:s, s:o, s:s}", "name", r->name, "shape", text_or_null(r->shape), "reason", r->note)
                           : json_pack("{s:s, s:o, s:s, s:f, s:[f, f], s:I, s:s, s:o}", "name", r->name, "shape",
                                       text_or_null(r->shape), "unit", r->unit, "median", r->median, "quartiles", r->low,
                                       r->high, "repetitions", (json_int_t)r->repetitions, "timer", r->timer, "note",
                                       text_or_null(r->note));
    json_t *relations = ceiling || skipped ? json_object()
                                           : json_pack("{s:o, s:o, s:o, s:o}", "ceiling", text_or_null(r->ceiling), "share",
                                                       json_number(r->share), "of_balanced", json_number(r->of_balanced),
                                                       "host_share", json_number(r->host));
    const bool whole = json_object_update(object, more) == 0 && json_object_update(object, relations) == 0;
    json_decref(more);
    json_decref(relations);
    if (whole)
        return object;
    json_decref(object);
    return NULL;
}

json_t *bench_run_json(const struct bench_run *run)
{
    json_t *ceilings = json_array(), *results = json_array(), *skipped = json_array();
    bool whole = true;
    for (size_t i = 0; i < run->results.count; i++) {
        const bool ceiling = strcmp(run->results.items[i].group, "ceilings") == 0;
        whole = json_array_append_new(ceiling ? ceilings : results, result_json(&run->results.items[i], ceiling, false)) == 0 &&
                whole;
    }
    for (size_t i = 0; i < run->skipped.count; i++)
        whole = json_array_append_new(skipped, result_json(&run->skipped.items[i], false, true)) == 0 && whole;
    json_t *root = json_pack("{s:i, s:s, s:s, s:o, s:o, s:f, s:o, s:o, s:o}", "format", BENCH_FORMAT, "vkmoe", run->vkmoe,
                             "date", run->date, "device", device_json(&run->device), "clock_mhz", json_number(run->clock_mhz),
                             "seconds", run->seconds, "ceilings", ceilings, "results", results, "skipped", skipped);
    if (whole || !root)
        return root;
    json_decref(root);
    return NULL;
}

/* ---- reading ---------------------------------------------------------------------------------------------------- */

/* The first thing that is wrong is reported, the others are not. where is "results[3]." or empty. */
struct reader {
    const char *path;
    char where[40];
    bool failed;
};

__attribute__((format(printf, 3, 4))) static void wrong(struct reader *r, const char *key, const char *format, ...)
{
    char what[160];
    va_list args;
    if (r->failed)
        return;
    r->failed = true;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    message("%s: \"%s%s\" %s", r->path, r->where, key, what);
}

/* Text that can be printed: no control characters, which a terminal would obey. */
static bool plain_text(const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c < ' ' || *c == 0x7f || (c[0] == 0xc2 && c[1] < 0xa0))
            return false;
    return true;
}

/* optional: may be null or missing, and then is empty. */
static void read_text(struct reader *r, const json_t *object, const char *key, bool optional, char *out, size_t size)
{
    const json_t *value = json_object_get(object, key);
    const char *text = json_string_value(value);
    *out = '\0';
    if (optional && (!value || json_is_null(value)))
        return;
    if (!text || (!*text && !optional) || strlen(text) != json_string_length(value) || strlen(text) >= size || !plain_text(text))
        wrong(r, key, "is not a line of%s text of at most %zu bytes", optional ? "" : " some", size - 1);
    else
        memcpy(out, text, strlen(text) + 1);
}

static double number_of(struct reader *r, const json_t *value, const char *key, bool optional, double min, double max)
{
    const double number = json_is_number(value) ? json_number_value(value) : NAN;
    if (optional && (!value || json_is_null(value)))
        return NAN;
    if (!(number >= min && number <= max))
        wrong(r, key, "is not a number from %g to %g", min, max);
    return number;
}

static double read_number(struct reader *r, const json_t *object, const char *key, bool optional, double min, double max)
{
    return number_of(r, json_object_get(object, key), key, optional, min, max);
}

static uint64_t read_whole(struct reader *r, const json_t *object, const char *key, uint64_t min, uint64_t max)
{
    const json_t *value = json_object_get(object, key);
    const json_int_t number = json_integer_value(value);
    if (json_is_integer(value) && number >= 0 && (uint64_t)number >= min && (uint64_t)number <= max)
        return (uint64_t)number;
    wrong(r, key, "is not a whole number from %llu to %llu", (unsigned long long)min, (unsigned long long)max);
    return min;
}

static bool read_flag(struct reader *r, const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_boolean(value))
        wrong(r, key, "is neither true nor false");
    return json_is_true(value);
}

static void read_device(struct reader *r, const json_t *object, struct vkmoe_device_info *d)
{
    char type[16], version[24];
    unsigned v[3], t = 0;
    char end;
    snprintf(r->where, sizeof r->where, "device.");
    read_text(r, object, "name", false, d->name, sizeof d->name);
    read_text(r, object, "driver", false, d->driver, sizeof d->driver);
    read_text(r, object, "uuid", false, d->uuid, sizeof d->uuid);
    read_text(r, object, "type", false, type, sizeof type);
    while (t < VKMOE_DEVICE_CPU && strcmp(type, device_type_name(t)) != 0)
        t++;
    d->type = t;
    if (strcmp(type, device_type_name(t)) != 0)
        wrong(r, "type", "is none that there is");
    read_text(r, object, "vulkan", false, version, sizeof version);
    if (sscanf(version, "%3u.%4u.%4u%c", &v[0], &v[1], &v[2], &end) != 3 || v[0] > 127 || v[1] > 1023 || v[2] > 4095)
        wrong(r, "vulkan", "is not a version like 1.3.239");
    else
        d->api_version = v[0] << 22 | v[1] << 12 | v[2];
    d->memory_bytes = read_whole(r, object, "memory_bytes", 0, UINT64_C(1) << 60);
    d->subgroup_size = (uint32_t)read_whole(r, object, "subgroup_size", 1, 4096);
    d->shared_bytes = (uint32_t)read_whole(r, object, "shared_bytes", 0, UINT32_MAX);
    d->float16 = read_flag(r, object, "float16");
    d->bfloat16 = read_flag(r, object, "bfloat16");
    d->cooperative_matrix = read_flag(r, object, "cooperative_matrix");
}

static void read_result(struct reader *r, const json_t *object, bool ceiling, bool skipped, struct bench_result *out)
{
    static const char *const groups[] = {"ops", "layer", "steps"};
    const double most = 1e18;
    size_t g = 0;
    *out = (struct bench_result){.group = "ceilings", .share = NAN, .of_balanced = NAN, .host = NAN};
    if (!ceiling) {
        read_text(r, object, "group", false, out->group, sizeof out->group);
        while (g < 3 && strcmp(out->group, groups[g]) != 0)
            g++;
        if (g == 3)
            wrong(r, "group", "is none of ops, layer, steps");
    }
    read_text(r, object, "name", false, out->name, sizeof out->name);
    read_text(r, object, "shape", true, out->shape, sizeof out->shape);
    read_text(r, object, skipped ? "reason" : "note", !skipped, out->note, sizeof out->note);
    if (skipped)
        return;
    read_text(r, object, "unit", false, out->unit, sizeof out->unit);
    read_text(r, object, "timer", false, out->timer, sizeof out->timer);
    out->median = read_number(r, object, "median", false, 1e-12, most);
    const json_t *quartiles = json_object_get(object, "quartiles");
    out->low = number_of(r, json_array_get(quartiles, 0), "quartiles", false, 1e-12, most);
    out->high = number_of(r, json_array_get(quartiles, 1), "quartiles", false, 1e-12, most);
    if (json_array_size(quartiles) != 2 || !(out->low <= out->median && out->median <= out->high))
        wrong(r, "quartiles", "are not two numbers around the median");
    out->repetitions = (uint32_t)read_whole(r, object, "repetitions", 1, UINT32_MAX);
    if (ceiling)
        return;
    read_text(r, object, "ceiling", true, out->ceiling, sizeof out->ceiling);
    out->share = read_number(r, object, "share", true, 0, 1e9);
    out->of_balanced = read_number(r, object, "of_balanced", true, 0, 1e9);
    out->host = read_number(r, object, "host_share", true, 0, 1e3);
}

static bool read_list(struct reader *r, const json_t *root, const char *key, struct bench_list *list)
{
    const json_t *array = json_object_get(root, key);
    const bool ceiling = strcmp(key, "ceilings") == 0, skipped = strcmp(key, "skipped") == 0;
    r->where[0] = '\0';
    if (!json_is_array(array) || json_array_size(array) > MAX_RESULTS)
        wrong(r, key, "is not a list of at most %d", MAX_RESULTS);
    for (size_t i = 0; !r->failed && i < json_array_size(array); i++) {
        struct bench_result result;
        snprintf(r->where, sizeof r->where, "%s[%zu].", key, i);
        read_result(r, json_array_get(array, i), ceiling, skipped, &result);
        if (!r->failed && !bench_list_add(list, &result)) {
            message("out of memory");
            r->failed = true;
        }
    }
    return !r->failed;
}

bool bench_run_load(const char *path, struct bench_run *run)
{
    struct reader r = {.path = path};
    *run = (struct bench_run){0};
    json_t *root = json_file_load(path, NULL);
    if (!root)
        return false;
    const json_t *format = json_object_get(root, "format");
    if (!json_is_integer(format))
        wrong(&r, "format", "is not a whole number: not a result of 'vkmoe bench'");
    else if (json_integer_value(format) != BENCH_FORMAT)
        wrong(&r, "format", "is %lld, and this vkmoe reads %d", (long long)json_integer_value(format), BENCH_FORMAT);
    read_text(&r, root, "vkmoe", false, run->vkmoe, sizeof run->vkmoe);
    read_text(&r, root, "date", false, run->date, sizeof run->date);
    run->clock_mhz = read_number(&r, root, "clock_mhz", true, 1, 1e6);
    run->seconds = read_number(&r, root, "seconds", false, 0, 1e6);
    read_device(&r, json_object_get(root, "device"), &run->device);
    if (read_list(&r, root, "ceilings", &run->results) && read_list(&r, root, "results", &run->results))
        read_list(&r, root, "skipped", &run->skipped);
    json_decref(root);
    if (r.failed)
        bench_run_free(run);
    return !r.failed;
}
