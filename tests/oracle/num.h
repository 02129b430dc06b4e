/* A number of the reference: its value in double precision, and how far f32 arithmetic may end up from it.
 *
 * Running error analysis (Higham 2002, "Accuracy and Stability of Numerical Algorithms", ch. 3): every operation
 * computes its value in double and, beside it, a bound e on the distance of the same operation done in f32 on operands
 * that are themselves off by their e. A test is then |got - v| <= e, element by element, and no tolerance is chosen.
 *
 * What one f32 operation may add, with u = 2^-24 and 1 ULP = 2u of the result, is what Vulkan promises ("Precision of
 * Core SPIR-V Instructions"): +, -, * correctly rounded; / 2.5 ULP; inversesqrt 2 ULP; sqrt = 1/inversesqrt; exp(x) 3 +
 * 2|x| ULP; log 3 ULP, but 2^-21 absolute in [0.5, 2]. Subnormal results may be flushed: NUM_TINY. Rounding is taken to
 * be to nearest, as every known device does.
 *
 * Two bounds run side by side and e is the smaller.
 *   - Worst case: errors add up. A sum of n terms in any order adds (n - 1) u sum |terms|.
 *   - Probabilistic (Higham & Mary 2019, "A New Approach to Probabilistic Rounding Error Analysis"): rounding errors of
 *     mean zero that are independent add up in squares. `var` is the square of their sub-Gaussian parameter, no more
 *     than the square of each bound, summed, and e <= 6 sqrt(var): Hoeffding's inequality fails it with probability 2
 *     exp(-18) = 3e-8. One sum of n terms gives the known 6 sqrt(n) u sum |terms|. It binds from 36 terms on; without
 *     it the bound of a chain of matrix products grows by sqrt(n) at each and says nothing about a whole model. The
 *     tests run the reference in f32 with biased functions (num_mode) to see that the assumption has room.
 *
 * A fused multiply-add rounds once less and stays below. Adding or multiplying an exact zero is exact, so an expert
 * without rows has a gradient of exactly zero: e = 0. */
#ifndef VKM_ORACLE_NUM_H
#define VKM_ORACLE_NUM_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#define NUM_U 0x1p-24
#define NUM_TINY 0x1p-123 /* about 9.4e-38: a few flushed subnormals (below 2^-126) */
#define NUM_LAMBDA 6.0

struct num {
    double v;   /* the value */
    double e;   /* |f32 result - v| <= e; 0 for an input that f32 represents, infinite where nothing can be said */
    double var; /* of the error, as above: e <= 6 sqrt(var). Make numbers with num_exact or num_within. */
};

/* How values are computed. The reference is NUM_DOUBLE; the others make it the f32 evaluation that its bounds are
 * about: every result rounded to f32, sums from first to last; NUM_BIASED also has division, exp, log and roots always
 * too large by all that Vulkan allows them. Set by the reference's own tests alone. */
enum num_mode { NUM_DOUBLE, NUM_SINGLE, NUM_BIASED };
extern enum num_mode num_mode;

static inline double num_value(double v, double units)
{
    if (num_mode == NUM_DOUBLE)
        return v;
    if (num_mode == NUM_BIASED && units > 1)
        v += (units - 1) * NUM_U * fabs(v);
    return (float)v;
}

static inline struct num num_exact(double v)
{
    return (struct num){v, 0.0, 0.0};
}

/* An input known to within e: for instance one rounded to 16 bits. */
static inline struct num num_within(double v, double e)
{
    return (struct num){v, e, e * e};
}

static inline bool num_is_zero(struct num a)
{
    return a.v == 0.0 && a.e == 0.0;
}

static inline struct num num_clamp(struct num a)
{
    if (a.e * a.e > NUM_LAMBDA * NUM_LAMBDA * a.var)
        a.e = NUM_LAMBDA * sqrt(a.var);
    return a;
}

/* One more error of at most `by`. */
static inline struct num num_widen(struct num a, double by)
{
    return num_clamp((struct num){a.v, a.e + by, a.var + by * by});
}

/* `v` from operands whose errors make `spread` and `var`, by an operation that is off by `units` times u of its result.
 * */
static inline struct num num_round(double v, double spread, double var, double units)
{
    return num_widen((struct num){num_value(v, units), spread, var}, units * NUM_U * (fabs(v) + spread) + NUM_TINY);
}

