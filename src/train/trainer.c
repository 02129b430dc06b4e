/* Training: batches in, steps out, with reports that lag by one step so that the device never waits for the host. */
#include "train/trainer.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "nn/config.h"
#include "nn/update.h"
#include "train/schedule.h"
#include "train/weights.h"

/* ---- creation -------------------------------------------------------------------------------------------------- */

static enum vkmoe_status refuse_existing_run(const struct vkmoe_log *log, const char *dir)
{
    static const char *const files[] = {"trainer.json", "model.safetensors", "metrics.jsonl"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        struct stat info;
        char *path = vkm_path_join(dir, files[i]);
        if (!path)
            return vkm_fail_memory(log);
        bool there = stat(path, &info) == 0;
        free(path);
        if (there)
            return vkm_fail(log, VKMOE_ERROR_ARGUMENT,
                            "%s already holds a run (%s); go on with it by --resume %s, or choose another --out", dir,
                            files[i], dir);
    }
    return VKMOE_OK;
}

static enum vkmoe_status check_memory(const struct vkmoe_log *log, const struct vkmoe_trainer *t)
{
    struct vkmoe_estimate e = vkm_trainer_estimate(t);
    if (e.total_bytes <= e.available_bytes)
        return VKMOE_OK;
    const double gib = 1024.0 * 1024 * 1024;
    const char *what = e.param_bytes > e.available_bytes / 2 ? "--layers, --experts, --d-expert or --d-model"
                                                             : "--batch or --seq";
    return vkm_fail(log, VKMOE_ERROR_DEVICE_MEMORY,
                    "the model needs %.2f GiB (parameters and optimizer %.2f, activations %.2f) and the device has %.2f "
                    "free; use a smaller %s", (double)e.total_bytes / gib, (double)e.param_bytes / gib,
                    (double)e.activation_bytes / gib, (double)e.available_bytes / gib, what);
}

/* Opens the run directory last, so that a trainer that cannot be made leaves none behind. */
static enum vkmoe_status open_run(struct vkmoe_trainer *t, const char *dir)
{
    enum vkmoe_status status;
    if (!dir)
        return VKMOE_OK;
    size_t bytes = strlen(dir) + 1;
    if (!(t->run_dir = malloc(bytes)))
        return vkm_fail_memory(&t->ctx->log);
    memcpy(t->run_dir, dir, bytes);
    if ((status = vkm_dir_create(&t->ctx->log, dir)))
        return status;
    return vkm_metrics_open(&t->ctx->log, dir, &t->model, t->state.step, t->train.tensorboard, &t->metrics);
}

/* Notes text and device in the state; of a resumed run, a warning where they are others. */
static void note_origin(struct vkmoe_trainer *t, const char *resume_dir)
{
    const struct vkmoe_device_info *info = &t->ctx->info;
    uint64_t data = vkm_data_fingerprint(t->data);
    char device[VKM_DEVICE_TEXT];
    snprintf(device, sizeof device, "%.240s (%.240s)", info->name, info->driver);
    if (resume_dir && data != t->state.data)
        vkm_log(&t->ctx->log, VKMOE_LOG_WARNING, "%s was trained on another text so far; its curves mix the two",
                resume_dir);
    if (resume_dir && strcmp(device, t->state.device) != 0)
        vkm_log(&t->ctx->log, VKMOE_LOG_WARNING, "%s ran on %s so far, now on %s: not the same bits as without the change",
                resume_dir, t->state.device, device);
    t->state.data = data;
    memcpy(t->state.device, device, sizeof device);
}

static enum vkmoe_status set_loss_scale(struct vkmoe_trainer *t, bool resumed)
{
    if (!resumed)
        t->state.loss_scale = t->train.precision == VKMOE_F16 ? VKM_F16_LOSS_SCALE : 1;
    const struct loss_scale scale = {t->state.loss_scale, t->state.good_steps};
    return vkm_buf_upload(t->ctx, t->net->loss_scale, &scale, sizeof scale);
}

