/* Parts of the experts' long sums. Of `rows` sorted by expert, an expert's are cut up every `part` rows from its first on; a rest of at
 * most half a part stays with the part before. The first part's sum goes where the whole would, each further one's to a place
 * in scratch: if it begins in rows [j part, (j + 1) part), to place j - 1. No two share one: an expert's begin `part` apart,
 * and the first of the next expert at least `part` behind that expert's first row. A part of all rows cuts up nothing. */
uint parts_places(uint rows, uint part) { return (rows - 1) / part; }

struct rows_part {
    uint expert;
    uint first, end; /* its rows; none, where first == end */
};

bool part_begins(uint first, uint last, uint part) { return first + part / 2 < last; }

/* Places come first, then the experts' first parts. What can be in a place is a part of the expert that has row j part. */
rows_part part_at(uint z, uint places, uint experts, uint rows, uint part, U32 offset, U32 slot, U32 idx)
{
    uint row = min((z + 1) * part, rows - 1), expert = z - places;
    if (z < places)
        expert = idx.v[min(slot.v[row], rows - 1)];
    expert = min(expert, experts - 1); /* rows that no expert has name any; and see gathered_a in gemm.glsl */
    uint begin = offset.v[expert], last = offset.v[expert + 1], first = begin;
    if (z < places) {
        first += (row - begin + part - 1) / part * part;
        if (first == begin || !part_begins(first, last, part))
            return rows_part(expert, begin, begin);
    }
    return rows_part(expert, first, part_begins(first + part, last, part) ? first + part : last);
}
