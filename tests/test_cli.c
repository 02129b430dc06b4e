/* The vkmoe command as a user meets it: what it prints, writes and returns. */
#define _XOPEN_SOURCE 700 /* posix_openpt */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

#define SMALL "--layers 1 --d-model 16 --heads 2 --experts 4 --top-k 2 --d-expert 16 --seq 16 --batch 4 --lr 1e-2 "

static struct cli cli;

static void begin(void)
{
    cli_begin(&cli);
}

static void end(void)
{
    cli_end(&cli);
}

TestSuite(cli, .init = begin, .fini = end);

/* Bad input: what is given, the exit status, and what the one line on stderr must contain. */
struct bad_input {
    const char *arguments;
    int status;
    const char *says;
    bool device; /* fails only after a device was opened */
};

static const struct bad_input bad_inputs[] = {
    { "", 2, "vkmoe: ", false },
    { "trian", 2, "did you mean 'train'", false },
    { "train --data text.txt --out out --lyers 2", 2, "did you mean --layers", false },
    { "train --data text.txt --out out --completely-unknown", 2, "--completely-unknown", false },
    { "train stray", 2, "stray", false },
    { "train --data text.txt --out out --preset tny", 2, "did you mean 'tiny'", false },
    { "train --data text.txt --out out --steps many", 2, "--steps", false },
    { "train --data text.txt --out out --steps 0", 2, "--steps", false },
    { "train --data text.txt --out out --layers 4294967296", 2, "--layers", false },
    { "train --data text.txt --out out --layers -1", 2, "--layers", false },
    { "train --data text.txt --out out --lr nan", 2, "--lr", false },
    { "train --data text.txt --out out --balance best", 2, "simbal, lbl, lossfree", false },
    { "train --data text.txt --out out --balance simbal=", 2, "simbal=", false },
    { "train --data text.txt --out out --balance simbal=-0.1", 2, "simbal=-0.1", false },
    { "train --data text.txt --out out --balance lbl=nan", 2, "lbl=nan", false },
    { "train --data text.txt --out out --balance lbl+lbl", 2, "twice", false },
    { "train --data text.txt --out out --balance lbl+", 2, "lbl+", false },
    { "train --data text.txt --out out --balance-coef 1", 2, "--balance", false },
    { "train --data text.txt --out out --gate tanh", 2, "softmax|sigmoid", false },
    { "train --data text.txt --out out --lbl-scope layer", 2, "sequence|micro-batch|global", false },
    { "train --data text.txt --out out --lbl-gates some", 2, "topk|full", false },
    { "train --data text.txt --out out --router-init zeros", 2, "orthogonal", false },
    { "train --data text.txt --out out --router-z-loss -1", 2, "--router-z-loss", false },
    { "train --data text.txt --out out --dense --balance simbal", 2, "--dense", false },
    { "train --data text.txt --out out --dense --router-z-loss 0.1", 2, "--router-z-loss", false },
    { "train --data text.txt --resume run --dense", 2, "--dense", false },
    { "train --data text.txt --resume run --out other", 2, "--out", false },
    { "train --data text.txt --resume run --layers 3", 2, "--layers", false },
    { "train --data text.txt --resume run --balance none", 1, "run", false },
    { "train --data text.txt --out out --quiet=yes", 2, "--quiet", false },
    { "train --data text.txt --out out --seed", 2, "--seed", false },
    { "train --data text.txt", 2, "--out", false },
    { "train --data text.txt --out=", 2, "--out", false },
    { "train --out out", 2, "--data", false },
    { "train --data text.txt --resume run --seed 1", 2, "--seed", false },
    { "train --data text.txt --out out --spike 0.5", 2, "spike", true },
    { "train --data text.txt --out out --keep 0", 2, "--keep", false },
    { "inspect", 2, "nothing to inspect", false },
    { "inspect absent", 1, "absent", false },
    { "inspect nothing", 1, "no checkpoint", false },
    { "inspect empty.txt", 1, "truncated", false },
    { "generate --prompt x", 2, "--model", false },
    { "generate --model run --top-p 1.5", 2, "--top-p", false },
    { "eval --model run", 2, "--data", false },
    { "eval --model run --data text.txt --prune-below 0.1,1.5", 2, "1.5", false },
    { "eval --model run --data text.txt --prune-below -0.1", 2, "-0.1", false },
    { "eval --model run --data text.txt --prune-below nan", 2, "nan", false },
    { "eval --model run --data text.txt --prune-below 0.1,", 2, "--prune-below", false },
    { "eval --model run --data text.txt --drop-top x", 2, "--drop-top", false },
    { "eval --model run --data text.txt --pes-tokens 9", 2, "--metrics", false },
    { "compare --data text.txt --out out", 2, "--methods", false },
    { "compare --data text.txt --methods none", 2, "--out", false },
    { "compare --data text.txt --methods none --out=", 2, "--out", false },
    { "compare --methods none --out out", 2, "--data", false },
    { "compare --data text.txt --out out --methods none,best", 2, "best", false },
    { "compare --data text.txt --out out --methods none,,lbl", 2, "none", false },
    { "compare --data text.txt --out out --methods lbl=-1", 2, "lbl=-1", false },
    { "compare --data text.txt --out out --methods simbal,simbal=0.1", 2, "same", false },
    { "compare --data text.txt --out out --methods none --seeds 0", 2, "--seeds", false },
    { "compare --data text.txt --out out --methods none --balance lbl", 2, "--balance", false },
    { "train --data text.txt --out out --device nothing-like-it", 1, "nothing-like-it", false },
    { "train --data absent.txt --out out", 1, "absent.txt", true },
    { "train --data empty.txt --out out", 1, "empty.txt", true },
    { "train --data short.txt --out out", 1, "needs at least 65", true },
    { "train --data text.txt --valid empty.txt --out out", 1, "empty.txt", true },
    { "train --data nothing --out out", 1, "nothing", true },
    { "train --data text.txt --out out --d-model 132 --heads 5", 2, "d_model", true },
    { "train --data text.txt --out out --experts 4 --top-k 5", 2, "top_k", true },
    { "train --data text.txt --out out --gate sigmoid --router-z-loss 0.001", 2, "softmax", true },
    { "train --data text.txt --out out --d-shared 6", 2, "d_shared", true },
    { "compare --data absent.txt --out out --methods none", 1, "absent.txt", true },
    { "compare --data text.txt --out out --methods none --experts 4 --top-k 5", 2, "top_k", true },
    { "train --data text.txt --out out --layers 256 --d-model 1024 --heads 8 --experts 16 --d-expert 2048", 1,
      "smaller", true },
    { "train --data text.txt --out out --layers 64 --d-model 4096 --heads 32 --experts 16 --d-expert 8192", 1,
      "smaller", true },
    { "train --data text.txt --out text.txt/run", 1, "text.txt", true },
    { "train --data text.txt --out text.txt", 1, "text.txt", true },
    { "train --data text.txt --resume absent", 1, "absent", true },
    { "train --data text.txt --resume nothing", 1, "nothing", true },
    { "eval --model absent --data text.txt", 1, "absent", true },
    { "eval --model nothing --data text.txt", 1, "nothing", true },
    { "generate --model absent", 1, "absent", true },
    { "selftest --only nothing-like-it", 2, "there are embed, rmsnorm", false },
    { "selftest --json out/", 2, "--json", false },
    { "selftest --json text.txt/self.json", 1, "text.txt", true },
};

