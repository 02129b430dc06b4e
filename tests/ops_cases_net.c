/* Whole networks: losses, logits, routed rows and the gradient of every parameter. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "nn/net.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name;
    enum ref_balance balance;
    float coef;
} balances[] = {
    {"no balance", REF_BALANCE_NONE, 0}, {"SimBal", REF_BALANCE_SIMBAL, 0.1f}, {"LBL", REF_BALANCE_LBL, 0.01f},
};

/* What a case has on both sides. */
struct whole {
    struct ref_model m;
    float coef;
    size_t T, total;
    struct vkm_net *net;       /* trains */
    struct vkm_net *eval;      /* has the same parameters, and one block's memory */
    float *weights, *grads;    /* as ref_param lays them out; gradients before the run */
    uint32_t *tokens, *targets;
    struct ops_array tok, target, expert_tokens, loss, z_loss, balance, eval_loss;
};

static struct ref_model model_of(const struct case_model *s, size_t variant)
{
    return (struct ref_model){
        .L = s->L, .B = s->B, .S = s->S, .D = s->D, .H = s->H, .E = s->E, .K = s->K, .F = s->F, .V = s->V,
        .norm_eps = 1e-5f, .rope_theta = 1e4f, .norm_topk = s->norm_topk != (variant >= CASE_COUNT(balances)),
        .z_loss = variant % 2 ? 1e-2f : 1e-5f, .balance = balances[variant % CASE_COUNT(balances)].balance,
        .balance_coef = balances[variant % CASE_COUNT(balances)].coef};
}

static enum vkmoe_status create_nets(struct ops *o, struct whole *w, bool small_chunks)
{
    const struct ref_model *m = &w->m;
    const struct vkmoe_model_config config = {
        .layers = (uint32_t)m->L, .d_model = (uint32_t)m->D, .heads = (uint32_t)m->H, .experts = (uint32_t)m->E,
        .top_k = (uint32_t)m->K, .d_expert = (uint32_t)m->F, .seq = (uint32_t)m->S, .vocab = (uint32_t)m->V,
        .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = m->norm_topk};
    enum vkmoe_status status = vkm_net_create(o->ctx, &config, (uint32_t)m->B, true, &w->net);
    if (status)
        return status;
    if (small_chunks) /* of logits: several, the last one smaller */
        w->net->logit_rows = (w->net->T + 2) / 3;
    if ((status = vkm_net_commit(w->net)) ||
        (status = vkm_net_create_shared(w->net, (uint32_t)m->B, &w->eval)))
        return status;
    return vkm_net_commit(w->eval);
}

/* The parameter that lies at (id, layer) of the reference's array. The orders of the two tables are the same. */
static const struct vkm_param *param_of(const struct whole *w, int id, size_t layer)
{
    return vkm_params_get(&w->net->params, (enum vkm_param_id)id, id < REF_EMBED ? (int32_t)layer : VKM_NO_LAYER);
}

static enum vkmoe_status transfer_params(struct ops *o, const struct whole *w, bool upload, float *got)
{
    enum vkmoe_status status = VKMOE_OK;
    for (int id = 0; id < REF_PARAM_KINDS; id++)
        for (size_t layer = 0; layer < (id < REF_EMBED ? w->m.L : 1); layer++) {
            const struct vkm_param *p = param_of(w, id, layer);
            const size_t at = ref_param_offset(&w->m, (enum ref_param)id, layer);
            if (p->count != ref_param_count(&w->m, (enum ref_param)id))
                return VKMOE_ERROR_ARGUMENT;
            if (upload && ((status = vkm_buf_upload(o->ctx, p->weight, w->weights + at, 4 * p->count)) ||
                           (status = vkm_buf_upload(o->ctx, p->grad, w->grads + at, 4 * p->count))))
                return status;
            if (!upload && (status = vkm_buf_download(o->ctx, p->grad, got + at, 4 * p->count)))
                return status;
        }
    return status;
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
        const struct vkm_buf kept[] = {l->x, l->x_mid, l->attention.qkv, l->attention.o, l->attention.lse, l->p, l->g,
                                       l->h13};
        for (size_t k = 0; k < CASE_COUNT(kept); k++)
            vkm_rec_fill(rec, kept[k], nan);
    }
}

