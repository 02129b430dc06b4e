/* Rows of numbers: what comes in and goes out, their losses, and whole stacks. */
#include "ops_cases.h"

#include "cases/cases.h"
#include "stack/stack.h"

#include <string.h>

/* Rows of the host's, packed or with room between them, some of them or all, in words and both 16-bit types: exactly, by
 * values that all of them can hold. */
static bool host_rows(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_outputs *s = &case_outputs[index / 3];
    const uint32_t all = s->T + s->E % 5, width = s->D, stride = width + (index % 2 ? 0 : 1 + s->E % 4), type = (uint32_t)index % 3;
    const size_t elements = (size_t)(s->T - 1) * stride + width, words = type == TYPE_F32 ? elements : (elements + 1) / 2;
    ops_begin(o, result, index, "rows of the host's %u of %u, width %u, stride %u, type %u", s->T, all, width, stride, type);
    if (type != TYPE_F32 && !o->ctx->caps.storage16)
        return ops_end(o);
    uint32_t *host = ops_new_words(o, words), *packed = ops_new_words(o, (size_t)all * width), *back = ops_new_words(o, words);
    for (uint32_t r = 0; r < s->T; r++)
        for (uint32_t i = 0; i < width; i++) {
            const size_t at = (size_t)r * stride + i;
            const uint32_t exponent = 120 + (r + i) % 5, fraction = (r * 7 + i * 3) % 128, sign = (r ^ i) & 1;
            const uint32_t word = sign << 31 | exponent << 23 | fraction << 16; /* a bf16 */
            const uint32_t half = type == TYPE_BF16 ? word >> 16 : sign << 15 | (exponent - 112) << 10 | fraction << 3;
            packed[(size_t)r * width + i] = type == TYPE_F32 ? word + r : word;
            if (type == TYPE_F32)
                host[at] = word + r;
            else
                host[at / 2] |= half << (at % 2 * 16);
        }
    struct ops_array from = ops_in_copy(o, words, host), middle = ops_out(o, (size_t)all * width);
    struct ops_array to = ops_changed(o, words, back);
    const struct vkm_host_rows in = {from.buf.addr, s->T, width, stride, type}, out = {to.buf.addr, s->T, width, stride, type};
    vkm_op_host_read(ops_record(o), &in, middle.buf, all);
    vkm_op_host_write(ops_record(o), middle.buf, &out);
    if (ops_run(o)) {
        ops_expect_words(o, "packed", middle, packed);
        ops_expect_words(o, "host's", to, host); /* what lies between rows stayed 0 */
    }
    return ops_end(o);
}

static bool mse(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_xent *s = CASE_AT(case_xents, index);
    const size_t n = (size_t)s->T * s->V;
    const float mean = 1 / (float)s->T, loss_scale = index % 2 ? 1 : 1024;
    ops_begin(o, result, index, "mean squared error T %u, O %u", s->T, s->V);
    const struct vkm_buf by = ops_loss_scale(o, loss_scale).buf;
    struct ops_array y = ops_in(o, n, 1), same = ops_changed(o, n, ops_floats_before(o, y)), target = ops_in(o, n, 1);
    struct ops_array dy = ops_out(o, n), loss[2] = {ops_out(o, s->T), ops_out(o, s->T)};
    struct ops_array scaled = ops_out(o, n);
    vkm_op_mse(ops_record(o), y.buf, target.buf, dy.buf, loss[0].buf, by, s->T, s->V, mean);
    vkm_op_mse(ops_record(o), same.buf, target.buf, same.buf, loss[1].buf, by, s->T, s->V, mean);
    vkm_op_scale(ops_record(o), y.buf, scaled.buf, by, n);
    if (ops_run(o)) {
        struct num *at = ops_num(o, y), *aim = ops_num(o, target), *gradient = ops_new(o, n), *terms = ops_new(o, s->T);
        for (size_t t = 0; t < s->T; t++) {
            struct num_sum sum = {0};
            for (size_t i = t * s->V; i < (t + 1) * s->V; i++) {
                const struct num error = num_sub(at[i], aim[i]);
                num_sum_mul(&sum, error, error);
                gradient[i] = num_mul(num_mul(num_exact((double)mean * loss_scale), num_div(num_exact(2), num_exact(s->V))), error);
            }
            terms[t] = num_div(num_sum_end(&sum), num_exact(s->V));
        }
        for (size_t i = 0; i < n; i++)
            at[i] = num_exact(at[i].v * loss_scale);
        ops_expect(o, "loss", loss[0], terms);
        ops_expect(o, "loss in place", loss[1], terms);
        ops_expect(o, "dy", dy, gradient);
        ops_expect(o, "dy in place", same, gradient);
        ops_expect(o, "scaled", scaled, at);
    }
    return ops_end(o);
}

