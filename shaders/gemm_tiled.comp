#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/gemm.glsl"
/* The product for GPUs: BM rows by BN columns a workgroup, BK deep slices of A and B in shared memory, TM by TN results
 * an invocation, whose rows and columns lie apart so that neighbours read neighbouring words. */
const uint ROWS = BM / TM;                        /* invocations down a tile */
const uint COLS = gl_WorkGroupSize.x / ROWS;      /* and across it */
const uint BN = COLS * TN;
const uint THREADS = gl_WorkGroupSize.x;

shared float a_tile[BK * (BM + 1)];
shared float b_tile[BK * (BN + 1)];
shared float b3_tile[DUAL ? BK * (BN + 1) : 1];
shared uint a_rows[BM];                           /* row of A behind each row of the tile (NT, NN) */
shared float dgate_part[DGATE ? BM * COLS : 1];

void load_tiles(uint k, uint left)
{
    for (uint i = gl_LocalInvocationID.x; i < BK * BM; i += THREADS) {
        uint m, kk;
        if (FORM == GEMM_TN) { /* neighbours along the fastest dimension of A */
            m = i % BM;
            kk = i / BM;
        } else {
            m = i / BK;
            kk = i % BK;
        }
        float a = 0.0;
        if (k + kk < k_end && row0 + m < row_end)
            a = FORM == GEMM_TN ? load_a(gathered_a(k + kk) * p.m + row0 + m) : load_a(a_rows[m] * p.k + k + kk);
        a_tile[kk * (BM + 1) + m] = a;
    }
    for (uint i = gl_LocalInvocationID.x; i < BK * BN; i += THREADS) {
        uint n, kk;
        if (FORM == GEMM_NT) {
            n = i / BK;
            kk = i % BK;
        } else {
            n = i % BN;
            kk = i / BN;
        }
        float b = 0.0, b3 = 0.0;
        if (k + kk < k_end && left + n < p.n) {
            uint at = FORM == GEMM_NT   ? b0 + (left + n) * p.k + k + kk
                      : FORM == GEMM_NN ? b0 + (k + kk) * p.n + left + n
                                        : gathered_b(k + kk) * p.n + left + n;
            b = load_b(at);
            if (DUAL)
                b3 = load_b(at + p.n * p.k);
        }
        b_tile[kk * (BN + 1) + n] = b;
        if (DUAL)
            b3_tile[kk * (BN + 1) + n] = b3;
    }
}

void main()
{
    locate();
    uint left = gl_WorkGroupID.y * BN;
    uint row = gl_LocalInvocationID.x / COLS, col = gl_LocalInvocationID.x % COLS;
    if (FORM != GEMM_TN)
        for (uint m = gl_LocalInvocationID.x; m < BM; m += THREADS)
            a_rows[m] = gathered_a(min(row0 + m, row_end - 1));

    float acc[TM][TN], acc3[TM][TN];
    [[unroll]] for (uint i = 0; i < TM; i++)
        [[unroll]] for (uint j = 0; j < TN; j++)
            acc[i][j] = acc3[i][j] = 0.0;
    for (uint k = k0; k < k_end; k += BK) {
        barrier();
        load_tiles(k, left);
        barrier();
        for (uint kk = 0; kk < BK; kk++) {
            float a[TM], b[TN], b3[TN];
            [[unroll]] for (uint i = 0; i < TM; i++)
                a[i] = a_tile[kk * (BM + 1) + row + i * ROWS];
            [[unroll]] for (uint j = 0; j < TN; j++) {
                b[j] = b_tile[kk * (BN + 1) + col + j * COLS];
                if (DUAL)
                    b3[j] = b3_tile[kk * (BN + 1) + col + j * COLS];
            }
            [[unroll]] for (uint i = 0; i < TM; i++)
                [[unroll]] for (uint j = 0; j < TN; j++) {
                    acc[i][j] = fma(a[i], b[j], acc[i][j]);
                    if (DUAL)
                        acc3[i][j] = fma(a[i], b3[j], acc3[i][j]);
                }
        }
    }

    [[unroll]] for (uint i = 0; i < TM; i++) {
        uint m = row + i * ROWS;
        float dgate = 0.0;
        [[unroll]] for (uint j = 0; j < TN; j++) {
            uint n = left + col + j * COLS;
            if (row0 + m < row_end && n < p.n)
                dgate += epilogue(row0 + m, n, acc[i][j], acc3[i][j]);
        }
        if (DGATE)
            dgate_part[m * COLS + col] = dgate;
    }
    if (!DGATE)
        return;
    barrier();
    for (uint m = gl_LocalInvocationID.x; m < BM && row0 + m < row_end; m += THREADS) {
        float dgate = 0.0;
        for (uint n = 0; n < COLS; n++)
            dgate += dgate_part[m * COLS + n];
        p.dgate.v[(row0 + m) * gl_NumWorkGroups.y + gl_WorkGroupID.y] = dgate;
    }
}
