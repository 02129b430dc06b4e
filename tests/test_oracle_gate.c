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
    struct num w[NUMBERS], bias[MOST], dg[T * MOST], load[T * MOST], grad[NUMBERS];
    uint32_t idx[T * MOST];
};

static void forward(const struct router *r, struct num *z, struct num *p, struct num *g, struct num *lse)
{
    uint32_t idx[T * MOST];
    memcpy(idx, r->idx, sizeof idx);
    ref_gemm_nt(T, r->gate.E, D, 1, r->w + r->gate.E * D, r->w, false, z);
    ref_gate_forward(&r->gate, true, z, p, idx, g, lse);
}

static size_t group_of(const struct router *r)
{
    return r->with->group ? r->with->group : T;
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
        num_sum_add(&sum, ref_lbl(&r->gate, group_of(r), r->with->full, r->load, p, r->idx, r->with->lbl, NULL));
    if (router_z(r) > 0)
        num_sum_mul(&sum, num_div(num_exact(router_z(r)), num_exact(T)), ref_square(T, lse));
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
        ref_lbl(&r->gate, group_of(r), r->with->full, r->load, p, r->idx, r->with->lbl, dp);
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
    ref_topk(&r->gate, z, r->idx);
    cr_assert(ref_topk_admissible(&r->gate, z, r->idx));
    if (with->group)
        ref_load(&r->gate, with->group, r->idx, r->load);
    for (size_t e = 0; e < s->E && !with->group; e++)
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

/* ---- which experts ---- */

Test(oracle_gate, top_k)
{
    static const float scores[2][5] = {{1, 3, 3, 0, 3}, {0, 0, 0, 0, 0}};
    static const uint32_t want[2][3] = {{1, 2, 4}, {0, 1, 2}}, reversed[3] = {2, 1, 4}, repeated[3] = {1, 1, 2};
    const struct ref_gate both = {2, 5, 3}, first = {1, 5, 3}, whole = {1, 5, 5};
    uint32_t idx[6], order[5];
    struct num *z = ref_exact_new(scores[0], 10);
    ref_topk(&both, z, idx);
    cr_assert_eq(memcmp(idx, want, sizeof want), 0);
    cr_assert(ref_topk_admissible(&both, z, idx));
    cr_assert_not(ref_topk_admissible(&first, z, reversed));
    z[1].e = 1e-6;
    cr_assert(ref_topk_admissible(&first, z, reversed), "a tie that the bound leaves open");
    cr_assert_not(ref_topk_admissible(&first, z, repeated));
    ref_topk(&whole, z, order);
    cr_assert_eq(order[3], 0);
    cr_assert_eq(order[4], 3);
    free(z);

    /* One expert: its weight is 1, renormalised or not, and nothing pulls at its score. */
    const struct ref_gate plain = {1, 1, 1}, normalised = {1, 1, 1, .norm_topk = true};
    struct num one = num_exact(0.25), p, g, dz, dg = num_exact(3);
    uint32_t expert;
    ref_gate_forward(&plain, false, &one, &p, &expert, &g, NULL);
    cr_assert_eq(expert, 0);
    cr_assert_eq(g.v, 1);
    ref_gate_backward(&normalised, &one, &expert, &dg, NULL, 0, &dz);
    cr_assert_eq(dz.v, 0);
}

/* The bias moves the order, not the weights; ties of the sums go to the lower index. */
Test(oracle_gate, bias_and_passed_over)
{
    static const float scores[5] = {1, 3, 2, 0, 2.5f}, biases[5] = {2, 0, 0, 2.5f, 0};
    struct num *z = ref_exact_new(scores, 5), *bias = ref_exact_new(biases, 5), p[2][5], g[2];
    struct ref_gate gate = {1, 5, 2, .bias = bias};
    uint32_t idx[2];
    ref_gate_forward(&gate, false, z, p[0], idx, g, NULL); /* sums 3, 3, 2, 2.5, 2.5 */
    cr_assert(idx[0] == 0 && idx[1] == 1 && ref_topk_admissible(&gate, z, idx));
    ref_softmax(5, z, p[1]);
    cr_assert(g[0].v == p[1][0].v && g[1].v == p[1][1].v);
    gate.drop_top = 1;
    ref_topk(&gate, z, idx);
    cr_assert(idx[0] == 1 && idx[1] == 3 && ref_topk_admissible(&gate, z, idx));
    gate.drop_top = 3;
    ref_topk(&gate, z, idx);
    cr_assert(idx[0] == 4 && idx[1] == 2 && ref_topk_admissible(&gate, z, idx));
    gate.drop_top = 2;
    cr_assert_not(ref_topk_admissible(&gate, z, idx), "one too many was passed over");
    z[0].e = z[4].e = 1e-6;
    gate.drop_top = 1;
    cr_assert(ref_topk_admissible(&gate, z, (uint32_t[]){0, 4}), "0 and 1, 3 and 4 may change places");
    cr_assert_not(ref_topk_admissible(&gate, z, (uint32_t[]){0, 1}));
    free(z);
    free(bias);
}

Test(oracle_gate, prune)
{
    struct num g[4] = {{0.5}, {0.25}, {0.125}, {0.25}}, rows[2] = {{3}, {NAN}}, y[2];
    uint32_t idx[4] = {1, 0, 1, 0}, counts[2], offset[3], row_of[4] = {0}, token_of[4], slot_of[4];
    ref_prune(2, 4, 0.25, idx, g);
    cr_assert(idx[0] == 1 && idx[1] == 0 && idx[2] == 2 && idx[3] == 0, "a weight at the threshold stays");
    cr_assert(g[0].v == 0.5 && num_is_zero(g[2]) && g[3].v == 0.25);
    ref_prune(2, 4, 0.3, idx, g);
    ref_dispatch(2, 2, 2, idx, counts, offset, row_of, token_of, slot_of);
    cr_assert(counts[0] == 0 && counts[1] == 1 && offset[2] == 1 && token_of[0] == 0 && slot_of[0] == 0);
    row_of[2] = row_of[3] = 1;
    ref_combine(2, 1, 2, row_of, g, rows, y);
    cr_assert(y[0].v == 1.5 && num_is_zero(y[1]), "a dropped expert's row is not read");
}

/* ---- f of the load-balancing loss; the loss-free bias ---- */

Test(oracle_gate, load)
{
    static const uint32_t idx[8] = {0, 1, 1, 2, 1, 0, 0, 1}, counts[3] = {3, 4, 1};
    const struct ref_gate gate = {4, 3, 2};
    struct num load[6], whole[3], outside[3];
    ref_load(&gate, 2, idx, load);
    cr_assert(load[0].v == 0.5 && load[1].v == 1 && load[2].v == 0.5);
    cr_assert(load[3].v == 1 && load[4].v == 1 && num_is_zero(load[5]));
    ref_load(&gate, 4, idx, whole);
    ref_load_total(3, 2, counts, outside);
    for (int e = 0; e < 3; e++)
        cr_assert_eq(whole[e].v, outside[e].v);

    struct num bias[3] = {{0.5}, {0}, {-1}};
    ref_lossfree(3, counts, 0.25, bias); /* the mean is 8/3 */
    cr_assert(bias[0].v == 0.25 && bias[1].v == -0.25 && bias[2].v == -0.75);
    ref_lossfree(3, (const uint32_t[]){7, 7, 7}, 0.25, bias);
    cr_assert(bias[0].v == 0.25 && bias[1].v == -0.25 && bias[2].v == -0.75, "the sign of 0 is 0");
}

/* Perfect balance: f = K / E everywhere, the loss over all experts is coef K whatever p (its sum is 1). */
Test(oracle_gate, lbl_values)
{
    const struct ref_gate softmax = {4, 4, 1}, sigmoid = {4, 4, 1, .sigmoid = true};
    static const uint32_t idx[4] = {2, 0, 3, 1};
    struct num z[16], p[16], q[16], g[4], load[4];
    uint32_t fixed[4];
    fill(z, 16, 5, false);
    memcpy(fixed, idx, sizeof idx);
    ref_gate_forward(&softmax, true, z, p, fixed, g, NULL);
    ref_gate_forward(&sigmoid, true, z, q, fixed, g, NULL);
    ref_load(&softmax, 4, idx, load);
    cr_assert_float_eq(ref_lbl(&softmax, 4, true, load, p, idx, 0.5, NULL).v, 0.5, 1e-14);
    cr_assert_float_eq(ref_lbl(&sigmoid, 4, true, load, q, idx, 0.5, NULL).v, 0.5, 1e-14);
    double active = 0;
    for (size_t t = 0; t < 4; t++)
        active += p[t * 4 + idx[t]].v / 4;
    cr_assert_float_eq(ref_lbl(&softmax, 4, false, load, p, idx, 0.5, NULL).v, 0.5 * active, 1e-14);
}
