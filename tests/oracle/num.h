/* A number of the reference: its value in double precision, and how far f32 arithmetic may end up from it.
 *
 * Running error analysis (Higham 2002, "Accuracy and Stability of Numerical Algorithms", ch. 3): every operation computes
 * its value in double and, beside it, an absolute bound e on the distance of the same operation done in f32 on operands
 * that are themselves off by their e. A test is then |got - v| <= e, element by element, and no tolerance is chosen.
 *
 * What one f32 operation may add, with u = 2^-24 and 1 ULP = 2u of the result, is what Vulkan promises ("Precision of
 * Core SPIR-V Instructions"): +, -, * correctly rounded; / 2.5 ULP; inversesqrt 2 ULP; sqrt = 1/inversesqrt; exp(x) 3 + 2|x|
 * ULP; log 3 ULP, but 2^-21 absolute in [0.5, 2]. Subnormal results may be flushed: NUM_TINY. Rounding is taken to be to
 * nearest, as every known device does.
 *
 * A sum of n terms in any order: gamma(n) * u * sum |terms| with gamma(n) = min(n - 1, 6 sqrt(n)). The first is the
 * deterministic bound; the second is Higham & Mary's probabilistic one (2019, "A New Approach to Probabilistic Rounding
 * Error Analysis") with lambda = 6, which fails with a probability below 2n exp(-18) = n * 3e-8 per sum. A fused
 * multiply-add rounds once less and stays below. Adding or multiplying an exact zero is exact, so an expert without rows
 * has a gradient of exactly zero: e = 0. */
#ifndef VKM_ORACLE_NUM_H
#define VKM_ORACLE_NUM_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#define NUM_U 0x1p-24
#define NUM_TINY 0x1p-123 /* about 9.4e-38: a few flushed subnormals (below 2^-126) */

struct num {
    double v; /* the value */
    double e; /* |f32 result - v| <= e; 0 for an input that f32 represents, infinite where nothing can be said */
};

static inline struct num num_exact(double v)
{
    return (struct num){v, 0.0};
}

static inline bool num_is_zero(struct num a)
{
    return a.v == 0.0 && a.e == 0.0;
}

/* `v` from operands whose errors make `spread`, by an operation that is off by `units` times u of its result. */
static inline struct num num_round(double v, double spread, double units)
{
    return (struct num){v, spread + units * NUM_U * (fabs(v) + spread) + NUM_TINY};
}

static inline struct num num_neg(struct num a)
{
    return (struct num){-a.v, a.e};
}

static inline struct num num_abs(struct num a)
{
    return (struct num){fabs(a.v), a.e};
}

/* The larger operand, exactly it where the bounds decide. */
static inline struct num num_max(struct num a, struct num b)
{
    if (a.v < b.v)
        return num_max(b, a);
    return (struct num){a.v, a.v - a.e > b.v + b.e ? a.e : fmax(a.e, b.e)};
}

static inline struct num num_min(struct num a, struct num b)
{
    return num_neg(num_max(num_neg(a), num_neg(b)));
}

static inline struct num num_add(struct num a, struct num b)
{
    if (num_is_zero(a))
        return b;
    if (num_is_zero(b))
        return a;
    return num_round(a.v + b.v, a.e + b.e, 1);
}

static inline struct num num_sub(struct num a, struct num b)
{
    return num_add(a, num_neg(b));
}

static inline struct num num_mul(struct num a, struct num b)
{
    if (num_is_zero(a) || num_is_zero(b))
        return num_exact(0);
    return num_round(a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e, 1);
}

static inline struct num num_div(struct num a, struct num b)
{
    const double v = a.v / b.v;
    if (num_is_zero(a))
        return num_exact(0);
    if (fabs(b.v) <= b.e)
        return (struct num){v, INFINITY};
    return num_round(v, (a.e + fabs(v) * b.e) / (fabs(b.v) - b.e), 5);
}

static inline struct num num_sqrt(struct num a)
{
    const double v = sqrt(a.v);
    return num_round(v, fmax(v - sqrt(fmax(a.v - a.e, 0.0)), sqrt(a.v + a.e) - v), 9);
}

static inline struct num num_rsqrt(struct num a)
{
    const double v = 1.0 / sqrt(a.v);
    if (a.v <= a.e)
        return (struct num){v, INFINITY};
    return num_round(v, 1.0 / sqrt(a.v - a.e) - v, 4);
}

static inline struct num num_exp(struct num a)
{
    const double v = exp(a.v);
    return num_round(v, v * expm1(a.e), 2 * (3 + 2 * (fabs(a.v) + a.e)));
}

static inline struct num num_log(struct num a)
{
    const double v = log(a.v);
    if (a.v <= a.e)
        return (struct num){v, INFINITY};
    const double spread = -log1p(-a.e / a.v);
    return (struct num){v, spread + fmax(0x1p-21, 6 * NUM_U * (fabs(v) + spread))};
}

/* 1 / (1 + exp(-a)) */
static inline struct num num_sigmoid(struct num a)
{
    return num_div(num_exact(1), num_add(num_exact(1), num_exp(num_neg(a))));
}

/* A sum that may be evaluated in any order. Zero-initialise, add the terms, close with num_sum_end. */
struct num_sum {
    double v;     /* of the terms */
    double e;     /* of their errors */
    double total; /* of their magnitudes */
    size_t n;     /* terms that are not exactly zero */
};

static inline void num_sum_add(struct num_sum *s, struct num a)
{
    s->v += a.v;
    s->e += a.e;
    s->total += fabs(a.v) + a.e;
    s->n += !num_is_zero(a);
}

/* Adds the term a * b. */
static inline void num_sum_mul(struct num_sum *s, struct num a, struct num b)
{
    num_sum_add(s, num_mul(a, b));
}

/* Multiplies all terms so far by an f32 constant, before or after they are added up. */
static inline void num_sum_scale(struct num_sum *s, double factor)
{
    if (factor == 1.0)
        return;
    s->v *= factor;
    s->total *= fabs(factor);
    s->e = fabs(factor) * s->e + NUM_U * s->total;
}

static inline double num_gamma(size_t n)
{
    return n < 2 ? 0.0 : fmin((double)(n - 1), 6 * sqrt((double)n)) * NUM_U;
}

static inline struct num num_sum_end(const struct num_sum *s)
{
    if (s->n == 0)
        return num_exact(0);
    const double gamma = num_gamma(s->n);
    return (struct num){s->v, s->e + gamma / (1 - gamma) * s->total + (s->n > 1 ? NUM_TINY : 0.0)};
}

#endif
