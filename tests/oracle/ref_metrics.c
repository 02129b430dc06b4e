#include "oracle.h"

/* ---- entropy ---- */

static double entropy_of(double q)
{
    return q > 0 ? -q * log(q) : 0;
}

/* How far -x log x may be from that of q where x is within e of q: it is concave, so the farthest is at an end of the
 * interval or at its peak, 1/e. Continuous at 0, where f32 may also flush x. */
static double entropy_spread(double q, double e)
{
    const double low = fmax(q - e, 0), high = q + e, peak = exp(-1.0), here = entropy_of(q);
    double spread = fmax(fabs(entropy_of(low) - here), fabs(entropy_of(high) - here));
    if (low < peak && peak < high)
        spread = fmax(spread, peak - here);
    return spread;
}

/* -q log q of a q that is known to within q.e: what that makes of it, the logarithm's 3 ULP or 2^-21, one product. */
static struct num entropy_term(struct num q)
{
    const double v = entropy_of(q.v), most = q.v + q.e;
    if (num_is_zero(q))
        return num_exact(0);
    return num_widen(num_map(q, v, entropy_spread(q.v, q.e), 7), most * 0x1p-21);
}

/* Of p [n] / sum p. The error of the sum is common to all terms: it is kept apart from their own, which are
 * independent, and added at its worst. */
static struct num entropy(size_t n, const struct num *p)
{
    struct num_sum sum = {0}, terms = {0};
    double common = 0;
    for (size_t i = 0; i < n; i++)
        num_sum_add(&sum, p[i]);
    const struct num total = num_sum_end(&sum);
    if (num_is_zero(total))
        return num_exact(0);
    if (total.v <= total.e)
        return num_unbounded(0);
    const double off = total.e / (total.v - total.e);
    for (size_t i = 0; i < n; i++) {
        const struct num q = num_div(p[i], num_exact(total.v));
        num_sum_add(&terms, entropy_term(q));
        common += entropy_spread(q.v, q.e + (q.v + q.e) * off) - entropy_spread(q.v, q.e);
    }
    return num_widen(num_sum_end(&terms), common);
}

void ref_entropy(size_t T, size_t E, size_t K, const struct num *p, const uint32_t *idx, struct num *full,
                 struct num *topk)
{
    struct num active[REF_MOST_EXPERTS];
    for (size_t t = 0; t < T; t++, p += E, idx += K) {
        size_t count = 0;
        full[t] = entropy(E, p);
        for (size_t k = 0; k < K; k++)
            if (idx[k] < E)
                active[count++] = p[idx[k]];
        topk[t] = entropy(count, active);
    }
}

/* ---- loads and choices ---- */

/* An integer as f32: rounded where it has more than 24 bits. */
static struct num integer(double x)
{
    return x > 0x1p24 ? num_widen(num_exact(x), NUM_U * x) : num_exact(x);
}

void ref_expert_load(size_t T, size_t group, size_t E, size_t K, const uint32_t *idx, struct num *load)
{
    for (size_t g = 0; g < T / group; g++)
        for (size_t e = 0; e < E; e++) {
            size_t count = 0;
            for (size_t slot = g * group * K; slot < (g + 1) * group * K; slot++)
                count += idx[slot] == e;
            load[g * E + e] = num_div(integer((double)count), integer((double)group));
        }
}

void ref_expert_load_total(size_t E, size_t K, const uint32_t *count, struct num *load)
{
    double total = 0;
    for (size_t e = 0; e < E; e++)
        total += count[e];
    for (size_t e = 0; e < E; e++)
        load[e] = num_div(integer(count[e]), integer(total / (double)K));
}

void ref_seu(size_t groups, size_t E, const struct num *load, struct num *used)
{
    for (size_t g = 0; g < groups; g++) {
        size_t count = 0;
        for (size_t e = 0; e < E; e++)
            count += load[g * E + e].v > 0;
        used[g] = num_div(num_exact((double)count), num_exact((double)E));
    }
}

void ref_histogram(size_t n, const float *x, uint32_t *bins)
{
    for (size_t i = 0; i < n; i++) {
        const double at = floor((double)x[i] * REF_BINS); /* exact */
        bins[(size_t)fmin(at, REF_BINS - 1)]++;
    }
}

static bool holds(size_t K, const uint32_t *set, uint32_t value)
{
    for (size_t k = 0; k < K; k++)
        if (set[k] == value)
            return true;
    return false;
}

void ref_routing_change(size_t T, size_t K, const uint32_t *before, const uint32_t *idx, struct num *changed)
{
    for (size_t t = 0; t < T; t++, before += K, idx += K) {
        bool same = true;
        for (size_t k = 0; k < K; k++)
            same = same && holds(K, before, idx[k]) && holds(K, idx, before[k]);
        changed[t] = num_exact(same ? 0 : 1);
    }
}

