#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
/* out[chunk,c] (+)= sum over the chunk's rows of x[r,c] * y[r,c] * s[r]; an invocation a column of a chunk.
 * Two passes (many chunks, then one) sum long columns in a fixed order. */
PUSH(colsum);

void main()
{
    uint i = invocation_index();
    uint chunk = i / p.cols, c = i - chunk * p.cols;
    uint first = chunk * p.chunk;
    if (first >= p.rows)
        return;
    uint last = min(first + p.chunk, p.rows);
    float sum = 0.0;
    for (uint r = first; r < last; r += AHEAD) {
        float term[AHEAD];
        [[unroll]] for (uint j = 0; j < AHEAD; j++) {
            uint row = min(r + j, last - 1);
            term[j] = p.x.v[row * p.cols + c];
            if (PRESENT(p.y))
                term[j] *= p.y.v[row * p.cols + c];
            if (PRESENT(p.s))
                term[j] *= p.s.v[row];
        }
        [[unroll]] for (uint j = 0; j < AHEAD; j++)
            sum += r + j < last ? term[j] : 0.0;
    }
    p.out_.v[i] = p.accumulate != 0 ? p.out_.v[i] + sum : sum;
}
