/* What a trainer is made of: its buffers, and the recordings of micro-batch and update, once for each slot. */
#include <stddef.h>
#include <stdlib.h>

#include "nn/config.h"
#include "nn/update.h"
#include "train/trainer.h"

_Static_assert((int)VKMOE_F16 == TYPE_F16 && (int)VKMOE_BF16 == TYPE_BF16, "a precision is the type of 16-bit arrays");

/* One field of the stats on the device. */
#define STAT(trainer, field) vkm_buf_slice((trainer)->stats, offsetof(struct step_stats, field), sizeof(float))

static struct vkm_buf expert_tokens(const struct vkmoe_trainer *t)
{
    uint64_t at = vkm_trainer_counts_at(t);
    return vkm_buf_slice(t->stats, at, t->stats.bytes - at);
}

enum vkmoe_status vkm_trainer_plan(struct vkmoe_context *ctx, const struct vkmoe_model_config *model,
                                   const struct vkmoe_train_config *train, struct vkmoe_trainer **out)
{
    enum vkmoe_status status;
    *out = NULL;
    struct vkmoe_trainer *t = calloc(1, sizeof *t);
    if (!t)
        return vkm_fail_memory(&ctx->log);
    t->ctx = ctx;
    t->lock = -1;
    t->saved_step = UINT64_MAX;
    t->model = vkm_config_model(*model, train);
    t->train = vkm_config_defaults(*train);
    if (train->precision != VKMOE_F32 && !ctx->caps.storage16) {
        status = vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE, "%s (%s) has no 16-bit arrays (storageBuffer16BitAccess); train with "
                          "--precision f32", ctx->info.name, ctx->info.driver);
        goto fail;
    }
    if ((status = vkm_net_create(ctx, &t->model, train->batch, train->recompute ? VKM_NET_TRAIN_RECOMPUTE : VKM_NET_TRAIN,
                                 train->precision, &t->net)) ||
        (status = vkm_evaluator_create(t->net, &t->evaluator)) || (status = vkm_probe_create(t->net, &t->probe)) ||
        (status = vkm_layer_sums_create(&ctx->log, model, &t->sums)) ||
        (status = vkm_arena_create(ctx, "training input", VKM_MEMORY_UPLOAD, &t->upload)) ||
        (status = vkm_arena_create(ctx, "training", VKM_MEMORY_DEVICE, &t->device)) ||
        (status = vkm_arena_create(ctx, "training output", VKM_MEMORY_READBACK, &t->readback)))
        goto fail;

    uint64_t counts = (uint64_t)model->layers * model->experts * sizeof(uint32_t);
    uint64_t report = vkm_trainer_counts_at(t) + counts;
    t->expert_tokens = malloc(counts);
    if (!t->expert_tokens) {
        status = vkm_fail_memory(&ctx->log);
        goto fail;
    }
    for (int slot = 0; slot < VKM_SLOTS; slot++) {
        vkm_arena_reserve(t->upload, "tokens", t->net->T * sizeof(uint32_t), &t->tok[slot]);
        vkm_arena_reserve(t->upload, "targets", t->net->T * sizeof(uint32_t), &t->target[slot]);
        vkm_arena_reserve(t->upload, "control", sizeof(struct step_control), &t->control[slot]);
        vkm_arena_reserve(t->readback, "report", report, &t->report[slot]);
    }
    vkm_arena_reserve(t->device, "stats", report, &t->stats);
    vkm_arena_reserve(t->device, "norm partials", vkm_update_partials(t->net), &t->partials);
    *out = t;
    return VKMOE_OK;

fail:
    vkmoe_trainer_destroy(t);
    return status;
}

void vkmoe_trainer_destroy(struct vkmoe_trainer *t)
{
    if (!t)
        return;
    vkm_trainer_saved(t);
    for (int slot = 0; slot < VKM_SLOTS; slot++) {
        vkm_rec_destroy(t->micro[slot]);
        vkm_rec_destroy(t->measure[slot]);
        vkm_rec_destroy(t->update[slot]);
    }
    vkm_evaluator_destroy(t->evaluator);
    vkm_probe_destroy(t->probe);
    vkm_layer_sums_destroy(t->sums);
    vkm_net_destroy(t->net);
    vkm_arena_destroy(t->upload);
    vkm_arena_destroy(t->device);
    vkm_arena_destroy(t->readback);
    vkm_metrics_close(t->metrics);
    free(t->expert_tokens);
    vkm_run_unlock(t->lock);
    free(t->checkpoint);
    free(t->run_dir);
    free(t);
}

