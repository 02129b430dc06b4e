#version 460
#extension GL_GOOGLE_include_directive : require
#include "common/base.glsl"
#include "common/slices.glsl"
/* The product for GPUs: BM rows by BN columns a workgroup, BK deep slices of A and B in shared memory, where rows (columns) of a
 * term of the sum are neighbours; TM by TN results an invocation, fours that lie apart, so that neighbours read neighbouring
 * fours. */
const uint ROWS = BM / TM, COLS = BN / TN;        /* invocations down a tile and across it */
const uint FOURS_M = TM / 4, FOURS_N = TN / 4;

/* One more four keeps what is stored down a column off the same banks. */
const uint A_STRIDE = BM / 4 + 1, B_STRIDE = BN / 4 + 1;
shared vec4 a_tile[BK * A_STRIDE];
shared vec4 b_tile[BK * B_STRIDE];
shared vec4 b3_tile[DUAL ? BK * B_STRIDE : 1];
shared float dgate_part[DGATE ? BM * COLS : 1];

/* A four as it came, in f32. */
vec4 floats(uvec4 four, bool is16) { return is16 ? widen4(packed16(four)) : uintBitsToFloat(four); }

void put_a(uvec2 at, uvec4 four)
{
    vec4 x = floats(four, A16);
    if (FORM == GEMM_TN)
        a_tile[at.x * A_STRIDE + at.y / 4] = x;
    else
        [[unroll]] for (uint j = 0; j < 4; j++)
            a_tile[(at.y + j) * A_STRIDE + at.x / 4][at.x % 4] = x[j];
}

void put_b(uvec2 at, uvec4 four, uvec4 four3)
{
    vec4 x = floats(four, B16), x3 = floats(four3, B16);
    if (FORM != GEMM_NT) {
        b_tile[at.x * B_STRIDE + at.y / 4] = x;
        if (DUAL)
            b3_tile[at.x * B_STRIDE + at.y / 4] = x3;
    } else
        [[unroll]] for (uint j = 0; j < 4; j++) {
            b_tile[(at.y + j) * B_STRIDE + at.x / 4][at.x % 4] = x[j];
            if (DUAL)
                b3_tile[(at.y + j) * B_STRIDE + at.x / 4][at.x % 4] = x3[j];
        }
}

void main()
{
    begin_slices();
    if (adds_nothing())
        return;
    uint down = gl_LocalInvocationID.x / COLS, across = gl_LocalInvocationID.x % COLS;
    vec4 acc[TM][FOURS_N], acc3[TM][FOURS_N];
    [[unroll]] for (uint i = 0; i < TM; i++)
        [[unroll]] for (uint j = 0; j < FOURS_N; j++)
            acc[i][j] = acc3[i][j] = vec4(0.0);
    if (k0 < k_end)
        ask(k0);
    for (uint k = k0; k < k_end; k += BK) {
        barrier();
        settle(k);
        barrier();
        if (k + BK < k_end)
            ask(k + BK);
        for (uint kk = 0; kk < BK; kk++) {
            vec4 a[FOURS_M];
            [[unroll]] for (uint i = 0; i < FOURS_M; i++)
                a[i] = a_tile[kk * A_STRIDE + down + i * ROWS];
            [[unroll]] for (uint j = 0; j < FOURS_N; j++) {
                uint at = kk * B_STRIDE + across + j * COLS;
                vec4 b = b_tile[at], b3 = DUAL ? b3_tile[at] : vec4(0.0);
                [[unroll]] for (uint i = 0; i < TM; i++) {
                    acc[i][j] = fma(vec4(a[i / 4][i % 4]), b, acc[i][j]);
                    if (DUAL)
                        acc3[i][j] = fma(vec4(a[i / 4][i % 4]), b3, acc3[i][j]);
                }
            }
        }
    }

    [[unroll]] for (uint i = 0; i < TM; i++) {
        uint m = (down + i / 4 * ROWS) * 4 + i % 4;
        float dgate = 0.0;
        [[unroll]] for (uint j = 0; j < FOURS_N; j++) {
            uint n = left + (across + j * COLS) * 4;
            if (row0 + m < row_end && n < p.n)
                dgate += epilogue(row0 + m, n, acc[i][j], acc3[i][j]);
        }
        if (DGATE)
            dgate_part[m * COLS + across] = dgate;
    }
    if (!DGATE)
        return;
    barrier();
    for (uint m = gl_LocalInvocationID.x; m < BM && row0 + m < row_end; m += THREADS) {
        float dgate = 0.0;
        for (uint n = 0; n < COLS; n++)
            dgate += dgate_part[m * COLS + n];
        p.dgate.v[dgate_at(row0 + m)] = dgate;
    }
}
