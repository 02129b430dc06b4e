#include "cases.h"

#include <math.h>
#include <string.h>

/* splitmix64 of (seed, index) */
static uint64_t word(uint64_t seed, uint64_t index)
{
    uint64_t z = seed * 0xd1342543de82ef95u + (index + 1) * 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* In [0, 1), 24 bits: exact in f32 */
static double uniform(uint64_t seed, uint64_t index)
{
    return (double)(word(seed, index) >> 40) * 0x1p-24;
}

uint32_t case_index(uint64_t seed, uint64_t i, uint32_t below)
{
    return (uint32_t)(word(seed, i) % below);
}

float case_value(uint64_t seed, uint64_t i, float scale)
{
    return scale * (float)(2 * uniform(seed, i) - 1);
}

void case_fill(float *x, size_t n, uint64_t seed, float scale)
{
    for (size_t i = 0; i < n; i++)
        x[i] = case_value(seed, i, scale);
}

void case_fill_tied(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++)
        x[i] = 0.5f * (float)case_index(seed, i, 5) - 1.0f;
}

void case_fill_indices(uint32_t *x, size_t n, uint64_t seed, uint32_t limit)
{
    for (size_t i = 0; i < n; i++)
        x[i] = case_index(seed, i, limit);
}

static bool contains(const uint32_t *x, size_t n, uint32_t value)
{
    for (size_t i = 0; i < n; i++)
        if (x[i] == value)
            return true;
    return false;
}

/* A first wish; the next free expert is taken where it is not available. */
static uint32_t wish(enum case_routing routing, size_t t, size_t k, size_t E, size_t K, uint64_t seed)
{
    const double r = uniform(seed, t * K + k);
    switch (routing) {
    case CASE_BALANCED:
        return (uint32_t)((t * K + k) % E);
    case CASE_SKEWED:
        return (uint32_t)((double)E * r * r * r);
    case CASE_ONE:
        return (uint32_t)((E - 1 + k) % E);
    default:
        return (uint32_t)((double)E * r);
    }
}

void case_route(enum case_routing routing, size_t T, size_t E, size_t K, uint64_t seed, uint32_t *idx)
{
    for (size_t t = 0; t < T; t++)
        for (size_t k = 0; k < K; k++) {
            uint32_t expert = wish(routing, t, k, E, K, seed);
            while (contains(idx + t * K, k, expert) || (routing == CASE_EMPTY && K < E && expert == E / 2))
                expert = (uint32_t)((expert + 1) % E);
            idx[t * K + k] = expert;
        }
}

const char *case_routing_name(enum case_routing routing)
{
    static const char *const names[] = {"balanced", "random", "skewed", "empty expert", "one expert"};
    return names[routing];
}

void case_fill_scores(float *z, const struct case_gate *shape, uint64_t seed)
{
    const size_t n = (size_t)shape->T * shape->E;
    switch (shape->scores) {
    case CASE_SCORES_TIED:
        case_fill_tied(z, n, seed);
        break;
    case CASE_SCORES_EQUAL:
        memset(z, 0, n * sizeof *z);
        break;
    default:
        case_fill(z, n, seed, shape->scores == CASE_SCORES_WIDE ? 60 : 2);
    }
}

void case_fill_targets(uint32_t *target, const struct case_xent *shape, uint64_t seed)
{
    for (size_t t = 0; t < shape->T; t++) {
        const bool ignored = shape->targets == CASE_TARGETS_NONE || (shape->targets == CASE_TARGETS_SOME && t % 3 == 1);
        target[t] = ignored ? UINT32_MAX : case_index(seed, t, shape->V);
    }
}

void case_fill_router(float *w, const struct case_router *shape, uint64_t seed)
{
    const size_t E = shape->E, D = shape->D;
    case_fill(w, E * D, seed, 1);
    for (size_t i = 0; i < E && shape->orthonormal; i++) {
        float *row = w + i * D;
        /* Twice: what one pass leaves is as large as its rounding, on rows that are f32 already. */
        for (int pass = 0; pass < 2; pass++)
            for (size_t j = 0; j < i; j++) {
                double along = 0;
                for (size_t d = 0; d < D; d++)
                    along += (double)row[d] * (double)w[j * D + d];
                for (size_t d = 0; d < D; d++)
                    row[d] = (float)((double)row[d] - along * (double)w[j * D + d]);
            }
        double square = 0;
        for (size_t d = 0; d < D; d++)
            square += (double)row[d] * (double)row[d];
        for (size_t d = 0; d < D; d++)
            row[d] = (float)((double)row[d] / sqrt(square));
    }
}
