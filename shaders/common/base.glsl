/* What every kernel begins with. */
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference2 : require
#extension GL_EXT_buffer_reference_uvec2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_control_flow_attributes : require
#include "shared.h"

#define PUSH(name) layout(push_constant, scalar) uniform push_block { name##_args p; }
#define PRESENT(address) (uvec2(address) != uvec2(0))
/* An array of f32 as vec4s. By way of uvec2: SwiftShader stops at a cast from reference to reference. */
#define VEC4S(address) F32x4(uvec2(address))

#ifdef WIDE /* Two f32 in one load or store of 64 bits: a CPU device does them word by word, which is what takes its time. */
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
layout(buffer_reference, scalar, buffer_reference_align = 8) buffer U64 { uint64_t v[]; };
/* Elements 2 i and 2 i + 1. */
vec2 load_pair(F32 array, uint i) { return uintBitsToFloat(unpack32(U64(uvec2(array)).v[i])); }
void store_pair(F32 array, uint i, vec2 x) { U64(uvec2(array)).v[i] = pack64(floatBitsToUint(x)); }
#endif

/* Numbers of a long sum that an invocation loads before it adds the first: each would be waited for. */
const uint AHEAD = 8;

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

/* The workgroup is one subgroup, which needs no barrier: that is how a CPU device runs many kernels, and its compiler has to know
 * it. lavapipe makes a coroutine of a kernel with a barrier, even of one never reached, and keeps all its variables in memory. */
layout(constant_id = SPEC_ALONE) const bool ALONE = false;
void workgroup_barrier()
{
    if (!ALONE)
        barrier();
}

/* The workgroup's number when n of them are launched as vkm_groups(n); the last row may go past n. */
uint group_index() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }
/* The invocation's number in such a launch. */
uint invocation_index() { return group_index() * gl_WorkGroupSize.x + gl_LocalInvocationID.x; }
