#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* out += scale * sum_i x[i]; one workgroup */
PUSH(sum);

void main()
{
    float sum = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < p.count; i += gl_WorkGroupSize.x)
        sum += p.x.v[i];
    sum = workgroup_sum(sum);
    if (gl_LocalInvocationID.x == 0)
        p.out_.v[0] += p.scale * sum;
}
