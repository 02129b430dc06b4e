#include "oracle.h"

#include <stdlib.h>

/* -x log x, 0 at 0 */
static double entropy_of(double x)
{
    return x > 0 ? -x * log(x) : 0;
}

/* Of a share q in [0, 1] known to its bound, which may reach 0: there the logarithm has no bound, but the term has. Its
 * slope -(1 + log q) is largest at an end of q's range; a range that reaches 0 holds the values up to the largest, at
 * its upper end or 1/e. What the logarithm itself is off by counts q times. */
static struct num entropy_term(struct num q)
{
    const double low = q.v - q.e, high = q.v + q.e, v = entropy_of(q.v);
    double spread, var;
    if (low > 0) {
        const double slope = fmax(fabs(1 + log(low)), fabs(1 + log(high)));
        spread = slope * q.e;
        var = slope * slope * q.var;
    } else {
        spread = high < exp(-1) ? entropy_of(high) : exp(-1);
        var = spread * spread;
    }
    const struct num term = num_widen((struct num){num_value(v, 7), spread, var}, fabs(v) * 6 * NUM_U + high * 0x1p-21);
    return num_widen(term, NUM_U * (fabs(v) + term.e) + NUM_TINY);
}

/* Of w [n] over their sum S. An error of S moves all shares alike, which num would take to be independent: by itself it
 * moves the entropy H by (1 - H) of it, relatively. The rest is with S taken as exact. */
static struct num entropy(size_t n, const struct num *w)
{
    struct num_sum sum = {0}, terms = {0};
    for (size_t i = 0; i < n; i++)
        num_sum_add(&sum, w[i]);
    const struct num total = num_sum_end(&sum);
    for (size_t i = 0; i < n; i++)
        if (!num_is_zero(w[i]))
            num_sum_add(&terms, entropy_term(num_div(w[i], num_exact(total.v))));
    const struct num h = num_sum_end(&terms);
    const double slope = n ? (fabs(1 - h.v) + h.e) / total.v : 0;
    return num_clamp((struct num){h.v, h.e + slope * total.e, h.var + slope * slope * total.var});
}

void ref_entropy(const struct ref_gate *gate, const struct num *p, const uint32_t *idx, struct num *full,
                 struct num *topk)
{
    struct num *active = ref_new(gate->K);
    for (size_t t = 0; t < gate->T; t++) {
        const struct num *own = p + t * gate->E;
        size_t n = 0;
        for (size_t k = t * gate->K; k < (t + 1) * gate->K; k++)
            if (idx[k] < gate->E)
                active[n++] = own[idx[k]];
        full[t] = entropy(gate->E, own);
        topk[t] = entropy(n, active);
    }
    free(active);
}

void ref_seu(size_t groups, size_t E, const struct num *load, struct num *used)
{
    for (size_t g = 0; g < groups; g++) {
        double count = 0;
        for (size_t e = 0; e < E; e++)
            count += load[g * E + e].v > 0;
        used[g] = num_div(num_exact(count), num_exact((double)E));
    }
}

void ref_histogram(size_t n, const float *x, size_t bin_count, uint32_t *bins)
{
    for (size_t i = 0; i < n; i++) {
        size_t bin = bin_count - 1;
        while (bin > 0 && (double)x[i] * (double)bin_count < (double)bin)
            bin--;
        bins[bin]++;
    }
}

void ref_orthogonality(size_t E, size_t D, const struct num *w, struct num *max_abs, struct num *mean_square)
{
    struct num_sum squares = {0};
    *max_abs = num_exact(0);
    for (size_t i = 0; i < E; i++)
        for (size_t j = 0; j < E; j++) {
            struct num_sum sum = {0};
            for (size_t d = 0; d < D; d++)
                num_sum_mul(&sum, w[i * D + d], w[j * D + d]);
            const struct num g = num_sub(num_sum_end(&sum), num_exact(i == j));
            *max_abs = num_max(*max_abs, num_abs(g));
            num_sum_mul(&squares, g, g);
        }
    *mean_square = num_div(num_sum_end(&squares), num_exact((double)(E * E)));
}

bool ref_routing_changed(size_t K, const uint32_t *before, const uint32_t *idx)
{
    size_t shared = 0;
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < K; j++)
            shared += before[j] == idx[k];
    return shared != K;
}

