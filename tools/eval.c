#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "evaluation.h"
#include "json.h"

enum { PRUNE_MOST = 64 };

struct eval_options {
    struct common_options common;
    const char *model, *prune_below;
    struct text_list data;
    bool json, metrics;
    uint32_t pes_tokens, drop_top;
};

#define FLAG(flag_name, flag_type, member, ...)                                                                        \
    { .name = flag_name, .type = flag_type, .offset = offsetof(struct eval_options, member), __VA_ARGS__ }

static const struct option_spec options[] = {
    FLAG("model", OPTION_TEXT, model, .value = "DIR", .otherwise = "required",
         .help = "directory that 'vkmoe train' wrote"),
    FLAG("data", OPTION_TEXT_LIST, data, .value = "PATH", .otherwise = "required; repeatable",
         .help = "file or directory of UTF-8 text"),
    FLAG("metrics", OPTION_SWITCH, metrics, .otherwise = "off",
         .help = "also how each layer routes: load, entropy, similarity of experts, ..."),
    FLAG("pes-tokens", OPTION_U32, pes_tokens, .value = "N", .initial = "2048",
         .help = "tokens on which --metrics measures the experts' similarity; 0: none"),
    FLAG("prune-below", OPTION_TEXT, prune_below, .value = "LIST", .otherwise = "none",
         .help = "also the loss without active experts of smaller weight: thresholds from 0 to 1, as in 0,0.1,0.2"),
    FLAG("drop-top", OPTION_U32, drop_top, .value = "N", .otherwise = "none",
         .help = "also the loss when each token's best 0..N experts are passed over"),
    FLAG("json", OPTION_SWITCH, json, .otherwise = "off", .help = "print a JSON object"),
    COMMON_OPTIONS(struct eval_options),
};

/* Reads "0,0.1,0.2". false after a message. */
static bool read_thresholds(const char *text, double thresholds[PRUNE_MOST], size_t *count)
{
    for (*count = 0;; text++) {
        char *end;
        const size_t length = strcspn(text, ",");
        const double value = strtod(text, &end);
        if (length == 0 || end != text + length || !(value >= 0.0 && value <= 1.0)) {
            message("--prune-below: '%.*s' is not a number from 0 to 1", (int)length, text);
            return false;
        }
        if (*count == PRUNE_MOST) {
            message("--prune-below: more than %d thresholds; give fewer", PRUNE_MOST);
            return false;
        }
        thresholds[(*count)++] = value;
        text += length;
        if (!*text)
            return true;
    }
}

static bool print_json(const struct evaluation *evaluation)
{
    json_t *object = evaluation_json(evaluation);
    const bool printed = json_print(object);
    json_decref(object);
    return printed;
}

/* Whether as many experts can be passed over. */
static bool check_drop(const struct vkmoe_model_config *model, uint32_t drop_top)
{
    if (drop_top <= model->experts - model->top_k)
        return true;
    message("--drop-top: %" PRIu32 " is too many: of %" PRIu32 " experts with %" PRIu32 " active at most %" PRIu32
            " can be passed over", drop_top, model->experts, model->top_k, model->experts - model->top_k);
    return false;
}

/* Flags that contradict or lack something; false after a message. */
static bool check_options(const struct command *command, const struct eval_options *o, uint64_t given)
{
    if (!o->model)
        message("which model? Give --model DIR");
    else if (o->data.count == 0)
        message("no text to evaluate on; give --data PATH");
    else if (options_given(command, given, "pes-tokens") && !o->metrics)
        message("--pes-tokens says what --metrics measures; give that, too");
    else
        return true;
    return false;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct eval_options o = { 0 };
    struct vkmoe_context *ctx = NULL;
    struct vkmoe_data *data = NULL;
    struct vkmoe_model *model = NULL;
    struct evaluation evaluation = { 0 };
    struct evaluation_plan plan = { 0 };
    double thresholds[PRUNE_MOST];
    uint64_t given = 0;
    int status = EXIT_USAGE;
    const enum options_result parsed = options_parse(command, argc, argv, &o, &given);
    if (parsed != OPTIONS_OK) {
        status = parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
        goto end;
    }
    if (!check_options(command, &o, given) ||
        (o.prune_below && !read_thresholds(o.prune_below, thresholds, &plan.prune_count)))
        goto end;
    plan.metrics = o.metrics;
    plan.pes_tokens = o.pes_tokens;
    plan.prune = thresholds;
    plan.drop = options_given(command, given, "drop-top");
    plan.drop_top = o.drop_top;
    status = EXIT_FAILED;
    ctx = open_context(&o.common);
    if (!ctx)
        goto end;
    vkmoe_data_open(&(struct vkmoe_data_desc){
        .log = library_log(o.common.verbose), .train = o.data.items, .train_count = o.data.count,
    }, &data);
    if (!data || vkmoe_model_load(ctx, o.model, &model) != VKMOE_OK)
        goto end;
    if (plan.drop && !check_drop(vkmoe_model_config(model), plan.drop_top)) {
        status = EXIT_USAGE;
        goto end;
    }
    if (evaluation_run(model, data, &plan, &evaluation) != VKMOE_OK)
        goto end;
    status = EXIT_OK;
    if (!o.json)
        evaluation_print(&evaluation);
    else if (!print_json(&evaluation))
        status = EXIT_FAILED;
end:
    evaluation_free(&evaluation);
    vkmoe_model_destroy(model);
    vkmoe_data_close(data);
    text_list_free(&o.data);
    return close_context(ctx, status);
}

const struct command command_eval = {
    .name = "eval",
    .summary = "Prints the loss of a model on text, and how its experts are used",
    .synopsis = "--model DIR --data PATH... [flags]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
