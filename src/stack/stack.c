#include "stack/stack.h"

#include <math.h>
#include <stdlib.h>

#include "nn/config.h"

static struct vkmoe_stack_config defaults(const struct vkmoe_stack_config *config)
{
    struct vkmoe_stack_config c = config ? *config : (struct vkmoe_stack_config){0};
    const struct vkmoe_balance *b = &c.balance;
#define DEFAULT(field, value) c.field = c.field != 0 ? c.field : (value)
    DEFAULT(d_model, 64);
    DEFAULT(layers, 1);
    DEFAULT(experts, 8);
    DEFAULT(top_k, c.experts < 2 ? c.experts : 2);
    DEFAULT(d_expert, 64);
    DEFAULT(norm_eps, 1e-6f);
    DEFAULT(batch, 1024);
    DEFAULT(rows, c.batch);
    DEFAULT(lr, 1e-3f);
    DEFAULT(beta1, 0.9f);
    DEFAULT(beta2, 0.95f);
    DEFAULT(eps, 1e-8f);
#undef DEFAULT
    if (!c.no_balance && b->simbal == 0 && b->lbl == 0 && b->lossfree == 0 && b->router_z == 0)
        c.balance.simbal = 0.1f;
    return c;
}

struct vkmoe_model_config vkm_stack_model(const struct vkmoe_stack_config *c)
{
    return (struct vkmoe_model_config){
        .layers = c->layers, .d_model = c->d_model, .experts = c->experts, .top_k = c->top_k, .d_expert = c->d_expert,
        .norm_eps = c->norm_eps, .norm_topk = c->norm_topk, .gate = c->gate, .d_shared = c->d_shared,
        .router_bias = c->balance.lossfree > 0};
}

static enum vkmoe_status plan(struct vkmoe_stack *s)
{
    const struct vkmoe_stack_config *c = &s->config;
    struct vkmoe_context *ctx = s->ctx;
    const struct vkmoe_model_config model = vkm_stack_model(c);
    const struct vkm_ends ends = {c->d_in, c->d_out};
    const uint64_t stats = sizeof(struct vkm_stack_stats) + (uint64_t)c->layers * c->experts * sizeof(uint32_t);
    enum vkmoe_status status;
    if (c->no_training)
        return vkm_net_create_stack(ctx, &model, &ends, c->rows, VKM_NET_FORWARD, c->precision, &s->forward);
    if ((status = vkm_net_create_stack(ctx, &model, &ends, c->batch, VKM_NET_TRAIN, c->precision, &s->train)) ||
        (status = vkm_arena_create(ctx, "stack", VKM_MEMORY_DEVICE, &s->device)) ||
        (status = vkm_arena_create(ctx, "stack's report", VKM_MEMORY_READBACK, &s->readback)))
        return status;
    vkm_arena_reserve(s->device, "stats", stats, &s->stats);
    vkm_arena_reserve(s->device, "step", sizeof(struct adam_state), &s->adam);
    vkm_arena_reserve(s->device, "control", sizeof(struct step_control), &s->control);
    vkm_arena_reserve(s->device, "norm partials", vkm_update_partials(s->train), &s->partials);
    vkm_arena_reserve(s->device, "target", (uint64_t)c->batch * vkm_stack_target(s) * sizeof(float), &s->target);
    vkm_arena_reserve(s->readback, "report", stats, &s->report);
    s->expert_tokens = calloc((size_t)c->layers * c->experts, sizeof *s->expert_tokens);
    return s->expert_tokens ? VKMOE_OK : vkm_fail_memory(&ctx->log);
}

/* What a first step finds. */
static enum vkmoe_status begin(struct vkmoe_stack *s)
{
    const struct loss_scale scale = {.scale = s->config.precision == VKMOE_F16 ? VKM_F16_LOSS_SCALE : 1};
    struct vkm_rec *rec;
    enum vkmoe_status status;
    if ((status = vkm_buf_upload(s->ctx, s->train->loss_scale, &scale, sizeof scale)) ||
        (status = vkm_rec_create(s->ctx, "clear stack", &rec)))
        return status;
    vkm_rec_fill(rec, s->stats, 0);
    vkm_rec_fill(rec, s->adam, 0);
    vkm_rec_fill(rec, s->report, 0);
    return vkm_rec_run_once(rec);
}

