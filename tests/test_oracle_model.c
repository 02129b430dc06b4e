/* The reference's whole model against central differences, and its behaviour at the edges: a fixed choice of experts,
 * balance losses, ties, groups without rows. */
#include "cases/cases.h"
#include "oracle/oracle.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

static struct ref_model small(void)
{
    return (struct ref_model){.L = 2, .B = 2, .S = 3, .D = 8, .H = 2, .E = 4, .K = 2, .F = 4, .V = 7, .norm_eps = 1e-5f,
                              .rope_theta = 100, .z_loss = 0.01f};
}

static struct num *parameters(const struct ref_model *m, float scale)
{
    const size_t n = ref_params_total(m);
    float *x = calloc(n, sizeof *x);
    case_fill(x, n, 1, scale);
    struct num *params = ref_exact_new(x, n);
    free(x);
    return params;
}

static struct ref_check check(const struct num *got, const struct num *want, size_t n)
{
    float *rounded = calloc(n, sizeof *rounded);
    for (size_t i = 0; i < n; i++)
        rounded[i] = (float)got[i].v;
    const struct ref_check c = ref_compare(rounded, want, n);
    free(rounded);
    return c;
}

/* f of the global batch, for two layers. */
static const struct num outside[8] = {{0.5, 0, 0}, {0.25, 0, 0}, {0, 0, 0}, {1.25, 0, 0},
                                      {1, 0, 0},   {0.5, 0, 0},  {0.5, 0, 0}, {0, 0, 0}};

/* What differs from small(). E and K are 0 where they are not changed. */
static const struct variant {
    bool norm_topk, sigmoid, bias, lbl_full;
    double simbal, lbl, router_z;
    size_t lbl_group, G, E, K;
    const struct num *load;
    enum { MODEL, STACK_CLASSES, STACK_MSE, STACK_DOUT, STACK_PLAIN } kind;
} variants[] = {
    {0},
    {.simbal = 0.1},
    {.norm_topk = true, .simbal = 0.1},
    {.lbl = 0.1, .lbl_full = true},
    {.norm_topk = true, .lbl = 0.1, .lbl_full = true, .lbl_group = 3},
    {.norm_topk = true, .lbl = 0.1, .lbl_group = 3},
    {.lbl = 0.1, .load = outside},
    {.router_z = 0.1},
    {.norm_topk = true, .simbal = 0.1, .lbl = 0.2, .router_z = 0.1, .lbl_group = 3, .G = 4},
    {.sigmoid = true, .simbal = 0.1, .bias = true},
    {.sigmoid = true, .norm_topk = true, .lbl = 0.1, .lbl_group = 3, .bias = true, .G = 8},
    {.sigmoid = true, .lbl = 0.1, .lbl_full = true, .load = outside},
    {.simbal = 0.1, .lbl = 0.1, .router_z = 0.1, .E = 4, .K = 4},
    {.sigmoid = true, .norm_topk = true, .lbl = 0.1, .E = 4, .K = 4},
    {.simbal = 0.1, .lbl = 0.1, .router_z = 0.1, .E = 1, .K = 1},
    {.sigmoid = true, .simbal = 0.1, .lbl = 0.1, .E = 1, .K = 1, .G = 4},
    {.simbal = 0.1, .lbl = 0.1, .lbl_group = 3, .E = 13, .K = 1}, /* experts without a token */
    {.kind = STACK_CLASSES, .simbal = 0.1, .G = 4},
    {.kind = STACK_MSE, .lbl = 0.1, .router_z = 0.1},
    {.kind = STACK_DOUT, .sigmoid = true, .lbl = 0.1},
    {.kind = STACK_PLAIN, .norm_topk = true, .simbal = 0.1},
};

/* Numbers of a stack's rows, exact. */
static struct num rows[6 * 8], targets_of_rows[6 * 8];

static void as_stack(struct ref_model *m, const struct variant *v)
{
    float x[6 * 8];
    case_fill(x, CASE_COUNT(x), 7, 1);
    for (size_t i = 0; i < CASE_COUNT(x); i++) {
        rows[i] = num_exact(x[i]);
        targets_of_rows[i] = num_exact(x[CASE_COUNT(x) - 1 - i]);
    }
    m->H = 0;
    m->z_loss = 0;
    m->I = v->kind == STACK_PLAIN ? 0 : 5;
    m->V = v->kind == STACK_PLAIN ? 0 : 7;
    m->in = rows;
    m->target = v->kind == STACK_MSE || v->kind == STACK_PLAIN ? targets_of_rows : NULL;
    m->dout = v->kind == STACK_DOUT ? targets_of_rows : NULL;
}