ParameterizedTestParameters(cli, bad_input)
{
    static size_t indices[sizeof bad_inputs / sizeof bad_inputs[0]];
    for (size_t i = 0; i < sizeof indices / sizeof indices[0]; i++)
        indices[i] = i;
    return cr_make_param_array(size_t, indices, sizeof indices / sizeof indices[0]);
}

/* One line on stderr that begins as the command's messages do and contains `says`. */
static void expect_one_line(const struct cli_result *result, const char *arguments, int status, const char *says)
{
    cr_expect_eq(result->status, status, "vkmoe %s: status %d, not %d", arguments, result->status, status);
    cr_expect_eq(line_count(result->err), 1, "vkmoe %s: not one line: %s", arguments, result->err);
    cr_expect_eq(strncmp(result->err, "vkmoe", 5), 0, "vkmoe %s: %s", arguments, result->err);
    cr_expect(strstr(result->err, says), "vkmoe %s: no '%s' in: %s", arguments, says, result->err);
}

ParameterizedTest(size_t *index, cli, bad_input)
{
    const struct bad_input *bad = &bad_inputs[*index];
    if (bad->device)
        cli_need_device();
    file_write("empty.txt", "", 0);
    file_write("short.txt", "ten bytes\n", 10);
    cr_assert(mkdir("nothing", 0700) == 0);
    file_write("nothing/binary", "\xff\xfe\x00\x01", 4);
    struct cli_result result = cli_run(bad->arguments);
    expect_one_line(&result, bad->arguments, bad->status, bad->says);
    cr_expect(!file_exists("out"), "vkmoe %s: left 'out' behind", bad->arguments);
    cr_expect(!file_exists("absent"), "vkmoe %s: made 'absent'", bad->arguments);
    cr_expect(rmdir("nothing") != 0 && remove("nothing/binary") == 0 && rmdir("nothing") == 0,
              "vkmoe %s: left something in 'nothing'", bad->arguments);
    cli_result_free(&result);
}

