/* Whole networks: losses, logits, routed rows and the gradient of every parameter. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "nn/net.h"

#include <stdlib.h>
#include <string.h>

enum { EARLIER = 24 }; /* tokens of the step that came before */

/* What varies besides the shape. A shared expert is twice as wide as variants say, in units of 4. */
static const struct variant {
    const char *name;
    struct vkmoe_balance balance;
    uint32_t shared;
    bool sigmoid, bias;
} variants[] = {
    {"no balance", {0}},
    {"SimBal", {.simbal = 0.1f}},
    {"LBL over all gates", {.lbl = 0.01f, .lbl_scope = VKMOE_LBL_MICRO_BATCH, .lbl_full = true}},
    {"LBL of sequences, SimBal, router z, shared expert", {.simbal = 0.1f, .lbl = 0.02f, .router_z = 0.01f}, .shared = 1},
    {"LBL of the global batch, bias", {.lbl = 0.05f, .lbl_scope = VKMOE_LBL_GLOBAL_BATCH, .lossfree = 0.001f}, .bias = true},
    {"sigmoid, LBL of sequences, bias, shared expert", {.lbl = 0.02f, .lossfree = 0.001f}, .shared = 3, .sigmoid = true,
     .bias = true},
};

/* What a case has on both sides. */
struct whole {
    struct ref_model m;
    const struct variant *variant;
    size_t T, total;
    struct vkm_net *net;       /* trains */
    struct vkm_net *eval;      /* has the same parameters, and one block's memory */
    float *weights, *grads;    /* as ref_param lays them out; gradients before the run */
    uint32_t *tokens, *targets;
    struct ops_array tok, target, expert_tokens, loss, z_loss, simbal, lbl, router_z, eval_loss;
    uint32_t *earlier;         /* [L,E] rows of the step before this micro-batch */
};

static struct ref_model model_of(const struct case_model *s, size_t index)
{
    const struct variant *v = &variants[index % CASE_COUNT(variants)];
    return (struct ref_model){
        .L = s->L, .B = s->B, .S = s->S, .D = s->D, .H = s->H, .E = s->E, .K = s->K, .F = s->F, .V = s->V,
        .G = 4 * v->shared, .norm_eps = 1e-5f, .rope_theta = 1e4f, .norm_topk = s->norm_topk != (index >= CASE_COUNT(variants)),
        .sigmoid = v->sigmoid, .bias = v->bias, .z_loss = index % 2 ? 1e-2f : 1e-5f, .simbal = v->balance.simbal,
        .lbl = v->balance.lbl, .router_z = v->balance.router_z, .lbl_full = v->balance.lbl_full,
        .lbl_group = v->balance.lbl_scope == VKMOE_LBL_SEQUENCE ? s->S : 0};
}

static enum vkmoe_status create_nets(struct ops *o, struct whole *w, bool small_chunks)
{
    const struct ref_model *m = &w->m;
    const struct vkmoe_model_config config = {
        .layers = (uint32_t)m->L, .d_model = (uint32_t)m->D, .heads = (uint32_t)m->H, .experts = (uint32_t)m->E,
        .top_k = (uint32_t)m->K, .d_expert = (uint32_t)m->F, .seq = (uint32_t)m->S, .vocab = (uint32_t)m->V,
        .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = m->norm_topk,
        .gate = m->sigmoid ? VKMOE_GATE_SIGMOID : VKMOE_GATE_SOFTMAX, .d_shared = (uint32_t)m->G, .router_bias = m->bias};
    enum vkmoe_status status = vkm_net_create(o->ctx, &config, (uint32_t)m->B, VKM_NET_TRAIN, TYPE_F32, &w->net);
    if (status)
        return status;
    if (small_chunks) /* of logits: several, the last one smaller */
        w->net->logit_rows = (w->net->T + 2) / 3;
    if ((status = vkm_net_commit(w->net)) ||
        (status = vkm_net_create_shared(w->net, (uint32_t)m->B, &w->eval)))
        return status;
    return vkm_net_commit(w->eval);
}

