/* Loads along the lanes of a workgroup. TOGETHER: as lanes.glsl does, of a workgroup that is a subgroup of eight. */
#include "common/lanes.glsl"
/* A row's length, where it is a whole number of workgroups, or TOGETHER is worth it; else 0. Kernels without rows: TOGETHER. */
layout(constant_id = SPEC_LANES) const uint ROW = 0;
const uint WORKGROUP = gl_WorkGroupSize.x; /* by itself: glslang leaves a && of it undefined */
const bool WHOLE = ROW != 0, TOGETHER = WHOLE && WORKGROUP == LANES;

/* Numbers that an invocation loads before it looks at the first: the most that divide a row, up to what it has registers for */
const uint PARTS = ROW / WORKGROUP;
const uint EACH = !WHOLE ? 4 : (TOGETHER ? PARTS % 16 : 1) == 0 ? 16 : PARTS % 8 == 0 ? 8 : PARTS % 6 == 0 ? 6 : PARTS % 4 == 0 ? 4
                : PARTS % 3 == 0 ? 3 : PARTS % 2 == 0 ? 2 : 1;

/* For the numbers d + (the invocation's) of a row of n. A round of a loop is dear on a CPU device, whose compiler knows n. TOGETHER
 * d is brought below n: see gathered_a in gemm.glsl. */
#define FOR_ROW(d, n)                                                                                  \
    for (uint d##_first = 0; d##_first < (WHOLE ? ROW : n); d##_first += EACH * gl_WorkGroupSize.x)    \
        [[unroll]] for (uint d##_each = 0, d = row_part(d##_first); d##_each < EACH;                   \
                        d##_each++, d = row_part(d##_first + d##_each * gl_WorkGroupSize.x))           \
            if (WHOLE || d + gl_LocalInvocationID.x < n)

uint row_part(uint d) { return TOGETHER ? min(d, ROW - LANES) : d; }

/* Element first + (the invocation's number); TOGETHER the array has all of LANES. */
float load_row(F32 array, uint first)
{
    return TOGETHER ? load_lanes(address_of(array, first), 0) : array.v[first + gl_LocalInvocationID.x];
}
