/* mmse.c: parts of the MMSE decoder beside the factorisation of factor.c.
 *
 * Design note. With Sigma = C C' and whitened codewords A = G C the estimate is C (A'A + noise I)^-1 A' y: ridge
 * regression, which factor.c updates by rotations (a square-root filter, without subtractions of covariances).
 * It keeps M = (A'A + noise I)^-1 as a product of triangular factors. The trace of the posterior covariance
 * P = noise C M C' falls with a codeword a by noise |C M a|^2 / (1 + a' M a) (Sherman and Morrison). This takes
 * length^2 to 2 length^2 flops along contiguous rows; sums use eight lanes on every processor, hence are
 * bit-identical.
 */
#include <string.h>

#include "mmse.h"
#include "vectors.h"

VECTORISED
void mmse_whiten(const struct root *root, const double *codeword, double *out)
{
    const ptrdiff_t k = root->length;
    memset(out, 0, (size_t)k * sizeof(double));
    for (ptrdiff_t j = 0; j < k; j++)
        if (root->diagonal)
            out[j] = root->values[j] * codeword[j];
        else if (codeword[j] != 0)
            add(out, codeword[j], root->values + j * k, k);
}

VECTORISED
double mmse_energy(const struct root *root, const double *v)
{
    const ptrdiff_t k = root->length;
    double sum = 0;
    for (ptrdiff_t j = 0; j < k; j++) {
        const double part = root->diagonal ? root->values[j] * v[j] : dot(root->values + j * k, v, k);
        sum += part * part;
    }
    return sum;
}

VECTORISED
double mmse_gain(const struct root *root, double variance, const double *solver, const double *a, double *work)
{
    const ptrdiff_t k = root->length;
    double spread = 0;
    memset(work, 0, (size_t)k * sizeof(double));
    for (ptrdiff_t i = 0; i < k; i++) {
        const double part = dot(solver + i * k, a, k);
        spread += part * part;
        add(work, part, solver + i * k, k);
    }
    return variance * mmse_energy(root, work) / (1 + spread);
}
