#include "bench/bench.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/measure.h"
#include "commands.h"
#include "common.h"
#include "files.h"
#include "json.h"
#include "print.h"

enum { PARTS = 4, CEILINGS = 1, ALL = (1 << PARTS) - 1 };
static enum vkmoe_status (*const parts[PARTS])(struct bench *b) = {bench_ceilings, bench_ops, bench_layer, bench_steps};

struct bench_options {
    struct common_options common;
    struct text_list files;
    const char *only, *precision, *json, *html;
    float seconds;
    bool compare;
};

static const struct option_spec files_option = {
    .name = "file", .type = OPTION_TEXT_LIST, .offset = offsetof(struct bench_options, files), .value = "FILE...",
    .help = "with --compare: results that --json wrote, the first one the measure of the others",
};

static const struct option_spec options[] = {
    DEVICE_OPTION(struct bench_options),
    {.name = "only", .type = OPTION_TEXT, .offset = offsetof(struct bench_options, only), .value = "LIST",
     .otherwise = "all", .help = "some of ceilings, ops, layer, steps, joined by ','; the ceilings, which the others are held "
                                 "against, are always measured"},
    {.name = "precision", .type = OPTION_TEXT, .offset = offsetof(struct bench_options, precision), .value = "LIST",
     .otherwise = "f32, and 16 bits where cooperative matrices are used",
     .help = "of products, layers and steps: some of f32, f16, bf16, joined by ','"},
    {.name = "seconds", .type = OPTION_FLOAT, .offset = offsetof(struct bench_options, seconds), .value = "N", .min = 0.001,
     .max = SECONDS_MOST, .initial = "0.5", .help = "time for each figure; what takes longer to do once is left out"},
    {.name = "json", .type = OPTION_TEXT, .offset = offsetof(struct bench_options, json), .value = "FILE",
     .otherwise = "none", .help = "write the results there"},
    {.name = "compare", .type = OPTION_SWITCH, .offset = offsetof(struct bench_options, compare),
     .help = "measure nothing: show results of several devices side by side"},
    {.name = "html", .type = OPTION_TEXT, .offset = offsetof(struct bench_options, html), .value = "FILE",
     .otherwise = "none", .help = "with --compare: write a page of it, which works offline"},
    CHECK_OPTIONS(struct bench_options),
};

static const char *const part_names[PARTS] = {"ceilings", "ops", "layer", "steps"};
static const char *const type_names[] = {"f32", "f16", "bf16"};

/* "ops,layer" as a bit for each word; 0 after a message. */
static unsigned parse_list(const char *flag, const char *list, const char *const *names, size_t count, const char *choices)
{
    unsigned wanted = 0;
    for (;;) {
        const size_t length = strcspn(list, ",");
        size_t i = 0;
        while (i < count && (strlen(names[i]) != length || strncmp(names[i], list, length) != 0))
            i++;
        if (i == count) {
            message("--%s: '%.*s' is none of %s", flag, (int)(length < 40 ? length : 40), list, choices);
            return 0;
        }
        wanted |= 1u << i;
        if (!list[length])
            return wanted;
        list += length + 1;
    }
}

static bool write_json(const struct bench_run *run, const char *path)
{
    json_t *root = bench_run_json(run);
    const bool written = json_save_as(path, root);
    json_decref(root);
    return written;
}

static int measure(const struct bench_options *o, unsigned wanted, unsigned types)
{
    struct bench b;
    struct vkmoe_context *ctx = open_context(&o->common);
    if (!ctx)
        return EXIT_FAILED;
    enum vkmoe_status status = bench_begin(ctx, (double)o->seconds, types, &b);
    if (!status) {
        print_device(&b.run.device);
        printf("times       %s\n", b.stamps ? "the device's timestamps; of training steps the wall clock"
                                           : "wall clock around submissions");
        printf("results     held against double precision, on samples: what is computed wrong gets no figures\n");
        printf("spread      from quartile to quartile; share: of the ceiling in the same unit\n");
    }
    for (size_t i = 0; i < PARTS && !status; i++)
        if (wanted >> i & 1)
            status = parts[i](&b);
    int result = status || (o->json && !write_json(&b.run, o->json)) ? EXIT_FAILED : EXIT_OK;
    bench_end(&b);
    return close_context(ctx, result);
}

static int compare(const struct command *command, const struct bench_options *o, uint64_t given)
{
    static const char *const measuring[] = {"device", "only", "precision", "seconds", "json"};
    for (size_t i = 0; i < sizeof measuring / sizeof *measuring; i++)
        if (options_given(command, given, measuring[i])) {
            message("--%s does not go with --compare, which measures nothing", measuring[i]);
            return EXIT_USAGE;
        }
    if (o->files.count == 0) {
        message("which results? Name the files that 'vkmoe bench --json' wrote");
        return EXIT_USAGE;
    }
    if (o->html && !output_check(o->html))
        return EXIT_FAILED;
    return bench_compare(o->files.items, o->files.count, o->html);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct bench_options o = {0};
    int status = EXIT_USAGE;
    uint64_t given;
    unsigned wanted = ALL, types = 0;
    const enum options_result parsed = options_parse(command, argc, argv, &o, &given);
    if (parsed == OPTIONS_HELP)
        status = EXIT_OK;
    else if (parsed == OPTIONS_OK && o.compare)
        status = compare(command, &o, given);
    else if (parsed == OPTIONS_OK && o.files.count > 0)
        message("'%s' is not a flag; files go with --compare", o.files.items[0]);
    else if (parsed == OPTIONS_OK && o.html)
        message("--html goes with --compare");
    else if (parsed == OPTIONS_OK &&
             (!o.only || (wanted = parse_list("only", o.only, part_names, PARTS, "ceilings, ops, layer, steps"))) &&
             (!o.precision || (types = parse_list("precision", o.precision, type_names, 3, "f32, f16, bf16"))))
        status = o.json && !output_check(o.json) ? EXIT_FAILED : measure(&o, wanted | CEILINGS, types);
    text_list_free(&o.files);
    return status;
}

const struct command command_bench = {
    .name = "bench",
    .summary = "Measures a device: arithmetic, memory, operations, layers, training; compares devices",
    .synopsis = "[--only LIST] [--json FILE] | --compare FILE... [--html FILE]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .positional = &files_option,
    .run = run,
};
