#include "oracle.h"

#include <stdlib.h>

/* An online softmax rescales what it has summed whenever the running maximum grows, by exp(old - new). The exponents
 * telescope into that of the plain formula, so their part of the error is in its bound already; what is left is 3 ULP
 * and two roundings a time. Taken one by one in order the maximum grows `records` times, in tiles at most as often;
 * lanes that each keep a maximum of their own merge through a tree: three more. */
static double rescaling(size_t n, const struct num *x)
{
    size_t records = 0;
    double max = x[0].v;
    for (size_t i = 1; i < n; i++)
        if (x[i].v > max) {
            max = x[i].v;
            records++;
        }
    return (double)(records + 3) * 8 * NUM_U;
}

struct num ref_softmax(size_t n, const struct num *x, struct num *p)
{
    struct num *w = ref_new(n);
    /* Softmax does not change when all x shift alike, so whichever maximum f32 arithmetic finds is exact. */
    double max = -INFINITY;
    for (size_t i = 0; i < n; i++)
        max = fmax(max, x[i].v);
    const double extra = rescaling(n, x);
    struct num_sum sum = {0};
    for (size_t i = 0; i < n; i++) {
        w[i] = num_exp(num_sub(x[i], num_exact(max)));
        w[i] = num_widen(w[i], extra * w[i].v);
        num_sum_add(&sum, w[i]);
    }
    const struct num total = num_sum_end(&sum), lse = num_add(num_exact(max), num_log(total));
    for (size_t i = 0; i < n && p; i++) {
        p[i] = num_div(w[i], total);
        const struct num direct = num_exp(num_sub(x[i], lse));
        p[i].e = fmax(p[i].e, direct.e);
        p[i].var = fmax(p[i].var, direct.var);
    }
    free(w);
    return lse;
}

/* Does expert a come before b? */
static bool before(const struct num *score, size_t a, size_t b)
{
    return score[a].v > score[b].v || (score[a].v == score[b].v && a < b);
}

void ref_topk(size_t T, size_t E, size_t K, const struct num *score, uint32_t *idx)
{
    for (size_t t = 0; t < T; t++, score += E, idx += K)
        for (size_t i = 0; i < E; i++) {
            size_t rank = 0;
            for (size_t j = 0; j < E; j++)
                rank += before(score, j, i);
            if (rank < K)
                idx[rank] = (uint32_t)i;
        }
}

bool ref_topk_admissible(size_t T, size_t E, size_t K, const struct num *score, const uint32_t *idx)
{
    for (size_t t = 0; t < T; t++, score += E, idx += K)
        for (size_t k = 0; k < K; k++) {
            if (idx[k] >= E)
                return false;
            for (size_t j = 0; j < k; j++)
                if (idx[j] == idx[k])
                    return false;
            for (size_t i = 0; i < E; i++) {
                bool earlier = false;
                for (size_t j = 0; j <= k; j++)
                    earlier = earlier || idx[j] == i;
                const double slack = score[i].e + score[idx[k]].e;
                if (!earlier && before(score, i, idx[k]) && !(score[i].v - score[idx[k]].v <= slack && slack > 0))
                    return false;
            }
        }
    return true;
}

/* s = the sum that norm_topk divides by */
static struct num chosen_sum(size_t K, const struct num *p, const uint32_t *idx)
{
    struct num_sum sum = {0};
    for (size_t k = 0; k < K; k++)
        num_sum_add(&sum, p[idx[k]]);
    return num_sum_end(&sum);
}

static void chosen_weights(const struct ref_gate *gate, const struct num *p, const uint32_t *idx, struct num *g)
{
    const struct num sum = chosen_sum(gate->K, p, idx);
    for (size_t k = 0; k < gate->K; k++)
        g[k] = gate->norm_topk ? num_div(p[idx[k]], sum) : p[idx[k]];
}

/* p [E] of a token; returns its log sum exp, of a softmax. */
static struct num gate_row(const struct ref_gate *gate, const struct num *z, struct num *p)
{
    if (!gate->sigmoid)
        return ref_softmax(gate->E, z, p);
    for (size_t e = 0; e < gate->E; e++)
        p[e] = num_sigmoid(z[e]);
    return num_exact(0);
}

