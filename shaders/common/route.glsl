/* Where the experts' rows lie, from how many there are; of a kernel with PUSH(route). */
#extension GL_KHR_shader_subgroup_arithmetic : require

shared uint counts[MAX_EXPERTS], first_row[MAX_EXPERTS], first_tile[MAX_EXPERTS];

/* offset[e], first_row, first_tile and the indirect commands, from counts; by one subgroup */
void lay_out()
{
    uint rows = 0, tiles = 0, lane = gl_SubgroupInvocationID;
    for (uint first = 0; first < p.E; first += gl_SubgroupSize) {
        uint e = min(first + lane, p.E - 1), count = first + lane < p.E ? counts[e] : 0;
        uint of_tiles = (count + p.tile_rows - 1) / p.tile_rows;
        uint row = rows + subgroupExclusiveAdd(count), tile = tiles + subgroupExclusiveAdd(of_tiles);
        if (first + lane < p.E) {
            first_row[e] = row;
            first_tile[e] = tile;
            p.offset.v[e] = row;
        }
        rows += subgroupAdd(count);
        tiles += subgroupAdd(of_tiles);
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
