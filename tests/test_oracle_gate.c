/* The reference's router: gradients of every loss on it, alone and together, against central differences of the total
 * with the chosen experts held fixed; which experts are chosen; dropped ones; the loss-free bias. */
#include "cases/cases.h"
#include "oracle/oracle.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

enum { T = 6, S = 3, D = 5, MOST = 6, NUMBERS = (MOST + T) * D };

/* What the experts get. Tied: scores and biases of a few values. */
static const struct shape {
    const char *name;
    size_t E, K;
    bool tied;
    float bias;           /* of expert 1; 0: no bias */
} shapes[] = {
    {"plain", 4, 2}, {"tied", 5, 2, true}, {"tied, biased", 6, 3, true, 0.5f}, {"an expert without tokens", 4, 2, false, -30},
    {"an expert for all", 6, 1, false, 30}, {"K = E", 3, 3}, {"K = E, tied", 4, 4, true, -0.5f}, {"one expert", 1, 1},
};

static const struct losses {
    const char *name;
    double lbl, router_z, simbal;
    size_t group;         /* of f; 0: f from outside */
    bool full;
} losses[] = {
    {"none"},
    {"LBL, sequences", .lbl = 1, .group = S},
    {"LBL, sequences, full", .lbl = 1, .group = S, .full = true},
    {"LBL, micro-batch", .lbl = 1, .group = T},
    {"LBL, micro-batch, full", .lbl = 1, .group = T, .full = true},
    {"LBL, f from outside", .lbl = 1},
    {"LBL, f from outside, full", .lbl = 1, .full = true},
    {"router z", .router_z = 1},
    {"SimBal", .simbal = 1},
    {"SimBal, LBL, router z", .lbl = 0.5, .router_z = 0.25, .simbal = 0.5, .group = S},
    {"SimBal, LBL full from outside, router z", .lbl = 0.5, .router_z = 0.25, .simbal = 0.5, .full = true},
};

/* A router with its tokens: the numbers are W [E,D], then x [T,D]. The objective stands for the model behind: dg . g. */
struct router {
    const struct losses *with;
    struct ref_gate gate;
    size_t count;
    struct num w[NUMBERS], bias[MOST], dg[T * MOST], load[MOST], grad[NUMBERS];
    uint32_t idx[T * MOST];
};

static void forward(const struct router *r, struct num *z, struct num *p, struct num *g, struct num *lse)
{
    uint32_t idx[T * MOST];
    memcpy(idx, r->idx, sizeof idx);
    ref_gemm_nt(T, r->gate.E, D, 1, r->w + r->gate.E * D, r->w, false, z);
    ref_gate(&r->gate, true, z, p, idx, g, lse);
}

/* The loss, and its gradient with f held fixed, as counted where it is not from outside. */
static struct num lbl(const struct router *r, const struct num *p, struct num *dp)
{
    const struct losses *with = r->with;
    const struct ref_lbl of = {T, r->gate.E, r->gate.K, with->group ? with->group : T, with->full, r->gate.sigmoid,
                               with->lbl, with->group ? NULL : r->load};
    return ref_lbl(&of, p, r->idx, dp);
}

static double router_z(const struct router *r)
{
    return r->gate.sigmoid ? 0 : r->with->router_z;
}

static struct num total(const struct router *r)
{
    struct num z[T * MOST], p[T * MOST], g[T * MOST], lse[T];
    struct num_sum sum = {0};
    forward(r, z, p, g, lse);
    for (size_t i = 0; i < T * r->gate.K; i++)
        num_sum_mul(&sum, r->dg[i], g[i]);
    if (r->with->lbl > 0)
        num_sum_add(&sum, lbl(r, p, NULL));
    const struct num z_scale = num_div(num_exact(router_z(r)), num_exact(T));
    for (size_t t = 0; t < T && router_z(r) > 0; t++)
        num_sum_mul(&sum, z_scale, num_mul(lse[t], lse[t]));
    if (r->with->simbal > 0)
        num_sum_add(&sum, ref_simbal(r->gate.E, D, r->with->simbal, r->w, NULL));
    return num_sum_end(&sum);
}

