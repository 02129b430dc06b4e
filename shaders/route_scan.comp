#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* From the chunks' counts: count[e], offset[e], each chunk's first row of e (in place of its count), the tile map of
 * each expert's rows, and the indirect commands. One workgroup. */
PUSH(route);

shared uint counts[MAX_EXPERTS];

void main()
{
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    uint chunks = (p.T + p.chunk - 1) / p.chunk;
    for (uint e = lane; e < p.E; e += lanes) {
        uint count = 0;
        for (uint c = 0; c < chunks; c++)
            count += p.chunk_count.v[c * p.E + e];
        counts[e] = count;
        p.count.v[e] = count;
        if (PRESENT(p.total))
            p.total.v[e] += count;
    }
    barrier();
    for (uint e = lane; e < p.E; e += lanes) {
        uint row = 0, tile = 0;
        for (uint before = 0; before < e; before++) {
            uint count = counts[before];
            row += count;
            tile += (count + p.tile_rows - 1) / p.tile_rows;
        }
        uint count = counts[e];
        p.offset.v[e] = row;
        for (uint done = 0; done < count; done += p.tile_rows)
            p.tiles.v[tile++] = gemm_tile(e, row + done);
        if (e == p.E - 1) {
            p.offset.v[p.E] = row + count;
            p.commands.v[0] = tile;
            p.commands.v[1] = p.f_tiles;
            p.commands.v[2] = 1;
            p.commands.v[3] = tile;
            p.commands.v[4] = p.d_tiles;
            p.commands.v[5] = 1;
        }
        for (uint c = 0; c < chunks; c++) {
            uint in_chunk = p.chunk_count.v[c * p.E + e];
            p.chunk_count.v[c * p.E + e] = row;
            row += in_chunk;
        }
    }
}