static struct ref_model changed(const struct variant *v)
{
    struct ref_model m = small();
    m.norm_topk = v->norm_topk;
    m.sigmoid = v->sigmoid;
    m.bias = v->bias;
    m.simbal = v->simbal;
    m.lbl = v->lbl;
    m.router_z = v->router_z;
    m.lbl_full = v->lbl_full;
    m.lbl_group = v->lbl_group;
    m.load = v->load;
    m.G = v->G;
    if (v->kind != MODEL)
        as_stack(&m, v);
    if (v->E) {
        m.E = v->E;
        m.K = v->K;
    }
    return m;
}

/* Tied logits: the same row for experts 0 and 1 of every router. */
static void tie(const struct ref_model *m, struct num *params)
{
    for (size_t l = 0; l < m->L && m->E > 1; l++) {
        struct num *router = params + ref_param_offset(m, REF_ROUTER, l);
        memcpy(router + m->D, router, m->D * sizeof *router);
    }
}

ParameterizedTestParameters(oracle_model, gradient)
{
    static size_t indices[CASE_COUNT(variants)];
    for (size_t i = 0; i < CASE_COUNT(variants); i++)
        indices[i] = i;
    return cr_make_param_array(size_t, indices, CASE_COUNT(variants));
}

/* As in test_oracle.c: allowed are the truncation, seen at twice the step, and the rounding, from the bounds. */
ParameterizedTest(size_t *index, oracle_model, gradient)
{
    const struct ref_model m = changed(&variants[*index]);
    const size_t T = m.B * m.S, total = ref_params_total(&m);
    struct num *params = parameters(&m, 0.4f), *grad = ref_new(total);
    uint32_t tokens[6], targets[6] = {1, 0, REF_IGNORED, 6, 2, 2}, idx[48];
    if (m.V)
        case_fill_indices(tokens, T, 2, (uint32_t)m.V);
    tie(&m, params);

    struct ref_model_out out = {.grad = grad, .idx = idx};
    ref_model_run(&m, params, tokens, targets, NULL, &out);
    double worst = 0, largest = 0, loosest = 0;
    for (size_t i = 0; i < total; i += i < total - 7 ? 7 : 1) {
        const double h = 2e-5, before = params[i].v;
        double slope[2], noise = grad[i].e * 0x1p-29;
        for (int twice = 0; twice < 2; twice++) {
            struct ref_model_out high = {0}, low = {0};
            params[i].v = before + h * (1 + twice);
            ref_model_run(&m, params, tokens, targets, idx, &high);
            params[i].v = before - h * (1 + twice);
            ref_model_run(&m, params, tokens, targets, idx, &low);
            slope[twice] = (high.loss.v - low.loss.v) / (2 * h * (1 + twice));
            noise += (high.loss.e + low.loss.e) * 0x1p-29 / (2 * h);
        }
        params[i].v = before;
        const double off = fabs(slope[0] - grad[i].v), allowed = fabs(slope[1] - slope[0]) + noise;
        cr_assert_leq(off, allowed, "parameter %zu: gradient %.12g, difference %.12g, allowed %.2g", i, grad[i].v,
                      slope[0], allowed);
        worst = fmax(worst, off);
        loosest = fmax(loosest, allowed);
        largest = fmax(largest, fabs(grad[i].v));
    }
    cr_log_info("gradients to %.3g, off by at most %.2g, at most %.2g allowed", largest, worst, loosest);
    cr_assert_lt(loosest, 1e-5 * largest);
    free(params);
    free(grad);
}

