#include "oracle.h"

#include <stdlib.h>
#include <string.h>

void ref_swiglu(size_t R, size_t F, const struct num *h13, struct num *a)
{
    for (size_t r = 0; r < R; r++)
        for (size_t f = 0; f < F; f++) {
            const struct num h1 = h13[r * 2 * F + f], h3 = h13[r * 2 * F + F + f];
            a[r * F + f] = num_mul(num_mul(h1, num_sigmoid(h1)), h3);
        }
}

void ref_swiglu_backward(size_t R, size_t F, const struct num *h13, const struct num *da, struct num *dh13)
{
    const struct num one = num_exact(1);
    for (size_t r = 0; r < R; r++)
        for (size_t f = 0; f < F; f++) {
            const struct num h1 = h13[r * 2 * F + f], h3 = h13[r * 2 * F + F + f], d = da[r * F + f];
            const struct num s = num_sigmoid(h1);
            const struct num slope = num_mul(s, num_add(one, num_mul(h1, num_sub(one, s))));
            dh13[r * 2 * F + f] = num_mul(num_mul(d, h3), slope);
            dh13[r * 2 * F + F + f] = num_mul(d, num_mul(h1, s));
        }
}

void ref_combine(size_t T, size_t D, size_t K, const uint32_t *row_of, const struct num *g, const struct num *y,
                 struct num *out)
{
    for (size_t t = 0; t < T; t++)
        for (size_t d = 0; d < D; d++) {
            struct num_sum sum = {0};
            for (size_t k = t * K; k < (t + 1) * K; k++)
                num_sum_mul(&sum, g ? g[k] : num_exact(1), y[row_of[k] * D + d]);
            out[t * D + d] = num_sum_end(&sum);
        }
}

void ref_gate_gradient(size_t T, size_t K, size_t F, const uint32_t *row_of, const struct num *da_raw,
                       const struct num *a, struct num *dg)
{
    for (size_t slot = 0; slot < T * K; slot++) {
        struct num_sum sum = {0};
        for (size_t f = 0; f < F; f++)
            num_sum_mul(&sum, da_raw[row_of[slot] * F + f], a[row_of[slot] * F + f]);
        dg[slot] = num_sum_end(&sum);
    }
}

static uint32_t *integers(size_t n)
{
    uint32_t *x = calloc(n ? n : 1, sizeof *x);
    if (!x)
        abort();
    return x;
}

static struct ref_gate gate_of(const struct ref_moe *moe)
{
    return (struct ref_gate){.T = moe->T, .E = moe->E, .K = moe->K, .sigmoid = moe->sigmoid, .norm_topk = moe->norm_topk,
                             .bias = moe->bias};
}

void ref_moe_forward(const struct ref_moe *moe, const struct ref_moe_weights *w, const struct num *x,
                     const uint32_t *idx, struct ref_moe_state *state, struct num *out)
{
    const size_t T = moe->T, D = moe->D, E = moe->E, K = moe->K, F = moe->F, R = T * K;
    struct ref_moe_state *s = state;
    *s = (struct ref_moe_state){
        .z = ref_new(T * E), .p = ref_new(T * E), .lse = ref_new(T), .g = ref_new(R),
        .h13 = ref_new(R * 2 * F), .a = ref_new(R * F), .y = ref_new(R * D),
        .idx = integers(R), .counts = integers(E), .offset = integers(E + 1),
        .row_of = integers(R), .token_of = integers(R), .slot_of = integers(R),
    };
    if (idx)
        memcpy(s->idx, idx, R * sizeof *idx);

    ref_gemm_nt(T, E, D, 1, x, w->router, false, s->z);
    const struct ref_gate gate = gate_of(moe);
    ref_gate(&gate, idx != NULL, s->z, s->p, s->idx, s->g, s->lse);
    ref_dispatch(T, E, K, s->idx, s->counts, s->offset, s->row_of, s->token_of, s->slot_of);
    ref_grouped_nt(E, s->offset, 2 * F, D, x, s->token_of, w->w13, false, s->h13);
    ref_swiglu(R, F, s->h13, s->a);
    ref_grouped_nt(E, s->offset, D, F, s->a, NULL, w->w2, false, s->y);
    ref_combine(T, D, K, s->row_of, s->g, s->y, out);
}

