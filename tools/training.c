#include "training.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "common.h"
#include "print.h"

/* A choice is read into an unsigned. */
_Static_assert(sizeof(enum vkmoe_gate) == sizeof(unsigned) && sizeof(enum vkmoe_router_init) == sizeof(unsigned) &&
               sizeof(enum vkmoe_precision) == sizeof(unsigned) &&
                   sizeof(enum vkmoe_lbl_scope) == sizeof(unsigned), "an enumeration is not as large as an unsigned");

/* Every flag that has a preset's default, for its table. */
struct preset_values {
    const char *balance;
    struct training_options training;
};

static const struct option_spec preset_flags[] = {
    { .name = "balance", .type = OPTION_TEXT, .offset = offsetof(struct preset_values, balance), OF_PRESET },
    TRAINING_OPTIONS(struct preset_values),
};

enum { PRESET_FLAGS = sizeof preset_flags / sizeof preset_flags[0] };

void training_free(struct training_options *training)
{
    text_list_free(&training->data);
    text_list_free(&training->valid);
}

static bool fill_preset(struct training_options *training, const char *name)
{
    if (!vkmoe_preset(name, &training->model, &training->train))
        return false;
    training->lbl_gates = training->train.balance.lbl_full;
    return true;
}

static const char *next_preset(const void *user, size_t i)
{
    (void)user;
    return vkmoe_preset_names()[i];
}

enum options_result training_override(const struct command *command, int argc, char **argv, void *values,
                                      struct training_options *training)
{
    training->lbl_gates = training->train.balance.lbl_full;
    training_free(training);
    const enum options_result result = options_parse(command, argc, argv, values, NULL);
    training->train.balance.lbl_full = training->lbl_gates == 1;
    return result;
}

enum options_result training_read(const struct command *command, int argc, char **argv, void *values,
                                  struct training_options *training, uint64_t given)
{
    if (training->data.count == 0) {
        message("no text to train on; give --data PATH");
        return OPTIONS_BAD;
    }
    if (!fill_preset(training, training->preset)) {
        const char *near = nearest_name(training->preset, next_preset, NULL);
        message("no preset '%s'; %s%s%s", training->preset, near ? "did you mean '" : "see 'vkmoe help train'",
                near ? near : "", near ? "'?" : "");
        return OPTIONS_BAD;
    }
    const uint32_t preset_warmup = training->train.warmup;
    const enum options_result result = training_override(command, argc, argv, values, training);
    if (!options_given(command, given, "warmup") && preset_warmup > training->train.steps / 2)
        training->train.warmup = training->train.steps / 2;
    return result;
}

static bool of_preset(const struct option_spec *spec, bool balance)
{
    return spec->otherwise && strncmp(spec->otherwise, OF_PRESET_TEXT, sizeof OF_PRESET_TEXT - 1) == 0 &&
           (balance || strcmp(spec->name, "balance") != 0);
}

static const char *preset_text(const char *name, size_t flag, char text[64])
{
    char balance[VKMOE_BALANCE_TEXT];
    struct preset_values values = { 0 };
    fill_preset(&values.training, name);
    values.balance = vkmoe_balance_format(&values.training.train.balance, balance);
    return option_text(&preset_flags[flag], &values, text);
}

/* Width of a flag's column in the table of presets; 0: it has none, since its default is another or that of all presets. */
static int column_width(size_t flag, bool balance)
{
    size_t width = strlen(preset_flags[flag].name);
    char text[64], first[64];
    bool differs = false;
    if (!of_preset(&preset_flags[flag], balance))
        return 0;
    preset_text(vkmoe_preset_names()[0], flag, first);
    for (const char *const *name = vkmoe_preset_names(); *name; name++) {
        const size_t length = strlen(preset_text(*name, flag, text));
        width = length > width ? length : width;
        differs = differs || strcmp(text, first) != 0;
    }
    return differs ? (int)width + 2 : 0;
}

/* One line for the head and one for each preset. */
static void print_preset_columns(size_t first, size_t end, bool balance)
{
    const char *const *names = vkmoe_preset_names();
    char text[64];
    printf("\n%-8s", "preset");
    for (size_t i = first; i < end; i++)
        if (column_width(i, balance) > 0)
            printf("%*s", column_width(i, balance), preset_flags[i].name);
    putchar('\n');
    for (size_t p = 0; names[p]; p++) {
        printf("%-8s", names[p]);
        for (size_t i = first; i < end; i++)
            if (column_width(i, balance) > 0)
                printf("%*s", column_width(i, balance), preset_text(names[p], i, text));
        putchar('\n');
    }
}

