#include "train.h"

#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"
#include "common.h"
#include "live.h"

enum {
    VALIDATION_TOKENS = 131072, /* read by a validation during training; the last one reads all */
    FIRST_VALIDATION_TOKENS = 16384, /* before the first step, only to say where the loss comes from */
    LOAD_STEPS = 50, /* steps at the end over which the load of the experts is summed */
};

struct train_options {
    struct common_options common;
    struct text_list data, valid;
    const char *out, *resume, *preset;
    unsigned balance;
    bool quiet;
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
};

#define FLAG(flag_name, flag_type, member, ...)                                                                        \
    { .name = flag_name, .type = flag_type, .offset = offsetof(struct train_options, member), __VA_ARGS__ }
#define OF_PRESET .otherwise = "the preset's, see below"

static const struct option_spec options[] = {
    FLAG("data", OPTION_TEXT_LIST, data, .value = "PATH", .otherwise = "required; repeatable",
         .help = "file or directory of UTF-8 text"),
    FLAG("valid", OPTION_TEXT_LIST, valid, .value = "PATH", .otherwise = "the last 10% of --data; repeatable",
         .help = "text for validation"),
    FLAG("out", OPTION_TEXT, out, .value = "DIR", .otherwise = "required, unless --resume",
         .help = "run directory to create: metrics and the model"),
    FLAG("resume", OPTION_TEXT, resume, .value = "DIR", .otherwise = "none",
         .help = "go on with a run; its configuration is used, only --steps may change"),
    FLAG("preset", OPTION_TEXT, preset, .value = "NAME", .initial = "tiny",
         .help = "sizes and recipe to start from, see below"),
    FLAG("steps", OPTION_U32, train.steps, .value = "N", .min = 1, OF_PRESET, .help = "optimizer steps"),
    FLAG("seed", OPTION_U64, train.seed, .value = "N", OF_PRESET, .help = "of initial weights and order of the data"),
    FLAG("layers", OPTION_U32, model.layers, .value = "N", .min = 1, OF_PRESET, .help = "Transformer blocks"),
    FLAG("d-model", OPTION_U32, model.d_model, .value = "N", .min = 1, OF_PRESET,
         .help = "width of the model, a multiple of --heads"),
    FLAG("heads", OPTION_U32, model.heads, .value = "N", .min = 1, OF_PRESET, .help = "attention heads"),
    FLAG("experts", OPTION_U32, model.experts, .value = "N", .min = 1, OF_PRESET, .help = "experts in a block"),
    FLAG("top-k", OPTION_U32, model.top_k, .value = "N", .min = 1, OF_PRESET, .help = "experts active for a token"),
    FLAG("d-expert", OPTION_U32, model.d_expert, .value = "N", .min = 1, OF_PRESET,
         .help = "hidden width of an expert, a multiple of 4"),
    FLAG("norm-topk", OPTION_ON_OFF, model.norm_topk, .value = "on|off", OF_PRESET,
         .help = "divide the gate weights of a token by their sum"),
    FLAG("seq", OPTION_U32, model.seq, .value = "N", .min = 1, OF_PRESET, .help = "tokens in a context"),
    FLAG("batch", OPTION_U32, train.batch, .value = "N", .min = 1, OF_PRESET, .help = "contexts in a micro-batch"),
    FLAG("accum", OPTION_U32, train.accum, .value = "N", .min = 1, OF_PRESET, .help = "micro-batches in a step"),
    FLAG("lr", OPTION_FLOAT, train.lr, .value = "X", OF_PRESET, .help = "peak learning rate"),
    FLAG("warmup", OPTION_U32, train.warmup, .value = "N", .otherwise = "the preset's, see below, at most half of --steps",
         .help = "steps up to the peak, then a cosine to its tenth"),
    FLAG("weight-decay", OPTION_FLOAT, train.weight_decay, .value = "X", OF_PRESET, .help = "AdamW's, on matrices"),
    FLAG("clip", OPTION_FLOAT, train.clip, .value = "X", OF_PRESET, .help = "largest gradient norm; 0: no clipping"),
    FLAG("balance", OPTION_CHOICE, balance, .value = "simbal|lbl|none", OF_PRESET,
         .help = "loss that balances the experts"),
    FLAG("balance-coef", OPTION_FLOAT, train.balance_coef, .value = "X", OF_PRESET,
         .help = "its coefficient; 0: 0.1 for simbal, 0.01 for lbl"),
    FLAG("eval-every", OPTION_U32, train.eval_every, .value = "N", OF_PRESET,
         .help = "steps between validations (on 128 Ki tokens at most); 0: only at the end"),
    FLAG("save-every", OPTION_U32, train.save_every, .value = "N", OF_PRESET,
         .help = "steps between checkpoints; 0: only at the end"),
    FLAG("log-every", OPTION_U32, train.log_every, .value = "N", .min = 1, OF_PRESET,
         .help = "steps between lines of metrics.jsonl"),
    FLAG("quiet", OPTION_SWITCH, quiet, .otherwise = "off", .help = "print warnings and errors only"),
    COMMON_OPTIONS(struct train_options),
};

