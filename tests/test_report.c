/* vkmoe report: run directories written by hand, numbers worked out by hand. */
#define _XOPEN_SOURCE 700
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

static struct cli cli;

static void begin(void)
{
    cli_begin(&cli);
}

static void end(void)
{
    cli_end(&cli);
}

TestSuite(report, .init = begin, .fini = end);

__attribute__((format(printf, 3, 4))) static void put(const char *dir, const char *name, const char *format, ...)
{
    char path[128], text[8192];
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    cr_assert(length >= 0 && (size_t)length < sizeof text);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    mkdir(dir, 0700);
    file_write(path, text, (size_t)length);
}

/* Two layers of four experts, 20 steps of 100 tokens. */
#define MODEL                                                                                                          \
    "\"layers\":2,\"d_model\":8,\"heads\":2,\"experts\":%d,\"top_k\":1,\"d_expert\":12,\"seq\":10,\"vocab\":20,"       \
    "\"norm_topk\":true,\"gate\":\"softmax\",\"d_shared\":0,\"router_bias\":false"

struct run {
    const char *dir, *data, *device, *init;
    int seed, experts;
    double simbal, lbl;
    double half, whole;        /* validation loss after 1000 and 2000 tokens */
    double pes;                /* of layer 1; twice it of layer 0 */
};

static void put_run(struct run r)
{
    const int e = r.experts ? r.experts : 4;
    put(r.dir, "trainer.json",
        "{\"format\":2,\"step\":20,\"tokens\":2000,\"skipped\":0,\"data\":\"%s\",\"device\":\"%s\","
        "\"model\":{" MODEL "},\"train\":{\"seed\":\"%d\",\"steps\":20,\"batch\":10,\"accum\":1,\"lr\":0.001,"
        "\"simbal\":%g,\"lbl\":%g,\"lossfree\":0,\"router_init\":\"%s\"}}\n",
        r.data ? r.data : "77", r.device ? r.device : "a device", e, r.seed, r.simbal, r.lbl,
        r.init ? r.init : "orthogonal");
    put(r.dir, "metrics.jsonl",
        "{\"step\":0,\"tokens\":0,\"val_loss\":5,\"val_tokens\":100}\n"
        "{\"step\":5,\"tokens\":500,\"loss\":4,\"tokens_per_second\":1000}\n"
        "{\"step\":10,\"tokens\":1000,\"loss\":3,\"tokens_per_second\":4000}\n"
        "{\"step\":10,\"tokens\":1000,\"val_loss\":%.9g,\"val_tokens\":100}\n"
        "{\"step\":20,\"tokens\":2000,\"loss\":2,\"tokens_per_second\":2000}\n"
        "{\"step\":20,\"tokens\":2000,\"val_loss\":%.9g,\"val_tokens\":100,\"pes\":[%.9g,%.9g]}\n", r.half, r.whole,
        2.0 * r.pes, r.pes);
}

static void put_four(void)
{
    put_run((struct run){ .dir = "simbal-1", .seed = 1, .simbal = 0.1, .half = 2.6, .whole = 1.8, .pes = 0.01 });
    put_run((struct run){ .dir = "simbal-2", .seed = 2, .simbal = 0.1, .half = 2.5, .whole = 2.0, .pes = 0.02 });
    put_run((struct run){ .dir = "lbl-1", .seed = 1, .lbl = 0.01, .half = 3.0, .whole = 2.0, .pes = 0.05 });
    put_run((struct run){ .dir = "lbl-2", .seed = 2, .lbl = 0.01, .half = 3.2, .whole = 2.2, .pes = 0.05 });
}

static void expect_fault(const char *arguments, int status, const char *says)
{
    struct cli_result result = cli_run(arguments);
    cr_expect_eq(result.status, status, "vkmoe %s: status %d, not %d", arguments, result.status, status);
    cr_expect_eq(line_count(result.err), 1, "vkmoe %s: not one line: %s", arguments, result.err);
    cr_expect(strstr(result.err, says), "vkmoe %s: no '%s' in: %s", arguments, says, result.err);
    cr_expect(!file_exists("out"), "vkmoe %s: left 'out' behind", arguments);
    cli_result_free(&result);
}

