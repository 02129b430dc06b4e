#include "oracle.h"

#include <stdlib.h>

void ref_rope_tables(size_t S, size_t hd, double theta, float *cos_out, float *sin_out)
{
    const size_t half = hd / 2;
    for (size_t s = 0; s < S; s++)
        for (size_t i = 0; i < half; i++) {
            const double angle = (double)s * pow(theta, -2.0 * (double)i / (double)hd);
            cos_out[s * half + i] = (float)cos(angle);
            sin_out[s * half + i] = (float)sin(angle);
        }
}

void ref_rope(struct ref_heads heads, const struct num *cosines, const struct num *sines, bool backward,
              struct num *qkv)
{
    const size_t D = heads.H * heads.hd, half = heads.hd / 2;
    for (size_t t = 0; t < heads.B * heads.S; t++)
        for (size_t head = 0; head < 2 * heads.H; head++)
            for (size_t i = 0; i < half; i++) {
                struct num *low = &qkv[t * 3 * D + head * heads.hd + i], *high = low + half;
                const struct num x = *low, y = *high, c = cosines[t % heads.S * half + i];
                struct num s = sines[t % heads.S * half + i];
                if (backward)
                    s = num_neg(s);
                *low = num_sub(num_mul(x, c), num_mul(y, s));
                *high = num_add(num_mul(y, c), num_mul(x, s));
            }
}

/* The three vectors of a token in a head. */
struct token {
    const struct num *q, *k, *v;
};

static struct token token_at(struct ref_heads heads, const struct num *qkv, size_t b, size_t s, size_t h)
{
    const size_t D = heads.H * heads.hd;
    const struct num *q = qkv + (b * heads.S + s) * 3 * D + h * heads.hd;
    return (struct token){q, q + D, q + 2 * D};
}

/* scale = 1/sqrt(hd) is rounded once on its own, where it is no power of two, and meets the terms or their sum. */
static struct num scaled_end(struct num_sum *sum, double scale)
{
    num_sum_scale(sum, scale);
    const struct num s = num_sum_end(sum);
    return num_widen(s, NUM_U * (fabs(s.v) + s.e));
}

/* x as an operand of a product. */
static struct num operand(struct ref_heads heads, struct num x)
{
    if (!heads.narrow || num_is_zero(x))
        return x;
    return (struct num){x.v, x.e + heads.narrow->relative * (fabs(x.v) + x.e) + heads.narrow->absolute, INFINITY};
}

/* A sum of such operands' products, which may have been cut off at each. */
static struct num_sum products(struct ref_heads heads, struct num_sum sum)
{
    if (heads.narrow) {
        sum.e += 2 * NUM_U * (double)sum.n * sum.total;
        sum.var = INFINITY;
    }
    return sum;
}

static struct num_sum dot(struct ref_heads heads, const struct num *a, const struct num *b)
{
    struct num_sum sum = {0};
    for (size_t i = 0; i < heads.hd; i++)
        num_sum_mul(&sum, operand(heads, a[i]), operand(heads, b[i]));
    return products(heads, sum);
}

static double scale_of(struct ref_heads heads)
{
    return 1 / sqrt((double)heads.hd);
}

/* p [i+1]: the weights that query i gives to keys 0..i; returns the log-sum-exp. */
static struct num weights(struct ref_heads heads, const struct num *qkv, size_t b, size_t i, size_t h,
                          struct num *scores, struct num *p)
{
    const struct token query = token_at(heads, qkv, b, i, h);
    for (size_t j = 0; j <= i; j++) {
        struct num_sum sum = dot(heads, query.q, token_at(heads, qkv, b, j, h).k);
        scores[j] = scaled_end(&sum, scale_of(heads));
    }
    return ref_softmax(i + 1, scores, p);
}

static void attend(struct ref_heads heads, const struct num *qkv, size_t b, size_t i, size_t h, const struct num *p,
                   struct num *o)
{
    for (size_t d = 0; d < heads.hd; d++) {
        struct num_sum sum = {0};
        for (size_t j = 0; j <= i; j++)
            num_sum_mul(&sum, operand(heads, p[j]), operand(heads, token_at(heads, qkv, b, j, h).v[d]));
        sum = products(heads, sum);
        o[d] = num_sum_end(&sum);
    }
}

void ref_attention(struct ref_heads heads, const struct num *qkv, struct num *o, struct num *lse)
{
    const size_t S = heads.S, H = heads.H;
    struct num *scores = ref_new(2 * S), *p = scores + S;
    for (size_t b = 0; b < heads.B; b++)
        for (size_t h = 0; h < H; h++)
            for (size_t i = 0; i < S; i++) {
                const size_t t = b * S + i;
                const struct num l = weights(heads, qkv, b, i, h, scores, p);
                if (lse)
                    lse[t * H + h] = l;
                attend(heads, qkv, b, i, h, p, o + (t * H + h) * heads.hd);
            }
    free(scores);
}

/* One head of one sequence. p, ds [S,S] */
static void head_backward(struct ref_heads heads, const struct num *qkv, const struct num *dout, size_t b, size_t h,
                          struct num *p, struct num *ds, struct num *dqkv)
{
    const size_t S = heads.S, hd = heads.hd, D = heads.H * hd;
    struct num *scores = ref_new(S + hd), *o = scores + S;
    for (size_t i = 0; i < S; i++) {
        const struct num *doi = dout + (b * S + i) * D + h * hd;
        weights(heads, qkv, b, i, h, scores, p + i * S);
        attend(heads, qkv, b, i, h, p + i * S, o);
        struct num_sum delta = {0}; /* of no product of matrices */
        for (size_t d = 0; d < hd; d++)
            num_sum_mul(&delta, doi[d], o[d]);
        for (size_t j = 0; j <= i; j++) {
            const struct num_sum dp = dot(heads, doi, token_at(heads, qkv, b, j, h).v);
            ds[i * S + j] = num_mul(p[i * S + j], num_sub(num_sum_end(&dp), num_sum_end(&delta)));
        }
    }
    for (size_t i = 0; i < S; i++)
        for (size_t d = 0; d < hd; d++) {
            struct num_sum dq = {0}, dk = {0}, dv = {0};
            for (size_t j = 0; j <= i; j++)
                num_sum_mul(&dq, operand(heads, ds[i * S + j]), operand(heads, token_at(heads, qkv, b, j, h).k[d]));
            for (size_t j = i; j < S; j++) {
                num_sum_mul(&dk, operand(heads, ds[j * S + i]), operand(heads, token_at(heads, qkv, b, j, h).q[d]));
                num_sum_mul(&dv, operand(heads, p[j * S + i]), operand(heads, dout[(b * S + j) * D + h * hd + d]));
            }
            dq = products(heads, dq);
            dk = products(heads, dk);
            dv = products(heads, dv);
            struct num *out = dqkv + (b * S + i) * 3 * D + h * hd + d;
            out[0] = scaled_end(&dq, scale_of(heads));
            out[D] = scaled_end(&dk, scale_of(heads));
            out[2 * D] = num_sum_end(&dv);
        }
    free(scores);
}

void ref_attention_backward(struct ref_heads heads, const struct num *qkv, const struct num *dout, struct num *dqkv)
{
    struct num *p = ref_new(2 * heads.S * heads.S), *ds = p + heads.S * heads.S;
    for (size_t b = 0; b < heads.B; b++)
        for (size_t h = 0; h < heads.H; h++)
            head_backward(heads, qkv, dout, b, h, p, ds, dqkv);
    free(p);
}
