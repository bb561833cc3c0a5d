/* exponential.h: exp, tanh and the normal distribution without branches or calls, so that loops over them
 * vectorise; included once a precision.
 *
 * exp(x) = 2^n exp(r), n = round(x / ln 2), |r| <= ln(2) / 2. ln 2 is split in two (Cody and Waite), so that
 * n ln 2 is exact where it matters, and exp(r) is its Taylor series to degree 7 (float) or 13 (double): the
 * remainder is below half an ulp. tanh is 1 - 2 exp(-2|x|) / (1 + exp(-2|x|)), near 0 a rational
 * approximation; the normal distribution is computed from erf and erfc. The rational approximations are from
 * the Cephes library (Moshier; tanh.c, ndtr.c).
 */
#ifndef PDCODE_HORNER
#define PDCODE_HORNER
/* Polynomials in x, highest power first. */
#define POLY1(x, a, b) ((REAL)(a) * (x) + (REAL)(b))
#define POLY2(x, a, b, c) (POLY1(x, a, b) * (x) + (REAL)(c))
#define POLY3(x, a, b, c, d) (POLY2(x, a, b, c) * (x) + (REAL)(d))
#define POLY4(x, a, b, c, d, e) (POLY3(x, a, b, c, d) * (x) + (REAL)(e))
#define POLY5(x, a, b, c, d, e, f) (POLY4(x, a, b, c, d, e) * (x) + (REAL)(f))
#define POLY6(x, a, b, c, d, e, f, g) (POLY5(x, a, b, c, d, e, f) * (x) + (REAL)(g))
#define POLY7(x, a, b, c, d, e, f, g, h) (POLY6(x, a, b, c, d, e, f, g) * (x) + (REAL)(h))
#define POLY8(x, a, b, c, d, e, f, g, h, i) (POLY7(x, a, b, c, d, e, f, g, h) * (x) + (REAL)(i))
#endif

#define SINGLE (sizeof(REAL) == 4)

/* exp(x) for x <= 0; a result that would be denormal is 0. NaN stays NaN. */
INLINE REAL NAME(exp_negative)(REAL x)
{
    const REAL lowest = SINGLE ? (REAL)-87.3 : (REAL)-708.3;
    const REAL rounder = SINGLE ? (REAL)12582912.0 : (REAL)6755399441055744.0; /* 1.5 * 2^23, 1.5 * 2^52 */
    const REAL high = SINGLE ? (REAL)0.693359375 : (REAL)6.93145751953125e-1;
    const REAL low = SINGLE ? (REAL)-2.12194440e-4 : (REAL)1.42860682030941723212e-6;

    const REAL bounded = x < lowest ? lowest : x;
    const REAL shifted = bounded * (REAL)1.4426950408889634 + rounder, n = shifted - rounder;
    const REAL r = bounded - n * high - n * low;
    const REAL tail = SINGLE ? (REAL)(1.0 / 5040)
                             : POLY6(r, 1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                     1.0 / 362880, 1.0 / 40320, 1.0 / 5040);
    const REAL series = POLY5(r, tail, 1.0 / 720, 1.0 / 120, 1.0 / 24, 1.0 / 6, 0.5) * r * r + r + 1;
    BITS bits;
    REAL power;
    memcpy(&bits, &shifted, sizeof bits); /* the low bits of shifted are n: make them the exponent of 2^n */
    bits = (bits + (SINGLE ? 127u : 1023u)) << (SINGLE ? 23 : 52);
    memcpy(&power, &bits, sizeof power);
    return x < lowest ? 0 : series * power;
}

INLINE REAL NAME(tangent)(REAL x)
{
    const REAL size = x < 0 ? -x : x, square = x * x;
    const REAL e = NAME(exp_negative)(-2 * size);
    const REAL p =
        POLY2(square, -9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3);
    const REAL q =
        POLY3(square, 1, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3);
    const int small = size < (REAL)0.625;
    const REAL numerator = small ? size * square * p : -2 * e, denominator = small ? q : 1 + e;
    const REAL tangent = (small ? size : 1) + numerator / denominator;
    return x < 0 ? -tangent : tangent;
}

/* The chance that a normal number is below x: half of erfc(-x / sqrt(2)). With y = |x| / sqrt(2), erf(y) is
 * y t / u up to 1, erfc(y) = exp(-y^2) p / q beyond; at 30 it has long been 0.
 */
INLINE REAL NAME(normal)(REAL x)
{
    const REAL far = (REAL)0.70710678118654752 * (x < 0 ? -x : x), y = far > 30 ? 30 : far, z = y * y;
    const REAL t = POLY4(z, 9.60497373987051638749, 9.00260197203842689217e1, 2.23200534594684319226e3,
                         7.00332514112805075473e3, 5.55923013010394962768e4);
    const REAL u = POLY5(z, 1, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3,
                         2.26290000613890934246e4, 4.92673942608635921086e4);
    const REAL p = POLY8(y, 2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687,
                         4.86371970985681366614e1, 1.96520832956077098242e2, 5.26445194995477358631e2,
                         9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2);
    const REAL q = POLY8(y, 1, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
                         9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3,
                         1.65666309194161350182e3, 5.57535340817727675546e2);
    /* Weights of 0 and 1 in place of a choice: GCC would divide under a mask, on leftovers of other lanes,
     * and denormal leftovers take a hundred cycles. */
    const REAL small = y < 1 ? 1 : 0, large = 1 - small;
    const REAL numerator = small * (y * t) + large * (NAME(exp_negative)(-z) * p);
    const REAL half = (REAL)0.5 * numerator / (small * u + large * q);
    const REAL below = (REAL)0.5 * small + (large - small) * half;
    return x < 0 ? below : 1 - below;
}

#undef SINGLE
