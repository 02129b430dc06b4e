#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#define WITH_16
#include "common/base.glsl"
#include "common/cm.glsl"
#include "common/gemm.glsl"
/* The product on cooperative matrices: 16-bit operands, sums in f32. A workgroup computes BM by BN of C, a subgroup TM by
 * TN of it in matrices of CM_M by CM_N. Slices BK deep of A and B lie in shared memory as they lie in the arrays (the
 * same dimension fastest), in 16 bits: an f32 array is rounded on the way. */
layout(constant_id = SPEC_GEMM_BN) const uint BN = 64;
layout(constant_id = SPEC_GEMM_CM_M) const uint CM_M = 16;
layout(constant_id = SPEC_GEMM_CM_N) const uint CM_N = 16;
layout(constant_id = SPEC_GEMM_CM_K) const uint CM_K = 16;
const uint THREADS = gl_WorkGroupSize.x;
const uint DOWN = BM / TM, ACROSS = BN / TN; /* subgroups down and across the tile */
const uint MATS_M = TM / CM_M, MATS_N = TN / CM_N;

/* A slice's rows and the vec4s of each, with two more that keep neighbouring rows off the same banks. */
const uint A_ROWS = FORM == GEMM_TN ? BK : BM, A_VECS = (FORM == GEMM_TN ? BM : BK) / 4, A_STRIDE = A_VECS + 2;
const uint B_ROWS = FORM == GEMM_NT ? BN : BK, B_VECS = (FORM == GEMM_NT ? BK : BN) / 4, B_STRIDE = B_VECS + 2;
const int A_LAYOUT = FORM == GEMM_TN ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;
const int B_LAYOUT = FORM == GEMM_NT ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;

shared uvec2 a_tile[A_ROWS * A_STRIDE];
shared uvec2 b_tile[B_ROWS * B_STRIDE];
shared uvec2 b3_tile[DUAL ? B_ROWS * B_STRIDE : 1];
shared uint a_rows[BM];                       /* row of A behind each row of the tile (NT, NN) */
shared float result[DOWN * ACROSS * CM_M * CM_N]; /* a matrix of each subgroup, on its way to the epilogue */
shared float result3[DUAL ? DOWN * ACROSS * CM_M * CM_N : 1];
shared float dgate_part[DGATE ? BM * ACROSS : 1];

/* Four values of an array from `at` on, of which `count` exist; the others are 0. */
uvec2 fetch(F32 array, bool is16, uint at, uint count)
{
    if (VEC4)
        return is16 ? U32x2(uvec2(array)).v[at / 4] : narrow4(VEC4S(array).v[at / 4]);
    uvec4 x = uvec4(0);
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (i < count)
            x[i] = is16 ? uint(U16(uvec2(array)).v[at + i]) : narrow(array.v[at + i]);
    return uvec2(x.x | x.y << 16, x.z | x.w << 16);
}

void stage_a(uint k)
{
    for (uint i = gl_LocalInvocationID.x; i < A_ROWS * A_VECS; i += THREADS) {
        uint r = i / A_VECS, c = i % A_VECS * 4;
        uint m = row0 + (FORM == GEMM_TN ? c : r), kk = k + (FORM == GEMM_TN ? r : c);
        uvec2 x = uvec2(0);
        if (m < row_end && kk < k_end)
            x = FORM == GEMM_TN ? fetch(p.a, A16, gathered_a(kk) * p.m + m, row_end - m)
                                : fetch(p.a, A16, a_rows[r] * p.k + kk, k_end - kk);
        a_tile[r * A_STRIDE + i % A_VECS] = x;
    }
}

void stage_b(uint k, uint left)
{
    for (uint i = gl_LocalInvocationID.x; i < B_ROWS * B_VECS; i += THREADS) {
        uint r = i / B_VECS, c = i % B_VECS * 4;
        uint n = left + (FORM == GEMM_NT ? r : c), kk = k + (FORM == GEMM_NT ? c : r);
        uvec2 x = uvec2(0), x3 = uvec2(0);
        if (n < p.n && kk < k_end) {
            uint at = FORM == GEMM_NT   ? b0 + n * p.k + kk
                      : FORM == GEMM_NN ? b0 + kk * p.n + n
                                        : gathered_b(kk) * p.n + n;
            uint count = FORM == GEMM_NT ? k_end - kk : p.n - n;
            x = fetch(p.b, B16, at, count);
            if (DUAL)
                x3 = fetch(p.b, B16, at + p.n * p.k, count);
        }
        b_tile[r * B_STRIDE + i % B_VECS] = x;
        if (DUAL)
            b3_tile[r * B_STRIDE + i % B_VECS] = x3;
    }
}

