/* simd.h: VECTORISED entry points, INLINE helpers, PREFETCH.
 *
 * On x86-64 with glibc GCC makes an AVX-512, an AVX2 and a baseline version of a VECTORISED function and the
 * loader picks one, so that one binary serves a mixed cluster; INLINE helpers are compiled into each version.
 * The build says -ffp-contract=off: elementwise results do not depend on the version picked. Clang makes the
 * baseline version alone (clang 14 gives the function that picks another name than callers use).
 */
#ifndef PDCODE_SIMD_H
#define PDCODE_SIMD_H

#include <stdint.h> /* also defines __GLIBC__ */

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "pdcode's messages are little-endian, and its kernels read them in place"
#endif

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#if __GNUC__ >= 12 /* knows x86-64-v4: AVX-512 with vectors of bytes, without which codes are packed slowly */
#define VECTORISED __attribute__((target_clones("arch=x86-64-v4", "avx2", "default")))
#else
#define VECTORISED __attribute__((target_clones("avx512f", "avx2", "default")))
#endif
#else
#define VECTORISED
#endif

#if defined(__GNUC__)
#define INLINE __attribute__((always_inline, unused)) static inline
#define PREFETCH(address) __builtin_prefetch(address)
#else
#define INLINE static inline
#define PREFETCH(address) ((void)0)
#endif

#endif
