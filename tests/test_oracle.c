/* Every backward of the reference against central differences of its forward, and the bounds of both against what f32
 * makes of the same formulas. */
#include "cases/cases.h"
#include "oracle/oracle.h"

#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <stdlib.h>
#include <string.h>

enum { PARTS = 4, T = 6, D = 8, E = 4, K = 2, F = 5, V = 7, M = 3, N = 5, Q = 4, S = 3, H = 2, R = T * K };

/* An operation with up to PARTS inputs that have a gradient. The objective is sum dy * y with dy fixed. */
struct op {
    const char *name;
    size_t in[PARTS], out[PARTS]; /* elements */
    void (*forward)(struct num *const *x, struct num *const *y);
    void (*backward)(struct num *const *x, struct num *const *dy, struct num *const *dx);
};

static const double eps = 1e-5f, alpha = 0.7f;
static const uint32_t tokens[T] = {3, 0, 3, 6, 3, 1};
/* Expert 2 is never chosen. */
static const uint32_t idx[T * K] = {0, 1, 3, 1, 1, 0, 0, 3, 3, 0, 1, 3};
static const struct ref_heads heads = {.B = 2, .S = S, .H = H, .hd = D / H};
static const struct ref_moe moe = {T, D, E, K, F, .norm_topk = true}, moe_plain = {T, D, E, K, F, .sigmoid = true};

static uint32_t counts[E], offset[E + 1], row_of[R], token_of[R], slot_of[R];
static struct num cosines[S * D / H / 2], sines[S * D / H / 2];

static void embed_f(struct num *const *x, struct num *const *y)
{
    ref_embed(T, D, tokens, x[0], y[0]);
}
static void embed_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    (void)x;
    ref_embed_backward(T, D, tokens, dy[0], dx[0]);
}

static void norm_f(struct num *const *x, struct num *const *y)
{
    ref_rmsnorm(T, D, x[0], x[1], eps, y[0], NULL);
}
static void norm_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_rmsnorm_backward(T, D, x[0], x[1], dy[0], eps, dx[0], dx[1]);
}

static void nt_f(struct num *const *x, struct num *const *y)
{
    ref_gemm_nt(M, N, Q, alpha, x[0], x[1], false, y[0]);
}
static void nt_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_gemm_nn(M, Q, N, alpha, dy[0], x[1], false, dx[0]);
    ref_gemm_tn(N, Q, M, alpha, dy[0], x[0], true, dx[1]);
}
static void nn_f(struct num *const *x, struct num *const *y)
{
    ref_gemm_nn(M, N, Q, alpha, x[0], x[1], false, y[0]);
}
static void nn_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_gemm_nt(M, Q, N, alpha, dy[0], x[1], false, dx[0]);
    ref_gemm_tn(Q, N, M, alpha, x[0], dy[0], true, dx[1]);
}
static void tn_f(struct num *const *x, struct num *const *y)
{
    ref_gemm_tn(M, N, Q, alpha, x[0], x[1], false, y[0]);
}
static void tn_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_gemm_nt(Q, M, N, alpha, x[1], dy[0], false, dx[0]);
    ref_gemm_nn(Q, N, M, alpha, x[0], dy[0], false, dx[1]);
}

/* x[0] [T,D] gathered by token_of, x[1] [E,N,D] or [E,D,N] */
static void grouped_nt_f(struct num *const *x, struct num *const *y)
{
    ref_grouped_nt(E, offset, N, D, x[0], token_of, x[1], false, y[0]);
}
static void grouped_nt_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    struct num *rows = ref_new(R * D);
    ref_grouped_nn(E, offset, D, N, dy[0], NULL, x[1], false, rows);
    ref_combine(T, D, K, row_of, NULL, rows, dx[0]);
    ref_grouped_tn(E, offset, N, D, dy[0], NULL, x[0], token_of, true, dx[1]);
    free(rows);
}
static void grouped_nn_f(struct num *const *x, struct num *const *y)
{
    ref_grouped_nn(E, offset, N, D, x[0], token_of, x[1], false, y[0]);
}
static void grouped_nn_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    struct num *rows = ref_new(R * D);
    ref_grouped_nt(E, offset, D, N, dy[0], NULL, x[1], false, rows);
    ref_combine(T, D, K, row_of, NULL, rows, dx[0]);
    ref_grouped_tn(E, offset, D, N, x[0], token_of, dy[0], NULL, true, dx[1]);
    free(rows);
}

