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

/* Numbers of a long sum that an invocation loads before it adds the first: each would be waited for. */
const uint AHEAD = 8;

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;

/* The workgroup's number when n of them are launched as vkm_groups(n); the last row may go past n. */
uint group_index() { return gl_WorkGroupID.y * gl_NumWorkGroups.x + gl_WorkGroupID.x; }
/* The invocation's number in such a launch. */
uint invocation_index() { return group_index() * gl_WorkGroupSize.x + gl_LocalInvocationID.x; }
