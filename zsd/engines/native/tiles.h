// Products of tiles: 16 x 32 numbers of A (bf16), 32 x 16 of B (bf16, two rows side by side: "VNNI"), 16 x 16 of C
// (fp32). With Advanced Matrix Extensions (AMX) a product is one instruction, else 256 of AVX512_BF16.
//
// Tiles of A are 16 rows `a_row` numbers apart, the next one along the sum `a_step` numbers on.

#pragma once

#include <immintrin.h>

#include <cstdint>
#include <cstring>

#ifdef __AMX_BF16__
#include <sys/syscall.h>
#include <unistd.h>
#endif

using bf16 = uint16_t;
constexpr long TILE = 16 * 32;  // numbers of a tile of A or B

#ifdef __AMX_BF16__

// Ask the system for the tiles, once a process. 0: granted.
inline int allow_tiles() {
    constexpr int ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) != 0;
}

struct Tiles {  // eight of 16 rows of 64 bytes, while it lives
    struct alignas(64) Config {
        uint8_t palette = 1, start_row = 0, reserved[14] = {};
        uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
        uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    };
    Tiles() {
        static constexpr Config config;
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// Loads of tiles do not tell the compiler which memory they read: what was stored before must be there.
inline void memory_is_written() { asm volatile("" ::: "memory"); }

// C, 32 x 32 numbers, = A B: two tiles of A by a panel of B, whose two tiles lie one after the other.
//
// A goes by the first-level cache (stream): it is read once a panel, B once for every 32 rows of A. Else the two, of 24
// KB each where 384 numbers are summed, would push each other out. beside(k) is done while step k is multiplied.
template <class Beside>
inline void product_2x2(const bf16* a0, const bf16* a1, const bf16* b, int steps, float* c, Beside beside) {
    memory_is_written();
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < steps; k++) {
        _tile_stream_loadd(4, a0 + k * TILE, 64);
        _tile_loadd(6, b + k * 2 * TILE, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b + k * 2 * TILE + TILE, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_stream_loadd(5, a1 + k * TILE, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
        beside(k);
    }
    _tile_stored(0, c, 128);
    _tile_stored(1, c + 16, 128);
    _tile_stored(2, c + 16 * 32, 128);
    _tile_stored(3, c + 16 * 32 + 16, 128);
}

// C, 16 x 32 numbers, rows `stride` apart, = A B: a tile of A by two of B, the next ones along the sum `b_step` on.
inline void product_1x2(const bf16* a, long a_row, long a_step, const bf16* b0, const bf16* b1, long b_step, int steps,
                        float* c, long stride) {
    memory_is_written();
    _tile_zero(0);
    _tile_zero(1);
    for (int k = 0; k < steps; k++) {
        _tile_loadd(4, a + k * a_step, a_row * 2);
        _tile_loadd(6, b0 + k * b_step, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, b1 + k * b_step, 64);
        _tile_dpbf16ps(1, 4, 7);
    }
    _tile_stored(0, c, stride * 4);
    _tile_stored(1, c + 16, stride * 4);
}

#else

inline int allow_tiles() { return 0; }

struct Tiles {};

// Eight rows of A by two tiles of B: sixteen sums stay in registers, each B is loaded once for eight rows.
inline void product_of_8_rows(const bf16* a, long a_row, long a_step, const bf16* b0, const bf16* b1, long b_step,
                              int steps, float* c, long stride) {
    __m512 low[8], high[8];
    for (int i = 0; i < 8; i++) low[i] = high[i] = _mm512_setzero_ps();
    for (int k = 0; k < steps; k++)
        for (int pair = 0; pair < 16; pair++) {
            const __m512bh by_low = (__m512bh)_mm512_load_si512(b0 + k * b_step + pair * 32);
            const __m512bh by_high = (__m512bh)_mm512_load_si512(b1 + k * b_step + pair * 32);
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                int two;
                std::memcpy(&two, a + i * a_row + k * a_step + pair * 2, sizeof two);
                const __m512bh same = (__m512bh)_mm512_set1_epi32(two);
                low[i] = _mm512_dpbf16_ps(low[i], same, by_low);
                high[i] = _mm512_dpbf16_ps(high[i], same, by_high);
            }
        }
    for (int i = 0; i < 8; i++) {
        _mm512_store_ps(c + i * stride, low[i]);
        _mm512_store_ps(c + i * stride + 16, high[i]);
    }
}

inline void product_1x2(const bf16* a, long a_row, long a_step, const bf16* b0, const bf16* b1, long b_step, int steps,
                        float* c, long stride) {
    product_of_8_rows(a, a_row, a_step, b0, b1, b_step, steps, c, stride);
    product_of_8_rows(a + 8 * a_row, a_row, a_step, b0, b1, b_step, steps, c + 8 * stride, stride);
}

template <class Beside>
inline void product_2x2(const bf16* a0, const bf16* a1, const bf16* b, int steps, float* c, Beside beside) {
    product_1x2(a0, 32, TILE, b, b + TILE, 2 * TILE, steps, c, 32);
    product_1x2(a1, 32, TILE, b, b + TILE, 2 * TILE, steps, c + 16 * 32, 32);
    for (int k = 0; k < steps; k++) beside(k);
}

#endif
