# shoal_test, shoal_script_test: see tests/CMakeLists.txt.
pkg_check_modules(CHECK REQUIRED IMPORTED_TARGET check)

# scripts/test runs the suites of several presets as one: each takes its part and has its prefix.
set(SHOAL_TEST_LABELS "" CACHE STRING "Only tests with one of these labels are built and run; empty: all")
set(SHOAL_TEST_PREFIX "" CACHE STRING "Put before the names of tests")
# What scripts/test leaves to the other presets (ctest -LE elsewhere); by hand it is run like all others.
set(SHOAL_TEST_ELSEWHERE "" CACHE STRING "Tests with one of these labels get the label `elsewhere`, too")

# Under a sanitizer everything is slower, and its findings must not pass for a skip (exit 77).
set(SHOAL_TEST_TIMEOUT_FACTOR 1)
set(SHOAL_TEST_ENVIRONMENT
    SHOAL_SOURCE_DIR=${PROJECT_SOURCE_DIR}
    SHOAL_BUILD_DIR=${CMAKE_BINARY_DIR}
    OMPI_ALLOW_RUN_AS_ROOT=1
    OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1)
if(SHOAL_SANITIZE)
    set(SHOAL_TEST_TIMEOUT_FACTOR 4)
    list(APPEND SHOAL_TEST_ENVIRONMENT
        SHOAL_SANITIZED=1
        UBSAN_OPTIONS=print_stacktrace=1
        TSAN_OPTIONS=exitcode=99)
endif()

# Whether two lists share a word.
function(shoal_lists_meet result some others)
    set(meet FALSE)
    foreach(word ${some})
        if(word IN_LIST others)
            set(meet TRUE)
        endif()
    endforeach()
    set(${result} ${meet} PARENT_SCOPE)
endfunction()

# Whether a test with these labels is part of this build's suite.
function(shoal_test_wanted result labels)
    set(wanted TRUE)
    if(SHOAL_TEST_LABELS)
        shoal_lists_meet(wanted "${labels}" "${SHOAL_TEST_LABELS}")
    endif()
    set(${result} ${wanted} PARENT_SCOPE)
endfunction()

# What the wanted tests run: the target `suite` builds it, and nothing else (for presets with a part of the tests).
function(shoal_suite_builds)
    set_property(GLOBAL APPEND PROPERTY SHOAL_SUITE_TARGETS ${ARGN})
endfunction()

# processors: how many cores' worth of load it is, for ctest -j. cost: seconds, roughly: with them ctest
# begins what is long first.
function(shoal_test_properties name timeout labels processors cost)
    shoal_lists_meet(elsewhere "${labels}" "${SHOAL_TEST_ELSEWHERE}")
    if(elsewhere)
        list(APPEND labels elsewhere)
    endif()
    if(cost)
        math(EXPR seconds "${cost} * ${SHOAL_TEST_TIMEOUT_FACTOR}")
        set_tests_properties(${name} PROPERTIES COST ${seconds})
    endif()
    math(EXPR seconds "${timeout} * ${SHOAL_TEST_TIMEOUT_FACTOR}")
    # Open MPI keeps what it allocates until the process ends, in modules that are gone by then and so
    # cannot be named to the leak check.
    set(asan_options exitcode=99)
    if("mpi" IN_LIST labels OR "e2e" IN_LIST labels)
        string(APPEND asan_options ":detect_leaks=0")
    endif()
    set_tests_properties(${name} PROPERTIES TIMEOUT ${seconds} LABELS "${labels}" SKIP_RETURN_CODE 77
        PROCESSORS ${processors} ENVIRONMENT "${SHOAL_TEST_ENVIRONMENT};ASAN_OPTIONS=${asan_options}")
endfunction()

function(shoal_test folder file)
    cmake_parse_arguments(ARG "" "TIMEOUT;SOURCE;COST" "USES;LABELS;NP;LINK" ${ARGN})
    if(NOT ARG_SOURCE)
        set(ARG_SOURCE test_${file}.c)
    endif()
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 60)
    endif()
    if(NOT ARG_LABELS)
        set(ARG_LABELS unit)
    endif()
    set(target test_${folder}_${file})
    add_executable(${target} ${ARG_SOURCE})
    shoal_warnings(${target})
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:C>:-Wno-missing-prototypes> -Wno-format-extra-args)
    target_link_libraries(${target} PRIVATE shoal_test_support ${ARG_USES} PkgConfig::CHECK ${ARG_LINK} m)
    shoal_test_wanted(wanted "${ARG_LABELS}")
    if(NOT wanted)
        set_target_properties(${target} PROPERTIES EXCLUDE_FROM_ALL TRUE)
        return()
    endif()
    shoal_suite_builds(${target})
    if(ARG_NP)
        foreach(np ${ARG_NP})
            set(name ${SHOAL_TEST_PREFIX}${folder}.${file}.np${np})
            add_test(NAME ${name}
                COMMAND ${MPIEXEC_EXECUTABLE} --oversubscribe --bind-to none -np ${np} $<TARGET_FILE:${target}>)
            shoal_test_properties(${name} ${ARG_TIMEOUT} "${ARG_LABELS}" ${np} "${ARG_COST}")
        endforeach()
    else()
        set(name ${SHOAL_TEST_PREFIX}${folder}.${file})
        add_test(NAME ${name} COMMAND ${target})
        shoal_test_properties(${name} ${ARG_TIMEOUT} "${ARG_LABELS}" 1 "${ARG_COST}")
    endif()
endfunction()

# A test that is a script (bash or python3, standard library only), run with the built shoal binary's folder in SHOAL_BUILD_DIR.
# USES: the targets that it runs, shoal if it says nothing. A job of several ranks mostly waits: PROCESSORS is 1 if it says nothing.
function(shoal_script_test folder script)
    cmake_parse_arguments(ARG "" "TIMEOUT;PROCESSORS;COST" "LABELS;ARGS;USES" ${ARGN})
    if(NOT ARG_TIMEOUT)
        set(ARG_TIMEOUT 120)
    endif()
    if(NOT ARG_LABELS)
        set(ARG_LABELS e2e)
    endif()
    if(NOT ARG_PROCESSORS)
        set(ARG_PROCESSORS 1)
    endif()
    if(NOT ARG_USES)
        set(ARG_USES shoal)
    endif()
    get_filename_component(stem ${script} NAME_WE)
    string(REGEX REPLACE "^test_" "" stem ${stem})
    string(JOIN "." suffix ${ARG_ARGS})
    set(name ${SHOAL_TEST_PREFIX}${folder}.${stem})
    if(suffix)
        set(name ${name}.${suffix})
    endif()
    shoal_test_wanted(wanted "${ARG_LABELS}")
    if(wanted)
        add_test(NAME ${name} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/${script} ${ARG_ARGS})
        shoal_test_properties(${name} ${ARG_TIMEOUT} "${ARG_LABELS}" ${ARG_PROCESSORS} "${ARG_COST}")
        shoal_suite_builds(${ARG_USES})
    endif()
endfunction()
