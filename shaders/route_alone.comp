#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
PUSH(route);
#include "common/slots.glsl"
#include "common/route.glsl"
/* What route_count, route_scan and route_scatter do, in one kernel by one subgroup: a CPU device takes longer to begin another kernel
 * than to look at the slots. */
void main()
{
    uint lane = gl_SubgroupInvocationID, lanes = gl_WorkGroupSize.x, slots = p.T * p.K;
    for (uint e = lane; e <= p.E; e += lanes)
        next[e] = 0;
    subgroupBarrier();
    count_slots(0, slots);
    for (uint e = lane; e < p.E; e += lanes)
        counts[e] = next[e];
    subgroupBarrier();
    lay_out();
    subgroupBarrier();
    for (uint e = lane; e < p.E; e += lanes) {
        map_tiles(e);
        next[e] = first_row[e];
    }
    subgroupBarrier();
    place_slots(0, slots);
}