static void record(struct ops *o, struct whole *w)
{
    struct vkm_rec *rec = ops_record(o);
    const struct vkm_loss loss = {
        .scale = (float)(1.0 / (double)w->T), .z_coef = (float)w->m.z_loss,
        .lbl_coef = w->m.balance == REF_BALANCE_LBL ? w->coef : 0, .loss_sum = w->loss.buf, .z_sum = w->z_loss.buf,
        .balance_sum = w->balance.buf};
    const struct vkm_loss no_gradient = {.loss_sum = w->eval_loss.buf};
    poison(rec, w->net);
    vkm_net_forward(rec, w->net, w->tok.buf, w->expert_tokens.buf);
    vkm_net_loss(rec, w->net, w->target.buf, &loss);
    vkm_net_backward(rec, w->net, w->tok.buf, &loss);
    for (size_t layer = 0; layer < w->m.L && w->m.balance == REF_BALANCE_SIMBAL; layer++) {
        const struct vkm_param *router = param_of(w, REF_ROUTER, layer);
        vkm_op_simbal(rec, router->weight, router->grad, w->balance.buf, w->net->scratch.balance, (uint32_t)w->m.E,
                      (uint32_t)w->m.D, w->coef);
    }
    poison(rec, w->eval);
    vkm_net_forward(rec, w->eval, w->tok.buf, (struct vkm_buf){0});
    vkm_net_loss(rec, w->eval, w->target.buf, &no_gradient);
    vkm_net_logits(rec, w->eval);
}

static void expect_sum(struct ops *o, const char *name, struct ops_array a, struct num add)
{
    struct num *want = ops_num(o, a);
    *want = num_add(*want, add);
    ops_expect(o, name, a, want);
}

static void check(struct ops *o, struct whole *w)
{
    const struct ref_model *m = &w->m;
    const size_t R = w->T * m->K;
    uint32_t *idx = ops_new_words(o, m->L * R), *counts = ops_new_words(o, m->L * m->E);
    float *grads = ops_new_floats(o, w->total), *logits = ops_new_floats(o, m->S * m->V);
    struct num *params = ref_exact_new(w->weights, w->total);
    struct ref_model_out out = {
        .grad = ref_exact_new(w->grads, w->total), .logits = ops_new(o, w->T * m->V),
        .router_logits = ops_new(o, m->L * w->T * m->E)};
    for (size_t l = 0; l < m->L; l++) {
        if (vkm_buf_download(o->ctx, w->net->layers[l].routing.idx, idx + l * R, 4 * R))
            ops_fail(o, "cannot read the chosen experts");
        for (size_t i = 0; i < R; i++)
            if (idx[l * R + i] >= m->E)
                ops_fail(o, "expert %u of %zu chosen in layer %zu", idx[l * R + i], m->E, l);
            else
                counts[l * m->E + idx[l * R + i]]++;
    }
    if (transfer_params(o, w, false, grads) ||
        vkm_buf_download(o->ctx, w->eval->scratch.logits, logits, 4 * m->S * m->V))
        ops_fail(o, "cannot read gradients or logits");
    if (!o->result->failure[0]) {
        ref_model_run(m, params, w->tokens, w->targets, idx, &out);
        if (!ref_topk_admissible(m->L * w->T, m->E, m->K, out.router_logits, idx))
            ops_fail(o, "the chosen experts are not the top %zu of the logits", m->K);
        ops_expect_words(o, "expert_tokens", w->expert_tokens, counts);
        expect_sum(o, "loss", w->loss, out.cross_entropy);
        expect_sum(o, "z_loss", w->z_loss, out.z_loss);
        expect_sum(o, "balance", w->balance, out.balance);
        expect_sum(o, "summed loss", w->eval_loss, num_mul(out.cross_entropy, num_exact((double)w->T)));
        ops_expect_floats(o, "logits", logits, m->S * m->V, out.logits);
        for (int id = 0; id < REF_PARAM_KINDS; id++)
            for (size_t layer = 0; layer < (id < REF_EMBED ? m->L : 1); layer++) {
                const size_t at = ref_param_offset(m, (enum ref_param)id, layer);
                ops_expect_floats(o, param_of(w, id, layer)->name, grads + at, ref_param_count(m, (enum ref_param)id),
                                  out.grad + at);
            }
    }
    free(params);
    free(out.grad);
}

static bool model(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_model *s = &case_models[index % CASE_COUNT(case_models)];
    const size_t variant = index / CASE_COUNT(case_models);
    struct whole w = {.m = model_of(s, variant), .coef = balances[variant % CASE_COUNT(balances)].coef,
                      .T = (size_t)s->B * s->S};
    ops_begin(o, result, index, "model L %u, B %u, S %u, D %u, H %u, E %u, K %u, F %u, V %u, %s%s", s->L, s->B, s->S,
              s->D, s->H, s->E, s->K, s->F, s->V, balances[variant % CASE_COUNT(balances)].name,
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
    w.expert_tokens = ops_changed(o, w.m.L * w.m.E, ops_new_words(o, w.m.L * w.m.E));
    w.loss = ops_added(o, 1);
    w.z_loss = ops_added(o, 1);
    w.balance = ops_added(o, 1);
    w.eval_loss = ops_added(o, 1);
    enum vkmoe_status status = create_nets(o, &w, index % 2);
    if (!status)
        status = transfer_params(o, &w, true, NULL);
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
    {"model", model, 2 * CASE_COUNT(balances) * CASE_COUNT(case_models)},
    {0},
};
