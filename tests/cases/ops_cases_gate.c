/* The gate, its backward, and a whole layer of experts. */
#include "ops_cases.h"

#include "cases/cases.h"

#include <stdlib.h>

/* Buffers of a gate on logits z. */
static struct vkm_gate new_gate(struct ops *o, const struct case_gate *s, const float *z, struct ops_array bias,
                                struct ops_array arrays[4])
{
    const size_t R = (size_t)s->T * s->K;
    arrays[0] = ops_changed(o, (size_t)s->T * s->E, z);
    arrays[1] = ops_out(o, R);
    arrays[2] = ops_out(o, R);
    arrays[3] = ops_changed(o, s->T, ops_new_floats(o, s->T)); /* a sigmoid leaves it alone */
    return (struct vkm_gate){.T = s->T, .E = s->E, .K = s->K, .z = arrays[0].buf, .bias = bias.buf, .idx = arrays[1].buf,
                             .g = arrays[2].buf, .lse = arrays[3].buf};
}

/* A bias; where scores are tied, of as few values, so that sums are tied too. */
static struct ops_array new_bias(struct ops *o, const struct case_gate *s, uint64_t seed)
{
    if (s->scores != CASE_SCORES_TIED)
        return ops_in(o, s->E, 0.5f);
    float *bias = ops_new_floats(o, s->E);
    case_fill_tied(bias, s->E, seed);
    return ops_in_copy(o, s->E, bias);
}

static float loss_scale(int variant)
{
    return variant == 2 ? 1024 : 1;
}

/* The losses on a gate: variant 0 has none, the others the load-balancing loss over groups of tokens, full or not, and, where
 * the gate is a softmax, the router's z-loss. */
static struct vkm_gate_grad new_grad(struct ops *o, const struct case_gate *s, const struct vkm_gate *gate, int variant)
{
    const uint32_t group = variant == 1 ? s->T : s->T % 3 == 0 ? s->T / 3 : 1;
    struct vkm_gate_grad grad = {.lbl_coef = variant ? 0.01f : 0, .lbl_full = variant == 1, .group = group,
                                 .loss_scale = ops_loss_scale(o, loss_scale(variant)).buf,
                                 .z_coef = variant && !gate->sigmoid ? 0.02f : 0};
    if (variant) {
        grad.load = ops_scratch(o, (uint64_t)s->T / group * s->E * sizeof(float)).buf;
        vkm_op_expert_load(ops_record(o), gate, group, grad.load);
    }
    return grad;
}

/* The gradient of g, from its partial sums. */
static void slot_gradients(struct ops *o, struct ops_array dgate, const uint32_t *row_of, uint32_t parts, size_t R,
                           struct num *dg)
{
    const struct num *partial = ops_num(o, dgate);
    for (size_t slot = 0; slot < R; slot++) {
        struct num_sum sum = {0};
        for (uint32_t i = 0; i < parts; i++)
            num_sum_add(&sum, partial[i * R + row_of[slot]]);
        dg[slot] = num_sum_end(&sum);
    }
}

/* A gate, softmax or sigmoid, without and with renormalisation, every other shape with a bias, all with tied scores; its
 * backward with each of the losses. */
