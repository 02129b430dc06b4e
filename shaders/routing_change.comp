#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* changed[t] = 1 where an expert of idx[t] was not in before[t], which then becomes idx[t]; an invocation a token */
PUSH(routing_change);

void main()
{
    uint t = invocation_index();
    if (t >= p.T)
        return;
    uint slot = t * p.K;
    bool changed = false;
    for (uint k = 0; k < p.K; k++) {
        bool there = false;
        for (uint j = 0; j < p.K; j++)
            there = there || p.before.v[slot + j] == p.idx.v[slot + k];
        changed = changed || !there;
    }
    for (uint k = 0; k < p.K; k++)
        p.before.v[slot + k] = p.idx.v[slot + k];
    p.changed.v[t] = changed ? 1.0 : 0.0;
}