static void backward(struct router *r)
{
    const size_t E = r->gate.E;
    struct num z[T * MOST], p[T * MOST], g[T * MOST], dp[T * MOST], dz[T * MOST];
    const struct num *x = r->w + E * D;
    forward(r, z, p, g, NULL);
    if (r->with->lbl > 0)
        lbl(r, p, dp);
    ref_gate_backward(&r->gate, z, r->idx, r->dg, r->with->lbl > 0 ? dp : NULL, router_z(r), dz);
    memset(r->grad, 0, sizeof r->grad);
    if (r->with->simbal > 0)
        ref_simbal(E, D, r->with->simbal, r->w, r->grad);
    ref_gemm_tn(E, D, T, 1, dz, x, true, r->grad);
    ref_gemm_nn(T, D, E, 1, dz, r->w, false, r->grad + E * D);
}

static void fill(struct num *to, size_t n, uint64_t seed, bool tied)
{
    float x[NUMBERS];
    if (tied)
        case_fill_tied(x, n, seed);
    else
        case_fill(x, n, seed, 1);
    for (size_t i = 0; i < n; i++)
        to[i] = num_exact(x[i]);
}

static void make(struct router *r, const struct shape *s, const struct losses *with, bool sigmoid, bool norm_topk)
{
    *r = (struct router){.with = with, .gate = {T, s->E, s->K, sigmoid, norm_topk}, .count = (s->E + T) * D};
    struct num z[T * MOST];
    fill(r->w, r->count, s->E, s->tied);
    fill(r->dg, T * s->K, 2, false);
    if (s->bias != 0) {
        r->bias[1] = num_exact(s->bias);
        r->gate.bias = r->bias;
    }
    ref_gemm_nt(T, s->E, D, 1, r->w + s->E * D, r->w, false, z);
    for (size_t i = 0; i < T * s->E && s->tied; i++)
        z[i].e = 0; /* multiples of 1/4 */
    struct num p[T * MOST], g[T * MOST], score[T * MOST];
    ref_gate(&r->gate, false, z, p, r->idx, g, NULL);
    ref_scores(&r->gate, z, score);
    cr_assert(ref_topk_admissible(T, s->E, s->K, score, r->idx));
    for (size_t e = 0; e < s->E; e++)
        r->load[e] = num_exact(0.25 * (double)((e * 3 + 1) % 4));
}

struct parameter {
    size_t shape;
    bool sigmoid, norm_topk;
};

static size_t all(struct parameter **out)
{
    static struct parameter list[4 * CASE_COUNT(shapes)];
    for (size_t i = 0; i < CASE_COUNT(list); i++)
        list[i] = (struct parameter){i / 4, i & 1, i & 2};
    *out = list;
    return CASE_COUNT(list);
}

ParameterizedTestParameters(oracle_gate, gradient)
{
    struct parameter *list;
    const size_t count = all(&list);
    return cr_make_param_array(struct parameter, list, count);
}

/* As in test_oracle.c: allowed are the truncation, seen at twice the step, and the rounding, from the bounds. */
static void check_gradient(struct router *r, const char *shape)
{
    const double h = 2e-5;
    double loosest = 0, largest = 0;
    backward(r);
    for (size_t i = 0; i < r->count; i++) {
        const double before = r->w[i].v;
        double slope[2], noise = r->grad[i].e * 0x1p-29;
        for (int twice = 0; twice < 2; twice++) {
            const double high = before + h * (1 + twice), low = before - h * (1 + twice);
            r->w[i].v = high;
            const struct num up = total(r);
            r->w[i].v = low;
            const struct num down = total(r);
            slope[twice] = (up.v - down.v) / (high - low);
            noise += (up.e + down.e) * 0x1p-29 / (high - low);
        }
        r->w[i].v = before;
        const double allowed = fabs(slope[1] - slope[0]) + noise;
        cr_assert_leq(fabs(slope[0] - r->grad[i].v), allowed, "%s, %s, %s%s: number %zu: gradient %.12g, difference %.12g",
                      shape, r->with->name, r->gate.sigmoid ? "sigmoid" : "softmax",
                      r->gate.norm_topk ? ", normalised" : "", i, r->grad[i].v, slope[0]);
        loosest = fmax(loosest, allowed);
        largest = fmax(largest, fabs(r->grad[i].v));
    }
    /* Tied rows of a router are orthogonal here and there: SimBal's kink, which a difference sees to first order of h. */
    cr_assert_lt(loosest, (r->with->simbal > 0 ? 10 * h : 1e-6) * fmax(largest, 0.1), "%s, %s: the differences see nothing",
                 shape, r->with->name);
}

