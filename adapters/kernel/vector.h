// Vectors as wide as the processor's registers, sixteen numbers or eight. Wider ones than it has are no bargain: gcc 12
// keeps those in memory, at a sixth of the pace.
//
// Knows float32 and bfloat16 (a float32's upper half, kept as uint16_t). Two bfloat16 numbers side by side are a
// "pair": the processor's bfloat16 product multiplies pair by pair and adds both to a float32. Where it has none, two
// float32 products do the same.

#pragma once
#include <math.h>
#include <stdint.h>
#include <string.h>
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define LANES 16
#else
#define LANES 8
#endif

typedef uint16_t bf16;
typedef float f32v __attribute__((vector_size(4 * LANES)));
typedef uint32_t u32v __attribute__((vector_size(4 * LANES)));
typedef bf16 bf16v __attribute__((vector_size(2 * LANES)));

#define INLINE static inline __attribute__((always_inline))

INLINE f32v load(const float *from) { f32v v; memcpy(&v, from, sizeof v); return v; }
INLINE void store(float *to, f32v v) { memcpy(to, &v, sizeof v); }
INLINE f32v all(float number) { return (f32v){} + number; }

INLINE u32v load_pairs(const bf16 *from) { u32v v; memcpy(&v, from, sizeof v); return v; }
INLINE u32v all_pair(const bf16 *from) { uint32_t pair; memcpy(&pair, from, sizeof pair); return (u32v){} + pair; }

// acc + a.first · b.first + a.second · b.second in every lane
INLINE f32v dot2(f32v acc, u32v a, u32v b) {
#if defined(__AVX512BF16__)
    return (f32v)_mm512_dpbf16_ps((__m512)acc, (__m512bh)a, (__m512bh)b);
#else
    acc += (f32v)(a << 16) * (f32v)(b << 16);
    return acc + (f32v)(a & 0xffff0000u) * (f32v)(b & 0xffff0000u);
#endif
}

INLINE f32v widen(const bf16 *from) {
    bf16v v;
    memcpy(&v, from, sizeof v);
    return (f32v)(__builtin_convertvector(v, u32v) << 16);
}

INLINE void narrow(bf16 *to, f32v v) {  // to the nearest, ties to even
#if defined(__AVX512BF16__)
    __m256bh halves = _mm512_cvtneps_pbh((__m512)v);
    memcpy(to, &halves, sizeof halves);
#else
    u32v bits = (u32v)v;
    u32v rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
    u32v nan = (u32v)(v != v);
    bf16v halves = __builtin_convertvector((rounded & ~nan) | (nan & 0x7fc0u), bf16v);
    memcpy(to, &halves, sizeof halves);
#endif
}

// first[i], second[i] side by side for LANES i
INLINE void store_pairs(bf16 *to, const bf16 *first, const bf16 *second) {
    bf16v one, two;
    memcpy(&one, first, sizeof one);
    memcpy(&two, second, sizeof two);
    u32v pairs = __builtin_convertvector(one, u32v) | __builtin_convertvector(two, u32v) << 16;
    memcpy(to, &pairs, sizeof pairs);
}

INLINE bf16 narrow_one(float number) {
    bf16 out[LANES];
    narrow(out, all(number));
    return out[0];
}

INLINE float widen_one(bf16 number) {
    uint32_t bits = (uint32_t)number << 16;
    float out;
    memcpy(&out, &bits, sizeof out);
    return out;
}

// Lanes trade places; gcc before 12 does not know clang's name for it.
#if defined(__clang__)
#define SHUFFLE(v, ...) __builtin_shufflevector(v, v, __VA_ARGS__)
#else
#define SHUFFLE(v, ...) __builtin_shuffle(v, (u32v){__VA_ARGS__})
#endif

// A number out of all lanes, always in the same order: each lane with the one half a vector away, then a quarter...
#if LANES == 16
#define FOLD(with, v) \
    v = with(v, SHUFFLE(v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)); \
    v = with(v, SHUFFLE(v, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)); \
    v = with(v, SHUFFLE(v, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)); \
    v = with(v, SHUFFLE(v, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14));
#else
#define FOLD(with, v) \
    v = with(v, SHUFFLE(v, 4, 5, 6, 7, 0, 1, 2, 3)); \
    v = with(v, SHUFFLE(v, 2, 3, 0, 1, 6, 7, 4, 5)); \
    v = with(v, SHUFFLE(v, 1, 0, 3, 2, 5, 4, 7, 6));
#endif

INLINE f32v plus(f32v a, f32v b) { return a + b; }

INLINE f32v larger(f32v a, f32v b) {
    u32v first = (u32v)(a > b);
    return (f32v)(((u32v)a & first) | ((u32v)b & ~first));
}

INLINE float sum(f32v v) {
    FOLD(plus, v)
    return v[0];
}

INLINE float largest(f32v v) {
    FOLD(larger, v)
    return v[0];
}

// e^x, within 2 units of the last place for x in [-87, 88]; below that about 1e-38.
// Cody and Waite's reduction x = n ln 2 + f, then the Taylor polynomial of e^f for |f| ≤ ln 2 / 2.
INLINE f32v vexp(f32v x) {
    x = larger(x, all(-87.0f));
    x = -larger(-x, all(-88.0f));
    const f32v magic = all(12582912.0f);  // 1.5 · 2^23: adding it rounds to a whole number
    f32v shifted = x * 1.44269504f + magic;
    f32v n = shifted - magic;
    f32v f = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    f32v e = all(1.9841270e-4f);
    e = e * f + 1.3888889e-3f;
    e = e * f + 8.3333333e-3f;
    e = e * f + 4.1666667e-2f;
    e = e * f + 1.6666667e-1f;
    e = e * f + 0.5f;
    e = e * f + 1.0f;
    e = e * f + 1.0f;
    u32v power = ((u32v)shifted << 23) + 0x3f800000u;  // the low bits of `shifted` hold n
    return e * (f32v)power;
}

INLINE f32v sigmoid(f32v x) { return 1.0f / (1.0f + vexp(-x)); }
