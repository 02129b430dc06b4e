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

void ref_orthogonality(size_t E, size_t D, const struct num *w, struct num *max_abs, struct num *mean_square)
{
    struct num_sum squares = {0};
    *max_abs = num_exact(0);
    for (size_t i = 0; i < E; i++)
        for (size_t j = i; j < E; j++) { /* (i, j) and (j, i) are one number with one error, so they are one term */
            const struct num g = gram(D, w, i, j);
            *max_abs = num_max(*max_abs, num_abs(g));
            num_sum_mul(&squares, i == j ? g : num_mul(num_exact(2), g), g);
        }
    *mean_square = num_div(num_sum_end(&squares), num_exact((double)(E * E)));
}

static bool chosen(size_t K, const uint32_t *idx, size_t expert)
{
    for (size_t k = 0; k < K; k++)
        if (idx[k] == expert)
            return true;
    return false;
}

/* f [E] of the group of tokens from `first` on */
static void group_load(const struct ref_lbl *l, const uint32_t *idx, size_t first, struct num *load)
{
    for (size_t i = 0; i < l->E; i++) {
        size_t active = 0;
        for (size_t t = first; t < first + l->group; t++)
            active += chosen(l->K, idx + t * l->K, i);
        load[i] = l->load ? l->load[i] : num_div(num_exact((double)active), num_exact((double)l->group));
    }
}

struct num ref_lbl(const struct ref_lbl *l, const struct num *p, const uint32_t *idx, struct num *dp)
{
    const size_t E = l->E;
    const double scale = l->coef * (double)E / (double)l->T; /* a kernel gets it rounded */
    const struct num factor = num_within(scale, NUM_U * scale);
    struct num *load = ref_new(2 * E), *slope = load + E;
    struct num_sum loss = {0};
    for (size_t t = 0; t < l->T; t++, p += E) {
        struct num_sum term = {0}, total = {0}, along = {0};
        if (t % l->group == 0)
            group_load(l, idx, t, load);
        for (size_t i = 0; i < E; i++) {
            const bool counts = l->full || chosen(l->K, idx + t * l->K, i);
            slope[i] = counts ? num_mul(factor, load[i]) : num_exact(0);
            num_sum_mul(&term, counts ? load[i] : num_exact(0), p[i]);
            num_sum_add(&total, p[i]);
            num_sum_mul(&along, slope[i], p[i]);
        }
        const struct num sum = num_sum_end(&total), mean = num_div(num_sum_end(&along), sum);
        num_sum_add(&loss, l->sigmoid ? num_div(num_sum_end(&term), sum) : num_sum_end(&term));
        for (size_t i = 0; i < E && dp; i++)
            dp[t * E + i] = l->sigmoid ? num_div(num_sub(slope[i], mean), sum) : slope[i];
    }
    free(load);
    return num_mul(factor, num_sum_end(&loss));
}