/* y [R,F] = the row's gate weight times x [R,F] */
static void scale_rows(size_t R, size_t F, const struct ref_moe_state *s, const struct num *x, struct num *y)
{
    for (size_t r = 0; r < R; r++)
        for (size_t f = 0; f < F; f++)
            y[r * F + f] = num_mul(s->g[s->slot_of[r]], x[r * F + f]);
}

void ref_moe_backward(const struct ref_moe *moe, const struct ref_moe_weights *w, const struct num *x,
                      const struct ref_moe_state *state, const struct num *dout, const struct num *dp_extra, double z_coef,
                      const struct ref_moe_grads *grads)
{
    const size_t T = moe->T, D = moe->D, E = moe->E, K = moe->K, F = moe->F, R = T * K;
    const struct ref_moe_state *s = state;
    struct num *da_raw = ref_new(R * F), *da = ref_new(R * F), *ga = ref_new(R * F), *dh13 = ref_new(R * 2 * F);
    struct num *dx_rows = ref_new(R * D), *dg = ref_new(R), *dz = ref_new(T * E);

    ref_grouped_nn(E, s->offset, F, D, dout, s->token_of, w->w2, false, da_raw);
    ref_gate_gradient(T, K, F, s->row_of, da_raw, s->a, dg);
    scale_rows(R, F, s, da_raw, da);
    scale_rows(R, F, s, s->a, ga);
    ref_grouped_tn(E, s->offset, D, F, dout, s->token_of, ga, NULL, true, grads->dw2);
    ref_swiglu_backward(R, F, s->h13, da, dh13);
    ref_grouped_tn(E, s->offset, 2 * F, D, dh13, NULL, x, s->token_of, true, grads->dw13);
    ref_grouped_nn(E, s->offset, D, 2 * F, dh13, NULL, w->w13, false, dx_rows);
    ref_combine(T, D, K, s->row_of, NULL, dx_rows, grads->dx);

    const struct ref_gate gate = gate_of(moe);
    ref_gate_backward(&gate, s->z, s->idx, dg, dp_extra, z_coef, dz);
    ref_gemm_tn(E, D, T, 1, dz, x, true, grads->drouter);
    ref_gemm_nn(T, D, E, 1, dz, w->router, true, grads->dx);

    free(da_raw);
    free(da);
    free(ga);
    free(dh13);
    free(dx_rows);
    free(dg);
    free(dz);
}

void ref_moe_state_free(struct ref_moe_state *state)
{
    struct num *numbers[] = {state->z, state->p, state->lse, state->g, state->h13, state->a, state->y};
    uint32_t *indices[] = {state->idx, state->counts, state->offset, state->row_of, state->token_of, state->slot_of};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        free(numbers[i]);
    for (size_t i = 0; i < sizeof indices / sizeof *indices; i++)
        free(indices[i]);
    *state = (struct ref_moe_state){0};
}

void ref_shared_forward(size_t T, size_t D, size_t G, const struct num *x, const struct num *w13, const struct num *w2,
                        struct num *h13, struct num *a, struct num *y)
{
    ref_gemm_nt(T, 2 * G, D, 1, x, w13, false, h13);
    ref_swiglu(T, G, h13, a);
    ref_gemm_nt(T, D, G, 1, a, w2, true, y);
}

void ref_shared_backward(size_t T, size_t D, size_t G, const struct num *x, const struct num *w13, const struct num *w2,
                         const struct num *h13, const struct num *a, const struct num *dout, struct num *dx,
                         struct num *dw13, struct num *dw2)
{
    struct num *da = ref_new(T * G), *dh13 = ref_new(T * 2 * G);
    ref_gemm_nn(T, G, D, 1, dout, w2, false, da);
    ref_gemm_tn(D, G, T, 1, dout, a, true, dw2);
    ref_swiglu_backward(T, G, h13, da, dh13);
    ref_gemm_tn(2 * G, D, T, 1, dh13, x, true, dw13);
    ref_gemm_nn(T, D, 2 * G, 1, dh13, w13, true, dx);
    free(da);
    free(dh13);
}
