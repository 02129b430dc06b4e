#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

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
         .help = "go on with a run from its newest checkpoint; other flags given change it from there"),
    FLAG("balance", OPTION_TEXT, balance, .value = "TEXT", OF_PRESET,
         .help = "what balances the experts: none, or simbal, lbl, lossfree joined by +, each with a coefficient or "
                 "without, as in lossfree+simbal=0.1"),
    FLAG("dense", OPTION_SWITCH, dense, .otherwise = "off",
         .help = "train the dense model of equal active size instead"),
    TRAINING_OPTIONS(struct train_options),
    COMMON_OPTIONS(struct train_options),
};

/* What a run keeps from its first step on. */
static const char *const not_resumable[] = { "out", "preset", "layers", "d-model", "heads", "experts", "top-k", "d-expert",
                                             "d-shared", "gate", "norm-topk", "seq", "seed", "router-init", "dense" };

static bool check_resume(const struct command *command, uint64_t given)
{
    for (size_t i = 0; i < sizeof not_resumable / sizeof not_resumable[0]; i++)
        if (options_given(command, given, not_resumable[i])) {
            message("--%s cannot be given with --resume: the run keeps its own; leave it out", not_resumable[i]);
            return false;
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
    result = training_read(command, argc, argv, o, &o->training, given);
    if (result != OPTIONS_OK)
        return result;
    if (o->resume)
        return OPTIONS_OK;
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

/* Lays the flags that were given over the run's own settings. Exit status. */
static int change_resumed(const struct command *command, int argc, char **argv, struct train_options *o)
{
    struct training_options *training = &o->training;
    const struct vkmoe_log log = library_log(o->common.verbose);
    if (vkmoe_checkpoint_config(log, o->resume, &training->model, &training->train) != VKMOE_OK)
        return EXIT_FAILED;
    if (training_override(command, argc, argv, o, training) != OPTIONS_OK)
        return EXIT_USAGE;
    if (o->balance && vkmoe_balance_parse(log, o->balance, &training->train.balance) != VKMOE_OK)
        return EXIT_USAGE;
    return EXIT_OK;
}

/* Bytes free where the directory is or will be; UINT64_MAX: not known. */
static uint64_t free_space(const char *dir)
{
    struct statvfs info;
    char *path = path_in(dir, "");
    bool known = false;
    for (char *end = path; path && !(known = statvfs(*path ? path : ".", &info) == 0) && *path;) {
        end = strrchr(path, '/');
        *(end ? end + (end == path && end[1]) : path) = '\0';
    }
    free(path);
    return known ? (uint64_t)info.f_bavail * info.f_frsize : UINT64_MAX;
}

/* Weights and two moments of f32, for those kept, the best, and the one being written. */
static void warn_of_space(uint64_t parameters, uint32_t keep, const char *dir)
{
    char needed[16], there[16];
    const uint64_t bytes = 3 * sizeof(float) * parameters * ((uint64_t)keep + 2), room = free_space(dir);
    if (room < bytes)
        message("warning: checkpoints take up to %s (--keep %" PRIu32 ", the best, one being written) and the disk of %s has %s "
                "left", format_bytes(needed, bytes), keep, dir, format_bytes(there, room));
}

static void print_resume(const struct train_options *o, const char *dir)
{
    fputs("; go on with: ", stdout);
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

/* After the library has said why it could not go on. */
static void print_failed(struct vkmoe_trainer *trainer, const struct train_options *o, const char *dir)
{
    const char *checkpoint = vkmoe_trainer_checkpoint(trainer);
    printf("stopped at step %" PRIu64 "; ", vkmoe_trainer_steps(trainer));
    if (!checkpoint) {
        puts("nothing was saved");
        return;
    }
    fputs("the last checkpoint is ", stdout);
    print_quoted(checkpoint);
    print_resume(o, dir);
}

static int train_and_report(struct vkmoe_trainer *trainer, const struct train_options *o, const struct vkmoe_data *data)
{
    const char *dir = o->resume ? o->resume : o->out;
    struct vkmoe_step_report report = { 0 };
    struct progress p;
    catch_signals();
    enum vkmoe_status status = run_begin(trainer, data, o->training.quiet, &p);
    if (status == VKMOE_OK && !p.quiet && !isnan(p.first_loss))
        printf("before      validation loss %.4f nats per token\n", p.first_loss);
    fflush(stdout);
    if (status == VKMOE_OK)
        status = run_steps(trainer, &p, &report, &train_output);
    const uint64_t step = vkmoe_trainer_steps(trainer);
    const bool interrupted = status == VKMOE_OK && step < p.steps;
    live_clear();
    if (interrupted) {
        printf("interrupted at step %" PRIu64, step);
        print_resume(o, dir);
    } else if (status == VKMOE_OK) {
        print_summary(&p, &report, dir, vkmoe_trainer_checkpoint(trainer));
    } else {
        print_failed(trainer, o, dir);
    }
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
    struct vkmoe_estimate estimate;
    int status = EXIT_FAILED;
    const enum options_result parsed = read_options(command, argc, argv, &o);
    if (parsed != OPTIONS_OK) {
        status = parsed == OPTIONS_HELP ? EXIT_OK : EXIT_USAGE;
        goto end;
    }
    if (o.resume && (status = change_resumed(command, argc, argv, &o)) != EXIT_OK)
        goto end;
    status = EXIT_FAILED;
    ctx = open_context(&o.common);
    if (!ctx)
        goto end;
    if (!training->quiet)
        print_device(vkmoe_context_device(ctx));
    status = training_check(ctx, &training->model, &training->train, training->quiet, &estimate);
    if (status != EXIT_OK)
        goto end;
    if (!o.resume)
        warn_of_space(estimate.params_total, training->train.keep, o.out);
    status = EXIT_FAILED;
    data = training_open_data(training, library_log(o.common.verbose));
    if (!data)
        goto end;
    struct vkmoe_trainer_desc desc = { .data = data, .train = training->train };
    if (o.resume) {
        desc.resume_dir = o.resume;
        desc.resume_train = true;
    } else {
        desc.model = training->model;
        desc.run_dir = o.out;
    }
    if (vkmoe_trainer_create(ctx, &desc, &trainer) == VKMOE_OK)
        status = train_and_report(trainer, &o, data);
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
