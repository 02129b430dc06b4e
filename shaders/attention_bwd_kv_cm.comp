#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/cm.glsl"
#define OWN 2
#define SCORES 2
#define WEIGHTS 2
#include "common/attention_cm.glsl"
/* attention_bwd_kv.comp on cooperative matrices: dv_j = sum_s>=j w_sj do_s; dk_j = scale sum_s>=j ds_sj q_s, with w and ds as in
 * attention_bwd_q_cm.comp, which ran before and left delta. Rows are keys, columns queries. w is rounded to 16 bits, too. */
shared float lse[COLS], delta[COLS]; /* of the block's queries */

void main()
{
    if (!locate_cm())
        return;
    MATRIX dk[MATS], dv[MATS];
    [[unroll]] for (uint w = 0; w < MATS; w++)
        dk[w] = dv[w] = MATRIX(0.0);
    stage(TILE_OWN, ROWS, first, 1);
    stage(TILE_OWN2, ROWS, first, 2);
    for (uint s0 = first; s0 < p.S; s0 += COLS) {
        barrier();
        stage(TILE_OTHER, COLS, s0, 0);
        stage(TILE_OTHER2, COLS, s0, 3);
        for (uint c = gl_LocalInvocationID.x; c < COLS; c += gl_WorkGroupSize.x) {
            uint s = min(s0 + c, p.S - 1);
            lse[c] = p.lse.v[at_row(s)];
            delta[c] = p.delta.v[at_row(s)];
        }
        barrier();
        multiply(0, TILE_OWN, TILE_OTHER);
        multiply(SCORES2, TILE_OWN2, TILE_OTHER2);
        subgroupBarrier();
        for (uint i = 0; i < HELD; i++) {
            uint row = row_of(i), j = first + row;
            for (uint c = share; c < SCORE_VECS; c += SHARE) {
                vec4 score = scores[row * SCORE_STRIDE + c] * p.scale, dweight = scores[SCORES2 + row * SCORE_STRIDE + c];
                vec4 weight, dscore;
                [[unroll]] for (uint e = 0; e < 4; e++) {
                    uint s = s0 + 4 * c + e;
                    bool seen = j <= s && s < p.S;
                    weight[e] = seen ? exp(score[e] - lse[4 * c + e]) : 0.0;
                    dscore[e] = seen ? weight[e] * (dweight[e] - delta[4 * c + e]) : 0.0;
                }
                weights[row * WEIGHT_STRIDE + c] = narrow4(weight);
                weights[WEIGHTS2 + row * WEIGHT_STRIDE + c] = narrow4(dscore);
            }
        }
        subgroupBarrier();
        ACCUMULATE(dv, 0, TILE_OTHER2)
        ACCUMULATE(dk, WEIGHTS2, TILE_OTHER)
    }
    STORE_ROWS(dk, VEC4S(p.dqkv).v[at(s, 1, at_vec)], x * p.scale)
    STORE_ROWS(dv, VEC4S(p.dqkv).v[at(s, 2, at_vec)], x)
}