/* Fixing the choice that was made changes nothing; the sum of the parts is the loss; the layout has no gaps. */
Test(oracle_model, consistent)
{
    struct ref_model m = small();
    m.simbal = m.lbl = 0.1;
    const size_t total = ref_params_total(&m);
    struct num *params = parameters(&m, 0.4f);
    const uint32_t tokens[6] = {0, 1, 2, 3, 4, 5}, none[6] = {REF_IGNORED, REF_IGNORED, REF_IGNORED, REF_IGNORED,
                                                             REF_IGNORED, REF_IGNORED};
    uint32_t idx[24];
    struct num logits[2][42], router[2 * 6 * 4];
    struct ref_model_out free_run = {.idx = idx, .logits = logits[0], .router_logits = router};
    struct ref_model_out fixed_run = {.logits = logits[1]};
    ref_model_run(&m, params, tokens, tokens, NULL, &free_run);
    ref_model_run(&m, params, tokens, tokens, idx, &fixed_run);
    cr_assert_eq(memcmp(logits[0], logits[1], sizeof logits[0]), 0);
    cr_assert(ref_topk_admissible(12, 4, 2, router, idx));
    cr_assert_float_eq(free_run.loss.v, free_run.cross_entropy.v + free_run.z_loss.v + free_run.simbal.v +
                                         free_run.lbl.v, 1e-14);
    ref_model_run(&m, params, tokens, none, idx, &fixed_run);
    cr_assert_eq(fixed_run.cross_entropy.v, 0);
    cr_assert_eq(fixed_run.z_loss.v, 0);

    size_t sum = 0;
    for (size_t layer = 0; layer < m.L; layer++)
        for (int id = 0; id < REF_EMBED; sum += ref_param_count(&m, (enum ref_param)id++))
            cr_assert_eq(ref_param_offset(&m, (enum ref_param)id, layer), sum);
    for (int id = REF_EMBED; id < REF_PARAM_KINDS; sum += ref_param_count(&m, (enum ref_param)id++))
        cr_assert_eq(ref_param_offset(&m, (enum ref_param)id, 0), sum, "%s", ref_param_name((enum ref_param)id));
    cr_assert_eq(sum, total);
    free(params);
}

/* Whole models evaluated in f32 stay within the bounds, which are narrow enough to see a wrong kernel. */
Test(oracle_model, bounds)
{
    for (size_t c = 0; c < 2 * CASE_COUNT(case_models); c++) {
        const struct case_model *s = &case_models[c / 2];
        const struct ref_model m = {.L = s->L, .B = s->B, .S = s->S, .D = s->D, .H = s->H, .E = s->E, .K = s->K,
                                    .F = s->F, .V = s->V, .norm_eps = 1e-5f, .rope_theta = 1e4f, .z_loss = 1e-5f,
                                    .norm_topk = s->norm_topk, .sigmoid = c % 4 == 3,
                                    .simbal = 0.1f, .lbl = 0.01f, .router_z = c % 4 == 3 ? 0 : 0.01f, .G = c % 3 * 4};
        const size_t T = m.B * m.S, total = ref_params_total(&m);
        struct num *params = parameters(&m, c % 2 ? 0.035f : 0.3f);
        uint32_t *tokens = calloc(T, sizeof *tokens), *idx = calloc(m.L * T * m.K, sizeof *idx);
        case_fill_indices(tokens, T, 3, (uint32_t)m.V);
        struct ref_model_out want = {.grad = ref_new(total), .logits = ref_new(T * m.V), .idx = idx};
        ref_model_run(&m, params, tokens, tokens, NULL, &want);
        for (enum num_mode mode = NUM_SINGLE; mode <= NUM_BIASED; mode++) {
            struct ref_model_out got = {.grad = ref_new(total), .logits = ref_new(T * m.V)};
            num_mode = mode;
            ref_model_run(&m, params, tokens, tokens, idx, &got);
            num_mode = NUM_DOUBLE;
            const struct ref_check logits = check(got.logits, want.logits, T * m.V);
            const struct ref_check grad = check(got.grad, want.grad, total);
            const struct ref_check loss = check(&got.loss, &want.loss, 1);
            cr_log_info("model %zu, mode %d: error / bound: loss %.3f, logits %.3f, gradients %.3f; bound / range: "
                        "%.1g, %.1g, %.1g", c / 2, (int)mode, loss.ratio, logits.ratio, grad.ratio, loss.weakest,
                        logits.weakest, grad.weakest);
            cr_assert(ref_ok(&loss) && ref_ok(&logits) && ref_ok(&grad));
            cr_assert(loss.weakest < 1e-4 && logits.weakest < 1e-3 && grad.weakest < 1e-3);
            free(got.grad);
            free(got.logits);
        }
        free(want.grad);
        free(want.logits);
        free(params);
        free(tokens);
        free(idx);
    }
}

