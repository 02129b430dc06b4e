#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#ifdef WITH_16
#include "common/narrow.glsl"
#endif
#ifdef WIDE /* an invocation has two numbers: see base.glsl, or lanes_wide.glsl */
#include "common/lanes_wide.glsl"
layout(constant_id = SPEC_LANES) const bool TOGETHER = false; /* i is a workgroup's first number, not a pair's index */
#define REAL vec2
#define LOAD(array) (TOGETHER ? load_lanes2(array, i) : load_pair(array, i))
#define STORE(array, x) if (TOGETHER) store_lanes2(array, i, x); else store_pair(array, i, x)
#else
const bool TOGETHER = false;
#define REAL float
#define LOAD(array) array.v[i]
#define STORE(array, x) array.v[i] = x
#endif
/* AdamW (Loshchilov and Hutter 2019), in PyTorch's order: w -= lr decay w; m, v; w -= lr m^ / (sqrt(v^) + eps).
 * The gradient is scaled by clip_scale, used, and left at zero for the next step's accumulation. */
PUSH(adamw);

void update(uint i)
{
    REAL g = LOAD(p.g) * p.stats.v.clip_scale;
    STORE(p.g, REAL(0.0));
    if (p.stats.v.skip != 0)
        return;
    float lr = p.control.v.lr;
    REAL m = LOAD(p.m), v = LOAD(p.v); /* before other arguments: see lanes.glsl */
    m = fma(REAL(p.beta1), m, (1.0 - p.beta1) * g);
    v = fma(REAL(p.beta2), v, (1.0 - p.beta2) * g * g);
    STORE(p.m, m);
    STORE(p.v, v);
    REAL w = LOAD(p.w);
    w -= lr * p.decay * w;
    w -= lr * (m * p.control.v.bias1) / (sqrt(v * p.control.v.bias2) + p.eps);
    STORE(p.w, w);
#ifdef WITH_16
    store16(p.w16, i, w);
#endif
}

void main()
{
    uint each = ADAMW_TOGETHER / 4, i = TOGETHER ? group_index() * ADAMW_TOGETHER : invocation_index();
    if (i >= p.count)
        return;
    if (TOGETHER)
        [[unroll]] for (uint j = 0; j < 4; j++)
            update(min(i, p.count - ADAMW_TOGETHER) + j * each); /* see gathered_a in gemm.glsl */
    else
        update(i);
}
