#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* out += scale * sum_i x[i]; one workgroup */
PUSH(sum);

void main()
{
    float sum = 0.0;
    for (uint first = gl_LocalInvocationID.x; first < p.count; first += AHEAD * gl_WorkGroupSize.x) {
        float x[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            x[j] = p.x.v[min(first + j * gl_WorkGroupSize.x, p.count - 1)];
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            sum += first + j * gl_WorkGroupSize.x < p.count ? x[j] : 0.0;
    }
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.out_.v[0] += p.scale * sum;
}
