#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/reduce.glsl"
#include "common/gemm.glsl"
/* The product for a CPU device: no shared memory, one subgroup a workgroup. An invocation computes TM = BM rows of TN
 * columns that lie a workgroup's width apart; A is loaded uniformly, four deep along the sum. With WIDE, where B's rows lie
 * along the columns (NN, TN), columns come in pairs, one load each; so do A's rows in TN. */
#ifdef WIDE
const bool PAIRS = VEC4 && FORM != GEMM_NT;
#else
const bool PAIRS = false;
vec2 f32x2(F32 array, uint i) { return vec2(0.0); }
#endif

uint col[TN];
float acc[TM][TN], acc3[TM][TN];

/* sum += the four-deep products of row-wise operands: a of the tile's rows, b of the invocation's columns */
void depth4_nt(uint a_at[TM], uint b_at, uint k, inout float sum[TM][TN])
{
    vec4 b[TN];
    [[unroll]] for (uint j = 0; j < TN; j++)
        b[j] = load_b4(b_at + col[j] * p.k + k);
    [[unroll]] for (uint i = 0; i < TM; i++) {
        vec4 a = load_a4(a_at[i] + k);
        [[unroll]] for (uint j = 0; j < TN; j++)
            sum[i][j] = fma(a.w, b[j].w, fma(a.z, b[j].z, fma(a.y, b[j].y, fma(a.x, b[j].x, sum[i][j]))));
    }
}

void depth4_nn(uint a_at[TM], uint k)
{
    vec4 b[TN];
    [[unroll]] for (uint j = 0; j < TN; j++) {
        uint at = b0 + k * p.n + col[j];
        if (!PAIRS)
            b[j] = vec4(load_b(at), load_b(at + p.n), load_b(at + 2 * p.n), load_b(at + 3 * p.n));
    }
    [[unroll]] for (uint j = 0; PAIRS && j < TN; j += 2)
        [[unroll]] for (uint d = 0; d < 4; d++) {
            vec2 x = f32x2(p.b, b0 + (k + d) * p.n + col[j]);
            b[j][d] = x.x;
            b[j + 1][d] = x.y;
        }
    [[unroll]] for (uint i = 0; i < TM; i++) {
        vec4 a = load_a4(a_at[i] + k);
        [[unroll]] for (uint j = 0; j < TN; j++)
            acc[i][j] = fma(a.w, b[j].w, fma(a.z, b[j].z, fma(a.y, b[j].y, fma(a.x, b[j].x, acc[i][j]))));
    }
}

/* one step of the sum, any form and alignment */
void depth1(uint a_at[TM], uint k)
{
    float b[TN], b3[TN];
    if (FORM == GEMM_TN)
        k = min(k, k_end - 1); /* see gathered_a */
    uint b_row = FORM == GEMM_TN ? gathered_b(k) * p.n : b0 + k * p.n;
    uint a_row = FORM == GEMM_TN ? gathered_a(k) * p.m : 0;
    [[unroll]] for (uint j = 0; PAIRS && j < TN; j += 2) {
        vec2 x = f32x2(p.b, b_row + col[j]);
        b[j] = x.x;
        b[j + 1] = x.y;
    }
    [[unroll]] for (uint j = 0; !PAIRS && j < TN; j++) {
        uint at = FORM == GEMM_NT ? b0 + col[j] * p.k + k : b_row + col[j];
        b[j] = load_b(at);
        if (DUAL)
            b3[j] = load_b(at + p.n * p.k);
    }
    vec2 pair;
    [[unroll]] for (uint i = 0; i < TM; i++) {
        if (PAIRS && FORM == GEMM_TN && i % 2 == 0)
            pair = f32x2(p.a, a_row + a_at[i]);
        float a;
        if (PAIRS && FORM == GEMM_TN)
            a = i % 2 == 0 ? pair.x : pair.y;
        else
            a = FORM == GEMM_TN ? load_a(a_row + a_at[i]) : load_a(a_at[i] + k);
        [[unroll]] for (uint j = 0; j < TN; j++) {
            acc[i][j] = fma(a, b[j], acc[i][j]);
            if (DUAL)
                acc3[i][j] = fma(a, b3[j], acc3[i][j]);
        }
    }
}

void main()
{
    locate();
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    uint left = gl_WorkGroupID.y * lanes * TN;
    uint a_at[TM];
    [[unroll]] for (uint j = 0; j < TN; j++) {
        col[j] = left + (PAIRS ? (j / 2 * lanes + lane) * 2 : j * lanes + lane);
        col[j] = PAIRS ? min(col[j], p.n - 2) + j % 2 : min(col[j], p.n - 1);
    }
    [[unroll]] for (uint i = 0; i < TM; i++) {
        uint row = PAIRS && FORM == GEMM_TN ? min(row0 + i - i % 2, row_end - 2) + i % 2 : min(row0 + i, row_end - 1);
        a_at[i] = FORM == GEMM_TN ? row : gathered_a(row) * p.k;
        [[unroll]] for (uint j = 0; j < TN; j++)
            acc[i][j] = acc3[i][j] = 0.0;
    }

    uint k = k0;
    if (FORM == GEMM_TN)
        for (; k + 2 <= k_end; k += 2) {
            depth1(a_at, k);
            depth1(a_at, k + 1);
        }
    else if (VEC4)
        for (; k + 4 <= k_end; k += 4) {
            if (FORM == GEMM_NN)
                depth4_nn(a_at, k);
            else
                depth4_nt(a_at, b0, k, acc);
            if (DUAL)
                depth4_nt(a_at, b0 + p.n * p.k, k, acc3);
        }
    for (; k < k_end; k++)
        depth1(a_at, k);

    [[unroll]] for (uint i = 0; i < TM; i++) {
        if (row0 + i >= row_end)
            break;
        float dgate = 0.0;
        [[unroll]] for (uint j = 0; j < TN; j++)
            if (left + (PAIRS ? (j / 2 * lanes + lane) * 2 : j * lanes + lane) < p.n)
                dgate += epilogue(row0 + i, col[j], acc[i][j], acc3[i][j]);
        if (DGATE) {
            dgate = workgroup_sum(dgate);
            if (lane == 0)
                p.dgate.v[(row0 + i) * gl_NumWorkGroups.y + gl_WorkGroupID.y] = dgate;
        }
    }
}
