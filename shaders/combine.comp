#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#ifdef WITH_16
#include "common/narrow.glsl"
#endif
/* y[t,d] = base[t,d] + sum_k g[t,k] * rows[row_of[t,k],d]: a gather in the order of k, no atomics */
PUSH(combine);

#ifdef WITH_16
float row_value(uint i) { return load16(p.rows, i); }
#else
float row_value(uint i) { return p.rows.v[i]; }
#endif

void main()
{
    uint i = invocation_index();
    if (i >= p.T * p.D)
        return;
    uint t = i / p.D, d = i - t * p.D;
    float sum = 0.0;
    for (uint k = 0; k < p.K; k++) {
        float g = PRESENT(p.g) ? p.g.v[t * p.K + k] : 1.0;
        if (g != 0.0) /* a dropped expert has no row */
            sum = fma(g, row_value(p.row_of.v[t * p.K + k] * p.D + d), sum);
    }
    p.y.v[i] = PRESENT(p.base) ? p.base.v[i] + sum : sum;
}
