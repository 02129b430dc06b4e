#include "options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum kind { TEXT, WHOLE, REAL, FLAG };

struct flag {
    const char *name, *value, *help;
    enum kind kind;
    void *to;
    double min, max;
};

static bool is_number(const struct flag *flag, const char *text)
{
    char *end;
    double number;
    errno = 0;
    if (flag->kind == WHOLE) {
        const unsigned long long whole = strtoull(text, &end, 10);
        if (*text < '0' || *text > '9')
            return false;
        number = (double)whole;
        *(uint64_t *)flag->to = whole;
    } else {
        number = strtod(text, &end);
        *(double *)flag->to = number;
    }
    return !errno && end != text && !*end && number >= flag->min && number <= flag->max; /* false for NaN */
}

static bool set(const struct flag *flag, const char *text)
{
    if (flag->kind == FLAG) {
        *(bool *)flag->to = true;
        return true;
    }
    if (flag->kind == TEXT) {
        *(const char **)flag->to = text;
        return true;
    }
    if (is_number(flag, text))
        return true;
    fprintf(stderr, "paint: %s %s: it takes a %s from %.15g to %.15g\n", flag->name, text,
            flag->kind == WHOLE ? "whole number" : "number", flag->min, flag->max);
    return false;
}

static void help(const struct flag *flags)
{
    printf(
        "usage: paint [flags]\n"
        "A small Mixture-of-Experts network learns a picture. Left: the picture so far; right: each pixel's expert.\n"
        "In the window, 1, 2 and 3 start again with simbal, lbl and none; Escape quits.\n\n");
    for (; flags->name; flags++)
        printf("  %-17s %-6s %s\n", flags->name, flags->value ? flags->value : "", flags->help);
}

static void print(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user, (void)level;
    fprintf(stderr, "paint: --balance: %s\n", line);
}

/* What no flag alone can know. */
static bool fits(struct options *options, bool steps_given, bool budget_given)
{
    if (vkmoe_balance_parse((struct vkmoe_log){.fn = print}, options->balance_text, &options->balance))
        return false;
    if (steps_given && budget_given)
        return fprintf(stderr, "paint: --steps-per-frame and --budget: give one of the two\n"), false;
    if (options->top_k > options->experts)
        return fprintf(stderr, "paint: --top-k: there are %u experts\n", (unsigned)options->experts), false;
    if (options->hidden % 4)
        return fprintf(stderr, "paint: --hidden: it takes a multiple of 4\n"), false;
    if (options->layer && options->layer > options->layers)
        return fprintf(stderr, "paint: --layer: there are %u layers, from 1\n", (unsigned)options->layers), false;
    if (!options->layer)
        options->layer = options->layers;
    if (!budget_given && !options->steps && options->out)
        options->steps = 20;
    if (!options->frames && options->out)
        options->frames = 40;
    return true;
}

enum options_result options_parse(int argc, char **argv, struct options *out)
{
    uint64_t device = UINT64_MAX;
    double budget = 0;
    bool want_help = false;
    struct options o = {.balance_text = "simbal",
                        .size = 128,
                        .octaves = 6,
                        .experts = 8,
                        .top_k = 2,
                        .width = 64,
                        .hidden = 64,
                        .layers = 1,
                        .batch = 1024,
                        .seed = 1,
                        .lr = 1e-2,
                        .half = 400};
    const struct flag flags[] = {
        {"--image", "FILE", "a PNG to learn; without it the program draws a landscape", TEXT, &o.image, 0, 0},
        {"--size", "N", "pixels of the longer side; a larger PNG is made smaller (128)", WHOLE, &o.size, 8, 1024},
        {"--balance", "TEXT",
         "what balances the experts: simbal, lbl, lossfree, none, \"simbal=0.2+lossfree\" (simbal)", TEXT,
         &o.balance_text, 0, 0},
        {"--experts", "E", "experts in a layer (8)", WHOLE, &o.experts, 1, 256},
        {"--top-k", "K", "experts that serve a pixel (2)", WHOLE, &o.top_k, 1, 256},
        {"--width", "D", "width of the network (64)", WHOLE, &o.width, 4, 1024},
        {"--hidden", "F", "hidden width of an expert (64)", WHOLE, &o.hidden, 4, 4096},
        {"--layers", "L", "layers of experts (1)", WHOLE, &o.layers, 1, 16},
        {"--layer", "I", "the layer whose experts are shown, from 1 (the last)", WHOLE, &o.layer, 1, 16},
        {"--octaves", "N", "frequencies of the position that the network sees (6)", WHOLE, &o.octaves, 1, 12},
        {"--batch", "T", "pixels in a training step (1024)", WHOLE, &o.batch, 1, 65536},
        {"--lr", "X", "learning rate at the start (0.01)", REAL, &o.lr, 0, 1},
        {"--half", "STEPS", "steps in which it halves, down to a 50th (400)", REAL, &o.half, 1, 1e9},
        {"--seed", "S", "of the weights and of the pixels that are drawn (1)", WHOLE, &o.seed, 0, 4294967295.0},
        {"--steps-per-frame", "N", "training steps in a frame (20 with --out)", WHOLE, &o.steps, 1, 10000},
        {"--budget", "MS", "or as many as fit a frame of so many milliseconds (16 in a window)", REAL, &budget, 0.1,
         60000},
        {"--frames", "N", "stop after as many (40 with --out, else when the window is closed)", WHOLE, &o.frames, 1,
         9999},
        {"--out", "DIR", "no window: write DIR/frame-0001.png, ...", TEXT, &o.out, 0, 0},
        {"--device", "INDEX", "of Vulkan's list, from 0 (the fastest kind that can be used)", WHOLE, &device, 0, 15},
        {"--validate", NULL, "turn the Vulkan validation layers on; exit status 1 if they say anything", FLAG,
         &o.validate, 0, 0},
        {"--help", NULL, "print this", FLAG, &want_help, 0, 0},
        {0}};
    for (int i = 1; i < argc; i++) {
        const struct flag *flag = flags;
        while (flag->name && strcmp(flag->name, argv[i]))
            flag++;
        if (!flag->name) {
            fprintf(stderr, "paint: %s is no flag; --help lists them\n", argv[i]);
            return OPTIONS_BAD;
        }
        if (flag->kind != FLAG && ++i == argc) {
            fprintf(stderr, "paint: %s needs a value\n", flag->name);
            return OPTIONS_BAD;
        }
        if (!set(flag, argv[i]))
            return OPTIONS_BAD;
    }
    if (want_help) {
        help(flags);
        return OPTIONS_HELP;
    }
    const bool steps_given = o.steps, budget_given = budget > 0;
    o.budget = budget_given ? budget : 16;
    o.device = device == UINT64_MAX ? -1 : (int)device;
    if (!fits(&o, steps_given, budget_given))
        return OPTIONS_BAD;
    *out = o;
    return OPTIONS_GO;
}
