// The product of so many rows, and its gradients, by functions that generate.py writes; no Python runs here.
//
//     python generate.py generated
//     include=$(python -c "import sparseacc; print(sparseacc.get_include())")
//     cc -std=c99 -O3 -march=native -c generated/product.c generated/gradient.c
//     c++ -std=c++11 -Igenerated -I"$include" embed_cpu.cpp product.o gradient.o -o embed_cpu
//     ./embed_cpu 1000
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
#include "cpu_kernels.h"

static std::vector<float> numbers(std::int64_t count, int seed)
{
    std::vector<float> found(static_cast<std::size_t>(count));
    for (std::int64_t i = 0; i < count; ++i)
        found[static_cast<std::size_t>(i)] = static_cast<float>((i * 37 + seed) % 101) / 101 - 0.5f;
    return found;
}

static void print(const char *name, const std::vector<float> &values)
{
    std::printf("%s", name);
    for (float value : values)
        std::printf(" %.9g", value);
    std::printf("\n");
}

int main(int count, char **arguments)
{
    const std::int64_t rows = count > 1 ? std::atoll(arguments[1]) : 10;
    const std::vector<float> x1 = numbers(rows * 5, 1), x2 = numbers(rows * 3, 2), dy = numbers(rows * 5, 3);
    std::vector<float> out(x1.size()), g_x1(x1.size()), g_x2(x2.size());

    product(x1.data(), x2.data(), out.data(), rows);
    gradient(dy.data(), x1.data(), x2.data(), g_x1.data(), g_x2.data(), rows);

    print("out", out);
    print("g_x1", g_x1);
    print("g_x2", g_x2);
}
