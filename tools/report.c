#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "files.h"
#include "json.h"
#include "report_json.h"
#include "report_page.h"

enum { MAX_RUNS = 1024 };

struct report_options {
    struct text_list runs;
    const char *out;
};

static const struct option_spec runs_option = {
    .name = "run", .type = OPTION_TEXT_LIST, .offset = offsetof(struct report_options, runs), .value = "RUN...",
    .help = "directories that 'vkmoe train' wrote, on the same data",
};

static const struct option_spec options[] = {
    { .name = "out", .type = OPTION_TEXT, .offset = offsetof(struct report_options, out), .value = "DIR",
      .otherwise = "the runs' parent, if it holds compare.json",
      .help = "where report.html and report.json go" },
};

/* The directory that all runs lie in, or NULL where there is none; the caller frees it. */
static char *common_parent(const struct run *runs, size_t count)
{
    const size_t length = (size_t)(runs[0].name - runs[0].path);
    for (size_t i = 1; i < count; i++)
        if ((size_t)(runs[i].name - runs[i].path) != length || strncmp(runs[i].path, runs[0].path, length) != 0)
            return NULL;
    char *parent = strdup(runs[0].path);
    if (parent)
        parent[length > 1 ? length - 1 : 1] = '\0';
    return parent;
}

static bool write_report(const struct run *runs, size_t count, const json_t *compare, const char *dir)
{
    struct methods methods;
    json_t *paper = json_loadb((const char *)report_paper, report_paper_bytes, 0, NULL);
    json_t *report = methods_find(runs, count, compare, &methods) ? report_json(runs, count, &methods, compare, paper)
                                                                  : NULL;
    char *text = json_page_text(report);
    bool written = false;
    if (text)
        written = outputs_write(dir, (const struct output[]){
            { "report.json", { { text, strlen(text) }, { "\n", 1 } } },
            { REPORT_PAGE, { { report_page_head, report_page_head_bytes }, { text, strlen(text) },
                               { report_page_tail, report_page_tail_bytes } } },
        }, 2);
    else if (methods.list)
        message("out of memory");
    free(text);
    json_decref(report);
    json_decref(paper);
    methods_free(&methods);
    return written;
}

/* Whether the run may stand beside those before it; else a message. */
static bool fits(const struct run *runs, size_t index)
{
    for (size_t i = 0; i < index; i++) {
        if (strcmp(runs[i].path, runs[index].path) == 0) {
            message("%s is named twice", runs[index].path);
            return false;
        }
        if (strcmp(runs[i].data, runs[index].data) != 0) {
            message("%s and %s were trained on different data: their losses do not compare", runs[i].path,
                    runs[index].path);
            return false;
        }
    }
    return true;
}

/* Whether compare.json, if there is one, is what methods_find and report_json take it for; else a message. */
static bool compare_fits(const char *path, const json_t *compare)
{
    const json_t *order = json_object_get(compare, "methods"), *seconds = json_object_get(compare, "step_seconds");
    bool fine = (!order || json_is_array(order)) && (!seconds || json_is_object(seconds));
    const char *key;
    json_t *value;
    for (size_t i = 0; i < json_array_size(order); i++)
        fine = fine && json_is_string(json_array_get(order, i));
    json_object_foreach((json_t *)seconds, key, value)
        fine = fine && (json_is_null(value) || json_number_value(value) > 0.0);
    if (!fine)
        message("%s: \"methods\" must hold strings and \"step_seconds\" numbers above 0", path);
    return fine;
}

/* report_write; with say, where the page is goes to stdout. */
static int make_report(const char *const *dirs, size_t count, const char *out_dir, bool say)
{
    struct run *runs = calloc(count + 1, sizeof *runs);
    size_t loaded = 0;
    int status = EXIT_FAILED;
    bool absent = false;
    char *parent = NULL, *compare_path = NULL, *page = NULL;
    json_t *compare = NULL;
    if (!runs) {
        message("out of memory");
        return EXIT_FAILED;
    }
    for (size_t i = 0; i < count; i++) {
        const enum run_result result = run_load(dirs[i], &runs[loaded]);
        if (result == RUN_OK && fits(runs, loaded)) {
            loaded++;
            continue;
        }
        run_free(&runs[loaded]);
        if (result != RUN_EMPTY)
            goto end;
    }
    if (loaded == 0) {
        message("none of the runs has saved anything yet");
        goto end;
    }
    parent = common_parent(runs, loaded);
    compare_path = parent ? path_in(parent, "compare.json") : NULL;
    if (compare_path && !(compare = json_file_load(compare_path, &absent)) && !absent)
        goto end;
    if (!compare_fits(compare_path, compare))
        goto end;
    if (!out_dir && !compare) {
        message("where to? Give --out DIR, since the runs have no common parent with a compare.json");
        status = EXIT_USAGE;
        goto end;
    }
    if (!out_dir)
        out_dir = parent;
    if (!write_report(runs, loaded, compare, out_dir))
        goto end;
    status = EXIT_OK;
    page = say ? path_in(out_dir, REPORT_PAGE) : NULL;
    if (page)
        puts(page);
end:
    for (size_t i = 0; i < loaded; i++)
        run_free(&runs[i]);
    free(runs);
    free(parent);
    free(compare_path);
    free(page);
    json_decref(compare);
    return status;
}

int report_write(const char *const *runs, size_t count, const char *out_dir)
{
    return make_report(runs, count, out_dir, false);
}

static int run(const struct command *command, int argc, char **argv)
{
    struct report_options o = { 0 };
    int status = EXIT_USAGE;
    const enum options_result parsed = options_parse(command, argc, argv, &o, NULL);
    if (parsed == OPTIONS_HELP)
        status = EXIT_OK;
    else if (parsed == OPTIONS_OK && o.runs.count == 0)
        message("which runs? Name the directories that 'vkmoe train' wrote");
    else if (parsed == OPTIONS_OK && o.runs.count > MAX_RUNS)
        message("%zu runs are too many: at most %d", o.runs.count, MAX_RUNS);
    else if (parsed == OPTIONS_OK && o.out && !*o.out)
        message("--out: needs the name of a directory");
    else if (parsed == OPTIONS_OK)
        status = make_report(o.runs.items, o.runs.count, o.out, true);
    text_list_free(&o.runs);
    return status;
}

const struct command command_report = {
    .name = "report",
    .summary = "Writes a page with figures, and their numbers, on one or more runs",
    .synopsis = "RUN... [flags]",
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .positional = &runs_option,
    .run = run,
};
