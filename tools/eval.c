#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>

#include "commands.h"
#include "common.h"

struct eval_options {
    struct common_options common;
    const char *model;
    struct text_list data;
    bool json;
};

static const struct option_spec options[] = {
    { .name = "model", .type = OPTION_TEXT, .offset = offsetof(struct eval_options, model), .value = "DIR",
      .otherwise = "required", .help = "directory that 'vkmoe train' wrote" },
    { .name = "data", .type = OPTION_TEXT_LIST, .offset = offsetof(struct eval_options, data), .value = "PATH",
      .otherwise = "required; repeatable", .help = "file or directory of UTF-8 text" },
    { .name = "json", .type = OPTION_SWITCH, .offset = offsetof(struct eval_options, json), .otherwise = "off",
      .help = "print a JSON object" },
    COMMON_OPTIONS(struct eval_options),
};

static bool print_result(const struct vkmoe_eval_result *result, bool json)
{
    if (!json) {
        printf("loss           %.4f nats per token\nperplexity     %.4f\nbits per byte  %.4f\ntokens         %" PRIu64
               "\n", result->loss, result->perplexity, result->bits_per_byte, result->tokens);
        return true;
    }
    json_t *object = json_pack("{s:f, s:f, s:f, s:I, s:I}", "loss", result->loss, "perplexity", result->perplexity,
                               "bits_per_byte", result->bits_per_byte, "tokens", (json_int_t)result->tokens, "bytes",
                               (json_int_t)result->bytes);
    const bool written = object && json_dumpf(object, stdout, JSON_INDENT(2)) == 0;
    json_decref(object);
    putchar('\n');
    return written;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct eval_options o = { 0 };
    struct vkmoe_context *ctx = NULL;
    struct vkmoe_data *data = NULL;
    struct vkmoe_model *model = NULL;
    struct vkmoe_eval_result result;
    int status = EXIT_USAGE;
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed != OPTIONS_OK) {
        status = parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
        goto end;
    }
    if (!o.model) {
        message("which model? Give --model DIR");
        goto end;
    }
    if (o.data.count == 0) {
        message("no text to evaluate on; give --data PATH");
        goto end;
    }
    status = EXIT_FAILED;
    ctx = open_context(&o.common);
    if (!ctx)
        goto end;
    vkmoe_data_open(&(struct vkmoe_data_desc){
        .log = library_log(o.common.verbose), .train = o.data.items, .train_count = o.data.count,
    }, &data);
    if (!data || vkmoe_model_load(ctx, o.model, &model) != VKMOE_OK ||
        vkmoe_model_evaluate(model, data, &result) != VKMOE_OK)
        goto end;
    if (print_result(&result, o.json))
        status = EXIT_OK;
    else
        message("the result could not be written as JSON: it is not finite");
end:
    vkmoe_model_destroy(model);
    vkmoe_data_close(data);
    text_list_free(&o.data);
    return close_context(ctx, status);
}

const struct command command_eval = {
    .name = "eval",
    .summary = "Prints the loss of a model on text",
    .synopsis = "--model DIR --data PATH... [flags]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
