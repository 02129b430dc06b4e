/* The gate, its backward, and a whole layer of experts. */
#include "ops_cases.h"

#include "cases/cases.h"

#include <stdlib.h>

/* The gate, without and with renormalisation, and for each its backward without and with the load-balancing loss. */
static bool gate(struct ops *o, size_t index, struct ops_result *result)
{
    const struct case_gate *s = &case_gates[index];
    const size_t T = s->T, E = s->E, K = s->K, R = T * K;
    const uint32_t parts = 1 + index % 3;
    const float coef = 0.01f;
    ops_begin(o, result, index, "gate T %u, E %u, K %u, scores %d", s->T, s->E, s->K, (int)s->scores);
    float *z = ops_new_floats(o, T * E);
    case_fill_scores(z, s, index);
    struct ops_array p[2], idx[2], g[2], dz[2][2], dgate = ops_in(o, R * parts, 1);
    for (int norm = 0; norm < 2; norm++) {
        p[norm] = ops_changed(o, T * E, z);
        idx[norm] = ops_out(o, R);
        g[norm] = ops_out(o, R);
        vkm_op_gate(ops_record(o), p[norm].buf, idx[norm].buf, g[norm].buf, s->T, s->E, s->K, norm);
    }
    const struct vkm_routing shape = {.T = s->T, .E = s->E, .K = s->K, .F = 4, .D = 4};
    struct ops_routing routing = ops_routing(o, shape, idx[0]);
    vkm_op_route(ops_record(o), &routing.r, (struct vkm_buf){0});
    for (int norm = 0; norm < 2; norm++)
        for (int lbl = 0; lbl < 2; lbl++) {
            dz[norm][lbl] = ops_out(o, T * E);
            vkm_op_gate_bwd(ops_record(o), &routing.r, p[norm].buf, g[norm].buf, dgate.buf, parts, dz[norm][lbl].buf,
                            norm, lbl ? coef : 0);
        }
    if (!ops_run(o))
        return ops_end(o);

    struct num *scores = ref_exact_new(z, T * E), *want = ops_new(o, T * E), *weights = ops_new(o, R);
    struct num *partial = ops_num(o, dgate), *dg = ops_new(o, R), *dp = ops_new(o, T * E), *want_dz = ops_new(o, T * E);
    uint32_t *chosen = ops_new_words(o, R);
    for (int norm = 0; norm < 2; norm++) {
        ref_gate(T, E, K, norm, false, scores, want, chosen, weights);
        ops_expect_words(o, "idx", idx[norm], chosen);
        ops_expect(o, "p", p[norm], want);
        ops_expect(o, norm ? "g, normalised" : "g", g[norm], weights);
        for (size_t slot = 0; slot < R; slot++) {
            struct num_sum sum = {0};
            for (uint32_t i = 0; i < parts; i++)
                num_sum_add(&sum, partial[ops_words(o, routing.row_of)[slot] * parts + i]);
            dg[slot] = num_sum_end(&sum);
        }
        ref_lbl(T, T, E, K, want, chosen, coef, false, dp);
        for (int lbl = 0; lbl < 2; lbl++) {
            ref_gate_backward(T, E, K, norm, scores, chosen, dg, lbl ? dp : NULL, want_dz);
            ops_expect(o, norm ? lbl ? "dz, normalised, LBL" : "dz, normalised" : lbl ? "dz, LBL" : "dz", dz[norm][lbl],
                       want_dz);
        }
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
    const uint32_t R = (uint32_t)l->R, parts = vkm_gemm_parts(o->ctx, F);
    const struct vkm_routing shape = {.T = T, .E = E, .K = K, .F = F, .D = D};
    struct ops_routing routing = ops_routing(o, shape, l->idx);
    struct ops_array h13 = ops_out(o, 2 * l->R * F), act = ops_out(o, l->R * F), rows = ops_out(o, l->R * D);
    struct ops_array dgate = ops_out(o, l->R * parts), dz = ops_out(o, l->T * E);
    struct vkm_rec *rec = ops_record(o);

    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "router", .form = GEMM_NT, .a = l->x.buf, .b = l->router.buf,
        .c = l->p.buf, .m = T, .n = E, .k = D});
    vkm_op_gate(rec, l->p.buf, l->idx.buf, l->g.buf, T, E, K, l->norm_topk);
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
    vkm_op_gate_bwd(rec, &routing.r, l->p.buf, l->g.buf, dgate.buf, parts, dz.buf, l->norm_topk, l->lbl_coef);
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "router.bwd.w", .form = GEMM_TN, .a = dz.buf, .b = l->x.buf,
        .c = l->drouter.buf, .m = E, .n = D, .k = T, .accumulate = true});
    vkm_op_gemm(rec, &(struct vkm_gemm){.label = "router.bwd.x", .form = GEMM_NN, .a = dz.buf, .b = l->router.buf,
        .c = l->dx.buf, .m = T, .n = D, .k = E, .accumulate = true});
}

/* The choice of experts is the device's; the reference says whether it may choose so. */
static void check_layer(struct ops *o, const struct layer *l)
{
    const struct ref_moe moe = {l->T, l->D, l->E, l->K, l->F, l->norm_topk};
    const struct ref_moe_weights w = {ops_num(o, l->router), ops_num(o, l->w13), ops_num(o, l->w2)};
    const struct ref_moe_grads grads = {ops_new(o, l->T * l->D), ops_num(o, l->drouter), ops_num(o, l->dw13),
                                        ops_num(o, l->dw2)};
    const uint32_t *idx = ops_words(o, l->idx);
    struct ref_moe_state state;
    struct num *x = ops_num(o, l->x), *out = ops_new(o, l->T * l->D), *dp = ops_new(o, l->T * l->E);
    for (size_t i = 0; i < l->R; i++)
        if (idx[i] >= l->E) {
            ops_fail(o, "idx[%zu] is %u of %zu experts", i, idx[i], l->E);
            return;
        }
    ref_moe_forward(&moe, &w, x, idx, &state, out);
    if (!ref_topk_admissible(l->T, l->E, l->K, state.z, idx))
        ops_fail(o, "idx is not the top %zu of the logits", l->K);
    if (l->lbl_coef > 0)
        ref_lbl(l->T, l->T, l->E, l->K, state.p, idx, l->lbl_coef, false, dp);
    ref_moe_backward(&moe, &w, x, &state, ops_num(o, l->dout), l->lbl_coef > 0 ? dp : NULL, &grads);
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
    const struct case_moe *s = &case_moes[index];
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
    {"gate", gate, CASE_COUNT(case_gates)},
    {"experts", moe, CASE_COUNT(case_moes)},
    {0},
};
