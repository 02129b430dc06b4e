#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
/* used[g] = experts with load[g,e] > 0, over E; a workgroup a group */
PUSH(seu);

void main()
{
    uint g = group_index();
    if (g >= p.groups)
        return;
    float used = 0.0;
    for (uint e = gl_LocalInvocationID.x; e < p.E; e += gl_WorkGroupSize.x)
        used += p.load.v[g * p.E + e] > 0.0 ? 1.0 : 0.0;
    used = workgroup_sum(used);
    if (gl_LocalInvocationID.x == 0)
        p.used.v[g] = used / float(p.E);
}
