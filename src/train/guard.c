#include "train/guard.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

enum {
    SPAN = 50,                      /* steps that the mean loss is taken over, about */
    WARM = 20,                      /* steps before it says anything */
    MAX_REWINDS = 3,                /* to one checkpoint */
};

static enum vkmoe_status stop(struct vkmoe_trainer *t)
{
    char where[VKM_DIAGNOSIS];
    enum vkmoe_status status = vkm_diagnose(t, where);
    if (status)
        return status;
    return vkm_fail(&t->ctx->log, VKMOE_ERROR_DIVERGED, "step %" PRIu64 ": loss or gradient has not been finite for %u steps in a "
                    "row: %s; try a lower --lr or a longer --warmup", t->state.step, t->state.bad_steps, where);
}

/* A mean over the steps so far, and over about SPAN of them once there are more. */
static void add_loss(struct vkm_run_state *s, float loss)
{
    s->loss_count += s->loss_count < SPAN;
    s->loss_mean += (loss - s->loss_mean) / (float)s->loss_count;
}

static enum vkmoe_status go_back(struct vkmoe_trainer *t)
{
    const uint64_t step = t->state.step;
    const float loss = t->last.loss, mean = t->state.loss_mean;
    enum vkmoe_status status = vkm_trainer_saved(t);
    if (status)
        return status;
    if (!t->checkpoint) {
        vkm_log(&t->ctx->log, VKMOE_LOG_WARNING, "step %" PRIu64 ": the loss jumped from %.3g to %.3g, and there is no checkpoint "
                "to go back to; training goes on", step, (double)mean, (double)loss);
        return VKMOE_OK;
    }
    if (t->rewinds == MAX_REWINDS)
        return vkm_fail(&t->ctx->log, VKMOE_ERROR_DIVERGED, "step %" PRIu64 ": the loss jumped from %.3g to %.3g, the %dth time "
                        "after %s; try a lower --lr, or a greater --spike", step, (double)mean, (double)loss, MAX_REWINDS + 1,
                        t->checkpoint);
    if ((status = vkm_trainer_rewind(t)))
        return status;
    t->rewinds++;
    vkm_log(&t->ctx->log, VKMOE_LOG_WARNING, "step %" PRIu64 ": the loss jumped from %.3g to %.3g; back to %s, and on past "
            "the text in between", step, (double)mean, (double)loss, t->checkpoint);
    return VKMOE_OK;
}

enum vkmoe_status vkm_guard_step(struct vkmoe_trainer *t)
{
    struct vkm_run_state *s = &t->state;
    const float loss = t->last.loss;
    if (s->bad_steps >= t->train.max_bad_steps)
        return stop(t);
    if (t->last.skipped)
        return VKMOE_OK;
    if (t->train.spike > 0 && s->loss_count >= WARM && loss > t->train.spike * s->loss_mean)
        return go_back(t);
    add_loss(s, loss);
    return VKMOE_OK;
}
