/* Loads along the lanes of a workgroup. TOGETHER: as lanes.glsl does, of a workgroup that is a subgroup of eight. */
#include "common/lanes.glsl"
layout(constant_id = SPEC_LANES) const bool TOGETHER = false;

const uint EACH = 4; /* such loads at a time: TOGETHER has whole ones */

/* Element first + (the invocation's number), of an array that ends at a multiple of the workgroup's size where TOGETHER is set;
 * first, a multiple of it, is brought below `end` (see gathered_a in gemm.glsl). */
float load_row(F32 array, uint row, uint first, uint end)
{
    if (TOGETHER)
        return load_lanes(address_of(array, row + min(first, end - LANES)), 0);
    return array.v[row + first + gl_LocalInvocationID.x];
}
