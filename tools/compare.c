#include "compare.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "live.h"
#include "print.h"
#include "report.h"
#include "training.h"

enum { METHODS_MOST = 32 };

struct compare_options {
    struct common_options common;
    struct training_options training;
    const char *methods, *out;
    uint32_t seeds;
};

#define FLAG(flag_name, flag_type, member, ...)                                                                        \
    { .name = flag_name, .type = flag_type, .offset = offsetof(struct compare_options, member), __VA_ARGS__ }

static const struct option_spec options[] = {
    FLAG("methods", OPTION_TEXT, methods, .value = "LIST", .otherwise = "required",
         .help = "what to compare: dense, none, or simbal, lbl, lossfree joined by +, as in none,lbl,lossfree+simbal=0.1"),
    FLAG("seeds", OPTION_U32, seeds, .value = "N", .min = 1, .max = 1000, .initial = "1",
         .help = "runs of each method, with the seeds --seed, --seed + 1, ..."),
    FLAG("out", OPTION_TEXT, out, .value = "DIR", .otherwise = "required",
         .help = "directory for the runs and the report; runs that are there already are gone on with"),
    TRAINING_OPTIONS(struct compare_options),
    COMMON_OPTIONS(struct compare_options),
};

/* One method over the configuration of all. false after a message. */
static bool read_method(const struct training_options *training, const char *text, struct contender *out)
{
    *out = (struct contender){ .text = text, .dense = strcmp(text, "dense") == 0, .model = training->model,
                               .train = training->train, .step_seconds = NAN, .step_ratio = NAN };
    if (!out->dense) {
        if (vkmoe_balance_parse(library_log(false), text, &out->train.balance) != VKMOE_OK)
            return false;
        vkmoe_balance_format(&out->train.balance, out->name);
        return true;
    }
    struct vkmoe_balance *balance = &out->train.balance;
    balance->simbal = balance->lbl = balance->lossfree = balance->router_z = 0.0f;
    out->train.pes_tokens = 0; /* one expert is similar to no other */
    out->model = vkmoe_model_dense(&training->model);
    snprintf(out->name, sizeof out->name, "dense");
    return true;
}

static size_t find_method(const struct contest *c, const char *name, size_t count)
{
    size_t i = 0;
    while (i < count && strcmp(c->methods[i].name, name) != 0)
        i++;
    return i;
}

/* Reads the methods; list is cut at its commas. OPTIONS_BAD after a message. */
static enum options_result read_methods(struct contest *c, const struct training_options *training, char *list)
{
    c->methods = calloc(METHODS_MOST + 1, sizeof *c->methods);
    if (!c->methods) {
        message("out of memory");
        return OPTIONS_BAD;
    }
    for (char *text = list, *next; text; text = next) {
        next = strchr(text, ',');
        if (next)
            *next++ = '\0';
        if (c->count == METHODS_MOST) {
            message("--methods: more than %d; give fewer", METHODS_MOST);
            return OPTIONS_BAD;
        }
        if (!read_method(training, text, &c->methods[c->count]))
            return OPTIONS_BAD;
        const size_t same = find_method(c, c->methods[c->count].name, c->count);
        if (same < c->count) {
            message("--methods: '%s' and '%s' are the same; leave one out", c->methods[same].text, text);
            return OPTIONS_BAD;
        }
        c->count++;
    }
    c->none_added = find_method(c, "none", c->count) == c->count;
    if (c->none_added && !read_method(training, "none", &c->methods[c->count]))
        return OPTIONS_BAD;
    return OPTIONS_OK;
}

static enum options_result read_options(const struct command *command, int argc, char **argv,
                                        struct compare_options *o, struct contest *c, char **list)
{
    uint64_t given = 0;
    enum options_result result = options_parse(command, argc, argv, o, &given);
    if (result == OPTIONS_OK)
        result = training_read(command, argc, argv, o, &o->training, given);
    if (result != OPTIONS_OK)
        return result;
    if (!o->methods)
        message("compare what? Give --methods, as in --methods none,lbl,simbal");
    else if (!o->out || !*o->out)
        message("nowhere to write the runs; give --out DIR");
    else if (!(*list = strdup(o->methods)))
        message("out of memory");
    else
        return read_methods(c, &o->training, *list);
    return OPTIONS_BAD;
}

/* Every model is checked before the first is trained; of the sparse ones, which are alike, the first is printed. */
static int check_models(const struct contest *c)
{
    bool printed = c->quiet;
    for (size_t i = 0; i < c->count; i++) {
        const struct contender *m = &c->methods[i];
        struct vkmoe_estimate estimate;
        const int status = training_check(c->ctx, &m->model, &m->train, m->dense ? c->quiet : printed, &estimate);
        if (status != EXIT_OK)
            return status;
        printed = printed || !m->dense;
    }
    return EXIT_OK;
}

