#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/row.glsl"
/* out[chunk,c] (+)= sum over the chunk's rows of x[r,c] * y[r,c] * s[r]; an invocation a column of a chunk.
 * Two passes (many chunks, then one) sum long columns in a fixed order. */
layout(constant_id = SPEC_COLSUM_Y) const bool WITH_Y = false; /* constants: see gathered_a in common/gemm.glsl */
layout(constant_id = SPEC_COLSUM_S) const bool WITH_S = false;
PUSH(colsum);

float load_column(F32 array, uint row, uint c)
{
    return TOGETHER ? load_row(array, row * p.cols + c) : array.v[row * p.cols + c];
}

void main()
{
    uint i = invocation_index(), at = TOGETHER ? group_index() * LANES : i; /* a workgroup's columns are of one chunk */
    uint chunk = at / p.cols, c = at - chunk * p.cols;
    uint first = chunk * p.chunk;
    if (first >= p.rows)
        return;
    uint last = min(first + p.chunk, p.rows);
    float sum = 0.0;
    for (uint r = first; r < last; r += AHEAD) {
        float term[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; j++) {
            uint row = min(min(r + j, last - 1), p.rows - 1);
            term[j] = load_column(p.x, row, c);
            if (WITH_Y)
                term[j] *= load_column(p.y, row, c);
            if (WITH_S)
                term[j] *= p.s.v[row];
        }
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            sum += r + j < last ? term[j] : 0.0;
    }
    p.out_.v[i] = p.accumulate != 0 ? p.out_.v[i] + sum : sum;
}
