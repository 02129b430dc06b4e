#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/cm.glsl"
/* How fast cooperative matrices can be: products c += a b of 16-bit operands that never leave registers, BENCH_CM_CHAINS of
 * them that do not depend on each other. */
layout(constant_id = SPEC_BENCH_CM_M) const uint CM_M = 16;
layout(constant_id = SPEC_BENCH_CM_N) const uint CM_N = 16;
layout(constant_id = SPEC_BENCH_CM_K) const uint CM_K = 16;
PUSH(bench_fma);

void main()
{
    coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA> a[2];
    coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB> b[BENCH_CM_CHAINS / 2];
    coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator> c[BENCH_CM_CHAINS];
    [[unroll]] for (uint i = 0; i < 2; i++)
        a[i] = coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA>(NARROW_FLOAT(p.x + float(i)));
    [[unroll]] for (uint i = 0; i < BENCH_CM_CHAINS / 2; i++)
        b[i] = coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB>(NARROW_FLOAT(p.y * float(i)));
    [[unroll]] for (uint i = 0; i < BENCH_CM_CHAINS; i++)
        c[i] = coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>(0.0);
    for (uint i = 0; i < p.loops; i++)
        [[unroll]] for (uint j = 0; j < BENCH_CM_CHAINS; j++)
            c[j] = coopMatMulAdd(a[j & 1], b[j >> 1], c[j]);
    /* A store that does not happen while it is timed, which the compiler cannot know. */
    float sum = 0.0;
    [[unroll]] for (uint i = 0; i < BENCH_CM_CHAINS; i++)
        sum += c[i][0];
    if (sum == p.never)
        p.out_.v[0] = sum;
}
