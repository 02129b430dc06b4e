#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* load[g,e] = slots of group g's tokens that hold e, over its tokens; an invocation a pair (g, e) */
PUSH(expert_load);

void main()
{
    uint i = invocation_index();
    uint g = i / p.E, e = i - g * p.E;
    if (g >= p.groups)
        return;
    uint slots = p.group * p.K, count = 0;
    for (uint slot = g * slots; slot < (g + 1) * slots; slot++)
        count += uint(p.idx.v[slot] == e);
    p.load.v[i] = float(count) / float(p.group);
}
