/* CPU kernels of torch's operators (torch/ops.py), for calls that have been made before: a new one goes to an operator
 * in Python, which checks it and has it remembered. */
#include "sparseacc.h"
#include "torch.h"
#include <string.h>

enum { MOST_DIM = 8 };
static const uint64_t version = (uint64_t)2 << 56 | (uint64_t)13 << 48; /* the interface's, that is written for */

static sa_torch torch;

struct tensor {
    int64_t dim, *sizes, *strides;
    int32_t dtype;
    void *data;
};

/* Whether the storage reaches as far as the numbers: it may have been taken away from a tensor. */
static int in_storage(void *handle, const struct tensor *t)
{
    int64_t last, bytes;
    if (torch.aoti_torch_get_storage_offset(handle, &last) || torch.aoti_torch_get_storage_size(handle, &bytes))
        return 0;
    for (int64_t d = 0; d < t->dim; d++) {
        if (!t->sizes[d])
            return 1;
        last += (t->sizes[d] - 1) * t->strides[d];
    }
    return t->data && last < bytes / (int64_t)torch.aoti_torch_dtype_element_size(t->dtype);
}

static int described(void *handle, struct tensor *t, int64_t *numbers, int64_t *n)
{
    if (torch.aoti_torch_get_dim(handle, &t->dim) || t->dim > MOST_DIM ||
        torch.aoti_torch_get_sizes(handle, &t->sizes) || torch.aoti_torch_get_strides(handle, &t->strides) ||
        torch.aoti_torch_get_dtype(handle, &t->dtype) || torch.aoti_torch_get_data_ptr(handle, &t->data) ||
        !in_storage(handle, t))
        return 0;
    numbers[(*n)++] = t->dtype;
    numbers[(*n)++] = t->dim;
    for (int64_t d = 0; d < t->dim; d++) {
        numbers[(*n)++] = t->sizes[d];
        numbers[(*n)++] = t->strides[d];
    }
    return 1;
}

static void *empty(const int64_t *sizes, const struct tensor *like)
{
    int64_t strides[MOST_DIM], step = 1;
    void *tensor = 0;
    for (int64_t d = like->dim; d-- > 0; step *= sizes[d] > 1 ? sizes[d] : 1)
        strides[d] = step;
    torch.aoti_torch_empty_strided(like->dim, sizes, strides, like->dtype, torch.aoti_torch_device_type_cpu(), 0,
                                   &tensor);
    return tensor;
}

/* The stack holds tensors, the rule's text, an optional tensor (none), and an axis. Makes new tensors: of the shapes of
 * the last inputs, or for one output theirs broadcast, with `length` along the axis, else 0. Returns whether the call
 * was known. */
static int repeated(uint64_t *stack, int inputs, int outputs, int64_t length, void **results)
{
    struct tensor t[3];
    int64_t numbers[3 * (2 + 2 * MOST_DIM) + 3], n = 0;
    sa_recalled found;
    const char *text;
    size_t size;
    for (int i = 0; i < inputs; i++)
        if (!described((void *)stack[i], &t[i], numbers, &n))
            return 0;
    if (outputs == 1 && t[0].dim != t[1].dim)
        return 0;
    const int64_t axis = (int64_t)stack[inputs + 2];
    numbers[n++] = axis;
    numbers[n++] = outputs;
    numbers[n++] = length;
    if (torch.torch_string_c_str((void *)stack[inputs], &text) ||
        torch.torch_string_length((void *)stack[inputs], &size) || !sa_recall(text, (int64_t)size, numbers, n, &found))
        return 0;

    const struct tensor *like = &t[inputs - outputs];
    int64_t shape[MOST_DIM];
    char *operands[SA_MAX_OPERANDS];
    void *data;
    for (int i = 0; i < inputs; i++)
        operands[i] = t[i].data;
    for (int64_t d = 0; outputs == 1 && d < like->dim; d++)
        shape[d] = d == axis + like->dim ? length : t[0].sizes[d] == 1 ? t[1].sizes[d] : t[0].sizes[d];
    int ok = 1, made = 0;
    for (; ok && made < outputs; made++) {
        results[made] = empty(outputs == 1 ? shape : like[made].sizes, like);
        ok = results[made] && !torch.aoti_torch_get_data_ptr(results[made], &data);
        operands[inputs + made] = data;
    }
    const int bound = sa_bound_threads(torch._ZN2at15get_num_threadsEv());
    ok = ok && sa_run(&found.call, operands) == SA_OK;
    sa_bound_threads(bound);
    for (int i = 0; !ok && i < made; i++)
        if (results[i])
            torch.aoti_torch_delete_tensor_object(results[i]);
    return ok;
}

