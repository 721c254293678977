/* What XLA calls a function with: the part that is needed of its header xla/ffi/api/c_api.h, in which the interface has
 * a version and only grows. So nothing of XLA is needed to build the package, and one build serves all versions. */
#ifndef SPARSEACC_XLA_H
#define SPARSEACC_XLA_H
#include <stddef.h>
#include <stdint.h>

/* cffi begins */
typedef struct sa_xla_extension {
    size_t struct_size;
    int type;
    struct sa_xla_extension *next;
} sa_xla_extension;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    int major, minor;
} sa_xla_version;

typedef struct {
    size_t struct_size;
    sa_xla_version api_version;
    uint32_t traits;
    int64_t state_type_id;
} sa_xla_metadata;

typedef struct {
    sa_xla_extension base;
    sa_xla_metadata *metadata;
} sa_xla_metadata_extension;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    const char *message;
    int code;
} sa_xla_error;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    sa_xla_version api_version;
    void *internal;
    void *(*create_error)(sa_xla_error *);
} sa_xla_api;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    int dtype;
    void *data;
    int64_t rank, *dims;
} sa_xla_buffer;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    int64_t size;
    int *types;
    sa_xla_buffer **items;
} sa_xla_buffers;

typedef struct {
    const char *pointer;
    size_t size;
} sa_xla_span;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    int64_t size;
    int *types;
    sa_xla_span **names, **values;
} sa_xla_attributes;

typedef struct {
    size_t struct_size;
    sa_xla_extension *extensions;
    sa_xla_api *api;
    void *context;
    int stage;
    sa_xla_buffers arguments, results;
    sa_xla_attributes attributes;
} sa_xla_frame;

/* The product of two arguments, or of three with weights, with one attribute: the text of axis and rule. Returns no error, or XLA's. */
void *sa_xla(sa_xla_frame *frame);

/* Message passing, with one attribute that says what of which arguments is computed: in Python, which calls C. */
void *sa_xla_messages(sa_xla_frame *frame);

/* From now on no thread goes to Python, which ends. Returns when all that are there have left it. */
void sa_xla_leave_python(void);
/* cffi ends */

/* The same in Python (jax/xla.py), for a call that is not remembered. Returns 0, or the code of an error and its
 * message. */
int sa_xla_first(sa_xla_frame *frame, char *message, int64_t size);

/* Message passing in Python (jax/passes.py), with the same results. */
int sa_xla_pass(sa_xla_frame *frame, char *message, int64_t size);
#endif
