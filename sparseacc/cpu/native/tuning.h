/* The sizes that were tuned by measurement. What depends on the instruction set is in isa_*.h. */
#ifndef SPARSEACC_TUNING_H
#define SPARSEACC_TUNING_H

/* Rows of a tile, at most. More rows cost less for each piece of a column, but fewer columns of them fit the L1 cache. */
enum { MOST_ROWS = 256 };

/* Vectors of a column. Shorter pieces of columns cost more to copy than is saved by what else would be gained. */
enum { SHORT = 4 };

/* Eighths of the L1 cache that a tile may take whose columns are longer than that: what is left is for the memory that
 * the rows come from. Where columns are used in place, all of it is for them. */
enum { TILE_EIGHTHS = 5 };

/* Bytes of a call's memory on the stack: no allocation, which takes as long as some rows do. More would be too much for
 * threads with small stacks. */
enum { ON_STACK = 12 * 1024 };

/* Bytes of a batch. Larger ones are fetched ahead, which costs instructions where the caches hold them anyway; and of
 * those that are so large that the result would not be found in a cache later, it is not put there. */
enum { AHEAD = 2 * 1024 * 1024, PAST_CACHE = 16 * 1024 * 1024 };

/* Pieces of memory that are fetched ahead for a tile. More would take more of the stack. */
enum { SA_MOST_RANGES = 256 };

/* Columns to which vectors are written past the caches in turn. The processor puts together the lines of so many; of
 * more, parts of lines would go to memory, so that they are copied from the tile. */
enum { PUT_TOGETHER = 6 };

/* Numbers of a row that are converted at a time between 16 bits and REAL. More would take more of the stack. */
enum { WIDTH = 64 };

/* Rows between additions to sums in float64: more take less time, fewer lose fewer bits of float32. Times LANES. */
enum { ROWS_TO_FLUSH = 32 };

/* Rows of a part of a batch. Parts of so many begin at whole cache lines, which would make shorter ones uneven. */
enum { LONG_PART = 4096, PART_STEP = 64 };

/* Parts for each thread: more are shared out more evenly, and cost more tiles that are begun. Parts are never shorter
 * than so many rows for that. */
enum { PARTS_PER_THREAD = 8, ROWS_PER_PART = 4096 };

/* Work (sa_program) that is worth a thread more: it takes far longer than to wake a thread. */
enum { WORK_PER_THREAD = 4000000, MAX_THREADS = 256 };

/* After a call a thread stays awake for a moment, as the next call often follows at once: it saves waking it, and costs
 * the processor this long. */
enum { AWAKE_NS = 50000 };

/* Bytes of a helper's stack, whatever the C library would give it. Every call fits 64 KB; as much is for what the C
 * library puts there, the thread-locals of all libraries. */
enum { STACK_BYTES = 128 * 1024 };

/* Calls that are remembered: places for each of so many hashes. More are found later and take more memory. */
enum { HASH_BITS = 8, PLACES = 4 };
#endif