/* 1 - beta^t from step to step, on the device, against its closed form: each step rounds once, and what it multiplies is
 * below 1, so that t steps are off by at most t units of u; the constants are rounded once more. */
static bool advance(struct ops *o, size_t index, struct ops_result *result)
{
    static const float betas[][2] = {{0.9f, 0.95f}, {0.9f, 0.999f}, {0, 0.5f}, {0.99f, 0.9999f}};
    const float beta1 = betas[index % 4][0], beta2 = betas[index % 4][1], lr = 3e-3f;
    const uint32_t steps = index < 4 ? 1 : index < 8 ? 7 : 300;
    const struct adam_state start = {.step = 4000000000u, .skipped = 5};
    const struct step_stats stats = {.skip = index % 2};
    ops_begin(o, result, index, "step of AdamW %u, beta %g, %g", steps, (double)beta1, (double)beta2);
    struct ops_array state = ops_changed(o, sizeof start / 4, &start), control = ops_out(o, sizeof(struct step_control) / 4);
    struct ops_array st = ops_in_copy(o, sizeof stats / 4, &stats);
    for (uint32_t i = 0; i < steps; i++)
        vkm_op_adam_advance(ops_record(o), state.buf, control.buf, st.buf, lr, beta1, beta2);
    if (ops_run(o)) {
        struct adam_state got;
        struct num want[3] = {num_exact(lr)};
        memcpy(&got, ops_words(o, state), sizeof got);
        for (int k = 0; k < 2; k++) {
            const double rest = 1 - pow(betas[index % 4][k], steps);
            want[1 + k] = num_div(num_exact(1), num_within(rest, 2 * (steps + 1) * NUM_U * rest));
        }
        ops_expect(o, "control", control, want);
        if (got.step != start.step + steps || got.skipped != start.skipped + steps * stats.skip)
            ops_fail(o, "step %u, skipped %u", got.step, got.skipped);
    }
    return ops_end(o);
}

/* ---- whole stacks ------------------------------------------------------------------------------------------------ */

static const struct variant {
    const char *name;
    struct vkmoe_stack_config config;
    bool in, out, dout;        /* W_in, W_out; the caller's own loss */
    uint32_t shared;
} variants[] = {
    {"mean squared error, SimBal", {.balance = {.simbal = 0.1f}}, .in = true, .out = true},
    {"cross-entropy, LBL, router z", {.loss = VKMOE_STACK_CROSS_ENTROPY, .balance = {.lbl = 0.02f, .router_z = 0.01f}}, .in = true,
     .out = true, .shared = 4},
    {"the layer alone, its own loss", {.no_balance = true}, .dout = true},
    {"W_out, its own loss, sigmoid, LBL over all, bias",
     {.gate = VKMOE_GATE_SIGMOID, .balance = {.lbl = 0.02f, .lossfree = 0.001f, .lbl_full = true}}, .out = true, .dout = true},
    {"W_in, mean squared error", {.norm_topk = true, .no_balance = true}, .in = true, .shared = 8},
};

struct whole {
    const struct variant *v;
    struct ref_model m;
    struct vkmoe_stack *stack;
    size_t I, O, total;
    float *weights;
    struct ops_array in, target, out, din, experts, gates;
};

static struct ref_model model_of(const struct vkmoe_stack_config *c, const struct case_model *s)
{
    return (struct ref_model){
        .L = c->layers, .B = 1, .S = c->batch, .D = s->D, .E = s->E, .K = s->K, .F = s->F, .V = c->d_out, .G = c->d_shared,
        .norm_eps = c->norm_eps, .norm_topk = c->norm_topk, .sigmoid = c->gate == VKMOE_GATE_SIGMOID,
        .bias = c->balance.lossfree > 0, .lbl = c->balance.lbl, .router_z = c->balance.router_z, .lbl_full = c->balance.lbl_full,
        .I = c->d_in};
}

static struct vkm_host_rows rows(struct ops_array a, size_t count, size_t width)
{
    return (struct vkm_host_rows){a.buf.addr, (uint32_t)count, (uint32_t)width, (uint32_t)width, TYPE_F32};
}

static void record(struct ops *o, const struct whole *w)
{
    struct vkm_rec *rec = ops_record(o);
    const size_t T = w->m.S;
    const struct vkm_host_rows in = rows(w->in, T, w->I), din = rows(w->din, T, w->I);
    const struct vkm_host_rows target = rows(w->target, T, w->stack->config.loss == VKMOE_STACK_CROSS_ENTROPY ? 1 : w->O);
    const struct vkm_stack_arrays arrays = {.in = in, .out = rows(w->out, T, w->O), .experts = rows(w->experts, T, w->m.K),
                                            .gates = rows(w->gates, T, w->m.K)};
    vkm_stack_forward(rec, w->stack, &arrays); /* in chunks of fewer rows */
    if (w->v->dout) {
        vkm_stack_forward_kept(rec, w->stack, &(struct vkm_stack_arrays){.in = in});
        vkm_stack_backward(rec, w->stack, &target, &din);
    } else {
        vkm_stack_gradient(rec, w->stack, &in, &target);
    }
}

