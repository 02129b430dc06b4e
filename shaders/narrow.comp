#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/narrow.glsl"
/* y[i] = x[i] rounded to 16 bits */
PUSH(narrow);

void main()
{
    uint i = invocation_index();
    if (i < p.count)
        store16(p.y, i, p.x.v[i]);
}
