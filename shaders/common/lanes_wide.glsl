/* What goes with lanes.glsl in kernels that have 64-bit integers (-DWIDE) */
#extension GL_KHR_shader_subgroup_shuffle : require
#include "common/lanes.glsl"

/* The reverse of load_lanes2, i even: two neighbours from each lane, which is half as many stores */
void store_lanes2(F32 array, uint i, vec2 x)
{
    uint from = gl_SubgroupInvocationID * 2 % LANES;
    float even = subgroupShuffle(x.x, from), odd = subgroupShuffle(x.x, from + 1);
    float even2 = subgroupShuffle(x.y, from), odd2 = subgroupShuffle(x.y, from + 1);
    bool upper = gl_SubgroupInvocationID >= LANES / 2;
    vec2 pair = upper ? vec2(even2, odd2) : vec2(even, odd);
    store_pair(array, i / 2 + gl_SubgroupInvocationID, pair);
}

/* x[i] of lane l becomes x[l] of lane i. zero: 0, which the compiler must not know: see lanes.glsl */
void transpose_lanes(inout float x[LANES], uint zero)
{
    [[unroll]] for (uint i = 0; i < LANES; i++)
        x[i] = uintBitsToFloat(floatBitsToUint(x[i]) ^ zero);
    [[unroll]] for (uint bit = LANES / 2; bit >= 1; bit /= 2) {
        bool upper = (gl_SubgroupInvocationID & bit) != 0;
        [[unroll]] for (uint i = 0; i < LANES; i++)
            if ((i & bit) == 0) {
                float a = x[i], b = x[i + bit];
                float moved = subgroupShuffle(upper ? a : b, gl_SubgroupInvocationID ^ bit);
                x[i] = upper ? moved : a;
                x[i + bit] = upper ? b : moved;
            }
    }
}
