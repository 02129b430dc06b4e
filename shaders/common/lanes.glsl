/* Loads of what lies side by side, by a subgroup of eight, as lavapipe 26 does them best. What each lane loads from an
 * address of its own is gathered word by word. But an address that is the same in all lanes is loaded as a scalar, and of scalars
 * side by side, each taken by one lane, LLVM makes one load of a vector: ten times as fast. It does not where a shuffle follows in
 * the same block of instructions: Mesa freezes what it shuffles, LLVM freezes each scalar instead. A branch between them helps, as
 * the load of a push constant is one. Worth it on devices with caps.lanes. */
#extension GL_KHR_shader_subgroup_basic : require
const uint LANES = 8;
layout(buffer_reference, scalar, buffer_reference_align = 4) readonly buffer LaneRow { float v[2 * LANES]; };

/* Of element i */
#ifdef WIDE
#define ADDRESS uint64_t
ADDRESS address_of(F32 array, uint i) { return pack64(uvec2(array)) + uint64_t(i) * 4; }
#else
#define ADDRESS uvec2
ADDRESS address_of(F32 array, uint i)
{
    uint carry, low = uaddCarry(uvec2(array).x, i << 2, carry);
    return uvec2(low, uvec2(array).y + (i >> 30) + carry);
}
#endif

/* Lane l: the l-th number from `at` on, which is the same in all lanes; at + 4 * skip */
float load_lanes(ADDRESS at, const uint skip)
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
    ADDRESS at = address_of(array, i);
    return vec2(load_lanes(at, 0), load_lanes(at, LANES));
}