struct vkmoe_estimate vkm_trainer_estimate(const struct vkmoe_trainer *t)
{
    const struct vkmoe_model_config *c = &t->model;
    const struct vkm_params *params = &t->net->params;
    uint64_t embed = vkm_params_get(params, VKM_PARAM_EMBED, VKM_NO_LAYER)->count;
    struct vkmoe_estimate e = {
        .params_total = vkm_params_total(params),
        .params_active = vkm_params_active(params, c),
        .param_bytes = vkm_arena_bytes(t->net->param_arena),
        .activation_bytes = vkm_arena_bytes(t->net->activation_arena) + vkm_arena_bytes(t->device),
        .staging_bytes = vkm_arena_bytes(t->upload) + vkm_arena_bytes(t->readback) + vkm_evaluator_bytes(t->evaluator) +
                         vkm_probe_bytes(t->probe),
        .available_bytes = vkm_memory_available(t->ctx),
    };
    e.total_bytes = e.param_bytes + e.activation_bytes + e.staging_bytes;
    /* Causal attention: half of S keys for each of q k^T and w v, forward and twice backward. */
    e.flops_per_token = 6 * (e.params_active - embed) + 6ull * c->layers * c->seq * c->d_model;
    return e;
}

enum vkmoe_status vkmoe_estimate(struct vkmoe_context *ctx, const struct vkmoe_model_config *model,
                                 const struct vkmoe_train_config *train, struct vkmoe_estimate *out)
{
    struct vkmoe_trainer *plan;
    *out = (struct vkmoe_estimate){0};
    enum vkmoe_status status = vkm_config_check(&ctx->log, model, train);
    if (!status)
        status = vkm_trainer_plan(ctx, model, train, &plan);
    if (status)
        return status;
    *out = vkm_trainer_estimate(plan);
    vkmoe_trainer_destroy(plan);
    return VKMOE_OK;
}

static void record_micro(struct vkmoe_trainer *t, struct vkm_rec *rec, int slot)
{
    struct vkm_loss loss = {
        .scale = (float)(1.0 / ((double)t->net->T * t->train.accum)),
        .z_coef = t->train.z_loss, .balance = t->train.balance, .expert_tokens = expert_tokens(t),
        .loss_sum = STAT(t, loss), .z_sum = STAT(t, z_loss), .lbl_sum = STAT(t, lbl), .router_z_sum = STAT(t, router_z)};
    loss.balance.lbl /= (float)t->train.accum;
    loss.balance.router_z /= (float)t->train.accum;
    vkm_net_forward(rec, t->net, t->tok[slot], expert_tokens(t), NULL);
    vkm_net_loss(rec, t->net, t->target[slot], &loss);
    vkm_net_backward(rec, t->net, t->tok[slot], &loss);
}

static void record_measure(struct vkmoe_trainer *t, struct vkm_rec *rec)
{
    uint64_t bytes = sizeof(struct router_stats);
    for (uint32_t layer = 0; layer < t->model.layers; layer++)
        vkm_measure_router(rec, t->net, layer, vkm_buf_slice(t->stats, vkm_trainer_routers_at() + layer * bytes, bytes));
}

static void record_update(struct vkmoe_trainer *t, struct vkm_rec *rec, int slot)
{
    const struct vkm_update update = {
        .balance = t->train.balance, .clip = t->train.clip, .beta1 = t->train.beta1, .beta2 = t->train.beta2,
        .eps = t->train.eps, .weight_decay = t->train.weight_decay, .control = t->control[slot], .stats = t->stats,
        .partials = t->partials, .expert_tokens = expert_tokens(t)};
    vkm_update_norm(rec, t->net, &update);
    vkm_update_weights(rec, t->net, &update);
    vkm_rec_copy(rec, t->report[slot], t->stats);
    vkm_rec_fill(rec, t->stats, 0);
}

static enum vkmoe_status clear_stats(struct vkmoe_trainer *t)
{
    void *zeros = calloc(1, t->stats.bytes);
    if (!zeros)
        return vkm_fail_memory(&t->ctx->log);
    enum vkmoe_status status = vkm_buf_upload(t->ctx, t->stats, zeros, t->stats.bytes);
    free(zeros);
    return status;
}

enum vkmoe_status vkm_trainer_commit(struct vkmoe_trainer *t)
{
    enum vkmoe_status status;
    if ((status = vkm_net_commit(t->net)) || (status = vkm_arena_commit(t->upload)) ||
        (status = vkm_arena_commit(t->device)) || (status = vkm_arena_commit(t->readback)) ||
        (status = vkm_evaluator_commit(t->evaluator)) || (status = vkm_probe_commit(t->probe)) ||
        (status = clear_stats(t)))
        return status;
    for (int slot = 0; slot < VKM_SLOTS; slot++) {
        if ((status = vkm_rec_create(t->ctx, "micro-batch", &t->micro[slot])) ||
            (status = vkm_rec_create(t->ctx, "measure", &t->measure[slot])) ||
            (status = vkm_rec_create(t->ctx, "update", &t->update[slot])))
            return status;
        record_micro(t, t->micro[slot], slot);
        record_measure(t, t->measure[slot]);
        record_update(t, t->update[slot], slot);
        if ((status = vkm_rec_end(t->micro[slot])) || (status = vkm_rec_end(t->measure[slot])) ||
            (status = vkm_rec_end(t->update[slot])))
            return status;
    }
    return VKMOE_OK;
}
