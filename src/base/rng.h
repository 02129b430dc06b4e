/* Counter-based random numbers: a value depends on (seed, stream, index) alone, so nothing has to be saved to resume.
 * Philox4x32-10: Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3". */
#ifndef VKM_BASE_RNG_H
#define VKM_BASE_RNG_H

#include <stdint.h>

/* What a stream's numbers are for; a parameter tensor i uses VKM_STREAM_INIT + i. */
enum { VKM_STREAM_DATA = 1, VKM_STREAM_SAMPLE = 2, VKM_STREAM_PROBE = 3, VKM_STREAM_INIT = 1000 };

/* The block function itself, as Random123 numbers its words. */
void vkm_rng_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Four independent 32-bit words: the block of counter (index, stream, 0) under the key seed. */
void vkm_rng_words(uint64_t seed, uint32_t stream, uint64_t index, uint32_t out[4]);

/* Uniform in [0, n), n > 0; bias below n / 2^64. */
uint64_t vkm_rng_below(uint64_t seed, uint32_t stream, uint64_t index, uint64_t n);

/* Uniform in [0, 1), 53 bits. */
double vkm_rng_uniform(uint64_t seed, uint32_t stream, uint64_t index);

/* Standard normal (Box-Muller). */
double vkm_rng_normal(uint64_t seed, uint32_t stream, uint64_t index);

#endif
