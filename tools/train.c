#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "common.h"
#include "live.h"
#include "print.h"
#include "run.h"
#include "training.h"

struct train_options {
    struct common_options common;
    struct training_options training;
    const char *out, *resume, *balance;
    bool dense;
};

#define FLAG(flag_name, flag_type, member, ...)                                                                        \
    { .name = flag_name, .type = flag_type, .offset = offsetof(struct train_options, member), __VA_ARGS__ }

static const struct option_spec options[] = {
    FLAG("out", OPTION_TEXT, out, .value = "DIR", .otherwise = "required, unless --resume",
         .help = "directory to create for metrics and model"),
    FLAG("resume", OPTION_TEXT, resume, .value = "DIR", .otherwise = "none",
         .help = "go on with a run as it was configured; only --steps may change"),
    FLAG("balance", OPTION_TEXT, balance, .value = "TEXT", OF_PRESET,
         .help = "what balances the experts: none, or simbal, lbl, lossfree joined by +, each with a coefficient or "
                 "without, as in lossfree+simbal=0.1"),
    FLAG("dense", OPTION_SWITCH, dense, .otherwise = "off",
         .help = "train the dense model of equal active size instead"),
    TRAINING_OPTIONS(struct train_options),
    COMMON_OPTIONS(struct train_options),
};

/* Flags that mean the same for a new run and for one that goes on. */
static const char *const resumable[] = { "data", "valid", "resume", "steps", "quiet", "device", "profile", "validate",
                                         "verbose" };

static bool check_resume(const struct command *command, uint64_t given)
{
    for (size_t i = 0; i < command->option_count; i++) {
        bool allowed = !(given >> i & 1);
        for (size_t j = 0; j < sizeof resumable / sizeof resumable[0]; j++)
            allowed = allowed || strcmp(command->options[i].name, resumable[j]) == 0;
        if (!allowed) {
            message("--%s cannot be given with --resume: the run keeps its own; leave it out",
                    command->options[i].name);
            return false;
        }
    }
    return true;
}

/* The model without experts to choose from: the preset's balance falls away; router_z: its flag was given. */
static bool read_dense(struct train_options *o, bool router_z)
{
    struct vkmoe_train_config *train = &o->training.train;
    const char *flag = o->balance && strcmp(o->balance, "none") != 0 ? "balance" : router_z ? "router-z-loss" : NULL;
    if (flag) {
        message("--dense has no experts to balance; leave out --%s", flag);
        return false;
    }
    o->training.model = vkmoe_model_dense(&o->training.model);
    train->balance.simbal = train->balance.lbl = train->balance.lossfree = train->balance.router_z = 0.0f;
    return true;
}

static enum options_result read_options(const struct command *command, int argc, char **argv, struct train_options *o)
{
    uint64_t given = 0;
    enum options_result result = options_parse(command, argc, argv, o, &given);
    if (result != OPTIONS_OK)
        return result;
    if (o->resume && !check_resume(command, given))
        return OPTIONS_BAD;
    const uint32_t steps = o->training.train.steps;
    result = training_read(command, argc, argv, o, &o->training, given);
    if (result != OPTIONS_OK)
        return result;
    if (o->resume) {
        o->training.train.steps = steps;
        return OPTIONS_OK;
    }
    if (!o->out || !*o->out) {
        message("nowhere to write the model; give --out DIR");
        return OPTIONS_BAD;
    }
    if (o->dense)
        return read_dense(o, options_given(command, given, "router-z-loss")) ? OPTIONS_OK : OPTIONS_BAD;
    if (o->balance && vkmoe_balance_parse(library_log(false), o->balance, &o->training.train.balance) != VKMOE_OK)
        return OPTIONS_BAD;
    return OPTIONS_OK;
}

static void print_interrupted(const struct train_options *o, uint64_t step, const char *dir)
{
    printf("interrupted at step %" PRIu64 "; go on with: ", step);
    print_quoted(program);
    fputs(" train --resume ", stdout);
    print_quoted(dir);
    for (size_t i = 0; i < o->training.data.count; i++) {
        fputs(" --data ", stdout);
        print_quoted(o->training.data.items[i]);
    }
    for (size_t i = 0; i < o->training.valid.count; i++) {
        fputs(" --valid ", stdout);
        print_quoted(o->training.valid.items[i]);
    }
    putchar('\n');
}

static int train_and_report(struct vkmoe_trainer *trainer, const struct train_options *o)
{
    const char *dir = o->resume ? o->resume : o->out;
    struct vkmoe_step_report report = { 0 };
    struct progress p;
    catch_signals();
    enum vkmoe_status status = run_begin(trainer, o->training.quiet, &p);
    if (status == VKMOE_OK && !p.quiet && !isnan(p.first_loss))
        printf("before      validation loss %.4f nats per token\n", p.first_loss);
    fflush(stdout);
    if (status == VKMOE_OK)
        status = run_steps(trainer, &p, &report, &train_output);
    const uint64_t step = vkmoe_trainer_steps(trainer);
    const bool interrupted = status == VKMOE_OK && step < p.steps;
    live_clear();
    if (interrupted)
        print_interrupted(o, step, dir);
    else if (status == VKMOE_OK)
        print_summary(&p, &report, dir);
    run_end(&p);
    return interrupted ? 128 + stop_signal() : status == VKMOE_OK ? EXIT_OK : EXIT_FAILED;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct train_options o = { 0 };
    const struct training_options *training = &o.training;
    struct vkmoe_context *ctx = NULL;
    struct vkmoe_data *data = NULL;
    struct vkmoe_trainer *trainer = NULL;
    int status = EXIT_FAILED;
    const enum options_result parsed = read_options(command, argc, argv, &o);
    if (parsed != OPTIONS_OK) {
        status = parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
        goto end;
    }
    ctx = open_context(&o.common);
    if (!ctx)
        goto end;
    if (!training->quiet)
        print_device(vkmoe_context_device(ctx));
    if (!o.resume) {
        status = training_check(ctx, &training->model, &training->train, training->quiet);
        if (status != EXIT_OK)
            goto end;
    }
    status = EXIT_FAILED;
    data = training_open_data(training, library_log(o.common.verbose));
    if (!data)
        goto end;
    struct vkmoe_trainer_desc desc = { .data = data };
    if (o.resume) {
        desc.resume_dir = o.resume;
        desc.train.steps = training->train.steps;
    } else {
        desc.model = training->model;
        desc.train = training->train;
        desc.run_dir = o.out;
    }
    if (vkmoe_trainer_create(ctx, &desc, &trainer) == VKMOE_OK)
        status = train_and_report(trainer, &o);
end:
    vkmoe_trainer_destroy(trainer);
    vkmoe_data_close(data);
    training_free(&o.training);
    return close_context(ctx, status);
}

static void print_details(void)
{
    training_print_presets(true);
    puts("\nCtrl-C finishes the step, writes the checkpoint and says how to go on; a second one stops at once.");
}

const struct command command_train = {
    .name = "train",
    .summary = "Trains a model on text",
    .synopsis = "--data PATH... --out DIR [flags]",
    .details = print_details,
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
