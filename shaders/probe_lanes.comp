#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/lanes.glsl"
/* y[lane] = the sum of what a lane loads of x, `rounds` times PROBE_LANES_ROWS numbers, eight side by side: one way or the other */
layout(constant_id = SPEC_PROBE_TOGETHER) const bool TOGETHER = false;
PUSH(probe_lanes);

void main()
{
    vec4 sum = vec4(0.0);
    for (uint r = 0; r < p.rounds; r++)
        [[unroll]] for (uint i = 0; i < PROBE_LANES_ROWS; i++) {
            uint at = (r % PROBE_LANES_ROWS + i) * LANES;
            sum[i % 4] += TOGETHER ? load_lanes(address_of(p.x, at), 0) : p.x.v[at + gl_SubgroupInvocationID];
        }
    p.y.v[gl_SubgroupInvocationID] = sum.x + sum.y + sum.z + sum.w;
}