/* What is the same in all of them. */
static void print_preset_rest(bool balance)
{
    int at = printf("\nall   ");
    for (size_t i = 0; i < PRESET_FLAGS; i++) {
        char text[64];
        if (!of_preset(&preset_flags[i], balance) || column_width(i, balance) > 0)
            continue;
        preset_text(vkmoe_preset_names()[0], i, text);
        if (at + 3 + (int)(strlen(preset_flags[i].name) + strlen(text)) > HELP_WIDTH)
            at = printf("\n%-6s", "") - 1;
        at += printf("  %s %s", preset_flags[i].name, text);
    }
    putchar('\n');
}

void training_print_presets(bool balance)
{
    puts("\n[preset] stands for:");
    for (size_t first = 0, end; first < PRESET_FLAGS; first = end) {
        int width = 8;
        for (end = first; end < PRESET_FLAGS && width + column_width(end, balance) <= HELP_WIDTH; end++)
            width += column_width(end, balance);
        if (width > 8)
            print_preset_columns(first, end, balance);
    }
    print_preset_rest(balance);
}

static json_t *text_list_json(const struct text_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++)
        json_array_append_new(array, json_string(list->items[i]));
    return array;
}

json_t *training_settings(const struct training_options *training)
{
    const struct preset_values values = { .training = *training };
    json_t *object = json_pack("{s:o, s:o}", "data", text_list_json(&training->data), "valid",
                               text_list_json(&training->valid));
    for (size_t i = 0; object && i < PRESET_FLAGS; i++) {
        const struct option_spec *spec = &preset_flags[i];
        char text[64];
        if (!of_preset(spec, false) || strcmp(spec->name, "seed") == 0)
            continue;
        option_text(spec, &values, text);
        const bool number = spec->type == OPTION_U32 || spec->type == OPTION_FLOAT;
        json_t *value = number ? json_loads(text, JSON_DECODE_ANY, NULL) : json_string(text);
        json_object_set_new(object, spec->name, value);
    }
    return object;
}

struct vkmoe_data *training_open_data(const struct training_options *training, struct vkmoe_log log)
{
    struct vkmoe_data *data = NULL;
    vkmoe_data_open(&(struct vkmoe_data_desc){
        .log = log,
        .train = training->data.items, .train_count = training->data.count,
        .valid = training->valid.items, .valid_count = training->valid.count,
    }, &data);
    if (data && !training->quiet) {
        const struct vkmoe_data_info info = vkmoe_data_info(data);
        print_data(&info);
    }
    return data;
}

int training_check(struct vkmoe_context *ctx, const struct vkmoe_model_config *model,
                   const struct vkmoe_train_config *train, bool quiet, struct vkmoe_estimate *estimate)
{
    struct vkmoe_estimate other;
    const enum vkmoe_status status = vkmoe_estimate(ctx, model, train, estimate);
    if (status != VKMOE_OK)
        return status == VKMOE_ERROR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
    if (!quiet)
        print_model(model, train, estimate);
    if (estimate->total_bytes <= estimate->available_bytes)
        return EXIT_OK;
    char needed[16], available[16];
    format_bytes(needed, estimate->total_bytes);
    format_bytes(available, estimate->available_bytes);
    struct vkmoe_train_config smaller = *train;
    while (smaller.batch > 1) {
        smaller.batch /= 2;
        if (vkmoe_estimate(ctx, model, &smaller, &other) != VKMOE_OK)
            break;
        if (other.total_bytes <= other.available_bytes) {
            message("the model needs %s and the device has %s; --batch %" PRIu32 " would fit", needed, available,
                    smaller.batch);
            return EXIT_FAILED;
        }
    }
    message("the model needs %s and the device has %s; make %s smaller", needed, available,
            estimate->param_bytes > estimate->available_bytes ? "--d-model, --d-expert, --experts or --layers"
                                                              : "--batch, --seq, --d-model or --experts");
    return EXIT_FAILED;
}
