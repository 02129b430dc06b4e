#include "nn/config.h"

#include <math.h>
#include <string.h>

#include "shared.h"

/* 257 byte-level tokens, up to the next multiple of 8. */
enum { VOCAB = 264 };

struct preset {
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
};

#define MODEL(L, D, H, E, K, F, S, theta, norm) \
    {.layers = L, .d_model = D, .heads = H, .experts = E, .top_k = K, .d_expert = F, .seq = S, .vocab = VOCAB, \
     .rope_theta = theta, .norm_eps = 1e-5f, .norm_topk = norm}
#define TRAIN(B, A, n, warm, rate, second, decay, eval, save) \
    {.seed = 1, .steps = n, .batch = B, .accum = A, .warmup = warm, .lr = rate, .beta1 = 0.9f, .beta2 = second, \
     .eps = 1e-8f, .weight_decay = decay, .clip = 1, .balance = {.simbal = 0.1f}, .z_loss = 1e-5f, .log_every = 10, \
     .eval_every = eval, .save_every = save, .keep = 2, .max_bad_steps = 50, .pes_tokens = 2048}

/* tiny is nanoGPT's recipe for a CPU with experts. moe-s has about 20M active parameters. moe-m and moe-l are the
 * models of arXiv 2506.14038, trained on as many tokens; the paper does not give context and batch. */
/*             L   D     H   E   K  F     S     theta norm   B   A  steps   warm  lr    beta2  decay  eval  save */
#define PRESETS(P) \
    P("demo",  2,  64,   4,  8,  2, 64,   64,   1e4f, true,  16, 1, 1600,   30,   3e-3f, 0.95f, 0.1f,  200,  200) \
    P("tiny",  4,  128,  4,  8,  2, 256,  64,   1e4f, true,  12, 1, 2000,   100,  1e-3f, 0.99f, 0.1f,  250,  250) \
    P("moe-s", 8,  384,  6,  32, 4, 384,  512,  1e4f, true,  16, 1, 10000,  200,  1e-3f, 0.95f, 0.1f,  500,  1000) \
    P("moe-m", 8,  768,  8,  32, 4, 768,  2048, 1e4f, false, 8,  8, 151826, 2000, 5e-4f, 0.95f, 0.01f, 1000, 1000) \
    P("moe-l", 12, 1536, 12, 32, 4, 1536, 2048, 1e5f, false, 8,  8, 599671, 2000, 3e-4f, 0.95f, 0.01f, 1000, 1000)

#define NAME(name, ...) name,
#define ROW(name, L, D, H, E, K, F, S, theta, norm, ...) {MODEL(L, D, H, E, K, F, S, theta, norm), TRAIN(__VA_ARGS__)},
static const char *const names[] = {PRESETS(NAME) NULL};
static const struct preset presets[] = {PRESETS(ROW)};

const char *const *vkmoe_preset_names(void)
{
    return names;
}

bool vkmoe_preset(const char *name, struct vkmoe_model_config *model, struct vkmoe_train_config *train)
{
    for (size_t i = 0; name && names[i]; i++) {
        if (strcmp(name, names[i]) == 0) {
            *model = presets[i].model;
            *train = presets[i].train;
            return true;
        }
    }
    return false;
}

static float otherwise(float value, float fallback)
{
    return value != 0 ? value : fallback;
}

struct vkmoe_train_config vkm_config_defaults(struct vkmoe_train_config train)
{
    train.accum = train.accum ? train.accum : 1;
    train.beta1 = otherwise(train.beta1, 0.9f);
    train.beta2 = otherwise(train.beta2, 0.95f);
    train.eps = otherwise(train.eps, 1e-8f);
    train.log_every = train.log_every ? train.log_every : 10;
    train.keep = train.keep ? train.keep : 2;
    train.max_bad_steps = train.max_bad_steps ? train.max_bad_steps : 50;
    return train;
}

struct vkmoe_model_config vkm_config_model(struct vkmoe_model_config model, const struct vkmoe_train_config *train)
{
    model.router_bias = model.router_bias || train->balance.lossfree > 0;
    return model;
}

