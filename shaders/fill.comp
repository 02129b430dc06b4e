#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* v[i] = value */
PUSH(fill);

void main()
{
    uint i = invocation_index();
    if (i < p.count)
        p.v.v[i] = p.value;
}
