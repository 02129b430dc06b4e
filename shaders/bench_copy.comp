#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* dst = src in vec4s: how fast memory can be */
PUSH(bench_copy);

void main()
{
    uint i = group_index() * gl_WorkGroupSize.x * BENCH_COPY_EACH + gl_LocalInvocationID.x;
    [[unroll]] for (uint k = 0; k < BENCH_COPY_EACH; k++, i += gl_WorkGroupSize.x)
        if (i < p.count)
            VEC4S(p.dst).v[i] = VEC4S(p.src).v[i];
}
