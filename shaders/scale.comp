#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* y[i] = loss_scale x[i] */
PUSH(scale);

void main()
{
    uint i = invocation_index();
    if (i < p.count)
        p.y.v[i] = p.loss_scale.v.scale * p.x.v[i];
}