void ref_lossfree(size_t E, double rate, const uint32_t *count, bool skip, struct num *bias)
{
    uint64_t total = 0;
    for (size_t e = 0; e < E; e++)
        total += count[e];
    for (size_t e = 0; e < E && !skip; e++)
        if (count[e] * (uint64_t)E != total)
            bias[e] = num_add(bias[e], num_exact(count[e] * (uint64_t)E > total ? -rate : rate));
}

struct ref_load ref_load(size_t E, const uint64_t *tokens)
{
    struct ref_load load = {.min = INFINITY};
    double sum = 0, square = 0;
    for (size_t e = 0; e < E; e++)
        sum += (double)tokens[e];
    for (size_t e = 0; e < E; e++) {
        const double share = (double)E * (double)tokens[e] / sum;
        load.max = fmax(load.max, share);
        load.min = fmin(load.min, share);
        load.dead += tokens[e] == 0;
        square += (share - 1) * (share - 1);
    }
    load.cv = sqrt(square / (double)E);
    return load;
}

/* ---- pairwise expert similarity ---- */

/* What a sum of n products adds, in units of its magnitudes: a rounding for each product, n - 1 for the additions
 * (num.h). */
static double summation(size_t n)
{
    const double u = (double)n * NUM_U;
    return fmin(u / (1 - u), NUM_LAMBDA * sqrt((double)n) * NUM_U);
}

static double inner(size_t D, const struct num *a, const struct num *b)
{
    double sum = 0;
    for (size_t d = 0; d < D; d++)
        sum += a[d].v * b[d].v;
    return sum;
}

/* The value is the definition, pair by pair in double. The bound is on another evaluation of it in f32, of
 *
 *     (|S|^2 - m) / (E (E - 1)),  S = sum_i u_i,  u_i = f_i / |f_i|,  m = number of f_i that are not zero,
 *
 * which equals it exactly, as <u_i, u_i> = 1. With s(n) = summation(n):
 *   - |f_i|^2 is a sum of D squares: off by the factor 1 + a, |a| <= s(D), for nothing cancels (and by flushed terms);
 *   - its inverse square root, 2 ULP, makes 1 / |f_i| off by 1 + r, |r| <= (1 + 4u) / sqrt(1 - a) - 1;
 *   - S_d is a sum of E products f_id (1 / |f_i|): off by at most c A_d, A_d = sum_i |u_id|, c = (1 + r)(1 + s(E)) - 1.
 *     All E D errors may share their signs (r is common to a row), so they are added at their worst;
 *   - so |S|^2 is off by 2 c sum_d |S_d| A_d + c^2 sum_d A_d^2, and as a sum of D squares by s(D) sum_d (|S_d| + c A_d)^2;
 *   - m is exact. The difference may cancel: its error is the absolute one of |S|^2, and one rounding;
 *   - the division. */
static struct num similarity(size_t T, size_t D, size_t E, const struct num *rows)
{
    double norm[REF_MOST_EXPERTS], least = INFINITY, pairs = 0, cross = 0, square = 0, computed = 0;
    size_t nonzero = 0;
    for (size_t i = 0; i < E; i++) {
        const struct num *f = rows + i * T * D;
        norm[i] = sqrt(inner(D, f, f));
        nonzero += norm[i] > 0;
        least = norm[i] > 0 ? fmin(least, norm[i]) : least;
        for (size_t j = 0; j < i; j++)
            pairs += norm[i] > 0 && norm[j] > 0 ? inner(D, f, rows + j * T * D) / (norm[i] * norm[j]) : 0;
    }
    if (E == 1 || nonzero == 0)
        return num_exact(0);
    const double count = (double)(E * (E - 1)), a = summation(D) + (double)D * NUM_TINY / (least * least);
    if (a >= 1)
        return num_unbounded(2 * pairs / count);
    const double r = (1 + 4 * NUM_U) / sqrt(1 - a) - 1, c = (1 + r) * (1 + summation(E)) - 1;
    for (size_t d = 0; d < D; d++) {
        double sum = 0, magnitude = 0;
        for (size_t i = 0; i < E; i++) {
            const double u = norm[i] > 0 ? rows[i * T * D + d].v / norm[i] : 0;
            sum += u;
            magnitude += fabs(u);
        }
        cross += fabs(sum) * magnitude;
        square += magnitude * magnitude;
        computed += (fabs(sum) + c * magnitude) * (fabs(sum) + c * magnitude);
    }
    const double off = 2 * c * cross + c * c * square + summation(D) * computed + (double)D * NUM_TINY;
    const struct num together = num_within(2 * pairs + (double)nonzero, off);
    struct num pes = num_div(num_sub(together, num_exact((double)nonzero)), num_exact(count));
    pes.v = 2 * pairs / count;
    return pes;
}

void ref_pes(size_t T, size_t D, size_t E, const struct num *rows, struct num *pes)
{
    for (size_t t = 0; t < T; t++)
        pes[t] = similarity(T, D, E, rows + t * D);
}
