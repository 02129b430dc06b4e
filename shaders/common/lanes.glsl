/* Loads and stores of what lies side by side, by a subgroup of eight, as lavapipe 26 does them best. What each lane loads from an
 * address of its own is gathered word by word. But an address that is the same in all lanes is loaded as a scalar, and of scalars
 * side by side, each taken by one lane, LLVM makes one load of a vector: ten times as fast. It does not where a shuffle of constant
 * lanes follows (it picks scalars then). Worth it on devices with caps.lanes. */
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
const uint LANES = 8;
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer LaneRow { float v[2 * LANES]; };
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer LanePairs { uint64_t v[]; };

uint64_t address_of(F32 array, uint i) { return pack64(uvec2(array)) + uint64_t(i) * 4; }

/* Lane l: the l-th number from `at` on, which is the same in all lanes; at + 4 * skip */
float load_lanes(uint64_t at, const uint skip)
{
    LaneRow row = LaneRow(at);
    float x = row.v[skip];
    [[unroll]] for (uint lane = 1; lane < LANES; lane++) {
        float y = row.v[skip + lane];
        x = gl_SubgroupInvocationID == lane ? y : x;
    }
    return x;
}

/* Elements i + l and i + LANES + l; i is the same in all lanes */
vec2 load_lanes2(F32 array, uint i)
{
    uint64_t at = address_of(array, i);
    return vec2(load_lanes(at, 0), load_lanes(at, LANES));
}

/* The reverse, i even: two neighbours from each lane, which is half as many stores */
void store_lanes2(F32 array, uint i, vec2 x)
{
    uint from = gl_SubgroupInvocationID * 2 % LANES;
    float even = subgroupShuffle(x.x, from), odd = subgroupShuffle(x.x, from + 1);
    float even2 = subgroupShuffle(x.y, from), odd2 = subgroupShuffle(x.y, from + 1);
    bool upper = gl_SubgroupInvocationID >= LANES / 2;
    vec2 pair = upper ? vec2(even2, odd2) : vec2(even, odd);
    LanePairs(uvec2(array)).v[i / 2 + gl_SubgroupInvocationID] = pack64(floatBitsToUint(pair));
}

/* x[i] of lane l becomes x[l] of lane i. zero: 0, which the compiler must not know, see above */
void transpose_lanes(inout float x[LANES], uint zero)
{
    [[unroll]] for (uint i = 0; i < LANES; i++)
        x[i] = uintBitsToFloat(floatBitsToUint(x[i]) ^ zero);
    [[unroll]] for (uint bit = LANES / 2; bit >= 1; bit /= 2) {
        bool upper = (gl_SubgroupInvocationID & bit) != 0;
        [[unroll]] for (uint i = 0; i < LANES; i++)
            if ((i & bit) == 0) {
                float a = x[i], b = x[i + bit];
                uint other = gl_SubgroupInvocationID ^ (bit + zero);
                float from_a = subgroupShuffle(a, other), from_b = subgroupShuffle(b, other);
                x[i] = upper ? from_b : a;
                x[i + bit] = upper ? b : from_a;
            }
    }
}