Test(cli, help_names_every_flag)
{
    static const char *const flags[] = {
        "--data", "--valid", "--out", "--resume", "--preset", "--steps", "--seed", "--device", "--layers", "--d-model",
        "--heads", "--experts", "--top-k", "--d-expert", "--seq", "--batch", "--accum", "--lr", "--warmup",
        "--weight-decay", "--clip", "--balance", "--lbl-scope", "--lbl-gates", "--router-z-loss", "--z-loss", "--gate",
        "--router-init", "--d-shared", "--dense", "--pes-tokens", "--pes-every", "--tensorboard", "--eval-every",
        "--save-every", "--keep", "--max-bad-steps", "--spike", "--log-every", "--norm-topk", "--timeout", "--validate",
        "--profile", "--quiet", "--verbose" };
    struct cli_result help = cli_run("help train"), flag = cli_run("train --help");
    cr_expect_eq(help.status, 0);
    cr_expect_str_eq(help.out, flag.out);
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "\n  %s ", flags[i]);
        const char *found = strstr(help.out, line);
        cr_assert(found, "%s is not in the help", flags[i]);
        const char *next = strstr(found + 1, "\n  --");
        cr_expect(next && next[-1] == ']', "%s shows no default", flags[i]);
    }
    for (const char *line = help.out, *end; (end = strchr(line, '\n')); line = end + 1)
        cr_expect_leq(end - line, 100, "too wide: %.*s", (int)(end - line), line);
    cli_result_free(&help);
    cli_result_free(&flag);
    struct cli_result of_help = cli_run("help help");
    cr_expect(of_help.status == 0 && strstr(of_help.out, "  train "), "%s", of_help.err);
    cli_result_free(&of_help);
    struct cli_result version = cli_run("--version");
    cr_expect_eq(version.status, 0);
    cr_expect_eq(strncmp(version.out, "vkmoe ", 6), 0);
    cli_result_free(&version);
}

Test(cli, devices)
{
    cli_need_device();
    struct cli_result table = cli_run("devices"), json = cli_run("devices --json");
    json_error_t error;
    json_t *list = json_loads(json.out, 0, &error);
    cr_assert(list, "%s", error.text);
    cr_assert(json_is_array(list) && json_array_size(list) > 0);
    cr_expect_eq(line_count(table.out), json_array_size(list) + 1);
    cr_expect(strstr(table.out, json_string_value(json_object_get(json_array_get(list, 0), "name"))));
    cr_expect(json_is_boolean(json_object_get(json_array_get(list, 0), "usable")));
    json_decref(list);
    cli_result_free(&table);
    cli_result_free(&json);
}

