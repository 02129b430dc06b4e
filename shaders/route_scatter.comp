#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* Rows of expert e in order of (t,k): row_of[t,k], and back token_of[row], slot_of[row]; an invocation a pair
 * (chunk, e), whose first row route_scan left in chunk_count */
PUSH(route);

void main()
{
    uint i = invocation_index();
    uint chunk = i / p.E, e = i - chunk * p.E;
    uint first = chunk * p.chunk * p.K, last = min((chunk + 1) * p.chunk, p.T) * p.K;
    if (chunk * p.chunk >= p.T)
        return;
    uint row = p.chunk_count.v[i];
    for (uint slot = first; slot < last; slot++)
        if (p.idx.v[slot] == e) {
            p.row_of.v[slot] = row;
            p.token_of.v[row] = slot / p.K;
            p.slot_of.v[row] = slot;
            row++;
        }
}