void ref_scores(const struct ref_gate *gate, const struct num *z, struct num *score)
{
    for (size_t i = 0; i < gate->T * gate->E; i++) {
        const struct num b = gate->bias ? gate->bias[i % gate->E] : num_exact(0);
        score[i] = z[i].e == 0 && b.e == 0 ? num_exact((float)(z[i].v + b.v)) : num_add(z[i], b);
    }
}

static void choose(const struct ref_gate *gate, const struct num *z, uint32_t *idx)
{
    const size_t T = gate->T, E = gate->E, K = gate->K, n = gate->drop_top + K;
    struct num *score = ref_new(T * E);
    uint32_t *best = calloc(T * n, sizeof *best);
    if (!best)
        abort();
    ref_scores(gate, z, score);
    ref_topk(T, E, n, score, best);
    for (size_t slot = 0; slot < T * K; slot++)
        idx[slot] = best[slot / K * n + gate->drop_top + slot % K];
    free(score);
    free(best);
}

void ref_gate(const struct ref_gate *gate, bool fixed, const struct num *z, struct num *p, uint32_t *idx, struct num *g,
              struct num *lse)
{
    const size_t E = gate->E, K = gate->K;
    if (!fixed)
        choose(gate, z, idx);
    for (size_t t = 0; t < gate->T; t++, idx += K, g += K) {
        const struct num sum = gate_row(gate, z + t * E, p + t * E);
        if (lse)
            lse[t] = sum;
        chosen_weights(gate, p + t * E, idx, g);
        for (size_t k = 0; k < K && !fixed; k++)
            if (g[k].v < gate->prune_below) {
                g[k] = num_exact(0);
                idx[k] = (uint32_t)E;
            }
    }
}

/* dz [E] of a token from dp. */
static void gate_row_backward(const struct ref_gate *gate, const struct num *p, const struct num *dp, struct num pull,
                              struct num *dz)
{
    struct num_sum inner = {0};
    for (size_t i = 0; i < gate->E; i++)
        num_sum_mul(&inner, p[i], dp[i]);
    for (size_t i = 0; i < gate->E; i++)
        dz[i] = gate->sigmoid ? num_mul(dp[i], num_mul(p[i], num_sub(num_exact(1), p[i])))
                              : num_mul(p[i], num_add(num_sub(dp[i], num_sum_end(&inner)), pull));
}

void ref_gate_backward(const struct ref_gate *gate, const struct num *z, const uint32_t *idx, const struct num *dg,
                       const struct num *dp_extra, double z_coef, struct num *dz)
{
    const size_t E = gate->E, K = gate->K;
    const double z_scale = 2 * z_coef / (double)gate->T;
    struct num *p = ref_new(2 * E + K), *dp = p + E, *g = dp + E;
    for (size_t t = 0; t < gate->T; t++, z += E, idx += K, dg += K, dz += E) {
        const struct num lse = gate_row(gate, z, p);
        chosen_weights(gate, p, idx, g);
        for (size_t i = 0; i < E; i++)
            dp[i] = dp_extra ? dp_extra[t * E + i] : num_exact(0);
        struct num_sum along = {0};
        for (size_t k = 0; k < K; k++)
            num_sum_mul(&along, dg[k], g[k]);
        const struct num mean = num_sum_end(&along), sum = chosen_sum(K, p, idx);
        for (size_t k = 0; k < K; k++) {
            const struct num d = gate->norm_topk ? num_div(num_sub(dg[k], mean), sum) : dg[k];
            dp[idx[k]] = num_add(dp[idx[k]], d);
        }
        const struct num pull = z_scale != 0 ? num_mul(num_within(z_scale, NUM_U * fabs(z_scale)), lse) : num_exact(0);
        gate_row_backward(gate, p, dp, pull, dz);
    }
    free(p);
}

void ref_dispatch(size_t T, size_t E, size_t K, const uint32_t *idx, uint32_t *counts, uint32_t *offset,
                  uint32_t *row_of, uint32_t *token_of, uint32_t *slot_of)
{
    uint32_t row = 0;
    for (size_t e = 0; e < E; e++) {
        offset[e] = row;
        for (size_t slot = 0; slot < T * K; slot++)
            if (idx[slot] == e) {
                row_of[slot] = row;
                token_of[row] = (uint32_t)(slot / K);
                slot_of[row] = (uint32_t)slot;
                row++;
            }
        counts[e] = row - offset[e];
    }
    offset[E] = row;
}