Test(oracle_model, top_k)
{
    static const float scores[2][5] = {{1, 3, 3, 0, 3}, {0, 0, 0, 0, 0}};
    static const uint32_t want[2][3] = {{1, 2, 4}, {0, 1, 2}}, reversed[3] = {2, 1, 4}, repeated[3] = {1, 1, 2};
    uint32_t idx[6], all[5];
    struct num *z = ref_exact_new(scores[0], 10);
    ref_topk(2, 5, 3, z, idx);
    cr_assert_eq(memcmp(idx, want, sizeof want), 0);
    cr_assert(ref_topk_admissible(2, 5, 3, z, idx));
    cr_assert_not(ref_topk_admissible(1, 5, 3, z, reversed));
    z[1].e = 1e-6;
    cr_assert(ref_topk_admissible(1, 5, 3, z, reversed), "a tie that the bound leaves open");
    cr_assert_not(ref_topk_admissible(1, 5, 3, z, repeated));
    ref_topk(1, 5, 5, z, all);
    cr_assert_eq(all[3], 0);
    cr_assert_eq(all[4], 3);
    free(z);

    /* One expert: its weight is 1, renormalised or not, and nothing pulls at its score. */
    struct num one = num_exact(0.25), p, g, dz, dg = num_exact(3);
    uint32_t expert;
    struct ref_gate gate = {.T = 1, .E = 1, .K = 1};
    ref_gate(&gate, false, &one, &p, &expert, &g, NULL);
    cr_assert_eq(expert, 0);
    cr_assert_eq(g.v, 1);
    gate.norm_topk = true;
    ref_gate_backward(&gate, &one, &expert, &dg, NULL, 0, &dz);
    cr_assert_eq(dz.v, 0);
}

Test(oracle_model, dispatch)
{
    for (size_t c = 0; c < CASE_COUNT(case_groupeds); c++) {
        const struct case_grouped *s = &case_groupeds[c];
        const size_t R = (size_t)s->T * s->top_k;
        uint32_t *all = calloc(4 * R + 2 * s->E + 1, sizeof *all);
        uint32_t *idx = all, *row_of = idx + R, *token_of = row_of + R, *slot_of = token_of + R, *counts = slot_of + R;
        uint32_t *offset = counts + s->E;
        case_route(s->routing, s->T, s->E, s->top_k, c, idx);
        ref_dispatch(s->T, s->E, s->top_k, idx, counts, offset, row_of, token_of, slot_of);
        cr_assert_eq(offset[s->E], R);
        if (s->routing == CASE_EMPTY)
            cr_assert_eq(counts[s->E / 2], 0);
        if (s->routing == CASE_ONE)
            cr_assert_eq(counts[s->E - 1], s->T);
        for (size_t e = 0; e < s->E; e++)
            for (size_t r = offset[e]; r < offset[e + 1]; r++) {
                cr_assert_eq(idx[slot_of[r]], e);
                cr_assert_eq(row_of[slot_of[r]], r);
                cr_assert_eq(token_of[r], slot_of[r] / s->top_k);
                cr_assert(r == offset[e] || token_of[r] > token_of[r - 1], "distinct experts of a token, stable");
            }
        free(all);
    }
}

Test(oracle_model, compare)
{
    const struct num want[3] = {{1, 1e-6}, {2, 0}, {-3, 1e-6}};
    float got[3] = {1, 2, -3};
    struct ref_check c = ref_compare(got, want, 3);
    cr_assert(ref_ok(&c));
    cr_assert_eq(c.ratio, 0);
    got[2] = -3.000002f;
    c = ref_compare(got, want, 3);
    cr_assert_not(ref_ok(&c));
    cr_assert_eq(c.index, 2);
    got[1] = 2.0000002f;
    c = ref_compare(got, want, 3);
    cr_assert_eq(c.index, 1, "an exact value has no room");
    const struct num unbounded = num_unbounded(1);
    c = ref_compare(got, &unbounded, 1);
    cr_assert_not(ref_ok(&c), "what has no bound is not right");
    got[0] = NAN;
    c = ref_compare(got, want, 3);
    cr_assert_eq(c.bad, 1);
    cr_assert_not(ref_ok(&c));
}