static void check(struct ops *o, struct whole *w)
{
    struct ref_model *m = &w->m;
    const size_t T = m->S;
    struct vkm_stack_stats stats;
    float *grads = ops_new_floats(o, w->total);
    struct num *params = ops_new(o, w->total);
    struct ref_model_out out = {.grad = ops_new(o, w->total), .logits = ops_new(o, T * w->O), .din = ops_new(o, T * w->I)};
    const uint32_t *idx = ops_words(o, w->experts);
    for (size_t i = 0; i < w->total; i++)
        params[i] = num_exact(w->weights[i]);
    if (!ops_below(o, "experts", idx, m->L * T * m->K, m->E))
        return;
    if (ops_transfer(o, m, &w->stack->train->params, OPS_GET_GRADS, grads) || vkm_buf_download(o->ctx, w->stack->stats, &stats, sizeof stats))
        ops_fail(o, "cannot read gradients");
    if (o->result->failure[0])
        return;
    m->in = ops_num(o, w->in);
    if (w->v->dout)
        m->dout = ops_num(o, w->target);
    else if (w->stack->config.loss == VKMOE_STACK_MSE)
        m->target = ops_num(o, w->target);
    ref_model_run(m, params, NULL, o->before + w->target.at, idx, &out);
    ops_expect(o, "out", w->out, out.logits);
    if (w->v->dout)
        ops_expect(o, "din", w->din, out.din);
    else
        ops_expect_floats(o, "loss", &stats.step.loss, 1, &out.cross_entropy);
    ops_expect_floats(o, "LBL", &stats.step.lbl, 1, &out.lbl);
    ops_expect_grads(o, m, &w->stack->train->params, grads, out.grad);
}

static bool stack(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_model *s = &case_models[index % CASE_COUNT(case_models)];
    const struct variant *v = &variants[index / CASE_COUNT(case_models)];
    struct whole w = {.v = v};
    struct vkmoe_stack_config c = v->config;
    c.batch = s->B * s->S;
    c.rows = (c.batch + 2) / 3;
    c.d_model = s->D;
    c.layers = s->L;
    c.experts = s->E;
    c.top_k = s->K;
    c.d_expert = s->F;
    c.d_shared = v->shared;
    c.d_in = v->in ? s->H + 1 : 0;
    c.d_out = v->out ? s->V : 0;
    c.norm_eps = 1e-5f;
    w.m = model_of(&c, s);
    w.I = c.d_in ? c.d_in : c.d_model;
    w.O = c.d_out ? c.d_out : c.d_model;
    ops_begin(o, result, index, "stack L %u, T %u, I %zu, D %u, O %zu, E %u, K %u, F %u, %s", s->L, c.batch, w.I, s->D, w.O, s->E,
              s->K, s->F, v->name);
    const size_t T = c.batch, R = T * s->K * s->L;
    w.total = ref_params_total(&w.m);
    w.weights = ops_new_floats(o, w.total);
    case_fill(w.weights, w.total, index, 0.4f);
    w.in = ops_in(o, T * w.I, 1);
    if (c.loss == VKMOE_STACK_CROSS_ENTROPY) {
        uint32_t *classes = ops_new_words(o, T);
        case_fill_indices(classes, T, index, c.d_out);
        w.target = ops_in_copy(o, T, classes);
    } else {
        w.target = ops_in(o, T * w.O, 1);
    }
    w.out = ops_out(o, T * w.O);
    w.experts = ops_scratch(o, R * 4);
    w.gates = ops_scratch(o, R * 4);
    w.din = v->dout ? ops_out(o, T * w.I) : ops_scratch(o, 4);
    enum vkmoe_status status = vkmoe_stack_create(o->ctx, &c, &w.stack);
    if (!status)
        status = ops_transfer(o, &w.m, &w.stack->train->params, OPS_PUT_WEIGHTS, w.weights);
    if (status) {
        ops_fail(o, "%s", vkmoe_status_name(status));
    } else {
        record(o, &w);
        if (ops_run(o))
            check(o, &w);
    }
    const bool ok = ops_end(o);
    vkmoe_stack_destroy(w.stack);
    return ok;
}

const struct ops_case ops_cases_stack[] = {
    {"rows of the host's", host_rows, 3 * CASE_COUNT(case_outputs)},
    {"mean squared error", mse, CASE_COUNT(case_xents), CASE_COUNT(case_xents_large)},
    {"step of AdamW", advance, 12},
    {"stack", stack, CASE_COUNT(variants) * CASE_COUNT(case_models)},
    {0},
};