struct vkmoe_model_config vkmoe_model_dense(const struct vkmoe_model_config *model)
{
    struct vkmoe_model_config dense = *model;
    dense.experts = dense.top_k = 1;
    dense.d_expert = model->top_k * model->d_expert + model->d_shared;
    dense.d_shared = 0;
    dense.gate = VKMOE_GATE_SOFTMAX; /* of one expert: exactly 1 */
    dense.norm_topk = true;
    dense.router_bias = false;
    return dense;
}

/* The first failure is reported, the others are not. */
struct check {
    const struct vkmoe_log *log;
    enum vkmoe_status status;
};

static void whole(struct check *c, const char *name, uint32_t value, uint32_t min, uint32_t max)
{
    if (c->status == VKMOE_OK && (value < min || value > max))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "%s (%u) must be from %u to %u", name, value, min, max);
}

static void real(struct check *c, const char *name, float value, bool fine, const char *what)
{
    if (c->status == VKMOE_OK && !(isfinite(value) && fine))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "%s (%g) must be %s", name, (double)value, what);
}

/* An enumeration's value below `count`. */
static void choice(struct check *c, const char *name, int value, int count, const char *what)
{
    if (c->status == VKMOE_OK && (value < 0 || value >= count))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "%s (%d) must be %s", name, value, what);
}

/* Whether a * b * d < 2^31: the product of two is checked first, so nothing overflows. */
static void tensor(struct check *c, const char *fields, uint64_t a, uint64_t b, uint64_t d)
{
    const uint64_t limit = (uint64_t)1 << 31;
    if (c->status == VKMOE_OK && (a * b >= limit || a * b * d >= limit))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT,
                             "%s make a tensor of 2^31 elements or more; choose smaller ones", fields);
}

/* Of a model or a stack, whose fields are in their ranges. */
static void check_experts(struct check *c, uint32_t experts, uint32_t top_k, uint32_t d_expert, uint32_t d_shared)
{
    if (c->status == VKMOE_OK && d_expert % 4 != 0)
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "d_expert (%u) must be a multiple of 4", d_expert);
    if (c->status == VKMOE_OK && d_shared % 4 != 0)
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "d_shared (%u) must be a multiple of 4, or 0", d_shared);
    if (c->status == VKMOE_OK && (top_k < 1 || top_k > experts))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "top_k (%u) must be between 1 and experts (%u)", top_k, experts);
}

static void check_model(struct check *c, const struct vkmoe_model_config *m)
{
    whole(c, "layers", m->layers, 1, VKM_MAX_LAYERS);
    whole(c, "heads", m->heads, 1, VKM_MAX_HEADS);
    whole(c, "d_model", m->d_model, 4, VKM_MAX_D_MODEL);
    whole(c, "experts", m->experts, 1, MAX_EXPERTS);
    whole(c, "d_expert", m->d_expert, 4, VKM_MAX_D_EXPERT);
    whole(c, "seq", m->seq, 1, VKM_MAX_SEQ);
    whole(c, "vocab", m->vocab, VKMOE_BYTE_VOCAB, VKM_MAX_VOCAB);
    whole(c, "d_shared", m->d_shared, 0, VKM_MAX_D_EXPERT);
    choice(c, "gate", (int)m->gate, VKMOE_GATE_SIGMOID + 1, "softmax or sigmoid");
    if (c->status != VKMOE_OK)
        return;
    if (m->d_model % m->heads != 0)
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "d_model (%u) must be a multiple of heads (%u)", m->d_model,
                             m->heads);
    uint32_t width = m->d_model / m->heads;
    if (c->status == VKMOE_OK && (width % 4 != 0 || width > VKM_MAX_HEAD_WIDTH))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT,
                             "d_model (%u) / heads (%u) = %u must be a multiple of 4, at most %d; change one of them",
                             m->d_model, m->heads, width, VKM_MAX_HEAD_WIDTH);
    check_experts(c, m->experts, m->top_k, m->d_expert, m->d_shared);
    real(c, "rope_theta", m->rope_theta, m->rope_theta >= 1, "a finite number, at least 1");
    real(c, "norm_eps", m->norm_eps, m->norm_eps > 0 && m->norm_eps < 1, "between 0 and 1, both excluded");
    tensor(c, "d_model", 3, m->d_model, m->d_model);
    tensor(c, "vocab and d_model", 1, m->vocab, m->d_model);
    tensor(c, "experts, d_expert and d_model", m->experts, (uint64_t)2 * m->d_expert, m->d_model);
    tensor(c, "d_shared and d_model", 2, m->d_shared, m->d_model);
}

