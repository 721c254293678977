/* The part that is needed of torch's stable C interface (torch/csrc/stable/c/shim.h and
 * torch/csrc/inductor/aoti_torch/c/shim.h, from torch 2.13 on), whose functions are found at run time. So nothing of
 * torch is needed to build the package, and one build serves all versions. */
#ifndef SPARSEACC_TORCH_H
#define SPARSEACC_TORCH_H
#include <stddef.h>
#include <stdint.h>

/* cffi begins */
typedef struct {
    int (*aoti_torch_get_dim)(void *tensor, int64_t *);
    int (*aoti_torch_get_sizes)(void *tensor, int64_t **);
    int (*aoti_torch_get_strides)(void *tensor, int64_t **);
    int (*aoti_torch_get_dtype)(void *tensor, int32_t *);
    int (*aoti_torch_get_data_ptr)(void *tensor, void **);
    int (*aoti_torch_get_storage_offset)(void *tensor, int64_t *);
    int (*aoti_torch_get_storage_size)(void *tensor, int64_t *bytes);
    size_t (*aoti_torch_dtype_element_size)(int32_t dtype);
    int (*aoti_torch_empty_strided)(int64_t dim, const int64_t *sizes, const int64_t *strides, int32_t dtype,
                                    int32_t device_type, int32_t device_index, void **tensor);
    int (*aoti_torch_delete_tensor_object)(void *tensor);
    int (*torch_string_c_str)(void *string, const char **);
    int (*torch_string_length)(void *string, size_t *);
    int (*torch_delete_string)(void *string);
    int (*torch_list_get_item)(void *list, size_t, uint64_t *);
    int (*torch_delete_list)(void *list);
    int (*torch_call_dispatcher)(const char *name, const char *overload, uint64_t *stack, uint64_t version);
    const char *(*torch_exception_get_what_without_backtrace)(void);
    void (*aoti_torch_check)(_Bool, const char *function, const char *file, uint32_t line, const char *message);
    int (*aoti_torch_library_init_impl)(const char *name, const char *key, const char *file, uint32_t line,
                                        void **library);
    int (*torch_library_impl)(void *library, const char *name, void (*)(uint64_t *, uint64_t, uint64_t),
                              uint64_t version);
    int32_t (*aoti_torch_device_type_cpu)(void);
    int (*_ZN2at15get_num_threadsEv)(void); /* at::get_num_threads, of this thread: the interface has none */
} sa_torch;

/* Makes C the CPU kernel of product and vjp, and of the same operators without derivatives. Returns 0, or torch's
 * error. */
int sa_torch_register(const sa_torch *functions);

/* The text of the rule in the call that C has left to Python in this thread, and its length; null outside of such a
 * call. It is no argument of the operator that C calls then, as torch keeps every text that is passed to one from C
 * forever. */
const char *sa_torch_rule(int64_t *size);
/* cffi ends */
#endif
