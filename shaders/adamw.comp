#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#ifdef WITH_16
#include "common/narrow.glsl"
#endif
/* AdamW (Loshchilov and Hutter 2019), in PyTorch's order: w -= lr decay w; m, v; w -= lr m^ / (sqrt(v^) + eps).
 * The gradient is scaled by clip_scale, used, and left at zero for the next step's accumulation. */
PUSH(adamw);

void main()
{
    uint i = invocation_index();
    if (i >= p.count)
        return;
    float g = p.g.v[i] * p.stats.v.clip_scale;
    p.g.v[i] = 0.0;
    if (p.stats.v.skip != 0)
        return;
    float lr = p.control.v.lr;
    float m = fma(p.beta1, p.m.v[i], (1.0 - p.beta1) * g);
    float v = fma(p.beta2, p.v.v[i], (1.0 - p.beta2) * g * g);
    p.m.v[i] = m;
    p.v.v[i] = v;
    float w = p.w.v[i] - lr * p.decay * p.w.v[i];
    w -= lr * (m * p.control.v.bias1) / (sqrt(v * p.control.v.bias2) + p.eps);
    p.w.v[i] = w;
#ifdef WITH_16
    store16(p.w16, i, w);
#endif
}
