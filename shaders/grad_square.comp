#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#include "common/row.glsl"
/* partial[group] = sum of x[i]^2 over the group's part of x, whose numbers lie together: a CPU device has them in its caches' lines */
PUSH(grad_norm);

void main()
{
    float sum = 0.0;
    uint part = ((p.count - 1) / gl_NumWorkGroups.x / LANES + 1) * LANES, begin = min(gl_WorkGroupID.x * part, p.count);
    uint end = min(begin + part, p.count);
    for (uint first = begin; first < end; first += AHEAD * gl_WorkGroupSize.x) {
        float x[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            x[j] = TOGETHER ? load_row(p.x, min(first + j * LANES, end - LANES))
                            : p.x.v[min(first + j * gl_WorkGroupSize.x + gl_LocalInvocationID.x, end - 1)];
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            sum = first + j * gl_WorkGroupSize.x + gl_LocalInvocationID.x < end ? fma(x[j], x[j], sum) : sum;
    }
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.partial.v[gl_WorkGroupID.x] = sum;
}
