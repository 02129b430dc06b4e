/* Balance, evaluation and comparison through the command. */
#include <criterion/criterion.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cli.h"

#define SMALL "--layers 2 --d-model 16 --heads 2 --experts 4 --top-k 2 --d-expert 16 --seq 16 --batch 4 --lr 1e-2 "

static struct cli cli;

static void begin(void)
{
    cli_begin(&cli);
    cli_need_device();
}

static void end(void)
{
    cli_end(&cli);
}

TestSuite(compare, .init = begin, .fini = end, .timeout = 300);

static json_t *load(const char *path)
{
    json_error_t error;
    json_t *object = json_load_file(path, 0, &error);
    cr_assert(json_is_object(object), "%s: %s", path, error.text);
    return object;
}

static double number(const json_t *object, const char *key)
{
    const json_t *value = json_object_get(object, key);
    cr_assert(json_is_number(value), "%s is not a number", key);
    return json_number_value(value);
}

Test(compare, flags_reach_the_run)
{
    free(cli_must("train --data text.txt --out run --steps 4 --eval-every 2 --balance lossfree+simbal=0.2+lbl --gate sigmoid "
              "--lbl-scope global --lbl-gates full --router-init unit --d-shared 8 --z-loss 0.002 --pes-tokens 64 "
              "--pes-every 2 --tensorboard --save-every 2 " SMALL));
    json_t *root = load("run/latest/trainer.json");
    const json_t *train = json_object_get(root, "train"), *model = json_object_get(root, "model");
    cr_expect_float_eq(number(train, "z_loss"), 0.002, 1e-6);
    cr_expect_eq(number(train, "pes_tokens"), 64);
    cr_expect_eq(number(train, "pes_every"), 2);
    cr_expect_eq(number(model, "d_shared"), 8);
    json_decref(root);
    struct cli_result resumed = cli_run("train --data text.txt --resume run --steps 6 --lr 0.002");
    cr_expect_eq(resumed.status, 0);
    cr_expect(strstr(resumed.err, "steps was 4, from now on it is 6") && strstr(resumed.err, "lr was 0.01, from now on it is 0.002"),
              "%s", resumed.err);
    cli_result_free(&resumed);
    free(cli_must("eval --model run --data text.txt"));
}

Test(compare, dense)
{
    char *out = cli_must("train --data text.txt --out run --steps 4 --dense " SMALL);
    cr_expect(strstr(out, "dense: one expert of width 32"), "%s", out);
    cr_expect(!strstr(out, "load of the experts"), "%s", out);
    free(out);
    free(cli_must("train --data text.txt --out other --steps 4 --dense --balance none " SMALL));
}

/* Numbers between bounds, in a layer's object. */
static void expect_between(const json_t *layer, const char *key, double low, double high)
{
    const double value = number(layer, key);
    cr_expect(value >= low - 1e-6 && value <= high + 1e-6, "%s is %g, not from %g to %g", key, value, low, high);
}

Test(compare, evaluation)
{
    free(cli_must("train --data text.txt --out run --steps 20 " SMALL));
    char *text = cli_must("eval --model run --data text.txt --metrics --prune-below 0,0.5,1 --drop-top 2"),
         *json = cli_must("eval --model run --data text.txt --metrics --pes-tokens 100 --prune-below 0,0.5,1 --drop-top 2 --json");
    static const char *const parts[] = { "max/mean", "entropy", "gate weights", "prune below", "active experts", "drop top" };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        cr_expect(strstr(text, parts[i]), "no '%s' in:\n%s", parts[i], text);
    json_t *root = json_loads(json, 0, NULL);
    cr_assert(json_is_object(root), "%s", json);
    const double loss = number(root, "loss");
    cr_expect_float_eq(number(root, "perplexity"), exp(loss), 1e-6 * exp(loss));
    cr_expect_float_eq(number(root, "active_experts"), 2.0, 1e-9);
    cr_expect_gt(number(root, "seconds"), 0.0);

    const json_t *layers = json_object_get(root, "layers");
    cr_assert_eq(json_array_size(layers), 2);
    for (size_t l = 0; l < 2; l++) {
        const json_t *layer = json_array_get(layers, l), *gates = json_object_get(layer, "gates"),
                     *tokens = json_object_get(layer, "expert_tokens");
        double share = 0.0, routed = 0.0;
        expect_between(layer, "load_max", 1.0, 4.0);
        expect_between(layer, "load_min", 0.0, 1.0);
        expect_between(layer, "load_cv", 0.0, 2.0);
        expect_between(layer, "dead", 0.0, 2.0);
        expect_between(layer, "seu", 0.5, 1.0);
        expect_between(layer, "entropy", 0.0, log(4.0));
        expect_between(layer, "entropy_topk", 0.0, log(2.0));
        expect_between(layer, "gram_mean_square", 0.0, 1.0);
        expect_between(layer, "gram_max", 0.0, 2.0);
        expect_between(layer, "pes", -1.0, 1.0);
        expect_between(layer, "pes_se", 0.0, 1.0);
        cr_assert_eq(json_array_size(gates), 16);
        for (size_t i = 0; i < 16; i++)
            share += json_number_value(json_array_get(gates, i));
        cr_expect_float_eq(share, 1.0, 1e-6);
        cr_assert_eq(json_array_size(tokens), 4);
        for (size_t i = 0; i < 4; i++)
            routed += json_number_value(json_array_get(tokens, i));
        cr_expect_geq(routed, 2.0 * number(root, "tokens"));
    }

    const json_t *prune = json_object_get(root, "prune"), *drop = json_object_get(root, "drop_top");
    cr_assert(json_array_size(prune) == 3 && json_array_size(drop) == 3);
    cr_expect_eq(number(json_array_get(prune, 0), "loss"), loss);
    cr_expect_float_eq(number(json_array_get(prune, 1), "below"), 0.5, 1e-9);
    cr_expect_lt(number(json_array_get(prune, 1), "active_experts"), 2.0);
    cr_expect_eq(number(json_array_get(drop, 0), "loss"), loss);
    cr_expect_eq(number(json_array_get(drop, 2), "n"), 2);
    cr_expect_neq(number(json_array_get(drop, 1), "loss"), loss);
    json_decref(root);
    free(text);
    free(json);

    struct cli_result bad = cli_run("eval --model run --data text.txt --drop-top 3");
    cr_expect_eq(bad.status, 2);
    cr_expect(line_count(bad.err) == 1 && strstr(bad.err, "--drop-top") && strstr(bad.err, "at most 2"), "%s", bad.err);
    cli_result_free(&bad);
}

