/* Buffers full of random numbers, each of which the host can tell again: what is timed reads them, what checks it too. */
#ifndef VKMOE_BENCH_FILL_H
#define VKMOE_BENCH_FILL_H

#include "gpu/recorder.h"

struct bench_fill {
    uint64_t seed;
    uint32_t type; /* TYPE_F32: uniform in [-scale, scale]. TYPE_F16, TYPE_BF16: magnitudes between 1/16 and 1 */
    float scale;
};

/* In a pattern that repeats itself every few megabytes. */
enum vkmoe_status bench_fill(struct vkmoe_context *ctx, struct vkm_buf buf, const struct bench_fill *fill);
/* The number at i of a buffer that was filled so. */
float bench_filled(const struct bench_fill *fill, struct vkm_buf buf, uint64_t i);

#endif
