/* Plain f32 loops, arranged as kernels are and not as the reference is, against its bounds on the shared shapes. */
#include "cases/cases.h"
#include "oracle/oracle.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static float *filled(size_t n, uint64_t seed, float scale)
{
    float *x = calloc(n + 1, sizeof *x);
    case_fill(x, n, seed, scale);
    return x;
}

/* Fails unless within the bounds; keeps the worst ratio. */
static void within(const char *what, size_t shape, const float *got, const struct num *want, size_t n, double *worst)
{
    const struct ref_check c = ref_compare(got, want, n);
    cr_assert(ref_ok(&c), "%s, shape %zu, element %zu: %.9g instead of %.9g +- %.2g", what, shape, c.index, c.got, c.v,
              c.e);
    *worst = fmax(*worst, c.ratio);
}

/* Neither above the bound nor so far below that the bound would hide a wrong kernel. */
static void report(const char *what, double worst)
{
    cr_log_info("%s: error / bound at most %.3f", what, worst);
    cr_assert_gt(worst, 0.01, "%s: the bounds are absurdly wide", what);
}

/* Fused, in four partial sums, as a kernel that reads A by vec4 does. */
Test(oracle_f32, gemm)
{
    double worst = 0;
    for (size_t s = 0; s < CASE_COUNT(case_gemms); s++) {
        const size_t M = case_gemms[s].M, N = case_gemms[s].N, K = case_gemms[s].K;
        float *a = filled(M * K, 1, 1), *b = filled(N * K, 2, 1), *c = filled(M * N, 3, 1);
        struct num *A = ref_exact_new(a, M * K), *B = ref_exact_new(b, N * K), *C = ref_exact_new(c, M * N);
        ref_gemm_nt(M, N, K, 1, A, B, true, C);
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                float sum[4] = {0};
                for (size_t k = 0; k < K; k++)
                    sum[k % 4] = fmaf(a[m * K + k], b[n * K + k], sum[k % 4]);
                c[m * N + n] += (sum[0] + sum[2]) + (sum[1] + sum[3]);
            }
        within("gemm", s, c, C, M * N, &worst);
        free(a), free(b), free(c), free(A), free(B), free(C);
    }
    report("gemm", worst);
}

Test(oracle_f32, rmsnorm)
{
    double worst = 0;
    for (size_t s = 0; s < CASE_COUNT(case_norms); s++) {
        const size_t T = case_norms[s].T, D = case_norms[s].D;
        float *x = filled(T * D, 1, 3), *w = filled(D, 2, 1), *dy = filled(T * D, 3, 1), *y = filled(T * D, 4, 1);
        float *dx = filled(T * D, 5, 1), *dw = filled(D, 0, 0);
        struct num *X = ref_exact_new(x, T * D), *W = ref_exact_new(w, D), *DY = ref_exact_new(dy, T * D);
        struct num *Y = ref_new(T * D), *DX = ref_new(T * D), *DW = ref_new(D);
        ref_rmsnorm(T, D, X, W, 1e-5f, Y, NULL);
        ref_rmsnorm_backward(T, D, X, W, DY, 1e-5f, DX, DW);
        for (size_t t = 0; t < T; t++) {
            const float *xt = x + t * D, *dyt = dy + t * D;
            float square = 0, along = 0;
            for (size_t d = 0; d < D; d++) {
                square = fmaf(xt[d], xt[d], square);
                along = fmaf(w[d] * dyt[d], xt[d], along);
            }
            const float r = 1 / sqrtf(square * (1.0f / (float)D) + 1e-5f), c = r * r * (along / (float)D);
            for (size_t d = 0; d < D; d++) {
                y[t * D + d] = xt[d] * (r * w[d]);
                dx[t * D + d] = r * (w[d] * dyt[d] - xt[d] * c);
                dw[d] = fmaf(dyt[d] * r, xt[d], dw[d]);
            }
        }
        within("rmsnorm", s, y, Y, T * D, &worst);
        within("rmsnorm dx", s, dx, DX, T * D, &worst);
        within("rmsnorm dw", s, dw, DW, D, &worst);
        free(x), free(w), free(dy), free(y), free(dx), free(dw);
        free(X), free(W), free(DY), free(Y), free(DX), free(DW);
    }
    report("rmsnorm", worst);
}

