#include "oracle.h"

#include <stdlib.h>

enum num_mode num_mode;

struct num *ref_new(size_t n)
{
    struct num *x = calloc(n ? n : 1, sizeof *x);
    if (!x)
        abort();
    return x;
}

struct num *ref_exact_new(const float *x, size_t n)
{
    struct num *out = ref_new(n);
    for (size_t i = 0; i < n; i++)
        out[i] = num_exact(x[i]);
    return out;
}

struct ref_check ref_compare(const float *got, const struct num *want, size_t n)
{
    struct ref_check c = {0};
    double widest = 0, largest = 0;
    for (size_t i = 0; i < n; i++) {
        const double distance = fabs((double)got[i] - want[i].v);
        double ratio = distance == 0 ? 0 : distance / want[i].e;
        c.bad += !isfinite(got[i]);
        if (!isfinite(got[i]) || !isfinite(want[i].e)) /* without a bound there is nothing to pass */
            ratio = INFINITY;
        if (ratio > 1 && c.wrong++ == 0)
            c.first = i;
        if (i == 0 || ratio > c.ratio) {
            c.ratio = ratio;
            c.index = i;
            c.got = got[i];
            c.v = want[i].v;
            c.e = want[i].e;
        }
        widest = fmax(widest, want[i].e);
        largest = fmax(largest, fabs(want[i].v));
    }
    c.weakest = widest == 0 ? 0 : widest / largest;
    return c;
}

bool ref_ok(const struct ref_check *check)
{
    return check->bad == 0 && check->ratio <= 1;
}

void ref_embed(size_t T, size_t D, const uint32_t *tok, const struct num *w, struct num *y)
{
    for (size_t t = 0; t < T; t++)
        for (size_t d = 0; d < D; d++)
            y[t * D + d] = w[tok[t] * D + d];
}

void ref_embed_backward(size_t T, size_t D, const uint32_t *tok, const struct num *dy, struct num *dw)
{
    for (size_t t = 0; t < T; t++) {
        bool seen = false;
        for (size_t s = 0; s < t && !seen; s++)
            seen = tok[s] == tok[t];
        for (size_t d = 0; d < D && !seen; d++) {
            struct num_sum sum = {0};
            num_sum_add(&sum, dw[tok[t] * D + d]);
            for (size_t s = t; s < T; s++)
                if (tok[s] == tok[t])
                    num_sum_add(&sum, dy[s * D + d]);
            dw[tok[t] * D + d] = num_sum_end(&sum);
        }
    }
}

static struct num rms_inverse(size_t D, const struct num *x, double eps)
{
    struct num_sum sum = {0};
    for (size_t d = 0; d < D; d++)
        num_sum_mul(&sum, x[d], x[d]);
    return num_rsqrt(num_add(num_div(num_sum_end(&sum), num_exact((double)D)), num_exact(eps)));
}

void ref_rmsnorm(size_t T, size_t D, const struct num *x, const struct num *w, double eps, struct num *y,
                 struct num *rstd)
{
    for (size_t t = 0; t < T; t++) {
        const struct num r = rms_inverse(D, x + t * D, eps);
        if (rstd)
            rstd[t] = r;
        for (size_t d = 0; d < D; d++)
            y[t * D + d] = num_mul(num_mul(x[t * D + d], r), w[d]);
    }
}

void ref_rmsnorm_backward(size_t T, size_t D, const struct num *x, const struct num *w, const struct num *dy,
                          double eps, struct num *dx, struct num *dw)
{
    struct num *rstd = ref_new(T);
    for (size_t t = 0; t < T; t++) {
        const struct num *xt = x + t * D, *dyt = dy + t * D;
        const struct num r = rstd[t] = rms_inverse(D, xt, eps);
        struct num_sum sum = {0};
        for (size_t d = 0; d < D; d++)
            num_sum_mul(&sum, num_mul(w[d], dyt[d]), num_mul(xt[d], r));
        const struct num mean = num_div(num_sum_end(&sum), num_exact((double)D));
        for (size_t d = 0; d < D; d++) {
            const struct num along = num_mul(num_mul(xt[d], r), mean);
            dx[t * D + d] = num_mul(r, num_sub(num_mul(w[d], dyt[d]), along));
        }
    }
    for (size_t d = 0; d < D && dw; d++) {
        struct num_sum sum = {0};
        num_sum_add(&sum, dw[d]);
        for (size_t t = 0; t < T; t++)
            num_sum_mul(&sum, dy[t * D + d], num_mul(x[t * D + d], rstd[t]));
        dw[d] = num_sum_end(&sum);
    }
    free(rstd);
}