const struct vkm_param *ops_param(const struct vkm_params *params, enum ref_param id, size_t layer)
{
    return vkm_params_get(params, (enum vkm_param_id)id, id < REF_EMBED ? (int32_t)layer : VKM_NO_LAYER);
}

enum vkmoe_status ops_transfer(struct ops *o, const struct ref_model *m, const struct vkm_params *params, enum ops_transfer what,
                               float *values)
{
    enum vkmoe_status status = VKMOE_OK;
    for (int id = 0; id < REF_PARAM_KINDS; id++)
        for (size_t layer = 0; layer < (id < REF_EMBED ? m->L : 1) && !status; layer++) {
            const struct vkm_param *p = ops_param(params, (enum ref_param)id, layer);
            float *at = values + ref_param_offset(m, (enum ref_param)id, layer);
            if (p->count != ref_param_count(m, (enum ref_param)id))
                return VKMOE_ERROR_ARGUMENT;
            if (p->count && what == OPS_GET_GRADS)
                status = vkm_buf_download(o->ctx, p->grad, at, 4 * p->count);
            else if (p->count)
                status = vkm_buf_upload(o->ctx, what == OPS_PUT_WEIGHTS ? p->weight : p->grad, at, 4 * p->count);
        }
    return status;
}

void ops_expect_grads(struct ops *o, const struct ref_model *m, const struct vkm_params *params, const float *got,
                      const struct num *want)
{
    for (int id = 0; id < REF_PARAM_KINDS; id++)
        for (size_t layer = 0; layer < (id < REF_EMBED ? m->L : 1); layer++) {
            const size_t at = ref_param_offset(m, (enum ref_param)id, layer), count = ref_param_count(m, (enum ref_param)id);
            if (count)
                ops_expect_floats(o, ops_param(params, (enum ref_param)id, layer)->name, got + at, count, want + at);
        }
}

/* Nothing that an earlier run left behind is right by chance. */
static void poison(struct vkm_rec *rec, const struct vkm_net *net)
{
    const uint32_t nan = 0x7fc0dead;
    const struct vkm_scratch *s = &net->scratch;
    const struct vkm_buf scratch[] = {s->h, s->act, s->rows, s->logits, s->loss, s->z_loss, s->balance, s->dx, s->dh,
                                      s->dqkv, s->delta, s->dz, s->dgate, s->norm, net->x_out};
    for (size_t i = 0; i < CASE_COUNT(scratch); i++)
        if (scratch[i].bytes)
            vkm_rec_fill(rec, scratch[i], nan);
    for (uint32_t i = 0; i < net->config.layers; i++) {
        const struct vkm_layer *l = &net->layers[i];
        const struct vkm_buf kept[] = {l->x, l->x_mid, l->attention.qkv, l->attention.o, l->attention.lse, l->gate.z,
                                       l->gate.g, l->gate.lse, l->load, l->h13, l->shared13};
        for (size_t k = 0; k < CASE_COUNT(kept); k++)
            if (kept[k].bytes)
                vkm_rec_fill(rec, kept[k], nan);
    }
}

