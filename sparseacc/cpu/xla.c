/* The function that XLA calls: arrays in XLA's own memory, in and out, without a copy. */
#include "sparseacc.h"
#include "xla.h"

enum { METADATA = 1, MOST_RANK = 16 };

void *sa_xla(sa_xla_frame *frame)
{
    if (frame->extensions && frame->extensions->type == METADATA) {
        /* What is read here is in every version, so that any version will do. */
        sa_xla_version *ours = &((sa_xla_metadata_extension *)frame->extensions)->metadata->api_version;
        ours->major = frame->api->api_version.major;
        ours->minor = frame->api->api_version.minor;
        return 0;
    }
    const sa_xla_buffer *buffers[] = {frame->arguments.items[0], frame->arguments.items[1], frame->results.items[0]};
    const sa_xla_span *text = frame->attributes.values[0];
    int64_t numbers[3 * (2 + MOST_RANK)], n = 0;
    sa_recalled found;
    for (int o = 0; o < 3; o++) {
        if (buffers[o]->rank > MOST_RANK)
            return sa_xla_first(frame);
        numbers[n++] = buffers[o]->dtype;
        numbers[n++] = buffers[o]->rank;
        for (int64_t d = 0; d < buffers[o]->rank; d++)
            numbers[n++] = buffers[o]->dims[d];
    }
    if (sa_recall(text->pointer, (int64_t)text->size, numbers, n, &found) &&
        sa_run(&found.call, (char *[]){buffers[0]->data, buffers[1]->data, buffers[2]->data}) == SA_OK)
        return 0;
    return sa_xla_first(frame);
}
