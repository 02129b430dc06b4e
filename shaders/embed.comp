#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/row.glsl"
/* y[t,d] = w[tok[t],d]; a workgroup a row */
PUSH(embed);

void main()
{
    uint t = group_index();
    if (t >= p.T)
        return;
    uint row = min(t, p.T - 1), from = p.tok.v[row] * p.D, to = row * p.D; /* see gathered_a in gemm.glsl */
    FOR_ROW(d, p.D)
        p.y.v[to + d + gl_LocalInvocationID.x] = load_row(p.w, from + d);
}
