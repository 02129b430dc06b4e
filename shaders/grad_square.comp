#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* partial[group] = sum of x[i]^2 over i = invocation, + all invocations, ... */
PUSH(grad_norm);

void main()
{
    float sum = 0.0;
    uint stride = gl_NumWorkGroups.x * gl_WorkGroupSize.x;
    for (uint i = invocation_index(); i < p.count; i += stride)
        sum = fma(p.x.v[i], p.x.v[i], sum);
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.partial.v[gl_WorkGroupID.x] = sum;
}