static void record(struct ops *o, struct whole *w)
{
    struct vkm_rec *rec = ops_record(o);
    const struct vkm_loss loss = {
        .scale = (float)(1.0 / (double)w->T), .z_coef = (float)w->m.z_loss,
        .balance = w->variant->balance, .expert_tokens = w->expert_tokens.buf, .loss_sum = w->loss.buf,
        .z_sum = w->z_loss.buf, .lbl_sum = w->lbl.buf, .router_z_sum = w->router_z.buf};
    const struct vkm_loss no_gradient = {.loss_sum = w->eval_loss.buf};
    poison(rec, w->net);
    vkm_net_forward(rec, w->net, w->tok.buf, w->expert_tokens.buf, NULL);
    vkm_net_loss(rec, w->net, w->target.buf, &loss);
    vkm_net_backward(rec, w->net, w->tok.buf, &loss);
    const uint32_t E = (uint32_t)w->m.E;
    const struct vkm_buf rows = vkm_buf_slice(w->net->scratch.balance, 0, E * sizeof(float));
    for (size_t layer = 0; layer < w->m.L && w->m.simbal > 0; layer++) {
        const struct vkm_param *router = ops_param(&w->net->params, REF_ROUTER, layer);
        vkm_op_simbal(rec, router->weight, router->grad, rows, w->net->loss_scale, E, (uint32_t)w->m.D, w->variant->balance.simbal);
        vkm_op_sum(rec, rows, w->simbal.buf, E, w->variant->balance.simbal);
    }
    poison(rec, w->eval);
    vkm_net_forward(rec, w->eval, w->tok.buf, (struct vkm_buf){0}, NULL);
    vkm_net_loss(rec, w->eval, w->target.buf, &no_gradient);
    vkm_net_logits(rec, w->eval);
}

static void expect_sum(struct ops *o, const char *name, struct ops_array a, struct num add)
{
    struct num *want = ops_num(o, a);
    *want = num_add(*want, add);
    ops_expect(o, name, a, want);
}

/* Whether rounding allows the choice, by the logits and the layers' biases. */
static bool admissible(struct ops *o, const struct whole *w, const struct num *params, const struct num *logits,
                       const uint32_t *idx)
{
    const struct ref_model *m = &w->m;
    struct num *scores = ops_new(o, w->T * m->E);
    bool fine = true;
    for (size_t l = 0; l < m->L; l++) {
        const struct ref_gate gate = {.T = w->T, .E = m->E, .K = m->K,
                                      .bias = m->bias ? params + ref_param_offset(m, REF_ROUTER_BIAS, l) : NULL};
        ref_scores(&gate, logits + l * w->T * m->E, scores);
        fine = fine && ref_topk_admissible(w->T, m->E, m->K, scores, idx + l * w->T * m->K);
    }
    return fine;
}

static void check(struct ops *o, struct whole *w)
{
    struct ref_model *m = &w->m;
    const size_t R = w->T * m->K;
    uint32_t *idx = ops_new_words(o, m->L * R), *counts = ops_new_words(o, m->L * m->E);
    float *grads = ops_new_floats(o, w->total), *logits = ops_new_floats(o, m->S * m->V);
    struct num *params = ref_exact_new(w->weights, w->total), *load = ops_new(o, m->L * m->E);
    struct ref_model_out out = {
        .grad = ref_exact_new(w->grads, w->total), .logits = ops_new(o, w->T * m->V),
        .router_logits = ops_new(o, m->L * w->T * m->E)};
    for (size_t l = 0; l < m->L; l++) {
        if (vkm_buf_download(o->ctx, w->net->layers[l].gate.idx, idx + l * R, 4 * R))
            ops_fail(o, "cannot read the chosen experts");
        for (size_t i = 0; i < R; i++)
            if (idx[l * R + i] >= m->E)
                ops_fail(o, "expert %u of %zu chosen in layer %zu", idx[l * R + i], m->E, l);
            else
                counts[l * m->E + idx[l * R + i]]++;
    }
    if (ops_transfer(o, m, &w->net->params, OPS_GET_GRADS, grads) ||
        vkm_buf_download(o->ctx, w->eval->scratch.logits, logits, 4 * m->S * m->V))
        ops_fail(o, "cannot read gradients or logits");
    for (size_t i = 0; i < m->L * m->E; i++) {
        counts[i] += w->earlier[i];
        load[i] = num_div(num_exact((double)counts[i]), num_exact((double)(w->T + EARLIER)));
    }
    if (w->variant->balance.lbl_scope == VKMOE_LBL_GLOBAL_BATCH)
        m->load = load;
    if (!o->result->failure[0]) {
        ref_model_run(m, params, w->tokens, w->targets, idx, &out);
        if (!admissible(o, w, params, out.router_logits, idx))
            ops_fail(o, "the chosen experts are not the top %zu of the logits", m->K);
        ops_expect_words(o, "expert_tokens", w->expert_tokens, counts);
        expect_sum(o, "loss", w->loss, out.cross_entropy);
        expect_sum(o, "z_loss", w->z_loss, out.z_loss);
        expect_sum(o, "SimBal", w->simbal, out.simbal);
        expect_sum(o, "LBL", w->lbl, out.lbl);
        expect_sum(o, "router z", w->router_z, out.router_z);
        expect_sum(o, "summed loss", w->eval_loss, num_mul(out.cross_entropy, num_exact((double)w->T)));
        ops_expect_floats(o, "logits", logits, m->S * m->V, out.logits);
        ops_expect_grads(o, m, &w->net->params, grads, out.grad);
    }
    free(params);
    free(out.grad);
}

