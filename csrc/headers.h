/* headers.h: the header of a message, `HEADER` of pdcode/transport/layout.py. */
#ifndef PDCODE_HEADERS_H
#define PDCODE_HEADERS_H

#include <stdint.h>

#define MESSAGE_LEAVING 128 /* flag of a reply: its worker asks for no other task */

struct message_header {
    uint16_t worker, flags;
    uint32_t bytes, task, version;
    int64_t row, start, compute, send, delay; /* in a task, start is a digest */
    double loss;
} __attribute__((packed));

#endif
