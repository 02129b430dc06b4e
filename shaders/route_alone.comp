#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_ballot : require
#include "common/base.glsl"
#include "common/route.glsl"
/* What route_count, route_scan and route_scatter do, in one kernel by one subgroup: a CPU device takes longer to begin another kernel
 * than to look at the slots (t,k), a lane each. */

/* Lanes before this one with the same e; none after has it. */
uint before;
bool is_last;
void compare(uint e)
{
    before = 0;
    is_last = true;
    [[unroll]] for (uint lane = 0; lane < gl_WorkGroupSize.x; lane++) {
        bool same = subgroupBroadcast(e, lane) == e;
        before += uint(same && lane < gl_SubgroupInvocationID);
        is_last = is_last && !(same && lane > gl_SubgroupInvocationID);
    }
}

/* E: dropped, or past the end */
uint expert_of(uint slot)
{
    uint slots = p.T * p.K;
    return slot < slots ? min(p.idx.v[min(slot, slots - 1)], p.E) : p.E;
}

void main()
{
    uint lane = gl_SubgroupInvocationID, lanes = gl_WorkGroupSize.x, slots = p.T * p.K;
    for (uint e = lane; e <= p.E; e += lanes)
        counts[e] = 0;
    subgroupBarrier();
    for (uint first = 0; first < slots; first += lanes) {
        uint e = expert_of(first + lane);
        compare(e);
        uint count = counts[e] + before + 1;
        subgroupBarrier();
        if (is_last)
            counts[e] = count;
        subgroupBarrier();
    }
    lay_out(lane);
    subgroupBarrier();
    for (uint e = lane; e < p.E; e += lanes)
        map_tiles(e);
    subgroupBarrier();
    for (uint first = 0; first < slots; first += lanes) { /* first_row becomes the next row */
        uint slot = first + lane, e = expert_of(slot);
        compare(e);
        uint row = first_row[e] + before;
        subgroupBarrier();
        if (is_last)
            first_row[e] = row + 1;
        subgroupBarrier();
        if (e < p.E) {
            p.row_of.v[slot] = row;
            p.token_of.v[row] = slot / p.K;
            p.slot_of.v[row] = slot;
        }
    }
}
