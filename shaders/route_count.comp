#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* chunk_count[chunk,e] = slots (t,k) of the chunk's tokens that chose e; an invocation a pair (chunk, e) */
PUSH(route);

void main()
{
    uint i = invocation_index();
    uint chunk = i / p.E, e = i - chunk * p.E;
    uint first = chunk * p.chunk * p.K, last = min((chunk + 1) * p.chunk, p.T) * p.K;
    if (chunk * p.chunk >= p.T)
        return;
    uint count = 0;
    for (uint slot = first; slot < last; slot++)
        count += uint(p.idx.v[slot] == e);
    p.chunk_count.v[i] = count;
}