Test(cli, selftest, .timeout = 300)
{
    cli_need_device();
    struct cli_result result = cli_run("selftest --only RMSnorm --json self.json");
    cr_expect_eq(result.status, 0, "%s%s", result.out, result.err);
    cr_expect_str_eq(result.err, "");
    cr_expect(strstr(result.out, "\n1 operation correct on "), "%s", result.out);
    cr_expect(!strstr(result.out, "gemm"), "%s", result.out);
    json_t *report = json_load_file("self.json", 0, NULL);
    cr_assert(json_is_object(report), "not JSON");
    const json_t *device = json_object_get(report, "device"), *results = json_object_get(report, "results");
    const char *name = json_string_value(json_object_get(device, "name"));
    cr_expect(name && strstr(result.out, name), "%s", result.out);
    cr_expect_eq(json_integer_value(json_object_get(report, "format")), 1);
    cr_expect(json_is_true(json_object_get(report, "finished")));
    cr_assert(json_array_size(results) > 0);
    const json_t *first = json_array_get(results, 0);
    cr_expect_str_eq(json_string_value(json_object_get(first, "operation")), "rmsnorm");
    cr_expect(json_is_true(json_object_get(first, "ok")));
    cr_expect_gt(json_integer_value(json_object_get(first, "values")), 1000);
    const double ratio = json_number_value(json_object_get(json_object_get(first, "worst"), "ratio"));
    cr_expect(ratio > 0 && ratio <= 1, "%g", ratio);
    json_decref(report);
    cli_result_free(&result);
}

/* lavapipe has subgroups of 16 lanes when asked for them, where the processor has such vectors. */
Test(cli, selftest_of_16_lanes, .timeout = 300)
{
    cli_need_device();
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f")) {
        setenv("LP_NATIVE_VECTOR_WIDTH", "512", 1);
        static const char *const operations[] = { "rmsnorm", "gate", "AdamW" };
        for (size_t i = 0; i < sizeof operations / sizeof *operations; i++) {
            char line[64];
            snprintf(line, sizeof line, "selftest --only %s", operations[i]);
            struct cli_result result = cli_run(line);
            cr_expect_eq(result.status, 0, "%s%s", result.out, result.err);
            cli_result_free(&result);
        }
    }
#endif
}

/* Trains a small model into run; the caller frees the result. */
static struct cli_result train_small(void)
{
    cli_need_device();
    struct cli_result result =
        cli_run("train --data text.txt --out run --steps 40 --eval-every 10 --log-every 5 " SMALL);
    cr_assert_eq(result.status, 0, "%s", result.err);
    return result;
}

Test(cli, train_eval_generate, .timeout = 300)
{
    static const char *const files[] = { "run/latest/config.json", "run/latest/model.safetensors", "run/latest/tokenizer.json",
                                         "run/latest/optimizer.safetensors", "run/latest/trainer.json",
                                         "run/latest/checksums.xxh128", "run/best/config.json", "run/metrics.jsonl" };
    struct cli_result train = train_small();
    cr_expect_str_eq(train.err, "");
    cr_expect(!strpbrk(train.out, "\r\033"), "not a terminal, but a live line:\n%s", train.out);
    static const char *const parts[] = { "device ", "parameters ", "memory ", "step 10/40", "step 30/40", "before ",
                                         "after ", "experts  ", "routers  ", "layer 0", "generate --model run" };
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        cr_expect(strstr(train.out, parts[i]), "no '%s' in:\n%s", parts[i], train.out);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++)
        cr_expect(file_exists(files[i]), "%s is not there", files[i]);
    cli_result_free(&train);

    char *metrics = file_read("run/metrics.jsonl", NULL);
    size_t log_lines = 0, validations = 0;
    double first = NAN, last = NAN;
    for (char *line = strtok(metrics, "\n"); line; line = strtok(NULL, "\n")) {
        json_t *object = json_loads(line, 0, NULL);
        cr_assert(json_is_object(object), "not JSON: %s", line);
        const json_t *loss = json_object_get(object, "loss");
        validations += json_object_get(object, "val_loss") != NULL;
        log_lines += loss != NULL;
        if (loss)
            last = json_number_value(loss);
        if (isnan(first))
            first = last;
        json_decref(object);
    }
    free(metrics);
    cr_expect_eq(log_lines, 8);
    cr_expect_eq(validations, 5, "%zu validations: before, at 10, 20, 30, and at the end", validations);
    cr_expect_lt(last, first - 0.5);

    struct cli_result text = cli_run("eval --model run --data text.txt"),
                      json = cli_run("eval --model run --data text.txt --json");
    cr_assert_eq(text.status, 0, "%s", text.err);
    json_t *result = json_loads(json.out, 0, NULL);
    cr_assert(result);
    const double loss = json_number_value(json_object_get(result, "loss"));
    cr_expect_lt(loss, first - 0.5);
    cr_expect_float_eq(json_number_value(json_object_get(result, "perplexity")), exp(loss), 1e-6 * exp(loss));
    cr_expect_float_eq(json_number_value(json_object_get(result, "bits_per_byte")), loss / log(2.0), 1e-3);
    cr_expect(strstr(text.out, "bits per byte"));
    json_decref(result);
    cli_result_free(&text);
    cli_result_free(&json);

    struct cli_result once = cli_run("generate --model run --prompt The --max-tokens 30 --seed 5"),
                      again = cli_run("generate --model run --prompt The --max-tokens 30 --seed 5");
    cr_expect_eq(once.status, 0, "%s", once.err);
    cr_expect_eq(strncmp(once.out, "The", 3), 0);
    cr_expect_leq(strlen(once.out), 3 + 30 + 1);
    cr_expect_str_eq(once.out, again.out);
    cli_result_free(&once);
    cli_result_free(&again);
}

