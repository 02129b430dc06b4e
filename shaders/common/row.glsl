/* Loads along the lanes of a workgroup. TOGETHER: as lanes.glsl does, of a workgroup that is a subgroup of eight. */
#include "common/lanes.glsl"
layout(constant_id = SPEC_LANES) const uint ROW = 0; /* a row's length; in kernels that have no rows 1; 0: not TOGETHER */
const bool TOGETHER = ROW != 0;

/* Vectors at a time: TOGETHER has whole ones */
const uint EACH = ROW == 0 ? 4 : ROW % (16 * LANES) == 0 ? 16 : ROW % (8 * LANES) == 0 ? 8 : 4;

/* For the numbers d + (the invocation's) of a row of n. A round of a loop is dear on a CPU device, whose compiler knows n. TOGETHER
 * d is brought below n: see gathered_a in gemm.glsl. */
#define FOR_ROW(d, n)                                                                                  \
    for (uint d##_first = 0; d##_first < (TOGETHER ? ROW : n); d##_first += EACH * gl_WorkGroupSize.x) \
        [[unroll]] for (uint d##_each = 0, d = row_part(d##_first); d##_each < EACH;                   \
                        d##_each++, d = row_part(d##_first + d##_each * gl_WorkGroupSize.x))           \
            if (TOGETHER || d + gl_LocalInvocationID.x < n)

uint row_part(uint d) { return TOGETHER ? min(d, ROW - LANES) : d; }

/* Element first + (the invocation's number); TOGETHER the array has all of LANES. */
float load_row(F32 array, uint first)
{
    return TOGETHER ? load_lanes(address_of(array, first), 0) : array.v[first + gl_LocalInvocationID.x];
}
