#include "base/rng.h"

#include <math.h>

static uint32_t multiply_high(uint32_t a, uint32_t b, uint32_t *low)
{
    uint64_t product = (uint64_t)a * b;
    *low = (uint32_t)product;
    return (uint32_t)(product >> 32);
}

void vkm_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        uint32_t low0, low1;
        uint32_t high0 = multiply_high(0xD2511F53u, c0, &low0);
        uint32_t high1 = multiply_high(0xCD9E8D57u, c2, &low1);
        c0 = high1 ^ c1 ^ k0;
        c1 = low1;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void vkm_rng_words(uint64_t seed, uint32_t stream, uint64_t index, uint32_t out[4])
{
    const uint32_t counter[4] = {(uint32_t)index, (uint32_t)(index >> 32), stream, 0};
    const uint32_t key[2] = {(uint32_t)seed, (uint32_t)(seed >> 32)};
    vkm_rng_philox(counter, key, out);
}

static uint64_t join(uint32_t low, uint32_t high)
{
    return (uint64_t)high << 32 | low;
}

uint64_t vkm_rng_below(uint64_t seed, uint32_t stream, uint64_t index, uint64_t n)
{
    uint32_t w[4];
    vkm_rng_words(seed, stream, index, w);
    /* The upper 64 bits of the 128-bit product (w1 w0) * n, in 32-bit limbs. */
    uint64_t n0 = n & UINT32_MAX, n1 = n >> 32;
    uint64_t low = w[0] * n0;
    uint64_t middle = w[1] * n0 + (low >> 32);
    uint64_t carry = w[0] * n1 + (middle & UINT32_MAX);
    return w[1] * n1 + (middle >> 32) + (carry >> 32);
}

/* The upper 53 bits as a fraction in [0, 1). */
static double fraction(uint64_t bits)
{
    return (double)(bits >> 11) * 0x1p-53;
}

double vkm_rng_uniform(uint64_t seed, uint32_t stream, uint64_t index)
{
    uint32_t w[4];
    vkm_rng_words(seed, stream, index, w);
    return fraction(join(w[0], w[1]));
}

double vkm_rng_normal(uint64_t seed, uint32_t stream, uint64_t index)
{
    const double two_pi = 6.283185307179586;
    uint32_t w[4];
    vkm_rng_words(seed, stream, index, w);
    double radius = 1.0 - fraction(join(w[0], w[1])); /* in (0, 1]: its logarithm is finite */
    return sqrt(-2.0 * log(radius)) * cos(two_pi * fraction(join(w[2], w[3])));
}
