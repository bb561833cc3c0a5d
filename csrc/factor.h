/* factor.h: complete orthogonal factorisation of a matrix that grows by rows. */
#ifndef PDCODE_FACTOR_H
#define PDCODE_FACTOR_H

#include <stddef.h>

/* A (count, length) = U T Q with U' U = Q Q' = I and T lower triangular; pseudoinverse W U' with W = Q' / T.
 * Buffers are owned by the caller. Only their first `rank` rows are valid; in left, the first `count` columns. */
struct factorisation {
    ptrdiff_t length, capacity, count, rank;
    double largest; /* largest norm of a row of A */
    double *left;   /* (length, capacity): U transposed */
    double *middle; /* (length, length): T */
    double *right;  /* (length, length): Q */
    double *solver; /* (length, length): W transposed */
    double *errors; /* (length): bounds on the error of the rows of Q */
    double *work;   /* (4 * length + capacity) */
};

/* Forget all codewords; prior > 0 stands for `length` rows prior * I that are always in. */
void factorisation_begin(struct factorisation *f, double prior);

/* Add a codeword (length); return 1 if the rank grew. The caller checks that count < capacity. */
int factorisation_add(struct factorisation *f, const double *codeword);

/* inverse (count, length) = (W U')', in sums whose order is the same on every processor. */
void factorisation_inverse(const struct factorisation *f, double *inverse);

#endif
