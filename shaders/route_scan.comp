#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/route.glsl"
/* From the chunks' counts: count[e], offset[e], each chunk's first row of e (in place of its count), the tile map of
 * each expert's rows, and the indirect commands. One workgroup. */

/* Of chunks c .. c + AHEAD - 1; past the last, the last's. */
uint[AHEAD] counts_from(uint c, uint chunks, uint e)
{
    uint in_chunk[AHEAD];
    [[unroll]] for (uint j = 0; j < AHEAD; j++)
        in_chunk[j] = p.chunk_count.v[min(c + j, chunks - 1) * p.E + e];
    return in_chunk;
}

void main()
{
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    uint chunks = (p.T + p.chunk - 1) / p.chunk;
    for (uint e = lane; e < p.E; e += lanes) {
        uint count = 0;
        for (uint c = 0; c < chunks; c += AHEAD) {
            uint in_chunk[AHEAD] = counts_from(c, chunks, e);
            [[unroll]] for (uint j = 0; j < AHEAD; j++)
                count += c + j < chunks ? in_chunk[j] : 0;
        }
        counts[e] = count;
    }
    barrier();
    lay_out(lane);
    barrier();
    for (uint e = lane; e < p.E; e += lanes) {
        map_tiles(e);
        uint row = first_row[e];
        for (uint c = 0; c < chunks; c += AHEAD) {
            uint in_chunk[AHEAD] = counts_from(c, chunks, e);
            [[unroll]] for (uint j = 0; j < AHEAD; j++)
                if (c + j < chunks) {
                    p.chunk_count.v[(c + j) * p.E + e] = row;
                    row += in_chunk[j];
                }
        }
    }
}