static void rope_f(struct num *const *x, struct num *const *y)
{
    memcpy(y[0], x[0], T * 3 * D * sizeof **x);
    ref_rope(heads, cosines, sines, false, y[0]);
}
static void rope_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    (void)x;
    memcpy(dx[0], dy[0], T * 3 * D * sizeof **x);
    ref_rope(heads, cosines, sines, true, dx[0]);
}

static void attention_f(struct num *const *x, struct num *const *y)
{
    ref_attention(heads, x[0], y[0], NULL);
}
static void attention_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_attention_backward(heads, x[0], dy[0], dx[0]);
}

/* y[0] = g, y[1] = p: the gradient of p is what a balance loss adds; y[2][0], of a softmax: the mean of lse^2 */
static const struct ref_gate gates[] = {
    {T, E, K}, {T, E, K, .norm_topk = true}, {T, E, K, .sigmoid = true}, {T, E, K, .sigmoid = true, .norm_topk = true},
};
static void gate_f(int which, struct num *const *x, struct num *const *y)
{
    uint32_t chosen[T * K];
    struct num lse[T];
    struct num_sum squares = {0};
    memcpy(chosen, idx, sizeof chosen);
    ref_gate(&gates[which], true, x[0], y[1], chosen, y[0], lse);
    for (size_t t = 0; t < T && y[2]; t++)
        num_sum_mul(&squares, lse[t], lse[t]);
    if (y[2])
        y[2][0] = num_div(num_sum_end(&squares), num_exact(T));
}
static void gate_b(int which, struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_gate_backward(&gates[which], x[0], idx, dy[0], dy[1], dy[2] ? dy[2][0].v : 0, dx[0]);
}
#define GATE(which)                                                                                                      \
    static void gate##which##_f(struct num *const *x, struct num *const *y) { gate_f(which, x, y); }                     \
    static void gate##which##_b(struct num *const *x, struct num *const *dy, struct num *const *dx)                      \
    {                                                                                                                    \
        gate_b(which, x, dy, dx);                                                                                        \
    }
GATE(0)
GATE(1)
GATE(2)
GATE(3)

static void swiglu_f(struct num *const *x, struct num *const *y)
{
    ref_swiglu(R, F, x[0], y[0]);
}
static void swiglu_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_swiglu_backward(R, F, x[0], dy[0], dx[0]);
}

/* x, router, w13, w2 -> out, p */
static void layer_f(const struct ref_moe *layer, struct num *const *x, struct num *const *y)
{
    struct ref_moe_state state;
    ref_moe_forward(layer, &(struct ref_moe_weights){x[1], x[2], x[3]}, x[0], idx, &state, y[0]);
    memcpy(y[1], state.p, T * E * sizeof **y);
    ref_moe_state_free(&state);
}
static void layer_b(const struct ref_moe *layer, struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    struct ref_moe_state state;
    struct num *out = ref_new(T * D);
    const struct ref_moe_weights w = {x[1], x[2], x[3]};
    ref_moe_forward(layer, &w, x[0], idx, &state, out);
    ref_moe_backward(layer, &w, x[0], &state, dy[0], dy[1], 0, &(struct ref_moe_grads){dx[0], dx[1], dx[2], dx[3]});
    for (size_t i = 0; i < D * F; i++)
        cr_assert(dx[3][2 * D * F + i].v == 0 && dx[3][2 * D * F + i].e == 0, "expert 2 has no rows");
    ref_moe_state_free(&state);
    free(out);
}
static void moe_f(struct num *const *x, struct num *const *y)
{
    layer_f(&moe, x, y);
}
static void moe_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    layer_b(&moe, x, dy, dx);
}
static void moe_plain_f(struct num *const *x, struct num *const *y)
{
    layer_f(&moe_plain, x, y);
}
static void moe_plain_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    layer_b(&moe_plain, x, dy, dx);
}