/* What one token's evaluation has. */
struct pes {
    size_t D, E;
    const struct num **row; /* [E] the experts' outputs [D] */
    struct num *scale;      /* [E] 1 / |row|, 0 of a row of zeros */
};

static double cosine(const struct pes *s, size_t i, size_t j)
{
    double sum = 0;
    for (size_t d = 0; d < s->D; d++)
        sum += s->row[i][d].v * s->row[j][d].v;
    return sum * s->scale[i].v * s->scale[j].v;
}

/* The bound of (|sum_i u_i|^2 - n) / (E (E - 1)), n outputs not zero. An expert's 1 / |f_i| is off by a factor 1 + r_i
 * that all D coordinates of u_i share: num's own count, which takes their errors to be independent, would be too small.
 * So it has two parts. With r alone |sum_i (1 + r_i) u_i|^2 is off by sum_i 2 r_i c_i + sum_ij r_i r_j cos_ij, c_i =
 * sum_j cos_ij (the cosine with itself counts): the r_i of different experts are independent. The rest is the rounding
 * of the sums with scales taken as exact. */
static struct num evaluated(const struct pes *s, size_t n)
{
    const double pairs = (double)s->E * (double)(s->E - 1);
    struct num_sum together = {0};
    double spread = 0, var = 0, all = 0;
    for (size_t d = 0; d < s->D; d++) {
        struct num_sum sum = {0};
        for (size_t e = 0; e < s->E; e++)
            num_sum_mul(&sum, s->row[e][d], num_exact(s->scale[e].v));
        const struct num u = num_sum_end(&sum);
        num_sum_mul(&together, u, u);
    }
    for (size_t i = 0; i < s->E; i++) {
        if (s->scale[i].v == 0)
            continue;
        double along = 0;
        for (size_t j = 0; j < s->E; j++)
            along += cosine(s, i, j);
        const double r = s->scale[i].e / s->scale[i].v, slope = 2 * along / s->scale[i].v;
        spread += 2 * r * fabs(along);
        var += slope * slope * s->scale[i].var;
        all += r;
    }
    struct num square = num_sum_end(&together);
    square = num_clamp((struct num){square.v, square.e + spread, square.var + var});
    square = num_widen(square, all * all);
    return num_div(num_sub(square, num_exact((double)n)), num_exact(pairs));
}

static struct num pes_of(const struct pes *s)
{
    struct num_sum own;
    double sum = 0;
    size_t n = 0;
    for (size_t e = 0; e < s->E; e++) {
        own = (struct num_sum){0};
        for (size_t d = 0; d < s->D; d++)
            num_sum_mul(&own, s->row[e][d], s->row[e][d]);
        s->scale[e] = own.v > 0 ? num_rsqrt(num_sum_end(&own)) : num_exact(0);
        n += own.v > 0;
    }
    if (s->E == 1)
        return num_exact(0);
    for (size_t i = 0; i < s->E; i++)
        for (size_t j = i + 1; j < s->E; j++)
            sum += cosine(s, i, j);
    const struct num bound = evaluated(s, n);
    return (struct num){2 * sum / ((double)s->E * (double)(s->E - 1)), bound.e, bound.var};
}

void ref_pes(size_t T, size_t D, size_t E, const struct num *rows, struct num *pes)
{
    struct pes s = {D, E, malloc(E * sizeof *s.row), ref_new(E)};
    if (!s.row)
        abort();
    for (size_t t = 0; t < T; t++) {
        for (size_t e = 0; e < E; e++)
            s.row[e] = rows + (e * T + t) * D;
        pes[t] = pes_of(&s);
    }
    free(s.row);
    free(s.scale);
}

struct ref_spread ref_spread(size_t E, const uint32_t *count)
{
    double sum = 0, square = 0;
    struct ref_spread s = {0, INFINITY, 0, 0};
    for (size_t e = 0; e < E; e++) {
        sum += count[e];
        s.max = fmax(s.max, count[e]);
        s.min = fmin(s.min, count[e]);
        s.dead += count[e] == 0;
    }
    const double mean = sum / (double)E;
    for (size_t e = 0; e < E; e++)
        square += (count[e] - mean) * (count[e] - mean);
    return (struct ref_spread){s.max / mean, s.min / mean, sqrt(square / (double)E) / mean, s.dead};
}