/* Runs the command, which has to succeed, and reads dir/report.json. */
static json_t *report(const char *arguments, const char *dir)
{
    char path[128];
    struct cli_result result = cli_run(arguments);
    cr_assert_eq(result.status, 0, "vkmoe %s: %s", arguments, result.err);
    cli_result_free(&result);
    snprintf(path, sizeof path, "%s/report.json.tmp", dir);
    cr_expect(!file_exists(path));
    snprintf(path, sizeof path, "%s/report.html", dir);
    cr_expect(file_exists(path));
    snprintf(path, sizeof path, "%s/report.json", dir);
    json_error_t error;
    json_t *root = json_load_file(path, 0, &error);
    cr_assert(root, "%s", error.text);
    return root;
}

/* A value by a path of keys and indices: "methods.0.label". */
static const json_t *at(const json_t *root, const char *path)
{
    char copy[128];
    snprintf(copy, sizeof copy, "%s", path);
    for (char *part = strtok(copy, "."); part; part = strtok(NULL, "."))
        root = json_is_array(root) ? json_array_get(root, strtoul(part, NULL, 10)) : json_object_get(root, part);
    cr_assert(root, "no %s", path);
    return root;
}

static void expect_number(const json_t *root, const char *path, double value)
{
    const double found = json_number_value(at(root, path));
    cr_expect(fabs(found - value) <= 1e-6 * (1.0 + fabs(value)), "%s is %.9g, not %.9g", path, found, value);
}

static void expect_text(const json_t *root, const char *path, const char *value)
{
    cr_expect_str_eq(json_string_value(at(root, path)), value, "%s", path);
}

Test(report, two_methods_of_two_seeds)
{
    put_four();
    json_t *root = report("report simbal-1 lbl-1 simbal-2 lbl-2 --out out", "out");
    expect_number(root, "format", 1);
    expect_text(root, "data", "77");
    expect_text(root, "methods.0.label", "simbal");
    expect_text(root, "methods.1.label", "lbl");
    expect_number(root, "methods.0.summary.loss.mean", 1.9);
    expect_number(root, "methods.0.summary.loss.sd", 0.1414213562);
    expect_number(root, "methods.0.summary.perplexity.mean", 6.7193518); /* (e^1.8 + e^2) / 2 */
    expect_number(root, "methods.0.summary.pes_min.mean", 0.015);
    expect_number(root, "methods.0.layers.pes.0.mean", 0.03);
    expect_number(root, "methods.0.layers.pes.1.sd", 0.00707106781);
    /* LBL ends at 2.1 and 2000 tokens. SimBal is there 5/8 and 4/5 of the way through its second thousand. */
    expect_number(root, "baseline.method", 1);
    expect_number(root, "baseline.loss", 2.1);
    expect_number(root, "baseline.tokens", 2000);
    expect_number(root, "methods.0.tokens_to_baseline.runs.0", 1625);
    expect_number(root, "methods.0.tokens_to_baseline.runs.1", 1800);
    expect_number(root, "methods.0.tokens_to_baseline.mean", 1712.5);
    expect_number(root, "methods.0.tokens_to_baseline.saving", 0.14375);
    expect_number(root, "methods.1.tokens_to_baseline.n", 1);
    expect_number(root, "methods.1.tokens_to_baseline.of", 2);
    expect_number(root, "methods.1.tokens_to_baseline.runs.0", 1900);
    cr_expect(json_is_null(at(root, "methods.1.tokens_to_baseline.runs.1")));
    /* 100 tokens at the median of 1000, 4000 and 2000 a second; nothing to hold it against. */
    expect_text(root, "step_time", "runs");
    expect_number(root, "methods.0.step_seconds", 0.05);
    cr_expect(json_is_null(at(root, "methods.0.step_relative")));
    expect_number(root, "methods.0.curve.tokens.1", 1000);
    expect_number(root, "methods.0.curve.loss.mean.1", 2.55);
    /* per layer 2*8 + 4*64 + 4*8 + 3*8*4*12 = 1456; embeddings 2*20*8; a norm of 8 */
    expect_number(root, "scale.parameters.0", 2 * 1456 + 320 + 8);
    expect_number(root, "scale.tokens", 2000);
    cr_expect(json_is_true(at(root, "runs.0.finished")));
    expect_text(root, "runs.0.device", "a device");
    json_decref(root);
}

Test(report, compare_json_orders_and_times)
{
    put_four();
    put(".", "compare.json", "{\"methods\":[\"lbl\",\"simbal\"],\"step_seconds\":{\"none\":0.2,\"simbal\":0.21}}");
    json_t *root = report("report simbal-1 lbl-1 simbal-2/ lbl-2", ".");
    expect_text(root, "methods.0.label", "lbl");
    expect_text(root, "step_time", "interleaved");
    expect_number(root, "methods.1.step_seconds", 0.21);
    expect_number(root, "methods.1.step_relative", 1.05);
    cr_expect(json_is_null(at(root, "methods.0.step_seconds")));
    json_decref(root);
    put(".", "compare.json", "{\"methods\":[1]}");
    expect_fault("report simbal-1 lbl-1", 1, "compare.json: \"methods\" must hold strings");
}