static bool gate_of(struct ops *o, size_t index, bool sigmoid, struct ops_result *result)
{
    const struct case_gate *s = CASE_AT(case_gates, index);
    const size_t T = s->T, E = s->E, K = s->K, R = T * K;
    const uint32_t parts = 1 + index % 3;
    const bool biased = index % 2 || s->scores == CASE_SCORES_TIED;
    ops_begin(o, result, index, "%s gate T %u, E %u, K %u, scores %d%s", sigmoid ? "sigmoid" : "softmax", s->T, s->E, s->K,
              (int)s->scores, biased ? ", bias" : "");
    float *z = ops_new_floats(o, T * E);
    case_fill_scores(z, s, index);
    struct ops_array bias = {0}, arrays[2][4], dz[2][3], dgate = ops_in(o, R * parts, 1);
    struct vkm_gate gates[2];
    struct vkm_gate_grad grads[3];
    if (biased)
        bias = new_bias(o, s, index);
    for (int norm = 0; norm < 2; norm++) {
        gates[norm] = new_gate(o, s, z, bias, arrays[norm]);
        gates[norm].sigmoid = sigmoid;
        gates[norm].norm_topk = norm;
        vkm_op_gate(ops_record(o), &gates[norm]);
    }
    const struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->K, .F = 4, .D = 4};
    struct ops_routing routing = ops_routing(o, shape, arrays[0][1]);
    vkm_op_route(ops_record(o), &routing.r, (struct vkm_buf){0});
    for (int variant = 0; variant < 3; variant++) {
        grads[variant] = new_grad(o, s, &gates[0], variant);
        grads[variant].dgate = dgate.buf;
        grads[variant].parts = parts;
        for (int norm = 0; norm < 2; norm++) {
            dz[norm][variant] = ops_out(o, T * E);
            grads[variant].dz = dz[norm][variant].buf;
            vkm_op_gate_bwd(ops_record(o), &gates[norm], &routing.r, &grads[variant]);
        }
    }
    if (!ops_run(o) || !ops_below(o, "row_of", ops_words(o, routing.row_of), R, R))
        return ops_end(o);

    struct num *scores = ref_exact_new(z, T * E), *want = ops_new(o, T * E), *weights = ops_new(o, R), *lse = ops_new(o, T);
    struct num *dg = ops_new(o, R), *dp = ops_new(o, T * E), *want_dz = ops_new(o, T * E);
    uint32_t *chosen = ops_new_words(o, R);
    struct ref_gate gate = {.T = T, .E = E, .K = K, .sigmoid = sigmoid, .bias = biased ? ops_num(o, bias) : NULL};
    slot_gradients(o, dgate, ops_words(o, routing.row_of), parts, R, dg);
    for (int norm = 0; norm < 2; norm++) {
        gate.norm_topk = norm;
        ref_gate(&gate, false, scores, want, chosen, weights, lse);
        ops_expect_words(o, "idx", arrays[norm][1], chosen);
        ops_expect(o, "p", arrays[norm][0], want);
        ops_expect(o, norm ? "g, normalised" : "g", arrays[norm][2], weights);
        ops_expect(o, "lse", arrays[norm][3], lse);
        for (int variant = 0; variant < 3; variant++) {
            const struct ref_lbl lbl = {T, E, K, grads[variant].group, grads[variant].lbl_full, sigmoid,
                                        (double)grads[variant].lbl_coef * (double)loss_scale(variant), NULL};
            ref_lbl(&lbl, want, chosen, dp);
            ref_gate_backward(&gate, scores, chosen, dg, variant ? dp : NULL, (double)(grads[variant].z_coef * loss_scale(variant)),
                              want_dz);
            ops_expect(o, variant ? variant == 1 ? "dz, LBL" : "dz, LBL of groups" : "dz", dz[norm][variant], want_dz);
        }
    }
    free(scores);
    return ops_end(o);
}

static bool softmax_gate(struct ops *o, size_t index, struct ops_result *result)
{
    return gate_of(o, index, false, result);
}

static bool sigmoid_gate(struct ops *o, size_t index, struct ops_result *result)
{
    return gate_of(o, index, true, result);
}

/* Dropped experts: the best are passed over, weights below a threshold have no expert. Half of the weights of the first
 * shape's kind lie on each side of a threshold that is the mean of two neighbouring ones, so that rounding decides nothing. */
static float threshold(const struct num *g, size_t n)
{
    double above = INFINITY, below = 0, middle = 0;
    for (size_t i = 0; i < n; i++)
        middle += g[i].v / (double)n;
    for (size_t i = 0; i < n; i++) {
        above = g[i].v > middle ? fmin(above, g[i].v) : above;
        below = g[i].v <= middle ? fmax(below, g[i].v) : below;
    }
    return isfinite(above) ? (float)((above + below) / 2) : 0;
}

static bool dropping(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_gate *s = &case_gates[index];
    const size_t T = s->T, E = s->E, K = s->K, R = T * K;
    struct ref_gate gate = {.T = T, .E = E, .K = K, .sigmoid = index % 3 == 1, .norm_topk = index % 2 == 0,
                            .drop_top = index % 4 < (E - K) ? index % 4 : E - K};
    const bool biased = index % 5 < 3;
    struct ops_array arrays[4], bias = {0};
    ops_begin(o, result, index, "dropping gate T %u, E %u, K %u, scores %d, top %zu%s", s->T, s->E, s->K, (int)s->scores,
              gate.drop_top, biased ? ", bias" : "");
    if (biased) {
        bias = new_bias(o, s, index);
        gate.bias = ops_num(o, bias);
    }
    float *z = ops_new_floats(o, T * E);
    case_fill_scores(z, s, index);
    struct num *scores = ref_exact_new(z, T * E), *p = ops_new(o, T * E), *g = ops_new(o, R), *lse = ops_new(o, T);
    uint32_t *idx = ops_new_words(o, R);
    ref_gate(&gate, false, scores, p, idx, g, lse);
    const float below = threshold(g, R);
    gate.prune_below = (double)below;
    ref_gate(&gate, false, scores, p, idx, g, lse);
    struct vkm_gate device = new_gate(o, s, z, bias, arrays);
    device.sigmoid = gate.sigmoid;
    device.norm_topk = gate.norm_topk;
    device.drop_top = (uint32_t)gate.drop_top;
    device.prune_below = below;
    vkm_op_gate(ops_record(o), &device);
    if (ops_run(o)) {
        ops_expect_words(o, "idx", arrays[1], idx);
        ops_expect(o, "g", arrays[2], g);
        ops_expect(o, "p", arrays[0], p);
    }
    free(scores);
    return ops_end(o);
}