/* One query over keys 0..i, online: rescales whenever the maximum grows. o [hd]; returns the log-sum-exp. */
static float attend(size_t hd, size_t stride, const float *q, const float *k, const float *v, size_t i, float *o)
{
    float max = -INFINITY, sum = 0;
    for (size_t d = 0; d < hd; d++)
        o[d] = 0;
    for (size_t j = 0; j <= i; j++) {
        float s = 0;
        for (size_t d = 0; d < hd; d++)
            s = fmaf(q[d] * (1 / sqrtf((float)hd)), k[j * stride + d], s);
        const float top = fmaxf(max, s), keep = expf(max - top), p = expf(s - top);
        sum = sum * keep + p;
        for (size_t d = 0; d < hd; d++)
            o[d] = o[d] * keep + p * v[j * stride + d];
        max = top;
    }
    for (size_t d = 0; d < hd; d++)
        o[d] /= sum;
    return max + logf(sum);
}

/* dk, dv by adding a query at a time, dq of the query; P from the saved log-sum-exp. */
static void attend_backward(size_t hd, size_t stride, const float *q, const float *k, const float *v, const float *o,
                            const float *dout, float lse, size_t i, float *dq, float *dk, float *dv)
{
    const float scale = 1 / sqrtf((float)hd);
    float delta = 0;
    for (size_t d = 0; d < hd; d++)
        delta = fmaf(dout[d], o[d], delta);
    for (size_t j = 0; j <= i; j++) {
        float s = 0, dp = 0;
        for (size_t d = 0; d < hd; d++) {
            s = fmaf(q[d], k[j * stride + d], s);
            dp = fmaf(dout[d], v[j * stride + d], dp);
        }
        const float p = expf(s * scale - lse), ds = p * (dp - delta) * scale;
        for (size_t d = 0; d < hd; d++) {
            dq[d] = fmaf(ds, k[j * stride + d], dq[d]);
            dk[j * stride + d] = fmaf(ds, q[d], dk[j * stride + d]);
            dv[j * stride + d] = fmaf(p, dout[d], dv[j * stride + d]);
        }
    }
}

Test(oracle_f32, attention)
{
    double worst = 0, wide = 0;
    for (size_t c = 0; c < 2 * CASE_COUNT(case_attentions); c++) {
        const struct case_attention *s = &case_attentions[c / 2];
        const struct ref_heads heads = {.B = s->B, .S = s->S, .H = s->H, .hd = s->hd};
        const size_t S = s->S, H = s->H, hd = s->hd, T = s->B * S, D = H * hd;
        float *qkv = filled(T * 3 * D, c, c % 2 ? 3 : 1), *dout = filled(T * D, 2, 1), *o = filled(T * D, 0, 0);
        float *lse = filled(T * H, 0, 0), *dqkv = filled(T * 3 * D, 0, 0);
        struct num *QKV = ref_exact_new(qkv, T * 3 * D), *DOUT = ref_exact_new(dout, T * D), *O = ref_new(T * D);
        struct num *LSE = ref_new(T * H), *DQKV = ref_new(T * 3 * D);
        ref_attention(heads, QKV, O, LSE);
        ref_attention_backward(heads, QKV, DOUT, DQKV);
        for (size_t t = 0; t < T; t++)
            for (size_t h = 0; h < H; h++) {
                const size_t q = t * 3 * D + h * hd, k = (t / S * S * 3 + 1) * D + h * hd, at = t * D + h * hd;
                lse[t * H + h] = attend(hd, 3 * D, qkv + q, qkv + k, qkv + k + D, t % S, o + at);
                attend_backward(hd, 3 * D, qkv + q, qkv + k, qkv + k + D, o + at, dout + at, lse[t * H + h], t % S,
                                dqkv + q, dqkv + k, dqkv + k + D);
            }
        within("attention", c, o, O, T * D, &worst);
        within("lse", c, lse, LSE, T * H, &worst);
        within("attention backward", c, dqkv, DQKV, T * 3 * D, &worst);
        wide = fmax(wide, ref_compare(dqkv, DQKV, T * 3 * D).weakest);
        free(qkv), free(dout), free(o), free(lse), free(dqkv), free(QKV), free(DOUT), free(O), free(LSE), free(DQKV);
    }
    report("attention", worst);
    cr_assert_lt(wide, 1e-3, "a gradient's bound is %.2g of the range", wide);
}