static enum vkmoe_status commit(struct vkmoe_stack *s)
{
    enum vkmoe_status status;
    if (s->train &&
        ((status = vkm_net_commit(s->train)) || (status = vkm_arena_commit(s->device)) ||
         (status = vkm_arena_commit(s->readback)) || (status = begin(s)) ||
         (status = vkm_net_create_shared(s->train, s->config.rows, &s->forward))))
        return status;
    if ((status = vkm_net_commit(s->forward)) ||
        (status = vkm_params_init(s->ctx, &vkm_stack_net(s)->params, s->config.router_init, s->config.seed)))
        return status;
    return vkm_params_narrow(s->ctx, &vkm_stack_net(s)->params);
}

enum vkmoe_status vkmoe_stack_create(struct vkmoe_context *ctx, const struct vkmoe_stack_config *config,
                                     struct vkmoe_stack **out)
{
    *out = NULL;
    struct vkmoe_stack *s = calloc(1, sizeof *s);
    if (!s)
        return vkm_fail_memory(&ctx->log);
    s->ctx = ctx;
    s->config = defaults(config);
    s->lr = s->config.lr;
    enum vkmoe_status status = vkm_config_check_stack(&ctx->log, &s->config);
    if (!status && s->config.precision != VKMOE_F32 && !ctx->caps.storage16)
        status = vkm_fail(&ctx->log, VKMOE_ERROR_DEVICE, "%s (%s) has no 16-bit arrays (storageBuffer16BitAccess); precision must "
                          "be f32", ctx->info.name, ctx->info.driver);
    if (status || (status = plan(s)) || (status = commit(s))) {
        vkmoe_stack_destroy(s);
        return status;
    }
    *out = s;
    return VKMOE_OK;
}

void vkmoe_stack_destroy(struct vkmoe_stack *s)
{
    if (!s)
        return;
    vkm_stack_own_destroy(&s->own);
    vkm_net_destroy(s->forward);
    vkm_net_destroy(s->train);
    vkm_arena_destroy(s->device);
    vkm_arena_destroy(s->readback);
    free(s->expert_tokens);
    free(s);
}

const struct vkmoe_stack_config *vkmoe_stack_config(const struct vkmoe_stack *s)
{
    return &s->config;
}

uint64_t vkmoe_stack_params(const struct vkmoe_stack *s)
{
    return vkm_params_total(&vkm_stack_net(s)->params);
}

static uint64_t bytes_of(const struct vkm_arena *arena)
{
    return arena ? vkm_arena_bytes(arena) : 0;
}

uint64_t vkmoe_stack_bytes(const struct vkmoe_stack *s)
{
    return bytes_of(vkm_stack_net(s)->param_arena) + bytes_of(s->forward->activation_arena) +
           (s->train ? bytes_of(s->train->activation_arena) : 0) + bytes_of(s->device) + bytes_of(s->readback) +
           bytes_of(s->own.upload) + bytes_of(s->own.readback);
}

uint64_t vkmoe_stack_flops(const struct vkmoe_stack *s)
{
    const struct vkm_net *net = vkm_stack_net(s);
    return 2 * vkm_params_active(&net->params, &net->config);
}

enum vkmoe_status vkmoe_stack_set_lr(struct vkmoe_stack *s, float lr)
{
    if (!isfinite(lr) || lr < 0)
        return vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "lr (%g) must be a finite number, 0 or greater", (double)lr);
    s->lr = lr;
    return VKMOE_OK;
}

enum vkmoe_status vkm_stack_trains(const struct vkmoe_stack *s, const char *what)
{
    return s->train ? VKMOE_OK : vkm_fail(&s->ctx->log, VKMOE_ERROR_ARGUMENT, "%s: the stack was created with no_training", what);
}

void vkm_stack_read_report(struct vkmoe_stack *s, struct vkmoe_stack_report *report)
{
    const struct vkmoe_stack_config *c = &s->config;
    const struct vkm_stack_stats *stats = s->report.host;
    const float layers = (float)c->layers;
    const uint32_t *counts = (const uint32_t *)(const void *)(stats + 1);
    for (uint32_t i = 0; i < c->layers * c->experts; i++)
        s->expert_tokens[i] = counts[i];
    *report = (struct vkmoe_stack_report){
        .step = stats->adam.step, .loss = stats->step.loss, .simbal_loss = stats->step.simbal / layers,
        .lbl_loss = stats->step.lbl / layers,
        .router_z_loss = c->balance.router_z * stats->step.router_z / (layers * (float)c->batch),
        .grad_norm = stats->step.grad_norm, .skipped = stats->step.skip != 0, .skipped_total = stats->adam.skipped,
        .loss_scale = stats->adam.step ? stats->step.loss_scale : 1, .layers = c->layers, .experts = c->experts,
        .expert_tokens = s->expert_tokens};
}