#define COMPARE "compare --data text.txt --out cmp --methods none,lossfree+simbal --seeds 2 --steps 12 --eval-every 6 " SMALL

static const char *const runs[] = { "none-1", "lossfree+simbal-1", "none-2", "lossfree+simbal-2" };
enum { RUNS = sizeof runs / sizeof runs[0] };

/* When a run's checkpoint was written. */
static struct timespec written(const char *run)
{
    char path[128];
    struct stat info;
    snprintf(path, sizeof path, "cmp/%s/latest/model.safetensors", run);
    cr_assert(stat(path, &info) == 0, "%s is not there", path);
    return info.st_mtim;
}

static bool same_time(struct timespec a, struct timespec b)
{
    return a.tv_sec == b.tv_sec && a.tv_nsec == b.tv_nsec;
}

static void forget_evaluation(const char *run)
{
    char path[128];
    snprintf(path, sizeof path, "cmp/%s/evaluation.json", run);
    cr_assert(remove(path) == 0);
}

/* The comparison goes on only without this in the file's place. */
static void expect_refused(const char *path, json_t *root, const char *says)
{
    char *kept = file_read(path, NULL);
    cr_assert_eq(json_dump_file(root, path, 0), 0);
    struct cli_result result = cli_run(COMPARE);
    cr_expect_eq(result.status, 1);
    cr_expect(line_count(result.err) == 1 && strstr(result.err, says), "%s", result.err);
    cli_result_free(&result);
    file_write(path, kept, strlen(kept));
    free(kept);
    json_decref(root);
}

Test(compare, finished_runs_are_kept)
{
    struct timespec times[RUNS];
    char *out = cli_must(COMPARE);
    static const char *const parts[] = { "tokens/s", "done", "step time", "none ", "lossfree+simbal " };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        cr_expect(strstr(out, parts[i]), "no '%s' in:\n%s", parts[i], out);
    cr_expect(!strpbrk(out, "\r\033"), "not a terminal, but a live line:\n%s", out);
    cr_expect(strstr(out, "report  cmp/report.html"), "%s", out);
    free(out);
    cr_expect(file_exists("cmp/report.html") && file_exists("cmp/report.json"));
    for (size_t i = 0; i < RUNS; i++) {
        char path[128];
        times[i] = written(runs[i]);
        snprintf(path, sizeof path, "cmp/%s/evaluation.json", runs[i]);
        json_t *evaluation = load(path);
        cr_expect_eq(json_array_size(json_object_get(evaluation, "prune")), 4);
        cr_expect_eq(json_array_size(json_object_get(evaluation, "drop_top")), 3);
        json_decref(evaluation);
    }
    json_t *root = load("cmp/compare.json");
    const json_t *seconds = json_object_get(root, "step_seconds");
    cr_expect_eq(number(root, "seeds"), 2);
    cr_expect_eq(number(root, "first_seed"), 1);
    cr_expect_gt(number(seconds, "none"), 0.0);
    cr_expect_gt(number(seconds, "simbal+lossfree"), 0.0);

    forget_evaluation(runs[1]);
    out = cli_must(COMPARE);
    cr_expect(strstr(out, "was done"), "%s", out);
    free(out);
    cr_expect(file_exists("cmp/lossfree+simbal-1/evaluation.json"));
    for (size_t i = 0; i < RUNS; i++)
        cr_expect(i == 1 || same_time(times[i], written(runs[i])), "%s was done again", runs[i]);
    json_t *again = load("cmp/compare.json");
    cr_expect(json_equal(root, again), "step times were measured again");
    json_decref(root);
    json_decref(again);

    struct cli_result other = cli_run(COMPARE "--top-k 1");
    cr_expect_eq(other.status, 1);
    cr_expect(line_count(other.err) == 1 && strstr(other.err, "top-k is 2 there and 1 here"), "%s", other.err);
    cli_result_free(&other);

    /* Numbers that no run and no comparison has written. */
    root = load("cmp/compare.json");
    json_object_set_new(json_object_get(root, "step_seconds"), "none", json_real(-1));
    expect_refused("cmp/compare.json", root, "\"step_seconds\" must hold numbers above 0");
    root = load("cmp/none-1/latest/trainer.json");
    json_object_set_new(root, "step", json_integer(-1));
    expect_refused("cmp/none-1/latest/trainer.json", root, "\"step\" must be a whole number");
}

