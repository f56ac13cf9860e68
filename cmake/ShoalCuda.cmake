# CUDA devices (option SHOAL_CUDA). For RTX 30, RTX 40, H100 and RTX 50, and what the driver of a newer
# device makes of the first. The runtime is linked statically and looks for the driver when it is called: the
# program starts on machines without one.
set(SHOAL_CUDA_ARCHITECTURES "86-real;89-real;90-real;120-real;86-virtual" CACHE STRING
    "Devices that are compiled for; native: those of this machine")
set(CMAKE_CUDA_ARCHITECTURES ${SHOAL_CUDA_ARCHITECTURES})
set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
set(CMAKE_CUDA_STANDARD 17)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
