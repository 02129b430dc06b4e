#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
PUSH(route);
#include "common/slots.glsl"
/* chunk_count[e,chunk] = slots of the chunk's tokens that chose e; a subgroup a chunk */
void main()
{
    uint chunk = group_index(), chunks = (p.T + p.chunk - 1) / p.chunk, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    if (chunk >= chunks)
        return;
    for (uint e = lane; e <= p.E; e += lanes)
        next[e] = 0;
    subgroupBarrier();
    count_slots(first_slot(chunk), first_slot(chunk + 1));
    for (uint e = lane; e < p.E; e += lanes)
        p.chunk_count.v[e * chunks + chunk] = next[e];
}
