from libc.stdint cimport uint8_t, uint64_t


cdef extern from "quantise.h" nogil:
    int PDCODE_FLOAT64, PDCODE_FLOAT32, PDCODE_BFLOAT16, PDCODE_FLOAT16
    int PDCODE_INT8, PDCODE_INT4, PDCODE_INT2, PDCODE_SIGN, PDCODE_QSGD, PDCODE_FORMATS, PDCODE_GROUP
    Py_ssize_t quantise_bytes(int kind, Py_ssize_t rows, Py_ssize_t elements)
    int quantise_encode_f32(int kind, const float *source, Py_ssize_t rows, Py_ssize_t elements,
                            const uint64_t *key, const uint64_t *place, uint8_t *out)
    int quantise_encode_f64(int kind, const double *source, Py_ssize_t rows, Py_ssize_t elements,
                            const uint64_t *key, const uint64_t *place, uint8_t *out)
    int quantise_decode_f32(int kind, const uint8_t *payload, Py_ssize_t rows, Py_ssize_t elements,
                            float *out)
    int quantise_decode_f64(int kind, const uint8_t *payload, Py_ssize_t rows, Py_ssize_t elements,
                            double *out)
