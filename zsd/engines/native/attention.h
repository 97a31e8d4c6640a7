// Attention of one head of one sequence, over its own tokens only: sequences lie one after the other, without padding.
//
// Legend: L tokens of the sequence, D numbers of a head (padded to 32).

#pragma once

#include "vectors.h"

struct AttentionSpace {
    bf16 *keys, *values, *weights;  // [L / 16][D / 32], [L / 32][D / 32][2], [L / 32] tiles
    float *scores, *result;         // [16][L], [16][32]
};

inline void transpose_16x16(__m512i v[16]) {
    __m512i t[16];
    for (int i = 0; i < 8; i++) {
        t[2 * i] = _mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]);
        t[2 * i + 1] = _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]);
    }
    for (int i = 0; i < 4; i++) {
        v[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
        v[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
        v[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(v[i], v[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(v[i + 8], v[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        v[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        v[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        v[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// Keys as tiles of B (each a column), rows `stride` apart; of no token: zero.
inline void pack_keys(const bf16* keys, long stride, long length, int steps, bf16* to) {
    for (long first = 0; first < padded(length, 32); first += 16)
        for (int s = 0; s < steps; s++, to += TILE) {
            __m512i pairs[16];
            for (int i = 0; i < 16; i++)
                pairs[i] = first + i < length ? _mm512_loadu_si512(keys + (first + i) * stride + s * 32)
                                              : _mm512_setzero_si512();
            transpose_16x16(pairs);
            for (int i = 0; i < 16; i++) _mm512_store_si512(to + i * 32, pairs[i]);
        }
}

// Values as tiles of B (each a row), two for every 32 numbers of the head.
inline void pack_values(const bf16* values, long stride, long length, int steps, bf16* to) {
    alignas(64) static constexpr uint16_t mixed[32] = {0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39,
                                                       8, 40, 9, 41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47};
    const __m512i low = _mm512_load_si512(mixed), high = _mm512_add_epi16(low, _mm512_set1_epi16(16));
    for (long first = 0; first < padded(length, 32); first += 32)
        for (int s = 0; s < steps; s++, to += 2 * TILE)
            for (int i = 0; i < 16; i++) {
                const long t = first + i * 2;
                const bf16* at = values + t * stride + s * 32;
                const __m512i even = t < length ? _mm512_loadu_si512(at) : _mm512_setzero_si512();
                const __m512i odd = t + 1 < length ? _mm512_loadu_si512(at + stride) : _mm512_setzero_si512();
                _mm512_store_si512(to + i * 32, _mm512_permutex2var_epi16(even, low, odd));
                _mm512_store_si512(to + TILE + i * 32, _mm512_permutex2var_epi16(even, high, odd));
            }
}

// 2^(scores - highest) of one query as a row of tiles of A, zero where there is no token; returns their sum.
inline float weigh(const float* scores, long length, bf16* to) {
    __m512 most = _mm512_set1_ps(-3e38f), sum = _mm512_setzero_ps();
    for (long j = 0; j < length; j += 16)
        most = _mm512_mask_max_ps(most, first_of_16(length - j), most, _mm512_load_ps(scores + j));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (long j = 0; j < length; j += 32, to += TILE) {
        __m512 weights[2];
        for (int half = 0; half < 2; half++) {
            const __m512 score = _mm512_load_ps(scores + j + half * 16);
            weights[half] = _mm512_maskz_mov_ps(first_of_16(length - j - half * 16), power_of_two(_mm512_sub_ps(score, most)));
            sum = _mm512_add_ps(sum, weights[half]);
        }
        _mm512_store_si512(to, to_bf16(weights[0], weights[1]));
    }
    return _mm512_reduce_add_ps(sum);
}

// Queries are rows `q_stride` numbers apart, keys and values `stride`; put(query, step, numbers) gets 32 bf16 numbers of a
// query's result. Up to 15 rows behind the queries are read.
template <class Put>
inline void attend(const bf16* queries, long q_stride, long count, const bf16* keys, const bf16* values, long stride,
                   long length, int steps, const AttentionSpace& space, Put put) {
    const long columns = padded(length, 32);
    pack_keys(keys, stride, length, steps, space.keys);
    pack_values(values, stride, length, steps, space.values);
    for (long first = 0; first < count; first += 16) {
        for (long j = 0; j < columns / 16; j += 2)
            product_1x2(queries + first * q_stride, q_stride, 32, space.keys + j * steps * TILE,
                        space.keys + (j + 1) * steps * TILE, TILE, steps, space.scores + j * 16, columns);
        const int rows = std::min(16L, count - first);
        float scale[16];
        for (int i = 0; i < rows; i++) scale[i] = 1.0f / weigh(space.scores + i * columns, length, space.weights + i * 32);
        for (int s = 0; s < steps; s++) {
            product_1x2(space.weights, 32, TILE, space.values + s * 2 * TILE, space.values + s * 2 * TILE + TILE,
                        steps * 2 * TILE, columns / 32, space.result, 32);
            for (int i = 0; i < rows; i++) {
                const __m512 by = _mm512_set1_ps(scale[i]), low = _mm512_load_ps(space.result + i * 32);
                const __m512 high = _mm512_load_ps(space.result + i * 32 + 16);
                put(first + i, s, to_bf16(_mm512_mul_ps(low, by), _mm512_mul_ps(high, by)));
            }
        }
    }
}