/* Flags that mean the same for a new run and for one that goes on. */
static const char *const resumable[] = { "data", "valid", "resume", "steps", "quiet", "device", "profile", "validate",
                                         "verbose" };

static volatile sig_atomic_t stop_signal;

/* Notes the signal and leaves the next one to its default, so that a second Ctrl-C ends at once. */
static void on_signal(int number)
{
    struct sigaction standard = { .sa_handler = SIG_DFL };
    stop_signal = number;
    sigaction(SIGINT, &standard, NULL);
    sigaction(SIGTERM, &standard, NULL);
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

static const char *next_preset(const void *user, size_t i)
{
    (void)user;
    return vkmoe_preset_names()[i];
}

static void options_release(struct train_options *o)
{
    text_list_free(&o->data);
    text_list_free(&o->valid);
}

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

/* Parses twice: the first time for the preset, the second over the values that the preset filled in. */
static enum options_result read_options(const struct command *command, int argc, char **argv, struct train_options *o)
{
    uint64_t given = 0;
    enum options_result result = options_parse(command, argc, argv, o, &given);
    if (result != OPTIONS_OK)
        return result;
    if (o->data.count == 0) {
        message("no text to train on; give --data PATH");
        return OPTIONS_BAD;
    }
    if (o->resume) {
        if (!check_resume(command, given))
            return OPTIONS_BAD;
        return OPTIONS_OK;
    }
    if (!o->out) {
        message("nowhere to write the model; give --out DIR");
        return OPTIONS_BAD;
    }
    struct train_options filled = { 0 };
    if (!vkmoe_preset(o->preset, &filled.model, &filled.train)) {
        const char *near = nearest_name(o->preset, next_preset, NULL);
        message("no preset '%s'; %s%s%s", o->preset, near ? "did you mean '" : "see 'vkmoe help train'",
                near ? near : "", near ? "'?" : "");
        return OPTIONS_BAD;
    }
    const uint32_t preset_warmup = filled.train.warmup;
    const enum vkmoe_balance preset_balance = filled.train.balance;
    options_release(o);
    filled.balance = (unsigned)preset_balance;
    result = options_parse(command, argc, argv, &filled, NULL);
    *o = filled;
    o->train.balance = (enum vkmoe_balance)o->balance;
    if (o->train.balance != preset_balance && !options_given(command, given, "balance-coef"))
        o->train.balance_coef = 0.0f;
    if (!options_given(command, given, "warmup") && preset_warmup > o->train.steps / 2)
        o->train.warmup = o->train.steps / 2;
    return result;
}

/* Checks the configuration and prints the model and its memory. EXIT_USAGE or EXIT_FAILED after a message. */
static int check_memory(struct vkmoe_context *ctx, const struct train_options *o)
{
    struct vkmoe_estimate estimate, other;
    const enum vkmoe_status status = vkmoe_estimate(ctx, &o->model, &o->train, &estimate);
    if (status != VKMOE_OK)
        return status == VKMOE_ERROR_ARGUMENT ? EXIT_USAGE : EXIT_FAILED;
    if (!o->quiet)
        print_model(&o->model, &o->train, &estimate);
    if (estimate.total_bytes <= estimate.available_bytes)
        return EXIT_OK;
    char needed[16], available[16];
    format_bytes(needed, estimate.total_bytes);
    format_bytes(available, estimate.available_bytes);
    struct vkmoe_train_config smaller = o->train;
    while (smaller.batch > 1) {
        smaller.batch /= 2;
        if (vkmoe_estimate(ctx, &o->model, &smaller, &other) != VKMOE_OK)
            break;
        if (other.total_bytes <= other.available_bytes) {
            message("the model needs %s and the device has %s; --batch %" PRIu32 " would fit", needed, available,
                    smaller.batch);
            return EXIT_FAILED;
        }
    }
    message("the model needs %s and the device has %s; make %s smaller", needed, available,
            estimate.param_bytes > estimate.available_bytes ? "--d-model, --d-expert, --experts or --layers"
                                                            : "--batch, --seq, --d-model or --experts");
    return EXIT_FAILED;
}

static void add_load(struct progress *p, const struct vkmoe_step_report *report)
{
    if (!p->load || report->step + LOAD_STEPS <= p->steps)
        return;
    for (size_t i = 0; i < (size_t)report->layers * report->experts; i++)
        p->load[i] += report->expert_tokens[i];
    p->load_steps++;
}

static enum vkmoe_status validate(struct vkmoe_trainer *trainer, uint64_t max_tokens, struct progress *p)
{
    double loss;
    const enum vkmoe_status status = vkmoe_trainer_evaluate(trainer, max_tokens, &loss);
    if (status == VKMOE_OK)
        p->validation = loss;
    return status;
}

/* Trains to the last step or the first signal. The checkpoint is written in both cases. */
static enum vkmoe_status train(struct vkmoe_trainer *trainer, struct progress *p, struct vkmoe_step_report *report)
{
    const struct vkmoe_train_config *config = vkmoe_trainer_train(trainer);
    const uint64_t line_every = config->eval_every > 0 ? config->eval_every : (p->steps + 9) / 10;
    uint64_t step = p->first_step, counted = p->first_step;
    enum vkmoe_status status = VKMOE_OK;
    while (step < p->steps && !stop_signal && status == VKMOE_OK) {
        status = vkmoe_trainer_step(trainer, report);
        step = vkmoe_trainer_steps(trainer);
        if (status != VKMOE_OK)
            break;
        if (report->step > counted) {
            counted = report->step;
            add_load(p, report);
            print_live(p, report);
        }
        if (step == p->steps || step % line_every == 0) {
            status = vkmoe_trainer_finish(trainer, report);
            if (status == VKMOE_OK && report->step > counted) {
                counted = report->step;
                add_load(p, report);
            }
        }
        if (status == VKMOE_OK && step < p->steps && config->eval_every > 0 && step % config->eval_every == 0)
            status = validate(trainer, VALIDATION_TOKENS, p);
        if (status == VKMOE_OK && step < p->steps && step % line_every == 0)
            print_step(p, report);
        if (status == VKMOE_OK && step < p->steps && config->save_every > 0 && step % config->save_every == 0)
            status = vkmoe_trainer_save(trainer);
    }
    return status == VKMOE_OK ? vkmoe_trainer_save(trainer) : status;
}

static void print_interrupted(const struct train_options *o, uint64_t step, const char *dir)
{
    printf("interrupted at step %" PRIu64 "; go on with: ", step);
    print_quoted(program);
    fputs(" train --resume ", stdout);
    print_quoted(dir);
    for (size_t i = 0; i < o->data.count; i++) {
        fputs(" --data ", stdout);
        print_quoted(o->data.items[i]);
    }
    for (size_t i = 0; i < o->valid.count; i++) {
        fputs(" --valid ", stdout);
        print_quoted(o->valid.items[i]);
    }
    putchar('\n');
}

static int train_and_report(struct vkmoe_trainer *trainer, const struct train_options *o)
{
    const struct vkmoe_model_config *model = vkmoe_trainer_model(trainer);
    const char *dir = o->resume ? o->resume : o->out;
    struct vkmoe_step_report report = { 0 };
    struct progress p = { .quiet = o->quiet, .terminal = isatty(STDOUT_FILENO) == 1,
                          .first_step = vkmoe_trainer_steps(trainer), .steps = vkmoe_trainer_train(trainer)->steps,
                          .first_loss = NAN, .validation = NAN };
    enum vkmoe_status status = VKMOE_OK;
    p.load = calloc((size_t)model->layers * model->experts, sizeof *p.load);
    catch_signals();
    if (p.first_step == 0) {
        status = validate(trainer, FIRST_VALIDATION_TOKENS, &p);
        p.first_loss = p.validation;
        if (status == VKMOE_OK && !o->quiet)
            printf("before      validation loss %.4f nats per token\n", p.first_loss);
    }
    fflush(stdout);
    p.started = clock_seconds();
    if (status == VKMOE_OK)
        status = train(trainer, &p, &report);
    const uint64_t step = vkmoe_trainer_steps(trainer);
    live_clear();
    if (status == VKMOE_OK && stop_signal && step < p.steps) {
        print_interrupted(o, step, dir);
        free(p.load);
        return 128 + stop_signal;
    }
    if (status == VKMOE_OK)
        status = validate(trainer, 0, &p);
    if (status == VKMOE_OK)
        print_summary(&p, &report, dir);
    free(p.load);
    return status == VKMOE_OK ? EXIT_OK : EXIT_FAILED;
}

static int run(const struct command *command, int argc, char **argv)
{
    struct train_options o = { 0 };
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
    if (!o.quiet)
        print_device(vkmoe_context_device(ctx));
    if (!o.resume) {
        status = check_memory(ctx, &o);
        if (status != EXIT_OK)
            goto end;
    }
    status = EXIT_FAILED;
    vkmoe_data_open(&(struct vkmoe_data_desc){
        .log = library_log(o.common.verbose),
        .train = o.data.items, .train_count = o.data.count,
        .valid = o.valid.items, .valid_count = o.valid.count,
    }, &data);
    if (!data)
        goto end;
    const struct vkmoe_data_info info = vkmoe_data_info(data);
    if (!o.quiet)
        print_data(&info);
    struct vkmoe_trainer_desc desc = { .data = data };
    if (o.resume) {
        desc.resume_dir = o.resume;
        desc.train.steps = o.train.steps;
    } else {
        desc.model = o.model;
        desc.train = o.train;
        desc.run_dir = o.out;
    }
    if (vkmoe_trainer_create(ctx, &desc, &trainer) == VKMOE_OK)
        status = train_and_report(trainer, &o);
end:
    vkmoe_trainer_destroy(trainer);
    vkmoe_data_close(data);
    options_release(&o);
    return close_context(ctx, status);
}

static const char *balance_name(enum vkmoe_balance balance)
{
    return balance == VKMOE_BALANCE_SIMBAL ? "simbal" : balance == VKMOE_BALANCE_LBL ? "lbl" : "none";
}

/* The flags' defaults, which are the preset's. */
static void print_presets(void)
{
    printf("\n%-8s%8s%9s%7s%9s%7s%10s%11s%6s%7s%7s\n", "preset", "layers", "d-model", "heads", "experts", "top-k",
           "d-expert", "norm-topk", "seq", "batch", "accum");
    for (const char *const *name = vkmoe_preset_names(); *name; name++) {
        struct vkmoe_model_config m;
        struct vkmoe_train_config t;
        vkmoe_preset(*name, &m, &t);
        printf("%-8s%8" PRIu32 "%9" PRIu32 "%7" PRIu32 "%9" PRIu32 "%7" PRIu32 "%10" PRIu32 "%11s%6" PRIu32, *name,
               m.layers, m.d_model, m.heads, m.experts, m.top_k, m.d_expert, m.norm_topk ? "on" : "off", m.seq);
        printf("%7" PRIu32 "%7" PRIu32 "\n", t.batch, t.accum);
    }
    printf("\n%-8s%8s%8s%8s%14s%6s%9s%14s%6s%12s%12s%11s\n", "preset", "steps", "lr", "warmup", "weight-decay", "clip",
           "balance", "balance-coef", "seed", "eval-every", "save-every", "log-every");
    for (const char *const *name = vkmoe_preset_names(); *name; name++) {
        struct vkmoe_model_config m;
        struct vkmoe_train_config t;
        vkmoe_preset(*name, &m, &t);
        printf("%-8s%8" PRIu32 "%8g%8" PRIu32 "%14g%6g%9s%14g%6" PRIu64, *name, t.steps, (double)t.lr, t.warmup,
               (double)t.weight_decay, (double)t.clip, balance_name(t.balance), (double)t.balance_coef, t.seed);
        printf("%12" PRIu32 "%12" PRIu32 "%11" PRIu32 "\n", t.eval_every, t.save_every, t.log_every);
    }
    puts("\nCtrl-C finishes the step, writes the checkpoint and says how to go on; a second one stops at once.");
}

const struct command command_train = {
    .name = "train",
    .summary = "Trains a model on text",
    .synopsis = "--data PATH... --out DIR [flags]",
    .details = print_presets,
    .options = options,
    .option_count = sizeof options / sizeof options[0],
    .run = run,
};
