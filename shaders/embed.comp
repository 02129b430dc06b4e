#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* y[t,d] = w[tok[t],d] */
PUSH(embed);

void main()
{
    uint i = invocation_index();
    if (i >= p.T * p.D)
        return;
    uint t = i / p.D;
    p.y.v[i] = p.w.v[p.tok.v[t] * p.D + (i - t * p.D)];
}
