#include "selftest.h"

#include <jansson.h>

#include "devices.h"
#include "json.h"

enum { FORMAT = 1 };

static json_t *failures_json(const struct selftest_result *r)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < r->failure_count; i++)
        json_array_append_new(list, json_pack("{s:s, s:s}", "case", r->failures[i].name,
                                              "failure", r->failures[i].failure));
    return list;
}

static json_t *result_json(const struct selftest_result *r)
{
    return json_pack("{s:s, s:s, s:I, s:I, s:{s:o, s:s, s:s}, s:f, s:b, s:I, s:o}",
        "operation", r->operation->name, "kernels", r->variant->name, "cases", (json_int_t)r->cases,
        "values", (json_int_t)r->values,
        "worst", "ratio", json_number(r->worst.ratio), "output", r->worst.worst, "case", r->worst.name,
        "seconds", r->seconds, "ok", (int)(r->failure_count == 0 && r->complaints == 0),
        "validation_messages", (json_int_t)r->complaints, "failures", failures_json(r));
}

bool selftest_save(const struct selftest *test, const char *path)
{
    json_t *results = json_array();
    for (size_t i = 0; results && i < test->count; i++)
        json_array_append_new(results, result_json(&test->results[i]));
    json_t *running = test->running ? json_pack("{s:s, s:s}", "operation", test->running->operation->name,
                                                "kernels", test->running->variant->name) : json_null();
    json_t *root = json_pack("{s:i, s:s, s:o, s:I, s:o, s:b, s:b, s:b, s:o, s:I, s:I, s:o}",
        "format", FORMAT, "version", vkmoe_version(), "device", device_json(test->device),
        "subgroup_used", (json_int_t)test->subgroup, "only", test->only ? json_string(test->only) : json_null(), "validated", (int)test->validated,
        "finished", (int)test->finished, "device_lost", (int)test->lost, "running", running,
        "operations", (json_int_t)selftest_operations(test, false, NULL, 0),
        "wrong", (json_int_t)selftest_operations(test, true, NULL, 0), "results", results);
    const bool saved = json_save_as(path, root);
    json_decref(root);
    return saved;
}
