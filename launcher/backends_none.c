/* A program without devices beside the CPU. */
#include "runtime/kernels/device.h"

const shoal_device_backend *const shoal_device_backends[] = {NULL};
