#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/cm.glsl"
#define OWN 2
#define SCORES 2
#define WEIGHTS 1
#include "common/attention_cm.glsl"
/* attention_bwd_q.comp on cooperative matrices: delta_s = <do_s, o_s>; dq_s = scale sum_j<=s ds_sj k_j, ds_sj = w_sj (<do_s, v_j>
 * - delta_s), w_sj = exp(scale q_s k_j - lse_s). q, k, v, do and ds are rounded to 16 bits; delta is of do and o as they are. */

void main()
{
    if (!locate_cm())
        return;
    MATRIX acc[MATS];
    [[unroll]] for (uint w = 0; w < MATS; w++)
        acc[w] = MATRIX(0.0);
    float lse[HELD], delta[HELD];
    for (uint i = 0; i < HELD; i++) {
        uint s = min(first + row_of(i), p.S - 1);
        float sum = 0.0;
        for (uint c = share; c < WIDTH; c += SHARE)
            sum += dot(VEC4S(p.dout).v[at_o(s, c)], VEC4S(p.o).v[at_o(s, c)]);
        delta[i] = share_sum(sum);
        lse[i] = p.lse.v[at_row(s)];
        if (first + row_of(i) < p.S && share == 0)
            p.delta.v[at_row(s)] = delta[i];
    }
    stage(TILE_OWN, ROWS, first, 0);
    stage(TILE_OWN2, ROWS, first, 3);
    for (uint j0 = 0; j0 < last; j0 += COLS) {
        barrier();
        stage(TILE_OTHER, COLS, j0, 1);
        stage(TILE_OTHER2, COLS, j0, 2);
        barrier();
        multiply(0, TILE_OWN, TILE_OTHER);
        multiply(SCORES2, TILE_OWN2, TILE_OTHER2);
        subgroupBarrier();
        for (uint i = 0; i < HELD; i++) {
            uint row = row_of(i), s = first + row;
            for (uint c = share; c < SCORE_VECS; c += SHARE) {
                vec4 score = scores[row * SCORE_STRIDE + c] * p.scale, dweight = scores[SCORES2 + row * SCORE_STRIDE + c];
                vec4 dscore = exp(score - lse[i]) * (dweight - delta[i]);
                [[unroll]] for (uint e = 0; e < 4; e++)
                    dscore[e] = j0 + 4 * c + e <= s ? dscore[e] : 0.0;
                weights[row * WEIGHT_STRIDE + c] = narrow4(dscore);
            }
        }
        subgroupBarrier();
        ACCUMULATE(acc, 0, TILE_OTHER)
    }
    STORE_ROWS(acc, VEC4S(p.dqkv).v[at(s, 0, at_vec)], x * p.scale)
}
