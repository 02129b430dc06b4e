/* The directories of two runs and of their comparison, as `vkmoe report`, a resumed run and `vkmoe compare` read them. The files of
 * an input: trainer.json, metrics.jsonl, evaluation.json, compare.json, and the second run's trainer.json. */
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "common.h"
#include "compare.h"
#include "fuzz.h"
#include "report.h"
#include "train/metrics.h"

enum { TRAINER, METRICS, EVALUATION, COMPARE, SECOND, RUNS = 2 };

static void put_files(const struct fuzz_part *parts)
{
    fuzz_put("out/compare.json", parts[COMPARE].bytes ? &parts[COMPARE] : NULL);
    fuzz_put("out/run-1/trainer.json", &parts[TRAINER]);
    fuzz_put("out/run-2/trainer.json", parts[SECOND].bytes ? &parts[SECOND] : &parts[TRAINER]);
    fuzz_put("out/run-1/metrics.jsonl", &parts[METRICS]);
    fuzz_put("out/run-2/metrics.jsonl", &parts[METRICS]);
    fuzz_put("out/run-1/evaluation.json", parts[EVALUATION].bytes ? &parts[EVALUATION] : NULL);
    fuzz_put("out/run-2/evaluation.json", parts[EVALUATION].bytes ? &parts[EVALUATION] : NULL);
}

/* Nothing that was read is missing in the report. */
static void report(void)
{
    const char *const runs[] = {fuzz_path("out/run-1"), fuzz_path("out/run-2")};
    fuzz_messages();
    const int status = report_write(runs, RUNS, fuzz_path("report"));
    fuzz_require(fuzz_messages() == (status != EXIT_OK));
    if (status != EXIT_OK)
        return;
    char *text = fuzz_get("report/report.json");
    json_t *root = json_loads(text, 0, NULL);
    fuzz_require(root && json_array_size(json_object_get(root, "runs")) == RUNS);
    const size_t methods = json_array_size(json_object_get(root, "methods"));
    fuzz_require(methods == 1 || methods == 2);
    json_decref(root);
    free(text);
}

/* Only lines up to the step are left, and reading them again changes nothing. */
static void resume(void)
{
    static const struct vkmoe_model_config model = {.layers = 2, .experts = 4};
    struct vkm_metrics *metrics;
    for (int time = 0; time < 2; time++) {
        char *before = fuzz_get("out/run-1/metrics.jsonl");
        if (!fuzz_fine(vkm_metrics_open(fuzz_log(), fuzz_path("out/run-1"), &model, 10, false, &metrics))) {
            free(before);
            return;
        }
        vkm_metrics_close(metrics);
        char *after = fuzz_get("out/run-1/metrics.jsonl");
        fuzz_require(time == 0 || strcmp(before, after) == 0);
        free(before);
        free(after);
    }
}

static void go_on_with_comparison(void)
{
    struct contender method = {.text = "run", .name = "simbal", .train = {.steps = 20}, .step_seconds = NAN, .step_ratio = NAN};
    struct contest c = {.out = fuzz_path("out"), .methods = &method, .count = 1, .seeds = RUNS, .first_seed = 1,
                        .settings = json_pack("{s:i, s:s}", "steps", 20, "preset", "tiny")};
    bool fine = contest_load(&c);
    fuzz_require(fuzz_messages() == !fine);
    fuzz_require(isnan(method.step_seconds) || (method.step_seconds > 0 && method.step_seconds < 1e12));
    if (fine) {
        fine = contest_find_runs(&c);
        fuzz_require(fuzz_messages() == !fine);
    }
    if (fine) {
        for (size_t i = 0; i < RUNS; i++)
            fuzz_require(c.entries[i].step <= INT64_MAX);
        fine = contest_print_summary(&c);
        fuzz_require(fuzz_messages() == !fine);
    }
    for (size_t i = 0; c.entries && i < RUNS; i++)
        free(c.entries[i].dir);
    free(c.entries);
    json_decref(c.settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    struct fuzz_part parts[FUZZ_PARTS];
    fuzz_parts(data, bytes, parts);
    put_files(parts);
    report();
    go_on_with_comparison();
    resume();
    return 0;
}