void ref_add(size_t n, const struct num *a, const struct num *b, struct num *y)
{
    for (size_t i = 0; i < n; i++)
        y[i] = num_add(a[i], b[i]);
}

/* Where a matrix's element (row, column) lies. */
struct stride {
    size_t row, column;
};

/* c [M,N] = (accumulate ? c : 0) + alpha * a b with a (m, k), b (k, n) by their strides */
static void multiply(size_t M, size_t N, size_t K, double alpha, const struct num *a, struct stride as,
                     const struct num *b, struct stride bs, bool accumulate, struct num *c)
{
    for (size_t m = 0; m < M; m++)
        for (size_t n = 0; n < N; n++) {
            struct num_sum sum = {0};
            for (size_t k = 0; k < K; k++)
                num_sum_mul(&sum, a[m * as.row + k * as.column], b[k * bs.row + n * bs.column]);
            num_sum_scale(&sum, alpha);
            if (accumulate)
                num_sum_add(&sum, c[m * N + n]);
            c[m * N + n] = num_sum_end(&sum);
        }
}

void ref_gemm_nt(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b, bool accumulate,
                 struct num *c)
{
    multiply(M, N, K, alpha, a, (struct stride){K, 1}, b, (struct stride){1, K}, accumulate, c);
}

void ref_gemm_nn(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b, bool accumulate,
                 struct num *c)
{
    multiply(M, N, K, alpha, a, (struct stride){K, 1}, b, (struct stride){N, 1}, accumulate, c);
}

void ref_gemm_tn(size_t M, size_t N, size_t K, double alpha, const struct num *a, const struct num *b, bool accumulate,
                 struct num *c)
{
    multiply(M, N, K, alpha, a, (struct stride){1, M}, b, (struct stride){N, 1}, accumulate, c);
}

static void grouped_rows(size_t G, const uint32_t *offset, size_t N, size_t K, const struct num *a,
                         const uint32_t *a_row, const struct num *b, struct stride bs, bool accumulate, struct num *c)
{
    for (size_t g = 0; g < G; g++)
        for (size_t r = offset[g]; r < offset[g + 1]; r++) {
            const struct num *row = a + (a_row ? a_row[r] : r) * K;
            multiply(1, N, K, 1, row, (struct stride){K, 1}, b + g * N * K, bs, accumulate, c + r * N);
        }
}

void ref_grouped_nt(size_t G, const uint32_t *offset, size_t N, size_t K, const struct num *a, const uint32_t *a_row,
                    const struct num *b, bool accumulate, struct num *c)
{
    grouped_rows(G, offset, N, K, a, a_row, b, (struct stride){1, K}, accumulate, c);
}

void ref_grouped_nn(size_t G, const uint32_t *offset, size_t N, size_t K, const struct num *a, const uint32_t *a_row,
                    const struct num *b, bool accumulate, struct num *c)
{
    grouped_rows(G, offset, N, K, a, a_row, b, (struct stride){N, 1}, accumulate, c);
}

void ref_grouped_tn(size_t G, const uint32_t *offset, size_t M, size_t N, const struct num *a, const uint32_t *a_row,
                    const struct num *b, const uint32_t *b_row, bool accumulate, struct num *c)
{
    for (size_t g = 0; g < G; g++)
        for (size_t m = 0; m < M; m++)
            for (size_t n = 0; n < N; n++) {
                struct num *out = &c[(g * M + m) * N + n];
                struct num_sum sum = {0};
                for (size_t r = offset[g]; r < offset[g + 1]; r++)
                    num_sum_mul(&sum, a[(a_row ? a_row[r] : r) * M + m], b[(b_row ? b_row[r] : r) * N + n]);
                if (accumulate)
                    num_sum_add(&sum, *out);
                *out = num_sum_end(&sum);
            }
}