/* The tensors of a micro-batch. The logits of a whole context exist at once. */
static void check_batch(struct check *c, const struct vkmoe_model_config *m, uint32_t batch)
{
    uint64_t tokens = (uint64_t)batch * m->seq;
    tensor(c, "seq and vocab", 1, m->seq, m->vocab);
    tensor(c, "batch, seq, top_k and d_expert", tokens, (uint64_t)2 * m->top_k, m->d_expert);
    tensor(c, "batch, seq and d_shared", tokens, 2, m->d_shared);
    tensor(c, "batch, seq, top_k and d_model", tokens, m->top_k, m->d_model);
    tensor(c, "batch, seq and d_model", tokens, 3, m->d_model);
    tensor(c, "batch, seq and experts", tokens, 1, m->experts);
}

static void check_balance(struct check *c, enum vkmoe_gate gate, const struct vkmoe_balance *b)
{
    const char *coefficient = "a finite number, 0 or greater";
    real(c, "simbal", b->simbal, b->simbal >= 0, coefficient);
    real(c, "lbl", b->lbl, b->lbl >= 0, coefficient);
    real(c, "lossfree", b->lossfree, b->lossfree >= 0, coefficient);
    real(c, "router_z", b->router_z, b->router_z >= 0, coefficient);
    choice(c, "lbl_scope", (int)b->lbl_scope, VKMOE_LBL_GLOBAL_BATCH + 1, "sequence, micro-batch or global");
    if (c->status == VKMOE_OK && b->router_z > 0 && gate != VKMOE_GATE_SOFTMAX)
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT,
                             "router z-loss needs a softmax gate; leave router_z at 0 with a sigmoid one");
}

static void check_adamw(struct check *c, float lr, float beta1, float beta2, float eps, float weight_decay, float clip)
{
    const char *coefficient = "a finite number, 0 or greater", *beta = "at least 0 and below 1";
    real(c, "lr", lr, lr > 0, "a finite number greater than 0");
    real(c, "beta1", beta1, beta1 >= 0 && beta1 < 1, beta);
    real(c, "beta2", beta2, beta2 >= 0 && beta2 < 1, beta);
    real(c, "eps", eps, eps >= 0, coefficient);
    real(c, "weight_decay", weight_decay, weight_decay >= 0, coefficient);
    real(c, "clip", clip, clip >= 0, coefficient);
}

static void check_train(struct check *c, const struct vkmoe_model_config *m, const struct vkmoe_train_config *t)
{
    whole(c, "steps", t->steps, 1, VKM_MAX_STEPS);
    whole(c, "batch", t->batch, 1, VKM_MAX_BATCH);
    whole(c, "accum", t->accum, 0, VKM_MAX_BATCH);
    whole(c, "warmup", t->warmup, 0, VKM_MAX_STEPS);
    check_adamw(c, t->lr, t->beta1, t->beta2, t->eps, t->weight_decay, t->clip);
    real(c, "z_loss", t->z_loss, t->z_loss >= 0, "a finite number, 0 or greater");
    check_balance(c, m->gate, &t->balance);
    real(c, "spike", t->spike, t->spike == 0 || t->spike > 1, "0, or a finite number greater than 1");
    choice(c, "router_init", (int)t->router_init, VKMOE_ROUTER_ORTHOGONAL_SMALL + 1,
           "orthogonal, normal, unit or orthogonal-small");
    choice(c, "precision", (int)t->precision, VKMOE_BF16 + 1, "f32, f16 or bf16");
    if (c->status != VKMOE_OK)
        return;
    check_batch(c, m, t->batch);
    if (c->status == VKMOE_OK && (uint64_t)t->batch * m->seq * m->top_k > UINT32_MAX / (t->accum ? t->accum : 1))
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT,
                             "accum, batch, seq and top_k make a step of 2^32 routed rows or more; choose smaller ones");
}