Test(report, labels_tell_what_differs)
{
    put_run((struct run){ .dir = "a", .seed = 1, .simbal = 0.1, .half = 2, .whole = 1, .pes = 0.1 });
    put_run((struct run){ .dir = "b", .seed = 1, .simbal = 0.1, .half = 2, .whole = 1, .pes = 0.1, .init = "unit" });
    put_run((struct run){ .dir = "c", .seed = 1, .experts = 1, .half = 2, .whole = 1, .pes = 0.1 });
    json_t *root = report("report a b c --out deep/er/out", "deep/er/out");
    expect_text(root, "methods.0.label", "simbal, router-init orthogonal");
    expect_text(root, "methods.1.label", "simbal, router-init unit");
    expect_text(root, "methods.2.label", "dense");
    cr_expect(json_is_true(at(root, "methods.2.dense")));
    cr_expect(json_is_null(at(root, "methods.2.summary.pes_min.mean")), "a dense model routes nothing");
    json_decref(root);
}

Test(report, load_and_evaluation)
{
    put_run((struct run){ .dir = "a", .seed = 1, .lbl = 0.01, .half = 2, .whole = 1, .pes = 0.1 });
    put("a", "metrics.jsonl",
        "{\"step\":20,\"tokens\":2000,\"loss\":null,\"expert_tokens\":[[100,50,25,25],[0,0,0,40]],\"dead\":[0,3]}\n"
        "{\"step\":20,\"tokens\":2000,\"val_loss\":1,\"pes\":[0.5,0.5],\"changed\":[0.25,null]}\n");
    put("a", "evaluation.json",
        "{\"loss\":1,\"layers\":[{\"pes\":0.3,\"load_max\":2},{\"pes\":0.2,\"load_max\":4}],"
        "\"prune\":[{\"below\":0,\"loss\":1,\"perplexity\":2.7,\"seconds\":3,\"active_experts\":1},"
        "{\"below\":0.1,\"loss\":2,\"perplexity\":7.4,\"seconds\":2,\"active_experts\":0.5}],"
        "\"drop_top\":[{\"n\":1,\"loss\":3,\"perplexity\":20,\"seconds\":3,\"active_experts\":1}]}");
    json_t *root = report("report a --out out", "out");
    expect_number(root, "runs.0.load.tokens.0", 2000);
    expect_number(root, "runs.0.load.share.0.0.0", 2);
    expect_number(root, "runs.0.load.share.0.0.2", 0.5);
    expect_number(root, "runs.0.load.share.0.1.3", 4);
    expect_number(root, "methods.0.summary.pes_min.mean", 0.2);
    expect_number(root, "methods.0.summary.load_max.mean", 3);
    expect_number(root, "methods.0.summary.dead.mean", 3);
    expect_number(root, "methods.0.summary.used.mean", 2.5);
    expect_number(root, "methods.0.summary.changed.mean", 0.25);
    expect_number(root, "methods.0.prune.1.below", 0.1);
    expect_number(root, "methods.0.prune.1.perplexity.mean", 7.4);
    expect_number(root, "methods.0.prune.1.active_experts.mean", 0.5);
    expect_number(root, "methods.0.drop_top.0.n", 1);
    cr_expect(json_is_null(at(root, "methods.0.summary.loss.sd")));
    cr_expect(json_is_null(at(root, "runs.0.log.loss.0")));
    json_decref(root);
}

Test(report, a_run_that_goes_on)
{
    put_four();
    put("simbal-2", "metrics.jsonl", "{\"step\":10,\"tokens\":1000,\"val_loss\":2.5}\n{\"step\":20,\"tok");
    put("new", "metrics.jsonl", "{\"st");
    json_t *root = report("report simbal-1 simbal-2 lbl-1 lbl-2 --out out", "out");
    cr_expect(!json_is_true(at(root, "runs.1.finished")));
    expect_number(root, "runs.1.step", 10);
    expect_number(root, "methods.0.counted.0", 0);
    cr_expect_eq(json_array_size(at(root, "methods.0.counted")), 1);
    expect_number(root, "methods.0.summary.loss.mean", 1.8);
    json_decref(root);
    struct cli_result result = cli_run("report new lbl-1 --out out");
    cr_expect_eq(result.status, 0);
    cr_expect(strstr(result.err, "warning: new: left out"), "%s", result.err);
    cli_result_free(&result);
}