void main()
{
    locate();
    uint left = gl_WorkGroupID.y * BN;
    uint down = gl_SubgroupID / ACROSS * TM, across = gl_SubgroupID % ACROSS * TN; /* the subgroup's part of the tile */
    if (FORM != GEMM_TN)
        for (uint m = gl_LocalInvocationID.x; m < BM; m += THREADS)
            a_rows[m] = gathered_a(min(row0 + m, row_end - 1));

    coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator> acc[MATS_M * MATS_N];
    coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator> acc3[DUAL ? MATS_M * MATS_N : 1];
    [[unroll]] for (uint i = 0; i < MATS_M * MATS_N; i++) {
        acc[i] = coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>(0.0);
        if (DUAL)
            acc3[i] = coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>(0.0);
    }
    for (uint k = k0; k < k_end; k += BK) {
        barrier();
        stage_a(k);
        stage_b(k, left);
        barrier();
        [[unroll]] for (uint kk = 0; kk < BK; kk += CM_K) {
            coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_M, CM_K, gl_MatrixUseA> a[MATS_M];
            [[unroll]] for (uint i = 0; i < MATS_M; i++) {
                uint m = down + i * CM_M;
                coopMatLoad(a[i], a_tile, FORM == GEMM_TN ? kk * A_STRIDE + m / 4 : m * A_STRIDE + kk / 4, A_STRIDE,
                            A_LAYOUT);
            }
            [[unroll]] for (uint j = 0; j < MATS_N; j++) {
                uint n = across + j * CM_N, at = FORM == GEMM_NT ? n * B_STRIDE + kk / 4 : kk * B_STRIDE + n / 4;
                coopmat<NARROW_FLOAT, gl_ScopeSubgroup, CM_K, CM_N, gl_MatrixUseB> b;
                coopMatLoad(b, b_tile, at, B_STRIDE, B_LAYOUT);
                [[unroll]] for (uint i = 0; i < MATS_M; i++)
                    acc[i * MATS_N + j] = coopMatMulAdd(a[i], b, acc[i * MATS_N + j]);
                if (DUAL) {
                    coopMatLoad(b, b3_tile, at, B_STRIDE, B_LAYOUT);
                    [[unroll]] for (uint i = 0; i < MATS_M; i++)
                        acc3[i * MATS_N + j] = coopMatMulAdd(a[i], b, acc3[i * MATS_N + j]);
                }
            }
        }
    }

    uint own = gl_SubgroupID * CM_M * CM_N;
    [[unroll]] for (uint i = 0; i < MATS_M; i++)
        [[unroll]] for (uint j = 0; j < MATS_N; j++) {
            barrier();
            coopMatStore(acc[i * MATS_N + j], result, own, CM_N, gl_CooperativeMatrixLayoutRowMajor);
            if (DUAL)
                coopMatStore(acc3[i * MATS_N + j], result3, own, CM_N, gl_CooperativeMatrixLayoutRowMajor);
            barrier();
            for (uint e = gl_SubgroupInvocationID; e < CM_M * CM_N; e += gl_SubgroupSize) {
                uint m = row0 + down + i * CM_M + e / CM_N, n = left + across + j * CM_N + e % CM_N;
                float dgate = 0.0;
                if (m < row_end && n < p.n)
                    dgate = epilogue(m, n, result[own + e], DUAL ? result3[own + e] : 0.0);
                if (DGATE)
                    result[own + e] = dgate;
            }
            if (!DGATE)
                continue;
            barrier();
            for (uint r = gl_SubgroupInvocationID; r < CM_M; r += gl_SubgroupSize) {
                uint at = (down + i * CM_M + r) * ACROSS + gl_SubgroupID % ACROSS;
                float dgate = j == 0 ? 0.0 : dgate_part[at];
                for (uint e = 0; e < CM_N; e++)
                    dgate += result[own + r * CM_N + e];
                dgate_part[at] = dgate;
            }
        }
    if (!DGATE)
        return;
    barrier();
    for (uint m = gl_LocalInvocationID.x; m < BM && row0 + m < row_end; m += THREADS) {
        float dgate = 0.0;
        for (uint n = 0; n < ACROSS; n++)
            dgate += dgate_part[m * ACROSS + n];
        p.dgate.v[(row0 + m) * gl_NumWorkGroups.y + gl_WorkGroupID.y] = dgate;
    }
}
