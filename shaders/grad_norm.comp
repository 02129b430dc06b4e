#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* norm = sqrt(sum of the partial sums); clip_scale = min(1, clip / norm), 1 where clip = 0; a norm or loss that is not
 * finite skips the step. One workgroup. */
PUSH(grad_norm);

bool finite(float x) { return abs(x) <= 3.4028234e38; }

void main()
{
    float sum = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < p.partials; i += gl_WorkGroupSize.x)
        sum += p.partial.v[i];
    float norm = sqrt(workgroup_sum(sum));
    if (gl_LocalInvocationID.x != 0)
        return;
    bool skip = !finite(norm) || !finite(p.stats.v.loss);
    p.stats.v.grad_norm = norm;
    p.stats.v.clip_scale = p.clip > 0.0 && norm > p.clip ? p.clip / norm : 1.0;
    p.stats.v.skip = uint(skip);
}
