/* mmse.h: whitening of codewords, and the posterior variance. */
#ifndef PDCODE_MMSE_H
#define PDCODE_MMSE_H

#include <stddef.h>

/* A root C of the covariance, C C' = Sigma: (length) its diagonal, or (length, length). */
struct root {
    ptrdiff_t length;
    int diagonal;
    const double *values;
};

/* out (length) = C' codeword. */
void mmse_whiten(const struct root *root, const double *codeword, double *out);

/* |C v|^2 */
double mmse_energy(const struct root *root, const double *v);

/* Decrease of tr(P) by a codeword a (length, whitened), P = variance C M C', M = sum over i of solver_i
 * solver_i' before it; work (length). */
double mmse_gain(const struct root *root, double variance, const double *solver, const double *a, double *work);

#endif
