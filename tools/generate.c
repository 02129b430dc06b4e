#include <stdio.h>

#include "commands.h"
#include "common.h"

struct generate_options {
    struct common_options common;
    const char *model;
    struct vkmoe_generate_desc generate;
};

#define FLAG(flag_name, flag_type, member, ...)                                                                        \
    { .name = flag_name, .type = flag_type, .offset = offsetof(struct generate_options, member), __VA_ARGS__ }

static const struct option_spec options[] = {
    FLAG("model", OPTION_TEXT, model, .value = "DIR", .otherwise = "required",
         .help = "directory that 'vkmoe train' wrote"),
    FLAG("prompt", OPTION_TEXT, generate.prompt, .value = "TEXT", .otherwise = "none: the beginning of a text",
         .help = "text to go on with"),
    FLAG("max-tokens", OPTION_U32, generate.max_tokens, .value = "N", .min = 1, .initial = "256",
         .help = "tokens to sample at most"),
    FLAG("temperature", OPTION_FLOAT, generate.temperature, .value = "X", .max = 100, .initial = "0.8",
         .help = "0: always the likeliest token"),
    FLAG("top-p", OPTION_FLOAT, generate.top_p, .value = "X", .max = 1, .initial = "0.95",
         .help = "sample from the likeliest tokens with this probability; 1: from all"),
    FLAG("seed", OPTION_U64, generate.seed, .value = "N", .initial = "0", .help = "of the samples"),
    COMMON_OPTIONS(struct generate_options),
};

/* Ends the sampling when nobody reads any more. */
static bool print_text(void *user, const char *bytes, size_t count)
{
    (void)user;
    return fwrite(bytes, 1, count, stdout) == count && fflush(stdout) == 0;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct generate_options o = { 0 };
    struct vkmoe_model *model = NULL;
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed != OPTIONS_OK)
        return parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
    if (!o.model) {
        message("which model? Give --model DIR");
        return EXIT_USAGE;
    }
    struct vkmoe_context *ctx = open_context(&o.common);
    if (!ctx)
        return EXIT_FAILED;
    int status = EXIT_FAILED;
    if (vkmoe_model_load(ctx, o.model, &model) == VKMOE_OK) {
        if (o.generate.prompt)
            fputs(o.generate.prompt, stdout);
        if (vkmoe_model_generate(model, &o.generate, print_text, NULL) == VKMOE_OK)
            status = EXIT_OK;
        putchar('\n');
    }
    vkmoe_model_destroy(model);
    return close_context(ctx, status);
}

const struct command command_generate = {
    .name = "generate",
    .summary = "Continues a text with a trained model",
    .synopsis = "--model DIR [--prompt TEXT] [flags]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