/* Online over the vocabulary in 16 strands that are merged at the end; the gradient from the log-sum-exp. */
Test(oracle_f32, xent)
{
    enum { STRANDS = 16 };
    const float zc = 1e-3f;
    double worst = 0;
    for (size_t c = 0; c < CASE_COUNT(case_xents); c++) {
        const struct case_xent *s = &case_xents[c];
        const size_t T = s->T, V = s->V;
        float *x = filled(T * V, 1, s->scale), *loss = filled(T, 0, 0), *zloss = filled(T, 0, 0);
        float *dx = filled(T * V, 0, 0);
        uint32_t *target = calloc(T, sizeof *target);
        struct num *X = ref_exact_new(x, T * V), *LOSS = ref_new(T), *ZLOSS = ref_new(T), *DX = ref_new(T * V);
        case_fill_targets(target, s, 2);
        ref_xent(T, V, X, target, zc, 1.0f / 64, LOSS, ZLOSS, DX);
        for (size_t t = 0; t < T; t++) {
            float max[STRANDS], sum[STRANDS] = {0}, top = -INFINITY, total = 0;
            for (size_t i = 0; i < STRANDS; i++)
                max[i] = -1e30f;
            for (size_t v = 0; v < V; v++) {
                const size_t i = v % STRANDS;
                const float larger = fmaxf(max[i], x[t * V + v]);
                sum[i] = sum[i] * expf(max[i] - larger) + expf(x[t * V + v] - larger);
                max[i] = larger;
            }
            for (size_t i = 0; i < STRANDS; i++)
                top = fmaxf(top, max[i]);
            for (size_t i = 0; i < STRANDS; i++)
                total += sum[i] * expf(max[i] - top);
            const float lse = top + logf(total);
            if (target[t] == REF_IGNORED)
                continue;
            loss[t] = lse - x[t * V + target[t]];
            zloss[t] = zc * lse * lse;
            for (size_t v = 0; v < V; v++)
                dx[t * V + v] = (expf(x[t * V + v] - lse) * (1 + 2 * zc * lse) - (v == target[t])) * (1.0f / 64);
        }
        within("loss", c, loss, LOSS, T, &worst);
        within("z-loss", c, zloss, ZLOSS, T, &worst);
        within("dlogits", c, dx, DX, T * V, &worst);
        free(x), free(loss), free(zloss), free(dx), free(target), free(X), free(LOSS), free(ZLOSS), free(DX);
    }
    report("xent", worst);
}

Test(oracle_f32, gate_and_swiglu)
{
    double gates = 0, experts = 0;
    for (size_t c = 0; c < CASE_COUNT(case_gates); c++) {
        const size_t T = case_gates[c].T, E = case_gates[c].E, K = case_gates[c].K;
        float *z = filled(T * E, 0, 0), *g = filled(T * K, 0, 0);
        uint32_t *idx = calloc(T * K, sizeof *idx);
        case_fill_scores(z, &case_gates[c], c);
        struct num *Z = ref_exact_new(z, T * E), *P = ref_new(T * E), *G = ref_new(T * K);
        const struct ref_gate gate = {.T = T, .E = E, .K = K, .norm_topk = true};
        ref_gate(&gate, false, Z, P, idx, G, NULL);
        cr_assert(ref_topk_admissible(T, E, K, Z, idx), "shape %zu", c);
        for (size_t t = 0; t < T; t++) {
            float sum = 0;
            for (size_t k = 0; k < K; k++)
                sum += g[t * K + k] = expf(z[t * E + idx[t * K + k]] - z[t * E + idx[t * K]]);
            for (size_t k = 0; k < K; k++)
                g[t * K + k] /= sum;
        }
        within("gate, softmax over the chosen", c, g, G, T * K, &gates);
        free(z), free(g), free(idx), free(Z), free(P), free(G);
    }
    report("gate", gates);

    enum { N = 1000 };
    float *h = filled(2 * N, 1, 20), *da = filled(N, 2, 1), dh[2 * N], a[N];
    struct num *h13 = ref_exact_new(h, 2 * N), *DA = ref_exact_new(da, N), A[N], DH[2 * N];
    ref_swiglu(1, N, h13, A);
    ref_swiglu_backward(1, N, h13, DA, DH);
    for (size_t i = 0; i < N; i++) {
        const float s = 1 / (1 + expf(-h[i])), silu = h[i] * s;
        a[i] = silu * h[N + i];
        dh[i] = da[i] * h[N + i] * (s + silu * (1 - s));
        dh[N + i] = da[i] * silu;
    }
    within("swiglu", 0, a, A, N, &experts);
    within("swiglu backward", 0, dh, DH, 2 * N, &experts);
    report("swiglu", experts);
    free(h), free(da), free(h13), free(DA);
}