enum vkmoe_status vkmoe_trainer_create(struct vkmoe_context *ctx, const struct vkmoe_trainer_desc *desc,
                                       struct vkmoe_trainer **out)
{
    const struct vkmoe_log *log = &ctx->log;
    struct vkmoe_model_config model = desc->model;
    struct vkmoe_train_config train = desc->train;
    struct vkm_run_state state = {0};
    struct vkmoe_trainer *t = NULL;
    enum vkmoe_status status;
    *out = NULL;
    if (desc->resume_dir) {
        if ((status = vkm_checkpoint_config(log, desc->resume_dir, &model, &train, &state)))
            return status;
        if (desc->train.steps)
            train.steps = desc->train.steps;
    } else if (desc->run_dir && (status = refuse_existing_run(log, desc->run_dir))) {
        return status;
    }
    if ((status = vkm_config_check(log, &model, &train)) || (status = vkm_data_check(desc->data, model.seq)) ||
        (status = vkm_trainer_plan(ctx, &model, &train, &t)))
        return status;
    t->data = desc->data;
    t->state = state;
    t->submitted = t->pes_step = state.step;
    note_origin(t, desc->resume_dir);
    if ((status = check_memory(log, t)) || (status = vkm_trainer_commit(t)))
        goto fail;
    if (!desc->resume_dir)
        status = vkm_params_init(ctx, &t->net->params, train.router_init, train.seed);
    else if (!(status = vkm_params_clear(ctx, &t->net->params)))
        status = vkm_weights_load(t->net, desc->resume_dir, &state);
    if (status || (status = vkm_params_narrow(ctx, &t->net->params)) || (status = set_loss_scale(t, desc->resume_dir)))
        goto fail;
    if (desc->resume_dir && (status = vkm_probe_change(t->probe, t->data, VKM_SPLIT_VALID, NULL)))
        goto fail; /* what the next validation compares with */
    if ((status = open_run(t, desc->resume_dir ? desc->resume_dir : desc->run_dir)))
        goto fail;
    *out = t;
    return VKMOE_OK;

fail:
    vkmoe_trainer_destroy(t);
    return status;
}

/* ---- steps ----------------------------------------------------------------------------------------------------- */

static uint64_t step_tokens(const struct vkmoe_trainer *t)
{
    return (uint64_t)t->net->T * t->train.accum;
}

/* Averages the time of a step, not its inverse: two steps collected at once must not count as infinitely fast. */
static void measure_rate(struct vkmoe_trainer *t)
{
    double now = vkm_seconds();
    if (t->rate_time > 0 && now > t->rate_time) {
        double period = now - t->rate_time;
        t->period = t->period > 0 ? 0.9 * t->period + 0.1 * period : period;
    }
    t->rate_time = now;
}

static bool is_log_step(const struct vkmoe_trainer *t, uint64_t step)
{
    return t->metrics && (step % t->train.log_every == 0 || step == t->train.steps);
}

/* Waits for step `step` and makes it the last report. */
static enum vkmoe_status collect(struct vkmoe_trainer *t, uint64_t step)
{
    int slot = (int)(step % VKM_SLOTS);
    enum vkmoe_status status = vkm_wait(t->ctx, t->update_ticket[slot]);
    if (status)
        return status;
    measure_rate(t);
    struct step_stats stats;
    const char *report = t->report[slot].host;
    memcpy(&stats, report, sizeof stats);
    uint64_t counts = vkm_trainer_counts_at(t);
    memcpy(t->expert_tokens, report + counts, t->report[slot].bytes - counts);

    const float layers = (float)t->model.layers;
    t->state.step = step;
    t->state.tokens += step_tokens(t);
    t->state.skipped += stats.skip;
    t->state.loss_scale = stats.loss_scale;
    t->state.good_steps = stats.good_steps;
    t->last = (struct vkmoe_step_report){
        .step = step, .tokens = t->state.tokens, .loss = stats.loss,
        .simbal_loss = stats.simbal / layers, .lbl_loss = stats.lbl / layers,
        .router_z_loss = t->train.balance.router_z * stats.router_z / (layers * (float)step_tokens(t)),
        .z_loss = stats.z_loss, .grad_norm = stats.grad_norm,
        .lr = (float)vkm_schedule_lr(t->train.lr, step, t->train.warmup, t->train.steps), .skipped = stats.skip != 0,
        .skipped_total = t->state.skipped, .loss_scale = stats.loss_scale,
        .tokens_per_second = t->period > 0 ? (double)step_tokens(t) / t->period : 0, .layers = t->model.layers,
        .experts = t->model.experts, .expert_tokens = t->expert_tokens};
    if (!is_log_step(t, step))
        return VKMOE_OK;
    vkm_layer_sums_clear(t->sums);
    vkm_layer_sums_add(t->sums, (const struct router_stats *)(report + vkm_trainer_routers_at()), t->expert_tokens,
                       (uint64_t)t->net->B * t->train.accum);
    t->last.metrics = vkm_layer_sums_metrics(t->sums);
    return vkm_metrics_step(t->metrics, &t->last);
}

/* Collects steps until `behind` are still on the device. */
static enum vkmoe_status collect_until(struct vkmoe_trainer *t, uint64_t behind)
{
    enum vkmoe_status status = VKMOE_OK;
    while (!status && t->submitted - t->state.step > behind)
        status = collect(t, t->state.step + 1);
    return status;
}

