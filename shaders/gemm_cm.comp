#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_basic : require
#define WITH_16
#include "common/base.glsl"
#include "common/cm.glsl"
#include "common/slices.glsl"
/* The product on cooperative matrices: 16-bit operands, sums in f32. A workgroup computes BM by BN of C, a subgroup TM by
 * TN of it in matrices of CM_M by CM_N. Slices BK deep of A and B lie in shared memory as they lie in the arrays (the
 * same dimension fastest), in 16 bits: an f32 array is rounded on the way. */
layout(constant_id = SPEC_GEMM_CM_M) const uint CM_M = 16;
layout(constant_id = SPEC_GEMM_CM_N) const uint CM_N = 16;
layout(constant_id = SPEC_GEMM_CM_K) const uint CM_K = 16;
const uint DOWN = BM / TM, ACROSS = BN / TN; /* subgroups down and across the tile */
const uint MATS_M = TM / CM_M, MATS_N = TN / CM_N, CM_FOURS = CM_M * CM_N / 4;

/* Two more fours keep neighbouring rows off the same banks. */
const uint A_STRIDE = A_FOURS + 2, B_STRIDE = B_FOURS + 2;
const int A_LAYOUT = FORM == GEMM_TN ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;
const int B_LAYOUT = FORM == GEMM_NT ? gl_CooperativeMatrixLayoutColumnMajor : gl_CooperativeMatrixLayoutRowMajor;

shared uvec2 a_tile[A_ROWS * A_STRIDE];
shared uvec2 b_tile[B_ROWS * B_STRIDE];
shared uvec2 b3_tile[DUAL ? B_ROWS * B_STRIDE : 1];
shared vec4 result[DOWN * ACROSS * CM_FOURS]; /* a matrix of each subgroup, on its way to the epilogue */
shared vec4 result3[DUAL ? DOWN * ACROSS * CM_FOURS : 1];
shared float dgate_part[DGATE ? BM * ACROSS : 1];

/* A four as it came, in 16 bits. */
uvec2 halves(uvec4 four, bool is16) { return is16 ? packed16(four) : narrow4(uintBitsToFloat(four)); }

void put_a(uvec2 at, uvec4 four) { a_tile[at.x * A_STRIDE + at.y / 4] = halves(four, A16); }

void put_b(uvec2 at, uvec4 four, uvec4 four3)
{
    b_tile[at.x * B_STRIDE + at.y / 4] = halves(four, B16);
    if (DUAL)
        b3_tile[at.x * B_STRIDE + at.y / 4] = halves(four3, B16);
}

void main()
{
    begin_slices();
    if (adds_nothing())
        return;
    uint down = gl_SubgroupID / ACROSS * TM, across = gl_SubgroupID % ACROSS * TN; /* the subgroup's part of the tile */
    coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator> acc[MATS_M * MATS_N];
    coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator> acc3[DUAL ? MATS_M * MATS_N : 1];
    [[unroll]] for (uint i = 0; i < MATS_M * MATS_N; i++) {
        acc[i] = coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>(0.0);
        if (DUAL)
            acc3[i] = coopmat<float, gl_ScopeSubgroup, CM_M, CM_N, gl_MatrixUseAccumulator>(0.0);
    }
    if (k0 < k_end)
        ask(k0);
    for (uint k = k0; k < k_end; k += BK) {
        barrier();
        settle(k);
        barrier();
        if (k + BK < k_end)
            ask(k + BK);
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

    uint own = gl_SubgroupID * CM_FOURS;
    [[unroll]] for (uint i = 0; i < MATS_M; i++)
        [[unroll]] for (uint j = 0; j < MATS_N; j++) {
            subgroupBarrier();
            coopMatStore(acc[i * MATS_N + j], result, own, CM_N / 4, gl_CooperativeMatrixLayoutRowMajor);
            if (DUAL)
                coopMatStore(acc3[i * MATS_N + j], result3, own, CM_N / 4, gl_CooperativeMatrixLayoutRowMajor);
            subgroupBarrier();
            for (uint e0 = 0; e0 < CM_FOURS; e0 += gl_SubgroupSize) {
                uint e = e0 + gl_SubgroupInvocationID, m = row0 + down + i * CM_M + e / (CM_N / 4);
                uint n = left + across + j * CM_N + e % (CM_N / 4) * 4;
                float dgate = 0.0;
                if (e < CM_FOURS && m < row_end && n < p.n)
                    dgate = epilogue(m, n, result[own + e], DUAL ? result3[own + e] : vec4(0.0));
                if (DGATE && e < CM_FOURS)
                    result[own + e].x = dgate;
            }
            if (!DGATE)
                continue;
            subgroupBarrier();
            for (uint r = gl_SubgroupInvocationID; r < CM_M; r += gl_SubgroupSize) {
                uint at = (down + i * CM_M + r) * ACROSS + gl_SubgroupID % ACROSS;
                float dgate = j == 0 ? 0.0 : dgate_part[at];
                for (uint e = 0; e < CM_N / 4; e++)
                    dgate += result[own + r * CM_N / 4 + e].x;
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
        p.dgate.v[dgate_at(row0 + m)] = dgate;
    }
}
