#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
PUSH(route);
#include "common/slots.glsl"
/* Rows of expert e in order of (t,k): row_of[t,k], and back token_of[row], slot_of[row]; a subgroup a chunk. Of how many rows of e are in
 * chunks before it, route_scan left in chunk_count. */
void main()
{
    uint chunk = group_index(), chunks = (p.T + p.chunk - 1) / p.chunk, lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    if (chunk >= chunks)
        return;
    for (uint e = lane; e < p.E; e += lanes)
        next[e] = p.offset.v[e] + p.chunk_count.v[e * chunks + chunk];
    subgroupBarrier();
    place_slots(first_slot(chunk), first_slot(chunk + 1));
}
