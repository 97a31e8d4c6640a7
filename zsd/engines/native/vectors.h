// Sixteen fp32 numbers at a time: to bf16, the functions of an encoder, and products whose results go through one.

#pragma once

#include <algorithm>

#include "tiles.h"

inline long padded(long n, long to) { return (n + to - 1) / to * to; }

inline __m512i to_bf16(__m512 low, __m512 high) { return (__m512i)_mm512_cvtne2ps_pbh(high, low); }

// The first `count` of sixteen.
inline __mmask16 first_of_16(long count) { return count >= 16 ? 0xffff : count <= 0 ? 0 : (1u << count) - 1; }

// 2^x of x <= 0, to 6e-5 of itself: 2^(whole part) times the Taylor series of the rest, which is within a half.
inline __m512 power_of_two(__m512 x) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const __m512 rest = _mm512_sub_ps(x, whole);
    __m512 sum = _mm512_set1_ps(0.009618129f);
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.05550411f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.2402265f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(0.6931472f));
    sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(1.0f));
    return _mm512_scalef_ps(sum, whole);
}

// GELU, x Phi(x), to 8e-5: Phi is 1/2 and an odd polynomial of x cut to +-4.2, the one of least greatest error of x Phi(x)
// (a linear program over 660 points) that is 1/2 at the end.
inline __m512 gelu(__m512 x) {
    const __m512 end = _mm512_set1_ps(4.2f);
    const __m512 z = _mm512_max_ps(_mm512_min_ps(x, end), _mm512_sub_ps(_mm512_setzero_ps(), end));
    const __m512 square = _mm512_mul_ps(z, z);
    constexpr float terms[] = {0.39846592f,   -0.065528259f,  0.0092982474f, -0.00095065984f,
                               6.6890824e-05f, -3.0379328e-06f, 7.9413253e-08f, -9.0174934e-10f};
    __m512 sum = _mm512_set1_ps(terms[7]);
    for (int i = 6; i >= 0; i--) sum = _mm512_fmadd_ps(sum, square, _mm512_set1_ps(terms[i]));
    return _mm512_mul_ps(x, _mm512_fmadd_ps(sum, z, _mm512_set1_ps(0.5f)));
}

// A [row_tiles * 16][steps * 32] in tiles by B [steps * 32][panels * 32] in panels; finish(row, panel, numbers) gets the 32
// numbers of each row of each panel, while the next ones are multiplied.
template <class Finish>
inline void product(const bf16* a, long row_tiles, int steps, const bf16* b, long panels, Finish finish) {
    alignas(64) float results[2][32 * 32];
    const int rows_a_step = (32 + steps - 1) / steps;
    const long tiles = steps * 2, lines_a_step = (tiles * 16 + row_tiles / 2 * steps - 1) / (row_tiles / 2 * steps);
    long last_m = -1, last_p = 0;
    int turn = 0;
    for (long p = 0; p < panels; p++) {
        const bf16* panel = b + p * tiles * TILE;
        const bf16* ahead = panel + tiles * TILE;  // the next panel, brought nearer line by line
        const bf16* end = p + 1 < panels ? ahead + tiles * TILE : ahead;
        for (long m = 0; m < row_tiles; m += 2, turn ^= 1) {
            const float* before = results[turn ^ 1];
            product_2x2(a + m * steps * TILE, a + (m + 1) * steps * TILE, panel, steps, results[turn], [&](int k) {
                for (long i = 0; i < lines_a_step && ahead < end; i++, ahead += 32) _mm_prefetch(ahead, _MM_HINT_T1);
                for (int r = k * rows_a_step; last_m >= 0 && r < std::min(32, (k + 1) * rows_a_step); r++)
                    finish(last_m * 16 + r, last_p, before + r * 32);
            });
            last_m = m, last_p = p;
        }
    }
    for (int r = 0; r < 32; r++) finish(last_m * 16 + r, last_p, results[turn ^ 1] + r * 32);
}