static enum vkmoe_status submit_micro(struct vkmoe_trainer *t, uint64_t number)
{
    int slot = (int)(number % VKM_SLOTS);
    enum vkmoe_status status = vkm_wait(t->ctx, t->micro_ticket[slot]);
    if (status)
        return status;
    vkm_data_sample(t->data, t->train.seed, number * t->net->B, t->net->B, t->model.seq, t->tok[slot].host,
                    t->target[slot].host);
    if ((status = vkm_rec_submit(t->micro[slot], &t->micro_ticket[slot])) || !is_log_step(t, t->submitted + 1))
        return status;
    if ((status = vkm_wait(t->ctx, t->measure_ticket[slot])))
        return status;
    return vkm_rec_submit(t->measure[slot], &t->measure_ticket[slot]);
}

enum vkmoe_status vkmoe_trainer_step(struct vkmoe_trainer *t, struct vkmoe_step_report *report)
{
    uint64_t step = t->submitted + 1;
    int slot = (int)(step % VKM_SLOTS);
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < t->train.accum && !status; i++)
        status = submit_micro(t, t->submitted * t->train.accum + i);
    if (status)
        return status;
    struct step_control control = {
        .lr = (float)vkm_schedule_lr(t->train.lr, step, t->train.warmup, t->train.steps),
        .bias1 = (float)(1 / (1 - pow(t->train.beta1, (double)step))),
        .bias2 = (float)(1 / (1 - pow(t->train.beta2, (double)step)))};
    memcpy(t->control[slot].host, &control, sizeof control);
    if ((status = vkm_rec_submit(t->update[slot], &t->update_ticket[slot])))
        return status;
    t->submitted = step;
    if ((status = collect_until(t, 1)))
        return status;
    *report = t->last;
    return VKMOE_OK;
}

enum vkmoe_status vkmoe_trainer_finish(struct vkmoe_trainer *t, struct vkmoe_step_report *report)
{
    enum vkmoe_status status = collect_until(t, 0);
    if (!status)
        *report = t->last;
    return status;
}

/* Whether a validation now measures PES. */
static bool pes_is_due(const struct vkmoe_trainer *t)
{
    uint64_t step = t->state.step, every = t->train.pes_every;
    return t->train.pes_tokens && (every == 0 || step >= t->train.steps || step / every > t->pes_step / every);
}

enum vkmoe_status vkmoe_trainer_evaluate(struct vkmoe_trainer *t, uint64_t max_tokens, struct vkmoe_validation *out)
{
    double sum;
    *out = (struct vkmoe_validation){.loss = NAN};
    enum vkmoe_status status = collect_until(t, 0);
    if (!status)
        status = vkm_evaluator_run(t->evaluator, t->data, VKM_SPLIT_VALID, max_tokens, t->sums, &sum, &out->tokens);
    if (status)
        return status;
    struct vkmoe_layer_metrics *metrics = vkm_layer_sums_metrics(t->sums);
    t->last.metrics = NULL;
    if ((status = vkm_probe_change(t->probe, t->data, VKM_SPLIT_VALID, metrics)))
        return status;
    if (pes_is_due(t)) {
        if ((status = vkm_probe_pes(t->probe, t->data, VKM_SPLIT_VALID, t->train.pes_tokens, metrics)))
            return status;
        t->pes_step = t->state.step;
    }
    out->loss = sum / (double)out->tokens;
    out->layers = t->model.layers;
    out->metrics = metrics;
    t->rate_time = 0;
    return t->metrics ? vkm_metrics_validation(t->metrics, t->state.step, t->state.tokens, out) : VKMOE_OK;
}

enum vkmoe_status vkmoe_trainer_save(struct vkmoe_trainer *t)
{
    enum vkmoe_status status = collect_until(t, 0);
    if (status)
        return status;
    t->rate_time = 0;
    if (!t->run_dir)
        return vkm_fail(&t->ctx->log, VKMOE_ERROR_ARGUMENT,
                        "the trainer has no run directory to save into; set run_dir");
    return vkm_weights_save(t->net, t->run_dir, &t->train, &t->state);
}

uint64_t vkmoe_trainer_steps(const struct vkmoe_trainer *t)
{
    return t->submitted;
}

const struct vkmoe_model_config *vkmoe_trainer_model(const struct vkmoe_trainer *t)
{
    return &t->model;
}

const struct vkmoe_train_config *vkmoe_trainer_train(const struct vkmoe_trainer *t)
{
    return &t->train;
}