static const uint32_t targets[T] = {6, 0, REF_IGNORED, 2, 2, 5};
enum { ZC_SHIFT = 4 }; /* z-loss coefficient 1/16 */

/* y[0][0] = sum of loss and z-loss */
static void xent_f(struct num *const *x, struct num *const *y)
{
    struct num loss[T], zloss[T];
    struct num_sum sum = {0};
    ref_xent(T, V, x[0], targets, 1.0 / (1 << ZC_SHIFT), 1, loss, zloss, NULL);
    for (size_t t = 0; t < T; t++) {
        num_sum_add(&sum, loss[t]);
        num_sum_add(&sum, zloss[t]);
    }
    y[0][0] = num_sum_end(&sum);
}
static void xent_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    struct num loss[T];
    ref_xent(T, V, x[0], targets, 1.0 / (1 << ZC_SHIFT), dy[0][0].v, loss, NULL, dx[0]);
}

static void simbal_f(struct num *const *x, struct num *const *y)
{
    y[0][0] = ref_simbal(E, D, 1, x[0], NULL);
}
static void simbal_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    ref_simbal(E, D, dy[0][0].v, x[0], dx[0]);
}

/* Scopes (sequence, all, f from outside), gates (all, active ones) and kinds of gate. */
static const struct num outside[E] = {{0.5, 0, 0}, {0.25, 0, 0}, {0, 0, 0}, {1.25, 0, 0}};
static const struct ref_lbl lbls[] = {
    {T, E, K, S, .full = true}, {T, E, K, T}, {T, E, K, S, .sigmoid = true}, {T, E, K, T, .full = true, .sigmoid = true},
    {T, E, K, T, .load = outside}, {T, E, K, T, .sigmoid = true, .load = outside},
};
static void lbl_f(int which, struct num *const *x, struct num *const *y)
{
    struct ref_lbl lbl = lbls[which];
    lbl.coef = 1;
    y[0][0] = ref_lbl(&lbl, x[0], idx, NULL);
}
static void lbl_b(int which, struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    struct ref_lbl lbl = lbls[which];
    lbl.coef = dy[0][0].v;
    ref_lbl(&lbl, x[0], idx, dx[0]);
}
#define LBL(which)                                                                                                       \
    static void lbl##which##_f(struct num *const *x, struct num *const *y) { lbl_f(which, x, y); }                       \
    static void lbl##which##_b(struct num *const *x, struct num *const *dy, struct num *const *dx)                       \
    {                                                                                                                    \
        lbl_b(which, x, dy, dx);                                                                                         \
    }
LBL(0)
LBL(1)
LBL(2)
LBL(3)
LBL(4)
LBL(5)

/* x, w13, w2 of a shared expert */
static void shared_f(struct num *const *x, struct num *const *y)
{
    struct num h13[T * 2 * F], a[T * F];
    memset(y[0], 0, T * D * sizeof *y[0]); /* it is added to */
    ref_shared_forward(T, D, F, x[0], x[1], x[2], h13, a, y[0]);
}
static void shared_b(struct num *const *x, struct num *const *dy, struct num *const *dx)
{
    struct num h13[T * 2 * F], a[T * F], *y = ref_new(T * D);
    ref_shared_forward(T, D, F, x[0], x[1], x[2], h13, a, y);
    ref_shared_backward(T, D, F, x[0], x[1], x[2], h13, a, dy[0], dx[0], dx[1], dx[2]);
    free(y);
}