static bool model(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_model *s = &case_models[index % CASE_COUNT(case_models)];
    const size_t variant = index / CASE_COUNT(case_models);
    struct whole w = {.m = model_of(s, variant), .variant = &variants[variant % CASE_COUNT(variants)],
                      .T = (size_t)s->B * s->S};
    ops_begin(o, result, index, "model L %u, B %u, S %u, D %u, H %u, E %u, K %u, F %u, V %u, %s%s", s->L, s->B, s->S,
              s->D, s->H, s->E, s->K, s->F, s->V, w.variant->name,
              w.m.norm_topk ? ", normalised" : "");
    w.total = ref_params_total(&w.m);
    w.weights = ops_new_floats(o, w.total);
    w.grads = ops_new_floats(o, w.total);
    w.tokens = ops_new_words(o, w.T);
    w.targets = ops_new_words(o, w.T);
    case_fill(w.weights, w.total, index, variant % 2 ? 0.05f : 0.3f);
    case_fill(w.grads, w.total, index + 1000, 1e-3f);
    case_fill_indices(w.tokens, w.T, index, s->V);
    case_fill_indices(w.targets, w.T, index + 1, s->V);
    w.tok = ops_in_copy(o, w.T, w.tokens);
    w.target = ops_in_copy(o, w.T, w.targets);
    w.earlier = ops_new_words(o, w.m.L * w.m.E);
    uint32_t *earlier = ops_new_words(o, EARLIER * w.m.K);
    for (size_t l = 0; l < w.m.L; l++) { /* of EARLIER tokens that an earlier micro-batch of the step routed */
        case_route(CASE_SKEWED, EARLIER, w.m.E, w.m.K, index + l, earlier);
        for (size_t i = 0; i < EARLIER * w.m.K; i++)
            w.earlier[l * w.m.E + earlier[i]]++;
    }
    w.expert_tokens = ops_changed(o, w.m.L * w.m.E, w.earlier);
    w.loss = ops_added(o, 1);
    w.z_loss = ops_added(o, 1);
    w.simbal = ops_added(o, 1);
    w.lbl = ops_added(o, 1);
    w.router_z = ops_added(o, 1);
    w.eval_loss = ops_added(o, 1);
    enum vkmoe_status status = create_nets(o, &w, index % 2);
    if (!status && !(status = ops_transfer(o, &w.m, &w.net->params, OPS_PUT_WEIGHTS, w.weights)))
        status = ops_transfer(o, &w.m, &w.net->params, OPS_PUT_GRADS, w.grads);
    if (status) {
        ops_fail(o, "%s", vkmoe_status_name(status));
    } else {
        record(o, &w);
        if (ops_run(o))
            check(o, &w);
    }
    const bool ok = ops_end(o);
    vkm_net_destroy(w.eval);
    vkm_net_destroy(w.net);
    return ok;
}

const struct ops_case ops_cases_net[] = {
    {"model", model, 2 * CASE_COUNT(variants) * CASE_COUNT(case_models)},
    {0},
};
