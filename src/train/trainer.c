/* Training: batches in, steps out, with reports that lag by one step so that the device never waits for the host. */
#include "train/trainer.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "train/guard.h"
#include "train/schedule.h"
#include "train/weights.h"

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
    t->state.bad_steps = stats.skip ? t->state.bad_steps + 1 : 0;
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
        return vkm_guard_step(t);
    vkm_layer_sums_clear(t->sums);
    vkm_layer_sums_add(t->sums, (const struct router_stats *)(report + vkm_trainer_routers_at()), t->expert_tokens,
                       (uint64_t)t->net->B * t->train.accum);
    t->last.metrics = vkm_layer_sums_metrics(t->sums);
    status = vkm_metrics_step(t->metrics, &t->last);
    return status ? status : vkm_guard_step(t);
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
    vkm_data_sample(t->data, t->train.seed, (number + t->state.passed_over) * t->net->B, t->net->B, t->model.seq, t->tok[slot].host,
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
    enum vkmoe_status status = t->saver && vkm_saver_done(t->saver) ? vkm_trainer_saved(t) : VKMOE_OK;
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
    if (isfinite(out->loss)) {
        t->state.val_step = t->state.step;
        t->state.val_tokens = out->tokens;
        t->state.val_loss = (float)out->loss;
    }
    return t->metrics ? vkm_metrics_validation(t->metrics, t->state.step, t->state.tokens, out) : VKMOE_OK;
}

/* ---- saving ---------------------------------------------------------------------------------------------------- */

/* A validation at this step makes the checkpoint the best where no other saved one found less loss on as many tokens. */
static void note_best(struct vkm_run_state *s)
{
    if (!s->val_step || s->val_step != s->step)
        return;
    if (s->best_step && (s->val_tokens != s->best_tokens || s->val_loss >= s->best_loss))
        return;
    s->best_step = s->step;
    s->best_tokens = s->val_tokens;
    s->best_loss = s->val_loss;
}

enum vkmoe_status vkm_trainer_saved(struct vkmoe_trainer *t)
{
    if (!t->saver)
        return VKMOE_OK;
    struct vkm_saver *saver = t->saver;
    t->saver = NULL;
    enum vkmoe_status status = vkm_saver_finish(saver);
    return status ? status : vkm_trainer_note_checkpoint(t);
}

/* Finishes what is under way. *due: there is something to save. */
static enum vkmoe_status begin_save(struct vkmoe_trainer *t, bool *due)
{
    *due = false;
    enum vkmoe_status status = collect_until(t, 0);
    if (status || (status = vkm_trainer_saved(t)))
        return status;
    t->rate_time = 0;
    if (!t->run_dir)
        return vkm_fail(&t->ctx->log, VKMOE_ERROR_ARGUMENT,
                        "the trainer has no run directory to save into; set run_dir");
    *due = t->state.step != t->saved_step;
    if (!*due)
        return VKMOE_OK;
    note_best(&t->state);
    return vkm_metrics_sync(t->metrics);
}

static enum vkmoe_status save_now(struct vkmoe_trainer *t)
{
    enum vkmoe_status status = vkm_weights_save_run(t->net, t->run_dir, &t->train, &t->state);
    if (status)
        return status;
    t->saved_step = t->state.step;
    return vkm_trainer_note_checkpoint(t);
}

enum vkmoe_status vkmoe_trainer_save(struct vkmoe_trainer *t)
{
    bool due;
    enum vkmoe_status status = begin_save(t, &due);
    return status || !due ? status : save_now(t);
}

enum vkmoe_status vkmoe_trainer_save_later(struct vkmoe_trainer *t)
{
    bool due;
    enum vkmoe_status status = begin_save(t, &due);
    if (status || !due)
        return status;
    if ((status = vkm_saver_start(t->net, t->run_dir, &t->train, &t->state, &t->saver)))
        return status;
    if (!t->saver)
        return save_now(t);
    t->saved_step = t->state.step;
    return VKMOE_OK;
}

const char *vkmoe_trainer_checkpoint(struct vkmoe_trainer *t)
{
    vkm_trainer_saved(t); /* a failure leaves the one before */
    return t->checkpoint;
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