static const struct op ops[] = {
    {"embed", {V * D}, {T * D}, embed_f, embed_b},
    {"rmsnorm", {T * D, D}, {T * D}, norm_f, norm_b},
    {"gemm nt", {M * Q, N * Q}, {M * N}, nt_f, nt_b},
    {"gemm nn", {M * Q, Q * N}, {M * N}, nn_f, nn_b},
    {"gemm tn", {Q * M, Q * N}, {M * N}, tn_f, tn_b},
    {"grouped nt, tn", {T * D, E * N * D}, {R * N}, grouped_nt_f, grouped_nt_b},
    {"grouped nn, tn", {T * D, E * N * D}, {R * N}, grouped_nn_f, grouped_nn_b},
    {"rope", {T * 3 * D}, {T * 3 * D}, rope_f, rope_b},
    {"attention", {T * 3 * D}, {T * D}, attention_f, attention_b},
    {"gate", {T * E}, {T * K, T * E, 1}, gate0_f, gate0_b},
    {"gate, norm_topk", {T * E}, {T * K, T * E, 1}, gate1_f, gate1_b},
    {"sigmoid gate", {T * E}, {T * K, T * E}, gate2_f, gate2_b},
    {"sigmoid gate, norm_topk", {T * E}, {T * K, T * E}, gate3_f, gate3_b},
    {"swiglu", {R * 2 * F}, {R * F}, swiglu_f, swiglu_b},
    {"moe, sigmoid", {T * D, E * D, E * 2 * F * D, E * D * F}, {T * D, T * E}, moe_plain_f, moe_plain_b},
    {"moe, norm_topk", {T * D, E * D, E * 2 * F * D, E * D * F}, {T * D, T * E}, moe_f, moe_b},
    {"xent", {T * V}, {1}, xent_f, xent_b},
    {"simbal", {E * D}, {1}, simbal_f, simbal_b},
    {"lbl of sequences, full", {T * E}, {1}, lbl0_f, lbl0_b},
    {"lbl", {T * E}, {1}, lbl1_f, lbl1_b},
    {"lbl of sequences, sigmoid", {T * E}, {1}, lbl2_f, lbl2_b},
    {"lbl, full, sigmoid", {T * E}, {1}, lbl3_f, lbl3_b},
    {"lbl, load from outside", {T * E}, {1}, lbl4_f, lbl4_b},
    {"lbl, load from outside, sigmoid", {T * E}, {1}, lbl5_f, lbl5_b},
    {"shared expert", {T * D, 2 * F * D, D * F}, {T * D}, shared_f, shared_b},
};

static struct num *filled(size_t n, uint64_t seed)
{
    float *x = calloc(n + 1, sizeof *x);
    case_fill(x, n, seed, 1);
    struct num *out = ref_exact_new(x, n);
    free(x);
    return out;
}

static struct num objective(const struct op *op, struct num *const *x, struct num *const *y, struct num *const *dy)
{
    struct num_sum sum = {0};
    op->forward(x, y);
    for (size_t part = 0; part < PARTS; part++)
        for (size_t i = 0; i < op->out[part]; i++)
            num_sum_mul(&sum, dy[part][i], y[part][i]);
    return num_sum_end(&sum);
}

/* (f(x + h) - f(x - h)) / 2h; *noise += what rounding in double can do to it: e bounds f32's, 2^-29 of it double's. */
static double difference(const struct op *op, struct num *const *x, struct num *const *y, struct num *const *dy,
                         double *at, double h, double *noise)
{
    const double before = *at, high = before + h, low = before - h;
    *at = high;
    const struct num fh = objective(op, x, y, dy);
    *at = low;
    const struct num fl = objective(op, x, y, dy);
    *at = before;
    *noise += (fh.e + fl.e) * 0x1p-29 / (high - low);
    return (fh.v - fl.v) / (high - low);
}

static size_t op_params(size_t **index)
{
    static size_t indices[CASE_COUNT(ops)];
    for (size_t i = 0; i < CASE_COUNT(ops); i++)
        indices[i] = i;
    *index = indices;
    return CASE_COUNT(ops);
}

ParameterizedTestParameters(oracle, gradient)
{
    size_t *index;
    const size_t count = op_params(&index);
    return cr_make_param_array(size_t, index, count);
}

ParameterizedTestParameters(oracle, bounds)
{
    size_t *index;
    const size_t count = op_params(&index);
    return cr_make_param_array(size_t, index, count);
}

/* An operation with its numbers: inputs, outputs, their gradients. */
struct instance {
    const struct op *op;
    struct num *x[PARTS], *y[PARTS], *dy[PARTS], *dx[PARTS];
};

