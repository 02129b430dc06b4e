#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "json.h"

struct inspect_options {
    struct text_list paths;
    bool json;
};

static const struct option_spec options[] = {
    { .name = "json", .type = OPTION_SWITCH, .offset = offsetof(struct inspect_options, json), .otherwise = "off",
      .help = "print everything as a JSON object (of several paths: one after another)" },
};
static const struct option_spec positional = {
    .name = "PATH", .type = OPTION_TEXT_LIST, .offset = offsetof(struct inspect_options, paths)
};

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "?";
}

static uint64_t number_of(const json_t *object, const char *key)
{
    return (uint64_t)json_integer_value(json_object_get(object, key));
}

/* "name      key value, key value", in lines of at most HELP_WIDTH. */
static void print_members(const char *name, const json_t *object)
{
    const char *key;
    json_t *value;
    if (!object)
        return;
    int at = printf("%-12s", name);
    bool first = true;
    json_object_foreach((json_t *)object, key, value) {
        if (json_is_object(value) || json_is_array(value))
            continue;
        char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_REAL_PRECISION(9));
        const int width = (int)(strlen(key) + (text ? strlen(text) : 0)) + 3;
        if (!first && at + width > HELP_WIDTH)
            at = printf(",\n%-12s", "") - 2;
        else if (!first)
            at += printf(", ");
        at += printf("%s %s", key, text ? text : "?");
        first = false;
        free(text);
    }
    putchar('\n');
}

static void print_progress(const json_t *root)
{
    char tokens[16];
    printf("step        %" PRIu64 " of %" PRIu64 ", %s tokens", number_of(root, "step"),
           number_of(json_object_get(root, "train"), "steps"), format_count(tokens, (double)number_of(root, "tokens")));
    if (number_of(root, "skipped") > 0)
        printf(", %" PRIu64 " steps skipped", number_of(root, "skipped"));
    if (number_of(root, "val_step") > 0)
        printf("; validation loss %.4f at step %" PRIu64, json_member(root, "val_loss"), number_of(root, "val_step"));
    if (number_of(root, "best_step") > 0)
        printf(", best %.4f at %" PRIu64, json_member(root, "best_loss"), number_of(root, "best_step"));
    printf("\ntrained on  %s, by vkmoe %s\n", text_of(root, "device"), text_of(root, "version"));
}

static void print_files(const json_t *files)
{
    size_t i;
    json_t *file;
    char bytes[16];
    json_array_foreach((json_t *)files, i, file)
        printf("%-12s%-24s %10s  checksum %s\n", i ? "" : "files", text_of(file, "name"),
               format_bytes(bytes, number_of(file, "bytes")), text_of(file, "checksum"));
}

static void print_tensors(const json_t *tensors)
{
    size_t i;
    json_t *tensor;
    char bytes[16];
    json_array_foreach((json_t *)tensors, i, tensor) {
        char *shape = json_dumps(json_object_get(tensor, "shape"), 0);
        printf("  %-56s %-5s %-20s %10s\n", text_of(tensor, "name"), text_of(tensor, "dtype"), shape ? shape : "?",
               format_bytes(bytes, number_of(tensor, "bytes")));
        free(shape);
    }
}

static void print(const json_t *root)
{
    const char *kind = text_of(root, "kind"), *directory = json_string_value(json_object_get(root, "directory"));
    const json_t *tensors = json_object_get(root, "tensors"), *problems = json_object_get(root, "problems");
    char elements[16];
    size_t i;
    json_t *problem;
    printf("%-12s%s\n", kind, directory ? directory : text_of(root, "path"));
    if (json_object_get(root, "step"))
        print_progress(root);
    print_members("model", json_object_get(root, "model"));
    print_members("training", json_object_get(root, "train"));
    print_members("config", json_object_get(root, "config"));
    print_members("metadata", json_object_get(root, "metadata"));
    if (tensors)
        printf("tensors     %zu with %s elements\n", json_array_size(tensors),
               format_count(elements, (double)number_of(root, "elements")));
    print_files(json_object_get(root, "files"));
    if (!directory)
        print_tensors(tensors);
    json_array_foreach((json_t *)problems, i, problem)
        message("%s", json_string_value(problem));
}

/* Exit status. */
static int inspect(const char *path, bool json)
{
    char *text;
    if (vkmoe_inspect(library_log(false), path, &text) != VKMOE_OK)
        return EXIT_FAILED;
    json_t *root = json_loads(text, 0, NULL);
    const bool broken = !root || json_array_size(json_object_get(root, "problems")) > 0;
    if (json)
        puts(text);
    else if (root)
        print(root);
    json_decref(root);
    vkmoe_text_free(text);
    return broken ? EXIT_FAILED : EXIT_OK;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct inspect_options o = { 0 };
    int status = EXIT_USAGE;
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed == OPTIONS_HELP)
        status = EXIT_OK;
    else if (parsed == OPTIONS_OK && o.paths.count == 0)
        message("nothing to inspect; name a run, a checkpoint or a file of tensors");
    for (size_t i = 0; parsed == OPTIONS_OK && i < o.paths.count; i++) {
        const int one = inspect(o.paths.items[i], o.json);
        status = i == 0 || one != EXIT_OK ? one : status;
    }
    text_list_free(&o.paths);
    return status;
}

static void print_details(void)
{
    puts("\nPATH is the directory of a run (its newest checkpoint is shown), a checkpoint, another model directory in the\n"
         "Hugging Face layout, or a .safetensors file. All files are read and compared with their checksums; what is wrong\n"
         "is told, and the exit status is 1.");
}

const struct command command_inspect = {
    .name = "inspect",
    .summary = "Describes and verifies a run, a checkpoint or a file of tensors",
    .synopsis = "PATH... [--json]",
    .details = print_details,
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .positional = &positional,
    .run = run,
};
