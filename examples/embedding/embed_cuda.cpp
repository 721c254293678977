// The product of so many rows on a GPU, by the CUDA driver and the run-time compiler NVRTC; no Python runs here.
//
//     python generate.py generated
//     c++ -std=c++11 -Igenerated -I. -I"$CUDA_HOME/include" embed_cuda.cpp -L"$CUDA_HOME/lib64" -lnvrtc -lcuda -o embed_cuda
//     ./embed_cuda 1000
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <string>
#include <vector>
#include <cuda.h>
#include <nvrtc.h>
#include "cuda_kernels.h"

static void check(CUresult result)
{
    if (result != CUDA_SUCCESS) {
        const char *text = "?";
        cuGetErrorString(result, &text);
        std::fprintf(stderr, "CUDA: %s\n", text);
        std::exit(1);
    }
}

static void check(nvrtcResult result)
{
    if (result != NVRTC_SUCCESS) {
        std::fprintf(stderr, "NVRTC: %s\n", nvrtcGetErrorString(result));
        std::exit(1);
    }
}

// PTX for the device; the driver makes machine code of it.
static std::string compiled(CUdevice device)
{
    int major, minor;
    check(cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device));
    check(cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device));
    const std::string architecture = "--gpu-architecture=compute_" + std::to_string(10 * major + minor);
    std::vector<const char *> options(std::begin(product_options), std::end(product_options));
    options.push_back(architecture.c_str());
    nvrtcProgram program;
    check(nvrtcCreateProgram(&program, product_code, "product.cu", 0, nullptr, nullptr));
    check(nvrtcCompileProgram(program, static_cast<int>(options.size()), options.data()));
    std::size_t size;
    check(nvrtcGetPTXSize(program, &size));
    std::string ptx(size, '\0');
    check(nvrtcGetPTX(program, &ptx[0]));
    check(nvrtcDestroyProgram(&program));
    return ptx;
}

static std::vector<float> numbers(long long count, int seed)
{
    std::vector<float> found(static_cast<std::size_t>(count));
    for (long long i = 0; i < count; ++i)
        found[static_cast<std::size_t>(i)] = static_cast<float>((i * 37 + seed) % 101) / 101 - 0.5f;
    return found;
}

static CUdeviceptr on_device(const std::vector<float> &values)
{
    CUdeviceptr address;
    check(cuMemAlloc(&address, values.size() * sizeof(float)));
    check(cuMemcpyHtoD(address, values.data(), values.size() * sizeof(float)));
    return address;
}

int main(int count, char **arguments)
{
    long long rows = count > 1 ? std::atoll(arguments[1]) : 10;
    if (rows < 1)
        return 0;
    CUdevice device;
    CUcontext context;
    check(cuInit(0));
    check(cuDeviceGet(&device, 0));
    check(cuDevicePrimaryCtxRetain(&context, device));
    check(cuCtxSetCurrent(context));
    CUmodule module;
    CUfunction function;
    check(cuModuleLoadData(&module, compiled(device).c_str()));
    check(cuModuleGetFunction(&function, module, product_name));

    std::vector<float> out(static_cast<std::size_t>(rows) * 5);
    CUdeviceptr x1 = on_device(numbers(rows * 5, 1)), x2 = on_device(numbers(rows * 3, 2)), result = on_device(out);
    void *values[] = {&x1, &x2, &result, &rows}; // addresses of what Source.arguments lists: x1, x2, out, rows
    const Launch how = launch(product_geometry, rows);
    check(
        cuLaunchKernel(function, how.grid_x, how.grid_y, 1, how.block, 1, 1, how.shared_mem, nullptr, values, nullptr));
    check(cuMemcpyDtoH(out.data(), result, out.size() * sizeof(float))); // which waits for the kernel

    std::printf("out");
    for (float value : out)
        std::printf(" %.9g", value);
    std::printf("\n");
    for (CUdeviceptr address : {x1, x2, result})
        check(cuMemFree(address));
    check(cuModuleUnload(module));
    check(cuDevicePrimaryCtxRelease(device));
}