static struct instance make(const struct op *op)
{
    struct instance in = {.op = op};
    float tables[2 * S * D / H / 2];
    ref_rope_tables(S, D / H, 100, tables, tables + S * D / H / 2);
    for (size_t i = 0; i < S * D / H / 2; i++) {
        cosines[i] = num_exact(tables[i]);
        sines[i] = num_exact(tables[S * D / H / 2 + i]);
    }
    ref_dispatch(T, E, K, idx, counts, offset, row_of, token_of, slot_of);
    for (size_t part = 0; part < PARTS; part++) {
        in.x[part] = filled(op->in[part], 10 + part);
        in.dx[part] = ref_new(op->in[part]);
        in.y[part] = ref_new(op->out[part]);
        in.dy[part] = filled(op->out[part], 20 + part);
    }
    op->forward(in.x, in.y);
    op->backward(in.x, in.dy, in.dx);
    return in;
}

static void unmake(struct instance *in)
{
    for (size_t part = 0; part < PARTS; part++) {
        free(in->x[part]);
        free(in->dx[part]);
        free(in->y[part]);
        free(in->dy[part]);
    }
}

/* The truncation of a central difference is f''' h^2 / 6: a third of the distance to that of twice the step. */
ParameterizedTest(size_t *index, oracle, gradient)
{
    const struct op *op = &ops[*index];
    struct instance in = make(op);
    double worst = 0, loosest = 0, largest = 0;
    for (size_t part = 0; part < PARTS; part++)
        for (size_t i = 0; i < op->in[part]; i++) {
            const struct num dx = in.dx[part][i];
            const double h = 2e-5;
            double noise = dx.e * 0x1p-29;
            const double one = difference(op, in.x, in.y, in.dy, &in.x[part][i].v, h, &noise);
            const double two = difference(op, in.x, in.y, in.dy, &in.x[part][i].v, 2 * h, &noise);
            const double allowed = fabs(two - one) + noise, off = fabs(one - dx.v);
            cr_assert_leq(off, allowed, "%s: input %zu element %zu: gradient %.12g, difference %.12g, allowed %.2g",
                          op->name, part, i, dx.v, one, allowed);
            worst = fmax(worst, off);
            loosest = fmax(loosest, allowed);
            largest = fmax(largest, fabs(dx.v));
        }
    cr_log_info("%s: gradients to %.3g, off by at most %.2g, at most %.2g allowed", op->name, largest, worst, loosest);
    cr_assert_lt(loosest, 1e-6 * largest, "%s: the differences see nothing: %.2g of %.2g", op->name, loosest, largest);
    unmake(&in);
}

/* The worst ratio of what was computed in f32 to the bounds. */
static double worst_ratio(const char *name, const size_t *n, struct num *const *single, struct num *const *want)
{
    double worst = 0;
    for (size_t part = 0; part < PARTS; part++) {
        float *got = calloc(n[part] + 1, sizeof *got);
        for (size_t i = 0; i < n[part]; i++)
            got[i] = (float)single[part][i].v;
        const struct ref_check c = ref_compare(got, want[part], n[part]);
        cr_assert(ref_ok(&c), "%s: array %zu element %zu: %.9g instead of %.9g +- %.2g", name, part, c.index, c.got,
                  c.v, c.e);
        cr_assert_lt(c.weakest, 1e-4, "%s: array %zu: a bound of %.2g of the range", name, part, c.weakest);
        worst = fmax(worst, c.ratio);
        free(got);
    }
    return worst;
}

ParameterizedTest(size_t *index, oracle, bounds)
{
    const struct op *op = &ops[*index];
    struct instance want = make(op);
    for (enum num_mode mode = NUM_SINGLE; mode <= NUM_BIASED; mode++) {
        num_mode = mode;
        struct instance single = make(op);
        num_mode = NUM_DOUBLE;
        const double forward = worst_ratio(op->name, op->out, single.y, want.y);
        const double backward = worst_ratio(op->name, op->in, single.dx, want.dx);
        cr_log_info("%s, %s: error / bound at most %.3f forward, %.3f backward", op->name,
                    mode == NUM_BIASED ? "biased functions" : "f32", forward, backward);
        unmake(&single);
    }
    unmake(&want);
}