/* Puts the results where the arguments were, which end here. */
static void replace(uint64_t *stack, int inputs, int outputs, void **results)
{
    for (int i = 0; i < inputs; i++)
        torch.aoti_torch_delete_tensor_object((void *)stack[i]);
    torch.torch_delete_string((void *)stack[inputs]);
    for (int i = 0; i < outputs; i++)
        stack[i] = (uint64_t)results[i];
}

static _Thread_local void *current; /* the text of a rule */

const char *sa_torch_rule(int64_t *size)
{
    const char *text;
    size_t length;
    if (!current || torch.torch_string_c_str(current, &text) || torch.torch_string_length(current, &length))
        return 0;
    *size = (int64_t)length;
    return text;
}

/* Calls the operator whose arguments are those on the stack but for the rule's text. */
static void in_python(const char *name, uint64_t *stack, int inputs)
{
    void *const outer = current, *const text = (void *)stack[inputs];
    memmove(stack + inputs, stack + inputs + 1, 3 * sizeof *stack);
    current = text;
    const int error = torch.torch_call_dispatcher(name, "", stack, version);
    current = outer;
    torch.torch_delete_string(text);
    if (error)
        torch.aoti_torch_check(0, name, "sparseacc", 0, torch.torch_exception_get_what_without_backtrace());
}

/* (Tensor x1, Tensor x2, str rule, Tensor? terms, int axis, SymInt n_out) -> Tensor */
static void product(uint64_t *stack, uint64_t inputs, uint64_t outputs)
{
    void *result;
    (void)inputs, (void)outputs;
    if (!stack[3] && repeated(stack, 2, 1, (int64_t)stack[5], &result))
        replace(stack, 2, 1, &result);
    else
        in_python("sparseacc::product_first", stack, 2);
}

/* (Tensor dy, Tensor x1, Tensor x2, str rule, Tensor? terms, int axis, bool[2] wanted) -> (Tensor, Tensor) */
static void vjp(uint64_t *stack, uint64_t inputs, uint64_t outputs)
{
    void *results[2], *wanted = (void *)stack[6];
    uint64_t first = 0, second = 0;
    (void)inputs, (void)outputs;
    if (!stack[4] && !torch.torch_list_get_item(wanted, 0, &first) && !torch.torch_list_get_item(wanted, 1, &second) &&
        (first & 255) && (second & 255) && repeated(stack, 3, 2, 0, results)) {
        torch.torch_delete_list(wanted);
        replace(stack, 3, 2, results);
    } else
        in_python("sparseacc::vjp_first", stack, 3);
}

int sa_torch_register(const sa_torch *functions)
{
    void *library;
    torch = *functions;
    int error = torch.aoti_torch_library_init_impl("sparseacc", "CPU", "sparseacc", 0, &library);
    error = error ? error : torch.torch_library_impl(library, "product", product, version);
    error = error ? error : torch.torch_library_impl(library, "product_plain", product, version);
    error = error ? error : torch.torch_library_impl(library, "vjp", vjp, version);
    return error ? error : torch.torch_library_impl(library, "vjp_plain", vjp, version);
}
