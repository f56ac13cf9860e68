/* A program with CUDA devices: real ones (option SHOAL_CUDA), or the emulation's. */
#include "runtime/kernels/device.h"

const shoal_device_backend *const shoal_device_backends[] = {&shoal_cuda_backend, NULL};