Test(compare, dense_and_unfinished_directories)
{
    cr_assert(mkdir("cmp", 0700) == 0 && mkdir("cmp/dense-7", 0700) == 0);
    struct cli_result foreign = cli_run("compare --data text.txt --out cmp --methods dense --seed 7 --steps 3 " SMALL);
    cr_expect_eq(foreign.status, 1);
    cr_expect(line_count(foreign.err) == 1 && strstr(foreign.err, "cmp/dense-7"), "%s", foreign.err);
    cli_result_free(&foreign);
    cr_assert(remove("cmp/dense-7") == 0);
    char *quiet = cli_must("compare --data text.txt --out cmp --methods dense --seed 8 --steps 3 --quiet " SMALL);
    cr_expect_str_eq(quiet, "");
    free(quiet);
    /* A run that was killed before its first checkpoint begins anew; what it did not write stays. */
    cr_assert(mkdir("cmp/dense-7", 0700) == 0);
    file_write("cmp/dense-7/metrics.jsonl", "half a li", 9);
    file_write("cmp/dense-7/notes", "mine", 4);
    char *out = cli_must("compare --data text.txt --out cmp --methods dense --seed 7 --seeds 2 --steps 3 " SMALL);
    cr_expect(strstr(out, "was done"), "%s", out);
    free(out);
    cr_expect(file_exists("cmp/dense-7/evaluation.json") && file_exists("cmp/dense-7/notes"));
    struct cli_result run = cli_run("compare --data text.txt --out cmp/dense-7 --methods dense --steps 3 " SMALL);
    cr_expect_eq(run.status, 1);
    cr_expect(line_count(run.err) == 1 && strstr(run.err, "directory of one run"), "%s", run.err);
    cli_result_free(&run);
}

Test(compare, interrupted_and_gone_on_with)
{
    static const char arguments[] = "compare --data text.txt --out cmp --methods none,simbal --steps %s --log-every 1 "
                                    "--eval-every 0 " SMALL;
    char command[512];
    struct stat info = { 0 };
    snprintf(command, sizeof command, arguments, "300");
    const pid_t child = cli_start(command, -1);
    for (int i = 0; i < 3000 && (stat("cmp/none-1/metrics.jsonl", &info) != 0 || info.st_size < 3000); i++)
        nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    kill(child, SIGINT);
    struct cli_result interrupted = cli_wait(child);
    cr_assert_eq(interrupted.status, 130, "status %d: %s", interrupted.status, interrupted.err);
    cr_expect(strstr(interrupted.out, "compare --data text.txt --out cmp --methods none,simbal"), "%s", interrupted.out);
    cli_result_free(&interrupted);
    json_t *root = load("cmp/none-1/latest/trainer.json");
    const double step = number(root, "step");
    cr_expect(step > 0.0 && step < 300.0, "stopped at step %g", step);
    json_decref(root);
    cr_expect(!file_exists("cmp/simbal-1"));

    free(cli_must(command));
    root = load("cmp/none-1/latest/trainer.json");
    cr_expect_eq(number(root, "step"), 300);
    json_decref(root);
    cr_expect(file_exists("cmp/none-1/evaluation.json") && file_exists("cmp/simbal-1/evaluation.json"));
    /* It went on where it had stopped: no step is logged twice. */
    char *metrics = file_read("cmp/none-1/metrics.jsonl", NULL);
    size_t losses = 0;
    for (const char *at = metrics; (at = strstr(at, "\"grad_norm\"")); at++)
        losses++;
    cr_expect_eq(losses, 300);
    free(metrics);
}
