#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* norm = sqrt(sum of the partial sums) / S, S the loss scale; clip_scale = min(1, clip / norm) / S, 1 / S where clip = 0;
 * a norm or loss that is not finite skips the step. S halves at each skipped step, and doubles after `growth` good ones.
 * One workgroup. */
PUSH(grad_norm);

bool finite(float x) { return abs(x) <= 3.4028234e38; }

void main()
{
    float sum = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < p.partials; i += gl_WorkGroupSize.x)
        sum += p.partial.v[i];
    float norm = sqrt(workgroup_sum(sum)), scale = p.loss_scale.v.scale;
    if (gl_LocalInvocationID.x != 0)
        return;
    norm /= scale;
    bool skip = !finite(norm) || !finite(p.stats.v.loss);
    p.stats.v.grad_norm = norm;
    p.stats.v.clip_scale = (p.clip > 0.0 && norm > p.clip ? p.clip / norm : 1.0) / scale;
    p.stats.v.skip = uint(skip);
    uint good = p.loss_scale.v.good_steps + 1;
    if (p.growth > 0 && (skip || good >= p.growth)) {
        scale = clamp(skip ? 0.5 * scale : 2.0 * scale, 1.0 / 16384.0, 16777216.0);
        good = 0;
    }
    p.stats.v.loss_scale = p.loss_scale.v.scale = scale;
    p.stats.v.good_steps = p.loss_scale.v.good_steps = good;
}
