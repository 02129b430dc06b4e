/* What the matrix products for GPUs share (gemm_tiled.comp, gemm_cm.comp): slices of A and B, BK deep, on their way to shared memory,
 * and results by fours.
 *
 *     ask(k0)
 *     for k: settle the slice in shared memory; ask(k + BK); multiply
 *
 * An invocation asks for the next slice before it multiplies, and looks at no number of it until that is done: loads are in no branch
 * and follow each other, so that memory's latency passes once, while others multiply. To ask at one place alone, with the multiplying
 * in a branch, took LLVM up to twice as long to compile. */
#define REAL vec4
#include "common/gemm.glsl"

layout(constant_id = SPEC_GEMM_BN) const uint BN = 64;
const uint THREADS = gl_WorkGroupSize.x;
/* A slice as it lies in the arrays, in fours of the dimension that is fastest there; fours of an invocation. */
const uint A_ROWS = FORM == GEMM_TN ? BK : BM, A_FOURS = (FORM == GEMM_TN ? BM : BK) / 4;
const uint B_ROWS = FORM == GEMM_NT ? BN : BK, B_FOURS = (FORM == GEMM_NT ? BK : BN) / 4;
const uint A_EACH = (A_ROWS * A_FOURS + THREADS - 1) / THREADS, B_EACH = (B_ROWS * B_FOURS + THREADS - 1) / THREADS;

uint left;                 /* first column of the tile */
uint k_last;
uint a_row[A_EACH], b_row[B_EACH]; /* where rows begin that have the sum's dimension fastest; else which rows the next slice has */
uvec4 a_asked[A_EACH], b_asked[B_EACH], b3_asked[DUAL ? B_EACH : 1]; /* fours as they came; see fetch */

/* The i-th four of this invocation: row, and first column. Behind the slice's last row: none. */
uvec2 place(uint i, uint fours)
{
    uint four = gl_LocalInvocationID.x + i * THREADS;
    return uvec2(four / fours, four % fours * 4);
}

/* Four neighbours of a row of `length`, from `col` on; behind the row's end: any of it. A word each, two of 16 bits in a word
 * where VEC4. */
uvec4 fetch(F32 array, bool is16, uint row, uint col, uint length)
{
    if (VEC4) {
        uint at = row + min(col, length - 4);
        return is16 ? uvec4(load16x4_bits(array, at), 0, 0) : floatBitsToUint(VEC4S(array).v[at / 4]);
    }
    uvec4 x;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        uint at = row + min(col + i, length - 1);
        x[i] = is16 ? load16_bits(array, at) : floatBitsToUint(array.v[at]);
    }
    return x;
}

/* The bits of a four of 16-bit numbers, as fetch leaves them, two in a word. */
uvec2 packed16(uvec4 four) { return VEC4 ? four.xy : uvec2(four.x | four.y << 16, four.z | four.w << 16); }

/* Which of a four are behind the end, of which `count` exist. */
bvec4 behind(uint count) { return greaterThanEqual(uvec4(0, 1, 2, 3), uvec4(count)); }

void begin_slices()
{
    locate();
    left = column_tile() * BN;
    k_last = max(k_end, 1) - 1;
    [[unroll]] for (uint i = 0; i < A_EACH; i++) {
        uint r = place(i, A_FOURS).x;
        a_row[i] = FORM == GEMM_TN ? gathered_a(min(k0 + r, k_last)) : gathered_a(min(row0 + r, row_end - 1)) * p.k;
    }
    [[unroll]] for (uint i = 0; i < B_EACH; i++) {
        uint r = place(i, B_FOURS).x;
        b_row[i] = FORM == GEMM_NT ? b0 + min(left + r, p.n - 1) * p.k : gathered_b(min(k0 + r, k_last));
    }
}

