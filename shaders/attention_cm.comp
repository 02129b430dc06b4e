#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/cm.glsl"
#define OWN 1
#define SCORES 1
#define WEIGHTS 1
#include "common/attention_cm.glsl"
/* attention.comp on cooperative matrices: o = softmax_j<=s(scale q_s k_j) v, lse = log sum_j exp(scale q_s k_j). q, k, v and
 * the weights exp(score - running maximum), at most 1, are rounded to 16 bits; their sum is of those that are not. */

void main()
{
    if (!locate_cm())
        return;
    MATRIX acc[MATS];
    [[unroll]] for (uint w = 0; w < MATS; w++)
        acc[w] = MATRIX(0.0);
    float top[HELD], total[HELD];
    for (uint i = 0; i < HELD; i++) {
        top[i] = -1.0 / 0.0;
        total[i] = 0.0;
    }
    stage(TILE_OWN, ROWS, first, 0);
    for (uint j0 = 0; j0 < last; j0 += COLS) {
        barrier();
        stage(TILE_OTHER, COLS, j0, 1);
        stage(TILE_OTHER2, COLS, j0, 2);
        barrier();
        multiply(0, TILE_OWN, TILE_OTHER);
        subgroupBarrier();
        for (uint i = 0; i < HELD; i++) {
            uint row = row_of(i), s = first + row;
            float block_top = top[i], sum = 0.0;
            for (uint c = share; c < SCORE_VECS; c += SHARE) {
                vec4 score = scores[row * SCORE_STRIDE + c] * p.scale;
                [[unroll]] for (uint e = 0; e < 4; e++) {
                    score[e] = j0 + 4 * c + e <= s ? score[e] : -1.0 / 0.0;
                    block_top = max(block_top, score[e]);
                }
                scores[row * SCORE_STRIDE + c] = score;
            }
            block_top = share_max(block_top);
            for (uint c = share; c < SCORE_VECS; c += SHARE) {
                vec4 weight = exp(scores[row * SCORE_STRIDE + c] - block_top);
                sum += weight.x + weight.y + weight.z + weight.w;
                weights[row * WEIGHT_STRIDE + c] = narrow4(weight);
            }
            float shrink = exp(top[i] - block_top);
            top[i] = block_top;
            total[i] = total[i] * shrink + share_sum(sum);
            for (uint c = share; c < CM_N / 4; c += SHARE) /* the factor of each element of the row */
                scores[row * SCORE_STRIDE + c] = vec4(shrink);
        }
        subgroupBarrier();
        MATRIX shrink;
        coopMatLoad(shrink, scores, strip * SCORE_STRIDE, SCORE_STRIDE, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint w = 0; w < MATS; w++)
            acc[w] = acc[w] * shrink;
        ACCUMULATE(acc, 0, TILE_OTHER2)
    }
    STORE_ROWS(acc, VEC4S(p.o).v[at_o(s, at_vec)], x / total[i])
    for (uint i = 0; i < HELD; i++)
        if (first + row_of(i) < p.S && share == 0)
            p.lse.v[at_row(first + row_of(i))] = top[i] + log(total[i]);
}