enum vkmoe_status vkm_config_check(const struct vkmoe_log *log, const struct vkmoe_model_config *model,
                                   const struct vkmoe_train_config *train)
{
    struct check c = {.log = log};
    check_model(&c, model);
    if (c.status == VKMOE_OK && train)
        check_train(&c, model, train);
    return c.status;
}

enum vkmoe_status vkm_config_check_batch(const struct vkmoe_log *log, const struct vkmoe_model_config *model, uint32_t batch)
{
    struct check c = {.log = log};
    check_batch(&c, model, batch);
    return c.status;
}

static void check_stack(struct check *c, const struct vkmoe_stack_config *s)
{
    const uint64_t rows = s->rows > s->batch ? s->rows : s->batch;
    whole(c, "d_in", s->d_in, 0, VKM_MAX_D_MODEL);
    whole(c, "d_out", s->d_out, 0, VKM_MAX_VOCAB);
    whole(c, "d_model", s->d_model, 1, VKM_MAX_D_MODEL);
    whole(c, "layers", s->layers, 1, VKM_MAX_LAYERS);
    whole(c, "experts", s->experts, 1, MAX_EXPERTS);
    whole(c, "d_expert", s->d_expert, 4, VKM_MAX_D_EXPERT);
    whole(c, "d_shared", s->d_shared, 0, VKM_MAX_D_EXPERT);
    whole(c, "batch", s->batch, 1, VKM_MAX_ROWS);
    whole(c, "rows", s->rows, 1, VKM_MAX_ROWS);
    check_experts(c, s->experts, s->top_k, s->d_expert, s->d_shared);
    choice(c, "gate", (int)s->gate, VKMOE_GATE_SIGMOID + 1, "softmax or sigmoid");
    choice(c, "precision", (int)s->precision, VKMOE_BF16 + 1, "f32, f16 or bf16");
    choice(c, "router_init", (int)s->router_init, VKMOE_ROUTER_ORTHOGONAL_SMALL + 1,
           "orthogonal, normal, unit or orthogonal-small");
    choice(c, "loss", (int)s->loss, VKMOE_STACK_CROSS_ENTROPY + 1, "mean squared error or cross-entropy");
    if (c->status == VKMOE_OK && s->loss == VKMOE_STACK_CROSS_ENTROPY && !s->d_out)
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT, "cross-entropy needs d_out, the number of classes");
    real(c, "norm_eps", s->norm_eps, s->norm_eps > 0 && s->norm_eps < 1, "between 0 and 1, both excluded");
    check_adamw(c, s->lr, s->beta1, s->beta2, s->eps, s->weight_decay, s->clip);
    check_balance(c, s->gate, &s->balance);
    if (c->status == VKMOE_OK && s->balance.lbl_scope == VKMOE_LBL_GLOBAL_BATCH)
        c->status = vkm_fail(c->log, VKMOE_ERROR_ARGUMENT,
                             "a stack's step is one batch: lbl_scope must be sequence or micro-batch");
    tensor(c, "d_in and d_model", 1, s->d_in, s->d_model);
    tensor(c, "d_out and d_model", 1, s->d_out, s->d_model);
    tensor(c, "experts, d_expert and d_model", s->experts, (uint64_t)2 * s->d_expert, s->d_model);
    tensor(c, "d_shared and d_model", 2, s->d_shared, s->d_model);
    tensor(c, "batch or rows, top_k and d_expert", rows, (uint64_t)2 * s->top_k, s->d_expert);
    tensor(c, "batch or rows and d_shared", rows, 2, s->d_shared);
    tensor(c, "batch or rows, top_k and d_model", rows, s->top_k, s->d_model);
    tensor(c, "batch or rows and experts", rows, 1, s->experts);
    tensor(c, "batch or rows and d_in", rows, 1, s->d_in);
    tensor(c, "batch or rows and d_out", rows, 1, s->d_out);
}

enum vkmoe_status vkm_config_check_stack(const struct vkmoe_log *log, const struct vkmoe_stack_config *config)
{
    struct check c = {.log = log};
    check_stack(&c, config);
    return c.status;
}