ParameterizedTest(struct parameter *p, oracle_gate, gradient)
{
    const struct shape *s = &shapes[p->shape];
    for (size_t i = 0; i < CASE_COUNT(losses); i++) {
        struct router r;
        make(&r, s, &losses[i], p->sigmoid, p->norm_topk);
        check_gradient(&r, s->name);
    }
}

ParameterizedTestParameters(oracle_gate, bounds)
{
    struct parameter *list;
    const size_t count = all(&list);
    return cr_make_param_array(struct parameter, list, count);
}

/* What f32 makes of it stays within the bounds. */
ParameterizedTest(struct parameter *p, oracle_gate, bounds)
{
    double worst = 0;
    for (size_t i = 0; i < CASE_COUNT(losses); i++) {
        struct router want;
        make(&want, &shapes[p->shape], &losses[i], p->sigmoid, p->norm_topk);
        backward(&want);
        const struct num loss = total(&want);
        for (enum num_mode mode = NUM_SINGLE; mode <= NUM_BIASED; mode++) {
            struct router got = want;
            float grad[NUMBERS], value;
            got.gate.bias = want.gate.bias ? got.bias : NULL;
            num_mode = mode;
            backward(&got);
            value = (float)total(&got).v;
            num_mode = NUM_DOUBLE;
            for (size_t k = 0; k < want.count; k++)
                grad[k] = (float)got.grad[k].v;
            const struct ref_check c = ref_compare(grad, want.grad, want.count), l = ref_compare(&value, &loss, 1);
            cr_assert(ref_ok(&c), "%s, %s: gradient %zu: %.9g instead of %.9g +- %.2g", shapes[p->shape].name,
                      losses[i].name, c.index, c.got, c.v, c.e);
            cr_assert(ref_ok(&l), "%s, %s: %.9g instead of %.9g +- %.2g", shapes[p->shape].name, losses[i].name, l.got,
                      l.v, l.e);
            worst = fmax(worst, fmax(c.ratio, l.ratio));
        }
    }
    cr_log_info("%s: error / bound at most %.3f", shapes[p->shape].name, worst);
}

/* ---- values by hand ---- */

/* The bias moves the order, not the weights; ties of the sums go to the lower index. */
Test(oracle_gate, bias_and_passed_over)
{
    static const float scores[5] = {1, 3, 2, 0, 2.5f}, biases[5] = {2, 0, 0, 2.5f, 0}; /* sums 3, 3, 2, 2.5, 2.5 */
    static const uint32_t want[4][2] = {{0, 1}, {1, 3}, {3, 4}, {4, 2}};
    struct num *z = ref_exact_new(scores, 5), *bias = ref_exact_new(biases, 5), p[5], softmax[5], g[2];
    ref_softmax(5, z, softmax);
    for (size_t n = 0; n < 4; n++) {
        const struct ref_gate gate = {1, 5, 2, .bias = bias, .drop_top = n};
        uint32_t idx[2];
        ref_gate(&gate, false, z, p, idx, g, NULL);
        cr_assert_eq(memcmp(idx, want[n], sizeof idx), 0, "%zu passed over: %u, %u", n, idx[0], idx[1]);
        cr_assert(g[0].v == softmax[idx[0]].v && g[1].v == softmax[idx[1]].v);
    }
    free(z);
    free(bias);
}

