# shoal_library(NAME SOURCES ... USES layers... LINK third-party...)
#   One folder, one library. USES names the layers it may call; nothing else is linked.
# shoal_warnings(TARGET): the compile flags of all our code.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_CXX_STANDARD 17) # device code, and what emulates it: tests only
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

function(shoal_warnings target)
    target_compile_options(${target} PRIVATE
        -Wall -Wextra -Wshadow -Wconversion -Wno-sign-conversion
        $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes> $<$<COMPILE_LANGUAGE:C>:-Wmissing-prototypes>
        -Wvla -Wpointer-arith -Wwrite-strings -Werror
        # rule 1: the same bits from every build. No contraction, no reassociation.
        -ffp-contract=off -fno-fast-math -fno-math-errno)
    if(SHOAL_FUZZ)
        target_compile_options(${target} PRIVATE -w) # the warnings are gcc's
    endif()
    target_compile_definitions(${target} PRIVATE _GNU_SOURCE)
    target_include_directories(${target} PRIVATE ${PROJECT_SOURCE_DIR})
    if(SHOAL_RED_ZONES)
        target_compile_definitions(${target} PRIVATE SHOAL_RED_ZONES)
    endif()
    if(SHOAL_SANITIZE)
        # -O1 -g1: what is instrumented takes gcc twice as long at -O2 with all of -g, and finds the same.
        target_compile_options(${target} PRIVATE -fsanitize=${SHOAL_SANITIZE} -fno-omit-frame-pointer
            -fno-sanitize-recover=all -O1 -g1)
        target_link_options(${target} PRIVATE -fsanitize=${SHOAL_SANITIZE})
    endif()
endfunction()

function(shoal_library name)
    cmake_parse_arguments(ARG "" "" "SOURCES;USES;LINK" ${ARGN})
    if(NOT ARG_SOURCES)
        add_library(${name} INTERFACE)
        return()
    endif()
    if(SHOAL_SHARED)
        add_library(${name} SHARED ${ARG_SOURCES})
        if(NOT SHOAL_SANITIZE)
            target_link_options(${name} PRIVATE -Wl,--no-undefined)
        endif()
    else()
        add_library(${name} STATIC ${ARG_SOURCES})
    endif()
    shoal_warnings(${name})
    target_link_libraries(${name} PRIVATE ${ARG_USES} ${ARG_LINK} m)
endfunction()
