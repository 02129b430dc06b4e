/* Where the experts' rows lie, from how many there are. */
PUSH(route);

shared uint counts[MAX_EXPERTS + 1], first_row[MAX_EXPERTS + 1], first_tile[MAX_EXPERTS + 1];

/* offset[e], first_row, first_tile and the indirect commands, from counts; by every invocation: see gathered_a in gemm.glsl */
void lay_out(uint lane)
{
    uint rows = 0, tiles = 0;
    for (uint e = 0; e < p.E; e++) {
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
}

/* count[e], total[e] and the tile map of expert e's rows */
void map_tiles(uint e)
{
    uint count = counts[e], row = first_row[e], tile = first_tile[e];
    p.count.v[e] = count;
    if (PRESENT(p.total))
        p.total.v[e] += count;
    for (uint done = 0; done < count; done += p.tile_rows)
        p.tiles.v[tile++] = gemm_tile(e, row + done);
}