Test(cli, run_that_is_there_is_kept, .timeout = 300)
{
    struct cli_result train = train_small();
    cli_result_free(&train);
    size_t before, after;
    char *first = file_read("run/metrics.jsonl", &before);
    struct cli_result second = cli_run("train --data text.txt --out run --steps 5 " SMALL);
    expect_one_line(&second, "train --out run", 1, "run");
    char *now = file_read("run/metrics.jsonl", &after);
    cr_expect(before == after && memcmp(first, now, before) == 0);
    free(first);
    free(now);
    cli_result_free(&second);
}

Test(cli, damaged_model, .timeout = 300)
{
    static const char *const commands[] = { "eval --model run --data text.txt", "generate --model run",
                                            "train --resume run --data text.txt --steps 60" };
    struct cli_result train = train_small();
    cli_result_free(&train);
    size_t bytes;
    char *good = file_read("run/latest/model.safetensors", &bytes);
    for (int damage = 0; damage < 4; damage++) {
        char *bad = malloc(bytes);
        size_t kept = bytes;
        cr_assert(bad);
        memcpy(bad, good, bytes);
        switch (damage) {
        case 0: kept = bytes / 2; break;
        case 1: kept = 5; break;
        case 2: memset(bad, 0xff, 8); break;
        case 3: memset(bad + 8, 'x', 20); break;
        }
        file_write("run/latest/model.safetensors", bad, kept);
        if (damage == 2)
            remove("run/latest/checksums.xxh128"); /* from now on what is found is what is wrong with the file */
        for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
            struct cli_result result = cli_run(commands[i]);
            expect_one_line(&result, commands[i], 1, i == 2 && damage >= 2 ? "checksums.xxh128" : "model.safetensors");
            cli_result_free(&result);
        }
        free(bad);
    }
    free(good);
}

static void pause_ms(long ms)
{
    nanosleep(&(struct timespec){ .tv_nsec = ms * 1000000 }, NULL);
}

Test(cli, interrupt_and_resume, .timeout = 300)
{
    cli_need_device();
    const pid_t child =
        cli_start("train --data text.txt --out run --steps 1000000 --log-every 1 --eval-every 0 " SMALL, -1);
    struct stat info = { 0 };
    for (int i = 0; i < 2000 && (stat("run/metrics.jsonl", &info) != 0 || info.st_size < 2000); i++)
        pause_ms(50);
    kill(child, SIGINT);
    struct cli_result interrupted = cli_wait(child);
    cr_assert_eq(interrupted.status, 130, "status %d: %s", interrupted.status, interrupted.err);
    const char *line = strstr(interrupted.out, "interrupted at step ");
    cr_assert(line, "%s", interrupted.out);
    cr_expect(strstr(line, "train --resume run --data text.txt"), "%s", line);
    const unsigned long step = strtoul(line + strlen("interrupted at step "), NULL, 10);
    cr_expect_gt(step, 0);
    cli_result_free(&interrupted);

    char arguments[96];
    snprintf(arguments, sizeof arguments, "train --resume run --data text.txt --steps %lu", step + 7);
    struct cli_result resumed = cli_run(arguments);
    cr_assert_eq(resumed.status, 0, "%s", resumed.err);
    cr_expect(strstr(resumed.out, "for 7 steps"), "%s", resumed.out);
    cli_result_free(&resumed);
}