void ask(uint k)
{
    [[unroll]] for (uint i = 0; i < A_EACH; i++) {
        uvec2 at = place(i, A_FOURS);
        if (FORM == GEMM_TN) {
            a_asked[i] = fetch(p.a, A16, a_row[i] * p.m, row0 + at.y, p.m);
            a_row[i] = gathered_a(min(k + BK + at.x, k_last)); /* an index is waited for, too: it is asked for a slice ahead */
        } else
            a_asked[i] = fetch(p.a, A16, a_row[i], k + at.y, p.k);
    }
    [[unroll]] for (uint i = 0; i < B_EACH; i++) {
        uvec2 at = place(i, B_FOURS);
        uint row = FORM == GEMM_NT ? b_row[i] : b0 + b_row[i] * p.n;
        uint col = FORM == GEMM_NT ? k + at.y : left + at.y, length = FORM == GEMM_NT ? p.k : p.n;
        b_asked[i] = fetch(p.b, B16, row, col, length);
        if (DUAL)
            b3_asked[i] = fetch(p.b, B16, row + p.n * p.k, col, length);
        if (FORM != GEMM_NT)
            b_row[i] = gathered_b(min(k + BK + at.x, k_last));
    }
}

/* Of a four that was asked for in the slice at k: what is behind the end of the sum, whose index is `at` and, `along` it, beyond, is
 * zero. */
uvec4 cut(uvec4 four, uint k, uint at, bool along)
{
    if (VEC4 || !along)
        return k + at < k_end ? four : uvec4(0);
    return mix(four, uvec4(0), behind(max(k_end, k + at) - k - at));
}

/* What each kernel does with a four of A, and of B (of both matrices of a dual one), from the row and column of the slice. */
void put_a(uvec2 at, uvec4 four);
void put_b(uvec2 at, uvec4 four, uvec4 four3);

void settle(uint k)
{
    [[unroll]] for (uint i = 0; i < A_EACH; i++) {
        uvec2 at = place(i, A_FOURS);
        if (at.x < A_ROWS)
            put_a(at, cut(a_asked[i], k, FORM == GEMM_TN ? at.x : at.y, FORM != GEMM_TN));
    }
    [[unroll]] for (uint i = 0; i < B_EACH; i++) {
        uvec2 at = place(i, B_FOURS);
        uint term = FORM == GEMM_NT ? at.y : at.x;
        if (at.x < B_ROWS)
            put_b(at, cut(b_asked[i], k, term, FORM == GEMM_NT), DUAL ? cut(b3_asked[i], k, term, FORM == GEMM_NT) : uvec4(0));
    }
}

/* ---- results ------------------------------------------------------------------------------------------------------- */

/* Four neighbours of an array of results, of which `count` exist. */
vec4 load_four(F32 array, bool is16, uint at, uint count)
{
    if (C_VEC4)
        return is16 ? load16x4(array, at) : VEC4S(array).v[at / 4];
    vec4 x = vec4(0.0);
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (i < count)
            x[i] = is16 ? load16(array, at + i) : array.v[at + i];
    return x;
}

void store_four(F32 array, bool is16, uint at, vec4 x, uint count)
{
    if (C_VEC4) {
        if (is16)
            store16x4(array, at, x);
        else
            VEC4S(array).v[at / 4] = x;
        return;
    }
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (i < count) {
            if (is16)
                store16(array, at + i, x[i]);
            else
                array.v[at + i] = x[i];
        }
}

/* Stores four neighbours of a row of the product (of a dual one: of both), those that exist; returns their terms of the gate's
 * gradient. */
float epilogue(uint row, uint col, vec4 x, vec4 x3)
{
    uint i1 = row * 2 * p.n + col, i3 = i1 + p.n, count = p.n - col; /* c = (h1 | h3), and of the backward (dh1 | dh3) */
    if (EPILOGUE == EPILOGUE_SWIGLU) {
        store_four(p.c, C16, i1, x, count);
        store_four(p.c, C16, i3, x3, count);
        store_four(p.act, C16, row * p.n + col, swiglu(x, x3), count);
    } else if (EPILOGUE == EPILOGUE_DSWIGLU) {
        vec4 h1 = load_four(p.c, C16, i1, count), h3 = load_four(p.c, C16, i3, count), term = dswiglu(row, x, h1, h3);
        store_four(p.c, C16, i1, h1, count);
        store_four(p.c, C16, i3, h3, count);
        store_four(p.act, C16, row * p.n + col, x, count);
        term = mix(term, vec4(0.0), behind(count));
        return (term.x + term.y) + (term.z + term.w);
    } else {
        uint i = c0 + row * p.n + col;
        x *= p.alpha;
        if (PRESENT(p.base) && !further)
            x += load_four(p.base, false, i, count);
        store_four(F32(further ? uvec2(p.partial) : uvec2(p.c)), C16, i, x, count);
    }
    return 0.0;
}
