#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/parts.glsl"
/* c[e,i] += sum over expert e's further parts of partial[place,i], in order; their places follow each other. Workgroups of the first
 * of these places (y) do so. */
PUSH(gemm_parts);

void main()
{
    uint place = gl_WorkGroupID.y, places = gl_NumWorkGroups.y;
    uint i = gl_WorkGroupID.x * gl_WorkGroupSize.x + gl_LocalInvocationID.x;
    rows_part x = part_at(place, places, p.experts, p.rows, p.part, p.offset, p.slot, p.idx);
    if (x.first == x.end || x.first != p.offset.v[x.expert] + p.part || i >= p.size)
        return;
    uint last = p.offset.v[x.expert + 1];
    float sum = 0.0;
    for (uint first = x.first; part_begins(first, last, p.part); first += AHEAD * p.part, place += AHEAD) {
        float term[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            term[j] = p.partial.v[min(place + j, places - 1) * p.size + i];
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            sum += part_begins(first + j * p.part, last, p.part) ? term[j] : 0.0;
    }
    p.c.v[x.expert * p.size + i] += sum;
}