/* Orthonormal rows leave the signs of nearly all entries to rounding. */
Test(oracle_f32, simbal)
{
    double worst = 0;
    for (size_t c = 0; c < CASE_COUNT(case_routers); c++) {
        const size_t E = case_routers[c].E, D = case_routers[c].D;
        float *w = filled(E * D, 0, 0), *dw = filled(E * D, 0, 0), loss = 0, largest = 0, square = 0;
        case_fill_router(w, &case_routers[c], 7);
        struct num *W = ref_exact_new(w, E * D), *DW = ref_new(E * D), LOSS = ref_simbal(E, D, 0.1f, W, DW);
        struct num LARGEST, SQUARE;
        ref_orthogonality(E, D, W, &LARGEST, &SQUARE);
        for (size_t i = 0; i < E; i++)
            for (size_t j = 0; j < E; j++) {
                float g = 0;
                for (size_t d = D; d-- > 0;)
                    g = fmaf(w[i * D + d], w[j * D + d], g);
                g -= i == j;
                loss += fabsf(g);
                square += g * g;
                largest = fmaxf(largest, fabsf(g));
                for (size_t d = 0; d < D; d++)
                    dw[i * D + d] += 2 * 0.1f * (float)((g > 0) - (g < 0)) * w[j * D + d];
            }
        loss *= 0.1f;
        square /= (float)(E * E);
        within("largest entry", c, &largest, &LARGEST, 1, &worst);
        within("mean square", c, &square, &SQUARE, 1, &worst);
        within("simbal", c, &loss, &LOSS, 1, &worst);
        within("simbal gradient", c, dw, DW, E * D, &worst);
        free(w), free(dw), free(W), free(DW);
    }
    report("simbal", worst);
}

Test(oracle_f32, adamw)
{
    const struct ref_adamw opt = {.lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f, .weight_decay = 0.1f,
                                  .bias1 = 0.271f, .bias2 = 0.142625f};
    double worst = 0;
    for (size_t c = 0; c < CASE_COUNT(case_lengths); c++) {
        const size_t n = case_lengths[c];
        float *g = filled(n, 1, 1), *w = filled(n, 2, 1), *m = filled(n, 3, 1), *v = filled(n, 4, 1), square = 0;
        for (size_t i = 0; i < n; i++)
            v[i] = i % 5 ? fabsf(v[i]) * 1e-3f : 0;
        g[0] = 0;
        struct num *G = ref_exact_new(g, n), *W = ref_exact_new(w, n), *M = ref_exact_new(m, n);
        struct num *U = ref_exact_new(v, n);
        struct num norm = ref_grad_norm(n, G), factor = ref_clip_factor(1, norm);
        for (size_t i = 0; i < n; i++)
            square += g[i] * g[i];
        const float got = sqrtf(square), clip = got > 1 ? 1 / got : 1;
        ref_adamw(&opt, n, factor, G, W, M, U);
        for (size_t i = 0; i < n; i++) {
            const float d = g[i] * clip;
            m[i] += (1 - 0.9f) * (d - m[i]);
            v[i] = fmaf(0.95f, v[i], (1 - 0.95f) * d * d);
            const float step = m[i] / 0.271f / (sqrtf(v[i] / 0.142625f) + 1e-8f);
            w[i] -= 1e-3f * (step + 0.1f * w[i]);
        }
        within("norm", c, &got, &norm, 1, &worst);
        within("moment 1", c, m, M, n, &worst);
        within("moment 2", c, v, U, n, &worst);
        within("weights", c, w, W, n, &worst);
        free(g), free(w), free(m), free(v), free(G), free(W), free(M), free(U);
    }
    report("adamw", worst);
}
