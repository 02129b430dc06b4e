#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* bins[b] += numbers x with b <= 16 x < b + 1 (the last bin: also 1); a workgroup a bin. 16 x is exact, and so are the
 * counts of an invocation up to 2^24; they are added up as two halves. */
PUSH(histogram);

void main()
{
    uint bin = gl_WorkGroupID.x, count = 0;
    for (uint i = gl_LocalInvocationID.x; i < p.count; i += gl_WorkGroupSize.x)
        count += uint(min(uint(p.x.v[i] * float(GATE_BINS)), uint(GATE_BINS - 1)) == bin);
    uint low = uint(workgroup_sum(float(count & 0xfffu))), high = uint(workgroup_sum(float(count >> 12)));
    if (gl_LocalInvocationID.x == 0)
        p.bins.v[bin] += (high << 12) + low;
}