/* A weight at the threshold stays; the others keep their weights; a dropped expert has no row. */
Test(oracle_gate, prune)
{
    struct num z[3] = {{0}, {0}, {0}}, p[3], g[3], rows[1] = {{3}}, y[1];
    uint32_t idx[3], counts[3], offset[4], row_of[3] = {0}, token_of[3], slot_of[3];
    struct ref_gate gate = {1, 3, 2, .sigmoid = true, .prune_below = 0.5};
    ref_gate(&gate, false, z, p, idx, g, NULL);
    cr_assert(idx[0] == 0 && idx[1] == 1 && g[0].v == 0.5 && g[1].v == 0.5);
    z[1] = num_exact(-1);
    gate.K = 3;
    ref_gate(&gate, false, z, p, idx, g, NULL);
    cr_assert(idx[0] == 0 && idx[1] == 2 && idx[2] == 3, "the last of the three is expert 1, dropped");
    cr_assert(g[0].v == 0.5 && g[1].v == 0.5 && num_is_zero(g[2]));
    ref_dispatch(1, 3, 3, idx, counts, offset, row_of, token_of, slot_of);
    cr_assert(counts[0] == 1 && counts[1] == 0 && counts[2] == 1 && offset[3] == 2 && slot_of[1] == 1);
    gate.prune_below = 2; /* none is left */
    ref_gate(&gate, false, z, p, idx, g, NULL);
    ref_dispatch(1, 3, 3, idx, counts, offset, row_of, token_of, slot_of);
    ref_combine(1, 1, 3, row_of, g, rows, y);
    cr_assert(offset[3] == 0 && num_is_zero(y[0]));
}

Test(oracle_gate, load)
{
    static const uint32_t idx[8] = {0, 1, 1, 2, 1, 0, 0, 1}, counts[3] = {3, 4, 1};
    static const double want[6] = {0.5, 1, 0.5, 1, 1, 0};
    struct num load[6], whole[3], outside[3];
    ref_expert_load(4, 2, 3, 2, idx, load);
    for (int i = 0; i < 6; i++)
        cr_assert_eq(load[i].v, want[i]);
    ref_expert_load(4, 4, 3, 2, idx, whole);
    ref_expert_load_total(3, 2, counts, outside);
    for (int e = 0; e < 3; e++)
        cr_assert_eq(whole[e].v, outside[e].v);

    struct num bias[3] = {{0.5}, {0}, {-1}};
    ref_lossfree(3, 0.25, counts, false, bias); /* the mean is 8/3 */
    cr_assert(bias[0].v == 0.25 && bias[1].v == -0.25 && bias[2].v == -0.75);
    ref_lossfree(3, 0.25, (const uint32_t[]){7, 7, 7}, false, bias);
    cr_assert(bias[0].v == 0.25 && bias[1].v == -0.25 && bias[2].v == -0.75, "the sign of 0 is 0");
}

/* Perfect balance: f = K / E everywhere, so the loss over all experts is coef K whatever p is, its sum being 1. */
Test(oracle_gate, lbl_values)
{
    static const uint32_t idx[4] = {2, 0, 3, 1};
    struct num z[16], p[16], g[4];
    fill(z, 16, 5, false);
    for (int sigmoid = 0; sigmoid < 2; sigmoid++) {
        uint32_t fixed[4];
        const struct ref_gate gate = {4, 4, 1, .sigmoid = sigmoid};
        struct ref_lbl all_of = {4, 4, 1, 4, .full = true, .sigmoid = sigmoid, .coef = 0.5}, active = all_of;
        double share = 0;
        memcpy(fixed, idx, sizeof idx);
        ref_gate(&gate, true, z, p, fixed, g, NULL);
        cr_assert_float_eq(ref_lbl(&all_of, p, idx, NULL).v, 0.5, 1e-14);
        active.full = false;
        for (size_t t = 0; t < 4; t++) {
            double sum = 0;
            for (size_t e = 0; e < 4; e++)
                sum += p[t * 4 + e].v;
            share += p[t * 4 + idx[t]].v / sum / 4;
        }
        cr_assert_float_eq(ref_lbl(&active, p, idx, NULL).v, 0.5 * share, 1e-14);
    }
}