/* One run at a time in a directory; two on a device are fine, and to the same bits as alone. */
Test(cli, two_processes, .timeout = 300)
{
    cli_need_device();
    const char *endless = "train --data text.txt --out run --steps 1000000 --log-every 1 --eval-every 0 --save-every 5 " SMALL;
    const pid_t child = cli_start(endless, -1);
    struct stat info = { 0 };
    for (int i = 0; i < 2000 && stat("run/latest/trainer.json", &info) != 0; i++)
        pause_ms(50);
    struct cli_result second = cli_run("train --data text.txt --resume run --steps 7");
    char says[64];
    snprintf(says, sizeof says, "being trained there by process %ld", (long)child);
    expect_one_line(&second, "train --resume run", 1, says);
    cli_result_free(&second);
    second = cli_run("train --data text.txt --out alone --steps 20 " SMALL);
    cr_expect_eq(second.status, 0, "%s", second.err);
    cli_result_free(&second);
    kill(child, SIGTERM);
    struct cli_result interrupted = cli_wait(child);
    cr_expect_eq(interrupted.status, 128 + SIGTERM, "status %d: %s", interrupted.status, interrupted.err);
    cr_expect(strstr(interrupted.out, "interrupted at step "), "%s", interrupted.out);
    cli_result_free(&interrupted);

    struct cli_result again = cli_run("train --data text.txt --out again --steps 20 " SMALL);
    cr_expect_eq(again.status, 0, "%s", again.err);
    cli_result_free(&again);
    char *a = file_read("alone/latest/checksums.xxh128", NULL), *b = file_read("again/latest/checksums.xxh128", NULL);
    cr_expect_str_eq(a, b);
    free(a);
    free(b);
    struct cli_result looked = cli_run("inspect run again");
    cr_expect_eq(looked.status, 0, "%s", looked.err);
    cr_expect(strstr(looked.out, "step        20 of 20") && strstr(looked.out, "checksum ok"), "%s", looked.out);
    cli_result_free(&looked);
}

/* Of products that take one core longer than a second. */
Test(cli, gives_up_a_device_that_takes_too_long, .timeout = 300)
{
    cli_need_device();
    setenv("LP_NUM_THREADS", "1", 1); /* lavapipe's */
    struct cli_result result = cli_run("train --data text.txt --out run --layers 1 --d-model 512 --heads 4 --experts 4 "
                                       "--d-expert 1024 --seq 512 --batch 16 --steps 1 --timeout 1 --quiet");
    cr_expect_eq(result.status, 1, "%d: %s", result.status, result.err);
    cr_expect(strstr(result.err, "has finished nothing for 1 s, in \"") && line_count(result.err) == 1, "%s", result.err);
    cli_result_free(&result);
}

Test(cli, live_line_on_a_terminal, .timeout = 300)
{
    cli_need_device();
    const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
    cr_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
    const int other_end = open(ptsname(terminal), O_RDWR | O_NOCTTY);
    const pid_t child = cli_start("train --data text.txt --out run --steps 60 --eval-every 20 " SMALL, other_end);
    close(other_end);
    char text[65536];
    size_t size = 0;
    for (ssize_t got; size + 1 < sizeof text && (got = read(terminal, text + size, sizeof text - 1 - size)) > 0;)
        size += (size_t)got;
    text[size] = '\0';
    struct cli_result result = cli_wait(child);
    close(terminal);
    cr_assert_eq(result.status, 0, "%s", result.err);
    const char *live = strstr(text, "\rstep ");
    cr_assert(live, "%s", text);
    const char *left = strstr(live, " left  loss "), *end = strstr(live, "\033[K");
    cr_expect(left && end && left < end, "%s", live);
    cr_expect(strstr(text, "\r\033[K"), "the line was not taken off");
    cli_result_free(&result);
}