Test(report, page_holds_data_that_cannot_leave_it)
{
    put_run((struct run){ .dir = "a", .seed = 1, .simbal = 0.1, .half = 2, .whole = 1, .pes = 0.1,
                          .device = "</script><script>alert(1)</script><!--" });
    json_t *root = report("report a --out out", "out");
    expect_text(root, "runs.0.device", "</script><script>alert(1)</script><!--");
    json_decref(root);
    char *page = file_read("out/report.html", NULL);
    cr_expect(!strstr(page, "alert(1)</script>") && !strstr(page, "<!--"));
    cr_expect(!strstr(page, " src=") && !strstr(page, "@import") && !strstr(page, "fetch("), "it is one file");
    cr_expect(!strstr(page, "{{"), "something was not put in its place");
    free(page);
}

/* What one file of an otherwise good run holds, and what the one line on stderr must contain. */
struct bad_file {
    const char *name, *text, *says;
};

static const struct bad_file bad_files[] = {
    { "trainer.json", "", "trainer.json:1: " },
    { "trainer.json", "[1]", "trainer.json: is not a JSON object" },
    { "trainer.json", "{\"format\":1}", "trainer.json: \"format\" must be from 2 to 4" },
    { "trainer.json", "{\"format\":2,\"model\":[],\"train\":{},\"data\":\"1\"}", "\"model\" must be an object" },
    { "trainer.json", "{\"format\":2,\"model\":{},\"train\":{},\"data\":\"1\",\"skipped\":0}",
      "\"layers\" is missing" },
    { "trainer.json", "{\"format\":2,\"model\":{\"layers\":1e9},\"train\":{},\"data\":\"1\",\"skipped\":0}",
      "\"layers\" must be" },
    { "trainer.json", "{\"format\":2,\"model\":{\"layers\":99999},\"train\":{},\"data\":\"1\",\"skipped\":0}",
      "\"layers\" must be from 1" },
    { "trainer.json", "{\"format\":2,\"model\":{\"layers\":1024,\"experts\":65536},\"train\":{},\"data\":\"1\",\"skipped\":0}",
      "\"experts\": more than" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1}\n{\"step\":2,\n{\"step\":3,\"tokens\":3}\n", "metrics.jsonl:2: " },
    { "metrics.jsonl", "[]\n", "metrics.jsonl:1: is not a JSON object" },
    { "metrics.jsonl", "{\"tokens\":1}\n", "metrics.jsonl:1: \"step\" is missing" },
    { "metrics.jsonl", "{\"step\":-1,\"tokens\":1}\n", "metrics.jsonl:1: \"step\"" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":\"1\"}\n", "metrics.jsonl:1: \"tokens\"" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1,\"loss\":true}\n", "metrics.jsonl:1: \"loss\" must be a number" },
    { "metrics.jsonl", "{\"step\":2,\"tokens\":2}\n{\"step\":1,\"tokens\":1}\n",
      "metrics.jsonl:2: \"step\" and \"tokens\" go back" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1,\"seu\":[1]}\n", "metrics.jsonl:1: \"seu\" must be a list of 2" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1,\"seu\":[1,\"x\"]}\n", "metrics.jsonl:1: \"seu\" must hold numbers" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1,\"gates\":[[1],[1]]}\n",
      "metrics.jsonl:1: \"gates\" must be a list of 16" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1,\"expert_tokens\":[[1,2,3,4],[1,2,3,-4]]}\n",
      "\"expert_tokens\" must hold numbers of at least 0" },
    { "metrics.jsonl", "{\"step\":1,\"tokens\":1,\"step\":2}\n", "metrics.jsonl:1: " },
    { "evaluation.json", "{\"layers\":[{}]}", "evaluation.json: \"layers\" must be a list of 2" },
    { "evaluation.json", "{\"layers\":[1,2]}", "evaluation.json: \"layers\" must hold objects" },
    { "evaluation.json", "{\"prune\":[{\"loss\":1}]}", "evaluation.json: \"prune\": \"below\" is missing" },
    { "evaluation.json", "{\"drop_top\":3}", "evaluation.json: \"drop_top\" must be a list" },
};

ParameterizedTestParameters(report, bad_file)
{
    static size_t indices[sizeof bad_files / sizeof bad_files[0]];
    for (size_t i = 0; i < sizeof indices / sizeof indices[0]; i++)
        indices[i] = i;
    return cr_make_param_array(size_t, indices, sizeof indices / sizeof indices[0]);
}

