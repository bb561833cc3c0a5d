/* lca.c: steps that infer sparse codes, for features at the places of a grid.
 *
 * Design note. The products of codes and features are BLAS's; here is what is between them. A patch per place
 * of the grid, each of rows × columns, lies where the next one does: a place after the other, image after
 * image. An image is the sum of its patches, so what the patches leave of it, cut into patches again, is both
 * the drive of the codes and the derivative by the patches. Features as large as the image have one place.
 */
#ifndef REAL
#include "lca.h"
#define KERNEL "lca.c"
#include "real.h"
#else

/* Replace patches by scale times the patches of image = target - sum of patches; return half of the sum of
 * its squares, over all samples. image is a buffer of one image.
 */
VECTORISED
double NAME(leave)(const REAL *targets, REAL *patches, REAL *restrict image, ptrdiff_t samples,
                   ptrdiff_t height, ptrdiff_t width, ptrdiff_t rows, ptrdiff_t columns, ptrdiff_t stride,
                   double scale)
{
    const REAL unit = (REAL)scale;
    const ptrdiff_t down = (height - rows) / stride + 1, across = (width - columns) / stride + 1;
    double total = 0;
    for (ptrdiff_t s = 0; s < samples; s++) {
        REAL *patch = patches + s * down * across * rows * columns;
        memcpy(image, targets + s * height * width, (size_t)(height * width) * sizeof(REAL));
        for (ptrdiff_t place = 0; place < down * across; place++) {
            REAL *at = image + (place / across * width + place % across) * stride;
            for (ptrdiff_t i = 0; i < rows; i++, patch += columns)
                for (ptrdiff_t j = 0; j < columns; j++)
                    at[i * width + j] -= patch[j];
        }
#pragma omp simd reduction(+ : total)
        for (ptrdiff_t i = 0; i < height * width; i++)
            total += (double)image[i] * (double)image[i];
        patch = patches + s * down * across * rows * columns;
        for (ptrdiff_t place = 0; place < down * across; place++) {
            const REAL *at = image + (place / across * width + place % across) * stride;
            for (ptrdiff_t i = 0; i < rows; i++, patch += columns)
                for (ptrdiff_t j = 0; j < columns; j++)
                    patch[j] = unit * at[i * width + j];
        }
    }
    return 0.5 * total;
}

/* potential += speed (drive - potential + codes), codes = threshold(potential); codes are apart elements from
 * sample to sample. The drive is the correlation of the features with what all codes leave, so that a unit
 * does not compete with itself.
 */
VECTORISED
void NAME(compete)(const REAL *drive, REAL *potential, REAL *codes, ptrdiff_t apart, ptrdiff_t samples,
                   ptrdiff_t units, const REAL *thresholds, double speed, int hard, int nonnegative)
{
    const REAL part = (REAL)speed, keep = hard ? 1 : 0, sign = nonnegative ? 0 : 1;
    for (ptrdiff_t s = 0; s < samples; s++) {
        const REAL *restrict input = drive + s * units;
        REAL *restrict u = potential + s * units, *restrict a = codes + s * apart;
#pragma omp simd
        for (ptrdiff_t m = 0; m < units; m++) {
            const REAL now = u[m] + part * (input[m] - u[m] + a[m]), limit = thresholds[m];
            const REAL less = limit - keep * limit, below = sign * (now + less);
            u[m] = now;
            a[m] = now > limit ? now - less : now < -limit ? below : 0;
        }
    }
}

/* codes = threshold(points + step drive) by step times the thresholds, points = codes + momentum (codes - codes
 * before). The drive is the correlation of the features with what the points leave.
 */
VECTORISED
void NAME(descend)(const REAL *drive, REAL *points, REAL *codes, ptrdiff_t apart, ptrdiff_t samples,
                   ptrdiff_t units, const REAL *thresholds, double step, double momentum, int nonnegative)
{
    const REAL part = (REAL)step, further = (REAL)momentum, sign = nonnegative ? 0 : 1;
    for (ptrdiff_t s = 0; s < samples; s++) {
        const REAL *restrict input = drive + s * units;
        REAL *restrict z = points + s * units, *restrict a = codes + s * apart;
#pragma omp simd
        for (ptrdiff_t m = 0; m < units; m++) {
            const REAL now = z[m] + part * input[m], limit = part * thresholds[m];
            const REAL below = sign * (now + limit), next = now > limit ? now - limit : now < -limit ? below : 0;
            z[m] = next + further * (next - a[m]);
            a[m] = next;
        }
    }
}
#endif