/* ---- a whole layer ---- */

struct layer {
    size_t T, D, E, K, F, R;
    bool norm_topk;
    float lbl_coef;
    struct ops_array x, router, w13, w2, p, idx, g, y;
    struct ops_array dout, dx, drouter, dw13, dw2;
};

/* Tokens and a router that send each token to wanted [T,K] in that order: unit vectors, where there is room for
 * them. */
static void steer(struct ops *o, struct layer *l, const uint32_t *wanted)
{
    float *x = ops_floats_before(o, l->x), *router = ops_floats_before(o, l->router);
    for (size_t e = 0; e < l->E; e++)
        router[e * l->D + e] += 1;
    for (size_t slot = 0; slot < l->R; slot++)
        x[slot / l->K * l->D + wanted[slot]] += 3 - 0.6f * (float)(slot % l->K);
}

static void record_layer(struct ops *o, struct layer *l)
{
    const struct vkm_buf none = {0};
    const uint32_t T = (uint32_t)l->T, D = (uint32_t)l->D, E = (uint32_t)l->E, K = (uint32_t)l->K, F = (uint32_t)l->F;
    const struct vkm_routing shape = {.T = T, .E = E, .K = K, .F = F, .D = D};
    const uint32_t R = (uint32_t)l->R, parts = vkm_gemm_parts(o->ctx, &shape);
    struct ops_routing routing = ops_routing(o, shape, l->idx);
    struct ops_array h13 = ops_out(o, 2 * l->R * F), act = ops_out(o, l->R * F), rows = ops_out(o, l->R * D);
    struct ops_array dgate = ops_out(o, l->R * parts), dz = ops_out(o, l->T * E), lse = ops_out(o, l->T);
    struct ops_array load = ops_scratch(o, E * sizeof(float));
    struct vkm_rec *rec = ops_record(o);

    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "router", .form = GEMM_NT, .a = l->x.buf, .b = l->router.buf,
        .c = l->p.buf, .m = T, .n = E, .k = D});
    const struct vkm_gate gate = {.T = T, .E = E, .K = K, .norm_topk = l->norm_topk, .z = l->p.buf, .idx = l->idx.buf,
                                  .g = l->g.buf, .lse = lse.buf};
    vkm_op_gate(rec, &gate);
    vkm_op_route(rec, &routing.r, none);
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "gate_up", .form = GEMM_NT, .epilogue = EPILOGUE_SWIGLU,
        .routing = &routing.r, .gather = GATHER_A, .a = l->x.buf, .b = l->w13.buf, .c = h13.buf, .act = act.buf, .m = R,
        .n = F, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "down", .form = GEMM_NT, .routing = &routing.r, .a = act.buf,
        .b = l->w2.buf, .c = rows.buf, .m = R, .n = D, .k = F});
    vkm_op_combine(rec, &routing.r, rows.buf, l->g.buf, none, l->y.buf, D);

    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "down.bwd.x", .form = GEMM_NN, .epilogue = EPILOGUE_DSWIGLU,
        .routing = &routing.r, .gather = GATHER_A, .a = l->dout.buf, .b = l->w2.buf, .c = h13.buf, .act = act.buf,
        .gate = l->g.buf, .dgate = dgate.buf, .m = R, .n = F, .k = D});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "down.bwd.w", .form = GEMM_TN, .routing = &routing.r,
        .gather = GATHER_A, .a = l->dout.buf, .b = act.buf, .c = l->dw2.buf, .m = D, .n = F, .k = R,
        .accumulate = true});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "gate_up.bwd.w", .form = GEMM_TN, .routing = &routing.r,
        .gather = GATHER_B, .a = h13.buf, .b = l->x.buf, .c = l->dw13.buf, .m = 2 * F, .n = D, .k = R,
        .accumulate = true});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "gate_up.bwd.x", .form = GEMM_NN, .routing = &routing.r, .a = h13.buf,
        .b = l->w13.buf, .c = rows.buf, .m = R, .n = D, .k = 2 * F});
    vkm_op_combine(rec, &routing.r, rows.buf, none, none, l->dx.buf, D);
    vkm_op_expert_load_total(rec, E, K, routing.r.count, load.buf);
    vkm_op_gate_bwd(rec, &gate, &routing.r, &(struct vkm_gate_grad){
        .dgate = dgate.buf, .parts = parts, .load = load.buf, .group = T, .lbl_full = true, .lbl_coef = l->lbl_coef,
        .loss_scale = ops_loss_scale(o, 1).buf, .dz = dz.buf});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "router.bwd.w", .form = GEMM_TN, .a = dz.buf, .b = l->x.buf,
        .c = l->drouter.buf, .m = E, .n = D, .k = T, .accumulate = true});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "router.bwd.x", .form = GEMM_NN, .a = dz.buf, .b = l->router.buf,
        .c = l->dx.buf, .m = T, .n = D, .k = E, .accumulate = true});
}

