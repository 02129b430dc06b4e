#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* From the chunks' counts: count[e], offset[e], each chunk's first row of e (in place of its count), the tile map of
 * each expert's rows, and the indirect commands. One workgroup. */
PUSH(route);

shared uint counts[MAX_EXPERTS + 1], first_row[MAX_EXPERTS + 1], first_tile[MAX_EXPERTS + 1];

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
        p.count.v[e] = count;
        if (PRESENT(p.total))
            p.total.v[e] += count;
    }
    barrier();
    uint rows = 0, tiles = 0;
    for (uint e = 0; e < p.E; e++) { /* by every invocation: see gemm.glsl, gathered_a */
        if (lane == 0) {
            first_row[e] = rows;
            first_tile[e] = tiles;
            p.offset.v[e] = rows;
        }
        rows += counts[e];
        tiles += (counts[e] + p.tile_rows - 1) / p.tile_rows;
    }
    if (lane == 0) {
        p.offset.v[p.E] = rows;
        p.commands.v[0] = p.commands.v[3] = tiles;
        p.commands.v[1] = p.f_tiles;
        p.commands.v[4] = p.d_tiles;
        p.commands.v[2] = p.commands.v[5] = 1;
    }
    barrier();
    for (uint e = lane; e < p.E; e += lanes) {
        uint row = first_row[e], tile = first_tile[e], count = counts[e];
        for (uint done = 0; done < count; done += p.tile_rows)
            p.tiles.v[tile++] = gemm_tile(e, row + done);
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