/* The same for a function of one operand: `spread` is what a.e makes of it, and in proportion for the rest of a's
 * errors. */
static inline struct num num_map(struct num a, double v, double spread, double units)
{
    const double slope = a.e > 0 ? spread / a.e : 0;
    return num_round(v, spread, slope * slope * a.var, units);
}

static inline struct num num_neg(struct num a)
{
    return (struct num){-a.v, a.e, a.var};
}

static inline struct num num_abs(struct num a)
{
    return (struct num){fabs(a.v), a.e, a.var};
}

/* The larger operand, exactly it where the bounds decide. */
static inline struct num num_max(struct num a, struct num b)
{
    if (a.v < b.v)
        return num_max(b, a);
    if (a.v - a.e > b.v + b.e)
        return a;
    return (struct num){a.v, fmax(a.e, b.e), fmax(a.var, b.var)};
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
    return num_round(a.v + b.v, a.e + b.e, a.var + b.var, 1);
}

static inline struct num num_sub(struct num a, struct num b)
{
    return num_add(a, num_neg(b));
}

static inline struct num num_mul(struct num a, struct num b)
{
    if (num_is_zero(a) || num_is_zero(b))
        return num_exact(0);
    return num_round(a.v * b.v, fabs(a.v) * b.e + fabs(b.v) * a.e + a.e * b.e,
                     a.v * a.v * b.var + b.v * b.v * a.var + a.var * b.var, 1);
}

static inline struct num num_unbounded(double v)
{
    return (struct num){v, INFINITY, INFINITY};
}

static inline struct num num_div(struct num a, struct num b)
{
    const double v = a.v / b.v, least = fabs(b.v) - b.e;
    if (num_is_zero(a))
        return num_exact(0);
    if (least <= 0)
        return num_unbounded(v);
    return num_round(v, (a.e + fabs(v) * b.e) / least, (a.var + v * v * b.var) / (least * least), 5);
}

static inline struct num num_sqrt(struct num a)
{
    const double v = sqrt(a.v);
    return num_map(a, v, fmax(v - sqrt(fmax(a.v - a.e, 0.0)), sqrt(a.v + a.e) - v), 9);
}

static inline struct num num_rsqrt(struct num a)
{
    const double v = 1.0 / sqrt(a.v);
    return a.v <= a.e ? num_unbounded(v) : num_map(a, v, 1.0 / sqrt(a.v - a.e) - v, 4);
}

static inline struct num num_exp(struct num a)
{
    const double v = exp(a.v);
    return num_map(a, v, v * expm1(a.e), 2 * (3 + 2 * (fabs(a.v) + a.e)));
}

static inline struct num num_log(struct num a)
{
    const double v = log(a.v);
    if (a.v <= a.e)
        return num_unbounded(v);
    return num_widen(num_map(a, v, -log1p(-a.e / a.v), 6), 0x1p-21);
}

/* 1 / (1 + exp(-a)) */
static inline struct num num_sigmoid(struct num a)
{
    return num_div(num_exact(1), num_add(num_exact(1), num_exp(num_neg(a))));
}

/* A sum that may be evaluated in any order. Zero-initialise, add the terms, close with num_sum_end. */
struct num_sum {
    double v;      /* of the terms */
    double e, var; /* of their errors */
    double total;  /* of their magnitudes */
    size_t n;      /* terms that are not exactly zero */
};

static inline void num_sum_add(struct num_sum *s, struct num a)
{
    s->v = num_value(s->v + a.v, 1);
    s->e += a.e;
    s->var += a.var;
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
    s->v = num_value(s->v * factor, 1);
    s->total *= fabs(factor);
    s->e = fabs(factor) * s->e + NUM_U * s->total;
    s->var = factor * factor * s->var + NUM_U * s->total * NUM_U * s->total;
}

static inline struct num num_sum_end(const struct num_sum *s)
{
    struct num a = {s->v, s->e, s->var};
    if (s->n > 1) {
        const double additions = (double)(s->n - 1), once = NUM_U * s->total / (1 - additions * NUM_U);
        a.e += additions * once + NUM_TINY;
        a.var += additions * once * once + NUM_TINY * NUM_TINY;
    }
    return num_clamp(a);
}

#endif
