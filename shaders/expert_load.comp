#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_memory_scope_semantics : require
#include "common/base.glsl"
/* load[g,e] = slots of group g's tokens that hold e, over its tokens; a workgroup a group */
PUSH(expert_load);
shared uint counts[MAX_EXPERTS];

void main()
{
    uint g = group_index(), lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    if (g >= p.groups)
        return;
    for (uint e = lane; e < p.E; e += lanes)
        counts[e] = 0;
    workgroup_barrier();
    uint slots = p.group * p.K, end = (g + 1) * slots;
    for (uint slot = g * slots + lane; slot < end; slot += AHEAD * lanes) {
        uint e[AHEAD];
        [[unroll]] for (uint i = 0; i < AHEAD; i++)
            e[i] = p.idx.v[min(slot + i * lanes, end - 1)];
        [[unroll]] for (uint i = 0; i < AHEAD; i++)
            if (slot + i * lanes < end && e[i] < p.E)
                atomicAdd(counts[e[i]], 1, gl_ScopeWorkgroup, gl_StorageSemanticsNone, gl_SemanticsRelaxed);
    }
    workgroup_barrier();
    for (uint e = lane; e < p.E; e += lanes)
        p.load.v[g * p.E + e] = float(counts[e]) / float(p.group);
}