static bool write_report(const struct contest *c)
{
    const size_t count = (size_t)c->seeds * c->count;
    const char **dirs = malloc(count * sizeof *dirs);
    if (!dirs) {
        message("out of memory");
        return false;
    }
    for (size_t i = 0; i < count; i++)
        dirs[i] = c->entries[i].dir;
    const bool written = report_write(dirs, count, c->out) == EXIT_OK;
    free(dirs);
    return written;
}

static void print_report(const struct contest *c)
{
    char *page = path_in(c->out, REPORT_PAGE);
    if (page)
        printf("\nreport  %s\n", page);
    free(page);
}

/* Seed by seed, so that what is there at any time can be compared. */
static int run_all(struct contest *c)
{
    int status = EXIT_OK;
    c->started = clock_seconds();
    for (size_t i = 0; i < (size_t)c->seeds * c->count; i++) {
        const struct contender *m = &c->methods[i % c->count];
        if (!c->entries[i].finished && c->entries[i].step < m->train.steps)
            c->predicted += (double)(m->train.steps - c->entries[i].step) * m->step_seconds;
    }
    contest_print_head(c);
    for (uint32_t seed = 0; seed < c->seeds && status == EXIT_OK; seed++) {
        for (size_t method = 0; method < c->count && status == EXIT_OK; method++) {
            const bool again = contest_entry(c, seed, method)->finished;
            if (!again)
                status = contest_run(c, seed, method);
            if (status == EXIT_OK)
                contest_print_done(c, seed, method, again);
            if (status == EXIT_OK && stop_signal())
                status = 128 + stop_signal();
        }
    }
    live_clear();
    return status;
}

static void print_interrupted(int argc, char **argv)
{
    fputs("interrupted; go on with the same command: ", stdout);
    print_quoted(program);
    fputs(" compare", stdout);
    for (int i = 0; i < argc; i++) {
        putchar(' ');
        print_quoted(argv[i]);
    }
    putchar('\n');
}

static int compare(struct contest *c, int argc, char **argv)
{
    int status = check_models(c);
    if (status != EXIT_OK)
        return status;
    if (!contest_load(c) || !contest_find_runs(c) || !contest_save(c))
        return EXIT_FAILED;
    catch_signals();
    if (contest_time_steps(c) != VKMOE_OK || !contest_save(c))
        return EXIT_FAILED;
    status = stop_signal() ? 128 + stop_signal() : run_all(c);
    if (stop_signal() && status != EXIT_FAILED) {
        print_interrupted(argc, argv);
        return status;
    }
    if (status != EXIT_OK)
        return status;
    if (!contest_print_summary(c) || !write_report(c))
        return EXIT_FAILED;
    if (!c->quiet)
        print_report(c);
    return EXIT_OK;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct compare_options o = { 0 };
    struct contest c = { 0 };
    char *list = NULL;
    int status = EXIT_FAILED;
    const enum options_result parsed = read_options(command, argc, argv, &o, &c, &list);
    if (parsed != OPTIONS_OK) {
        status = parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
        goto end;
    }
    c.out = o.out;
    c.quiet = o.training.quiet;
    c.terminal = isatty(STDOUT_FILENO) == 1;
    c.seeds = o.seeds;
    c.first_seed = o.training.train.seed;
    c.ctx = open_context(&o.common);
    if (!c.ctx)
        goto end;
    if (!c.quiet)
        print_device(vkmoe_context_device(c.ctx));
    c.data = training_open_data(&o.training, library_log(o.common.verbose));
    c.settings = training_settings(&o.training);
    if (!c.data || !c.settings)
        goto end;
    const struct vkmoe_data_info info = vkmoe_data_info(c.data);
    json_object_set_new(c.settings, "train_tokens", json_integer((json_int_t)info.train_tokens));
    json_object_set_new(c.settings, "valid_tokens", json_integer((json_int_t)info.valid_tokens));
    status = compare(&c, argc, argv);
end:
    for (size_t i = 0; c.entries && i < (size_t)c.seeds * c.count; i++)
        free(c.entries[i].dir);
    free(c.entries);
    free(c.methods);
    json_decref(c.settings);
    vkmoe_data_close(c.data);
    training_free(&o.training);
    free(list);
    return close_context(c.ctx, status);
}

static void print_details(void)
{
    training_print_presets(false);
    puts("\nEach run is in DIR/METHOD-SEED; what is finished is not done again. Ctrl-C finishes the step, writes\n"
         "the checkpoint and says how to go on; a second one stops at once.");
}

const struct command command_compare = {
    .name = "compare",
    .summary = "Trains methods of balancing experts against each other, several seeds of each",
    .synopsis = "--methods LIST --data PATH... --out DIR [flags]",
    .details = print_details,
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