/* The choice of experts is the device's; the reference says whether it may choose so. */
static void check_layer(struct ops *o, const struct layer *l)
{
    const struct ref_moe moe = {.T = l->T, .D = l->D, .E = l->E, .K = l->K, .F = l->F, .norm_topk = l->norm_topk};
    const struct ref_lbl lbl = {l->T, l->E, l->K, l->T, true, false, (double)l->lbl_coef, NULL};
    const struct ref_moe_weights w = {ops_num(o, l->router), ops_num(o, l->w13), ops_num(o, l->w2)};
    const struct ref_moe_grads grads = {ops_new(o, l->T * l->D), ops_num(o, l->drouter), ops_num(o, l->dw13),
                                        ops_num(o, l->dw2)};
    const uint32_t *idx = ops_words(o, l->idx);
    struct ref_moe_state state;
    struct num *x = ops_num(o, l->x), *out = ops_new(o, l->T * l->D), *dp = ops_new(o, l->T * l->E);
    if (!ops_below(o, "idx", idx, l->R, l->E))
        return;
    ref_moe_forward(&moe, &w, x, idx, &state, out);
    if (!ref_topk_admissible(l->T, l->E, l->K, state.z, idx))
        ops_fail(o, "idx is not the top %zu of the logits", l->K);
    if (l->lbl_coef > 0)
        ref_lbl(&lbl, state.p, idx, dp);
    ref_moe_backward(&moe, &w, x, &state, ops_num(o, l->dout), l->lbl_coef > 0 ? dp : NULL, 0, &grads);
    ops_expect(o, "p", l->p, state.p);
    ops_expect(o, "g", l->g, state.g);
    ops_expect(o, "y", l->y, out);
    ops_expect(o, "dx", l->dx, grads.dx);
    ops_expect(o, "drouter", l->drouter, grads.drouter);
    ops_expect(o, "dw13", l->dw13, grads.dw13);
    ops_expect(o, "dw2", l->dw2, grads.dw2);
    ref_moe_state_free(&state);
}

static bool moe(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_moe *s = CASE_AT(case_moes, index);
    const size_t T = s->T, D = s->D, E = s->E, F = s->F, R = T * s->K;
    ops_begin(o, result, index, "experts T %u, D %u, E %u, K %u, F %u, %s%s", s->T, s->D, s->E, s->K, s->F,
              case_routing_name(s->routing), s->norm_topk ? ", normalised" : "");
    uint32_t *wanted = ops_new_words(o, R);
    case_route(s->routing, T, E, s->K, index, wanted);
    struct layer l = {
        .T = T, .D = D, .E = E, .K = s->K, .F = F, .R = R, .norm_topk = s->norm_topk, .lbl_coef = index % 2 ? 0.01f : 0,
        .x = ops_in(o, T * D, 0.1f), .router = ops_in(o, E * D, 0.05f), .w13 = ops_in(o, E * 2 * F * D, 0.5f),
        .w2 = ops_in(o, E * D * F, 0.5f), .p = ops_out(o, T * E), .idx = ops_out(o, R), .g = ops_out(o, R),
        .y = ops_out(o, T * D), .dout = ops_in(o, T * D, 1), .dx = ops_out(o, T * D), .drouter = ops_added(o, E * D),
        .dw13 = ops_added(o, E * 2 * F * D), .dw2 = ops_added(o, E * D * F)};
    if (D >= E)
        steer(o, &l, wanted);
    record_layer(o, &l);
    if (ops_run(o)) {
        if (D >= E)
            ops_expect_words(o, "idx", l.idx, wanted);
        check_layer(o, &l);
    }
    return ops_end(o);
}

const struct ops_case ops_cases_gate[] = {
    {"softmax gate", softmax_gate, CASE_COUNT(case_gates), CASE_COUNT(case_gates_large)},
    {"sigmoid gate", sigmoid_gate, CASE_COUNT(case_gates), CASE_COUNT(case_gates_large)},
    {"dropping gate", dropping, CASE_COUNT(case_gates)},
    {"experts", moe, CASE_COUNT(case_moes), CASE_COUNT(case_moes_large)},
    {0},
};
