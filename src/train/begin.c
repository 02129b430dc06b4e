/* How a trainer begins: a new run, one that goes on, and one that goes back to its newest checkpoint. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "nn/config.h"
#include "nn/update.h"
#include "train/trainer.h"
#include "train/weights.h"

/* Whether dir/name exists; status ERROR_MEMORY latches. */
static bool holds(const struct vkmoe_log *log, const char *dir, const char *name, enum vkmoe_status *status)
{
    char *path = vkm_path_join(dir, name);
    if (!path && !*status)
        *status = vkm_fail_memory(log);
    const bool there = path && access(path, F_OK) == 0;
    free(path);
    return there;
}

static enum vkmoe_status refuse_existing_run(const struct vkmoe_log *log, const char *dir)
{
    enum vkmoe_status status = VKMOE_OK;
    char *newest = NULL;
    if (access(dir, F_OK) != 0)
        return VKMOE_OK;
    const bool model = holds(log, dir, "config.json", &status), metrics = holds(log, dir, "metrics.jsonl", &status);
    if (status || (status = vkm_run_newest(log, dir, &newest)))
        return status;
    if (newest)
        status = vkm_fail(log, VKMOE_ERROR_ARGUMENT, "%s already holds a run (%s); go on with it by --resume %s, or choose another "
                          "--out", dir, newest, dir);
    else if (model || metrics)
        status = vkm_fail(log, VKMOE_ERROR_ARGUMENT, "%s already holds %s; choose another --out, or remove it first", dir,
                          model ? "a model (config.json)" : "a run that has saved nothing (metrics.jsonl)");
    free(newest);
    return status;
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
static enum vkmoe_status open_run(struct vkmoe_trainer *t, const struct vkmoe_trainer_desc *desc)
{
    const struct vkmoe_log *log = &t->ctx->log;
    const char *dir = desc->resume_dir ? desc->resume_dir : desc->run_dir;
    enum vkmoe_status status;
    if (!dir)
        return VKMOE_OK;
    if (!(t->run_dir = vkm_path_join("", dir)))
        return vkm_fail_memory(log);
    if (!desc->resume_dir && ((status = vkm_dir_create(log, dir)) || (status = vkm_run_lock(log, dir, &t->lock)) ||
                              (status = refuse_existing_run(log, dir))))
        return status;
    return vkm_metrics_open(log, dir, &t->model, t->state.step, t->train.tensorboard, &t->metrics);
}

/* Notes text, device and version in the state; of a resumed run, a warning where they are others. */
static void note_origin(struct vkmoe_trainer *t, const char *resume_dir)
{
    const struct vkmoe_log *log = &t->ctx->log;
    const struct vkmoe_device_info *info = &t->ctx->info;
    struct vkm_run_state *s = &t->state;
    uint64_t data = vkm_data_fingerprint(t->data);
    char device[VKM_FIELD_BYTES];
    snprintf(device, sizeof device, "%.240s (%.240s)", info->name, info->driver);
    if (resume_dir && data != s->data)
        vkm_log(log, VKMOE_LOG_WARNING, "%s was trained on another text so far; its curves mix the two", resume_dir);
    if (resume_dir && strcmp(device, s->device) != 0)
        vkm_log(log, VKMOE_LOG_WARNING, "%s ran on %s so far, now on %s: not the same bits as without the change", resume_dir,
                s->device, device);
    if (resume_dir && strcmp(vkmoe_version(), s->version) != 0)
        vkm_log(log, VKMOE_LOG_WARNING, "%s was trained by vkmoe %s so far, now by %s: not the same bits as without the change",
                resume_dir, s->version, vkmoe_version());
    s->data = data;
    memcpy(s->device, device, sizeof device);
    snprintf(s->version, sizeof s->version, "%s", vkmoe_version());
}

static enum vkmoe_status set_loss_scale(struct vkmoe_trainer *t)
{
    const struct loss_scale scale = {t->state.loss_scale, t->state.good_steps};
    return vkm_buf_upload(t->ctx, t->net->loss_scale, &scale, sizeof scale);
}

static void reset_loss_scale(struct vkmoe_trainer *t)
{
    t->state.loss_scale = t->train.precision == VKMOE_F16 ? VKM_F16_LOSS_SCALE : 1;
    t->state.good_steps = 0;
}

enum vkmoe_status vkm_trainer_note_checkpoint(struct vkmoe_trainer *t)
{
    char *path = vkm_run_checkpoint(t->run_dir, t->saved_step);
    if (!path)
        return vkm_fail_memory(&t->ctx->log);
    free(t->checkpoint);
    t->checkpoint = path;
    t->rewinds = 0;
    return VKMOE_OK;
}

/* Weights and moments from the checkpoint that t->state is of. */
static enum vkmoe_status load_weights(struct vkmoe_trainer *t, const char *path)
{
    enum vkmoe_status status = vkm_params_clear(t->ctx, &t->net->params);
    if (status || (status = vkm_weights_load(t->net, path, &t->state)) ||
        (status = vkm_params_narrow(t->ctx, &t->net->params)) || (status = set_loss_scale(t)))
        return status;
    t->submitted = t->pes_step = t->saved_step = t->state.step;
    return vkm_probe_change(t->probe, t->data, VKM_SPLIT_VALID, NULL); /* what the next validation compares with */
}

enum vkmoe_status vkm_trainer_rewind(struct vkmoe_trainer *t)
{
    const struct vkmoe_log *log = &t->ctx->log;
    struct vkmoe_model_config model;
    struct vkmoe_train_config train = {0};
    struct vkm_run_state state;
    const uint64_t passed_over = t->state.passed_over + (t->state.step - t->saved_step) * t->train.accum;
    enum vkmoe_status status;
    if ((status = vkm_wait(t->ctx, t->ctx->submitted)) ||
        (status = vkm_checkpoint_verify(log, t->checkpoint, VKM_VERIFY_ALL)) ||
        (status = vkm_checkpoint_config(log, t->checkpoint, &model, &train, &state)))
        return status;
    memcpy(state.device, t->state.device, sizeof state.device); /* what a resume has changed stays */
    memcpy(state.version, t->state.version, sizeof state.version);
    state.data = t->state.data;
    t->state = state;
    if ((status = load_weights(t, t->checkpoint)))
        return status;
    t->state.passed_over = passed_over;
    t->rate_time = 0;
    return vkm_metrics_rewind(t->metrics, t->state.step);
}

/* Finds the newest checkpoint of a run that goes on; *path is freed by the caller. */
static enum vkmoe_status find_checkpoint(const struct vkmoe_log *log, const char *dir, char **path)
{
    enum vkmoe_status status = VKMOE_OK;
    const bool old = holds(log, dir, "trainer.json", &status);
    if (status || (status = vkm_run_newest(log, dir, path)) || *path)
        return status;
    return vkm_fail(log, VKMOE_ERROR_IO, old ? "%s is one checkpoint; give the directory of the run that holds it"
                                             : "%s holds no checkpoint (step-...): give the directory of a run that has saved",
                    dir);
}

enum vkmoe_status vkmoe_checkpoint_config(struct vkmoe_log log, const char *run_dir, struct vkmoe_model_config *model,
                                          struct vkmoe_train_config *train)
{
    const struct vkmoe_log silent = {0};
    struct vkm_run_state state;
    char *path = NULL, *before = NULL;
    enum vkmoe_status status;
    bool same;
    *model = (struct vkmoe_model_config){0};
    *train = (struct vkmoe_train_config){0};
    do { /* a process that trains there removes a checkpoint when it has saved newer ones: what fails there is not told */
        free(before);
        before = path;
        path = NULL;
        if ((status = find_checkpoint(&log, run_dir, &path)))
            break;
        same = before && !strcmp(before, path);
        if (!(status = vkm_checkpoint_verify(same ? &log : &silent, path, VKM_VERIFY_CONFIG)))
            status = vkm_checkpoint_config(same ? &log : &silent, path, model, train, &state);
    } while (status && !same);
    free(before);
    free(path);
    return status;
}

/* What the run goes on with instead of what was saved. */
static enum vkmoe_status change_train(const struct vkmoe_log *log, const struct vkmoe_trainer_desc *desc,
                                      const struct vkmoe_model_config *model, struct vkmoe_train_config *train)
{
    const struct vkmoe_train_config saved = *train;
    if (desc->resume_train)
        *train = vkm_config_defaults(desc->train);
    else if (desc->train.steps)
        train->steps = desc->train.steps;
    if (train->balance.lossfree > 0 && !model->router_bias)
        return vkm_fail(log, VKMOE_ERROR_ARGUMENT, "%s: loss-free balance cannot begin in a run without its router bias; "
                        "begin a new run with it", desc->resume_dir);
    return vkm_trainer_json_changes(log, desc->resume_dir, &saved, train);
}

enum vkmoe_status vkmoe_trainer_create(struct vkmoe_context *ctx, const struct vkmoe_trainer_desc *desc,
                                       struct vkmoe_trainer **out)
{
    const struct vkmoe_log *log = &ctx->log;
    struct vkmoe_model_config model = desc->model;
    struct vkmoe_train_config train = desc->train;
    struct vkm_run_state state = {0};
    struct vkmoe_trainer *t = NULL;
    enum vkmoe_precision precision = train.precision;
    char *checkpoint = NULL;
    int lock = -1;
    enum vkmoe_status status;
    *out = NULL;
    if (desc->resume_dir) {
        if ((status = find_checkpoint(log, desc->resume_dir, &checkpoint))) /* else it is no run's, and has no lock */
            goto fail;
        free(checkpoint);
        checkpoint = NULL;
        if ((status = vkm_run_lock(log, desc->resume_dir, &lock)) ||
            (status = find_checkpoint(log, desc->resume_dir, &checkpoint)) ||
            (status = vkm_checkpoint_verify(log, checkpoint, VKM_VERIFY_ALL)) ||
            (status = vkm_checkpoint_config(log, checkpoint, &model, &train, &state)))
            goto fail;
        precision = train.precision;
        if ((status = change_train(log, desc, &model, &train)))
            goto fail;
    } else if (desc->run_dir && (status = refuse_existing_run(log, desc->run_dir))) {
        return status;
    }
    if ((status = vkm_config_check(log, &model, &train)) || (status = vkm_data_check(desc->data, model.seq)) ||
        (status = vkm_trainer_plan(ctx, &model, &train, &t)))
        goto fail;
    t->lock = lock;
    lock = -1;
    t->data = desc->data;
    t->state = state;
    note_origin(t, desc->resume_dir);
    if (!desc->resume_dir || precision != train.precision)
        reset_loss_scale(t);
    if ((status = check_memory(log, t)) || (status = vkm_trainer_commit(t)))
        goto fail;
    if (desc->resume_dir)
        status = load_weights(t, checkpoint);
    else if (!(status = vkm_params_init(ctx, &t->net->params, train.router_init, train.seed)) &&
             !(status = vkm_params_narrow(ctx, &t->net->params)))
        status = set_loss_scale(t);
    if (status || (status = open_run(t, desc)))
        goto fail;
    t->checkpoint = checkpoint;
    *out = t;
    return VKMOE_OK;

fail:
    vkm_run_unlock(lock);
    free(checkpoint);
    vkmoe_trainer_destroy(t);
    return status;
}