ParameterizedTest(size_t *index, report, bad_file)
{
    const struct bad_file *bad = &bad_files[*index];
    put_run((struct run){ .dir = "a", .seed = 1, .lbl = 0.01, .half = 2, .whole = 1, .pes = 0.1 });
    put("a", bad->name, "%s", bad->text);
    expect_fault("report a --out out", 1, bad->says);
}

Test(report, what_cannot_be_reported)
{
    put_four();
    put_run((struct run){ .dir = "other", .data = "78", .seed = 1, .lbl = 0.01, .half = 2, .whole = 1, .pes = 0.1 });
    expect_fault("report", 2, "which runs?");
    expect_fault("report --out out", 2, "which runs?");
    expect_fault("report simbal-1 --ouut out", 2, "did you mean --out");
    expect_fault("report simbal-1", 2, "--out DIR");
    expect_fault("report absent --out out", 1, "absent");
    expect_fault("report text.txt --out out", 1, "text.txt: is not a directory");
    expect_fault("report simbal-1 ./simbal-1/ --out out", 1, "named twice");
    expect_fault("report simbal-1 other --out out", 1, "different data");
    expect_fault("report simbal-1 --out text.txt/out", 1, "text.txt");
    remove("simbal-1/metrics.jsonl");
    expect_fault("report simbal-1 --out out", 1, "simbal-1/metrics.jsonl: ");
    remove("lbl-1/trainer.json");
    remove("lbl-1/metrics.jsonl");
    expect_fault("report lbl-1 --out out", 1, "lbl-1: is not a run");
    mkfifo("lbl-2/evaluation.json", 0600);
    expect_fault("report lbl-2 --out out", 1, "evaluation.json: is not a file");
}

Test(report, what_anyone_may_have_written)
{
    enum { LONG = (1 << 24) + 100 };
    put_run((struct run){ .dir = "a", .seed = 1, .simbal = 0.1, .half = 2, .whole = 1, .pes = 0.1 });
    put("a", "metrics.jsonl", "{\"step\":1,\"tokens\":1}\n\033]0;title\007\n");
    expect_fault("report a --out out", 1, "a/metrics.jsonl:2: ");
    struct cli_result result = cli_run("report a --out out");
    cr_expect(!strpbrk(result.err, "\033\007"), "a terminal would obey: %s", result.err);
    cli_result_free(&result);
    char *line = malloc(LONG);
    cr_assert(line);
    memset(line, ' ', LONG);
    file_write("a/metrics.jsonl", line, LONG);
    free(line);
    expect_fault("report a --out out", 1, "a/metrics.jsonl:1: a line of more than 16 MiB");
    cr_assert_eq(truncate("a/metrics.jsonl", (off_t)100 << 30), 0);
    expect_fault("report a --out out", 1, "a/metrics.jsonl: is larger than 256 MiB");
    cr_assert_eq(truncate("a/trainer.json", (off_t)100 << 30), 0);
    expect_fault("report a --out out", 1, "a/trainer.json: is larger than 16.0 MiB");
    put("b", "trainer.json", "{\"format\":3,\"skipped\":0,\"data\":\"1\",\"train\":{\"seed\":\"1\"},\"model\":{\"layers\":1024,"
        "\"experts\":1024,\"d_model\":1048576,\"vocab\":264,\"d_expert\":1048576,\"d_shared\":0}}");
    put("b", "metrics.jsonl", "{}");
    expect_fault("report b --out out", 1, "more weights than there can be");
}

/* A report holds every run, whatever its directory is called and its methods are told by. */
Test(report, names_that_are_not_utf8)
{
    char init[4 * 60 + 1] = "", other[sizeof init];
    for (int i = 0; i < 60; i++)
        strcat(init, i % 2 ? "\xc3\xa9" : "\xc3\xa9x");
    snprintf(other, sizeof other, "y%s", init);
    put_run((struct run){ .dir = "r\xff", .seed = 1, .simbal = 0.1, .half = 2, .whole = 1, .pes = 0.1, .init = init });
    put_run((struct run){ .dir = "s", .seed = 1, .simbal = 0.1, .half = 2, .whole = 1, .pes = 0.1, .init = other });
    json_t *root = report("report r\xff s --out out", "out");
    cr_expect_eq(json_array_size(json_object_get(root, "runs")), 2);
    cr_expect_eq(json_array_size(json_object_get(root, "methods")), 2);
    expect_text(root, "runs.0.name", "r?");
    json_decref(root);
}
