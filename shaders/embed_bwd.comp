#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_ballot : require
#include "common/base.glsl"
/* dw[v,d] += sum over t with tok[t] = v, in order of t, of dy[t,d]. A subgroup has a part of a vocabulary row, N columns an
 * invocation. It looks at as many tokens at once as it has lanes; of those that match it loads ROWS at once, as a byte of text
 * is often one in six: each waited for by itself, its row would take longer than all else. */
layout(constant_id = SPEC_EMBED_N) const uint N = 1;
layout(constant_id = SPEC_EMBED_ROWS) const uint ROWS = 1;
const uint WORDS = (gl_WorkGroupSize.x + 31) / 32; /* of a ballot */
PUSH(embed_bwd);

/* No token from t0 on, AHEAD for each lane, is v. */
bool none_ahead(uint t0, uint v)
{
    bool any = false;
    [[unroll]] for (uint j = 0; j < AHEAD; j++)
        any = any || p.tok.v[min(t0 + j * gl_WorkGroupSize.x + gl_LocalInvocationID.x, p.T - 1)] == v;
    return subgroupBallot(any) == uvec4(0);
}

void main()
{
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x, each = lanes * N;
    uint parts = (p.D + each - 1) / each, v = group_index() / parts, first = (group_index() - v * parts) * each + lane;
    if (v >= p.V)
        return;
    float sum[N];
    [[unroll]] for (uint n = 0; n < N; n++)
        sum[n] = 0.0;
    for (uint t0 = 0; t0 < p.T; t0 += lanes) {
        if (t0 % (AHEAD * lanes) == 0 && none_ahead(t0, v)) {
            t0 += (AHEAD - 1) * lanes;
            continue;
        }
        uint t = t0 + lane;
        uvec4 hits = subgroupBallot(t < p.T && p.tok.v[min(t, p.T - 1)] == v);
        [[unroll]] for (uint word = 0; word < WORDS; word++) {
            uint bits = hits[word];
            while (bits != 0) {
                uint row[ROWS];
                bool there[ROWS];
                [[unroll]] for (uint i = 0; i < ROWS; i++) {
                    there[i] = bits != 0;
                    row[i] = there[i] ? (t0 + word * 32 + uint(findLSB(bits))) * p.D : row[0];
                    bits &= bits - 1;
                }
                [[unroll]] for (uint n = 0; n < N; n++) {
                    float x[ROWS];
                    uint d = min(first + n * lanes, p.D - 1);
                    [[unroll]] for (uint i = 0; i < ROWS; i++)
                        x[i] = p.dy.v[row[i] + d];
                    [[unroll]] for (uint i = 0; i < ROWS; i++)
                        sum[n] += there[i] ? x[i] : 0.0;
                }
            }
        }
    }
    [[unroll]] for (uint n = 0; n < N; n++)
        if (first + n * lanes < p.D)
            p.dw.v[v * p.D + first + n * lanes] += sum[n];
}
