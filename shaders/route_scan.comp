#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
PUSH(route);
#include "common/route.glsl"
/* From the chunks' counts: count[e], offset[e], how many of e's rows are in the chunks before each (in place of its count), the tile
 * map of each expert's rows, and the indirect commands. One workgroup; a subgroup has an expert at a time, a lane a chunk. */

/* Of four times as many chunks as there are lanes, from `first` on; past the last: none. */
const uint STEPS = 4;
uint[STEPS] counts_from(uint e, uint first, uint chunks)
{
    uint in_chunk[STEPS];
    [[unroll]] for (uint i = 0; i < STEPS; i++) {
        uint chunk = first + i * gl_SubgroupSize + gl_SubgroupInvocationID, count = p.chunk_count.v[e * chunks + min(chunk, chunks - 1)];
        in_chunk[i] = chunk < chunks ? count : 0;
    }
    return in_chunk;
}

void main()
{
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x, chunks = (p.T + p.chunk - 1) / p.chunk;
    for (uint e = gl_SubgroupID; e < p.E; e += gl_NumSubgroups) {
        uint before = 0;
        for (uint first = 0; first < chunks; first += STEPS * gl_SubgroupSize) {
            uint in_chunk[STEPS] = counts_from(e, first, chunks);
            [[unroll]] for (uint i = 0; i < STEPS; i++) {
                uint chunk = first + i * gl_SubgroupSize + gl_SubgroupInvocationID;
                uint own = before + subgroupExclusiveAdd(in_chunk[i]);
                if (chunk < chunks)
                    p.chunk_count.v[e * chunks + chunk] = own;
                before += subgroupAdd(in_chunk[i]);
            }
        }
        if (subgroupElect())
            counts[e] = before;
    }
    barrier();
    if (gl_SubgroupID == 0)
        lay_out();
    barrier();
    for (uint e = lane; e < p.E; e += lanes)
        map_tiles(e);
}
