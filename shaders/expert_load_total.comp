#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* load[e] = K count[e] / sum of count: the sum is K times the tokens. An invocation an expert. */
PUSH(expert_load);

void main()
{
    uint e = invocation_index(), total = 0;
    for (uint i = 0; i < p.E; i++)
        total += p.count.v[i];
    if (e < p.E)
        p.load.v[e] = float(p.count.v[e]) / float(total / p.K);
}
