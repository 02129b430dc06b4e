#include "oracle.h"

#include <stdlib.h>

void ref_xent(size_t T, size_t V, const struct num *logits, const uint32_t *target, double zc, double scale,
              struct num *loss, struct num *zloss, struct num *dlogits)
{
    struct num *p = ref_new(V);
    for (size_t t = 0; t < T; t++) {
        const struct num *x = logits + t * V;
        const bool counts = target[t] != REF_IGNORED;
        const struct num lse = ref_softmax(V, x, p);
        loss[t] = counts ? num_sub(lse, x[target[t]]) : num_exact(0);
        if (zloss)
            zloss[t] = counts ? num_mul(num_exact(zc), num_mul(lse, lse)) : num_exact(0);
        const struct num stretch = num_add(num_exact(1), num_mul(num_exact(2 * zc), lse));
        for (size_t v = 0; v < V && dlogits; v++) {
            struct num d = num_mul(p[v], stretch);
            if (v == target[t])
                d = num_sub(d, num_exact(1));
            dlogits[t * V + v] = counts ? num_mul(num_exact(scale), d) : num_exact(0);
        }
    }
    free(p);
}

/* Entry (i, j) of W W^T - I */
static struct num gram(size_t D, const struct num *w, size_t i, size_t j)
{
    struct num_sum sum = {0};
    for (size_t d = 0; d < D; d++)
        num_sum_mul(&sum, w[i * D + d], w[j * D + d]);
    return num_sub(num_sum_end(&sum), num_exact(i == j));
}

struct num ref_simbal(size_t E, size_t D, double coef, const struct num *w, struct num *dw)
{
    struct num_sum loss = {0};
    for (size_t i = 0; i < E; i++) {
        struct num_sum *rows = calloc(D, sizeof *rows);
        double *unsure = calloc(D, sizeof *unsure); /* what terms whose sign is open may be off by */
        if (!rows || !unsure)
            abort();
        for (size_t j = 0; j < E; j++) {
            const struct num g = gram(D, w, i, j);
            const double sign = (g.v > 0) - (g.v < 0);
            num_sum_add(&loss, num_abs(g));
            for (size_t d = 0; d < D; d++) {
                const struct num term = w[j * D + d];
                if (sign != 0)
                    num_sum_add(&rows[d], sign > 0 ? term : num_neg(term));
                if (fabs(g.v) <= g.e && g.e > 0)
                    unsure[d] += 2 * (fabs(term.v) + term.e);
            }
        }
        for (size_t d = 0; d < D && dw; d++) {
            num_sum_scale(&rows[d], 2 * coef);
            num_sum_add(&rows[d], dw[i * D + d]);
            dw[i * D + d] = num_widen(num_sum_end(&rows[d]), 2 * coef * unsure[d]);
        }
        free(rows);
        free(unsure);
    }
    num_sum_scale(&loss, coef);
    return num_sum_end(&loss);
}

static bool chosen(size_t K, const uint32_t *idx, size_t expert)
{
    for (size_t k = 0; k < K; k++)
        if (idx[k] == expert)
            return true;
    return false;
}

void ref_load(const struct ref_gate *gate, size_t Tg, const uint32_t *idx, struct num *load)
{
    for (size_t group = 0; group < gate->T / Tg; group++)
        for (size_t e = 0; e < gate->E; e++) {
            size_t active = 0;
            for (size_t t = group * Tg; t < (group + 1) * Tg; t++)
                active += chosen(gate->K, idx + t * gate->K, e);
            load[group * gate->E + e] = num_div(num_exact((double)active), num_exact((double)Tg));
        }
}

void ref_load_total(size_t E, size_t K, const uint32_t *count, struct num *load)
{
    double rows = 0;
    for (size_t e = 0; e < E; e++)
        rows += count[e];
    for (size_t e = 0; e < E; e++)
        load[e] = num_div(num_exact((double)K * count[e]), num_exact(rows));
}

struct num ref_lbl(const struct ref_gate *gate, size_t Tg, bool full, const struct num *load, const struct num *p,
                   const uint32_t *idx, double coef, struct num *dp)
{
    const size_t E = gate->E;
    const struct num factor = num_div(num_mul(num_exact(coef), num_exact((double)E)), num_exact((double)gate->T));
    struct num_sum loss = {0};
    for (size_t t = 0; t < gate->T; t++, p += E, idx += gate->K) {
        const struct num *f = load + t / Tg * E;
        struct num_sum term = {0}, total = {0}, along = {0};
        for (size_t e = 0; e < E; e++) {
            const bool counts = full || chosen(gate->K, idx, e);
            const struct num c = counts ? num_mul(factor, f[e]) : num_exact(0);
            num_sum_mul(&term, counts ? f[e] : num_exact(0), p[e]);
            num_sum_mul(&along, c, p[e]);
            num_sum_add(&total, p[e]);
            if (dp)
                dp[t * E + e] = c;
        }
        const struct num sum = num_sum_end(&total), mean = num_div(num_sum_end(&along), sum);
        num_sum_add(&loss, gate->sigmoid ? num_div(num_sum_end(&term), sum) : num_sum_end(&term));
        for (size_t e = 0; e < E && dp && gate->sigmoid; e++)
            dp[t * E + e] = num_div(num_sub(dp[t * E + e], mean), sum);
    }
    return num_mul(factor, num_sum_end(&loss));
}

struct num ref_square(size_t n, const struct num *x)
{
    struct num_sum sum = {0};
    for (size_t i = 0; i < n; i++)
        num_sum_mul(&sum, x[i], x[i]);
    return num_sum_end(&sum);
}

void ref_lossfree(size_t E, const uint32_t *count, double rate, struct num *bias)
{
    uint64_t rows = 0;
    for (size_t e = 0; e < E; e++)
        rows += count[e];
    for (size_t e = 0; e < E; e++) {
        const uint64_t own = (uint64_t)E * count[e];
        if (own != rows)
            bias[e] = num_add(bias[e], num_exact(own < rows ? rate : -rate));
    }
}
